//! Nodes that connect to each other.

use std::collections::BTreeSet;

use mainspring_core::ids::{LeaderEpoch, NodeId, Offset, TopicPartition};
use mainspring_core::io::Event as Observed;
use mainspring_core::observe::ClusterEvent;

use super::*;

/// A machine that tells its peers whom it has heard of, and clients, too.
struct Gossip {
    me: usize,
    nodes: usize,
    effects: VecDeque<Effect>,
    dialled: u64,
    /// Connections that it has asked for, and those of them that are there.
    links: BTreeMap<ConnectionId, (usize, bool)>,
    heard: BTreeSet<u8>,
    timer: Option<Instant>,
    /// Whether it says that it leads the metadata log in epoch 1.
    claims: bool,
}

impl Gossip {
    fn new(me: usize, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            effects: VecDeque::new(),
            dialled: 0,
            links: BTreeMap::new(),
            heard: [me as u8].into(),
            timer: None,
            claims: false,
        }
    }

    fn dial(&mut self, to: usize) {
        self.dialled += 1;
        let connection = ConnectionId::outgoing(self.dialled);
        self.links.insert(connection, (to, false));
        let node = NodeId(to as i32 + 1);
        self.effects.push_back(Effect::Connect { connection, node, host: "peer".into(), port: 1 });
    }

    fn tell(&mut self, connection: ConnectionId) {
        let heard: Vec<u8> = self.heard.iter().copied().collect();
        self.effects.push_back(Effect::Transmit { connection, parts: vec![heard.into()] });
    }
}

impl Machine for Gossip {
    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Start => {
                self.effects.push_back(Effect::Ready);
                if self.claims {
                    let claim = ClusterEvent::Led {
                        partition: TopicPartition::CLUSTER_METADATA,
                        leader_epoch: LeaderEpoch(1),
                        end: Offset(0),
                    };
                    self.effects.push_back(Effect::Observe(Observed::Cluster(claim)));
                }
                let me = self.me;
                (0..self.nodes).filter(|node| *node != me).for_each(|node| self.dial(node));
                self.timer = Some(now.mono + std::time::Duration::from_millis(40));
            }
            // Whoever it was that called, it is told.
            Input::Connected { connection, .. } => self.tell(connection),
            Input::Received(_, bytes) => self.heard.extend(bytes.iter()),
            Input::Opened(connection) => {
                let link = self.links.get_mut(&connection).expect("it was asked for");
                assert!(!std::mem::replace(&mut link.1, true), "once");
            }
            Input::Disconnected(connection) => {
                if let Some((to, _)) = self.links.remove(&connection) {
                    self.dial(to);
                }
            }
            Input::Wakeup => {
                let open = self.links.iter().filter(|(_, (_, is_open))| *is_open);
                let open: Vec<ConnectionId> = open.map(|(connection, _)| *connection).collect();
                for connection in open {
                    self.tell(connection);
                }
                self.timer = Some(now.mono + std::time::Duration::from_millis(40));
            }
            _ => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.timer
    }

    fn digest(&self) -> u64 {
        self.heard.len() as u64
    }
}

/// A client that asks its node again and again until that has heard of all.
struct Listener {
    nodes: usize,
    heard: BTreeSet<u8>,
}

impl Actor for Listener {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        match event {
            ActorEvent::Wake => {
                hands.connect(hands.home);
            }
            ActorEvent::Received(stream, bytes) => {
                self.heard.extend(bytes.iter());
                hands.close(stream);
            }
            ActorEvent::Disconnected(_) => hands.wake_at(hands.now + 50 * MILLISECOND),
            ActorEvent::Connected(_) | ActorEvent::Finish => {}
        }
    }

    fn pending(&self) -> Option<String> {
        (self.heard.len() < self.nodes).then(|| format!("only {:?} are known", self.heard))
    }
}

fn gossip(seed: u64, nodes: usize, faults: Vec<(u64, Fault)>) -> Outcome {
    let options = WorldOptions {
        nodes,
        shards: 1,
        faults,
        heal_at: 3 * SECOND,
        homes: (0..nodes).collect(),
        ..quiet(seed)
    };
    gossip_with(options)
}

fn gossip_with(options: WorldOptions) -> Outcome {
    let nodes = options.nodes;
    let actors = (0..nodes)
        .map(|_| Box::new(Listener { nodes, heard: [].into() }) as Box<dyn Actor>)
        .collect();
    let factory: Factory<Gossip> = Box::new(move |birth| Gossip::new(birth.node, nodes));
    World::new(options, factory, actors, checkers::all()).run()
}

fn cut(from: usize, to: usize, time: u64) -> Fault {
    let (from, to) = (Address::Node(from), Address::Node(to));
    Fault::Link { from, to, trouble: crate::net::LinkTrouble::Cut, time }
}

#[test]
fn nodes_reach_each_other_and_clients_their_own() {
    for nodes in [3, 5] {
        let outcome = gossip(1, nodes, vec![]);
        assert_eq!(outcome.alarm, None);
        assert!(outcome.time < SECOND * 4, "{}", outcome.time);
    }
}

#[test]
fn a_node_that_is_cut_off_from_one_hears_of_it_by_way_of_others() {
    // Nothing passes between nodes 0 and 1 in either direction, for as long as the run lasts.
    let faults = [(0, 1), (1, 0)].map(|(from, to)| (1, cut(from, to, 1_000 * SECOND)));
    let outcome = gossip(2, 3, faults.into());
    assert_eq!(outcome.alarm, None);
    assert_eq!(outcome.faults.of("link-cut"), 2);
}

#[test]
fn nodes_that_are_all_cut_off_find_each_other_once_that_is_over() {
    let among = |nodes: usize| (0..nodes).flat_map(move |a| (0..nodes).map(move |b| (a, b)));
    let faults = among(3).filter(|(a, b)| a != b).map(|(a, b)| (1, cut(a, b, 2 * SECOND)));
    let outcome = gossip(4, 3, faults.collect());
    assert_eq!(outcome.alarm, None);
    assert!(outcome.time > 2 * SECOND, "{}", outcome.time);
}

#[test]
fn a_node_is_told_that_nobody_answers_where_a_way_is_cut_and_that_it_is_refused_where_nobody_listens()
 {
    let silent = vec![(1, cut(0, 1, 1_000 * SECOND)), (1, cut(1, 0, 1_000 * SECOND))];
    let down = Fault::Kill { node: 1, effects: 0, down: 1_000 * SECOND };
    // So many attempts of node 0 at node 1 fail within three seconds.
    let attempts = |faults| {
        let options = WorldOptions {
            nodes: 2,
            faults,
            heal_at: 3 * SECOND,
            grace: 1,
            homes: vec![0, 1],
            story: true,
            ..quiet(3)
        };
        let story = gossip_with(options).story.expect("it was asked for");
        let fails = |what: &What| matches!(what, What::Unlinked { node: 0, to: 1, .. });
        story.moments.iter().filter(|moment| fails(&moment.what)).count()
    };
    let (unanswered, refused) = (attempts(silent), attempts(vec![(1, down)]));
    assert!((2..=3).contains(&unanswered), "one each second: {unanswered}");
    assert!(refused > 100, "at once: {refused}");
}

fn part(nodes: &[usize], bridge: Option<usize>, time: u64) -> Fault {
    Fault::Part { nodes: nodes.to_vec(), bridge, one_way: false, time }
}

#[test]
fn two_sides_hear_of_each_other_by_way_of_a_bridge_alone() {
    let time = |bridge| {
        let outcome = gossip(5, 5, vec![(1, part(&[0, 1], bridge, 1_000 * SECOND))]);
        assert_eq!(outcome.alarm, None);
        assert_eq!(outcome.faults.of(if bridge.is_some() { "bridge" } else { "part" }), 1);
        outcome.time
    };
    assert!(time(Some(4)) <= 3 * SECOND, "they know each other before all is healed");
    assert!(time(None) > 3 * SECOND, "they hear of each other once all is healed");
}

#[test]
fn whoever_dies_together_comes_back_one_by_one() {
    for power in [false, true] {
        let fault =
            Fault::Together { nodes: vec![2, 0, 1], power, effects: 0, down: 100 * MILLISECOND };
        let outcome = gossip(6, 3, vec![(500 * MILLISECOND, fault)]);
        assert_eq!(outcome.alarm, None);
        let (one, all) =
            if power { ("power-cut", "power-cut-together") } else { ("kill", "kill-together") };
        assert_eq!((outcome.faults.of(one), outcome.faults.of(all)), (3, 1));
        assert!(outcome.counts["starts"] >= 6);
    }
}

#[test]
fn a_cluster_that_is_healed_does_without_the_nodes_that_it_has_lost() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed, Stream::Faults);
        let (lost, permanent) = crate::swarm::minority(&mut rng, 5, 2);
        let well: Vec<usize> = (0..5).filter(|node| !lost.contains(node)).collect();
        let options = WorldOptions {
            nodes: 5,
            heal_at: 3 * SECOND,
            grace: 100 * SECOND,
            homes: well.clone(),
            cluster: Some(ClusterOptions { min_in_sync: 1, lost, linger: 20 * SECOND }),
            permanent,
            story: true,
            ..quiet(seed)
        };
        let listener = || Box::new(Listener { nodes: 5, heard: [].into() }) as Box<dyn Actor>;
        let actors = well.iter().map(|_| listener()).collect();
        let factory: Factory<Gossip> = Box::new(move |birth| Gossip::new(birth.node, 5));
        let outcome = World::new(options, factory, actors, checkers::all()).run();
        assert_eq!(outcome.alarm, None, "seed {seed}");
        assert!(outcome.time >= 23 * SECOND, "it goes on for as long as it should");
        let told =
            outcome.story.expect("it was asked for").moments.into_iter().any(
                |moment| matches!(moment.what, What::Fact(Fact::Core { nodes }) if nodes == well),
            );
        assert!(told, "the checkers know who is well");
    }
}

#[test]
fn what_nodes_report_of_themselves_reaches_the_checkers() {
    let run = |claimants: usize| {
        let cluster = Some(ClusterOptions { min_in_sync: 1, lost: vec![], linger: 0 });
        let options = WorldOptions { nodes: 3, homes: vec![0], cluster, ..quiet(1) };
        let factory: Factory<Gossip> = Box::new(move |birth| Gossip {
            claims: birth.node < claimants,
            ..Gossip::new(birth.node, 3)
        });
        let listener: Box<dyn Actor> = Box::new(Listener { nodes: 3, heard: [].into() });
        World::new(options, factory, vec![listener], checkers::cluster::all()).run()
    };
    let one = run(1);
    assert_eq!(one.alarm, None);
    assert!(one.evaluations["I12"] > 0);
    let two = run(2).alarm.expect("an alarm");
    assert_eq!(two.checker, "I09");
    assert!(two.message.contains("both lead epoch 1"), "{two}");
}

#[test]
fn whatever_strikes_among_nodes_ends_in_everybody_knowing_everybody() {
    use crate::swarm::{self, Among, Kind, Scope};
    let kinds = Among::ALL.map(Kind::Among);
    let mut counts = FaultCounts::default();
    for seed in 0..30 {
        let scope = Scope { nodes: 5, clients: 5 };
        let mut rng = Rng::new(seed, Stream::Faults);
        let strikes = swarm::faults(&mut rng, &kinds, scope, 3 * SECOND);
        let faults = strikes.into_iter().map(|strike| (strike.at, strike.fault)).collect();
        let outcome = gossip(seed, 5, faults);
        assert_eq!(outcome.alarm, None, "seed {seed}");
        counts.merge(&outcome.faults);
    }
    for kind in ["part", "isolation", "bridge", "kill-together", "power-cut-together"] {
        assert!(counts.of(kind) > 0, "{kind} of {counts:?}");
    }
}

#[test]
fn storms_and_bad_lines_among_nodes_end_in_everybody_knowing_everybody() {
    use crate::swarm::{self, Kind, Scope};
    let kinds = [Kind::Storm, Kind::Link, Kind::Link, Kind::Suspend, Kind::Drift, Kind::CrashLoop];
    let (mut links, mut crashes) = (0, 0);
    for seed in 0..30 {
        let scope = Scope { nodes: 5, clients: 5 };
        let mut rng = Rng::new(seed, Stream::Faults);
        let strikes = swarm::faults(&mut rng, &kinds, scope, 3 * SECOND);
        let faults = strikes.into_iter().map(|strike| (strike.at, strike.fault)).collect();
        let outcome = gossip(seed, 5, faults);
        assert_eq!(outcome.alarm, None, "seed {seed}");
        links += outcome.faults.0.iter().filter(|(kind, _)| kind.starts_with("link-")).count();
        crashes += outcome.faults.of("kill") + outcome.faults.of("power-cut");
    }
    assert!(links > 20 && crashes > 50, "{links} {crashes}");
}
