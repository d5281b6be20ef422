//! `mainspring cluster`: looks at the nodes of a cluster, and says where partitions are led and stored.

use std::collections::BTreeSet;

use mainspring_core::wire::api::describe_quorum::QuorumReplicaState;
use mainspring_core::wire::api::metadata::MetadataResponseTopic;
use serde::Serialize;

use super::cluster_moves::{self, Drain, Elect, Reassign};
use super::connect;
use super::failure::{Code, Failure};
use super::output::{Format, Output, Stop};
use super::secret;
use super::topic::{Common, operations, print};
use crate::clock::Clock;

/// A voter that has fetched nothing for so long is silent: it asks several times a second.
const VOTER_SILENT_MS: i64 = 10_000;

/// What to do with a cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the nodes
    Info {
        #[command(flatten)]
        common: Common,
    },
    /// Show what is wrong; ends with 1 where something is
    Health {
        #[command(flatten)]
        common: Common,
    },
    /// Show who leads the metadata log and how far its voters are
    Quorum {
        #[command(flatten)]
        common: Common,
    },
    /// Give partitions back to the first of their replicas
    Elect(Elect),
    /// Have other nodes lead what a node leads, and with --replicas store what it stores
    Drain(Drain),
    /// Move a partition to other nodes, or show what is on the move
    Reassign(Reassign),
    /// Make the secret by which the nodes of a cluster verify each other
    Secret(secret::Args),
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), Stop> {
    connect::block_on(async move {
        match command {
            Command::Info { common } => info(&common).await,
            Command::Health { common } => health(&common).await,
            Command::Quorum { common } => quorum(&common).await,
            Command::Elect(elect) => cluster_moves::elect(&elect).await,
            Command::Drain(drain) => cluster_moves::drain(&drain).await,
            Command::Reassign(reassign) => cluster_moves::reassign(&reassign).await,
            Command::Secret(args) => secret::run(&args),
        }
    })
}

#[derive(Serialize)]
struct NodeShown {
    cluster_id: String,
    node_id: i32,
    address: String,
    controller: bool,
    fenced: bool,
    rack: Option<String>,
}

async fn info(common: &Common) -> Result<(), Stop> {
    let found = operations(common)?.cluster(true).await;
    let found = found.map_err(|ended| ended.of("cannot describe the cluster"))?;
    let mut nodes: Vec<NodeShown> = found
        .brokers
        .iter()
        .map(|broker| NodeShown {
            cluster_id: found.cluster_id.to_string(),
            node_id: broker.broker_id,
            address: format!("{}:{}", broker.host, broker.port),
            controller: broker.broker_id == found.controller_id,
            fenced: broker.is_fenced,
            rack: broker.rack.as_ref().map(ToString::to_string),
        })
        .collect();
    nodes.sort_by_key(|node| node.node_id);
    print(&nodes, common.output, &["node", "address", "state", "rack"], |node| {
        let state = match (node.fenced, node.controller) {
            (true, _) => "fenced",
            (false, true) => "controller",
            (false, false) => "serves",
        };
        let rack = node.rack.clone().unwrap_or_else(|| "-".to_owned());
        vec![node.node_id.to_string(), node.address.clone(), state.to_owned(), rack]
    })
}

#[derive(Serialize)]
struct Problem {
    what: String,
    #[serde(rename = "where")]
    place: String,
    detail: String,
}

async fn health(common: &Common) -> Result<(), Stop> {
    let what = "cannot look at the cluster";
    let mut operations = operations(common)?;
    let nodes = operations.cluster(true).await.map_err(|ended| ended.of(what))?;
    let metadata = operations.metadata(None).await.map_err(|ended| ended.of(what))?;
    let mut problems = Vec::new();
    if nodes.controller_id < 0 {
        problems.push(Problem {
            what: "no controller".to_owned(),
            place: "cluster".to_owned(),
            detail: "a majority of the voters must run and reach each other".to_owned(),
        });
    }
    for broker in nodes.brokers.iter().filter(|broker| broker.is_fenced) {
        problems.push(Problem {
            what: "fenced".to_owned(),
            place: format!("node {}", broker.broker_id),
            detail: format!(
                "{}:{} is down or does not reach the controller",
                broker.host, broker.port
            ),
        });
    }
    if nodes.controller_id >= 0 {
        let quorum = operations.quorum().await.map_err(|ended| ended.of(what))?;
        let fenced = nodes.brokers.iter().filter(|broker| broker.is_fenced);
        let fenced: BTreeSet<i32> = fenced.map(|broker| broker.broker_id).collect();
        let now = Clock::default().now().wall.0;
        problems.extend(silent_voters(&quorum.current_voters, &fenced, now));
    }
    problems.extend(metadata.topics.iter().flat_map(problems_of));
    if problems.is_empty() && matches!(common.output, Format::Table) {
        let mut output = Output::new();
        output.line(&format!("all is well with {} nodes", nodes.brokers.len()))?;
        return output.flush();
    }
    print(&problems, common.output, &["problem", "where", "detail"], |problem| {
        vec![problem.what.clone(), problem.place.clone(), problem.detail.clone()]
    })?;
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Failed,
        "the cluster is not well",
        match problems.len() {
            1 => "there is one problem".to_owned(),
            count => format!("there are {count} problems"),
        },
        "start what is down, then see mainspring cluster health again",
    )
    .into())
}

/// Returns which voters the leader of the metadata log does not hear, but for those that are known to be down.
fn silent_voters(voters: &[QuorumReplicaState], fenced: &BTreeSet<i32>, now: i64) -> Vec<Problem> {
    voters
        .iter()
        .filter(|voter| !fenced.contains(&voter.replica_id))
        .filter(|voter| now - voter.last_fetch_timestamp > VOTER_SILENT_MS)
        .map(|voter| Problem {
            what: "does not vote".to_owned(),
            place: format!("node {}", voter.replica_id),
            detail:
                "its data directory is new and has not caught up yet, or it does not reach the controller"
                    .to_owned(),
        })
        .collect()
}

/// Returns what is wrong with the partitions of a topic.
fn problems_of(topic: &MetadataResponseTopic) -> Vec<Problem> {
    let name = topic.name.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut problems = Vec::new();
    for partition in &topic.partitions {
        let in_sync: BTreeSet<i32> = partition.isr_nodes.iter().copied().collect();
        let missing: Vec<i32> = partition
            .replica_nodes
            .iter()
            .copied()
            .filter(|replica| !in_sync.contains(replica))
            .collect();
        let (what, detail) = if partition.leader_id < 0 {
            ("no leader", format!("replicas {:?}, in sync {in_sync:?}", partition.replica_nodes))
        } else if !missing.is_empty() {
            ("not in sync", format!("{missing:?} of {:?}", partition.replica_nodes))
        } else {
            continue;
        };
        let place = format!("{name}-{}", partition.partition_index);
        problems.push(Problem { what: what.to_owned(), place, detail });
    }
    problems
}

#[derive(Serialize)]
struct Voter {
    node_id: i32,
    leader: bool,
    leader_epoch: i32,
    high_watermark: i64,
    /// What is on its disk, -1 where that is not known.
    end: i64,
    lag: Option<i64>,
    /// Milliseconds since it was heard last.
    heard_ms_ago: Option<i64>,
}

async fn quorum(common: &Common) -> Result<(), Stop> {
    let found = operations(common)?.quorum().await;
    let found = found.map_err(|ended| ended.of("cannot describe the quorum"))?;
    let now = Clock::default().now().wall.0;
    let voters: Vec<Voter> = found
        .current_voters
        .iter()
        .map(|voter| {
            let known = |value: i64| (value >= 0).then_some(value);
            let heard = known(voter.last_fetch_timestamp);
            Voter {
                node_id: voter.replica_id,
                leader: voter.replica_id == found.leader_id,
                leader_epoch: found.leader_epoch,
                high_watermark: found.high_watermark,
                end: voter.log_end_offset,
                lag: known(voter.log_end_offset).map(|end| (found.high_watermark - end).max(0)),
                heard_ms_ago: heard.map(|heard| (now - heard).max(0)),
            }
        })
        .collect();
    let columns = ["node", "role", "epoch", "end", "lag", "heard"];
    print(&voters, common.output, &columns, |voter| {
        let or_dash =
            |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        vec![
            voter.node_id.to_string(),
            if voter.leader { "leader" } else { "voter" }.to_owned(),
            voter.leader_epoch.to_string(),
            or_dash((voter.end >= 0).then_some(voter.end)),
            or_dash(voter.lag),
            voter.heard_ms_ago.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms ago")),
        ]
    })
}

#[cfg(test)]
mod tests {
    use mainspring_core::wire::api::metadata::MetadataResponsePartition;

    use super::*;

    #[test]
    fn a_voter_is_well_that_the_controller_hears() {
        let voter = |replica_id, last_fetch_timestamp| QuorumReplicaState {
            replica_id,
            last_fetch_timestamp,
            ..QuorumReplicaState::default()
        };
        let voters = [voter(1, 99_000), voter(2, -1), voter(3, 80_000), voter(4, -1)];
        let fenced = BTreeSet::from([4]);
        let places: Vec<String> =
            silent_voters(&voters, &fenced, 100_000).into_iter().map(|it| it.place).collect();
        assert_eq!(places, ["node 2", "node 3"]);
    }

    #[test]
    fn a_partition_is_well_with_a_leader_and_all_replicas_in_sync() {
        let partition = |partition_index, leader_id, isr_nodes: &[i32]| MetadataResponsePartition {
            partition_index,
            leader_id,
            replica_nodes: vec![1, 2, 3],
            isr_nodes: isr_nodes.to_vec(),
            ..MetadataResponsePartition::default()
        };
        let topic = MetadataResponseTopic {
            name: Some("orders".into()),
            partitions: vec![
                partition(0, 1, &[3, 2, 1]),
                partition(1, 2, &[2]),
                partition(2, -1, &[]),
            ],
            ..MetadataResponseTopic::default()
        };
        let problems: Vec<(String, String)> =
            problems_of(&topic).into_iter().map(|it| (it.what, it.place)).collect();
        let expected = [("not in sync", "orders-1"), ("no leader", "orders-2")];
        let expected = expected.map(|(what, place)| (what.to_owned(), place.to_owned()));
        assert_eq!(problems, expected);
    }
}
