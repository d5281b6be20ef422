//! What becomes of a log that is deleted, of its files, and of the journal that tells of it.

use super::*;

/// The ring may have two files, and both are full before it is written that a log is deleted: until that is
/// durable no checkpoint begins, and without one no file is free.
#[test]
fn a_deletion_behind_more_than_the_ring_holds_does_not_stop_the_journal() {
    let mut node = Node::with(LogConfig { journal_max_bytes: 0, ..SMALL });
    let (stays, goes) = (node.create(1, settings()), node.create(2, settings()));
    node.append(goes, b"of a log that goes");
    node.holds = Some(".journal");
    for _ in 0..20 {
        node.append(stays, &[b'v'; 10_000]);
    }
    node.store.delete(node.now, goes, &mut node.fx);
    node.append(stays, b"behind the deletion");

    node.let_go();
    node.pass(10_000);

    assert_eq!(node.store.stable_end(stays).map(Stable::value), Some(Offset(21)));
}

#[test]
fn a_deleted_log_stays_deleted_and_its_files_go() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let other = node.create(2, settings());
    for _ in 0..50 {
        node.append(log, &[1; 400]);
        node.append(other, &[2; 400]);
    }
    node.pass(1_500);
    assert!(node.disk.files.keys().any(|name| name.starts_with("topic1-0/")));
    node.store.delete(node.now, log, &mut node.fx);
    node.settle();
    assert!(!node.disk.files.keys().any(|name| name.contains("topic1-0/")));
    assert!(!node.disk.directories.contains("topic1-0"));
    node.restart();
    assert_eq!(node.store.log_end_offset(log), None);
    assert_eq!(node.fetch_all(other).len(), 50);
}
