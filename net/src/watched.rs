//! A value that tasks wait on, and that wakes them in the order in which they began to.
//!
//! Tokio's own channel of this kind wakes its waiters in an order that it draws by chance, so a
//! simulated run could not be repeated.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::rt::Notify;

/// Makes a value with its one writer and its first reader.
pub(crate) fn channel<T: Clone>(value: T) -> (Writer<T>, Reader<T>) {
    let state = State { value, is_closed: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), notify: Notify::new() });
    (Writer(Arc::clone(&shared)), Reader(shared))
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    notify: Notify,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    is_closed: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes the value. Once it is dropped the value stays as it is.
#[derive(Debug)]
pub(crate) struct Writer<T>(Arc<Shared<T>>);

impl<T: Clone> Writer<T> {
    /// Changes the value where `change` says that it did, and wakes who waits.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        if change(&mut self.0.lock().value) {
            self.0.notify.notify_waiters();
        }
    }

    /// Returns the value.
    pub(crate) fn get(&self) -> T {
        self.0.lock().value.clone()
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.notify.notify_waiters();
    }
}

/// Sees the value.
#[derive(Debug)]
pub(crate) struct Reader<T>(Arc<Shared<T>>);

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Reader<T> {
    /// Returns the value.
    pub(crate) fn get(&self) -> T {
        self.0.lock().value.clone()
    }

    /// Returns whether the writer is gone.
    #[cfg(not(madsim))]
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().is_closed
    }

    /// Waits until the value is as wanted and returns it; `None` where it never will be, because
    /// the writer is gone.
    pub(crate) async fn wait_for(&self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        loop {
            // Begun before the look at the value, so that no change falls in between.
            let mut changed = std::pin::pin!(self.0.notify.notified());
            changed.as_mut().enable();
            {
                let state = self.0.lock();
                if wanted(&state.value) {
                    return Some(state.value.clone());
                }
                if state.is_closed {
                    return None;
                }
            }
            changed.await;
        }
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;
    use crate::rt;

    #[test]
    fn who_waits_sees_the_value_or_that_it_will_never_come() {
        rt::block_on(async {
            let (writer, reader) = channel(0);
            let waiting = rt::spawn({
                let reader = reader.clone();
                async move { reader.wait_for(|value| *value > 1).await }
            });
            writer.change(|value| {
                *value = 1;
                true
            });
            writer.change(|value| {
                *value = 2;
                true
            });
            assert_eq!(waiting.await.expect("it ends"), Some(2));
            let waiting = rt::spawn({
                let reader = reader.clone();
                async move { reader.wait_for(|value| *value > 2).await }
            });
            drop(writer);
            assert_eq!(waiting.await.expect("it ends"), None);
            assert_eq!(reader.wait_for(|value| *value == 2).await, Some(2));
            assert_eq!(reader.get(), 2);
        })
        .expect("a runtime starts");
    }
}
