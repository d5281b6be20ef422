//! Records that are being decided, and the image as it will be with them.

use std::sync::Arc;

use crate::ids::{NodeId, PartitionIndex, TopicPartition};
use crate::metadata::elections::settle;
use crate::metadata::image::{MetadataImage, PartitionImage, TopicImage, numbers};
use crate::wire::MetadataRecord;
use crate::wire::metadata_record::PartitionChangeRecord;

/// Records of one batch, each of which is decided against the image that those before it make.
pub(in crate::metadata) struct Draft {
    image: MetadataImage,
    records: Vec<MetadataRecord>,
}

impl Draft {
    pub(in crate::metadata) fn new(image: &MetadataImage) -> Self {
        Self { image: image.clone(), records: Vec::new() }
    }

    /// The image with every record so far.
    pub(in crate::metadata) const fn image(&self) -> &MetadataImage {
        &self.image
    }

    pub(in crate::metadata) fn push(&mut self, record: impl Into<MetadataRecord>) {
        let record = record.into();
        let applied = self.image.apply(self.image.end_offset(), &record);
        assert!(applied.is_ok(), "decided against this image: {applied:?}");
        self.records.push(record);
    }

    /// Makes of every partition of the kind what follows from the brokers as they are.
    pub(in crate::metadata) fn resettle(&mut self, concerns: impl Fn(&PartitionImage) -> bool) {
        for id in partitions(&self.image, concerns) {
            let Some((_, old)) = find(&self.image, id) else { continue };
            let old = old.clone();
            self.settle_as(id, old);
        }
    }

    /// Makes of a partition what follows from `new`.
    pub(in crate::metadata) fn settle_as(&mut self, id: TopicPartition, mut new: PartitionImage) {
        let Some((topic, old)) = find(&self.image, id) else { return };
        settle(&self.image, topic, &mut new);
        if let Some(record) = change_record(id, old, &new) {
            self.push(record);
        }
    }

    pub(in crate::metadata) fn into_records(self) -> Vec<MetadataRecord> {
        self.records
    }
}

/// Returns the partitions of the kind, by topic name and number.
pub(in crate::metadata) fn partitions(
    image: &MetadataImage,
    concerns: impl Fn(&PartitionImage) -> bool,
) -> Vec<TopicPartition> {
    image
        .topics()
        .flat_map(|topic| {
            topic.partitions.iter().zip(0..).map(|(partition, index)| (topic.id, partition, index))
        })
        .filter(|(_, partition, _)| concerns(partition))
        .map(|(topic_id, _, index)| TopicPartition { topic_id, partition: PartitionIndex(index) })
        .collect()
}

/// Returns a partition and its topic.
pub(in crate::metadata) fn find(
    image: &MetadataImage,
    id: TopicPartition,
) -> Option<(&Arc<TopicImage>, &PartitionImage)> {
    let topic = image.topic(id.topic_id)?;
    Some((topic, topic.partition(id.partition)?))
}

/// Returns a partition and its topic by the topic's name.
pub(in crate::metadata) fn find_by_name<'a>(
    image: &'a MetadataImage,
    name: &str,
    index: i32,
) -> Option<(TopicPartition, &'a Arc<TopicImage>, &'a PartitionImage)> {
    let topic = image.topic_by_name(name)?;
    let partition = PartitionIndex(index);
    let id = TopicPartition { topic_id: topic.id, partition };
    Some((id, topic, topic.partition(partition)?))
}

/// Returns the record that makes `new` of a partition, `None` where nothing changes. Where
/// replicas go, an epoch begins under the same leader too, so that nobody of this epoch counts them.
pub(in crate::metadata) fn change_record(
    id: TopicPartition,
    old: &PartitionImage,
    new: &PartitionImage,
) -> Option<PartitionChangeRecord> {
    let has_lost_replicas = old.replicas.iter().any(|node| !new.replicas.contains(node));
    let changed = |old: &[NodeId], new: &[NodeId]| (old != new).then(|| numbers(new));
    let mut record = PartitionChangeRecord {
        partition_id: id.partition.0,
        topic_id: id.topic_id,
        isr: changed(&old.isr, &new.isr),
        replicas: changed(&old.replicas, &new.replicas),
        adding_replicas: changed(&old.adding, &new.adding),
        removing_replicas: changed(&old.removing, &new.removing),
        ..PartitionChangeRecord::default()
    };
    if old.leader != new.leader || has_lost_replicas {
        record.leader = new.leader.0;
    }
    let unchanged = PartitionChangeRecord {
        partition_id: id.partition.0,
        topic_id: id.topic_id,
        ..PartitionChangeRecord::default()
    };
    (record != unchanged).then_some(record)
}

/// Returns whether a node leads any partition.
pub(in crate::metadata) fn leads_anything(image: &MetadataImage, node: NodeId) -> bool {
    image.topics().any(|topic| topic.partitions.iter().any(|it| it.leader == node))
}
