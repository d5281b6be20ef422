//! The start of a shard: recovery of its logs, then the metadata.
//!
//! Shard 0 replays the metadata log, votes for itself in a later epoch, begins that epoch with a
//! control batch, registers the broker, and once that is committed hands the image to all shards.
//! The others wait for the image. Nobody is served before.

use bytes::Bytes;

use crate::broker::post::Post;
use crate::broker::shard::{Shard, TicketUse};
use crate::ids::{Incarnation, LeaderEpoch, NodeId, Offset, PartitionIndex, ShardId, TopicName};
use crate::ids::{TopicPartition, Uuid};
use crate::io::Effect;
use crate::log::{FetchPlan, FlushPolicy, LogSettings, ReadError, Stable, Storage};
use crate::metadata::{Controller, MetadataImage};
use crate::record::batch::Batch;
use crate::record::builder::leader_change;
use crate::record::iterate::OpenBatch;
use crate::time::Now;
use crate::wire::MetadataRecord;
use crate::wire::metadata_record::{
    BrokerEndpoint, BrokerFeature, FeatureLevelRecord, RegisterBrokerRecord,
};

/// Name and level of the only feature that is settled: Kafka 4.3's metadata.
pub(in crate::broker) const METADATA_VERSION: &str = "metadata.version";
/// The level of `metadata.version` that this node writes.
pub(in crate::broker) const METADATA_VERSION_LEVEL: i16 = 30;
/// The lowest level of `metadata.version` that this node could work at.
pub(in crate::broker) const METADATA_VERSION_MIN: i16 = 7;

/// Bytes of the metadata log that are replayed at a time.
const REPLAY_BYTES: u64 = 1 << 20;

/// Where a shard stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) enum Phase {
    /// Before `Input::Start`.
    Idle,
    /// The logs are being recovered.
    Recovering,
    /// Shard 0 replays the metadata log.
    Replaying,
    /// Shard 0 votes for itself.
    Voting,
    /// Shard 0 registers the broker.
    Registering,
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
#[derive(Clone, Copy, Default, Debug)]
pub(in crate::broker) struct Identity {
    pub(in crate::broker) incarnation: Incarnation,
    pub(in crate::broker) cluster_id: Uuid,
    pub(in crate::broker) directory_id: Uuid,
    pub(in crate::broker) vote: Option<(LeaderEpoch, NodeId)>,
}

/// A replay on its way.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Replay {
    image: MetadataImage,
    next: Offset,
    end: Offset,
}

impl Replay {
    /// Returns the first offset that is still to be applied.
    pub(in crate::broker) const fn position(&self) -> Offset {
        self.next
    }
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
        if self.config.shard == ShardId(0) {
            self.begin_replay(now);
        } else {
            self.phase = Phase::AwaitingImage;
            self.take_held_posts(now);
        }
    }

    fn begin_replay(&mut self, now: Now) {
        let id = TopicPartition::CLUSTER_METADATA;
        let settings = LogSettings {
            storage: if self.config.node.memory_only { Storage::Memory } else { Storage::Disk },
            flush: FlushPolicy::Ack,
            segment_bytes: 1 << 30,
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
        let next = self.log.log_start_offset(id).unwrap_or(Offset::ZERO);
        let end = self.log.stable_end(id).map_or(Offset::ZERO, Stable::value);
        self.phase = Phase::Replaying;
        self.replay = Some(Replay { image: MetadataImage::default(), next, end });
        self.go_on_replaying(now);
    }

    fn go_on_replaying(&mut self, now: Now) {
        if self.phase != Phase::Replaying {
            // It was told to stop meanwhile.
            return;
        }
        while let Some(replay) = &self.replay {
            if replay.next >= replay.end {
                let Some(replay) = self.replay.take() else { return };
                return self.begin_vote(now, replay.image);
            }
            let id = TopicPartition::CLUSTER_METADATA;
            match self.log.plan_fetch(id, replay.next, replay.end, REPLAY_BYTES, true) {
                FetchPlan::Memory(parts) => {
                    if let Err(why) = self.replay_parts(&parts) {
                        return self.fail_start(&why);
                    }
                }
                FetchPlan::File(range) => {
                    let ticket = self.ticket(TicketUse::Replay);
                    self.log.read(now, range, ticket, &mut self.fx);
                    return;
                }
            }
        }
    }

    pub(in crate::broker) fn on_replay_read(
        &mut self,
        now: Now,
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        let outcome = result.map_err(|e| e.to_string()).and_then(|parts| self.replay_parts(&parts));
        match outcome {
            Ok(()) => self.go_on_replaying(now),
            Err(why) => self.fail_start(&why),
        }
    }

    /// Applies whole batches of the metadata log.
    fn replay_parts(&mut self, parts: &[Bytes]) -> Result<(), String> {
        let Some(replay) = &mut self.replay else { return Ok(()) };
        let before = replay.next;
        // A part may end within a batch: header and payload of a recent one lie apart.
        let mut bytes = Bytes::from(parts.concat());
        while !bytes.is_empty() {
            let batch = Batch::split_from(&mut bytes).map_err(|error| error.to_string())?;
            if batch.last_offset() < replay.next {
                continue;
            }
            replay_batch(&mut replay.image, &batch)?;
            replay.next = batch.next_offset();
        }
        if replay.next == before {
            return Err("it has no batch there".to_owned());
        }
        Ok(())
    }

    fn fail_start(&mut self, why: &str) {
        let at = self.replay.take().map_or(Offset(-1), |replay| replay.next);
        let message = format!(
            "the metadata log __cluster_metadata-0 cannot be read at offset {at}: {why}; \
             restore the data directory from a copy, nothing in it was changed"
        );
        self.fx.push(Effect::Fatal { message });
        self.phase = Phase::Closed;
    }

    fn begin_vote(&mut self, now: Now, image: MetadataImage) {
        let voted = self.identity.vote.map_or(LeaderEpoch::UNKNOWN, |(epoch, _)| epoch);
        let epoch = LeaderEpoch(voted.max(image.epoch()).0 + 1);
        let node_id = self.config.node.node_id;
        let node = std::sync::Arc::clone(&self.config.node);
        self.controller = Some(Controller::new(node, self.identity.directory_id, epoch, image));
        self.phase = Phase::Voting;
        self.log.vote(now, epoch, node_id, &mut self.fx);
    }

    pub(in crate::broker) fn on_voted(&mut self, now: Now, epoch: LeaderEpoch) {
        let Some(controller) = &mut self.controller else { return };
        if self.phase != Phase::Voting || controller.epoch() != epoch {
            return;
        }
        let node_id = self.config.node.node_id;
        let batch = leader_change(node_id, &[node_id], &[node_id], now.wall.0);
        let id = TopicPartition::CLUSTER_METADATA;
        let began = match self.log.append(now, id, epoch, batch, &mut self.fx) {
            Ok(offset) => offset,
            Err(error) => return self.fail_registration(&error.to_string()),
        };
        controller.epoch_began(began);
        let mut records: Vec<MetadataRecord> = Vec::new();
        if controller.image().features().next().is_none() {
            let feature = FeatureLevelRecord {
                name: METADATA_VERSION.into(),
                feature_level: METADATA_VERSION_LEVEL,
            };
            records.push(feature.into());
        }
        let end_points = self
            .config
            .node
            .listeners
            .iter()
            .map(|listener| BrokerEndpoint {
                name: listener.name.as_str().into(),
                host: listener.advertised_host.as_str().into(),
                port: listener.advertised_port,
                security_protocol: 0,
            })
            .collect();
        let mut incarnation = self.identity.directory_id;
        incarnation.0[12..].copy_from_slice(&self.identity.incarnation.0.to_be_bytes());
        let register = RegisterBrokerRecord {
            broker_id: node_id.0,
            incarnation_id: incarnation,
            broker_epoch: controller.image().end_offset().0 + records.len() as i64,
            end_points,
            features: vec![BrokerFeature {
                name: METADATA_VERSION.into(),
                min_supported_version: METADATA_VERSION_MIN,
                max_supported_version: METADATA_VERSION_LEVEL,
            }],
            rack: None,
            fenced: false,
            log_dirs: vec![self.identity.directory_id],
            ..RegisterBrokerRecord::default()
        };
        records.push(register.into());
        self.phase = Phase::Registering;
        if let Err(error) = controller.append(now, records, &mut self.log, &mut self.fx) {
            self.fail_registration(&error.to_string());
        }
    }

    fn fail_registration(&mut self, why: &str) {
        let message = format!("this start cannot be written to the metadata log: {why}");
        self.fx.push(Effect::Fatal { message });
        self.phase = Phase::Closed;
    }

    pub(in crate::broker) fn on_metadata_committed(&mut self, now: Now, end: Offset) {
        let Some(controller) = &mut self.controller else { return };
        let deltas = controller.commit(end);
        if self.phase == Phase::Registering {
            if controller.image().end_offset() > end {
                return;
            }
            let image = std::sync::Arc::new(controller.image().clone());
            let cluster_id = self.identity.cluster_id;
            self.broadcast(&Post::Image { image: std::sync::Arc::clone(&image), cluster_id });
            self.adopt(now, &image);
            return;
        }
        if self.image.end_offset() == Offset::ZERO {
            // It was told to stop before it took up its role, so nobody has the image.
            return;
        }
        for delta in deltas {
            self.broadcast(&Post::Delta(delta.clone()));
            self.apply_delta(now, &delta);
        }
    }

    /// Takes over the whole image at the start: every partition of this shard takes up its role.
    pub(in crate::broker) fn adopt(&mut self, now: Now, image: &MetadataImage) {
        self.image = image.clone();
        for topic in image.topics() {
            for index in 0..topic.partitions.len() {
                let partition = PartitionIndex(index as i32);
                self.take_up(now, TopicPartition { topic_id: topic.id, partition });
            }
        }
        self.set_aside_unknown_logs(now);
        self.applied(image.end_offset());
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

fn replay_batch(image: &mut MetadataImage, batch: &Batch) -> Result<(), String> {
    if batch.is_control() {
        image.apply_leader_change(batch.last_offset(), batch.leader_epoch());
        return Ok(());
    }
    let open = OpenBatch::open(batch, usize::MAX).map_err(|error| error.to_string())?;
    for record in open.records() {
        let record = record.map_err(|error| error.to_string())?;
        let value = record.record.value.ok_or("a record has no value")?;
        let value = open.payload().slice_ref(value);
        let decoded = MetadataRecord::decode(value).map_err(|error| error.to_string())?;
        image.apply(record.offset, &decoded).map_err(|error| error.to_string())?;
    }
    Ok(())
}
