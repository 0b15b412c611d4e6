//! From a seed to a sequence.
//!
//! Random calls on random descriptors mostly fail with EBADF or ENOTCONN and show little. So the
//! generator keeps a [`Model`] of what the sequence has made so far and mostly chooses what is
//! likely to work on it; a share of the ops is aimed anywhere, and a share is plain nonsense. The
//! model may be wrong about a socket's state: that costs meaning, not correctness.

mod action;
mod choice;
mod model;
mod setup;
mod stray;

use self::model::Model;
use crate::op::{Elsewhere, Op, Sequence};
use crate::rng::Rng;

/// The sequence of a seed.
pub(crate) fn sequence(seed: u64) -> Sequence {
    let mut rng = Rng::new(seed);
    let theme = rng.weighted(&[
        (30, Theme::Tcp),
        (15, Theme::Udp),
        (15, Theme::Unix),
        (15, Theme::Readiness),
        (25, Theme::Mixed),
    ]);
    let mut builder = Builder {
        rng,
        model: Model::default(),
        ops: Vec::new(),
        theme,
    };
    builder.build();
    builder.ops
}

/// What a sequence is mostly about.
#[derive(Clone, Copy, PartialEq)]
enum Theme {
    Tcp,
    Udp,
    Unix,
    /// Descriptors are watched from early on: before connect and listen.
    Readiness,
    Mixed,
}

struct Builder {
    rng: Rng,
    model: Model,
    ops: Sequence,
    theme: Theme,
}

impl Builder {
    fn build(&mut self) {
        self.set_up();
        let length = 8 + self.rng.below(28);
        let moves_at = self.rng.chance(14).then(|| self.rng.below(length));
        for step in 0..length {
            if moves_at == Some(step) {
                let place = self.rng.weighted(&[
                    (5, Elsewhere::Thread),
                    (6, Elsewhere::Fork),
                    (2, Elsewhere::Exec),
                    (2, Elsewhere::Spawn),
                ]);
                self.ops.push(Op::Rest(place));
            }
            match self.rng.below(100) {
                0..8 => self.set_up(),
                8..12 => self.nonsense(),
                12..22 => self.anywhere(),
                _ => self.act(),
            }
        }
    }
}
