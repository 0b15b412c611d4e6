//! Cuts every dimension into intervals and finds the set of rules of each.

use super::sets::{Draft, Sets};
use crate::{
    Family, Policy, Role, SockType,
    ast::Match,
    image::{NARROW, SHAPES, WIDE},
    ranges::{Ranges, Scalar},
};

/// The search structure before it is written into an image. A dimension that no rule uses is empty.
#[derive(Debug)]
pub(crate) struct Dimensions {
    pub(crate) sets: Sets,
    /// Indexed by [`shape_index`].
    pub(crate) shape: Vec<u32>,
    /// Indexed by class + 1; 0 is no class.
    pub(crate) qos: Vec<u32>,
    /// In the order of [`NARROW`].
    pub(crate) narrow: [Intervals<u32>; NARROW.len()],
    /// In the order of [`WIDE`].
    pub(crate) wide: [Intervals<u128>; WIDE.len()],
}

impl Dimensions {
    /// Cuts the dimensions of a policy.
    pub(crate) fn of(policy: &Policy) -> Self {
        let mut builder = Builder {
            rules: policy.rules.iter().map(|rule| &rule.matching).collect(),
            sets: Sets::new(policy.rules.len()),
        };
        let shape = builder.shape();
        let qos = builder.qos(policy.classes.len());
        let narrow = [
            builder.intervals(0, |rule| rule.protocol.as_ref().map(widen)),
            builder.intervals(0, |rule| rule.uid.clone()),
            builder.intervals(0, |rule| rule.port.as_ref().map(widen)),
            builder.intervals(0, |rule| rule.local_port.as_ref().map(widen)),
            builder.intervals(0, |rule| rule.remote_port.as_ref().map(widen)),
            builder.intervals(0, |rule| rule.remote.as_ref().map(|set| set.v4.clone())),
            builder.intervals(0, |rule| rule.local.as_ref().map(|set| set.v4.clone())),
        ];
        let wide = [
            builder.intervals(0, |rule| rule.remote.as_ref().map(|set| set.v6.clone())),
            builder.intervals(0, |rule| rule.local.as_ref().map(|set| set.v6.clone())),
        ];
        Self {
            sets: builder.sets,
            shape,
            qos,
            narrow,
            wide,
        }
    }
}

/// One dimension: where its intervals begin, and the set of each, with the set for "not known" last.
#[derive(Debug, Default)]
pub(crate) struct Intervals<T> {
    pub(crate) bounds: Vec<T>,
    pub(crate) sets: Vec<u32>,
}

impl<T: Scalar> Intervals<T> {
    /// The set for a value; `None` where no rule uses the dimension.
    pub(crate) fn lookup(&self, value: T) -> Option<u32> {
        let interval = self.bounds.partition_point(|bound| *bound <= value);
        self.sets.get(interval.checked_sub(1)?).copied()
    }

    /// The set for "not known"; `None` where no rule uses the dimension.
    pub(crate) fn unknown(&self) -> Option<u32> {
        self.sets.last().copied()
    }
}

/// Position of a role, family and type among the [`SHAPES`].
pub(crate) fn shape_index(role: Role, family: Family, sock_type: SockType) -> usize {
    (role as usize - 1) * 8 + (family as usize - 1) * 4 + (sock_type as usize - 1)
}

struct Builder<'a> {
    rules: Vec<&'a Match>,
    sets: Sets,
}

impl Builder<'_> {
    fn shape(&mut self) -> Vec<u32> {
        let used = |rule: &&Match| {
            rule.role.is_some() || rule.family.is_some() || rule.sock_type.is_some()
        };
        if !self.rules.iter().any(used) {
            return Vec::new();
        }
        (0..SHAPES)
            .map(|shape| {
                let fits = |rule: usize| {
                    let Match {
                        role,
                        family,
                        sock_type,
                        ..
                    } = self.rules[rule];
                    let any = |roles: &Option<Vec<Role>>| match roles {
                        None => true,
                        Some(roles) => roles.iter().any(|role| *role as usize - 1 == shape / 8),
                    };
                    any(role)
                        && family.as_ref().is_none_or(|families| {
                            families
                                .iter()
                                .any(|family| *family as usize - 1 == shape / 4 % 2)
                        })
                        && sock_type.as_ref().is_none_or(|types| {
                            types.iter().any(|kind| *kind as usize - 1 == shape % 4)
                        })
                };
                Draft::new(self.rules.len(), fits).freeze(&mut self.sets)
            })
            .collect()
    }

    fn qos(&mut self, classes: usize) -> Vec<u32> {
        if self.rules.iter().all(|rule| rule.qos.is_none()) {
            return Vec::new();
        }
        (0..=classes)
            .map(|class| {
                let fits = |rule: usize| match &self.rules[rule].qos {
                    None => true,
                    Some(classes) => classes.iter().any(|wanted| wanted + 1 == class),
                };
                Draft::new(self.rules.len(), fits).freeze(&mut self.sets)
            })
            .collect()
    }

    /// Sweeps over a dimension: the set changes where a range begins and behind where it ends.
    fn intervals<T: Scalar>(
        &mut self,
        zero: T,
        ranges: impl Fn(&Match) -> Option<Ranges<T>>,
    ) -> Intervals<T> {
        let conditions: Vec<Option<Ranges<T>>> =
            self.rules.iter().map(|rule| ranges(rule)).collect();
        if conditions.iter().all(Option::is_none) {
            return Intervals {
                bounds: Vec::new(),
                sets: Vec::new(),
            };
        }
        let mut changes: Vec<(T, usize)> = Vec::new();
        for (rule, condition) in conditions.iter().enumerate() {
            for (low, high) in condition.iter().flat_map(Ranges::iter) {
                changes.push((low, rule));
                changes.extend(high.successor().map(|behind| (behind, rule)));
            }
        }
        changes.sort_unstable();
        let mut draft = Draft::new(conditions.len(), |rule| conditions[rule].is_none());
        let unknown = draft.freeze(&mut self.sets);
        let mut result = Intervals {
            bounds: Vec::new(),
            sets: Vec::new(),
        };
        if changes.first().is_none_or(|(at, _)| *at != zero) {
            result.bounds.push(zero);
            result.sets.push(unknown);
        }
        for change in changes.chunk_by(|a, b| a.0 == b.0) {
            change.iter().for_each(|(_, rule)| draft.toggle(*rule));
            let set = draft.freeze(&mut self.sets);
            if result.sets.last() != Some(&set) {
                result.bounds.push(change[0].0);
                result.sets.push(set);
            }
        }
        result.sets.push(unknown);
        result
    }
}

fn widen(ranges: &Ranges<u16>) -> Ranges<u32> {
    Ranges::new(
        ranges
            .iter()
            .map(|(low, high)| (u32::from(low), u32::from(high))),
    )
}
