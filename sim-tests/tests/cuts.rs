//! Logs that are cut back, begin anew and move their starts over a disk that crashes: whatever a start
//! finds is what some prefix of the changes has made, and no change is missing that was told durable.

use std::collections::{BTreeMap, VecDeque};

use mainspring_core::ids::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicName, TopicPartition, Uuid,
};
use mainspring_core::log::{AppendError, FlushPolicy, LogStore, Sequence, Stable};
use mainspring_core::record::batch::Batch;
use mainspring_core::record::builder::{BatchBuilder, Producer};
use mainspring_core::record::compress::Codec;
use mainspring_core::time::UnixMillis;
use mainspring_sim::disk::{DiskOptions, SimDisk};
use mainspring_sim::log_bench::{LogBench, hashes, small_config, small_settings};
use mainspring_sim::naive;
use mainspring_sim::rng::{Rng, Stream};

const MILLISECOND: u64 = 1_000_000;
/// Producers of each log.
const PRODUCERS: u64 = 3;

/// One batch of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Told {
    base: i64,
    next: i64,
    epoch: i32,
    producer: i64,
    last_sequence: i32,
    records: Vec<(i64, u64)>,
}

/// What a log holds after one of its changes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct State {
    start: i64,
    /// Those below the start among them.
    batches: Vec<Told>,
}

impl State {
    fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |batch| batch.next)
    }

    fn records(&self) -> Vec<(i64, u64)> {
        let all = self.batches.iter().flat_map(|batch| &batch.records);
        all.filter(|(offset, _)| *offset >= self.start).copied().collect()
    }

    fn epoch(&self) -> i32 {
        self.batches.last().map_or(0, |batch| batch.epoch)
    }

    /// Whether both hold the same below an offset.
    fn agrees_below(&self, other: &Self, end: i64) -> bool {
        let below = |state: &Self| -> Vec<Told> {
            let all = state.batches.iter();
            all.filter(|batch| batch.next <= end && batch.next > other.start).cloned().collect()
        };
        self.end() >= end && below(self) == below(other)
    }

    fn next_sequence(&self, producer: i64) -> i32 {
        let last = self.batches.iter().rev().find(|batch| batch.producer == producer);
        last.map_or(0, |batch| batch.last_sequence + 1)
    }
}

/// What the world knows of one log.
struct Ghost {
    lazy: bool,
    /// What it held after each change since the last start.
    history: Vec<State>,
    /// The earliest of these that a start may find.
    floor: usize,
    /// The same where a power cut ends a lazy log.
    flushed: usize,
    /// Which changes await word of their truncations.
    awaited: VecDeque<usize>,
    heard: u64,
    /// The epoch of what is appended next, at least.
    epoch: i32,
}

impl Ghost {
    fn now(&self) -> &State {
        self.history.last().expect("it begins with one")
    }

    fn current(&self) -> usize {
        self.history.len() - 1
    }
}

struct World {
    seed: u64,
    rng: Rng,
    bench: LogBench,
    logs: BTreeMap<TopicPartition, Ghost>,
    starts: u64,
    counts: BTreeMap<&'static str, u64>,
}

fn ids() -> [(TopicPartition, &'static str, bool); 3] {
    let of = |n| TopicPartition { topic_id: Uuid([n; 16]), partition: PartitionIndex(0) };
    [
        (of(1), "flushed", false),
        (of(2), "lazy", true),
        (TopicPartition::CLUSTER_METADATA, "__cluster_metadata", false),
    ]
}

fn flush(lazy: bool) -> FlushPolicy {
    if lazy { FlushPolicy::Lazy } else { FlushPolicy::Ack }
}

impl World {
    fn new(seed: u64) -> Self {
        let sector = if seed.is_multiple_of(2) { 512 } else { 4096 };
        let disk = SimDisk::new(
            DiskOptions { sector, ..DiskOptions::default() },
            Rng::new(seed, Stream::Disk(0)),
        );
        let bench = LogBench::new(Self::config(seed, 0), disk);
        let mut world = Self {
            seed,
            rng: Rng::new(seed, Stream::Workload),
            bench,
            logs: BTreeMap::new(),
            starts: 0,
            counts: BTreeMap::new(),
        };
        world.bench.recover(&mut |_| {}).expect("an empty disk is taken");
        for (id, name, lazy) in ids() {
            let name = TopicName::parse(name).expect("a name");
            let settings = small_settings(flush(lazy));
            world.act(|store, now, fx| store.create(now, id, &name, settings, fx));
            let ghost = Ghost {
                lazy,
                history: vec![State::default()],
                floor: 0,
                flushed: 0,
                awaited: VecDeque::new(),
                heard: 0,
                epoch: 0,
            };
            world.logs.insert(id, ghost);
        }
        world.pass(3_000);
        world
    }

    fn config(seed: u64, starts: u64) -> mainspring_core::log::LogConfig {
        let buggify = seed.is_multiple_of(3).then_some(seed + starts);
        mainspring_core::log::LogConfig {
            buggify,
            tail_cache_bytes: [2 << 10, 8 << 10, 1 << 20][(seed / 3 % 3) as usize],
            ..small_config(seed + (starts << 32))
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_insert(0) += 1;
    }

    fn at(&self) -> String {
        format!("seed {}, start {}", self.seed, self.starts)
    }

    fn act<T>(
        &mut self,
        act: impl FnOnce(
            &mut LogStore,
            mainspring_core::time::Now,
            &mut mainspring_core::io::Effects,
        ) -> T,
    ) -> T {
        let done = self.bench.act(act, &mut |_| {});
        let done = done.unwrap_or_else(|stop| panic!("{}: {stop:?}", self.at()));
        self.hear();
        done
    }

    fn turn(&mut self, millis: u64) -> bool {
        let until = self.bench.now() + millis * MILLISECOND;
        let turned = self.bench.turn(until, &mut |_| {});
        let turned = turned.unwrap_or_else(|stop| panic!("{}: {stop:?}", self.at()));
        self.hear();
        turned
    }

    fn pass(&mut self, millis: u64) {
        let until = self.bench.now() + millis * MILLISECOND;
        while self.bench.now() < until {
            let before = self.bench.now();
            self.bench.pass(MILLISECOND * 20, &mut |_| {}).expect("it goes on");
            self.hear();
            assert!(self.bench.now() > before);
        }
    }

    /// Takes in what the store has told.
    fn hear(&mut self) {
        let at = self.at();
        for (id, ghost) in &mut self.logs {
            let heard = self.bench.cuts.get(id).copied().unwrap_or(0);
            for _ in ghost.heard..heard {
                let change = ghost.awaited.pop_front();
                let change = change.unwrap_or_else(|| panic!("{at}: a cut of {id} nobody made"));
                ghost.floor = ghost.floor.max(change);
                ghost.flushed = ghost.flushed.max(change);
            }
            ghost.heard = heard;
            let Some(stable) = self.bench.store.stable_end(*id).map(Stable::value) else {
                continue;
            };
            let now = ghost.now();
            let end = stable.0.min(now.end());
            let mut since = ghost.current();
            while since > ghost.floor && ghost.history[since - 1].agrees_below(now, end) {
                since -= 1;
            }
            // Where nothing is there it rests on nothing.
            if end > now.start && ghost.history[since].end() >= end {
                ghost.floor = ghost.floor.max(since);
                if !ghost.lazy {
                    ghost.flushed = ghost.flushed.max(since);
                }
            }
        }
    }

    /// Whether it is not known where a log ends.
    fn is_cutting(&mut self, id: TopicPartition) -> bool {
        let mut batch = BatchBuilder::new(Codec::None);
        batch.push(1, None, Some(b"nowhere"), &[]);
        let mut batch = batch.build();
        batch.assign(Offset(i64::MAX / 2), LeaderEpoch(0));
        let refused = self
            .act(|store, now, fx| store.append_replica(now, id, batch, UnixMillis(1), fx))
            .expect_err("it fits nowhere");
        refused == AppendError::Cutting
    }

    fn append(&mut self, id: TopicPartition) {
        if self.is_cutting(id) {
            return;
        }
        let ghost = &self.logs[&id];
        let (now, mut epoch) = (ghost.now().clone(), ghost.epoch.max(ghost.now().epoch()));
        if self.rng.chance(100) {
            epoch += 1;
        }
        let producer = self.rng.below(PRODUCERS + 1) as i64;
        let mut builder = BatchBuilder::new(Codec::None);
        if producer > 0 {
            builder = builder.producer(Producer {
                id: ProducerId(producer),
                epoch: ProducerEpoch(0),
                base_sequence: now.next_sequence(producer),
            });
        }
        let most = [20, 300, 3_000][self.rng.index(3)];
        let count = self.rng.between(1, 4);
        for _ in 0..count {
            let mut value = vec![0; self.rng.below(most) as usize + 8];
            for byte in &mut value {
                *byte = self.rng.below(256) as u8;
            }
            builder.push(1_700_000_000_000, None, Some(&value), &[]);
        }
        let clean = builder.build();
        let mut batch = clean.clone();
        batch.assign(Offset(now.end()), LeaderEpoch(epoch));
        let told = Told {
            base: now.end(),
            next: batch.next_offset().0,
            epoch,
            producer,
            last_sequence: batch.last_sequence(),
            records: hashes(&batch),
        };
        if producer > 0 {
            let verdict = self.act(|store, now, _| store.check_sequence(now, id, &clean));
            assert_eq!(verdict, Ok(Sequence::Append), "{}: {clean:?}", self.at());
        }
        let ghost = self.logs.get_mut(&id).expect("known");
        let mut next = now.clone();
        next.batches.push(told);
        ghost.history.push(next);
        ghost.epoch = epoch;
        let leads = self.rng.chance(300);
        let done = self.act(|store, time, fx| {
            if leads {
                let base = store.append(time, id, LeaderEpoch(epoch), clean, fx)?;
                assert_eq!(base, Offset(now.end()));
                return Ok(());
            }
            store.append_replica(time, id, batch, time.wall, fx)
        });
        assert_eq!(done, Ok::<(), AppendError>(()), "{}", self.at());
    }

    fn cut(&mut self, id: TopicPartition) {
        let is_cutting = self.is_cutting(id);
        let ghost = &self.logs[&id];
        let now = ghost.now().clone();
        let back = [1, 6, 40][self.rng.index(3)];
        let to = (now.end() - self.rng.below(back + 1) as i64).max(now.start);
        let store_end = self.bench.store.log_end_offset(id).expect("known").0;
        if to >= store_end && is_cutting {
            return;
        }
        self.count(if is_cutting { "cuts-while-cutting" } else { "cuts" });
        let mut next = now;
        next.batches.retain(|batch| batch.next <= to);
        if next.end() < next.start {
            next.batches.clear();
        }
        // One that cuts nothing is answered at once, whatever is on its way.
        let cuts = to < store_end;
        if cuts {
            self.change(id, next, is_cutting);
        } else {
            self.logs.get_mut(&id).expect("known").awaited.push_back(0);
        }
        self.act(|store, time, fx| store.truncate(time, id, Offset(to), fx));
    }

    fn reset(&mut self, id: TopicPartition) {
        let is_cutting = self.is_cutting(id);
        let end = self.logs[&id].now().end();
        let start = (end + self.rng.below(30) as i64 - 20).max(0);
        self.count("resets");
        self.change(id, State { start, batches: Vec::new() }, is_cutting);
        self.act(|store, time, fx| store.reset(time, id, Offset(start), fx));
    }

    /// Notes a truncation; one that replaces another, whose place is looked for, answers for both.
    fn change(&mut self, id: TopicPartition, next: State, replaces: bool) {
        let bump = i32::from(self.rng.chance(500));
        let ghost = self.logs.get_mut(&id).expect("known");
        ghost.epoch = next.epoch().max(ghost.epoch) + bump;
        ghost.history.push(next);
        if replaces {
            ghost.awaited.pop_back();
        }
        ghost.awaited.push_back(ghost.history.len() - 1);
    }

    fn move_start(&mut self, id: TopicPartition) {
        if self.is_cutting(id) {
            return;
        }
        let stable = self.bench.store.stable_end(id).expect("known").value().0;
        let now = self.logs[&id].now().clone();
        if stable <= now.start {
            return;
        }
        let start = self.rng.between(now.start as u64, stable as u64) as i64;
        self.logs.get_mut(&id).expect("known").history.push(State { start, ..now });
        self.act(|store, time, fx| store.move_log_start(time, id, Offset(start), fx));
    }

    fn restart(&mut self, power: bool) {
        self.count(if power { "power-cuts" } else { "kills" });
        let mut any_power = power;
        let mut disk = std::mem::replace(
            &mut self.bench.disk,
            SimDisk::new(DiskOptions::default(), Rng::new(0, Stream::Disk(0))),
        );
        if power {
            disk.lose_power();
        } else {
            disk.crash();
        }
        loop {
            self.starts += 1;
            let image = disk.copy();
            self.bench = LogBench::new(Self::config(self.seed, self.starts), disk);
            // A crash inside the start, at times.
            if self.rng.chance(300) {
                self.count("crashes-in-recovery");
                self.bench.start(&mut |_| {}).expect("it begins");
                for _ in 0..self.rng.below(60) {
                    self.bench.turn(u64::MAX / 2, &mut |_| {}).expect("it goes on");
                }
                let power = self.rng.chance(500);
                any_power |= power;
                disk = std::mem::replace(
                    &mut self.bench.disk,
                    SimDisk::new(DiskOptions::default(), Rng::new(0, Stream::Disk(0))),
                );
                if power {
                    disk.lose_power();
                } else {
                    disk.crash();
                }
                continue;
            }
            let recovered = self.bench.recover(&mut |_| {});
            recovered.unwrap_or_else(|stop| panic!("{}: {stop:?}", self.at()));
            let otherwise = naive::read(&image, 1);
            let otherwise = otherwise.unwrap_or_else(|why| {
                let held: Vec<_> = ids()
                    .into_iter()
                    .map(|(id, ..)| {
                        let content = self.bench.content(id);
                        let history = &self.logs[&id].history;
                        let history: Vec<_> =
                            history.iter().map(|it| (it.start, it.end())).collect();
                        let floor = self.logs[&id].floor;
                        (content.map(|it| (it.start, it.records.len())), history, floor)
                    })
                    .collect();
                panic!("{}: {why}; {held:?}", self.at())
            });
            self.find(any_power, &otherwise);
            return;
        }
    }

    /// Finds out which of what a start may find it has found.
    fn find(&mut self, power: bool, otherwise: &BTreeMap<TopicPartition, naive::StoredLog>) {
        let at = self.at();
        for (id, _, lazy) in ids() {
            self.bench.store.configure(id, small_settings(flush(lazy)));
            let content = self.bench.content(id).unwrap_or_else(|stop| panic!("{at}: {stop:?}"));
            let end = self.bench.store.log_end_offset(id).expect("known").0;
            let stored = &otherwise[&id];
            let stored_records: Vec<(i64, u64)> = stored
                .batches
                .values()
                .flat_map(|batch| {
                    hashes(&Batch::split_from(&mut batch.bytes.clone()).expect("whole"))
                })
                .filter(|(offset, _)| *offset >= stored.start)
                .collect();
            assert_eq!(stored.start, content.start, "{at}: {id} read otherwise");
            assert_eq!(stored_records, content.records, "{at}: {id} read otherwise");
            let ghost = self.logs.get_mut(&id).expect("known");
            let floor = if power && lazy { ghost.flushed } else { ghost.floor };
            let fits = |state: &State| {
                (state.start, state.end()) == (content.start, end)
                    && state.records() == content.records
            };
            let found = (floor..ghost.history.len()).rev().find(|at| fits(&ghost.history[*at]));
            let Some(found) = found else {
                let earlier = (0..floor).rev().find(|at| fits(&ghost.history[*at]));
                panic!(
                    "{at}: {id} holds {}..{end}, like {earlier:?} of {:?}, not before {floor} (flushed {}), \
                     power {power}",
                    content.start,
                    ghost.history.iter().map(|it| (it.start, it.end())).collect::<Vec<_>>(),
                    ghost.flushed,
                );
            };
            let undone = u64::from(found < ghost.current());
            *self.counts.entry("undone").or_insert(0) += undone;
            let state = ghost.history[found].clone();
            for batch in state.batches.iter().filter(|batch| batch.next > state.start) {
                let epoch = self.bench.store.epoch_at(id, Offset(batch.base.max(state.start)));
                assert_eq!(epoch, Some(LeaderEpoch(batch.epoch)), "{at}: {id} at {}", batch.base);
            }
            ghost.epoch = state.epoch() + 1;
            ghost.history = vec![state];
            (ghost.floor, ghost.flushed, ghost.heard) = (0, 0, 0);
            ghost.awaited.clear();
        }
    }

    /// Once everything has come to its end, all is there and all was told.
    fn check(&mut self) {
        self.pass(4_000);
        let at = self.at();
        for (id, ..) in ids() {
            let content = self.bench.content(id).unwrap_or_else(|stop| panic!("{at}: {stop:?}"));
            let ghost = &self.logs[&id];
            assert!(ghost.awaited.is_empty(), "{at}: {id} was never told of a cut");
            let now = ghost.now();
            assert_eq!(
                (content.start, &content.records),
                (now.start, &now.records()),
                "{at}: {id}"
            );
            let end = self.bench.store.log_end_offset(id).map(|end| end.0);
            assert_eq!(end, Some(now.end()), "{at}: {id}");
        }
    }

    fn run(&mut self) {
        for _ in 0..90 {
            let id = ids()[self.rng.index(3)].0;
            match self.rng.below(100) {
                0..=54 => self.append(id),
                55..=72 => self.cut(id),
                73..=75 => self.reset(id),
                76..=80 => self.move_start(id),
                81..=87 => {
                    let millis = [5, 300, 2_000][self.rng.index(3)];
                    self.pass(millis);
                }
                88..=90 => self.check(),
                _ => {
                    let power = self.rng.chance(600);
                    self.restart(power);
                }
            }
            for _ in 0..self.rng.below(12) {
                self.turn(5);
            }
        }
        self.check();
        self.restart(true);
    }
}

#[test]
fn whatever_is_cut_a_start_finds_what_some_prefix_of_the_changes_made() {
    let seeds = std::env::var("CUTS_SEEDS").ok();
    let (from, count) = match seeds.as_deref().and_then(|seeds| seeds.split_once('+')) {
        Some((from, count)) => (from.parse().expect("a seed"), count.parse().expect("a number")),
        None => (0_u64, 60_u64),
    };
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in from..from + count {
        let mut world = World::new(seed);
        world.run();
        for (what, count) in world.counts {
            *counts.entry(what).or_insert(0) += count;
        }
    }
    println!("{counts:?}");
}
