//! `mainspring cluster elect`, `drain` and `reassign`: which nodes lead and store partitions.

use std::collections::BTreeMap;

use mainspring_core::client::ClientError;
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{NodeId, PartitionIndex};
use mainspring_core::wire::api::metadata::MetadataResponseTopic;
use serde::Serialize;

use super::connect::{refused, topic_name};
use super::failure::{Code, Failure};
use super::output::Stop;
use super::topic::{Common, confirm, operations, print};
use crate::client::cluster::Outcomes;

const PARTITION: &str = "write it as TOPIC:PARTITION, as in orders:0";

/// Flags of `cluster elect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Elect {
    /// Partitions, as in orders:0 [default: all]
    #[arg(value_name = "TOPIC:PARTITION")]
    partitions: Vec<String>,
    /// Let any replica that lives lead partitions without a leader: records may be lost
    #[arg(long, requires = "partitions")]
    unclean: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

/// Flags of `cluster drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    /// Number of the node
    node: i32,
    /// Move its replicas to other nodes too, where there are any without one
    #[arg(long)]
    replicas: bool,
    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// Flags of `cluster reassign`.
#[derive(Debug, clap::Args)]
pub(crate) struct Reassign {
    /// The partition, as in orders:0 [default: show what is on the move]
    #[arg(value_name = "TOPIC:PARTITION")]
    partition: Option<String>,
    /// Where it goes: nodes divided by commas, the first of which is to lead
    #[arg(long, value_name = "NODES", requires = "partition", conflicts_with = "cancel")]
    to: Option<String>,
    /// Take its move back
    #[arg(long, requires = "partition")]
    cancel: bool,
    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Shown {
    topic: String,
    partition: i32,
    before: Vec<i32>,
    after: Vec<i32>,
}

/// A partition that is to be moved.
#[derive(PartialEq, Eq, Debug)]
struct Move {
    place: Place,
    before: Vec<i32>,
    after: Vec<i32>,
}

/// Runs `cluster elect`.
pub(crate) async fn elect(flags: &Elect) -> Result<(), Stop> {
    let what = "cannot elect leaders";
    let places = flags.partitions.iter().map(|text| place(text)).collect::<Result<Vec<_>, _>>()?;
    if flags.unclean {
        confirm(flags.yes, "elect leaders that may lack records", "for these partitions")?;
    }
    let asked = (!places.is_empty()).then_some(&places[..]);
    let outcomes = operations(&flags.common)?.elect(asked, flags.unclean).await;
    let outcomes = outcomes.map_err(|ended| ended.of(what))?;
    let elected: Vec<Place> = succeeded("elect a leader of", outcomes)?;
    #[derive(Serialize)]
    struct Elected {
        topic: String,
        partition: i32,
    }
    let elected: Vec<Elected> = elected
        .into_iter()
        .map(|(topic, partition)| Elected { topic: topic.to_string(), partition: partition.0 })
        .collect();
    print(&elected, flags.common.output, &["topic", "partition"], |it| {
        vec![it.topic.clone(), it.partition.to_string()]
    })
}

/// Runs `cluster drain`.
pub(crate) async fn drain(flags: &Drain) -> Result<(), Stop> {
    let what = format!("cannot drain node {}", flags.node);
    let mut operations = operations(&flags.common)?;
    let nodes = operations.cluster(true).await.map_err(|ended| ended.of(&what))?;
    if nodes.brokers.iter().all(|broker| broker.broker_id != flags.node) {
        let known: Vec<String> =
            nodes.brokers.iter().map(|broker| broker.broker_id.to_string()).collect();
        let why = format!("the cluster has the nodes {}", known.join(", "));
        return Err(Failure::usage(what, why, "name one of these").into());
    }
    let others: Vec<i32> = nodes
        .brokers
        .iter()
        .filter(|broker| !broker.is_fenced && broker.broker_id != flags.node)
        .map(|broker| broker.broker_id)
        .collect();
    let metadata = operations.metadata(None).await.map_err(|ended| ended.of(&what))?;
    let plan = plan(&metadata.topics, flags.node, &others, flags.replicas);
    show(&plan, &flags.common)?;
    if flags.dry_run || plan.is_empty() {
        return Ok(());
    }
    let moves: Vec<(Place, Option<Vec<NodeId>>)> = plan
        .iter()
        .map(|it| (it.place.clone(), Some(it.after.iter().copied().map(NodeId).collect())))
        .collect();
    let begun = operations.reassign(&moves).await.map_err(|ended| ended.of(&what))?;
    let places = succeeded("move", begun)?;
    let elected = operations.elect(Some(&places), false).await.map_err(|ended| ended.of(&what))?;
    let (refused, _): (Outcomes, Outcomes) =
        elected.into_iter().partition(|(_, error)| is_final(error.as_ref()));
    succeeded("elect a leader of", refused).map(drop).map_err(Stop::from)
}

/// Returns whether an election after a move has failed for good: where the new leader has to catch up first, the end of
/// the move makes it one.
fn is_final(error: Option<&ClientError>) -> bool {
    error.is_some_and(|error| error.refused_with() != Some(ErrorCode::PreferredLeaderNotAvailable))
}

/// Runs `cluster reassign`.
pub(crate) async fn reassign(flags: &Reassign) -> Result<(), Stop> {
    let mut operations = operations(&flags.common)?;
    let Some(partition) = &flags.partition else {
        let moves = operations.moves().await;
        let moves = moves.map_err(|ended| ended.of("cannot list the moves"))?;
        return show_moves(&moves, &flags.common);
    };
    let place = place(partition)?;
    let what = format!("cannot move {partition}");
    let topic = operations.topic(&place.0).await.map_err(|ended| ended.of(&what))?;
    let found = topic.partitions.iter().find(|it| it.partition_index == place.1.0);
    let Some(before) = found.map(|it| it.replica_nodes.clone()) else {
        let why = format!("{} has {} partitions", place.0, topic.partitions.len());
        let next = "name one of these, counted from 0";
        return Err(Failure::new(Code::NotFound, what, why, next).into());
    };
    let target = match (&flags.to, flags.cancel) {
        (Some(text), _) => Some(node_list(text)?),
        (None, true) => None,
        (None, false) => {
            let next = "add --to with the nodes, or --cancel";
            return Err(Failure::usage(what, "nothing says where it goes", next).into());
        }
    };
    if let Some(after) = &target {
        let plan = [Move { place: place.clone(), before, after: after.clone() }];
        show(&plan, &flags.common)?;
    }
    if flags.dry_run {
        return Ok(());
    }
    let target = target.map(|nodes| nodes.into_iter().map(NodeId).collect());
    let outcomes = operations.reassign(&[(place, target)]).await;
    succeeded("move", outcomes.map_err(|ended| ended.of(&what))?)?;
    Ok(())
}

/// Plans how a node comes to lead nothing: it goes to the end of the replicas. Where its replicas are to go too, the
/// other node that stores least by then takes its place.
fn plan(topics: &[MetadataResponseTopic], node: i32, others: &[i32], replicas: bool) -> Vec<Move> {
    let mut load: BTreeMap<i32, usize> = others.iter().map(|other| (*other, 0)).collect();
    for replica in topics.iter().flat_map(|it| &it.partitions).flat_map(|it| &it.replica_nodes) {
        if let Some(count) = load.get_mut(replica) {
            *count += 1;
        }
    }
    let mut plan = Vec::new();
    for topic in topics {
        let Some(name) = &topic.name else { continue };
        for partition in &topic.partitions {
            let before = partition.replica_nodes.clone();
            if !before.contains(&node) {
                continue;
            }
            let mut after: Vec<i32> = before.iter().copied().filter(|it| *it != node).collect();
            let free = load.iter_mut().filter(|(other, _)| replicas && !before.contains(*other));
            match free.min_by_key(|(_, count)| **count) {
                Some((other, count)) => {
                    *count += 1;
                    after.push(*other);
                }
                None => after.push(node),
            }
            if after != before {
                let place = (name.clone(), PartitionIndex(partition.partition_index));
                plan.push(Move { place, before, after });
            }
        }
    }
    plan
}

fn show(plan: &[Move], common: &Common) -> Result<(), Stop> {
    let shown: Vec<Shown> = plan
        .iter()
        .map(|it| Shown {
            topic: it.place.0.to_string(),
            partition: it.place.1.0,
            before: it.before.clone(),
            after: it.after.clone(),
        })
        .collect();
    print(&shown, common.output, &["topic", "partition", "before", "after"], |it| {
        vec![it.topic.clone(), it.partition.to_string(), listed(&it.before), listed(&it.after)]
    })
}

fn show_moves(
    moves: &[mainspring_core::wire::api::list_partition_reassignments::OngoingTopicReassignment],
    common: &Common,
) -> Result<(), Stop> {
    #[derive(Serialize)]
    struct Ongoing {
        topic: String,
        partition: i32,
        replicas: Vec<i32>,
        adding: Vec<i32>,
        removing: Vec<i32>,
    }
    let ongoing: Vec<Ongoing> = moves
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|it| Ongoing {
                topic: topic.name.to_string(),
                partition: it.partition_index,
                replicas: it.replicas.clone(),
                adding: it.adding_replicas.clone(),
                removing: it.removing_replicas.clone(),
            })
        })
        .collect();
    let columns = ["topic", "partition", "replicas", "adding", "removing"];
    print(&ongoing, common.output, &columns, |it| {
        let lists = [&it.replicas, &it.adding, &it.removing].map(|nodes| listed(nodes));
        [it.topic.clone(), it.partition.to_string()].into_iter().chain(lists).collect()
    })
}

/// Returns the partitions that nothing was refused for, or the first refusal.
fn succeeded(to: &str, outcomes: Outcomes) -> Result<Vec<Place>, Failure> {
    outcomes
        .into_iter()
        .map(|((topic, partition), error)| match error {
            None => Ok((topic, partition)),
            Some(error) => Err(refused(format!("cannot {to} {topic}:{partition}"), &error, None)),
        })
        .collect()
}

fn listed(nodes: &[i32]) -> String {
    match nodes {
        [] => "-".to_owned(),
        nodes => nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn place(text: &str) -> Result<Place, Failure> {
    let wrong = |why: &str| Failure::usage(format!("cannot use {text}"), why, PARTITION);
    let (topic, partition) = text.rsplit_once(':').ok_or_else(|| wrong("it has no :"))?;
    let partition = partition.parse().ok().filter(|index| *index >= 0);
    let partition = partition.ok_or_else(|| wrong("what follows the : is no partition"))?;
    Ok((topic_name(topic)?, PartitionIndex(partition)))
}

fn node_list(text: &str) -> Result<Vec<i32>, Failure> {
    let nodes: Option<Vec<i32>> = text.split(',').map(|id| id.trim().parse().ok()).collect();
    nodes.ok_or_else(|| {
        Failure::usage(
            format!("cannot use --to {text}"),
            "it is no list of node ids",
            "write it as --to 2,3,1",
        )
    })
}

#[cfg(test)]
mod tests {
    use mainspring_core::wire::api::metadata::MetadataResponsePartition;

    use super::*;

    fn topic(partitions: &[&[i32]]) -> MetadataResponseTopic {
        let partitions = partitions.iter().zip(0..).map(|(replicas, partition_index)| {
            let replica_nodes = replicas.to_vec();
            MetadataResponsePartition { partition_index, replica_nodes, ..Default::default() }
        });
        MetadataResponseTopic {
            name: Some("t".into()),
            partitions: partitions.collect(),
            ..MetadataResponseTopic::default()
        }
    }

    fn planned(topic: MetadataResponseTopic, others: &[i32], replicas: bool) -> Vec<Vec<i32>> {
        plan(&[topic], 1, others, replicas).into_iter().map(|it| it.after).collect()
    }

    #[test]
    fn a_drained_node_is_the_last_that_would_lead() {
        let before = topic(&[&[1, 2, 3], &[2, 1, 3], &[2, 3, 1], &[2, 3]]);
        assert_eq!(planned(before, &[2, 3], false), [[2, 3, 1], [2, 3, 1]]);
    }

    #[test]
    fn its_replicas_go_to_those_that_store_least() {
        let before = topic(&[&[1, 2], &[1, 3], &[3, 1], &[4, 2]]);
        let after = planned(before, &[2, 3, 4], true);
        assert_eq!(after, [[2, 4], [3, 2], [3, 4]]);
        let nobody_left = topic(&[&[1, 2, 3]]);
        assert_eq!(planned(nobody_left, &[2, 3], true), [[2, 3, 1]]);
    }

    #[test]
    fn partitions_and_nodes_are_read_as_people_write_them() {
        let (topic, partition) = place("orders.eu:12").expect("it has both");
        assert_eq!((topic.as_str(), partition.0), ("orders.eu", 12));
        for wrong in ["orders", "orders:", "orders:-1", ":1", "a/b:1"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
        assert_eq!(node_list("2, 3,1").expect("a list"), [2, 3, 1]);
        assert!(node_list("2,x").is_err());
    }
}
