//! Bytes on a connection: in pieces, pipelined, not read, cut off, and not of the protocol.

use std::time::Duration;

use madsim::runtime::Handle;
use mainspring_core::wire::ApiKey;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use mainspring_core::wire::api::fetch::FetchResponse;
use mainspring_core::wire::api::metadata::MetadataResponse;
use mainspring_sim::rng::{Rng, Stream};

use crate::broker::{Broker, Setup, client};
use crate::log::{Ledger, value};
use crate::peer::{
    FETCH_VERSION, METADATA_VERSION, PRODUCE_VERSION, Peer, TOPIC, fetch, metadata, produce,
    stored_at,
};
use crate::run::{note, run, within};

const TOPIC_NAME: KafkaString = KafkaString::from_static(TOPIC);

#[madsim::test]
async fn pipelined_requests_in_pieces_are_answered_in_order() {
    run(async {
        let seed = Handle::current().seed();
        let broker = Broker::start(seed, Setup::default());
        broker.ready().await;
        let machine = client(1);
        make_topic(&machine).await;
        let ledger = Ledger::default();
        let mut peers = Vec::new();
        for number in 1..=3 {
            let rng = Rng::new(seed, Stream::Node(number));
            peers.push(machine.spawn(pipeline(u64::from(number), rng, ledger.clone())));
        }
        for peer in peers {
            let exchange = within("the answers", Duration::from_mins(5), peer);
            exchange.await.expect("all of them are answered");
        }
        let checking = async move { ledger.check(TOPIC_NAME).await };
        machine.spawn(checking).await.expect("the log is in order");
        finish(&broker).await;
    })
    .await;
}

/// Sends a mixture of requests in any pieces and reads their answers meanwhile.
async fn pipeline(number: u64, mut rng: Rng, ledger: Ledger) {
    let mut peer = Peer::connect().await.expect("it listens");
    let mut bytes = Vec::new();
    let mut values = std::collections::BTreeMap::new();
    for index in 0..40 {
        let (id, frame) = match rng.below(6) {
            0 => peer.frame(&ApiVersionsRequest::default(), 0),
            1 => peer.frame(&metadata(), METADATA_VERSION),
            2 => peer.frame(&fetch(0, 1, 50), FETCH_VERSION),
            _ => {
                let value = value(number, index);
                ledger.sent(&value);
                let asked = peer.frame(&produce(&value), PRODUCE_VERSION);
                values.insert(asked.0, value);
                asked
            }
        };
        note(format_args!("{number} asks {id}"));
        bytes.extend_from_slice(&frame);
    }
    let answers = peer.exchange(&bytes, &mut rng).await.expect("the connection stands");
    for answer in answers {
        note(format_args!("{number} is answered {}", answer.correlation));
        match answer.api {
            ApiKey::ApiVersions => {
                let body: ApiVersionsResponse = answer.body();
                assert_eq!(body.error_code, 0);
            }
            ApiKey::Metadata => {
                let body: MetadataResponse = answer.body();
                assert_eq!(body.topics[0].name, Some(TOPIC_NAME));
            }
            ApiKey::Fetch => {
                let body: FetchResponse = answer.body();
                assert_eq!((body.error_code, body.responses.len()), (0, 1));
            }
            _ => {
                let value = &values[&answer.correlation];
                ledger.acknowledged(stored_at(answer).expect("there is room"), value);
            }
        }
    }
}

#[madsim::test]
async fn a_slow_reader_gets_every_answer_and_holds_up_nobody() {
    run(async {
        let seed = Handle::current().seed();
        let broker = Broker::start(seed, Setup::default());
        broker.ready().await;
        let machine = client(1);
        make_topic(&machine).await;
        let filling = machine.spawn(async {
            let mut peer = Peer::connect().await.expect("it listens");
            for _ in 0..4 {
                let large = vec![b'x'; 40_000];
                peer.ask(&produce(&large), PRODUCE_VERSION).await.expect("it is sent");
                let answer = peer.answer().await.expect("the connection stands");
                stored_at(answer.expect("it is answered")).expect("there is room");
            }
        });
        filling.await.expect("the topic holds something");
        let slow = machine.spawn(async move {
            let mut rng = Rng::new(seed, Stream::Workload);
            let mut peer = Peer::connect().await.expect("it listens");
            let mut bytes = Vec::new();
            for _ in 0..25 {
                bytes.extend_from_slice(&peer.frame(&fetch(0, 1, 100), FETCH_VERSION).1);
            }
            let asked = peer.owed();
            // Nothing is read while the answers come: more of them than the window takes.
            peer.send(&bytes).await.expect("the socket takes it");
            for read in 0..asked {
                madsim::time::sleep(Duration::from_millis(rng.below(400))).await;
                let answer = within("an answer", Duration::from_mins(1), peer.answer()).await;
                let answer = answer.expect("the connection stands").expect("all are answered");
                note(format_args!("slow answer {read}"));
                let body: FetchResponse = answer.body();
                let records = body.responses[0].partitions[0].records.as_ref();
                assert!(records.is_some(), "there is something to be read");
            }
        });
        let lively = client(2).spawn(async {
            let mut peer = Peer::connect().await.expect("it listens");
            for _ in 0..20 {
                assert!(within("an answer", Duration::from_secs(1), peer.is_served()).await);
                madsim::time::sleep(Duration::from_millis(150)).await;
            }
        });
        lively.await.expect("others are served meanwhile");
        slow.await.expect("the slow one gets everything");
        finish(&broker).await;
    })
    .await;
}

#[madsim::test]
async fn garbage_and_broken_frames_end_their_own_connection_alone() {
    run(async {
        let seed = Handle::current().seed();
        let broker = Broker::start(seed, Setup::default());
        broker.ready().await;
        let machine = client(1);
        make_topic(&machine).await;
        let mut hostile = Vec::new();
        for number in 0..12 {
            let mut rng = Rng::new(seed, Stream::Node(number));
            hostile.push(machine.spawn(async move {
                let mut peer = Peer::connect().await.expect("it listens");
                let mut bytes = match number % 4 {
                    // A size that cannot be, and one that is too large.
                    0 => (-1 - rng.below(1 << 30) as i32).to_be_bytes().to_vec(),
                    1 => i32::MAX.to_be_bytes().to_vec(),
                    // A request in good order but for some of its bits.
                    2 => {
                        let value = value(number.into(), 5);
                        let mut frame = peer.frame(&produce(&value), PRODUCE_VERSION).1.to_vec();
                        for _ in 0..rng.between(1, 4) {
                            let at = rng.between(4, 11) as usize;
                            frame[at] ^= 1 << rng.below(8);
                        }
                        frame
                    }
                    // A whole frame of anything.
                    _ => {
                        let size = rng.between(1, 200) as usize;
                        let mut frame = (size as u32).to_be_bytes().to_vec();
                        frame.extend((0..size).map(|_| rng.bits() as u8));
                        frame
                    }
                };
                if rng.chance(500) {
                    bytes.extend((0..rng.below(3000)).map(|_| rng.bits() as u8));
                }
                // What comes back is not looked at: bits may have changed what it answers.
                let _ = peer.send(&bytes).await;
                madsim::time::sleep(Duration::from_millis(rng.below(3000))).await;
                if rng.chance(500) {
                    peer.reset();
                }
            }));
        }
        let lively = client(2).spawn(async {
            let mut peer = Peer::connect().await.expect("it listens");
            for _ in 0..20 {
                assert!(within("an answer", Duration::from_secs(1), peer.is_served()).await);
                madsim::time::sleep(Duration::from_millis(150)).await;
            }
        });
        lively.await.expect("others are served meanwhile");
        for one in hostile {
            one.await.expect("it ends");
        }
        finish(&broker).await;
    })
    .await;
}

async fn make_topic(machine: &madsim::runtime::NodeHandle) {
    let making = machine.spawn(async {
        let mut peer = Peer::connect().await.expect("it listens");
        peer.make_topic().await.expect("the topic is made");
    });
    making.await.expect("the topic is there");
}

/// Nothing of its clients is left with the broker, and it stops.
async fn finish(broker: &Broker) {
    broker.at_rest().await;
    broker.stop();
    broker.stopped().await;
}
