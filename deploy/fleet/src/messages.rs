//! What boxes send each other: subjects, which say from whom and what for, and bodies, which say the rest.
//!
//! A broker lets each box publish below its own name alone, so what a subject says of its sender is true; a body says nothing that
//! its subject says. Bodies are JSON with a version, at most [`BODY_MAX`] bytes, and are read strictly: what is not
//! understood is an error with a name, and has no effect.
//!
//! ```text
//! caldera.job.SUBMITTER.LENDER.BOOT.JOB.TOKEN     a job; the boot is the lender's
//! caldera.answer.LENDER.SUBMITTER.JOB.TOKEN       its answer
//! caldera.beat.BOX                                what a box offers
//! caldera.held.LENDER.SUBMITTER                   which of a box's jobs another holds
//! caldera.withdrawn.SUBMITTER.LENDER              a placement that is of no use
//! caldera.loan.LENDER.BORROWER                    what a box has granted to another
//! ```
//!
//! Whoever sends stands first, so that one pattern is all that a box may publish: `caldera.*.BOX.>` and `caldera.beat.BOX`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caldera_rpc::methods::Bill;
use caldera_scheduler::{JobId, Nanos};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::loan::{Loan, LoanNumber};
use crate::{Advertisement, Answer, Boot, BoxId, Demand, KeyHint, Refusal, Token};

/// A body that is longer is not read.
pub const BODY_MAX: usize = 64 * 1024;
/// Of so many keys a box says that it has them.
pub const KEYS_MAX: usize = 64;
/// Of so many jobs a box says in one message that it holds them.
pub const HELD_MAX: usize = 1_024;

/// What a message is, from whom and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A job.
    Job {
        /// Whose it is.
        submitter: BoxId,
        /// Who is to prove it.
        lender: BoxId,
        /// In which of its starts.
        boot: Boot,
        /// Which job.
        job: JobId,
        /// Which placement.
        token: Token,
    },
    /// An answer.
    Answer {
        /// Who gives it.
        lender: BoxId,
        /// For whom.
        submitter: BoxId,
        /// To which job.
        job: JobId,
        /// To which placement.
        token: Token,
    },
    /// What a box offers.
    Beat {
        /// Which.
        from: BoxId,
    },
    /// Which jobs are held.
    Held {
        /// By whom.
        lender: BoxId,
        /// Whose.
        submitter: BoxId,
    },
    /// A placement that is of no use.
    Withdrawn {
        /// Whose.
        submitter: BoxId,
        /// With whom.
        lender: BoxId,
    },
    /// What a box has granted to another.
    Loan {
        /// Who.
        lender: BoxId,
        /// To whom.
        borrower: BoxId,
    },
}

/// What is in a message of a job, beside what the subject says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobBody {
    /// Where its submitter gives out key and witness.
    pub from: SocketAddr,
    /// Its proving key.
    pub key: [u8; 32],
    /// How long that is.
    pub key_bytes: u64,
    /// Its witness.
    pub witness: [u8; 32],
    /// How long that is.
    pub witness_bytes: u64,
    /// What it takes of one core of the speed 1,000.
    pub work: Nanos,
    /// What was left until its deadline when it was published.
    pub left: Option<Nanos>,
    /// What may be paid for a second of a core.
    pub price_max: u64,
    /// What it earns its lender in the submitter's ledger.
    pub bill: Option<Bill>,
}

/// A message that is not one of the fleet's.
#[derive(Debug, Error)]
pub enum MessageError {
    /// The subject.
    #[error("subject {got:?}: expected {expected}")]
    Subject {
        /// What was expected.
        expected: &'static str,
        /// What there is.
        got: String,
    },
    /// The body is long.
    #[error("{what}: expected at most {BODY_MAX} bytes, got {got}")]
    Long {
        /// What it was to be.
        what: &'static str,
        /// How long it is.
        got: usize,
    },
    /// The body is something else.
    #[error("{what}")]
    Body {
        /// What it was to be.
        what: &'static str,
        /// Why it is not.
        source: serde_json::Error,
    },
    /// It is written as another version of this program writes it.
    #[error(
        "{what}: expected version {VERSION}, got {got}: let the boxes of a fleet run one version of calderad-fleet"
    )]
    Version {
        /// What it was to be.
        what: &'static str,
        /// Which it is.
        got: u32,
    },
    /// There is too much in it.
    #[error("{what}: expected at most {max} {of}, got {got}")]
    Many {
        /// What it was to be.
        what: &'static str,
        /// Of what there is too much.
        of: &'static str,
        /// How many there may be.
        max: usize,
        /// How many there are.
        got: usize,
    },
}

impl Subject {
    /// Reads a subject as [`fmt::Display`] writes it, and no other.
    pub fn parse(text: &str) -> Result<Subject, MessageError> {
        let wrong = |expected| MessageError::Subject {
            expected,
            got: text.chars().take(SUBJECT_SHOWN).collect(),
        };
        let mut parts = text.split('.');
        let mut next = || parts.next().unwrap_or_default();
        if next() != PREFIX {
            return Err(wrong("one that begins with caldera"));
        }
        let kind = next();
        let a_box = |text: &str| hexadecimal(text, 32).map(BoxId);
        let a_number = |text: &str| hexadecimal(text, 16).and_then(|it| u64::try_from(it).ok());
        let subject = match kind {
            "job" => (|| {
                Some(Subject::Job {
                    submitter: a_box(next())?,
                    lender: a_box(next())?,
                    boot: Boot(a_number(next())?),
                    job: JobId(a_number(next())?),
                    token: Token(a_number(next())?),
                })
            })(),
            "answer" => (|| {
                Some(Subject::Answer {
                    lender: a_box(next())?,
                    submitter: a_box(next())?,
                    job: JobId(a_number(next())?),
                    token: Token(a_number(next())?),
                })
            })(),
            "beat" => a_box(next()).map(|from| Subject::Beat { from }),
            "held" => (|| {
                Some(Subject::Held {
                    lender: a_box(next())?,
                    submitter: a_box(next())?,
                })
            })(),
            "withdrawn" => (|| {
                Some(Subject::Withdrawn {
                    submitter: a_box(next())?,
                    lender: a_box(next())?,
                })
            })(),
            "loan" => (|| {
                Some(Subject::Loan {
                    lender: a_box(next())?,
                    borrower: a_box(next())?,
                })
            })(),
            _ => {
                return Err(wrong(
                    "a job, an answer, a beat, what is held, withdrawn or lent",
                ));
            }
        };
        match (subject, parts.next()) {
            (Some(subject), None) => Ok(subject),
            _ => Err(wrong("boxes of 32 and numbers of 16 hexadecimal digits")),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Job {
                submitter,
                lender,
                boot,
                job,
                token,
            } => write!(
                f,
                "{PREFIX}.job.{:032x}.{:032x}.{:016x}.{:016x}.{:016x}",
                submitter.0, lender.0, boot.0, job.0, token.0
            ),
            Subject::Answer {
                lender,
                submitter,
                job,
                token,
            } => write!(
                f,
                "{PREFIX}.answer.{:032x}.{:032x}.{:016x}.{:016x}",
                lender.0, submitter.0, job.0, token.0
            ),
            Subject::Beat { from } => write!(f, "{PREFIX}.beat.{:032x}", from.0),
            Subject::Held { lender, submitter } => {
                write!(f, "{PREFIX}.held.{:032x}.{:032x}", lender.0, submitter.0)
            }
            Subject::Withdrawn { submitter, lender } => {
                write!(
                    f,
                    "{PREFIX}.withdrawn.{:032x}.{:032x}",
                    submitter.0, lender.0
                )
            }
            Subject::Loan { lender, borrower } => {
                write!(f, "{PREFIX}.loan.{:032x}.{:032x}", lender.0, borrower.0)
            }
        }
    }
}

impl JobBody {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        encode(&RawJob {
            v: VERSION,
            from: self.from,
            key: hex::encode(self.key),
            key_bytes: self.key_bytes,
            witness: hex::encode(self.witness),
            witness_bytes: self.witness_bytes,
            work_us: self.work.as_micros(),
            left_us: self.left.map(Nanos::as_micros),
            price_max: self.price_max,
            bill: self.bill,
        })
    }

    /// As it is read.
    pub fn decode(body: &[u8]) -> Result<JobBody, MessageError> {
        let raw: RawJob = decode(JOB, body)?;
        version(JOB, raw.v)?;
        Ok(JobBody {
            from: raw.from,
            key: digest(JOB, &raw.key)?,
            key_bytes: raw.key_bytes,
            witness: digest(JOB, &raw.witness)?,
            witness_bytes: raw.witness_bytes,
            work: Nanos::from_micros(raw.work_us),
            left: raw.left_us.map(Nanos::from_micros),
            price_max: raw.price_max,
            bill: raw.bill,
        })
    }

    /// What is decided by, where it is read now.
    pub fn demand(&self, now: Nanos) -> Demand {
        let [a, b, c, d, e, f, g, h, ..] = self.key;
        Demand {
            key: KeyHint(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            key_bytes: self.key_bytes,
            witness_bytes: self.witness_bytes,
            work: self.work,
            due: self.left.map(|left| now.plus(left)),
            price_max: self.price_max,
        }
    }
}

/// An answer, with the start of the box that gives it.
pub fn encode_answer(boot: Boot, answer: &Answer) -> Vec<u8> {
    let outcome = match answer {
        Answer::Proof(proof) => RawOutcome::Proof(STANDARD.encode(proof)),
        Answer::Failed => RawOutcome::Failed,
        Answer::Refused(Refusal::Full) => RawOutcome::Full,
        Answer::Refused(Refusal::Draining) => RawOutcome::Draining,
        Answer::Refused(Refusal::TooLate) => RawOutcome::TooLate,
        Answer::Refused(Refusal::Loan) => RawOutcome::Loan,
    };
    encode(&RawAnswer {
        v: VERSION,
        boot: boot.0,
        outcome,
    })
}

/// As it is read.
pub fn decode_answer(body: &[u8]) -> Result<(Boot, Answer), MessageError> {
    let raw: RawAnswer = decode(ANSWER, body)?;
    version(ANSWER, raw.v)?;
    let answer = match raw.outcome {
        RawOutcome::Proof(proof) => {
            let proof = STANDARD
                .decode(&proof)
                .map_err(|error| body_error(ANSWER, error))?;
            Answer::Proof(Arc::from(proof))
        }
        RawOutcome::Failed => Answer::Failed,
        RawOutcome::Full => Answer::Refused(Refusal::Full),
        RawOutcome::Draining => Answer::Refused(Refusal::Draining),
        RawOutcome::TooLate => Answer::Refused(Refusal::TooLate),
        RawOutcome::Loan => Answer::Refused(Refusal::Loan),
    };
    Ok((Boot(raw.boot), answer))
}

/// What a box offers; of its keys the first [`KEYS_MAX`].
pub fn encode_beat(says: &Advertisement) -> Vec<u8> {
    let keys = says.keys.iter().take(KEYS_MAX);
    encode(&RawBeat {
        v: VERSION,
        boot: says.boot.0,
        sequence: says.sequence,
        room: says.room,
        backlog_us: says.backlog.as_micros(),
        cores: says.cores,
        speed: says.speed,
        price: says.price,
        keys: keys.map(|key| format!("{:016x}", key.0)).collect(),
    })
}

/// As it is read.
pub fn decode_beat(body: &[u8]) -> Result<Advertisement, MessageError> {
    let raw: RawBeat = decode(BEAT, body)?;
    version(BEAT, raw.v)?;
    few(BEAT, "keys", KEYS_MAX, raw.keys.len())?;
    let key = |text: &String| {
        let key = hexadecimal(text, 16).and_then(|key| u64::try_from(key).ok());
        key.map(KeyHint)
            .ok_or_else(|| body_error(BEAT, "expected keys of 16 hexadecimal digits"))
    };
    Ok(Advertisement {
        boot: Boot(raw.boot),
        sequence: raw.sequence,
        room: raw.room,
        backlog: Nanos::from_micros(raw.backlog_us),
        cores: raw.cores,
        speed: raw.speed,
        price: raw.price,
        keys: raw.keys.iter().map(key).collect::<Result<_, _>>()?,
    })
}

/// Which jobs are held, as messages of at most [`HELD_MAX`] each.
pub fn encode_held(boot: Boot, jobs: &[(JobId, Token)]) -> Vec<Vec<u8>> {
    let message = |jobs: &[(JobId, Token)]| {
        encode(&RawHeld {
            v: VERSION,
            boot: boot.0,
            jobs: jobs.iter().map(|(job, token)| (job.0, token.0)).collect(),
        })
    };
    jobs.chunks(HELD_MAX).map(message).collect()
}

/// As it is read.
pub fn decode_held(body: &[u8]) -> Result<(Boot, Vec<(JobId, Token)>), MessageError> {
    let raw: RawHeld = decode(HELD, body)?;
    version(HELD, raw.v)?;
    few(HELD, "jobs", HELD_MAX, raw.jobs.len())?;
    let jobs = raw.jobs.into_iter();
    let jobs = jobs.map(|(job, token)| (JobId(job), Token(token)));
    Ok((Boot(raw.boot), jobs.collect()))
}

/// A placement that is of no use.
pub fn encode_withdrawn(job: JobId, token: Token) -> Vec<u8> {
    encode(&RawWithdrawn {
        v: VERSION,
        job: job.0,
        token: token.0,
    })
}

/// As it is read.
pub fn decode_withdrawn(body: &[u8]) -> Result<(JobId, Token), MessageError> {
    let raw: RawWithdrawn = decode(WITHDRAWN, body)?;
    version(WITHDRAWN, raw.v)?;
    Ok((JobId(raw.job), Token(raw.token)))
}

/// What is granted, to be told and to be kept.
pub fn encode_loan(loan: &Loan) -> Vec<u8> {
    encode(&RawLoan {
        v: VERSION,
        boot: loan.number.boot.0,
        nth: loan.number.nth,
        rate: loan.rate,
        left_us: loan.left.as_micros(),
    })
}

/// As it is read.
pub fn decode_loan(body: &[u8]) -> Result<Loan, MessageError> {
    let raw: RawLoan = decode(LOAN, body)?;
    version(LOAN, raw.v)?;
    let (boot, nth) = (Boot(raw.boot), raw.nth);
    Ok(Loan {
        number: LoanNumber { boot, nth },
        rate: raw.rate,
        left: Nanos::from_micros(raw.left_us),
    })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawJob {
    v: u32,
    from: SocketAddr,
    key: String,
    key_bytes: u64,
    witness: String,
    witness_bytes: u64,
    work_us: u64,
    left_us: Option<u64>,
    price_max: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bill: Option<Bill>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawAnswer {
    v: u32,
    boot: u64,
    outcome: RawOutcome,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RawOutcome {
    Proof(String),
    Failed,
    Full,
    Draining,
    TooLate,
    Loan,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawBeat {
    v: u32,
    boot: u64,
    sequence: u64,
    room: u32,
    backlog_us: u64,
    cores: u32,
    speed: u32,
    price: u64,
    keys: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawHeld {
    v: u32,
    boot: u64,
    jobs: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawWithdrawn {
    v: u32,
    job: u64,
    token: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawLoan {
    v: u32,
    boot: u64,
    nth: u32,
    rate: u32,
    left_us: u64,
}

/// Only the version, of whatever it is the version.
#[derive(Deserialize)]
struct RawVersion {
    v: u32,
}

fn encode(raw: &impl Serialize) -> Vec<u8> {
    // Structs of numbers and strings: there is nothing in them that JSON cannot hold.
    serde_json::to_vec(raw).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(what: &'static str, body: &'a [u8]) -> Result<T, MessageError> {
    if body.len() > BODY_MAX {
        let got = body.len();
        return Err(MessageError::Long { what, got });
    }
    serde_json::from_slice(body).map_err(|source| {
        // What a newer version has added is no fault of a message.
        match serde_json::from_slice(body) {
            Ok(RawVersion { v }) if v != VERSION => MessageError::Version { what, got: v },
            _ => MessageError::Body { what, source },
        }
    })
}

fn version(what: &'static str, got: u32) -> Result<(), MessageError> {
    match got {
        VERSION => Ok(()),
        got => Err(MessageError::Version { what, got }),
    }
}

fn few(what: &'static str, of: &'static str, max: usize, got: usize) -> Result<(), MessageError> {
    match got <= max {
        true => Ok(()),
        false => Err(MessageError::Many { what, of, max, got }),
    }
}

fn digest(what: &'static str, text: &str) -> Result<[u8; 32], MessageError> {
    let mut digest = [0; 32];
    match hex::decode_to_slice(text, &mut digest) {
        Ok(()) => Ok(digest),
        Err(error) => Err(body_error(what, error)),
    }
}

fn body_error(what: &'static str, error: impl fmt::Display) -> MessageError {
    let source = <serde_json::Error as serde::de::Error>::custom(error);
    MessageError::Body { what, source }
}

/// So many digits, in lower case, and nothing else.
fn hexadecimal(text: &str, digits: usize) -> Option<u128> {
    let all = text
        .bytes()
        .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && all)
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

const PREFIX: &str = "caldera";
const VERSION: u32 = 1;
const JOB: &str = "job";
const ANSWER: &str = "answer";
const BEAT: &str = "beat";
const HELD: &str = "list of what is held";
const WITHDRAWN: &str = "withdrawal";
const LOAN: &str = "loan";
const SUBJECT_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    use caldera_rpc::chain::chain;

    const ONE: BoxId = BoxId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    const TWO: BoxId = BoxId(2);

    #[test]
    fn a_subject_is_read_as_it_is_written_and_not_otherwise() {
        let (job, token) = (JobId(9), Token(u64::MAX));
        let (submitter, lender) = (ONE, TWO);
        let boot = Boot(3);
        let subjects = [
            Subject::Job {
                submitter,
                lender,
                boot,
                job,
                token,
            },
            Subject::Answer {
                lender,
                submitter,
                job,
                token,
            },
            Subject::Beat { from: ONE },
            Subject::Held { lender, submitter },
            Subject::Withdrawn { submitter, lender },
            Subject::Loan {
                lender,
                borrower: submitter,
            },
        ];
        for subject in subjects {
            let text = subject.to_string();
            assert_eq!(Subject::parse(&text).expect(&text), subject);
            let cut = &text[..text.len() - 1];
            let capitals = text.to_uppercase();
            let signed = format!("{cut}+");
            let longer = format!("{text}.0");
            for wrong in [cut, &capitals, &signed, &longer, &format!("x{text}"), ""] {
                let error = Subject::parse(wrong).expect_err(wrong);
                assert!(matches!(error, MessageError::Subject { .. }), "{error}");
            }
        }
        // Whoever sends stands where a permission looks for him.
        let answer = subjects[1].to_string();
        assert!(answer.starts_with(&format!("caldera.answer.{:032x}.", lender.0)));
    }

    #[test]
    fn bodies_are_read_as_they_are_written() {
        let job = JobBody {
            from: "[::1]:7421".parse().expect("an address"),
            key: [7; 32],
            key_bytes: 1,
            witness: [8; 32],
            witness_bytes: u64::MAX,
            work: Nanos::from_millis(5),
            left: Some(Nanos::from_secs(1)),
            price_max: 3,
            bill: None,
        };
        assert_eq!(JobBody::decode(&job.encode()).expect("a job"), job);
        let demand = job.demand(Nanos::from_secs(1));
        assert_eq!(demand.due, Some(Nanos::from_secs(2)));
        assert_eq!(demand.key, KeyHint(0x0707_0707_0707_0707));

        let answers = [
            Answer::Proof(vec![0, 255].into()),
            Answer::Failed,
            Answer::Refused(Refusal::Full),
            Answer::Refused(Refusal::Draining),
            Answer::Refused(Refusal::TooLate),
            Answer::Refused(Refusal::Loan),
        ];
        for answer in answers {
            let read = decode_answer(&encode_answer(Boot(4), &answer));
            assert_eq!(read.expect("an answer"), (Boot(4), answer));
        }

        let says = Advertisement {
            boot: Boot(1),
            sequence: 2,
            room: 3,
            backlog: Nanos::from_millis(4),
            cores: 5,
            speed: 6,
            price: 7,
            keys: (0..100).map(KeyHint).collect(),
        };
        let body = encode_beat(&says);
        // Of which docs/fleet.md counts the bytes.
        assert!(body.len() <= 1_500, "{}", body.len());
        let read = decode_beat(&body).expect("a beat");
        assert_eq!(read.keys, says.keys[..KEYS_MAX]);
        assert_eq!(
            Advertisement {
                keys: vec![],
                ..read
            },
            Advertisement {
                keys: vec![],
                ..says
            }
        );

        let jobs: Vec<_> = (0..2_000)
            .map(|n| (JobId(n), Token(n + u64::MAX / 2)))
            .collect();
        let mut held = Vec::new();
        for body in encode_held(Boot(9), &jobs) {
            assert!(body.len() < BODY_MAX, "{}", body.len());
            let (boot, jobs) = decode_held(&body).expect("a list");
            assert_eq!(boot, Boot(9));
            held.extend(jobs);
        }
        assert_eq!(held, jobs);

        let withdrawn = decode_withdrawn(&encode_withdrawn(JobId(1), Token(2)));
        assert_eq!(withdrawn.expect("a withdrawal"), (JobId(1), Token(2)));

        let number = LoanNumber {
            boot: Boot(5),
            nth: u32::MAX,
        };
        let loan = Loan {
            number,
            rate: 2_000,
            left: Nanos::from_secs(1),
        };
        assert_eq!(decode_loan(&encode_loan(&loan)).expect("a loan"), loan);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let refused =
            |body: &[u8]| chain(&decode_withdrawn(body).expect_err("it is none")).to_string();
        let newer = br#"{"v":2,"job":1,"token":2,"why":"x"}"#;
        let version = "withdrawal: expected version 1, got 2: let the boxes of a fleet run one version of calderad-fleet";
        assert_eq!(refused(newer), version);
        let unknown = refused(br#"{"v":1,"job":1,"token":2,"why":"x"}"#);
        assert!(unknown.contains("unknown field `why`"), "{unknown}");
        let long = refused(&vec![b' '; BODY_MAX + 1]);
        assert_eq!(long, "withdrawal: expected at most 65536 bytes, got 65537");
        for body in [&b"null"[..], b"", b"{", br#"{"v":1,"job":-1,"token":2}"#] {
            assert!(refused(body).starts_with("withdrawal: "));
        }

        let keys = vec!["00"; KEYS_MAX + 1];
        let beat = serde_json::json!({"v": 1, "boot": 1, "sequence": 1, "room": 1, "backlogUs": 1,
            "cores": 1, "speed": 1, "price": 1, "keys": keys});
        let error = decode_beat(beat.to_string().as_bytes()).expect_err("there are many");
        assert_eq!(error.to_string(), "beat: expected at most 64 keys, got 65");
    }
}
