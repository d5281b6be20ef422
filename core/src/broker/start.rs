//! The start of a shard: recovery of its logs, then the metadata: the newest snapshot, and the log behind it.
//!
//! Shard 0 takes part in the metadata quorum, reads what is committed, and registers the broker; once
//! its registration is committed it hands the image to all shards. The others wait for the image. No client is
//! served before. A node alone reads its whole log first, and elects itself; one of several first sees to it
//! that it belongs to a cluster.

use std::sync::Arc;

use crate::broker::post::Post;
use crate::broker::shard::Shard;
use crate::cluster::Cluster;
use crate::config::NodeConfig;
use crate::ids::{Incarnation, LeaderEpoch, NodeId, Offset, PartitionIndex, ShardId, TopicName};
use crate::ids::{TopicPartition, Uuid};
use crate::io::Effect;
use crate::log::{FlushPolicy, LogSettings, Stable, Storage};
use crate::metadata::MetadataImage;
use crate::metadata::apply::RESOURCE_BROKER;
use crate::metadata::decide_brokers::incarnation_id;
use crate::metadata::features::FEATURES;
use crate::time::Now;
use crate::wire::MetadataRecord;
use crate::wire::metadata_record::{
    BrokerEndpoint, BrokerFeature, ConfigRecord, FeatureLevelRecord, RegisterBrokerRecord,
};

/// Where a shard stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) enum Phase {
    /// Before `Input::Start`.
    Idle,
    /// The logs are being recovered.
    Recovering,
    /// Shard 0 of a node alone reads the metadata log.
    Replaying,
    /// Shard 0 takes part in the quorum and registers the broker.
    Joining,
    /// Another shard waits for the image.
    AwaitingImage,
    /// Clients are served.
    Serving,
    /// No work is taken; what is owed is still answered.
    Draining,
    /// The logs are being closed.
    Closing,
    /// Nothing is left to do.
    Closed,
}

impl Phase {
    pub(in crate::broker) const fn is_stopping(self) -> bool {
        matches!(self, Self::Draining | Self::Closing | Self::Closed)
    }

    /// Whether the logs are there.
    pub(in crate::broker) const fn has_logs(self) -> bool {
        !matches!(self, Self::Idle | Self::Recovering)
    }
}

/// What recovery found out about the data directory.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Identity {
    pub(in crate::broker) incarnation: Incarnation,
    /// Zero while the node is to be one of several and belongs to no cluster.
    pub(in crate::broker) cluster_id: Uuid,
    /// The same with its voters, where there are several nodes.
    pub(in crate::broker) cluster: Option<Arc<Cluster>>,
    pub(in crate::broker) directory_id: Uuid,
    /// The last vote in the metadata quorum.
    pub(in crate::broker) vote: Option<(LeaderEpoch, NodeId)>,
}

impl Shard {
    pub(in crate::broker) fn start(&mut self, now: Now) {
        assert_eq!(self.phase, Phase::Idle, "a shard is started once");
        self.phase = Phase::Recovering;
        self.log.start(now, &mut self.fx);
    }

    pub(in crate::broker) fn on_recovered(&mut self, now: Now) {
        if self.phase != Phase::Recovering {
            return;
        }
        let is_alone = self.is_alone();
        if let Some(why) = self.wrong_membership() {
            self.fx.push(Effect::Fatal { message: why });
            self.phase = Phase::Closed;
            return;
        }
        if is_alone {
            let identity = self.peer_identity(Arc::from([]));
            self.meet_peers(now, identity, &[]);
        }
        if self.config.shard != ShardId(0) {
            self.phase = Phase::AwaitingImage;
            self.take_held_posts(now);
            return;
        }
        self.open_metadata_log(now);
        self.log.find_snapshots(&mut self.fx);
    }

    /// Begins to take part, once the newest snapshot of the metadata log is loaded.
    pub(in crate::broker) fn begin_with_metadata(&mut self, now: Now) {
        self.tell_opened(TopicPartition::CLUSTER_METADATA);
        if self.is_alone() {
            self.make_quorum();
            self.phase = Phase::Replaying;
            let id = TopicPartition::CLUSTER_METADATA;
            let end = self.log.stable_end(id).map_or(Offset::ZERO, Stable::value);
            self.read_metadata_up_to(now, end);
        } else {
            self.phase = Phase::Joining;
            self.begin_formation(now);
        }
        self.take_held_posts(now);
    }

    fn open_metadata_log(&mut self, now: Now) {
        let id = TopicPartition::CLUSTER_METADATA;
        let settings = LogSettings {
            storage: if self.config.node.memory_only { Storage::Memory } else { Storage::Disk },
            flush: FlushPolicy::Ack,
            // So that a segment goes with each snapshot or two.
            segment_bytes: self.limits().metadata_snapshot_bytes.clamp(4 << 10, 1 << 30),
            segment_ms: i64::MAX,
            retention_ms: -1,
            retention_bytes: -1,
            index_interval_bytes: 4096,
            memory_max_bytes: u64::MAX,
            delete: false,
            may_use_reserve: true,
        };
        if self.log.log_end_offset(id).is_none() {
            let name = TopicName::cluster_metadata();
            self.log.create(now, id, &name, settings, &mut self.fx);
        } else {
            self.log.configure(id, settings);
        }
    }

    /// Takes in that everything committed, as far as it is known, has been read.
    pub(in crate::broker) fn on_committed_read_up(&mut self, now: Now) {
        match self.phase {
            Phase::Replaying => {
                let done = self.quorum.as_ref().is_some_and(|quorum| quorum.reader.is_done());
                if done {
                    self.phase = Phase::Joining;
                    self.start_quorum(now);
                }
            }
            Phase::Joining if !self.has_role => {
                let id = incarnation_id(self.identity.directory_id, self.identity.incarnation);
                let me = self.image.broker(self.config.node.node_id);
                if me.is_some_and(|broker| broker.incarnation_id == id) {
                    let image = Arc::new(std::mem::take(&mut self.image));
                    let cluster_id = self.identity.cluster_id;
                    self.broadcast(&Post::Image { image: Arc::clone(&image), cluster_id });
                    self.adopt(now, &image);
                }
            }
            Phase::Idle
            | Phase::Recovering
            | Phase::Joining
            | Phase::AwaitingImage
            | Phase::Serving
            | Phase::Draining
            | Phase::Closing
            | Phase::Closed => {}
        }
    }

    /// Begins the controller's work: features are settled by the first of all, and a node alone registers
    /// itself with them.
    pub(in crate::broker) fn on_office_taken(&mut self, now: Now) {
        let registration = self.is_alone().then(|| self.registration());
        let Some(controller) = &mut self.controller else { return };
        let mut records: Vec<MetadataRecord> = Vec::new();
        let is_new = controller.image().features().next().is_none();
        for feature in FEATURES {
            // In a cluster that is there, other brokers may be of a build that does not know it yet.
            if is_new || (registration.is_some() && controller.image().feature(feature.name) == 0) {
                let level =
                    FeatureLevelRecord { name: feature.name.into(), feature_level: feature.max };
                records.push(level.into());
            }
        }
        if is_new {
            records.extend(cluster_defaults(&self.config.node));
        }
        if let Some(registration) = registration {
            let broker_epoch = controller.image().end_offset().0 + records.len() as i64;
            records.push(RegisterBrokerRecord { broker_epoch, ..registration }.into());
        }
        if let Err(error) = controller.append(now, &records, &mut self.log, &mut self.fx) {
            self.fail_registration(&error.to_string());
        }
    }

    /// Returns what this start of the node is registered as.
    pub(in crate::broker) fn registration(&self) -> RegisterBrokerRecord {
        let node = &self.config.node;
        let end_points = node
            .listeners
            .iter()
            .filter(|listener| !listener.peers)
            .map(|listener| BrokerEndpoint {
                name: listener.name.as_str().into(),
                host: listener.advertised_host.as_str().into(),
                port: listener.advertised_port,
                security_protocol: 0,
            })
            .collect();
        RegisterBrokerRecord {
            broker_id: node.node_id.0,
            incarnation_id: incarnation_id(self.identity.directory_id, self.identity.incarnation),
            end_points,
            features: FEATURES
                .into_iter()
                .map(|feature| BrokerFeature {
                    name: feature.name.into(),
                    min_supported_version: feature.min,
                    max_supported_version: feature.max,
                })
                .collect(),
            rack: Some(node.settings.text("broker.rack"))
                .filter(|rack| !rack.is_empty())
                .map(Into::into),
            fenced: false,
            log_dirs: vec![self.identity.directory_id],
            ..RegisterBrokerRecord::default()
        }
    }

    /// Takes over the whole image at the start: every partition of this shard takes up its role.
    pub(in crate::broker) fn adopt(&mut self, now: Now, image: &MetadataImage) {
        self.image = image.clone();
        self.has_role = true;
        // Before anything is made: a topic that was made again has its folder from the one before it, and a
        // start must never find both.
        self.set_aside_unknown_logs(now);
        for topic in image.topics() {
            for index in 0..topic.partitions.len() {
                let partition = PartitionIndex(index as i32);
                self.take_up(now, TopicPartition { topic_id: topic.id, partition });
            }
        }
        self.applied(now, image.end_offset());
        self.phase = Phase::Serving;
        self.fx.push(Effect::Ready);
        self.unblock();
    }

    /// A log goes only where its topic's deletion is on record; what nobody knows is left alone.
    fn set_aside_unknown_logs(&mut self, now: Now) {
        let unknown: Vec<(TopicPartition, String)> = self
            .log
            .logs()
            .filter(|(id, _)| {
                *id != TopicPartition::CLUSTER_METADATA && self.image.topic(id.topic_id).is_none()
            })
            .map(|(id, name)| (id, name.to_string()))
            .collect();
        for (id, name) in unknown {
            if self.image.is_removed(id.topic_id) {
                self.log.delete(now, id, &mut self.fx);
            } else {
                self.fx.warn(format!(
                    "the log {name}-{} (topic id {}) belongs to no topic that is known; it is left alone",
                    id.partition, id.topic_id
                ));
            }
        }
    }
}

/// Returns what the first controller of a cluster puts on record for all topics: every node must count the
/// same members as enough, so a node's own setting counts at this moment alone. A node alone has none.
fn cluster_defaults(node: &NodeConfig) -> Option<MetadataRecord> {
    const MIN: &str = "min.insync.replicas";
    (node.peers.len() > 1).then(|| {
        let value = node.settings.explicit(MIN).unwrap_or("2");
        ConfigRecord {
            resource_type: RESOURCE_BROKER,
            resource_name: "".into(),
            name: MIN.into(),
            value: Some(value.into()),
        }
        .into()
    })
}
