//! The socket options that a stack instance sets on its sockets.
//!
//! One table says everything about an option: its name in TOML, its type, how its value is written
//! and where it is documented. Parser, compiled image and `--json` follow the table.

use serde::Serialize;

/// How the value of an option is written in TOML, and what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// `true` or `false`.
    Bool,
    /// A number of bytes: `65536`, `"64KiB"`, `"4MiB"`, `"1MB"`.
    Bytes,
    /// A duration, kept in microseconds: `"50us"`, `"1ms"`.
    Microseconds,
    /// A duration, kept in milliseconds: `"500ms"`, `"30s"`.
    Milliseconds,
    /// A duration, kept in seconds: `"30s"`, `"2min"`.
    Seconds,
    /// A plain number from the first to the second value.
    Number(u32, u32),
    /// A DSCP by number or name.
    Dscp,
    /// Any 32-bit number, also as a string in hexadecimal.
    Mark,
}

macro_rules! options {
    ($($(#[doc = $doc:literal])+ $field:ident / $key:literal: $type:ty = $syntax:expr;)+) => {
        /// The options of a stack instance; what is `None` is left as the program and the system have it.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct SocketOptions<'a> {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)+
            /// `SO_BINDTODEVICE`: the name of a network interface.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub device: Option<&'a str>,
        }

        /// Every option but `device`, in the order of their indexes: name in TOML and syntax.
        pub(crate) const TABLE: &[(&str, Syntax)] = &[$(($key, $syntax)),+];

        impl SocketOptions<'_> {
            /// The numeric options that are set, as (index in [`TABLE`], value).
            pub(crate) fn values(&self) -> impl Iterator<Item = (usize, u64)> {
                [$(self.$field.map(u64::from)),+]
                    .into_iter()
                    .enumerate()
                    .filter_map(|(index, value)| Some((index, value?)))
            }

            /// Sets an option by its index in [`TABLE`]; `false` for an unknown index or a value that
            /// the option's type cannot hold.
            pub(crate) fn set(&mut self, index: usize, value: u64) -> bool {
                let mut at = 0..;
                $(if at.next() == Some(index) {
                    self.$field = <$type as FromWord>::from_word(value);
                    return self.$field.is_some();
                })+
                false
            }
        }
    };
}

options! {
    /// `TCP_NODELAY`: send small segments at once (tcp(7)).
    nodelay / "nodelay": bool = Syntax::Bool;
    /// `TCP_QUICKACK`: acknowledge at once; the kernel may leave this mode again (tcp(7)).
    quickack / "quickack": bool = Syntax::Bool;
    /// `SO_BUSY_POLL`: how long to poll the device for data, in microseconds (socket(7)).
    busy_poll_us / "busy_poll": u32 = Syntax::Microseconds;
    /// `SO_PREFER_BUSY_POLL`: leave the interrupts off while the program polls (Linux 5.11).
    prefer_busy_poll / "prefer_busy_poll": bool = Syntax::Bool;
    /// `SO_BUSY_POLL_BUDGET`: packets that one busy poll may process (Linux 5.11).
    busy_poll_budget / "busy_poll_budget": u32 = Syntax::Number(1, 65535);
    /// `IP_TOS` and `IPV6_TCLASS`: the differentiated services code point, 0 to 63 (RFC 2474).
    dscp / "dscp": u8 = Syntax::Dscp;
    /// `SO_MARK`: the firewall mark; needs `CAP_NET_ADMIN` or `CAP_NET_RAW` (socket(7)).
    mark / "mark": u32 = Syntax::Mark;
    /// `SO_PRIORITY`: 0 to 15; above 6 needs `CAP_NET_ADMIN` (socket(7)).
    priority / "priority": u32 = Syntax::Number(0, 15);
    /// `SO_SNDBUF` in bytes, before the kernel's doubling (socket(7)).
    send_buffer / "send_buffer": u32 = Syntax::Bytes;
    /// `SO_RCVBUF` in bytes, before the kernel's doubling (socket(7)).
    receive_buffer / "receive_buffer": u32 = Syntax::Bytes;
    /// `SO_KEEPALIVE`: probe idle connections (socket(7)).
    keepalive / "keepalive": bool = Syntax::Bool;
    /// `TCP_KEEPIDLE`: idle time before the first probe, in seconds (tcp(7)).
    keepalive_idle_s / "keepalive_idle": u32 = Syntax::Seconds;
    /// `TCP_KEEPINTVL`: time between probes, in seconds (tcp(7)).
    keepalive_interval_s / "keepalive_interval": u32 = Syntax::Seconds;
    /// `TCP_KEEPCNT`: unanswered probes before the connection is dropped (tcp(7)).
    keepalive_count / "keepalive_count": u32 = Syntax::Number(1, 127);
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged, in milliseconds (tcp(7)).
    user_timeout_ms / "user_timeout": u32 = Syntax::Milliseconds;
    /// `TCP_NOTSENT_LOWAT`: unsent bytes above which the socket is not writable (tcp(7)).
    notsent_lowat / "notsent_lowat": u32 = Syntax::Bytes;
    /// `TCP_MAXSEG`: the greatest segment size, in bytes (tcp(7)).
    max_segment / "max_segment": u32 = Syntax::Number(88, 32767);
    /// `TCP_WINDOW_CLAMP`: upper bound of the advertised window, in bytes (tcp(7)).
    window_clamp / "window_clamp": u32 = Syntax::Bytes;
    /// `SO_MAX_PACING_RATE`: upper bound of the sending rate, in bytes a second (tc-fq(8)).
    max_pacing_rate / "max_pacing_rate": u64 = Syntax::Bytes;
    /// `IP_TTL` and `IPV6_UNICAST_HOPS`: 1 to 255 (ip(7)).
    ttl / "ttl": u8 = Syntax::Number(1, 255);
    /// `IP_FREEBIND`: allow binding to an address that is not there yet (ip(7)).
    freebind / "freebind": bool = Syntax::Bool;
    /// `IP_BIND_ADDRESS_NO_PORT`: choose the port at connect, not at bind (ip(7)).
    bind_address_no_port / "bind_address_no_port": bool = Syntax::Bool;
}

impl SocketOptions<'_> {
    /// Whether no option is set.
    pub fn is_empty(&self) -> bool {
        *self == SocketOptions::default()
    }
}

/// The value of an option from the word that an image stores.
trait FromWord: Sized {
    fn from_word(word: u64) -> Option<Self>;
}

impl FromWord for bool {
    fn from_word(word: u64) -> Option<Self> {
        match word {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

macro_rules! from_word {
    ($($type:ty),*) => {$(
        impl FromWord for $type {
            fn from_word(word: u64) -> Option<Self> {
                word.try_into().ok()
            }
        }
    )*};
}

from_word!(u8, u32, u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_survives_the_trip_through_words() {
        let mut options = SocketOptions::default();
        for (index, (key, _)) in TABLE.iter().enumerate() {
            assert!(options.set(index, 1), "{key}");
        }
        assert!(!options.set(TABLE.len(), 1));
        let mut back = SocketOptions::default();
        for (index, value) in options.values() {
            assert!(back.set(index, value));
        }
        assert_eq!(options, back);
        assert!(!back.set(0, 2), "a bool is 0 or 1");
    }
}
