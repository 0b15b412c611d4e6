//! After a thousand sessions, whatever became of them, there are as many descriptors and mappings as
//! before, and nothing has been allocated. Alone in its file: it counts those of the whole process.

use std::alloc::{GlobalAlloc, System};
use std::cell::Cell;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use dmm_nsocket::session::pool::{AcceptPool, ConnectPool};
use dmm_nsocket::session::rendezvous::{
    AcceptError, Attachments, Cookie, Dialed, Listener, Name, Offer, Rendezvous, SentAway, message,
};
use dmm_nsocket::session::segment::{Generation, Layout};

/// The system's allocator, counting in the thread that runs the test.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: by the caller's word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: by the caller's word.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 1_000;
const POOL: usize = 4;

#[test]
fn nothing_is_left_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = Name::listener(Cookie::of(&listener).unwrap());
    let rendezvous = Rendezvous::listen(&name, 128).unwrap();
    let to = listener.local_addr().unwrap();
    let from = "127.0.0.1:40000".parse().unwrap();
    let connecting = ConnectPool::<POOL>::new(1 << 20);
    let accepting = AcceptPool::<POOL>::new(1 << 20);
    let pipe = rustix::pipe::pipe().unwrap();

    // The stalls of earlier rounds, whose peers have gone, come up first.
    let accept = || {
        loop {
            match rendezvous.accept(&mut |_| ()) {
                Err(AcceptError::SentAway(SentAway::Left)) => {}
                result => return result,
            }
        }
    };
    let round = |round: usize| {
        let found = Listener::find(from, to).unwrap();
        let dialed = Dialed::listener(&found).unwrap();
        let layout = Layout::at_least(1 << 14, 1 << (12 + round % 4));
        let mut prepared = connecting.prepare(found.cookie, layout).unwrap();
        let mut offer = Offer {
            protocol: libc::IPPROTO_TCP as u8,
            layout: prepared.segment().layout(),
            generation: prepared.generation(),
            attachments: Attachments {
                doorbell: true,
                ..Attachments::default()
            },
            from,
            to,
            board: 0,
            known: [0; 2],
        };
        let attached = [pipe.0.as_fd()];
        match round % 8 {
            // Honest, and closed in either order or not at all.
            0..4 => {
                let file = prepared.file().unwrap();
                let client = dialed.offer(&offer, file, &attached).unwrap();
                prepared.offered();
                let accepted = accept().unwrap();
                let adopted = accepting
                    .adopt(
                        accepted.peer,
                        &accepted.segment,
                        offer.layout,
                        offer.generation,
                    )
                    .unwrap();
                drop::<(OwnedFd, OwnedFd)>((client, accepted.connection));
                match round % 4 {
                    0 => (prepared.retire(), adopted.retire()).0,
                    1 => (adopted.retire(), prepared.retire()).1,
                    2 => prepared.retire(),
                    _ => adopted.retire(),
                }
            }
            // A generation that it does not have.
            4 => {
                offer.generation = Generation::from_bits(1 << 20).unwrap();
                let file = prepared.file().unwrap();
                let _client = dialed.offer(&offer, file, &attached).unwrap();
                let accepted = accept().unwrap();
                let adopted = accepting.adopt(
                    accepted.peer,
                    &accepted.segment,
                    offer.layout,
                    offer.generation,
                );
                assert!(adopted.is_err());
            }
            // Descriptors in the wrong number.
            5 => {
                let file = prepared.file().unwrap();
                message::send(&dialed, &offer.encode(), &[file; 4]).unwrap();
                assert!(accept().is_err());
            }
            // Garbage with descriptors.
            6 => {
                message::send(&dialed, b"garbage", &attached).unwrap();
                assert!(accept().is_err());
            }
            // A stall.
            _ => assert!(accept().is_err()),
        }
    };

    let state = |clear: bool| {
        if clear {
            connecting.clear();
            accepting.clear();
            rendezvous.after_fork_in_child();
        }
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mapped = maps.lines().filter(|l| l.contains("dmm-session")).count();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        (open, mapped)
    };

    (0..8).for_each(round);
    let before = state(true);
    let allocations = ALLOCATIONS.get();
    (0..ROUNDS).for_each(round);
    assert_eq!(ALLOCATIONS.get(), allocations);
    let (open, mapped) = state(false);
    assert!(open <= before.0 + POOL + 32, "{open}");
    assert!(mapped <= 2 * POOL, "{mapped}");
    assert_eq!(state(true), before);
    assert_eq!(before.1, 0);
}
