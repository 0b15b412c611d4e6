//! The two rings between this shard and another one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::shard::{Beacon, Local};
use crate::sync::Arc;

use super::gate::Gate;
use super::message::Message;

/// Messages that are run before the shard's tasks have their turn.
const BATCH: usize = 256;

/// One shard's ends of the rings to and from another.
pub(crate) struct Link {
    outgoing: RefCell<Producer<Message>>,
    incoming: RefCell<Consumer<Message>>,
    /// Beside the outgoing ring: this shard waits for room.
    outgoing_gate: Arc<Gate>,
    /// Beside the incoming one: the other does.
    incoming_gate: Arc<Gate>,
    /// The other shard.
    beacon: Arc<Beacon>,
    /// What found no room and may not wait for it.
    overflow: RefCell<VecDeque<Message>>,
    /// Tasks that wait for room.
    waiting: RefCell<VecDeque<Waker>>,
    /// Something was sent since the other shard's sleep was looked at.
    touched: Cell<bool>,
    gone: Cell<bool>,
}

/// The links between two shards: the first is for shard `a`.
pub(crate) fn link(a: &Arc<Beacon>, b: &Arc<Beacon>, capacity: usize) -> (Link, Link) {
    let (to_b, from_a) = RingBuffer::new(capacity);
    let (to_a, from_b) = RingBuffer::new(capacity);
    let (gate_ab, gate_ba) = (Arc::new(Gate::new()), Arc::new(Gate::new()));
    let new =
        |outgoing, incoming, outgoing_gate: &Arc<Gate>, incoming_gate: &Arc<Gate>, other| Link {
            outgoing: RefCell::new(outgoing),
            incoming: RefCell::new(incoming),
            outgoing_gate: Arc::clone(outgoing_gate),
            incoming_gate: Arc::clone(incoming_gate),
            beacon: Arc::clone(other),
            overflow: RefCell::default(),
            waiting: RefCell::default(),
            touched: Cell::new(false),
            gone: Cell::new(false),
        };
    (
        new(to_b, from_b, &gate_ab, &gate_ba, b),
        new(to_a, from_a, &gate_ba, &gate_ab, a),
    )
}

impl Link {
    /// Sends, if there is room.
    #[inline]
    pub(super) fn try_send(&self, message: Message) -> Result<(), Message> {
        if !self.overflow.borrow().is_empty() {
            return Err(message);
        }
        match self.outgoing.borrow_mut().push(message) {
            Ok(()) => {
                self.touched.set(true);
                Ok(())
            }
            Err(PushError::Full(message)) => Err(message),
        }
    }

    /// Makes a message and sends it, if there is room. Tells whether there was.
    #[inline]
    pub(super) fn try_send_with(&self, message: impl FnOnce() -> Message) -> bool {
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.is_full() || !self.overflow.borrow().is_empty() {
            return false;
        }
        // There is room, and this is the only producer.
        let sent = outgoing.push(message()).is_ok();
        self.touched.set(true);
        sent
    }

    /// Sends now or, without room, when there is some.
    #[inline]
    pub(super) fn send(&self, message: Message) {
        if let Err(message) = self.try_send(message) {
            self.overflow.borrow_mut().push_back(message);
        }
    }

    /// The task of this waker waits for room.
    pub(super) fn wait_for_room(&self, waker: Waker) {
        self.waiting.borrow_mut().push_back(waker);
    }

    /// The core that the other shard is pinned to.
    pub(super) fn core(&self) -> Option<u32> {
        self.beacon.core()
    }

    /// Whether the other shard has ended.
    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Runs what has come; tells whether there was something.
    #[inline]
    pub(super) fn receive(&self, local: &Rc<Local>) -> bool {
        {
            let mut incoming = self.incoming.borrow_mut();
            let count = incoming.slots().min(BATCH);
            let Ok(messages) = incoming.read_chunk(count) else {
                return false;
            };
            if messages.is_empty() {
                return false;
            }
            // The ring is held meanwhile: nothing that a message does receives messages.
            for message in messages {
                message.run(local);
            }
        }
        self.incoming_gate.made_room(self.beacon.door(), || {
            self.beacon.ring_from(local.reactor());
        });
        true
    }

    /// Whether something has come.
    #[inline]
    pub(super) fn has_incoming(&self) -> bool {
        !self.incoming.borrow().is_empty()
    }

    /// Moves what found no room before, and lets tasks try again. Then looks whether the other shard has to
    /// be woken; `fenced`: there was a barrier since the last message.
    #[inline]
    pub(super) fn flush(&self, local: &Rc<Local>, fenced: &mut bool) {
        if self.is_blocked() {
            self.use_room();
        }
        if self.touched.replace(false) {
            if !std::mem::replace(fenced, true) {
                dmm_nsocket::session::waiter::fence::full();
            }
            let ring = || self.beacon.ring_from(local.reactor());
            self.beacon.door().ring_if_asleep(ring);
        }
    }

    /// Before the shard lies down: shows the other one that room is waited for.
    #[inline]
    pub(super) fn prepare_sleep(&self) {
        self.outgoing_gate.set_blocked(self.is_blocked());
    }

    /// Whether there is room that is waited for.
    #[inline]
    pub(super) fn has_room_waited_for(&self) -> bool {
        self.is_blocked() && !self.outgoing.borrow().is_full()
    }

    /// Notices that the other shard has ended. Tells when it is noticed.
    pub(super) fn notice_gone(&self) -> bool {
        let ended = self.beacon.has_ended() && !self.has_incoming();
        if self.gone.get() || !ended {
            return false;
        }
        self.gone.set(true);
        self.overflow.borrow_mut().clear();
        self.wake_waiting();
        true
    }

    fn is_blocked(&self) -> bool {
        let nothing_waits = self.overflow.borrow().is_empty() && self.waiting.borrow().is_empty();
        !nothing_waits && !self.gone.get()
    }

    #[cold]
    fn use_room(&self) {
        let mut outgoing = self.outgoing.borrow_mut();
        let mut overflow = self.overflow.borrow_mut();
        while !outgoing.is_full() {
            let Some(message) = overflow.pop_front() else {
                break;
            };
            // There is room, and this is the only producer.
            let _ = outgoing.push(message);
            self.touched.set(true);
        }
        if !outgoing.is_full() {
            self.wake_waiting();
        }
    }

    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Wakes the other shard because this one ends.
    pub(super) fn say_goodbye(&self) {
        self.beacon.ring();
    }
}
