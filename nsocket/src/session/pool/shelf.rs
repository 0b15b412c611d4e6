//! A few values of bounded size in sum, for reuse; shared by threads without waiting.
//!
//! A pool is an optimisation: whoever finds it busy, be it a signal handler in the middle of another
//! call or a second thread, goes without.

use std::cell::UnsafeCell;

use crate::sync::{AtomicBool, AtomicU32, Ordering};

/// At most `N` values.
pub(super) struct Shelf<T, const N: usize> {
    busy: AtomicBool,
    /// The process whose values they are; 0 until the first comes.
    process: AtomicU32,
    items: UnsafeCell<Items<T, N>>,
    max_bytes: usize,
}

struct Items<T, const N: usize> {
    places: [Option<Item<T>>; N],
    bytes: usize,
    puts: u64,
}

struct Item<T> {
    value: T,
    bytes: usize,
    /// When it was put here, counted in puts.
    since: u64,
}

// SAFETY: the items are accessed by the one thread that has set `busy`.
unsafe impl<T: Send, const N: usize> Sync for Shelf<T, N> {}

impl<T, const N: usize> Shelf<T, N> {
    pub(super) const fn new(max_bytes: usize) -> Self {
        Self {
            busy: AtomicBool::new(false),
            process: AtomicU32::new(0),
            items: UnsafeCell::new(Items {
                places: [const { None }; N],
                bytes: 0,
                puts: 0,
            }),
            max_bytes,
        }
    }

    /// Takes a value that fits; the one that was put here last, if there are several.
    pub(super) fn take(&self, fits: impl Fn(&T) -> bool) -> Option<T> {
        self.with(|items| {
            let place = items
                .places
                .iter_mut()
                .filter(|place| place.as_ref().is_some_and(|item| fits(&item.value)))
                .max_by_key(|place| place.as_ref().map(|item| item.since))?;
            let item = place.take()?;
            items.bytes -= item.bytes;
            Some(item.value)
        })?
    }

    /// Puts a value here, if it is not too large. Returns how many values were dropped: older ones to
    /// make room, or this one.
    pub(super) fn put(&self, value: T, bytes: usize) -> u32 {
        self.put_and(value, bytes, |_| {})
    }

    /// As [`Shelf::put`], and does something with the value at last, wherever it is.
    pub(super) fn put_and(&self, value: T, bytes: usize, then: impl FnOnce(&T)) -> u32 {
        let mut value = Some(value);
        let mut then = Some(then);
        let dropped = self.with(|items| {
            if bytes > self.max_bytes {
                return 0;
            }
            let mut dropped = 0;
            while items.bytes + bytes > self.max_bytes || items.places.iter().all(Option::is_some) {
                if !items.drop_oldest() {
                    return dropped;
                }
                dropped += 1;
            }
            let Some(place) = items.places.iter_mut().find(|place| place.is_none()) else {
                return dropped;
            };
            if let (Some(value), Some(then)) = (value.take(), then.take()) {
                items.bytes += bytes;
                items.puts += 1;
                let item = place.insert(Item {
                    value,
                    bytes,
                    since: items.puts,
                });
                then(&item.value);
            }
            dropped
        });
        let left = match (value, then) {
            (Some(value), Some(then)) => {
                then(&value);
                1
            }
            _ => 0,
        };
        dropped.unwrap_or(0) + left
    }

    /// Drops everything; returns how many values that were.
    pub(super) fn clear(&self) -> u32 {
        self.with(|items| {
            let mut dropped = 0;
            while items.drop_oldest() {
                dropped += 1;
            }
            dropped
        })
        .unwrap_or(0)
    }

    /// Runs `f` alone; `None` if somebody else is at it.
    fn with<R>(&self, f: impl FnOnce(&mut Items<T, N>) -> R) -> Option<R> {
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: `busy` was clear, and is set until this borrow ends.
        let items = unsafe { &mut *self.items.get() };
        let process = rustix::process::getpid().as_raw_pid() as u32;
        if self.process.load(Ordering::Relaxed) != process {
            // What a parent has put here is the parent's to use. (If it was busy when it forked, the
            // child goes without a pool.)
            while items.drop_oldest() {}
            self.process.store(process, Ordering::Relaxed);
        }
        let result = f(items);
        self.busy.store(false, Ordering::Release);
        Some(result)
    }
}

impl<T, const N: usize> Items<T, N> {
    fn drop_oldest(&mut self) -> bool {
        let oldest = self
            .places
            .iter_mut()
            .filter(|place| place.is_some())
            .min_by_key(|place| place.as_ref().map(|item| item.since));
        match oldest.and_then(Option::take) {
            Some(item) => {
                self.bytes -= item.bytes;
                true
            }
            None => false,
        }
    }
}

impl<T, const N: usize> std::fmt::Debug for Shelf<T, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let shelf = Shelf::<u32, 3>::new(100);
        assert_eq!(shelf.take(|_| true), None);
        for (value, bytes, dropped) in [(1, 50, 0), (2, 20, 0), (3, 20, 0), (4, 10, 1), (5, 70, 1)]
        {
            assert_eq!(shelf.put(value, bytes), dropped, "{value}");
        }
        assert_eq!(shelf.take(|value| *value < 5), Some(4));
        assert_eq!(shelf.put(6, 101), 1, "too large");
        assert_eq!(shelf.clear(), 2);
        assert_eq!(shelf.take(|_| true), None);
    }

    #[test]
    fn the_newest_is_taken_and_what_follows_sees_it_in_place() {
        let shelf = Shelf::<u32, 2>::new(100);
        shelf.put(1, 1);
        let mut seen = 0;
        shelf.put_and(2, 1, |value| seen = *value);
        assert_eq!(seen, 2);
        assert_eq!(shelf.take(|_| true), Some(2));
        shelf.put_and(3, 1000, |value| seen = *value);
        assert_eq!(seen, 3, "also if it is not kept");
    }

    #[test]
    fn whoever_comes_in_between_goes_without() {
        let shelf = Shelf::<Rc<()>, 2>::new(100);
        let value = Rc::new(());
        shelf.put(Rc::clone(&value), 1);
        let inner = shelf.with(|_| {
            let missed = shelf.take(|_| true).is_none();
            (missed, shelf.put(Rc::clone(&value), 1))
        });
        assert_eq!(inner, Some((true, 1)));
        assert_eq!(Rc::strong_count(&value), 2);
    }

    #[test]
    fn values_of_another_process_are_not_given_away() {
        let shelf = Shelf::<u32, 2>::new(100);
        shelf.put(1, 1);
        shelf.process.store(1, Ordering::Relaxed);
        assert_eq!(shelf.take(|_| true), None);
        shelf.put(2, 1);
        assert_eq!(shelf.take(|_| true), Some(2));
    }
}
