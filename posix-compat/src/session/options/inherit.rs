//! What an accepted socket has from its listener.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use dmm_nsocket::sys;
use libc::{IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET, c_int};

use super::set::{
    BUFFER_LOCKS, RECEIVE_BUFFER, RECEIVE_LOCK, SEND_BUFFER, SEND_LOCK, SO_TIMESTAMP_NEW,
    SO_TIMESTAMPNS_NEW,
};
use super::table::{Initial, Slot};
use super::value::pair;
use super::{CONGESTION_NAME, Linger, Options, TIMESTAMPS, Timestamps};

/// The options of a listener that its accepted sockets begin with.
pub(crate) struct Inherited(Options);

impl Inherited {
    /// Asks the listener's TCP socket, by some hundred calls of getsockopt(2): once for each listener, and
    /// again when the program has set an option of it.
    pub(crate) fn of(listener: BorrowedFd<'_>, domain: c_int) -> Self {
        let options = Options::new();
        for slot in Slot::all() {
            inherit_number(&options, listener, domain, slot);
        }
        options.clamp_window(domain);
        options.set_timestamps(timestamps(listener));
        for (name, timeout) in [
            (libc::SO_RCVTIMEO, &options.receive_timeout),
            (libc::SO_SNDTIMEO, &options.send_timeout),
        ] {
            let mut value = [0; 16];
            if sys::getsockopt(listener, SOL_SOCKET, name, &mut value).is_ok() && value != [0; 16] {
                // What the kernel answers is a right value.
                let _ = timeout.set(&value);
            }
        }
        let mut linger = [0; 8];
        if sys::getsockopt(listener, SOL_SOCKET, libc::SO_LINGER, &mut linger).is_ok()
            && let Ok([on, seconds]) = pair(&linger)
        {
            options.set_linger(Linger {
                on: c_int::from_ne_bytes(on) != 0,
                seconds: c_int::from_ne_bytes(seconds),
            });
        }
        let mut name = [0; CONGESTION_NAME];
        if sys::getsockopt(listener, IPPROTO_TCP, libc::TCP_CONGESTION, &mut name).is_ok() {
            options.set_congestion(name);
        }
        Self(options)
    }
}

impl Options {
    /// Those of a socket that was just accepted: to be done to new options, or to those that were reset.
    pub(crate) fn inherit(&self, inherited: &Inherited) {
        let from = &inherited.0;
        for (to, from) in [(&self.bits, &from.bits), (&self.held, &from.held)] {
            for (to, from) in to.iter().zip(from) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        for (to, from) in self.words.iter().zip(&from.words) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.receive_timeout.copy(&from.receive_timeout);
        self.send_timeout.copy(&from.send_timeout);
        self.set_linger(from.linger());
        self.set_congestion(from.congestion());
    }
}

fn inherit_number(options: &Options, listener: BorrowedFd<'_>, domain: c_int, slot: Slot) {
    /// What TCP_MAXSEG says of a listener for which none was set.
    const USUAL_SEGMENT: c_int = 536;
    let row = slot.row();
    if !row.inherited
        || slot == TIMESTAMPS
        || (row.level == IPPROTO_IPV6 && domain != libc::AF_INET6)
    {
        return;
    }
    // An option that this kernel does not have is not set.
    let Ok(value) = sys::getsockopt_int(listener, row.level, row.name) else {
        return;
    };
    let locked = |bit: c_int| options.value(BUFFER_LOCKS).unwrap_or(0) & bit != 0;
    let was_set = match (slot, row.initial) {
        (SEND_BUFFER, _) => locked(SEND_LOCK),
        (RECEIVE_BUFFER, _) => locked(RECEIVE_LOCK),
        _ if (row.level, row.name) == (IPPROTO_TCP, libc::TCP_MAXSEG) => value != USUAL_SEGMENT,
        (_, Initial::Is(default)) => value != default,
        (_, Initial::Kernel) => true,
    };
    if was_set {
        options.hold(slot, value);
    }
}

fn timestamps(listener: BorrowedFd<'_>) -> Timestamps {
    // In this order: nanoseconds of the new form show as the new form too.
    [
        (SO_TIMESTAMPNS_NEW, Timestamps::NewNanos),
        (SO_TIMESTAMP_NEW, Timestamps::NewMicros),
        (libc::SO_TIMESTAMPNS, Timestamps::Nanos),
        (libc::SO_TIMESTAMP, Timestamps::Micros),
    ]
    .into_iter()
    .find(|(name, _)| matches!(sys::getsockopt_int(listener, SOL_SOCKET, *name), Ok(1)))
    .map_or(Timestamps::Off, |(_, timestamps)| timestamps)
}
