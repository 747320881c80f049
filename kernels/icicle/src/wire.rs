//! What is said over the socket between this process and the child that holds ICICLE.
//!
//! One message, one request; one message, one answer; never two requests at once. A message is a
//! number that says what it is, its numbers in eight bytes each, little-endian, and at most one run of
//! texts. Scalars and points go through the shared memory, from its start.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use caldera_kernels::{CurveId, Form, Group};

/// The longest message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16384;

/// Of cores in a set of the C library's.
pub(crate) const CORES_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Load the libraries in a folder and choose a device. Answered with how many bytes of
    /// memory the device has left, the highest number if that is not known, and the names of the curves.
    Load {
        folder: PathBuf,
        backends: Option<PathBuf>,
        kind: String,
        index: u64,
    },
    /// From now on run on these cores alone; before anything is loaded, for threads that are there stay
    /// where they are.
    Settle { cores: Vec<u64> },
    /// The memory that comes with this message takes the place of the one before.
    Memory { bytes: u64 },
    /// Set memory aside on the device for points. Answered with a number for them.
    Bases {
        curve: CurveId,
        group: Group,
        count: u64,
    },
    /// Copy points from the memory to the device.
    Write { bases: u64, at: u64, count: u64 },
    /// Free the memory of points.
    Forget { bases: u64 },
    /// Sum points from `at` on, times the scalars in the memory. Answered with an affine point
    /// of plain integers.
    Sum {
        bases: u64,
        at: u64,
        count: u64,
        form: Form,
    },
    /// Make what transforms of 2^log2 scalars and fewer need, if it is not there.
    Domain { curve: CurveId, log2: u64 },
    /// Set memory aside on the device for 2^log2 scalars. Answered with a number for them.
    Vector { curve: CurveId, log2: u64 },
    /// Copy scalars from the memory to the device.
    Put { vector: u64, at: u64, count: u64 },
    /// Copy scalars from the device to the memory.
    Get { vector: u64, at: u64, count: u64 },
    /// Transform scalars where they lie on the device.
    Transform { vector: u64, step: Step },
    /// Overwrite scalars and free their memory.
    Release { vector: u64 },
}

/// One of the transforms that ICICLE does in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Coefficients to evaluations.
    Forward,
    /// Evaluations to coefficients.
    Inverse,
    /// Coefficients to evaluations on the coset between the others.
    Onto,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done(Vec<u8>),
    /// The device has no room; all else is as it was.
    NoRoom(String),
    /// Nothing was done, or nothing good.
    Failed(String),
}

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let numbers: Vec<u64> = match self {
            Request::Load {
                folder,
                backends,
                kind,
                index,
            } => {
                let folder = folder.as_os_str().as_bytes();
                let backends = backends.as_ref().map(|path| path.as_os_str().as_bytes());
                text.extend_from_slice(kind.as_bytes());
                text.extend_from_slice(folder);
                text.extend_from_slice(backends.unwrap_or_default());
                vec![0, *index, kind.len() as u64, folder.len() as u64]
            }
            Request::Settle { cores } => [&[12], cores.as_slice()].concat(),
            Request::Memory { bytes } => vec![1, *bytes],
            Request::Bases {
                curve,
                group,
                count,
            } => vec![2, curve_number(*curve), group_number(*group), *count],
            Request::Write { bases, at, count } => vec![3, *bases, *at, *count],
            Request::Forget { bases } => vec![4, *bases],
            Request::Sum {
                bases,
                at,
                count,
                form,
            } => vec![5, *bases, *at, *count, u64::from(*form == Form::Montgomery)],
            Request::Domain { curve, log2 } => vec![6, curve_number(*curve), *log2],
            Request::Vector { curve, log2 } => vec![7, curve_number(*curve), *log2],
            Request::Put { vector, at, count } => vec![8, *vector, *at, *count],
            Request::Get { vector, at, count } => vec![9, *vector, *at, *count],
            Request::Transform { vector, step } => {
                let step = match step {
                    Step::Forward => 0,
                    Step::Inverse => 1,
                    Step::Onto => 2,
                };
                vec![10, *vector, step]
            }
            Request::Release { vector } => vec![11, *vector],
        };
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.extend(text);
        bytes
    }

    /// `None` for what no [`Request::encode`] makes.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Request> {
        fn number(bytes: &mut &[u8]) -> Option<u64> {
            let (number, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Some(u64::from_le_bytes(*number))
        }
        let mut next = || number(&mut bytes);
        let request = match next()? {
            0 => {
                let index = next()?;
                let length = usize::try_from(next()?).ok()?;
                let folder_length = usize::try_from(next()?).ok()?;
                let (kind, paths) = bytes.split_at_checked(length)?;
                let (folder, backends) = paths.split_at_checked(folder_length)?;
                let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
                let request = Request::Load {
                    folder: path(folder),
                    backends: (!backends.is_empty()).then(|| path(backends)),
                    kind: String::from_utf8(kind.to_vec()).ok()?,
                    index,
                };
                bytes = &[];
                request
            }
            1 => Request::Memory { bytes: next()? },
            2 => Request::Bases {
                curve: curve(next()?)?,
                group: group(next()?)?,
                count: next()?,
            },
            3 => Request::Write {
                bases: next()?,
                at: next()?,
                count: next()?,
            },
            4 => Request::Forget { bases: next()? },
            5 => Request::Sum {
                bases: next()?,
                at: next()?,
                count: next()?,
                form: match next()? {
                    0 => Form::Canonical,
                    1 => Form::Montgomery,
                    _ => return None,
                },
            },
            6 => Request::Domain {
                curve: curve(next()?)?,
                log2: next()?,
            },
            7 => Request::Vector {
                curve: curve(next()?)?,
                log2: next()?,
            },
            8 => Request::Put {
                vector: next()?,
                at: next()?,
                count: next()?,
            },
            9 => Request::Get {
                vector: next()?,
                at: next()?,
                count: next()?,
            },
            10 => Request::Transform {
                vector: next()?,
                step: match next()? {
                    0 => Step::Forward,
                    1 => Step::Inverse,
                    2 => Step::Onto,
                    _ => return None,
                },
            },
            11 => Request::Release { vector: next()? },
            12 => {
                let mut cores = Vec::new();
                while !bytes.is_empty() {
                    cores.push(number(&mut bytes)?);
                }
                Request::Settle { cores }
            }
            _ => return None,
        };
        bytes.is_empty().then_some(request)
    }
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Answer::Done(body) => (0, body.as_slice()),
            Answer::NoRoom(why) => (1, why.as_bytes()),
            Answer::Failed(why) => (2, why.as_bytes()),
        };
        let body = &body[..body.len().min(MESSAGE_BYTES_MAX - 1)];
        [&[kind], body].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Answer> {
        let (kind, body) = bytes.split_first()?;
        let text = || String::from_utf8_lossy(body).into_owned();
        Some(match kind {
            0 => Answer::Done(body.to_vec()),
            1 => Answer::NoRoom(text()),
            2 => Answer::Failed(text()),
            _ => return None,
        })
    }
}

fn curve_number(curve: CurveId) -> u64 {
    match curve {
        CurveId::Bn254 => 0,
        CurveId::Bls12_381 => 1,
    }
}

fn curve(number: u64) -> Option<CurveId> {
    [CurveId::Bn254, CurveId::Bls12_381]
        .into_iter()
        .find(|curve| curve_number(*curve) == number)
}

fn group_number(group: Group) -> u64 {
    match group {
        Group::G1 => 0,
        Group::G2 => 1,
    }
}

fn group(number: u64) -> Option<Group> {
    [Group::G1, Group::G2]
        .into_iter()
        .find(|group| group_number(*group) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_wire_and_nothing_else_is_one() {
        let requests = [
            Request::Load {
                folder: "/opt/icicle".into(),
                backends: Some("/opt/backend".into()),
                kind: "CUDA".into(),
                index: 3,
            },
            Request::Load {
                folder: "/opt/icicle".into(),
                backends: None,
                kind: "CPU".into(),
                index: 0,
            },
            Request::Memory { bytes: 1 << 40 },
            Request::Bases {
                curve: CurveId::Bls12_381,
                group: Group::G2,
                count: 7,
            },
            Request::Write {
                bases: 1,
                at: 2,
                count: 3,
            },
            Request::Forget { bases: 9 },
            Request::Sum {
                bases: 1,
                at: 5,
                count: 6,
                form: Form::Montgomery,
            },
            Request::Domain {
                curve: CurveId::Bn254,
                log2: 20,
            },
            Request::Vector {
                curve: CurveId::Bls12_381,
                log2: 21,
            },
            Request::Put {
                vector: 4,
                at: 5,
                count: 6,
            },
            Request::Get {
                vector: 6,
                at: 5,
                count: 4,
            },
            Request::Transform {
                vector: 8,
                step: Step::Onto,
            },
            Request::Release { vector: 8 },
        ];
        for request in requests {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes).as_ref(), Some(&request));
            let named = matches!(request, Request::Load { .. });
            for end in 0..if named { 32 } else { bytes.len() } {
                assert_eq!(Request::decode(&bytes[..end]), None, "{request:?} to {end}");
            }
            if !named {
                assert_eq!(Request::decode(&[&bytes[..], &[0]].concat()), None);
            }
        }
        assert_eq!(Request::decode(&99u64.to_le_bytes()), None);
    }

    #[test]
    fn cores_survive_the_wire() {
        for cores in [vec![], vec![0, 7, 255]] {
            let request = Request::Settle { cores };
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Some(request));
            assert_eq!(Request::decode(&[&bytes[..], &[0]].concat()), None);
        }
        // As many as the kernel's own sets have fit.
        let cores = (0..CORES_MAX as u64).collect();
        assert!(Request::Settle { cores }.encode().len() <= MESSAGE_BYTES_MAX);
    }

    #[test]
    fn answers_survive_the_wire() {
        for answer in [
            Answer::Done(vec![1, 2, 3]),
            Answer::NoRoom("full".into()),
            Answer::Failed("broken".into()),
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        assert_eq!(Answer::decode(&[]), None);
        assert_eq!(Answer::decode(&[3]), None);
    }
}
