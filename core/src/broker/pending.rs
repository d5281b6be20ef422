//! Requests that are decided and wait for something.

use crate::broker::fetch_sessions::{FetchSession, Place};
use crate::broker::internal::Internal;
use crate::broker::post::{FetchItem, FetchRefusal, Fetched};
use crate::connection::RequestId;
use crate::ids::{ListenerIndex, TopicId};
use crate::time::Instant;
use crate::wire::api::find_coordinator::FindCoordinatorRequest;
use crate::wire::api::metadata::MetadataRequest;
use crate::wire::{ApiKey, KafkaString, Response};

/// What is needed to answer a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct RequestContext {
    /// Its connection and place.
    pub(in crate::broker) id: RequestId,
    /// The number that the answer repeats.
    pub(in crate::broker) correlation_id: i32,
    /// Version of request and answer.
    pub(in crate::broker) version: i16,
    /// The listener that it came in by.
    pub(in crate::broker) listener: ListenerIndex,
}

/// A request that waits.
#[derive(Clone, Debug)]
pub(in crate::broker) enum Pending {
    /// For answers about single partitions.
    Gather(Gather),
    /// For something to fetch.
    Fetch(PendingFetch),
    /// For the metadata quorum on shard 0, which always answers, soon or when it has something to send.
    Quorum { ctx: RequestContext },
    /// For something that this shard asks for itself.
    Internal(Internal),
    /// For the controller.
    Command { ctx: RequestContext, api: ApiKey, deadline: Instant },
    /// For topics that are being created.
    Metadata { ctx: RequestContext, request: MetadataRequest, deadline: Instant },
    /// For the topic of committed offsets, which is being created.
    FindCoordinator { ctx: RequestContext, request: FindCoordinatorRequest, deadline: Instant },
}

/// A response that is filled partition by partition. What is not filled stands as timed out.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Gather {
    pub(in crate::broker) ctx: RequestContext,
    pub(in crate::broker) response: Response,
    /// Where the answer with each index goes: place of the topic and of the partition in it.
    pub(in crate::broker) places: Vec<(u32, u32)>,
    pub(in crate::broker) outstanding: usize,
    /// Set once it waits.
    pub(in crate::broker) deadline: Option<Instant>,
    /// Whether no answer is sent, and the connection closed on any error (acks=0).
    pub(in crate::broker) is_silent: bool,
    /// Whether the connection is closed behind the answer.
    pub(in crate::broker) closes: bool,
}

/// A fetch on its way.
#[derive(Clone, Debug)]
pub(in crate::broker) struct PendingFetch {
    pub(in crate::broker) ctx: RequestContext,
    pub(in crate::broker) topics: Vec<FetchedTopic>,
    pub(in crate::broker) slots: Vec<FetchSlot>,
    pub(in crate::broker) session: SessionUse,
    pub(in crate::broker) stage: FetchStage,
    pub(in crate::broker) outstanding: usize,
    pub(in crate::broker) min_bytes: u64,
    pub(in crate::broker) max_bytes: u64,
    /// What it has reserved of the pool of answer bytes, while owners read.
    pub(in crate::broker) granted: u64,
    pub(in crate::broker) read_committed: bool,
    pub(in crate::broker) deadline: Instant,
}

/// What a fetch has to do with a session.
#[derive(Clone, Debug)]
pub(in crate::broker) enum SessionUse {
    /// Nothing.
    None,
    /// Its answer opens this one.
    Opening(Box<FetchSession>),
    /// It goes on with this one, and came with that epoch.
    Incremental { id: i32, epoch: i32 },
}

/// Where a fetch stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) enum FetchStage {
    /// Owners say how much there is.
    Probing,
    /// There is too little; owners watch.
    Parked,
    /// Owners read.
    Reading,
}

/// A topic of a fetch and how many of the slots are its partitions.
#[derive(Clone, Debug)]
pub(in crate::broker) struct FetchedTopic {
    pub(in crate::broker) name: KafkaString,
    pub(in crate::broker) id: TopicId,
    pub(in crate::broker) partitions: usize,
}

/// One partition of a fetch.
#[derive(Clone, Debug)]
pub(in crate::broker) struct FetchSlot {
    pub(in crate::broker) partition: i32,
    /// Its place in the session, if there is one.
    pub(in crate::broker) place: Place,
    pub(in crate::broker) item: FetchItem,
    /// Whether the request names what does not exist, so that no partition was asked.
    pub(in crate::broker) is_unknown: bool,
    pub(in crate::broker) outcome: FetchOutcome,
}

/// What is known of a partition of a fetch.
#[derive(Clone, Debug)]
pub(in crate::broker) enum FetchOutcome {
    /// How many bytes are readable.
    Readable(u64),
    /// Nothing will be fetched.
    Refused(FetchRefusal),
    /// What was fetched.
    Fetched(Fetched),
}
