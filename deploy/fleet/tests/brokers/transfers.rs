//! Bytes from box to box: whole or not at all, and to nobody else.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use caldera_fleet::calderad::{Calderad, Part};
use caldera_fleet::transfer::{Grants, Identity, TransferError, Wanted, fetch, serve};
use caldera_fleet::{BoxId, Token, admission};
use caldera_scheduler::JobId;

use crate::r#box::{TestBox, digest};
use crate::servers::NO_KEY;
use crate::{A, B, C};

const JOB: JobId = JobId(5);
const TOKEN: Token = Token(3);
/// More than a connection holds back before it sends.
const KEY_BYTES: usize = 3_000_000;

fn a_long_key() -> Arc<Vec<u8>> {
    Arc::new((0..KEY_BYTES).map(|n| (n >> 4) as u8).collect())
}

fn identity(fleet: &Path, who: BoxId) -> Identity {
    let own = admission::admit(fleet, who, NO_KEY).expect("it is admitted");
    Identity::open(
        &own.join("ca.crt"),
        &own.join("box.crt"),
        &own.join("box.key"),
    )
    .expect("an identity")
}

/// Box A gives out a job that is placed with B.
async fn giver(fleet: &Path) -> (Arc<TestBox>, Grants, SocketAddr) {
    let calderad = Arc::new(TestBox::default());
    calderad.submit(JOB.0..JOB.0 + 1, &a_long_key());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let grants = Grants::default();
    grants.give(JOB, TOKEN, B, (100_000, KEY_BYTES as u64));
    let identity = identity(fleet, A);
    tokio::spawn(serve(
        listener,
        identity,
        grants.clone(),
        Arc::clone(&calderad),
    ));
    (calderad, grants, address)
}

#[test]
fn what_was_cut_off_goes_on_and_what_is_wrong_is_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = folder.path().join("fleet");
    admission::init(&fleet).expect("an authority");
    crate::runtime().block_on(async {
        let (calderad, _, address) = giver(&fleet).await;
        let me = identity(&fleet, B);
        let mut wanted = Wanted {
            who: A,
            address,
            job: JOB,
            token: TOKEN,
            part: Part::Key,
            digest: digest(&a_long_key()),
            bytes: KEY_BYTES as u64,
        };
        let file = folder.path().join("key.zkey");
        calderad.state().reads_left = Some(60);
        let error = fetch(&me, &wanted, &file).await.expect_err("it is cut off");
        assert!(matches!(error, TransferError::Away { .. }), "{error}");
        assert!(!file.exists());
        let begun = std::fs::metadata(file.with_extension("part"))
            .expect("a part")
            .len();
        assert!(begun > 0);
        calderad.state().reads_left = None;
        calderad.state().reads.clear();
        fetch(&me, &wanted, &file).await.expect("it comes");
        assert_eq!(calderad.state().reads[0], (Part::Key, begun));
        assert_eq!(std::fs::read(&file).expect("a file"), **a_long_key());
        // What is there is not fetched again.
        calderad.state().reads.clear();
        fetch(&me, &wanted, &file).await.expect("it is there");
        assert_eq!(calderad.state().reads, []);

        let other = folder.path().join("other.zkey");
        wanted.digest = digest(b"something else");
        let error = fetch(&me, &wanted, &other)
            .await
            .expect_err("it is something else");
        assert!(matches!(error, TransferError::Corrupt { .. }), "{error}");
        wanted.digest = digest(&a_long_key());
        wanted.bytes = KEY_BYTES as u64 - 1;
        let error = fetch(&me, &wanted, &other).await.expect_err("it is longer");
        assert!(matches!(error, TransferError::Corrupt { .. }), "{error}");
        assert!(!other.exists() && !other.with_extension("part").exists());
        let whole = calderad.read(JOB, Part::Witness, 0).await.expect("a piece");
        assert!(!whole.is_empty());
    });
}

#[test]
fn nobody_has_what_is_placed_with_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let (fleet, others) = (folder.path().join("fleet"), folder.path().join("others"));
    admission::init(&fleet).expect("an authority");
    admission::init(&others).expect("another");
    crate::runtime().block_on(async {
        let (calderad, grants, address) = giver(&fleet).await;
        let right = Wanted {
            who: A,
            address,
            job: JOB,
            token: TOKEN,
            part: Part::Witness,
            digest: [0; 32],
            bytes: 100_000,
        };
        let file = folder.path().join("witness.wtns");
        let b = identity(&fleet, B);
        let refused = async |who: &Identity, wanted: Wanted| {
            let error = fetch(who, &wanted, &file).await.expect_err("it is refused");
            assert!(!file.exists());
            error
        };
        let c = identity(&fleet, C);
        let older = Wanted {
            token: Token(2),
            ..right
        };
        let another = Wanted {
            job: JobId(6),
            ..right
        };
        for (who, wanted) in [(&c, right), (&b, older), (&b, another)] {
            let error = refused(who, wanted).await;
            assert!(
                matches!(error, TransferError::Refused { got, .. } if got == 404),
                "{error}"
            );
        }
        // Of another fleet, with the same name.
        let stranger = identity(&others, B);
        let error = refused(&stranger, right).await;
        assert!(matches!(error, TransferError::Away { .. }), "{error}");
        // A box that is not the one that was asked.
        let impostor = Wanted { who: C, ..right };
        let error = refused(&b, impostor).await;
        assert!(matches!(error, TransferError::Away { .. }), "{error}");
        assert_eq!(calderad.state().reads, []);
        grants.end(JOB, TOKEN);
        let error = refused(&b, right).await;
        assert!(matches!(error, TransferError::Refused { .. }), "{error}");
    });
}
