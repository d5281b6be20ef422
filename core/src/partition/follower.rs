//! A replica that follows a leader: where to fetch from, and what to do with what comes.
//!
//! What never happens here: a cut below what is known to be committed, an append that does not continue the
//! log, or an acknowledgement before the log was found to agree with the leader's.
//!
//! Sources: KIP-101, 279 (the smaller of both ends, until they agree), 320.

use std::sync::Arc;

use crate::digest::Digest;
use crate::ids::{LeaderEpoch, NodeId, Offset, TopicPartition};
use crate::log::{LogStore, Stable};
use crate::metadata::topic_config::TopicConfig;
use crate::partition::delayed_fetch::DelayedFetches;

/// What a follower asks for, and what it knew then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch of the leader that it follows.
    pub leader_epoch: LeaderEpoch,
    /// The end of its log.
    pub offset: Offset,
    /// The epoch of its last record, -1 for none.
    pub last_epoch: LeaderEpoch,
}

/// What the leader says of a partition, apart from the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Records, or none.
    Records {
        /// The end of what is committed.
        high_watermark: Offset,
        /// The start of the leader's log.
        log_start: Offset,
    },
    /// The logs part: the largest epoch that both may share, and where it ends at the leader.
    Diverging {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Its end.
        end: Offset,
    },
    /// The leader's log does not have that offset; it begins here.
    OutOfRange {
        /// Its start.
        log_start: Offset,
    },
    /// Something else: asked again after a pause.
    Refused,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FollowStep {
    /// Append the records, then call [`Follower::agreed`].
    Append,
    /// Cut the log to this offset.
    Truncate(Offset),
    /// Drop the log and begin anew here.
    Reset(Offset),
    /// Nothing; ask again at once.
    Nothing,
    /// Nothing; ask again after a pause.
    Pause,
    /// The leader lacks what is committed: nothing may be cut.
    Broken(String),
}

/// One replica, which follows.
#[derive(Clone, Debug)]
pub struct Follower {
    pub(super) id: TopicPartition,
    config: Arc<TopicConfig>,
    leader: NodeId,
    leader_epoch: LeaderEpoch,
    high_watermark: Offset,
    /// Whether the log is known to be a prefix of the leader's, in this epoch.
    pub(super) agrees: bool,
    /// What the leader was told to be durable here.
    acknowledged: Option<Offset>,
    /// Clients that wait here for more.
    pub fetches: DelayedFetches,
}

impl Follower {
    /// Begins to follow `leader` in its epoch; -1 is nobody yet. `high_watermark` is what was known before.
    pub fn new(
        id: TopicPartition,
        config: Arc<TopicConfig>,
        leader: NodeId,
        leader_epoch: LeaderEpoch,
        high_watermark: Offset,
    ) -> Self {
        Self {
            id,
            config,
            leader,
            leader_epoch,
            high_watermark,
            agrees: false,
            acknowledged: None,
            fetches: DelayedFetches::default(),
        }
    }

    /// Follows another leader, or another epoch.
    pub fn follow(&mut self, leader: NodeId, leader_epoch: LeaderEpoch) {
        assert!(leader_epoch >= self.leader_epoch, "leader epochs never fall");
        if (leader, leader_epoch) != (self.leader, self.leader_epoch) {
            (self.leader, self.leader_epoch) = (leader, leader_epoch);
            (self.agrees, self.acknowledged) = (false, None);
        }
    }

    /// Returns whom it follows.
    pub const fn leader(&self) -> NodeId {
        self.leader
    }

    /// Returns the epoch that it follows.
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Returns the end of what it knows to be committed.
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Returns the settings in force.
    pub const fn config(&self) -> &Arc<TopicConfig> {
        &self.config
    }

    /// Takes over settings.
    pub fn configure(&mut self, config: Arc<TopicConfig>) {
        self.config = config;
    }

    /// Returns where to fetch from.
    pub fn position(&self, log: &LogStore) -> Position {
        Position {
            partition: self.id,
            leader_epoch: self.leader_epoch,
            offset: log.log_end_offset(self.id).unwrap_or(Offset::ZERO),
            last_epoch: log.latest_epoch(self.id).unwrap_or(LeaderEpoch::UNKNOWN),
        }
    }

    /// Says what to do with an answer to a fetch from `asked`.
    pub fn answer(&self, asked: &Position, outcome: Outcome, log: &LogStore) -> FollowStep {
        if *asked != self.position(log) {
            // The epoch or the log has changed since: nothing of it fits.
            return FollowStep::Nothing;
        }
        match outcome {
            Outcome::Records { .. } => FollowStep::Append,
            Outcome::Diverging { epoch, end } => {
                let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
                let unknown = (LeaderEpoch::UNKNOWN, start);
                let (mine, my_end) = log.end_of_epoch(self.id, epoch).unwrap_or(unknown);
                let to = if mine == epoch { my_end.min(end) } else { my_end };
                let to = to.min(asked.offset);
                if to < self.high_watermark {
                    return FollowStep::Broken(format!(
                        "its log parts from this one at offset {to}, and everything below {} is \
                         committed",
                        self.high_watermark
                    ));
                }
                if to < start { FollowStep::Reset(start) } else { FollowStep::Truncate(to) }
            }
            Outcome::OutOfRange { log_start } if log_start > asked.offset => {
                FollowStep::Reset(log_start)
            }
            Outcome::OutOfRange { .. } | Outcome::Refused => FollowStep::Pause,
        }
    }

    /// Takes in that the log agrees with the leader's, and what the leader says to be committed. Returns how
    /// far this log may begin later, following the leader's start.
    pub fn agreed(
        &mut self,
        high_watermark: Offset,
        log_start: Offset,
        log: &mut LogStore,
    ) -> Offset {
        self.agrees = true;
        let end = log.log_end_offset(self.id).unwrap_or(Offset::ZERO);
        self.high_watermark = self.high_watermark.max(high_watermark.min(end));
        log.resolve_transactions(self.id, self.high_watermark);
        let stable = log.stable_end(self.id).map_or(Offset::ZERO, Stable::value);
        log_start.min(self.high_watermark).min(stable)
    }

    /// Returns what the leader is to be told, where there is news.
    pub fn news(&self, log: &LogStore) -> Option<Offset> {
        // A start that a crash would take back is no end that counts.
        if !self.agrees || log.begins_anew(self.id) {
            return None;
        }
        let stable = log.stable_end(self.id)?.value();
        (self.acknowledged != Some(stable)).then_some(stable)
    }

    /// Takes in that the leader was told.
    pub const fn told(&mut self, stable: Offset) {
        self.acknowledged = Some(stable);
    }

    /// Takes in that what was told may not have arrived.
    pub const fn untold(&mut self) {
        self.acknowledged = None;
    }

    /// Takes the replica's state into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest
            .bytes(&self.id.topic_id.0)
            .signed(i64::from(self.id.partition.0))
            .signed(i64::from(self.leader.0))
            .signed(i64::from(self.leader_epoch.0))
            .signed(self.high_watermark.0)
            .number(u64::from(self.agrees))
            .shown(&(&self.acknowledged, &self.fetches));
    }
}
