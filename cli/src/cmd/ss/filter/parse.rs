//! From words to an expression.
//!
//! ```text
//! or      := and ("or" and)*
//! and     := not (["and"] not)*
//! not     := ("not" | "!") not | "(" or ")" | term
//! ```

use std::net::IpAddr;

use super::{Expression, Field, NumberField, Op, Prefix, Side, State, Term};

const STATES: [&str; 13] = [
    "established",
    "syn-sent",
    "syn-recv",
    "fin-wait-1",
    "fin-wait-2",
    "time-wait",
    "close-wait",
    "last-ack",
    "listen",
    "closing",
    "unconnected",
    "unbound",
    "bound",
];

/// How deep parentheses may be.
const DEPTH: usize = 64;

/// Parses a filter, and says whether it asks for a state. The error says what was expected.
pub(super) fn expression(text: &str) -> Result<(Expression, bool), String> {
    let text = text.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut parser = Parser {
        words: &words,
        names_a_state: false,
        depth: 0,
    };
    if words.is_empty() {
        return Ok((Expression::Everything, false));
    }
    let expression = parser.or()?;
    match parser.words.first() {
        None => Ok((expression, parser.names_a_state)),
        Some(word) => Err(format!("filter: `{word}` was not expected here")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    names_a_state: bool,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Expression, String> {
        let mut left = self.and()?;
        while self.take(&["or", "||", "|"]) {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut left = self.not()?;
        loop {
            let said = self.take(&["and", "&&", "&"]);
            let ends = self
                .words
                .first()
                .is_none_or(|word| matches!(*word, ")" | "or" | "||" | "|"));
            if !said && ends {
                return Ok(left);
            }
            left = Expression::And(Box::new(left), Box::new(self.not()?));
        }
    }

    fn not(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("filter: too deeply nested".to_owned());
        }
        let expression = if self.take(&["not", "!"]) {
            Expression::Not(Box::new(self.not()?))
        } else if self.take(&["("]) {
            let inside = self.or()?;
            if !self.take(&[")"]) {
                return Err("filter: a `)` is missing".to_owned());
            }
            inside
        } else {
            Expression::Term(self.term()?)
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn term(&mut self) -> Result<Term, String> {
        let word = self.next("a condition")?;
        match word {
            "state" => self.state().map(Term::State),
            "sport" => self.port(Side::Local),
            "dport" => self.port(Side::Remote),
            "src" => self.address(Side::Local),
            "dst" => self.address(Side::Remote),
            "stack" => self.text(Field::Stack),
            "rule" => self.text(Field::Rule),
            "program" => self.text(Field::Program),
            "label" => self.text(Field::Label),
            "class" => self.text(Field::Class),
            "pid" => self.number(NumberField::Pid),
            "fd" => self.number(NumberField::Fd),
            other => Err(format!(
                "filter: `{other}` is not a condition; there are state, sport, dport, src, dst, stack, rule, program, label, class, pid and fd"
            )),
        }
    }

    fn state(&mut self) -> Result<State, String> {
        self.names_a_state = true;
        let word = self.next("a state")?;
        let name = match word {
            "all" => return Ok(State::All),
            "connected" => return Ok(State::Connected),
            "estab" => "established",
            "listening" => "listen",
            other => other,
        };
        STATES
            .into_iter()
            .find(|state| *state == name)
            .map(State::Named)
            .ok_or_else(|| {
                format!(
                    "filter: `{word}` is not a state; there are {}",
                    STATES.join(", ")
                )
            })
    }

    fn port(&mut self, side: Side) -> Result<Term, String> {
        let op = self.op();
        let word = self.next("a port")?;
        let port = word
            .trim_start_matches(':')
            .parse()
            .map_err(|_| format!("filter: `{word}` is not a port; write it as :80"))?;
        Ok(Term::Port { side, op, port })
    }

    fn address(&mut self, side: Side) -> Result<Term, String> {
        let op = self.op();
        let word = self.next("an address")?;
        let wrong =
            || format!("filter: `{word}` is not an address; write ADDR, ADDR/LEN or ADDR:PORT");
        if !matches!(op, Op::Equal) {
            return Err("filter: addresses are compared with `=`; put `not` in front".to_owned());
        }
        let (address, port) = split_port(word);
        let port = port.map(str::parse).transpose().map_err(|_| wrong())?;
        let (ip, len) = match address.split_once('/') {
            Some((ip, len)) => (ip, Some(len.parse::<u8>().map_err(|_| wrong())?)),
            None => (address, None),
        };
        let ip: IpAddr = ip.trim_matches(['[', ']']).parse().map_err(|_| wrong())?;
        let full = if ip.is_ipv4() { 32 } else { 128 };
        let len = len.unwrap_or(full);
        if len > full {
            return Err(wrong());
        }
        Ok(Term::Address {
            side,
            prefix: Prefix { ip, len },
            port,
        })
    }

    fn text(&mut self, field: Field) -> Result<Term, String> {
        let op = self.op();
        if !matches!(op, Op::Equal) {
            return Err("filter: names are compared with `=`; put `not` in front".to_owned());
        }
        // A rule's name may hold blanks: then it is quoted, once more within the shell's quotes.
        let mut pattern = self.next("a name")?.to_owned();
        for quote in ['"', '\''] {
            if pattern.starts_with(quote) {
                while pattern.len() < 2 || !pattern.ends_with(quote) {
                    pattern.push(' ');
                    pattern.push_str(self.next("the closing quote")?);
                }
                pattern = pattern[1..pattern.len() - 1].to_owned();
                break;
            }
        }
        Ok(Term::Text { field, pattern })
    }

    fn number(&mut self, field: NumberField) -> Result<Term, String> {
        let op = self.op();
        let word = self.next("a number")?;
        let number = word
            .parse()
            .map_err(|_| format!("filter: `{word}` is not a number"))?;
        Ok(Term::Number { field, op, number })
    }

    fn op(&mut self) -> Op {
        let op = self.words.first().and_then(|word| Op::from_word(word));
        if op.is_some() {
            self.words = &self.words[1..];
        }
        op.unwrap_or(Op::Equal)
    }

    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        let (first, rest) = self
            .words
            .split_first()
            .ok_or_else(|| format!("filter: {what} is missing at the end"))?;
        self.words = rest;
        Ok(first)
    }

    fn take(&mut self, words: &[&str]) -> bool {
        let found = self.words.first().is_some_and(|word| words.contains(word));
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

/// `10.0.0.1:80`, `[::1]:80`, `::1`, `10.0.0.0/8`.
fn split_port(word: &str) -> (&str, Option<&str>) {
    if let Some((address, port)) = word.rsplit_once("]:") {
        return (address.trim_start_matches('['), Some(port));
    }
    match word.rsplit_once(':') {
        Some((address, port)) if !address.contains(':') => (address, Some(port)),
        _ => (word, None),
    }
}
