//! One pool of bytes for the unfinished frames of all connections of a shard.
//!
//! While it is full one connection goes on to the end of its frame, so that something is finished;
//! each of the others has a small share, so that small requests pass, and no more. What all hold is
//! bounded by the pool, one read, one frame, and the share of every connection.

use crate::broker::shard::Shard;
use crate::connection::{Connection, Pace};
use crate::ids::ConnectionId;

/// Whether the pool is full, and who goes on all the same.
#[derive(Clone, Copy, Default, Debug)]
pub(in crate::broker) struct ReceivePool {
    is_full: bool,
    favoured: Option<ConnectionId>,
    /// What all held when nobody was found to go on.
    nobody_at: usize,
}

impl Shard {
    /// Returns how much a connection may take in.
    pub(in crate::broker) fn pace(&self, id: ConnectionId) -> Pace {
        if self.phase.is_stopping() && !self.is_served_to_the_end(id) {
            Pace::Stopped
        } else if self.receive_pool.is_full && self.receive_pool.favoured != Some(id) {
            Pace::Shared
        } else {
            Pace::Free
        }
    }

    /// Takes note of how full the pool is. Returns whether connections are to be told.
    pub(in crate::broker) fn note_receive_pool(&mut self) -> bool {
        let (limit, was_full) = (self.limits().receive_pool_bytes, self.receive_pool.is_full);
        // Everybody is told when it changes, so it does not change with every frame.
        let is_full = self.received_bytes > if was_full { limit / 4 * 3 } else { limit };
        if is_full != was_full {
            self.receive_pool = ReceivePool { is_full, ..ReceivePool::default() };
            self.dirty.extend(self.connections.keys().copied());
        }
        let is_chosen = is_full && self.choose_receiver();
        is_full != was_full || is_chosen
    }

    /// Chooses who goes on, where the one before has finished. Returns whether one was chosen.
    fn choose_receiver(&mut self) -> bool {
        let ReceivePool { favoured, nobody_at, .. } = self.receive_pool;
        let goes_on = |id| self.connections.get(&id).is_some_and(Connection::is_receiving);
        if favoured.is_some_and(goes_on) || nobody_at == self.received_bytes {
            return false;
        }
        let largest = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_receiving())
            .max_by_key(|(_, connection)| connection.buffered_bytes())
            .map(|(&id, _)| id);
        self.dirty.extend(favoured);
        self.dirty.extend(largest);
        self.receive_pool.favoured = largest;
        self.receive_pool.nobody_at = if largest.is_none() { self.received_bytes } else { 0 };
        favoured.is_some() || largest.is_some()
    }
}
