//! Three nodes as processes, killed, held still and stopped under load: nothing acknowledged is lost, nothing
//! is there twice or in another order, and what was read is never taken back.

pub(crate) mod nodes;
mod programs;
mod reader;
mod votes;

use std::time::{Duration, Instant};

use crate::broker::Folder;
use crate::checks::{Checks, Outcome, ensure};
use crate::client::Client;
use crate::load::{Address, Writer};
use crate::random::Random;
use nodes::{Nodes, View, leader};
use programs::Program;
use reader::Reader;

const TOPIC: &str = "strict";
/// Partitions that a writer of this program owns; the programs have one each behind them.
const WRITERS: i32 = 3;
const NODES: usize = 3;
/// How long a node is held still: longer than the session of three seconds.
const STILL: Duration = Duration::from_secs(4);
/// How long the writers may go without an acknowledgement while a majority lives.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long the replicas may take to be in sync again once all nodes run.
const WHOLE_MAX: Duration = Duration::from_secs(30);

/// What happens to which node.
#[derive(Clone, Copy, Debug)]
enum Strike {
    KillFollower,
    KillLeader,
    KillController,
    KillAll,
    HoldLeader,
    HoldController,
    StopLeader,
}

/// A quick run has each of them; kills of leaders come more often than the slow ones.
const STRIKES: [Strike; 10] = [
    Strike::KillLeader,
    Strike::KillFollower,
    Strike::KillController,
    Strike::HoldLeader,
    Strike::KillAll,
    Strike::StopLeader,
    Strike::HoldController,
    Strike::KillLeader,
    Strike::KillController,
    Strike::KillLeader,
];

/// Runs the cycles.
pub(crate) fn kills(checks: &mut Checks, cycles: u64, seed: Option<u64>) {
    let seed = seed.unwrap_or_else(Random::fresh_seed);
    let links = if is_secured(seed) { "TLS" } else { "plain" };
    println!("seed {seed}, {links} between the nodes");
    let python = programs::interpreter();
    if python.is_none() {
        checks.skip("librdkafka writes to a cluster", "confluent-kafka is not installed");
    }
    checks.note(
        "nodes that lost their disks vote again, and carry the cluster without the others",
        votes::lost_disks(),
    );
    checks.note("one node grows to three, and all of them vote", votes::growth());
    checks.note("a cluster loses, doubles and reorders nothing whatever node is struck", {
        Cycles::new(seed, python).and_then(|mut run| {
            let done = run.all(cycles);
            done.map_err(|problem| format!("{problem}{}", run.nodes.said()))
        })
    });
}

/// Whether the nodes of a run verify each other by a secret: every other seed has them do so.
const fn is_secured(seed: u64) -> bool {
    seed.is_multiple_of(2)
}

struct Cycles {
    random: Random,
    nodes: Nodes,
    writers: Vec<Writer>,
    programs: Vec<Program>,
    readers: Vec<Reader>,
    done: u64,
    /// Times without acknowledgements after kills of leaders, and of leaders that were the controller too.
    fail_overs: [Vec<Duration>; 2],
    slowest_whole: Duration,
    _folder: Folder,
}

impl Cycles {
    fn new(seed: u64, python: Option<std::path::PathBuf>) -> Outcome<Self> {
        let folder = Folder::new();
        let settings = ["log.segment.bytes=1048576"];
        let mut nodes = Nodes::prepare(folder.path(), NODES, &settings)?;
        if is_secured(seed) {
            nodes.secure(folder.path())?;
        }
        nodes.start_missing()?;
        let partitions = WRITERS + 1 + i32::from(python.is_some());
        Client::connect(&nodes.addresses[0])?.create_replicated(
            TOPIC,
            partitions,
            NODES as i16,
            &[],
        )?;
        nodes.wait_until_whole(TOPIC, WHOLE_MAX)?;
        let address = Address::of_cluster(nodes.addresses.clone());
        let writers = (0..WRITERS)
            .map(|partition| Writer::start(&address, TOPIC, partition, seed + partition as u64));
        let bootstrap = nodes.addresses.join(",");
        let mut programs = vec![Program::own(&bootstrap, TOPIC, WRITERS)?];
        if let Some(python) = python {
            programs.push(Program::librdkafka(python, &bootstrap, TOPIC, WRITERS + 1)?);
        }
        let readers = (0..partitions).map(|partition| Reader::start(&address, TOPIC, partition));
        Ok(Self {
            random: Random::new(seed),
            writers: writers.collect(),
            programs,
            readers: readers.collect(),
            nodes,
            done: 0,
            fail_overs: [Vec::new(), Vec::new()],
            slowest_whole: Duration::ZERO,
            _folder: folder,
        })
    }

    fn all(&mut self, cycles: u64) -> Outcome<String> {
        while self.done < cycles {
            let strike = STRIKES[(self.done % STRIKES.len() as u64) as usize];
            self.cycle(strike)
                .map_err(|problem| format!("cycle {}, {strike:?}: {problem}", self.done))?;
            self.done += 1;
        }
        let mut written = 0;
        for (nth, writer) in self.writers.iter_mut().enumerate() {
            writer.finish()?;
            let count = writer.acknowledged();
            let mut client = client_of(&self.nodes, nth as i32)?;
            let there = writer.verify(&mut client, count, 0)?;
            ensure(there == count, || {
                format!("partition {nth}: {count} records were acknowledged, {there} are there")
            })?;
            written += count;
        }
        for (program, partition) in self.programs.iter_mut().zip(WRITERS..) {
            let count = program.finish()?;
            let log = client_of(&self.nodes, partition)?.read(TOPIC, partition, 0)?;
            // The reader has judged what each of them is.
            ensure(log.next as u64 == count, || {
                format!("partition {partition}: {count} records were acknowledged, {}", log.next)
            })?;
            written += count;
        }
        self.finish_readers(written)?;
        ensure(written > cycles * 100, || format!("only {written} records were written"))?;
        for id in self.nodes.ids() {
            self.nodes.stop(id)?;
        }
        let [leaders, controllers] = self.fail_overs.each_mut().map(|times| quantiles(times));
        Ok(format!(
            "{cycles} cycles, {written} records; fail-over of a leader {leaders}, of one that is the controller \
             {controllers}; in sync again after {} ms at most",
            self.slowest_whole.as_millis()
        ))
    }

    /// Waits until the readers have read everything.
    fn finish_readers(&mut self, written: u64) -> Outcome {
        let deadline = Instant::now() + WHOLE_MAX;
        loop {
            let read: u64 = self.readers.iter().map(Reader::count).sum();
            if read >= written || self.readers.iter().any(Reader::gave_up) {
                break;
            }
            ensure(Instant::now() < deadline, || format!("{read} of {written} records were read"))?;
            std::thread::sleep(Duration::from_millis(20));
        }
        self.readers.iter_mut().try_for_each(Reader::finish)
    }

    fn cycle(&mut self, strike: Strike) -> Outcome {
        std::thread::sleep(Duration::from_millis(100 + self.random.below(400)));
        let view = self.nodes.view(TOPIC)?;
        let led = |node: i32| {
            let leaders = view.partitions.iter().take(WRITERS as usize).enumerate();
            leaders.filter(move |(_, (leader, _))| *leader == node).map(|(at, _)| at)
        };
        for writer in &self.writers {
            writer.longest_pause();
        }
        let before: Vec<u64> = self.writers.iter().map(Writer::acknowledged).collect();
        let node = self.target(strike, &view)?;
        let is_kill = match strike {
            Strike::KillFollower | Strike::KillLeader | Strike::KillController => {
                self.nodes.kill(node)?;
                true
            }
            Strike::KillAll => {
                for id in self.nodes.ids() {
                    self.nodes.kill(id)?;
                }
                self.nodes.start_missing()?;
                false
            }
            Strike::HoldLeader | Strike::HoldController => {
                self.nodes.pause(node)?;
                let went_on = self.wait_for_writers(&before);
                std::thread::sleep(STILL);
                self.nodes.resume(node)?;
                went_on?;
                false
            }
            Strike::StopLeader => {
                self.nodes.stop(node)?;
                false
            }
        };
        self.wait_for_writers(&before)?;
        if is_kill {
            let pauses = led(node).map(|at| self.writers[at].longest_pause());
            self.fail_overs[usize::from(node == view.controller)].extend(pauses);
        }
        std::thread::sleep(Duration::from_millis(self.random.below(500)));
        self.nodes.start_missing()?;
        // Now and then the next strike comes while replicas still catch up.
        if self.random.below(4) > 0 {
            let took = self.nodes.wait_until_whole(TOPIC, WHOLE_MAX)?;
            self.slowest_whole = self.slowest_whole.max(took);
        }
        self.still_well()
    }

    /// Chooses the node for a strike.
    fn target(&mut self, strike: Strike, view: &View) -> Outcome<i32> {
        let leader = view.partitions[self.random.below(WRITERS as u64) as usize].0;
        let node = match strike {
            Strike::KillLeader | Strike::HoldLeader | Strike::StopLeader => leader,
            Strike::KillController | Strike::HoldController => view.controller,
            Strike::KillFollower => {
                let others = self.nodes.ids().filter(|id| *id != view.controller && *id != leader);
                others.last().expect("there are three")
            }
            Strike::KillAll => 1,
        };
        ensure(node > 0, || format!("nobody to strike: {view:?}"))?;
        Ok(node)
    }

    /// Waits until every writer has had answers beyond what was under way.
    fn wait_for_writers(&mut self, before: &[u64]) -> Outcome {
        const UNDER_WAY: u64 = 200;
        let began = Instant::now();
        loop {
            let late: Vec<usize> = (0..self.writers.len())
                .filter(|&at| self.writers[at].acknowledged() < before[at] + UNDER_WAY)
                .collect();
            if late.is_empty() {
                return Ok(());
            }
            self.still_well()?;
            ensure(began.elapsed() < SILENCE_MAX, || {
                let view = self.nodes.view(TOPIC);
                format!("no answers for partitions {late:?} within {SILENCE_MAX:?}: {view:?}")
            })?;
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns what a writer, a program or a reader has found wrong.
    fn still_well(&mut self) -> Outcome {
        if let Some(writer) = self.writers.iter_mut().find(|writer| writer.gave_up()) {
            writer.finish()?;
        }
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.gave_up()) {
            reader.finish()?;
        }
        for program in &mut self.programs {
            if program.gave_up() {
                program.finish()?;
            }
        }
        Ok(())
    }
}

fn client_of(nodes: &Nodes, partition: i32) -> Outcome<Client> {
    Client::connect(&leader(&nodes.addresses, TOPIC, partition)?)
}

/// Tells the median, the 99th percentile and the longest.
fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| {
        let rank = (times.len() * share).div_ceil(100).saturating_sub(1);
        times.get(rank).map_or(0, Duration::as_millis)
    };
    format!("p50 {} ms, p99 {} ms, max {} ms of {}", at(50), at(99), at(100), times.len())
}
