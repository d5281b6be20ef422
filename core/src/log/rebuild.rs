//! Producers and transactions whose file of ours is damaged or gone, learned again from the segments
//! below the checkpoint.
//!
//! As much is learned as the segments hold: a producer whose batches all went with retention is
//! forgotten, as in Kafka, unless Kafka's file tells of it. Append times are not in segments; a producer
//! counts as heard when its segment ended, which keeps it rather too long than too short.
//!
//! Invariants:
//! 1. A batch counts only if it is whole, follows the one before it and has a right CRC. Where one seems not to,
//!    the place is read again, for a bit may have flipped on the way and not on the disk.
//! 2. A log whose segments are damaged takes no produce afterwards, so what was not learned cannot
//!    let a batch in twice.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Buf, Bytes};

use crate::ids::{Offset, TopicPartition};
use crate::io::{DiskError, Effects, Mark};
use crate::log::block::{BlockSequence, Entry};
use crate::log::operations::Op;
use crate::log::partition_log::ProducerFiles;
use crate::log::producer_state::ProducerStates;
use crate::log::recovery::{Outcome, Stage, content};
use crate::log::segment::{Extent, segment_file};
use crate::log::store::LogStore;
use crate::record::batch::{Batch, HEADER_LEN};
use crate::time::Now;

/// Bytes of one read, unless a batch is larger.
const CHUNK: u64 = 1 << 20;
/// How often a place is read that seems damaged.
const READS_MAX: u32 = 3;
/// Larger than any batch that can have been appended, in bytes; a length beyond is damage.
const BATCH_MAX: u64 = 64 << 20;

/// The walk through the segments of one log after another.
#[derive(Clone, Debug)]
pub(super) struct Rebuild {
    /// Logs still to be read, the one under way first.
    logs: VecDeque<TopicPartition>,
    /// The segment under way, by its place among those of the log.
    segment: usize,
    walk: Walk,
    /// What the segments of the log have told so far.
    seen: ProducerStates,
}

/// The walk through one segment, from its beginning on.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) position: u64,
    /// How many bytes are read next.
    pub(super) want: u64,
    /// Where the next batch must begin.
    pub(super) expected: Offset,
    /// How often the place where it stands has seemed damaged.
    pub(super) doubts: u32,
}

/// What is wrong with a segment, if its log still needs it.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    log: TopicPartition,
    extent: Extent,
    /// The first offset that cannot be read.
    offset: Offset,
    /// In words that follow the file's name.
    what: String,
}

/// What is at the front of the bytes that were read.
pub(super) enum Next {
    Batch(Batch),
    More(u64),
    Damage(&'static str),
}

impl Rebuild {
    pub(super) fn new(logs: VecDeque<TopicPartition>) -> Self {
        Self { logs, segment: 0, walk: Walk::new(Offset::ZERO), seen: ProducerStates::new() }
    }

    fn next_segment(&mut self) {
        self.segment += 1;
        self.walk = Walk::new(Offset::ZERO);
    }

    /// Goes on with the next log. Returns what was learned of this one.
    fn next_log(&mut self) -> ProducerStates {
        self.logs.pop_front();
        self.segment = 0;
        self.walk = Walk::new(Offset::ZERO);
        std::mem::take(&mut self.seen)
    }
}

impl Walk {
    pub(super) const fn new(base: Offset) -> Self {
        Self { position: 0, want: CHUNK, expected: base, doubts: 0 }
    }

    /// Goes on behind a batch.
    pub(super) fn pass(&mut self, batch: &Batch) {
        self.position += batch.size() as u64;
        self.expected = batch.next_offset();
        self.doubts = 0;
    }

    /// Notes that the place where it stands seems damaged; returns whether that is to be believed.
    fn is_damaged(&mut self) -> bool {
        self.doubts += 1;
        self.doubts >= READS_MAX
    }

    /// Asks for so many bytes at least.
    pub(super) fn ask(&mut self, want: u64) {
        self.want = CHUNK.max(want);
    }

    pub(super) fn next_batch(&self, rest: &Bytes, extent: &Extent) -> Next {
        let left = extent.bytes - self.position;
        if rest.len() < HEADER_LEN {
            return Next::More(HEADER_LEN as u64);
        }
        let Ok(total) = Batch::peek_len(rest) else {
            return Next::Damage("no batch begins there");
        };
        if total as u64 > left.min(BATCH_MAX) {
            return Next::Damage("a batch reaches beyond its segment");
        }
        if rest.len() < total {
            return Next::More(total as u64);
        }
        match Batch::split_from(&mut rest.slice(..total)) {
            Ok(batch) if !batch.crc_is_valid() => Next::Damage("a batch has a wrong CRC"),
            Ok(batch) => {
                let follows = batch.base_offset() == self.expected
                    && batch.last_offset() >= batch.base_offset()
                    && batch.next_offset() <= extent.end;
                if follows { Next::Batch(batch) } else { Next::Damage("the offsets do not follow") }
            }
            Err(_) => Next::Damage("no batch begins there"),
        }
    }
}

impl LogStore {
    /// Returns the logs whose producer files say nothing that is needed: the journal deletes them above
    /// the cut, so their files may belong to others, or it cuts them back and tells of producers there.
    pub(super) fn without_producer_files(&mut self) -> BTreeSet<TopicPartition> {
        let recovery = self.recovery();
        let cut = recovery.checkpoint.as_ref().map_or_else(BlockSequence::default, |it| it.cut);
        let entries = recovery.scanned.iter().flat_map(|scanned| &scanned.entries);
        let found = entries.filter_map(|(sequence, entry)| match entry {
            Entry::Delete { log } => Some(*log),
            Entry::Truncate { log, .. } if *sequence > cut => Some(*log),
            Entry::Append { .. }
            | Entry::Truncate { .. }
            | Entry::LogStart { .. }
            | Entry::Create { .. }
            | Entry::Vote { .. }
            | Entry::Reserve { .. }
            | Entry::Close => None,
        });
        found.collect()
    }

    /// Reads on, or goes on with the start where everything has been read.
    pub(super) fn go_on_rebuilding(
        &mut self,
        now: Now,
        mut rebuild: Box<Rebuild>,
        fx: &mut Effects,
    ) -> Result<(), String> {
        while let Some(id) = rebuild.logs.front() {
            let log = self.logs.get_mut(id).expect("it is in the checkpoint");
            let Some(segment) = log.segments.get(rebuild.segment) else {
                if log.damaged.is_none() {
                    fx.mark(Mark::ProducersBuiltAnew);
                    log.producer_files = ProducerFiles::Lost;
                    log.dirty = true;
                }
                let mut learned = rebuild.next_log();
                learned.add_unseen(&log.producers);
                learned.forget_below(log.start);
                log.producers = learned;
                continue;
            };
            let extent = segment.extent;
            if rebuild.walk.position >= extent.bytes {
                rebuild.next_segment();
                continue;
            }
            if rebuild.walk.position == 0 {
                rebuild.walk.expected = extent.base;
            }
            let op = Op::Read {
                file: segment_file(&log.folder, extent.base, "log"),
                position: rebuild.walk.position,
                length: rebuild.walk.want.min(extent.bytes - rebuild.walk.position),
            };
            self.enter(Stage::Rebuild(rebuild), vec![op], fx);
            return Ok(());
        }
        self.replay_and_list(now, fx)
    }

    /// Takes what was read.
    pub(super) fn on_rebuild_read(
        &mut self,
        now: Now,
        mut rebuild: Box<Rebuild>,
        outcome: Option<Outcome>,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let cannot = |error: DiskError| {
            format!("cannot use the data directory: {error}; check its owner, mode and disk")
        };
        let found = content(outcome).map_err(cannot)?;
        let ids_max = self.config.producer_ids_max;
        let id = rebuild.logs.front().expect("one is being read");
        let log = self.logs.get_mut(id).expect("it is in the checkpoint");
        let extent = log.segments[rebuild.segment].extent;
        let Some(mut rest) = found else {
            let fault = Fault { log: *id, extent, offset: extent.base, what: "is gone".to_owned() };
            self.recovery().faults.push(fault);
            rebuild.next_segment();
            return self.go_on_rebuilding(now, rebuild, fx);
        };
        let is_all =
            rest.len() as u64 >= rebuild.walk.want.min(extent.bytes - rebuild.walk.position);
        while rebuild.walk.position < extent.bytes {
            let damage = match rebuild.walk.next_batch(&rest, &extent) {
                Next::Batch(batch) => {
                    rebuild.seen.update(now.mono, &batch, extent.last_append.0, ids_max);
                    rest.advance(batch.size());
                    rebuild.walk.pass(&batch);
                    continue;
                }
                Next::More(want) if is_all && rebuild.walk.position + want <= extent.bytes => {
                    rebuild.walk.ask(want);
                    break;
                }
                Next::More(_) => "a batch is cut off",
                Next::Damage(why) => why,
            };
            if !rebuild.walk.is_damaged() {
                fx.mark(Mark::DamageReadAgain);
                break;
            }
            let what = format!("is damaged at byte {}: {damage}", rebuild.walk.position);
            let fault = Fault { log: *id, extent, offset: rebuild.walk.expected, what };
            self.recovery().faults.push(fault);
            rebuild.next_segment();
            break;
        }
        self.go_on_rebuilding(now, rebuild, fx)
    }

    /// Says what is wrong with segments, once the journal has told which of them are still needed.
    /// One that is not may have been removed before the node stopped, and made anew, empty, by a
    /// start that did not come to its end.
    pub(super) fn judge_segments(&mut self, fx: &mut Effects) {
        for Fault { log: id, extent, offset, what } in std::mem::take(&mut self.recovery().faults) {
            let Some(log) = self.logs.get_mut(&id) else { continue };
            if log.start >= extent.end {
                continue;
            }
            let at = log.start.max(offset);
            log.damaged = log.damaged.or(Some(at));
            log.producer_files = ProducerFiles::Unknown;
            fx.warn(format!(
                "{} {what} (offset {at}); the rest of the partition is served, and it takes no produce \
                 until that range is repaired",
                segment_file(&log.folder, extent.base, "log")
            ));
        }
    }
}
