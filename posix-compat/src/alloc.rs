//! The library's own memory, apart from the program's.
//!
//! Nothing on a data path or in a signal handler allocates. What does (reading a policy) must not
//! go through the program's `malloc`: it may be another one (jemalloc, a sanitizer's), it may be
//! starting up, and the call that brought us here may come from inside it. So this library's global
//! allocator hands out memory from [`Arena`]s: regions of anonymous memory that are only ever added
//! to and are given back as a whole.
//!
//! Code that wants an arena of its own runs [`Arena::within`]. Whatever allocates outside one (the
//! text of a panic, say) gets memory from a common arena that is never given back.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Size of a region; what does not fit gets a region of its own size.
const REGION: usize = 256 * 1024;

#[global_allocator]
static ALLOCATOR: Bump = Bump;

static COMMON: Arena = Arena::new();

thread_local! {
    /// The arena that this thread allocates from; null for the common one.
    static CURRENT: Cell<*const Arena> = const { Cell::new(ptr::null()) };
}

/// Runs `f` with what this thread allocates coming from the common arena, which is never given back.
pub(crate) fn common<R>(f: impl FnOnce() -> R) -> R {
    COMMON.within(f)
}

/// Memory that is given back all at once.
pub(crate) struct Arena {
    region: AtomicPtr<Region>,
}

/// Head of a region; the memory follows it.
struct Region {
    older: *mut Self,
    size: usize,
    used: AtomicUsize,
}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self {
            region: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Runs `f` with all that this thread allocates coming from the arena. Only one thread may be in
    /// an arena at a time; `f` must not leave anything allocated behind that outlives the arena.
    pub(crate) fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Restore(*const Arena);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(self));
        f()
    }

    fn allocate(&self, layout: Layout) -> *mut u8 {
        loop {
            let region = self.region.load(Ordering::Acquire);
            // SAFETY: a region is published whole and stays mapped as long as the arena.
            if let Some(head) = unsafe { region.as_ref() }
                && let Some(memory) = head.take(layout)
            {
                return memory;
            }
            let Some(new) = Region::map(layout, region) else {
                return ptr::null_mut();
            };
            if self
                .region
                .compare_exchange(region, new, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
            {
                Region::unmap(new);
            }
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let mut region = *self.region.get_mut();
        while !region.is_null() {
            // SAFETY: the arena is going, and with it everything that was allocated in it.
            let older = unsafe { (*region).older };
            Region::unmap(region);
            region = older;
        }
    }
}

impl Region {
    fn map(layout: Layout, older: *mut Self) -> Option<*mut Self> {
        let need = size_of::<Self>() + layout.align() + layout.size();
        let size = need.max(REGION).next_multiple_of(4096);
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let memory = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        let region: *mut Self = memory.ok()?.cast();
        // SAFETY: the mapping is larger than a `Region`, writable and page-aligned.
        unsafe {
            region.write(Self {
                older,
                size,
                used: AtomicUsize::new(size_of::<Self>()),
            });
        }
        Some(region)
    }

    fn unmap(region: *mut Self) {
        // SAFETY: the caller owns the region, which `map` has made with this size.
        let _ = unsafe { munmap(region.cast(), (*region).size) };
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let base = ptr::from_ref(self) as usize;
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let end = self.start(used, base, layout).checked_add(layout.size())?;
                (end <= self.size).then_some(end)
            })
            .ok()?;
        let start = self.start(taken, base, layout);
        // SAFETY: `start` is inside the region.
        Some(unsafe { ptr::from_ref(self).cast::<u8>().cast_mut().add(start) })
    }

    /// Offset at which an allocation starts when `used` bytes are taken.
    fn start(&self, used: usize, base: usize, layout: Layout) -> usize {
        (base + used).next_multiple_of(layout.align()) - base
    }
}

struct Bump;

// SAFETY: every allocation is a range of a mapping of its own that nobody else is given and that
// stays mapped; `dealloc` gives nothing back, so `realloc`'s default (allocate, copy) is sound.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let current = CURRENT.get();
        // SAFETY: `within` keeps the arena alive while it is current.
        unsafe { current.as_ref() }
            .unwrap_or(&COMMON)
            .allocate(layout)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
