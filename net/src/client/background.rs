//! Client machines on threads of their own, for programs that are not asynchronous.
//!
//! A task owns a machine and its sockets and runs on a shared runtime; a program's threads hand
//! it closures and get [`Call`]s. Nothing here waits for a program's thread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mainspring_core::time::Now;

use super::call::Call;
use super::{Driver, Machine, Poke};
use crate::rt::{Threads, mpsc};

/// The threads that clients run on. They end when this is dropped by all of its users.
#[derive(Clone, Debug)]
pub struct Background(Arc<Threads>);

impl Background {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(threads: usize) -> io::Result<Self> {
        Ok(Self(Arc::new(Threads::start(threads)?)))
    }

    /// Runs a future to its end, in the background.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(future);
    }
}

type Order<M> = Box<dyn FnOnce(&mut M, Now) + Send>;

/// The side of a machine in the background that a program's threads hold. Once all of it is dropped,
/// the machine ends.
pub(super) struct Door<M> {
    orders: mpsc::UnboundedSender<Order<M>>,
    poke: Poke,
}

impl<M> Clone for Door<M> {
    fn clone(&self) -> Self {
        Self { orders: self.orders.clone(), poke: self.poke.clone() }
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

    /// Asks the machine something. Where it has ended, `ended` is the answer.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        ended: T,
        question: impl FnOnce(&mut M, Now) -> T + Send + 'static,
    ) -> Call<T> {
        let call = Call::default();
        let answer = call.clone();
        if !self.order(move |machine, now| answer.complete(question(machine, now))) {
            call.complete(ended);
        }
        call
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
pub(super) fn run<M: Work>(background: &Background, machine: M) -> Door<M> {
    let mut driver = Driver::new(machine);
    let (orders, mut queue) = mpsc::unbounded_channel::<Order<M>>();
    let door = Door { orders, poke: driver.poke() };
    background.spawn(async move {
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
            driver.turn(until).await;
        }
        // Whoever asked meanwhile is answered; whoever asks from here on is told that it has ended.
        queue.close();
        let now = driver.now();
        while let Ok(order) = queue.try_recv() {
            order(driver.machine(), now);
        }
        driver.machine().work(now);
        driver.drained().await;
    });
    door
}
