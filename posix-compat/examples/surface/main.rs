//! Prints `docs/posix.md`: every function that the preload library puts in front of libc's.

#[allow(unreachable_pub, reason = "a test has the module too")]
mod table;

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(table::markdown().as_bytes())
}
