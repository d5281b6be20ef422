//! Producers of both protocols that do sensible and senseless things, over crashes that lose what was not
//! committed, a log that refuses, markers that fail, come late and come twice, and time that passes; and what
//! must hold whatever they do.

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::coordinator::transaction::decide::LAST_EPOCH;
use crate::wire::transaction_record::{TransactionLogKey, TransactionLogValue};

/// The second begins just before its epochs are used up.
const IDS: [&str; 2] = ["t", "u"];
/// Producers of each id; every other one speaks the older protocol.
const PRODUCERS: usize = 3;
const PARTITIONS: i32 = 3;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The producer does what it should; the number chooses a partition, or how it ends.
    Act(usize, u8),
    /// The producer asks once more for what it asked last.
    Repeat(usize),
    /// Something that the producer asked long ago comes again.
    Late(usize, u8),
    /// The producer goes on after an error, by its id and epoch.
    Recover(usize),
    /// The producer starts anew and knows nothing.
    Forget(usize),
    /// A leader asks whether a partition is in.
    Verify(usize, u8),
    /// An operator aborts.
    Abort(usize),
    /// Everything is told.
    List,
    /// A marker is written.
    Write(u8),
    /// A marker is written, and comes again later.
    WriteTwice(u8),
    /// A marker fails.
    Fail(u8),
    /// A marker of before comes again.
    Stale(u8),
    /// So many more records are committed.
    Replicate(u8),
    /// Time passes, in milliseconds.
    Pass(u32),
    /// The coordinator's process dies, and the log keeps so many of the records that were not committed.
    Crash(u8),
    /// The log takes nothing, or takes records again.
    Refuse(bool),
    /// There are producer ids, or none yet.
    Give(bool),
    /// The log is cleaned.
    Clean,
}

fn step() -> impl Strategy<Value = Step> {
    let producer = || 0..IDS.len() * PRODUCERS;
    prop_oneof![
        70 => (producer(), any::<u8>()).prop_map(|(one, how)| Step::Act(one, how)),
        5 => producer().prop_map(Step::Repeat),
        5 => (producer(), any::<u8>()).prop_map(|(one, which)| Step::Late(one, which)),
        3 => producer().prop_map(Step::Recover),
        2 => producer().prop_map(Step::Forget),
        4 => (producer(), any::<u8>()).prop_map(|(one, which)| Step::Verify(one, which)),
        1 => (0..IDS.len()).prop_map(Step::Abort),
        1 => Just(Step::List),
        24 => any::<u8>().prop_map(Step::Write),
        3 => any::<u8>().prop_map(Step::WriteTwice),
        5 => any::<u8>().prop_map(Step::Fail),
        3 => any::<u8>().prop_map(Step::Stale),
        30 => (1_u8..5).prop_map(Step::Replicate),
        12 => (0_u32..400).prop_map(Step::Pass),
        1 => (0_u32..90_000).prop_map(Step::Pass),
        2 => (0_u8..3).prop_map(Step::Crash),
        1 => Just(Step::Refuse(true)),
        4 => Just(Step::Refuse(false)),
        1 => Just(Step::Give(false)),
        3 => Just(Step::Give(true)),
        2 => Just(Step::Clean),
    ]
}

/// What a producer believes.
#[derive(Clone, Default, Debug)]
struct Producer {
    /// Counts how often it has started.
    life: u32,
    /// Whether it has started, and was not fenced since.
    is_up: bool,
    it_is: Option<(i64, i16)>,
    is_open: bool,
    waits: Option<Ticket>,
    /// What it asked, the newest last.
    asked: Vec<(Asked, Request)>,
}

/// What was asked, by the producer of which id, and what its answer is checked against.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Asked {
    Init(usize),
    Add(usize, (i64, i16), i32),
    End(usize, (i64, i16), bool),
    Other,
}

/// What was asked and is not answered: by whom, if it waits for it, and who had been initialized by then.
type Pending = (Asked, Option<usize>, (i64, i16));

/// How often something happened, so that runs in which nothing does are noticed.
#[derive(Clone, Default, Debug)]
struct Counts {
    initialized: u32,
    added: u32,
    commits: u32,
    aborts: u32,
    fenced: u32,
    repeated: u32,
    overflows: u32,
    crashes: u32,
    lost_records: usize,
    markers: u32,
    failures: u32,
    cleanings: u32,
    timeouts: u32,
}

struct World {
    bench: Bench,
    high_watermark: usize,
    producers: Vec<Producer>,
    /// What was asked and is not answered.
    asked: BTreeMap<Ticket, Pending>,
    /// The newest producer of each id that was told so.
    newest: [(i64, i16); IDS.len()],
    /// Who was told that it is this producer.
    given: BTreeMap<(usize, i64, i16), (usize, u32)>,
    /// How the transactions of producers with an epoch for each ended, by what they were told.
    told: BTreeMap<(usize, i64, i16), bool>,
    written: BTreeSet<MarkerId>,
    stale: Vec<Sent>,
    /// How much of the log was looked at.
    checked: usize,
    counts: Counts,
}

fn named(mut request: Request, id: usize) -> Request {
    let name = match &mut request {
        Request::InitProducerId(request) => &mut request.transactional_id,
        Request::AddPartitionsToTxn(request) => &mut request.transactional_id,
        Request::AddOffsetsToTxn(request) => &mut request.transactional_id,
        Request::EndTxn(request) => &mut request.transactional_id,
        Request::DescribeTransaction(request) => &mut request.transactional_id,
        Request::AbortTransaction(request) => &mut request.transactional_id,
        Request::ListTransactions(_) => return request,
    };
    *name = IDS[id].into();
    request
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::with(|config| config.dead_records_min = 8);
        let value = TransactionLogValue {
            producer_id: 1,
            producer_epoch: LAST_EPOCH.0 - 4,
            transaction_timeout_ms: TIMEOUT_MS,
            transaction_last_update_timestamp_ms: bench.now.wall.0,
            transaction_start_timestamp_ms: -1,
            ..TransactionLogValue::default()
        };
        let key = TransactionLogKey { transactional_id: IDS[1].into() };
        let (key, value) = TransactionRecord { key, value: Some(value) }.encode();
        bench.log.records.push(LogRecord { key, value });
        bench.restart();
        Self {
            bench,
            high_watermark: 0,
            producers: (0..IDS.len() * PRODUCERS)
                .map(|one| Producer { is_up: one % PRODUCERS == 0, ..Producer::default() })
                .collect(),
            asked: BTreeMap::new(),
            newest: [(-1, -1); IDS.len()],
            given: BTreeMap::new(),
            told: BTreeMap::new(),
            written: BTreeSet::new(),
            stale: Vec::new(),
            checked: 0,
            counts: Counts::default(),
        }
    }

    const fn is_v2(producer: usize) -> bool {
        producer % PRODUCERS != 1
    }

    fn ask(&mut self, asked: Asked, request: Request, by: Option<usize>) -> Ticket {
        let ticket = Ticket(self.bench.tickets + 1);
        let newest = match asked {
            Asked::Init(id) | Asked::Add(id, ..) | Asked::End(id, ..) => self.newest[id],
            Asked::Other => (-1, -1),
        };
        self.asked.insert(ticket, (asked, by, newest));
        if let Some(producer) = by {
            self.producers[producer].asked.push((asked, request.clone()));
            self.producers[producer].waits = Some(ticket);
        }
        self.bench.ask(request)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Act(producer, how) => self.act(producer, how),
            Step::Repeat(producer) => self.late(producer, 0),
            Step::Late(producer, which) => self.late(producer, which),
            Step::Recover(producer) => {
                let id = producer / PRODUCERS;
                if let Some(it_is) = self.producers[producer].it_is {
                    self.producers[producer].is_open = false;
                    let request = named(init(Some(it_is)), id);
                    self.ask(Asked::Init(id), request, Some(producer));
                }
            }
            Step::Forget(producer) => {
                let life = self.producers[producer].life + 1;
                let asked = std::mem::take(&mut self.producers[producer].asked);
                // What it asked may still come again.
                let is_up = true;
                self.producers[producer] = Producer { life, is_up, asked, ..Producer::default() };
            }
            Step::Verify(producer, which) => {
                if let Some(it_is) = self.producers[producer].it_is {
                    let (id, partition) = (producer / PRODUCERS, i32::from(which) % PARTITIONS);
                    let request = named(add(ADD, it_is, &[partition], true), id);
                    self.ask(Asked::Add(id, it_is, partition), request, None);
                }
            }
            Step::Abort(id) => {
                let request = AbortTransaction { transactional_id: IDS[id].into() };
                self.ask(Asked::Other, Request::AbortTransaction(request), None);
            }
            Step::List => {
                let request = ListTransactions {
                    state_filters: Vec::new(),
                    producer_id_filters: Vec::new(),
                    duration_filter_ms: 0,
                    pattern: None,
                };
                self.ask(Asked::Other, Request::ListTransactions(request), None);
            }
            Step::Write(which) => self.write(which, false),
            Step::WriteTwice(which) => self.write(which, true),
            Step::Fail(which) => {
                if let Some(sent) = self.take_sent(which) {
                    self.counts.failures += 1;
                    self.bench.report(&sent, Err(ErrorCode::NotLeaderOrFollower));
                }
            }
            Step::Stale(which) => {
                if !self.stale.is_empty() {
                    let at = usize::from(which) % self.stale.len();
                    let sent = self.stale.swap_remove(at);
                    self.written.insert(sent.id);
                    self.bench.report(&sent, Ok(()));
                }
            }
            Step::Replicate(records) => self.replicate(usize::from(records)),
            Step::Pass(millis) => self.bench.pass(Duration::from_millis(u64::from(millis))),
            Step::Crash(kept) => self.crash(usize::from(kept)),
            Step::Refuse(refuses) => {
                self.bench.log.refuses = refuses.then_some(ErrorCode::NotEnoughReplicas);
            }
            Step::Give(gives) => self.give(gives),
            Step::Clean => self.clean(),
        }
        self.check_log();
        self.check_sent();
        self.take_replies();
    }

    fn act(&mut self, producer: usize, how: u8) {
        let id = producer / PRODUCERS;
        let believes = &self.producers[producer];
        if believes.waits.is_some() || !believes.is_up {
            return;
        }
        let Some(it_is) = believes.it_is else {
            self.ask(Asked::Init(id), named(init(None), id), Some(producer));
            return;
        };
        let (adding, ending) = if Self::is_v2(producer) { (ADD, END) } else { (ADD_V1, END_V1) };
        if !believes.is_open || how.is_multiple_of(3) {
            let partition = i32::from(how / 3) % PARTITIONS;
            let request = named(add(adding, it_is, &[partition], false), id);
            self.ask(Asked::Add(id, it_is, partition), request, Some(producer));
        } else {
            let committed = how % 3 == 1;
            let request = named(end(ending, it_is, committed), id);
            self.ask(Asked::End(id, it_is, committed), request, Some(producer));
        }
    }

    fn late(&mut self, producer: usize, which: u8) {
        let asked = &self.producers[producer].asked;
        let last = asked.len().wrapping_sub(1 + usize::from(which) % (asked.len() + 1));
        if let Some((what, request)) = asked.get(last).cloned() {
            self.ask(what, request, None);
        }
    }

    fn take_sent(&mut self, which: u8) -> Option<Sent> {
        let count = self.bench.sent.len();
        self.bench.sent.remove(usize::from(which) % count.max(1))
    }

    fn write(&mut self, which: u8, twice: bool) {
        if let Some(sent) = self.take_sent(which) {
            self.counts.markers += 1;
            self.written.insert(sent.id);
            self.bench.report(&sent, Ok(()));
            if twice {
                self.stale.push(sent);
            }
        }
    }

    fn replicate(&mut self, records: usize) {
        self.high_watermark = (self.high_watermark + records).min(self.bench.log.records.len());
        let to = Offset(self.high_watermark as i64);
        let bench = &mut self.bench;
        bench.coordinator.on_committed(bench.now, &mut bench.log, to);
        bench.collect();
        if let Some(start) = bench.coordinator.cleaned_to() {
            assert!(start <= to, "what is cleaned away is committed elsewhere");
            bench.log.start = start.0;
            self.counts.cleanings += 1;
        }
    }

    fn give(&mut self, gives: bool) {
        self.bench.gives_ids = gives;
        while gives && self.bench.wanted > 0 {
            self.bench.give_id();
        }
    }

    fn clean(&mut self) {
        let bench = &mut self.bench;
        let start = Offset(bench.log.start);
        let _ = bench.coordinator.clean(bench.now, &mut bench.log, start);
        bench.collect();
    }

    fn crash(&mut self, kept: usize) {
        let end = self.bench.log.records.len();
        let kept = (self.high_watermark + kept).min(end);
        let live = self.bench.coordinator.replicated_digest();
        self.counts.crashes += 1;
        self.counts.lost_records += end - kept;
        self.bench.log.records.truncate(kept);
        self.checked = self.checked.min(kept);
        self.stale.extend(std::mem::take(&mut self.bench.sent));
        self.bench.restart();
        if kept == end {
            assert_eq!(self.bench.coordinator.replicated_digest(), live, "live as in replay");
        }
        let give = self.bench.gives_ids;
        self.give(give);
        // It is told what is committed, as it was before.
        self.replicate(0);
    }

    /// Every record is one that may follow the one before it of its id.
    fn check_log(&mut self) {
        while self.checked < self.bench.log.records.len() {
            let at = self.checked;
            self.checked += 1;
            let record = self.bench.log.decoded(at);
            let id = record.key.transactional_id.clone();
            let value = record.value.expect("nothing expires in this run");
            let before = self.before(at, &id);
            let status = TransactionStatus::from_code(value.transaction_status).expect("a state");
            let Some((was, before)) = before else {
                assert_eq!(status, TransactionStatus::Empty);
                continue;
            };
            self.check_step(at, &id, (was, &before), (status, &value));
        }
    }

    /// The record of the id before this place.
    fn before(
        &self,
        at: usize,
        id: &KafkaString,
    ) -> Option<(TransactionStatus, TransactionLogValue)> {
        let records = (0..at).rev().map(|at| self.bench.log.decoded(at));
        let value = records.filter(|one| one.key.transactional_id == *id).find_map(|one| one.value);
        value.map(|value| {
            (TransactionStatus::from_code(value.transaction_status).expect("a state"), value)
        })
    }

    fn check_step(
        &mut self,
        at: usize,
        id: &KafkaString,
        (was, before): (TransactionStatus, &TransactionLogValue),
        (status, value): (TransactionStatus, &TransactionLogValue),
    ) {
        use TransactionStatus::{
            CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit,
        };
        let is_copy = before == value;
        let may_follow = match was {
            Empty | CompleteCommit | CompleteAbort => {
                matches!(status, Empty | Ongoing | PrepareAbort)
            }
            Ongoing => matches!(status, Ongoing | PrepareCommit | PrepareAbort),
            PrepareCommit => status == CompleteCommit,
            PrepareAbort => status == CompleteAbort,
        };
        assert!(is_copy || may_follow, "{was:?} is not followed by {status:?}");
        let (old, new) = (
            (before.producer_id, before.producer_epoch),
            (value.producer_id, value.producer_epoch),
        );
        assert!(new >= old, "ids are given in order here, and epochs rise");
        if value.producer_epoch == i16::MAX {
            assert!(matches!(status, PrepareCommit | PrepareAbort), "nobody is given that epoch");
            assert_ne!(value.next_producer_id, -1);
            self.counts.overflows += 1;
        }
        if !is_copy && matches!(status, CompleteCommit | CompleteAbort) {
            self.check_complete(at, id);
        }
        if was == Ongoing && status == PrepareAbort && value.last_producer_epoch == old.1 {
            self.counts.timeouts += 1;
        }
    }

    /// Every partition of the decided transaction has its marker.
    fn check_complete(&self, at: usize, id: &KafkaString) {
        let mut decided = BTreeSet::new();
        let mut partitions = 0;
        for place in (0..at).rev() {
            let record = self.bench.log.decoded(place);
            if record.key.transactional_id != *id {
                continue;
            }
            let value = record.value.expect("nothing expires in this run");
            let status = TransactionStatus::from_code(value.transaction_status).expect("a state");
            if !matches!(status, TransactionStatus::PrepareCommit | TransactionStatus::PrepareAbort)
            {
                break;
            }
            partitions = value
                .transaction_partitions
                .iter()
                .flatten()
                .fold(0, |count, topic| count + topic.partition_ids.len() as u32);
            decided.insert(Offset(place as i64));
        }
        for index in 0..partitions {
            let is_written =
                |&decided_at: &Offset| self.written.contains(&MarkerId { decided_at, index });
            assert!(decided.iter().any(is_written), "a partition has no marker");
        }
    }

    /// What is sent is what a committed record decided.
    fn check_sent(&self) {
        for sent in &self.bench.sent {
            let at = sent.id.decided_at.0 as usize;
            assert!(at < self.high_watermark, "a marker is sent before its decision is committed");
            let value = self.bench.log.decoded(at).value.expect("a decision");
            let status = TransactionStatus::from_code(value.transaction_status).expect("a state");
            let expected = if sent.committed {
                TransactionStatus::PrepareCommit
            } else {
                TransactionStatus::PrepareAbort
            };
            assert_eq!(status, expected);
            assert_eq!(sent.producer, (value.producer_id, value.producer_epoch));
        }
    }

    /// The committed states of an id.
    fn committed(&self, id: usize) -> Vec<TransactionLogValue> {
        let records = (0..self.high_watermark).map(|at| self.bench.log.decoded(at));
        let of_id = records.filter(|record| record.key.transactional_id == IDS[id]);
        of_id.filter_map(|record| record.value).collect()
    }

    fn take_replies(&mut self) {
        for (ticket, response) in std::mem::take(&mut self.bench.replies) {
            let (asked, by, newest) = self.asked.remove(&ticket).expect("it was asked");
            let by = by.filter(|&one| self.producers[one].waits == Some(ticket));
            if let Some(producer) = by {
                self.producers[producer].waits = None;
            }
            match asked {
                Asked::Init(id) => {
                    let Response::InitProducerId(answer) = response else { panic!("another") };
                    self.on_initialized(id, by, producer_of(answer));
                }
                Asked::Add(id, producer, partition) => {
                    let error = errors(response)[0];
                    self.on_added(id, by, (producer, newest), partition, error);
                }
                Asked::End(id, producer, committed) => {
                    let Response::EndTxn(answer) = response else { panic!("another") };
                    self.on_ended(id, by, (producer, newest), committed, answer);
                }
                Asked::Other => {}
            }
        }
    }

    fn on_initialized(
        &mut self,
        id: usize,
        by: Option<usize>,
        answer: Result<(i64, i16), ErrorCode>,
    ) {
        let Ok(it_is) = answer else {
            if answer == Err(ErrorCode::ProducerFenced)
                && let Some(producer) = by
            {
                self.fenced(producer);
            }
            return;
        };
        self.counts.initialized += 1;
        let is_stored = |value: &TransactionLogValue| {
            (value.producer_id, value.producer_epoch) == it_is && value.transaction_status == 0
        };
        assert!(self.committed(id).iter().any(is_stored), "{it_is:?} is not in the log");
        self.newest[id] = self.newest[id].max(it_is);
        if let Some(producer) = by {
            self.hand_out(id, it_is, producer);
            self.producers[producer].it_is = Some(it_is);
            self.producers[producer].is_open = false;
        }
    }

    /// One producer has one epoch to itself.
    fn hand_out(&mut self, id: usize, it_is: (i64, i16), producer: usize) {
        assert!((0..i16::MAX).contains(&it_is.1), "nobody is given {}", it_is.1);
        let whom = (producer, self.producers[producer].life);
        let before = self.given.insert((id, it_is.0, it_is.1), whom);
        assert!(before.is_none_or(|before| before == whom), "{it_is:?} has two producers");
    }

    fn fenced(&mut self, producer: usize) {
        self.counts.fenced += 1;
        let life = self.producers[producer].life + 1;
        let asked = std::mem::take(&mut self.producers[producer].asked);
        self.producers[producer] = Producer { life, asked, ..Producer::default() };
    }

    fn on_added(
        &mut self,
        id: usize,
        by: Option<usize>,
        (it_is, newest): ((i64, i16), (i64, i16)),
        partition: i32,
        error: ErrorCode,
    ) {
        if error == ErrorCode::None {
            self.counts.added += 1;
            assert!(it_is >= newest, "{it_is:?} was fenced by {newest:?}");
            let has_it = |value: &TransactionLogValue| {
                (value.producer_id, value.producer_epoch) == it_is
                    && value.transaction_status == TransactionStatus::Ongoing.code()
                    && value.transaction_partitions.iter().flatten().any(|topic| {
                        topic.topic == TOPIC && topic.partition_ids.contains(&partition)
                    })
            };
            assert!(self.committed(id).iter().any(has_it), "it is not in the log");
        }
        let Some(producer) = by else { return };
        if error == ErrorCode::None {
            self.producers[producer].is_open = true;
        } else if is_fatal(error) {
            self.fenced(producer);
        }
    }

    fn on_ended(
        &mut self,
        id: usize,
        by: Option<usize>,
        (it_is, newest): ((i64, i16), (i64, i16)),
        committed: bool,
        answer: ProducerAnswer,
    ) {
        if answer.error == ErrorCode::None {
            assert!(it_is >= newest, "{it_is:?} was fenced by {newest:?}");
            let is_v2 = answer.producer_id != ProducerId::NONE;
            let status = if committed {
                TransactionStatus::PrepareCommit
            } else {
                TransactionStatus::PrepareAbort
            };
            let decided = |value: &TransactionLogValue| {
                value.producer_id == it_is.0
                    && value.producer_epoch == it_is.1 + i16::from(is_v2)
                    && value.transaction_status == status.code()
            };
            assert!(self.committed(id).iter().any(decided), "nothing has decided that");
            if is_v2 {
                let before = self.told.insert((id, it_is.0, it_is.1), committed);
                assert!(before.is_none_or(|before| before == committed), "two ends of one");
                self.counts.repeated += u32::from(before.is_some());
                let next = (answer.producer_id.0, answer.producer_epoch.0);
                assert!(next > it_is);
            }
            *(if committed { &mut self.counts.commits } else { &mut self.counts.aborts }) += 1;
        }
        let Some(producer) = by else { return };
        if answer.error == ErrorCode::None {
            self.producers[producer].is_open = false;
            if answer.producer_id != ProducerId::NONE {
                let next = (answer.producer_id.0, answer.producer_epoch.0);
                self.hand_out(id, next, producer);
                self.producers[producer].it_is = Some(next);
            }
        } else if is_fatal(answer.error) {
            self.fenced(producer);
        } else if answer.error == ErrorCode::InvalidTxnState {
            self.producers[producer].is_open = false;
        }
    }

    /// Once nothing fails any more, everything comes to its end.
    fn heal(&mut self) {
        self.step(Step::Refuse(false));
        self.step(Step::Give(true));
        for _ in 0..100 {
            self.step(Step::Replicate(u8::MAX));
            while !self.bench.sent.is_empty() {
                self.step(Step::Write(0));
            }
            self.step(Step::Pass(2_000));
        }
        let is_at_rest = |status: TransactionStatus| {
            matches!(
                status,
                TransactionStatus::Empty
                    | TransactionStatus::CompleteCommit
                    | TransactionStatus::CompleteAbort
            )
        };
        assert!(self.bench.coordinator.views().all(|view| is_at_rest(view.status)));
        assert_eq!(self.bench.coordinator.missing_markers().count(), 0);
        assert!(self.asked.is_empty(), "everyone is answered: {:?}", self.asked);
        assert_eq!(self.bench.wanted, 0);
        let live = self.bench.coordinator.replicated_digest();
        self.bench.restart();
        assert_eq!(self.bench.coordinator.replicated_digest(), live, "live as in replay");
    }
}

const fn is_fatal(error: ErrorCode) -> bool {
    matches!(error, ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping)
}

#[test]
fn whatever_producers_do_a_transaction_ends_once_and_everywhere_alike() {
    let config = Config { cases: 96, ..Config::default() };
    let total = RefCell::new(Counts::default());
    let steps = prop::collection::vec(step(), 200..700);
    TestRunner::new(config)
        .run(&steps, |steps| {
            let mut world = World::new();
            for step in steps {
                world.step(step);
            }
            world.heal();
            let mut total = total.borrow_mut();
            let counts = &world.counts;
            total.initialized += counts.initialized;
            total.added += counts.added;
            total.commits += counts.commits;
            total.aborts += counts.aborts;
            total.fenced += counts.fenced;
            total.repeated += counts.repeated;
            total.overflows += counts.overflows;
            total.crashes += counts.crashes;
            total.lost_records += counts.lost_records;
            total.markers += counts.markers;
            total.failures += counts.failures;
            total.cleanings += counts.cleanings;
            total.timeouts += counts.timeouts;
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let total = total.into_inner();
    let Counts { initialized, added, commits, aborts, fenced, repeated, overflows, .. } = total;
    let seen = [initialized, added, commits, aborts, fenced, repeated, overflows];
    assert!(seen.iter().all(|&count| count > 0), "{total:?}");
    let Counts { crashes, markers, failures, cleanings, timeouts, lost_records, .. } = total;
    let seen = [crashes, markers, failures, cleanings, timeouts, lost_records as u32];
    assert!(seen.iter().all(|&count| count > 0), "{total:?}");
}
