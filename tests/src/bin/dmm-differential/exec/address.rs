//! Socket addresses as bytes: from an op to the kernel's form, and from the kernel's form to text
//! that is the same in every run.

use std::collections::HashMap;

use libc::{c_int, socklen_t};

use super::Executor;
use crate::op::{Addr, Port};
use crate::sys::{errno, raw, set_errno, wild};

/// First of the ports that sequences use by number; the kernel's own choices must lie elsewhere
/// (`ip_local_port_range`), see `crate::isolate`.
const OWN_PORTS: u16 = 10_000;
/// Ports by number that a sequence has; sequences that run close to each other have others.
const PORTS_EACH: u16 = 4;
const DEAD_PORT: u16 = 9_999;

/// An address argument, ready for a call.
pub(super) struct Argument {
    bytes: [u8; 256],
    pub(super) len: socklen_t,
    kind: Kind,
}

enum Kind {
    Valid,
    Null,
    Wild,
}

impl Argument {
    pub(super) fn pointer(&self) -> *const libc::sockaddr {
        match self.kind {
            Kind::Valid => self.bytes.as_ptr().cast(),
            Kind::Null => std::ptr::null(),
            Kind::Wild => wild(),
        }
    }

    fn new(content: &[u8]) -> Self {
        let mut bytes = [0; 256];
        bytes[..content.len()].copy_from_slice(content);
        Self {
            bytes,
            len: content.len() as socklen_t,
            kind: Kind::Valid,
        }
    }

    fn with_len(mut self, len: socklen_t) -> Self {
        self.len = len;
        self
    }

    fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

impl Executor<'_> {
    pub(super) fn address(&mut self, addr: Addr) -> Argument {
        match addr {
            Addr::V4(port) => Argument::new(&v4([127, 0, 0, 1], self.port(port))),
            Addr::OtherV4(port) => Argument::new(&v4([127, 0, 0, 2], self.port(port))),
            Addr::AnyV4(port) => Argument::new(&v4([0; 4], self.port(port))),
            Addr::V6(port) => Argument::new(&v6(1_u128.to_be_bytes(), self.port(port))),
            Addr::AnyV6(port) => Argument::new(&v6([0; 16], self.port(port))),
            Addr::Mapped(port) => {
                Argument::new(&v6(0xffff_7f00_0001_u128.to_be_bytes(), self.port(port)))
            }
            Addr::Foreign => Argument::new(&v4([198, 51, 100, 7], 80)),
            Addr::Multicast(port) => Argument::new(&v4([224, 0, 0, 1], self.port(port))),
            Addr::Broadcast(port) => Argument::new(&v4([255; 4], self.port(port))),
            Addr::Path(n) => Argument::new(&unix(format!("u{n}\0").as_bytes())),
            Addr::NoPath => Argument::new(&unix(b"no/such/dir\0")),
            Addr::Abstract(n) => {
                Argument::new(&unix(format!("\0dmm-{}-{n}", self.seed).as_bytes()))
            }
            Addr::Unnamed => Argument::new(&unix(b"")),
            Addr::Unspec => Argument::new(&[0; 16]),
            Addr::BadFamily => Argument::new(&[77; 16]),
            Addr::Short => Argument::new(&v4([127, 0, 0, 1], DEAD_PORT)).with_len(8),
            Addr::Empty => Argument::new(&v4([127, 0, 0, 1], DEAD_PORT)).with_len(0),
            Addr::Long => Argument::new(&v4([127, 0, 0, 1], DEAD_PORT)).with_len(200),
            Addr::Negative => Argument::new(&v4([127, 0, 0, 1], DEAD_PORT)).with_len(u32::MAX),
            Addr::Null => Argument::new(&[0; 16]).with_kind(Kind::Null),
            Addr::Wild => Argument::new(&[0; 16]).with_kind(Kind::Wild),
        }
    }

    fn port(&mut self, port: Port) -> u16 {
        match port {
            Port::Zero => 0,
            Port::Own(n) => {
                OWN_PORTS + (self.seed % 5_000) as u16 * PORTS_EACH + u16::from(n) % PORTS_EACH
            }
            Port::Dead => DEAD_PORT,
            Port::Of(slot) => self.port_of(self.fd(slot)).unwrap_or(DEAD_PORT),
        }
    }

    /// Makes a call after which a socket may have a port that it had not before.
    pub(super) fn may_choose_port(
        &mut self,
        fd: c_int,
        call: impl FnOnce(&mut Self) -> i64,
    ) -> i64 {
        let before = kernel_port(fd);
        let result = call(self);
        let errno = errno();
        let after = kernel_port(fd);
        if before == 0 && after != 0 {
            self.names.forget(after);
        }
        set_errno(errno);
        result
    }

    /// What the program itself would do to learn its port.
    fn port_of(&self, fd: c_int) -> Option<u16> {
        let mut bytes = [0_u8; 128];
        let mut len = bytes.len() as socklen_t;
        let result = crate::sys::call!(
            libc::getsockname,
            fd,
            bytes.as_mut_ptr().cast(),
            &raw mut len
        );
        let family = c_int::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        (result == 0 && (family == libc::AF_INET || family == libc::AF_INET6))
            .then(|| u16::from_be_bytes([bytes[2], bytes[3]]))
            .filter(|&port| port != 0)
    }
}

/// Names for the ports that the kernel chooses: `p1`, `p2`, in the order in which they show up.
#[derive(Default)]
pub(crate) struct Names {
    ports: HashMap<u16, usize>,
    /// How many names there were.
    given: usize,
    /// Abstract names from autobind.
    autobound: HashMap<Vec<u8>, usize>,
}

impl Names {
    /// The names so far, for a process that goes on with the sequence.
    pub(super) fn save(&self) -> String {
        let ports: Vec<String> = self
            .ports
            .iter()
            .map(|(port, name)| format!("{port}-{name}"))
            .collect();
        ports.join(",")
    }

    /// What [`Names::save`] wrote; what is not in its form is left out.
    pub(crate) fn restore(text: &str) -> Self {
        let number = |pair: &str| {
            let (port, name) = pair.split_once('-')?;
            Some((port.parse().ok()?, name.parse().ok()?))
        };
        let ports: HashMap<u16, usize> = text.split(',').filter_map(number).collect();
        let given = ports.values().copied().max().unwrap_or(0);
        Self {
            ports,
            given,
            autobound: HashMap::new(),
        }
    }

    /// The address as text; `bytes` is as long as the kernel said, or as much as there was room for.
    pub(super) fn show(&mut self, bytes: &[u8]) -> String {
        let Some((family, rest)) = bytes.split_first_chunk::<2>() else {
            return format!("{bytes:?}");
        };
        match c_int::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET if rest.len() >= 6 => {
                let port = self.port(u16::from_be_bytes([rest[0], rest[1]]));
                format!("{}.{}.{}.{}:{port}", rest[2], rest[3], rest[4], rest[5])
            }
            libc::AF_INET6 if rest.len() >= 22 => {
                let port = self.port(u16::from_be_bytes([rest[0], rest[1]]));
                let ip: [u8; 16] = rest[6..22].try_into().unwrap_or_default();
                let scope = &rest[22..];
                format!("[{}]:{port} scope {scope:?}", std::net::Ipv6Addr::from(ip))
            }
            libc::AF_UNIX => self.unix(rest),
            // Cut short: the port's bytes would differ from run to run.
            family => format!("family {family} and {} bytes", rest.len()),
        }
    }

    fn unix(&mut self, path: &[u8]) -> String {
        let autobound =
            path.len() == 6 && path[0] == 0 && path[1..].iter().all(u8::is_ascii_hexdigit);
        if autobound {
            let next = self.autobound.len() + 1;
            let name = self.autobound.entry(path.to_vec()).or_insert(next);
            return format!("unix autobound {name}");
        }
        format!("unix {:?}", String::from_utf8_lossy(path))
    }

    fn port(&mut self, port: u16) -> String {
        if port < OWN_PORTS + 5_000 * PORTS_EACH {
            return port.to_string();
        }
        let name = *self.ports.entry(port).or_insert_with(|| {
            self.given += 1;
            self.given
        });
        format!("p{name}")
    }

    /// The kernel has just chosen this port: a name that it had under an earlier socket is void.
    pub(super) fn forget(&mut self, port: u16) {
        self.ports.remove(&port);
    }
}

/// The port of a socket as the kernel sees it; 0 for whatever has none.
fn kernel_port(fd: c_int) -> u16 {
    let mut bytes = [0_u8; 128];
    let mut len: socklen_t = 128;
    let args = [
        fd.into(),
        bytes.as_mut_ptr() as i64,
        (&raw mut len) as i64,
        0,
        0,
        0,
    ];
    // SAFETY: room of the length given for an address.
    let result = unsafe { raw(libc::SYS_getsockname, args) };
    match c_int::from(u16::from_ne_bytes([bytes[0], bytes[1]])) {
        libc::AF_INET | libc::AF_INET6 if result == 0 => u16::from_be_bytes([bytes[2], bytes[3]]),
        _ => 0,
    }
}

fn v4(ip: [u8; 4], port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&ip);
    bytes
}

fn v6(ip: [u8; 16], port: u16) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[8..24].copy_from_slice(&ip);
    bytes
}

fn unix(path: &[u8]) -> Vec<u8> {
    let mut bytes = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(path);
    bytes
}
