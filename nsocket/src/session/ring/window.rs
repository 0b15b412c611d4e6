//! Which part of a ring's memory is in use.
//!
//! A window is the first 2^`shift` bytes of the memory, and byte `n` of the stream lies at
//! `(n + bias) mod 2^shift` in it. The producer may enlarge it while bytes are unread, and the
//! consumer may learn of that late or early. It works because of three rules:
//!
//! 1. **Unread bytes keep their positions.** The new bias is chosen so that the first unread byte
//!    stays where it is. Those behind it do, too, unless they had wrapped around the end of the old
//!    window; these are *copied* behind that end, where the new window has them.
//! 2. **Where they were before, they stay as well.** Until the consumer has read all bytes from before
//!    the change (its tail is at `base`), the producer writes only to memory that no earlier window
//!    has had. So it does not matter by which of the windows the consumer reads these bytes.
//! 3. **The window is published before the head.** Whoever has loaded a head beyond `base` loads this
//!    window or a later one after it; and by rule 1 a later one is as good.
//!
//! ```text
//! old window   [ 4 5 . 1 2 3 ]                unread: 1 to 5, of which 4 and 5 have wrapped
//! new window   [ 4 5 . 1 2 3 4 5 . . . . ]    4 and 5 are there twice; 6 to 9 go behind them
//! ```
//!
//! Rule 2 also makes the next growth simple: as long as it holds nothing wraps.

use super::Corrupt;

/// Binary logarithm of the first window. Small under the model checker, which explores every order of
/// every access.
const FIRST_SHIFT: u32 = if cfg!(loom) { 1 } else { 12 };

/// Size of a ring's first window in bytes; no ring is smaller.
pub const FIRST_WINDOW: usize = 1 << FIRST_SHIFT;

/// A window, with its size checked against the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    shift: u32,
    bias: u32,
}

/// A larger window, and what has to be copied before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grown {
    pub(super) window: Window,
    /// So many bytes from the start of the memory have to be copied to the end of the old window.
    pub(super) wrapped: u64,
}

impl Window {
    /// From a word in shared memory. Zero is the first window; every bias has a meaning.
    #[inline]
    pub(super) const fn parse(word: u64, capacity: u64) -> Result<Self, Corrupt> {
        let shift = FIRST_SHIFT + (word as u32 & 0xff);
        if shift > capacity.trailing_zeros() {
            return Err(Corrupt::Window { shift, capacity });
        }
        Ok(Self {
            shift,
            bias: (word >> 32) as u32,
        })
    }

    /// As a word.
    #[inline]
    pub(super) const fn word(self) -> u64 {
        (self.shift - FIRST_SHIFT) as u64 | (self.bias as u64) << 32
    }

    /// In bytes.
    #[inline]
    pub(super) const fn size(self) -> u64 {
        1 << self.shift
    }

    /// Where a byte of the stream lies: less than [`Window::size`].
    #[inline]
    pub(super) const fn position(self, n: u64) -> u64 {
        n.wrapping_add(self.bias as u64) & (self.size() - 1)
    }

    /// The smallest window in which byte `tail` lies at the start of the memory. Only when nothing is
    /// unread.
    pub(super) const fn first(tail: u64) -> Self {
        Self::with(FIRST_SHIFT, tail, 0)
    }

    /// A window of `size` bytes, a larger power of two, that keeps `unread` bytes from `tail` on where
    /// they are. With nothing unread it starts at the start of the memory.
    pub(super) const fn grown(self, size: u64, tail: u64, unread: u64) -> Grown {
        let start = self.start(tail, unread);
        Grown {
            window: Self::with(size.trailing_zeros(), tail, start),
            wrapped: (start + unread).saturating_sub(self.size()),
        }
    }

    /// Where the first unread byte lies in a window grown from this one.
    pub(super) const fn start(self, tail: u64, unread: u64) -> u64 {
        if unread == 0 { 0 } else { self.position(tail) }
    }

    const fn with(shift: u32, tail: u64, position: u64) -> Self {
        Self {
            shift,
            bias: (position.wrapping_sub(tail) & ((1 << shift) - 1)) as u32,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const CAPACITY: u64 = 8 << 20;

    #[test]
    fn zero_is_the_first_window() {
        let window = Window::parse(0, 4096).unwrap();
        assert_eq!((window.size(), window.position(4097)), (4096, 1));
        assert_eq!(window.word(), 0);
    }

    #[test]
    fn a_window_larger_than_the_ring_is_corrupt() {
        assert!(Window::parse(1, 8192).is_ok());
        assert_eq!(
            Window::parse(2, 8192),
            Err(Corrupt::Window {
                shift: 14,
                capacity: 8192
            })
        );
        assert!(Window::parse(0xff, CAPACITY).is_err());
    }

    #[test]
    fn any_word_is_refused_or_stays_within_the_memory() {
        bolero::check!()
            .with_type::<(u64, u8, u64)>()
            .for_each(|&(word, shift, n)| {
                let capacity = 1 << (12 + shift % 12);
                if let Ok(window) = Window::parse(word, capacity) {
                    assert!(window.size() <= capacity && window.position(n) < window.size());
                }
            });
    }

    #[test]
    fn unread_bytes_stay_where_they_are_or_were_copied() {
        bolero::check!()
            .with_type::<(u32, u64, u64, u8, u8)>()
            .for_each(|&(bias, tail, unread, shift, more)| {
                let shift = 12 + u32::from(shift) % 10;
                let old = Window { shift, bias };
                let unread = unread % (old.size() + 1);
                let size = old.size() << (1 + more % 2);
                let Grown { window, wrapped } = old.grown(size, tail, unread);
                assert_eq!(Window::parse(window.word(), CAPACITY), Ok(window));
                if unread == 0 {
                    assert_eq!((window.position(tail), wrapped), (0, 0));
                    return;
                }
                for n in [0, unread / 3, unread - 1, unread.saturating_sub(wrapped)] {
                    let n = tail.wrapping_add(n.min(unread - 1));
                    let (before, now) = (old.position(n), window.position(n));
                    let copied = before < wrapped && now == before + old.size();
                    assert!(now == before || copied, "{before} {now} {wrapped}");
                }
                // What follows lies behind all of them, and has not been in the old window.
                let next = window.position(tail.wrapping_add(unread));
                assert!(next == old.position(tail) + unread);
            });
    }
}
