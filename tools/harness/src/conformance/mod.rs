//! The same scripts against Apache Kafka and against Mainspring, and their answers side by side.
//!
//! Kafka's answers are recorded in `tools/harness/conformance`, so that the comparison needs no
//! Java. A script agrees, or it names the place in `docs/compatibility.md` that explains why it does
//! not, and then Mainspring's own answer is recorded as well.

mod answers;
mod batches;
mod kafka;
mod normalise;
mod play;
mod script;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mainspring_core::wire::ApiKey;
use mainspring_core::wire::api::api_versions::ApiVersionsRequest;
use mainspring_core::wire::api::describe_groups::DescribeGroupsRequest;
use mainspring_core::wire::api::find_coordinator::FindCoordinatorRequest;

use crate::broker::{Folder, Serve, root};
use crate::checks::{Checks, Outcome, ensure};
use crate::client::Client;
use answers::{Answers, Recorded};
use kafka::Kafka;
use normalise::comparable;
use script::Script;

/// Settings that both brokers get: scripts write timestamps of 1970, which must not expire.
const SETTINGS: [&str; 2] = ["log.retention.ms=-1", "num.partitions=1"];

/// Settings of groups, which are to be quick.
const GROUP_SETTINGS: [&str; 3] = [
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=100",
    "offsets.topic.num.partitions=1",
];

/// Longest time until the coordinator of groups serves.
const COORDINATOR_LIMIT: Duration = Duration::from_secs(20);

/// Scripts that are played at the same time.
const PLAYERS: usize = 4;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Mainspring against the recorded answers.
    Compare,
    /// Renews Kafka's answers, and Mainspring's where they differ on purpose.
    Record,
    /// Renews Mainspring's answers where they differ on purpose.
    Accept,
    /// Kafka against its own recorded answers.
    Kafka,
}

/// Plays the scripts whose file or name contains `only`.
pub(crate) fn run(checks: &mut Checks, mode: Mode, only: &str) -> Outcome {
    let folder = root().join("tools/harness/conformance");
    let scripts = script::read_all(&folder)?;
    let files: BTreeSet<&str> = scripts.iter().map(|script| script.file.as_str()).collect();
    let mut recorded = answers::read(&folder, files.iter().copied())?;
    let wanted: Vec<&Script> = scripts
        .iter()
        .filter(|script| script.file.contains(only) || script.name.contains(only))
        .collect();
    ensure(!wanted.is_empty(), || format!("no script is called {only:?}"))?;
    let page = explanations()?;

    if mode == Mode::Record || mode == Mode::Kafka {
        let libs = std::env::var_os("HARNESS_KAFKA_LIBS").map(PathBuf::from);
        let libs = libs.ok_or("HARNESS_KAFKA_LIBS must name the folder with Kafka's jars")?;
        let kafka = Kafka::start(&libs)?;
        let played = play_all(&wanted, &kafka.address, &ApiKey::ALL.iter().copied().collect());
        drop(kafka);
        for (script, played) in wanted.iter().zip(played) {
            let Some(lines) = played else { continue };
            let key = (script.file.clone(), script.name.clone());
            if mode == Mode::Kafka {
                let known = recorded.get(&key).map(|answers| answers.kafka.clone());
                let same = lines.and_then(|lines| same(&known.unwrap_or_default(), &lines));
                checks.note(
                    &format!("{}: {}", script.file, script.name),
                    same.map(|()| String::new()),
                );
            } else {
                match lines {
                    Ok(lines) => recorded.entry(key).or_default().kafka = lines,
                    Err(problem) => checks.note(&script.name, Err(format!("Kafka: {problem}"))),
                }
            }
        }
        if mode == Mode::Kafka {
            return Ok(());
        }
    }

    let directory = Folder::new();
    let broker = Serve::within(directory.path()).set(&SETTINGS).set(&GROUP_SETTINGS).start()?;
    let served = served(&broker.address)?;
    if served.contains(&ApiKey::FindCoordinator) {
        until_coordinated(&broker.address)?;
    }
    let start = Instant::now();
    let played = play_all(&wanted, &broker.address, &served);
    let took = start.elapsed();
    drop(broker);
    let mut count = Count::default();
    for (script, played) in wanted.iter().zip(played) {
        let name = format!("{}: {}", script.file, script.name);
        let Some(played) = played else {
            let missing = script.unserved(&served).unwrap_or_default();
            count.skipped += 1;
            checks.skip(&name, &format!("{missing} is not served"));
            continue;
        };
        let answers = recorded.entry((script.file.clone(), script.name.clone())).or_default();
        if mode != Mode::Compare
            && let Ok(lines) = &played
        {
            answers.mainspring = script.differs.is_some().then(|| lines.clone());
        }
        let outcome = played.and_then(|lines| judge(script, answers, &lines, &page));
        match &outcome {
            Ok(reason) if reason.is_empty() => count.agree += 1,
            Ok(_) => count.on_purpose += 1,
            Err(_) => count.differ += 1,
        }
        checks.note(&name, outcome);
    }
    if mode != Mode::Compare {
        write_all(&folder, &scripts, &recorded)?;
    }
    println!(
        "conformance with Apache Kafka 4.3.1: {} agree, {} differ on purpose, {} differ, \
         {} not served; {:.1} s",
        count.agree,
        count.on_purpose,
        count.differ,
        count.skipped,
        took.as_secs_f64()
    );
    Ok(())
}

#[derive(Default)]
struct Count {
    agree: usize,
    on_purpose: usize,
    differ: usize,
    skipped: usize,
}

/// Compares what Mainspring answered with what is recorded; returns the reason of a difference.
fn judge(script: &Script, answers: &Answers, lines: &[String], page: &str) -> Outcome<String> {
    if let Some(reason) = &script.differs {
        ensure(page.contains(reason.as_str()), || {
            format!("docs/compatibility.md does not hold {reason:?}")
        })?;
    }
    ensure(!answers.kafka.is_empty(), || "no answer of Kafka is recorded".to_owned())?;
    let agreed = same(&answers.kafka, lines);
    match (&script.differs, &answers.mainspring) {
        (None, _) => agreed.map(|()| String::new()),
        (Some(reason), _) if agreed.is_ok() => {
            Err(format!("it agrees, and the script says that it differs: {reason}"))
        }
        (Some(reason), Some(known)) => same(known, lines)
            .map(|()| format!("differs on purpose: {reason}"))
            .map_err(|problem| format!("the difference has changed{problem}")),
        (Some(_), None) => Err("no answer of Mainspring is recorded".to_owned()),
    }
}

/// Compares lines and names the first that differ.
fn same(known: &[String], found: &[String]) -> Outcome {
    let line = |lines: &[String], at: usize| {
        lines.get(at).map_or_else(|| "(no more)".to_owned(), |line| comparable(line))
    };
    for at in 0..known.len().max(found.len()) {
        let (known, found) = (line(known, at), line(found, at));
        ensure(known == found, || format!("\n   recorded: {known}\n   answered: {found}"))?;
    }
    Ok(())
}

/// Returns the page that explains every difference, its words one blank apart.
fn explanations() -> Outcome<String> {
    let page = std::fs::read_to_string(root().join("docs/compatibility.md"));
    let page = page.map_err(|error| format!("docs/compatibility.md: {error}"))?;
    Ok(page.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Asks which APIs a broker serves.
fn served(address: &str) -> Outcome<BTreeSet<ApiKey>> {
    let answer = Client::connect(address)?.call(&ApiVersionsRequest::default(), 0)?;
    Ok(answer.api_keys.iter().filter_map(|entry| ApiKey::from_key(entry.api_key)).collect())
}

/// Waits until the coordinator of groups is there and has loaded.
fn until_coordinated(address: &str) -> Outcome {
    let deadline = Instant::now() + COORDINATOR_LIMIT;
    let mut client = Client::connect(address)?;
    let find = FindCoordinatorRequest { key: "warm-up".into(), ..Default::default() };
    let describe = DescribeGroupsRequest {
        groups: vec!["warm-up".into()],
        ..DescribeGroupsRequest::default()
    };
    loop {
        let found = client.call(&find, 2)?.error_code;
        let described = client.call(&describe, 5)?;
        let code = described.groups.first().map_or(-1, |group| group.error_code);
        if (found, code) == (0, 0) {
            return Ok(());
        }
        ensure(Instant::now() < deadline, || {
            format!("no coordinator of groups: FindCoordinator {found}, DescribeGroups {code}")
        })?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Plays scripts, several at a time; `None` for those that need an API that is not served.
fn play_all(
    scripts: &[&Script],
    address: &str,
    served: &BTreeSet<ApiKey>,
) -> Vec<Option<Outcome<Vec<String>>>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![None; scripts.len()]);
    std::thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(script) = scripts.get(at) else { return };
                    if script.unserved(served).is_none() {
                        let played = play::play(script, address);
                        let mut results = results.lock().expect("no player panics with the lock");
                        results[at] = Some(played);
                    }
                }
            });
        }
    });
    results.into_inner().expect("no player panics with the lock")
}

/// Writes the answers of all scripts that are still there.
fn write_all(folder: &Path, scripts: &[Script], recorded: &Recorded) -> Outcome {
    let files: BTreeSet<&str> = scripts.iter().map(|script| script.file.as_str()).collect();
    for file in files {
        let own = scripts.iter().filter(|script| script.file == file);
        let names: Vec<&str> = own.map(|script| script.name.as_str()).collect();
        answers::write(folder, file, &names, recorded)?;
    }
    Ok(())
}
