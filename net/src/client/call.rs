//! The answer to something that a thread asked of a client in the background: a [`Call`] waits for it, a
//! [`Promise`] brings it. A promise that is dropped says so, so that nobody waits for a task that is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainspring_core::client::ClientError;

/// Called once, on whatever thread brings the answer; it must not block.
pub type Waiter = Box<dyn FnOnce() + Send>;

/// Why no answer comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Abandoned {
    /// The client has ended.
    #[error("the client has ended")]
    Ended,
    /// The task that ran the client has panicked.
    #[error("a task of the client has panicked; what it said is on standard error")]
    Panicked,
}

impl From<Abandoned> for ClientError {
    fn from(reason: Abandoned) -> Self {
        match reason {
            Abandoned::Ended => Self::Disconnected,
            Abandoned::Panicked => Self::Abandoned,
        }
    }
}

/// Whether a task has panicked, as far as those know who ask something of it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate(Arc<AtomicBool>);

impl Fate {
    /// Returns whether the task has panicked.
    pub(super) fn is_panicked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Gives what is to be dropped before everything that the task holds.
    pub(super) fn watch(&self) -> Watch {
        Watch(self.clone())
    }
}

/// Notes a panic when it is dropped by one.
#[derive(Debug)]
pub(super) struct Watch(Fate);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.store(true, Ordering::Release);
        }
    }
}

/// An answer that is there or will be, or a word that none comes. Clones share it; it is taken once.
#[derive(Debug)]
pub struct Call<T>(Arc<Inner<T>>);

/// The side of a [`Call`] that brings the answer.
#[derive(Debug)]
pub struct Promise<T> {
    inner: Arc<Inner<T>>,
    fate: Fate,
}

impl<T> Clone for Call<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Inner<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

enum State<T> {
    Waiting(Vec<Waiter>),
    Done(Result<T, Abandoned>),
    Taken,
}

impl<T> std::fmt::Debug for State<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting(_) => "Waiting",
            Self::Done(_) => "Done",
            Self::Taken => "Taken",
        })
    }
}

impl<T> Inner<T> {
    fn new(state: State<T>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what there is to bring; what comes second is dropped.
    fn settle(&self, outcome: Result<T, Abandoned>) {
        let waiters = {
            let mut state = self.state();
            let State::Waiting(waiters) = &mut *state else {
                return;
            };
            let waiters = std::mem::take(waiters);
            *state = State::Done(outcome);
            waiters
        };
        self.changed.notify_all();
        for waiter in waiters {
            waiter();
        }
    }
}

impl<T> Promise<T> {
    /// Promises an answer on behalf of a task.
    pub(super) fn new(fate: &Fate) -> Self {
        Self { inner: Inner::new(State::Waiting(Vec::new())), fate: fate.clone() }
    }

    /// Promises an answer that no task brings.
    pub fn detached() -> Self {
        Self::new(&Fate::default())
    }

    /// Gives a side that waits.
    pub fn call(&self) -> Call<T> {
        Call(Arc::clone(&self.inner))
    }

    /// Brings the answer.
    pub fn complete(self, value: T) {
        self.inner.settle(Ok(value));
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let is_panicked = std::thread::panicking() || self.fate.is_panicked();
        let reason = if is_panicked { Abandoned::Panicked } else { Abandoned::Ended };
        self.inner.settle(Err(reason));
    }
}

impl<T> Call<T> {
    /// An answer that is there already.
    pub fn ready(value: T) -> Self {
        Self(Inner::new(State::Done(Ok(value))))
    }

    /// Returns whether the answer is there, or was and has been taken.
    pub fn is_done(&self) -> bool {
        !matches!(*self.0.state(), State::Waiting(_))
    }

    /// Waits for the answer for as long as is given, and returns whether it is there.
    pub fn wait(&self, limit: Duration) -> bool {
        let state = self.0.state();
        let waits = |state: &mut State<T>| matches!(state, State::Waiting(_));
        let waited = self.0.changed.wait_timeout_while(state, limit, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !matches!(*state, State::Waiting(_))
    }

    /// Calls `waiter` once the answer is there: at once where it is.
    pub fn on_done(&self, waiter: Waiter) {
        let mut state = self.0.state();
        if let State::Waiting(waiters) = &mut *state {
            waiters.push(waiter);
            return;
        }
        drop(state);
        waiter();
    }

    /// Takes the answer, `None` where it is not there or has been taken.
    pub fn take(&self) -> Option<Result<T, Abandoned>> {
        self.take_where(|_| true)
    }

    /// Takes the answer where it is there and `wanted` says so.
    pub fn take_if(&self, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        self.take_where(|outcome| outcome.as_ref().is_ok_and(wanted))?.ok()
    }

    fn take_where(
        &self,
        wanted: impl FnOnce(&Result<T, Abandoned>) -> bool,
    ) -> Option<Result<T, Abandoned>> {
        let mut state = self.0.state();
        if !matches!(&*state, State::Done(outcome) if wanted(outcome)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(outcome) => Some(outcome),
            State::Waiting(_) | State::Taken => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn an_answer_wakes_whoever_waits_and_is_taken_once() {
        let promise = Promise::new(&Fate::default());
        let call = promise.call();
        assert!(!call.wait(Duration::from_millis(1)));
        assert_eq!(call.take(), None);

        std::thread::scope(|threads| {
            let waits = threads.spawn(|| call.wait(Duration::from_mins(1)));
            promise.complete(7);
            assert!(waits.join().expect("it ends"));
        });

        assert_eq!(call.take_if(|value| *value == 8), None);
        assert_eq!(call.take(), Some(Ok(7)));
        assert_eq!(call.take(), None);
        assert!(call.is_done());
    }

    #[test]
    fn each_waiter_is_called_once_early_or_late() {
        let called = Arc::new(AtomicUsize::new(0));
        let waiter = || -> Waiter {
            let called = Arc::clone(&called);
            Box::new(move || {
                called.fetch_add(1, Ordering::Relaxed);
            })
        };
        let promise = Promise::new(&Fate::default());
        let call = promise.call();
        call.on_done(waiter());
        promise.complete(());
        call.on_done(waiter());
        assert_eq!(called.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_promise_that_is_dropped_wakes_whoever_waits_and_says_why() {
        let dropped = |promise: Promise<()>| {
            let call = promise.call();
            drop(promise);
            call.take()
        };
        let fate = Fate::default();
        assert_eq!(dropped(Promise::new(&fate)), Some(Err(Abandoned::Ended)));

        let (promise, watch) = (Promise::<()>::new(&fate), fate.watch());
        let call = promise.call();
        std::thread::scope(|threads| {
            let panics = threads.spawn(move || {
                let _holds = (watch, promise);
                panic!("on purpose");
            });
            assert!(call.wait(Duration::from_mins(1)));
            assert!(panics.join().is_err());
        });

        assert_eq!(call.take(), Some(Err(Abandoned::Panicked)));
        // A task that is gone leaves its word to those who ask later.
        assert_eq!(dropped(Promise::new(&fate)), Some(Err(Abandoned::Panicked)));
    }
}
