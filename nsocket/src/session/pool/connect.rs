//! The connecting side's pool: segments that can be offered again to the listener that had them.

use std::os::fd::{AsFd, BorrowedFd};

use super::shelf::Shelf;
use crate::hidden::Hidden;
use crate::session::rendezvous::owner::Cookie;
use crate::session::segment::{Generation, Layout, Segment, SegmentError, Side};
use crate::sync::{AtomicU32, Ordering::Relaxed};

/// The segments that a process has made: at most `N` are kept.
#[derive(Debug)]
pub struct ConnectPool<const N: usize> {
    shelf: Shelf<Kept, N>,
    /// Descriptors held open in sessions.
    descriptors: AtomicU32,
}

#[derive(Debug)]
struct Kept {
    listener: Cookie,
    segment: Segment,
    file: Hidden,
    last: Generation,
}

/// A segment that can be offered: nobody has seen this use of it.
#[derive(Debug)]
pub struct Prepared<'pool, const N: usize> {
    pool: &'pool ConnectPool<N>,
    listener: Cookie,
    segment: Segment,
    file: Option<Counted<'pool>>,
    generation: Generation,
}

impl<const N: usize> ConnectPool<N> {
    /// An empty pool that keeps segments of at most `max_bytes` in sum.
    pub const fn new(max_bytes: usize) -> Self {
        Self {
            shelf: Shelf::new(max_bytes),
            descriptors: AtomicU32::new(0),
        }
    }

    /// A segment for a session with whoever accepts at a listener, with rings at least as large as
    /// the layout says: one that has served such a session before, or a new one.
    ///
    /// # Errors
    ///
    /// Those of [`Segment::create`].
    pub fn prepare(
        &self,
        listener: Cookie,
        layout: Layout,
    ) -> Result<Prepared<'_, N>, SegmentError> {
        if let Some(prepared) = self.reuse(listener, layout) {
            return Ok(prepared);
        }
        let (segment, file) = Segment::create(layout)?;
        Ok(Prepared {
            pool: self,
            listener,
            segment,
            file: Some(self.counted(file)),
            generation: Generation::FIRST,
        })
    }

    /// As [`prepare`](Self::prepare), but `None` where a new segment would have to be made.
    pub fn prepare_kept(&self, listener: Cookie, layout: Layout) -> Option<Prepared<'_, N>> {
        self.reuse(listener, layout)
    }

    /// Lets go of everything that is kept.
    pub fn clear(&self) {
        self.shelf.clear();
    }

    fn reuse(&self, listener: Cookie, layout: Layout) -> Option<Prepared<'_, N>> {
        let Kept {
            segment,
            file,
            last,
            ..
        } = self.shelf.take(|kept| {
            kept.listener == listener
                && kept.segment.layout().holds(layout)
                && kept.segment.header().is_over(kept.last)
        })?;
        let file = self.counted(file);
        if segment.header().is_shared() {
            return None;
        }
        let generation = segment.header().begin_next(last)?;
        Some(Prepared {
            pool: self,
            listener,
            segment,
            file: Some(file),
            generation,
        })
    }

    fn counted(&self, file: impl Into<Hidden>) -> Counted<'_> {
        self.descriptors.fetch_add(1, Relaxed);
        Counted {
            file: Some(file.into()),
            count: &self.descriptors,
        }
    }
}

impl<const N: usize> Prepared<'_, N> {
    /// The memory.
    pub const fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Which use this is, for the offer.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The descriptor to hand over; `None` after [`Prepared::offered`] has let go of it.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref()?.file.as_ref().map(AsFd::as_fd)
    }

    /// The offer has been made. The descriptor stays open for the next use, unless `N` sessions have
    /// one open already: with many sessions, each costs one descriptor, not two.
    pub fn offered(&mut self) {
        if self.pool.descriptors.load(Relaxed) > N as u32 {
            self.file = None;
        } else if self.generation == Generation::FIRST
            && let Some(counted) = &mut self.file
        {
            counted.file = counted.file.take().map(Hidden::new);
        }
    }

    /// The session is over at this end: says so to the other one and keeps the segment for the next.
    /// The caller has stopped every access to it. To drop the value instead keeps nothing, and says
    /// nothing: the thing to do when the peer has died, which will not say that it has closed.
    pub fn retire(self) {
        let Self {
            pool,
            listener,
            segment,
            file,
            generation: last,
        } = self;
        let header = segment.header();
        if header.is_shared() || header.status(Side::Connecting).close(last).is_err() {
            return;
        }
        let (Some(file), Some(_)) = (file.and_then(Counted::into_file), last.next()) else {
            return;
        };
        let bytes = segment.layout().total_bytes();
        let kept = Kept {
            listener,
            segment,
            file,
            last,
        };
        pool.shelf.put(kept, bytes);
    }
}

/// A descriptor that is counted while it is in a session.
#[derive(Debug)]
struct Counted<'pool> {
    file: Option<Hidden>,
    count: &'pool AtomicU32,
}

impl Counted<'_> {
    fn into_file(mut self) -> Option<Hidden> {
        self.file.take()
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}
