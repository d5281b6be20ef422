//! Logs that are cut back, whatever is under way at that moment.

use rand_chacha::rand_core::Rng;

use super::replica::{producer, whole};
use super::*;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::log::producer_state::ProducerStates;
use crate::record::hidden::void_batch;
use crate::record::marker::TxnMarker;

/// What a log must hold.
#[derive(Clone, Default)]
pub(super) struct Model {
    start: i64,
    batches: Vec<Batch>,
    /// Batches below the start, which still tell of producers.
    gone: Vec<Batch>,
    /// What was appended or cut so far makes the bytes of the next batch.
    changes: u64,
    /// Whether a cut was looked for in segments, so that not all of the truth about producers is known.
    is_vague: bool,
    /// Whether the second half of the producers has transactions.
    has_transactions: bool,
    /// Whether of every fifth batch no record is kept.
    has_voids: bool,
}

/// A transaction: whose, its first offset, and its marker with the outcome.
type Transaction = (ProducerId, Offset, Option<(Offset, bool)>);

impl Model {
    pub(super) fn with_transactions(has_transactions: bool) -> Self {
        Self { has_transactions, ..Self::default() }
    }

    fn with_voids(has_transactions: bool) -> Self {
        Self { has_voids: true, ..Self::with_transactions(has_transactions) }
    }

    fn is_transactional(&self, id: ProducerId) -> bool {
        self.has_transactions && id.0 >= 2
    }

    /// Goes through all that was ever there.
    fn transactions(&self) -> Vec<Transaction> {
        let mut found: Vec<Transaction> = Vec::new();
        for batch in self.gone.iter().chain(&self.batches) {
            let id = batch.producer_id();
            let open = found.iter_mut().find(|(of, _, end)| *of == id && end.is_none());
            match (open, TxnMarker::of(batch)) {
                (Some((.., end)), Some(marker)) => {
                    *end = Some((batch.base_offset(), marker.committed));
                }
                (None, None) if batch.is_transactional() => {
                    found.push((id, batch.base_offset(), None));
                }
                _ => {}
            }
        }
        found
    }
    fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |batch| batch.next_offset().0)
    }

    fn epoch(&self) -> i32 {
        self.batches.last().map_or(0, |batch| batch.leader_epoch().0)
    }

    /// Makes the next batch, of `size` bytes of its own.
    fn next(&mut self, epoch: i32, size: usize) -> Batch {
        self.changes += 1;
        let value = format!("{:08}", self.changes).repeat(size / 8 + 1);
        let id = ProducerId(self.changes as i64 % 4);
        let one = self.next_of(id);
        let mut batch = if self.is_transactional(id) && self.changes.is_multiple_of(3) {
            let committed = self.changes.is_multiple_of(2);
            let (producer_id, producer_epoch) = (id, ProducerEpoch(0));
            TxnMarker { producer_id, producer_epoch, coordinator_epoch: 1, committed }.build(5)
        } else if self.is_transactional(id) {
            transactional(value.as_bytes(), one)
        } else {
            batch(value.as_bytes(), Some(one))
        };
        if self.has_voids && self.changes.is_multiple_of(5) && batch.base_sequence() >= 0 {
            batch = void_batch(&batch);
        }
        batch.assign(Offset(self.end()), LeaderEpoch(epoch));
        self.batches.push(batch.clone());
        batch
    }

    /// What a producer goes on with.
    fn next_of(&self, id: ProducerId) -> Producer {
        let mut of_it = self.gone.iter().chain(&self.batches).rev();
        let last = of_it.find(|batch| batch.producer_id() == id && batch.base_sequence() >= 0);
        Producer { id, ..producer(last.map_or(0, |batch| batch.last_sequence() + 1)) }
    }

    fn cut(&mut self, to: i64) {
        self.changes += 1;
        self.batches.retain(|batch| batch.next_offset().0 <= to.max(self.start));
    }

    fn reset(&mut self, start: i64) {
        self.changes += 1;
        self.batches.clear();
        self.gone.clear();
        self.start = start;
        self.is_vague = false;
    }

    pub(super) fn move_start(&mut self, start: i64) {
        self.start = start;
        let (gone, left) = self.batches.drain(..).partition(|it| it.next_offset().0 <= start);
        self.gone.extend::<Vec<Batch>>(gone);
        self.batches = left;
    }

    fn producers(&self) -> ProducerStates {
        let mut states = ProducerStates::new();
        for batch in self.gone.iter().chain(&self.batches) {
            states.update(Instant::ZERO, batch, 0, 100);
        }
        states
    }
}

fn transactional(value: &[u8], producer: Producer) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None).producer(producer).transactional();
    builder.push(1_700_000_000_000, None, Some(value), &[]);
    builder.build()
}

/// Takes an end that was cut off for what it is.
fn truncated(node: &Node) -> Vec<Offset> {
    let ends = node.events.iter().filter_map(|event| match event {
        LogEvent::Truncated { end, .. } => Some(*end),
        _ => None,
    });
    ends.collect()
}

impl Node {
    pub(super) fn take(&mut self, log: TopicPartition, model: &mut Model, epoch: i32, size: usize) {
        let batch = model.next(epoch, size);
        self.replicate(log, &batch).expect("it continues the log");
    }

    pub(super) fn truncate(&mut self, log: TopicPartition, model: &mut Model, to: i64) {
        self.store.truncate(self.now, log, Offset(to), &mut self.fx);
        model.cut(to);
        model.is_vague |= self.store.is_finding(log);
        self.settle();
    }

    fn reset(&mut self, log: TopicPartition, model: &mut Model, start: i64) {
        self.store.reset(self.now, log, Offset(start), &mut self.fx);
        model.reset(start);
        self.settle();
    }

    /// Lets the search for the place of a cut come to its end, and nothing else that is held.
    fn search(&mut self, log: TopicPartition) {
        while self.store.is_finding(log) {
            let effect = self.held.pop_back().expect("the search is held");
            let (token, result) = self.disk.perform(effect).expect("a read");
            self.store.handle_completion(self.now, token, result, &mut self.fx);
            self.settle();
        }
    }

    pub(super) fn checkpoint(&mut self) {
        self.store.begin_checkpoint(&mut self.fx);
        self.settle();
    }

    /// Holds the log against the model, and what is in memory of it against itself.
    pub(super) fn check(&mut self, log: TopicPartition, model: &Model, at: &str) {
        assert_eq!(self.store.log_start_offset(log), Some(Offset(model.start)), "{at}");
        assert_eq!(self.store.log_end_offset(log), Some(Offset(model.end())), "{at}");
        for max_bytes in [1, 4_000] {
            let held = self.fetch_to_end(log, max_bytes);
            assert_eq!(whole(&held), whole(&model.batches), "{at}");
        }
        for batch in &model.batches {
            let epoch = self.store.epoch_at(log, batch.base_offset());
            assert_eq!(epoch, Some(batch.leader_epoch()), "{at}");
        }
        let partition = &self.store.logs[&log];
        assert!(partition.stable <= partition.end && partition.written_end <= partition.end);
        let unwritten: u64 = self
            .store
            .logs
            .values()
            .filter(|log| !log.is_memory())
            .map(PartitionLog::unwritten_bytes)
            .sum();
        assert_eq!(self.store.unwritten_bytes, unwritten, "{at}");
        let cached: u64 = self.store.cache.iter().map(|(.., size)| size).sum();
        assert_eq!(self.store.cache_bytes, cached, "{at}");
        let size: u64 = model.batches.iter().map(|batch| batch.size() as u64).sum();
        if model.gone.is_empty() {
            assert_eq!(self.store.size(log), Some(size), "{at}");
        }
        // Nobody is made up, what is known of one is the last of the truth, and it may go on.
        let truth = model.producers();
        for (id, state) in partition.producers.iter() {
            let true_state = truth.get(id).unwrap_or_else(|| panic!("{id:?} is made up, {at}"));
            assert!(true_state.batches.ends_with(&state.batches), "{at}");
            let next = if model.is_transactional(id) {
                transactional(b"next", model.next_of(id))
            } else {
                batch(b"next", Some(model.next_of(id)))
            };
            let verdict = partition.producers.check(self.now.mono, &next);
            assert_eq!(verdict, Ok(Sequence::Append), "{at}");
        }
        let known = |states: &ProducerStates| -> Vec<_> {
            states.iter().map(|(id, state)| (id, state.epoch, state.batches.clone())).collect()
        };
        if !model.is_vague {
            assert_eq!(known(&partition.producers), known(&truth), "{at}");
        }
        self.check_transactions(log, model, at);
        let partition = &self.store.logs[&log];
        let first = model.batches.iter().find(|batch| !batch.is_control());
        if let Some(first) = first.filter(|_| partition.stable == partition.end) {
            let time = first.max_timestamp();
            let found = self.find(log, TimeLookup::AtLeast(time)).expect("there is a record");
            assert_eq!(found.offset, first.base_offset().max(Offset(model.start)), "{at}");
            assert_eq!(self.find(log, TimeLookup::AtLeast(time + 1)), None, "{at}");
        }
    }

    /// What is known of transactions is all of the truth, whatever has become of the log.
    pub(super) fn check_transactions(&self, log: TopicPartition, model: &Model, at: &str) {
        let truth = model.transactions();
        let partition = &self.store.logs[&log];
        let open = truth.iter().filter(|(.., end)| end.is_none());
        let mut open: Vec<_> = open.map(|&(id, first, _)| (id, first)).collect();
        open.sort_unstable();
        let firsts = partition.producers.iter().map(|(id, it)| (id, it.transaction_first_offset));
        let held: Vec<_> = firsts.filter_map(|(id, first)| Some((id, first?))).collect();
        assert_eq!(held, open, "{at}");
        let (start, end) = (Offset(model.start), Offset(model.end()));
        for high_watermark in [model.start, i64::midpoint(model.start, end.0), end.0] {
            let high_watermark = Offset(high_watermark);
            let counts =
                |it: &&Transaction| it.2.is_none_or(|(marker, _)| marker >= high_watermark);
            let first = truth.iter().filter(counts).map(|it| it.1).min().unwrap_or(high_watermark);
            let stable = self.store.last_stable_offset(log, high_watermark);
            assert_eq!(stable, first.max(start).min(high_watermark), "{high_watermark} {at}");
        }
        for (from, to) in [(start, end), (Offset(model.start + 5), Offset(end.0 - 5))] {
            let overlaps = |it: &Transaction| match it.2 {
                Some((marker, false)) => marker >= from && it.1 < to && from < to,
                _ => false,
            };
            let mut aborted: Vec<(Offset, ProducerId)> =
                truth.iter().filter(|it| overlaps(it)).map(|it| (it.1, it.0)).collect();
            aborted.sort_unstable();
            let told = self.store.aborted_transactions(log, from, to).expect("known");
            let told: Vec<_> = told.iter().map(|it| (it.first_offset, it.producer_id)).collect();
            assert_eq!(told, aborted, "{from}..{to} {at}");
        }
    }
}

#[test]
fn a_log_is_cut_anywhere_and_goes_on_with_other_batches() {
    // In memory; written and no longer in memory; after a crash; behind a checkpoint and a crash.
    for state in 0..10 {
        let (state, has_transactions) = (state / 2, state % 2 == 1);
        for to in [0, 1, 7, 29, 30, 31, 44, 58, 59, 60, 70] {
            let at = format!("state {state}, cut at {to}, transactions {has_transactions}");
            let mut node = Node::new();
            let log = node.create(1, settings());
            let mut model = Model::with_voids(has_transactions);
            for number in 0..60 {
                node.take(log, &mut model, number / 20, 500);
            }
            if state >= 1 {
                node.pass(2_000);
            }
            if state >= 2 {
                node.checkpoint();
            }
            if state == 2 {
                for _ in 60..70 {
                    node.take(log, &mut model, 3, 500);
                }
            }
            if state >= 3 {
                node.restart();
            }
            node.events.clear();
            node.truncate(log, &mut model, to);
            assert_eq!(truncated(&node), [Offset(model.end())], "{at}");
            node.check(log, &model, &at);
            if state == 4 {
                node.restart();
                node.check(log, &model, &at);
            }
            for _ in 0..25 {
                node.take(log, &mut model, 5, 300);
            }
            node.check(log, &model, &at);
            node.restart();
            node.check(log, &model, &at);
            node.pass(2_000);
            node.check(log, &model, &at);
            node.checkpoint();
            node.restart();
            node.check(log, &model, &at);
            node.take(log, &mut model, 6, 300);
            node.check(log, &model, &at);
        }
    }
}

#[test]
fn what_a_block_in_flight_held_of_what_is_cut_makes_nothing_stable() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let mut model = Model::default();
    for _ in 0..3 {
        node.take(log, &mut model, 1, 100);
    }
    node.holds = Some(".journal");
    for number in 3..9 {
        node.take(log, &mut model, number / 3, 100);
    }
    node.truncate(log, &mut model, 5);
    for _ in 0..2 {
        node.take(log, &mut model, 1, 700);
    }
    assert!(truncated(&node).is_empty(), "it is not durable yet");
    node.events.clear();
    // The block with the batch at offset 3 alone.
    let effect = node.held.pop_front().expect("a block is in flight");
    let (token, result) = node.disk.perform(effect).expect("a write");
    node.store.handle_completion(node.now, token, result, &mut node.fx);
    node.settle();
    assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(4)));
    assert!(truncated(&node).is_empty());
    node.let_go();
    assert_eq!(truncated(&node), [Offset(5)]);
    assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(7)));
    let ends = node.events.iter().filter_map(|event| match event {
        LogEvent::Stable { end, .. } => Some(end.value().0),
        _ => None,
    });
    assert!(ends.max() == Some(7), "nothing was stable that is not there");
    node.check(log, &model, "in flight");
    node.restart();
    node.check(log, &model, "after a crash");
}

#[test]
fn a_crash_before_the_truncation_is_durable_leaves_what_was() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let mut model = Model::default();
    for _ in 0..40 {
        node.take(log, &mut model, 1, 500);
    }
    node.pass(2_000);
    node.checkpoint();
    let before = model.clone();
    node.holds = Some(".journal");
    node.truncate(log, &mut model, 10);
    for _ in 0..30 {
        node.take(log, &mut model, 2, 400);
    }
    node.pass(5_000);
    node.check(log, &model, "before the crash");
    node.restart();
    node.check(log, &before, "after the crash");
}

#[test]
fn a_segment_write_under_way_does_not_touch_what_is_appended_after_a_cut() {
    for to in [0, 2, 3, 5, 12, 17, 19] {
        let at = format!("cut at {to}");
        let mut node = Node::new();
        let log = node.create(1, settings());
        let mut model = Model::default();
        for _ in 0..3 {
            node.take(log, &mut model, 1, 400);
        }
        node.pass(2_000);
        node.holds = Some(".log");
        for _ in 3..20 {
            node.take(log, &mut model, 1, 900);
        }
        node.pass(2_000);
        assert!(!node.held.is_empty(), "a segment write is under way");
        node.truncate(log, &mut model, to);
        node.search(log);
        for _ in 0..20 {
            node.take(log, &mut model, 2, 500);
        }
        node.pass(2_000);
        node.let_go();
        node.pass(2_000);
        node.check(log, &model, &at);
        assert!(!node.store.logs[&log].lags(Offset(model.end())), "all is written: {at}");
        let copy = node.disk.clone();
        node.restart();
        node.check(log, &model, &at);
        node.disk = copy;
        node.start();
        node.checkpoint();
        node.restart();
        node.check(log, &model, &at);
    }
}

#[test]
fn a_checkpoint_under_way_may_be_cut_under_at_every_step() {
    const STEPS: [&str; 8] = [
        ".log",
        ".journal",
        "00040.producers",
        ".index.tmp",
        "topic1-0",
        "checkpoint",
        ".tmp",
        ".txnindex.tmp",
    ];
    for held in STEPS {
        for to in [0, 3, 11, 25, 39] {
            for crash in [false, true] {
                let at = format!("{held} held, cut at {to}");
                let mut node = Node::new();
                let log = node.create(1, settings());
                let mut model = Model::with_voids(to % 2 == 1);
                for number in 0..40 {
                    node.take(log, &mut model, number / 10, 500);
                    if number == 20 {
                        node.pass(2_000);
                        node.checkpoint();
                    }
                }
                node.holds = Some(held);
                node.checkpoint();
                node.truncate(log, &mut model, to);
                node.search(log);
                if !crash {
                    node.let_go();
                    node.holds = Some(held);
                }
                for _ in 0..50 {
                    // Alike in everything but their content: offsets, sizes and times.
                    node.take(log, &mut model, 5, 500);
                }
                if crash && node.held.iter().all(|effect| !is_block(effect)) {
                    node.restart();
                    node.check(log, &model, &format!("{at}, crash"));
                }
                node.let_go();
                node.pass(2_000);
                node.check(log, &model, &at);
                node.checkpoint();
                node.restart();
                node.check(log, &model, &at);
            }
        }
    }
}

fn is_block(effect: &Effect) -> bool {
    TestDisk::file_of(effect).is_some_and(|file| file.as_str().ends_with(".journal"))
}

#[test]
fn a_read_under_way_never_returns_what_is_cut() {
    for to in [0, 1, 10, 24, 25, 26, 50] {
        let mut node = Node::new();
        let log = node.create(1, settings());
        let mut model = Model::default();
        for _ in 0..60 {
            node.take(log, &mut model, 1, 500);
        }
        node.pass(2_000);
        node.holds = Some("00000.log");
        let end = Offset(60);
        let range = FileRange { log, from: Offset(10), end, max_bytes: 20_000, at_least_one: true };
        node.store.read(node.now, range, ReadTicket(4), &mut node.fx);
        node.store.find_by_time(
            node.now,
            log,
            TimeLookup::Largest,
            end,
            ReadTicket(5),
            &mut node.fx,
        );
        node.settle();
        node.truncate(log, &mut model, to);
        node.search(log);
        for _ in 0..40 {
            node.take(log, &mut model, 2, 300);
        }
        node.events.clear();
        node.let_go();
        let read = node.events.iter().find_map(|event| match event {
            LogEvent::Read { result, .. } => Some(result.clone()),
            _ => None,
        });
        let parts = read.expect("the read is answered").expect("it is good");
        let mut bytes: Bytes = parts.concat().into();
        while !bytes.is_empty() {
            let batch = Batch::split_from(&mut bytes).expect("whole");
            assert!(model.batches.iter().any(|held| held.to_bytes() == batch.to_bytes()));
            assert!(batch.base_offset() < Offset(to), "below the cut at {to}");
        }
        assert!(node.events.iter().any(|event| matches!(event, LogEvent::Found { .. })));
        node.check(log, &model, "after the reads");
    }
}

#[test]
fn a_log_begins_anew_above_and_below_where_it_was() {
    for state in 0..4 {
        for start in [0, 5, 20, 40, 41, 1_000] {
            let at = format!("state {state}, anew at {start}");
            let mut node = Node::new();
            let log = node.create(1, settings());
            let mut model = Model::default();
            for _ in 0..40 {
                node.take(log, &mut model, 3, 500);
            }
            if state >= 1 {
                node.pass(2_000);
                node.store.move_log_start(node.now, log, Offset(20), &mut node.fx);
            }
            if state >= 2 {
                node.settle();
                node.checkpoint();
            }
            if state >= 3 {
                node.restart();
            }
            node.events.clear();
            node.reset(log, &mut model, start);
            assert_eq!(truncated(&node), [Offset(start)], "{at}");
            node.check(log, &model, &at);
            for _ in 0..30 {
                node.take(log, &mut model, 1, 400);
            }
            node.check(log, &model, &at);
            node.restart();
            node.check(log, &model, &at);
            node.checkpoint();
            node.restart();
            node.check(log, &model, &at);
        }
    }
}

#[test]
fn a_cut_below_a_start_on_its_way_leaves_nothing_and_begins_there() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let mut model = Model::default();
    for _ in 0..10 {
        node.take(log, &mut model, 1, 100);
    }
    node.holds = Some(".journal");
    node.store.move_log_start(node.now, log, Offset(6), &mut node.fx);
    model.move_start(6);
    node.truncate(log, &mut model, 3);
    node.let_go();
    node.check(log, &model, "in memory");
    node.restart();
    node.check(log, &model, "after a crash");
}

#[test]
fn a_memory_log_is_cut_at_once() {
    let mut node = Node::new();
    let log = node.create(1, LogSettings { storage: Storage::Memory, ..settings() });
    let mut model = Model::default();
    for _ in 0..40 {
        node.take(log, &mut model, 1, 400);
    }
    for to in [33, 33, 12, 0] {
        node.events.clear();
        node.truncate(log, &mut model, to);
        assert_eq!(truncated(&node), [Offset(to)]);
        for _ in 0..3 {
            node.take(log, &mut model, 2, 200);
        }
        node.check(log, &model, "cut");
        assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(to + 3)));
    }
    node.reset(log, &mut model, 5_000_000);
    node.take(log, &mut model, 2, 200);
    node.check(log, &model, "anew");
    assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(5_000_001)));
}

#[test]
fn a_log_that_begins_anew_says_so_until_that_is_durable() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let mut model = Model::default();
    node.take(log, &mut model, 1, 400);
    node.holds = Some(".journal");
    node.store.reset(node.now, log, Offset(50), &mut node.fx);
    assert_eq!(node.store.log_start_offset(log), Some(Offset(50)));
    node.settle();
    assert!(node.store.begins_anew(log), "a crash brings back what was there");
    node.let_go();
    assert!(!node.store.begins_anew(log));
}

#[test]
fn a_cut_inside_a_batch_takes_all_of_it() {
    for state in 0..3 {
        let mut node = Node::new();
        let log = node.create(1, settings());
        let mut model = Model::default();
        for number in 0..20 {
            let mut builder = BatchBuilder::new(Codec::None);
            for _ in 0..3 {
                builder.push(1_700_000_000_000, None, Some(&[number; 300]), &[]);
            }
            let mut batch = builder.build();
            batch.assign(Offset(model.end()), LeaderEpoch(1));
            node.replicate(log, &batch).expect("it continues the log");
            model.batches.push(batch);
        }
        if state >= 1 {
            node.pass(2_000);
            node.checkpoint();
        }
        if state >= 2 {
            node.restart();
        }
        node.events.clear();
        node.truncate(log, &mut model, 31);
        assert_eq!(truncated(&node), [Offset(30)]);
        node.check(log, &model, "inside");
        node.take(log, &mut model, 2, 100);
        node.restart();
        node.check(log, &model, "after a crash");
    }
}

#[test]
fn a_cut_in_a_damaged_segment_is_made_before_the_damage() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let mut model = Model::default();
    for _ in 0..30 {
        node.take(log, &mut model, 1, 500);
    }
    node.pass(2_000);
    node.checkpoint();
    node.restart();
    let name = "topic1-0/00000000000000000000.log";
    node.disk.files.get_mut(name).expect("there")[3_000] ^= 1;
    node.events.clear();
    let before = model.clone();
    node.truncate(log, &mut model, 15);
    let end = truncated(&node)[0];
    model = before;
    model.cut(end.0);
    assert!(end > Offset(2) && end < Offset(15), "{end:?}");
    node.check(log, &model, "before the damage");
    node.take(log, &mut model, 2, 500);
    node.restart();
    node.check(log, &model, "after a crash");
}

#[test]
fn a_torn_rewrite_of_a_truncation_takes_nothing_that_came_after_it() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let mut model = Model::default();
    for number in 0..6 {
        node.take(log, &mut model, 1 + number / 2, 300);
    }
    node.truncate(log, &mut model, 2);
    for _ in 0..4 {
        node.take(log, &mut model, 1, 9_000);
    }
    // Every number of blocks that a start writes again may be all that reaches the disk.
    for blocks in 0..8 {
        let copy = node.disk.clone();
        node.start();
        node.disk = copy;
        node.store = LogStore::new(node.config.clone());
        node.fx = Effects::default();
        node.store.start(node.now, &mut node.fx);
        let mut written = 0;
        while let Some(effect) = node.fx.pop() {
            written +=
                usize::from(matches!(&effect, Effect::Write { body: WriteBody::Block(_), .. }));
            if written > blocks {
                break;
            }
            if let Ok((token, result)) = node.disk.perform(effect) {
                node.store.handle_completion(node.now, token, result, &mut node.fx);
            }
        }
        node.restart();
        node.check(log, &model, &format!("{blocks} blocks"));
    }
}

#[test]
fn whatever_happens_to_a_log_it_holds_what_was_left() {
    for seed in 0..400 {
        run(seed);
    }
}

/// Appends, cuts, crashes and checkpoints by chance. A crash leaves what some prefix of the changes made
/// that includes all that were told to be durable.
fn run(seed: u64) {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let buggify = seed.is_multiple_of(3).then_some(seed);
    let tail_cache_bytes = [8 << 10, 64 << 10][seed as usize % 2];
    let mut node = Node::with(LogConfig { tail_cache_bytes, buggify, ..SMALL });
    node.pass(50);
    let log = node.create(1, LogSettings { segment_bytes: 4_000, ..settings() });
    node.pass(50);
    let mut model = Model::default();
    let mut possible = vec![model.clone()];
    let mut cuts = 0;
    let mut epoch = 0;
    for step in 0..60 {
        let at = format!("seed {seed}, step {step}");
        let mut draw = |below: u64| random.next_u64() % below;
        match draw(16) {
            0..=6 => {
                for _ in 0..=draw(6) {
                    epoch += i32::from(draw(8) == 0);
                    let size = draw(1_200) as usize;
                    if node.store.is_finding(log) {
                        break;
                    }
                    let epoch = epoch.max(model.epoch());
                    node.take(log, &mut model, epoch, size);
                    possible.push(model.clone());
                }
            }
            7 | 8 => {
                let back = draw(12) as i64;
                let is_finding = node.store.is_finding(log);
                let to = (model.end() - back).max(model.start);
                // A search that begins once more has one answer.
                cuts += usize::from(!is_finding);
                node.truncate(log, &mut model, to);
                possible.push(model.clone());
                epoch = draw(4) as i32 + model.epoch();
            }
            9 if draw(4) == 0 => {
                let start = (model.end() + draw(20) as i64 - 10).max(0);
                if !node.store.is_finding(log) {
                    cuts += 1;
                    node.reset(log, &mut model, start);
                    possible.push(model.clone());
                }
            }
            10 => node.pass(draw(3_000)),
            11 => {
                node.holds =
                    [Some(".journal"), Some(".log"), Some("topic1"), None][draw(4) as usize];
            }
            12 => node.let_go(),
            13 if node.store.may_begin_checkpoint() => node.checkpoint(),
            14 => {
                node.start();
                node.pass(50);
                let is_recovered = |e: &LogEvent| matches!(e, LogEvent::Recovered { .. });
                assert!(node.events.iter().any(is_recovered), "{at}: {:?}", node.fatal);
                let ends = node.store.log_end_offset(log);
                let held = node.fetch_to_end(log, 3_000);
                let start = node.store.log_start_offset(log);
                let found = possible.iter().rev().find(|possible| {
                    (start, ends) == (Some(Offset(possible.start)), Some(Offset(possible.end())))
                        && whole(&held) == whole(&possible.batches)
                });
                let changes = model.changes;
                let found = found.unwrap_or_else(|| panic!("{at}: not one of what may be left"));
                model = Model { changes, ..found.clone() };
                possible = vec![model.clone()];
                node.events.clear();
                cuts = 0;
            }
            _ => {}
        }
        if node.holds.is_none() && node.held.is_empty() {
            // What waits where a simulation has it so.
            node.pass(10);
        }
        let told = truncated(&node).len();
        cuts -= told;
        node.events.clear();
        let partition = &node.store.logs[&log];
        let is_settled = cuts == 0 && partition.stable == partition.end;
        if is_settled && !node.store.is_finding(log) {
            possible = vec![model.clone()];
        }
        if node.holds.is_none() && node.held.is_empty() {
            assert_eq!(cuts, 0, "{at}");
            node.check(log, &model, &at);
        }
    }
    node.let_go();
    node.pass(3_000);
    node.check(log, &model, &format!("seed {seed}, at the end"));
    assert!(!node.store.logs[&log].lags(Offset(model.end())));
}
