//! No kernel: the model checker's builds bring their own.

use crate::sync::AtomicU64;

use super::{Identity, Kernel};

/// There is none.
#[derive(Clone, Copy, Debug)]
pub enum Linux {}

impl Kernel for Linux {
    fn sleep(&self, _: &AtomicU64, _: u64, _: u32) -> bool {
        match *self {}
    }

    fn wake_one(&self, _: &AtomicU64) {
        match *self {}
    }

    fn is_dead(&self, _: Identity) -> bool {
        match *self {}
    }
}
