//! What is wrong with a policy, where, and what to do about it.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Accepted, but surely not what was meant.
    Warning,
    /// The policy cannot be used.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable name of the kind of finding (`unknown-key`), for tools; docs/policy.md lists them.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The file, as the caller of [`crate::parse`] named it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Byte range in the text.
    pub span: Range<usize>,
    /// The remedy.
    pub help: Option<String>,
    /// Other places that belong to it.
    pub related: Vec<Related>,
}

/// Another place that belongs to a finding, such as the rule that shadows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// What is there.
    pub label: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Byte range in the text.
    pub span: Range<usize>,
}

impl Diagnostic {
    /// The finding for a terminal or a log, as rustc writes its own: the place, an excerpt of
    /// `source` (the text that was parsed) and the remedy.
    pub fn render(&self, source: &str, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let mut snippet = Snippet::source(source)
            .path(self.file.as_str())
            .annotation(AnnotationKind::Primary.span(one_line(source, &self.span)));
        for related in &self.related {
            snippet = snippet.annotation(
                AnnotationKind::Context
                    .span(one_line(source, &related.span))
                    .label(related.label.as_str()),
            );
        }
        let main = level
            .primary_title(self.message.as_str())
            .id(self.code)
            .element(snippet);
        let mut report = vec![main];
        if let Some(help) = &self.help {
            report.push(Group::with_title(
                Level::HELP.secondary_title(help.as_str()),
            ));
        }
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.decor_style(DecorStyle::Ascii).render(&report)
    }
}

/// `span` cut down to its first line and to what `source` has, on character boundaries: an excerpt
/// shows where something starts, and `source` may not be the text that was parsed.
fn one_line(source: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor(source, span.start);
    let end = floor(source, span.end).max(start);
    let line = source[start..end].find('\n').map_or(end, |at| start + at);
    start..line
}

fn floor(source: &str, at: usize) -> usize {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Lines and columns of a text.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    pub(crate) fn locate(&self, at: usize) -> (u32, u32) {
        let at = floor(self.text, at);
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts[line - 1];
        let column = self.text[start..at].chars().count() + 1;
        (clamp(line), clamp(column))
    }
}

fn clamp(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
