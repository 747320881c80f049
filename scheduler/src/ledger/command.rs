//! What can be asked of the ledger, as data with one encoding.
//!
//! A command says everything that it needs besides the time and the state, so that the journal
//! can be executed again from nothing.

use sha2::{Digest, Sha256};

use super::encoding::{Coded, coded_enum, coded_struct};
use super::policy::Policy;

/// Names a party.
pub type Party = u32;
/// Names an owner: the person or company behind parties.
pub type Owner = u32;
/// Counts epochs.
pub type EpochNumber = u32;
/// Names a command, and what it makes: a hold, a stake, an unbonding.
pub type Id = u128;
/// Names a class of scenarios.
pub type ClassId = u8;
/// An address of 20 bytes on the chain.
pub type Address = [u8; 20];
/// A digest of 32 bytes.
pub type Hash = [u8; 32];

/// What balances are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asset {
    /// The unit in which fees and rewards are counted.
    Era,
    /// Wei of the chain on which rollups settle.
    Gas,
}

/// An account. Which there are for which asset is in docs/ledger.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Account {
    Outside,
    Issuance,
    Budget,
    Fees,
    Treasury,
    StakingPool,
    StakeRewards,
    StorageFund,
    Payable,
    Dust,
    GasFloat,
    Free { party: Party },
    Held { party: Party },
    Staked { party: Party },
    Unbonding { party: Party },
}

/// What a party is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Proves.
    Node,
    /// Has made a rollup.
    Developer,
    /// Asks for proofs, and pays.
    User,
}

/// One leg of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Of what.
    pub asset: Asset,
    /// From where.
    pub from: Account,
    /// To where.
    pub to: Account,
    /// How much.
    pub amount: u128,
}

/// Whose fault a failure was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The node's.
    Node,
    /// The job's own input's.
    Input,
}

/// Something that a node did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who.
    pub node: Party,
    /// Its own number of the event, never used twice.
    pub sequence: u64,
    /// When, by its own clock; decides nothing.
    pub observed: u64,
    /// What.
    pub what: Deed,
}

/// What a node did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Made a proof, which the box's own verifier has accepted.
    Proof {
        /// The hold that pays.
        hold: Id,
        /// The scenario's class.
        class: ClassId,
        /// The developer of the rollup that asked.
        developer: Option<Party>,
        /// What it costs.
        fee: u128,
        /// Digest of the proof.
        proof: Hash,
    },
    /// Answered by a state unit that was proved before.
    Reuse {
        /// The hold that pays.
        hold: Id,
        /// The scenario's class.
        class: ClassId,
        /// The developer of the rollup that asked.
        developer: Option<Party>,
        /// What it costs.
        fee: u128,
        /// Digest of the presentation.
        proof: Hash,
    },
    /// Had storage back from a tenant.
    Release {
        /// The tenant.
        party: Party,
        /// So much.
        bytes: u64,
        /// For so long the tenant had held it, in seconds.
        held_s: u64,
        /// For so long the box had it back, in seconds.
        returned_s: u64,
    },
    /// Did not make a proof.
    Failure {
        /// The hold that would have paid.
        hold: Id,
        /// Why.
        cause: Cause,
    },
}

/// An operation. What each does is in docs/ledger.md.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Command {
    Open {
        policy: Policy,
    },
    Adopt {
        epoch: EpochNumber,
        policy: Policy,
    },
    Register {
        party: Party,
        role: Role,
        owner: Owner,
        address: Address,
        key: Hash,
    },
    Verify {
        owner: Owner,
        verified: bool,
    },
    Transfer {
        legs: Vec<Leg>,
    },
    Reserve {
        party: Party,
        amount: u128,
        expires: u64,
    },
    Charge {
        hold: Id,
        amount: u128,
    },
    Refund {
        hold: Id,
    },
    Meter {
        event: Event,
        signature: Vec<u8>,
    },
    OffsetGas {
        hold: Id,
        receipt: Hash,
        gas_used: u64,
        price: u128,
    },
    Stake {
        party: Party,
        amount: u128,
    },
    Unstake {
        stake: Id,
        amount: u128,
    },
    Withdraw {
        unbonding: Id,
    },
    Harvest {
        stake: Id,
    },
    Order {
        party: Party,
        on: bool,
    },
    Close {
        epoch: EpochNumber,
    },
    Claim {
        party: Party,
        up_to: EpochNumber,
    },
    ClawBack {
        party: Party,
        epoch: EpochNumber,
        reason: Hash,
    },
    Settle {
        epoch: EpochNumber,
    },
}

/// What an operation found out that its command does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Done,
    /// An epoch was closed.
    Closed {
        /// What was paid and why.
        close: Box<Close>,
    },
    /// An amount was moved, and of it so much staked by a standing order.
    Moved {
        /// In all.
        amount: u128,
        /// Of that.
        staked: u128,
    },
    /// Gas was reimbursed.
    Offset {
        /// ERA charged.
        charged: u128,
        /// Wei reimbursed.
        reimbursed: u128,
    },
    /// An epoch's rest is to be claimed on the chain.
    Settled {
        /// The root of what can be claimed.
        root: Hash,
        /// The number of leaves.
        leaves: u32,
        /// Their sum.
        total: u128,
    },
}

/// The close of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Which.
    pub epoch: EpochNumber,
    /// By which policy.
    pub policy: Hash,
    /// The first record of the epoch.
    pub first: u64,
    /// The record of the close.
    pub last: u64,
    /// The root over all payouts.
    pub root: Hash,
    /// The number of payouts.
    pub payouts: u32,
    /// Fees that were divided.
    pub fees: u128,
    /// Units that were issued.
    pub issued: u128,
    /// The budget before payouts: what was carried over, fees and issuance.
    pub budget: u128,
    /// Paid to nodes.
    pub nodes: u128,
    /// Paid to developers.
    pub developers: u128,
    /// Paid to users.
    pub users: u128,
    /// Left over by the division of the budget among the three.
    pub dust: u128,
    /// The budget after payouts.
    pub carried: u128,
    /// Paid for storage, from its fund.
    pub storage: u128,
    /// Earned by stakes.
    pub staking: u128,
    /// What the pool could not pay to stakes, and does not owe.
    pub shortfall: u128,
    /// The hash of the state after the close.
    pub state: Hash,
}

impl Event {
    /// The bytes that the node signs.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = b"caldera metering v1".to_vec();
        self.write(&mut out);
        out
    }

    /// The id of the command that brings it.
    pub fn id(&self) -> Id {
        event_id(self.node, self.sequence)
    }
}

/// The id of the command that brings a node's event of this number.
pub fn event_id(node: Party, sequence: u64) -> Id {
    let hash = Sha256::new()
        .chain_update(b"caldera event")
        .chain_update(node.to_be_bytes())
        .chain_update(sequence.to_be_bytes());
    short(hash)
}

/// The id of the command that closes an epoch.
pub fn close_id(epoch: EpochNumber) -> Id {
    let hash = Sha256::new()
        .chain_update(b"caldera close")
        .chain_update(epoch.to_be_bytes());
    short(hash)
}

/// The id of a party's standing stake.
pub fn standing_id(party: Party) -> Id {
    let hash = Sha256::new()
        .chain_update(b"caldera standing")
        .chain_update(party.to_be_bytes());
    short(hash)
}

/// The first 16 bytes.
pub(super) fn short(hash: Sha256) -> Id {
    let hash: [u8; 32] = hash.finalize().into();
    let (short, _) = hash.split_first_chunk().expect("32 bytes have 16");
    Id::from_be_bytes(*short)
}

coded_enum!(Asset("asset") { 0 => Era {}, 1 => Gas {} });
coded_enum!(Role("role") { 0 => Node {}, 1 => Developer {}, 2 => User {} });
coded_enum!(Cause("cause") { 0 => Node {}, 1 => Input {} });
coded_enum!(Account("account") {
    0 => Outside {}, 1 => Issuance {}, 2 => Budget {}, 3 => Fees {}, 4 => Treasury {},
    5 => StakingPool {}, 6 => StakeRewards {}, 7 => StorageFund {}, 8 => Payable {},
    9 => Dust {}, 10 => GasFloat {}, 11 => Free { party }, 12 => Held { party },
    13 => Staked { party }, 14 => Unbonding { party },
});
coded_enum!(Deed("deed") {
    0 => Proof { hold, class, developer, fee, proof },
    1 => Reuse { hold, class, developer, fee, proof },
    2 => Release { party, bytes, held_s, returned_s },
    3 => Failure { hold, cause },
});
coded_enum!(Command("command") {
    0 => Open { policy },
    1 => Adopt { epoch, policy },
    2 => Register { party, role, owner, address, key },
    3 => Verify { owner, verified },
    4 => Transfer { legs },
    5 => Reserve { party, amount, expires },
    6 => Charge { hold, amount },
    7 => Refund { hold },
    8 => Meter { event, signature },
    9 => OffsetGas { hold, receipt, gas_used, price },
    10 => Stake { party, amount },
    11 => Unstake { stake, amount },
    12 => Withdraw { unbonding },
    13 => Harvest { stake },
    14 => Order { party, on },
    15 => Close { epoch },
    16 => Claim { party, up_to },
    17 => ClawBack { party, epoch, reason },
    18 => Settle { epoch },
});
coded_enum!(Outcome("outcome") {
    0 => Done {},
    1 => Closed { close },
    2 => Moved { amount, staked },
    3 => Offset { charged, reimbursed },
    4 => Settled { root, leaves, total },
});
coded_struct! {
    Leg { asset, from, to, amount }
    Event { node, sequence, observed, what }
    Close {
        epoch, policy, first, last, root, payouts, fees, issued, budget, nodes, developers,
        users, dust, carried, storage, staking, shortfall, state,
    }
}
