//! Registrations, fencing, and what they do to partitions.

use super::{Cluster, partition_id, registration};
use crate::error::ErrorCode;
use crate::ids::{Incarnation, NodeId, Uuid};
use crate::metadata::apply::RESOURCE_TOPIC;
use crate::metadata::decide_brokers::{
    controlled_shutdown, fence, incarnation_id, incarnation_of, unfence,
};
use crate::wire::api::broker_registration::BrokerFeatureRange;
use crate::wire::metadata_record::{ConfigRecord, FeatureLevelRecord};

#[test]
fn a_start_is_registered_fenced_at_the_offset_of_its_record() {
    let mut cluster = Cluster::of(2);
    let end = cluster.image.end_offset().0;
    let epoch = cluster.register(&registration(3, 3, 1)).expect("a new node");
    let broker = cluster.image.broker(NodeId(3)).expect("registered");
    assert_eq!((epoch, broker.broker_epoch), (end, end));
    assert!(broker.fenced);
    assert_eq!(broker.directories, [Uuid([3; 16])]);
}

#[test]
fn a_registration_that_is_asked_for_again_is_answered_without_records() {
    let mut cluster = Cluster::of(2);
    let epoch = cluster.register(&registration(3, 3, 1)).expect("a new node");
    cluster.apply(&unfence(&cluster.image.clone(), NodeId(3)));
    let before = cluster.image.clone();
    assert_eq!(cluster.register(&registration(3, 3, 1)), Ok(epoch));
    assert_eq!(cluster.image, before);
}

#[test]
fn a_later_start_raises_the_epoch_of_what_the_node_led_and_others_take_over() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3], &[2, 1, 3]]);
    cluster.register(&registration(1, 1, 2)).expect("a later start");
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![2, 3], 2));
    assert_eq!(cluster.partition(0).leader_epoch.0, 2, "once by the start, once by the election");
    assert_eq!((cluster.isr(1), cluster.leader(1)), (vec![2, 3], 2));
    assert_eq!(cluster.partition(1).leader_epoch.0, 0, "the leader of the other goes on");
}

#[test]
fn a_start_that_is_older_than_the_one_on_record_is_refused_as_rolled_back() {
    let mut cluster = Cluster::of(1);
    cluster.start(1, 5);
    let (code, why) = cluster.register(&registration(1, 1, 4)).expect_err("older");
    assert_eq!(code, ErrorCode::InvalidRegistration);
    assert!(why.contains("rolled back"), "{why}");
}

#[test]
fn another_directory_is_refused_while_the_node_lives() {
    let mut cluster = Cluster::of(2);
    let (code, _) = cluster.register(&registration(1, 9, 1)).expect_err("it lives");
    assert_eq!(code, ErrorCode::DuplicateBrokerRegistration);
}

#[test]
fn a_node_with_another_directory_leaves_every_in_sync_set_in_its_own_batch() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2], &[1], &[2, 3]]);
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(1)]));
    assert_eq!(cluster.isr(0), [1, 2], "kept, because MIN needs it");

    cluster.register(&registration(1, 9, 1)).expect("fenced, so its place is free");

    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![2], 2));
    assert_eq!((cluster.isr(1), cluster.leader(1)), (vec![], -1));
    assert_eq!(cluster.isr(2), [2, 3]);
    // Back again, it is still out.
    cluster.apply(&unfence(&cluster.image.clone(), NodeId(1)));
    assert_eq!((cluster.isr(1), cluster.leader(1)), (vec![], -1));
}

fn set(cluster: &mut Cluster, name: &str, value: &str) {
    let record = ConfigRecord {
        resource_type: RESOURCE_TOPIC,
        resource_name: "t".into(),
        name: name.into(),
        value: Some(value.into()),
    };
    cluster.apply(&[record.into()]);
}

#[test]
fn a_start_leaves_the_sets_of_memory_topics_but_the_last_member_stays_on_record() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2], &[1]]);
    set(&mut cluster, "mainspring.storage", "memory");
    cluster.start(1, 2);
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![2], 2));
    assert_eq!((cluster.isr(1), cluster.leader(1)), (vec![1], 1));
    assert!(cluster.image.unclean_election(partition_id(0)).is_none());
    let ledger = cluster.image.unclean_election(partition_id(1)).expect("on record");
    assert_eq!(
        (ledger.leader, ledger.leader_epoch),
        (NodeId(1), cluster.partition(1).leader_epoch)
    );
    // Another directory leaves even those.
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(1)]));
    cluster.register(&registration(1, 9, 1)).expect("fenced, so its place is free");
    assert!(cluster.isr(1).is_empty());
}

#[test]
fn a_lazy_log_is_whole_where_the_start_names_the_registration_before() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2]]);
    set(&mut cluster, "mainspring.flush", "lazy");
    let epoch = cluster.image.broker(NodeId(1)).expect("there").broker_epoch;
    let mut whole = registration(1, 1, 2);
    whole.previous_broker_epoch = epoch;
    cluster.register(&whole).expect("a later start");
    assert_eq!(cluster.isr(0), [1, 2]);
    let mut torn = registration(1, 1, 3);
    torn.previous_broker_epoch = epoch;
    cluster.register(&torn).expect("a later start");
    assert_eq!(cluster.isr(0), [2], "it names one that is older");
}

#[test]
fn nodes_of_another_cluster_and_without_a_directory_are_refused() {
    let mut cluster = Cluster::of(1);
    let mut stranger = registration(2, 2, 1);
    stranger.cluster_id = Uuid([1; 16]).to_string().into();
    assert_eq!(
        cluster.register(&stranger).map_err(|it| it.0),
        Err(ErrorCode::InconsistentClusterId)
    );
    for log_dirs in [vec![], vec![Uuid::ZERO], vec![Uuid([1; 16]), Uuid([2; 16])]] {
        let mut request = registration(2, 2, 1);
        request.log_dirs = log_dirs;
        assert_eq!(cluster.register(&request).map_err(|it| it.0), Err(ErrorCode::InvalidRequest));
    }
}

#[test]
fn a_node_that_cannot_serve_a_settled_feature_is_refused() {
    let mut cluster = Cluster::of(1);
    let level = FeatureLevelRecord { name: "metadata.version".into(), feature_level: 29 };
    cluster.apply(&[level.into()]);
    let mut request = registration(2, 2, 1);
    assert_eq!(cluster.register(&request).map_err(|it| it.0), Err(ErrorCode::UnsupportedVersion));
    request.features = vec![BrokerFeatureRange {
        name: "metadata.version".into(),
        min_supported_version: 7,
        max_supported_version: 29,
    }];
    assert!(cluster.register(&request).is_ok());
}

#[test]
fn a_fenced_broker_leads_nothing_and_stays_in_sync_where_min_needs_it() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3], &[1, 2], &[1]]);
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(1)]));
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![2, 3], 2));
    assert_eq!((cluster.isr(1), cluster.leader(1)), (vec![1, 2], 2));
    assert_eq!((cluster.isr(2), cluster.leader(2)), (vec![1], -1));
    assert!(fence(&cluster.image, &[NodeId(1)]).is_empty(), "once is enough");

    cluster.apply(&unfence(&cluster.image.clone(), NodeId(1)));
    assert_eq!((cluster.isr(1), cluster.leader(1)), (vec![1, 2], 2), "nobody is deposed");
    assert_eq!((cluster.isr(2), cluster.leader(2)), (vec![1], 1));
    assert_eq!(cluster.partition(2).leader_epoch.0, 2);
}

#[test]
fn of_brokers_that_are_fenced_together_none_is_elected() {
    let mut cluster = Cluster::with_topic(3, 1, &[&[1, 2, 3]]);
    cluster.apply(&fence(&cluster.image.clone(), &[NodeId(1), NodeId(2), NodeId(9)]));
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![3], 3));
    assert_eq!(cluster.partition(0).leader_epoch.0, 1);
}

#[test]
fn after_the_loss_of_all_the_last_members_in_sync_lead_again_and_no_other() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3]]);
    for node in 1..=3 {
        cluster.apply(&fence(&cluster.image.clone(), &[NodeId(node)]));
    }
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![2, 3], -1));
    cluster.start(1, 2);
    assert_eq!(cluster.leader(0), -1);
    cluster.start(3, 2);
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![2, 3], 3));
}

#[test]
fn a_broker_about_to_stop_hands_its_partitions_over() {
    let mut cluster = Cluster::with_topic(3, 2, &[&[1, 2, 3], &[1, 2]]);
    cluster.apply(&controlled_shutdown(&cluster.image.clone(), NodeId(1)));
    assert!(!cluster.image.broker(NodeId(1)).expect("there").fenced);
    assert_eq!((cluster.isr(0), cluster.leader(0)), (vec![2, 3], 2));
    assert_eq!((cluster.isr(1), cluster.leader(1)), (vec![1, 2], 2));
    cluster.start(1, 2);
    assert!(cluster.image.is_active(NodeId(1)), "its next start serves again");
}

#[test]
fn an_incarnation_id_tells_its_start() {
    let id = incarnation_id(Uuid([7; 16]), Incarnation(0x0102_0304));
    assert_eq!(incarnation_of(id), Incarnation(0x0102_0304));
    assert_eq!(id.0[..12], [7; 12]);
}
