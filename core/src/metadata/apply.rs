//! The only mutator of the image.

use std::sync::Arc;

use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicName, TopicPartition};
use crate::metadata::image::{
    BrokerImage, Endpoint, MetadataImage, PartitionImage, TopicImage, UncleanElection,
    collision_key,
};
use crate::wire::MetadataRecord;
use crate::wire::metadata_record::{
    ConfigRecord, PartitionChangeRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord,
    UncleanElectionRecord,
};

/// Resource type of topics in configuration records and requests.
pub const RESOURCE_TOPIC: i8 = 2;
/// Resource type of brokers.
pub const RESOURCE_BROKER: i8 = 4;

/// A record that contradicts those before it: the log is not what a controller wrote.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the metadata record at offset {offset} cannot be applied: {why}")]
pub struct ApplyError {
    /// Where it stands.
    pub offset: Offset,
    /// What is wrong.
    pub why: &'static str,
}

impl MetadataImage {
    /// Takes in the record at `offset`.
    ///
    /// # Errors
    /// [`ApplyError`] for a record that contradicts the image; the image is then unchanged.
    pub fn apply(&mut self, offset: Offset, record: &MetadataRecord) -> Result<(), ApplyError> {
        self.change(offset, record).map_err(|why| ApplyError { offset, why })?;
        self.end_offset = offset.plus(1);
        Ok(())
    }

    /// Takes in that a leader's epoch began with the control record at `offset`.
    pub fn apply_leader_change(&mut self, offset: Offset, epoch: LeaderEpoch) {
        self.epoch = self.epoch.max(epoch);
        self.end_offset = offset.plus(1);
    }

    fn change(&mut self, offset: Offset, record: &MetadataRecord) -> Result<(), &'static str> {
        match record {
            MetadataRecord::RegisterBrokerRecord(r) => self.register(offset, r),
            MetadataRecord::TopicRecord(r) => return self.add_topic(r),
            MetadataRecord::PartitionRecord(r) => return self.put_partition(r),
            MetadataRecord::PartitionChangeRecord(r) => return self.change_partition(r),
            MetadataRecord::ConfigRecord(r) => self.set_config(r),
            MetadataRecord::RemoveTopicRecord(r) => {
                let topic = self.topics.remove(&r.topic_id).ok_or("the topic is not known")?;
                self.ids_by_name.remove(topic.name.as_str());
                self.collision_keys.remove(&collision_key(topic.name.as_str()));
                self.partition_count -= topic.partitions.len();
                self.unclean.retain(|id, _| id.topic_id != r.topic_id);
                self.removed.insert(r.topic_id);
            }
            MetadataRecord::FeatureLevelRecord(r) => {
                if r.feature_level == 0 {
                    self.features.remove(r.name.as_str());
                } else {
                    self.features.insert(r.name.as_str().to_owned(), r.feature_level);
                }
            }
            MetadataRecord::ProducerIdsRecord(r) => {
                if r.next_producer_id < self.next_producer_id {
                    return Err("the block of producer ids was handed out before");
                }
                self.next_producer_id = r.next_producer_id;
            }
            MetadataRecord::BrokerRegistrationChangeRecord(r) => {
                let broker = self.registered(r.broker_id)?;
                change_flag(&mut broker.fenced, r.fenced);
                change_flag(&mut broker.in_controlled_shutdown, r.in_controlled_shutdown);
                if !r.log_dirs.is_empty() {
                    broker.directories.clone_from(&r.log_dirs);
                }
            }
            MetadataRecord::FenceBrokerRecord(r) => self.registered(r.id)?.fenced = true,
            MetadataRecord::UnfenceBrokerRecord(r) => self.registered(r.id)?.fenced = false,
            MetadataRecord::UnregisterBrokerRecord(r) => {
                self.registered(r.broker_id)?;
                self.brokers.remove(&NodeId(r.broker_id));
            }
            MetadataRecord::UncleanElectionRecord(r) => self.note_unclean_election(r)?,
            MetadataRecord::NoOpRecord(_) => {}
            MetadataRecord::RemovedTopicsRecord(_) | MetadataRecord::SnapshotEndRecord(_) => {
                return Err("it belongs into a snapshot");
            }
        }
        Ok(())
    }

    /// Takes in a record of a snapshot: what it says is so, and nothing follows from it.
    pub(in crate::metadata) fn restore(
        &mut self,
        record: &MetadataRecord,
    ) -> Result<(), &'static str> {
        if let MetadataRecord::RegisterBrokerRecord(r) = record {
            self.brokers.insert(NodeId(r.broker_id), broker(Offset(r.broker_epoch), r));
            return Ok(());
        }
        if let MetadataRecord::RemovedTopicsRecord(r) = record {
            if r.topic_ids.iter().any(|id| self.topics.contains_key(id)) {
                return Err("a topic is there and was removed");
            }
            self.removed.extend(&r.topic_ids);
            return Ok(());
        }
        self.change(Offset::ZERO, record)
    }

    fn registered(&mut self, id: i32) -> Result<&mut BrokerImage, &'static str> {
        self.brokers.get_mut(&NodeId(id)).ok_or("the broker is not known")
    }

    /// A registration is a new life of the node: the epoch of every partition that it led rises.
    fn register(&mut self, offset: Offset, record: &RegisterBrokerRecord) {
        let id = NodeId(record.broker_id);
        self.brokers.insert(id, broker(offset, record));
        for topic in self.topics.values_mut() {
            if topic.partitions.iter().any(|partition| partition.leader == id) {
                for partition in &mut Arc::make_mut(topic).partitions {
                    if partition.leader == id {
                        partition.leader_epoch.0 += 1;
                        partition.partition_epoch += 1;
                    }
                }
            }
        }
    }

    fn add_topic(&mut self, record: &TopicRecord) -> Result<(), &'static str> {
        let name = TopicName::parse(record.name.as_str())?;
        if self.ids_by_name.contains_key(name.as_str()) {
            return Err("a topic of that name exists");
        }
        if self.topics.contains_key(&record.topic_id) || self.removed.contains(&record.topic_id) {
            return Err("the topic id was used before");
        }
        self.ids_by_name.insert(name.as_str().into(), record.topic_id);
        self.collision_keys.insert(collision_key(name.as_str()));
        let topic = TopicImage {
            id: record.topic_id,
            name,
            partitions: Vec::new(),
            configs: super::topic_config::Overrides::new(),
        };
        self.topics.insert(record.topic_id, Arc::new(topic));
        Ok(())
    }

    fn put_partition(&mut self, record: &PartitionRecord) -> Result<(), &'static str> {
        let topic = self.topics.get_mut(&record.topic_id).ok_or("the topic is not known")?;
        let index = usize::try_from(record.partition_id).map_err(|_| "the number is negative")?;
        let partition = PartitionImage {
            replicas: nodes(&record.replicas),
            isr: nodes(&record.isr),
            leader: NodeId(record.leader),
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: record.partition_epoch,
            adding: nodes(&record.adding_replicas),
            removing: nodes(&record.removing_replicas),
        };
        let count = topic.partitions.len();
        if index > count {
            return Err("a partition before it is missing");
        }
        if topic
            .partitions
            .get(index)
            .is_some_and(|existing| existing.leader_epoch > partition.leader_epoch)
        {
            return Err("the leader epoch falls");
        }
        let topic = Arc::make_mut(topic);
        if index == count {
            topic.partitions.push(partition);
            self.partition_count += 1;
        } else {
            topic.partitions[index] = partition;
        }
        Ok(())
    }

    fn change_partition(&mut self, record: &PartitionChangeRecord) -> Result<(), &'static str> {
        let topic = self.topics.get_mut(&record.topic_id).ok_or("the topic is not known")?;
        let partition = usize::try_from(record.partition_id)
            .ok()
            .and_then(|index| Arc::make_mut(topic).partitions.get_mut(index))
            .ok_or("the partition is not known")?;
        if let Some(isr) = &record.isr {
            partition.isr = nodes(isr);
        }
        if let Some(replicas) = &record.replicas {
            partition.replicas = nodes(replicas);
        }
        if let Some(adding) = &record.adding_replicas {
            partition.adding = nodes(adding);
        }
        if let Some(removing) = &record.removing_replicas {
            partition.removing = nodes(removing);
        }
        // -2 means unchanged; any other leader, the same one too, begins an epoch.
        if record.leader != -2 {
            partition.leader = NodeId(record.leader);
            partition.leader_epoch.0 += 1;
        }
        partition.partition_epoch += 1;
        Ok(())
    }

    fn note_unclean_election(
        &mut self,
        record: &UncleanElectionRecord,
    ) -> Result<(), &'static str> {
        let topic = self.topics.get(&record.topic_id).ok_or("the topic is not known")?;
        let partition = PartitionIndex(record.partition_id);
        topic.partition(partition).ok_or("the partition is not known")?;
        let election = UncleanElection {
            leader: NodeId(record.leader),
            leader_epoch: LeaderEpoch(record.leader_epoch),
        };
        self.unclean.insert(TopicPartition { topic_id: record.topic_id, partition }, election);
        Ok(())
    }

    /// Settings of topics that are gone, and of resources that have none here, are passed over. Those of
    /// the broker without a name hold for the cluster.
    fn set_config(&mut self, record: &ConfigRecord) {
        let configs = match record.resource_type {
            RESOURCE_TOPIC => {
                let Some(id) = self.ids_by_name.get(record.resource_name.as_str()) else { return };
                let Some(topic) = self.topics.get_mut(id) else { return };
                &mut Arc::make_mut(topic).configs
            }
            RESOURCE_BROKER if record.resource_name.is_empty() => &mut self.defaults,
            _ => return,
        };
        match &record.value {
            Some(value) => {
                configs.insert(record.name.as_str().to_owned(), value.as_str().to_owned());
            }
            None => {
                configs.remove(record.name.as_str());
            }
        }
    }
}

/// Returns a broker as its registration at an offset says.
fn broker(offset: Offset, record: &RegisterBrokerRecord) -> BrokerImage {
    let endpoints = record.end_points.iter().map(|endpoint| Endpoint {
        name: endpoint.name.as_str().to_owned(),
        host: endpoint.host.as_str().to_owned(),
        port: endpoint.port,
    });
    let features = record.features.iter().map(|it| {
        let levels = (it.min_supported_version, it.max_supported_version);
        (it.name.as_str().to_owned(), levels)
    });
    BrokerImage {
        incarnation_id: record.incarnation_id,
        broker_epoch: offset.0,
        endpoints: endpoints.collect(),
        fenced: record.fenced,
        in_controlled_shutdown: record.in_controlled_shutdown,
        directories: record.log_dirs.clone(),
        rack: record.rack.as_ref().map(|rack| rack.as_str().to_owned()),
        features: features.collect(),
    }
}

/// In a record 1 sets a flag, -1 clears it, and 0 leaves it.
const fn change_flag(flag: &mut bool, change: i8) {
    match change {
        1 => *flag = true,
        -1 => *flag = false,
        _ => {}
    }
}

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Uuid;

    fn topic(name: &str, id: u8) -> MetadataRecord {
        TopicRecord { name: name.into(), topic_id: Uuid([id; 16]) }.into()
    }

    fn partition(id: u8, index: i32, leader_epoch: i32) -> MetadataRecord {
        PartitionRecord {
            partition_id: index,
            topic_id: Uuid([id; 16]),
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            leader_epoch,
            partition_epoch: 0,
            ..PartitionRecord::default()
        }
        .into()
    }

    fn image(records: &[MetadataRecord]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for record in records {
            let offset = image.end_offset();
            image.apply(offset, record).expect("records in order");
        }
        image
    }

    #[test]
    fn a_registration_raises_the_epoch_of_every_partition_that_the_node_led() {
        let mut image = image(&[topic("a", 1), partition(1, 0, 0), partition(1, 1, 4)]);
        let register =
            RegisterBrokerRecord { broker_id: 1, fenced: false, ..RegisterBrokerRecord::default() };
        image.apply(Offset(9), &register.into()).expect("applies");
        let topic = image.topic_by_name("a").expect("there");
        let epochs: Vec<i32> = topic.partitions.iter().map(|p| p.leader_epoch.0).collect();
        assert_eq!(epochs, [1, 5]);
        assert_eq!(image.broker(NodeId(1)).expect("there").broker_epoch, 9);
    }

    #[test]
    fn a_topic_id_is_never_used_twice() {
        let mut image = image(&[topic("a", 1)]);
        let remove =
            crate::wire::metadata_record::RemoveTopicRecord { topic_id: Uuid([1; 16]) }.into();
        image.apply(Offset(1), &remove).expect("applies");
        assert!(image.topic_by_name("a").is_none());
        assert!(image.is_removed(Uuid([1; 16])));
        assert!(image.apply(Offset(2), &topic("b", 1)).is_err());
        assert_eq!(image.end_offset(), Offset(2), "a refused record changes nothing");
    }

    #[test]
    fn records_that_contradict_the_image_are_refused() {
        let mut image = image(&[topic("a", 1), partition(1, 0, 3)]);
        for bad in [topic("a", 2), partition(2, 0, 0), partition(1, 2, 0), partition(1, 0, 2)] {
            let before = image.clone();
            assert!(image.apply(Offset(5), &bad).is_err(), "{bad:?}");
            assert_eq!(image, before);
        }
    }
}
