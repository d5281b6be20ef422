//! Random input for every decoder: kept inputs are damaged and given to the fuzz bodies of `core`.
//!
//! It needs no special compiler. Each execution runs with its panics caught and its memory counted; an
//! input that panics, takes more memory than any input may, or takes longer than a second, is written
//! below `core/fuzz/artifacts` and counts as failed. The same seed does the same.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

#[path = "../random.rs"]
#[expect(dead_code, reason = "fuzzing wants its seed from the caller")]
mod random;
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mainspring_core::coordinator::{group, transaction};
use mainspring_core::{client, connection, log, record, wire};
use peak_alloc::PeakAlloc;
use random::Random;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Most bytes that one execution may take; the bodies bound decompression to 64 KiB.
const MEMORY_MAX: usize = 32 << 20;
/// Longest that one execution may take.
const TIME_MAX: Duration = Duration::from_secs(1);
/// Longest input that is made.
const LEN_MAX: usize = 1 << 16;
/// Findings of a target after which it is given up.
const FINDINGS_MAX: usize = 5;

/// A body, and the inputs that it starts from.
struct Target {
    name: &'static str,
    body: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
}

const TARGETS: &[Target] = &[
    Target { name: "frames", body: connection::fuzz::frames, seeds: seeds::frames },
    Target { name: "wire_request", body: wire::fuzz::request, seeds: seeds::requests },
    Target { name: "wire_response", body: wire::fuzz::response, seeds: seeds::responses },
    Target {
        name: "metadata_record",
        body: wire::fuzz::metadata_record,
        seeds: || seeds::kept("metadata_record"),
    },
    Target { name: "produced", body: resealed_produced, seeds: seeds::batches },
    Target { name: "wishes", body: record::fuzz::wishes, seeds: seeds::wishes },
    Target { name: "cron", body: record::fuzz::cron, seeds: seeds::crons },
    Target { name: "batches", body: record::fuzz::batches, seeds: seeds::batches },
    Target { name: "records", body: record::fuzz::records, seeds: seeds::records },
    Target { name: "compressed", body: record::fuzz::compressed, seeds: seeds::compressed },
    Target { name: "log_files", body: record::fuzz::log_files, seeds: seeds::log_files },
    Target { name: "journal", body: log::fuzz::journal, seeds: log::fuzz::samples },
    Target {
        name: "consumer_protocol",
        body: wire::fuzz::consumer_protocol,
        seeds: seeds::consumer_protocol,
    },
    Target {
        name: "subscription",
        body: client::group::fuzz::subscription,
        seeds: seeds::consumer_protocol,
    },
    Target { name: "group_record", body: wire::fuzz::group_record, seeds: seeds::group_records },
    Target { name: "group_log", body: group::fuzz::log, seeds: seeds::group_logs },
    Target {
        name: "transaction_log",
        body: transaction::fuzz::log,
        seeds: seeds::transaction_logs,
    },
    Target { name: "start_files", body: log::fuzz::start_files, seeds: log::fuzz::samples },
];

/// Bytes of a Produce request as they are, and with a right CRC, so that damage is seen behind it.
fn resealed_produced(bytes: &[u8]) {
    record::fuzz::produced(bytes);
    let mut sealed = bytes.to_vec();
    if let Ok(batch) = record::batch::Batch::split_from(&mut sealed.clone().into()) {
        sealed[17..21].copy_from_slice(&batch.compute_crc().to_be_bytes());
        record::fuzz::produced(&sealed);
    }
}

/// What the command line asks for.
struct Plan {
    executions: u64,
    seed: u64,
    target: Option<String>,
}

impl Plan {
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut plan = Self { executions: 2_200_000, seed: 1, target: None };
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            let value = rest.next()?;
            match option.as_str() {
                "--executions" => plan.executions = value.parse().ok()?,
                "--seed" => plan.seed = value.parse().ok()?,
                "--target" => plan.target = Some(value.clone()),
                _ => return None,
            }
        }
        Some(plan)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(plan) = Plan::parse(&arguments) else {
        println!("usage: fuzz [--executions N] [--seed S] [--target NAME]");
        return ExitCode::from(2);
    };
    let wanted: Vec<&Target> = TARGETS
        .iter()
        .filter(|target| plan.target.as_ref().is_none_or(|name| name == target.name))
        .collect();
    if wanted.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        println!("there is no such target; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    // A panic is told once, with its input, and not by the default hook as well.
    std::panic::set_hook(Box::new(|_| {}));
    let each = plan.executions.div_ceil(wanted.len() as u64);
    let (mut passed, mut failed, mut executions) = (0, 0, 0);
    for target in wanted {
        let run = run(target, each, plan.seed);
        executions += run.executions;
        println!(
            "{:<18} {:>9} executions, {:>5} seeds, peak {:>6} KiB, slowest {:>7.1} ms, {} findings",
            target.name,
            run.executions,
            run.seeds,
            run.peak >> 10,
            run.slowest.as_secs_f64() * 1e3,
            run.findings
        );
        if run.findings == 0 && run.seeds > 0 && run.executions > 0 {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    println!("{executions} executions with seed {}", plan.seed);
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What became of a target.
#[derive(Default)]
struct Run {
    executions: u64,
    seeds: usize,
    findings: usize,
    peak: usize,
    slowest: Duration,
}

fn run(target: &Target, executions: u64, seed: u64) -> Run {
    let seeds = (target.seeds)();
    let mut run = Run { seeds: seeds.len(), ..Run::default() };
    let mut random = Random::new(seed);
    let mut input = Vec::new();
    while run.executions < executions && run.findings < FINDINGS_MAX && !seeds.is_empty() {
        // Every seed is tried as it is before any is damaged.
        input.clear();
        if let Some(seed) = seeds.get(run.executions as usize) {
            input.extend_from_slice(seed);
        } else {
            damage(&mut input, &seeds, &mut random);
        }
        run.executions += 1;
        let before = PeakAlloc.current_usage();
        PeakAlloc.reset_peak_usage();
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.body)(&input)));
        let took = start.elapsed();
        let peak = PeakAlloc.peak_usage().saturating_sub(before);
        run.peak = run.peak.max(peak);
        run.slowest = run.slowest.max(took);
        let finding = match outcome {
            Err(panic) => Some(words(panic.as_ref())),
            Ok(()) if peak > MEMORY_MAX => Some(format!("took {peak} bytes of memory")),
            Ok(()) if took > TIME_MAX => Some(format!("took {took:?}")),
            Ok(()) => None,
        };
        if let Some(finding) = finding {
            run.findings += 1;
            keep(target.name, run.executions, &input, &finding);
        }
    }
    run
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}

/// Writes an input that found something where a person will look for it.
fn keep(target: &str, execution: u64, input: &[u8], finding: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.join("core/fuzz/artifacts").join(target);
    let file = folder.join(format!("{execution}"));
    let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, input));
    println!("{target}: {finding}; {} bytes, {} {kept:?}", input.len(), file.display());
}

/// Makes an input: one seed, or two joined, with a few bytes changed, moved, doubled or lost.
fn damage(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let mut below = |bound: usize| random.below(bound as u64) as usize;
    input.extend_from_slice(&seeds[below(seeds.len())]);
    if below(8) == 0 {
        let other = &seeds[below(seeds.len())];
        let at = below(input.len() + 1);
        let from = below(other.len() + 1);
        input.truncate(at);
        input.extend_from_slice(&other[from..]);
    }
    for _ in 0..=below(4) {
        if input.is_empty() {
            input.push(below(256) as u8);
            continue;
        }
        let at = below(input.len());
        match below(8) {
            0 => input[at] ^= 1 << below(8),
            1 => input[at] = below(256) as u8,
            2 => input[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
            3 => {
                let edges = [0_u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0x00ff_ffff, 1 << 16];
                let edge = edges[below(edges.len())].to_be_bytes();
                for (byte, edge) in input[at..].iter_mut().zip(edge) {
                    *byte = edge;
                }
            }
            4 => input.truncate(at),
            5 => {
                let end = (at + 1 + below(16)).min(input.len());
                input.drain(at..end);
            }
            6 => {
                let end = (at + 1 + below(64)).min(input.len());
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            _ => {
                let count = 1 + below(8);
                let part: Vec<u8> = (0..count).map(|_| below(256) as u8).collect();
                input.splice(at..at, part);
            }
        }
    }
    input.truncate(LEN_MAX);
}
