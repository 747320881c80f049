//! The circuit is satisfied by what is true and by nothing else.

mod units_support;

use caldera_prover::units::{constraints_by_part, witness};
use units_support::{World, broken};

#[test]
fn an_honest_presentation_satisfies_the_circuit() {
    println!("{:?}", constraints_by_part());
    let total: u32 = constraints_by_part().iter().map(|part| part.1).sum();
    println!("{total}");
    let opening = World::new().opening();
    assert_eq!(broken(&witness(&opening)), None);
}
