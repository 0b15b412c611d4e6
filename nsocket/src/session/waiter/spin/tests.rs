use std::cell::Cell;

use super::*;

/// A machine whose time passes by looking.
struct Fake {
    now: Cell<u64>,
    pauses: Cell<u32>,
    pause_ns: u64,
    core: u32,
    allowed: u32,
    preemptions: Cell<u32>,
}

impl Fake {
    fn new() -> Self {
        Self {
            now: Cell::new(1_000_000_000),
            pauses: Cell::new(0),
            pause_ns: 50,
            core: 0,
            allowed: 2,
            preemptions: Cell::new(0),
        }
    }

    fn pass(&self, ns: u64) {
        self.now.set(self.now.get() + ns);
    }

    /// A wait that ends after `ns`, asleep if need be, and what `Spin` made of it: true if it was
    /// spun through.
    fn wait(&self, spin: &Spin, ns: u64, peer: Option<u32>) -> bool {
        let end = self.now.get() + ns;
        match spin.wait_on(self, peer, || self.now.get() >= end) {
            Outcome::Ready => true,
            Outcome::Sleep(began) => {
                self.now.set(end.max(self.now.get()) + u64::from(WAKE_NS));
                spin.slept_on(self, began);
                false
            }
        }
    }
}

impl Machine for Fake {
    fn now(&self) -> u64 {
        self.pass(50);
        self.now.get()
    }

    fn pause(&self) {
        self.pauses.set(self.pauses.get() + 1);
        self.pass(self.pause_ns);
    }

    fn current_core(&self) -> u32 {
        self.core
    }

    fn allowed_cores(&self) -> u32 {
        self.allowed
    }

    fn preemptions(&self) -> u32 {
        self.preemptions.get()
    }

    fn thread(&self) -> u32 {
        7
    }
}

#[test]
fn short_waits_are_spun_through() {
    let (machine, spin) = (Fake::new(), Spin::new());
    for wait in [1, 300, 1_000, 5_000, 200] {
        assert!(machine.wait(&spin, wait, None), "{wait} ns");
    }
    let burned = spin.burned_ns();
    assert!((6_000..8_500).contains(&burned), "burned {burned} ns");
}

#[test]
fn long_waits_end_the_spinning_and_burn_no_more() {
    let (machine, spin) = (Fake::new(), Spin::new());
    for _ in 0..8 {
        assert!(!machine.wait(&spin, 1_000_000, None));
    }
    let burned = spin.burned_ns();
    assert!(
        burned <= 8 * u64::from(LONGEST_NS + 1_000),
        "burned {burned} ns"
    );
    for _ in 0..1_000 {
        machine.wait(&spin, 1_000_000, None);
    }
    assert_eq!(spin.burned_ns(), burned);
}

#[test]
fn quick_peers_are_noticed_in_sleep() {
    let (machine, spin) = (Fake::new(), Spin::new());
    for _ in 0..100 {
        machine.wait(&spin, 1_000_000, None);
    }
    // Both sides sleep: each sees the other's way out of bed and a little work. It is quick as soon as
    // this one is.
    let needed = (0..100).find(|_| {
        spin.rang();
        machine.wait(&spin, u64::from(WAKE_NS) + 3_000, None)
    });
    assert!(needed.is_some_and(|needed| needed < 20), "{needed:?}");
}

#[test]
fn a_peer_that_sleeps_all_the_same_is_given_up() {
    const WAITS: u64 = 10_000;
    let (machine, spin) = (Fake::new(), Spin::new());
    for _ in 0..WAITS {
        spin.rang();
        let wait = u64::from(LONGEST_NS + WAKE_NS) + 5_000;
        assert!(!machine.wait(&spin, wait, None));
    }
    let burned = spin.burned_ns() / WAITS;
    assert!(
        burned < u64::from(SLEEP_NS) / 4,
        "burned {burned} ns a wait"
    );
}

/// Spinning does help here, but costs more than it is worth.
#[test]
fn a_peer_that_sleeps_all_the_same_is_given_up_though_it_comes() {
    const WAITS: u64 = 10_000;
    let (machine, spin) = (Fake::new(), Spin::new());
    for _ in 0..WAITS {
        spin.rang();
        machine.wait(&spin, u64::from(LONGEST_NS) + 5_000, None);
    }
    let burned = spin.burned_ns() / WAITS;
    assert!(
        burned < u64::from(SLEEP_NS) / 2,
        "burned {burned} ns a wait"
    );
}

/// The bound that the documentation promises: whatever the waits are, spinning burns at most
/// `WORTH_NS / SLEEP_NS` of what sleeping each time would have cost, but for the start.
#[test]
fn burns_no_more_than_is_worth() {
    let mut seed = 1_u64;
    for shape in 0..6 {
        let (machine, spin) = (Fake::new(), Spin::new());
        const WAITS: u64 = 20_000;
        for n in 0..WAITS {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let random = seed >> 40;
            let wait = match shape {
                0 => random % 2_000,
                1 => random % 60_000,
                2 => u64::from(LONGEST_NS) + random % 1_000,
                3 => [500, 100_000][(random % 2) as usize],
                4 => [500, 100_000][usize::from(n % 64 >= 32)],
                _ => 1 << (random % 24),
            };
            machine.wait(&spin, wait, None);
        }
        let worth = (WAITS + 10) * u64::from(WORTH_NS);
        assert!(
            spin.burned_ns() < worth,
            "shape {shape}: {}",
            spin.burned_ns()
        );
    }
}

#[test]
fn one_core_is_not_spun_on() {
    let spin = Spin::new();
    let machine = Fake {
        allowed: 1,
        ..Fake::new()
    };
    for _ in 0..1_000 {
        assert!(!machine.wait(&spin, 300, None));
    }
    assert_eq!((spin.burned_ns(), machine.pauses.get()), (0, 0));
}

#[test]
fn a_core_that_is_added_is_noticed() {
    let spin = Spin::new();
    let mut machine = Fake {
        allowed: 1,
        ..Fake::new()
    };
    machine.wait(&spin, 300, None);
    machine.allowed = 2;
    assert!((0..100).any(|_| machine.wait(&spin, 300, None)));
}

#[test]
fn a_peer_on_this_core_is_not_waited_for_spinning() {
    let (machine, spin) = (Fake::new(), Spin::new());
    assert!(!machine.wait(&spin, 300, Some(0)));
    assert_eq!(machine.pauses.get(), 0);
    assert!(machine.wait(&spin, 300, Some(1)), "it has moved");
}

#[test]
fn pinned_to_two_cores_both_may_spin() {
    let spin = Spin::new();
    let machine = Fake {
        allowed: 1,
        ..Fake::new()
    };
    assert!(machine.wait(&spin, 300, Some(1)));
    assert!(!machine.wait(&spin, 300, None));
}

#[test]
fn a_switch_to_somebody_else_stops_the_spinning() {
    let (mut machine, spin) = (Fake::new(), Spin::new());
    machine.pause_ns = 3_000_000;
    assert!(!machine.wait(&spin, 40_000_000, None));
    machine.pause_ns = 50;
    let paused = (0..1_000).take_while(|_| !machine.wait(&spin, 300, None));
    assert_eq!(paused.count(), PAUSED_WAITS.0 as usize);
}

#[test]
fn preemptions_stop_the_spinning_for_longer_each_time() {
    let (machine, spin) = (Fake::new(), Spin::new());
    let mut stretches = vec![0];
    for _ in 0..40_000 {
        let before = spin.burned_ns();
        machine.wait(&spin, 5_000, None);
        if spin.burned_ns() == before {
            *stretches.last_mut().unwrap() += 1;
        } else if *stretches.last().unwrap() != 0 {
            stretches.push(0);
        }
        // Preempted every millisecond.
        machine
            .preemptions
            .set((machine.now.get() / 1_000_000) as u32);
    }
    assert!(stretches.len() > 3, "{stretches:?}");
    assert!(stretches[0] >= PAUSED_WAITS.0 as u64 - 8, "{stretches:?}");
    assert!(stretches[2] > stretches[0], "{stretches:?}");
}

#[test]
fn the_kernel_answers() {
    assert!(Kernel.now() > 0);
    assert!(Kernel.allowed_cores() >= 1);
    assert!(Kernel.thread() > 0);
    assert!(Kernel.current_core() < 1 << 16);
    let spin = Spin::new();
    let mut looks = 0;
    let outcome = spin.wait(None, || {
        looks += 1;
        looks == 3
    });
    if Kernel.allowed_cores() > 1 {
        assert_eq!(outcome, Outcome::Ready);
    }
}
