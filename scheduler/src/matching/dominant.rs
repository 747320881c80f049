//! All kinds together: weighted dominant-resource fairness over units and bytes.
//!
//! Four kinds of things are divided: cores, devices, device memory and host memory. What one tenant
//! takes of its most wanted kind should count when another kind is divided, or whoever spreads its
//! wants over all kinds gets a full part of each. So (Ghodsi et al., *Dominant Resource Fairness*,
//! NSDI 2011): a tenant's *dominant share* is the largest of its wants, each as a part of all that
//! there is of the kind, and its surplus grows in all kinds along its wants, so that all dominant shares
//! grow in proportion to value.
//!
//! There a tenant stops when any kind that it wants is used up, for a task needs all of what it asks
//! for. Here a proof runs on cores, or on devices, or on both, and none may be idle while somebody
//! could use it. So when a kind is used up, those who want it stop in that kind and go on in others.
//! With that the kinds come apart: in each, the surplus is poured out in proportion to
//!
//! ```text
//! weight = value * pull          pull = share wanted of this kind / dominant share, at most 1
//! ```
//!
//! and that is one pass of the [`Matcher`] for each kind, with all that it promises: guarantees
//! first, whole units by turns, debts, little movement. With one kind every pull is whole and the result
//! is the matcher's. Bytes need no turns: they are divided by the same rule and are not whole units.
//!
//! What holds besides, for wants `w`, values `v` and surplus `s` of a kind (what guarantees and aged
//! tenants leave of it), each a property in `tests/kinds.rs`:
//!
//! - **Sharing.** Beyond its guarantee a tenant gets, of each kind, the smaller of what it still wants
//!   and `s * pull * v / sum of v`: at its dominant kind a full part by value, and elsewhere as much as
//!   that part can use of it. Rates hold this to the last 2^-32; whole units hold it over time, by debts.
//! - **No gain by asking.** Whoever asks for more of one kind gets no more of any other kind. It is the
//!   tenants' own wants that set their pulls, never what is left, so nobody else's pull changes.
//! - **No kind waits for another.** Of each kind as much is given as is wanted or there is.
//!
//! What does not hold, and cannot with these: with unequal guarantees nobody's *whole* share is
//! equalised, only the surplus; a tenant may envy another's guarantee or value; and a tenant that asks
//! for less of its dominant kind gets more of the others, for then it takes less of the box.
//!
//! **Places.** Devices are divided before cores. A device is near to the tenant whose key tables it
//! holds, and a core to a tenant that has a device on the core's NUMA node by this decision, or has
//! tables on such a device while it has none. Nearness decides only between equals: which of its
//! seats a tenant keeps, and which of those that change hands it gets.

use crate::Nanos;
use crate::matching::{Claim, Matcher, Portion, Pull, Rate, Seat, Ties, divide};
use crate::pool::{DEVICES_MAX, KINDS, Kind};

/// The kinds of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bytes {
    /// Of the memory of all devices together.
    Device,
    /// Of the host's memory, for witnesses.
    Host,
}

/// How many kinds of bytes there are.
pub const BYTES: usize = 2;

/// What one tenant asks for of a kind of bytes. Its value is that of its claim for cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByteClaim {
    /// What it could use now.
    pub want: u64,
    /// What it is promised.
    pub guarantee: u64,
    /// If it has waited for bytes for as long as its class may: since when, and how many it needs at
    /// least. It gets those before all guarantees.
    pub aged: Option<(Nanos, u64)>,
}

/// What all tenants ask for. Each list has one entry for each tenant, in the same order.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    /// By [`Kind::index`].
    pub units: [Vec<Claim>; KINDS],
    /// By [`Bytes::index`].
    pub bytes: [Vec<ByteClaim>; BYTES],
    /// The set of devices that hold a tenant's tables: bit 0 is the first device.
    pub tables: Vec<u64>,
}

/// How much there is to divide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Open units, by [`Kind::index`].
    pub units: [u32; KINDS],
    /// By [`Bytes::index`]; `u64::MAX` where nobody counts them, and then they are not divided.
    pub bytes: [u64; BYTES],
}

/// The units as they are.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// By [`Kind::index`].
    pub seats: [Vec<Seat>; KINDS],
    /// The NUMA node of each seat, where it is known.
    pub nodes: [Vec<Option<u8>>; KINDS],
}

/// Scratch memory for decisions about all kinds, and the result of the last one.
#[derive(Debug, Clone, Default)]
pub struct Division {
    matchers: [Matcher; KINDS],
    bytes: [Vec<u64>; BYTES],
    unit_pulls: [Vec<Pull>; KINDS],
    byte_pulls: [Vec<Pull>; BYTES],
    homes: Vec<u64>,
    order: Vec<usize>,
}

impl Division {
    /// Memory for so many claims, and units of each kind; with more, a decision allocates.
    pub fn new(claims: usize, units: [usize; KINDS]) -> Division {
        Division {
            matchers: units.map(|units| Matcher::new(claims, units)),
            bytes: [(); BYTES].map(|()| Vec::with_capacity(claims)),
            unit_pulls: [(); KINDS].map(|()| Vec::with_capacity(claims)),
            byte_pulls: [(); BYTES].map(|()| Vec::with_capacity(claims)),
            homes: Vec::with_capacity(claims),
            order: Vec::with_capacity(claims),
        }
    }

    /// Decides who gets what. Who owns each unit is in [`Division::owners`].
    pub fn decide(
        &mut self,
        slice: Nanos,
        demands: &Demands,
        places: &Places,
        bytes: [u64; BYTES],
    ) {
        let open = |seats: &Vec<Seat>| seats.iter().map(|seat| u32::from(!seat.closed)).sum();
        let capacity = Capacity {
            units: places.seats.each_ref().map(open),
            bytes,
        };
        self.couple(demands, &capacity);
        for kind in [Kind::Device, Kind::Core] {
            let (homes, at): (&[u64], &[Option<u8>]) = match kind {
                Kind::Device => (&demands.tables, &FIRST),
                Kind::Core => {
                    self.find_homes(demands, places);
                    (&self.homes, &places.nodes[kind.index()])
                }
            };
            let nowhere = homes.iter().all(|&home| home == 0);
            let ties = Ties {
                pulls: &self.unit_pulls[kind.index()],
                homes: if nowhere { &[] } else { homes },
                places: at,
            };
            let (claims, seats) = (&demands.units[kind.index()], &places.seats[kind.index()]);
            self.matchers[kind.index()].decide_tied(slice, claims, seats, ties);
        }
        self.divide_bytes(demands, &capacity);
    }

    /// The rates in one kind that these demands would get.
    pub fn pour(&mut self, kind: Kind, demands: &Demands, capacity: &Capacity) -> &[Rate] {
        self.couple(demands, capacity);
        let index = kind.index();
        let ties = Ties {
            pulls: &self.unit_pulls[index],
            ..Ties::default()
        };
        self.matchers[index].pour_tied(capacity.units[index], &demands.units[index], ties)
    }

    /// The bytes of one kind that these demands would get.
    pub fn pour_bytes(&mut self, kind: Bytes, demands: &Demands, capacity: &Capacity) -> &[u64] {
        self.couple(demands, capacity);
        self.divide_bytes(demands, capacity);
        &self.bytes[kind.index()]
    }

    /// The rate of each claim in a kind by the last decision.
    pub fn rates(&self, kind: Kind) -> &[Rate] {
        self.matchers[kind.index()].rates()
    }

    /// How many units of a kind each claim got by the last decision.
    pub fn counts(&self, kind: Kind) -> &[u32] {
        self.matchers[kind.index()].counts()
    }

    /// Who owns each unit of a kind by the last decision, as indices of claims.
    pub fn owners(&self, kind: Kind) -> &[Option<usize>] {
        self.matchers[kind.index()].owners()
    }

    /// How many bytes of a kind each claim may hold by the last decision.
    pub fn bytes(&self, kind: Bytes) -> &[u64] {
        &self.bytes[kind.index()]
    }

    /// Works out the pulls. Where only one kind is there is nothing to couple, and the lists stay empty.
    fn couple(&mut self, demands: &Demands, capacity: &Capacity) {
        for pulls in self.unit_pulls.iter_mut().chain(&mut self.byte_pulls) {
            pulls.clear();
        }
        let units = capacity.units.map(u64::from);
        let bytes = capacity.bytes.map(|it| if it == u64::MAX { 0 } else { it });
        if units.iter().chain(&bytes).filter(|&&it| it > 0).count() < 2 {
            return;
        }
        for claim in 0..demands.units[Kind::Core.index()].len() {
            let unit_shares: [u128; KINDS] =
                std::array::from_fn(|k| share(demands.units[k][claim].want.into(), units[k]));
            let byte_shares: [u128; BYTES] =
                std::array::from_fn(|k| share(demands.bytes[k][claim].want, bytes[k]));
            let shares = unit_shares.iter().chain(&byte_shares);
            let dominant = shares.fold(0, |most, &it| most.max(it));
            for (pulls, part) in self.unit_pulls.iter_mut().zip(unit_shares) {
                pulls.push(Pull::of(part, dominant));
            }
            for (pulls, part) in self.byte_pulls.iter_mut().zip(byte_shares) {
                pulls.push(Pull::of(part, dominant));
            }
        }
    }

    /// The nodes that are near to each claim, when devices have been given.
    fn find_homes(&mut self, demands: &Demands, places: &Places) {
        let nodes = &places.nodes[Kind::Device.index()];
        self.homes.clear();
        if nodes.is_empty() {
            return;
        }
        self.homes.resize(demands.tables.len(), 0);
        let owners = self.matchers[Kind::Device.index()].owners();
        for (&node, owner) in nodes.iter().zip(owners) {
            if let Some(home) = owner.and_then(|claim| self.homes.get_mut(claim)) {
                *home |= bit(node);
            }
        }
        for (claim, (home, &tables)) in self.homes.iter_mut().zip(&demands.tables).enumerate() {
            // What lies on no known node is near to nothing; so is a tenant that has only that.
            if *home == 0 && !owners.contains(&Some(claim)) {
                let holding = nodes
                    .iter()
                    .enumerate()
                    .filter(|&(at, _)| tables >> at & 1 == 1);
                *home = holding.fold(0, |set, (_, &node)| set | bit(node));
            }
        }
    }

    fn divide_bytes(&mut self, demands: &Demands, capacity: &Capacity) {
        let values = &demands.units[Kind::Core.index()];
        for (kind, claims) in demands.bytes.iter().enumerate() {
            let given = &mut self.bytes[kind];
            given.clear();
            given.resize(claims.len(), 0);
            let pulls = &self.byte_pulls[kind];
            let portion = |i: usize| Portion {
                want: claims[i].want,
                guarantee: claims[i].guarantee,
                aged: claims[i].aged.map(|(since, _)| since),
                turn: claims[i].aged.map_or(0, |(_, bytes)| bytes),
                value: values[i].value,
                pull: pulls.get(i).copied().unwrap_or(Pull::WHOLE),
            };
            divide(capacity.bytes[kind], portion, given, &mut self.order);
        }
    }
}

impl Bytes {
    /// Its place in lists by kind.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl Pull {
    /// A share against the dominant one. Never nothing: who wants something is not left out for
    /// wanting much of another kind.
    fn of(share: u128, dominant: u128) -> Pull {
        let whole = u128::from(Pull::WHOLE.0);
        match (share * whole).checked_div(dominant) {
            Some(part) => Pull(part.clamp(1, whole) as u32),
            None => Pull::WHOLE,
        }
    }
}

/// A want as a part of what there is, in 2^-32; of what is not there, nothing.
fn share(want: u64, of: u64) -> u128 {
    (u128::from(want) << 32)
        .checked_div(u128::from(of))
        .unwrap_or(0)
}

/// A node as a set of nodes.
fn bit(node: Option<u8>) -> u64 {
    node.map_or(0, |node| 1 << node)
}

/// The place of a device is its number among the devices.
const FIRST: [Option<u8>; DEVICES_MAX] = {
    let mut first = [None; DEVICES_MAX];
    let mut at = 0;
    while at < DEVICES_MAX {
        first[at] = Some(at as u8);
        at += 1;
    }
    first
};
