//! What administrators ask about transactions.

use mainspring_core::client::ClientError;
use mainspring_core::client::admin::AdminTarget;
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::NodeId;
use mainspring_core::wire::api::describe_producers::{
    DescribeProducersRequest, DescribeProducersTopic,
};
use mainspring_core::wire::api::describe_transactions::{
    DescribeTransactionsRequest, DescribedTransaction,
};
use mainspring_core::wire::api::init_producer_id::InitProducerIdRequest;
use mainspring_core::wire::api::list_transactions::{ListTransactionsRequest, ListedTransaction};
use mainspring_core::wire::{KafkaString, Response};

use super::operations::{About, Asks, Operations};

/// Who keeps readers of committed records from the end of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The producer.
    pub producer_id: i64,
    /// The first offset of its open transaction there.
    pub first_offset: i64,
    /// Its transactional id; `None` where no coordinator knows the producer any more.
    pub transactional_id: Option<KafkaString>,
}

/// Timeout in milliseconds that a producer is given which is there to fence another one.
const FENCING_TIMEOUT_MS: i32 = 60_000;

impl<A: Asks> Operations<A> {
    /// Lists the transactional ids of all brokers that pass the filters of a request by their names, with their
    /// coordinators.
    ///
    /// # Errors
    /// A broker's refusal.
    pub async fn transactions(
        &mut self,
        filters: &ListTransactionsRequest,
    ) -> Result<Vec<(ListedTransaction, NodeId)>, A::Failure> {
        let about = About::Cluster;
        let mut listed = Vec::new();
        for node in self.nodes().await? {
            let Response::ListTransactions(response) =
                self.ask(&about, AdminTarget::Node(node), filters.clone()).await?
            else {
                return Err(about.strange().into());
            };
            about.clone().check(response.error_code, None)?;
            listed.extend(response.transaction_states.into_iter().map(|one| (one, node)));
        }
        listed.sort_by(|(left, _), (right, _)| left.transactional_id.cmp(&right.transactional_id));
        Ok(listed)
    }

    /// Describes a transactional id, with its coordinator; `None` where there is none such.
    ///
    /// # Errors
    /// The coordinator's refusal; `CoordinatorNotAvailable` where none is there at present.
    pub async fn transaction(
        &mut self,
        id: &KafkaString,
    ) -> Result<Option<(DescribedTransaction, NodeId)>, A::Failure> {
        let about = About::Cluster;
        let mut is_any = false;
        for node in self.nodes().await? {
            let request = DescribeTransactionsRequest { transactional_ids: vec![id.clone()] };
            let Response::DescribeTransactions(mut response) =
                self.ask(&about, AdminTarget::Node(node), request).await?
            else {
                return Err(about.strange().into());
            };
            let found = response.transaction_states.pop().ok_or_else(|| about.clone().strange())?;
            match ErrorCode::from_code(found.error_code) {
                // Another broker is the coordinator.
                Some(ErrorCode::NotCoordinator) => {}
                Some(ErrorCode::TransactionalIdNotFound) => is_any = true,
                _ => {
                    about.clone().check(found.error_code, None)?;
                    return Ok(Some((found, node)));
                }
            }
        }
        if is_any {
            return Ok(None);
        }
        let absent = ClientError::Broker(ErrorCode::CoordinatorNotAvailable);
        Err(about.refused(absent).into())
    }

    /// Aborts what is open of a transactional id and fences its producer, as the next producer with the id would.
    /// Returns whether that is done: if not, the abort is decided and still under way.
    ///
    /// # Errors
    /// The coordinator's refusal.
    pub async fn abort_transaction(
        &mut self,
        id: &KafkaString,
        coordinator: NodeId,
    ) -> Result<bool, A::Failure> {
        let about = About::Cluster;
        let request = InitProducerIdRequest {
            transactional_id: Some(id.clone()),
            transaction_timeout_ms: FENCING_TIMEOUT_MS,
            ..InitProducerIdRequest::default()
        };
        let Response::InitProducerId(response) =
            self.ask(&about, AdminTarget::Node(coordinator), request).await?
        else {
            return Err(about.strange().into());
        };
        if response.error_code == ErrorCode::ConcurrentTransactions.code() {
            return Ok(false);
        }
        about.check(response.error_code, None)?;
        Ok(true)
    }

    /// Says whose open transaction keeps readers of committed records from the end of a partition, as its leader
    /// sees it; `None` where none does.
    ///
    /// # Errors
    /// The leader's refusal, or that of the brokers that were asked for the transactional id.
    pub async fn holder(
        &mut self,
        place: &Place,
        leader: NodeId,
    ) -> Result<Option<Holder>, A::Failure> {
        let about = About::Partition(place.clone());
        let topic =
            DescribeProducersTopic { name: place.0.clone(), partition_indexes: vec![place.1.0] };
        let request = DescribeProducersRequest { topics: vec![topic] };
        let Response::DescribeProducers(response) =
            self.ask(&about, AdminTarget::Node(leader), request).await?
        else {
            return Err(about.strange().into());
        };
        let topic = response.topics.first();
        let Some(partition) = topic.and_then(|topic| topic.partitions.first()) else {
            return Err(about.strange().into());
        };
        about.check(partition.error_code, partition.error_message.as_ref())?;
        let open = partition.active_producers.iter();
        let first = open
            .filter(|producer| producer.current_txn_start_offset >= 0)
            .min_by_key(|producer| producer.current_txn_start_offset);
        let Some(first) = first else { return Ok(None) };
        let filters = ListTransactionsRequest {
            producer_id_filters: vec![first.producer_id],
            ..ListTransactionsRequest::default()
        };
        let found = self.transactions(&filters).await?;
        Ok(Some(Holder {
            producer_id: first.producer_id,
            first_offset: first.current_txn_start_offset,
            transactional_id: found.into_iter().next().map(|(one, _)| one.transactional_id),
        }))
    }

    async fn nodes(&mut self) -> Result<Vec<NodeId>, A::Failure> {
        let metadata = self.metadata(Some(&[])).await?;
        Ok(metadata.brokers.iter().map(|broker| NodeId(broker.node_id)).collect())
    }
}
