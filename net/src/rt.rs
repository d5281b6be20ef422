//! The runtime: the only file that names tokio or the simulator's deterministic stand-in for it.
//!
//! Under `--cfg madsim` the same names come from madsim: one thread, virtual time, a seeded order
//! of tasks and a simulated network. What the two differ in is hidden here; what madsim's sockets
//! lack stands in `simulated`.
//!
//! Rules for everything above this file: every `select` is `select_biased!`;
//! every task starts by [`spawn`]; every pass of writes ends in a flush (madsim sends nothing before
//! it); a pending sleep is polled rarely and is short ([`TIMER_SLICE`]), because madsim never
//! cancels a timer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

#[cfg(madsim)]
pub(crate) mod simulated;
#[cfg(not(madsim))]
mod sockets;

#[cfg(madsim)]
pub(crate) use madsim::task::JoinHandle;
#[cfg(not(madsim))]
pub(crate) use tokio::io::{AsyncRead, ReadBuf};
pub(crate) use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
#[cfg(not(madsim))]
pub(crate) use tokio::net::TcpStream;
pub(crate) use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
#[cfg(not(madsim))]
pub(crate) use tokio::task::JoinHandle;

#[cfg(madsim)]
pub(crate) use self::simulated::{TcpListener, TcpStream, end};
#[cfg(not(madsim))]
pub(crate) use self::sockets::{TcpListener, end};

/// Waits for several futures at once, the first one named first.
macro_rules! select_biased {
    ($($branches:tt)*) => { tokio::select! { biased; $($branches)* } };
}
pub(crate) use select_biased;

/// Longest single sleep of a lane. Longer ones are slept in slices: a suspended machine wakes with
/// tokio's clock behind ours, and madsim keeps abandoned timers until they fire.
pub(crate) const TIMER_SLICE: Duration =
    if cfg!(madsim) { Duration::from_millis(100) } else { Duration::from_secs(1) };

/// Starts a task on the current runtime. Simulations count the tasks by where they were started.
#[cfg_attr(madsim, track_caller)]
#[cfg_attr(
    not(madsim),
    expect(clippy::disallowed_methods, reason = "this is the one place that may")
)]
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[cfg(not(madsim))]
    return tokio::task::spawn(future);
    #[cfg(madsim)]
    return madsim::task::spawn(future);
}

/// Sleeps.
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Runs a future on a thread and a runtime of its own; under madsim as a task of the current node. What the
/// future gives is dropped last, when all tasks are gone that it started, and their sockets closed.
#[cfg_attr(madsim, expect(clippy::unnecessary_wraps, reason = "threads may be lacking, tasks not"))]
pub(crate) fn spawn_lane<F>(name: &str, future: F) -> std::io::Result<()>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[cfg(not(madsim))]
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let last = runtime.block_on(future);
            // Not waiting for who still looks up the name of a host.
            runtime.shutdown_background();
            drop(last);
        })?;
    }
    #[cfg(madsim)]
    {
        let _ = name;
        spawn(async move { drop(future.await) });
    }
    Ok(())
}

/// Runs a future to its end on the calling thread.
#[cfg(not(madsim))]
pub(crate) fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

/// Threads that run tasks for programs that are not asynchronous. Dropped, they end without being
/// waited for.
#[cfg(not(madsim))]
#[derive(Debug)]
pub(crate) struct Threads(Option<tokio::runtime::Runtime>);

#[cfg(not(madsim))]
impl Threads {
    /// Starts so many of them.
    pub(crate) fn start(count: usize) -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(count.max(1)).thread_name("mainspring").enable_all();
        Ok(Self(Some(builder.build()?)))
    }

    /// Starts a task on them.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(future);
        }
    }
}

#[cfg(not(madsim))]
impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for a request to stop: SIGTERM or SIGINT.
#[cfg(not(madsim))]
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(not(madsim))]
impl StopSignals {
    /// Takes the two signals over from the system's default, which is to end at once.
    pub(crate) fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of either.
    pub(crate) async fn next(&mut self) -> &'static str {
        select_biased! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Sets what every connection has: no delay of small writes, and probes of a silent peer.
pub(crate) fn set_options(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(not(madsim))]
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

/// Makes a waker that nothing listens to but a [`Notify`].
pub(crate) fn notifier() -> Arc<Notify> {
    Arc::new(Notify::new())
}
