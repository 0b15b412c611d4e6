//! What statistics cost a program: each kind of update to a stats segment, and reading one.
//!
//! ```sh
//! cargo bench -p dmm-benches --bench stats
//! cargo bench -p dmm-benches --bench stats -- --json stats.json
//! ```
//!
//! An update is a few instructions, less than reading the clock: each is timed in batches, of which
//! the median is shown.

use std::ffi::CString;
use std::hint::black_box;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use dmm_nsocket::stats::{
    CreateInfo, HistogramKind, Opened, Segment, Selected, SeriesCounter, Snapshot, SocketRole,
};

/// Measures updates of a stats segment.
#[derive(Parser)]
struct Arguments {
    /// Write the results as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Batches of each; the median is shown.
    #[arg(long, default_value_t = 101)]
    batches: usize,
    /// Directory of the segment.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

struct Results {
    batches: usize,
    lines: Vec<(&'static str, f64)>,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let mut results = Results {
        batches: arguments.batches,
        lines: Vec::new(),
    };
    making(&arguments.dir, &mut results);
    updates(&arguments.dir, &mut results);
    reading(&arguments.dir, &mut results);
    let mut stdout = std::io::stdout().lock();
    write(&results, &mut stdout)?;
    if let Some(path) = &arguments.json {
        let map: serde_json::Map<_, _> = results
            .lines
            .iter()
            .map(|(name, ns)| ((*name).to_owned(), (*ns).into()))
            .collect();
        std::fs::write(path, serde_json::to_vec_pretty(&map)?)?;
    }
    Ok(())
}

fn write(results: &Results, to: &mut impl std::io::Write) -> std::io::Result<()> {
    writeln!(to, "{:<44} {:>12}", "", "median ns")?;
    for (name, ns) in &results.lines {
        writeln!(to, "{name:<44} {ns:>12.1}")?;
    }
    Ok(())
}

impl Results {
    /// Times `times` calls at once, again and again, and keeps the median of a call.
    fn measure(&mut self, name: &'static str, times: u64, mut call: impl FnMut(u64)) {
        let mut batches: Vec<f64> = (0..self.batches)
            .map(|_| {
                let start = Instant::now();
                for i in 0..times {
                    call(i);
                }
                start.elapsed().as_secs_f64() * 1e9 / times as f64
            })
            .collect();
        batches.sort_by(f64::total_cmp);
        self.lines.push((name, batches[batches.len() / 2]));
    }
}

fn making(dir: &Path, results: &mut Results) {
    results.measure("make a segment, use one socket, remove it", 1, |_| {
        let segment = segment(dir);
        open(&segment, 3);
        segment.unlink();
    });
}

fn updates(dir: &Path, results: &mut Results) {
    const MANY: u64 = 100_000;
    let segment = segment(dir);
    let (rule, stack) = (segment.rule("cache traffic", 14), segment.stack("kernel"));
    let series = segment.series(rule, stack);
    open(&segment, 5);
    results.measure("bytes sent, found by descriptor", MANY, |i| {
        black_box(segment.existing_socket(5))
            .expect("it is open")
            .add_sent(i);
    });
    results.measure("count for a rule and stack", MANY, |_| {
        segment.count(series, SeriesCounter::Connects, 1);
    });
    results.measure("time into a histogram", MANY, |i| {
        segment.record_time(
            series,
            HistogramKind::Blocking,
            1_000 + (i * 7_919) % 1_000_000,
        );
    });
    results.measure("rule by name, of one", MANY, |_| {
        black_box(segment.rule("cache traffic", 14));
    });
    results.measure("socket opened, selected and closed", MANY / 10, |_| {
        open(&segment, 5);
        segment.socket(5).expect("a small number").close();
    });
    for i in 0..900 {
        segment.rule(&format!("rule {i}"), i);
    }
    results.measure("rule by name, last of 900", MANY / 100, |_| {
        black_box(segment.rule("rule 899", 899));
    });
    segment.unlink();
}

fn reading(dir: &Path, results: &mut Results) {
    let segment = segment(dir);
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(segment.path().to_bytes()));
    open(&segment, 3);
    results.measure("snapshot with 1 socket", 1, |_| {
        black_box(Snapshot::read(&path).expect("a segment"));
    });
    for fd in 3..1_003 {
        open(&segment, fd);
    }
    results.measure("snapshot with 1,000 sockets", 1, |_| {
        black_box(Snapshot::read(&path).expect("a segment"));
    });
    segment.unlink();
}

fn segment(dir: &Path) -> Segment {
    let dir = CString::new(dir.as_os_str().as_bytes()).expect("a path");
    Segment::create(&CreateInfo {
        dir: &dir,
        run_id: b"",
        program: b"/usr/bin/program",
        label: b"",
        argv0: b"program",
        policy_hash: 0,
        policy_path: b"",
        keep: false,
    })
    .expect("room for a segment")
}

fn open(segment: &Segment, fd: i32) {
    let socket = segment.socket(fd).expect("a small number");
    socket.open(&Opened {
        family: 2,
        sock_type: 1,
        protocol: 6,
        inode: 1,
    });
    socket.select(&Selected {
        role: SocketRole::Connect,
        rule: segment.rule("cache traffic", 14),
        stack: segment.stack("kernel"),
        class: None,
        policy_hash: 0,
        trail: &[],
        options_applied: 0,
        options_refused: &[],
    });
}
