//! io_uring: whether this user may have a ring, and which of its features the shards can count on.
//!
//! The library's opcode probe does not tell the features that came as flags of an old opcode, so those
//! are tried: a ring of provided buffers is registered, and a multishot receive is let run.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};

use super::{Check, read_number};
use crate::plain;

/// Entries of the rings made here.
const ENTRIES: u32 = 8;

pub(super) fn checks() -> Vec<Check> {
    let setup = setup();
    let Ok(ring) = IoUring::new(ENTRIES) else {
        return vec![setup];
    };
    vec![
        setup,
        issuer(),
        opcodes(&ring),
        buffers(),
        multishot(),
        fast_poll(&ring),
    ]
}

fn setup() -> Check {
    const ID: &str = "io-uring";
    const FOR: &str = "the native runtime's kernel path; dmm run and the preload do without";
    match IoUring::new(ENTRIES) {
        Ok(_) => Check::ok(ID, FOR, "a ring can be set up"),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Check::missing(
            ID,
            FOR,
            "not in this kernel, or filtered by seccomp (containers do that)",
        ),
        Err(error) => {
            let check = Check::missing(ID, FOR, format!("io_uring_setup: {}", plain(&error)));
            match read_number("/proc/sys/kernel/io_uring_disabled") {
                Some(1..) => check.fix("sudo sysctl kernel.io_uring_disabled=0"),
                _ if error.raw_os_error() == Some(libc::EPERM) => check
                    .fix("a seccomp profile that allows io_uring (containers usually forbid it)"),
                _ => check,
            }
        }
    }
}

fn issuer() -> Check {
    const ID: &str = "io-uring-defer-taskrun";
    const FOR: &str = "completions run when the shard asks for them, not in between (6.1)";
    let ring = IoUring::<squeue::Entry, cqueue::Entry>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(ENTRIES);
    match ring {
        Ok(ring) if ring.params().is_setup_single_issuer() => {
            Check::ok(ID, FOR, "SINGLE_ISSUER and DEFER_TASKRUN")
        }
        Ok(_) => Check::limited(ID, FOR, "accepted without effect"),
        Err(error) => Check::limited(
            ID,
            FOR,
            format!("SINGLE_ISSUER|DEFER_TASKRUN: {}", plain(&error)),
        ),
    }
}

fn opcodes(ring: &IoUring) -> Check {
    const ID: &str = "io-uring-opcodes";
    const FOR: &str = "zero-copy sends (6.0), waking other shards (5.18), cancelling (5.19)";
    const WANTED: [(&str, u8); 8] = [
        ("ACCEPT", opcode::Accept::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SEND", opcode::Send::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("MSG_RING", opcode::MsgRingData::CODE),
        ("SEND_ZC", opcode::SendZc::CODE),
        ("SENDMSG_ZC", opcode::SendMsgZc::CODE),
    ];
    let mut probe = Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut probe) {
        return Check::missing(ID, FOR, format!("IORING_REGISTER_PROBE: {}", plain(&error)));
    }
    let (there, absent): (Vec<_>, Vec<_>) = WANTED
        .into_iter()
        .partition(|(_, code)| probe.is_supported(*code));
    let names = |of: &[(&str, u8)]| {
        of.iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(" ")
    };
    if absent.is_empty() {
        Check::ok(ID, FOR, names(&there))
    } else {
        Check::limited(ID, FOR, format!("without {}", names(&absent)))
    }
}

fn fast_poll(ring: &IoUring) -> Check {
    const ID: &str = "io-uring-features";
    const FOR: &str = "sockets that are not ready cost no kernel thread (5.7); timed waits (5.11)";
    let params = ring.params();
    let mut features = Vec::new();
    for (name, has) in [
        ("FAST_POLL", params.is_feature_fast_poll()),
        ("EXT_ARG", params.is_feature_ext_arg()),
        ("NODROP", params.is_feature_nodrop()),
        ("RECVSEND_BUNDLE", params.is_feature_recvsend_bundle()),
    ] {
        if has {
            features.push(name);
        }
    }
    if params.is_feature_fast_poll() && params.is_feature_ext_arg() {
        Check::ok(ID, FOR, features.join(" "))
    } else {
        Check::limited(ID, FOR, features.join(" "))
    }
}

fn buffers() -> Check {
    const ID: &str = "io-uring-buffer-rings";
    const FOR: &str = "the kernel picks a receive buffer when data is there (5.19)";
    match Receiver::new() {
        Ok(_) => Check::ok(ID, FOR, "a ring of provided buffers can be registered"),
        Err(error) => Check::limited(
            ID,
            FOR,
            format!("IORING_REGISTER_PBUF_RING: {}", plain(&error)),
        ),
    }
}

fn multishot() -> Check {
    const ID: &str = "io-uring-multishot";
    const FOR: &str = "one submission for many receives (6.0)";
    match Receiver::new().and_then(|mut receiver| receiver.receives_repeatedly()) {
        Ok(true) => Check::ok(ID, FOR, "a multishot receive stays armed"),
        Ok(false) => Check::limited(ID, FOR, "a multishot receive ended after one shot"),
        Err(error) => Check::limited(ID, FOR, format!("multishot receive: {}", plain(&error))),
    }
}

/// Bytes of one provided buffer.
const BUFFER: usize = 64;
/// Number of provided buffers, a power of two.
const BUFFERS: u16 = 4;
/// The group's name.
const GROUP: u16 = 0;

/// What the kernel reads and writes. Page-aligned, as a buffer ring has to be.
#[repr(C, align(4096))]
struct Area {
    ring: [u8; 4096],
    data: [[u8; BUFFER]; BUFFERS as usize],
}

/// A ring with a group of provided buffers. The order of the fields is the order in which they are
/// dropped: the kernel lets go of the area when the ring is closed.
struct Receiver {
    ring: IoUring,
    area: Box<Area>,
}

impl Receiver {
    fn new() -> io::Result<Self> {
        let mut receiver = Self {
            ring: IoUring::new(ENTRIES)?,
            area: Box::new(Area {
                ring: [0; 4096],
                data: [[0; BUFFER]; BUFFERS as usize],
            }),
        };
        let ring: *mut types::BufRingEntry = receiver.area.ring.as_mut_ptr().cast();
        // SAFETY: the area is page-aligned, has room for the entries, and is boxed: it stays in its
        // place until after `ring` is dropped.
        unsafe {
            receiver.ring.submitter().register_buf_ring_with_flags(
                ring as u64,
                BUFFERS,
                GROUP,
                0,
            )?;
        }
        for (i, buffer) in receiver.area.data.iter_mut().enumerate() {
            // SAFETY: `i` is below BUFFERS, so the entry is inside the area; the kernel looks at it
            // only when the tail has passed it.
            let entry = unsafe { &mut *ring.add(i) };
            entry.set_addr(buffer.as_mut_ptr() as u64);
            entry.set_len(BUFFER as u32);
            entry.set_bid(i as u16);
        }
        // SAFETY: `ring` is the first entry, and the tail that it holds is read by the kernel as an
        // aligned 16-bit number; AtomicU16 has the same layout.
        let tail = unsafe { &*types::BufRingEntry::tail(ring).cast::<AtomicU16>() };
        tail.store(BUFFERS, Ordering::Release);
        Ok(receiver)
    }

    /// Whether a multishot receive that has delivered something says that it will deliver more.
    fn receives_repeatedly(&mut self) -> io::Result<bool> {
        let (mut near, far) = UnixStream::pair()?;
        let receive = opcode::RecvMulti::new(types::Fd(far.as_raw_fd()), GROUP).build();
        // SAFETY: the entry names a descriptor that outlives the ring's use of it, as cancelling is the
        // ring's end, and buffers that live as long as the ring.
        unsafe { self.ring.submission().push(&receive) }.map_err(io::Error::other)?;
        near.write_all(b"x")?;
        self.ring.submit_and_wait(1)?;
        let Some(first) = self.ring.completion().next() else {
            return Err(io::Error::other("no completion"));
        };
        if first.result() < 0 {
            return Err(io::Error::from_raw_os_error(-first.result()));
        }
        Ok(first.result() == 1 && cqueue::more(first.flags()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::State;

    #[test]
    fn what_the_probe_says_agrees_with_the_kernel() {
        let checks = checks();
        assert_eq!(checks[0].id, "io-uring");
        // Where there is no ring (a container), there is nothing more to say.
        if checks[0].state == State::Missing {
            assert_eq!(checks.len(), 1);
            return;
        }
        assert_eq!(checks.len(), 6);
        for check in checks {
            assert!(!check.found.is_empty(), "{check:?}");
        }
    }
}
