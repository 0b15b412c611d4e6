//! A policy file read with its diagnostics.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dmm_policy::{Diagnostic, Parsed, PasswdText, Policy, Severity};
use serde::Serialize;

use crate::output::Out;
use crate::{Doing, Error};

/// A policy file, parsed; it may have errors.
pub struct PolicyFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
    /// What that means.
    pub parsed: Parsed,
}

/// The findings, as `--json` prints them.
#[derive(Debug, Serialize)]
pub struct Findings<'a> {
    file: String,
    errors: usize,
    warnings: usize,
    diagnostics: &'a [Diagnostic],
}

impl PolicyFile {
    /// Reads and parses; `-` is the standard input. A policy with errors is not an error here: look at
    /// [`Self::errors`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = if path == Path::new("-") {
            io::read_to_string(io::stdin())
        } else {
            fs::read_to_string(path)
        };
        let text = text.doing(|| format!("read the policy {}", path.display()))?;
        let parsed = parse(&text, path);
        Ok(Self {
            path: path.to_owned(),
            text,
            parsed,
        })
    }

    /// The policy, or its diagnostics on the standard error and an error.
    pub fn usable(&self, out: &mut Out) -> Result<&Policy, Error> {
        if let Some(policy) = &self.parsed.policy {
            return Ok(policy);
        }
        self.print_diagnostics(out);
        Err(Error::PolicyRefused(self.verdict()))
    }

    /// How many errors it has. With any, there is no policy.
    pub fn errors(&self) -> usize {
        self.number(Severity::Error)
    }

    /// How many warnings it has.
    pub fn warnings(&self) -> usize {
        self.number(Severity::Warning)
    }

    /// `2 errors and 1 warning in my.toml`.
    pub fn verdict(&self) -> String {
        let plural = |n: usize, word: &str| match n {
            1 => format!("1 {word}"),
            n => format!("{n} {word}s"),
        };
        let what = match (self.errors(), self.warnings()) {
            (0, 0) => "no errors".to_owned(),
            (0, warnings) => plural(warnings, "warning"),
            (errors, 0) => plural(errors, "error"),
            (errors, warnings) => format!(
                "{} and {}",
                plural(errors, "error"),
                plural(warnings, "warning")
            ),
        };
        format!("{what} in {}", self.path.display())
    }

    /// All findings, each with its excerpt and remedy.
    pub fn rendered(&self, color: bool) -> impl Iterator<Item = String> {
        self.parsed
            .diagnostics
            .iter()
            .map(move |found| found.render(&self.text, color))
    }

    /// Prints all findings on the standard error.
    pub fn print_diagnostics(&self, out: &mut Out) {
        for text in self.rendered(out.has_stderr_color()) {
            out.stderr(format_args!("{text}\n"));
        }
    }

    /// The findings for `--json`.
    pub fn findings(&self) -> Findings<'_> {
        Findings {
            file: self.path.display().to_string(),
            errors: self.errors(),
            warnings: self.warnings(),
            diagnostics: &self.parsed.diagnostics,
        }
    }

    fn number(&self, severity: Severity) -> usize {
        let of_that_kind = |found: &&Diagnostic| found.severity == severity;
        self.parsed.diagnostics.iter().filter(of_that_kind).count()
    }
}

fn parse(text: &str, path: &Path) -> Parsed {
    // Without the file, rules that name users are errors that say so.
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    dmm_policy::parse_with(text, &path.display().to_string(), &PasswdText(&passwd))
}
