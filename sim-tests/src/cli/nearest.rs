//! What somebody may have meant.

/// Returns ` (did you mean "...")` for the known word that is near to what was said, or nothing.
pub(super) fn nearest<'a>(said: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|word| (distance(said, word), word))
        .min()
        .filter(|(changes, word)| *changes <= 1 + word.len() / 4)
        .map_or_else(String::new, |(_, word)| format!(" (did you mean {word:?}?)"))
}

/// Returns how many letters must be changed, put in or taken out.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().take(100).enumerate() {
        let mut corner = row[0];
        row[0] = at + 1;
        for (column, wanted) in other.iter().enumerate() {
            let changed = corner + usize::from(letter != *wanted);
            corner = row[column + 1];
            row[column + 1] = changed.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = || ["crash-points", "disk-full", "log"].into_iter();
        assert_eq!(nearest("crash-point", known()), " (did you mean \"crash-points\"?)");
        assert_eq!(nearest("diskfull", known()), " (did you mean \"disk-full\"?)");
        assert_eq!(nearest("lgo", known()), "");
        assert_eq!(nearest("nowhere", known()), "");
    }
}
