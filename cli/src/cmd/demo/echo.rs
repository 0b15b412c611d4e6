//! The two programs of the demo: an echo server and its client, plain sockets and blocking calls.
//!
//! They know nothing of DMM; that they are in the same executable only saves shipping others. Each
//! lives until its standard input ends, so that none is left behind if the demo is killed.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};

use crate::output::Out;
use crate::{Doing, Error};

/// A peer on the same host that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Short connections before the long one: enough for a 99th percentile.
const CONNECTIONS: u32 = 200;

/// A plain echo server, for the demo.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// The core to stay on.
    #[arg(long)]
    core: Option<usize>,
}

/// A plain echo client, for the demo.
#[derive(Debug, clap::Args)]
pub struct ClientArgs {
    /// The server.
    server: SocketAddr,

    /// How long to go on, in milliseconds.
    #[arg(long)]
    milliseconds: u64,

    /// Bytes in a message.
    #[arg(long)]
    size: usize,

    /// The core to stay on.
    #[arg(long)]
    core: Option<usize>,
}

/// What the client has measured, in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// From the start of `connect` to its return.
    pub connect: Percentiles,
    /// From the start of `write` to the last byte of the echo.
    pub round_trip: Percentiles,
}

/// A distribution.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Percentiles {
    pub samples: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Percentiles {
    /// The percentiles of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            samples: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

/// Says its port, and echoes until the standard input ends.
pub fn server(args: &ServerArgs, out: &mut Out) -> Result<ExitCode, Error> {
    stay_on(args.core);
    let listener =
        TcpListener::bind(("127.0.0.1", 0)).doing(|| "listen on 127.0.0.1".to_owned())?;
    let port = listener.local_addr()?.port();
    writeln!(out, "{port}")?;
    out.flush()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is the client's to report.
            thread::spawn(move || echo(&stream));
        }
    });
    wait_for_end()?;
    Ok(ExitCode::SUCCESS)
}

/// Measures, prints what it has measured as a line of JSON, and keeps its connection until the
/// standard input ends.
pub fn client(args: &ClientArgs, out: &mut Out) -> Result<ExitCode, Error> {
    stay_on(args.core);
    let doing = || format!("talk to {}", args.server);
    let (measured, _connection) = measure(args).doing(doing)?;
    serde_json::to_writer(&mut *out, &measured).map_err(io::Error::from)?;
    writeln!(out)?;
    out.flush()?;
    wait_for_end()?;
    Ok(ExitCode::SUCCESS)
}

/// Where that is refused, the figures are a little less steady.
fn stay_on(core: Option<usize>) {
    if let Some(core) = core {
        let mut set = CpuSet::new();
        set.set(core);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

fn measure(args: &ClientArgs) -> io::Result<(Measured, TcpStream)> {
    let mut connect = histogram();
    for _ in 0..CONNECTIONS {
        let (mut stream, time) = connected(args.server)?;
        connect.saturating_record(time);
        // The server has accepted it when the echo is there.
        round_trip(&mut stream, b"hello", &mut [0; 5])?;
    }
    let (mut stream, time) = connected(args.server)?;
    connect.saturating_record(time);
    let mut trips = histogram();
    let message: Vec<u8> = (0..args.size).map(|i| i as u8).collect();
    let mut answer = vec![0; args.size];
    let end = Instant::now() + Duration::from_millis(args.milliseconds);
    loop {
        let start = Instant::now();
        if start >= end {
            break;
        }
        round_trip(&mut stream, &message, &mut answer)?;
        trips.saturating_record(nanoseconds(start));
    }
    let measured = Measured {
        connect: Percentiles::of(&connect),
        round_trip: Percentiles::of(&trips),
    };
    Ok((measured, stream))
}

fn connected(server: SocketAddr) -> io::Result<(TcpStream, u64)> {
    let start = Instant::now();
    let stream = TcpStream::connect(server)?;
    let time = nanoseconds(start);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok((stream, time))
}

fn round_trip(stream: &mut TcpStream, message: &[u8], answer: &mut [u8]) -> io::Result<()> {
    stream.write_all(message)?;
    stream.read_exact(answer)?;
    if answer == message {
        Ok(())
    } else {
        Err(io::Error::other("the echo differs from what was sent"))
    }
}

fn histogram() -> Histogram<u64> {
    const DIGITS: u8 = 3;
    const LONGEST: u64 = 60_000_000_000;
    Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("these bounds are valid")
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn wait_for_end() -> Result<(), Error> {
    io::copy(&mut io::stdin(), &mut io::sink()).doing(|| "wait for the end".to_owned())?;
    Ok(())
}
