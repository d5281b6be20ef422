//! What administrators ask of a cluster as a whole: its nodes and quorum, elections and moves.

use mainspring_core::client::ClientError;
use mainspring_core::client::admin::{
    AdminTarget, describe_quorum, elect_leaders, list_reassignments, reassign_partitions,
};
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{NodeId, PartitionIndex};
use mainspring_core::wire::Response;
use mainspring_core::wire::api::describe_quorum::DescribeQuorumPartitionResponse;
use mainspring_core::wire::api::list_partition_reassignments::OngoingTopicReassignment;

use super::operations::{About, Asks, Operations};

/// What came of an election or a move: the partition, and why not where it was refused.
pub type Outcomes = Vec<(Place, Option<ClientError>)>;

impl<A: Asks> Operations<A> {
    /// Returns who leads the metadata log and how far its voters are.
    ///
    /// # Errors
    /// The broker's refusal; `NotController` where nobody leads at present.
    pub async fn quorum(&mut self) -> Result<DescribeQuorumPartitionResponse, A::Failure> {
        let about = About::Cluster;
        let Response::DescribeQuorum(mut response) =
            self.ask(&about, AdminTarget::Any, describe_quorum()).await?
        else {
            return Err(about.strange().into());
        };
        about.clone().check(response.error_code, response.error_message.as_ref())?;
        let partition = response.topics.pop().and_then(|mut topic| topic.partitions.pop());
        let partition = partition.ok_or_else(|| about.clone().strange())?;
        about.check(partition.error_code, partition.error_message.as_ref())?;
        Ok(partition)
    }

    /// Has leaders elected, of all partitions where none are named. Partitions whose leader is already the one
    /// that is wanted are left out of the result.
    ///
    /// # Errors
    /// The controller's refusal of all of it.
    pub async fn elect(
        &mut self,
        partitions: Option<&[Place]>,
        unclean: bool,
    ) -> Result<Outcomes, A::Failure> {
        let about = About::Cluster;
        let request = elect_leaders(partitions, unclean, self.timeout());
        let Response::ElectLeaders(response) =
            self.ask(&about, AdminTarget::Controller, request).await?
        else {
            return Err(about.strange().into());
        };
        about.check(response.error_code, None)?;
        let mut outcomes = Vec::new();
        for topic in response.replica_election_results {
            for result in topic.partition_result {
                if result.error_code == ErrorCode::ElectionNotNeeded.code() {
                    continue;
                }
                let message = result.error_message.as_deref();
                let error = ClientError::from_answer(result.error_code, message);
                outcomes.push(((topic.topic.clone(), PartitionIndex(result.partition_id)), error));
            }
        }
        Ok(outcomes)
    }

    /// Begins to move partitions to these replicas, the first of which is to lead; `None` takes a move back.
    ///
    /// # Errors
    /// The controller's refusal of all of it.
    pub async fn reassign(
        &mut self,
        moves: &[(Place, Option<Vec<NodeId>>)],
    ) -> Result<Outcomes, A::Failure> {
        let about = About::Cluster;
        let request = reassign_partitions(moves, self.timeout());
        let Response::AlterPartitionReassignments(response) =
            self.ask(&about, AdminTarget::Controller, request).await?
        else {
            return Err(about.strange().into());
        };
        about.check(response.error_code, response.error_message.as_ref())?;
        let mut outcomes = Vec::new();
        for topic in response.responses {
            for result in topic.partitions {
                let message = result.error_message.as_deref();
                let error = ClientError::from_answer(result.error_code, message);
                let place = (topic.name.clone(), PartitionIndex(result.partition_index));
                outcomes.push((place, error));
            }
        }
        Ok(outcomes)
    }

    /// Returns the partitions that are on the move.
    ///
    /// # Errors
    /// The controller's refusal.
    pub async fn moves(&mut self) -> Result<Vec<OngoingTopicReassignment>, A::Failure> {
        let about = About::Cluster;
        let request = list_reassignments(self.timeout());
        let Response::ListPartitionReassignments(response) =
            self.ask(&about, AdminTarget::Controller, request).await?
        else {
            return Err(about.strange().into());
        };
        about.check(response.error_code, response.error_message.as_ref())?;
        Ok(response.topics)
    }
}
