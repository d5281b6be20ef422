//! What a transactional producer does next.

use super::{Coordinator, Question, State, Transactions};
use crate::client::network::Target;
use crate::client::producer::accumulator::{Accumulator, PendingBatch, QueueId};
use crate::client::producer::sender::{Purpose, Sender};
use crate::client::{ClientError, Link};
use crate::time::Instant;

/// The feature that says how transactions are, and its level from which on brokers take partitions in
/// by themselves.
const FEATURE: &str = "transaction.version";
const LEVEL_V2: i16 = 2;

/// What is to be done next.
enum Step {
    Ask(Question),
    /// Nothing is left of the transaction to be ended.
    Finish {
        committed: bool,
    },
}

impl Transactions {
    /// Returns what is to be done next. `is_idle` says that every record has come to its end.
    fn next_step(&self, is_idle: bool) -> Option<Step> {
        let question = match &self.state {
            State::New | State::Ready | State::Failed(_) | State::Dead(_) => return None,
            State::Initializing => Question::ProducerId { bump: false },
            State::Open => self.next_of_open()?,
            State::Ending { committed, is_ended: true } => {
                if !self.needs_epoch {
                    return Some(Step::Finish { committed: *committed });
                }
                Question::ProducerId { bump: true }
            }
            State::Ending { committed, is_ended: false } => match self.next_of_open() {
                Some(question) => question,
                None if !is_idle => return None,
                // The coordinator would take it for a mistake.
                None if !self.is_begun && self.needs_epoch => Question::ProducerId { bump: true },
                None if !self.is_begun => return Some(Step::Finish { committed: *committed }),
                None => Question::End { committed: *committed },
            },
        };
        // Everything but the staging of offsets is for the coordinator of the transactional id.
        let (coordinator, find) = if question == Question::StageOffsets {
            (self.offsets.front().map(|offsets| offsets.coordinator), Question::FindGroup)
        } else {
            (Some(self.coordinator), Question::FindTransaction)
        };
        let is_found = coordinator.is_some_and(|coordinator| coordinator.node.is_some());
        Some(Step::Ask(if is_found { question } else { find }))
    }

    /// Returns what is to be asked before the transaction can end.
    fn next_of_open(&self) -> Option<Question> {
        if !self.adding.is_empty() {
            return Some(Question::AddPartitions);
        }
        let offsets = self.offsets.front()?;
        Some(if offsets.is_added { Question::StageOffsets } else { Question::AddOffsets })
    }

    /// Drops what need not be asked any more once the transaction is given up.
    fn drop_given_up(&mut self) {
        if matches!(self.state, State::Ending { committed: false, .. }) && !self.is_asked {
            if !self.is_unsure {
                self.adding.clear();
            }
            self.offsets.retain(|offsets| !offsets.is_added && offsets.is_unsure);
        }
    }

    /// Whether a batch may be sent: it has been before, or its partition is part of the transaction.
    fn lets(&self, id: QueueId, batch: &PendingBatch) -> bool {
        match self.state {
            _ if batch.producer.is_some() => true,
            State::Open | State::Ending { committed: true, .. } => {
                self.is_v2 || self.partitions.contains(&id)
            }
            State::New
            | State::Initializing
            | State::Ready
            | State::Failed(_)
            | State::Ending { .. }
            | State::Dead(_) => false,
        }
    }

    /// Notes the partitions that are to be taken in.
    fn note_partitions(&mut self, accumulator: &Accumulator) {
        let takes = matches!(self.state, State::Open | State::Ending { committed: true, .. });
        if self.is_v2 || !takes || self.is_asked {
            return;
        }
        for (id, _) in accumulator.queues() {
            if !self.partitions.contains(&id) {
                self.adding.insert(id);
            }
        }
    }

    /// Takes in that a record has failed.
    fn on_record_failed(&mut self, now: Instant, error: &ClientError) {
        // Its sequence is missing.
        self.needs_epoch |= !self.is_v2;
        match super::answers::of_record(error) {
            Some(fatal) => self.die(now, fatal),
            None => self.fail(error.clone()),
        }
    }
}

impl Sender {
    /// Returns as what records fail that are handed over now, `None` where they are taken.
    pub(in crate::client::producer) fn refuses_records(&self) -> Option<ClientError> {
        self.transactions.as_ref()?.refuses_records()
    }

    /// Whether the transaction, if there are any, lets a batch be sent.
    pub(in crate::client::producer) fn transaction_lets(
        &self,
        id: QueueId,
        batch: &PendingBatch,
    ) -> bool {
        self.transactions.as_ref().is_none_or(|transactions| transactions.lets(id, batch))
    }

    /// Whether nobody needs what is refused now, and the next transaction is of another epoch, so that it
    /// need not be sent again.
    pub(in crate::client::producer) fn is_given_up(&self) -> bool {
        self.transactions.as_ref().is_some_and(|it| {
            let is_failed =
                matches!(it.state, State::Failed(_) | State::Ending { committed: false, .. });
            is_failed && (it.is_v2 || it.needs_epoch)
        })
    }

    /// Takes in which records have failed, and asks what is to be asked next.
    pub(in crate::client::producer) fn drive_transaction(
        &mut self,
        now: Instant,
        accumulator: &mut Accumulator,
    ) {
        if self.transactions.is_none() {
            return;
        }
        loop {
            self.settle_records(now, accumulator);
            let Some(transactions) = &mut self.transactions else { return };
            transactions.drop_given_up();
            transactions.note_partitions(accumulator);
            if transactions.is_asked {
                return;
            }
            if let Some(retry_at) = transactions.retry_at {
                if now < retry_at {
                    return;
                }
                transactions.retry_at = None;
            }
            match transactions.next_step(accumulator.pending() == 0) {
                None => return,
                Some(Step::Finish { committed }) => transactions.finish(committed),
                Some(Step::Ask(question)) => {
                    if !self.ask_transaction(now, question, accumulator) {
                        return;
                    }
                }
            }
        }
    }

    /// Lets the transaction fail with its records, and its records with the transaction.
    fn settle_records(&mut self, now: Instant, accumulator: &mut Accumulator) {
        let Some(transactions) = &mut self.transactions else { return };
        if let Some(error) = accumulator.take_failure() {
            transactions.on_record_failed(now, &error);
        }
        match &transactions.state {
            State::Dead(error) => {
                let error = error.for_records();
                accumulator.fail_unsent(&error);
                accumulator.fail_all(&error);
            }
            State::Failed(error) => accumulator.fail_unsent(&error.clone()),
            State::Ending { committed: false, .. } => {
                accumulator.fail_unsent(&ClientError::Aborted);
            }
            State::New
            | State::Initializing
            | State::Ready
            | State::Open
            | State::Ending { .. } => {}
        }
        // Those are no news.
        accumulator.take_failure();
    }

    /// Asks a question, if a broker can take it; returns whether there may be more to do at once.
    fn ask_transaction(
        &mut self,
        now: Instant,
        question: Question,
        accumulator: &Accumulator,
    ) -> bool {
        let Some(link) = self.link_for(now, &question) else { return false };
        let Some(transactions) = &mut self.transactions else { return false };
        if question == (Question::ProducerId { bump: false }) {
            let level = self.network.feature(FEATURE).min(self.config.transaction_version);
            transactions.is_v2 = level >= LEVEL_V2;
        }
        let asked = match self.request(link, &question, accumulator) {
            Ok(asked) => asked,
            Err(error) => {
                if let Some(transactions) = &mut self.transactions {
                    transactions.die(now, super::TransactionError::Fatal(error));
                }
                return true;
            }
        };
        let (request, max_version) = asked;
        if let Some(transactions) = &mut self.transactions {
            transactions.is_asked = true;
            if matches!(
                question,
                Question::AddPartitions | Question::AddOffsets | Question::StageOffsets
            ) {
                transactions.begun_at.get_or_insert(now);
            }
            transactions.is_begun |= transactions.is_v2 && question == Question::StageOffsets;
        }
        self.network.send(now, link, &request, max_version, Purpose::Transaction(question));
        false
    }

    /// Returns a connection to whom the question is for.
    fn link_for(&mut self, now: Instant, question: &Question) -> Option<Link> {
        let transactions = self.transactions.as_mut()?;
        let coordinator = match question {
            Question::FindTransaction | Question::FindGroup => {
                // One that is cut off from its cluster may name itself for ever.
                let is_in_doubt = transactions.failures > 1;
                let target = if is_in_doubt { Target::Others } else { Target::Any };
                return self.network.ready(now, target);
            }
            Question::StageOffsets => &mut transactions.offsets.front_mut()?.coordinator,
            Question::ProducerId { .. }
            | Question::AddPartitions
            | Question::AddOffsets
            | Question::End { .. } => &mut transactions.coordinator,
        };
        let node = coordinator.node?;
        let metadata = self.network.metadata();
        let is_known = metadata.brokers().contains_key(&node);
        let is_left_out = !is_known && metadata.answers() > coordinator.answers;
        if is_left_out || self.network.failures(node) > coordinator.failures {
            *coordinator = Coordinator::default();
            transactions.retry_at = Some(now + self.config.network.retry_backoff);
            return None;
        }
        if !is_known {
            self.network.mark_stale(now);
            return None;
        }
        self.network.ready(now, Target::Node(node))
    }

    /// Takes in what the cluster has settled on by the end of a transaction.
    pub(super) fn settle_version(&mut self) {
        let level = self.network.feature(FEATURE).min(self.config.transaction_version);
        let is_v2 = level >= LEVEL_V2;
        if let Some(transactions) = &mut self.transactions {
            // The first transaction of the new kind needs an epoch that the old kind has not used.
            transactions.needs_epoch |= is_v2 && !transactions.is_v2;
            transactions.is_v2 = is_v2;
        }
    }
}
