//! What a request makes of the image: records and an answer, or an answer alone.
//!
//! Nothing here changes anything. Sources: KIP-4, KIP-195, KIP-464, KIP-516, KIP-525, KIP-599;
//! error codes as Apache Kafka's controller answers them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::config::NodeConfig;
use crate::error::ErrorCode;
use crate::ids::{NodeId, PartitionIndex, TopicId, TopicName, Uuid};
use crate::log::LogStore;
use crate::metadata::apply::RESOURCE_TOPIC;
use crate::metadata::image::{InternalTopic, MetadataImage, collision_key, is_internal};
use crate::metadata::topic_config::{self, Overrides, TOPIC_CONFIGS};
use crate::wire::api::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use crate::wire::api::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use crate::wire::api::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use crate::wire::metadata_record::{
    ConfigRecord, ProducerIdsRecord, RemoveTopicRecord, TopicRecord,
};
use crate::wire::{KafkaString, MetadataRecord};

/// How many producer ids a block has.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// What was decided.
#[derive(Clone, Debug)]
pub struct Decision<T> {
    /// What is to be appended, all or nothing.
    pub records: Vec<MetadataRecord>,
    /// The answer, once they are committed.
    pub response: T,
}

/// An error code with words.
pub type Refusal = (ErrorCode, String);

/// What a decision may look at besides the image.
pub struct Deciding<'a> {
    /// The logs of this shard, which know what else lies in the data directory.
    pub log: &'a LogStore,
    /// The image with everything appended so far.
    pub image: &'a MetadataImage,
    /// The node's configuration.
    pub node: &'a NodeConfig,
    /// The node's data directory.
    pub directory_id: Uuid,
    /// How many voters the metadata quorum has.
    pub voters: usize,
    /// Makes ids that were never used.
    pub next_id: &'a mut dyn FnMut() -> Uuid,
}

impl Deciding<'_> {
    /// CreateTopics (key 19).
    pub fn create_topics(
        &mut self,
        request: &CreateTopicsRequest,
    ) -> Decision<CreateTopicsResponse> {
        let mut records = Vec::new();
        let mut response = CreateTopicsResponse::default();
        let mut batch = Batch::default();
        let names = count_names(request.topics.iter().map(|topic| topic.name.as_str()));
        let mut answered = BTreeSet::new();
        for topic in &request.topics {
            let name = topic.name.as_str();
            let outcome = if names.get(name).is_some_and(|&count| count > 1) {
                if !answered.insert(name) {
                    continue;
                }
                Err((ErrorCode::InvalidRequest, "The topic is named twice.".to_owned()))
            } else {
                self.create_topic(topic, &mut batch)
            };
            response.topics.push(match outcome {
                Ok((result, made)) => {
                    if !request.validate_only {
                        records.extend(made);
                    }
                    result
                }
                Err((code, message)) => CreatableTopicResult {
                    name: topic.name.clone(),
                    error_code: code.code(),
                    error_message: Some(message.into()),
                    configs: Some(Vec::new()),
                    ..CreatableTopicResult::default()
                },
            });
        }
        Decision { records, response }
    }

    /// Creates topics with the defaults, for a Metadata request that named them. Names that cannot
    /// be created are left out.
    pub fn auto_create(&mut self, names: &[KafkaString]) -> Decision<()> {
        let mut batch = Batch::default();
        let mut records = Vec::new();
        for name in names {
            let topic = CreatableTopic {
                name: name.clone(),
                num_partitions: -1,
                replication_factor: -1,
                ..CreatableTopic::default()
            };
            if let Ok((_, made)) = self.create_topic(&topic, &mut batch) {
                records.extend(made);
            }
        }
        Decision { records, response: () }
    }

    fn create_topic(
        &mut self,
        topic: &CreatableTopic,
        batch: &mut Batch,
    ) -> Result<(CreatableTopicResult, Vec<MetadataRecord>), Refusal> {
        let name = TopicName::parse(topic.name.as_str())
            .map_err(|why| (ErrorCode::InvalidTopicException, format!("{why}.")))?;
        if self.image.topic_by_name(name.as_str()).is_some() {
            let why = format!("Topic '{name}' already exists.");
            return Err((ErrorCode::TopicAlreadyExists, why));
        }
        // Nor one that would stand in its way.
        if is_internal(name.as_str())
            || InternalTopic::ALL
                .iter()
                .any(|topic| collision_key(topic.name()) == collision_key(name.as_str()))
        {
            let why = "The name belongs to a topic that the broker makes itself.";
            return Err((ErrorCode::InvalidTopicException, why.to_owned()));
        }
        self.make_topic(&name, topic, checked_configs, batch)
    }

    /// Creates a topic that coordinators keep their state in, with Kafka's settings for it, unless it is
    /// there. A node that has no room for it leaves it out.
    pub fn create_internal(&mut self, internal: InternalTopic) -> Decision<()> {
        let none = Decision { records: Vec::new(), response: () };
        if self.image.topic_by_name(internal.name()).is_some() {
            return none;
        }
        let settings = &self.node.settings;
        let (partitions, compression, segment) = match internal {
            InternalTopic::ConsumerOffsets => {
                ("offsets.topic.num.partitions", "producer", "offsets.topic.segment.bytes")
            }
            InternalTopic::TransactionState => (
                "transaction.state.log.num.partitions",
                "uncompressed",
                "transaction.state.log.segment.bytes",
            ),
        };
        let topic = CreatableTopic {
            name: KafkaString::from_static(internal.name()),
            num_partitions: settings.number(partitions).unwrap_or(1) as i32,
            replication_factor: -1,
            ..CreatableTopic::default()
        };
        let configs = Overrides::from([
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("compression.type".to_owned(), compression.to_owned()),
            ("segment.bytes".to_owned(), settings.text(segment).to_owned()),
        ]);
        let Ok(name) = TopicName::parse(internal.name()) else { return none };
        match self.make_topic(&name, &topic, |_| Ok(configs), &mut Batch::default()) {
            Ok((_, records)) => Decision { records, response: () },
            Err(_) => none,
        }
    }

    /// Makes the records of a topic whose name is free.
    fn make_topic(
        &mut self,
        name: &TopicName,
        topic: &CreatableTopic,
        configs: impl FnOnce(&CreatableTopic) -> Result<Overrides, Refusal>,
        batch: &mut Batch,
    ) -> Result<(CreatableTopicResult, Vec<MetadataRecord>), Refusal> {
        let key = collision_key(name.as_str());
        if self.image.collision_keys.contains(&key) || batch.keys.contains(&key) {
            let why = format!("Topic '{name}' collides with one that differs by '.' and '_' only.");
            return Err((ErrorCode::InvalidTopicException, why));
        }
        let assignment = self.assignment(topic, batch.partitions)?;
        let room = self.node.limits.partitions_max;
        if self.image.partition_count() + batch.partitions + assignment.len() > room {
            let why = format!("The node takes at most {room} partitions.");
            return Err((ErrorCode::PolicyViolation, why));
        }
        self.check_folders(name, 0..assignment.len() as i32)?;
        let configs = configs(topic)?;

        let topic_id = (self.next_id)();
        let mut records = vec![TopicRecord { name: topic.name.detached(), topic_id }.into()];
        for (name, value) in &configs {
            records.push(config_record(&topic.name, name, Some(value)));
        }
        let replication_factor = assignment.first().map_or(0, Vec::len);
        for (index, replicas) in assignment.iter().enumerate() {
            records.push(self.partition_record(topic_id, index as i32, replicas));
        }
        batch.keys.insert(key);
        batch.partitions += assignment.len();
        let result = CreatableTopicResult {
            name: topic.name.clone(),
            topic_id,
            error_code: ErrorCode::None.code(),
            error_message: None,
            num_partitions: assignment.len() as i32,
            replication_factor: replication_factor as i16,
            configs: Some(self.described(&configs)),
            topic_config_error_code: 0,
        };
        Ok((result, records))
    }

    /// A folder that somebody else made is never taken for a replica's.
    fn check_folders(&self, name: &TopicName, mut indexes: Range<i32>) -> Result<(), Refusal> {
        match indexes.find_map(|i| self.log.name_conflict(name, PartitionIndex(i))) {
            None => Ok(()),
            Some(folder) => {
                let why = format!(
                    "The data directory has a {folder} that is not ours; move it away first."
                );
                Err((ErrorCode::PolicyViolation, why))
            }
        }
    }

    fn described(&self, overrides: &Overrides) -> Vec<CreatableTopicConfigs> {
        TOPIC_CONFIGS
            .iter()
            .filter_map(|def| {
                let described = topic_config::describe(def, &self.node.settings, overrides);
                let first = described.into_iter().next()?;
                Some(CreatableTopicConfigs {
                    name: KafkaString::from_static(def.setting.name),
                    value: Some(first.value.into()),
                    read_only: false,
                    config_source: first.source as i8,
                    is_sensitive: false,
                })
            })
            .collect()
    }

    /// `DeleteTopics` (key 20).
    pub fn delete_topics(
        &self,
        request: &DeleteTopicsRequest,
        version: i16,
    ) -> Decision<DeleteTopicsResponse> {
        let mut records = Vec::new();
        let mut response = DeleteTopicsResponse::default();
        let asked: Vec<(Option<&KafkaString>, TopicId)> = if version >= 6 {
            request.topics.iter().map(|topic| (topic.name.as_ref(), topic.topic_id)).collect()
        } else {
            request.topic_names.iter().map(|name| (Some(name), Uuid::ZERO)).collect()
        };
        let mut times: BTreeMap<TopicId, Named<'_>> = BTreeMap::new();
        let resolved: Vec<_> = asked
            .iter()
            .map(|&(name, id)| {
                let found = self.resolve(name, id, version);
                if let Ok(found) = &found {
                    let named = times.entry(*found).or_default();
                    named.count += 1;
                    named.name = named.name.or(name);
                    named.id = if name.is_none() { id } else { named.id };
                }
                found
            })
            .collect();
        let mut answered = BTreeSet::new();
        for ((mut name, mut id), found) in asked.into_iter().zip(resolved) {
            let outcome = found.and_then(|found| match times.get(&found) {
                Some(named) if named.count > 1 => {
                    (name, id) = (named.name, named.id);
                    Err((ErrorCode::InvalidRequest, "The topic is named twice.".to_owned()))
                }
                _ => Ok(found),
            });
            // A topic that is named twice is answered once, as Kafka does.
            if outcome.is_err() && !answered.insert((name, id)) {
                continue;
            }
            let (topic_id, code, message) = match outcome {
                Ok(found) => {
                    records.push(RemoveTopicRecord { topic_id: found }.into());
                    (found, ErrorCode::None, None)
                }
                Err((code, message)) => (id, code, Some(KafkaString::from(message))),
            };
            // Version 6 tells the name of a topic that is deleted by its id.
            let deleted = self.image.topic(topic_id).filter(|_| code == ErrorCode::None);
            let known = deleted.map(|topic| topic.name.as_str().into());
            response.responses.push(DeletableTopicResult {
                name: name.cloned().or(known),
                topic_id,
                error_code: code.code(),
                error_message: message,
            });
        }
        Decision { records, response }
    }

    fn resolve(
        &self,
        name: Option<&KafkaString>,
        id: TopicId,
        version: i16,
    ) -> Result<TopicId, Refusal> {
        if !self.node.settings.is_true("delete.topic.enable") {
            let code = if version >= 3 {
                ErrorCode::TopicDeletionDisabled
            } else {
                ErrorCode::InvalidRequest
            };
            return Err((code, "Topics cannot be deleted here (delete.topic.enable).".to_owned()));
        }
        match (name, id.is_zero()) {
            (Some(_), false) => {
                let why = "A topic is named by its name or by its id, not by both.";
                Err((ErrorCode::InvalidRequest, why.to_owned()))
            }
            (None, true) => {
                let why = "Neither name nor id of the topic is given.";
                Err((ErrorCode::InvalidRequest, why.to_owned()))
            }
            (None, false) => self
                .image
                .topic(id)
                .map(|topic| topic.id)
                .ok_or_else(|| refuse(ErrorCode::UnknownTopicId)),
            (Some(name), true) => self
                .image
                .topic_by_name(name.as_str())
                .map(|topic| topic.id)
                .ok_or_else(|| refuse(ErrorCode::UnknownTopicOrPartition)),
        }
    }

    /// `CreatePartitions` (key 37).
    pub fn create_partitions(
        &self,
        request: &CreatePartitionsRequest,
    ) -> Decision<CreatePartitionsResponse> {
        let mut records = Vec::new();
        let mut response = CreatePartitionsResponse::default();
        let names = count_names(request.topics.iter().map(|topic| topic.name.as_str()));
        let mut answered = BTreeSet::new();
        let mut added = 0;
        for topic in &request.topics {
            let name = topic.name.as_str();
            let outcome = if names.get(name).is_some_and(|&count| count > 1) {
                if !answered.insert(name) {
                    continue;
                }
                Err((ErrorCode::InvalidRequest, "The topic is named twice.".to_owned()))
            } else {
                self.add_partitions(topic, added)
            };
            let (code, message) = match outcome {
                Ok(made) => {
                    added += made.len();
                    if !request.validate_only {
                        records.extend(made);
                    }
                    (ErrorCode::None, None)
                }
                Err((code, message)) => (code, Some(KafkaString::from(message))),
            };
            response.results.push(CreatePartitionsTopicResult {
                name: topic.name.clone(),
                error_code: code.code(),
                error_message: message,
            });
        }
        Decision { records, response }
    }

    fn add_partitions(
        &self,
        request: &CreatePartitionsTopic,
        added: usize,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let topic = self
            .image
            .topic_by_name(request.name.as_str())
            .ok_or_else(|| refuse(ErrorCode::UnknownTopicOrPartition))?;
        if topic.is_internal() {
            // Differs from Kafka, where groups lose their coordinator over it: the number of
            // partitions decides which one is a group's.
            let why = "The number of partitions of an internal topic is fixed at its creation.";
            return Err((ErrorCode::InvalidTopicException, why.to_owned()));
        }
        let have = topic.partitions.len() as i32;
        if request.count == have {
            let why = format!("Topic already has {have} partition(s).");
            return Err((ErrorCode::InvalidPartitions, why));
        }
        if request.count < have {
            let why = format!(
                "The topic {} currently has {have} partition(s); {} would not be an increase.",
                topic.name, request.count
            );
            return Err((ErrorCode::InvalidPartitions, why));
        }
        self.check_partition_count(request.count)?;
        self.check_folders(&topic.name, have..request.count)?;
        let more = (request.count - have) as usize;
        let room = self.node.limits.partitions_max;
        if self.image.partition_count() + added + more > room {
            let why = format!("The node takes at most {room} partitions.");
            return Err((ErrorCode::PolicyViolation, why));
        }
        let replicas = match &request.assignments {
            None => {
                let factor = topic.partitions.first().map_or(1, |p| p.target().count());
                self.placed(more, factor as i16, added)?
            }
            Some(assignments) if assignments.len() != more => {
                let why = format!(
                    "{} assignment(s) were given for {more} added partition(s).",
                    assignments.len()
                );
                return Err((ErrorCode::InvalidReplicaAssignment, why));
            }
            Some(assignments) => assignments
                .iter()
                .map(|assignment| self.checked_replicas(&assignment.broker_ids))
                .collect::<Result<_, _>>()?,
        };
        Ok(replicas
            .iter()
            .zip(have..)
            .map(|(replicas, index)| self.partition_record(topic.id, index, replicas))
            .collect())
    }

    /// Hands out the next block of producer ids and answers with its first.
    pub fn allocate_producer_ids(&self, broker: NodeId) -> Decision<i64> {
        let first = self.image.next_producer_id();
        let record = ProducerIdsRecord {
            broker_id: broker.0,
            broker_epoch: self.image.broker(broker).map_or(-1, |broker| broker.broker_epoch),
            next_producer_id: first + PRODUCER_ID_BLOCK,
        };
        Decision { records: vec![record.into()], response: first }
    }
}

/// How a topic is named in one request.
#[derive(Default)]
struct Named<'a> {
    count: usize,
    name: Option<&'a KafkaString>,
    id: TopicId,
}

/// What earlier topics of the same request take.
#[derive(Default)]
struct Batch {
    keys: BTreeSet<String>,
    partitions: usize,
}

fn count_names<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// The last of two values for one name wins, as in Kafka.
fn checked_configs(topic: &CreatableTopic) -> Result<Overrides, Refusal> {
    let mut configs = Overrides::new();
    for config in &topic.configs {
        let name = config.name.as_str();
        let Some(value) = &config.value else {
            let why = format!("Null value not supported for topic configs: {name}");
            return Err((ErrorCode::InvalidConfig, why));
        };
        let value = value.as_str().trim();
        topic_config::validate(name, value)
            .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
        configs.insert(name.to_owned(), value.to_owned());
    }
    Ok(configs)
}

/// Makes the record that sets or clears one setting of a topic.
pub(in crate::metadata) fn config_record(
    topic: &KafkaString,
    name: &str,
    value: Option<&str>,
) -> MetadataRecord {
    ConfigRecord {
        resource_type: RESOURCE_TOPIC,
        resource_name: topic.detached(),
        name: name.into(),
        value: value.map(Into::into),
    }
    .into()
}

/// An error with Kafka's own words for it.
pub(in crate::metadata) fn refuse(code: ErrorCode) -> Refusal {
    (code, code.message().to_owned())
}
