//! Moments as people write them: Unix milliseconds, or a date and time in UTC.

/// Reads Unix milliseconds, or `2026-11-22`, `2026-11-22T10:00`, `2026-11-22T10:00:30.5Z`.
pub(crate) fn parse_millis(text: &str) -> Option<i64> {
    if let Ok(millis) = text.parse::<i64>() {
        return (millis >= 0).then_some(millis);
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
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
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
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
        ] {
            assert_eq!(parse_millis(text), Some(millis), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in ["", "-1", "2023-02-29", "2023-13-01", "2023-1-1T24:00", "1969-12-31", "now"] {
            assert_eq!(parse_millis(text), None, "{text}");
        }
    }
}
