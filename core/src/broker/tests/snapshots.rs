//! Snapshots of the metadata log: made, loaded, damaged, and handed out.

use bytes::Bytes;

use super::peers::guest;
use super::{SHARDS, create, metadata};
use crate::broker::testing::{Client, TestNode};
use crate::ids::{LeaderEpoch, Offset, SnapshotId, TopicPartition};
use crate::io::Mark;
use crate::metadata::{MetadataImage, Snapshot, SnapshotReader};
use crate::wire::api::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use crate::wire::api::fetch_snapshot::{
    FetchSnapshotId, FetchSnapshotPartition, FetchSnapshotPartitionResponse, FetchSnapshotRequest,
    FetchSnapshotTopic,
};

const META: TopicPartition = TopicPartition::CLUSTER_METADATA;

/// A node that makes a snapshot every few topics.
fn node(shards: u16) -> TestNode {
    TestNode::with(shards, |config| {
        config.limits.metadata_snapshot_bytes = 500;
        config.listeners[0].peers = shards == 1;
    })
}

/// Makes topics, and returns how many there are then.
fn fill(node: &mut TestNode, from: usize) -> usize {
    let client = node.connect(0);
    for number in from..from + 20 {
        create(node, client, &format!("t{number}"), 2);
    }
    node.disconnect(client);
    from + 20
}

fn files(node: &TestNode) -> Vec<SnapshotId> {
    let names = node.disks[0].files.keys();
    let last = names.filter_map(|name| name.strip_prefix("__cluster_metadata-0/"));
    let mut ids: Vec<SnapshotId> = last.filter_map(SnapshotId::of_file_name).collect();
    ids.sort_unstable();
    ids
}

fn file(id: SnapshotId) -> String {
    format!("__cluster_metadata-0/{id}")
}

fn flip(node: &mut TestNode, id: SnapshotId) {
    let bytes = node.disks[0].files.get_mut(&file(id)).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

fn assert_serves(node: &mut TestNode, topics: usize) {
    assert_eq!(node.fatal, [""; 0]);
    let client = node.connect(0);
    for number in 0..topics {
        let topic = metadata(node, client, &format!("t{number}"), false);
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 2), "t{number}");
    }
}

fn topics_of(image: &MetadataImage) -> Vec<String> {
    image.topics().map(|topic| format!("{:?}", topic.name)).collect()
}

#[test]
fn a_log_of_a_normal_size_is_kept_whole() {
    let mut node = TestNode::started(1);
    fill(&mut node, 0);
    assert_eq!(files(&node), []);
    assert_eq!(node.shards[0].log.log_start_offset(META), Some(Offset(0)));
}

#[test]
fn two_snapshots_are_kept_and_the_log_from_the_older_on() {
    for shards in SHARDS {
        let mut node = node(shards);
        let topics = fill(&mut node, 0);

        let ids = files(&node);

        assert_eq!(ids.len(), 2, "{ids:?}");
        let log = &node.shards[0].log;
        assert_eq!(log.log_start_offset(META), Some(ids[0].end_offset));
        assert!(log.log_end_offset(META) > Some(ids[1].end_offset));
        for restarts in 1..4 {
            node.restart();
            assert_eq!(node.ready, usize::from(shards));
            assert_serves(&mut node, topics);
            let loads = node.marks.iter().filter(|mark| **mark == Mark::SnapshotLoaded).count();
            assert!(loads >= restarts || loads == 1, "{loads}");
        }
        assert!(node.warnings.is_empty(), "{:?}", node.warnings);
        let topics = fill(&mut node, topics);
        assert!(files(&node)[0] > ids[1], "older ones have gone");
        node.restart();
        assert_serves(&mut node, topics);
    }
}

#[test]
fn what_a_start_loads_is_what_the_log_made() {
    let mut node = node(1);
    fill(&mut node, 0);
    let before = node.shards[0].image.clone();
    let ids = files(&node);
    for id in ids {
        let mut reader = SnapshotReader::new(id);
        reader.push(&node.disks[0].files[&file(id)]).expect("sound");
        let snapshot = reader.finish().expect("whole");
        assert_eq!(snapshot.id(), id);
        let known = topics_of(&before);
        assert!(topics_of(&snapshot.image).iter().all(|topic| known.contains(topic)));
        assert_eq!(snapshot.voters, None, "a node alone has none on record");
    }
    node.restart();
    let after = &node.shards[0].image;
    assert_eq!(topics_of(after), topics_of(&before));
    assert!(after.end_offset() > before.end_offset(), "the start is on record");
}

#[test]
fn a_damaged_snapshot_is_made_up_for_by_the_other_and_the_log() {
    for place in 0..2 {
        let mut node = node(1);
        let topics = fill(&mut node, 0);
        let id = files(&node)[place];
        flip(&mut node, id);

        node.restart();

        assert_serves(&mut node, topics);
        // Nobody looks at the older one while the newer is whole.
        assert_eq!(node.marks.contains(&Mark::SnapshotDamaged), place == 1);
        assert_eq!(node.warnings.len(), place, "{:?}", node.warnings);
        let topics = fill(&mut node, topics);
        assert!(!files(&node).contains(&id), "it has gone with the others of its time");
        node.restart();
        assert_serves(&mut node, topics);
    }
}

#[test]
fn a_start_without_a_whole_snapshot_is_refused_and_changes_nothing() {
    let mut node = node(1);
    fill(&mut node, 0);
    for id in files(&node) {
        flip(&mut node, id);
    }
    let before = files(&node);

    node.restart_for(1_000);

    assert_eq!((node.ready, node.fatal.len()), (0, 1), "{:?}", node.fatal);
    assert!(node.fatal[0].contains("not whole") && node.fatal[0].contains("restore"));
    assert_eq!(files(&node), before);
}

#[test]
fn a_start_whose_snapshots_are_gone_is_refused() {
    let mut node = node(1);
    fill(&mut node, 0);
    for id in files(&node) {
        node.disks[0].files.remove(&file(id));
    }

    node.restart_for(1_000);

    assert_eq!((node.ready, node.fatal.len()), (0, 1), "{:?}", node.fatal);
    assert!(node.fatal[0].contains("begins at offset"), "{:?}", node.fatal);
}

#[test]
fn a_read_that_goes_astray_is_no_damage() {
    let mut node = node(1);
    let topics = fill(&mut node, 0);
    node.disks[0].astray = Some(".checkpoint".to_owned());

    node.restart();

    assert_serves(&mut node, topics);
    assert!(!node.marks.contains(&Mark::SnapshotDamaged));
}

#[test]
fn a_snapshot_that_was_received_takes_the_place_of_a_log_that_does_not_reach_it() {
    // As a crash leaves it between the renaming of the snapshot and the cut of the log.
    for behind in [100, -2] {
        let mut node = node(1);
        fill(&mut node, 0);
        let newest = files(&node)[1];
        let mut reader = SnapshotReader::new(newest);
        reader.push(&node.disks[0].files[&file(newest)]).expect("sound");
        let Snapshot { mut image, voters, timestamp } = reader.finish().expect("whole");
        let end = node.shards[0].log.log_end_offset(META).expect("there").0;
        // Beyond the log, or of another history within it.
        let last = Offset(end + behind - 1);
        image.apply_leader_change(last, LeaderEpoch(image.epoch().0 + 5));
        let received = Snapshot { image, voters, timestamp };
        let bytes = received.encode().concat();
        node.disks[0].files.insert(file(received.id()), bytes);
        let draft = format!("{}.tmp", file(received.id()));
        node.disks[0].files.insert(draft.clone(), vec![7; 100]);

        node.restart();

        assert_eq!(node.fatal, [""; 0]);
        assert!(node.marks.contains(&Mark::SnapshotResumed), "{behind}");
        assert_eq!(node.shards[0].log.log_start_offset(META), Some(last.plus(1)));
        assert!(!node.disks[0].files.contains_key(&draft), "drafts are removed");
        assert_eq!(files(&node)[0], received.id(), "nobody needs the earlier ones");
        assert!(node.shards[0].image.epoch() > received.image.epoch());
        let known = topics_of(&node.shards[0].image);
        node.restart();
        assert_eq!(node.fatal, [""; 0]);
        assert_eq!(topics_of(&node.shards[0].image), known);
    }
}

#[test]
fn a_node_in_memory_has_its_snapshots_there() {
    let mut node = TestNode::with(1, |config| {
        config.memory_only = true;
        config.limits.metadata_snapshot_bytes = 500;
    });
    fill(&mut node, 0);
    assert!(node.disks[0].files.is_empty());
    assert_eq!(node.shards[0].log.snapshots().count(), 2);
    let start = node.shards[0].log.log_start_offset(META);
    assert_eq!(start, node.shards[0].log.snapshots().next().map(|(id, _)| id.end_offset));
}

/// Asks for a piece, of the newest snapshot unless `change` says otherwise.
fn piece(
    node: &mut TestNode,
    peer: Client,
    change: impl FnOnce(&mut FetchSnapshotRequest, &mut FetchSnapshotPartition),
) -> (i16, FetchSnapshotPartitionResponse) {
    let id = *files(node).last().expect("there is one");
    let epoch = node.shards[0].controller.as_ref().expect("alone").epoch();
    let mut partition = FetchSnapshotPartition {
        current_leader_epoch: epoch.0,
        snapshot_id: FetchSnapshotId { end_offset: id.end_offset.0, epoch: id.epoch.0 },
        ..FetchSnapshotPartition::default()
    };
    let mut request =
        FetchSnapshotRequest { replica_id: 2, max_bytes: 100, ..FetchSnapshotRequest::default() };
    change(&mut request, &mut partition);
    let name = "__cluster_metadata".into();
    request.topics = vec![FetchSnapshotTopic { name, partitions: vec![partition] }];
    let answer = node.call(peer, 1, &request);
    let topic = answer.topics.into_iter().next();
    let partition = topic.and_then(|topic| topic.partitions.into_iter().next());
    (answer.error_code, partition.unwrap_or_default())
}

#[test]
fn a_snapshot_is_handed_out_in_pieces_and_nothing_else_is() {
    let mut node = node(1);
    fill(&mut node, 0);
    let peer = guest(&mut node, 2);
    let id = *files(&node).last().expect("there is one");
    let whole = Bytes::from(node.disks[0].files[&file(id)].clone());

    let mut read = Vec::new();
    loop {
        let position = read.len() as i64;
        let (code, piece) = piece(&mut node, peer, |_, ask| ask.position = position);
        assert_eq!((code, piece.error_code), (0, 0));
        assert_eq!((piece.size, piece.position), (whole.len() as i64, position));
        assert!((1..=100).contains(&piece.unaligned_records.len()));
        read.extend_from_slice(&piece.unaligned_records);
        if read.len() == whole.len() {
            break;
        }
    }
    assert_eq!(read, whole);

    let code = |(top, piece): (i16, FetchSnapshotPartitionResponse)| (top, piece.error_code);
    for position in [-1, i64::MIN, whole.len() as i64, i64::MAX] {
        let got = piece(&mut node, peer, |_, ask| ask.position = position);
        assert_eq!(code(got), (0, 99), "{position}");
    }
    for (end_offset, epoch) in [(7, 0), (-1, -1), (i64::MAX, i32::MAX)] {
        let got = piece(&mut node, peer, |_, ask| {
            ask.snapshot_id = FetchSnapshotId { end_offset, epoch };
        });
        assert_eq!(code(got), (0, 98));
    }
    let got = piece(&mut node, peer, |_, ask| ask.current_leader_epoch -= 1);
    assert_eq!(code(got), (0, 74));
    let got = piece(&mut node, peer, |_, ask| ask.current_leader_epoch += 1);
    assert_eq!(code(got), (0, 75));
    for max_bytes in [0, -1, i32::MIN] {
        let got = piece(&mut node, peer, |request, _| request.max_bytes = max_bytes);
        assert_eq!(code(got), (0, 42));
    }
    let got = piece(&mut node, peer, |_, ask| ask.partition = 1);
    assert_eq!(code(got), (42, 0));
    let got = piece(&mut node, peer, |request, _| request.cluster_id = Some("other".into()));
    assert_eq!(code(got), (104, 0));
    let got = piece(&mut node, peer, |request, _| request.replica_id = 3);
    assert_eq!(code(got), (35, 0), "it is node 2");
}

/// Fetches the metadata log as a follower would.
fn fetch(node: &mut TestNode, peer: Client, from: i64, last_epoch: i32) -> PartitionData {
    let epoch = node.shards[0].controller.as_ref().expect("alone").epoch();
    let partition = FetchPartition {
        current_leader_epoch: epoch.0,
        fetch_offset: from,
        last_fetched_epoch: last_epoch,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = FetchTopic {
        topic_id: META.topic_id,
        partitions: vec![partition],
        ..FetchTopic::default()
    };
    let request =
        FetchRequest { max_bytes: 1 << 20, topics: vec![topic], ..FetchRequest::default() };
    let answer = node.call(peer, 17, &request);
    answer.responses[0].partitions[0].clone()
}

#[test]
fn who_asks_for_what_has_gone_is_told_of_the_snapshot() {
    let mut node = node(1);
    fill(&mut node, 0);
    let peer = guest(&mut node, 2);
    let ids = files(&node);
    let (start, newest) = (ids[0], ids[1]);
    let told = (newest.end_offset.0, newest.epoch.0);
    let start_offset = start.end_offset.0;
    for (from, last_epoch) in [
        (0, -1),
        (start_offset - 1, start.epoch.0),
        // Nothing of the log tells of so early an epoch.
        (start_offset + 1, start.epoch.0 - 1),
        (start_offset, start.epoch.0 - 1),
    ] {
        let answer = fetch(&mut node, peer, from, last_epoch);
        let id = (answer.snapshot_id.end_offset, answer.snapshot_id.epoch);
        assert_eq!((answer.error_code, id), (0, told), "{from} {last_epoch}");
        assert_eq!(answer.records.map_or(0, |records| records.to_bytes().len()), 0);
    }
    let answer = fetch(&mut node, peer, start_offset, start.epoch.0);
    assert_eq!((answer.error_code, answer.snapshot_id.end_offset), (0, -1));
    assert!(!answer.records.expect("records").to_bytes().is_empty());
}
