//! A difference, for somebody who has to find its cause.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use super::Difference;
use crate::generate;
use crate::op::Op;
use crate::policies::{Accepted, Policy};

pub(super) fn difference(
    out: &mut dyn Write,
    policy: &Policy,
    library: Option<&Path>,
    found: &Difference,
) -> Result<(), String> {
    let library = library.map_or_else(|| "LIBRARY".to_owned(), |path| path.display().to_string());
    let kept: Vec<String> = found.kept.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "\nseed {} differs under the policy {}\n",
        found.seed, policy.name
    );
    side_by_side(&mut text, found);
    let (since, count) = (found.since, found.seed - found.since + 1);
    if since != found.seed {
        let _ = writeln!(
            text,
            "  it shows only behind the sequences from seed {since} on"
        );
    }
    let _ = writeln!(
        text,
        "  again: dmm-differential compare --library {library} --policy {} --first {since} --count {count} --batch {count}",
        policy.name
    );
    let _ = writeln!(
        text,
        "  a side by hand, its policy from dmm-differential policy {0}:\n    \
         LD_PRELOAD={library} DMM_POLICY=FILE unshare -n sh -c 'ip link set lo up; \
         dmm-differential run --first {1} --keep {2}'",
        policy.name,
        found.seed,
        kept.join(",")
    );
    out.write_all(text.as_bytes())
        .map_err(|error| error.to_string())
}

/// Whether the first difference between two traces is one that the policy may make.
pub(super) fn is_accepted(policy: &Policy, seed: u64, plain: &str, preloaded: &str) -> bool {
    let mut lines = plain.lines().zip(preloaded.lines());
    let Some((plain, preloaded)) = lines.find(|(plain, preloaded)| plain != preloaded) else {
        return false;
    };
    let ops = generate::sequence(seed);
    let op = plain
        .split_once(':')
        .and_then(|(index, _)| ops.get(index.parse::<usize>().ok()?))
        .map(|op| format!("{op:?}"));
    let has_epoll = || ops.iter().any(|op| matches!(op, Op::EpollCreate { .. }));
    // Of two urgent bytes under way TCP may drop the first where the second comes; it stays in a
    // session's stream, as in a TCP's whose reader is elsewhere.
    let is_urgent = |op: &&Op| matches!(op, Op::Send { flags, .. } if flags & libc::MSG_OOB != 0);
    let two_urgent = policy.more_ready && ops.iter().filter(is_urgent).count() > 1;
    op.is_some_and(|op| {
        let reads = ["Receive", "Splice"]
            .iter()
            .any(|name| op.starts_with(name));
        if two_urgent && reads {
            return true;
        }
        let accepted = policy.accepted.iter();
        accepted
            .into_iter()
            .any(|accepted| accepted.is(&op, plain, preloaded))
            || policy.more_ready && has_epoll() && Accepted::is_more_ready(&op, plain, preloaded)
    })
}

/// What differs, without the particulars: differences of one kind mostly have one cause.
pub(super) fn kind(policy: &Policy, found: &Difference) -> String {
    let ops = generate::sequence(found.seed);
    let mut lines = found.plain.lines().zip(found.preloaded.lines());
    let Some((plain, preloaded)) = lines.find(|(plain, preloaded)| plain != preloaded) else {
        return format!("{}: the end", policy.name);
    };
    let op = plain
        .split_once(':')
        .and_then(|(index, _)| ops.get(index.parse::<usize>().ok()?));
    let op = op.map(|op| format!("{op:?}")).unwrap_or_default();
    let name = match op.starts_with("Wrong") {
        true => op.split(',').next(),
        false => op.split(' ').next(),
    };
    let words = |line: &str| {
        let steady = |word: &&str| !word.starts_with(|first: char| first.is_ascii_digit());
        line.split(' ').filter(steady).collect::<Vec<_>>().join(" ")
    };
    format!(
        "{}: {:?} {} / {}",
        policy.name,
        name,
        words(plain),
        words(preloaded)
    )
}

/// A sequence that differed once and not again: its traces depend on something that they should not.
pub(super) fn unsteady(
    out: &mut dyn Write,
    policy: &Policy,
    found: &Difference,
) -> Result<(), String> {
    let mut text = format!(
        "\nseed {} differed once under the policy {}, and not again\n",
        found.seed, policy.name
    );
    side_by_side(&mut text, found);
    out.write_all(text.as_bytes())
        .map_err(|error| error.to_string())
}

/// The ops and what they gave; both results from the first line that differs on.
fn side_by_side(text: &mut String, found: &Difference) {
    let ops = generate::sequence(found.seed);
    let (mut plain, mut preloaded) = (found.plain.lines(), found.preloaded.lines());
    let mut differing = 0;
    loop {
        let (left, right) = (plain.next(), preloaded.next());
        let Some(line) = left.or(right) else { break };
        let op = line
            .split_once(':')
            .and_then(|(index, _)| ops.get(index.parse::<usize>().ok()?));
        if let Some(op) = op {
            let _ = writeln!(text, "    {op:?}");
        }
        if left == right {
            let _ = writeln!(text, "      {line}");
            if differing > 0 {
                break;
            }
            continue;
        }
        let _ = writeln!(text, "  plain     {}", left.unwrap_or("(nothing)"));
        let _ = writeln!(text, "  preloaded {}", right.unwrap_or("(nothing)"));
        differing += 1;
        if differing == 5 {
            break;
        }
    }
}
