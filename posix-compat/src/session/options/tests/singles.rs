//! One option at a time: every name, many values, every length.

use libc::{IPPROTO_ICMPV6, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, SOL_SOCKET, c_int};

use super::super::Refused;
use super::connection::{Compared, DOMAINS};

/// A device that is not the loopback's comes first: one may be chosen once.
const VALUES: [c_int; 22] = [
    2,
    -1,
    0,
    1,
    3,
    5,
    6,
    7,
    9,
    63,
    64,
    88,
    127,
    128,
    255,
    256,
    1_000,
    40_000,
    70_000,
    1_000_000,
    c_int::MAX,
    c_int::MIN,
];
const LENGTHS: [usize; 10] = [4, 0, 1, 2, 3, 8, 12, 16, 32, 400];
/// Those values that are tried in other lengths than an `int`'s.
const FEW_VALUES: [c_int; 5] = [-1, 0, 1, 5, 1_000];
const READ_LENGTHS: [usize; 10] = [0, 1, 2, 3, 4, 8, 15, 16, 36, 400];
/// Those lengths in which each value is read back.
const FEW_READ_LENGTHS: [usize; 3] = [1, 4, 16];

/// What a session refuses and TCP can do.
const UNSUPPORTED: &[(c_int, c_int)] = &[
    (SOL_SOCKET, libc::SO_TIMESTAMPING),
    (SOL_SOCKET, libc::SO_PEEK_OFF),
    (SOL_SOCKET, libc::SO_LOCK_FILTER),
    (SOL_SOCKET, libc::SO_MAX_PACING_RATE),
    (SOL_SOCKET, libc::SO_ZEROCOPY),
    (SOL_SOCKET, libc::SO_TXTIME),
    (SOL_SOCKET, libc::SO_BINDTOIFINDEX),
    (SOL_SOCKET, SO_TIMESTAMPING_NEW),
    (SOL_SOCKET, SO_DEVMEM_DONTNEED),
    (IPPROTO_TCP, libc::TCP_REPAIR),
    (IPPROTO_TCP, libc::TCP_ZEROCOPY_RECEIVE),
    (IPPROTO_TCP, libc::TCP_FASTOPEN_KEY),
    (IPPROTO_TCP, libc::TCP_INQ),
    (IPPROTO_TCP, TCP_TX_DELAY),
    (IPPROTO_IP, libc::IP_OPTIONS),
    (IPPROTO_IP, libc::IP_ADD_SOURCE_MEMBERSHIP),
    (IPPROTO_IPV6, libc::IPV6_2292PKTOPTIONS),
    (IPPROTO_IPV6, libc::IPV6_HOPOPTS),
    (IPPROTO_IPV6, libc::IPV6_RTHDRDSTOPTS),
    (IPPROTO_IPV6, libc::IPV6_DSTOPTS),
    (IPPROTO_IPV6, libc::IPV6_PKTINFO),
];

/// Those whose value is a descriptor, which another test may have open at one moment and not at the next.
const DESCRIPTORS: &[(c_int, c_int)] = &[
    (SOL_SOCKET, libc::SO_ATTACH_BPF),
    (SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF),
];

/// What no two sockets say alike.
const VOLATILE: &[(c_int, c_int)] = &[
    (SOL_SOCKET, libc::SO_INCOMING_CPU),
    (SOL_SOCKET, libc::SO_MEMINFO),
    (IPPROTO_TCP, libc::TCP_INFO),
    (IPPROTO_TCP, libc::TCP_TIMESTAMP),
    (IPPROTO_TCP, libc::TCP_CC_INFO),
];

const SO_TIMESTAMPING_NEW: c_int = 65;
const SO_DEVMEM_DONTNEED: c_int = 80;
const TCP_TX_DELAY: c_int = 37;

#[test]
fn each_option_is_set_and_read_as_the_kernel_does() {
    let mut differences = Vec::new();
    let mut refused = Vec::new();
    for domain in DOMAINS {
        for level in [
            SOL_SOCKET,
            IPPROTO_TCP,
            IPPROTO_IP,
            IPPROTO_IPV6,
            IPPROTO_UDP,
            IPPROTO_ICMPV6,
            12_345,
        ] {
            for name in -1..110 {
                let compared = Compared::connected(domain);
                match compare(&compared, level, name) {
                    Ok(Outcome::Alike) => (),
                    Ok(Outcome::Refused) => refused.push((level, name)),
                    Err(difference) => differences.push(format!("domain {domain}: {difference}")),
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    // Each entry has its reason: a session refused it where this kernel did not, or the kernel does
    // not have it.
    let vain: Vec<_> = UNSUPPORTED
        .iter()
        .filter(|option| !refused.contains(option) && !is_absent(**option))
        .collect();
    assert!(vain.is_empty(), "never refused: {vain:?}");
}

/// How an option fared.
enum Outcome {
    /// All was the same.
    Alike,
    /// A session refused what TCP accepted.
    Refused,
}

/// Whether this kernel, or a user with these privileges, does not have an option.
fn is_absent((level, name): (c_int, c_int)) -> bool {
    let compared = Compared::connected(libc::AF_INET6);
    LENGTHS.iter().all(|len| {
        let few = FEW_VALUES.iter().chain(&VALUES);
        few.copied()
            .all(|value| compared.set(level, name, &bytes(value, *len)).0.is_err())
    })
}

/// Compares all that is set and read; stops where a session refuses what TCP does.
fn compare(compared: &Compared, level: c_int, name: c_int) -> Result<Outcome, String> {
    let is_volatile = VOLATILE.contains(&(level, name));
    let is_unsupported = UNSUPPORTED.contains(&(level, name));
    if !is_volatile {
        read(compared, level, name, &READ_LENGTHS)
            .map_err(|text| format!("({level}, {name}), never set: {text}"))?;
    }
    for len in LENGTHS {
        let values: &[c_int] = if len == 4 { &VALUES } else { &FEW_VALUES };
        for &value in values {
            if DESCRIPTORS.contains(&(level, name)) && (3..=1_000).contains(&value) {
                continue;
            }
            let context = format!("({level}, {name}) to {value} in {len} bytes");
            let (real, held) = compared.set(level, name, &bytes(value, len));
            if is_unsupported && real.is_ok() && matches!(held, Err(Refused::Unsupported(_))) {
                return Ok(Outcome::Refused);
            }
            if real != held.map_err(Refused::errno) {
                return Err(format!("{context}: the kernel {real:?}, here {held:?}"));
            }
            if !is_volatile || (real.is_ok() && level == SOL_SOCKET) {
                read(compared, level, name, &FEW_READ_LENGTHS)
                    .map_err(|text| format!("{context}: {text}"))?;
            }
        }
    }
    if !is_volatile {
        read(compared, level, name, &READ_LENGTHS)
            .map_err(|text| format!("({level}, {name}) in the end: {text}"))?;
    }
    Ok(Outcome::Alike)
}

fn read(compared: &Compared, level: c_int, name: c_int, lengths: &[usize]) -> Result<(), String> {
    for &len in lengths {
        let (real, held) = compared.get(level, name, len);
        if (level, name) == (IPPROTO_TCP, libc::TCP_ZEROCOPY_RECEIVE) {
            assert!(matches!(held, Err(Refused::Unsupported(_))), "{held:?}");
            continue;
        }
        if real != held.clone().map_err(Refused::errno) {
            return Err(format!(
                "read {len} bytes: the kernel {real:?}, here {held:?}"
            ));
        }
    }
    Ok(())
}

/// An `int` that is followed by zeros, or cut.
fn bytes(value: c_int, len: usize) -> Vec<u8> {
    let mut bytes = value.to_ne_bytes().to_vec();
    bytes.resize(len, 0);
    bytes
}
