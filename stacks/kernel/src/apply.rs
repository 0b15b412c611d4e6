//! An instance's options on a socket: all of them, or none and the reason.
//!
//! The policy promises an operator that a socket on the instance has its options. So an option that
//! the kernel refuses takes the instance out of the race, and what had been set before is put back.
//! Buffer sizes are the exception: the kernel caps them silently at `net.core.[rw]mem_max`, and a
//! smaller buffer is no reason to send a socket elsewhere, so that is only reported.

use std::os::fd::BorrowedFd;

use dmm_nsocket::Reason;
use dmm_nsocket::stack::{Note, Refusal, Request, Socket};
use dmm_nsocket::sys;
use dmm_policy::{Family, SockType, SocketOptions};
use libc::c_int;
use rustix::io::Errno;

/// Values of an option that are remembered so that they can be put back.
const UNDO_MAX: usize = 32;

/// What has become of an instance's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How many were set.
    pub count: u16,
    /// A buffer size that the system has capped.
    pub capped: Option<Note>,
}

impl Applied {
    /// Tells the socket.
    pub fn report(self, socket: &mut dyn Socket) {
        socket.applied(self.count);
        if let Some(note) = self.capped {
            socket.note(note);
        }
    }
}

/// Sets the options: all of them, or none and the reason.
pub fn apply(
    fd: BorrowedFd<'_>,
    request: &Request<'_>,
    options: &SocketOptions<'_>,
    congestion: Option<&str>,
) -> Result<Applied, Refusal> {
    let mut changes = Changes::new(fd);
    if congestion.is_some() || !options.is_empty() {
        set_all(&mut changes, request, options, congestion).inspect_err(|_| changes.undo())?;
    }
    Ok(Applied {
        count: changes.count as u16,
        capped: changes.capped,
    })
}

fn set_all(
    changes: &mut Changes<'_>,
    request: &Request<'_>,
    options: &SocketOptions<'_>,
    congestion: Option<&str>,
) -> Result<(), Refusal> {
    use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};

    let tcp = request.key.sock_type == SockType::Stream;
    let inet6 = request.key.family == Family::Inet6;
    let flag = |value: Option<bool>| value.map(c_int::from);
    let number = |value: Option<u32>| value.map(|v| c_int::try_from(v).unwrap_or(c_int::MAX));
    let byte = |value: Option<u8>| value.map(c_int::from);

    if let Some(device) = options.device {
        changes
            .set(SOL_SOCKET, libc::SO_BINDTODEVICE, device.as_bytes())
            .map_err(|errno| Refusal::because(Reason::DeviceUnavailable, errno))?;
    }
    if let (true, Some(name)) = (tcp, congestion) {
        changes
            .set(IPPROTO_TCP, libc::TCP_CONGESTION, name.as_bytes())
            .map_err(|errno| Refusal::because(Reason::CongestionUnavailable, errno))?;
    }
    // The type of service comes before the priority: the kernel derives one from the other.
    let tos = byte(options.dscp).map(|dscp| dscp << 2);
    let any: [(c_int, c_int, Option<c_int>); 12] = [
        (IPPROTO_IP, libc::IP_TOS, tos),
        (IPPROTO_IPV6, libc::IPV6_TCLASS, tos.filter(|_| inet6)),
        (SOL_SOCKET, libc::SO_PRIORITY, number(options.priority)),
        (
            SOL_SOCKET,
            libc::SO_MARK,
            options.mark.map(|mark| mark as c_int),
        ),
        (SOL_SOCKET, libc::SO_BUSY_POLL, number(options.busy_poll_us)),
        (
            SOL_SOCKET,
            libc::SO_PREFER_BUSY_POLL,
            flag(options.prefer_busy_poll),
        ),
        (
            SOL_SOCKET,
            libc::SO_BUSY_POLL_BUDGET,
            number(options.busy_poll_budget),
        ),
        (SOL_SOCKET, libc::SO_KEEPALIVE, flag(options.keepalive)),
        (IPPROTO_IP, libc::IP_TTL, byte(options.ttl)),
        (
            IPPROTO_IPV6,
            libc::IPV6_UNICAST_HOPS,
            byte(options.ttl).filter(|_| inet6),
        ),
        (IPPROTO_IP, libc::IP_FREEBIND, flag(options.freebind)),
        (
            IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            flag(options.bind_address_no_port),
        ),
    ];
    let streams: [(c_int, c_int, Option<c_int>); 9] = [
        (IPPROTO_TCP, libc::TCP_NODELAY, flag(options.nodelay)),
        (IPPROTO_TCP, libc::TCP_QUICKACK, flag(options.quickack)),
        (
            IPPROTO_TCP,
            libc::TCP_KEEPIDLE,
            number(options.keepalive_idle_s),
        ),
        (
            IPPROTO_TCP,
            libc::TCP_KEEPINTVL,
            number(options.keepalive_interval_s),
        ),
        (
            IPPROTO_TCP,
            libc::TCP_KEEPCNT,
            number(options.keepalive_count),
        ),
        (
            IPPROTO_TCP,
            libc::TCP_USER_TIMEOUT,
            number(options.user_timeout_ms),
        ),
        (
            IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            number(options.notsent_lowat),
        ),
        (IPPROTO_TCP, libc::TCP_MAXSEG, number(options.max_segment)),
        (
            IPPROTO_TCP,
            libc::TCP_WINDOW_CLAMP,
            number(options.window_clamp),
        ),
    ];
    let streams = streams.into_iter().filter(|_| tcp);
    for (level, name, value) in any.into_iter().chain(streams) {
        if let Some(value) = value {
            changes
                .set(level, name, &value.to_ne_bytes())
                .map_err(|errno| Refusal::because(Reason::OptionRefused, errno))?;
        }
    }
    if let Some(rate) = options.max_pacing_rate {
        changes
            .set(SOL_SOCKET, libc::SO_MAX_PACING_RATE, &rate.to_ne_bytes())
            .map_err(|errno| Refusal::because(Reason::OptionRefused, errno))?;
    }
    if let Some(size) = options.send_buffer {
        changes.buffer(libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, size)?;
    }
    if let Some(size) = options.receive_buffer {
        changes.buffer(libc::SO_RCVBUF, libc::SO_RCVBUFFORCE, size)?;
    }
    Ok(())
}

/// The options that were set on one socket, with the values they had before.
struct Changes<'a> {
    fd: BorrowedFd<'a>,
    old: [(c_int, c_int, usize, [u8; 16]); UNDO_MAX],
    count: usize,
    capped: Option<Note>,
}

impl<'a> Changes<'a> {
    fn new(fd: BorrowedFd<'a>) -> Self {
        Self {
            fd,
            old: [(0, 0, 0, [0; 16]); UNDO_MAX],
            count: 0,
            capped: None,
        }
    }

    fn set(&mut self, level: c_int, name: c_int, value: &[u8]) -> Result<(), Errno> {
        self.change(level, name, name, value)
    }

    /// Sets `name`, which reads back as `reads_as`.
    fn change(
        &mut self,
        level: c_int,
        name: c_int,
        reads_as: c_int,
        value: &[u8],
    ) -> Result<(), Errno> {
        let mut old = [0; 16];
        let len = sys::getsockopt(self.fd, level, reads_as, &mut old)?;
        sys::setsockopt(self.fd, level, name, value)?;
        if let Some(place) = self.old.get_mut(self.count) {
            *place = (level, name, len, old);
            self.count += 1;
        }
        Ok(())
    }

    /// A buffer size: forced past the system's limit where the privilege is there; otherwise what
    /// the limit allows, with a note if that is less than asked for.
    fn buffer(&mut self, name: c_int, force: c_int, size: u32) -> Result<(), Refusal> {
        let size = c_int::try_from(size).unwrap_or(c_int::MAX);
        let value = size.to_ne_bytes();
        if self.change(libc::SOL_SOCKET, force, name, &value).is_ok() {
            return Ok(());
        }
        let refused = |errno| Refusal::because(Reason::OptionRefused, errno);
        self.set(libc::SOL_SOCKET, name, &value).map_err(refused)?;
        let got = sys::getsockopt_int(self.fd, libc::SOL_SOCKET, name).map_err(refused)?;
        // The kernel doubles what it is given (socket(7)).
        if got / 2 < size {
            self.capped.get_or_insert(Note {
                level: libc::SOL_SOCKET,
                option: name,
                errno: Errno::PERM,
            });
        }
        Ok(())
    }

    fn undo(&self) {
        for (level, name, len, old) in self.old[..self.count].iter().rev() {
            let value = match *name {
                // A buffer size reads back doubled.
                libc::SO_SNDBUF | libc::SO_RCVBUF | libc::SO_SNDBUFFORCE | libc::SO_RCVBUFFORCE
                    if *level == libc::SOL_SOCKET =>
                {
                    halved(*old)
                }
                _ => *old,
            };
            // The value was in force a moment ago: the kernel takes it back, or there is nothing
            // that could be done about it.
            let _ = sys::setsockopt(self.fd, *level, *name, &value[..*len]);
        }
    }
}

fn halved(mut value: [u8; 16]) -> [u8; 16] {
    let doubled = c_int::from_ne_bytes([value[0], value[1], value[2], value[3]]);
    value[..4].copy_from_slice(&(doubled / 2).to_ne_bytes());
    value
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use dmm_policy::{Key, Role};

    use super::*;

    fn key(sock_type: SockType) -> Key {
        Key {
            role: Role::Datagram,
            family: Family::Inet,
            sock_type,
            protocol: 17,
            local: None,
            remote: None,
            uid: 0,
            priority: None,
            dscp: None,
        }
    }

    fn with_socket(
        options: &SocketOptions<'_>,
        check: impl FnOnce(&UdpSocket, Result<Applied, Refusal>),
    ) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let key = key(SockType::Datagram);
        let request = Request {
            key: &key,
            domain: libc::AF_INET,
            kind: libc::SOCK_DGRAM,
            protocol: 0,
        };
        let result = apply(socket.as_fd(), &request, options, None);
        check(&socket, result);
    }

    fn int(socket: &UdpSocket, level: c_int, name: c_int) -> c_int {
        sys::getsockopt_int(socket, level, name).unwrap()
    }

    #[test]
    fn options_are_applied() {
        let options = SocketOptions {
            dscp: Some(34),
            priority: Some(5),
            ttl: Some(9),
            ..SocketOptions::default()
        };
        with_socket(&options, |socket, result| {
            let applied = Applied {
                count: 3,
                capped: None,
            };
            assert_eq!(result, Ok(applied));
            assert_eq!(int(socket, libc::IPPROTO_IP, libc::IP_TOS), 34 << 2);
            assert_eq!(int(socket, libc::SOL_SOCKET, libc::SO_PRIORITY), 5);
            assert_eq!(int(socket, libc::IPPROTO_IP, libc::IP_TTL), 9);
        });
    }

    #[test]
    fn one_that_is_refused_takes_the_others_back() {
        let options = SocketOptions {
            dscp: Some(34),
            priority: Some(5),
            busy_poll_budget: Some(u32::from(u16::MAX) + 1),
            ..SocketOptions::default()
        };
        with_socket(&options, |socket, result| {
            assert_eq!(result.unwrap_err().reason, Reason::OptionRefused);
            assert_eq!(int(socket, libc::IPPROTO_IP, libc::IP_TOS), 0);
            assert_eq!(int(socket, libc::SOL_SOCKET, libc::SO_PRIORITY), 0);
        });
    }

    #[test]
    fn a_device_that_is_not_there_is_a_reason() {
        let options = SocketOptions {
            device: Some("dmm-none"),
            ..SocketOptions::default()
        };
        with_socket(&options, |_, result| {
            let refusal = result.unwrap_err();
            assert_eq!(refusal.reason, Reason::DeviceUnavailable);
            assert_eq!(refusal.errno, Some(Errno::NODEV));
        });
    }

    #[test]
    fn stream_options_are_left_off_a_datagram_socket() {
        let options = SocketOptions {
            nodelay: Some(true),
            user_timeout_ms: Some(1),
            ..SocketOptions::default()
        };
        with_socket(&options, |_, result| {
            assert_eq!(result.map(|applied| applied.count), Ok(0));
        });
    }
}
