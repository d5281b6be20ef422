//! Recorded answers: one text file for each file of scripts.
//!
//! ```text
//! == a batch is stored under the next offset
//! A Produce 9 {...}
//! = mainspring
//! A Produce 9 {...}
//! ```
//! The first lines are Kafka's. The second part is there only for scripts that differ on purpose, so
//! that the difference itself cannot change unseen.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::checks::Outcome;

/// What one script brought.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Answers {
    /// Kafka's lines.
    pub(super) kafka: Vec<String>,
    /// Mainspring's lines where they differ on purpose.
    pub(super) mainspring: Option<Vec<String>>,
}

/// The answers of all scripts, by file and name.
pub(super) type Recorded = BTreeMap<(String, String), Answers>;

/// Reads the answers of the scripts in `files`.
pub(super) fn read<'a>(folder: &Path, files: impl Iterator<Item = &'a str>) -> Outcome<Recorded> {
    let mut recorded = Recorded::new();
    for file in files {
        let path = folder.join(file).with_extension("answers");
        match std::fs::read_to_string(&path) {
            Ok(text) => parse(file, &text, &mut recorded),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    Ok(recorded)
}

fn parse(file: &str, text: &str, recorded: &mut Recorded) {
    let mut name = String::new();
    for line in text.lines() {
        if let Some(next) = line.strip_prefix("== ") {
            next.clone_into(&mut name);
            recorded.insert((file.to_owned(), name.clone()), Answers::default());
        } else if let Some(answers) = recorded.get_mut(&(file.to_owned(), name.clone())) {
            match &mut answers.mainspring {
                None if line == "= mainspring" => answers.mainspring = Some(Vec::new()),
                None => answers.kafka.push(line.to_owned()),
                Some(lines) => lines.push(line.to_owned()),
            }
        }
    }
}

/// Writes the answers of one file's scripts, in the order of `names`.
pub(super) fn write(folder: &Path, file: &str, names: &[&str], recorded: &Recorded) -> Outcome {
    let path = folder.join(file).with_extension("answers");
    let text = text(file, names, recorded);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn text(file: &str, names: &[&str], recorded: &Recorded) -> String {
    let mut text = String::new();
    for name in names {
        let Some(answers) = recorded.get(&(file.to_owned(), (*name).to_owned())) else { continue };
        let _ = writeln!(text, "== {name}");
        for line in &answers.kafka {
            let _ = writeln!(text, "{line}");
        }
        if let Some(lines) = &answers.mainspring {
            text += "= mainspring\n";
            for line in lines {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let lines = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut recorded = Recorded::new();
        let first = Answers { kafka: lines(&["A closed"]), mainspring: None };
        let second = Answers { kafka: lines(&["A x", "B y"]), mainspring: Some(lines(&["A z"])) };
        recorded.insert(("f".into(), "one".into()), first);
        recorded.insert(("f".into(), "two".into()), second);
        let text = text("f", &["two", "one"], &recorded);
        assert!(text.starts_with("== two\nA x\nB y\n= mainspring\nA z\n== one\n"), "{text}");
        let mut again = Recorded::new();
        parse("f", &text, &mut again);
        assert_eq!(again, recorded);
    }
}
