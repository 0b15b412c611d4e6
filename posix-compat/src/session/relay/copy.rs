//! What a relay does: copies between sessions and streams.
//!
//! Bytes go from the ring to the stream's socket and back without a buffer in between, and are given
//! free only when the other side has them. So the stream's own buffer and the ring hold back whoever
//! writes too much, in both directions.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use dmm_nsocket::session::endpoint::{Endpoint, Stop};
use dmm_nsocket::session::segment::ResetReason;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::super::pool::{SESSIONS, Using};
use super::Job;
use super::process::{JOBS, exit};

/// Bytes that go in one system call.
const PART: usize = 128 << 10;

/// Bytes of a record that did not come through the ring which are looked at in one go.
const STRAY: usize = 4096;

/// How long one looks again by oneself where nobody tells, in ms: at first, and at most.
const LOOK_MS: (u32, u32) = (8, 4000);

/// Where another process that has the session has the tokens.
const NAP_MS: u32 = 16;

/// Copies until all is over, and ends the process.
pub(super) fn run<'a>(jobs: impl Iterator<Item = &'a Job>, gate: Option<BorrowedFd<'_>>) -> ! {
    if let Some(gate) = gate
        && !opens(gate)
    {
        for job in jobs {
            if let Some(using) = SESSIONS.enter(job.handle) {
                let _ = using.endpoint().leave();
            }
        }
        exit()
    }
    let mut lines = [const { None }; JOBS];
    for (line, job) in lines.iter_mut().zip(jobs) {
        *line = Line::of(job);
    }
    let mut look = LOOK_MS.0;
    loop {
        for place in &mut lines {
            if let Some(line) = place
                && line.step()
            {
                place.take().into_iter().for_each(Line::end);
            }
        }
        if lines.iter().all(Option::is_none) {
            exit()
        }
        if sleep(&mut lines, look) {
            look = LOOK_MS.0;
        } else {
            look = (look * 2).min(LOOK_MS.1);
        }
    }
}

/// Waits for the gate; whether it opens.
fn opens(gate: BorrowedFd<'_>) -> bool {
    loop {
        match rustix::net::recv(gate, &mut [0u8; 1], RecvFlags::empty()) {
            Ok((_, 0)) => return true,
            Ok(_) => return false,
            Err(Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// Waits until something may have happened at one of the lines. Says whether something has.
fn sleep(lines: &mut [Option<Line<'_>>; JOBS], look: u32) -> bool {
    let mut set = [libc::pollfd {
        fd: -1,
        events: 0,
        revents: 0,
    }; 2 * JOBS];
    let mut timeout = None;
    for (line, set) in lines.iter().flatten().zip(set.chunks_exact_mut(2)) {
        let (stream, session) = line.wants();
        // That it has closed is seen once; then only what it has left is to be written.
        if !line.left || line.outbound == Way::Empty {
            set[0].fd = line.job.stream.as_raw_fd();
            set[0].events = stream;
        }
        if let Some(events) = session {
            set[1].fd = line.job.session.as_raw_fd();
            set[1].events = events;
        }
        let nap = match line.nap {
            Nap::None => continue,
            Nap::Short => NAP_MS,
            Nap::Growing => look,
        };
        timeout = Some(timeout.map_or(nap, |known: u32| known.min(nap)));
    }
    let timeout = timeout.map_or(-1, |ms| ms as c_int);
    // SAFETY: so many elements.
    let ready =
        unsafe { syscalls::syscall!(syscalls::Sysno::poll, set.as_mut_ptr(), set.len(), timeout) };
    if !ready.is_ok_and(|ready| ready > 0) {
        return false;
    }
    for (line, set) in lines.iter_mut().flatten().zip(set.chunks_exact(2)) {
        if set[0].revents & (libc::POLLHUP | libc::POLLERR) != 0 {
            line.left = true;
        }
        if set[1].fd >= 0 && set[1].revents != 0 {
            line.session_has_spoken();
        }
    }
    true
}

/// Whether a line is to be looked at without that a descriptor says so.
enum Nap {
    None,
    Short,
    Growing,
}

/// One session and its stream.
struct Line<'a> {
    job: &'a Job,
    using: Using,
    /// From the session to the program: whether that is over, whether the stream has no room.
    inbound: Way,
    /// From the program to the session.
    outbound: Way,
    /// The program has closed its end.
    left: bool,
    /// Bytes may be taken out of the session.
    may_read: bool,
    nap: Nap,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The source has nothing.
    Empty,
    /// The destination has no room.
    Full,
    Over,
}

impl<'a> Line<'a> {
    fn of(job: &'a Job) -> Option<Self> {
        Some(Self {
            job,
            using: SESSIONS.enter(job.handle)?,
            inbound: Way::Empty,
            outbound: Way::Empty,
            left: false,
            may_read: job.eager,
            nap: Nap::None,
        })
    }

    fn endpoint(&self) -> &'static Endpoint {
        self.using.endpoint()
    }

    /// Copies what can be copied. Says whether the line is over.
    fn step(&mut self) -> bool {
        self.nap = Nap::None;
        self.outbound();
        self.may_read |= self.endpoint().holders() <= 1;
        if self.left {
            self.inbound = Way::Over;
        } else if self.may_read {
            self.inbound();
        } else {
            self.nap = Nap::Growing;
        }
        self.inbound == Way::Over && self.outbound == Way::Over
    }

    fn outbound(&mut self) {
        let (session, stream) = (self.job.session.as_fd(), self.job.stream.as_fd());
        while self.outbound != Way::Over {
            let moved = self.endpoint().write_in_place(session, 1, |spans| {
                let len = spans[0].len.min(PART);
                // SAFETY: memory of the ring, lent for the call.
                let place = unsafe { std::slice::from_raw_parts_mut(spans[0].start.as_ptr(), len) };
                match rustix::net::recv(stream, place, RecvFlags::DONTWAIT) {
                    Ok((got, _)) => (got, Ok(got)),
                    Err(errno) => (0, Err(errno)),
                }
            });
            match moved {
                Ok(Ok(0)) => {
                    self.left |= has_left(stream);
                    if !self.left {
                        self.endpoint().finish(session);
                    }
                    self.outbound = Way::Over;
                }
                Ok(Ok(_)) => self.may_read = true,
                Ok(Err(Errno::INTR)) => {}
                Ok(Err(Errno::AGAIN)) => {
                    self.outbound = Way::Empty;
                    return;
                }
                Ok(Err(_)) => {
                    // It has closed with bytes unread.
                    self.endpoint().reset(session, ResetReason::Aborted);
                    self.left = true;
                    self.outbound = Way::Over;
                }
                Err(Stop::WouldBlock) => {
                    self.endpoint().announce();
                    if self.endpoint().awaited_tail(1).is_some() {
                        self.outbound = Way::Full;
                        return;
                    }
                }
                Err(Stop::Busy) => {
                    self.nap = Nap::Short;
                    return;
                }
                Err(_) => {
                    // Nobody reads it: the program's next write is to fail.
                    let _ = rustix::net::shutdown(stream, Shutdown::Read);
                    self.outbound = Way::Over;
                }
            }
        }
    }

    fn inbound(&mut self) {
        let (session, stream) = (self.job.session.as_fd(), self.job.stream.as_fd());
        while self.inbound != Way::Over {
            let moved = self.endpoint().read_in_place(session, |spans| {
                let len = spans[0].len.min(PART);
                // SAFETY: memory of the ring, lent for the call.
                let bytes = unsafe { std::slice::from_raw_parts(spans[0].start.as_ptr(), len) };
                match send(stream, bytes) {
                    Ok(sent) => (sent, Ok(sent)),
                    Err(errno) => (0, Err(errno)),
                }
            });
            let sent = match moved {
                Ok(sent) => sent,
                Err(Stop::WouldBlock) => {
                    self.endpoint().announce();
                    if self.endpoint().is_readable() {
                        continue;
                    }
                    self.inbound = Way::Empty;
                    return;
                }
                Err(Stop::Stray) => self.stray(),
                Err(Stop::Busy) => {
                    self.nap = Nap::Short;
                    return;
                }
                Err(Stop::End | Stop::Pipe) => {
                    let _ = rustix::net::shutdown(stream, Shutdown::Write);
                    self.inbound = Way::Over;
                    return;
                }
                Err(Stop::Error(_)) => {
                    let _ = rustix::net::shutdown(stream, Shutdown::Both);
                    self.inbound = Way::Over;
                    self.outbound = Way::Over;
                    return;
                }
            };
            match sent {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.inbound = Way::Full;
                    return;
                }
                Err(_) => {
                    // The program does not read any more. If it has gone, that is a reset, as bytes
                    // were left; else they are for nobody.
                    self.left |= has_left(stream);
                    self.inbound = Way::Over;
                }
            }
        }
    }

    /// Bytes that did not come through the ring: they are behind all that did.
    fn stray(&self) -> Result<usize, Errno> {
        use std::sync::atomic::Ordering;
        let (session, stream) = (self.job.session.as_fd(), self.job.stream.as_fd());
        let taken = &self.using.session().stray_taken;
        let mut record = [0; STRAY];
        let peek = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let Ok((len, _)) = rustix::net::recv(session, &mut record, peek) else {
            self.endpoint().drain(session);
            return Ok(0);
        };
        let skipped = taken.load(Ordering::Relaxed) as usize;
        let rest = record[..len].get(skipped..).unwrap_or_default();
        let sent = if rest.is_empty() {
            0
        } else {
            send(stream, rest)?
        };
        if sent == rest.len() {
            let _ = rustix::net::recv(session, &mut [0u8; 0], RecvFlags::DONTWAIT);
            taken.store(0, Ordering::Relaxed);
            self.endpoint().drain(session);
        } else {
            taken.store((skipped + sent) as u32, Ordering::Relaxed);
        }
        Ok(sent)
    }

    /// The session's socket has something: tokens, or the end.
    fn session_has_spoken(&mut self) {
        let found = self.endpoint().drain(self.job.session.as_fd());
        if !found.rung && !found.gone && !found.stray {
            // The tokens are somebody else's.
            self.nap = Nap::Short;
        }
    }

    /// What poll(2) is to wait for: at the stream, at the session's socket.
    fn wants(&self) -> (i16, Option<i16>) {
        let mut stream = 0;
        if self.outbound == Way::Empty {
            stream |= libc::POLLIN;
        }
        if self.inbound == Way::Full {
            stream |= libc::POLLOUT;
        }
        let awaited = self.may_read && self.inbound == Way::Empty || self.outbound == Way::Full;
        let quiet = !self.endpoint().is_gone()
            && !self.endpoint().is_never_quiet()
            && !matches!(self.nap, Nap::Short);
        (stream, (awaited && quiet).then_some(libc::POLLIN))
    }

    fn end(self) {
        let Self { job, using, .. } = self;
        drop(using);
        SESSIONS.unname_all(job.handle);
        for fd in [job.session.as_raw_fd(), job.stream.as_raw_fd()] {
            // SAFETY: nobody uses it any more; the process never drops the job itself.
            unsafe { rustix::io::close(fd) };
        }
    }
}

fn send(stream: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    rustix::net::send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}

/// Whether the other end is closed, not only finished.
fn has_left(stream: BorrowedFd<'_>) -> bool {
    let mut set = [PollFd::from_borrowed_fd(stream, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut set, Some(&now)).is_ok() && set[0].revents().contains(PollFlags::HUP)
}
