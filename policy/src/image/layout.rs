//! How an image is laid out.
//!
//! An image is a header and sections, all of them arrays of plain numbers in the byte order of the
//! host (an image never leaves its host) at offsets that are multiples of eight.
//!
//! ```text
//! header    magic, version, length in bytes, text hash, number of rules,
//!           then for each section its offset and length in bytes
//! sections  strings, rules, stacks, options, preferences, classes, process patterns,
//!           and the search structure: dimensions, sets, nodes, leaves
//! ```
//!
//! The search structure is explained in [`crate::compile`].

/// Says that this is an image, and of this byte order.
pub(super) const MAGIC: u64 = u64::from_ne_bytes(*b"dmmpolcy");
/// Grows with every change of the layout.
pub(super) const VERSION: u64 = 1;

/// Words of the header in front of the section table.
pub(super) const MAGIC_WORD: usize = 0;
pub(super) const VERSION_WORD: usize = 1;
pub(super) const LENGTH_WORD: usize = 2;
pub(super) const TEXT_HASH_WORD: usize = 3;
pub(super) const RULE_COUNT_WORD: usize = 4;
pub(super) const FIXED_WORDS: usize = 5;
/// Words of the whole header: two a section.
pub(super) const HEADER_WORDS: usize = FIXED_WORDS + 2 * Section::COUNT;

/// The greatest image that is accepted, in bytes.
pub const MAX_IMAGE: usize = 256 << 20;

/// Rules that one leaf covers: a cache line of bits.
pub(crate) const LEAF_RULES: usize = 512;
pub(crate) const LEAF_WORDS: usize = LEAF_RULES / 64;
/// Leaves that one node covers.
pub(crate) const NODE_LEAVES: usize = 16;
pub(crate) const NODE_RULES: usize = LEAF_RULES * NODE_LEAVES;

/// Node and leaf numbers with a meaning of their own: no rule, every rule.
pub(crate) const NONE: u32 = 0;
pub(crate) const ALL: u32 = 1;

/// A leaf: one bit a rule.
pub(crate) type Leaf = [u64; LEAF_WORDS];
/// A node: numbers of leaves.
pub(crate) type Node = [u32; NODE_LEAVES];

/// A text in the string section: offset and length.
pub(crate) type Text = [u32; 2];

/// A rule. `qos` is 0 or the class's index + 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleRecord {
    pub(crate) name: Text,
    pub(crate) line: u32,
    pub(crate) flags: u32,
    pub(crate) qos: u32,
    /// Range in the preference section.
    pub(crate) preference: [u32; 2],
}

impl RuleRecord {
    pub(crate) const WORDS: usize = 8;
    pub(crate) const FALLBACK: u32 = 1;
    pub(crate) const DUMP_ON_SIGNAL: u32 = 2;
    /// The rule sets a class and the search goes on behind it.
    pub(crate) const CONTINUE: u32 = 4;
    pub(super) const KNOWN_FLAGS: u32 = Self::FALLBACK | Self::DUMP_ON_SIGNAL | Self::CONTINUE;

    pub(crate) fn encode(self) -> [u32; Self::WORDS] {
        let Self {
            name,
            line,
            flags,
            qos,
            preference,
        } = self;
        [
            name[0],
            name[1],
            line,
            flags,
            qos,
            preference[0],
            preference[1],
            0,
        ]
    }

    pub(crate) fn decode(words: &[u32; Self::WORDS]) -> Self {
        let [name, name_len, line, flags, qos, first, count, _] = *words;
        Self {
            name: [name, name_len],
            line,
            flags,
            qos,
            preference: [first, count],
        }
    }
}

/// A stack instance. A text of length 0 is a value that is not set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackRecord {
    pub(crate) name: Text,
    pub(crate) netns: Text,
    pub(crate) congestion: Text,
    pub(crate) device: Text,
    pub(crate) kind: u32,
    /// 0 or [`crate::KernelProtocol`].
    pub(crate) protocol: u32,
    /// Range in the option section, whose entries are pairs (index, value).
    pub(crate) options: [u32; 2],
}

impl StackRecord {
    pub(crate) const WORDS: usize = 12;

    pub(crate) fn encode(self) -> [u32; Self::WORDS] {
        let Self {
            name,
            netns,
            congestion,
            device,
            kind,
            protocol,
            options,
        } = self;
        [
            name[0],
            name[1],
            netns[0],
            netns[1],
            congestion[0],
            congestion[1],
            device[0],
            device[1],
            kind,
            protocol,
            options[0],
            options[1],
        ]
    }

    pub(crate) fn decode(words: &[u32; Self::WORDS]) -> Self {
        let [n0, n1, s0, s1, c0, c1, d0, d1, kind, protocol, first, count] = *words;
        Self {
            name: [n0, n1],
            netns: [s0, s1],
            congestion: [c0, c1],
            device: [d0, d1],
            kind,
            protocol,
            options: [first, count],
        }
    }
}

/// A class: name, and the priority and DSCP that it stands for ([`ClassRecord::UNSET`] for none).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassRecord {
    pub(crate) name: Text,
    pub(crate) priority: u32,
    pub(crate) dscp: u32,
}

impl ClassRecord {
    pub(crate) const WORDS: usize = 4;
    pub(crate) const UNSET: u32 = u32::MAX;

    pub(crate) fn encode(self) -> [u32; Self::WORDS] {
        let Self {
            name,
            priority,
            dscp,
        } = self;
        [name[0], name[1], priority, dscp]
    }

    pub(crate) fn decode(words: &[u32; Self::WORDS]) -> Self {
        let [n0, n1, priority, dscp] = *words;
        Self {
            name: [n0, n1],
            priority,
            dscp,
        }
    }
}

/// What a pattern is matched against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(crate) enum Subject {
    Path = 0,
    Name = 1,
    Label = 2,
    Cgroup = 3,
}

impl Subject {
    pub(crate) const ALL: [Self; 4] = [Self::Path, Self::Name, Self::Label, Self::Cgroup];
}

/// The conditions of a rule that are constant for a process: for each of program, label and cgroup a
/// range in the pattern list; a range of length 0 is no condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessRecord {
    pub(crate) rule: u32,
    pub(crate) lists: [[u32; 2]; 3],
}

impl ProcessRecord {
    pub(crate) const WORDS: usize = 8;

    pub(crate) fn encode(self) -> [u32; Self::WORDS] {
        let [[a, b], [c, d], [e, f]] = self.lists;
        [self.rule, a, b, c, d, e, f, 0]
    }

    pub(crate) fn decode(words: &[u32; Self::WORDS]) -> Self {
        let [rule, a, b, c, d, e, f, _] = *words;
        Self {
            rule,
            lists: [[a, b], [c, d], [e, f]],
        }
    }
}

macro_rules! sections {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The sections, in the order of the header's table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub(crate) enum Section { $($(#[doc = $doc])+ $name,)+ }

        impl Section {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];
            pub(crate) const COUNT: usize = Self::ALL.len();
        }
    };
}

sections! {
    /// UTF-8, without separators.
    Strings,
    /// [`RuleRecord`]s; one more than there are rules, the last is `[default]`.
    Rules,
    /// [`StackRecord`]s.
    Stacks,
    /// Pairs of u64: index of an option, value.
    Options,
    /// u32: stack numbers.
    Preferences,
    /// [`ClassRecord`]s.
    Classes,
    /// u32 triples: [`Subject`], text. Each pattern once.
    Patterns,
    /// u32: pattern numbers, in lists.
    PatternLists,
    /// [`ProcessRecord`]s, by ascending rule.
    Processes,
    /// Leaves, the first two not used.
    Leaves,
    /// Nodes, the first two not used.
    Nodes,
    /// u32: sets, each as many node numbers as [`set_width`] says.
    Sets,
    /// u32 set numbers: one for each role, family and type ([`SHAPES`]).
    Shape,
    /// u32 set numbers: one for no class and one for each class.
    Qos,
    /// u32: where the intervals of the protocol begin, the first at 0.
    ProtocolBounds,
    /// u32 set numbers: one for each interval, and one for "not known".
    ProtocolSets,
    /// As above, for the user id.
    UidBounds,
    /// As above.
    UidSets,
    /// As above, for the service port.
    PortBounds,
    /// As above.
    PortSets,
    /// As above.
    LocalPortBounds,
    /// As above.
    LocalPortSets,
    /// As above.
    RemotePortBounds,
    /// As above.
    RemotePortSets,
    /// As above, for IPv4 addresses.
    Remote4Bounds,
    /// As above.
    Remote4Sets,
    /// As above.
    Local4Bounds,
    /// As above.
    Local4Sets,
    /// Pairs of u64 (upper and lower half), for IPv6 addresses.
    Remote6Bounds,
    /// As above.
    Remote6Sets,
    /// As above.
    Local6Bounds,
    /// As above.
    Local6Sets,
}

/// A dimension of the search whose values are cut into intervals: its two sections.
pub(crate) type Intervals = (Section, Section);

pub(crate) const PROTOCOL: Intervals = (Section::ProtocolBounds, Section::ProtocolSets);
pub(crate) const UID: Intervals = (Section::UidBounds, Section::UidSets);
pub(crate) const PORT: Intervals = (Section::PortBounds, Section::PortSets);
pub(crate) const LOCAL_PORT: Intervals = (Section::LocalPortBounds, Section::LocalPortSets);
pub(crate) const REMOTE_PORT: Intervals = (Section::RemotePortBounds, Section::RemotePortSets);
pub(crate) const REMOTE4: Intervals = (Section::Remote4Bounds, Section::Remote4Sets);
pub(crate) const LOCAL4: Intervals = (Section::Local4Bounds, Section::Local4Sets);
pub(crate) const REMOTE6: Intervals = (Section::Remote6Bounds, Section::Remote6Sets);
pub(crate) const LOCAL6: Intervals = (Section::Local6Bounds, Section::Local6Sets);

/// Dimensions with u32 bounds.
pub(crate) const NARROW: [Intervals; 7] = [
    PROTOCOL,
    UID,
    PORT,
    LOCAL_PORT,
    REMOTE_PORT,
    REMOTE4,
    LOCAL4,
];
/// Dimensions with u128 bounds.
pub(crate) const WIDE: [Intervals; 2] = [REMOTE6, LOCAL6];

/// Combinations of role (3), family (2) and type (4).
pub(crate) const SHAPES: usize = 24;

/// Node numbers that a set over so many rules has.
pub(crate) fn set_width(rules: usize) -> usize {
    rules.div_ceil(NODE_RULES)
}
