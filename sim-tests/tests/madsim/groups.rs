//! The shipped consumer as a member of a group, and the administrator, over kills of the broker and of
//! members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use madsim::runtime::{Handle, NodeHandle};
use madsim::task::JoinHandle;
use mainspring_core::client::admin::{
    Admin, AdminTarget, create_topic, delete_topic, describe_topics,
};
use mainspring_core::client::consumer::{Consumer, ConsumerConfig, ConsumerEvent};
use mainspring_core::client::fetcher::Start;
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::client::producer::{NewRecord, Producer, ProducerConfig};
use mainspring_core::ids::PartitionIndex;
use mainspring_core::wire::{KafkaString, Request, Response};
use mainspring_net::client::Driver;
use mainspring_sim::rng::{Rng, Stream};

use crate::broker::{Broker, Setup, client, network};
use crate::log::value;
use crate::run::{note, reach, run, until, within};

const TOPIC: KafkaString = KafkaString::from_static("work");
const GROUP: KafkaString = KafkaString::from_static("workers");
const PARTITIONS: i32 = 4;
const RECORDS: usize = 120;
/// Longest time of one call of the administrator.
const CALL: Duration = Duration::from_secs(20);

#[madsim::test]
async fn a_group_works_on_every_record_over_kills_of_brokers_and_members() {
    run(async {
        let seed = Handle::current().seed();
        let mut rng = Rng::new(seed, Stream::Faults);
        let broker = Broker::start(seed, Setup::default());
        let producing = client(1);
        producing.spawn(make_topic()).await.expect("the topic is made");
        let crew = Crew::default();
        let mut machines: Vec<(u8, NodeHandle, JoinHandle<()>)> = Vec::new();
        for number in 10..13 {
            machines.push(join(number, &crew));
        }
        let sending = producing.spawn(produce(Rng::new(seed, Stream::Workload), crew.clone()));
        for step in 0..5 {
            madsim::time::sleep(Duration::from_millis(rng.between(100, 4000))).await;
            match rng.below(4) {
                // A member vanishes with its machine, and another comes.
                0 => {
                    let (number, machine, _) = machines.remove(rng.index(machines.len()));
                    note(format_args!("member {number} dies"));
                    reach("members that died", 1);
                    Handle::current().kill(machine.id());
                    crew.lock().owned.remove(&number);
                    machines.push(join(20 + step, &crew));
                }
                // A member leaves in good order.
                1 if machines.len() > 1 => {
                    let (number, _, member) = machines.remove(rng.index(machines.len()));
                    note(format_args!("member {number} leaves"));
                    crew.lock().leaving.insert(number);
                    within("leaving", Duration::from_mins(2), member).await.expect("it leaves");
                }
                2 => machines.push(join(30 + step, &crew)),
                _ => broker.crash(rng.chance(500)).await,
            }
        }
        sending.await.expect("everything is sent");
        until("every record is worked on", || crew.unseen() == 0).await;
        let living: BTreeSet<u8> = machines.iter().map(|(number, ..)| *number).collect();
        until("each partition has one owner", || crew.is_shared_out(&living)).await;
        // What a member that died had not stored is worked on again.
        let ends = crew.lock().ends.clone();
        let storing = producing.spawn(async move {
            while committed().await != ends {
                madsim::time::sleep(Duration::from_millis(200)).await;
            }
        });
        within("storing what was worked on", Duration::from_mins(1), storing)
            .await
            .expect("it is stored");
        crew.lock().leaving.extend(&living);
        for (_, _, member) in machines {
            within("leaving", Duration::from_mins(2), member).await.expect("it leaves");
        }
        let asking = producing.spawn(committed()).await.expect("it is told");
        let ends = crew.lock().ends.clone();
        assert_eq!(asking, ends, "what was worked on is what is stored");
        broker.at_rest().await;
        broker.stop();
        broker.stopped().await;
    })
    .await;
}

/// What the members of a group and their producer know together.
#[derive(Clone, Default)]
struct Crew(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Where each value was stored.
    stored: BTreeMap<(i32, i64), Bytes>,
    seen: BTreeSet<(i32, i64)>,
    owned: BTreeMap<u8, BTreeSet<Place>>,
    leaving: BTreeSet<u8>,
    /// The offset behind the last record of each partition.
    ends: BTreeMap<i32, i64>,
}

impl Crew {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nothing panics while it holds what is known")
    }

    fn unseen(&self) -> usize {
        let known = self.lock();
        known.stored.keys().filter(|place| !known.seen.contains(place)).count()
    }

    fn is_shared_out(&self, living: &BTreeSet<u8>) -> bool {
        let known = self.lock();
        let owned: Vec<&Place> = known
            .owned
            .iter()
            .filter(|(number, _)| living.contains(number))
            .flat_map(|(_, places)| places)
            .collect();
        let different: BTreeSet<&Place> = owned.iter().copied().collect();
        owned.len() == different.len() && owned.len() == PARTITIONS as usize
    }

    /// Notes a record that a member was given.
    fn see(&self, place: &Place, offset: i64, value: &[u8]) {
        let mut known = self.lock();
        let at = (place.1.0, offset);
        if let Some(stored) = known.stored.get(&at) {
            assert!(&stored[..] == value, "{at:?} holds another record than was stored there");
        }
        let is_new = known.seen.insert(at);
        reach("records worked on", usize::from(is_new));
        reach("records worked on again", usize::from(!is_new));
        let end = known.ends.entry(at.0).or_default();
        *end = (*end).max(offset + 1);
    }
}

fn join(number: u8, crew: &Crew) -> (u8, NodeHandle, JoinHandle<()>) {
    note(format_args!("member {number} joins"));
    let machine = client(number);
    let member = machine.spawn(member(number, crew.clone()));
    (number, machine, member)
}

async fn member(number: u8, crew: Crew) {
    let mut config = ConsumerConfig::new(quick_network(), Some(GROUP));
    config.fetcher.reset = Some(Start::Earliest);
    config.auto_commit = Some(Duration::from_secs(1));
    if let Some(group) = &mut config.group {
        group.session_timeout = Duration::from_secs(8);
        group.heartbeat_interval = Duration::from_secs(1);
        group.rebalance_timeout = Duration::from_secs(15);
    }
    let mut driver = Driver::new(Consumer::new(config));
    let now = driver.now();
    driver.machine().subscribe(now, BTreeSet::from([TOPIC]));
    loop {
        let now = driver.now();
        let event = driver.machine().poll_event(now);
        // Asked for something new and given nothing, everything before it counts as worked on.
        if event.is_none() && crew.lock().leaving.contains(&number) {
            driver.machine().close(now);
        }
        match event {
            Some(ConsumerEvent::Records { place, records, .. }) => {
                note(format_args!("{number} reads {} of {}", records.len(), place.1));
                for record in &records {
                    crew.see(&place, record.offset.0, record.value.expect("values were sent"));
                }
            }
            Some(ConsumerEvent::Assigned { owned, .. }) => {
                note(format_args!("{number} has {}", owned.len()));
                reach("assignments", 1);
                crew.lock().owned.insert(number, owned);
            }
            Some(ConsumerEvent::Revoked(gone) | ConsumerEvent::Lost(gone)) => {
                let mut known = crew.lock();
                let owned = known.owned.entry(number).or_default();
                owned.retain(|place| !gone.contains(place));
            }
            Some(ConsumerEvent::Closed) => {
                crew.lock().owned.remove(&number);
                driver.drained().await;
                return;
            }
            Some(
                ConsumerEvent::Failed(error)
                | ConsumerEvent::PartitionFailed { error, .. }
                | ConsumerEvent::TopicFailed { error, .. },
            ) => {
                panic!("a member goes on: {error}")
            }
            Some(ConsumerEvent::Committed { .. } | ConsumerEvent::Fetched { .. }) => {}
            None => driver.turn(Some(now.mono + Duration::from_millis(50))).await,
        }
    }
}

/// Sends records to all partitions, and notes where each was stored.
async fn produce(mut rng: Rng, crew: Crew) {
    let config = ProducerConfig {
        delivery_timeout: Duration::from_mins(10),
        ..ProducerConfig::new(quick_network())
    };
    let mut driver = Driver::new(Producer::new(config));
    let mut waiting = BTreeMap::new();
    let mut sent = 0;
    while sent < RECORDS || !waiting.is_empty() {
        let now = driver.now();
        let mut wake = None;
        if sent < RECORDS && waiting.len() < 20 {
            let partition = rng.below(PARTITIONS as u64) as i32;
            let value = value(1, sent);
            sent += 1;
            let record = NewRecord {
                topic: TOPIC,
                partition: Some(PartitionIndex(partition)),
                value: Some(value.clone()),
                ..NewRecord::default()
            };
            let ticket = driver.machine().send(now, record).expect("there is room");
            waiting.insert(ticket, (partition, value));
            wake = Some(now.mono + Duration::from_millis(rng.below(150)));
        }
        driver.turn(wake).await;
        while let Some(delivery) = driver.machine().poll_delivery() {
            let (partition, value) = waiting.remove(&delivery.ticket).expect("it was sent");
            let offset = delivery.result.expect("it is delivered before its time is up");
            let offset = offset.expect("acks=all tells the offset");
            crew.lock().stored.insert((partition, offset.0), value);
        }
    }
    driver.drained().await;
}

/// Asks what is stored for the group.
async fn committed() -> BTreeMap<i32, i64> {
    let mut driver = Driver::new(Consumer::new(ConsumerConfig::new(quick_network(), Some(GROUP))));
    let places: BTreeSet<Place> =
        (0..PARTITIONS).map(|index| (TOPIC, PartitionIndex(index))).collect();
    let now = driver.now();
    driver.machine().committed(now, places).expect("there is a group");
    loop {
        driver.turn(None).await;
        if let Some(ConsumerEvent::Fetched { results, .. }) = driver.machine().poll_answer() {
            driver.drained().await;
            return results
                .into_iter()
                .filter_map(|((_, partition), stored)| {
                    let stored = stored.expect("the group answers")?;
                    Some((partition.0, stored.offset.0))
                })
                .collect();
        }
    }
}

async fn make_topic() {
    let mut driver = administrator();
    let request = create_topic(TOPIC, PARTITIONS, 1, &[], CALL);
    let made = call(&mut driver, request).await.expect("the broker is up");
    assert_eq!(result_of(&made), 0);
    driver.drained().await;
}

#[madsim::test]
async fn topics_are_as_the_administrator_was_told_over_kills() {
    run(async {
        let seed = Handle::current().seed();
        let mut rng = Rng::new(seed, Stream::Faults);
        let broker = Broker::start(seed, Setup::default());
        let machine = client(1);
        let working = machine.spawn(administrate(Rng::new(seed, Stream::Workload)));
        for _ in 0..5 {
            madsim::time::sleep(Duration::from_millis(rng.between(20, 1500))).await;
            broker.crash(rng.chance(500)).await;
        }
        let told = working.await.expect("every call is answered");
        broker.crash(true).await;
        let there = machine.spawn(topics()).await.expect("it is told");
        for (name, is_there) in &told {
            let found = there.contains(name);
            assert!(is_there.is_none_or(|told| told == found), "{name} is there: {found}");
        }
        broker.at_rest().await;
        broker.stop();
        broker.stopped().await;
    })
    .await;
}

/// Makes and deletes topics, and returns of each whether it must be there, where that is known.
async fn administrate(mut rng: Rng) -> BTreeMap<String, Option<bool>> {
    let mut driver = administrator();
    let mut told: BTreeMap<String, Option<bool>> = BTreeMap::new();
    for _ in 0..40 {
        let name = format!("topic-{}", rng.below(8));
        let topic = KafkaString::from(name.as_str());
        let before = told.get(&name).copied().unwrap_or(Some(false));
        let makes = rng.chance(600);
        let outcome = if makes {
            call(&mut driver, create_topic(topic, 2, 1, &[], CALL)).await
        } else {
            call(&mut driver, delete_topic(&topic, CALL)).await
        };
        let code = outcome.as_ref().map(result_of);
        note(format_args!("{name} made {makes}: {code:?}"));
        reach("topics made or deleted", usize::from(code == Some(0)));
        reach("calls of which nobody knows", usize::from(code.is_none()));
        // TOPIC_ALREADY_EXISTS and UNKNOWN_TOPIC_OR_PARTITION tell how it is, too.
        let after = match (makes, code) {
            (true, Some(0 | 36)) => Some(true),
            (false, Some(0 | 3)) => Some(false),
            _ => None,
        };
        if let (Some(before), Some(code)) = (before, code) {
            let expected = if before { [36, 0] } else { [0, 3] };
            let expected = expected[usize::from(!makes)];
            assert!(code == expected || after.is_none(), "{name}: {code}, was there: {before}");
        }
        told.insert(name, after);
        let pause = driver.now().mono + Duration::from_millis(rng.below(200));
        while driver.now().mono < pause {
            driver.turn(Some(pause)).await;
        }
    }
    driver.drained().await;
    told
}

async fn topics() -> BTreeSet<String> {
    let mut driver = administrator();
    let all = loop {
        if let Some(Response::Metadata(all)) = call(&mut driver, describe_topics(None)).await {
            break all;
        }
    };
    driver.drained().await;
    all.topics.into_iter().filter_map(|topic| Some(topic.name?.as_str().to_owned())).collect()
}

fn administrator() -> Driver<Admin> {
    Driver::new(Admin::new(quick_network(), CALL))
}

/// Makes one call; `None` where nobody can say what became of it.
pub(crate) async fn call(
    driver: &mut Driver<Admin>,
    request: impl Into<Request>,
) -> Option<Response> {
    let now = driver.now();
    let id = driver.machine().call(now, AdminTarget::Controller, request);
    loop {
        driver.turn(None).await;
        if let Some((answered, outcome)) = driver.machine().poll_answer() {
            assert_eq!(answered, id, "one call is made at a time");
            return outcome.ok();
        }
    }
}

/// Returns the error code of the one topic that a call was about.
pub(crate) fn result_of(response: &Response) -> i16 {
    match response {
        Response::CreateTopics(made) => made.topics[0].error_code,
        Response::DeleteTopics(deleted) => deleted.responses[0].error_code,
        other => panic!("{other:?} answers something else"),
    }
}

/// A network on which a lost broker is noticed soon.
fn quick_network() -> mainspring_core::client::network::NetworkConfig {
    let mut network = network();
    network.request_timeout = Duration::from_secs(5);
    network
}
