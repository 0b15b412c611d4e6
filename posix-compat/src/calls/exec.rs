//! Starting programs: the preload goes along.
//!
//! A server that upgrades itself builds the environment of its successor from what it knows (nginx
//! keeps TZ and nothing else), and would lose DMM by that. So an environment without LD_PRELOAD gets
//! ours, with the variables of DMM. One that has an LD_PRELOAD which does not name this library was
//! made on purpose and stays as it is; so does one with `DMM_PRELOAD=off`.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use dmm_nsocket::stats::Counter;
use libc::{pid_t, posix_spawn_file_actions_t, posix_spawnattr_t};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::export::export;
use crate::session::relay::exec as relay;
use crate::{env, errno, process, real, track};

type Strings = *const *const c_char;

export! {
    /// execve(2).
    fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int {
        with_preload(envp, true, |envp| unsafe { real::execve(path, argv, envp) })
    }

    /// execv(3).
    fn execv(path: *const c_char, argv: Strings) -> c_int {
        unsafe { execve(path, argv, env::current()) }
    }

    /// execvpe(3).
    fn execvpe(file: *const c_char, argv: Strings, envp: Strings) -> c_int {
        with_preload(envp, true, |envp| unsafe { real::execvpe(file, argv, envp) })
    }

    /// execvp(3).
    fn execvp(file: *const c_char, argv: Strings) -> c_int {
        unsafe { execvpe(file, argv, env::current()) }
    }

    /// fexecve(3).
    fn fexecve(fd: c_int, argv: Strings, envp: Strings) -> c_int {
        with_preload(envp, true, |envp| unsafe { real::fexecve(fd, argv, envp) })
    }

    /// execveat(2).
    fn execveat(fd: c_int, path: *const c_char, argv: Strings, envp: Strings, flags: c_int) -> c_int {
        with_preload(envp, true, |envp| unsafe { real::execveat(fd, path, argv, envp, flags) })
    }

    /// posix_spawn(3).
    fn posix_spawn(pid: *mut pid_t, path: *const c_char, actions: *const posix_spawn_file_actions_t, attributes: *const posix_spawnattr_t, argv: *const *mut c_char, envp: *const *mut c_char) -> c_int {
        relay::spawn(actions, |actions| {
            with_preload(envp.cast(), false, |envp| unsafe {
                real::posix_spawn(pid, path, actions, attributes, argv, envp.cast())
            })
        })
    }

    /// posix_spawnp(3).
    fn posix_spawnp(pid: *mut pid_t, file: *const c_char, actions: *const posix_spawn_file_actions_t, attributes: *const posix_spawnattr_t, argv: *const *mut c_char, envp: *const *mut c_char) -> c_int {
        relay::spawn(actions, |actions| {
            with_preload(envp.cast(), false, |envp| unsafe {
                real::posix_spawnp(pid, file, actions, attributes, argv, envp.cast())
            })
        })
    }
}

/// Strings that an environment may get: the saved variables and the name of our segment.
const EXTRA: usize = env::VARIABLES.len() + 1;

/// Strings of an environment that fit on the stack; a larger one takes memory for the call.
const ON_STACK: usize = 256;

/// Calls `f` with the environment that the new program is to have. `leaves` says whether it takes
/// the place of this one.
pub(super) fn with_preload(envp: Strings, leaves: bool, f: impl FnOnce(Strings) -> c_int) -> c_int {
    let f = |envp| {
        if leaves {
            relay::across(|| f(envp))
        } else {
            f(envp)
        }
    };
    if !wants_preload(envp) {
        track::count(Counter::ExecWithoutPreload);
        return f(envp);
    }
    let Some(strings) = env::strings(envp) else {
        return f(envp);
    };
    track::count(Counter::ExecWithPreload);
    let count = strings.clone().count();
    let segment = process::exec_leaves().filter(|_| leaves && !process::is_borrowed());
    let mut note = [0; 320];
    let note = segment.and_then(|segment| write_note(&mut note, segment.path()));
    if count + EXTRA < ON_STACK {
        let mut array = [ptr::null(); ON_STACK];
        fill(&mut array, strings, envp, note);
        return f(array.as_ptr());
    }
    let size = (count + EXTRA + 1) * size_of::<*const c_char>();
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let memory = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            size,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    let Ok(memory) = memory else {
        return f(envp);
    };
    // SAFETY: the mapping holds that many pointers, all null.
    let array = unsafe {
        std::slice::from_raw_parts_mut(memory.cast::<*const c_char>(), count + EXTRA + 1)
    };
    fill(array, strings, envp, note);
    let result = f(array.as_ptr());
    let code = errno::last();
    // SAFETY: mapped above; the call is over. (A child of vfork that goes on to its program leaves
    // the memory to its parent: a page or two.)
    let _ = unsafe { munmap(memory, size) };
    errno::set(code);
    result
}

/// Whether the new program is to run under DMM.
fn wants_preload(envp: Strings) -> bool {
    let ours = |string: &CStr| {
        string
            .to_bytes()
            .windows(LIBRARY.len())
            .any(|part| part == LIBRARY)
    };
    if !env::saved(0).is_some_and(ours)
        || env::strings(envp).is_none()
        || env::find(envp, env::OPT_OUT).is_some()
    {
        return false;
    }
    env::find(envp, env::VARIABLES[0]).is_none_or(ours)
}

const LIBRARY: &[u8] = b"libdmm_posix.so";

/// Copies the environment and adds what it lacks. The rest of `array` is null already.
fn fill(
    array: &mut [*const c_char],
    strings: impl Iterator<Item = &'static CStr>,
    envp: Strings,
    note: Option<&CStr>,
) {
    let mut places = array.iter_mut();
    let mut add = |string: &CStr| {
        if let Some(place) = places.next() {
            *place = string.as_ptr();
        }
    };
    for string in strings {
        // A relative path would lead elsewhere from another directory.
        let value = string
            .to_bytes()
            .strip_prefix(env::VARIABLES[env::POLICY].to_bytes());
        let relative = value.is_some_and(|path| !path.is_empty() && !path.starts_with(b"/"));
        add(env::saved(env::POLICY)
            .filter(|_| relative)
            .unwrap_or(string));
    }
    for (i, name) in env::VARIABLES.iter().enumerate() {
        if env::find(envp, name).is_none()
            && let Some(saved) = env::saved(i)
        {
            add(saved);
        }
    }
    if let Some(note) = note {
        add(note);
    }
}

/// Tells the program that takes our place which segment was ours.
fn write_note<'a>(buffer: &'a mut [u8], segment: &CStr) -> Option<&'a CStr> {
    let name = env::LEFT_SEGMENT.to_bytes();
    let path = segment.to_bytes_with_nul();
    let len = name.len() + path.len();
    buffer.get_mut(..name.len())?.copy_from_slice(name);
    buffer.get_mut(name.len()..len)?.copy_from_slice(path);
    CStr::from_bytes_with_nul(&buffer[..len]).ok()
}

/// Defines a function of the execl family: the arguments after the first are made an array on the
/// stack, in place of the return address, which waits behind it.
#[cfg(target_arch = "x86_64")]
macro_rules! listed {
    ($(#[$meta:meta])* $name:ident => $target:ident) => {
        $(#[$meta])*
        #[cfg_attr(not(test), unsafe(no_mangle))]
        #[unsafe(naked)]
        pub(crate) unsafe extern "C-unwind" fn $name() -> c_int {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "pop r10",
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rsi, rsp",
                "push r10",
                // The return address is where the stack pointer is, 40 bytes below its old place.
                ".cfi_def_cfa_offset 48",
                ".cfi_offset rip, -48",
                "call {target}",
                "pop r10",
                "add rsp, 40",
                "push r10",
                ".cfi_def_cfa_offset 8",
                ".cfi_offset rip, -8",
                "ret",
                ".cfi_endproc",
                target = sym $target,
            )
        }
    };
}

#[cfg(target_arch = "x86_64")]
listed! {
    /// execl(3).
    execl => execv
}

#[cfg(target_arch = "x86_64")]
listed! {
    /// execlp(3).
    execlp => execvp
}

#[cfg(target_arch = "x86_64")]
listed! {
    /// execle(3).
    execle => execle_array
}

/// execle(3): the environment follows the null that ends the arguments.
#[cfg(target_arch = "x86_64")]
unsafe extern "C-unwind" fn execle_array(path: *const c_char, argv: Strings) -> c_int {
    let mut end = argv;
    // SAFETY: the arguments end with a null pointer, behind which there is the environment.
    unsafe {
        while !(*end).is_null() {
            end = end.add(1);
        }
        execve(path, argv, end.add(1).cast::<Strings>().read())
    }
}
