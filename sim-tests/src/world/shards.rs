//! Inputs into shards, and effects out of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mainspring_core::ids::ShardId;
use mainspring_core::io::{Effect, Event as Observed, Input};

use super::event::Event;
use super::ledger::Ledger;
use super::node::Down;
use super::{Machine, World};
use crate::disk::NEVER;
use crate::history::Fact;
use crate::story::What;

/// Most effects of one input: more is a machine that never comes to rest.
const EFFECTS_MAX: usize = 1_000_000;

/// Wakeups for the same deadline's sake, one after the other, that change nothing: more is a machine that
/// spins. (Each connection of a crowd may leave a timer that nobody needs any more: those are many, and
/// each comes once.)
const IDLE_WAKEUPS_MAX: u32 = 100;

/// How long a post between two shards of a node takes at most, in nanoseconds.
const POST_WITHIN: u64 = 20_000;

impl<M: Machine> World<M> {
    pub(super) fn handle(&mut self, node: usize, shard: u16, input: Input) {
        let now = self.nodes[node].clock.at(self.now);
        self.trace.input(self.now, node, shard, &input);
        let Some(state) = self.nodes[node].shards.get_mut(usize::from(shard)) else { return };
        let mut spinning = None;
        if matches!(input, Input::Wakeup) {
            let who = state.machine.who_waits();
            let wakeups = state.idle_wakeups.entry(who.clone()).or_default();
            *wakeups += 1;
            spinning = (*wakeups > IDLE_WAKEUPS_MAX).then_some(who);
        } else {
            state.idle_wakeups.clear();
        }
        if let Some(who) = spinning {
            self.tell(&Fact::Stuck {
                what: format!("shard {shard} of node {node} spins on a deadline of {who}"),
            });
            return;
        }
        state.begun |= matches!(input, Input::Start);
        let machine = &mut state.machine;
        let caught = catch_unwind(AssertUnwindSafe(|| machine.handle(now, input)));
        if caught.is_err() {
            self.panicked(node);
            return;
        }
        let life = self.nodes[node].life;
        for _ in 0..EFFECTS_MAX {
            if self.nodes[node].life != life || self.alarm.is_some() {
                return;
            }
            let Some(state) = self.nodes[node].shards.get_mut(usize::from(shard)) else { return };
            let machine = &mut state.machine;
            let Ok(effect) = catch_unwind(AssertUnwindSafe(|| machine.poll_effect())) else {
                self.panicked(node);
                return;
            };
            let Some(effect) = effect else {
                self.rearm(node, shard);
                return;
            };
            state.idle_wakeups.clear();
            if let Some(down) = self.nodes[node].countdown() {
                self.crash(node, down);
                return;
            }
            self.trace.effect(self.now, node, shard, &effect);
            self.perform(node, shard, effect);
        }
        self.tell(&Fact::Stuck { what: format!("shard {shard} of node {node} never rests") });
    }

    pub(super) fn panicked(&mut self, node: usize) {
        let message = crate::process::take_panic();
        self.tell(&Fact::Panicked { node, message });
    }

    /// Keeps one timer event for each shard, at its deadline.
    pub(super) fn rearm(&mut self, node: usize, shard: u16) {
        let state = &mut self.nodes[node];
        let life = state.life;
        let Some(shard_state) = state.shards.get_mut(usize::from(shard)) else { return };
        let deadline = shard_state.machine.next_deadline();
        if deadline == shard_state.armed {
            return;
        }
        shard_state.armed = deadline;
        shard_state.round += 1;
        let round = shard_state.round;
        if let Some(deadline) = deadline {
            // A deadline that has passed is due at once, and time goes on all the same.
            let at = state.clock.true_time_of(deadline).max(self.now + 1);
            self.push(at, Event::Timer { node, shard, life, round });
        }
    }

    pub(super) fn perform(&mut self, node: usize, shard: u16, effect: Effect) {
        let life = self.nodes[node].life;
        let note = Ledger::note(&effect);
        let effect = match self.nodes[node].disk.submit(self.now, ShardId(shard), effect) {
            Ok((operation, ends)) => {
                if let Some(note) = note {
                    self.nodes[node].ledger.begin(shard, operation, note);
                }
                if ends < NEVER {
                    self.push(ends, Event::Disk { node, life, operation });
                }
                return;
            }
            Err(effect) => effect,
        };
        match effect {
            Effect::Connect { connection, node: to, .. } => self.dial(node, shard, connection, to),
            Effect::Transmit { connection, parts } => {
                if let Some((stream, side)) = self.nodes[node].streams.get(&connection).copied() {
                    self.net.send(self.now, stream, side, parts, &mut self.notices);
                }
            }
            Effect::Reading { connection, on } => {
                if let Some((stream, side)) = self.nodes[node].streams.get(&connection).copied() {
                    self.net.set_reading(self.now, stream, side, on, &mut self.notices);
                }
            }
            Effect::Want { connection, bytes } => {
                // What is read at a time is set aside for it.
                let (what, size, bound) = ("what is read at a time", bytes as u64, 1 << 20);
                self.tell(&Fact::Size { what, size, bound });
                if let Some((stream, side)) = self.nodes[node].streams.get(&connection).copied() {
                    self.net.set_want(stream, side, bytes);
                }
            }
            Effect::Close { connection } => {
                if let Some((stream, side)) = self.nodes[node].streams.get(&connection).copied() {
                    self.net.close(self.now, stream, side, &mut self.notices);
                }
            }
            Effect::Abort { connection } => {
                if let Some((stream, side)) = self.nodes[node].streams.get(&connection).copied() {
                    self.net.abort(self.now, stream, side, &mut self.notices);
                }
            }
            Effect::Post { shard: to, batch } => {
                let at = self.nodes[node].post(self.now, shard, to.0, batch, POST_WITHIN);
                self.push(at, Event::Posts { node, life, from: shard, to: to.0 });
            }
            Effect::Ready => {
                let ready = self.nodes[node].ready(shard);
                if ready {
                    self.has_served = true;
                    self.tell(&Fact::Ready { node });
                    self.look(node);
                }
            }
            Effect::Stopped => {
                if let Some(down) = self.nodes[node].stopped(shard) {
                    self.crash(
                        node,
                        Down { power: false, time: down, counted: false, since: self.now },
                    );
                }
            }
            Effect::Fatal { message } => self.fatal(node, message),
            Effect::Observe(Observed::Mark(mark)) => {
                *self.marks.entry(mark).or_insert(0) += 1;
                self.write_down(|| What::Mark { node, shard, mark });
            }
            Effect::Observe(Observed::LogBounds {
                partition,
                log_start_offset,
                high_watermark,
            }) => {
                self.tell(&Fact::Bounds {
                    node,
                    partition,
                    log_start: log_start_offset.0,
                    high_watermark: high_watermark.0,
                });
            }
            Effect::Observe(Observed::Cluster(event)) => self.reported(node, event),
            Effect::Observe(Observed::HighWatermark { partition, offset }) => {
                self.tell(&Fact::HighWatermark { node, partition, offset: offset.0 });
            }
            _ => {}
        }
        self.flush_notices();
    }
}
