//! What the kernel's network offers: namespaces, protocols, congestion controls, raw devices.

use std::fs::{self, File};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType};
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::{Check, ambient, has_capability, namespace, probe, read_line, read_number};
use crate::plain;

/// IP protocol number of MPTCP (socket(2), linux/in.h).
const IPPROTO_MPTCP: u32 = 262;

/// For [`super::stack`] too: whether a socket that speaks MPTCP can be had, or why not.
pub(super) fn mptcp_socket() -> Result<(), Errno> {
    let protocol = Protocol::from_raw(IPPROTO_MPTCP.try_into().expect("not zero"));
    rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )
    .map(drop)
}

/// Congestion controls as the kernel lists them: those loaded, and those for everybody.
pub(super) struct Congestion {
    pub(super) available: Vec<String>,
    pub(super) allowed: Vec<String>,
}

impl Congestion {
    pub(super) fn read() -> Self {
        let words = |file: &str| {
            read_line(&format!("/proc/sys/net/ipv4/tcp_{file}_congestion_control"))
                .unwrap_or_default()
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect()
        };
        Self {
            available: words("available"),
            allowed: words("allowed"),
        }
    }
}

/// What instances of the kernel stack can be told apart by.
pub(super) fn instance_checks() -> Vec<Check> {
    vec![
        namespaces(),
        user_namespaces(),
        mptcp(),
        congestion(),
        marks(),
        busy_poll(),
    ]
}

/// What a user-space TCP/IP stack can send frames through.
pub(super) fn device_checks() -> Vec<Check> {
    vec![tun(), packet(), xdp(), bpf()]
}

fn namespaces() -> Check {
    const ID: &str = "network-namespaces";
    const FOR: &str = "[stack.x] netns = \"...\"";
    if has_capability(CapabilitySet::SYS_ADMIN) {
        // Only the thread that asks moves; it ends at once, and the namespace with it.
        let tried = std::thread::spawn(|| namespace::enter_new(UnshareFlags::NEWNET)).join();
        return match tried {
            Ok(Ok(())) => Check::ok(ID, FOR, format!("can be made and entered; {}", named())),
            Ok(Err(error)) => Check::missing(
                ID,
                FOR,
                format!("unshare(CLONE_NEWNET): {}", plain(&error.into())),
            ),
            Err(_) => Check::missing(ID, FOR, "the thread that tried died"),
        };
    }
    Check::limited(
        ID,
        FOR,
        format!("entering one needs CAP_SYS_ADMIN; {}", named()),
    )
    .fix(ambient("sys_admin"))
}

fn named() -> String {
    let names: Vec<_> = fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    match names.len() {
        0 => "none has a name (ip netns add NAME)".to_owned(),
        _ => format!("named: {}", names.join(", ")),
    }
}

fn user_namespaces() -> Check {
    const ID: &str = "user-namespaces";
    const FOR: &str = "trying namespaces without root (unshare -rn)";
    // A process with threads may not do it, so one of its own does.
    match probe::run("user-namespace") {
        Ok(_) => Check::ok(ID, FOR, "an unprivileged user may make them"),
        Err(why) => {
            let check = Check::limited(ID, FOR, why);
            match read_number("/proc/sys/user/max_user_namespaces") {
                Some(0) => check.fix("sudo sysctl user.max_user_namespaces=15000"),
                _ if read_number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) => {
                    check.fix("sudo sysctl kernel.unprivileged_userns_clone=1")
                }
                _ if read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
                    == Some(1) =>
                {
                    check.fix("sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0")
                }
                _ => check,
            }
        }
    }
}

fn mptcp() -> Check {
    const ID: &str = "mptcp";
    const FOR: &str = "[stack.x] protocol = \"mptcp\"; without it such an instance is passed over";
    match (mptcp_socket(), read_number("/proc/sys/net/mptcp/enabled")) {
        (Ok(()), Some(0)) | (Err(Errno::NOPROTOOPT), _) => {
            Check::missing(ID, FOR, "switched off").fix("sudo sysctl net.mptcp.enabled=1")
        }
        (Ok(()), _) => Check::ok(ID, FOR, "sockets can be made"),
        (Err(Errno::PROTONOSUPPORT), _) => {
            Check::missing(ID, FOR, "not in this kernel (CONFIG_MPTCP)")
        }
        (Err(error), _) => Check::missing(
            ID,
            FOR,
            format!("socket(IPPROTO_MPTCP): {}", plain(&error.into())),
        ),
    }
}

fn congestion() -> Check {
    const ID: &str = "congestion-controls";
    const FOR: &str = "[stack.x] congestion = \"...\"";
    let Congestion { available, allowed } = Congestion::read();
    if available.is_empty() {
        return Check::limited(ID, FOR, "the kernel does not list them here");
    }
    let restricted: Vec<_> = available
        .iter()
        .filter(|name| !allowed.contains(name))
        .cloned()
        .collect();
    let mut found = available.join(" ");
    if !restricted.is_empty() && !has_capability(CapabilitySet::NET_ADMIN) {
        found += &format!(" (not for this user: {})", restricted.join(" "));
        return Check::limited(ID, FOR, found).fix(format!(
            "sudo sysctl net.ipv4.tcp_allowed_congestion_control='{}'",
            available.join(" ")
        ));
    }
    let check = Check::ok(ID, FOR, found);
    if available.iter().any(|name| name == "bbr") {
        check
    } else {
        check.fix("sudo modprobe tcp_bbr, for bbr")
    }
}

fn marks() -> Check {
    const ID: &str = "socket-marks";
    const FOR: &str = "options mark, and priority above 6";
    if has_capability(CapabilitySet::NET_ADMIN) || has_capability(CapabilitySet::NET_RAW) {
        Check::ok(ID, FOR, "SO_MARK may be set")
    } else {
        Check::limited(ID, FOR, "needs CAP_NET_ADMIN or CAP_NET_RAW").fix(ambient("net_admin"))
    }
}

fn busy_poll() -> Check {
    const ID: &str = "busy-poll";
    const FOR: &str = "option busy_poll";
    if has_capability(CapabilitySet::NET_ADMIN) {
        Check::ok(ID, FOR, "SO_BUSY_POLL may be raised")
    } else {
        Check::limited(ID, FOR, "raising SO_BUSY_POLL needs CAP_NET_ADMIN")
            .fix(ambient("net_admin"))
    }
}

fn tun() -> Check {
    const ID: &str = "tun-tap";
    const FOR: &str = "device tap";
    const PATH: &str = "/dev/net/tun";
    if !Path::new(PATH).exists() {
        return Check::missing(ID, FOR, format!("no {PATH}")).fix("sudo modprobe tun");
    }
    let opened = File::options().read(true).write(true).open(PATH);
    match (opened, has_capability(CapabilitySet::NET_ADMIN)) {
        (Ok(_), true) => Check::ok(ID, FOR, "interfaces can be made"),
        (Ok(_), false) => Check::limited(
            ID,
            FOR,
            "only interfaces that were made for this user can be used",
        )
        .fix("sudo ip tuntap add dmm0 mode tap user $USER multi_queue"),
        (Err(error), _) => Check::missing(ID, FOR, format!("{PATH}: {}", plain(&error)))
            .fix("sudo chmod 0666 /dev/net/tun"),
    }
}

fn packet() -> Check {
    raw_socket(
        "af-packet",
        "device packet",
        AddressFamily::PACKET,
        "AF_PACKET sockets can be opened",
    )
}

fn xdp() -> Check {
    raw_socket(
        "af-xdp",
        "device xdp",
        AddressFamily::XDP,
        "AF_XDP sockets can be opened",
    )
}

fn raw_socket(
    id: &'static str,
    needed_for: &'static str,
    family: AddressFamily,
    works: &str,
) -> Check {
    match rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None) {
        Ok(_) => Check::ok(id, needed_for, works),
        Err(Errno::PERM | Errno::ACCESS) => {
            Check::limited(id, needed_for, "needs CAP_NET_RAW").fix(ambient("net_raw"))
        }
        Err(Errno::AFNOSUPPORT) => Check::missing(id, needed_for, "not in this kernel"),
        Err(error) => Check::missing(id, needed_for, plain(&error.into())),
    }
}

fn bpf() -> Check {
    const ID: &str = "bpf";
    const FOR: &str = "device xdp steers packets with a small BPF program";
    if !Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists() {
        return Check::missing(ID, FOR, "no bpf(2) in this kernel");
    }
    if has_capability(CapabilitySet::BPF) && has_capability(CapabilitySet::NET_ADMIN) {
        let jit = match read_number("/proc/sys/net/core/bpf_jit_enable") {
            Some(0) => "interpreted",
            _ => "compiled",
        };
        Check::ok(ID, FOR, format!("programs may be loaded; {jit}"))
    } else {
        Check::limited(ID, FOR, "loading needs CAP_BPF and CAP_NET_ADMIN")
            .fix(ambient("bpf,+net_admin"))
    }
}
