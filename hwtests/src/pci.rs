//! What sits on the PCI bus: GPUs, storage and network cards, whether each has its driver, whether
//! its link is as wide and as fast as it could be, and what the bus has counted of errors.
//!
//! A card that is not quite in its slot, or sits in the wrong one, works: with a quarter of its
//! lanes. Nothing but the width tells, until somebody wonders why keys take so long to go up.

use crate::host::Host;
use crate::report::{Finding, Verdict};

/// One function of a device that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) address: String,
    pub(crate) kind: Kind,
    pub(crate) vendor: u32,
    pub(crate) device: u32,
    pub(crate) driver: Option<String>,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Gpu,
    Storage,
    Network,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Gpu => "gpu",
            Kind::Storage => "storage",
            Kind::Network => "network",
        }
    }
}

impl Card {
    /// "10de:2330", as `lspci -n` has it.
    pub(crate) fn id(&self) -> String {
        format!("{:04x}:{:04x}", self.vendor, self.device)
    }

    pub(crate) fn name(&self) -> String {
        format!("{} {} ({})", self.kind.word(), self.address, self.id())
    }
}

/// The cards of a machine, by their addresses.
pub(crate) fn cards(host: &Host) -> Vec<Card> {
    let card = |address: String| {
        let read = |name: &str| host.hexadecimal(&format!("{FOLDER}/{address}/{name}"));
        let (class, vendor, device) = (read("class")?, read("vendor")?, read("device")?);
        let kind = match class >> 8 {
            // A display, a 3D controller, or an accelerator; a management controller's screen is
            // none of those that compute.
            0x0300 | 0x0302 | 0x0380 | 0x1200 if COMPUTE.contains(&vendor) => Kind::Gpu,
            0x0100..=0x01ff => Kind::Storage,
            0x0200 | 0x0207 => Kind::Network,
            _ => return None,
        };
        let driver = host.link(&format!("{FOLDER}/{address}/driver"));
        Some(Card {
            address,
            kind,
            vendor,
            device,
            driver,
        })
    };
    host.names(FOLDER).into_iter().filter_map(card).collect()
}

/// Those that compute.
pub(crate) fn gpus(host: &Host) -> Vec<Card> {
    let is_gpu = |card: &Card| card.kind == Kind::Gpu;
    cards(host).into_iter().filter(is_gpu).collect()
}

/// Whether each GPU has a driver with which it can compute.
pub(crate) fn drivers(host: &Host) -> Finding {
    let gpus = gpus(host);
    if gpus.is_empty() {
        return Finding::skip("no GPU on the PCI bus");
    }
    let idle = |card: &&Card| match card.driver.as_deref() {
        None | Some("vfio-pci" | "pci-stub") => true,
        Some("nouveau") => card.vendor == NVIDIA,
        Some(_) => false,
    };
    let wrong: Vec<String> = gpus
        .iter()
        .filter(idle)
        .map(|card| {
            let driver = card.driver.as_deref().unwrap_or("none");
            format!("{}: driver {driver}", card.name())
        })
        .collect();
    let finding = if wrong.is_empty() {
        let each: Vec<String> = gpus
            .iter()
            .map(|card| {
                format!(
                    "{}: {}",
                    card.address,
                    card.driver.as_deref().unwrap_or_default()
                )
            })
            .collect();
        Finding::pass(each.join("; "))
    } else {
        Finding::fail(wrong.join("; "))
    };
    let version = host.text("/sys/module/nvidia/version");
    finding.figure("gpus", gpus.len()).figure(
        "nvidia_driver",
        version.map_or(serde_json::Value::Null, Into::into),
    )
}

/// Whether each link is as wide and as fast as its card can be.
pub(crate) fn links(host: &Host) -> Finding {
    let mut seen = 0;
    let (mut narrow, mut slow, mut right) = (Vec::new(), Vec::new(), Vec::new());
    for card in cards(host) {
        let read = |name: &str| host.text(&format!("{FOLDER}/{}/{name}", card.address));
        let width = |name: &str| read(name)?.parse::<u32>().ok();
        let Some((width, width_max)) =
            width("current_link_width").zip(width("max_link_width").filter(|&max| max > 0))
        else {
            continue;
        };
        seen += 1;
        // "16.0 GT/s PCIe"
        let speed = |name: &str| -> Option<f64> {
            read(name)?.split_whitespace().next()?.parse::<f64>().ok()
        };
        let speeds = speed("current_link_speed").zip(speed("max_link_speed"));
        if width < width_max {
            narrow.push((
                card.kind,
                format!("{}: x{width} of x{width_max}", card.name()),
            ));
        } else if let Some((now, max)) = speeds.filter(|(now, max)| now < max) {
            slow.push(format!("{}: {now} GT/s of {max}", card.name()));
        } else {
            right.push(format!("{} x{width}", card.name()));
        }
    }
    if seen == 0 {
        return Finding::skip(
            "no card on the PCI bus says how wide its link is (a guest's do not)",
        );
    }
    let verdict = if narrow.iter().any(|(kind, _)| *kind == Kind::Gpu) {
        Verdict::Fail
    } else if !narrow.is_empty() || !slow.is_empty() {
        Verdict::Warn
    } else {
        Verdict::Pass
    };
    let mut parts: Vec<String> = narrow.into_iter().map(|(_, text)| text).collect();
    if !slow.is_empty() {
        parts.push(format!(
            "slower than it could be (some cards slow down while idle): {}",
            slow.join(", ")
        ));
    }
    if parts.is_empty() {
        parts = right;
    }
    Finding::new(verdict, parts.join("; ")).figure("links", seen)
}

/// Errors of links that the bus has counted since the start.
pub(crate) fn errors(host: &Host) -> Finding {
    let mut totals = [0u64; 3];
    let mut named = Vec::new();
    let mut seen = 0;
    for address in host.names(FOLDER) {
        let mut own = [0u64; 3];
        for (total, kind) in own.iter_mut().zip(["correctable", "nonfatal", "fatal"]) {
            let Some(text) = host.text(&format!("{FOLDER}/{address}/aer_dev_{kind}")) else {
                continue;
            };
            seen += 1;
            // The last line is the sum of those before: "TOTAL_ERR_COR 0".
            let last = text.lines().last().unwrap_or_default();
            let count = last.split_whitespace().nth(1);
            *total = count.and_then(|count| count.parse().ok()).unwrap_or(0);
        }
        if own != [0; 3] {
            named.push(format!(
                "{address}: {} corrected, {} not fatal, {} fatal",
                own[0], own[1], own[2]
            ));
        }
        for (total, own) in totals.iter_mut().zip(own) {
            *total += own;
        }
    }
    if seen == 0 {
        return Finding::skip("the PCI bus counts no errors here");
    }
    let finding = match totals {
        [0, 0, 0] => Finding::pass("no errors of the PCI bus"),
        [_, 0, 0] => Finding::warn(named.join("; ")),
        _ => Finding::fail(named.join("; ")),
    };
    finding
        .figure("corrected", totals[0])
        .figure("not_fatal", totals[1])
        .figure("fatal", totals[2])
}

/// Whether this process may open the GPUs' files.
pub(crate) fn permissions(host: &Host) -> Finding {
    let gpus = gpus(host);
    if gpus.is_empty() {
        return Finding::skip("no GPU on the PCI bus");
    }
    let nvidia = gpus.iter().filter(|card| card.vendor == NVIDIA).count();
    let mut files = Vec::new();
    if nvidia > 0 {
        files.extend(["/dev/nvidiactl", "/dev/nvidia-uvm"].map(str::to_owned));
        files.extend((0..nvidia).map(|index| format!("/dev/nvidia{index}")));
    }
    if nvidia < gpus.len() {
        let render = host.names("/dev/dri").into_iter();
        let render: Vec<String> = render
            .filter(|name| name.starts_with("renderD"))
            .map(|name| format!("/dev/dri/{name}"))
            .collect();
        // Its absence is told by this name.
        files.extend(if render.is_empty() {
            vec!["/dev/dri/renderD128".to_owned()]
        } else {
            render
        });
    }
    let both = nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK;
    let refused: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let error = nix::unistd::access(&host.path(file), both).err()?;
            Some(format!("{file}: {}", error.desc()))
        })
        .collect();
    let who = match nix::unistd::geteuid().as_raw() {
        0 => "root (try it as the service's user too)".to_owned(),
        user => format!("user {user}"),
    };
    if refused.is_empty() {
        Finding::pass(format!("{} may be opened by {who}", files.join(", ")))
    } else {
        Finding::fail(format!("{}, by {who}", refused.join("; ")))
    }
}

const FOLDER: &str = "/sys/bus/pci/devices";

/// PCI's numbers of NVIDIA, AMD and Intel.
const NVIDIA: u32 = 0x10de;
const COMPUTE: [u32; 3] = [NVIDIA, 0x1002, 0x8086];
