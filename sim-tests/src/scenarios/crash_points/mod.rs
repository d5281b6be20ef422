//! Recovery at every crash point of a storage workload.
//!
//! Behind each effect and each completion of a [`LogBench`] the run stops and looks at what a
//! crash at that point could leave: the page image, and the durable image with every subset of
//! the pending pieces (all of them up to twelve pieces, a choice beyond). Each is recovered, read
//! to the end, and recovered again from what the first recovery had made durable.
//!
//! At times a bit of the journal's acknowledged part is flipped in a copy: the start must refuse it, or
//! serve all that was promised.

mod judge;
mod promises;
pub mod script;
mod steps;
mod subsets;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use self::promises::Promises;
use self::steps::{SCRIPT, random_step};
use super::{RunOptions, Scenario, journal_rot};
use crate::checkers::{self, Alarm, Checker};
use crate::disk::{DiskOptions, SimDisk};
use crate::history::Fact;
use crate::log_bench::{LogBench, Stop, small_config};
use crate::rng::{Rng, Stream};
use crate::schedule::{Plan, SlicePlan, StepPlan, StepsPlan};
use crate::story::{Lane, Story, What};
use crate::trace::Trace;
use crate::world::{FaultCounts, Outcome};

pub use self::steps::Step;

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
        ("truncations", 20),
        ("truncations-undone", 20),
        ("images-read-otherwise", 500),
    ],
    armed: &["I07", "I16", "I41"],
};

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
    /// Which crash points are looked at, and then at everything.
    slice: Option<SlicePlan>,
    /// Crash points so far, those included at which nobody looked.
    points: u64,
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
        slice: None,
        looks_at_start: true,
        steps: steps.collect(),
    })
}

/// Runs a plan; `seed` is that of all chance.
pub(crate) fn run(plan: &StepsPlan, seed: u64, how: &RunOptions) -> Outcome {
    let chances = Rng::new(seed, Stream::Faults);
    // A slice says itself what happens, and the seed only what is looked at by chance.
    let seed = plan.slice.map_or(seed, |slice| slice.seed);
    let disk = SimDisk::new(
        DiskOptions { sector: plan.sector, ..DiskOptions::default() },
        Rng::new(seed, Stream::Disk(0)),
    );
    let mut run = Run {
        seed,
        chance: chances.child(0),
        step_chance: chances.child(0),
        skips: 0,
        looked: 0,
        chances,
        looks: plan.looks_at_start,
        subsets_max: plan.subsets_max,
        slice: plan.slice,
        points: 0,
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
    run.count("writes", bench.disk.counters().writes);
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

    fn count_of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }
}
