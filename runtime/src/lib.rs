//! DMM for those who watch and steer it: which processes are under it, what their sockets do, and
//! the policy they follow with its versions.
//!
//! | module | what it holds |
//! |---|---|
//! | [`control`] | processes, sockets and histograms, read without stopping anybody |
//! | [`policy_store`] | the live policy: applying, history, rollback |
//! | [`in_place`] | reading and writing in place, for programs under the preload |
//!
//! Everything here reads files that other processes write and believes none of them: a segment or a
//! history that makes no sense is an [`Error`] or is left out, and says so.

pub mod control;
mod error;
pub mod in_place;
mod places;
pub mod policy_store;

pub use error::Error;
pub use in_place::{InPlace, Part};
