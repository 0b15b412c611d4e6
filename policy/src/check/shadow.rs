//! Rules that can never be the first match.

use std::collections::BTreeMap;

use super::relate;
use crate::{
    Policy, Role,
    ast::{Match, Rule},
    compile::Dimensions,
    glob::Glob,
    parse::Context,
};

/// Comparisons of two rules, or of two patterns, that one policy is worth.
const BUDGET: usize = 4_000_000;

/// Reports shadowed rules, and tells which they are.
pub(super) fn check(policy: &Policy, context: &mut Context<'_>) -> Vec<bool> {
    let rules = policy.rules();
    let mut shadowed = vec![false; rules.len()];
    // Behind a rule that matches everything there is one thing to say, not a thousand.
    let catch_all = rules
        .iter()
        .position(|rule| rule.conditions().is_empty() && !rule.only_sets_class());
    let reachable = catch_all.map_or(rules.len(), |index| index + 1);
    if let Some(index) = catch_all
        && reachable < rules.len()
    {
        let rule = &rules[index];
        shadowed[reachable..].fill(true);
        context
            .warning(
                "match-all",
                rule.place.span.clone(),
                format!(
                    "`{}` matches everything: the {} behind it are never reached",
                    rule.name,
                    count(rules.len() - reachable)
                ),
            )
            .with_help("move the rule to the end, or give it a `match`")
            .with_related(
                "the first rule that is never reached",
                &rules[reachable].place,
            );
    }
    let mut search = Search::new(policy, &rules[..reachable]);
    for index in 0..reachable {
        let Some(found) = search.shadowing(index) else {
            continue;
        };
        shadowed[index] = true;
        let (rule, by) = (&rules[index], &rules[found]);
        let help = match relate::covers(&rule.matching, &by.matching) {
            true => "both match the same: remove one of them",
            false => "put the more specific rule first",
        };
        context
            .warning(
                "shadowed-rule",
                rule.place.span.clone(),
                format!(
                    "`{}` is never reached: `{}` at line {} matches all that it matches",
                    rule.name, by.name, by.place.line
                ),
            )
            .with_help(help)
            .with_related("this rule comes first", &by.place);
    }
    if search.budget == 0 {
        context
            .note("checks-cut-short", 0..0, "the policy is too entangled to look for every shadowed rule; some may not be reported")
            .with_help("rules with many patterns are the slow ones; labels are quicker than long lists of programs");
    }
    shadowed
}

fn count(rules: usize) -> String {
    match rules {
        1 => "one rule".to_owned(),
        more => format!("{more} rules"),
    }
}

/// Finds the rules that could shadow another without comparing all pairs: one socket that a rule
/// matches is looked up in the compiled sets, and only rules that match it as well come into question.
struct Search<'a> {
    rules: &'a [Rule],
    dimensions: Dimensions,
    programs: Patterns<'a>,
    /// Number of class-setting rules in front of each rule.
    setters: Vec<usize>,
    budget: usize,
}

impl<'a> Search<'a> {
    fn new(policy: &'a Policy, rules: &'a [Rule]) -> Self {
        let setters = rules
            .iter()
            .scan(0, |sum, rule| {
                let before = *sum;
                *sum += usize::from(rule.only_sets_class());
                Some(before)
            })
            .collect();
        Self {
            rules,
            dimensions: Dimensions::of(policy),
            programs: Patterns::new(rules),
            setters,
            budget: BUDGET,
        }
    }

    /// The first rule in front of `index` that shadows it.
    fn shadowing(&mut self, index: usize) -> Option<usize> {
        let rule = &self.rules[index];
        let mut bits = vec![u64::MAX; index.div_ceil(64)];
        self.dimensions.restrict(&rule.matching, &mut bits);
        if let Some([first, ..]) = rule.matching.program.as_deref() {
            self.programs.restrict(first, &mut bits, &mut self.budget);
        }
        for (word, bits) in bits.into_iter().enumerate() {
            let mut left = bits;
            while left != 0 {
                let candidate = 64 * word + left.trailing_zeros() as usize;
                left &= left - 1;
                if candidate >= index || self.budget == 0 {
                    return None;
                }
                self.budget -= 1;
                if self.shadows(candidate, index) {
                    return Some(candidate);
                }
            }
        }
        None
    }

    fn shadows(&self, outer: usize, inner: usize) -> bool {
        let (a, b) = (&self.rules[outer], &self.rules[inner]);
        !a.only_sets_class()
            && relate::covers(&a.matching, &b.matching)
            && self.classes_covered(outer, inner)
    }

    /// A condition on the class is about the class at that point of the walk: two rules see the same
    /// one only if no rule between them sets it.
    fn classes_covered(&self, outer: usize, inner: usize) -> bool {
        let (a, b) = (
            &self.rules[outer].matching.qos,
            &self.rules[inner].matching.qos,
        );
        match (a, b) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(a), Some(b)) => {
                self.setters[outer] == self.setters[inner]
                    && b.iter().all(|class| a.contains(class))
            }
        }
    }
}

impl Dimensions {
    /// Takes out of `bits` (one bit a rule) rules that do not match one certain socket that `rule`
    /// matches. Conditions on the process are left to others.
    fn restrict(&self, rule: &Match, bits: &mut [u64]) {
        let role = rule.role.as_ref().map_or(Role::Connect, |roles| roles[0]);
        if rule.role.is_some() && rule.family.is_some() && rule.sock_type.is_some() {
            let family = rule.family.as_ref().map(|all| all[0]);
            let kind = rule.sock_type.as_ref().map(|all| all[0]);
            if let (Some(family), Some(kind)) = (family, kind) {
                self.intersect(
                    self.shape
                        .get(crate::shape_index(role, family, kind))
                        .copied(),
                    bits,
                );
            }
        }
        let narrow = |first: Option<u32>, index: usize| match first {
            // A rule without the condition is covered only by rules without it: those are the set
            // for "not known".
            None => self.narrow[index].unknown(),
            Some(value) => self.narrow[index].lookup(value),
        };
        let port = |ports: &Option<crate::ranges::Ranges<u16>>| {
            ports
                .as_ref()
                .and_then(super::super::ranges::Ranges::first)
                .map(u32::from)
        };
        self.intersect(
            narrow(
                rule.protocol
                    .as_ref()
                    .and_then(super::super::ranges::Ranges::first)
                    .map(u32::from),
                0,
            ),
            bits,
        );
        self.intersect(
            narrow(
                rule.uid
                    .as_ref()
                    .and_then(super::super::ranges::Ranges::first),
                1,
            ),
            bits,
        );
        self.intersect(narrow(port(&rule.port), 2), bits);
        self.intersect(narrow(port(&rule.local_port), 3), bits);
        self.intersect(narrow(port(&rule.remote_port), 4), bits);
        for (set, v4, v6) in [(&rule.remote, 5, 0), (&rule.local, 6, 1)] {
            let chosen = match set {
                None => self.narrow[v4].unknown(),
                Some(set) => match set.v4.first() {
                    Some(address) => self.narrow[v4].lookup(address),
                    None => set
                        .v6
                        .first()
                        .and_then(|address| self.wide[v6].lookup(address)),
                },
            };
            self.intersect(chosen, bits);
        }
    }

    fn intersect(&self, set: Option<u32>, bits: &mut [u64]) {
        let Some(set) = set else { return };
        for (word, other) in bits.iter_mut().zip(self.sets.words(set)) {
            *word &= other;
        }
    }
}

/// Which rules have a program pattern that covers a given one, without asking every rule.
struct Patterns<'a> {
    /// Rules without a condition on the program.
    free: Vec<usize>,
    exact: BTreeMap<&'a str, Vec<usize>>,
    /// Patterns `text*`, by their text.
    prefixes: BTreeMap<&'a str, Vec<usize>>,
    /// All other patterns with wildcards.
    others: Vec<(&'a Glob, usize)>,
}

impl<'a> Patterns<'a> {
    fn new(rules: &'a [Rule]) -> Self {
        let mut patterns = Self {
            free: Vec::new(),
            exact: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            others: Vec::new(),
        };
        for (index, rule) in rules.iter().enumerate() {
            let Some(globs) = &rule.matching.program else {
                patterns.free.push(index);
                continue;
            };
            for glob in globs {
                patterns.exact.entry(glob.as_str()).or_default().push(index);
                match glob.plain_prefix() {
                    Some(prefix) => patterns.prefixes.entry(prefix).or_default().push(index),
                    None if !glob.is_literal() => patterns.others.push((glob, index)),
                    None => {}
                }
            }
        }
        patterns
    }

    fn restrict(&self, pattern: &Glob, bits: &mut [u64], budget: &mut usize) {
        let mut covering = vec![0u64; bits.len()];
        let mut add = |index: usize| {
            if let Some(word) = covering.get_mut(index / 64) {
                *word |= 1 << (index % 64);
            }
        };
        self.free.iter().copied().for_each(&mut add);
        let text = pattern.as_str();
        self.exact
            .get(text)
            .into_iter()
            .flatten()
            .copied()
            .for_each(&mut add);
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            self.prefixes
                .get(&text[..end])
                .into_iter()
                .flatten()
                .copied()
                .for_each(&mut add);
        }
        for (glob, index) in &self.others {
            *budget = budget.saturating_sub(1);
            if *budget == 0 {
                break;
            }
            if glob.covers(pattern) {
                add(*index);
            }
        }
        for (word, covering) in bits.iter_mut().zip(covering) {
            *word &= covering;
        }
    }
}
