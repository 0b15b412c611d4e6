//! What the session knows at the moment of a question.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::c_int;

use super::scratch::Scratch;

/// What the session knows and the options do not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// AF_INET or AF_INET6.
    pub(crate) domain: c_int,
    /// The session's descriptor: its Unix socket has a cookie that no other socket has.
    pub(crate) descriptor: BorrowedFd<'a>,
    /// Whether this side has accepted the connection.
    pub(crate) accepted: bool,
    /// TCP's number of the state, as in TCP_INFO: 1 is established, 8 close-wait.
    pub(crate) state: u8,
    /// What SO_ERROR says. The caller clears it when that was asked.
    pub(crate) pending_error: c_int,
    /// This side's port.
    pub(crate) local_port: u16,
    /// The other side's address.
    pub(crate) peer: SocketAddr,
    /// Bytes that the program has sent.
    pub(crate) sent: u64,
    /// Bytes that the other side has sent and that have arrived.
    pub(crate) received: u64,
    /// Bytes that the program can receive now, up to the urgent mark.
    pub(crate) unread: u32,
    /// Bytes that the program has sent and that have not arrived (SIOCOUTQ).
    pub(crate) unacknowledged: u32,
    /// Those of them that have not been sent yet (SIOCOUTQNSD).
    pub(crate) unsent: u32,
    /// What SO_SNDBUF says if it was not set.
    pub(crate) send_buffer: u32,
    /// What SO_RCVBUF says if it was not set.
    pub(crate) receive_buffer: u32,
    /// What SO_RCVBUF of the other side said when the connection was made, or this side's: TCP's segments
    /// depend on it at first.
    pub(crate) peer_receive_buffer: u32,
    /// Whether the next byte is the urgent one (sockatmark(3)).
    pub(crate) at_mark: bool,
    /// Milliseconds since the program has last sent.
    pub(crate) since_sent_ms: u32,
    /// Milliseconds since something has last arrived.
    pub(crate) since_received_ms: u32,
}

/// TCP's states, as in include/net/tcp_states.h.
pub(super) mod state {
    pub(crate) const SYN_SENT: u8 = 2;
    pub(crate) const CLOSE: u8 = 7;
    pub(crate) const LISTEN: u8 = 10;
}

/// What the timestamp option takes of each segment.
pub(super) const TIMESTAMP_OPTION: u32 = 12;

impl Facts<'_> {
    /// The MTU of the path, which is the loopback device's: also to the host's other addresses.
    pub(super) fn path_mtu(&self) -> u32 {
        let mtu = loopback_mtu();
        if self.is_v4() { mtu.min(0xffff) } else { mtu }
    }

    /// The most that a segment of this path holds.
    pub(super) fn whole_mss(&self) -> u32 {
        self.mss_without_options().saturating_sub(TIMESTAMP_OPTION)
    }

    /// The most that this side sends in a segment: half of the window that it has seen at first, which
    /// grows with what it sends. `clamp` is what TCP_MAXSEG has said before there was a connection.
    pub(super) fn mss(&self, clamp: Option<u32>) -> u32 {
        let limit = self.mss_without_options();
        let limit = clamp.map_or(limit, |clamp| clamp.min(limit));
        let limit = limit.saturating_sub(TIMESTAMP_OPTION);
        if self.sent > u64::from(LARGEST_SYN_WINDOW) {
            limit
        } else {
            limit.min(self.first_window() / 2)
        }
    }

    /// The window that this side has seen when the connection was made: whole segments, and then in
    /// units of the window's scale.
    fn first_window(&self) -> u32 {
        let whole = self.whole_mss().max(1);
        let space = self.peer_receive_buffer / 2;
        let window = if space > whole {
            space / whole * whole
        } else {
            space
        };
        if self.accepted {
            window.next_multiple_of(WINDOW_UNIT)
        } else {
            window.min(LARGEST_SYN_WINDOW)
        }
    }

    /// TCP_WINDOW_CLAMP of a connection of which it was not set.
    pub(super) fn window_clamp(&self) -> u32 {
        reserve_segment(self.receive_buffer / 2, self.whole_mss())
    }

    fn mss_without_options(&self) -> u32 {
        path_mss(self.is_v4())
    }

    /// Whether segments would be IPv4's: also between two IPv6 sockets with mapped addresses.
    fn is_v4(&self) -> bool {
        match self.peer {
            SocketAddr::V4(_) => true,
            SocketAddr::V6(peer) => peer.ip().to_ipv4_mapped().is_some(),
        }
    }
}

/// The largest window that a SYN can say.
const LARGEST_SYN_WINDOW: u32 = 0xffff;

/// The unit of later windows, by the scale that TCP_INFO says.
const WINDOW_UNIT: u32 = 1 << 10;

/// What is left of a window when a segment is kept back, if it is more than two (`tcp_init_buffer_space`).
pub(super) fn reserve_segment(window: u32, mss: u32) -> u32 {
    if window > mss.saturating_mul(2) {
        (window - mss).max(2 * mss)
    } else {
        window
    }
}

/// The most that a segment over the loopback device holds, options of TCP's header included.
pub(super) fn path_mss(is_v4: bool) -> u32 {
    let mtu = loopback_mtu();
    if is_v4 {
        mtu.min(0xffff) - 40
    } else {
        mtu - 60
    }
}

/// The MTU of the loopback device, asked once.
fn loopback_mtu() -> u32 {
    static MTU: AtomicU32 = AtomicU32::new(0);
    /// What Linux gives it.
    const USUAL: u32 = 65_536;
    match MTU.load(Ordering::Relaxed) {
        0 => {
            let asked = Scratch::open(libc::AF_INET)
                .ok()
                .and_then(|scratch| scratch.loopback_mtu());
            let mtu = asked.filter(|mtu| *mtu >= 1_280).unwrap_or(USUAL);
            MTU.store(mtu, Ordering::Relaxed);
            mtu
        }
        known => known,
    }
}
