//! The segment's tables: rules, stacks and classes by name, and pairs of rule and stack.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::counter::Counter;
use super::layout::{CLASSES, RULES, SERIES, STACKS, ShortName};
use super::names::{self, OTHER};
use super::segment::Segment;
use super::text::{bytes_equal, copy_bytes, store_bytes};

const RULE_BYTES: usize = 128;
const SHORT_BYTES: usize = 56;

/// Number of a rule's name in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleName(pub(super) u16);

/// Number of a stack instance's name in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackName(pub(super) u16);

/// Number of a QoS class's name in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassName(pub(super) u16);

/// A pair of rule and stack instance, with its counters and histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesId(pub(super) u16);

impl Segment {
    /// The number of a rule's name (cut at 128 bytes), with its line in the policy file.
    pub fn rule(&self, name: &str, line: u32) -> RuleName {
        self.rule_of_bytes(name.as_bytes(), line)
    }

    fn rule_of_bytes(&self, name: &[u8], line: u32) -> RuleName {
        let bytes = &name[..name.len().min(RULE_BYTES)];
        let hash = names::hash(bytes) ^ u64::from(line).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = names::intern(
            &self.pages.header().rule_words,
            hash,
            |slot| {
                let rule = self.pages.rule(slot);
                rule.len.load(Relaxed) as usize == bytes.len()
                    && rule.line.load(Relaxed) == line
                    && bytes_equal(&rule.bytes, bytes)
            },
            |slot| {
                let rule = self.pages.rule(slot);
                self.populate_first(rule, slot, RULES)
                    .then(|| {
                        store_bytes(&rule.bytes, bytes);
                        rule.line.store(line, Relaxed);
                        rule.len.store(bytes.len() as u32, Relaxed);
                    })
                    .is_some()
            },
        );
        RuleName(self.or_other(slot, Counter::NamesOverflowed))
    }

    /// The number of a stack instance's name (cut at 56 bytes).
    pub fn stack(&self, name: &str) -> StackName {
        self.stack_of_bytes(name.as_bytes())
    }

    /// Copies a stack instance's name to `buffer`, which it may be too long for; returns how many bytes
    /// were copied. Allocates nothing.
    pub fn copy_stack_name(&self, stack: StackName, buffer: &mut [u8]) -> usize {
        let entry = self.pages.stack(usize::from(stack.0) % STACKS);
        copy_bytes(&entry.bytes, entry.len.load(Relaxed), buffer)
    }

    fn stack_of_bytes(&self, name: &[u8]) -> StackName {
        let words = &self.pages.header().stack_words;
        StackName(self.short_name(words, name, |slot| self.pages.stack(slot), STACKS))
    }

    /// The number of a QoS class's name (cut at 56 bytes).
    pub fn class(&self, name: &str) -> ClassName {
        self.class_of_bytes(name.as_bytes())
    }

    fn class_of_bytes(&self, name: &[u8]) -> ClassName {
        let words = &self.pages.header().class_words;
        ClassName(self.short_name(words, name, |slot| self.pages.class(slot), CLASSES))
    }

    /// The counters and histograms of a pair of rule and stack.
    pub fn series(&self, rule: RuleName, stack: StackName) -> SeriesId {
        // The key is the hash: equal words are equal pairs.
        let key = ((u64::from(rule.0) << 16 | u64::from(stack.0)) << 2) | 1 << 63;
        let slot = names::intern(
            &self.pages.header().series_words,
            key,
            |_| true,
            |slot| self.populate_first(self.pages.series(slot), slot, SERIES),
        );
        SeriesId(self.or_other(slot, Counter::SeriesOverflowed))
    }

    /// The number that this segment's rule has in another one.
    pub(super) fn copy_rule(&self, slot: u16, target: &Self) -> RuleName {
        let rule = self.pages.rule(usize::from(slot) % RULES);
        let mut name = [0; RULE_BYTES];
        let len = copy_bytes(&rule.bytes, rule.len.load(Relaxed), &mut name);
        target.rule_of_bytes(&name[..len], rule.line.load(Relaxed))
    }

    /// The number that this segment's stack has in another one.
    pub(super) fn copy_stack(&self, slot: u16, target: &Self) -> StackName {
        let entry = self.pages.stack(usize::from(slot) % STACKS);
        let mut name = [0; SHORT_BYTES];
        let len = copy_bytes(&entry.bytes, entry.len.load(Relaxed), &mut name);
        target.stack_of_bytes(&name[..len])
    }

    /// The number that this segment's QoS class has in another one.
    pub(super) fn copy_class(&self, slot: u16, target: &Self) -> ClassName {
        let entry = self.pages.class(usize::from(slot) % CLASSES);
        let mut name = [0; SHORT_BYTES];
        let len = copy_bytes(&entry.bytes, entry.len.load(Relaxed), &mut name);
        target.class_of_bytes(&name[..len])
    }

    fn short_name<'a>(
        &'a self,
        words: &[AtomicU64],
        name: &[u8],
        entry: impl Fn(usize) -> &'a ShortName,
        count: usize,
    ) -> u16 {
        let bytes = &name[..name.len().min(SHORT_BYTES)];
        let slot = names::intern(
            words,
            names::hash(bytes),
            |slot| {
                entry(slot).len.load(Relaxed) as usize == bytes.len()
                    && bytes_equal(&entry(slot).bytes, bytes)
            },
            |slot| {
                let backed = self.populate_first(entry(slot), slot, count);
                if backed {
                    store_bytes(&entry(slot).bytes, bytes);
                    entry(slot).len.store(bytes.len() as u32, Relaxed);
                }
                backed
            },
        );
        self.or_other(slot, Counter::NamesOverflowed)
    }

    fn or_other(&self, slot: Option<usize>, overflow: Counter) -> u16 {
        slot.and_then(|slot| u16::try_from(slot).ok())
            .unwrap_or_else(|| {
                self.add(overflow, 1);
                OTHER
            })
    }

    /// Backs an entry of a table, whose entries are taken in order: asking again for a page that is
    /// there is cheap, and names are new seldom.
    fn populate_first<T>(&self, entry: &T, slot: usize, count: usize) -> bool {
        debug_assert!(slot < count);
        self.pages
            .populate(self.pages.offset_of(entry), size_of::<T>())
    }
}
