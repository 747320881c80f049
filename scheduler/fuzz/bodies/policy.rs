//! No text panics, neither as a policy of scenarios nor as one of the ledger, and one that is taken is one.
//!
//! Of scenarios: the classes can be found, promise no more than the box, and pass the checks that a policy out of
//! a program has to pass. Of the ledger: the same text gives the same policy and the same hash, by which
//! it is named.

use caldera_scheduler::scenario::file::parse;
use caldera_scheduler::{Policy, ledger};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match parse(text) {
        Ok(policy) => {
            let classes = policy.classes();
            assert!(!classes.is_empty());
            for class in classes {
                assert!(policy.find(&class.name).is_some(), "{}", class.name);
                assert!((1..=1000).contains(&class.value), "{}", class.value);
            }
            let promised = classes
                .iter()
                .map(|it| u64::from(it.guarantee.millionths()));
            assert!(promised.sum::<u64>() <= 1_000_000);
            let again = Policy::new(classes.to_vec(), *policy.limits());
            assert_eq!(again.expect("it was taken before"), policy);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match ledger::Policy::parse(text) {
        Ok(policy) => {
            let again = ledger::Policy::parse(text).expect("it was taken before");
            assert_eq!(again, policy);
            assert_eq!(again.hash(), policy.hash());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
