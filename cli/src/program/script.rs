//! `#!` lines, and env(1) as their usual interpreter.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The kernel looks at no more of a script than this (`BINPRM_BUF_SIZE`).
const LINE: usize = 256;

/// The `#!` line of a script, as the kernel reads it (execve(2)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shebang {
    /// The program that is run in place of the script.
    pub interpreter: PathBuf,
    /// All that follows on the line, as one argument.
    pub argument: Option<OsString>,
}

impl Shebang {
    /// Reads the line; `None` if the file does not start with `#!`.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut start = Vec::with_capacity(LINE);
        File::open(path)?
            .take(LINE as u64)
            .read_to_end(&mut start)?;
        Ok(Self::parse(&start))
    }

    fn parse(start: &[u8]) -> Option<Self> {
        let line = start.strip_prefix(b"#!")?;
        let line = line.split(|&b| b == b'\n').next()?;
        let line = line.trim_ascii();
        let end = line
            .iter()
            .position(|&b| b == b' ' || b == b'\t')
            .unwrap_or(line.len());
        let (interpreter, rest) = line.split_at(end);
        if interpreter.is_empty() {
            return None;
        }
        let argument = rest.trim_ascii();
        Some(Self {
            interpreter: PathBuf::from(OsString::from_vec(interpreter.to_vec())),
            argument: (!argument.is_empty()).then(|| OsString::from_vec(argument.to_vec())),
        })
    }

    /// The arguments the interpreter gets in front of the script's path.
    pub fn arguments(&self) -> Vec<OsString> {
        self.argument.iter().cloned().collect()
    }
}

/// What env(1) is asked to do: `env [-i] [-u NAME]... [-S STRING] [NAME=VALUE]... PROGRAM ARG...`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvCall {
    /// `LD_PRELOAD` is replaced, or DMM is switched off. Emptying the environment is no harm: the
    /// preload in env itself hands DMM's variables on.
    pub drops_preload: bool,
    /// The program it runs.
    pub program: Option<OsString>,
    /// The program's arguments.
    pub arguments: Vec<OsString>,
}

impl EnvCall {
    /// Understands the arguments of a program whose base name is `env`.
    pub fn parse(arguments: &[OsString]) -> Self {
        let mut call = Self::default();
        let mut words: Vec<OsString> = arguments.iter().rev().cloned().collect();
        let mut options = true;
        while let Some(word) = words.pop() {
            let bytes = word.as_bytes();
            if options && bytes == b"--" {
                options = false;
            } else if options && let Some(text) = split_string(bytes, &mut words) {
                words.extend(text.into_iter().rev());
            } else if options && matches!(bytes, b"-u" | b"--unset" | b"-C" | b"--chdir") {
                words.pop();
            } else if options && bytes.starts_with(b"-") {
                // The others have no word of their own behind them.
            } else if bytes.contains(&b'=') {
                options = false;
                call.drops_preload |=
                    bytes.starts_with(b"LD_PRELOAD=") || bytes == b"DMM_PRELOAD=off";
            } else {
                call.program = Some(word);
                call.arguments = words.into_iter().rev().collect();
                break;
            }
        }
        call
    }
}

/// `-S STRING`, `-SSTRING`, `--split-string=STRING`: the words of STRING stand in its place.
fn split_string(option: &[u8], words: &mut Vec<OsString>) -> Option<Vec<OsString>> {
    let text = if option == b"-S" || option == b"--split-string" {
        words.pop()?.into_vec()
    } else if let Some(text) = option.strip_prefix(b"--split-string=") {
        text.to_vec()
    } else if let Some(text) = option.strip_prefix(b"-S") {
        text.to_vec()
    } else {
        return None;
    };
    Some(
        text.split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .map(|word| OsStr::from_bytes(word).to_owned())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shebang(line: &str) -> Option<(String, Option<String>)> {
        Shebang::parse(line.as_bytes()).map(|shebang| {
            (
                shebang.interpreter.display().to_string(),
                shebang.argument.map(|a| a.into_string().unwrap()),
            )
        })
    }

    #[test]
    fn the_line_is_split_as_the_kernel_does() {
        let some = |i: &str, a: Option<&str>| Some((i.to_owned(), a.map(str::to_owned)));
        assert_eq!(shebang("#!/bin/sh\nexit"), some("/bin/sh", None));
        assert_eq!(shebang("#! /bin/sh -e \n"), some("/bin/sh", Some("-e")));
        assert_eq!(
            shebang("#!/usr/bin/env -S a b\n"),
            some("/usr/bin/env", Some("-S a b"))
        );
        assert_eq!(shebang("#!\n"), None);
        assert_eq!(shebang("#! "), None);
        assert_eq!(shebang("echo"), None);
    }

    fn env(line: &str) -> EnvCall {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        EnvCall::parse(&words)
    }

    #[test]
    fn env_names_its_program() {
        assert_eq!(env("python3").program, Some("python3".into()));
        assert_eq!(env("-S python3 -u").program, Some("python3".into()));
        assert_eq!(env("A=1 B=2 sh -c x").program, Some("sh".into()));
        assert_eq!(env("A=1 B=2 sh -c x").arguments, ["-c", "x"]);
        assert_eq!(env("-u HOME -C / sh").program, Some("sh".into()));
        assert_eq!(env("A=1").program, None);
        assert_eq!(env("-S").program, None);
    }

    #[test]
    fn env_that_drops_the_preload_is_noticed() {
        assert!(env("LD_PRELOAD=x sh").drops_preload);
        assert!(env("-i DMM_PRELOAD=off sh").drops_preload);
        assert!(!env("-i sh LD_PRELOAD=x").drops_preload);
        assert!(!env("- A=LD_PRELOAD= sh").drops_preload);
        assert!(!env("-u LD_PRELOAD sh").drops_preload);
    }
}
