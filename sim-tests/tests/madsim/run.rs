//! What every run has: a trace, and checks at its end that hold whatever the test is about.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use madsim::runtime::Handle;
use mainspring_core::io::Effect;
use mainspring_sim::trace::Trace;

/// How long tasks that are done may live on: a connection that was closed lingers for a second.
const AFTERGLOW: Duration = Duration::from_secs(3);
/// Longest virtual time that something is waited for which nothing holds up.
const PATIENCE: Duration = Duration::from_mins(2);

thread_local! {
    /// A run has a thread of its own.
    static TRACE: RefCell<Trace> = RefCell::new(Trace::new(None));
    static REACHED: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Runs a test to its end. Then no task is left, and the thread has read and written no file.
///
/// Prints one line with the hash of the trace; `cargo sim` counts these lines, and compares them
/// between runs of the same seed. A second line says how often the states were reached that the test is
/// about; over many seeds none of them may have stayed at zero.
#[expect(clippy::print_stdout, reason = "`cargo sim` reads these lines")]
pub(crate) async fn run(test: impl Future<Output = ()>) {
    let cost = (system_calls(), system_calls());
    test.await;
    madsim::time::sleep(AFTERGLOW).await;
    let metrics = Handle::current().metrics();
    let left = metrics.num_tasks();
    assert!(left == 0, "{left} tasks have not ended: {}", metrics.num_tasks_by_node_by_spawn());
    if let ((Some(zero), Some(first)), Some(last)) = (cost, system_calls()) {
        let (looking, all) = (first - zero, last - first);
        let others = all - looking;
        // The allocator reads once how the kernel gives out memory.
        assert!(others <= 1, "{others} calls have read or written real files");
    }
    let (seed, now) = (Handle::current().seed(), now());
    TRACE.with_borrow_mut(|trace| {
        trace.number(now);
        println!("trace of seed {seed}: {:016x} over {} facts", trace.hash(), trace.events());
    });
    REACHED.with_borrow(|reached| {
        for (state, count) in reached {
            println!("reached in seed {seed}: {count} {state}");
        }
    });
}

/// Counts states that a test is about; 0 declares one.
pub(crate) fn reach(state: &'static str, count: usize) {
    REACHED.with_borrow_mut(|reached| *reached.entry(state).or_default() += count as u64);
}

/// Enters a fact into the trace, with its moment.
pub(crate) fn note(fact: impl Display) {
    let now = now();
    TRACE.with_borrow_mut(|trace| {
        trace.begin(now, 0, 0);
        trace.bytes(fact.to_string().as_bytes());
    });
}

/// Enters an operation that the disk is asked for.
pub(crate) fn note_effect(effect: &Effect) {
    let now = now();
    TRACE.with_borrow_mut(|trace| {
        trace.begin(now, 1, 0);
        trace.effect(now, 0, 0, effect);
    });
}

/// Waits for something that nothing holds up.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = now();
    while !is_so() {
        madsim::time::sleep(Duration::from_millis(1)).await;
        assert!(now() - start < PATIENCE.as_nanos() as u64, "it never comes that {what}");
    }
}

/// Bounds a wait by virtual time.
pub(crate) async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    let outcome = madsim::time::timeout(limit, future).await;
    outcome.unwrap_or_else(|_| panic!("{what} takes more than {limit:?}"))
}

/// Returns the virtual time in nanoseconds.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is this century").as_nanos() as u64
}

/// How often this thread has called the system to read or write, where the system tells.
fn system_calls() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    let count = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    Some(count("syscr:")? + count("syscw:")?)
}
