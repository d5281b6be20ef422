//! What goes without being asked: offsets past their retention, empty groups, offsets of topics
//! that were deleted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use super::groups::group_tombstone;
use super::live::{Group, GroupPhase};
use super::offsets::offset_key;
use super::stored::StoredOffset;
use super::timers::Timer;
use super::{Cx, GroupCoordinator};
use crate::ids::TopicId;
use crate::time::UnixMillis;
use crate::wire::KafkaString;
use crate::wire::group_record::GroupRecord;

/// How many groups one turn of the search looks at.
const GROUPS_PER_TURN: usize = 1_000;
/// How many deletions of topics are remembered, by name.
const DELETED_NAMES_MAX: usize = 10_000;

/// Which topics were deleted, in one order with the joins of members. Soft: a member that was there
/// before a restart is taken to have joined before every deletion since.
#[derive(Clone, Default, Debug)]
pub(super) struct DeletedTopics {
    count: u64,
    last: BTreeMap<KafkaString, u64>,
    by_age: VecDeque<(u64, KafkaString)>,
    /// Topics whose offsets are still to be taken away.
    due: BTreeSet<(KafkaString, TopicId)>,
}

impl DeletedTopics {
    /// Returns the place of something that happens now: 1 and up.
    pub(super) const fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Notes a deletion. While the offsets of as many topics wait as are remembered, those of this
    /// one go with the next start of the coordinator.
    pub(super) fn add(&mut self, name: KafkaString, topic_id: TopicId) {
        let place = self.next();
        self.last.insert(name.clone(), place);
        self.by_age.push_back((place, name.clone()));
        if self.by_age.len() > DELETED_NAMES_MAX
            && let Some((place, oldest)) = self.by_age.pop_front()
            && self.last.get(&oldest) == Some(&place)
        {
            self.last.remove(&oldest);
        }
        if !self.is_full() {
            self.due.insert((name, topic_id));
        }
    }

    /// Returns whether the offsets of as many topics wait to be taken away as are remembered.
    pub(super) fn is_full(&self) -> bool {
        self.due.len() >= DELETED_NAMES_MAX
    }

    /// Returns whether an offset stored under this name is one of a topic that was deleted.
    pub(super) fn is_gone(&self, name: &KafkaString, topic_id: TopicId) -> bool {
        if topic_id.is_zero() {
            // An offset without an id is of whatever had the name.
            let next = self.due.range((name.clone(), TopicId::ZERO)..).next();
            next.is_some_and(|(first, _)| first == name)
        } else {
            !self.due.is_empty() && self.due.contains(&(name.clone(), topic_id))
        }
    }

    /// Returns whether a topic of this name was deleted after that place.
    pub(super) fn deleted_after(&self, name: &str, place: u64) -> bool {
        self.last.get(name).is_some_and(|deleted| *deleted > place)
    }
}

impl GroupCoordinator {
    /// Takes away the offsets of all topics that were deleted, by one look at every offset. What the
    /// log does not take now is tried again with the next search for what is past its retention. So
    /// is a key under which a topic that is there has an offset, stored or staged, and the one that
    /// is gone has another: a tombstone would take both away.
    pub(super) fn drop_offsets_of_deleted_topics(&mut self, cx: &mut Cx<'_>) {
        if self.deleted_topics.due.is_empty() {
            return;
        }
        // By key, whether everything under it is gone.
        let mut found = BTreeMap::<(&KafkaString, &KafkaString, i32), bool>::new();
        let gone = &self.deleted_topics;
        for (group_id, topics) in self.stored.all_offsets() {
            for (name, partitions) in topics {
                for (&partition, stored) in partitions {
                    if gone.is_gone(name, stored.topic_id) {
                        found.insert((group_id, name, partition), true);
                    }
                }
            }
        }
        for ((group_id, name, partition), topic_id) in self.stored.staged().iter() {
            let key = (group_id, name, *partition);
            if !gone.is_gone(name, topic_id) {
                found.entry(key).and_modify(|all| *all = false);
                continue;
            }
            let stored = self.stored.offset(group_id, name, *partition);
            let stays = stored.is_some_and(|stored| !gone.is_gone(name, stored.topic_id));
            found.entry(key).and_modify(|all| *all &= !stays).or_insert(!stays);
        }
        let mut records = Vec::new();
        let mut left = BTreeSet::new();
        for ((group_id, name, partition), all) in found {
            if all {
                let key = offset_key(group_id, name, partition);
                records.push(GroupRecord::OffsetCommit(key, None));
            } else {
                left.insert(name.clone());
            }
        }
        match self.append_in_parts(cx, &records) {
            Ok(()) => self.deleted_topics.due.retain(|(name, _)| left.contains(name)),
            Err(error) => {
                tracing::warn!(%error, "offsets of a deleted topic are still to be taken away");
            }
        }
    }

    /// Looks at the next groups for what is past its retention.
    pub(super) fn on_retention_turn(&mut self, cx: &mut Cx<'_>) {
        self.drop_offsets_of_deleted_topics(cx);
        // A clock in doubt lets nothing expire: that could not be undone.
        let wall = cx.log.retention_time(cx.now);
        let from = self.retention_from.take();
        let turn = match wall {
            Some(_) => self.next_groups(from.as_ref()),
            None => Vec::new(),
        };
        let mut records = Vec::new();
        let mut emptied = Vec::new();
        for group_id in turn.iter().filter(|_| wall.is_some()) {
            let all_gone = self.expired(group_id, wall.unwrap_or_default(), &mut records);
            if all_gone && self.is_idle(group_id) {
                records.push(group_tombstone(group_id));
                emptied.push(group_id.clone());
            }
        }
        match self.append_in_parts(cx, &records) {
            Ok(()) => emptied.iter().for_each(|group_id| self.forget(group_id)),
            Err(error) => tracing::warn!(%error, "expired offsets are still to be taken away"),
        }
        let wait = if turn.len() < GROUPS_PER_TURN {
            self.config.offsets_retention_check_interval
        } else {
            self.retention_from = turn.last().cloned();
            std::time::Duration::ZERO
        };
        self.timers.set(Timer::Retention, cx.now.mono + wait);
    }

    fn next_groups(&self, from: Option<&KafkaString>) -> Vec<KafkaString> {
        let bounds = (from.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let live = self.groups.range::<KafkaString, _>(bounds).map(|(id, _)| id);
        let stored = self.stored.all_offsets().range::<KafkaString, _>(bounds).map(|(id, _)| id);
        let mut ids: Vec<&KafkaString> =
            live.take(GROUPS_PER_TURN).chain(stored.take(GROUPS_PER_TURN)).collect();
        ids.sort();
        ids.dedup();
        ids.into_iter().take(GROUPS_PER_TURN).cloned().collect()
    }

    /// Collects tombstones of the group's expired offsets; returns whether no other is left.
    fn expired(
        &self,
        group_id: &KafkaString,
        now: UnixMillis,
        records: &mut Vec<GroupRecord>,
    ) -> bool {
        if self.stored.staged().has_group(group_id) {
            // Whoever has a transaction open is not gone.
            return false;
        }
        let Some(topics) = self.stored.offsets(group_id) else { return true };
        let group = self.groups.get(group_id);
        let kept_ms = self.config.offsets_retention.as_millis() as i64;
        let mut all = true;
        for (topic, partitions) in topics {
            let subscribed = group.is_some_and(|group| group.is_subscribed_to(topic));
            for (&partition, stored) in partitions {
                let gone = !subscribed
                    && retention_base(group, stored).is_some_and(|base_ms| {
                        match stored.expire_timestamp_ms {
                            Some(at_ms) => now.0 >= at_ms,
                            None => now.0.saturating_sub(base_ms) >= kept_ms,
                        }
                    });
                if gone {
                    let key = offset_key(group_id, topic, partition);
                    records.push(GroupRecord::OffsetCommit(key, None));
                } else {
                    all = false;
                }
            }
        }
        all
    }

    /// Returns whether a group has no members, and none that is about to come.
    fn is_idle(&self, group_id: &str) -> bool {
        self.groups.get(group_id).is_some_and(|group| {
            group.phase() == GroupPhase::Empty && group.pending_members().is_empty()
        })
    }
}

/// Returns the moment from which the retention of an offset counts, `None` while it does not.
fn retention_base(group: Option<&Group>, stored: &StoredOffset) -> Option<i64> {
    let Some(group) = group else { return Some(stored.commit_timestamp_ms) };
    match group.phase() {
        _ if group.protocol_type.is_none() => Some(stored.commit_timestamp_ms),
        // From when the last member went (KIP-211); old records do not say when.
        GroupPhase::Empty => {
            Some(group.current_state_timestamp_ms.unwrap_or(stored.commit_timestamp_ms))
        }
        // Nobody reads the topic any more.
        GroupPhase::Stable if group.uses_consumer_protocol() && group.knows_subscriptions() => {
            Some(stored.commit_timestamp_ms)
        }
        GroupPhase::Stable | GroupPhase::PreparingRebalance | GroupPhase::CompletingRebalance => {
            None
        }
    }
}
