//! The cluster as the applied records describe it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::digest::Digest;
use crate::ids::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicName, TopicPartition, Uuid,
};
use crate::metadata::topic_config::Overrides;

/// The cluster at one offset of the metadata log.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MetadataImage {
    pub(in crate::metadata) brokers: BTreeMap<NodeId, BrokerImage>,
    pub(in crate::metadata) topics: BTreeMap<TopicId, Arc<TopicImage>>,
    pub(in crate::metadata) ids_by_name: BTreeMap<Arc<str>, TopicId>,
    /// Names with `.` turned into `_`: two topics whose names agree in this form collide.
    pub(in crate::metadata) collision_keys: BTreeSet<String>,
    /// Topics whose deletion is on record: their logs may go, those of unknown topics may not.
    pub(in crate::metadata) removed: BTreeSet<TopicId>,
    pub(in crate::metadata) features: BTreeMap<String, i16>,
    /// Settings that hold for every topic that has none of its own.
    pub(in crate::metadata) defaults: Overrides,
    /// The last unclean election of each partition that had one: the ledger of what may be lost.
    pub(in crate::metadata) unclean: BTreeMap<TopicPartition, UncleanElection>,
    pub(in crate::metadata) next_producer_id: i64,
    pub(in crate::metadata) partition_count: usize,
    pub(in crate::metadata) end_offset: Offset,
    pub(in crate::metadata) epoch: LeaderEpoch,
}

/// A broker as it registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerImage {
    /// The start of the process that registered.
    pub incarnation_id: Uuid,
    /// Offset of its registration.
    pub broker_epoch: i64,
    /// Where clients reach it, by listener.
    pub endpoints: Vec<Endpoint>,
    /// Whether it may lead nothing.
    pub fenced: bool,
    /// Whether it is about to stop, and leads nothing more.
    pub in_controlled_shutdown: bool,
    /// Its data directories. Another one than before holds nothing of what the node had.
    pub directories: Vec<Uuid>,
    /// Where it stands, for placement.
    pub rack: Option<String>,
    /// The levels of each feature that it could serve, lowest and highest.
    pub features: BTreeMap<String, (i16, i16)>,
}

impl BrokerImage {
    /// Returns whether the broker may lead partitions and join in-sync sets.
    pub const fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }
}

/// Where clients reach a broker by one listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The listener's name.
    pub name: String,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
}

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicImage {
    /// Its id, for its whole life.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionImage>,
    /// The settings that were made for it.
    pub configs: Overrides,
}

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionImage {
    /// The nodes that hold it, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Those of them that are in sync.
    pub isr: Vec<NodeId>,
    /// The leader, -1 for none.
    pub leader: NodeId,
    /// Counts its leaders; never falls.
    pub leader_epoch: LeaderEpoch,
    /// Counts every change of the partition.
    pub partition_epoch: i32,
    /// Those of the replicas that a reassignment adds (KIP-455).
    pub adding: Vec<NodeId>,
    /// Those of the replicas that go once all others are in sync.
    pub removing: Vec<NodeId>,
}

impl PartitionImage {
    /// Returns whether it is on the move.
    pub const fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// Returns the replicas that it will have, in their order.
    pub fn target(&self) -> impl Iterator<Item = NodeId> {
        self.replicas.iter().copied().filter(|node| !self.removing.contains(node))
    }

    /// Returns the replicas that it had before it was moved.
    pub fn original(&self) -> impl Iterator<Item = NodeId> {
        self.replicas.iter().copied().filter(|node| !self.adding.contains(node))
    }
}

/// A leader that was not known to hold everything, elected on an operator's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UncleanElection {
    /// The leader.
    pub leader: NodeId,
    /// Its epoch: what earlier ones wrote may be lost.
    pub leader_epoch: LeaderEpoch,
}

impl MetadataImage {
    /// Returns a topic by its id.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    /// Returns a topic by its name.
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.ids_by_name.get(name)?)
    }

    /// Returns all topics, ordered by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.ids_by_name.values().filter_map(|id| self.topics.get(id))
    }

    /// Returns the topics whose names follow `after`, ordered by name; all for `None`.
    pub fn topics_from(&self, from: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.ids_by_name
            .range::<str, _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded))
            .filter_map(|(_, id)| self.topics.get(id))
    }

    /// Returns whether the topic's deletion is on record.
    pub fn is_removed(&self, id: TopicId) -> bool {
        self.removed.contains(&id)
    }

    /// Returns every registered broker, by its number.
    pub fn brokers(&self) -> impl Iterator<Item = (NodeId, &BrokerImage)> {
        self.brokers.iter().map(|(&id, broker)| (id, broker))
    }

    /// Returns a broker.
    pub fn broker(&self, id: NodeId) -> Option<&BrokerImage> {
        self.brokers.get(&id)
    }

    /// Returns the features that are settled, with their levels.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, &level)| (name.as_str(), level))
    }

    /// Returns the level of a feature, 0 where none is settled.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// Returns whether a node may lead partitions and join in-sync sets.
    pub fn is_active(&self, id: NodeId) -> bool {
        self.broker(id).is_some_and(BrokerImage::is_active)
    }

    /// Returns the members of a partition's in-sync set that clients are told of: those that are not fenced.
    pub fn in_sync(&self, partition: &PartitionImage) -> Vec<NodeId> {
        partition.isr.iter().copied().filter(|&node| !self.is_offline(node)).collect()
    }

    /// Returns the members that hold everything and are fenced: what Kafka calls eligible leader replicas
    /// (KIP-966).
    pub fn eligible_leader_replicas(&self, partition: &PartitionImage) -> Vec<NodeId> {
        partition.isr.iter().copied().filter(|&node| self.is_offline(node)).collect()
    }

    /// Returns the replicas of a partition that are fenced or not registered.
    pub fn offline_replicas(&self, partition: &PartitionImage) -> Vec<NodeId> {
        partition.replicas.iter().copied().filter(|&node| self.is_offline(node)).collect()
    }

    fn is_offline(&self, node: NodeId) -> bool {
        self.broker(node).is_none_or(|broker| broker.fenced)
    }

    /// Returns the settings that are on record for a topic: its own, and those of the cluster for the rest.
    pub fn recorded_configs(&self, topic: &TopicImage) -> Overrides {
        let mut configs = self.defaults.clone();
        configs.extend(topic.configs.iter().map(|(name, value)| (name.clone(), value.clone())));
        configs
    }

    /// Returns the setting that holds for every topic that has none of its own, where one is on record.
    pub fn default_config(&self, name: &str) -> Option<&str> {
        self.defaults.get(name).map(String::as_str)
    }

    /// Returns a setting of a topic: its own, or what holds for every topic that has none.
    pub fn setting<'a>(&'a self, topic: &'a TopicImage, name: &str) -> Option<&'a str> {
        topic.configs.get(name).or_else(|| self.defaults.get(name)).map(String::as_str)
    }

    /// Returns MIN of a partition: `min.insync.replicas` of its topic, but no more than it has replicas
    /// before and after a move.
    pub fn min_isr(&self, topic: &TopicImage, partition: &PartitionImage) -> usize {
        const NAME: &str = "min.insync.replicas";
        let text = self.setting(topic, NAME);
        let wanted = text.and_then(|text| text.parse().ok()).unwrap_or(1);
        wanted.min(partition.target().count()).min(partition.original().count()).max(1)
    }

    /// Returns the last unclean election of a partition.
    pub fn unclean_election(&self, id: TopicPartition) -> Option<&UncleanElection> {
        self.unclean.get(&id)
    }

    /// Returns how many partitions there are.
    pub const fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// Returns the first producer id that was not handed out.
    pub const fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Returns the offset after the last record applied.
    pub const fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// Returns the epoch of the last leader of the metadata log, -1 for none.
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Takes the image into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest.signed(self.end_offset.0).signed(i64::from(self.epoch.0));
        digest.signed(self.next_producer_id).number(self.topics.len() as u64);
        for (id, topic) in &self.topics {
            digest.bytes(&id.0).text(topic.name.as_str());
            for partition in &topic.partitions {
                digest
                    .signed(i64::from(partition.leader.0))
                    .signed(i64::from(partition.leader_epoch.0))
                    .signed(i64::from(partition.partition_epoch));
                let lists =
                    [&partition.replicas, &partition.isr, &partition.adding, &partition.removing];
                for list in lists {
                    digest.number(list.len() as u64);
                    for node in list {
                        digest.signed(i64::from(node.0));
                    }
                }
            }
            for (name, value) in &topic.configs {
                digest.text(name).text(value);
            }
        }
        for (id, broker) in &self.brokers {
            digest
                .signed(i64::from(id.0))
                .signed(broker.broker_epoch)
                .number(u64::from(broker.fenced))
                .number(u64::from(broker.in_controlled_shutdown))
                .shown(&(broker.incarnation_id, &broker.endpoints, &broker.directories))
                .shown(&(&broker.rack, &broker.features));
        }
        digest.shown(&(&self.removed, &self.features, &self.defaults, &self.unclean));
    }
}

impl TopicImage {
    /// Returns a partition by its number.
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// Returns whether the topic belongs to the broker itself.
    pub fn is_internal(&self) -> bool {
        is_internal(self.name.as_str())
    }
}

/// Name of the topic of committed offsets and groups.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// Name of the topic of transactions.
pub const TRANSACTION_STATE: &str = "__transaction_state";

/// A topic that brokers make themselves, when somebody first looks for a coordinator whose state it keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum InternalTopic {
    /// Groups and committed offsets.
    ConsumerOffsets,
    /// Transactions.
    TransactionState,
}

impl InternalTopic {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::ConsumerOffsets, Self::TransactionState];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConsumerOffsets => CONSUMER_OFFSETS,
            Self::TransactionState => TRANSACTION_STATE,
        }
    }

    /// Finds the topic with a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// Returns whether a name belongs to the broker itself.
pub fn is_internal(name: &str) -> bool {
    matches!(
        name,
        CONSUMER_OFFSETS | TRANSACTION_STATE | "__share_group_state" | "__cluster_metadata"
    )
}

/// Returns the form in which two names must differ: Kafka's metrics cannot tell `.` from `_`.
pub fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

/// Returns nodes as they stand on the wire.
pub fn numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}
