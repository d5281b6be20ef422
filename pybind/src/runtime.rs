//! The threads that clients of this process run on, and how Python's threads wait for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainspring_net::client::background::Background;
use mainspring_net::client::call::Call as NetCall;
use pyo3::prelude::*;

use crate::call::Call;
use crate::errors::error;
use crate::guard::guarded;

/// How often a wait looks for signals.
const SLICE: Duration = Duration::from_millis(50);
/// Threads that clients run on, unless the environment says otherwise.
const THREADS: usize = 2;

/// Counts the forks that lie between this process and the one that loaded the module.
static GENERATION: AtomicU64 = AtomicU64::new(0);
static BACKGROUND: Mutex<Option<(Generation, Background)>> = Mutex::new(None);

/// The process that something was made in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Generation(u64);

impl Generation {
    /// That of this process.
    pub(crate) fn current() -> Self {
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Fails where the process is another one by now.
    pub(crate) fn check(self, py: Python<'_>, what: &str) -> PyResult<()> {
        if self == Self::current() {
            return Ok(());
        }
        let message = format!(
            "this {what} was made before the process was forked, and its threads stayed in the \
             parent; make a {what} in the child, after the fork"
        );
        Err(error(py, "ForkedClientError", &message))
    }
}

/// Takes note that this process is a forked child. What the parent's threads hold is left alone.
#[pyfunction]
pub(crate) fn _after_fork() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// What producers still do that nobody holds any more, with the process that they are of.
static LEFT: Mutex<Vec<(Generation, NetCall<usize>)>> = Mutex::new(Vec::new());

/// Remembers what a producer still does that nobody holds any more, for the end of the program.
pub(crate) fn leave(call: NetCall<usize>) {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.retain(|(_, call)| !call.is_done());
    if !call.is_done() {
        left.push((Generation::current(), call));
    }
}

/// Takes what producers still do that nobody holds any more: calls that answer how many records had no report.
#[pyfunction]
pub(crate) fn _left() -> Vec<Call> {
    let left = std::mem::take(&mut *LEFT.lock().unwrap_or_else(PoisonError::into_inner));
    let own = left.into_iter().filter(|(generation, _)| *generation == Generation::current());
    own.map(|(_, call)| Call::number(call)).collect()
}

/// Ends the threads of this process's clients without waiting for them.
#[pyfunction]
pub(crate) fn _shutdown() {
    let ended = BACKGROUND.lock().unwrap_or_else(PoisonError::into_inner).take();
    // A forked child must not end what its parent's threads use: they are not there.
    if let Some((generation, background)) = ended
        && generation != Generation::current()
    {
        std::mem::forget(background);
    }
}

/// Waits until clients of this process have something to tell of brokers that come and go, for so many
/// seconds, and takes it. For a thread that does nothing else: it does not look for signals.
#[pyfunction]
pub(crate) fn _told(py: Python<'_>, timeout: f64) -> PyResult<Vec<String>> {
    guarded(|| {
        let limit = seconds(py, Some(timeout))?.unwrap_or_default();
        let told = background(py)?.told();
        Ok(py.detach(|| told.take(limit)))
    })
}

/// Gives the threads, and starts them at the first time.
pub(crate) fn background(py: Python<'_>) -> PyResult<Background> {
    let current = Generation::current();
    let mut slot = BACKGROUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((generation, background)) = &*slot
        && *generation == current
    {
        return Ok(background.clone());
    }
    let named = std::env::var("MAINSPRING_RUNTIME_THREADS").ok();
    let threads = named.and_then(|text| text.parse().ok()).filter(|count| *count > 0);
    let background = Background::start(threads.unwrap_or(THREADS).min(64)).map_err(|problem| {
        error(py, "InternalError", &format!("the system gives no threads: {problem}"))
    })?;
    let old = slot.replace((current, background.clone()));
    // Its threads are those of the parent process.
    std::mem::forget(old);
    Ok(background)
}

/// Waits without the interpreter's lock until `ready` says so, for as long as is given; looks for
/// signals meanwhile. `ready` waits for the time that it is given at most.
pub(crate) fn wait(
    py: Python<'_>,
    limit: Option<Duration>,
    mut ready: impl FnMut(Duration) -> bool + Send,
) -> PyResult<bool> {
    if ready(Duration::ZERO) {
        return Ok(true);
    }
    let begun = Instant::now();
    loop {
        let left = limit.map_or(SLICE, |limit| limit.saturating_sub(begun.elapsed()));
        let slice = left.min(SLICE);
        if py.detach(|| ready(slice)) {
            return Ok(true);
        }
        py.check_signals()?;
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            return Ok(false);
        }
    }
}

/// Reads a number of seconds, `None` for no limit.
pub(crate) fn seconds(py: Python<'_>, value: Option<f64>) -> PyResult<Option<Duration>> {
    let Some(value) = value else {
        return Ok(None);
    };
    let duration = Duration::try_from_secs_f64(value).map_err(|_| {
        let why = format!("{value} is no time to wait: give seconds from 0 on, or None to wait as long as it takes");
        error(py, "ConfigError", &why)
    })?;
    Ok(Some(duration))
}
