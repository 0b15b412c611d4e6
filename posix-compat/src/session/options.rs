//! What TCP's options say of a session.
//!
//! Under the descriptor of a session is a Unix socket, so setsockopt(2), getsockopt(2) and ioctl(2)
//! are answered here, as the kernel's TCP would answer on a connected socket:
//!
//! - what programs set and ask often, and what moves data (timeouts, low-water marks, linger,
//!   buffers), is held here and answered without a system call;
//! - what depends on the machine, on privileges or on the kernel's version is asked of a [scratch]
//!   socket, and what came of it is held;
//! - what a session would have to do and cannot is refused, and the caller can tell such a refusal
//!   ([`Refused::Unsupported`]) from the kernel's own. An option that nothing here holds is accepted
//!   only if it leaves a socket as it was.
//!
//! [`Options`] only remembers: the session acts on what the hot getters say. A test compares every
//! answer with that of a TCP connection.
//!
//! | module | what it is for |
//! |---|---|
//! | `table` | the options that are one number |
//! | `set`, `get` | the two calls |
//! | `facts`, `information` | what the session knows that an option asks for; TCP_INFO |
//! | `inherit` | what an accepted socket has from its listener |
//! | `ioctl` | FIONREAD and its like |
//! | `scratch` | asking the kernel |
//! | `timeout`, `limits`, `value` | ticks, buffer sizes, short values |

mod facts;
mod get;
mod information;
mod inherit;
mod ioctl;
mod limits;
mod scratch;
mod set;
mod table;
mod timeout;
mod value;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use libc::{SOL_SOCKET, c_int};

pub(crate) use facts::Facts;
pub(crate) use inherit::Inherited;
pub(crate) use ioctl::ioctl;
pub(crate) use limits::usual_receive_buffer;

use table::{BITMAP, Slot, WORDS};
use timeout::Timeout;

/// Why an option was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As the kernel refuses it.
    Errno(c_int),
    /// The kernel's TCP can do it and a session cannot: to be counted. The errno is what a kernel
    /// without that feature says.
    Unsupported(c_int),
}

impl Refused {
    const INVALID: Self = Self::Errno(libc::EINVAL);

    /// What the program gets to see.
    pub(crate) const fn errno(self) -> c_int {
        match self {
            Self::Errno(errno) | Self::Unsupported(errno) => errno,
        }
    }
}

/// Which timestamps a program wants with what it receives (SO_TIMESTAMP and SO_TIMESTAMPNS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timestamps {
    /// None.
    Off,
    /// SCM_TIMESTAMP with a `struct timeval`.
    Micros,
    /// SCM_TIMESTAMPNS with a `struct timespec`.
    Nanos,
    /// SCM_TIMESTAMP of SO_TIMESTAMP_NEW.
    NewMicros,
    /// SCM_TIMESTAMPNS of SO_TIMESTAMPNS_NEW.
    NewNanos,
}

/// SO_LINGER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Linger {
    /// Whether it is on.
    pub(crate) on: bool,
    /// For how many seconds close(2) waits; 0: the connection is reset; negative: for ever.
    pub(crate) seconds: c_int,
}

/// The options of one session. Fixed in size, without locks: it may be used from several threads and
/// from signal handlers. Options are independent words, so that two threads that set the same one
/// leave one of the two values.
pub(crate) struct Options {
    /// A bit for each option of the table that was set.
    held: [AtomicU64; BITMAP],
    /// The values that take a bit, in the places of `held`.
    bits: [AtomicU64; BITMAP],
    /// The values that take a word.
    words: [AtomicI32; WORDS],
    receive_timeout: Timeout,
    send_timeout: Timeout,
    /// The seconds in the low half, whether it is on above.
    linger: AtomicU64,
    /// The name that TCP_CONGESTION was given; zeros: the system's default.
    congestion: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Options>() <= 256);

impl Options {
    /// Those of a socket of which nothing was asked.
    pub(crate) const fn new() -> Self {
        Self {
            held: [const { AtomicU64::new(0) }; BITMAP],
            bits: [const { AtomicU64::new(0) }; BITMAP],
            words: [const { AtomicI32::new(0) }; WORDS],
            receive_timeout: Timeout::new(),
            send_timeout: Timeout::new(),
            linger: AtomicU64::new(0),
            congestion: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// Forgets everything: another session begins.
    pub(crate) fn reset(&self) {
        for bitmap in [&self.held, &self.bits] {
            for word in bitmap {
                word.store(0, Ordering::Relaxed);
            }
        }
        self.receive_timeout.reset();
        self.send_timeout.reset();
        self.linger.store(0, Ordering::Relaxed);
        for word in &self.congestion {
            word.store(0, Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    /// TCP_NODELAY.
    pub(crate) fn nodelay(&self) -> bool {
        self.bit(const { Slot::of(libc::IPPROTO_TCP, libc::TCP_NODELAY) })
    }

    #[cfg(test)]
    /// TCP_CORK.
    pub(crate) fn cork(&self) -> bool {
        self.bit(const { Slot::of(libc::IPPROTO_TCP, libc::TCP_CORK) })
    }

    /// SO_OOBINLINE.
    pub(crate) fn oob_inline(&self) -> bool {
        self.bit(const { Slot::of(SOL_SOCKET, libc::SO_OOBINLINE) })
    }

    #[cfg(test)]
    /// SO_KEEPALIVE.
    pub(crate) fn keep_alive(&self) -> bool {
        self.bit(const { Slot::of(SOL_SOCKET, libc::SO_KEEPALIVE) })
    }

    /// SO_RCVTIMEO in nanoseconds; 0 if a call must not wait at all.
    pub(crate) fn receive_timeout_ns(&self) -> Option<u64> {
        self.receive_timeout.nanos()
    }

    /// SO_SNDTIMEO in nanoseconds; 0 if a call must not wait at all.
    pub(crate) fn send_timeout_ns(&self) -> Option<u64> {
        self.send_timeout.nanos()
    }

    /// SO_RCVLOWAT in bytes, at least 1. It may be more than a ring holds.
    pub(crate) fn receive_low_water(&self) -> u32 {
        let value = self.value(const { Slot::of(SOL_SOCKET, libc::SO_RCVLOWAT) });
        value.unwrap_or(1).max(1) as u32
    }

    #[cfg(test)]
    /// TCP_NOTSENT_LOWAT in bytes, if it was set.
    pub(crate) fn notsent_low_water(&self) -> Option<u32> {
        self.value(const { Slot::of(libc::IPPROTO_TCP, table::TCP_NOTSENT_LOWAT) })
            .map(|value| value as u32)
            .filter(|value| *value != 0)
    }

    #[cfg(test)]
    /// TCP_USER_TIMEOUT in milliseconds, if it was set.
    pub(crate) fn user_timeout_ms(&self) -> Option<u32> {
        self.value(const { Slot::of(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) })
            .map(|value| value as u32)
            .filter(|value| *value != 0)
    }

    /// SO_LINGER.
    pub(crate) fn linger(&self) -> Linger {
        let packed = self.linger.load(Ordering::Relaxed);
        Linger {
            on: packed >> 32 != 0,
            seconds: packed as u32 as c_int,
        }
    }

    /// SO_SNDBUF in bytes as it is read back, the double of what was asked; `None` if it was not.
    pub(crate) fn send_buffer(&self) -> Option<u32> {
        self.value(const { Slot::of(SOL_SOCKET, libc::SO_SNDBUF) })
            .map(|value| value as u32)
    }

    /// SO_RCVBUF in bytes as it is read back, the double of what was asked; `None` if it was not.
    pub(crate) fn receive_buffer(&self) -> Option<u32> {
        self.value(const { Slot::of(SOL_SOCKET, libc::SO_RCVBUF) })
            .map(|value| value as u32)
    }

    /// SO_TIMESTAMP and SO_TIMESTAMPNS, in both forms.
    pub(crate) fn timestamps(&self) -> Timestamps {
        match self.value(TIMESTAMPS) {
            Some(1) => Timestamps::Micros,
            Some(2) => Timestamps::Nanos,
            Some(3) => Timestamps::NewMicros,
            Some(4) => Timestamps::NewNanos,
            _ => Timestamps::Off,
        }
    }

    fn set_timestamps(&self, timestamps: Timestamps) {
        self.hold(TIMESTAMPS, timestamps as c_int);
    }

    fn set_linger(&self, linger: Linger) {
        let packed = u64::from(linger.on) << 32 | u64::from(linger.seconds as u32);
        self.linger.store(packed, Ordering::Relaxed);
    }

    /// The name that TCP_CONGESTION was given; zeros if it was not.
    fn congestion(&self) -> [u8; CONGESTION_NAME] {
        let mut name = [0; CONGESTION_NAME];
        for (chunk, word) in name.chunks_exact_mut(8).zip(&self.congestion) {
            chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        name
    }

    fn set_congestion(&self, name: [u8; CONGESTION_NAME]) {
        let (words, _) = name.as_chunks();
        for (word, bytes) in self.congestion.iter().zip(words) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }

    /// The value of an option, if it was set.
    fn value(&self, slot: Slot) -> Option<c_int> {
        let (word, mask) = place(slot);
        if self.held[word].load(Ordering::Acquire) & mask == 0 {
            return None;
        }
        Some(match slot.word() {
            Some(index) => self.words[index].load(Ordering::Relaxed),
            None => c_int::from(self.bit(slot)),
        })
    }

    /// One load for an option that takes a bit and is 0 by default.
    fn bit(&self, slot: Slot) -> bool {
        let (word, mask) = place(slot);
        self.bits[word].load(Ordering::Relaxed) & mask != 0
    }

    fn hold(&self, slot: Slot, value: c_int) {
        let (word, mask) = place(slot);
        match slot.word() {
            Some(index) => self.words[index].store(value, Ordering::Relaxed),
            None if value != 0 => {
                self.bits[word].fetch_or(mask, Ordering::Relaxed);
            }
            None => {
                self.bits[word].fetch_and(!mask, Ordering::Relaxed);
            }
        }
        self.held[word].fetch_or(mask, Ordering::Release);
    }

    /// Lets an option read as if it had never been set.
    fn forget(&self, slot: Slot) {
        let (word, mask) = place(slot);
        self.held[word].fetch_and(!mask, Ordering::Relaxed);
    }
}

/// TCP_CA_NAME_MAX.
const CONGESTION_NAME: usize = 16;

const TIMESTAMPS: Slot = Slot::of(SOL_SOCKET, libc::SO_TIMESTAMP);

fn place(slot: Slot) -> (usize, u64) {
    let bits = u64::BITS as usize;
    (slot.index() / bits, 1 << (slot.index() % bits))
}
