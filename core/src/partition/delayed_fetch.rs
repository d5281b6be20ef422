//! Fetches that wait at a partition for more bytes.

use std::collections::BTreeMap;

use crate::broker::post::{FetchItem, FetchRefusal};
use crate::connection::RequestId;
use crate::ids::ShardId;
use crate::partition::leader::Waiter;

/// Who is told when more can be read.
pub type Watcher = (ShardId, RequestId);

/// The fetches that wait at one partition.
#[derive(Clone, Default, Debug)]
pub struct DelayedFetches {
    watches: BTreeMap<Watcher, FetchItem>,
}

impl DelayedFetches {
    /// Remembers a fetch.
    pub fn watch(&mut self, watcher: Watcher, item: FetchItem) {
        self.watches.insert(watcher, item);
    }

    /// Forgets a fetch.
    pub fn unwatch(&mut self, watcher: Watcher) {
        self.watches.remove(&watcher);
    }

    /// Returns whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Returns how many wait.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// Returns whom to tell of what has become readable, which is remembered in each.
    pub fn news(
        &mut self,
        readable: impl Fn(&FetchItem) -> Result<u64, FetchRefusal>,
    ) -> Vec<(Waiter, Result<u64, FetchRefusal>)> {
        let mut news = Vec::new();
        for (&(shard, request), item) in &mut self.watches {
            let readable = readable(item);
            if readable != Ok(item.known_readable) {
                item.known_readable = readable.unwrap_or(0);
                news.push((Waiter { shard, request, index: item.index }, readable));
            }
        }
        news
    }

    /// Goes through all that wait; what is readable is remembered in each.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Watcher, &mut FetchItem)> {
        self.watches.iter_mut().map(|(&watcher, item)| (watcher, item))
    }
}
