//! Many open sessions: what they cost when nothing happens, and what one event costs among them.

use std::io::Write;
use std::time::Duration;

use dmm_tests::Running;

use super::run::{Loop, Run, micros_each};
use crate::memory;
use crate::probes::Probe;
use crate::row::Measured;
use crate::rows;
use crate::side::Address;

const IDLE_SESSIONS: usize = 1_000;
const IDLE_TIME: Duration = Duration::from_secs(5);
/// After the last session was opened: what is done later than at once (a spin, a timer) is over.
const SETTLING: Duration = Duration::from_millis(500);

const FEW: usize = 10;
const MANY: usize = 10_000;

/// A thousand sessions, each used once.
pub(super) fn idle(run: &Run<'_>) -> Vec<Measured> {
    let address = run.address();
    let server = serve(run, &address);
    let mut client = run
        .probe_client(Probe::Sessions)
        .arg("idle")
        .arg(address.to_string())
        .arg(IDLE_SESSIONS.to_string())
        .piped_input()
        .start();
    let mut input = client.stdin();

    // With one session open, what a process has once is not counted for each.
    client.wait_for_text("open 1\n");
    std::thread::sleep(SETTLING);
    let before = Memory::now(&server, &client);
    writeln!(input).expect("to tell the client");
    client.wait_for_text(&format!("open {IDLE_SESSIONS}\n"));
    std::thread::sleep(SETTLING);
    let after = Memory::now(&server, &client);
    let each = |before: f64, after: f64| (after - before) / (IDLE_SESSIONS - 1) as f64;

    let cpu_before = run.cpu_so_far(server.pid());
    std::thread::sleep(IDLE_TIME);
    let cpu = run.cpu_so_far(server.pid()).saturating_sub(cpu_before);

    drop(input);
    client.wait().success();
    vec![
        rows::IDLE_CPU.is(cpu.as_secs_f64() * 1e6),
        rows::IDLE_SERVER.is(each(before.server, after.server)),
        rows::IDLE_CLIENT.is(each(before.client, after.client)),
        rows::IDLE_SHARED.is(each(before.shared, after.shared)),
    ]
}

/// One active session among few and among many. It changes now and then, so that its memory is in the
/// caches; and, scattered, with every event, so that it is not.
pub(super) fn many(run: &Run<'_>) -> Vec<Measured> {
    let few = turns(run, FEW, 64);
    let many = turns(run, MANY, 64);
    let scattered_few = turns(run, FEW, 1);
    let scattered_many = turns(run, MANY, 1);
    vec![
        rows::EVENT_FEW.is(few.micros),
        rows::EVENT_MANY.is(many.micros),
        rows::EVENT_GROWTH.is(many.micros / few.micros),
        rows::EVENT_CPU.is(many.cpu_micros),
        rows::SCATTERED_FEW.is(scattered_few.micros),
        rows::SCATTERED_MANY.is(scattered_many.micros),
        rows::SCATTERED_GROWTH.is(scattered_many.micros / scattered_few.micros),
        rows::SCATTERED_CPU.is(scattered_many.cpu_micros),
    ]
}

struct Memory {
    server: f64,
    client: f64,
    shared: f64,
}

impl Memory {
    fn now(server: &Running, client: &Running) -> Self {
        Self {
            server: memory::proportional(server.pid()),
            client: memory::proportional(client.pid()),
            shared: memory::shared(),
        }
    }
}

/// What an event costs, in the mean.
struct Event {
    micros: f64,
    cpu_micros: f64,
}

fn turns(run: &Run<'_>, sessions: usize, dwell: u64) -> Event {
    let address = run.address();
    let server = serve(run, &address);
    let mut client = run
        .probe_client(Probe::Sessions)
        .arg("turns")
        .arg(address.to_string())
        .words(&format!("{sessions} {} {dwell}", run.seconds()))
        .piped_input()
        .start();
    let mut input = client.stdin();
    client.wait_for_text(&format!("open {sessions}\n"));
    let before = run.cpu_so_far(server.pid());
    writeln!(input).expect("to tell the client");
    let report = Loop::of(&client.wait().success().text());
    let cpu = run.cpu_so_far(server.pid()).saturating_sub(before);
    Event {
        micros: 1e6 / report.rate,
        cpu_micros: micros_each(cpu, report.all),
    }
}

fn serve(run: &Run<'_>, address: &Address) -> Running {
    // A Unix socket's file stays behind: the next server of a run could not bind it.
    if let Address::Unix(path) = address {
        let _not_there = std::fs::remove_file(path);
    }
    run.serve(
        run.probe_server(Probe::Echo).arg(address.to_string()),
        address,
    )
}
