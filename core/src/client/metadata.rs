//! What a client knows about the cluster: brokers, and the partitions of the topics it asked about.
//!
//! A leader with an older epoch than the one known is never taken (KIP-320): an answer may come
//! from a broker that is behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::ClientError;
use crate::ids::{LeaderEpoch, NodeId, PartitionIndex, TopicId};
use crate::time::Instant;
use crate::wire::KafkaString;
use crate::wire::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

/// The leader of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leader {
    /// The broker.
    pub node: NodeId,
    /// Its epoch, [`LeaderEpoch::UNKNOWN`] from old brokers.
    pub epoch: LeaderEpoch,
}

/// A topic that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Its id, zero from old brokers.
    pub topic_id: TopicId,
    /// The leaders of its partitions; `None` where there is none at present.
    pub leaders: BTreeMap<PartitionIndex, Option<Leader>>,
    /// Whether the broker keeps it for itself, as `__consumer_offsets`.
    pub is_internal: bool,
}

/// A topic that was known is forgotten once so many answers in a row do not know it. A broker that
/// is behind may be among those that answered.
const FORGET_AFTER: u32 = 4;

/// A partition that its topic lacks is taken not to be there after so many answers: one that was added a moment ago is
/// not known to every broker at once.
pub(super) const ABSENT_AFTER: u64 = FORGET_AFTER as u64;

/// A topic that is wanted and was never known is told of as missing after so many answers in a row that
/// do not know it: one that is in the making is there by then.
const TELL_AFTER: u32 = 5;

/// Where a broker is.
pub type Address = (Arc<str>, u16);

/// The cluster as it was told last.
#[derive(Clone, Debug)]
pub struct Metadata {
    wanted: BTreeSet<KafkaString>,
    /// Whether all topics there are matter, the wanted ones among them.
    every: bool,
    /// Answers that were taken in.
    answers: u64,
    brokers: BTreeMap<NodeId, Address>,
    controller: Option<NodeId>,
    cluster_id: Option<KafkaString>,
    topics: BTreeMap<KafkaString, Topic>,
    errors: BTreeMap<KafkaString, ClientError>,
    allow_auto_topic_creation: bool,
    max_age: Duration,
    retry_backoff: Duration,
    retry_backoff_max: Duration,
    /// Counts the changes of what is known of topics.
    version: u64,
    stale: bool,
    /// Answers in a row that left something to be asked again.
    unsettled: u32,
    /// Answers in a row to the doubts of somebody that told nothing new.
    vain: u32,
    /// Answers in a row that did not know a topic, of those that are known.
    missing: BTreeMap<KafkaString, u32>,
    /// Answers in a row that did not know a topic, of those that are wanted and not known.
    unknown: BTreeMap<KafkaString, u32>,
    /// Topics that are missing, and were not told yet.
    untold: BTreeSet<KafkaString>,
    /// Whether the topics that are wanted have changed since the last question, or answer.
    asked_for_all: bool,
    told_of_all: bool,
    next_update: Instant,
}

impl Metadata {
    /// Knows nothing yet.
    pub const fn new(
        allow_auto_topic_creation: bool,
        max_age: Duration,
        retry_backoff: Duration,
        retry_backoff_max: Duration,
    ) -> Self {
        Self {
            wanted: BTreeSet::new(),
            every: false,
            answers: 0,
            brokers: BTreeMap::new(),
            controller: None,
            cluster_id: None,
            topics: BTreeMap::new(),
            errors: BTreeMap::new(),
            allow_auto_topic_creation,
            max_age,
            retry_backoff,
            retry_backoff_max,
            version: 0,
            stale: true,
            unsettled: 0,
            vain: 0,
            missing: BTreeMap::new(),
            unknown: BTreeMap::new(),
            untold: BTreeSet::new(),
            asked_for_all: false,
            told_of_all: false,
            next_update: Instant::ZERO,
        }
    }

    /// Begins to follow a topic.
    pub fn want(&mut self, topic: &KafkaString) {
        if !self.wanted.contains(&**topic) {
            self.wanted.insert(topic.detached());
            let is_told = self.every && self.told_of_all && self.topics.contains_key(topic);
            if !is_told {
                self.ask_at_once();
            }
        }
    }

    /// Follows these topics and no others, unless every topic is followed.
    pub fn want_only(&mut self, topics: &BTreeSet<KafkaString>) {
        self.version += 1;
        self.wanted.retain(|topic| topics.contains(topic));
        self.unknown.retain(|topic, _| topics.contains(topic));
        self.untold.retain(|topic| topics.contains(topic));
        if !self.every {
            self.topics.retain(|topic, _| topics.contains(topic));
            self.errors.retain(|topic, _| topics.contains(topic));
            self.missing.retain(|topic, _| topics.contains(topic));
        }
        for topic in topics {
            self.want(topic);
        }
    }

    /// Begins to follow all topics there are, or goes back to those that are wanted.
    pub fn want_every(&mut self, every: bool) {
        if every == self.every {
            return;
        }
        self.every = every;
        if every {
            self.ask_at_once();
        } else {
            self.want_only(&self.wanted.clone());
        }
    }

    fn ask_at_once(&mut self) {
        self.stale = true;
        self.unsettled = 0;
        self.asked_for_all = false;
        self.told_of_all = false;
        self.next_update = Instant::ZERO;
    }

    /// Returns whether an answer about all wanted topics has come since the last was added to them.
    pub const fn is_told_of_all(&self) -> bool {
        self.told_of_all
    }

    /// The pause before the next question, which grows while the answers stay the same.
    fn backoff(&self) -> Duration {
        super::backoff(self.retry_backoff, self.retry_backoff_max, self.unsettled)
    }

    /// Returns whether answers have been of no help more than once: whoever answers may not know better.
    pub const fn is_in_doubt(&self) -> bool {
        self.unsettled > 1 || self.vain > 1
    }

    /// Says that something known seems wrong: it will be asked for again, after a pause.
    pub fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// Returns when the cluster is to be asked again.
    pub const fn next_update(&self) -> Instant {
        self.next_update
    }

    /// Returns whether it is to be asked now.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next_update
    }

    /// Returns the question. No other is due before the pause has passed or the answer is in.
    pub fn request(&mut self, now: Instant) -> MetadataRequest {
        self.next_update = now + self.backoff();
        self.asked_for_all = true;
        let topics = self
            .wanted
            .iter()
            .map(|name| MetadataRequestTopic {
                name: Some(name.clone()),
                ..MetadataRequestTopic::default()
            })
            .collect();
        MetadataRequest {
            topics: (!self.every).then_some(topics),
            allow_auto_topic_creation: self.allow_auto_topic_creation,
            ..MetadataRequest::default()
        }
    }

    /// Takes an answer in.
    pub fn apply(&mut self, now: Instant, response: MetadataResponse) {
        self.version += 1;
        let (was_doubted, mut is_news) = (self.stale, false);
        self.stale = ClientError::from_code(response.error_code).is_some();
        self.answers += 1;
        let is_listing = self.every && self.asked_for_all && !self.stale;
        let mut listed = BTreeSet::new();
        if !response.brokers.is_empty() {
            self.brokers = response
                .brokers
                .into_iter()
                .filter_map(|broker| {
                    let port = u16::try_from(broker.port).ok()?;
                    Some((NodeId(broker.node_id), (Arc::from(broker.host.as_str()), port)))
                })
                .collect();
        }
        self.controller = (response.controller_id >= 0).then_some(NodeId(response.controller_id));
        self.cluster_id = response.cluster_id.map(|id| id.detached());
        for topic in response.topics {
            let Some(name) = topic.name.map(|name| name.detached()) else {
                continue;
            };
            let is_wanted = self.wanted.contains(&name);
            if !is_wanted && !self.every {
                continue;
            }
            if is_listing {
                listed.insert(name.clone());
            }
            if let Some(error) = ClientError::from_code(topic.error_code) {
                // Of topics that nobody wants the next listing tells early enough.
                self.stale |= is_wanted && error.is_retriable();
                if error.is_retriable() {
                    // The topic may be in the making; what was known of it stays until then.
                    self.errors.remove(&name);
                    if self.topics.contains_key(&name) {
                        if error.is_unknown_topic() {
                            self.miss(&name);
                        }
                    } else if is_wanted {
                        self.count_unknown(name, &error);
                    }
                } else {
                    self.topics.remove(&name);
                    self.errors.insert(name, error);
                }
                continue;
            }
            self.errors.remove(&name);
            self.missing.remove(&name);
            self.unknown.remove(&name);
            self.untold.remove(&name);
            let known = self.topics.get(&name).filter(|known| known.topic_id == topic.topic_id);
            let mut leaders = BTreeMap::new();
            for partition in topic.partitions {
                let index = PartitionIndex(partition.partition_index);
                let told = (partition.leader_id >= 0).then_some(Leader {
                    node: NodeId(partition.leader_id),
                    epoch: LeaderEpoch(partition.leader_epoch),
                });
                let before = known.and_then(|known| known.leaders.get(&index).copied().flatten());
                let is_behind = before.is_some_and(|before| {
                    partition.leader_epoch >= 0 && before.epoch.0 > partition.leader_epoch
                });
                self.stale |= is_wanted && (is_behind || told.is_none());
                leaders.insert(index, if is_behind { before } else { told });
            }
            let is_internal = topic.is_internal;
            let topic = Topic { topic_id: topic.topic_id, leaders, is_internal };
            is_news |= self.topics.get(&name) != Some(&topic);
            self.topics.insert(name, topic);
        }
        if is_listing {
            let absent = self.topics.keys().filter(|name| !listed.contains(*name));
            for name in absent.cloned().collect::<Vec<_>>() {
                self.stale = true;
                self.miss(&name);
            }
            self.errors.retain(|name, _| listed.contains(name));
        }
        self.told_of_all |= self.asked_for_all;
        self.next_update = now + if self.stale { self.backoff() } else { self.max_age };
        self.unsettled = if self.stale { self.unsettled.saturating_add(1) } else { 0 };
        self.vain = if was_doubted && !is_news { self.vain.saturating_add(1) } else { 0 };
        if !self.asked_for_all {
            // What was added while the question was on its way waits for no pause.
            self.ask_at_once();
        }
    }

    /// A topic that is known is not there, as an answer has it.
    fn miss(&mut self, name: &KafkaString) {
        let count = self.missing.entry(name.clone()).or_default();
        *count += 1;
        if *count >= FORGET_AFTER {
            self.missing.remove(name);
            self.topics.remove(name);
        }
    }

    /// An answer does not know a topic that is wanted, or cannot say yet.
    fn count_unknown(&mut self, name: KafkaString, error: &ClientError) {
        if !error.is_unknown_topic() {
            // It is in the making.
            self.unknown.remove(&name);
            self.untold.remove(&name);
            return;
        }
        let count = self.unknown.entry(name.clone()).or_default();
        *count = count.saturating_add(1);
        if *count == TELL_AFTER {
            self.untold.insert(name);
        }
    }

    /// Returns how many partitions a known topic has that lacks this one; `None` where it has it.
    pub(super) fn lacks(&self, topic: &str, partition: PartitionIndex) -> Option<usize> {
        let leaders = &self.topics.get(topic)?.leaders;
        (!leaders.is_empty() && !leaders.contains_key(&partition)).then_some(leaders.len())
    }

    /// Returns whether brokers have said that a topic which is wanted is not there, and nothing else since.
    pub fn is_missing(&self, name: &str) -> bool {
        self.unknown.contains_key(name)
    }

    /// Takes the topics that brokers have not known again and again, each once for as long as it is so.
    pub fn take_missing(&mut self) -> BTreeSet<KafkaString> {
        std::mem::take(&mut self.untold)
    }

    /// Asks again as soon as the pause since the last question has passed.
    pub(super) fn hasten(&mut self, now: Instant) {
        if self.stale {
            self.next_update = self.next_update.min(now + self.backoff());
        }
    }

    /// Returns the topics that are known.
    pub const fn topics(&self) -> &BTreeMap<KafkaString, Topic> {
        &self.topics
    }

    /// Returns how many answers were taken in.
    pub const fn answers(&self) -> u64 {
        self.answers
    }

    /// Returns a number that is another one whenever what is known of topics may have changed.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns what is known of a topic.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// Returns why a topic cannot be known, where trying again does not help.
    pub fn error(&self, name: &str) -> Option<&ClientError> {
        self.errors.get(name)
    }

    /// Returns the leader of a partition.
    pub fn leader(&self, name: &str, partition: PartitionIndex) -> Option<Leader> {
        self.topics.get(name)?.leaders.get(&partition).copied().flatten()
    }

    /// Returns the name of the topic with this id.
    pub fn name_of(&self, topic_id: TopicId) -> Option<&KafkaString> {
        self.topics.iter().find(|(_, topic)| topic.topic_id == topic_id).map(|(name, _)| name)
    }

    /// Returns the brokers.
    pub const fn brokers(&self) -> &BTreeMap<NodeId, Address> {
        &self.brokers
    }

    /// Returns the broker that takes administrative requests.
    pub const fn controller(&self) -> Option<NodeId> {
        self.controller
    }

    /// Returns the id of the cluster.
    pub const fn cluster_id(&self) -> Option<&KafkaString> {
        self.cluster_id.as_ref()
    }
}
