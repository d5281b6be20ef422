//! `AlterConfigs` (key 33): replaces all settings of topics.

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::metadata::Command;
use crate::time::Now;
use crate::wire::ApiKey;
use crate::wire::api::alter_configs::AlterConfigsRequest;

impl Shard {
    pub(in crate::broker) fn on_alter_configs(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: AlterConfigsRequest,
    ) {
        self.ask_controller(now, ctx, ApiKey::AlterConfigs, Command::AlterConfigs(request));
    }
}
