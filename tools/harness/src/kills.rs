//! Kill -9 and power cuts under load: nothing acknowledged is lost, nothing is there twice.

use std::time::{Duration, Instant};

use crate::broker::{Broker, Folder, Serve};
use crate::checks::{Checks, Outcome, ensure};
use crate::client::Client;
use crate::load::{Address, Writer};
use crate::random::Random;

/// What a kill takes away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The process alone: what it has written survives.
    Process,
    /// Everything that was not flushed.
    Power,
    /// The same, on a disk whose flushes do nothing.
    PowerWithoutFlush,
}

/// Settings that make segments and journal files turn over within a short run.
const SETTINGS: [&str; 2] = ["log.segment.bytes=1048576", "log.retention.check.interval.ms=500"];

/// Runs the cycles of every kind.
pub(crate) fn run(checks: &mut Checks, cycles: u64, seed: Option<u64>) {
    let seed = seed.unwrap_or_else(Random::fresh_seed);
    println!("seed {seed}");
    checks.note("kill -9 loses nothing acknowledged and doubles nothing", {
        Cycles::new(Cut::Process, seed).and_then(|mut run| run.all(cycles))
    });
    checks.note("a power cut loses nothing acknowledged and doubles nothing", {
        Cycles::new(Cut::Power, seed).and_then(|mut run| run.all(cycles))
    });
    checks.note("a broker whose flushes do nothing is caught by power cuts", caught(seed));
}

/// The cycles must notice a broken disk, else they would notice nothing.
fn caught(seed: u64) -> Outcome<String> {
    const MOST: u64 = 20;
    let mut run = Cycles::new(Cut::PowerWithoutFlush, seed)?;
    match run.all(MOST) {
        Err(problem) => Ok(format!("after {} cycles: {problem}", run.done)),
        Ok(_) => Err(format!("{MOST} cycles found nothing lost")),
    }
}

struct Cycles {
    cut: Cut,
    serve: Serve,
    random: Random,
    address: Address,
    writers: Vec<Writer>,
    verified: Vec<u64>,
    broker: Option<Broker>,
    done: u64,
    slowest: Duration,
    /// The topic that is made and deleted as the cycles go, where its state is known.
    churn: Option<(u64, bool)>,
    _folder: Folder,
}

impl Cycles {
    fn new(cut: Cut, seed: u64) -> Outcome<Self> {
        let folder = Folder::new();
        let mut serve = Serve::within(folder.path()).set(&SETTINGS);
        match cut {
            Cut::Process => {}
            Cut::Power | Cut::PowerWithoutFlush => {
                serve = serve.with("MAINSPRING_TEST_DISK", "power-cut");
            }
        }
        let address = Address::default();
        let mut broker = serve.start()?;
        let mut client = Client::connect(&broker.address)?;
        client.create_topic("strict", 3, &[])?;
        if cut == Cut::PowerWithoutFlush {
            // The disk breaks once the directory is made, so that it is records that get lost.
            broker.stop(Duration::from_secs(10))?;
            serve = serve.with("MAINSPRING_TEST_DISK", "no-flush");
            broker = serve.start()?;
            client = Client::connect(&broker.address)?;
        }
        address.set(&broker.address);
        let mut targets = vec![("strict", 0), ("strict", 1), ("strict", 2)];
        if cut == Cut::Process {
            // The page cache outlives the process, so lazy topics lose nothing to it either.
            client.create_topic("lazy", 1, &[("mainspring.flush", "lazy")])?;
            targets.push(("lazy", 0));
        }
        let writers: Vec<Writer> = targets
            .iter()
            .map(|(topic, partition)| {
                Writer::start(&address, topic, *partition, seed + *partition as u64)
            })
            .collect();
        Ok(Self {
            cut,
            serve,
            random: Random::new(seed),
            address,
            verified: vec![0; writers.len()],
            writers,
            broker: Some(broker),
            done: 0,
            slowest: Duration::ZERO,
            churn: None,
            _folder: folder,
        })
    }

    fn all(&mut self, cycles: u64) -> Outcome<String> {
        while self.done < cycles {
            self.cycle().map_err(|problem| format!("cycle {}: {problem}", self.done))?;
            self.done += 1;
        }
        for writer in &mut self.writers {
            writer.finish()?;
        }
        let mut client = Client::connect(&self.broker.as_ref().expect("it runs").address)?;
        let mut records = 0;
        for writer in &self.writers {
            records += writer.verify(&mut client, writer.acknowledged(), 0)?;
        }
        let acknowledged: u64 = self.writers.iter().map(Writer::acknowledged).sum();
        ensure(records == acknowledged, || {
            format!("{acknowledged} records were acknowledged, {records} are there")
        })?;
        ensure(acknowledged > cycles * 20, || format!("only {acknowledged} records were written"))?;
        if let Some(broker) = self.broker.take() {
            let (status, _) = broker.stop(Duration::from_secs(10))?;
            ensure(status.success(), || format!("the last stop ended with {status}"))?;
        }
        let slowest = self.slowest.as_millis();
        Ok(format!("{cycles} cycles, {acknowledged} records, slowest restart {slowest} ms"))
    }

    fn cycle(&mut self) -> Outcome {
        self.churn()?;
        std::thread::sleep(Duration::from_millis(20 + self.random.below(180)));
        let acknowledged: Vec<u64> = self.writers.iter().map(Writer::acknowledged).collect();
        if let Some(broker) = self.broker.take() {
            broker.kill();
        }
        // Some starts are killed too, in the middle of their recovery.
        if self.random.below(5) == 0 {
            let mut child = self.serve.spawn()?;
            std::thread::sleep(Duration::from_millis(self.random.below(40)));
            let _ = child.kill();
            let _ = child.wait();
        }
        let start = Instant::now();
        let broker = self.serve.start()?;
        self.slowest = self.slowest.max(start.elapsed());
        self.address.set(&broker.address);
        let mut client = Client::connect(&broker.address)?;
        let whole = self.done % 10 == 9 || self.cut == Cut::PowerWithoutFlush;
        for (at, writer) in self.writers.iter().enumerate() {
            let from = if whole { 0 } else { self.verified[at].saturating_sub(500) };
            writer.verify(&mut client, acknowledged[at], from as i64)?;
            self.verified[at] = acknowledged[at];
        }
        if let Some((number, there)) = self.churn {
            let found = client.topics()?.contains(&format!("churn-{number}"));
            ensure(found == there, || {
                format!("topic churn-{number}: {found}, yet it should be {there}")
            })?;
        }
        self.broker = Some(broker);
        if self.writers.iter().any(Writer::gave_up) {
            for writer in &mut self.writers {
                writer.finish()?;
            }
        }
        Ok(())
    }

    /// Makes a topic in one cycle and deletes it in the next, each confirmed before the kill.
    fn churn(&mut self) -> Outcome {
        let mut client = Client::connect(&self.broker.as_ref().expect("it runs").address)?;
        let number = self.done / 2;
        let name = format!("churn-{number}");
        if self.done.is_multiple_of(2) {
            client.create_topic(&name, 1, &[])?;
            self.churn = Some((number, true));
        } else {
            client.delete_topic(&name)?;
            self.churn = Some((number, false));
        }
        Ok(())
    }
}
