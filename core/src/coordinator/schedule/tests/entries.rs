//! What is accepted, and what comes of it.

use super::*;
use crate::coordinator::schedule::queue::bytes_of;
use crate::coordinator::schedule::state::Live;
use crate::record::hidden::{Change, Ticket};

#[test]
fn an_entry_is_delivered_when_it_is_due_and_never_before() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[delayed("a", 5_000)]).expect("it is taken");

    bench.pass(4_999);
    assert!(bench.fire().is_empty());
    bench.pass(1);
    let fired = bench.fire();

    assert_eq!(fired.len(), 1);
    assert_eq!(bench.ended(ticket), Some((Outcome::Fired, fired[0].offset)));
    assert!(bench.fire().is_empty(), "it comes once");
}

#[test]
fn a_delivered_record_is_the_produced_one_with_the_time_of_its_delivery_and_three_headers() {
    let mut bench = Bench::new();
    let mut record = delayed("a", 10);
    record.headers = vec![("h".to_owned(), "1".to_owned()), ("h".to_owned(), "2".to_owned())];
    let ticket = bench.produce(&[plain("x"), record]).expect("it is taken").plus(1);

    bench.pass(25);
    let fired = bench.fire();

    let headers = [
        ("h", "1".to_owned()),
        ("h", "2".to_owned()),
        ("mainspring-sent-at", (START - 7).to_string()),
        ("mainspring-scheduled-for", (START + 10).to_string()),
        ("mainspring-ticket", ticket.to_string()),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(
        fired,
        [Delivered {
            offset: bench.end().0 - 1,
            timestamp: START + 25,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"a")),
            headers: headers.to_vec(),
        }]
    );
}

#[test]
fn a_record_that_asks_for_nothing_is_stored_and_leaves_no_note() {
    let mut bench = Bench::new();
    let (one, all) = (plain("a"), [plain("a"), plain("b")]);
    assert_eq!(bench.produce(&[one]), Ok(Offset(0)));
    assert_eq!(bench.produce(&all), Ok(Offset(1)));
    assert!(bench.notes.is_empty());
}

#[test]
fn equal_records_do_not_replace_each_other_and_equal_ids_do() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.produce(&[delayed("same", 100)]).expect("it is taken");
    }
    let older = bench.produce(&[delayed("old", 50).id("n")]).expect("it is taken");
    let newer = bench.produce(&[delayed("new", 100).id("n")]).expect("it is taken");

    assert_eq!(bench.ended(older), Some((Outcome::Replaced, newer.0)));
    bench.pass(100);
    assert_eq!(bench.fired_values(), ["same", "same", "same", "new"]);
    bench.restart();
    assert_eq!(bench.ended(older), Some((Outcome::Replaced, newer.0)));
}

#[test]
fn an_id_is_free_again_when_its_entry_has_ended() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 1).id("n")]).expect("it is taken");
    bench.pass(1);
    assert_eq!(bench.fired_values(), ["a"]);
    bench.produce(&[delayed("b", 1).id("n"), delayed("c", 1).id("n")]).expect("it is taken");
    bench.pass(1);
    assert_eq!(bench.fired_values(), ["c"], "the later of one batch counts");
}

#[test]
fn what_is_due_in_the_past_comes_at_once() {
    let mut bench = Bench::new();
    bench.produce(&[at("a", 5), delayed("b", 0)]).expect("it is taken");
    assert_eq!(bench.fired_values(), ["a", "b"]);
}

#[test]
fn a_due_time_beyond_the_horizon_or_the_calendar_is_refused_with_its_record() {
    let mut bench = Bench::with(|settings| settings.horizon_max_ms = 1_000);
    assert_eq!(bench.produce(&[delayed("a", 1_000), delayed("b", 1_001)]), Err((FULL, 1)));
    assert_eq!(bench.produce(&[at("b", START + 1_001)]), Err((FULL, 0)));
    bench.produce(&[delayed("a", 1_000)]).expect("it is within");
    let mut bench = Bench::new();
    assert_eq!(bench.produce(&[at("a", 253_402_300_800_000)]), Err((IMPOSSIBLE, 0)));
    assert_eq!(bench.produce(&[delayed("a", i64::MAX)]), Err((IMPOSSIBLE, 0)));
    bench.produce(&[at("a", 253_402_300_799_999)]).expect("there is no horizon by default");
    bench.pass(1_000_000_000);
    assert!(bench.fire().is_empty());
    assert!(bench.schedule.next_deadline(bench.now).expect("far ahead") > bench.now.mono);
}

#[test]
fn the_caps_hold_exactly_and_free_again() {
    let mut bench = Bench::with(|settings| settings.max_pending_records = 2);
    assert_eq!(bench.produce(&[delayed("a", 9), delayed("b", 9), delayed("c", 9)]), Err((FULL, 2)));
    bench.produce(&[delayed("a", 9).id("n"), delayed("b", 9)]).expect("there is room for two");
    assert_eq!(bench.produce(&[delayed("c", 9)]), Err((FULL, 0)));
    bench.produce(&[delayed("d", 9).id("n")]).expect("it takes the place of another");
    bench.pass(9);
    assert_eq!(bench.fired_values(), ["b", "d"]);
    bench.produce(&[delayed("a", 9), delayed("b", 9)]).expect("there is room again");

    let size = bench.schedule.stats().pending_bytes / 2;
    let mut bench = Bench::with(|settings| settings.max_pending_bytes = 2 * size);
    bench.produce(&[delayed("a", 9), delayed("b", 9)]).expect("there is room for two");
    assert_eq!(bench.produce(&[delayed("c", 9)]), Err((FULL, 0)));
}

#[test]
fn a_recurring_entry_comes_again_and_what_was_missed_comes_once() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[cron("a", "@grid 1000")]).expect("it is taken");
    bench.pass(999);
    assert!(bench.fire().is_empty());
    bench.pass(1);
    assert_eq!(bench.fired_values(), ["a"]);
    bench.pass(5_500);
    assert_eq!(bench.fired_values(), ["a"], "five were missed");
    bench.restart();
    bench.pass(499);
    assert!(bench.fire().is_empty());
    bench.pass(1);
    assert_eq!(bench.fired_values(), ["a"]);
    assert_eq!(bench.alter(ticket, Command::Cancel), Ok(true));
    bench.pass(10_000);
    assert!(bench.fire().is_empty());
    assert_eq!(bench.ended(ticket), Some((Outcome::Cancelled, -1)));
}

#[test]
fn a_recurring_entry_keeps_its_beat_and_ends_when_nothing_is_to_come() {
    let mut bench = Bench::new();
    bench.produce(&[cron("a", "@every 1000")]).expect("it is taken");
    bench.pass(1_400);
    let fired = bench.fire();
    assert_eq!(fired[0].header("mainspring-scheduled-for"), (START + 1_000).to_string());
    bench.pass(600);
    let fired = bench.fire();
    assert_eq!(fired[0].header("mainspring-scheduled-for"), (START + 2_000).to_string());
    assert_eq!(bench.produce(&[cron("b", "never")]), Err((IMPOSSIBLE, 0)));
}

#[test]
fn a_note_counts_only_with_its_batch_right_behind_it() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 10)]).expect("it is taken");
    let (note, void) = (bench.log[0].clone(), bench.log[1].clone());
    let other = |assign: (i64, i32)| {
        let mut batch = void.clone();
        batch.assign(Offset(assign.0), LeaderEpoch(assign.1));
        batch
    };
    let mut different = BatchBuilder::new(Codec::None);
    different.push(1, None, None, &[]);
    let mut different = different.build();
    different.assign(Offset(1), LeaderEpoch(1));
    let logs = [
        (vec![note.clone(), void.clone()], 1),
        (vec![note.clone()], 0),
        (vec![note.clone(), different.clone()], 0),
        (vec![note.clone(), other((1, 2))], 0),
        (vec![note.clone(), other((2, 1))], 0),
        (vec![note, different, other((2, 1))], 0),
        (vec![void], 0),
    ];
    for (log, pending) in logs {
        let schedule = replayed(&bench.settings, &log);
        assert_eq!(schedule.stats().pending, pending, "{log:?}");
    }
}

#[test]
fn an_entry_is_small_in_memory() {
    assert_eq!(size_of::<Live>(), 40);
}

#[test]
fn what_waits_is_listed_by_due_time_and_by_ticket_in_pages() {
    let mut bench = Bench::new();
    let base = bench.produce(&[
        delayed("a", 9_000),
        delayed("b", 1_000),
        delayed("c", 60_000),
        delayed("d", 1_000).id("n"),
    ]);
    let base = base.expect("it is taken");
    let tickets = |views: Vec<EntryView>| -> Vec<i64> {
        views.iter().map(|view| view.ticket.0 - base.0).collect()
    };

    assert_eq!(tickets(bench.schedule.list_due(None, i64::MAX, 9)), [1, 3, 0, 2]);
    let second = bench.schedule.list_due(Some((START + 1_000, base.plus(1))), i64::MAX, 2);
    assert_eq!(tickets(second), [3, 0]);
    assert_eq!(tickets(bench.schedule.list(None, 3)), [0, 1, 2]);
    assert_eq!(tickets(bench.schedule.list(Some(base.plus(2)), 3)), [3]);
    let found = bench.schedule.find(&CommandTarget::Id(Bytes::from_static(b"n"))).expect("there");
    assert_eq!((found.ticket, found.due_ms), (base.plus(3), START + 1_000));
    let stats = bench.schedule.stats();
    assert_eq!((stats.pending, stats.next_due_ms), (4, Some(START + 1_000)));
    assert!(stats.pending_bytes > 0);
    bench.pass(60_000);
    assert_eq!(bench.fire().len(), 4);
    let stats = bench.schedule.stats();
    assert_eq!((stats.pending, stats.pending_bytes, stats.ended), (0, 0, 4));
}

#[test]
fn what_counts_for_a_record_is_what_it_holds() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 9_000)]).expect("it is taken");
    let note = Note::read(&bench.log[0]).expect("a note");
    let [Change::Entry(Ticket::InLink(0), entry)] = note.changes.as_slice() else {
        panic!("one entry")
    };
    assert_eq!(bench.schedule.stats().pending_bytes, bytes_of(entry) as u64);
}

#[test]
fn a_batch_has_no_more_different_recurring_schedules_than_the_bound() {
    let mut bench = Bench::new();
    let of = |count: i64| -> Vec<Rec> {
        (1..=count).map(|ms| cron("a", &format!("@grid {ms}000"))).collect()
    };
    assert_eq!(bench.produce(&of(501)), Err((FULL, 500)));
    let mut records = of(500);
    records.extend(of(500));
    bench.produce(&records).expect("the same ones again are no others");
}
