//! Where a call keeps its copy of the set: on the stack, or in a mapping of its own if that is too
//! small. Never in the heap: poll(2) is for signal handlers, too.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr;

use libc::pollfd;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::set::{Ours, Room};

/// Entries that fit on the stack, those that accompany listeners included; and how many of them may
/// be ours.
const ON_STACK: Room = Room { work: 72, ours: 64 };

/// Calls `f` with room for a copy. `None`: there is no memory.
///
/// A thread that is cancelled in `f` leaves a mapping behind: nothing may need dropping there.
pub(super) fn with<R>(
    room: Room,
    f: impl FnOnce(List<'_, pollfd>, List<'_, Ours>) -> R,
) -> Option<R> {
    if room.work <= ON_STACK.work && room.ours <= ON_STACK.ours {
        let mut work = [const { MaybeUninit::uninit() }; ON_STACK.work];
        let mut ours = [const { MaybeUninit::uninit() }; ON_STACK.ours];
        return Some(f(List::new(&mut work), List::new(&mut ours)));
    }
    let work_len = room.work.next_multiple_of(2) * size_of::<pollfd>();
    let len = work_len + room.ours * size_of::<Ours>();
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let memory = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
    .ok()?;
    // SAFETY: the mapping has room for both, one behind the other, aligned, and nobody else knows it.
    let (work, ours) = unsafe {
        (
            std::slice::from_raw_parts_mut(memory.cast(), room.work),
            std::slice::from_raw_parts_mut(memory.byte_add(work_len).cast(), room.ours),
        )
    };
    let result = f(List::new(work), List::new(ours));
    // SAFETY: mapped above; what was borrowed of it is not used any more.
    let _ = unsafe { munmap(memory, len) };
    Some(result)
}

/// A list in memory of a fixed size.
pub(super) struct List<'a, T: Copy> {
    room: &'a mut [MaybeUninit<T>],
    len: usize,
}

impl<'a, T: Copy> List<'a, T> {
    const fn new(room: &'a mut [MaybeUninit<T>]) -> Self {
        Self { room, len: 0 }
    }

    /// Appends one; false if there is no room.
    pub(super) fn push(&mut self, element: T) -> bool {
        let Some(place) = self.room.get_mut(self.len) else {
            return false;
        };
        place.write(element);
        self.len += 1;
        true
    }
}

impl<T: Copy> Deref for List<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many were written.
        unsafe { std::slice::from_raw_parts(self.room.as_ptr().cast(), self.len) }
    }
}

impl<T: Copy> DerefMut for List<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: so many were written.
        unsafe { std::slice::from_raw_parts_mut(self.room.as_mut_ptr().cast(), self.len) }
    }
}
