//! Votes that move: a node whose disk is lost votes again once it has caught up, and one node grows to three.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use mainspring_core::ids::Uuid;
use mainspring_core::wire::api::describe_quorum::{
    DescribeQuorumPartition, DescribeQuorumRequest, DescribeQuorumTopic,
};

use super::nodes::{Nodes, leader};
use super::{NODES, TOPIC, WHOLE_MAX};
use crate::broker::Folder;
use crate::checks::{Outcome, ensure};
use crate::client::{Client, batch};

const RECORDS: i64 = 200;
const LIMIT: Duration = Duration::from_secs(20);

/// Two of three nodes lose their disks, one after the other; the third one is killed then.
pub(super) fn lost_disks() -> Outcome<String> {
    let folder = Folder::new();
    let mut nodes = Nodes::start(folder.path(), NODES, &[])?;
    Client::connect(&nodes.addresses[0])?.create_replicated(TOPIC, 1, NODES as i16, &[])?;
    nodes.wait_until_whole(TOPIC, WHOLE_MAX)?;
    write(&nodes)?;
    let mut took = Vec::new();
    for node in [3, 1] {
        let before = voters(&nodes)?;
        nodes.kill(node)?;
        nodes.lose_disk(node)?;
        nodes.start_missing()?;
        let began = Instant::now();
        wait_for_votes(&nodes, |now| now.len() == NODES && now.get(&node) != before.get(&node))?;
        took.push(began.elapsed().as_millis());
        nodes.wait_until_whole(TOPIC, WHOLE_MAX)?;
    }
    // What is left of the disks that the cluster was formed with goes.
    nodes.kill(2)?;
    let began = Instant::now();
    while there(&nodes) != Ok(RECORDS) {
        ensure(began.elapsed() < LIMIT, || format!("without node 2: {:?}", there(&nodes)))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(format!("they voted again after {took:?} ms"))
}

/// A node that was alone is joined by two others, and is killed then.
pub(super) fn growth() -> Outcome<String> {
    let folder = Folder::new();
    let mut nodes = Nodes::prepare(folder.path(), NODES, &[])?;
    nodes.start_alone()?;
    Client::connect(&nodes.addresses[0])?.create_replicated(TOPIC, 1, 1, &[])?;
    write(&nodes)?;
    nodes.stop(1)?;
    nodes.start_missing()?;
    wait_for_votes(&nodes, |now| now.len() == NODES)?;
    nodes.kill(1)?;
    let began = Instant::now();
    while !nodes.view(TOPIC).is_ok_and(|view| view.controller > 1) {
        ensure(began.elapsed() < LIMIT, || format!("without node 1: {:?}", nodes.view(TOPIC)))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    nodes.start_missing()?;
    let began = Instant::now();
    while there(&nodes) != Ok(RECORDS) {
        ensure(began.elapsed() < LIMIT, || format!("with all nodes: {:?}", there(&nodes)))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok("two that joined elect a controller without the first".to_owned())
}

fn write(nodes: &Nodes) -> Outcome {
    let mut client = Client::connect(&leader(&nodes.addresses, TOPIC, 0)?)?;
    for nth in 0..RECORDS {
        let records = batch(&[Bytes::from(format!("record {nth}"))], None);
        let answer = client.produce(TOPIC, 0, records)?;
        ensure(answer.error_code == 0, || format!("record {nth}: error {}", answer.error_code))?;
    }
    Ok(())
}

/// Returns how many records there are, each with what was written.
fn there(nodes: &Nodes) -> Outcome<i64> {
    let mut client = Client::connect(&leader(&nodes.addresses, TOPIC, 0)?)?;
    Ok(client.read(TOPIC, 0, 0)?.next)
}

/// Returns which directory of each node votes, as the controller says.
fn voters(nodes: &Nodes) -> Outcome<BTreeMap<i32, Uuid>> {
    let partitions = vec![DescribeQuorumPartition { partition_index: 0 }];
    let topic = DescribeQuorumTopic { topic_name: "__cluster_metadata".into(), partitions };
    let request = DescribeQuorumRequest { topics: vec![topic] };
    let mut problem = "nobody answers".to_owned();
    for address in &nodes.addresses {
        let answer = Client::connect_for(address, Duration::from_secs(2))
            .and_then(|mut client| client.call(&request, 2));
        match answer {
            Ok(answer) if answer.error_code == 0 => {
                let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
                let voters = partition.map(|it| &it.current_voters).into_iter().flatten();
                return Ok(voters.map(|it| (it.replica_id, it.replica_directory_id)).collect());
            }
            Ok(answer) => problem = format!("error {}", answer.error_code),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn wait_for_votes(nodes: &Nodes, are_right: impl Fn(&BTreeMap<i32, Uuid>) -> bool) -> Outcome {
    let began = Instant::now();
    loop {
        let now = voters(nodes);
        if now.as_ref().is_ok_and(&are_right) {
            return Ok(());
        }
        ensure(began.elapsed() < LIMIT, || format!("the voters are {now:?}{}", nodes.said()))?;
        std::thread::sleep(Duration::from_millis(50));
    }
}
