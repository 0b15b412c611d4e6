//! The message that opens a session, as bytes: [`Offer::encode`] and [`Offer::decode`].
//!
//! ```text
//!   0  magic "DMMO"
//!   4  version
//!   5  protocol (IPPROTO_TCP)
//!   6  capacities, as shifts: to the accepting side, to the connecting side
//!   8  generation of the segment
//!  12  attachments, a bit each
//!  16  address of the connecting side, address that it has connected to (28 bytes each)
//!  72  number of the connecting side's board, or 0
//!  80  numbers of two boards that it knows at that listener, or 0
//! ```
//!
//! Numbers are little-endian, ports and addresses in network order. The length is fixed: a longer
//! version is another version.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;

use crate::session::segment::{Generation, Layout};

/// Length of an offer on the wire, in bytes.
pub const OFFER_BYTES: usize = 96;

/// Most descriptors that come with a message.
pub const MAX_DESCRIPTORS: usize = 4;

const MAGIC: [u8; 4] = *b"DMMO";
const VERSION: u8 = 1;
const ADDRESS: usize = 28;

/// What the connecting side says of the session that it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// As in socket(2): `IPPROTO_TCP`.
    pub protocol: u8,
    /// The sizes of the rings.
    pub layout: Layout,
    /// Which use of the segment this is.
    pub generation: Generation,
    /// Which descriptors come along.
    pub attachments: Attachments,
    /// What getpeername(2) shall say at the accepting side. A claim: see
    /// [`Accepted::offer`](super::Accepted::offer).
    pub from: SocketAddr,
    /// What getsockname(2) shall say at the accepting side.
    pub to: SocketAddr,
    /// The number of the connecting side's [board](crate::session::board), whose files come along; 0
    /// if it has none.
    pub board: u64,
    /// Boards of the listener's processes that the connecting side knows already, by their numbers:
    /// whoever accepts need not send such a one again. 0 for none.
    pub known: [u64; 2],
}

/// Which descriptors come with an offer (after the segment) or an answer, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// The eventfd to wake the sender with.
    pub doorbell: bool,
    /// The memory to look at before that.
    pub waiter_page: bool,
    /// The memory to tell in which session woke it.
    pub ready_set: bool,
}

/// The descriptors that [`Attachments`] announce, as they came: unchecked.
#[derive(Debug, Default)]
pub struct Attached {
    /// See [`Attachments`].
    pub doorbell: Option<OwnedFd>,
    /// See [`Attachments`].
    pub waiter_page: Option<OwnedFd>,
    /// See [`Attachments`].
    pub ready_set: Option<OwnedFd>,
}

impl Attachments {
    const DOORBELL: u32 = 1;
    const WAITER_PAGE: u32 = 2;
    const READY_SET: u32 = 4;

    /// How many descriptors come along.
    pub const fn count(self) -> usize {
        self.bits().count_ones() as usize
    }

    /// Tells them apart.
    pub(super) fn sort(self, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Attached {
        let mut next = |announced: bool| announced.then(|| descriptors.next()).flatten();
        Attached {
            doorbell: next(self.doorbell),
            waiter_page: next(self.waiter_page),
            ready_set: next(self.ready_set),
        }
    }

    pub(super) const fn bits(self) -> u32 {
        (if self.doorbell { Self::DOORBELL } else { 0 })
            | (if self.waiter_page {
                Self::WAITER_PAGE
            } else {
                0
            })
            | (if self.ready_set { Self::READY_SET } else { 0 })
    }

    pub(super) const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !(Self::DOORBELL | Self::WAITER_PAGE | Self::READY_SET) != 0 {
            return None;
        }
        Some(Self {
            doorbell: bits & Self::DOORBELL != 0,
            waiter_page: bits & Self::WAITER_PAGE != 0,
            ready_set: bits & Self::READY_SET != 0,
        })
    }
}

/// Why bytes are no offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// Cut off, or something else.
    #[error("an offer has {OFFER_BYTES} bytes, not {found}")]
    Length {
        /// How many have come.
        found: usize,
    },
    /// Not from DMM.
    #[error("the message is no offer of a session")]
    Magic,
    /// From a newer or older DMM.
    #[error("the offer has version {found}; this build knows {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// A field has a value that it never has.
    #[error("the offer's {field} makes no sense")]
    Field {
        /// Which one.
        field: &'static str,
    },
}

impl Offer {
    /// As bytes.
    pub fn encode(&self) -> [u8; OFFER_BYTES] {
        let mut bytes = [0; OFFER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.protocol;
        bytes[6..8].copy_from_slice(&self.layout.shifts());
        bytes[8..12].copy_from_slice(&self.generation.bits().to_le_bytes());
        bytes[12..16].copy_from_slice(&self.attachments.bits().to_le_bytes());
        bytes[16..44].copy_from_slice(&encode_address(self.from));
        bytes[44..72].copy_from_slice(&encode_address(self.to));
        bytes[72..80].copy_from_slice(&self.board.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.known[0].to_le_bytes());
        bytes[88..96].copy_from_slice(&self.known[1].to_le_bytes());
        bytes
    }

    /// From bytes that anybody may have sent.
    ///
    /// # Errors
    ///
    /// See [`OfferError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OfferError> {
        let field = |field| move || OfferError::Field { field };
        let bytes: &[u8; OFFER_BYTES] = bytes
            .try_into()
            .map_err(|_| OfferError::Length { found: bytes.len() })?;
        if bytes[..4] != MAGIC {
            return Err(OfferError::Magic);
        }
        if bytes[4] != VERSION {
            return Err(OfferError::Version { found: bytes[4] });
        }
        let protocol = bytes[5];
        if i32::from(protocol) != libc::IPPROTO_TCP {
            return Err(field("protocol")());
        }
        let from = decode_address(&bytes[16..44]).ok_or_else(field("source address"))?;
        let to = decode_address(&bytes[44..72]).ok_or_else(field("destination address"))?;
        if from.is_ipv4() != to.is_ipv4() || from.port() == 0 || to.port() == 0 {
            return Err(field("pair of addresses")());
        }
        Ok(Self {
            protocol,
            layout: Layout::from_shifts(bytes[6], bytes[7]).map_err(|_| field("capacity")())?,
            generation: Generation::from_bits(word(bytes, 8)).ok_or_else(field("generation"))?,
            attachments: Attachments::from_bits(word(bytes, 12))
                .ok_or_else(field("attachments"))?,
            from,
            to,
            board: long(bytes, 72),
            known: [long(bytes, 80), long(bytes, 88)],
        })
    }
}

fn word(bytes: &[u8; OFFER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8; OFFER_BYTES], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

/// Family (4 or 6), zero, port, address (16), scope (4), zero (4).
fn encode_address(address: SocketAddr) -> [u8; ADDRESS] {
    let mut bytes = [0; ADDRESS];
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            bytes[0] = 4;
            bytes[4..8].copy_from_slice(&address.ip().octets());
        }
        SocketAddr::V6(address) => {
            bytes[0] = 6;
            bytes[4..20].copy_from_slice(&address.ip().octets());
            bytes[20..24].copy_from_slice(&address.scope_id().to_le_bytes());
        }
    }
    bytes
}

fn decode_address(bytes: &[u8]) -> Option<SocketAddr> {
    let bytes: &[u8; ADDRESS] = bytes.try_into().ok()?;
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let address = match bytes[0] {
        4 => {
            let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
            SocketAddr::V4(SocketAddrV4::new(ip, port))
        }
        6 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[4..20]);
            let scope = u32::from_le_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]);
            SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope))
        }
        _ => return None,
    };
    let ip: IpAddr = address.ip();
    // One form for one address, so that what is compared is comparable.
    (encode_address(address) == *bytes && !ip.is_unspecified() && !ip.is_multicast())
        .then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        Offer {
            protocol: libc::IPPROTO_TCP as u8,
            layout: Layout::at_least(1 << 16, 1 << 18),
            generation: Generation::FIRST,
            attachments: Attachments {
                doorbell: true,
                waiter_page: false,
                ready_set: true,
            },
            from: "[fe80::1%7]:40000".parse().unwrap(),
            to: "[::1]:6379".parse().unwrap(),
            board: 77,
            known: [3, 1 << 63],
        }
    }

    #[test]
    fn an_offer_comes_back() {
        let v4 = Offer {
            from: "127.0.0.1:40000".parse().unwrap(),
            to: "10.0.0.1:80".parse().unwrap(),
            ..offer()
        };
        for offer in [offer(), v4] {
            assert_eq!(Offer::decode(&offer.encode()), Ok(offer));
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let good = offer().encode();
        let changed = |at: usize, to: u8| {
            let mut bytes = good;
            bytes[at] = to;
            Offer::decode(&bytes)
        };
        let field = |field| Err(OfferError::Field { field });
        assert_eq!(changed(0, 0), Err(OfferError::Magic));
        assert_eq!(changed(4, 2), Err(OfferError::Version { found: 2 }));
        assert_eq!(changed(5, 17), field("protocol"));
        assert_eq!(changed(6, 11), field("capacity"));
        assert_eq!(changed(7, 24), field("capacity"));
        assert_eq!(changed(8, 0), field("generation"));
        assert_eq!(changed(11, 1), field("generation"));
        assert_eq!(changed(13, 1), field("attachments"));
        assert_eq!(changed(16, 5), field("source address"));
        assert_eq!(changed(44, 4), field("destination address"));
        let mut bytes = good;
        bytes[18..20].fill(0);
        assert_eq!(Offer::decode(&bytes), field("pair of addresses"));
        for len in (0..OFFER_BYTES).chain([OFFER_BYTES + 1]) {
            let mut bytes = good.to_vec();
            bytes.resize(len, 0);
            assert_eq!(
                Offer::decode(&bytes),
                Err(OfferError::Length { found: len })
            );
        }
    }
}
