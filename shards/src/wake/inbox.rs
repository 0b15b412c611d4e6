//! Where other threads leave things for one: a list that any number of threads add to without
//! waiting for each other, and one takes all of.

use std::ptr::{NonNull, null_mut};

use crate::sync::{AtomicPtr, Ordering};

/// An unbounded queue, many to one. Adding is one allocation and one successful compare-and-swap, and
/// never waits; order is kept between things that the same thread adds.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    /// The last added; each names the one before.
    last: AtomicPtr<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    item: T,
    before: *mut Self,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self {
            last: AtomicPtr::new(null_mut()),
        }
    }

    /// Adds `item`. The update is a barrier of the kind that
    /// [`fence::after_update`](dmm_nsocket::session::waiter::fence::after_update) asks for.
    ///
    /// # Errors
    ///
    /// Gives it back if the inbox is closed.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut node = Box::new(Node {
            item,
            before: null_mut(),
        });
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            if last == closed() {
                return Err(node.item);
            }
            node.before = last;
            let added = Box::into_raw(node);
            match self
                .last
                .compare_exchange_weak(last, added, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(changed) => {
                    last = changed;
                    // SAFETY: it was not added, so it is still this thread's alone.
                    node = unsafe { Box::from_raw(added) };
                }
            }
        }
    }

    /// Whether there is nothing to take.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last.is_null() || last == closed()
    }

    /// Takes all that is there, in the order of its being added.
    pub(crate) fn take(&self) -> Taken<T> {
        if self.is_empty() {
            return Taken { first: null_mut() };
        }
        Taken::in_order(self.last.swap(null_mut(), Ordering::AcqRel))
    }

    /// Takes all that is there, and lets nothing be added any more.
    pub(crate) fn close(&self) -> Taken<T> {
        let last = self.last.swap(closed(), Ordering::AcqRel);
        Taken::in_order(if last == closed() { null_mut() } else { last })
    }
}

/// An address that is no node's: that of the closed list.
fn closed<T>() -> *mut Node<T> {
    NonNull::dangling().as_ptr()
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        drop(self.close());
    }
}

// SAFETY: an item is moved from the thread that adds it to the one that takes it, and never shared.
unsafe impl<T: Send> Send for Inbox<T> {}
// SAFETY: as above; all access to the list goes through its atomic.
unsafe impl<T: Send> Sync for Inbox<T> {}

/// What was taken out of an [`Inbox`], the first added first.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    first: *mut Node<T>,
}

impl<T> Taken<T> {
    /// Turns a list around.
    fn in_order(mut last: *mut Node<T>) -> Self {
        let mut first = null_mut();
        while !last.is_null() {
            // SAFETY: the list was taken out of the inbox, so it is this thread's alone.
            let before = unsafe { std::mem::replace(&mut (*last).before, first) };
            first = last;
            last = before;
        }
        Self { first }
    }
}

impl<T> Iterator for Taken<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.first.is_null() {
            return None;
        }
        // SAFETY: as above, and each node is taken once.
        let node = unsafe { Box::from_raw(self.first) };
        self.first = node.before;
        Some(node.item)
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_taken_in_order() {
        let inbox = Inbox::new();
        assert!(inbox.is_empty());
        for item in 0..3 {
            inbox.push(item).unwrap();
        }
        assert!(!inbox.is_empty());
        assert_eq!(inbox.take().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(inbox.take().next().is_none());
    }

    #[test]
    fn a_closed_inbox_gives_things_back() {
        let inbox = Inbox::new();
        inbox.push("in time").unwrap();
        assert_eq!(inbox.close().collect::<Vec<_>>(), ["in time"]);
        assert_eq!(inbox.push("late"), Err("late"));
        assert!(inbox.is_empty());
        assert!(inbox.close().next().is_none());
    }

    #[test]
    fn what_nobody_takes_is_dropped() {
        let counted = std::sync::Arc::new(());
        let inbox = Inbox::new();
        for _ in 0..3 {
            inbox.push(counted.clone()).unwrap();
        }
        let mut taken = inbox.take();
        taken.next();
        inbox.push(counted.clone()).unwrap();
        drop((taken, inbox));
        assert_eq!(std::sync::Arc::strong_count(&counted), 1);
    }

    #[test]
    fn threads_do_not_lose_each_others_things() {
        const EACH: usize = if cfg!(miri) { 50 } else { 20_000 };
        let inbox = Inbox::new();
        let mut seen = [0; 3];
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let inbox = &inbox;
                scope.spawn(move || (0..EACH).for_each(|n| inbox.push((thread, n)).unwrap()));
            }
            while seen.iter().sum::<usize>() < 3 * EACH {
                for (thread, n) in inbox.take() {
                    assert_eq!(n, seen[thread], "in the order of its thread");
                    seen[thread] += 1;
                }
            }
        });
    }
}
