//! A few nodes, a network that loses, delays and repeats, and disks that lose what is not proven.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::messages::{FetchAnswer, FetchAsk, Standing};
use super::*;

const MS: u64 = 1_000_000;

#[derive(Clone, Default, Debug)]
struct Log {
    records: Vec<(LeaderEpoch, u64)>,
    proven: usize,
}

impl LogView for Log {
    fn start(&self) -> Offset {
        Offset::ZERO
    }
    fn end(&self) -> Offset {
        Offset(self.records.len() as i64)
    }
    fn last_epoch(&self) -> LeaderEpoch {
        self.records.last().map_or(LeaderEpoch::UNKNOWN, |(epoch, _)| *epoch)
    }
    fn end_of_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let end = self.records.iter().rposition(|(e, _)| *e <= epoch);
        end.map_or((LeaderEpoch::UNKNOWN, Offset::ZERO), |at| {
            (self.records[at].0, Offset(at as i64 + 1))
        })
    }
    fn proven(&self) -> Offset {
        Offset(self.proven as i64)
    }
    fn latest_snapshot(&self) -> Option<SnapshotId> {
        None
    }
    fn snapshot_at_start(&self) -> Option<SnapshotId> {
        None
    }
}

#[derive(Clone, Debug)]
enum Message {
    Ask(Ask),
    Vote(messages::VoteAsk, VoteAnswer),
    Standing(Standing),
    Fetched(FetchAsk, FetchAnswer, Vec<(LeaderEpoch, u64)>),
    Failed(Ask),
}

#[derive(Clone, Debug)]
struct Flight {
    at: Instant,
    from: usize,
    /// The replica that sent it.
    replica: ReplicaKey,
    to: usize,
    life: u32,
    message: Message,
}

struct Node {
    quorum: Option<Quorum>,
    log: Log,
    /// What is proven of votes, and what is on its way to be.
    vote: Option<(LeaderEpoch, NodeId)>,
    persisting: Vec<(LeaderEpoch, NodeId)>,
    callers: BTreeMap<u64, (usize, messages::VoteAsk)>,
    next_caller: u64,
    life: u32,
    /// How often its disk was lost.
    wiped: u8,
}

struct World {
    now: Instant,
    nodes: Vec<Node>,
    flights: Vec<Flight>,
    cut: BTreeSet<(usize, usize)>,
    rng: ChaCha8Rng,
    next_value: u64,
    /// Sets of voters that stand in logs, by their numbers above [`VOTERS`].
    sets: Vec<BTreeSet<ReplicaKey>>,
    wipes: usize,
    /// How rare things are in this run: crashes, cuts, proofs.
    rare: [u64; 3],
    committed: BTreeMap<i64, (LeaderEpoch, u64)>,
    leaders: BTreeMap<LeaderEpoch, usize>,
    votes: BTreeMap<(LeaderEpoch, usize), NodeId>,
    faulty: bool,
}

/// Records from here on say who votes.
const VOTERS: u64 = 1 << 40;

fn key(index: usize) -> ReplicaKey {
    key_after(index, 0)
}

/// The replica of a node whose disk was lost so often.
fn key_after(index: usize, wiped: u8) -> ReplicaKey {
    let mut directory = [index as u8 + 1; 16];
    directory[0] = wiped;
    ReplicaKey { node: NodeId(index as i32 + 1), directory: Uuid(directory) }
}

fn index(node: NodeId) -> usize {
    (node.0 - 1) as usize
}

fn config(me: usize, count: usize, seed: u64) -> QuorumConfig {
    QuorumConfig {
        me: key(me),
        voters: (0..count).map(key).collect(),
        known: (0..count).map(|at| key(at).node).collect(),
        fetch_timeout: Duration::from_secs(2),
        lost_leader: Duration::from_millis(300),
        election_min: Duration::from_millis(300),
        election_max: Duration::from_millis(600),
        retry: Duration::from_millis(50),
        seed,
    }
}

impl World {
    fn new(count: usize, seed: u64) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            nodes: Vec::new(),
            flights: Vec::new(),
            cut: BTreeSet::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            next_value: 1,
            sets: Vec::new(),
            wipes: 0,
            rare: [0; 3],
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            faulty: true,
        };
        world.rare = [[60, 300, 1_500], [80, 400, 2_000], [2, 10, 60]]
            .map(|choices| choices[(world.rng.next_u64() % 3) as usize]);
        for _ in 0..count {
            world.nodes.push(Node {
                quorum: None,
                log: Log::default(),
                vote: None,
                persisting: Vec::new(),
                callers: BTreeMap::new(),
                next_caller: 0,
                life: 0,
                wiped: 0,
            });
        }
        for node in 0..count {
            world.start(node);
        }
        world
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.rng.next_u64().is_multiple_of(one_in)
    }

    fn start(&mut self, at: usize) {
        let (count, seed) = (self.nodes.len(), self.rng.next_u64());
        let node = &mut self.nodes[at];
        node.life += 1;
        let config = QuorumConfig { me: key_after(at, node.wiped), ..config(at, count, seed) };
        let mut quorum = Quorum::new(config, node.vote, &node.log);
        for (offset, (_, value)) in node.log.records.iter().enumerate() {
            if let Some(voters) = value.checked_sub(VOTERS) {
                let (offset, voters) = (Offset(offset as i64), self.sets[voters as usize].clone());
                quorum.voters_changed(self.now, offset, voters, &node.log);
            }
        }
        quorum.start(self.now, &node.log);
        node.quorum = Some(quorum);
        self.settle(at);
    }

    fn crash(&mut self, at: usize) {
        let keep = self.rng.next_u64() as usize;
        let node = &mut self.nodes[at];
        node.quorum = None;
        node.persisting.clear();
        node.callers.clear();
        let unproven = node.log.records.len() - node.log.proven;
        node.log.records.truncate(node.log.proven + keep % (unproven + 1));
        // What a start reads back is flushed before it is used.
        node.log.proven = node.log.records.len();
    }

    fn replica(&self, at: usize) -> ReplicaKey {
        key_after(at, self.nodes[at].wiped)
    }

    /// A node loses its disk, unless too little would be left of what votes anywhere.
    fn wipe(&mut self, at: usize) {
        let there: BTreeSet<ReplicaKey> =
            (0..self.nodes.len()).filter(|&other| other != at).map(|it| self.replica(it)).collect();
        let formed: BTreeSet<ReplicaKey> = (0..self.nodes.len()).map(key).collect();
        let last = self.committed.values().rev().find_map(|(_, value)| value.checked_sub(VOTERS));
        let committed = last.map_or(&formed, |set| &self.sets[set as usize]);
        let in_force =
            self.nodes.iter().filter_map(|node| node.quorum.as_ref().map(Quorum::voters));
        let is_enough =
            |set: &BTreeSet<ReplicaKey>| set.intersection(&there).count() > set.len() / 2;
        if !in_force.chain([committed]).all(is_enough) {
            return;
        }
        self.crash(at);
        self.wipes += 1;
        let node = &mut self.nodes[at];
        node.log = Log::default();
        node.vote = None;
        node.wiped += 1;
    }

    fn send(&mut self, from: usize, to: usize, life: u32, message: Message) {
        let replica = self.replica(from);
        let lost = self.cut.contains(&(from, to)) || (self.faulty && self.chance(20));
        let delay = if self.faulty && self.chance(30) { 400 } else { 5 };
        let at = self.now + Duration::from_nanos(MS / 2 + self.rng.next_u64() % (delay * MS));
        if lost {
            if let Message::Ask(ask) = message {
                // The one who asked finds out in the end.
                let flight = Flight {
                    at: self.now + Duration::from_millis(100),
                    from: to,
                    replica,
                    to: from,
                    life,
                    message: Message::Failed(ask),
                };
                self.flights.push(flight);
            } else if let Message::Fetched(ask, ..) = message {
                let message = Message::Failed(Ask::Fetch(ask));
                let at = self.now + Duration::from_millis(100);
                self.flights.push(Flight { at, from, replica, to, life, message });
            }
            return;
        }
        if self.faulty
            && self.chance(40)
            && matches!(message, Message::Ask(Ask::Vote(_) | Ask::Ack { .. }))
        {
            let at = at + Duration::from_nanos(self.rng.next_u64() % (800 * MS));
            self.flights.push(Flight { at, from, replica, to, life, message: message.clone() });
        }
        self.flights.push(Flight { at, from, replica, to, life, message });
    }

    /// Carries out what a node wants.
    fn settle(&mut self, at: usize) {
        loop {
            let node = &mut self.nodes[at];
            let Some(action) = node.quorum.as_mut().and_then(Quorum::poll_action) else { return };
            let life = node.life;
            match action {
                Action::Persist { epoch, candidate } => {
                    node.persisting.push((epoch, candidate));
                }
                Action::Ask { node: to, ask } => {
                    self.send(at, index(to), life, Message::Ask(ask));
                }
                Action::AnswerVote { caller, answer } => {
                    let (to, ask) = node.callers.remove(&caller.0).expect("somebody waits");
                    if answer.granted && !ask.pre_vote {
                        assert_eq!(node.vote, Some((ask.epoch, ask.candidate.node)), "proven");
                    }
                    let life = self.nodes[to].life;
                    self.send(at, to, life, Message::Vote(ask, answer));
                }
                Action::BeginEpoch { epoch, granting } => {
                    let voters = self.nodes[at].quorum.as_ref().expect("up").voters();
                    assert!(granting.len() > voters.len() / 2);
                    let before = self.leaders.insert(epoch, at);
                    assert!(before.is_none(), "one leader in epoch {epoch:?}");
                    for (&offset, record) in &self.committed {
                        let held = self.nodes[at].log.records.get(offset as usize);
                        assert_eq!(held, Some(record), "a leader has all that is committed");
                    }
                    self.append(at);
                    let node = &mut self.nodes[at];
                    let begun = Offset(node.log.end().0 - 1);
                    node.quorum.as_mut().expect("up").begun(begun, &node.log);
                }
                Action::Committed(end) => {
                    for offset in 0..end.0 {
                        let record = self.nodes[at].log.records[offset as usize];
                        let before = self.committed.insert(offset, record);
                        assert!(
                            before.is_none_or(|before| before == record),
                            "what is committed stays"
                        );
                    }
                }
                Action::Resigned | Action::Leader { .. } => {}
            }
        }
    }

    fn append(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let epoch = node.quorum.as_ref().expect("up").epoch();
        node.log.records.push((epoch, self.next_value));
        self.next_value += 1;
    }

    fn deliver(&mut self, flight: Flight) {
        let Flight { from, replica, to, life, message, .. } = flight;
        if self.cut.contains(&(from, to)) && !matches!(message, Message::Failed(_)) {
            return;
        }
        let now = self.now;
        if self.nodes[to].quorum.is_none() {
            if let Message::Ask(ask) = message {
                let at = now + Duration::from_millis(2);
                let message = Message::Failed(ask);
                self.flights.push(Flight { at, from: to, replica, to: from, life, message });
            }
            return;
        }
        let sender = NodeId(from as i32 + 1);
        let node = &mut self.nodes[to];
        let stale = life != node.life;
        let Node { quorum: Some(quorum), log, .. } = node else { return };
        match message {
            Message::Ask(Ask::Vote(ask)) => {
                node.next_caller += 1;
                node.callers.insert(node.next_caller, (from, ask));
                quorum.on_vote_asked(now, Caller(node.next_caller), &ask, log);
            }
            Message::Ask(Ask::BeginEpoch { epoch }) => {
                let standing = quorum.on_epoch_begun(now, sender, epoch, log);
                self.send(to, from, life, Message::Standing(standing));
            }
            Message::Ask(Ask::EndEpoch { epoch, preferred }) => {
                let standing = quorum.on_epoch_ended(now, sender, epoch, &preferred, log);
                self.send(to, from, life, Message::Standing(standing));
            }
            Message::Ask(Ask::Ack { epoch, proven }) => {
                quorum.on_ack(replica, epoch, proven, log);
            }
            Message::Ask(Ask::Snapshot(ask)) => panic!("nobody has snapshots: {ask:?}"),
            Message::Ask(Ask::Fetch(ask)) => {
                let (answer, records) = match quorum.on_fetch(now, replica, &ask, log) {
                    FetchVerdict::Read => {
                        let records = log.records[ask.from.0 as usize..].to_vec();
                        (quorum.fetch_answer(), records.into_iter().take(3).collect())
                    }
                    FetchVerdict::Answer(answer) => (answer, Vec::new()),
                };
                if let Some(voters) = quorum.voters_with(now, replica) {
                    self.sets.push(voters.clone());
                    let value = VOTERS + self.sets.len() as u64 - 1;
                    let offset = log.end();
                    log.records.push((quorum.epoch(), value));
                    quorum.voters_changed(now, offset, voters, log);
                }
                self.send(to, from, life, Message::Fetched(ask, answer, records));
            }
            // Answers to an earlier life reach nobody.
            _ if stale => {}
            Message::Vote(ask, answer) => quorum.on_vote_answer(now, sender, &ask, answer, log),
            Message::Standing(standing) => quorum.on_standing(now, sender, standing, log),
            Message::Failed(ask) => quorum.on_failed(now, sender, &ask),
            Message::Fetched(ask, answer, records) => {
                let step = quorum.on_fetch_answer(now, sender, &ask, answer, log);
                let agreed = match step {
                    Step::Append { high_watermark } => {
                        for (epoch, value) in records {
                            let offset = log.end();
                            log.records.push((epoch, value));
                            if let Some(set) = value.checked_sub(VOTERS) {
                                let voters = self.sets[set as usize].clone();
                                quorum.voters_changed(now, offset, voters, log);
                            }
                        }
                        Some(high_watermark)
                    }
                    Step::Truncate(end) => {
                        log.records.truncate(end.0 as usize);
                        log.proven = log.proven.min(log.records.len());
                        quorum.cut(end);
                        None
                    }
                    Step::Nothing => None,
                    Step::Receive(_) | Step::Broken(_) => panic!("{step:?}"),
                };
                quorum.appended(now, agreed, log);
            }
        }
        self.settle(to);
    }

    fn step(&mut self) {
        self.now = self.now + Duration::from_nanos(5 * MS);
        let now = self.now;
        self.flights.sort_by_key(|flight| flight.at);
        let due = self.flights.iter().take_while(|flight| flight.at <= now).count();
        for flight in self.flights.drain(..due).collect::<Vec<_>>() {
            self.deliver(flight);
        }
        for at in 0..self.nodes.len() {
            self.tick(at);
        }
    }

    fn tick(&mut self, at: usize) {
        let now = self.now;
        if self.nodes[at].quorum.is_none() {
            if !self.faulty || self.chance(40) {
                self.start(at);
            }
            return;
        }
        let [crashes, _, proofs] = self.rare;
        if !self.faulty || self.chance(proofs) {
            let node = &mut self.nodes[at];
            node.log.proven = node.log.records.len();
            node.quorum.as_mut().expect("up").on_proven(&node.log);
        }
        if !self.nodes[at].persisting.is_empty() && self.chance(2) {
            let node = &mut self.nodes[at];
            let (epoch, candidate) = node.persisting.remove(0);
            node.vote = Some((epoch, candidate));
            let before = self.votes.insert((epoch, at), candidate);
            assert!(before.is_none_or(|other| other == candidate), "one vote in an epoch");
            node.quorum.as_mut().expect("up").persisted(now, epoch, candidate, &node.log);
        }
        let node = &mut self.nodes[at];
        node.quorum.as_mut().expect("up").wake(now, &node.log);
        self.settle(at);
        if self.nodes[at].quorum.as_ref().expect("up").is_leader() && self.chance(3) {
            self.append(at);
        }
        if self.faulty && self.chance(crashes) {
            self.crash(at);
        } else if self.faulty && self.chance(4 * crashes) {
            let node = &mut self.nodes[at];
            node.quorum.as_mut().expect("up").leave_office(now);
            self.settle(at);
            self.crash(at);
        } else if self.faulty && self.chance(2 * crashes) {
            self.wipe(at);
        }
    }

    fn shake(&mut self) {
        let (count, [_, cuts, _]) = (self.nodes.len() as u64, self.rare);
        if self.chance(cuts) {
            let (a, b) =
                ((self.rng.next_u64() % count) as usize, (self.rng.next_u64() % count) as usize);
            self.cut.insert((a, b));
            if self.chance(2) {
                self.cut.insert((b, a));
            }
        }
        if self.chance(150) {
            self.cut.clear();
        }
    }

    fn leader(&self) -> Option<usize> {
        let leads = |node: &&Node| node.quorum.as_ref().is_some_and(Quorum::is_leader);
        let newest = self
            .nodes
            .iter()
            .filter(leads)
            .max_by_key(|node| node.quorum.as_ref().map(Quorum::epoch))?;
        self.nodes.iter().position(|node| std::ptr::eq(node, newest))
    }
}

fn matching_logs(world: &World) {
    for a in &world.nodes {
        for b in &world.nodes {
            let same = a.log.records.iter().zip(&b.log.records).rposition(|(a, b)| a.0 == b.0);
            if let Some(at) = same {
                assert_eq!(a.log.records[..=at], b.log.records[..=at], "logs match by epochs");
            }
        }
    }
}

#[test]
fn whatever_is_lost_delayed_repeated_or_crashed_what_is_committed_stays() {
    let (mut elections, mut commits, mut wipes, mut changes) = (0, 0, 0, 0);
    for seed in 0..60 {
        let count = [1, 3, 5][(seed % 3) as usize];
        let mut world = World::new(count, seed);
        for _ in 0..2_500 {
            world.step();
            world.shake();
        }
        matching_logs(&world);
        // Faults end: soon somebody leads, and what it appends becomes committed everywhere.
        world.faulty = false;
        world.cut.clear();
        let before = world.committed.len();
        for _ in 0..1_500 {
            world.step();
        }
        let leader = world.leader().unwrap_or_else(|| panic!("seed {seed}: nobody leads"));
        assert!(world.committed.len() > before + 50, "seed {seed}: nothing goes on");
        for (at, node) in world.nodes.iter().enumerate() {
            let quorum = node.quorum.as_ref().expect("all are up");
            assert_eq!(quorum.leader(), Some(key(leader).node), "seed {seed}: node {at}");
            assert!(quorum.high_watermark().0 + 100 > world.committed.len() as i64, "seed {seed}");
            let whole: BTreeSet<ReplicaKey> = (0..count).map(|it| world.replica(it)).collect();
            assert_eq!(quorum.voters(), &whole, "seed {seed}: all vote again");
        }
        matching_logs(&world);
        wipes += world.wipes;
        changes += world.committed.values().filter(|(_, value)| *value >= VOTERS).count();
        elections += world.leaders.len();
        commits += world.committed.len();
    }
    assert!(elections > 200 && commits > 10_000, "{elections} elections, {commits} records");
    assert!(wipes > 50 && changes > 80, "{wipes} disks lost, {changes} changes of voters");
}

#[test]
fn a_lone_voter_leads_as_soon_as_its_vote_is_proven() {
    let log = Log::default();
    let mut quorum = Quorum::new(config(0, 1, 7), None, &log);
    quorum.start(Instant::ZERO, &log);
    let persist = Action::Persist { epoch: LeaderEpoch(1), candidate: NodeId(1) };
    let actions: Vec<Action> = std::iter::from_fn(|| quorum.poll_action()).collect();
    assert!(actions.contains(&persist) && !quorum.is_leader(), "{actions:?}");
    assert_eq!(quorum.next_deadline(), None, "a slow disk ends no candidacy");
    quorum.persisted(Instant::ZERO, LeaderEpoch(1), NodeId(1), &log);
    assert!(quorum.is_leader());
    assert_eq!(quorum.next_deadline(), None, "it never resigns for want of others");
}

#[test]
fn an_empty_directory_of_a_known_node_is_no_voter() {
    let log = Log::default();
    let mut quorum = Quorum::new(config(0, 3, 7), None, &log);
    quorum.start(Instant::ZERO, &log);
    let ask = messages::VoteAsk {
        epoch: LeaderEpoch(5),
        candidate: key(1),
        voter: ReplicaKey { directory: Uuid([9; 16]), ..key(0) },
        last_epoch: LeaderEpoch(4),
        end: Offset(100),
        pre_vote: false,
    };
    while quorum.poll_action().is_some() {}
    quorum.on_vote_asked(Instant::ZERO, Caller(1), &ask, &log);
    let answer = VoteAnswer { epoch: LeaderEpoch(0), leader: None, granted: false };
    assert_eq!(quorum.poll_action(), Some(Action::AnswerVote { caller: Caller(1), answer }));
}

/// Makes node 1 of 3 the leader of epoch 3, with these records in its log.
fn elected(records: &[(LeaderEpoch, u64)]) -> (Quorum, Log) {
    let mut log = Log { records: records.to_vec(), proven: records.len() };
    let vote = Some((LeaderEpoch(2), NodeId(-1)));
    let mut quorum = Quorum::new(config(0, 3, 7), vote, &log);
    quorum.start(Instant::ZERO, &log);
    let later = Instant::ZERO + Duration::from_secs(1);
    quorum.wake(later, &log);
    while let Some(action) = quorum.poll_action() {
        match action {
            Action::Ask { node, ask: Ask::Vote(ask) } => {
                let answer = VoteAnswer { epoch: ask.epoch, leader: None, granted: true };
                quorum.on_vote_answer(later, node, &ask, answer, &log);
            }
            Action::Persist { epoch, candidate } => quorum.persisted(later, epoch, candidate, &log),
            Action::BeginEpoch { epoch, .. } => {
                log.records.push((epoch, 99));
                log.proven = log.records.len();
                quorum.begun(Offset(log.end().0 - 1), &log);
            }
            Action::Ask { .. }
            | Action::AnswerVote { .. }
            | Action::Resigned
            | Action::Committed(_)
            | Action::Leader { .. } => {}
        }
    }
    assert!(quorum.is_leader() && quorum.epoch() == LeaderEpoch(3));
    (quorum, log)
}

#[test]
fn records_of_an_earlier_epoch_are_committed_by_one_of_its_own_alone() {
    let (mut quorum, log) = elected(&[(LeaderEpoch(1), 1), (LeaderEpoch(2), 2)]);
    let ask = FetchAsk { epoch: LeaderEpoch(3), from: Offset(2), last_epoch: LeaderEpoch(2) };
    assert_eq!(quorum.on_fetch(Instant::ZERO, key(1), &ask, &log), FetchVerdict::Read);
    quorum.on_ack(key(1), LeaderEpoch(3), Offset(2), &log);
    assert_eq!(quorum.high_watermark(), Offset(0), "a majority has both, and that is not enough");
    quorum.on_ack(key(1), LeaderEpoch(3), Offset(3), &log);
    assert_eq!(quorum.high_watermark(), Offset(3));
}

#[test]
fn what_a_voter_has_proven_counts_once_its_log_was_found_to_agree() {
    let (mut quorum, log) = elected(&[(LeaderEpoch(2), 1)]);
    quorum.on_ack(key(1), LeaderEpoch(3), Offset(2), &log);
    assert_eq!(quorum.high_watermark(), Offset(0), "it may be another log");
    let ask = FetchAsk { epoch: LeaderEpoch(3), from: Offset(2), last_epoch: LeaderEpoch(1) };
    let end = Offset(0);
    let outcome = messages::FetchOutcome::Diverging { epoch: LeaderEpoch::UNKNOWN, end };
    let answer = FetchAnswer { epoch: LeaderEpoch(3), leader: Some(NodeId(1)), outcome };
    let verdict = quorum.on_fetch(Instant::ZERO, key(1), &ask, &log);
    assert_eq!(verdict, FetchVerdict::Answer(answer));
    quorum.on_ack(key(1), LeaderEpoch(3), Offset(2), &log);
    assert_eq!(quorum.high_watermark(), Offset(0), "it does not agree yet");
}

#[test]
fn an_offset_beyond_the_end_of_the_leaders_log_is_not_believed() {
    let (mut quorum, log) = elected(&[(LeaderEpoch(2), 1)]);
    let ask = FetchAsk { epoch: LeaderEpoch(3), from: Offset(2), last_epoch: LeaderEpoch(3) };
    assert_eq!(quorum.on_fetch(Instant::ZERO, key(1), &ask, &log), FetchVerdict::Read);
    quorum.on_ack(key(1), LeaderEpoch(3), Offset(1_000), &log);
    assert_eq!(quorum.high_watermark(), Offset(0));
}

#[test]
fn a_leader_that_no_majority_fetches_from_resigns() {
    let (mut quorum, log) = elected(&[(LeaderEpoch(2), 1)]);
    let late = Instant::ZERO + Duration::from_secs(9);
    quorum.wake(late, &log);
    assert!(!quorum.is_leader());
    assert_eq!(quorum.epoch(), LeaderEpoch(3), "it stays in its epoch until somebody stands");
}

/// Found by the simulator: each of two followers told the other of the leader that was gone, in turns, for ever.
#[test]
fn two_that_are_left_of_three_elect_one_of_them_whoever_was_cut_off() {
    for seed in 0..20 {
        let mut world = World::new(3, seed);
        world.faulty = false;
        for _ in 0..1_000 {
            world.step();
        }
        let lost = world.leader().expect("somebody leads");
        // One notices earlier than the other.
        for other in (0..3).filter(|&other| other != lost) {
            world.cut.extend([(lost, other), (other, lost)]);
            for _ in 0..200 {
                world.step();
            }
        }
        for _ in 0..2_000 {
            world.step();
        }
        let leads = |at: usize| world.nodes[at].quorum.as_ref().is_some_and(Quorum::is_leader);
        assert!((0..3).any(|at| at != lost && leads(at)), "seed {seed}");
        assert!(!leads(lost), "seed {seed}: nobody follows it");
    }
}

#[test]
fn a_node_that_does_not_vote_can_neither_lead_nor_depose_whatever_epoch_it_names() {
    let (mut quorum, log) = elected(&[(LeaderEpoch(2), 1)]);
    let (stranger, late) = (NodeId(9), LeaderEpoch(i32::MAX));
    let replica = ReplicaKey { node: stranger, directory: Uuid([9; 16]) };
    let ask = FetchAsk { epoch: late, from: Offset(0), last_epoch: LeaderEpoch::UNKNOWN };
    quorum.on_fetch(Instant::ZERO, replica, &ask, &log);
    quorum.on_epoch_begun(Instant::ZERO, stranger, late, &log);
    quorum.on_epoch_ended(Instant::ZERO, stranger, late, &[], &log);
    let standing = Standing { epoch: late, leader: Some(stranger) };
    quorum.on_standing(Instant::ZERO, NodeId(2), standing, &log);
    assert!(quorum.is_leader() && quorum.epoch() == LeaderEpoch(3));
}

#[test]
fn behind_the_last_epoch_there_is_nobody_stands() {
    let log = Log::default();
    let vote = Some((LeaderEpoch(i32::MAX), NodeId(-1)));
    let mut quorum = Quorum::new(config(0, 1, 7), vote, &log);
    quorum.start(Instant::ZERO, &log);
    assert!(!quorum.is_leader());
}

#[test]
fn a_replica_comes_in_the_place_of_another_directory_in_two_steps_each_of_them_committed() {
    let (mut quorum, mut log) = elected(&[(LeaderEpoch(2), 1)]);
    let (epoch, now) = (LeaderEpoch(3), Instant::ZERO);
    let (follower, newcomer) = (key(1), key_after(2, 1));
    let fetch = |quorum: &mut Quorum, log: &Log, who| {
        let ask = FetchAsk { epoch, from: log.end(), last_epoch: epoch };
        assert_eq!(quorum.on_fetch(now, who, &ask, log), FetchVerdict::Read);
    };
    let change = |quorum: &mut Quorum, log: &mut Log, voters| {
        let offset = log.end();
        log.records.push((epoch, 7));
        log.proven = log.records.len();
        quorum.voters_changed(now, offset, voters, log);
    };
    fetch(&mut quorum, &log, newcomer);
    fetch(&mut quorum, &log, follower);
    assert_eq!(quorum.voters_with(now, newcomer), None, "nothing of the epoch is committed");
    quorum.on_ack(follower, epoch, log.end(), &log);

    let without: BTreeSet<ReplicaKey> = [key(0), follower].into();
    assert_eq!(quorum.voters_with(now, newcomer), Some(without.clone()));
    change(&mut quorum, &mut log, without);
    fetch(&mut quorum, &log, newcomer);
    assert_eq!(quorum.voters_with(now, newcomer), None, "the change is not committed");
    quorum.on_ack(follower, epoch, log.end(), &log);

    let whole: BTreeSet<ReplicaKey> = [key(0), follower, newcomer].into();
    assert_eq!(quorum.voters_with(now, newcomer), Some(whole.clone()));
    let late = now + Duration::from_secs(5);
    assert_eq!(quorum.voters_with(late, newcomer), None, "it is not heard any more");
    change(&mut quorum, &mut log, whole.clone());
    assert_eq!(quorum.voters(), &whole);
    quorum.cut(Offset(log.end().0 - 1));
    assert_eq!(quorum.voters().len(), 2, "a record that is cut off counts no more");
}
