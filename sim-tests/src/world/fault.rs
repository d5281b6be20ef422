//! Faults as data: a plan of what strikes when, drawn before the run begins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One fault. Its kind and its values stand by their names in the files of schedules.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The process of a node dies behind that many further effects; it starts again later.
    Kill {
        /// The node.
        node: usize,
        /// How many effects are still carried out.
        effects: u32,
        /// How long it stays down, in nanoseconds.
        down: u64,
    },
    /// A node loses power behind that many further effects.
    PowerCut {
        /// The node.
        node: usize,
        /// How many effects are still carried out.
        effects: u32,
        /// How long it stays down, in nanoseconds.
        down: u64,
    },
    /// A node is told to stop, and starts again.
    Stop {
        /// The node.
        node: usize,
        /// How long it stays down, in nanoseconds.
        down: u64,
    },
    /// A node does nothing for a while and then goes on.
    Pause {
        /// The node.
        node: usize,
        /// For how long, in nanoseconds.
        time: u64,
    },
    /// The wall clock of a node jumps.
    WallJump {
        /// The node.
        node: usize,
        /// By how much it is wrong then, in milliseconds.
        millis: i64,
    },
    /// The clocks of a node begin to drift.
    Drift {
        /// The node.
        node: usize,
        /// By how much, in millionths.
        ppm: i64,
    },
    /// Every stream of a node is reset.
    ResetStreams {
        /// The node.
        node: usize,
    },
    /// Nothing passes from (or to) the clients for a while.
    Cut {
        /// The node.
        node: usize,
        /// Whether what the node sends is held, rather than what it is sent.
        outbound: bool,
        /// For how long, in nanoseconds.
        time: u64,
    },
    /// The disk of a node has that little room left for a while.
    DiskFull {
        /// The node.
        node: usize,
        /// How many bytes are left.
        room: u64,
        /// For how long, in nanoseconds.
        time: u64,
    },
    /// Flushes of a node fail for a while. The node may give up.
    FlushErrors {
        /// The node.
        node: usize,
        /// For how long, in nanoseconds.
        time: u64,
    },
    /// Reads of a node fail at times for a while.
    ReadErrors {
        /// The node.
        node: usize,
        /// For how long, in nanoseconds.
        time: u64,
    },
    /// The disk of a node becomes slow for a while.
    SlowDisk {
        /// The node.
        node: usize,
        /// For how long, in nanoseconds.
        time: u64,
    },
    /// A bit of a segment file flips at rest.
    Rot {
        /// The node.
        node: usize,
    },
}

impl Fault {
    /// Returns its kind, for the counts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::PowerCut { .. } => "power-cut",
            Self::Stop { .. } => "stop",
            Self::Pause { .. } => "pause",
            Self::WallJump { .. } => "wall-jump",
            Self::Drift { .. } => "drift",
            Self::ResetStreams { .. } => "reset-streams",
            Self::Cut { .. } => "cut",
            Self::DiskFull { .. } => "disk-full",
            Self::FlushErrors { .. } => "flush-errors",
            Self::ReadErrors { .. } => "read-errors",
            Self::SlowDisk { .. } => "slow-disk",
            Self::Rot { .. } => "rot",
        }
    }
}

/// How often each kind of fault struck, disks and network included.
#[derive(Clone, Default, Debug)]
pub struct FaultCounts(pub BTreeMap<&'static str, u64>);

impl FaultCounts {
    /// Adds to a count.
    pub fn add(&mut self, kind: &'static str, by: u64) {
        if by > 0 {
            *self.0.entry(kind).or_insert(0) += by;
        }
    }

    /// Adds all counts of another run.
    pub fn merge(&mut self, other: &Self) {
        for (kind, by) in &other.0 {
            self.add(kind, *by);
        }
    }

    /// Returns a count.
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }
}
