//! How single values are written: sizes, durations, DSCPs, ports, prefixes. Pure functions from text
//! to value; their errors are sentences for the diagnostic: what is wrong, and the remedy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is wrong with a value, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Complaint {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}

/// A number of bytes: `65536`, `64KiB`, `4 MiB`, `1MB`, `2GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, Complaint> {
    const UNITS: &[(&str, u64)] = &[
        ("", 1),
        ("b", 1),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
    ];
    scaled(text, UNITS).ok_or_else(|| {
        Complaint::new(
            format!("`{text}` is not a size"),
            "write bytes, or a number with KiB, MiB, GiB (powers of 1024) or kB, MB, GB (powers of 1000): \"4MiB\"",
        )
    })
}

/// A duration in nanoseconds: `50us`, `1ms`, `2s`, `5min`, `1h`.
pub(super) fn nanoseconds(text: &str) -> Result<u64, Complaint> {
    const UNITS: &[(&str, u64)] = &[
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("min", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    scaled(text, UNITS).ok_or_else(|| {
        Complaint::new(
            format!("`{text}` is not a duration"),
            "write a whole number and its unit, ns, us, ms, s, min or h: \"50us\"",
        )
    })
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_lowercase();
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// The DSCPs that have names (RFC 2474, 2597, 3246, 5865, 8622).
const DSCP_NAMES: &[(&str, u8)] = &[
    ("cs0", 0),
    ("default", 0),
    ("le", 1),
    ("cs1", 8),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("cs2", 16),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("cs3", 24),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("cs4", 32),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs5", 40),
    ("va", 44),
    ("voice-admit", 44),
    ("ef", 46),
    ("cs6", 48),
    ("cs7", 56),
];

/// A DSCP by name or number.
pub(super) fn dscp(text: &str) -> Result<u8, Complaint> {
    let name = text.to_lowercase();
    let named = DSCP_NAMES.iter().find(|(known, _)| *known == name);
    let number = || text.parse().ok().filter(|number| *number < 64);
    named
        .map(|(_, number)| *number)
        .or_else(number)
        .ok_or_else(|| {
            Complaint::new(
                format!("`{text}` is not a DSCP"),
                "write 0 to 63, or a name: cs0 to cs7, af11 to af43, ef, va, le",
            )
        })
}

/// A DSCP as people know it: its name, or its number.
pub fn format_dscp(dscp: u8) -> String {
    DSCP_NAMES
        .iter()
        .find(|(_, number)| *number == dscp)
        .map_or_else(|| dscp.to_string(), |(name, _)| (*name).to_owned())
}

/// A number of bytes in the shortest exact writing: `4MiB`, `1500`.
pub fn format_bytes(bytes: u64) -> String {
    [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes != 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(
            || bytes.to_string(),
            |(unit, shift)| format!("{}{unit}", bytes >> shift),
        )
}

/// A 32-bit number in decimal or, behind `0x`, in hexadecimal.
pub(super) fn mark(text: &str) -> Result<u32, Complaint> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| {
        Complaint::new(
            format!("`{text}` is not a 32-bit number"),
            "write 0 to 4294967295, or in hexadecimal: \"0x2a\"",
        )
    })
}

/// Ports: `80`, `8000-8100`, or several with commas between.
pub(super) fn ports(text: &str) -> Result<Vec<(u16, u16)>, Complaint> {
    text.split(',')
        .map(|part| port_range(part.trim()))
        .collect()
}

/// One port by number.
pub(super) fn port(number: i128) -> Result<u16, Complaint> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Complaint::new(format!("{number} is not a port"), "write 1 to 65535"))
}

fn port_range(text: &str) -> Result<(u16, u16), Complaint> {
    let number = |text: &str| {
        let complaint = || {
            Complaint::new(
                format!("`{text}` is not a port"),
                "write 1 to 65535, a range \"6379-6389\", or a list \"80,443,8000-8100\"",
            )
        };
        let digits =
            !text.is_empty() && text.len() < 20 && text.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return Err(complaint());
        }
        port(text.parse().map_err(|_| complaint())?)
    };
    let Some((low, high)) = text.split_once('-') else {
        return number(text).map(|port| (port, port));
    };
    let (low, high) = (number(low.trim())?, number(high.trim())?);
    if low > high {
        return Err(Complaint::new(
            format!("the port range `{text}` runs backwards"),
            format!("write \"{high}-{low}\""),
        ));
    }
    Ok((low, high))
}

/// User ids: a number or a range.
pub(super) fn uids(text: &str) -> Result<(u32, u32), Complaint> {
    let complaint = || {
        Complaint::new(
            format!("`{text}` is not a user id or a range of them"),
            "write a number, or a range \"1000-1999\"; for a name use `user`",
        )
    };
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| complaint());
    let Some((low, high)) = text.split_once('-') else {
        return number(text).map(|uid| (uid, uid));
    };
    let (low, high) = (number(low)?, number(high)?);
    if low > high {
        return Err(Complaint::new(
            format!("the range of user ids `{text}` runs backwards"),
            format!("write \"{high}-{low}\""),
        ));
    }
    Ok((low, high))
}

/// An address prefix. IPv4 inside IPv6 (`::ffff:10.0.0.0/104`) has become IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    V4(Ipv4Addr, u8),
    V6(Ipv6Addr, u8),
}

impl Prefix {
    /// The prefix that an address and a length mean, with host bits cut off; `None` for a length
    /// that the family does not have.
    pub(crate) fn covering(address: IpAddr, length: u8) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => (length <= 32)
                .then(|| Self::V4(Ipv4Addr::from_bits(v4.to_bits() & mask32(length)), length)),
            IpAddr::V6(v6) if length <= 128 => match v6.to_ipv4_mapped() {
                Some(v4) if length >= 96 => Self::covering(IpAddr::V4(v4), length - 96),
                _ => Some(Self::V6(
                    Ipv6Addr::from_bits(v6.to_bits() & mask128(length)),
                    length,
                )),
            },
            IpAddr::V6(_) => None,
        }
    }

    /// Number of leading bits that are given.
    pub(crate) fn length(self) -> u8 {
        match self {
            Self::V4(_, length) | Self::V6(_, length) => length,
        }
    }

    /// The first and last address, as numbers; the inner `Err` is IPv6.
    pub(crate) fn range(self) -> Result<(u32, u32), (u128, u128)> {
        match self {
            Self::V4(address, length) => {
                let low = address.to_bits();
                Ok((low, low | !mask32(length)))
            }
            Self::V6(address, length) => {
                let low = address.to_bits();
                Err((low, low | !mask128(length)))
            }
        }
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::V4(address, length) => write!(f, "{address}/{length}"),
            Self::V6(address, length) => write!(f, "{address}/{length}"),
        }
    }
}

/// A prefix `10.0.0.0/8`, or an address, which is the prefix of its full length.
pub(crate) fn prefix(text: &str) -> Result<Prefix, Complaint> {
    let form = "write an address or a prefix: \"10.0.0.0/8\", \"2001:db8::/32\"";
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| Complaint::new(format!("`{text}` is not an address or a prefix"), form))?;
    let full = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => full,
        Some(digits) => digits
            .parse::<u8>()
            .ok()
            .filter(|length| *length <= full && digits.bytes().all(|b| b.is_ascii_digit()))
            .ok_or_else(|| {
                Complaint::new(
                    format!("`{digits}` is not a prefix length of this family"),
                    format!("write 0 to {full}"),
                )
            })?,
    };
    let cut = match address {
        IpAddr::V4(v4) => v4.to_bits() & !mask32(length) != 0,
        IpAddr::V6(v6) => v6.to_bits() & !mask128(length) != 0,
    };
    let prefix = Prefix::covering(address, length)
        .ok_or_else(|| Complaint::new(format!("`{text}` is not a prefix"), form))?;
    if cut {
        return Err(Complaint::new(
            format!("`{text}` has bits set behind its {length} bits of prefix"),
            format!("write \"{prefix}\" for the network, or \"{address}\" for the one host"),
        ));
    }
    Ok(prefix)
}

fn mask32(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn mask128(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(bytes("4MiB"), Ok(4 << 20));
        assert_eq!(bytes("64 kib"), Ok(64 << 10));
        assert_eq!(bytes("1MB"), Ok(1_000_000));
        assert_eq!(bytes("17"), Ok(17));
        assert!(bytes("MiB").is_err() && bytes("1.5MiB").is_err() && bytes("-1").is_err());
        assert!(bytes("99999999999GiB").is_err());
        assert_eq!(nanoseconds("50us"), Ok(50_000));
        assert_eq!(nanoseconds("50µs"), Ok(50_000));
        assert_eq!(nanoseconds("2s"), Ok(2_000_000_000));
        assert!(nanoseconds("50").is_err());
        assert_eq!(dscp("AF41"), Ok(34));
        assert_eq!(dscp("63"), Ok(63));
        assert!(dscp("64").is_err());
        assert_eq!(mark("0x2A"), Ok(42));
        assert_eq!(format_bytes(4 << 20), "4MiB");
        assert_eq!(format_bytes(0), "0");
    }

    #[test]
    fn port_lists() {
        assert_eq!(
            ports("80, 443,8000-8100"),
            Ok(vec![(80, 80), (443, 443), (8000, 8100)])
        );
        assert_eq!(ports("90-80").unwrap_err().help, "write \"80-90\"");
        for bad in ["", "0", "65536", "80-", "-80", "a", "80,", "+80"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes() {
        assert_eq!(
            prefix("10.0.0.0/8").unwrap().range(),
            Ok((0x0a00_0000, 0x0aff_ffff))
        );
        assert_eq!(prefix("0.0.0.0/0").unwrap().range(), Ok((0, u32::MAX)));
        assert_eq!(prefix("::/0").unwrap().range(), Err((0, u128::MAX)));
        assert_eq!(prefix("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert_eq!(
            prefix("::ffff:10.0.0.0/104").unwrap().to_string(),
            "10.0.0.0/8"
        );
        assert_eq!(
            prefix("10.1.2.3/8").unwrap_err().help,
            "write \"10.0.0.0/8\" for the network, or \"10.1.2.3\" for the one host"
        );
        for bad in ["10.0.0.0/33", "10.0.0/8", "::1/129", "x", "10.0.0.0/+8", ""] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }
}
