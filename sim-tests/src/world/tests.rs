use std::collections::VecDeque;

use bytes::Bytes;
use mainspring_core::ids::IoToken;
use mainspring_core::io::{Effect, FileName, Sync, WriteBody};
use mainspring_core::time::{Instant, Now};

use super::*;
use crate::checkers;

mod nodes;

/// A machine that writes down what it is sent and echoes it once that is flushed.
#[derive(Default)]
struct Echo {
    effects: VecDeque<Effect>,
    waiting: BTreeMap<IoToken, (ConnectionId, Bytes)>,
    next: u64,
    position: u64,
    panics: bool,
    timer: Option<Instant>,
}

impl Machine for Echo {
    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Start => {
                self.effects.push_back(Effect::Ready);
                self.timer = Some(now.mono + std::time::Duration::from_millis(5));
            }
            Input::Received(connection, bytes) => {
                assert!(!self.panics, "told to panic");
                self.next += 1;
                let (token, bytes) = (IoToken(self.next), bytes.freeze());
                self.waiting.insert(token, (connection, bytes.clone()));
                self.effects.push_back(Effect::Write {
                    file: FileName::new("echo"),
                    position: self.position,
                    body: WriteBody::Parts(vec![bytes.clone()]),
                    sync: Sync::Data,
                    token,
                });
                self.position += bytes.len() as u64;
            }
            Input::Completed { token, .. } => {
                let (connection, bytes) = self.waiting.remove(&token).expect("its own token");
                self.effects.push_back(Effect::Transmit { connection, parts: vec![bytes] });
            }
            Input::Wakeup => self.timer = None,
            _ => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.timer
    }

    fn digest(&self) -> u64 {
        self.position
    }
}

/// A client that sends a few bytes until they come back.
#[derive(Default)]
struct Caller {
    stream: Option<StreamId>,
    back: usize,
}

impl Actor for Caller {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        match event {
            ActorEvent::Wake | ActorEvent::Disconnected(_) => {
                if self.back < 4 {
                    self.back = 0;
                    self.stream = Some(hands.connect(0));
                }
            }
            ActorEvent::Connected(stream) => hands.send(stream, vec![Bytes::from_static(b"ping")]),
            ActorEvent::Received(_, bytes) => self.back += bytes.len(),
            ActorEvent::Finish => {}
        }
    }

    fn pending(&self) -> Option<String> {
        (self.back < 4).then(|| "an echo is missing".into())
    }
}

/// A world of one node of one shard in which nothing goes wrong.
fn quiet(seed: u64) -> WorldOptions {
    WorldOptions {
        seed,
        nodes: 1,
        shards: 1,
        disk: DiskOptions::default(),
        net: NetOptions::default(),
        drift_ppm: 0,
        faults: vec![],
        heal_at: SECOND,
        grace: 5 * SECOND,
        homes: Vec::new(),
        cluster: None,
        unrecoverable: false,
        permanent: Vec::new(),
        sink: None,
        story: false,
        until: None,
    }
}

fn run(seed: u64, faults: Vec<(u64, Fault)>, panics: bool) -> Outcome {
    let options = WorldOptions { shards: 3, drift_ppm: 100, faults, ..quiet(seed) };
    let actors: Vec<Box<dyn Actor>> =
        (0..4).map(|_| Box::<Caller>::default() as Box<dyn Actor>).collect();
    let factory: Factory<Echo> = Box::new(move |_| Echo { panics, ..Echo::default() });
    World::new(options, factory, actors, checkers::all()).run()
}

#[test]
fn one_seed_is_one_run_and_another_seed_is_another() {
    let (a, again, b) = (run(1, vec![], false), run(1, vec![], false), run(2, vec![], false));
    assert_eq!(a.alarm, None);
    assert_eq!((a.trace_hash, a.events), (again.trace_hash, again.events));
    assert_ne!(a.trace_hash, b.trace_hash);
}

#[test]
fn a_killed_node_starts_again_and_clients_find_it() {
    let kill = Fault::Kill { node: 0, effects: 1, down: 10 * MILLISECOND };
    let outcome = run(3, vec![(2, kill)], false);
    assert_eq!(outcome.alarm, None);
    assert_eq!(outcome.faults.of("kill"), 1);
    assert!(outcome.counts["starts"] >= 1);
}

#[test]
fn a_panic_of_a_machine_is_an_alarm() {
    crate::process::keep_panics_quiet();
    let alarm = run(4, vec![], true).alarm.expect("an alarm");
    assert_eq!(alarm.checker, "I41");
    assert!(alarm.message.contains("told to panic"), "{alarm}");
}

#[test]
fn a_client_that_waits_for_ever_is_an_alarm() {
    let pause = Fault::Pause { node: 0, time: 100 * SECOND };
    let heal_too_late = run(5, vec![(1, pause)], false);
    assert_eq!(heal_too_late.alarm, None, "healing ends a pause");

    let net = NetOptions { latency: 100 * SECOND, ..NetOptions::default() };
    let options = WorldOptions { net, grace: SECOND, ..quiet(1) };
    let factory: Factory<Echo> = Box::new(|_| Echo::default());
    let outcome =
        World::new(options, factory, vec![Box::<Caller>::default()], checkers::all()).run();
    assert_eq!(outcome.alarm.expect("an alarm").checker, "I41");
}

#[test]
fn a_machine_that_stood_still_finds_its_monotonic_clock_where_it_was() {
    let suspend = |time| Fault::Suspend { node: 0, time, set_right: false };
    let outcome = run(6, vec![(100 * MILLISECOND, suspend(500 * MILLISECOND))], false);
    assert_eq!(outcome.alarm, None);
    assert_eq!(outcome.faults.of("suspend"), 1);
}

#[test]
fn a_start_can_die_before_it_serves_again_and_again() {
    let again =
        Fault::CrashLoop { node: 0, times: 3, effects: 0, power: false, down: 10 * MILLISECOND };
    let outcome = run(7, vec![(2, again)], false);
    assert_eq!(outcome.alarm, None);
    assert_eq!((outcome.faults.of("kill"), outcome.faults.of("crash-in-recovery")), (4, 3));
}

#[test]
fn an_empty_disk_and_an_old_copy_come_only_where_nothing_need_be_recovered() {
    for unrecoverable in [false, true] {
        let faults = vec![
            (SECOND / 2, Fault::Save { node: 0 }),
            (SECOND / 2 + 1, Fault::Wipe { node: 0, down: 1 }),
            (SECOND / 2 + 2, Fault::Restore { node: 0, down: 1 }),
        ];
        let options = WorldOptions { faults, unrecoverable, ..quiet(8) };
        let factory: Factory<Echo> = Box::new(|_| Echo::default());
        let outcome =
            World::new(options, factory, vec![Box::<Caller>::default()], checkers::all()).run();
        let struck = u64::from(unrecoverable);
        assert_eq!((outcome.faults.of("wipe"), outcome.faults.of("restore")), (struck, struck));
    }
}
