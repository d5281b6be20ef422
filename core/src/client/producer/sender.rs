//! Sends batches to the leaders of their partitions, and decides what becomes of each.
//!
//! Order and no doubles (KIP-98, 360): at most five batches of a partition are on their way, each
//! with a sequence that it keeps. A batch that comes back goes before everything that was taken
//! after it. Where a batch is given up, the sequences behind it would have a gap: the partition goes
//! on under the next epoch, and what waits gets sequences of that one, unless the broker may have
//! stored it under the old one; such a batch fails, for it could be stored twice.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::accumulator::{Accumulator, PendingBatch, Place, QueueId};
use super::sequences::Sequences;
use super::transaction::{Question, Transactions};
use super::{Acks, ProducerConfig};
use crate::client::metadata::{ABSENT_AFTER, Metadata};
use crate::client::network::{Network, Target};
use crate::client::{ClientError, Effect, Input};
use crate::error::ErrorCode;
use crate::ids::{NodeId, Offset, ProducerEpoch, ProducerId, TopicId};
use crate::time::Instant;
use crate::wire::api::init_producer_id::InitProducerIdRequest;
use crate::wire::api::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use crate::wire::{ApiKey, Request, Response};

/// Most batches of a partition on their way at once: as many as a broker remembers.
const BATCHES_IN_FLIGHT_MAX: usize = 5;
/// The last version of Produce that names topics.
const LAST_VERSION_BY_NAME: i16 = 12;

/// A batch on its way.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    queue: QueueId,
    topic_id: TopicId,
    batch: PendingBatch,
    /// Whether an earlier batch of the partition was on its way or waited when this one was sent.
    followed: bool,
}

/// Why a request was sent.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    ProducerId,
    Produce(Vec<Sent>),
    Transaction(Question),
}

/// How the broker has stored a batch.
struct Stored {
    base: Option<Offset>,
    log_append_time: Option<i64>,
}

/// What to do with a batch that failed.
enum Verdict {
    Retry,
    Halve,
    Deliver,
    Fail { sequences_break: bool },
}

/// Speaks to the brokers.
#[derive(Clone, Debug)]
pub struct Sender {
    pub(super) config: ProducerConfig,
    pub(super) network: Network<Purpose>,
    pub(super) sequences: Sequences,
    pub(super) transactions: Option<Transactions>,
    asked_for_id: bool,
    ask_again_at: Instant,
    turn: usize,
    /// Queues of partitions that their topics do not have, and the answers there were when that was seen.
    absent: BTreeMap<QueueId, u64>,
    /// Whether there ever was something to do: before, nothing is connected to.
    pub(super) started: bool,
}

impl Sender {
    pub(super) const fn identity(&self) -> Option<(ProducerId, ProducerEpoch)> {
        self.sequences.identity()
    }

    pub(super) fn new(config: ProducerConfig) -> Self {
        assert!(
            !config.idempotence || config.acks == Acks::All,
            "idempotence needs the acknowledgement of all replicas"
        );
        assert!(
            config.transactional_id.is_none() || config.idempotence,
            "transactions need idempotence"
        );
        Self {
            transactions: config
                .transactional_id
                .clone()
                .map(|id| Transactions::new(id, config.transaction_timeout)),
            network: Network::new(config.network.clone()),
            config,
            sequences: Sequences::default(),
            asked_for_id: false,
            ask_again_at: Instant::ZERO,
            turn: 0,
            absent: BTreeMap::new(),
            started: false,
        }
    }

    pub(super) const fn metadata(&self) -> &Metadata {
        self.network.metadata()
    }

    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        self.network.take_warnings()
    }

    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.network.poll_effect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if !self.started {
            return None;
        }
        let ask = Some(self.ask_again_at).filter(|_| self.wants_id());
        let transaction = self.transactions.as_ref().and_then(Transactions::wake_at);
        self.network.next_deadline().into_iter().chain(ask).chain(transaction).min()
    }

    /// Whether a pause stands between here and the next question for a producer id.
    fn wants_id(&self) -> bool {
        self.config.idempotence
            && !self.sequences.has_id()
            && !self.asked_for_id
            && self.ask_again_at > Instant::ZERO
    }

    pub(super) fn handle(&mut self, now: Instant, input: Input) {
        self.network.handle(now, input);
    }

    /// Takes answers in and sends what is due. To be called after each input and each record.
    pub(super) fn drive(&mut self, now: Instant, accumulator: &mut Accumulator) {
        self.take_answers(now, accumulator);
        for queue in accumulator.expire(now, self.network.metadata()) {
            self.break_off(queue);
        }
        for topic in accumulator.take_new_topics() {
            self.network.want(topic);
        }
        self.drive_transaction(now, accumulator);
        if accumulator.pending() > 0 {
            self.ask_for_id(now);
            self.send_due(now, accumulator);
            // A request that no version fits has ended at once.
            self.take_answers(now, accumulator);
        }
        accumulator.tidy();
        accumulator.driven();
        self.started |= accumulator.pending() > 0;
        if self.started {
            self.network.maintain(now);
            self.take_answers(now, accumulator);
            self.drive_transaction(now, accumulator);
        }
    }

    /// The sequences of a partition have a gap. A transaction cannot go on then: with its end the
    /// coordinator gives the next epoch.
    fn break_off(&mut self, queue: QueueId) {
        if self.transactions.is_none() {
            self.sequences.break_off(queue);
        }
    }

    fn ask_for_id(&mut self, now: Instant) {
        if !self.config.idempotence || self.sequences.has_id() || self.asked_for_id {
            return;
        }
        if self.transactions.is_some() {
            return;
        }
        if now < self.ask_again_at {
            return;
        }
        self.ask_again_at = Instant::ZERO;
        if let Some(link) = self.network.ready(now, Target::Any) {
            self.asked_for_id = true;
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: i32::MAX,
                ..InitProducerIdRequest::default()
            };
            let max_version = ApiKey::InitProducerId.max_version();
            self.network.send(now, link, &request.into(), max_version, Purpose::ProducerId);
        }
    }

    /// Sends what is due to each leader that can take it.
    fn send_due(&mut self, now: Instant, accumulator: &mut Accumulator) {
        if self.config.idempotence && !self.sequences.has_id() {
            return;
        }
        self.settle_broken(accumulator);
        loop {
            let mut by_node: BTreeMap<NodeId, Vec<QueueId>> = BTreeMap::new();
            let mut homeless = false;
            let mut absent: Vec<(QueueId, usize)> = Vec::new();
            for (id, queue) in accumulator.queues() {
                let may_send = queue
                    .batches
                    .front()
                    .filter(|batch| self.transaction_lets(id, batch))
                    .is_some_and(|batch| self.sequences.may_send(id, batch, self.most_in_flight()));
                if !may_send || !accumulator.is_due(now, queue) {
                    continue;
                }
                let (topic, partition) = &queue.place;
                match self.network.metadata().leader(topic, *partition) {
                    Some(leader)
                        if self.network.metadata().brokers().contains_key(&leader.node) =>
                    {
                        by_node.entry(leader.node).or_default().push(id);
                    }
                    Some(_) | None => homeless = true,
                }
                if let Some(partitions) = self.network.metadata().lacks(topic, *partition) {
                    absent.push((id, partitions));
                }
            }
            self.fail_absent(absent, accumulator);
            if homeless {
                self.network.mark_stale(now);
            }
            let mut sent = false;
            for (node, mut places) in by_node {
                if let Some(link) = self.network.ready(now, Target::Node(node)) {
                    // Every partition comes to the front in turn.
                    let turn = self.turn % places.len();
                    places.rotate_left(turn);
                    self.turn = self.turn.wrapping_add(1);
                    self.send_to(now, link, &places, accumulator);
                    sent = true;
                }
            }
            if !sent {
                return;
            }
        }
    }

    /// Fails what is for partitions that topics do not have, once enough answers have said so.
    fn fail_absent(&mut self, absent: Vec<(QueueId, usize)>, accumulator: &mut Accumulator) {
        let answers = self.network.metadata().answers();
        self.absent.retain(|id, _| absent.iter().any(|(other, _)| other == id));
        for (id, partitions) in absent {
            let since = *self.absent.entry(id).or_insert(answers);
            if answers - since >= ABSENT_AFTER {
                self.absent.remove(&id);
                if accumulator.fail_queue(id, &ClientError::NoPartition(partitions)) {
                    self.break_off(id);
                }
            }
        }
    }

    /// Most batches of a partition on their way. Without sequences the broker cannot restore the
    /// order, so one at a time.
    const fn most_in_flight(&self) -> usize {
        if self.config.idempotence { BATCHES_IN_FLIGHT_MAX } else { 1 }
    }

    fn send_to(
        &mut self,
        now: Instant,
        link: crate::client::Link,
        queues: &[QueueId],
        accumulator: &mut Accumulator,
    ) {
        let mut sent: Vec<Sent> = Vec::new();
        let mut topics: Vec<TopicProduceData> = Vec::new();
        let mut bytes = 0;
        for &queue in queues {
            let first = accumulator.queue(queue).batches.front();
            let size = first.map_or(0, PendingBatch::size);
            if !sent.is_empty() && bytes + size > self.config.max_request_bytes {
                continue;
            }
            let Some(mut batch) = accumulator.take_first(queue) else {
                continue;
            };
            bytes += size;
            let records = self.seal(queue, &mut batch, accumulator);
            let place = &accumulator.queue(queue).place;
            let topic_id = self
                .network
                .metadata()
                .topic(&place.0)
                .map_or(TopicId::ZERO, |topic| topic.topic_id);
            let data = PartitionProduceData { index: place.1.0, records: Some(records) };
            match topics.iter_mut().find(|topic| topic.name == place.0) {
                Some(topic) => topic.partition_data.push(data),
                None => topics.push(TopicProduceData {
                    name: place.0.clone(),
                    topic_id,
                    partition_data: vec![data],
                }),
            }
            let followed = self.follows_unsettled(queue, &batch, accumulator);
            self.sequences.sent(queue, &batch);
            sent.push(Sent { queue, topic_id, batch, followed });
        }
        let by_name = topics.iter().any(|topic| topic.topic_id.is_zero());
        let newest = if by_name { LAST_VERSION_BY_NAME } else { ApiKey::Produce.max_version() };
        let mut max_version = newest;
        if let Some(transactions) = &mut self.transactions {
            max_version = newest.min(transactions.on_produce(now));
        }
        let request = Request::Produce(ProduceRequest {
            transactional_id: self.config.transactional_id.clone(),
            acks: self.config.acks.number(),
            timeout_ms: self.config.network.request_timeout.as_millis() as i32,
            topic_data: topics,
        });
        if self.config.acks == Acks::None {
            let result = if self.network.send_unanswered(link, &request, max_version) {
                Ok(None)
            } else {
                Err(ClientError::UnsupportedApi(ApiKey::Produce.name()))
            };
            for Sent { queue, batch, .. } in sent {
                self.sequences.landed(queue, &batch);
                accumulator.finish(queue, batch, result.clone(), None);
            }
        } else {
            self.network.send(now, link, &request, max_version, Purpose::Produce(sent));
        }
    }

    /// Gives a batch its sequence, unless it has one, and returns its bytes.
    fn seal(
        &mut self,
        queue: QueueId,
        batch: &mut PendingBatch,
        accumulator: &Accumulator,
    ) -> Bytes {
        let producer = match batch.producer {
            Some(producer) => Some(producer),
            None if self.config.idempotence => self.sequences.take(queue, batch.count()),
            None => None,
        };
        let is_transactional = self.transactions.is_some();
        batch.seal(accumulator.codec(), accumulator.level(), producer, is_transactional)
    }

    /// Waiting batches whose sequences were broken off: those that were certainly not stored get
    /// another sequence, the others fail.
    fn settle_broken(&self, accumulator: &mut Accumulator) {
        // What has been sent stands before what has not.
        let suspects = accumulator.queues().filter(|(id, queue)| {
            let mut sent = queue.batches.iter().take_while(|batch| batch.producer.is_some());
            sent.any(|batch| !self.sequences.is_alive(*id, batch))
        });
        let suspects: Vec<QueueId> = suspects.map(|(id, _)| id).collect();
        for id in suspects {
            for mut batch in std::mem::take(&mut accumulator.queue_mut(id).batches) {
                let is_broken = batch.producer.is_some() && !self.sequences.is_alive(id, &batch);
                if is_broken && batch.maybe_stored {
                    let error = batch.failure(ClientError::TimedOut);
                    accumulator.finish(id, batch, Err(error), None);
                    continue;
                }
                if is_broken {
                    batch.producer = None;
                }
                accumulator.queue_mut(id).batches.push_back(batch);
            }
        }
    }

    fn take_answers(&mut self, now: Instant, accumulator: &mut Accumulator) {
        while let Some(completed) = self.network.poll_completed() {
            match completed.tag {
                Purpose::ProducerId => self.on_producer_id(now, completed.result, accumulator),
                Purpose::Transaction(question) => {
                    self.on_transaction_answer(now, &question, completed.result);
                }
                Purpose::Produce(sent) => {
                    self.on_produced(now, sent, completed.result, accumulator);
                }
            }
        }
    }

    fn on_producer_id(
        &mut self,
        now: Instant,
        result: Result<Response, ClientError>,
        accumulator: &mut Accumulator,
    ) {
        self.asked_for_id = false;
        let error = match result {
            Ok(Response::InitProducerId(response)) => {
                let Some(error) = ClientError::from_code(response.error_code) else {
                    self.sequences.set(
                        ProducerId(response.producer_id),
                        ProducerEpoch(response.producer_epoch),
                    );
                    return;
                };
                error
            }
            Ok(_) => unreachable!("an answer has the type of its question"),
            Err(error) => error,
        };
        if error.is_retriable() {
            self.ask_again_at = now + self.config.network.retry_backoff;
        } else {
            accumulator.fail_all(&error);
        }
    }

    fn on_produced(
        &mut self,
        now: Instant,
        sent: Vec<Sent>,
        result: Result<Response, ClientError>,
        accumulator: &mut Accumulator,
    ) {
        // All of them have landed before any is judged, so that none counts as being on its way.
        let mut landed = Vec::with_capacity(sent.len());
        match result {
            Ok(Response::Produce(response)) => {
                for one in sent {
                    let place = &accumulator.queue(one.queue).place;
                    let result = outcome(&response, place, one.topic_id);
                    landed.push((one, result));
                }
            }
            Ok(_) => unreachable!("an answer has the type of its question"),
            Err(error) => landed.extend(sent.into_iter().map(|one| (one, Err(error.clone())))),
        }
        let mut stale = false;
        for (Sent { queue, mut batch, followed, .. }, result) in landed {
            self.sequences.landed(queue, &batch);
            let error = match result {
                Ok(stored) => {
                    self.sequences.delivered(queue, &batch);
                    if self.follows_unsettled(queue, &batch, accumulator) {
                        self.sequences.passes(queue, &batch);
                    }
                    accumulator.finish(queue, batch, Ok(stored.base), stored.log_append_time);
                    continue;
                }
                Err(error) => error,
            };
            stale |= error.is_stale_metadata();
            batch.maybe_stored |= !error.is_refusal();
            // That it came before its turn says nothing about the record itself.
            let is_early = error.refused_with() == Some(ErrorCode::OutOfOrderSequenceNumber);
            if error.is_answer() && !(is_early && batch.last_said.is_some()) {
                batch.last_said = Some(error.clone());
            }
            match self.judge(queue, &batch, followed, &error, accumulator) {
                Verdict::Deliver => accumulator.finish(queue, batch, Ok(None), None),
                Verdict::Halve => accumulator.put_back_halves(queue, &batch),
                Verdict::Retry => {
                    let network = &self.config.network;
                    batch.retry_at = now
                        + crate::client::backoff(
                            network.retry_backoff,
                            network.retry_backoff_max,
                            batch.failures,
                        );
                    batch.failures = batch.failures.saturating_add(1);
                    accumulator.put_back(queue, batch);
                }
                Verdict::Fail { sequences_break } => {
                    if sequences_break {
                        self.break_off(queue);
                    }
                    let error = batch.failure(error);
                    accumulator.finish(queue, batch, Err(error), None);
                }
            }
        }
        if stale {
            self.network.mark_stale(now);
        }
    }

    fn judge(
        &mut self,
        queue: QueueId,
        batch: &PendingBatch,
        followed: bool,
        error: &ClientError,
        accumulator: &Accumulator,
    ) -> Verdict {
        let is_sequenced = batch.producer.is_some();
        let is_alive = self.sequences.is_alive(queue, batch);
        let is = |code| error.refused_with() == Some(code);
        if is(ErrorCode::MessageTooLarge) || is(ErrorCode::RecordListTooLarge) {
            if batch.count() > 1 && !batch.maybe_stored {
                return Verdict::Halve;
            }
        } else if is(ErrorCode::DuplicateSequenceNumber) {
            return Verdict::Deliver;
        } else if error.is_refusal() && self.is_given_up() {
            return Verdict::Fail { sequences_break: false };
        } else if is(ErrorCode::OutOfOrderSequenceNumber) && is_sequenced {
            // Behind one that is not settled, or with a sequence that was broken off, it only came
            // too early; so it may have where it was sent behind one that another broker has taken
            // since. Before all others it means that the broker has lost something.
            if !is_alive || followed || self.follows_unsettled(queue, batch, accumulator) {
                return Verdict::Retry;
            }
        } else if is_sequenced
            && self.transactions.is_none()
            && (is(ErrorCode::UnknownProducerId)
                || is(ErrorCode::InvalidProducerEpoch)
                || is(ErrorCode::InvalidProducerIdMapping))
        {
            if is_alive {
                self.sequences.give_up(queue);
            }
            return Verdict::Retry;
        }
        if error.is_retriable() && batch.failures < self.config.retries {
            Verdict::Retry
        } else {
            Verdict::Fail { sequences_break: is_alive }
        }
    }

    /// Whether an earlier batch of the partition waits or is on its way.
    fn follows_unsettled(
        &self,
        queue: QueueId,
        batch: &PendingBatch,
        accumulator: &Accumulator,
    ) -> bool {
        let first = batch.first_ticket();
        let waits = accumulator.queue(queue).batches.front();
        waits.is_some_and(|other| other.first_ticket() < first)
            || self.sequences.first_in_flight(queue).is_some_and(|other| other < first)
    }
}

/// Finds what a response says about a batch.
fn outcome(
    response: &ProduceResponse,
    place: &Place,
    topic_id: TopicId,
) -> Result<Stored, ClientError> {
    let partition = response
        .responses
        .iter()
        .filter(|topic| {
            topic.name == place.0 || (!topic_id.is_zero() && topic.topic_id == topic_id)
        })
        .flat_map(|topic| &topic.partition_responses)
        .find(|partition| partition.index == place.1.0)
        .ok_or_else(|| ClientError::Malformed(format!("no word about {}-{}", place.0, place.1)))?;
    let message = partition.error_message.as_deref();
    match ClientError::from_answer(partition.error_code, message) {
        None => Ok(Stored {
            base: (partition.base_offset >= 0).then_some(Offset(partition.base_offset)),
            log_append_time: Some(partition.log_append_time_ms).filter(|&time| time >= 0),
        }),
        Some(error) => Err(error),
    }
}
