//! What becomes of brokers: registered, fenced, unfenced, about to stop; and of the partitions they hold.
//!
//! Every start is a new registration, fenced until the broker has caught up with its own record. Applying it
//! raises the epochs of all partitions that the node led. A node that comes with another data directory is
//! known incomplete and leaves every in-sync set in the same batch, however small that makes the set. So does
//! one whose memory or lazy log may have lost records, but the last member of such a set stays: its topic
//! allows the loss, which goes on record.
//! Sources: KIP-631, 841, 903.

use std::time::Duration;

use crate::error::ErrorCode;
use crate::ids::{Incarnation, NodeId, Uuid};
use crate::metadata::broker_sessions::BrokerSessions;
use crate::metadata::decide::{Decision, Refusal};
use crate::metadata::draft::{Draft, find, leads_anything, partitions};
use crate::metadata::elections::NO_LEADER;
use crate::metadata::image::{BrokerImage, MetadataImage, PartitionImage, TopicImage};
use crate::wire::MetadataRecord;
use crate::wire::api::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use crate::wire::api::broker_registration::BrokerRegistrationRequest;
use crate::wire::metadata_record::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, RegisterBrokerRecord,
    UncleanElectionRecord,
};

/// Silence after which a broker is fenced.
pub const SESSION: Duration = Duration::from_secs(3);
/// Time after which a broker is fenced whose connection was lost and could not be made again.
pub const LOST: Duration = Duration::from_millis(300);

/// Returns the id of one start of a node: its directory's, the last four bytes of which count the starts.
pub fn incarnation_id(directory_id: Uuid, incarnation: Incarnation) -> Uuid {
    let mut id = directory_id;
    id.0[12..].copy_from_slice(&incarnation.0.to_be_bytes());
    id
}

/// Returns which start of its directory an [`incarnation_id`] is.
pub fn incarnation_of(id: Uuid) -> Incarnation {
    let [.., a, b, c, d] = id.0;
    Incarnation(u32::from_be_bytes([a, b, c, d]))
}

/// `BrokerRegistration` (key 62): answers with the broker epoch.
///
/// # Errors
/// - `INCONSISTENT_CLUSTER_ID` for a node of another cluster;
/// - `INVALID_REQUEST` where it names no directory, or more than one;
/// - `UNSUPPORTED_VERSION` where it cannot serve a feature at the level that is settled;
/// - `DUPLICATE_BROKER_REGISTRATION` where a node of that number lives with another directory;
/// - `INVALID_REGISTRATION` for a start that is older than the one on record: the directory was rolled back.
pub fn register_broker(
    image: &MetadataImage,
    cluster_id: Uuid,
    request: &BrokerRegistrationRequest,
) -> Result<Decision<i64>, Refusal> {
    let node = NodeId(request.broker_id);
    check_registration(image, cluster_id, request)?;
    let known = image.broker(node);
    if let Some(known) = known
        && known.incarnation_id == request.incarnation_id
        && known.directories == request.log_dirs
    {
        // The answer to the first request was lost.
        return Ok(Decision { records: Vec::new(), response: known.broker_epoch });
    }
    let broker_epoch = image.end_offset().0;
    let mut draft = Draft::new(image);
    draft.push(registration(request, broker_epoch));
    for id in partitions(image, |partition| holds(partition, node)) {
        let Some((topic, old)) = find(draft.image(), id) else { continue };
        let mut new = old.clone();
        let loss = known.map_or(Loss::None, |known| loss(image, topic, known, request));
        if loss != Loss::None {
            new.isr.retain(|&member| member != node);
        }
        let is_the_last = loss == Loss::Allowed && new.isr.is_empty();
        if is_the_last {
            new.isr.push(node);
        }
        draft.settle_as(id, new);
        if is_the_last && let Some((_, new)) = find(draft.image(), id) {
            draft.push(UncleanElectionRecord {
                topic_id: id.topic_id,
                partition_id: id.partition.0,
                leader: node.0,
                leader_epoch: new.leader_epoch.0 + 1,
                ..UncleanElectionRecord::default()
            });
        }
    }
    Ok(Decision { records: draft.into_records(), response: broker_epoch })
}

/// What a start may have lost of a replica since the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loss {
    /// Nothing that was flushed.
    None,
    /// What its topic's settings allow it to lose.
    Allowed,
    /// Everything: the directory is another one.
    Everything,
}

/// A memory log is empty after a start. A lazy log is whole if the kernel has run on or the log was closed:
/// the broker then names its last registration as the one before (as Kafka's brokers do after a clean stop,
/// KIP-966).
fn loss(
    image: &MetadataImage,
    topic: &TopicImage,
    known: &BrokerImage,
    request: &BrokerRegistrationRequest,
) -> Loss {
    let is_lazy = image.setting(topic, "mainspring.flush") == Some("lazy");
    if known.directories != request.log_dirs {
        Loss::Everything
    } else if image.setting(topic, "mainspring.storage") == Some("memory")
        || is_lazy && request.previous_broker_epoch != known.broker_epoch
    {
        Loss::Allowed
    } else {
        Loss::None
    }
}

fn check_registration(
    image: &MetadataImage,
    cluster_id: Uuid,
    request: &BrokerRegistrationRequest,
) -> Result<(), Refusal> {
    let node = request.broker_id;
    if request.cluster_id.as_str() != cluster_id.to_string() {
        let why = format!(
            "Node {node} is of cluster {}, this is cluster {cluster_id}.",
            request.cluster_id
        );
        return Err((ErrorCode::InconsistentClusterId, why));
    }
    let &[directory] = &request.log_dirs[..] else {
        let why = format!("Node {node} has {} directories, not one.", request.log_dirs.len());
        return Err((ErrorCode::InvalidRequest, why));
    };
    if directory.is_zero() || node < 0 {
        let why = format!("Node {node} has no number or no directory id.");
        return Err((ErrorCode::InvalidRequest, why));
    }
    for (name, level) in image.features() {
        let range = request.features.iter().find(|it| it.name == name);
        let is_served = range.is_some_and(|it| {
            (it.min_supported_version..=it.max_supported_version).contains(&level)
        });
        if !is_served {
            let why = format!("Node {node} cannot serve {name} at level {level}.");
            return Err((ErrorCode::UnsupportedVersion, why));
        }
    }
    let Some(known) = image.broker(NodeId(node)) else { return Ok(()) };
    if !known.directories.contains(&directory) {
        if !known.fenced {
            let why = format!("Node {node} lives, and has another data directory.");
            return Err((ErrorCode::DuplicateBrokerRegistration, why));
        }
        return Ok(());
    }
    let (known, new) =
        (incarnation_of(known.incarnation_id), incarnation_of(request.incarnation_id));
    if new < known {
        let why = format!(
            "Start {new} of node {node} is older than start {known}, which is on record: its data \
             directory was rolled back."
        );
        return Err((ErrorCode::InvalidRegistration, why));
    }
    Ok(())
}

fn registration(request: &BrokerRegistrationRequest, broker_epoch: i64) -> RegisterBrokerRecord {
    let end_points = request
        .listeners
        .iter()
        .map(|listener| BrokerEndpoint {
            name: listener.name.detached(),
            host: listener.host.detached(),
            port: listener.port,
            security_protocol: listener.security_protocol,
        })
        .collect();
    let features = request
        .features
        .iter()
        .map(|feature| BrokerFeature {
            name: feature.name.detached(),
            min_supported_version: feature.min_supported_version,
            max_supported_version: feature.max_supported_version,
        })
        .collect();
    RegisterBrokerRecord {
        broker_id: request.broker_id,
        incarnation_id: request.incarnation_id,
        broker_epoch,
        end_points,
        features,
        rack: request.rack.as_ref().map(crate::wire::KafkaString::detached),
        fenced: true,
        log_dirs: request.log_dirs.clone(),
        ..RegisterBrokerRecord::default()
    }
}

/// Fences brokers: they lead nothing, and leave the in-sync sets that stay large enough without them. None of
/// several is elected before the others are fenced.
pub fn fence(image: &MetadataImage, nodes: &[NodeId]) -> Vec<MetadataRecord> {
    let unfenced = |node: &NodeId| image.broker(*node).filter(|broker| !broker.fenced);
    if nodes.iter().all(|node| unfenced(node).is_none()) {
        return Vec::new();
    }
    let mut draft = Draft::new(image);
    for &node in nodes {
        if let Some(broker) = unfenced(&node) {
            draft.push(BrokerRegistrationChangeRecord { fenced: 1, ..change_of(node, broker) });
        }
    }
    draft.resettle(|partition| nodes.iter().any(|&node| holds(partition, node)));
    draft.into_records()
}

/// Unfences a broker: it leads what has no leader and has it in sync, and moves that waited for it end.
pub fn unfence(image: &MetadataImage, node: NodeId) -> Vec<MetadataRecord> {
    let Some(broker) = image.broker(node).filter(|broker| broker.fenced) else { return Vec::new() };
    let mut draft = Draft::new(image);
    draft.push(BrokerRegistrationChangeRecord { fenced: -1, ..change_of(node, broker) });
    draft.resettle(|partition| {
        (partition.leader == NO_LEADER || partition.is_reassigning())
            && partition.isr.contains(&node)
    });
    draft.into_records()
}

/// Begins the stop of a broker: others lead what it led.
pub fn controlled_shutdown(image: &MetadataImage, node: NodeId) -> Vec<MetadataRecord> {
    let active = image.broker(node).filter(|broker| broker.is_active());
    let Some(broker) = active else { return Vec::new() };
    let mut draft = Draft::new(image);
    draft.push(BrokerRegistrationChangeRecord {
        in_controlled_shutdown: 1,
        ..change_of(node, broker)
    });
    draft.resettle(|partition| holds(partition, node));
    draft.into_records()
}

/// Returns whether the broker of that number and epoch is registered.
///
/// # Errors
/// `BROKER_ID_NOT_REGISTERED`, or `STALE_BROKER_EPOCH` for another registration.
pub fn check_broker_epoch(
    image: &MetadataImage,
    node: NodeId,
    broker_epoch: i64,
) -> Result<&BrokerImage, ErrorCode> {
    let broker = image.broker(node).ok_or(ErrorCode::BrokerIdNotRegistered)?;
    if broker.broker_epoch == broker_epoch { Ok(broker) } else { Err(ErrorCode::StaleBrokerEpoch) }
}

/// What a broker is after a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokerState {
    /// It leads nothing.
    Fenced,
    /// It serves.
    Unfenced,
    /// It stops once others have taken over.
    ControlledShutdown,
    /// It may stop.
    ShutdownNow,
}

/// `BrokerHeartbeat` (key 63), with the state that follows.
///
/// # Errors
/// As [`check_broker_epoch`].
pub fn heartbeat(
    image: &MetadataImage,
    sessions: &BrokerSessions,
    request: &BrokerHeartbeatRequest,
) -> Result<(Decision<BrokerHeartbeatResponse>, BrokerState), ErrorCode> {
    let node = NodeId(request.broker_id);
    let broker = check_broker_epoch(image, node, request.broker_epoch)?;
    let state = next_state(image, sessions, node, broker, request);
    let records = match state {
        BrokerState::Fenced | BrokerState::ShutdownNow => fence(image, &[node]),
        BrokerState::Unfenced => unfence(image, node),
        BrokerState::ControlledShutdown => controlled_shutdown(image, node),
    };
    let response = BrokerHeartbeatResponse {
        is_caught_up: request.current_metadata_offset >= broker.broker_epoch,
        is_fenced: matches!(state, BrokerState::Fenced | BrokerState::ShutdownNow),
        should_shut_down: state == BrokerState::ShutdownNow,
        ..BrokerHeartbeatResponse::default()
    };
    Ok((Decision { records, response }, state))
}

/// As Kafka's `BrokerHeartbeatManager` decides; but one that was fenced while it stood still is back only once it
/// has applied that, since with this it may act as a leader again.
fn next_state(
    image: &MetadataImage,
    sessions: &BrokerSessions,
    node: NodeId,
    broker: &BrokerImage,
    request: &BrokerHeartbeatRequest,
) -> BrokerState {
    let (wants_fence, wants_stop) = (request.want_fence, request.want_shut_down);
    let applied = request.current_metadata_offset;
    let is_caught_up = applied >= broker.broker_epoch && sessions.knows_its_roles(node, applied);
    if broker.fenced {
        return match (wants_stop, wants_fence, is_caught_up) {
            (true, ..) => BrokerState::ShutdownNow,
            (false, false, true) => BrokerState::Unfenced,
            (false, ..) => BrokerState::Fenced,
        };
    }
    let leads = leads_anything(image, node);
    if broker.in_controlled_shutdown {
        let may_stop = !leads && sessions.others_have_seen_shutdown(image, node);
        return if may_stop { BrokerState::ShutdownNow } else { BrokerState::ControlledShutdown };
    }
    match (wants_stop, wants_fence) {
        (true, false) if leads => BrokerState::ControlledShutdown,
        (true, _) => BrokerState::ShutdownNow,
        (false, true) => BrokerState::Fenced,
        (false, false) => BrokerState::Unfenced,
    }
}

fn holds(partition: &PartitionImage, node: NodeId) -> bool {
    partition.leader == node || partition.isr.contains(&node)
}

fn change_of(node: NodeId, broker: &BrokerImage) -> BrokerRegistrationChangeRecord {
    BrokerRegistrationChangeRecord {
        broker_id: node.0,
        broker_epoch: broker.broker_epoch,
        ..BrokerRegistrationChangeRecord::default()
    }
}
