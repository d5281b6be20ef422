//! Cases about groups: very many of them, a static member over a kill, and readers that have nothing
//! to read.
//!
//! Counts are checked; times only as bounds against hanging, and told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::fetch::FetchRequest;
use mainspring_core::wire::api::find_coordinator::FindCoordinatorRequest;
use mainspring_core::wire::api::heartbeat::HeartbeatRequest;
use mainspring_core::wire::api::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use mainspring_core::wire::api::leave_group::LeaveGroupRequest;
use mainspring_core::wire::api::list_groups::{ListGroupsRequest, ListGroupsResponse};
use mainspring_core::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use mainspring_core::wire::api::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use mainspring_core::wire::api::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

use crate::broker::{Broker, Folder, Serve};
use crate::checks::{Checks, Outcome, ensure};
use crate::client::{Client, FETCH, batch, fetch_request};

/// Groups of the form that the test command runs.
const GROUPS: u64 = 5_000;
/// From so many groups on their retention is waited for too.
const GROUPS_IN_FULL: u64 = 50_000;
/// Requests of one connection that are on their way together.
const WINDOW: usize = 100;

/// `COORDINATOR_LOAD_IN_PROGRESS`.
const LOADING: i16 = 14;

/// Runs all of them. `groups` is how many there are to be at once.
pub(crate) fn run(checks: &mut Checks, groups: Option<u64>) {
    let groups = groups.unwrap_or(GROUPS);
    let name = format!("{groups} groups are listed whole and outlive a kill (C046)");
    checks.note(&name, many_groups(groups));
    checks.note("a static member outlives a kill (C032)", static_member());
    checks.note("whoever has nothing to read is parked (C066)", idle_readers());
}

/// Starts a broker that makes groups wait for nobody.
fn serve(folder: &Folder) -> Serve {
    Serve::within(folder.path()).set(&["group.initial.rebalance.delay.ms=0"])
}

fn join_request(group: &str, member: &KafkaString, instance: Option<&str>) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.clone(),
        group_instance_id: instance.map(KafkaString::from),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::new() }],
        ..JoinGroupRequest::default()
    }
}

fn sync_request(
    group: &str,
    joined: &JoinGroupResponse,
    instance: Option<&str>,
) -> SyncGroupRequest {
    let own = SyncGroupRequestAssignment {
        member_id: joined.member_id.clone(),
        assignment: Bytes::from_static(b"all"),
    };
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: instance.map(KafkaString::from),
        assignments: if joined.leader == joined.member_id { vec![own] } else { Vec::new() },
        ..SyncGroupRequest::default()
    }
}

fn commit_request(group: &str, joined: Option<&JoinGroupResponse>) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: 7,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: joined.map_or(-1, |joined| joined.generation_id),
        member_id: joined.map(|joined| joined.member_id.clone()).unwrap_or_default(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

/// Makes the topic, and looks for a coordinator until there is one.
fn prepare(broker: &Broker) -> Outcome<Client> {
    let mut client = Client::connect(&broker.address)?;
    client.create_topic("t", 1, &[])?;
    let request = FindCoordinatorRequest { key: "g".into(), ..FindCoordinatorRequest::default() };
    let found = client.call(&request, 2)?;
    ensure(found.error_code == 0, || format!("no coordinator: error {}", found.error_code))?;
    Ok(client)
}

/// Lets one member stand in a group of its own.
fn live_member(client: &mut Client, group: &str) -> Outcome<JoinGroupResponse> {
    let joined = client.call(&join_request(group, &KafkaString::default(), None), 3)?;
    ensure(joined.error_code == 0, || format!("join: error {}", joined.error_code))?;
    let synced = client.call(&sync_request(group, &joined, None), 2)?;
    ensure(synced.error_code == 0, || format!("sync: error {}", synced.error_code))?;
    Ok(joined)
}

fn heartbeat(client: &mut Client, group: &str, joined: &JoinGroupResponse) -> Outcome<i16> {
    let request = HeartbeatRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    Ok(client.call(&request, 2)?.error_code)
}

/// Makes groups by the names: a member joins, commits and leaves.
fn come_and_go(address: &str, names: &[String]) -> Outcome {
    let mut client = Client::connect(address)?;
    for names in names.chunks(WINDOW) {
        for name in names {
            client.send(&join_request(name, &KafkaString::default(), None), 3)?;
        }
        let mut members = Vec::new();
        for _ in names {
            let joined = client.receive::<JoinGroupRequest>(3)?;
            ensure(joined.error_code == 0, || format!("join: error {}", joined.error_code))?;
            members.push(joined);
        }
        for (name, joined) in names.iter().zip(&members) {
            client.send(&sync_request(name, joined, None), 2)?;
            client.send(&commit_request(name, Some(joined)), 5)?;
            let leaving = LeaveGroupRequest {
                group_id: name.as_str().into(),
                member_id: joined.member_id.clone(),
                ..LeaveGroupRequest::default()
            };
            client.send(&leaving, 2)?;
        }
        for _ in names {
            let synced = client.receive::<SyncGroupRequest>(2)?.error_code;
            let committed = client.receive::<OffsetCommitRequest>(5)?;
            let committed = committed.topics[0].partitions[0].error_code;
            let left = client.receive::<LeaveGroupRequest>(2)?.error_code;
            let errors = [synced, committed, left];
            ensure(errors == [0; 3], || format!("sync, commit, leave: errors {errors:?}"))?;
        }
    }
    Ok(())
}

/// Lists groups, as soon as every coordinator has loaded its log; tells how long the answer took.
fn list(client: &mut Client, states: &[&str]) -> Outcome<(ListGroupsResponse, Duration)> {
    let states_filter = states.iter().map(|state| (*state).into()).collect();
    let request = ListGroupsRequest { states_filter, ..ListGroupsRequest::default() };
    let limit = Instant::now() + Duration::from_mins(1);
    loop {
        let start = Instant::now();
        let answer = client.call(&request, 4)?;
        match answer.error_code {
            0 => return Ok((answer, start.elapsed())),
            LOADING if Instant::now() < limit => std::thread::yield_now(),
            error => return Err(format!("ListGroups: error {error}")),
        }
    }
}

fn many_groups(count: u64) -> Outcome<String> {
    let folder = Folder::new();
    let broker = serve(&folder).start()?;
    let mut client = prepare(&broker)?;
    let live = live_member(&mut client, "live")?;
    let names: Vec<String> = (0..count).map(|number| format!("cg-{number:016x}")).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let (address, member, ends) = (broker.address.clone(), live.clone(), Arc::clone(&stop));
    let beats = std::thread::spawn(move || -> Outcome<Vec<Duration>> {
        let mut client = Client::connect(&address)?;
        let mut took = Vec::new();
        while !ends.load(Ordering::Relaxed) {
            let start = Instant::now();
            let error = heartbeat(&mut client, "live", &member)?;
            ensure(error == 0, || format!("heartbeat: error {error}"))?;
            took.push(start.elapsed());
        }
        Ok(took)
    });
    let start = Instant::now();
    let made: Outcome<Vec<()>> = std::thread::scope(|scope| {
        let parts = names.chunks(names.len().div_ceil(4).max(1));
        let makers: Vec<_> =
            parts.map(|names| scope.spawn(|| come_and_go(&broker.address, names))).collect();
        makers.into_iter().map(|maker| maker.join().expect("no check panics")).collect()
    });
    made?;
    let only_commit = count / 10;
    for number in 0..only_commit {
        client.send(&commit_request(&format!("oc-{number}"), None), 5)?;
    }
    for _ in 0..only_commit {
        let error = client.receive::<OffsetCommitRequest>(5)?.topics[0].partitions[0].error_code;
        ensure(error == 0, || format!("a commit of nobody: error {error}"))?;
    }
    let took = start.elapsed();

    let expected = count + only_commit + 1;
    let (answer, listing) = list(&mut client, &[])?;
    let listed = answer.groups.iter().map(|group| &*group.group_id).collect::<BTreeSet<_>>().len();
    ensure(listed as u64 == expected, || format!("{listed} groups of {expected} are listed"))?;
    let (stable, _) = list(&mut client, &["Stable"])?;
    ensure(stable.groups.len() == 1, || format!("{} are stable", stable.groups.len()))?;
    stop.store(true, Ordering::Relaxed);
    let mut beats = beats.join().map_err(|_| "the live member ended".to_owned())??;
    beats.sort();
    let p99 = beats[beats.len() * 99 / 100];

    broker.kill();
    let serve = if count < GROUPS_IN_FULL {
        serve(&folder)
    } else {
        let often = ["offsets.retention.minutes=1", "offsets.retention.check.interval.ms=1000"];
        serve(&folder).set(&often)
    };
    let start = Instant::now();
    let broker = serve.start()?;
    let mut client = Client::connect(&broker.address)?;
    let again = list(&mut client, &[])?.0.groups.len() as u64;
    let restarted = start.elapsed();
    if count < GROUPS_IN_FULL {
        ensure(again == expected, || format!("{again} groups of {expected} are left"))?;
    } else {
        gone_by_retention(&mut client)?;
    }
    let error = heartbeat(&mut client, "live", &live)?;
    ensure(error == 0, || format!("the live member after the kill: error {error}"))?;
    Ok(format!(
        "made in {:.1} s, listed in {} ms, heartbeats meanwhile p99 {:.1} ms, there again {} ms after a kill",
        took.as_secs_f64(),
        listing.as_millis(),
        p99.as_secs_f64() * 1e3,
        restarted.as_millis(),
    ))
}

/// Waits until retention has left the one group that has a member.
fn gone_by_retention(client: &mut Client) -> Outcome {
    let limit = Instant::now() + Duration::from_mins(3);
    loop {
        let left: Vec<KafkaString> =
            list(client, &[])?.0.groups.into_iter().map(|group| group.group_id).collect();
        if left == ["live"] {
            return Ok(());
        }
        ensure(Instant::now() < limit, || format!("{} groups are left", left.len()))?;
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn static_member() -> Outcome<String> {
    let folder = Folder::new();
    let serve = serve(&folder);
    let mut broker = serve.start()?;
    let mut client = prepare(&broker)?;
    let first = client.call(&join_request("g", &KafkaString::default(), Some("one")), 5)?;
    ensure(first.error_code == 0, || format!("join: error {}", first.error_code))?;
    client.call(&sync_request("g", &first, Some("one")), 3)?;
    let mut member = first.clone();
    let mut slowest = Duration::ZERO;
    for kill in [false, true] {
        let committed = OffsetCommitRequest {
            group_instance_id: Some("one".into()),
            ..commit_request("g", Some(&member))
        };
        let answer = client.call(&committed, 7)?;
        let error = answer.topics[0].partitions[0].error_code;
        ensure(error == 0, || format!("commit: error {error}"))?;
        if kill {
            broker.kill();
        } else {
            broker.stop(Duration::from_secs(10))?;
        }
        let start = Instant::now();
        broker = serve.start()?;
        client = Client::connect(&broker.address)?;
        // Whoever was there goes on under its id, and one that comes anew takes its place.
        let beat = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: member.generation_id,
            member_id: member.member_id.clone(),
            group_instance_id: Some("one".into()),
        };
        loaded("a known member", || client.call(&beat, 3), |it| it.error_code)?;
        let join = join_request("g", &KafkaString::default(), Some("one"));
        let again = loaded("join again", || client.call(&join, 5), |it| it.error_code)?;
        let sync = sync_request("g", &again, Some("one"));
        let synced = loaded("sync again", || client.call(&sync, 3), |it| it.error_code)?;
        ensure(&*synced.assignment == b"all", || "another assignment".to_owned())?;
        slowest = slowest.max(start.elapsed());
        let fenced = client.call(&beat, 3)?.error_code;
        ensure(fenced == 82, || format!("the process before: error {fenced} and not 82"))?;
        let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
        let request = OffsetFetchRequest {
            group_id: "g".into(),
            topics: Some(vec![topic]),
            ..OffsetFetchRequest::default()
        };
        let kept = client.call(&request, 5)?.topics[0].partitions[0].committed_offset;
        ensure(kept == 7, || format!("offset {kept} is left of 7"))?;
        member = again;
    }
    Ok(format!("a stop and a kill, back after at most {} ms", slowest.as_millis()))
}

/// Asks until the coordinator has loaded its log, as a client does: a broker that has just started may load it
/// once more in between, when the epoch changes.
fn loaded<T>(
    what: &str,
    mut ask: impl FnMut() -> Outcome<T>,
    code: impl Fn(&T) -> i16,
) -> Outcome<T> {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = ask()?;
        let error = code(&answer);
        if error != LOADING || Instant::now() > limit {
            return ensure(error == 0, || format!("{what}: error {error}")).map(|()| answer);
        }
        std::thread::yield_now();
    }
}

fn idle_readers() -> Outcome<String> {
    const READERS: usize = 100;
    const WAIT_MS: i32 = 500;
    const ROUNDS: u32 = 3;
    let folder = Folder::new();
    let broker = serve(&folder).start()?;
    let mut writer = Client::connect(&broker.address)?;
    writer.create_topic("t", READERS as i32, &[])?;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(Client::connect(&broker.address)?);
    }
    let ask = |reader: &mut Client, partition: usize| {
        reader.send(&fetch_request("t", partition as i32, 0, WAIT_MS), FETCH)
    };
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for (partition, reader) in readers.iter_mut().enumerate() {
            ask(reader, partition)?;
        }
        for reader in &mut readers {
            let answer = reader.receive::<FetchRequest>(FETCH)?;
            ensure(answer.error_code == 0, || format!("fetch: error {}", answer.error_code))?;
        }
    }
    let waited = start.elapsed();
    let least = Duration::from_millis(WAIT_MS as u64) * ROUNDS;
    ensure(waited >= least, || format!("{ROUNDS} waits of {WAIT_MS} ms took {waited:?}"))?;

    // Data wakes the one that waits for it, long before its time is up.
    let long = fetch_request("t", 0, 0, 60_000);
    readers[0].send(&long, FETCH)?;
    let sent = Instant::now();
    let stored = writer.produce("t", 0, batch(&[Bytes::from_static(b"v")], None))?;
    ensure(stored.error_code == 0, || format!("produce: error {}", stored.error_code))?;
    let answer = readers[0].receive::<FetchRequest>(FETCH)?;
    let woken = sent.elapsed();
    let bytes = answer.responses[0].partitions[0]
        .records
        .as_ref()
        .map_or(0, mainspring_core::wire::Parts::len);
    ensure(bytes > 0, || "an answer without the record".to_owned())?;
    ensure(woken < Duration::from_secs(30), || format!("the record came after {woken:?}"))?;

    // A reader whose topic goes is told, and is not held to the end of its time.
    readers[1].send(&fetch_request("t", 1, 0, 60_000), FETCH)?;
    writer.delete_topic("t")?;
    let answer = readers[1].receive::<FetchRequest>(FETCH)?;
    let error = answer.responses[0].partitions[0].error_code;
    ensure([3, 100].contains(&error), || format!("a topic that is gone: error {error}"))?;
    Ok(format!(
        "{READERS} readers, {ROUNDS} answers each in {} ms, woken by a record after {:.1} ms",
        waited.as_millis(),
        woken.as_secs_f64() * 1e3
    ))
}
