//! The shipped producer over the real network code while the broker's process is killed and its power
//! cut, and while the network between them is: nothing acknowledged is lost, nothing stands twice, and
//! everything is delivered in the end.

use std::time::Duration;

use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle};
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::client::producer::{NewRecord, Producer, ProducerConfig};
use mainspring_core::ids::PartitionIndex;
use mainspring_core::wire::KafkaString;
use mainspring_net::client::Driver;
use mainspring_sim::rng::{Rng, Stream};

use crate::broker::{Broker, Setup, client, network};
use crate::log::{Ledger, value};
use crate::run::{note, run};

pub(crate) const TOPIC: KafkaString = KafkaString::from_static("t");
const RECORDS: usize = 300;
const CRASHES: usize = 6;
const CUTS: usize = 8;
/// Records on their way at the same time.
const AHEAD: usize = 30;

#[madsim::test]
async fn nothing_acknowledged_is_lost_or_doubled_over_kills_and_power_cuts() {
    run(async {
        let seed = Handle::current().seed();
        let broker = Broker::start(seed, Setup::default());
        let machine = client(1);
        let mut rng = Rng::new(seed, Stream::Faults);
        let ledger = Ledger::default();
        let rng_of_client = Rng::new(seed, Stream::Workload);
        let sending =
            machine.spawn(produce(network(), (1, RECORDS), rng_of_client, ledger.clone()));
        for _ in 0..CRASHES {
            madsim::time::sleep(Duration::from_millis(rng.between(200, 3000))).await;
            broker.crash(rng.chance(500)).await;
        }
        sending.await.expect("the producer ends");
        assert_eq!(ledger.count(), RECORDS, "every record is delivered in the end");
        // Whatever was acknowledged survives one more cut, too.
        broker.crash(true).await;
        finish(&broker, &machine, ledger).await;
    })
    .await;
}

#[madsim::test]
async fn a_cut_network_delays_and_loses_and_doubles_nothing() {
    run(async {
        let seed = Handle::current().seed();
        let broker = Broker::start(seed, Setup::default());
        let machines = [client(1), client(2)];
        let mut rng = Rng::new(seed, Stream::Faults);
        let ledger = Ledger::default();
        let mut sending = Vec::new();
        for (machine, number) in machines.iter().zip(1..) {
            let rng = Rng::new(seed, Stream::Node(number));
            sending.push(machine.spawn(produce(
                network(),
                (u64::from(number), RECORDS),
                rng,
                ledger.clone(),
            )));
        }
        let net = NetSim::current();
        for _ in 0..CUTS {
            madsim::time::sleep(Duration::from_millis(rng.between(50, 2000))).await;
            let one = machines[rng.index(machines.len())].id();
            let other = broker.machine().id();
            let ways = [vec![(one, other)], vec![(other, one)], vec![(one, other), (other, one)]];
            let ways = &ways[rng.index(ways.len())];
            note(format_args!("cut {ways:?}"));
            for (from, to) in ways {
                net.clog_link(*from, *to);
            }
            let most = if rng.chance(500) { 100 } else { 6000 };
            madsim::time::sleep(Duration::from_millis(rng.between(1, most))).await;
            for (from, to) in ways {
                net.unclog_link(*from, *to);
            }
        }
        for one in sending {
            one.await.expect("the producer ends");
        }
        assert_eq!(ledger.count(), 2 * RECORDS, "every record is delivered in the end");
        finish(&broker, &machines[0], ledger).await;
    })
    .await;
}

/// Reads everything, and stops the broker, which holds nothing of its clients then.
async fn finish(broker: &Broker, machine: &NodeHandle, ledger: Ledger) {
    let reading = async move { ledger.check(TOPIC).await };
    machine.spawn(reading).await.expect("the log is in order");
    broker.at_rest().await;
    broker.stop();
    broker.stopped().await;
}

/// Sends so many records, and notes where each was acknowledged.
pub(crate) async fn produce(
    mut network: NetworkConfig,
    (number, records): (u64, usize),
    mut rng: Rng,
    ledger: Ledger,
) {
    network.request_timeout = Duration::from_secs(2);
    let config = ProducerConfig {
        delivery_timeout: Duration::from_mins(10),
        ..ProducerConfig::new(network)
    };
    let mut driver = Driver::new(Producer::new(config));
    let mut tickets = Vec::new();
    let mut acknowledged = 0;
    while acknowledged < records {
        let now = driver.now();
        if tickets.len() < records && tickets.len() - acknowledged < AHEAD {
            let value = value(number, tickets.len());
            ledger.sent(&value);
            let record = NewRecord {
                topic: TOPIC,
                partition: Some(PartitionIndex(0)),
                value: Some(value),
                ..NewRecord::default()
            };
            tickets.push(driver.machine().send(now, record).expect("there is room"));
            let pause = Duration::from_millis(rng.below(60));
            driver.turn(Some(now.mono + pause)).await;
        } else {
            driver.turn(None).await;
        }
        while let Some(delivery) = driver.machine().poll_delivery() {
            let index = tickets.iter().position(|ticket| *ticket == delivery.ticket);
            let index = index.expect("only what was sent is reported");
            let offset = delivery.result.expect("it is delivered before its time is up");
            let offset = offset.expect("acks=all tells the offset");
            ledger.acknowledged(offset.0, &value(number, index));
            acknowledged += 1;
        }
    }
}
