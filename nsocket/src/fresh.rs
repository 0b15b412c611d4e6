//! Sockets that are not bound to a stack yet: what has to be remembered of each until the choice is
//! made, and the pool that holds it.
//!
//! The pool is private memory, so `fork` copies it; slots are taken and given back without locks
//! and without the program's allocator. The contents of a slot are guarded by a lock that is only
//! ever *tried*: a signal handler that finds it taken by the code it interrupted does not wait, it
//! marks the socket as one that cannot be moved, and the kernel carries it.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use libc::c_int;

use crate::Reason;
use crate::options::{NotRecorded, OptionLog};

/// Epoll registrations of a fresh socket that can be renewed.
pub const MAX_WATCHES: usize = 6;

const SLOTS_PER_CHUNK: usize = 256;
const CHUNKS: usize = 256;
const SLOTS: u32 = (SLOTS_PER_CHUNK * CHUNKS) as u32;

/// A slot's number below, its generation (as far as there is room) above.
const fn handle(slot: u32, generation: u32) -> u32 {
    generation.wrapping_mul(SLOTS) | slot
}

/// What is known of a fresh socket and does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Address family, as in socket(2).
    pub domain: c_int,
    /// Type without flags, as in socket(2).
    pub kind: c_int,
    /// Protocol, as in socket(2) (it may be 0).
    pub protocol: c_int,
    /// The process that made it. One that has inherited it shares it with its maker.
    pub pid: u32,
    /// The number of forks of that process at the time; after one more, the socket may be shared.
    pub forks: u32,
}

/// An epoll registration: which instance, what for, and the program's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The registered descriptor (a duplicate may be registered under its own number).
    pub fd: c_int,
    /// The epoll instance, by its generation: a number may be reused, and there may be several.
    pub generation: u32,
    /// As in epoll_event.
    pub events: u32,
    /// As in epoll_event.
    pub data: u64,
}

/// What the program has done to a fresh socket so far.
pub struct Details {
    /// The options it has set.
    pub options: OptionLog,
    watches: [Watch; MAX_WATCHES],
    watched: usize,
    /// What shutdown(2) was called with: 1 for reading, 2 for writing.
    pub shut: u8,
    /// The network namespace and protocol it has been moved to already, as a hash; 0 for none.
    pub placement: u64,
    /// When a connect that is under way was begun (CLOCK_MONOTONIC, ns); 0 for none.
    pub connecting_since: u64,
}

impl Details {
    #[cfg(test)]
    const EMPTY: Self = Self {
        options: OptionLog::new(),
        watches: [Watch {
            fd: -1,
            generation: 0,
            events: 0,
            data: 0,
        }; MAX_WATCHES],
        watched: 0,
        shut: 0,
        placement: 0,
        connecting_since: 0,
    };

    fn clear(&mut self) {
        self.options.clear();
        self.watched = 0;
        self.shut = 0;
        self.placement = 0;
        self.connecting_since = 0;
    }

    /// The epoll registrations.
    pub fn watches(&self) -> &[Watch] {
        &self.watches[..self.watched]
    }

    /// Notes a registration, or a change of one; `false` when there is no room.
    pub fn watch(&mut self, new: Watch) -> bool {
        let same = |w: &Watch| w.fd == new.fd && w.generation == new.generation;
        if let Some(old) = self.watches[..self.watched].iter_mut().find(|w| same(w)) {
            *old = new;
            return true;
        }
        let Some(free) = self.watches.get_mut(self.watched) else {
            return false;
        };
        *free = new;
        self.watched += 1;
        true
    }

    /// Forgets a registration.
    pub fn unwatch(&mut self, fd: c_int, generation: u32) {
        if let Some(at) = self
            .watches()
            .iter()
            .position(|w| w.fd == fd && w.generation == generation)
        {
            self.watched -= 1;
            self.watches.swap(at, self.watched);
        }
    }
}

/// A fresh socket: one slot of the pool.
pub struct Fresh {
    /// Number of the next free slot (plus one), while this one is free.
    next: AtomicU32,
    /// Descriptors of this process that name the socket.
    names: AtomicU32,
    /// A [`Reason`] for which it cannot be moved, or 0.
    pinned: AtomicU32,
    lock: AtomicU32,
    /// The process of which a thread is replacing the socket, or taking a name away; or 0.
    held: AtomicU32,
    /// Changes whenever the slot is taken anew.
    generation: AtomicU32,
    /// Inode of the kernel socket, by which it is told from another under the same number.
    inode: AtomicU64,
    domain: AtomicI32,
    kind: AtomicI32,
    protocol: AtomicI32,
    pid: AtomicU32,
    forks: AtomicU32,
    details: UnsafeCell<Details>,
}

// SAFETY: `details` is touched only while `lock` is held; all else is atomic.
unsafe impl Sync for Fresh {}

impl Fresh {
    /// What the socket is.
    pub fn origin(&self) -> Origin {
        Origin {
            domain: self.domain.load(Ordering::Relaxed),
            kind: self.kind.load(Ordering::Relaxed),
            protocol: self.protocol.load(Ordering::Relaxed),
            pid: self.pid.load(Ordering::Relaxed),
            forks: self.forks.load(Ordering::Relaxed),
        }
    }

    /// Identity of the kernel socket, its inode: compared before the socket is replaced.
    pub fn identity(&self) -> u64 {
        self.inode.load(Ordering::Relaxed)
    }

    /// Another kernel socket stands for this one from now on.
    pub fn set_identity(&self, inode: u64) {
        self.inode.store(inode, Ordering::Relaxed);
    }

    /// Runs `f` on the details, or returns `None` if they are in use right now: by another thread,
    /// or by the code that a signal handler has interrupted.
    pub fn with<R>(&self, f: impl FnOnce(&mut Details) -> R) -> Option<R> {
        self.lock
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        // SAFETY: the lock is held, so this is the only reference; `f` cannot reach it again.
        let result = f(unsafe { &mut *self.details.get() });
        self.lock.store(0, Ordering::Release);
        Some(result)
    }

    /// Records an option that was set; one that cannot be replayed pins the socket.
    pub fn record_option(&self, level: c_int, name: c_int, value: &[u8]) {
        match self.with(|details| details.options.record(level, name, value)) {
            Some(Ok(())) => {}
            Some(Err(NotRecorded::Full)) => self.pin(Reason::TooManyOptions),
            Some(Err(NotRecorded::Unreplayable)) | None => self.pin(Reason::UnreplayableOption),
        }
    }

    /// From now on the kernel socket under the descriptor must not be replaced, for `reason`.
    pub fn pin(&self, reason: Reason) {
        let _ =
            self.pinned
                .compare_exchange(0, reason as u32, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Why the kernel socket must not be replaced, if so. `pid` and `forks` are the process's now.
    pub fn pinned(&self, pid: u32, forks: u32) -> Option<Reason> {
        let origin = self.origin();
        if (origin.pid, origin.forks) != (pid, forks) {
            return Some(Reason::SharedDescriptor);
        }
        match self.pinned.load(Ordering::Relaxed) {
            0 => None,
            code => Reason::from_code(code as u16),
        }
    }

    /// Excludes all others that replace the socket or take a name of it away, until the result is
    /// dropped. The caller has blocked its signals, so whoever holds it now runs and is soon done;
    /// `pid` tells it from one that was lost in a fork.
    pub fn hold(&self, pid: u32) -> Held<'_> {
        loop {
            let holder = self.held.load(Ordering::Relaxed);
            if holder != pid
                && self
                    .held
                    .compare_exchange(holder, pid, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return Held(self);
            }
            rustix::thread::sched_yield();
        }
    }

    /// Whether a single descriptor names the socket.
    pub fn is_named_once(&self) -> bool {
        self.names.load(Ordering::Relaxed) == 1
    }
}

/// A socket of which no other thread of the process changes the names meanwhile.
pub struct Held<'a>(&'a Fresh);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.store(0, Ordering::Release);
    }
}

/// The process's fresh sockets. A slot is referred to by a handle: its number, and the generation that
/// it was taken in, so that a handle that has gone stale finds nothing.
pub struct Pool {
    chunks: [AtomicPtr<Fresh>; CHUNKS],
    /// Free list: number of the first free slot plus one, under a tag that makes every change
    /// distinct (a slot may leave and come back between a load and an exchange).
    free: AtomicU64,
    /// Slots ever handed out.
    made: AtomicU32,
}

impl Pool {
    /// An empty pool.
    #[expect(clippy::new_without_default, reason = "only ever a static")]
    pub const fn new() -> Self {
        Self {
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            free: AtomicU64::new(0),
            made: AtomicU32::new(0),
        }
    }

    /// Takes a slot for a new socket, named by one descriptor, and returns its handle. `None` when
    /// there are too many fresh sockets, or no memory.
    pub fn take(&self, origin: Origin, inode: u64) -> Option<u32> {
        let slot = match self.pop() {
            Some(slot) => slot,
            None => self.extend()?,
        };
        let fresh = self.at(slot)?;
        let generation = fresh
            .generation
            .fetch_add(1, Ordering::AcqRel)
            .wrapping_add(1);
        if fresh.with(Details::clear).is_none() {
            // Whoever has a stale handle is in there still: leave it the slot for now.
            self.push(slot, fresh);
            return None;
        }
        fresh.pinned.store(0, Ordering::Relaxed);
        fresh.inode.store(inode, Ordering::Relaxed);
        fresh.domain.store(origin.domain, Ordering::Relaxed);
        fresh.kind.store(origin.kind, Ordering::Relaxed);
        fresh.protocol.store(origin.protocol, Ordering::Relaxed);
        fresh.pid.store(origin.pid, Ordering::Relaxed);
        fresh.forks.store(origin.forks, Ordering::Relaxed);
        fresh.names.store(1, Ordering::Release);
        Some(handle(slot, generation))
    }

    /// The socket of a handle, unless it is gone.
    pub fn slot(&self, handle: u32) -> Option<&Fresh> {
        let fresh = self.at(handle % SLOTS)?;
        let now = fresh.generation.load(Ordering::Acquire);
        (self::handle(handle % SLOTS, now) == handle).then_some(fresh)
    }

    /// One more descriptor names the socket; `false` if it is gone.
    pub fn name(&self, handle: u32) -> bool {
        let Some(fresh) = self.slot(handle) else {
            return false;
        };
        let named = fresh
            .names
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| {
                (n > 0).then_some(n + 1)
            });
        // Between the look and the count the slot may have become another socket's.
        let same = self.slot(handle).is_some();
        if named.is_ok() && !same {
            self.release_at(handle % SLOTS, fresh);
        }
        named.is_ok() && same
    }

    fn at(&self, slot: u32) -> Option<&Fresh> {
        let chunk = self.chunks.get(slot as usize / SLOTS_PER_CHUNK)?;
        let chunk = chunk.load(Ordering::Acquire);
        if chunk.is_null() {
            return None;
        }
        // SAFETY: a chunk has `SLOTS_PER_CHUNK` slots, is zeroed memory (a valid `Fresh`) from the
        // start and is never unmapped.
        Some(unsafe { &*chunk.add(slot as usize % SLOTS_PER_CHUNK) })
    }

    /// One descriptor fewer names the socket; the last one gives the slot back.
    pub fn release(&self, handle: u32) {
        if let Some(fresh) = self.slot(handle) {
            self.release_at(handle % SLOTS, fresh);
        }
    }

    fn release_at(&self, slot: u32, fresh: &Fresh) {
        // A count that is 0 already belongs to a slot that was given back: leave it alone.
        let left = fresh
            .names
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| n.checked_sub(1));
        if left == Ok(1) {
            self.push(slot, fresh);
        }
    }

    fn pop(&self) -> Option<u32> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let slot = (head as u32).checked_sub(1)?;
            let next = self.at(slot)?.next.load(Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(next);
            match self
                .free
                .compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return Some(slot),
                Err(now) => head = now,
            }
        }
    }

    fn push(&self, slot: u32, fresh: &Fresh) {
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            fresh.next.store(head as u32, Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(slot + 1);
            match self
                .free
                .compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// A slot that was never used, in a chunk that is made when its first slot is.
    fn extend(&self) -> Option<u32> {
        let slot = self
            .made
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                ((n as usize) < SLOTS_PER_CHUNK * CHUNKS).then_some(n + 1)
            })
            .ok()?;
        let chunk = &self.chunks[slot as usize / SLOTS_PER_CHUNK];
        if chunk.load(Ordering::Acquire).is_null() {
            let made = map_chunk()?;
            if chunk
                .compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
            {
                unmap_chunk(made);
            }
        }
        Some(slot)
    }
}

const CHUNK_BYTES: usize = SLOTS_PER_CHUNK * size_of::<Fresh>();

fn map_chunk() -> Option<*mut Fresh> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let memory = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            CHUNK_BYTES,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    };
    memory.ok().map(<*mut _>::cast)
}

fn unmap_chunk(chunk: *mut Fresh) {
    // SAFETY: the chunk was mapped by `map_chunk` just now and lost the race to be published.
    let _ = unsafe { rustix::mm::munmap(chunk.cast(), CHUNK_BYTES) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            domain: libc::AF_INET,
            kind: libc::SOCK_STREAM,
            protocol: 0,
            pid: 1,
            forks: 0,
        }
    }

    #[test]
    fn slots_are_reused_and_start_clean() {
        let pool = Pool::new();
        let a = pool.take(origin(), 1).unwrap();
        let fresh = pool.slot(a).unwrap();
        fresh.record_option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, &[1, 0, 0, 0]);
        fresh.pin(Reason::SharedDescriptor);
        assert!(pool.name(a));
        pool.release(a);
        assert_ne!(
            pool.take(origin(), 2).unwrap() % SLOTS,
            a % SLOTS,
            "still named once"
        );
        pool.release(a);
        assert!(!pool.name(a), "a name for a socket that is gone");
        let b = pool.take(origin(), 3).unwrap();
        assert_eq!(a % SLOTS, b % SLOTS);
        assert!(pool.slot(a).is_none(), "a stale handle finds nothing");
        pool.release(a);
        let fresh = pool.slot(b).unwrap();
        assert_eq!(fresh.identity(), 3);
        assert_eq!(fresh.pinned(1, 0), None);
        assert_eq!(fresh.with(|d| d.options.iter().count()), Some(0));
    }

    #[test]
    fn a_socket_is_pinned_by_a_fork_and_by_what_cannot_be_replayed() {
        let pool = Pool::new();
        let slot = pool.take(origin(), 1).unwrap();
        let fresh = pool.slot(slot).unwrap();
        assert_eq!(fresh.pinned(1, 0), None);
        assert_eq!(fresh.pinned(2, 0), Some(Reason::SharedDescriptor));
        assert_eq!(fresh.pinned(1, 1), Some(Reason::SharedDescriptor));
        fresh.record_option(libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &[0; 4]);
        assert_eq!(fresh.pinned(1, 0), Some(Reason::UnreplayableOption));
    }

    #[test]
    fn details_in_use_are_not_waited_for() {
        let pool = Pool::new();
        let slot = pool.take(origin(), 1).unwrap();
        let fresh = pool.slot(slot).unwrap();
        fresh.with(|_| {
            assert_eq!(fresh.with(|_| ()), None);
            fresh.record_option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, &[1, 0, 0, 0]);
        });
        assert_eq!(fresh.pinned(1, 0), Some(Reason::UnreplayableOption));
    }

    #[test]
    fn registrations_are_renewed_changed_and_forgotten() {
        let mut details = Details::EMPTY;
        let watch = |generation, events| Watch {
            fd: 3,
            generation,
            events,
            data: 9,
        };
        assert!(details.watch(watch(10, 1)));
        assert!(details.watch(watch(10, 4)));
        assert_eq!(details.watches(), [watch(10, 4)]);
        for epoll in 11..16 {
            assert!(details.watch(watch(epoll, 1)));
        }
        assert!(!details.watch(watch(16, 1)), "full");
        details.unwatch(3, 10);
        assert_eq!(details.watches().len(), MAX_WATCHES - 1);
    }

    #[test]
    fn threads_never_share_a_slot() {
        static POOL: Pool = Pool::new();
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                std::thread::spawn(move || {
                    for round in 0..2_000 {
                        let inode = thread << 32 | round;
                        let slot = POOL.take(origin(), inode).unwrap();
                        let fresh = POOL.slot(slot).unwrap();
                        std::thread::yield_now();
                        assert_eq!(fresh.identity(), inode);
                        POOL.release(slot);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(POOL.made.load(Ordering::Relaxed) <= 4);
    }

    #[test]
    fn too_many_are_refused() {
        let pool = Pool::new();
        for i in 0..SLOTS_PER_CHUNK * CHUNKS {
            assert!(pool.take(origin(), i as u64).is_some());
        }
        assert_eq!(pool.take(origin(), 0), None);
    }
}
