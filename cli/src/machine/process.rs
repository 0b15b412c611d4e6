//! Resource limits, and memory in large pages.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit};

use super::{Check, read_line, read_number};
use crate::output::bytes;

/// What a busy server wants.
const MANY_FILES: u64 = 65_536;
/// What rings with registered buffers want.
const MUCH_LOCKED: u64 = 64 << 20;

pub(super) fn checks() -> Vec<Check> {
    vec![
        open_files(),
        locked_memory(),
        hugepages(),
        transparent_hugepages(),
    ]
}

fn open_files() -> Check {
    const ID: &str = "open-files";
    const FOR: &str = "the number of sockets of one program";
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let found = format!("{} soft, {} hard", number(current), number(maximum));
    if maximum.is_none_or(|hard| hard >= MANY_FILES) {
        let check = Check::ok(ID, FOR, found);
        if current.is_some_and(|soft| soft < MANY_FILES) {
            return check
                .fix("ulimit -n $(ulimit -Hn), for programs that do not raise it themselves");
        }
        check
    } else {
        Check::limited(ID, FOR, found)
            .fix("a 'nofile' line in /etc/security/limits.conf, or LimitNOFILE= in the service")
    }
}

fn locked_memory() -> Check {
    const ID: &str = "locked-memory";
    const FOR: &str = "registered buffers of io_uring, AF_XDP areas, DPDK";
    let limit = getrlimit(Resource::Memlock).current;
    let found = limit.map_or_else(|| "unlimited".to_owned(), bytes);
    if limit.is_none_or(|limit| limit >= MUCH_LOCKED) {
        Check::ok(ID, FOR, found)
    } else {
        Check::limited(ID, FOR, found)
            .fix("a 'memlock' line in /etc/security/limits.conf, or LimitMEMLOCK= in the service")
    }
}

fn hugepages() -> Check {
    const ID: &str = "hugepages";
    const FOR: &str = "DPDK; optional for large rings";
    const SET: &str = "sudo sysctl vm.nr_hugepages=256";
    let mut pools = Vec::new();
    let mut free_pages = 0;
    for entry in fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let at = |file: &str| read_number(&format!("/sys/kernel/mm/hugepages/{name}/{file}"));
        let (Some(total), Some(free)) = (at("nr_hugepages"), at("free_hugepages")) else {
            continue;
        };
        free_pages += free;
        let size = name.trim_start_matches("hugepages-");
        pools.push(format!("{free} of {total} free ({size})"));
    }
    pools.sort();
    match (pools.is_empty(), free_pages) {
        (true, _) => Check::missing(ID, FOR, "the kernel has no hugetlb pools"),
        (false, 0) => Check::missing(ID, FOR, pools.join(", ")).fix(SET),
        (false, _) => Check::ok(ID, FOR, pools.join(", ")),
    }
}

fn transparent_hugepages() -> Check {
    const ID: &str = "transparent-hugepages";
    const FOR: &str = "shared memory of sessions with fewer TLB misses";
    const PATH: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let Some(line) = read_line(PATH) else {
        return Check::missing(ID, FOR, "not in this kernel");
    };
    let chosen = line
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("unknown", |(chosen, _)| chosen);
    let found = format!("for shared memory: {chosen}");
    match chosen {
        "always" | "within_size" | "advise" | "force" => Check::ok(ID, FOR, found),
        _ => Check::limited(ID, FOR, found).fix(format!("echo advise | sudo tee {PATH}")),
    }
}

fn number(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), crate::output::count)
}
