//! Markers on their way: from a coordinator of this shard to the leaders of partitions, and from wherever into a
//! partition that this shard leads.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::internal::Internal;
use crate::broker::peers::PeerTag;
use crate::broker::post::{Answer, Ask, MarkerItem};
use crate::broker::shard::Shard;
use crate::buggify::Site;
use crate::coordinator::transaction::{Action, MarkerId};
use crate::error::ErrorCode;
use crate::ids::{NodeId, ProducerEpoch, ProducerId, ShardId, TopicPartition};
use crate::io::Mark;
use crate::partition::Waiter;
use crate::peer::{Lane, Question};
use crate::record::marker::TxnMarker;
use crate::time::Now;
use crate::wire::Response;
use crate::wire::api::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};

/// How long the replicas of another node's partitions may take to have a marker.
const PATIENCE: Duration = Duration::from_secs(30);

/// A marker and where it is to go.
struct Outgoing {
    id: MarkerId,
    topic: crate::wire::KafkaString,
    item: MarkerItem,
}

impl Shard {
    /// Sends markers of a coordinator to the leaders of their partitions.
    pub(super) fn send_markers(
        &mut self,
        now: Now,
        coordinator: TopicPartition,
        actions: Vec<Action>,
    ) {
        let mut here: BTreeMap<ShardId, Vec<Outgoing>> = BTreeMap::new();
        let mut there: BTreeMap<NodeId, Vec<Outgoing>> = BTreeMap::new();
        let me = self.config.node.node_id;
        for action in actions {
            let Action::WriteMarker {
                id,
                topic,
                partition,
                producer_id,
                producer_epoch,
                committed,
                coordinator_epoch,
                transaction_version,
            } = action
            else {
                continue;
            };
            let found = self.image.topic_by_name(topic.as_str());
            let state = found.and_then(|it| Some((it.id, it.partition(partition)?.leader)));
            // Whoever was taken into the transaction was known here then.
            let Some((topic_id, leader)) = state else {
                let gone = Err(ErrorCode::UnknownTopicOrPartition);
                self.on_marker_written(now, coordinator, id, gone);
                continue;
            };
            let marker = TxnMarker { producer_id, producer_epoch, coordinator_epoch, committed };
            let partition = TopicPartition { topic_id, partition };
            let item =
                MarkerItem { index: 0, partition, marker, transaction_version, arrival: None };
            let outgoing = Outgoing { id, topic, item };
            if leader == me {
                here.entry(self.owner(partition)).or_default().push(outgoing);
            } else if leader.0 >= 0 {
                there.entry(leader).or_default().push(outgoing);
            } else {
                let absent = Err(ErrorCode::LeaderNotAvailable);
                self.on_marker_written(now, coordinator, id, absent);
            }
        }
        for (shard, outgoing) in here {
            let request = self.markers_request(coordinator, &outgoing);
            let items = outgoing
                .into_iter()
                .zip(0..)
                .map(|(it, index)| MarkerItem { index, ..it.item })
                .collect();
            self.ask(now, shard, request, Ask::Markers(items));
        }
        for (node, outgoing) in there {
            let request = self.markers_request(coordinator, &outgoing);
            let question = Question {
                request: message(&outgoing).into(),
                patience: Some(PATIENCE),
                tag: PeerTag::Internal(request),
            };
            let is_left = self.buggify.strikes(Site::LeftMarkers);
            let Self { peers, fx, .. } = self;
            peers.links.ask(now.mono, node, Lane::Markers, question, fx);
            if is_left {
                peers.links.forsake(now.mono, node, fx);
            }
        }
    }

    fn markers_request(
        &mut self,
        coordinator: TopicPartition,
        outgoing: &[Outgoing],
    ) -> crate::connection::RequestId {
        let ids: Vec<MarkerId> = outgoing.iter().map(|it| it.id).collect();
        let outstanding = ids.len();
        self.internal_request(Internal::Markers { coordinator, ids, outstanding })
    }

    /// Takes in what another node answers to markers.
    pub(in crate::broker) fn on_markers_response(
        &mut self,
        now: Now,
        coordinator: TopicPartition,
        ids: &[MarkerId],
        response: Option<Response>,
    ) {
        let codes: Vec<i16> = match response {
            Some(Response::WriteTxnMarkers(response)) => response
                .markers
                .iter()
                .map(|marker| {
                    let topic = marker.topics.first();
                    let partition = topic.and_then(|topic| topic.partitions.first());
                    partition.map_or(-1, |partition| partition.error_code)
                })
                .collect(),
            _ => Vec::new(),
        };
        for (nth, &id) in ids.iter().enumerate() {
            let outcome = match codes.get(nth).and_then(|&code| ErrorCode::from_code(code)) {
                Some(ErrorCode::None) => Ok(()),
                // It may not know the topic yet; whether there is one is for this node to say.
                Some(ErrorCode::UnknownTopicOrPartition) | None => {
                    Err(ErrorCode::NotLeaderOrFollower)
                }
                Some(code) => Err(code),
            };
            self.on_marker_written(now, coordinator, id, outcome);
        }
    }

    /// Tells a coordinator what became of a marker.
    pub(in crate::broker) fn on_marker_written(
        &mut self,
        now: Now,
        coordinator: TopicPartition,
        marker: MarkerId,
        outcome: Result<(), ErrorCode>,
    ) {
        self.with_transactions(now, coordinator, |coordinator, log| {
            coordinator.on_marker_written(now, log, marker, outcome);
        });
    }

    /// Writes a marker into a partition of this shard. `None` where the answer comes once the marker is below the
    /// high watermark.
    pub(in crate::broker) fn write_marker(
        &mut self,
        now: Now,
        refused: Option<ErrorCode>,
        item: &MarkerItem,
        waiter: Waiter,
    ) -> Option<Answer> {
        let id = item.partition;
        let refused = refused.or_else(|| self.refused_by_lease(now, id));
        if let Some(code) = refused.or_else(|| self.groups_refuse_marker(id)) {
            return Some(Answer::Produced(Err(code.into())));
        }
        let Self { partitions, log, fx, transactions, .. } = self;
        let Some(partition) = partitions.get_mut(&id) else {
            return Some(Answer::Produced(Err(ErrorCode::NotLeaderOrFollower.into())));
        };
        if item.arrival.is_some_and(|arrival| !transactions.arrivals.admits(id, &arrival)) {
            fx.mark(Mark::LateMarkerRefused);
            return Some(Answer::Late);
        }
        let offset = log.log_end_offset(id).unwrap_or(crate::ids::Offset::ZERO);
        let (marker, version) = (&item.marker, item.transaction_version);
        if let Err(code) = partition.append_marker(now, marker, version, waiter, log, fx) {
            return Some(Answer::Produced(Err(code.into())));
        }
        self.groups_take_marker(now, id, &item.marker, version, offset);
        self.wake_followers(now, id);
        None
    }
}

/// Makes the message that brings markers to another node: one of them, for one partition, in each entry.
fn message(outgoing: &[Outgoing]) -> WriteTxnMarkersRequest {
    let markers = outgoing.iter().map(|Outgoing { topic, item, .. }| WritableTxnMarker {
        producer_id: item.marker.producer_id.0,
        producer_epoch: item.marker.producer_epoch.0,
        transaction_result: item.marker.committed,
        topics: vec![WritableTxnMarkerTopic {
            name: topic.clone(),
            partition_indexes: vec![item.partition.partition.0],
        }],
        coordinator_epoch: item.marker.coordinator_epoch,
        transaction_version: item.transaction_version,
    });
    WriteTxnMarkersRequest { markers: markers.collect() }
}

/// Reads the marker of an entry of a message.
pub(in crate::broker) const fn marker_of(entry: &WritableTxnMarker) -> TxnMarker {
    TxnMarker {
        producer_id: ProducerId(entry.producer_id),
        producer_epoch: ProducerEpoch(entry.producer_epoch),
        coordinator_epoch: entry.coordinator_epoch,
        committed: entry.transaction_result,
    }
}
