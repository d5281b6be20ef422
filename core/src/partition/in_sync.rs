//! Who holds a partition, who of them is in sync, and what that means for the high watermark.
//!
//! The set in force is the controller's alone to change (KIP-497). While a change is asked for, the high
//! watermark rests on the **maximal** set, which holds every member of both: the controller may elect any of
//! them. What never happens here: a high watermark that rests on a position of a fetch, or on fewer than MIN
//! members that live.
//!
//! Sources: KIP-497, 903, 966; Vanlightly's kafka-tlaplus, 6.5.2 to 6.5.4; `docs/cluster.md`, "Replication".

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{NodeId, Offset};
use crate::metadata::PartitionImage;
use crate::time::Instant;

/// A follower: a node within one of its registrations (KIP-903). What it had in an earlier one may be gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerId {
    /// The node.
    pub node: NodeId,
    /// The epoch of its registration.
    pub broker_epoch: i64,
}

/// What a leader knows of a follower, in its own epoch.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// The registration of the follower that said it, -1 where none did.
    broker_epoch: i64,
    /// Whether it has fetched in this epoch and its log was a prefix of the leader's.
    agrees: bool,
    /// What it has said to be durable.
    stable: Offset,
    /// Where its log begins.
    log_start: Offset,
    /// When it last had everything.
    caught_up_at: Instant,
}

impl Progress {
    /// Nothing is known of it yet, and it has time.
    const fn unknown(now: Instant) -> Self {
        let (stable, log_start) = (Offset::ZERO, Offset::ZERO);
        Self { broker_epoch: -1, agrees: false, stable, log_start, caught_up_at: now }
    }
}

/// What the controller made of a set that it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is in force from this partition epoch on.
    Granted(i32),
    /// It is not, and never was.
    Refused,
    /// The partition has changed since, perhaps by an earlier request for the same; the log tells.
    Changed,
    /// There was no answer: it may be in force or not.
    Unknown,
}

/// The replicas of a partition, as its leader sees them.
#[derive(Clone, Debug)]
pub struct InSync {
    me: NodeId,
    replicas: Vec<NodeId>,
    members: BTreeSet<NodeId>,
    /// What was asked of the controller and is not answered.
    proposed: Option<BTreeSet<NodeId>>,
    /// The partition epoch at which that was asked for: the answer to an earlier request says nothing of it.
    asked_at: i32,
    /// Whether the controller may have decided that, or not.
    unanswered: bool,
    fenced: BTreeSet<NodeId>,
    partition_epoch: i32,
    /// The end of the log when the epoch began.
    epoch_start: Offset,
    /// Where everybody was told that the log begins: no member may begin earlier, since it may lead.
    told_start: Offset,
    followers: BTreeMap<NodeId, Progress>,
}

impl InSync {
    /// Begins an epoch that `me` leads with a log of these bounds. `fenced` are those of the replicas that do not
    /// live.
    pub fn new(
        now: Instant,
        me: NodeId,
        state: &PartitionImage,
        fenced: BTreeSet<NodeId>,
        (told_start, epoch_start): (Offset, Offset),
    ) -> Self {
        let progress = Progress::unknown(now);
        let others = state.replicas.iter().filter(|&&node| node != me);
        Self {
            me,
            replicas: state.replicas.clone(),
            members: state.isr.iter().copied().collect(),
            proposed: None,
            asked_at: -1,
            unanswered: false,
            fenced,
            partition_epoch: state.partition_epoch,
            epoch_start,
            told_start,
            followers: others.map(|&node| (node, progress)).collect(),
        }
    }

    /// Takes in a change of the partition that leaves its epoch as it is.
    pub fn update(&mut self, now: Instant, state: &PartitionImage, fenced: BTreeSet<NodeId>) {
        if state.partition_epoch > self.partition_epoch {
            (self.proposed, self.unanswered) = (None, false);
        }
        self.partition_epoch = state.partition_epoch;
        self.members = state.isr.iter().copied().collect();
        self.replicas.clone_from(&state.replicas);
        self.fenced = fenced;
        let me = self.me;
        self.followers.retain(|node, _| state.replicas.contains(node));
        for &node in state.replicas.iter().filter(|&&node| node != me) {
            let progress = Progress::unknown(now);
            self.followers.entry(node).or_insert(progress);
        }
    }

    /// Returns how many replicas there are to be.
    pub fn assigned(&self) -> usize {
        self.replicas.len()
    }

    /// Returns how many members of the set in force live: what `min.insync.replicas` counts.
    pub fn live(&self) -> usize {
        self.members.iter().filter(|node| !self.fenced.contains(node)).count()
    }

    /// Returns the set that the high watermark rests on, in order.
    pub fn maximal(&self) -> Vec<NodeId> {
        let proposed = self.proposed.iter().flatten();
        let all: BTreeSet<NodeId> = self.members.iter().chain(proposed).copied().collect();
        all.into_iter().collect()
    }

    /// Returns which change of the partition is the last one known.
    pub const fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// Returns the end of the log when the epoch began.
    pub const fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// Returns whether there is any other replica.
    pub fn has_followers(&self) -> bool {
        !self.followers.is_empty()
    }

    /// Returns how far everything is stable on the maximal set, `None` while too few of it live.
    pub fn committed(&self, own_stable: Offset, min: usize) -> Option<Offset> {
        if self.live() < min {
            return None;
        }
        let stable = |node: &NodeId| {
            if *node == self.me {
                return own_stable;
            }
            let known = self.followers.get(node);
            known.filter(|progress| progress.agrees).map_or(Offset::ZERO, |it| it.stable)
        };
        self.members.iter().chain(self.proposed.iter().flatten()).map(stable).min()
    }

    /// Returns where the logs of the members begin at least, this one's among them: what is below comes back with
    /// none of them. One that is fenced counts too: it may lead without having heard of a purge.
    pub fn lowest_start(&self, own_start: Offset) -> Offset {
        let members = self.members.iter().chain(self.proposed.iter().flatten());
        members
            .filter_map(|node| self.followers.get(node))
            .map(|progress| progress.log_start)
            .fold(own_start, Offset::min)
    }

    /// Takes in that somebody is told that the log begins here.
    pub fn told(&mut self, start: Offset) {
        self.told_start = self.told_start.max(start);
    }

    /// Returns the registration in which a follower has said what is known of it, `None` where nothing is.
    pub fn registration_of(&self, node: NodeId) -> Option<i64> {
        self.followers.get(&node).map(|it| it.broker_epoch).filter(|&epoch| epoch >= 0)
    }

    /// Returns whether the log of a follower holds an offset, or ends there.
    pub fn reaches(&self, node: NodeId, offset: Offset) -> bool {
        self.followers.get(&node).is_some_and(|progress| {
            progress.agrees && (progress.log_start..=progress.stable).contains(&offset)
        })
    }

    /// Takes in that a follower has fetched from `from` on in this epoch, that its log agrees, and where it
    /// begins. What was known of an earlier registration of its node holds no more.
    pub fn fetched(
        &mut self,
        now: Instant,
        follower: FollowerId,
        (from, log_start): (Offset, Offset),
        end: Offset,
    ) {
        if let Some(progress) = self.followers.get_mut(&follower.node) {
            if progress.broker_epoch > follower.broker_epoch {
                return;
            }
            if progress.broker_epoch < follower.broker_epoch {
                *progress =
                    Progress { broker_epoch: follower.broker_epoch, ..Progress::unknown(now) };
            }
            progress.agrees = true;
            progress.log_start = progress.log_start.max(log_start);
            if from >= end {
                progress.caught_up_at = now;
            }
        }
    }

    /// Takes in what a follower has durable. Returns whether it may change anything.
    pub fn acknowledged(
        &mut self,
        now: Instant,
        follower: FollowerId,
        stable: Offset,
        own_stable: Offset,
    ) -> bool {
        let known = self.followers.get_mut(&follower.node);
        let Some(progress) =
            known.filter(|it| it.agrees && it.broker_epoch == follower.broker_epoch)
        else {
            return false;
        };
        if stable >= own_stable {
            progress.caught_up_at = now;
        }
        let moved = stable > progress.stable;
        progress.stable = progress.stable.max(stable);
        moved
    }

    /// Returns the set to ask the controller for, where it should be another one.
    ///
    /// A follower joins once it has fetched in this epoch, its stable end has reached both the high watermark and
    /// the beginning of the epoch, and its log begins no earlier than this one at `start`: before that it may
    /// hold what was never committed. A member leaves that has had less than everything for `lag_max`, if
    /// enough stay without it.
    pub fn wanted(
        &self,
        now: Instant,
        (start, high_watermark): (Offset, Offset),
        min: usize,
        lag_max: Duration,
    ) -> Option<Vec<NodeId>> {
        if self.proposed.is_some() {
            return None;
        }
        let mut set = self.members.clone();
        for (&node, progress) in &self.followers {
            let reached = high_watermark.max(self.epoch_start);
            let is_whole =
                progress.stable >= reached && progress.log_start >= self.told_start.max(start);
            if progress.agrees && is_whole && !self.fenced.contains(&node) {
                set.insert(node);
            }
        }
        for (&node, progress) in &self.followers {
            let late = progress.caught_up_at + lag_max <= now;
            let live = set.iter().filter(|it| !self.fenced.contains(it)).count();
            if late && set.contains(&node) && live > min.max(1) {
                set.remove(&node);
            }
        }
        (set != self.members).then(|| set.into_iter().collect())
    }

    /// Takes in that this set is asked for.
    pub fn propose(&mut self, set: &[NodeId]) {
        self.proposed = Some(set.iter().copied().collect());
        self.asked_at = self.partition_epoch;
    }

    /// Takes in what the controller made of the set that was asked for at a partition epoch.
    pub fn decided(&mut self, asked_at: i32, verdict: Verdict) {
        if asked_at != self.asked_at {
            return;
        }
        match verdict {
            // A change that it granted is in force once the log has it.
            Verdict::Granted(epoch) if epoch > self.partition_epoch => {}
            Verdict::Granted(_) | Verdict::Refused => self.proposed = None,
            // It may have been granted: the high watermark rests on both sets until the log tells.
            Verdict::Changed => {}
            Verdict::Unknown => self.unanswered = true,
        }
    }

    /// Returns the set that is to be asked for once more, because it is not known what became of it.
    pub fn unanswered(&mut self) -> Option<Vec<NodeId>> {
        if !std::mem::take(&mut self.unanswered) {
            return None;
        }
        self.proposed.as_ref().map(|set| set.iter().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LeaderEpoch;

    const NOW: Instant = Instant::ZERO;

    fn state(isr: &[i32]) -> PartitionImage {
        let nodes = |ids: &[i32]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        PartitionImage {
            replicas: nodes(&[1, 2, 3]),
            isr: nodes(isr),
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: 7,
            adding: Vec::new(),
            removing: Vec::new(),
        }
    }

    fn set(isr: &[i32]) -> InSync {
        InSync::new(NOW, NodeId(1), &state(isr), BTreeSet::new(), (Offset(0), Offset(10)))
    }

    fn id(node: i32) -> FollowerId {
        FollowerId { node: NodeId(node), broker_epoch: 5 }
    }

    fn follow(set: &mut InSync, node: i32, stable: i64) {
        set.fetched(NOW, id(node), (Offset(stable), Offset(0)), Offset(20));
        set.acknowledged(NOW, id(node), Offset(stable), Offset(20));
    }

    #[test]
    fn the_high_watermark_rests_on_every_member_and_on_those_asked_for() {
        let mut set = set(&[1, 2]);
        follow(&mut set, 2, 18);
        assert_eq!(set.committed(Offset(20), 2), Some(Offset(18)));
        set.propose(&[NodeId(1), NodeId(2), NodeId(3)]);
        assert_eq!(set.committed(Offset(20), 2), Some(Offset(0)), "3 may be elected");
        set.decided(7, Verdict::Refused);
        assert_eq!(set.committed(Offset(20), 2), Some(Offset(18)));
    }

    #[test]
    fn a_set_that_is_asked_to_shrink_still_counts_whole() {
        let mut set = set(&[1, 2, 3]);
        follow(&mut set, 2, 18);
        follow(&mut set, 3, 11);
        set.propose(&[NodeId(1), NodeId(2)]);
        assert_eq!(set.committed(Offset(20), 2), Some(Offset(11)));
    }

    #[test]
    fn nothing_is_committed_while_fewer_than_min_members_live() {
        let mut set = set(&[1, 2]);
        follow(&mut set, 2, 18);
        set.fenced = BTreeSet::from([NodeId(2)]);
        assert_eq!(set.committed(Offset(20), 2), None);
    }

    #[test]
    fn what_is_acknowledged_counts_once_the_log_was_found_to_agree() {
        let mut set = set(&[1, 2]);
        set.acknowledged(NOW, id(2), Offset(18), Offset(20));
        assert_eq!(set.committed(Offset(20), 2), Some(Offset(0)));
    }

    #[test]
    fn a_follower_is_near_enough_once_it_has_what_is_asked_for() {
        let mut set = set(&[1, 2]);
        assert!(!set.reaches(NodeId(2), Offset(0)), "nothing is known of it");
        follow(&mut set, 2, 5);
        assert!(set.reaches(NodeId(2), Offset(5)));
        assert!(!set.reaches(NodeId(2), Offset(6)));
        assert!(!set.reaches(NodeId(3), Offset(0)));
    }

    #[test]
    fn a_follower_joins_with_everything_up_to_the_high_watermark_and_the_epochs_beginning() {
        let lag = Duration::from_secs(30);
        let mut set = set(&[1, 2]);
        let wanted = |set: &InSync, hw| set.wanted(NOW, (Offset(0), Offset(hw)), 2, lag);
        follow(&mut set, 3, 9);
        assert_eq!(wanted(&set, 9), None, "before the epoch's beginning");
        follow(&mut set, 3, 11);
        assert_eq!(wanted(&set, 12), None, "below the high watermark");
        follow(&mut set, 3, 12);
        assert_eq!(wanted(&set, 12), Some(vec![NodeId(1), NodeId(2), NodeId(3)]));
    }

    #[test]
    fn a_follower_whose_log_begins_before_what_was_purged_does_not_join() {
        let lag = Duration::from_secs(30);
        let mut set = set(&[1, 2]);
        set.told(Offset(5));
        follow(&mut set, 3, 12);
        assert_eq!(set.wanted(NOW, (Offset(0), Offset(12)), 2, lag), None);
        set.fetched(NOW, id(3), (Offset(12), Offset(5)), Offset(20));
        assert!(set.wanted(NOW, (Offset(0), Offset(12)), 2, lag).is_some());
    }

    #[test]
    fn a_follower_that_begins_before_the_leader_does_not_join() {
        let lag = Duration::from_secs(30);
        let mut set = set(&[1, 2]);
        follow(&mut set, 3, 12);
        let bounds = (Offset(5), Offset(12));
        assert_eq!(set.wanted(NOW, bounds, 2, lag), None, "it may hold there what never counted");
        set.fetched(NOW, id(3), (Offset(12), Offset(5)), Offset(20));
        assert!(set.wanted(NOW, bounds, 2, lag).is_some());
    }

    #[test]
    fn the_answer_to_an_earlier_request_is_not_taken_for_that_to_a_later_one() {
        let mut set = set(&[1]);
        follow(&mut set, 2, 18);
        follow(&mut set, 3, 15);
        set.propose(&[NodeId(1), NodeId(2)]);
        let isr = vec![NodeId(1), NodeId(2)];
        set.update(
            NOW,
            &PartitionImage { partition_epoch: 8, isr, ..state(&[1]) },
            BTreeSet::new(),
        );
        set.propose(&[NodeId(1), NodeId(2), NodeId(3)]);
        set.decided(7, Verdict::Granted(8));
        assert_eq!(set.committed(Offset(20), 1), Some(Offset(15)), "the third may be in force");
    }

    #[test]
    fn a_purge_waits_for_a_member_that_is_fenced_too() {
        let mut set = set(&[1, 2]);
        set.fenced = BTreeSet::from([NodeId(2)]);
        assert_eq!(set.lowest_start(Offset(5)), Offset(0), "it may lead with the log it has");
        set.fetched(NOW, id(2), (Offset(12), Offset(5)), Offset(20));
        assert_eq!(set.lowest_start(Offset(5)), Offset(5));
    }

    #[test]
    fn a_member_that_lags_leaves_unless_too_few_would_stay() {
        let lag = Duration::from_secs(30);
        let late = NOW + lag;
        let mut set = set(&[1, 2, 3]);
        set.fetched(late, id(2), (Offset(20), Offset(0)), Offset(20));
        assert_eq!(
            set.wanted(late, (Offset(0), Offset(12)), 2, lag),
            Some(vec![NodeId(1), NodeId(2)])
        );
        assert_eq!(set.wanted(late, (Offset(0), Offset(12)), 3, lag), None);
    }

    #[test]
    fn a_change_whose_outcome_is_not_known_counts_until_the_log_tells() {
        let mut set = set(&[1, 2]);
        follow(&mut set, 2, 18);
        set.propose(&[NodeId(1), NodeId(2), NodeId(3)]);
        set.decided(7, Verdict::Unknown);
        assert_eq!(set.committed(Offset(20), 2), Some(Offset(0)), "it may be granted");
        assert_eq!(set.unanswered(), Some(vec![NodeId(1), NodeId(2), NodeId(3)]));
        set.decided(7, Verdict::Changed);
        assert_eq!(set.committed(Offset(20), 2), Some(Offset(0)), "by the first request, perhaps");
    }

    #[test]
    fn what_a_follower_had_in_an_earlier_registration_counts_no_more() {
        let lag = Duration::from_secs(30);
        let mut set = set(&[1, 2]);
        follow(&mut set, 3, 18);
        let again = FollowerId { node: NodeId(3), broker_epoch: 6 };
        set.fetched(NOW, again, (Offset(0), Offset(0)), Offset(20));
        assert_eq!(
            set.wanted(NOW, (Offset(0), Offset(12)), 2, lag),
            None,
            "its disk may be another"
        );
        assert!(!set.acknowledged(NOW, id(3), Offset(18), Offset(20)), "said before that");
        set.acknowledged(NOW, again, Offset(18), Offset(20));
        assert!(set.wanted(NOW, (Offset(0), Offset(12)), 2, lag).is_some());
    }
}
