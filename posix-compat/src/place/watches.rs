//! The epoll registrations of a socket whose kernel object is replaced.
//!
//! Closing the old object removes it from every epoll instance, so the new one is registered again.
//! One thing cannot be made again from outside: a one-shot registration that has fired and waits to be
//! armed. The kernel tells of those in /proc/self/fdinfo, and such a socket is not replaced.

use std::ffi::{CStr, c_int};

use dmm_nsocket::fresh::{Fresh, MAX_WATCHES, Watch};
use dmm_nsocket::table::State;
use rustix::fs::{CWD, Mode, OFlags};
use syscalls::{Sysno, syscall};

use crate::process::TABLE;
use crate::session;

const NONE: Watch = Watch {
    fd: -1,
    generation: 0,
    events: 0,
    data: 0,
};

/// Calls `f` with each registration, and a descriptor of its epoll instance. An instance that this
/// process has closed is gone: a socket that another process shares is not replaced.
fn each(fresh: &Fresh, mut f: impl FnMut(c_int, &Watch)) {
    let mut watches = [NONE; MAX_WATCHES];
    let count = fresh.with(|details| {
        let now = details.watches();
        watches[..now.len()].copy_from_slice(now);
        now.len()
    });
    for watch in &watches[..count.unwrap_or(0)] {
        let instance = TABLE
            .managed(0, u32::MAX)
            .find(|(_, entry)| entry.state() == State::Epoll && entry.slot() == watch.generation);
        if let Some((epoll, _)) = instance {
            f(epoll, watch);
        }
    }
}

/// Registers the new socket wherever the old one was.
pub(super) fn renew(fresh: &Fresh) {
    each(fresh, |epoll, watch| {
        let mut event = libc::epoll_event {
            events: watch.events,
            u64: watch.data,
        };
        // SAFETY: the event is read during the call. An instance that is gone refuses it.
        let _ = unsafe {
            syscall!(
                Sysno::epoll_ctl,
                epoll,
                libc::EPOLL_CTL_ADD,
                watch.fd,
                &raw mut event
            )
        };
    });
}

/// Registers the session that has taken the socket's place wherever that was.
pub(super) fn renew_session(fresh: &Fresh, handle: u32) {
    each(fresh, |epoll, watch| {
        let event = libc::epoll_event {
            events: watch.events,
            u64: watch.data,
        };
        let before = crate::errno::last();
        session::epoll::control(
            epoll,
            libc::EPOLL_CTL_ADD,
            watch.fd,
            &raw const event,
            handle,
        );
        crate::errno::set(before);
    });
}

/// Registers the rendezvous of a socket that is about to listen wherever the socket is.
pub(super) fn add_rendezvous(fresh: &Fresh, handle: u32) {
    each(fresh, |epoll, watch| {
        let event = libc::epoll_event {
            events: watch.events,
            u64: watch.data,
        };
        session::listener::control(
            epoll,
            libc::EPOLL_CTL_ADD,
            watch.fd,
            &raw const event,
            handle,
        );
    });
}

/// Whether there is a registration that cannot be made again: one under a number that has been closed
/// since (it lives on as long as a duplicate does), or a one-shot registration that has fired.
pub(super) fn any_lost(fresh: &Fresh, slot: u32) -> bool {
    let mut lost = false;
    each(fresh, |epoll, watch| {
        let name = TABLE.load(watch.fd);
        let closed = name.state() != State::Fresh || name.slot() != slot;
        let one_shot = watch.events & libc::EPOLLONESHOT as u32 != 0;
        lost |= closed || (one_shot && is_spent(epoll, watch.fd));
    });
    lost
}

/// Looks for the line `tfd: FD events: BITS` (proc(5)): without any bit below the private ones the
/// registration is disarmed. Where there is no /proc the socket is taken for armed.
fn is_spent(epoll: c_int, fd: c_int) -> bool {
    let mut path = [0; 48];
    let Some(path) = fdinfo(&mut path, epoll) else {
        return false;
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else {
        return false;
    };
    let mut line = [0; 128];
    let mut len = 0;
    let mut buffer = [0; 1024];
    loop {
        let Ok(got @ 1..) = rustix::io::read(&file, &mut buffer) else {
            return false;
        };
        for &byte in &buffer[..got] {
            if byte != b'\n' {
                if let Some(place) = line.get_mut(len) {
                    *place = byte;
                    len += 1;
                }
                continue;
            }
            if let Some((number, events)) = registration(&line[..len])
                && number == fd
            {
                return events & PUBLIC == 0;
            }
            len = 0;
        }
    }
}

/// All event bits but EPOLLEXCLUSIVE, EPOLLWAKEUP, EPOLLONESHOT and EPOLLET.
const PUBLIC: u32 = 0x0fff_ffff;

fn registration(line: &[u8]) -> Option<(c_int, u32)> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    if words.next()? != "tfd:" {
        return None;
    }
    let fd = words.next()?.parse().ok()?;
    (words.next()? == "events:").then_some(())?;
    Some((fd, u32::from_str_radix(words.next()?, 16).ok()?))
}

fn fdinfo(buffer: &mut [u8; 48], fd: c_int) -> Option<&CStr> {
    use std::io::Write;
    let mut rest = &mut buffer[..];
    // Formatting a number into a slice does not allocate.
    write!(rest, "/proc/self/fdinfo/{fd}\0").ok()?;
    CStr::from_bytes_until_nul(buffer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_are_read() {
        let line = b"tfd:       10 events: c0000005 data: a  pos:0 ino:61ef sdev:7";
        assert_eq!(registration(line), Some((10, 0xc000_0005)));
        assert_eq!(registration(b"pos:\t0"), None);
        assert_eq!(registration(b"tfd: x events: 1"), None);
    }

    #[test]
    fn a_one_shot_registration_that_has_fired_is_found() {
        use rustix::event::epoll;
        let instance = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::add(&instance, &read, epoll::EventData::new_u64(1), flags).unwrap();
        use std::os::fd::AsRawFd;
        let spent = || is_spent(instance.as_raw_fd(), read.as_raw_fd());
        assert!(!spent());
        rustix::io::write(&write, b"x").unwrap();
        let mut events = Vec::with_capacity(1);
        epoll::wait(&instance, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        assert!(spent());
    }
}
