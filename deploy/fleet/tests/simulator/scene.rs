//! What a seed says: boxes and their manners, jobs, and what goes wrong when.

use caldera_fleet::{BoxId, Demand, KeyHint};
use caldera_scheduler::sim::random::Random;
use caldera_scheduler::{JobId, Nanos};

/// What is allowed to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing.
    Calm,
    /// The broker's leaders die, at most for as long as an election was seen to take. Publishes are not answered, what is
    /// delivered is delivered twice. No box dies, and none is cut off.
    Elections,
    /// Boxes die between any two commands, are frozen and cut off, hints are lost, streams are lost, old answers come again.
    Storm,
    /// A storm in which half of the boxes take jobs on loans alone, which begin, end and are reclaimed at any time; and in which clocks stand still.
    Loans,
    /// A storm, and boxes that send what is no proof, answers to what they were not asked, or nothing at all.
    Strangers,
}

/// How a box behaves towards others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    Honest,
    /// What it sends as proofs are none.
    Wrong,
    /// It also answers to what others were asked.
    Forger,
    /// It says that it holds jobs, and never proves them.
    Hangs,
    /// It says that it has room, and refuses.
    Refuses,
}

#[derive(Debug, Clone)]
pub(crate) struct BoxScene {
    pub(crate) id: BoxId,
    pub(crate) manners: Manners,
    /// How many jobs it asks for; none if it only submits.
    pub(crate) offered: u32,
    pub(crate) cores: u32,
    pub(crate) speed: u32,
    pub(crate) price: u64,
    pub(crate) keys: Vec<KeyHint>,
    /// It takes jobs on loans alone.
    pub(crate) only_loans: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Submission {
    pub(crate) at: Nanos,
    pub(crate) to: BoxId,
    pub(crate) job: JobId,
    pub(crate) demand: Demand,
    /// When its client does not want it any more.
    pub(crate) cancelled: Option<Nanos>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The fleet process of a box dies after so many more commands, and is back after a while. Its `calderad` may die with it.
    Kill {
        who: BoxId,
        commands: u64,
        down: Nanos,
        both: bool,
    },
    /// Nothing runs there for a while.
    Freeze { who: BoxId, span: Nanos },
    /// Nothing comes or goes for a while.
    Cut { who: BoxId, span: Nanos },
    /// The broker has no leader for a while.
    Election { span: Nanos },
    /// A stream is lost, or both.
    Lose { jobs: bool, answers: bool },
    /// All answers that a box ever had are delivered again.
    Replay { who: BoxId },
    /// A box is emptied for a while.
    Drain { who: BoxId, span: Nanos },
    /// Nothing runs there for a while, and its clock stands still.
    Stop { who: BoxId, span: Nanos },
    /// A box grants another so many core-milliseconds a second.
    Grant {
        lender: BoxId,
        borrower: BoxId,
        rate: u32,
        term: Nanos,
    },
    /// A box takes back what it has granted.
    Reclaim { lender: BoxId, borrower: BoxId },
}

#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) weather: Weather,
    pub(crate) boxes: Vec<BoxScene>,
    pub(crate) submissions: Vec<Submission>,
    pub(crate) faults: Vec<(Nanos, Fault)>,
    /// From then on nothing goes wrong.
    pub(crate) calm: Nanos,
    /// Of messages that may be lost or doubled, so many are.
    pub(crate) loss: f64,
    pub(crate) doubling: f64,
}

impl Scene {
    pub(crate) fn new(weather: Weather, random: &mut Random) -> Scene {
        let count = random.between(2, 6);
        let boxes: Vec<BoxScene> = (0..count).map(|n| a_box(n, weather, random)).collect();
        let jobs = random.between(1, 25);
        let submissions = (0..jobs).map(|_| submission(&boxes, weather, random));
        let submissions = submissions.enumerate().map(|(n, it)| Submission {
            job: JobId(n as u64),
            ..it
        });
        let submissions = submissions.collect();
        let faults = match weather {
            Weather::Calm => 0,
            Weather::Elections => random.between(1, 4),
            Weather::Storm | Weather::Strangers => random.between(1, 12),
            Weather::Loans => random.between(8, 32),
        };
        let mut faults: Vec<_> = (0..faults)
            .map(|n| fault(n, &boxes, weather, random))
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        let stormy = weather.is_stormy();
        Scene {
            weather,
            boxes,
            submissions,
            faults,
            calm: FAULTS_END.plus(Nanos::from_secs(60)),
            loss: if stormy { random.fraction() * 0.2 } else { 0.0 },
            doubling: match weather {
                Weather::Calm => 0.0,
                _ => random.fraction() * 0.2,
            },
        }
    }
}

impl Weather {
    /// Whether anything may die.
    pub(crate) fn is_stormy(self) -> bool {
        matches!(self, Weather::Storm | Weather::Loans | Weather::Strangers)
    }
}

fn a_box(number: u64, weather: Weather, random: &mut Random) -> BoxScene {
    let stranger = weather == Weather::Strangers && random.chance(0.4);
    let manners = match random.between(0, 4) {
        _ if !stranger => Manners::Honest,
        0 => Manners::Wrong,
        1 => Manners::Forger,
        2 => Manners::Hangs,
        _ => Manners::Refuses,
    };
    BoxScene {
        id: BoxId(u128::from(number) + 1),
        manners,
        offered: random.between(0, 5) as u32,
        cores: random.between(1, 9) as u32,
        speed: random.between(500, 2_000) as u32,
        price: random.between(0, 3),
        keys: if random.chance(0.5) {
            vec![KEY]
        } else {
            vec![]
        },
        only_loans: weather == Weather::Loans && random.chance(0.5),
    }
}

fn submission(boxes: &[BoxScene], weather: Weather, random: &mut Random) -> Submission {
    let at = Nanos(random.between(0, SUBMISSIONS_END.0));
    let work = Nanos::from_millis(random.between(50, 10_000));
    let due = random.chance(0.5).then(|| {
        let slack = Nanos::from_millis(random.between(500, 60_000));
        at.plus(slack)
    });
    let stormy = weather.is_stormy();
    let cancelled = (stormy && random.chance(0.1))
        .then(|| at.plus(Nanos::from_millis(random.between(0, 20_000))));
    Submission {
        at,
        to: boxes[random.between(0, boxes.len() as u64) as usize].id,
        job: JobId(0),
        demand: Demand {
            key: KEY,
            key_bytes: random.between(0, 500_000_000),
            witness_bytes: random.between(0, 200_000_000),
            work,
            due,
            price_max: random.between(0, 4),
        },
        cancelled,
    }
}

fn fault(number: u64, boxes: &[BoxScene], weather: Weather, random: &mut Random) -> (Nanos, Fault) {
    if weather == Weather::Elections {
        // Apart, so that two do not make one that is longer.
        let at =
            Nanos::from_secs(5 + number * 20).plus(Nanos::from_millis(random.between(0, 5_000)));
        let span = Nanos::from_millis(random.between(0, 8_201));
        return (at, Fault::Election { span });
    }
    let at = Nanos(random.between(0, FAULTS_END.0));
    let who = boxes[random.between(0, boxes.len() as u64) as usize].id;
    let span = Nanos::from_millis(random.between(0, 45_000));
    if weather == Weather::Loans && random.chance(0.7) {
        let lender = who;
        let others: Vec<_> = boxes.iter().filter(|it| it.id != lender).collect();
        let borrower = others[random.between(0, others.len() as u64) as usize].id;
        let fault = match random.between(0, 10) {
            0..=4 => Fault::Grant {
                lender,
                borrower,
                rate: random.between(10, 4_000) as u32,
                term: Nanos::from_millis(random.between(1_000, 60_000)),
            },
            5..=8 => Fault::Reclaim { lender, borrower },
            _ => Fault::Stop { who, span },
        };
        // Some before any job.
        let early = random.chance(0.3);
        return (if early { Nanos(at.0 / 8) } else { at }, fault);
    }
    let fault = match random.between(0, 10) {
        0..=3 => Fault::Kill {
            who,
            commands: random.between(0, 12),
            down: span,
            both: random.chance(0.5),
        },
        4 => Fault::Freeze { who, span },
        5 => Fault::Cut { who, span },
        6 => Fault::Election { span },
        7 => Fault::Lose {
            jobs: random.chance(0.7),
            answers: random.chance(0.7),
        },
        8 => Fault::Replay { who },
        _ => Fault::Drain { who, span },
    };
    (at, fault)
}

const KEY: KeyHint = KeyHint(7);
const SUBMISSIONS_END: Nanos = Nanos::from_secs(30);
const FAULTS_END: Nanos = Nanos::from_secs(60);
