//! I12: the metadata quorum. One leader in each epoch, one vote of each node in each epoch and none that power
//! loss could take back, and the same image wherever the same records are applied.
//!
//! That its logs match and its leaders are complete is held by I01R, I02, I06R and I08, to which the metadata
//! log is a partition as any other.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;
use mainspring_core::observe::ClusterEvent;

use crate::checkers::Checker;
use crate::history::Fact;

/// Remembers who was elected, who voted for whom, and what images looked like.
#[derive(Debug, Default)]
pub struct MetadataQuorum {
    elected: BTreeMap<i32, usize>,
    votes: BTreeMap<(usize, i32), i32>,
    images: BTreeMap<i64, (u64, usize)>,
    evaluations: u64,
}

impl MetadataQuorum {
    fn votes(
        &mut self,
        node: usize,
        (epoch, candidate): (i32, i32),
        durable: Option<(i32, i32)>,
    ) -> Result<(), String> {
        self.evaluations += 1;
        let before = *self.votes.entry((node, epoch)).or_insert(candidate);
        if before != candidate {
            return Err(format!(
                "node {node} votes in epoch {epoch} for the node with the id {candidate}, and has voted for \
                 {before}"
            ));
        }
        // -1 stands for a candidate that a disk has not noted.
        let keeps = |(kept, whom): (i32, i32)| {
            kept > epoch || kept == epoch && (whom == candidate || whom == -1)
        };
        match durable {
            Some(kept) if !keeps(kept) => Err(format!(
                "node {node} votes in epoch {epoch} for {candidate}, and its disk keeps a vote of epoch {} for {}",
                kept.0, kept.1
            )),
            _ => Ok(()),
        }
    }
}

impl Checker for MetadataQuorum {
    fn id(&self) -> &'static str {
        "I12"
    }

    fn promise(&self) -> &'static str {
        "The metadata log has one leader in each epoch, a vote is durable before anybody hears of it, and the \
         same records make the same image everywhere."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Voted { node, vote, durable } => self.votes(*node, *vote, *durable),
            // An empty disk is another replica, which has not voted.
            Fact::Reverted { node } => {
                self.votes.retain(|(voter, _), _| voter != node);
                Ok(())
            }
            Fact::Reported {
                node,
                event:
                    ClusterEvent::Led {
                        partition: TopicPartition::CLUSTER_METADATA, leader_epoch, ..
                    },
            } => {
                self.evaluations += 1;
                let leader = *self.elected.entry(leader_epoch.0).or_insert(*node);
                if leader == *node {
                    return Ok(());
                }
                Err(format!(
                    "nodes {leader} and {node} are both elected for epoch {leader_epoch} of the metadata log"
                ))
            }
            Fact::Reported { node, event: ClusterEvent::Applied { end, digest } } => {
                self.evaluations += 1;
                let (first, whose) = *self.images.entry(end.0).or_insert((*digest, *node));
                if first == *digest {
                    return Ok(());
                }
                Err(format!(
                    "the metadata up to offset {end} is {digest:016x} on node {node} and {first:016x} on node \
                     {whose}"
                ))
            }
            _ => Ok(()),
        }
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use mainspring_core::ids::Offset;

    use super::super::testing::*;
    use super::*;

    fn votes(node: usize, vote: (i32, i32), durable: (i32, i32)) -> Fact {
        Fact::Voted { node, vote, durable: Some(durable) }
    }

    fn applied(node: usize, end: i64, digest: u64) -> Fact {
        told(node, ClusterEvent::Applied { end: Offset(end), digest })
    }

    #[test]
    fn one_leader_for_each_epoch_passes_and_two_are_found() {
        let first = led_of(META, 0, 1, 0);
        passes(MetadataQuorum::default(), &[first.clone(), led_of(META, 1, 2, 0), first.clone()]);
        fails(MetadataQuorum::default(), &[first, led_of(META, 1, 1, 0)]);
    }

    #[test]
    fn a_second_vote_in_an_epoch_is_found() {
        let first = votes(0, (3, 1), (3, 1));
        passes(
            MetadataQuorum::default(),
            &[first.clone(), votes(0, (4, 2), (4, 2)), first.clone()],
        );
        fails(MetadataQuorum::default(), &[first, votes(0, (3, 2), (3, 2))]);
    }

    #[test]
    fn a_vote_that_leaves_before_it_is_durable_is_found() {
        fails(MetadataQuorum::default(), &[votes(0, (3, 1), (2, 1))]);
        fails(MetadataQuorum::default(), &[votes(0, (3, 1), (3, 2))]);
    }

    #[test]
    fn an_image_that_differs_at_the_same_offset_is_found() {
        passes(MetadataQuorum::default(), &[applied(0, 5, 7), applied(1, 5, 7), applied(1, 6, 8)]);
        fails(MetadataQuorum::default(), &[applied(0, 5, 7), applied(1, 5, 8)]);
    }
}
