//! Checks an image before anybody relies on it.
//!
//! One rule keeps this complete: whatever [`Image`]'s accessors and the search use as an index or
//! cast without a check of their own is checked here.

use super::*;
use crate::options;

/// Longest text in an image, in bytes; the parser's limits are below it.
const MAX_TEXT: usize = 4096;

/// The length that the header claims, if the header can be read and the bytes suffice.
pub(super) fn length(bytes: &[u8]) -> Result<usize, ImageError> {
    let word = |index: usize| {
        bytes[8 * index..]
            .first_chunk()
            .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    if bytes.len() < 8 * HEADER_WORDS {
        return Err(ImageError::TooShort(bytes.len()));
    }
    if word(MAGIC_WORD) != MAGIC {
        return Err(ImageError::Magic);
    }
    if word(VERSION_WORD) != VERSION {
        return Err(ImageError::Version {
            found: word(VERSION_WORD),
            expected: VERSION,
        });
    }
    let length = word(LENGTH_WORD);
    let allowed = 8 * HEADER_WORDS as u64..=bytes.len().min(MAX_IMAGE) as u64;
    if length % 8 != 0 || !allowed.contains(&length) {
        return Err(ImageError::Length(length));
    }
    Ok(length as usize)
}

/// Everything else.
pub(super) fn image(image: &Image) -> Result<(), ImageError> {
    sections(image)?;
    strings(image)?;
    rules(image)?;
    stacks(image)?;
    processes(image)?;
    search(image)
}

type Checked = Result<(), ImageError>;

fn ensure(holds: bool, complaint: &'static str) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(ImageError::Damaged(complaint))
    }
}

/// Sections lie inside the image, aligned, and hold whole records.
fn sections(image: &Image) -> Checked {
    let end = image.as_bytes().len() as u64;
    for section in Section::ALL {
        let entry = FIXED_WORDS + 2 * *section as usize;
        let (start, length) = (image.words[entry], image.words[entry + 1]);
        ensure(start % 8 == 0, "a section is not aligned")?;
        ensure(
            start.checked_add(length).is_some_and(|last| last <= end),
            "a section lies outside",
        )?;
        ensure(
            length % record_size(*section) == 0,
            "a section ends within a record",
        )?;
    }
    Ok(())
}

fn record_size(section: Section) -> u64 {
    let words = match section {
        Section::Strings => return 1,
        Section::Rules => RuleRecord::WORDS,
        Section::Stacks => StackRecord::WORDS,
        Section::Classes => ClassRecord::WORDS,
        Section::Patterns => 3,
        Section::Processes => ProcessRecord::WORDS,
        Section::Options | Section::Remote6Bounds | Section::Local6Bounds => 4,
        Section::Leaves => 2 * LEAF_WORDS,
        Section::Nodes => NODE_LEAVES,
        _ => 1,
    };
    4 * words as u64
}

fn strings(image: &Image) -> Checked {
    ensure(
        std::str::from_utf8(image.section(Section::Strings)).is_ok(),
        "a text is not UTF-8",
    )
}

fn text(image: &Image, text: Text) -> Checked {
    let strings = image.section(Section::Strings);
    // `strings` has been found to be UTF-8: a byte that does not continue a character starts one.
    let boundary = |at: usize| strings.get(at).is_none_or(|byte| byte & 0xc0 != 0x80);
    ensure(
        inside(text, strings.len())
            && text[1] as usize <= MAX_TEXT
            && boundary(span(text).start)
            && boundary(span(text).end),
        "a text lies outside, is too long or is cut within a character",
    )
}

/// Whether a (first, count) pair lies within `length` elements.
fn inside([first, count]: [u32; 2], length: usize) -> bool {
    u64::from(first) + u64::from(count) <= length as u64
}

fn rules(image: &Image) -> Checked {
    let records = image.records::<{ RuleRecord::WORDS }>(Section::Rules);
    let count = image.words[RULE_COUNT_WORD];
    ensure(
        records.len() as u64 == count.saturating_add(1) && count < u64::from(u32::MAX),
        "the number of rules differs from the header's",
    )?;
    let classes = image.records::<{ ClassRecord::WORDS }>(Section::Classes);
    for class in classes {
        text(image, ClassRecord::decode(class).name)?;
    }
    let preferences = image.words_of(Section::Preferences);
    let stacks = image.stack_count();
    ensure(
        preferences.iter().all(|stack| (*stack as usize) < stacks),
        "a preference names a stack that is not there",
    )?;
    for (index, record) in records.iter().enumerate() {
        let record = RuleRecord::decode(record);
        text(image, record.name)?;
        ensure(
            inside(record.preference, preferences.len()),
            "a preference list lies outside",
        )?;
        ensure(
            record.qos as usize <= classes.len(),
            "a rule sets a class that is not there",
        )?;
        ensure(
            record.flags & !RuleRecord::KNOWN_FLAGS == 0,
            "a rule has unknown flags",
        )?;
        let goes_on = record.flags & RuleRecord::CONTINUE != 0;
        ensure(
            goes_on == (record.preference[1] == 0) && !(goes_on && index == records.len() - 1),
            "a rule that ends the search has no stack, or one that does not has some",
        )?;
    }
    Ok(())
}

fn stacks(image: &Image) -> Checked {
    let records = image.records::<{ StackRecord::WORDS }>(Section::Stacks);
    ensure(
        (1..=usize::from(u16::MAX)).contains(&records.len()),
        "no stacks, or too many",
    )?;
    let pairs: &[[u64; 2]] = bytemuck::cast_slice(image.section(Section::Options));
    for [index, value] in pairs {
        let index = usize::try_from(*index).unwrap_or(usize::MAX);
        ensure(
            index < options::TABLE.len() && SocketOptions::default().set(index, *value),
            "an option is unknown or its value impossible",
        )?;
    }
    for record in records {
        let record = StackRecord::decode(record);
        for name in [record.name, record.netns, record.congestion, record.device] {
            text(image, name)?;
        }
        ensure(
            StackKind::from_word(record.kind).is_some(),
            "a stack is of an unknown kind",
        )?;
        ensure(
            record.protocol == 0 || KernelProtocol::from_word(record.protocol).is_some(),
            "a stack has an unknown protocol",
        )?;
        ensure(
            inside(record.options, pairs.len()),
            "a list of options lies outside",
        )?;
    }
    Ok(())
}

fn processes(image: &Image) -> Checked {
    let patterns = image.records::<3>(Section::Patterns);
    for [subject, first, length] in patterns {
        ensure(
            (*subject as usize) < Subject::ALL.len(),
            "a pattern has an unknown subject",
        )?;
        ensure(
            *length as usize <= crate::glob::MAX_PATTERN,
            "a pattern is too long",
        )?;
        text(image, [*first, *length])?;
    }
    let lists = image.words_of(Section::PatternLists);
    ensure(
        lists
            .iter()
            .all(|pattern| (*pattern as usize) < patterns.len()),
        "a list names a pattern that is not there",
    )?;
    let mut previous = None;
    let mut listed = 0;
    for record in image.records::<{ ProcessRecord::WORDS }>(Section::Processes) {
        let record = ProcessRecord::decode(record);
        ensure(
            (record.rule as usize) < image.rule_count() && previous < Some(record.rule),
            "process conditions of a rule that is not there, or not in order",
        )?;
        previous = Some(record.rule);
        ensure(
            record.lists.iter().all(|list| inside(*list, lists.len())),
            "a list of patterns lies outside",
        )?;
        listed += record
            .lists
            .iter()
            .map(|list| list[1] as usize)
            .sum::<usize>();
    }
    // Shared lists would let a small image ask for much work.
    ensure(listed <= lists.len(), "lists of patterns overlap")
}

fn search(image: &Image) -> Checked {
    let rules = image.rule_count();
    let leaves = image.leaves().len();
    ensure(
        leaves >= 2 && image.nodes().len() >= 2,
        "the reserved leaves and nodes are missing",
    )?;
    ensure(
        image
            .nodes()
            .iter()
            .flatten()
            .all(|leaf| (*leaf as usize) < leaves),
        "a node names a leaf that is not there",
    )?;
    let width = set_width(rules);
    let sets = image.words_of(Section::Sets);
    ensure(
        if width == 0 {
            sets.is_empty()
        } else {
            sets.len().is_multiple_of(width)
        },
        "a set is cut",
    )?;
    ensure(
        sets.iter()
            .all(|node| (*node as usize) < image.nodes().len()),
        "a set names a node that is not there",
    )?;
    let set_count = sets.len().checked_div(width).unwrap_or(0);
    let dimension = |section: Section, length: usize| {
        let numbers = image.words_of(section);
        ensure(
            numbers.is_empty() || numbers.len() == length,
            "a dimension has too many or too few sets",
        )?;
        ensure(
            numbers.iter().all(|set| (*set as usize) < set_count),
            "a dimension names a set that is not there",
        )
    };
    dimension(Section::Shape, SHAPES)?;
    let classes = image.words_of(Section::Classes).len() / ClassRecord::WORDS;
    dimension(Section::Qos, classes + 1)?;
    for (bounds, numbers) in NARROW {
        let bounds = image.words_of(bounds);
        dimension(numbers, bounds.len() + 1)?;
        ensure(
            starts_at_zero_and_rises(bounds, 0),
            "intervals are not in order",
        )?;
    }
    for (bounds, numbers) in WIDE {
        let bounds: &[[u64; 2]] = bytemuck::cast_slice(image.section(bounds));
        dimension(numbers, bounds.len() + 1)?;
        ensure(
            starts_at_zero_and_rises(bounds, [0, 0]),
            "intervals are not in order",
        )?;
    }
    Ok(())
}

fn starts_at_zero_and_rises<T: Ord + Copy>(bounds: &[T], zero: T) -> bool {
    bounds.first().is_none_or(|first| *first == zero) && bounds.is_sorted_by(|a, b| a < b)
}
