//! What a disk holds for somebody who starts on it: each image is recovered once, and remembered.

use std::collections::BTreeMap;
use std::rc::Rc;

use mainspring_core::ids::{ShardId, TopicPartition};
use mainspring_core::log::LogConfig;

use super::search::Broken;
use crate::disk::SimDisk;
use crate::log_bench::{Content, LogBench, Stop};

/// The records of every log that a start on an image serves.
pub(super) type Contents = BTreeMap<TopicPartition, Content>;

/// What is known of images, by their hashes.
#[derive(Default)]
pub(super) struct Images {
    known: BTreeMap<u64, Rc<Contents>>,
    /// Recoveries of what a recovery had made durable.
    pub(super) second_recoveries: u64,
}

impl Images {
    /// Returns how many different images were recovered.
    pub(super) fn recovered(&self) -> u64 {
        self.known.len() as u64
    }

    /// Returns what a start on this disk serves; recovering what that start has made durable serves the
    /// same.
    ///
    /// # Errors
    /// [`Broken`] where a start fails, or the second one serves something else.
    pub(super) fn contents(
        &mut self,
        image: &SimDisk,
        config: &LogConfig,
        shards: u16,
    ) -> Result<Rc<Contents>, Broken> {
        let key = image.state_hash();
        if let Some(known) = self.known.get(&key) {
            return Ok(Rc::clone(known));
        }
        let (first, durable) = recover(image.copy(), config, shards)?;
        let (again, _) = recover(durable, config, shards)?;
        self.second_recoveries += 1;
        if first != again {
            let message = format!("a second recovery serves {again:?}, the first served {first:?}");
            return Err(Broken::new("I16", message));
        }
        let contents = Rc::new(first);
        self.known.insert(key, Rc::clone(&contents));
        Ok(contents)
    }
}

/// Recovers the logs of all shards, and returns what they serve and what a power cut leaves then.
fn recover(
    mut disk: SimDisk,
    config: &LogConfig,
    shards: u16,
) -> Result<(Contents, SimDisk), Broken> {
    let mut contents = Contents::new();
    for shard in 0..shards {
        let config =
            LogConfig { shard: ShardId(shard), seed: u64::from(shard) + 77, ..config.clone() };
        let mut bench = LogBench::new(config, disk);
        let recovered = bench.recover(&mut |_| {});
        recovered.map_err(broken)?;
        let logs: Vec<TopicPartition> = bench.store.logs().map(|(id, _)| id).collect();
        for log in logs {
            contents.insert(log, bench.content(log).map_err(broken)?);
        }
        disk = bench.disk;
    }
    let durable = disk.durable_image();
    Ok((contents, durable))
}

fn broken(stop: Stop) -> Broken {
    match stop {
        Stop::Fatal(message) => Broken::new("I16", format!("a start gives up: {message}")),
        Stop::Panic(message) => Broken::new("I41", format!("a start panicked: {message}")),
        Stop::Stuck(message) => Broken::new("I41", message),
        Stop::Wrong(message) => Broken::new("I13", message),
    }
}
