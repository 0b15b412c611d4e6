//! Reads JSON as the C DMM's parser did (json-c, not strict): with comments and trailing commas.
//!
//! Comments are `/* */`, `//` and `#`. Every value knows where it stands, for notes and errors. The
//! depth is bounded, so that no text can exhaust the stack.

use std::ops::Range;

/// Deepest nesting; real files have three levels.
const MAX_DEPTH: usize = 32;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Json,
}

/// A value. Numbers, `true`, `false` and `null` stay as they are written: the C DMM reads all scalars
/// as text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Scalar(String),
    Array(Vec<Node>),
    Object(Vec<Member>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonError {
    pub(super) at: usize,
    pub(super) message: String,
}

/// Reads one value and nothing behind it.
pub(super) fn read(text: &str) -> Result<Node, JsonError> {
    let mut reader = Reader { text, at: 0 };
    reader.blank()?;
    let node = reader.value(0)?;
    reader.blank()?;
    match reader.peek() {
        None => Ok(node),
        Some(_) => reader.fail("something stands behind the end of the document"),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Node, JsonError> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => Json::Object(self.object(depth)?),
            Some(b'[') => Json::Array(self.array(depth)?),
            Some(b'"') => Json::Scalar(self.string()?),
            Some(byte) if byte.is_ascii_alphanumeric() || b"+-.".contains(&byte) => {
                Json::Scalar(self.word())
            }
            Some(_) => return self.fail("a value was expected here"),
            None => return self.fail("the document ends where a value was expected"),
        };
        Ok(Node {
            span: start..self.at,
            value,
        })
    }

    fn object(&mut self, depth: usize) -> Result<Vec<Member>, JsonError> {
        let mut members = Vec::new();
        self.at += 1;
        loop {
            self.blank()?;
            if self.eat(b'}') {
                return Ok(members);
            }
            if self.peek() != Some(b'"') {
                return self.fail("a key in quotes or `}` was expected here");
            }
            let start = self.at;
            let key = self.string()?;
            let key_span = start..self.at;
            self.blank()?;
            if !self.eat(b':') {
                return self.fail("`:` was expected here");
            }
            self.blank()?;
            let node = self.value(depth + 1)?;
            members.push(Member {
                key,
                key_span,
                node,
            });
            self.separator(b'}')?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Node>, JsonError> {
        let mut nodes = Vec::new();
        self.at += 1;
        loop {
            self.blank()?;
            if self.eat(b']') {
                return Ok(nodes);
            }
            nodes.push(self.value(depth + 1)?);
            self.separator(b']')?;
        }
    }

    /// A comma, which may be missing in front of the closing bracket.
    fn separator(&mut self, close: u8) -> Result<(), JsonError> {
        self.blank()?;
        if self.eat(b',') || self.peek() == Some(close) {
            return Ok(());
        }
        self.fail(&format!("`,` or `{}` was expected here", char::from(close)))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let opening = self.at;
        let mut value = String::new();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let Some(stop) = rest.find(['"', '\\', '\n']) else {
                self.at = opening;
                return self.fail("the text that begins here has no end");
            };
            value.push_str(&rest[..stop]);
            self.at += stop;
            match rest.as_bytes()[stop] {
                b'"' => {
                    self.at += 1;
                    return Ok(value);
                }
                b'\\' => value.push(self.escape()?),
                _ => {
                    self.at = opening;
                    return self.fail("the text that begins here does not end on its line");
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        let (length, value) = match rest.get(1) {
            Some(b'n') => (2, '\n'),
            Some(b't') => (2, '\t'),
            Some(b'r') => (2, '\r'),
            Some(b'b') => (2, '\u{8}'),
            Some(b'f') => (2, '\u{c}'),
            Some(byte @ (b'"' | b'\\' | b'/')) => (2, char::from(*byte)),
            Some(b'u') => {
                let digits = self.text.get(self.at + 2..self.at + 6);
                let code = digits
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|digits| u32::from_str_radix(digits, 16).ok());
                match code.map(char::from_u32) {
                    Some(value) => (6, value.unwrap_or(char::REPLACEMENT_CHARACTER)),
                    None => return self.fail("`\\u` wants four hexadecimal digits"),
                }
            }
            _ => return self.fail("unknown escape"),
        };
        self.at += length;
        Ok(value)
    }

    fn word(&mut self) -> String {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)))
            .unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    /// Skips blanks and comments.
    fn blank(&mut self) -> Result<(), JsonError> {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{feff}']);
            self.at += rest.len() - trimmed.len();
            let length = if let Some(comment) = trimmed.strip_prefix("/*") {
                match comment.find("*/") {
                    Some(end) => end + 4,
                    None => return self.fail("the comment that begins here has no end"),
                }
            } else if trimmed.starts_with("//") || trimmed.starts_with('#') {
                trimmed.find('\n').unwrap_or(trimmed.len())
            } else {
                return Ok(());
            };
            self.at += length;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn fail<T>(&self, message: &str) -> Result<T, JsonError> {
        Err(JsonError {
            at: self.at,
            message: message.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_trailing_commas() {
        let text = "# x\n{ /* c */ \"a\": [1, \"b\\u0041\\n\", // d\n ], \"e\": { }, }\n";
        let node = read(text).unwrap();
        let Json::Object(members) = node.value else {
            panic!("an object")
        };
        assert_eq!(members.len(), 2);
        let Json::Array(items) = &members[0].node.value else {
            panic!("an array")
        };
        assert_eq!(items[0].value, Json::Scalar("1".to_owned()));
        assert_eq!(items[1].value, Json::Scalar("bA\n".to_owned()));
    }

    #[test]
    fn errors_have_a_place() {
        for (text, at) in [
            ("{", 1),
            ("{\"a\" 1}", 5),
            ("[1 2]", 3),
            ("[\"a", 1),
            ("[] x", 3),
            ("/* a", 0),
            ("", 0),
            ("[\"\\x\"]", 2),
        ] {
            assert_eq!(read(text).unwrap_err().at, at, "{text}");
        }
        assert!(
            read(&"[".repeat(100_000)).is_err(),
            "deep nesting is refused"
        );
    }
}
