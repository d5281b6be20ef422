//! Who connects, in what numbers, and what becomes of those who say nothing or vanish.

use std::time::Duration;

use madsim::runtime::Handle;
use mainspring_core::config::Limits;
use mainspring_core::wire::api::api_versions::ApiVersionsRequest;
use mainspring_sim::rng::{Rng, Stream};

use crate::broker::{Broker, Setup, client};
use crate::peer::{FETCH_VERSION, METADATA_VERSION, Peer, fetch, metadata};
use crate::run::{note, reach, run, within};

/// How long any connection may last that gets nowhere, by the limits of these tests.
const GIVEN_UP: Duration = Duration::from_secs(80);

/// Limits under which a minute of virtual time is long.
fn limits() -> Limits {
    Limits {
        idle_max: Duration::from_secs(20),
        close_linger: Duration::from_secs(5),
        partial_frame_grace: Duration::from_secs(5),
        partial_frame_credit_max: Duration::from_secs(10),
        ..Limits::default()
    }
}

#[madsim::test]
async fn connections_beyond_the_limit_are_closed_and_places_are_given_on() {
    run(async {
        let seed = Handle::current().seed();
        let mut rng = Rng::new(seed, Stream::Workload);
        let most = rng.between(2, 8) as usize;
        let limits = Limits { connections_max: most, ..limits() };
        let broker = Broker::start(seed, Setup { limits, ..Setup::default() });
        broker.ready().await;
        let holding = client(1).spawn(async move {
            let mut held = Vec::new();
            for _ in 0..most {
                let mut peer = Peer::connect().await.expect("it listens");
                assert!(peer.is_served().await, "there is a place for {}", held.len() + 1);
                held.push(peer);
            }
            for _ in 0..3 {
                let mut peer = Peer::connect().await.expect("the system takes it");
                assert!(!peer.is_served().await, "there is no place beyond {most}");
            }
            for peer in &mut held {
                assert!(peer.is_served().await, "those who are in stay in");
            }
            while !held.is_empty() {
                let given = held.swap_remove(rng.index(held.len()));
                if rng.chance(500) {
                    given.reset();
                } else {
                    drop(given);
                }
                let mut next = Peer::connect().await.expect("the system takes it");
                let mut tries = 0;
                while !next.is_served().await {
                    tries += 1;
                    assert!(tries < 200, "a place that was left is given on");
                    madsim::time::sleep(Duration::from_millis(20)).await;
                    next = Peer::connect().await.expect("the system takes it");
                }
                drop(next);
                if rng.chance(300) {
                    return;
                }
            }
        });
        holding.await.expect("every connection is answered or closed");
        finish(&broker).await;
    })
    .await;
}

#[madsim::test]
async fn who_says_nothing_or_half_a_word_is_given_up_while_others_are_served() {
    run(async {
        let seed = Handle::current().seed();
        let broker = Broker::start(seed, Setup { limits: limits(), ..Setup::default() });
        broker.ready().await;
        let machine = client(1);
        let mut silent = Vec::new();
        for number in 0..6 {
            let mut rng = Rng::new(seed, Stream::Node(number));
            silent.push(machine.spawn(async move {
                let mut peer = Peer::connect().await.expect("it listens");
                let (_, frame) = peer.frame(&metadata(), METADATA_VERSION);
                let told = if number == 0 { 0 } else { rng.below(frame.len() as u64) as usize };
                peer.send(&frame[..told]).await.expect("the socket takes it");
                // As seen from the other side, this peer has vanished.
                within("giving up a silent peer", GIVEN_UP, peer.ends_clean()).await;
            }));
        }
        let mut deaf = Vec::new();
        for number in 1..=2 {
            deaf.push(client(10 + number).spawn(async move {
                let mut peer = Peer::connect().await.expect("it listens");
                // It asks as long as anybody listens, and reads nothing.
                while peer.owed() < 20_000 {
                    let question = ApiVersionsRequest::default();
                    let asked = peer.ask(&question, 0);
                    if !matches!(madsim::time::timeout(GIVEN_UP, asked).await, Ok(Ok(_))) {
                        break;
                    }
                }
                note(format_args!("{} requests of a deaf peer", peer.owed()));
                reach("peers cut off that read nothing", usize::from(peer.owed() < 20_000));
                madsim::time::sleep(GIVEN_UP).await;
                drop(peer);
            }));
        }
        let lively = client(2).spawn(async {
            let mut peer = Peer::connect().await.expect("it listens");
            for _ in 0..60 {
                assert!(within("an answer", Duration::from_secs(1), peer.is_served()).await);
                madsim::time::sleep(Duration::from_secs(1)).await;
            }
        });
        lively.await.expect("who talks is served all along");
        for peer in silent {
            peer.await.expect("it is given up");
        }
        // Those who read nothing hold their sockets still; the broker has let go of them.
        broker.at_rest().await;
        for peer in deaf {
            peer.await.expect("it ends");
        }
        finish(&broker).await;
    })
    .await;
}

#[madsim::test]
async fn a_storm_of_connections_leaves_nothing_behind() {
    run(async {
        let seed = Handle::current().seed();
        let broker = Broker::start(seed, Setup { limits: limits(), ..Setup::default() });
        broker.ready().await;
        let mut storm = Vec::new();
        let machines: Vec<_> = (1..=6).map(client).collect();
        for number in 0..60 {
            let mut rng = Rng::new(seed, Stream::Node(number));
            storm.push(machines[number as usize % machines.len()].spawn(async move {
                madsim::time::sleep(Duration::from_millis(rng.below(50))).await;
                let mut peer = Peer::connect().await.expect("it listens");
                let (_, frame) = peer.frame(&metadata(), METADATA_VERSION);
                match rng.below(6) {
                    0 => {}
                    1 => {
                        let half = rng.below(frame.len() as u64) as usize;
                        peer.send(&frame[..half]).await.expect("the socket takes it");
                        peer.reset();
                    }
                    2 => {
                        peer.send(&frame).await.expect("the socket takes it");
                        madsim::time::sleep(Duration::from_millis(rng.below(20))).await;
                    }
                    3 => {
                        peer.ask(&fetch(0, 1, 30_000), FETCH_VERSION).await.expect("it is sent");
                        peer.send(&frame).await.expect("the socket takes it");
                        peer.reset();
                    }
                    _ => {
                        peer.send(&frame).await.expect("the socket takes it");
                        let answer = within("an answer", Duration::from_secs(10), peer.answer());
                        let answer = answer.await.expect("it is not cut off");
                        note(format_args!("{number} is served: {}", answer.is_some()));
                        assert!(answer.is_some(), "who waits is answered");
                    }
                }
            }));
        }
        for one in storm {
            one.await.expect("each is answered or leaves");
        }
        finish(&broker).await;
    })
    .await;
}

/// Nothing of its clients is left with the broker, and it stops.
async fn finish(broker: &Broker) {
    broker.at_rest().await;
    let metrics = broker.node().expect("it runs").metrics();
    assert!(metrics.contains("\nmainspring_connections 0\n"), "{metrics}");
    broker.stop();
    broker.stopped().await;
}
