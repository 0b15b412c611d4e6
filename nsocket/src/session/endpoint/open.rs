//! From an offer to an endpoint: the connecting and the accepting side.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicPtr};

use super::{ACCEPT_POOL, BoardSlot, CONNECT_POOL, Endpoint, Lease, Words};
use crate::session::board::{Board, InUse, PeerBoard, PeerBoards};
use crate::session::lock::Identity;
use crate::session::rendezvous::{
    Accepted, Answer, AnswerError, Attached, Attachments, Cookie, Credentials, DialError, Dialed,
    Listener, Offer,
};
use crate::session::segment::{Layout, SegmentError, Side};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The boards of all peers of this process.
static PEERS: PeerBoards = PeerBoards::new();

/// Which boards have been seen behind which listener.
static KNOWN: [Known; 16] = [const { Known::new() }; 16];

/// Why there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The other side is not there, or not the right one.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No memory can be shared.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

/// What a session is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Who is to accept it.
    pub listener: &'a Listener,
    /// What the other side's getpeername(2) shall say.
    pub from: SocketAddr,
    /// What the other side's getsockname(2) shall say.
    pub to: SocketAddr,
    /// Bytes that the rings hold at least: to the accepting side, to this one.
    pub capacities: (usize, usize),
    /// Where this process wants to be told.
    pub board: Option<&'a Board>,
}

impl Opening<'_> {
    /// Opens the session. It stands when this returns, as a TCP connection does that is in the accept
    /// queue. The socket is non-blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]: nothing has come of it, and nothing is left.
    pub fn open(&self) -> Result<(OwnedFd, Endpoint), OpenError> {
        let layout = Layout::at_least(self.capacities.0, self.capacities.1);
        let cookie = self.listener.cookie;
        // Before the connection, if it takes no time: whoever accepts is woken by that, and should find
        // the offer there. A new one only for somebody who is there.
        let kept = CONNECT_POOL.prepare_kept(cookie, layout);
        let dialed = Dialed::listener(self.listener)?;
        let peer = dialed.peer();
        let mut prepared = match kept {
            Some(kept) => kept,
            None => CONNECT_POOL.prepare(cookie, layout)?,
        };
        let board = self.board.filter(|_| is_same_user(peer));
        let files = board.map(Board::files);
        let mut offer = Offer {
            protocol: libc::IPPROTO_TCP as u8,
            layout: prepared.segment().layout(),
            generation: prepared.generation(),
            attachments: Attachments {
                doorbell: false,
                waiter_page: board.is_some(),
                ready_set: board.is_some(),
            },
            from: self.from,
            to: self.to,
            board: board.map_or(0, Board::number),
            known: [0; 2],
        };
        for (place, number) in offer.known.iter_mut().zip(known_behind(cookie, peer)) {
            *place = number;
        }
        let file = prepared.file().ok_or(SegmentError::System {
            call: "memfd",
            errno: rustix::io::Errno::BADF,
        })?;
        let socket = dialed.offer(&offer, file, files.as_ref().map_or(&[], |files| files))?;
        prepared.offered();
        let generation = prepared.generation();
        let lease = Lease::Connecting(prepared);
        let endpoint = Endpoint::new(lease, Side::Connecting, generation, peer, cookie);
        Ok((socket, endpoint))
    }
}

impl Endpoint {
    /// Takes a session that was offered.
    ///
    /// # Errors
    ///
    /// [`SegmentError`]: the peer has offered something else than a segment, or there is no memory.
    /// The peer sees the connection closed.
    pub fn accept(
        accepted: Accepted,
        board: Option<&Board>,
    ) -> Result<(OwnedFd, Self), SegmentError> {
        let Accepted {
            connection,
            offer,
            peer,
            segment,
            attached,
        } = accepted;
        let adopted = ACCEPT_POOL.adopt(peer, &segment, offer.layout, offer.generation)?;
        let lease = Lease::Accepting(adopted);
        let endpoint = Self::new(lease, Side::Accepting, offer.generation, peer, Cookie(0));
        if is_same_user(peer) {
            endpoint.know(offer.board, attached);
            if let Some(board) = board
                && !offer.known.contains(&board.number())
            {
                let answer = Answer {
                    attachments: Attachments {
                        doorbell: false,
                        waiter_page: true,
                        ready_set: true,
                    },
                    board: board.number(),
                };
                // Without it the peer rings for each event by the socket.
                let _ = answer.send(&connection, &board.files());
            }
        }
        // Only a peer that scribbles makes it stale.
        let _ = endpoint
            .header()
            .status(Side::Accepting)
            .answer(offer.generation);
        Ok((connection, endpoint))
    }

    fn new(
        lease: Lease,
        side: Side,
        generation: crate::session::segment::Generation,
        peer: Credentials,
        listener: Cookie,
    ) -> Self {
        Self {
            lease,
            side,
            generation,
            peer,
            listener,
            flags: AtomicU32::new(0),
            error: AtomicI32::new(0),
            shared: AtomicPtr::new(null_mut()),
            own: Words::default(),
            maker: Identity::incarnation().unwrap_or(0),
            board: BoardSlot::new(),
        }
    }

    /// Whether a record is the answer of the accepting side.
    pub(super) fn is_answer(&self, record: &[u8]) -> bool {
        self.side == Side::Connecting && Answer::decode(record).is_ok()
    }

    /// The peer wants to be told on its board: finds it, or takes it out of the answer that has come.
    #[cold]
    pub(super) fn learn_board(&self, socket: BorrowedFd<'_>) {
        let number = self
            .header()
            .board(self.side.other())
            .load(Ordering::Acquire);
        if self.board.get().is_none()
            && let Some(known) = PEERS.find(number, self.peer)
        {
            self.board.set(known);
        }
        if self.side == Side::Accepting {
            return;
        }
        // Whether or not it is needed: nobody else takes it out of the socket.
        if !is_next(socket) {
            return;
        }
        match Answer::receive(socket) {
            Ok((answer, attached)) => self.know(answer.board, attached),
            Err(
                AnswerError::WouldBlock
                | AnswerError::Left
                | AnswerError::Malformed
                | AnswerError::Descriptors { .. }
                | AnswerError::System(_),
            ) => {}
        }
    }

    /// A peer has sent its board.
    fn know(&self, number: u64, attached: Attached) {
        let (Some(page), Some(sets)) = (attached.waiter_page, attached.ready_set) else {
            return;
        };
        if number == 0 || !is_same_user(self.peer) {
            return;
        }
        // A board that is none, or for which there is no room: the peer is rung by the socket.
        if let Ok(Some(board)) = PEERS.adopt(number, self.peer, page.as_fd(), sets.as_fd()) {
            self.board.set(board);
            if self.side == Side::Connecting {
                remember(self.listener, number);
            }
        }
    }
}

impl BoardSlot {
    const UNKNOWN: u32 = 0;
    const BUSY: u32 = 1;
    const KNOWN: u32 = 2;

    const fn new() -> Self {
        Self {
            state: AtomicU32::new(Self::UNKNOWN),
            board: std::cell::UnsafeCell::new(None),
        }
    }

    #[inline]
    pub(super) fn get(&self) -> Option<&PeerBoard> {
        if self.state.load(Ordering::Acquire) != Self::KNOWN {
            return None;
        }
        // SAFETY: in this state nobody writes it any more.
        unsafe { &*self.board.get() }.as_ref().map(InUse::board)
    }

    /// Sets it, unless somebody else has.
    fn set(&self, board: InUse) {
        if self
            .state
            .compare_exchange(
                Self::UNKNOWN,
                Self::BUSY,
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .is_ok()
        {
            // SAFETY: BUSY makes this thread the only one to touch it.
            unsafe { *self.board.get() = Some(board) };
            self.state.store(Self::KNOWN, Ordering::Release);
        }
    }
}

struct Known {
    cookie: AtomicU64,
    board: AtomicU64,
}

impl Known {
    const fn new() -> Self {
        Self {
            cookie: AtomicU64::new(0),
            board: AtomicU64::new(0),
        }
    }
}

/// Boards that are known behind a listener. A pair that two threads have mixed up is a claim to know a
/// board that is not found later: it costs speed, nothing else.
fn known_behind(listener: Cookie, peer: Credentials) -> impl Iterator<Item = u64> {
    KNOWN
        .iter()
        .filter(move |known| known.cookie.load(Ordering::Relaxed) == listener.0)
        .map(|known| known.board.load(Ordering::Relaxed))
        .filter(move |number| PEERS.find(*number, peer).is_some())
}

fn remember(listener: Cookie, board: u64) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let there = KNOWN.iter().any(|known| {
        known.cookie.load(Ordering::Relaxed) == listener.0
            && known.board.load(Ordering::Relaxed) == board
    });
    if !there {
        let at = NEXT.fetch_add(1, Ordering::Relaxed) as usize % KNOWN.len();
        KNOWN[at].cookie.store(listener.0, Ordering::Relaxed);
        KNOWN[at].board.store(board, Ordering::Relaxed);
    }
}

/// Peers of one user share boards: they could stop or trace each other anyway.
fn is_same_user(peer: Credentials) -> bool {
    peer.uid == rustix::process::geteuid().as_raw()
}

/// Whether the next record in the socket is an answer.
fn is_next(socket: BorrowedFd<'_>) -> bool {
    use rustix::net::RecvFlags;
    let mut record = [0; 64];
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK | RecvFlags::TRUNC;
    match rustix::net::recv(socket, &mut record, flags) {
        Ok((_, len)) => Answer::decode(&record[..len.min(64)]).is_ok(),
        Err(_) => false,
    }
}
