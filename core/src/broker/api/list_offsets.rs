//! ListOffsets (key 2): offsets by place or by time.

use std::collections::BTreeSet;
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
        let (mut named, mut named_twice) = (BTreeSet::new(), BTreeSet::new());
        for topic in &request.topics {
            for partition in &topic.partitions {
                let key = (&topic.name, partition.partition_index);
                if !named.insert(key) {
                    named_twice.insert(key);
                }
            }
        }
        let mut response = ListOffsetsResponse::default();
        let (mut items, mut places) = (Vec::new(), Vec::new());
        // Kafka's answer is made of partitions: a topic that names none is not in it.
        let topics = request.topics.iter().filter(|topic| !topic.partitions.is_empty());
        for (t, topic) in topics.enumerate() {
            let found = self.find_topic(&topic.name, Uuid::ZERO, false);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let key = (&topic.name, asked.partition_index);
                let p = partitions.len();
                let code = if named_twice.contains(&key) {
                    // It is answered once, however often it is named.
                    if !named.remove(&key) {
                        continue;
                    }
                    ErrorCode::InvalidRequest
                } else if !knows(ctx.version, asked.timestamp) {
                    ErrorCode::UnsupportedVersion
                } else {
                    match self.find_partition(found, asked.partition_index) {
                        Ok(id) => {
                            let item = ListOffsetsItem {
                                index: places.len() as u32,
                                partition: id,
                                current_leader_epoch: LeaderEpoch(asked.current_leader_epoch),
                                timestamp: asked.timestamp,
                                read_committed: request.isolation_level == 1,
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
            closes: false,
        };
        self.gather(now, gather, items, Some(now.mono + TIMEOUT), Ask::ListOffsets);
    }
}

/// Returns whether a version has this timestamp: the negative ones name places, and came one by one
/// (KIP-79, 734, 405, 1005, 1023).
const fn knows(version: i16, timestamp: i64) -> bool {
    match timestamp {
        0.. | -2..=-1 => true,
        -3 => version >= 7,
        -4 => version >= 8,
        -5 => version >= 9,
        -6 => version >= 11,
        _ => false,
    }
}

/// Writes the outcome for one partition into the response.
pub(in crate::broker) fn fill(
    version: i16,
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
        // A client that does not know that code yet is told what makes it ask again (KIP-207).
        Err(ErrorCode::OffsetNotAvailable) if version < 5 => {
            entry.error_code = ErrorCode::LeaderNotAvailable.code();
        }
        Err(code) => entry.error_code = code.code(),
    }
}
