//! Buckets of a histogram: the HdrHistogram layout, as arithmetic.
//!
//! Two significant decimal digits, from 1 ns to [`MAX_VALUE`] (about 73 minutes). A bucket's index
//! is that of `hdrhistogram::Histogram::new_with_bounds(1, MAX_VALUE, 2)`, so that counts can be
//! carried over without a conversion; a value is known to better than 1 %.

use serde::Serialize;

/// Buckets in a histogram: nine pages of 64-bit counts.
pub const BUCKETS: usize = (VALUE_BITS - SUB_BUCKET_BITS + 2) << (SUB_BUCKET_BITS - 1);

/// The largest value that is told apart, in nanoseconds; larger ones are counted as this one.
pub const MAX_VALUE: u64 = (1 << VALUE_BITS) - 1;

/// The digits that a histogram keeps.
pub const SIGNIFICANT_FIGURES: u8 = 2;

const VALUE_BITS: usize = 42;
/// 2 digits need 200 steps in a power of two's range: the next power of two is 256.
const SUB_BUCKET_BITS: usize = 8;
const SUB_BUCKETS: u64 = 1 << SUB_BUCKET_BITS;
const HALF: usize = 1 << (SUB_BUCKET_BITS - 1);

/// What a histogram measures. All values are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum HistogramKind {
    /// From `connect` until the connection stands (or until a blocking `connect` returns).
    Connect = 0,
    /// Time spent inside blocking `accept` calls.
    Accept = 1,
    /// Time spent inside other calls that may block: read, recv, send, poll. Whoever records may time
    /// only some of many calls: the sum is not all of the time that was spent.
    Blocking = 2,
    /// From the moment that bytes were written to a session until they were read by the other side,
    /// as that side sees it. Sampled: one write in some hundred.
    #[serde(rename = "one-way")]
    OneWay = 3,
}

impl HistogramKind {
    /// Every kind, in the order in which the segment holds them.
    pub const ALL: [Self; 4] = [Self::Connect, Self::Accept, Self::Blocking, Self::OneWay];

    /// Name for tables and options: `connect`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::Blocking => "blocking",
            Self::OneWay => "one-way",
        }
    }
}

/// The bucket of a value.
#[inline]
pub const fn bucket_of(value: u64) -> usize {
    let value = if value > MAX_VALUE { MAX_VALUE } else { value };
    let exponent = 64 - SUB_BUCKET_BITS - (value | (SUB_BUCKETS - 1)).leading_zeros() as usize;
    (exponent << (SUB_BUCKET_BITS - 1)) + (value >> exponent) as usize
}

/// The smallest value of a bucket. The bucket must be below [`BUCKETS`].
pub const fn lowest_of(bucket: usize) -> u64 {
    if bucket < SUB_BUCKETS as usize {
        return bucket as u64;
    }
    let exponent = (bucket >> (SUB_BUCKET_BITS - 1)) - 1;
    (((bucket & (HALF - 1)) + HALF) as u64) << exponent
}

/// The largest value of a bucket. The bucket must be below [`BUCKETS`].
pub const fn highest_of(bucket: usize) -> u64 {
    if bucket < SUB_BUCKETS as usize {
        return bucket as u64;
    }
    let exponent = (bucket >> (SUB_BUCKET_BITS - 1)) - 1;
    lowest_of(bucket) + (1 << exponent) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_nine_pages() {
        assert_eq!(BUCKETS * 8, 9 * 4096);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(0), 0);
    }

    #[test]
    fn buckets_tile_the_range() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            assert_eq!(lowest_of(bucket), next);
            assert_eq!(bucket_of(lowest_of(bucket)), bucket);
            assert_eq!(bucket_of(highest_of(bucket)), bucket);
            next = highest_of(bucket) + 1;
        }
        assert_eq!(next, MAX_VALUE + 1);
    }
}
