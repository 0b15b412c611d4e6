//! The requests of ioctl(2) that ask how much is under way (tcp(7)).

use libc::c_int;

use super::Facts;
use super::facts::state;

/// Answers a request: with the `int` to store where the argument points, or the errno. `None` if it is
/// not about the data of the session: it goes to the descriptor.
pub(crate) fn ioctl(facts: &Facts<'_>, request: u32) -> Option<Result<c_int, c_int>> {
    let count = match u64::from(request) {
        libc::FIONREAD => facts.unread,
        libc::TIOCOUTQ => facts.unacknowledged,
        SIOCOUTQNSD => facts.unsent,
        SIOCATMARK => return Some(Ok(c_int::from(facts.at_mark))),
        _ => return None,
    };
    Some(match facts.state {
        state::LISTEN => Err(libc::EINVAL),
        state::SYN_SENT => Ok(0),
        state::CLOSE if u64::from(request) != libc::FIONREAD => Ok(0),
        _ => Ok(c_int::try_from(count).unwrap_or(c_int::MAX)),
    })
}

// Of include/uapi/linux/sockios.h and asm-generic/sockios.h. SIOCINQ is FIONREAD, SIOCOUTQ is TIOCOUTQ.
const SIOCOUTQNSD: u64 = 0x894b;
const SIOCATMARK: u64 = 0x8905;
