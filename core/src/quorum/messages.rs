//! What nodes of a quorum say to each other, apart from its form on the wire.

use crate::ids::{LeaderEpoch, NodeId, Offset, SnapshotId};
use crate::quorum::ReplicaKey;

/// What a node asks another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Vote for me, or say whether you would. Answered by [`VoteAnswer`].
    Vote(VoteAsk),
    /// I lead this epoch. Answered by [`Standing`].
    BeginEpoch {
        /// The epoch.
        epoch: LeaderEpoch,
    },
    /// I lead this epoch no more. Answered by [`Standing`].
    EndEpoch {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Who should stand, the one with most of the log first.
        preferred: Vec<NodeId>,
    },
    /// What follows in the log. Answered by [`FetchAnswer`].
    Fetch(FetchAsk),
    /// A piece of a snapshot. Answered by [`SnapshotAnswer`].
    Snapshot(SnapshotAsk),
    /// This much of my log is proven. Not answered.
    Ack {
        /// The epoch in which I follow you.
        epoch: LeaderEpoch,
        /// The offset.
        proven: Offset,
    },
}

/// Asks for a vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VoteAsk {
    /// The epoch in which it would lead; of a pre-vote, the one that it is in.
    pub epoch: LeaderEpoch,
    /// Who stands.
    pub candidate: ReplicaKey,
    /// For whom it is meant: another directory of the node is another voter.
    pub voter: ReplicaKey,
    /// Epoch of the last record of its log, -1 for none.
    pub last_epoch: LeaderEpoch,
    /// End of its log.
    pub end: Offset,
    /// Whether it only wants to know (KIP-996).
    pub pre_vote: bool,
}

/// Answers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VoteAnswer {
    /// The epoch of the one who answers.
    pub epoch: LeaderEpoch,
    /// The leader that it knows.
    pub leader: Option<NodeId>,
    /// Whether the vote is given.
    pub granted: bool,
}

/// Where a node stands, in answer to the beginning or the end of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its epoch.
    pub epoch: LeaderEpoch,
    /// The leader that it knows.
    pub leader: Option<NodeId>,
}

/// Asks for what follows in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchAsk {
    /// The epoch of the one who asks.
    pub epoch: LeaderEpoch,
    /// The end of its log.
    pub from: Offset,
    /// The epoch of its last record, -1 for none.
    pub last_epoch: LeaderEpoch,
}

/// Answers it; the records travel beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchAnswer {
    /// The epoch of the one who answers.
    pub epoch: LeaderEpoch,
    /// The leader that it knows.
    pub leader: Option<NodeId>,
    /// What it came to.
    pub outcome: FetchOutcome,
}

/// Asks for a piece of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotAsk {
    /// The epoch of the one who asks.
    pub epoch: LeaderEpoch,
    /// The snapshot.
    pub id: SnapshotId,
    /// The first byte of the piece.
    pub position: u64,
}

/// Answers it; the bytes travel beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotAnswer {
    /// The epoch of the one who answers.
    pub epoch: LeaderEpoch,
    /// The leader that it knows.
    pub leader: Option<NodeId>,
    /// Whether the piece was there.
    pub is_there: bool,
}

/// What a fetch came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchOutcome {
    /// Records, or none yet, and how far the log is committed.
    Records {
        /// The end of what is committed.
        high_watermark: Offset,
    },
    /// The log of the one who asks parts from this one: the largest epoch that both may share, and where it
    /// ends here.
    Diverging {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Its end.
        end: Offset,
    },
    /// What follows is in the log no more, or the log of the one who asks parts from this one where this one
    /// does not reach back to: this snapshot comes first, and then what follows it.
    Snapshot(SnapshotId),
    /// The one who answers does not lead, or another epoch.
    NotLeader,
}
