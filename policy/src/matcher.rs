//! Looks sockets up in an image, for one process.

use crate::{
    Family, Image, Key, Process, RuleId, StackId, glob, image::*, normalize::Endpoint, shape_index,
};

/// A policy made ready for one process: the conditions that do not change while the process lives
/// (program, label, cgroup) are evaluated once, here.
#[derive(Debug)]
pub struct Matcher {
    image: Image,
    process: Process,
    /// The rules whose process conditions hold: one bit a rule, none behind the last rule.
    live: Vec<Leaf>,
}

impl Matcher {
    /// Evaluates the process conditions. Takes time in proportion to the number of patterns and
    /// allocates one bit a rule and one byte a pattern.
    pub fn new(image: Image, process: Process) -> Self {
        let live = live_rules(&image, &process);
        Self {
            image,
            process,
            live,
        }
    }

    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Finds the first rule that matches. Allocates nothing, takes no lock, does not recurse, and
    /// may be called from any thread and from a signal handler.
    pub fn lookup(&self, key: &Key) -> Decision<'_> {
        let mut class = self.image.class_of(key.priority, key.dscp);
        let id = self.first_match(key, &mut class).unwrap_or(RuleId::DEFAULT);
        let (rule, record) = self.image.rule_record(id);
        if record.qos != 0 {
            class = record.qos;
        }
        Decision {
            rule,
            qos: self.image.class_name(class),
            fallback: record.flags & RuleRecord::FALLBACK != 0,
            stacks: self.image.preference(&record),
        }
    }

    /// Walks through the sets of all dimensions side by side. Rules that only set a class change
    /// `class` on the way, and with it the one set that depends on it.
    fn first_match(&self, key: &Key, class: &mut u32) -> Option<RuleId> {
        let selection = Selection::new(&self.image, key);
        let (nodes, leaves) = (self.image.nodes(), self.image.leaves());
        let mut qos = self.image.qos_set(*class);
        for (node_index, live) in self.live.chunks(NODE_LEAVES).enumerate() {
            let Some(chosen) = selection.nodes(node_index, nodes) else {
                continue;
            };
            for (leaf_index, live) in live.iter().enumerate() {
                let Some(mut bits) = chosen.leaf(leaf_index, live, leaves) else {
                    continue;
                };
                let base = (node_index * NODE_LEAVES + leaf_index) * LEAF_RULES;
                while let Some(bit) =
                    first_bit(&bits, qos.leaf(node_index, leaf_index, nodes, leaves))
                {
                    let id = RuleId((base + bit) as u32);
                    let (_, record) = self.image.rule_record(id);
                    if record.flags & RuleRecord::CONTINUE == 0 {
                        return Some(id);
                    }
                    if record.qos != *class {
                        *class = record.qos;
                        qos = self.image.qos_set(*class);
                    }
                    clear_through(&mut bits, bit);
                }
            }
        }
        None
    }
}

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'m> {
    /// The rule that matched, or [`RuleId::DEFAULT`].
    pub rule: RuleId,
    /// The socket's quality-of-service class.
    pub qos: Option<&'m str>,
    /// Whether the kernel may carry the socket where nothing in the list as written can.
    pub fallback: bool,
    stacks: &'m [u32],
}

impl<'m> Decision<'m> {
    /// The stack instances in order of preference. The kernel is the last one unless the rule names
    /// it elsewhere in its list or forbids the fallback.
    pub fn stacks(&self) -> impl ExactSizeIterator<Item = StackId> + Clone + 'm {
        self.stacks.iter().map(|stack| StackId(*stack as u16))
    }
}

/// The dimensions that do not depend on the class.
const DIMENSIONS: usize = 8;

/// One set a dimension, without those that hold all rules for certain.
struct Selection<'a> {
    sets: [&'a [u32]; DIMENSIONS],
    count: usize,
}

impl<'a> Selection<'a> {
    fn new(image: &'a Image, key: &Key) -> Self {
        let remote = key.remote.map(Endpoint::new).unwrap_or_default();
        let local = key.local.map(Endpoint::new).unwrap_or_default();
        let mut selection = Self {
            sets: [&[]; DIMENSIONS],
            count: 0,
        };
        let shape = image.words_of(Section::Shape);
        selection.add(
            image,
            shape
                .get(shape_index(key.role, key.family, key.sock_type))
                .copied(),
        );
        selection.add(image, image.narrow(PROTOCOL, Some(u32::from(key.protocol))));
        selection.add(image, image.narrow(UID, Some(key.uid)));
        let port = |port: Option<u16>| port.map(u32::from);
        selection.add(
            image,
            image.narrow(PORT, port(crate::normalize::service_port(key))),
        );
        selection.add(image, image.narrow(LOCAL_PORT, port(local.port)));
        selection.add(image, image.narrow(REMOTE_PORT, port(remote.port)));
        selection.add(image, image.address(REMOTE4, REMOTE6, &remote));
        selection.add(image, image.address(LOCAL4, LOCAL6, &local));
        selection
    }

    fn add(&mut self, image: &'a Image, set: Option<u32>) {
        if let Some(set) = set {
            self.sets[self.count] = image.set(set);
            self.count += 1;
        }
    }

    /// The nodes of 8192 rules; `None` where one of them is empty.
    fn nodes(&self, index: usize, nodes: &'a [Node]) -> Option<Chosen<'a>> {
        let mut chosen = Chosen {
            nodes: [&nodes[ALL as usize]; DIMENSIONS],
            count: 0,
        };
        for set in &self.sets[..self.count] {
            match set[index] {
                NONE => return None,
                ALL => {}
                node => {
                    chosen.nodes[chosen.count] = &nodes[node as usize];
                    chosen.count += 1;
                }
            }
        }
        Some(chosen)
    }
}

struct Chosen<'a> {
    nodes: [&'a Node; DIMENSIONS],
    count: usize,
}

impl Chosen<'_> {
    /// The rules of one leaf that are in every dimension's set; `None` where there are none.
    fn leaf(&self, index: usize, live: &Leaf, leaves: &[Leaf]) -> Option<Leaf> {
        let nodes = &self.nodes[..self.count];
        if nodes.iter().any(|node| node[index] == NONE) {
            return None;
        }
        let mut bits = *live;
        for node in nodes {
            match node[index] {
                ALL => {}
                leaf if intersect(&mut bits, &leaves[leaf as usize]) => {}
                _ => return None,
            }
        }
        Some(bits)
    }
}

/// The set of the class, which may change during the walk.
struct QosSet<'a>(Option<&'a [u32]>);

impl<'a> QosSet<'a> {
    fn leaf(&self, node: usize, leaf: usize, nodes: &'a [Node], leaves: &'a [Leaf]) -> &'a Leaf {
        let number = match self.0 {
            None => ALL,
            Some(set) => nodes[set[node] as usize][leaf],
        };
        &leaves[number as usize]
    }
}

impl Image {
    fn set(&self, number: u32) -> &[u32] {
        let width = set_width(self.rule_count());
        &self.words_of(Section::Sets)[number as usize * width..][..width]
    }

    fn qos_set(&self, class: u32) -> QosSet<'_> {
        let set = self.words_of(Section::Qos).get(class as usize);
        QosSet(set.map(|set| self.set(*set)))
    }

    /// The set of a value in a dimension; `None` where no rule uses the dimension.
    fn narrow(&self, (bounds, sets): Intervals, value: Option<u32>) -> Option<u32> {
        let sets = self.words_of(sets);
        match value {
            None => sets.last().copied(),
            Some(_) if sets.is_empty() => None,
            Some(value) => {
                let behind = self
                    .words_of(bounds)
                    .partition_point(|bound| *bound <= value);
                Some(sets[behind.saturating_sub(1)])
            }
        }
    }

    fn wide(&self, (bounds, sets): Intervals, value: u128) -> Option<u32> {
        let sets = self.words_of(sets);
        if sets.is_empty() {
            return None;
        }
        let bounds: &[[u64; 2]] = bytemuck::cast_slice(self.section(bounds));
        let value = [(value >> 64) as u64, value as u64];
        let behind = bounds.partition_point(|bound| *bound <= value);
        Some(sets[behind.saturating_sub(1)])
    }

    fn address(&self, v4: Intervals, v6: Intervals, endpoint: &Endpoint) -> Option<u32> {
        match (endpoint.v4, endpoint.v6) {
            (Some(address), _) => self.narrow(v4, Some(address)),
            (None, Some(address)) => self.wide(v6, address),
            (None, None) => self.narrow(v4, None),
        }
    }
}

/// The rules whose process conditions hold, as leaves.
fn live_rules(image: &Image, process: &Process) -> Vec<Leaf> {
    let holds: Vec<bool> = image
        .records::<3>(Section::Patterns)
        .iter()
        .map(|[subject, first, length]| {
            let subject = match Subject::ALL.get(*subject as usize) {
                Some(Subject::Path) => &process.path,
                Some(Subject::Name) => &process.name,
                Some(Subject::Label) => &process.label,
                _ => &process.cgroup,
            };
            glob::matches(image.text([*first, *length]), subject)
        })
        .collect();
    let rules = image.rule_count();
    let mut live = vec![[0; LEAF_WORDS]; rules.div_ceil(LEAF_RULES)];
    let words = live.as_flattened_mut();
    for (word, bits) in words.iter_mut().enumerate() {
        *bits = match rules.saturating_sub(64 * word) {
            0 => 0,
            left if left < 64 => (1 << left) - 1,
            _ => u64::MAX,
        };
    }
    let lists = image.words_of(Section::PatternLists);
    for record in image.records(Section::Processes) {
        let record = ProcessRecord::decode(record);
        let fits = |list: &[u32; 2]| {
            list[1] == 0
                || lists[span(*list)]
                    .iter()
                    .any(|pattern| holds[*pattern as usize])
        };
        if !record.lists.iter().all(fits) {
            words[record.rule as usize / 64] &= !(1 << (record.rule % 64));
        }
    }
    live
}

/// Whether anything is left.
fn intersect(bits: &mut Leaf, other: &Leaf) -> bool {
    let mut left = 0;
    for (word, other) in bits.iter_mut().zip(other) {
        *word &= other;
        left |= *word;
    }
    left != 0
}

/// The first bit that is in both.
fn first_bit(a: &Leaf, b: &Leaf) -> Option<usize> {
    a.iter()
        .zip(b)
        .enumerate()
        .find_map(|(index, (a, b))| match a & b {
            0 => None,
            both => Some(64 * index + both.trailing_zeros() as usize),
        })
}

fn clear_through(bits: &mut Leaf, bit: usize) {
    bits[..bit / 64].fill(0);
    bits[bit / 64] &= (!1u64) << (bit % 64);
}

const _: () = assert!(
    Family::Inet6 as usize == 2,
    "shape_index counts families from 1"
);
