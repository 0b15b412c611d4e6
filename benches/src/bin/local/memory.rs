//! Memory that is in use, in KiB.

/// A process's share of all that it has mapped: shared pages count in parts (smaps_rollup of proc(5)).
///
/// # Panics
/// When the process is gone or somebody else's.
pub(crate) fn proportional(pid: u32) -> f64 {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    field(&text, "Pss:", &file)
}

/// Shared memory of the whole machine, mapped or not.
///
/// # Panics
/// When the kernel does not say.
pub(crate) fn shared() -> f64 {
    let file = "/proc/meminfo";
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    field(&text, "Shmem:", file)
}

fn field(text: &str, name: &str, file: &str) -> f64 {
    text.lines()
        .find_map(|line| {
            line.strip_prefix(name)?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or_else(|| panic!("no {name} in {file}:\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_written_counts() {
        let before = proportional(std::process::id());
        let pages = std::hint::black_box(vec![1_u8; 8 << 20]);
        let after = proportional(std::process::id());
        assert!(after - before > 7_000.0, "{before} {after}");
        assert!(shared() >= 0.0);
        drop(pages);
    }
}
