//! The wait itself: look, look a little longer, announce the sleep, look again, sleep in the kernel.
//!
//! Nothing of a session is held while the thread sleeps: it may be cancelled there.

use std::ffi::c_int;
use std::ptr;

use dmm_nsocket::session::waiter::{Outcome, Spin, cores};
use libc::timespec;

use super::Call;
use super::set::Set;
use crate::session::pool::SESSIONS;
use crate::{clock, errno, real};

thread_local! {
    /// What this thread's waits for several descriptors have taught.
    static SPIN: Spin = const { Spin::new() };
}

/// Looks at ours between two looks at the kernel, in a spin.
const LOOKS: u32 = 96;

/// How long a sleep is at first and at most, in ns, if the kernel does not tell of everything.
const NAP: (u64, u64) = (1_000_000, 16_000_000);

/// Waits until something in the set is ready; returns the call's result. An error is an `errno`.
pub(super) fn wait(set: &mut Set<'_>, call: Call) -> Result<usize, c_int> {
    let deadline = call
        .timeout
        .map(|timeout| clock::now().saturating_add(timeout));
    set.complete();
    set.arm();
    if set.look() {
        return with_others(set);
    }
    if call.timeout == Some(0) {
        // By the program's own way: what is wrong, or a signal that waits, is the kernel's to tell.
        sleep(set, call, Some(0))?;
        return settled(set);
    }
    if !set.is_worth_a_spin() {
        return sleep_until(set, call, deadline);
    }
    let alone = set.alone();
    let (peer, rang) = set.meet(cores::current());
    let outcome = with_spin(alone, |spin| {
        if rang {
            spin.rang();
        }
        let mut looks = 0_u32;
        spin.wait(peer, || {
            looks += 1;
            set.look() || set.has_others() && looks.is_multiple_of(LOOKS) && set.look_in_kernel()
        })
    });
    let began = match outcome {
        Some(Outcome::Sleep(began)) => Some(began),
        Some(Outcome::Ready) => {
            settled(set)?;
            let ready = with_others(set)?;
            if ready > 0 {
                return Ok(ready);
            }
            None
        }
        None => None,
    };
    let result = sleep_until(set, call, deadline);
    if let Some(began) = began {
        with_spin(alone, |spin| spin.slept(began));
    }
    result
}

/// Sleeps until something is ready or time is up.
fn sleep_until(set: &mut Set<'_>, call: Call, deadline: Option<u64>) -> Result<usize, c_int> {
    let mut nap = NAP.0;
    loop {
        let shared = set.announce();
        if set.look() {
            set.rise();
            return with_others(set);
        }
        let naps = set.arm() || shared;
        let left = deadline.map(|at| at.saturating_sub(clock::now()));
        let until = if naps {
            Some(left.map_or(nap, |left| left.min(nap)))
        } else {
            left
        };
        let slept = sleep(set, call, until).and_then(|()| set.settle());
        set.rise();
        slept?;
        if nap == NAP.1 {
            set.stand_in();
        }
        set.look();
        let ready = set.total();
        if ready > 0 || left.is_some_and(|left| Some(left) == until && is_over(deadline)) {
            return Ok(ready);
        }
        if set.mute() {
            return settled(set);
        }
        nap = (nap * 2).min(NAP.1);
    }
}

fn is_over(deadline: Option<u64>) -> bool {
    deadline.is_some_and(|at| clock::now() >= at)
}

/// Something of ours is ready: the others count as well.
fn with_others(set: &mut Set<'_>) -> Result<usize, c_int> {
    if set.has_others() {
        set.look_in_kernel();
        return settled(set);
    }
    Ok(set.total())
}

/// The kernel has been asked: the result as it is now.
fn settled(set: &mut Set<'_>) -> Result<usize, c_int> {
    set.settle()?;
    set.look();
    Ok(set.total())
}

/// Calls `f` with what is known of such waits; `None` if the session has ended.
fn with_spin<R>(alone: Option<u32>, f: impl FnOnce(&Spin) -> R) -> Option<R> {
    match alone {
        Some(handle) => SESSIONS.enter(handle).map(|using| f(&using.session().spin)),
        None => Some(SPIN.with(f)),
    }
}

/// Sleeps in the kernel, which writes its answers to the set. A cancellation point, unless the
/// program's call is none.
fn sleep(set: &mut Set<'_>, call: Call, timeout: Option<u64>) -> Result<(), c_int> {
    let mut time = timeout.map(|ns| timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    });
    let time: *mut timespec = time.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    let before = errno::last();
    let (work, len) = set.for_kernel();
    let ready = if call.by_number {
        const MASK_LEN: libc::c_long = 8;
        let (work, time, mask) = (work as _, time as _, call.mask as _);
        // SAFETY: so many elements; a time of our own; the program's mask.
        unsafe { real::syscall(libc::SYS_ppoll, work, len as _, time, mask, MASK_LEN, 0) as c_int }
    } else {
        // SAFETY: as above.
        unsafe { real::ppoll(work, len as libc::nfds_t, time, call.mask) }
    };
    if ready < 0 {
        return Err(errno::last());
    }
    errno::set(before);
    Ok(())
}
