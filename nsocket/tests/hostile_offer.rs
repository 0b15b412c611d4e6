//! Fuzz target: whatever comes over a rendezvous, it is an offer (an answer) or an error, and what is
//! taken has one form only.

use dmm_nsocket::session::rendezvous::answer::ANSWER_BYTES;
use dmm_nsocket::session::rendezvous::offer::OFFER_BYTES;
use dmm_nsocket::session::rendezvous::{Answer, Attachments, Offer};
use dmm_nsocket::session::segment::{Generation, Layout};

#[test]
fn offers() {
    let good = Offer {
        protocol: libc::IPPROTO_TCP as u8,
        layout: Layout::at_least(1 << 16, 1 << 18),
        generation: Generation::FIRST,
        attachments: Attachments::default(),
        from: "127.0.0.1:40000".parse().unwrap(),
        to: "10.0.0.1:80".parse().unwrap(),
        board: 1,
        known: [0; 2],
    }
    .encode();
    bolero::check!().for_each(|bytes: &[u8]| {
        for bytes in [bytes, &over::<OFFER_BYTES>(good, bytes)] {
            if let Ok(offer) = Offer::decode(bytes) {
                assert_eq!(offer.encode(), bytes);
                let Offer { layout, .. } = offer;
                assert!(layout.total_bytes() <= 4096 + (2 << 23));
            }
        }
    });
}

#[test]
fn answers() {
    let good = Answer {
        attachments: Attachments::default(),
        board: 1,
    }
    .encode();
    bolero::check!().for_each(|bytes: &[u8]| {
        for bytes in [bytes, &over::<ANSWER_BYTES>(good, bytes)] {
            if let Ok(answer) = Answer::decode(bytes) {
                assert_eq!(answer.encode(), bytes);
            }
        }
    });
}

/// A good message with some bytes of the fuzzer's, the first of which says where: so that it gets past
/// the magic.
fn over<const LEN: usize>(mut good: [u8; LEN], bytes: &[u8]) -> [u8; LEN] {
    if let Some((at, bytes)) = bytes.split_first() {
        let at = usize::from(*at) % LEN;
        let len = bytes.len().min(LEN - at);
        good[at..at + len].copy_from_slice(&bytes[..len]);
    }
    good
}
