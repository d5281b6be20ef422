//! What is known of transactions, held against a model that keeps every batch and looks at all of them.

use proptest::prelude::*;

use super::*;
use crate::ids::LeaderEpoch;
use crate::record::builder::{BatchBuilder, Producer};
use crate::record::compress::Codec;
use crate::record::hidden::{Note, void_batch};

const IDS_MAX: usize = 3;

fn data(id: i64, epoch: i16, sequence: i32, records: i64, transactional: bool) -> Batch {
    let producer =
        Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence: sequence };
    let mut builder = BatchBuilder::new(Codec::None).producer(producer);
    if transactional {
        builder = builder.transactional();
    }
    for _ in 0..records {
        builder.push(1_000, None, Some(b"v"), &[]);
    }
    builder.build()
}

fn marker(id: i64, epoch: i16, coordinator_epoch: i32, committed: bool) -> TxnMarker {
    TxnMarker {
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        coordinator_epoch,
        committed,
    }
}

/// A log and its table.
#[derive(Clone, Default)]
struct Log {
    batches: Vec<Batch>,
    states: ProducerStates,
    undos: Vec<Option<Box<Undo>>>,
    rolls: Vec<Offset>,
    start: Offset,
    resolved: Offset,
}

/// A transaction as the model finds it.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Found {
    id: i64,
    first: i64,
    end: Option<(i64, bool)>,
    /// The first offset of those that were open behind its marker.
    stable: i64,
}

impl Log {
    fn end(&self) -> Offset {
        self.batches.last().map_or(Offset::ZERO, Batch::next_offset)
    }

    fn epoch_of(&self, id: i64) -> i16 {
        let mut of_it = self.batches.iter().rev();
        of_it.find(|batch| batch.producer_id().0 == id).map_or(0, |it| it.producer_epoch().0)
    }

    fn push(&mut self, mut batch: Batch) {
        batch.assign(self.end(), LeaderEpoch(0));
        let at = Instant::from_nanos(self.batches.len() as u64);
        self.undos.push(self.states.take_in(at, &batch, 5, IDS_MAX));
        self.batches.push(batch);
    }

    fn produce(&mut self, id: i64, records: i64, transactional: bool) {
        let epoch = self.epoch_of(id);
        let open = self.found().iter().any(|it| it.id == id && it.end.is_none());
        let of_epoch = |batch: &&Batch| {
            let (same, of_epoch) = (batch.producer_id().0 == id, batch.producer_epoch().0 == epoch);
            same && of_epoch && batch.base_sequence() >= 0
        };
        let last = self.batches.iter().rev().find(of_epoch);
        let sequence = last.map_or(0, |batch| batch.last_sequence() + 1);
        let batch = data(id, epoch, sequence, records, transactional || open);
        // Of every third one no record is kept.
        self.push(if sequence % 3 == 2 { void_batch(&batch) } else { batch });
    }

    fn note(&mut self) {
        self.push(Note { at_ms: 1, link: None, changes: Vec::new() }.build());
    }

    fn mark(&mut self, id: i64, bump: bool, committed: bool) {
        let epoch = self.epoch_of(id) + i16::from(bump);
        self.push(marker(id, epoch, 1, committed).build(9));
    }

    fn roll(&mut self) {
        self.rolls.push(self.end());
    }

    /// Cuts by what each batch left to take it back.
    fn undo(&mut self, count: usize) {
        for _ in 0..count {
            let is_of_nobody = self.batches.last().is_some_and(|it| it.producer_id().0 < 0);
            let is_in_memory = is_of_nobody || self.undos.last().is_some_and(Option::is_some);
            let is_free = self.batches.last().is_some_and(|it| it.base_offset() >= self.resolved);
            if !is_in_memory || !is_free {
                break;
            }
            self.batches.pop();
            if let Some(Some(undo)) = self.undos.pop() {
                self.states.undo(*undo);
            }
        }
        let end = self.end();
        self.rolls.retain(|base| *base < end);
    }

    /// Cuts by a walk through the last segment that is left, as where nothing is in memory.
    fn walk(&mut self, count: usize) {
        let left = self.batches.iter().filter(|it| it.next_offset() <= self.resolved).count();
        let left = left.max(self.batches.len().saturating_sub(count));
        if left == self.batches.len() {
            return;
        }
        let to = self.batches[left].base_offset();
        self.batches.truncate(left);
        self.undos = vec![None; left];
        let base = self.rolls.iter().rev().find(|base| **base <= to).copied();
        let base = base.unwrap_or(Offset::ZERO);
        self.rolls.retain(|base| *base < to);
        let mut seen = ProducerStates::new();
        for batch in self.batches.iter().filter(|batch| batch.base_offset() >= base) {
            seen.update(Instant::ZERO, batch, 5, IDS_MAX);
        }
        self.states = self.states.before(to, seen);
    }

    fn reload(&mut self) {
        let file = self.states.encode_sidecar();
        self.states = ProducerStates::decode_sidecar(&file, Instant::ZERO).expect("sound");
        self.undos = vec![None; self.batches.len()];
    }

    /// Goes through the whole log.
    fn found(&self) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for batch in &self.batches {
            let id = batch.producer_id().0;
            let open = found.iter().position(|it| it.id == id && it.end.is_none());
            let offset = batch.base_offset().0;
            match (open, TxnMarker::of(batch)) {
                (Some(at), Some(marker)) => {
                    found[at].end = Some((offset, marker.committed));
                    let firsts = found.iter().filter(|it| it.end.is_none()).map(|it| it.first);
                    found[at].stable = firsts.min().unwrap_or(offset + 1);
                }
                (None, None) if batch.is_transactional() => {
                    found.push(Found { id, first: offset, end: None, stable: 0 });
                }
                _ => {}
            }
        }
        found
    }

    fn check(&self) {
        let found = self.found();
        for it in found.iter().filter(|it| it.end.is_none()) {
            let state = self.states.get(ProducerId(it.id)).expect("never forgotten");
            assert_eq!(state.transaction_first_offset, Some(Offset(it.first)));
        }
        for (id, state) in self.states.iter() {
            let is_open = found.iter().any(|it| it.id == id.0 && it.end.is_none());
            assert_eq!(state.transaction_first_offset.is_some(), is_open, "{id}");
        }
        for high_watermark in self.resolved.0..=self.end().0 {
            let counts = |it: &&Found| it.end.is_none_or(|(marker, _)| marker >= high_watermark);
            let first = found.iter().filter(counts).map(|it| it.first).min();
            let unstable = self.states.first_unstable(Offset(high_watermark));
            assert_eq!(unstable.map(|it| it.0), first, "{high_watermark}");
        }
        let aborted = found.iter().filter_map(|it| match it.end {
            Some((marker, false)) => Some((it.first, marker, it.id, it.stable)),
            _ => None,
        });
        let mut aborted: Vec<(i64, i64, i64, i64)> = aborted.collect();
        aborted.sort_unstable();
        for from in self.start.0..self.end().0 {
            for to in from + 1..=self.end().0 {
                let told = self.states.aborted(Offset(from), Offset(to));
                let overlaps = |it: &&(i64, i64, i64, i64)| it.1 >= from && it.0 < to;
                let expected: Vec<_> = aborted.iter().filter(overlaps).copied().collect();
                let told = told.into_iter().map(|it| {
                    let (first, last) = (it.first_offset.0, it.last_offset.0);
                    (first, last, it.producer_id.0, it.last_stable_offset.0)
                });
                assert_eq!(told.collect::<Vec<_>>(), expected, "{from}..{to}");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Produce(i64, i64, bool),
    Mark(i64, bool, bool),
    Note,
    Roll,
    Undo(usize),
    Walk(usize),
    Reload,
    Resolve(i64),
    MoveStart(i64),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_i64, 1..4_i64, prop::bool::weighted(0.8)).prop_map(|(id, records, tx)| {
            Step::Produce(id, records, tx)
        }),
        4 => (0..5_i64, any::<bool>(), any::<bool>()).prop_map(|(id, bump, committed)| {
            Step::Mark(id, bump, committed)
        }),
        1 => Just(Step::Note),
        2 => Just(Step::Roll),
        1 => (0..8_usize).prop_map(Step::Undo),
        1 => (0..8_usize).prop_map(Step::Walk),
        1 => Just(Step::Reload),
        1 => (0..12_i64).prop_map(Step::Resolve),
        1 => (0..12_i64).prop_map(Step::MoveStart),
        1 => Just(Step::Expire),
    ]
}

proptest! {
    #[test]
    fn transactions_are_known_as_one_who_reads_the_whole_log_knows_them(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut log = Log::default();
        for step in steps {
            match step {
                Step::Produce(id, records, transactional) => log.produce(id, records, transactional),
                Step::Mark(id, bump, committed) => log.mark(id, bump, committed),
                Step::Note => log.note(),
                Step::Roll => log.roll(),
                Step::Undo(count) => log.undo(count),
                Step::Walk(count) => log.walk(count),
                Step::Reload => log.reload(),
                Step::Resolve(back) => {
                    let place = Offset((log.end().0 - back).max(log.resolved.0));
                    log.resolved = place;
                    log.states.resolve(place);
                }
                Step::MoveStart(back) => {
                    let place = Offset((log.resolved.0 - back).max(log.start.0));
                    log.start = place;
                    log.states.forget_below(place);
                }
                Step::Expire => {
                    log.states.expire(i64::MAX, 1);
                }
            }
            log.check();
        }
    }
}

#[test]
fn what_is_committed_is_remembered_only_until_its_marker_is() {
    let mut log = Log::default();
    for _ in 0..100 {
        log.produce(1, 1, true);
        log.mark(1, false, true);
    }
    assert_eq!(log.states.ended().count(), 100);
    log.states.resolve(Offset(101));
    assert_eq!(log.states.ended().count(), 50, "the marker at 101 is not below");
    assert_eq!(log.states.first_unstable(Offset(101)), Some(Offset(100)));
    log.states.resolve(log.end());
    assert_eq!(log.states.ended().count(), 0);
}

#[test]
fn a_marker_of_a_passed_epoch_or_coordinator_is_refused_the_epoch_first() {
    let mut log = Log::default();
    log.push(data(1, 3, 0, 1, true));
    let judge = |log: &Log, epoch, coordinator_epoch, version| {
        log.states.check_marker(&marker(1, epoch, coordinator_epoch, true), version)
    };
    assert_eq!(judge(&log, 2, 5, 0), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(judge(&log, 3, 5, 2), Err(ErrorCode::InvalidProducerEpoch), "it must rise");
    assert_eq!(judge(&log, 3, 5, 1), Ok(()));
    assert_eq!(judge(&log, 4, 5, 2), Ok(()));
    log.push(marker(1, 4, 5, true).build(9));
    assert_eq!(judge(&log, 4, 5, 2), Ok(()), "written once more");
    assert_eq!(judge(&log, 4, 4, 2), Err(ErrorCode::TransactionCoordinatorFenced));
    assert_eq!(judge(&log, 3, 4, 2), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(log.states.check_marker(&marker(2, 0, 0, true), 2), Ok(()), "nobody knows it");
}

#[test]
fn a_marker_without_data_changes_nothing_for_readers() {
    let mut log = Log::default();
    log.produce(1, 2, true);
    log.mark(2, false, false);
    log.mark(3, true, true);
    assert_eq!(log.states.first_unstable(log.end()), Some(Offset(0)));
    assert!(log.states.aborted(Offset::ZERO, Offset(100)).is_empty());
    assert_eq!(log.states.ended().count(), 0);
}

#[test]
fn what_a_coordinator_writes_without_sequences_opens_a_transaction_and_survives_the_files() {
    let mut log = Log::default();
    log.push(data(1, 0, -1, 2, true));
    log.push(data(1, 0, -1, 1, true));
    assert!(log.states.has_open_transaction(ProducerId(1), ProducerEpoch(0)));
    assert!(!log.states.has_open_transaction(ProducerId(1), ProducerEpoch(1)));
    for file in [log.states.encode_sidecar(), log.states.encode_snapshot()] {
        let read = ProducerStates::decode_sidecar(&file, Instant::ZERO)
            .or_else(|_| ProducerStates::decode_snapshot(&file, Instant::ZERO));
        assert_eq!(read.expect("sound"), log.states);
    }
    log.undo(1);
    log.check();
}
