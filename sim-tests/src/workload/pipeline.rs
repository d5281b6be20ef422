//! A member of a group that makes records of those that it reads, with the consumer and the producer of core:
//! what it writes and how far it has read are one transaction.
//!
//! The groups with even numbers read the first topic and write the second, the others the other way round, so
//! that transactions rest on each other; what has gone through three of them ends in the third topic. A member
//! aborts at times, sleeps for longer than its session and goes on as if nothing had been, or dies and comes
//! back under the same transactional id or another one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mainspring_core::client::consumer::{Consumer, ConsumerConfig, ConsumerEvent};
use mainspring_core::client::fetcher::{FetchedRecords, Start};
use mainspring_core::client::group::{GroupMember, OffsetsId, StoredOffset};
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::client::producer::accumulator::{Place, Ticket};
use mainspring_core::client::producer::transaction::{Call, TransactionError};
use mainspring_core::client::producer::{NewRecord, Producer};
use mainspring_core::client::{Effect, Input};
use mainspring_core::ids::{Offset, PartitionIndex};
use mainspring_core::wire::KafkaString;
use serde::{Deserialize, Serialize};

use super::held::Held;
use super::links::{Links, now};
use super::transactional::{asks_for_epoch, machine, may_come_again};
use super::{Load, SharedRef, bootstrap, place};
use crate::history::{Fact, OperationId, RecordKind, SeenRecord, record_hash};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND, SECOND};

/// How long no member of any group must have had anything to do at the end.
const QUIET: u64 = 35 * SECOND;
/// Through how many transactions a record goes.
const DEPTH: u8 = 3;
/// Most records of one transaction.
const RECORDS: usize = 20;

/// How a member is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Making {
    /// Its group.
    pub group: u32,
    /// The newest `transaction.version` that it speaks: 1 or 2.
    pub version: i16,
    /// How long a transaction may be open, in milliseconds.
    pub timeout_ms: u64,
    /// How many transactions out of a thousand it aborts, leaves, or sleeps through.
    pub restless: u32,
    /// How many requests of its producer out of a thousand arrive late, on connections that it has left.
    pub late: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// There is no process until then.
    Away {
        until: u64,
    },
    Starting,
    Reading,
    /// What was read is dealt with; the transaction ends then.
    Open {
        transaction: OperationId,
        until: u64,
        fate: Fate,
    },
    Ending {
        transaction: OperationId,
        committed: bool,
    },
    /// The consumer says goodbye.
    Closing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Commit,
    Abort,
    Die,
}

/// The member.
#[derive(Debug)]
pub struct Pipeline {
    client: usize,
    load: Load,
    shared: SharedRef,
    making: Making,
    consumer: Consumer,
    producer: Producer,
    reading: Links,
    writing: Links,
    held: Held,
    phase: Phase,
    /// Counts its transactional ids.
    names: u32,
    /// Where each partition is read next, as far as that is known.
    positions: BTreeMap<Place, i64>,
    /// What the transaction began with in each partition.
    begun_at: BTreeMap<Place, i64>,
    tickets: BTreeMap<Ticket, OperationId>,
    questions: BTreeMap<OffsetsId, Vec<(Place, OperationId)>>,
    next_operation: u64,
    next_transaction: u64,
    /// Until when it is asleep, and what has come meanwhile.
    asleep: Option<u64>,
    missed: Vec<ActorEvent>,
    finishing: bool,
    done: bool,
}

impl Pipeline {
    /// Makes a member, which counts itself as not finished.
    pub fn new(client: usize, load: Load, shared: SharedRef, making: Making) -> Self {
        shared.borrow_mut().pipelines += 1;
        Self {
            consumer: consumer(&load, making.group),
            producer: machine(&load, "nobody", making.version, making.timeout_ms),
            client,
            load,
            shared,
            making,
            reading: Links::default(),
            writing: Links::default(),
            held: Held::default(),
            phase: Phase::Away { until: 0 },
            names: 0,
            positions: BTreeMap::new(),
            begun_at: BTreeMap::new(),
            tickets: BTreeMap::new(),
            questions: BTreeMap::new(),
            next_operation: 0,
            next_transaction: 0,
            asleep: None,
            missed: Vec::new(),
            finishing: false,
            done: false,
        }
    }

    /// Returns the number of the transactional id, which no writer has.
    const fn name(&self) -> u32 {
        10_000 * (1 + self.client as u32) + self.names
    }

    fn operation(&mut self) -> OperationId {
        let number = self.next_operation;
        self.next_operation += 1;
        OperationId { client: self.client, number }
    }

    fn start(&mut self, hands: &mut Hands<'_>) {
        if hands.rng.chance(300) {
            // What is open under the other id ends by its timeout.
            self.names += 1;
        }
        let Making { group, version, timeout_ms, .. } = self.making;
        self.consumer = consumer(&self.load, group);
        self.producer = machine(&self.load, &format!("maker-{}", self.name()), version, timeout_ms);
        self.producer.init_transactions(now(hands)).expect("a new producer can begin");
        self.phase = Phase::Starting;
    }

    fn leave(&mut self, hands: &mut Hands<'_>) {
        self.reading.close_all(hands);
        self.writing.close_all(hands);
        self.positions.clear();
        self.tickets.clear();
        self.questions.clear();
        self.phase = Phase::Away { until: hands.now + hands.rng.exponential(2 * SECOND) };
        self.news(hands);
    }

    fn news(&self, hands: &Hands<'_>) {
        let mut shared = self.shared.borrow_mut();
        shared.pipeline_news = shared.pipeline_news.max(hands.now);
    }

    /// Returns the topic that the group reads, and where a record goes.
    fn input(&self) -> &str {
        &self.load.topics[self.making.group as usize % 2]
    }

    fn output(&self, depth: u8) -> &str {
        let at = if depth >= DEPTH { 2 } else { 1 - self.making.group as usize % 2 };
        &self.load.topics[at]
    }

    fn poll(&mut self, hands: &mut Hands<'_>) {
        while self.phase == Phase::Reading {
            let member = self.consumer.group_member();
            let Some(event) = self.consumer.poll_event(now(hands)) else { return };
            match event {
                ConsumerEvent::Records { place, records, next_offset, high_watermark } => {
                    self.take(hands, &place, &records, next_offset.0, high_watermark.0, member);
                }
                ConsumerEvent::Revoked(places) | ConsumerEvent::Lost(places) => {
                    for place in places {
                        self.positions.remove(&place);
                    }
                }
                ConsumerEvent::Assigned { added, .. } => {
                    for place in &added {
                        self.positions.remove(place);
                    }
                    self.news(hands);
                }
                ConsumerEvent::Fetched { id, results } => {
                    for (place, operation) in self.questions.remove(&id).into_iter().flatten() {
                        if let Some(Ok(stored)) = results.get(&place) {
                            let offset = stored.as_ref().map_or(-1, |stored| stored.offset.0);
                            hands.tell(Fact::ToldStable { operation, offset });
                        }
                    }
                }
                ConsumerEvent::Closed | ConsumerEvent::Failed(_) => self.leave(hands),
                ConsumerEvent::Committed { .. }
                | ConsumerEvent::PartitionFailed { .. }
                | ConsumerEvent::TopicFailed { .. } => {}
            }
        }
    }

    /// Begins a transaction with what was read.
    fn take(
        &mut self,
        hands: &mut Hands<'_>,
        at: &Place,
        records: &FetchedRecords,
        next: i64,
        high_watermark: i64,
        member: Option<GroupMember>,
    ) {
        let index = at.1.0;
        let Some(partition) = place(&self.shared, at.0.as_str(), index) else { return };
        let seen: Vec<SeenRecord> = records
            .iter()
            .map(|record| SeenRecord {
                offset: record.offset.0,
                hash: record_hash(record.timestamp, record.key, record.value),
                producer_id: -1,
                producer_epoch: -1,
                sequence: -1,
                kind: RecordKind::Plain,
            })
            .collect();
        let first = seen.first().map(|record: &SeenRecord| record.offset);
        let from = self.positions.get(at).copied().or(first).unwrap_or(next);
        hands.tell(Fact::ReadCommitted {
            client: self.client,
            partition,
            from,
            to: next,
            records: seen.clone(),
            high_watermark,
            last_stable_offset: None,
            aborted: None,
        });
        self.positions.insert(at.clone(), next);
        let (Some(first), Some(member)) = (first, member) else { return };
        self.news(hands);
        let taken = &seen[..seen.len().min(RECORDS)];
        let to = seen.get(RECORDS).map_or(next, |rest| rest.offset);
        if to < next {
            self.go_to(hands, at, to);
        }
        self.begin(hands);
        let Phase::Open { transaction, .. } = self.phase else { return };
        self.begun_at.insert(at.clone(), first);
        hands.tell(Fact::TakenIn {
            transaction,
            group: self.making.group,
            partition,
            records: taken.iter().map(|record| (record.offset, record.hash)).collect(),
            to,
        });
        for record in records.iter().take(taken.len()) {
            let depth = depth_of(record.key) + 1;
            let copies = 1 + u64::from(depth < DEPTH && record.offset.0 % 4 == 0);
            for copy in 0..copies {
                self.make(hands, transaction, (partition, record.offset.0), (depth, copy, index));
            }
        }
        let offsets = BTreeMap::from([(at.clone(), StoredOffset::from(Offset(to)))]);
        if let Err(error) = self.producer.send_offsets(now(hands), member, offsets) {
            self.failed(hands, &error);
        }
    }

    fn begin(&mut self, hands: &mut Hands<'_>) {
        self.producer.begin_transaction().expect("none is open");
        let transaction = OperationId { client: self.client, number: self.next_transaction };
        self.next_transaction += 1;
        let timeout = self.making.timeout_ms * MILLISECOND;
        hands.tell(Fact::TransactionBegun { transaction, name: self.name(), timeout });
        let mut until = hands.now;
        if hands.rng.chance(300) {
            until += hands.rng.exponential(self.load.pause);
        }
        let mut fate = Fate::Commit;
        if !self.finishing && hands.rng.chance(self.making.restless) {
            match hands.rng.below(4) {
                0 => fate = Fate::Die,
                1 => self.asleep = Some(hands.now + hands.rng.exponential(8 * SECOND)),
                _ => fate = Fate::Abort,
            }
        }
        self.begun_at.clear();
        self.phase = Phase::Open { transaction, until, fate };
    }

    /// Writes what a record comes to.
    fn make(
        &mut self,
        hands: &mut Hands<'_>,
        transaction: OperationId,
        (from, offset): (mainspring_core::ids::TopicPartition, i64),
        (depth, copy, index): (u8, u64, i32),
    ) {
        let topic = self.output(depth).to_owned();
        // The copy goes elsewhere, where there is an elsewhere.
        let index = (index + copy as i32) % self.load.partitions;
        let Some(partition) = place(&self.shared, &topic, index) else { return };
        let operation = self.operation();
        let now = now(hands);
        let group = self.making.group;
        let input = self.making.group % 2;
        let key = format!("d{depth}-{group}-{input}-{}-{offset}-{copy}", from.partition);
        let key = Bytes::from(format!("{key}-{}-{}", self.client, operation.number));
        let value = Bytes::from_static(b"made");
        let hash = record_hash(now.wall.0, Some(&key), Some(&value));
        hands.tell(Fact::Invoked { operation, partition, records: vec![hash] });
        hands.tell(Fact::SentIn { transaction, operation });
        hands.tell(Fact::MadeOf { operation, group, partition: from, offset });
        let record = NewRecord {
            topic: KafkaString::from(topic.as_str()),
            partition: Some(PartitionIndex(index)),
            timestamp: Some(now.wall.0),
            key: Some(key),
            value: Some(value),
            headers: Vec::new(),
        };
        if let Ok(ticket) = self.producer.send(now, record) {
            self.tickets.insert(ticket, operation);
        }
    }

    fn go_to(&mut self, hands: &Hands<'_>, at: &Place, offset: i64) {
        if self.consumer.seek(now(hands), at, Start::Offset(Offset(offset))) {
            self.positions.insert(at.clone(), offset);
        }
    }

    fn end(&mut self, hands: &mut Hands<'_>, transaction: OperationId, committed: bool) {
        hands.tell(Fact::EndAsked { transaction, committed });
        let asked = if committed {
            self.producer.commit_transaction(now(hands))
        } else {
            self.producer.abort_transaction(now(hands))
        };
        self.phase = Phase::Ending { transaction, committed };
        if let Err(error) = asked {
            self.failed(hands, &error);
        }
    }

    fn failed(&mut self, hands: &mut Hands<'_>, error: &TransactionError) {
        let transaction = match self.phase {
            Phase::Open { transaction, .. } | Phase::Ending { transaction, .. } => {
                Some(transaction)
            }
            Phase::Away { .. } | Phase::Starting | Phase::Reading | Phase::Closing => None,
        };
        match (error, transaction) {
            (TransactionError::Abortable(_), Some(transaction)) => {
                self.end(hands, transaction, false);
            }
            (TransactionError::Abortable(_), None) => self.leave(hands),
            (TransactionError::Fenced | TransactionError::Expired { .. }, _) => {
                hands.tell(Fact::ProducerFenced { client: self.client, transaction });
                self.leave(hands);
            }
            (error, _) => {
                hands.tell(Fact::ProducerBroken { client: self.client, why: error.to_string() });
                self.leave(hands);
            }
        }
    }

    /// Does what is to be done next; returns whether there was something.
    fn act(&mut self, hands: &mut Hands<'_>) -> bool {
        match self.phase {
            Phase::Away { until } if hands.now >= until => {
                self.start(hands);
                true
            }
            Phase::Open { transaction, until, fate } => {
                if let Some(error) = self.producer.transaction_error() {
                    self.failed(hands, &error);
                    return true;
                }
                if hands.now < until {
                    return false;
                }
                match fate {
                    Fate::Commit => self.end(hands, transaction, true),
                    Fate::Abort => self.end(hands, transaction, false),
                    Fate::Die => {
                        hands.tell(Fact::TransactionLeft { transaction });
                        self.leave(hands);
                    }
                }
                true
            }
            Phase::Reading => {
                self.poll(hands);
                if self.phase == Phase::Reading && self.is_over(hands) {
                    hands.tell(Fact::PipelineRead { group: self.making.group });
                    self.consumer.close(now(hands));
                    self.phase = Phase::Closing;
                }
                self.phase != Phase::Reading
            }
            Phase::Closing => {
                let mut is_closed = self.consumer.is_closed();
                while let Some(event) = self.consumer.poll_event(now(hands)) {
                    is_closed |= matches!(event, ConsumerEvent::Closed | ConsumerEvent::Failed(_));
                }
                if is_closed && !self.done {
                    self.done = true;
                    self.writing.close_all(hands);
                    self.shared.borrow_mut().pipelines -= 1;
                }
                false
            }
            Phase::Away { .. } | Phase::Starting | Phase::Ending { .. } => false,
        }
    }

    /// Returns whether nothing has come for so long that nothing will.
    fn is_over(&self, hands: &Hands<'_>) -> bool {
        let shared = self.shared.borrow();
        self.finishing && shared.producers == 0 && hands.now >= shared.pipeline_news + QUIET
    }

    /// Asks at times how far its group has come.
    fn ask(&mut self, hands: &mut Hands<'_>) {
        let owned = self.consumer.assignment();
        if self.phase != Phase::Reading || owned.is_empty() || !hands.rng.chance(20) {
            return;
        }
        let mut asked = Vec::new();
        for at in &owned {
            if let Some(partition) = place(&self.shared, at.0.as_str(), at.1.0) {
                let operation = self.operation();
                let group = self.making.group;
                hands.tell(Fact::AskedStable { operation, group, partition });
                asked.push((at.clone(), operation));
            }
        }
        if let Ok(id) = self.consumer.committed(now(hands), owned) {
            self.questions.insert(id, asked);
        }
    }

    fn listen(&mut self, hands: &mut Hands<'_>) -> bool {
        while let Some(delivery) = self.producer.poll_delivery() {
            let operation = self.tickets.remove(&delivery.ticket);
            if let (Some(operation), Ok(Some(offset))) = (operation, delivery.result) {
                hands.tell(Fact::Acked { operation, base_offset: offset.0 });
            }
        }
        let Some(event) = self.producer.poll_transaction() else { return false };
        match (event.result, event.call, self.phase) {
            (Ok(()), Call::Init, Phase::Starting) => {
                let (producer_id, epoch) = self.producer.identity().expect("it was given out");
                hands.tell(Fact::ProducerReady {
                    client: self.client,
                    producer_id: producer_id.0,
                    producer_epoch: epoch.0,
                });
                let topics = [KafkaString::from(self.input())].into();
                self.consumer.subscribe(now(hands), topics);
                self.phase = Phase::Reading;
            }
            (Ok(()), Call::Commit | Call::Abort, Phase::Ending { transaction, committed }) => {
                hands.tell(Fact::TransactionEnded { transaction, committed });
                if !committed {
                    for (at, offset) in std::mem::take(&mut self.begun_at) {
                        self.go_to(hands, &at, offset);
                    }
                }
                self.news(hands);
                self.phase = Phase::Reading;
            }
            // What became of offsets shows in the state of the transaction.
            (Ok(()), ..) | (Err(_), Call::SendOffsets, _) => {}
            (Err(error), ..) => self.failed(hands, &error),
        }
        true
    }

    fn carry_out(&mut self, hands: &mut Hands<'_>) {
        if matches!(self.phase, Phase::Away { .. }) {
            return;
        }
        while let Some(effect) = self.consumer.poll_effect() {
            self.reading.carry_out(hands, effect);
        }
        while let Some(effect) = self.producer.poll_effect() {
            let effect = match effect {
                Effect::Transmit { link, parts } => {
                    if matches!(self.phase, Phase::Starting) && asks_for_epoch(&parts) {
                        hands.tell(Fact::ProducerAsked { client: self.client, name: self.name() });
                    }
                    let comes = hands.rng.chance(self.making.late) && may_come_again(&parts);
                    let held = if comes {
                        self.held.hold(hands, &mut self.writing, link, parts)
                    } else {
                        Err(parts)
                    };
                    match held {
                        Ok(lost) => {
                            self.producer.handle(now(hands), lost);
                            continue;
                        }
                        Err(parts) => Effect::Transmit { link, parts },
                    }
                }
                effect => effect,
            };
            self.writing.carry_out(hands, effect);
        }
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        self.held.arrive(hands, self.finishing);
        self.ask(hands);
        if !matches!(self.phase, Phase::Reading | Phase::Closing) {
            self.news(hands);
        }
        // Whoever sleeps has begun something, and says nothing of what came of it.
        while self.asleep.is_none() {
            self.carry_out(hands);
            let heard = self.listen(hands);
            if !self.act(hands) && !heard {
                break;
            }
        }
        self.carry_out(hands);
        if self.done {
            return;
        }
        let own = match (self.asleep, self.phase) {
            (Some(until), _) | (None, Phase::Away { until } | Phase::Open { until, .. }) => until,
            (None, _) => u64::MAX,
        };
        let machines = [self.consumer.next_deadline(), self.producer.next_deadline()];
        let machines =
            machines.into_iter().flatten().map(mainspring_core::time::Instant::as_nanos).min();
        let runs = self.asleep.is_none() && !matches!(self.phase, Phase::Away { .. });
        let machines = machines.filter(|_| runs).unwrap_or(u64::MAX);
        let late = self.held.next().unwrap_or(u64::MAX);
        let due = own.min(machines).min(late).min(hands.now + SECOND / 2);
        hands.wake_at(due.max(hands.now + 1));
    }

    fn hear(&mut self, hands: &Hands<'_>, event: &ActorEvent) {
        let now = now(hands);
        match event {
            ActorEvent::Wake if matches!(self.phase, Phase::Away { .. }) => {}
            ActorEvent::Wake => {
                self.consumer.handle(now, Input::Wakeup);
                self.producer.handle(now, Input::Wakeup);
            }
            ActorEvent::Finish => {
                self.finishing = true;
                self.news(hands);
            }
            event => {
                if let Some(input) = self.reading.input(event) {
                    self.consumer.handle(now, input);
                } else if let Some(input) = self.writing.input(event) {
                    self.producer.handle(now, input);
                }
            }
        }
    }
}

/// Returns through how many transactions a record has gone.
fn depth_of(key: Option<&[u8]>) -> u8 {
    match key {
        Some([b'd', depth @ b'0'..=b'9', b'-', ..]) => depth - b'0',
        _ => 0,
    }
}

/// Makes a consumer that reads what is committed, and commits nothing by itself.
fn consumer(load: &Load, group: u32) -> Consumer {
    let network = NetworkConfig {
        request_timeout: Duration::from_secs(8),
        connect_timeout: Duration::from_secs(4),
        ..NetworkConfig::new(bootstrap(load.cluster))
    };
    let group_id = KafkaString::from(format!("makers-{group}").as_str());
    let mut config = ConsumerConfig::new(network, Some(group_id));
    config.auto_commit = None;
    config.auto_store = false;
    config.close_timeout = Duration::from_secs(5);
    config.fetcher.reset = Some(Start::Earliest);
    config.fetcher.read_committed = true;
    config.fetcher.prefetch_bytes = 64 << 10;
    config.fetcher.rack = load.rack.as_deref().map(KafkaString::from);
    if let Some(group) = &mut config.group {
        group.require_stable = true;
        group.session_timeout = Duration::from_secs(6);
        group.heartbeat_interval = Duration::from_millis(1_500);
        group.rebalance_timeout = Duration::from_secs(8);
    }
    Consumer::new(config)
}

impl Actor for Pipeline {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        if matches!(event, ActorEvent::Finish) {
            self.asleep = None;
        }
        if self.held.hear(hands, &event) {
            // It is not the machine's any more.
        } else if self.asleep.is_some_and(|until| hands.now < until) {
            if !matches!(event, ActorEvent::Wake) {
                self.missed.push(event);
            }
        } else {
            self.asleep = None;
            for missed in std::mem::take(&mut self.missed) {
                self.hear(hands, &missed);
            }
            self.hear(hands, &event);
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        (!self.done).then(|| {
            format!(
                "member {} of pipeline {} is in {:?} and waits for {} records",
                self.client,
                self.making.group,
                self.phase,
                self.producer.pending()
            )
        })
    }
}
