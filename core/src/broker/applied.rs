//! Committed metadata, as a shard applies it: the image first, then what its partitions become by it.
//!
//! What has become committed together is applied together: a node that was cut off takes up no role that it
//! would lose with the next record.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::broker::post::Post;
use crate::broker::shard::Shard;
use crate::digest::Digest;
use crate::ids::{NodeId, Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use crate::metadata::apply::RESOURCE_TOPIC;
use crate::metadata::controller::Delta;
use crate::metadata::{MetadataImage, TopicImage};
use crate::observe::ClusterEvent;
use crate::time::Now;
use crate::wire::MetadataRecord;

/// What records have changed.
#[derive(Default)]
struct Touched {
    partitions: BTreeSet<TopicPartition>,
    /// Nodes whose registrations, or what they may do, have changed.
    nodes: BTreeSet<NodeId>,
    configured: BTreeSet<TopicId>,
    /// Whether a setting for all topics has changed.
    all_configured: bool,
    removed: Vec<Arc<TopicImage>>,
}

impl Shard {
    /// Applies committed metadata: logs come and go, settings, roles and epochs change.
    pub(in crate::broker) fn apply_deltas(&mut self, now: Now, deltas: &[Delta]) {
        let mut touched = Touched::default();
        for delta in deltas {
            self.apply_delta(delta, &mut touched);
        }
        self.settle_touched(now, touched);
        if let Some(last) = deltas.last() {
            self.applied(now, last.end_offset);
        }
    }

    /// Takes over a later image as a whole, from a snapshot: what differs has changed.
    pub(in crate::broker) fn replace_image(&mut self, now: Now, image: &MetadataImage) {
        let before = std::mem::replace(&mut self.image, image.clone());
        let mut touched = Touched { all_configured: true, ..Touched::default() };
        let gone = before.topics().filter(|topic| image.topic(topic.id).is_none());
        touched.removed.extend(gone.cloned());
        for topic in image.topics() {
            let known = before.topic(topic.id);
            for (state, index) in topic.partitions.iter().zip(0..) {
                let partition = PartitionIndex(index);
                if known.and_then(|known| known.partition(partition)) != Some(state) {
                    touched.partitions.insert(TopicPartition { topic_id: topic.id, partition });
                }
            }
        }
        let nodes = before.brokers().chain(image.brokers()).map(|(node, _)| node);
        touched.nodes.extend(nodes.filter(|&node| before.broker(node) != image.broker(node)));
        self.settle_touched(now, touched);
        self.applied(now, image.end_offset());
    }

    fn settle_touched(&mut self, now: Now, mut touched: Touched) {
        for topic in std::mem::take(&mut touched.removed) {
            self.give_up(now, &topic);
        }
        if touched.all_configured {
            touched.configured.extend(self.image.topics().map(|topic| topic.id));
        }
        for id in std::mem::take(&mut touched.configured) {
            self.reconfigure(now, id);
        }
        for &node in &touched.nodes {
            let held = self.partitions_of(node);
            touched.partitions.extend(held);
            if self.image.broker(node).is_none_or(|broker| broker.fenced) {
                let Self { peers, fx, .. } = self;
                peers.links.forsake(now.mono, node, fx);
            }
        }
        for id in touched.partitions {
            self.take_up(now, id);
        }
    }

    fn apply_delta(&mut self, delta: &Delta, touched: &mut Touched) {
        if let Some(epoch) = delta.epoch {
            self.image.apply_leader_change(Offset(delta.end_offset.0 - 1), epoch);
        }
        for (record, offset) in delta.records.iter().zip(delta.base_offset.0..) {
            if let MetadataRecord::RemoveTopicRecord(r) = record {
                touched.removed.extend(self.image.topic(r.topic_id).cloned());
            }
            let applied = self.image.apply(Offset(offset), record);
            assert!(applied.is_ok(), "the controller decided it: {applied:?}");
            self.touch(record, touched);
        }
        if !self.is_alone() && self.config.node.buggify.is_some() {
            let mut digest = Digest::default();
            self.image.digest(&mut digest);
            let (end, digest) = (delta.end_offset, digest.finish());
            self.fx.cluster(ClusterEvent::Applied { end, digest });
        }
    }

    fn touch(&self, record: &MetadataRecord, touched: &mut Touched) {
        let partition =
            |topic_id, index| TopicPartition { topic_id, partition: PartitionIndex(index) };
        match record {
            MetadataRecord::PartitionRecord(r) => {
                touched.partitions.insert(partition(r.topic_id, r.partition_id));
            }
            MetadataRecord::PartitionChangeRecord(r) => {
                touched.partitions.insert(partition(r.topic_id, r.partition_id));
            }
            MetadataRecord::ConfigRecord(r) if r.resource_type == RESOURCE_TOPIC => {
                let topic = self.image.topic_by_name(r.resource_name.as_str());
                touched.configured.extend(topic.map(|topic| topic.id));
            }
            MetadataRecord::ConfigRecord(_) => touched.all_configured = true,
            // What a node is decides about what it leads and what is in sync.
            MetadataRecord::RegisterBrokerRecord(r) => {
                touched.nodes.insert(NodeId(r.broker_id));
            }
            MetadataRecord::BrokerRegistrationChangeRecord(r) => {
                touched.nodes.insert(NodeId(r.broker_id));
            }
            MetadataRecord::FenceBrokerRecord(r) => {
                touched.nodes.insert(NodeId(r.id));
            }
            MetadataRecord::UnfenceBrokerRecord(r) => {
                touched.nodes.insert(NodeId(r.id));
            }
            MetadataRecord::UnregisterBrokerRecord(r) => {
                touched.nodes.insert(NodeId(r.broker_id));
            }
            // The image has them; no log changes with them.
            MetadataRecord::RemoveTopicRecord(_)
            | MetadataRecord::TopicRecord(_)
            | MetadataRecord::FeatureLevelRecord(_)
            | MetadataRecord::ProducerIdsRecord(_)
            | MetadataRecord::UncleanElectionRecord(_)
            | MetadataRecord::RemovedTopicsRecord(_)
            | MetadataRecord::SnapshotEndRecord(_)
            | MetadataRecord::NoOpRecord(_) => {}
        }
    }

    /// Returns the partitions that a node holds.
    fn partitions_of(&self, node: NodeId) -> Vec<TopicPartition> {
        let mut held = Vec::new();
        for topic in self.image.topics() {
            for (state, index) in topic.partitions.iter().zip(0..) {
                if state.replicas.contains(&node) {
                    let partition = PartitionIndex(index);
                    held.push(TopicPartition { topic_id: topic.id, partition });
                }
            }
        }
        held
    }

    /// Says that all committed metadata below `end` is applied here.
    pub(in crate::broker) fn applied(&mut self, now: Now, end: Offset) {
        if self.config.shard == ShardId(0) {
            self.on_applied(now, ShardId(0), end);
        } else {
            self.post(ShardId(0), Post::Applied(end));
        }
    }
}
