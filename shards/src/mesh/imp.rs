//! One shard's end of the mesh.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::reactor::table::{Key, Table};
use crate::shard::Local;

pub(crate) use super::link::{Link, link};
use super::message::Message;

/// One shard's links to all others, and the calls that it waits for.
pub(crate) struct Mesh {
    /// By shard; none to itself.
    links: Vec<Option<Link>>,
    calls: RefCell<Table<Call>>,
    /// There was traffic since the last sleep.
    busy: Cell<bool>,
}

/// A call under way.
struct Call {
    to: usize,
    answer: Rc<dyn Answer>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The shard has ended.
    Gone,
    /// What was called has not come to its end.
    Unanswered,
}

/// Where an answer goes.
pub(super) trait Answer {
    /// There will be none.
    fn fail(&self, why: Failed);
    fn into_any(self: Rc<Self>) -> Rc<dyn Any>;
}

impl Mesh {
    pub(crate) fn new(links: Vec<Option<Link>>) -> Self {
        Self {
            links,
            calls: RefCell::new(Table::new()),
            busy: Cell::new(false),
        }
    }

    /// Runs the messages that have come; tells whether there were any.
    #[inline]
    pub(crate) fn receive(&self, local: &Rc<Local>) -> bool {
        let mut received = false;
        for (shard, link) in self.links() {
            if link.receive(local) {
                received = true;
            } else if link.notice_gone() {
                self.fail_calls(shard);
            }
        }
        if received {
            self.busy.set(true);
        }
        received
    }

    /// After the tasks' turn: sends what waited, wakes whom something was sent to.
    #[inline]
    pub(crate) fn flush(&self, local: &Rc<Local>) {
        let mut fenced = false;
        for (_, link) in self.links() {
            link.flush(local, &mut fenced);
        }
    }

    /// Before [`Door::lie_down`](crate::wake::door::Door::lie_down).
    #[inline]
    pub(crate) fn prepare_sleep(&self) {
        for (_, link) in self.links() {
            link.prepare_sleep();
        }
    }

    /// Whether the shard has something to do here.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.links()
            .any(|(_, link)| link.has_incoming() || link.has_room_waited_for())
    }

    /// Whether there was traffic since this was last asked, or an answer is waited for: then what comes
    /// next may come soon.
    pub(crate) fn expects_soon(&self) -> bool {
        self.busy.replace(false) || !self.calls.borrow().is_empty()
    }

    /// The core of another shard, if that is pinned; of one that shares `own` only if all do.
    pub(crate) fn other_core(&self, own: Option<u32>) -> Option<u32> {
        let cores = || self.links().filter_map(|(_, link)| link.core());
        cores()
            .find(|core| Some(*core) != own)
            .or_else(|| cores().next())
    }

    /// Wakes the others, as this shard ends.
    pub(crate) fn say_goodbye(&self) {
        for (_, link) in self.links() {
            link.say_goodbye();
        }
    }

    /// The link to another shard: none to itself.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[inline]
    pub(super) fn link(&self, to: usize) -> Option<&Link> {
        let count = self.links.len();
        assert!(to < count, "there is no shard {to}: there are {count}");
        self.links[to].as_ref()
    }

    /// A call to shard `to` begins.
    pub(super) fn enter_call(&self, to: usize, answer: Rc<dyn Answer>) -> Key {
        self.calls.borrow_mut().insert(Call { to, answer })
    }

    /// A call is over, if it was not before.
    pub(super) fn leave_call(&self, key: Key) -> Option<Rc<dyn Answer>> {
        self.calls.borrow_mut().remove(key).map(|call| call.answer)
    }

    /// Sends an answer: now or when there is room.
    #[inline]
    pub(super) fn answer(&self, to: usize, message: Message) {
        if let Some(link) = self.link(to) {
            link.send(message);
        }
    }

    fn links(&self) -> impl Iterator<Item = (usize, &Link)> {
        self.links
            .iter()
            .enumerate()
            .filter_map(|(shard, link)| link.as_ref().map(|link| (shard, link)))
    }

    #[cold]
    fn fail_calls(&self, shard: usize) {
        let failed: Vec<_> = {
            let mut calls = self.calls.borrow_mut();
            let to_it = |key: &Key| calls.find(*key).is_some_and(|call| call.to == shard);
            let keys: Vec<_> = calls.keys().filter(to_it).collect();
            keys.into_iter()
                .filter_map(|key| calls.remove(key))
                .collect()
        };
        for call in failed {
            call.answer.fail(Failed::Gone);
        }
    }
}
