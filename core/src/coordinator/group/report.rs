//! What others want to know of a coordinator, besides its answers: nothing is decided by it.

use std::collections::BTreeSet;

use super::GroupCoordinator;
use super::live::GroupPhase;
use crate::ids::{PartitionIndex, TopicId};
use crate::wire::KafkaString;

impl GroupCoordinator {
    /// Returns how many groups are in each state, by Kafka's name of it.
    pub fn states(&self) -> [(&'static str, usize); 4] {
        let mut counts = [
            GroupPhase::Empty,
            GroupPhase::PreparingRebalance,
            GroupPhase::CompletingRebalance,
            GroupPhase::Stable,
        ]
        .map(|phase| (phase.name(), 0));
        for group in self.groups.values() {
            let name = group.phase().name();
            for (state, count) in &mut counts {
                *count += usize::from(*state == name);
            }
        }
        counts
    }

    /// Returns the topics that offsets are stored or staged of, by name and id.
    pub fn topics(&self) -> BTreeSet<(KafkaString, TopicId)> {
        let topics = self.stored.all_offsets().values().flatten();
        let stored = topics.flat_map(|(name, partitions)| {
            partitions.values().map(|stored| (name.clone(), stored.topic_id))
        });
        let staged = self.stored.staged().iter();
        stored.chain(staged.map(|((_, name, _), topic_id)| (name.clone(), topic_id))).collect()
    }

    /// Returns every stored offset: group, topic, partition, the topic's id, the offset.
    pub fn offsets(
        &self,
    ) -> impl Iterator<Item = (&KafkaString, &KafkaString, PartitionIndex, TopicId, i64)> {
        self.stored.all_offsets().iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, partitions)| {
                partitions.iter().map(move |(&partition, stored)| {
                    let partition = PartitionIndex(partition);
                    (group, topic, partition, stored.topic_id, stored.offset)
                })
            })
        })
    }
}
