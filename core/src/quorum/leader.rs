//! The leader: who follows it how far, what is committed, and whether it is still heard.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{LeaderEpoch, NodeId, Offset};
use crate::quorum::messages::{Ask, FetchAnswer, FetchAsk, FetchOutcome, SnapshotAnswer};
use crate::quorum::{Action, LogView, Progresses, Quorum, ReplicaKey, Role};
use crate::time::Instant;

/// A replica that does not vote is forgotten when it has not fetched for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);

/// What a leader knows of another voter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// When it last fetched in this epoch.
    fetched_at: Option<Instant>,
    /// Whether its log was found to be a prefix of this one's.
    agrees: bool,
    /// What it has proven.
    proven: Offset,
    /// When it is told of the epoch again; `None` once it knows.
    tell_at: Option<Instant>,
}

impl Progress {
    /// Returns what is known of one that was just heard.
    pub(super) const fn heard(now: Instant) -> Self {
        Self { fetched_at: Some(now), agrees: false, proven: Offset::ZERO, tell_at: None }
    }
}

/// What a leader knows of a replica that follows and does not vote.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observer {
    /// Where its log ended when it asked for what follows.
    pub(super) end: Offset,
    /// When that was.
    pub(super) fetched_at: Instant,
}

/// What the leader knows of a voter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoterState {
    /// It is the leader itself.
    Leader,
    /// It follows, or is to.
    Follower {
        /// What it has proven; `None` before its log was found to be a prefix of the leader's.
        proven: Option<Offset>,
        /// When it last fetched in this epoch.
        fetched_at: Option<Instant>,
    },
}

/// What a leader holds.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    /// Offset of the control batch that began the epoch.
    pub(super) begun: Option<Offset>,
    pub(super) voters: Progresses,
    pub(super) observers: BTreeMap<ReplicaKey, Observer>,
    /// When it resigns unless a majority is heard.
    pub(super) resign_at: Option<Instant>,
}

impl Leading {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.voters.values().filter_map(|voter| voter.tell_at).chain(self.resign_at).min()
    }

    pub(super) fn tell_again(&mut self, node: NodeId, at: Instant) {
        if let Some(progress) = self.voters.get_mut(&node)
            && progress.fetched_at.is_none()
        {
            progress.tell_at = Some(at);
        }
    }

    /// Returns the other voters, the one with most of the log first.
    pub(super) fn successors(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.voters.keys().copied().collect();
        nodes.sort_by_key(|node| (std::cmp::Reverse(self.voters[node].proven), *node));
        nodes
    }
}

/// What the leader says to a fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchVerdict {
    /// Hand out what follows, or hold the answer until there is something or the wait is over; then ask
    /// for the verdict again.
    Read,
    /// Answer this.
    Answer(FetchAnswer),
}

impl Quorum {
    /// Returns what is known of a voter; of others there is nothing to know but where this node leads.
    pub fn voter_state(&self, node: NodeId) -> VoterState {
        let Role::Leader(leading) = &self.role else {
            return VoterState::Follower { proven: None, fetched_at: None };
        };
        if node == self.config.me.node {
            return VoterState::Leader;
        }
        let progress = leading.voters.get(&node);
        VoterState::Follower {
            proven: progress.filter(|voter| voter.agrees).map(|voter| voter.proven),
            fetched_at: progress.and_then(|voter| voter.fetched_at),
        }
    }

    /// Takes up leadership of this epoch.
    pub(super) fn lead(&mut self, now: Instant, granting: Vec<NodeId>) {
        let alone = self.is_alone();
        let voters = self.others().into_iter().map(|node| {
            let progress = Progress {
                fetched_at: None,
                agrees: false,
                proven: Offset::ZERO,
                tell_at: Some(now + self.config.retry),
            };
            (node, progress)
        });
        let voters: BTreeMap<NodeId, Progress> = voters.collect();
        let epoch = self.epoch;
        for &node in voters.keys() {
            self.actions.push_back(Action::Ask { node, ask: Ask::BeginEpoch { epoch } });
        }
        let resign_at = (!alone).then(|| now + self.patience());
        self.role =
            Role::Leader(Leading { begun: None, voters, observers: BTreeMap::new(), resign_at });
        self.actions.push_back(Action::Leader { epoch, leader: Some(self.config.me.node) });
        self.actions.push_back(Action::BeginEpoch { epoch, granting });
    }

    /// Returns how long a leader goes on without a majority: longer than followers wait for it.
    pub(super) fn patience(&self) -> Duration {
        self.config.fetch_timeout * 3 / 2
    }

    /// Takes in where the control batch of the epoch stands.
    pub fn begun(&mut self, offset: Offset, log: &impl LogView) {
        if let Role::Leader(leading) = &mut self.role {
            leading.begun = Some(offset);
            self.advance(log);
        }
    }

    /// Takes in that a node knows of the epoch.
    pub(super) fn heard_of_epoch(&mut self, node: NodeId) {
        if let Role::Leader(leading) = &mut self.role
            && let Some(progress) = leading.voters.get_mut(&node)
        {
            progress.tell_at = None;
        }
    }

    /// Judges a fetch of the log.
    pub fn on_fetch(
        &mut self,
        now: Instant,
        from: ReplicaKey,
        ask: &FetchAsk,
        log: &impl LogView,
    ) -> FetchVerdict {
        let is_voter = self.voters().contains(&from);
        if ask.epoch > self.epoch && is_voter {
            // A voter has seen a later leader. What others say of epochs moves nobody.
            self.detach(now, ask.epoch);
        }
        let epoch = self.epoch;
        let leader = self.leader();
        let answer = |outcome| FetchVerdict::Answer(FetchAnswer { epoch, leader, outcome });
        let Role::Leader(leading) = &mut self.role else {
            return answer(FetchOutcome::NotLeader);
        };
        if ask.epoch != epoch {
            return answer(FetchOutcome::NotLeader);
        }
        let mut progress = leading.voters.get_mut(&from.node).filter(|_| is_voter);
        if let Some(progress) = &mut progress {
            progress.fetched_at = Some(now);
            progress.tell_at = None;
        }
        let is_empty = ask.from == Offset::ZERO && ask.last_epoch == LeaderEpoch::UNKNOWN;
        if !is_empty || log.start() > Offset::ZERO {
            if needs_snapshot(ask, log) {
                let id = log.latest_snapshot();
                return answer(id.map_or(FetchOutcome::NotLeader, FetchOutcome::Snapshot));
            }
            let (known, end) = log.end_of_epoch(ask.last_epoch);
            if known != ask.last_epoch || end < ask.from {
                return answer(FetchOutcome::Diverging { epoch: known, end });
            }
        }
        if let Some(progress) = progress {
            progress.agrees = true;
        } else {
            let observer = Observer { end: ask.from, fetched_at: now };
            leading.observers.insert(from, observer);
            leading.observers.retain(|_, it| now.since(it.fetched_at) < FORGOTTEN_AFTER);
        }
        FetchVerdict::Read
    }

    /// Judges who asks for a piece of a snapshot: returns the answer, for which it is to be looked whether the piece
    /// is there, or `None` for one that leads nothing for it.
    pub fn on_snapshot_asked(
        &mut self,
        now: Instant,
        from: ReplicaKey,
        epoch: LeaderEpoch,
    ) -> Option<SnapshotAnswer> {
        let is_voter = self.voters().contains(&from);
        let answer = SnapshotAnswer { epoch: self.epoch, leader: self.leader(), is_there: true };
        let Role::Leader(leading) = &mut self.role else { return None };
        if epoch != self.epoch {
            return None;
        }
        // Whoever asks for it is there and knows who leads.
        if let Some(progress) = leading.voters.get_mut(&from.node).filter(|_| is_voter) {
            progress.fetched_at = Some(now);
            progress.tell_at = None;
        }
        Some(answer)
    }

    /// Returns the answer that goes with records, or with none yet.
    pub fn fetch_answer(&self) -> FetchAnswer {
        let outcome = if self.is_leader() {
            FetchOutcome::Records { high_watermark: self.high_watermark }
        } else {
            FetchOutcome::NotLeader
        };
        FetchAnswer { epoch: self.epoch, leader: self.leader(), outcome }
    }

    /// Takes in what a voter has proven.
    pub fn on_ack(
        &mut self,
        from: ReplicaKey,
        epoch: LeaderEpoch,
        proven: Offset,
        log: &impl LogView,
    ) {
        if epoch != self.epoch || !self.voters().contains(&from) || proven > log.end() {
            return;
        }
        let Role::Leader(leading) = &mut self.role else { return };
        let Some(progress) = leading.voters.get_mut(&from.node).filter(|voter| voter.agrees) else {
            return;
        };
        progress.proven = progress.proven.max(proven);
        self.advance(log);
    }

    /// Moves the high watermark to what a majority has proven.
    pub(super) fn advance(&mut self, log: &impl LogView) {
        let majority = self.majority();
        let Role::Leader(leading) = &self.role else { return };
        let Some(begun) = leading.begun else { return };
        let mut proven: Vec<Offset> = leading.voters.values().map(|voter| voter.proven).collect();
        if self.is_voter() {
            proven.push(log.proven());
        }
        proven.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&reached) = proven.get(majority - 1) else { return };
        // Only a record of its own epoch commits what came before (figure 8 of the Raft paper).
        if reached > begun && reached > self.high_watermark {
            self.high_watermark = reached;
            self.actions.push_back(Action::Committed(reached));
        }
    }

    /// Says once more what voters have not heard, and resigns where no majority is heard.
    pub(super) fn check_quorum(&mut self, now: Instant) {
        let (majority, patience, retry) = (self.majority(), self.patience(), self.config.retry);
        let epoch = self.epoch;
        let votes = usize::from(self.is_voter());
        let Role::Leader(leading) = &mut self.role else { return };
        for (&node, progress) in &mut leading.voters {
            if progress.tell_at.is_some_and(|at| at <= now) {
                progress.tell_at = Some(now + retry);
                self.actions.push_back(Action::Ask { node, ask: Ask::BeginEpoch { epoch } });
            }
        }
        if leading.resign_at.is_none_or(|at| at > now) {
            return;
        }
        let mut heard: Vec<Instant> =
            leading.voters.values().filter_map(|voter| voter.fetched_at).collect();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        // The time at which a majority, this node among it, had been heard.
        let last = heard.get(majority.saturating_sub(votes + 1)).copied();
        match last.map(|at| at + patience).filter(|&at| at > now) {
            Some(at) => leading.resign_at = Some(at),
            None => self.resign(now),
        }
    }
}

/// Returns whether the log does not reach back to what is asked for, or to where both logs part, so that a snapshot
/// comes first (KIP-630).
fn needs_snapshot(ask: &FetchAsk, log: &impl LogView) -> bool {
    let start = log.start();
    if start == Offset::ZERO {
        return false;
    }
    let (known, _) = log.end_of_epoch(ask.last_epoch);
    // At the start itself the last record before it tells.
    let before = log.snapshot_at_start().filter(|_| ask.from == start);
    ask.from < start
        || known == LeaderEpoch::UNKNOWN
        || before.is_some_and(|before| before.epoch != ask.last_epoch)
}
