//! In-sync sets: what a leader asks the controller for, and what it makes of the answers.

use crate::broker::replication::Replication;
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::ids::{NodeId, Offset, TopicPartition};
use crate::metadata::controller::Asker;
use crate::metadata::{Command, CommandAnswer};
use crate::observe::ClusterEvent;
use crate::partition::Verdict;
use crate::time::Now;
use crate::wire::Response;
use crate::wire::api::alter_partition::{
    AlterPartitionPartition, AlterPartitionRequest, AlterPartitionResponse, AlterPartitionTopic,
    BrokerState,
};

/// The version in which members are named with their registrations (KIP-903).
const VERSION: i16 = 3;

impl Shard {
    /// Takes in that the set of a partition, or what its members have, has changed.
    pub(in crate::broker) fn after_in_sync_changed(&mut self, now: Now, id: TopicPartition) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let moved = partition.recompute();
        if partition.in_sync().has_followers() {
            self.replication.in_sync_due.insert(id);
            self.tell_quorum(id);
        }
        self.after_progress(now, id, moved);
    }

    fn tell_quorum(&mut self, id: TopicPartition) {
        let Some(partition) = self.partitions.get(&id) else { return };
        let (leader_epoch, members) = (partition.leader_epoch(), partition.in_sync().maximal());
        self.fx.cluster(ClusterEvent::Quorum { partition: id, leader_epoch, members });
    }

    /// Asks for what should change. Returns whether anything was asked.
    pub(in crate::broker) fn ask_for_in_sync(&mut self, now: Now) -> bool {
        let due = std::mem::take(&mut self.replication.in_sync_due);
        let mut asked = false;
        for id in due {
            asked |= self.propose(now, id);
        }
        asked
    }

    fn propose(&mut self, now: Now, id: TopicPartition) -> bool {
        let me = self.config.node.node_id;
        let lag = self.config.node.limits.replica_lag_max;
        let Some(partition) = self.partitions.get_mut(&id) else { return false };
        let (high_watermark, min) = (partition.high_watermark(), partition.min_insync_replicas());
        let again = partition.in_sync_mut().unanswered();
        let start = self.log.log_start_offset(id).unwrap_or(Offset::ZERO);
        let bounds = (start, high_watermark);
        let wanted = again.or_else(|| partition.in_sync().wanted(now.mono, bounds, min, lag));
        let Some(set) = wanted else { return false };
        let epoch_of = |node: NodeId| self.image.broker(node).map_or(-1, |it| it.broker_epoch);
        // The controller is told of the registration that the judgement is about, and may know a later one.
        let judged = |node| partition.in_sync().registration_of(node);
        let member = |&node: &NodeId| BrokerState {
            broker_id: node.0,
            broker_epoch: judged(node).unwrap_or_else(|| epoch_of(node)),
        };
        let change = AlterPartitionPartition {
            partition_index: id.partition.0,
            leader_epoch: partition.leader_epoch().0,
            new_isr_with_epochs: set.iter().map(member).collect(),
            partition_epoch: partition.in_sync().partition_epoch(),
            ..AlterPartitionPartition::default()
        };
        let request = AlterPartitionRequest {
            broker_id: me.0,
            broker_epoch: epoch_of(me),
            topics: vec![AlterPartitionTopic { topic_id: id.topic_id, partitions: vec![change] }],
        };
        let asked_at = partition.in_sync().partition_epoch();
        partition.in_sync_mut().propose(&set);
        self.tell_quorum(id);
        self.command(now, Asker::InSync(id, asked_at), Command::AlterPartition(request, VERSION));
        true
    }

    /// Takes the answer of the controller about one partition's set.
    pub(in crate::broker) fn on_in_sync_answer(
        &mut self,
        now: Now,
        (id, asked_at): (TopicPartition, i32),
        answer: &CommandAnswer,
    ) {
        let verdict = match answer {
            CommandAnswer::Response(Response::AlterPartition(response)) => verdict(response),
            CommandAnswer::Response(_)
            | CommandAnswer::AutoCreated
            | CommandAnswer::ProducerIds(_)
            | CommandAnswer::Failed(..) => Verdict::Unknown,
        };
        if verdict == Verdict::Unknown {
            // The next round of this partition asks again; a pause lies between.
            self.replication.ask_again.insert(id);
        }
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.in_sync_mut().decided(asked_at, verdict);
        let moved = partition.recompute();
        self.tell_quorum(id);
        self.after_progress(now, id, moved);
        // What was refused is looked at again with the next word of a follower, or with the next round.
    }

    /// Looks at every set, because members may have fallen behind meanwhile.
    pub(super) fn look_at_in_sync(&mut self) {
        let Self { partitions, replication: Replication { in_sync_due, .. }, .. } = self;
        let led = partitions.iter().filter(|(_, it)| it.in_sync().has_followers());
        in_sync_due.extend(led.map(|(&id, _)| id));
    }
}

fn verdict(response: &AlterPartitionResponse) -> Verdict {
    let code = ErrorCode::from_code(response.error_code);
    if code == Some(ErrorCode::NotController) {
        // Another controller may have decided it.
        return Verdict::Unknown;
    }
    let partition = response.topics.first().and_then(|topic| topic.partitions.first());
    let Some(partition) = partition.filter(|_| code == Some(ErrorCode::None)) else {
        return Verdict::Refused;
    };
    match ErrorCode::from_code(partition.error_code) {
        Some(ErrorCode::None) => Verdict::Granted(partition.partition_epoch),
        Some(
            ErrorCode::InvalidUpdateVersion
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::NewLeaderElected,
        ) => Verdict::Changed,
        Some(_) | None => Verdict::Refused,
    }
}
