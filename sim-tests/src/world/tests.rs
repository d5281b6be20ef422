use std::collections::VecDeque;

use bytes::Bytes;
use mainspring_core::ids::IoToken;
use mainspring_core::io::{Effect, FileName, Sync, WriteBody};
use mainspring_core::time::{Instant, Now};

use super::*;
use crate::checkers;

/// A machine that writes down what it is sent and echoes it once that is flushed.
#[derive(Default)]
struct Echo {
    effects: VecDeque<Effect>,
    waiting: BTreeMap<IoToken, (ConnectionId, Bytes)>,
    next: u64,
    position: u64,
    panics: bool,
    timer: Option<Instant>,
}

impl Machine for Echo {
    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Start => {
                self.effects.push_back(Effect::Ready);
                self.timer = Some(now.mono + std::time::Duration::from_millis(5));
            }
            Input::Received(connection, bytes) => {
                assert!(!self.panics, "told to panic");
                self.next += 1;
                let (token, bytes) = (IoToken(self.next), bytes.freeze());
                self.waiting.insert(token, (connection, bytes.clone()));
                self.effects.push_back(Effect::Write {
                    file: FileName::new("echo"),
                    position: self.position,
                    body: WriteBody::Parts(vec![bytes.clone()]),
                    sync: Sync::Data,
                    token,
                });
                self.position += bytes.len() as u64;
            }
            Input::Completed { token, .. } => {
                let (connection, bytes) = self.waiting.remove(&token).expect("its own token");
                self.effects.push_back(Effect::Transmit { connection, parts: vec![bytes] });
            }
            Input::Wakeup => self.timer = None,
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
        self.position
    }
}

/// A client that sends a few bytes until they come back.
#[derive(Default)]
struct Caller {
    stream: Option<StreamId>,
    back: usize,
}

impl Actor for Caller {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        match event {
            ActorEvent::Wake | ActorEvent::Disconnected(_) => {
                if self.back < 4 {
                    self.back = 0;
                    self.stream = Some(hands.connect(0));
                }
            }
            ActorEvent::Connected(stream) => hands.send(stream, vec![Bytes::from_static(b"ping")]),
            ActorEvent::Received(_, bytes) => self.back += bytes.len(),
            ActorEvent::Finish => {}
        }
    }

    fn pending(&self) -> Option<String> {
        (self.back < 4).then(|| "an echo is missing".into())
    }
}

/// A world of one node of one shard in which nothing goes wrong.
fn quiet(seed: u64) -> WorldOptions {
    WorldOptions {
        seed,
        nodes: 1,
        shards: 1,
        disk: DiskOptions::default(),
        net: NetOptions::default(),
        drift_ppm: 0,
        faults: vec![],
        heal_at: SECOND,
        grace: 5 * SECOND,
        homes: Vec::new(),
        unrecoverable: false,
        permanent: Vec::new(),
        sink: None,
        story: false,
        until: None,
    }
}

fn run(seed: u64, faults: Vec<(u64, Fault)>, panics: bool) -> Outcome {
    let options = WorldOptions { shards: 3, drift_ppm: 100, faults, ..quiet(seed) };
    let actors: Vec<Box<dyn Actor>> =
        (0..4).map(|_| Box::<Caller>::default() as Box<dyn Actor>).collect();
    let factory: Factory<Echo> = Box::new(move |_| Echo { panics, ..Echo::default() });
    World::new(options, factory, actors, checkers::all()).run()
}

#[test]
fn one_seed_is_one_run_and_another_seed_is_another() {
    let (a, again, b) = (run(1, vec![], false), run(1, vec![], false), run(2, vec![], false));
    assert_eq!(a.alarm, None);
    assert_eq!((a.trace_hash, a.events), (again.trace_hash, again.events));
    assert_ne!(a.trace_hash, b.trace_hash);
}

#[test]
fn a_killed_node_starts_again_and_clients_find_it() {
    let kill = Fault::Kill { node: 0, effects: 1, down: 10 * MILLISECOND };
    let outcome = run(3, vec![(2, kill)], false);
    assert_eq!(outcome.alarm, None);
    assert_eq!(outcome.faults.of("kill"), 1);
    assert!(outcome.counts["starts"] >= 1);
}

#[test]
fn a_panic_of_a_machine_is_an_alarm() {
    crate::process::keep_panics_quiet();
    let alarm = run(4, vec![], true).alarm.expect("an alarm");
    assert_eq!(alarm.checker, "I41");
    assert!(alarm.message.contains("told to panic"), "{alarm}");
}

#[test]
fn a_client_that_waits_for_ever_is_an_alarm() {
    let pause = Fault::Pause { node: 0, time: 100 * SECOND };
    let heal_too_late = run(5, vec![(1, pause)], false);
    assert_eq!(heal_too_late.alarm, None, "healing ends a pause");

    let net = NetOptions { latency: 100 * SECOND, ..NetOptions::default() };
    let options = WorldOptions { net, grace: SECOND, ..quiet(1) };
    let factory: Factory<Echo> = Box::new(|_| Echo::default());
    let outcome =
        World::new(options, factory, vec![Box::<Caller>::default()], checkers::all()).run();
    assert_eq!(outcome.alarm.expect("an alarm").checker, "I41");
}

/// A machine that tells its peers whom it has heard of, and clients, too.
struct Gossip {
    me: usize,
    nodes: usize,
    effects: VecDeque<Effect>,
    dials: VecDeque<usize>,
    links: BTreeMap<ConnectionId, usize>,
    heard: std::collections::BTreeSet<u8>,
    timer: Option<Instant>,
}

impl Gossip {
    fn new(me: usize, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            effects: VecDeque::new(),
            dials: VecDeque::new(),
            links: BTreeMap::new(),
            heard: [me as u8].into(),
            timer: None,
        }
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
                self.dials.extend((0..self.nodes).filter(|node| *node != self.me));
                self.timer = Some(now.mono + std::time::Duration::from_millis(40));
            }
            // Whoever it was that called, it is told.
            Input::Connected { connection, .. } => self.tell(connection),
            Input::Received(_, bytes) => self.heard.extend(bytes.iter()),
            Input::Disconnected(connection) => {
                if let Some(to) = self.links.remove(&connection) {
                    self.dials.push_back(to);
                }
            }
            Input::Wakeup => {
                let links: Vec<ConnectionId> = self.links.keys().copied().collect();
                for link in links {
                    self.tell(link);
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

    fn poll_dial(&mut self, connection: ConnectionId) -> Option<usize> {
        let to = self.dials.pop_front()?;
        self.links.insert(connection, to);
        Some(to)
    }

    fn digest(&self) -> u64 {
        self.heard.len() as u64
    }
}

/// A client that asks its node again and again until that has heard of all.
struct Listener {
    nodes: usize,
    heard: std::collections::BTreeSet<u8>,
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

#[test]
fn a_machine_that_stood_still_finds_its_monotonic_clock_where_it_was() {
    let suspend = |time| Fault::Suspend { node: 0, time, set_right: false };
    let outcome = run(6, vec![(100 * MILLISECOND, suspend(500 * MILLISECOND))], false);
    assert_eq!(outcome.alarm, None);
    assert_eq!(outcome.faults.of("suspend"), 1);
}

#[test]
fn a_start_can_die_before_it_serves_again_and_again() {
    let again =
        Fault::CrashLoop { node: 0, times: 3, effects: 0, power: false, down: 10 * MILLISECOND };
    let outcome = run(7, vec![(2, again)], false);
    assert_eq!(outcome.alarm, None);
    assert_eq!((outcome.faults.of("kill"), outcome.faults.of("crash-in-recovery")), (4, 3));
}

#[test]
fn an_empty_disk_and_an_old_copy_come_only_where_nothing_need_be_recovered() {
    for unrecoverable in [false, true] {
        let faults = vec![
            (SECOND / 2, Fault::Save { node: 0 }),
            (SECOND / 2 + 1, Fault::Wipe { node: 0, down: 1 }),
            (SECOND / 2 + 2, Fault::Restore { node: 0, down: 1 }),
        ];
        let options = WorldOptions { faults, unrecoverable, ..quiet(8) };
        let factory: Factory<Echo> = Box::new(|_| Echo::default());
        let outcome =
            World::new(options, factory, vec![Box::<Caller>::default()], checkers::all()).run();
        let struck = u64::from(unrecoverable);
        assert_eq!((outcome.faults.of("wipe"), outcome.faults.of("restore")), (struck, struck));
    }
}
