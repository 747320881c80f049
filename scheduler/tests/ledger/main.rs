//! The ledger against the dangers that a ledger has: units that come from nowhere or go there,
//! something done twice or half, rules that are not what the document says, a journal that is not
//! what was written, and parties that would rather be paid more.

mod agreement;
mod damage;
mod money;
mod policies;
mod reference;
mod retention;
mod undo;
mod world;
