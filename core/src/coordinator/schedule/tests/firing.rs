//! Order, size and timing of deliveries, and the records they need.

use super::*;

fn deadline(bench: &mut Bench) -> Option<i64> {
    let now = bench.now;
    let at = bench.schedule.next_deadline(now)?;
    Some(at.since(now.mono).as_millis() as i64)
}

#[test]
fn what_is_due_comes_by_due_time_and_then_as_it_was_accepted() {
    let mut bench = Bench::new();
    let due = [30, 10, 20, 10, 30, 10];
    for (index, due) in due.into_iter().enumerate() {
        bench.produce(&[delayed(&index.to_string(), due)]).expect("it is taken");
    }
    bench.pass(30);
    assert_eq!(bench.fired_values(), ["1", "3", "5", "2", "0", "4"]);
}

#[test]
fn a_burst_comes_in_batches_of_bounded_number_and_size() {
    let mut bench = Bench::with(|settings| {
        settings.fire_max_records = 4;
        settings.fire_max_bytes = 1_000;
    });
    for _ in 0..10 {
        bench.produce(&[delayed("a", 5)]).expect("it is taken");
    }
    bench.produce(&[delayed(&"b".repeat(400), 6), delayed(&"b".repeat(400), 6)]).expect("taken");
    bench.produce(&[delayed(&"c".repeat(5_000), 6), delayed("d", 6)]).expect("it is taken");
    bench.pass(6);
    let mut counts = Vec::new();
    bench.read();
    while let Some((note, batch)) = bench.schedule.fire(bench.now) {
        assert_eq!(note.changes.len(), batch.records_count() as usize);
        assert!(batch.size() <= 1_000 || batch.records_count() == 1, "{batch:?}");
        counts.push(batch.records_count());
        bench.append(note.build());
        bench.append(batch);
        bench.read();
    }
    assert_eq!(counts, [4, 4, 3, 1, 1, 1]);
}

#[test]
fn a_batch_of_deliveries_is_nobodys_and_no_transaction() {
    let mut bench = Bench::new();
    bench.produce_by(Some(7), &[delayed("a", 0)]).expect("it is taken");
    bench.marker(7, true);
    bench.fire();
    let batch = bench.log.last().expect("a batch");
    assert_eq!(batch.producer_id(), ProducerId::NONE);
    assert!(!batch.is_transactional() && !batch.is_control() && batch.crc_is_valid());
}

#[test]
fn a_delivery_that_was_not_appended_has_not_happened() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 5)]).expect("it is taken");
    bench.pass(5);
    assert!(bench.schedule.fire(bench.now).is_some());
    assert!(bench.schedule.fire(bench.now).is_some());
    assert_eq!(bench.fired_values(), ["a"]);
}

#[test]
fn records_are_read_shortly_before_they_are_due_and_those_that_come_soon_are_held() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("soon", 2_000)]).expect("it is taken");
    bench.produce(&[delayed("late", 2_001)]).expect("it is taken");
    assert!(bench.schedule.wanted(bench.now).is_empty(), "one is at hand, one is far");
    assert!(bench.schedule.state.queue.bytes() > 0);
    bench.pass(1);
    assert_eq!(bench.schedule.wanted(bench.now), [Offset(2)]);
    bench.pass(1_999);
    assert_eq!(bench.fired_values(), ["soon"]);
    bench.pass(1);
    assert_eq!(bench.fired_values(), ["late"]);
    assert_eq!(bench.schedule.state.queue.bytes(), 0);
}

#[test]
fn nothing_passes_one_whose_record_is_not_at_hand() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("late", 10_000)]).expect("it is taken");
    bench.pass(9_000);
    bench.produce(&[delayed("soon", 1_500)]).expect("it is taken");
    bench.pass(1_500);
    assert!(bench.schedule.fire(bench.now).is_none(), "that which is due first is not read");
    assert_eq!(bench.fired_values(), ["late", "soon"]);
}

#[test]
fn held_records_are_bounded_and_the_first_to_come_stay() {
    let mut bench = Bench::with(|settings| settings.prefetch_max_bytes = 1_000);
    for due in [1_500, 900, 1_200, 300, 600] {
        bench.produce(&[delayed(&"x".repeat(300), due)]).expect("it is taken");
        assert!(bench.schedule.state.queue.bytes() <= 1_000);
    }
    assert!(bench.schedule.wanted(bench.now).is_empty(), "there is no room for more");
    bench.pass(1_500);
    let fired = bench.fire();
    let due: Vec<&str> = fired.iter().map(|it| it.header("mainspring-scheduled-for")).collect();
    assert_eq!(due, [300, 600, 900, 1_200, 1_500].map(|due| (START + due).to_string()));

    let mut bench = Bench::with(|settings| settings.prefetch_max_bytes = 1);
    bench.produce(&[delayed("a", 10), delayed("b", 10)]).expect("it is taken");
    bench.pass(10);
    assert_eq!(bench.fired_values(), ["a", "b"], "one is always held");
}

#[test]
fn a_held_record_keeps_no_large_batch_in_memory() {
    let mut bench = Bench::new();
    let mut records = vec![delayed("small", 10)];
    records.resize_with(100, || delayed(&"x".repeat(1_000), 100_000));
    bench.produce(&records).expect("it is taken");
    let note = Note::read(&bench.log[0]).expect("a note");
    let whole = bench.log[0].rest().as_ptr_range();
    let (_, entry) = bench.schedule.state.queue.due(START + 10).next().expect("it is at hand");
    assert!(!whole.contains(&entry.value.as_ref().expect("a value").as_ptr()));
    assert_eq!(note.changes.len(), 100);
}

#[test]
fn the_next_deadline_is_that_of_the_first_to_come_or_to_be_read() {
    let mut bench = Bench::new();
    assert_eq!(deadline(&mut bench), None);
    bench.produce(&[delayed("far", 60_000)]).expect("it is taken");
    assert_eq!(deadline(&mut bench), Some(58_000));
    bench.produce(&[delayed("near", 500)]).expect("it is taken");
    assert_eq!(deadline(&mut bench), Some(500));
    bench.pass(600);
    assert_eq!(deadline(&mut bench), Some(0));
    bench.fire();
    assert_eq!(deadline(&mut bench), Some(57_400));
    bench.pass(57_400);
    assert_eq!(deadline(&mut bench), None, "it waits for what it wants");
    bench.read();
    assert_eq!(deadline(&mut bench), Some(2_000));
}

#[test]
fn a_hundred_thousand_at_once_come_in_batches_of_five_hundred() {
    let mut bench = Bench::new();
    let records: Vec<Rec> = (0..1_000).map(|_| delayed("a", 60_000)).collect();
    for _ in 0..100 {
        bench.produce(&records).expect("it is taken");
    }
    bench.pass(60_000);
    let (mut batches, mut last) = (0, (0, 0));
    loop {
        bench.read();
        let Some((note, batch)) = bench.schedule.fire(bench.now) else { break };
        bench.append(note.build());
        let base = bench.append(batch);
        batches += 1;
        for record in delivered(bench.log.last().expect("it was appended"), base) {
            let ticket = record.header("mainspring-ticket").parse().expect("a number");
            assert!(last < (0, ticket));
            last = (0, ticket);
        }
    }
    assert_eq!(batches, 200);
    assert_eq!(bench.schedule.stats().pending, 0);
}

#[test]
fn of_records_that_have_no_room_together_those_that_come_first_are_held() {
    let mut bench = Bench::with(|settings| settings.prefetch_max_bytes = 300);
    let of = |bytes: usize, due: i64| delayed(&"x".repeat(bytes - 65), due);
    for due in [10, 20, 30] {
        bench.produce(&[of(74, due)]).expect("it is taken");
    }
    bench.produce(&[of(90, 40), of(66, 60)]).expect("it is taken");
    bench.produce(&[of(66, 50)]).expect("it is taken");
    bench.read();
    bench.pass(60);
    let fired = bench.fire();
    let due: Vec<&str> = fired.iter().map(|it| it.header("mainspring-scheduled-for")).collect();
    assert_eq!(due, [10, 20, 30, 40, 50, 60].map(|due| (START + due).to_string()));
}
