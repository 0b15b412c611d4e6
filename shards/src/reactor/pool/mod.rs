//! Memory that is lent while data is there: provided buffers.
//!
//! A shard has one pool. The kernel (or the epoll driver) takes a buffer when bytes arrive, so that a
//! connection without data holds none. What was received is lent out as [`Lent`] pieces, which go
//! straight to the program; when the last piece of a buffer is dropped, the buffer is provided again.
//!
//! Buffers lie one cache line further apart than their size: at distances of whole pages all first
//! lines, which is all that small messages use, would compete for the same few sets of the caches.

mod lent;
mod memory;
mod ring;

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use memory::Region;
pub(crate) use ring::BufferRing;

pub use lent::Lent;

use super::request::Provided;

const LINE: usize = 64;

/// How many buffers, and of what size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// A power of two, at most 32768.
    pub(crate) buffers: u16,
    /// Bytes.
    pub(crate) size: u32,
}

/// The buffers of one shard.
#[derive(Debug)]
pub(crate) struct Pool {
    memory: Region,
    shape: Shape,
    buffers: Box<[Buffer]>,
    supply: Supply,
    /// Buffers that wait to be used.
    supplied: Cell<u32>,
}

#[derive(Debug, Default)]
struct Buffer {
    /// Who uses it: pieces, and the supply.
    users: Cell<u32>,
    /// How much of it has been filled so far, where that is done piece by piece.
    filled: Cell<u32>,
}

/// Where buffers wait to be used.
#[derive(Debug)]
enum Supply {
    /// In the kernel's hands.
    Ring(BufferRing),
    /// In ours; the last used is used next.
    List(RefCell<Vec<u16>>),
}

impl Pool {
    /// A pool that provides its buffers to the kernel.
    ///
    /// # Errors
    ///
    /// Those of mmap(2).
    pub(crate) fn with_ring(shape: Shape) -> io::Result<Rc<Self>> {
        Self::new(shape, Supply::Ring(BufferRing::new(shape.buffers)?))
    }

    /// A pool whose buffers are [taken](Self::take) one by one.
    ///
    /// # Errors
    ///
    /// Those of mmap(2).
    pub(crate) fn with_list(shape: Shape) -> io::Result<Rc<Self>> {
        Self::new(shape, Supply::List(RefCell::default()))
    }

    fn new(shape: Shape, supply: Supply) -> io::Result<Rc<Self>> {
        assert!(
            shape.buffers.is_power_of_two() && shape.size != 0,
            "a pool of {shape:?} cannot be made"
        );
        let count = usize::from(shape.buffers);
        let pool = Rc::new(Self {
            memory: Region::new(count * (shape.size as usize + LINE))?,
            shape,
            buffers: (0..count).map(|_| Buffer::default()).collect(),
            supply,
            supplied: Cell::new(0),
        });
        for buffer in 0..shape.buffers {
            pool.provide(buffer);
        }
        Ok(pool)
    }

    /// The ring to register, if the kernel takes the buffers.
    pub(crate) fn ring(&self) -> Option<&BufferRing> {
        match &self.supply {
            Supply::Ring(ring) => Some(ring),
            Supply::List(_) => None,
        }
    }

    /// Takes a buffer for a driver to fill, which then lends it out ([`lend`](Self::lend)) or gives it
    /// [back](Self::untake). `None` if there is none left.
    pub(crate) fn take(&self) -> Option<(u16, NonNull<u8>, u32)> {
        let Supply::List(free) = &self.supply else {
            return None;
        };
        let buffer = free.borrow_mut().pop()?;
        Some((buffer, self.address(buffer, 0), self.shape.size))
    }

    /// Gives back a buffer that was taken and not filled.
    pub(crate) fn untake(&self, buffer: u16) {
        if let Supply::List(free) = &self.supply {
            free.borrow_mut().push(buffer);
        }
    }

    /// Lends out what was received, in pieces where it is in several buffers.
    ///
    /// A description that cannot be true (it would come from the kernel) is cut to the pool's memory.
    pub(crate) fn lend(self: &Rc<Self>, provided: Provided, mut to: impl FnMut(Lent)) {
        let mut buffer = provided.buffer;
        let mut left = provided.len;
        for _ in 0..self.shape.buffers {
            let Some(state) = self.buffers.get(usize::from(buffer)) else {
                return;
            };
            let filled = state.filled.get();
            let len = left.min(self.shape.size - filled);
            left -= len;
            if len != 0 {
                state.users.set(state.users.get() + 1);
                to(Lent::provided(
                    Rc::clone(self),
                    buffer,
                    self.address(buffer, filled),
                    len,
                ));
            }
            if left == 0 && provided.unfinished {
                state.filled.set(filled + len);
            } else {
                self.supplied.set(self.supplied.get().saturating_sub(1));
                self.release(buffer);
            }
            if left == 0 {
                return;
            }
            let Supply::Ring(ring) = &self.supply else {
                return;
            };
            buffer = ring.after(buffer);
        }
    }

    /// Whether buffers are running out: less than a quarter waits to be used.
    pub(crate) fn is_short(&self) -> bool {
        self.supplied.get() < u32::from(self.shape.buffers) / 4
    }

    /// The size of a buffer, in bytes.
    #[inline]
    pub(crate) fn buffer_size(&self) -> usize {
        self.shape.size as usize
    }

    /// Whether a buffer waits to be used.
    pub(crate) fn has_supply(&self) -> bool {
        self.supplied.get() != 0
    }

    /// One user less; after the last one the buffer is provided again.
    fn release(&self, buffer: u16) {
        let users = &self.buffers[usize::from(buffer)].users;
        users.set(users.get() - 1);
        if users.get() == 0 {
            self.provide(buffer);
        }
    }

    fn provide(&self, buffer: u16) {
        let state = &self.buffers[usize::from(buffer)];
        state.users.set(1);
        state.filled.set(0);
        self.supplied.set(self.supplied.get() + 1);
        match &self.supply {
            Supply::Ring(ring) => {
                let address = self.address(buffer, 0).as_ptr() as u64;
                ring.provide(buffer, address, self.shape.size);
            }
            Supply::List(free) => free.borrow_mut().push(buffer),
        }
    }

    fn address(&self, buffer: u16, offset: u32) -> NonNull<u8> {
        let stride = self.shape.size as usize + LINE;
        self.memory
            .at(usize::from(buffer) * stride + offset as usize)
    }
}

#[cfg(test)]
mod tests;
