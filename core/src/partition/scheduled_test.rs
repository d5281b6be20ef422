//! Features at a leader with one follower, whose acknowledgements move the high watermark.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::broker::post::{FetchItem, FetchRefusal};
use crate::config::BrokerSettings;
use crate::connection::RequestId;
use crate::ids::{
    ConnectionId, LeaderEpoch, NodeId, PartitionIndex, ShardId, TopicName, TopicPartition, Uuid,
};
use crate::log::LogConfig;
use crate::metadata::PartitionImage;
use crate::metadata::topic_config::{Overrides, TopicConfig};
use crate::partition::leader::{Acks, Reading};
use crate::partition::loading::LoadStep;
use crate::partition::{FollowerId, InSync};
use crate::record::builder::{BatchBuilder, NewHeader};
use crate::record::compress::Codec;
use crate::record::features::Features;
use crate::record::testing::newer_note;
use crate::time::UnixMillis;

const ID: TopicPartition = TopicPartition { topic_id: Uuid([7; 16]), partition: PartitionIndex(0) };
const FOLLOWER: FollowerId = FollowerId { node: NodeId(2), broker_epoch: 5 };
const NOW: Now = Now { mono: Instant::from_nanos(1), wall: UnixMillis(1_700_000_000_000) };

/// Headers of a record.
type Asks<'a> = &'a [(&'a str, &'a str)];

const NAMED: Asks<'static> = &[("mainspring-delay-ms", "60000"), ("mainspring-id", "n")];
const CANCEL: Asks<'static> = &[("mainspring-op", "cancel"), ("mainspring-id", "n")];

struct Bench {
    log: LogStore,
    partition: Partition,
    fx: Effects,
    requests: u64,
}

fn in_sync(epoch: i32) -> InSync {
    let state = PartitionImage {
        replicas: vec![NodeId(1), NodeId(2)],
        isr: vec![NodeId(1), NodeId(2)],
        leader: NodeId(1),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: 1,
        adding: Vec::new(),
        removing: Vec::new(),
    };
    InSync::new(NOW.mono, NodeId(1), &state, BTreeSet::new(), (Offset::ZERO, Offset::ZERO))
}

fn config() -> Arc<TopicConfig> {
    let config = TopicConfig::effective(&BrokerSettings::default(), &Overrides::default(), true);
    let features = Features { schedule: true, dedup: true, ..Features::default() };
    let settings = ScheduleSettings { features, ..ScheduleSettings::default() };
    Arc::new(TopicConfig { features: Some(Arc::new(settings)), ..config })
}

/// Returns a batch of one record for each of the headers.
fn asking(records: &[Asks<'_>]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for headers in records {
        let headers: Vec<NewHeader<'_>> =
            headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
        builder.push(NOW.wall.0, Some(b"k"), Some(b"v"), &headers);
    }
    builder.build().to_bytes()
}

fn item(offset: Offset) -> FetchItem {
    FetchItem {
        index: 0,
        partition: ID,
        offset,
        max_bytes: 1 << 20,
        at_least_one: true,
        current_leader_epoch: LeaderEpoch::UNKNOWN,
        last_fetched_epoch: LeaderEpoch::UNKNOWN,
        replica: None,
        log_start: Offset::ZERO,
        read_committed: false,
        may_follow: false,
        near: None,
        known_readable: 0,
    }
}

impl Bench {
    fn new() -> Self {
        let mut fx = Effects::default();
        let mut log = LogStore::new(LogConfig { memory_only: true, ..LogConfig::default() });
        log.start(NOW, &mut fx);
        let name = TopicName::parse("t").expect("a name");
        log.create(NOW, ID, &name, config().log, &mut fx);
        let partition = Partition::new(ID, config(), LeaderEpoch(4), in_sync(4), None, &log);
        let mut bench = Self { log, partition, fx, requests: 0 };
        bench.load();
        bench
    }

    /// Reads the log from its start, as whoever begins to lead.
    fn load(&mut self) {
        self.partition.open_features(&mut self.log);
        while let LoadStep::More =
            self.partition.load_step(NOW, &mut self.log, &mut self.fx).expect("it can be read")
        {
        }
    }

    /// Produces with acks=1.
    fn produce(&mut self, records: Bytes) -> (u64, Option<Result<Produced, ProduceRefusal>>) {
        self.requests += 1;
        let request = RequestId { connection: ConnectionId(1), sequence: self.requests };
        let waiter = Waiter { shard: ShardId(0), request, index: 0 };
        let Self { log, partition, fx, .. } = self;
        let acks = Acks { version: 11, all_replicas: false, wait: true };
        let answer = partition.produce(NOW, records, acks, None, waiter, log, fx);
        // It is stable here at once.
        while log.poll_event().is_some() {}
        let end = log.log_end_offset(ID).expect("known");
        partition.advance(end);
        (self.requests, answer)
    }

    fn end(&self) -> Offset {
        self.log.log_end_offset(ID).expect("known")
    }

    fn pending(&self) -> usize {
        let machine = self.partition.scheduled().and_then(Scheduled::machine);
        machine.expect("it is loaded").stats().pending
    }

    /// The follower has all of it.
    fn commit(&mut self) {
        let end = self.end();
        let item = FetchItem { replica: Some(FOLLOWER), ..item(end) };
        self.partition.note_follower(NOW, &item, &self.log);
        let epoch = self.partition.leader_epoch();
        self.partition.acknowledged(NOW, FOLLOWER, epoch, end, &self.log);
    }

    fn answered(&mut self) -> Vec<u64> {
        let mut answered = Vec::new();
        while let Some((waiter, _)) = self.partition.take_committed(&self.log) {
            answered.push(waiter.request.sequence);
        }
        answered
    }
}

#[test]
fn a_command_that_changes_nothing_is_answered_when_what_it_rests_on_is_committed() {
    let mut bench = Bench::new();
    let (entry, answer) = bench.produce(asking(&[NAMED]));
    assert_eq!(answer, None, "what waits is promised to all");
    bench.commit();
    assert_eq!(bench.answered(), [entry]);

    let (first, answer) = bench.produce(asking(&[CANCEL]));
    assert_eq!(answer, None);
    // The cancel is there, so this one is nothing: but the follower has neither and may lead next.
    let (second, answer) = bench.produce(asking(&[CANCEL]));
    assert_eq!((answer, bench.answered()), (None, Vec::new()));
    let (plain, answer) = bench.produce(asking(&[&[]]));
    assert_eq!((answer, bench.answered()), (None, vec![plain]), "acks=1 waits for this node alone");

    let mut failed_over = bench.partition.clone();
    let refused = failed_over.abandon().into_iter().map(|waiter| waiter.request.sequence);
    assert_eq!(refused.collect::<Vec<_>>(), [first, second]);
    bench.commit();
    assert_eq!(bench.answered(), [first, second]);
}

#[test]
fn a_duplicate_is_acknowledged_when_the_original_is_committed() {
    let mut bench = Bench::new();
    let same: Asks<'_> = &[("mainspring-dedup-id", "d")];
    let (first, answer) = bench.produce(asking(&[same]));
    assert_eq!(answer, None);
    let (second, answer) = bench.produce(asking(&[same]));
    assert_eq!((answer, bench.answered()), (None, Vec::new()));
    bench.commit();
    assert_eq!(bench.answered(), [first, second]);
}

#[test]
fn what_a_small_batch_unpacks_to_is_bounded_and_what_is_bounded_is_taken() {
    let mut bench = Bench::new();
    let asking = |bytes: usize, delayed: usize, plain: usize| {
        let value = vec![b'v'; bytes];
        let mut builder = BatchBuilder::new(Codec::Zstd);
        for _ in 0..delayed {
            let later: NewHeader<'_> = (b"mainspring-delay-ms", Some(b"60000"));
            builder.push(NOW.wall.0, None, Some(&value), &[later]);
        }
        for _ in 0..plain {
            builder.push(NOW.wall.0, None, Some(&value), &[]);
        }
        builder.build().to_bytes()
    };
    // A note of 120 MiB, and 120 MiB that are stored at once because one record is not.
    for records in [asking(1 << 20, 120, 0), asking(1 << 20, 1, 120)] {
        assert!(records.len() < 1 << 20);
        let end = bench.end();
        let (_, answer) = bench.produce(records);
        let refused = answer.expect("at once").expect_err("it is too large");
        assert_eq!(refused.code, ErrorCode::MessageTooLarge);
        assert!(refused.message.expect("for people").contains("uncompressed"));
        assert_eq!((bench.end(), bench.pending()), (end, 0), "nothing was written");
    }
    // What is stored as it was produced may unpack to anything.
    assert_eq!(bench.produce(asking(1 << 20, 0, 120)).1, None);
    assert_eq!(bench.produce(asking(1 << 20, 7, 0)).1, None);
    assert_eq!(bench.pending(), 7);
}

#[test]
fn a_note_whose_batch_failed_counts_for_nothing_whatever_comes_behind_it() {
    let mut bench = Bench::new();
    let batch = Batch::split_from(&mut asking(&[NAMED])).expect("whole");
    let Bench { partition, log, fx, .. } = &mut bench;
    let admitted = partition.admit(NOW, &batch, log).expect("sound").expect("it may wait");
    partition.append_own(NOW, admitted.note.expect("one"), log, fx).expect("it is written");
    // The disk is full for its batch, which is void like this one.
    let nothing: Asks<'_> = &[("mainspring-op", "cancel-if-pending"), ("mainspring-id", "other")];
    bench.produce(asking(&[nothing]));
    assert_eq!(bench.pending(), 0);
    bench.produce(asking(&[NAMED]));
    assert_eq!(bench.pending(), 1);
}

#[test]
fn a_follower_of_a_leader_without_records_is_told_to_cut_what_it_has_more() {
    let bench = Bench::new();
    let ahead = FetchItem {
        replica: Some(FOLLOWER),
        last_fetched_epoch: LeaderEpoch(2),
        ..item(Offset(1))
    };
    let read = bench.partition.read(&ahead, &bench.log);
    let cut = (LeaderEpoch(2), Offset::ZERO);
    assert!(
        matches!(read, Err(FetchRefusal::Diverging { epoch, end_offset }) if (epoch, end_offset) == cut),
        "{read:?}"
    );
}

/// A follower is told of a new start and leads before that is durable.
#[test]
fn a_start_that_moves_while_the_log_is_read_hides_nothing_from_clients() {
    let mut bench = Bench::new();
    for _ in 0..6 {
        bench.produce(asking(&[&[]]));
    }
    bench.commit();
    let Bench { partition, log, fx, .. } = &mut bench;
    *partition = Partition::new(ID, config(), LeaderEpoch(5), in_sync(5), None, log);
    partition.open_features(log);
    log.move_log_start(NOW, ID, Offset(3), fx);
    while log.poll_event().is_some() {}
    assert_eq!(log.log_start_offset(ID), Some(Offset(3)));

    bench.load();
    bench.commit();

    let shown = bench.partition.shown_high_watermark(&bench.log);
    assert_eq!(shown, Some(Offset(6)));
    let read = bench.partition.read(&item(Offset(3)), &bench.log);
    assert!(matches!(&read, Ok(Reading::Done(it)) if !it.records.is_empty()), "{read:?}");
}

#[test]
fn a_log_with_a_note_that_cannot_be_read_is_refused_to_clients_and_not_to_followers() {
    let mut bench = Bench::new();
    let Bench { partition, log, fx, .. } = &mut bench;
    let refused = partition.append_own(NOW, newer_note(), log, fx);
    assert!(matches!(refused, Err(AppendError::Damaged(Offset(0)))), "{refused:?}");

    for _ in 0..2 {
        let (_, answer) = bench.produce(asking(&[&[]]));
        assert_eq!(answer.expect("at once").expect_err("no").code, ErrorCode::KafkaStorageError);
        let Bench { partition, log, fx, .. } = &mut bench;
        let read = partition.read(&item(Offset::ZERO), log);
        assert!(matches!(read, Err(FetchRefusal::Code(ErrorCode::KafkaStorageError))), "{read:?}");
        let follows = FetchItem { replica: Some(FOLLOWER), ..item(Offset::ZERO) };
        assert!(partition.read(&follows, log).is_ok());

        // The next leader finds it too.
        partition.raise_epoch(LeaderEpoch(5), in_sync(5));
        partition.open_features(log);
        let why = partition.load_step(NOW, log, fx).expect_err("it cannot be read");
        partition.break_features(&why);
        assert!(matches!(partition.load_step(NOW, log, fx), Ok(LoadStep::Wait)));
    }
}
