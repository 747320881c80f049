//! The bundle of compiled kernels that lies beside the binary.
//!
//! A box has a driver and no compiler. So the bundle holds each unit for each architecture as the
//! machine's own code, and as PTX for architectures that are newer than the bundle. It begins with
//! the digest of the sources, which has to be that of the sources that the binary was built with: a
//! kernel's argument is a row of words, and nothing else would tell a wrong one.
//!
//! Layout, all little-endian: a line of text that names the format; 32 bytes of SHA-256 of the
//! sources; u32 length of the index, then the index, deflated; the images, deflated each by itself.
//! The index: u32 number of units,
//! each a name (u16 length), u16 number of kernels (each a name, u32 threads of a block, u32 words of
//! its argument), u16 number of images (each u32 architecture, u64 length when inflated, u64 length
//! in the file, 32 bytes of SHA-256 of what is inflated).

use std::path::{Path, PathBuf};

use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use sha2::{Digest as _, Sha256};

/// What was compiled of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The unit's name.
    pub unit: String,
    /// Its kernels.
    pub kernels: Vec<Shape>,
    /// Its code by architecture, 10 x major + minor; [`PTX`] for PTX.
    pub images: Vec<(u32, Vec<u8>)>,
}

/// How a kernel is launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// Threads of a block.
    pub threads: u32,
    /// Words of its argument.
    pub words: u32,
}

/// In place of an architecture: text that a driver compiles for newer ones.
pub const PTX: u32 = 0;

/// The oldest architecture that the PTX is for.
pub const ARCHITECTURE_MIN: u32 = 80;

/// A bundle that was read.
pub struct Bundle {
    units: Vec<Entry>,
    file: Vec<u8>,
}

struct Entry {
    unit: String,
    kernels: Vec<Shape>,
    images: Vec<Image>,
}

struct Image {
    architecture: u32,
    len: usize,
    at: std::ops::Range<usize>,
    digest: [u8; 32],
}

/// Why there is no bundle to be had.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is nowhere.
    #[error(
        "no compiled kernels ({NAME}): looked at {}; `make cuda` makes them",
        looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is not a bundle, or a damaged one.
    #[error("compiled kernels are damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// It was made of other sources than this binary.
    #[error("compiled kernels are of another build: sources {got}, expected {expected}")]
    OtherSources {
        /// Digest of this binary's sources.
        expected: String,
        /// The bundle's.
        got: String,
    },
    /// It has nothing that runs there.
    #[error("no kernels for architecture sm_{got}: the oldest is sm_{ARCHITECTURE_MIN}")]
    Architecture {
        /// The device's.
        got: u32,
    },
}

/// The bytes of a bundle.
pub fn write(sources: &[u8; 32], compiled: &[Compiled]) -> Vec<u8> {
    let mut index = Vec::new();
    let mut images = Vec::new();
    let name = |index: &mut Vec<u8>, name: &str| {
        index.extend((name.len() as u16).to_le_bytes());
        index.extend(name.as_bytes());
    };
    index.extend((compiled.len() as u32).to_le_bytes());
    for unit in compiled {
        name(&mut index, &unit.unit);
        index.extend((unit.kernels.len() as u16).to_le_bytes());
        for kernel in &unit.kernels {
            name(&mut index, &kernel.name);
            index.extend(kernel.threads.to_le_bytes());
            index.extend(kernel.words.to_le_bytes());
        }
        index.extend((unit.images.len() as u16).to_le_bytes());
        for (architecture, image) in &unit.images {
            let deflated = compress_to_vec_zlib(image, LEVEL);
            index.extend(architecture.to_le_bytes());
            index.extend((image.len() as u64).to_le_bytes());
            index.extend((deflated.len() as u64).to_le_bytes());
            index.extend(Sha256::digest(image));
            images.extend(deflated);
        }
    }
    let index = compress_to_vec_zlib(&index, LEVEL);
    let mut file = MAGIC.to_vec();
    file.extend(sources);
    file.extend((index.len() as u32).to_le_bytes());
    file.extend(index);
    file.extend(images);
    file
}

impl Bundle {
    /// Reads a bundle that was made of the sources with this digest.
    ///
    /// # Errors
    /// If it was not, or is damaged.
    pub fn parse(sources: &[u8; 32], file: Vec<u8>) -> Result<Self, BundleError> {
        let mut head = Reader(&file);
        if head.take(MAGIC.len())? != MAGIC {
            return Err(BundleError::Damaged {
                what: "it does not begin as one",
            });
        }
        let got = head.array::<32>()?;
        if got != *sources {
            return Err(BundleError::OtherSources {
                expected: hex(sources),
                got: hex(&got),
            });
        }
        let length = head.u32()? as usize;
        let index = head.take(length)?;
        let mut at = file.len() - head.0.len();
        let index = decompress_to_vec_zlib_with_limit(index, INDEX_MAX).map_err(|_| {
            BundleError::Damaged {
                what: "its index cannot be inflated",
            }
        })?;
        let mut index = Reader(&index);
        let mut units = Vec::new();
        for _ in 0..index.u32()? {
            let unit = index.name()?;
            let mut kernels = Vec::new();
            for _ in 0..index.u16()? {
                kernels.push(Shape {
                    name: index.name()?,
                    threads: index.u32()?,
                    words: index.u32()?,
                });
            }
            let mut images = Vec::new();
            for _ in 0..index.u16()? {
                let (architecture, len, deflated) = (index.u32()?, index.u64()?, index.u64()?);
                let digest = index.array()?;
                let end = usize::try_from(deflated)
                    .ok()
                    .and_then(|deflated| at.checked_add(deflated))
                    .filter(|&end| end <= file.len())
                    .ok_or(CUT)?;
                images.push(Image {
                    architecture,
                    len: usize::try_from(len).map_err(|_| CUT)?.min(IMAGE_MAX),
                    at: at..end,
                    digest,
                });
                at = end;
            }
            units.push(Entry {
                unit,
                kernels,
                images,
            });
        }
        Ok(Self { units, file })
    }

    /// Finds and reads the bundle: the file that [`VARIABLE`] names, else the one beside this
    /// program, else the one in /usr/lib/caldera.
    ///
    /// # Errors
    /// If there is none, or the first that there is cannot be used.
    pub fn find(sources: &[u8; 32]) -> Result<Self, BundleError> {
        let looked = places(
            std::env::var_os(VARIABLE).map(PathBuf::from),
            std::env::current_exe().ok().as_deref(),
        );
        for path in &looked {
            match std::fs::read(path) {
                Ok(file) => return Self::parse(sources, file),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(BundleError::Read {
                        path: path.clone(),
                        error,
                    });
                }
            }
        }
        Err(BundleError::Missing { looked })
    }

    /// A unit's code for an architecture, and whether it is PTX.
    ///
    /// # Errors
    /// If there is none for it, or it is not what it was when the bundle was made.
    pub fn image(&self, unit: &str, architecture: u32) -> Result<(Vec<u8>, bool), BundleError> {
        let entry = self.entry(unit)?;
        // Code runs on later minor versions of its architecture, PTX on all later ones.
        let code = entry
            .images
            .iter()
            .filter(|image| {
                image.architecture / 10 == architecture / 10 && image.architecture <= architecture
            })
            .max_by_key(|image| image.architecture);
        let text = entry
            .images
            .iter()
            .find(|image| image.architecture == PTX && architecture >= ARCHITECTURE_MIN);
        let image = code
            .or(text)
            .ok_or(BundleError::Architecture { got: architecture })?;
        let inflated = decompress_to_vec_zlib_with_limit(&self.file[image.at.clone()], image.len)
            .map_err(|_| BundleError::Damaged {
            what: "code cannot be inflated",
        })?;
        if Sha256::digest(&inflated)[..] != image.digest {
            return Err(BundleError::Damaged {
                what: "code has another digest than it had",
            });
        }
        Ok((inflated, image.architecture == PTX))
    }

    /// How a unit's kernels are launched; none of a unit that is not there.
    pub fn shapes(&self, unit: &str) -> &[Shape] {
        self.entry(unit).map_or(&[], |entry| &entry.kernels)
    }

    fn entry(&self, unit: &str) -> Result<&Entry, BundleError> {
        self.units
            .iter()
            .find(|entry| entry.unit == unit)
            .ok_or(BundleError::Damaged {
                what: "a unit is missing",
            })
    }
}

/// What the operator names is all that is looked at.
fn places(named: Option<PathBuf>, program: Option<&Path>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named];
    }
    let beside = program
        .and_then(Path::parent)
        .map(|folder| folder.join(NAME));
    beside
        .into_iter()
        .chain([Path::new("/usr/lib/caldera").join(NAME)])
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

const CUT: BundleError = BundleError::Damaged {
    what: "it ends too early",
};

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], BundleError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BundleError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, BundleError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, BundleError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, BundleError> {
        self.array().map(u64::from_le_bytes)
    }

    fn name(&mut self) -> Result<String, BundleError> {
        let len = self.u16()?;
        let bytes = self.take(len.into())?;
        String::from_utf8(bytes.to_vec()).map_err(|_| BundleError::Damaged {
            what: "a name is not text",
        })
    }
}

/// The file's name.
pub const NAME: &str = "caldera-cuda-kernels.bin";

/// Names another file.
pub const VARIABLE: &str = "CALDERA_CUDA_KERNELS";

const MAGIC: &[u8] = b"caldera cuda kernels 1\n";

/// Of compression: as small as it gets.
const LEVEL: u8 = 9;

/// More than an index or an image ever has: what a damaged length cannot exceed.
const INDEX_MAX: usize = 1 << 20;
const IMAGE_MAX: usize = 1 << 26;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let image = |byte: u8| vec![byte; 5000];
        let compiled = [Compiled {
            unit: "ntt_bn254".to_owned(),
            kernels: vec![Shape {
                name: "ntt_shift".to_owned(),
                threads: 256,
                words: 12,
            }],
            images: vec![
                (80, image(1)),
                (86, image(2)),
                (90, image(3)),
                (PTX, image(4)),
            ],
        }];
        write(&[7; 32], &compiled)
    }

    #[test]
    fn each_architecture_gets_the_code_that_runs_on_it() {
        let bundle = Bundle::parse(&[7; 32], sample()).expect("our own");
        for (architecture, first, text) in [
            (80, 1, false),
            (86, 2, false),
            (87, 2, false),
            (90, 3, false),
            (100, 4, true),
            (120, 4, true),
        ] {
            let (image, is_text) = bundle.image("ntt_bn254", architecture).expect("code");
            assert_eq!((image[0], image.len(), is_text), (first, 5000, text));
        }
        let refused = bundle.image("ntt_bn254", 75).map(|_| ());
        assert!(matches!(
            refused,
            Err(BundleError::Architecture { got: 75 })
        ));
        let [shape] = bundle.shapes("ntt_bn254") else {
            panic!("one kernel");
        };
        assert_eq!(
            (&shape.name[..], shape.threads, shape.words),
            ("ntt_shift", 256, 12)
        );
        assert!(bundle.shapes("another").is_empty());
    }

    #[test]
    fn other_sources_are_refused() {
        let refused = Bundle::parse(&[8; 32], sample()).map(|_| ());
        assert!(matches!(refused, Err(BundleError::OtherSources { .. })));
    }

    /// Every byte changed, and every place where the file could end: an error, or code that is what
    /// it was, never other code and never a panic.
    #[test]
    fn damage_is_found() {
        let whole = sample();
        let images = |bundle: &Bundle| {
            [80, 86, 90, 120].map(|architecture| bundle.image("ntt_bn254", architecture).ok())
        };
        let right = images(&Bundle::parse(&[7; 32], whole.clone()).expect("our own"));
        let looks = |file: Vec<u8>| {
            let Ok(bundle) = Bundle::parse(&[7; 32], file) else {
                return true;
            };
            let got = images(&bundle);
            let same = got
                .iter()
                .zip(&right)
                .all(|(got, right)| got.is_none() || got == right);
            assert!(same, "other code");
            got.iter().any(Option::is_none)
        };
        for at in 0..whole.len() {
            let mut file = whole.clone();
            file[at] ^= 0x10;
            looks(file);
            assert!(looks(whole[..at].to_vec()), "a file of {at} bytes is whole");
        }
    }

    #[test]
    fn what_the_operator_names_is_all_that_is_looked_at() {
        let program = Path::new("/opt/bin/calderad");
        assert_eq!(
            places(None, Some(program)),
            [
                Path::new("/opt/bin").join(NAME),
                Path::new("/usr/lib/caldera").join(NAME)
            ]
        );
        assert_eq!(
            places(Some("/etc/kernels".into()), Some(program)),
            [Path::new("/etc/kernels")]
        );
    }
}
