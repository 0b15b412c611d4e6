//! The filters of `dmm ss`: the language of ss(8), with words for stacks, rules and processes.

mod parse;

use std::net::{IpAddr, SocketAddr};

use dmm::control::SocketEntry;

/// Which sockets to show.
#[derive(Debug)]
pub(super) struct Filter {
    expression: Expression,
    names_a_state: bool,
}

#[derive(Debug, PartialEq)]
enum Expression {
    Everything,
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Term(Term),
}

#[derive(Debug, PartialEq)]
enum Term {
    State(State),
    Port {
        side: Side,
        op: Op,
        port: u16,
    },
    Address {
        side: Side,
        prefix: Prefix,
        port: Option<u16>,
    },
    Text {
        field: Field,
        pattern: String,
    },
    Number {
        field: NumberField,
        op: Op,
        number: u64,
    },
}

#[derive(Debug, PartialEq)]
enum State {
    All,
    /// Neither listening nor closed nor without a connection.
    Connected,
    Named(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Local,
    Remote,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Equal,
    NotEqual,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Stack,
    Rule,
    Program,
    Label,
    Class,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum NumberField {
    Pid,
    Fd,
}

#[derive(Debug, PartialEq)]
struct Prefix {
    ip: IpAddr,
    len: u8,
}

impl Filter {
    /// Parses the words of the command line; an argument may hold several. The error says what was
    /// expected.
    pub(super) fn parse(arguments: &[String]) -> Result<Self, String> {
        let (expression, names_a_state) = parse::expression(&arguments.join(" "))?;
        Ok(Self {
            expression,
            names_a_state,
        })
    }

    /// Whether a state is asked for: then listeners are not left out without being asked for.
    pub(super) fn names_a_state(&self) -> bool {
        self.names_a_state
    }

    /// Whether a socket passes.
    pub(super) fn matches(&self, entry: &SocketEntry) -> bool {
        self.expression.matches(entry)
    }
}

impl Expression {
    fn matches(&self, entry: &SocketEntry) -> bool {
        match self {
            Self::Everything => true,
            Self::And(a, b) => a.matches(entry) && b.matches(entry),
            Self::Or(a, b) => a.matches(entry) || b.matches(entry),
            Self::Not(a) => !a.matches(entry),
            Self::Term(term) => term.matches(entry),
        }
    }
}

impl Term {
    fn matches(&self, entry: &SocketEntry) -> bool {
        match self {
            Self::State(State::All) => true,
            Self::State(State::Connected) => !matches!(
                entry.state(),
                "listen" | "unconnected" | "unbound" | "bound"
            ),
            Self::State(State::Named(name)) => entry.state() == *name,
            Self::Port { side, op, port } => side
                .of(entry)
                .is_some_and(|address| op.holds(address.port(), *port)),
            Self::Address { side, prefix, port } => side.of(entry).is_some_and(|address| {
                prefix.contains(address.ip()) && port.is_none_or(|port| port == address.port())
            }),
            Self::Text { field, pattern } => field.matches(pattern, entry),
            Self::Number { field, op, number } => {
                let value = match field {
                    NumberField::Pid => entry.pid,
                    NumberField::Fd => entry.socket.fd,
                };
                op.holds(u64::from(value), *number)
            }
        }
    }
}

impl Side {
    fn of(self, entry: &SocketEntry) -> Option<SocketAddr> {
        match self {
            Self::Local => entry.local(),
            Self::Remote => entry.remote(),
        }
    }
}

impl Field {
    fn matches(self, pattern: &str, entry: &SocketEntry) -> bool {
        let text = self.of(entry);
        match self {
            Self::Stack => names_stack(pattern, text),
            _ => glob(pattern, text),
        }
    }

    fn of(self, entry: &SocketEntry) -> &str {
        match self {
            Self::Stack => &entry.socket.stack,
            Self::Rule => &entry.socket.rule,
            Self::Class => &entry.socket.class,
            Self::Program => &entry.program,
            Self::Label => &entry.label,
        }
    }
}

impl Op {
    fn holds<T: Copy + Ord>(self, a: T, b: T) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Less => a < b,
            Self::Greater => a > b,
            Self::AtMost => a <= b,
            Self::AtLeast => a >= b,
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "=" | "==" | "eq" => Self::Equal,
            "!=" | "ne" => Self::NotEqual,
            "<" | "lt" => Self::Less,
            ">" | "gt" => Self::Greater,
            "<=" | "le" => Self::AtMost,
            ">=" | "ge" => Self::AtLeast,
            _ => return None,
        })
    }
}

impl Prefix {
    /// An IPv4 address in an IPv6 one is an IPv4 address (RFC 4291, 2.5.5.2).
    fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let differ = u32::from(net) ^ u32::from(ip);
                differ.leading_zeros() >= u32::from(self.len)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let differ = u128::from(net) ^ u128::from(ip);
                differ.leading_zeros() >= u32::from(self.len)
            }
            _ => false,
        }
    }
}

/// Whether it is one of the stacks that serve a socket: several may serve a listener (`kernel+local`).
fn names_stack(pattern: &str, stacks: &str) -> bool {
    glob(pattern, stacks) || stacks.split('+').any(|stack| glob(pattern, stack))
}

/// `*` and `?` as in a shell. Linear in the text for each star.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, matched)) => {
                    star = Some((at, matched + 1));
                    p = at + 1;
                    t = matched + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Expression, String> {
        Filter::parse(&[text.to_owned()]).map(|filter| filter.expression)
    }

    #[test]
    fn terms_are_joined_as_ss_does() {
        let parsed = parse("state established ( sport = :80 or dport > 1024 ) not pid 7").unwrap();
        let port = |side, op, port| Box::new(Expression::Term(Term::Port { side, op, port }));
        let either = Expression::Or(
            port(Side::Local, Op::Equal, 80),
            port(Side::Remote, Op::Greater, 1024),
        );
        let state = Expression::Term(Term::State(State::Named("established")));
        let pid = Expression::Term(Term::Number {
            field: NumberField::Pid,
            op: Op::Equal,
            number: 7,
        });
        let expected = Expression::And(
            Box::new(Expression::And(Box::new(state), Box::new(either))),
            Box::new(Expression::Not(Box::new(pid))),
        );
        assert_eq!(parsed, expected);
        assert_eq!(parse("").unwrap(), Expression::Everything);
    }

    #[test]
    fn addresses_have_prefixes_and_ports() {
        for (text, len, port) in [
            ("dst 10.0.0.0/8", 8, None),
            ("dst 10.0.0.1:443", 32, Some(443)),
            ("dst [::1]:443", 128, Some(443)),
            ("dst fe80::/10", 10, None),
        ] {
            let Ok(Expression::Term(Term::Address {
                prefix,
                port: found,
                ..
            })) = parse(text)
            else {
                panic!("{text}")
            };
            assert_eq!((prefix.len, found), (len, port), "{text}");
        }
    }

    #[test]
    fn prefixes_contain() {
        let prefix = Prefix {
            ip: "10.1.0.0".parse().unwrap(),
            len: 16,
        };
        assert!(prefix.contains("10.1.2.3".parse().unwrap()));
        assert!(prefix.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!prefix.contains("10.2.0.0".parse().unwrap()));
        let everything = Prefix {
            ip: "0.0.0.0".parse().unwrap(),
            len: 0,
        };
        assert!(everything.contains("255.1.1.1".parse().unwrap()));
        assert!(!everything.contains("::1".parse().unwrap()));
    }

    #[test]
    fn names_may_be_quoted_and_hold_stars() {
        let Ok(Expression::Term(Term::Text { pattern, .. })) = parse("rule \"cache traffic\"")
        else {
            panic!()
        };
        assert_eq!(pattern, "cache traffic");
        for (pattern, text, matches) in [
            ("redis-*", "redis-server", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("kernel", "kernel2", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn mistakes_are_said() {
        for (text, part) in [
            ("state sleeping", "is not a state"),
            ("sport = :http", "is not a port"),
            ("dst 10.0.0.0/33", "is not an address"),
            ("stack", "is missing"),
            ("( pid 1", "`)` is missing"),
            ("pid 1 )", "was not expected"),
            ("colour red", "is not a condition"),
            ("pid 1 and", "is missing"),
            ("stack != x", "put `not`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse(&"( ".repeat(10_000)).is_err());
    }

    #[test]
    fn a_listener_of_two_stacks_is_a_socket_of_each() {
        for pattern in ["local", "kernel", "kernel+local", "lo*"] {
            assert!(names_stack(pattern, "kernel+local"), "{pattern}");
        }
        assert!(!names_stack("loc", "kernel+local"));
    }
}
