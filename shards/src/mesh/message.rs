//! What goes over the mesh: a closure that runs on the other shard, in one cache line.
//!
//! Small closures are carried in place, which saves an allocation on one core and a release on another;
//! larger ones in a box.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::rc::Rc;

use crate::shard::Local;

/// Words that a closure may have to be carried in place: with the pointer to its code a cache line.
const WORDS: usize = 7;

type Place = [MaybeUninit<u64>; WORDS];

/// A closure to be run once on another shard, or dropped.
pub(crate) struct Message {
    place: Place,
    /// Runs the closure in the place, or only drops it; it is gone afterwards.
    ///
    /// SAFETY contract: the place holds the closure that this function was made for.
    end: unsafe fn(*mut Place, Option<&Rc<Local>>),
}

// SAFETY: made of closures that are `Send`.
unsafe impl Send for Message {}

impl Message {
    #[inline]
    pub(crate) fn new<F: FnOnce(&Rc<Local>) + Send + 'static>(closure: F) -> Self {
        if size_of::<F>() <= size_of::<Place>() && align_of::<F>() <= align_of::<Place>() {
            // SAFETY: it fits, as was just checked.
            return unsafe { Self::in_place(closure) };
        }
        let boxed = Box::new(closure);
        // SAFETY: a pointer fits.
        unsafe { Self::in_place(move |local: &Rc<Local>| boxed(local)) }
    }

    /// Runs it.
    #[inline]
    pub(crate) fn run(self, local: &Rc<Local>) {
        let mut this = ManuallyDrop::new(self);
        let place = &raw mut this.place;
        // SAFETY: the place holds the closure of `end`; this value is not dropped, so it ends once.
        unsafe { (this.end)(place, Some(local)) };
    }

    /// # Safety
    ///
    /// The closure fits into the place, in size and alignment.
    unsafe fn in_place<F: FnOnce(&Rc<Local>) + Send + 'static>(closure: F) -> Self {
        let mut place: Place = [MaybeUninit::uninit(); WORDS];
        // SAFETY: it fits, which is the caller's promise.
        unsafe { place.as_mut_ptr().cast::<F>().write(closure) };
        Self {
            place,
            end: end::<F>,
        }
    }
}

/// # Safety
///
/// The place holds an `F`, which is gone afterwards.
unsafe fn end<F: FnOnce(&Rc<Local>)>(place: *mut Place, local: Option<&Rc<Local>>) {
    // SAFETY: the caller's promise.
    let closure = unsafe { place.cast::<F>().read() };
    if let Some(local) = local {
        closure(local);
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the place holds the closure of `end`, which ends here.
        unsafe { (self.end)(&raw mut self.place, None) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_message_is_a_cache_line() {
        assert_eq!(size_of::<Message>(), 64);
    }

    #[test]
    fn what_is_not_run_is_dropped() {
        let counted = Arc::new(());
        let small = Arc::clone(&counted);
        let large = (Arc::clone(&counted), [0u64; 32]);
        let messages = [
            Message::new(move |_| drop(small)),
            Message::new(move |_| drop(large)),
        ];
        assert_eq!(Arc::strong_count(&counted), 3);
        drop(messages);
        assert_eq!(Arc::strong_count(&counted), 1);
    }
}
