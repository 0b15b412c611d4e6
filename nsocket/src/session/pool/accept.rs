//! The accepting side's pool: segments that are mapped already when they are offered again.

use std::os::fd::AsFd;

use super::shelf::Shelf;
use crate::session::rendezvous::peer::Credentials;
use crate::session::segment::{Generation, Inode, Layout, Segment, SegmentError, Side};

/// The segments that peers have offered: at most `N` are kept.
#[derive(Debug)]
pub struct AcceptPool<const N: usize> {
    shelf: Shelf<Kept, N>,
}

#[derive(Debug)]
struct Kept {
    peer: Credentials,
    segment: Segment,
    last: Generation,
}

/// A segment that a peer has offered, for one session.
#[derive(Debug)]
pub struct Adopted<'pool, const N: usize> {
    pool: &'pool AcceptPool<N>,
    peer: Credentials,
    segment: Segment,
    generation: Generation,
}

impl<const N: usize> AcceptPool<N> {
    /// An empty pool that keeps segments of at most `max_bytes` in sum.
    pub const fn new(max_bytes: usize) -> Self {
        Self {
            shelf: Shelf::new(max_bytes),
        }
    }

    /// The segment behind a descriptor that a peer has offered, if it is what the offer says. The
    /// descriptor is not needed afterwards.
    ///
    /// # Errors
    ///
    /// Those of [`Segment::adopt`].
    pub fn adopt(
        &self,
        peer: Credentials,
        file: impl AsFd,
        layout: Layout,
        generation: Generation,
    ) -> Result<Adopted<'_, N>, SegmentError> {
        let segment = match self.known(peer, file.as_fd(), generation)? {
            Some(segment) => {
                if segment.layout() != layout {
                    return Err(SegmentError::Contradiction);
                }
                segment.header().check_use(generation)?;
                segment
            }
            None => Segment::adopt(file, layout, generation)?,
        };
        Ok(Adopted {
            pool: self,
            peer,
            segment,
            generation,
        })
    }

    /// Lets go of everything that is kept.
    pub fn clear(&self) {
        self.shelf.clear();
    }

    fn known(
        &self,
        peer: Credentials,
        file: impl AsFd,
        generation: Generation,
    ) -> Result<Option<Segment>, SegmentError> {
        // A first use has not been seen before.
        if generation == Generation::FIRST {
            return Ok(None);
        }
        let inode = Inode::of(file).map_err(|errno| SegmentError::System {
            call: "fstat",
            errno,
        })?;
        let kept = self
            .shelf
            .take(|kept| kept.segment.inode() == inode && kept.peer == peer);
        match kept {
            Some(kept) if kept.last.bits() >= generation.bits() => Err(SegmentError::Contradiction),
            kept => Ok(kept.map(|kept| kept.segment)),
        }
    }
}

impl<const N: usize> Adopted<'_, N> {
    /// The memory.
    pub const fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Which use this is.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The session is over at this end: says so to the other one, which may use the segment for the
    /// next, and keeps the mapping. The caller has stopped every access to it. To drop the value
    /// instead keeps nothing, and says nothing.
    pub fn retire(self) {
        let Self {
            pool,
            peer,
            segment,
            generation: last,
        } = self;
        let header = segment.header();
        if header.is_shared() {
            return;
        }
        let bytes = segment.layout().total_bytes();
        // On the shelf before the peer is told, as it may offer the segment at once.
        pool.shelf.put_and(
            Kept {
                peer,
                segment,
                last,
            },
            bytes,
            |kept| {
                // Only a peer that scribbles makes it stale.
                let _ = kept.segment.header().status(Side::Accepting).close(last);
            },
        );
    }
}
