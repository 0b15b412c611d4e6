//! The kernel's sockets.
//!
//! | module | what it holds |
//! |---|---|
//! | [`inbound`] | receiving: one request, many pieces |
//! | [`outbound`] | sending: a turn's writes in one request |
//! | [`payload`] | what can be sent without a copy |
//! | [`acceptor`] | accepting: one request, many connections |
//! | [`connection`] | both directions of a connected stream |

pub(super) mod acceptor;
pub(super) mod connection;
pub(super) mod inbound;
pub(super) mod outbound;
pub(super) mod payload;
