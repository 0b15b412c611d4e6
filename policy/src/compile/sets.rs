//! Sets of rules that share what they have in common.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher, Hash},
};

use crate::image::{
    ALL, LEAF_RULES, LEAF_WORDS, Leaf, NODE_LEAVES, NODE_RULES, NONE, Node, set_width,
};

/// All sets of one image. Leaves, nodes and sets are stored once, so equal sets have equal numbers.
#[derive(Debug)]
pub(crate) struct Sets {
    rules: usize,
    leaves: Interned<Leaf>,
    nodes: Interned<Node>,
    numbers: Interned<Vec<u32>>,
    /// The sets' node numbers, one set behind the other.
    flat: Vec<u32>,
}

impl Sets {
    pub(crate) fn new(rules: usize) -> Self {
        let mut leaves = Interned::default();
        leaves.number([0; LEAF_WORDS]);
        leaves.number([u64::MAX; LEAF_WORDS]);
        let mut nodes = Interned::default();
        nodes.number([NONE; NODE_LEAVES]);
        nodes.number([ALL; NODE_LEAVES]);
        Self {
            rules,
            leaves,
            nodes,
            numbers: Interned::default(),
            flat: Vec::new(),
        }
    }

    pub(crate) fn leaves(&self) -> &[Leaf] {
        &self.leaves.items
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes.items
    }

    /// The node numbers of all sets.
    pub(crate) fn sets(&self) -> &[u32] {
        &self.flat
    }

    /// The words of one set, for the checks that walk over rules.
    pub(crate) fn words(&self, set: u32) -> impl Iterator<Item = u64> + '_ {
        let width = set_width(self.rules);
        let start = set as usize * width;
        self.flat[start..start + width]
            .iter()
            .flat_map(|node| self.nodes.items[*node as usize])
            .flat_map(|leaf| self.leaves.items[leaf as usize])
    }

    fn set(&mut self, nodes: &[u32]) -> u32 {
        let known = self.numbers.items.len();
        let number = self.numbers.number(nodes.to_vec());
        if number as usize == known {
            self.flat.extend_from_slice(nodes);
        }
        number
    }
}

/// A set under construction, changed rule by rule. Freezing it stores only what has changed since it
/// was frozen last.
#[derive(Debug)]
pub(crate) struct Draft {
    words: Vec<u64>,
    leaves: Vec<u32>,
    nodes: Vec<u32>,
    /// Leaves that have changed, with repetitions.
    dirty: Vec<usize>,
}

impl Draft {
    /// The set of all rules for which `contains` holds.
    pub(crate) fn new(rules: usize, contains: impl Fn(usize) -> bool) -> Self {
        let width = set_width(rules);
        let leaves = width * NODE_LEAVES;
        // Bits behind the last rule are set: the search ignores them, and leaves and nodes that hold
        // all rules stay the shared ones.
        let mut words = vec![u64::MAX; leaves * LEAF_WORDS];
        for rule in (0..rules).filter(|rule| !contains(*rule)) {
            words[rule / 64] &= !(1 << (rule % 64));
        }
        Self {
            words,
            leaves: vec![NONE; leaves],
            nodes: vec![NONE; width],
            dirty: (0..leaves).collect(),
        }
    }

    /// Puts a rule in or out.
    pub(crate) fn toggle(&mut self, rule: usize) {
        self.words[rule / 64] ^= 1 << (rule % 64);
        self.dirty.push(rule / LEAF_RULES);
    }

    /// The number of the set as it is now.
    pub(crate) fn freeze(&mut self, sets: &mut Sets) -> u32 {
        let mut stale = Vec::new();
        for leaf in self.dirty.drain(..) {
            let mut bits = [0; LEAF_WORDS];
            bits.copy_from_slice(&self.words[leaf * LEAF_WORDS..(leaf + 1) * LEAF_WORDS]);
            self.leaves[leaf] = sets.leaves.number(bits);
            if stale.last() != Some(&(leaf / NODE_LEAVES)) {
                stale.push(leaf / NODE_LEAVES);
            }
        }
        for node in stale {
            let mut entries = [0; NODE_LEAVES];
            entries.copy_from_slice(&self.leaves[node * NODE_LEAVES..(node + 1) * NODE_LEAVES]);
            self.nodes[node] = sets.nodes.number(entries);
        }
        sets.set(&self.nodes)
    }
}

const _: () = assert!(NODE_RULES == LEAF_RULES * NODE_LEAVES);

/// Values with numbers in the order of their first appearance. The hash function is a fixed one, so
/// that compiling needs no random numbers from the system.
#[derive(Debug)]
struct Interned<T> {
    items: Vec<T>,
    numbers: HashMap<T, u32, BuildHasherDefault<DefaultHasher>>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            numbers: HashMap::default(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interned<T> {
    fn number(&mut self, item: T) -> u32 {
        let next = self.items.len() as u32;
        *self.numbers.entry(item).or_insert_with_key(|item| {
            self.items.push(item.clone());
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_set_is_what_was_put_in() {
        let rules = 9000;
        let mut sets = Sets::new(rules);
        let mut draft = Draft::new(rules, |rule| rule % 3 == 0);
        let before = draft.freeze(&mut sets);
        draft.toggle(8999);
        draft.toggle(1);
        let after = draft.freeze(&mut sets);
        draft.toggle(8999);
        draft.toggle(1);
        assert_eq!(
            draft.freeze(&mut sets),
            before,
            "equal sets have equal numbers"
        );
        let words = |set| sets.words(set).collect::<Vec<u64>>();
        let (before, after) = (words(before), words(after));
        for rule in 0..rules {
            let bit = |words: &[u64]| words[rule / 64] >> (rule % 64) & 1 == 1;
            assert_eq!(bit(&before), rule % 3 == 0);
            assert_eq!(bit(&after), (rule % 3 == 0) != (rule == 8999 || rule == 1));
        }
    }

    #[test]
    fn full_sets_cost_nothing() {
        let mut sets = Sets::new(1000);
        let set = Draft::new(1000, |_| true).freeze(&mut sets);
        assert_eq!(sets.flat[set as usize], ALL);
        assert_eq!((sets.leaves().len(), sets.nodes().len()), (2, 2));
    }
}
