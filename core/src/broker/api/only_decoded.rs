//! APIs that are decoded and that nothing serves: answered with `UNSUPPORTED_VERSION`, which no peer asks again.

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::wire::api::allocate_producer_ids::AllocateProducerIdsResponse;
use crate::wire::api::alter_partition::AlterPartitionResponse;
use crate::wire::api::begin_quorum_epoch::BeginQuorumEpochResponse;
use crate::wire::api::broker_heartbeat::BrokerHeartbeatResponse;
use crate::wire::api::broker_registration::BrokerRegistrationResponse;
use crate::wire::api::end_quorum_epoch::EndQuorumEpochResponse;
use crate::wire::api::envelope::EnvelopeResponse;
use crate::wire::api::fetch_snapshot::FetchSnapshotResponse;
use crate::wire::api::form::FormResponse;
use crate::wire::api::peer_hello::PeerHelloResponse;
use crate::wire::api::update_features::UpdateFeaturesResponse;
use crate::wire::api::vote::VoteResponse;
use crate::wire::{Request, Response};

impl Shard {
    /// Answers a request that nothing serves; one that is one-way is taken and dropped.
    pub(in crate::broker) fn on_only_decoded(&mut self, ctx: &RequestContext, request: &Request) {
        match refusal(request) {
            Some(response) => self.respond(ctx, response),
            None => self.send(ctx.id, None),
        }
    }
}

macro_rules! refusals {
    ($request:expr; $($name:ident $response:ident)*) => {
        $(if let Request::$name(_) = $request {
            let error_code = ErrorCode::UnsupportedVersion.code();
            return Some($response { error_code, ..$response::default() }.into());
        })*
    };
}

/// Returns the answer to a request that nothing serves. The others have handlers of their own, or no answer.
fn refusal(request: &Request) -> Option<Response> {
    refusals! { request;
        Vote VoteResponse
        BeginQuorumEpoch BeginQuorumEpochResponse
        EndQuorumEpoch EndQuorumEpochResponse
        AlterPartition AlterPartitionResponse
        UpdateFeatures UpdateFeaturesResponse
        Envelope EnvelopeResponse
        FetchSnapshot FetchSnapshotResponse
        BrokerRegistration BrokerRegistrationResponse
        BrokerHeartbeat BrokerHeartbeatResponse
        AllocateProducerIds AllocateProducerIdsResponse
        PeerHello PeerHelloResponse
        Form FormResponse
    }
    None
}
