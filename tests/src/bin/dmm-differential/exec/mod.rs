//! Performs a sequence and writes down what the calls gave: the *trace*.
//!
//! A trace holds everything that a program could notice, and nothing that differs between two runs
//! of the same sequence: descriptor numbers stand as they are (a preload that shifts them would
//! break programs), ports that the kernel chose get names, times are left out.
//!
//! Each file beside this one performs one family of calls.

mod address;
mod carry;
mod connection;
mod data;
mod descriptor;
mod elsewhere;
mod option;
mod settle;
mod wait;
mod wrong;

use std::fmt::{Arguments, Write as _};
use std::fs;

use libc::c_int;

pub(crate) use self::address::Names;
pub(crate) use self::elsewhere::{Handover, handle_signals};
pub(crate) use self::option::Mask;
use self::settle::PRIVATE;
pub(crate) use self::settle::Settle;
use crate::op::{Op, Slot};
use crate::sys::{errno, errno_name, raw};

/// What does not change while an executor process lives.
pub(crate) struct Setting {
    pub(crate) settle: Settle,
    pub(crate) mask: Mask,
    /// Whether edge-triggered registrations are made level-triggered.
    pub(crate) no_edges: bool,
    /// Whether short backlogs are made long.
    pub(crate) long_backlogs: bool,
    /// How this process was started, for children that exec it again.
    pub(crate) arguments: Vec<String>,
}

/// One sequence in progress.
pub(crate) struct Executor<'a> {
    seed: u64,
    ops: &'a [Op],
    /// Indexes of the ops that are performed.
    kept: &'a [usize],
    slots: Vec<c_int>,
    /// Sockets whose buffer sizes the sequence has set; the kernel tunes the others.
    sized: Vec<c_int>,
    /// Sockets that are shut down for reading.
    deaf: Vec<c_int>,
    names: Names,
    setting: &'a Setting,
    trace: String,
}

impl<'a> Executor<'a> {
    pub(crate) fn new(seed: u64, ops: &'a [Op], kept: &'a [usize], setting: &'a Setting) -> Self {
        Self {
            seed,
            ops,
            kept,
            slots: Vec::new(),
            sized: Vec::new(),
            deaf: Vec::new(),
            names: Names::default(),
            setting,
            trace: String::new(),
        }
    }

    /// Performs the sequence, prints its trace to descriptor 1, and leaves no descriptor behind.
    pub(crate) fn run(mut self) {
        let seed = self.seed;
        self.note(format_args!("=== {seed}\n"));
        self.run_from(0);
        self.finish();
    }

    /// Performs the ops from an index on.
    fn run_from(&mut self, from: usize) {
        for &index in self.kept.iter().filter(|&&index| index >= from) {
            let op = &self.ops[index];
            self.note(format_args!("{index}:"));
            // What stands here when the process dies tells where it did.
            self.flush();
            self.perform(index, op);
            match elsewhere::broken_pipes() {
                0 => self.note(format_args!("\n")),
                count => self.note(format_args!(" SIGPIPE {count}\n")),
            }
            self.setting.settle.barrier();
            if let Op::Rest(_) = op {
                break;
            }
        }
    }

    fn perform(&mut self, index: usize, op: &Op) {
        match *op {
            Op::Socket { .. } | Op::SocketPair { .. } | Op::Pipe { .. } | Op::File { .. } => {
                self.create(op);
            }
            Op::Bind { .. }
            | Op::Listen { .. }
            | Op::Connect { .. }
            | Op::Accept { .. }
            | Op::Name { .. }
            | Op::Shutdown { .. } => self.connection(op),
            Op::SetOption {
                s,
                level,
                name,
                value,
            } => self.set_option(s, level, name, value),
            Op::GetOption {
                s,
                level,
                name,
                room,
            } => self.option(s, level, name, room),
            Op::Send {
                s,
                data,
                flags,
                how,
            } => self.send(s, data, flags, how),
            Op::Receive { s, len, flags, how } => self.receive(s, len, flags, how),
            Op::FillAndDrain { .. }
            | Op::SendDescriptor { .. }
            | Op::ReceiveDescriptor { .. }
            | Op::SendFile { .. }
            | Op::Splice { .. }
            | Op::Tee { .. }
            | Op::Stdio { .. }
            | Op::Dprintf { .. } => self.carry(op),
            Op::Close { .. }
            | Op::CloseRange { .. }
            | Op::Dup { .. }
            | Op::Fcntl { .. }
            | Op::Ioctl { .. }
            | Op::Stat { .. }
            | Op::Seek { .. } => self.descriptor(op),
            Op::EpollCreate { .. }
            | Op::EpollCtl { .. }
            | Op::EpollWait { .. }
            | Op::Poll { .. }
            | Op::Select { .. } => self.wait(op),
            Op::Wrong(wrong, s) => self.wrong(wrong, s),
            Op::Rest(place) => self.elsewhere(place, index + 1),
        }
    }

    /// The number in a slot; -1 if nothing was ever stored there.
    fn fd(&self, slot: Slot) -> c_int {
        self.slots.get(slot).copied().unwrap_or(-1)
    }

    /// Stores a new descriptor and notes it; a failed call leaves the slot as it is.
    fn store(&mut self, slot: Slot, fd: i64) {
        self.result(fd);
        if fd >= 0 {
            self.keep(slot, fd as c_int);
        }
    }

    fn keep(&mut self, slot: Slot, fd: c_int) {
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, -1);
        }
        self.slots[slot] = fd;
    }

    /// Notes what a call gave: its value, or its errno. To be called at once after the call.
    fn result(&mut self, value: i64) {
        if value == -1 {
            let name = errno_name(errno());
            self.note(format_args!(" -1 {name}"));
        } else {
            self.note(format_args!(" {value}"));
        }
    }

    fn note(&mut self, text: Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.trace.write_fmt(text);
    }

    /// Hands the trace so far to the reader.
    fn flush(&mut self) {
        let mut rest = self.trace.as_bytes();
        while !rest.is_empty() {
            let args = [1, rest.as_ptr() as i64, rest.len() as i64, 0, 0, 0];
            // SAFETY: `rest` is readable for its length.
            let written = unsafe { raw(libc::SYS_write, args) };
            if written < 0 && written != -i64::from(libc::EINTR) {
                break;
            }
            rest = &rest[written.max(0) as usize..];
        }
        self.trace.clear();
    }

    /// Notes the descriptors that are open, as the kernel sees them, and closes them.
    fn finish(mut self) {
        let open = open_descriptors();
        for (fd, kind) in &open {
            self.note(format_args!("open {fd} {kind}\n"));
        }
        for (fd, _) in &open {
            crate::sys::call!(libc::close, *fd);
        }
        for (fd, kind) in open_descriptors() {
            self.note(format_args!("left {fd} {kind}\n"));
        }
        for n in 0..4 {
            // Most sequences make no such path.
            let _ = fs::remove_file(format!("u{n}"));
        }
        self.setting.settle.barrier();
        self.flush();
    }
}

fn open_descriptors() -> Vec<(c_int, String)> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let mut open: Vec<(c_int, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let fd: c_int = entry.file_name().to_str()?.parse().ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            let target = target.to_string_lossy();
            // What is after the colon is the inode, what is before the slash the directory: both
            // are others in each run.
            let kind = target.split(':').next()?.rsplit('/').next()?.to_owned();
            // The directory that is being read shows up in it.
            (fd > 2 && fd < PRIVATE && !target.ends_with("/fd")).then_some((fd, kind))
        })
        .collect();
    open.sort();
    open
}
