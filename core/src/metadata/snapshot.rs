//! A snapshot of the metadata log: the image at one offset as record batches, and back (KIP-630).
//!
//! The file is Kafka's. Its first batch is a control batch: the header, and where voters are on record their
//! rules and themselves (KIP-853). Records follow that say what there is, in Kafka's layouts, those of ours from
//! type 31000 on; the last batch is a control batch with the footer. Batches have offsets from 0 on and the epoch of the last record
//! that the snapshot holds.
//!
//! A [`SnapshotReader`] believes nothing: neither sizes, checksums, places nor records, and a snapshot without its
//! footer or with something behind it is none.
//!
//! Invariants:
//! 1. What is read back is equal to what was written, image, voters and time.
//! 2. Equal images give equal bytes.
//!
//! Sources: KIP-630, KIP-853; `docs/files.md`.

use bytes::{Bytes, BytesMut};

use crate::digest::Digest;
use crate::ids::{LeaderEpoch, NodeId, Offset, SnapshotId};
use crate::metadata::apply::{RESOURCE_BROKER, RESOURCE_TOPIC};
use crate::metadata::image::{BrokerImage, MetadataImage, PartitionImage, TopicImage, numbers};
use crate::record::batch::{Batch, HEADER_LEN};
use crate::record::builder::{BatchBuilder, quorum_controls};
use crate::record::compress::Codec;
use crate::record::iterate::OpenBatch;
use crate::wire::MetadataRecord;
use crate::wire::control_record::{
    ControlRecord, KRaftVersionRecord, SnapshotFooterRecord, SnapshotHeaderRecord, VotersRecord,
};
use crate::wire::metadata_record::{
    BrokerEndpoint, BrokerFeature, ConfigRecord, FeatureLevelRecord, PartitionRecord,
    ProducerIdsRecord, RegisterBrokerRecord, RemovedTopicsRecord, SnapshotEndRecord, TopicRecord,
    UncleanElectionRecord,
};

/// Bytes at which a batch is full.
const BATCH_BYTES: usize = 64 << 10;
/// Largest batch that is read, as in Kafka.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Most ids of one record.
const IDS_MAX: usize = 1_000;
/// The rules of a quorum whose voters stand in the log.
const KRAFT_VERSION: i16 = 1;

/// What a snapshot holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// The cluster at its end.
    pub image: MetadataImage,
    /// Who votes, where the log has said so; else those vote that the cluster was formed with.
    pub voters: Option<VotersRecord>,
    /// When the last record that it holds was appended, in Unix milliseconds.
    pub timestamp: i64,
}

/// Why bytes are no snapshot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why} (byte {position})")]
pub struct SnapshotError {
    /// The first byte of the batch in question.
    pub position: u64,
    /// What is wrong.
    pub why: String,
}

impl Snapshot {
    /// Returns what it is called.
    pub const fn id(&self) -> SnapshotId {
        SnapshotId { end_offset: self.image.end_offset(), epoch: self.image.epoch() }
    }

    /// Returns its batches, in order.
    pub fn encode(&self) -> Vec<Bytes> {
        let id = self.id();
        let mut out = Writer { epoch: id.epoch, timestamp: self.timestamp, ..Writer::default() };
        let mut controls = vec![ControlRecord::SnapshotHeader(SnapshotHeaderRecord {
            version: 0,
            last_contained_log_timestamp: self.timestamp,
        })];
        if let Some(voters) = &self.voters {
            let version = KRaftVersionRecord { version: 0, k_raft_version: KRAFT_VERSION };
            controls.push(ControlRecord::KRaftVersion(version));
            controls.push(ControlRecord::Voters(voters.clone()));
        }
        out.control(&controls);
        let end = SnapshotEndRecord { end_offset: id.end_offset.0, epoch: id.epoch.0 };
        out.put(&end.into());
        self.image.describe(&mut |record| out.put(&record));
        out.flush();
        out.control(&[ControlRecord::SnapshotFooter(SnapshotFooterRecord { version: 0 })]);
        out.batches
    }
}

/// Gathers records into batches.
#[derive(Default)]
struct Writer {
    epoch: LeaderEpoch,
    timestamp: i64,
    next: Offset,
    gathered: Option<BatchBuilder>,
    batches: Vec<Bytes>,
}

impl Writer {
    fn put(&mut self, record: &MetadataRecord) {
        let builder = self.gathered.get_or_insert_with(|| BatchBuilder::new(Codec::None));
        builder.push(self.timestamp, None, Some(&record.encode()), &[]);
        if builder.uncompressed_size() >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Some(builder) = self.gathered.take() {
            self.place(builder.build());
        }
    }

    fn control(&mut self, records: &[ControlRecord]) {
        let records: Vec<(i16, Bytes)> =
            records.iter().map(|record| (record.kind(), record.encode().1)).collect();
        self.place(quorum_controls(&records, self.timestamp));
    }

    fn place(&mut self, mut batch: Batch) {
        batch.assign(self.next, self.epoch);
        self.next = batch.next_offset();
        self.batches.push(batch.to_bytes());
    }
}

impl MetadataImage {
    /// Says all that the image holds but its end and epoch, in the order in which it is read back.
    fn describe(&self, put: &mut dyn FnMut(MetadataRecord)) {
        for (name, &level) in &self.features {
            let name = name.as_str().into();
            put(FeatureLevelRecord { name, feature_level: level }.into());
        }
        for (&id, broker) in &self.brokers {
            put(describe_broker(id, broker).into());
        }
        for topic in self.topics.values() {
            describe_topic(topic, put);
        }
        let removed: Vec<_> = self.removed.iter().copied().collect();
        for topic_ids in removed.chunks(IDS_MAX) {
            put(RemovedTopicsRecord { topic_ids: topic_ids.to_vec() }.into());
        }
        for (id, election) in &self.unclean {
            let record = UncleanElectionRecord {
                topic_id: id.topic_id,
                partition_id: id.partition.0,
                leader: election.leader.0,
                leader_epoch: election.leader_epoch.0,
                ..UncleanElectionRecord::default()
            };
            put(record.into());
        }
        for (name, value) in &self.defaults {
            put(describe_config(RESOURCE_BROKER, "", (name, value)));
        }
        if self.next_producer_id > 0 {
            let record = ProducerIdsRecord {
                broker_id: -1,
                broker_epoch: -1,
                next_producer_id: self.next_producer_id,
            };
            put(record.into());
        }
    }
}

fn describe_broker(id: NodeId, broker: &BrokerImage) -> RegisterBrokerRecord {
    let end_points = broker.endpoints.iter().map(|endpoint| BrokerEndpoint {
        name: endpoint.name.as_str().into(),
        host: endpoint.host.as_str().into(),
        port: endpoint.port,
        security_protocol: 0,
    });
    let features = broker.features.iter().map(|(name, &(min, max))| BrokerFeature {
        name: name.as_str().into(),
        min_supported_version: min,
        max_supported_version: max,
    });
    RegisterBrokerRecord {
        broker_id: id.0,
        incarnation_id: broker.incarnation_id,
        broker_epoch: broker.broker_epoch,
        end_points: end_points.collect(),
        features: features.collect(),
        rack: broker.rack.as_deref().map(Into::into),
        fenced: broker.fenced,
        in_controlled_shutdown: broker.in_controlled_shutdown,
        log_dirs: broker.directories.clone(),
        ..RegisterBrokerRecord::default()
    }
}

fn describe_topic(topic: &TopicImage, put: &mut dyn FnMut(MetadataRecord)) {
    let name = topic.name.as_str();
    put(TopicRecord { name: name.into(), topic_id: topic.id }.into());
    for (partition, partition_id) in topic.partitions.iter().zip(0..) {
        let PartitionImage { replicas, isr, leader, adding, removing, .. } = partition;
        let record = PartitionRecord {
            partition_id,
            topic_id: topic.id,
            replicas: numbers(replicas),
            isr: numbers(isr),
            removing_replicas: numbers(removing),
            adding_replicas: numbers(adding),
            leader: leader.0,
            leader_epoch: partition.leader_epoch.0,
            partition_epoch: partition.partition_epoch,
            ..PartitionRecord::default()
        };
        put(record.into());
    }
    for config in &topic.configs {
        put(describe_config(RESOURCE_TOPIC, name, config));
    }
}

fn describe_config(
    resource_type: i8,
    resource: &str,
    (name, value): (&String, &String),
) -> MetadataRecord {
    ConfigRecord {
        resource_type,
        resource_name: resource.into(),
        name: name.as_str().into(),
        value: Some(value.as_str().into()),
    }
    .into()
}

/// Reads a snapshot whose bytes come in pieces of any size.
#[derive(Clone, Debug)]
pub struct SnapshotReader {
    id: SnapshotId,
    /// Bytes of a batch that is not whole.
    left: BytesMut,
    /// Where they begin in the file.
    position: u64,
    next: Offset,
    image: MetadataImage,
    voters: Option<VotersRecord>,
    /// Of the header, once it was read.
    timestamp: Option<i64>,
    /// Whether it has said what it is a snapshot of.
    is_named: bool,
    is_over: bool,
}

impl SnapshotReader {
    /// Begins to read what should be this snapshot.
    pub fn new(id: SnapshotId) -> Self {
        Self {
            id,
            left: BytesMut::new(),
            position: 0,
            next: Offset::ZERO,
            image: MetadataImage::default(),
            voters: None,
            timestamp: None,
            is_named: false,
            is_over: false,
        }
    }

    /// Returns what it should be.
    pub const fn id(&self) -> SnapshotId {
        self.id
    }

    /// Returns how many bytes it was given.
    pub fn bytes(&self) -> u64 {
        self.position + self.left.len() as u64
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`SnapshotError`] where they are not those of the snapshot; there is nothing to be read any more then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.left.extend_from_slice(bytes);
        loop {
            let position = self.position;
            let at = |why: String| SnapshotError { position, why };
            if self.left.is_empty() {
                return Ok(());
            }
            if self.is_over {
                return Err(at("something follows its end".to_owned()));
            }
            if self.left.len() < HEADER_LEN {
                return Ok(());
            }
            let size = Batch::peek_len(&self.left).map_err(|error| at(error.to_string()))?;
            if size > BATCH_BYTES_MAX {
                return Err(at(format!("a batch announces {size} bytes")));
            }
            if self.left.len() < size {
                return Ok(());
            }
            let mut bytes = self.left.split_to(size).freeze();
            let batch = Batch::split_from(&mut bytes).map_err(|error| at(error.to_string()))?;
            self.take(&batch).map_err(at)?;
            self.position += size as u64;
        }
    }

    /// Says that there are no more bytes.
    ///
    /// # Errors
    /// [`SnapshotError`] where that is not all of it.
    pub fn finish(self) -> Result<Snapshot, SnapshotError> {
        let Self { id, position, mut image, voters, timestamp, is_over, .. } = self;
        let (Some(timestamp), true) = (timestamp, is_over) else {
            return Err(SnapshotError { position, why: "it breaks off".to_owned() });
        };
        image.end_offset = id.end_offset;
        image.epoch = id.epoch;
        Ok(Snapshot { image, voters, timestamp })
    }

    /// Takes in how far it is.
    pub fn digest(&self, digest: &mut Digest) {
        digest.shown(&self.id).number(self.bytes());
    }

    fn take(&mut self, batch: &Batch) -> Result<(), String> {
        if !batch.crc_is_valid() {
            return Err("the checksum of a batch is wrong".to_owned());
        }
        if batch.base_offset() != self.next || batch.last_offset_delta() < 0 {
            return Err(format!(
                "a batch begins at {} and not at {}",
                batch.base_offset(),
                self.next
            ));
        }
        if batch.leader_epoch() != self.id.epoch {
            return Err(format!("a batch is of epoch {}", batch.leader_epoch()));
        }
        self.next = batch.next_offset();
        let open = OpenBatch::open(batch, BATCH_BYTES_MAX).map_err(|error| error.to_string())?;
        for record in open.records() {
            let record = record.map_err(|error| error.to_string())?.record;
            let slice = |bytes: &[u8]| open.payload().slice_ref(bytes);
            let value = slice(record.value.ok_or("a record has no value")?);
            if self.is_over {
                return Err("a record follows its end".to_owned());
            }
            if batch.is_control() {
                let key = slice(record.key.ok_or("a control record has no key")?);
                let record =
                    ControlRecord::decode(key, value).map_err(|error| error.to_string())?;
                self.take_control(record)?;
            } else {
                let record = MetadataRecord::decode(value).map_err(|error| error.to_string())?;
                self.take_record(&record)?;
            }
        }
        Ok(())
    }

    fn take_control(&mut self, record: ControlRecord) -> Result<(), String> {
        let (has_begun, kind) = (self.timestamp.is_some(), record.kind());
        match record {
            ControlRecord::SnapshotHeader(header) if !has_begun => {
                self.timestamp = Some(header.last_contained_log_timestamp);
                Ok(())
            }
            ControlRecord::KRaftVersion(record)
                if has_begun && (0..=KRAFT_VERSION).contains(&record.k_raft_version) =>
            {
                Ok(())
            }
            ControlRecord::Voters(record) if has_begun && self.voters.is_none() => {
                self.voters = Some(record);
                Ok(())
            }
            ControlRecord::SnapshotFooter(_) if has_begun && self.is_named => {
                self.is_over = true;
                Ok(())
            }
            ControlRecord::LeaderChange(_)
            | ControlRecord::SnapshotHeader(_)
            | ControlRecord::SnapshotFooter(_)
            | ControlRecord::KRaftVersion(_)
            | ControlRecord::Voters(_) => {
                Err(format!("a control record of kind {kind} is out of place"))
            }
        }
    }

    fn take_record(&mut self, record: &MetadataRecord) -> Result<(), String> {
        if self.timestamp.is_none() {
            return Err("it does not begin with a header".to_owned());
        }
        if let MetadataRecord::SnapshotEndRecord(end) = record {
            let says =
                SnapshotId { end_offset: Offset(end.end_offset), epoch: LeaderEpoch(end.epoch) };
            if says != self.id {
                return Err(format!("it says that it is {says}"));
            }
            self.is_named = true;
            return Ok(());
        }
        if !self.is_named {
            return Err("it does not say first what it is a snapshot of".to_owned());
        }
        self.image.restore(record).map_err(str::to_owned)
    }
}
