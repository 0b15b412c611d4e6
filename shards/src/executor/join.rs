//! Waiting for a task's end.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::QueueId;

/// The end of a task, which gives its output. Dropping it leaves the task alone.
///
/// If the task has panicked, awaiting it panics with the same payload.
pub struct JoinHandle<T> {
    /// `None` when it was given away.
    task: Option<async_task::Task<T, QueueId>>,
    /// The output may belong to its shard.
    _not_send: PhantomData<*const ()>,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(task: async_task::Task<T, QueueId>) -> Self {
        Self {
            task: Some(task),
            _not_send: PhantomData,
        }
    }

    /// Drops the task's future at its next turn, and waits until that is done. `Some` if the task had
    /// ended before.
    pub async fn cancel(mut self) -> Option<T> {
        match self.task.take() {
            Some(task) => task.cancel().await,
            None => None,
        }
    }

    /// Drops the task's future at its next turn.
    pub fn abort(mut self) {
        drop(self.task.take());
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(async_task::Task::is_finished)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let task = self.task.as_mut();
        Pin::new(task.expect("a handle has a task unless it was consumed")).poll(cx)
    }
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

impl<T> Unpin for JoinHandle<T> {}
