//! Transactions at a leader with one follower, whose acknowledgements move the high watermark.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::broker::post::{ListOffsetsItem, Produced};
use crate::config::BrokerSettings;
use crate::connection::RequestId;
use crate::ids::{ConnectionId, NodeId, PartitionIndex, ShardId, TopicName, TopicPartition, Uuid};
use crate::log::{LogConfig, TimeLookup};
use crate::metadata::PartitionImage;
use crate::metadata::topic_config::{Overrides, TopicConfig};
use crate::partition::leader::{Acks, Lookup, Reading};
use crate::partition::{FollowerId, InSync};
use crate::record::builder::{BatchBuilder, Producer};
use crate::record::compress::Codec;
use crate::time::UnixMillis;

const ID: TopicPartition = TopicPartition { topic_id: Uuid([7; 16]), partition: PartitionIndex(0) };
const FOLLOWER: FollowerId = FollowerId { node: NodeId(2), broker_epoch: 5 };
const NOW: Now = Now { mono: Instant::from_nanos(1), wall: UnixMillis(1_700_000_000_000) };

struct Bench {
    log: LogStore,
    partition: Partition,
    fx: Effects,
    requests: u64,
}

fn in_sync(epoch: i32, isr: &[i32]) -> InSync {
    let state = PartitionImage {
        replicas: vec![NodeId(1), NodeId(2)],
        isr: isr.iter().copied().map(NodeId).collect(),
        leader: NodeId(1),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: 1,
        adding: Vec::new(),
        removing: Vec::new(),
    };
    InSync::new(NOW.mono, NodeId(1), &state, BTreeSet::new(), (Offset::ZERO, Offset::ZERO))
}

fn config(min_insync_replicas: usize) -> Arc<TopicConfig> {
    let config = TopicConfig::effective(&BrokerSettings::default(), &Overrides::default(), true);
    Arc::new(TopicConfig { min_insync_replicas, ..config })
}

impl Bench {
    fn new() -> Self {
        let mut fx = Effects::default();
        let mut log = LogStore::new(LogConfig { memory_only: true, ..LogConfig::default() });
        log.start(NOW, &mut fx);
        let name = TopicName::parse("t").expect("a name");
        log.create(NOW, ID, &name, config(1).log, &mut fx);
        let in_sync = in_sync(4, &[1, 2]);
        let partition = Partition::new(ID, config(1), LeaderEpoch(4), in_sync, None, &log);
        Self { log, partition, fx, requests: 0 }
    }

    fn waiter(&mut self) -> Waiter {
        self.requests += 1;
        let request = RequestId { connection: ConnectionId(1), sequence: self.requests };
        Waiter { shard: ShardId(0), request, index: 0 }
    }

    fn end(&self) -> Offset {
        self.log.log_end_offset(ID).expect("known")
    }

    fn produce(
        &mut self,
        batch: &Batch,
        verified: Option<VerificationGuard>,
    ) -> Result<Offset, ErrorCode> {
        let waiter = self.waiter();
        let Self { log, partition, fx, .. } = self;
        let acks = Acks { version: 11, all_replicas: false, wait: false };
        let answer = partition.produce(NOW, batch.to_bytes(), acks, verified, waiter, log, fx);
        let answer = answer.expect("it does not wait");
        self.settle();
        answer.map(|produced| produced.base_offset).map_err(|refusal| refusal.code)
    }

    /// Produces with all that is asked for.
    fn verified(&mut self, batch: &Batch) -> Result<Offset, ErrorCode> {
        let guard = self.begin(batch);
        self.produce(batch, Some(guard))
    }

    fn begin(&mut self, batch: &Batch) -> VerificationGuard {
        self.partition.begin_verification(NOW, batch).expect("there is room")
    }

    fn mark(&mut self, marker: TxnMarker, version: i8) -> Result<(), ErrorCode> {
        let waiter = self.waiter();
        let Self { log, partition, fx, .. } = self;
        let answer = partition.append_marker(NOW, &marker, version, waiter, log, fx);
        self.settle();
        answer
    }

    /// What the store has stable reaches the partition.
    fn settle(&mut self) {
        while self.log.poll_event().is_some() {}
        self.partition.advance(self.end());
    }

    /// The follower has everything below this.
    fn acknowledge(&mut self, stable: Offset) {
        let item = FetchItem { replica: Some(FOLLOWER), ..item(stable.0, 0, false) };
        self.partition.note_follower(NOW, &item, &self.log);
        self.partition.acknowledged(NOW, FOLLOWER, LeaderEpoch(4), stable, &self.log);
    }

    fn taken(&mut self) -> Vec<(u64, Produced)> {
        let mut taken = Vec::new();
        while let Some((waiter, produced)) = self.partition.take_committed(&self.log) {
            taken.push((waiter.request.sequence, produced));
        }
        taken
    }

    fn read(&self, item: &FetchItem) -> Fetched {
        match self.partition.read(item, &self.log).expect("it may be read") {
            Reading::Done(fetched) => fetched,
            Reading::File(..) => unreachable!("the log is in memory"),
        }
    }

    fn latest(&self, read_committed: bool) -> Offset {
        match self.list(-1, read_committed) {
            Lookup::Done(found) => found.offset,
            Lookup::Search(..) => unreachable!("the end is no time"),
        }
    }

    fn list(&self, timestamp: i64, read_committed: bool) -> Lookup {
        let current_leader_epoch = LeaderEpoch::UNKNOWN;
        let item = ListOffsetsItem {
            index: 0,
            partition: ID,
            current_leader_epoch,
            timestamp,
            read_committed,
        };
        self.partition.list_offset(&item, &self.log).expect("known")
    }
}

fn item(offset: i64, max_bytes: u64, read_committed: bool) -> FetchItem {
    FetchItem {
        index: 0,
        partition: ID,
        offset: Offset(offset),
        max_bytes,
        at_least_one: true,
        current_leader_epoch: LeaderEpoch::UNKNOWN,
        last_fetched_epoch: LeaderEpoch::UNKNOWN,
        known_readable: 0,
        replica: None,
        log_start: Offset(-1),
        read_committed,
        may_follow: false,
        near: None,
    }
}

fn batch(id: i64, epoch: i16, base_sequence: i32, transactional: bool) -> Batch {
    let producer = Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence };
    let mut builder = BatchBuilder::new(Codec::None).producer(producer);
    if transactional {
        builder = builder.transactional();
    }
    builder.push(NOW.wall.0, None, Some(b"first"), &[]);
    builder.push(NOW.wall.0, None, Some(b"second"), &[]);
    builder.build()
}

fn marker(id: i64, epoch: i16, committed: bool) -> TxnMarker {
    TxnMarker {
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        coordinator_epoch: 3,
        committed,
    }
}

fn told(fetched: &Fetched) -> Option<Vec<(i64, i64)>> {
    let aborted = fetched.aborted.as_ref()?;
    Some(aborted.iter().map(|it| (it.producer_id.0, it.first_offset.0)).collect())
}

#[test]
fn the_first_batch_of_a_transaction_needs_the_word_of_its_coordinator_and_the_next_none() {
    let mut bench = Bench::new();
    let (first, second) = (batch(1, 0, 0, true), batch(1, 0, 2, true));
    assert_eq!(bench.produce(&first, None), Err(ErrorCode::InvalidTxnState));
    let other = bench.begin(&batch(2, 0, 0, true));
    assert_eq!(bench.produce(&first, Some(other)), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.end(), Offset::ZERO);
    assert_eq!(bench.verified(&first), Ok(Offset(0)));
    assert!(!bench.partition.needs_verification(NOW, &second, &bench.log));
    assert_eq!(bench.produce(&second, None), Ok(Offset(2)));
    let of_next_epoch = batch(1, 1, 0, true);
    assert!(bench.partition.needs_verification(NOW, &of_next_epoch, &bench.log));
    let plain = batch(1, 0, 4, false);
    assert_eq!(bench.produce(&plain, None), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.produce(&batch(5, 0, 0, false), None), Ok(Offset(4)));
}

#[test]
fn an_answer_that_comes_late_does_not_open_an_aborted_transaction_again() {
    let mut bench = Bench::new();
    let first = batch(1, 0, 0, true);
    let guard = bench.begin(&first);
    assert_eq!(bench.mark(marker(1, 0, false), 0), Ok(()));
    assert_eq!(bench.produce(&first, Some(guard)), Err(ErrorCode::InvalidTxnState));

    let next = bench.begin(&first);
    assert_ne!(next, guard);
    assert_eq!(bench.produce(&first, Some(guard)), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.produce(&first, Some(next)), Ok(Offset(1)));
    assert_eq!(bench.mark(marker(1, 0, false), 0), Ok(()));
    let later = batch(1, 0, 2, true);
    assert_eq!(bench.produce(&later, Some(next)), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.end(), Offset(4));
}

#[test]
fn an_answer_from_before_another_epoch_of_the_leader_is_worth_nothing() {
    let mut bench = Bench::new();
    let first = batch(1, 0, 0, true);
    let guard = bench.begin(&first);
    bench.partition.raise_epoch(LeaderEpoch(5), in_sync(5, &[1, 2]));
    assert_eq!(bench.produce(&first, Some(guard)), Err(ErrorCode::InvalidTxnState));
    let again = bench.begin(&first);
    assert_ne!(again, guard);
    assert_eq!(bench.produce(&first, Some(guard)), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.produce(&first, Some(again)), Ok(Offset(0)));
}

#[test]
fn a_repeated_batch_of_a_transaction_that_has_ended_is_answered_without_a_question() {
    let mut bench = Bench::new();
    let first = batch(1, 0, 0, true);
    bench.verified(&first).expect("taken");
    bench.mark(marker(1, 0, true), 0).expect("it is written");
    assert!(!bench.partition.needs_verification(NOW, &first, &bench.log));
    assert_eq!(bench.produce(&first, None), Ok(Offset(0)));
    assert_eq!(bench.end(), Offset(3));
}

#[test]
fn a_later_batch_of_an_unknown_producer_does_not_pass_one_that_is_asked_for_too() {
    let mut bench = Bench::new();
    let (first, second) = (batch(1, 0, 40, true), batch(1, 0, 42, true));
    let guard = bench.begin(&second);
    assert_eq!(bench.begin(&first), guard, "they are asked for together");
    assert_eq!(bench.produce(&second, Some(guard)), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(bench.produce(&first, Some(guard)), Ok(Offset(0)));
    assert_eq!(bench.produce(&second, Some(guard)), Ok(Offset(2)));
}

#[test]
fn a_newer_epoch_that_is_asked_for_fences_an_older_one() {
    let mut bench = Bench::new();
    let (old, new) = (batch(1, 0, 0, true), batch(1, 1, 0, true));
    let guard = bench.begin(&old);
    let newer = bench.begin(&new);
    let refused = bench.partition.begin_verification(NOW, &old);
    assert_eq!(refused, Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(bench.produce(&old, Some(guard)), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.produce(&old, Some(newer)), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.produce(&new, Some(newer)), Ok(Offset(0)));
}

#[test]
fn an_epoch_that_the_coordinator_does_not_know_fences_nobody() {
    let mut bench = Bench::new();
    let (right, made_up) = (batch(1, 1, 0, true), batch(1, 5, 0, true));
    let guard = bench.begin(&made_up);
    bench.partition.refuse_verification(guard, ErrorCode::ConcurrentTransactions);
    let refused = bench.partition.begin_verification(NOW, &right);
    assert_eq!(refused, Err(ErrorCode::InvalidProducerEpoch), "it may be the newer one");
    bench.partition.refuse_verification(guard, ErrorCode::ProducerFenced);
    assert_eq!(bench.produce(&made_up, Some(guard)), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.verified(&right), Ok(Offset(0)));
}

#[test]
fn the_refusal_of_an_earlier_question_leaves_the_later_one() {
    let mut bench = Bench::new();
    let (old, new) = (batch(1, 0, 0, true), batch(1, 1, 0, true));
    let guard = bench.begin(&old);
    let newer = bench.begin(&new);
    bench.partition.refuse_verification(guard, ErrorCode::ProducerFenced);
    assert_eq!(bench.produce(&new, Some(newer)), Ok(Offset(0)));
}

#[test]
fn no_more_producers_are_asked_for_than_the_bound_until_the_oldest_are_past() {
    let mut verifications = Verifications::default();
    let begin = |verifications: &mut Verifications, mono, id| {
        verifications.begin(mono, &batch(id, 0, 0, true), LeaderEpoch(1), 2)
    };
    assert!(begin(&mut verifications, NOW.mono, 1).is_ok());
    assert!(begin(&mut verifications, NOW.mono, 2).is_ok());
    let refused = begin(&mut verifications, NOW.mono, 3);
    assert_eq!(refused, Err(ErrorCode::NotEnoughReplicas));
    assert!(begin(&mut verifications, NOW.mono, 2).is_ok(), "it is asked for already");
    assert!(begin(&mut verifications, NOW.mono + IDLE, 3).is_ok());
    assert_eq!(verifications.of.len(), 1);
}

#[test]
fn a_marker_counts_and_is_answered_once_it_is_below_the_high_watermark() {
    let mut bench = Bench::new();
    bench.verified(&batch(1, 0, 0, true)).expect("taken");
    bench.produce(&batch(-1, -1, -1, false), None).expect("taken");
    bench.acknowledge(Offset(4));
    assert_eq!((bench.latest(false), bench.latest(true)), (Offset(4), Offset(0)));
    assert_eq!(bench.mark(marker(1, 0, false), 0), Ok(()));
    let asked = bench.requests;
    bench.acknowledge(Offset(4));
    assert_eq!((bench.latest(false), bench.latest(true)), (Offset(4), Offset(0)));
    assert!(bench.read(&item(0, 1_000, true)).records.is_empty());
    assert_eq!(bench.partition.readable(&item(0, 1_000, true), &bench.log), Ok(0));
    assert!(bench.taken().is_empty());

    bench.acknowledge(Offset(5));

    assert_eq!((bench.latest(false), bench.latest(true)), (Offset(5), Offset(5)));
    let taken = bench.taken();
    assert_eq!(
        taken.iter().map(|it| (it.0, it.1.base_offset)).collect::<Vec<_>>(),
        [(asked, Offset(4))]
    );
    let fetched = bench.read(&item(0, 1_000, true));
    assert_eq!(end_of(&fetched.records), Some(Offset(5)));
    assert_eq!(told(&fetched), Some(vec![(1, 0)]));
    assert_eq!(fetched.last_stable_offset, Offset(5));
    assert_eq!(told(&bench.read(&item(0, 1_000, false))), None, "nobody asked");
}

#[test]
fn who_reads_all_records_and_who_follows_is_not_held_up_by_an_open_transaction() {
    let mut bench = Bench::new();
    bench.verified(&batch(1, 0, 0, true)).expect("taken");
    bench.acknowledge(Offset(2));
    bench.produce(&batch(-1, -1, -1, false), None).expect("taken");
    let all = bench.read(&item(0, 1_000, false));
    assert_eq!((end_of(&all.records), all.last_stable_offset), (Some(Offset(2)), Offset(0)));
    let follower = FetchItem { replica: Some(FOLLOWER), ..item(0, 1_000, false) };
    assert_eq!(end_of(&bench.read(&follower).records), Some(Offset(4)));
}

#[test]
fn lookups_for_readers_of_committed_records_end_at_the_last_stable_offset() {
    let mut bench = Bench::new();
    bench.produce(&batch(-1, -1, -1, false), None).expect("taken");
    bench.verified(&batch(1, 0, 0, true)).expect("taken");
    bench.acknowledge(Offset(4));
    for (read_committed, end) in [(true, Offset(2)), (false, Offset(4))] {
        let by_time = bench.list(NOW.wall.0, read_committed);
        assert!(matches!(by_time, Lookup::Search(TimeLookup::AtLeast(_), at) if at == end));
        let largest = bench.list(-3, read_committed);
        assert!(matches!(largest, Lookup::Search(TimeLookup::Largest, at) if at == end));
        assert_eq!(bench.latest(read_committed), end);
    }
}

#[test]
fn a_marker_that_is_refused_is_not_written() {
    let mut bench = Bench::new();
    bench.verified(&batch(1, 3, 0, true)).expect("taken");
    let refused = Err::<(), ErrorCode>;
    let mut judge = |marker, version| bench.mark(marker, version);
    assert_eq!(judge(marker(1, 2, true), 0), refused(ErrorCode::InvalidProducerEpoch));
    assert_eq!(judge(marker(1, 3, true), 2), refused(ErrorCode::InvalidProducerEpoch));
    assert_eq!(judge(marker(1, 4, true), 2), Ok(()));
    let of_zombie = TxnMarker { coordinator_epoch: 2, ..marker(1, 4, true) };
    assert_eq!(judge(of_zombie, 2), refused(ErrorCode::TransactionCoordinatorFenced));
    assert_eq!(bench.end(), Offset(3));
    bench.partition.configure(config(2));
    bench.partition.raise_epoch(LeaderEpoch(5), in_sync(5, &[1]));
    assert_eq!(bench.mark(marker(1, 4, true), 2), refused(ErrorCode::NotEnoughReplicas));
    assert_eq!(bench.end(), Offset(3));
}

#[test]
fn a_leader_that_followed_knows_open_transactions_and_waits_for_markers_that_it_has_not_seen_committed()
 {
    let mut bench = Bench::new();
    bench.verified(&batch(1, 0, 0, true)).expect("taken");
    bench.verified(&batch(2, 0, 0, true)).expect("taken");
    bench.mark(marker(1, 0, false), 0).expect("it is written");
    bench.acknowledge(Offset(5));
    let Bench { log, .. } = bench;
    for (known, expected) in [(0, 0), (3, 0), (4, 0), (5, 2)] {
        let in_sync = in_sync(6, &[1, 2]);
        let known = Some(Offset(known));
        let led = Partition::new(ID, config(1), LeaderEpoch(6), in_sync, known, &log);
        assert_eq!(led.last_stable_offset(&log), Offset(expected), "{known:?}");
    }
}

#[test]
fn what_was_read_from_below_the_start_of_the_log_is_not_told_as_if_nothing_had_been_aborted() {
    let mut bench = Bench::new();
    bench.verified(&batch(1, 0, 0, true)).expect("taken");
    bench.mark(marker(1, 0, false), 0).expect("it is written");
    bench.verified(&batch(2, 0, 0, true)).expect("taken");
    bench.mark(marker(2, 0, true), 0).expect("it is written");
    bench.acknowledge(Offset(6));
    let asked = item(0, 1_000, true);
    let fetched = bench.read(&asked);
    let bench = &mut bench;
    bench.log.move_log_start(NOW, ID, Offset(4), &mut bench.fx);
    let late = fetched.with_aborted(&asked, &bench.log).map(|it| told(&it));
    assert_eq!(late, Err(FetchRefusal::Code(ErrorCode::OffsetOutOfRange)));
}

/// Producer, first offset, and the marker with the outcome.
type Transaction = (i64, i64, Option<(i64, bool)>);

#[derive(Clone, Debug)]
enum Step {
    Produce(i64),
    Plain,
    Mark(i64, bool),
}

proptest! {
    /// The model keeps what was appended, and looks at all of it.
    #[test]
    fn readers_of_committed_records_get_what_is_stable_with_exactly_the_aborted_that_overlap(
        steps in prop::collection::vec(prop_oneof![
            3 => (1..4_i64).prop_map(Step::Produce),
            1 => Just(Step::Plain),
            2 => (1..4_i64, any::<bool>()).prop_map(|(id, committed)| Step::Mark(id, committed)),
        ], 1..40),
        behind in 0..6_i64,
    ) {
        let mut bench = Bench::new();
        let mut transactions: Vec<Transaction> = Vec::new();
        let mut sequences = [0; 4];
        for step in steps {
            let end = bench.end().0;
            match step {
                Step::Produce(id) => {
                    let sequence = &mut sequences[id as usize];
                    prop_assert_eq!(bench.verified(&batch(id, 0, *sequence, true)), Ok(Offset(end)));
                    *sequence += 2;
                    if !transactions.iter().any(|it| it.0 == id && it.2.is_none()) {
                        transactions.push((id, end, None));
                    }
                }
                Step::Plain => {
                    prop_assert!(bench.produce(&batch(-1, -1, -1, false), None).is_ok());
                }
                Step::Mark(id, committed) => {
                    prop_assert_eq!(bench.mark(marker(id, 0, committed), 0), Ok(()));
                    let open = transactions.iter_mut().find(|it| it.0 == id && it.2.is_none());
                    if let Some(open) = open {
                        open.2 = Some((end, committed));
                    }
                }
            }
        }
        let high_watermark = (bench.end().0 - behind).max(0);
        bench.acknowledge(Offset(high_watermark));
        let counts = |it: &&Transaction| {
            it.2.is_none_or(|(marker, _)| marker >= high_watermark)
        };
        let first = transactions.iter().filter(counts).map(|it| it.1).min();
        let stable = first.unwrap_or(high_watermark).min(high_watermark);
        prop_assert_eq!(bench.latest(true), Offset(stable));
        for from in 0..stable {
            for max_bytes in [1, 300, 100_000] {
                let fetched = bench.read(&item(from, max_bytes, true));
                let Some(end) = end_of(&fetched.records) else {
                    // What holds the offset goes on beyond the stable end.
                    continue;
                };
                prop_assert!(end.0 <= stable);
                let overlaps = |it: &&Transaction| {
                    it.1 < end.0 && it.2.is_some_and(|(marker, committed)| !committed && marker >= from)
                };
                let mut expected: Vec<(i64, i64)> =
                    transactions.iter().filter(overlaps).map(|it| (it.0, it.1)).collect();
                expected.sort_unstable_by_key(|it| it.1);
                prop_assert_eq!(told(&fetched), Some(expected), "{} to {}", from, end);
                let bytes: usize = fetched.records.iter().map(Bytes::len).sum();
                prop_assert!(bytes > 0);
            }
        }
    }
}
