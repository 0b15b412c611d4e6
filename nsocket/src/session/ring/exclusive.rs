//! An end of a ring together with its lock, for ends that several threads or processes share.

use std::ops::{Deref, DerefMut};

use crate::session::lock::{Busy, Guard, Identity};

use super::{Consumer, ConsumerWords, Producer, ProducerWords, Ring};

/// An end that the caller alone uses, until the value is dropped.
///
/// Dropping is a full barrier (sequentially consistent, as
/// [`fence::full`](crate::session::waiter::fence::full)): first publish, then drop, then look who
/// sleeps. Nobody may sleep while holding it.
#[derive(Debug)]
#[must_use = "dropped at once, it does nothing"]
pub struct Exclusive<'a, End> {
    end: End,
    guard: Guard<'a>,
}

impl<'a> Exclusive<'a, Producer<'a>> {
    /// The producing end, if nobody holds it.
    ///
    /// # Errors
    ///
    /// [`Busy`] tells who does.
    ///
    /// # Safety
    ///
    /// Every user of this ring's producing end must use these words.
    #[inline]
    pub unsafe fn try_producer(
        ring: Ring<'a>,
        own: &'a ProducerWords,
        who: Identity,
    ) -> Result<Self, Busy> {
        own.lock
            .try_lock(who)
            .map(|guard| Self::producer_of(ring, own, guard))
    }

    /// The producing end; waits for whoever holds it, as [`LockWords::lock`](crate::session::lock::LockWords::lock) does.
    ///
    /// # Errors
    ///
    /// [`Busy`] tells who does.
    ///
    /// # Safety
    ///
    /// Every user of this ring's producing end must use these words.
    #[inline]
    pub unsafe fn producer(
        ring: Ring<'a>,
        own: &'a ProducerWords,
        who: Identity,
    ) -> Result<Self, Busy> {
        own.lock
            .lock(who)
            .map(|guard| Self::producer_of(ring, own, guard))
    }

    #[inline]
    fn producer_of(ring: Ring<'a>, own: &'a ProducerWords, guard: Guard<'a>) -> Self {
        // SAFETY: the lock keeps others away, by the caller's word.
        let end = unsafe { Producer::new(ring, own) };
        if guard.is_recovered() {
            end.recover();
        }
        Self { end, guard }
    }
}

impl<'a> Exclusive<'a, Consumer<'a>> {
    /// The consuming end, if nobody holds it.
    ///
    /// # Errors
    ///
    /// [`Busy`] tells who does.
    ///
    /// # Safety
    ///
    /// Every user of this ring's consuming end must use these words.
    #[inline]
    pub unsafe fn try_consumer(
        ring: Ring<'a>,
        own: &'a ConsumerWords,
        who: Identity,
    ) -> Result<Self, Busy> {
        own.lock
            .try_lock(who)
            .map(|guard| Self::consumer_of(ring, own, guard))
    }

    /// The consuming end; waits for whoever holds it, as [`LockWords::lock`](crate::session::lock::LockWords::lock) does.
    ///
    /// # Errors
    ///
    /// [`Busy`] tells who does.
    ///
    /// # Safety
    ///
    /// Every user of this ring's consuming end must use these words.
    #[inline]
    pub unsafe fn consumer(
        ring: Ring<'a>,
        own: &'a ConsumerWords,
        who: Identity,
    ) -> Result<Self, Busy> {
        own.lock
            .lock(who)
            .map(|guard| Self::consumer_of(ring, own, guard))
    }

    #[inline]
    fn consumer_of(ring: Ring<'a>, own: &'a ConsumerWords, guard: Guard<'a>) -> Self {
        // SAFETY: the lock keeps others away, by the caller's word.
        let end = unsafe { Consumer::new(ring, own) };
        if guard.is_recovered() {
            end.recover();
        }
        Self { end, guard }
    }
}

impl<End> Exclusive<'_, End> {
    /// Whether whoever held it before has died with it.
    pub const fn is_recovered(&self) -> bool {
        self.guard.is_recovered()
    }
}

impl<End> Deref for Exclusive<'_, End> {
    type Target = End;

    #[inline]
    fn deref(&self) -> &End {
        &self.end
    }
}

impl<End> DerefMut for Exclusive<'_, End> {
    #[inline]
    fn deref_mut(&mut self) -> &mut End {
        &mut self.end
    }
}
