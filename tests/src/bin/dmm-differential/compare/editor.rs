//! Edits a policy file while programs run under it.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::policies::EDITS;

/// Shorter than a sequence takes on average, so that there is no moment that is not hit.
const PAUSE: Duration = Duration::from_millis(3);

/// Replaces the file every moment, as editors do: by a rename. Stops when it is dropped.
pub(super) struct Editor {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Editor {
    /// `text` is the file's own, one of those that it holds in turn.
    pub(super) fn new(file: &Path, text: String) -> Self {
        let (stop, stopped) = mpsc::channel();
        let (file, new) = (file.to_owned(), file.with_extension("new"));
        let thread = thread::spawn(move || {
            let texts = EDITS.into_iter().chain([text.as_str()]).cycle();
            for text in texts {
                if stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
                replace(&file, &new, text);
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say that would change what is compared.
            let _ = thread.join();
        }
    }
}

fn replace(file: &Path, new: &Path, text: &str) {
    // An edit that fails leaves the file as it was, which is one of the texts.
    let _ = fs::write(new, text).and_then(|()| fs::rename(new, file));
}
