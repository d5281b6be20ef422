//! `AlterPartition` and elections.

use super::{Cluster, TOPIC, partition_id};
use crate::error::ErrorCode;
use crate::ids::NodeId;
use crate::metadata::decide_brokers::{fence, unfence};
use crate::metadata::decide_partitions::alter_partition;
use crate::metadata::elections::{balance_leaders, elect_leaders};
use crate::wire::api::alter_partition::AlterPartitionRequest;
use crate::wire::api::elect_leaders::{ElectLeadersRequest, ElectLeadersTopic};

fn code(cluster: &mut Cluster, request: &AlterPartitionRequest) -> ErrorCode {
    let before = cluster.image.clone();
    let answer = cluster.alter(request);
    let code = ErrorCode::from_code(answer.error_code).expect("a code of Kafka");
    if !matches!(code, ErrorCode::None | ErrorCode::NewLeaderElected) {
        assert_eq!(cluster.image, before, "a refusal changes nothing");
    }
    code
}

#[test]
fn a_leader_shrinks_and_grows_its_set_and_is_told_the_new_partition_epoch() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3]]);
    let answer = cluster.alter(&cluster.asks_for(0, &[1, 3]));
    assert_eq!((answer.error_code, &answer.isr[..], answer.partition_epoch), (0, &[1, 3][..], 1));
    assert_eq!((answer.leader_id, answer.leader_epoch), (1, 0));
    let answer = cluster.alter(&cluster.asks_for(0, &[1, 3, 2]));
    assert_eq!(
        (answer.error_code, &answer.isr[..], answer.partition_epoch),
        (0, &[1, 3, 2][..], 2)
    );
    assert_eq!(cluster.isr(0), [1, 3, 2]);
    let same = cluster.alter(&cluster.asks_for(0, &[1, 3, 2]));
    assert_eq!((same.error_code, same.partition_epoch), (0, 2), "nothing changed");
}

#[test]
fn a_set_never_shrinks_below_min_and_the_answer_says_what_is_in_force() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3]]);
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(2)]));
    assert_eq!(cluster.isr(0), [1, 3]);
    let answer = cluster.alter(&cluster.asks_for(0, &[1]));
    assert_eq!((answer.error_code, &answer.isr[..], answer.partition_epoch), (0, &[1, 3][..], 1));
    assert_eq!(cluster.isr(0), [1, 3]);
}

#[test]
fn a_fenced_member_leaves_once_another_has_taken_its_place() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3]]);
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(2)]));
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(3)]));
    assert_eq!(cluster.isr(0), [1, 3]);
    cluster.apply(&unfence(&cluster.image.clone(), NodeId(2)));
    // The leader names the fenced member too: it may not leave it out before the controller does.
    let answer = cluster.alter(&cluster.asks_for(0, &[1, 3, 2]));
    assert_eq!((answer.error_code, &answer.isr[..]), (0, &[1, 2][..]));
}

#[test]
fn requests_that_are_out_of_date_are_refused_by_kafkas_codes() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3]]);
    cluster.alter(&cluster.asks_for(0, &[1, 2]));
    let good = cluster.asks_for(0, &[1, 2, 3]);
    let cases: [(Spoil, ErrorCode); 8] = [
        (|it| it.topics[0].topic_id.0[0] = 1, ErrorCode::UnknownTopicId),
        (|it| partition(it).partition_index = 1, ErrorCode::UnknownTopicOrPartition),
        (|it| partition(it).leader_epoch += 1, ErrorCode::NotController),
        (|it| partition(it).leader_epoch -= 1, ErrorCode::FencedLeaderEpoch),
        (|it| partition(it).partition_epoch += 1, ErrorCode::NotController),
        (|it| partition(it).partition_epoch -= 1, ErrorCode::InvalidUpdateVersion),
        (|it| partition(it).new_isr_with_epochs[1].broker_id = 9, ErrorCode::InvalidRequest),
        (|it| partition(it).new_isr_with_epochs[2].broker_epoch -= 1, ErrorCode::IneligibleReplica),
    ];
    for (index, (spoil, expected)) in cases.into_iter().enumerate() {
        let mut request = good.clone();
        spoil(&mut request);
        assert_eq!(code(&mut cluster, &request), expected, "case {index}");
    }
    let mut twice = good.clone();
    let again = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(again);
    let answer = alter_partition(&cluster.image, &twice, 3).response;
    let codes: Vec<i16> = answer.topics[0].partitions.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::InvalidRequest.code()]);
    assert_eq!(code(&mut cluster, &good), ErrorCode::None);
}

type Spoil = fn(&mut AlterPartitionRequest);

fn partition(
    request: &mut AlterPartitionRequest,
) -> &mut crate::wire::api::alter_partition::AlterPartitionPartition {
    &mut request.topics[0].partitions[0]
}

#[test]
fn only_the_leader_of_this_registration_is_heard() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3]]);
    let good = cluster.asks_for(0, &[1, 2]);
    let mut other = good.clone();
    other.broker_id = 2;
    other.broker_epoch = cluster.image.broker(NodeId(2)).expect("there").broker_epoch;
    assert_eq!(code(&mut cluster, &other), ErrorCode::InvalidRequest);
    let mut old = good.clone();
    old.broker_epoch -= 1;
    let refused = alter_partition(&cluster.image, &old, 3);
    assert_eq!(refused.response.error_code, ErrorCode::StaleBrokerEpoch.code());
    let mut unknown = good;
    unknown.broker_id = 9;
    let refused = alter_partition(&cluster.image, &unknown, 3);
    assert_eq!(refused.response.error_code, ErrorCode::BrokerIdNotRegistered.code());
}

#[test]
fn a_replica_that_is_fenced_or_registered_anew_cannot_join() {
    let mut cluster = Cluster::with_topic(3, 1, &[&[1, 2, 3]]);
    cluster.alter(&cluster.asks_for(0, &[1, 2]));
    let seen = cluster.asks_for(0, &[1, 2, 3]);
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(3)]));
    assert_eq!(code(&mut cluster, &seen), ErrorCode::IneligibleReplica, "fenced");
    cluster.start(3, 2);
    assert_eq!(code(&mut cluster, &seen), ErrorCode::IneligibleReplica, "an older registration");
    let seen = cluster.asks_for(0, &[1, 2, 3]);
    assert_eq!(code(&mut cluster, &seen), ErrorCode::None);
}

#[test]
fn version_two_names_members_without_their_registrations() {
    let mut cluster = Cluster::with_topic(3, 1, &[&[1, 2, 3]]);
    let mut request = cluster.asks_for(0, &[]);
    partition(&mut request).new_isr = vec![3, 1];
    let decision = alter_partition(&cluster.image, &request, 2);
    cluster.apply(&decision.records);
    assert_eq!(cluster.isr(0), [3, 1]);
}

fn order(kind: i8, partitions: Option<Vec<i32>>) -> ElectLeadersRequest {
    let topic_partitions =
        partitions.map(|partitions| vec![ElectLeadersTopic { topic: "t".into(), partitions }]);
    ElectLeadersRequest { election_type: kind, topic_partitions, ..ElectLeadersRequest::default() }
}

fn elect(cluster: &mut Cluster, request: &ElectLeadersRequest) -> Vec<(i32, i16)> {
    let decision = elect_leaders(&cluster.image, request);
    cluster.apply(&decision.records);
    let topics = decision.response.replica_election_results;
    topics
        .iter()
        .flat_map(|topic| &topic.partition_result)
        .map(|result| (result.partition_id, result.error_code))
        .collect()
}

#[test]
fn preferred_leaders_are_elected_where_they_are_in_sync() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3], &[2, 1, 3], &[1, 3, 2]]);
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(1)]));
    cluster.apply(&unfence(&cluster.image.clone(), NodeId(1)));
    cluster.alter(&cluster.asks_for(0, &[2, 3, 1]));
    let not_available = ErrorCode::PreferredLeaderNotAvailable.code();
    let not_needed = ErrorCode::ElectionNotNeeded.code();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(
        elect(&mut cluster, &order(0, Some(vec![0, 1, 2, 3]))),
        [(0, 0), (1, not_needed), (2, not_available), (3, unknown)]
    );
    assert_eq!([0, 1, 2].map(|index| cluster.leader(index)), [1, 2, 3]);
    assert_eq!(elect(&mut cluster, &order(0, None)), [(2, not_available)]);
}

#[test]
fn leaders_are_given_back_a_few_at_a_time() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]]);
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(1)]));
    cluster.apply(&unfence(&cluster.image.clone(), NodeId(1)));
    assert_eq!(balance_leaders(&cluster.image, 10).response, 0, "nowhere in sync");
    for index in 0..3 {
        cluster.alter(&cluster.asks_for(index, &[1, 2, 3]));
    }
    let decision = balance_leaders(&cluster.image, 2);
    cluster.apply(&decision.records);
    assert_eq!(decision.response, 2);
    assert_eq!([0, 1, 2].map(|index| cluster.leader(index)), [1, 1, 2]);
}

#[test]
fn an_unclean_election_needs_an_order_and_is_on_record() {
    let mut cluster = Cluster::with_topic(3, 1, &[&[1, 2, 3], &[1, 2, 3]]);
    cluster.alter(&cluster.asks_for(0, &[1]));
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(1)]));
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(2)]));
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![1], -1));
    let not_needed = ErrorCode::ElectionNotNeeded.code();

    assert_eq!(elect(&mut cluster, &order(1, Some(vec![0, 1]))), [(0, 0), (1, not_needed)]);

    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![3], 3));
    let ledger = cluster.image.unclean_election(partition_id(0)).expect("on record");
    assert_eq!(
        (ledger.leader, ledger.leader_epoch),
        (NodeId(3), cluster.partition(0).leader_epoch)
    );
    assert!(cluster.image.unclean_election(partition_id(1)).is_none());
}

#[test]
fn without_any_active_replica_nothing_is_elected() {
    let mut cluster = Cluster::with_topic(2, 1, &[&[1]]);
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(1)]));
    let none = ErrorCode::EligibleLeadersNotAvailable.code();
    assert_eq!(elect(&mut cluster, &order(1, None)), [(0, none)]);
    assert_eq!(elect_leaders(&cluster.image, &order(2, None)).response.error_code, 42);
    assert_eq!(TOPIC, cluster.image.topic_by_name("t").expect("there").id);
}
