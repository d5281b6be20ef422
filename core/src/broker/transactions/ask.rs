//! How a connection's shard asks the coordinators of transactions.

use crate::broker::api::transactions;
use crate::broker::pending::{Gather, RequestContext};
use crate::broker::post::{Answer, Ask, Speaker, TransactionItem};
use crate::broker::shard::Shard;
use crate::connection::Connection;
use crate::coordinator::transaction::api as transaction;
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, ShardId, TopicPartition};
use crate::metadata::image::TRANSACTION_STATE;
use crate::time::{Instant, Now};
use crate::wire::{KafkaString, Response};

impl Shard {
    /// Asks the coordinators of transactional ids; each answers the entry of its place.
    pub(in crate::broker) fn ask_transactions(
        &mut self,
        now: Now,
        ctx: RequestContext,
        response: impl Into<Response>,
        asked: Vec<(KafkaString, transaction::Request)>,
    ) {
        let places = (0..asked.len() as u32).map(|index| (index, 0)).collect();
        let mut gather = waiting(ctx, response.into(), places);
        let mut items = Vec::new();
        let me = self.config.node.node_id;
        let speaker = self.speaker(&ctx);
        for ((id, request), index) in asked.into_iter().zip(0..) {
            match self.transactions_of(&id) {
                Ok((partition, leader)) if leader == me => {
                    let spoken = is_of_the_first_kind(&request).then_some((speaker, id));
                    let item =
                        TransactionItem { index, partition, request, spoken, is_ahead: false };
                    items.push((self.owner(partition), item));
                }
                Ok(_) | Err(_) => {
                    let answer = Answer::Transaction(Err(ErrorCode::NotCoordinator));
                    Self::fill(&self.image, &mut gather, (index, 0), answer);
                }
            }
        }
        self.gather(now, gather, items, None, Ask::Transaction);
    }

    /// Returns by which connection a request came.
    pub(in crate::broker) fn speaker(&self, ctx: &RequestContext) -> Speaker {
        let connection = ctx.id.connection;
        let since = self.connections.get(&connection).map_or(Instant::ZERO, Connection::opened);
        Speaker { connection, since }
    }

    /// Asks every coordinator of this node for its transactional ids.
    pub(in crate::broker) fn ask_all_transactions(
        &mut self,
        now: Now,
        ctx: RequestContext,
        response: Response,
        asked: &transaction::ListTransactions,
    ) {
        let me = self.config.node.node_id;
        let topic = self.image.topic_by_name(TRANSACTION_STATE);
        let led: Vec<TopicPartition> = topic
            .into_iter()
            .flat_map(|topic| {
                let partitions = topic.partitions.iter().zip(0..);
                let led = partitions.filter(|(state, _)| state.leader == me);
                led.map(|(_, at)| TopicPartition {
                    topic_id: topic.id,
                    partition: PartitionIndex(at),
                })
            })
            .collect();
        let places = (0..led.len() as u32).map(|index| (index, 0)).collect();
        let items: Vec<(ShardId, TransactionItem)> = led
            .into_iter()
            .zip(0..)
            .map(|(partition, index)| {
                let request = transaction::Request::ListTransactions(asked.clone());
                let item =
                    TransactionItem { index, partition, request, spoken: None, is_ahead: false };
                (self.owner(partition), item)
            })
            .collect();
        self.gather(now, waiting(ctx, response, places), items, None, Ask::Transaction);
    }
}

/// A response that waits for coordinators, which answer within their own time.
const fn waiting(ctx: RequestContext, response: Response, places: Vec<(u32, u32)>) -> Gather {
    Gather {
        ctx,
        response,
        places,
        outstanding: 0,
        deadline: None,
        is_silent: false,
        closes: false,
    }
}

/// Returns whether the epoch of a request says nothing of which of its producer's transactions is meant.
const fn is_of_the_first_kind(request: &transaction::Request) -> bool {
    match request {
        transaction::Request::AddPartitionsToTxn(request) => request.version < 4,
        // Producers of the second kind say it with the offsets (KIP-890), so whoever asks for it is of the first, even
        // in version 4, which is about an error code.
        transaction::Request::AddOffsetsToTxn(_) | transaction::Request::InitProducerId(_) => true,
        transaction::Request::EndTxn(request) => request.version < 5,
        transaction::Request::DescribeTransaction(_)
        | transaction::Request::ListTransactions(_)
        | transaction::Request::AbortTransaction(_) => false,
    }
}

/// Writes what a coordinator answered, or why none did, into a response.
pub(in crate::broker) fn fill(
    gather: &mut Gather,
    place: u32,
    outcome: Result<transaction::Response, ErrorCode>,
) {
    let at = place as usize;
    match (&mut gather.response, outcome) {
        (Response::InitProducerId(response), outcome) => {
            let answer = match outcome {
                Ok(transaction::Response::InitProducerId(answer)) => answer,
                outcome => transactions::no_producer(outcome),
            };
            response.error_code = answer.error.code();
            response.producer_id = answer.producer_id.0;
            response.producer_epoch = answer.producer_epoch.0;
        }
        (Response::EndTxn(response), outcome) => {
            let answer = match outcome {
                Ok(transaction::Response::EndTxn(answer)) => answer,
                outcome => transactions::no_producer(outcome),
            };
            response.error_code = answer.error.code();
            response.producer_id = answer.producer_id.0;
            response.producer_epoch = answer.producer_epoch.0;
        }
        (Response::AddOffsetsToTxn(response), outcome) => {
            response.error_code = match outcome {
                Ok(transaction::Response::AddOffsetsToTxn(code)) => code.code(),
                outcome => transactions::code_of(outcome).code(),
            };
        }
        (Response::AddPartitionsToTxn(response), outcome) => {
            transactions::fill_added(response, at, gather.ctx.version, outcome);
        }
        (Response::DescribeTransactions(response), outcome) => {
            transactions::fill_described(&mut response.transaction_states[at], outcome);
        }
        (Response::ListTransactions(response), outcome) => {
            transactions::fill_listed(response, outcome);
        }
        // No other request asks these coordinators. Its response says what it was made with.
        (_, _) => {}
    }
}
