//! The live policy: one file that programs follow, and the versions it has had.
//!
//! [`Store::apply`] checks a text, replaces the live file in one step, keeps the version, and posts
//! the compiled policy to the mailbox, so that every running program takes it up. A text with errors
//! changes nothing. Edits by hand are as good: programs see them by themselves, and the store adds
//! them to the history (origin `edit`) when it is next used.
//!
//! ```text
//! $DMM_STATE_DIR, /var/lib/dmm/policy or ~/.local/state/dmm/policy
//!   HASH/              one directory for each live file (hash of its canonical path)
//!     index.jsonl      a line for each version
//!     0001.toml ...    the texts
//! ```

mod file;
mod history;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dmm_nsocket::mailbox::{MailboxPath, MailboxWriter};
use dmm_policy::{Diagnostic, PasswdText, Policy, text_hash};
use rustix::io::Errno;

use crate::{Error, places};
use history::History;

pub use history::{Origin, Version};

/// The file that programs of this user follow when `DMM_POLICY` does not name another:
/// `/etc/dmm/policy.toml` for root, else `dmm/policy.toml` in `$XDG_CONFIG_HOME` or `~/.config`.
/// It need not exist; the built-in policy is in force then.
pub fn live_path() -> PathBuf {
    places::live_policy()
}

/// One live policy file and its history.
#[derive(Clone, Debug)]
pub struct Store {
    live: PathBuf,
    history: History,
    /// Directory of the mailbox.
    shm: PathBuf,
}

/// What [`Store::apply`] and [`Store::rollback`] have done.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Applied {
    /// The version in force now.
    pub version: Version,
    /// The one before, if there was one.
    pub previous: Option<Version>,
    /// False if the text was in force already: nothing was changed.
    pub changed: bool,
    /// Warnings and notes about the policy.
    pub diagnostics: Vec<Diagnostic>,
    /// Why the compiled policy could not be posted to the mailbox. Programs that see the file follow
    /// it all the same; those in another root or without the right to read it do not.
    pub not_posted: Option<String>,
}

impl Store {
    /// The store of a live file, which need not exist yet. A symbolic link is followed, as `apply`
    /// replaces what it points to.
    ///
    /// # Errors
    ///
    /// If the path cannot be made absolute.
    pub fn open(live: &Path) -> Result<Self, Error> {
        let live = file::canonical(live)?;
        let history = History::of(&live, &places::policy_state_dir());
        Ok(Self {
            live,
            history,
            shm: places::shm_dir(),
        })
    }

    /// The live file, without links and dots.
    pub fn live(&self) -> &Path {
        &self.live
    }

    /// The text in force; `None` if there is no live file.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read.
    pub fn current_text(&self) -> Result<Option<String>, Error> {
        file::read_policy(&self.live)
    }

    /// All versions, oldest first. A hand edit since the last look is added before, where this user
    /// may write the history and the text has no errors.
    ///
    /// # Errors
    ///
    /// If the history cannot be read.
    pub fn versions(&self) -> Result<Vec<Version>, Error> {
        if self.history.is_writable() {
            let _lock = self.history.lock()?;
            self.adopt_edit()
        } else {
            self.history.read()
        }
    }

    /// The version in force: the newest one with the live file's text.
    ///
    /// # Errors
    ///
    /// If the live file or the history cannot be read.
    pub fn current(&self) -> Result<Option<Version>, Error> {
        let Some(text) = self.current_text()? else {
            return Ok(None);
        };
        Ok(newest_with(&self.versions()?, text_hash(&text)).cloned())
    }

    /// The newest version with this hash: says which version a running program has.
    ///
    /// # Errors
    ///
    /// If the history cannot be read.
    pub fn with_hash(&self, hash: u64) -> Result<Option<Version>, Error> {
        Ok(newest_with(&self.history.read()?, hash).cloned())
    }

    /// The text of a version.
    ///
    /// # Errors
    ///
    /// [`Error::NoVersion`], or if it cannot be read.
    pub fn text(&self, version: u32) -> Result<String, Error> {
        if !self
            .history
            .read()?
            .iter()
            .any(|known| known.version == version)
        {
            return Err(self.no_version(version));
        }
        self.history.text(version)
    }

    /// The text with this hash: a version's, or that in force if it is not in the history (yet).
    ///
    /// # Errors
    ///
    /// If the history or the live file cannot be read.
    pub fn text_with_hash(&self, hash: u64) -> Result<Option<String>, Error> {
        if let Some(version) = self.with_hash(hash)? {
            return self.history.text(version.version).map(Some);
        }
        Ok(self.current_text()?.filter(|text| text_hash(text) == hash))
    }

    /// Puts a text in force: checks it, replaces the live file, keeps the version, posts it.
    ///
    /// # Errors
    ///
    /// [`Error::PolicyRefused`] if it has errors; the live file is as before. Otherwise if the live
    /// file or the history cannot be written.
    pub fn apply(&self, text: &str, note: &str) -> Result<Applied, Error> {
        self.put(text, Origin::Apply, note, None)
    }

    /// Puts an earlier version in force: the one given, or the one before that in force. Going back
    /// again goes back further.
    ///
    /// # Errors
    ///
    /// [`Error::NoVersion`], [`Error::NoEarlierVersion`], and as [`Store::apply`].
    pub fn rollback(&self, version: Option<u32>, note: &str) -> Result<Applied, Error> {
        let versions = self.versions()?;
        let target = match version {
            Some(version) => versions
                .iter()
                .find(|known| known.version == version)
                .ok_or_else(|| self.no_version(version))?,
            None => self
                .before(&versions)
                .ok_or_else(|| Error::NoEarlierVersion(self.live.clone()))?,
        };
        let text = self.history.text(target.version)?;
        self.put(&text, Origin::Rollback, note, Some(target.version))
    }

    fn put(
        &self,
        text: &str,
        origin: Origin,
        note: &str,
        restores: Option<u32>,
    ) -> Result<Applied, Error> {
        let (policy, diagnostics) = self.check(text)?;
        let _lock = self.history.lock()?;
        let versions = self.adopt_edit()?;
        let in_force = self.current_text()?.map(|text| text_hash(&text));
        let previous = in_force
            .and_then(|hash| newest_with(&versions, hash))
            .cloned();
        let hash = text_hash(text);
        let changed = in_force != Some(hash);
        let version = match &previous {
            Some(same) if !changed => same.clone(),
            _ => {
                // The text is kept before it is in force: no version that ran is ever missing.
                let version = self.history.add(&versions, text, origin, note, restores)?;
                file::replace(&self.live, text)?;
                version
            }
        };
        let not_posted = self.post(&policy, hash).err();
        Ok(Applied {
            version,
            previous,
            changed,
            diagnostics,
            not_posted,
        })
    }

    /// Parses a text as the live policy.
    ///
    /// # Errors
    ///
    /// [`Error::PolicyRefused`] with all that is wrong.
    pub fn check(&self, text: &str) -> Result<(Policy, Vec<Diagnostic>), Error> {
        let file = self.live.display().to_string();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let parsed = dmm_policy::parse_with(text, &file, &PasswdText(&passwd));
        match parsed.policy {
            Some(policy) => Ok((policy, parsed.diagnostics)),
            None => Err(Error::PolicyRefused {
                file,
                text: text.to_owned(),
                diagnostics: parsed.diagnostics,
            }),
        }
    }

    /// Adds the live file to the history if it was edited by hand, without errors, since the last
    /// version. The caller holds the lock.
    fn adopt_edit(&self) -> Result<Vec<Version>, Error> {
        let mut versions = self.history.read()?;
        if let Some(text) = self.current_text()?
            && versions.last().map(|last| last.text_hash) != Some(text_hash(&text))
            && self.check(&text).is_ok()
        {
            let version = self.history.add(&versions, &text, Origin::Edit, "", None)?;
            versions.push(version);
        }
        Ok(versions)
    }

    fn before<'v>(&self, versions: &'v [Version]) -> Option<&'v Version> {
        let hash = text_hash(&self.current_text().ok()??);
        let current = newest_with(versions, hash)?;
        let origin = current.restores.unwrap_or(current.version);
        versions.iter().rfind(|known| {
            known.version < origin && known.restores.is_none() && known.text_hash != hash
        })
    }

    /// Posts a policy to the mailbox, or says why that cannot be.
    fn post(&self, policy: &Policy, hash: u64) -> Result<(), String> {
        let metadata = std::fs::metadata(&self.live).map_err(|error| error.to_string())?;
        let path = places::c_path(&self.shm)
            .and_then(|dir| {
                MailboxPath::new(&dir, metadata.uid(), self.live.as_os_str().as_bytes())
            })
            .ok_or_else(|| format!("{} cannot hold a mailbox", self.shm.display()))?;
        let everybody_reads = metadata.mode() & 0o004 != 0;
        MailboxWriter::open(&path, everybody_reads)
            .and_then(|writer| writer.post(policy.compile().as_bytes(), hash))
            .map(drop)
            .map_err(|error| match error {
                Errno::PERM if metadata.uid() != rustix::process::geteuid().as_raw() => {
                    format!(
                        "only the owner of the policy (uid {}) may post it",
                        metadata.uid()
                    )
                }
                error => format!("{:?}: {error}", path.as_c_str()),
            })
    }

    fn no_version(&self, version: u32) -> Error {
        Error::NoVersion {
            version,
            live: self.live.clone(),
        }
    }
}

fn newest_with(versions: &[Version], hash: u64) -> Option<&Version> {
    versions.iter().rfind(|version| version.text_hash == hash)
}

#[cfg(test)]
mod tests;
