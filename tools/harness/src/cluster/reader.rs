//! A reader that goes on through any number of fail-overs: what it has read must never be taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mainspring_core::error::ErrorCode;

use crate::checks::{Outcome, ensure};
use crate::client::{Client, ReadLog};
use crate::load::{Address, value_of};

/// Reads one partition from its beginning on, and checks that record N stands at offset N.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Outcome>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
}

impl Reader {
    /// Starts reading.
    pub(crate) fn start(address: &Address, topic: &str, partition: i32) -> Self {
        let shared = Arc::new(Shared::default());
        let (address, topic) = (address.clone(), topic.to_owned());
        let inner = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !inner.stop.load(Ordering::SeqCst) {
                // A node that is gone or leads no more; what it has served is judged in `read`.
                if let Ok(mut client) = address.connect(&topic, partition) {
                    read(&mut client, &topic, partition, &inner)
                        .map_err(|problem| format!("reader of {topic}-{partition}: {problem}"))?;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        Self { shared, thread: Some(thread) }
    }

    /// Returns how many records it has read.
    pub(crate) fn count(&self) -> u64 {
        self.shared.next.load(Ordering::SeqCst)
    }

    /// Returns whether it has found something wrong.
    pub(crate) fn gave_up(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Ends it and returns what it found wrong.
    pub(crate) fn finish(&mut self) -> Outcome {
        self.shared.stop.store(true, Ordering::SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(ended) => ended.unwrap_or_else(|_| Err("a reader panicked".to_owned())),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

/// Reads on over one connection until that breaks.
fn read(client: &mut Client, topic: &str, partition: i32, shared: &Shared) -> Outcome {
    while !shared.stop.load(Ordering::SeqCst) {
        let next = shared.next.load(Ordering::SeqCst);
        let Ok(data) = client.fetch(topic, partition, next as i64, 200) else { return Ok(()) };
        if data.error_code != 0 {
            let code = ErrorCode::from_code(data.error_code);
            return ensure(code.is_some_and(ErrorCode::is_retriable), || {
                format!("error {code:?} at offset {next}, all before which was read")
            });
        }
        let mut log = ReadLog { next: next as i64, ..ReadLog::default() };
        log.take(data)?;
        for (offset, value) in log.records {
            let expected = shared.next.load(Ordering::SeqCst);
            ensure(offset as u64 == expected && value == value_of(expected), || {
                let start = String::from_utf8_lossy(value.get(..24).unwrap_or(&value)).into_owned();
                format!("offset {offset} holds {start:?}, where record {expected} was to come")
            })?;
            shared.next.store(expected + 1, Ordering::SeqCst);
        }
    }
    Ok(())
}
