//! Client machines on threads of their own, for programs that are not asynchronous.
//!
//! A task owns a machine and its sockets and runs on a shared runtime; a program's threads hand
//! it closures and get [`Call`]s. Nothing here waits for a program's thread.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainspring_core::time::Now;

use super::call::{Call, Fate, Promise};
use super::{Driver, Machine, Poke};
use crate::rt::{Threads, mpsc};

/// The threads that clients run on. They end when this is dropped by all of its users.
#[derive(Clone, Debug)]
pub struct Background {
    threads: Arc<Threads>,
    told: Arc<Told>,
}

/// Most warnings that wait for somebody to take them.
const TOLD_MAX: usize = 256;

/// What clients tell people: of brokers that come and go, and of positions that are not in their logs.
#[derive(Debug, Default)]
pub struct Told {
    waiting: Mutex<VecDeque<String>>,
    changed: Condvar,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, told: Vec<String>) {
        let mut waiting = self.lock();
        waiting.extend(told);
        let surplus = waiting.len().saturating_sub(TOLD_MAX);
        waiting.drain(..surplus);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits for as long as is given, and takes what there is to tell.
    pub fn take(&self, limit: Duration) -> Vec<String> {
        let waiting = self.lock();
        let waited = self.changed.wait_timeout_while(waiting, limit, |waiting| waiting.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.drain(..).collect()
    }
}

impl Background {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(threads: usize) -> io::Result<Self> {
        Ok(Self { threads: Arc::new(Threads::start(threads)?), told: Arc::default() })
    }

    /// Gives what clients tell people.
    pub fn told(&self) -> Arc<Told> {
        Arc::clone(&self.told)
    }

    /// Runs a future to its end, in the background.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.threads.spawn(future);
    }
}

type Order<M> = Box<dyn FnOnce(&mut M, Now) + Send>;

/// The side of a machine in the background that a program's threads hold. Once all of it is dropped,
/// the machine ends.
pub(super) struct Door<M> {
    orders: mpsc::UnboundedSender<Order<M>>,
    poke: Poke,
    fate: Fate,
}

impl<M> Clone for Door<M> {
    fn clone(&self) -> Self {
        Self { orders: self.orders.clone(), poke: self.poke.clone(), fate: self.fate.clone() }
    }
}

impl<M> std::fmt::Debug for Door<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door")
    }
}

impl<M> Door<M> {
    /// Has something done to the machine, and returns whether it still runs.
    pub(super) fn order(&self, order: impl FnOnce(&mut M, Now) + Send + 'static) -> bool {
        let sent = self.orders.send(Box::new(order)).is_ok();
        self.poke.poke();
        sent
    }

    /// Asks the machine something.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut M, Now) -> T + Send + 'static,
    ) -> Call<T> {
        self.request(|machine, now, promise| promise.complete(question(machine, now)))
    }

    /// Asks the machine for something that it answers in its own time.
    pub(super) fn request<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut M, Now, Promise<T>) + Send + 'static,
    ) -> Call<T> {
        self.try_request(request).0
    }

    /// Asks the machine for something as [`request`](Self::request) does; it is done with `at_end`
    /// where the machine has come to its end in order.
    pub(super) fn request_or<T: Send + 'static>(
        &self,
        at_end: T,
        request: impl FnOnce(&mut M, Now, Promise<T>) + Send + 'static,
    ) -> Call<T> {
        let (call, is_asked) = self.try_request(request);
        if is_asked || self.fate.is_panicked() { call } else { Call::ready(at_end) }
    }

    fn try_request<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut M, Now, Promise<T>) + Send + 'static,
    ) -> (Call<T>, bool) {
        let promise = Promise::new(&self.fate);
        let call = promise.call();
        let is_asked = self.order(move |machine, now| request(machine, now, promise));
        (call, is_asked)
    }

    /// Returns whether the task that ran the machine has panicked.
    pub(super) fn is_panicked(&self) -> bool {
        self.fate.is_panicked()
    }

    /// Gives what promises are made with that the machine keeps.
    pub(super) fn fate(&self) -> &Fate {
        &self.fate
    }

    /// Has the task panic.
    #[cfg(debug_assertions)]
    pub(super) fn break_down(&self) {
        self.order(|_, _| panic!("a task of a client was told to panic"));
    }

    /// Wakes the machine, to look at what it shares with the program.
    pub(super) fn poke(&self) {
        self.poke.poke();
    }
}

/// A machine that also has work of its own between its inputs.
pub(super) trait Work: Machine + Send + 'static {
    /// Does what there is to do, and says how soon it must be asked again: `None` where only an input
    /// or a poke brings more.
    fn work(&mut self, now: Now) -> Option<Duration>;
    /// Whether it has ended.
    fn is_over(&self) -> bool;
}

/// Starts a machine in the background.
///
/// Where it panics, everything that its task holds is dropped, orders and promises with it: whoever waits
/// learns of that by them.
pub(super) fn run<M: Work>(background: &Background, machine: M) -> Door<M> {
    let driver = Driver::new(machine);
    let (orders, queue) = mpsc::unbounded_channel::<Order<M>>();
    let fate = Fate::default();
    let door = Door { orders, poke: driver.poke(), fate: fate.clone() };
    let all_told = background.told();
    background.spawn(async move {
        let (mut driver, mut queue) = (driver, queue);
        // Dropped first of all: what is dropped after it is known to be dropped by a panic.
        let _watch = fate.watch();
        loop {
            let now = driver.now();
            // Whoever drops its side orders the end first, so there is no need to look for that.
            while let Ok(order) = queue.try_recv() {
                order(driver.machine(), now);
            }
            let pause = driver.machine().work(now);
            if driver.machine().is_over() {
                break;
            }
            let until = pause.map(|pause| now.mono + pause);
            let told = driver.take_told();
            if !told.is_empty() {
                all_told.push(told);
            }
            driver.turn(until).await;
        }
        // Whoever asked meanwhile is answered; whoever asks from here on is told that it has ended.
        queue.close();
        let now = driver.now();
        while let Ok(order) = queue.try_recv() {
            order(driver.machine(), now);
        }
        driver.machine().work(now);
        let told = driver.take_told();
        if !told.is_empty() {
            all_told.push(told);
        }
        driver.drained().await;
    });
    door
}
