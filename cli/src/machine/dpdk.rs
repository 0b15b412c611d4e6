//! DPDK: the library, and the way to hand it a network card.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Check;

/// Where distributions keep shared libraries.
const LIBRARY_DIRS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/lib",
];

pub(super) fn checks() -> Vec<Check> {
    vec![library(), vfio()]
}

fn library() -> Check {
    const ID: &str = "dpdk";
    const FOR: &str = "device dpdk";
    const FIX: &str = "sudo apt-get install libdpdk-dev";
    if let Some(version) = pkg_config_version() {
        return Check::ok(ID, FOR, format!("libdpdk {version}"));
    }
    match LIBRARY_DIRS.into_iter().find_map(shared_object) {
        Some(file) => Check::limited(
            ID,
            FOR,
            format!("{file} is there, pkg-config does not know libdpdk (no headers)"),
        )
        .fix(FIX),
        None => Check::missing(ID, FOR, "libdpdk was not found").fix(FIX),
    }
}

fn pkg_config_version() -> Option<String> {
    let output = Command::new("pkg-config")
        .args(["--modversion", "libdpdk"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn shared_object(dir: &str) -> Option<String> {
    fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?;
        name.starts_with("librte_eal.so")
            .then(|| format!("{dir}/{name}"))
    })
}

fn vfio() -> Check {
    const ID: &str = "vfio";
    const FOR: &str =
        "giving a whole network card to DPDK (TAP, AF_PACKET and AF_XDP work without)";
    if !Path::new("/dev/vfio/vfio").exists() {
        return Check::missing(ID, FOR, "no /dev/vfio/vfio").fix("sudo modprobe vfio-pci");
    }
    let groups = fs::read_dir("/sys/kernel/iommu_groups").map_or(0, Iterator::count);
    if groups == 0 {
        Check::limited(ID, FOR, "no IOMMU groups: only vfio's no-IOMMU mode")
            .fix("intel_iommu=on or amd_iommu=on on the kernel's command line")
    } else {
        Check::ok(ID, FOR, format!("{groups} IOMMU groups"))
    }
}
