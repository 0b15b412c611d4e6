//! `[stack.NAME]`.

use std::ops::Range;

use super::{
    Context, MAX_STACKS,
    context::{listing, nearest},
    table::{Entry, Table, entries, integer, text, wrong_type},
    values::{self, Complaint},
};
use crate::{
    KernelProtocol, StackKind,
    ast::{OwnedOptions, Stack},
    options::{Syntax, TABLE},
};

/// Longest name of a stack, class or label, in bytes.
const MAX_NAME: usize = 32;

/// Reads all stack sections. The result starts with `kernel`, written or not.
pub(super) fn read(section: Option<Entry<'_>>, context: &mut Context<'_>) -> Vec<Stack> {
    let mut stacks = vec![Stack::kernel()];
    let Some(table) = section.and_then(|entry| section_table(&entry, "stack", context)) else {
        return stacks;
    };
    for entry in table {
        let named = name(entry.key, &entry.key_span, "stack", context);
        let stack = stack(&entry, context);
        match stack {
            Some(stack) if entry.key == "kernel" => stacks[0] = stack,
            Some(stack) if named => stacks.push(stack),
            _ => {}
        }
        if stacks.len() == MAX_STACKS {
            context.error(
                "too-large",
                entry.key_span,
                format!("more than {} stacks", MAX_STACKS - 1),
            );
            break;
        }
    }
    stacks
}

/// The entries of `[word.NAME]` sections.
pub(super) fn section_table<'a>(
    entry: &Entry<'a>,
    word: &str,
    context: &mut Context<'_>,
) -> Option<Vec<Entry<'a>>> {
    match entry.value.get_ref().as_table() {
        Some(table) => Some(entries(table)),
        None => {
            context
                .error(
                    "wrong-type",
                    entry.key_span.clone(),
                    format!("`{word}` is not a section of its own"),
                )
                .with_help(format!("write [{word}.NAME]"));
            None
        }
    }
}

/// Whether a name is one that may stand in files, in tables and on command lines.
pub(super) fn name(name: &str, span: &Range<usize>, what: &str, context: &mut Context<'_>) -> bool {
    let fits = !name.is_empty()
        && name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !fits {
        context
            .error(
                "bad-name",
                span.clone(),
                format!("`{}` cannot be the name of a {what}", name.escape_debug()),
            )
            .with_help(format!("use 1 to {MAX_NAME} letters, digits, `-` and `_`"));
    }
    fits
}

fn stack(entry: &Entry<'_>, context: &mut Context<'_>) -> Option<Stack> {
    let mut table = entry.table(context)?;
    let mut stack = Stack::implicit(entry.key, StackKind::Kernel);
    stack.place = context.place(entry.key_span.clone());
    let kind = table.take("type");
    stack.kind = read_kind(entry, kind, context).unwrap_or(StackKind::Kernel);
    for key in ["netns", "protocol", "congestion"] {
        let Some(value) = table.take(key) else {
            continue;
        };
        if stack.kind != StackKind::Kernel {
            context
                .error(
                    "bad-value",
                    value.key_span.clone(),
                    format!("`{key}` is for stacks of type `kernel`"),
                )
                .with_help("remove it");
        }
        match key {
            "netns" => stack.netns = netns(&value, context),
            "protocol" => stack.protocol = protocol(&value, context),
            _ => stack.congestion = congestion(&value, context),
        }
    }
    if let Some(mut options) = table.take("options").and_then(|entry| entry.table(context)) {
        stack.options = read_options(&mut options, context);
        options.finish(context);
    }
    table.finish(context);
    Some(stack)
}

fn read_kind(
    entry: &Entry<'_>,
    kind: Option<Entry<'_>>,
    context: &mut Context<'_>,
) -> Option<StackKind> {
    let kinds = || StackKind::ALL.into_iter().map(StackKind::name);
    let Some(value) = kind else {
        if entry.key == "kernel" {
            return Some(StackKind::Kernel);
        }
        // `[stack.local]` says it all.
        if let Some(kind) = StackKind::ALL
            .into_iter()
            .find(|kind| kind.name() == entry.key)
        {
            warn_if_missing(kind, &entry.key_span, context);
            return Some(kind);
        }
        context
            .error(
                "missing-key",
                entry.key_span.clone(),
                format!("stack `{}` has no type", entry.key),
            )
            .with_help("add a line: type = \"kernel\"");
        return None;
    };
    let text = value.text(context)?;
    let Some(kind) = StackKind::ALL.into_iter().find(|kind| kind.name() == text) else {
        let help = match nearest(text, kinds()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", listing(kinds())),
        };
        context
            .error(
                "unknown-type",
                value.value.span(),
                format!("there is no stack of type `{text}`"),
            )
            .with_help(help);
        return None;
    };
    if entry.key == "kernel" && kind != StackKind::Kernel {
        context
            .error(
                "bad-value",
                value.value.span(),
                "the stack `kernel` is of type `kernel`",
            )
            .with_help("give this stack another name");
    }
    warn_if_missing(kind, &value.value.span(), context);
    Some(kind)
}

/// Warns of a kind that this build cannot run.
pub(super) fn warn_if_missing(kind: StackKind, span: &Range<usize>, context: &mut Context<'_>) {
    if !kind.in_this_build() {
        context
            .warning("not-in-this-build", span.clone(), format!("this build has no stacks of type `{}`", kind.name()))
            .with_help("sockets go to the next stack in the preference list, with the reason \"stack not in this build\"");
    }
}

fn netns(entry: &Entry<'_>, context: &mut Context<'_>) -> Option<String> {
    let text = entry.text(context)?;
    let plain = !text.is_empty() && text.len() <= 255 && !text.contains(char::is_control);
    let absolute = text.starts_with('/');
    let fits = plain && (absolute || (!text.contains('/') && text != "." && text != ".."));
    if !fits {
        context
            .error("bad-value", entry.value.span(), format!("`{}` does not name a network namespace", text.escape_debug()))
            .with_help("write a name as `ip netns list` shows it, or an absolute path: \"/proc/1234/ns/net\"");
    }
    fits.then(|| text.to_owned())
}

fn protocol(entry: &Entry<'_>, context: &mut Context<'_>) -> Option<KernelProtocol> {
    match entry.text(context)? {
        "tcp" => Some(KernelProtocol::Tcp),
        "mptcp" => Some(KernelProtocol::Mptcp),
        other => {
            context
                .error(
                    "bad-value",
                    entry.value.span(),
                    format!(
                        "`{}` is not a protocol of a kernel stack",
                        other.escape_debug()
                    ),
                )
                .with_help("write \"tcp\" or \"mptcp\"");
            None
        }
    }
}

/// A name that the kernel keeps in 16 bytes with a zero at the end.
fn short_name(
    entry: &Entry<'_>,
    what: &str,
    example: &str,
    context: &mut Context<'_>,
) -> Option<String> {
    let text = entry.text(context)?;
    let fits = (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
        && text != "."
        && text != "..";
    if !fits {
        context
            .error(
                "bad-value",
                entry.value.span(),
                format!("`{}` does not name {what}", text.escape_debug()),
            )
            .with_help(format!(
                "write 1 to 15 characters without spaces, such as {example}"
            ));
    }
    fits.then(|| text.to_owned())
}

fn congestion(entry: &Entry<'_>, context: &mut Context<'_>) -> Option<String> {
    short_name(
        entry,
        "a congestion control algorithm",
        "\"bbr\" (see /proc/sys/net/ipv4/tcp_available_congestion_control)",
        context,
    )
}

fn read_options(table: &mut Table<'_>, context: &mut Context<'_>) -> OwnedOptions {
    let mut options = OwnedOptions::default();
    for (index, (key, syntax)) in TABLE.iter().enumerate() {
        let Some(entry) = table.take(key) else {
            continue;
        };
        let Some(word) = option_word(&entry, *syntax, context) else {
            continue;
        };
        if !options.plain.set(index, word) {
            context
                .error(
                    "bad-value",
                    entry.value.span(),
                    format!("{word} is too much for `{key}`"),
                )
                .with_help("write a smaller number");
        }
    }
    if let Some(entry) = table.take("device") {
        options.device = short_name(&entry, "a network interface", "\"eth0\"", context);
    }
    options
}

/// The value of an option as the word that is kept.
fn option_word(entry: &Entry<'_>, syntax: Syntax, context: &mut Context<'_>) -> Option<u64> {
    if syntax == Syntax::Bool {
        return entry.bool(context).map(u64::from);
    }
    let word = match (integer(entry.value), syntax) {
        (Some(number), syntax) => from_number(number, syntax),
        (None, Syntax::Number(low, high)) => {
            wrong_type(
                entry.value,
                entry.key,
                &format!("a number from {low} to {high}"),
                context,
            );
            return None;
        }
        (None, syntax) => from_text(text(entry.value, entry.key, context)?, syntax),
    };
    match word {
        Ok(word) => Some(word),
        Err(complaint) => {
            context
                .error(
                    "bad-value",
                    entry.value.span(),
                    format!("`{}`: {}", entry.key, complaint.message),
                )
                .with_help(complaint.help);
            None
        }
    }
}

fn from_number(number: i128, syntax: Syntax) -> Result<u64, Complaint> {
    let within = |low: u32, high: u32| {
        u32::try_from(number)
            .ok()
            .filter(|number| (low..=high).contains(number))
            .map(u64::from)
            .ok_or_else(|| Complaint {
                message: format!("{number} is out of range"),
                help: format!("write a number from {low} to {high}"),
            })
    };
    match syntax {
        Syntax::Bytes => values::bytes(&number.to_string()),
        Syntax::Dscp => within(0, 63),
        Syntax::Number(low, high) => within(low, high),
        Syntax::Mark => within(0, u32::MAX),
        Syntax::Bool | Syntax::Microseconds | Syntax::Milliseconds | Syntax::Seconds => {
            values::nanoseconds(&number.to_string())
        }
    }
}

fn from_text(text: &str, syntax: Syntax) -> Result<u64, Complaint> {
    let duration = |unit: u64, name: &str| {
        let nanoseconds = values::nanoseconds(text)?;
        if !nanoseconds.is_multiple_of(unit) {
            return Err(Complaint {
                message: format!("`{text}` is finer than this option"),
                help: format!("write a whole number of {name}"),
            });
        }
        Ok(nanoseconds / unit)
    };
    match syntax {
        Syntax::Bytes => values::bytes(text),
        Syntax::Microseconds => duration(1_000, "us"),
        Syntax::Milliseconds => duration(1_000_000, "ms"),
        Syntax::Seconds => duration(1_000_000_000, "s"),
        Syntax::Dscp => values::dscp(text).map(u64::from),
        Syntax::Mark => values::mark(text).map(u64::from),
        Syntax::Bool | Syntax::Number(..) => Err(Complaint {
            message: format!("`{text}` is a text"),
            help: "write it without quotes".to_owned(),
        }),
    }
}
