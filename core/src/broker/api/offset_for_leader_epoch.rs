//! `OffsetForLeaderEpoch` (key 23): where the epochs of a log end (KIP-101, KIP-279, KIP-320).

use std::time::Duration;

use crate::broker::pending::{Gather, RequestContext};
use crate::broker::post::{Ask, EpochEndItem};
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, Uuid};
use crate::time::Now;
use crate::wire::api::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};

/// How long another shard may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Shard {
    pub(in crate::broker) fn on_offset_for_leader_epoch(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &OffsetForLeaderEpochRequest,
    ) {
        let mut response = OffsetForLeaderEpochResponse::default();
        let (mut items, mut places) = (Vec::new(), Vec::new());
        for (t, topic) in request.topics.iter().enumerate() {
            let found = self.find_topic(&topic.topic, Uuid::ZERO, false);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for (p, asked) in topic.partitions.iter().enumerate() {
                let code = match self.find_partition(found, asked.partition) {
                    Ok(id) => {
                        let item = EpochEndItem {
                            index: places.len() as u32,
                            partition: id,
                            current_leader_epoch: LeaderEpoch(asked.current_leader_epoch),
                            leader_epoch: LeaderEpoch(asked.leader_epoch),
                        };
                        places.push((t as u32, p as u32));
                        items.push((self.owner(id), item));
                        ErrorCode::RequestTimedOut
                    }
                    Err(code) => code,
                };
                partitions.push(EpochEndOffset {
                    error_code: code.code(),
                    partition: asked.partition,
                    ..EpochEndOffset::default()
                });
            }
            let topic = topic.topic.clone();
            response.topics.push(OffsetForLeaderTopicResult { topic, partitions });
        }
        let gather = Gather {
            ctx,
            response: response.into(),
            places,
            outstanding: 0,
            deadline: None,
            is_silent: false,
            closes: false,
        };
        self.gather(now, gather, items, Some(now.mono + TIMEOUT), Ask::EpochEnd);
    }
}

/// Writes the outcome for one partition into the response.
pub(in crate::broker) fn fill(
    entry: &mut EpochEndOffset,
    outcome: Result<(LeaderEpoch, Offset), ErrorCode>,
) {
    match outcome {
        Ok((epoch, end)) => {
            entry.error_code = ErrorCode::None.code();
            entry.leader_epoch = epoch.0;
            entry.end_offset = end.0;
        }
        Err(code) => entry.error_code = code.code(),
    }
}
