//! What happens when the library is loaded, and when the program ends.

use crate::{env, policy, process, real};

/// Run by the loader, before the program's main, in the order that the ELF gABI gives.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static INIT: extern "C" fn() = start;

/// Run by exit(3).
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".fini_array")]
static FINI: extern "C" fn() = end;

extern "C" fn start() {
    // A fault of ours must not keep the program from starting: it runs on the kernel then.
    let _ = std::panic::catch_unwind(|| {
        real::look_up_all();
        env::save();
        process::init();
        env::take_left_segment();
        policy::init();
    });
}

extern "C" fn end() {
    process::finish();
}
