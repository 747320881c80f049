//! On which NUMA node a core or a device lies, as the kernel says in `/sys`.
//!
//! A core's folder has a link `nodeN` where the kernel knows nodes. A device on the PCI bus has a file
//! `numa_node`, which says -1 where the firmware named none, as on most boxes with one socket. What is not said is
//! not known, and then nothing is near to anything: a guess would draw tenants to cores at the far end
//! of the machine.

use std::path::{Path, PathBuf};

use caldera_scheduler::pool::NODES_MAX;

/// Where the kernel says it.
pub struct Nodes {
    root: PathBuf,
}

impl Nodes {
    /// Of this machine.
    pub fn here() -> Nodes {
        Nodes::below(Path::new("/sys"))
    }

    /// As a tree like `/sys` says.
    pub fn below(root: &Path) -> Nodes {
        Nodes {
            root: root.to_owned(),
        }
    }

    /// The node of a core, by the kernel's number.
    pub fn of_core(&self, core: usize) -> Option<u8> {
        let folder = self.root.join(format!("devices/system/cpu/cpu{core}"));
        let names = std::fs::read_dir(folder).ok()?.flatten();
        let mut nodes = names.filter_map(|entry| {
            let name = entry.file_name();
            known(name.to_str()?.strip_prefix("node")?)
        });
        nodes.next()
    }

    /// The node of a device, by its address on the PCI bus: `0000:3b:00.0`.
    pub fn of_device(&self, address: &str) -> Option<u8> {
        let address = address.to_ascii_lowercase();
        // It comes from a driver and becomes a part of a path.
        let is_digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
        if !address.bytes().all(is_digit) || address.contains("..") {
            return None;
        }
        let folder = self.root.join("bus/pci/devices").join(address);
        let text = std::fs::read_to_string(folder.join("numa_node")).ok()?;
        known(text.trim())
    }
}

/// A node's number, if it is one that a pool can have.
fn known(text: &str) -> Option<u8> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let node = is_number.then(|| text.parse().ok())?;
    node.filter(|&node| node < NODES_MAX)
}
