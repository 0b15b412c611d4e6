//! What the tool prints, and how: the standard output with or without colours, JSON, tables fitted
//! to the terminal, and notices on the standard error.
//!
//! Commands write styled text always; the stream strips the styles where colours are off (not a
//! terminal, `NO_COLOR`, `--color never`). Everything is buffered until the command ends or calls
//! [`Out::flush`].

mod format;
mod style;
mod table;

pub use format::{bytes, count, duration};
pub use style::{BAD, BOLD, DIM, GOOD, NAME, Styled, WARN};
pub use table::{Cell, Column, Table};

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice, StripStream};
use serde::Serialize;

use crate::Error;

/// When to use colours: on a terminal unless `NO_COLOR` is set, always, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    // No doc comments: clap would turn the short list in every help page into a long one.
    #[default]
    Auto,
    Always,
    Never,
}

/// How the user wants to be answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// One JSON document in place of text.
    pub json: bool,
    /// Colours.
    pub color: Color,
    /// How many times `-v` was given.
    pub verbose: u8,
    /// No notices on the standard error; errors are still said.
    pub quiet: bool,
}

/// Where a command writes to.
pub struct Out {
    stream: BufWriter<Box<dyn Write>>,
    options: Options,
    stdout_color: bool,
    stderr_color: bool,
    width: Option<usize>,
}

impl Out {
    /// The standard output.
    pub fn stdout(options: Options) -> Self {
        let stdout = io::stdout();
        let stdout_color = options.color.wanted(&stdout);
        let width = if stdout.is_terminal() {
            terminal_width()
        } else {
            None
        };
        let stream: Box<dyn Write> = if stdout_color {
            Box::new(stdout)
        } else {
            Box::new(StripStream::new(stdout))
        };
        Self {
            stream: BufWriter::new(stream),
            options,
            stdout_color,
            stderr_color: options.color.wanted(&io::stderr()),
            width,
        }
    }

    /// Whether the answer is to be one JSON document ([`Out::json`]).
    pub fn is_json(&self) -> bool {
        self.options.json
    }

    /// How many times `-v` was given.
    pub fn verbose(&self) -> u8 {
        self.options.verbose
    }

    /// Whether the standard output shows colours: for text that is rendered elsewhere.
    pub fn has_color(&self) -> bool {
        self.stdout_color
    }

    /// Whether the standard error shows colours: for text that is rendered elsewhere.
    pub fn has_stderr_color(&self) -> bool {
        self.stderr_color
    }

    /// Columns of the terminal; `None` where the output is not a terminal.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    /// Whether the standard output is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    /// Prints a value as an indented JSON document.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Error> {
        serde_json::to_writer_pretty(&mut self.stream, value).map_err(io::Error::from)?;
        self.stream.write_all(b"\n")?;
        Ok(())
    }

    /// Prints a table with aligned columns, shortened to the terminal's width.
    pub fn table(&mut self, table: &Table) -> Result<(), Error> {
        table.write(&mut self.stream, self.width)?;
        Ok(())
    }

    /// Says something on the standard error, as one line that starts with `dmm:`; not with `-q`.
    pub fn notice(&mut self, text: impl fmt::Display) {
        if !self.options.quiet {
            self.stderr(format_args!("dmm: {text}"));
        }
    }

    /// A notice for those who asked for more (`-v`).
    pub fn detail(&mut self, text: impl fmt::Display) {
        if self.options.verbose > 0 {
            self.notice(text);
        }
    }

    /// Says why a command failed, and the remedy where there is one.
    pub fn error(&mut self, error: &Error) {
        if let Error::Runtime(dmm::Error::PolicyRefused {
            text, diagnostics, ..
        }) = error
        {
            for finding in diagnostics {
                let finding = finding.render(text, self.stderr_color);
                self.stderr(format_args!("{finding}\n"));
            }
        }
        self.stderr(format_args!("{} {error}", Styled("error:", BAD)));
        if let Some(remedy) = error.remedy() {
            self.stderr(format_args!("  {} {remedy}", Styled("help:", GOOD)));
        }
    }

    /// Writes a line to the standard error. What went to the standard output before comes before.
    pub fn stderr(&mut self, line: fmt::Arguments<'_>) {
        // A closed standard error leaves nowhere to complain to, and a closed standard output is
        // reported by whoever flushes it last.
        let _ = self.stream.flush();
        let choice = if self.stderr_color {
            ColorChoice::AlwaysAnsi
        } else {
            ColorChoice::Never
        };
        let mut stderr = AutoStream::new(io::stderr(), choice);
        let _ = writeln!(stderr, "{line}");
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Color {
    fn wanted(self, stream: &impl anstream::stream::RawStream) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => AutoStream::choice(stream) != ColorChoice::Never,
        }
    }
}

/// `COLUMNS` first, as it is what a user sets to overrule the terminal.
fn terminal_width() -> Option<usize> {
    const USUAL: usize = 80;
    std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .filter(|columns| *columns > 0)
        .or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
        .filter(|columns| *columns > 0)
        .or(Some(USUAL))
}
