//! I26, for a group with a single writer: the offset that is found is the last one that was stored, and was
//! stored for that very topic, not for one that had its name before.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::Fact;

/// Follows what each client commits to the group that it alone has.
#[derive(Debug, Default)]
pub struct OffsetsOfTopic {
    /// What may be found: the last that was confirmed, and those asked for since.
    possible: BTreeMap<(usize, TopicPartition), Vec<i64>>,
    evaluations: u64,
}

impl Checker for OffsetsOfTopic {
    fn id(&self) -> &'static str {
        "T2"
    }

    fn promise(&self) -> &'static str {
        "A committed offset is the last one stored for that very topic, and goes with it: one made again \
         under the same name begins without."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::OffsetAsked { client, partition, offset } => {
                let none_yet = || vec![-1];
                let place = (*client, *partition);
                self.possible.entry(place).or_insert_with(none_yet).push(*offset);
            }
            Fact::OffsetStored { client, partition, offset } => {
                let possible = self.possible.entry((*client, *partition)).or_default();
                possible.retain(|other| other >= offset);
            }
            Fact::OffsetFound { client, partition, offset } => {
                self.evaluations += 1;
                let possible = self.possible.get(&(*client, *partition));
                let possible = possible.map_or(&[-1][..], Vec::as_slice);
                if !possible.contains(offset) {
                    return Err(format!(
                        "client {client} finds offset {offset} committed for {partition}, where only \
                         {possible:?} can be"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use mainspring_core::ids::Uuid;

    use super::super::testing::*;
    use super::*;

    const AGAIN: TopicPartition = TopicPartition { topic_id: Uuid([8; 16]), ..P };

    fn asked(offset: i64) -> Fact {
        Fact::OffsetAsked { client: 1, partition: P, offset }
    }

    fn stored(offset: i64) -> Fact {
        Fact::OffsetStored { client: 1, partition: P, offset }
    }

    fn found(partition: TopicPartition, offset: i64) -> Fact {
        Fact::OffsetFound { client: 1, partition, offset }
    }

    #[test]
    fn the_last_that_was_stored_or_one_in_doubt_is_found() {
        passes(
            OffsetsOfTopic::default(),
            &[found(P, -1), asked(7), stored(7), found(P, 7), asked(9), found(P, 9), found(P, 7)],
        );
    }

    #[test]
    fn an_offset_that_is_lost_or_older_is_found() {
        fails(OffsetsOfTopic::default(), &[asked(7), stored(7), found(P, -1)]);
        fails(OffsetsOfTopic::default(), &[asked(7), stored(7), asked(9), stored(9), found(P, 7)]);
    }

    #[test]
    fn an_offset_of_the_topic_that_had_the_name_before_is_found() {
        fails(OffsetsOfTopic::default(), &[asked(7), stored(7), found(AGAIN, 7)]);
    }
}
