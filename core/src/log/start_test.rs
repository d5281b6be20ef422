//! What a start makes of what it finds: whole, torn, damaged, lost, or without room.

use std::sync::Arc;

use super::*;
use crate::cluster::{Cluster, Voter};
use crate::ids::Uuid;

#[test]
fn a_full_disk_keeps_no_node_from_starting() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for _ in 0..5 {
        node.append(log, &[1; 900]);
    }
    node.disk.full = true;
    node.disk.free = 0;
    for start in 2..6 {
        node.restart();
        let counted = node.events.iter().find_map(|event| match event {
            LogEvent::Recovered { incarnation, .. } => Some(incarnation.0),
            _ => None,
        });
        assert_eq!(counted, Some(start), "every start is counted");
        assert_eq!(node.fetch_all(log).len(), 5);
    }
    node.pass(2_500);
    let refused = node.store.append(node.now, log, LeaderEpoch(1), batch(b"x", None), &mut node.fx);
    assert!(matches!(refused, Err(AppendError::DiskFull(_))), "{refused:?}");
    node.disk.full = false;
    node.disk.free = 1 << 29;
    node.pass(5_000);
    node.append(log, b"again");
    node.restart();
    assert_eq!(node.fetch_all(log).len(), 6);
}

#[test]
fn a_first_start_without_room_goes_on_when_there_is_some() {
    let mut node = Node::on(SMALL, TestDisk { full: true, ..TestDisk::default() });
    assert!(node.fatal.is_none() && node.events.is_empty());
    node.pass(3_000);
    assert!(node.events.is_empty());
    node.disk.full = false;
    node.pass(3_000);
    assert!(node.events.iter().any(|event| matches!(event, LogEvent::Recovered { .. })));
}

#[test]
fn journal_files_that_the_checkpoint_covers_are_free_after_a_start() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let metadata = TopicPartition::CLUSTER_METADATA;
    let name = TopicName::parse("__cluster_metadata").expect("a name");
    node.store.create(node.now, metadata, &name, settings(), &mut node.fx);
    for _ in 0..500 {
        node.append(log, &[7; 900]);
    }
    // No checkpoint can be written, nor a file added; metadata goes on.
    node.disk.full = true;
    node.restart();
    for _ in 0..4 {
        node.append(metadata, &[8; 900]);
    }
    assert_eq!(node.store.stable_end(metadata).map(Stable::value), Some(Offset(4)));
}

#[test]
fn a_journal_of_zeros_behind_a_checkpoint_refuses_the_start() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.append(log, b"value");
    node.store.stop(node.now, &mut node.fx);
    node.settle();
    for (name, content) in &mut node.disk.files {
        if name.starts_with("journal/0/0") {
            content.fill(0);
        }
    }
    node.start();
    let message = node.fatal.expect("the node refuses to start");
    assert!(message.contains("the journal's files are gone"), "{message}");
}

#[test]
fn a_lost_count_of_starts_is_taken_up_far_beyond_the_journal() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.append(log, b"value");
    for damage in [false, true] {
        if damage {
            let file = node.disk.files.get_mut("journal/0/incarnation").expect("the count");
            file.fill(0);
        } else {
            node.disk.files.remove("journal/0/incarnation");
        }
        node.restart();
        let counted = node.events.iter().find_map(|event| match event {
            LogEvent::Recovered { incarnation, .. } => Some(incarnation.0),
            _ => None,
        });
        assert_eq!(counted, Some(if damage { 2_049 } else { 1_025 }));
        assert_eq!(node.fetch_all(log).len(), 1);
    }
}

#[test]
fn foreign_names_are_left_alone_and_their_place_is_not_taken() {
    let mut node = Node::new();
    node.disk.directories.insert("topic9-0".to_owned());
    node.disk.files.insert("notes.txt".to_owned(), b"mine".to_vec());
    node.restart();
    let name = TopicName::parse("topic9").expect("a name");
    assert_eq!(node.store.name_conflict(&name, PartitionIndex(0)).as_deref(), Some("topic9-0"));
    assert_eq!(node.store.name_conflict(&name, PartitionIndex(1)), None);
    assert!(node.disk.files.contains_key("notes.txt"));
}

#[test]
fn a_directory_of_another_node_or_a_newer_format_is_refused_untouched() {
    let mut node = Node::new();
    let before = node.disk.files.clone();
    node.config.node_id = NodeId(2);
    node.start();
    assert!(node.fatal.as_deref().is_some_and(|message| message.contains("node 1")));
    assert_eq!(node.disk.files, before);
    node.config.node_id = NodeId(1);
    let newer = String::from_utf8(before["meta.properties"].clone())
        .expect("text")
        .replace("mainspring.format=1", "mainspring.format=3");
    node.disk.files.insert("meta.properties".to_owned(), newer.into_bytes());
    node.fatal = None;
    node.start();
    assert!(node.fatal.as_deref().is_some_and(|message| message.contains("format 3")));
}

#[test]
fn a_lost_or_damaged_checkpoint_is_read_from_its_other_place() {
    for place in ["checkpoint/0", "journal/0/checkpoint"] {
        for damage in [None, Some(0), Some(7)] {
            let mut node = Node::new();
            let log = node.create(1, settings());
            for _ in 0..200 {
                node.append(log, &[1; 900]);
            }
            match damage {
                None => drop(node.disk.files.remove(place)),
                Some(fill) => node.disk.files.get_mut(place).expect("a checkpoint").fill(fill),
            }
            node.restart();
            assert_eq!(node.fetch_all(log).len(), 200);
            // The first checkpoint of the start, which is due at once, stands in both places.
            node.pass(2_000);
            let at = |place| &node.disk.files[place];
            assert_eq!(at("checkpoint/0"), at("journal/0/checkpoint"));
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_one_copy_of_the_checkpoint_refuses_no_start() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.append(log, b"value");
    node.store.stop(node.now, &mut node.fx);
    node.settle();
    let disk = node.disk.clone();
    for bit in (0..disk.files["checkpoint/0"].len() * 8).step_by(3) {
        node.disk = disk.clone();
        let file = node.disk.files.get_mut("checkpoint/0").expect("a checkpoint");
        file[bit / 8] ^= 1 << (bit % 8);
        node.restart();
        assert_eq!(node.fetch_all(log).len(), 1, "bit {bit}");
    }
}

#[test]
fn of_two_checkpoints_the_later_one_counts() {
    for stale in ["checkpoint/0", "journal/0/checkpoint"] {
        let mut node = Node::new();
        let log = node.create(1, settings());
        let before = node.disk.files[stale].clone();
        for _ in 0..200 {
            node.append(log, &[1; 900]);
        }
        node.disk.files.insert(stale.to_owned(), before);
        node.restart();
        assert_eq!(node.fetch_all(log).len(), 200);
    }
}

#[test]
fn a_journal_file_is_kept_as_long_as_either_checkpoint_needs_it() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let metadata = TopicPartition::CLUSTER_METADATA;
    let name = TopicName::parse("__cluster_metadata").expect("a name");
    node.store.create(node.now, metadata, &name, settings(), &mut node.fx);
    for _ in 0..100 {
        node.append(log, &[7; 900]);
    }
    node.disk.keep_after = Some("checkpoint/0");
    let mut appended = 100;
    while node.disk.kept.is_none() {
        node.append(log, &[7; 900]);
        appended += 1;
    }
    // The power goes between the two renames of a checkpoint.
    node.disk = *node.disk.kept.take().expect("kept above");
    assert_ne!(node.disk.files["checkpoint/0"], node.disk.files["journal/0/checkpoint"]);
    // The next start cannot write a checkpoint, and goes on in what is free.
    node.disk.full = true;
    node.restart();
    for _ in 0..4 {
        node.append(metadata, &[8; 900]);
    }
    // Then the later copy rots.
    node.disk.files.get_mut("checkpoint/0").expect("a checkpoint").fill(0);
    node.disk.full = false;
    node.restart();
    assert!(node.fetch_all(log).len() + 1 >= appended);
}

#[test]
fn a_checkpoint_lost_in_both_places_refuses_the_start_instead_of_forgetting_records() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.append(log, b"value");
    node.disk.files.remove("checkpoint/0");
    node.disk.files.remove("journal/0/checkpoint");
    node.start();
    let message = node.fatal.expect("the node refuses to start");
    assert!(message.contains("checkpoint/0 and its copy are gone"), "{message}");
}

#[test]
fn rot_in_the_acknowledged_part_of_the_journal_refuses_the_start() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for _ in 0..5 {
        node.append(log, b"value");
    }
    let journal = node.disk.files.get_mut("journal/0/00000000.journal").expect("the journal");
    journal[4_096 * 3 + 100] ^= 1;
    node.start();
    let message = node.fatal.expect("the node refuses to start");
    assert!(message.contains("journal/0/00000000.journal at byte 12288"), "{message}");
}

#[test]
fn a_torn_last_block_is_cut_and_the_node_starts() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for _ in 0..5 {
        node.append(log, b"value");
    }
    let journal = node.disk.files.get_mut("journal/0/00000000.journal").expect("the journal");
    let last = (1..8)
        .rev()
        .find(|block| &journal[4_096 * block..4_096 * block + 4] == b"MSJB")
        .expect("a last block");
    journal[4_096 * last + 200] ^= 1;
    node.restart();
    assert_eq!(node.fetch_all(log).len(), 4);
    node.append(log, b"again");
    node.restart();
    assert_eq!(node.fetch_all(log).len(), 5);
}

/// What the start said of the cluster: its id, and what was formed.
fn membership(node: &Node) -> (Uuid, Option<Arc<Cluster>>) {
    let found = node.events.iter().find_map(|event| match event {
        LogEvent::Recovered { cluster_id, cluster, .. } => Some((*cluster_id, cluster.clone())),
        _ => None,
    });
    found.expect("it has started")
}

fn formed(directory_id: Uuid) -> Arc<Cluster> {
    let voter = |node: i32, directory_id| Voter {
        node_id: NodeId(node),
        directory_id,
        host: "localhost".into(),
        port: 9093,
    };
    let voters = vec![voter(1, directory_id), voter(2, Uuid([2; 16]))];
    Arc::new(Cluster { id: Uuid([9; 16]), voters })
}

#[test]
fn one_of_several_belongs_to_no_cluster_before_it_is_formed_and_to_that_one_ever_after() {
    let mut node = Node::with(LogConfig { is_member: true, ..SMALL });
    let directory = directory_id(&node);
    for _ in 0..2 {
        assert_eq!(membership(&node), (Uuid::default(), None));
        node.config.seed += 1;
        node.restart();
        assert_eq!(directory_id(&node), directory, "the directory is the same");
    }
    let cluster = formed(directory);
    node.store.form(directory, &cluster, &mut node.fx);
    node.settle();
    assert!(node.events.iter().any(|event| matches!(event, LogEvent::Formed)));
    for _ in 0..2 {
        node.config.seed += 1;
        node.restart();
        assert_eq!(membership(&node), (cluster.id, Some(Arc::clone(&cluster))));
        assert_eq!(directory_id(&node), directory);
    }
}

#[test]
fn a_cluster_counts_once_its_file_has_its_name_and_not_before() {
    for text in ["meta.properties.tmp", ""] {
        let mut node = Node::with(LogConfig { is_member: true, ..SMALL });
        let directory = directory_id(&node);
        node.holds = Some(text);
        node.store.form(directory, &formed(directory), &mut node.fx);
        node.settle();
        assert!(!node.events.iter().any(|event| matches!(event, LogEvent::Formed)));
        node.restart();
        assert_eq!(membership(&node).1, None);
    }
}

#[test]
fn a_node_alone_takes_a_directory_that_no_cluster_was_formed_with() {
    let mut node = Node::with(LogConfig { is_member: true, ..SMALL });
    let directory = directory_id(&node);
    node.config.is_member = false;
    node.restart();
    let (id, cluster) = membership(&node);
    assert!(!id.is_zero() && cluster.is_none());
    assert_eq!(directory_id(&node), directory);
    node.config.seed += 1;
    node.restart();
    assert_eq!(membership(&node), (id, None), "it keeps its id");
}

fn directory_id(node: &Node) -> Uuid {
    let found = node.events.iter().find_map(|event| match event {
        LogEvent::Recovered { directory_id, .. } => Some(*directory_id),
        _ => None,
    });
    found.expect("it has started")
}

/// A head whose flush has failed may be in the page cache alone, where the next start reads it.
#[test]
fn a_start_writes_the_head_of_a_file_again_that_no_durable_block_proves() {
    for with_block in [false, true] {
        let mut node = Node::new();
        let log = node.create(1, settings());
        node.holds = Some("00000001.journal");
        for _ in 0..40 {
            node.append(log, &[7; 900]);
        }
        let write = |node: &mut Node| {
            let head = node.held.pop_front().expect("the journal goes on in the next file");
            assert!(matches!(&head, Effect::Write { position: 0, .. }), "{head:?}");
            let (token, result) = node.disk.perform(head).expect("a step of the journal");
            if with_block {
                node.store.handle_completion(node.now, token, result, &mut node.fx);
                node.settle();
                let block = node.held.pop_front().expect("the first block in that file");
                let written = node.disk.perform(block).expect("a step of the journal");
                assert!(written.1.is_ok());
            }
        };
        while node.held.iter().all(|effect| !matches!(effect, Effect::Write { .. })) {
            node.let_one_go();
        }
        write(&mut node);

        let order = node.restart_and_note_writes_to("00000001.journal");

        assert_eq!(order.first(), Some(&0), "with a block {with_block}: {order:?}");
        let again = node.restart_and_note_writes_to("00000001.journal");
        assert!(!again.contains(&0), "it is proven now: {again:?}");
        assert!(node.store.stable_end(log).map(Stable::value) >= Some(Offset(4)));
    }
}

/// No checkpoint covers anything yet, so that nothing but the head tells that the journal was used.
#[test]
fn a_head_that_is_read_wrongly_once_loses_nothing_and_keeps_no_node_from_starting() {
    for is_astray in [false, true] {
        let mut node = Node::new();
        let log = node.create(1, settings());
        for number in 0..3 {
            node.append(log, &[number; 900]);
        }
        let name = "00000000.journal".to_owned();
        if is_astray {
            node.disk.astray = Some(name);
        } else {
            node.disk.flips = Some((name, 9));
        }

        node.restart();

        assert!(node.disk.astray.is_none() && node.disk.flips.is_none(), "it was read wrongly");
        assert_eq!(node.fetch_all(log).len(), 3, "astray: {is_astray}");
    }
}

/// Bytes that each of so many starts adds to the journal, where each is killed once it has written the tail again and
/// before anything proves that.
fn added_by_killed_starts(node: &mut Node, starts: usize) -> Vec<usize> {
    let used = |node: &Node| -> usize {
        let journal = node.disk.files.iter().filter(|(name, _)| name.ends_with(".journal"));
        let ends = journal.filter_map(|(_, content)| content.iter().rposition(|byte| *byte != 0));
        ends.map(|end| (end + 1).next_multiple_of(4096)).sum()
    };
    let mut added = Vec::new();
    for _ in 0..starts {
        let before = used(node);
        node.restart();
        added.push(used(node) - before);
    }
    added
}

#[test]
fn starts_that_are_killed_before_their_tail_is_proven_do_not_make_it_longer() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    node.append(log, &[7; 3_000]);

    let added = added_by_killed_starts(&mut node, 6);

    // A file that is taken into use has a head.
    assert!(added.iter().all(|&bytes| bytes > 0 && bytes <= 2 * 4096), "{added:?}");
    assert_eq!(node.fetch_all(log).len(), 1);
}

#[test]
fn a_log_that_was_made_and_deleted_in_the_tail_makes_it_no_longer_over_killed_starts() {
    let mut node = Node::new();
    let stays = node.create(1, settings());
    node.holds = Some(".journal");
    node.append(stays, b"holds the journal up");
    let goes = node.create(2, settings());
    node.append(goes, &[7; 3_000]);
    node.store.delete(node.now, goes, &mut node.fx);
    node.let_go();
    node.settle();

    let added = added_by_killed_starts(&mut node, 6);

    assert!(added.iter().all(|&bytes| bytes > 0 && bytes <= 2 * 4096), "{added:?}");
    assert_eq!(node.store.log_end_offset(goes), None);
    assert!(!node.disk.directories.contains("topic2-0"));
}
