//! Groups over starts, stops, kills, deletions and rot.

use std::time::Duration;

use crate::broker::testing::{Client, TestNode, batch};
use crate::coordinator::group::partition_of;
use crate::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::wire::api::join_group::JoinGroupRequest;
use crate::wire::api::offset_commit::OffsetCommitRequest;
use crate::wire::api::offset_fetch::OffsetFetchRequest;

use super::super::list_offset;
use super::{
    SHARDS, alone, commit, commit_request, committed, committed_request, create, find, heartbeat,
    join_request, loaded, member_id, metadata, produce, send_join, started, sync, take_join,
};

#[test]
fn committed_offsets_and_members_are_there_after_a_kill() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 4);
        let mut members = Vec::new();
        for group in ["a", "b", "c", "d", "e"] {
            members.push((group, alone(&mut node, client, group)));
            let joined = &members[members.len() - 1].1;
            for offset in 1..=7 {
                let request = OffsetCommitRequest {
                    generation_id_or_member_epoch: joined.generation_id,
                    member_id: joined.member_id.clone(),
                    ..commit_request(group, "t", &[(0, offset), (3, offset * 10)])
                };
                let answer = node.call(client, 9, &request);
                assert_eq!(answer.topics[0].partitions[1].error_code, 0);
            }
        }
        for _ in 0..3 {
            node.restart();
            loaded(&mut node);
            let client = node.connect(shards - 1);
            for (group, joined) in &members {
                let found = committed(&mut node, client, group, "t", &[0, 1, 3]);
                assert_eq!(found, (0, vec![7, -1, 70]));
                let alive =
                    heartbeat(&mut node, client, group, joined.generation_id, &joined.member_id);
                assert_eq!(alive, 0, "the member is still one");
            }
        }
        assert!(node.warnings.is_empty(), "{:?}", node.warnings);
    }
}

#[test]
fn a_commit_is_neither_answered_nor_seen_before_it_is_stable() {
    for shards in SHARDS {
        let mut node = started(shards);
        let (writer, reader) = (node.connect(0), node.connect(shards - 1));
        create(&mut node, writer, "t", 1);
        find(&mut node, writer, "g");
        assert_eq!(commit(&mut node, writer, "g", "t", &[(0, 1)]), [0]);

        node.hold_disk = true;
        node.send(writer, 9, &commit_request("g", "t", &[(0, 2)]));
        node.send(reader, 9, &committed_request("g", "t", &[0]));
        assert!(node.take_frame(writer).is_none(), "it waits for the flush");
        assert!(
            node.take::<OffsetFetchRequest>(reader, 9)
                .is_none_or(|(_, r)| r.groups[0].topics[0].partitions[0].committed_offset == 1),
            "what is not stable is not seen"
        );
        node.release();
        let (_, answer) = node.take::<OffsetCommitRequest>(writer, 9).expect("answered");
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
        assert_eq!(committed(&mut node, writer, "g", "t", &[0]), (0, vec![2]));
    }
}

#[test]
fn a_parked_join_holds_up_its_own_connection_alone_and_stopping_answers_it() {
    for shards in SHARDS {
        let mut node = started(shards);
        let (a, b, c) = (node.connect(0), node.connect(shards - 1), node.connect(0));
        create(&mut node, a, "t", 1);
        let first = alone(&mut node, a, "g");
        let second = member_id(&mut node, b, "g");
        send_join(&mut node, b, "g", &second);
        node.send(b, 9, &committed_request("g", "t", &[0]));
        assert!(node.take_frame(b).is_none(), "answers come in the order of the requests");
        assert_eq!(commit(&mut node, c, "other", "t", &[(0, 3)]), [0], "others are served");
        assert_eq!(heartbeat(&mut node, a, "g", first.generation_id, &first.member_id), 27);

        node.stop();
        let joined = take_join(&mut node, b).expect("it is answered before the end");
        assert_eq!(joined.error_code, 16);
        assert_eq!(joined.member_id, second);
        let (_, fetched) = node.take::<OffsetFetchRequest>(b, 9).expect("and what came after it");
        assert_eq!(fetched.groups[0].error_code, 0);
        assert_eq!(node.stopped, usize::from(shards));
    }
}

#[test]
fn a_member_that_hung_up_in_a_join_is_taken_out_and_the_rest_go_on() {
    for shards in SHARDS {
        let mut node = started(shards);
        let (a, b) = (node.connect(0), node.connect(shards - 1));
        let first = alone(&mut node, a, "g");
        let second = member_id(&mut node, b, "g");
        send_join(&mut node, b, "g", &second);
        node.disconnect(b);
        let joined = node.call(a, 7, &join_request("g", &first.member_id));
        assert_eq!(joined.error_code, 0);
        let me = (&first.member_id, "mine");
        assert_eq!(sync(&mut node, a, "g", &joined, &[me]).error_code, 0);
        // The one that is gone sends no heartbeat, and its session ends.
        let mut generation = joined.generation_id;
        for _ in 0..40 {
            node.pass(Duration::from_secs(1));
            if heartbeat(&mut node, a, "g", generation, &first.member_id) == 27 {
                let joined = node.call(a, 7, &join_request("g", &first.member_id));
                assert_eq!((joined.error_code, joined.members.len()), (0, 1));
                generation = joined.generation_id;
                assert_eq!(sync(&mut node, a, "g", &joined, &[me]).error_code, 0);
            }
        }
        assert!(generation > joined.generation_id, "a round without it has begun");
    }
}

#[test]
fn who_asks_while_a_coordinator_loads_is_told_so() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        find(&mut node, client, "g");
        let metadata = "m".repeat(4000);
        for offset in 0..600 {
            let mut request = commit_request("g", "t", &[(0, offset)]);
            request.topics[0].partitions[0].committed_metadata = Some(metadata.as_str().into());
            assert_eq!(node.call(client, 9, &request).topics[0].partitions[0].error_code, 0);
        }
        node.restart();
        let client = node.connect(0);
        let mut old = OffsetFetchRequest { group_id: "g".into(), ..OffsetFetchRequest::default() };
        if let Some(topics) = &mut old.topics {
            topics.push(crate::wire::api::offset_fetch::OffsetFetchRequestTopic {
                name: "t".into(),
                partition_indexes: vec![0],
            });
        }
        for version in 1..=7 {
            let answer = node.call(client, version, &old);
            let partition = answer.topics.first().map(|topic| topic.partitions[0].error_code);
            let told = if version < 2 { partition } else { Some(answer.error_code) };
            assert_eq!(told, Some(14), "v{version}");
        }
        assert_eq!(committed(&mut node, client, "g", "t", &[0]), (14, vec![]));
        assert_eq!(commit(&mut node, client, "g", "t", &[(0, 1)]), [14]);
        loaded(&mut node);
        assert_eq!(committed(&mut node, client, "g", "t", &[0]), (0, vec![599]));
    }
}

#[test]
fn offsets_go_with_their_topic_and_do_not_come_back_with_its_name() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 2);
        create(&mut node, client, "kept", 1);
        for group in ["a", "b", "c"] {
            find(&mut node, client, group);
            assert_eq!(commit(&mut node, client, group, "t", &[(0, 5), (1, 6)]), [0, 0]);
            assert_eq!(commit(&mut node, client, group, "kept", &[(0, 7)]), [0]);
        }
        delete(&mut node, client, "t");
        for group in ["a", "b", "c"] {
            let mut request = committed_request(group, "t", &[0]);
            request.groups[0].topics = None;
            let answer = node.call(client, 9, &request);
            let left: Vec<_> = answer.groups[0].topics.iter().map(|topic| &*topic.name).collect();
            assert_eq!(left, ["kept"]);
        }
        create(&mut node, client, "t", 2);
        for _ in 0..2 {
            let client = node.connect(0);
            for group in ["a", "b", "c"] {
                assert_eq!(committed(&mut node, client, group, "t", &[0, 1]), (0, vec![-1, -1]));
                assert_eq!(committed(&mut node, client, group, "kept", &[0]), (0, vec![7]));
            }
            node.restart();
            loaded(&mut node);
        }
    }
}

#[test]
fn offsets_of_a_topic_whose_deletion_a_kill_cut_short_are_gone_after_the_start() {
    for shards in SHARDS {
        // With room for all of it in the first file of the journal, so that one write brings the deletion.
        let mut node =
            TestNode::with(shards, |config| config.log.journal_first_file_bytes = 1 << 20);
        let client = node.connect(0);
        create(&mut node, client, "t", 2);
        find(&mut node, client, "a");
        for group in ["a", "b", "c"] {
            assert_eq!(commit(&mut node, client, group, "t", &[(0, 5), (1, 6)]), [0, 0]);
        }
        // The deletion reaches the disk, and nobody hears that it has.
        node.hold_disk = true;
        node.send(client, 6, &delete_request("t"));
        node.restart();
        loaded(&mut node);
        let client = node.connect(0);
        assert_eq!(metadata(&mut node, client, "t", false).error_code, 3);
        for group in ["a", "b", "c"] {
            let mut request = committed_request(group, "t", &[0]);
            request.groups[0].topics = None;
            let answer = node.call(client, 9, &request);
            assert_eq!((answer.groups[0].error_code, answer.groups[0].topics.len()), (0, 0));
        }
    }
}

fn delete_request(name: &str) -> DeleteTopicsRequest {
    DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some(name.into()), ..DeleteTopicState::default() }],
        timeout_ms: 1000,
        ..DeleteTopicsRequest::default()
    }
}

fn delete(node: &mut TestNode, client: Client, name: &str) {
    assert_eq!(node.call(client, 6, &delete_request(name)).responses[0].error_code, 0);
}

#[test]
fn deleting_the_topic_of_committed_offsets_forgets_all_groups_and_answers_who_waits() {
    for shards in SHARDS {
        let mut node = started(shards);
        let (a, b) = (node.connect(0), node.connect(shards - 1));
        create(&mut node, a, "t", 1);
        let first = alone(&mut node, a, "g");
        let second = member_id(&mut node, b, "g");
        send_join(&mut node, b, "g", &second);
        delete(&mut node, a, "__consumer_offsets");
        assert_eq!(take_join(&mut node, b).expect("answered").error_code, 16);
        assert_eq!(heartbeat(&mut node, a, "g", first.generation_id, &first.member_id), 16);
        find(&mut node, a, "g");
        assert_eq!(heartbeat(&mut node, a, "g", first.generation_id, &first.member_id), 25);
        assert_eq!(committed(&mut node, a, "g", "t", &[0]), (0, vec![-1]));
    }
}

#[test]
fn a_failed_disk_answers_members_and_commits() {
    for shards in SHARDS {
        let mut node = started(shards);
        let (a, b) = (node.connect(0), node.connect(shards - 1));
        create(&mut node, a, "t", 1);
        alone(&mut node, a, "g");
        let second = member_id(&mut node, b, "g");
        send_join(&mut node, b, "g", &second);
        for disk in &mut node.disks {
            disk.failing = Some((String::new(), crate::io::DiskErrorKind::Flush));
        }
        assert_eq!(commit(&mut node, a, "other", "t", &[(0, 1)]), [16]);
        assert_eq!(take_join(&mut node, b).expect("answered").error_code, 16);
        let request = join_request("g", &second);
        assert_eq!(node.call::<JoinGroupRequest>(b, 7, &request).error_code, 16);
    }
}

#[test]
fn groups_live_in_memory_where_everything_does() {
    let mut node = TestNode::with(3, |config| {
        config.memory_only = true;
        config.settings.set("group.initial.rebalance.delay.ms", "0").expect("valid");
    });
    let client = node.connect(2);
    create(&mut node, client, "t", 1);
    let joined = alone(&mut node, client, "g");
    assert_eq!(heartbeat(&mut node, client, "g", joined.generation_id, &joined.member_id), 0);
    assert_eq!(commit(&mut node, client, "other", "t", &[(0, 9)]), [0]);
    assert_eq!(committed(&mut node, client, "other", "t", &[0]), (0, vec![9]));
}

#[test]
fn rot_in_the_log_of_a_coordinator_silences_its_groups_and_no_others() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        for group in ["a", "b"] {
            find(&mut node, client, group);
            for offset in 0..20 {
                assert_eq!(commit(&mut node, client, group, "t", &[(0, offset)]), [0]);
            }
        }
        node.stop();
        let partition = partition_of("a", 16);
        assert_ne!(partition, partition_of("b", 16));
        let segment = format!("__consumer_offsets-{partition}/00000000000000000000.log");
        let mut files = node.disks.iter_mut().flat_map(|disk| disk.files.iter_mut());
        let (_, bytes) = files.find(|(name, _)| **name == segment).expect("written by the stop");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        node.restart();
        loaded(&mut node);

        let client = node.connect(0);
        assert_eq!(committed(&mut node, client, "a", "t", &[0]), (15, vec![]));
        assert_eq!(commit(&mut node, client, "a", "t", &[(0, 1)]), [15]);
        assert_eq!(heartbeat(&mut node, client, "a", 1, &"m".into()), 15);
        assert_eq!(committed(&mut node, client, "b", "t", &[0]), (0, vec![19]));
        let told = format!("the groups in __consumer_offsets-{partition} cannot be served");
        let told = node.warnings.iter().filter(|warning| warning.starts_with(&told)).count();
        assert_eq!(told, 1, "{:?}", node.warnings);
    }
}

#[test]
fn offsets_are_committed_while_producers_are_refused_for_want_of_room() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        find(&mut node, client, "g");
        for disk in &mut node.disks {
            disk.free = 1 << 20;
        }
        node.pass(Duration::from_secs(5));
        assert_eq!(produce(&mut node, client, "t", 0, batch(&["x"], None)).error_code, 56);
        assert_eq!(commit(&mut node, client, "g", "t", &[(0, 3)]), [0]);
        assert_eq!(committed(&mut node, client, "g", "t", &[0]), (0, vec![3]));
    }
}

#[test]
fn the_log_of_a_coordinator_is_shortened_and_loses_nothing() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 2);
        find(&mut node, client, "g");
        let mut request = commit_request("g", "t", &[(0, 0)]);
        for offset in 0..300 {
            request.topics[0].partitions =
                commit_request("g", "t", &[(1, offset); 100]).topics.remove(0).partitions;
            let answer = node.call(client, 9, &request);
            assert_eq!(answer.topics[0].partitions[99].error_code, 0);
        }
        assert_eq!(commit(&mut node, client, "g", "t", &[(0, 5)]), [0]);
        let partition = partition_of("g", 16);
        let start = list_offset(&mut node, client, "__consumer_offsets", partition, -2).offset;
        assert!(start > 0, "its start has moved");
        for _ in 0..2 {
            let client = node.connect(0);
            assert_eq!(committed(&mut node, client, "g", "t", &[0, 1]), (0, vec![5, 299]));
            node.restart();
            loaded(&mut node);
        }
    }
}

#[test]
fn a_coordinator_whose_log_cannot_be_read_for_a_moment_answers_loading_and_then_loses_nothing() {
    for shards in SHARDS {
        let mut node = started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 1);
        find(&mut node, client, "g");
        assert_eq!(commit(&mut node, client, "g", "t", &[(0, 5)]), [0]);
        node.stop();
        for disk in &mut node.disks {
            disk.unreadable = Some("__consumer_offsets-".to_owned());
        }

        node.restart();
        let client = node.connect(0);
        assert_eq!(committed(&mut node, client, "g", "t", &[0]), (14, vec![]));
        node.pass(Duration::from_secs(3));
        assert_eq!(committed(&mut node, client, "g", "t", &[0]), (14, vec![]));
        for disk in &mut node.disks {
            disk.unreadable = None;
        }
        node.pass(Duration::from_secs(1));

        assert_eq!(committed(&mut node, client, "g", "t", &[0]), (0, vec![5]));
        assert_eq!(commit(&mut node, client, "g", "t", &[(0, 6)]), [0]);
    }
}
