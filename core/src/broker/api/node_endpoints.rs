//! Addresses of leaders, for clients that asked the wrong node (KIP-951).

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::ids::{ListenerIndex, NodeId};
use crate::wire::api::{fetch, produce};
use crate::wire::{KafkaString, Response};

impl Shard {
    /// Returns the address of a broker that a client of this listener is to use.
    pub(in crate::broker) fn address(
        &self,
        id: NodeId,
        listener: ListenerIndex,
    ) -> Option<(KafkaString, u16)> {
        let node = &self.config.node;
        let mine =
            node.listeners.get(usize::from(listener.0)).or_else(|| node.listeners.first())?;
        if id == node.node_id {
            return Some((mine.advertised_host.as_str().into(), mine.advertised_port));
        }
        let endpoints = &self.image.broker(id)?.endpoints;
        let endpoint = endpoints.iter().find(|endpoint| endpoint.name == mine.name)?;
        Some((endpoint.host.as_str().into(), endpoint.port))
    }

    /// Adds the addresses of all leaders that a Produce response names.
    pub(in crate::broker) fn add_node_endpoints(
        &self,
        ctx: &RequestContext,
        response: &mut Response,
    ) {
        let Response::Produce(response) = response else { return };
        if ctx.version < 10 {
            return;
        }
        let leaders = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses)
            .map(|partition| partition.current_leader.leader_id);
        for id in distinct(leaders) {
            if let Some((host, port)) = self.address(NodeId(id), ctx.listener) {
                let port = i32::from(port);
                let endpoint = produce::NodeEndpoint { node_id: id, host, port, rack: None };
                response.node_endpoints.push(endpoint);
            }
        }
    }

    /// Returns the addresses of all leaders that a Fetch response names.
    pub(in crate::broker) fn fetch_endpoints(
        &self,
        ctx: &RequestContext,
        leaders: impl Iterator<Item = i32>,
    ) -> Vec<fetch::NodeEndpoint> {
        distinct(leaders)
            .into_iter()
            .filter_map(|id| {
                let (host, port) = self.address(NodeId(id), ctx.listener)?;
                let port = i32::from(port);
                Some(fetch::NodeEndpoint { node_id: id, host, port, rack: None })
            })
            .collect()
    }
}

fn distinct(leaders: impl Iterator<Item = i32>) -> std::collections::BTreeSet<i32> {
    leaders.filter(|&id| id >= 0).collect()
}
