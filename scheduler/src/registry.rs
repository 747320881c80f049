//! The registry of trusted state units: what has been presented to whom, and how often it may still
//! be used.
//!
//! A presentation is verified once, by who can verify proofs; what is kept here is digests, counters
//! and nullifiers, never proofs or states. Afterwards its verifier's sender uses it again by
//! revealing the next link of a hash chain whose end the proof binds: that counts the use, and is the
//! holder's consent to it, for only the holder has the links (one-time passwords of S/KEY, Lamport
//! 1981, RFC 1760). The rules are those of `docs/state-units.md`, and of the contract
//! `StateRegistry`, which keeps the same words on a chain.
//!
//! ```text
//! authority: root of issuers, root of revocation     verifier: opens a request
//! sender:    present (proof verified, five public inputs, the grant that the fifth is the digest of)
//!            reuse (a link) ... until the grant's uses are gone, it expires, or a root is too old
//! ```
//!
//! **Roots** are accepted while they are the newest of their tree, and for a window after another took
//! their place. The window counts from the replacement: counted from the making, a root that stood
//! for long would have no grace at all, and one that is published again would be judged by its first
//! life (semaphore issues 1093 and 1094). A use asks again whether the revocation root of its
//! presentation is in its window, so whoever has been revoked can go on for one window at most. The same
//! root again is a new one: what was proved against the old one has a window from then on.
//!
//! **Ends** are the first second that is too late: of a grant, a request and a window. A request closes when the units
//! that answer it may be over, at the latest; a grant lasts no longer than its request. So nothing is used beyond what was proved.
//!
//! **Nullifiers** are kept for ever: a scope that is opened again is still the same scope. Presentations that have
//! expired may be forgotten ([`Registry::sweep`]).
//!
//! **Pure.** [`Registry::decide`] says what a command would change, or why nothing, and
//! [`Registry::apply`] changes it. Whoever keeps the registry writes the [`Change`] down between the
//! two, or after them and before the answer leaves ([`Change::to_bytes`]); all changes in their order
//! make the same registry again. Numbers of seconds are Unix time, told by the caller. Both cost a few lookups and
//! one Keccak-256.
//!
//! **What the caller owes**: that the proof holds for exactly these public inputs, each below the
//! field's modulus (or one nullifier has several spellings); that the sender is who it claims to be;
//! and that roots come from the authority.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sha3::{Digest, Keccak256};
use thiserror::Error;

/// 32 bytes, a number with the most significant first: a field element, a digest, or a party.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word(pub [u8; 32]);

/// A link of a grant's hash chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link(pub [u8; 20]);

/// A point of Unix time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seconds(pub u64);

/// The latest expiry, 40 bits: as many as the contract has for it.
pub const EXPIRY_MAX: Seconds = Seconds((1 << 40) - 1);

/// Whose root it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tree {
    /// Keys of issuers that are accepted.
    Issuers,
    /// Units that are revoked.
    Revocation,
}

/// What a holder lets a sender do with one presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// To whom the state is presented.
    pub verifier: Word,
    /// Who may bring the presentation and its uses.
    pub sender: Word,
    /// The request that it answers.
    pub request: Word,
    /// The end of the chain: the presentation's link is the one before it.
    pub tip: Link,
    /// How many uses after the presentation, each a link.
    pub uses: u16,
    /// From when on it is not good any more.
    pub expiry: Seconds,
    /// What the verifier wants to see in it; zero if nothing.
    pub challenge: Word,
}

/// The public inputs of a presentation, in the order of the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// Root of the tree of issuers.
    pub issuers_root: Word,
    /// Root of the tree of revocations.
    pub revocation_root: Word,
    /// Digest of all that the verifier asks.
    pub request: Word,
    /// Spent by this presentation.
    pub nullifier: Word,
    /// [`Grant::digest`].
    pub grant: Word,
}

/// Something that is asked of the registry.
#[allow(
    clippy::large_enum_variant,
    reason = "a command lives as long as the call that it is given to"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The authority publishes a root.
    Publish {
        /// Of which tree.
        tree: Tree,
        /// The root.
        root: Word,
    },
    /// A verifier opens a request: presentations that answer it are taken from now on.
    Open {
        /// Who.
        verifier: Word,
        /// The request.
        request: Word,
        /// No grant for it may last longer.
        closes: Seconds,
        /// The second at which the request has a unit be valid: it is open no longer.
        valid_through: Seconds,
    },
    /// A verifier takes a request back: no presentation and no use of one from now on.
    Close {
        /// Who.
        verifier: Word,
        /// The request.
        request: Word,
    },
    /// A sender brings a presentation whose proof has been verified.
    Present {
        /// Who.
        sender: Word,
        /// What the proof binds as its fifth input, opened.
        grant: Grant,
        /// The public inputs.
        inputs: Inputs,
    },
    /// A sender uses a presentation again.
    Reuse {
        /// Who.
        sender: Word,
        /// The presentation: its grant's digest.
        grant: Word,
        /// The link before the one that is kept.
        link: Link,
    },
}

/// What a command changes. All of them in their order are the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A root takes the place of the newest one of its tree.
    Published {
        /// Of which tree.
        tree: Tree,
        /// How many came before it.
        index: u32,
        /// The root.
        root: Word,
        /// When.
        at: Seconds,
    },
    /// A request is open, or open for longer or shorter than before.
    Opened {
        /// Whose.
        verifier: Word,
        /// The request.
        request: Word,
        /// Until when.
        closes: Seconds,
    },
    /// A request is closed.
    Closed {
        /// Whose.
        verifier: Word,
        /// The request.
        request: Word,
    },
    /// A presentation is recorded, and its nullifier spent.
    Recorded {
        /// Its name: the grant's digest.
        grant: Word,
        /// The nullifier.
        nullifier: Word,
        /// What is kept.
        presentation: Presentation,
    },
    /// A use is counted.
    Used {
        /// The presentation's name.
        grant: Word,
        /// The link that takes the place of the one before.
        link: Link,
        /// Uses that are left.
        remaining: u16,
    },
}

/// A recorded presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presentation {
    /// To whom.
    pub verifier: Word,
    /// Who may use it.
    pub sender: Word,
    /// What it answers.
    pub request: Word,
    /// The last link that was revealed, or the tip.
    pub link: Link,
    /// Uses that are left.
    pub remaining: u16,
    /// From when on it is not good any more.
    pub expiry: Seconds,
    /// Which revocation root it was proved against.
    pub revocation: u32,
}

/// Why a command changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A tree has had as many roots as its index can count.
    #[error("{tree} has had {max} roots, which is the most there may be")]
    RootsFull {
        /// Which tree.
        tree: Tree,
        /// That many.
        max: u32,
    },
    /// The root was never published.
    #[error("the root of {tree} was never published: {got}")]
    RootUnknown {
        /// Of which tree.
        tree: Tree,
        /// The root.
        got: Word,
    },
    /// The root was replaced longer ago than the window.
    #[error(
        "the root of {tree} was replaced at {replaced} and accepted before {until}, now is {now}"
    )]
    RootStale {
        /// Of which tree.
        tree: Tree,
        /// When another took its place.
        replaced: Seconds,
        /// The end of its window.
        until: Seconds,
        /// Now.
        now: Seconds,
    },
    /// The verifier has no such request, or has closed it.
    #[error("the verifier has no open request {request}")]
    RequestUnknown {
        /// The request.
        request: Word,
    },
    /// The request is over.
    #[error("the request was open before {closes}, now is {now}")]
    RequestOver {
        /// Until when.
        closes: Seconds,
        /// Now.
        now: Seconds,
    },
    /// A request that would be over when it begins, or be open when the units that answer it are over.
    #[error("the end of a request: expected a time after {now} and up to {until}, got {got}")]
    Closes {
        /// Now.
        now: Seconds,
        /// What the request has its units be valid through, or what can be kept.
        until: Seconds,
        /// What was asked for.
        got: Seconds,
    },
    /// The proof answers another request than the grant.
    #[error("the proof answers request {got}, the grant is for {expected}")]
    Request {
        /// The grant's.
        expected: Word,
        /// The proof's.
        got: Word,
    },
    /// The proof binds another grant.
    #[error("the proof binds grant {got}, the grant that came with it is {expected}")]
    Grant {
        /// The digest of the grant.
        expected: Word,
        /// The proof's fifth input.
        got: Word,
    },
    /// The sender is not the one that the grant names.
    #[error("the grant is for another sender")]
    Sender,
    /// The grant is over.
    #[error("the grant was good before {expiry}, now is {now}")]
    Expired {
        /// Until when.
        expiry: Seconds,
        /// Now.
        now: Seconds,
    },
    /// The grant lasts longer than the request.
    #[error("the grant is good before {got}, the request is open before {expected}")]
    Outlives {
        /// The request's end.
        expected: Seconds,
        /// The grant's.
        got: Seconds,
    },
    /// The nullifier has been spent: in this scope the holder has presented with this index.
    #[error("the nullifier has been spent: {nullifier}")]
    Spent {
        /// The nullifier.
        nullifier: Word,
    },
    /// The grant has been recorded.
    #[error("the grant has been presented: {grant}")]
    Presented {
        /// Its digest.
        grant: Word,
    },
    /// No presentation of this name is kept.
    #[error("no presentation of grant {grant}")]
    PresentationUnknown {
        /// The name.
        grant: Word,
    },
    /// All uses have been made.
    #[error("all uses of the grant have been made")]
    UsedUp,
    /// The link does not lead to the one that is kept.
    #[error("the link leads to {got}, expected one that leads to {expected}")]
    Link {
        /// What is kept.
        expected: Link,
        /// What it leads to.
        got: Link,
    },
}

/// Why a change cannot follow what was before: it was not made by this registry, or not in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Misfit {
    /// A root's number is not the next one.
    #[error("root of {tree}: expected number {expected}, got {got}")]
    Root {
        /// Of which tree.
        tree: Tree,
        /// The next number.
        expected: u32,
        /// The change's.
        got: u32,
    },
    /// A root is older than the one before it.
    #[error("root of {tree}, number {index}: expected a time from {expected}, got {got}")]
    Time {
        /// Of which tree.
        tree: Tree,
        /// Its number.
        index: u32,
        /// When the one before was published.
        expected: Seconds,
        /// The change's time.
        got: Seconds,
    },
    /// A request is closed that is not open.
    #[error("request {request} is closed and was not open")]
    Request {
        /// The request.
        request: Word,
    },
    /// A nullifier or a grant comes twice, or a revocation root that is not there.
    #[error("presentation of grant {grant} cannot follow")]
    Presentation {
        /// The grant.
        grant: Word,
    },
    /// A use of what is not kept, or by a link that does not lead there, or a wrong count.
    #[error("use of grant {grant} cannot follow")]
    Use {
        /// The grant.
        grant: Word,
    },
}

/// Why bytes are no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Damage {
    /// No kind of change has this mark.
    #[error("a change's first byte: expected 1 to 5, got {got:?}")]
    Kind {
        /// The byte; none if there are no bytes.
        got: Option<u8>,
    },
    /// A change of this kind has another length.
    #[error("a change of kind {kind}: expected {expected} bytes, got {got}")]
    Length {
        /// The first byte.
        kind: u8,
        /// So many it has.
        expected: usize,
        /// So many there are.
        got: usize,
    },
    /// There is no such tree.
    #[error("a change's tree: expected 0 or 1, got {got}")]
    Tree {
        /// The byte.
        got: u8,
    },
}

/// See the top of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    domain: Word,
    window: u64,
    issuers: Roots,
    revocations: Roots,
    requests: BTreeMap<(Word, Word), Seconds>,
    presentations: BTreeMap<Word, Presentation>,
    /// Their names by their expiry.
    ends: BTreeSet<(Seconds, Word)>,
    nullifiers: BTreeSet<Word>,
}

impl Registry {
    /// An empty one. `domain` tells it from every other registry, so that a grant is good in one
    /// only; `window` is how many seconds a root is accepted after it was replaced.
    pub fn new(domain: Word, window: u64) -> Registry {
        Registry {
            domain,
            window,
            issuers: Roots::default(),
            revocations: Roots::default(),
            requests: BTreeMap::new(),
            presentations: BTreeMap::new(),
            ends: BTreeSet::new(),
            nullifiers: BTreeSet::new(),
        }
    }

    /// What tells it from every other registry.
    pub fn domain(&self) -> Word {
        self.domain
    }

    /// The newest root of a tree; `None` before the first.
    pub fn root(&self, tree: Tree) -> Option<Word> {
        self.roots(tree).list.last().map(|root| root.value)
    }

    /// A presentation by its grant's digest.
    pub fn presentation(&self, grant: &Word) -> Option<&Presentation> {
        self.presentations.get(grant)
    }

    /// Until when a verifier's request is open; `None` if it has none such.
    pub fn request(&self, verifier: Word, request: Word) -> Option<Seconds> {
        self.requests.get(&(verifier, request)).copied()
    }

    /// How many requests of a verifier there are, those that are over and were not taken back among them.
    pub fn requests_of(&self, verifier: Word) -> usize {
        let all = (verifier, Word([0; 32]))..=(verifier, Word([u8::MAX; 32]));
        self.requests.range(all).count()
    }

    /// How many presentations are kept.
    pub fn presentations(&self) -> usize {
        self.presentations.len()
    }

    /// Whether a nullifier has been spent.
    pub fn is_spent(&self, nullifier: &Word) -> bool {
        self.nullifiers.contains(nullifier)
    }

    /// What a command would change now.
    pub fn decide(&self, command: &Command, now: Seconds) -> Result<Change, Refusal> {
        match *command {
            Command::Publish { tree, root } => self.publish(tree, root, now),
            Command::Open {
                verifier,
                request,
                closes,
                valid_through,
            } => {
                closes_in_time(closes, valid_through, now)?;
                Ok(Change::Opened {
                    verifier,
                    request,
                    closes,
                })
            }
            Command::Close { verifier, request } => {
                self.request(verifier, request)
                    .ok_or(Refusal::RequestUnknown { request })?;
                Ok(Change::Closed { verifier, request })
            }
            Command::Present {
                sender,
                ref grant,
                ref inputs,
            } => self.present(sender, grant, inputs, now),
            Command::Reuse {
                sender,
                grant,
                link,
            } => self.reuse(sender, grant, link, now),
        }
    }

    /// Whether a presentation would be recorded now if its proof holds: for who wants to know before
    /// the proof is verified, which costs more. Returns the grant's digest.
    pub fn check(
        &self,
        sender: Word,
        grant: &Grant,
        inputs: &Inputs,
        now: Seconds,
    ) -> Result<Word, Refusal> {
        self.present(sender, grant, inputs, now)?;
        Ok(inputs.grant)
    }

    /// Makes a change. An error changes nothing.
    pub fn apply(&mut self, change: &Change) -> Result<(), Misfit> {
        match *change {
            Change::Published {
                tree,
                index,
                root,
                at,
            } => self.roots_mut(tree).push(tree, index, root, at),
            Change::Opened {
                verifier,
                request,
                closes,
            } => {
                self.requests.insert((verifier, request), closes);
                Ok(())
            }
            Change::Closed { verifier, request } => {
                let before = self.requests.remove(&(verifier, request));
                before.map(|_| ()).ok_or(Misfit::Request { request })
            }
            Change::Recorded {
                grant,
                nullifier,
                presentation,
            } => {
                let is_new = !self.presentations.contains_key(&grant)
                    && !self.nullifiers.contains(&nullifier);
                if !is_new || presentation.revocation as usize >= self.revocations.list.len() {
                    return Err(Misfit::Presentation { grant });
                }
                self.presentations.insert(grant, presentation);
                self.ends.insert((presentation.expiry, grant));
                self.nullifiers.insert(nullifier);
                Ok(())
            }
            Change::Used {
                grant,
                link,
                remaining,
            } => {
                let kept = self.presentations.get_mut(&grant);
                let follows = |kept: &&mut Presentation| {
                    link.next() == kept.link && kept.remaining.checked_sub(1) == Some(remaining)
                };
                let kept = kept.filter(follows).ok_or(Misfit::Use { grant })?;
                kept.link = link;
                kept.remaining = remaining;
                Ok(())
            }
        }
    }

    /// Forgets presentations that have expired at `now` or before, the oldest first and as many as are asked for;
    /// how many. Their nullifiers stay. It is no change: one of a presentation that was forgotten is never decided
    /// again, so it is as good before the changes that follow as after them.
    pub fn sweep(&mut self, now: Seconds, at_most: usize) -> usize {
        let is_over = |end: &(Seconds, Word)| end.0 <= now;
        let mut swept = 0;
        while swept < at_most
            && let Some((_, grant)) = self.ends.first().filter(|end| is_over(end)).copied()
        {
            self.ends.pop_first();
            self.presentations.remove(&grant);
            swept += 1;
        }
        swept
    }

    fn publish(&self, tree: Tree, root: Word, now: Seconds) -> Result<Change, Refusal> {
        let roots = self.roots(tree);
        let last = roots.list.last();
        let max = u32::MAX;
        let index =
            u32::try_from(roots.list.len()).map_err(|_| Refusal::RootsFull { tree, max })?;
        // A clock that goes back counts as standing still.
        let at = last.map_or(now, |last| now.max(last.published));
        Ok(Change::Published {
            tree,
            index,
            root,
            at,
        })
    }

    fn present(
        &self,
        sender: Word,
        grant: &Grant,
        inputs: &Inputs,
        now: Seconds,
    ) -> Result<Change, Refusal> {
        let digest = grant.digest(&self.domain, &inputs.nullifier);
        if digest != inputs.grant {
            return Err(Refusal::Grant {
                expected: digest,
                got: inputs.grant,
            });
        }
        if grant.request != inputs.request {
            return Err(Refusal::Request {
                expected: grant.request,
                got: inputs.request,
            });
        }
        if grant.sender != sender {
            return Err(Refusal::Sender);
        }
        if grant.expiry <= now {
            return Err(Refusal::Expired {
                expiry: grant.expiry,
                now,
            });
        }
        let closes = self.open_until(grant.verifier, grant.request, now)?;
        if grant.expiry > closes {
            return Err(Refusal::Outlives {
                expected: closes,
                got: grant.expiry,
            });
        }
        self.find_root(Tree::Issuers, inputs.issuers_root, now)?;
        let revocation = self.find_root(Tree::Revocation, inputs.revocation_root, now)?;
        if self.presentations.contains_key(&digest) {
            return Err(Refusal::Presented { grant: digest });
        }
        let nullifier = inputs.nullifier;
        if self.is_spent(&nullifier) {
            return Err(Refusal::Spent { nullifier });
        }
        Ok(Change::Recorded {
            grant: digest,
            nullifier,
            presentation: Presentation {
                verifier: grant.verifier,
                sender,
                request: grant.request,
                link: grant.tip,
                remaining: grant.uses,
                expiry: grant.expiry,
                revocation,
            },
        })
    }

    fn reuse(
        &self,
        sender: Word,
        grant: Word,
        link: Link,
        now: Seconds,
    ) -> Result<Change, Refusal> {
        let kept = self.presentation(&grant);
        let kept = kept.ok_or(Refusal::PresentationUnknown { grant })?;
        if kept.sender != sender {
            return Err(Refusal::Sender);
        }
        if kept.expiry <= now {
            return Err(Refusal::Expired {
                expiry: kept.expiry,
                now,
            });
        }
        let remaining = kept.remaining.checked_sub(1).ok_or(Refusal::UsedUp)?;
        let got = link.next();
        if got != kept.link {
            return Err(Refusal::Link {
                expected: kept.link,
                got,
            });
        }
        self.open_until(kept.verifier, kept.request, now)?;
        self.in_window(Tree::Revocation, kept.revocation as usize, now)?;
        Ok(Change::Used {
            grant,
            link,
            remaining,
        })
    }

    fn open_until(&self, verifier: Word, request: Word, now: Seconds) -> Result<Seconds, Refusal> {
        let closes = self.request(verifier, request);
        let closes = closes.ok_or(Refusal::RequestUnknown { request })?;
        if closes <= now {
            return Err(Refusal::RequestOver { closes, now });
        }
        Ok(closes)
    }

    /// The newest life of a root, if that is in its window.
    fn find_root(&self, tree: Tree, got: Word, now: Seconds) -> Result<u32, Refusal> {
        let found = self.roots(tree).newest.get(&got);
        let &index = found.ok_or(Refusal::RootUnknown { tree, got })?;
        self.in_window(tree, index as usize, now)?;
        Ok(index)
    }

    fn in_window(&self, tree: Tree, index: usize, now: Seconds) -> Result<(), Refusal> {
        let Some(next) = self.roots(tree).list.get(index + 1) else {
            return Ok(());
        };
        let replaced = next.published;
        let until = Seconds(replaced.0.saturating_add(self.window));
        // A clock that was ahead when the next root came cannot keep this one alive.
        if now >= until || now < replaced {
            return Err(Refusal::RootStale {
                tree,
                replaced,
                until,
                now,
            });
        }
        Ok(())
    }

    fn roots(&self, tree: Tree) -> &Roots {
        match tree {
            Tree::Issuers => &self.issuers,
            Tree::Revocation => &self.revocations,
        }
    }

    fn roots_mut(&mut self, tree: Tree) -> &mut Roots {
        match tree {
            Tree::Issuers => &mut self.issuers,
            Tree::Revocation => &mut self.revocations,
        }
    }
}

/// Whether a request may close then: when it has begun, and before the units that answer it are over, for a use of a
/// presentation asks nothing of its unit but whether the request is open.
pub fn closes_in_time(
    closes: Seconds,
    valid_through: Seconds,
    now: Seconds,
) -> Result<(), Refusal> {
    let until = EXPIRY_MAX.min(valid_through);
    if closes <= now || closes > until {
        let got = closes;
        return Err(Refusal::Closes { now, until, got });
    }
    Ok(())
}

impl Change {
    /// The change as bytes, to be kept: its kind, then its fields in their order, numbers with the most
    /// significant byte first. There is one spelling of each change.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORDED_BYTES);
        match self {
            Change::Published {
                tree,
                index,
                root,
                at,
            } => {
                let tree = u8::from(*tree == Tree::Revocation);
                bytes.extend([PUBLISHED, tree]);
                bytes.extend(index.to_be_bytes());
                bytes.extend(root.0);
                bytes.extend(at.0.to_be_bytes());
            }
            Change::Opened {
                verifier,
                request,
                closes,
            } => {
                bytes.push(OPENED);
                bytes.extend(verifier.0);
                bytes.extend(request.0);
                bytes.extend(closes.0.to_be_bytes());
            }
            Change::Closed { verifier, request } => {
                bytes.push(CLOSED);
                bytes.extend(verifier.0);
                bytes.extend(request.0);
            }
            Change::Recorded {
                grant,
                nullifier,
                presentation: it,
            } => {
                bytes.push(RECORDED);
                for word in [grant, nullifier, &it.verifier, &it.sender, &it.request] {
                    bytes.extend(word.0);
                }
                bytes.extend(it.link.0);
                bytes.extend(it.remaining.to_be_bytes());
                bytes.extend(it.expiry.0.to_be_bytes());
                bytes.extend(it.revocation.to_be_bytes());
            }
            Change::Used {
                grant,
                link,
                remaining,
            } => {
                bytes.push(USED);
                bytes.extend(grant.0);
                bytes.extend(link.0);
                bytes.extend(remaining.to_be_bytes());
            }
        }
        bytes
    }

    /// The change that these bytes are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Change, Damage> {
        let (&kind, mut rest) = bytes.split_first().ok_or(Damage::Kind { got: None })?;
        let expected = match kind {
            PUBLISHED => 1 + 1 + 4 + 32 + 8,
            OPENED => 1 + 2 * 32 + 8,
            CLOSED => 1 + 2 * 32,
            RECORDED => RECORDED_BYTES,
            USED => 1 + 32 + 20 + 2,
            _ => return Err(Damage::Kind { got: Some(kind) }),
        };
        if bytes.len() != expected {
            return Err(Damage::Length {
                kind,
                expected,
                got: bytes.len(),
            });
        }
        let rest = &mut rest;
        Ok(match kind {
            PUBLISHED => Change::Published {
                tree: match take::<1>(rest) {
                    [0] => Tree::Issuers,
                    [1] => Tree::Revocation,
                    [got] => return Err(Damage::Tree { got }),
                },
                index: u32::from_be_bytes(take(rest)),
                root: Word(take(rest)),
                at: Seconds(u64::from_be_bytes(take(rest))),
            },
            OPENED => Change::Opened {
                verifier: Word(take(rest)),
                request: Word(take(rest)),
                closes: Seconds(u64::from_be_bytes(take(rest))),
            },
            CLOSED => Change::Closed {
                verifier: Word(take(rest)),
                request: Word(take(rest)),
            },
            RECORDED => Change::Recorded {
                grant: Word(take(rest)),
                nullifier: Word(take(rest)),
                presentation: Presentation {
                    verifier: Word(take(rest)),
                    sender: Word(take(rest)),
                    request: Word(take(rest)),
                    link: Link(take(rest)),
                    remaining: u16::from_be_bytes(take(rest)),
                    expiry: Seconds(u64::from_be_bytes(take(rest))),
                    revocation: u32::from_be_bytes(take(rest)),
                },
            },
            _ => Change::Used {
                grant: Word(take(rest)),
                link: Link(take(rest)),
                remaining: u16::from_be_bytes(take(rest)),
            },
        })
    }
}

const PUBLISHED: u8 = 1;
const OPENED: u8 = 2;
const CLOSED: u8 = 3;
const RECORDED: u8 = 4;
const USED: u8 = 5;
/// The longest change.
const RECORDED_BYTES: usize = 1 + 5 * 32 + 20 + 2 + 8 + 4;

/// The next bytes; the length has been checked.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, tail) = rest.split_first_chunk().expect("the length was checked");
    *rest = tail;
    *head
}

/// All roots of a tree, in the order in which they were published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Roots {
    list: Vec<Root>,
    /// Where each value stands last: a root may be published again, and then has a new life.
    newest: BTreeMap<Word, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Root {
    value: Word,
    published: Seconds,
}

impl Roots {
    fn push(&mut self, tree: Tree, index: u32, value: Word, at: Seconds) -> Result<(), Misfit> {
        let expected = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        if index != expected {
            return Err(Misfit::Root {
                tree,
                expected,
                got: index,
            });
        }
        let before = self.list.last().map_or(Seconds(0), |last| last.published);
        if at < before {
            return Err(Misfit::Time {
                tree,
                index,
                expected: before,
                got: at,
            });
        }
        self.list.push(Root {
            value,
            published: at,
        });
        self.newest.insert(value, index);
        Ok(())
    }
}

impl Grant {
    /// What the proof binds: the first 31 bytes of Keccak-256 over domain, verifier, sender, request,
    /// tip, uses, expiry, challenge and nullifier, each a word, as a number. 31 bytes, so that it is a field
    /// element as it is; the nullifier, so that a grant is of one presentation.
    pub fn digest(&self, domain: &Word, nullifier: &Word) -> Word {
        let mut hash = Keccak256::new();
        for word in [
            *domain,
            self.verifier,
            self.sender,
            self.request,
            Word::right(&self.tip.0),
            Word::right(&self.uses.to_be_bytes()),
            Word::right(&self.expiry.0.to_be_bytes()),
            self.challenge,
            *nullifier,
        ] {
            hash.update(word.0);
        }
        Word::right(&hash.finalize()[..31])
    }
}

impl Link {
    /// The link that this one leads to: the first 20 bytes of its Keccak-256.
    #[must_use]
    pub fn next(&self) -> Link {
        let hash = Keccak256::digest(self.0);
        let mut next = Link([0; 20]);
        next.0.copy_from_slice(&hash[..20]);
        next
    }

    /// The link that so many steps lead to: from the seed, the tip of a chain of so many uses.
    #[must_use]
    pub fn after(self, steps: u16) -> Link {
        (0..steps).fold(self, |link, _| link.next())
    }
}

impl Word {
    /// A number of at most 32 bytes, the most significant first.
    ///
    /// # Panics
    /// If it is longer.
    pub fn right(bytes: &[u8]) -> Word {
        let mut word = [0; 32];
        word[32 - bytes.len()..].copy_from_slice(bytes);
        Word(word)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tree::Issuers => "issuers",
            Tree::Revocation => "revocation",
        })
    }
}

fn hexadecimal(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("0x")?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
