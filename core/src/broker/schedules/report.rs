//! What metrics are told of what waits: how much, and when the next record comes, at most once a second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::broker::shard::Shard;
use crate::broker::timers::Timer;
use crate::ids::TopicPartition;
use crate::io::{Effect, Event, Waits};
use crate::time::Now;

/// How long it may have changed without a word.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// What was told, and of which partitions something is to be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports {
    told: BTreeMap<TopicPartition, Waits>,
    due: BTreeSet<TopicPartition>,
}

impl Shard {
    /// Lets it be told in a while how much waits at a partition.
    pub(super) fn report_schedule_soon(&mut self, now: Now, id: TopicPartition) {
        if self.schedules.reports.due.insert(id) {
            self.timers.arm(now.mono + REPORT_AFTER, Timer::ScheduleReport(id));
        }
    }

    pub(in crate::broker) fn on_schedule_report_timer(&mut self, id: TopicPartition) {
        self.schedules.reports.due.remove(&id);
        self.tell_schedule(id);
    }

    /// Tells how much waits at a partition, where that has changed; nothing where it is not led here.
    pub(in crate::broker) fn tell_schedule(&mut self, id: TopicPartition) {
        let scheduled = self.partitions.get(&id).and_then(|partition| partition.scheduled());
        let waits = scheduled.and_then(|scheduled| scheduled.machine()).map(|machine| {
            let stats = machine.stats();
            Waits {
                scheduled: stats.pending.saturating_sub(stats.half) as u64,
                half: stats.half as u64,
                next_due_ms: stats.next_due_ms,
            }
        });
        let told = &mut self.schedules.reports.told;
        if told.get(&id).copied() == waits {
            return;
        }
        match waits {
            Some(waits) => told.insert(id, waits),
            None => told.remove(&id),
        };
        let topic = self.image.topic(id.topic_id).map_or("", |topic| topic.name.as_str());
        let topic = topic.into();
        self.fx.push(Effect::Observe(Event::Scheduled { partition: id, topic, waits }));
    }
}
