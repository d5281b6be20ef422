//! The producer machine of core with records that come later, or with commands about such: it cancels them, lets them
//! come at another time, or gives the verdict on half messages.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::client::producer::accumulator::Ticket;
use mainspring_core::client::producer::{NewRecord, Producer, ProducerConfig};
use mainspring_core::client::{ClientError, Input};
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{PartitionIndex, TopicPartition};
use mainspring_core::wire::KafkaString;

use super::commands::Command;
use super::links::{Links, now};
use super::{Load, SentLater, SharedRef, bootstrap, place};
use crate::history::{Fact, OperationId, Waiting, content_hash};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND, SECOND};

/// Mean time by which records are delayed, in nanoseconds.
pub const DELAY_MEAN: u64 = 2 * SECOND;
/// The longest one.
pub const DELAY_MAX: u64 = 15 * SECOND;
/// Who is asked for verdicts that do not come.
pub const CHECK_GROUP: &str = "judges";
/// How long a record is sent again.
const DELIVERY: Duration = Duration::from_secs(40);

/// Returns the name of a record that comes later, which is its key too.
pub fn token(operation: OperationId) -> String {
    format!("{}-{}", operation.client, operation.number)
}

/// Reads such a name.
pub fn read_token(key: &[u8]) -> Option<OperationId> {
    let (client, number) = std::str::from_utf8(key).ok()?.split_once('-')?;
    Some(OperationId { client: client.parse().ok()?, number: number.parse().ok()? })
}

/// Returns the name of a record that comes again and again, which is its key too.
pub fn recurring_token(operation: OperationId) -> String {
    format!("every-{}", token(operation))
}

/// Reads such a name.
pub fn read_recurring_token(key: &[u8]) -> Option<OperationId> {
    read_token(key.strip_prefix(b"every-")?)
}

/// Returns what was sent is called, where it has a name of its own.
pub fn name_of(sent: &SentLater) -> String {
    if sent.waits == Waiting::Recurs {
        recurring_token(sent.operation)
    } else {
        token(sent.operation)
    }
}

fn header(name: &str, value: &str) -> (Bytes, Option<Bytes>) {
    (Bytes::from(name.to_owned()), Some(Bytes::from(value.to_owned())))
}

/// The producer.
#[derive(Debug)]
pub struct Delayer {
    client: usize,
    load: Load,
    shared: SharedRef,
    machine: Producer,
    links: Links,
    /// Whether it sends commands rather than records.
    cancels: bool,
    /// Commands that have no answer.
    commands: BTreeMap<OperationId, Command>,
    tickets: BTreeMap<Ticket, OperationId>,
    next_operation: u64,
    sends_left: u64,
    next_send: u64,
    finishing: bool,
    done: bool,
}

impl Delayer {
    /// Makes a producer, which counts itself as not finished.
    pub fn new(client: usize, load: Load, shared: SharedRef, cancels: bool) -> Self {
        shared.borrow_mut().producers += 1;
        let network = NetworkConfig {
            request_timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(4),
            ..NetworkConfig::new(bootstrap(load.cluster))
        };
        let config = ProducerConfig {
            batch_bytes: 2 << 10,
            delivery_timeout: DELIVERY,
            ..ProducerConfig::new(network)
        };
        Self {
            client,
            sends_left: load.operations,
            load,
            shared,
            machine: Producer::new(config),
            links: Links::default(),
            cancels,
            commands: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_operation: 0,
            next_send: 0,
            finishing: false,
            done: false,
        }
    }

    /// Sends a few records to one partition, which the machine may gather in a batch.
    fn send(&mut self, hands: &mut Hands<'_>) {
        let topic = self.load.topics[hands.rng.index(self.load.topics.len())].clone();
        let index = hands.rng.below(self.load.partitions as u64) as i32;
        // The id of a topic is learnt from those who speak the wire by hand.
        let Some(partition) = place(&self.shared, &topic, index) else { return };
        let count = hands.rng.between(1, self.load.records.max(1)).min(self.sends_left);
        self.sends_left -= count;
        for _ in 0..count {
            self.send_one(hands, &topic, index, partition);
        }
    }

    fn send_one(
        &mut self,
        hands: &mut Hands<'_>,
        topic: &str,
        index: i32,
        partition: TopicPartition,
    ) {
        if hands.rng.chance(8) {
            return self.send_recurring(hands, topic, index, partition);
        }
        let operation = self.operation();
        let own = token(operation);
        let now_ms = now(hands).wall.0;
        let delay = hands.rng.exponential(DELAY_MEAN).min(DELAY_MAX);
        let mut delay_ms = (delay / MILLISECOND) as i64;
        let is_delay = hands.rng.chance(500);
        // Several are due at one moment.
        if !is_delay && hands.rng.chance(500) {
            delay_ms += 1_000 - (now_ms + delay_ms) % 1_000;
        }
        let (waits, mut headers) = match hands.rng.below(100) {
            0..15 => (Waiting::Not, Vec::new()),
            15..25 => (Waiting::Verdict, vec![header("mainspring-half", CHECK_GROUP)]),
            _ if is_delay => {
                (Waiting::Due, vec![header("mainspring-delay-ms", &delay_ms.to_string())])
            }
            _ => {
                let due_ms = now_ms + delay_ms;
                (Waiting::Due, vec![header("mainspring-deliver-at", &due_ms.to_string())])
            }
        };
        let is_due = waits == Waiting::Due;
        let name = (is_due && hands.rng.chance(200)).then(|| hands.rng.below(3) as u32);
        match (waits, name) {
            (Waiting::Not, _) => {}
            (_, Some(name)) => headers.push(header("mainspring-id", &format!("slot-{name}"))),
            (_, None) => headers.push(header("mainspring-id", &own)),
        }
        let comes_again = waits != Waiting::Verdict && name.is_none() && hands.rng.chance(100);
        if comes_again {
            headers.push(header("mainspring-dedup-id", &own));
        }
        if hands.rng.chance(500) {
            headers.push(header("for-the-reader", &own));
        }
        let due_ms = if is_due { now_ms + delay_ms } else { now_ms };
        let size = hands.rng.exponential(self.load.bytes).min(2_000) as usize;
        let value = Bytes::from(vec![operation.number as u8; size]);
        let shown = headers.iter().map(|(name, value)| (&name[..], value.as_deref()));
        let content = content_hash(Some(own.as_bytes()), Some(&value), shown);
        hands.tell(Fact::Scheduled {
            operation,
            partition,
            due_ms,
            is_delay,
            waits,
            name,
            content,
        });
        // A record may be taken as late as its send is given up.
        let taken = if is_delay { DELIVERY.as_nanos() as u64 } else { 0 };
        let latest = hands.now + delay_ms as u64 * MILLISECOND + taken;
        let is_named = waits != Waiting::Not && name.is_none();
        let (again, ticket) = (comes_again, None);
        let name = topic.to_owned();
        let sent =
            SentLater { operation, topic: name, index, latest, waits, is_named, again, ticket };
        self.shared.borrow_mut().delayed.push(sent);
        self.put(hands, Some(operation), (topic, index), (&own, value.clone()), headers.clone());
        if comes_again {
            hands.tell(Fact::SentAgain { operation });
            self.put(hands, None, (topic, index), (&own, value), headers);
        }
    }

    /// Sends a record that comes every few seconds: at those that the period divides, or counted from now on.
    fn send_recurring(
        &mut self,
        hands: &mut Hands<'_>,
        topic: &str,
        index: i32,
        partition: TopicPartition,
    ) {
        let operation = self.operation();
        let own = recurring_token(operation);
        let is_aligned = hands.rng.chance(500);
        let period_ms = if is_aligned {
            [2_000, 3_000, 5_000][hands.rng.index(3)]
        } else {
            hands.rng.between(1_000, 5_000) as i64
        };
        let expression = if is_aligned {
            format!("*/{} * * * * *", period_ms / 1_000)
        } else {
            format!("@every {period_ms}")
        };
        let headers = vec![header("mainspring-cron", &expression), header("mainspring-id", &own)];
        let value = Bytes::from(vec![operation.number as u8; 20]);
        let shown = headers.iter().map(|(name, value)| (&name[..], value.as_deref()));
        let content = content_hash(Some(own.as_bytes()), Some(&value), shown);
        hands.tell(Fact::Recurring { operation, partition, period_ms, is_aligned, content });
        let sent = SentLater {
            operation,
            topic: topic.to_owned(),
            index,
            latest: 0,
            waits: Waiting::Recurs,
            is_named: true,
            again: false,
            ticket: None,
        };
        self.shared.borrow_mut().delayed.push(sent);
        self.put(hands, Some(operation), (topic, index), (&own, value), headers);
    }

    /// Cancels something that was sent lately, moves it, or gives the verdict on it.
    fn command(&mut self, hands: &mut Hands<'_>) {
        let Some(sent) = Command::choose(hands, &self.shared) else { return };
        self.sends_left -= 1;
        let command = self.operation();
        let about = (sent.operation, sent.waits);
        let now_ms = now(hands).wall.0;
        let kind = Command::ask(hands, &self.shared, command, about, now_ms);
        let operator = match kind {
            Command::Cancel => "cancel",
            Command::DeliverNow => "deliver-now",
            Command::Reschedule(_) => "reschedule",
            Command::Verdict { committed: true } => "commit",
            Command::Verdict { committed: false } => "rollback",
        };
        let mut headers =
            vec![header("mainspring-id", &name_of(&sent)), header("mainspring-op", operator)];
        if let Command::Reschedule(due_ms) = kind {
            headers.push(header("mainspring-deliver-at", &due_ms.to_string()));
        }
        self.commands.insert(command, kind);
        self.put(hands, Some(command), (&sent.topic, sent.index), ("", Bytes::new()), headers);
    }

    /// Tells what became of a command.
    fn answered(&mut self, hands: &mut Hands<'_>, command: OperationId, code: i16) {
        if let Some(kind) = self.commands.remove(&command) {
            kind.answered(hands, command, code);
        }
    }

    fn operation(&mut self) -> OperationId {
        let operation = OperationId { client: self.client, number: self.next_operation };
        self.next_operation += 1;
        operation
    }

    fn put(
        &mut self,
        hands: &Hands<'_>,
        operation: Option<OperationId>,
        (topic, index): (&str, i32),
        (key, value): (&str, Bytes),
        headers: Vec<(Bytes, Option<Bytes>)>,
    ) {
        let now = now(hands);
        let record = NewRecord {
            topic: KafkaString::from(topic),
            partition: Some(PartitionIndex(index)),
            timestamp: Some(now.wall.0),
            key: Some(Bytes::from(key.to_owned())),
            value: Some(value),
            headers,
        };
        if let (Ok(ticket), Some(operation)) = (self.machine.send(now, record), operation) {
            self.tickets.insert(ticket, operation);
        }
        if self.cancels {
            // A command that fails takes along what is in its batch.
            self.machine.flush(now);
        }
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        while let Some(effect) = self.machine.poll_effect() {
            self.links.carry_out(hands, effect);
        }
        while let Some(delivery) = self.machine.poll_delivery() {
            let Some(operation) = self.tickets.remove(&delivery.ticket) else { continue };
            match delivery.result {
                Ok(Some(_)) if self.cancels => self.answered(hands, operation, 0),
                Ok(Some(offset)) => {
                    hands.tell(Fact::EntryTaken { operation, ticket: offset.0 });
                    self.shared.borrow_mut().took(operation, offset.0);
                }
                Err(ClientError::Broker(code) | ClientError::Refused { code, .. }) => {
                    if self.cancels {
                        self.answered(hands, operation, code.code());
                    }
                    // A command may come too late; what an error is that passes was sent until time was up.
                    let may_be = self.cancels && code == ErrorCode::InvalidRecord;
                    if !may_be && !code.is_retriable() {
                        hands.tell(Fact::Refused { operation, code: code.code() });
                    }
                }
                Ok(None) | Err(_) => {}
            }
        }
        let due =
            self.machine.next_deadline().map_or(u64::MAX, |at| at.as_nanos().max(hands.now + 1));
        hands.wake_at(due.min(self.next_send.max(hands.now + 1)).min(hands.now + SECOND));
        if self.finishing && !self.done && self.machine.pending() == 0 {
            self.done = true;
            self.shared.borrow_mut().producers -= 1;
        }
    }
}

impl Actor for Delayer {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        let now = now(hands);
        let input = match event {
            ActorEvent::Wake => Some(Input::Wakeup),
            ActorEvent::Finish => {
                self.finishing = true;
                self.machine.flush(now);
                None
            }
            event => self.links.input(&event),
        };
        if let Some(input) = input {
            self.machine.handle(now, input);
        }
        if !self.finishing && self.sends_left > 0 && hands.now >= self.next_send {
            self.next_send = hands.now + hands.rng.exponential(self.load.pause);
            if self.cancels {
                self.command(hands);
            } else {
                self.send(hands);
            }
        }
        if self.finishing || self.sends_left == 0 {
            self.next_send = u64::MAX;
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        (!self.done).then(|| {
            format!("producer {} waits for {} records", self.client, self.machine.pending())
        })
    }
}
