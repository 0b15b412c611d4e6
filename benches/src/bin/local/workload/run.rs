//! One run of one workload on one side: where its programs are, and what they cost.

use std::path::Path;
use std::time::Duration;

use dmm_benches::clients::number;
use dmm_benches::place::Place;
use dmm_tests::net::{free_port, is_listening};
use dmm_tests::{Program, Running, Setting, eventually};

use crate::cpu;
use crate::probes::{Probe, Probes};
use crate::side::{Address, Side};

/// What a workload runs in.
#[derive(Clone, Debug)]
pub(crate) struct Run<'a> {
    setting: &'a Setting,
    side: Side,
    place: Place,
    probes: &'a Probes,
    mark: String,
}

/// What a small C client prints at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loop {
    /// Requests, those of the warm-up included.
    pub(crate) all: f64,
    /// Requests a second, without it.
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl<'a> Run<'a> {
    pub(crate) fn new(setting: &'a Setting, side: Side, place: Place, probes: &'a Probes) -> Self {
        let mark = setting.dir().display().to_string();
        Self {
            setting,
            side,
            place,
            probes,
            mark,
        }
    }

    /// The same with the client on the server's core.
    pub(crate) fn on_one_core(&self) -> Self {
        let mut run = self.clone();
        run.place.client_core = run.place.server_core;
        run
    }

    pub(crate) fn setting(&self) -> &Setting {
        self.setting
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.place.seconds
    }

    /// A place for a server of this side to listen.
    pub(crate) fn address(&self) -> Address {
        match self.side {
            Side::Tcp | Side::Local => Address::Tcp(free_port()),
            Side::Unix => Address::Unix(self.setting.dir().join("socket")),
        }
    }

    pub(crate) fn server(&self, name: &str) -> Program {
        self.place
            .server(self.setting, name)
            .env(cpu::MARK, &self.mark)
    }

    pub(crate) fn client(&self, name: &str) -> Program {
        self.place
            .client(self.setting, name)
            .env(cpu::MARK, &self.mark)
    }

    pub(crate) fn probe_server(&self, probe: Probe) -> Program {
        self.server(&self.probes.path(probe).display().to_string())
    }

    pub(crate) fn probe_client(&self, probe: Probe) -> Program {
        self.client(&self.probes.path(probe).display().to_string())
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn serve(&self, program: Program, address: &Address) -> Running {
        let mut server = program.start();
        eventually(&format!("a listener at {address}"), || {
            assert!(
                server.is_running(),
                "the server has ended\n{}",
                server.transcript()
            );
            let listens = match address {
                Address::Tcp(port) => is_listening(*port),
                Address::Unix(path) => is_listening_at(path),
            };
            listens.then_some(())
        });
        self.setting.check(&server);
        server
    }

    /// CPU time so far of all that belongs to this run; the server leads a process group.
    pub(crate) fn cpu_so_far(&self, server: u32) -> Duration {
        cpu::so_far(&self.mark, server)
    }

    /// What a client prints, and the CPU time of both sides and of whatever helps them.
    pub(crate) fn metered(&self, server: &Running, client: Program) -> (String, Duration) {
        let before = self.cpu_so_far(server.pid());
        let report = client.output();
        let cpu = self.cpu_so_far(server.pid()).saturating_sub(before);
        (report, cpu)
    }
}

impl Loop {
    /// Reads the report of a small C client.
    ///
    /// # Panics
    /// When it is none.
    pub(crate) fn of(report: &str) -> Self {
        let line = report.lines().next_back().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let figure = |name: &str| {
            let at = words.iter().position(|word| *word == name);
            number(at.and_then(|at| words.get(at + 1)).copied(), report)
        };
        Self {
            all: figure("all"),
            rate: figure("count") / figure("elapsed_ns") * 1e9,
            p50_us: figure("p50_ns") / 1e3,
            p99_us: figure("p99_ns") / 1e3,
        }
    }
}

/// Whether somebody listens at a Unix socket; its file is there a moment before.
fn is_listening_at(path: &Path) -> bool {
    /// `__SO_ACCEPTCON`, see proc_net_unix(5).
    const LISTENS: &str = "00010000";
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.nth(3) == Some(LISTENS) && words.nth(3).is_some_and(|name| Path::new(name) == path)
    })
}

/// CPU microseconds for each of `count`.
pub(crate) fn micros_each(cpu: Duration, count: f64) -> f64 {
    cpu.as_secs_f64() * 1e6 / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_report_is_read_by_its_names() {
        let report = "open 10\nall 120 count 100 elapsed_ns 2000000000 p50_ns 1500 p99_ns 9000\n";
        let read = Loop::of(report);
        assert_eq!((read.all, read.rate), (120.0, 50.0));
        assert_eq!((read.p50_us, read.p99_us), (1.5, 9.0));
    }

    #[test]
    #[should_panic(expected = "no result in what the client printed")]
    fn a_report_that_says_nothing_is_none() {
        Loop::of("open 10\n");
    }

    #[test]
    fn unix_listeners_are_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        assert!(!is_listening_at(&path));
        let _listener = UnixListener::bind(&path).expect("a listener");
        assert!(is_listening_at(&path));
    }
}
