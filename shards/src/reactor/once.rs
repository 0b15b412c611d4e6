//! An operation with one result, as a future.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::io::Errno;

use crate::wake::slot::WakerSlot;

use super::request::Request;
use super::table::Key;
use super::{Operation, Outcome, Reactor};

/// Waits for the one result of a request, and gives what the request has used back with it.
///
/// Dropping it cancels the request; `payload` is dropped when the kernel has let go of it.
pub(crate) struct Once<P: 'static> {
    reactor: Rc<Reactor>,
    state: Rc<State<P>>,
    key: Key,
}

struct State<P> {
    payload: RefCell<Option<P>>,
    result: Cell<Option<Result<u32, Errno>>>,
    waker: WakerSlot,
}

impl<P> Once<P> {
    /// Submits the request that `request` makes of the payload in its final place.
    ///
    /// # Safety
    ///
    /// What the request points at lies in the payload or is owned by it, and the payload keeps the
    /// request's descriptors open.
    pub(crate) unsafe fn start(
        reactor: &Rc<Reactor>,
        payload: P,
        request: impl FnOnce(&mut P) -> Request,
    ) -> Self {
        let state = Rc::new(State {
            payload: RefCell::new(Some(payload)),
            result: Cell::new(None),
            waker: WakerSlot::new(),
        });
        let request = state.payload.borrow_mut().as_mut().map(request);
        let Some(request) = request else {
            unreachable!("the payload was just put there");
        };
        let operation: Rc<dyn Operation> = Rc::<State<P>>::clone(&state);
        // SAFETY: the payload is the operation's, in its final place; it is taken out of it only after
        // the result was told.
        let key = unsafe { reactor.start(operation, request) };
        Self {
            reactor: Rc::clone(reactor),
            state,
            key,
        }
    }
}

impl<P> Operation for State<P> {
    fn complete(self: Rc<Self>, outcome: Outcome) {
        self.result.set(Some(outcome.result));
        self.waker.wake();
    }
}

impl<P> Future for Once<P> {
    type Output = (Result<u32, Errno>, P);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(result) = self.state.result.get() else {
            self.state.waker.register(cx);
            return Poll::Pending;
        };
        let payload = self.state.payload.borrow_mut().take();
        Poll::Ready((result, payload.expect("polled again after it was ready")))
    }
}

impl<P> Drop for Once<P> {
    fn drop(&mut self) {
        if self.state.result.get().is_none() {
            self.reactor.cancel(self.key);
        }
    }
}
