//! What a shard shows to all threads: an inbox, whether it sleeps, and what wakes it.

use dmm_nsocket::session::waiter::{Asleep, Ringer, SleepWord, fence};

use super::inbox::{Inbox, Taken};

/// The inbox of one sleeper, and its sleep word.
///
/// - Who sends adds to the inbox, then looks at the word.
/// - Who lies down writes the word, then looks at the inbox.
///
/// Between the two steps of either there is a full barrier, so that one of them sees the other. The model
/// (`wake::models`) tries all orders.
#[derive(Debug)]
pub(crate) struct Door<T> {
    inbox: Inbox<T>,
    asleep: Padded<(SleepWord, Ringer)>,
}

/// Apart from other things, as processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T> Door<T> {
    pub(crate) fn new() -> Self {
        Self {
            inbox: Inbox::new(),
            asleep: Padded((SleepWord::new(), Ringer::new())),
        }
    }

    /// Leaves `item` in the inbox, and rings if the sleeper sleeps. From any thread.
    ///
    /// # Errors
    ///
    /// Gives it back if the door is closed.
    pub(crate) fn send(&self, item: T, ring: impl FnOnce()) -> Result<(), T> {
        self.inbox.push(item)?;
        fence::after_update();
        self.ring_if_asleep(ring);
        Ok(())
    }

    /// Rings if the sleeper sleeps and nobody has rung for this sleep. To be called after publishing
    /// something that the sleeper looks at, and a full barrier.
    #[inline]
    pub(crate) fn ring_if_asleep(&self, ring: impl FnOnce()) {
        let (word, ringer) = &self.asleep.0;
        let rung = ringer.ring_if_asleep(word, || {
            ring();
            Ok::<_, std::convert::Infallible>(())
        });
        match rung {
            Ok(_) => {}
            Err(never) => match never {},
        }
    }

    /// The sleeper lies down, unless something was sent or `ready` says that there is work.
    #[inline]
    pub(crate) fn lie_down(&self, ready: impl FnOnce() -> bool) -> Option<Asleep<'_>> {
        let (word, _) = &self.asleep.0;
        word.prepare(|| !self.inbox.is_empty() || ready())
    }

    /// Whether nothing waits in the inbox.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// All that was sent.
    #[inline]
    pub(crate) fn take(&self) -> Taken<T> {
        self.inbox.take()
    }

    /// All that was sent; nothing can be sent any more.
    #[cfg(not(loom))]
    pub(crate) fn close(&self) -> Taken<T> {
        self.inbox.close()
    }
}
