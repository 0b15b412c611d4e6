//! Rules whose address prefixes overlap and whose answers differ: the order decides.

use std::collections::BTreeMap;

use super::relate;
use crate::{
    Policy, StackId,
    ast::{Addresses, Match, Rule},
    parse::Context,
    ranges::{Ranges, Scalar},
};

/// Notes about overlaps in one policy; the rest is counted.
const NOTES: usize = 16;
/// Pairs of rules that one policy is worth.
const BUDGET: usize = 200_000;

/// Reports each rule that overlaps rules in front of it.
pub(super) fn check(policy: &Policy, shadowed: &[bool], context: &mut Context<'_>) {
    let rules = policy.rules();
    let mut pairs = Pairs {
        found: BTreeMap::new(),
        budget: BUDGET,
    };
    for dimension in [remote, local] {
        pairs.collect(rules, |rule| Some(&dimension(rule)?.v4));
        pairs.collect(rules, |rule| Some(&dimension(rule)?.v6));
    }
    let mut notes = 0;
    for (later, earlier) in &pairs.found {
        let overlapping: Vec<usize> = earlier
            .iter()
            .copied()
            .filter(|earlier| {
                let (a, b) = (&rules[*earlier], &rules[*later]);
                !shadowed[*earlier]
                    && !shadowed[*later]
                    && answer(a) != answer(b)
                    && relate::overlap(&a.matching, &b.matching)
            })
            .collect();
        let Some(first) = overlapping.first() else {
            continue;
        };
        notes += 1;
        if notes > NOTES {
            continue;
        }
        let (rule, first) = (&rules[*later], &rules[*first]);
        let others = match overlapping.len() {
            1 => String::new(),
            more => format!(" (and {} more)", more - 1),
        };
        context
            .note(
                "overlapping-prefixes",
                place_of_prefix(rule),
                format!(
                    "the prefixes of `{}` overlap those of `{}` at line {}{others}, which comes first and wins there",
                    rule.name, first.name, first.place.line
                ),
            )
            .with_help("nothing to do if that is meant; else change the order, or narrow the conditions")
            .with_related("wins where both match", &crate::ast::Place { span: place_of_prefix(first), ..first.place.clone() });
    }
    if notes > NOTES || pairs.budget == 0 {
        let more = notes.saturating_sub(NOTES);
        let least = if pairs.budget == 0 { "at least " } else { "" };
        context
            .note("overlapping-prefixes", 0..0, format!("{least}{more} more rules have prefixes that overlap those of rules in front of them"))
            .with_help("`dmm policy explain` tells which rule a socket gets");
    }
}

fn remote(rule: &Rule) -> Option<&Addresses> {
    rule.matching.remote.as_ref()
}

fn local(rule: &Rule) -> Option<&Addresses> {
    rule.matching.local.as_ref()
}

/// What a rule decides.
fn answer(rule: &Rule) -> (&[StackId], bool, Option<usize>) {
    (&rule.stacks, rule.fallback, rule.qos)
}

fn place_of_prefix(rule: &Rule) -> std::ops::Range<usize> {
    let Match { conditions, .. } = &rule.matching;
    conditions
        .iter()
        .find(|condition| matches!(condition.key, "remote" | "local"))
        .map_or_else(
            || rule.place.span.clone(),
            |condition| condition.place.span.clone(),
        )
}

/// Pairs of rules with common addresses: the later one, and the earlier ones in order.
struct Pairs {
    found: BTreeMap<usize, Vec<usize>>,
    budget: usize,
}

impl Pairs {
    /// Sweeps over the addresses with the ranges that are open at each point.
    fn collect<'a, T: Scalar + 'a>(
        &mut self,
        rules: &'a [Rule],
        ranges: impl Fn(&'a Rule) -> Option<&'a Ranges<T>>,
    ) {
        let mut all: Vec<(T, T, usize)> = Vec::new();
        for (index, rule) in rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| !rule.only_sets_class())
        {
            all.extend(
                ranges(rule)
                    .into_iter()
                    .flat_map(Ranges::iter)
                    .map(|(low, high)| (low, high, index)),
            );
        }
        all.sort_unstable();
        let mut open: Vec<(T, usize)> = Vec::new();
        for (low, high, index) in all {
            open.retain(|(end, _)| *end >= low);
            for (_, other) in &open {
                if self.budget == 0 {
                    return;
                }
                self.budget -= 1;
                let (earlier, later) = (index.min(*other), index.max(*other));
                let list = self.found.entry(later).or_default();
                if let Err(at) = list.binary_search(&earlier)
                    && earlier != later
                {
                    list.insert(at, earlier);
                }
            }
            open.push((high, index));
        }
    }
}
