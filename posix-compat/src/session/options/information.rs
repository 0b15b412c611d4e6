//! TCP_INFO and SO_MEMINFO of a session.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Facts;
use super::scratch::Scratch;

/// As much of `struct tcp_info` (include/uapi/linux/tcp.h) as there is by Linux 6.18. It only grows.
const LENGTH: usize = 280;

/// What shared memory cannot have is 0: retransmissions, losses, reordering. It has no segments either:
/// where they are counted, there are as many as would be full.
pub(super) fn tcp_info(facts: &Facts<'_>, mss: u32) -> ([u8; LENGTH], usize) {
    let acknowledged = facts.sent.saturating_sub(u64::from(facts.unacknowledged));
    let segments = |bytes: u64| bytes.div_ceil(u64::from(mss.max(1))) as u32;
    let mut info = Fields {
        bytes: [0; LENGTH],
        at: 0,
    };
    // state, ca_state, retransmits, probes, backoff, options, both window scales, flags
    info.u8s(&[facts.state, 0, 0, 0, 0, OPTIONS, WINDOW_SCALES, 1]);
    info.u32s(&[200_000, 40_000, mss, mss]); // rto, ato, snd_mss, rcv_mss
    info.u32s(&[segments(facts.unacknowledged.into()), 0, 0, 0, 0]); // unacked ... fackets
    info.u32s(&[facts.since_sent_ms, 0]); // last_data_sent, last_ack_sent
    info.u32s(&[facts.since_received_ms, facts.since_sent_ms]); // last_data_recv, last_ack_recv
    info.u32s(&[facts.path_mtu(), facts.receive_buffer / 2]); // pmtu, rcv_ssthresh
    info.u32s(&[ROUND_TRIP_US, ROUND_TRIP_US / 2]); // rtt, rttvar
    info.u32s(&[i32::MAX as u32, 10]); // snd_ssthresh, snd_cwnd
    info.u32s(&[facts.whole_mss(), 3]); // advmss, reordering
    info.u32s(&[0, facts.receive_buffer / 2, 0]); // rcv_rtt, rcv_space, total_retrans
    info.u64s(&[u64::MAX, u64::MAX]); // pacing_rate, max_pacing_rate
    info.u64s(&[acknowledged, facts.received]); // bytes_acked, bytes_received
    info.u32s(&[segments(facts.sent), segments(facts.received)]); // segs_out, segs_in
    info.u32s(&[facts.unsent, ROUND_TRIP_US]); // notsent_bytes, min_rtt
    info.u32s(&[segments(facts.received), segments(facts.sent)]); // data_segs_in, data_segs_out
    info.u64s(&[0, 0, 0, 0]); // delivery_rate, busy_time, rwnd_limited, sndbuf_limited
    info.u32s(&[segments(acknowledged), 0]); // delivered, delivered_ce
    info.u64s(&[facts.sent, 0]); // bytes_sent, bytes_retrans
    info.u32s(&[0, 0, 0]); // dsack_dups, reord_seen, rcv_ooopack
    info.u32s(&[facts.send_buffer / 2, facts.receive_buffer / 2]); // snd_wnd, rcv_wnd
    (info.bytes, length())
}

/// SO_MEMINFO: what is in the buffers, and how large they are.
pub(super) fn memory(facts: &Facts<'_>, send_buffer: u32, receive_buffer: u32) -> [u8; 36] {
    let fields = [
        facts.unread,
        receive_buffer,
        0, // what the device has
        send_buffer,
        0, // reserved
        facts.unacknowledged,
        0, // of options
        0, // the backlog
        0, // drops
    ];
    let mut bytes = [0; 36];
    for (at, field) in bytes.chunks_exact_mut(4).zip(fields) {
        at.copy_from_slice(&field.to_ne_bytes());
    }
    bytes
}

/// TCPI_OPT_TIMESTAMPS, TCPI_OPT_SACK and TCPI_OPT_WSCALE.
const OPTIONS: u8 = 7;

/// Ten bits either way.
const WINDOW_SCALES: u8 = 0xaa;

/// The shortest that TCP can say.
const ROUND_TRIP_US: u32 = 1;

/// How much of the struct this machine's kernel knows.
fn length() -> usize {
    static KNOWN: AtomicU32 = AtomicU32::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let mut info = [0; LENGTH];
            let length = Scratch::open(libc::AF_INET)
                .and_then(|scratch| scratch.get(libc::IPPROTO_TCP, libc::TCP_INFO, &mut info))
                .unwrap_or(LENGTH);
            KNOWN.store(length as u32, Ordering::Relaxed);
            length.min(LENGTH)
        }
        known => (known as usize).min(LENGTH),
    }
}

/// Fields, one after the other.
struct Fields {
    bytes: [u8; LENGTH],
    at: usize,
}

impl Fields {
    fn u8s(&mut self, fields: &[u8]) {
        self.bytes[self.at..self.at + fields.len()].copy_from_slice(fields);
        self.at += fields.len();
    }

    fn u32s(&mut self, fields: &[u32]) {
        for field in fields {
            self.u8s(&field.to_ne_bytes());
        }
    }

    fn u64s(&mut self, fields: &[u64]) {
        for field in fields {
            self.u8s(&field.to_ne_bytes());
        }
    }
}
