//! What a shard does with its partitions when it, or another shard, asks.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::early_refusals::Target;
use crate::broker::post::{
    Answer, Ask, FetchItem, FetchRefusal, ListedOffset, Post, ProduceItem, ProduceRefusal, Produced,
};
use crate::broker::shard::{Searched, Shard, TicketUse};
use crate::broker::start::Phase;
use crate::connection::RequestId;
use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use crate::io::{Counter, Effect, Event, Mark};
use crate::log::{FoundRecord, ReadError, ReadTicket};
use crate::metadata::TopicImage;
use crate::metadata::controller::Origin;
use crate::metadata::topic_config::TopicConfig;
use crate::partition::leader::{Acks, Lookup, Reading};
use crate::partition::{Partition, Waiter};
use crate::time::Now;
use crate::wire::api::describe_producers::DescribedProducer;

/// Most producers of one partition that are told of.
const PRODUCERS_TOLD_MAX: usize = 10_000;

impl Shard {
    pub(in crate::broker) fn on_post(&mut self, now: Now, from: ShardId, post: Post) {
        if !self.phase.has_logs() {
            self.fx.mark(Mark::PostHeld);
            self.held_posts.push_back((from, post));
            return;
        }
        match post {
            Post::Ask { request, ask } => self.on_ask(now, from, request, ask),
            Post::Answer { request, index, answer } => self.deliver(now, request, index, answer),
            Post::Image { image, cluster_id } => {
                self.identity.cluster_id = cluster_id;
                if self.phase == Phase::AwaitingImage {
                    self.adopt(now, &image);
                }
            }
            Post::Introduced { identity, places, is_formed } => {
                self.on_introduced(now, identity, &places, is_formed);
            }
            Post::Form { request, told } => self.on_form_asked(now, from, request, told),
            Post::Deltas(deltas) => self.apply_deltas(now, &deltas),
            Post::Snapshot(image) => self.replace_image(now, &image),
            Post::QuorumLeader(leader) => self.take_quorum_leader(now, leader),
            Post::NodeAsk { request, asked } => self.on_node_ask(now, from, request, asked),
            Post::QuorumReply { request, reply } => self.on_quorum_reply(request, reply),
            Post::Applied(end) => {
                self.on_applied(now, from, end);
            }
            Post::Command { asker, command } => {
                self.on_command(now, Origin { shard: from, asker }, command);
            }
            Post::CommandAnswer { asker, answer } => self.on_command_answer(now, asker, answer),
            Post::Lease(until) => self.take_lease(now, until),
            Post::MayStop => self.membership.may_go = true,
            Post::ReplicaAck { follower, items } => self.take_acks(now, follower, &items),
            Post::Congested(is_congested) => self.set_congested(from, is_congested),
            Post::Poisoned(why) => self.on_poisoned(now, &why, false),
        }
    }

    pub(in crate::broker) fn take_held_posts(&mut self, now: Now) {
        while let Some((from, post)) = self.held_posts.pop_front() {
            self.on_post(now, from, post);
        }
    }

    /// Answers one partition of a request, wherever its connection is.
    pub(in crate::broker) fn answer_waiter(&mut self, now: Now, waiter: Waiter, answer: Answer) {
        let Waiter { shard, request, index } = waiter;
        if shard == self.config.shard {
            self.deliver(now, request, index, answer);
        } else {
            self.post(shard, Post::Answer { request, index, answer });
        }
    }

    pub(in crate::broker) fn on_ask(
        &mut self,
        now: Now,
        from: ShardId,
        request: RequestId,
        ask: Ask,
    ) {
        let waiter = |index| Waiter { shard: from, request, index };
        // What cannot be served is refused with this code, so that clients try again elsewhere.
        let refused = match (self.phase, &self.poisoned) {
            (_, Some(_)) => Some(ErrorCode::KafkaStorageError),
            (Phase::Serving | Phase::Draining, None) => None,
            _ => Some(ErrorCode::NotLeaderOrFollower),
        };
        match ask {
            Ask::Produce { version, all_replicas, wait, transaction, items } => {
                let acks = Acks { version, all_replicas, wait };
                let mut appended = Vec::new();
                for ProduceItem { index, partition: id, records, passes } in items {
                    let refused = refused.or_else(|| self.refused_by_lease(now, id));
                    let target = || Target::Id(id);
                    let leads = refused.is_none() && self.partitions.contains_key(&id);
                    let answer = if !leads {
                        // The metadata that gives this shard the partition may be on its way.
                        self.early_refusals.refuse(now.mono, target(), &records);
                        Some(Err(refused.unwrap_or(ErrorCode::NotLeaderOrFollower).into()))
                    } else if (self.early_refusals.is_passing(now.mono, target, &records) || passes)
                        && !self.log.knows_producer_of(id, &records)
                    {
                        // Where the log knows the producer, it judges by what it holds: what was refused
                        // here may have been taken by a leader before this one.
                        Some(Err(ErrorCode::OutOfOrderSequenceNumber.into()))
                    } else {
                        match self.hold_batch(
                            now,
                            id,
                            records,
                            acks,
                            waiter(index),
                            transaction.as_ref(),
                        ) {
                            Ok(Some(records)) => {
                                appended.push(id);
                                self.append_produced(now, id, records, acks, waiter(index))
                            }
                            Ok(None) => None,
                            Err(code) => Some(Err(code.into())),
                        }
                    };
                    if let Some(answer) = answer {
                        self.answer_waiter(now, waiter(index), Answer::Produced(answer));
                    }
                }
                // Followers fetch what is not stable here yet.
                for id in appended {
                    self.wake_followers(now, id);
                    self.serve_schedule(now, id);
                }
            }
            Ask::Probe(items) => {
                for item in items {
                    self.note_follower(now, &item);
                    let readable = self.readable(self.refused_fetch(now, refused, &item), &item);
                    self.answer_waiter(now, waiter(item.index), Answer::Readable(readable));
                }
            }
            Ask::Watch(items) => {
                // All are watched before any is answered: an answer may end the wait, and what is
                // watched after that would never be forgotten.
                let mut news = Vec::new();
                for mut item in items {
                    let readable = self.readable(self.refused_fetch(now, refused, &item), &item);
                    if readable != Ok(item.known_readable) {
                        news.push((waiter(item.index), Answer::Readable(readable)));
                    }
                    item.known_readable = readable.unwrap_or(0);
                    self.watch((from, request), item);
                }
                for (waiter, answer) in news {
                    self.answer_waiter(now, waiter, answer);
                }
            }
            Ask::Unwatch => self.unwatch((from, request)),
            Ask::Read(items) => {
                self.unwatch((from, request));
                for item in items {
                    let refused = self.refused_fetch(now, refused, &item);
                    self.read(now, refused, &item, waiter(item.index));
                }
            }
            Ask::ListOffsets(items) => {
                for item in items {
                    let refused = refused.or_else(|| self.refused_by_lease(now, item.partition));
                    let found = match (refused, self.partitions.get(&item.partition)) {
                        (Some(code), _) => Err(code),
                        (None, None) => Err(ErrorCode::NotLeaderOrFollower),
                        (None, Some(partition)) => partition.list_offset(&item, &self.log),
                    };
                    let waiter = waiter(item.index);
                    match found {
                        Ok(Lookup::Done(found)) => {
                            self.answer_waiter(now, waiter, Answer::Offset(Ok(found)));
                        }
                        Ok(Lookup::Search(lookup, end)) => {
                            let leading = self.partitions.get(&item.partition);
                            let is_whole = leading.is_some_and(Partition::knows_committed);
                            let searched =
                                if is_whole { Searched::Everything } else { Searched::SoFar };
                            let ticket = self.ticket(TicketUse::ListOffsets(waiter, searched));
                            let log = &mut self.log;
                            log.find_by_time(
                                now,
                                item.partition,
                                lookup,
                                end,
                                ticket,
                                &mut self.fx,
                            );
                        }
                        Err(code) => self.answer_waiter(now, waiter, Answer::Offset(Err(code))),
                    }
                }
            }
            Ask::DeleteRecords(items) => {
                for item in items {
                    let Self { partitions, log, fx, .. } = self;
                    let waiter = waiter(item.index);
                    let answer = match (refused, partitions.get_mut(&item.partition)) {
                        (Some(code), _) => Some(Err(code)),
                        (None, None) => Some(Err(ErrorCode::NotLeaderOrFollower)),
                        (None, Some(partition)) => {
                            partition.delete_records(now, item.offset, waiter, log, fx)
                        }
                    };
                    if let Some(answer) = answer {
                        self.answer_waiter(now, waiter, Answer::LogStart(answer));
                    }
                    // What it waits for may have to be written again first.
                    self.serve_schedule(now, item.partition);
                }
            }
            Ask::EpochEnd(items) => {
                for item in items {
                    let found = match (refused, self.partitions.get(&item.partition)) {
                        (Some(code), _) => Err(code),
                        (None, None) => Err(ErrorCode::NotLeaderOrFollower),
                        (None, Some(partition)) => partition
                            .check_epoch(item.current_leader_epoch)
                            .map(|()| partition.epoch_end(item.leader_epoch, &self.log)),
                    };
                    self.answer_waiter(now, waiter(item.index), Answer::EpochEnd(found));
                }
            }
            Ask::Transaction(items) => {
                for item in items {
                    self.ask_transaction(now, waiter(item.index), &item);
                }
            }
            Ask::Markers(items) => {
                for item in items {
                    let waiter = waiter(item.index);
                    if let Some(answer) = self.write_marker(now, refused, &item, waiter) {
                        self.answer_waiter(now, waiter, answer);
                    }
                }
            }
            Ask::Producers(items) => {
                for item in items {
                    let leads = self.partitions.contains_key(&item.partition);
                    let found = match refused {
                        Some(code) => Err(code),
                        None if !leads => Err(ErrorCode::NotLeaderOrFollower),
                        None => Ok(self.producers_of(item.partition)),
                    };
                    self.answer_waiter(now, waiter(item.index), Answer::Producers(found));
                }
            }
            Ask::Group(items) => {
                for item in items {
                    self.ask_group(now, waiter(item.index), item);
                }
            }
            Ask::Entries(items) => {
                for item in items {
                    let refused = refused.or_else(|| self.refused_by_lease(now, item.partition));
                    self.list_entries(now, refused, &item, waiter(item.index));
                }
            }
            Ask::AlterEntries(items) => {
                let mut altered = BTreeSet::new();
                for item in items {
                    let refused = refused.or_else(|| self.refused_by_lease(now, item.partition));
                    self.alter_entry(now, refused, &item, waiter(item.index));
                    altered.insert(item.partition);
                }
                for id in altered {
                    self.wake_followers(now, id);
                    self.serve_schedule(now, id);
                }
            }
            Ask::Sizes(items) => {
                for item in items {
                    let size = self.log.size(item.partition);
                    self.answer_waiter(now, waiter(item.index), Answer::Size(size));
                }
            }
        }
    }

    /// Returns why a fetch is refused: followers are served by a leader that is cut off too.
    fn refused_fetch(
        &self,
        now: Now,
        refused: Option<ErrorCode>,
        item: &FetchItem,
    ) -> Option<ErrorCode> {
        refused.or_else(|| {
            let client = item.replica.is_none();
            client.then(|| self.refused_by_lease(now, item.partition)).flatten()
        })
    }

    fn append_produced(
        &mut self,
        now: Now,
        id: TopicPartition,
        records: Bytes,
        acks: Acks,
        waiter: Waiter,
    ) -> Option<Result<Produced, ProduceRefusal>> {
        let Self { partitions, log, fx, .. } = self;
        let Some(partition) = partitions.get_mut(&id) else {
            return Some(Err(ErrorCode::NotLeaderOrFollower.into()));
        };
        partition.produce(now, records, acks, None, waiter, log, fx)
    }

    fn producers_of(&self, id: TopicPartition) -> Vec<DescribedProducer> {
        let told = self.log.producers(id).map(|(producer_id, state)| DescribedProducer {
            producer_id: producer_id.0,
            producer_epoch: i32::from(state.epoch.0),
            last_sequence: state.batches.last().map_or(-1, |batch| batch.last_sequence),
            // Without a batch in this epoch a marker has opened it.
            last_timestamp: state
                .batches
                .last()
                .map_or(state.last_append_ms, |batch| batch.timestamp),
            coordinator_epoch: state.coordinator_epoch,
            current_txn_start_offset: state.transaction_first_offset.map_or(-1, |first| first.0),
        });
        told.take(PRODUCERS_TOLD_MAX).collect()
    }

    fn note_follower(&mut self, now: Now, item: &FetchItem) {
        if item.replica.is_some()
            && let Some(partition) = self.partitions.get_mut(&item.partition)
        {
            partition.note_follower(now, item, &self.log);
            self.answer_moved(now, item.partition);
        }
    }

    /// Answers whose move of a log start is durable wherever it must be.
    pub(in crate::broker) fn answer_moved(&mut self, now: Now, id: TopicPartition) {
        let Self { partitions, log, .. } = self;
        let moved = partitions.get_mut(&id).map(|partition| partition.take_moved(log));
        for (waiter, start) in moved.unwrap_or_default() {
            self.answer_waiter(now, waiter, Answer::LogStart(Ok(start)));
        }
    }

    fn readable(&self, refused: Option<ErrorCode>, item: &FetchItem) -> Result<u64, FetchRefusal> {
        if let Some(code) = refused {
            return Err(FetchRefusal::Code(code));
        }
        let id = &item.partition;
        match (self.partitions.get(id), self.followers.get(id)) {
            (Some(partition), _) => partition.readable(item, &self.log),
            (None, Some(follower)) => follower.readable(item, &self.log),
            (None, None) => Err(FetchRefusal::Code(ErrorCode::NotLeaderOrFollower)),
        }
    }

    fn read(&mut self, now: Now, refused: Option<ErrorCode>, item: &FetchItem, waiter: Waiter) {
        let id = &item.partition;
        let read = match (refused, self.partitions.get(id), self.followers.get(id)) {
            (Some(code), ..) => Err(FetchRefusal::Code(code)),
            (None, Some(partition), _) => partition.read(item, &self.log),
            (None, None, Some(follower)) => {
                let read = follower.read(item, &self.log);
                if read.is_ok() {
                    self.fx.mark(Mark::FollowerRead);
                }
                read
            }
            (None, None, None) => Err(FetchRefusal::Code(ErrorCode::NotLeaderOrFollower)),
        };
        self.take_reading(now, item, waiter, read);
    }

    fn take_reading(
        &mut self,
        now: Now,
        item: &FetchItem,
        waiter: Waiter,
        reading: Result<Reading, FetchRefusal>,
    ) {
        match reading {
            Ok(Reading::Done(fetched)) => {
                self.answer_waiter(now, waiter, Answer::Read(Ok(fetched)));
            }
            Ok(Reading::File(range, fetched)) => {
                self.fx.mark(Mark::FetchFromFile);
                let ticket = self.ticket(TicketUse::Fetch(waiter, *item, fetched));
                self.log.read(now, range, ticket, &mut self.fx);
            }
            Err(refusal) => self.answer_waiter(now, waiter, Answer::Read(Err(refusal))),
        }
    }

    pub(in crate::broker) fn on_read(
        &mut self,
        now: Now,
        ticket: ReadTicket,
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        match self.tickets.remove(&ticket) {
            Some(TicketUse::Fetch(waiter, item, fetched)) => {
                let reading = match result {
                    Ok(records) => {
                        let bytes = records.iter().map(|part| part.len() as u64).sum();
                        self.count(Counter::SegmentBytesRead, bytes);
                        let id = &item.partition;
                        match (self.partitions.get(id), self.followers.get(id)) {
                            (Some(partition), _) => {
                                partition.read_on(&item, fetched, records, &self.log)
                            }
                            // Without a leader's view nobody knows which batches are for clients: a
                            // topic with features is not served here.
                            (None, Some(follower)) => {
                                follower.read_on(&item, fetched, records, &self.log)
                            }
                            (None, None) => Err(FetchRefusal::Code(ErrorCode::NotLeaderOrFollower)),
                        }
                    }
                    // The leader may have it undamaged.
                    Err(_) if self.followers.contains_key(&item.partition) => {
                        Err(FetchRefusal::Code(ErrorCode::NotLeaderOrFollower))
                    }
                    Err(error) => Err(FetchRefusal::Code(read_code(&error))),
                };
                self.take_reading(now, &item, waiter, reading);
            }
            Some(TicketUse::Committed(life)) => self.on_committed_read(now, life, result),
            Some(TicketUse::Voters) => self.on_voters_read(now, result),
            Some(TicketUse::Accession(epoch)) => self.on_accession_read(now, epoch, result),
            Some(TicketUse::Metadata(shard, request)) => {
                self.on_metadata_read_for_node((shard, request), result);
            }
            Some(TicketUse::LoadTransactions(id)) => self.on_transactions_read(now, id, result),
            Some(TicketUse::LoadSchedule(id)) => {
                self.on_schedule_read(now, id, ticket, result);
            }
            Some(TicketUse::ReadNote(id, offset)) => {
                self.on_note_read(now, id, (offset, ticket), result);
            }
            Some(TicketUse::LoadGroups(id)) => self.on_load_read(now, id, result),
            Some(
                TicketUse::ListOffsets(..) | TicketUse::LoadSnapshot | TicketUse::Snapshot(..),
            )
            | None => {}
        }
    }

    pub(in crate::broker) fn on_found(
        &mut self,
        now: Now,
        ticket: ReadTicket,
        result: Result<Option<FoundRecord>, ReadError>,
    ) {
        let Some(TicketUse::ListOffsets(waiter, searched)) = self.tickets.remove(&ticket) else {
            return;
        };
        let answer = match result {
            // What the leaders before this one had committed may hold it (KIP-207).
            Ok(None) if searched == Searched::SoFar => Err(ErrorCode::OffsetNotAvailable),
            Ok(found) => Ok(found.map_or(ListedOffset::NONE, |found| ListedOffset {
                offset: found.offset,
                timestamp: found.timestamp,
                leader_epoch: found.leader_epoch,
            })),
            Err(ReadError::Gone) => Err(ErrorCode::NotLeaderOrFollower),
            Err(error) => Err(read_code(&error)),
        };
        self.answer_waiter(now, waiter, Answer::Offset(answer));
    }

    /// Tells metrics where the log of a partition begins and how far it is committed.
    pub(in crate::broker) fn tell_bounds(&mut self, id: TopicPartition) {
        let Some(partition) = self.partitions.get(&id) else { return };
        self.fx.push(Effect::Observe(Event::LogBounds {
            partition: id,
            log_start_offset: self.log.log_start_offset(id).unwrap_or(Offset::ZERO),
            high_watermark: partition.high_watermark(),
        }));
        self.tell_pin(id);
    }

    /// Returns the settings in force of a topic, those of a partition at hand where there is one.
    pub(in crate::broker) fn topic_config(&self, topic: &TopicImage) -> Arc<TopicConfig> {
        let from = TopicPartition { topic_id: topic.id, partition: PartitionIndex(0) };
        let to = TopicPartition { topic_id: topic.id, partition: PartitionIndex(i32::MAX) };
        if let Some((_, partition)) = self.partitions.range(from..=to).next() {
            return Arc::clone(partition.config());
        }
        if let Some((_, follower)) = self.followers.range(from..=to).next() {
            return Arc::clone(follower.config());
        }
        self.effective_config(topic)
    }

    fn effective_config(&self, topic: &TopicImage) -> Arc<TopicConfig> {
        let node = &self.config.node;
        let recorded = self.image.recorded_configs(topic);
        let effective = TopicConfig::effective(&node.settings, &recorded, node.memory_only);
        Arc::new(if topic.is_internal() {
            effective.for_internal(node.memory_only)
        } else {
            effective
        })
    }

    pub(in crate::broker) fn reconfigure(&mut self, now: Now, topic_id: TopicId) {
        let Some(topic) = self.image.topic(topic_id) else { return };
        let config = self.effective_config(topic);
        let from = TopicPartition { topic_id, partition: PartitionIndex(0) };
        let to = TopicPartition { topic_id, partition: PartitionIndex(i32::MAX) };
        let mut opened = Vec::new();
        for (&id, partition) in self.partitions.range_mut(from..=to) {
            partition.configure(Arc::clone(&config));
            self.log.configure(id, config.log);
            opened.extend(config.features.as_ref().map(|_| id));
        }
        for id in opened {
            self.load_schedule(now, id);
        }
        for (&id, follower) in self.followers.range_mut(from..=to) {
            follower.configure(Arc::clone(&config));
            self.log.configure(id, config.log);
        }
    }

    /// Gives up the partitions of a deleted topic: who waits there is answered, the logs go.
    pub(in crate::broker) fn give_up(&mut self, now: Now, topic: &TopicImage) {
        for index in 0..topic.partitions.len() {
            let id = TopicPartition { topic_id: topic.id, partition: PartitionIndex(index as i32) };
            let led = self.partitions.contains_key(&id);
            self.resign(now, id, ErrorCode::UnknownTopicOrPartition);
            if led || self.stop_following(now, id, ErrorCode::UnknownTopicOrPartition).is_some() {
                self.log.delete(now, id, &mut self.fx);
                self.fx.push(Effect::Observe(Event::PartitionGone(id)));
            }
        }
        self.topic_gone(now, topic);
    }
}

fn read_code(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::Corrupt(_) => ErrorCode::CorruptMessage,
        ReadError::Gone => ErrorCode::OffsetOutOfRange,
        ReadError::Disk(_) => ErrorCode::KafkaStorageError,
    }
}
