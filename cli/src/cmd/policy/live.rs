//! The live policy that commands work on, and versions of it as the user names them.

use std::fs;
use std::path::{Path, PathBuf};

use dmm::policy_store::{Store, Version};

use crate::output::Out;
use crate::{Doing, Error};

/// Which live policy.
#[derive(Debug, clap::Args)]
pub struct LiveArgs {
    /// The file that programs follow [default: /etc/dmm/policy.toml for root, else
    /// ~/.config/dmm/policy.toml].
    #[arg(
        long,
        visible_alias = "to",
        value_name = "PATH",
        env = "DMM_POLICY",
        hide_env_values = true
    )]
    live: Option<PathBuf>,
}

/// A text with a name for it.
pub struct Named {
    pub name: String,
    pub text: String,
}

impl LiveArgs {
    /// The store of the file.
    pub fn store(&self) -> Result<Store, Error> {
        let live = self
            .live
            .clone()
            .unwrap_or_else(dmm::policy_store::live_path);
        Ok(Store::open(&live)?)
    }
}

/// The text in force; a policy that is not there is the built-in one, which has no text.
pub fn current(store: &Store) -> Result<Named, Error> {
    let name = match store.current()? {
        Some(version) => format!("{} (version {})", store.live().display(), version.version),
        None => store.live().display().to_string(),
    };
    let text = store.current_text()?.unwrap_or_default();
    Ok(Named { name, text })
}

/// What `4` or `my.toml` stands for.
pub fn named(store: &Store, what: &str) -> Result<Named, Error> {
    if let Ok(version) = what.parse() {
        let text = store.text(version)?;
        return Ok(Named {
            name: format!("version {version}"),
            text,
        });
    }
    let text = fs::read_to_string(Path::new(what)).doing(|| format!("read {what}"))?;
    Ok(Named {
        name: what.to_owned(),
        text,
    })
}

/// The versions, or an error that says that there are none.
pub fn versions(store: &Store) -> Result<Vec<Version>, Error> {
    let versions = store.versions()?;
    if versions.is_empty() {
        return Err(
            Error::not_so(format!("{} has no versions", store.live().display()))
                .help("dmm policy apply FILE makes the first one"),
        );
    }
    Ok(versions)
}

/// Says how a change went: `version 4 is in force`.
pub fn report(
    applied: &dmm::policy_store::Applied,
    store: &Store,
    out: &mut Out,
) -> Result<(), Error> {
    use std::io::Write;
    if out.is_json() {
        out.json(applied)?;
    } else if applied.changed {
        writeln!(
            out,
            "version {} is in force in {}",
            applied.version.version,
            store.live().display()
        )?;
    } else {
        writeln!(
            out,
            "nothing to do: version {} is in force already",
            applied.version.version
        )?;
    }
    if let Some(why) = &applied.not_posted {
        out.notice(format_args!(
            "the policy could not be posted to the mailbox ({why}); programs that can read {} follow it \
             all the same",
            store.live().display()
        ));
    }
    Ok(())
}
