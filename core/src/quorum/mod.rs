//! The metadata quorum: which node leads the metadata log, and how far that log is committed.
//!
//! The machine holds no log and sends nothing: it looks at the log by [`LogView`], and what is to be done
//! comes out as [`Action`]s, in order, which its driver carries out before it hands the next input in.
//! One method takes each kind of input; the files hold them by role.
//!
//! What never happens here: a vote that leaves before it is proven durable, two votes in one epoch, a high
//! watermark over records of an earlier epoch alone (figure 8 of the Raft paper), and one that rests on a
//! position of a fetch.
//!
//! Sources: Raft (Ongaro and Ousterhout 2014), KIP-595 (pull), 853 (voters), 996 (pre-vote);
//! `docs/cluster.md`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::digest::Digest;
use crate::ids::{LeaderEpoch, NodeId, Offset, SnapshotId, Uuid};
use crate::time::Instant;

mod follower;
pub mod formation;
mod leader;
pub mod messages;
#[cfg(test)]
mod tests;
mod voters;
mod voting;

pub use follower::Step;
use leader::Leading;
pub use leader::{FetchVerdict, VoterState};
use messages::{Ask, VoteAnswer};
use voters::Voters;

/// What the machine may know of the metadata log.
pub trait LogView {
    /// Returns the first offset.
    fn start(&self) -> Offset;
    /// Returns the offset after the last record, durable or not.
    fn end(&self) -> Offset;
    /// Returns the epoch of the last record, be it in a snapshot, -1 where there is none.
    fn last_epoch(&self) -> LeaderEpoch;
    /// Returns the largest epoch at most this one that has records, and the offset after its last; -1 and
    /// the start of the log where there is none. The last record before the start counts, where a snapshot tells
    /// of it.
    fn end_of_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset);
    /// Returns the offset below which everything is proven durable here.
    fn proven(&self) -> Offset;
    /// Returns the newest snapshot that is durable here.
    fn latest_snapshot(&self) -> Option<SnapshotId>;
    /// Returns the one that ends where the log starts, where it is there.
    fn snapshot_at_start(&self) -> Option<SnapshotId>;
}

/// A replica of the metadata log: a node with one certain directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReplicaKey {
    /// The node.
    pub node: NodeId,
    /// Its directory. An empty disk is another replica.
    pub directory: Uuid,
}

/// What the machine is told at its birth.
#[derive(Clone, Debug)]
pub struct QuorumConfig {
    /// This replica.
    pub me: ReplicaKey,
    /// Those that vote by the cluster's formation.
    pub voters: BTreeSet<ReplicaKey>,
    /// Other nodes that may know who leads.
    pub known: BTreeSet<NodeId>,
    /// Silence of the leader before a follower asks for pre-votes.
    pub fetch_timeout: Duration,
    /// The same once the leader's node refuses connections.
    pub lost_leader: Duration,
    /// Least wait of an election.
    pub election_min: Duration,
    /// Longest wait of an election.
    pub election_max: Duration,
    /// Pause before something that failed is asked again.
    pub retry: Duration,
    /// Seed of the waits.
    pub seed: u64,
}

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Prove this vote durable, then call [`Quorum::persisted`].
    Persist {
        /// The epoch of the vote.
        epoch: LeaderEpoch,
        /// For whom.
        candidate: NodeId,
    },
    /// Ask another node. What comes of it goes to the method named for it.
    Ask {
        /// Whom.
        node: NodeId,
        /// What.
        ask: Ask,
    },
    /// Answer the vote that this caller asked for.
    AnswerVote {
        /// Who asked.
        caller: Caller,
        /// The answer.
        answer: VoteAnswer,
    },
    /// This node leads: append the control batch that begins the epoch, then call [`Quorum::begun`].
    BeginEpoch {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Who voted for it.
        granting: Vec<NodeId>,
    },
    /// This node leads no more.
    Resigned,
    /// Everything of the log below this offset is committed.
    Committed(Offset),
    /// The leader that is known has changed, or its epoch.
    Leader {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Who leads it, as far as it is known.
        leader: Option<NodeId>,
    },
}

/// Names the request of a peer that an answer is for. The driver gives it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Caller(pub u64);

/// What a node is in its epoch.
#[derive(Clone, Debug)]
enum Role {
    /// Knows no leader.
    Unattached {
        /// When it asks for pre-votes; never for one that may not be voted for.
        election_at: Option<Instant>,
    },
    /// Asks whether it would be voted for.
    Prospective(Tally),
    /// Asks for votes.
    Candidate(Tally),
    /// Follows a leader.
    Follower(Following),
    /// Leads.
    Leader(Leading),
}

/// Votes as they come in.
#[derive(Clone, Debug)]
struct Tally {
    granted: BTreeSet<NodeId>,
    refused: BTreeSet<NodeId>,
    until: Instant,
}

/// How it follows.
#[derive(Clone, Debug)]
struct Following {
    leader: NodeId,
    /// When the leader counts as gone.
    fetch_by: Instant,
    /// Whether the leader itself was heard, rather than others who speak of it.
    heard: bool,
    /// Whether a fetch is under way.
    fetching: bool,
    /// When to fetch again after a failure.
    retry_at: Option<Instant>,
    /// Whether the log is known to be a prefix of the leader's.
    agrees: bool,
    /// The snapshot that comes first, and how many of its bytes have come.
    receiving: Option<(SnapshotId, u64)>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Quorum {
    config: QuorumConfig,
    voters: Voters,
    epoch: LeaderEpoch,
    /// For whom it voted in `epoch`, and whether that is proven.
    vote: Option<(NodeId, bool)>,
    /// Who waits for that proof.
    waiting: Vec<Caller>,
    role: Role,
    high_watermark: Offset,
    /// Whether it is on its way out and stands for nothing.
    leaving: bool,
    /// Whether a snapshot that was received is about to take the place of the log: whether it has is not known
    /// before it is durable.
    installing: bool,
    rng: ChaCha8Rng,
    actions: VecDeque<Action>,
}

impl Quorum {
    /// Makes the machine of a node whose last vote was `vote`, and whose log is as it shows. What the log says of
    /// voters is told by [`voters_changed`](Self::voters_changed) before [`start`](Self::start).
    pub fn new(
        config: QuorumConfig,
        vote: Option<(LeaderEpoch, NodeId)>,
        log: &impl LogView,
    ) -> Self {
        let last = log.last_epoch().max(LeaderEpoch(0));
        let (epoch, vote) = match vote {
            Some((epoch, node)) if epoch >= last => {
                (epoch, (node != NO_VOTE).then_some((node, true)))
            }
            _ => (last, None),
        };
        let rng = ChaCha8Rng::seed_from_u64(config.seed);
        Self {
            voters: Voters::new(config.voters.clone()),
            config,
            epoch,
            vote,
            waiting: Vec::new(),
            role: Role::Unattached { election_at: None },
            high_watermark: log.latest_snapshot().map_or(Offset::ZERO, |id| id.end_offset),
            leaving: false,
            installing: false,
            rng,
            actions: VecDeque::new(),
        }
    }

    /// Begins. A lone voter elects itself at once.
    pub fn start(&mut self, now: Instant, log: &impl LogView) {
        if self.is_alone() {
            self.stand(now, log);
        } else {
            self.detach(now, self.epoch);
        }
    }

    /// Returns the epoch.
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Returns the leader, where one is known.
    pub const fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(following) => Some(following.leader),
            Role::Leader(_) => Some(self.config.me.node),
            Role::Unattached { .. } | Role::Prospective(_) | Role::Candidate(_) => None,
        }
    }

    /// Returns whether this node leads.
    pub const fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Returns the offset below which the log is committed, as far as this node knows.
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Takes the next thing to be done.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns when [`wake`](Self::wake) wants to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Unattached { election_at } => *election_at,
            // It waits for its own disk alone, however long that takes.
            Role::Candidate(_) if self.is_alone() => None,
            Role::Prospective(tally) | Role::Candidate(tally) => Some(tally.until),
            Role::Follower(following) => {
                Some(following.retry_at.map_or(following.fetch_by, |at| at.min(following.fetch_by)))
            }
            Role::Leader(leading) => leading.next_deadline(),
        }
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Instant, log: &impl LogView) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        match &self.role {
            Role::Unattached { .. } if self.is_voter() => self.ask_for_pre_votes(now, log),
            Role::Unattached { .. } => self.look_for_leader(now, log),
            Role::Prospective(_) => self.detach(now, self.epoch),
            // Whoever did not get enough asks whether it would another time, so that a node that cannot
            // be heard does not drive the epoch up.
            Role::Candidate(_) => self.ask_for_pre_votes(now, log),
            Role::Follower(following) if following.fetch_by <= now => {
                let silent = following.leader;
                self.leave(now, silent);
            }
            Role::Follower(_) => self.fetch(log),
            Role::Leader(_) => self.check_quorum(now),
        }
    }

    /// Takes in that connections to a node are refused, though it was reached before.
    pub fn on_unreachable(&mut self, now: Instant, node: NodeId) {
        if let Role::Follower(following) = &mut self.role
            && following.leader == node
        {
            following.fetch_by = following.fetch_by.min(now + self.config.lost_leader);
        }
    }

    /// Steps down and stands no more, because the node is to stop. The voter that has most of the log is
    /// told to stand first.
    pub fn leave_office(&mut self, now: Instant) {
        self.leaving = true;
        if let Role::Leader(leading) = &self.role {
            let preferred = leading.successors();
            let epoch = self.epoch;
            for node in self.others() {
                let ask = Ask::EndEpoch { epoch, preferred: preferred.clone() };
                self.actions.push_back(Action::Ask { node, ask });
            }
            self.resign(now);
        } else {
            self.detach(now, self.epoch);
        }
    }

    /// Leads no more, because its log takes nothing.
    pub fn step_down(&mut self, now: Instant) {
        if self.is_leader() {
            self.resign(now);
        }
    }

    /// Draws the wait of an election.
    fn election_wait(&mut self) -> Duration {
        let (min, max) = (self.config.election_min, self.config.election_max);
        let span = max.saturating_sub(min).as_nanos() as u64;
        min + Duration::from_nanos(self.rng.next_u64() % (span + 1))
    }

    /// Knows no leader from now on, in this epoch.
    fn detach(&mut self, now: Instant, epoch: LeaderEpoch) {
        let wait = self.election_wait();
        self.enter(epoch);
        let stands = !self.leaving;
        self.role = Role::Unattached { election_at: stands.then_some(now + wait) };
        self.actions.push_back(Action::Leader { epoch, leader: None });
    }

    /// Takes up a later epoch, or stays in its own.
    fn enter(&mut self, epoch: LeaderEpoch) {
        assert!(epoch >= self.epoch, "epochs never fall");
        if self.is_leader() {
            self.actions.push_back(Action::Resigned);
        }
        if epoch > self.epoch {
            self.epoch = epoch;
            self.vote = None;
            for caller in std::mem::take(&mut self.waiting) {
                self.refuse(caller);
            }
        }
    }

    /// Gives up a leader that is silent.
    fn leave(&mut self, now: Instant, silent: NodeId) {
        debug_assert_eq!(self.leader(), Some(silent), "it was followed");
        self.detach(now, self.epoch);
    }

    /// Leads no more, in the same epoch.
    fn resign(&mut self, now: Instant) {
        self.detach(now, self.epoch);
    }

    /// Takes the machine's state into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest
            .signed(i64::from(self.epoch.0))
            .signed(self.high_watermark.0)
            .shown(&self.vote)
            .shown(&self.waiting)
            .shown(&self.role)
            .shown(&self.voters)
            .number(u64::from(self.leaving))
            .number(u64::from(self.installing));
    }
}

/// Stands for nobody in a recorded vote.
const NO_VOTE: NodeId = NodeId(-1);

type Progresses = BTreeMap<NodeId, leader::Progress>;
