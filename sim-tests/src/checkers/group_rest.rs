//! L6: a group comes to rest in time once the faults are over.

use std::collections::BTreeMap;

use super::Checker;
use crate::history::Fact;

/// Waits for each group.
#[derive(Debug, Default)]
pub struct GroupRest {
    due: BTreeMap<u32, u64>,
    rested: BTreeMap<u32, u64>,
    evaluations: u64,
}

impl Checker for GroupRest {
    fn id(&self) -> &'static str {
        "L6"
    }

    fn promise(&self) -> &'static str {
        "A group comes to rest in time once the faults are over."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::GroupHealed { group, within } => {
                self.due.entry(*group).or_insert(at + within);
            }
            Fact::GroupAtRest { group, .. } => {
                self.evaluations += 1;
                self.rested.insert(*group, at);
                if let Some(due) = self.due.get(group).filter(|due| at > **due) {
                    return Err(format!(
                        "group {group} came to rest {} ms after it was due",
                        (at - due) / 1_000_000
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        match self.due.keys().find(|group| !self.rested.contains_key(group)) {
            Some(group) => Err(format!("group {group} never came to rest")),
            None => Ok(()),
        }
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
    fn a_group_that_rests_late_or_never_is_found() {
        let healed = |within| Fact::GroupHealed { group: 0, within };
        let rest = Fact::GroupAtRest {
            group: 0,
            client: 1,
            generation: 1,
            partitions: vec![],
            members: 1,
            total: 0,
        };
        passes(GroupRest::default(), &[healed(2), rest.clone()]);
        fails(GroupRest::default(), &[healed(0), rest]);
        fails(GroupRest::default(), &[healed(0)]);
    }
}
