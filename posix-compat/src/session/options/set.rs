//! setsockopt(2) on a session.

use std::ffi::CStr;

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET, c_int};

use super::scratch::{LOOPBACK, Meaning, Scratch};
use super::table::{Check, SO_BUF_LOCK, Slot};
use super::value::{number, pair};
use super::{CONGESTION_NAME, Linger, Options, Refused, Timestamps, facts, limits};

/// Whether there is a connection yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Fresh,
    Connected,
}

impl Options {
    /// setsockopt(2) on a session of `domain` (AF_INET or AF_INET6).
    ///
    /// # Errors
    /// As the kernel says of a connected TCP socket; [`Refused::Unsupported`] for what a session cannot
    /// do.
    pub(crate) fn set(
        &self,
        domain: c_int,
        level: c_int,
        name: c_int,
        value: &[u8],
    ) -> Result<(), Refused> {
        self.set_at(Stage::Connected, domain, level, name, value)
    }

    /// An option that the kernel has accepted on the fresh socket, before there was a connection. Done
    /// to new options it also says whether a session can carry a socket with that option.
    ///
    /// # Errors
    /// As [`Options::set`].
    pub(crate) fn replay(
        &self,
        domain: c_int,
        level: c_int,
        name: c_int,
        value: &[u8],
    ) -> Result<(), Refused> {
        self.set_at(Stage::Fresh, domain, level, name, value)
    }

    fn set_at(
        &self,
        stage: Stage,
        domain: c_int,
        level: c_int,
        name: c_int,
        value: &[u8],
    ) -> Result<(), Refused> {
        if level == IPPROTO_IPV6 && domain != libc::AF_INET6 {
            return judge(domain, level, name, value);
        }
        match (level, name) {
            (SOL_SOCKET, libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW) => self.receive_timeout.set(value),
            (SOL_SOCKET, libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW) => self.send_timeout.set(value),
            (SOL_SOCKET, libc::SO_LINGER) => self.set_linger_from(value),
            (SOL_SOCKET, libc::SO_TIMESTAMP) => self.want(Timestamps::Micros, value),
            (SOL_SOCKET, libc::SO_TIMESTAMPNS) => self.want(Timestamps::Nanos, value),
            (SOL_SOCKET, SO_TIMESTAMP_NEW) => self.want(Timestamps::NewMicros, value),
            (SOL_SOCKET, SO_TIMESTAMPNS_NEW) => self.want(Timestamps::NewNanos, value),
            (SOL_SOCKET, libc::SO_SNDBUFFORCE | libc::SO_RCVBUFFORCE) => {
                self.force(stage, domain, name, value)
            }
            (SOL_SOCKET, libc::SO_BINDTODEVICE) => self.bind_to_device(domain, name, value),
            (IPPROTO_TCP, libc::TCP_CONGESTION) => self.choose_congestion(domain, value),
            // On an IPv6 socket these are two names of one option.
            (IPPROTO_IPV6, libc::IPV6_TRANSPARENT) => {
                self.set_alias(domain, level, name, libc::IP_TRANSPARENT, value)
            }
            (IPPROTO_IPV6, libc::IPV6_FREEBIND) => {
                self.set_alias(domain, level, name, libc::IP_FREEBIND, value)
            }
            // It is for sockets that are being repaired, which a session never is.
            (IPPROTO_TCP, libc::TCP_QUEUE_SEQ) => {
                number(level, value).and(Err(Refused::Errno(libc::EPERM)))
            }
            // Hints that are lost on shared memory, and that cannot be read back.
            (SOL_SOCKET, SO_BUSY_POLL_BUDGET | libc::SO_CNX_ADVICE)
            | (IPPROTO_IPV6, libc::IPV6_MTU) => Scratch::open(domain)?.set(level, name, value),
            _ => match Slot::find(level, name) {
                Some(slot) => self.set_number(stage, domain, slot, value),
                None => judge(domain, level, name, value),
            },
        }
    }

    fn set_number(
        &self,
        stage: Stage,
        domain: c_int,
        slot: Slot,
        value: &[u8],
    ) -> Result<(), Refused> {
        let row = slot.row();
        match row.check {
            Check::Flag => self.hold(slot, c_int::from(number(row.level, value)? != 0)),
            Check::Any => self.hold(slot, number(row.level, value)?),
            Check::Range(least, most) => {
                let number = number(row.level, value)?;
                if !(least..=most).contains(&number) {
                    return Err(Refused::INVALID);
                }
                self.hold(slot, number);
            }
            Check::BeforeConnection if stage == Stage::Connected => return Err(Refused::INVALID),
            Check::Kernel | Check::BeforeConnection => {
                let scratch = Scratch::open(domain)?;
                scratch.set(row.level, row.name, value)?;
                self.hold(slot, scratch.int(row.level, row.name)?);
            }
            Check::Own => return self.set_own(stage, domain, slot, value),
        }
        Ok(())
    }

    fn set_own(
        &self,
        stage: Stage,
        domain: c_int,
        slot: Slot,
        value: &[u8],
    ) -> Result<(), Refused> {
        let (level, name) = (slot.row().level, slot.row().name);
        match (level, name) {
            (SOL_SOCKET, libc::SO_BINDTOIFINDEX) => self.bind_to_device(domain, name, value),
            (SOL_SOCKET, SO_BUF_LOCK) => {
                let scratch = Scratch::open(domain)?;
                scratch.set(level, name, value)?;
                self.hold(slot, scratch.int(level, name)?);
                Ok(())
            }
            _ => self.set_own_number(stage, domain, slot, number(level, value)?, value),
        }
    }

    fn set_own_number(
        &self,
        stage: Stage,
        domain: c_int,
        slot: Slot,
        number: c_int,
        value: &[u8],
    ) -> Result<(), Refused> {
        let (level, name) = (slot.row().level, slot.row().name);
        match (level, name) {
            (SOL_SOCKET, libc::SO_SNDBUF) => {
                self.fix(stage, domain, name, limits::SEND.fit(number)?);
            }
            (SOL_SOCKET, libc::SO_RCVBUF) => {
                self.fix(stage, domain, name, limits::RECEIVE.fit(number)?);
            }
            (SOL_SOCKET, libc::SO_RCVLOWAT) => {
                self.hold(slot, self.low_water(domain, number)?);
            }
            (SOL_SOCKET, libc::SO_PRIORITY) => {
                if !(0..=6).contains(&number) {
                    Scratch::open(domain)?.set(level, name, value)?;
                }
                self.hold(slot, number);
            }
            (IPPROTO_TCP, libc::TCP_MAXSEG) => {
                Scratch::open(domain)?.set(level, name, value)?;
                // It is what the handshake says; a connection has had its own.
                if stage == Stage::Fresh {
                    self.hold(slot, number);
                }
            }
            (IPPROTO_TCP, libc::TCP_WINDOW_CLAMP) => {
                if number == 0 && stage == Stage::Connected {
                    return Err(Refused::INVALID);
                }
                self.hold(slot, number.max(limits::RECEIVE.least()? / 2));
            }
            (IPPROTO_IP, libc::IP_TOS) => self.set_type_of_service(slot, number as u8 & !ECN),
            (IPPROTO_IP, libc::IP_TTL) if number == -1 && !value.is_empty() => self.forget(slot),
            (IPPROTO_IP, libc::IP_TTL) if (1..=255).contains(&number) => self.hold(slot, number),
            (IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) if number == -1 => self.forget(slot),
            (IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) if (0..=255).contains(&number) => {
                self.hold(slot, number);
            }
            (IPPROTO_IPV6, libc::IPV6_TCLASS) if (-1..=255).contains(&number) => {
                self.hold(slot, number.max(0) & !c_int::from(ECN));
            }
            _ => return Err(Refused::INVALID),
        }
        Ok(())
    }

    /// A buffer's size, from now on fixed.
    fn fix(&self, stage: Stage, domain: c_int, name: c_int, bytes: c_int) {
        let (slot, lock) = if name == libc::SO_SNDBUF {
            (SEND_BUFFER, SEND_LOCK)
        } else {
            (RECEIVE_BUFFER, RECEIVE_LOCK)
        };
        self.hold(slot, bytes);
        self.hold(BUFFER_LOCKS, self.value(BUFFER_LOCKS).unwrap_or(0) | lock);
        if slot == RECEIVE_BUFFER && stage == Stage::Fresh {
            self.clamp_window(domain);
        }
    }

    /// A connection's window is at most half of the buffer that it begins with, if that is fixed, and
    /// a segment less.
    pub(super) fn clamp_window(&self, domain: c_int) {
        if let Some(buffer) = self.value(RECEIVE_BUFFER) {
            let mss = facts::path_mss(domain == libc::AF_INET) - facts::TIMESTAMP_OPTION;
            let half = facts::reserve_segment(buffer as u32 / 2, mss) as c_int;
            let clamp = self.value(WINDOW_CLAMP).filter(|clamp| *clamp != 0);
            self.hold(WINDOW_CLAMP, clamp.map_or(half, |clamp| clamp.min(half)));
        }
    }

    /// SO_SNDBUFFORCE and SO_RCVBUFFORCE: those with CAP_NET_ADMIN may pass the limits.
    fn force(&self, stage: Stage, domain: c_int, name: c_int, value: &[u8]) -> Result<(), Refused> {
        let reads_as = if name == libc::SO_SNDBUFFORCE {
            libc::SO_SNDBUF
        } else {
            libc::SO_RCVBUF
        };
        let scratch = Scratch::open(domain)?;
        scratch.set(SOL_SOCKET, name, value)?;
        self.fix(stage, domain, reads_as, scratch.int(SOL_SOCKET, reads_as)?);
        Ok(())
    }

    /// SO_RCVLOWAT as TCP keeps it: at most half of what the buffer may become.
    fn low_water(&self, domain: c_int, asked: c_int) -> Result<c_int, Refused> {
        /// Half of the receive buffer that every TCP may have.
        const MODEST: c_int = 32 << 10;
        let asked = if asked < 0 { c_int::MAX } else { asked };
        let fixed = self.value(BUFFER_LOCKS).unwrap_or(0) & RECEIVE_LOCK != 0;
        let most = match self.value(RECEIVE_BUFFER) {
            Some(buffer) if fixed => buffer / 2,
            _ if asked <= MODEST => MODEST,
            _ => {
                let scratch = Scratch::open(domain)?;
                scratch.set(SOL_SOCKET, libc::SO_RCVLOWAT, &c_int::MAX.to_ne_bytes())?;
                scratch.int(SOL_SOCKET, libc::SO_RCVLOWAT)?
            }
        };
        Ok(asked.min(most).max(1))
    }

    /// IP_TOS, which sets the priority too (`rt_tos2priority`).
    fn set_type_of_service(&self, slot: Slot, tos: u8) {
        const PRIORITIES: [u8; 16] = [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4];
        if self.value(slot).unwrap_or(0) == c_int::from(tos) {
            return;
        }
        self.hold(slot, c_int::from(tos));
        let priority = PRIORITIES[usize::from(tos & 0x1e) >> 1];
        self.hold(PRIORITY, c_int::from(priority));
    }

    fn set_linger_from(&self, value: &[u8]) -> Result<(), Refused> {
        let [on, seconds] = pair(value)?.map(c_int::from_ne_bytes);
        let linger = if on != 0 {
            Linger { on: true, seconds }
        } else {
            Linger {
                on: false,
                ..self.linger()
            }
        };
        self.set_linger(linger);
        Ok(())
    }

    fn want(&self, timestamps: Timestamps, value: &[u8]) -> Result<(), Refused> {
        let wanted = number(SOL_SOCKET, value)? != 0;
        self.set_timestamps(if wanted { timestamps } else { Timestamps::Off });
        Ok(())
    }

    /// SO_BINDTODEVICE and SO_BINDTOIFINDEX. Memory is reached through the loopback device; through
    /// another one TCP would not have reached this peer any more.
    fn bind_to_device(&self, domain: c_int, name: c_int, value: &[u8]) -> Result<(), Refused> {
        let scratch = Scratch::open(domain)?;
        // Without CAP_NET_RAW a device may be chosen once.
        if self.value(DEVICE).is_some_and(|index| index != 0) {
            scratch.set(SOL_SOCKET, libc::SO_BINDTODEVICE, LOOPBACK)?;
        }
        scratch.set(SOL_SOCKET, name, value)?;
        match scratch.int(SOL_SOCKET, libc::SO_BINDTOIFINDEX)? {
            index @ (0 | LOOPBACK_INDEX) => {
                self.hold(DEVICE, index);
                Ok(())
            }
            _ => Err(Refused::Unsupported(libc::ENODEV)),
        }
    }

    /// TCP_CONGESTION: remembered, as the kernel would have allowed it. Memory has no congestion.
    fn choose_congestion(&self, domain: c_int, value: &[u8]) -> Result<(), Refused> {
        let scratch = Scratch::open(domain)?;
        scratch.set(IPPROTO_TCP, libc::TCP_CONGESTION, value)?;
        let mut name = [0; CONGESTION_NAME];
        scratch.get(IPPROTO_TCP, libc::TCP_CONGESTION, &mut name)?;
        self.set_congestion(name);
        Ok(())
    }

    fn set_alias(
        &self,
        domain: c_int,
        level: c_int,
        name: c_int,
        held_as: c_int,
        value: &[u8],
    ) -> Result<(), Refused> {
        let scratch = Scratch::open(domain)?;
        scratch.set(level, name, value)?;
        if let Some(slot) = Slot::find(IPPROTO_IP, held_as) {
            self.hold(slot, scratch.int(level, name)?);
        }
        Ok(())
    }
}

/// An option that is not held: the kernel's own refusal stands, and what would be without effect is
/// refused too.
fn judge(domain: c_int, level: c_int, name: c_int, value: &[u8]) -> Result<(), Refused> {
    let scratch = Scratch::open(domain)?;
    // Sticky options, which cannot be read back.
    let is_hidden = level == IPPROTO_IPV6 && name == libc::IPV6_2292PKTOPTIONS;
    match scratch.judge(level, name, value) {
        Ok(Meaning::None) if !is_hidden || value.is_empty() => Ok(()),
        // What only a connection can be asked, TLS in the kernel for example.
        Ok(_) | Err(Refused::Errno(libc::ENOTCONN)) => {
            Err(Refused::Unsupported(as_unknown(level, name)))
        }
        Err(refused) => Err(refused),
    }
}

/// How a kernel refuses an option whose feature it does not have.
fn as_unknown(level: c_int, name: c_int) -> c_int {
    match (level, name) {
        (IPPROTO_TCP, libc::TCP_ULP) => libc::ENOENT,
        (SOL_SOCKET, libc::SO_ZEROCOPY | libc::SO_PEEK_OFF) => libc::EOPNOTSUPP,
        (IPPROTO_IPV6, libc::IPV6_ADDRFORM) => libc::EADDRNOTAVAIL,
        _ => libc::ENOPROTOOPT,
    }
}

/// The device's name as SO_BINDTODEVICE answers it.
pub(super) const LOOPBACK_ANSWER: &CStr = c"lo";

/// The loopback device has this number in every network namespace.
pub(super) const LOOPBACK_INDEX: c_int = 1;

/// The bits of explicit congestion notification, which TCP keeps to itself.
const ECN: u8 = 3;

/// The bits of SO_BUF_LOCK.
pub(super) const SEND_LOCK: c_int = 1;
pub(super) const RECEIVE_LOCK: c_int = 2;

pub(super) const SEND_BUFFER: Slot = Slot::of(SOL_SOCKET, libc::SO_SNDBUF);
pub(super) const RECEIVE_BUFFER: Slot = Slot::of(SOL_SOCKET, libc::SO_RCVBUF);
pub(super) const BUFFER_LOCKS: Slot = Slot::of(SOL_SOCKET, SO_BUF_LOCK);
pub(super) const WINDOW_CLAMP: Slot = Slot::of(IPPROTO_TCP, libc::TCP_WINDOW_CLAMP);
pub(super) const DEVICE: Slot = Slot::of(SOL_SOCKET, libc::SO_BINDTOIFINDEX);
const PRIORITY: Slot = Slot::of(SOL_SOCKET, libc::SO_PRIORITY);

// Of include/uapi/asm-generic/socket.h.
pub(super) const SO_TIMESTAMP_NEW: c_int = 63;
pub(super) const SO_TIMESTAMPNS_NEW: c_int = 64;
pub(super) const SO_RCVTIMEO_NEW: c_int = 66;
pub(super) const SO_SNDTIMEO_NEW: c_int = 67;
const SO_BUSY_POLL_BUDGET: c_int = 70;
