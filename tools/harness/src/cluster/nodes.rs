//! The nodes of a cluster as processes on this machine, and what they say of themselves.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mainspring_core::wire::api::describe_cluster::DescribeClusterRequest;
use mainspring_core::wire::api::metadata::MetadataResponse;

use crate::broker::{Broker, Serve, Starting, binary};
use crate::checks::{Outcome, ensure};
use crate::client::Client;

/// How long a node may take to answer a question about the cluster.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a start may take, elections included.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// First of the ports that are tried: below those that systems give to outgoing connections, so that none of
/// these takes the place of a node that is down.
const PORTS: u16 = 20_000;
const PORTS_COUNT: u16 = 12_000;

/// The nodes, numbered from 1 on.
pub(crate) struct Nodes {
    serves: Vec<Serve>,
    running: Vec<Option<Broker>>,
    /// Where clients reach them.
    pub(crate) addresses: Vec<String>,
}

/// What a node says of the cluster.
#[derive(Debug)]
pub(crate) struct View {
    /// The node that leads the metadata log, -1 where it knows none.
    pub(crate) controller: i32,
    /// Leader and in-sync replicas of each partition of the topic that was asked for.
    pub(crate) partitions: Vec<(i32, BTreeSet<i32>)>,
}

impl Nodes {
    /// Starts `count` nodes with directories in `folder`, and waits until all of them serve.
    pub(crate) fn start(folder: &Path, count: usize, settings: &[&str]) -> Outcome<Self> {
        let mut nodes = Self::prepare(folder, count, settings)?;
        nodes.start_missing()?;
        Ok(nodes)
    }

    /// Makes everything ready for `count` nodes, none of which runs.
    pub(crate) fn prepare(folder: &Path, count: usize, settings: &[&str]) -> Outcome<Self> {
        let ports = free_ports(2 * count)?;
        let (clients, peers) = ports.split_at(count);
        let voters: Vec<String> =
            peers.iter().zip(1..).map(|(port, id)| format!("{id}@127.0.0.1:{port}")).collect();
        let voters = voters.join(",");
        let addresses: Vec<String> =
            clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let serves: Vec<Serve> = addresses
            .iter()
            .zip(1..)
            .map(|(address, id)| {
                let mut serve = Serve::within(folder).set(settings);
                serve.data = folder.join(format!("node-{id}"));
                serve.log = folder.join(format!("log-{id}"));
                serve.listen.clone_from(address);
                let flags = ["--node-id".to_owned(), format!("{id}"), "--voters".to_owned()];
                serve.arguments.extend(flags);
                serve.arguments.push(voters.clone());
                serve
            })
            .collect();
        Ok(Self { running: serves.iter().map(|_| None).collect(), serves, addresses })
    }

    /// Has the nodes verify each other by a secret from their next start on.
    pub(crate) fn secure(&mut self, folder: &Path) -> Outcome {
        let secret = folder.join("cluster.secret");
        let made =
            Command::new(binary()).args(["cluster", "secret", "--out"]).arg(&secret).output();
        let made = made.map_err(|error| format!("mainspring cluster secret: {error}"))?;
        ensure(made.status.success(), || String::from_utf8_lossy(&made.stderr).into_owned())?;
        for serve in &mut self.serves {
            let flag = ["--cluster-secret".to_owned(), secret.display().to_string()];
            serve.arguments.extend(flag);
        }
        Ok(())
    }

    /// Starts the first node as one that knows of no other.
    pub(crate) fn start_alone(&mut self) -> Outcome {
        let arguments = self.serves[0].arguments.clone();
        let voters = arguments.iter().position(|it| it == "--voters").unwrap_or(arguments.len());
        self.serves[0].arguments.drain(voters..voters + 2);
        let broker = self.serves[0].launch()?.ready(READY_LIMIT);
        self.serves[0].arguments = arguments;
        self.running[0] = Some(broker?);
        Ok(())
    }

    /// Empties the data directory of a node that does not run.
    pub(crate) fn lose_disk(&self, id: i32) -> Outcome {
        let data = &self.serves[id as usize - 1].data;
        std::fs::remove_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))
    }

    /// Starts the nodes that do not run, all at the same time, and waits until they serve.
    pub(crate) fn start_missing(&mut self) -> Outcome<Duration> {
        let began = Instant::now();
        let starting: Vec<(usize, Starting)> = (0..self.serves.len())
            .filter(|&at| self.running[at].is_none())
            .map(|at| Ok((at, self.serves[at].launch()?)))
            .collect::<Outcome<_>>()?;
        for (at, starting) in starting {
            let broker = starting.ready(READY_LIMIT);
            self.running[at] =
                Some(broker.map_err(|problem| format!("node {}: {problem}", at + 1))?);
        }
        Ok(began.elapsed())
    }

    fn node(&self, id: i32) -> Outcome<&Broker> {
        let at = usize::try_from(id - 1).ok();
        let node = at.and_then(|at| self.running.get(at)).and_then(Option::as_ref);
        node.ok_or_else(|| format!("node {id} does not run"))
    }

    fn take(&mut self, id: i32) -> Outcome<Broker> {
        self.node(id)?;
        Ok(self.running[id as usize - 1].take().expect("it was just seen"))
    }

    /// Ends a node as `kill -9` does.
    pub(crate) fn kill(&mut self, id: i32) -> Outcome {
        self.take(id).map(Broker::kill)
    }

    /// Asks a node to stop, and waits for it.
    pub(crate) fn stop(&mut self, id: i32) -> Outcome<Duration> {
        let (status, took) = self.take(id)?.stop(Duration::from_secs(10))?;
        ensure(status.success(), || format!("node {id} ended with {status}"))?;
        Ok(took)
    }

    /// Holds a node still.
    pub(crate) fn pause(&self, id: i32) -> Outcome {
        self.node(id).map(Broker::pause)
    }

    /// Lets a node go on.
    pub(crate) fn resume(&self, id: i32) -> Outcome {
        self.node(id).map(Broker::resume)
    }

    /// Returns the numbers of all nodes.
    pub(crate) fn ids(&self) -> impl Iterator<Item = i32> + use<> {
        1..=self.serves.len() as i32
    }

    /// Asks any node of the cluster for what it knows.
    pub(crate) fn view(&self, topic: &str) -> Outcome<View> {
        view_of(&metadata(&self.addresses, topic)?, topic)
    }

    /// Waits until every node says the same: a controller, and all replicas of the topic in sync.
    pub(crate) fn wait_until_whole(&self, topic: &str, limit: Duration) -> Outcome<Duration> {
        let began = Instant::now();
        let all: BTreeSet<i32> = self.ids().collect();
        let mut last = String::new();
        while began.elapsed() < limit {
            let whole = self.addresses.iter().all(|address| {
                let view = ask(address, topic).and_then(|answer| view_of(&answer, topic));
                last = format!("{address} says {view:?}");
                view.is_ok_and(|view| {
                    let in_sync = |(leader, set): &(i32, BTreeSet<i32>)| *leader > 0 && *set == all;
                    view.controller > 0 && view.partitions.iter().all(in_sync)
                })
            });
            if whole {
                return Ok(began.elapsed());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("not whole again after {limit:?}: {last}"))
    }

    /// Returns the end of what each node wrote to standard error.
    pub(crate) fn said(&self) -> String {
        let said = |node: &Option<Broker>| node.as_ref().map_or_else(String::new, Broker::said);
        let nodes = self.running.iter().zip(1..);
        let lines: Vec<String> =
            nodes.map(|(node, id)| format!("\nnode {id}: {}", said(node))).collect();
        lines.concat()
    }
}

/// Returns the address of a partition's leader, by asking the nodes in turn.
pub(crate) fn leader(addresses: &[String], topic: &str, partition: i32) -> Outcome<String> {
    let answer = metadata(addresses, topic)?;
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let node = partitions
        .filter(|found| found.partition_index == partition)
        .map(|found| found.leader_id)
        .find(|leader| *leader >= 0)
        .ok_or_else(|| format!("{topic}-{partition} has no leader"))?;
    let broker = answer.brokers.iter().find(|broker| broker.node_id == node);
    let broker = broker.ok_or_else(|| format!("nobody knows where node {node} is"))?;
    Ok(format!("{}:{}", broker.host, broker.port))
}

/// Asks the nodes in turn, another one first each time, until one answers.
fn metadata(addresses: &[String], topic: &str) -> Outcome<MetadataResponse> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut problem = String::new();
    for nth in 0..addresses.len() {
        match ask(&addresses[(first + nth) % addresses.len()], topic) {
            Ok(answer) => return Ok(answer),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn ask(address: &str, topic: &str) -> Outcome<MetadataResponse> {
    let mut client = Client::connect_for(address, PATIENCE)?;
    let mut answer = client.metadata(Some(&[topic]))?;
    // Clients are told of a node that passes on, where they could not reach the controller.
    let all = DescribeClusterRequest { include_fenced_brokers: true, ..Default::default() };
    answer.controller_id = client.call(&all, 2)?.controller_id;
    Ok(answer)
}

fn view_of(answer: &MetadataResponse, topic: &str) -> Outcome<View> {
    let found = answer.topics.first().filter(|found| found.error_code == 0);
    let found = found.ok_or_else(|| format!("no topic {topic}: {:?}", answer.topics.first()))?;
    let partitions = found.partitions.iter();
    Ok(View {
        controller: answer.controller_id,
        partitions: partitions
            .map(|found| (found.leader_id, found.isr_nodes.iter().copied().collect()))
            .collect(),
    })
}

fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let start = std::process::id() as usize * 16;
    let mut ports = Vec::new();
    for _ in 0..PORTS_COUNT {
        let nth = start + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS + (nth % usize::from(PORTS_COUNT)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
        if ports.len() == count {
            return Ok(ports);
        }
    }
    Err("there are no free ports".to_owned())
}
