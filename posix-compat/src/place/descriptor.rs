//! A program's descriptor as the stacks see it while a socket is being placed.

use std::ffi::c_int;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use dmm_nsocket::Reason;
use dmm_nsocket::fresh::Fresh;
use dmm_nsocket::options::Recorded;
use dmm_nsocket::session::board::Board;
use dmm_nsocket::stack::{Note, Refusal, Session, Socket};
use dmm_nsocket::stats::{Counter, Socket as Record};
use dmm_nsocket::sys::{self, BlockedSignals};
use dmm_nsocket::table::{Entry, State};
use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags};
use rustix::net::{RecvFlags, Shutdown};
use syscalls::{Sysno, syscall};

use super::watches;
use crate::process::{self, FRESH, TABLE};
use crate::session::options::{Options, Refused};
use crate::session::pool::{Addresses, SESSIONS};
use crate::{session, track};

/// A fresh socket under one or several descriptors.
pub(crate) struct Descriptor {
    fd: c_int,
    slot: u32,
    fresh: &'static Fresh,
    applied: u16,
    note: Option<Note>,
    /// Sessions are to be served beside the kernel's connections, or (true) instead of them.
    serves: Option<bool>,
    /// The session that carries the socket now.
    session: Option<u32>,
}

impl Descriptor {
    pub(super) fn new(fd: c_int, entry: Entry, fresh: &'static Fresh) -> Self {
        Self {
            fd,
            slot: entry.slot(),
            fresh,
            applied: 0,
            note: None,
            serves: None,
            session: None,
        }
    }

    /// The listener takes sessions, too; or nothing else.
    pub(super) fn serves(&mut self, alone: bool) {
        self.serves = Some(alone);
    }

    /// Whether that was said.
    pub(super) const fn is_served(&self) -> bool {
        self.serves.is_some()
    }

    /// What a stack wanted the operator to see.
    pub(super) fn noted(&self) -> Option<Note> {
        self.note
    }

    /// How many options of the instance were set.
    pub(super) fn options_applied(&self) -> u16 {
        self.applied
    }

    /// The socket is bound to the kernel now, under all its names.
    pub(super) fn on_kernel(&self) {
        let mut listener = None;
        for (fd, entry) in self.names() {
            let placed = match (self.serves, listener) {
                (None, _) => entry.on_kernel(),
                (Some(alone), None) => self.as_listener(entry, alone),
                (Some(_), Some(handle)) if session::listener::name(handle) => {
                    entry.as_listener(handle)
                }
                (Some(_), Some(_)) => entry.on_kernel(),
            };
            let listens = placed.state() == State::Listener;
            if TABLE.exchange(fd, entry, placed) {
                FRESH.release(self.slot);
                listener = listener.or_else(|| listens.then(|| placed.slot()));
            } else if listens {
                session::listener::unname(placed.slot());
            }
        }
    }

    /// The entry of a socket that is about to listen, and to take sessions: with a rendezvous, if there
    /// can be one.
    fn as_listener(&self, entry: Entry, alone: bool) -> Entry {
        let domain = self.fresh.origin().domain;
        // The program's backlog is set when the socket listens.
        match session::listener::listen(self.fd, 1, domain, alone) {
            Some(handle) => {
                watches::add_rendezvous(self.fresh, handle);
                entry.as_listener(handle)
            }
            None => {
                track::count(Counter::RendezvousMissing);
                entry.on_kernel()
            }
        }
    }

    /// The session takes the socket's place under all its names.
    fn put_session(&mut self, session: Session) -> Result<(), Refusal> {
        let refused = |errno| Refusal::because(Reason::SystemError, errno);
        let Session {
            socket,
            endpoint,
            local,
            remote,
        } = session;
        let status = rustix::fs::fcntl_getfl(self.fd()).map_err(refused)?;
        rustix::fs::fcntl_setfl(&socket, status & OFlags::NONBLOCK).map_err(refused)?;
        let inode = track::inode(socket.as_raw_fd());
        let addresses = Addresses { local, remote };
        let domain = self.fresh.origin().domain;
        let Some(handle) = SESSIONS.keep(endpoint, addresses, domain, inode) else {
            return Err(Refusal::new(Reason::LimitReached));
        };
        let Some(using) = SESSIONS.enter(handle) else {
            return Err(Refusal::new(Reason::LimitReached));
        };
        let options = &using.session().options;
        self.fresh.with(|details| {
            for option in details.options.iter() {
                // Tried before: `fits_session`.
                let _ = options.replay(domain, option.level, option.name, option.value);
                track::count(Counter::OptionsReplayed);
            }
        });
        session::timeouts_follow(&using, socket.as_raw_fd());
        session::control::linger_follows(&using);
        session::control::urgent_follows(&using);
        let mut replaced = 0;
        let signals = BlockedSignals::new();
        let held = self.fresh.hold(process::pid());
        let identity = self.fresh.identity();
        for (name, entry) in self.names() {
            if track::inode(name) != identity {
                // Closed out of our sight, and another file by now.
                track::forget_held(name);
                continue;
            }
            match put_in_place(&socket, name) {
                Ok(()) => replaced += 1,
                Err(errno) if replaced == 0 => {
                    SESSIONS.unname(handle);
                    return Err(refused(errno));
                }
                // One of several names could not be changed: from now on it is another socket.
                Err(_) => {
                    track::forget_held(name);
                    continue;
                }
            }
            if replaced > 1 {
                SESSIONS.name(handle);
            }
            if TABLE.exchange(name, entry, entry.on_session(handle)) {
                FRESH.release(self.slot);
            }
            if let Some(record) = track::record(name) {
                record.replaced(inode, libc::IPPROTO_TCP);
            }
        }
        drop((held, signals));
        if replaced == 0 {
            SESSIONS.unname(handle);
            return Err(Refusal::new(Reason::SharedDescriptor));
        }
        watches::renew_session(self.fresh, handle);
        self.session = Some(handle);
        Ok(())
    }

    /// Calls `f` with the statistics record of every descriptor that names the socket.
    pub(super) fn each_record(&self, f: impl Fn(Record<'static>)) {
        let f = |fd| {
            if let Some(record) = track::record(fd) {
                f(record);
            }
        };
        match self.session {
            Some(handle) => {
                let named = |entry: Entry| entry.is_session() && entry.slot() == handle;
                let names = TABLE.managed(0, u32::MAX);
                names.for_each(|(fd, entry)| {
                    if named(entry) {
                        f(fd);
                    }
                });
            }
            None => self.names().for_each(|(fd, _)| f(fd)),
        }
    }

    /// The descriptors that name the socket.
    fn names(&self) -> impl Iterator<Item = (c_int, Entry)> + use<> {
        let (own, slot) = (self.fd, self.slot);
        let alone = self.fresh.is_named_once();
        let range = if alone {
            (own as u32, own as u32)
        } else {
            (0, u32::MAX)
        };
        TABLE
            .managed(range.0, range.1)
            .filter(move |(_, entry)| entry.state() == State::Fresh && entry.slot() == slot)
    }

    /// Status flags and owner of the old socket, on the new one.
    fn copy_status(&self, new: &OwnedFd) -> Result<(), Errno> {
        let flags = rustix::fs::fcntl_getfl(self.fd())?;
        if flags.intersects(OFlags::NONBLOCK | FASYNC) {
            rustix::fs::fcntl_setfl(new, flags & (OFlags::NONBLOCK | FASYNC))?;
        }
        let mut owner = [0i32; 2];
        fcntl(self.fd, F_GETOWN_EX, owner.as_mut_ptr() as usize)?;
        if owner[1] != 0 {
            fcntl(new.as_raw_fd(), F_SETOWN_EX, owner.as_ptr() as usize)?;
        }
        let signal = fcntl(self.fd, F_GETSIG, 0)?;
        if signal != 0 {
            fcntl(new.as_raw_fd(), F_SETSIG, signal)?;
        }
        Ok(())
    }

    /// What shutdown(2) has left on the old socket: it says ENOTCONN, and takes effect all the same.
    fn copy_shutdown(&self, new: &OwnedFd) {
        let how = match self.fresh.with(|details| details.shut) {
            Some(1) => Shutdown::Read,
            Some(2) => Shutdown::Write,
            Some(3) => Shutdown::Both,
            _ => return,
        };
        let _ = rustix::net::shutdown(new, how);
    }
}

/// The local address of a socket, if it is bound. The kernel is asked, as it binds a socket by itself
/// too (at a send without a destination).
pub(super) fn bound_address(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    let address = rustix::net::getsockname(fd).ok()?;
    let address = SocketAddr::try_from(address).ok()?;
    (address.port() != 0 || !address.ip().is_unspecified()).then_some(address)
}

/// Whether the socket has received something already, which would be lost with it.
fn has_data(fd: BorrowedFd<'_>) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    rustix::net::recv(fd, &mut [0u8; 1], flags).is_ok_and(|(_, len)| len > 0)
}

/// O_ASYNC, which rustix does not name.
const FASYNC: OFlags = OFlags::from_bits_retain(libc::O_ASYNC as u32);

impl Socket for Descriptor {
    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: a non-negative number (it has an entry in the table) that is only borrowed for
        // system calls; one that the program closes meanwhile is refused by them.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    fn recorded(
        &self,
        each: &mut dyn FnMut(Recorded<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.fresh
            .with(|details| {
                for option in details.options.iter() {
                    each(option)?;
                    track::count(Counter::OptionsReplayed);
                }
                Ok(())
            })
            .unwrap_or(Err(Refusal::new(Reason::UnreplayableOption)))
    }

    fn local(&self) -> Option<SocketAddr> {
        bound_address(self.fd())
    }

    fn placement(&self) -> u64 {
        self.fresh.with(|details| details.placement).unwrap_or(0)
    }

    fn pinned(&self) -> Option<Reason> {
        self.fresh
            .pinned(process::pid(), process::forks())
            .or_else(|| {
                // One that was connected or made to listen out of our sight is not fresh any more.
                let unrepeatable = has_data(self.fd())
                    || rustix::net::getpeername(self.fd()).is_ok()
                    || sys::getsockopt_int(self.fd(), libc::SOL_SOCKET, libc::SO_ACCEPTCONN)
                        == Ok(1)
                    || watches::any_lost(self.fresh, self.slot);
                unrepeatable.then_some(Reason::UnreplayableOption)
            })
    }

    fn replace(&mut self, new: OwnedFd, placement: u64) -> Result<(), Refusal> {
        let refused = |errno| Refusal::because(Reason::SystemError, errno);
        self.copy_status(&new).map_err(refused)?;
        let inode = track::inode(new.as_raw_fd());
        let protocol = sys::getsockopt_int(&new, libc::SOL_SOCKET, libc::SO_PROTOCOL).unwrap_or(0);
        self.copy_shutdown(&new);
        let disguised =
            protocol == libc::IPPROTO_MPTCP && self.fresh.origin().protocol != libc::IPPROTO_MPTCP;
        let signals = BlockedSignals::new();
        let held = self.fresh.hold(process::pid());
        let identity = self.fresh.identity();
        let mut replaced = 0;
        for (name, _) in self.names() {
            if track::inode(name) != identity {
                // Closed out of our sight, and another file by now.
                track::forget_held(name);
                continue;
            }
            match put_in_place(&new, name) {
                Ok(()) => replaced += 1,
                Err(errno) if replaced == 0 => return Err(refused(errno)),
                // One of several names could not be changed: from now on it is another socket.
                Err(_) => track::forget_held(name),
            }
            TABLE.set_flag(name, Entry::DISGUISED, disguised);
            if let Some(record) = track::record(name) {
                record.replaced(inode, protocol);
            }
        }
        if replaced == 0 {
            return Err(Refusal::new(Reason::SharedDescriptor));
        }
        self.fresh.set_identity(inode);
        drop((held, signals));
        self.fresh.with(|details| details.placement = placement);
        watches::renew(self.fresh);
        Ok(())
    }

    fn board(&self) -> Option<&Board> {
        session::own_board()
    }

    fn fits_session(&self) -> Result<(), Refusal> {
        let unfit = Refusal::new(Reason::UnsupportedOption);
        let status = rustix::fs::fcntl_getfl(self.fd())
            .map_err(|errno| Refusal::because(Reason::SystemError, errno))?;
        if status.intersects(FASYNC) {
            return Err(unfit);
        }
        let domain = self.fresh.origin().domain;
        let options = Options::new();
        self.fresh
            .with(|details| {
                if details.shut != 0 {
                    return Err(unfit);
                }
                details.options.iter().try_for_each(|option| {
                    match options.replay(domain, option.level, option.name, option.value) {
                        Err(Refused::Unsupported(_)) => Err(unfit),
                        Ok(()) | Err(Refused::Errno(_)) => Ok(()),
                    }
                })
            })
            .unwrap_or(Err(Refusal::new(Reason::UnreplayableOption)))
    }

    fn carry(&mut self, session: Session) -> Result<(), Refusal> {
        self.put_session(session)
    }

    fn applied(&mut self, options: u16) {
        self.applied = options;
    }

    fn note(&mut self, note: Note) {
        self.note.get_or_insert(note);
    }
}

/// dup3(2) of the new socket over a name of the old one, with that name's close-on-exec flag.
fn put_in_place(new: &OwnedFd, name: c_int) -> Result<(), Errno> {
    // SAFETY: borrowed for one call; see `fd`.
    let old = unsafe { BorrowedFd::borrow_raw(name) };
    let flags = if rustix::io::fcntl_getfd(old)?.contains(FdFlags::CLOEXEC) {
        libc::O_CLOEXEC
    } else {
        0
    };
    loop {
        // SAFETY: the target is a descriptor of the program's that stands for this socket.
        let result = unsafe { syscall!(Sysno::dup3, new.as_raw_fd(), name, flags) };
        match result {
            Ok(_) => return Ok(()),
            // Another thread is just opening a file under this number (dup(2)).
            Err(syscalls::Errno::EBUSY) => {}
            Err(errno) => return Err(sys::errno(errno)),
        }
    }
}

fn fcntl(fd: c_int, command: c_int, argument: usize) -> Result<usize, Errno> {
    // SAFETY: the commands used here take a number, or a pointer to a live pair of integers.
    unsafe { syscall!(Sysno::fcntl, fd, command, argument) }.map_err(sys::errno)
}

/// fcntl(2) commands that the libc crate does not name.
const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;
const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;
