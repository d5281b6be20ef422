//! Start and stop of a broker: under load, cut short, twice, and at an address that is taken.

use std::collections::VecDeque;
use std::time::Duration;

use madsim::runtime::{Handle, NodeHandle};
use madsim::task::JoinHandle;
use mainspring_core::wire::KafkaString;
use mainspring_net::node::{End, StartError};
use mainspring_sim::rng::{Rng, Stream};

use crate::broker::{ADDRESS, Broker, STOP_MAX, Setup, client, start_in_memory};
use crate::log::{Ledger, value};
use crate::peer::{FETCH_VERSION, PRODUCE_VERSION, Peer, TOPIC, fetch, produce, stored_at};
use crate::run::{note, now, reach, run, within};

/// Requests of a peer that are on their way at the same time.
const AHEAD: usize = 5;
/// What a request and its answer take on an open network at most, with the disk's part.
const SETTLED: Duration = Duration::from_millis(300);

#[madsim::test]
async fn a_stop_answers_what_is_owed_and_keeps_what_was_acknowledged() {
    run(async {
        let seed = Handle::current().seed();
        let mut rng = Rng::new(seed, Stream::Faults);
        let broker = Broker::start(seed, Setup::default());
        let load = Load::start(seed, &broker).await;
        madsim::time::sleep(Duration::from_millis(rng.between(1, 1500))).await;

        let stopped_at = now();
        broker.stop();
        let ends = load.ends().await;
        broker.stopped().await;

        for end in ends {
            reach(
                "requests of a stopped broker never read",
                usize::from(end.oldest_owed.is_some()),
            );
            // Who was not accepted any more is reset by the system.
            assert!(end.is_clean || end.answers == 0, "a peer was cut off in the middle");
            let oldest =
                end.oldest_owed.map(|at| Duration::from_nanos(stopped_at.saturating_sub(at)));
            assert!(oldest.is_none_or(|age| age < SETTLED), "no answer for {oldest:?}");
        }
        broker.kill(true).await;
        broker.restart();
        load.check(&broker).await;
    })
    .await;
}

#[madsim::test]
async fn a_stop_that_a_kill_cuts_short_loses_nothing() {
    run(async {
        let seed = Handle::current().seed();
        let mut rng = Rng::new(seed, Stream::Faults);
        let broker = Broker::start(seed, Setup::default());
        let load = Load::start(seed, &broker).await;
        madsim::time::sleep(Duration::from_millis(rng.between(1, 1500))).await;

        broker.stop();
        let most = [2, 20, 600][rng.index(3)];
        madsim::time::sleep(Duration::from_millis(rng.below(most))).await;
        broker.kill(rng.chance(500)).await;
        load.ends().await;
        // So do starts: each is cut short by a kill or a stop, at any moment of it.
        for _ in 0..rng.below(4) {
            broker.restart();
            madsim::time::sleep(Duration::from_millis(rng.below(25))).await;
            reach("stops amid a start", 0);
            if rng.chance(500) && broker.node().is_some_and(|node| !node.is_ready()) {
                reach("stops amid a start", 1);
                broker.stop();
                broker.stopped().await;
            } else {
                broker.kill(rng.chance(500)).await;
            }
        }

        broker.restart();
        load.check(&broker).await;
    })
    .await;
}

#[madsim::test]
async fn a_second_broker_at_an_address_is_refused_and_harms_nobody() {
    run(async {
        let seed = Handle::current().seed();
        let broker = Broker::start(seed, Setup::default());
        broker.ready().await;
        let machine = client(1);
        let peer = machine.spawn(async {
            let mut peer = Peer::connect().await.expect("it listens");
            assert!(peer.is_served().await, "the first one serves");
            peer
        });
        let mut peer = peer.await.expect("it is served");

        let second = broker.machine().spawn(start_in_memory(ADDRESS)).await.expect("it ends");

        let Err(StartError::Listen { address, why, .. }) = second else {
            panic!("two brokers listen at one address");
        };
        note(format_args!("{address}: {why}"));
        assert_eq!(address.host, ADDRESS);
        let serving = machine.spawn(async move {
            assert!(peer.is_served().await, "who was served still is");
            let mut newcomer = Peer::connect().await.expect("it listens");
            assert!(newcomer.is_served().await, "so are others");
        });
        serving.await.expect("the first broker goes on");
        broker.at_rest().await;
        broker.stop();
        broker.stopped().await;
    })
    .await;
}

#[madsim::test]
async fn an_address_is_free_again_when_its_broker_has_stopped() {
    run(async {
        let mut rng = Rng::new(Handle::current().seed(), Stream::Faults);
        let machine = client(2);
        let starting = machine.spawn(async move {
            for _ in 0..3 {
                let node = start_in_memory("10.0.1.2").await.expect("the address is free");
                if rng.chance(500) {
                    node.ready().await.expect("it serves");
                }
                madsim::time::sleep(Duration::from_millis(rng.below(10))).await;
                node.stop();
                let end = within("a stop", STOP_MAX, node.ended()).await;
                assert_eq!(end, End::Stopped);
                assert!(!node.is_ready());
            }
        });
        starting.await.expect("each of them starts and stops");
    })
    .await;
}

/// Peers that send and read until their broker goes away.
struct Load {
    ledger: Ledger,
    machine: NodeHandle,
    peers: std::sync::Mutex<Vec<JoinHandle<Ended>>>,
}

/// How the connection of a peer ended.
#[derive(Default)]
struct Ended {
    is_clean: bool,
    answers: usize,
    /// When the oldest request was sent that was not answered.
    oldest_owed: Option<u64>,
}

impl Load {
    async fn start(seed: u64, broker: &Broker) -> Self {
        broker.ready().await;
        let machine = client(1);
        let making = machine.spawn(async {
            let mut peer = Peer::connect().await.expect("it listens");
            peer.make_topic().await.expect("the topic is made");
        });
        making.await.expect("the topic is there");
        let ledger = Ledger::default();
        let mut peers = Vec::new();
        for number in 1..=3 {
            let rng = Rng::new(seed, Stream::Node(number));
            let (ledger, number) = (ledger.clone(), u64::from(number));
            peers.push(machine.spawn(send_until_the_end(number, rng, ledger)));
        }
        peers.push(machine.spawn(wait_until_the_end()));
        Self { ledger, machine, peers: std::sync::Mutex::new(peers) }
    }

    /// Waits until all connections have ended.
    async fn ends(&self) -> Vec<Ended> {
        let peers = std::mem::take(&mut *self.peers.lock().expect("nothing panics holding it"));
        let mut ends = Vec::new();
        for peer in peers {
            ends.push(within("the end of a peer", STOP_MAX * 2, peer).await.expect("it ends"));
        }
        ends
    }

    /// Checks the log of a broker that starts, and stops it in the end.
    async fn check(self, broker: &Broker) {
        broker.ready().await;
        let ledger = self.ledger.clone();
        let checking = async move { ledger.check(KafkaString::from_static(TOPIC)).await };
        self.machine.spawn(checking).await.expect("the log is in order");
        broker.at_rest().await;
        broker.stop();
        broker.stopped().await;
    }
}

/// Sends records, some ahead of their answers.
async fn send_until_the_end(number: u64, mut rng: Rng, ledger: Ledger) -> Ended {
    let Ok(mut peer) = Peer::connect().await else { return Ended::default() };
    let mut waiting = VecDeque::new();
    let mut answers = 0;
    for index in 0.. {
        let value = value(number, index);
        ledger.sent(&value);
        waiting.push_back((now(), value.clone()));
        if peer.ask(&produce(&value), PRODUCE_VERSION).await.is_err() {
            break;
        }
        if rng.chance(300) {
            madsim::time::sleep(Duration::from_millis(rng.below(30))).await;
        }
        let ahead = if rng.chance(700) { AHEAD } else { 1 };
        while peer.owed() >= ahead {
            let Ok(Some(answer)) = peer.answer().await else { break };
            answers += 1;
            let (_, value) = waiting.pop_front().expect("one waits for each answer");
            if let Ok(offset) = stored_at(answer) {
                ledger.acknowledged(offset, &value);
            }
        }
        if peer.owed() >= ahead {
            break;
        }
    }
    // What was answered before the end can still be read.
    let is_clean = loop {
        match peer.answer().await {
            Ok(Some(answer)) => {
                answers += 1;
                let (_, value) = waiting.pop_front().expect("one waits for each answer");
                if let Ok(offset) = stored_at(answer) {
                    ledger.acknowledged(offset, &value);
                }
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    Ended { is_clean, answers, oldest_owed: waiting.front().map(|(at, _)| *at) }
}

/// Asks for what is not there yet, and waits much longer than a broker has to stop.
async fn wait_until_the_end() -> Ended {
    let Ok(mut peer) = Peer::connect().await else { return Ended::default() };
    let mut answers = 0;
    reach("waiting fetches answered by a stop", 0);
    loop {
        let asked_at = now();
        let asked = peer.ask(&fetch(0, 64 << 20, 60_000), FETCH_VERSION).await;
        let outcome = peer.answer().await;
        let Ok(Some(_)) = outcome else {
            let is_owed = asked.is_ok() || peer.owed() > 0;
            let oldest_owed = is_owed.then_some(asked_at);
            return Ended { is_clean: outcome.is_ok(), answers, oldest_owed };
        };
        answers += 1;
        reach("waiting fetches answered by a stop", 1);
    }
}
