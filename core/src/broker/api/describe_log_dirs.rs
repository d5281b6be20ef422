//! `DescribeLogDirs` (key 35): sizes of logs (KIP-113, KIP-827).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::pending::{Gather, RequestContext};
use crate::broker::post::{Ask, SizeItem};
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, TopicPartition};
use crate::time::Now;
use crate::wire::KafkaString;
use crate::wire::api::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};

/// The name of the data directory. Where it lies is known to the driver alone.
const LOG_DIR: &str = "data";
/// How long another shard may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Shard {
    pub(in crate::broker) fn on_describe_log_dirs(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &DescribeLogDirsRequest,
    ) {
        let asked: Option<BTreeSet<(&str, i32)>> = request.topics.as_ref().map(|topics| {
            let pairs = topics.iter().flat_map(|t| t.partitions.iter().map(|&p| (&*t.topic, p)));
            pairs.collect()
        });
        let mut topics = Vec::new();
        let (mut items, mut places) = (Vec::new(), Vec::new());
        for topic in self.image.topics() {
            let name = topic.name.as_str();
            let mut partitions = Vec::new();
            for index in 0..topic.partitions.len() as i32 {
                if asked.as_ref().is_some_and(|asked| !asked.contains(&(name, index))) {
                    continue;
                }
                let partition = PartitionIndex(index);
                let id = TopicPartition { topic_id: topic.id, partition };
                let item = SizeItem { index: places.len() as u32, partition: id };
                places.push((topics.len() as u32, partitions.len() as u32));
                items.push((self.owner(id), item));
                partitions.push(DescribeLogDirsPartition {
                    partition_index: index,
                    ..DescribeLogDirsPartition::default()
                });
            }
            if !partitions.is_empty() {
                topics.push(DescribeLogDirsTopic { name: name.into(), partitions });
            }
        }
        let code = match self.poisoned {
            Some(_) => ErrorCode::KafkaStorageError,
            None => ErrorCode::None,
        };
        let mut result = DescribeLogDirsResult {
            error_code: code.code(),
            log_dir: KafkaString::from_static(LOG_DIR),
            topics,
            ..DescribeLogDirsResult::default()
        };
        if let Some((total, free)) = self.log.disk_sizes() {
            // As in Kafka, more than the type holds is told as the most that it holds.
            result.total_bytes = i64::try_from(total).unwrap_or(i64::MAX);
            result.usable_bytes = i64::try_from(free).unwrap_or(i64::MAX);
        }
        let response =
            DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() };
        let gather = Gather {
            ctx,
            response: response.into(),
            places,
            outstanding: 0,
            deadline: None,
            is_silent: false,
            closes: false,
        };
        self.gather(now, gather, items, Some(now.mono + TIMEOUT), Ask::Sizes);
    }
}
