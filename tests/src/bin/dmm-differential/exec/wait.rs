//! Readiness: epoll, poll and select.

use std::mem;
use std::ptr::{null, null_mut};

use libc::{c_int, epoll_event, pollfd, sigset_t, timespec};

use super::{Executor, elsewhere::guarded_if};
use crate::op::{EpollBy, Op, Slot};
use crate::sys::{call, epoll_pwait2};

impl Executor<'_> {
    pub(super) fn wait(&mut self, op: &Op) {
        match *op {
            Op::EpollCreate { dst, flags } => {
                let fd = call!(libc::epoll_create1, flags);
                self.store(dst, fd);
            }
            Op::EpollCtl { ep, op, s, events } => {
                let events = match self.setting.no_edges {
                    true => events & !(libc::EPOLLET as u32),
                    false => events,
                };
                // The slot, not the number, tells the registrations of one number apart.
                let mut event = epoll_event {
                    events,
                    u64: s as u64 + 100,
                };
                let result = call!(libc::epoll_ctl, self.fd(ep), op, self.fd(s), &raw mut event);
                self.result(result);
            }
            Op::EpollWait {
                ep,
                max,
                timeout,
                how,
            } => self.epoll_wait(self.fd(ep), max, timeout, how),
            Op::Poll {
                ref set,
                timeout,
                masked,
            } => self.poll(set, timeout, masked),
            Op::Select {
                ref read,
                ref write,
                ref except,
                millis,
                masked,
            } => {
                self.select([read, write, except], millis, masked);
            }
            _ => {}
        }
    }

    fn epoll_wait(&mut self, ep: c_int, max: c_int, timeout: c_int, how: EpollBy) {
        let mut events = [epoll_event { events: 0, u64: 0 }; 32];
        let max = max.min(32);
        let place = events.as_mut_ptr();
        let mask = mask();
        let time = time(timeout);
        let time = if timeout < 0 { null() } else { &raw const time };
        let count = guarded_if(timeout < 0, || match how {
            EpollBy::Wait => call!(libc::epoll_wait, ep, place, max, timeout),
            EpollBy::Pwait => call!(libc::epoll_pwait, ep, place, max, timeout, &raw const mask),
            EpollBy::Pwait2 => call!(epoll_pwait2, ep, place, max, time, &raw const mask),
        });
        self.result(count);
        let mut ready: Vec<(u64, u32)> = events[..count.max(0) as usize]
            .iter()
            .map(|event| (event.u64, event.events))
            .collect();
        // The order among those that are ready is nobody's promise.
        ready.sort_unstable();
        for (slot, events) in ready {
            self.note(format_args!(" {}:{events:#x}", slot.wrapping_sub(100)));
        }
    }

    fn poll(&mut self, set: &[(Slot, i16)], timeout: c_int, masked: bool) {
        let mut fds: Vec<pollfd> = set
            .iter()
            .map(|&(slot, events)| pollfd {
                fd: self.fd(slot),
                events,
                revents: 0x55,
            })
            .collect();
        let (place, count) = (fds.as_mut_ptr(), fds.len() as u64);
        let mask = mask();
        let time = time(timeout);
        let time = if timeout < 0 { null() } else { &raw const time };
        let ready = guarded_if(timeout < 0, || match masked {
            false => call!(libc::poll, place, count, timeout),
            true => call!(libc::ppoll, place, count, time, &raw const mask),
        });
        self.result(ready);
        for fd in fds {
            self.note(format_args!(" {}:{:#x}", fd.fd, fd.revents));
        }
    }

    fn select(&mut self, slots: [&Vec<Slot>; 3], millis: i64, masked: bool) {
        let mut sets = [Set::default(); 3];
        let mut top = 0;
        for (set, slots) in sets.iter_mut().zip(slots) {
            for fd in slots
                .iter()
                .map(|&slot| self.fd(slot))
                .filter(|fd| (0..1024).contains(fd))
            {
                set.0[fd as usize / 64] |= 1 << (fd % 64);
                top = top.max(fd + 1);
            }
        }
        let places = sets
            .each_mut()
            .map(|set| (&raw mut *set).cast::<libc::fd_set>());
        let [read, write, except] = places;
        let mask = mask();
        let exact = time(millis as c_int);
        let mut coarse = libc::timeval {
            tv_sec: millis / 1000,
            tv_usec: millis % 1000 * 1000,
        };
        let ready = guarded_if(millis < 0, || match (masked, millis < 0) {
            (true, false) => {
                call!(
                    libc::pselect,
                    top,
                    read,
                    write,
                    except,
                    &raw const exact,
                    &raw const mask
                )
            }
            (true, true) => {
                call!(
                    libc::pselect,
                    top,
                    read,
                    write,
                    except,
                    null(),
                    &raw const mask
                )
            }
            (false, false) => call!(libc::select, top, read, write, except, &raw mut coarse),
            (false, true) => call!(libc::select, top, read, write, except, null_mut()),
        });
        self.result(ready);
        for set in sets {
            let fds: Vec<usize> = (0..1024)
                .filter(|fd| set.0[fd / 64] >> (fd % 64) & 1 == 1)
                .collect();
            self.note(format_args!(" {fds:?}"));
        }
    }
}

/// An `fd_set` whose bits can be read.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Set([u64; 16]);

fn time(millis: c_int) -> timespec {
    let millis = i64::from(millis);
    timespec {
        tv_sec: millis / 1000,
        tv_nsec: millis % 1000 * 1_000_000,
    }
}

/// A mask that blocks something that nobody sends, so that it changes nothing.
fn mask() -> sigset_t {
    // SAFETY: all-zero is a valid place for a set, which sigemptyset then makes.
    let mut set: sigset_t = unsafe { mem::zeroed() };
    call!(libc::sigemptyset, &raw mut set);
    call!(libc::sigaddset, &raw mut set, libc::SIGUSR1);
    set
}
