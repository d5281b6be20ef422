//! The answer to something that a thread asked of a client in the background.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Called once, on whatever thread brings the answer; it must not block.
pub type Waiter = Box<dyn FnOnce() + Send>;

/// An answer that is there or will be. Clones share it; it is taken once.
#[derive(Debug)]
pub struct Call<T>(Arc<Inner<T>>);

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
    Done(T),
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

impl<T> Default for Call<T> {
    fn default() -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State::Waiting(Vec::new())),
            changed: Condvar::new(),
        }))
    }
}

impl<T> Call<T> {
    /// An answer that is there already.
    pub fn ready(value: T) -> Self {
        let call = Self::default();
        call.complete(value);
        call
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the answer. A second one is dropped.
    pub fn complete(&self, value: T) {
        let waiters = {
            let mut state = self.state();
            let State::Waiting(waiters) = &mut *state else {
                return;
            };
            let waiters = std::mem::take(waiters);
            *state = State::Done(value);
            waiters
        };
        self.0.changed.notify_all();
        for waiter in waiters {
            waiter();
        }
    }

    /// Returns whether the answer is there, or was and has been taken.
    pub fn is_done(&self) -> bool {
        !matches!(*self.state(), State::Waiting(_))
    }

    /// Waits for the answer for as long as is given, and returns whether it is there.
    pub fn wait(&self, limit: Duration) -> bool {
        let state = self.state();
        let waits = |state: &mut State<T>| matches!(state, State::Waiting(_));
        let waited = self.0.changed.wait_timeout_while(state, limit, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !matches!(*state, State::Waiting(_))
    }

    /// Calls `waiter` once the answer is there: at once where it is.
    pub fn on_done(&self, waiter: Waiter) {
        let mut state = self.state();
        if let State::Waiting(waiters) = &mut *state {
            waiters.push(waiter);
            return;
        }
        drop(state);
        waiter();
    }

    /// Takes the answer, `None` where it is not there or has been taken.
    pub fn take(&self) -> Option<T> {
        let mut state = self.state();
        if matches!(*state, State::Waiting(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(value) => Some(value),
            State::Waiting(_) | State::Taken => None,
        }
    }
}

impl<T> Call<T> {
    /// Takes the answer where it is there and `wanted` says so.
    pub fn take_if(&self, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut state = self.state();
        if !matches!(&*state, State::Done(value) if wanted(value)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(value) => Some(value),
            State::Waiting(_) | State::Taken => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn an_answer_wakes_whoever_waits_and_is_taken_once() {
        let call = Call::default();
        assert!(!call.wait(Duration::from_millis(1)));

        std::thread::scope(|threads| {
            let waits = threads.spawn(|| call.wait(Duration::from_mins(1)));
            call.complete(7);
            call.complete(8);
            assert!(waits.join().expect("it ends"));
        });

        assert_eq!(call.take(), Some(7));
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
        let call = Call::default();
        call.on_done(waiter());
        call.complete(());
        call.on_done(waiter());
        assert_eq!(called.load(Ordering::Relaxed), 2);
    }
}
