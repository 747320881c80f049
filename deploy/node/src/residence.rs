//! Whose keys lie on which device: what the arbiter is told of it, and its orders carried out.
//!
//! A device with memory of its own computes with a copy of a key. The arbiter divides the room for those. Here is the
//! book of who has how much of it, from what the devices themselves say; each change is told to the
//! arbiter ([`Command::Resident`]), which draws tenants to the devices that hold their keys, and asks others to make room
//! for an owner who lacks it ([`Residence::evict`]).
//!
//! **One thread** brings and frees copies, and has the book for itself: nobody else puts a key on a device
//! ([`Device::copies_by_order`]), so none ever has more than its room. Who loads
//! a key or lays a job out leaves a request and goes on.
//!
//! **Coming.** A key that has been loaded comes to each device that has room for it. When a job is laid out, its key
//! comes to each device that its tenant holds, or that nobody holds, as far as there is room; that job does without, unless
//! the key was there before.
//!
//! **An order** names those whose keys may go and how much of them. The newest key of the device's owner that is not there
//! says what is lacking, and `caldera_scheduler::eviction` which keys go for it: enough, or none. Those give up their
//! copies: nothing begins with them from then on, plans that have only been laid out let them go at once, and work
//! that has begun on the device ends as it would. So no job is wrong or begins again, and what is told as gone is
//! gone. Then the room goes to the keys of the device's owner, the newest first, and the order is answered
//! ([`Command::Evicted`]). Until then nobody else's key comes to the device.
//!
//! Bytes are those of the points and matrices in the key's file, which is what devices make of them too. The work itself
//! needs memory as well, so keys may have three quarters of a device ([`room`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use caldera_kernels::Device;
use caldera_prover::groth16::ProvingKey;
use caldera_scheduler::eviction::{Piece, Victim, choose};
use caldera_scheduler::pool::{Kind, Pool};
use caldera_scheduler::{TenantId, UnitId};
use crossbeam::queue::ArrayQueue;

use crate::arbiter_thread::{Command, Inbox};
use crate::board::Board;
use crate::primitive::{Thread, current, park_timeout};

/// What other threads know of it; see the top of this file.
pub struct Residence {
    /// Of the devices, in their order: member 1 of the box's device is the first.
    rooms: Box<[Room]>,
    orders: ArrayQueue<Order>,
    requests: ArrayQueue<Request>,
    thread: OnceLock<Thread>,
    board: Arc<Board>,
    arbiter: Arc<Inbox>,
}

/// What one device has for keys.
struct Room {
    unit: UnitId,
    bytes: u64,
    /// Taken of it.
    held: AtomicU64,
}

/// An order of the arbiter's, piece by piece: it may not allocate.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// One of those whose keys may go by the order that comes after them.
    Victim(Victim),
    /// To make room on a device for its owner.
    Evict { unit: UnitId, owner: TenantId },
}

/// What others ask.
#[derive(Debug, Clone)]
enum Request {
    /// A key is to come to devices where there is room.
    Bring {
        tenant: TenantId,
        key: Weak<ProvingKey>,
        /// Whether it comes to those that others hold too.
        everywhere: bool,
    },
    /// Look what is there: something may have gone by itself.
    Look { tenant: TenantId },
}

/// The book, and the orders that are being carried out. Belongs to the thread of [`Residence::run`].
#[derive(Default)]
pub struct Books {
    keys: Vec<Book>,
    /// What the arbiter was told last, by tenant and device.
    told: HashMap<(TenantId, usize), u64>,
    /// How many requests have come with a job or a key.
    asked: u64,
    /// Of an order that has not come as a whole.
    victims: Vec<Victim>,
    evictions: Vec<Eviction>,
}

/// One key.
struct Book {
    tenant: TenantId,
    key: Weak<ProvingKey>,
    /// The number of the last request for it.
    used: u64,
    /// By device: bytes that are there.
    on: Box<[u64]>,
    /// Devices that were told to give it up, a bit each.
    given_up: u64,
    /// Devices that had no room for all of it, a bit each, until something has gone from there.
    refused: u64,
}

struct Eviction {
    device: usize,
    owner: TenantId,
    victims: Vec<Victim>,
    /// Keys have been chosen, and go.
    is_chosen: bool,
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
            // The arbiter has one order for a device at a time, with a victim for each tenant at most.
            orders: ArrayQueue::new((rooms.len() * (tenants + 1)).max(1)),
            requests: ArrayQueue::new(REQUESTS_MAX),
            rooms,
            thread: OnceLock::new(),
            board,
            arbiter,
        }
    }

    /// A key has been loaded: it comes to each device that has room.
    pub fn settle(&self, tenant: TenantId, key: &Arc<ProvingKey>) {
        self.request(Request::Bring {
            tenant,
            key: Arc::downgrade(key),
            everywhere: true,
        });
    }

    /// A job is about to be laid out with a key: it comes where its tenant can use it and there is room.
    pub fn bring(&self, tenant: TenantId, key: &Arc<ProvingKey>) {
        self.request(Request::Bring {
            tenant,
            key: Arc::downgrade(key),
            everywhere: false,
        });
    }

    /// Keys of a tenant may have gone.
    pub fn look(&self, tenant: TenantId) {
        self.request(Request::Look { tenant });
    }

    /// Orders room to be made for a device's owner. Answered by [`Command::Evicted`]; there is no other order for the
    /// device until then. Neither waits nor allocates: called by the arbiter's thread.
    pub fn evict(&self, unit: UnitId, owner: TenantId, victims: impl Iterator<Item = Victim>) {
        let victims = victims.map(Order::Victim);
        for order in victims.chain([Order::Evict { unit, owner }]) {
            let came = self.orders.push(order);
            assert!(came.is_ok(), "one order for a device at a time");
        }
        self.wake();
    }

    /// Bytes of keys on a device, by its number among the devices.
    pub fn held(&self, device: usize) -> Option<u64> {
        let room = self.rooms.get(device)?;
        Some(room.held.load(Ordering::Relaxed))
    }

    fn request(&self, request: Request) {
        if self.rooms.is_empty() {
            return;
        }
        // A full queue drops its oldest: a key then comes with its tenant's next job, and what has gone is found with
        // the next news of its tenant.
        self.requests.force_push(request);
        self.wake();
    }

    /// Wakes the thread that keeps the book.
    pub fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Does what is asked until the box stops. Called once, on a thread of its own.
    ///
    /// Now and then, and in the end, `device` writes down what it has learnt: this thread may wait for a disk.
    pub fn run(&self, device: &dyn Device) {
        let first = self.thread.set(current());
        assert!(first.is_ok(), "one thread keeps the book");
        let mut books = Books::default();
        let mut kept = Instant::now();
        while !self.board.stopping() {
            match self.round(&mut books) {
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

    /// Does what is asked, and goes as far with all orders that are under way as can be gone now; whether that is to the
    /// end. Copies and frees; called with one book all the time, by [`Residence::run`] if that runs.
    pub fn round(&self, books: &mut Books) -> bool {
        while let Some(request) = self.requests.pop() {
            match request {
                Request::Look { tenant } => self.tell(books, tenant),
                Request::Bring {
                    tenant,
                    key,
                    everywhere,
                } => {
                    if let Some(key) = key.upgrade() {
                        self.attend(books, tenant, &key, everywhere);
                    }
                }
            }
        }
        while let Some(order) = self.orders.pop() {
            match order {
                Order::Victim(victim) => books.victims.push(victim),
                Order::Evict { unit, owner } => {
                    let victims = std::mem::take(&mut books.victims);
                    let device = self.rooms.iter().position(|room| room.unit == unit);
                    books.evictions.extend(device.map(|device| Eviction {
                        device,
                        owner,
                        victims,
                        is_chosen: false,
                    }));
                }
            }
        }
        for mut order in std::mem::take(&mut books.evictions) {
            if !self.carry_out(books, &mut order) {
                books.evictions.push(order);
            }
        }
        books.evictions.is_empty()
    }

    /// A key is wanted on devices.
    fn attend(&self, books: &mut Books, tenant: TenantId, key: &Arc<ProvingKey>, everywhere: bool) {
        books.asked += 1;
        let used = books.asked;
        match books.find(key) {
            Some(book) => book.used = used,
            None => books.keys.push(Book {
                tenant,
                key: Arc::downgrade(key),
                used,
                on: vec![0; self.rooms.len()].into(),
                given_up: 0,
                refused: 0,
            }),
        }
        for (device, room) in self.rooms.iter().enumerate() {
            let holder = self.board.holder(usize::from(room.unit.0));
            if everywhere || holder.is_none_or(|holder| holder == tenant) {
                self.bring_to(books, device, key);
            }
        }
    }

    /// Goes as far as can be gone with an order now; whether it is carried out, or cannot be.
    fn carry_out(&self, books: &mut Books, order: &mut Eviction) -> bool {
        let Eviction { device, owner, .. } = *order;
        books.refresh(device);
        let unit = self.rooms[device].unit;
        let holder = self.board.holder(usize::from(unit.0));
        if !order.is_chosen {
            // Somebody else may own it by now: should the owner of the order again, the arbiter asks again.
            let lacks = match holder == Some(owner) {
                true => books.lacks(device, owner, &self.rooms[device]),
                false => 0,
            };
            let chosen = match lacks {
                0 => Some(Vec::new()),
                lacks => books.choose(device, lacks, &order.victims),
            };
            let Some(chosen) = chosen else {
                self.answer(unit, false);
                return true;
            };
            for at in chosen {
                books.keys[at].give_up(device);
            }
            order.is_chosen = true;
        }
        let mut leaving = 0;
        for book in books.keys.iter_mut().filter(|it| it.is_given_up(device)) {
            if let Some(key) = book.key.upgrade() {
                key.copy_free(device + 1);
                book.read(device, &key);
            }
            leaving += book.on[device];
        }
        if leaving > 0 {
            return false;
        }
        for victim in &order.victims {
            self.tell(books, victim.tenant);
        }
        self.fill(books, device);
        self.answer(unit, true);
        true
    }

    fn answer(&self, unit: UnitId, made: bool) {
        self.arbiter.send_waiting(Command::Evicted { unit, made });
    }

    /// Brings keys of a device's owner to it, the newest first, while there is room.
    fn fill(&self, books: &mut Books, device: usize) {
        let Some(owner) = self.board.holder(usize::from(self.rooms[device].unit.0)) else {
            return;
        };
        let own = books.keys.iter().filter(|book| book.tenant == owner);
        let mut keys: Vec<_> = own
            .filter_map(|book| Some((book.used, book.key.upgrade()?)))
            .collect();
        keys.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
        for (_, key) in keys {
            self.bring_to(books, device, &key);
        }
    }

    /// Brings what a device lacks of a key, if there is room.
    fn bring_to(&self, books: &mut Books, device: usize, key: &Arc<ProvingKey>) {
        let member = device + 1;
        if key.device().is_lost(member) {
            return;
        }
        books.refresh(device);
        let free = books.free(device, &self.rooms[device]);
        let mut underway = books.evictions.iter();
        let kept_for = underway.find(|it| it.device == device).map(|it| it.owner);
        let Some(book) = books.find(key) else {
            return;
        };
        let tenant = book.tenant;
        let missing = book.missing(device, key);
        let is_whole = missing == 0 && !book.is_given_up(device);
        // Room that is being made is for whom it is made.
        let is_free = kept_for.is_none_or(|owner| owner == tenant);
        if is_whole || book.is_refused(device) || !is_free || missing > free {
            return;
        }
        book.given_up &= !(1 << device);
        if let Err(error) = key.copy(member) {
            // What came of it is of use; the rest is not tried with every job.
            let unit = self.rooms[device].unit;
            tracing::warn!(%tenant, %unit, %error, "a key does not come to a device as a whole");
            book.refused |= 1 << device;
        }
        book.read(device, key);
        self.tell(books, tenant);
    }

    /// Tells the arbiter what a tenant has on each device, where that is news.
    fn tell(&self, books: &mut Books, tenant: TenantId) {
        for (device, room) in self.rooms.iter().enumerate() {
            books.refresh(device);
            let all: u64 = books.keys.iter().map(|book| book.on[device]).sum();
            if all < room.held.swap(all, Ordering::Relaxed) {
                for book in &mut books.keys {
                    book.refused &= !(1 << device);
                }
            }
            let own = books.keys.iter().filter(|book| book.tenant == tenant);
            let bytes: u64 = own.map(|book| book.on[device]).sum();
            let before = books.told.insert((tenant, device), bytes).unwrap_or(0);
            if before != bytes {
                self.arbiter.send_waiting(Command::Resident {
                    tenant,
                    unit: room.unit,
                    bytes,
                });
            }
        }
    }
}

impl Books {
    /// Forgets keys that are no more, and asks a device what it has of the others: they may be going.
    fn refresh(&mut self, device: usize) {
        self.keys.retain_mut(|book| {
            let Some(key) = book.key.upgrade() else {
                return false;
            };
            book.read(device, &key);
            true
        });
    }

    fn find(&mut self, key: &Arc<ProvingKey>) -> Option<&mut Book> {
        let same = |book: &&mut Book| std::ptr::eq(book.key.as_ptr(), Arc::as_ptr(key));
        self.keys.iter_mut().find(same)
    }

    /// Bytes that may come to a device.
    fn free(&self, device: usize, room: &Room) -> u64 {
        let held: u64 = self.keys.iter().map(|book| book.on[device]).sum();
        room.bytes.saturating_sub(held)
    }

    /// Bytes that a tenant's newest key needs that is not on a device as a whole, beyond those that are free.
    fn lacks(&self, device: usize, tenant: TenantId, room: &Room) -> u64 {
        let own = self.keys.iter().filter(|book| book.tenant == tenant);
        let lacking = own.filter_map(|book| {
            let key = book.key.upgrade()?;
            let missing = book.missing(device, &key);
            (missing > 0 && !book.is_refused(device)).then_some((book.used, missing))
        });
        let newest = lacking.max_by_key(|(used, _)| *used);
        newest.map_or(0, |(_, missing)| {
            missing.saturating_sub(self.free(device, room))
        })
    }

    /// Which keys go from a device so that there are so many bytes more, those first that no job was laid out with for
    /// longest.
    fn choose(&self, device: usize, need: u64, victims: &[Victim]) -> Option<Vec<usize>> {
        let mut there: Vec<usize> = (0..self.keys.len())
            .filter(|&at| self.keys[at].on[device] > 0 && !self.keys[at].is_given_up(device))
            .collect();
        there.sort_by_key(|&at| self.keys[at].used);
        let piece = |&at: &usize| Piece {
            tenant: self.keys[at].tenant,
            bytes: self.keys[at].on[device],
        };
        let pieces: Vec<Piece> = there.iter().map(piece).collect();
        let held = |tenant: TenantId| -> u64 {
            let own = self.keys.iter().filter(|book| book.tenant == tenant);
            own.map(Book::stays).sum()
        };
        let chosen = choose(need, victims, held, &pieces)?;
        Some(chosen.into_iter().map(|piece| there[piece]).collect())
    }
}

impl Book {
    fn give_up(&mut self, device: usize) {
        self.given_up |= 1 << device;
    }

    fn is_given_up(&self, device: usize) -> bool {
        self.given_up >> device & 1 == 1
    }

    fn is_refused(&self, device: usize) -> bool {
        self.refused >> device & 1 == 1
    }

    /// Bytes on all devices but those that it is leaving.
    fn stays(&self) -> u64 {
        let each = self.on.iter().enumerate();
        let stays = each.filter(|(device, _)| !self.is_given_up(*device));
        stays.map(|(_, bytes)| bytes).sum()
    }

    fn missing(&self, device: usize, key: &ProvingKey) -> u64 {
        (key.copy_len() as u64).saturating_sub(self.on[device])
    }

    /// Asks the device what is there. What a lost one had is gone with it.
    fn read(&mut self, device: usize, key: &ProvingKey) {
        self.on[device] = match key.device().is_lost(device + 1) {
            true => 0,
            false => key.copy_bytes(device + 1) as u64,
        };
    }
}

/// Requests that are waiting; what does not fit drops an older one.
const REQUESTS_MAX: usize = 256;
/// What is lost of it with the power costs the time of measuring again.
const KEEP_EVERY: Duration = Duration::from_secs(600);
/// How often it is looked whether work has let a copy go that was given up.
const LOOK_EVERY: Duration = Duration::from_millis(10);
