//! Cases that users met with records that come later and with half messages.

use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainspring_core::error::ErrorCode;
use mainspring_core::record::builder::{BatchBuilder, NewHeader};
use mainspring_core::record::compress::Codec;
use mainspring_core::wire::api::produce::ProduceRequest;

use crate::broker::{Broker, Folder, Serve, binary};
use crate::checks::{Checks, Outcome, ensure};
use crate::client::{Client, PRODUCE, produce_request, produced};
use crate::delays::{read, unix_ms};

const FEATURES: (&str, &str) = ("mainspring.features", "schedule,half");
/// Rounds of two commits at once.
const ROUNDS: u64 = 100;

/// Runs all of them.
pub(crate) fn run(checks: &mut Checks) {
    checks.note("nothing but an equal name replaces a record that waits (C003)", names_replace());
    checks.note("a half message that is committed twice comes once (C007)", commits_twice());
}

/// A batch of one record.
fn one(value: &str, headers: &[(&str, &str)]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    let headers: Vec<NewHeader<'_>> =
        headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
    let value = (!value.is_empty()).then_some(value.as_bytes());
    builder.push(unix_ms(), Some(b"u1"), value, &headers);
    builder.build().to_bytes()
}

/// Sends one record, and returns the offset that is told.
fn send(
    client: &mut Client,
    partition: i32,
    value: &str,
    headers: &[(&str, &str)],
) -> Outcome<i64> {
    // Until its log is read, right after a start, a topic with features has clients ask again.
    let limit = Instant::now() + Duration::from_secs(10);
    let answer = loop {
        let answer = client.produce("t", partition, one(value, headers))?;
        let passes = ErrorCode::from_code(answer.error_code).is_some_and(ErrorCode::is_retriable);
        if !passes || Instant::now() > limit {
            break answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    ensure(answer.error_code == 0, || {
        format!("{value:?} {headers:?}: error {} {:?}", answer.error_code, answer.error_message)
    })?;
    Ok(answer.base_offset)
}

/// Returns the values that a reader finds, once there are so many and one that is too many would be there too.
fn values(client: &mut Client, partition: i32, count: usize) -> Outcome<Vec<String>> {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let (mut records, _) = read(client, "t", partition, 0)?;
        if records.len() >= count || Instant::now() > limit {
            std::thread::sleep(Duration::from_millis(200));
            (records, _) = read(client, "t", partition, 0)?;
            let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
            return Ok(records.iter().map(|record| text(&record.value)).collect());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn names_replace() -> Outcome<String> {
    let folder = Folder::new();
    let broker = Serve::within(folder.path()).start()?;
    let mut client = Client::connect(&broker.address)?;
    client.create_topic("t", 2, &[FEATURES])?;
    let soon = [("mainspring-delay-ms", "300"), ("trace", "7")];
    for _ in 0..3 {
        send(&mut client, 0, "equal", &soon)?;
    }
    let named = [("mainspring-delay-ms", "2000"), ("mainspring-id", "n")];
    let first = send(&mut client, 0, "replaced", &named)?;
    let second = send(&mut client, 0, "replaces", &named)?;
    send(&mut client, 1, "elsewhere", &named)?;
    let shown = command(&broker, &["schedule", "show", "t", &format!("0@{first}"), "-o", "json"])?;
    ensure(shown.contains("\"replaced\"") && shown.contains(&second.to_string()), || {
        format!("the older one of two with a name: {shown}")
    })?;
    let mut here = values(&mut client, 0, 4)?;
    here.sort();
    ensure(here == ["equal", "equal", "equal", "replaces"], || format!("{here:?}"))?;
    let there = values(&mut client, 1, 1)?;
    ensure(there == ["elsewhere"], || format!("{there:?}"))?;
    Ok(String::new())
}

/// Runs a command and returns what it prints.
fn command(broker: &Broker, words: &[&str]) -> Outcome<String> {
    let output = Command::new(binary())
        .args(words)
        .args(["--bootstrap", &broker.address])
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.success(), || format!("{words:?}: {} {said}", output.status))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Keeps a half message.
fn half(client: &mut Client, name: &str) -> Outcome<i64> {
    send(client, 0, name, &[("mainspring-half", "g"), ("mainspring-id", name)])
}

fn commit(name: &str) -> [(&str, &str); 2] {
    [("mainspring-op", "commit"), ("mainspring-id", name)]
}

fn commits_twice() -> Outcome<String> {
    let folder = Folder::new();
    let serve = Serve::within(folder.path());
    let mut broker = serve.start()?;
    let mut client = Client::connect(&broker.address)?;
    client.create_topic("t", 1, &[FEATURES])?;
    // By one producer, one after the other.
    half(&mut client, "o-1")?;
    for _ in 0..2 {
        send(&mut client, 0, "", &commit("o-1"))?;
    }
    // By two at once, of which neither waits for the other's answer.
    for round in 0..ROUNDS {
        let name = format!("two-{round}");
        half(&mut client, &name)?;
        let request = produce_request("t", 0, one("", &commit(&name)));
        let mut other = Client::connect(&broker.address)?;
        client.send(&request, PRODUCE)?;
        other.send(&request, PRODUCE)?;
        for from in [&mut client, &mut other] {
            let answer = produced(from.receive::<ProduceRequest>(PRODUCE)?)?;
            let code = answer.error_code;
            // Who comes while the other's is on its way asks again, as clients do.
            ensure(code == 0 || code == 19, || format!("round {round}: error {code}"))?;
            if code != 0 {
                send(from, 0, "", &commit(&name))?;
            }
        }
    }
    // The answer is lost with the broker, and the commit is sent again to the next.
    half(&mut client, "lost")?;
    client.send(&produce_request("t", 0, one("", &commit("lost"))), PRODUCE)?;
    broker.kill();
    broker = serve.start()?;
    let mut client = Client::connect(&broker.address)?;
    send(&mut client, 0, "", &commit("lost"))?;
    // Once by its name and once by its ticket.
    let ticket = half(&mut client, "both")?.to_string();
    send(&mut client, 0, "", &commit("both"))?;
    send(&mut client, 0, "", &[("mainspring-op", "commit"), ("mainspring-ticket", &ticket)])?;

    let expected = ROUNDS as usize + 3;
    let mut found = values(&mut client, 0, expected)?;
    found.sort();
    let mut wanted: Vec<String> = (0..ROUNDS).map(|round| format!("two-{round}")).collect();
    wanted.extend(["both", "lost", "o-1"].map(str::to_owned));
    wanted.sort();
    ensure(found == wanted, || format!("{} records for {expected} messages", found.len()))?;
    let left = command(&broker, &["txn", "half", "-o", "json"])?;
    ensure(left.trim() == "[]", || format!("left: {left}"))?;
    Ok(format!("{expected} messages"))
}
