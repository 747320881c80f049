//! No bytes without a secret behind them name a tenant; the one token that does is the seed, made
//! with the secrets below for the time below.

use caldera_rpc::auth::{self, Keyring, Secret};

pub(crate) fn run(data: &[u8]) {
    let Ok(field) = std::str::from_utf8(data) else {
        return;
    };
    let mut ring = Keyring::new(Secret::from_bytes([9; 32]));
    ring.insert("rollup", Secret::from_bytes([1; 32]));
    ring.insert("games", Secret::from_bytes([2; 32]));
    if ring.verify(Some(field), NOW).is_ok() {
        let token = auth::sign("rollup", &Secret::from_bytes([1; 32]), NOW);
        assert!(field.eq_ignore_ascii_case(&format!("Bearer {token}")));
        assert!(field.ends_with(&token));
    }
    let _ = Secret::parse(field);
}

const NOW: u64 = 1_800_000_000;
