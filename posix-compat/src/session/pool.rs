//! The sessions of this process: a pool of places that are never unmapped, so that a stale handle
//! finds nothing rather than somebody else's memory.
//!
//! A place is kept by *users*: one for the descriptors that name the session, one for each call that
//! is under way. Whoever is the last to leave ends the session. So a thread that waits in a read keeps
//! it alive while another one closes its descriptor, as the kernel keeps a socket.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use dmm_nsocket::session::endpoint::Endpoint;
use dmm_nsocket::session::waiter::Spin;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::options::Options;

/// The process's sessions.
pub(crate) static SESSIONS: Sessions = Sessions::new();

const CHUNK: usize = 64;
const CHUNKS: usize = 1 << 11;
const INDEX_BITS: u32 = 17;

const _: () = assert!(CHUNK * CHUNKS == 1 << INDEX_BITS);

/// One session, or a free place for one. All zero is a free one.
pub(crate) struct Session {
    /// Descriptors together, and calls.
    users: AtomicU32,
    /// Changes whenever the place is taken anew.
    generation: AtomicU32,
    /// Descriptors of this process that name it.
    names: AtomicU32,
    /// Number plus one of the next free place.
    next: AtomicU32,
    /// Waiters in calls on this session alone.
    pub(super) waiting: AtomicU32,
    /// SO_LINGER says that closing resets.
    pub(super) abort: AtomicBool,
    /// A non-blocking connect has not been told that it has succeeded.
    pub(super) connecting: AtomicBool,
    /// AF_INET or AF_INET6.
    pub(super) domain: AtomicI32,
    /// Of the socket, to tell whether a descriptor still is it.
    pub(super) inode: AtomicU64,
    /// How it is registered in epoll instances: see `epoll`.
    pub(super) registered: AtomicU64,
    /// How often in a row a read has found nothing, to look at the kernel now and then.
    pub(super) dry: AtomicU32,
    /// Bytes of the first stray record that have been read.
    pub(super) stray_taken: AtomicU32,
    /// The number of the batch that its words are shared in after a fork, plus one.
    pub(super) batch: AtomicU32,
    pub(super) spin: Relearned,
    pub(crate) options: Options,
    /// Written before the session is published.
    addresses: UnsafeCell<Addresses>,
    endpoint: UnsafeCell<MaybeUninit<Endpoint>>,
}

// SAFETY: `endpoint` and `addresses` are written by whoever has taken the place before anybody knows
// its handle, and read by those that count as users.
unsafe impl Sync for Session {}

/// What a session's waits have taught.
pub(super) struct Relearned(UnsafeCell<MaybeUninit<Spin>>);

impl std::ops::Deref for Relearned {
    type Target = Spin;

    fn deref(&self) -> &Spin {
        // SAFETY: written when the place was taken.
        unsafe { (*self.0.get()).assume_init_ref() }
    }
}

/// The two addresses, as TCP would tell them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// getsockname(2).
    pub(crate) local: SocketAddr,
    /// getpeername(2).
    pub(crate) remote: SocketAddr,
}

impl Session {
    pub(crate) fn addresses(&self) -> Addresses {
        // SAFETY: written before the session was published.
        unsafe { *self.addresses.get() }
    }

    /// AF_INET or AF_INET6.
    pub(crate) fn domain(&self) -> c_int {
        self.domain.load(Ordering::Relaxed)
    }
}

/// A session in use by a call. Let go when dropped.
pub(crate) struct Using {
    session: &'static Session,
    handle: u32,
}

impl Using {
    #[inline]
    pub(crate) fn endpoint(&self) -> &'static Endpoint {
        // SAFETY: there is an endpoint as long as there are users; what is borrowed does not outlive
        // this one in any caller, which keeps it until it is done.
        unsafe { (*self.session.endpoint.get()).assume_init_ref() }
    }

    #[inline]
    pub(crate) const fn session(&self) -> &'static Session {
        self.session
    }

    pub(crate) const fn handle(&self) -> u32 {
        self.handle
    }

    /// Keeps the session in use across a call that a thread may be cancelled in, where nothing may
    /// need dropping (a thread that is cancelled there leaves the session in use for good). To be
    /// undone by [`resume`](Self::resume).
    pub(crate) fn suspend(self) -> (u32, &'static Session) {
        let kept = (self.handle, self.session);
        std::mem::forget(self);
        kept
    }

    /// After [`suspend`](Self::suspend).
    pub(crate) const fn resume((handle, session): (u32, &'static Session)) -> Self {
        Self { session, handle }
    }
}

impl Drop for Using {
    #[inline]
    fn drop(&mut self) {
        if self.session.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            SESSIONS.end(self.handle, self.session);
        }
    }
}

/// The pool.
pub(crate) struct Sessions {
    chunks: [AtomicPtr<Session>; CHUNKS],
    /// Number plus one of the first free place, under a tag that makes every change distinct.
    free: AtomicU64,
    /// Places ever handed out.
    made: AtomicU32,
    /// Sessions that are open.
    open: AtomicU32,
}

impl Sessions {
    const fn new() -> Self {
        Self {
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            free: AtomicU64::new(0),
            made: AtomicU32::new(0),
            open: AtomicU32::new(0),
        }
    }

    /// Keeps an endpoint, named by one descriptor, and returns its handle; resets the session if there
    /// is no room.
    pub(crate) fn keep(
        &self,
        endpoint: Endpoint,
        addresses: Addresses,
        domain: c_int,
        inode: u64,
    ) -> Option<u32> {
        let Some((index, session)) = self.pop().or_else(|| self.extend()) else {
            endpoint.close(true);
            return None;
        };
        super::poll::begin();
        let generation = session.generation.load(Ordering::Relaxed).wrapping_add(1);
        session.generation.store(generation, Ordering::Release);
        // SAFETY: the place was taken out of the free list, and nobody knows its new handle yet.
        unsafe {
            (*session.endpoint.get()).write(endpoint);
            *session.addresses.get() = addresses;
        }
        session.options.reset();
        // SAFETY: as above. What was learned of another session's waits says little of this one's.
        unsafe { (*session.spin.0.get()).write(Spin::new()) };
        session.domain.store(domain, Ordering::Relaxed);
        session.inode.store(inode, Ordering::Relaxed);
        for word in [
            &session.waiting,
            &session.dry,
            &session.stray_taken,
            &session.batch,
        ] {
            word.store(0, Ordering::Relaxed);
        }
        session.abort.store(false, Ordering::Relaxed);
        session.connecting.store(false, Ordering::Relaxed);
        session.registered.store(0, Ordering::Relaxed);
        session.names.store(1, Ordering::Relaxed);
        session.users.store(1, Ordering::Release);
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(handle(index, generation))
    }

    /// The session of a handle, for a call.
    #[inline]
    pub(crate) fn enter(&self, handle: u32) -> Option<Using> {
        let session = self.at(handle & INDEX)?;
        let mut users = session.users.load(Ordering::Relaxed);
        loop {
            if users == 0 {
                return None;
            }
            match session.users.compare_exchange_weak(
                users,
                users + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => users = now,
            }
        }
        let using = Using { session, handle };
        let now = session.generation.load(Ordering::Acquire);
        (self::handle(handle & INDEX, now) == handle).then_some(using)
    }

    /// One more descriptor names the session of a handle; false if it is gone.
    pub(crate) fn name(&self, handle: u32) -> bool {
        let Some(using) = self.enter(handle) else {
            return false;
        };
        let names = &using.session.names;
        names
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| {
                (n > 0).then_some(n + 1)
            })
            .is_ok()
    }

    /// A descriptor does not name the session any more. With the last one the session ends, as soon
    /// as no call uses it.
    pub(crate) fn unname(&self, handle: u32) {
        let Some(using) = self.enter(handle) else {
            return;
        };
        if using.session.names.fetch_sub(1, Ordering::AcqRel) == 1 {
            super::epoll::unregister(&using);
            // That of the descriptors.
            using.session.users.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// No descriptor names the session any more: in a process that has nothing but a copy of its
    /// parent's counts.
    pub(super) fn unname_all(&self, handle: u32) {
        let Some(using) = self.enter(handle) else {
            return;
        };
        using.session.names.store(0, Ordering::Relaxed);
        // Of the calls that were under way in the parent, none is here.
        using.session.users.store(1, Ordering::Release);
    }

    /// Sessions that are open: a bound for walks.
    pub(crate) fn count(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// All sessions.
    pub(crate) fn each(&self) -> impl Iterator<Item = Using> + '_ {
        let made = self.made.load(Ordering::Acquire);
        (0..made).filter_map(|index| {
            let generation = self.at(index)?.generation.load(Ordering::Acquire);
            self.enter(handle(index, generation))
        })
    }

    #[cold]
    fn end(&self, handle: u32, session: &'static Session) {
        // SAFETY: there are no users any more, and nobody becomes one while the count is zero.
        let endpoint = unsafe { (*session.endpoint.get()).assume_init_read() };
        let batch = session.batch.load(Ordering::Relaxed);
        endpoint.close(session.abort.load(Ordering::Relaxed));
        if batch != 0 {
            super::fork::leave_batch(batch - 1);
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.push(handle & INDEX, session);
    }

    #[inline]
    fn at(&self, index: u32) -> Option<&'static Session> {
        let chunk = self
            .chunks
            .get(index as usize / CHUNK)?
            .load(Ordering::Acquire);
        if chunk.is_null() {
            return None;
        }
        // SAFETY: a chunk that is never unmapped, in which there are so many places.
        Some(unsafe { &*chunk.add(index as usize % CHUNK) })
    }

    fn pop(&self) -> Option<(u32, &'static Session)> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let session = self.at(index)?;
            let next = session.next.load(Ordering::Relaxed);
            let new = ((head >> 32) + 1) << 32 | u64::from(next);
            match self
                .free
                .compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some((index, session)),
                Err(now) => head = now,
            }
        }
    }

    fn push(&self, index: u32, session: &Session) {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            session.next.store(head as u32, Ordering::Relaxed);
            let new = ((head >> 32) + 1) << 32 | u64::from(index + 1);
            match self
                .free
                .compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    #[cold]
    fn extend(&self) -> Option<(u32, &'static Session)> {
        let index = self.made.fetch_add(1, Ordering::AcqRel);
        let Some(chunk) = self.chunks.get(index as usize / CHUNK) else {
            self.made.fetch_sub(1, Ordering::AcqRel);
            return None;
        };
        if chunk.load(Ordering::Acquire).is_null() {
            let memory = map_chunk();
            let Some(memory) = memory else {
                self.made.fetch_sub(1, Ordering::AcqRel);
                return None;
            };
            if chunk
                .compare_exchange(ptr::null_mut(), memory, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
            {
                // SAFETY: mapped just now, and lost the race to be published.
                let _ = unsafe { munmap(memory.cast(), CHUNK * size_of::<Session>()) };
            }
        }
        Some((index, self.at(index)?))
    }
}

const INDEX: u32 = (1 << INDEX_BITS) - 1;

/// A place's number below, its generation (as far as there is room) above.
const fn handle(index: u32, generation: u32) -> u32 {
    generation << INDEX_BITS | index
}

fn map_chunk() -> Option<*mut Session> {
    // SAFETY: a new private mapping at an address of the kernel's choice. All zero is a free place:
    // the options and the spin are set when it is taken.
    let memory = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            CHUNK * size_of::<Session>(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    };
    memory.ok().map(<*mut _>::cast)
}
