//! What a topic holds, against what was sent to it and acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use mainspring_core::client::fetcher::{FetchEvent, Fetcher, FetcherConfig, Start};
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::ids::{Offset, PartitionIndex};
use mainspring_core::wire::KafkaString;
use mainspring_net::client::Driver;

use crate::broker::network;
use crate::run::{note, reach};

/// What clients have sent, and what they were told of it. Clients share it.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    sent: BTreeSet<Bytes>,
    acknowledged: BTreeMap<i64, Bytes>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().expect("nothing panics while it holds the ledger")
    }

    /// Notes a value that is about to be sent, once.
    pub(crate) fn sent(&self, value: &Bytes) {
        assert!(self.lock().sent.insert(value.clone()), "values are told apart");
    }

    /// Notes that a value was acknowledged at an offset.
    pub(crate) fn acknowledged(&self, offset: i64, value: &Bytes) {
        note(format_args!("acknowledged at {offset}"));
        reach("records acknowledged", 1);
        let before = self.lock().acknowledged.insert(offset, value.clone());
        assert!(before.is_none(), "offset {offset} was given out twice");
    }

    /// Returns how many values were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.lock().acknowledged.len()
    }

    /// Reads the topic, on the machine of the caller: what was acknowledged stands where it was told
    /// to, nothing stands twice, and nothing stands that was not sent.
    pub(crate) async fn check(&self, topic: KafkaString) {
        self.check_over(network(), topic).await;
    }

    /// The same, over other brokers.
    pub(crate) async fn check_over(&self, network: NetworkConfig, topic: KafkaString) {
        let read = read(network, topic).await;
        note(format_args!("read {} records", read.len()));
        reach("records read back", read.len());
        let entries = self.lock();
        let mut seen = BTreeSet::new();
        for (offset, value) in &read {
            assert!(entries.sent.contains(value), "offset {offset} holds what nobody sent");
            assert!(seen.insert(value), "the value at offset {offset} stands twice");
        }
        let at: BTreeMap<i64, &Bytes> = read.iter().map(|(at, value)| (at.0, value)).collect();
        for (offset, value) in &entries.acknowledged {
            assert!(at.get(offset) == Some(&value), "offset {offset} was acknowledged and is gone");
        }
    }
}

/// Makes a value that no other client makes, of a size that differs from one to the next.
pub(crate) fn value(client: u64, index: usize) -> Bytes {
    let mut value = format!("record {index} of {client} ").into_bytes();
    value.resize(value.len() + index * 7 % 900, b'.');
    value.into()
}

/// Reads a topic of one partition from its start until nothing comes for a while.
async fn read(network: NetworkConfig, topic: KafkaString) -> Vec<(Offset, Bytes)> {
    let mut driver = Driver::new(Fetcher::new(FetcherConfig::new(network)));
    let now = driver.now();
    driver.machine().assign(now, &topic, PartitionIndex(0), Start::Earliest);
    let mut read = Vec::new();
    let mut last = driver.now().mono;
    while driver.now().mono < last + Duration::from_secs(30) {
        let now = driver.now();
        let Some(event) = driver.machine().poll_event(now) else {
            driver.turn(None).await;
            continue;
        };
        match event {
            FetchEvent::Records { records, .. } => {
                read.extend(records.iter().map(|record| {
                    let value = record.value.expect("values were sent");
                    (record.offset, Bytes::copy_from_slice(value))
                }));
                last = now.mono;
            }
            FetchEvent::Failed { error, .. } => panic!("the topic is there: {error}"),
        }
    }
    driver.drained().await;
    read
}
