//! Text from a segment, made fit for a terminal.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A text that holds no control characters; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Makes any bytes printable: what is not UTF-8 is replaced, control characters (and those that
    /// change the direction of a line) are escaped.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        if !text.contains(is_harmful) {
            return Self(text.into());
        }
        let mut clean = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if is_harmful(c) {
                clean.extend(c.escape_default());
            } else {
                clean.push(c);
            }
        }
        Self(clean.into())
    }
}

impl Default for Name {
    fn default() -> Self {
        Self("".into())
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::from_bytes(text.as_bytes())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_stays_text() {
        assert_eq!(&*Name::from_bytes(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(&*Name::from_bytes("x\u{202e}y".as_bytes()), "x\\u{202e}y");
        assert_eq!(&*Name::from_bytes("caf\u{e9}".as_bytes()), "caf\u{e9}");
        assert_eq!(&*Name::from_bytes(b"\xff"), "\u{fffd}");
    }
}
