//! Votes and pre-votes: asking for them, giving them, counting them.

use std::collections::BTreeSet;

use crate::ids::{LeaderEpoch, NodeId};
use crate::quorum::messages::{Ask, VoteAnswer, VoteAsk};
use crate::quorum::{Action, Caller, LogView, Quorum, Role, Tally};
use crate::time::Instant;

impl Quorum {
    /// Asks the others whether they would vote for this node.
    pub(super) fn ask_for_pre_votes(&mut self, now: Instant, log: &impl LogView) {
        if self.leaving || self.installing || !self.is_voter() {
            return self.detach(now, self.epoch);
        }
        let until = now + self.election_wait();
        let granted = BTreeSet::from([self.config.me.node]);
        self.role = Role::Prospective(Tally { granted, refused: BTreeSet::new(), until });
        self.ask_for_votes(true, log);
    }

    /// Stands for election in the next epoch.
    pub(super) fn stand(&mut self, now: Instant, log: &impl LogView) {
        let me = self.config.me.node;
        // A peer may name any epoch; behind the last one nobody stands.
        let Some(next) = self.epoch.0.checked_add(1) else { return self.detach(now, self.epoch) };
        self.enter(LeaderEpoch(next));
        self.vote = Some((me, false));
        let until = now + self.election_wait();
        // Its own vote counts once it is proven, as any other.
        self.role =
            Role::Candidate(Tally { granted: BTreeSet::new(), refused: BTreeSet::new(), until });
        self.actions.push_back(Action::Leader { epoch: self.epoch, leader: None });
        self.actions.push_back(Action::Persist { epoch: self.epoch, candidate: me });
        self.ask_for_votes(false, log);
    }

    fn ask_for_votes(&mut self, pre_vote: bool, log: &impl LogView) {
        let voters: Vec<_> = self.voters().iter().copied().collect();
        for voter in voters.into_iter().filter(|&voter| voter != self.config.me) {
            let ask = VoteAsk {
                epoch: self.epoch,
                candidate: self.config.me,
                voter,
                last_epoch: log.last_epoch(),
                end: log.end(),
                pre_vote,
            };
            self.actions.push_back(Action::Ask { node: voter.node, ask: Ask::Vote(ask) });
        }
    }

    /// Takes in that a vote of this node is proven durable.
    pub fn persisted(
        &mut self,
        now: Instant,
        epoch: LeaderEpoch,
        candidate: NodeId,
        log: &impl LogView,
    ) {
        if epoch != self.epoch {
            return;
        }
        let Some((voted, proven)) = &mut self.vote else { return };
        if *voted != candidate {
            return;
        }
        *proven = true;
        for caller in std::mem::take(&mut self.waiting) {
            let answer = VoteAnswer { epoch, leader: self.leader(), granted: true };
            self.actions.push_back(Action::AnswerVote { caller, answer });
        }
        if candidate == self.config.me.node
            && let Role::Candidate(tally) = &mut self.role
        {
            tally.granted.insert(candidate);
            self.count_votes(now, log);
        }
    }

    /// Takes a request for a vote in. Its answer comes as [`Action::AnswerVote`], perhaps later.
    pub fn on_vote_asked(
        &mut self,
        now: Instant,
        caller: Caller,
        ask: &VoteAsk,
        log: &impl LogView,
    ) {
        // Who votes may have changed, and this node not have heard of it: the candidate knows of its log alone, and
        // this replica, if it is the one that is meant, gives what it is asked for (KIP-853).
        let is_meant = ask.voter == self.config.me && self.may_vote(ask.candidate.node);
        if !is_meant || ask.epoch < self.epoch {
            return self.refuse(caller);
        }
        let complete = (ask.last_epoch, ask.end) >= (log.last_epoch(), log.end());
        if ask.epoch > self.epoch {
            // Somebody stood in that epoch, with a majority behind it.
            self.detach(now, ask.epoch);
        }
        if ask.pre_vote {
            // One that hears from a leader keeps it, unless it is that leader who asks. What others say of a
            // leader is no reason: two that tell each other of one that is gone would never elect another.
            let content = match &self.role {
                Role::Leader(_) => true,
                Role::Follower(following) => {
                    following.leader != ask.candidate.node
                        && following.heard
                        && following.fetch_by > now
                }
                Role::Unattached { .. } | Role::Prospective(_) | Role::Candidate(_) => false,
            };
            let granted = complete && !content;
            // Who would vote for another names no leader: the one who asks would follow it.
            let known = self.leader().filter(|&leader| !granted && leader != ask.candidate.node);
            let answer = VoteAnswer { epoch: self.epoch, leader: known, granted };
            self.actions.push_back(Action::AnswerVote { caller, answer });
            return;
        }
        let free = match self.vote {
            None => self.leader().is_none(),
            Some((voted, _)) => voted == ask.candidate.node,
        };
        if !(free && complete) {
            return self.refuse(caller);
        }
        match self.vote {
            Some((_, true)) => {
                let answer = VoteAnswer { epoch: self.epoch, leader: self.leader(), granted: true };
                self.actions.push_back(Action::AnswerVote { caller, answer });
            }
            Some((_, false)) => self.waiting.push(caller),
            None => {
                self.vote = Some((ask.candidate.node, false));
                self.waiting.push(caller);
                // The one voted for has time to win.
                self.detach(now, self.epoch);
                self.actions.push_back(Action::Persist {
                    epoch: self.epoch,
                    candidate: ask.candidate.node,
                });
            }
        }
    }

    pub(super) fn refuse(&mut self, caller: Caller) {
        let answer = VoteAnswer { epoch: self.epoch, leader: self.leader(), granted: false };
        self.actions.push_back(Action::AnswerVote { caller, answer });
    }

    /// Takes the answer to a vote that was asked for in.
    pub fn on_vote_answer(
        &mut self,
        now: Instant,
        node: NodeId,
        ask: &VoteAsk,
        answer: VoteAnswer,
        log: &impl LogView,
    ) {
        if self.learn(now, answer.epoch, answer.leader, log) || ask.epoch != self.epoch {
            return;
        }
        let tally = match &mut self.role {
            Role::Prospective(tally) if ask.pre_vote => tally,
            Role::Candidate(tally) if !ask.pre_vote => tally,
            Role::Unattached { .. }
            | Role::Prospective(_)
            | Role::Candidate(_)
            | Role::Follower(_)
            | Role::Leader(_) => return,
        };
        if answer.granted {
            tally.granted.insert(node);
        } else {
            tally.refused.insert(node);
        }
        self.count_votes(now, log);
    }

    fn count_votes(&mut self, now: Instant, log: &impl LogView) {
        let (majority, voters) = (self.majority(), self.voters().len());
        match &self.role {
            Role::Prospective(tally) if tally.granted.len() >= majority => self.stand(now, log),
            Role::Candidate(tally) if tally.granted.len() >= majority => {
                let granting: Vec<NodeId> = tally.granted.iter().copied().collect();
                self.lead(now, granting);
            }
            // Nobody else is left who could help: another time.
            Role::Prospective(tally) | Role::Candidate(tally)
                if voters - tally.refused.len() < majority =>
            {
                self.detach(now, self.epoch);
            }
            Role::Unattached { .. }
            | Role::Prospective(_)
            | Role::Candidate(_)
            | Role::Follower(_)
            | Role::Leader(_) => {}
        }
    }
}
