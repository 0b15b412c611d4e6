//! The names of rendezvous: in the abstract namespace of Unix sockets (unix(7)).
//!
//! ```text
//! \0dmm/1/tcp/00000000000aaaf9       the socket with that cookie listens
//! \0dmm/1/host/blue                  the stack host of an instance
//! ```
//!
//! The number is the version of what is spoken there.

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use super::owner::Cookie;

const TCP: &[u8] = b"dmm/1/tcp/";
const HOST: &[u8] = b"dmm/1/host/";

/// The longest name of a stack instance that has a rendezvous, in bytes.
pub const MAX_HOST: usize = 80;

/// The name of a rendezvous.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; HOST.len() + MAX_HOST],
    len: u8,
}

impl Name {
    /// Of whoever listens with the TCP socket of this cookie.
    pub fn listener(cookie: Cookie) -> Self {
        let mut name = Self::empty();
        name.push(TCP);
        for shift in (0..16).rev() {
            name.push(&[b"0123456789abcdef"[(cookie.0 >> (4 * shift)) as usize & 15]]);
        }
        name
    }

    /// Of the host of a stack instance; `None` if the instance's name is empty or too long.
    pub fn host(instance: &str) -> Option<Self> {
        if instance.is_empty() || instance.len() > MAX_HOST {
            return None;
        }
        let mut name = Self::empty();
        name.push(HOST);
        name.push(instance.as_bytes());
        Some(name)
    }

    /// As a socket address.
    ///
    /// # Errors
    ///
    /// None in practice: every name is short enough.
    pub fn address(&self) -> Result<SocketAddrUnix, Errno> {
        SocketAddrUnix::new_abstract_name(self.as_bytes())
    }

    /// Without the zero byte in front.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    const fn empty() -> Self {
        Self {
            bytes: [0; HOST.len() + MAX_HOST],
            len: 0,
        }
    }

    fn push(&mut self, part: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + part.len()].copy_from_slice(part);
        self.len += part.len() as u8;
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "@{}", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_documentation_says() {
        let name = Name::listener(Cookie(0xaaaf9));
        assert_eq!(format!("{name:?}"), "@dmm/1/tcp/00000000000aaaf9");
        let name = Name::host("blue").unwrap();
        assert_eq!(format!("{name:?}"), "@dmm/1/host/blue");
        assert_eq!(
            name.address().unwrap().abstract_name(),
            Some(name.as_bytes())
        );
    }

    #[test]
    fn an_instance_without_or_with_a_very_long_name_has_none() {
        assert_eq!(Name::host(""), None);
        let longest = "x".repeat(MAX_HOST);
        Name::host(&longest).unwrap().address().unwrap();
        assert_eq!(Name::host(&format!("{longest}x")), None);
    }
}
