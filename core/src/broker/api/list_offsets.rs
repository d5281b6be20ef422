//! ListOffsets (key 2): offsets by place or by time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::pending::{Gather, RequestContext};
use crate::broker::post::{Ask, ListOffsetsItem, ListedOffset};
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Uuid};
use crate::time::Now;
use crate::wire::api::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};

/// How long a lookup may take. Version 10 brings a timeout for tiered storage alone.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Shard {
    pub(in crate::broker) fn on_list_offsets(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &ListOffsetsRequest,
    ) {
        let mut times = BTreeMap::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                *times.entry((&topic.name, partition.partition_index)).or_insert(0_u32) += 1;
            }
        }
        let mut response = ListOffsetsResponse::default();
        let (mut items, mut places) = (Vec::new(), Vec::new());
        for (t, topic) in request.topics.iter().enumerate() {
            let found = self.find_topic(&topic.name, Uuid::ZERO, false);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for (p, asked) in topic.partitions.iter().enumerate() {
                let code = if times[&(&topic.name, asked.partition_index)] > 1 {
                    ErrorCode::InvalidRequest
                } else {
                    match self.find_partition(found, asked.partition_index) {
                        Ok(id) => {
                            let item = ListOffsetsItem {
                                index: places.len() as u32,
                                partition: id,
                                current_leader_epoch: LeaderEpoch(asked.current_leader_epoch),
                                timestamp: asked.timestamp,
                            };
                            places.push((t as u32, p as u32));
                            items.push((self.owner(id), item));
                            ErrorCode::RequestTimedOut
                        }
                        Err(code) => code,
                    }
                };
                partitions.push(ListOffsetsPartitionResponse {
                    partition_index: asked.partition_index,
                    error_code: code.code(),
                    ..ListOffsetsPartitionResponse::default()
                });
            }
            let name = topic.name.clone();
            response.topics.push(ListOffsetsTopicResponse { name, partitions });
        }
        let gather = Gather {
            ctx,
            response: response.into(),
            places,
            outstanding: 0,
            deadline: None,
            is_silent: false,
        };
        self.gather(now, gather, items, now.mono + TIMEOUT, Ask::ListOffsets);
    }
}

/// Writes the outcome for one partition into the response.
pub(in crate::broker) fn fill(
    entry: &mut ListOffsetsPartitionResponse,
    outcome: Result<ListedOffset, ErrorCode>,
) {
    match outcome {
        Ok(found) => {
            entry.error_code = ErrorCode::None.code();
            entry.offset = found.offset.0;
            entry.timestamp = found.timestamp;
            entry.leader_epoch = found.leader_epoch.0;
        }
        Err(code) => entry.error_code = code.code(),
    }
}
