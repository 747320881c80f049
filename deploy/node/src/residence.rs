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
//! the key was there before. Where there is none, and the tenant holds the device or nobody does, older keys of the same tenant
//! make way: those that no laid-out job uses, and that were not asked for since the new one was asked for twice. Who proves with
//! two keys in turn so keeps the one that is there, and who has put a new key in the place of an old one gets it there without
//! anybody else's leave.
//!
//! **An order** names those whose keys may go and how much of them. The newest key of the device's owner that is not there
//! says what is lacking; the owner's own keys make way for it first, and `caldera_scheduler::eviction` says which others go:
//! enough, or none. Those give up their
//! copies: nothing begins with them from then on, plans that have only been laid out let them go at once, and work
//! that has begun on the device ends as it would. So no job is wrong or begins again, and what is told as gone is
//! gone. Then the room goes to the keys of the device's owner, the newest first, and the order is answered
//! ([`Command::Evicted`]). Until then nobody else's key comes to the device. Orders come before requests, of which one
//! at a time is taken: copying a key takes a while.
//!
//! **Tables** of multiples of a key's points, with which its sums take less time, are made on a device that has the key once somebody
//! has proved with it ([`Residence::proved`]), while nothing else is asked and the device is the tenant's own or nobody's. They take what
//! keys leave of the room, the arbiter knows nothing of them, and they go as soon as any key wants their place: those of
//! the keys first that no job was laid out with for longest, one that is being made before all others. What a job uses of them stays
//! for it until it ends; a key that finds the place still taken then is tried again, as it is where work has taken it. Once gone they are made again
//! when something else has gone from the device.
//!
//! **A loss** is looked for five times a second, and devices are asked whether they are there ([`Device::probe`]): one that nobody
//! uses does not say that it has gone. What a device had that is lost counts no more, and the arbiter is told so of everybody. Nothing is freed there: it
//! might not answer.
//!
//! **A doubt.** A proof came out wrong that the host alone makes right ([`Residence::doubt`]): each device is tried here,
//! for that takes a while, and those that compute something else than the host are given up.
//!
//! Bytes are those of the points and matrices in the key's file, which is what devices make of them too; what a device does not
//! keep, as ICICLE's keep no matrices, is not waited for there ([`Device::keeps`]). The work itself
//! needs memory as well, so keys may have three quarters of a device ([`room`]). Where work has taken more than the rest, a key that comes finds less room
//! than the book says: it is tried again after a while, with a job's request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use caldera_kernels::{Device, DeviceError, Plan, Progress};
use caldera_prover::groth16::ProvingKey;
use caldera_rpc::chain::chain;
use caldera_scheduler::eviction::{Piece, Victim, choose};
use caldera_scheduler::pool::{Kind, Pool};
use caldera_scheduler::{Nanos, TenantId, UnitId};
use crossbeam::queue::ArrayQueue;

use crate::arbiter_thread::{Command, Inbox};
use crate::board::Board;
use crate::clock::Clock;
use crate::primitive::{Thread, current, park_timeout};

/// What other threads know of it; see the top of this file.
pub struct Residence {
    /// Of the devices, in their order: member 1 of the box's device is the first.
    rooms: Box<[Room]>,
    orders: ArrayQueue<Order>,
    requests: ArrayQueue<Request>,
    doubts: ArrayQueue<Doubt>,
    /// Keys that have been proved with.
    proofs: ArrayQueue<Weak<ProvingKey>>,
    /// What the tables of one key may take on a device, in times its copy there.
    table_times: u64,
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
    /// Taken by tables of what is left.
    tables: AtomicU64,
}

/// An order of the arbiter's, piece by piece: it may not allocate.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// One of those whose keys may go by the order that comes after them.
    Victim(Victim),
    /// To make room on a device for its owner.
    Evict { unit: UnitId, owner: TenantId },
}

/// A proof that was wrong where the host alone was right.
#[derive(Debug)]
pub struct Doubt {
    /// What was wrong.
    pub why: String,
    /// Members of the device that were lost before it was begun, a bit each. If another one is lost by now, that may have been to
    /// blame, and nobody is given up who passes.
    pub lost: u64,
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
    /// One on a device at most.
    making: Vec<Making>,
    /// Devices that are known to be lost, a bit each.
    lost: u64,
    /// When the turn began.
    now: Nanos,
}

/// What there is to do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// More has been asked.
    More,
    /// Keys that were given up are still in use.
    Waits,
    /// Nothing.
    Done,
}

/// One key.
struct Book {
    tenant: TenantId,
    key: Weak<ProvingKey>,
    /// The number of the last request for it.
    used: u64,
    /// The number of the one before that, or 0.
    used_before: u64,
    /// By device: bytes that are there.
    on: Box<[u64]>,
    /// By device: the tables that are there.
    tables: Box<[Tables]>,
    /// Somebody has proved with it.
    has_proved: bool,
    /// Devices that were told to give it up, a bit each.
    given_up: u64,
    /// By device: that had no room for all of it, until something has gone from there or it may be tried again.
    refused: Box<[Option<Refusal>]>,
}

/// A key did not come to a device as a whole, though by the book there was room: for a while, work had taken it.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    /// When it is tried again.
    until: Nanos,
    /// For how long it is not tried.
    pause: Nanos,
}

/// A key's tables on one device.
#[derive(Debug, Clone, Copy, Default)]
struct Tables {
    bytes: u64,
    /// They were made, or are not to be made until something has gone from the device.
    is_settled: bool,
}

/// Tables that are being made.
struct Making {
    tenant: TenantId,
    key: Weak<ProvingKey>,
    device: usize,
    /// What they may take.
    bytes: u64,
    plan: Arc<dyn Plan>,
    stage: usize,
    lane: usize,
    /// Of the open stage.
    lanes: usize,
}

/// Room that is being made.
struct Eviction {
    device: usize,
    owner: TenantId,
    victims: Vec<Victim>,
    /// Keys have been chosen, and go.
    is_chosen: bool,
    /// By an order, which is to be answered; else of its owner's own keys.
    is_ordered: bool,
}

/// Of so many bytes of a device, those that keys may have. The rest is for work: a proof of 2^22 constraints on BN254
/// has a key of 2 GB, and from when it is laid out, with scalars of full size, 0.54 GB of vectors, 0.48 GB for each sum in G1 and
/// 0.81 GB for that in G2, on CUDA: 3.3 GB, and no key is larger than the room.
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
                tables: AtomicU64::new(0),
            })
            .collect();
        Residence {
            // The arbiter has one order for a device at a time, with a victim for each tenant at most.
            orders: ArrayQueue::new((rooms.len() * (tenants + 1)).max(1)),
            requests: ArrayQueue::new(REQUESTS_MAX),
            doubts: ArrayQueue::new(DOUBTS_MAX),
            proofs: ArrayQueue::new(PROOFS_MAX),
            table_times: 0,
            rooms,
            thread: OnceLock::new(),
            board,
            arbiter,
        }
    }

    /// With tables on devices, for one key at most so many times what its copy takes there; 0 for none.
    pub fn with_tables(mut self, times: u32) -> Residence {
        self.table_times = u64::from(times);
        self
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

    /// A proof has been made with a key: it may have tables where it is.
    pub fn proved(&self, key: &Arc<ProvingKey>) {
        if self.rooms.is_empty() || self.table_times == 0 {
            return;
        }
        // A full queue drops its oldest: that key's next proof says it again.
        self.proofs.force_push(Arc::downgrade(key));
        self.wake();
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

    /// Bytes of tables on a device, by its number among the devices.
    pub fn tables(&self, device: usize) -> Option<u64> {
        let room = self.rooms.get(device)?;
        Some(room.tables.load(Ordering::Relaxed))
    }

    /// Has the devices tried. A device without members that are units looks after itself, and at once.
    pub fn doubt(&self, device: &dyn Device, doubt: Doubt) {
        if self.rooms.is_empty() {
            return device.distrust(&doubt.why);
        }
        // A full queue drops its oldest: the next one is about the same devices.
        self.doubts.force_push(doubt);
        self.wake();
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
        let clock = Clock::start();
        let (mut kept, mut probed) = (Instant::now(), Instant::now());
        while !self.board.stopping() {
            if probed.elapsed() >= LOSS_EVERY {
                // What it finds is seen below.
                let _ = device.probe();
                probed = Instant::now();
            }
            match self.turn(&mut books, device, clock.now()) {
                Turn::More => {}
                // Work on a device does not say when it lets go.
                Turn::Waits => park_timeout(LOOK_EVERY),
                // Nor a device when it is lost, if nobody uses it.
                Turn::Done => park_timeout(LOSS_EVERY),
            }
            if kept.elapsed() >= KEEP_EVERY {
                device.keep();
                kept = Instant::now();
            }
        }
        device.keep();
    }

    /// Looks for losses on the box's device, goes as far with all orders as can be gone now, and does one thing that is
    /// asked. Copies and frees; called with one book all the time, by [`Residence::run`] if that runs.
    pub fn turn(&self, books: &mut Books, device: &dyn Device, now: Nanos) -> Turn {
        books.now = now;
        if let Some(doubt) = self.doubts.pop() {
            match lost_members(device) & !doubt.lost {
                0 => device.distrust(&doubt.why),
                _ => {
                    device.examine(&doubt.why);
                }
            }
        }
        self.look_for_losses(books, device);
        self.take_orders(books);
        self.take_proofs(books);
        for mut order in std::mem::take(&mut books.evictions) {
            if !self.carry_out(books, &mut order) {
                books.evictions.push(order);
            }
        }
        match self.requests.pop() {
            Some(Request::Look { tenant }) => self.tell(books, tenant),
            Some(Request::Bring {
                tenant,
                key,
                everywhere,
            }) => {
                if let Some(key) = key.upgrade() {
                    self.attend(books, tenant, &key, everywhere);
                }
            }
            None if !self.doubts.is_empty() => {}
            None if !books.evictions.is_empty() => return Turn::Waits,
            None if self.make_tables(books) => {}
            None => return Turn::Done,
        }
        Turn::More
    }

    fn take_orders(&self, books: &mut Books) {
        while let Some(order) = self.orders.pop() {
            match order {
                Order::Victim(victim) => books.victims.push(victim),
                Order::Evict { unit, owner } => {
                    let victims = std::mem::take(&mut books.victims);
                    let Some(device) = self.rooms.iter().position(|room| room.unit == unit) else {
                        continue;
                    };
                    // What goes there anyway is waited for by the order too.
                    let stays = |it: &Eviction| it.is_ordered || it.device != device;
                    books.evictions.retain(stays);
                    books.evictions.push(Eviction {
                        device,
                        owner,
                        victims,
                        is_chosen: false,
                        is_ordered: true,
                    });
                }
            }
        }
    }

    fn take_proofs(&self, books: &mut Books) {
        while let Some(key) = self.proofs.pop() {
            if let Some(book) = key.upgrade().and_then(|key| books.find(&key)) {
                book.has_proved = true;
            }
        }
    }

    /// Tells what everybody has where a device has been lost since this was looked at last.
    fn look_for_losses(&self, books: &mut Books, device: &dyn Device) {
        let is_new = |at: &usize| books.lost >> at & 1 == 0 && device.is_lost(at + 1);
        let lost: Vec<usize> = (0..self.rooms.len()).filter(is_new).collect();
        if !lost.is_empty() {
            // Nobody may hold any unit, and then it does not look by itself.
            self.arbiter.wake();
        }
        for at in lost {
            books.lost |= 1 << at;
            let had = books.told.iter();
            let had = had.filter(|((_, device), bytes)| *device == at && **bytes > 0);
            let tenants: Vec<TenantId> = had.map(|((tenant, _), _)| *tenant).collect();
            for tenant in tenants {
                self.tell(books, tenant);
            }
        }
    }

    /// A key is wanted on devices.
    fn attend(&self, books: &mut Books, tenant: TenantId, key: &Arc<ProvingKey>, everywhere: bool) {
        books.asked += 1;
        let used = books.asked;
        match books.find(key) {
            Some(book) => book.used_before = std::mem::replace(&mut book.used, used),
            None => books.keys.push(Book {
                tenant,
                key: Arc::downgrade(key),
                used,
                used_before: 0,
                on: vec![0; self.rooms.len()].into(),
                tables: vec![Tables::default(); self.rooms.len()].into(),
                has_proved: false,
                given_up: 0,
                refused: vec![None; self.rooms.len()].into(),
            }),
        }
        for device in 0..self.rooms.len() {
            if everywhere || self.is_open_to(device, tenant) {
                self.bring_to(books, device, key);
            }
        }
    }

    /// Goes as far as can be gone with an order now; whether it is carried out, or cannot be.
    fn carry_out(&self, books: &mut Books, order: &mut Eviction) -> bool {
        let Eviction { device, owner, .. } = *order;
        // They hold the copy that they are made of.
        books.leave_tables(device);
        books.refresh(device);
        let room = &self.rooms[device];
        if !order.is_chosen {
            // What tenants keep is counted over all devices.
            for device in 0..self.rooms.len() {
                books.refresh(device);
            }
            // Somebody else may own it by now: should the owner of the order again, the arbiter asks again.
            let is_its = self.board.holder(usize::from(room.unit.0)) == Some(owner);
            let lacking = match is_its {
                true => books.lacking(device, owner),
                false => None,
            };
            if is_its && lacking.is_none() && books.is_put_off(device, owner, room) {
                // An answer would be the last word: the arbiter does not ask the same twice.
                return false;
            }
            let chosen = match lacking {
                Some(at) => books.make_room(device, at, room, &order.victims),
                None => Some(Vec::new()),
            };
            let Some(chosen) = chosen else {
                self.tell_of(books, order);
                self.answer(order, false);
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
        self.tell_of(books, order);
        self.fill(books, device, owner);
        if order.is_ordered {
            self.answer(order, true);
        }
        true
    }

    fn answer(&self, order: &Eviction, made: bool) {
        let unit = self.rooms[order.device].unit;
        self.arbiter.send_waiting(Command::Evicted { unit, made });
    }

    /// Tells what those have whom an order is about. Before its answer, whatever that is: the arbiter reckons with it.
    fn tell_of(&self, books: &mut Books, order: &Eviction) {
        let victims = order.victims.iter().map(|victim| victim.tenant);
        for tenant in victims.chain([order.owner]) {
            self.tell(books, tenant);
        }
    }

    /// Brings keys of a device's owner to it, the newest first, while there is room; of the one for whom it was made, if it is
    /// nobody's.
    fn fill(&self, books: &mut Books, device: usize, made_for: TenantId) {
        let holder = self.board.holder(usize::from(self.rooms[device].unit.0));
        let owner = holder.unwrap_or(made_for);
        let own = books.keys.iter().filter(|book| book.tenant == owner);
        let mut keys: Vec<_> = own
            .filter_map(|book| Some((book.used, book.key.upgrade()?)))
            .collect();
        keys.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
        for (_, key) in keys {
            self.bring_to(books, device, &key);
        }
    }

    /// Brings what a device lacks of a key, if there is room, or older keys of its tenant may make way.
    fn bring_to(&self, books: &mut Books, device: usize, key: &Arc<ProvingKey>) {
        let member = device + 1;
        let now = books.now;
        let Some(book) = books.find(key).filter(|_| !key.device().is_lost(member)) else {
            return;
        };
        book.read(device, key);
        let tenant = book.tenant;
        let missing = book.missing(device, key);
        let is_whole = missing == 0 && !book.is_given_up(device);
        if is_whole || book.is_refused(device, now) {
            return;
        }
        // Room that is being made is for whom it is made.
        let mut underway = books.evictions.iter();
        let kept_for = underway.find(|it| it.device == device).map(|it| it.owner);
        if kept_for.is_some_and(|owner| owner != tenant) {
            return;
        }
        books.leave_tables(device);
        books.refresh(device);
        let room = &self.rooms[device];
        if missing > books.free(device, room) {
            if kept_for.is_none() && self.is_open_to(device, tenant) {
                self.make_way(books, device, key);
            }
            return;
        }
        self.clear_tables(books, device, missing);
        let Some(book) = books.find(key) else {
            return;
        };
        book.given_up &= !(1 << device);
        book.refused[device] = match key.copy(member) {
            Ok(()) => None,
            Err(error) => {
                // What came of it is of use; the rest is not tried with every job.
                let refusal = Refusal::after(book.refused[device], now);
                let (unit, pause_ms) = (self.rooms[device].unit, refusal.pause.0 / 1_000_000);
                tracing::warn!(%tenant, %unit, pause_ms, error = %chain(&error), "a key does not come to a device as a whole");
                Some(refusal)
            }
        };
        book.read(device, key);
        self.tell(books, tenant);
    }

    /// Older keys of a key's tenant go from a device for it, if that is enough.
    fn make_way(&self, books: &mut Books, device: usize, key: &Arc<ProvingKey>) {
        let Some(at) = books.position(key) else {
            return;
        };
        let Some(chosen) = books.make_room(device, at, &self.rooms[device], &[]) else {
            return;
        };
        for at in chosen {
            books.keys[at].give_up(device);
        }
        books.evictions.push(Eviction {
            device,
            owner: books.keys[at].tenant,
            victims: Vec::new(),
            is_chosen: true,
            is_ordered: false,
        });
    }

    /// Whether a tenant holds a device, or nobody does.
    fn is_open_to(&self, device: usize, tenant: TenantId) -> bool {
        let holder = self.board.holder(usize::from(self.rooms[device].unit.0));
        holder.is_none_or(|holder| holder == tenant)
    }

    /// Frees tables on a device until keys may have so many bytes more.
    fn clear_tables(&self, books: &mut Books, device: usize, bytes: u64) {
        let room = &self.rooms[device];
        while bytes > books.spare(device, room) {
            let with = books.keys.iter_mut();
            let with = with.filter(|book| book.tables[device].bytes > 0);
            let Some(book) = with.min_by_key(|book| book.used) else {
                break;
            };
            if let Some(key) = book.key.upgrade() {
                key.copy_tables_free(device + 1);
            }
            book.tables[device].bytes = 0;
        }
        self.note_tables(books, device);
    }

    fn note_tables(&self, books: &Books, device: usize) {
        let room = &self.rooms[device];
        // A figure to look at.
        room.tables
            .store(books.tables_on(device), Ordering::Relaxed);
    }

    /// Goes on with tables, or begins with some; whether there was anything to do. Those on a device that somebody else holds by now
    /// stay as they are.
    fn make_tables(&self, books: &mut Books) -> bool {
        let mut all = books.making.iter();
        let going = all.position(|it| self.is_open_to(it.device, it.tenant));
        let making = match going {
            Some(at) => Some(books.making.swap_remove(at)),
            None => self.begin_tables(books),
        };
        let Some(mut making) = making else {
            return false;
        };
        let device = making.device;
        let Some(key) = making.key.upgrade() else {
            return true;
        };
        match making.quantum() {
            Ok(Progress::More) => {
                books.making.push(making);
                self.note_tables(books, device);
                return true;
            }
            Ok(Progress::Done) => drop(making),
            Err(error) => {
                let (tenant, unit) = (making.tenant, self.rooms[device].unit);
                tracing::warn!(%tenant, %unit, error = %chain(&error), "no tables on a device");
                drop(making);
                key.copy_tables_free(device + 1);
            }
        }
        if let Some(book) = books.find(&key) {
            book.read(device, &key);
            book.tables[device].is_settled = true;
        }
        self.note_tables(books, device);
        true
    }

    /// Begins with tables of the newest key that may have some.
    fn begin_tables(&self, books: &mut Books) -> Option<Making> {
        for (device, room) in self.rooms.iter().enumerate() {
            let may = |book: &Book| {
                let is_wanted = book.has_proved && !book.tables[device].is_settled;
                is_wanted && self.is_open_to(device, book.tenant)
            };
            let is_busy = books.making.iter().any(|it| it.device == device);
            if is_busy || !books.keys.iter().any(may) {
                continue;
            }
            books.refresh(device);
            let spare = books.spare(device, room);
            let ready = books.keys.iter_mut().filter(|book| {
                let is_there = book.on[device] > 0 && !book.is_given_up(device);
                is_there && may(book) && book.is_whole(device)
            });
            let Some(book) = ready.max_by_key(|book| book.used) else {
                continue;
            };
            book.tables[device].is_settled = true;
            let bytes = spare.min(book.on[device].saturating_mul(self.table_times));
            let key = book.key.upgrade()?;
            let plan = key.copy_tables(device + 1, usize::try_from(bytes).unwrap_or(usize::MAX));
            match plan.and_then(|plan| plan.open(0).map(|lanes| (plan, lanes))) {
                Ok((plan, lanes)) => {
                    book.tables[device].is_settled = false;
                    return Some(Making {
                        tenant: book.tenant,
                        key: Arc::downgrade(&key),
                        device,
                        bytes,
                        plan,
                        stage: 0,
                        lane: 0,
                        lanes,
                    });
                }
                // Some devices make none.
                Err(DeviceError::Unfit { .. }) => {}
                Err(error) => {
                    let unit = room.unit;
                    tracing::warn!(tenant = %book.tenant, %unit, error = %chain(&error), "no tables on a device");
                }
            }
        }
        None
    }

    /// Tells the arbiter what a tenant has on each device, where that is news.
    fn tell(&self, books: &mut Books, tenant: TenantId) {
        for (device, room) in self.rooms.iter().enumerate() {
            books.refresh(device);
            self.note_tables(books, device);
            let all: u64 = books.keys.iter().map(|book| book.on[device]).sum();
            if all < room.held.swap(all, Ordering::Relaxed) {
                let refused = books.keys.iter_mut().map(|book| &mut book.refused[device]);
                for refusal in refused.flatten() {
                    refusal.until = books.now;
                }
                for book in &mut books.keys {
                    let tables = &mut book.tables[device];
                    tables.is_settled &= tables.bytes > 0;
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
        self.making.retain(|making| making.key.strong_count() > 0);
    }

    /// Bytes of tables on a device, those that are being made at their most.
    fn tables_on(&self, device: usize) -> u64 {
        let there: u64 = self.keys.iter().map(|book| book.tables[device].bytes).sum();
        let making = self.making.iter().filter(|it| it.device == device);
        there + making.map(|it| it.bytes).sum::<u64>()
    }

    /// Of what keys leave on a device what tables leave too.
    fn spare(&self, device: usize, room: &Room) -> u64 {
        let free = self.free(device, room);
        free.saturating_sub(self.tables_on(device))
    }

    /// Leaves off with tables that are being made on a device.
    fn leave_tables(&mut self, device: usize) {
        for making in self.making.extract_if(.., |it| it.device == device) {
            let key = making.key.upgrade();
            drop(making);
            if let Some(key) = key {
                key.copy_tables_free(device + 1);
            }
        }
    }

    fn position(&self, key: &Arc<ProvingKey>) -> Option<usize> {
        let same = |book: &Book| std::ptr::eq(book.key.as_ptr(), Arc::as_ptr(key));
        self.keys.iter().position(same)
    }

    fn find(&mut self, key: &Arc<ProvingKey>) -> Option<&mut Book> {
        let at = self.position(key)?;
        Some(&mut self.keys[at])
    }

    /// Bytes that may come to a device.
    fn free(&self, device: usize, room: &Room) -> u64 {
        let held: u64 = self.keys.iter().map(|book| book.on[device]).sum();
        room.bytes.saturating_sub(held)
    }

    /// Whether a key of a tenant's that has no room on a device would be lacking there, were it not put off.
    fn is_put_off(&self, device: usize, tenant: TenantId, room: &Room) -> bool {
        let free = self.free(device, room);
        self.keys.iter().any(|book| {
            let key = book.key.upgrade();
            let missing = key.map_or(0, |key| book.missing(device, &key));
            book.tenant == tenant && missing > free && book.is_refused(device, self.now)
        })
    }

    /// A tenant's newest key that is not on a device as a whole.
    fn lacking(&self, device: usize, tenant: TenantId) -> Option<usize> {
        let is_lacking = |book: &Book| {
            let missing = book
                .key
                .upgrade()
                .map_or(0, |key| book.missing(device, &key));
            book.tenant == tenant && missing > 0 && !book.is_refused(device, self.now)
        };
        let lacking = (0..self.keys.len()).filter(|&at| is_lacking(&self.keys[at]));
        lacking.max_by_key(|&at| self.keys[at].used)
    }

    /// Which keys go from a device so that another has room there: those of its own tenant first that make way, then of the
    /// victims as many as are lacking still. `None` if these are not enough.
    fn make_room(
        &self,
        device: usize,
        wanted: usize,
        room: &Room,
        victims: &[Victim],
    ) -> Option<Vec<usize>> {
        let wanted = &self.keys[wanted];
        let key = wanted.key.upgrade()?;
        let missing = wanted.missing(device, &key);
        let staying = self.staying(device);
        let stays: u64 = staying.iter().map(|&at| self.keys[at].on[device]).sum();
        // What is leaving anyway is waited for.
        let free = room.bytes.saturating_sub(stays);
        let mut need = missing.saturating_sub(free);
        let mut chosen = Vec::new();
        for at in staying {
            let book = &self.keys[at];
            let is_older = book.tenant == wanted.tenant && book.used < wanted.used_before;
            if need > 0 && is_older && !book.is_used(device) {
                need = need.saturating_sub(book.on[device]);
                chosen.push(at);
            }
        }
        if need > 0 {
            chosen.extend(self.choose(device, need, victims)?);
        }
        Some(chosen)
    }

    /// Keys that are on a device and were not given up there, those first that no job was laid out with for longest.
    fn staying(&self, device: usize) -> Vec<usize> {
        let stays =
            |&at: &usize| self.keys[at].on[device] > 0 && !self.keys[at].is_given_up(device);
        let mut staying: Vec<usize> = (0..self.keys.len()).filter(stays).collect();
        staying.sort_by_key(|&at| self.keys[at].used);
        staying
    }

    /// Which keys of victims go from a device so that there are so many bytes more.
    fn choose(&self, device: usize, need: u64, victims: &[Victim]) -> Option<Vec<usize>> {
        let there = self.staying(device);
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

    /// Whether a laid-out job uses it there.
    fn is_used(&self, device: usize) -> bool {
        let key = self.key.upgrade();
        key.is_some_and(|key| key.copy_is_used(device + 1))
    }

    fn is_refused(&self, device: usize, now: Nanos) -> bool {
        self.refused[device].is_some_and(|refusal| now < refusal.until)
    }

    /// Bytes on all devices but those that it is leaving.
    fn stays(&self) -> u64 {
        let each = self.on.iter().enumerate();
        let stays = each.filter(|(device, _)| !self.is_given_up(*device));
        stays.map(|(_, bytes)| bytes).sum()
    }

    fn is_whole(&self, device: usize) -> bool {
        let key = self.key.upgrade();
        key.is_some_and(|key| self.missing(device, &key) == 0)
    }

    fn missing(&self, device: usize, key: &ProvingKey) -> u64 {
        (key.copy_len_on(device + 1) as u64).saturating_sub(self.on[device])
    }

    /// Asks the device what is there. What a lost one had is gone with it.
    fn read(&mut self, device: usize, key: &ProvingKey) {
        self.on[device] = match key.device().is_lost(device + 1) {
            true => 0,
            false => key.copy_bytes(device + 1) as u64,
        };
        // They go with the copy.
        self.tables[device].bytes = match self.on[device] {
            0 => 0,
            _ => key.copy_tables_bytes(device + 1) as u64,
        };
    }
}

impl Making {
    /// One quantum; [`Progress::Done`] when they are there.
    fn quantum(&mut self) -> Result<Progress, DeviceError> {
        while self.lane == self.lanes {
            self.stage += 1;
            if self.stage == self.plan.stages() {
                return Ok(Progress::Done);
            }
            self.lanes = self.plan.open(self.stage)?;
            self.lane = 0;
        }
        if self.plan.run(self.stage, self.lane)? == Progress::Done {
            self.lane += 1;
        }
        Ok(Progress::More)
    }
}

impl Refusal {
    /// Twice as long as the one before: work ends within seconds, and what no room will ever be for costs next to nothing.
    fn after(before: Option<Refusal>, now: Nanos) -> Refusal {
        let pause = match before {
            Some(before) => Nanos(before.pause.0 * 2).min(REFUSED_MAX),
            None => REFUSED_MIN,
        };
        let until = now.plus(pause);
        Refusal { until, pause }
    }
}

/// The members of the box's device that are lost, a bit each.
pub fn lost_members(device: &dyn Device) -> u64 {
    let members = 0..=device.beside().len();
    let lost = members.filter(|member| device.is_lost(*member));
    lost.map(|member| 1 << member).sum()
}

/// Doubts that are waiting.
const DOUBTS_MAX: usize = 16;
/// Keys that were proved with and are still to be noted.
const PROOFS_MAX: usize = 64;
/// Requests that are waiting; what does not fit drops an older one.
const REQUESTS_MAX: usize = 256;
/// What is lost of it with the power costs the time of measuring again.
const KEEP_EVERY: Duration = Duration::from_secs(600);
/// How often it is looked whether work has let a copy go that was given up.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often it is looked whether a device is lost.
const LOSS_EVERY: Duration = Duration::from_millis(200);
/// For how long a key that did not come to a device is not tried there, at first and at most.
const REFUSED_MIN: Nanos = Nanos(100_000_000);
const REFUSED_MAX: Nanos = Nanos(60_000_000_000);
