//! Whose keys lie on which device: what the arbiter is told of it, and its orders carried out.
//!
//! A device with memory of its own computes with a copy of a key, which came there when the key was registered if
//! there was room. The arbiter divides that room. Here is the book of who has how much of it, from what the devices
//! themselves say; each change is told to the arbiter ([`Command::Resident`]), which draws tenants to the devices that hold
//! their keys, and asks others to make room for an owner who lacks it ([`Residence::order`]).
//!
//! **An order** is carried out by a thread of its own, which may free and wait. Of the tenant's keys the ones that
//! have not been laid out for longest give up their copies: nothing begins with those from then on, plans that
//! have only been laid out let them go at once, and work that has begun on the device ends as it would. So no job is wrong or
//! begins again, and what is told as gone is gone. Then the room goes to the keys of the device's owner, the newest first.
//!
//! **Coming back.** When a job is laid out, its key comes to each device that its tenant holds, or
//! that nobody holds, as far as there is room.
//!
//! Bytes are those of the points and matrices in the key's file, which is what devices make of them too. The work itself
//! needs memory as well, so keys may have three quarters of a device ([`room`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use caldera_kernels::Device;
use caldera_prover::groth16::ProvingKey;
use caldera_scheduler::pool::{Kind, Pool};
use caldera_scheduler::{TenantId, UnitId};
use crossbeam::queue::ArrayQueue;

use crate::arbiter_thread::{Command, Inbox};
use crate::board::Board;
use crate::primitive::{Thread, current, park_timeout};

/// See the top of this file.
pub struct Residence {
    /// Of the devices, in their order: member 1 of the box's device is the first.
    rooms: Box<[Room]>,
    books: Mutex<Books>,
    orders: ArrayQueue<Order>,
    thread: OnceLock<Thread>,
    board: Arc<Board>,
    arbiter: Arc<Inbox>,
}

/// What the thread of [`Residence::run`] is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Free this. From the arbiter, which is told when it is done.
    Evict {
        /// Whose keys.
        tenant: TenantId,
        /// From which device.
        unit: UnitId,
        /// At least so many bytes.
        bytes: u64,
    },
    /// Look what is there: something may have gone by itself.
    Look {
        /// Of whose keys.
        tenant: TenantId,
    },
}

/// What one device has for keys.
struct Room {
    unit: UnitId,
    bytes: u64,
    /// Taken of it.
    held: AtomicU64,
}

#[derive(Default)]
struct Books {
    keys: Vec<Book>,
    /// Of each device, bytes that are on their way there.
    coming: Vec<u64>,
    /// What the arbiter was told last, by tenant and member.
    told: HashMap<(TenantId, usize), u64>,
    /// How many jobs have been laid out.
    jobs: u64,
}

/// One key.
struct Book {
    tenant: TenantId,
    key: Weak<ProvingKey>,
    /// The number of the last job that was laid out with it.
    used: u64,
    /// By device: bytes that are there.
    on: Box<[u64]>,
    /// Members that were told to give it up, a bit each.
    given_up: u64,
    /// Members that had no room for all of it, a bit each, until something has gone from there.
    refused: u64,
}

/// Orders that are being carried out.
#[derive(Debug, Default)]
pub struct Underway {
    evictions: Vec<Eviction>,
}

#[derive(Debug)]
struct Eviction {
    tenant: TenantId,
    member: usize,
    /// So much may stay.
    keeps: u64,
}

/// Of so many bytes of a device, those that keys may have. The rest is for work: a proof of 2^22 constraints
/// has a key of 2 GB and some 0.8 GB of vectors, digits and buckets, and no key is larger than the room.
pub fn room(memory: u64) -> u64 {
    memory - memory / 4
}

impl Residence {
    /// For the devices of a pool that has at most so many tenants.
    pub fn new(pool: &Pool, tenants: usize, board: Arc<Board>, arbiter: Arc<Inbox>) -> Residence {
        let devices = pool.units()[pool.range(Kind::Device)].iter();
        let rooms: Box<[Room]> = devices
            .map(|unit| Room {
                unit: unit.id(),
                bytes: unit.memory(),
                held: AtomicU64::new(0),
            })
            .collect();
        Residence {
            books: Mutex::new(Books {
                coming: vec![0; rooms.len()],
                ..Books::default()
            }),
            // The arbiter asks each tenant once on each device until it is answered, and once more after news that came
            // in between. The rest is for looks.
            orders: ArrayQueue::new(2 * tenants * rooms.len() + LOOKS_MAX),
            rooms,
            thread: OnceLock::new(),
            board,
            arbiter,
        }
    }

    /// A key has been loaded. Where it is more than there is room for it goes again. May free; called by the registrar.
    pub fn settle(&self, tenant: TenantId, key: &Arc<ProvingKey>) {
        if self.rooms.is_empty() {
            return;
        }
        let mut books = self.books();
        let mut book = Book {
            tenant,
            key: Arc::downgrade(key),
            used: books.jobs,
            on: vec![0; self.rooms.len()].into(),
            given_up: 0,
            refused: 0,
        };
        for (at, room) in self.rooms.iter().enumerate() {
            book.read(at, key);
            if book.on[at] < key.copy_len() as u64 {
                book.refused |= 1 << (at + 1);
            }
            if book.on[at] > room.bytes.saturating_sub(books.taken(at)) {
                book.give_up(at);
                key.copy_free(at + 1);
                book.read(at, key);
            }
        }
        books.keys.push(book);
        self.tell(&mut books, tenant, None);
    }

    /// A job is about to be laid out with a key: it comes where its tenant can use it and there is room. Called by
    /// preparers.
    pub fn bring(&self, key: &Arc<ProvingKey>) {
        if self.rooms.is_empty() {
            return;
        }
        let tenant = {
            let mut books = self.books();
            books.jobs += 1;
            let jobs = books.jobs;
            let Some(book) = books.find(key) else {
                return;
            };
            book.used = jobs;
            book.tenant
        };
        for (at, room) in self.rooms.iter().enumerate() {
            let holder = self.board.holder(usize::from(room.unit.0));
            if holder.is_none_or(|holder| holder == tenant) {
                self.bring_to(at, key);
            }
        }
    }

    /// Bytes of keys on a device, by its number among the devices.
    pub fn held(&self, device: usize) -> Option<u64> {
        let room = self.rooms.get(device)?;
        Some(room.held.load(Ordering::Relaxed))
    }

    /// Leaves an order. Neither waits nor allocates: called by the arbiter's thread too.
    pub fn order(&self, order: Order) {
        if self.rooms.is_empty() {
            return;
        }
        // A full queue drops its oldest: whoever lacks room then waits for the tenant's next news.
        self.orders.force_push(order);
        self.wake();
    }

    /// Wakes the thread that carries orders out.
    pub fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Carries out orders until the box stops. Called once, on a thread of its own.
    ///
    /// Now and then, and in the end, `device` writes down what it has learnt: this thread may wait for a disk.
    pub fn run(&self, device: &dyn Device) {
        let first = self.thread.set(current());
        assert!(first.is_ok(), "one thread carries out orders");
        let mut underway = Underway::default();
        let mut kept = Instant::now();
        while !self.board.stopping() {
            match self.round(&mut underway) {
                true => park_timeout(KEEP_EVERY),
                // Work on a device does not say when it lets go.
                false => park_timeout(LOOK_EVERY),
            }
            if kept.elapsed() >= KEEP_EVERY {
                device.keep();
                kept = Instant::now();
            }
        }
        device.keep();
    }

    /// Takes orders in, and goes as far with all that are under way as can be gone now; whether that is to the end.
    /// Frees; called by [`Residence::run`], by whose thread alone if that runs.
    pub fn round(&self, underway: &mut Underway) -> bool {
        while let Some(order) = self.orders.pop() {
            self.take_in(order, &mut underway.evictions);
        }
        underway.evictions.retain(|it| !self.carry_out(it));
        underway.evictions.is_empty()
    }

    fn take_in(&self, order: Order, underway: &mut Vec<Eviction>) {
        let (tenant, unit, bytes) = match order {
            Order::Evict {
                tenant,
                unit,
                bytes,
            } => (tenant, unit, bytes),
            Order::Look { tenant } => return self.tell(&mut self.books(), tenant, None),
        };
        let Some(at) = self.rooms.iter().position(|room| room.unit == unit) else {
            return;
        };
        let member = at + 1;
        let told = self.books().told.get(&(tenant, member)).copied();
        let keeps = told.unwrap_or(0).saturating_sub(bytes);
        // A newer order was given by one who knew more.
        underway.retain(|it| (it.tenant, it.member) != (tenant, member));
        underway.push(Eviction {
            tenant,
            member,
            keeps,
        });
    }

    /// Goes as far as can be gone with an order now; whether it is carried out.
    fn carry_out(&self, order: &Eviction) -> bool {
        let at = order.member - 1;
        let mut books = self.books();
        books.forget();
        if self.board.holder(usize::from(self.rooms[at].unit.0)) == Some(order.tenant) {
            // It owns the device by now, and nobody needs the room: should somebody again, the arbiter asks again.
            self.tell(&mut books, order.tenant, Some(order.member));
            return true;
        }
        let mut own: Vec<&mut Book> = books
            .keys
            .iter_mut()
            .filter(|book| book.tenant == order.tenant && book.on[at] > 0)
            .collect();
        own.sort_by_key(|book| book.used);
        let stays = own.iter().filter(|book| !book.is_given_up(at));
        let mut stays: u64 = stays.map(|book| book.on[at]).sum();
        let mut leaving = 0;
        for book in own {
            if stays > order.keeps && !book.is_given_up(at) {
                stays -= book.on[at];
                book.give_up(at);
            }
            if book.is_given_up(at) {
                if let Some(key) = book.key.upgrade() {
                    key.copy_free(order.member);
                    book.read(at, &key);
                }
                leaving += book.on[at];
            }
        }
        if leaving > 0 {
            // Also where enough has gone: nobody else would look when the rest has.
            return false;
        }
        self.tell(&mut books, order.tenant, Some(order.member));
        drop(books);
        self.fill(at);
        true
    }

    /// Brings keys of a device's owner to it, the newest first, while there is room.
    fn fill(&self, at: usize) {
        let Some(owner) = self.board.holder(usize::from(self.rooms[at].unit.0)) else {
            return;
        };
        let mut keys: Vec<(u64, Arc<ProvingKey>)> = {
            let books = self.books();
            let own = books.keys.iter().filter(|book| book.tenant == owner);
            own.filter_map(|book| Some((book.used, book.key.upgrade()?)))
                .collect()
        };
        keys.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
        for (_, key) in keys {
            self.bring_to(at, &key);
        }
    }

    /// Brings what a device lacks of a key, if there is room.
    fn bring_to(&self, at: usize, key: &Arc<ProvingKey>) {
        let member = at + 1;
        if key.device().is_lost(member) {
            return;
        }
        let (tenant, missing) = {
            let mut books = self.books();
            let free = self.rooms[at].bytes.saturating_sub(books.taken(at));
            let Some(book) = books.find(key) else {
                return;
            };
            let missing = (key.copy_len() as u64).saturating_sub(book.on[at]);
            let is_whole = missing == 0 && !book.is_given_up(at);
            let is_refused = book.refused >> member & 1 == 1;
            if is_whole || is_refused || missing > free {
                return;
            }
            book.given_up &= !(1 << member);
            let tenant = book.tenant;
            books.coming[at] += missing;
            (tenant, missing)
        };
        // Without the lock: it may be gigabytes.
        let came = key.copy(member);
        let mut books = self.books();
        books.coming[at] -= missing;
        if let Some(book) = books.find(key) {
            if let Err(error) = came {
                // What came of it is of use; the rest is not tried with every job.
                let unit = self.rooms[at].unit;
                tracing::warn!(%tenant, %unit, %error, "a key does not come to a device as a whole");
                book.refused |= 1 << member;
            }
            book.read(at, key);
        }
        self.tell(&mut books, tenant, None);
    }

    /// Tells the arbiter what a tenant has on each device if that is news, and on one member whether it is or not.
    fn tell(&self, books: &mut Books, tenant: TenantId, asked: Option<usize>) {
        books.forget();
        for (at, room) in self.rooms.iter().enumerate() {
            let member = at + 1;
            let all: u64 = books.keys.iter().map(|book| book.on[at]).sum();
            if all < room.held.swap(all, Ordering::Relaxed) {
                for book in &mut books.keys {
                    book.refused &= !(1 << member);
                }
            }
            let own = books.keys.iter().filter(|book| book.tenant == tenant);
            let bytes: u64 = own.map(|book| book.on[at]).sum();
            let before = books.told.insert((tenant, member), bytes).unwrap_or(0);
            if before != bytes || asked == Some(member) {
                // In the order in which it became so, for the lock is held.
                self.arbiter.send_waiting(Command::Resident {
                    tenant,
                    unit: room.unit,
                    bytes,
                });
            }
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // A panic leaves figures behind that are read again from the devices.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn forget(&mut self) {
        self.keys.retain(|book| book.key.strong_count() > 0);
    }

    fn find(&mut self, key: &Arc<ProvingKey>) -> Option<&mut Book> {
        let same = |book: &&mut Book| std::ptr::eq(book.key.as_ptr(), Arc::as_ptr(key));
        self.keys.iter_mut().find(same)
    }

    /// Bytes of a device that are taken, or will be in a moment.
    fn taken(&mut self, at: usize) -> u64 {
        self.forget();
        let held: u64 = self.keys.iter().map(|book| book.on[at]).sum();
        held + self.coming[at]
    }
}

impl Book {
    fn give_up(&mut self, at: usize) {
        self.given_up |= 1 << (at + 1);
    }

    fn is_given_up(&self, at: usize) -> bool {
        self.given_up >> (at + 1) & 1 == 1
    }

    /// Asks the device what is there. What a lost one had is gone with it.
    fn read(&mut self, at: usize, key: &ProvingKey) {
        self.on[at] = match key.device().is_lost(at + 1) {
            true => 0,
            false => key.copy_bytes(at + 1) as u64,
        };
    }
}

/// Looks that are waiting; what does not fit drops an older one.
const LOOKS_MAX: usize = 256;
/// How often it is looked whether work has let a copy go that was given up.
/// What is lost of it with the power costs the time of measuring again.
const KEEP_EVERY: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(10);
