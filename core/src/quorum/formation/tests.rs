//! A few nodes that become a cluster while they crash, lose disks and cannot always hear each other.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;

const NODES: usize = 3;

/// A node: what its directory holds, and its process.
struct Node {
    directory: Uuid,
    formed: Option<Arc<Cluster>>,
    machine: Option<Formation<usize>>,
    /// What is on its way to the disk.
    writing: Option<Arc<Cluster>>,
    life: u32,
}

#[derive(Clone, Debug)]
enum Message {
    Told(Option<Arc<Cluster>>),
    Answer(Result<Option<Arc<Cluster>>, String>),
}

struct World {
    rng: ChaCha8Rng,
    nodes: Vec<Node>,
    /// Links that stand, from and to, with the lives of both ends.
    links: BTreeMap<(usize, usize), (u32, u32)>,
    /// What travels: from, to, the lives of both.
    flights: Vec<(usize, usize, u32, u32, Message)>,
    /// Every cluster that anybody ever was told of.
    told: BTreeSet<Uuid>,
    /// The voters whose disks were lost since.
    wiped: BTreeSet<usize>,
}

fn id(index: usize) -> NodeId {
    NodeId(index as i32 + 1)
}

fn at(node: NodeId) -> usize {
    (node.0 - 1) as usize
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            flights: Vec::new(),
            told: BTreeSet::new(),
            wiped: BTreeSet::new(),
        };
        for _ in 0..NODES {
            let directory = world.uuid();
            let node = Node { directory, formed: None, machine: None, writing: None, life: 0 };
            world.nodes.push(node);
        }
        world
    }

    fn uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        Uuid(bytes)
    }

    fn below(&mut self, bound: u64) -> usize {
        (self.rng.next_u64() % bound) as usize
    }

    fn start(&mut self, index: usize) {
        let cluster_id = self.uuid();
        let node = &mut self.nodes[index];
        let config = FormationConfig {
            me: ReplicaKey { node: id(index), directory: node.directory },
            listed: (0..NODES).map(|index| (id(index), ("host".into(), 9))).collect(),
            cluster_id,
        };
        node.machine = Some(Formation::new(config, node.formed.clone()));
    }

    fn crash(&mut self, index: usize, wipe: bool) {
        let directory = self.uuid();
        let node = &mut self.nodes[index];
        // What is on its way may have arrived.
        let written = self.rng.next_u64().is_multiple_of(2);
        if let Some(cluster) = node.writing.take().filter(|_| written) {
            node.formed = Some(cluster);
        }
        node.machine = None;
        node.life += 1;
        if wipe {
            (node.formed, node.directory) = (None, directory);
            self.wiped.insert(index);
        }
        self.links.retain(|&(from, to), _| from != index && to != index);
    }

    /// Makes a link, by which the one who made it learns who the other is.
    fn greet(&mut self, from: usize, to: usize) {
        let Some(other) = &self.nodes[to].machine else { return };
        let hello = Hello {
            replica: other.config.me,
            cluster_id: other.said().map_or_else(Uuid::default, |cluster| cluster.id),
            listed: (0..NODES).map(id).collect(),
        };
        let lives = (self.nodes[from].life, self.nodes[to].life);
        let ours = self.nodes[from].machine.as_ref().map(|it| it.said().map(|it| it.id));
        let Some(ours) = ours else { return };
        if ours.is_some_and(|ours| !hello.cluster_id.is_zero() && hello.cluster_id != ours) {
            return;
        }
        self.links.insert((from, to), lives);
        let links = &self.links;
        if let Some(machine) = &mut self.nodes[from].machine {
            machine.on_hello(hello, |node| links.contains_key(&(from, at(node))));
        }
        self.settle(from);
    }

    fn settle(&mut self, index: usize) {
        let life = self.nodes[index].life;
        while let Some(action) = self.nodes[index].machine.as_mut().and_then(Formation::poll_action)
        {
            match action {
                Action::Persist(cluster) => {
                    assert!(self.nodes[index].formed.is_none(), "it belongs to one cluster");
                    self.nodes[index].writing = Some(cluster);
                }
                Action::Tell { node, cluster } => {
                    let to = at(node);
                    if let Some(cluster) = &cluster {
                        assert_eq!(self.nodes[index].formed.as_ref(), Some(cluster), "durable");
                        self.told.insert(cluster.id);
                    }
                    let message = Message::Told(cluster);
                    self.flights.push((index, to, life, self.nodes[to].life, message));
                }
                Action::Answer { caller, answer } => {
                    let message = Message::Answer(answer);
                    self.flights.push((index, caller, life, self.nodes[caller].life, message));
                }
                Action::Formed(cluster) => {
                    assert_eq!(self.nodes[index].formed.as_ref(), Some(&cluster));
                    // Everybody is told anew who this is.
                    self.links.retain(|&(from, _), _| from != index);
                }
                Action::Warn(why) => panic!("{why}"),
            }
        }
    }

    fn deliver(&mut self, place: usize) {
        let (from, to, sent, meant, message) = self.flights.swap_remove(place);
        if self.nodes[from].life != sent || self.nodes[to].life != meant {
            return;
        }
        let Some(machine) = &mut self.nodes[to].machine else { return };
        match message {
            Message::Told(cluster) => machine.on_form(from, cluster),
            Message::Answer(answer) => machine.on_answer(id(from), answer),
        }
        self.settle(to);
    }

    fn write(&mut self, index: usize) {
        let Some(cluster) = self.nodes[index].writing.take() else { return };
        self.nodes[index].formed = Some(cluster);
        if let Some(machine) = &mut self.nodes[index].machine {
            machine.persisted();
        }
        self.settle(index);
    }

    fn step(&mut self, faults: bool) {
        let index = self.below(NODES as u64);
        match self.below(if faults { 100 } else { 60 }) {
            0..10 if self.nodes[index].machine.is_none() => self.start(index),
            0..20 => self.write(index),
            20..40 if !self.flights.is_empty() => {
                let place = self.below(self.flights.len() as u64);
                self.deliver(place);
            }
            40..60 => {
                let to = self.below(NODES as u64);
                if to != index && !self.links.contains_key(&(index, to)) {
                    self.greet(index, to);
                }
            }
            60..70 if !self.flights.is_empty() => {
                // A link breaks, and what travelled on it is lost.
                let place = self.below(self.flights.len() as u64);
                let (from, to, ..) = self.flights[place];
                let on_link = |a: usize, b: usize| (a, b) == (from, to) || (b, a) == (from, to);
                self.links.retain(|&(a, b), _| !on_link(a, b));
                self.flights.retain(|&(a, b, ..)| !on_link(a, b));
            }
            70..74 => self.crash(index, false),
            // Never more than a minority of the voters loses its disk.
            74 if self.wiped.is_empty() => self.crash(index, true),
            _ => {}
        }
        let clusters: BTreeSet<Uuid> =
            self.nodes.iter().filter_map(|node| node.formed.as_ref()).map(|it| it.id).collect();
        assert!(clusters.len() <= 1, "nodes that talk belong to {clusters:?}");
    }
}

#[test]
fn nodes_become_one_cluster_whatever_strikes_them() {
    let (mut wiped, mut observers) = (0, 0);
    for seed in 0..3_000 {
        let mut world = World::new(seed);
        let faulty = world.below(600);
        for _ in 0..faulty {
            world.step(true);
        }
        // One that lost its disk may keep the link of another that does not know that it is there anew.
        world.links.clear();
        for _ in 0..4_000 {
            world.step(false);
        }
        let formed = world.nodes.iter().map(|node| node.formed.as_ref().expect("formed"));
        let voters: Vec<&Vec<Voter>> = formed.map(|cluster| &cluster.voters).collect();
        assert!(voters.iter().all(|it| *it == voters[0]), "seed {seed}");
        let votes = |node: &Node| voters[0].iter().any(|it| it.directory_id == node.directory);
        let voting = world.nodes.iter().filter(|node| votes(node)).count();
        assert!(voting > NODES / 2, "seed {seed}: {voting} can vote");
        wiped += world.wiped.len();
        observers += NODES - voting;
    }
    assert!(wiped > 500 && observers > 100, "{wiped} lost their disks, {observers} only observe");
}

fn listed(nodes: &[i32]) -> BTreeMap<NodeId, (Arc<str>, u16)> {
    nodes.iter().map(|&node| (NodeId(node), ("host".into(), 9))).collect()
}

fn machine(node: i32, nodes: &[i32]) -> Formation<u8> {
    let me = key(node);
    Formation::new(FormationConfig { me, listed: listed(nodes), cluster_id: CLUSTER }, None)
}

const CLUSTER: Uuid = Uuid([9; 16]);

fn key(node: i32) -> ReplicaKey {
    ReplicaKey { node: NodeId(node), directory: Uuid([node as u8; 16]) }
}

fn hello(node: i32, cluster_id: Uuid, listed: &[i32]) -> Hello {
    let listed = listed.iter().copied().map(NodeId).collect();
    Hello { replica: key(node), cluster_id, listed }
}

fn cluster(id: Uuid, nodes: &[i32]) -> Arc<Cluster> {
    let voter = |&node: &i32| Voter {
        node_id: NodeId(node),
        directory_id: key(node).directory,
        host: "host".into(),
        port: 9,
    };
    Arc::new(Cluster { id, voters: nodes.iter().map(voter).collect() })
}

fn actions(machine: &mut Formation<u8>) -> Vec<Action<u8>> {
    std::iter::from_fn(|| machine.poll_action()).collect()
}

#[test]
fn the_lowest_listed_node_founds_once_it_has_heard_all_and_tells_once_that_is_durable() {
    let mut founder = machine(1, &[1, 2, 3]);
    founder.on_hello(hello(2, Uuid::default(), &[1, 2, 3]), |_| true);
    assert_eq!(actions(&mut founder), []);
    founder.on_hello(hello(3, Uuid::default(), &[1, 2, 3]), |_| true);
    let founded = cluster(CLUSTER, &[1, 2, 3]);
    assert_eq!(actions(&mut founder), [Action::Persist(Arc::clone(&founded))]);
    founder.on_hello(hello(2, Uuid::default(), &[1, 2, 3]), |_| true);
    assert_eq!(actions(&mut founder), [], "nothing is told before it is durable");
    founder.persisted();
    assert_eq!(actions(&mut founder), [Action::Formed(Arc::clone(&founded))]);
    founder.on_hello(hello(2, Uuid::default(), &[1, 2, 3]), |_| true);
    let tell = Action::Tell { node: NodeId(2), cluster: Some(founded) };
    assert_eq!(actions(&mut founder), [tell]);
}

#[test]
fn what_a_lost_link_has_told_does_not_count() {
    let mut founder = machine(1, &[1, 2, 3]);
    founder.on_hello(hello(2, Uuid::default(), &[1, 2, 3]), |_| true);
    founder.on_hello(hello(3, Uuid::default(), &[1, 2, 3]), |node| node != NodeId(2));
    assert_eq!(actions(&mut founder), []);
}

#[test]
fn nobody_else_founds() {
    for node in [2, 3, 4] {
        let mut other = machine(node, &[1, 2, 3]);
        for from in [1, 2, 3] {
            other.on_hello(hello(from, Uuid::default(), &[1, 2, 3]), |_| true);
        }
        assert_eq!(actions(&mut other), []);
    }
}

#[test]
fn nodes_that_were_told_of_others_form_nothing_and_say_so_once() {
    let mut founder = machine(1, &[1, 2]);
    for _ in 0..2 {
        founder.on_hello(hello(2, Uuid::default(), &[2, 3]), |_| true);
    }
    let why = "node 2 was started with the voters 2, 3, this node with 1, 2; no cluster is formed \
               before all of them name the same";
    assert_eq!(actions(&mut founder), [Action::Warn(why.to_owned())]);
}

#[test]
fn where_a_listed_node_has_a_cluster_it_is_asked_for_it_and_none_is_founded() {
    let mut founder = machine(1, &[1, 2, 3]);
    let other = cluster(Uuid([5; 16]), &[2, 3]);
    founder.on_hello(hello(2, other.id, &[]), |_| true);
    founder.on_hello(hello(3, Uuid::default(), &[1, 2, 3]), |_| true);
    assert_eq!(actions(&mut founder), [Action::Tell { node: NodeId(2), cluster: None }]);
    founder.on_answer(NodeId(2), Ok(Some(Arc::clone(&other))));
    assert_eq!(actions(&mut founder), [Action::Persist(other)]);
}

#[test]
fn who_tells_of_a_cluster_is_answered_once_it_is_durable() {
    let mut node = machine(2, &[1, 2, 3]);
    let founded = cluster(CLUSTER, &[1, 2, 3]);
    node.on_form(1, Some(Arc::clone(&founded)));
    node.on_form(2, Some(Arc::clone(&founded)));
    node.on_form(3, Some(cluster(Uuid([5; 16]), &[2])));
    let refused = Err(format!("it belongs to cluster {CLUSTER}"));
    assert_eq!(
        actions(&mut node),
        [
            Action::Persist(Arc::clone(&founded)),
            Action::Answer { caller: 3, answer: refused.clone() }
        ]
    );
    node.persisted();
    let taken = || Ok(Some(Arc::clone(&founded)));
    assert_eq!(
        actions(&mut node),
        [
            Action::Answer { caller: 1, answer: taken() },
            Action::Answer { caller: 2, answer: taken() },
            Action::Formed(Arc::clone(&founded))
        ]
    );
    node.on_form(4, Some(Arc::clone(&founded)));
    node.on_form(5, None);
    node.on_form(6, Some(cluster(Uuid([5; 16]), &[2])));
    assert_eq!(
        actions(&mut node),
        [
            Action::Answer { caller: 4, answer: taken() },
            Action::Answer { caller: 5, answer: taken() },
            Action::Answer { caller: 6, answer: refused }
        ]
    );
}

#[test]
fn what_makes_no_sense_is_not_taken() {
    let sound = cluster(CLUSTER, &[1, 2]);
    assert!(sound.is_sound());
    let broken = |change: fn(&mut Cluster)| {
        let mut cluster = Cluster::clone(&sound);
        change(&mut cluster);
        Arc::new(cluster)
    };
    let changes: [fn(&mut Cluster); 6] = [
        |it| it.id = Uuid::default(),
        |it| it.voters.clear(),
        |it| it.voters.reverse(),
        |it| it.voters[1].node_id = NodeId(1),
        |it| it.voters[0].directory_id = Uuid::default(),
        |it| it.voters[0].host = "a b".into(),
    ];
    for change in changes {
        let mut node = machine(2, &[1, 2]);
        node.on_form(1, Some(broken(change)));
        node.on_answer(NodeId(1), Ok(Some(broken(change))));
        let why = "what it is told of a cluster makes no sense".to_owned();
        assert_eq!(actions(&mut node), [Action::Answer { caller: 1, answer: Err(why) }]);
    }
}
