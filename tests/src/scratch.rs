//! A directory of its own for each run of a scenario.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A fresh directory that other users may enter (servers drop their privileges), removed at the end;
/// a failing test leaves it there and says where.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
}

impl Scratch {
    /// Makes the directory.
    ///
    /// # Panics
    /// When the temporary directory cannot be written to.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("dmm-test-")
            .tempdir()
            .expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod 755");
        Self { dir: Some(dir) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.as_ref().expect("present until dropped").path()
    }

    /// Writes `content` to a file `name` below it, that all may read, and returns its path.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod 644");
        path
    }

    /// Makes a directory `name` below it that every user may write to, and returns its path.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn shared_dir(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).expect("chmod 1777");
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = self.dir.take().map(tempfile::TempDir::keep);
            println!(
                "the files of the failed run are in {}",
                kept.unwrap_or_default().display()
            );
        }
    }
}

/// `length` bytes that look random and are the same every time for one `seed` (xorshift64*).
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_the_same_every_time_and_another_for_each_seed() {
        assert_eq!(pattern(1, 100), pattern(1, 200)[..100]);
        assert_ne!(pattern(1, 100), pattern(2, 100));
        assert_eq!(pattern(3, 5).len(), 5);
    }

    #[test]
    fn nothing_is_left_behind() {
        let scratch = Scratch::new();
        let file = scratch.file("name", "content");
        assert_eq!(fs::read(&file).expect("the file"), b"content");
        drop(scratch);
        assert!(!file.exists());
    }
}
