//! A follower: finding the leader, fetching from it, cutting what it does not have.

use std::collections::BTreeSet;

use crate::ids::{LeaderEpoch, NodeId, Offset, SnapshotId};
use crate::quorum::messages::{Ask, FetchAnswer, FetchAsk, FetchOutcome, SnapshotAnswer};
use crate::quorum::messages::{SnapshotAsk, Standing};
use crate::quorum::{Action, Following, LogView, Quorum, ReplicaKey, Role};
use crate::time::Instant;

/// What is to be done with the answer to a fetch, before [`Quorum::appended`] is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Append the records that came with it; what they say of the high watermark goes to
    /// [`Quorum::appended`].
    Append {
        /// The end of what is committed.
        high_watermark: Offset,
    },
    /// Cut the log to this offset.
    Truncate(Offset),
    /// Make room for this snapshot, then call [`Quorum::ask_for_piece`], or [`Quorum::give_up_receiving`].
    Receive(SnapshotId),
    /// Nothing.
    Nothing,
    /// The leader's log lacks what is committed: nothing may go on.
    Broken(String),
}

impl Quorum {
    /// Takes in that a node leads an epoch, or none is known there.
    ///
    /// Returns whether that changed what this node is.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        epoch: LeaderEpoch,
        leader: Option<NodeId>,
        log: &impl LogView,
    ) -> bool {
        if epoch < self.epoch || leader.is_some_and(|node| !self.may_vote(node)) {
            return false;
        }
        match leader {
            Some(leader) if leader == self.config.me.node => {
                // Somebody still believes in an earlier life of this node.
                if epoch > self.epoch {
                    self.detach(now, epoch);
                    return true;
                }
                false
            }
            Some(leader) if epoch > self.epoch || self.leader().is_none() => {
                self.follow(now, epoch, leader, log);
                true
            }
            None if epoch > self.epoch => {
                self.detach(now, epoch);
                true
            }
            Some(_) | None => false,
        }
    }

    fn follow(&mut self, now: Instant, epoch: LeaderEpoch, leader: NodeId, log: &impl LogView) {
        self.enter(epoch);
        self.role = Role::Follower(Following {
            leader,
            fetch_by: now + self.config.fetch_timeout,
            heard: false,
            fetching: false,
            retry_at: None,
            agrees: false,
            receiving: None,
        });
        self.actions.push_back(Action::Leader { epoch, leader: Some(leader) });
        self.fetch(log);
    }

    /// Asks for what follows in the log, if nothing is under way.
    pub(super) fn fetch(&mut self, log: &impl LogView) {
        let (epoch, installing) = (self.epoch, self.installing);
        let Role::Follower(following) = &mut self.role else { return };
        if installing {
            following.retry_at = None;
            return;
        }
        if following.fetching {
            return;
        }
        if following.receiving.is_some() {
            return self.ask_for_piece();
        }
        following.fetching = true;
        following.retry_at = None;
        let ask = FetchAsk { epoch, from: log.end(), last_epoch: log.last_epoch() };
        let node = following.leader;
        self.actions.push_back(Action::Ask { node, ask: Ask::Fetch(ask) });
    }

    /// A node that does not vote asks the voters in turn who leads, and whoever else may know.
    pub(super) fn look_for_leader(&mut self, now: Instant, log: &impl LogView) {
        let known = self.config.known.iter().filter(|&&node| node != self.config.me.node);
        let others: BTreeSet<NodeId> = self.others().into_iter().chain(known.copied()).collect();
        let others: Vec<NodeId> = others.into_iter().collect();
        self.detach(now, self.epoch);
        if others.is_empty() {
            return;
        }
        let pick = self.election_wait().as_nanos() as usize % others.len();
        let ask = FetchAsk { epoch: self.epoch, from: log.end(), last_epoch: log.last_epoch() };
        self.actions.push_back(Action::Ask { node: others[pick], ask: Ask::Fetch(ask) });
    }

    /// Takes in that a node leads an epoch, by its own word. Returns the answer.
    pub fn on_epoch_begun(
        &mut self,
        now: Instant,
        leader: NodeId,
        epoch: LeaderEpoch,
        log: &impl LogView,
    ) -> Standing {
        self.learn(now, epoch, Some(leader), log);
        if let Role::Follower(following) = &mut self.role {
            following.heard |= following.leader == leader && epoch == self.epoch;
        }
        self.standing()
    }

    /// Takes in that a node leads an epoch no more, by its own word. Returns the answer.
    pub fn on_epoch_ended(
        &mut self,
        now: Instant,
        leader: NodeId,
        epoch: LeaderEpoch,
        preferred: &[NodeId],
        log: &impl LogView,
    ) -> Standing {
        if self.may_vote(leader) {
            self.learn(now, epoch, None, log);
        }
        if epoch == self.epoch && self.leader() == Some(leader) && leader != self.config.me.node {
            let place = preferred.iter().position(|&node| node == self.config.me.node);
            self.detach(now, epoch);
            if let (Some(0), Role::Unattached { election_at: Some(at) }) = (place, &mut self.role) {
                // The first of them stands at once.
                *at = now;
                self.wake(now, log);
            }
        }
        self.standing()
    }

    /// Returns where this node stands.
    pub const fn standing(&self) -> Standing {
        Standing { epoch: self.epoch, leader: self.leader() }
    }

    /// Takes the answer to the beginning or the end of an epoch in.
    pub fn on_standing(
        &mut self,
        now: Instant,
        node: NodeId,
        standing: Standing,
        log: &impl LogView,
    ) {
        if !self.learn(now, standing.epoch, standing.leader, log) && standing.epoch == self.epoch {
            self.heard_of_epoch(node);
        }
    }

    /// Takes the answer to a fetch in. The driver does what the step says, and then calls
    /// [`appended`](Self::appended).
    pub fn on_fetch_answer(
        &mut self,
        now: Instant,
        node: NodeId,
        ask: &FetchAsk,
        answer: FetchAnswer,
        log: &impl LogView,
    ) -> Step {
        if self.learn(now, answer.epoch, answer.leader, log) {
            return Step::Nothing;
        }
        let fetch_timeout = self.config.fetch_timeout;
        let retry = self.config.retry;
        let high_watermark = self.high_watermark;
        let (epoch, installing) = (self.epoch, self.installing);
        let Role::Follower(following) = &mut self.role else { return Step::Nothing };
        if following.leader != node || ask.epoch != epoch {
            return Step::Nothing;
        }
        if installing || following.receiving.is_some() {
            // It was asked before that began, and says nothing of the log that is to come.
            return Step::Nothing;
        }
        following.fetching = false;
        if answer.epoch != epoch {
            following.retry_at = Some(now + retry);
            return Step::Nothing;
        }
        if answer.leader != Some(node) {
            // It has resigned, or lives anew.
            self.leave(now, node);
            return Step::Nothing;
        }
        if ask.from != log.end() || ask.last_epoch != log.last_epoch() {
            // The log has changed since it was asked; nothing of the answer fits.
            return Step::Nothing;
        }
        match answer.outcome {
            FetchOutcome::Records { high_watermark } => {
                following.heard = true;
                following.fetch_by = now + fetch_timeout;
                Step::Append { high_watermark }
            }
            FetchOutcome::Diverging { epoch, end } => {
                following.heard = true;
                following.fetch_by = now + fetch_timeout;
                let (mine, my_end) = log.end_of_epoch(epoch);
                // KIP-279: the smaller of both ends; a smaller epoch of ours is asked about in the next
                // round.
                let to = if mine == epoch { my_end.min(end) } else { my_end };
                let to = to.min(log.end());
                if to < high_watermark {
                    return Step::Broken(format!(
                        "its log parts from this one at offset {to}, and everything below \
                         {high_watermark} is committed"
                    ));
                }
                Step::Truncate(to)
            }
            FetchOutcome::Snapshot(id) => {
                following.heard = true;
                following.fetch_by = now + fetch_timeout;
                if id.end_offset < high_watermark {
                    return Step::Broken(format!(
                        "it would have this node begin with {id}, and everything below {high_watermark} is committed"
                    ));
                }
                following.receiving = Some((id, 0));
                Step::Receive(id)
            }
            FetchOutcome::NotLeader => {
                self.leave(now, node);
                Step::Nothing
            }
        }
    }

    /// Takes in that a step was carried out, and asks for what follows. `agreed` is what the leader said
    /// of the high watermark, where the log was found to agree with its.
    pub fn appended(&mut self, now: Instant, agreed: Option<Offset>, log: &impl LogView) {
        let Role::Follower(following) = &mut self.role else { return };
        let waits = following.fetching || following.receiving.is_some();
        if waits || following.retry_at.is_some_and(|at| at > now) {
            return;
        }
        if let Some(high_watermark) = agreed {
            let newly = !std::mem::replace(&mut following.agrees, true);
            let committed = high_watermark.min(log.end());
            if committed > self.high_watermark {
                self.high_watermark = committed;
                self.actions.push_back(Action::Committed(committed));
            }
            if newly {
                self.acknowledge(log);
            }
        }
        self.fetch(log);
    }

    /// Asks for the next piece of the snapshot, if nothing is under way.
    pub fn ask_for_piece(&mut self) {
        let epoch = self.epoch;
        let Role::Follower(following) = &mut self.role else { return };
        let Some((id, position)) = following.receiving.filter(|_| !following.fetching) else {
            return;
        };
        following.fetching = true;
        following.retry_at = None;
        let ask = Ask::Snapshot(SnapshotAsk { epoch, id, position });
        self.actions.push_back(Action::Ask { node: following.leader, ask });
    }

    /// Returns the snapshot that is being received.
    pub const fn receiving(&self) -> Option<SnapshotId> {
        match &self.role {
            Role::Follower(Following { receiving: Some((id, _)), .. }) => Some(*id),
            Role::Follower(_)
            | Role::Unattached { .. }
            | Role::Prospective(_)
            | Role::Candidate(_)
            | Role::Leader(_) => None,
        }
    }

    /// Takes the answer to a piece of a snapshot in. Returns whether its bytes are what was waited for; the driver
    /// then calls [`piece_written`](Self::piece_written), [`install`](Self::install) or
    /// [`give_up_receiving`](Self::give_up_receiving).
    pub fn on_snapshot_answer(
        &mut self,
        now: Instant,
        node: NodeId,
        ask: &SnapshotAsk,
        answer: SnapshotAnswer,
        log: &impl LogView,
    ) -> bool {
        if self.learn(now, answer.epoch, answer.leader, log) {
            return false;
        }
        let (fetch_timeout, epoch) = (self.config.fetch_timeout, self.epoch);
        let Role::Follower(following) = &mut self.role else { return false };
        if following.leader != node
            || ask.epoch != epoch
            || following.receiving != Some((ask.id, ask.position))
            || !following.fetching
        {
            return false;
        }
        following.fetching = false;
        if answer.epoch != epoch || answer.leader != Some(node) {
            // It has resigned, or lives anew.
            self.leave(now, node);
            return false;
        }
        following.heard = true;
        following.fetch_by = now + fetch_timeout;
        if !answer.is_there {
            // It has a newer one by now.
            self.give_up_receiving(now);
        }
        answer.is_there
    }

    /// Takes in that a piece is written, and asks for the one behind it.
    pub fn piece_written(&mut self, now: Instant, upto: u64) {
        let fetch_timeout = self.config.fetch_timeout;
        if let Role::Follower(Following { receiving: Some((_, position)), fetch_by, .. }) =
            &mut self.role
        {
            *position = upto;
            // How long that took is not the leader's fault.
            *fetch_by = now + fetch_timeout;
        }
        self.ask_for_piece();
    }

    /// Receives nothing any more, and asks once more what follows.
    pub fn give_up_receiving(&mut self, now: Instant) {
        let retry = self.config.retry;
        if let Role::Follower(following) = &mut self.role
            && following.receiving.take().is_some()
        {
            following.fetching = false;
            following.retry_at = Some(now + retry);
        }
    }

    /// Takes in that all of a snapshot has come and is whole. Until [`installed`](Self::installed) is called it is
    /// not known which log this node has: it asks for nothing and stands for nothing.
    pub fn install(&mut self) {
        self.installing = true;
        if let Role::Follower(following) = &mut self.role {
            following.receiving = None;
        }
    }

    /// Takes in that a snapshot is durable and the log begins with it, and who votes as it says.
    pub fn installed(
        &mut self,
        id: SnapshotId,
        voters: Option<BTreeSet<ReplicaKey>>,
        log: &impl LogView,
    ) {
        assert!(self.installing && log.end() == id.end_offset, "the log begins with the snapshot");
        self.installing = false;
        self.restore_voters(id.end_offset, voters);
        if id.end_offset > self.high_watermark {
            self.high_watermark = id.end_offset;
            self.actions.push_back(Action::Committed(id.end_offset));
        }
        self.fetch(log);
    }

    /// Tells the leader what is proven here.
    pub(super) fn acknowledge(&mut self, log: &impl LogView) {
        let Role::Follower(following) = &self.role else { return };
        if following.agrees && self.is_voter() {
            let ask = Ask::Ack { epoch: self.epoch, proven: log.proven() };
            self.actions.push_back(Action::Ask { node: following.leader, ask });
        }
    }

    /// Takes in that more of the log is proven here.
    pub fn on_proven(&mut self, log: &impl LogView) {
        match self.role {
            Role::Follower(_) => self.acknowledge(log),
            Role::Leader(_) => self.advance(log),
            Role::Unattached { .. } | Role::Prospective(_) | Role::Candidate(_) => {}
        }
    }

    /// Takes in that a request got no answer.
    pub fn on_failed(&mut self, now: Instant, node: NodeId, ask: &Ask) {
        let retry = self.config.retry;
        match (&mut self.role, ask) {
            (
                Role::Follower(following),
                Ask::Fetch(FetchAsk { epoch, .. }) | Ask::Snapshot(SnapshotAsk { epoch, .. }),
            ) if following.leader == node && *epoch == self.epoch => {
                following.fetching = false;
                following.retry_at = Some(now + retry);
            }
            (Role::Leader(leading), Ask::BeginEpoch { epoch }) if *epoch == self.epoch => {
                leading.tell_again(node, now + retry);
            }
            // Votes are asked for anew with the next election; acknowledgements with the next fetch.
            _ => {}
        }
    }

    /// Takes in that a link to a node stands again: what it did not get is said once more.
    pub fn on_reachable(&mut self, log: &impl LogView) {
        self.acknowledge(log);
    }
}
