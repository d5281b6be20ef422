//! The loading of a coordinator: a replay of its partition, in pieces between which others are served.

use std::time::Duration;

use bytes::Bytes;

use crate::digest::Digest;
use crate::ids::{Offset, TopicPartition};
use crate::log::{FetchPlan, FileRange, LogStore};
use crate::record::batch::Batch;
use crate::record::iterate::OpenBatch;
use crate::wire::DecodeError;

/// Bytes that are replayed at a time.
const LOAD_BYTES: u64 = 1 << 20;
/// How long to wait before a log that could not be read is read again.
pub(in crate::broker) const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A coordinator whose state is what the records of its partition say.
pub(in crate::broker) trait Replayed {
    /// Takes in the record at `offset` of a batch.
    ///
    /// # Errors
    /// [`DecodeError`] where a record of a known kind cannot be read.
    fn replay(
        &mut self,
        batch: &Batch,
        offset: Offset,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), DecodeError>;

    /// Takes in a control batch.
    fn replay_control(&mut self, _batch: &Batch) {}

    /// Takes its state into a digest.
    fn digest(&self, digest: &mut Digest);
}

/// A coordinator on its way.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Loading<C> {
    pub(in crate::broker) coordinator: C,
    /// The first offset that was not replayed.
    next: Offset,
    /// The end of the log; nobody appends to it meanwhile.
    end: Offset,
}

/// What is to be done next for a coordinator that loads.
pub(in crate::broker) enum Step {
    /// Nothing: all of it is replayed.
    Done,
    /// Replay these.
    Replay(Vec<Bytes>),
    /// Read these, then replay them.
    Read(FileRange),
}

impl<C: Replayed> Loading<C> {
    /// Begins at the start of a partition's log.
    pub(in crate::broker) fn new(coordinator: C, id: TopicPartition, log: &LogStore) -> Self {
        Self {
            coordinator,
            next: log.log_start_offset(id).unwrap_or(Offset::ZERO),
            end: log.log_end_offset(id).unwrap_or(Offset::ZERO),
        }
    }

    /// Returns the end of what is to be replayed.
    pub(in crate::broker) const fn end(&self) -> Offset {
        self.end
    }

    /// Returns the first offset that was not replayed.
    pub(in crate::broker) const fn next(&self) -> Offset {
        self.next
    }

    /// Returns whether all of it is replayed.
    pub(in crate::broker) fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// Finds the next piece.
    pub(in crate::broker) fn step(&self, id: TopicPartition, log: &LogStore) -> Step {
        if self.is_done() {
            return Step::Done;
        }
        match log.plan_fetch(id, self.next, self.end, LOAD_BYTES, true) {
            FetchPlan::Memory(parts) => Step::Replay(parts),
            FetchPlan::File(range) => Step::Read(range),
        }
    }

    pub(in crate::broker) fn digest(&self, digest: &mut Digest) {
        digest.signed(self.next.0).signed(self.end.0);
        self.coordinator.digest(digest);
    }

    /// Applies whole batches.
    ///
    /// # Errors
    /// Why they cannot be applied, in words.
    pub(in crate::broker) fn replay(&mut self, parts: &[Bytes]) -> Result<(), String> {
        let before = self.next;
        // A part may end within a batch: header and payload of a recent one lie apart.
        let mut bytes = Bytes::from(parts.concat());
        while !bytes.is_empty() {
            let batch = Batch::split_from(&mut bytes).map_err(|error| error.to_string())?;
            if batch.last_offset() < self.next {
                continue;
            }
            self.replay_batch(&batch)?;
            self.next = batch.next_offset();
        }
        if self.next == before {
            return Err("it has no batch there".to_owned());
        }
        Ok(())
    }

    fn replay_batch(&mut self, batch: &Batch) -> Result<(), String> {
        if batch.is_control() {
            self.coordinator.replay_control(batch);
            return Ok(());
        }
        let open = OpenBatch::open(batch, usize::MAX).map_err(|error| error.to_string())?;
        for record in open.records() {
            let record = record.map_err(|error| error.to_string())?;
            let slice = |bytes: &[u8]| open.payload().slice_ref(bytes);
            let key = slice(record.record.key.ok_or("a record has no key")?);
            let value = record.record.value.map(slice);
            let offset = record.offset;
            let replayed = self.coordinator.replay(batch, offset, key, value);
            replayed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
