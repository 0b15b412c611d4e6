//! The compiled policy: a flat byte image that any process can map, copy and search.
//!
//! An image holds no pointers. [`Image::from_bytes`] checks everything that the search relies on, so
//! that an image out of shared memory, written by whomever, can at worst be refused: the search on
//! an accepted image does not panic and ends.

mod layout;
mod validate;

use std::fmt;

pub use layout::MAX_IMAGE;
pub(crate) use layout::*;

use crate::{KernelProtocol, RuleId, SocketOptions, StackId, StackKind, hash::bytes_hash};

/// A compiled policy.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// The bytes; words keep them aligned for every section.
    words: Vec<u64>,
}

impl Image {
    /// The bytes, for another process's [`Image::from_bytes`]. Their length is a multiple of eight.
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }

    /// Takes in a copy of an image. The bytes need no alignment; bytes behind the image's own length
    /// are ignored.
    ///
    /// # Errors
    /// Anything that is not a complete and consistent image of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ImageError> {
        let length = validate::length(bytes)?;
        let mut words = vec![0u64; length / 8];
        bytemuck::cast_slice_mut(&mut words).copy_from_slice(&bytes[..length]);
        let image = Self { words };
        validate::image(&image)?;
        Ok(image)
    }

    /// Identity of the image's content.
    pub fn hash(&self) -> u64 {
        bytes_hash(self.as_bytes())
    }

    /// Identity of the policy version: [`crate::text_hash`] of the text it was compiled from.
    pub fn text_hash(&self) -> u64 {
        self.words[TEXT_HASH_WORD]
    }

    /// Number of rules, without `[default]`.
    pub fn rule_count(&self) -> usize {
        self.words[RULE_COUNT_WORD] as usize
    }

    /// A rule, or `[default]` for [`RuleId::DEFAULT`] and for any number past the last rule.
    pub fn rule(&self, id: RuleId) -> RuleDef<'_> {
        let (id, record) = self.rule_record(id);
        RuleDef {
            id,
            name: self.text(record.name),
            line: record.line,
            dump_on_signal: record.flags & RuleRecord::DUMP_ON_SIGNAL != 0,
            fallback: record.flags & RuleRecord::FALLBACK != 0,
            only_sets_class: record.flags & RuleRecord::CONTINUE != 0,
            qos: self.class_name(record.qos),
        }
    }

    /// The rules in order, without `[default]`.
    pub fn rules(&self) -> impl Iterator<Item = RuleDef<'_>> {
        (0..self.rule_count()).map(|index| self.rule(RuleId(index as u32)))
    }

    /// Number of stack instances; at least one.
    pub fn stack_count(&self) -> usize {
        self.words_of(Section::Stacks).len() / StackRecord::WORDS
    }

    /// A stack instance; the kernel's (number 0) for a number that the policy does not have.
    pub fn stack(&self, id: StackId) -> StackDef<'_> {
        let records = self.records::<{ StackRecord::WORDS }>(Section::Stacks);
        let id = if usize::from(id.0) < records.len() {
            id
        } else {
            StackId(0)
        };
        let record = StackRecord::decode(&records[usize::from(id.0)]);
        let set = |text: Text| Some(self.text(text)).filter(|text| !text.is_empty());
        let mut options = SocketOptions {
            device: set(record.device),
            ..SocketOptions::default()
        };
        let pairs: &[[u64; 2]] = bytemuck::cast_slice(self.section(Section::Options));
        for [index, value] in &pairs[span(record.options)] {
            options.set(*index as usize, *value);
        }
        StackDef {
            id,
            name: self.text(record.name),
            kind: StackKind::from_word(record.kind).unwrap_or(StackKind::Kernel),
            netns: set(record.netns),
            protocol: KernelProtocol::from_word(record.protocol),
            congestion: set(record.congestion),
            options,
        }
    }

    /// The stack instances in the order of their numbers.
    pub fn stacks(&self) -> impl Iterator<Item = StackDef<'_>> {
        (0..self.stack_count()).map(|index| self.stack(StackId(index as u16)))
    }

    /// The quality-of-service classes, in order.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        (1..=self.class_records().len() as u32).filter_map(|class| self.class_name(class))
    }

    /// Wraps what the compiler has put together.
    pub(crate) fn assemble(text_hash: u64, rules: usize, sections: &[Vec<u8>]) -> Self {
        let mut words = vec![0u64; HEADER_WORDS];
        words[MAGIC_WORD] = MAGIC;
        words[VERSION_WORD] = VERSION;
        words[TEXT_HASH_WORD] = text_hash;
        words[RULE_COUNT_WORD] = rules as u64;
        for (index, section) in sections.iter().enumerate() {
            let entry = FIXED_WORDS + 2 * index;
            words[entry] = 8 * words.len() as u64;
            words[entry + 1] = section.len() as u64;
            let start = words.len();
            words.resize(start + section.len().div_ceil(8), 0);
            bytemuck::cast_slice_mut::<u64, u8>(&mut words[start..])[..section.len()]
                .copy_from_slice(section);
        }
        words[LENGTH_WORD] = 8 * words.len() as u64;
        Self { words }
    }

    /// The record of a rule and the number it really has; `[default]`'s for one that is not there.
    pub(crate) fn rule_record(&self, id: RuleId) -> (RuleId, RuleRecord) {
        let records = self.records::<{ RuleRecord::WORDS }>(Section::Rules);
        let last = records.len() - 1;
        let (id, index) = match id.0 as usize {
            index if index < last => (id, index),
            _ => (RuleId::DEFAULT, last),
        };
        (id, RuleRecord::decode(&records[index]))
    }

    /// The preference list of a rule: stack numbers.
    pub(crate) fn preference(&self, record: &RuleRecord) -> &[u32] {
        &self.words_of(Section::Preferences)[span(record.preference)]
    }

    /// Name of a class by its number; `None` for 0, which is no class.
    pub(crate) fn class_name(&self, class: u32) -> Option<&str> {
        let record = self.class_records().get((class as usize).checked_sub(1)?)?;
        Some(self.text(ClassRecord::decode(record).name))
    }

    /// Number of the first class that stands for a priority or a DSCP; 0 for none.
    pub(crate) fn class_of(&self, priority: Option<u32>, dscp: Option<u8>) -> u32 {
        if priority.is_none() && dscp.is_none() {
            return 0;
        }
        self.class_records()
            .iter()
            .map(ClassRecord::decode)
            .position(|class| {
                let equal =
                    |set: u32, value: Option<u32>| set != ClassRecord::UNSET && value == Some(set);
                equal(class.priority, priority) || equal(class.dscp, dscp.map(u32::from))
            })
            .map_or(0, |index| index as u32 + 1)
    }

    pub(crate) fn text(&self, text: Text) -> &str {
        // Validated to be UTF-8 on character boundaries; an image of our own making is by itself.
        std::str::from_utf8(&self.section(Section::Strings)[span(text)]).unwrap_or_default()
    }

    pub(crate) fn section(&self, section: Section) -> &[u8] {
        let entry = FIXED_WORDS + 2 * section as usize;
        let (start, length) = (self.words[entry] as usize, self.words[entry + 1] as usize);
        &self.as_bytes()[start..start + length]
    }

    pub(crate) fn words_of(&self, section: Section) -> &[u32] {
        bytemuck::cast_slice(self.section(section))
    }

    pub(crate) fn records<const N: usize>(&self, section: Section) -> &[[u32; N]] {
        self.words_of(section).as_chunks().0
    }

    pub(crate) fn leaves(&self) -> &[Leaf] {
        bytemuck::cast_slice(self.section(Section::Leaves))
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        bytemuck::cast_slice(self.section(Section::Nodes))
    }

    fn class_records(&self) -> &[[u32; ClassRecord::WORDS]] {
        self.records(Section::Classes)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("text_hash", &self.text_hash())
            .field("rules", &self.rule_count())
            .field("bytes", &self.as_bytes().len())
            .finish()
    }
}

/// The range that a (first, count) pair means.
pub(crate) fn span([first, count]: [u32; 2]) -> std::ops::Range<usize> {
    first as usize..first as usize + count as usize
}

/// A stack instance, as an image holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackDef<'a> {
    /// Its number.
    pub id: StackId,
    /// Its name.
    pub name: &'a str,
    /// What it is an instance of.
    pub kind: StackKind,
    /// The network namespace it opens sockets in: a name below `/run/netns`, or an absolute path.
    pub netns: Option<&'a str>,
    /// Which protocol carries the program's TCP sockets; `None`: what the program asked for.
    pub protocol: Option<KernelProtocol>,
    /// The congestion control algorithm (`TCP_CONGESTION`).
    pub congestion: Option<&'a str>,
    /// Options set on every socket of the instance.
    pub options: SocketOptions<'a>,
}

/// A rule, as an image holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleDef<'a> {
    /// Its number.
    pub id: RuleId,
    /// Its name; `default` for [`RuleId::DEFAULT`].
    pub name: &'a str,
    /// Its line in the file, from 1; 0 for a `[default]` that is not written.
    pub line: u32,
    /// Whether `SIGUSR2` makes a program that used this rule dump its histograms.
    pub dump_on_signal: bool,
    /// Whether the kernel may carry the socket where nothing in the list as written can.
    pub fallback: bool,
    /// Whether the search goes on behind the rule: it only sets a class.
    pub only_sets_class: bool,
    /// The class that the rule sets.
    pub qos: Option<&'a str>,
}

/// Why bytes are no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Fewer bytes than a header has.
    #[error("not a policy image: {0} bytes are too few for its header")]
    TooShort(usize),
    /// Other bytes altogether.
    #[error("not a policy image of this machine's byte order")]
    Magic,
    /// An image of another version of DMM.
    #[error(
        "policy image of version {found}, this build reads version {expected}; use one version of dmm and libdmm_posix.so"
    )]
    Version {
        /// The version in the image.
        found: u64,
        /// The version that this build reads.
        expected: u64,
    },
    /// The length in the header is not that of the bytes, or beyond [`MAX_IMAGE`].
    #[error(
        "policy image says it has {0} bytes, which is odd, more than there are, or more than allowed"
    )]
    Length(u64),
    /// Something in it contradicts something else.
    #[error("damaged policy image: {0}")]
    Damaged(&'static str),
}
