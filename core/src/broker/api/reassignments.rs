//! `ElectLeaders` (key 43), `AlterPartitionReassignments` (key 45) and `ListPartitionReassignments` (key 46):
//! where partitions are led and stored. The controller decides (KIP-183, 455, 460).

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::metadata::Command;
use crate::time::Now;
use crate::wire::ApiKey;
use crate::wire::api::alter_partition_reassignments::AlterPartitionReassignmentsRequest;
use crate::wire::api::elect_leaders::ElectLeadersRequest;
use crate::wire::api::list_partition_reassignments::ListPartitionReassignmentsRequest;

impl Shard {
    pub(in crate::broker) fn on_elect_leaders(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: ElectLeadersRequest,
    ) {
        self.ask_controller(now, ctx, ApiKey::ElectLeaders, Command::ElectLeaders(request));
    }

    pub(in crate::broker) fn on_alter_reassignments(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: AlterPartitionReassignmentsRequest,
    ) {
        let api = ApiKey::AlterPartitionReassignments;
        self.ask_controller(now, ctx, api, Command::AlterReassignments(request));
    }

    pub(in crate::broker) fn on_list_reassignments(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: ListPartitionReassignmentsRequest,
    ) {
        let api = ApiKey::ListPartitionReassignments;
        self.ask_controller(now, ctx, api, Command::ListReassignments(request));
    }
}
