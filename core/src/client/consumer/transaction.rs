//! What a consumer does for a producer that commits what was read in transactions.

use std::collections::BTreeSet;

use super::{Consumer, Pending, no_group};
use crate::client::ClientError;
use crate::client::group::GroupMember;
use crate::client::producer::accumulator::Place;
use crate::error::ErrorCode;
use crate::time::Now;

impl Consumer {
    /// Returns as whom offsets of these partitions are stored in a transaction. From then on nothing is
    /// stored automatically: it could be an offset of what no transaction has committed.
    ///
    /// # Errors
    /// `REBALANCE_IN_PROGRESS` 27 where one of the partitions is not held, or was lost and nobody was
    /// told of that yet: others may have read on in it. Without a group `INVALID_GROUP_ID` 24.
    pub fn transaction_member<'a>(
        &mut self,
        places: impl IntoIterator<Item = &'a Place>,
    ) -> Result<GroupMember, ClientError> {
        let member = self.group_member().ok_or_else(no_group)?;
        self.config.auto_commit = None;
        self.auto_commit_at = None;
        // One that was lost and came back is another holding, and what was read belongs to the first.
        let is_held = |place: &Place| self.held.contains_key(place) && !self.is_lost_untold(place);
        if !places.into_iter().all(is_held) {
            return Err(ClientError::Broker(ErrorCode::RebalanceInProgress));
        }
        Ok(member)
    }

    /// Goes back to the stored offsets of all partitions that are held, as if they had been given right
    /// now. What the last event told of them counts no more.
    ///
    /// # Errors
    /// Without a group there are none: `INVALID_GROUP_ID` 24.
    pub fn rewind(&mut self, now: Now) -> Result<(), ClientError> {
        if self.group.is_none() {
            return Err(no_group());
        }
        let places = self.assignment();
        if matches!(self.told, Some(Pending::Records(..))) {
            self.told = None;
        }
        let is_paused = |place: &&Place| self.held.get(*place).is_some_and(|held| held.is_paused);
        let paused: BTreeSet<Place> = places.iter().filter(is_paused).cloned().collect();
        for (topic, partition) in &places {
            self.fetcher.unassign(topic, *partition);
        }
        self.ask_for_stored(now, places);
        self.pause(&paused);
        self.drive(now);
        Ok(())
    }
}
