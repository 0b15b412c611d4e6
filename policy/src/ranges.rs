//! Sets of numbers as sorted, disjoint, inclusive ranges: ports, user ids, protocols, addresses.

use std::fmt;

/// What a range may run over. The successor is needed to join neighbours and to say where a range
/// ends; `None` at the type's greatest value.
pub(crate) trait Scalar: Copy + Ord + fmt::Debug {
    /// The next greater value.
    fn successor(self) -> Option<Self>;
}

macro_rules! scalar {
    ($($type:ty),*) => {$(
        impl Scalar for $type {
            fn successor(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    )*};
}

scalar!(u16, u32, u128);

/// A set of numbers. Its ranges are sorted, do not overlap and do not touch, so equal sets are equal
/// values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ranges<T>(Vec<(T, T)>);

impl<T: Scalar> Ranges<T> {
    /// The union of inclusive ranges, in any order; a reversed range counts as its mirror image.
    pub(crate) fn new(ranges: impl IntoIterator<Item = (T, T)>) -> Self {
        let mut all: Vec<(T, T)> = ranges
            .into_iter()
            .map(|(a, b)| (a.min(b), a.max(b)))
            .collect();
        all.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(all.len());
        for (low, high) in all {
            match merged.last_mut() {
                Some(last) if last.1.successor().is_none_or(|next| low <= next) => {
                    last.1 = last.1.max(high);
                }
                _ => merged.push((low, high)),
            }
        }
        Self(merged)
    }

    /// The ranges, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (T, T)> + '_ {
        self.0.iter().copied()
    }

    /// Number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest member; `None` for the empty set.
    pub(crate) fn first(&self) -> Option<T> {
        self.0.first().map(|range| range.0)
    }

    /// Whether `value` is in the set.
    pub(crate) fn contains(&self, value: T) -> bool {
        let after = self.0.partition_point(|range| range.0 <= value);
        after > 0 && value <= self.0[after - 1].1
    }

    /// Whether every member of `other` is in this set.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(low, high)| {
            let after = self.0.partition_point(|range| range.0 <= low);
            after > 0 && high <= self.0[after - 1].1
        })
    }

    /// Whether the sets share a member.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            if x.1 < y.0 {
                a.next();
            } else if y.1 < x.0 {
                b.next();
            } else {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_overlaps_are_joined() {
        let set = Ranges::<u16>::new([(10, 20), (1, 3), (21, 30), (15, 18), (40, 65535)]);
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [(1, 3), (10, 30), (40, 65535)]
        );
        assert!(set.contains(3) && set.contains(30) && set.contains(65535));
        assert!(!set.contains(0) && !set.contains(4) && !set.contains(39));
    }

    #[test]
    fn covering_and_overlapping() {
        let a = Ranges::<u32>::new([(0, 100), (200, 300)]);
        assert!(a.covers(&Ranges::new([(5, 6), (200, 300)])));
        assert!(!a.covers(&Ranges::new([(90, 210)])));
        assert!(a.overlaps(&Ranges::new([(101, 199), (300, 400)])));
        assert!(!a.overlaps(&Ranges::new([(101, 199)])));
    }
}
