//! Answers that a program waits for, in a thread or in an event loop.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainspring_net::client::call::{Call as NetCall, Waiter};
use pyo3::prelude::*;

use crate::errors::{abandoned, error};
use crate::guard::guarded;
use crate::producer::Delivery;
use crate::runtime::{seconds, wait};

/// What is waited for, whatever its type.
trait Pending: Send + Sync {
    fn is_done(&self) -> bool;
    fn wait(&self, limit: Duration) -> bool;
    fn on_done(&self, waiter: Waiter);
    fn take(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>>;
}

type Convert<T> = Box<dyn Fn(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + Sync>;

struct Converted<T> {
    call: NetCall<T>,
    convert: Convert<T>,
}

impl<T: Send> Pending for Converted<T> {
    fn is_done(&self) -> bool {
        self.call.is_done()
    }

    fn wait(&self, limit: Duration) -> bool {
        self.call.wait(limit)
    }

    fn on_done(&self, waiter: Waiter) {
        self.call.on_done(waiter);
    }

    fn take(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        self.call.take().map(|outcome| match outcome {
            Ok(value) => (self.convert)(py, value),
            Err(reason) => Err(abandoned(py, reason)),
        })
    }
}

/// An answer that is there or will be.
#[pyclass(frozen, module = "mainspring._native")]
pub(crate) struct Call {
    pending: Box<dyn Pending>,
    /// What is to be done where nobody waits for it any more.
    give_up: Option<GiveUp>,
}

type GiveUp = Box<dyn Fn() + Send + Sync>;

impl Call {
    /// Wraps a call; `convert` makes its answer one of Python's.
    pub(crate) fn new<T: Send + 'static>(
        call: NetCall<T>,
        convert: impl Fn(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + Sync + 'static,
    ) -> Self {
        let pending = Box::new(Converted { call, convert: Box::new(convert) });
        Self { pending, give_up: None }
    }

    /// Says what is to be done where nobody waits for it any more.
    pub(crate) fn or_else(self, give_up: impl Fn() + Send + Sync + 'static) -> Self {
        Self { give_up: Some(Box::new(give_up)), ..self }
    }

    /// Wraps a call whose answer says nothing.
    pub(crate) fn unit(call: NetCall<()>) -> Self {
        Self::new(call, |py, ()| Ok(py.None()))
    }

    /// Wraps a call that answers how many there are.
    pub(crate) fn number(call: NetCall<usize>) -> Self {
        Self::new(call, |py, count| Ok(count.into_pyobject(py)?.into_any().unbind()))
    }

    /// Calls `waiter` once it is done.
    pub(crate) fn on_done(&self, waiter: Waiter) {
        self.pending.on_done(waiter);
    }
}

#[pymethods]
impl Call {
    /// Whether the answer is there.
    fn done(&self) -> bool {
        self.pending.is_done()
    }

    /// Waits for it, for so many seconds, and tells whether it is there.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        guarded(|| {
            let limit = seconds(py, timeout)?;
            wait(py, limit, |slice| self.pending.wait(slice))
        })
    }

    /// Says that nobody waits for it any more, and that what it began is to be undone.
    fn give_up(&self) {
        if let Some(give_up) = &self.give_up {
            give_up();
        }
    }

    /// Takes it; to be called once.
    fn take(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        guarded(|| {
            self.pending.take(py).unwrap_or_else(|| {
                Err(error(py, "InternalError", &"an answer was taken that was not there"))
            })
        })
    }
}

/// Brings answers to one event loop: a descriptor becomes readable when some have come.
#[pyclass(frozen, module = "mainspring._native")]
pub(crate) struct Bridge {
    reader: UnixStream,
    sender: Arc<Sender>,
    futures: Mutex<Futures>,
}

#[derive(Default)]
struct Futures {
    slots: Vec<Option<Py<PyAny>>>,
    free: Vec<usize>,
}

struct Sender {
    writer: UnixStream,
    done: Mutex<Vec<usize>>,
}

impl Sender {
    fn push(&self, slot: usize) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.push(slot);
        let is_first = done.len() == 1;
        drop(done);
        if is_first {
            // A loop that is closed reads nothing; a full buffer wakes it all the same.
            let _ = (&self.writer).write(&[1]);
        }
    }
}

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Self> {
        guarded(|| {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            writer.set_nonblocking(true)?;
            let sender = Arc::new(Sender { writer, done: Mutex::default() });
            Ok(Self { reader, sender, futures: Mutex::default() })
        })
    }

    /// The descriptor to be watched for reading.
    fn fileno(&self) -> i32 {
        self.reader.as_raw_fd()
    }

    /// How many futures wait to be resolved.
    fn __len__(&self) -> usize {
        let futures = self.futures.lock().unwrap_or_else(PoisonError::into_inner);
        futures.slots.len() - futures.free.len()
    }

    /// Resolves `future` with `None` in [`Bridge::drain`], once the source is done.
    fn watch(&self, source: &Bound<'_, PyAny>, future: Py<PyAny>) -> PyResult<()> {
        guarded(|| {
            let slot = {
                let mut futures = self.futures.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(slot) = futures.free.pop() {
                    futures.slots[slot] = Some(future);
                    slot
                } else {
                    futures.slots.push(Some(future));
                    futures.slots.len() - 1
                }
            };
            let sender = Arc::clone(&self.sender);
            let waiter: Waiter = Box::new(move || sender.push(slot));
            if let Ok(delivery) = source.cast::<Delivery>() {
                delivery.get().on_done(waiter);
            } else {
                source.cast::<Call>()?.get().on_done(waiter);
            }
            Ok(())
        })
    }

    /// Resolves the futures whose sources are done. To be called on the loop's thread.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        guarded(|| {
            let mut bytes = [0; 64];
            // What cannot be read now was read before.
            let _ = (&self.reader).read(&mut bytes);
            let done = {
                let mut done = self.sender.done.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *done)
            };
            let mut ready = Vec::with_capacity(done.len());
            {
                let mut futures = self.futures.lock().unwrap_or_else(PoisonError::into_inner);
                for slot in done {
                    ready.extend(futures.slots[slot].take());
                    futures.free.push(slot);
                }
            }
            let (is_done, resolve) = (pyo3::intern!(py, "done"), pyo3::intern!(py, "set_result"));
            let none = py.None();
            for future in ready {
                let future = future.bind(py);
                // One that was cancelled is done already.
                if !future.call_method0(is_done)?.is_truthy()? {
                    future.call_method1(resolve, (&none,))?;
                }
            }
            Ok(())
        })
    }
}

/// Deliveries whose callbacks are to be called, for one thread of Python's.
#[pyclass(frozen, module = "mainspring._native")]
#[derive(Default)]
pub(crate) struct CallbackQueue(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: BTreeMap<u64, (Py<PyAny>, Py<PyAny>)>,
    done: Vec<u64>,
    next: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl CallbackQueue {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Lets `take` return the delivery and its callback once the delivery is done.
    fn watch(&self, delivery: &Bound<'_, Delivery>, callback: Py<PyAny>) {
        let token = {
            let mut state = self.0.lock();
            let token = state.next;
            state.next += 1;
            let entry = (delivery.clone().into_any().unbind(), callback);
            state.waiting.insert(token, entry);
            token
        };
        let queue = Arc::clone(&self.0);
        delivery.get().on_done(Box::new(move || {
            queue.lock().done.push(token);
            queue.changed.notify_one();
        }));
    }

    /// Waits for deliveries that are done, for so many seconds, and takes them.
    fn take(&self, py: Python<'_>, timeout: f64) -> PyResult<Vec<(Py<PyAny>, Py<PyAny>)>> {
        guarded(|| {
            let limit = seconds(py, Some(timeout))?;
            wait(py, limit, |slice| {
                let state = self.0.lock();
                let waits = |state: &mut QueueState| state.done.is_empty();
                let waited = self.0.changed.wait_timeout_while(state, slice, waits);
                !waited.unwrap_or_else(PoisonError::into_inner).0.done.is_empty()
            })?;
            let mut state = self.0.lock();
            let done = std::mem::take(&mut state.done);
            Ok(done.into_iter().filter_map(|token| state.waiting.remove(&token)).collect())
        })
    }
}
