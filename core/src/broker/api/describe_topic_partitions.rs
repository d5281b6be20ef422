//! `DescribeTopicPartitions` (key 75): topics page by page (KIP-966).

use std::collections::BTreeSet;

use super::operations::TOPIC_OPERATIONS;
use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::ids::TopicName;
use crate::metadata::image::numbers;
use crate::metadata::{MetadataImage, TopicImage};
use crate::wire::api::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, TopicRequest,
};

/// Most partitions of a page, as in Kafka (`max.request.partition.size.limit`).
const PAGE_MAX: i32 = 2000;

impl Shard {
    pub(in crate::broker) fn on_describe_topic_partitions(
        &mut self,
        ctx: RequestContext,
        request: &DescribeTopicPartitionsRequest,
    ) {
        let mut room = request.response_partition_limit.clamp(1, PAGE_MAX) as usize;
        let (from, first) = request.cursor.as_ref().map_or(("", 0), |cursor| {
            (&*cursor.topic_name, cursor.partition_index.max(0) as usize)
        });
        let mut response = DescribeTopicPartitionsResponse::default();
        if let Some(cursor) = &request.cursor
            && !can_go_on(cursor, &request.topics)
        {
            let refused = request.topics.iter().map(|topic| DescribeTopicPartitionsResponseTopic {
                error_code: ErrorCode::InvalidRequest.code(),
                name: Some(topic.name.clone()),
                ..DescribeTopicPartitionsResponseTopic::default()
            });
            response.topics = refused.collect();
            return self.respond(&ctx, response);
        }
        let named: BTreeSet<&str> = request.topics.iter().map(|topic| &*topic.name).collect();
        let topics: Vec<Result<&TopicImage, &str>> = if named.is_empty() {
            self.image.topics_from(from).map(|topic| Ok(topic.as_ref())).collect()
        } else {
            let later = named.iter().filter(|&&name| name >= from);
            later.map(|&n| self.image.topic_by_name(n).map(AsRef::as_ref).ok_or(n)).collect()
        };
        for topic in topics {
            let topic = match topic {
                Ok(topic) => topic,
                Err(name) => {
                    let code = match TopicName::parse(name) {
                        Ok(_) => ErrorCode::UnknownTopicOrPartition,
                        Err(_) => ErrorCode::InvalidTopicException,
                    };
                    response.topics.push(DescribeTopicPartitionsResponseTopic {
                        error_code: code.code(),
                        name: Some(name.into()),
                        topic_authorized_operations: TOPIC_OPERATIONS,
                        ..DescribeTopicPartitionsResponseTopic::default()
                    });
                    continue;
                }
            };
            let first = if topic.name.as_str() == from { first } else { 0 };
            if room == 0 {
                response.next_cursor = Some(cursor(topic, first));
                break;
            }
            let shown = described(&self.image, topic, first, room);
            let next = first + shown.partitions.len();
            room -= shown.partitions.len();
            response.topics.push(shown);
            if next < topic.partitions.len() {
                response.next_cursor = Some(cursor(topic, next));
                break;
            }
        }
        self.respond(&ctx, response);
    }
}

/// Whether a page can begin at the cursor: it names one of the topics asked for.
fn can_go_on(cursor: &Cursor, topics: &[TopicRequest]) -> bool {
    let is_named = topics.is_empty() || topics.iter().any(|topic| topic.name == cursor.topic_name);
    cursor.partition_index >= 0 && is_named
}

fn cursor(topic: &TopicImage, partition: usize) -> Cursor {
    Cursor { topic_name: topic.name.as_str().into(), partition_index: partition as i32 }
}

fn described(
    image: &MetadataImage,
    topic: &TopicImage,
    first: usize,
    room: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = topic.partitions.iter().enumerate().skip(first).take(room);
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(topic.name.as_str().into()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions
            .map(|(index, state)| DescribeTopicPartitionsResponsePartition {
                partition_index: index as i32,
                leader_id: state.leader.0,
                leader_epoch: state.leader_epoch.0,
                replica_nodes: numbers(&state.replicas),
                isr_nodes: numbers(&image.in_sync(state)),
                eligible_leader_replicas: Some(numbers(&image.eligible_leader_replicas(state))),
                last_known_elr: Some(Vec::new()),
                offline_replicas: numbers(&image.offline_replicas(state)),
                ..DescribeTopicPartitionsResponsePartition::default()
            })
            .collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}
