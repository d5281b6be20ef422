//! What is due in a world, and in which order.

use mainspring_core::io::Input;

use super::{DiskTrouble, Fault};
use crate::disk::OperationId;
use crate::net::{Address, LinkTrouble, Notice, StreamId};

#[derive(Debug)]
pub(super) enum Event {
    Input {
        node: usize,
        shard: u16,
        life: u64,
        input: Input,
    },
    Posts {
        node: usize,
        life: u64,
        from: u16,
        to: u16,
    },
    Timer {
        node: usize,
        shard: u16,
        life: u64,
        round: u64,
    },
    Disk {
        node: usize,
        life: u64,
        operation: OperationId,
    },
    Net(Notice),
    Accept {
        stream: StreamId,
    },
    /// Who has opened a stream waits no longer for an answer.
    Unanswered {
        stream: StreamId,
    },
    Actor {
        client: usize,
        round: u64,
    },
    Strike(Fault),
    Lift(Lift),
    Start {
        node: usize,
        life: u64,
    },
    Heal,
    /// Nothing but clients keeps the run from its end any more.
    Lingered,
    Deadline,
}

/// The end of a fault that lasts.
#[derive(Clone, Debug)]
pub(super) enum Lift {
    Cut {
        node: usize,
        outbound: bool,
    },
    Link {
        from: Address,
        to: Address,
        trouble: LinkTrouble,
    },
    Part(Vec<(Address, Address)>),
    Disk(usize, DiskTrouble),
    Pause(usize, u64),
    /// A machine goes on that stood still since then.
    Suspension {
        node: usize,
        life: u64,
        since: u64,
        set_right: bool,
    },
    Capacity(usize),
    FlushErrors(usize),
    ReadErrors(usize),
    Slowness(usize),
}

impl Event {
    /// Returns numbers for the trace: what it is and whom it concerns.
    pub(super) fn numbers(&self) -> (u64, u64) {
        match self {
            Self::Input { node, shard, .. } => (1, place(*node, *shard)),
            Self::Posts { node, to, .. } => (2, place(*node, *to)),
            Self::Timer { node, shard, .. } => (3, place(*node, *shard)),
            Self::Disk { node, .. } => (4, place(*node, 0)),
            Self::Net(notice) => (5, notice.stream.0 * 2 + notice.side as u64),
            Self::Accept { stream } => (6, stream.0),
            Self::Unanswered { stream } => (8, stream.0),
            Self::Actor { client, .. } => (7, *client as u64),
            Self::Strike(_) => (9, 0),
            Self::Lift(_) => (10, 0),
            Self::Start { node, .. } => (11, place(*node, 0)),
            Self::Heal => (12, 0),
            Self::Deadline => (13, 0),
            Self::Lingered => (14, 0),
        }
    }
}

const fn place(node: usize, shard: u16) -> u64 {
    ((node as u64) << 16) | shard as u64
}

/// An event with its time and its place among those of the same time.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: u64,
    pub(super) tie: u64,
    pub(super) number: u64,
    pub(super) event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie, self.number).cmp(&(other.at, other.tie, other.number))
    }
}
