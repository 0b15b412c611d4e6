//! Files: read and written by the ring, or by the pool of threads where there is none.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::blocking::offload;
use crate::reactor::once::Once;
use crate::reactor::request::Request;
use crate::reactor::{DriverKind, Reactor};
use crate::shard::current;

/// An open file of the current shard. There is no position: each call says where.
///
/// Buffers are given by value and come back with the result, since the kernel uses them even when the
/// future is dropped.
pub struct File {
    reactor: Rc<Reactor>,
    file: Arc<std::fs::File>,
}

impl File {
    /// Opens for reading.
    ///
    /// # Errors
    ///
    /// Those of open(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_with(OpenOptions::new().read(true), path).await
    }

    /// Opens for writing; makes the file or empties it.
    ///
    /// # Errors
    ///
    /// Those of open(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        Self::open_with(options.write(true).create(true).truncate(true), path).await
    }

    /// Opens as `options` say.
    ///
    /// # Errors
    ///
    /// Those of open(2).
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn open_with(options: &OpenOptions, path: impl AsRef<Path>) -> io::Result<Self> {
        let (options, path) = (options.clone(), path.as_ref().to_path_buf());
        // Looking names up may block, in the ring as well, which would start a thread for it too.
        let file = offload(move || options.open(path)).await?;
        Ok(Self::from_std(file))
    }

    /// Takes a file over.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub fn from_std(file: std::fs::File) -> Self {
        Self {
            reactor: Rc::clone(current().reactor()),
            file: Arc::new(file),
        }
    }

    /// Reads up to the capacity of `buffer` at `offset`, replacing its content. The end of the file gives an
    /// empty buffer.
    ///
    /// # Errors
    ///
    /// Those of pread(2).
    pub async fn read_at(&self, mut buffer: Vec<u8>, offset: u64) -> (io::Result<()>, Vec<u8>) {
        buffer.clear();
        if !self.by_ring() {
            let file = Arc::clone(&self.file);
            return offload(move || {
                buffer.resize(buffer.capacity(), 0);
                let read = file.read_at(&mut buffer, offset);
                buffer.truncate(*read.as_ref().unwrap_or(&0));
                (read.map(|_| ()), buffer)
            })
            .await;
        }
        let payload = (Arc::clone(&self.file), buffer);
        // SAFETY: the request points into the payload's vector, which stays as it is until it is given back,
        // and the payload keeps the file open.
        let read = unsafe {
            Once::start(&self.reactor, payload, |(file, buffer)| Request::Read {
                file: file.as_raw_fd(),
                data: buffer.as_mut_ptr(),
                len: length(buffer.capacity()),
                offset,
            })
        };
        let (result, (_, mut buffer)) = read.await;
        if let Ok(count) = result {
            // SAFETY: the kernel has written so many bytes, at most the capacity.
            unsafe { buffer.set_len(count as usize) };
        }
        (result.map(|_| ()).map_err(Into::into), buffer)
    }

    /// Writes from `buffer` at `offset`, and tells how much.
    ///
    /// # Errors
    ///
    /// Those of pwrite(2).
    pub async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> (io::Result<usize>, Vec<u8>) {
        if !self.by_ring() {
            let file = Arc::clone(&self.file);
            return offload(move || (file.write_at(&buffer, offset), buffer)).await;
        }
        let payload = (Arc::clone(&self.file), buffer);
        // SAFETY: as in `read_at`.
        let written = unsafe {
            Once::start(&self.reactor, payload, |(file, buffer)| Request::Write {
                file: file.as_raw_fd(),
                data: buffer.as_ptr(),
                len: length(buffer.len()),
                offset,
            })
        };
        let (result, (_, buffer)) = written.await;
        (
            result.map(|count| count as usize).map_err(Into::into),
            buffer,
        )
    }

    /// Writes all of `buffer` at `offset`.
    ///
    /// # Errors
    ///
    /// Those of pwrite(2); [`WriteZero`](io::ErrorKind::WriteZero) if the file takes no more.
    pub async fn write_all_at(&self, mut buffer: Vec<u8>, mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            let (written, mut back) = self.write_at(buffer, offset).await;
            match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => {
                    back.drain(..count);
                    offset += count as u64;
                }
            }
            buffer = back;
        }
        Ok(())
    }

    /// Waits until the file's content and what is known of it are on the device (fsync(2)).
    ///
    /// # Errors
    ///
    /// Those of fsync(2).
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(false).await
    }

    /// As [`sync_all`](Self::sync_all), without what is not needed to read it again (fdatasync(2)).
    ///
    /// # Errors
    ///
    /// Those of fdatasync(2).
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(true).await
    }

    async fn sync(&self, data_only: bool) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        if !self.by_ring() {
            let sync = move || {
                if data_only {
                    file.sync_data()
                } else {
                    file.sync_all()
                }
            };
            return offload(sync).await;
        }
        // SAFETY: the request points at nothing, and the payload keeps the file open.
        let synced = unsafe {
            Once::start(&self.reactor, file, |file| Request::Sync {
                file: file.as_raw_fd(),
                data_only,
            })
        };
        synced.await.0?;
        Ok(())
    }

    fn by_ring(&self) -> bool {
        self.reactor.features().driver() == DriverKind::IoUring
    }
}

/// For what is not here: its length, its times.
impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Waits until `fd` is ready for one of `events` (poll(2): `POLLIN`, `POLLOUT`), and tells for which. For
/// descriptors that nothing else here is made for.
///
/// # Errors
///
/// Those of poll(2), and of epoll_ctl(2): files are always ready, and have no readiness to wait for.
///
/// # Panics
///
/// Outside of a shard.
pub async fn ready(fd: &Rc<OwnedFd>, events: u32) -> io::Result<u32> {
    let local = current();
    let payload = Rc::clone(fd);
    // SAFETY: the request points at nothing, and the payload keeps the descriptor open.
    let polled = unsafe {
        Once::start(local.reactor(), payload, |fd| Request::Poll {
            fd: fd.as_raw_fd(),
            events,
        })
    };
    Ok(polled.await.0?)
}

/// The kernel takes up to 2 GiB in one call.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX).min(0x7fff_f000)
}
