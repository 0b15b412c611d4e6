//! Numbers as setsockopt(2) and getsockopt(2) carry them: each level has its way with short values.

use libc::c_int;

use super::Refused;

/// The number that a value says.
///
/// # Errors
/// EINVAL if it is too short. The IP level takes a byte for a number, and nothing for 0.
pub(super) fn number(level: c_int, value: &[u8]) -> Result<c_int, Refused> {
    match value {
        [a, b, c, d, ..] => Ok(c_int::from_ne_bytes([*a, *b, *c, *d])),
        [byte, ..] if level == libc::IPPROTO_IP => Ok(c_int::from(*byte)),
        [] if level == libc::IPPROTO_IP => Ok(0),
        _ => Err(Refused::INVALID),
    }
}

/// Answers with a number; returns how long the answer is. The IP level gives a byte where there is no
/// room for an `int` and a byte is enough.
pub(super) fn answer(level: c_int, number: c_int, out: &mut [u8]) -> usize {
    if level == libc::IPPROTO_IP
        && (1..size_of::<c_int>()).contains(&out.len())
        && let Ok(byte) = u8::try_from(number)
    {
        return copy(&[byte], out);
    }
    copy(&number.to_ne_bytes(), out)
}

/// Answers with as many bytes as there is room for; returns how many.
pub(super) fn copy(bytes: &[u8], out: &mut [u8]) -> usize {
    let len = bytes.len().min(out.len());
    out[..len].copy_from_slice(&bytes[..len]);
    len
}

/// Two `T`s of a value's start, as its bytes.
pub(super) fn pair<const HALF: usize>(value: &[u8]) -> Result<[[u8; HALF]; 2], Refused> {
    let (first, rest) = value.split_first_chunk().ok_or(Refused::INVALID)?;
    let second = rest.first_chunk().ok_or(Refused::INVALID)?;
    Ok([*first, *second])
}
