//! Moments and lengths of time as people write them: Unix milliseconds, or a date and time in UTC or with its
//! distance from it; `1h30m`.

/// Reads Unix milliseconds, or `2026-11-22`, `2026-11-22T10:00`, `2026-11-22T10:00:30.5Z`,
/// `2026-11-22T11:00:30+01:00` (RFC 3339).
pub(crate) fn parse_millis(text: &str) -> Option<i64> {
    if let Ok(millis) = text.parse::<i64>() {
        return (millis >= 0).then_some(millis);
    }
    let whole_text = text;
    let text = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00"));
    let (time, distance) = match time.find(['+', '-']) {
        Some(_) if text.len() < whole_text.len() => return None,
        Some(at) => (&time[..at], distance_of(&time[at..])?),
        None => (time, 0),
    };
    let [year, month, day] = numbers(date, '-')?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] =
        numbers(whole, ':').or_else(|| numbers(whole, ':').map(|[h, m]| [h, m, 0]))?;
    if !(1..=12).contains(&month)
        || !(1..=days_of(year, month)).contains(&day)
        || !(1970..=9999).contains(&year)
        || hour > 23
        || minute > 59
        || second > 59
        || fraction.is_empty()
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let years_before: i64 = (1970..year).map(|year| 337 + days_of(year, 2)).sum();
    let days = years_before + (1..month).map(|month| days_of(year, month)).sum::<i64>() + day - 1;
    let minutes = (days * 24 + hour) * 60 + minute - distance;
    Some((minutes * 60 + second) * 1000 + millis).filter(|moment| *moment >= 0)
}

/// Writes Unix milliseconds as [`parse_millis`] reads them: `2026-11-22T10:00:30.500Z`.
pub(crate) fn format_millis(millis: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let (days, in_day) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS));
    // Years from March on, of which 400 always have the same number of days.
    let from_march = days + 719_468;
    let (era, in_era) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, fraction) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z")
}

/// Reads how many minutes a clock is ahead of UTC.
fn distance_of(text: &str) -> Option<i64> {
    let [hours, minutes] = numbers(&text[1..], ':')?;
    let distance = hours * 60 + minutes;
    let is_sound = hours < 24 && minutes < 60;
    is_sound.then_some(if text.starts_with('-') { -distance } else { distance })
}

/// Reads a length of time such as `5m`, `1h30m`, `2d` or `250ms`: whole numbers, each with its unit, the largest one
/// first. Returns milliseconds.
pub(crate) fn parse_duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut left = text;
    let mut units = UNITS.iter();
    let mut total = 0_i64;
    while !left.is_empty() {
        let number_end = left.find(|character: char| !character.is_ascii_digit())?;
        let (number, behind) = left.split_at(number_end);
        let unit_end =
            behind.find(|character: char| character.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, rest) = behind.split_at(unit_end);
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        let part = number.parse::<i64>().ok()?.checked_mul(*millis)?;
        total = total.checked_add(part)?;
        left = rest;
    }
    (!text.is_empty()).then_some(total)
}

fn numbers<const N: usize>(text: &str, between: char) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(between);
    for number in &mut numbers {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_moments_in_utc() {
        for (text, millis) in [
            ("0", 0),
            ("1970-01-01", 0),
            ("1970-01-01T00:00:01.5Z", 1500),
            ("2000-02-29T12:00", 951_825_600_000),
            ("2023-11-14 22:13:20", 1_700_000_000_000),
            ("2026-11-22T10:00", 1_795_341_600_000),
            ("2026-11-22T11:00:00+01:00", 1_795_341_600_000),
            ("2026-11-22t04:30:00.000-05:30", 1_795_341_600_000),
            ("2026-11-22 10:00:00z", 1_795_341_600_000),
        ] {
            assert_eq!(parse_millis(text), Some(millis), "{text}");
        }
    }

    #[test]
    fn moments_are_written_as_they_are_read() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1500, "1970-01-01T00:00:01.500Z"),
            (951_825_600_000, "2000-02-29T12:00:00.000Z"),
            (1_795_341_600_001, "2026-11-22T10:00:00.001Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_millis(millis), text);
            assert_eq!(parse_millis(text), Some(millis));
        }
        for day in 0..200_000 {
            let noon = day * 86_400_000 + 43_200_000;
            assert_eq!(parse_millis(&format_millis(noon)), Some(noon));
        }
        assert!(!format_millis(i64::MAX).is_empty());
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "-1",
            "2023-02-29",
            "2023-13-01",
            "2023-1-1T24:00",
            "1969-12-31",
            "now",
            "2026-11-22T10:00+01:00Z",
            "2026-11-22T10:00+24:00",
            "2026-11-22T10:00+0100",
            "2026-11-22T10:00+1:60",
            "2026-11-22T10:00+",
            "2026-11-22T10:00-\u{e4}:00",
            "1970-01-01T00:00+01:00",
        ] {
            assert_eq!(parse_millis(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_numbers_with_units_in_their_order() {
        for (text, millis) in [
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
            ("90m", 5_400_000),
        ] {
            assert_eq!(parse_duration_ms(text), Some(millis), "{text}");
        }
        for text in [
            "",
            "5",
            "m",
            "5 m",
            "1.5h",
            "-5m",
            "30m1h",
            "1h1h",
            "5w",
            "1h30",
            "5M",
            "999999999999999d",
            "5\u{e4}",
        ] {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
    }
}
