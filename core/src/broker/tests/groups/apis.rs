//! What each request about groups is answered.

use crate::broker::testing::TestNode;
use crate::error::ErrorCode;
use crate::ids::Uuid;
use crate::wire::KafkaString;
use crate::wire::api::alter_configs;
use crate::wire::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::wire::api::create_topics::{CreatableTopic, CreateTopicsRequest};
use crate::wire::api::delete_groups::DeleteGroupsRequest;
use crate::wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::wire::api::describe_groups::DescribeGroupsRequest;
use crate::wire::api::find_coordinator::FindCoordinatorRequest;
use crate::wire::api::join_group::JoinGroupRequest;
use crate::wire::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::wire::api::list_groups::ListGroupsRequest;
use crate::wire::api::offset_commit::OffsetCommitRequest;
use crate::wire::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use crate::wire::api::sync_group::SyncGroupRequest;

use super::{
    SHARDS, alone, commit, commit_request, committed, committed_request, create, find, heartbeat,
    join_request, member_id, metadata, produce, send_join, started, sync, take_join,
};
use crate::broker::testing::batch;

#[test]
fn looking_for_a_coordinator_makes_the_topic_and_names_this_node() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(shards - 1);
        assert_eq!(metadata(&mut node, client, "__consumer_offsets", true).error_code, 3);

        let request = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
        let old = node.call(client, 0, &request);
        let keys = vec!["g".into(), "h".into(), KafkaString::default()];
        let request = FindCoordinatorRequest { coordinator_keys: keys, ..Default::default() };
        let new = node.call(client, 6, &request);

        assert_eq!((old.error_code, old.node_id, &*old.host, old.port), (0, 1, "127.0.0.1", 9092));
        let found: Vec<_> =
            new.coordinators.iter().map(|c| (&*c.key, c.error_code, c.node_id, c.port)).collect();
        assert_eq!(found, [("g", 0, 1, 9092), ("h", 0, 1, 9092), ("", 0, 1, 9092)]);
        let topic = metadata(&mut node, client, "__consumer_offsets", false);
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 16));
        assert!(topic.is_internal);
    }
}

#[test]
fn coordinators_of_what_is_not_served_are_refused_with_a_code_that_ends_the_search() {
    let mut node = started(1);
    let client = node.connect(0);
    let request = |key_type| FindCoordinatorRequest {
        key: "x".into(),
        key_type,
        coordinator_keys: vec!["x".into()],
    };
    for version in 1..=3 {
        assert_eq!(node.call(client, version, &request(2)).error_code, 42);
    }
    for (version, key_type, code) in [(6, 2, 35), (5, 2, 42), (6, 9, 42)] {
        let answer = node.call(client, version, &request(key_type));
        assert_eq!(answer.coordinators[0].error_code, code, "v{version} type {key_type}");
    }
    assert_eq!(metadata(&mut node, client, "__consumer_offsets", false).error_code, 3);
}

#[test]
fn before_anybody_looked_for_a_coordinator_nobody_is_one() {
    let mut node = started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    assert_eq!(heartbeat(&mut node, client, "g", 1, &"m".into()), 16);
    assert_eq!(commit(&mut node, client, "g", "t", &[(0, 1)]), [16]);
    assert_eq!(committed(&mut node, client, "g", "t", &[0]), (16, vec![]));
    let listed = node.call(client, 5, &ListGroupsRequest::default());
    assert_eq!((listed.error_code, listed.groups.len()), (0, 0));
}

#[test]
fn two_members_share_a_group_whatever_shard_they_connect_to() {
    for shards in SHARDS {
        let mut node = started(shards);
        let (a, b) = (node.connect(0), node.connect(shards - 1));
        for group in ["g0", "g1", "g2", "g3"] {
            let first = alone(&mut node, a, group);
            let second = member_id(&mut node, b, group);
            send_join(&mut node, b, group, &second);
            assert!(take_join(&mut node, b).is_none(), "it waits for the first member");
            assert_eq!(heartbeat(&mut node, a, group, first.generation_id, &first.member_id), 27);

            let leader = node.call(a, 7, &join_request(group, &first.member_id));
            let follower = take_join(&mut node, b).expect("all have joined");

            assert_eq!((leader.error_code, follower.error_code), (0, 0));
            assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
            assert_eq!(leader.generation_id, first.generation_id + 1);
            assert_eq!(follower.generation_id, leader.generation_id);
            let shares = [(&first.member_id, "one"), (&second, "two")];
            let one = sync(&mut node, a, group, &leader, &shares);
            let two = sync(&mut node, b, group, &follower, &[]);
            assert_eq!((&one.assignment[..], &two.assignment[..]), (&b"one"[..], &b"two"[..]));
            assert_eq!(two.protocol_type.as_deref(), Some("consumer"));
            let generation = leader.generation_id;
            assert_eq!(heartbeat(&mut node, b, group, generation, &second), 0);
        }
        let listed = node.call(a, 5, &ListGroupsRequest::default());
        let mut names: Vec<_> = listed.groups.iter().map(|g| g.group_id.to_string()).collect();
        names.sort();
        assert_eq!(names, ["g0", "g1", "g2", "g3"]);
        assert!(
            listed.groups.iter().all(|g| g.group_state == "Stable" && g.group_type == "classic")
        );
        let states = vec!["Empty".into()];
        let filter = ListGroupsRequest { states_filter: states, ..Default::default() };
        assert!(node.call(a, 5, &filter).groups.is_empty());
    }
}

#[test]
fn a_sync_of_a_new_version_names_the_protocol() {
    let mut node = started(3);
    let client = node.connect(1);
    let joined = alone(&mut node, client, "g");
    let request = |protocol_type: Option<&str>| SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: protocol_type.map(Into::into),
        protocol_name: Some("range".into()),
        ..SyncGroupRequest::default()
    };
    assert_eq!(node.call(client, 5, &request(None)).error_code, 23);
    assert_eq!(node.call(client, 5, &request(Some("other"))).error_code, 23);
    assert_eq!(node.call(client, 5, &request(Some("consumer"))).error_code, 0);
    assert_eq!(node.call(client, 4, &request(None)).error_code, 0);
}

#[test]
fn members_and_groups_are_described() {
    let mut node = started(3);
    let client = node.connect(1);
    let joined = alone(&mut node, client, "g");
    let request = |operations| DescribeGroupsRequest {
        groups: vec!["g".into(), "absent".into()],
        include_authorized_operations: operations,
    };
    let answer = node.call(client, 6, &request(true));
    let group = &answer.groups[0];
    assert_eq!((group.error_code, &*group.group_state), (0, "Stable"));
    assert_eq!((&*group.protocol_type, &*group.protocol_data), ("consumer", "range"));
    assert_ne!(group.authorized_operations, i32::MIN);
    let member = &group.members[0];
    assert_eq!(member.member_id, joined.member_id);
    assert_eq!((&*member.client_id, &*member.client_host), ("test", "/test"));
    assert_eq!(&member.member_assignment[..], b"all");
    assert_eq!(&member.member_metadata[..], b"subscription");
    assert_eq!(answer.groups[1].error_code, 69, "from version 6 on");
    assert_eq!(answer.groups[1].authorized_operations, i32::MIN);
    let old = node.call(client, 5, &request(false));
    assert_eq!((old.groups[1].error_code, &*old.groups[1].group_state), (0, "Dead"));
    assert_eq!(old.groups[0].authorized_operations, i32::MIN);
}

#[test]
fn a_group_named_again_and_again_is_answered_a_few_times() {
    let mut node = started(1);
    let client = node.connect(0);
    alone(&mut node, client, "g");
    let described = DescribeGroupsRequest {
        groups: vec!["g".into(); 1000],
        ..DescribeGroupsRequest::default()
    };
    let group = OffsetFetchRequestGroup { group_id: "g".into(), ..Default::default() };
    let fetched = OffsetFetchRequest { groups: vec![group; 1000], ..Default::default() };

    assert_eq!(node.call(client, 6, &described).groups.len(), 8);
    assert_eq!(node.call(client, 9, &fetched).groups.len(), 8);
}

#[test]
fn no_topic_is_made_that_would_stand_in_the_way_of_the_offsets() {
    let mut node = started(1);
    let client = node.connect(0);
    let topic = CreatableTopic {
        name: "__consumer.offsets".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };

    let answer = node.call(client, 7, &request);

    assert_eq!(answer.topics[0].error_code, ErrorCode::InvalidTopicException.code());
    alone(&mut node, client, "g");
}

#[test]
fn members_leave_and_what_is_empty_can_be_deleted() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        let joined = alone(&mut node, client, "g");
        alone(&mut node, client, "other");
        let delete = |node: &mut TestNode, names: &[&str]| {
            let groups_names = names.iter().map(|&name| name.into()).collect();
            let answer = node.call(client, 2, &DeleteGroupsRequest { groups_names });
            answer.results.iter().map(|result| result.error_code).collect::<Vec<_>>()
        };
        assert_eq!(delete(&mut node, &["g", "absent", "g"]), [68, 69], "each is answered once");
        let member = MemberIdentity { member_id: joined.member_id.clone(), ..Default::default() };
        let stranger = MemberIdentity { member_id: "stranger".into(), ..Default::default() };
        let request = LeaveGroupRequest {
            group_id: "g".into(),
            members: vec![member, stranger],
            ..Default::default()
        };
        let left = node.call(client, 5, &request);
        let codes: Vec<_> = left.members.iter().map(|member| member.error_code).collect();
        assert_eq!((left.error_code, &codes[..]), (0, &[0, 25][..]));
        let request = LeaveGroupRequest {
            group_id: "other".into(),
            member_id: "stranger".into(),
            ..Default::default()
        };
        assert_eq!(node.call(client, 2, &request).error_code, 25, "the member's error in old ones");
        assert_eq!(commit(&mut node, client, "g", "t", &[(0, 7)]), [0]);
        assert_eq!(delete(&mut node, &["g", "other"]), [0, 68]);
        assert_eq!(committed(&mut node, client, "g", "t", &[0]), (0, vec![-1]));
    }
}

#[test]
fn offsets_are_committed_and_fetched_in_every_version() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(shards - 1);
        let id = create(&mut node, client, "t", 3);
        find(&mut node, client, "g");
        for version in 2..=10 {
            let mut request = commit_request("g", "t", &[(0, i64::from(version)), (2, 20)]);
            request.topics[0].topic_id = id;
            let answer = node.call(client, version, &request);
            let codes: Vec<_> = answer.topics[0].partitions.iter().map(|p| p.error_code).collect();
            assert_eq!(codes, [0, 0], "v{version}");
        }
        for version in 1..=7 {
            let request = OffsetFetchRequest {
                group_id: "g".into(),
                topics: Some(vec![OffsetFetchRequestTopic {
                    name: "t".into(),
                    partition_indexes: vec![0, 1, 2],
                }]),
                ..OffsetFetchRequest::default()
            };
            let answer = node.call(client, version, &request);
            let found: Vec<_> =
                answer.topics[0].partitions.iter().map(|p| p.committed_offset).collect();
            assert_eq!((answer.error_code, &found[..]), (0, &[10, -1, 20][..]), "v{version}");
        }
        for version in 8..=10 {
            let asked = |group: &str, topics| OffsetFetchRequestGroup {
                group_id: group.into(),
                topics,
                ..OffsetFetchRequestGroup::default()
            };
            let topic = OffsetFetchRequestTopics {
                name: "t".into(),
                topic_id: id,
                partition_indexes: vec![2, 0],
            };
            let groups = vec![asked("g", Some(vec![topic])), asked("g", None), asked("h", None)];
            let request = OffsetFetchRequest { groups, ..OffsetFetchRequest::default() };
            let answer = node.call(client, version, &request);
            assert!(answer.groups.iter().all(|group| group.error_code == 0));
            let topics: Vec<_> = answer.groups.iter().map(|group| group.topics.len()).collect();
            assert_eq!(topics, [1, 1, 0], "v{version}");
            let topic = &answer.groups[0].topics[0];
            let found: Vec<_> = topic
                .partitions
                .iter()
                .map(|p| (p.partition_index, p.committed_offset, p.committed_leader_epoch))
                .collect();
            assert_eq!(found, [(2, 20, 5), (0, 10, 5)]);
            assert_eq!(topic.partitions[0].metadata.as_deref(), Some("why"));
            if version >= 10 {
                assert_eq!((topic.topic_id, answer.groups[1].topics[0].topic_id), (id, id));
            }
        }
    }
}

#[test]
fn topics_and_partitions_that_are_not_there_take_no_offsets() {
    let mut node = started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    find(&mut node, client, "g");
    assert_eq!(commit(&mut node, client, "g", "t", &[(0, 1), (1, 1), (-1, 1)]), [0, 3, 3]);
    assert_eq!(commit(&mut node, client, "g", "absent", &[(0, 1)]), [3]);
    let mut by_id = commit_request("g", "t", &[(0, 9)]);
    by_id.topics[0].topic_id = Uuid([7; 16]);
    assert_eq!(node.call(client, 10, &by_id).topics[0].partitions[0].error_code, 100);
    let mut fetch = committed_request("g", "t", &[0]);
    if let Some(topics) = &mut fetch.groups[0].topics {
        topics[0].topic_id = Uuid([7; 16]);
    }
    let answer = node.call(client, 10, &fetch);
    let partition = &answer.groups[0].topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.committed_offset), (100, -1));
    assert_eq!(committed(&mut node, client, "g", "t", &[0]), (0, vec![1]));
}

#[test]
fn commits_of_members_are_fenced_by_generation_and_member() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        let joined = alone(&mut node, client, "g");
        let of = |generation: i32, member: &str, offset: i64| OffsetCommitRequest {
            generation_id_or_member_epoch: generation,
            member_id: member.into(),
            ..commit_request("g", "t", &[(0, offset)])
        };
        let (generation, member) = (joined.generation_id, joined.member_id.to_string());
        for (request, code) in [
            (of(generation, &member, 1), 0),
            (of(generation + 1, &member, 2), 22),
            (of(generation, "stranger", 3), 25),
            (of(-1, "", 4), 25),
        ] {
            let answer = node.call(client, 8, &request);
            assert_eq!(answer.topics[0].partitions[0].error_code, code, "{request:?}");
        }
        assert_eq!(committed(&mut node, client, "g", "t", &[0]), (0, vec![1]));
    }
}

#[test]
fn committed_offsets_are_deleted_one_by_one() {
    let mut node = started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 2);
    find(&mut node, client, "g");
    assert_eq!(commit(&mut node, client, "g", "t", &[(0, 1), (1, 2)]), [0, 0]);
    let request = |group: &str| OffsetDeleteRequest {
        group_id: group.into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: "t".into(),
            partitions: [0, 9].map(|p| OffsetDeleteRequestPartition { partition_index: p }).into(),
        }],
    };
    let answer = node.call(client, 0, &request("g"));
    let codes: Vec<_> = answer.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!((answer.error_code, &codes[..]), (0, &[0, 3][..]));
    assert_eq!(committed(&mut node, client, "g", "t", &[0, 1]), (0, vec![-1, 2]));
    for topics in [request("absent").topics, vec![]] {
        let request = OffsetDeleteRequest { group_id: "absent".into(), topics };
        let answer = node.call(client, 0, &request);
        assert_eq!((answer.error_code, answer.topics.len()), (69, 0));
    }
}

#[test]
fn the_topic_of_committed_offsets_is_the_brokers_own() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        find(&mut node, client, "g");
        commit(&mut node, client, "g", "t", &[(0, 1)]);
        let name = "__consumer_offsets";
        let answer = produce(&mut node, client, name, 0, batch(&["x"], None));
        assert_eq!(answer.error_code, 17);
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: name.into(),
                partitions: vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }],
            }],
            timeout_ms: 1000,
        };
        let answer = node.call(client, 2, &request);
        assert_eq!(answer.topics[0].partitions[0].error_code, 17);
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: name.into(), count: 50, assignments: None }],
            ..CreatePartitionsRequest::default()
        };
        assert_eq!(node.call(client, 3, &request).results[0].error_code, 17);
        let request = alter_configs::AlterConfigsRequest {
            resources: vec![alter_configs::AlterConfigsResource {
                resource_type: 2,
                resource_name: name.into(),
                configs: vec![],
            }],
            ..Default::default()
        };
        assert_eq!(node.call(client, 2, &request).responses[0].error_code, 40);
        assert_eq!(
            super::super::create_with(&mut node, client, name, 1, &[]).topics[0].error_code,
            36
        );
        assert_eq!(committed(&mut node, client, "g", "t", &[0]), (0, vec![1]));
    }
}

#[test]
fn group_settings_are_in_force() {
    let mut node = TestNode::with(1, |config| {
        for (key, value) in [
            ("group.min.session.timeout.ms", "10000"),
            ("group.max.session.timeout.ms", "20000"),
            ("group.max.size", "1"),
            ("offset.metadata.max.bytes", "2"),
            ("offsets.topic.num.partitions", "3"),
            ("group.initial.rebalance.delay.ms", "0"),
        ] {
            config.settings.set(key, value).expect("valid");
        }
    });
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    find(&mut node, client, "g");
    assert_eq!(metadata(&mut node, client, "__consumer_offsets", false).partitions.len(), 3);
    let join = |node: &mut TestNode, session_timeout_ms, member: &KafkaString| {
        let request = JoinGroupRequest { session_timeout_ms, ..join_request("g", member) };
        node.call(client, 7, &request).error_code
    };
    let nobody = KafkaString::default();
    assert_eq!(join(&mut node, 9_999, &nobody), 26);
    assert_eq!(join(&mut node, 20_001, &nobody), 26);
    let member = member_id_within(&mut node, client);
    assert_eq!(join(&mut node, 20_000, &member), 0);
    assert_eq!(join(&mut node, 20_000, &nobody), 81);
    assert_eq!(commit(&mut node, client, "other", "t", &[(0, 1)]), [12], "\"why\" has three bytes");
}

fn member_id_within(node: &mut TestNode, client: crate::broker::testing::Client) -> KafkaString {
    let request = JoinGroupRequest {
        session_timeout_ms: 10_000,
        ..join_request("g", &KafkaString::default())
    };
    let answer = node.call(client, 7, &request);
    assert_eq!(answer.error_code, 79);
    answer.member_id
}

#[test]
fn an_assignment_beyond_the_largest_batch_is_refused_and_the_group_goes_on() {
    for shards in SHARDS {
        let mut node = TestNode::with(shards, |config| {
            config.settings.set("group.initial.rebalance.delay.ms", "0").expect("valid");
            config.settings.set("message.max.bytes", "4096").expect("valid");
        });
        let client = node.connect(0);
        find(&mut node, client, "g");
        let member = member_id(&mut node, client, "g");
        let joined = node.call(client, 7, &join_request("g", &member));
        let large = "x".repeat(8192);
        let refused = sync(&mut node, client, "g", &joined, &[(&member, &large)]);
        assert_ne!(refused.error_code, 0);
        assert!(refused.assignment.is_empty());
        let again = node.call(client, 7, &join_request("g", &member));
        assert_eq!(again.error_code, 0);
        let synced = sync(&mut node, client, "g", &again, &[(&member, "small")]);
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"small"[..]));
    }
}
