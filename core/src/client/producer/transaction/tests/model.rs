//! A transactional producer, and an application that does with it what it should, against a broker that
//! keeps the rules of transactions, loses connections and answers, and refuses at will.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::client::Link;
use crate::record::iterate::OpenBatch;
use crate::wire::api::add_offsets_to_txn::AddOffsetsToTxnRequest;
use crate::wire::api::add_partitions_to_txn::AddPartitionsToTxnRequest;
use crate::wire::api::produce::ProduceRequest;

const PARTITIONS: i32 = 2;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The application sends a record, within a transaction that it begins if none is open.
    Send(i32),
    /// It sends an offset.
    Offset,
    Commit,
    Abort,
    /// Another producer takes its place.
    Usurp,
    /// The broker does what the next request asks for.
    Serve,
    /// The broker refuses the next request, and does nothing.
    Refuse(ErrorCode),
    /// The broker does so many requests of a connection, which then is lost with the answers.
    Lose(u8),
    /// Time passes, in milliseconds.
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..PARTITIONS).prop_map(Step::Send),
        3 => Just(Step::Offset),
        5 => Just(Step::Commit),
        2 => Just(Step::Abort),
        30 => Just(Step::Serve),
        3 => prop_oneof![
            Just(ErrorCode::NotEnoughReplicas),
            Just(ErrorCode::NotCoordinator),
            Just(ErrorCode::CoordinatorLoadInProgress),
            Just(ErrorCode::ConcurrentTransactions),
            Just(ErrorCode::TransactionAbortable),
            Just(ErrorCode::InvalidRecord),
        ].prop_map(Step::Refuse),
        2 => (0_u8..4).prop_map(Step::Lose),
        10 => (0_u16..400).prop_map(Step::Pass),
        1 => prop::bool::weighted(0.3).prop_map(|is| if is { Step::Usurp } else { Step::Serve }),
    ]
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Entry {
    Record { producer: (i64, i16), value: u64 },
    Marker { id: i64, committed: bool },
}

/// First and last sequence of a batch, and its offset.
type Known = (i32, i32, i64);

/// A log with the rules of idempotence.
#[derive(Default, Debug)]
struct Log {
    entries: Vec<Entry>,
    /// Epoch and batches, by producer id.
    producers: BTreeMap<i64, (i16, Vec<Known>)>,
}

/// The values of a batch, which are numbers in this test.
fn values(batch: &Batch) -> Vec<u64> {
    let open = OpenBatch::open(batch, 1 << 20).expect("readable");
    open.records()
        .map(|placed| {
            let value = placed.expect("a record").record.value.expect("a value");
            u64::from_be_bytes(value.try_into().expect("eight bytes"))
        })
        .collect()
}

impl Log {
    fn append(&mut self, batch: &Batch) -> Result<i64, ErrorCode> {
        let (id, epoch) = (batch.producer_id().0, batch.producer_epoch().0);
        let (first, last) = (batch.base_sequence(), batch.last_sequence());
        let (known, batches) = self.producers.entry(id).or_insert((epoch, Vec::new()));
        if epoch < *known {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if epoch > *known {
            (*known, *batches) = (epoch, Vec::new());
        }
        if let Some((.., offset)) =
            batches.iter().rev().take(5).find(|(a, b, _)| (*a, *b) == (first, last))
        {
            return Ok(*offset);
        }
        if first != batches.last().map_or(0, |(_, last, _)| last + 1) {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        let offset = self.entries.len() as i64;
        batches.push((first, last, offset));
        let records = values(batch).into_iter();
        self.entries.extend(records.map(|value| Entry::Record { producer: (id, epoch), value }));
        Ok(offset)
    }

    fn end(&mut self, id: i64, epoch: i16, committed: bool) {
        self.entries.push(Entry::Marker { id, committed });
        let state = self.producers.entry(id).or_insert((epoch, Vec::new()));
        if state.0 < epoch {
            *state = (epoch, Vec::new());
        }
    }

    /// The values that a reader of committed records is shown.
    fn committed(&self) -> Vec<u64> {
        let mut shown = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let Entry::Record { producer: (id, _), value } = entry else { continue };
            let end = self.entries[at..].iter().find_map(|later| match later {
                Entry::Marker { id: other, committed } if other == id => Some(*committed),
                Entry::Marker { .. } | Entry::Record { .. } => None,
            });
            if end == Some(true) {
                shown.push(*value);
            }
        }
        shown
    }
}

/// All of a broker: logs, the coordinator of the transactional id, and that of the group.
#[derive(Default, Debug)]
struct Rules {
    is_v2: bool,
    logs: Vec<Log>,
    id: i64,
    epoch: i16,
    /// Partitions of the transaction that is open, and whether the group is part of it.
    open: Option<(BTreeSet<i32>, bool)>,
    /// How the last one ended, for whoever asks again.
    last: Option<bool>,
    staged: Option<i64>,
    /// Every offset that was committed.
    offsets: Vec<i64>,
}

impl Rules {
    fn check(&self, id: i64, epoch: i16) -> Result<(), ErrorCode> {
        let is_current = (id, epoch) == (self.id, self.epoch);
        if is_current { Ok(()) } else { Err(ErrorCode::ProducerFenced) }
    }

    fn opened(&mut self) -> &mut (BTreeSet<i32>, bool) {
        self.last = None;
        self.open.get_or_insert_with(Default::default)
    }

    fn end(&mut self, committed: bool, epoch: i16) {
        let (partitions, has_group) = self.open.take().expect("it is open");
        for partition in partitions {
            self.logs[partition as usize].end(self.id, epoch, committed);
        }
        if let (true, Some(offset)) = (has_group, self.staged.take())
            && committed
        {
            self.offsets.push(offset);
        }
        self.last = Some(committed);
    }

    fn init(&mut self, request: &InitProducerIdRequest) -> Result<(i64, i16), ErrorCode> {
        let given = (request.producer_id, request.producer_epoch);
        if given.0 >= 0 && given != (self.id, self.epoch) {
            // The answer to it was lost.
            let is_retry = given == (self.id, self.epoch - 1);
            return if is_retry {
                Ok((self.id, self.epoch))
            } else {
                Err(ErrorCode::ProducerFenced)
            };
        }
        self.id = 70;
        self.epoch += 1;
        if self.open.is_some() {
            self.end(false, self.epoch);
        }
        self.last = None;
        Ok((self.id, self.epoch))
    }

    fn add_partitions(&mut self, request: &AddPartitionsToTxnRequest) -> Result<(), ErrorCode> {
        self.check(request.v3_and_below_producer_id, request.v3_and_below_producer_epoch)?;
        let partitions = request.v3_and_below_topics[0].partitions.iter();
        self.opened().0.extend(partitions);
        Ok(())
    }

    fn add_offsets(&mut self, request: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
        self.check(request.producer_id, request.producer_epoch)?;
        self.opened().1 = true;
        Ok(())
    }

    fn produce(&mut self, partition: i32, batch: &Batch) -> Result<i64, ErrorCode> {
        let fenced = |_| ErrorCode::InvalidProducerEpoch;
        self.check(batch.producer_id().0, batch.producer_epoch().0).map_err(fenced)?;
        if self.is_v2 {
            self.opened().0.insert(partition);
        }
        let is_part = self.open.as_ref().is_some_and(|(known, _)| known.contains(&partition));
        if !is_part {
            return Err(ErrorCode::InvalidTxnState);
        }
        self.logs[partition as usize].append(batch)
    }

    fn stage(&mut self, request: &TxnOffsetCommitRequest) -> Result<(), ErrorCode> {
        let fenced = |_| ErrorCode::InvalidProducerEpoch;
        self.check(request.producer_id, request.producer_epoch).map_err(fenced)?;
        if self.is_v2 {
            self.opened().1 = true;
        }
        if !self.open.as_ref().is_some_and(|(_, has_group)| *has_group) {
            return Err(ErrorCode::InvalidTxnState);
        }
        self.staged = Some(request.topics[0].partitions[0].committed_offset);
        Ok(())
    }

    /// Ends the transaction, and returns the epoch that comes after it.
    fn end_txn(&mut self, request: &EndTxnRequest) -> Result<Option<(i64, i16)>, ErrorCode> {
        let given = (request.producer_id, request.producer_epoch);
        let raised = i16::from(self.is_v2);
        let next = (self.id, self.epoch);
        if self.last == Some(request.committed) && given == (self.id, self.epoch - raised) {
            return Ok(self.is_v2.then_some(next));
        }
        self.check(given.0, given.1)?;
        if self.open.is_none() && (request.committed || !self.is_v2) {
            return Err(ErrorCode::InvalidTxnState);
        }
        self.epoch += raised;
        if self.open.is_some() {
            self.end(request.committed, self.epoch);
        }
        self.last = Some(request.committed);
        Ok(self.is_v2.then_some((self.id, self.epoch)))
    }
}

/// What a transaction of the application has come to.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Outcome {
    Committed,
    Aborted,
    /// The producer died at its end.
    Unknown,
}

#[derive(Default, Debug)]
struct Counts {
    committed: usize,
    aborted: usize,
    unknown: usize,
    abortable: usize,
    fenced: usize,
    lost: usize,
}

struct Model {
    world: World,
    rules: Rules,
    /// Number of the transaction; each value and offset names it.
    number: u64,
    is_open: bool,
    is_ending: bool,
    /// Whether somebody has taken the producer's place.
    is_usurped: bool,
    records: BTreeMap<u64, Vec<u64>>,
    offsets: BTreeSet<u64>,
    outcomes: BTreeMap<u64, Outcome>,
    next_value: u64,
    counts: Counts,
}

impl Model {
    fn new(version: i16) -> Self {
        let rules = Rules {
            is_v2: version == 2,
            logs: (0..PARTITIONS).map(|_| Log::default()).collect(),
            epoch: -1,
            ..Rules::default()
        };
        let mut model = Self {
            world: World::new(version),
            rules,
            number: 0,
            is_open: false,
            is_ending: false,
            is_usurped: false,
            records: BTreeMap::new(),
            offsets: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            next_value: 0,
            counts: Counts::default(),
        };
        model.start();
        model
    }

    /// Begins anew with a producer that knows nothing.
    fn start(&mut self) {
        if self.is_open {
            self.outcomes.insert(self.number, Outcome::Unknown);
            self.is_open = false;
        }
        let version = self.world.broker.transaction_version.0;
        let now = self.world.broker.now;
        self.world = World::new(version);
        self.world.broker.now = now;
        self.world.producer.init_transactions(now).expect("a new one");
        self.world.settle();
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Send(partition) => {
                if self.begins() {
                    let value = self.next_value;
                    self.next_value += 1;
                    let record = NewRecord {
                        topic: ORDERS,
                        partition: Some(PartitionIndex(partition)),
                        value: Some(Bytes::copy_from_slice(&value.to_be_bytes())),
                        ..NewRecord::default()
                    };
                    self.world.producer.send(self.world.broker.now, record).expect("room");
                    self.world.settle();
                    self.records.entry(self.number).or_default().push(value);
                }
            }
            Step::Offset => {
                if self.begins() {
                    let offset = self.number as i64;
                    if self.world.send_offsets(&[(0, offset)]).is_ok() {
                        self.offsets.insert(self.number);
                    }
                }
            }
            Step::Commit => {
                if self.is_open {
                    self.is_ending |= self.world.commit().is_ok();
                }
            }
            Step::Abort => {
                if self.is_open {
                    self.is_ending |= self.world.abort().is_ok();
                }
            }
            Step::Usurp => {
                let request = InitProducerIdRequest {
                    producer_id: -1,
                    producer_epoch: -1,
                    ..InitProducerIdRequest::default()
                };
                if self.rules.id != 0 {
                    self.rules.init(&request).expect("anybody may");
                    self.is_usurped = true;
                }
            }
            Step::Serve => self.serve(None),
            Step::Refuse(code) => self.serve(Some(code)),
            Step::Lose(done) => self.lose(usize::from(done)),
            Step::Pass(millis) => self.world.pass(u64::from(millis)),
        }
        self.take_events();
    }

    /// Sees to it that a transaction is open, if it can be.
    fn begins(&mut self) -> bool {
        if !self.is_open && self.world.producer.begin_transaction().is_ok() {
            self.number += 1;
            self.is_open = true;
            self.is_ending = false;
        }
        self.is_open && !self.is_ending && self.world.producer.transaction_error().is_none()
    }

    fn take_events(&mut self) {
        while self.world.producer.poll_delivery().is_some() {}
        while let Some((call, result)) = self.world.event() {
            match (call, result) {
                (Call::Commit, Ok(())) => self.ends(Outcome::Committed),
                (Call::Abort, Ok(())) => self.ends(Outcome::Aborted),
                (_, Ok(())) => {}
                (_, Err(error)) => {
                    assert!(error.is_abortable() || error.is_fatal(), "{call}: {error}");
                    self.counts.abortable += usize::from(error.is_abortable());
                }
            }
        }
        match self.world.producer.transaction_error() {
            Some(TransactionError::Abortable(_)) => {
                self.world.abort().expect("it helps");
                self.is_ending = true;
            }
            Some(error) => {
                assert_eq!((&error, self.is_usurped), (&TransactionError::Fenced, true));
                self.is_usurped = false;
                self.counts.fenced += 1;
                self.start();
            }
            None => {}
        }
    }

    fn ends(&mut self, outcome: Outcome) {
        assert!(self.is_open, "an end that nobody asked for");
        self.outcomes.insert(self.number, outcome);
        self.is_open = false;
    }

    fn serve(&mut self, refusal: Option<ErrorCode>) {
        let Some(asked) = self.world.broker.asked.pop_front() else { return };
        self.answer(&asked, refusal);
    }

    /// Does requests of the connection that has one first, and loses it with the answers.
    fn lose(&mut self, done: usize) {
        let Some(link) = self.world.broker.asked.front().map(|asked| asked.link) else { return };
        self.counts.lost += 1;
        let (asked, others): (Vec<Asked>, Vec<Asked>) =
            self.world.broker.asked.drain(..).partition(|asked| asked.link == link);
        self.world.broker.asked.extend(others);
        for asked in asked.iter().take(done) {
            // Whether it was done, nobody is told.
            let _ = self.outcome(asked, None);
        }
        self.world.producer.handle(self.world.broker.now, Input::Disconnected(Link(link.0)));
        self.world.settle();
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else may be asked")]
    fn answer(&mut self, asked: &Asked, refusal: Option<ErrorCode>) {
        if let Request::Produce(request) = &asked.body {
            let partitions = self.produce(request, refusal);
            let responses = vec![TopicProduceResponse {
                name: ORDERS,
                topic_id: TOPIC_ID,
                partition_responses: partitions,
            }];
            self.world
                .broker
                .answer(asked, ProduceResponse { responses, ..ProduceResponse::default() });
            return self.world.settle();
        }
        let outcome = self.outcome(asked, refusal);
        let code = outcome.err().unwrap_or(ErrorCode::None);
        let (id, epoch) = outcome.ok().flatten().unwrap_or((-1, -1));
        // The answers are put together as for the tests by hand.
        let asked = Asked {
            link: asked.link,
            version: asked.version,
            correlation_id: asked.correlation_id,
            body: asked.body.clone(),
        };
        match &asked.body {
            Request::InitProducerId(_) => {
                let response = InitProducerIdResponse {
                    error_code: code.code(),
                    producer_id: id,
                    producer_epoch: epoch,
                    ..Default::default()
                };
                self.world.broker.answer(&asked, response);
                self.world.settle();
            }
            Request::AddPartitionsToTxn(_) => {
                self.world.answer_partitions(&asked, code);
            }
            Request::FindCoordinator(_) => {
                self.world.broker.asked.push_front(asked);
                self.world.find();
            }
            Request::AddOffsetsToTxn(_) => {
                self.world.broker.asked.push_front(asked);
                self.world.add_offsets(code);
            }
            Request::TxnOffsetCommit(_) => {
                self.world.broker.asked.push_front(asked);
                self.world.stage(|_| code);
            }
            Request::EndTxn(_) => {
                self.world.broker.asked.push_front(asked);
                self.world.end(code, (id >= 0).then_some((id, epoch)));
            }
            other => panic!("{other:?}"),
        }
    }

    fn produce(
        &mut self,
        request: &ProduceRequest,
        refusal: Option<ErrorCode>,
    ) -> Vec<PartitionProduceResponse> {
        let refusal = refusal.filter(|code| {
            [
                ErrorCode::NotEnoughReplicas,
                ErrorCode::TransactionAbortable,
                ErrorCode::InvalidRecord,
            ]
            .contains(code)
        });
        assert_eq!((&request.transactional_id, request.topic_data.len()), (&Some(ID), 1));
        let partitions = &request.topic_data[0].partition_data;
        partitions
            .iter()
            .map(|data| {
                let mut records = data.records.clone().expect("records");
                let batch = Batch::split_from(&mut records).expect("a batch");
                assert!(batch.is_transactional() && batch.crc_is_valid());
                let outcome = match refusal {
                    Some(code) => Err(code),
                    None => self.rules.produce(data.index, &batch),
                };
                PartitionProduceResponse {
                    index: data.index,
                    error_code: outcome.err().unwrap_or(ErrorCode::None).code(),
                    base_offset: outcome.unwrap_or(-1),
                    ..PartitionProduceResponse::default()
                }
            })
            .collect()
    }

    /// Does what a request asks for; returns the producer id and epoch that it gives.
    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else may be asked")]
    fn outcome(
        &mut self,
        asked: &Asked,
        refusal: Option<ErrorCode>,
    ) -> Result<Option<(i64, i16)>, ErrorCode> {
        let rules = &mut self.rules;
        // Of each request only what it may be refused with.
        let is = |codes: &[ErrorCode]| refusal.filter(|code| codes.contains(code));
        let moved = [
            ErrorCode::NotCoordinator,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::ConcurrentTransactions,
            ErrorCode::TransactionAbortable,
        ];
        let refused = |codes: &[ErrorCode]| is(codes).map_or(Ok(()), Err);
        match &asked.body {
            Request::FindCoordinator(_) => Ok(None),
            Request::InitProducerId(request) => {
                refused(&moved[..3])?;
                rules.init(request).map(Some)
            }
            Request::AddPartitionsToTxn(request) => {
                refused(&moved)?;
                rules.add_partitions(request).map(|()| None)
            }
            Request::AddOffsetsToTxn(request) => {
                refused(&moved)?;
                rules.add_offsets(request).map(|()| None)
            }
            Request::TxnOffsetCommit(request) => {
                refused(&moved)?;
                rules.stage(request).map(|()| None)
            }
            Request::EndTxn(request) => {
                refused(&moved[..3])?;
                rules.end_txn(request)
            }
            Request::Produce(request) => {
                self.produce(request, refusal);
                Ok(None)
            }
            other => panic!("{other:?}"),
        }
    }

    /// All faults end; what was asked for comes to its end.
    fn come_to_rest(&mut self) {
        for _ in 0..3_000 {
            if self.is_open {
                let _ = self.world.commit();
            }
            while !self.world.broker.asked.is_empty() {
                self.serve(None);
                self.take_events();
            }
            if !self.is_open {
                break;
            }
            self.world.pass(50);
            self.take_events();
        }
        assert!(!self.is_open, "a transaction never ends");
    }

    fn check(&mut self) {
        // What nobody came back for is aborted by whoever comes next.
        self.rules
            .init(&InitProducerIdRequest {
                producer_id: -1,
                producer_epoch: -1,
                ..InitProducerIdRequest::default()
            })
            .expect("anybody may");
        let shown: Vec<Vec<u64>> = self.rules.logs.iter().map(Log::committed).collect();
        for values in &shown {
            assert!(values.is_sorted(), "records lose their order: {values:?}");
        }
        let mut all: Vec<u64> = shown.into_iter().flatten().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a record is there twice");
        for (number, outcome) in &self.outcomes {
            let records = self.records.get(number).map_or(&[][..], |records| records);
            let there = records.iter().filter(|value| all.binary_search(value).is_ok()).count();
            let is_committed = match outcome {
                Outcome::Committed => true,
                Outcome::Aborted => false,
                Outcome::Unknown => there > 0,
            };
            assert_eq!(
                there,
                if is_committed { records.len() } else { 0 },
                "{number}: {outcome:?}"
            );
            let is_stored = self.rules.offsets.contains(&(*number as i64));
            if *outcome != Outcome::Unknown || !records.is_empty() {
                let expected = is_committed && self.offsets.contains(number);
                assert_eq!(is_stored, expected, "{number}: {outcome:?}");
            }
            match outcome {
                Outcome::Committed => self.counts.committed += usize::from(!records.is_empty()),
                Outcome::Aborted => self.counts.aborted += usize::from(!records.is_empty()),
                Outcome::Unknown => self.counts.unknown += 1,
            }
        }
    }
}

#[test]
fn whatever_is_lost_or_refused_transactions_count_whole_or_not_at_all() {
    for version in [1, 2] {
        let total = RefCell::new(Counts::default());
        let mut runner = TestRunner::new(Config { cases: 64, ..Config::default() });
        let steps = prop::collection::vec(step(), 100..400);

        runner
            .run(&steps, |steps| {
                let mut model = Model::new(version);
                for step in &steps {
                    model.run(*step);
                }
                model.come_to_rest();
                model.check();
                let mut total = total.borrow_mut();
                total.committed += model.counts.committed;
                total.aborted += model.counts.aborted;
                total.unknown += model.counts.unknown;
                total.abortable += model.counts.abortable;
                total.fenced += model.counts.fenced;
                total.lost += model.counts.lost;
                Ok(())
            })
            .expect("every case");

        let total = total.into_inner();
        assert!(total.committed > 100 && total.aborted > 100, "{total:?}");
        assert!(total.abortable > 50 && total.fenced > 10, "{total:?}");
        assert!(total.lost > 100 && total.unknown > 10, "{total:?}");
    }
}
