//! Versions of one policy: an index of JSON lines, and a file for each text.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use dmm_policy::text_hash;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::file;
use crate::Error;

/// How a version came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// By `dmm policy apply`.
    Apply,
    /// By an edit of the live file.
    Edit,
    /// By `dmm policy rollback`.
    Rollback,
}

/// A version of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number, from 1.
    pub version: u32,
    /// When it was recorded, in milliseconds since the epoch.
    pub time_ms: u64,
    /// Hash of its text (`dmm_policy::text_hash`).
    #[serde(with = "hex")]
    pub text_hash: u64,
    /// How it came to be.
    pub origin: Origin,
    /// The user who recorded it.
    pub uid: u32,
    /// What they said about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// For a rollback: the version that it brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u32>,
}

/// The directory of one policy's versions.
#[derive(Clone, Debug)]
pub(super) struct History {
    dir: PathBuf,
}

impl History {
    pub(super) fn of(live: &Path, state: &Path) -> Self {
        let path = String::from_utf8_lossy(live.as_os_str().as_bytes());
        Self {
            dir: state.join(format!("{:016x}", text_hash(&path))),
        }
    }

    fn index(&self) -> PathBuf {
        self.dir.join("index.jsonl")
    }

    fn text_path(&self, version: u32) -> PathBuf {
        self.dir.join(format!("{version:04}.toml"))
    }

    /// Whether this user may add versions; makes the directory if so.
    pub(super) fn is_writable(&self) -> bool {
        self.create_dir().is_ok()
            && rustix::fs::access(&self.dir, rustix::fs::Access::WRITE_OK).is_ok()
    }

    fn create_dir(&self) -> Result<(), Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.dir)
            .map_err(Error::file("create", &self.dir))
    }

    /// Keeps other writers out until the file is dropped.
    pub(super) fn lock(&self) -> Result<File, Error> {
        self.create_dir()?;
        let path = self.dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| Error::file("lock", &path)(error.into()))?;
        Ok(file)
    }

    /// All versions, oldest first; none if there is no history yet.
    pub(super) fn read(&self) -> Result<Vec<Version>, Error> {
        let path = self.index();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(Error::file("read", &path))?,
        };
        let mut versions: Vec<Version> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let wrong = |message: String| Error::History {
                path: path.clone(),
                line: i + 1,
                message,
            };
            let version: Version =
                serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            if versions
                .last()
                .is_some_and(|last| last.version >= version.version)
            {
                return Err(wrong("versions are not in order".to_owned()));
            }
            versions.push(version);
        }
        Ok(versions)
    }

    pub(super) fn text(&self, version: u32) -> Result<String, Error> {
        let path = self.text_path(version);
        fs::read_to_string(&path).map_err(Error::file("read", &path))
    }

    /// Adds a version after those given. The caller holds the lock.
    pub(super) fn add(
        &self,
        before: &[Version],
        text: &str,
        origin: Origin,
        note: &str,
        restores: Option<u32>,
    ) -> Result<Version, Error> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let version = Version {
            version: before.last().map_or(1, |last| last.version + 1),
            time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            text_hash: text_hash(text),
            origin,
            uid: rustix::process::geteuid().as_raw(),
            note: note.to_owned(),
            restores,
        };
        file::replace(&self.text_path(version.version), text)?;
        let mut index = String::new();
        for line in before.iter().chain([&version]) {
            let line = serde_json::to_string(line).map_err(|error| Error::History {
                path: self.index(),
                line: before.len() + 1,
                message: error.to_string(),
            })?;
            index.push_str(&line);
            index.push('\n');
        }
        file::replace(&self.index(), &index)?;
        Ok(version)
    }
}

/// A hash as sixteen digits: JSON numbers lose the last bits in many readers.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}
