//! Metadata (key 3): brokers, topics and leaders, and topics made because somebody names them.

use std::collections::BTreeSet;

use super::operations::{TOPIC_OPERATIONS, cluster_operations};
use crate::broker::pending::{Pending, RequestContext};
use crate::broker::shard::Shard;
use crate::broker::timers::Timer;
use crate::error::ErrorCode;
use crate::ids::{TopicName, Uuid};
use crate::metadata::image::{is_internal, numbers};
use crate::metadata::{Command, MetadataImage, PartitionImage, TopicImage};
use crate::time::Now;
use crate::wire::KafkaString;
use crate::wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};

impl Shard {
    pub(in crate::broker) fn on_metadata(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: MetadataRequest,
    ) {
        if ctx.version < 12
            && let Some(topics) = &request.topics
            && topics.iter().any(|topic| topic.name.is_none())
        {
            return self.respond(&ctx, without_names(topics));
        }
        let missing = self.missing_topics(&ctx, &request);
        if missing.is_empty() {
            return self.answer_metadata(&ctx, &request, ErrorCode::UnknownTopicOrPartition);
        }
        let deadline = now.mono + self.limits().auto_create_wait;
        self.timers.arm(deadline, Timer::Request(ctx.id));
        self.pending.insert(ctx.id, Pending::Metadata { ctx, request, deadline });
        self.command(now, self.asker(&ctx), Command::AutoCreate(missing));
    }

    /// Returns the names that the request may create.
    fn missing_topics(&self, ctx: &RequestContext, request: &MetadataRequest) -> Vec<KafkaString> {
        let allowed = (ctx.version < 4 || request.allow_auto_topic_creation)
            && self.config.node.settings.is_true("auto.create.topics.enable");
        if !allowed {
            return Vec::new();
        }
        let topics = request.topics.as_deref().unwrap_or_default();
        let mut missing: Vec<KafkaString> = topics
            .iter()
            .filter_map(|topic| topic.name.as_ref())
            .filter(|name| {
                TopicName::parse(name).is_ok()
                    && !is_internal(name)
                    && self.image.topic_by_name(name).is_none()
            })
            .map(KafkaString::detached)
            .collect();
        missing.sort();
        missing.dedup();
        missing
    }

    /// Answers from what is committed; `unknown` is what a name without a topic gets.
    pub(in crate::broker) fn answer_metadata(
        &mut self,
        ctx: &RequestContext,
        request: &MetadataRequest,
        unknown: ErrorCode,
    ) {
        let asks_all = match &request.topics {
            None => true,
            // In version 0 an empty list stands for all.
            Some(topics) => ctx.version == 0 && topics.is_empty(),
        };
        let mut topics: Vec<_> = if asks_all {
            self.image.topics().map(|topic| described(&self.image, topic)).collect()
        } else {
            let mut seen = BTreeSet::new();
            let named = request.topics.iter().flatten();
            named
                .filter(|topic| seen.insert((&topic.name, topic.topic_id)))
                .map(|topic| self.described_topic(ctx, topic, unknown))
                .collect()
        };
        if request.include_topic_authorized_operations {
            for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
                topic.topic_authorized_operations = TOPIC_OPERATIONS;
            }
        }
        let brokers: Vec<_> = self
            .image
            .brokers()
            .filter(|(_, broker)| !broker.fenced)
            .filter_map(|(id, broker)| {
                let (host, port) = self.address(id, ctx.listener)?;
                Some(MetadataResponseBroker {
                    node_id: id.0,
                    host,
                    port: i32::from(port),
                    rack: broker.rack.as_deref().map(Into::into),
                })
            })
            .collect();
        let listed: Vec<i32> = brokers.iter().map(|broker| broker.node_id).collect();
        let response = MetadataResponse {
            brokers,
            cluster_id: Some(self.identity.cluster_id.to_string().into()),
            controller_id: self.controller_among(&listed),
            topics,
            cluster_authorized_operations: cluster_operations(
                request.include_cluster_authorized_operations,
            ),
            ..MetadataResponse::default()
        };
        self.respond(ctx, response);
    }

    fn described_topic(
        &self,
        ctx: &RequestContext,
        asked: &MetadataRequestTopic,
        unknown: ErrorCode,
    ) -> MetadataResponseTopic {
        let refused = |code: ErrorCode, name: Option<KafkaString>, topic_id: Uuid| {
            // A null name does not fit versions below 12, where it is an error anyway.
            let name = if ctx.version < 12 { Some(name.unwrap_or_default()) } else { name };
            MetadataResponseTopic {
                error_code: code.code(),
                name,
                topic_id,
                ..MetadataResponseTopic::default()
            }
        };
        let Some(name) = &asked.name else {
            return match self.image.topic(asked.topic_id) {
                Some(topic) => described(&self.image, topic),
                None => refused(ErrorCode::UnknownTopicId, None, asked.topic_id),
            };
        };
        if let Some(topic) = self.image.topic_by_name(name) {
            return described(&self.image, topic);
        }
        let code = match TopicName::parse(name) {
            Ok(_) => unknown,
            Err(_) => ErrorCode::InvalidTopicException,
        };
        refused(code, Some(name.clone()), Uuid::ZERO)
    }
}

/// Refuses a request that names a topic by its id in a version that looks at names alone.
fn without_names(topics: &[MetadataRequestTopic]) -> MetadataResponse {
    let refused = topics.iter().map(|topic| MetadataResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(topic.name.clone().unwrap_or_default()),
        topic_id: topic.topic_id,
        ..MetadataResponseTopic::default()
    });
    MetadataResponse { topics: refused.collect(), ..MetadataResponse::default() }
}

fn described(image: &MetadataImage, topic: &TopicImage) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(topic.name.as_str().into()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: topic
            .partitions
            .iter()
            .zip(0..)
            .map(|(state, index)| described_partition(image, state, index))
            .collect(),
        ..MetadataResponseTopic::default()
    }
}

fn described_partition(
    image: &MetadataImage,
    state: &PartitionImage,
    index: i32,
) -> MetadataResponsePartition {
    let code = if state.leader.0 < 0 { ErrorCode::LeaderNotAvailable } else { ErrorCode::None };
    MetadataResponsePartition {
        error_code: code.code(),
        partition_index: index,
        leader_id: state.leader.0,
        leader_epoch: state.leader_epoch.0,
        replica_nodes: numbers(&state.replicas),
        isr_nodes: numbers(&image.in_sync(state)),
        offline_replicas: numbers(&image.offline_replicas(state)),
    }
}
