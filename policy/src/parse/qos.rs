//! `[qos.NAME]`, and the classes that rules bring along.

use super::{
    Context, MAX_CLASSES,
    rule::RuleTable,
    stack::{name, section_table},
    table::{Entry, integer, text, wrong_type},
    values,
};
use crate::ast::QosClass;

/// Reads all class sections, and adds the classes that only rules name.
pub(super) fn read(
    section: Option<Entry<'_>>,
    rules: &[RuleTable<'_>],
    context: &mut Context<'_>,
) -> Vec<QosClass> {
    let mut classes = Vec::new();
    let sections = section.and_then(|entry| section_table(&entry, "qos", context));
    for entry in sections.unwrap_or_default() {
        if name(entry.key, &entry.key_span, "class", context) {
            classes.extend(class(&entry, context));
        }
    }
    for rule in rules {
        let Some(value) = &rule.qos else { continue };
        let Some(text) = value.text(context) else {
            continue;
        };
        let span = value.value.span();
        if name(text, &span, "class", context) && !classes.iter().any(|class| class.name == text) {
            let place = context.place(span);
            classes.push(QosClass {
                name: text.to_owned(),
                priority: None,
                dscp: None,
                place,
            });
        }
    }
    if let Some(extra) = classes.get(MAX_CLASSES) {
        context.error(
            "too-large",
            extra.place.span.clone(),
            format!("more than {MAX_CLASSES} classes"),
        );
        classes.truncate(MAX_CLASSES);
    }
    classes
}

fn class(entry: &Entry<'_>, context: &mut Context<'_>) -> Option<QosClass> {
    let mut table = entry.table(context)?;
    let priority = table.take("priority").and_then(|entry| {
        let number = integer(entry.value).and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| *number <= i32::MAX as u32);
        if number.is_none() {
            wrong_type(
                entry.value,
                "priority",
                "a number as SO_PRIORITY takes it",
                context,
            );
        }
        number
    });
    let dscp = table.take("dscp").and_then(|entry| dscp(&entry, context));
    table.finish(context);
    Some(QosClass {
        name: entry.key.to_owned(),
        priority,
        dscp,
        place: context.place(entry.key_span.clone()),
    })
}

fn dscp(entry: &Entry<'_>, context: &mut Context<'_>) -> Option<u8> {
    let written = match integer(entry.value) {
        Some(number) => number.to_string(),
        None => text(entry.value, "dscp", context)?.to_owned(),
    };
    values::dscp(&written)
        .map_err(|complaint| {
            context
                .error("bad-value", entry.value.span(), complaint.message)
                .with_help(complaint.help);
        })
        .ok()
}
