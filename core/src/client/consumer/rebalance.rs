//! What follows from what the group says.

use std::collections::{BTreeMap, BTreeSet};

use super::{Consumer, ConsumerEvent, Held, Pending, Told};
use crate::client::ClientError;
use crate::client::fetcher::Start;
use crate::client::group::{Group, GroupEvent, OffsetsId, StoredOffset};
use crate::client::producer::accumulator::Place;
use crate::time::Now;

impl Consumer {
    pub(super) fn take_group_events(&mut self, now: Now) {
        while let Some(event) = self.group.as_mut().and_then(Group::poll_event) {
            match event {
                GroupEvent::Assigned { added, owned } => {
                    if !self.is_closing {
                        // What the group gives is asked for at once; whoever seeks is first.
                        self.ask_for_stored(now, added.clone());
                        self.tell(ConsumerEvent::Assigned { added, owned });
                    }
                }
                GroupEvent::Revoke { token, places } => {
                    let event = ConsumerEvent::Revoked(places);
                    self.events.push_back(Told { event, revocation: Some(token) });
                }
                GroupEvent::Lost(places) => self.on_lost(places),
                GroupEvent::Committed { id, results } => self.on_committed(id, results),
                GroupEvent::Fetched { id, results } => self.on_fetched(now, id, results),
                GroupEvent::Failed(error) => {
                    self.unassign_all();
                    self.tell(ConsumerEvent::Failed(error));
                }
                GroupEvent::Left => {
                    if self.is_closing && !self.is_closed {
                        self.end();
                    }
                }
            }
        }
    }

    /// Partitions are taken away: nothing more of them is read, and what is processed is stored.
    pub(super) fn begin_revocation(&mut self, now: Now, places: &BTreeSet<Place>) {
        self.store_automatically(now, true);
        for place in places {
            if let Some(held) = self.held.get_mut(place) {
                // Where reading stands is not asked of the fetcher any more.
                held.processed = held
                    .processed
                    .or_else(|| self.fetcher.told_to(&place.0, place.1).filter(|_| !held.was_told));
                held.is_revoked = true;
                self.fetcher.unassign(&place.0, place.1);
            }
        }
    }

    fn on_lost(&mut self, places: BTreeSet<Place>) {
        // What is still to be said or settled of them is settled: a partition that comes back is
        // another holding, which an earlier revocation must not end.
        match &mut self.told {
            Some(Pending::Records(place, _)) if places.contains(place) => self.told = None,
            Some(Pending::Revocation(_, revoked)) => {
                revoked.retain(|place| !places.contains(place));
            }
            Some(Pending::Records(..)) | None => {}
        }
        self.events.retain_mut(|told| {
            let ConsumerEvent::Revoked(revoked) = &mut told.event else { return true };
            revoked.retain(|place| !places.contains(place));
            !revoked.is_empty()
        });
        for place in &places {
            self.drop_place(place);
        }
        self.tell(ConsumerEvent::Lost(places));
    }

    /// Asks where to begin in partitions that are new.
    pub(super) fn ask_for_stored(&mut self, now: Now, places: BTreeSet<Place>) {
        if places.is_empty() {
            return;
        }
        let Some(group) = &mut self.group else {
            return;
        };
        let id = group.fetch(now, places.clone());
        self.questions.insert(id);
        for place in places {
            self.held.insert(place, Held { asking: Some(id), ..Held::default() });
        }
    }

    fn on_fetched(
        &mut self,
        now: Now,
        id: OffsetsId,
        results: BTreeMap<Place, Result<Option<StoredOffset>, ClientError>>,
    ) {
        if !self.questions.remove(&id) {
            return self.tell(ConsumerEvent::Fetched { id, results });
        }
        for (place, result) in results {
            let held = self.held.get_mut(&place).filter(|held| held.asking == Some(id));
            let Some(held) = held else {
                continue;
            };
            held.asking = None;
            match result {
                Ok(Some(stored)) => {
                    self.begin(now, &place, Start::Offset(stored.offset));
                    if let Some(held) = self.held.get_mut(&place) {
                        held.stored = Some(stored.offset);
                    }
                }
                Ok(None) => self.begin_by_rule(now, &place),
                Err(error) => self.tell(ConsumerEvent::PartitionFailed { place, error }),
            }
        }
    }

    fn on_committed(&mut self, id: OffsetsId, results: BTreeMap<Place, Result<(), ClientError>>) {
        let sent = self.commits.remove(&id).unwrap_or_default();
        let is_automatic = self.automatic.remove(&id);
        let mut refused = 0;
        let mut first = None;
        for (place, result) in &results {
            if let Err(error) = result {
                refused += 1;
                first.get_or_insert(error);
            } else if let (Some(held), Some(offset)) = (self.held.get_mut(place), sent.get(place)) {
                held.stored = Some(*offset);
            }
        }
        if let Some(error) = first.filter(|_| is_automatic) {
            tracing::warn!(partitions = refused, %error, "offsets were not stored");
        }
        if !is_automatic {
            self.tell(ConsumerEvent::Committed { id, results });
        }
    }

    /// Nobody has asked for too long: others are to get the partitions. What was told counts no
    /// more.
    pub(super) fn step_aside(&mut self, now: Now) {
        tracing::warn!("the group is left, for nobody asks: max.poll.interval.ms has passed");
        let places: BTreeSet<Place> = self.held.keys().cloned().collect();
        self.is_overdue = true;
        self.unassign_all();
        self.forget_told();
        if !places.is_empty() {
            self.tell(ConsumerEvent::Lost(places));
        }
        if let Some(group) = &mut self.group {
            let patience = self.config.close_timeout;
            group.leave(now, patience, "max.poll.interval.ms has passed");
        }
    }
}
