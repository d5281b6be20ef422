//! The logs of core over the power-cut files: whatever was stable is there after every cut.
//!
//! Unlike the simulator this runs over a real directory, and every operation goes through the code
//! that a broker uses.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mainspring_core::ids::{IoToken, TopicPartition, Uuid};
use mainspring_core::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, ShardId, TopicName};
use mainspring_core::io::{Effect, Effects};
use mainspring_core::log::{
    FetchPlan, FlushPolicy, LogConfig, LogEvent, LogSettings, LogStore, ReadTicket, Storage,
};
use mainspring_core::record::batch::Batch;
use mainspring_core::record::builder::BatchBuilder;
use mainspring_core::record::compress::Codec;
use mainspring_core::time::{Instant, Now, UnixMillis};
use mainspring_net::disk::{Files, Flushes, Operation, PowerCut, RealFiles};

const LOGS: usize = 3;
const CYCLES: usize = 12;

#[test]
fn what_was_stable_survives_every_power_cut() {
    for seed in 1..=6 {
        let lost = run(seed, Flushes::Kept);
        assert_eq!(lost, 0, "seed {seed}");
    }
}

#[test]
fn a_disk_that_does_not_flush_is_noticed() {
    let lost: usize = (1..=3).map(|seed| run(seed, Flushes::LeftOut)).sum();
    assert!(lost > 0, "this test could not fail");
}

/// Runs a log store through some power cuts and returns how many stable batches were missing.
fn run(seed: u64, flushes: Flushes) -> usize {
    let directory = Directory::new();
    let mut random = Random(seed);
    // The values that a stable end has covered, for each log, in order.
    let mut expected: Vec<Vec<Vec<u8>>> = vec![Vec::new(); LOGS];
    let mut lost = 0;
    for cycle in 0..CYCLES {
        let Some(mut node) = Node::open(directory.path(), flushes, seed * 1000 + cycle as u64)
        else {
            // Without flushes the directory may be beyond use, which is a loss too.
            assert_eq!(flushes, Flushes::LeftOut, "seed {seed} cycle {cycle}: it does not start");
            return lost + 1;
        };
        for (index, values) in expected.iter_mut().enumerate() {
            let read = node.read_all(index);
            let whole = values.iter().zip(&read).take_while(|(left, right)| left == right).count();
            lost += values.len() - whole;
            // What was not stable may have survived; from here on it is as good as stable.
            *values = read;
        }
        let cut_after = random.below(400) as usize;
        let mut appended = expected.clone();
        let mut steps = 0;
        while steps < cut_after {
            if random.below(3) == 0 {
                let index = random.below(LOGS as u64) as usize;
                let value = vec![random.below(256) as u8; random.below(3000) as usize + 1];
                node.append(index, &value);
                appended[index].push(value);
            }
            steps += 1;
            if !node.step(&mut random) {
                node.pass(20 + random.below(500));
            }
        }
        for (index, values) in expected.iter_mut().enumerate() {
            let stable = node.stable_end(index);
            appended[index].truncate(stable);
            *values = std::mem::take(&mut appended[index]);
        }
    }
    lost
}

/// A log store with the files below a directory. Dropped without warning it loses what a power cut
/// takes.
struct Node {
    files: PowerCut,
    store: LogStore,
    fx: Effects,
    now: Now,
    /// Operations that were asked for and not begun; any of them may be next.
    waiting: Vec<(IoToken, Operation)>,
    events: Vec<LogEvent>,
    failed: bool,
}

impl Node {
    fn open(directory: &Path, flushes: Flushes, seed: u64) -> Option<Self> {
        let real = RealFiles::open(directory, 8).expect("the directory is there");
        let config = LogConfig {
            shard: ShardId(0),
            node_id: NodeId(1),
            seed,
            journal_first_file_bytes: 32 << 10,
            journal_file_bytes: 64 << 10,
            journal_max_bytes: 1 << 20,
            journal_block_bytes: 16 << 10,
            unwritten_max_bytes: 1 << 20,
            tail_cache_bytes: 8 << 10,
            ..LogConfig::default()
        };
        let mut node = Self {
            files: PowerCut::open(real, flushes).expect("the directory is readable"),
            store: LogStore::new(config),
            fx: Effects::default(),
            now: Now {
                mono: Instant::from_nanos(1),
                wall: UnixMillis(1_700_000_000_000 + seed as i64 * 60_000),
            },
            waiting: Vec::new(),
            events: Vec::new(),
            failed: false,
        };
        node.store.start(node.now, &mut node.fx);
        node.settle();
        for _ in 0..50 {
            if node.failed {
                return None;
            }
            if node.events.iter().any(|event| matches!(event, LogEvent::Recovered { .. })) {
                break;
            }
            node.pass(100);
            node.settle();
        }
        for index in 0..LOGS {
            if node.store.log_end_offset(log(index)).is_none() {
                let name = TopicName::parse(&format!("topic{index}")).expect("it is a name");
                node.store.create(node.now, log(index), &name, SETTINGS, &mut node.fx);
            } else {
                node.store.configure(log(index), SETTINGS);
            }
        }
        node.settle();
        Some(node)
    }

    /// Carries out one of the waiting operations; false where there is none.
    fn step(&mut self, random: &mut Random) -> bool {
        self.collect();
        if self.waiting.is_empty() {
            return false;
        }
        let next = random.below(self.waiting.len() as u64) as usize;
        self.perform(next);
        true
    }

    fn settle(&mut self) {
        self.store.end_turn(self.now, &mut self.fx);
        loop {
            self.collect();
            if self.waiting.is_empty() {
                return;
            }
            self.perform(0);
        }
    }

    fn perform(&mut self, index: usize) {
        let (token, operation) = self.waiting.remove(index);
        let outcome = self.files.perform(operation);
        self.store.handle_completion(self.now, token, outcome, &mut self.fx);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(effect) = self.fx.pop() {
            match Operation::from_effect(effect) {
                Ok(waiting) => self.waiting.push(waiting),
                Err(Effect::Fatal { .. }) => self.failed = true,
                Err(_) => {}
            }
        }
        while let Some(event) = self.store.poll_event() {
            self.events.push(event);
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now.mono = self.now.mono + Duration::from_millis(millis);
        self.now.wall = self.now.wall.plus(millis as i64);
        if self.store.next_deadline().is_some_and(|at| at <= self.now.mono) {
            self.store.handle_wakeup(self.now, &mut self.fx);
        }
        self.collect();
    }

    fn append(&mut self, index: usize, value: &[u8]) {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(self.now.wall.0, None, Some(value), &[]);
        self.store
            .append(self.now, log(index), LeaderEpoch(0), builder.build(), &mut self.fx)
            .expect("there is room");
    }

    fn stable_end(&self, index: usize) -> usize {
        self.store.stable_end(log(index)).map_or(0, |end| end.value().0 as usize)
    }

    /// Reads every record's value of a log.
    fn read_all(&mut self, index: usize) -> Vec<Vec<u8>> {
        let end = self.store.log_end_offset(log(index)).expect("the log is there");
        let mut at = self.store.log_start_offset(log(index)).expect("the log is there");
        let mut values = Vec::new();
        while at < end {
            let parts = match self.store.plan_fetch(log(index), at, end, 20_000, true) {
                FetchPlan::Memory(parts) => parts,
                FetchPlan::File(range) => {
                    let ticket = ReadTicket(values.len() as u64);
                    self.store.read(self.now, range, ticket, &mut self.fx);
                    self.settle();
                    let read = self.events.iter().rev().find_map(|event| {
                        let LogEvent::Read { ticket: of, result } = event else { return None };
                        (*of == ticket).then(|| result.clone())
                    });
                    read.expect("a read is answered").expect("the segment is sound")
                }
            };
            assert!(!parts.is_empty(), "something is readable below the end");
            let mut bytes = Bytes::from(parts.concat());
            while !bytes.is_empty() {
                let batch = Batch::split_from(&mut bytes).expect("whole batches are read");
                assert!(batch.crc_is_valid() && batch.base_offset() == at);
                at = batch.next_offset();
                values.push(value_of(&batch));
            }
        }
        assert_eq!(Offset(values.len() as i64), end);
        values
    }
}

const SETTINGS: LogSettings = LogSettings {
    storage: Storage::Disk,
    flush: FlushPolicy::Ack,
    segment_bytes: 20_000,
    segment_ms: 1_000_000_000,
    retention_ms: -1,
    retention_bytes: -1,
    index_interval_bytes: 4096,
    memory_max_bytes: 1 << 20,
    delete: true,
    may_use_reserve: false,
};

fn log(index: usize) -> TopicPartition {
    TopicPartition { topic_id: Uuid([index as u8 + 1; 16]), partition: PartitionIndex(0) }
}

fn value_of(batch: &Batch) -> Vec<u8> {
    let open =
        mainspring_core::record::iterate::OpenBatch::open(batch, 1 << 20).expect("the batch opens");
    let record = open.records().next().expect("it has a record").expect("the record is sound");
    record.record.value.expect("it has a value").to_vec()
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mainspring-logs-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory for the test is made");
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
