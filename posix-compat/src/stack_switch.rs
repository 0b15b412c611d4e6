//! Running a function on a stack of its own.
//!
//! The program's thread that happens to find a new policy may have a stack of 16 KiB, or be in a
//! signal handler on a small alternate one. Parsing does not fit there.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// Size of the stack; the lowest page is closed, so that an overflow is a fault and not a scribble.
const SIZE: usize = 2 * 1024 * 1024;
const GUARD: usize = 4096;

/// Runs `f` on a fresh stack. `None` when there is no memory for it, or when `f` has panicked.
pub(crate) fn on_own_stack<R>(f: impl FnOnce() -> R) -> Option<R> {
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let stack = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            SIZE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }
    .ok()?;
    // SAFETY: the mapping's own first page.
    let guarded = unsafe { mprotect(stack, GUARD, MprotectFlags::empty()) };
    let mut call = Call {
        function: Some(f),
        result: None,
    };
    if guarded.is_ok() {
        // SAFETY: one past the last byte of the mapping.
        let top = unsafe { stack.cast::<u8>().add(SIZE) };
        let run = call.runner();
        // SAFETY: the stack is `SIZE` bytes, page-aligned, and lives until after the call; `run`
        // is for the type of `call` and does not unwind.
        unsafe { switch(top.cast(), run, (&raw mut call).cast()) };
    }
    // SAFETY: nothing runs on the stack any more.
    let _ = unsafe { munmap(stack, SIZE) };
    call.result
}

struct Call<F, R> {
    function: Option<F>,
    result: Option<R>,
}

impl<F: FnOnce() -> R, R> Call<F, R> {
    fn runner(&self) -> extern "C" fn(*mut c_void) {
        run::<F, R>
    }
}

extern "C" fn run<F: FnOnce() -> R, R>(call: *mut c_void) {
    // SAFETY: `on_own_stack` passes its `Call` of the same type.
    let call = unsafe { &mut *call.cast::<Call<F, R>>() };
    if let Some(function) = call.function.take() {
        call.result = catch_unwind(AssertUnwindSafe(function)).ok();
    }
}

/// Calls `function(argument)` with the stack pointer at `top`, then goes back to the old stack.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn switch(
    top: *mut c_void,
    function: extern "C" fn(*mut c_void),
    argument: *mut c_void,
) {
    core::arch::naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
    )
}

/// Calls `function(argument)` with the stack pointer at `top`, then goes back to the old stack.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn switch(
    top: *mut c_void,
    function: extern "C" fn(*mut c_void),
    argument: *mut c_void,
) {
    core::arch::naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "mov sp, x0",
        "mov x0, x2",
        "blr x1",
        "mov sp, x29",
        "ldp x29, x30, [sp], #16",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_stack_is_left_for_a_large_one() {
        let thread = std::thread::Builder::new().stack_size(16 * 1024);
        let sum = thread.spawn(|| {
            on_own_stack(|| {
                let large = std::hint::black_box([1u8; 512 * 1024]);
                large.iter().map(|byte| u64::from(*byte)).sum::<u64>()
            })
        });
        assert_eq!(sum.unwrap().join().unwrap(), Some(512 * 1024));
    }

    #[test]
    fn a_panic_ends_there() {
        assert_eq!(on_own_stack(|| -> u8 { panic!("on purpose") }), None);
    }
}
