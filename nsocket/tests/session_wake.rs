//! Waiters and writers in processes of their own: ready set and data in a memfd, sleep word on a page
//! that writers map read-only, doorbells of both kinds. No message is lost, and nobody is busy who
//! has nothing to do.

#![cfg(not(loom))]

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dmm_nsocket::session::ready::{ReadyWords, Taker};
use dmm_nsocket::session::waiter::{
    Bell, Doorbell, Outcome, PeerPage, Ringer, Spin, WaiterPage, cores, fence,
};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};

const SESSIONS: usize = 500;
const SLOT: usize = 3;

/// What a waiter and its writers share, beside the page.
#[repr(C, align(4096))]
struct Shared {
    ready: ReadyWords,
    /// Messages published, by session; each has one writer.
    published: [AtomicU64; SESSIONS],
    /// What the writers have counted.
    rings: AtomicU64,
}

fn shared() -> &'static Shared {
    let file = memfd_create(c"test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, size_of::<Shared>() as u64).unwrap();
    // SAFETY: a new mapping, never unmapped, of a file that is as long; all zero is a valid `Shared`,
    // which is made of atomics.
    unsafe {
        let base = mmap(
            std::ptr::null_mut(),
            size_of::<Shared>(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            &file,
            0,
        );
        NonNull::new(base.unwrap().cast::<Shared>())
            .unwrap()
            .as_ref()
    }
}

/// A child process that runs `work`; waits for it when dropped.
struct Child(libc::pid_t);

impl Child {
    fn spawn(work: impl FnOnce()) -> Self {
        // SAFETY: the child only runs `work`, which neither allocates nor takes a lock, and exits.
        match unsafe { libc::fork() } {
            0 => {
                work();
                // SAFETY: ends the process.
                unsafe { libc::_exit(0) }
            }
            pid => {
                assert!(pid > 0);
                Self(pid)
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut status = 0;
        // SAFETY: waits for the child that this value stands for.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        if !std::thread::panicking() {
            assert_eq!((waited, status), (self.0, 0));
        }
    }
}

fn pause(ns: u64) {
    let _ = rustix::thread::nanosleep(&Timespec {
        tv_sec: 0,
        tv_nsec: ns as i64,
    });
}

/// Writes `messages` to the sessions of `mine`, at a pace that puts the waiter to sleep now and then.
fn write_messages(
    shared: &Shared,
    page: &PeerPage,
    bell: &Bell,
    mine: std::ops::Range<usize>,
    messages: u64,
) {
    let ringer = Ringer::new();
    let slot = page.slot(SLOT).expect("a slot of the page");
    let mut random = 1 + mine.start as u64;
    let mut rings = 0;
    for message in 0..messages {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let session = mine.start + (random >> 33) as usize % mine.len();
        shared.published[session].fetch_add(1, Ordering::Relaxed);
        fence::full();
        shared.ready.set(session as u16);
        let rung = slot.ring_if_asleep(&ringer, || bell.ring());
        rings += u64::from(rung.expect("a bell that rings"));
        match random >> 60 {
            0 => pause(30_000),
            1..4 => (0..message % 200).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }
    shared.rings.fetch_add(rings, Ordering::Relaxed);
}

/// What a waiter has seen.
#[derive(Debug, Default)]
struct Heard {
    messages: u64,
    sleeps: u64,
    spun_ns: u64,
}

/// Waits until `expected` messages were heard. `sleep` sleeps on the doorbells and drains them; it
/// returns false if nothing came in ten seconds.
fn hear(shared: &Shared, page: &WaiterPage, expected: u64, sleep: impl Fn() -> bool) -> Heard {
    let taker = Taker::new();
    taker.admit(SESSIONS as u32);
    let word = page.sleep(SLOT).unwrap();
    let spin = Spin::new();
    let mut read = vec![0; SESSIONS];
    let mut heard = Heard::default();
    let mut out = [0; 16];
    while heard.messages < expected {
        let taken = taker.take(&shared.ready, &mut out);
        for &session in &out[..taken] {
            let session = usize::from(session);
            let published = shared.published[session].load(Ordering::Relaxed);
            heard.messages += published - std::mem::replace(&mut read[session], published);
        }
        if taken != 0 {
            continue;
        }
        page.publish_core(SLOT, Some(cores::current()));
        let Outcome::Sleep(began) = spin.wait(None, || taker.is_ready(&shared.ready)) else {
            continue;
        };
        let Some(asleep) = word.prepare(|| taker.is_ready(&shared.ready)) else {
            continue;
        };
        let woken = sleep();
        drop(asleep);
        spin.slept(began);
        assert!(woken, "a wake-up was lost: {heard:?} of {expected}");
        heard.sleeps += 1;
    }
    heard.spun_ns = spin.burned_ns();
    heard
}

fn bell_of(doorbell: &Doorbell, same_user: bool) -> Bell {
    Bell::adopt(doorbell.button().try_clone_to_owned().unwrap(), same_user).unwrap()
}

/// Sleeps in an epoll instance, as a program does.
fn epoll_of(doorbells: &[Doorbell]) -> OwnedFd {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (index, doorbell) in doorbells.iter().enumerate() {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(
            &epoll,
            doorbell,
            data,
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )
        .unwrap();
    }
    epoll
}

#[test]
fn processes_wake_a_waiter_through_doorbells_of_both_kinds() {
    const MESSAGES: u64 = 40_000;
    let shared = shared();
    let page = WaiterPage::create().unwrap();
    let doorbells = [Doorbell::eventfd().unwrap(), Doorbell::socket().unwrap()];
    let _children = [0, 1].map(|writer| {
        let peer = PeerPage::adopt(page.as_fd()).unwrap();
        let bell = bell_of(&doorbells[writer], writer == 0);
        let half = SESSIONS / 2;
        let mine = writer * half..(writer + 1) * half;
        Child::spawn(|| write_messages(shared, &peer, &bell, mine, MESSAGES))
    });
    let epoll = epoll_of(&doorbells);
    let heard = hear(shared, &page, 2 * MESSAGES, || {
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 2];
        let patience = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        let woken = epoll::wait(&epoll, &mut events[..], Some(&patience)).unwrap();
        for event in &events[..woken] {
            let data = event.data;
            doorbells[data.u64() as usize].drain().unwrap();
        }
        woken != 0
    });
    drop(_children);
    assert_eq!(heard.messages, 2 * MESSAGES);
    let rings = shared.rings.load(Ordering::Relaxed);
    // Each of the two rings at most once a sleep, and one of them does; some sleeps are cancelled.
    assert!(rings >= heard.sleeps, "{rings} rings for {heard:?}");
    assert!(
        heard.sleeps > 10,
        "the pace never put the waiter to sleep: {heard:?}"
    );
}

/// Without spinning, and the doorbell polled for: the protocol alone.
#[test]
fn a_writer_that_is_never_seen_spinning_is_heard() {
    const MESSAGES: u64 = 20_000;
    let shared = shared();
    let page = WaiterPage::create().unwrap();
    let doorbell = Doorbell::eventfd().unwrap();
    let peer = PeerPage::adopt(page.as_fd()).unwrap();
    let bell = bell_of(&doorbell, true);
    let child = Child::spawn(|| write_messages(shared, &peer, &bell, 0..SESSIONS, MESSAGES));
    let word = page.sleep(SLOT).unwrap();
    let taker = Taker::new();
    taker.admit(SESSIONS as u32);
    let (mut heard, mut out) = (0, [0; SESSIONS]);
    while heard < MESSAGES {
        if taker.take(&shared.ready, &mut out) != 0 {
            let published = shared.published.iter();
            heard = published.map(|count| count.load(Ordering::Relaxed)).sum();
            continue;
        }
        if let Some(asleep) = word.prepare(|| taker.is_ready(&shared.ready)) {
            let mut fds = [PollFd::new(&doorbell, PollFlags::IN)];
            let patience = Timespec {
                tv_sec: 10,
                tv_nsec: 0,
            };
            let woken = poll(&mut fds, Some(&patience)).unwrap();
            drop(asleep);
            assert_eq!(woken, 1, "a wake-up was lost: {heard} of {MESSAGES}");
            doorbell.drain().unwrap();
        }
    }
    drop(child);
}

/// Two threads sleep in one epoll instance: each ring wakes one, and whoever leaves work behind
/// passes the wake-up on.
#[test]
fn threads_share_a_set_and_are_woken_one_by_one() {
    const MESSAGES: u64 = 20_000;
    let shared = shared();
    let page = WaiterPage::create().unwrap();
    let doorbells = [Doorbell::eventfd().unwrap()];
    let peer = PeerPage::adopt(page.as_fd()).unwrap();
    let bell = bell_of(&doorbells[0], true);
    let child = Child::spawn(|| write_messages(shared, &peer, &bell, 0..SESSIONS, MESSAGES));
    let epoll = epoll_of(&doorbells);
    let taker = Taker::new();
    taker.admit(SESSIONS as u32);
    let read: Vec<AtomicU64> = (0..SESSIONS).map(|_| AtomicU64::new(0)).collect();
    let heard = || read.iter().map(|r| r.load(Ordering::Relaxed)).sum::<u64>();
    let (word, ringer) = (page.sleep(SLOT).unwrap(), Ringer::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut out = [0; 1];
                loop {
                    let taken = taker.take(&shared.ready, &mut out);
                    if taken != 0 {
                        if taker.is_ready(&shared.ready) {
                            ringer
                                .ring_if_asleep(word, || doorbells[0].pass_on())
                                .unwrap();
                        }
                        let session = usize::from(out[0]);
                        let published = shared.published[session].load(Ordering::Relaxed);
                        read[session].fetch_max(published, Ordering::Relaxed);
                        continue;
                    }
                    if heard() == MESSAGES {
                        break;
                    }
                    let Some(asleep) = word.prepare(|| taker.is_ready(&shared.ready)) else {
                        continue;
                    };
                    let mut events = [epoll::Event {
                        flags: epoll::EventFlags::empty(),
                        data: epoll::EventData::new_u64(0),
                    }];
                    let patience = Timespec {
                        tv_sec: 0,
                        tv_nsec: 300_000_000,
                    };
                    let woken = epoll::wait(&epoll, &mut events[..], Some(&patience)).unwrap();
                    drop(asleep);
                    if woken != 0 {
                        doorbells[0].drain().unwrap();
                    } else {
                        // The other thread may have heard the last message.
                        assert!(!taker.is_ready(&shared.ready), "a wake-up was lost");
                    }
                }
            });
        }
    });
    drop(child);
    assert_eq!(heard(), MESSAGES);
}

#[test]
fn who_has_nothing_to_do_uses_no_cpu() {
    let shared = shared();
    let page = WaiterPage::create().unwrap();
    let doorbell = Doorbell::eventfd().unwrap();
    let peer = PeerPage::adopt(page.as_fd()).unwrap();
    let bell = bell_of(&doorbell, true);
    const MESSAGES: u64 = 10;
    let child = Child::spawn(|| {
        let (ringer, slot) = (Ringer::new(), peer.slot(SLOT).expect("a slot of the page"));
        for session in 0..MESSAGES {
            pause(100_000_000);
            shared.published[session as usize].fetch_add(1, Ordering::Relaxed);
            fence::full();
            shared.ready.set(session as u16);
            slot.ring_if_asleep(&ringer, || bell.ring())
                .expect("a bell that rings");
        }
    });
    let (began, used) = (Instant::now(), cpu_time());
    let heard = hear(shared, &page, MESSAGES, || {
        let mut fds = [PollFd::new(&doorbell, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        let woken = poll(&mut fds, Some(&patience)).unwrap();
        doorbell.drain().unwrap();
        woken != 0
    });
    let (took, used) = (began.elapsed(), cpu_time() - used);
    drop(child);
    assert!(took >= Duration::from_millis(100 * MESSAGES));
    assert_eq!(heard.sleeps, MESSAGES, "{heard:?}");
    assert!(heard.spun_ns < 500_000, "{heard:?}");
    assert!(
        used < Duration::from_millis(10),
        "used {used:?} of {took:?}"
    );
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
