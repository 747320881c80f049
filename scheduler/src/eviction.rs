//! Which keys go from a device when its owner lacks room there.
//!
//! The arbiter counts bytes and says who may lose how many of them ([`Victim`]); the box knows the keys, and those
//! are whole: half a key computes nothing. So the choice is made with both ([`choose`]), and it is all or nothing. What goes
//! is enough for what is lacking, and none of it could have stayed; where whole keys do not come to enough, all stay.
//!
//! A key that is larger than what its tenant may lose stays. So a guarantee is rounded up to whole keys: whoever wants
//! devices and has one key there keeps it, however small its guarantee, unless that is nothing.

use crate::TenantId;

/// A tenant whose keys may go from a device, and how much of them. Victims are taken in their order twice: first of
/// each what is beyond its part, then of each what is beyond what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Victim {
    /// Who.
    pub tenant: TenantId,
    /// No more than this may go from this device.
    pub spare: u64,
    /// Its part of all device memory, or what it keeps if that is more: so much stays to it on all devices together as
    /// long as others have more than their parts.
    pub part: u64,
    /// What is guaranteed to it, as far as it can use that: so much stays to it on all devices together.
    pub keeps: u64,
}

impl Victim {
    /// So much may go while others have more than their parts, of a tenant that has so much on all devices.
    pub fn beyond_part(&self, held: u64) -> u64 {
        held.saturating_sub(self.part).min(self.spare)
    }

    /// So much may go at last, of a tenant that has so much on all devices.
    pub fn beyond_guarantee(&self, held: u64) -> u64 {
        held.saturating_sub(self.keeps).min(self.spare)
    }
}

/// A key on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Whose.
    pub tenant: TenantId,
    /// What it takes there.
    pub bytes: u64,
}

/// The keys that go so that there are so many bytes more, as indices; `None` if no more than these victims may lose
/// comes to that. `pieces` are the keys of the device, the first to go first; `held` says what a tenant has on all devices.
///
/// Each victim's keys are tried in their order, and if that is not enough the largest first: there may be a choice that
/// neither finds, and then nothing goes.
pub fn choose(
    need: u64,
    victims: &[Victim],
    held: impl Fn(TenantId) -> u64,
    pieces: &[Piece],
) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    let in_order = pick(need, victims, &held, pieces, &order);
    in_order.or_else(|| {
        order.sort_by_key(|&at| std::cmp::Reverse(pieces[at].bytes));
        pick(need, victims, &held, pieces, &order)
    })
}

fn pick(
    need: u64,
    victims: &[Victim],
    held: &impl Fn(TenantId) -> u64,
    pieces: &[Piece],
    order: &[usize],
) -> Option<Vec<usize>> {
    let mut picked: Vec<usize> = Vec::new();
    let mut gone = vec![0u64; victims.len()];
    let mut sum = 0u64;
    let rounds: [fn(&Victim, u64) -> u64; 2] = [Victim::beyond_part, Victim::beyond_guarantee];
    for may in rounds {
        for (victim, gone) in victims.iter().zip(&mut gone) {
            let may = may(victim, held(victim.tenant));
            for &at in order {
                let piece = pieces[at];
                let is_own = piece.tenant == victim.tenant && !picked.contains(&at);
                let fits = gone.saturating_add(piece.bytes) <= may;
                if sum < need && is_own && fits {
                    picked.push(at);
                    *gone += piece.bytes;
                    sum = sum.saturating_add(piece.bytes);
                }
            }
        }
    }
    if sum < need {
        return None;
    }
    // A large one may have made small ones needless. Those that should rather stay are looked at first.
    for at in (0..picked.len()).rev() {
        let bytes = pieces[picked[at]].bytes;
        if sum - bytes >= need {
            sum -= bytes;
            picked.remove(at);
        }
    }
    Some(picked)
}
