//! `FindCoordinator` (key 10): which broker coordinates a group or a transactional id.
//!
//! The leader of its partition of `__consumer_offsets` or `__transaction_state` does. The topic is made
//! when somebody asks first; who asks meanwhile waits for it. What is not served, share groups, is refused
//! with a code that ends the search: with 15 clients would ask for ever.

use crate::broker::pending::{Pending, RequestContext};
use crate::broker::shard::Shard;
use crate::broker::timers::Timer;
use crate::coordinator::group::partition_of;
use crate::error::ErrorCode;
use crate::ids::{ListenerIndex, NodeId, PartitionIndex};
use crate::metadata::Command;
use crate::metadata::image::InternalTopic;
use crate::time::Now;
use crate::wire::KafkaString;
use crate::wire::api::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};

/// Key type of groups.
const GROUP: i8 = 0;
/// Key type of transactional ids.
const TRANSACTION: i8 = 1;
/// Key type of partitions of share groups, from version 6 on.
const SHARE: i8 = 2;

/// Returns the topic in which coordinators of a type keep their state.
const fn topic_of(key_type: i8) -> Option<InternalTopic> {
    match key_type {
        GROUP => Some(InternalTopic::ConsumerOffsets),
        TRANSACTION => Some(InternalTopic::TransactionState),
        _ => None,
    }
}

/// Returns the key type whose coordinators keep their state in a topic.
pub(in crate::broker) const fn key_type_of(topic: InternalTopic) -> i8 {
    match topic {
        InternalTopic::ConsumerOffsets => GROUP,
        InternalTopic::TransactionState => TRANSACTION,
    }
}

impl Shard {
    pub(in crate::broker) fn on_find_coordinator(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: FindCoordinatorRequest,
    ) {
        let topic = topic_of(request.key_type);
        let missing = topic.filter(|topic| self.image.topic_by_name(topic.name()).is_none());
        let Some(missing) = missing else {
            return self.answer_find_coordinator(&ctx, &request);
        };
        let deadline = now.mono + self.limits().auto_create_wait;
        self.timers.arm(deadline, Timer::Request(ctx.id));
        self.pending.insert(ctx.id, Pending::FindCoordinator { ctx, request, deadline });
        self.command(now, self.asker(&ctx), Command::CreateInternal(missing));
    }

    /// Answers from what is committed.
    pub(in crate::broker) fn answer_find_coordinator(
        &mut self,
        ctx: &RequestContext,
        request: &FindCoordinatorRequest,
    ) {
        let found =
            |key: &KafkaString| self.coordinator(key, request.key_type, ctx.version, ctx.listener);
        let response = if ctx.version >= 4 {
            let coordinators = request.coordinator_keys.iter().map(|key| match found(key) {
                Ok((node_id, host, port)) => Coordinator {
                    key: key.clone(),
                    node_id: node_id.0,
                    host,
                    port: i32::from(port),
                    error_code: ErrorCode::None.code(),
                    error_message: Some(KafkaString::default()),
                },
                Err((code, why)) => Coordinator {
                    key: key.clone(),
                    node_id: -1,
                    host: KafkaString::default(),
                    port: -1,
                    error_code: code.code(),
                    error_message: Some(why.into()),
                },
            });
            FindCoordinatorResponse {
                coordinators: coordinators.collect(),
                ..FindCoordinatorResponse::default()
            }
        } else {
            let (code, why, (node_id, host, port)) = match found(&request.key) {
                // Kafka's own word for no error.
                Ok((node_id, host, port)) => {
                    (ErrorCode::None, "NONE", (node_id.0, host, i32::from(port)))
                }
                Err((code, why)) => (code, why, (-1, KafkaString::default(), -1)),
            };
            FindCoordinatorResponse {
                error_code: code.code(),
                error_message: Some(why.into()),
                node_id,
                host,
                port,
                ..FindCoordinatorResponse::default()
            }
        };
        self.respond(ctx, response);
    }

    fn coordinator(
        &self,
        key: &KafkaString,
        key_type: i8,
        version: i16,
        listener: ListenerIndex,
    ) -> Result<(NodeId, KafkaString, u16), (ErrorCode, &'static str)> {
        let internal = match (topic_of(key_type), key_type) {
            (Some(topic), _) => topic,
            (None, SHARE) if version >= 6 => {
                let why = "Share groups are not served by this broker.";
                return Err((ErrorCode::UnsupportedVersion, why));
            }
            (None, _) => {
                let code = ErrorCode::InvalidRequest;
                return Err((code, code.message()));
            }
        };
        let absent = ErrorCode::CoordinatorNotAvailable;
        let absent = (absent, absent.message());
        let topic = self.image.topic_by_name(internal.name()).ok_or(absent)?;
        let partition = PartitionIndex(partition_of(key, topic.partitions.len().max(1) as i32));
        let leader = topic.partition(partition).ok_or(absent)?.leader;
        let (host, port) = self.address(leader, listener).ok_or(absent)?;
        Ok((leader, host, port))
    }
}
