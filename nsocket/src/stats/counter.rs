//! What is counted: once a process, and once for each pair of rule and stack.
//!
//! A new counter is one more line here; its place in the segment is its number, which is never
//! reused, and a reader of another version shows the ones that it knows.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

macro_rules! counters {
    ($(#[$meta:meta])* $type:ident, $counts:ident, $capacity:ident = $max:literal; $($variant:ident = $code:literal, $name:literal, $doc:literal;)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $type {
            $(#[doc = $doc] $variant = $code,)*
        }

        /// Places for counters in the segment; free ones are zero.
        pub(super) const $capacity: usize = $max;

        impl $type {
            /// Every counter.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Name for tables, JSON and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it counts, for people.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }

        /// The values of all counters at one time.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $counts(pub(super) [u64; $max]);

        impl $counts {
            /// The value of one.
            pub const fn of(&self, counter: $type) -> u64 {
                self.0[counter as usize]
            }

            /// Adds to one.
            pub const fn add(&mut self, counter: $type, n: u64) {
                let value = &mut self.0[counter as usize];
                *value = value.saturating_add(n);
            }

            /// Adds those of another process, or of another pair of rule and stack.
            pub fn merge(&mut self, other: &Self) {
                for (value, more) in self.0.iter_mut().zip(&other.0) {
                    *value = value.saturating_add(*more);
                }
            }
        }

        impl Default for $counts {
            fn default() -> Self {
                Self([0; $max])
            }
        }

        impl Serialize for $counts {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some($type::ALL.len()))?;
                for counter in $type::ALL {
                    map.serialize_entry(counter.name(), &self.of(*counter))?;
                }
                map.end()
            }
        }

        const _: () = {
            let mut i = 0;
            while i < $type::ALL.len() {
                assert!(($type::ALL[i] as usize) < $max);
                i += 1;
            }
        };
    };
}

counters! {
    /// A counter that a process keeps once.
    Counter, Counts, PROCESS_COUNTERS = 64;
    PassedUnix = 0, "passed_unix", "Unix sockets, which always stay with the kernel.";
    PassedNetlink = 1, "passed_netlink", "Netlink sockets, which always stay with the kernel.";
    PassedPacket = 2, "passed_packet", "Packet sockets, which always stay with the kernel.";
    PassedOther = 3, "passed_other", "Sockets of any other family, which always stay with the kernel.";
    Selections = 4, "selections", "Sockets that were looked up in the policy.";
    Fallbacks = 5, "fallbacks", "Sockets that did not get the first stack of their rule.";
    StacksPassedOver = 6, "stacks_passed_over", "Stack instances that were passed over, each with a reason.";
    SelectionsFailed = 7, "selections_failed", "Sockets that no stack could carry, where the rule forbids the kernel.";
    OptionsReplayed = 8, "options_replayed", "Options set before binding and replayed on the chosen stack.";
    OptionsUnsupported = 9, "options_unsupported", "Options that the stack of the socket does not have.";
    OptionsUnreplayable = 10, "options_unreplayable", "Options that cannot be replayed on another socket.";
    PolicyOptionsRefused = 11, "policy_options_refused", "Options of a stack instance that the kernel refused.";
    ExecWithPreload = 12, "exec_with_preload", "exec calls whose environment keeps the preload.";
    ExecWithoutPreload = 13, "exec_without_preload", "exec calls whose environment drops the preload.";
    Forks = 14, "forks", "fork, vfork and clone calls that made a process.";
    PolicyReloads = 15, "policy_reloads", "Changes of policy that took effect in this process.";
    PolicyRefusals = 16, "policy_refusals", "Edits of the policy that were refused for their errors.";
    SocketsUnrecorded = 17, "sockets_unrecorded", "Sockets without a record: descriptor beyond the table, or no memory for it.";
    UpdatesDropped = 18, "updates_dropped", "Updates of a record that lost against another writer.";
    NamesOverflowed = 19, "names_overflowed", "Names of rules, stacks or classes that found the table full.";
    SeriesOverflowed = 20, "series_overflowed", "Pairs of rule and stack that found the table full.";
    SamplesLost = 21, "samples_lost", "Histogram samples without memory to count them in.";
    DescriptorsReceived = 22, "descriptors_received", "Sockets received from another process (SCM_RIGHTS).";
    SocketsInherited = 23, "sockets_inherited", "Sockets found open at program start or after a fork.";
    RawSystemCalls = 24, "raw_system_calls", "Socket calls that came through syscall(2).";
    UnmanagedFallbacks = 25, "unmanaged_fallbacks", "Sockets that left DMM's management (for example by exhausted tables).";
    HistogramDumps = 26, "histogram_dumps", "Copies of this segment written on a signal.";
    OffersRefused = 27, "offers_refused", "Sessions offered to a listener that were no sessions, or that there was no memory for.";
    SessionsRelayed = 28, "sessions_relayed", "Sessions handed to a program without DMM, by a relay.";
    RendezvousMissing = 29, "rendezvous_missing", "Listeners that sessions are meant for and that have no rendezvous.";
    SharingFailed = 30, "sharing_failed", "Sessions that a child of fork could not be given.";
    SessionsUnsupported = 31, "sessions_unsupported", "Calls on sessions that need what only the kernel's TCP has.";
}

counters! {
    /// A counter that is kept for each pair of rule and stack instance.
    SeriesCounter, SeriesCounts, SERIES_COUNTERS = 16;
    Sockets = 0, "sockets", "Sockets bound to the stack by the rule, accepted ones included.";
    Connects = 1, "connects", "Connections established by connect.";
    ConnectErrors = 2, "connect_errors", "connect calls that failed.";
    Accepts = 3, "accepts", "Connections accepted.";
    AcceptErrors = 4, "accept_errors", "accept calls that failed, other than with EAGAIN or EINTR.";
    Listens = 5, "listens", "Listeners.";
    Datagrams = 6, "datagram_sockets", "Datagram sockets.";
    Closes = 7, "closes", "Descriptors closed.";
    BytesSent = 8, "bytes_sent", "Bytes sent on sockets that are closed; a snapshot adds the open ones.";
    BytesReceived = 9, "bytes_received", "Bytes received on sockets that are closed; a snapshot adds the open ones.";
    Fallbacks = 10, "fallbacks", "Sockets that came here because another stack was passed over.";
    SendErrors = 11, "send_errors", "Send calls that failed, other than with EAGAIN or EINTR.";
    ReceiveErrors = 12, "receive_errors", "Receive calls that failed, other than with EAGAIN or EINTR.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        for (i, a) in Counter::ALL.iter().enumerate() {
            for b in &Counter::ALL[i + 1..] {
                assert_ne!(*a as u8, *b as u8);
                assert_ne!(a.name(), b.name());
            }
        }
    }
}
