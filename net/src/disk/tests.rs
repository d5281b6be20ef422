//! What both kinds of files promise, and what only the power-cut files do.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use mainspring_core::io::{DiskErrorKind, EntryKind};

use super::*;
use crate::test_support::TempDir;

fn name(text: &str) -> FileName {
    if text.is_empty() { FileName::root() } else { FileName::new(text) }
}

fn write(file: &str, position: u64, bytes: &'static [u8], sync: Sync) -> Operation {
    let body = WriteBody::Parts(vec![Bytes::from_static(bytes)]);
    Operation::Write { file: name(file), position, body, sync }
}

fn read(files: &dyn Files, file: &str, position: u64, length: u64) -> Vec<u8> {
    match files.perform(Operation::Read { file: name(file), position, length }) {
        Ok(Completion::Read(bytes)) => bytes.to_vec(),
        other => panic!("a read answers with bytes, not {other:?}"),
    }
}

fn list(files: &dyn Files, directory: &str) -> Vec<(String, EntryKind, u64)> {
    match files.perform(Operation::List { directory: name(directory) }) {
        Ok(Completion::Listed(entries)) => {
            let mut entries: Vec<_> =
                entries.into_iter().map(|entry| (entry.name, entry.kind, entry.length)).collect();
            entries.sort();
            entries
        }
        other => panic!("a list answers with entries, not {other:?}"),
    }
}

fn names(files: &dyn Files, directory: &str) -> Vec<String> {
    list(files, directory).into_iter().map(|(name, _, _)| name).collect()
}

fn done(files: &dyn Files, operation: Operation) {
    files.perform(operation).expect("the operation succeeds");
}

fn kind(files: &dyn Files, operation: Operation) -> DiskErrorKind {
    files.perform(operation).expect_err("the operation fails").kind
}

fn create_directory(files: &dyn Files, directory: &str) {
    done(files, Operation::Create { file: name(directory), kind: CreateKind::Directory });
}

fn sync_dir(files: &dyn Files, directory: &str) {
    done(files, Operation::SyncDir { directory: name(directory) });
}

fn rename(files: &dyn Files, from: &str, to: &str) {
    done(files, Operation::Rename { from: name(from), to: name(to) });
}

fn real(directory: &Path) -> RealFiles {
    RealFiles::open(directory, 4).expect("the directory opens")
}

fn power_cut(directory: &Path) -> PowerCut {
    PowerCut::open(real(directory), Flushes::Kept).expect("the directory loads")
}

/// Runs a claim on both kinds of files.
fn on_both(claim: impl Fn(&Path, &dyn Files)) {
    let directory = TempDir::new();
    claim(directory.path(), &real(directory.path()));
    let directory = TempDir::new();
    claim(directory.path(), &power_cut(directory.path()));
}

#[test]
fn what_was_written_is_read_back_before_any_flush() {
    on_both(|_, files| {
        done(files, write("a", 3, b"defg", Sync::None));
        done(files, write("a", 0, b"abc", Sync::None));
        done(files, write("a", 5, b"XY", Sync::Data));
        assert_eq!(read(files, "a", 0, 100), b"abcdeXY");
        assert_eq!(read(files, "a", 2, 3), b"cde");
        assert_eq!(read(files, "a", 7, 3), b"");
        assert_eq!(read(files, "a", 100, 3), b"");
    });
}

#[test]
fn many_parts_are_written_one_after_the_other() {
    on_both(|_, files| {
        let parts: Vec<Bytes> = (0..5000_u32)
            .map(|i| Bytes::copy_from_slice(&i.to_be_bytes()[..(i % 5) as usize]))
            .collect();
        let whole = parts.concat();
        let body = WriteBody::Parts(parts);
        done(files, Operation::Write { file: name("a"), position: 1, body, sync: Sync::None });
        assert_eq!(read(files, "a", 1, 1 << 20), whole);
        assert_eq!(read(files, "a", 0, 1), [0]);
    });
}

#[test]
fn a_filled_file_is_all_zeros_and_replaces_what_was_there() {
    on_both(|_, files| {
        done(files, write("a", 0, &[7; 100], Sync::Data));
        let length = 3 * 1024 * 1024 + 5;
        let create = Operation::Create { file: name("a"), kind: CreateKind::Filled { length } };
        done(files, create);
        assert_eq!(list(files, ""), [("a".to_owned(), EntryKind::File, length)]);
        assert!(read(files, "a", 0, length).iter().all(|byte| *byte == 0));
    });
}

#[test]
fn truncation_cuts_and_what_grows_back_is_zero() {
    on_both(|_, files| {
        done(files, write("a", 0, b"abcdef", Sync::Data));
        done(files, Operation::Truncate { file: name("a"), length: 2 });
        assert_eq!(read(files, "a", 0, 100), b"ab");
        done(files, write("a", 4, b"z", Sync::Data));
        assert_eq!(read(files, "a", 0, 100), b"ab\0\0z");
    });
}

#[test]
fn a_rename_replaces_and_later_writes_go_to_the_file_of_that_name() {
    on_both(|_, files| {
        done(files, write("new", 0, b"new", Sync::Data));
        done(files, write("old", 0, b"old", Sync::Data));
        rename(files, "new", "old");
        assert_eq!(names(files, ""), ["old"]);
        done(files, write("old", 3, b"er", Sync::None));
        done(files, write("new", 0, b"other", Sync::None));
        assert_eq!(read(files, "old", 0, 100), b"newer");
        assert_eq!(read(files, "new", 0, 100), b"other");
    });
}

#[test]
fn a_renamed_directory_takes_its_open_files_along() {
    on_both(|_, files| {
        create_directory(files, "t-0");
        done(files, write("t-0/a", 0, b"first", Sync::None));
        rename(files, "t-0", "gone");
        create_directory(files, "t-0");
        done(files, write("t-0/a", 0, b"second", Sync::None));
        assert_eq!(read(files, "gone/a", 0, 100), b"first");
        assert_eq!(read(files, "t-0/a", 0, 100), b"second");
    });
}

#[test]
fn removing_what_is_not_there_is_no_error_and_a_full_directory_stays() {
    on_both(|_, files| {
        done(files, Operation::Remove { file: name("a") });
        done(files, Operation::Remove { file: name("no/such") });
        create_directory(files, "t-0");
        create_directory(files, "t-0");
        done(files, write("t-0/a", 0, b"x", Sync::None));
        assert_eq!(
            kind(files, Operation::Remove { file: name("t-0") }),
            DiskErrorKind::AlreadyExists
        );
        done(files, Operation::Remove { file: name("t-0/a") });
        done(files, Operation::Remove { file: name("t-0") });
        assert!(names(files, "").is_empty());
    });
}

#[test]
fn missing_files_are_told_apart_from_other_failures() {
    on_both(|_, files| {
        let missing = DiskErrorKind::NotFound;
        let file = name("a");
        assert_eq!(
            kind(files, Operation::Read { file: file.clone(), position: 0, length: 1 }),
            missing
        );
        assert_eq!(kind(files, Operation::Sync { file: file.clone() }), missing);
        assert_eq!(kind(files, Operation::Truncate { file: file.clone(), length: 0 }), missing);
        assert_eq!(kind(files, Operation::Rename { from: file, to: name("b") }), missing);
        assert_eq!(kind(files, Operation::List { directory: name("d") }), missing);
        assert_eq!(kind(files, write("d/a", 0, b"x", Sync::None)), missing);
    });
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    let directory = TempDir::new();
    let files = real(directory.path());
    create_directory(&files, "a");
    for bad in ["../b", "a/../b", "/etc/x", "./a", "a//b", "a/"] {
        let error = files.perform(write(bad, 0, b"x", Sync::None)).expect_err(bad);
        assert_eq!(error.kind, DiskErrorKind::Other, "{bad}");
    }
    assert_eq!(names(&files, ""), ["a"]);
}

#[test]
fn links_and_fifos_are_listed_and_never_opened_or_changed() {
    let outside = TempDir::new();
    std::fs::write(outside.path().join("secret"), "keep").expect("a file is written");
    let directory = TempDir::new();
    symlink(outside.path(), directory.path().join("u-0")).expect("a link is made");
    symlink(outside.path().join("secret"), directory.path().join("link")).expect("a link is made");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        directory.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from(0o600),
        0,
    )
    .expect("a FIFO is made");
    let files = real(directory.path());

    let other = |name: &str| (name.to_owned(), EntryKind::Other, 0);
    assert_eq!(list(&files, ""), [other("fifo"), other("link"), other("u-0")]);
    for file in ["fifo", "link", "u-0/secret"] {
        assert!(files.perform(write(file, 0, b"x", Sync::Data)).is_err(), "{file}");
        let file = name(file);
        assert!(
            files.perform(Operation::Read { file: file.clone(), position: 0, length: 1 }).is_err()
        );
        assert!(files.perform(Operation::Remove { file: file.clone() }).is_err());
        assert!(files.perform(Operation::Rename { from: file, to: name("x") }).is_err());
    }
    assert_eq!(
        std::fs::read_to_string(outside.path().join("secret")).expect("the file is there"),
        "keep"
    );
    assert_eq!(names(&files, "").len(), 3);
}

#[test]
fn a_file_that_may_not_be_written_is_still_read() {
    let directory = TempDir::new();
    let path = directory.path().join("a");
    std::fs::write(&path, "abc").expect("a file is written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400))
        .expect("its mode is set");
    assert_eq!(read(&real(directory.path()), "a", 0, 3), b"abc");
}

#[test]
fn more_files_than_descriptors_are_served() {
    let directory = TempDir::new();
    let files = real(directory.path());
    for round in 0..3_u8 {
        for index in 0..20 {
            let body = WriteBody::Parts(vec![Bytes::copy_from_slice(&[round, index])]);
            let file = name(&format!("f{index}"));
            done(&files, Operation::Write { file, position: 0, body, sync: Sync::Data });
        }
    }
    for index in 0..20 {
        assert_eq!(read(&files, &format!("f{index}"), 0, 2), [2, index]);
    }
}

#[test]
fn threads_complete_every_operation_once() {
    let directory = TempDir::new();
    let (completions, completed) = mpsc::channel();
    let complete: Complete = Arc::new(move |token, outcome| {
        completions.send((token, outcome)).expect("the test waits");
    });
    let disk =
        ThreadedDisk::start(Arc::new(real(directory.path())), complete).expect("the threads start");
    disk.submit(
        IoToken(1),
        Operation::Create { file: name("journal"), kind: CreateKind::Directory },
    );
    let (token, outcome) = completed.recv_timeout(Duration::from_secs(10)).expect("it completes");
    assert_eq!(token, IoToken(1));
    outcome.expect("it succeeds");
    for index in 2..200 {
        let file = if index % 2 == 0 { "journal/0" } else { "other" };
        disk.submit(IoToken(index), write(file, index, b"x", Sync::None));
    }
    let mut tokens: Vec<u64> = (2..200)
        .map(|_| {
            let (token, outcome) =
                completed.recv_timeout(Duration::from_secs(10)).expect("it completes");
            outcome.expect("it succeeds");
            token.0
        })
        .collect();
    drop(disk);
    assert!(completed.recv_timeout(Duration::from_secs(10)).is_err(), "nothing completes twice");
    tokens.sort_unstable();
    assert_eq!(tokens, (2..200).collect::<Vec<u64>>());
}

#[test]
fn a_power_cut_takes_what_was_not_flushed() {
    let directory = TempDir::new();
    let files = power_cut(directory.path());
    done(&files, write("a", 0, b"kept", Sync::Data));
    sync_dir(&files, "");
    done(&files, write("a", 0, b"LOST", Sync::None));
    done(&files, Operation::Truncate { file: name("a"), length: 1 });
    assert_eq!(read(&files, "a", 0, 10), b"L");
    drop(files);
    assert_eq!(read(&power_cut(directory.path()), "a", 0, 10), b"kept");
}

#[test]
fn a_flushed_write_makes_every_earlier_write_to_the_file_durable() {
    let directory = TempDir::new();
    let files = power_cut(directory.path());
    done(&files, write("a", 0, b"12", Sync::None));
    done(&files, write("a", 2, b"34", Sync::Data));
    sync_dir(&files, "");
    drop(files);
    assert_eq!(read(&power_cut(directory.path()), "a", 0, 10), b"1234");
}

#[test]
fn a_flushed_file_without_a_flushed_name_is_gone() {
    let directory = TempDir::new();
    let files = power_cut(directory.path());
    create_directory(&files, "t-0");
    done(&files, write("t-0/a", 0, b"x", Sync::Data));
    sync_dir(&files, "t-0");
    drop(files);
    let files = power_cut(directory.path());
    assert!(names(&files, "").is_empty());

    create_directory(&files, "t-0");
    done(&files, write("t-0/a", 0, b"x", Sync::Data));
    done(&files, write("t-0/b", 0, b"y", Sync::None));
    sync_dir(&files, "t-0");
    sync_dir(&files, "");
    drop(files);
    let files = power_cut(directory.path());
    assert_eq!(
        list(&files, "t-0"),
        [("a".to_owned(), EntryKind::File, 1), ("b".to_owned(), EntryKind::File, 0)]
    );
}

#[test]
fn a_replacing_rename_shows_old_or_new_and_nothing_else() {
    let directory = TempDir::new();
    let files = power_cut(directory.path());
    done(&files, write("checkpoint", 0, b"old", Sync::Data));
    sync_dir(&files, "");
    done(&files, write("checkpoint.tmp", 0, b"new", Sync::Data));
    rename(&files, "checkpoint.tmp", "checkpoint");
    assert_eq!(read(&files, "checkpoint", 0, 10), b"new");
    drop(files);

    let files = power_cut(directory.path());
    assert_eq!(names(&files, ""), ["checkpoint"]);
    assert_eq!(read(&files, "checkpoint", 0, 10), b"old");
    done(&files, write("checkpoint.tmp", 0, b"new", Sync::Data));
    rename(&files, "checkpoint.tmp", "checkpoint");
    sync_dir(&files, "");
    drop(files);
    assert_eq!(read(&power_cut(directory.path()), "checkpoint", 0, 10), b"new");
}

#[test]
fn a_removal_is_durable_with_its_directory() {
    let directory = TempDir::new();
    let files = power_cut(directory.path());
    done(&files, write("a", 0, b"x", Sync::Data));
    sync_dir(&files, "");
    done(&files, Operation::Remove { file: name("a") });
    assert!(names(&files, "").is_empty());
    drop(files);
    let files = power_cut(directory.path());
    assert_eq!(names(&files, ""), ["a"]);
    done(&files, Operation::Remove { file: name("a") });
    done(&files, write("a", 0, b"again", Sync::Data));
    sync_dir(&files, "");
    drop(files);
    assert_eq!(read(&power_cut(directory.path()), "a", 0, 10), b"again");
}

#[test]
fn a_directory_moved_into_one_that_is_not_durable_stays_where_it_was() {
    let directory = TempDir::new();
    let files = power_cut(directory.path());
    create_directory(&files, "t-0");
    done(&files, write("t-0/a", 0, b"x", Sync::Data));
    sync_dir(&files, "t-0");
    sync_dir(&files, "");
    create_directory(&files, "deleted");
    rename(&files, "t-0", "deleted/1");
    sync_dir(&files, "deleted");
    drop(files);
    let files = power_cut(directory.path());
    assert_eq!(read(&files, "t-0/a", 0, 10), b"x");

    create_directory(&files, "deleted");
    rename(&files, "t-0", "deleted/1");
    sync_dir(&files, "");
    done(&files, write("deleted/1/a", 1, b"y", Sync::Data));
    drop(files);
    let files = power_cut(directory.path());
    assert_eq!(names(&files, ""), ["deleted"]);
    assert_eq!(read(&files, "deleted/1/a", 0, 10), b"xy");

    done(&files, Operation::Remove { file: name("deleted/1/a") });
    done(&files, Operation::Remove { file: name("deleted/1") });
    sync_dir(&files, "deleted");
    drop(files);
    assert!(names(&power_cut(directory.path()), "deleted").is_empty());
}

#[test]
fn two_files_that_shift_their_names_both_survive() {
    let directory = TempDir::new();
    let files = power_cut(directory.path());
    done(&files, write("a", 0, b"1", Sync::Data));
    sync_dir(&files, "");
    rename(&files, "a", "b");
    done(&files, write("a", 0, b"2", Sync::Data));
    sync_dir(&files, "");
    drop(files);
    let files = power_cut(directory.path());
    assert_eq!(read(&files, "a", 0, 10), b"2");
    assert_eq!(read(&files, "b", 0, 10), b"1");
}

#[test]
fn a_filled_file_is_durable_once_its_name_is() {
    let directory = TempDir::new();
    let files = power_cut(directory.path());
    let create = Operation::Create { file: name("0"), kind: CreateKind::Filled { length: 10_000 } };
    done(&files, create);
    sync_dir(&files, "");
    drop(files);
    let files = power_cut(directory.path());
    assert_eq!(list(&files, ""), [("0".to_owned(), EntryKind::File, 10_000)]);
}

/// The same random operations on both kinds give the same answers, and after all is flushed the
/// real directory of the power-cut files holds what they showed.
#[test]
fn random_operations_are_answered_as_a_real_directory_answers() {
    for seed in 0..60 {
        let (left, right) = (TempDir::new(), TempDir::new());
        let (expected, cut) = (real(left.path()), power_cut(right.path()));
        let mut random = seed * 0x9e37_79b9 + 1;
        let mut next = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        const PATHS: [&str; 8] = ["a", "b", "d", "e", "d/a", "d/b", "e/a", "d/c"];
        for step in 0..150 {
            let path = name(PATHS[next(8) as usize]);
            let operation = match next(10) {
                0..=2 => {
                    let bytes = vec![step as u8; next(20) as usize + 1];
                    let sync = if next(3) == 0 { Sync::Data } else { Sync::None };
                    let body = WriteBody::Parts(vec![bytes.into()]);
                    Operation::Write { file: path, position: next(30), body, sync }
                }
                3 => Operation::Create { file: path, kind: CreateKind::Directory },
                4 => Operation::Rename { from: path, to: name(PATHS[next(8) as usize]) },
                5 => Operation::Remove { file: path },
                6 => Operation::Truncate { file: path, length: next(40) },
                7 => Operation::SyncDir { directory: path },
                8 => Operation::SyncDir { directory: FileName::root() },
                _ => Operation::Read { file: path, position: next(10), length: next(50) },
            };
            if let Operation::Rename { from, to } = &operation
                && (to.as_str().starts_with(from.as_str())
                    || from.as_str().starts_with(to.as_str()))
            {
                continue;
            }
            let told = format!("seed {seed} step {step}: {operation:?}");
            let (wanted, got) = (expected.perform(operation.clone()), cut.perform(operation));
            match (wanted, got) {
                (Ok(Completion::Read(wanted)), Ok(Completion::Read(got))) => {
                    assert_eq!(wanted, got, "{told}");
                }
                (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
                other => panic!("{told}: {other:?}"),
            }
        }
        let seen = snapshot(&cut, "");
        assert_eq!(snapshot(&expected, ""), seen, "seed {seed}");
        for (path, content) in &seen {
            if content.is_some() {
                done(&cut, Operation::Sync { file: name(path) });
            }
        }
        sync_dir(&cut, "");
        for (path, content) in &seen {
            if content.is_none() {
                sync_dir(&cut, path);
            }
        }
        drop(cut);
        assert_eq!(snapshot(&power_cut(right.path()), ""), seen, "seed {seed} after the cut");
    }
}

/// Every path below a directory with its content, `None` for a directory.
fn snapshot(files: &dyn Files, directory: &str) -> Vec<(String, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    for (entry, kind, _) in list(files, directory) {
        let path = if directory.is_empty() { entry } else { format!("{directory}/{entry}") };
        match kind {
            EntryKind::Directory => {
                all.push((path.clone(), None));
                all.extend(snapshot(files, &path));
            }
            EntryKind::File | EntryKind::Other => {
                let content = read(files, &path, 0, 1 << 20);
                all.push((path, Some(content)));
            }
        }
    }
    all
}
