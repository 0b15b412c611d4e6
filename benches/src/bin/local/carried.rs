//! Which stack really carried a run's connections, by what DMM has published.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dmm_nsocket::stats::{Counter, SeriesCounter, Snapshot};
use dmm_tests::observe;

/// Both ends of every connection of a run, by stack.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    stacks: BTreeMap<String, Ends>,
    /// Why a stack was passed over, in `dmm why`'s words.
    reasons: BTreeMap<String, BTreeSet<String>>,
    /// What else is known of connections that did not go where they should.
    notes: BTreeSet<String>,
}

/// Counters that say why, where a socket does not: `dmm why` speaks of open ones only.
const TELLING: [&str; 3] = ["rendezvous_missing", "offers_refused", "sessions_relayed"];

#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    connects: u64,
    accepts: u64,
}

impl Carried {
    /// From the stats segments of the programs, also of those that have ended.
    pub(crate) fn read(segments: &Path) -> Self {
        let mut carried = Self::default();
        for snapshot in observe::snapshots(segments) {
            carried.add(&snapshot);
        }
        carried
    }

    /// Whether this stack carried every connection, at both ends; if not, what did, and why.
    pub(crate) fn all_by(&self, stack: &str) -> Result<(), String> {
        let ours = self.stacks.get(stack).copied().unwrap_or_default();
        let mut others = Ends::default();
        let mut names = Vec::new();
        for (name, ends) in &self.stacks {
            if name != stack && ends.connects + ends.accepts > 0 {
                others.connects += ends.connects;
                others.accepts += ends.accepts;
                names.push(name.as_str());
            }
        }
        let others_count = others.connects.max(others.accepts);
        match (ours.connects > 0 && ours.accepts > 0, others_count) {
            (true, 0) => Ok(()),
            (false, 0) => Err(format!(
                "DMM saw {} connects and {} accepts: not both programs ran under it",
                ours.connects, ours.accepts
            )),
            (_, count) => {
                let all = count + ours.connects.max(ours.accepts);
                let which = if count == all {
                    "the connections".to_owned()
                } else {
                    format!("{count} of {all} connections")
                };
                Err(format!(
                    "{which} went by {}: {}",
                    names.join(", "),
                    self.reason(stack)
                ))
            }
        }
    }

    fn add(&mut self, snapshot: &Snapshot) {
        for series in &snapshot.series {
            let ends = self.stacks.entry(series.stack.to_string()).or_default();
            ends.connects += series.counters.of(SeriesCounter::Connects);
            ends.accepts += series.counters.of(SeriesCounter::Accepts);
        }
        for passed in snapshot
            .sockets
            .iter()
            .flat_map(|socket| &socket.passed_over)
        {
            self.reasons
                .entry(passed.stack.to_string())
                .or_default()
                .insert(passed.reason.to_string());
        }
        for counter in Counter::ALL
            .iter()
            .filter(|counter| TELLING.contains(&counter.name()))
        {
            let count = snapshot.counters.of(*counter);
            if count > 0 {
                self.notes.insert(format!("{} = {count}", counter.name()));
            }
        }
        if !snapshot.policy.error.is_empty() {
            self.notes.insert(snapshot.policy.error.to_string());
        }
    }

    fn reason(&self, stack: &str) -> String {
        let reasons: Vec<&str> = self
            .reasons
            .get(stack)
            .into_iter()
            .flatten()
            .chain(&self.notes)
            .map(String::as_str)
            .collect();
        if reasons.is_empty() {
            format!("no open socket has a reason for passing over `{stack}`; is it in the policy?")
        } else {
            reasons.join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(stacks: &[(&str, u64, u64)]) -> Carried {
        let stacks = stacks.iter().map(|(name, connects, accepts)| {
            let ends = Ends {
                connects: *connects,
                accepts: *accepts,
            };
            ((*name).to_owned(), ends)
        });
        Carried {
            stacks: stacks.collect(),
            reasons: [(
                "local".to_owned(),
                ["the peer is not here".to_owned()].into(),
            )]
            .into(),
            ..Carried::default()
        }
    }

    #[test]
    fn all_connections_count_and_both_their_ends() {
        assert_eq!(
            carried(&[("local", 5, 5), ("kernel", 0, 0)]).all_by("local"),
            Ok(())
        );
        for (stacks, said) in [
            (&[][..], "0 connects and 0 accepts"),
            (&[("local", 5, 0)], "5 connects and 0 accepts"),
            (
                &[("kernel", 5, 5)],
                "the connections went by kernel: the peer is not here",
            ),
            (
                &[("kernel", 1, 1), ("local", 4, 4)],
                "1 of 5 connections went by kernel: the peer",
            ),
        ] {
            let error = carried(stacks).all_by("local").expect_err("not by local");
            assert!(error.contains(said), "{error}");
        }
    }
}
