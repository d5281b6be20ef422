//! The APIs that are known, who may ask them, their versions, and requests as one type.

use bytes::Bytes;

use super::api;
use super::api::api_versions::{ApiVersion, ApiVersionsResponse};
use super::codec::Message;
#[cfg(any(test, feature = "json"))]
use super::codec::Wire;
use super::error::DecodeError;
use super::frame::{frame_request, frame_response};
use super::reader::Reader;
use crate::error::ErrorCode;

/// A message that is a request, and the type of what answers it.
pub trait RequestMessage: Message {
    /// The API.
    const KEY: ApiKey;
    /// What answers it.
    type Response: Message;
}

macro_rules! apis {
    ($($key:literal $name:ident $module:ident $request:ident $response:ident;)*) => {
        /// An API that is served, by its number on the wire.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("Key ", stringify!($key), ", [`api::", stringify!($module), "`].")]
            $name = $key,)*
        }

        impl ApiKey {
            /// Every API that is served, by rising key.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the API with this key, `None` where it is not served.
            pub const fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns Kafka's name of it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Returns the lowest version that is advertised and decoded.
            pub const fn min_version(self) -> i16 {
                match self {
                    $(Self::$name => <api::$module::$request as Message>::MIN_VERSION,)*
                }
            }

            /// Returns the highest version that is advertised and decoded.
            pub const fn max_version(self) -> i16 {
                match self {
                    $(Self::$name => <api::$module::$request as Message>::MAX_VERSION,)*
                }
            }

            /// Returns the first flexible version (KIP-482).
            pub const fn first_flexible_version(self) -> i16 {
                match self {
                    $(Self::$name => <api::$module::$request as Message>::FIRST_FLEXIBLE_VERSION,)*
                }
            }
        }

        $(
            impl RequestMessage for api::$module::$request {
                const KEY: ApiKey = ApiKey::$name;
                type Response = api::$module::$response;
            }
        )*

        /// The body of any request that is served.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Request {
            $(#[doc = concat!("[`api::", stringify!($module), "`].")]
            $name(api::$module::$request),)*
        }

        impl Request {
            /// Takes the body of a request off the reader. Bytes behind it are left alone, as in
            /// Kafka.
            ///
            /// # Errors
            /// [`DecodeError`] where the bytes hold none, or there is no such version.
            pub fn decode(
                api_key: ApiKey,
                version: i16,
                reader: &mut Reader,
            ) -> Result<Self, DecodeError> {
                match api_key {
                    $(ApiKey::$name => Message::decode(reader, version).map(Self::$name),)*
                }
            }

            /// Returns which API it is for.
            pub const fn api_key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// Returns the whole frame of the request, its size included, as [`frame_request`]
            /// does.
            pub fn frame(
                &self,
                correlation_id: i32,
                client_id: Option<&str>,
                version: i16,
            ) -> Vec<Bytes> {
                match self {
                    $(Self::$name(body) => {
                        frame_request(correlation_id, client_id, body, version)
                    })*
                }
            }

            /// Returns the length of the body's encoding in bytes.
            pub fn size(&self, version: i16) -> usize {
                match self {
                    $(Self::$name(body) => body.size(version),)*
                }
            }

            /// Returns the encoding of the body in one piece.
            pub fn to_bytes(&self, version: i16) -> Bytes {
                match self {
                    $(Self::$name(body) => body.to_bytes(version),)*
                }
            }

            /// Returns the body in Kafka's JSON form.
            #[cfg(any(test, feature = "json"))]
            pub fn to_json(&self, version: i16) -> super::json::Json {
                match self {
                    $(Self::$name(body) => body.to_json(api::$module::$request::form(version)),)*
                }
            }

            /// Takes a body from Kafka's JSON form.
            ///
            /// # Errors
            /// [`super::json::JsonError`] where it holds none.
            #[cfg(any(test, feature = "json"))]
            pub fn from_json(
                api_key: ApiKey,
                version: i16,
                json: &super::json::Json,
            ) -> Result<Self, super::json::JsonError> {
                match api_key {
                    $(ApiKey::$name => {
                        Wire::from_json(json, api::$module::$request::form(version)).map(Self::$name)
                    })*
                }
            }

            /// Makes any body of the version.
            #[cfg(test)]
            pub(crate) fn arbitrary(
                api_key: ApiKey,
                version: i16,
                entropy: &mut super::tests::entropy::Entropy,
            ) -> Self {
                match api_key {
                    $(ApiKey::$name => Self::$name(Wire::arbitrary(
                        entropy,
                        api::$module::$request::form(version),
                    )),)*
                }
            }
        }

        $(
            impl From<api::$module::$request> for Request {
                fn from(request: api::$module::$request) -> Self {
                    Self::$name(request)
                }
            }
        )*

        /// The body of any response that is served.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Response {
            $(#[doc = concat!("[`api::", stringify!($module), "`].")]
            $name(api::$module::$response),)*
        }

        impl Response {
            /// Takes the body of a response off the reader.
            ///
            /// # Errors
            /// [`DecodeError`] where the bytes hold none, or there is no such version.
            pub fn decode(
                api_key: ApiKey,
                version: i16,
                reader: &mut Reader,
            ) -> Result<Self, DecodeError> {
                match api_key {
                    $(ApiKey::$name => Message::decode(reader, version).map(Self::$name),)*
                }
            }

            /// Returns which API it is for.
            pub const fn api_key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// Returns the length of the body's encoding in bytes.
            pub fn size(&self, version: i16) -> usize {
                match self {
                    $(Self::$name(body) => body.size(version),)*
                }
            }

            /// Returns the encoding of the body in one piece.
            pub fn to_bytes(&self, version: i16) -> Bytes {
                match self {
                    $(Self::$name(body) => body.to_bytes(version),)*
                }
            }

            /// Returns the body in Kafka's JSON form.
            #[cfg(any(test, feature = "json"))]
            pub fn to_json(&self, version: i16) -> super::json::Json {
                match self {
                    $(Self::$name(body) => body.to_json(api::$module::$response::form(version)),)*
                }
            }

            /// Takes a body from Kafka's JSON form.
            ///
            /// # Errors
            /// [`super::json::JsonError`] where it holds none.
            #[cfg(any(test, feature = "json"))]
            pub fn from_json(
                api_key: ApiKey,
                version: i16,
                json: &super::json::Json,
            ) -> Result<Self, super::json::JsonError> {
                match api_key {
                    $(ApiKey::$name => {
                        Wire::from_json(json, api::$module::$response::form(version)).map(Self::$name)
                    })*
                }
            }

            /// Makes any body of the version.
            #[cfg(test)]
            pub(crate) fn arbitrary(
                api_key: ApiKey,
                version: i16,
                entropy: &mut super::tests::entropy::Entropy,
            ) -> Self {
                match api_key {
                    $(ApiKey::$name => Self::$name(Wire::arbitrary(
                        entropy,
                        api::$module::$response::form(version),
                    )),)*
                }
            }

            /// Returns the whole frame of the response, its size included, as
            /// [`frame_response`] does.
            pub fn frame(&self, correlation_id: i32, version: i16) -> Vec<Bytes> {
                let header_version = self.api_key().response_header_version(version);
                match self {
                    $(Self::$name(body) => {
                        frame_response(correlation_id, header_version, body, version)
                    })*
                }
            }
        }

        $(
            impl From<api::$module::$response> for Response {
                fn from(response: api::$module::$response) -> Self {
                    Self::$name(response)
                }
            }
        )*
    };
}

apis! {
    0 Produce produce ProduceRequest ProduceResponse;
    1 Fetch fetch FetchRequest FetchResponse;
    2 ListOffsets list_offsets ListOffsetsRequest ListOffsetsResponse;
    3 Metadata metadata MetadataRequest MetadataResponse;
    8 OffsetCommit offset_commit OffsetCommitRequest OffsetCommitResponse;
    9 OffsetFetch offset_fetch OffsetFetchRequest OffsetFetchResponse;
    10 FindCoordinator find_coordinator FindCoordinatorRequest FindCoordinatorResponse;
    11 JoinGroup join_group JoinGroupRequest JoinGroupResponse;
    12 Heartbeat heartbeat HeartbeatRequest HeartbeatResponse;
    13 LeaveGroup leave_group LeaveGroupRequest LeaveGroupResponse;
    14 SyncGroup sync_group SyncGroupRequest SyncGroupResponse;
    15 DescribeGroups describe_groups DescribeGroupsRequest DescribeGroupsResponse;
    16 ListGroups list_groups ListGroupsRequest ListGroupsResponse;
    18 ApiVersions api_versions ApiVersionsRequest ApiVersionsResponse;
    19 CreateTopics create_topics CreateTopicsRequest CreateTopicsResponse;
    20 DeleteTopics delete_topics DeleteTopicsRequest DeleteTopicsResponse;
    21 DeleteRecords delete_records DeleteRecordsRequest DeleteRecordsResponse;
    22 InitProducerId init_producer_id InitProducerIdRequest InitProducerIdResponse;
    23 OffsetForLeaderEpoch offset_for_leader_epoch
        OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse;
    24 AddPartitionsToTxn add_partitions_to_txn
        AddPartitionsToTxnRequest AddPartitionsToTxnResponse;
    25 AddOffsetsToTxn add_offsets_to_txn AddOffsetsToTxnRequest AddOffsetsToTxnResponse;
    26 EndTxn end_txn EndTxnRequest EndTxnResponse;
    27 WriteTxnMarkers write_txn_markers WriteTxnMarkersRequest WriteTxnMarkersResponse;
    28 TxnOffsetCommit txn_offset_commit TxnOffsetCommitRequest TxnOffsetCommitResponse;
    32 DescribeConfigs describe_configs DescribeConfigsRequest DescribeConfigsResponse;
    33 AlterConfigs alter_configs AlterConfigsRequest AlterConfigsResponse;
    35 DescribeLogDirs describe_log_dirs DescribeLogDirsRequest DescribeLogDirsResponse;
    37 CreatePartitions create_partitions CreatePartitionsRequest CreatePartitionsResponse;
    42 DeleteGroups delete_groups DeleteGroupsRequest DeleteGroupsResponse;
    43 ElectLeaders elect_leaders ElectLeadersRequest ElectLeadersResponse;
    44 IncrementalAlterConfigs incremental_alter_configs
        IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse;
    45 AlterPartitionReassignments alter_partition_reassignments
        AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse;
    46 ListPartitionReassignments list_partition_reassignments
        ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse;
    47 OffsetDelete offset_delete OffsetDeleteRequest OffsetDeleteResponse;
    52 Vote vote VoteRequest VoteResponse;
    53 BeginQuorumEpoch begin_quorum_epoch BeginQuorumEpochRequest BeginQuorumEpochResponse;
    54 EndQuorumEpoch end_quorum_epoch EndQuorumEpochRequest EndQuorumEpochResponse;
    55 DescribeQuorum describe_quorum DescribeQuorumRequest DescribeQuorumResponse;
    56 AlterPartition alter_partition AlterPartitionRequest AlterPartitionResponse;
    57 UpdateFeatures update_features UpdateFeaturesRequest UpdateFeaturesResponse;
    58 Envelope envelope EnvelopeRequest EnvelopeResponse;
    59 FetchSnapshot fetch_snapshot FetchSnapshotRequest FetchSnapshotResponse;
    60 DescribeCluster describe_cluster DescribeClusterRequest DescribeClusterResponse;
    61 DescribeProducers describe_producers DescribeProducersRequest DescribeProducersResponse;
    62 BrokerRegistration broker_registration
        BrokerRegistrationRequest BrokerRegistrationResponse;
    63 BrokerHeartbeat broker_heartbeat BrokerHeartbeatRequest BrokerHeartbeatResponse;
    65 DescribeTransactions describe_transactions
        DescribeTransactionsRequest DescribeTransactionsResponse;
    66 ListTransactions list_transactions ListTransactionsRequest ListTransactionsResponse;
    67 AllocateProducerIds allocate_producer_ids
        AllocateProducerIdsRequest AllocateProducerIdsResponse;
    74 ListConfigResources list_config_resources
        ListConfigResourcesRequest ListConfigResourcesResponse;
    75 DescribeTopicPartitions describe_topic_partitions
        DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse;
    31000 PeerHello peer_hello PeerHelloRequest PeerHelloResponse;
    31001 ReplicaAck replica_ack ReplicaAckRequest ReplicaAckResponse;
    31002 Form form FormRequest FormResponse;
    31003 EntryList entry_list EntryListRequest EntryListResponse;
    31004 EntryAlter entry_alter EntryAlterRequest EntryAlterResponse;
}

impl ApiKey {
    /// The first key that is ours and not Kafka's.
    pub const FIRST_OWN_KEY: i16 = 31000;
    /// The feature by which a broker says that it serves clients our own APIs. Level 1: version 0 of
    /// [`OWN_FOR_CLIENTS`](Self::OWN_FOR_CLIENTS).
    pub const OWN_FEATURE: &str = "mainspring.rpc";
    /// Those of our own APIs that clients may ask.
    pub const OWN_FOR_CLIENTS: [Self; 2] = [Self::EntryList, Self::EntryAlter];

    /// Returns whether only nodes of the cluster may ask it. On a listener for clients there is no such
    /// API.
    pub const fn is_for_peers(self) -> bool {
        matches!(
            self,
            Self::Vote
                | Self::BeginQuorumEpoch
                | Self::EndQuorumEpoch
                | Self::AlterPartition
                | Self::Envelope
                | Self::FetchSnapshot
                | Self::BrokerRegistration
                | Self::BrokerHeartbeat
                | Self::AllocateProducerIds
                | Self::PeerHello
                | Self::ReplicaAck
                | Self::Form
        )
    }

    /// Returns whether a node answers it before it serves clients: what a cluster needs to come to that.
    pub const fn is_before_serving(self) -> bool {
        matches!(
            self,
            Self::Vote
                | Self::BeginQuorumEpoch
                | Self::EndQuorumEpoch
                | Self::Fetch
                | Self::FetchSnapshot
                | Self::PeerHello
                | Self::Form
                | Self::ReplicaAck
                | Self::BrokerRegistration
                | Self::BrokerHeartbeat
        )
    }

    /// Returns whether nothing answers it yet but an error, so that clients are not told of it.
    const fn is_only_decoded(self) -> bool {
        matches!(self, Self::UpdateFeatures)
    }

    /// Returns whether it is ours and not Kafka's: clients and proxies are not told of it in `ApiVersions`, but by
    /// the feature `mainspring.rpc`.
    pub const fn is_own(self) -> bool {
        self.key() >= Self::FIRST_OWN_KEY
    }

    /// Returns whether there is this API on a listener, which is one for peers or one for clients.
    pub const fn is_served(self, to_peers: bool) -> bool {
        to_peers || !self.is_for_peers() && !self.is_only_decoded()
    }

    /// Returns the number of the API.
    pub const fn key(self) -> i16 {
        self as i16
    }

    /// Returns whether `version` is served.
    pub const fn serves(self, version: i16) -> bool {
        self.min_version() <= version && version <= self.max_version()
    }

    /// Returns the version of the request header: 2 has tagged fields, 1 has not.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if version >= self.first_flexible_version() { 2 } else { 1 }
    }

    /// Returns the version of the response header: 1 has tagged fields, 0 has not. `ApiVersions`
    /// always has 0, so that a client can read an answer of a version that it does not know.
    pub const fn response_header_version(self, version: i16) -> i16 {
        if version >= self.first_flexible_version() && !matches!(self, Self::ApiVersions) {
            1
        } else {
            0
        }
    }
}

/// Returns the ranges that `ApiVersions` advertises on a listener for peers or for clients: exactly what
/// is decoded there, but for our own APIs, which clients and proxies do not expect.
pub fn advertised(to_peers: bool) -> Vec<ApiVersion> {
    ApiKey::ALL
        .iter()
        .filter(|api| api.is_served(to_peers) && (to_peers || !api.is_own()))
        .map(|api| ApiVersion {
            api_key: api.key(),
            min_version: api.min_version(),
            max_version: api.max_version(),
        })
        .collect()
}

/// Returns the whole answer to an `ApiVersions` request of a version that is not served: error 35
/// in version 0, naming the range of `ApiVersions` alone. The body of such a request is not read.
pub fn unsupported_api_versions(correlation_id: i32) -> Vec<Bytes> {
    let api = ApiKey::ApiVersions;
    let body = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![ApiVersion {
            api_key: api.key(),
            min_version: api.min_version(),
            max_version: api.max_version(),
        }],
        ..ApiVersionsResponse::default()
    };
    frame_response(correlation_id, 0, &body, 0)
}
