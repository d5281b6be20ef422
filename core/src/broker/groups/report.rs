//! What metrics are told of groups: their states, at most once a second, and committed offsets.

use std::time::Duration;

use crate::broker::groups::State;
use crate::broker::shard::Shard;
use crate::broker::timers::Timer;
use crate::coordinator::group::{LogRecord, Request, VisibleOffset};
use crate::ids::{PartitionIndex, TopicPartition};
use crate::io::{Counter, Effect, Effects, Event};
use crate::time::Now;
use crate::wire::group_record::GroupRecord;

/// How long the states of groups may have changed without a word.
const REPORT_AFTER: Duration = Duration::from_secs(1);
/// Most committed offsets that are told when a coordinator has been loaded.
const LOADED_OFFSETS_MAX: usize = 1000;

/// Returns whether a request may bring a group into another state.
pub(super) const fn may_change_states(request: &Request) -> bool {
    match request {
        Request::JoinGroup(_)
        | Request::SyncGroup(_)
        | Request::LeaveGroup(_)
        | Request::OffsetCommit(_)
        | Request::OffsetDelete(_)
        | Request::DeleteGroup(_) => true,
        Request::Heartbeat(_)
        | Request::TxnOffsetCommit(_)
        | Request::OffsetFetch(_)
        | Request::DescribeGroup(_)
        | Request::ListGroups(_) => false,
    }
}

impl Shard {
    /// Lets the states of a coordinator's groups be told in a while.
    pub(super) fn report_soon(&mut self, now: Now, id: TopicPartition) {
        let Some(slot) = self.groups.coordinators.get_mut(&id) else { return };
        if !slot.reports && matches!(slot.state, State::Serving(_)) {
            slot.reports = true;
            self.timers.arm(now.mono + REPORT_AFTER, Timer::GroupReport(id));
        }
    }

    pub(in crate::broker) fn on_report_timer(&mut self, id: TopicPartition) {
        let Some(slot) = self.groups.coordinators.get_mut(&id) else { return };
        slot.reports = false;
        if let State::Serving(coordinator) = &slot.state {
            let states = coordinator.states().to_vec();
            self.fx.push(Effect::Observe(Event::GroupStates { coordinator: id, states }));
        }
    }

    /// Tells the committed offsets of a coordinator that has just been loaded.
    pub(super) fn report_loaded(&mut self, now: Now, id: TopicPartition) {
        let Some(slot) = self.groups.coordinators.get(&id) else { return };
        let State::Serving(coordinator) = &slot.state else { return };
        for (group, topic, partition, topic_id, offset) in
            coordinator.offsets().take(LOADED_OFFSETS_MAX)
        {
            self.fx.push(Effect::Observe(Event::CommittedOffset {
                group: group.as_str().into(),
                topic: topic.as_str().into(),
                partition,
                committed: Some((topic_id, offset)),
            }));
        }
        self.report_soon(now, id);
    }
}

/// Tells what is being appended.
pub(in crate::broker) fn report_appended(records: &[LogRecord], fx: &mut Effects) {
    for record in records {
        let decoded = GroupRecord::decode(record.key.clone(), record.value.clone());
        match decoded {
            Ok(Some(GroupRecord::OffsetCommit(key, value))) => {
                if value.is_some() {
                    fx.count(Counter::OffsetsCommitted, 1);
                }
                fx.push(Effect::Observe(Event::CommittedOffset {
                    group: key.group.as_str().into(),
                    topic: key.topic.as_str().into(),
                    partition: PartitionIndex(key.partition),
                    committed: value.map(|value| (value.topic_id, value.offset)),
                }));
            }
            Ok(Some(GroupRecord::GroupMetadata(_, Some(value)))) if !value.members.is_empty() => {
                fx.count(Counter::GroupAssignments, 1);
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Tells the offsets that a transaction has committed.
pub(in crate::broker) fn report_visible(offsets: Vec<VisibleOffset>, fx: &mut Effects) {
    for offset in offsets {
        fx.count(Counter::OffsetsCommitted, 1);
        fx.push(Effect::Observe(Event::CommittedOffset {
            group: offset.group_id.as_str().into(),
            topic: offset.topic.as_str().into(),
            partition: offset.partition,
            committed: Some((offset.topic_id, offset.offset)),
        }));
    }
}
