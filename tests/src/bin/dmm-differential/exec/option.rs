//! Socket options, as set and as read back.

use libc::{c_int, c_void, socklen_t};

use super::Executor;
use crate::op::{Slot, Value};
use crate::sys::{call, wild};

/// Options whose value is the policy's business and so may differ: `(level, name)`. Whether the
/// call works, and with which errno, is compared all the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask(pub(crate) Vec<(c_int, c_int)>);

/// Options whose value depends on time or on the machine.
const UNSTEADY: [(c_int, c_int); 4] = [
    (libc::SOL_SOCKET, libc::SO_INCOMING_CPU),
    (libc::SOL_SOCKET, libc::SO_COOKIE),
    (libc::IPPROTO_TCP, libc::TCP_INFO),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
];

impl Executor<'_> {
    pub(super) fn set_option(&mut self, s: Slot, level: c_int, name: c_int, value: Value) {
        let (bytes, len): (Vec<u8>, u32) = match value {
            Value::Int(n) => (n.to_ne_bytes().to_vec(), 4),
            Value::Byte(n) => (vec![n], 1),
            Value::Linger(on, secs) => ([on.to_ne_bytes(), secs.to_ne_bytes()].concat(), 8),
            Value::Millis(ms) => (
                [(ms / 1000).to_ne_bytes(), (ms % 1000 * 1000).to_ne_bytes()].concat(),
                16,
            ),
            Value::Text(text) => (text.as_bytes().to_vec(), text.len() as u32),
            Value::Membership => ([[224, 0, 0, 5], [127, 0, 0, 1]].concat(), 8),
            Value::Length(n, len) => {
                let mut bytes = n.to_ne_bytes().to_vec();
                bytes.resize(bytes.len().max(256), 0);
                (bytes, len)
            }
            Value::Null(len) => (Vec::new(), len),
            Value::Wild => (Vec::new(), 4),
        };
        let pointer: *const c_void = match value {
            Value::Null(_) => std::ptr::null(),
            Value::Wild => wild(),
            _ => bytes.as_ptr().cast(),
        };
        let fd = self.fd(s);
        let result = call!(libc::setsockopt, fd, level, name, pointer, len);
        self.result(result);
        if result == 0 && is_buffer_size(level, name) {
            self.sized.push(fd);
        }
    }

    pub(super) fn option(&mut self, s: Slot, level: c_int, name: c_int, room: c_int) {
        let mut bytes = [0xaa_u8; 512];
        let mut len = room as socklen_t;
        let place: *mut c_void = match room {
            -2 => wild(),
            _ => bytes.as_mut_ptr().cast(),
        };
        let len_place = if room == -3 {
            std::ptr::null_mut()
        } else {
            &raw mut len
        };
        let result = call!(libc::getsockopt, self.fd(s), level, name, place, len_place);
        self.result(result);
        if result != 0 {
            return;
        }
        let hidden = UNSTEADY.contains(&(level, name))
            || self.setting.mask.0.contains(&(level, name))
            || (is_buffer_size(level, name) && !self.sized.contains(&self.fd(s)));
        if hidden {
            self.note(format_args!(" len>0 {}", len > 0));
            return;
        }
        let mut value = &bytes[..(len as usize).min(bytes.len())];
        if (level, name) == (libc::SOL_SOCKET, libc::SO_PEERCRED) {
            let pid = value.len().min(4);
            let own = value[..pid] == std::process::id().to_ne_bytes()[..pid];
            self.note(format_args!(" own pid {own}"));
            value = &value[pid..];
        }
        let text: Vec<String> = value.iter().map(|byte| format!("{byte:02x}")).collect();
        let beyond = bytes[len.min(512) as usize..]
            .iter()
            .any(|&byte| byte != 0xaa);
        let overrun = if beyond { " OVERRUN" } else { "" };
        self.note(format_args!(" {len} [{}]{overrun}", text.concat()));
    }
}

fn is_buffer_size(level: c_int, name: c_int) -> bool {
    level == libc::SOL_SOCKET && (name == libc::SO_SNDBUF || name == libc::SO_RCVBUF)
}
