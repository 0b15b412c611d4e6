//! Sockets of a shard.
//!
//! | module | what it holds |
//! |---|---|
//! | [`listener`], [`stream`], [`datagram`], [`unix`] | the types that programs use |
//! | [`kernel`] | how the kernel's sockets carry them |
//! | [`traits`] | the traits of `futures-io` and tokio for the streams |
//!
//! A stream is an enum of what can carry it (`ReadCarrier` and `WriteCarrier` in [`split`]): sessions on other stacks come in beside the
//! kernel's connections, and the rest does not change.

mod addr;
mod datagram;
mod kernel;
mod listener;
mod options;
mod split;
mod stream;
#[cfg(any(feature = "futures-io", feature = "tokio"))]
mod traits;
mod unix;

pub use datagram::{Datagram, UdpSocket};
pub use kernel::payload::Payload;
pub use listener::{ListenOptions, TcpListener};
pub use split::{ReadHalf, WriteHalf};
pub use stream::TcpStream;
pub use unix::{UnixListener, UnixStream};
