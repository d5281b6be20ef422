use bytes::Bytes;

use super::*;
use crate::error::ErrorCode;
use crate::ids::{NodeId, PartitionIndex, ShardId, TopicName};
use crate::io::{Effect, Event, WriteBody};
use crate::log::api::{
    AppendError, FetchPlan, FileRange, FoundRecord, LogSettings, ReadError, ReadTicket, Sequence,
    Storage, TimeLookup,
};
use crate::log::testing::TestDisk;
use crate::record::batch::Batch;
use crate::record::builder::{BatchBuilder, Producer};
use crate::record::compress::Codec;
use crate::time::UnixMillis;

#[path = "cut_edges_test.rs"]
mod cut_edges;
#[path = "damage_test.rs"]
mod damage;
#[path = "deletion_test.rs"]
mod deletion;
#[path = "hidden_test.rs"]
mod hidden;
#[path = "replica_test.rs"]
mod replica;
#[path = "retention_test.rs"]
mod retention;
#[path = "start_test.rs"]
mod starts;
#[path = "transactions_test.rs"]
mod transactions;
#[path = "truncation_test.rs"]
mod truncation;

const SMALL: LogConfig = LogConfig {
    shard: ShardId(0),
    node_id: NodeId(1),
    seed: 7,
    is_member: false,
    memory_only: false,
    journal_first_file_bytes: 32 << 10,
    journal_file_bytes: 64 << 10,
    journal_max_bytes: 1 << 20,
    journal_block_bytes: 16 << 10,
    unwritten_max_bytes: 1 << 20,
    tail_cache_bytes: 8 << 10,
    retention_check_interval_ms: 1_000,
    disk_reserve_bytes: None,
    producer_ids_max: 100,
    producer_id_expiration_ms: 86_400_000,
    buggify: None,
    reports: false,
};

struct Node {
    config: LogConfig,
    disk: TestDisk,
    store: LogStore,
    fx: Effects,
    now: Now,
    events: Vec<LogEvent>,
    /// What was observed since the last start.
    observed: Vec<Event>,
    fatal: Option<String>,
    /// Effects on files whose name contains this text do not come to their end.
    holds: Option<&'static str>,
    /// Those that did not, in their order. A restart loses them.
    held: VecDeque<Effect>,
}

impl Node {
    fn new() -> Self {
        Self::with(SMALL)
    }

    fn with(config: LogConfig) -> Self {
        Self::on(config, TestDisk::default())
    }

    fn on(config: LogConfig, disk: TestDisk) -> Self {
        let now = Now { mono: Instant::from_nanos(1), wall: UnixMillis(1_700_000_000_000) };
        let mut node = Self {
            store: LogStore::new(config.clone()),
            config,
            disk,
            fx: Effects::default(),
            now,
            events: Vec::new(),
            observed: Vec::new(),
            fatal: None,
            holds: None,
            held: VecDeque::new(),
        };
        node.start();
        node
    }

    fn start(&mut self) {
        self.store = LogStore::new(self.config.clone());
        self.fx = Effects::default();
        self.events.clear();
        self.observed.clear();
        self.holds = None;
        self.held.clear();
        self.store.start(self.now, &mut self.fx);
        self.settle();
    }

    /// Process crash: what is in files stays.
    fn restart(&mut self) {
        self.start();
        assert!(self.fatal.is_none(), "{:?}", self.fatal);
        let recovered = self.events.iter().any(|e| matches!(e, LogEvent::Recovered { .. }));
        assert!(recovered, "the store recovers");
    }

    /// Lets everything come to its end that was held back, and all that follows.
    fn let_go(&mut self) {
        self.holds = None;
        while let Some(effect) = self.held.pop_front() {
            self.fx.push(effect);
        }
        self.settle();
    }

    /// Lets the first come to its end that was held back, and what follows that is not held.
    fn let_one_go(&mut self) {
        let effect = self.held.pop_front().expect("something is held back");
        let (token, result) = self.disk.perform(effect).expect("a file effect");
        self.store.handle_completion(self.now, token, result, &mut self.fx);
        self.settle();
    }

    /// Process crash. Returns where the start wrote to a file of that name, in its order.
    fn restart_and_note_writes_to(&mut self, name: &str) -> Vec<u64> {
        self.store = LogStore::new(self.config.clone());
        self.fx = Effects::default();
        (self.holds, self.held) = (None, VecDeque::new());
        self.store.start(self.now, &mut self.fx);
        let mut positions = Vec::new();
        while let Some(effect) = self.fx.pop() {
            match &effect {
                Effect::Write { file, position, .. } if file.as_str().contains(name) => {
                    positions.push(*position);
                }
                _ => {}
            }
            if let Ok((token, result)) = self.disk.perform(effect) {
                self.store.handle_completion(self.now, token, result, &mut self.fx);
            }
        }
        positions
    }

    fn settle(&mut self) {
        self.store.end_turn(self.now, &mut self.fx);
        loop {
            let Some(effect) = self.fx.pop() else { break };
            if let (Some(text), Some(file)) = (self.holds, TestDisk::file_of(&effect))
                && file.as_str().contains(text)
            {
                self.held.push_back(effect);
                continue;
            }
            match self.disk.perform(effect) {
                Ok((token, result)) => {
                    self.store.handle_completion(self.now, token, result, &mut self.fx);
                }
                Err(Effect::Fatal { message }) => self.fatal = Some(message),
                Err(Effect::Observe(event)) => self.observed.push(event),
                Err(_) => {}
            }
            while let Some(event) = self.store.poll_event() {
                self.events.push(event);
            }
        }
        while let Some(event) = self.store.poll_event() {
            self.events.push(event);
        }
    }

    fn pass(&mut self, millis: u64) {
        let end = self.now.mono + Duration::from_millis(millis);
        while let Some(deadline) = self.store.next_deadline()
            && deadline <= end
        {
            let step = deadline.since(self.now.mono);
            self.now.mono = self.now.mono.max(deadline);
            self.now.wall = self.now.wall.plus(step.as_millis() as i64);
            self.store.handle_wakeup(self.now, &mut self.fx);
            self.settle();
        }
        let step = end.since(self.now.mono);
        self.now.mono = end;
        self.now.wall = self.now.wall.plus(step.as_millis() as i64);
    }

    fn create(&mut self, number: u8, settings: LogSettings) -> TopicPartition {
        let id = TopicPartition { topic_id: Uuid([number; 16]), partition: PartitionIndex(0) };
        let name = TopicName::parse(&format!("topic{number}")).expect("a name");
        self.store.create(self.now, id, &name, settings, &mut self.fx);
        self.settle();
        id
    }

    fn append(&mut self, log: TopicPartition, value: &[u8]) -> Offset {
        let batch = batch(value, None);
        let offset = self
            .store
            .append(self.now, log, LeaderEpoch(1), batch, &mut self.fx)
            .expect("the append is taken");
        self.settle();
        offset
    }

    fn fetch(&mut self, log: TopicPartition, from: Offset, max_bytes: u64) -> Vec<Batch> {
        let end = self.store.stable_end(log).expect("known").value();
        let parts = match self.store.plan_fetch(log, from, end, max_bytes, true) {
            FetchPlan::Memory(parts) => parts,
            FetchPlan::File(range) => {
                self.events.clear();
                self.store.read(self.now, range, ReadTicket(1), &mut self.fx);
                self.settle();
                let read = self.events.iter().find_map(|event| match event {
                    LogEvent::Read { result, .. } => Some(result.clone()),
                    _ => None,
                });
                read.expect("the read is answered").expect("the read is good")
            }
        };
        let mut bytes: Bytes = parts.concat().into();
        let mut batches = Vec::new();
        while !bytes.is_empty() {
            batches.push(Batch::split_from(&mut bytes).expect("whole batches"));
        }
        batches
    }

    fn fetch_all(&mut self, log: TopicPartition) -> Vec<Batch> {
        let mut at = self.store.log_start_offset(log).expect("known");
        let end = self.store.stable_end(log).expect("known").value();
        let mut all = Vec::new();
        while at < end {
            let batches = self.fetch(log, at, 5_000);
            assert!(!batches.is_empty(), "a fetch below the end brings something");
            at = batches.last().expect("some").next_offset();
            all.extend(batches);
        }
        all
    }

    fn find(&mut self, log: TopicPartition, lookup: TimeLookup) -> Option<FoundRecord> {
        let end = self.store.stable_end(log).expect("known").value();
        self.events.clear();
        self.store.find_by_time(self.now, log, lookup, end, ReadTicket(2), &mut self.fx);
        self.settle();
        self.events
            .iter()
            .find_map(|event| match event {
                LogEvent::Found { result, .. } => Some(result.clone()),
                _ => None,
            })
            .expect("the lookup is answered")
            .expect("the lookup is good")
    }
}

fn settings() -> LogSettings {
    LogSettings { segment_bytes: 10_000, ..LogSettings::until_configured(Storage::Disk) }
}

fn batch_at(value: &[u8], timestamp: i64, producer: Option<Producer>) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some(producer) = producer {
        builder = builder.producer(producer);
    }
    builder.push(timestamp, None, Some(value), &[]);
    builder.build()
}

fn batch(value: &[u8], producer: Option<Producer>) -> Batch {
    batch_at(value, 1_700_000_000_000, producer)
}

fn values(batches: &[Batch]) -> Vec<Vec<u8>> {
    batches
        .iter()
        .map(|batch| {
            assert!(batch.crc_is_valid());
            batch.rest()[..].to_vec()
        })
        .collect()
}

#[test]
fn an_append_is_stable_when_the_journal_has_flushed_it() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.append(log, b"one");
    assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(1)));
    assert!(
        node.events
            .iter()
            .any(|e| matches!(e, LogEvent::Stable { end, .. } if end.value() == Offset(1)))
    );
}

#[test]
fn appends_of_a_turn_share_a_flush_and_those_that_arrive_during_one_the_next() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for (per_turn, flushes) in [(1, 2), (20, 1)] {
        let (end, before) = (node.store.log_end_offset(log).expect("known"), node.disk.flushes);
        for number in 1..=20 {
            let taken =
                node.store.append(node.now, log, LeaderEpoch(1), batch(b"v", None), &mut node.fx);
            taken.expect("the append is taken");
            if number % per_turn == 0 {
                assert!(node.store.end_turn(node.now, &mut node.fx));
            }
        }
        assert!(!node.store.end_turn(node.now, &mut node.fx), "nothing came since");
        node.settle();
        assert_eq!(node.store.stable_end(log).map(Stable::value), Some(end.plus(20)));
        assert_eq!(node.disk.flushes - before, flushes, "with {per_turn} in a turn");
    }
}

#[test]
fn everything_acknowledged_is_there_after_a_crash_and_the_order_holds() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let mut sent = Vec::new();
    for round in 0..12 {
        for number in 0..30 {
            let value = format!("value {round} {number}").repeat(20);
            node.append(log, value.as_bytes());
            sent.push(batch(value.as_bytes(), None).rest()[..].to_vec());
        }
        if round % 2 == 0 {
            node.pass(1_500);
        }
        node.restart();
        let all = node.fetch_all(log);
        assert_eq!(values(&all), sent, "round {round}");
        let offsets: Vec<i64> = all.iter().map(|batch| batch.base_offset().0).collect();
        assert_eq!(offsets, (0..sent.len() as i64).collect::<Vec<_>>());
    }
}

#[test]
fn the_journal_is_used_again_once_a_checkpoint_covers_it() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for _ in 0..2_000 {
        node.append(log, &[7; 900]);
    }
    let journal: usize = node
        .disk
        .files
        .iter()
        .filter(|(name, _)| name.ends_with(".journal"))
        .map(|(_, content)| content.len())
        .sum();
    assert!(journal <= 1 << 20, "the ring stays within its bound: {journal}");
    assert!(node.disk.files.contains_key("checkpoint/0"));
    node.restart();
    assert_eq!(node.fetch_all(log).len(), 2_000);
}

#[test]
fn batches_are_evicted_once_written_and_read_from_their_segment() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for number in 0..60_u8 {
        node.append(log, &[number; 500]);
    }
    node.pass(2_000);
    let plan = node.store.plan_fetch(log, Offset(3), Offset(60), 2_000, true);
    assert!(matches!(plan, FetchPlan::File(_)));
    let got = node.fetch(log, Offset(3), 2_000);
    assert_eq!(got[0].base_offset(), Offset(3));
    assert_eq!(got.len(), 3, "three batches of 570 bytes fit in 2,000");
}

#[test]
fn a_lone_batch_counts_with_the_whole_block_that_it_keeps_in_memory() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for _ in 0..30 {
        node.append(log, b"small");
    }
    node.pass(2_000);
    assert_eq!(SMALL.tail_cache_bytes, 2 * 4_096);
    let is_in_memory = |offset| {
        let plan = node.store.plan_fetch(log, Offset(offset), Offset(30), 1_000, true);
        matches!(plan, FetchPlan::Memory(_))
    };
    assert_eq!((0..30).filter(|&offset| is_in_memory(offset)).count(), 2);
}

#[test]
fn small_batches_go_to_their_segment_in_one_write_as_slices_of_their_blocks() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for number in 0..20_u8 {
        let batch = batch(&[number; 30], None);
        let taken = node.store.append(node.now, log, LeaderEpoch(1), batch, &mut node.fx);
        taken.expect("the append is taken");
    }
    node.settle();
    let FetchPlan::Memory(tail) = node.store.plan_fetch(log, Offset(0), Offset(20), 9_000, true)
    else {
        panic!("recent batches are in memory");
    };
    node.now.mono = node.now.mono + Duration::from_secs(2);
    node.store.handle_wakeup(node.now, &mut node.fx);
    let effects = std::iter::from_fn(|| node.fx.pop());
    let mut runs = effects.filter_map(|effect| match effect {
        Effect::Write { file, body: WriteBody::Parts(parts), .. } => {
            file.as_str().starts_with("topic1-0/0").then_some(parts)
        }
        _ => None,
    });
    let place = |part: &Bytes| (part.as_ptr(), part.len());
    let written: Vec<_> = runs.next().expect("a run").iter().map(place).collect();
    assert_eq!(written, tail.iter().map(place).collect::<Vec<_>>());
    assert!(runs.next().is_none());
}

#[test]
fn a_fetch_gives_one_batch_even_if_it_is_larger_than_asked() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for _ in 0..30 {
        node.append(log, &[1; 3_000]);
    }
    node.pass(2_000);
    assert_eq!(node.fetch(log, Offset(2), 10).len(), 1);
    assert_eq!(node.fetch(log, Offset(29), 10).len(), 1);
}

#[test]
fn a_wrong_byte_in_a_segment_is_never_served_and_stops_produce() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for number in 0..60_u8 {
        node.append(log, &[number; 500]);
    }
    node.pass(2_000);
    let file = node.disk.files.get_mut("topic1-0/00000000000000000000.log").expect("a segment");
    file[2_000] ^= 1;
    let range =
        FileRange { log, from: Offset(3), end: Offset(60), max_bytes: 9_000, at_least_one: true };
    node.events.clear();
    node.store.read(node.now, range, ReadTicket(9), &mut node.fx);
    node.settle();
    assert!(node.events.iter().any(|event| matches!(
        event,
        LogEvent::Read { ticket: ReadTicket(9), result: Err(ReadError::Corrupt(_)) }
    )));
    let refused = node.store.append(node.now, log, LeaderEpoch(1), batch(b"x", None), &mut node.fx);
    assert_eq!(refused, Err(AppendError::Damaged(Offset(3))));
    assert_eq!(node.fetch(log, Offset(0), 1_500).len(), 2, "what lies before is served");
}

/// A node whose log of sixty batches stands in segments, and in memory no more.
fn node_with_segments() -> (Node, TopicPartition) {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for number in 0..60_u8 {
        node.append(log, &[number; 500]);
    }
    node.pass(2_000);
    (node, log)
}

#[test]
fn a_bit_that_flips_on_the_way_from_a_segment_is_no_rot() {
    for at in [3, 100, 2_000] {
        let (mut node, log) = node_with_segments();
        node.fetch(log, Offset(0), 100);
        node.disk.flips = Some((".log".to_owned(), at));
        let read = node.fetch_all(log);
        assert_eq!(read.len(), 60, "a wrong byte at {at}");
        assert!(node.disk.flips.is_none(), "it was read");
        node.append(log, b"produce goes on");
    }
}

#[test]
fn a_segment_that_is_gone_is_told_as_damage_and_the_others_are_served() {
    let (mut node, log) = node_with_segments();
    node.disk.files.remove("topic1-0/00000000000000000000.log").expect("a segment");
    let end = node.store.stable_end(log).expect("known").value();
    let range = FileRange { log, from: Offset(3), end, max_bytes: 9_000, at_least_one: true };
    node.events.clear();
    node.store.read(node.now, range, ReadTicket(9), &mut node.fx);
    node.settle();
    let told = node
        .events
        .iter()
        .any(|event| matches!(event, LogEvent::Read { result: Err(ReadError::Corrupt(_)), .. }));
    assert!(told, "{:?}", node.events);
    assert!(!node.fetch(log, Offset(40), 1_000).is_empty(), "the rest is served");
}

#[test]
fn an_index_that_cannot_be_read_is_built_anew_and_its_segment_is_served() {
    for index in [".index", ".timeindex"] {
        let (mut node, log) = node_with_segments();
        node.store.stop(node.now, &mut node.fx);
        node.settle();
        node.disk.unreadable = Some(index.to_owned());
        node.restart();
        assert_eq!(node.fetch_all(log).len(), 60, "{index}");
    }
}

#[test]
fn whatever_rarer_ways_the_code_takes_everything_is_there_after_a_crash() {
    for seed in 0..40 {
        let mut node = Node::with(LogConfig { buggify: Some(seed), ..SMALL });
        node.pass(20);
        let log = node.create(1, settings());
        for number in 0..60_u8 {
            node.append(log, &[number; 500]);
            node.pass(9);
        }
        for _ in 0..2 {
            assert_eq!(node.fetch_all(log).len(), 60, "seed {seed}");
            node.start();
            node.pass(20);
            assert_eq!(node.fatal, None);
        }
    }
}

#[test]
fn producers_are_remembered_over_crashes_and_checkpoints() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let producer = |sequence| Producer {
        id: crate::ids::ProducerId(5),
        epoch: crate::ids::ProducerEpoch(0),
        base_sequence: sequence,
    };
    for sequence in 0..300 {
        let batch = batch(&[3; 400], Some(producer(sequence)));
        assert_eq!(node.store.check_sequence(node.now, log, &batch), Ok(Sequence::Append));
        node.store
            .append(node.now, log, LeaderEpoch(1), batch, &mut node.fx)
            .expect("the append is taken");
        node.settle();
        if sequence % 70 == 69 {
            node.pass(2_000);
            node.restart();
        }
        for back in 0..5.min(sequence) {
            let again = self::batch(&[3; 400], Some(producer(sequence - back)));
            let verdict = node.store.check_sequence(node.now, log, &again);
            assert!(
                matches!(verdict, Ok(Sequence::Duplicate { base_offset, .. }) if base_offset.0 == i64::from(sequence - back))
            );
        }
    }
    let gap = batch(b"x", Some(producer(305)));
    assert_eq!(
        node.store.check_sequence(node.now, log, &gap),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
}

#[test]
fn moving_the_start_removes_whole_segments_and_survives_a_crash() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for _ in 0..100 {
        node.append(log, &[1; 900]);
    }
    node.pass(2_000);
    node.store.move_log_start(node.now, log, Offset(55), &mut node.fx);
    node.settle();
    assert!(!node.disk.files.contains_key("topic1-0/00000000000000000000.log"));
    node.restart();
    assert_eq!(node.store.log_start_offset(log), Some(Offset(55)));
    assert_eq!(node.fetch_all(log)[0].base_offset(), Offset(55));
}

#[test]
fn retention_by_size_leaves_at_least_the_limit() {
    let mut node = Node::new();
    let log = node.create(1, LogSettings { delete: true, retention_bytes: 30_000, ..settings() });
    for _ in 0..100 {
        node.append(log, &[1; 900]);
    }
    node.pass(5_000);
    let size = node.store.size(log).expect("known");
    assert!((30_000..40_500).contains(&size), "{size}");
    assert_eq!(
        node.fetch_all(log)[0].base_offset(),
        node.store.log_start_offset(log).expect("known")
    );
}

#[test]
fn retention_by_time_empties_a_quiet_log() {
    let mut node = Node::new();
    let log = node.create(1, LogSettings { delete: true, retention_ms: 10_000, ..settings() });
    node.append(log, b"old");
    node.pass(5_000);
    assert_eq!(node.store.log_start_offset(log), Some(Offset(0)));
    node.pass(10_000);
    assert_eq!(node.store.log_start_offset(log), Some(Offset(1)));
    node.append(log, b"young");
    node.restart();
    assert_eq!(node.fetch_all(log).len(), 1);
}

#[test]
fn records_are_found_by_time_in_memory_and_in_segments() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for number in 0..80_i64 {
        let batch = batch_at(&[1; 400], 1_000 * number, None);
        node.store
            .append(node.now, log, LeaderEpoch(1), batch, &mut node.fx)
            .expect("the append is taken");
        node.settle();
    }
    node.pass(2_000);
    for restart in [false, true] {
        if restart {
            node.restart();
        }
        for target in [0, 1, 999, 1_000, 31_500, 79_000] {
            let found = node.find(log, TimeLookup::AtLeast(target)).expect("there is one");
            assert_eq!(found.offset, Offset((target + 999) / 1_000), "{target}");
        }
        assert_eq!(node.find(log, TimeLookup::AtLeast(79_001)), None);
        let largest = node.find(log, TimeLookup::Largest).expect("there is one");
        assert_eq!((largest.offset, largest.timestamp), (Offset(79), 79_000));
    }
}

#[test]
fn a_record_is_found_by_time_where_its_segment_went_on_after_a_start_with_earlier_ones() {
    let mut node = Node::new();
    let log = node.create(1, LogSettings { segment_bytes: 1 << 20, ..settings() });
    let append = |node: &mut Node, time| {
        let batch = batch_at(&[1; 400], time, None);
        let taken = node.store.append(node.now, log, LeaderEpoch(1), batch, &mut node.fx);
        node.settle();
        taken.expect("the append is taken")
    };
    for number in 0..14 {
        append(&mut node, 1_000 + number);
    }
    let latest = append(&mut node, 90_000);
    node.pass(2_000);
    node.store.begin_checkpoint(&mut node.fx);
    node.settle();
    node.restart();
    // A read takes the indexes back from their files.
    assert_eq!(node.fetch_all(log).len(), 15);

    for number in 0..60 {
        append(&mut node, 2_000 + number);
    }
    node.pass(2_000);

    let found = node.find(log, TimeLookup::AtLeast(80_000)).expect("there is one");
    assert_eq!(found.offset, latest);
}

#[test]
fn a_lazy_log_is_stable_once_written_and_survives_a_process_crash() {
    let mut node = Node::with(LogConfig { journal_first_file_bytes: 256 << 10, ..SMALL });
    let log = node.create(1, LogSettings { flush: FlushPolicy::Lazy, ..settings() });
    let before = node.disk.flushes;
    for _ in 0..10 {
        node.append(log, b"lazy");
    }
    assert_eq!(node.disk.flushes, before, "no flush before the answer");
    assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(10)));
    node.pass(1_200);
    assert!(node.disk.flushes > before, "flushed within about a second");
    node.restart();
    assert_eq!(node.fetch_all(log).len(), 10);
}

#[test]
fn a_memory_log_goes_on_beyond_every_offset_it_ever_gave_out() {
    let mut node = Node::new();
    let log = node.create(1, LogSettings { storage: Storage::Memory, ..settings() });
    for _ in 0..10 {
        node.append(log, b"gone");
    }
    assert_eq!(node.fetch_all(log).len(), 10);
    node.restart();
    let start = node.store.log_start_offset(log).expect("known");
    assert!(start >= Offset(10), "{start}");
    assert_eq!(node.append(log, b"next"), start);
}

#[test]
fn a_full_disk_refuses_produce_and_goes_on_by_itself() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.append(log, &[1; 900]);
    node.disk.failing = Some(("topic1-0".to_owned(), DiskErrorKind::NoSpace));
    node.pass(1_500);
    let refused = node.store.append(node.now, log, LeaderEpoch(1), batch(b"x", None), &mut node.fx);
    assert!(matches!(refused, Err(AppendError::DiskFull(_))), "{refused:?}");
    assert_eq!(node.fetch_all(log).len(), 1, "what is there is served");
    node.disk.failing = None;
    node.pass(2_500);
    node.append(log, b"again");
    node.restart();
    assert_eq!(node.fetch_all(log).len(), 2);
}

#[test]
fn a_batch_refused_by_a_full_disk_is_not_passed_by_the_next_of_its_pipeline() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let produced = |base_sequence| {
        let (id, epoch) = (crate::ids::ProducerId(5), crate::ids::ProducerEpoch(0));
        batch(b"x", Some(Producer { id, epoch, base_sequence }))
    };
    node.disk.free = 10 << 20;
    node.pass(3_000);
    let refused = node.store.append(node.now, log, LeaderEpoch(1), produced(0), &mut node.fx);
    assert!(matches!(refused, Err(AppendError::DiskFull(_))), "{refused:?}");
    node.disk.free = 1 << 29;
    node.pass(3_000);
    assert_eq!(
        node.store.check_sequence(node.now, log, &produced(1)),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
    assert_eq!(node.store.check_sequence(node.now, log, &produced(0)), Ok(Sequence::Append));
}

#[test]
fn a_nearly_full_disk_refuses_producers_in_words_and_takes_them_again() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.append(log, b"before");
    node.disk.free = 10 << 20;
    node.pass(3_000);
    let refused = node.store.append(node.now, log, LeaderEpoch(1), batch(b"x", None), &mut node.fx);
    let Err(AppendError::DiskFull(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("10485760 of 1073741824 bytes"), "{why}");
    node.store.delete(node.now, log, &mut node.fx);
    node.settle();
    assert!(node.events.iter().any(|event| matches!(event, LogEvent::Deleted(_))));
    node.disk.free = 1 << 29;
    node.pass(3_000);
    let log = node.create(2, settings());
    node.append(log, b"after");
}

#[test]
fn a_failed_flush_poisons_the_directory_and_acknowledges_nothing() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.disk.failing = Some((".journal".to_owned(), DiskErrorKind::Flush));
    node.events.clear();
    node.append(log, b"lost");
    assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(0)));
    assert!(node.events.iter().any(|event| matches!(event, LogEvent::Poisoned(_))));
    let refused = node.store.append(node.now, log, LeaderEpoch(1), batch(b"x", None), &mut node.fx);
    assert!(matches!(refused, Err(AppendError::Poisoned(_))));
}

#[test]
fn a_vote_is_told_once_a_second_block_proves_it_and_is_remembered() {
    let mut node = Node::new();
    let (epoch, candidate) = (LeaderEpoch(4), NodeId(3));
    let mut told = 0;
    for _ in 0..2 {
        node.store.vote(node.now, epoch, candidate, &mut node.fx);
        node.settle();
        let voted = |event: &&LogEvent| match event {
            LogEvent::Voted { epoch: e, candidate: c } => (*e, *c) == (epoch, candidate),
            _ => false,
        };
        told += 1;
        assert_eq!(node.events.iter().filter(voted).count(), told, "again for the same one");
    }
    for number in 2..4 {
        node.restart();
        let vote = node.events.iter().find_map(|event| match event {
            LogEvent::Recovered { vote, incarnation, .. } => Some((*vote, *incarnation)),
            _ => None,
        });
        assert_eq!(vote, Some((Some((epoch, candidate)), Incarnation(number))));
        // The next start has it from the checkpoint.
        node.store.begin_checkpoint(&mut node.fx);
        node.settle();
    }
}

#[test]
#[should_panic(expected = "a node votes once in an epoch")]
fn a_second_vote_of_an_epoch_for_another_node_is_never_given() {
    let mut node = Node::new();
    node.store.vote(node.now, LeaderEpoch(4), NodeId(3), &mut node.fx);
    node.settle();
    node.restart();
    node.store.vote(node.now, LeaderEpoch(4), NodeId(2), &mut node.fx);
}

/// A node whose last block, proven by nothing, says that an epoch was seen, and then for whom the vote is.
fn node_that_has_just_voted() -> Node {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.holds = Some(".journal");
    node.append(log, b"in a block of its own");
    node.store.vote(node.now, LeaderEpoch(4), NodeId(-1), &mut node.fx);
    node.store.vote(node.now, LeaderEpoch(4), NodeId(2), &mut node.fx);
    while node.store.unproven.is_empty() {
        let step = node.held.pop_front().expect("something is in flight");
        let (token, result) = node.disk.perform(step).expect("a step of the journal");
        node.store.handle_completion(node.now, token, result, &mut node.fx);
        node.settle();
    }
    node
}

#[test]
fn a_vote_for_a_node_may_follow_one_for_nobody_and_outlives_it() {
    // A start writes both again, by chance in two blocks, of which a crash may leave one.
    for (seed, blocks) in (0..20).flat_map(|seed| (0..4).map(move |blocks| (seed, blocks))) {
        let mut node = node_that_has_just_voted();
        node.config.buggify = Some(seed);
        node.store = LogStore::new(node.config.clone());
        node.fx = Effects::default();
        node.store.start(node.now, &mut node.fx);
        let mut written = 0;
        while let Some(effect) = node.fx.pop() {
            let is_block = matches!(&effect, Effect::Write { body: WriteBody::Block(_), .. });
            written += usize::from(is_block);
            if written > blocks {
                break;
            }
            if let Ok((token, result)) = node.disk.perform(effect) {
                node.store.handle_completion(node.now, token, result, &mut node.fx);
            }
        }
        node.config.buggify = None;
        for _ in 0..2 {
            node.restart();
            let vote = node.events.iter().find_map(|event| match event {
                LogEvent::Recovered { vote, .. } => *vote,
                _ => None,
            });
            assert_eq!(vote, Some((LeaderEpoch(4), NodeId(2))), "seed {seed}, {blocks} blocks");
            node.store.begin_checkpoint(&mut node.fx);
            node.settle();
        }
    }
}

#[test]
#[should_panic(expected = "a node votes once in an epoch")]
fn a_vote_for_nobody_takes_back_no_vote() {
    let mut node = Node::new();
    node.store.vote(node.now, LeaderEpoch(4), NodeId(3), &mut node.fx);
    node.store.vote(node.now, LeaderEpoch(4), NodeId(-1), &mut node.fx);
}

#[test]
fn closing_makes_everything_durable_and_the_next_start_reads_no_journal() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for _ in 0..20 {
        node.append(log, b"value");
    }
    node.store.stop(node.now, &mut node.fx);
    node.settle();
    assert!(node.events.iter().any(|event| matches!(event, LogEvent::Closed)));
    assert_eq!(node.store.next_deadline(), None);
    node.restart();
    assert_eq!(node.fetch_all(log).len(), 20);
}

#[test]
fn a_store_in_memory_asks_nothing_of_the_disk() {
    let mut node = Node::with(LogConfig { memory_only: true, ..SMALL });
    let log = node.create(1, settings());
    node.append(log, b"value");
    assert_eq!(node.fetch_all(log).len(), 1);
    assert!(node.disk.files.is_empty() && node.disk.directories.is_empty());
    node.store.stop(node.now, &mut node.fx);
    node.settle();
    assert!(node.events.iter().any(|event| matches!(event, LogEvent::Closed)));
}

#[test]
fn a_block_that_does_not_fit_is_written_however_little_its_file_is_used() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    // The one file there is holds 32 KiB, of which less than half is used.
    node.append(log, &vec![7; 30_000]);
    assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(1)));
}

#[test]
fn an_epoch_whose_records_are_gone_ends_where_the_known_ones_begin() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for epoch in 1..=3 {
        let taken =
            node.store.append(node.now, log, LeaderEpoch(epoch), batch(b"v", None), &mut node.fx);
        taken.expect("the append is taken");
        node.settle();
    }
    node.store.move_log_start(node.now, log, Offset(2), &mut node.fx);
    node.settle();
    let end = |epoch| node.store.end_of_epoch(log, LeaderEpoch(epoch));
    assert_eq!(end(1), Some((LeaderEpoch(1), Offset(2))));
    assert_eq!(end(3), Some((LeaderEpoch(3), Offset(3))));
}
