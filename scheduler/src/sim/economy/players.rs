//! Probes, which show what equal work earns, and adversaries, each beside an honest twin.
//!
//! An adversary and its twin have the same money, and the same jobs in the same hours from somebody who
//! pays both; what differs is what the adversary does besides. Its gain is what it has more at the end than
//! the twin: all of it is the trick's, and none of it luck. Twins have the lower numbers, for the one
//! unit of rounding between equals goes to the lower number, and that is not to look like a gain.
//!
//! A twin of a wash trader has the same money and does nothing with it.

use super::agents::weekly;
use super::market::{Job, Market, sign};
use super::{ERA, Fault, HOUR, milli};
use crate::ledger::command::{Cause, ClassId, Deed, EpochNumber, Event, Id, Owner, Party, Role};
use crate::ledger::{Answer, Command, Error, Stream};

/// Some that play by the rules, and some that do not.
pub(super) struct Players {
    /// Pays the jobs of both twins.
    sponsor: Party,
    probes: Probes,
    washers: [Washer; 2],
    splitter: Splitter,
    climber: Climber,
    phoenix: Phoenix,
    late: Twins,
    replayer: Replayer,
    hasty: Hasty,
}

/// An adversary and its twin in figures.
pub(super) struct Verdict {
    pub(super) name: &'static str,
    pub(super) did: String,
    pub(super) profit: i128,
    pub(super) honest: i128,
}

/// Two nodes with one job each for the same fee, one financial and one light, and their two users.
pub(super) struct Probes {
    financial: (Party, Party),
    light: (Party, Party),
    /// In this epoch they had a job.
    worked: bool,
    pub(super) epochs: u32,
    /// Of the nodes, financial and light; of the users.
    pub(super) nodes: [u128; 2],
    pub(super) users: [u128; 2],
}

/// Two nodes, each of its own owner.
struct Twins {
    honest: Party,
    adversary: Party,
}

/// Owns node, developer and user, and pays itself.
struct Washer {
    name: &'static str,
    honest: Party,
    node: Party,
    developer: Party,
    user: Party,
    fees: u128,
}

/// One owner with many nodes and many stakes.
struct Splitter {
    honest: Party,
    parts: Vec<Party>,
}

/// A developer that asks itself by many accounts, to be paid by a higher tier for its customers' jobs. Half of the
/// accounts are of one verified owner, the others of owners that are not verified.
struct Climber {
    honest: Party,
    developer: Party,
    /// Proves for the customers of both.
    node: Party,
    accounts: Vec<Party>,
    fees: u128,
}

/// Fails, and begins again under another number of the same owner.
struct Phoenix {
    honest: Party,
    owner: Owner,
    /// All that it was; the last is what it is.
    lives: Vec<Party>,
    jobs: u64,
}

/// Sends everything again, in every way that it can think of.
struct Replayer {
    twins: Twins,
    old: Vec<Event>,
    /// Sent, and refused or without effect.
    tries: u64,
}

/// Stakes in the last second of an epoch and ends the stake as soon as it may and another epoch is closed, again and again, to be
/// paid for one epoch more than it has waited. Its twin stakes at the beginning of the same epoch, and ends an epoch before, two
/// seconds late: it has waited for a second longer.
struct Hasty {
    honest: Party,
    adversary: Party,
    /// The epoch in which a stake begins.
    begins: EpochNumber,
    /// The newest of the twin and of the adversary.
    stakes: [Id; 2],
    rounds: u32,
}

impl Players {
    pub(super) fn new(market: &mut Market) -> Result<Players, Fault> {
        let sponsor = market.newcomer(Role::User)?;
        let probe = |market: &mut Market| -> Result<_, Fault> {
            Ok((market.newcomer(Role::Node)?, market.newcomer(Role::User)?))
        };
        let probes = Probes {
            financial: probe(market)?,
            light: probe(market)?,
            worked: false,
            epochs: 0,
            nodes: [0; 2],
            users: [0; 2],
        };
        let twins = |market: &mut Market| -> Result<_, Fault> {
            Ok(Twins {
                honest: market.newcomer(Role::Node)?,
                adversary: market.newcomer(Role::Node)?,
            })
        };
        let washers = [
            Washer::new(market, "wash trader, one owner", true)?,
            Washer::new(market, "wash trader, three owners", false)?,
        ];
        let splitter = Splitter::new(market)?;
        let climber = Climber::new(market)?;
        let phoenix = {
            let honest = market.newcomer(Role::Node)?;
            let owner = market.new_owner(true)?;
            let lives = vec![market.register(Role::Node, owner)?];
            Phoenix {
                honest,
                owner,
                lives,
                jobs: 0,
            }
        };
        Ok(Players {
            sponsor,
            probes,
            washers,
            splitter,
            climber,
            phoenix,
            late: twins(market)?,
            replayer: Replayer {
                twins: twins(market)?,
                old: Vec::new(),
                tries: 0,
            },
            hasty: Hasty::new(market)?,
        })
    }

    /// What they do in an hour.
    pub(super) fn act(&mut self, market: &mut Market, epoch: EpochNumber) -> Result<(), Fault> {
        self.probes.worked = epoch.is_multiple_of(EVERY);
        if self.probes.worked {
            let sponsor = self.sponsor;
            self.probes.act(market)?;
            self.washers.iter_mut().try_for_each(|w| w.act(market))?;
            self.splitter.act(market, sponsor)?;
            self.climber.act(market, sponsor)?;
            self.phoenix.act(market, sponsor, epoch)?;
            for node in [self.late.honest, self.late.adversary] {
                market.job(&Job::proof(node, sponsor, LIGHT, FEE))?;
            }
            self.replayer.act(market, sponsor)?;
        }
        let twins = [self.late.honest, self.phoenix.honest, self.splitter.honest];
        let replayers = [self.replayer.twins.honest, self.replayer.twins.adversary];
        let developers = [self.climber.honest, self.climber.developer];
        let claiming = twins.iter().chain(&replayers).chain(&developers);
        let claiming = claiming.chain(&self.climber.accounts);
        let claiming = claiming
            .chain(&self.splitter.parts)
            .chain(&self.phoenix.lives);
        for &party in claiming {
            if weekly(party, epoch) {
                market.claim(party);
            }
        }
        for washer in &self.washers {
            for party in [washer.node, washer.developer, washer.user] {
                if weekly(party, epoch) {
                    market.claim(party);
                }
            }
        }
        // It lets time pass, so it is the last.
        self.hasty.act(market, epoch)
    }

    /// Looks at what an epoch pays them: its probes exactly as their classes say, its twins alike.
    pub(super) fn closed(
        &mut self,
        market: &Market,
        epoch: EpochNumber,
        streams: &[Stream; 4],
    ) -> Result<(), Fault> {
        if !self.probes.worked {
            return Ok(());
        }
        self.probes.closed(market, streams)?;
        let paid = |party| amount_of(&streams[0], party).1;
        let phoenix: u128 = self.phoenix.lives.iter().map(|&party| paid(party)).sum();
        let splitter: u128 = self.splitter.parts.iter().map(|&party| paid(party)).sum();
        for (name, adversary, honest) in [
            ("splitter", splitter, self.splitter.honest),
            ("re-registering node", phoenix, self.phoenix.honest),
            ("late claimer", paid(self.late.adversary), self.late.honest),
            (
                "replayer",
                paid(self.replayer.twins.adversary),
                self.replayer.twins.honest,
            ),
        ] {
            let honest = paid(honest);
            // The one unit is that of the twin's lower number.
            let same = adversary == honest || adversary + 1 == honest;
            let what = format!("what epoch {epoch} pays the {name}");
            market.hold(same, &what, honest, adversary)?;
        }
        Ok(())
    }

    /// The late claimer comes at last: for what was settled on the chain, too.
    pub(super) fn end(&mut self, market: &mut Market) -> Result<(), Fault> {
        let late = self.late.adversary;
        market.claim(late);
        let payouts = market.ledger.payouts(late).unwrap_or_default();
        let waits = payouts.iter().all(|&(_, _, matures)| matures > market.now);
        market.hold(waits, "payouts after a claim", "none that matured", "some")?;
        let again = market.claim(late);
        market.hold(
            again.is_none(),
            "a second claim",
            "nothing",
            again.unwrap_or(0),
        )
    }

    pub(super) fn probes(&self) -> &Probes {
        &self.probes
    }

    pub(super) fn verdicts(&self, market: &Market) -> Vec<Verdict> {
        let profit = |party: &Party| market.profit(*party);
        let mut verdicts: Vec<_> = self
            .washers
            .iter()
            .map(|washer| Verdict {
                name: washer.name,
                did: format!("paid itself {} ERA in fees", washer.fees / ERA),
                profit: [washer.node, washer.developer, washer.user]
                    .iter()
                    .map(profit)
                    .sum(),
                honest: profit(&washer.honest),
            })
            .collect();
        verdicts.extend([
            Verdict {
                name: "splitter",
                did: format!("{} nodes, {PIECES} stakes", self.splitter.parts.len()),
                profit: self.splitter.parts.iter().map(profit).sum(),
                honest: profit(&self.splitter.honest),
            },
            Verdict {
                name: "tier climber",
                did: format!(
                    "asked itself by {} accounts, for {} units",
                    self.climber.accounts.len(),
                    self.climber.fees
                ),
                profit: profit(&self.climber.developer)
                    + self.climber.accounts.iter().map(profit).sum::<i128>(),
                honest: profit(&self.climber.honest),
            },
            Verdict {
                name: "re-registering node",
                did: format!(
                    "{} numbers for {} jobs",
                    self.phoenix.lives.len(),
                    self.phoenix.jobs
                ),
                profit: self.phoenix.lives.iter().map(profit).sum(),
                honest: profit(&self.phoenix.honest),
            },
            Verdict {
                name: "late claimer",
                did: "claimed once, on the last day".to_owned(),
                profit: profit(&self.late.adversary),
                honest: profit(&self.late.honest),
            },
            Verdict {
                name: "replayer",
                did: format!("sent {} events again", self.replayer.tries),
                profit: profit(&self.replayer.twins.adversary),
                honest: profit(&self.replayer.twins.honest),
            },
            Verdict {
                name: "just-in-time staker",
                did: format!("staked {} times for a close", self.hasty.rounds),
                profit: profit(&self.hasty.adversary),
                honest: profit(&self.hasty.honest),
            },
        ]);
        verdicts
    }
}

impl Probes {
    fn act(&mut self, market: &mut Market) -> Result<(), Fault> {
        for ((node, user), class) in [(self.financial, FINANCIAL), (self.light, LIGHT)] {
            market.job(&Job::proof(node, user, class, FEE))?;
        }
        Ok(())
    }

    fn closed(&mut self, market: &Market, streams: &[Stream; 4]) -> Result<(), Fault> {
        self.epochs += 1;
        let coefficients = |class| {
            let class = market.policy().class(class);
            class.map_or((0, 0), |class| {
                (u128::from(class.proof), u128::from(class.user))
            })
        };
        let (more, less) = (coefficients(FINANCIAL), coefficients(LIGHT));
        let pairs = [
            (0, self.financial.0, self.light.0, (more.0, less.0)),
            (2, self.financial.1, self.light.1, (more.1, less.1)),
        ];
        for (at, financial, light, (more, less)) in pairs {
            let (weight_more, paid_more) = amount_of(&streams[at], financial);
            let (weight_less, paid_less) = amount_of(&streams[at], light);
            let exact = weight_more * less == weight_less * more && weight_less > 0;
            let ratio = format!("{more}:{less}");
            market.hold(exact, "weights", &ratio, weight_more)?;
            // Each is less than a unit from its share.
            let apart = (paid_more * less).abs_diff(paid_less * more);
            market.hold(apart < more + less, "payouts", &ratio, paid_more)?;
            let sums = if at == 0 {
                &mut self.nodes
            } else {
                &mut self.users
            };
            sums[0] += paid_more;
            sums[1] += paid_less;
        }
        Ok(())
    }
}

impl Washer {
    fn new(market: &mut Market, name: &'static str, one: bool) -> Result<Washer, Fault> {
        let honest = market.newcomer(Role::User)?;
        let mut owner = market.new_owner(true)?;
        let mut parties = [0; 3];
        for (party, role) in parties
            .iter_mut()
            .zip([Role::Node, Role::Developer, Role::User])
        {
            *party = market.register(role, owner)?;
            if !one {
                owner = market.new_owner(true)?;
            }
        }
        let [node, developer, user] = parties;
        for party in [honest, user] {
            market.fund(party, 200 * ERA)?;
        }
        Ok(Washer {
            name,
            honest,
            node,
            developer,
            user,
            fees: 0,
        })
    }

    /// Pays itself as long as there is something, in the class that pays most, and pays again with what comes back.
    fn act(&mut self, market: &mut Market) -> Result<(), Fault> {
        let had = market.free(self.user);
        let fee = FEE.min(had * 10 / 11);
        if fee == 0 {
            return Ok(());
        }
        let job = Job {
            developer: Some(self.developer),
            ..Job::proof(self.node, self.user, FINANCIAL, fee)
        };
        market.job(&job)?;
        self.fees += fee;
        Ok(())
    }
}

impl Splitter {
    fn new(market: &mut Market) -> Result<Splitter, Fault> {
        let honest = market.newcomer(Role::Node)?;
        let owner = market.new_owner(true)?;
        let parts: Result<Vec<_>, _> = (0..PARTS)
            .map(|_| market.register(Role::Node, owner))
            .collect();
        let parts = parts?;
        let stake = |party, amount| Command::Stake { party, amount };
        market.fund(honest, STAKE)?;
        market.must(stake(honest, STAKE))?;
        market.fund(parts[0], STAKE)?;
        // Odd pieces, whose fractions differ.
        let piece = STAKE / u128::from(PIECES) - 12_345;
        for _ in 1..PIECES {
            market.must(stake(parts[0], piece))?;
        }
        let last = STAKE - piece * u128::from(PIECES - 1);
        market.must(stake(parts[0], last))?;
        Ok(Splitter { honest, parts })
    }

    fn act(&mut self, market: &mut Market, sponsor: Party) -> Result<(), Fault> {
        for (at, &part) in (1..).zip(&self.parts) {
            // Fees that no division makes even.
            let fee = FEE / PARTS + at * 1_000_003;
            for node in [self.honest, part] {
                market.job(&Job::proof(node, sponsor, LIGHT, fee))?;
            }
        }
        Ok(())
    }
}

impl Climber {
    fn new(market: &mut Market) -> Result<Climber, Fault> {
        let honest = market.newcomer(Role::Developer)?;
        let developer = market.newcomer(Role::Developer)?;
        let node = market.newcomer(Role::Node)?;
        let friend = market.new_owner(true)?;
        let mut accounts = Vec::new();
        for at in 0..ACCOUNTS {
            let owner = match at % 2 {
                0 => friend,
                _ => market.new_owner(false)?,
            };
            let account = market.register(Role::User, owner)?;
            market.fund(account, ERA)?;
            accounts.push(account);
        }
        Ok(Climber {
            honest,
            developer,
            node,
            accounts,
            fees: 0,
        })
    }

    /// A customer's job for each, and the climber's own at the smallest fee that counts.
    fn act(&mut self, market: &mut Market, sponsor: Party) -> Result<(), Fault> {
        for developer in [self.honest, self.developer] {
            let developer = Some(developer);
            market.job(&Job {
                developer,
                ..Job::proof(self.node, sponsor, LIGHT, FEE)
            })?;
        }
        let fee = market.policy().fees.min;
        for (class, &account) in (0..3).cycle().zip(&self.accounts) {
            self.fees += fee;
            market.job(&Job {
                developer: Some(self.developer),
                ..Job::proof(self.node, account, class, fee)
            })?;
        }
        Ok(())
    }
}

impl Phoenix {
    /// One job of four fails, for its twin, too.
    fn act(
        &mut self,
        market: &mut Market,
        sponsor: Party,
        epoch: EpochNumber,
    ) -> Result<(), Fault> {
        if epoch > 0 && epoch.is_multiple_of(LIFE) {
            self.lives.push(market.register(Role::Node, self.owner)?);
        }
        let now = self.lives[self.lives.len() - 1];
        for _ in 0..2 {
            self.jobs += 1;
            for node in [self.honest, now] {
                let job = Job::proof(node, sponsor, LIGHT, FEE);
                if self.jobs.is_multiple_of(4) {
                    market.failure(&job, Cause::Node)?;
                } else {
                    market.job(&job)?;
                }
            }
        }
        Ok(())
    }
}

impl Replayer {
    fn act(&mut self, market: &mut Market, sponsor: Party) -> Result<(), Fault> {
        let Twins { honest, adversary } = self.twins;
        market.job(&Job::proof(honest, sponsor, LIGHT, FEE))?;
        let (hold, event) = market.job(&Job::proof(adversary, sponsor, LIGHT, FEE))?;
        let old = (self.tries as usize * 7 + 3) % self.old.len().max(1);
        let old = self.old.get(old).unwrap_or(&event).clone();
        self.old.push(event.clone());

        // The same, now and long after; it changes nothing.
        for again in [&event, &old] {
            let answer = self.send(market, adversary, again);
            let nothing = matches!(answer, Ok(Answer::Before { .. }));
            market.hold(
                nothing,
                "an event again",
                "no effect",
                format!("{answer:?}"),
            )?;
        }
        // The same number with more in it; another number for the same hold; another's name.
        let dearer = dearer(&event, hold);
        let answer = self.send(market, adversary, &dearer);
        let refused = matches!(answer, Err(Error::Conflict { .. }));
        market.hold(
            refused,
            "a changed event",
            "Conflict",
            format!("{answer:?}"),
        )?;
        let once_more = market.event(adversary, event.what.clone());
        let answer = self.send(market, adversary, &once_more);
        let refused = matches!(answer, Err(Error::Resolved { .. }));
        market.hold(refused, "a hold again", "Resolved", format!("{answer:?}"))?;
        let forged = Event {
            node: honest,
            sequence: u64::MAX - self.tries,
            ..event
        };
        let answer = self.send(market, adversary, &forged);
        let refused = matches!(answer, Err(Error::Signature { .. }));
        market.hold(
            refused,
            "another's name",
            "Signature",
            format!("{answer:?}"),
        )
    }

    fn send(&mut self, market: &mut Market, signer: Party, event: &Event) -> Result<Answer, Error> {
        self.tries += 1;
        let signature = sign(signer, event);
        let event = event.clone();
        market.put(0, Command::Meter { event, signature })
    }
}

impl Hasty {
    fn new(market: &mut Market) -> Result<Hasty, Fault> {
        let (honest, adversary) = (market.newcomer(Role::User)?, market.newcomer(Role::User)?);
        for party in [honest, adversary] {
            market.fund(party, STAKE)?;
        }
        Ok(Hasty {
            honest,
            adversary,
            begins: 1,
            stakes: [0; 2],
            rounds: 0,
        })
    }

    fn act(&mut self, market: &mut Market, epoch: EpochNumber) -> Result<(), Fault> {
        let rules = &market.policy().staking;
        let hours = |seconds: u64| seconds.div_ceil(HOUR) as EpochNumber;
        let ends = self.begins + hours(rules.lock_s);
        let free = ends + hours(rules.unbonding_s) + 2;
        let stake = |party| Command::Stake {
            party,
            amount: STAKE,
        };
        let end = |stake| Command::Unstake {
            stake,
            amount: STAKE,
        };
        let begun = market.now;
        if epoch == self.begins {
            self.stakes[0] = market.must(stake(self.honest))?.0;
            market.now = begun + HOUR - 1;
            self.stakes[1] = market.must(stake(self.adversary))?.0;
            self.rounds += 1;
        }
        if epoch == ends {
            market.now = begun + 2;
            market.must(end(self.stakes[0]))?;
        }
        if epoch == ends + 1 {
            market.must(end(self.stakes[1]))?;
        }
        if epoch == free + 1 {
            self.begins = epoch + 1;
        }
        market.now = begun;
        Ok(())
    }
}

fn dearer(event: &Event, hold: Id) -> Event {
    let what = Deed::Proof {
        hold,
        class: FINANCIAL,
        developer: None,
        fee: FEE + 1,
        proof: [9; 32],
    };
    Event {
        what,
        ..event.clone()
    }
}

/// Weight and amount of a party in a stream.
fn amount_of(stream: &Stream, party: Party) -> (u128, u128) {
    let portion = stream.parties.iter().find(|portion| portion.party == party);
    portion.map_or((0, 0), |portion| (portion.weight, portion.amount))
}

const LIGHT: ClassId = 0;
const FINANCIAL: ClassId = 1;
/// Of a controlled job.
const FEE: u128 = milli(200) + 7;
/// Hours from one round of controlled jobs to the next.
const EVERY: EpochNumber = 3;
/// Hours after which a bad node takes another number.
const LIFE: EpochNumber = 720;
/// Nodes of the splitter.
const PARTS: u128 = 5;
/// Accounts of the climber.
const ACCOUNTS: u32 = 20;
/// Stakes of the splitter.
const PIECES: u32 = 7;
const STAKE: u128 = 1_000 * ERA;
