//! L3: a request in good order is answered with success or with an error that passes: nothing that a
//! client did right is refused for good, whatever the faults.

use super::Checker;
use crate::history::Fact;

/// How long after the last fault requests may still meet what it has left, in nanoseconds.
const EASE: u64 = 10_000_000_000;

/// Looks at refusals, of which a correct client in a healthy world sees none.
#[derive(Debug, Default)]
pub struct Refusals {
    starts_move: bool,
    is_troubled: bool,
    is_cluster: bool,
    /// The nodes of a cluster that are well in the end.
    core: Option<Vec<usize>>,
    /// Since when nothing strikes any more.
    healed: Option<u64>,
    evaluations: u64,
}

impl Checker for Refusals {
    fn id(&self) -> &'static str {
        "L3"
    }

    fn promise(&self) -> &'static str {
        "What a client asks for in good order succeeds in the end; it is refused only with errors that pass."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Acked { .. } | Fact::EntryTaken { .. } | Fact::Read { .. } => {
                self.evaluations += 1;
            }
            Fact::Retention { .. } | Fact::AskedPurge { .. } => self.starts_move = true,
            Fact::Healed { .. } => self.healed = Some(at),
            // Of a connection made before, the other end may have died without a word.
            Fact::Unanswered { node, .. }
                if self.core.as_ref().is_some_and(|core| !core.contains(node)) => {}
            Fact::Unanswered { since, opened, .. }
                if self.healed.is_some_and(|healed| *opened > healed && *since > healed + EASE) =>
            {
                return Err(format!(
                    "a request of {}.{:03} s was never answered, though nothing strikes any more",
                    since / 1_000_000_000,
                    since / 1_000_000 % 1_000
                ));
            }
            Fact::Cluster { .. } => self.is_cluster = true,
            Fact::Core { nodes } => self.core = Some(nodes.clone()),
            // There is no leader yet, an epoch is not the one that a replica knows, or a new leader does not
            // know yet how far the one before had come.
            Fact::ReadFailed { code: 5 | 74 | 75 | 78, .. } if self.is_cluster => {}
            Fact::Troubled { .. } => self.is_troubled = true,
            // A disk that does not read what it holds, or reads something else, and a log directory that has failed.
            Fact::ReadFailed { code: 2 | 56, .. } if self.is_troubled => {}
            // The client gave up by itself; a node that stops leads nothing any more.
            Fact::Refused { code: 0, .. } | Fact::ReadFailed { code: 6, .. } => {}
            Fact::Refused { operation, code } => {
                return Err(format!("{operation:?} was refused for good with code {code}"));
            }
            // An offset that was there when the client last looked may be gone where starts move.
            Fact::ReadFailed { code: 1, .. } if self.starts_move => {}
            Fact::ReadFailed { partition, code } => {
                return Err(format!("a read of {partition} was answered with code {code}"));
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

    #[test]
    fn a_send_that_is_refused_for_good_is_found() {
        let refused = |code| [acked(0, 0), Fact::Refused { operation: op(1), code }];
        passes(Refusals::default(), &refused(0));
        fails(Refusals::default(), &refused(-1));
        fails(Refusals::default(), &refused(47));
    }

    #[test]
    fn a_request_that_is_never_answered_is_found_once_all_is_well() {
        let healed = Fact::Healed { node: 0, serves: true };
        let opened = 50;
        let request = |opened, since| Fact::Unanswered { node: 0, since, opened };
        let after = |fact: Fact| [acked(0, 0), healed.clone(), fact];
        passes(Refusals::default(), &after(request(opened, EASE)));
        fails(Refusals::default(), &after(request(opened, EASE + 5)));
        passes(Refusals::default(), &[acked(0, 0), request(opened, EASE + 5)]);
        // Its other end may have died without a word before all was well.
        passes(Refusals::default(), &after(request(0, EASE + 5)));
    }

    #[test]
    fn a_node_that_a_cluster_has_lost_owes_no_answer() {
        let request = |node| Fact::Unanswered { node, since: EASE + 5, opened: 50 };
        let after = |fact: Fact| {
            let healed = Fact::Healed { node: 0, serves: true };
            [acked(0, 0), healed, Fact::Core { nodes: vec![0, 1] }, fact]
        };
        passes(Refusals::default(), &after(request(2)));
        fails(Refusals::default(), &after(request(1)));
    }

    #[test]
    fn a_cluster_may_say_that_a_leader_is_not_there_yet() {
        let failed = [read(0, &[], 0), Fact::ReadFailed { partition: P, code: 78 }];
        fails(Refusals::default(), &failed);
        let cluster = Fact::Cluster { nodes: 3, min_in_sync: 2 };
        passes(Refusals::default(), &[&[cluster], &failed[..]].concat());
    }

    #[test]
    fn a_read_that_fails_is_found_unless_its_offset_may_be_gone() {
        let failed = |code| [read(0, &[], 0), Fact::ReadFailed { partition: P, code }];
        fails(Refusals::default(), &failed(1));
        fails(Refusals::default(), &failed(2));
        fails(Refusals::default(), &failed(56));
        let troubled = |code| [&[Fact::Troubled { node: 0 }], &failed(code)[..]].concat();
        passes(Refusals::default(), &troubled(2));
        passes(Refusals::default(), &troubled(56));
        fails(Refusals::default(), &troubled(3));
        let purged = Fact::AskedPurge { partition: P, before: 1 };
        passes(Refusals::default(), &[&[purged], &failed(1)[..]].concat());
    }
}
