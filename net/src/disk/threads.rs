//! A disk on two threads: one for the journal's writes and flushes, one for everything else.
//!
//! The journal's thread seals blocks too, so that the lane, whose thread reads and answers clients,
//! is free while a block is copied and its checksum computed. After an operation that thread looks
//! for the next one for some microseconds before it sleeps: waking a thread costs a quarter of a
//! durable write.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mainspring_core::ids::IoToken;
use mainspring_core::io::{DiskError, DiskErrorKind, FileName};

use super::{Complete, Disk, Files, Operation};

/// The folder whose writes have a thread of their own.
const JOURNAL: &str = "journal";
const SPIN: Duration = Duration::from_micros(20);

type Job = (IoToken, Operation);

/// Two threads over blocking [`Files`].
pub struct ThreadedDisk {
    journal: Mutex<Sender<Job>>,
    background: Mutex<Sender<Job>>,
}

impl ThreadedDisk {
    /// Starts the two threads. They end when the disk is dropped and their queues are empty.
    pub fn start(files: Arc<dyn Files>, complete: Complete) -> std::io::Result<Self> {
        let (journal, jobs) = channel();
        spawn("journal", jobs, SPIN, Arc::clone(&files), Arc::clone(&complete))?;
        let (background, jobs) = channel();
        spawn("background", jobs, Duration::ZERO, files, complete)?;
        Ok(Self { journal: Mutex::new(journal), background: Mutex::new(background) })
    }
}

impl Disk for ThreadedDisk {
    fn submit(&self, token: IoToken, operation: Operation) {
        let queue = if is_of_the_journal(&operation) { &self.journal } else { &self.background };
        let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.send((token, operation)).expect("the thread lives as long as its queue");
    }
}

/// Completes an operation that ends in a panic: the shard must not wait for it for ever.
struct Pending<'a> {
    token: IoToken,
    operation: &'static str,
    complete: &'a Complete,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = DiskError {
                operation: self.operation,
                file: FileName::root(),
                // Nobody knows what was written: the strictest kind.
                kind: DiskErrorKind::Flush,
                message: "the disk's thread has ended by an error of its own".to_owned(),
            };
            (self.complete)(self.token, Err(error));
        }
    }
}

/// Making and filling a journal file takes long; it must not hold up the writes to others.
fn is_of_the_journal(operation: &Operation) -> bool {
    match operation {
        Operation::Write { file, .. } | Operation::Sync { file } => {
            file.as_str().split('/').next().is_some_and(|first| first.starts_with(JOURNAL))
        }
        Operation::Read { .. }
        | Operation::Create { .. }
        | Operation::SyncDir { .. }
        | Operation::Rename { .. }
        | Operation::Remove { .. }
        | Operation::Truncate { .. }
        | Operation::List { .. }
        | Operation::Space { .. } => false,
    }
}

fn spawn(
    name: &str,
    jobs: Receiver<Job>,
    spin: Duration,
    files: Arc<dyn Files>,
    complete: Complete,
) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        while let Some((token, operation)) = next(&jobs, spin) {
            let pending = Pending { token, operation: operation.verb(), complete: &complete };
            let outcome = files.perform(operation);
            drop(pending);
            complete(token, outcome);
        }
    })?;
    Ok(())
}

/// Takes the next job, looking for it a while before sleeping; `None` when the disk is dropped.
#[expect(clippy::disallowed_methods, reason = "a thread outside any runtime measures its spinning")]
fn next(jobs: &Receiver<Job>, spin: Duration) -> Option<Job> {
    if !spin.is_zero() {
        let since = Instant::now();
        while since.elapsed() < spin {
            match jobs.try_recv() {
                Ok(job) => return Some(job),
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
    }
    jobs.recv().ok()
}
