//! I11: a leader waits for every member of the in-sync set; the set holds replicas alone, each complete when
//! it joins, and no fewer than MIN but where the others may have lost what they had.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;
use mainspring_core::observe::ClusterEvent;

use super::ghost::{Decision, Ghost, decision, place};
use crate::checkers::Checker;
use crate::history::Fact;

/// Looks at each decision, and at what leaders wait for whenever they commit.
#[derive(Debug, Default)]
pub struct QuorumSuperset {
    ghost: Ghost,
    /// Every decision, by its number.
    decisions: BTreeMap<(TopicPartition, i32), Decision>,
    /// Nodes that lost what they had.
    emptied: BTreeMap<usize, Emptied>,
    evaluations: u64,
}

/// A node that lost what it had. What was decided about it before it was registered again was right when it was
/// asked for; that is what it knows of when it first serves.
#[derive(Debug, Default)]
struct Emptied {
    serves: bool,
    known: BTreeMap<TopicPartition, i32>,
}

impl QuorumSuperset {
    fn decided(&mut self, partition: TopicPartition, decided: &Decision) -> Result<(), String> {
        self.evaluations += 1;
        let number = decided.partition_epoch;
        let known = self.decisions.entry((partition, number)).or_insert_with(|| decided.clone());
        if known != decided {
            return Err(format!(
                "decision {number} of {partition} is {decided:?} on one node and {known:?} on another"
            ));
        }
        let Decision { leader, replicas, isr, .. } = decided;
        if let Some(stranger) = isr.iter().find(|member| !replicas.contains(member)) {
            return Err(format!("{stranger:?} is in sync with {partition} and no replica of it"));
        }
        if leader.is_some_and(|leader| !isr.contains(&leader)) {
            return Err(format!("{leader:?} leads {partition} and is not in sync: {isr:?}"));
        }
        let ghost = &self.ghost;
        let least = ghost.least_copies(partition).unwrap_or(1).min(replicas.len());
        let out = replicas.iter().filter(|it| !isr.contains(it));
        let incomplete = out.filter(|it| ghost.was_reverted(place(**it))).count();
        if isr.len() + incomplete < least && ghost.committed(partition).is_some() {
            return Err(format!(
                "decision {number} of {partition} leaves {isr:?} in sync, and {least} must be"
            ));
        }
        // Whoever joins has everything.
        let before = ghost.decided(partition).filter(|before| before.partition_epoch < number);
        let (Some(before), Some(committed)) = (before, ghost.committed(partition)) else {
            return Ok(());
        };
        let joins = isr.iter().filter(|member| !before.isr.contains(member)).map(|id| place(*id));
        for node in joins {
            let is_excused = self.emptied.get(&node).is_some_and(|it| {
                !it.serves || it.known.get(&partition).is_some_and(|&known| number <= known)
            });
            if committed.end > 0 && !is_excused && !ghost.has_copy(partition, node, committed.end) {
                let log = ghost.log(partition, node);
                return Err(format!(
                    "node {node} is taken for in sync with {partition}, of which {} is committed and it has \
                     flushed {:?}: {}",
                    committed.end,
                    log.map(|log| log.durable),
                    log.map_or(String::new(), |log| committed.difference(log))
                ));
            }
        }
        Ok(())
    }

    /// Follows what becomes of nodes that lost what they had.
    fn follow(&mut self, fact: &Fact) {
        match fact {
            Fact::Reverted { node } => {
                self.emptied.insert(*node, Emptied::default());
            }
            Fact::Ready { node } => {
                if let Some(emptied) = self.emptied.get_mut(node) {
                    emptied.serves = true;
                }
            }
            Fact::Reported {
                node,
                event: ClusterEvent::Decided { partition, partition_epoch, .. },
            } => {
                if let Some(emptied) = self.emptied.get_mut(node).filter(|it| !it.serves) {
                    emptied.known.insert(*partition, *partition_epoch);
                }
            }
            _ => {}
        }
    }

    fn commits(&mut self, node: usize, partition: TopicPartition) -> Result<(), String> {
        let ghost = &self.ghost;
        let Some(epoch) = ghost.leading(partition, node) else { return Ok(()) };
        let (Some(decided), Some(members)) =
            (ghost.of_epoch(partition, epoch), ghost.quorum(partition, node))
        else {
            return Ok(());
        };
        self.evaluations += 1;
        match decided.isr.iter().find(|member| !members.contains(member)) {
            Some(member) => Err(format!(
                "node {node} leads epoch {epoch} of {partition} and waits for {members:?}, and {member:?} is in \
                 sync"
            )),
            None => Ok(()),
        }
    }
}

impl Checker for QuorumSuperset {
    fn id(&self) -> &'static str {
        "I11"
    }

    fn promise(&self) -> &'static str {
        "A leader waits for everyone who is in sync, and whoever is in sync has everything that is committed."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        let verdict = match fact {
            Fact::Reported { event: event @ ClusterEvent::Decided { partition, .. }, .. } => {
                let newest = self.ghost.decided(*partition).map_or(-1, |it| it.partition_epoch);
                match decision(event) {
                    // What a start tells again is old, and must only be the same.
                    Some(it) if it.partition_epoch > newest => self.decided(*partition, &it),
                    Some(it) => match self.decisions.get(&(*partition, it.partition_epoch)) {
                        Some(known) if *known != it => Err(format!(
                            "decision {} of {partition} is {it:?} on one node and {known:?} on another",
                            it.partition_epoch
                        )),
                        _ => Ok(()),
                    },
                    None => Ok(()),
                }
            }
            Fact::HighWatermark { node, partition, offset } => {
                let before = self.ghost.committed(*partition).map_or(0, |it| it.end);
                if *offset > before { self.commits(*node, *partition) } else { Ok(()) }
            }
            _ => Ok(()),
        };
        self.follow(fact);
        self.ghost.observe(fact);
        verdict
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_set_that_shrinks_and_grows_again_passes() {
        let story = [
            decided(2, Some(0), 1, &[0, 1]),
            waits_for(0, 1, &[0, 1]),
            decided(2, Some(0), 1, &[0, 1]),
            waits_for(0, 1, &[0, 1, 2]),
            decided(3, Some(0), 1, &[0, 1, 2]),
            high(0, 2),
        ];
        passes(QuorumSuperset::default(), &then(&story));
    }

    #[test]
    fn a_leader_that_does_not_wait_for_all_in_sync_is_found() {
        let mut facts = then(&[waits_for(0, 1, &[0, 1]), took(0, 2, 1, 30), flushed(0, 3)]);
        passes(QuorumSuperset::default(), &facts);
        facts.push(high(0, 3));
        fails(QuorumSuperset::default(), &facts);
    }

    #[test]
    fn a_member_that_joins_without_everything_is_found() {
        let story = |end| {
            [cut(2, end), decided(2, Some(0), 1, &[0, 1]), decided(3, Some(0), 1, &[0, 1, 2])]
        };
        passes(QuorumSuperset::default(), &then(&story(2)));
        fails(QuorumSuperset::default(), &then(&story(1)));
    }

    #[test]
    fn sets_that_cannot_be_are_found() {
        // One that is no replica, a leader that is not in sync, too few, and two that are one decision.
        fails(QuorumSuperset::default(), &then(&[decided_with(2, Some(0), 1, (&[0, 1], &[0, 2]))]));
        fails(QuorumSuperset::default(), &then(&[decided(2, Some(2), 2, &[0, 1])]));
        fails(QuorumSuperset::default(), &then(&[decided(2, Some(0), 1, &[0])]));
        let two = [decided(2, Some(0), 1, &[0, 1]), decided(2, Some(0), 1, &[0, 2])];
        fails(QuorumSuperset::default(), &then(&two));
    }

    #[test]
    fn fewer_than_enough_may_stay_where_the_others_have_lost_what_they_had() {
        let lost = [1, 2].map(|node| Fact::Reverted { node });
        let mut facts = then(&lost);
        facts.push(decided(2, Some(0), 1, &[0]));
        passes(QuorumSuperset::default(), &facts);
    }

    #[test]
    fn who_lost_everything_may_still_be_taken_in_once_and_not_again() {
        let ready = Fact::Ready { node: 2 };
        let told = |fact: Fact| match fact {
            Fact::Reported { event, .. } => Fact::Reported { node: 2, event },
            other => other,
        };
        let story = |known: Fact| {
            [
                Fact::Reverted { node: 2 },
                opened(2, 0),
                told(known),
                ready.clone(),
                decided(2, Some(0), 1, &[0, 1]),
                decided(3, Some(0), 1, &[0, 1, 2]),
            ]
        };
        let on_its_way = decided(3, Some(0), 1, &[0, 1, 2]);
        passes(QuorumSuperset::default(), &then(&story(on_its_way)));
        fails(QuorumSuperset::default(), &then(&story(decided(1, Some(0), 1, &[0, 1, 2]))));
    }
}
