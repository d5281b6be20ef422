//! The view, held against one that looks at every batch of the log (F19).

use proptest::prelude::*;

use super::*;
use crate::ids::LeaderEpoch;
use crate::record::iterate::Records;
use crate::record::testing::{data, keeping, marker, note};

fn batch() -> impl Strategy<Value = Batch> {
    prop_oneof![
        3 => (1..4_usize).prop_map(|records| data(records, None, false)),
        3 => prop::collection::vec(any::<bool>(), 1..5).prop_map(|kept| {
            keeping(&data(kept.len(), None, false), &kept)
        }),
        3 => (1..4_usize).prop_map(|records| keeping(&data(records, None, true), &vec![false; records])),
        3 => (0..200_usize).prop_map(note),
        1 => any::<bool>().prop_map(|committed| marker(7, 0, committed)),
    ]
}

fn log() -> impl Strategy<Value = Vec<Batch>> {
    let batches = prop::collection::vec(batch(), 1..40);
    (0..50_i64, batches).prop_map(|(mut next, mut batches)| {
        for batch in &mut batches {
            batch.assign(Offset(next), LeaderEpoch(3));
            next = batch.next_offset().0;
        }
        batches
    })
}

/// The last served offset of a batch and the batch as it is served, `None` if it is hidden.
fn served(batch: &Batch) -> Option<(Offset, Batch)> {
    if batch.is_control() {
        let is_marker = batch.is_transactional() && batch.base_sequence() == -1;
        return is_marker.then(|| (batch.last_offset(), batch.clone()));
    }
    let records = Records::new(batch.rest(), batch.records_count());
    let last = records.map(|it| it.expect("sound").offset_delta).last()?;
    Some((batch.base_offset().plus(i64::from(last)), batch.ending_at(last)))
}

fn viewed(log: &[Batch], kept: usize) -> ClientView {
    let mut view = ClientView::forgetful(log[0].base_offset(), kept);
    for batch in log {
        view.note(batch);
    }
    view
}

/// The places where the last stable offset and the high watermark may be.
fn places(log: &[Batch]) -> Vec<Offset> {
    log.iter().map(Batch::base_offset).chain(log.last().map(Batch::next_offset)).collect()
}

fn bytes_of(batches: &[Batch]) -> Vec<u8> {
    batches.iter().flat_map(|batch| batch.to_bytes().to_vec()).collect()
}

/// Reads as a leader does: some whole batches at a time, in one part or in two.
fn read(log: &[Batch], from: Offset, end: Offset, look: u64, split: bool) -> Vec<Bytes> {
    let (mut parts, mut bytes) = (Vec::new(), 0);
    for batch in log.iter().filter(|it| it.last_offset() >= from && it.next_offset() <= end) {
        if bytes > 0 && bytes + batch.size() as u64 > look {
            break;
        }
        bytes += batch.size() as u64;
        if split {
            parts.push(Bytes::copy_from_slice(batch.header()));
            parts.push(batch.rest().clone());
        } else {
            parts.push(batch.to_bytes());
        }
    }
    parts
}

fn fetch(
    view: &ClientView,
    log: &[Batch],
    (asked, end): (Offset, Offset),
    (max_bytes, at_least_one): (u64, bool),
    (look, split): (u64, bool),
) -> Vec<u8> {
    let mut from = asked;
    loop {
        from = view.skip(from);
        if from >= view.shown(end, log[0].base_offset()) {
            return Vec::new();
        }
        let parts = read(log, from, end, look, split);
        assert!(!parts.is_empty(), "there is a served batch below the end that is shown");
        match serve(parts, asked, max_bytes, at_least_one) {
            Served::Nothing(next) => from = next,
            Served::Batches(parts) => return parts.concat(),
        }
    }
}

proptest! {
    #[test]
    fn the_shown_end_is_that_of_the_last_served_batch_and_never_falls(
        log in log(), kept in 0..4_usize, settled in 0..40_usize, start in 0..40_usize,
    ) {
        let mut view = viewed(&log, kept);
        let places = places(&log);
        let settled = places[settled.min(places.len() - 1)];
        let mut start = places[start.min(places.len() - 1)].min(settled);
        for _ in 0..2 {
            let mut before = Offset::ZERO;
            for &end in places.iter().filter(|end| **end >= settled) {
                let below = log.iter().filter(|batch| batch.next_offset() <= end);
                let naive = below.filter_map(served).map(|(last, _)| last.plus(1)).max();
                let shown = view.shown(end, start);
                prop_assert_eq!(shown, naive.unwrap_or(Offset::ZERO).max(start), "{}", end);
                prop_assert!(shown >= before && shown <= end);
                before = shown;
            }
            view.settle(settled, start);
            start = start.max(log[0].base_offset());
        }
    }

    #[test]
    fn a_fetch_is_given_what_a_naive_filter_of_the_log_is(
        log in log(), kept in 0..4_usize, from in 0..100_i64, end in 0..40_usize,
        bounds in (0..400_u64, any::<bool>()), look in (0..300_u64, any::<bool>()), settle in any::<bool>(),
    ) {
        let mut view = viewed(&log, kept);
        let places = places(&log);
        let end = places[end.min(places.len() - 1)];
        let start = places[0];
        let from = Offset(start.0 + from).min(*places.last().expect("one"));
        if settle {
            view.settle(end, start);
        }
        let mut naive = Vec::new();
        let mut bytes = 0;
        for batch in log.iter().filter(|batch| batch.next_offset() <= end) {
            let Some((_, shorter)) = served(batch).filter(|(last, _)| *last >= from) else { continue };
            let size = shorter.size() as u64;
            if bytes + size > bounds.0 && !(bounds.1 && bytes == 0) {
                break;
            }
            bytes += size;
            naive.push(shorter);
        }
        prop_assert!(naive.iter().all(Batch::crc_is_valid));
        let (given, naive) = (fetch(&view, &log, (from, end), bounds, look), bytes_of(&naive));
        prop_assert!(naive.starts_with(&given) && given.is_empty() == naive.is_empty());
        prop_assert_eq!(fetch(&view, &log, (from, end), bounds, (u64::MAX, look.1)), naive);
    }

    #[test]
    fn what_is_hidden_is_known_to_the_byte_where_no_run_is_forgotten(
        log in log(), from in 0..100_i64, end in 0..40_usize,
    ) {
        let view = viewed(&log, RUNS_KEPT);
        let places = places(&log);
        let end = places[end.min(places.len() - 1)];
        let asked = Offset(places[0].0 + from);
        if asked >= view.shown(end, places[0]) {
            return Ok(());
        }
        let from = view.skip(asked);
        let is_served = |offset: Offset| {
            let holds = |batch: &&Batch| batch.base_offset() <= offset && offset <= batch.last_offset();
            log.iter().find(holds).and_then(served).is_some_and(|(last, _)| offset <= last)
        };
        prop_assert!(is_served(from) && !(asked.0..from.0).any(|it| is_served(Offset(it))));
        let (counted, hidden) = view.measure(from, end);
        let all = log.iter().filter(|it| it.last_offset() >= from && it.next_offset() <= counted);
        let all: usize = all.map(Batch::size).sum();
        let shown = log.iter().filter(|it| it.next_offset() <= end);
        let shown = shown.filter(|it| served(it).is_some_and(|(last, _)| last >= from));
        let shown: usize = shown.map(Batch::size).sum();
        prop_assert_eq!(all as u64 - hidden, shown as u64);
    }

    #[test]
    fn what_is_appended_while_the_log_is_read_is_noted_at_its_turn(
        log in log(), early in prop::collection::vec(0..40_usize, 0..6),
    ) {
        let mut view = ClientView::new(log[0].base_offset());
        for (at, batch) in log.iter().enumerate() {
            view.note(batch);
            for other in early.iter().filter_map(|it| log.get(*it)) {
                let end = view.end();
                view.note(other);
                prop_assert!(view.end() == end || other.base_offset() == end, "{}", at);
            }
        }
        prop_assert_eq!(&view.runs, &viewed(&log, RUNS_KEPT).runs);
        prop_assert!(view.covers(log.last().expect("one").next_offset()));
    }
}

#[test]
fn a_log_whose_start_lies_within_a_batch_is_seen_from_there() {
    let mut batch = keeping(&data(6, None, false), &[true, true, true, false, false, false]);
    batch.assign(Offset(10), LeaderEpoch(0));
    let mut view = ClientView::new(Offset(14));
    view.note(&batch);
    assert_eq!(view.shown(Offset(16), Offset(14)), Offset(14));
    assert_eq!(view.skip(Offset(14)), Offset(16));
}

#[test]
fn a_whole_batch_is_given_as_it_is_without_a_look_at_its_records() {
    let mut batch = data(3, None, false);
    batch.assign(Offset(4), LeaderEpoch(0));
    // Nobody could read this as records.
    let mut torn = batch.to_bytes().to_vec();
    torn[61..].fill(0xff);
    let torn = Bytes::from(torn);
    let Served::Batches(parts) = serve(vec![torn.clone()], Offset(4), 1 << 20, true) else {
        panic!("it is served");
    };
    assert_eq!(parts, std::slice::from_ref(&torn));
    assert_eq!(parts[0].as_ptr(), torn.as_ptr(), "it is the same memory");
}

#[test]
fn of_very_many_runs_short_old_ones_are_forgotten_and_long_ones_stay() {
    let mut view = ClientView::forgetful(Offset::ZERO, 8);
    let mut next = 0;
    for round in 0..100 {
        let records = if round == 50 { LONG as usize } else { 1 };
        for mut batch in
            [keeping(&data(records, None, false), &vec![false; records]), data(1, None, false)]
        {
            batch.assign(Offset(next), LeaderEpoch(0));
            next = batch.next_offset().0;
            view.note(&batch);
        }
        view.settle(Offset(next), Offset::ZERO);
        assert!(view.runs.len() <= 17 + usize::from(round >= 50), "{}", view.runs.len());
    }
    let long = view.runs.iter().find(|run| run.to.0 - run.from.0 >= LONG).expect("it is kept");
    assert_eq!(view.skip(long.from.plus(1)), long.to);
    assert_eq!(view.shown(Offset(next), Offset::ZERO), Offset(next));
}

#[test]
fn a_batch_that_cannot_be_walked_is_served_as_far_as_its_header_says() {
    let mut damaged = keeping(&data(4, None, false), &[true, true, false, false]);
    damaged.assign(Offset(0), LeaderEpoch(3));
    let mut bytes = damaged.to_bytes().to_vec();
    let last = bytes.len() - 8;
    bytes[last..].fill(0xff);
    let damaged = Batch::split_from(&mut bytes.into()).expect("framed");
    let view = viewed(std::slice::from_ref(&damaged), 8);
    assert_eq!(view.shown(Offset(4), Offset(0)), Offset(4));
    let whole = serve(vec![damaged.to_bytes()], Offset(0), 1 << 20, true);
    assert_eq!(whole, Served::Batches(vec![damaged.to_bytes()]));
}
