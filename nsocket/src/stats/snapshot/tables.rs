//! The names that the numbers in a segment stand for.

use std::fs::File;
use std::mem::offset_of;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::text::Name;
use super::view::Copy;
use super::{RuleInfo, SnapshotError};
use crate::stats::layout::{CLASSES, Fixed, Header, RULES, Rule, STACKS, ShortName};
use crate::stats::names::{OTHER_NAME, is_ready};
use crate::stats::text::load_bytes;

/// The names that numbers stand for. Slots that hold nothing are "(other)".
pub(super) struct Tables {
    stacks: Vec<Name>,
    classes: Vec<Name>,
    pub(super) rules: Vec<RuleInfo>,
}

impl Tables {
    pub(super) fn read(file: &File, header: &Header) -> Result<Self, SnapshotError> {
        Ok(Self {
            stacks: short_names(file, &header.stack_words, offset_of!(Fixed, stacks))?,
            classes: short_names(file, &header.class_words, offset_of!(Fixed, classes))?,
            rules: rules(file, &header.rule_words)?,
        })
    }

    pub(super) fn stack(&self, number: u16) -> Name {
        name_at(&self.stacks, number)
    }

    pub(super) fn class(&self, number: u16) -> Name {
        if number == 0 {
            Name::default()
        } else {
            name_at(&self.classes, number)
        }
    }

    pub(super) fn rule(&self, number: u16) -> (Name, u32) {
        self.rules.get(usize::from(number)).map_or_else(
            || (OTHER_NAME.into(), 0),
            |rule| (rule.name.clone(), rule.line),
        )
    }
}

fn name_at(names: &[Name], number: u16) -> Name {
    names
        .get(usize::from(number))
        .cloned()
        .unwrap_or_else(|| OTHER_NAME.into())
}

/// How many slots of a table have been taken: they are taken in order.
pub(super) fn used(words: &[AtomicU64]) -> usize {
    words
        .iter()
        .rposition(|word| word.load(Relaxed) != 0)
        .map_or(0, |last| last + 1)
}

fn short_names(
    file: &File,
    words: &[AtomicU64; STACKS],
    offset: usize,
) -> Result<Vec<Name>, SnapshotError> {
    const { assert!(STACKS == CLASSES) };
    let used = used(words);
    let copy = Copy::read(file, offset, used * size_of::<ShortName>())?;
    let name = |slot| {
        let entry = copy.part::<ShortName>(slot);
        Name::from_bytes(&load_bytes(&entry.bytes, entry.len.load(Relaxed) as usize))
    };
    Ok((0..used)
        .map(|slot| {
            if is_ready(words[slot].load(Relaxed)) {
                name(slot)
            } else {
                OTHER_NAME.into()
            }
        })
        .collect())
}

fn rules(file: &File, words: &[AtomicU64; RULES]) -> Result<Vec<RuleInfo>, SnapshotError> {
    let used = used(words);
    let copy = Copy::read(file, offset_of!(Fixed, rules), used * size_of::<Rule>())?;
    Ok((0..used)
        .map(|slot| {
            let rule = copy.part::<Rule>(slot);
            let ready = is_ready(words[slot].load(Relaxed));
            let name = load_bytes(&rule.bytes, rule.len.load(Relaxed) as usize);
            RuleInfo {
                name: if ready {
                    Name::from_bytes(&name)
                } else {
                    OTHER_NAME.into()
                },
                line: rule.line.load(Relaxed),
                hits: rule.hits.load(Relaxed),
                fallbacks: rule.fallbacks.load(Relaxed),
                failures: rule.failures.load(Relaxed),
            }
        })
        .collect())
}
