//! Where programs run, and for how long.

use std::time::Duration;

use dmm_tests::net::wait_for_listener;
use dmm_tests::{Program, Running, Setting};

/// A core for the server, one for the client, and the length of a run.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The server's core.
    pub server_core: usize,
    /// The client's core; it may be the server's.
    pub client_core: usize,
    /// How long a run takes, where a client can be told.
    pub seconds: u64,
}

impl Place {
    /// A server of this setting, on its core.
    pub fn server(self, setting: &Setting, name: &str) -> Program {
        pinned(setting, self.server_core, name)
    }

    /// A client of this setting, on its core; it may take some time longer than a run.
    pub fn client(self, setting: &Setting, name: &str) -> Program {
        pinned(setting, self.client_core, name).limit(Duration::from_secs(60 + 10 * self.seconds))
    }
}

/// Starts a server and waits until it listens on TCP `port`.
pub fn serve(program: Program, port: u16) -> Running {
    let server = program.start();
    wait_for_listener(port);
    server
}

fn pinned(setting: &Setting, core: usize, name: &str) -> Program {
    setting
        .program("taskset")
        .words(&format!("-c {core}"))
        .arg(name)
}
