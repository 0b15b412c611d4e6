//! The socket table: what the session layer knows of each descriptor number.
//!
//! One slot a descriptor: a word that says what it is, and beside it an address that belongs to that
//! state, so that a data path has all it needs in one cache line. The first slots are part of the
//! table itself, the others lie in chunks of private memory that are mapped when the first
//! descriptor in them is managed. `fork` copies the table with the rest of the process, and a reader
//! needs no lock and no initialisation. The table never owns a descriptor: the kernel referees
//! lifetime, and a word that has gone stale (a descriptor closed by a raw system call, say) must only
//! ever cost accuracy of the statistics. Whoever acts on a socket for good checks its identity first
//! (see [`crate::fresh::Fresh::identity`]).

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Descriptors from this number on are not managed; the kernel carries them. It is Linux's default
/// `fs.nr_open`.
pub const CAPACITY: usize = 1 << 20;

/// What a descriptor is to the session layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not ours: no socket, or a socket of a family that is not managed.
    Unmanaged = 0,
    /// A managed socket that is not bound to a stack instance yet.
    Fresh = 1,
    /// Carried by a kernel instance.
    Kernel = 2,
    /// An epoll instance, known so that registrations of fresh sockets can be renewed.
    Epoll = 3,
    /// A connected socket that shared memory carries.
    Session = 4,
    /// A listening socket that is carried by a kernel instance and takes sessions, too.
    Listener = 5,
}

/// The word of a slot.
///
/// ```text
/// bits  0..8   state
/// bits  8..16  flags
/// bits 32..64  slot of a fresh socket, generation of an epoll instance, handle of a session or listener
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// The entry of a descriptor that is not managed.
    pub const UNMANAGED: Self = Self(0);

    /// Flag: `O_NONBLOCK` is set, as far as the calls of this process tell.
    pub const NONBLOCKING: u8 = 1 << 0;
    /// Flag: a non-blocking `connect` is under way.
    pub const CONNECTING: u8 = 1 << 1;
    /// Flag: a datagram socket.
    pub const DATAGRAM: u8 = 1 << 2;
    /// Flag: MPTCP where the program has asked for TCP, and is told so.
    pub const DISGUISED: u8 = 1 << 3;
    /// Flag of an epoll instance: sessions are, or were, registered in it.
    pub const SESSIONS: u8 = 1 << 4;
    /// Flag of an epoll instance: others with sessions are, or were, registered in it.
    pub const NESTS: u8 = 1 << 5;

    const FLAGS: u64 = 0xff << 8;

    /// An entry in `state`, with a slot (0 where the state has none).
    pub const fn new(state: State, flags: u8, slot: u32) -> Self {
        Self(state as u64 | (flags as u64) << 8 | (slot as u64) << 32)
    }

    /// Whether the descriptor is none of ours: the one test on the data path.
    #[inline(always)]
    pub const fn is_unmanaged(self) -> bool {
        self.0 == 0
    }

    /// Whether the descriptor is carried by a kernel instance and nothing about it is pending: data
    /// may move without that anything is looked at.
    #[inline(always)]
    pub const fn is_settled(self) -> bool {
        const LOOKED_AT: u64 = 0xff | (Entry::CONNECTING as u64) << 8;
        self.0 & LOOKED_AT == State::Kernel as u64
    }

    /// The state.
    pub const fn state(self) -> State {
        match self.0 as u8 {
            1 => State::Fresh,
            2 => State::Kernel,
            3 => State::Epoll,
            4 => State::Session,
            5 => State::Listener,
            _ => State::Unmanaged,
        }
    }

    /// Whether the descriptor is a managed socket.
    #[inline]
    pub const fn is_socket(self) -> bool {
        matches!(
            self.state(),
            State::Fresh | State::Kernel | State::Session | State::Listener
        )
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn has(self, flags: u8) -> bool {
        (self.0 >> 8) as u8 & flags == flags
    }

    /// The flags.
    pub const fn flags(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Whether a session carries it.
    #[inline(always)]
    pub const fn is_session(self) -> bool {
        self.0 as u8 == State::Session as u8
    }

    /// The slot of a fresh socket, the generation of an epoll instance, or the handle of a session or
    /// listener.
    pub const fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The same entry with `flag` set or cleared.
    #[must_use]
    pub const fn with(self, flag: u8, on: bool) -> Self {
        let bit = (flag as u64) << 8;
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }

    /// The same entry, carried by the session of that handle.
    #[must_use]
    pub const fn on_session(self, handle: u32) -> Self {
        Self(self.0 & Self::FLAGS | State::Session as u64 | (handle as u64) << 32)
    }

    /// The same entry, of the listener of that handle.
    #[must_use]
    pub const fn as_listener(self, handle: u32) -> Self {
        Self(self.0 & Self::FLAGS | State::Listener as u64 | (handle as u64) << 32)
    }

    /// The same entry, bound to a kernel instance: its flags kept, its slot forgotten.
    #[must_use]
    pub const fn on_kernel(self) -> Self {
        Self(self.0 & Self::FLAGS | State::Kernel as u64)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("state", &self.state())
            .field("flags", &self.flags())
            .field("slot", &self.slot())
            .finish()
    }
}

/// One descriptor's place in the table.
#[repr(C, align(16))]
pub struct Slot {
    word: AtomicU64,
    address: AtomicPtr<()>,
}

impl Slot {
    const fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            address: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// What the descriptor is.
    #[inline(always)]
    pub fn entry(&self) -> Entry {
        // Relaxed: an entry is one word and points at nothing that this thread must see in order; a
        // program that shares a descriptor between threads has synchronised the number itself.
        Entry(self.word.load(Ordering::Relaxed))
    }

    /// What its user has left here with [`set_address`](Self::set_address); null at first. The table
    /// keeps it when the entry changes.
    #[inline(always)]
    pub fn address(&self) -> *mut () {
        self.address.load(Ordering::Acquire)
    }

    /// Leaves an address beside the entry. What it means is the user's: it must stay good for as long
    /// as another thread may still find it here.
    pub fn set_address(&self, address: *mut ()) {
        self.address.store(address, Ordering::Release);
    }
}

/// Descriptors of a chunk: 64 KiB of slots.
const CHUNK: usize = 4096;

type Chunk = [Slot; CHUNK];

/// The table itself; a process has one, as a `static`.
#[repr(C)]
pub struct Table {
    /// The first chunk: nearly all descriptors of nearly all programs are in it.
    first: Chunk,
    /// Those behind it.
    chunks: [AtomicPtr<Chunk>; CAPACITY / CHUNK - 1],
    /// One more than the highest descriptor that was ever managed: the bound of a scan.
    high: AtomicU32,
}

impl Table {
    /// An empty table.
    #[expect(clippy::new_without_default, reason = "const, for a static")]
    pub const fn new() -> Self {
        Self {
            first: [const { Slot::new() }; CHUNK],
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CAPACITY / CHUNK - 1],
            high: AtomicU32::new(0),
        }
    }

    /// The slot of `fd`, any number; `None` for those that have never been managed, and where nobody
    /// near them has.
    #[inline(always)]
    pub fn slot(&self, fd: i32) -> Option<&Slot> {
        let fd = fd as u32 as usize;
        match self.first.get(fd) {
            Some(slot) => Some(slot),
            None => self.slot_behind(fd),
        }
    }

    /// The entry of `fd`; any number may be asked for.
    #[inline(always)]
    pub fn load(&self, fd: i32) -> Entry {
        self.slot(fd).map_or(Entry::UNMANAGED, Slot::entry)
    }

    /// Sets the entry of `fd` and returns the one before. Numbers that are negative or beyond
    /// [`CAPACITY`] stay unmanaged, and so does everything where there is no memory for it.
    pub fn swap(&self, fd: i32, entry: Entry) -> Entry {
        let slot = if entry.is_unmanaged() {
            self.slot(fd)
        } else {
            self.slot_or_map(fd)
        };
        let Some(Slot { word, .. }) = slot else {
            return Entry::UNMANAGED;
        };
        if !entry.is_unmanaged() {
            self.high.fetch_max(fd as u32 + 1, Ordering::Relaxed);
        }
        Entry(word.swap(entry.0, Ordering::AcqRel))
    }

    /// Replaces the entry of `fd` if it still is `old`.
    pub fn exchange(&self, fd: i32, old: Entry, new: Entry) -> bool {
        self.slot(fd).is_some_and(|slot| {
            slot.word
                .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })
    }

    fn slot_behind(&self, fd: usize) -> Option<&Slot> {
        let chunk = self.chunks.get(fd / CHUNK - 1)?.load(Ordering::Acquire);
        // SAFETY: null, or a chunk that is never unmapped; zeroed memory is a valid chunk.
        unsafe { chunk.as_ref() }.map(|chunk| &chunk[fd % CHUNK])
    }

    #[cold]
    fn slot_or_map(&self, fd: i32) -> Option<&Slot> {
        let number = fd as u32 as usize;
        if number >= CHUNK {
            let place = self.chunks.get(number / CHUNK - 1)?;
            if place.load(Ordering::Acquire).is_null() {
                let chunk = map_chunk()?;
                if place
                    .compare_exchange(ptr::null_mut(), chunk, Ordering::AcqRel, Ordering::Acquire)
                    .is_err()
                {
                    // SAFETY: the chunk was mapped just now and lost the race to be published.
                    let _ = unsafe { munmap(chunk.cast(), size_of::<Chunk>()) };
                }
            }
        }
        self.slot(fd)
    }

    /// Takes back all addresses: in the child of a fork, whose addresses are its parent's.
    pub fn clear_addresses(&self) {
        for fd in 0..self.high.load(Ordering::Relaxed) {
            if let Some(slot) = self.slot(fd.cast_signed())
                && !slot.address().is_null()
            {
                slot.set_address(ptr::null_mut());
            }
        }
    }

    /// Sets or clears a flag of a managed descriptor; leaves others alone.
    pub fn set_flag(&self, fd: i32, flag: u8, on: bool) {
        loop {
            let old = self.load(fd);
            if !old.is_socket() || old.has(flag) == on || self.exchange(fd, old, old.with(flag, on))
            {
                return;
            }
        }
    }

    /// The managed descriptors in `range`, ascending.
    pub fn managed(&self, first: u32, last: u32) -> impl Iterator<Item = (i32, Entry)> + '_ {
        let end = self
            .high
            .load(Ordering::Relaxed)
            .min(last.saturating_add(1));
        (first..end)
            .map(|fd| (fd as i32, self.load(fd as i32)))
            .filter(|(_, entry)| !entry.is_unmanaged())
    }
}

fn map_chunk() -> Option<*mut Chunk> {
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let memory = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            size_of::<Chunk>(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    };
    memory.ok().map(<*mut _>::cast)
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: Table = Table::new();

    #[test]
    fn any_number_may_be_asked_for() {
        for fd in [-1, i32::MIN, i32::MAX, CAPACITY as i32] {
            assert_eq!(TABLE.load(fd), Entry::UNMANAGED);
            let entry = Entry::new(State::Kernel, 0, 2);
            assert_eq!(TABLE.swap(fd, entry), Entry::UNMANAGED);
            assert_eq!(TABLE.load(fd), Entry::UNMANAGED);
        }
    }

    #[test]
    fn fields_do_not_overlap() {
        let entry = Entry::new(State::Fresh, 0xff, u32::MAX);
        assert_eq!(entry.state(), State::Fresh);
        assert_eq!(entry.flags(), 0xff);
        assert_eq!(entry.slot(), u32::MAX);
        let placed = entry.on_kernel();
        assert_eq!(
            (placed.state(), placed.flags(), placed.slot()),
            (State::Kernel, 0xff, 0)
        );
    }

    #[test]
    fn what_is_pending_is_not_settled() {
        let others = !Entry::CONNECTING;
        assert!(Entry::new(State::Kernel, others, u32::MAX).is_settled());
        assert!(!Entry::new(State::Kernel, Entry::CONNECTING, 0).is_settled());
        assert!(!Entry::new(State::Fresh, others, 0).is_settled());
        assert!(!Entry::UNMANAGED.is_settled());
    }

    #[test]
    fn addresses_outlast_entries_but_not_a_fork() {
        static TABLE: Table = Table::new();
        let mut here = 0;
        let address: *mut () = (&raw mut here).cast();
        for fd in [7, CHUNK as i32, CAPACITY as i32 - 1] {
            TABLE.swap(fd, Entry::new(State::Kernel, 0, 0));
            let slot = TABLE.slot(fd).expect("managed just now");
            assert!(slot.address().is_null());
            slot.set_address(address);
            TABLE.swap(fd, Entry::UNMANAGED);
            assert_eq!(slot.address(), address);
        }
        TABLE.clear_addresses();
        for fd in [7, CHUNK as i32, CAPACITY as i32 - 1] {
            assert!(TABLE.slot(fd).expect("still there").address().is_null());
        }
        assert!(TABLE.slot(CAPACITY as i32).is_none());
        assert!(TABLE.slot(-1).is_none());
    }

    #[test]
    fn managed_lists_what_was_set() {
        let entry = Entry::new(State::Kernel, Entry::NONBLOCKING, 0);
        TABLE.swap(100, entry);
        TABLE.swap(205, entry);
        let seen: Vec<i32> = TABLE.managed(100, 205).map(|(fd, _)| fd).collect();
        assert_eq!(seen, [100, 205]);
        let seen: Vec<i32> = TABLE.managed(101, u32::MAX).map(|(fd, _)| fd).collect();
        assert_eq!(seen, [205]);
        TABLE.set_flag(205, Entry::NONBLOCKING, false);
        assert!(!TABLE.load(205).has(Entry::NONBLOCKING));
        TABLE.set_flag(206, Entry::NONBLOCKING, true);
        assert!(
            TABLE.load(206).is_unmanaged(),
            "a flag does not make a socket"
        );
    }
}
