//! `IncrementalAlterConfigs` (key 44): changes single settings of topics.

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::metadata::Command;
use crate::time::Now;
use crate::wire::ApiKey;
use crate::wire::api::incremental_alter_configs::IncrementalAlterConfigsRequest;

impl Shard {
    pub(in crate::broker) fn on_incremental_alter_configs(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: IncrementalAlterConfigsRequest,
    ) {
        self.ask_controller(
            now,
            ctx,
            ApiKey::IncrementalAlterConfigs,
            Command::IncrementalAlterConfigs(request),
        );
    }
}
