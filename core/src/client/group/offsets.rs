//! Offsets of the group: storing them, and asking for them.
//!
//! Commits are sent one after the other, so that an older one never lands on a newer one. What the
//! coordinator cannot take at present is tried again until the deadline; a commit of a member goes
//! with the generation in which the partition is held, and not at all once it is not held any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::membership::Stage;
use super::requests::{
    LAST_OFFSETS_VERSION_BY_NAME, Stored, commit_error, commit_offsets, fetch_offsets,
    fetched_offsets, no_word,
};
use super::{Group, GroupEvent, OffsetsId, Purpose, StoredOffset, is_elsewhere};
use crate::client::ClientError;
use crate::client::producer::accumulator::Place;
use crate::error::ErrorCode;
use crate::time::Instant;
use crate::wire::{KafkaString, Response};

type Committed = BTreeMap<Place, Result<(), ClientError>>;

#[derive(Clone, Debug)]
struct Commit {
    /// What is not settled.
    offsets: BTreeMap<Place, StoredOffset>,
    results: Committed,
    /// The generation in which the partitions are held; `None` for a reader without membership.
    generation_id: Option<i32>,
    deadline: Instant,
    retry_at: Instant,
    is_asked: bool,
}

#[derive(Clone, Debug)]
struct Fetch {
    /// What is not settled.
    places: BTreeSet<Place>,
    results: Stored,
    deadline: Instant,
    retry_at: Instant,
    is_asked: bool,
}

/// What was asked for and is not settled.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    next: u64,
    commits: BTreeMap<OffsetsId, Commit>,
    fetches: BTreeMap<OffsetsId, Fetch>,
}

impl Offsets {
    fn next_id(&mut self) -> OffsetsId {
        let id = OffsetsId(self.next);
        self.next += 1;
        id
    }

    pub(super) fn commit(
        &mut self,
        deadline: Instant,
        offsets: BTreeMap<Place, StoredOffset>,
        generation_id: Option<i32>,
    ) -> OffsetsId {
        let id = self.next_id();
        let offsets = offsets
            .into_iter()
            .map(|((topic, partition), offset)| ((topic.detached(), partition), offset))
            .collect();
        let commit = Commit {
            offsets,
            results: BTreeMap::new(),
            generation_id,
            deadline,
            retry_at: Instant::ZERO,
            is_asked: false,
        };
        self.commits.insert(id, commit);
        id
    }

    pub(super) fn fetch(&mut self, deadline: Instant, places: BTreeSet<Place>) -> OffsetsId {
        let id = self.next_id();
        let fetch = Fetch {
            places,
            results: BTreeMap::new(),
            deadline,
            retry_at: Instant::ZERO,
            is_asked: false,
        };
        self.fetches.insert(id, fetch);
        id
    }

    pub(super) fn pending_commits(&self) -> usize {
        self.commits.len()
    }

    /// Whether anything is to be said to the coordinator.
    pub(super) fn is_waiting(&self) -> bool {
        !self.commits.is_empty() || !self.fetches.is_empty()
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        let commits = self.commits.values().flat_map(|commit| {
            let retry = (!commit.is_asked).then_some(commit.retry_at);
            [Some(commit.deadline), retry]
        });
        let fetches = self.fetches.values().flat_map(|fetch| {
            let retry = (!fetch.is_asked).then_some(fetch.retry_at);
            [Some(fetch.deadline), retry]
        });
        // A pause that is over is waited for no more; what is due waits for the coordinator.
        commits.chain(fetches).flatten().filter(|at| *at > Instant::ZERO).min()
    }

    /// Ends every commit.
    pub(super) fn fail_commits(&mut self, error: &ClientError, events: &mut VecDeque<GroupEvent>) {
        for (id, commit) in std::mem::take(&mut self.commits) {
            events.push_back(commit.end(id, error));
        }
    }

    /// Ends the commits of a member.
    pub(super) fn fail_member_commits(
        &mut self,
        error: &ClientError,
        events: &mut VecDeque<GroupEvent>,
    ) {
        let commits = std::mem::take(&mut self.commits);
        for (id, commit) in commits {
            if commit.generation_id.is_some() {
                events.push_back(commit.end(id, error));
            } else {
                self.commits.insert(id, commit);
            }
        }
    }

    /// Ends everything.
    pub(super) fn fail_all(&mut self, error: &ClientError, events: &mut VecDeque<GroupEvent>) {
        self.fail_commits(error, events);
        for (id, fetch) in std::mem::take(&mut self.fetches) {
            events.push_back(fetch.end(id, error));
        }
    }
}

impl Commit {
    /// Ends it, with `error` for what is not settled.
    fn end(mut self, id: OffsetsId, error: &ClientError) -> GroupEvent {
        self.results.extend(self.offsets.into_keys().map(|place| (place, Err(error.clone()))));
        GroupEvent::Committed { id, results: self.results }
    }
}

impl Fetch {
    /// Ends it, with `error` for what is not settled.
    fn end(mut self, id: OffsetsId, error: &ClientError) -> GroupEvent {
        self.results.extend(self.places.into_iter().map(|place| (place, Err(error.clone()))));
        GroupEvent::Fetched { id, results: self.results }
    }
}

impl Group {
    /// Sends what can be sent; returns whether anything was done.
    pub(super) fn drive_offsets(&mut self, now: Instant) -> bool {
        self.end_late(now);
        let committed = self.drive_commits(now);
        let fetched = self.drive_fetches(now);
        committed || fetched
    }

    fn end_late(&mut self, now: Instant) {
        let late = |deadline: Instant| now >= deadline;
        let offsets = &mut self.offsets;
        let commits: Vec<OffsetsId> = offsets
            .commits
            .iter()
            .filter(|(_, commit)| late(commit.deadline) || commit.offsets.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in commits {
            let commit = offsets.commits.remove(&id).expect("it was chosen from among them");
            self.events.push_back(commit.end(id, &ClientError::TimedOut));
        }
        let fetches: Vec<OffsetsId> = offsets
            .fetches
            .iter()
            .filter(|(_, fetch)| late(fetch.deadline) || fetch.places.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in fetches {
            let fetch = offsets.fetches.remove(&id).expect("it was chosen from among them");
            self.events.push_back(fetch.end(id, &ClientError::TimedOut));
        }
    }

    fn drive_commits(&mut self, now: Instant) -> bool {
        let Some((&id, commit)) = self.offsets.commits.first_key_value() else {
            return false;
        };
        if commit.is_asked || now < commit.retry_at {
            return false;
        }
        if let Some(generation_id) = commit.generation_id {
            if !self.membership.takes_part() {
                let commit = self.offsets.commits.remove(&id).expect("it is the first one");
                let error = ClientError::Broker(ErrorCode::UnknownMemberId);
                self.events.push_back(commit.end(id, &error));
                return true;
            }
            if !self.membership.may_commit() {
                return false;
            }
            if generation_id != self.membership.owned_generation {
                self.carry_over(id);
                return true;
            }
        }
        let Some(link) = self.coordinator_link(now) else {
            return false;
        };
        let commit = self.offsets.commits.get_mut(&id).expect("it is the first one");
        commit.is_asked = true;
        let is_member = commit.generation_id.is_some();
        let member_id = &self.membership.member_id;
        let request = commit_offsets(
            &self.config.group_id,
            commit.generation_id.unwrap_or(-1),
            if is_member { member_id.clone() } else { KafkaString::default() },
            self.config.instance_id.clone().filter(|_| is_member),
            &commit.offsets,
        );
        let purpose = Purpose::Commit(id);
        self.network.send(now, link, &request.into(), LAST_OFFSETS_VERSION_BY_NAME, purpose);
        true
    }

    /// The group has gone on to another generation since a commit was asked for: what the member
    /// still holds is stored in that one, the rest belongs to others.
    fn carry_over(&mut self, id: OffsetsId) {
        let owned = &self.membership.owned;
        let commit = self.offsets.commits.get_mut(&id).expect("it is the first one");
        let (kept, gone) = std::mem::take(&mut commit.offsets)
            .into_iter()
            .partition(|(place, _)| owned.contains(place));
        commit.offsets = kept;
        let gone: BTreeMap<Place, StoredOffset> = gone;
        commit.results.extend(
            gone.into_keys()
                .map(|place| (place, Err(ClientError::Broker(ErrorCode::IllegalGeneration)))),
        );
        commit.generation_id = Some(self.membership.owned_generation);
        if commit.offsets.is_empty() {
            self.end_commit(id);
        }
    }

    fn end_commit(&mut self, id: OffsetsId) {
        if let Some(commit) = self.offsets.commits.remove(&id) {
            self.events.push_back(GroupEvent::Committed { id, results: commit.results });
        }
    }

    pub(super) fn on_committed(
        &mut self,
        now: Instant,
        id: OffsetsId,
        result: Result<Response, ClientError>,
    ) {
        let response = match result {
            Ok(Response::OffsetCommit(response)) => Ok(response),
            Ok(_) => unreachable!("an answer has the type of its question"),
            Err(error) => Err(error),
        };
        let is_stable = self.membership.stage == Stage::Stable;
        let backoff = self.config.network.retry_backoff;
        let Some(commit) = self.offsets.commits.get_mut(&id) else {
            return;
        };
        commit.is_asked = false;
        let generation_id = commit.generation_id;
        let mut first_error = None;
        let mut is_elsewhere_now = false;
        for (place, stored) in std::mem::take(&mut commit.offsets) {
            let error = match &response {
                Ok(response) => commit_error(response, &place),
                Err(error) => Some(error.clone()),
            };
            let Some(error) = error else {
                commit.results.insert(place, Ok(()));
                continue;
            };
            let code = error.refused_with();
            // A round that is being completed takes the commit afterwards, if the partition stays.
            let after_round = code == Some(ErrorCode::RebalanceInProgress) && is_stable;
            let elsewhere = is_elsewhere(&error) || code == Some(ErrorCode::RequestTimedOut);
            is_elsewhere_now |= elsewhere;
            let again =
                elsewhere || after_round || (error.is_retriable() && !error.is_unknown_topic());
            first_error.get_or_insert_with(|| error.clone());
            if again {
                commit.offsets.insert(place, stored);
            } else {
                commit.results.insert(place, Err(error));
            }
        }
        if commit.offsets.is_empty() {
            self.end_commit(id);
        } else {
            commit.retry_at = now + backoff;
        }
        let Some(error) = first_error else {
            return self.coordinator_answers();
        };
        if is_elsewhere_now {
            self.lose_coordinator(now);
        }
        if generation_id == Some(self.membership.owned_generation) {
            match error.refused_with() {
                Some(ErrorCode::IllegalGeneration) => self.lose_membership(now, false),
                Some(ErrorCode::UnknownMemberId) => self.lose_membership(now, true),
                Some(ErrorCode::RebalanceInProgress) if is_stable => {
                    self.membership.rejoin = Some("the group rebalances");
                }
                Some(ErrorCode::FencedInstanceId) => self.fail(error),
                Some(_) | None => {}
            }
        }
    }

    fn drive_fetches(&mut self, now: Instant) -> bool {
        // An answer would wait behind one that the coordinator holds back.
        if self.membership.is_parked() {
            return false;
        }
        let due = self
            .offsets
            .fetches
            .iter()
            .find(|(_, fetch)| !fetch.is_asked && now >= fetch.retry_at)
            .map(|(id, _)| *id);
        let Some(id) = due else {
            return false;
        };
        let Some(link) = self.coordinator_link(now) else {
            return false;
        };
        let fetch = self.offsets.fetches.get_mut(&id).expect("it was chosen from among them");
        fetch.is_asked = true;
        let require_stable = self.config.require_stable;
        let request = fetch_offsets(&self.config.group_id, Some(&fetch.places), require_stable);
        let purpose = Purpose::Fetch(id);
        self.network.send(now, link, &request.into(), LAST_OFFSETS_VERSION_BY_NAME, purpose);
        true
    }

    pub(super) fn on_fetched(
        &mut self,
        now: Instant,
        id: OffsetsId,
        result: Result<Response, ClientError>,
    ) {
        let stored = match result {
            Ok(Response::OffsetFetch(response)) => fetched_offsets(response),
            Ok(_) => unreachable!("an answer has the type of its question"),
            Err(error) => Err(error),
        };
        let backoff = self.config.network.retry_backoff;
        let Some(fetch) = self.offsets.fetches.get_mut(&id) else {
            return;
        };
        fetch.is_asked = false;
        let mut is_elsewhere_now = false;
        for place in std::mem::take(&mut fetch.places) {
            let result = match &stored {
                Ok(stored) => stored.get(&place).cloned().unwrap_or_else(|| Err(no_word(&place))),
                Err(error) => Err(error.clone()),
            };
            match result {
                Err(error) if is_elsewhere(&error) => {
                    is_elsewhere_now = true;
                    fetch.places.insert(place);
                }
                Err(error) if error.is_retriable() && !error.is_unknown_topic() => {
                    fetch.places.insert(place);
                }
                result => {
                    fetch.results.insert(place, result);
                }
            }
        }
        if fetch.places.is_empty() {
            if let Some(fetch) = self.offsets.fetches.remove(&id) {
                self.events.push_back(GroupEvent::Fetched { id, results: fetch.results });
            }
            self.coordinator_answers();
        } else {
            fetch.retry_at = now + backoff;
        }
        if is_elsewhere_now {
            self.lose_coordinator(now);
        }
    }
}
