//! What devices cost for each kind and size of work, kept between starts.
//!
//! Who shares work out between devices needs to know what it takes on each; until then each is tried. So what was measured is
//! kept, a file for each device in the folder in which a GPU's other calibration is. The file says which device it is of, what
//! drives it and which build of this program measured; of another device, driver or build it is as good as none, and what
//! is measured next takes its place. It ends with a digest of itself: a file that is damaged is left out and told of.
//! Losing one costs the time of trying, and nothing else.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use caldera_kernels::relay::{Price, Relay};
use caldera_kernels::{CurveId, Device, DeviceError};
use sha2::{Digest, Sha256};

use crate::Options;
use crate::measure::{copying, measure};

/// What was measured of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// How.
    pub from: Source,
    /// When the last of them was, in seconds since 1970.
    pub seconds: u64,
    /// What a number of elements takes on one thread. Members are not told apart: all are 0.
    pub prices: Vec<Price>,
}

/// How figures came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// By a calibration that somebody asked for.
    Calibration,
    /// In the course of work.
    Work,
}

impl Source {
    /// "calibration" or "work".
    pub fn name(self) -> &'static str {
        match self {
            Source::Calibration => "calibration",
            Source::Work => "work",
        }
    }
}

/// A file of figures that is there and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}; it is measured anew", path.display())]
pub struct Unusable {
    /// Where it lies.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Where the figures of one device are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Book {
    path: PathBuf,
    head: String,
}

impl Book {
    /// In a folder, which need not be there.
    pub fn of(folder: &Path, device: &dyn Device) -> Book {
        let info = device.info();
        let place = device.site(0).pci.unwrap_or_default();
        let line = |text: &str| text.replace(['\n', '\r'], " ");
        let device_line = format!("device {} {} {place}", info.kind, line(&info.name));
        let name: String = hex::encode(&Sha256::digest(&device_line)[..8]);
        let mut head = format!("{TITLE}\n{}\n", device_line.trim_end());
        for software in device.health().software {
            let _ = writeln!(
                head,
                "software {} {}",
                line(&software.name),
                line(&software.version)
            );
        }
        let _ = writeln!(head, "build {BUILD}");
        Book {
            path: folder.join(format!("prices-{name}.txt")),
            head,
        }
    }

    /// Where that is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is kept of this device with what drives it now, measured by this build; nothing, if nothing is.
    ///
    /// # Errors
    /// If a file is there that cannot be read, or is not as it was written.
    pub fn read(&self) -> Result<Option<Figures>, Unusable> {
        let unusable = |why: String| Unusable {
            path: self.path.clone(),
            why,
        };
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(error.to_string())),
        };
        let text = String::from_utf8(bytes).map_err(|_| unusable("it is no text".into()))?;
        let body = signed(&text).ok_or_else(|| unusable("its digest is not its own".into()))?;
        let Some(rest) = body.strip_prefix(&self.head) else {
            return Ok(None);
        };
        let figures =
            parse(rest).ok_or_else(|| unusable("it has lines of no known kind".into()))?;
        Ok(Some(figures))
    }

    /// Keeps figures in the place of what is there, whole or not at all.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, figures: &Figures) -> io::Result<()> {
        let mut text = self.head.clone();
        let _ = writeln!(
            text,
            "from {}\nseconds {}",
            figures.from.name(),
            figures.seconds
        );
        for price in &figures.prices {
            let curve = curve_name(price.curve);
            let Price {
                kind,
                log2,
                nanoseconds,
                ..
            } = price;
            let _ = writeln!(text, "price {kind} {curve} {log2} {nanoseconds}");
        }
        let digest = hex::encode(Sha256::digest(&text));
        let _ = writeln!(text, "digest {digest}");
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let new = self
            .path
            .with_extension(format!("new-{}", std::process::id()));
        let kept = File::create(&new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)
        });
        if kept.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        kept
    }
}

/// A file's text without its last line, if that is the digest of what is before it.
fn signed(text: &str) -> Option<&str> {
    let (body, digest) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    let body = &text[..=body.len()];
    let expected = hex::encode(Sha256::digest(body));
    (digest.strip_prefix("digest ")? == expected).then_some(body)
}

fn parse(text: &str) -> Option<Figures> {
    let mut lines = text.lines();
    let from = match lines.next()?.strip_prefix("from ")? {
        "calibration" => Source::Calibration,
        "work" => Source::Work,
        _ => return None,
    };
    let seconds = lines.next()?.strip_prefix("seconds ")?.parse().ok()?;
    let price = |line: &str| {
        let mut words = line.strip_prefix("price ")?.split(' ');
        let (kind, curve) = (words.next()?, words.next()?);
        let price = Price {
            member: 0,
            kind: Price::KINDS.into_iter().find(|it| *it == kind)?,
            curve: CURVES.into_iter().find(|it| curve_name(*it) == curve)?,
            log2: words.next()?.parse().ok()?,
            nanoseconds: words.next()?.parse().ok().filter(|it| *it > 0)?,
        };
        words.next().is_none().then_some(price)
    };
    let prices = lines.map(price).collect::<Option<_>>()?;
    Some(Figures {
        from,
        seconds,
        prices,
    })
}

fn curve_name(curve: CurveId) -> &'static str {
    match curve {
        CurveId::Bn254 => "bn254",
        CurveId::Bls12_381 => "bls12-381",
    }
}

/// A member of a relay, whose figures are kept.
pub(crate) struct Attended {
    book: Book,
    width: u64,
}

impl Attended {
    /// One that so many threads may run at once, by which what is kept is divided.
    pub(crate) fn of(folder: &Path, device: &dyn Device, width: usize) -> Attended {
        Attended {
            book: Book::of(folder, device),
            width: width.max(1) as u64,
        }
    }
}

/// Has a relay believe what is kept of its members, and keep what it learns.
pub(crate) fn attend(relay: &Arc<Relay>, members: Vec<Attended>, options: &Options) {
    let warn = options.warn;
    for (member, Attended { book, width }) in members.iter().enumerate() {
        let figures = match book.read() {
            Ok(figures) => figures,
            Err(unusable) => {
                warn(&unusable.to_string());
                None
            }
        };
        let prices = figures.into_iter().flat_map(|it| it.prices);
        let of_member = prices.map(|price| Price {
            member,
            nanoseconds: (price.nanoseconds / width).max(1),
            ..price
        });
        relay.believe(&of_member.collect::<Vec<_>>());
    }
    let believed = relay.prices();
    relay.kept_by(Box::new(move |prices| {
        for (member, Attended { book, width }) in members.iter().enumerate() {
            let own = |prices: &[Price]| -> Vec<Price> {
                let own = prices.iter().filter(|price| price.member == member);
                let whole = own.map(|price| Price {
                    member: 0,
                    nanoseconds: price.nanoseconds.saturating_mul(*width),
                    ..price.clone()
                });
                whole.collect()
            };
            let figures = Figures {
                from: Source::Work,
                seconds: now(),
                prices: own(prices),
            };
            if figures.prices.is_empty() || figures.prices == own(&believed) {
                continue;
            }
            if let Err(error) = book.write(&figures) {
                warn(&format!("keeping {}: {error}", book.path().display()));
            }
        }
    }));
}

/// Measures what a device does, each kind of work in two sizes on both curves, and keeps that in the place of what was
/// kept. `tell` is called before each of [`STEPS`].
///
/// # Errors
/// Those of the device, and of the file system in words.
pub fn recalibrate(
    device: &dyn Device,
    folder: &Path,
    tell: &mut dyn FnMut(),
) -> Result<Figures, RecalibrationError> {
    let mut prices = Vec::new();
    for curve in CURVES {
        for log2 in SIZES {
            tell();
            let mut add = |kind, time: std::time::Duration| {
                prices.push(Price {
                    member: 0,
                    kind,
                    curve,
                    log2,
                    nanoseconds: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1),
                });
            };
            for measured in measure(device, curve, log2, ROUNDS, &mut |_| ())? {
                add(measured.kind, measured.median);
            }
            add("copy", copying(device, curve, log2, ROUNDS)?);
        }
    }
    let figures = Figures {
        from: Source::Calibration,
        seconds: now(),
        prices,
    };
    let book = Book::of(folder, device);
    book.write(&figures)
        .map_err(|source| RecalibrationError::File {
            path: book.path().to_owned(),
            source,
        })?;
    Ok(figures)
}

/// Why a device was not calibrated.
#[derive(Debug, thiserror::Error)]
pub enum RecalibrationError {
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Where it should have been kept.
    #[error("keeping {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

const TITLE: &str = "what a device of caldera's costs, 1";
const BUILD: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " ",
    env!("CALDERA_KERNELS_BUILD")
);
const CURVES: [CurveId; 2] = [CurveId::Bn254, CurveId::Bls12_381];
/// log2 of what a calibration measures: what a small proof has, and a size at which fixed costs count little.
const SIZES: [u32; 2] = [10, 14];
const ROUNDS: usize = 3;
/// How often a calibration tells.
pub const STEPS: usize = SIZES.len() * CURVES.len();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::fingerprint;
    use caldera_kernels::cpu::{CpuConfig, CpuDevice};
    use caldera_kernels::relay::Member;
    use std::sync::Mutex;
    use std::time::Duration;

    fn cpu() -> Arc<CpuDevice> {
        CpuDevice::new(CpuConfig {
            quantum: Duration::from_millis(2),
            lanes: 1,
        })
    }

    fn figures() -> Figures {
        let price = |kind, log2, nanoseconds| Price {
            member: 0,
            kind,
            curve: CurveId::Bls12_381,
            log2,
            nanoseconds,
        };
        Figures {
            from: Source::Calibration,
            seconds: 1_700_000_000,
            prices: vec![price("msm-g1", 14, 1_000_000), price("copy", 10, 7)],
        }
    }

    fn book(folder: &Path, head: &str) -> Book {
        Book {
            path: folder.join("prices.txt"),
            head: head.to_owned(),
        }
    }

    #[test]
    fn what_is_kept_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let book = book(&folder.path().join("made"), "a device\nbuild 1\n");
        assert!(book.read().unwrap().is_none());
        book.write(&figures()).unwrap();
        assert_eq!(book.read().unwrap(), Some(figures()));
        let text = std::fs::read(book.path()).unwrap();
        for at in 0..text.len() {
            std::fs::write(book.path(), &text[..at]).unwrap();
            assert!(book.read().is_err(), "cut at {at}");
            let mut damaged = text.clone();
            damaged[at] ^= 1;
            std::fs::write(book.path(), damaged).unwrap();
            assert!(book.read().is_err(), "damaged at {at}");
        }
        // And what is written over it is whole.
        book.write(&figures()).unwrap();
        assert_eq!(book.read().unwrap(), Some(figures()));
        let files = std::fs::read_dir(book.path().parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn another_device_driver_or_build_has_no_figures() {
        let folder = tempfile::tempdir().unwrap();
        let first = book(folder.path(), "device a\nsoftware driver 1\nbuild 1\n");
        first.write(&figures()).unwrap();
        for other in [
            "device b\nsoftware driver 1\nbuild 1\n",
            "device a\nsoftware driver 2\nbuild 1\n",
            "device a\nsoftware driver 1\nbuild 2\n",
            "device a\nbuild 1\n",
        ] {
            let other = book(folder.path(), other);
            assert!(other.read().unwrap().is_none(), "{other:?}");
        }
        // What it measures takes their place.
        let other = book(folder.path(), "device b\n");
        other.write(&figures()).unwrap();
        assert!(first.read().unwrap().is_none());
        let real = [cpu(), cpu()].map(|device| Book::of(folder.path(), &*device));
        assert_eq!(real[0], real[1]);
        assert!(real[0].head.contains(BUILD), "{real:?}");
    }

    /// A version has many builds between two releases; each is told by what it was made of.
    #[test]
    fn two_builds_of_one_version_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let made_of = |name: &str, files: &[(&str, &str)]| {
            let sources = folder.path().join(name);
            for (file, text) in files {
                let path = sources.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            vec![sources.join("src"), sources.join("lock")]
        };
        let of = |sources: &[PathBuf]| fingerprint(sources, "as ever").unwrap();
        let files = [("src/msm/sort.rs", "a"), ("src/ntt.rs", "b"), ("lock", "c")];
        let first = made_of("first", &files);
        assert_eq!(of(&first), of(&made_of("elsewhere", &files)));
        let mut seen = vec![of(&first), fingerprint(&first, "optimised").unwrap()];
        for (at, other) in [
            ("src/msm/sort.rs", "b"),
            ("src/ntt.rs", "ba"),
            ("src/ntt.rs.more", ""),
            ("lock", "d"),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("other {at}");
            made_of(&name, &files);
            seen.push(of(&made_of(&name, &[other])));
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count, "{seen:?}");
        assert!(fingerprint(&[folder.path().join("nothing")], "").is_err());
        assert_ne!(BUILD, env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_relay_believes_what_is_kept_and_keeps_what_it_learns() {
        static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            calibration: Some(folder.path().to_owned()),
            warn: |text| WARNINGS.lock().unwrap().push(text.to_owned()),
            ..Options::new(Duration::from_millis(2), 2)
        };
        let relay = || {
            let members = [(cpu(), 2), (cpu(), 1)];
            // Two of one name have one file; the second is as good as none here.
            let attended = members.iter().take(1);
            let attended = attended.map(|(it, width)| Attended::of(folder.path(), &**it, *width));
            let attended = attended.collect();
            let members = members.map(|(device, width)| Member { device, width });
            let relay = Relay::new(members.into());
            attend(&relay, attended, &options);
            relay
        };
        let book = Book::of(folder.path(), &*cpu());
        let first = relay();
        assert_eq!(first.prices(), []);
        first.keep();
        assert!(book.read().unwrap().is_none(), "nothing was learnt");
        first.believe(&figures().prices);
        first.keep();
        let kept = book.read().unwrap().expect("it was kept");
        assert_eq!(kept.from, Source::Work);
        let whole: Vec<u64> = kept.prices.iter().map(|price| price.nanoseconds).collect();
        assert_eq!(whole, [2_000_000, 14], "of both threads");
        assert_eq!(relay().prices(), first.prices());
        assert_eq!(WARNINGS.lock().unwrap().len(), 0);

        std::fs::write(book.path(), "nonsense").unwrap();
        let third = relay();
        assert_eq!(third.prices(), []);
        let warnings = WARNINGS.lock().unwrap().join("; ");
        assert!(warnings.contains("digest is not its own"), "{warnings}");
        third.believe(&figures().prices);
        third.keep();
        assert!(book.read().unwrap().is_some());
    }

    #[test]
    fn a_calibration_has_all_that_a_device_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut told = 0;
        let figures = recalibrate(&*cpu(), folder.path(), &mut || told += 1).unwrap();
        assert_eq!(told, STEPS);
        assert_eq!(figures.prices.len(), Price::KINDS.len() * STEPS);
        let kept = Book::of(folder.path(), &*cpu()).read().unwrap();
        assert_eq!(kept, Some(figures));
    }
}
