use mainspring_core::io::WriteBody;

use super::*;
use crate::rng::Stream;

const SECTOR: u64 = 512;

/// A disk and a hand to work it with, one operation after the other.
struct Bench {
    disk: SimDisk,
    at: u64,
    token: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(DiskOptions { sector: SECTOR, ..DiskOptions::default() })
    }

    fn with(options: DiskOptions) -> Self {
        Self { disk: SimDisk::new(options, Rng::new(1, Stream::Disk(0))), at: 0, token: 0 }
    }

    fn token(&mut self) -> IoToken {
        self.token += 1;
        IoToken(self.token)
    }

    fn submit(&mut self, make: impl FnOnce(IoToken) -> Effect) -> (OperationId, u64) {
        let effect = make(self.token());
        self.disk.submit(self.at, ShardId(0), effect).expect("an effect on files")
    }

    fn run(&mut self, make: impl FnOnce(IoToken) -> Effect) -> Result<Completion, DiskError> {
        let (id, ends) = self.submit(make);
        self.at = ends;
        self.disk.finish(id).expect("in flight").result
    }

    fn write(&mut self, file: &str, position: u64, bytes: &[u8], sync: Sync) {
        self.run(write(file, position, bytes, sync)).expect("a good disk");
    }

    fn sync_root(&mut self) {
        self.run(|token| Effect::SyncDir { directory: FileName::root(), token }).expect("good");
    }

    fn sync(&mut self, file: &str) -> Result<Completion, DiskError> {
        self.run(|token| Effect::Sync { file: FileName::new(file), token })
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.run(|token| Effect::Rename {
            from: FileName::new(from),
            to: FileName::new(to),
            token,
        })
        .expect("a good disk");
    }
}

fn write(
    file: &str,
    position: u64,
    bytes: &[u8],
    sync: Sync,
) -> impl FnOnce(IoToken) -> Effect + use<> {
    let (file, bytes) = (FileName::new(file), Bytes::copy_from_slice(bytes));
    move |token| Effect::Write { file, position, body: WriteBody::Parts(vec![bytes]), sync, token }
}

#[test]
fn unsynced_bytes_read_back_and_power_loss_takes_them() {
    let mut bench = Bench::new();
    bench.write("a", 0, b"kept", Sync::Data);
    bench.sync_root();
    bench.write("a", 0, b"lost", Sync::None);
    assert_eq!(bench.disk.page_image("a"), Some(&b"lost"[..]));

    bench.disk.lose_power_but(|_| false);

    assert_eq!(bench.disk.page_image("a"), Some(&b"kept"[..]));
}

#[test]
fn a_crash_of_the_process_keeps_unsynced_bytes_that_had_been_written() {
    let mut bench = Bench::new();
    bench.write("a", 0, b"kept", Sync::None);

    bench.disk.crash();

    assert_eq!(bench.disk.page_image("a"), Some(&b"kept"[..]));
}

#[test]
fn a_later_sector_may_survive_without_an_earlier_one() {
    let mut bench = Bench::new();
    bench.write("a", 0, &[0; 1024], Sync::Data);
    bench.sync_root();
    bench.write("a", 0, &[7; 1024], Sync::None);
    assert_eq!(bench.disk.pending_units(), 2);

    bench.disk.lose_power_but(|unit| unit == 1);

    let page = bench.disk.page_image("a").expect("named");
    assert_eq!((page[511], page[512]), (0, 7));
}

#[test]
fn a_length_may_survive_without_its_bytes_and_bytes_not_without_their_length() {
    for (survivor, expected) in [(0, vec![0; 100]), (1, vec![])] {
        let mut bench = Bench::new();
        bench.write("a", 0, &[], Sync::None);
        bench
            .run(|token| Effect::Create {
                file: FileName::new("a"),
                kind: CreateKind::Filled { length: 0 },
                token,
            })
            .expect("good");
        bench.sync_root();
        bench.write("a", 0, &[9; 100], Sync::None);

        bench.disk.lose_power_but(|unit| unit == survivor);

        assert_eq!(bench.disk.page_image("a"), Some(&expected[..]), "unit {survivor}");
    }
}

#[test]
fn a_surviving_sector_carries_what_an_earlier_lost_write_put_beside_it() {
    let mut bench = Bench::new();
    bench.write("a", 0, &[0; 512], Sync::Data);
    bench.sync_root();
    bench.write("a", 0, b"first", Sync::None);
    bench.write("a", 100, b"second", Sync::None);

    bench.disk.lose_power_but(|unit| unit == 1);

    assert_eq!(&bench.disk.page_image("a").expect("named")[..5], b"first");
}

#[test]
fn a_file_without_a_flush_of_its_directory_may_lose_its_name() {
    let mut bench = Bench::new();
    bench.write("a", 0, b"flushed", Sync::Data);

    let lost = bench.disk.after_power_loss(|_| false);
    assert_eq!(lost.files(), Vec::<String>::new());

    bench.sync_root();
    assert_eq!(bench.disk.durable_image().files(), ["a"]);
}

#[test]
fn a_rename_or_a_removal_may_be_undone_by_power_loss() {
    let mut bench = Bench::new();
    bench.write("a", 0, b"old", Sync::Data);
    bench.write("b", 0, b"new", Sync::Data);
    bench.sync_root();
    bench.rename("b", "a");
    assert_eq!(bench.disk.files(), ["a"]);
    let undone = bench.disk.durable_image();
    assert_eq!(undone.page_image("a"), Some(&b"old"[..]));
    assert_eq!(undone.page_image("b"), Some(&b"new"[..]));

    bench.sync_root();
    bench.run(|token| Effect::Remove { file: FileName::new("a"), token }).expect("good");
    assert_eq!(bench.disk.durable_image().page_image("a"), Some(&b"new"[..]));

    bench.sync_root();
    assert_eq!(bench.disk.durable_image().files(), Vec::<String>::new());
}

#[test]
fn a_directory_is_lost_with_all_that_is_in_it() {
    let mut bench = Bench::new();
    let directory = FileName::new("d");
    bench
        .run(|token| Effect::Create { file: directory.clone(), kind: CreateKind::Directory, token })
        .expect("good");
    bench.write("d/a", 0, b"x", Sync::Data);
    bench.run(|token| Effect::SyncDir { directory, token }).expect("good");

    assert_eq!(bench.disk.durable_image().files(), Vec::<String>::new());
    bench.sync_root();
    assert_eq!(bench.disk.durable_image().files(), ["d/a"]);
}

#[test]
fn a_failed_flush_reads_back_and_is_never_durable() {
    let mut bench = Bench::new();
    bench.write("a", 0, &[1; 1024], Sync::Data);
    bench.sync_root();
    bench.write("a", 0, &[2; 512], Sync::None);
    bench.disk.options_mut().flush_error = 1000;
    let failed = bench.sync("a").expect_err("flushes fail");
    assert_eq!(failed.kind, DiskErrorKind::Flush);

    bench.disk.options_mut().flush_error = 0;
    bench.write("a", 512, &[3; 512], Sync::Data);

    let page = bench.disk.page_image("a").expect("named");
    assert_eq!((page[0], page[512]), (2, 3));
    let durable = bench.disk.durable_image();
    let durable = durable.page_image("a").expect("named");
    assert_eq!((durable[0], durable[512]), (1, 3));
}

#[test]
fn what_is_written_and_flushed_makes_a_file_long_enough_whose_growth_was_dropped() {
    let mut bench = Bench::new();
    bench.write("a", 0, &[1; 512], Sync::Data);
    bench.sync_root();
    bench.write("a", 512, &[2; 1536], Sync::None);
    bench.disk.options_mut().flush_error = 1000;
    bench.sync("a").expect_err("flushes fail");
    bench.disk.options_mut().flush_error = 0;

    bench.write("a", 1024, &[3; 512], Sync::Data);

    assert_eq!(bench.disk.page_image("a").expect("named").len(), 2048);
    let durable = bench.disk.durable_image();
    let durable = durable.page_image("a").expect("named");
    assert_eq!((durable.len(), durable[512], durable[1024]), (1536, 0, 3));
}

#[test]
fn a_write_beyond_the_capacity_writes_nothing() {
    let mut bench =
        Bench::with(DiskOptions { sector: SECTOR, capacity: Some(1000), ..DiskOptions::default() });
    bench.write("a", 0, &[1; 900], Sync::None);

    let refused = bench.run(write("b", 0, &[1; 200], Sync::None)).expect_err("full");

    assert_eq!(refused.kind, DiskErrorKind::NoSpace);
    assert_eq!(bench.disk.used(), 900);
    bench.run(|token| Effect::Remove { file: FileName::new("a"), token }).expect("good");
    bench.write("b", 0, &[1; 200], Sync::None);
}

#[test]
fn errors_of_reads_and_writes_are_reported() {
    let mut bench = Bench::new();
    bench.write("a", 0, b"x", Sync::None);
    bench.disk.options_mut().read_error = 1000;
    bench.disk.options_mut().write_error = 1000;
    let read = |token| Effect::Read { file: FileName::new("a"), position: 0, length: 9, token };

    assert!(bench.run(read).is_err());
    assert!(bench.run(write("a", 0, b"y", Sync::None)).is_err());
    assert_eq!(bench.disk.counters().read_errors + bench.disk.counters().write_errors, 2);
}

#[test]
fn an_operation_of_a_dead_incarnation_never_completes() {
    let mut bench = Bench::new();
    let (id, _) = bench.submit(write("a", 0, b"x", Sync::Data));

    bench.disk.crash();

    assert!(bench.disk.finish(id).is_none());
}

#[test]
fn an_operation_in_flight_at_a_crash_is_applied_wholly_partly_or_not_at_all() {
    let (mut wholly, mut partly, mut none) = (false, false, false);
    let mut bench = Bench::new();
    for _ in 0..60 {
        bench.write("a", 0, &[0; 100], Sync::Data);
        bench.submit(write("a", 0, &[1; 100], Sync::Data));
        bench.disk.crash();
        let page = bench.disk.page_image("a").expect("named");
        match (page[0], page[99]) {
            (0, _) => none = true,
            (_, 1) => wholly = true,
            _ => partly = true,
        }
    }
    assert!(wholly && partly && none);
}

#[test]
fn operations_on_one_file_keep_their_order_and_others_do_not() {
    let mut bench = Bench::new();
    let mut reordered = false;
    for _ in 0..50 {
        let (_, first) = bench.submit(write("a", 0, b"1", Sync::None));
        let (_, second) = bench.submit(write("a", 0, b"2", Sync::None));
        let (_, other) = bench.submit(write("b", 0, b"3", Sync::None));
        assert!(first < second);
        reordered |= other < second;
        bench.at = second.max(other);
        let ids: Vec<_> = bench.disk.in_flight().collect();
        for id in ids {
            bench.disk.finish(id);
        }
    }
    assert!(reordered);
}

#[test]
fn rot_changes_what_is_read_and_what_is_durable() {
    let mut bench = Bench::new();
    bench.write("a", 0, &[0; 4], Sync::Data);
    bench.sync_root();

    assert!(bench.disk.rot("a", 2, 0));
    assert!(!bench.disk.rot("a", 4, 0));

    assert_eq!(bench.disk.page_image("a"), Some(&[0, 0, 1, 0][..]));
    assert_eq!(bench.disk.durable_image().page_image("a"), Some(&[0, 0, 1, 0][..]));
}

#[test]
fn a_read_ends_at_the_end_of_the_file() {
    let mut bench = Bench::new();
    bench.write("a", 0, b"abc", Sync::None);
    for (position, expected) in [(1, &b"bc"[..]), (3, b""), (u64::MAX, b"")] {
        let found = bench
            .run(|token| Effect::Read { file: FileName::new("a"), position, length: 9, token })
            .expect("good");
        assert!(matches!(found, Completion::Read(bytes) if bytes == expected));
    }
}

#[test]
fn what_is_not_there_is_not_found_but_may_be_removed() {
    let mut bench = Bench::new();
    let missing = bench.sync("a").expect_err("no such file");
    assert_eq!(missing.kind, DiskErrorKind::NotFound);
    assert!(bench.run(write("d/a", 0, b"x", Sync::None)).is_err());
    bench.run(|token| Effect::Remove { file: FileName::new("d/a"), token }).expect("no error");
}

fn read(file: &str, length: u64) -> impl FnOnce(IoToken) -> Effect + use<> {
    let file = FileName::new(file);
    move |token| Effect::Read { file, position: 0, length, token }
}

fn bytes_of(completion: Completion) -> Bytes {
    let Completion::Read(bytes) = completion else { panic!("no read: {completion:?}") };
    bytes
}

/// A disk with one file of three durable sectors of ones, twos and threes.
fn three_sectors() -> Bench {
    let mut bench = Bench::new();
    let content = [[1; SECTOR as usize], [2; SECTOR as usize], [3; SECTOR as usize]].concat();
    bench.write("a", 0, &content, Sync::Data);
    bench.sync_root();
    bench
}

#[test]
fn a_flipped_read_differs_in_one_bit_and_the_next_one_does_not() {
    let mut bench = three_sectors();
    bench.disk.options_mut().flipped_read = 1000;
    let flipped = bytes_of(bench.run(read("a", 100)).expect("it reads"));
    bench.disk.options_mut().flipped_read = 0;
    let right = bytes_of(bench.run(read("a", 100)).expect("it reads"));
    let bits: u32 = flipped.iter().zip(&right).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!((bits, bench.disk.counters().flipped_reads), (1, 1));
}

#[test]
fn a_misdirected_read_answers_with_another_place_of_the_same_length() {
    let mut bench = three_sectors();
    bench.disk.options_mut().misdirected_read = 1000;
    let found = bytes_of(bench.run(read("a", SECTOR)).expect("it reads"));
    assert_eq!(found.len() as u64, SECTOR);
    assert!(found.iter().all(|byte| *byte != 1), "{:?}", &found[..4]);
    assert_eq!(bench.disk.counters().misdirected_reads, 1);
}

#[test]
fn a_stale_read_shows_what_the_device_had_before_the_last_flush() {
    let mut bench = three_sectors();
    bench.write("a", 0, &[9; 8], Sync::None);
    bench.disk.options_mut().stale_read = 1000;
    assert_eq!(bytes_of(bench.run(read("a", 8)).expect("it reads")), [1; 8][..]);
    bench.disk.options_mut().stale_read = 0;
    assert_eq!(bytes_of(bench.run(read("a", 8)).expect("it reads")), [9; 8][..]);
}

#[test]
fn a_lost_write_is_reported_as_durable_and_goes_with_the_page_cache() {
    for power in [false, true] {
        let mut bench = three_sectors();
        bench.disk.options_mut().lost_write = 1000;
        bench.write("a", 0, &[9; 8], Sync::Data);
        assert_eq!(&bench.disk.page_image("a").expect("a file")[..8], [9; 8]);

        if power {
            bench.disk.lose_power_but(|_| true);
        } else {
            bench.disk.drop_caches();
        }

        assert_eq!(&bench.disk.page_image("a").expect("a file")[..8], [1; 8]);
    }
}

#[test]
fn a_misdirected_write_leaves_the_old_bytes_and_destroys_others() {
    let mut bench = three_sectors();
    bench.disk.options_mut().misdirected_write = 1000;
    bench.write("a", 0, &[9; SECTOR as usize], Sync::Data);
    bench.disk.drop_caches();
    let content = bench.disk.page_image("a").expect("a file").to_vec();
    let sectors: Vec<u8> = content.chunks(SECTOR as usize).map(|sector| sector[0]).collect();
    assert_eq!(sectors[0], 1, "the right place keeps what it had");
    assert!(sectors[1..].contains(&9) || content.len() as u64 == 3 * SECTOR, "{sectors:?}");
    assert_ne!(sectors, [9, 2, 3]);
}

#[test]
fn a_short_write_says_that_there_is_no_space_and_leaves_a_part() {
    let mut bench = Bench::new();
    bench.disk.options_mut().short_write = 1000;
    let mut lengths = BTreeSet::new();
    for nth in 0..40 {
        let file = format!("f{nth}");
        let error = bench.run(write(&file, 0, &[1; 10], Sync::Data)).expect_err("it is short");
        assert_eq!(error.kind, DiskErrorKind::NoSpace);
        lengths.insert(bench.disk.page_image(&file).map_or(0, <[u8]>::len));
    }
    assert!(lengths.len() > 5, "{lengths:?}");
}

#[test]
fn a_lack_of_descriptors_does_nothing_and_is_never_an_error_of_a_flush() {
    let mut bench = three_sectors();
    bench.disk.options_mut().exhausted = 1000;
    let error = bench.run(write("a", 0, &[9], Sync::Data)).expect_err("it lacks something");
    assert_eq!(error.kind, DiskErrorKind::Exhausted);
    assert_eq!(bench.disk.page_image("a").expect("a file")[0], 1);
    bench.sync("a").expect("a flush that lacks something is a failed flush, not this");
}

#[test]
fn a_disk_for_reading_only_reads_and_lists_and_changes_nothing() {
    let mut bench = three_sectors();
    bench.disk.options_mut().read_only = true;
    bench.run(read("a", 8)).expect("it reads");
    for refused in [
        bench.run(write("a", 0, &[9], Sync::None)),
        bench.run(|token| Effect::Remove { file: FileName::new("a"), token }),
        bench.run(|token| Effect::Truncate { file: FileName::new("a"), length: 0, token }),
    ] {
        assert_eq!(refused.expect_err("read-only").kind, DiskErrorKind::NotPermitted);
    }
    assert_eq!(bench.disk.page_image("a").map(<[u8]>::len), Some(3 * SECTOR as usize));
}

#[test]
fn a_stuck_operation_holds_its_name_until_it_is_released() {
    let mut bench = three_sectors();
    bench.disk.options_mut().stuck = 1000;
    let (first, ends) = bench.submit(write("a", 0, &[7], Sync::None));
    assert_eq!(ends, NEVER);
    bench.disk.options_mut().stuck = 0;
    let (second, ends) = bench.submit(write("a", 0, &[8], Sync::None));
    assert_eq!(ends, NEVER, "what follows on the same name waits, too");
    let (_, ends) = bench.submit(write("b", 0, &[8], Sync::None));
    assert_ne!(ends, NEVER);

    let released = bench.disk.release(bench.at);
    let order: Vec<OperationId> = released.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [first, second]);
    assert!(released[0].1 < released[1].1);
    for id in order {
        bench.disk.finish(id).expect("in flight").result.expect("it ends well");
    }
    assert_eq!(bench.disk.page_image("a").expect("a file")[0], 8);
}

#[test]
fn a_stuck_operation_dies_with_its_process() {
    let mut bench = three_sectors();
    bench.disk.options_mut().stuck = 1000;
    let (stuck, _) = bench.submit(write("a", 0, &[7], Sync::None));
    bench.disk.crash();
    assert!(bench.disk.finish(stuck).is_none());
    assert!(bench.disk.release(bench.at).is_empty());
    bench.disk.options_mut().stuck = 0;
    assert_ne!(bench.submit(write("a", 0, &[8], Sync::None)).1, NEVER);
}

#[test]
fn a_slow_flush_takes_a_second_and_a_write_does_not() {
    let mut bench = three_sectors();
    bench.disk.options_mut().slow_flush = 1000;
    let before = bench.at;
    bench.write("a", 0, &[7], Sync::None);
    assert!(bench.at - before < SLOW_FLUSH);
    bench.sync("a").expect("it ends well");
    assert!(bench.at - before > SLOW_FLUSH);
}

#[test]
fn files_are_known_by_their_names() {
    for (name, kind) in [
        ("meta.properties", Some(FileKind::Identity)),
        ("checkpoint/0", Some(FileKind::Checkpoint)),
        ("checkpoint/0.tmp", None),
        ("journal/2/checkpoint", Some(FileKind::Checkpoint)),
        ("journal/2/incarnation", Some(FileKind::Starts)),
        ("journal/0/00000001.journal", Some(FileKind::Journal)),
        ("orders-0/00000000000000000000.log", Some(FileKind::Segment)),
        ("orders-0/00000000000000000000.index", Some(FileKind::OffsetIndex)),
        ("orders-0/00000000000000000000.index.tmp", None),
        ("orders-0/00000000000000000000.timeindex", Some(FileKind::TimeIndex)),
        ("orders-0/00000000000000000007.producers", Some(FileKind::Producers)),
        ("orders-0/leader-epoch-checkpoint", Some(FileKind::Epochs)),
        (
            "__cluster_metadata-0/00000000000000000042-0000000003.checkpoint",
            Some(FileKind::MetadataSnapshot),
        ),
        ("__cluster_metadata-0/00000000000000000042-0000000003.checkpoint.tmp", None),
        ("trash/x/00000000000000000000.log", None),
        ("somebody-elses", None),
    ] {
        assert_eq!(FileKind::of(name), kind, "{name}");
    }
}

#[test]
fn damage_at_rest_survives_power_loss_and_strikes_one_file() {
    let mut bench = three_sectors();
    bench.write("b", 0, b"whole", Sync::Data);
    bench.sync_root();
    assert!(bench.disk.cut_file("a", 600) && bench.disk.zero_file("a", 0, 4));
    assert!(bench.disk.plant_file("junk", b"not ours") && !bench.disk.plant_file("b", b""));
    bench.disk.lose_power_but(|_| false);
    let content = bench.disk.page_image("a").expect("a file");
    assert_eq!((content.len(), &content[..5]), (600, &[0, 0, 0, 0, 1][..]));
    assert_eq!(bench.disk.page_image("b"), Some(&b"whole"[..]));
    assert_eq!(bench.disk.page_image("junk"), Some(&b"not ours"[..]));

    assert!(bench.disk.lose_file("b") && !bench.disk.lose_file("b"));
    bench.disk.lose_power_but(|_| true);
    assert_eq!(bench.disk.files(), ["a", "junk"]);
}

#[test]
fn a_wiped_disk_is_empty_and_a_restored_one_is_as_it_was() {
    let mut bench = three_sectors();
    assert!(!bench.disk.restore(), "nothing was saved");
    bench.disk.save();
    bench.write("a", 0, &[9; 8], Sync::Data);
    bench.disk.wipe();
    assert!(bench.disk.files().is_empty());
    assert!(bench.disk.restore());
    assert_eq!(&bench.disk.page_image("a").expect("a file")[..8], [1; 8]);
}
