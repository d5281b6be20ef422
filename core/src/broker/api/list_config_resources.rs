//! `ListConfigResources` (key 74): the resources whose settings can be asked for (KIP-1142).

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::metadata::apply::{RESOURCE_BROKER, RESOURCE_TOPIC};
use crate::wire::api::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

/// Types that Kafka knows and of which there is nothing here: loggers of brokers, client metrics,
/// groups.
const EMPTY: [i8; 3] = [8, 16, 32];

impl Shard {
    pub(in crate::broker) fn on_list_config_resources(
        &mut self,
        ctx: RequestContext,
        request: &ListConfigResourcesRequest,
    ) {
        let mut response = ListConfigResourcesResponse::default();
        let types = &request.resource_types;
        let is_known =
            |kind| matches!(kind, RESOURCE_TOPIC | RESOURCE_BROKER) || EMPTY.contains(&kind);
        if !types.iter().copied().all(is_known) {
            response.error_code = ErrorCode::UnsupportedVersion.code();
            return self.respond(&ctx, response);
        }
        // Version 0 is about client metrics alone.
        let wants = |kind| ctx.version >= 1 && (types.is_empty() || types.contains(&kind));
        if wants(RESOURCE_TOPIC) {
            let topics = self.image.topics().map(|topic| ConfigResource {
                resource_name: topic.name.as_str().into(),
                resource_type: RESOURCE_TOPIC,
            });
            response.config_resources.extend(topics);
        }
        if wants(RESOURCE_BROKER) {
            let brokers = self.image.brokers().filter(|(_, broker)| !broker.fenced);
            response.config_resources.extend(brokers.map(|(id, _)| ConfigResource {
                resource_name: id.to_string().into(),
                resource_type: RESOURCE_BROKER,
            }));
        }
        self.respond(&ctx, response);
    }
}
