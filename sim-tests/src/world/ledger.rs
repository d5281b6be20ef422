//! What of a node's journals has been written and flushed, followed block by block as operations end.
//!
//! It knows nothing of what core believes: a block is durable when a flush of its file that began behind
//! it has succeeded, and counts when all earlier ones of its journal are durable.

use std::collections::{BTreeMap, VecDeque};

use mainspring_core::ids::TopicPartition;
use mainspring_core::io::{
    Completion, DiskError, DiskErrorKind, Effect, FileName, Sync, WriteBody,
};
use mainspring_core::log::block::Entry;

use crate::disk::OperationId;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum State {
    InFlight,
    Written,
    Durable,
}

#[derive(Debug)]
struct Block {
    operation: Option<OperationId>,
    file: FileName,
    state: State,
    /// How far it takes each log.
    ends: Vec<(TopicPartition, i64)>,
}

/// What an operation does to a journal.
#[derive(Debug)]
pub(super) struct Note {
    file: FileName,
    ends: Option<Vec<(TopicPartition, i64)>>,
    flushes: bool,
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Done,
    /// It lacked space or descriptors.
    Lacking,
    Failed,
}

impl Ended {
    pub(super) fn of(result: &Result<Completion, DiskError>) -> Self {
        match result.as_ref().map_err(|error| error.kind) {
            Ok(_) => Self::Done,
            Err(DiskErrorKind::NoSpace | DiskErrorKind::Exhausted) => Self::Lacking,
            Err(_) => Self::Failed,
        }
    }
}

/// A log reaches further on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub(super) partition: TopicPartition,
    pub(super) end: i64,
    pub(super) durable: bool,
}

/// The journals of one node.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    shards: BTreeMap<u16, VecDeque<Block>>,
    notes: BTreeMap<OperationId, (u16, Note)>,
}

impl Ledger {
    /// Says what an effect is going to do to a journal, if anything.
    pub(super) fn note(effect: &Effect) -> Option<Note> {
        match effect {
            Effect::Write { file, body: WriteBody::Block(plan), sync, .. } => {
                let mut ends = Vec::new();
                for entry in plan.entries() {
                    if let Entry::Append { log, batch, .. } = entry {
                        ends.push((*log, batch.next_offset().0));
                    }
                }
                let flushes = *sync == Sync::Data;
                Some(Note { file: file.clone(), ends: Some(ends), flushes })
            }
            Effect::Sync { file, .. } if file.as_str().starts_with("journal/") => {
                Some(Note { file: file.clone(), ends: None, flushes: true })
            }
            _ => None,
        }
    }

    /// Remembers an operation that was begun.
    pub(super) fn begin(&mut self, shard: u16, operation: OperationId, mut note: Note) {
        if let Some(ends) = note.ends.take() {
            self.shards.entry(shard).or_default().push_back(Block {
                operation: Some(operation),
                file: note.file.clone(),
                state: State::InFlight,
                ends,
            });
        }
        self.notes.insert(operation, (shard, note));
    }

    /// Takes in how an operation ended. Returns what reaches further by it.
    pub(super) fn end(&mut self, operation: OperationId, ended: Ended) -> Vec<Reach> {
        let Some((shard, Note { file, flushes, .. })) = self.notes.remove(&operation) else {
            return Vec::new();
        };
        let Some(blocks) = self.shards.get_mut(&shard) else { return Vec::new() };
        let mut reaches = Vec::new();
        match ended {
            Ended::Done => {}
            // It is tried again, as an operation of its own.
            Ended::Lacking => {
                blocks.retain(|block| block.operation != Some(operation));
                return reaches;
            }
            // What a failed flush has dropped is never durable, nor does anything count behind it.
            Ended::Failed => return reaches,
        }
        let before = blocks.iter().take_while(|block| block.state >= State::Written).count();
        for block in blocks.iter_mut() {
            if block.operation == Some(operation) {
                block.operation = None;
                block.state = State::Written;
            }
            if flushes && block.file == file && block.state == State::Written {
                block.state = State::Durable;
            }
        }
        let after = blocks.iter().take_while(|block| block.state >= State::Written).count();
        let mut tell = |block: &Block, durable| {
            let reach =
                |(partition, end): &(_, _)| Reach { partition: *partition, end: *end, durable };
            reaches.extend(block.ends.iter().map(reach));
        };
        for block in blocks.range(before.min(after)..after) {
            tell(block, false);
        }
        while blocks.front().is_some_and(|block| block.state == State::Durable) {
            if let Some(block) = blocks.pop_front() {
                tell(&block, true);
            }
        }
        reaches
    }

    /// Forgets what a process had begun.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
