//! Running something on another shard, and its answer.

use std::any::Any;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;

use crate::executor::spawn_on;
use crate::reactor::table::Key;
use crate::shard::{Local, current, with_current};
use crate::wake::slot::WakerSlot;

use super::imp::{Answer, Failed};
use super::message::Message;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The shard has ended, with or without having done what it was asked for.
    #[error("shard {shard} has ended")]
    Gone {
        /// Which shard.
        shard: usize,
    },
    /// What was called has not come to its end: it has panicked, or its shard was ended meanwhile.
    #[error("what was called on shard {shard} has panicked, or was ended with its shard")]
    Unanswered {
        /// Which shard.
        shard: usize,
    },
}

/// Why a message was not sent. It comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError<F> {
    /// The ring to that shard is full.
    #[error("the ring to the shard is full")]
    Full(F),
    /// The shard has ended.
    #[error("the shard has ended")]
    Gone(F),
}

/// Runs a future on another shard and gives its output.
///
/// `start` is run there; what it makes need not be `Send`. Waits for room in the ring if there is none.
/// When this future is dropped, what was started goes on, and its output is dropped.
///
/// # Errors
///
/// If that shard has ended, or what was called has panicked.
///
/// # Panics
///
/// Outside of a shard, or if there is no shard `to`.
pub async fn call<S, F>(to: usize, start: S) -> Result<F::Output, CallError>
where
    S: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let local = current();
    if local.mesh().link(to).is_none() {
        return Ok(start().await);
    }
    let from = local.index();
    let call = Waiting::enter(&local, to);
    let key = call.key;
    local
        .deliver(to, move |there: &Rc<Local>| {
            let guard = Unanswered {
                local: Rc::clone(there),
                to: from,
                key: Some(key),
            };
            drop(spawn_on(there, 0, async move {
                let value = start().await;
                guard.answer(value);
            }));
        })
        .await?;
    call.answer().await
}

/// Runs a function on another shard, between its tasks, and gives its result. For what is short; cheaper
/// than [`call`].
///
/// # Errors
///
/// If that shard has ended, or what was called has panicked.
///
/// # Panics
///
/// Outside of a shard, or if there is no shard `to`.
pub async fn run_on<F, T>(to: usize, function: F) -> Result<T, CallError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let local = current();
    if local.mesh().link(to).is_none() {
        return Ok(function());
    }
    let from = local.index();
    let call = Waiting::enter(&local, to);
    let key = call.key;
    local
        .deliver(to, move |there: &Rc<Local>| {
            match there.run_caught(function) {
                Some(value) => answer(there, from, key, value),
                None => answer_not(there, from, key),
            }
        })
        .await?;
    call.answer().await
}

/// Runs a function on another shard, between its tasks, without an answer. Waits for room in the ring.
///
/// # Errors
///
/// If that shard has ended. That there is none does not mean that it has run: see [`run_on`].
///
/// # Panics
///
/// Outside of a shard, or if there is no shard `to`.
pub async fn send<F: FnOnce() + Send + 'static>(to: usize, function: F) -> Result<(), CallError> {
    let local = current();
    if local.mesh().link(to).is_none() {
        function();
        return Ok(());
    }
    local
        .deliver(to, move |there: &Rc<Local>| {
            there.run_caught(function);
        })
        .await
}

/// As [`send`], at once or not at all.
///
/// # Errors
///
/// If there is no room, or the shard has ended.
///
/// # Panics
///
/// Outside of a shard, or if there is no shard `to`.
#[inline]
pub fn try_send<F: FnOnce() + Send + 'static>(
    to: usize,
    function: F,
) -> Result<(), TrySendError<F>> {
    with_current(|local| {
        let local = local.expect("messages are sent from a shard");
        let Some(link) = local.mesh().link(to) else {
            function();
            return Ok(());
        };
        if link.is_gone() {
            return Err(TrySendError::Gone(function));
        }
        let mut function = Some(function);
        let sent = link.try_send_with(|| {
            let function = function.take();
            Message::new(move |there: &Rc<Local>| {
                if let Some(function) = function {
                    there.run_caught(function);
                }
            })
        });
        match function {
            Some(function) if !sent => Err(TrySendError::Full(function)),
            _ => Ok(()),
        }
    })
}

impl Local {
    /// Runs what came in a message. A panic in it is counted, and ends neither the shard nor the messages
    /// behind.
    #[inline]
    fn run_caught<T>(&self, function: impl FnOnce() -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(function));
        if result.is_err() {
            self.executor().count_panic();
        }
        result.ok()
    }

    /// Sends a message, when there is room.
    async fn deliver<F: FnOnce(&Rc<Self>) + Send + 'static>(
        &self,
        to: usize,
        function: F,
    ) -> Result<(), CallError> {
        let Some(link) = self.mesh().link(to) else {
            return Ok(());
        };
        let mut message = Some(Message::new(function));
        poll_fn(|cx| {
            if link.is_gone() {
                return Poll::Ready(Err(CallError::Gone { shard: to }));
            }
            match message.take().map(|message| link.try_send(message)) {
                None | Some(Ok(())) => Poll::Ready(Ok(())),
                Some(Err(back)) => {
                    message = Some(back);
                    link.wait_for_room(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// On the shard that was called: the answer goes back.
fn answer<T: Send + 'static>(local: &Local, to: usize, key: Key, value: T) {
    let message = Message::new(move |there: &Rc<Local>| {
        if let Some(slot) = there.mesh().leave_call(key)
            && let Ok(slot) = slot.into_any().downcast::<Slot<T>>()
        {
            slot.fill(Ok(value));
        }
    });
    local.mesh().answer(to, message);
}

/// On the shard that was called: there is no answer.
#[cold]
fn answer_not(local: &Local, to: usize, key: Key) {
    let message = Message::new(move |there: &Rc<Local>| {
        if let Some(slot) = there.mesh().leave_call(key) {
            slot.fail(Failed::Unanswered);
        }
    });
    local.mesh().answer(to, message);
}

/// A call that runs here: dropped, it tells that there will be no answer.
struct Unanswered {
    local: Rc<Local>,
    to: usize,
    /// `None` when it was answered.
    key: Option<Key>,
}

impl Unanswered {
    fn answer<T: Send + 'static>(mut self, value: T) {
        if let Some(key) = self.key.take() {
            answer(&self.local, self.to, key, value);
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            answer_not(&self.local, self.to, key);
        }
    }
}

/// Where the answer of one call is waited for.
struct Slot<T> {
    value: Cell<Option<Result<T, Failed>>>,
    waker: WakerSlot,
}

impl<T> Slot<T> {
    fn fill(&self, value: Result<T, Failed>) {
        self.value.set(Some(value));
        self.waker.wake();
    }
}

impl<T: 'static> Answer for Slot<T> {
    fn fail(&self, why: Failed) {
        self.fill(Err(why));
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

/// A call that is waited for; dropping it forgets the answer.
struct Waiting<'a, T> {
    local: &'a Local,
    to: usize,
    key: Key,
    slot: Rc<Slot<T>>,
}

impl<'a, T: 'static> Waiting<'a, T> {
    fn enter(local: &'a Local, to: usize) -> Self {
        let slot = Rc::new(Slot {
            value: Cell::new(None),
            waker: WakerSlot::new(),
        });
        let answer: Rc<dyn Answer> = Rc::<Slot<T>>::clone(&slot);
        Self {
            local,
            to,
            key: local.mesh().enter_call(to, answer),
            slot,
        }
    }

    async fn answer(self) -> Result<T, CallError> {
        let value = poll_fn(|cx| match self.slot.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                self.slot.waker.register(cx);
                Poll::Pending
            }
        })
        .await;
        let shard = self.to;
        value.map_err(|failed| match failed {
            Failed::Gone => CallError::Gone { shard },
            Failed::Unanswered => CallError::Unanswered { shard },
        })
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        drop(self.local.mesh().leave_call(self.key));
    }
}
