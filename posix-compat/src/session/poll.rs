//! What a session is ready for, as the kernel's TCP would say.

use super::pool::Using;

/// The bits of poll(2) and epoll(7), which have the same values, for what is so now. Of what costs a
/// lock only what is wanted is looked at.
pub(super) fn events(using: &Using, wanted: u32) -> u32 {
    let wants_write = wanted & WRITABLE != 0;
    let ready = using.endpoint().ready(wants_write);
    let low_water = using.session().options.receive_low_water();
    let readable = ready.readable
        && (low_water <= 1
            || ready.peer_finished
            || using.endpoint().unread() >= low_water as usize);
    let mut bits = 0;
    if readable || ready.peer_finished {
        bits |= READABLE;
    }
    if ready.writable {
        bits |= WRITABLE;
    }
    if ready.peer_finished {
        bits |= libc::EPOLLRDHUP as u32;
    }
    if ready.hung_up {
        bits |= libc::EPOLLHUP as u32;
    }
    if ready.error {
        bits |= libc::EPOLLERR as u32;
    }
    bits
}

const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;
const WRITABLE: u32 = (libc::EPOLLOUT | libc::EPOLLWRNORM) as u32;
