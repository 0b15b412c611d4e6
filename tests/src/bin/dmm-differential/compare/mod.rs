//! Both sides of a sequence, and what differs between them.

mod editor;
mod report;
mod shrink;
mod side;

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use clap::Args;

use self::side::{Side, Workshop};
use crate::policies::{Needs, Policy};
use crate::{generate, isolate};

#[derive(Args)]
pub(crate) struct Options {
    /// The preload library.
    #[arg(long, value_name = "FILE", required_unless_present = "plain")]
    library: Option<PathBuf>,
    /// Policies to run under (default: all of them).
    #[arg(long, value_delimiter = ',')]
    policy: Vec<String>,
    /// Compare plain with plain: shows that the traces are steady.
    #[arg(long)]
    plain: bool,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many sequences in all; the policies take turns.
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// Sequences that one process performs.
    #[arg(long, default_value_t = 250)]
    batch: u64,
    /// Stop after so many differences, not counting those that look like an earlier one.
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// Leave out ops that hold this text, as `show` prints them: to look past a known difference.
    #[arg(long)]
    except: Vec<String>,
    /// Report differences as they are, without looking for the ops that matter.
    #[arg(long)]
    no_shrink: bool,
}

/// One sequence that gave two traces.
struct Difference {
    seed: u64,
    kept: Vec<usize>,
    /// The first seed of the process in which it shows; its own, if it shows alone.
    since: u64,
    plain: String,
    preloaded: String,
}

/// Compares, writes a report, and says whether all sequences were alike.
///
/// # Errors
///
/// What kept the comparison from being made.
pub(crate) fn run(options: &Options, out: &mut dyn Write) -> Result<bool, String> {
    let names = if options.plain {
        vec!["plain".to_owned()]
    } else {
        options.policy.clone()
    };
    let policies: Vec<&Policy> = Policy::named(&names)?
        .into_iter()
        .filter(|policy| policy.needs != Needs::Namespace || isolate::is_root())
        .collect();
    if policies.is_empty() {
        return Err("the policy netns needs root".to_owned());
    }
    let workshop = Workshop::new(options.library.as_deref(), &options.except)?;
    let started = Instant::now();
    let (mut found, mut alike, mut unsteady, mut performed) = (HashSet::new(), 0, Vec::new(), 0);
    let mut accepted = 0;
    let end = options.first + options.count;
    let mut turn = 0;
    while performed < options.count && found.len() < options.limit {
        let policy = policies[turn % policies.len()];
        turn += 1;
        let first = options.first + performed;
        let count = options.batch.min(end - first);
        let pair = Pair::new(&workshop, policy)?;
        let (plain, preloaded) = pair.traces(first, count, None)?;
        performed += count;
        for (index, (plain, preloaded)) in plain.into_iter().zip(preloaded).enumerate() {
            if plain == preloaded || found.len() == options.limit {
                continue;
            }
            let seed = first + index as u64;
            if report::is_accepted(policy, seed, &plain, &preloaded) {
                accepted += 1;
                continue;
            }
            let kept = (0..generate::sequence(seed).len()).collect();
            let difference = Difference {
                seed,
                kept,
                since: first,
                plain,
                preloaded,
            };
            let kind = report::kind(policy, &difference);
            if found.contains(&kind) {
                alike += 1;
                continue;
            }
            match pair.confirm(difference)? {
                Ok(difference) => {
                    found.insert(kind);
                    let difference = match options.no_shrink {
                        true => difference,
                        false => shrink::shrink(&pair, difference)?,
                    };
                    report::difference(out, policy, options.library.as_deref(), &difference)?;
                }
                Err(difference) => {
                    report::unsteady(out, policy, &difference)?;
                    unsteady.push(seed);
                }
            }
        }
    }
    let names: Vec<&str> = policies.iter().map(|policy| policy.name).collect();
    let seconds = started.elapsed().as_secs_f64();
    writeln!(
        out,
        "{performed} sequences (seeds {}..{}) under {}: {} differ, {alike} more in the same way, {accepted} as they may, {} unsteady {unsteady:?}; {seconds:.1} s",
        options.first,
        options.first + performed,
        names.join(", "),
        found.len(),
        unsteady.len(),
    )
    .map_err(|error| error.to_string())?;
    // Two sockets of a sequence may by chance get ports of the same number, and then the names of
    // ports differ: about once in 10,000 sequences. More than that is a race.
    Ok(found.is_empty() && unsteady.len() as u64 <= 1 + performed / 2_000)
}

/// A plain side, and a preloaded one.
struct Pair<'a> {
    plain: Side<'a>,
    preloaded: Side<'a>,
}

impl<'a> Pair<'a> {
    fn new(workshop: &'a Workshop, policy: &'a Policy) -> Result<Self, String> {
        Ok(Self {
            plain: Side::plain(workshop, policy, 0)?,
            preloaded: Side::under(workshop, policy, 1)?,
        })
    }

    /// The traces of both sides, which run at the same time on two CPUs.
    fn traces(
        &self,
        first: u64,
        count: u64,
        kept: Option<&[usize]>,
    ) -> Result<(Vec<String>, Vec<String>), String> {
        thread::scope(|scope| {
            let plain = scope.spawn(|| self.plain.traces(first, count, kept));
            let preloaded = self.preloaded.traces(first, count, kept)?;
            let plain = plain
                .join()
                .map_err(|_| "the plain side's thread panicked".to_owned())??;
            Ok((plain, preloaded))
        })
    }

    /// Whether some ops of a sequence, alone in a process, differ: both traces if they do.
    fn differ(&self, seed: u64, kept: &[usize]) -> Result<Option<(String, String)>, String> {
        let (plain, preloaded) = self.traces(seed, 1, Some(kept))?;
        let (plain, preloaded) = (plain.concat(), preloaded.concat());
        let differ = plain != preloaded
            && !report::is_accepted(self.preloaded.policy(), seed, &plain, &preloaded);
        Ok(differ.then_some((plain, preloaded)))
    }

    /// A difference counts if it shows again: alone, or behind the same sequences as the first time.
    fn confirm(&self, found: Difference) -> Result<Result<Difference, Difference>, String> {
        for _ in 0..2 {
            if let Some((plain, preloaded)) = self.differ(found.seed, &found.kept)? {
                return Ok(Ok(Difference {
                    since: found.seed,
                    plain,
                    preloaded,
                    ..found
                }));
            }
        }
        let (plain, preloaded) = self.traces(found.since, found.seed - found.since + 1, None)?;
        let again = plain.last() != preloaded.last();
        Ok(if again { Ok(found) } else { Err(found) })
    }
}
