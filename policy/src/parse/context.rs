//! Collects the findings about one text.

use std::ops::Range;

use super::Resolver;
use crate::{
    Diagnostic, Severity,
    ast::Place,
    diagnostic::{Lines, Related},
};

/// Findings that are kept; a text with more has one cause, or is no policy.
const MAX_DIAGNOSTICS: usize = 200;

/// One text on its way to a policy.
pub(crate) struct Context<'a> {
    text: &'a str,
    file: &'a str,
    lines: Lines<'a>,
    resolver: &'a dyn Resolver,
    diagnostics: Vec<Diagnostic>,
    dropped: usize,
    errors: usize,
    /// Lines with syntax errors: what the recovered tree says there is not worth a second finding.
    broken: Vec<u32>,
    /// Receives what is said about findings that are not kept.
    scratch: Diagnostic,
}

impl<'a> Context<'a> {
    pub(super) fn new(text: &'a str, file: &'a str, resolver: &'a dyn Resolver) -> Self {
        Self {
            text,
            file,
            lines: Lines::new(text),
            resolver,
            diagnostics: Vec::new(),
            dropped: 0,
            errors: 0,
            broken: Vec::new(),
            scratch: Diagnostic::new(Severity::Note, ""),
        }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    pub(super) fn resolver(&self) -> &'a dyn Resolver {
        self.resolver
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        let (line, column) = self.lines.locate(span.start);
        Place { line, column, span }
    }

    pub(crate) fn error(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.errors += 1;
        self.report(Severity::Error, code, span, message.into())
    }

    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.report(Severity::Warning, code, span, message.into())
    }

    pub(crate) fn note(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.report(Severity::Note, code, span, message.into())
    }

    /// An error of the TOML parser.
    pub(super) fn syntax_error(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(self.text.len()..self.text.len());
        let duplicate = error.message().contains("duplicate key");
        let place = self.place(span.clone());
        let (code, help) = match duplicate {
            true => (
                "duplicate-key",
                "remove one of the two; for several values write an array",
            ),
            false => (
                "toml-syntax",
                "a policy is TOML 1.0: text in quotes, `key = value`, sections in brackets",
            ),
        };
        self.error(code, span, error.message()).with_help(help);
        if !duplicate {
            self.broken.push(place.line);
        }
    }

    /// The findings in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics
            .sort_by_key(|found| (found.span.start, found.span.end));
        if self.dropped > 0 {
            let severity = match self.errors {
                0 => Severity::Note,
                _ => Severity::Error,
            };
            let mut last = Diagnostic::new(severity, "too-many");
            let end = self.place(self.text.len()..self.text.len());
            last.message = format!("{} more findings are not shown", self.dropped);
            last.file = self.file.to_owned();
            (last.line, last.column, last.span) = (end.line, end.column, end.span);
            last.with_help("repair the ones above first");
            self.diagnostics.push(last);
        }
        self.diagnostics
    }

    fn report(
        &mut self,
        severity: Severity,
        code: &'static str,
        span: Range<usize>,
        message: String,
    ) -> &mut Diagnostic {
        let place = self.place(span);
        let echo = self.broken.contains(&place.line);
        self.scratch = Diagnostic {
            message: printable(message),
            file: self.file.to_owned(),
            line: place.line,
            column: place.column,
            span: place.span,
            ..Diagnostic::new(severity, code)
        };
        if echo {
            return &mut self.scratch;
        }
        if self.diagnostics.len() >= MAX_DIAGNOSTICS {
            self.dropped += 1;
            return &mut self.scratch;
        }
        self.diagnostics.push(self.scratch.clone());
        let last = self.diagnostics.len() - 1;
        &mut self.diagnostics[last]
    }
}

impl Diagnostic {
    fn new(severity: Severity, code: &'static str) -> Self {
        Self {
            severity,
            code,
            message: String::new(),
            file: String::new(),
            line: 0,
            column: 0,
            span: 0..0,
            help: None,
            related: Vec::new(),
        }
    }

    pub(crate) fn with_help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(printable(help.into()));
        self
    }

    pub(crate) fn with_related(&mut self, label: impl Into<String>, place: &Place) -> &mut Self {
        self.related.push(Related {
            label: label.into(),
            line: place.line,
            column: place.column,
            span: place.span.clone(),
        });
        self
    }
}

/// A text with control characters written as escapes: texts out of a policy end on terminals.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped
}

/// The member of `known` that somebody who wrote `word` most likely meant.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| {
            (
                strsim::osa_distance(&word.to_lowercase(), candidate),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a`, `b` and `c` in backquotes.
pub(super) fn listing<'k>(words: impl IntoIterator<Item = &'k str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
