//! The text form of scripts.
//!
//! ```text
//! == a batch is stored under the next offset
//! topic ~a partitions=2
//! A Produce 9 {"acks": -1, "topicData": [{"name": "~a", "partitionData": [
//!   {"index": 0, "records": {"$batch": {"values": ["x"]}}}]}]}
//! ```
//! A line that begins with a blank continues the line before, `#` begins a comment. Each script is
//! headed by its name; the statements are listed in `tools/harness/conformance/README.md`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use mainspring_core::wire::ApiKey;
use serde_json::Value;

use crate::checks::Outcome;

/// One script: what is sent, in order.
#[derive(Debug)]
pub(super) struct Script {
    /// The file it stands in, without its ending.
    pub(super) file: String,
    /// Its claim.
    pub(super) name: String,
    /// Text of `docs/compatibility.md` that explains why the answers differ.
    pub(super) differs: Option<String>,
    /// Its statements.
    pub(super) steps: Vec<Step>,
}

/// A statement.
#[derive(Debug)]
pub(super) enum Step {
    /// Makes a topic and waits until it can be used.
    Topic { name: String, partitions: i32, configs: Vec<(String, String)> },
    /// Stores a batch, which must succeed.
    Fill { topic: String, partition: i32, batch: Value },
    /// Lets time pass.
    Wait(Duration),
    /// Something on a connection.
    On(char, Act),
}

/// What is done on a connection.
#[derive(Debug)]
pub(super) enum Act {
    /// Sends a request and takes its answer.
    Call(Call),
    /// Sends a request.
    Send(Call),
    /// Sends the first half of a request's frame.
    Half(Call),
    /// Sends what is left of a half frame.
    Rest,
    /// Sends bytes that stand for themselves.
    Bytes(Vec<u8>),
    /// Takes the next answer.
    Receive,
    /// Repeats a request until a value of its answer is as wanted.
    Until { pointer: String, wanted: Value, call: Call, is_told: bool },
    /// Tells whether anything arrives within that time.
    Silent(Duration),
    /// Tells whether the broker closes the connection.
    Closed,
    /// Closes the connection.
    Drop,
    /// Keeps a value of the last answer under a name.
    Save { name: String, pointer: String },
}

/// A request.
#[derive(Debug)]
pub(super) struct Call {
    /// Kafka's name of the API.
    pub(super) api: String,
    /// Version of the request.
    pub(super) version: i16,
    /// Version in which the answer is read.
    pub(super) answer_version: i16,
    /// The body in Kafka's JSON form, before names are put in.
    pub(super) body: Value,
}

impl Call {
    /// Returns the API, where this build knows it.
    pub(super) fn key(&self) -> Option<ApiKey> {
        ApiKey::ALL.iter().copied().find(|key| key.name() == self.api)
    }
}

impl Script {
    /// Returns what stands before the names of everything that the script makes.
    pub(super) fn prefix(&self) -> String {
        let mut prefix = format!("{}-", self.file);
        for character in self.name.chars() {
            if character.is_ascii_alphanumeric() {
                prefix.push(character.to_ascii_lowercase());
            } else if !prefix.ends_with('-') {
                prefix.push('-');
            }
        }
        prefix.truncate(150);
        prefix.trim_end_matches('-').to_owned() + "-"
    }

    /// Returns the first API that it uses and that is not among `served`.
    pub(super) fn unserved(&self, served: &BTreeSet<ApiKey>) -> Option<&str> {
        self.steps.iter().filter_map(Step::call).find_map(|call| {
            let known = call.key().is_some_and(|key| served.contains(&key));
            (!known).then_some(call.api.as_str())
        })
    }
}

impl Step {
    fn call(&self) -> Option<&Call> {
        match self {
            Self::On(
                _,
                Act::Call(call) | Act::Send(call) | Act::Half(call) | Act::Until { call, .. },
            ) => Some(call),
            Self::Topic { .. } | Self::Fill { .. } | Self::Wait(_) | Self::On(..) => None,
        }
    }
}

/// Reads all scripts of a folder, by file and in their order.
pub(super) fn read_all(folder: &Path) -> Outcome<Vec<Script>> {
    let entries = std::fs::read_dir(folder);
    let entries = entries.map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "script"));
    paths.sort();
    let mut scripts = Vec::new();
    for path in paths {
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        scripts.extend(parse(&file, &text)?);
    }
    let mut prefixes = BTreeSet::new();
    for script in &scripts {
        if !prefixes.insert(script.prefix()) {
            return Err(format!("{}: two scripts are called {:?}", script.file, script.name));
        }
    }
    Ok(scripts)
}

/// Reads the scripts of one file.
pub(super) fn parse(file: &str, text: &str) -> Outcome<Vec<Script>> {
    let mut scripts: Vec<Script> = Vec::new();
    for (number, statement) in statements(text) {
        let wrong = |problem: String| format!("{file}.script:{number}: {problem}");
        if let Some(name) = statement.strip_prefix("== ") {
            let (file, name) = (file.to_owned(), name.trim().to_owned());
            scripts.push(Script { file, name, differs: None, steps: Vec::new() });
            continue;
        }
        let script = scripts.last_mut();
        let script = script.ok_or_else(|| wrong("a statement before the first name".into()))?;
        match statement.strip_prefix("differs ") {
            Some(reason) => script.differs = Some(reason.trim().to_owned()),
            None => script.steps.push(step(&statement).map_err(wrong)?),
        }
    }
    Ok(scripts)
}

/// Joins continued lines; each statement comes with the number of its first line.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        match found.last_mut() {
            Some((_, statement)) if line.starts_with(' ') => {
                statement.push(' ');
                statement.push_str(line.trim());
            }
            _ => found.push((index + 1, line.trim_end().to_owned())),
        }
    }
    found
}

/// Takes the first word off.
fn word(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    (first, rest.trim_start())
}

fn step(statement: &str) -> Outcome<Step> {
    let (first, rest) = word(statement);
    match first {
        "topic" => topic(rest),
        "fill" => {
            let (place, batch) = word(rest);
            let (topic, partition) = place.split_once('/').ok_or("fill TOPIC/PARTITION BATCH")?;
            let partition = number(partition)?;
            Ok(Step::Fill { topic: topic.to_owned(), partition, batch: json(batch)? })
        }
        "wait" => number(rest).map(|ms| Step::Wait(Duration::from_millis(ms))),
        _ => match *first.as_bytes() {
            [name] if name.is_ascii_uppercase() => {
                act(rest).map(|act| Step::On(char::from(name), act))
            }
            _ => Err(format!("there is no statement {first:?}")),
        },
    }
}

fn topic(rest: &str) -> Outcome<Step> {
    let (name, mut rest) = word(rest);
    let mut partitions = 1;
    let mut configs = Vec::new();
    while !rest.is_empty() {
        let (setting, more) = word(rest);
        let (key, value) = setting.split_once('=').ok_or("topic NAME KEY=VALUE...")?;
        match key {
            "partitions" => partitions = number(value)?,
            _ => configs.push((key.to_owned(), value.to_owned())),
        }
        rest = more;
    }
    Ok(Step::Topic { name: name.to_owned(), partitions, configs })
}

fn act(text: &str) -> Outcome<Act> {
    let (first, rest) = word(text);
    Ok(match first {
        "send" => Act::Send(call(rest)?),
        "half" => Act::Half(call(rest)?),
        "rest" => Act::Rest,
        "bytes" => Act::Bytes(hex(rest)?),
        "receive" => Act::Receive,
        "until" | "await" => {
            let (pointer, rest) = word(rest);
            let (wanted, rest) = word(rest);
            let (pointer, wanted) = (pointer.to_owned(), json(wanted)?);
            Act::Until { pointer, wanted, call: call(rest)?, is_told: first == "until" }
        }
        "silent" => Act::Silent(Duration::from_millis(number(rest)?)),
        "closed" => Act::Closed,
        "drop" => Act::Drop,
        "save" => {
            let (name, pointer) = word(rest);
            Act::Save { name: name.to_owned(), pointer: pointer.to_owned() }
        }
        _ => Act::Call(call(text)?),
    })
}

fn call(text: &str) -> Outcome<Call> {
    let (api, rest) = word(text);
    let (versions, body) = word(rest);
    let (version, answer) = versions.split_once('/').unwrap_or((versions, versions));
    Ok(Call {
        api: api.to_owned(),
        version: number(version)?,
        answer_version: number(answer)?,
        body: json(body)?,
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Outcome<T> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn json(text: &str) -> Outcome<Value> {
    serde_json::from_str(text).map_err(|error| format!("{text}: {error}"))
}

/// Reads bytes as pairs of hexadecimal digits; blanks are ignored.
pub(super) fn hex(text: &str) -> Outcome<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let wrong = || format!("{text:?} is no hexadecimal");
    digits
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2);
            pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continued_lines_and_comments_make_statements() {
        let text =
            "# why\n== a name\ntopic ~a partitions=3 x.y=z\nA Fetch 4 {\"maxWaitMs\":\n  5}\n";
        let scripts = parse("f", text).expect("valid");
        let [script] = &scripts[..] else { panic!("{scripts:?}") };
        assert_eq!(script.prefix(), "f-a-name-");
        let [Step::Topic { partitions: 3, configs, .. }, Step::On('A', Act::Call(call))] =
            &script.steps[..]
        else {
            panic!("{script:?}")
        };
        assert_eq!(configs[..], [("x.y".to_owned(), "z".to_owned())]);
        assert_eq!((call.version, call.answer_version), (4, 4));
        assert_eq!(call.body["maxWaitMs"], 5);
    }

    #[test]
    fn what_is_no_statement_is_named_with_its_line() {
        let error = parse("f", "== a\nfrobnicate\n").expect_err("no statement");
        assert!(error.starts_with("f.script:2: "), "{error}");
        assert!(parse("f", "wait 5\n").is_err(), "before the first name");
        assert!(parse("f", "== a\nA bytes 123\n").is_err(), "half a byte");
    }
}
