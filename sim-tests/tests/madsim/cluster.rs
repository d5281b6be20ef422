//! Three brokers of the real network code as one cluster: they form it, replicate, and fail over while their
//! processes are killed, their power is cut, and the network between them is.

use std::time::Duration;

use madsim::net::NetSim;
use madsim::runtime::Handle;
use mainspring_core::client::admin::{Admin, create_topic};
use mainspring_net::client::Driver;
use mainspring_sim::rng::{Rng, Stream};

use crate::broker::{Broker, Setup, client, network_of};
use crate::groups::{call, result_of};
use crate::kills::{TOPIC, produce};
use crate::log::Ledger;
use crate::run::{note, reach, run};

const NODES: u8 = 3;
const RECORDS: usize = 100;
const STRIKES: usize = 5;
/// Longest time of a call of the administrator.
const CALL: Duration = Duration::from_secs(20);

#[madsim::test]
async fn three_brokers_lose_and_double_nothing_over_kills_power_cuts_and_cut_networks() {
    run(async {
        let seed = Handle::current().seed();
        let mut rng = Rng::new(seed, Stream::Faults);
        let brokers: Vec<Broker> = (1..=NODES).map(|number| start(seed, number)).collect();
        let machine = client(1);
        machine.spawn(make_topic()).await.expect("the topic is made");
        let ledger = Ledger::default();
        let workload = Rng::new(seed, Stream::Workload);
        let sending =
            machine.spawn(produce(network_of(NODES), (1, RECORDS), workload, ledger.clone()));
        for _ in 0..STRIKES {
            madsim::time::sleep(Duration::from_millis(rng.between(100, 3000))).await;
            let struck = &brokers[rng.index(brokers.len())];
            match rng.below(4) {
                0 => {
                    reach("nodes that were cut off", 1);
                    cut_off(struck, &brokers, Duration::from_millis(rng.between(10, 6000))).await;
                }
                1 => {
                    reach("power cuts of all at once", 1);
                    for broker in &brokers {
                        broker.crash(true).await;
                    }
                }
                _ => {
                    reach("nodes that were killed", 1);
                    struck.kill(rng.chance(500)).await;
                    madsim::time::sleep(Duration::from_millis(rng.below(5000))).await;
                    struck.restart();
                }
            }
        }
        sending.await.expect("the producer ends");
        assert_eq!(ledger.count(), RECORDS, "every record is delivered in the end");
        // Whatever was acknowledged survives one more cut of all of them, too.
        for broker in &brokers {
            broker.crash(true).await;
        }
        let reading = async move { ledger.check_over(network_of(NODES), TOPIC).await };
        machine.spawn(reading).await.expect("the log is in order");
        for broker in &brokers {
            broker.kill(false).await;
        }
    })
    .await;
}

fn start(seed: u64, number: u8) -> Broker {
    Broker::start(seed, Setup { seat: Some((number, NODES)), ..Setup::default() })
}

/// Cuts a node off from the others, not from clients.
async fn cut_off(struck: &Broker, brokers: &[Broker], time: Duration) {
    note(format_args!("a node is cut off for {time:?}"));
    let net = NetSim::current();
    let one = struck.machine().id();
    let others = || brokers.iter().map(|broker| broker.machine().id()).filter(|id| *id != one);
    for other in others() {
        net.clog_link(one, other);
        net.clog_link(other, one);
    }
    madsim::time::sleep(time).await;
    for other in others() {
        net.unclog_link(one, other);
        net.unclog_link(other, one);
    }
}

/// Makes the topic, once there is a cluster.
async fn make_topic() {
    let mut driver = Driver::new(Admin::new(network_of(NODES), CALL));
    loop {
        let request = create_topic(TOPIC, 1, i16::from(NODES), &[], CALL);
        // Nobody may serve yet, or too few to hold the topic; and a call without an answer may have made it.
        match call(&mut driver, request).await.as_ref().map(result_of) {
            Some(0 | 36) => break,
            other => note(format_args!("no topic yet: {other:?}")),
        }
        madsim::time::sleep(Duration::from_millis(100)).await;
    }
    driver.drained().await;
}
