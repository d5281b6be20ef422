//! Every behaviour of a small world, within bounds: no chance, and no choice left out.
//!
//! A [`Model`](search::Model) says what may happen in a state; the search takes each of these steps,
//! in every state that it has not met before, nearest first. A state is known by a hash of everything
//! that what follows depends on: the digests of the shards, messages on their way, the disk with what
//! is pending and in flight, and what clients know. If no new state is left, the search is closed:
//! within the model nothing else can happen.

pub mod groups;
mod images;
pub mod logs;
mod messages;
mod node;
pub mod search;

use groups::{GroupModel, GroupModelOptions};
use logs::{LogModel, LogModelOptions};
use search::{Bounds, Report, search};

/// A model that can be explored by its name.
#[derive(Debug)]
pub struct Exploration {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// Whether every state can be reached within seconds.
    pub closes: bool,
    /// Looks at every state within the bounds.
    pub explore: fn(Bounds) -> Report,
}

/// A small world of logs.
const LOGS: LogModelOptions = LogModelOptions {
    shards: 1,
    partitions: 1,
    idempotent: 2,
    plain: 1,
    plain_bytes: 5_000,
    reads: false,
    kills: 0,
    power_cuts: 0,
    resets: 0,
    horizon_ms: 0,
    // A file is neither half full nor full in such a world: what the ring does then is `log`'s subject.
    journal_bytes: 192 << 10,
    units: 8,
};

/// A small group.
const GROUP: GroupModelOptions = GroupModelOptions {
    members: 2,
    partitions: 1,
    joins: 1,
    commits: 1,
    beats: 0,
    leaves: 0,
    reads: 0,
    kills: 0,
    power_cuts: 0,
    horizon_ms: 10,
};

fn explore_log(options: LogModelOptions, bounds: Bounds) -> Report {
    search(&mut LogModel::new(options), bounds)
}

fn explore_group(options: GroupModelOptions, bounds: Bounds) -> Report {
    search(&mut GroupModel::new(options), bounds)
}

/// Every model, in order of their names. Those with an adjective close within seconds.
pub const ALL: &[Exploration] = &[
    Exploration {
        name: "group",
        about: "2 members, 2 partitions, 2 rounds each, expiry, a leave, commits, a crash of each kind",
        closes: false,
        explore: |bounds| {
            let options = GroupModelOptions {
                partitions: 2,
                joins: 2,
                beats: 1,
                leaves: 1,
                reads: 1,
                kills: 1,
                power_cuts: 1,
                horizon_ms: 310,
                ..GROUP
            };
            explore_group(options, bounds)
        },
    },
    Exploration {
        name: "group-crashing",
        about: "2 members, 1 partition, commits, 1 death of the coordinator",
        closes: true,
        explore: |bounds| explore_group(GroupModelOptions { kills: 1, ..GROUP }, bounds),
    },
    Exploration {
        name: "group-expiring",
        about: "2 members, 1 partition, commits, sessions that expire",
        closes: true,
        explore: |bounds| explore_group(GroupModelOptions { horizon_ms: 160, ..GROUP }, bounds),
    },
    Exploration {
        name: "log",
        about: "2 producers, 1 reader, 2 partitions, 2 crashes of each kind, a broken connection, timers",
        closes: false,
        explore: |bounds| {
            let options = LogModelOptions {
                partitions: 2,
                plain: 2,
                reads: true,
                kills: 2,
                power_cuts: 2,
                resets: 1,
                horizon_ms: 1_500,
                journal_bytes: 32 << 10,
                ..LOGS
            };
            explore_log(options, bounds)
        },
    },
    Exploration {
        name: "log-dying",
        about: "2 producers, 1 reader, 2 partitions, 1 death of the process",
        closes: true,
        explore: |bounds| {
            let options =
                LogModelOptions { partitions: 2, plain: 2, reads: true, kills: 1, ..LOGS };
            explore_log(options, bounds)
        },
    },
    Exploration {
        name: "log-retrying",
        about: "2 producers, 1 partition, 1 death of the process, a broken connection",
        closes: true,
        explore: |bounds| explore_log(LogModelOptions { kills: 1, resets: 1, ..LOGS }, bounds),
    },
    Exploration {
        name: "log-sharded",
        about: "2 producers, 3 shards, 2 partitions, 1 death of the process",
        closes: true,
        explore: |bounds| {
            let options = LogModelOptions { shards: 3, partitions: 2, kills: 1, ..LOGS };
            explore_log(options, bounds)
        },
    },
    Exploration {
        name: "log-unpowered",
        about: "2 producers, 1 reader, 1 partition, 1 power cut",
        closes: true,
        explore: |bounds| {
            explore_log(LogModelOptions { reads: true, power_cuts: 1, ..LOGS }, bounds)
        },
    },
];

/// Returns a model by its name.
pub fn find(name: &str) -> Option<&'static Exploration> {
    ALL.iter().find(|exploration| exploration.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Explores a model whole.
    fn closed(name: &str) -> Report {
        let model = find(name).expect("a model");
        let report = (model.explore)(Bounds { states: 200_000, depth: u32::MAX });
        assert!(report.broken.is_none(), "{:?}", report.broken);
        assert!(model.closes && report.closed && report.terminal > 0, "{report:?}");
        report
    }

    fn count(report: &Report, what: &str) -> u64 {
        report.counts.iter().find(|(name, _)| *name == what).map_or(0, |(_, count)| *count)
    }

    #[test]
    fn wherever_the_process_dies_a_small_log_keeps_its_promises() {
        let report = closed("log-retrying");
        assert!(report.states > 1_000 && count(&report, "crashes") > 100, "{report:?}");
    }

    #[test]
    fn whatever_a_power_cut_takes_a_small_log_keeps_its_promises() {
        let report = closed("log-unpowered");
        assert!(report.states > 1_000 && count(&report, "images recovered") > 50, "{report:?}");
    }

    #[test]
    fn in_whatever_order_shards_hear_of_each_other_a_small_log_keeps_its_promises() {
        let report = closed("log-sharded");
        assert!(report.states > 1_000, "{report:?}");
    }

    #[test]
    fn with_two_partitions_and_a_reader_a_small_log_keeps_its_promises() {
        let report = closed("log-dying");
        assert!(report.states > 10_000, "{report:?}");
    }

    #[test]
    fn in_whatever_order_members_come_and_expire_a_group_keeps_its_promises() {
        let report = closed("group-expiring");
        assert!(report.states > 500, "{report:?}");
        assert!(count(&report, "commits accepted") > 0, "{report:?}");
        assert!(count(&report, "commits refused") > 0, "{report:?}");
    }

    #[test]
    fn wherever_its_coordinator_dies_a_group_keeps_its_promises() {
        let report = closed("group-crashing");
        assert!(count(&report, "crashes") > 100, "{report:?}");
        assert!(count(&report, "commits accepted") > 0, "{report:?}");
    }
}
