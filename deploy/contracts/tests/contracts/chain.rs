//! A chain of one's own: an Ethereum virtual machine under the rules of Osaka, where gas costs
//! nothing until somebody says what, time passes when it is told to, and each transaction is a block.

use revm::context::TxEnv;
use revm::context::result::{ExecutionResult, Output};
use revm::context_interface::{ContextTr, Transaction};
use revm::database::{CacheDB, EmptyDB};
use revm::handler::{MainnetContext, MainnetEvm};
use revm::primitives::hardfork::SpecId;
use revm::primitives::{Address, Bytes, TxKind, U256};
use revm::{Context, ExecuteCommitEvm, MainBuilder, MainContext};
use sha3::{Digest, Keccak256};

/// The chain's id, which revm's configuration has from the start.
pub(crate) const CHAIN_ID: u64 = 1;

pub(crate) struct Chain {
    evm: MainnetEvm<MainnetContext<CacheDB<EmptyDB>>>,
    now: u64,
    fees: Option<Fees>,
    /// How many transactions there were.
    transactions: u64,
}

/// What a unit of gas costs by EIP-1559, in wei.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fees {
    /// The block's price.
    pub(crate) base: u64,
    /// What senders give beside it,
    pub(crate) tip: u128,
    /// and the most that they pay in all.
    pub(crate) most: u128,
}

/// What became of a transaction.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) end: End,
    pub(crate) gas: u64,
    pub(crate) logs: usize,
    /// Names the transaction. A chain's names are hashes of what was signed, and here nobody signs anything: this is one of its
    /// number, its sender and its data.
    pub(crate) transaction: [u8; 32],
    pub(crate) sender: Address,
    /// What a unit of gas has cost, as the machine reckons it: the effective price of EIP-1559.
    pub(crate) price: u128,
    /// By how much its sender has less wei than before.
    pub(crate) spent: U256,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Returned(Vec<u8>),
    Reverted(Vec<u8>),
    /// Out of gas, or an instruction that there is not.
    Halted,
}

impl Chain {
    pub(crate) fn new() -> Chain {
        let now = 1_800_000_000;
        let evm = Context::mainnet()
            .with_db(CacheDB::new(EmptyDB::default()))
            .modify_cfg_chained(|cfg| {
                cfg.set_spec_and_mainnet_gas_params(SpecId::OSAKA);
                cfg.disable_nonce_check = true;
            })
            .modify_block_chained(|block| block.timestamp = U256::from(now))
            .build_mainnet();
        Chain {
            evm,
            now,
            fees: None,
            transactions: 0,
        }
    }

    /// From now on gas costs so much, and who sends has to have it.
    pub(crate) fn charge(&mut self, fees: Fees) {
        self.fees = Some(fees);
        self.evm.ctx.modify_block(|block| block.basefee = fees.base);
    }

    /// Gives an account wei.
    pub(crate) fn fund(&mut self, account: Address, wei: U256) {
        let database = self.evm.ctx.db_mut();
        let mut info = database.load_account(account).expect("memory").info.clone();
        info.balance += wei;
        database.insert_account_info(account, info);
    }

    fn wei(&mut self, account: Address) -> U256 {
        let account = self.evm.ctx.db_mut().load_account(account);
        account.expect("memory").info.balance
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        let now = U256::from(self.now);
        self.evm.ctx.modify_block(|block| block.timestamp = now);
    }

    /// Deploys a contract, whose constructor takes `arguments`.
    pub(crate) fn deploy(&mut self, from: Address, code: &[u8], arguments: &[u8]) -> Outcome {
        self.transact(from, TxKind::Create, [code, arguments].concat())
    }

    pub(crate) fn send(&mut self, from: Address, to: Address, call: &[u8]) -> Outcome {
        self.transact(from, TxKind::Call(to), call.to_vec())
    }

    fn transact(&mut self, from: Address, kind: TxKind, data: Vec<u8>) -> Outcome {
        self.transactions += 1;
        let number = self.transactions.to_be_bytes();
        let name = keccak(&[number.as_slice(), from.as_slice(), &data].concat());
        let mut transaction = TxEnv::builder()
            .caller(from)
            .kind(kind)
            .data(Bytes::from(data))
            .gas_limit(GAS_LIMIT);
        if let Some(fees) = self.fees {
            transaction = transaction
                .gas_price(fees.most)
                .gas_priority_fee(Some(fees.tip));
        }
        let transaction = transaction.build().expect("a well-formed transaction");
        let base = self.fees.map_or(0, |fees| fees.base);
        let price = transaction.effective_gas_price(base.into());
        let before = self.wei(from);
        let result = self
            .evm
            .transact_commit(transaction)
            .expect("a transaction that a block may hold");
        let gas = result.tx_gas_used();
        let logs = result.logs().len();
        let end = match result {
            ExecutionResult::Success { output, .. } => End::Returned(match output {
                Output::Create(_, Some(address)) => address.to_vec(),
                output => output.into_data().to_vec(),
            }),
            ExecutionResult::Revert { output, .. } => End::Reverted(output.to_vec()),
            ExecutionResult::Halt { .. } => End::Halted,
        };
        Outcome {
            end,
            gas,
            logs,
            transaction: name,
            sender: from,
            price,
            spent: before - self.wei(from),
        }
    }
}

impl Outcome {
    /// Panics unless it returned; gives what.
    pub(crate) fn returned(&self) -> &[u8] {
        match &self.end {
            End::Returned(output) => output,
            other => panic!("expected a return, got {other:?}"),
        }
    }

    /// The address of what was deployed.
    pub(crate) fn address(&self) -> Address {
        Address::from_slice(self.returned())
    }

    /// A returned number or truth value.
    pub(crate) fn number(&self) -> U256 {
        U256::from_be_slice(&self.returned()[..32])
    }

    /// Panics unless it was refused by the error with this signature and these arguments.
    #[track_caller]
    pub(crate) fn refused(&self, signature: &str, arguments: &[Vec<u8>]) {
        let mut expected = selector(signature);
        expected.extend(arguments.concat());
        match &self.end {
            End::Reverted(output) => assert_eq!(
                hex::encode(output),
                hex::encode(expected),
                "expected {signature}"
            ),
            other => panic!("expected {signature}, got {other:?}"),
        }
    }
}

/// An account by a small number. Its address has no zeros to speak of, as those of real accounts, or calls
/// that name it would be cheaper here than anywhere else.
pub(crate) fn account(number: u8) -> Address {
    Address::from_slice(&keccak(&[number])[12..])
}

/// A call of the function with this signature; each argument is words already.
pub(crate) fn call(signature: &str, arguments: &[Vec<u8>]) -> Vec<u8> {
    let mut call = selector(signature);
    call.extend(arguments.concat());
    call
}

pub(crate) fn selector(signature: &str) -> Vec<u8> {
    Keccak256::digest(signature)[..4].to_vec()
}

pub(crate) fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

pub(crate) fn word(number: u64) -> Vec<u8> {
    U256::from(number).to_be_bytes::<32>().to_vec()
}

pub(crate) fn address_word(address: Address) -> Vec<u8> {
    address.into_word().to_vec()
}

/// The most that one transaction may have since Osaka.
const GAS_LIMIT: u64 = 1 << 24;
