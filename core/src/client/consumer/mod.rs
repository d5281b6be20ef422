//! The consumer: a member of a group that reads what it is given, or a reader of partitions that it
//! is told to read.
//!
//! It joins the [`Group`] machine with the [`Fetcher`]: partitions that the group gives are read from
//! the stored offset on, and what was told of them is stored again. It has one door,
//! [`Consumer::poll_event`], and one rule: **what the last event told is taken as dealt with when
//! the next one is asked for.** Records count as processed then, and revoked partitions as given up.
//! So a loop that asks, works, and asks again loses no record and holds up no group; one that
//! works for longer than `max.poll.interval.ms` without asking is taken out of its group.
//!
//! Invariants:
//! 1. No record of a partition is told after the event that takes the partition away.
//! 2. No offset is stored automatically before the records below it count as processed.
//!
//! Source: KIP-41, 62 (the poll interval), 345, 429.

mod pattern;
mod rebalance;
#[cfg(test)]
mod tests;
mod transaction;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use self::pattern::Followed;
pub use self::pattern::TopicPattern;
use super::fetcher::{FetchEvent, FetchedRecords, Fetcher, FetcherConfig, Start};
use super::group::{Group, GroupConfig, GroupMember, OffsetsId, RevokeToken, StoredOffset};
use super::metadata::Metadata;
use super::network::NetworkConfig;
use super::producer::accumulator::Place;
use super::{ClientError, Effect, Input, Link};
use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionIndex, TopicId};
use crate::time::{Instant, Now};
use crate::wire::KafkaString;

/// What a consumer is told at its birth. Names and defaults are those of Kafka's consumer.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The group; `None` reads without one, and stores nothing.
    pub group: Option<GroupConfig>,
    /// How partitions are read. Its rule for offsets that are not there (`auto.offset.reset`) also
    /// holds where no offset is stored.
    pub fetcher: FetcherConfig,
    /// Time between automatic commits (`auto.commit.interval.ms`), `None` for no such
    /// (`enable.auto.commit`).
    pub auto_commit: Option<Duration>,
    /// Whether what was told counts as processed at the next question
    /// (`enable.auto.offset.store` of librdkafka). Otherwise [`Consumer::store`] says what does.
    pub auto_store: bool,
    /// How long the group is waited for when the consumer is closed.
    pub close_timeout: Duration,
}

impl ConsumerConfig {
    /// Kafka's defaults, for a group at these brokers: reading begins behind the last record where
    /// no offset is stored.
    pub fn new(network: NetworkConfig, group_id: Option<KafkaString>) -> Self {
        let fetcher =
            FetcherConfig { reset: Some(Start::Latest), ..FetcherConfig::new(network.clone()) };
        Self {
            auto_commit: group_id.is_some().then_some(Duration::from_secs(5)),
            group: group_id.map(|group_id| GroupConfig::new(network, group_id)),
            fetcher,
            auto_store: true,
            close_timeout: Duration::from_secs(30),
        }
    }
}

/// What there is to tell.
#[derive(Clone, PartialEq, Debug)]
pub enum ConsumerEvent {
    /// Records of one partition, in order.
    Records {
        /// The topic and partition.
        place: Place,
        /// The records; empty where only what readers are not shown was passed over.
        records: FetchedRecords,
        /// The offset behind them, to be stored once they are processed.
        next_offset: Offset,
        /// The offset behind the last committed record of the partition.
        high_watermark: Offset,
    },
    /// The group has given partitions.
    Assigned {
        /// Those that are new.
        added: BTreeSet<Place>,
        /// All that are held.
        owned: BTreeSet<Place>,
    },
    /// The group takes partitions away; nothing more of them is told. Offsets can be stored for
    /// them before the next event is asked for.
    Revoked(BTreeSet<Place>),
    /// Others have the partitions already; nothing can be stored for them.
    Lost(BTreeSet<Place>),
    /// A commit that was asked for has ended.
    Committed {
        /// Which one.
        id: OffsetsId,
        /// What became of each partition.
        results: BTreeMap<Place, Result<(), ClientError>>,
    },
    /// A question for stored offsets is answered.
    Fetched {
        /// Which one.
        id: OffsetsId,
        /// What is stored for each partition, `None` where nothing is.
        results: BTreeMap<Place, Result<Option<StoredOffset>, ClientError>>,
    },
    /// A partition cannot be read on. It rests until [`Consumer::seek`] says where to go on.
    PartitionFailed {
        /// The topic and partition.
        place: Place,
        /// Why.
        error: ClientError,
    },
    /// A topic that is subscribed to by its name cannot be read by whoever asks: brokers refuse the name, or the
    /// reader. Told once for each subscription; the other topics are read on.
    TopicFailed {
        /// The topic.
        topic: KafkaString,
        /// Why.
        error: ClientError,
    },
    /// The group does not take the consumer. It reads nothing any more.
    Failed(ClientError),
    /// The consumer is closed; nothing follows.
    Closed,
}

/// A partition that is read, or is about to be.
#[derive(Clone, Debug, Default)]
struct Held {
    /// The question for its stored offset, if one is on its way.
    asking: Option<OffsetsId>,
    /// The offset below which everything counts as processed.
    processed: Option<Offset>,
    /// Whether records of it were told, so that processing is not where reading began.
    was_told: bool,
    /// The offset that is stored, as far as this consumer knows.
    stored: Option<Offset>,
    is_paused: bool,
    is_revoked: bool,
}

/// What a topic was like when it was first subscribed to. What is added later is read from its
/// beginning: it cannot hold anything that was there before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Baseline {
    topic_id: TopicId,
    partitions: usize,
}

/// A consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    config: ConsumerConfig,
    group: Option<Group>,
    fetcher: Fetcher,
    held: BTreeMap<Place, Held>,
    subscribed: BTreeSet<KafkaString>,
    /// The pattern that those topics match, if they were not named.
    followed: Option<Followed>,
    baselines: BTreeMap<KafkaString, Baseline>,
    /// Topics that were told of as refused, since they were subscribed to.
    refused: BTreeSet<KafkaString>,
    /// What was known of topics when they were looked at last.
    looked_at: u64,
    events: VecDeque<Told>,
    /// What the last event told, until the next question.
    told: Option<Pending>,
    auto_commit_at: Option<Instant>,
    /// The commits that are on their way, with what they store.
    commits: BTreeMap<OffsetsId, BTreeMap<Place, Offset>>,
    /// Those among them that nobody asked for.
    automatic: BTreeSet<OffsetsId>,
    /// The consumer's own questions for stored offsets.
    questions: BTreeSet<OffsetsId>,
    /// Since when the user owes a question.
    owed_since: Option<Instant>,
    /// Whether it was taken out of the group because nobody asked.
    is_overdue: bool,
    is_closing: bool,
    is_closed: bool,
}

/// An event that waits, with what follows from its being dealt with.
#[derive(Clone, Debug)]
struct Told {
    event: ConsumerEvent,
    revocation: Option<RevokeToken>,
}

#[derive(Clone, Debug)]
enum Pending {
    Records(Place, Offset),
    Revocation(RevokeToken, BTreeSet<Place>),
}

impl Consumer {
    /// Reads nothing yet, and connects to nothing.
    pub fn new(config: ConsumerConfig) -> Self {
        Self {
            group: config.group.clone().map(Group::new),
            fetcher: Fetcher::new(config.fetcher.clone()),
            config,
            held: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            followed: None,
            baselines: BTreeMap::new(),
            refused: BTreeSet::new(),
            looked_at: 0,
            events: VecDeque::new(),
            told: None,
            auto_commit_at: None,
            commits: BTreeMap::new(),
            automatic: BTreeSet::new(),
            questions: BTreeSet::new(),
            owed_since: None,
            is_overdue: false,
            is_closing: false,
            is_closed: false,
        }
    }

    /// Joins the group for these topics, or goes on with them in place of others. Without a group,
    /// or after it is closed, nothing happens.
    pub fn subscribe(&mut self, now: Now, topics: BTreeSet<KafkaString>) {
        if self.is_closing || self.group.is_none() {
            return;
        }
        if self.subscribed.is_empty() {
            self.unassign_all();
        }
        self.forget_pattern(now);
        self.baselines.retain(|topic, _| topics.contains(topic));
        self.refused.clear();
        self.subscribed = topics;
        self.is_overdue = false;
        if let Some(group) = &mut self.group {
            group.subscribe(now, self.subscribed.clone());
        }
        self.drive(now);
    }

    /// Gives up all that is read, and leaves the group. What counts as processed is stored first,
    /// where that is done automatically.
    pub fn unsubscribe(&mut self, now: Now) {
        if self.is_closing {
            return;
        }
        self.store_automatically(now, true);
        self.unassign_all();
        self.forget_told();
        let was_followed = self.forget_pattern(now);
        let was_subscribed = !std::mem::take(&mut self.subscribed).is_empty();
        if (was_followed || was_subscribed)
            && let Some(group) = &mut self.group
        {
            group.leave(now, self.config.close_timeout, "the consumer unsubscribes");
        }
        self.drive(now);
    }

    /// Reads these partitions and no others, each from its stored offset where no start is named,
    /// without being a member of the group. Not to be mixed with [`Consumer::subscribe`].
    pub fn assign(&mut self, now: Now, places: BTreeMap<Place, Option<Start>>) {
        if self.is_closing || !self.subscribed.is_empty() || self.followed.is_some() {
            return;
        }
        let gone: Vec<Place> =
            self.held.keys().filter(|place| !places.contains_key(*place)).cloned().collect();
        for place in gone {
            self.drop_place(&place);
        }
        let mut asked = BTreeSet::new();
        for (place, start) in places {
            match start {
                Some(start) => self.begin(now, &place, start),
                None if self.held.contains_key(&place) => {}
                None if self.group.is_none() => {
                    self.held.insert(place.clone(), Held::default());
                    self.begin_by_rule(now, &place);
                }
                None => {
                    asked.insert(place);
                }
            }
        }
        self.ask_for_stored(now, asked);
        self.drive(now);
    }

    /// Returns the partitions that are read or about to be.
    pub fn assignment(&self) -> BTreeSet<Place> {
        self.held
            .iter()
            .filter(|(_, held)| !held.is_revoked)
            .map(|(place, _)| place.clone())
            .collect()
    }

    /// Returns who this consumer is in its group, to whoever commits what it has read in a transaction;
    /// `None` without a group.
    pub fn group_member(&self) -> Option<GroupMember> {
        self.group.as_ref().map(Group::member)
    }

    /// Returns the topics that are subscribed to.
    pub const fn subscription(&self) -> &BTreeSet<KafkaString> {
        &self.subscribed
    }

    /// Goes on elsewhere in a partition that is held; returns whether it is. What was processed
    /// until then counts no more, nor does what the last event told of it: with an offset, everything
    /// below that one counts as processed.
    pub fn seek(&mut self, now: Now, place: &Place, start: Start) -> bool {
        let is_held = !self.is_lost_untold(place)
            && self.held.get(place).is_some_and(|held| !held.is_revoked);
        if is_held {
            if matches!(&self.told, Some(Pending::Records(told, _)) if told == place) {
                self.told = None;
            }
            self.begin(now, place, start);
            self.drive(now);
        }
        is_held
    }

    /// Whether a partition was lost and nobody has been told so yet. Whoever speaks of it means what was held before,
    /// though it be given again by now.
    fn is_lost_untold(&self, place: &Place) -> bool {
        let says_so = |told: &Told| matches!(&told.event, ConsumerEvent::Lost(places) if places.contains(place));
        self.events.iter().any(says_so)
    }

    /// Holds partitions back: nothing of them is told until they are resumed. They stay with this
    /// consumer.
    pub fn pause(&mut self, places: &BTreeSet<Place>) {
        for place in places {
            if let Some(held) = self.held.get_mut(place) {
                held.is_paused = true;
                self.fetcher.pause(&place.0, place.1);
            }
        }
    }

    /// Goes on with partitions that were paused.
    pub fn resume(&mut self, now: Now, places: &BTreeSet<Place>) {
        for place in places {
            if let Some(held) = self.held.get_mut(place) {
                held.is_paused = false;
                self.fetcher.resume(now, &place.0, place.1);
            }
        }
        self.drive(now);
    }

    /// Returns the offset of the next record that will be told, `None` while it is asked for.
    pub fn position(&self, place: &Place) -> Option<Offset> {
        self.fetcher.told_to(&place.0, place.1)
    }

    /// Returns the offset behind the last committed record, as the last fetch told it.
    pub fn high_watermark(&self, place: &Place) -> Option<Offset> {
        self.fetcher.high_watermark(&place.0, place.1)
    }

    /// Says that everything below an offset is processed. The next automatic commit stores it.
    pub fn store(&mut self, place: &Place, offset: Offset) {
        if self.is_lost_untold(place) {
            return;
        }
        if let Some(held) = self.held.get_mut(place) {
            held.processed = Some(offset);
            held.was_told = true;
        }
    }

    /// Stores offsets in the group: those that are named, which count as processed from then on, else
    /// everything that was told, or, without [`ConsumerConfig::auto_store`], that was said to be
    /// processed. The answer comes as [`ConsumerEvent::Committed`].
    ///
    /// # Errors
    /// Without a group there is none to store them in: `INVALID_GROUP_ID` 24.
    pub fn commit(
        &mut self,
        now: Now,
        offsets: Option<BTreeMap<Place, StoredOffset>>,
    ) -> Result<OffsetsId, ClientError> {
        let offsets = if let Some(named) = offsets {
            // An automatic commit that follows must not take them back.
            for (place, stored) in &named {
                self.store(place, stored.offset);
            }
            named
        } else {
            if self.config.auto_store
                && let Some(Pending::Records(place, next)) = self.told.clone()
            {
                self.store(&place, next);
            }
            self.processed()
        };
        let id = self.send_commit(now, offsets).ok_or_else(no_group)?;
        self.drive(now);
        Ok(id)
    }

    /// Asks for stored offsets. The answer comes as [`ConsumerEvent::Fetched`].
    ///
    /// # Errors
    /// Without a group there are none: `INVALID_GROUP_ID` 24.
    pub fn committed(
        &mut self,
        now: Now,
        places: BTreeSet<Place>,
    ) -> Result<OffsetsId, ClientError> {
        let group = self.group.as_mut().ok_or_else(no_group)?;
        let id = group.fetch(now, places);
        self.drive(now);
        Ok(id)
    }

    /// Returns the machine of the group, for what it knows.
    pub const fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Stores what counts as processed, where that is done automatically, and leaves the group.
    /// [`ConsumerEvent::Closed`] tells the end. What the last event told counts only if another one
    /// was asked for after it.
    pub fn close(&mut self, now: Now) {
        if self.is_closing {
            return;
        }
        self.store_automatically(now, true);
        self.is_closing = true;
        self.followed = None;
        self.unassign_all();
        self.forget_told();
        match &mut self.group {
            Some(group) => group.leave(now, self.config.close_timeout, "the consumer is closed"),
            None => self.end(),
        }
        self.drive(now);
    }

    /// Returns whether it is a member of a group, or may become one.
    pub const fn has_group(&self) -> bool {
        self.group.is_some()
    }

    /// Returns whether it is closed and has said goodbye to its group.
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Takes an input in.
    pub fn handle(&mut self, now: Now, input: Input) {
        // The two machines have their links in turn: even ones are the group's.
        let of_group = |link: Link| link.0.is_multiple_of(2);
        let inner = |link: Link| Link(link.0 / 2);
        let (is_groups, input) = match input {
            Input::Connected(link) => (of_group(link), Input::Connected(inner(link))),
            Input::ConnectFailed(link) => (of_group(link), Input::ConnectFailed(inner(link))),
            Input::Received(link, bytes) => (of_group(link), Input::Received(inner(link), bytes)),
            Input::Disconnected(link) => (of_group(link), Input::Disconnected(inner(link))),
            Input::Wakeup => {
                self.fetcher.handle(now, Input::Wakeup);
                (true, Input::Wakeup)
            }
        };
        if !is_groups {
            self.fetcher.handle(now, input);
        } else if let Some(group) = &mut self.group {
            group.handle(now, input);
        }
        self.drive(now);
    }

    /// Takes what people should be told since this was last asked, a line each: positions that were not in
    /// their logs, and topics that are not there.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let mut told = self.fetcher.take_warnings();
        told.extend(self.group.iter_mut().flat_map(Group::take_warnings));
        told
    }

    /// Takes the next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let outer = |effect: Effect, parity: u64| match effect {
            Effect::Connect { link, host, port } => {
                Effect::Connect { link: Link(link.0 * 2 + parity), host, port }
            }
            Effect::Transmit { link, parts } => {
                Effect::Transmit { link: Link(link.0 * 2 + parity), parts }
            }
            Effect::Close { link } => Effect::Close { link: Link(link.0 * 2 + parity) },
        };
        let of_group = self.group.as_mut().and_then(Group::poll_effect);
        match of_group {
            Some(effect) => Some(outer(effect, 0)),
            None => self.fetcher.poll_effect().map(|effect| outer(effect, 1)),
        }
    }

    /// Takes the next thing to be told. What the one before it told is taken as dealt with.
    pub fn poll_event(&mut self, now: Now) -> Option<ConsumerEvent> {
        self.owed_since = None;
        self.deal_with_told(now);
        if self.is_overdue && !self.is_closing {
            // Somebody asks again: back into the group.
            self.is_overdue = false;
            if let Some(group) = &mut self.group {
                group.subscribe(now, self.subscribed.clone());
            }
        }
        self.drive(now);
        let event = self.next_event(now);
        self.owed_since = event.as_ref().map(|_| now.mono);
        event
    }

    /// Returns whether an event waits that takes partitions away. Whoever is in the middle of many
    /// records may give the rest back by [`Consumer::seek`] and ask, so that the group need not wait.
    pub fn is_interrupted(&self) -> bool {
        self.events
            .iter()
            .any(|told| matches!(told.event, ConsumerEvent::Revoked(_) | ConsumerEvent::Lost(_)))
    }

    /// Says that what the last event told is being worked on: `max.poll.interval.ms` begins anew,
    /// and nothing else happens.
    pub fn touch(&mut self, now: Now) {
        if self.owed_since.is_some() {
            self.owed_since = Some(now.mono);
        }
    }

    /// Takes the next answer to a commit or to a question for stored offsets, and nothing else. What
    /// the last event told stays as it is.
    pub fn poll_answer(&mut self) -> Option<ConsumerEvent> {
        let is_answer = |told: &Told| {
            matches!(told.event, ConsumerEvent::Committed { .. } | ConsumerEvent::Fetched { .. })
        };
        let at = self.events.iter().position(is_answer)?;
        self.events.remove(at).map(|told| told.event)
    }

    /// Returns when to come back at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let group = self.group.as_ref().and_then(Group::next_deadline);
        let commit = self.auto_commit_at.filter(|_| self.automatic.is_empty());
        let overdue = self.overdue_at();
        let own = commit.into_iter().chain(overdue);
        self.fetcher.next_deadline().into_iter().chain(group).chain(own).min()
    }

    fn deal_with_told(&mut self, now: Now) {
        match self.told.take() {
            Some(Pending::Records(place, next_offset)) if self.config.auto_store => {
                self.store(&place, next_offset);
            }
            Some(Pending::Revocation(token, places)) => {
                for place in &places {
                    self.drop_place(place);
                }
                if let Some(group) = &mut self.group {
                    group.revoked(now, token);
                }
            }
            Some(Pending::Records(..)) | None => {}
        }
    }

    fn next_event(&mut self, now: Now) -> Option<ConsumerEvent> {
        if let Some(Told { event, revocation }) = self.events.pop_front() {
            if let (ConsumerEvent::Revoked(places), Some(token)) = (&event, revocation) {
                self.begin_revocation(now, places);
                self.told = Some(Pending::Revocation(token, places.clone()));
            }
            return Some(event);
        }
        let event = match self.fetcher.poll_event(now)? {
            FetchEvent::Records { place, records, next_offset, high_watermark } => {
                self.told = Some(Pending::Records(place.clone(), next_offset));
                if let Some(held) = self.held.get_mut(&place) {
                    held.was_told = true;
                }
                ConsumerEvent::Records { place, records, next_offset, high_watermark }
            }
            FetchEvent::Failed { place, error } => ConsumerEvent::PartitionFailed { place, error },
        };
        Some(event)
    }

    /// Does what follows from what the machines have to tell, and what is due by time.
    fn drive(&mut self, now: Now) {
        if self.fetcher.take_misses_topics()
            && let Some(group) = &mut self.group
        {
            // The leader of the group is to notice that a topic is gone.
            group.look_again(now);
        }
        self.match_topics(now);
        self.take_group_events(now);
        self.note_baselines();
        self.tell_refused();
        if self.owed_since.is_none() && (!self.events.is_empty() || self.fetcher.has_events()) {
            self.owed_since = Some(now.mono);
        }
        if self.overdue_at().is_some_and(|at| now.mono >= at) {
            self.step_aside(now);
            self.take_group_events(now);
        }
        if self.auto_commit_at.is_some_and(|at| now.mono >= at) && self.automatic.is_empty() {
            self.store_automatically(now, false);
            self.take_group_events(now);
        }
    }

    /// When the user must have asked, to stay in the group.
    fn overdue_at(&self) -> Option<Instant> {
        let group = self.config.group.as_ref()?;
        if self.subscribed.is_empty() || self.is_overdue || self.is_closing {
            return None;
        }
        self.owed_since.map(|since| since + group.rebalance_timeout)
    }

    /// What is processed of all that is held. Where nothing was told, that is where reading begins:
    /// stored, it keeps a restart from beginning elsewhere.
    fn processed(&self) -> BTreeMap<Place, StoredOffset> {
        self.held
            .iter()
            .filter_map(|(place, held)| {
                let begin = || self.fetcher.told_to(&place.0, place.1).filter(|_| !held.was_told);
                Some((place.clone(), StoredOffset::from(held.processed.or_else(begin)?)))
            })
            .collect()
    }

    /// Stores what is processed and not stored yet, where that is done automatically.
    fn store_automatically(&mut self, now: Now, at_once: bool) {
        let Some(interval) = self.config.auto_commit else {
            return;
        };
        self.auto_commit_at = (!self.held.is_empty()).then(|| now.mono + interval);
        if !at_once && !self.automatic.is_empty() {
            return;
        }
        let mut offsets = self.processed();
        offsets.retain(|place, stored| self.held[place].stored != Some(stored.offset));
        if !offsets.is_empty()
            && let Some(id) = self.send_commit(now, offsets)
        {
            self.automatic.insert(id);
        }
    }

    fn send_commit(
        &mut self,
        now: Now,
        offsets: BTreeMap<Place, StoredOffset>,
    ) -> Option<OffsetsId> {
        let sent = offsets.iter().map(|(place, stored)| (place.clone(), stored.offset)).collect();
        let id = self.group.as_mut()?.commit(now, offsets);
        self.commits.insert(id, sent);
        Some(id)
    }

    /// Begins to read a partition.
    fn begin(&mut self, now: Now, place: &Place, start: Start) {
        let held = self.held.entry(place.clone()).or_default();
        held.asking = None;
        held.processed = match start {
            Start::Offset(offset) => Some(offset),
            Start::Earliest | Start::Latest | Start::Time(_) => None,
        };
        held.was_told = false;
        let is_paused = held.is_paused;
        self.fetcher.assign(now, &place.0, place.1, start);
        if is_paused {
            self.fetcher.pause(&place.0, place.1);
        }
        if let (Some(interval), None) = (self.config.auto_commit, self.auto_commit_at) {
            self.auto_commit_at = Some(now.mono + interval);
        }
    }

    /// Begins where no offset is stored.
    fn begin_by_rule(&mut self, now: Now, place: &Place) {
        let start =
            if self.came_later(place) { Some(Start::Earliest) } else { self.config.fetcher.reset };
        match start {
            Some(start) => self.begin(now, place, start),
            None => self.tell(ConsumerEvent::PartitionFailed {
                place: place.clone(),
                error: ClientError::NoStoredOffset,
            }),
        }
    }

    /// Whether a partition was made after its topic was subscribed to.
    fn came_later(&self, (topic, partition): &Place) -> bool {
        let Some(baseline) = self.baselines.get(topic) else {
            return false;
        };
        let known = self.topics().and_then(|metadata| metadata.topic(topic));
        let is_another = known.is_some_and(|known| known.topic_id != baseline.topic_id);
        is_another || usize::try_from(partition.0).is_ok_and(|index| index >= baseline.partitions)
    }

    /// Notes what the topics are like that were subscribed to last.
    fn note_baselines(&mut self) {
        if self.baselines.len() == self.subscribed.len() {
            return;
        }
        let Some(metadata) = self.group.as_ref().map(Group::metadata) else {
            return;
        };
        if !metadata.is_told_of_all() {
            return;
        }
        for topic in &self.subscribed {
            if !self.baselines.contains_key(topic) {
                let known = metadata.topic(topic);
                let baseline = Baseline {
                    topic_id: known.map_or(TopicId::ZERO, |known| known.topic_id),
                    partitions: known.map_or(0, |known| known.leaders.len()),
                };
                self.baselines.insert(topic.clone(), baseline);
            }
        }
    }

    /// Tells of the topics that were named and that brokers refuse, each once.
    fn tell_refused(&mut self) {
        let Some(metadata) = self.group.as_ref().map(Group::metadata) else {
            return;
        };
        let version = metadata.version();
        if version == std::mem::replace(&mut self.looked_at, version)
            || self.followed.is_some()
            || self.is_closing
        {
            return;
        }
        let refused: Vec<(KafkaString, ClientError)> = self
            .subscribed
            .difference(&self.refused)
            .filter_map(|topic| Some((topic.clone(), metadata.error(topic)?.clone())))
            .collect();
        for (topic, error) in refused {
            self.refused.insert(topic.clone());
            self.tell(ConsumerEvent::TopicFailed { topic, error });
        }
    }

    fn topics(&self) -> Option<&Metadata> {
        self.group.as_ref().map(Group::metadata)
    }

    fn drop_place(&mut self, place: &Place) {
        self.held.remove(place);
        self.fetcher.unassign(&place.0, place.1);
        if self.held.is_empty() {
            self.auto_commit_at = None;
        }
    }

    fn unassign_all(&mut self) {
        for (topic, partition) in std::mem::take(&mut self.held).into_keys() {
            self.fetcher.unassign(&topic, partition);
        }
        self.auto_commit_at = None;
    }

    /// What waits to be told is about partitions that are not held any more, answers apart.
    fn forget_told(&mut self) {
        self.told = None;
        self.refused.clear();
        self.events.retain(|told| {
            matches!(told.event, ConsumerEvent::Committed { .. } | ConsumerEvent::Fetched { .. })
        });
    }

    fn tell(&mut self, event: ConsumerEvent) {
        self.events.push_back(Told { event, revocation: None });
    }

    fn end(&mut self) {
        self.is_closed = true;
        self.tell(ConsumerEvent::Closed);
    }
}

/// A partition by its topic and number.
pub fn place(topic: &str, partition: i32) -> Place {
    (topic.into(), PartitionIndex(partition))
}

const fn no_group() -> ClientError {
    ClientError::Broker(ErrorCode::InvalidGroupId)
}
