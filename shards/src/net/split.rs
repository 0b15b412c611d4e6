//! The two halves of a stream, for tasks that read and write apart from each other.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::reactor::Lent;
use crate::reactor::fd::Fd;

use super::kernel::connection::{Receiver, Sender};
use super::kernel::payload::Payload;

/// The reading half of a stream. Dropping it ends receiving.
pub struct ReadHalf {
    carrier: ReadCarrier,
    /// The piece that the program reads from.
    current: Option<Lent>,
}

/// What carries a reading half. Sessions on other stacks become variants.
enum ReadCarrier {
    Kernel(Receiver),
}

/// The writing half of a stream. Dropping it ends the direction, after all that was written was sent.
pub struct WriteHalf {
    carrier: WriteCarrier,
}

/// What carries a writing half. Sessions on other stacks become variants.
enum WriteCarrier {
    Kernel(Sender),
}

pub(super) fn halves((receiver, sender): (Receiver, Sender)) -> (ReadHalf, WriteHalf) {
    let read = ReadHalf {
        carrier: ReadCarrier::Kernel(receiver),
        current: None,
    };
    let write = WriteHalf {
        carrier: WriteCarrier::Kernel(sender),
    };
    (read, write)
}

impl ReadHalf {
    /// Received bytes, where the kernel has put them; none at the end of the stream. They are there until
    /// they are [consumed](Self::consume).
    ///
    /// # Errors
    ///
    /// Those of recv(2).
    pub async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        poll_fn(|cx| self.poll_fill(cx)).await?;
        Ok(self.current.as_deref().unwrap_or_default())
    }

    /// Forgets the first `count` bytes of what [`fill_buf`](Self::fill_buf) has shown.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        if let Some(current) = &mut self.current {
            current.advance(count);
            if current.is_empty() {
                self.current = None;
            }
        }
    }

    /// The next piece of received bytes, to keep or to send on; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of recv(2).
    pub async fn read_piece(&mut self) -> io::Result<Option<Lent>> {
        poll_fn(|cx| self.poll_fill(cx)).await?;
        Ok(self.current.take())
    }

    /// Copies received bytes into `buffer` and tells how many; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of recv(2).
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    ///
    /// Those of recv(2); [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the stream ends before.
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(())
    }

    /// Waits for bytes, or the end of the stream.
    #[inline]
    pub(super) fn poll_fill(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.current.is_none() {
            let ReadCarrier::Kernel(receiver) = &self.carrier;
            self.current = ready!(receiver.poll_piece(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    pub(super) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_fill(cx))?;
        let there = self.buffered();
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        self.consume(count);
        Poll::Ready(Ok(count))
    }

    #[inline]
    pub(super) fn buffered(&self) -> &[u8] {
        self.current.as_deref().unwrap_or_default()
    }

    pub(super) fn socket(&self) -> &Rc<Fd> {
        let ReadCarrier::Kernel(receiver) = &self.carrier;
        receiver.socket()
    }
}

impl WriteHalf {
    /// Takes over as many of the bytes as there is room for. They leave at the end of the turn, together with
    /// what else is written in it.
    ///
    /// # Errors
    ///
    /// That of an earlier send(2).
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write(cx, bytes)).await
    }

    /// As [`write`](Self::write), of several pieces.
    ///
    /// # Errors
    ///
    /// That of an earlier send(2).
    pub async fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write_vectored(cx, slices)).await
    }

    /// Takes over all bytes.
    ///
    /// # Errors
    ///
    /// That of an earlier send(2).
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Takes over a payload without copying it, unless it is small.
    ///
    /// # Errors
    ///
    /// That of an earlier send(2).
    pub async fn send(&mut self, payload: impl Into<Payload>) -> io::Result<()> {
        let mut chunk = Some(payload.into().0);
        let WriteCarrier::Kernel(sender) = &self.carrier;
        Ok(poll_fn(|cx| sender.poll_send(cx, &mut chunk)).await?)
    }

    /// Waits until the kernel has all that was written.
    ///
    /// # Errors
    ///
    /// That of send(2).
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Flushes, and tells the peer that nothing follows (shutdown(2), `SHUT_WR`).
    ///
    /// # Errors
    ///
    /// Those of send(2) and shutdown(2).
    pub async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_close(cx)).await
    }

    #[inline]
    pub(super) fn poll_write(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let WriteCarrier::Kernel(sender) = &self.carrier;
        sender
            .poll_write(cx, std::iter::once(bytes))
            .map_err(Into::into)
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let WriteCarrier::Kernel(sender) = &self.carrier;
        let slices = slices.iter().map(|slice| &**slice);
        sender.poll_write(cx, slices).map_err(Into::into)
    }

    pub(super) fn poll_flush(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let WriteCarrier::Kernel(sender) = &self.carrier;
        sender.poll_flush(cx).map_err(Into::into)
    }

    pub(super) fn poll_close(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let WriteCarrier::Kernel(sender) = &self.carrier;
        sender.poll_close(cx).map_err(Into::into)
    }
}
