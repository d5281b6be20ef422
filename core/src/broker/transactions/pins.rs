//! What metrics are told of the transactions that hold back readers of committed records.

use crate::broker::shard::Shard;
use crate::ids::TopicPartition;
use crate::io::{Effect, Event};

impl Shard {
    /// Tells what holds the last stable offset of a partition back, where that has changed. It does so only
    /// where the high watermark moves, or the partition is taken up or resigned.
    pub(in crate::broker) fn tell_pin(&mut self, id: TopicPartition) {
        let led = self.partitions.get(&id);
        let by = led.and_then(|partition| self.log.pinned_by(id, partition.high_watermark()));
        if self.transactions.pins.get(&id).copied() == by {
            return;
        }
        match by {
            Some(pin) => self.transactions.pins.insert(id, pin),
            None => self.transactions.pins.remove(&id),
        };
        let topic = self.image.topic(id.topic_id).map_or("", |topic| topic.name.as_str());
        let topic = topic.into();
        self.fx.push(Effect::Observe(Event::Pinned { partition: id, topic, by }));
    }
}
