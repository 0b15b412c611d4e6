//! The message that the accepting side may send back, as bytes: how to wake it.
//!
//! ```text
//!   0  magic "DMMA"
//!   4  version, zero (3 bytes)
//!   8  attachments, a bit each
//!  12  number of the accepting side's board
//!  20  zero
//! ```
//!
//! It is the first thing on the connection in that direction, sent before the program gets to see its
//! descriptor, so that no stray byte can be in front of it, and before
//! [`Status::answer`](crate::session::segment::Status::answer), so that it has come when that is seen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::message;
use super::offer::{Attached, Attachments, MAX_DESCRIPTORS};

/// Length of an answer on the wire, in bytes.
pub const ANSWER_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"DMMA";
const VERSION: u8 = 1;

/// What the accepting side says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which descriptors come along.
    pub attachments: Attachments,
    /// The number of the accepting side's [board](crate::session::board), whose files come along.
    pub board: u64,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// It has not come yet.
    #[error("no answer has come yet")]
    WouldBlock,
    /// The accepting side has closed the connection.
    #[error("the accepting side has left")]
    Left,
    /// What has come is no answer of this version.
    #[error("what has come is no answer")]
    Malformed,
    /// The number of descriptors is not what the answer says.
    #[error("the answer announces {announced} descriptors, {found} came")]
    Descriptors {
        /// By the answer.
        announced: usize,
        /// That are there.
        found: usize,
    },
    /// A system call failed.
    #[error("the connection failed: {0}")]
    System(Errno),
}

impl Answer {
    /// As bytes.
    pub fn encode(&self) -> [u8; ANSWER_BYTES] {
        let mut bytes = [0; ANSWER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[8..12].copy_from_slice(&self.attachments.bits().to_le_bytes());
        bytes[12..20].copy_from_slice(&self.board.to_le_bytes());
        bytes
    }

    /// From bytes that anybody may have sent. There is one form for one answer.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, AnswerError> {
        let malformed = AnswerError::Malformed;
        let bytes: &[u8; ANSWER_BYTES] = bytes.try_into().map_err(|_| malformed)?;
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let answer = Self {
            attachments: Attachments::from_bits(word(8)).ok_or(malformed)?,
            board: u64::from(word(12)) | u64::from(word(16)) << 32,
        };
        if answer.encode() == *bytes {
            Ok(answer)
        } else {
            Err(malformed)
        }
    }

    /// Sends it, as the first thing on a connection that has been accepted. What is attached has the
    /// order of [`Attachments`].
    ///
    /// # Errors
    ///
    /// [`AnswerError::Left`], [`AnswerError::Descriptors`], [`AnswerError::System`].
    pub fn send(
        &self,
        connection: impl AsFd,
        attached: &[BorrowedFd<'_>],
    ) -> Result<(), AnswerError> {
        let (announced, found) = (self.attachments.count(), attached.len());
        if announced != found {
            return Err(AnswerError::Descriptors { announced, found });
        }
        match message::send(connection, &self.encode(), attached) {
            Err(Errno::PIPE | Errno::CONNRESET) => Err(AnswerError::Left),
            result => result.map_err(AnswerError::System),
        }
    }

    /// Receives it, as the first thing on a connection that an offer was made on, without waiting.
    ///
    /// # Errors
    ///
    /// See [`AnswerError`]. After `WouldBlock` and `System(MFILE)` it can be tried again.
    pub fn receive(connection: impl AsFd) -> Result<(Self, Attached), AnswerError> {
        let mut bytes = [0; ANSWER_BYTES];
        let received = message::receive(connection, &mut bytes).map_err(|errno| match errno {
            Errno::AGAIN => AnswerError::WouldBlock,
            Errno::CONNRESET => AnswerError::Left,
            errno => AnswerError::System(errno),
        })?;
        if received.len == 0 {
            return Err(AnswerError::Left);
        }
        let answer = Self::decode(&bytes[..received.len])?;
        let (announced, found) = (answer.attachments.count(), received.count);
        if announced != found || received.too_many {
            return Err(AnswerError::Descriptors { announced, found });
        }
        let mut descriptors: [Option<OwnedFd>; MAX_DESCRIPTORS] = received.descriptors;
        let mut descriptors = descriptors.iter_mut().filter_map(Option::take);
        let attached = answer.attachments.sort(&mut descriptors);
        Ok((answer, attached))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn answer() -> Answer {
        Answer {
            attachments: Attachments {
                doorbell: true,
                waiter_page: false,
                ready_set: true,
            },
            board: 6 << 32 | 5,
        }
    }

    #[test]
    fn an_answer_comes_back_with_its_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(
            Answer::receive(&theirs).err(),
            Some(AnswerError::WouldBlock)
        );
        let files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        let inode = |file: &dyn Fn() -> rustix::fs::Stat| file().st_ino;
        let descriptors = [files[0].as_fd(), files[1].as_fd()];
        answer().send(&ours, &descriptors).unwrap();
        rustix::io::write(&ours, b"stray").unwrap();
        let (received, attached) = Answer::receive(&theirs).unwrap();
        assert_eq!(received, answer());
        assert!(attached.waiter_page.is_none());
        for (file, got) in files.iter().zip([attached.doorbell, attached.ready_set]) {
            let got = got.unwrap();
            assert_eq!(
                inode(&|| rustix::fs::fstat(&got).unwrap()),
                inode(&|| rustix::fs::fstat(file).unwrap())
            );
        }
        let mut stray = [0; 9];
        assert_eq!(rustix::io::read(&theirs, &mut stray), Ok(5));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let receive = |bytes: &[u8], descriptors: &[BorrowedFd<'_>]| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            if !bytes.is_empty() {
                message::send(&ours, bytes, descriptors).unwrap();
            }
            drop(ours);
            Answer::receive(&theirs).map(|(answer, _)| answer)
        };
        let file = tempfile::tempfile().unwrap();
        let file = file.as_fd();
        let good = answer().encode();
        assert_eq!(receive(&good, &[file; 2]), Ok(answer()));
        assert_eq!(receive(&[], &[]), Err(AnswerError::Left));
        for found in [0, 1, 3, 4] {
            let announced = 2;
            assert_eq!(
                receive(&good, &[file; 4][..found]),
                Err(AnswerError::Descriptors { announced, found })
            );
        }
        for len in 1..ANSWER_BYTES {
            assert_eq!(receive(&good[..len], &[]), Err(AnswerError::Malformed));
        }
        for at in [0, 4, 5, 9, 31] {
            let mut bytes = good;
            bytes[at] = 9;
            assert_eq!(receive(&bytes, &[]), Err(AnswerError::Malformed), "{at}");
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(answer().send(&ours, &[file; 2]), Err(AnswerError::Left));
    }
}
