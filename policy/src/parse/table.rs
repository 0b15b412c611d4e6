//! Reads tables key by key, and reports the keys that nobody asked for.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Context,
    context::{listing, nearest},
};
use crate::parse::MAX_VALUES;

/// A value with its place.
pub(super) type Value<'a> = &'a Spanned<DeValue<'a>>;

/// A key and its value.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a str,
    pub(super) key_span: Range<usize>,
    pub(super) value: Value<'a>,
}

impl<'a> Entry<'a> {
    /// The value as a table; anything else is an error.
    pub(super) fn table(&self, context: &mut Context<'_>) -> Option<Table<'a>> {
        let Some(table) = self.value.get_ref().as_table() else {
            wrong_type(self.value, self.key, "a table", context);
            return None;
        };
        Some(Table::new(table, self.key))
    }

    /// The value as a text; anything else is an error.
    pub(super) fn text(&self, context: &mut Context<'_>) -> Option<&'a str> {
        text(self.value, self.key, context)
    }

    /// The value as `true` or `false`; anything else is an error.
    pub(super) fn bool(&self, context: &mut Context<'_>) -> Option<bool> {
        let found = self.value.get_ref().as_bool();
        if found.is_none() {
            wrong_type(self.value, self.key, "`true` or `false`", context);
        }
        found
    }

    /// The value's elements: those of an array, or the value itself. An empty array is an error.
    pub(super) fn values(&self, context: &mut Context<'_>) -> Vec<Value<'a>> {
        let Some(array) = self.value.get_ref().as_array() else {
            return vec![self.value];
        };
        if array.is_empty() {
            context
                .error(
                    "empty-list",
                    self.value.span(),
                    format!("`{}` is an empty list", self.key),
                )
                .with_help("name at least one value, or leave the key out");
        }
        if array.len() > MAX_VALUES {
            context
                .error(
                    "too-large",
                    self.value.span(),
                    format!("`{}` has more than {MAX_VALUES} values", self.key),
                )
                .with_help("spread the values over several rules");
        }
        array.iter().take(MAX_VALUES).collect()
    }
}

/// A table of which each known key is taken once.
pub(super) struct Table<'a> {
    name: &'a str,
    entries: Vec<Entry<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn new(table: &'a DeTable<'a>, name: &'a str) -> Self {
        Self {
            name,
            entries: entries(table),
            known: Vec::new(),
        }
    }

    /// Takes a key out.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.known.push(key);
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    /// Reports what is left over.
    pub(super) fn finish(self, context: &mut Context<'_>) {
        for entry in self.entries {
            let help = match nearest(entry.key, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here are {}", listing(self.known.iter().copied())),
            };
            context
                .error(
                    "unknown-key",
                    entry.key_span,
                    format!("unknown key `{}` in `{}`", entry.key, self.name),
                )
                .with_help(help);
        }
    }
}

/// The entries of a table in the order of the file.
pub(super) fn entries<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().as_ref(),
            key_span: key.span(),
            value,
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    entries
}

/// A value as a text; anything else is an error.
pub(super) fn text<'a>(value: Value<'a>, key: &str, context: &mut Context<'_>) -> Option<&'a str> {
    let found = value.get_ref().as_str();
    if found.is_none() {
        wrong_type(value, key, "a text in quotes", context);
    }
    found
}

/// A value as a whole number, if it is one.
pub(super) fn integer(value: Value<'_>) -> Option<i128> {
    let number = value.get_ref().as_integer()?;
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Reports a value of a type that does not fit.
pub(super) fn wrong_type(value: Value<'_>, key: &str, wanted: &str, context: &mut Context<'_>) {
    let found = value.get_ref().type_str();
    context
        .error(
            "wrong-type",
            value.span(),
            format!("`{key}` is {wanted}, not of type {found}"),
        )
        .with_help(format!("write {wanted}"));
}
