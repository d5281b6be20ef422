//! `DeleteRecords` (key 21): moves the start of logs up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::pending::{Gather, RequestContext};
use crate::broker::post::{Ask, DeleteRecordsItem};
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::ids::{Offset, Uuid};
use crate::metadata::image::is_internal;
use crate::time::Now;
use crate::wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};

impl Shard {
    pub(in crate::broker) fn on_delete_records(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &DeleteRecordsRequest,
    ) {
        let mut response = DeleteRecordsResponse::default();
        let (mut items, mut places) = (Vec::new(), Vec::new());
        // Kafka's answer is made of partitions: a topic that names none is not in it.
        let topics = request.topics.iter().filter(|topic| !topic.partitions.is_empty());
        for (t, topic) in topics.enumerate() {
            let found = if is_internal(&topic.name) {
                Err(ErrorCode::InvalidTopicException)
            } else {
                self.find_topic(&topic.name, Uuid::ZERO, false)
            };
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            // Of a partition that is named twice the last one counts, as in Kafka.
            let last: BTreeMap<i32, &DeleteRecordsPartition> =
                topic.partitions.iter().map(|asked| (asked.partition_index, asked)).collect();
            for (p, asked) in last.into_values().enumerate() {
                let code = match self.find_partition(found, asked.partition_index) {
                    Ok(id) => {
                        let index = places.len() as u32;
                        places.push((t as u32, p as u32));
                        let item = DeleteRecordsItem { index, partition: id, offset: asked.offset };
                        items.push((self.owner(id), item));
                        ErrorCode::RequestTimedOut
                    }
                    Err(code) => code,
                };
                partitions.push(DeleteRecordsPartitionResult {
                    partition_index: asked.partition_index,
                    low_watermark: -1,
                    error_code: code.code(),
                });
            }
            let name = topic.name.clone();
            response.topics.push(DeleteRecordsTopicResult { name, partitions });
        }
        let timeout = Duration::from_millis(request.timeout_ms.clamp(1000, 600_000) as u64);
        let gather = Gather {
            ctx,
            response: response.into(),
            places,
            outstanding: 0,
            deadline: None,
            is_silent: false,
            closes: false,
        };
        self.gather(now, gather, items, Some(now.mono + timeout), Ask::DeleteRecords);
    }
}

/// Writes the outcome for one partition into the response.
pub(in crate::broker) fn fill(
    entry: &mut DeleteRecordsPartitionResult,
    outcome: Result<Offset, ErrorCode>,
) {
    match outcome {
        Ok(start) => {
            entry.error_code = ErrorCode::None.code();
            entry.low_watermark = start.0;
        }
        Err(code) => entry.error_code = code.code(),
    }
}
