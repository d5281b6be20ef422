//! `DeleteTopics` (key 20): topics go, with their logs.

use crate::broker::pending::{Pending, RequestContext};
use crate::broker::shard::Shard;
use crate::broker::timers::Timer;
use crate::metadata::Command;
use crate::time::Now;
use crate::wire::ApiKey;
use crate::wire::api::delete_topics::DeleteTopicsRequest;

impl Shard {
    pub(in crate::broker) fn on_delete_topics(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: DeleteTopicsRequest,
    ) {
        let command = Command::DeleteTopics(request, ctx.version);
        self.ask_controller(now, ctx, ApiKey::DeleteTopics, command);
    }

    /// Hands a request to the controller, whose answer is the response.
    pub(in crate::broker) fn ask_controller(
        &mut self,
        now: Now,
        ctx: RequestContext,
        api: ApiKey,
        command: Command,
    ) {
        let deadline = now.mono + self.limits().controller_wait;
        self.timers.arm(deadline, Timer::Request(ctx.id));
        self.pending.insert(ctx.id, Pending::Command { ctx, api, deadline });
        self.command(now, self.asker(&ctx), command);
    }
}
