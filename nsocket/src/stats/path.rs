//! Names of segment files: `dmm.PID.RANDOM`, made without an allocation and parsed by the tools.

use std::ffi::CStr;

use rustix::io::Errno;

/// Where segments are, unless `DMM_SHM_DIR` says otherwise.
pub const DEFAULT_DIR: &CStr = c"/dev/shm";

const CAPACITY: usize = 256;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The process number in a segment's file name, or `None` if it is not one.
pub fn pid_of_file_name(name: &str) -> Option<u32> {
    let (pid, random) = name.strip_prefix("dmm.")?.split_once('.')?;
    let plain = !pid.starts_with(['0', '+'])
        && random.len() == 8
        && random.bytes().all(|byte| HEX.contains(&byte));
    plain.then(|| pid.parse().ok())?
}

/// A path in place, with its terminating zero.
pub(super) struct SegmentPath {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl SegmentPath {
    /// `DIR/dmm.PID.RANDOM`.
    pub(super) fn random(dir: &CStr, pid: u32) -> Result<Self, Errno> {
        let mut random = [0; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let mut path = Self {
            bytes: [0; CAPACITY],
            len: 0,
        };
        path.push(dir.to_bytes())?;
        path.push(b"/dmm.")?;
        path.push_decimal(pid)?;
        path.push(b".")?;
        for byte in random {
            path.push(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])?;
        }
        Ok(path)
    }

    pub(super) const fn as_c_str(&self) -> &CStr {
        match CStr::from_bytes_until_nul(&self.bytes) {
            Ok(path) => path,
            Err(_) => c"", // `push` always leaves a zero at the end.
        }
    }

    fn push(&mut self, part: &[u8]) -> Result<(), Errno> {
        let end = self.len + part.len();
        if end >= CAPACITY {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes[self.len..end].copy_from_slice(part);
        self.len = end;
        Ok(())
    }

    fn push_decimal(&mut self, mut number: u32) -> Result<(), Errno> {
        let mut digits = [0; 10];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[start..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_process() {
        let path = SegmentPath::random(c"/dev/shm", 1234).unwrap();
        let text = path.as_c_str().to_str().unwrap();
        let name = text.strip_prefix("/dev/shm/").unwrap();
        assert_eq!(pid_of_file_name(name), Some(1234));
    }

    #[test]
    fn other_files_are_not_segments() {
        for name in [
            "dmm.1",
            "dmm.x.01234567",
            "dmm.1.0123456",
            "dmm.1.0123456z",
            "dmm.+1.01234567",
            "sem.x",
        ] {
            assert_eq!(pid_of_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_long_directory_is_refused() {
        let dir = std::ffi::CString::new("d".repeat(300)).unwrap();
        assert!(SegmentPath::random(&dir, 1).is_err());
    }
}
