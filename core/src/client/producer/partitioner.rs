//! Chooses the partition of a record that names none.
//!
//! Records with a key go where Java's client sends them: murmur2 of the key (KIP-480 leaves that
//! alone). Where the others go is a setting, [`Unkeyed`].

use crate::client::metadata::Topic;
use crate::ids::PartitionIndex;

/// Where records go that have no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unkeyed {
    /// They stay with a partition until its batch is full, or a batch's size of them has gone there,
    /// then go on to the next that has a leader (KIP-480, 794): fewer and larger batches.
    #[default]
    Sticky,
    /// Each goes to the next partition that has a leader.
    RoundRobin,
}

/// Chooses partitions of one topic, and remembers where records without keys go.
#[derive(Clone, Debug, Default)]
pub struct Partitioner {
    unkeyed: Unkeyed,
    /// Where the last record without a key went.
    last: Option<PartitionIndex>,
}

impl Partitioner {
    /// One that treats records without keys in this way.
    pub const fn new(unkeyed: Unkeyed) -> Self {
        Self { unkeyed, last: None }
    }

    /// Returns the partition of a key among `count`, which is at least 1.
    pub fn of_key(key: &[u8], count: u32) -> PartitionIndex {
        PartitionIndex(((murmur2(key) & 0x7fff_ffff) % count.max(1)) as i32)
    }

    /// Returns the partition of a record. `topic` has at least one.
    pub fn choose(&mut self, topic: &Topic, key: Option<&[u8]>) -> PartitionIndex {
        if let Some(key) = key {
            return Self::of_key(key, topic.leaders.len() as u32);
        }
        match self.last {
            Some(partition)
                if self.unkeyed == Unkeyed::Sticky
                    && topic.leaders.get(&partition).is_some_and(Option::is_some) =>
            {
                partition
            }
            Some(_) | None => self.move_on(topic),
        }
    }

    /// Leaves the partition where records without keys go, since its batch is closed.
    pub fn move_on(&mut self, topic: &Topic) -> PartitionIndex {
        let last = self.last.unwrap_or(PartitionIndex(-1));
        let open = |(partition, leader): (&PartitionIndex, &Option<_>)| leader.map(|_| *partition);
        let after = topic.leaders.range(PartitionIndex(last.0.saturating_add(1))..);
        let next = after.chain(topic.leaders.iter()).find_map(open).unwrap_or(PartitionIndex(0));
        self.last = Some(next);
        next
    }
}

/// The hash with which Java's client spreads keys.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::metadata::Leader;
    use crate::ids::{LeaderEpoch, NodeId, Uuid};

    fn topic(leaders: &[bool]) -> Topic {
        let leader = Leader { node: NodeId(1), epoch: LeaderEpoch(0) };
        Topic {
            is_internal: false,
            topic_id: Uuid::ZERO,
            leaders: (0..)
                .map(PartitionIndex)
                .zip(leaders.iter().map(|&up| up.then_some(leader)))
                .collect(),
        }
    }

    #[test]
    fn keys_are_hashed_as_javas_client_hashes_them() {
        // Values that Apache Kafka's own unit test states (UtilsTest.testMurmur2).
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key) as i32, expected, "{key:?}");
        }
    }

    #[test]
    fn a_key_always_goes_to_the_same_partition_even_without_a_leader() {
        let mut partitioner = Partitioner::default();
        let all_up = partitioner.choose(&topic(&[true; 7]), Some(b"abc"));
        let all_down = partitioner.choose(&topic(&[false; 7]), Some(b"abc"));
        assert_eq!(all_up, PartitionIndex(479_470_107 % 7));
        assert_eq!(all_up, all_down);
    }

    #[test]
    fn records_without_keys_stay_until_told_to_move_on_and_pass_over_leaderless_partitions() {
        let mut partitioner = Partitioner::default();
        let topic = topic(&[true, false, true]);
        assert_eq!(partitioner.choose(&topic, None), PartitionIndex(0));
        assert_eq!(partitioner.choose(&topic, None), PartitionIndex(0));
        assert_eq!(partitioner.move_on(&topic), PartitionIndex(2));
        assert_eq!(partitioner.choose(&topic, None), PartitionIndex(2));
        assert_eq!(partitioner.move_on(&topic), PartitionIndex(0));
    }

    #[test]
    fn in_turn_each_record_without_a_key_goes_to_the_next_partition_that_has_a_leader() {
        let mut partitioner = Partitioner::new(Unkeyed::RoundRobin);
        let topic = topic(&[true, false, true]);
        let keyed = partitioner.choose(&topic, Some(b"abc"));
        assert_eq!(keyed, PartitionIndex(479_470_107 % 3));
        let chosen: Vec<i32> = (0..4).map(|_| partitioner.choose(&topic, None).0).collect();
        assert_eq!(chosen, [0, 2, 0, 2]);
    }
}
