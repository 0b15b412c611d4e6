//! getsockopt(2) on a session.

use std::net::SocketAddr;

use dmm_nsocket::sys;
use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET, c_int};

use super::scratch::Scratch;
use super::set::{
    DEVICE, LOOPBACK_ANSWER, LOOPBACK_INDEX, SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW, SO_TIMESTAMP_NEW,
    SO_TIMESTAMPNS_NEW, WINDOW_CLAMP,
};
use super::table::{Initial, Slot};
use super::value::{answer, copy};
use super::{CONGESTION_NAME, Facts, Options, Refused, Timestamps, information, timeout};

impl Options {
    /// getsockopt(2) on a session: writes the answer and says how long it is.
    ///
    /// SO_ERROR is the caller's to clear.
    ///
    /// # Errors
    /// As the kernel says of a connected TCP socket; [`Refused::Unsupported`] for what a session cannot
    /// do.
    pub(crate) fn get(
        &self,
        facts: &Facts<'_>,
        level: c_int,
        name: c_int,
        out: &mut [u8],
    ) -> Result<usize, Refused> {
        let answered = match level {
            SOL_SOCKET => self.socket_level(facts, name, out),
            IPPROTO_TCP => self.tcp_level(facts, name, out),
            IPPROTO_IP => ip_level(facts, name, out),
            IPPROTO_IPV6 if facts.domain == libc::AF_INET6 => self.ipv6_level(facts, name, out),
            _ => None,
        };
        if let Some(answered) = answered {
            return answered;
        }
        let is_foreign = level == IPPROTO_IPV6 && facts.domain != libc::AF_INET6;
        if !is_foreign && let Some(slot) = Slot::find(level, name) {
            return self.number(facts, slot, out);
        }
        // Nothing of it is held, so it is as on any fresh socket.
        Scratch::open(facts.domain)?.get(level, name, out)
    }

    /// An option of the table.
    fn number(&self, facts: &Facts<'_>, slot: Slot, out: &mut [u8]) -> Result<usize, Refused> {
        let row = slot.row();
        match (self.value(slot), row.initial) {
            (Some(value), _) | (None, Initial::Is(value)) => Ok(answer(row.level, value, out)),
            (None, Initial::Kernel) => Scratch::open(facts.domain)?.get(row.level, row.name, out),
        }
    }

    fn socket_level(
        &self,
        facts: &Facts<'_>,
        name: c_int,
        out: &mut [u8],
    ) -> Option<Result<usize, Refused>> {
        let wants = |timestamps: &[Timestamps]| timestamps.contains(&self.timestamps()).into();
        let number = match name {
            libc::SO_ERROR => facts.pending_error,
            libc::SO_TYPE => libc::SOCK_STREAM,
            libc::SO_DOMAIN => facts.domain,
            libc::SO_PROTOCOL => IPPROTO_TCP,
            libc::SO_ACCEPTCONN => 0,
            libc::SO_SNDBUF => self.send_buffer().unwrap_or(facts.send_buffer) as c_int,
            libc::SO_RCVBUF => self.receive_buffer().unwrap_or(facts.receive_buffer) as c_int,
            libc::SO_TIMESTAMP => wants(&[Timestamps::Micros]),
            libc::SO_TIMESTAMPNS => wants(&[Timestamps::Nanos]),
            SO_TIMESTAMP_NEW => wants(&[Timestamps::NewMicros, Timestamps::NewNanos]),
            SO_TIMESTAMPNS_NEW => wants(&[Timestamps::NewNanos]),
            libc::SO_INCOMING_CPU => self
                .value(const { Slot::of(SOL_SOCKET, libc::SO_INCOMING_CPU) })
                .unwrap_or_else(|| rustix::thread::sched_getcpu() as c_int),
            _ => return self.socket_level_structs(facts, name, out),
        };
        Some(Ok(answer(SOL_SOCKET, number, out)))
    }

    fn socket_level_structs(
        &self,
        facts: &Facts<'_>,
        name: c_int,
        out: &mut [u8],
    ) -> Option<Result<usize, Refused>> {
        Some(match name {
            libc::SO_LINGER => Ok(self.answer_linger(out)),
            libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => Ok(self.receive_timeout.answer(out)),
            libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => Ok(self.send_timeout.answer(out)),
            libc::SO_BINDTODEVICE => self.answer_device(out),
            libc::SO_MEMINFO => {
                let send = self.send_buffer().unwrap_or(facts.send_buffer);
                let receive = self.receive_buffer().unwrap_or(facts.receive_buffer);
                Ok(copy(&information::memory(facts, send, receive), out))
            }
            libc::SO_PEERNAME => answer_name(facts, out),
            libc::SO_COOKIE => sys::getsockopt(facts.descriptor, SOL_SOCKET, name, out)
                .map_err(|errno| Refused::Errno(errno.raw_os_error())),
            _ => return None,
        })
    }

    fn tcp_level(
        &self,
        facts: &Facts<'_>,
        name: c_int,
        out: &mut [u8],
    ) -> Option<Result<usize, Refused>> {
        let number = match name {
            libc::TCP_MAXSEG => self.mss(facts) as c_int,
            libc::TCP_WINDOW_CLAMP => self
                .value(WINDOW_CLAMP)
                .unwrap_or_else(|| facts.window_clamp() as c_int),
            libc::TCP_INFO => {
                let (info, len) = information::tcp_info(facts, self.mss(facts));
                return Some(Ok(copy(&info[..len], out)));
            }
            libc::TCP_CONGESTION => {
                let chosen = self.congestion();
                return (chosen != [0; CONGESTION_NAME]).then(|| Ok(copy(&chosen, out)));
            }
            // It maps what is received, and there is nothing but copies.
            libc::TCP_ZEROCOPY_RECEIVE => {
                return Some(Err(Refused::Unsupported(libc::ENOPROTOOPT)));
            }
            _ => return None,
        };
        Some(Ok(answer(IPPROTO_TCP, number, out)))
    }

    fn ipv6_level(
        &self,
        facts: &Facts<'_>,
        name: c_int,
        out: &mut [u8],
    ) -> Option<Result<usize, Refused>> {
        let number = match name {
            libc::IPV6_ADDRFORM => libc::AF_INET6,
            libc::IPV6_MTU => facts.path_mtu() as c_int,
            libc::IPV6_PATHMTU => return Some(answer_path_mtu(facts, out)),
            libc::IPV6_MULTICAST_IF if facts.accepted => LOOPBACK_INDEX,
            libc::IPV6_MULTICAST_HOPS if facts.accepted => USUAL_HOPS,
            // On an IPv6 socket these are two names of one option.
            libc::IPV6_TRANSPARENT => {
                self.value(const { Slot::of(IPPROTO_IP, libc::IP_TRANSPARENT) })?
            }
            libc::IPV6_FREEBIND => self.value(const { Slot::of(IPPROTO_IP, libc::IP_FREEBIND) })?,
            _ => return None,
        };
        Some(Ok(answer(IPPROTO_IPV6, number, out)))
    }

    fn mss(&self, facts: &Facts<'_>) -> u32 {
        let clamp = self.value(const { Slot::of(IPPROTO_TCP, libc::TCP_MAXSEG) });
        facts.mss(
            clamp
                .and_then(|clamp| u32::try_from(clamp).ok())
                .filter(|clamp| *clamp != 0),
        )
    }

    fn answer_linger(&self, out: &mut [u8]) -> usize {
        let linger = self.linger();
        // A negative time is the longest there is, cut to an int.
        let seconds = if linger.seconds < 0 {
            timeout::endless_seconds() as c_int
        } else {
            linger.seconds
        };
        let mut value = [0; 8];
        value[..4].copy_from_slice(&c_int::from(linger.on).to_ne_bytes());
        value[4..].copy_from_slice(&seconds.to_ne_bytes());
        copy(&value, out)
    }

    fn answer_device(&self, out: &mut [u8]) -> Result<usize, Refused> {
        match self.value(DEVICE) {
            None | Some(0) => Ok(0),
            Some(_) if out.len() < libc::IFNAMSIZ => Err(Refused::INVALID),
            Some(_) => Ok(copy(LOOPBACK_ANSWER.to_bytes_with_nul(), out)),
        }
    }
}

fn ip_level(facts: &Facts<'_>, name: c_int, out: &mut [u8]) -> Option<Result<usize, Refused>> {
    let number = match name {
        libc::IP_MTU => facts.path_mtu() as c_int,
        IP_PROTOCOL => facts.local_port.into(),
        libc::IP_MULTICAST_TTL if facts.accepted && facts.domain == libc::AF_INET => USUAL_HOPS,
        _ => return None,
    };
    Some(Ok(answer(IPPROTO_IP, number, out)))
}

/// SO_PEERNAME: the address, of which the kernel gives as much as is asked for, and no more than it is.
fn answer_name(facts: &Facts<'_>, out: &mut [u8]) -> Result<usize, Refused> {
    let mut name = [0; size_of::<libc::sockaddr_in6>()];
    let mapped;
    let peer = match facts.peer {
        SocketAddr::V4(peer) if facts.domain == libc::AF_INET6 => {
            mapped = SocketAddr::from((peer.ip().to_ipv6_mapped(), peer.port()));
            &mapped
        }
        _ => &facts.peer,
    };
    let family = facts.domain as libc::sa_family_t;
    name[..2].copy_from_slice(&family.to_ne_bytes());
    name[2..4].copy_from_slice(&peer.port().to_be_bytes());
    let len = match peer {
        SocketAddr::V4(peer) => {
            name[4..8].copy_from_slice(&peer.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(peer) => {
            name[8..24].copy_from_slice(&peer.ip().octets());
            name[24..].copy_from_slice(&peer.scope_id().to_ne_bytes());
            name.len()
        }
    };
    if out.len() > len {
        return Err(Refused::INVALID);
    }
    Ok(copy(&name[..len], out))
}

/// IPV6_PATHMTU: a `struct ip6_mtuinfo`, whose address TCP leaves empty.
fn answer_path_mtu(facts: &Facts<'_>, out: &mut [u8]) -> Result<usize, Refused> {
    const ADDRESS: usize = size_of::<libc::sockaddr_in6>();
    let mut value = [0; ADDRESS + 4];
    value[ADDRESS..].copy_from_slice(&facts.path_mtu().to_ne_bytes());
    if out.len() < value.len() {
        return Err(Refused::INVALID);
    }
    Ok(copy(&value, out))
}

/// What an accepted socket has from the packet that opened the connection.
const USUAL_HOPS: c_int = 64;

/// Of include/uapi/linux/in.h. It is for raw sockets: of TCP's the kernel says the port.
const IP_PROTOCOL: c_int = 52;
