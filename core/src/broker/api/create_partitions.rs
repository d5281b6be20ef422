//! `CreatePartitions` (key 37): adds partitions to topics.

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::metadata::Command;
use crate::time::Now;
use crate::wire::ApiKey;
use crate::wire::api::create_partitions::CreatePartitionsRequest;

impl Shard {
    pub(in crate::broker) fn on_create_partitions(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: CreatePartitionsRequest,
    ) {
        self.ask_controller(now, ctx, ApiKey::CreatePartitions, Command::CreatePartitions(request));
    }
}
