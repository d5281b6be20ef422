//! The producer machine of core with a transactional id: it commits and aborts transactions over several
//! partitions, leaves some open for too long, dies in others, and comes back under the same name. Two of them
//! may have one name: each takes the other's place.
//!
//! Besides, a request may arrive much later, as a network may deliver it: of a producer with an epoch for each
//! transaction a second time, of one of the kind before [on a connection that it has left](Held).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::client::producer::accumulator::Ticket;
use mainspring_core::client::producer::transaction::{Call, TransactionError};
use mainspring_core::client::producer::{NewRecord, Producer, ProducerConfig};
use mainspring_core::client::{Effect, Input};
use mainspring_core::ids::PartitionIndex;
use mainspring_core::wire::KafkaString;
use serde::{Deserialize, Serialize};

use super::held::Held;
use super::links::{Links, now};
use super::{Load, SharedRef, bootstrap, passing, place};
use crate::history::{Fact, OperationId, record_hash};
use crate::net::StreamId;
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND, SECOND};

/// Requests that may arrive again: Produce and all that a producer says to coordinators.
const MAY_COME_AGAIN: [i16; 5] = [0, 24, 25, 26, 28];
/// `InitProducerId`.
const INIT: i16 = 22;
/// How many requests may be kept for that.
const KEPT: usize = 8;

/// How a transactional producer is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conduct {
    /// Which transactional id it has. Those with the same one take each other's place.
    pub name: u32,
    /// The newest `transaction.version` that it speaks: 1 or 2.
    pub version: i16,
    /// How long a transaction may be open, in milliseconds.
    pub timeout_ms: u64,
    /// How many transactions out of a thousand it aborts on purpose.
    pub aborts: u32,
    /// How many out of a thousand it leaves: it dies, or does nothing for longer than the timeout.
    pub restless: u32,
    /// How many requests out of a thousand arrive later, as a second time or on a connection that was left.
    pub late: u32,
    /// How many records out of a thousand go to a topic that may be deleted under the transaction.
    #[serde(default)]
    pub passing: u32,
}

/// How a transaction is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Commit,
    Abort,
    /// It is left open until its timeout must have passed, and committed then.
    Dawdle,
    /// The process dies.
    Die,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// There is no process until then.
    Away {
        until: u64,
    },
    /// It takes the place of whoever had the name before.
    Starting,
    /// No transaction is open until then.
    Ready {
        until: u64,
    },
    Open {
        transaction: OperationId,
        left: u64,
        next: u64,
        fate: Fate,
    },
    Ending {
        transaction: OperationId,
        committed: bool,
    },
}

/// The producer.
#[derive(Debug)]
pub struct Transactional {
    client: usize,
    load: Load,
    shared: SharedRef,
    conduct: Conduct,
    machine: Option<Producer>,
    links: Links,
    phase: Phase,
    tickets: BTreeMap<Ticket, OperationId>,
    next_operation: u64,
    next_transaction: u64,
    finishing: bool,
    done: bool,
    /// Requests that were sent, with their nodes, and when they come again.
    kept: VecDeque<(u64, usize, Vec<Bytes>)>,
    /// The nodes of the machine's connections.
    nodes: BTreeMap<mainspring_core::client::Link, usize>,
    /// Connections on which something comes again.
    ghosts: BTreeMap<StreamId, Vec<Bytes>>,
    held: Held,
}

impl Transactional {
    /// Makes a producer, which counts itself as not finished.
    pub fn new(client: usize, load: Load, shared: SharedRef, conduct: Conduct) -> Self {
        shared.borrow_mut().producers += 1;
        Self {
            client,
            load,
            shared,
            conduct,
            machine: None,
            links: Links::default(),
            phase: Phase::Away { until: 0 },
            tickets: BTreeMap::new(),
            next_operation: 0,
            next_transaction: 0,
            finishing: false,
            done: false,
            kept: VecDeque::new(),
            nodes: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            held: Held::default(),
        }
    }

    fn start(&mut self, hands: &Hands<'_>) {
        let name = format!("writer-{}", self.conduct.name);
        let version = self.conduct.version;
        let timeout = self.conduct.timeout_ms;
        let mut machine = machine(&self.load, &name, version, timeout);
        machine.init_transactions(now(hands)).expect("a new producer can begin");
        self.machine = Some(machine);
        self.phase = Phase::Starting;
    }

    /// The process is gone, and comes back after a while.
    fn leave(&mut self, hands: &mut Hands<'_>) {
        self.machine = None;
        self.links.close_all(hands);
        self.nodes.clear();
        self.tickets.clear();
        // Half of them come back before the transaction would be aborted anyway.
        let mean = [SECOND / 2, 2 * self.conduct.timeout_ms * MILLISECOND][hands.rng.index(2)];
        self.phase = Phase::Away { until: hands.now + hands.rng.exponential(mean) };
    }

    fn is_last(&self) -> bool {
        self.finishing || self.next_transaction >= self.load.operations
    }

    fn finish(&mut self, hands: &mut Hands<'_>) {
        if !self.done {
            self.done = true;
            self.machine = None;
            self.links.close_all(hands);
            self.shared.borrow_mut().producers -= 1;
        }
    }

    fn begin(&mut self, hands: &mut Hands<'_>) {
        let Some(machine) = &mut self.machine else { return };
        machine.begin_transaction().expect("none is open");
        let transaction = OperationId { client: self.client, number: self.next_transaction };
        self.next_transaction += 1;
        let timeout = self.conduct.timeout_ms * MILLISECOND;
        hands.tell(Fact::TransactionBegun { transaction, name: self.conduct.name, timeout });
        let left = hands.rng.below(2 * self.load.records.max(1)) + u64::from(hands.rng.chance(950));
        let fate = if hands.rng.chance(self.conduct.restless) {
            [Fate::Dawdle, Fate::Die][hands.rng.index(2)]
        } else if hands.rng.chance(self.conduct.aborts) {
            Fate::Abort
        } else {
            Fate::Commit
        };
        self.phase = Phase::Open { transaction, left, next: hands.now, fate };
    }

    fn send(&mut self, hands: &mut Hands<'_>, transaction: OperationId) {
        if self.conduct.passing > 0
            && self.shared.borrow().is_passing_there
            && hands.rng.chance(self.conduct.passing)
        {
            return self.send_in_passing(hands);
        }
        let Some(machine) = &mut self.machine else { return };
        let topic = self.load.topics[hands.rng.index(self.load.topics.len())].clone();
        let index = hands.rng.below(self.load.partitions as u64) as i32;
        // The id of a topic is learnt from those who speak the wire by hand.
        let Some(partition) = place(&self.shared, &topic, index) else { return };
        let operation = OperationId { client: self.client, number: self.next_operation };
        self.next_operation += 1;
        let now = now(hands);
        let key = Bytes::from(format!("t{}-{}", self.client, operation.number));
        let length = hands.rng.exponential(self.load.bytes) as usize;
        let value = Bytes::from(vec![hands.rng.below(256) as u8; length]);
        let hash = record_hash(now.wall.0, Some(&key), Some(&value));
        hands.tell(Fact::Invoked { operation, partition, records: vec![hash] });
        hands.tell(Fact::SentIn { transaction, operation });
        let record = NewRecord {
            topic: KafkaString::from(topic.as_str()),
            partition: Some(PartitionIndex(index)),
            timestamp: Some(now.wall.0),
            key: Some(key),
            value: Some(value),
            headers: Vec::new(),
        };
        if let Ok(ticket) = machine.send(now, record) {
            self.tickets.insert(ticket, operation);
        }
    }

    /// Sends a record of which no fact tells, because nobody can say how long it stands.
    fn send_in_passing(&mut self, hands: &Hands<'_>) {
        let now = now(hands);
        let record = NewRecord {
            topic: KafkaString::from_static(passing::TOPIC),
            partition: Some(PartitionIndex(0)),
            timestamp: Some(now.wall.0),
            value: Some(Bytes::from_static(b"in passing")),
            ..NewRecord::default()
        };
        if let Some(machine) = &mut self.machine {
            let _no_ticket_is_kept = machine.send(now, record);
        }
    }

    fn end(&mut self, hands: &mut Hands<'_>, transaction: OperationId, committed: bool) {
        let Some(machine) = &mut self.machine else { return };
        hands.tell(Fact::EndAsked { transaction, committed });
        let asked = if committed {
            machine.commit_transaction(now(hands))
        } else {
            machine.abort_transaction(now(hands))
        };
        self.phase = Phase::Ending { transaction, committed };
        if let Err(error) = asked {
            self.failed(hands, &error);
        }
    }

    /// Takes in that the machine cannot do what it should.
    fn failed(&mut self, hands: &mut Hands<'_>, error: &TransactionError) {
        let transaction = match self.phase {
            Phase::Open { transaction, .. } | Phase::Ending { transaction, .. } => {
                Some(transaction)
            }
            Phase::Away { .. } | Phase::Starting | Phase::Ready { .. } => None,
        };
        match (error, transaction) {
            (TransactionError::Abortable(_), Some(transaction)) => {
                self.end(hands, transaction, false);
            }
            // Whoever could not begin begins anew.
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
            Phase::Away { until } if self.is_last() || hands.now >= until => {
                if self.is_last() {
                    self.finish(hands);
                    return false;
                }
                self.start(hands);
                true
            }
            Phase::Ready { until } if self.is_last() || hands.now >= until => {
                if self.is_last() {
                    self.finish(hands);
                    return false;
                }
                self.begin(hands);
                true
            }
            Phase::Open { transaction, left, next, fate } => {
                let error = self.machine.as_ref().and_then(Producer::transaction_error);
                if let Some(error) = error {
                    self.failed(hands, &error);
                    return true;
                }
                if hands.now < next && !self.finishing {
                    return false;
                }
                if left > 0 && !self.finishing {
                    self.send(hands, transaction);
                    // What comes late is to find transactions that are under way.
                    let is_slow = self.conduct.late > 0 && self.conduct.version < 2;
                    let part = if is_slow { 1 } else { 4 };
                    let pause = if hands.rng.chance(700) { 0 } else { self.load.pause / part };
                    let next = hands.now + hands.rng.exponential(pause);
                    self.phase = Phase::Open { transaction, left: left - 1, next, fate };
                    return true;
                }
                match fate {
                    Fate::Commit => self.end(hands, transaction, true),
                    Fate::Abort => self.end(hands, transaction, false),
                    Fate::Dawdle => {
                        // What has been asked for at last may still come in time.
                        let longest = 3 * self.conduct.timeout_ms * MILLISECOND;
                        let next = hands.now + hands.rng.below(longest);
                        let fate = Fate::Commit;
                        self.phase = Phase::Open { transaction, left: 0, next, fate };
                    }
                    Fate::Die => {
                        hands.tell(Fact::TransactionLeft { transaction });
                        self.leave(hands);
                    }
                }
                true
            }
            Phase::Away { .. } | Phase::Starting | Phase::Ready { .. } | Phase::Ending { .. } => {
                false
            }
        }
    }

    fn carry_out(&mut self, hands: &mut Hands<'_>) {
        let Some(machine) = &mut self.machine else { return };
        while let Some(effect) = machine.poll_effect() {
            let effect = match effect {
                Effect::Transmit { link, parts } if self.conduct.version < 2 => {
                    let comes = hands.rng.chance(self.conduct.late) && may_come_again(&parts);
                    let held = if comes {
                        self.held.hold(hands, &mut self.links, link, parts)
                    } else {
                        Err(parts)
                    };
                    match held {
                        Ok(lost) => {
                            self.nodes.remove(&link);
                            machine.handle(now(hands), lost);
                            continue;
                        }
                        Err(parts) => Effect::Transmit { link, parts },
                    }
                }
                effect => effect,
            };
            match &effect {
                Effect::Connect { link, host, .. } => {
                    self.nodes.insert(*link, hands.node_of(host));
                }
                Effect::Transmit { link, parts } => {
                    if matches!(self.phase, Phase::Starting) && asks_for_epoch(parts) {
                        let (client, name) = (self.client, self.conduct.name);
                        hands.tell(Fact::ProducerAsked { client, name });
                    }
                    let comes = self.conduct.version >= 2 && hands.rng.chance(self.conduct.late);
                    if let Some(node) =
                        self.nodes.get(link).filter(|_| comes && may_come_again(parts))
                    {
                        let later = hands.now + hands.rng.exponential(SECOND);
                        self.kept.push_back((later, *node, parts.clone()));
                        self.kept.truncate(KEPT);
                    }
                }
                Effect::Close { link } => {
                    self.nodes.remove(link);
                }
            }
            self.links.carry_out(hands, effect);
        }
    }

    fn listen(&mut self, hands: &mut Hands<'_>) -> bool {
        let Some(machine) = &mut self.machine else { return false };
        while let Some(delivery) = machine.poll_delivery() {
            let operation = self.tickets.remove(&delivery.ticket);
            if let (Some(operation), Ok(Some(offset))) = (operation, delivery.result) {
                hands.tell(Fact::Acked { operation, base_offset: offset.0 });
            }
        }
        let Some(event) = machine.poll_transaction() else { return false };
        match (event.result, event.call, self.phase) {
            (Ok(()), Call::Init, _) => {
                let (producer_id, epoch) = machine.identity().expect("it was given out");
                hands.tell(Fact::ProducerReady {
                    client: self.client,
                    producer_id: producer_id.0,
                    producer_epoch: epoch.0,
                });
                self.phase = Phase::Ready { until: hands.now };
            }
            (Ok(()), _, Phase::Ending { transaction, committed }) => {
                hands.tell(Fact::TransactionEnded { transaction, committed });
                let until = hands.now + hands.rng.exponential(self.load.pause);
                self.phase = Phase::Ready { until };
            }
            (Ok(()), ..) => {}
            (Err(error), ..) => self.failed(hands, &error),
        }
        true
    }

    /// Lets requests arrive again whose time has come.
    fn haunt(&mut self, hands: &mut Hands<'_>) {
        self.held.arrive(hands, self.finishing);
        if self.finishing {
            self.kept.clear();
        }
        while let Some(at) = self.kept.iter().position(|(at, ..)| *at <= hands.now) {
            let Some((_, node, parts)) = self.kept.remove(at) else { return };
            self.ghosts.insert(hands.connect(node), parts);
        }
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        self.haunt(hands);
        loop {
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
        let own = match self.phase {
            Phase::Away { until } | Phase::Ready { until } | Phase::Open { next: until, .. } => {
                until
            }
            Phase::Starting | Phase::Ending { .. } => u64::MAX,
        };
        let machine = self.machine.as_ref().and_then(Producer::next_deadline);
        let machine = machine.map_or(u64::MAX, mainspring_core::time::Instant::as_nanos);
        let again = self.kept.iter().map(|(at, ..)| *at).min().unwrap_or(u64::MAX);
        let again = again.min(self.held.next().unwrap_or(u64::MAX));
        let due = own.min(machine).min(again).min(hands.now + SECOND);
        hands.wake_at(due.max(hands.now + 1));
    }

    /// Takes in what comes on a connection of its own for what arrives again.
    fn on_ghost(&mut self, hands: &mut Hands<'_>, event: &ActorEvent) -> bool {
        match event {
            ActorEvent::Connected(stream) => match self.ghosts.get_mut(stream) {
                Some(parts) => hands.send(*stream, std::mem::take(parts)),
                None => return false,
            },
            // Nobody waits for the answer.
            ActorEvent::Received(stream, _) if self.ghosts.contains_key(stream) => {
                self.ghosts.remove(stream);
                hands.close(*stream);
            }
            ActorEvent::Disconnected(stream) => return self.ghosts.remove(stream).is_some(),
            ActorEvent::Received(..) | ActorEvent::Wake | ActorEvent::Finish => return false,
        }
        true
    }
}

/// Makes the machine of a producer with a transactional id.
pub(super) fn machine(load: &Load, name: &str, version: i16, timeout_ms: u64) -> Producer {
    let network = NetworkConfig {
        request_timeout: Duration::from_secs(8),
        connect_timeout: Duration::from_secs(4),
        ..NetworkConfig::new(bootstrap(load.cluster))
    };
    Producer::new(ProducerConfig {
        batch_bytes: 2 << 10,
        delivery_timeout: Duration::from_secs(20),
        transactional_id: Some(KafkaString::from(name)),
        transaction_timeout: Duration::from_millis(timeout_ms),
        transaction_version: version,
        ..ProducerConfig::new(network)
    })
}

/// Returns whether a frame is of a kind that may arrive a second time, or late.
pub(super) fn may_come_again(parts: &[Bytes]) -> bool {
    api_key(parts).is_some_and(|key| MAY_COME_AGAIN.contains(&key))
}

/// Returns whether a frame asks for an epoch.
pub(super) fn asks_for_epoch(parts: &[Bytes]) -> bool {
    api_key(parts) == Some(INIT)
}

/// Returns which API a frame is of.
fn api_key(parts: &[Bytes]) -> Option<i16> {
    let mut bytes = parts.iter().flat_map(|part| part.iter()).skip(4);
    Some(i16::from_be_bytes([*bytes.next()?, *bytes.next()?]))
}

impl Actor for Transactional {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        if !self.held.hear(hands, &event) && !self.on_ghost(hands, &event) {
            let input = match event {
                ActorEvent::Wake => Some(Input::Wakeup),
                ActorEvent::Finish => {
                    self.finishing = true;
                    None
                }
                event => self.links.input(&event),
            };
            if let (Some(machine), Some(input)) = (&mut self.machine, input) {
                machine.handle(now(hands), input);
            }
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        (!self.done).then(|| {
            let waiting = self.machine.as_ref().map_or(0, Producer::pending);
            format!(
                "transactional producer {} is in {:?} and waits for {waiting} records",
                self.client, self.phase
            )
        })
    }
}
