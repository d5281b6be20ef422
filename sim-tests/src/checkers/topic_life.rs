//! A topic can be used from the answer that it is made, until somebody asks for its deletion; once it is
//! known to be deleted nothing of it is served. No two topics have one id.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicId;

use super::Checker;
use crate::history::Fact;

/// Answers that say that there is no such topic, or none of that id.
const UNKNOWN: [i16; 3] = [3, 100, 103];

/// Follows the life of each topic.
#[derive(Debug, Default)]
pub struct TopicLife {
    created: BTreeMap<TopicId, u64>,
    asked: BTreeSet<TopicId>,
    deleted: BTreeMap<TopicId, u64>,
    evaluations: u64,
}

impl Checker for TopicLife {
    fn id(&self) -> &'static str {
        "T1"
    }

    fn promise(&self) -> &'static str {
        "A topic is usable once its creation is confirmed, and nothing of it is served once its deletion is."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Created { topic_id } => {
                self.evaluations += 1;
                if self.created.insert(*topic_id, at).is_some() {
                    return Err(format!("two topics were made with the id {topic_id}"));
                }
            }
            Fact::AskedDeletion { topic_id } => {
                self.asked.insert(*topic_id);
            }
            Fact::Deleted { topic_id } => {
                self.deleted.entry(*topic_id).or_insert(at);
            }
            Fact::Used { topic_id, what, asked, code } => {
                if let Some(deleted) = self.deleted.get(topic_id)
                    && asked > deleted
                {
                    self.evaluations += 1;
                    if *code == 0 {
                        return Err(format!(
                            "{what:?} of topic {topic_id} was served, asked {} ms after its deletion was \
                             confirmed",
                            (asked - deleted) / 1_000_000
                        ));
                    }
                }
                if let Some(created) = self.created.get(topic_id)
                    && asked >= created
                    && !self.asked.contains(topic_id)
                {
                    self.evaluations += 1;
                    if UNKNOWN.contains(code) {
                        return Err(format!(
                            "{what:?} of topic {topic_id} is answered with code {code}, asked {} ms after \
                             its creation was confirmed",
                            (asked - created) / 1_000_000
                        ));
                    }
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
    use super::super::testing::*;
    use super::*;
    use crate::history::TopicUse;

    const MADE: Fact = Fact::Created { topic_id: P.topic_id };
    const ASKED: Fact = Fact::AskedDeletion { topic_id: P.topic_id };
    const GONE: Fact = Fact::Deleted { topic_id: P.topic_id };

    fn used(asked: u64, code: i16) -> Fact {
        Fact::Used { topic_id: P.topic_id, what: TopicUse::Read, asked, code }
    }

    #[test]
    fn a_life_in_order_passes() {
        // Facts are told at 0, 1, 2 ...: the read of 3 was asked before the deletion was confirmed.
        passes(
            TopicLife::default(),
            &[MADE, used(0, 0), ASKED, used(1, 100), GONE, used(3, 0), used(5, 100)],
        );
    }

    #[test]
    fn a_topic_that_is_unknown_behind_its_creation_is_found() {
        fails(TopicLife::default(), &[MADE, used(0, 100)]);
        verdict(TopicLife::default(), &[MADE, used(0, 6)]).expect("it is only not led yet");
    }

    #[test]
    fn what_is_served_behind_a_deletion_is_found() {
        fails(TopicLife::default(), &[MADE, ASKED, GONE, used(3, 0)]);
    }

    #[test]
    fn an_id_given_twice_is_found() {
        fails(TopicLife::default(), &[MADE, MADE]);
    }
}
