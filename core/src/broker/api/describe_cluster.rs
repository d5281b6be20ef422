//! `DescribeCluster` (key 60): the brokers, without topics (KIP-700).

use super::operations::cluster_operations;
use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::wire::api::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

/// Endpoint type of brokers; controllers have 2, and no listener of theirs is for clients.
const BROKERS: i8 = 1;

impl Shard {
    pub(in crate::broker) fn on_describe_cluster(
        &mut self,
        ctx: RequestContext,
        request: &DescribeClusterRequest,
    ) {
        let mut response = DescribeClusterResponse {
            cluster_id: self.identity.cluster_id.to_string().into(),
            ..DescribeClusterResponse::default()
        };
        if request.endpoint_type == BROKERS {
            response.cluster_authorized_operations =
                cluster_operations(request.include_cluster_authorized_operations);
            response.brokers = self
                .image
                .brokers()
                .filter(|(_, broker)| request.include_fenced_brokers || !broker.fenced)
                .filter_map(|(id, broker)| {
                    let (host, port) = self.address(id, ctx.listener)?;
                    Some(DescribeClusterBroker {
                        broker_id: id.0,
                        host,
                        port: i32::from(port),
                        rack: broker.rack.as_deref().map(Into::into),
                        is_fenced: broker.fenced,
                    })
                })
                .collect();
            let listed: Vec<i32> = response.brokers.iter().map(|it| it.broker_id).collect();
            // Whoever asks this way wants to know whether there is one.
            if self.controller_id() >= 0 {
                response.controller_id = self.controller_among(&listed);
            }
        } else {
            let code = if request.endpoint_type == 2 {
                ErrorCode::MismatchedEndpointType
            } else {
                ErrorCode::UnsupportedEndpointType
            };
            response.error_code = code.code();
            response.error_message = Some(code.message().into());
        }
        self.respond(&ctx, response);
    }
}
