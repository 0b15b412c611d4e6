//! One value a shard: services that are spread over all cores and share nothing.

use std::future::Future;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::shard::{Local, current};

use super::call::{CallError, call, run_on};

/// A value on every shard, each made there and used there. The handle goes anywhere; copies name the same
/// values.
pub struct Sharded<T> {
    id: u64,
    _values: PhantomData<fn() -> T>,
}

impl<T> Clone for Sharded<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Sharded<T> {}

impl<T: 'static> Sharded<T> {
    /// Makes a value on every shard with `make`, which is told the shard's index.
    ///
    /// # Errors
    ///
    /// [`CallError`]: if a shard has ended.
    ///
    /// # Panics
    ///
    /// Outside of a shard.
    pub async fn start<F>(make: F) -> Result<Self, CallError>
    where
        F: Fn(usize) -> T + Clone + Send + 'static,
    {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        for shard in 0..current().count() {
            let make = make.clone();
            run_on(shard, move || {
                let value: Rc<T> = Rc::new(make(shard));
                current().services().borrow_mut().insert(id, value);
            })
            .await?;
        }
        Ok(Self {
            id,
            _values: PhantomData,
        })
    }

    /// This shard's value.
    ///
    /// # Panics
    ///
    /// Outside of a shard, and after [`stop`](Self::stop).
    pub fn local(self) -> Rc<T> {
        self.find(&current())
            .expect("the sharded service was stopped")
    }

    /// Runs `use_it` with another shard's value, there, and gives the output of its future.
    ///
    /// # Errors
    ///
    /// If that shard has ended.
    ///
    /// # Panics
    ///
    /// As [`local`](Self::local), on that shard.
    pub async fn on<S, F>(self, shard: usize, use_it: S) -> Result<F::Output, CallError>
    where
        S: FnOnce(Rc<T>) -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        call(shard, move || use_it(self.local())).await
    }

    /// Runs `use_it` on all shards at once, and waits for all.
    ///
    /// # Errors
    ///
    /// [`CallError`]: if a shard has ended; it has run on the others all the same.
    pub async fn broadcast<S, F>(self, use_it: S) -> Result<(), CallError>
    where
        S: FnOnce(Rc<T>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.map_reduce(use_it, (), |(), ()| ()).await
    }

    /// Runs `map` on all shards at once, and combines the outputs in the order of the shards.
    ///
    /// # Errors
    ///
    /// [`CallError`]: if a shard has ended.
    pub async fn map_reduce<S, F, A>(
        self,
        map: S,
        initial: A,
        mut reduce: impl FnMut(A, F::Output) -> A,
    ) -> Result<A, CallError>
    where
        S: FnOnce(Rc<T>) -> F + Clone + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let running: Vec<_> = (0..current().count())
            .map(|shard| crate::executor::spawn(self.on(shard, map.clone())))
            .collect();
        let mut combined = initial;
        let mut gone = None;
        for output in running {
            match output.await {
                Ok(output) => combined = reduce(combined, output),
                Err(error) => gone = gone.or(Some(error)),
            }
        }
        gone.map_or(Ok(combined), Err)
    }

    /// Drops the values on all shards, as soon as nobody uses them.
    ///
    /// # Errors
    ///
    /// [`CallError`]: if a shard has ended, and its value with it.
    pub async fn stop(self) -> Result<(), CallError> {
        for shard in 0..current().count() {
            run_on(shard, move || {
                let value = current().services().borrow_mut().remove(&self.id);
                drop(value);
            })
            .await?;
        }
        Ok(())
    }

    fn find(self, local: &Local) -> Option<Rc<T>> {
        let value = local.services().borrow().get(&self.id).cloned()?;
        value.downcast().ok()
    }
}
