//! Sessions that another program gets: by exec, or by posix_spawn(3).
//!
//! Of the sessions that the new program will find open (those without FD_CLOEXEC), each gets the end of
//! a stream in its place, under all its numbers. The relay waits at a *gate*, a socket that closes on
//! exec: so it begins when the new program has, and if the exec fails everything is put back.
//!
//! A child of vfork runs in its parent's memory, with descriptors of its own. What it duplicates there
//! is noted, and looked at when it goes on to its program. posix_spawn(3) does all of that inside libc:
//! there the list of what it is to do with descriptors is rewritten.

use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};

use dmm_nsocket::hidden::Hidden;
use dmm_nsocket::stats::Counter;
use dmm_nsocket::table::State;
use libc::posix_spawn_file_actions_t;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use super::super::pool::{SESSIONS, Using};
use super::super::{fork, listener};
use super::process::{self, JOBS};
use super::{Job, prepare, put};
use crate::process::{TABLE, is_borrowed};
use crate::session::wait::borrow;
use crate::{errno, track};

/// Numbers that one session may have in the new program.
const NAMES: usize = 8;

/// Numbers that children of vfork duplicate sessions to; the last ones are kept.
const NOTED: usize = 16;

/// Actions of a list for posix_spawn(3), with ours.
const ACTIONS: usize = 128;

thread_local! {
    static DUPLICATES: Cell<([c_int; NOTED], usize)> = const { Cell::new(([-1; NOTED], 0)) };
}

/// In a child of vfork: `new` names what `old` does.
pub(crate) fn borrowed_duplicate(old: c_int, new: c_int) {
    let (mut noted, count) = DUPLICATES.get();
    if TABLE.load(old).is_session() || noted.contains(&old) {
        noted[count % NOTED] = new;
        DUPLICATES.set((noted, count + 1));
    }
}

/// Runs an exec, which returns only if it fails.
pub(crate) fn across(call: impl FnOnce() -> c_int) -> c_int {
    let left = !is_borrowed();
    listener::before_exec();
    if SESSIONS.count() == 0 {
        return call();
    }
    let crossing = Crossing::begin();
    if left {
        fork::leaving();
    }
    let result = call();
    let code = errno::last();
    if left {
        fork::staying();
    }
    crossing.undo();
    errno::set(code);
    result
}

/// Runs a posix_spawn(3) with these actions, or with a list that says the same of streams in the place
/// of sessions.
pub(crate) fn spawn(
    actions: *const posix_spawn_file_actions_t,
    call: impl FnOnce(*const posix_spawn_file_actions_t) -> c_int,
) -> c_int {
    if SESSIONS.count() == 0 || is_borrowed() {
        return call(actions);
    }
    // SAFETY: null, or a list that the program has made by libc's functions.
    let given = unsafe { Actions::of(actions) };
    let mut rewritten = Rewritten::new();
    if !rewritten.rewrite(given) {
        track::count(Counter::SessionsUnsupported);
        return call(actions);
    }
    if rewritten.crossing.is_empty() {
        return call(actions);
    }
    if rewritten.crossing.open_gate().is_err() {
        track::count(Counter::SessionsUnsupported);
        return call(actions);
    }
    let list = Actions {
        allocated: ACTIONS as c_int,
        used: rewritten.count as c_int,
        actions: rewritten.actions.as_ptr(),
        padding: [0; 16],
    };
    let result = call((&raw const list).cast());
    if result != 0 {
        rewritten.crossing.shut_gate();
    }
    result
}

/// The sessions of one exec.
struct Crossing {
    passed: [Option<Passed>; JOBS],
    gate: Option<Hidden>,
}

/// A session that the new program gets.
struct Passed {
    job: Job,
    /// The program's end.
    program: Hidden,
    names: [c_int; NAMES],
    count: usize,
}

impl Crossing {
    const fn new() -> Self {
        Self {
            passed: [const { None }; JOBS],
            gate: None,
        }
    }

    fn begin() -> Self {
        let mut crossing = Self::new();
        for (fd, entry) in TABLE.managed(0, u32::MAX) {
            if entry.is_session()
                && survives(fd)
                && let Some(using) = SESSIONS.enter(entry.slot())
                && is_of(fd, &using)
            {
                crossing.pass(&using, fd, fd);
            }
        }
        if is_borrowed() {
            let (noted, _) = DUPLICATES.get();
            for fd in noted {
                if fd >= 0
                    && survives(fd)
                    && let Some(using) = SESSIONS.each().find(|using| is_of(fd, using))
                {
                    crossing.pass(&using, fd, fd);
                }
            }
        }
        if crossing.is_empty() {
            return crossing;
        }
        if crossing.open_gate().is_err() {
            // No more processes can be made, say. The new program gets none of them.
            track::count(Counter::SessionsUnsupported);
            for passed in crossing.passed.iter().flatten() {
                for &name in passed.names() {
                    let _ = rustix::io::fcntl_setfd(borrow(name), FdFlags::CLOEXEC);
                }
            }
            return crossing;
        }
        for passed in crossing.passed.iter().flatten() {
            for &name in passed.names() {
                let _ = put(&passed.program, name, FdFlags::empty());
            }
        }
        crossing
    }

    fn is_empty(&self) -> bool {
        self.passed.iter().all(Option::is_none)
    }

    /// The new program gets the session that is under `from` here, as `fd`.
    fn pass(&mut self, using: &Using, from: c_int, fd: c_int) -> Option<&mut Passed> {
        let of_same = |passed: &Option<Passed>| {
            passed
                .as_ref()
                .is_none_or(|passed| passed.job.handle == using.handle())
        };
        let place = self.passed.iter_mut().find(|passed| of_same(passed));
        let passed = place.and_then(|place| {
            if place.is_none() {
                let (job, program) = prepare(using, from, false).ok()?;
                *place = Some(Passed {
                    job,
                    program,
                    names: [-1; NAMES],
                    count: 0,
                });
            }
            place.as_mut()
        });
        let Some(passed) = passed.filter(|passed| passed.count < NAMES) else {
            // Too many: better none than one whose bytes are lost.
            track::count(Counter::SessionsUnsupported);
            if from == fd {
                let _ = rustix::io::fcntl_setfd(borrow(fd), FdFlags::CLOEXEC);
            }
            return None;
        };
        if !passed.names().contains(&fd) {
            passed.names[passed.count] = fd;
            passed.count += 1;
        }
        passed.job.eager |= fd <= libc::STDERR_FILENO;
        Some(passed)
    }

    /// Starts the relay, which waits for the new program.
    fn open_gate(&mut self) -> Result<(), Errno> {
        let (gate, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let (gate, theirs) = (Hidden::new(gate), Hidden::new(theirs));
        let jobs = self.passed.iter().flatten().map(|passed| &passed.job);
        process::start(jobs.clone(), Some(theirs.as_fd()))?;
        for _ in jobs {
            track::count(Counter::SessionsRelayed);
        }
        self.gate = Some(gate);
        Ok(())
    }

    fn shut_gate(&self) {
        if let Some(gate) = &self.gate {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = rustix::net::send(gate, b"x", flags);
        }
    }

    /// The exec has failed: everything is as it was.
    fn undo(self) {
        self.shut_gate();
        for passed in self.passed.iter().flatten() {
            for &name in passed.names() {
                if self.gate.is_some() {
                    let _ = put(&passed.job.session, name, FdFlags::empty());
                } else {
                    let _ = rustix::io::fcntl_setfd(borrow(name), FdFlags::empty());
                }
            }
        }
    }
}

impl Passed {
    fn names(&self) -> &[c_int] {
        &self.names[..self.count]
    }
}

/// Whether a number stays open in the new program.
fn survives(fd: c_int) -> bool {
    rustix::io::fcntl_getfd(borrow(fd)).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
}

/// Whether what is under a number is that session.
fn is_of(fd: c_int, using: &Using) -> bool {
    use std::sync::atomic::Ordering;
    let inode = using.session().inode.load(Ordering::Relaxed);
    inode != 0 && track::inode(fd) == inode
}

/// glibc's posix_spawn_file_actions_t (posix/spawn.h): opaque to programs, and part of its ABI, as
/// programs hold it and hand it to whatever version of libc they run with.
#[repr(C)]
struct Actions {
    allocated: c_int,
    used: c_int,
    actions: *const Action,
    padding: [c_int; 16],
}

const _: () = assert!(size_of::<Actions>() == size_of::<posix_spawn_file_actions_t>());

/// One action (posix/spawn_int.h): a tag, and what belongs to it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Action {
    tag: c_int,
    padding: c_int,
    /// The number that is closed, opened or duplicated; the one that it is duplicated to.
    fd: [c_int; 2],
    /// The rest of other actions.
    rest: [u64; 2],
}

const CLOSE: c_int = 0;
const DUP2: c_int = 1;
const OPEN: c_int = 2;
const CLOSE_FROM: c_int = 5;

impl Actions {
    /// The actions of a program's list.
    ///
    /// # Safety
    ///
    /// Null, or made by libc's functions.
    unsafe fn of<'a>(list: *const posix_spawn_file_actions_t) -> &'a [Action] {
        // SAFETY: by the caller's word.
        match unsafe { list.cast::<Self>().as_ref() } {
            Some(list) if !list.actions.is_null() && list.used > 0 => {
                // SAFETY: libc keeps so many there.
                unsafe { std::slice::from_raw_parts(list.actions, list.used as usize) }
            }
            _ => &[],
        }
    }
}

impl Action {
    const fn dup2(from: c_int, to: c_int) -> Self {
        Self {
            tag: DUP2,
            padding: 0,
            fd: [from, to],
            rest: [0; 2],
        }
    }
}

/// A list of actions, and the sessions in it.
struct Rewritten {
    actions: [Action; ACTIONS],
    count: usize,
    crossing: Crossing,
}

impl Rewritten {
    const fn new() -> Self {
        Self {
            actions: [Action::dup2(0, 0); ACTIONS],
            count: 0,
            crossing: Crossing::new(),
        }
    }

    fn push(&mut self, action: Action) -> bool {
        let Some(place) = self.actions.get_mut(self.count) else {
            return false;
        };
        *place = action;
        self.count += 1;
        true
    }

    /// Takes the actions over. First each session that survives is replaced under its own number; one
    /// that would be closed is a stream where it is duplicated. False if there are too many.
    fn rewrite(&mut self, given: &[Action]) -> bool {
        for (fd, entry) in TABLE.managed(0, u32::MAX) {
            if entry.state() == State::Session && survives(fd) && !self.replace(fd, fd) {
                return false;
            }
        }
        for (i, action) in given.iter().enumerate() {
            let [from, to] = action.fd;
            let is_session = action.tag == DUP2
                && TABLE.load(from).is_session()
                && !survives(from)
                && !given[..i].iter().any(|before| before.takes(from));
            let taken = if is_session {
                self.replace(from, to)
            } else {
                self.push(*action)
            };
            if !taken {
                return false;
            }
        }
        true
    }

    fn replace(&mut self, fd: c_int, to: c_int) -> bool {
        let Some(using) = SESSIONS.enter(TABLE.load(fd).slot()) else {
            return true;
        };
        let Some(passed) = self.crossing.pass(&using, fd, to) else {
            return false;
        };
        let program = passed.program.as_raw_fd();
        self.push(Action::dup2(program, to))
    }
}

impl Action {
    /// Whether it takes a number from what was there.
    const fn takes(&self, fd: c_int) -> bool {
        match self.tag {
            CLOSE | OPEN => self.fd[0] == fd,
            DUP2 => self.fd[1] == fd,
            CLOSE_FROM => fd >= self.fd[0],
            _ => false,
        }
    }
}
