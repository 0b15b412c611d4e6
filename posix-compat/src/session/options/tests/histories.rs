//! Several options, one after the other: what one does to another, what is inherited, what was set
//! before there was a connection, and what others than root may do.

use std::os::fd::AsFd;

use dmm_nsocket::sys;
use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET, c_int};

use super::super::table::Slot;
use super::super::{Inherited, Linger, Options, Refused, Timestamps};
use super::connection::{Compared, DOMAINS, fresh, listener};

/// An option and a value that is not its default.
type Setting = (c_int, c_int, &'static [u8]);

const ONE: &[u8] = &1i32.to_ne_bytes();
const ZERO: &[u8] = &0i32.to_ne_bytes();

/// Options that a session holds, in ways that programs set them.
const SETTINGS: &[Setting] = &[
    (IPPROTO_TCP, libc::TCP_NODELAY, ONE),
    (IPPROTO_TCP, libc::TCP_CORK, ONE),
    (IPPROTO_TCP, libc::TCP_KEEPIDLE, &77i32.to_ne_bytes()),
    (IPPROTO_TCP, libc::TCP_KEEPINTVL, &7i32.to_ne_bytes()),
    (IPPROTO_TCP, libc::TCP_KEEPCNT, &5i32.to_ne_bytes()),
    (IPPROTO_TCP, libc::TCP_SYNCNT, &3i32.to_ne_bytes()),
    (IPPROTO_TCP, libc::TCP_LINGER2, &11i32.to_ne_bytes()),
    (
        IPPROTO_TCP,
        libc::TCP_USER_TIMEOUT,
        &12_345i32.to_ne_bytes(),
    ),
    (IPPROTO_TCP, 25, &16_384i32.to_ne_bytes()),
    (IPPROTO_TCP, libc::TCP_CONGESTION, b"reno"),
    (IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, ONE),
    (SOL_SOCKET, libc::SO_KEEPALIVE, ONE),
    (SOL_SOCKET, libc::SO_REUSEADDR, ONE),
    (SOL_SOCKET, libc::SO_REUSEPORT, ONE),
    (SOL_SOCKET, libc::SO_OOBINLINE, ONE),
    (SOL_SOCKET, libc::SO_BROADCAST, ONE),
    (SOL_SOCKET, libc::SO_RCVLOWAT, &100i32.to_ne_bytes()),
    (SOL_SOCKET, libc::SO_PRIORITY, &5i32.to_ne_bytes()),
    (SOL_SOCKET, libc::SO_LINGER, &[1, 0, 0, 0, 9, 0, 0, 0]),
    (
        SOL_SOCKET,
        libc::SO_RCVTIMEO,
        &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    ),
    (
        SOL_SOCKET,
        libc::SO_SNDTIMEO,
        &[3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
    ),
    (SOL_SOCKET, libc::SO_SNDBUF, &30_000i32.to_ne_bytes()),
    (SOL_SOCKET, libc::SO_RCVBUF, &50_000i32.to_ne_bytes()),
    (SOL_SOCKET, libc::SO_TIMESTAMP, ONE),
    (SOL_SOCKET, libc::SO_TIMESTAMPNS, ONE),
    (SOL_SOCKET, 63, ONE),
    (SOL_SOCKET, 64, ONE),
    (SOL_SOCKET, libc::SO_TIMESTAMP, ZERO),
    (SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo\0"),
    (SOL_SOCKET, libc::SO_BINDTODEVICE, b""),
    (SOL_SOCKET, 72, ZERO),
    (IPPROTO_IP, libc::IP_TOS, &0x10i32.to_ne_bytes()),
    (IPPROTO_IP, libc::IP_TOS, &[0xb8]),
    (IPPROTO_IP, libc::IP_TOS, ZERO),
    (IPPROTO_IP, libc::IP_TTL, &9i32.to_ne_bytes()),
    (IPPROTO_IP, libc::IP_TTL, &(-1i32).to_ne_bytes()),
    (IPPROTO_IP, libc::IP_MTU_DISCOVER, ZERO),
    (IPPROTO_IP, libc::IP_RECVTOS, ONE),
    (IPPROTO_IP, libc::IP_RECVERR, ONE),
    (IPPROTO_IP, libc::IP_FREEBIND, ONE),
    (IPPROTO_IPV6, libc::IPV6_TCLASS, &0x48i32.to_ne_bytes()),
    (IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &7i32.to_ne_bytes()),
    (
        IPPROTO_IPV6,
        libc::IPV6_UNICAST_HOPS,
        &(-1i32).to_ne_bytes(),
    ),
    (IPPROTO_IPV6, libc::IPV6_RECVTCLASS, ONE),
    (IPPROTO_IPV6, libc::IPV6_FREEBIND, ONE),
    (IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, ZERO),
];

/// The lengths in which an option is read, by how large its value is.
fn read_all(compared: &Compared, but: &[(c_int, c_int)], context: &str) {
    let structs = [
        (SOL_SOCKET, libc::SO_LINGER, 8),
        (SOL_SOCKET, libc::SO_RCVTIMEO, 16),
        (SOL_SOCKET, libc::SO_SNDTIMEO, 16),
        (SOL_SOCKET, libc::SO_BINDTODEVICE, 16),
        (SOL_SOCKET, libc::SO_TIMESTAMPNS, 4),
        (SOL_SOCKET, 63, 4),
        (SOL_SOCKET, 64, 4),
        (IPPROTO_TCP, libc::TCP_CONGESTION, 16),
        (IPPROTO_IPV6, libc::IPV6_FREEBIND, 4),
        (IPPROTO_IPV6, libc::IPV6_TRANSPARENT, 4),
    ];
    let numbers = Slot::all().map(|slot| (slot.row().level, slot.row().name, 4));
    for (level, name, len) in structs.into_iter().chain(numbers) {
        if (level, name) != (SOL_SOCKET, libc::SO_INCOMING_CPU) && !but.contains(&(level, name)) {
            compared.assert_reads_alike(level, name, len, context);
        }
    }
}

#[test]
fn what_one_option_does_to_another_is_done_here_too() {
    // TCP makes the buffer larger for a high mark.
    let but = [
        (SOL_SOCKET, libc::SO_RCVBUF),
        (IPPROTO_TCP, libc::TCP_WINDOW_CLAMP),
    ];
    for domain in DOMAINS {
        for seed in 1..=6u64 {
            let compared = Compared::connected(domain);
            let mut random = seed;
            for step in 0..80 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let (level, name, value) = SETTINGS[(random >> 33) as usize % SETTINGS.len()];
                let (real, held) = compared.set(level, name, value);
                let context = format!("seed {seed}, step {step}: ({level}, {name}) to {value:?}");
                assert_eq!(held.map_err(Refused::errno), real, "{context}");
                read_all(&compared, &but, &context);
            }
        }
    }
}

#[test]
fn an_accepted_socket_has_what_its_listener_had() {
    for domain in DOMAINS {
        for (level, name, value) in SETTINGS {
            let listener = listener(domain);
            if sys::setsockopt(&listener, *level, *name, value).is_err() {
                assert!(
                    *level == IPPROTO_IPV6 && domain == libc::AF_INET,
                    "({level}, {name})"
                );
                continue;
            }
            let inherited = Inherited::of(listener.as_fd(), domain);
            let compared = Compared::connect(domain, fresh(domain), &listener, true);
            compared.held.inherit(&inherited);
            read_all(
                &compared,
                &[],
                &format!("inherited ({level}, {name}) {value:?}"),
            );
        }
    }
}

#[test]
fn what_was_set_before_the_connection_is_kept() {
    const ONLY_BEFORE: &[Setting] = &[
        (IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, ONE),
        (IPPROTO_TCP, libc::TCP_MAXSEG, &1_000i32.to_ne_bytes()),
        (
            IPPROTO_TCP,
            libc::TCP_WINDOW_CLAMP,
            &40_000i32.to_ne_bytes(),
        ),
        (IPPROTO_IPV6, libc::IPV6_V6ONLY, ONE),
    ];
    for domain in DOMAINS {
        for (level, name, value) in SETTINGS.iter().chain(ONLY_BEFORE) {
            let socket = fresh(domain);
            if sys::setsockopt(&socket, *level, *name, value).is_err() {
                assert!(
                    *level == IPPROTO_IPV6 && domain == libc::AF_INET,
                    "({level}, {name})"
                );
                continue;
            }
            if *name == libc::TCP_FASTOPEN_CONNECT && *level == IPPROTO_TCP {
                // The connection would wait for data.
                let held = Options::new();
                held.replay(domain, *level, *name, value).unwrap();
                continue;
            }
            let compared = Compared::connect(domain, socket, &listener(domain), false);
            compared.held.replay(domain, *level, *name, value).unwrap();
            // TCP cuts the window to whole segments.
            let but: &[_] = match *name {
                libc::TCP_MAXSEG => &[(IPPROTO_TCP, libc::TCP_WINDOW_CLAMP)],
                _ => &[],
            };
            read_all(
                &compared,
                but,
                &format!("before: ({level}, {name}) {value:?}"),
            );
        }
    }
}

#[test]
fn those_without_privileges_are_refused_alike() {
    const PRIVILEGED: &[Setting] = &[
        (SOL_SOCKET, libc::SO_DEBUG, ONE),
        (SOL_SOCKET, libc::SO_MARK, ONE),
        (SOL_SOCKET, libc::SO_PRIORITY, &7i32.to_ne_bytes()),
        (SOL_SOCKET, libc::SO_PRIORITY, &6i32.to_ne_bytes()),
        (SOL_SOCKET, libc::SO_SNDBUFFORCE, &300_000i32.to_ne_bytes()),
        (SOL_SOCKET, libc::SO_RCVBUFFORCE, &300_000i32.to_ne_bytes()),
        (SOL_SOCKET, libc::SO_BUSY_POLL, &100i32.to_ne_bytes()),
        (SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, ONE),
        (SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo"),
        (SOL_SOCKET, libc::SO_BINDTODEVICE, b""),
        (IPPROTO_IP, libc::IP_TRANSPARENT, ONE),
        (IPPROTO_IPV6, libc::IPV6_TRANSPARENT, ONE),
        (IPPROTO_TCP, libc::TCP_CONGESTION, b"cubic"),
        (IPPROTO_TCP, libc::TCP_CONGESTION, b"reno"),
        (IPPROTO_TCP, libc::TCP_CONGESTION, b"none such"),
        (IPPROTO_TCP, libc::TCP_REPAIR, ONE),
    ];
    // Of this thread alone: the raw call, unlike libc's, does not change the others.
    // SAFETY: it changes credentials and touches no memory.
    let _ = unsafe { syscalls::syscall!(syscalls::Sysno::setresuid, 65_534, 65_534, 65_534) };
    for domain in DOMAINS {
        let compared = Compared::connected(domain);
        for (level, name, value) in PRIVILEGED {
            let (real, held) = compared.set(*level, *name, value);
            let context = format!("({level}, {name}) to {value:?}");
            assert_eq!(held.map_err(Refused::errno), real, "{context}");
            read_all(&compared, &[], &context);
        }
    }
}

#[test]
fn hot_getters_say_what_was_set() {
    let options = Options::new();
    let set = |level, name, value: &[u8]| options.set(libc::AF_INET, level, name, value).unwrap();
    let defaults = |options: &Options| {
        assert_eq!(options.receive_timeout_ns(), None);
        assert_eq!(options.send_timeout_ns(), None);
        assert_eq!(options.receive_low_water(), 1);
        assert_eq!(
            options.linger(),
            Linger {
                on: false,
                seconds: 0
            }
        );
        assert_eq!(
            (options.send_buffer(), options.receive_buffer()),
            (None, None)
        );
        assert_eq!(
            (options.notsent_low_water(), options.user_timeout_ms()),
            (None, None)
        );
        assert_eq!(options.timestamps(), Timestamps::Off);
        assert!(!options.nodelay() && !options.cork());
        assert!(!options.oob_inline() && !options.keep_alive());
    };
    defaults(&options);
    // To choose a device again takes a privilege.
    let chosen = SETTINGS.iter().filter(|(level, name, _)| {
        *level != IPPROTO_IPV6 && (*level, *name) != (SOL_SOCKET, libc::SO_BINDTODEVICE)
    });
    for (level, name, value) in chosen {
        set(*level, *name, value);
    }
    set(SOL_SOCKET, libc::SO_TIMESTAMPNS, ONE);
    let timeout = options.receive_timeout_ns().unwrap();
    assert!(
        (2_000_001_000..2_010_000_001).contains(&timeout),
        "{timeout}"
    );
    assert!(options.send_timeout_ns().unwrap() > 3_000_000_000);
    assert_eq!(options.receive_low_water(), 100);
    assert_eq!(
        options.linger(),
        Linger {
            on: true,
            seconds: 9
        }
    );
    assert_eq!(
        (options.send_buffer(), options.receive_buffer()),
        (Some(60_000), Some(100_000))
    );
    assert_eq!(options.notsent_low_water(), Some(16_384));
    assert_eq!(options.user_timeout_ms(), Some(12_345));
    assert_eq!(options.timestamps(), Timestamps::Nanos);
    assert!(options.nodelay() && options.cork());
    assert!(options.oob_inline() && options.keep_alive());
    // A negative timeout: do not wait.
    let negative = [(-1i64).to_ne_bytes(), [0; 8]].concat();
    set(SOL_SOCKET, libc::SO_RCVTIMEO, &negative);
    assert_eq!(options.receive_timeout_ns(), Some(0));
    options.reset();
    defaults(&options);
}
