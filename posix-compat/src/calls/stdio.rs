//! Streams over descriptors. The bytes that go through a stream are moved inside libc, on the
//! kernel's socket, unless a session carries it; what matters here is that a stream closes its
//! descriptor out of our sight.

use std::ffi::{c_char, c_int, c_void};

use libc::FILE;

use crate::export::export;
use crate::{real, session, track};

export! {
    /// fdopen(3).
    also [_IO_fdopen] fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
        match session::stream::open(fd, mode) {
            Some(stream) => stream,
            None => unsafe { real::fdopen(fd, mode) },
        }
    }

    /// fclose(3): closes the descriptor inside libc.
    also [_IO_fclose] fn fclose(stream: *mut FILE) -> c_int {
        forget(stream);
        unsafe { real::fclose(stream) }
    }

    /// freopen(3): closes the descriptor inside libc.
    fn freopen(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
        if let Some(stream) = session::stream::reopen(path, mode, stream) {
            return stream;
        }
        forget(stream);
        unsafe { real::freopen(path, mode, stream) }
    }

    /// freopen(3), for 64-bit offsets.
    fn freopen64(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
        if let Some(stream) = session::stream::reopen(path, mode, stream) {
            return stream;
        }
        forget(stream);
        unsafe { real::freopen64(path, mode, stream) }
    }

    /// vdprintf(3): the arguments are a `va_list`, which is passed by its address.
    fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int {
        let to_memory = |place, size, list| unsafe { vsnprintf(place, size, format, list) };
        if let Some(printed) = session::stream::print(fd, arguments, to_memory) {
            return printed;
        }
        let printed = unsafe { real::vdprintf(fd, format, arguments) };
        super::data::sent_otherwise(fd, printed as isize);
        printed
    }

    /// vdprintf(3), with the format checked.
    fn __vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: *mut c_void) -> c_int {
        let to_memory = |place, size, list| unsafe {
            __vsnprintf_chk(place, size, flag, size, format, list)
        };
        if let Some(printed) = session::stream::print(fd, arguments, to_memory) {
            return printed;
        }
        let printed = unsafe { real::__vdprintf_chk(fd, flag, format, arguments) };
        super::data::sent_otherwise(fd, printed as isize);
        printed
    }
}

unsafe extern "C-unwind" {
    fn vsnprintf(
        place: *mut c_char,
        size: usize,
        format: *const c_char,
        list: *mut c_void,
    ) -> c_int;
    fn __vsnprintf_chk(
        place: *mut c_char,
        size: usize,
        flag: c_int,
        room: usize,
        format: *const c_char,
        list: *mut c_void,
    ) -> c_int;
}

fn forget(stream: *mut FILE) {
    if stream.is_null() || session::stream::is_ours(stream) {
        return;
    }
    let code = crate::errno::last();
    // SAFETY: the program hands over an open stream, as it must to fclose(3).
    let fd = unsafe { libc::fileno(stream) };
    if fd >= 0 {
        track::forget(fd);
    }
    crate::errno::set(code);
}

/// Defines a variadic function by one that takes a `va_list`: the registers that hold arguments are
/// stored as the System V ABI (x86-64, 3.5.7) lays out a register save area.
#[cfg(target_arch = "x86_64")]
macro_rules! variadic {
    ($(#[$meta:meta])* $name:ident => $target:ident, named $named:literal, list in $register:literal) => {
        $(#[$meta])*
        #[cfg_attr(not(test), unsafe(no_mangle))]
        #[unsafe(naked)]
        pub(crate) unsafe extern "C-unwind" fn $name() -> c_int {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "sub rsp, 216",
                ".cfi_adjust_cfa_offset 216",
                "mov [rsp + 48], rdx",
                "mov [rsp + 56], rcx",
                "mov [rsp + 64], r8",
                "mov [rsp + 72], r9",
                "test al, al",
                "je 2f",
                "movaps [rsp + 80], xmm0",
                "movaps [rsp + 96], xmm1",
                "movaps [rsp + 112], xmm2",
                "movaps [rsp + 128], xmm3",
                "movaps [rsp + 144], xmm4",
                "movaps [rsp + 160], xmm5",
                "movaps [rsp + 176], xmm6",
                "movaps [rsp + 192], xmm7",
                "2:",
                "mov dword ptr [rsp + 8], 8 * {named}",
                "mov dword ptr [rsp + 12], 48",
                "lea rax, [rsp + 224]",
                "mov [rsp + 16], rax",
                "lea rax, [rsp + 32]",
                "mov [rsp + 24], rax",
                concat!("lea ", $register, ", [rsp + 8]"),
                "call {target}",
                "add rsp, 216",
                ".cfi_adjust_cfa_offset -216",
                "ret",
                ".cfi_endproc",
                target = sym $target,
                named = const $named,
            )
        }
    };
}

#[cfg(target_arch = "x86_64")]
variadic! {
    /// dprintf(3).
    dprintf => vdprintf, named 2, list in "rdx"
}

#[cfg(target_arch = "x86_64")]
variadic! {
    /// dprintf(3), with the format checked.
    __dprintf_chk => __vdprintf_chk, named 3, list in "rcx"
}
