//! What is known of a connection that has carried data.

use std::io::{Read, Write};

use libc::{IPPROTO_TCP, c_int};
use syscalls::{Sysno, syscall};

use super::super::ioctl;
use super::connection::{Compared, DOMAINS};

const SIOCOUTQNSD: u32 = 0x894b;
const SIOCATMARK: u32 = 0x8905;

fn ask_kernel(compared: &Compared, request: u32) -> Result<c_int, c_int> {
    let mut answer: c_int = 0;
    // SAFETY: these requests write one int.
    let result = unsafe { syscall!(Sysno::ioctl, compared.fd(), request, &raw mut answer) };
    result.map(|_| answer).map_err(syscalls::Errno::into_raw)
}

#[test]
fn requests_are_answered_as_by_the_kernel() {
    for domain in DOMAINS {
        let mut compared = Compared::connected(domain);
        compared.other.write_all(&[7; 1_000]).unwrap();
        compared.real.read_exact(&mut [0; 10]).unwrap();
        let mut facts = compared.facts();
        facts.unread = 990;
        let requests = [
            libc::FIONREAD as u32,
            libc::TIOCOUTQ as u32,
            SIOCOUTQNSD,
            SIOCATMARK,
        ];
        for request in requests {
            let real = ask_kernel(&compared, request);
            assert_eq!(ioctl(&facts, request), Some(real), "{request:#x}");
        }
        assert_eq!(ioctl(&facts, libc::FIONBIO as u32), None);
        facts.at_mark = true;
        facts.unacknowledged = 5;
        facts.unsent = 4;
        assert_eq!(ioctl(&facts, SIOCATMARK), Some(Ok(1)));
        assert_eq!(ioctl(&facts, libc::TIOCOUTQ as u32), Some(Ok(5)));
        assert_eq!(ioctl(&facts, SIOCOUTQNSD), Some(Ok(4)));
    }
}

#[test]
fn tcp_info_has_the_kernels_fields_in_their_places() {
    for domain in DOMAINS {
        let mut compared = Compared::connected(domain);
        compared.real.write_all(&[1; 3_000]).unwrap();
        compared.other.read_exact(&mut [0; 3_000]).unwrap();
        compared.other.write_all(&[2; 500]).unwrap();
        compared.real.read_exact(&mut [0; 500]).unwrap();
        let (real, _) = compared.get(IPPROTO_TCP, libc::TCP_INFO, 400);
        let real = real.unwrap();
        let mut facts = compared.facts();
        facts.sent = 3_000;
        facts.received = 500;
        let mut held = [0xaa; 400];
        let len = compared
            .held
            .get(&facts, IPPROTO_TCP, libc::TCP_INFO, &mut held)
            .unwrap();
        assert_eq!(len, real.len());
        let field =
            |info: &[u8], at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap());
        assert_eq!(held[..6], real[..6], "state ... options");
        for (at, what) in [
            (24, "unacked"),
            (28, "sacked"),
            (32, "lost"),
            (36, "retrans"),
            (60, "pmtu"),
            (76, "snd_ssthresh"),
            (84, "advmss"),
            (100, "total_retrans"),
            (128, "bytes_received"),
            (132, "bytes_received"),
            (144, "notsent_bytes"),
            (152, "data_segs_in"),
            (156, "data_segs_out"),
            (200, "bytes_sent"),
            (204, "bytes_sent"),
            (208, "bytes_retrans"),
        ] {
            assert_eq!(
                field(&held, at),
                field(&real, at),
                "{what}, domain {domain}"
            );
        }
        // TCP counts the SYN of the side that has connected.
        assert_eq!(field(&held, 120) + 1, field(&real, 120), "bytes_acked");
        // As much of it as is asked for.
        let mut short = [0; 10];
        let len = compared
            .held
            .get(&facts, IPPROTO_TCP, libc::TCP_INFO, &mut short);
        assert_eq!((len, &short), (Ok(10), held.first_chunk().unwrap()));
    }
}

#[test]
fn the_segment_size_is_tcps() {
    for domain in DOMAINS {
        for accepted in [false, true] {
            let listener = super::connection::listener(domain);
            let socket = super::connection::fresh(domain);
            let compared = Compared::connect(domain, socket, &listener, accepted);
            compared.assert_reads_alike(IPPROTO_TCP, libc::TCP_MAXSEG, 4, "connected");
            compared.assert_reads_alike(IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, 4, "connected");
        }
    }
}
