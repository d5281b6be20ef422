//! Faults as data: a plan of what strikes when, drawn before the run begins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::disk::{DiskOptions, FileKind};
use crate::net::{Address, LinkTrouble};

/// What a disk does wrong for a while, at a share of its operations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskTrouble {
    /// Writes fail behind a part of them.
    WriteErrors,
    /// Writes find no space behind a part of them.
    ShortWrites,
    /// Whatever needs space finds none.
    NoSpace,
    /// The process lacks descriptors, memory or time.
    Exhausted,
    /// The file system is mounted for reading only.
    ReadOnly,
    /// Flushes take a second.
    SlowFlushes,
    /// Operations do not end before the trouble does.
    Stuck,
    /// Bits flip on the way from the disk.
    FlippedReads,
    /// Reads bring another place.
    MisdirectedReads,
    /// Reads bring what the device had before.
    StaleReads,
    /// Writes go to another place.
    MisdirectedWrites,
    /// The device keeps what it had and reports a flush as done.
    LostWrites,
}

impl DiskTrouble {
    /// Every trouble.
    pub const ALL: [Self; 12] = [
        Self::WriteErrors,
        Self::ShortWrites,
        Self::NoSpace,
        Self::Exhausted,
        Self::ReadOnly,
        Self::SlowFlushes,
        Self::Stuck,
        Self::FlippedReads,
        Self::MisdirectedReads,
        Self::StaleReads,
        Self::MisdirectedWrites,
        Self::LostWrites,
    ];

    /// Returns its name, for the counts.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::WriteErrors => "write-errors",
            Self::ShortWrites => "short-writes",
            Self::NoSpace => "no-space-at-times",
            Self::Exhausted => "exhausted-process",
            Self::ReadOnly => "read-only-disk",
            Self::SlowFlushes => "slow-flushes",
            Self::Stuck => "stuck-disk",
            Self::FlippedReads => "flipped-reads",
            Self::MisdirectedReads => "misdirected-reads",
            Self::StaleReads => "stale-reads",
            Self::MisdirectedWrites => "misdirected-writes",
            Self::LostWrites => "lost-writes",
        }
    }

    /// Returns whether a node may give up its directory for it, or refuse to start.
    pub const fn excuses(self) -> bool {
        !matches!(
            self,
            Self::ShortWrites | Self::NoSpace | Self::Exhausted | Self::SlowFlushes | Self::Stuck
        )
    }

    /// Returns whether it may destroy what was acknowledged.
    pub const fn destroys(self) -> bool {
        matches!(self, Self::MisdirectedWrites | Self::LostWrites)
    }

    /// Lets it strike at that share of operations, in 1/1000; 0 ends it.
    pub(super) const fn set(self, options: &mut DiskOptions, permille: u32) {
        let share = match self {
            Self::WriteErrors => &mut options.write_error,
            Self::ShortWrites => &mut options.short_write,
            Self::NoSpace => &mut options.no_space,
            Self::Exhausted => &mut options.exhausted,
            Self::ReadOnly => {
                options.read_only = permille > 0;
                return;
            }
            Self::SlowFlushes => &mut options.slow_flush,
            Self::Stuck => &mut options.stuck,
            Self::FlippedReads => &mut options.flipped_read,
            Self::MisdirectedReads => &mut options.misdirected_read,
            Self::StaleReads => &mut options.stale_read,
            Self::MisdirectedWrites => &mut options.misdirected_write,
            Self::LostWrites => &mut options.lost_write,
        };
        *share = permille;
    }
}

/// What happens to a file at rest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// A bit flips.
    Flip,
    /// It ends somewhere before its end.
    Cut,
    /// A part of it is zeros.
    Zero,
    /// It is gone.
    Lose,
}

impl Damage {
    /// Every damage.
    pub const ALL: [Self; 4] = [Self::Flip, Self::Cut, Self::Zero, Self::Lose];
}

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
        /// Of which files alone.
        #[serde(default)]
        file: Option<FileKind>,
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
    /// The disk of a node does something wrong for a while.
    Disk {
        /// The node.
        node: usize,
        /// What.
        trouble: DiskTrouble,
        /// At which share of operations, in 1/1000.
        permille: u32,
        /// For how long, in nanoseconds.
        time: u64,
    },
    /// A file of a node is damaged at rest.
    Damage {
        /// The node.
        node: usize,
        /// How.
        damage: Damage,
        /// Which kind of file.
        file: FileKind,
        /// Chooses the file and the place in it.
        pick: u64,
    },
    /// Somebody leaves a file in a node's data directory.
    Junk {
        /// The node.
        node: usize,
        /// Chooses the place and the name.
        pick: u64,
    },
    /// The page cache of a node is dropped.
    DropCaches {
        /// The node.
        node: usize,
    },
    /// A node dies and comes back with an empty disk.
    Wipe {
        /// The node.
        node: usize,
        /// How long it stays down, in nanoseconds.
        down: u64,
    },
    /// A copy of a node's disk is put away.
    Save {
        /// The node.
        node: usize,
    },
    /// A node dies and comes back with the copy that was put away, if there is one.
    Restore {
        /// The node.
        node: usize,
        /// How long it stays down, in nanoseconds.
        down: u64,
    },
    /// The way from one address to another is in trouble for a while.
    Link {
        /// From here.
        from: Address,
        /// To here.
        to: Address,
        /// What is wrong.
        trouble: LinkTrouble,
        /// For how long, in nanoseconds.
        time: u64,
    },
    /// A node's machine stands still, and its monotonic clock with it.
    Suspend {
        /// The node.
        node: usize,
        /// For how long, in nanoseconds.
        time: u64,
        /// Whether the wall clock is set right afterwards.
        set_right: bool,
    },
    /// A node dies, and so do its next starts, each behind that many effects: most of them while they
    /// still recover.
    CrashLoop {
        /// The node.
        node: usize,
        /// How many starts die.
        times: u32,
        /// Behind how many effects.
        effects: u32,
        /// Whether power is lost each time.
        power: bool,
        /// How long it stays down each time, in nanoseconds.
        down: u64,
    },
    /// Nothing passes between some nodes and all others for a while. Clients reach both sides.
    Part {
        /// One side.
        nodes: Vec<usize>,
        /// A node that both sides reach all the same.
        bridge: Option<usize>,
        /// Whether the one side still hears the other, rather than neither.
        one_way: bool,
        /// For how long, in nanoseconds.
        time: u64,
    },
    /// Several nodes die at the same moment, each behind that many further effects.
    Together {
        /// Which.
        nodes: Vec<usize>,
        /// Whether they lose power.
        power: bool,
        /// Behind how many effects.
        effects: u32,
        /// How long the first one stays down, in nanoseconds. Each further one takes a quarter longer.
        down: u64,
    },
    /// A node is told to stop, and dies behind that many effects of doing so.
    StopKilled {
        /// The node.
        node: usize,
        /// Behind how many effects.
        effects: u32,
        /// How long it stays down, in nanoseconds.
        down: u64,
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
            Self::Disk { trouble, .. } => trouble.kind(),
            Self::Damage { file, .. } => file.damaged(),
            Self::Junk { .. } => "junk",
            Self::DropCaches { .. } => "dropped-caches",
            Self::Wipe { .. } => "wipe",
            Self::Save { .. } => "save",
            Self::Restore { .. } => "restore",
            Self::Link { trouble, .. } => trouble.kind(),
            Self::Suspend { .. } => "suspend",
            Self::CrashLoop { .. } => "crash-loop",
            Self::Part { bridge: Some(_), .. } => "bridge",
            Self::Part { one_way: true, .. } => "one-way-part",
            Self::Part { nodes, .. } if nodes.len() == 1 => "isolation",
            Self::Part { .. } => "part",
            Self::Together { power: false, .. } => "kill-together",
            Self::Together { power: true, .. } => "power-cut-together",
            Self::StopKilled { .. } => "stop-killed",
        }
    }
}

impl Fault {
    /// Lets it last no longer than that.
    pub fn shorten(&mut self, most: u64) {
        match self {
            Self::Pause { time, .. }
            | Self::Cut { time, .. }
            | Self::DiskFull { time, .. }
            | Self::FlushErrors { time, .. }
            | Self::ReadErrors { time, .. }
            | Self::SlowDisk { time, .. }
            | Self::Disk { time, .. }
            | Self::Link { time, .. }
            | Self::Part { time, .. }
            | Self::Suspend { time, .. } => *time = most.min(*time),
            _ => {}
        }
    }

    /// Returns how long it strikes, in nanoseconds; `None` for one that is over at once or that ends by a
    /// start.
    pub const fn time(&self) -> Option<u64> {
        match self {
            Self::Pause { time, .. }
            | Self::Cut { time, .. }
            | Self::DiskFull { time, .. }
            | Self::FlushErrors { time, .. }
            | Self::ReadErrors { time, .. }
            | Self::SlowDisk { time, .. }
            | Self::Disk { time, .. }
            | Self::Link { time, .. }
            | Self::Part { time, .. }
            | Self::Suspend { time, .. } => Some(*time),
            Self::Kill { .. }
            | Self::PowerCut { .. }
            | Self::Stop { .. }
            | Self::WallJump { .. }
            | Self::Drift { .. }
            | Self::ResetStreams { .. }
            | Self::Rot { .. }
            | Self::Damage { .. }
            | Self::Junk { .. }
            | Self::DropCaches { .. }
            | Self::Wipe { .. }
            | Self::Save { .. }
            | Self::Restore { .. }
            | Self::CrashLoop { .. }
            | Self::Together { .. }
            | Self::StopKilled { .. } => None,
        }
    }

    /// Returns whether nothing of it is left once it is over. A disk that was full or wrong leaves a node that
    /// waits before it tries again, and producers that wait longer each time they are refused.
    pub const fn leaves_nothing(&self) -> bool {
        matches!(
            self,
            Self::Pause { .. }
                | Self::Cut { .. }
                | Self::Link { .. }
                | Self::Part { .. }
                | Self::Suspend { .. }
        )
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
