//! Records that come again and are not stored again.

use super::*;
use crate::record::hidden::Change;

const P: Option<i64> = Some(7);

/// Produces one record with this hash, and returns whether it was stored.
fn store(bench: &mut Bench, producer: Option<i64>, hash: u128) -> Result<bool, ErrorCode> {
    let produced = bench.produce_by(producer, &[plain("a").dedup(hash)]);
    produced.map_err(|(error, _)| error)?;
    Ok(bench.log.last().is_some_and(|batch| Hidden::of(batch).is_none()))
}

#[test]
fn what_comes_again_within_the_window_is_not_stored_and_behind_it_is() {
    let mut bench = Bench::with(|settings| settings.dedup_window_ms = 1_000);
    assert_eq!(store(&mut bench, None, 1), Ok(true));
    bench.pass(999);
    assert_eq!(store(&mut bench, None, 1), Ok(false));
    assert_eq!(store(&mut bench, None, 2), Ok(true));
    bench.restart();
    assert_eq!(store(&mut bench, None, 1), Ok(false), "the next leader knows it too");
    bench.pass(1);
    assert_eq!(store(&mut bench, None, 1), Ok(true));
    assert_eq!(store(&mut bench, None, 1), Ok(false));
}

#[test]
fn a_duplicate_is_noted_with_the_place_of_the_first_and_does_not_prolong_its_window() {
    let mut bench = Bench::with(|settings| settings.dedup_window_ms = 1_000);
    bench.produce(&[plain("x"), plain("a").dedup(1)]).expect("it is stored");
    bench.pass(900);
    bench.produce(&[plain("a").dedup(1)]).expect("a duplicate succeeds");
    let note = Note::read(bench.notes.values().last().expect("a note")).expect("whole");
    assert_eq!(note.changes, [Change::Duplicate { index: 0, original: Offset(2) }]);
    bench.pass(100);
    assert_eq!(store(&mut bench, None, 1), Ok(true));
}

#[test]
fn a_record_of_the_same_batch_is_a_duplicate_too() {
    let mut bench = Bench::new();
    bench.produce(&[plain("a").dedup(1), plain("a").dedup(1)]).expect("it is stored");
    let note = Note::read(&bench.log[0]).expect("whole");
    assert_eq!(note.changes[1], Change::Duplicate { index: 1, original: Offset(1) });
    assert_eq!(bench.schedule.stats().hashes, 1);
}

#[test]
fn what_an_open_transaction_stored_is_a_duplicate_for_itself_alone() {
    for committed in [true, false] {
        let mut bench = Bench::new();
        assert_eq!(store(&mut bench, P, 1), Ok(true));
        assert_eq!(store(&mut bench, P, 1), Ok(false));
        assert_eq!(store(&mut bench, None, 1), Err(LATER));
        assert_eq!(store(&mut bench, Some(8), 1), Err(LATER));
        bench.restart();
        assert_eq!(store(&mut bench, None, 1), Err(LATER));
        bench.marker(7, committed);
        bench.restart();
        assert_eq!(store(&mut bench, None, 1), Ok(!committed));
    }
}

#[test]
fn an_entry_counts_from_its_acceptance() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 100).dedup(1)]).expect("it is taken");
    bench.produce(&[delayed("a", 100).dedup(1)]).expect("a duplicate succeeds");
    assert_eq!(store(&mut bench, None, 1), Ok(false));
    bench.pass(100);
    assert_eq!(bench.fired_values(), ["a"]);
    assert_eq!(store(&mut bench, None, 1), Ok(false));
}

#[test]
fn a_full_memory_refuses_and_forgets_nothing_early() {
    let mut bench = Bench::with(|settings| {
        settings.dedup_max_entries = 2;
        settings.dedup_window_ms = 1_000;
    });
    assert_eq!(store(&mut bench, None, 1), Ok(true));
    bench.pass(500);
    assert_eq!(store(&mut bench, None, 2), Ok(true));
    assert_eq!(store(&mut bench, None, 3), Err(FULL));
    assert_eq!(store(&mut bench, None, 1), Ok(false));
    assert!(bench.produce(&[plain("a")]).is_ok(), "others are stored");
    bench.pass(500);
    assert_eq!(store(&mut bench, None, 3), Ok(true), "one has been forgotten");
    assert_eq!(store(&mut bench, None, 4), Err(FULL));
}

#[test]
fn no_leap_of_the_wall_clock_shortens_the_window() {
    let mut bench = Bench::with(|settings| settings.dedup_window_ms = 1_000);
    assert_eq!(store(&mut bench, None, 1), Ok(true));
    bench.now.wall = bench.now.wall.plus(86_400_000);
    assert_eq!(store(&mut bench, None, 1), Ok(false));
    bench.pass(20_000 - 19_001);
    assert_eq!(store(&mut bench, None, 1), Ok(false));
    bench.restart();
    bench.now.wall = bench.now.wall.plus(86_400_000);
    bench.restart();
    assert_eq!(store(&mut bench, None, 1), Ok(false));
}

#[test]
fn a_new_leader_remembers_for_no_more_than_a_whole_window() {
    let mut bench = Bench::with(|settings| settings.dedup_window_ms = 1_000);
    assert_eq!(store(&mut bench, None, 1), Ok(true));
    bench.restart();
    bench.pass(999);
    let mut before =
        Bench { schedule: bench.schedule.clone(), log: bench.log.clone(), ..Bench::new() };
    before.now = bench.now;
    before.epoch = bench.epoch;
    assert_eq!(store(&mut before, None, 1), Ok(false));
    bench.pass(1);
    assert_eq!(store(&mut bench, None, 1), Ok(true));
}

#[test]
fn a_duplicate_of_a_command_is_not_executed() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 10).id("n")]).expect("it is taken");
    bench.produce(&[by_id("n", Command::Reschedule(When::After(50))).dedup(1)]).expect("pending");
    bench.pass(10);
    bench.produce(&[by_id("n", Command::Reschedule(When::After(50))).dedup(1)]).expect("succeeds");
    bench.pass(40);
    assert_eq!(bench.fired_values(), ["a"]);
}
