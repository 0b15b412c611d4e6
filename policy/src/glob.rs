//! Shell patterns for programs, labels and cgroups.
//!
//! `?` is one character and `*` a run of characters, neither of them `/`; `**` is any run at all;
//! `[a-z]` and `[!a-z]` are classes; `\` takes the next character as it is. Matching is over bytes
//! (a `?` is one byte), allocates nothing, does not recurse and takes polynomial time whatever the
//! pattern, since patterns also come out of images that others have written.

use std::fmt;

/// Longest pattern, in bytes.
pub(crate) const MAX_PATTERN: usize = 255;

/// Characters that are not themselves.
const WILD: [char; 4] = ['*', '?', '[', '\\'];

/// A pattern that has been checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Glob(String);

impl Glob {
    /// Checks a pattern.
    ///
    /// # Errors
    /// An empty or too long pattern, an unclosed or empty class, a reversed class range, a `\` at the
    /// end, and braces (an array of patterns says the same), as a sentence for people.
    pub(crate) fn new(pattern: &str) -> Result<Self, GlobError> {
        if pattern.is_empty() {
            return Err(GlobError::Empty);
        }
        if pattern.len() > MAX_PATTERN {
            return Err(GlobError::TooLong);
        }
        let bytes = pattern.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            at += match bytes[at] {
                b'\\' if at + 1 == bytes.len() => return Err(GlobError::TrailingEscape),
                b'\\' => 2,
                b'[' => class_length(&bytes[at..])?,
                b'{' | b'}' => return Err(GlobError::Braces),
                _ => 1,
            };
        }
        Ok(Self(pattern.to_owned()))
    }

    /// The pattern's text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern has no wildcard, so that it matches one text only.
    pub(crate) fn is_literal(&self) -> bool {
        !self.0.contains(WILD)
    }

    /// Whether the pattern matches the whole of `text`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        matches(&self.0, text)
    }

    /// Whether this pattern is known to match all that `other` matches. May say no where the answer
    /// is yes: it knows equal patterns, match-alls, literals, and `prefix*` over a longer prefix.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        if self == other || self.0 == "**" {
            return true;
        }
        if !self.has_subject_of(other) {
            return false;
        }
        if other.is_literal() {
            return self.matches(&other.0);
        }
        match (self.plain_prefix(), other.plain_prefix()) {
            (Some(a), Some(b)) => b.strip_prefix(a).is_some_and(|rest| !rest.contains('/')),
            _ => false,
        }
    }

    /// Whether some text may be matched by both patterns. May say yes where the answer is no.
    pub(crate) fn may_overlap(&self, other: &Self) -> bool {
        match (self.is_literal(), other.is_literal()) {
            _ if !self.has_subject_of(other) => true,
            (true, _) => other.matches(&self.0),
            (_, true) => self.matches(&other.0),
            _ => {
                let (a, b) = (self.literal_start(), other.literal_start());
                a.starts_with(b) || b.starts_with(a)
            }
        }
    }

    /// Whether both are matched against the same: a path with a slash, a name without.
    fn has_subject_of(&self, other: &Self) -> bool {
        self.0.contains('/') == other.0.contains('/')
    }

    /// `text` where the pattern is `text*`.
    pub(crate) fn plain_prefix(&self) -> Option<&str> {
        self.0
            .strip_suffix('*')
            .filter(|prefix| !prefix.contains(WILD))
    }

    /// The pattern up to its first wildcard.
    fn literal_start(&self) -> &str {
        &self.0[..self.0.find(WILD).unwrap_or(self.0.len())]
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GlobError {
    /// Nothing there.
    #[error("the pattern is empty")]
    Empty,
    /// Longer than [`MAX_PATTERN`].
    #[error("the pattern is longer than {MAX_PATTERN} bytes")]
    TooLong,
    /// `[` without `]`.
    #[error("`[` opens a character class that is not closed by `]`")]
    UnclosedClass,
    /// `[z-a]`.
    #[error("a range in a character class runs backwards")]
    ReversedClass,
    /// A `\` with nothing behind it.
    #[error("`\\` at the end of the pattern quotes nothing")]
    TrailingEscape,
    /// `{a,b}`.
    #[error("braces are not part of patterns; write an array: [\"a*\", \"b*\"]")]
    Braces,
}

/// Whether `pattern` matches the whole of `text`. A malformed pattern matches nothing.
///
/// Only the latest `*` and the latest `**` are ever retried: what an earlier one could still take,
/// the later one can take as well.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on in the pattern and how far the star has eaten the text.
    let (mut star, mut globstar) = (None::<(usize, usize)>, None::<(usize, usize)>);
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            globstar = Some((p, t));
            star = None;
            continue;
        }
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if let Some(&byte) = text.get(t)
            && let Some(taken) = one(&pattern[p..], byte)
        {
            p += taken;
            t += 1;
            continue;
        }
        match (star, globstar) {
            (Some((resume, eaten)), _) if text.get(eaten).is_some_and(|byte| *byte != b'/') => {
                star = Some((resume, eaten + 1));
                (p, t) = (resume, eaten + 1);
            }
            (_, Some((resume, eaten))) if eaten < text.len() => {
                star = None;
                globstar = Some((resume, eaten + 1));
                (p, t) = (resume, eaten + 1);
            }
            _ => return false,
        }
    }
}

/// How many pattern bytes one text byte consumes; `None` where it does not match.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => (byte != b'/').then_some(1),
        b'\\' => (*pattern.get(1)? == byte).then_some(2),
        b'[' => {
            let length = class_length(pattern).ok()?;
            class_contains(&pattern[1..length - 1], byte).then_some(length)
        }
        literal => (literal == byte).then_some(1),
    }
}

/// Length of the class at the start of `pattern`, with both brackets. A `]` right behind the opening
/// (and `!`) is a member, as in the shell.
fn class_length(pattern: &[u8]) -> Result<usize, GlobError> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    let close = (first + 1..pattern.len())
        .find(|at| pattern[*at] == b']')
        .ok_or(GlobError::UnclosedClass)?;
    let members = &pattern[first..close];
    let reversed = members
        .windows(3)
        .any(|window| window[1] == b'-' && window[0] > window[2]);
    if reversed {
        return Err(GlobError::ReversedClass);
    }
    Ok(close + 1)
}

fn class_contains(class: &[u8], byte: u8) -> bool {
    if byte == b'/' {
        return false;
    }
    let (negated, mut members) = match class.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    while let [low, rest @ ..] = members {
        members = match rest {
            [b'-', high, rest @ ..] => {
                found |= (*low..=*high).contains(&byte);
                rest
            }
            _ => {
                found |= *low == byte;
                rest
            }
        };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        let yes = [
            ("redis-*", "redis-server"),
            ("*", ""),
            ("/usr/bin/*", "/usr/bin/curl"),
            ("/usr/**", "/usr/lib/x/y"),
            ("/usr/**/y", "/usr/lib/x/y"),
            ("**/redis.service", "/system.slice/redis.service"),
            ("py*3.?", "python3.9"),
            ("py*3.1[0-9]", "python3.11"),
            ("[!a-f]x", "gx"),
            ("[]]", "]"),
            ("\\*", "*"),
            ("a*b*c", "aXbYbZc"),
            ("**a*/b", "/x/ay/ab/b"),
        ];
        for (pattern, text) in yes {
            assert!(
                Glob::new(pattern).unwrap().matches(text),
                "{pattern} {text}"
            );
        }
        let no = [
            ("redis-*", "redis"),
            ("/usr/*", "/usr/bin/curl"),
            ("?", "/"),
            ("[!a]", "/"),
            ("[!a-f]x", "ax"),
            ("", "x"),
            ("a*b*c", "aXbYbZ"),
        ];
        for (pattern, text) in no {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_made_to_backtrack_ends_soon() {
        let pattern = "*a".repeat(100) + "b";
        assert!(!matches(&pattern, &"a".repeat(4096)));
        let pattern = "**a*".repeat(60) + "b";
        assert!(!matches(&pattern, &"a/".repeat(2048)));
    }

    #[test]
    fn malformed_patterns_are_refused_and_match_nothing() {
        for (pattern, error) in [
            ("", GlobError::Empty),
            ("[a", GlobError::UnclosedClass),
            ("[z-a]", GlobError::ReversedClass),
            ("a\\", GlobError::TrailingEscape),
            ("{a,b}", GlobError::Braces),
        ] {
            assert_eq!(Glob::new(pattern), Err(error));
        }
        assert!(!matches("[a", "[a"));
        assert!(!matches("a\\", "a\\"));
    }

    #[test]
    fn covering() {
        let covers = |a: &str, b: &str| Glob::new(a).unwrap().covers(&Glob::new(b).unwrap());
        assert!(covers("redis-*", "redis-server"));
        assert!(covers("red*", "redis-*"));
        assert!(covers("**", "/a/*"));
        assert!(!covers("redis-*", "red*"));
        assert!(!covers("**bin**", "/usr/bin/x"), "a name and a path");
        assert!(!covers("/a*", "/a/b*"));
    }
}
