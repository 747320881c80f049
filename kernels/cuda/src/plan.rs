//! Plans: stages of one lane each, whose quanta are launches.
//!
//! A stage is a list of *sweeps*, and a sweep is one kernel over a range of units, threads or
//! blocks, that may be launched in slices of any size. A quantum launches the next slice, and waits
//! for the oldest launch if the device has three to do, so that it is never idle while the host looks
//! round, and what a take-over has to wait for is three slices at most, of however many plans and threads
//! ([`Pace`]). All state between them is on the device. How large a slice is follows from what
//! launches of its kernel have taken so far, by the device's own clock, and where that depends on the data
//! from what the worst data would take as well. It is whole waves, of as many blocks as run at once: the blocks of a kernel end
//! at about the same time, and a wave that is not full takes as long as one that is.
//!
//! A stage may end before its last launches have ([`Steps::ahead`]), where what the next one launches does not depend on what the
//! host reads: the device then goes on without waiting for the host.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

use caldera_kernels::{DeviceError, Plan, Progress};

use crate::driver::{Driver, Fence, Kernel};
use crate::nvtx;

/// A kernel over a range of units.
pub(crate) struct Sweep {
    pub(crate) kernel: Kernel,
    pub(crate) unit: Unit,
    /// The number of the first unit.
    pub(crate) first: u64,
    /// The words of the kernel's argument behind the first two, which are the first unit of a
    /// launch and how many there are.
    pub(crate) words: Vec<u64>,
    /// Runs of units that cost the same: how many, and what each costs.
    pub(crate) runs: Vec<(u64, u64)>,
    /// What a launch may cost, whatever others of its kernel took: what was quick with one tenant's scalars may take many
    /// times as long with another's.
    pub(crate) most: u64,
}

/// What a sweep counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Thread,
    Block,
}

impl Sweep {
    /// Over `units` threads that cost the same.
    pub(crate) fn threads(kernel: Kernel, units: usize, words: Vec<u64>) -> Self {
        Self::new(kernel, Unit::Thread, units, words)
    }

    /// Over `units` blocks that cost the same.
    pub(crate) fn blocks(kernel: Kernel, units: usize, words: Vec<u64>) -> Self {
        Self::new(kernel, Unit::Block, units, words)
    }

    fn new(kernel: Kernel, unit: Unit, units: usize, words: Vec<u64>) -> Self {
        Self {
            kernel,
            unit,
            first: 0,
            words,
            runs: vec![(units as u64, 1)],
            most: u64::MAX,
        }
    }

    pub(crate) fn at_most(self, most: u64) -> Self {
        Self { most, ..self }
    }

    /// Units from `from` on that cost no more than `budget`, or as few as make sense, and their
    /// cost: all that are left, or whole waves, or less than one.
    fn slice(&self, from: u64, budget: u64) -> (u64, u64) {
        let (units, cost) = self.within(from, budget.min(self.most), UNITS_MAX);
        let wave = u64::from(self.kernel.wave)
            * match self.unit {
                Unit::Thread => u64::from(self.kernel.threads),
                Unit::Block => 1,
            };
        if from + units == self.units() || units < wave {
            return (units, cost);
        }
        self.within(from, u64::MAX, units - units % wave)
    }

    /// As many as cost no more, or as few as make sense, and no more than `most`; and their cost.
    fn within(&self, from: u64, budget: u64, most: u64) -> (u64, u64) {
        let least = match self.unit {
            Unit::Thread => u64::from(self.kernel.threads),
            Unit::Block => 1,
        };
        let (mut skipped, mut units, mut cost) = (0, 0, 0u64);
        for &(count, each) in &self.runs {
            let before = from.saturating_sub(skipped).min(count);
            skipped += count;
            let left = count - before;
            let affordable = budget.saturating_sub(cost) / each.max(1);
            let affordable = affordable.max(least.saturating_sub(units));
            let taken = left.min(affordable).min(most - units);
            units += taken;
            cost += taken * each;
            if taken < left {
                break;
            }
        }
        (units, cost)
    }

    fn units(&self) -> u64 {
        self.runs.iter().map(|run| run.0).sum()
    }

    fn launch(&self, driver: &dyn Driver, first: u64, count: u64) -> Result<Fence, DeviceError> {
        let mut words = Vec::with_capacity(self.words.len() + 2);
        words.extend([self.first + first, count]);
        words.extend(&self.words);
        let blocks = match self.unit {
            Unit::Thread => count.div_ceil(u64::from(self.kernel.threads)),
            Unit::Block => count,
        };
        driver.launch(self.kernel, blocks as u32, &words)
    }
}

/// What a slice of each kernel may cost, and what the device has to do.
///
/// A slice that took longer or less than it should makes the next ones smaller or larger, at most
/// four times: small launches leave most of a GPU idle, so what one of them took says little of
/// what a large one will.
pub(crate) struct Pace {
    slice: Duration,
    costs: Mutex<HashMap<Kernel, u64>>,
    /// The newest launches of all plans, oldest first: a few, of which some may have ended.
    flights: Mutex<VecDeque<Arc<Flight>>>,
}

impl Pace {
    pub(crate) fn new(quantum: Duration) -> Self {
        Self {
            // A quarter is left for what cannot be foreseen.
            slice: quantum * 3 / 4,
            costs: Mutex::default(),
            flights: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kernel, u64>> {
        // Each critical section is one call of the map's.
        self.costs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self, sweep: &Sweep) -> u64 {
        let first = match sweep.unit {
            Unit::Thread => 1 << 14,
            Unit::Block => 1 << 6,
        };
        *self.lock().entry(sweep.kernel).or_insert(first)
    }

    fn measured(&self, kernel: Kernel, cost: u64, took: Duration) {
        let scale = self.slice.as_nanos() as f64 / took.as_nanos().max(1) as f64;
        let fitting = ((cost as f64 * scale.clamp(0.125, 4.0)) as u64).max(1);
        let mut costs = self.lock();
        let budget = costs.entry(kernel).or_insert(fitting);
        // A rest that was smaller than it might have been says that as much is not too much.
        if fitting > *budget || took > self.slice || cost >= *budget {
            *budget = fitting;
        }
    }

    /// Waits for the oldest launches until the device has few enough to do for one more, which nobody else makes while the
    /// result is held.
    fn room(&self, driver: &dyn Driver) -> Result<Flights<'_>, DeviceError> {
        loop {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            while flights.pop_front_if(|flight| flight.has_ended()).is_some() {}
            if flights.len() < FLIGHTS_MAX {
                return Ok(flights);
            }
            let oldest = flights[0].clone();
            drop(flights);
            // Whosever it is: a device whose launch does not end is lost.
            oldest.wait(driver)?;
        }
    }
}

type Flights<'a> = MutexGuard<'a, VecDeque<Arc<Flight>>>;

/// A launch. Whoever has to wait for it first does so, for all.
struct Flight {
    fence: Fence,
    /// How long it ran, once somebody has waited for it; a second one who comes has to wait as long.
    took: OnceLock<Result<Duration, DeviceError>>,
    kernel: Kernel,
    cost: u64,
}

impl Flight {
    fn has_ended(&self) -> bool {
        self.took.get().is_some()
    }

    fn wait(&self, driver: &dyn Driver) -> Result<Duration, DeviceError> {
        let wait = || driver.wait(&self.fence);
        self.took.get_or_init(wait).clone()
    }
}

/// What a plan computes; [`Staged`] makes it a [`Plan`].
pub(crate) trait Steps: Send + Sync + 'static {
    fn stages(&self) -> usize;

    fn name(&self, stage: usize) -> &'static str;

    /// The sweeps of a stage. All launches of the stage before have ended but those that it runs ahead with.
    fn open(&self, stage: usize) -> Result<Vec<Sweep>, DeviceError>;

    /// How many of a stage's last sweeps may be under way when it counts as done. Launches run one after the other,
    /// so the device does not mind; the host reads nothing of what they write before a later stage has ended. None of the last
    /// stage.
    fn ahead(&self, _stage: usize) -> usize {
        0
    }

    /// After a stage is done.
    fn close(&self, _stage: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    fn point(&self) -> Option<Vec<u8>> {
        None
    }

    /// Whether it is a sum that can be narrowed.
    fn is_sum(&self) -> bool {
        false
    }

    /// Leaves of a sum only these points; called before it is opened. Whether that is the first time.
    fn narrow(&self, _points: Range<usize>) -> bool {
        false
    }
}

/// Steps as a plan.
pub(crate) struct Staged<S> {
    driver: Arc<dyn Driver>,
    pace: Arc<Pace>,
    /// Dropped after `state`'s launches have ended: see `Drop`.
    steps: S,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Stages opened so far, and those that have ended.
    opened: usize,
    ended: usize,
    sweeps: VecDeque<Sweep>,
    /// Units of the first sweep that have been launched.
    done: u64,
    /// Launches that nobody has waited for, with how many sweeps of the open stage, its own included, there were then; all are behind
    /// those of stages before.
    flights: VecDeque<(usize, Arc<Flight>)>,
    /// How many of the open stage's last sweeps it need not wait for.
    ahead: usize,
    /// What launches that have been waited for took.
    computed: Duration,
    /// The open stage, as profilers are told.
    stage: nvtx::Started,
}

impl<S: Steps> Staged<S> {
    pub(crate) fn new(driver: &Arc<dyn Driver>, pace: &Arc<Pace>, steps: S) -> Arc<Self> {
        Arc::new(Self {
            driver: driver.clone(),
            pace: pace.clone(),
            steps,
            state: Mutex::default(),
        })
    }
}

impl State {
    /// Launches the next slice, or waits for one; whether there was anything to do. `name` is for profilers.
    fn advance(
        &mut self,
        driver: &dyn Driver,
        pace: &Pace,
        name: &'static str,
    ) -> Result<bool, DeviceError> {
        while let Some(sweep) = self.sweeps.front() {
            let (units, cost) = sweep.slice(self.done, pace.budget(sweep));
            if units == 0 {
                self.sweeps.pop_front();
                self.done = 0;
                continue;
            }
            // Sweeps of a stage are counted from its end: how many are left tells them apart.
            let left = self.sweeps.len();
            let range = nvtx::push(|| format!("{name}-{left} {units}"));
            let mut flights = pace.room(driver)?;
            let flight = Arc::new(Flight {
                fence: sweep.launch(driver, self.done, units)?,
                took: OnceLock::new(),
                kernel: sweep.kernel,
                cost,
            });
            flights.push_back(flight.clone());
            drop(flights);
            drop(range);
            self.done += units;
            self.flights.push_back((left, flight));
            if self.done == sweep.units() {
                self.sweeps.pop_front();
                self.done = 0;
            }
            drop(pace.room(driver)?);
            while self.flights.front().is_some_and(|it| it.1.has_ended()) {
                self.wait(driver, pace)?;
            }
            return Ok(true);
        }
        if self.flights.iter().all(|it| it.0 <= self.ahead) {
            return Ok(false);
        }
        self.wait(driver, pace)
    }

    /// For the sweeps of the next stage.
    fn begin(&mut self, sweeps: Vec<Sweep>, ahead: usize) {
        self.sweeps = sweeps.into();
        self.done = 0;
        self.opened += 1;
        self.ahead = ahead;
        for flight in &mut self.flights {
            flight.0 = usize::MAX;
        }
    }

    /// Waits for the oldest launch, if there is one.
    fn wait(&mut self, driver: &dyn Driver, pace: &Pace) -> Result<bool, DeviceError> {
        let Some((_, flight)) = self.flights.pop_front() else {
            return Ok(false);
        };
        let took = flight.wait(driver)?;
        self.computed += took;
        pace.measured(flight.kernel, flight.cost, took);
        Ok(true)
    }
}

/// Runs sweeps to their end, for what is made once and kept; how long they ran on the device.
pub(crate) fn run_now(
    driver: &dyn Driver,
    pace: &Pace,
    sweeps: Vec<Sweep>,
) -> Result<Duration, DeviceError> {
    let mut state = State {
        sweeps: sweeps.into(),
        ..State::default()
    };
    while state.advance(driver, pace, "kept")? {}
    Ok(state.computed)
}

impl<S: Steps> Plan for Staged<S> {
    fn stages(&self) -> usize {
        self.steps.stages()
    }

    fn kernel(&self, stage: usize) -> &'static str {
        self.steps.name(stage)
    }

    fn open(&self, stage: usize) -> Result<usize, DeviceError> {
        let refuse = |why| DeviceError::Lane {
            stage,
            lane: 0,
            why,
        };
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::WouldBlock) => {
                return Err(refuse("another thread is at work on the plan"));
            }
            Err(TryLockError::Poisoned(_)) => return Err(refuse("a quantum has panicked")),
        };
        if stage >= self.steps.stages() {
            return Err(refuse("there is no such stage"));
        }
        if state.ended != state.opened {
            return Err(refuse("the stage before has lanes that have not ended"));
        }
        if state.opened != stage {
            return Err(refuse("stages are opened once each, in order"));
        }
        let sweeps = self.steps.open(stage)?;
        let range = nvtx::start(|| {
            let units: u64 = sweeps.iter().map(Sweep::units).sum();
            format!("{} {units}", self.steps.name(stage))
        });
        state.stage = range;
        state.begin(sweeps, self.steps.ahead(stage));
        Ok(1)
    }

    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
        let refuse = |why| DeviceError::Lane { stage, lane, why };
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::WouldBlock) => {
                return Err(refuse("the lane is running on another thread"));
            }
            Err(TryLockError::Poisoned(_)) => return Err(refuse("a quantum has panicked")),
        };
        if state.opened == 0 || state.opened - 1 != stage {
            return Err(refuse("the stage is not open"));
        }
        if lane != 0 {
            return Err(refuse("there is no such lane"));
        }
        if state.ended == state.opened {
            return Err(refuse("the lane has ended"));
        }
        let name = self.steps.name(stage);
        if state.advance(&*self.driver, &self.pace, name)? {
            return Ok(Progress::More);
        }
        self.steps.close(stage)?;
        state.stage = nvtx::Started::default();
        state.ended += 1;
        Ok(Progress::Done)
    }

    fn point(&self) -> Option<Vec<u8>> {
        let state = self.state.lock().ok()?;
        let all = state.ended == self.steps.stages();
        drop(state);
        if all { self.steps.point() } else { None }
    }

    fn device_time(&self) -> Option<Duration> {
        Some(self.state.lock().ok()?.computed)
    }

    fn grain(&self) -> Option<usize> {
        self.steps.is_sum().then_some(1)
    }

    fn narrow(&self, points: Range<usize>) -> Result<(), DeviceError> {
        let state = self.state.try_lock();
        let is_new = state.is_ok_and(|state| state.opened == 0);
        if is_new && self.steps.narrow(points) {
            return Ok(());
        }
        let why = "only a sum that has not begun is narrowed, and once";
        Err(DeviceError::Lane {
            stage: 0,
            lane: 0,
            why,
        })
    }
}

/// What is in flight uses the memory that is about to be given back.
impl<S> Drop for Staged<S> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (_, flight) in state.flights.drain(..) {
            // A device that does not answer is lost, and its memory with it.
            let _ = flight.wait(&*self.driver);
        }
    }
}

/// One runs, one follows it, and one is being made: enough that the device never waits. Of all plans
/// together, so that whoever comes next does not wait for more.
const FLIGHTS_MAX: usize = 3;

/// Units of one launch: blocks are counted in 31 bits.
const UNITS_MAX: u64 = 1 << 31;
