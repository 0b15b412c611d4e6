//! What `dmm policy explain` is asked about: a socket, and the process that has it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use dmm_policy::{Family, Key, PasswdText, Process, Resolver, Role, SockType};

use crate::program::launch;
use crate::{Doing, Error};

/// The process, from options or from one that runs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The process")]
pub struct ProcessArgs {
    /// Name or path of the program.
    #[arg(long, value_name = "PROGRAM")]
    program: Option<String>,

    /// Effective user, by number.
    #[arg(long, value_name = "UID", conflicts_with = "user")]
    uid: Option<u32>,

    /// Effective user, by name.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// The label that dmm run --label gives.
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,

    /// Cgroup below the mount point, as in /proc/PID/cgroup.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,

    /// Take all of these from a running process; other options overrule it.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

/// The socket.
#[derive(Debug, clap::Args)]
pub struct SocketArgs {
    /// What the program is about to do.
    role: RoleArg,

    /// tcp, udp, mptcp, sctp, icmp, or a number.
    protocol: Proto,

    // Not a doc comment: rustdoc would take [::1] for a link.
    #[arg(
        help = "Where it connects or sends to, or what it listens on: 10.1.2.3:6379, [::1]:80, *:80"
    )]
    address: Address,

    /// The socket type, where the protocol does not say it.
    #[arg(long = "type", value_name = "TYPE", help_heading = "The socket")]
    kind: Option<TypeArg>,

    /// The address that the socket is bound to before it connects or sends.
    #[arg(long, value_name = "ADDR:PORT", help_heading = "The socket")]
    local: Option<Address>,

    /// SO_PRIORITY that the program has set.
    #[arg(long, value_name = "N", help_heading = "The socket")]
    priority: Option<u32>,

    /// DSCP that the program has set, 0 to 63.
    #[arg(long, value_name = "N", help_heading = "The socket",
          value_parser = clap::value_parser!(u8).range(0..64))]
    dscp: Option<u8>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RoleArg {
    Connect,
    Listen,
    Datagram,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum TypeArg {
    Stream,
    #[value(alias = "dgram")]
    Datagram,
    Seqpacket,
    Raw,
}

/// A protocol and the type that sockets of it usually have.
#[derive(Clone, Copy, Debug)]
struct Proto {
    number: u16,
    kind: Option<SockType>,
}

/// An address with a port; port 0 where none is given.
#[derive(Clone, Copy, Debug)]
struct Address(SocketAddr);

impl FromStr for Proto {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, kind) = match text {
            "tcp" => (6, Some(SockType::Stream)),
            "mptcp" => (262, Some(SockType::Stream)),
            "sctp" => (132, Some(SockType::Stream)),
            "udp" => (17, Some(SockType::Datagram)),
            "udplite" => (136, Some(SockType::Datagram)),
            "icmp" => (1, Some(SockType::Datagram)),
            "icmp6" | "ipv6-icmp" => (58, Some(SockType::Datagram)),
            _ => {
                let number = text
                    .parse()
                    .map_err(|_| "expected tcp, udp, mptcp, sctp, icmp, or a number".to_owned())?;
                (number, None)
            }
        };
        Ok(Self { number, kind })
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let any = |port: &str| {
            Some(SocketAddr::new(
                Ipv4Addr::UNSPECIFIED.into(),
                port.parse().ok()?,
            ))
        };
        let bare = |text: &str| {
            let text = text
                .strip_prefix('[')
                .and_then(|t| t.strip_suffix(']'))
                .unwrap_or(text);
            Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 0))
        };
        text.parse()
            .ok()
            .or_else(|| text.strip_prefix("*:").and_then(any))
            .or_else(|| text.strip_prefix(':').and_then(any))
            .or_else(|| bare(text))
            .map(Self)
            .ok_or_else(|| {
                "expected an address and a port, such as 10.1.2.3:80, [::1]:80 or *:80; \
                 names are not looked up"
                    .to_owned()
            })
    }
}

impl SocketArgs {
    /// The key that the policy is asked with.
    pub fn key(&self, uid: u32) -> Result<Key, Error> {
        let Address(address) = self.address;
        let role = match self.role {
            RoleArg::Connect => Role::Connect,
            RoleArg::Listen => Role::Listen,
            RoleArg::Datagram => Role::Datagram,
        };
        let bound = self.local.map(|Address(address)| address);
        let (local, remote) = match role {
            Role::Listen if bound.is_some() => {
                return Err(Error::Usage(
                    "for a listener, ADDR is the local address; --local says it twice".to_owned(),
                ));
            }
            Role::Listen => (Some(address), None),
            Role::Connect | Role::Datagram => (bound, Some(address)),
        };
        if let Some(local) = local
            && let Some(remote) = remote
            && local.is_ipv4() != remote.is_ipv4()
        {
            return Err(Error::Usage(format!(
                "{local} and {remote} are of different families"
            )));
        }
        Ok(Key {
            role,
            family: if address.is_ipv4() {
                Family::Inet
            } else {
                Family::Inet6
            },
            sock_type: self.sock_type(role),
            protocol: self.protocol.number,
            local,
            remote,
            uid,
            priority: self.priority,
            dscp: self.dscp,
        })
    }

    fn sock_type(&self, role: Role) -> SockType {
        let asked = self.kind.map(|kind| match kind {
            TypeArg::Stream => SockType::Stream,
            TypeArg::Datagram => SockType::Datagram,
            TypeArg::Seqpacket => SockType::SeqPacket,
            TypeArg::Raw => SockType::Raw,
        });
        asked.or(self.protocol.kind).unwrap_or(match role {
            Role::Datagram => SockType::Datagram,
            Role::Connect | Role::Listen => SockType::Stream,
        })
    }
}

impl ProcessArgs {
    /// The process, and its effective user.
    pub fn process(&self) -> Result<(Process, u32), Error> {
        let (mut process, mut uid) = match self.pid {
            Some(pid) => running(pid)?,
            None => (Process::default(), rustix::process::geteuid().as_raw()),
        };
        if let Some(program) = &self.program {
            (process.path, process.name) = path_and_name(program);
        }
        if let Some(label) = &self.label {
            process.label.clone_from(label);
        }
        if let Some(cgroup) = &self.cgroup {
            process.cgroup.clone_from(cgroup);
        }
        if let Some(user) = &self.user {
            uid = uid_of(user)?;
        }
        Ok((process, self.uid.unwrap_or(uid)))
    }
}

/// A program given by name alone is looked up in `PATH`, as it would be when it is run.
fn path_and_name(program: &str) -> (String, String) {
    let name = Path::new(program).file_name().map_or_else(
        || program.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let path = if program.contains('/') {
        program.to_owned()
    } else {
        crate::program::resolve(program.as_ref())
            .ok()
            .and_then(|path| path.canonicalize().ok())
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    (path, name)
}

fn uid_of(user: &str) -> Result<u32, Error> {
    let passwd = fs::read_to_string("/etc/passwd").doing(|| "read /etc/passwd".to_owned())?;
    PasswdText(&passwd)
        .uid_of(user)
        .map_err(|error| Error::not_so(error.to_string()).help("give the number: --uid UID"))
}

/// A running process as the preload in it sees itself.
fn running(pid: u32) -> Result<(Process, u32), Error> {
    let proc = Path::new("/proc").join(pid.to_string());
    let doing = || format!("look at process {pid}");
    let exe = fs::read_link(proc.join("exe")).doing(doing)?;
    let path = exe
        .to_string_lossy()
        .trim_end_matches(" (deleted)")
        .to_owned();
    let (path, name) = path_and_name(&path);
    let status = fs::read_to_string(proc.join("status")).doing(doing)?;
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok())
        .unwrap_or_default();
    let cgroup = fs::read_to_string(proc.join("cgroup")).unwrap_or_default();
    let cgroup = cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default()
        .to_owned();
    let environment = fs::read(proc.join("environ")).unwrap_or_default();
    let label = environment
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok())
        .find_map(|entry| entry.strip_prefix(launch::LABEL)?.strip_prefix('='))
        .unwrap_or_default()
        .to_owned();
    let process = Process {
        path,
        name,
        label,
        cgroup,
    };
    Ok((process, uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<String> {
        text.parse()
            .ok()
            .map(|Address(address)| address.to_string())
    }

    #[test]
    fn addresses_as_people_write_them() {
        assert_eq!(address("10.1.2.3:80").unwrap(), "10.1.2.3:80");
        assert_eq!(address("[::1]:80").unwrap(), "[::1]:80");
        assert_eq!(address("*:80").unwrap(), "0.0.0.0:80");
        assert_eq!(address(":80").unwrap(), "0.0.0.0:80");
        assert_eq!(address("10.1.2.3").unwrap(), "10.1.2.3:0");
        assert_eq!(address("::1").unwrap(), "[::1]:0");
        assert_eq!(address("[::1]").unwrap(), "[::1]:0");
        assert_eq!(address("example.org:80"), None);
        assert_eq!(address("10.1.2.3:99999"), None);
        assert_eq!(address(""), None);
    }

    #[test]
    fn a_running_process_is_seen_as_it_is() {
        let (process, uid) = running(std::process::id()).unwrap();
        assert_eq!(uid, rustix::process::geteuid().as_raw());
        assert!(process.path.ends_with(&process.name), "{process:?}");
    }
}
