//! Identities of texts and images.

use xxhash_rust::xxh3::xxh3_64;

/// Identity of a policy version: the XXH3 hash (64 bits, seed 0) of its text. It stays the same over
/// processes, hosts and releases. It guards against mix-ups, not against forgery.
pub fn text_hash(text: &str) -> u64 {
    bytes_hash(text.as_bytes())
}

pub(crate) fn bytes_hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}
