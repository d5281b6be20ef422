//! What holds a node still, or ends it at once, from outside: its lane and the threads of its disk look here.
//!
//! A node that is held does nothing: its lane's thread stands, and with it every connection, listener and
//! timer; no operation on a file begins. What the system does for it goes on, as for a process that was
//! stopped: connections are accepted, and what comes on them waits.
//!
//! Invariants:
//! 1. Once [`Reins::hold`] or [`Reins::end`] has returned, no operation on a file is under way.
//! 2. Nothing is done after the end; it cannot be taken back.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mainspring_core::io::{DiskError, DiskErrorKind};

use crate::disk::{Files, Operation, Outcome};
use crate::rt::{self, Notify};

/// What a node is to do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Order {
    #[default]
    Go,
    Hold,
    End,
}

#[derive(Default, Debug)]
struct State {
    order: Order,
    /// Whether the lane's thread stands here.
    is_lane_held: bool,
    /// Whether the lane has ended.
    is_lane_gone: bool,
    /// Operations on files that are under way.
    working: usize,
}

/// Holds one node.
#[derive(Debug)]
pub(crate) struct Reins {
    state: Mutex<State>,
    changed: Condvar,
    notify: Arc<Notify>,
}

impl Reins {
    /// Lets a node go.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), notify: rt::notifier() })
    }

    /// Holds the node, and returns when it stands. A node that has ended stands for ever.
    #[cfg_attr(madsim, expect(dead_code, reason = "the simulator holds its nodes itself"))]
    pub(crate) fn hold(&self) {
        self.order(Order::Hold);
        let moves = |state: &State| {
            let lane = !state.is_lane_held && !state.is_lane_gone;
            state.order == Order::Hold && (lane || state.working > 0)
        };
        drop(self.wait_while(moves));
    }

    /// Lets the node go on.
    pub(crate) fn release(&self) {
        self.order(Order::Go);
    }

    /// Ends the node, and returns when nothing more is written. Its lane ends soon after.
    #[cfg_attr(madsim, expect(dead_code, reason = "the simulator ends its nodes itself"))]
    pub(crate) fn end(&self) {
        self.order(Order::End);
        drop(self.wait_while(|state| state.working > 0));
    }

    /// Returns when the node is to end at once. Until then its thread stands here whenever the node is held,
    /// and with it everything else that it runs.
    pub(crate) async fn ended(&self) {
        while self.stand() != Order::End {
            self.notify.notified().await;
        }
    }

    /// Stands as long as the node is held, and returns what it is to do then.
    fn stand(&self) -> Order {
        let mut state = self.state();
        while state.order == Order::Hold {
            state.is_lane_held = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_lane_held = false;
        state.order
    }

    /// Makes what says that the lane has ended, when it is dropped.
    pub(crate) fn lane(self: &Arc<Self>) -> LaneGuard {
        LaneGuard(Arc::clone(self))
    }

    /// Does something with a file, once the node may; `None` when it has ended.
    fn work<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        {
            let mut state = self.wait_while(|state| state.order == Order::Hold);
            if state.order == Order::End {
                return None;
            }
            state.working += 1;
        }
        let working = Working(self);
        let done = work();
        drop(working);
        Some(done)
    }

    fn order(&self, order: Order) {
        let mut state = self.state();
        if state.order != Order::End {
            state.order = order;
        }
        drop(state);
        self.changed.notify_all();
        self.notify.notify_one();
    }

    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_while(self.state(), |state| condition(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives as long as the lane does.
#[derive(Debug)]
pub(crate) struct LaneGuard(Arc<Reins>);

impl Drop for LaneGuard {
    fn drop(&mut self) {
        self.0.state().is_lane_gone = true;
        self.0.changed.notify_all();
    }
}

/// Lives as long as an operation on a file, which may end in a panic.
struct Working<'a>(&'a Reins);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.working -= 1;
        let is_watched = state.order != Order::Go;
        drop(state);
        if is_watched {
            self.0.changed.notify_all();
        }
    }
}

/// Files of a node that may be held and ended.
pub(crate) struct ReinedFiles<F> {
    files: F,
    reins: Arc<Reins>,
}

impl<F: Files> ReinedFiles<F> {
    /// Makes them.
    pub(crate) const fn new(files: F, reins: Arc<Reins>) -> Self {
        Self { files, reins }
    }
}

impl<F: Files> Files for ReinedFiles<F> {
    fn perform(&self, operation: Operation) -> Outcome {
        let (verb, file) = (operation.verb(), operation.subject().clone());
        let done = self.reins.work(|| self.files.perform(operation));
        done.unwrap_or_else(|| {
            // Nobody is left who would read it.
            Err(DiskError {
                operation: verb,
                file,
                kind: DiskErrorKind::Other,
                message: "the node was ended".to_owned(),
            })
        })
    }
}

#[cfg(all(test, not(madsim)))]
#[expect(
    clippy::disallowed_methods,
    reason = "threads outside any runtime, as those of a disk are"
)]
mod tests {
    use std::sync::mpsc::{TryRecvError, channel};
    use std::thread;

    use super::*;

    #[test]
    fn an_operation_that_is_under_way_ends_before_the_node_stands() {
        let reins = Reins::new();
        drop(reins.lane());
        let (began, begun) = channel();
        let (finish, finished) = channel::<()>();
        let worker = thread::spawn({
            let reins = Arc::clone(&reins);
            move || reins.work(|| began.send(()).is_ok() && finished.recv().is_ok())
        });
        begun.recv().expect("it begins");
        let (stood, standing) = channel();
        let holder = thread::spawn({
            let reins = Arc::clone(&reins);
            move || {
                reins.hold();
                stood.send(()).is_ok()
            }
        });
        while reins.state().order != Order::Hold {
            thread::yield_now();
        }
        assert_eq!(standing.try_recv(), Err(TryRecvError::Empty));
        finish.send(()).expect("it waits for that");
        standing.recv().expect("it stands");
        assert_eq!(worker.join().expect("it ends"), Some(true));
        assert!(holder.join().expect("it ends"));
    }

    #[test]
    fn what_waits_goes_on_when_the_node_does_and_is_not_done_when_the_node_ends() {
        let reins = Reins::new();
        drop(reins.lane());
        let done = Arc::new(Mutex::new(0));
        let work = || {
            let (reins, done) = (Arc::clone(&reins), Arc::clone(&done));
            thread::spawn(move || reins.work(|| *done.lock().expect("nobody panics") += 1))
        };
        let so_far = || *done.lock().expect("nobody panics");
        reins.hold();
        let waiting = work();
        assert_eq!(so_far(), 0);
        reins.release();
        assert_eq!(waiting.join().expect("it ends"), Some(()));
        assert_eq!(so_far(), 1);
        reins.hold();
        let waiting = work();
        reins.end();
        assert_eq!(waiting.join().expect("it ends"), None);
        reins.release();
        assert_eq!(work().join().expect("it ends"), None, "an end is for ever");
        assert_eq!(so_far(), 1);
    }

    #[test]
    fn a_lane_stands_while_it_is_held_and_leaves_at_the_end() {
        let reins = Reins::new();
        let (ticked, ticks) = channel();
        rt::spawn_lane("lane", {
            let (reins, guard) = (Arc::clone(&reins), reins.lane());
            async move {
                let ticking = async {
                    while ticked.send(()).is_ok() {
                        rt::sleep(std::time::Duration::from_millis(1)).await;
                    }
                };
                rt::select_biased! {
                    () = reins.ended() => {}
                    () = ticking => {}
                }
                guard
            }
        })
        .expect("a thread starts");
        ticks.recv().expect("it runs");
        reins.hold();
        assert!(reins.state().is_lane_held);
        let _ = ticks.try_iter().count();
        assert_eq!(ticks.try_recv(), Err(TryRecvError::Empty));
        reins.release();
        ticks.recv().expect("it goes on");
        reins.hold();
        reins.end();
        assert!(ticks.iter().count() <= 1, "it has left");
        assert!(reins.wait_while(|state| !state.is_lane_gone).is_lane_gone);
    }
}
