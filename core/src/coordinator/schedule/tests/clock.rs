//! Clocks that leap, stand and fall back.

use super::*;

/// The wall clock alone moves.
fn step(bench: &mut Bench, ms: i64) {
    bench.now.wall = bench.now.wall.plus(ms);
}

/// The schedule looks at the clocks, as it does at each turn of its owner.
fn look(bench: &mut Bench) -> Option<Instant> {
    let now = bench.now;
    bench.schedule.next_deadline(now)
}

#[test]
fn a_clock_that_leaps_ahead_delivers_nothing_until_it_has_held() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 3_600_000), delayed("b", 5_000)]).expect("it is taken");
    step(&mut bench, 7_200_000);
    assert!(bench.fire().is_empty());
    let deadline = look(&mut bench).expect("there is a doubt to settle");
    assert!(deadline <= bench.now.mono + Duration::from_secs(10));
    bench.pass(5_000);
    assert_eq!(bench.fired_values(), ["b"], "the monotonic clock goes on");
    bench.pass(4_999);
    assert!(bench.fire().is_empty());
    bench.pass(1);
    assert_eq!(bench.fired_values(), ["a"]);
}

#[test]
fn a_leap_that_is_taken_back_was_none() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 3_600_000)]).expect("it is taken");
    step(&mut bench, 7_200_000);
    assert!(bench.fire().is_empty());
    bench.pass(9_000);
    step(&mut bench, -7_200_000);
    assert!(bench.fire().is_empty());
    bench.pass(2_000);
    step(&mut bench, 7_200_000);
    assert!(bench.fire().is_empty(), "a new leap holds anew");
    bench.pass(9_999);
    assert!(bench.fire().is_empty());
}

#[test]
fn a_clock_that_leaps_on_is_doubted_anew() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 3_600_000)]).expect("it is taken");
    step(&mut bench, 7_200_000);
    look(&mut bench);
    bench.pass(9_000);
    step(&mut bench, 7_200_000);
    look(&mut bench);
    bench.pass(9_999);
    assert!(bench.fire().is_empty());
    bench.pass(1);
    assert_eq!(bench.fired_values(), ["a"]);
}

#[test]
fn a_small_step_is_believed_at_once() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 60_000)]).expect("it is taken");
    step(&mut bench, 60_000);
    assert_eq!(bench.fired_values(), ["a"]);
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 60_000)]).expect("it is taken");
    step(&mut bench, 60_001);
    assert!(bench.fire().is_empty());
}

#[test]
fn a_long_silence_is_no_leap() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 86_400_000)]).expect("it is taken");
    bench.pass(86_400_000);
    assert_eq!(bench.fired_values(), ["a"]);
}

#[test]
fn a_clock_that_falls_back_delays_and_delivers_nothing_twice() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 1_000), delayed("b", 2_000)]).expect("it is taken");
    bench.produce(&[cron("c", "@grid 1000")]).expect("it is taken");
    bench.pass(1_000);
    assert_eq!(bench.fired_values(), ["a", "c"]);
    step(&mut bench, -3_600_000);
    bench.restart();
    assert!(bench.fire().is_empty());
    bench.pass(3_600_000);
    assert!(bench.fire().is_empty());
    bench.pass(1_000);
    assert_eq!(bench.fired_values(), ["b", "c"]);
}

#[test]
fn a_delay_counts_from_the_clock_that_is_believed() {
    let mut bench = Bench::new();
    step(&mut bench, 7_200_000);
    bench.produce(&[delayed("a", 5_000)]).expect("it is taken");
    step(&mut bench, -7_200_000);
    bench.pass(4_999);
    assert!(bench.fire().is_empty());
    bench.pass(1);
    assert_eq!(bench.fired_values(), ["a"]);
}
