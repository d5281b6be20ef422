//! What administrators ask about transactions.

use mainspring_core::client::ClientError;
use mainspring_core::client::admin::AdminTarget;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::NodeId;
use mainspring_core::wire::api::describe_transactions::{
    DescribeTransactionsRequest, DescribedTransaction,
};
use mainspring_core::wire::api::init_producer_id::InitProducerIdRequest;
use mainspring_core::wire::api::list_transactions::{ListTransactionsRequest, ListedTransaction};
use mainspring_core::wire::{KafkaString, Response};

use super::operations::{About, Asks, Operations};

/// Timeout in milliseconds that a producer is given which is there to fence another one.
const FENCING_TIMEOUT_MS: i32 = 60_000;

impl<A: Asks> Operations<A> {
    /// Lists the transactional ids of all brokers by their names, with their coordinators.
    ///
    /// # Errors
    /// A broker's refusal.
    pub async fn transactions(&mut self) -> Result<Vec<(ListedTransaction, NodeId)>, A::Failure> {
        let about = About::Cluster;
        let mut listed = Vec::new();
        for node in self.nodes().await? {
            let request = ListTransactionsRequest::default();
            let Response::ListTransactions(response) =
                self.ask(&about, AdminTarget::Node(node), request).await?
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

    async fn nodes(&mut self) -> Result<Vec<NodeId>, A::Failure> {
        let metadata = self.metadata(Some(&[])).await?;
        Ok(metadata.brokers.iter().map(|broker| NodeId(broker.node_id)).collect())
    }
}
