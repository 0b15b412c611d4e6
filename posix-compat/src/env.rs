//! The environment that the program was started with, as far as it is about DMM: read once, before
//! the program can change it, and kept so that an exec can hand it on.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The variables that make a program run under DMM, with `=`. The loader's comes first.
pub(crate) const VARIABLES: [&CStr; 6] = [
    c"LD_PRELOAD=",
    c"DMM_POLICY=",
    c"DMM_LABEL=",
    c"DMM_RUN_ID=",
    c"DMM_SHM_DIR=",
    c"DMM_STATE_DIR=",
];

/// A program that sets this variable to `off` in the environment of an exec starts its child
/// without DMM.
pub(crate) const OPT_OUT: &CStr = c"DMM_PRELOAD=off";

/// Names the statistics file of the program whose place this one has taken.
pub(crate) const LEFT_SEGMENT: &CStr = c"DMM_LEFT_SEGMENT=";

/// The `NAME=value` strings as they were at start, in private memory (a program may write over the
/// originals, as those do that set their title).
static SAVED: [AtomicPtr<c_char>; VARIABLES.len()] =
    [const { AtomicPtr::new(ptr::null_mut()) }; VARIABLES.len()];

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

/// The program's environment as it is now.
pub(crate) fn current() -> *const *const c_char {
    // SAFETY: libc's variable, read as one word.
    unsafe { (&raw const environ).read() }
}

/// Path by which the program was executed, as it was at start; null where the kernel does not tell.
static EXECUTED_AS: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Path by which the program was executed (AT_EXECFN, getauxval(3)): the name that people know it
/// by. For a script it is the script's; /proc/self/exe is the interpreter, or what a link leads to.
pub(crate) fn executed_as() -> &'static [u8] {
    let path = EXECUTED_AS.load(Ordering::Acquire);
    if path.is_null() {
        return b"";
    }
    // SAFETY: a string that `save` has leaked.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    // fexecve(3) leaves the name of a descriptor there.
    if path.starts_with(b"/dev/fd/") {
        b""
    } else {
        path
    }
}

/// A copy that stays, of a string that the program may write over.
fn keep(string: &CStr) -> *mut c_char {
    string
        .to_bytes_with_nul()
        .to_vec()
        .leak()
        .as_mut_ptr()
        .cast()
}

/// Saves the variables. Called once, from the constructor.
pub(crate) fn save() {
    // SAFETY: getauxval(3) gives 0 or, for this type, the address of a string.
    let executed_as = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const c_char;
    if !executed_as.is_null() {
        // SAFETY: as above.
        EXECUTED_AS.store(
            keep(unsafe { CStr::from_ptr(executed_as) }),
            Ordering::Release,
        );
    }
    for (place, name) in SAVED.iter().zip(VARIABLES) {
        if let Some(found) = find(current(), name) {
            place.store(keep(found), Ordering::Release);
        }
    }
}

/// Removes the statistics file that this process has left behind in an exec, and the variable that
/// names it. Called once, from the constructor.
pub(crate) fn take_left_segment() {
    let Some(found) = find(current(), LEFT_SEGMENT) else {
        return;
    };
    let path = &found.to_bytes_with_nul()[LEFT_SEGMENT.count_bytes()..];
    if let Ok(path) = CStr::from_bytes_with_nul(path)
        && dmm_nsocket::stats::pid_of_file_name(file_name(path)) == Some(crate::process::pid())
    {
        let _ = rustix::fs::unlink(path);
    }
    remove(LEFT_SEGMENT);
}

fn file_name(path: &CStr) -> &str {
    let path = path.to_str().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

/// Takes a variable out of the program's environment. Only before the program runs.
fn remove(prefix: &CStr) {
    let mut to = current().cast_mut();
    let mut from = to;
    if to.is_null() {
        return;
    }
    // SAFETY: the array is the process's own and null-terminated; no other thread runs yet.
    unsafe {
        while !(*from).is_null() {
            if !CStr::from_ptr(*from)
                .to_bytes()
                .starts_with(prefix.to_bytes())
            {
                *to = *from;
                to = to.add(1);
            }
            from = from.add(1);
        }
        *to = ptr::null();
    }
}

/// Replaces the saved value of `VARIABLES[index]`. Only from the constructor.
pub(crate) fn set_saved(index: usize, value: &[u8]) {
    let string = [VARIABLES[index].to_bytes(), value, b"\0"].concat();
    if let Ok(string) = CStr::from_bytes_with_nul(&string) {
        SAVED[index].store(keep(string), Ordering::Release);
    }
}

/// The `NAME=value` string of `VARIABLES[index]` at start.
pub(crate) fn saved(index: usize) -> Option<&'static CStr> {
    let string = SAVED[index].load(Ordering::Acquire);
    // SAFETY: a string that `save` has leaked.
    (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) })
}

/// The value of `VARIABLES[index]` at start, empty if it was not set.
pub(crate) fn value(index: usize) -> &'static [u8] {
    saved(index).map_or(b"", |string| {
        &string.to_bytes()[VARIABLES[index].count_bytes()..]
    })
}

pub(crate) const POLICY: usize = 1;
pub(crate) const LABEL: usize = 2;
pub(crate) const RUN_ID: usize = 3;
const SHM_DIR: usize = 4;

/// Directory of the segments and mailboxes: `DMM_SHM_DIR`, or the default.
pub(crate) fn shm_dir() -> &'static CStr {
    saved(SHM_DIR)
        .map(|string| &string.to_bytes_with_nul()[VARIABLES[SHM_DIR].count_bytes()..])
        .and_then(|value| CStr::from_bytes_with_nul(value).ok())
        .filter(|dir| !dir.is_empty())
        .unwrap_or(dmm_nsocket::stats::DEFAULT_DIR)
}

/// The value of any variable now.
pub(crate) fn variable(name: &CStr) -> Option<&'static [u8]> {
    find(current(), name).map(|found| &found.to_bytes()[name.count_bytes()..])
}

/// The string of `envp` that starts with `prefix`.
pub(crate) fn find(envp: *const *const c_char, prefix: &CStr) -> Option<&'static CStr> {
    strings(envp)?.find(|string| string.to_bytes().starts_with(prefix.to_bytes()))
}

/// The strings of an environment; `None` if it is not one that can be read to its end, which the
/// kernel will say then.
pub(crate) fn strings(
    envp: *const *const c_char,
) -> Option<impl Iterator<Item = &'static CStr> + Clone> {
    let count = count(envp)?;
    Some((0..count).map(move |i| {
        // SAFETY: `count` has found this many strings, each of which can be read.
        unsafe { CStr::from_ptr(*envp.add(i)) }
    }))
}

/// How many strings there are, if all of them can be read.
fn count(envp: *const *const c_char) -> Option<usize> {
    if envp.is_null() {
        return Some(0);
    }
    let mut seen = Seen { page: usize::MAX };
    let mut count = 0;
    loop {
        let at = envp.wrapping_add(count);
        if !seen.word(at.cast()) {
            return None;
        }
        // SAFETY: the pointer can be read.
        let string = unsafe { at.read_unaligned() };
        if string.is_null() {
            return Some(count);
        }
        let mut end = string;
        loop {
            if !seen.byte(end.cast()) {
                return None;
            }
            // SAFETY: the byte can be read.
            if unsafe { *end } == 0 {
                break;
            }
            end = end.wrapping_add(1);
        }
        count += 1;
    }
}

/// The page that was found to be readable last: neighbours need not be asked for again.
struct Seen {
    page: usize,
}

impl Seen {
    fn byte(&mut self, at: *const u8) -> bool {
        let page = at as usize / 4096;
        if page != self.page {
            if !crate::user_memory::readable(at.cast(), 1) {
                return false;
            }
            self.page = page;
        }
        true
    }

    fn word(&mut self, at: *const u8) -> bool {
        self.byte(at) && self.byte(at.wrapping_add(size_of::<usize>() - 1))
    }
}
