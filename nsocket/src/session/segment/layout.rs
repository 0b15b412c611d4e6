//! How long a segment is and where its rings are: two capacities, validated once.

use super::SegmentError;

/// Size of the header, and alignment of the rings, in bytes.
pub const PAGE: usize = 4096;

/// Smallest capacity of a ring, in bytes.
pub const MIN_CAPACITY: usize = 1 << MIN_SHIFT;

/// Largest capacity of a ring, in bytes.
pub const MAX_CAPACITY: usize = 1 << MAX_SHIFT;

const MIN_SHIFT: u32 = 12;
const MAX_SHIFT: u32 = 23;

/// One end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who has called connect(2), and has made the segment.
    Connecting,
    /// Who has called accept(2).
    Accepting,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Connecting => Self::Accepting,
            Self::Accepting => Self::Connecting,
        }
    }

    /// The direction of the bytes that this side sends.
    pub const fn sends(self) -> Direction {
        match self {
            Self::Connecting => Direction::ToAccepting,
            Self::Accepting => Direction::ToConnecting,
        }
    }

    /// The direction of the bytes that this side receives.
    pub const fn receives(self) -> Direction {
        self.other().sends()
    }
}

/// One of the two byte streams of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the connecting side to the accepting one.
    ToAccepting,
    /// From the accepting side to the connecting one.
    ToConnecting,
}

/// The capacities of the two rings: powers of two from [`MIN_CAPACITY`] to [`MAX_CAPACITY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    to_accepting: u8,
    to_connecting: u8,
}

impl Layout {
    /// Rings of at least these capacities in bytes, each rounded up to a power of two and brought
    /// into the limits.
    pub fn at_least(to_accepting: usize, to_connecting: usize) -> Self {
        let shift = |bytes: usize| {
            let bytes = bytes.clamp(MIN_CAPACITY, MAX_CAPACITY);
            bytes.next_power_of_two().trailing_zeros() as u8
        };
        Self {
            to_accepting: shift(to_accepting),
            to_connecting: shift(to_connecting),
        }
    }

    /// From the binary logarithms of the two capacities, as a peer tells them.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Capacity`] if one is outside the limits.
    pub const fn from_shifts(to_accepting: u8, to_connecting: u8) -> Result<Self, SegmentError> {
        if !valid(to_accepting) {
            return Err(SegmentError::Capacity {
                shift: to_accepting as u32,
            });
        }
        if !valid(to_connecting) {
            return Err(SegmentError::Capacity {
                shift: to_connecting as u32,
            });
        }
        Ok(Self {
            to_accepting,
            to_connecting,
        })
    }

    /// The binary logarithms of the capacities: to the accepting side, to the connecting side.
    pub const fn shifts(self) -> [u8; 2] {
        [self.to_accepting, self.to_connecting]
    }

    /// Bytes that a ring can hold at most.
    #[inline]
    pub const fn capacity(self, direction: Direction) -> usize {
        1 << match direction {
            Direction::ToAccepting => self.to_accepting,
            Direction::ToConnecting => self.to_connecting,
        }
    }

    /// Where a ring begins, from the start of the segment.
    #[inline]
    pub const fn offset(self, direction: Direction) -> usize {
        match direction {
            Direction::ToAccepting => PAGE,
            Direction::ToConnecting => PAGE + self.capacity(Direction::ToAccepting),
        }
    }

    /// The length of the segment.
    pub const fn total_bytes(self) -> usize {
        PAGE + self.capacity(Direction::ToAccepting) + self.capacity(Direction::ToConnecting)
    }

    /// Whether the rings are no smaller than the other's.
    pub const fn holds(self, wanted: Self) -> bool {
        self.to_accepting >= wanted.to_accepting && self.to_connecting >= wanted.to_connecting
    }
}

const fn valid(shift: u8) -> bool {
    shift as u32 >= MIN_SHIFT && shift as u32 <= MAX_SHIFT
}
