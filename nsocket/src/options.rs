//! Socket options that a program sets before its socket is bound to a stack: recorded in order, so
//! that they can be replayed on the socket of the stack that is chosen.

use std::mem::size_of;

use libc::c_int;

/// Bytes that the recorded options of one socket may take, their headers included: room for about
/// thirty ordinary ones.
pub const CAPACITY: usize = 640;

/// Why an option was not recorded. The socket then stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRecorded {
    /// The log is full.
    Full,
    /// The option cannot be repeated on another socket from its bytes alone: it holds a pointer, or
    /// what it does has a life of its own (a BPF program, a repair state).
    Unreplayable,
}

/// One recorded option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// As in setsockopt(2).
    pub level: c_int,
    /// As in setsockopt(2).
    pub name: c_int,
    /// The value's bytes.
    pub value: &'a [u8],
}

/// The options of one socket, in the order in which the program set them.
pub struct OptionLog {
    used: usize,
    bytes: [u8; CAPACITY],
}

const HEADER: usize = 3 * size_of::<u32>();

impl OptionLog {
    /// An empty log.
    #[expect(clippy::new_without_default, reason = "const, for static memory")]
    pub const fn new() -> Self {
        Self {
            used: 0,
            bytes: [0; CAPACITY],
        }
    }

    /// Forgets everything.
    pub const fn clear(&mut self) {
        self.used = 0;
    }

    /// Records an option that the kernel has accepted. It takes the place of an earlier setting of the
    /// same option, as the last one in order (one option may change another's value), unless the
    /// option adds to what there is (a multicast membership).
    pub fn record(&mut self, level: c_int, name: c_int, value: &[u8]) -> Result<(), NotRecorded> {
        if is_unreplayable(level, name) {
            return Err(NotRecorded::Unreplayable);
        }
        if !accumulates(level, name) {
            self.remove(level, name);
        }
        let end = self.used + HEADER + value.len();
        if end > CAPACITY {
            return Err(NotRecorded::Full);
        }
        let mut at = self.used;
        for field in [level as u32, name as u32, value.len() as u32] {
            self.bytes[at..at + 4].copy_from_slice(&field.to_ne_bytes());
            at += 4;
        }
        self.bytes[at..end].copy_from_slice(value);
        self.used = end;
        Ok(())
    }

    /// The recorded options, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Recorded<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (option, next) = self.at(at)?;
            at = next;
            Some(option)
        })
    }

    /// The last value of an `int` option, if it was set.
    pub fn int(&self, level: c_int, name: c_int) -> Option<c_int> {
        let option = self
            .iter()
            .filter(|option| option.level == level && option.name == name)
            .last()?;
        // The kernel reads one byte of a short value and ignores what is beyond an int (IP_TOS).
        match option.value {
            [a, b, c, d, ..] => Some(c_int::from_ne_bytes([*a, *b, *c, *d])),
            [byte, ..] => Some(c_int::from(*byte)),
            [] => None,
        }
    }

    fn at(&self, at: usize) -> Option<(Recorded<'_>, usize)> {
        if at >= self.used {
            return None;
        }
        let field = |i: usize| {
            let at = at + 4 * i;
            u32::from_ne_bytes([
                self.bytes[at],
                self.bytes[at + 1],
                self.bytes[at + 2],
                self.bytes[at + 3],
            ])
        };
        let start = at + HEADER;
        let end = start + field(2) as usize;
        let option = Recorded {
            level: field(0) as c_int,
            name: field(1) as c_int,
            value: &self.bytes[start..end],
        };
        Some((option, end))
    }

    /// Forgets an option.
    fn remove(&mut self, level: c_int, name: c_int) {
        let mut at = 0;
        while let Some((option, next)) = self.at(at) {
            if option.level == level && option.name == name {
                self.bytes.copy_within(next..self.used, at);
                self.used -= next - at;
            } else {
                at = next;
            }
        }
    }
}

fn is_unreplayable(level: c_int, name: c_int) -> bool {
    match level {
        libc::SOL_SOCKET => matches!(
            name,
            libc::SO_ATTACH_FILTER
                | libc::SO_ATTACH_BPF
                | libc::SO_ATTACH_REUSEPORT_CBPF
                | libc::SO_ATTACH_REUSEPORT_EBPF
                | libc::SO_DETACH_FILTER
                | libc::SO_LOCK_FILTER
        ),
        libc::IPPROTO_TCP => matches!(
            name,
            libc::TCP_ULP
                | libc::TCP_REPAIR
                | libc::TCP_REPAIR_QUEUE
                | libc::TCP_REPAIR_OPTIONS
                | libc::TCP_QUEUE_SEQ
        ),
        libc::IPPROTO_IP
        | libc::IPPROTO_IPV6
        | libc::SOL_RAW
        | libc::IPPROTO_UDP
        | libc::IPPROTO_ICMPV6 => false,
        // Levels that are not known here (netfilter's, SCTP's) may hold pointers.
        _ => true,
    }
}

fn accumulates(level: c_int, name: c_int) -> bool {
    match level {
        libc::IPPROTO_IP => (35..=48).contains(&name), // IP_ADD_MEMBERSHIP ... MCAST_MSFILTER
        libc::IPPROTO_IPV6 => {
            matches!(
                name,
                libc::IPV6_ADD_MEMBERSHIP
                    | libc::IPV6_DROP_MEMBERSHIP
                    | libc::IPV6_JOIN_ANYCAST
                    | libc::IPV6_LEAVE_ANYCAST
                    | IPV6_FLOWLABEL_MGR
            ) || (42..=48).contains(&name)
        }
        libc::IPPROTO_TCP => matches!(name, libc::TCP_MD5SIG | TCP_AO_ADD_KEY | TCP_AO_DEL_KEY),
        _ => false,
    }
}

// Of include/uapi/linux, where the libc crate does not have them.
const IPV6_FLOWLABEL_MGR: c_int = 32;
const TCP_AO_ADD_KEY: c_int = 38;
const TCP_AO_DEL_KEY: c_int = 39;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replays_in_order_and_keeps_the_last_value() {
        let mut log = OptionLog::new();
        let one = 1i32.to_ne_bytes();
        let two = 2i32.to_ne_bytes();
        log.record(libc::SOL_SOCKET, libc::SO_KEEPALIVE, &one)
            .unwrap();
        log.record(libc::IPPROTO_TCP, libc::TCP_NODELAY, &one)
            .unwrap();
        log.record(libc::SOL_SOCKET, libc::SO_KEEPALIVE, &two)
            .unwrap();
        let seen: Vec<_> = log.iter().map(|o| (o.name, o.value.to_vec())).collect();
        assert_eq!(
            seen,
            [
                (libc::TCP_NODELAY, one.to_vec()),
                (libc::SO_KEEPALIVE, two.to_vec())
            ]
        );
        assert_eq!(log.int(libc::SOL_SOCKET, libc::SO_KEEPALIVE), Some(2));
        assert_eq!(log.int(libc::SOL_SOCKET, libc::SO_REUSEADDR), None);
    }

    #[test]
    fn a_value_of_another_length_replaces_too() {
        let mut log = OptionLog::new();
        for name in [&b"reno"[..], b"cubic", b"reno"] {
            log.record(libc::IPPROTO_TCP, libc::TCP_CONGESTION, name)
                .unwrap();
        }
        let seen: Vec<_> = log.iter().map(|option| option.value.to_vec()).collect();
        assert_eq!(seen, [b"reno"]);
    }

    #[test]
    fn memberships_add_up() {
        let mut log = OptionLog::new();
        for group in [[1u8; 8], [2u8; 8]] {
            log.record(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &group)
                .unwrap();
        }
        assert_eq!(log.iter().count(), 2);
    }

    #[test]
    fn says_what_it_cannot_hold() {
        let mut log = OptionLog::new();
        assert_eq!(
            log.record(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &[0; 16]),
            Err(NotRecorded::Unreplayable)
        );
        let mut pushed = 0;
        while log
            .record(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &[pushed; 12])
            .is_ok()
        {
            pushed += 1;
        }
        assert_eq!(usize::from(pushed), CAPACITY / (HEADER + 12));
        assert_eq!(log.iter().count(), usize::from(pushed));
        assert_eq!(
            log.record(
                libc::IPPROTO_IP,
                libc::IP_TTL,
                &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
            ),
            Err(NotRecorded::Full)
        );
    }

    #[test]
    fn a_short_value_is_a_byte() {
        let mut log = OptionLog::new();
        log.record(libc::IPPROTO_IP, libc::IP_TOS, &[0x88]).unwrap();
        assert_eq!(log.int(libc::IPPROTO_IP, libc::IP_TOS), Some(0x88));
    }
}
