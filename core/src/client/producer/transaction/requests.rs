//! What the coordinators of a transaction are asked, word by word.

use super::{GroupMember, Question};
use crate::client::group::StoredOffset;
use crate::client::group::requests::{find_coordinator, find_transaction_coordinator};
use crate::client::producer::accumulator::{Accumulator, Place};
use crate::client::producer::sender::Sender;
use crate::client::{ClientError, Link};
use crate::ids::{ProducerEpoch, ProducerId};
use crate::wire::api::add_offsets_to_txn::AddOffsetsToTxnRequest;
use crate::wire::api::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use crate::wire::api::end_txn::EndTxnRequest;
use crate::wire::api::init_producer_id::InitProducerIdRequest;
use crate::wire::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use crate::wire::{ApiKey, KafkaString, Request};

/// First version of `FindCoordinator` that asks about transactional ids.
const FIRST_FIND_VERSION: i16 = 1;
/// First version of `InitProducerId` that says which producer asks for its next epoch (KIP-360).
const FIRST_BUMP_VERSION: i16 = 3;
/// The last version of `AddPartitionsToTxn` that is for clients.
const LAST_ADD_VERSION_OF_CLIENTS: i16 = 3;
/// First version of `TxnOffsetCommit` that says who has read (KIP-447).
const FIRST_VERSION_WITH_MEMBER: i16 = 3;
/// The last versions of `TxnOffsetCommit` and `EndTxn` of `transaction.version` 1.
const LAST_VERSION_V1: i16 = 4;

type Identity = (ProducerId, ProducerEpoch);

impl Sender {
    /// Returns the words of a question, and the last version in which it may be asked.
    pub(super) fn request(
        &self,
        link: Link,
        question: &Question,
        accumulator: &Accumulator,
    ) -> Result<(Request, i16), ClientError> {
        let transactions = self.transactions.as_ref().expect("a question is about transactions");
        let id = &transactions.id;
        let of_v2 = |newest: i16| if transactions.is_v2 { newest } else { LAST_VERSION_V1 };
        let identity = || self.sequences.identity().expect("it was given out before");
        let offsets = || transactions.offsets.front().expect("there are offsets to be sent");
        let (request, max_version, first): (Request, i16, i16) = match question {
            Question::FindTransaction => {
                let request = find_transaction_coordinator(id).into();
                (request, ApiKey::FindCoordinator.max_version(), FIRST_FIND_VERSION)
            }
            Question::FindGroup => {
                let request = find_coordinator(&offsets().member.group_id).into();
                (request, ApiKey::FindCoordinator.max_version(), 0)
            }
            Question::ProducerId { bump } => {
                let known = bump.then(identity);
                let timeout_ms = self.config.transaction_timeout.as_millis();
                let request = InitProducerIdRequest {
                    transactional_id: Some(id.clone()),
                    transaction_timeout_ms: i32::try_from(timeout_ms).unwrap_or(i32::MAX),
                    producer_id: known.map_or(-1, |(producer_id, _)| producer_id.0),
                    producer_epoch: known.map_or(-1, |(_, epoch)| epoch.0),
                };
                let first = if *bump { FIRST_BUMP_VERSION } else { 0 };
                (request.into(), ApiKey::InitProducerId.max_version(), first)
            }
            Question::AddPartitions => {
                let places =
                    transactions.adding.iter().map(|queue| &accumulator.queue(*queue).place);
                let request = add_partitions(id, identity(), places);
                (request.into(), LAST_ADD_VERSION_OF_CLIENTS, 0)
            }
            Question::AddOffsets => {
                let (producer_id, epoch) = identity();
                let request = AddOffsetsToTxnRequest {
                    transactional_id: id.clone(),
                    producer_id: producer_id.0,
                    producer_epoch: epoch.0,
                    group_id: offsets().member.group_id.clone(),
                };
                (request.into(), ApiKey::AddOffsetsToTxn.max_version(), 0)
            }
            Question::StageOffsets => {
                let offsets = offsets();
                let says_nothing =
                    offsets.member == GroupMember::nobody(offsets.member.group_id.clone());
                let first = if says_nothing { 0 } else { FIRST_VERSION_WITH_MEMBER };
                let request = stage_offsets(id, identity(), &offsets.member, &offsets.left);
                (request.into(), of_v2(ApiKey::TxnOffsetCommit.max_version()), first)
            }
            Question::End { committed } => {
                let (producer_id, epoch) = identity();
                let request = EndTxnRequest {
                    transactional_id: id.clone(),
                    producer_id: producer_id.0,
                    producer_epoch: epoch.0,
                    committed: *committed,
                };
                (request.into(), of_v2(ApiKey::EndTxn.max_version()), 0)
            }
        };
        let api_key = request.api_key();
        match self.network.version(link, api_key, max_version) {
            Some(version) if version >= first => Ok((request, max_version)),
            Some(_) | None => Err(ClientError::UnsupportedApi(api_key.name())),
        }
    }
}

fn add_partitions<'a>(
    id: &KafkaString,
    (producer_id, epoch): Identity,
    places: impl Iterator<Item = &'a Place>,
) -> AddPartitionsToTxnRequest {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for (name, partition) in places {
        match topics.iter_mut().find(|topic| topic.name == *name) {
            Some(topic) => topic.partitions.push(partition.0),
            None => topics.push(AddPartitionsToTxnTopic {
                name: name.clone(),
                partitions: vec![partition.0],
            }),
        }
    }
    AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.clone(),
        v3_and_below_producer_id: producer_id.0,
        v3_and_below_producer_epoch: epoch.0,
        v3_and_below_topics: topics,
        ..AddPartitionsToTxnRequest::default()
    }
}

fn stage_offsets(
    id: &KafkaString,
    (producer_id, epoch): Identity,
    member: &GroupMember,
    offsets: &std::collections::BTreeMap<Place, StoredOffset>,
) -> TxnOffsetCommitRequest {
    let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
    for ((topic, partition), stored) in offsets {
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: partition.0,
            committed_offset: stored.offset.0,
            committed_leader_epoch: stored.leader_epoch.0,
            committed_metadata: Some(stored.metadata.clone()),
        };
        match topics.last_mut().filter(|last| last.name == *topic) {
            Some(last) => last.partitions.push(partition),
            None => topics.push(TxnOffsetCommitRequestTopic {
                name: topic.clone(),
                partitions: vec![partition],
            }),
        }
    }
    TxnOffsetCommitRequest {
        transactional_id: id.clone(),
        group_id: member.group_id.clone(),
        producer_id: producer_id.0,
        producer_epoch: epoch.0,
        generation_id_or_member_epoch: member.generation_id,
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        topics,
    }
}
