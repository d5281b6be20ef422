//! The consumer machine of core as a member of a group, on the simulated network.
//!
//! It works on whatever it is told at once, and commits by itself or by hand. At times it is closed, or dies
//! without a word, and another one takes its place. At the end it reads on until nothing has come for a
//! while, and is closed.

use std::collections::BTreeSet;
use std::time::Duration;

use mainspring_core::client::Input;
use mainspring_core::client::consumer::{Consumer, ConsumerConfig, ConsumerEvent};
use mainspring_core::client::fetcher::Start;
use mainspring_core::client::group::assignor::Assignor;
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::time::Instant;
use mainspring_core::wire::KafkaString;

use serde::{Deserialize, Serialize};

use super::links::{Links, now};
use super::{Load, SharedRef, bootstrap};
use crate::history::{Fact, RecordKind, SeenRecord, record_hash};
use crate::world::{Actor, ActorEvent, Hands, MILLISECOND, SECOND};

/// How long nothing must have come at the end. Sessions of the dead are over by then.
const QUIET: u64 = 25 * SECOND;

/// How a consumer of a group is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Habits {
    /// Its group.
    pub group: u32,
    /// Whether the group shares by the rule that lets each keep what it has, rather than by ranges.
    pub cooperative: bool,
    /// Whether it commits by itself, rather than behind each few pieces of work.
    pub auto_commit: bool,
    /// Bytes that are fetched ahead.
    pub prefetch: u32,
    /// How often out of a thousand pieces of work it is closed or dies.
    pub restless: u32,
}

/// The consumer.
#[derive(Debug)]
pub struct MachineConsumer {
    client: usize,
    load: Load,
    shared: SharedRef,
    habits: Habits,
    machine: Consumer,
    links: Links,
    next_poll: u64,
    /// When it last got a record, or noticed that something still goes on.
    last_news: u64,
    finishing: bool,
    done: bool,
}

impl MachineConsumer {
    /// Makes a consumer.
    pub fn new(client: usize, load: Load, shared: SharedRef, habits: Habits) -> Self {
        Self {
            machine: Self::machine(&habits, &load),
            client,
            load,
            shared,
            habits,
            links: Links::default(),
            next_poll: 0,
            last_news: 0,
            finishing: false,
            done: false,
        }
    }

    fn machine(habits: &Habits, load: &Load) -> Consumer {
        let network = NetworkConfig {
            request_timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(4),
            ..NetworkConfig::new(bootstrap(load.cluster))
        };
        let group_id = KafkaString::from(format!("machines-{}", habits.group).as_str());
        let mut config = ConsumerConfig::new(network, Some(group_id));
        config.auto_commit = habits.auto_commit.then_some(Duration::from_millis(700));
        config.close_timeout = Duration::from_secs(5);
        config.fetcher.reset = Some(Start::Earliest);
        config.fetcher.prefetch_bytes = habits.prefetch as usize;
        config.fetcher.rack = load.rack.as_deref().map(KafkaString::from);
        if let Some(group) = &mut config.group {
            group.session_timeout = Duration::from_secs(6);
            group.heartbeat_interval = Duration::from_millis(1_500);
            group.rebalance_timeout = Duration::from_secs(8);
            group.assignors = vec![if habits.cooperative {
                Assignor::CooperativeSticky
            } else {
                Assignor::Range
            }];
        }
        Consumer::new(config)
    }

    /// Puts a new one in the place of one that is closed or dead.
    fn begin_anew(&mut self, hands: &mut Hands<'_>) {
        self.links.close_all(hands);
        self.machine = Self::machine(&self.habits, &self.load);
        self.subscribe(hands);
    }

    fn subscribe(&mut self, hands: &Hands<'_>) {
        let topics: BTreeSet<KafkaString> =
            self.load.topics.iter().map(|name| KafkaString::from(name.as_str())).collect();
        self.machine.subscribe(now(hands), topics);
    }

    fn poll(&mut self, hands: &mut Hands<'_>) {
        let now = now(hands);
        while let Some(event) = self.machine.poll_event(now) {
            match event {
                ConsumerEvent::Records { place, records, next_offset, high_watermark } => {
                    let index = place.1.0;
                    let known = super::place(&self.shared, place.0.as_str(), index);
                    let Some(partition) = known.filter(|_| !records.is_empty()) else { continue };
                    self.last_news = hands.now;
                    let records: Vec<SeenRecord> = records
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
                    let from = records[0].offset;
                    let group = self.habits.group;
                    hands.tell(Fact::Read {
                        client: self.client,
                        partition,
                        from,
                        records,
                        crc_valid: true,
                        high_watermark: high_watermark.0,
                        log_start: 0,
                    });
                    hands.tell(Fact::Processed { group, partition, from, to: next_offset.0 });
                    if !self.habits.auto_commit && hands.rng.chance(300) {
                        // It answers as an event; that it may fail is a client's life.
                        let _id = self.machine.commit(now, None);
                    }
                    if !self.finishing && hands.rng.chance(self.habits.restless) {
                        if hands.rng.chance(500) {
                            self.machine.close(now);
                        } else {
                            return self.begin_anew(hands);
                        }
                    }
                    // Whoever works takes its time.
                    if hands.rng.chance(100) {
                        self.next_poll = hands.now + hands.rng.exponential(self.load.pause);
                        return;
                    }
                }
                ConsumerEvent::Closed if self.finishing => {
                    self.done = true;
                    return;
                }
                ConsumerEvent::Closed | ConsumerEvent::Failed(_) => return self.begin_anew(hands),
                ConsumerEvent::Assigned { .. }
                | ConsumerEvent::Revoked(_)
                | ConsumerEvent::Lost(_)
                | ConsumerEvent::Committed { .. }
                | ConsumerEvent::Fetched { .. }
                | ConsumerEvent::PartitionFailed { .. }
                | ConsumerEvent::TopicFailed { .. } => {}
            }
        }
    }

    fn finish(&mut self, hands: &mut Hands<'_>) {
        if self.shared.borrow().producers > 0 {
            self.last_news = hands.now;
        }
        if hands.now >= self.last_news + QUIET {
            let group = self.habits.group;
            hands.tell(Fact::GroupRead { group });
            self.machine.close(now(hands));
            // Closed once; its end is told as an event.
            self.last_news = u64::MAX / 2;
        }
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        if self.finishing && !self.done {
            self.finish(hands);
        }
        if hands.now >= self.next_poll && !self.done {
            self.poll(hands);
        }
        while let Some(effect) = self.machine.poll_effect() {
            self.links.carry_out(hands, effect);
        }
        let due = self.machine.next_deadline().map_or(u64::MAX, Instant::as_nanos);
        let due = due.min(hands.now + 500 * MILLISECOND).max(hands.now + 1);
        let poll = if self.next_poll > hands.now { self.next_poll } else { u64::MAX };
        hands.wake_at(due.min(poll));
    }
}

impl Actor for MachineConsumer {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        let now = now(hands);
        if self.machine.assignment().is_empty() && self.last_news == 0 {
            self.last_news = 1;
            self.subscribe(hands);
        }
        let input = match event {
            ActorEvent::Wake => Some(Input::Wakeup),
            ActorEvent::Finish => {
                self.finishing = true;
                self.last_news = hands.now;
                None
            }
            event => {
                // A node that died without a word is found connection by connection, each by a time-out.
                if self.finishing && matches!(event, ActorEvent::Disconnected(_)) {
                    self.last_news = self.last_news.max(hands.now);
                }
                self.links.input(&event)
            }
        };
        if let Some(input) = input {
            self.machine.handle(now, input);
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        (!self.done).then(|| {
            let held = self.machine.assignment().len();
            format!(
                "consumer {} of group {} holds {held} partitions and was not closed",
                self.client, self.habits.group
            )
        })
    }
}
