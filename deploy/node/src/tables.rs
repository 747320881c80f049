//! The table maker: spends the memory that is granted for tables on the keys that prove.
//!
//! Tables make proofs with a key cheaper and cost several times the key's bytes (docs/kernels.md),
//! so they are for keys that prove again and again. A key gets its tables after a proof with it,
//! when the device has seen what its scalars are like; they are made on this thread, beside the
//! workers, and jobs laid out later use them. When the grant is spent, the keys that have not
//! proved for longest give theirs up, if that is a minute ago at least: two keys that take turns
//! must not throw each other out. When the grant shrinks they go at once, whoever's they are.
//!
//! Tenants that are quiet give their tables back ([`Request::Release`]). The service is told what each
//! circuit's tables take whenever that changes, for it has to know what a tenant holds.
//!
//! Nothing waits for tables and no proof depends on them: a job that is under way keeps what it
//! uses to its end, one that is laid out meanwhile is laid out without.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use caldera_kernels::Progress;
use caldera_prover::groth16::ProvingKey;
use caldera_rpc::chain::chain;
use caldera_rpc::methods::Digest;
use caldera_scheduler::TenantId;

use crate::service::{Message, Post};

/// A circuit of one tenant.
pub type CircuitId = (TenantId, Digest);

/// What the table maker is told.
pub enum Request {
    /// A proof has been made.
    Proved {
        /// Of which circuit.
        circuit: CircuitId,
        /// With which key.
        key: Arc<ProvingKey>,
        /// The bytes of its file.
        bytes: u64,
    },
    /// A circuit is off its tenant's list.
    Gone {
        /// Which.
        circuit: CircuitId,
    },
    /// These circuits give up their tables and their keys' place here. Answered by
    /// [`Message::TablesReleased`], when the tables are freed.
    Release {
        /// Comes back with the answer.
        release: u64,
        /// Which.
        circuits: Vec<CircuitId>,
    },
    /// All tables together may take so many bytes from now on.
    Grant {
        /// So many.
        bytes: u64,
    },
}

/// The table maker before its thread starts.
pub struct TableMaker {
    requests: Receiver<Request>,
    shelf: Shelf<Arc<ProvingKey>>,
    held: Arc<AtomicU64>,
    /// What the service was told last of each circuit that has tables.
    told: HashMap<CircuitId, u64>,
    service: Post,
}

impl TableMaker {
    /// A maker that may spend `grant` bytes, and on one key so many times its file. What the
    /// tables take is told in `held`.
    pub fn new(
        requests: Receiver<Request>,
        grant: u64,
        times: u32,
        held: Arc<AtomicU64>,
        service: Post,
    ) -> TableMaker {
        TableMaker {
            requests,
            shelf: Shelf {
                grant,
                times: u64::from(times),
                books: Vec::new(),
            },
            held,
            told: HashMap::new(),
            service,
        }
    }

    /// Works until nobody is left who could ask. Called once, on the maker's own thread.
    pub fn run(mut self) {
        while let Ok(request) = self.requests.recv() {
            let answer = self.take(request);
            self.tell(answer);
            while let Some(circuit) = self.shelf.next() {
                if !self.make(circuit) {
                    return;
                }
            }
        }
    }

    /// Does what a request asks for, but for the making; what is to be answered when the tables that
    /// are being made, if they are among those that go, are gone too.
    fn take(&mut self, request: Request) -> Option<Message> {
        let mut answer = None;
        let gone = match request {
            Request::Proved {
                circuit,
                key,
                bytes,
            } => self.shelf.proved(circuit, key, bytes, Instant::now()),
            Request::Gone { circuit } => self.shelf.gone(circuit),
            Request::Release { release, circuits } => {
                let before = self.shelf.held();
                let of = circuits.into_iter();
                let gone = of.flat_map(|circuit| self.shelf.gone(circuit)).collect();
                answer = Some(Message::TablesReleased {
                    release,
                    bytes: before - self.shelf.held(),
                });
                gone
            }
            Request::Grant { bytes } => self.shelf.granted(bytes),
        };
        for key in gone {
            key.tables_free();
        }
        answer
    }

    /// Makes a circuit's tables, or stops where they are not to be made any more. False when nobody
    /// is left who could ask.
    fn make(&mut self, circuit: CircuitId) -> bool {
        let Some(book) = self.shelf.find(circuit) else {
            return true;
        };
        let (key, bytes) = (Arc::clone(&book.key), book.given);
        let (_, digest) = circuit;
        let began = Instant::now();
        // Both kinds at once would be more than was granted.
        key.tables_free();
        let plan = key
            .tables(usize::try_from(bytes).unwrap_or(usize::MAX))
            .and_then(|plan| plan.open(0).map(|lanes| (plan, lanes)));
        let (plan, lanes) = match plan {
            Ok(plan) => plan,
            Err(error) => {
                tracing::warn!(circuit = %digest, error = %chain(&error), "no tables");
                self.shelf.made(circuit, 0);
                return true;
            }
        };
        for lane in 0..lanes {
            loop {
                let quantum = catch_unwind(AssertUnwindSafe(|| plan.run(0, lane)));
                match quantum {
                    Ok(Ok(Progress::More)) => {}
                    Ok(Ok(Progress::Done)) => break,
                    failed => {
                        tracing::error!(circuit = %digest, ?failed, "making tables");
                        key.tables_free();
                        self.shelf.made(circuit, 0);
                        return true;
                    }
                }
                match self.requests.try_recv() {
                    Ok(request) => {
                        let answer = self.take(request);
                        let stays = self.shelf.find(circuit);
                        if stays.is_none_or(|book| book.given != bytes) {
                            drop(plan);
                            key.tables_free();
                            drop(key);
                            self.tell(answer);
                            return true;
                        }
                        self.tell(answer);
                    }
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => return false,
                }
            }
        }
        drop(plan);
        let took = key.tables_bytes() as u64;
        self.shelf.made(circuit, took);
        self.tell(None);
        let ms = began.elapsed().as_millis() as u64;
        tracing::info!(circuit = %digest, bytes = took, ms, "tables ready");
        true
    }

    /// Tells what is held now, and then what was asked.
    fn tell(&mut self, answer: Option<Message>) {
        // A figure to look at: nothing is ordered by it.
        self.held.store(self.shelf.held(), Ordering::Relaxed);
        let books = self.shelf.books.iter().filter(|book| book.made);
        let now: HashMap<CircuitId, u64> = books.map(|book| (book.circuit, book.bytes)).collect();
        let gone = self
            .told
            .keys()
            .filter(|circuit| !now.contains_key(circuit));
        let changed = now
            .iter()
            .filter(|(of, bytes)| self.told.get(of) != Some(bytes));
        let news = gone.map(|circuit| (*circuit, 0));
        for (circuit, bytes) in news.chain(changed.map(|(of, bytes)| (*of, *bytes))) {
            self.service.send(Message::Tables { circuit, bytes });
        }
        self.told = now;
        if let Some(answer) = answer {
            self.service.send(answer);
        }
    }
}

/// Who has tables, and of how many bytes: the rules without the keys.
struct Shelf<K> {
    grant: u64,
    times: u64,
    books: Vec<Book<K>>,
}

/// What one circuit has.
struct Book<K> {
    circuit: CircuitId,
    key: K,
    /// What it may take.
    given: u64,
    /// What it takes, once it is made; before that as much as it may.
    bytes: u64,
    made: bool,
    proved: Instant,
}

impl<K: Clone> Shelf<K> {
    fn held(&self) -> u64 {
        let made = self.books.iter().filter(|book| book.made);
        made.map(|book| book.bytes).sum()
    }

    fn find(&self, circuit: CircuitId) -> Option<&Book<K>> {
        self.books.iter().find(|book| book.circuit == circuit)
    }

    /// A circuit whose tables are to be made.
    fn next(&self) -> Option<CircuitId> {
        let book = self.books.iter().find(|book| !book.made)?;
        Some(book.circuit)
    }

    fn left(&self) -> u64 {
        let spent = self.books.iter().map(|book| book.bytes).sum();
        self.grant.saturating_sub(spent)
    }

    /// Notes a proof, which may be an order for tables. Who loses tables by it.
    fn proved(&mut self, circuit: CircuitId, key: K, key_bytes: u64, now: Instant) -> Vec<K> {
        let wanted = key_bytes.saturating_mul(self.times).min(self.grant);
        let mut gone = Vec::new();
        let (mut has, mut given) = (0, 0);
        for book in &mut self.books {
            if book.circuit == circuit {
                book.proved = now;
                (has, given) = (book.bytes, book.given);
            }
        }
        // As much more as the key itself, or all of it, or it is not worth making them anew.
        let worth = given.saturating_add(key_bytes).min(wanted);
        if given >= wanted {
            return gone;
        }
        while self.left() + has < wanted {
            let others = self.books.iter().enumerate();
            let idle = others
                .filter(|(_, book)| book.circuit != circuit)
                .filter(|(_, book)| now.saturating_duration_since(book.proved) >= PATIENCE)
                .min_by_key(|(_, book)| book.proved);
            let Some((at, _)) = idle else { break };
            gone.push(self.books.remove(at).key);
        }
        let given = wanted.min(self.left() + has);
        if given < worth {
            return gone;
        }
        self.books.retain(|book| book.circuit != circuit);
        self.books.push(Book {
            circuit,
            key,
            given,
            bytes: given,
            made: false,
            proved: now,
        });
        gone
    }

    /// What a circuit's tables came to.
    fn made(&mut self, circuit: CircuitId, bytes: u64) {
        for book in &mut self.books {
            if book.circuit == circuit {
                (book.bytes, book.made) = (bytes, true);
            }
        }
    }

    fn gone(&mut self, circuit: CircuitId) -> Vec<K> {
        let gone = self.books.extract_if(.., |book| book.circuit == circuit);
        gone.map(|book| book.key).collect()
    }

    /// Changes the grant. Who loses tables by it.
    fn granted(&mut self, bytes: u64) -> Vec<K> {
        self.grant = bytes;
        let mut gone = Vec::new();
        while self.books.iter().map(|book| book.bytes).sum::<u64>() > bytes {
            let idlest = self
                .books
                .iter()
                .enumerate()
                .min_by_key(|(_, book)| book.proved);
            let Some((at, _)) = idlest else { break };
            gone.push(self.books.remove(at).key);
        }
        gone
    }
}

/// How long a key may have not proved before others may have its tables.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(number: u8) -> CircuitId {
        (TenantId(0), Digest([number; 32]))
    }

    fn shelf(grant: u64) -> Shelf<u8> {
        Shelf {
            grant,
            times: 4,
            books: Vec::new(),
        }
    }

    /// A proof, and the making that it orders if it does.
    fn prove(shelf: &mut Shelf<u8>, number: u8, now: Instant) -> (Vec<u8>, Option<u64>) {
        let gone = shelf.proved(circuit(number), number, 100, now);
        let made = shelf.next().map(|of| {
            assert_eq!(of, circuit(number));
            let bytes = shelf.find(of).expect("it was ordered").given;
            shelf.made(of, bytes);
            bytes
        });
        let spent: u64 = shelf.books.iter().map(|book| book.bytes).sum();
        assert!(spent <= shelf.grant, "{spent} of {}", shelf.grant);
        (gone, made)
    }

    #[test]
    fn a_key_gets_its_tables_once() {
        let (mut shelf, now) = (shelf(1000), Instant::now());
        assert_eq!(prove(&mut shelf, 1, now), (vec![], Some(400)));
        assert_eq!(prove(&mut shelf, 1, now), (vec![], None));
        assert_eq!(shelf.held(), 400);
    }

    #[test]
    fn an_idle_key_gives_way_and_a_busy_one_does_not() {
        let (mut shelf, now) = (shelf(1000), Instant::now());
        prove(&mut shelf, 1, now);
        prove(&mut shelf, 2, now);
        // What is left is twice the third key's file.
        assert_eq!(prove(&mut shelf, 3, now), (vec![], Some(200)));
        assert_eq!(prove(&mut shelf, 4, now), (vec![], None));
        let later = now + PATIENCE;
        prove(&mut shelf, 1, later);
        assert_eq!(prove(&mut shelf, 4, later), (vec![2], Some(400)));
        assert!(shelf.find(circuit(1)).is_some());
    }

    #[test]
    fn a_smaller_grant_takes_at_once_and_a_larger_one_gives_at_the_next_proof() {
        let (mut shelf, now) = (shelf(1000), Instant::now());
        prove(&mut shelf, 1, now);
        prove(&mut shelf, 2, now + Duration::from_secs(1));
        assert_eq!(shelf.granted(500), [1]);
        assert_eq!(shelf.granted(0), [2]);
        assert_eq!(shelf.held(), 0);
        assert_eq!(prove(&mut shelf, 1, now), (vec![], None));
        assert_eq!(shelf.granted(300), [0; 0]);
        assert_eq!(prove(&mut shelf, 1, now), (vec![], Some(300)));
        assert_eq!(shelf.granted(1000), [0; 0]);
        assert_eq!(prove(&mut shelf, 1, now), (vec![], Some(400)));
    }

    #[test]
    fn a_circuit_that_is_gone_takes_its_tables_along() {
        let (mut shelf, now) = (shelf(1000), Instant::now());
        prove(&mut shelf, 1, now);
        assert_eq!(shelf.gone(circuit(1)), [1]);
        assert_eq!(shelf.gone(circuit(1)), [0; 0]);
        assert_eq!(shelf.left(), 1000);
    }
}
