//! A message of fixed length and the descriptors that come with it, over a Unix stream socket.
//!
//! A short message is sent whole or not at all, and is received whole: the kernel keeps it in one
//! piece, and never reads past a piece that carries descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::offer::MAX_DESCRIPTORS;

/// Room for the descriptors of a message, as control data.
const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// What has come.
#[derive(Debug)]
pub struct Received {
    /// How many bytes; 0 if the other end has closed.
    pub len: usize,
    /// The descriptors, close-on-exec, in the order in which they were sent.
    pub descriptors: [Option<OwnedFd>; MAX_DESCRIPTORS],
    /// How many there are.
    pub count: usize,
    /// More were sent than [`MAX_DESCRIPTORS`]: the others are lost.
    pub too_many: bool,
}

/// Sends bytes with at most [`MAX_DESCRIPTORS`] descriptors, without waiting and without `SIGPIPE`.
///
/// # Errors
///
/// Those of sendmsg(2); `E2BIG` for too many descriptors; `AGAIN` also if not all was taken, which a
/// new connection does not do to a short message.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(Errno::TOOBIG);
    }
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags)
    })?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(Errno::AGAIN)
    }
}

/// Receives at most `buffer.len()` bytes and what descriptors come with them, without waiting.
///
/// # Errors
///
/// Those of recvmsg(2): `AGAIN` if nothing has come yet. `MFILE` if the process has no numbers left
/// for the descriptors: nothing is lost then, as the message is looked at before it is taken.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let socket = socket.as_fd();
    let received = look(socket, buffer)?;
    if received.len > 0 {
        // The descriptors that are with it are dropped by the kernel: we have others for the same files.
        let taken = &mut buffer[..received.len];
        rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut *taken, RecvFlags::DONTWAIT))?;
    }
    Ok(received)
}

fn look(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    // What is not taken out of it is closed when it is dropped.
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(buffer)];
        rustix::net::recvmsg(socket, &mut parts, &mut control, flags)
    })?;
    let mut received = Received {
        len: message.bytes,
        descriptors: [const { None }; MAX_DESCRIPTORS],
        count: 0,
        too_many: false,
    };
    for message in control.drain() {
        let RecvAncillaryMessage::ScmRights(descriptors) = message else {
            continue;
        };
        for descriptor in descriptors {
            match received.descriptors.get_mut(received.count) {
                Some(place) => {
                    *place = Some(descriptor);
                    received.count += 1;
                }
                None => received.too_many = true,
            }
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        if received.count < MAX_DESCRIPTORS {
            return Err(Errno::MFILE);
        }
        received.too_many = true;
    }
    Ok(received)
}
