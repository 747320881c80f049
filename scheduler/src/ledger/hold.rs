//! Two phases: what a job may cost is set aside before it begins, and charged or given back once
//! it has ended; never both, never twice. Gas is reimbursed in the same way.
//!
//! The idea is TigerBeetle's pending transfers and, for gas, the reserve, charge, refund of a
//! paymaster (ERC-4337).

use super::command::{Account, Asset, Hash, Id, Outcome, Party};
use super::error::Error;
use super::policy::WHOLE;
use super::state::{Hold, State};
use super::wide::mul_div;

impl State {
    pub(super) fn reserve(
        &mut self,
        id: Id,
        party: Party,
        amount: u128,
        expires: u64,
        now: u64,
    ) -> Result<(), Error> {
        if amount == 0 {
            return Err(Error::Zero);
        }
        if expires <= now {
            return Err(Error::Expired { expires, now });
        }
        self.shift(
            Asset::Era,
            Account::Free { party },
            Account::Held { party },
            amount,
        )?;
        self.holds.insert(
            id,
            Hold {
                party,
                amount,
                expires,
            },
        );
        self.expiries.insert((expires, id));
        Ok(())
    }

    /// A hold that can pay so much now.
    pub(super) fn chargeable(&self, hold: &Hold, amount: u128, now: u64) -> Result<(), Error> {
        let Hold {
            party,
            amount: got,
            expires,
        } = *hold;
        if amount == 0 {
            return Err(Error::Zero);
        }
        if now >= expires {
            return Err(Error::Expired { expires, now });
        }
        if amount > got {
            return Err(Error::Insufficient {
                account: Account::Held { party },
                asset: Asset::Era,
                needed: amount,
                got,
            });
        }
        Ok(())
    }

    /// Ends a hold: so much goes to an account, which is at most what is held, and the rest back.
    pub(super) fn resolve(&mut self, id: Id, to: Account, amount: u128) {
        let hold = self
            .holds
            .remove(id)
            .expect("who resolves a hold has found it");
        self.expiries.remove((hold.expires, id));
        let party = hold.party;
        self.must_shift(Account::Held { party }, to, amount);
        self.must_shift(
            Account::Held { party },
            Account::Free { party },
            hold.amount - amount,
        );
    }

    /// Refunds what has expired.
    pub(super) fn expire(&mut self, now: u64) {
        while let Some(&(expires, id)) = self.expiries.first()
            && expires <= now
        {
            self.resolve(id, Account::Fees, 0);
        }
    }

    pub(super) fn offset_gas(
        &mut self,
        (id, hold): (Id, Hold),
        receipt: Hash,
        gas: (u64, u128),
        now: u64,
    ) -> Result<Outcome, Error> {
        self.chargeable(&hold, hold.amount, now)?;
        let (charged, reimbursed) = self.reckon_gas(hold.amount, receipt, gas)?;
        let free = Account::Free { party: hold.party };
        self.shift(Asset::Gas, Account::GasFloat, free, reimbursed)?;
        self.resolve(id, Account::Treasury, charged);
        self.receipts.insert(receipt);
        Ok(Outcome::Offset {
            charged,
            reimbursed,
        })
    }

    /// What is charged out of so much ERA, and how much wei is reimbursed for it. Changes nothing.
    pub(super) fn reckon_gas(
        &self,
        held: u128,
        receipt: Hash,
        (gas_used, price): (u64, u128),
    ) -> Result<(u128, u128), Error> {
        if self.receipts.find(receipt).is_some() {
            return Err(Error::ReceiptUsed { receipt });
        }
        let overflow = Error::Overflow {
            what: "the cost of gas",
        };
        let cost = u128::from(gas_used)
            .checked_mul(price)
            .ok_or(overflow.clone())?;
        let offset = &self.policy.offset;
        let (mut part, _) =
            mul_div(cost, offset.ceiling.into(), WHOLE.into()).ok_or(overflow.clone())?;
        // Rounded up: what is reimbursed is never worth more than what is charged.
        let price_of = |part| {
            mul_div(part, offset.era, offset.wei).map(|(era, rest)| era + u128::from(rest > 0))
        };
        if price_of(part).is_none_or(|era| era > held) {
            part = mul_div(held, offset.wei, offset.era)
                .ok_or(overflow.clone())?
                .0;
        }
        let charged = price_of(part).ok_or(overflow)?;
        if part == 0 {
            return Err(Error::Zero);
        }
        let got = self.balance(Asset::Gas, Account::GasFloat)?;
        match part <= got {
            true => Ok((charged, part)),
            false => Err(Error::Insufficient {
                account: Account::GasFloat,
                asset: Asset::Gas,
                needed: part,
                got,
            }),
        }
    }
}
