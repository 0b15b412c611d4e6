//! The palette. Meanings, not colours: a command never names a colour.

use std::fmt;

use anstyle::{AnsiColor, Style};

/// It is as it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// It works, but look at it.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// It does not work.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Worth the eye.
pub const BOLD: Style = Style::new().bold();
/// Not worth the eye.
pub const DIM: Style = Style::new().dimmed();
/// Something that has a name: a stack, a rule.
pub const NAME: Style = AnsiColor::Cyan.on_default();

/// A value in a style.
#[derive(Clone, Copy, Debug)]
pub struct Styled<T>(pub T, pub Style);

impl<T: fmt::Display> fmt::Display for Styled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, style) = self;
        write!(f, "{style}")?;
        value.fmt(f)?;
        write!(f, "{style:#}")
    }
}
