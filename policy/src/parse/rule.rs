//! `[[rule]]` and `[default]`.

use std::{collections::BTreeMap, ops::Range};

use super::{
    Context, MAX_CLASS_RULES, MAX_RANGES, MAX_RULES, MAX_STACKS,
    context::{listing, nearest},
    matching,
    stack::warn_if_missing,
    table::{Entry, Table, text, wrong_type},
};
use crate::{
    Policy, StackId, StackKind,
    ast::{DefaultRule, Place, Rule, Stack},
};

/// Longest name of a rule, in bytes.
const MAX_RULE_NAME: usize = 128;

/// One `[[rule]]`, not yet read but for its class: classes have to be known before conditions are.
pub(super) struct RuleTable<'a> {
    span: Range<usize>,
    table: Table<'a>,
    pub(super) qos: Option<Entry<'a>>,
}

/// The tables of all rules.
pub(super) fn tables<'a>(
    section: Option<Entry<'a>>,
    context: &mut Context<'_>,
) -> Vec<RuleTable<'a>> {
    let Some(section) = section else {
        return Vec::new();
    };
    let Some(array) = section.value.get_ref().as_array() else {
        context
            .error(
                "wrong-type",
                section.key_span,
                "`rule` is a list of sections",
            )
            .with_help("write [[rule]], with two brackets, above each rule");
        return Vec::new();
    };
    if array.len() > MAX_RULES {
        context
            .error("too-large", section.key_span, format!("{} rules are more than {MAX_RULES}", array.len()))
            .with_help("put the values that go to the same stack into one rule: remote = [\"10.0.0.0/8\", ...]");
    }
    let mut tables = Vec::with_capacity(array.len().min(MAX_RULES));
    for element in array.iter().take(MAX_RULES) {
        let Some(table) = element.get_ref().as_table() else {
            wrong_type(element, "rule", "a table", context);
            continue;
        };
        let mut table = Table::new(table, "rule");
        let qos = table.take("qos");
        tables.push(RuleTable {
            span: element.span(),
            table,
            qos,
        });
    }
    tables
}

/// Reads all rules.
pub(super) fn read(tables: Vec<RuleTable<'_>>, policy: &mut Policy, context: &mut Context<'_>) {
    let mut names = BTreeMap::<String, Place>::new();
    let mut class_rules = 0;
    let mut ranges = 0;
    for table in tables {
        let rule = rule(table, policy, context);
        if let Some(first) = names.get(&rule.name) {
            context
                .error(
                    "duplicate-name",
                    rule.place.span.clone(),
                    format!("a second rule is named `{}`", rule.name),
                )
                .with_help(
                    "give one of them another name: statistics and tools tell rules apart by it",
                )
                .with_related("the first", first);
        } else {
            names.insert(rule.name.clone(), rule.place.clone());
        }
        class_rules += usize::from(rule.only_sets_class() && rule.qos.is_some());
        if class_rules == MAX_CLASS_RULES + 1 && rule.only_sets_class() {
            context
                .error(
                    "too-large",
                    rule.place.span.clone(),
                    format!("more than {MAX_CLASS_RULES} rules only set a class"),
                )
                .with_help("join rules that set the same class, or give them a `stack`");
        }
        let before = ranges;
        ranges += rule.matching.range_count();
        if before <= MAX_RANGES && ranges > MAX_RANGES {
            context
                .error(
                    "too-large",
                    rule.place.span.clone(),
                    format!("more than {MAX_RANGES} prefixes, ports and numbers up to here"),
                )
                .with_help("join neighbouring prefixes and ports into larger ones");
        }
        policy.rules.push(rule);
    }
}

/// Reads `[default]`.
pub(super) fn read_default(
    section: Option<Entry<'_>>,
    policy: &mut Policy,
    context: &mut Context<'_>,
) {
    let Some(section) = section else { return };
    let Some(mut table) = section.table(context) else {
        return;
    };
    let place = context.place(section.key_span.clone());
    let fallback = read_fallback(&mut table, context);
    let stacks = match table.take("stack") {
        Some(entry) => preference(&entry, fallback, &mut policy.stacks, context),
        None => {
            context
                .error(
                    "missing-key",
                    section.key_span,
                    "`[default]` names no stack",
                )
                .with_help("add a line: stack = [\"kernel\"]");
            Vec::new()
        }
    };
    policy.default = DefaultRule {
        stacks,
        fallback,
        place,
    };
    table.finish(context);
}

fn rule(rule: RuleTable<'_>, policy: &mut Policy, context: &mut Context<'_>) -> Rule {
    let RuleTable {
        span,
        mut table,
        qos,
    } = rule;
    let place = context.place(span.clone());
    let name = table
        .take("name")
        .and_then(|entry| rule_name(&entry, context))
        .unwrap_or_else(|| format!("rule at line {}", place.line));
    let matching = table
        .take("match")
        .and_then(|entry| entry.table(context))
        .map(|table| matching::read(table, &policy.classes, context))
        .unwrap_or_default();
    let wrote_fallback = table.take("fallback");
    let fallback = match &wrote_fallback {
        None => true,
        Some(entry) => entry.bool(context).unwrap_or(true),
    };
    let qos = qos.and_then(|entry| {
        let class = entry.value.get_ref().as_str()?;
        policy.classes.iter().position(|known| known.name == class)
    });
    let stacks = match table.take("stack") {
        Some(entry) => preference(&entry, fallback, &mut policy.stacks, context),
        None => {
            without_stack(qos.is_some(), wrote_fallback.as_ref(), span, context);
            Vec::new()
        }
    };
    let dump_on_signal = table
        .take("dump")
        .is_some_and(|entry| dump(&entry, context));
    let note = table
        .take("note")
        .and_then(|entry| entry.text(context))
        .map(str::to_owned);
    table.finish(context);
    Rule {
        name,
        matching,
        stacks,
        fallback,
        qos,
        dump_on_signal,
        note,
        place,
    }
}

fn rule_name(entry: &Entry<'_>, context: &mut Context<'_>) -> Option<String> {
    let name = entry.text(context)?;
    let fits = (1..=MAX_RULE_NAME).contains(&name.len())
        && !name.contains(char::is_control)
        && name != "default"
        && name.trim() == name;
    if !fits {
        context
            .error("bad-name", entry.value.span(), format!("`{}` cannot be the name of a rule", name.escape_debug()))
            .with_help(format!(
                "use 1 to {MAX_RULE_NAME} bytes without control characters or spaces around; `default` is the name of [default]"
            ));
    }
    fits.then(|| name.to_owned())
}

/// A rule without a stack has to set a class.
fn without_stack(
    sets_class: bool,
    fallback: Option<&Entry<'_>>,
    span: Range<usize>,
    context: &mut Context<'_>,
) {
    if !sets_class {
        context
            .error(
                "missing-key",
                span,
                "the rule does nothing: it has neither `stack` nor `qos`",
            )
            .with_help("add a line: stack = [\"kernel\"]");
    } else if let Some(entry) = fallback {
        context
            .error(
                "contradiction",
                entry.key_span.clone(),
                "`fallback` in a rule that chooses no stack",
            )
            .with_help("remove it, or add `stack`");
    }
}

fn read_fallback(table: &mut Table<'_>, context: &mut Context<'_>) -> bool {
    table
        .take("fallback")
        .and_then(|entry| entry.bool(context))
        .unwrap_or(true)
}

fn dump(entry: &Entry<'_>, context: &mut Context<'_>) -> bool {
    let known = entry
        .text(context)
        .is_none_or(|signal| signal == "SIGUSR2" || signal == "USR2");
    if !known {
        context
            .error(
                "bad-value",
                entry.value.span(),
                "histograms are dumped at `SIGUSR2` only",
            )
            .with_help("write dump = \"SIGUSR2\"");
    }
    known
}

/// A preference list, with the kernel at its end if it may fall back and does not say so itself.
fn preference(
    entry: &Entry<'_>,
    fallback: bool,
    stacks: &mut Vec<Stack>,
    context: &mut Context<'_>,
) -> Vec<StackId> {
    let array = entry.value.get_ref().as_array();
    if array.is_some_and(|array| array.is_empty()) {
        let help = match fallback {
            true => "name a stack; for the kernel alone write [\"kernel\"]",
            false => {
                "with `fallback = false` the list is all there is: name the stacks that may carry the socket"
            }
        };
        context
            .error(
                "empty-list",
                entry.value.span(),
                "the preference list is empty",
            )
            .with_help(help);
        return Vec::new();
    }
    let kernel = StackId(0);
    let mut list = Vec::new();
    for value in entry.values(context).into_iter().take(MAX_STACKS + 1) {
        let Some(name) = text(value, entry.key, context) else {
            continue;
        };
        let Some(id) = stack_id(name, value.span(), stacks, context) else {
            continue;
        };
        if list.contains(&id) {
            context
                .error(
                    "duplicate-stack",
                    value.span(),
                    format!("`{name}` stands twice in the preference list"),
                )
                .with_help("remove the second");
            continue;
        }
        if list.contains(&kernel) && stacks[0].netns.is_none() {
            context
                .warning(
                    "unreachable-stack",
                    value.span(),
                    format!(
                        "`{name}` is never tried: `kernel` in front of it carries every socket"
                    ),
                )
                .with_help("put `kernel` last");
        }
        list.push(id);
    }
    if fallback && !list.contains(&kernel) {
        list.push(kernel);
    }
    list
}

fn stack_id(
    name: &str,
    span: Range<usize>,
    stacks: &mut Vec<Stack>,
    context: &mut Context<'_>,
) -> Option<StackId> {
    if let Some(index) = stacks.iter().position(|stack| stack.name == name) {
        return Some(StackId(index as u16));
    }
    if name == StackKind::Local.name() {
        if stacks.len() == MAX_STACKS {
            context.error("too-large", span, format!("more than {MAX_STACKS} stacks"));
            return None;
        }
        warn_if_missing(StackKind::Local, &span, context);
        stacks.push(Stack::implicit(name, StackKind::Local));
        return Some(StackId(stacks.len() as u16 - 1));
    }
    let known = || stacks.iter().map(|stack| stack.name.as_str());
    let help = match nearest(name, known()) {
        Some(near) => format!("did you mean `{near}`? otherwise define it: [stack.{name}]"),
        None => format!(
            "define it: [stack.{name}]; defined are {}",
            listing(known())
        ),
    };
    context
        .error(
            "undefined-stack",
            span,
            format!("there is no stack `{}`", name.escape_debug()),
        )
        .with_help(help);
    None
}
