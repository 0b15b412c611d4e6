//! The traits that others expect of a stream: a shim over the halves' own methods.

#[cfg(feature = "futures-io")]
mod futures;
#[cfg(feature = "tokio")]
mod tokio;
