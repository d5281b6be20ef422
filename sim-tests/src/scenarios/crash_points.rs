//! Recovery at every crash point of a storage workload.
//!
//! Behind each effect and each completion of a [`LogBench`] the run stops and looks at what a
//! crash at that point could leave: the page image, and the durable image with every subset of
//! the pending pieces (all of them up to twelve pieces, a choice beyond). Each is recovered, read
//! to the end, and recovered again from what the first recovery had made durable.
//!
//! At times a bit of the journal's acknowledged part is flipped in a copy: the start must refuse it, or
//! serve all that was promised.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition};
use mainspring_core::log::{FlushPolicy, Sequence};
use mainspring_core::record::batch::Batch;
use mainspring_core::record::builder::{BatchBuilder, Producer};
use mainspring_core::record::compress::Codec;

use serde::{Deserialize, Serialize};

use super::{RunOptions, Scenario, journal_rot};
use crate::checkers::{self, Alarm, Checker};
use crate::clock::EPOCH_MS;
use crate::disk::{DiskOptions, SimDisk};
use crate::history::Fact;
use crate::log_bench::{Content, LogBench, Stop, hashes, log, small_config, small_settings};
use crate::rng::{Rng, Stream};
use crate::schedule::{Plan, StepPlan, StepsPlan};
use crate::story::{Contents, Lane, Story, What};
use crate::trace::Trace;
use crate::world::{FaultCounts, MILLISECOND, Outcome, SECOND};

/// The scenario.
pub const SCENARIO: Scenario = Scenario {
    name: "crash-points",
    about: "recovery of the logs at every crash point, with subsets of lost writes",
    draw,
    floors: &[
        ("crash-points", 10_000),
        ("images", 20_000),
        ("crashes-in-recovery", 500),
        ("acked-records", 2_000),
        ("duplicates-recognised", 2_000),
        ("fenced-batches", 300),
        ("journals-refused", 100),
        ("journals-in-spite-of-rot", 5),
        ("purges-to-the-end", 15),
    ],
    armed: &["I07", "I16", "I41"],
};

/// Pending pieces up to which every subset is tried.
const EXHAUSTIVE_UNITS: usize = 12;

/// One step of a workload, on logs 0 to 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// A log is created.
    Create(u8),
    /// A batch is appended.
    Append {
        /// Which log.
        log: u8,
        /// Which producer.
        producer: u8,
        /// How many records.
        records: u8,
        /// About how many bytes of values.
        bytes: u16,
    },
    /// A producer goes on in its next epoch.
    Bump {
        /// Which log.
        log: u8,
        /// Which producer.
        producer: u8,
    },
    /// A log begins later.
    MoveStart(u8),
    /// A log begins at its end.
    Purge(u8),
    /// A log is deleted.
    Delete(u8),
    /// A vote is given.
    Vote,
    /// That many operations end.
    Turn(u8),
    /// That much time passes, in nanoseconds.
    Pass(u64),
    /// The process ends and starts again.
    Restart {
        /// Whether it was told to stop.
        clean: bool,
    },
}

const SCRIPT: &[Step] = &[
    Step::Create(0),
    Step::Append { log: 0, producer: 0, records: 2, bytes: 100 },
    Step::Turn(3),
    Step::Create(1),
    Step::Append { log: 1, producer: 1, records: 1, bytes: 900 },
    Step::Append { log: 0, producer: 0, records: 1, bytes: 3_000 },
    Step::Append { log: 0, producer: 1, records: 3, bytes: 50 },
    Step::Vote,
    Step::Pass(20 * MILLISECOND),
    Step::Append { log: 0, producer: 0, records: 1, bytes: 5_000 },
    Step::Append { log: 1, producer: 1, records: 1, bytes: 5_000 },
    Step::Pass(SECOND),
    Step::MoveStart(0),
    Step::Append { log: 0, producer: 0, records: 2, bytes: 2_000 },
    Step::Bump { log: 0, producer: 1 },
    Step::Pass(10 * SECOND),
    Step::Restart { clean: false },
    Step::Append { log: 0, producer: 0, records: 1, bytes: 1_000 },
    Step::Delete(1),
    Step::Append { log: 0, producer: 1, records: 1, bytes: 7_000 },
    Step::Pass(20 * SECOND),
    Step::Purge(0),
    Step::Pass(SECOND),
    Step::Restart { clean: true },
    Step::Append { log: 0, producer: 0, records: 1, bytes: 10 },
    Step::Pass(5 * SECOND),
];

fn random_step(rng: &mut Rng) -> Step {
    match rng.below(100) {
        0..6 => Step::Create(rng.below(3) as u8),
        6..57 => Step::Append {
            log: rng.below(3) as u8,
            producer: rng.below(3) as u8,
            records: rng.between(1, 4) as u8,
            bytes: rng.exponential(700) as u16,
        },
        57..60 => Step::Bump { log: rng.below(3) as u8, producer: rng.below(3) as u8 },
        60..62 => Step::MoveStart(rng.below(3) as u8),
        62..65 => Step::Purge(rng.below(3) as u8),
        65..66 => Step::Delete(rng.below(3) as u8),
        66..68 => Step::Vote,
        68..88 => Step::Turn(rng.between(1, 6) as u8),
        88..96 => Step::Pass(rng.exponential(2 * SECOND)),
        96..98 => Step::Restart { clean: true },
        _ => Step::Restart { clean: false },
    }
}

/// What has been promised and done so far.
#[derive(Clone, Default)]
struct Promises {
    written: BTreeMap<TopicPartition, Vec<(i64, u64)>>,
    /// Batches of the newest epoch in the order of their appending, by producer.
    batches: BTreeMap<(TopicPartition, i64), Vec<Batch>>,
    /// Epochs of the producers, where they are not 0.
    epochs: BTreeMap<(TopicPartition, i64), i16>,
    /// What a producer would have sent next in the epoch before.
    late: BTreeMap<(TopicPartition, i64), Batch>,
    /// Logs whose deletion was asked for.
    doomed: BTreeSet<TopicPartition>,
    /// Log starts that were asked for.
    starts_asked: BTreeMap<TopicPartition, i64>,
    lazy: BTreeSet<TopicPartition>,
    /// What was promised by earlier lives.
    stable: BTreeMap<TopicPartition, i64>,
    starts: BTreeMap<TopicPartition, i64>,
    deleted: BTreeSet<TopicPartition>,
    created: BTreeSet<TopicPartition>,
    voted: Option<LeaderEpoch>,
}

impl Promises {
    /// Takes in what a bench has confirmed.
    fn take(&mut self, bench: &LogBench) {
        for (&log, &end) in &bench.stable {
            let known = self.stable.entry(log).or_insert(0);
            *known = (*known).max(end);
        }
        for (&log, &start) in &bench.starts {
            let known = self.starts.entry(log).or_insert(0);
            *known = (*known).max(start);
        }
        self.deleted.extend(&bench.deleted);
        self.created.extend(&bench.created);
        self.voted = self.voted.max(bench.voted);
    }
}

/// A run in the making.
struct Run {
    seed: u64,
    /// What happens by chance in all, and in this step.
    chances: Rng,
    chance: Rng,
    /// The same of the step; that of a look is a child of it.
    step_chance: Rng,
    /// Whether the crash points of this step are looked at.
    looks: bool,
    /// How many of them, the first, are passed by, and how many there were.
    skips: u64,
    looked: u64,
    subsets_max: usize,
    promises: Promises,
    checkers: Vec<Box<dyn Checker>>,
    alarm: Option<Alarm>,
    trace: Trace,
    story: Option<Story>,
    /// What is looked at, for the story of an alarm.
    looked_at: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
    faults: FaultCounts,
    /// Images that were recovered under the same promises.
    seen: BTreeSet<(u64, u64)>,
    incarnation: u32,
    until: Option<u64>,
    sector: u64,
    /// How long earlier lives were, in nanoseconds.
    base: u64,
}

fn draw(seed: u64) -> Plan {
    let mut swarm = Rng::new(seed, Stream::Swarm);
    let mut workload = Rng::new(seed, Stream::Workload);
    let steps: Vec<Step> = if seed.is_multiple_of(8) {
        SCRIPT.to_vec()
    } else {
        let count = workload.between(20, 60);
        (0..count).map(|_| random_step(&mut workload)).collect()
    };
    let steps =
        (1..).zip(steps).map(|(number, step)| StepPlan { number, step, looks: true, skips: 0 });
    Plan::Steps(StepsPlan {
        sector: if swarm.chance(500) { 512 } else { 4096 },
        subsets_max: [2, 6, 20][swarm.index(3)],
        looks_at_start: true,
        steps: steps.collect(),
    })
}

/// Runs a plan; `seed` is that of all chance.
pub(crate) fn run(plan: &StepsPlan, seed: u64, how: &RunOptions) -> Outcome {
    let disk = SimDisk::new(
        DiskOptions { sector: plan.sector, ..DiskOptions::default() },
        Rng::new(seed, Stream::Disk(0)),
    );
    let chances = Rng::new(seed, Stream::Faults);
    let mut run = Run {
        seed,
        chance: chances.child(0),
        step_chance: chances.child(0),
        skips: 0,
        looked: 0,
        chances,
        looks: plan.looks_at_start,
        subsets_max: plan.subsets_max,
        promises: Promises::default(),
        checkers: checkers::all(),
        alarm: None,
        trace: Trace::new(how.sink.clone()),
        story: how.story.then(Story::default),
        looked_at: Vec::new(),
        counts: BTreeMap::new(),
        faults: FaultCounts::default(),
        seen: BTreeSet::new(),
        incarnation: 0,
        until: how.until,
        sector: plan.sector,
        base: 0,
    };
    let mut marks = BTreeMap::new();
    let mut time = 0;
    let mut bench = LogBench::new(small_config(seed), disk);
    let workload = Rng::new(seed, Stream::Workload);
    let outcome = bench.recover(&mut |bench| run.look(bench)).map(|_| ());
    run.stopped(outcome);
    for &StepPlan { number, step, looks, skips } in &plan.steps {
        if run.is_over() {
            break;
        }
        (run.step_chance, run.looked) = (run.chances.child(number), 0);
        (run.looks, run.skips) = (looks, skips);
        bench.disk.set_chance(Rng::new(seed, Stream::Disk(0)).child(number));
        run.trace.line(|| format!("{step:?}"));
        run.base = time;
        run.write_down(bench.now(), || {
            What::Note(Lane::Disk(0), format!("step {number}: {step:?}"))
        });
        let outcome = run.step(&mut bench, step, &mut workload.child(number));
        run.stopped(outcome);
        if let Step::Restart { clean } = step
            && !run.is_over()
        {
            bench = run.restart(bench, clean, &mut marks, &mut time);
        }
    }
    for (mark, count) in &bench.marks {
        *marks.entry(*mark).or_insert(0) += count;
    }
    for checker in &mut run.checkers {
        if let (Err(message), None) = (checker.finish(), &run.alarm) {
            let (step, at) = (run.trace.events(), bench.now());
            run.alarm = Some(Alarm::of(&**checker, message, step, at));
        }
    }
    Outcome {
        alarm: run.alarm,
        trace_hash: run.trace.hash(),
        checkpoints: run.trace.checkpoints().to_vec(),
        events: run.trace.events(),
        time: time + bench.now(),
        faults: run.faults,
        marks,
        counts: run.counts,
        evaluations: run
            .checkers
            .iter()
            .map(|checker| (checker.id(), checker.evaluations()))
            .collect(),
        story: run.story,
    }
}

impl Run {
    fn is_over(&self) -> bool {
        self.alarm.is_some() || self.until.is_some_and(|until| self.trace.events() >= until)
    }

    fn count(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_insert(0) += by;
    }

    /// Writes down what happens, where somebody wants the story.
    fn write_down(&mut self, at: u64, what: impl FnOnce() -> What) {
        let at = self.base + at;
        if let Some(story) = &mut self.story {
            story.note(self.trace.events(), at, what());
        }
    }

    /// Remembers what is looked at, until something else is: only the last of it is a part of the story.
    /// `depth` is how much of what was remembered stays.
    fn looks_at(&mut self, depth: usize, words: impl FnOnce() -> String) {
        if self.story.is_some() {
            self.looked_at.truncate(depth);
            self.looked_at.push(words());
        }
    }

    /// Writes down what was looked at when an alarm was raised.
    fn write_down_look(&mut self, at: u64) {
        for words in std::mem::take(&mut self.looked_at) {
            self.write_down(at, || What::Note(Lane::Disk(0), words));
        }
    }

    fn raise(&mut self, checker: &'static str, message: String, at: u64) {
        if self.alarm.is_none() {
            let step = self.trace.events();
            let promise = checkers::promise_of(checker);
            self.alarm = Some(Alarm { checker, promise, message, step, at });
            self.write_down_look(at);
        }
    }

    fn tell(&mut self, fact: &Fact, at: u64) {
        if self.alarm.is_some() {
            return;
        }
        for checker in &mut self.checkers {
            if let Err(message) = checker.observe(at, fact) {
                let step = self.trace.events();
                self.alarm = Some(Alarm::of(&**checker, message, step, at));
                self.write_down_look(at);
                self.write_down(at, || What::Fact(fact.clone()));
                return;
            }
        }
    }

    fn stopped(&mut self, outcome: Result<(), Stop>) {
        let Err(stop) = outcome else { return };
        self.raise_stop(stop, "in the run itself");
    }

    fn raise_stop(&mut self, stop: Stop, whence: &str) {
        let (checker, message) = match stop {
            Stop::Fatal(message) => ("I41", format!("gave up without a fault: {message}")),
            Stop::Panic(message) => ("I41", format!("panicked: {message}")),
            Stop::Stuck(message) => ("I41", message.to_owned()),
            Stop::Wrong(message) => ("I13", message),
        };
        self.raise(checker, format!("{message} ({whence})"), 0);
    }

    fn step(&mut self, bench: &mut LogBench, step: Step, rng: &mut Rng) -> Result<(), Stop> {
        match step {
            Step::Create(n) => self.create(bench, n)?,
            Step::Append { log, producer, records, bytes } => {
                self.append(bench, log, producer, records, bytes, rng)?;
            }
            Step::Bump { log, producer } => self.bump(log, producer),
            Step::MoveStart(n) => self.move_start(bench, n, false, rng)?,
            Step::Purge(n) => self.move_start(bench, n, true, rng)?,
            Step::Delete(n) => {
                let id = log(n).0;
                if bench.store.log_end_offset(id).is_some() && self.promises.doomed.insert(id) {
                    bench.act(|store, now, fx| store.delete(now, id, fx), &mut |bench| {
                        self.look(bench);
                    })?;
                }
            }
            Step::Vote => {
                let epoch = LeaderEpoch(self.count_of("votes") as i32 + 1);
                self.count("votes", 1);
                bench.act(|store, now, fx| store.vote(now, epoch, fx), &mut |bench| {
                    self.look(bench);
                })?;
            }
            Step::Turn(turns) => {
                for _ in 0..turns {
                    let until = bench.now() + 10 * MILLISECOND;
                    bench.turn(until, &mut |bench| self.look(bench))?;
                }
            }
            Step::Pass(time) => bench.pass(time, &mut |bench| self.look(bench))?,
            Step::Restart { clean } => {
                if clean {
                    bench.close(&mut |bench| self.look(bench))?;
                }
            }
        }
        Ok(())
    }

    fn count_of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    fn create(&mut self, bench: &mut LogBench, n: u8) -> Result<(), Stop> {
        let (id, name) = log(n);
        if bench.store.log_end_offset(id).is_some() || self.promises.doomed.contains(&id) {
            return Ok(());
        }
        // Log 2 is lazy: it may lose its tail to a power cut and nothing to a kill.
        let flush = if n == 2 { FlushPolicy::Lazy } else { FlushPolicy::Ack };
        if flush == FlushPolicy::Lazy {
            self.promises.lazy.insert(id);
        }
        self.promises.written.entry(id).or_default();
        bench.act(
            |store, now, fx| store.create(now, id, &name, small_settings(flush), fx),
            &mut |bench| self.look(bench),
        )
    }

    fn append(
        &mut self,
        bench: &mut LogBench,
        n: u8,
        producer: u8,
        records: u8,
        bytes: u16,
        rng: &mut Rng,
    ) -> Result<(), Stop> {
        let id = log(n).0;
        let Some(end) = bench.store.log_end_offset(id) else { return Ok(()) };
        if bench.store.is_congested() || self.promises.doomed.contains(&id) {
            return Ok(());
        }
        let producer_id = 1_000 + i64::from(producer);
        let batches = self.promises.batches.entry((id, producer_id)).or_default();
        let base_sequence = batches.last().map_or(0, |batch| batch.last_sequence() + 1);
        let epoch = self.promises.epochs.get(&(id, producer_id)).copied().unwrap_or(0);
        let mut builder = BatchBuilder::new(Codec::None).producer(Producer {
            id: ProducerId(producer_id),
            epoch: ProducerEpoch(epoch),
            base_sequence,
        });
        for _ in 0..records {
            let mut value = vec![0; usize::from(bytes).min(8_000) / usize::from(records).max(1)];
            for byte in &mut value {
                *byte = rng.below(256) as u8;
            }
            let key = rng.bits().to_be_bytes();
            let timestamp = EPOCH_MS + (bench.now() / MILLISECOND) as i64;
            builder.push(timestamp, Some(&key), Some(&value), &[]);
        }
        let mut batch = builder.build();
        let clean = batch.clone();
        // Written is told before the append: a crash between its effects may leave it or not.
        batch.assign(end, LeaderEpoch(0));
        self.promises.written.entry(id).or_default().extend(hashes(&batch));
        self.promises.batches.entry((id, producer_id)).or_default().push(batch);
        let appended = bench.act(
            |store, now, fx| {
                let verdict = store.check_sequence(now, id, &clean);
                (verdict, store.append(now, id, LeaderEpoch(0), clean, fx))
            },
            &mut |bench| self.look(bench),
        )?;
        match appended {
            (Ok(Sequence::Append), Ok(offset)) if offset == end => Ok(()),
            (verdict, result) => Err(Stop::Wrong(format!(
                "an append to {id} at {end} ended as {verdict:?}, {result:?}"
            ))),
        }
    }

    /// A producer goes on in its next epoch; what it would have sent in this one is kept.
    fn bump(&mut self, n: u8, producer: u8) {
        let producer_id = 1_000 + i64::from(producer);
        let place = (log(n).0, producer_id);
        let Some(last) = self.promises.batches.get(&place).and_then(|batches| batches.last())
        else {
            return;
        };
        let mut builder = BatchBuilder::new(Codec::None).producer(Producer {
            id: ProducerId(producer_id),
            epoch: last.producer_epoch(),
            base_sequence: last.last_sequence() + 1,
        });
        builder.push(EPOCH_MS, None, Some(b"late"), &[]);
        self.promises.late.insert(place, builder.build());
        self.promises.batches.remove(&place);
        *self.promises.epochs.entry(place).or_insert(0) += 1;
    }

    fn move_start(
        &mut self,
        bench: &mut LogBench,
        n: u8,
        to_end: bool,
        rng: &mut Rng,
    ) -> Result<(), Stop> {
        let id = log(n).0;
        let (Some(start), Some(stable)) =
            (bench.store.log_start_offset(id), bench.store.stable_end(id))
        else {
            return Ok(());
        };
        let (Offset(start), Offset(stable)) = (start, stable.value());
        if stable <= start || self.promises.doomed.contains(&id) {
            return Ok(());
        }
        let to = if to_end { stable } else { rng.between(start as u64, stable as u64) as i64 };
        self.count("purges-to-the-end", u64::from(to == stable));
        let asked = self.promises.starts_asked.entry(id).or_insert(0);
        *asked = (*asked).max(to);
        bench.act(|store, now, fx| store.move_log_start(now, id, Offset(to), fx), &mut |bench| {
            self.look(bench);
        })
    }

    /// Ends the process of a bench, with its power or in good order, and goes on from what is left.
    fn restart(
        &mut self,
        bench: LogBench,
        clean: bool,
        marks: &mut BTreeMap<mainspring_core::io::Mark, u64>,
        time: &mut u64,
    ) -> LogBench {
        self.promises.take(&bench);
        for (mark, count) in &bench.marks {
            *marks.entry(*mark).or_insert(0) += count;
        }
        *time += bench.now();
        let mut disk = bench.disk;
        if clean {
            // What the closed store left under way ends with its process.
            disk.crash();
        } else {
            disk.lose_power();
            self.faults.add("power-cut", 1);
            for id in &self.promises.lazy {
                self.promises.stable.remove(id);
            }
        }
        self.seen.clear();
        self.incarnation += 1;
        let mut next =
            LogBench::new(small_config(self.seed + u64::from(self.incarnation) * 1_000_003), disk);
        let outcome = next.recover(&mut |bench| self.look(bench)).map(|_| ());
        self.stopped(outcome);
        if self.is_over() {
            return next;
        }
        // What did not survive was not promised, and its offsets are given anew.
        let logs: Vec<TopicPartition> = next.store.logs().map(|(id, _)| id).collect();
        self.promises.written.retain(|id, _| logs.contains(id));
        self.promises.batches.retain(|(id, _), _| logs.contains(id));
        self.promises.epochs.retain(|(id, _), _| logs.contains(id));
        self.promises.late.retain(|(id, _), _| logs.contains(id));
        for id in logs {
            let lazy = self.promises.lazy.contains(&id);
            let flush = if lazy { FlushPolicy::Lazy } else { FlushPolicy::Ack };
            next.store.configure(id, small_settings(flush));
            let end = next.store.log_end_offset(id).map_or(0, |end| end.0);
            let written = self.promises.written.entry(id).or_default();
            written.retain(|(offset, _)| *offset < end);
            for ((log, _), batches) in &mut self.promises.batches {
                if *log == id {
                    batches.retain(|batch| batch.base_offset().0 < end);
                }
            }
            // A lazy log may have lost its tail, so less is promised of it.
            let stable = self.promises.stable.entry(id).or_insert(0);
            *stable = (*stable).min(end);
            // What a start serves is promised, the log's start among it.
            let start = next.store.log_start_offset(id).map_or(0, |start| start.0);
            self.promises.starts.insert(id, start);
        }
        // A deletion that was asked for and did not survive leaves a log that lives on.
        self.promises.doomed.retain(|id| next.store.log_end_offset(*id).is_none());
        self.promises.starts_asked.clear();
        next
    }

    /// Looks at everything that a crash at this point could leave.
    fn look(&mut self, bench: &LogBench) {
        if self.is_over() || !self.looks {
            return;
        }
        self.looked += 1;
        if self.looked <= self.skips {
            return;
        }
        self.chance = self.step_chance.child(self.looked);
        self.trace.begin(bench.now(), 1, bench.effects);
        self.count("crash-points", 1);
        self.trace.line(|| format!("in flight: {:?}", bench.disk.describe_in_flight()));
        self.looks_at(0, || {
            format!(
                "a crash strikes here; under way: {}",
                bench.disk.describe_in_flight().join("; ")
            )
        });
        let mut promises = self.promises.clone();
        promises.take(bench);
        // The process dies: what was written is there, what was in flight wholly or not.
        self.recover(bench, &promises, bench.disk.copy(), false);
        self.recover(bench, &promises, bench.disk.with_in_flight(), false);
        if self.chance.chance(60) {
            self.recover_with_rot(bench, &promises);
        }
        // Power is lost: any subset of the pieces is there.
        let units = bench.disk.with_in_flight().pending_units();
        for subset in subsets(units, self.subsets_max, &mut self.chance) {
            let image = bench.disk.after_power_loss(|unit| subset.contains(&unit));
            self.recover(bench, &promises, image, true);
            if self.is_over() {
                return;
            }
        }
    }

    /// Recovers a journal whose acknowledged part is damaged: refused, or served as if it were whole.
    fn recover_with_rot(&mut self, bench: &LogBench, promises: &Promises) {
        let mut image = bench.disk.copy();
        let Some(place) = journal_rot::rot(&mut image, &mut self.chance) else { return };
        self.faults.add("journal-rot", 1);
        self.trace.line(|| format!("rot: {place}"));
        self.looks_at(1, || format!("a bit is flipped in {place}"));
        let mut damaged = LogBench::new(small_config(self.seed), image);
        match damaged.recover(&mut |_| {}) {
            Ok(_) => {
                self.count("journals-in-spite-of-rot", 1);
                let whence = format!("with rot in {place}");
                let Some(contents) = self.contents(&mut damaged, &whence) else { return };
                self.compare(bench, promises, &contents, &contents, false);
            }
            Err(Stop::Fatal(_)) => self.count("journals-refused", 1),
            Err(stop) => self.raise_stop(stop, &format!("with rot in {place}")),
        }
    }

    /// Recovers an image, reads it, and recovers what is durable of it again.
    fn recover(&mut self, bench: &LogBench, promises: &Promises, image: SimDisk, power: bool) {
        if self.is_over() {
            return;
        }
        let key = (image.fingerprint(), fingerprint(promises));
        if !self.seen.insert(key) {
            return;
        }
        self.trace.number(key.0);
        let sector = self.sector;
        self.looks_at(1, || {
            let lost =
                Contents::of(&bench.disk.with_in_flight()).lost(&Contents::of(&image), sector);
            let lost = if lost.is_empty() { "nothing".to_owned() } else { lost.join("; ") };
            let end = if power { "power is lost" } else { "the process dies" };
            format!("{end}, and with it: {lost}; it starts again")
        });
        self.count("images", 1);
        self.trace.line(|| {
            let promised: Vec<i64> = promises.stable.values().copied().collect();
            format!("image {:016x}, power {power}, promised {promised:?}", key.0)
        });
        let whence = if power { "after a power cut" } else { "after a kill" };
        let inside = self.chance.chance(30);
        let mut first = LogBench::new(small_config(key.0), image);
        let mut durable = Vec::new();
        let mut effects = 0;
        let recovered = first.recover(&mut |inner| {
            effects += 1;
            // A crash inside recovery, at any of its effects.
            if inside && effects % 7 == 3 {
                durable.push(inner.disk.after_power_loss(|_| false));
                durable.push(inner.disk.with_in_flight());
            }
        });
        let identity = match recovered {
            Ok(identity) => identity,
            Err(stop) => return self.raise_stop(stop, whence),
        };
        self.tell(&Fact::Ready { node: 0 }, bench.now());
        if let Some(before) = bench.identity
            && (identity.cluster_id, identity.directory_id)
                != (before.cluster_id, before.directory_id)
        {
            self.raise("I16", "recovery gave the directory another identity".into(), bench.now());
        }
        if identity.vote_epoch < promises.voted.unwrap_or(LeaderEpoch(-1)) {
            self.raise("I12", format!("a vote of {:?} is forgotten", promises.voted), bench.now());
        }
        let Some(contents) = self.contents(&mut first, whence) else { return };
        self.check_producers(&mut first, promises, &contents);
        // All that is served after a recovery is durable, so a power cut takes none of it.
        durable.push(first.disk.after_power_loss(|_| false));
        for (nth, image) in durable.into_iter().rev().enumerate() {
            self.count("crashes-in-recovery", u64::from(nth > 0));
            self.trace.line(|| format!("recovered again, crash {nth} of the first recovery"));
            self.looks_at(2, || {
                if nth == 0 {
                    "power is lost behind that start, and it starts again".to_owned()
                } else {
                    format!("that start crashes inside, at its {nth}. place, and it starts again")
                }
            });
            let mut second = LogBench::new(small_config(key.1 ^ nth as u64), image);
            match second.recover(&mut |_| {}) {
                Ok(again) if nth == 0 && again.incarnation <= identity.incarnation => {
                    self.raise("I16", "two starts have one incarnation".into(), bench.now());
                }
                Ok(_) => {}
                Err(stop) => return self.raise_stop(stop, "after a second recovery"),
            }
            let Some(again) = self.contents(&mut second, "after a second recovery") else {
                return;
            };
            // What a crash inside recovery leaves need not be what that recovery would have served.
            let served = if nth == 0 { &contents } else { &again };
            self.compare(bench, promises, served, &again, power || nth > 0);
        }
    }

    fn contents(
        &mut self,
        bench: &mut LogBench,
        whence: &str,
    ) -> Option<BTreeMap<TopicPartition, Content>> {
        let logs: Vec<TopicPartition> = bench.store.logs().map(|(id, _)| id).collect();
        let mut contents = BTreeMap::new();
        for id in logs {
            match bench.content(id) {
                Ok(content) => contents.insert(id, content),
                Err(stop) => {
                    self.raise_stop(stop, whence);
                    return None;
                }
            };
        }
        Some(contents)
    }

    fn compare(
        &mut self,
        bench: &LogBench,
        promises: &Promises,
        first: &BTreeMap<TopicPartition, Content>,
        again: &BTreeMap<TopicPartition, Content>,
        power: bool,
    ) {
        for (&id, written) in &promises.written {
            let found = first.get(&id);
            if promises.deleted.contains(&id) && found.is_some() {
                self.raise("I16", format!("{id} was deleted and is back"), bench.now());
            }
            if promises.doomed.contains(&id) {
                continue;
            }
            if promises.created.contains(&id) && found.is_none() {
                self.raise("I16", format!("{id} was created and is gone"), bench.now());
                return;
            }
            let content = found.cloned().unwrap_or_default();
            let promised = promises.starts.get(&id).copied().unwrap_or(0);
            let asked = promises.starts_asked.get(&id).copied().unwrap_or(0).max(promised);
            if found.is_some() && !(promised..=asked).contains(&content.start) {
                let start = content.start;
                let message = format!("{id} starts at {start}, not in {promised}..={asked}");
                self.raise("I05", message, bench.now());
            }
            let stable = match promises.stable.get(&id) {
                Some(&end) if !(power && promises.lazy.contains(&id)) => end,
                _ => 0,
            };
            let from = content.start;
            let acked: Vec<(i64, u64)> = written
                .iter()
                .filter(|(offset, _)| (from..stable).contains(offset))
                .copied()
                .collect();
            self.count("acked-records", acked.len() as u64);
            let fact = Fact::Recovered {
                partition: id,
                acked,
                written: written.iter().filter(|(offset, _)| *offset >= from).copied().collect(),
                recovered: content.records,
                again: again.get(&id).map(|content| content.records.clone()).unwrap_or_default(),
            };
            self.tell(&fact, bench.now());
        }
    }

    /// The last batches of each producer are duplicates, and the one that follows is not.
    fn check_producers(
        &mut self,
        bench: &mut LogBench,
        promises: &Promises,
        contents: &BTreeMap<TopicPartition, Content>,
    ) {
        for (&(id, producer), batches) in &promises.batches {
            let Some(content) = contents.get(&id) else { continue };
            let end = content.records.last().map_or(content.start, |(last, _)| last + 1);
            let there: Vec<&Batch> = batches
                .iter()
                .filter(|batch| {
                    batch.next_offset().0 <= end && batch.base_offset().0 >= content.start
                })
                .collect();
            for batch in there.iter().rev().take(5) {
                let verdict =
                    bench.act(|store, now, _| store.check_sequence(now, id, batch), &mut |_| {});
                let expected = (batch.base_offset(), batch.last_offset());
                match verdict {
                    Ok(Ok(Sequence::Duplicate { base_offset, last_offset, .. }))
                        if (base_offset, last_offset) == expected => {}
                    other => {
                        let message = format!("a retry of {batch:?} of {id} is judged {other:?}");
                        self.raise("I18", message, bench.now());
                        return;
                    }
                }
                self.count("duplicates-recognised", 1);
            }
            // Whatever is there of the new epoch fences the one before.
            if let (Some(late), false) = (promises.late.get(&(id, producer)), there.is_empty()) {
                let verdict =
                    bench.act(|store, now, _| store.check_sequence(now, id, late), &mut |_| {});
                if !matches!(verdict, Ok(Err(ErrorCode::InvalidProducerEpoch))) {
                    let message =
                        format!("{late:?}, of a past epoch of {id}, is judged {verdict:?}");
                    self.raise("I19", message, bench.now());
                    return;
                }
                self.count("fenced-batches", 1);
            }
        }
    }
}

fn fingerprint(promises: &Promises) -> u64 {
    let mut hash = crate::trace::TraceHash::default();
    for (log, end) in &promises.stable {
        hash.bytes(&log.topic_id.0);
        hash.number(*end as u64);
    }
    for (log, start) in promises.starts.iter().chain(&promises.starts_asked) {
        hash.bytes(&log.topic_id.0);
        hash.number(*start as u64);
    }
    for set in [&promises.deleted, &promises.created, &promises.doomed] {
        hash.number(set.len() as u64);
    }
    hash.number(promises.voted.map_or(0, |epoch| epoch.0 as u64));
    hash.finish()
}

/// Returns subsets of `units` pieces: all of them where they are few and `most` allows it, else a
/// choice of prefixes, suffixes, single holes, pairs and random ones.
fn subsets(units: usize, most: usize, rng: &mut Rng) -> Vec<BTreeSet<usize>> {
    let all: BTreeSet<usize> = (0..units).collect();
    if units <= EXHAUSTIVE_UNITS && 1 << units <= most {
        return (0..1_usize << units)
            .map(|mask| all.iter().copied().filter(|unit| mask >> unit & 1 == 1).collect())
            .collect();
    }
    let mut chosen = vec![BTreeSet::new(), all.clone()];
    while chosen.len() < most.max(2) {
        let at = rng.index(units);
        let subset = match rng.below(5) {
            0 => (0..at).collect(),
            1 => (at..units).collect(),
            2 => all.iter().copied().filter(|unit| *unit != at).collect(),
            3 => BTreeSet::from([at, rng.index(units)]),
            _ => all.iter().copied().filter(|_| rng.chance(500)).collect(),
        };
        chosen.push(subset);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pieces_are_tried_in_every_subset() {
        let mut rng = Rng::new(1, Stream::Faults);
        let found: BTreeSet<_> = subsets(4, 16, &mut rng).into_iter().collect();
        assert_eq!(found.len(), 16);
    }

    #[test]
    fn of_many_pieces_none_all_and_a_choice_are_tried() {
        let mut rng = Rng::new(1, Stream::Faults);
        let found = subsets(40, 50, &mut rng);
        assert_eq!(found.len(), 50);
        assert!(found.iter().any(BTreeSet::is_empty) && found.iter().any(|set| set.len() == 40));
    }
}
