//! The registry of state units against its whole history: a model that keeps nothing but the list of
//! what was accepted, and looks through all of it for each answer. Small alphabets, so that replays,
//! races of roots and swapped parties come up by themselves.

use caldera_scheduler::registry::{
    Change, Command, Damage, EXPIRY_MAX, Grant, Inputs, Link, Misfit, Refusal, Registry, Seconds,
    Tree, Word,
};
use proptest::collection::vec;
use proptest::prelude::*;

const WINDOW: u64 = 4;
const DOMAIN: Word = Word([7; 32]);

fn word(n: u8) -> Word {
    Word::right(&[n])
}

fn seed(n: u8) -> Link {
    Link([n; 20])
}

/// The grant that most tests begin with.
fn grant() -> Grant {
    Grant {
        verifier: word(1),
        sender: word(2),
        request: word(3),
        tip: seed(9).after(3),
        uses: 3,
        expiry: Seconds(100),
        challenge: word(0),
    }
}

fn inputs(grant: &Grant, nullifier: u8) -> Inputs {
    Inputs {
        issuers_root: word(10),
        revocation_root: word(20),
        request: grant.request,
        nullifier: word(nullifier),
        grant: name(grant, nullifier),
    }
}

/// A presentation's name.
fn name(grant: &Grant, nullifier: u8) -> Word {
    grant.digest(&DOMAIN, &word(nullifier))
}

fn publish(tree: Tree, root: u8) -> Command {
    Command::Publish {
        tree,
        root: word(root),
    }
}

fn open(closes: u64) -> Command {
    Command::Open {
        verifier: word(1),
        request: word(3),
        closes: Seconds(closes),
        valid_through: EXPIRY_MAX,
    }
}

fn present(grant: &Grant, nullifier: u8) -> Command {
    Command::Present {
        sender: word(2),
        grant: *grant,
        inputs: inputs(grant, nullifier),
    }
}

/// Of the presentation with nullifier 30.
fn reuse(grant: &Grant, link: Link) -> Command {
    Command::Reuse {
        sender: grant.sender,
        grant: name(grant, 30),
        link,
    }
}

fn carry_out(registry: &mut Registry, command: Command, now: u64) -> Result<Change, Refusal> {
    let change = registry.decide(&command, Seconds(now))?;
    registry.apply(&change).expect("its own change fits");
    Ok(change)
}

/// With roots 10 and 20 published at 0, and the request open until 100.
fn standing() -> Registry {
    let mut registry = Registry::new(DOMAIN, WINDOW);
    for command in [
        publish(Tree::Issuers, 10),
        publish(Tree::Revocation, 20),
        open(100),
    ] {
        carry_out(&mut registry, command, 0).expect("a registry to begin with");
    }
    registry
}

#[test]
fn a_grant_is_used_as_often_as_it_says_and_by_each_link_once() {
    let mut registry = standing();
    let grant = grant();
    carry_out(&mut registry, present(&grant, 30), 1).expect("presented");
    for left in (0..3).rev() {
        let link = seed(9).after(left);
        carry_out(&mut registry, reuse(&grant, link), 2).expect("a use");
        let again = carry_out(&mut registry, reuse(&grant, link), 2);
        match left {
            0 => assert_eq!(again, Err(Refusal::UsedUp)),
            _ => assert!(matches!(again, Err(Refusal::Link { .. })), "{again:?}"),
        }
    }
}

#[test]
fn a_link_further_back_does_not_skip_uses() {
    let mut registry = standing();
    let grant = grant();
    carry_out(&mut registry, present(&grant, 30), 1).expect("presented");
    let refused = carry_out(&mut registry, reuse(&grant, seed(9)), 2);
    assert_eq!(
        refused,
        Err(Refusal::Link {
            expected: grant.tip,
            got: seed(9).after(1)
        })
    );
}

#[test]
fn the_window_counts_from_the_replacement() {
    // The root has stood for 50 when it is replaced, longer than the window.
    let mut registry = standing();
    carry_out(&mut registry, publish(Tree::Revocation, 21), 50).expect("replaced");
    let grant = grant();
    let refused = Refusal::RootStale {
        tree: Tree::Revocation,
        replaced: Seconds(50),
        until: Seconds(54),
        now: Seconds(54),
    };
    let late = registry.decide(&present(&grant, 30), Seconds(54));
    assert_eq!(late, Err(refused));
    carry_out(&mut registry, present(&grant, 30), 53).expect("in its window");
    let late = registry.decide(&reuse(&grant, seed(9).after(2)), Seconds(54));
    assert_eq!(late, Err(refused), "a use asks again");

    // Published again it has a second life, of which the first says nothing.
    carry_out(&mut registry, publish(Tree::Revocation, 20), 60).expect("as it was");
    let mut other = grant;
    other.challenge = word(1);
    carry_out(&mut registry, present(&other, 31), 60).expect("the newest root");
}

#[test]
fn a_nullifier_is_spent_once_and_a_grant_presented_once() {
    let mut registry = standing();
    let grant = grant();
    carry_out(&mut registry, present(&grant, 30), 1).expect("presented");
    let presented = Err(Refusal::Presented {
        grant: name(&grant, 30),
    });
    assert_eq!(registry.decide(&present(&grant, 30), Seconds(1)), presented);
    // Under another nullifier it would begin its chain anew: a grant is of one.
    let mut inputs = inputs(&grant, 30);
    inputs.nullifier = word(31);
    let anew = Command::Present {
        sender: grant.sender,
        grant,
        inputs,
    };
    assert_eq!(
        registry.decide(&anew, Seconds(1)),
        Err(Refusal::Grant {
            expected: name(&grant, 31),
            got: name(&grant, 30)
        })
    );
    let mut other = grant;
    other.challenge = word(1);
    let spent = Err(Refusal::Spent {
        nullifier: word(30),
    });
    assert_eq!(registry.decide(&present(&other, 30), Seconds(1)), spent);
    // Its presentation is forgotten, its nullifier is not.
    assert_eq!(registry.sweep(Seconds(99), 9), 0, "good until then");
    let late = registry.decide(&reuse(&grant, seed(9).after(2)), Seconds(100));
    let over = Refusal::Expired {
        expiry: Seconds(100),
        now: Seconds(100),
    };
    assert_eq!(late, Err(over));
    assert_eq!(registry.sweep(Seconds(100), 9), 1);
    let late = registry.decide(&reuse(&grant, seed(9).after(2)), Seconds(100));
    let unknown = Refusal::PresentationUnknown {
        grant: name(&grant, 30),
    };
    assert_eq!(late, Err(unknown), "nor by a clock that has gone back");
    let late = registry.decide(&reuse(&grant, seed(9).after(2)), Seconds(2));
    assert_eq!(late, Err(unknown));
    assert_eq!(
        registry.decide(&present(&grant, 30), Seconds(100)),
        Err(over)
    );
    assert_eq!(registry.decide(&present(&grant, 30), Seconds(2)), spent);
    carry_out(&mut registry, open(300), 200).expect("again");
    other.expiry = Seconds(250);
    assert_eq!(registry.decide(&present(&other, 30), Seconds(201)), spent);
}

#[test]
fn a_request_that_is_closed_or_over_ends_what_answers_it() {
    let mut registry = standing();
    let grant = grant();
    carry_out(&mut registry, present(&grant, 30), 1).expect("presented");
    let used = reuse(&grant, seed(9).after(2));
    carry_out(&mut registry, open(10), 2).expect("open for shorter");
    assert_eq!(
        registry.decide(&used, Seconds(10)),
        Err(Refusal::RequestOver {
            closes: Seconds(10),
            now: Seconds(10)
        })
    );
    let close = Command::Close {
        verifier: word(1),
        request: word(3),
    };
    carry_out(&mut registry, close, 3).expect("closed");
    let unknown = Err(Refusal::RequestUnknown { request: word(3) });
    assert_eq!(registry.decide(&used, Seconds(4)), unknown);
    assert_eq!(registry.decide(&close, Seconds(4)), unknown);
}

#[test]
fn a_proof_for_another_request_is_no_answer() {
    let registry = standing();
    let grant = grant();
    let mut inputs = inputs(&grant, 30);
    inputs.request = word(4);
    let sender = grant.sender;
    let command = Command::Present {
        sender,
        grant,
        inputs,
    };
    assert_eq!(
        registry.decide(&command, Seconds(1)),
        Err(Refusal::Request {
            expected: word(3),
            got: word(4)
        })
    );
}

#[test]
fn the_same_root_again_ends_what_was_proved_before_it() {
    let mut registry = standing();
    let grant = grant();
    carry_out(&mut registry, present(&grant, 30), 1).expect("presented");
    carry_out(&mut registry, publish(Tree::Revocation, 20), 5).expect("again");
    let used = reuse(&grant, seed(9).after(2));
    assert!(registry.decide(&used, Seconds(8)).is_ok());
    let late = registry.decide(&used, Seconds(9));
    assert!(matches!(late, Err(Refusal::RootStale { .. })), "{late:?}");
}

/// What was proved against a root of which the next one came at 50, when the clock was ahead: it says 40 now.
#[test]
fn a_clock_that_was_ahead_keeps_no_root_alive() {
    let mut registry = standing();
    carry_out(&mut registry, publish(Tree::Revocation, 21), 50).expect("replaced");
    let early = registry.decide(&present(&grant(), 30), Seconds(40));
    let refused = Refusal::RootStale {
        tree: Tree::Revocation,
        replaced: Seconds(50),
        until: Seconds(54),
        now: Seconds(40),
    };
    assert_eq!(early, Err(refused));
}

#[test]
fn a_root_that_nobody_published_is_none() {
    let registry = standing();
    let grant = grant();
    let brought = |change: fn(&mut Inputs)| {
        let mut inputs = inputs(&grant, 30);
        change(&mut inputs);
        let sender = grant.sender;
        let command = Command::Present {
            sender,
            grant,
            inputs,
        };
        registry.decide(&command, Seconds(1))
    };
    let unknown = |tree, got| Err(Refusal::RootUnknown { tree, got });
    assert_eq!(
        brought(|inputs| inputs.issuers_root = word(11)),
        unknown(Tree::Issuers, word(11))
    );
    assert_eq!(
        brought(|inputs| inputs.revocation_root = word(21)),
        unknown(Tree::Revocation, word(21))
    );
}

#[test]
fn the_sender_of_the_grant_alone_brings_it_and_its_uses() {
    let mut registry = standing();
    let grant = grant();
    let another = word(99);
    let presented = Command::Present {
        sender: another,
        grant,
        inputs: inputs(&grant, 30),
    };
    let refused = registry.decide(&presented, Seconds(1));
    assert_eq!(refused, Err(Refusal::Sender), "a presentation");
    carry_out(&mut registry, present(&grant, 30), 1).expect("presented");
    let used = Command::Reuse {
        sender: another,
        grant: name(&grant, 30),
        link: seed(9).after(2),
    };
    let refused = registry.decide(&used, Seconds(1));
    assert_eq!(refused, Err(Refusal::Sender), "a use");
}

#[test]
fn a_grant_ends_when_it_says_and_no_later_than_its_request() {
    let mut registry = standing();
    let mut grant = grant();
    grant.expiry = Seconds(101);
    let outlives = Refusal::Outlives {
        expected: Seconds(100),
        got: Seconds(101),
    };
    let refused = registry.decide(&present(&grant, 30), Seconds(1));
    assert_eq!(refused, Err(outlives));
    grant.expiry = Seconds(60);
    let over = Err(Refusal::Expired {
        expiry: Seconds(60),
        now: Seconds(60),
    });
    let refused = registry.decide(&present(&grant, 30), Seconds(60));
    assert_eq!(refused, over, "a presentation");
    carry_out(&mut registry, present(&grant, 30), 59).expect("presented");
    let used = reuse(&grant, seed(9).after(2));
    assert_eq!(registry.decide(&used, Seconds(60)), over, "a use");
    carry_out(&mut registry, used, 59).expect("used");
}

#[test]
fn a_grant_of_no_uses_is_one_presentation() {
    let mut registry = standing();
    let mut grant = grant();
    grant.uses = 0;
    grant.tip = seed(9);
    carry_out(&mut registry, present(&grant, 30), 1).expect("presented");
    let more = registry.decide(&reuse(&grant, seed(9)), Seconds(1));
    assert_eq!(more, Err(Refusal::UsedUp));
}

#[test]
fn whatever_the_grant_says_is_bound() {
    let registry = standing();
    let honest = grant();
    let inputs = inputs(&honest, 30);
    let changes: [fn(&mut Grant); 7] = [
        |grant| grant.verifier = word(40),
        |grant| grant.sender = word(40),
        |grant| grant.request = word(40),
        |grant| grant.tip = grant.tip.next(),
        |grant| grant.uses += 1,
        |grant| grant.expiry.0 += 1,
        |grant| grant.challenge = word(40),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut grant = honest;
        change(&mut grant);
        let sender = grant.sender;
        let refused = registry.decide(
            &Command::Present {
                sender,
                grant,
                inputs,
            },
            Seconds(1),
        );
        assert!(
            matches!(refused, Err(Refusal::Grant { .. })),
            "change {i}: {refused:?}"
        );
    }
    let elsewhere = Registry::new(word(8), WINDOW);
    let refused = elsewhere.decide(&present(&honest, 30), Seconds(1));
    assert!(
        matches!(refused, Err(Refusal::Grant { .. })),
        "another registry: {refused:?}"
    );
}

/// A digest worked out with another implementation of Keccak-256 (`ethers` 5.8, `utils.keccak256`
/// over the nine words of `grant()` for nullifier 30; the chain by its `keccak256` of 20 bytes).
#[test]
fn digests_are_those_of_ethereum() {
    assert_eq!(
        format!("{}", seed(9).after(3)),
        "0x9a37e54f565de563bbf3c4da7c1c0251b6994543"
    );
    assert_eq!(
        format!("{}", name(&grant(), 30)),
        "0x001783c6c84f0fd1db32fe215b4647979dd75a28cd266cee3ec78be7d7087a3b"
    );
}

#[test]
fn a_change_that_does_not_follow_changes_nothing() {
    let mut registry = standing();
    let grant = grant();
    let recorded = carry_out(&mut registry, present(&grant, 30), 1).expect("presented");
    let link = seed(9).after(2);
    let used = carry_out(&mut registry, reuse(&grant, link), 1).expect("used");
    let before = registry.clone();
    let digest = name(&grant, 30);
    assert_eq!(
        registry.apply(&recorded),
        Err(Misfit::Presentation { grant: digest })
    );
    assert_eq!(registry.apply(&used), Err(Misfit::Use { grant: digest }));
    let gap = Change::Published {
        tree: Tree::Issuers,
        index: 2,
        root: word(11),
        at: Seconds(1),
    };
    assert_eq!(
        registry.apply(&gap),
        Err(Misfit::Root {
            tree: Tree::Issuers,
            expected: 1,
            got: 2
        })
    );
    let closed = Change::Closed {
        verifier: word(2),
        request: word(3),
    };
    assert_eq!(
        registry.apply(&closed),
        Err(Misfit::Request { request: word(3) })
    );
    assert_eq!(registry, before);
}

#[test]
fn ends_that_the_contract_could_not_keep_are_refused() {
    let registry = standing();
    let last = registry.decide(&open(EXPIRY_MAX.0), Seconds(5));
    assert!(last.is_ok(), "{last:?}");
    for closes in [5, EXPIRY_MAX.0 + 1, u64::MAX] {
        assert_eq!(
            registry.decide(&open(closes), Seconds(5)),
            Err(Refusal::Closes {
                now: Seconds(5),
                until: EXPIRY_MAX,
                got: Seconds(closes)
            })
        );
    }
}

/// A use asks nothing of the unit any more, and a grant may name any expiry: were a request open for longer than its units
/// are valid, a state that is over would go on counting.
#[test]
fn nothing_is_used_beyond_the_validity_of_its_unit() {
    let mut registry = Registry::new(DOMAIN, WINDOW);
    for command in [publish(Tree::Issuers, 10), publish(Tree::Revocation, 20)] {
        carry_out(&mut registry, command, 0).expect("a registry to begin with");
    }
    let opening = |closes: u64| Command::Open {
        verifier: word(1),
        request: word(3),
        closes: Seconds(closes),
        valid_through: Seconds(90),
    };
    for closes in [91, 100, EXPIRY_MAX.0] {
        let refused = Refusal::Closes {
            now: Seconds(0),
            until: Seconds(90),
            got: Seconds(closes),
        };
        assert_eq!(registry.decide(&opening(closes), Seconds(0)), Err(refused));
    }
    carry_out(&mut registry, opening(90), 0).expect("as long as its units");
    // Nor does a grant outlive it,
    let mut grant = grant();
    let outlives = Refusal::Outlives {
        expected: Seconds(90),
        got: Seconds(100),
    };
    assert_eq!(
        registry.decide(&present(&grant, 30), Seconds(1)),
        Err(outlives)
    );
    grant.expiry = Seconds(90);
    carry_out(&mut registry, present(&grant, 30), 1).expect("presented");
    let used = reuse(&grant, seed(9).after(2));
    assert!(registry.decide(&used, Seconds(89)).is_ok());
    assert!(registry.decide(&used, Seconds(90)).is_err());
    // and a verifier who would have it open for longer is asked again.
    assert!(registry.decide(&opening(91), Seconds(89)).is_err());
}

#[test]
fn a_sweep_takes_the_oldest_first_and_no_more_than_it_may() {
    let mut registry = standing();
    for (nullifier, expiry) in [(30, 50), (31, 20), (32, 40), (33, 20)] {
        let mut grant = grant();
        grant.expiry = Seconds(expiry);
        carry_out(&mut registry, present(&grant, nullifier), 1).expect("presented");
    }
    assert_eq!(registry.sweep(Seconds(19), 9), 0);
    assert_eq!(
        (registry.sweep(Seconds(40), 1), registry.presentations()),
        (1, 3)
    );
    assert_eq!(
        (registry.sweep(Seconds(40), 9), registry.presentations()),
        (2, 1)
    );
    assert_eq!(
        (registry.sweep(Seconds(50), 9), registry.presentations()),
        (1, 0)
    );
}

/// All that was accepted, and when.
#[derive(Default)]
struct History(Vec<(u64, Command)>);

impl History {
    /// Whether a command is to be accepted now, by looking through everything.
    fn accepts(&self, command: &Command, now: u64) -> bool {
        match command {
            Command::Publish { .. } => true,
            Command::Open {
                request, closes, ..
            } => closes.0 > now && *closes <= valid_through(*request),
            Command::Close { verifier, request } => self.closes(*verifier, *request).is_some(),
            Command::Present {
                sender,
                grant,
                inputs,
            } => {
                let open = self.closes(grant.verifier, grant.request);
                inputs.grant == grant.digest(&DOMAIN, &inputs.nullifier)
                    && inputs.request == grant.request
                    && grant.sender == *sender
                    && grant.expiry.0 > now
                    && open.is_some_and(|until| until > now && grant.expiry.0 <= until)
                    && self.is_fresh(Tree::Issuers, inputs.issuers_root, now, now)
                    && self.is_fresh(Tree::Revocation, inputs.revocation_root, now, now)
                    && self
                        .presented()
                        .all(|(.., before)| before.nullifier != inputs.nullifier)
            }
            Command::Reuse {
                sender,
                grant,
                link,
            } => {
                let found = self
                    .presented()
                    .find(|(_, _, inputs)| inputs.grant == *grant);
                let Some((at, kept, inputs)) = found else {
                    return false;
                };
                let used = |(_, old): &&(u64, Command)| matches!(old, Command::Reuse { grant: other, .. } if other == grant);
                let uses = self.0.iter().filter(used).count();
                // The link that leads to the tip in one step more than uses were made.
                let mut end = *link;
                for _ in 0..=uses {
                    end = end.next();
                }
                let open = self.closes(kept.verifier, kept.request);
                kept.sender == *sender
                    && now < valid_through(kept.request).0
                    && kept.expiry.0 > now
                    && uses < usize::from(kept.uses)
                    && end == kept.tip
                    && open.is_some_and(|until| until > now)
                    && self.is_fresh(Tree::Revocation, inputs.revocation_root, at, now)
            }
        }
    }

    fn published(&self, of: Tree) -> Vec<(u64, Word)> {
        let mut all = Vec::new();
        for (at, command) in &self.0 {
            if let Command::Publish { tree, root } = command
                && *tree == of
            {
                all.push((*at, *root));
            }
        }
        all
    }

    /// Whether the life that a root had at `then` is in its window at `now`.
    fn is_fresh(&self, tree: Tree, root: Word, then: u64, now: u64) -> bool {
        let all = self.published(tree);
        // Roots that were published in the second of a presentation and after it have not yet been
        // there: the history's order says which, and the commands here never fall into that.
        let life = (0..all.len()).rfind(|&i| all[i].1 == root && all[i].0 <= then);
        life.is_some_and(|i| {
            all.get(i + 1)
                .is_none_or(|&(replaced, _)| now < replaced + WINDOW)
        })
    }

    fn closes(&self, of: Word, which: Word) -> Option<u64> {
        let mut state = None;
        for (_, command) in &self.0 {
            match command {
                Command::Open {
                    verifier,
                    request,
                    closes,
                    ..
                } if (*verifier, *request) == (of, which) => state = Some(closes.0),
                Command::Close { verifier, request } if (*verifier, *request) == (of, which) => {
                    state = None;
                }
                _ => {}
            }
        }
        state
    }

    fn presented(&self) -> impl Iterator<Item = (u64, &Grant, &Inputs)> {
        self.0.iter().filter_map(|(at, command)| match command {
            Command::Present { grant, inputs, .. } => Some((*at, grant, inputs)),
            _ => None,
        })
    }
}

/// A request has it among what is hashed in it, so it is one by the request.
fn valid_through(request: Word) -> Seconds {
    Seconds(10 * u64::from(request.0[31] - 2))
}

/// A grant of a small alphabet, most often one that could be accepted.
fn grants() -> impl Strategy<Value = Grant> {
    (1u8..3, 3u8..5, 5u8..7, 0u8..2, 0u16..4, 4u64..40).prop_map(
        |(verifier, sender, request, start, uses, expiry)| Grant {
            verifier: word(verifier),
            sender: word(sender),
            request: word(request),
            tip: seed(start).after(uses),
            uses,
            expiry: Seconds(expiry),
            challenge: word(0),
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Publish(Tree, u8),
    Open(u8, u8, u64),
    Close(u8, u8),
    /// A grant, its roots, its nullifier, and whether its request and sender are as they should be.
    Present(Grant, u8, u8, u8, bool, bool),
    /// Of the so manieth presentation that was accepted: so many steps behind the right link, by
    /// whom.
    Reuse(usize, u8, bool),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let tree = prop_oneof![Just(Tree::Issuers), Just(Tree::Revocation)];
    let step = prop_oneof![
        2 => (tree, 10u8..13).prop_map(|(tree, root)| Step::Publish(tree, root)),
        3 => (1u8..3, 5u8..7, 0u64..60).prop_map(|(v, r, closes)| Step::Open(v, r, closes)),
        1 => (1u8..3, 5u8..7).prop_map(|(v, r)| Step::Close(v, r)),
        6 => (grants(), prop_oneof![3 => Just(10u8), 1 => 10u8..13], prop_oneof![3 => Just(10u8), 1 => 10u8..13], 30u8..36, prop::bool::weighted(0.95), prop::bool::weighted(0.95))
            .prop_map(|(grant, i, r, n, request, sender)| Step::Present(grant, i, r, n, request, sender)),
        8 => (0usize..4, prop_oneof![6 => Just(0u8), 1 => Just(1), 1 => Just(2)], prop::bool::weighted(0.9))
            .prop_map(|(which, off, sender)| Step::Reuse(which, off, sender)),
    ];
    vec(
        (
            prop_oneof![3 => Just(0u64), 2 => Just(1), 1 => 2u64..7],
            step,
        ),
        1..60,
    )
}

/// The command of a step: a reuse needs to know what was accepted before.
fn command(step: Step, history: &History) -> Command {
    match step {
        Step::Publish(tree, root) => publish(tree, root),
        Step::Open(verifier, request, closes) => Command::Open {
            verifier: word(verifier),
            request: word(request),
            closes: Seconds(closes),
            valid_through: valid_through(word(request)),
        },
        Step::Close(verifier, request) => Command::Close {
            verifier: word(verifier),
            request: word(request),
        },
        Step::Present(grant, issuers, revocation, nullifier, request, sender) => Command::Present {
            sender: if sender { grant.sender } else { word(99) },
            grant,
            inputs: Inputs {
                issuers_root: word(issuers),
                revocation_root: word(revocation),
                request: if request { grant.request } else { word(98) },
                nullifier: word(nullifier),
                grant: name(&grant, nullifier),
            },
        },
        Step::Reuse(which, off, sender) => {
            let all: Vec<_> = history.presented().collect();
            let Some((_, grant, inputs)) = all.get(which % all.len().max(1)) else {
                return reuse(&grant(), seed(9));
            };
            let name = inputs.grant;
            let used = |(_, old): &&(u64, Command)| matches!(old, Command::Reuse { grant, .. } if *grant == name);
            let uses = history.0.iter().filter(used).count() as u16;
            let begin = [seed(0), seed(1)]
                .into_iter()
                .find(|begin| begin.after(grant.uses) == grant.tip)
                .expect("the chains begin with one of these");
            let steps = (grant.uses + u16::from(off)).saturating_sub(uses + 1);
            Command::Reuse {
                sender: if sender { grant.sender } else { word(99) },
                grant: name,
                link: begin.after(steps),
            }
        }
    }
}

proptest! {
    #[test]
    fn bytes_that_are_a_change_are_its_only_spelling(bytes in vec(any::<u8>(), 0..250), kind in 0u8..8) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        // Most have a wrong length: cut to the right one, if there is one.
        if let Err(Damage::Length { expected, .. }) = Change::from_bytes(&bytes) {
            bytes.resize(expected, 1);
        }
        match Change::from_bytes(&bytes) {
            Ok(change) => prop_assert_eq!(change.to_bytes(), bytes),
            Err(Damage::Kind { got }) => prop_assert_eq!(got, bytes.first().copied()),
            Err(Damage::Tree { got }) => prop_assert!(got > 1 && bytes[0] == 1),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn all_answers_are_those_of_the_whole_history(steps in steps()) {
        let mut registry = Registry::new(DOMAIN, WINDOW);
        let mut history = History::default();
        let mut changes = Vec::new();
        let mut now = 1;
        for (pause, step) in steps {
            now += pause;
            // A second has one root of a tree here, so that the second of a presentation says which.
            if matches!(step, Step::Publish(..)) {
                now += 1;
            }
            let command = command(step, &history);
            let wanted = history.accepts(&command, now);
            let got = carry_out(&mut registry, command, now);
            prop_assert_eq!(got.is_ok(), wanted, "{:?} at {}: {:?}", command, now, got);
            if let Ok(change) = got {
                changes.push(change);
                history.0.push((now, command));
                if matches!(command, Command::Publish { .. }) {
                    now += 1;
                }
            }
            for (_, grant, inputs) in history.presented() {
                let kept = registry.presentation(&inputs.grant).expect("kept");
                prop_assert!(kept.remaining <= grant.uses);
                prop_assert!(registry.is_spent(&inputs.nullifier));
            }
        }

        // All changes in their order are the registry, and each has one spelling.
        let mut again = Registry::new(DOMAIN, WINDOW);
        for change in &changes {
            let bytes = change.to_bytes();
            let kept = Change::from_bytes(&bytes);
            prop_assert_eq!(kept, Ok(*change));
            for wrong in [&bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat()] {
                let refused = Change::from_bytes(wrong);
                prop_assert!(refused.is_err(), "{:?}", refused);
            }
            again.apply(change).expect("in their order they fit");
        }
        prop_assert_eq!(&again, &registry);

        // Who has expired is forgotten, its nullifier is not.
        let names: Vec<_> = history.presented().map(|(_, grant, inputs)| (grant.expiry, *inputs)).collect();
        registry.sweep(Seconds(now), usize::MAX);
        for (expiry, inputs) in names {
            prop_assert_eq!(registry.presentation(&inputs.grant).is_some(), expiry.0 > now);
            prop_assert!(registry.is_spent(&inputs.nullifier));
        }
    }
}
