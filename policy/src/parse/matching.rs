//! `match = { ... }`.

use super::{
    Context,
    context::{listing, nearest},
    table::{Entry, Table, Value, integer, text, wrong_type},
    values::{self, Complaint, Prefix},
};
use crate::{
    Family, Role, SockType,
    ast::{Addresses, Condition, Match, QosClass},
    glob::Glob,
    ranges::Ranges,
};

/// Reads the conditions of a rule.
pub(super) fn read(mut table: Table<'_>, classes: &[QosClass], context: &mut Context<'_>) -> Match {
    let mut reader = Reader {
        context,
        conditions: Vec::new(),
    };
    let matching = Match {
        role: reader.words(table.take("role"), ROLES),
        family: reader.words(table.take("family"), FAMILIES),
        sock_type: reader.words(table.take("type"), TYPES),
        protocol: reader.ranges(table.take("protocol"), protocol),
        remote: reader.addresses(table.take("remote")),
        local: reader.addresses(table.take("local")),
        port: reader.ranges(table.take("port"), ports),
        local_port: reader.ranges(table.take("local_port"), ports),
        remote_port: reader.ranges(table.take("remote_port"), ports),
        uid: reader.users(table.take("uid"), table.take("user")),
        program: reader.globs(table.take("program"), check_program),
        label: reader.globs(table.take("label"), |_| Ok(())),
        cgroup: reader.globs(table.take("cgroup"), check_cgroup),
        qos: reader.classes(table.take("qos"), classes),
        conditions: Vec::new(),
    };
    let mut conditions = reader.conditions;
    conditions.sort_by_key(|condition| condition.place.span.start);
    table.finish(context);
    Match {
        conditions,
        ..matching
    }
}

const ROLES: &[(&str, Role)] = &[
    ("listen", Role::Listen),
    ("connect", Role::Connect),
    ("datagram", Role::Datagram),
];
const FAMILIES: &[(&str, Family)] = &[
    ("inet", Family::Inet),
    ("inet6", Family::Inet6),
    ("v4", Family::Inet),
    ("v6", Family::Inet6),
];
const TYPES: &[(&str, SockType)] = &[
    ("stream", SockType::Stream),
    ("datagram", SockType::Datagram),
    ("raw", SockType::Raw),
    ("seqpacket", SockType::SeqPacket),
    ("dgram", SockType::Datagram),
];
/// IANA's numbers, and Linux's for MPTCP.
const PROTOCOLS: &[(&str, u16)] = &[
    ("icmp", 1),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("icmpv6", 58),
    ("sctp", 132),
    ("udplite", 136),
    ("mptcp", 262),
];

/// Name of a protocol number, or the number.
pub(crate) fn protocol_name(number: u16) -> String {
    PROTOCOLS
        .iter()
        .find(|(_, known)| *known == number)
        .map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// Reads conditions and remembers how they were written.
struct Reader<'c, 'a> {
    context: &'c mut Context<'a>,
    conditions: Vec<Condition>,
}

impl Reader<'_, '_> {
    /// Words out of a list of known ones.
    fn words<T: Copy + PartialEq>(
        &mut self,
        entry: Option<Entry<'_>>,
        known: &[(&str, T)],
    ) -> Option<Vec<T>> {
        self.condition(entry, |value, key, context| {
            let word = text(value, key, context)?;
            let Some((_, meant)) = known.iter().find(|(name, _)| *name == word) else {
                unknown_word(
                    word,
                    value,
                    key,
                    known.iter().map(|(name, _)| *name),
                    context,
                );
                return None;
            };
            // The first name of a value is the canonical one.
            let name = known.iter().find(|(_, other)| other == meant)?.0;
            Some((*meant, name.to_owned()))
        })
    }

    fn ranges<T: crate::ranges::Scalar>(
        &mut self,
        entry: Option<Entry<'_>>,
        read: impl Fn(Value<'_>, &str, &mut Context<'_>) -> Option<(Vec<(T, T)>, String)>,
    ) -> Option<Ranges<T>> {
        let all = self.condition(entry, read)?;
        Some(Ranges::new(all.into_iter().flatten()))
    }

    fn addresses(&mut self, entry: Option<Entry<'_>>) -> Option<Addresses> {
        let prefixes: Vec<Prefix> = self.condition(entry, |value, key, context| {
            let written = text(value, key, context)?;
            let prefix = accept(values::prefix(written), "bad-prefix", value, context)?;
            Some((prefix, prefix.to_string()))
        })?;
        Some(Addresses {
            v4: Ranges::new(prefixes.iter().filter_map(|prefix| prefix.range().ok())),
            v6: Ranges::new(prefixes.iter().filter_map(|prefix| prefix.range().err())),
        })
    }

    /// `uid` and `user` are one condition; a rule has one of them.
    fn users(&mut self, uid: Option<Entry<'_>>, user: Option<Entry<'_>>) -> Option<Ranges<u32>> {
        if let (Some(_), Some(user)) = (&uid, &user) {
            self.context
                .error(
                    "contradiction",
                    user.key_span.clone(),
                    "`uid` and `user` are the same condition",
                )
                .with_help("keep one of them; numbers may stand in `user`, too");
        }
        let by_number = self.ranges(uid, uid_range);
        let by_name = self.ranges(user, |value, key, context| {
            let name = value
                .get_ref()
                .as_str()
                .filter(|name| name.contains(|c: char| !c.is_ascii_digit()));
            let Some(name) = name else {
                return uid_range(value, key, context);
            };
            match context.resolver().uid_of(name) {
                Ok(uid) => Some((vec![(uid, uid)], format!("{name} ({uid})"))),
                Err(error) => {
                    context
                        .error("unknown-user", value.span(), error.to_string())
                        .with_help("write the number: uid = 1000");
                    None
                }
            }
        });
        by_number.or(by_name)
    }

    fn globs(
        &mut self,
        entry: Option<Entry<'_>>,
        check: impl Fn(&str) -> Result<(), Complaint>,
    ) -> Option<Vec<Glob>> {
        self.condition(entry, |value, key, context| {
            let pattern = text(value, key, context)?;
            let glob = Glob::new(pattern).map_err(|error| Complaint {
                message: error.to_string(),
                help: "patterns have `*`, `?`, `[a-z]` and, across slashes, `**`".to_owned(),
            });
            let glob = accept(
                glob.and_then(|glob| check(pattern).map(|()| glob)),
                "bad-pattern",
                value,
                context,
            )?;
            Some((glob, pattern.to_owned()))
        })
    }

    fn classes(&mut self, entry: Option<Entry<'_>>, classes: &[QosClass]) -> Option<Vec<usize>> {
        self.condition(entry, |value, key, context| {
            let name = text(value, key, context)?;
            let Some(index) = classes.iter().position(|class| class.name == name) else {
                let known = classes.iter().map(|class| class.name.as_str());
                let help = match nearest(name, known.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "define it, [qos.{name}], or set it in a rule above; known are {}",
                        listing(known)
                    ),
                };
                context
                    .error(
                        "undefined-class",
                        value.span(),
                        format!(
                            "no section and no rule makes a class `{}`",
                            name.escape_debug()
                        ),
                    )
                    .with_help(help);
                return None;
            };
            Some((index, name.to_owned()))
        })
    }

    /// Reads the values of a condition and remembers their writing. Values that are wrong have been
    /// reported and are left out.
    fn condition<T>(
        &mut self,
        entry: Option<Entry<'_>>,
        read: impl Fn(Value<'_>, &str, &mut Context<'_>) -> Option<(T, String)>,
    ) -> Option<Vec<T>> {
        let entry = entry?;
        let values = entry.values(self.context);
        let (meanings, writings) = values
            .into_iter()
            .filter_map(|value| read(value, entry.key, self.context))
            .unzip();
        // The key was taken by one of the names above; find the one with static lifetime.
        let key = KEYS
            .iter()
            .find(|key| **key == entry.key)
            .copied()
            .unwrap_or_default();
        let place = self.context.place(entry.key_span);
        self.conditions.push(Condition {
            key,
            values: writings,
            place,
        });
        Some(meanings)
    }
}

/// All keys of a match.
pub(crate) const KEYS: &[&str] = &[
    "role",
    "family",
    "type",
    "protocol",
    "remote",
    "local",
    "port",
    "local_port",
    "remote_port",
    "uid",
    "user",
    "program",
    "label",
    "cgroup",
    "qos",
];

fn protocol(
    value: Value<'_>,
    key: &str,
    context: &mut Context<'_>,
) -> Option<(Vec<(u16, u16)>, String)> {
    let number = match integer(value) {
        Some(number) => u16::try_from(number).ok().filter(|number| *number != 0),
        None => {
            let word = text(value, key, context)?;
            let named = PROTOCOLS.iter().find(|(name, _)| *name == word);
            let Some((_, number)) = named else {
                unknown_word(
                    word,
                    value,
                    key,
                    PROTOCOLS.iter().map(|(name, _)| *name),
                    context,
                );
                return None;
            };
            Some(*number)
        }
    };
    let Some(number) = number else {
        context
            .error(
                "bad-value",
                value.span(),
                "not the number of an IP protocol",
            )
            .with_help("write 1 to 255, 262 for MPTCP, or a name: \"tcp\"");
        return None;
    };
    Some((vec![(number, number)], protocol_name(number)))
}

fn ports(
    value: Value<'_>,
    key: &str,
    context: &mut Context<'_>,
) -> Option<(Vec<(u16, u16)>, String)> {
    let read = match integer(value) {
        Some(number) => values::port(number).map(|port| vec![(port, port)]),
        None => match value.get_ref().as_str() {
            Some(text) => values::ports(text),
            None => {
                wrong_type(
                    value,
                    key,
                    "a port, a range \"6379-6389\" or a list \"80,443\"",
                    context,
                );
                return None;
            }
        },
    };
    let ranges = accept(read, "bad-port", value, context)?;
    let written: Vec<String> = ranges
        .iter()
        .map(|(low, high)| {
            if low == high {
                low.to_string()
            } else {
                format!("{low}-{high}")
            }
        })
        .collect();
    Some((ranges, written.join(",")))
}

fn uid_range(
    value: Value<'_>,
    key: &str,
    context: &mut Context<'_>,
) -> Option<(Vec<(u32, u32)>, String)> {
    let written = match integer(value) {
        Some(number) => number.to_string(),
        None => text(value, key, context)?.to_owned(),
    };
    let range = accept(values::uids(&written), "bad-value", value, context)?;
    Some((vec![range], written))
}

fn check_program(pattern: &str) -> Result<(), Complaint> {
    let reachable = !pattern.contains('/') || pattern.starts_with(['/', '*']);
    reachable.then_some(()).ok_or_else(|| Complaint {
        message: "the pattern has a slash but does not start with one: no path matches it"
            .to_owned(),
        help: format!("write the whole path, or \"**/{pattern}\""),
    })
}

fn check_cgroup(pattern: &str) -> Result<(), Complaint> {
    pattern
        .starts_with(['/', '*'])
        .then_some(())
        .ok_or_else(|| Complaint {
            message: "a cgroup path starts with a slash: no cgroup matches the pattern".to_owned(),
            help: format!("write \"/{pattern}\", or \"**/{pattern}\" for any depth"),
        })
}

fn accept<T>(
    read: Result<T, Complaint>,
    code: &'static str,
    value: Value<'_>,
    context: &mut Context<'_>,
) -> Option<T> {
    read.map_err(|complaint| {
        context
            .error(code, value.span(), complaint.message)
            .with_help(complaint.help);
    })
    .ok()
}

fn unknown_word<'k>(
    word: &str,
    value: Value<'_>,
    key: &str,
    known: impl Iterator<Item = &'k str> + Clone,
    context: &mut Context<'_>,
) {
    let help = match nearest(word, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", listing(known)),
    };
    context
        .error(
            "bad-value",
            value.span(),
            format!("`{}` is not a {key}", word.escape_debug()),
        )
        .with_help(help);
}
