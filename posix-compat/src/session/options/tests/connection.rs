//! A real connection beside the options that stand for it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use dmm_nsocket::sys;
use libc::c_int;
use rustix::net::{AddressFamily, SocketType};

use super::super::{Facts, Options, Refused};

pub(super) const DOMAINS: [c_int; 2] = [libc::AF_INET, libc::AF_INET6];

/// One end of a connection, and what is held of it.
pub(super) struct Compared {
    pub(super) domain: c_int,
    pub(super) accepted: bool,
    pub(super) real: TcpStream,
    pub(super) other: TcpStream,
    pub(super) held: Options,
    /// SO_SNDBUF and SO_RCVBUF of this end, and SO_RCVBUF of the other.
    buffers: [u32; 3],
}

pub(super) fn listener(domain: c_int) -> TcpListener {
    TcpListener::bind(address(domain)).unwrap()
}

/// A socket that is not connected yet.
pub(super) fn fresh(domain: c_int) -> OwnedFd {
    let family = if domain == libc::AF_INET {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    rustix::net::socket(family, SocketType::STREAM, None).unwrap()
}

impl Compared {
    pub(super) fn connected(domain: c_int) -> Self {
        Self::connect(domain, fresh(domain), &listener(domain), false)
    }

    /// Connects `socket`; the end that is compared is the accepted one, or the other.
    pub(super) fn connect(
        domain: c_int,
        socket: OwnedFd,
        listener: &TcpListener,
        accepted: bool,
    ) -> Self {
        rustix::net::connect(&socket, &listener.local_addr().unwrap()).unwrap();
        let connecting = TcpStream::from(socket);
        let accepting = listener.accept().unwrap().0;
        let (real, other) = if accepted {
            (accepting, connecting)
        } else {
            (connecting, accepting)
        };
        let size = |end: &TcpStream, name| {
            sys::getsockopt_int(end, libc::SOL_SOCKET, name).unwrap() as u32
        };
        let buffers = [
            size(&real, libc::SO_SNDBUF),
            size(&real, libc::SO_RCVBUF),
            size(&other, libc::SO_RCVBUF),
        ];
        Self {
            domain,
            accepted,
            real,
            other,
            held: Options::new(),
            buffers,
        }
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            domain: self.domain,
            descriptor: self.real.as_fd(),
            accepted: self.accepted,
            state: 1,
            pending_error: 0,
            local_port: self.real.local_addr().unwrap().port(),
            peer: self.real.peer_addr().unwrap(),
            sent: 0,
            received: 0,
            unread: 0,
            unacknowledged: 0,
            unsent: 0,
            send_buffer: self.buffers[0],
            receive_buffer: self.buffers[1],
            peer_receive_buffer: self.buffers[2],
            at_mark: false,
            since_sent_ms: 0,
            since_received_ms: 0,
        }
    }

    /// Sets an option on both; returns the two results.
    pub(super) fn set(
        &self,
        level: c_int,
        name: c_int,
        value: &[u8],
    ) -> (Result<(), c_int>, Result<(), Refused>) {
        let real = sys::setsockopt(&self.real, level, name, value);
        let held = self.held.set(self.domain, level, name, value);
        (real.map_err(rustix::io::Errno::raw_os_error), held)
    }

    /// Asks an option of both; returns the two answers, of at most `len` bytes.
    pub(super) fn get(
        &self,
        level: c_int,
        name: c_int,
        len: usize,
    ) -> (Result<Vec<u8>, c_int>, Result<Vec<u8>, Refused>) {
        // What is not written must stay as it was.
        let mut real_out = vec![0xaa; len];
        let mut held_out = real_out.clone();
        let real = sys::getsockopt(&self.real, level, name, &mut real_out).map(|len| {
            real_out.truncate(len);
            real_out
        });
        let held = self
            .held
            .get(&self.facts(), level, name, &mut held_out)
            .map(|len| {
                held_out.truncate(len);
                held_out
            });
        (real.map_err(rustix::io::Errno::raw_os_error), held)
    }

    /// Panics if an option reads differently.
    pub(super) fn assert_reads_alike(&self, level: c_int, name: c_int, len: usize, context: &str) {
        let (real, held) = self.get(level, name, len);
        assert_eq!(
            held.map_err(Refused::errno),
            real,
            "getsockopt({level}, {name}) of {len} bytes, domain {}, {context}",
            self.domain
        );
    }

    pub(super) fn fd(&self) -> c_int {
        self.real.as_raw_fd()
    }
}

fn address(domain: c_int) -> SocketAddr {
    match domain {
        libc::AF_INET => (Ipv4Addr::LOCALHOST, 0).into(),
        _ => (Ipv6Addr::LOCALHOST, 0).into(),
    }
}
