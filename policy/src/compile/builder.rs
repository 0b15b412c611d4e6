//! Writes the sections of an image.

use std::collections::BTreeMap;

use super::search::{Dimensions, Intervals};
use crate::{
    Image, StackId,
    ast::{DefaultRule, Match, QosClass, Rule, Stack},
    glob::Glob,
    image::*,
};

/// The sections as they grow.
pub(super) struct Builder {
    sections: Vec<Vec<u8>>,
    texts: BTreeMap<String, Text>,
    patterns: BTreeMap<(Subject, String), u32>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            sections: vec![Vec::new(); Section::COUNT],
            texts: BTreeMap::new(),
            patterns: BTreeMap::new(),
        }
    }
}

impl Builder {
    pub(super) fn stack(&mut self, stack: &Stack) {
        let options = stack.options();
        let pairs: Vec<[u64; 2]> = options
            .values()
            .map(|(index, value)| [index as u64, value])
            .collect();
        let first = self.section(Section::Options).len() / 16;
        self.push(Section::Options, &pairs);
        let record = StackRecord {
            name: self.text(&stack.name),
            netns: self.text(stack.netns.as_deref().unwrap_or_default()),
            congestion: self.text(stack.congestion.as_deref().unwrap_or_default()),
            device: self.text(options.device.unwrap_or_default()),
            kind: stack.kind as u32,
            protocol: stack.protocol.map_or(0, |protocol| protocol as u32),
            options: [first as u32, pairs.len() as u32],
        };
        self.push(Section::Stacks, &[record.encode()]);
    }

    pub(super) fn class(&mut self, class: &QosClass) {
        let record = ClassRecord {
            name: self.text(&class.name),
            priority: class.priority.unwrap_or(ClassRecord::UNSET),
            dscp: class.dscp.map_or(ClassRecord::UNSET, u32::from),
        };
        self.push(Section::Classes, &[record.encode()]);
    }

    pub(super) fn rule(&mut self, rule: &Rule) {
        let mut flags = 0;
        if rule.fallback {
            flags |= RuleRecord::FALLBACK;
        }
        if rule.dump_on_signal {
            flags |= RuleRecord::DUMP_ON_SIGNAL;
        }
        if rule.only_sets_class() {
            flags |= RuleRecord::CONTINUE;
        }
        let record = RuleRecord {
            name: self.text(&rule.name),
            line: rule.place.line,
            flags,
            qos: rule.qos.map_or(0, |class| class as u32 + 1),
            preference: self.preference(&rule.stacks),
        };
        self.push(Section::Rules, &[record.encode()]);
    }

    pub(super) fn default_rule(&mut self, default: &DefaultRule) {
        let record = RuleRecord {
            name: self.text("default"),
            line: default.place.line,
            flags: if default.fallback {
                RuleRecord::FALLBACK
            } else {
                0
            },
            qos: 0,
            preference: self.preference(&default.stacks),
        };
        self.push(Section::Rules, &[record.encode()]);
    }

    pub(super) fn process_conditions(&mut self, rule: usize, matching: &Match) {
        let Match {
            program,
            label,
            cgroup,
            ..
        } = matching;
        if program.is_none() && label.is_none() && cgroup.is_none() {
            return;
        }
        let by_path = |pattern: &Glob| match pattern.as_str().contains('/') {
            true => Subject::Path,
            false => Subject::Name,
        };
        let record = ProcessRecord {
            rule: rule as u32,
            lists: [
                self.pattern_list(program.as_deref(), by_path),
                self.pattern_list(label.as_deref(), |_| Subject::Label),
                self.pattern_list(cgroup.as_deref(), |_| Subject::Cgroup),
            ],
        };
        self.push(Section::Processes, &[record.encode()]);
    }

    pub(super) fn search(&mut self, dimensions: &Dimensions) {
        self.push(Section::Leaves, dimensions.sets.leaves());
        self.push(Section::Nodes, dimensions.sets.nodes());
        self.push(Section::Sets, dimensions.sets.sets());
        self.push(Section::Shape, &dimensions.shape);
        self.push(Section::Qos, &dimensions.qos);
        for ((bounds, sets), intervals) in NARROW.into_iter().zip(&dimensions.narrow) {
            self.push(bounds, &intervals.bounds);
            self.push(sets, &intervals.sets);
        }
        for ((bounds, sets), intervals) in WIDE.into_iter().zip(&dimensions.wide) {
            let Intervals {
                bounds: wide,
                sets: numbers,
            } = intervals;
            let halves: Vec<[u64; 2]> = wide
                .iter()
                .map(|bound| [(bound >> 64) as u64, *bound as u64])
                .collect();
            self.push(bounds, &halves);
            self.push(sets, numbers);
        }
    }

    pub(super) fn finish(self, text_hash: u64, rules: usize) -> Image {
        Image::assemble(text_hash, rules, &self.sections)
    }

    fn preference(&mut self, stacks: &[StackId]) -> [u32; 2] {
        let first = self.section(Section::Preferences).len() / 4;
        let numbers: Vec<u32> = stacks.iter().map(|stack| u32::from(stack.0)).collect();
        self.push(Section::Preferences, &numbers);
        [first as u32, numbers.len() as u32]
    }

    /// Appends a list of patterns; (0, 0) for no condition.
    fn pattern_list(
        &mut self,
        patterns: Option<&[Glob]>,
        subject: impl Fn(&Glob) -> Subject,
    ) -> [u32; 2] {
        let Some(patterns) = patterns else {
            return [0, 0];
        };
        let numbers: Vec<u32> = patterns
            .iter()
            .map(|pattern| self.pattern(subject(pattern), pattern.as_str()))
            .collect();
        let first = self.section(Section::PatternLists).len() / 4;
        self.push(Section::PatternLists, &numbers);
        [first as u32, numbers.len() as u32]
    }

    fn pattern(&mut self, subject: Subject, pattern: &str) -> u32 {
        let key = (subject, pattern.to_owned());
        if let Some(number) = self.patterns.get(&key) {
            return *number;
        }
        let number = self.patterns.len() as u32;
        let text = self.text(pattern);
        self.push(Section::Patterns, &[[subject as u32, text[0], text[1]]]);
        self.patterns.insert(key, number);
        number
    }

    /// Stores a text once.
    fn text(&mut self, text: &str) -> Text {
        if let Some(place) = self.texts.get(text) {
            return *place;
        }
        let strings = self.section(Section::Strings);
        let place = [strings.len() as u32, text.len() as u32];
        strings.extend_from_slice(text.as_bytes());
        self.texts.insert(text.to_owned(), place);
        place
    }

    fn push<T: bytemuck::NoUninit>(&mut self, section: Section, items: &[T]) {
        self.section(section)
            .extend_from_slice(bytemuck::cast_slice(items));
    }

    fn section(&mut self, section: Section) -> &mut Vec<u8> {
        &mut self.sections[section as usize]
    }
}
