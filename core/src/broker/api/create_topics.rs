//! CreateTopics (key 19): topics by name, with partitions and settings.

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::metadata::Command;
use crate::time::Now;
use crate::wire::ApiKey;
use crate::wire::api::create_topics::CreateTopicsRequest;

impl Shard {
    pub(in crate::broker) fn on_create_topics(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: CreateTopicsRequest,
    ) {
        self.ask_controller(now, ctx, ApiKey::CreateTopics, Command::CreateTopics(request));
    }
}
