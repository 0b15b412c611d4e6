//! What counts as ready: for poll(2) whatever was asked for, for select(2) what fs/select.c says.

use std::ffi::c_short;

/// What counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// poll(2): whatever was asked for, and what need not be.
    Poll,
    /// select(2): a descriptor counts in each set that it was asked for in.
    Select,
}

/// The bits that make up the sets of select(2): fs/select.c.
pub(super) const READ_SET: c_short =
    libc::POLLRDNORM | libc::POLLRDBAND | libc::POLLIN | libc::POLLHUP | libc::POLLERR;
pub(super) const WRITE_SET: c_short =
    libc::POLLWRBAND | libc::POLLWRNORM | libc::POLLOUT | libc::POLLERR;
pub(super) const EXCEPT_SET: c_short = libc::POLLPRI;

/// What asks for a set: without POLLHUP and POLLERR, which are told unasked.
pub(super) const ASK_READ: c_short = READ_SET & !(libc::POLLHUP | libc::POLLERR);
pub(super) const ASK_WRITE: c_short = WRITE_SET & !libc::POLLERR;
pub(super) const ASK_EXCEPT: c_short = EXCEPT_SET;

impl Style {
    /// What an outcome adds to the call's result.
    pub(super) fn weight(self, wanted: c_short, revents: c_short) -> usize {
        match self {
            Self::Poll => usize::from(revents != 0),
            Self::Select => [
                (ASK_READ, READ_SET),
                (ASK_WRITE, WRITE_SET),
                (ASK_EXCEPT, EXCEPT_SET),
            ]
            .into_iter()
            .filter(|(ask, set)| wanted & ask != 0 && revents & set != 0)
            .count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hanging_up_counts_where_it_does_in_linux() {
        let hung_up = libc::POLLHUP;
        assert_eq!(Style::Poll.weight(0, hung_up), 1);
        assert_eq!(Style::Select.weight(ASK_READ, hung_up), 1);
        assert_eq!(Style::Select.weight(ASK_WRITE | ASK_EXCEPT, hung_up), 0);
    }

    #[test]
    fn a_descriptor_counts_once_in_each_set() {
        let all = ASK_READ | ASK_WRITE | ASK_EXCEPT;
        let ready = libc::POLLIN | libc::POLLOUT | libc::POLLPRI;
        assert_eq!(Style::Select.weight(all, ready), 3);
        assert_eq!(Style::Select.weight(all, libc::POLLERR), 2);
        assert_eq!(Style::Poll.weight(all, ready), 1);
    }
}
