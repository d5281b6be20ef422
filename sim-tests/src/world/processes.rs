//! Lives of processes, what strikes them, and how it ends.

use std::cmp::Reverse;

use mainspring_core::io::Input;

use super::event::{Due, Event, Lift};
use super::fault::Fault;
use super::node::Down;
use super::{ActorEvent, Birth, Machine, SECOND, World};
use crate::clock::Clock;
use crate::history::Fact;
use crate::net::Address;
use crate::story::{Contents, What};

impl<M: Machine> World<M> {
    pub(super) fn start(&mut self, node: usize) {
        let shards = self.options.shards;
        let state = &mut self.nodes[node];
        state.no_space_before = state.disk.counters().no_space;
        // A life that begins now has met no fault; a node whose files may be gone for good may say so for ever.
        state.excuse &= !self.healed || self.options.unrecoverable;
        let zero = state.chance.below(1_000 * SECOND);
        let drift = self.options.drift_ppm;
        let ppm = state.chance.below(2 * drift + 1) as i64 - drift as i64;
        state.clock = Clock::new(self.now, zero, ppm, state.wall_ahead_ms);
        let births: Vec<Birth> = (0..shards)
            .map(|shard| Birth { node, shard, shards, seed: state.chance.bits() })
            .collect();
        for birth in births {
            let machine = (self.factory)(birth);
            self.nodes[node].begin(machine);
        }
        if let Some((effects, down)) = self.nodes[node].doomed_starts.pop_front() {
            self.nodes[node].doom(effects, down);
        }
        let life = self.nodes[node].life;
        self.write_down(|| What::Start { node, life });
        for shard in 0..shards {
            self.push(self.now, Event::Input { node, shard, life, input: Input::Start });
        }
    }

    /// Ends the life of a node's process.
    pub(super) fn crash(&mut self, node: usize, down: Down) {
        let state = &mut self.nodes[node];
        if state.shards.is_empty() {
            return;
        }
        self.look(node);
        let state = &mut self.nodes[node];
        let served = state.is_ready();
        state.turn_over(down.since);
        let tells = self.story.is_some();
        let before = tells
            .then(|| (state.disk.describe_in_flight(), Contents::of(&state.disk.with_in_flight())));
        if down.power {
            state.disk.lose_power();
        } else {
            state.disk.crash();
        }
        let life = state.end();
        if let Some((in_flight, contents)) = before {
            let sector = self.options.disk.sector;
            let lost = contents.lost(&Contents::of(&self.nodes[node].disk), sector);
            let (power, counted) = (down.power, down.counted);
            self.write_down(|| What::End { node, power, counted, in_flight, lost });
        }
        for (stream, side) in self.net.streams_of(Address::Node(node)) {
            self.net.die(self.now, stream, side, &mut self.notices);
            if side == 1 {
                self.accepted.remove(&stream);
            } else {
                self.openers.remove(&stream);
            }
        }
        self.flush_notices();
        self.resume(node);
        if down.counted && !served {
            self.faults.add("crash-in-recovery", 1);
        }
        if down.counted {
            self.faults.add(if down.power { "power-cut" } else { "kill" }, 1);
            self.tell(&Fact::Crashed { node, power: down.power });
        }
        self.push(self.now + down.time.max(1), Event::Start { node, life });
    }

    pub(super) fn fatal(&mut self, node: usize, message: String) {
        // A disk without any room is reason enough not to start, if this start has met it.
        let state = &self.nodes[node];
        let full = state.disk.counters().no_space > state.no_space_before && !state.is_ready();
        let excused = self.nodes[node].excuse || full;
        self.tell(&Fact::Fatal { node, message, excused });
        let since = self.now;
        self.crash(node, Down { power: false, time: SECOND, counted: false, since });
        if self.healed && (full || (excused && self.options.unrecoverable)) {
            // It would say the same again, until somebody comes.
            self.nodes[node].given_up = true;
            self.end_if_all_is_done();
        }
    }

    /// Lets a paused process go on.
    pub(super) fn resume(&mut self, node: usize) {
        if self.nodes[node].stays_away {
            return;
        }
        self.nodes[node].paused = false;
        for (after, event) in (1..).zip(std::mem::take(&mut self.deferred[node])) {
            self.push(self.now + after, event);
        }
    }

    /// Machines that stand still go on here, and not once more when their time would have been over: a clock would go
    /// back.
    fn end_suspensions(&mut self) {
        let is_suspension =
            |due: &Reverse<Due>| matches!(due.0.event, Event::Lift(Lift::Suspension { .. }));
        let all = std::mem::take(&mut self.heap).into_sorted_vec();
        let (ended, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(is_suspension);
        self.heap = rest.into();
        for Reverse(due) in ended {
            if let Event::Lift(lift) = due.event {
                self.lift(lift);
            }
        }
    }

    /// No more faults: everything is mended, and the clients are told to finish.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.write_down(|| What::Healed);
        self.net.heal(self.now, &mut self.notices);
        // The end of a trouble of before must not end one that stays for good.
        self.heap.retain(|Reverse(due)| {
            !matches!(due.event, Event::Lift(Lift::Cut { .. } | Lift::Link { .. } | Lift::Part(_)))
        });
        self.end_suspensions();
        let net = self.net.options_mut();
        (net.reset, net.half_open, net.lingering) = (0, 0, 0);
        self.flush_notices();
        for node in 0..self.nodes.len() {
            let state = &mut self.nodes[node];
            state.doomed = None;
            state.doomed_starts.clear();
            let disk = state.disk.options_mut();
            *disk = disk.sound();
            disk.capacity = self.options.disk.capacity;
            self.release(node);
        }
        let mut lost = self.options.cluster.as_ref().map_or(Vec::new(), |it| it.lost.clone());
        if !lost.is_empty() && !self.has_served {
            lost.clear();
            self.options.permanent.clear();
        }
        for node in 0..self.nodes.len() {
            self.resume(node);
            let serves = self.nodes[node].is_ready();
            if !lost.contains(&node) {
                self.tell(&Fact::Healed { node, serves });
            }
        }
        if self.options.cluster.is_some() {
            let nodes = (0..self.nodes.len()).filter(|node| !lost.contains(node)).collect();
            self.tell(&Fact::Core { nodes });
        }
        for fault in std::mem::take(&mut self.options.permanent) {
            match fault {
                // Who is down just now comes to nothing when it starts.
                Fault::PowerCut { node, down: time, .. } | Fault::Pause { node, time }
                    if self.nodes[node].shards.is_empty() =>
                {
                    let down = Down { power: true, time, counted: true, since: self.now };
                    self.nodes[node].doomed_starts.push_front((0, down));
                }
                Fault::Pause { node, .. } => {
                    self.strike_for_good(&fault);
                    self.nodes[node].stays_away = true;
                }
                fault => self.strike_for_good(&fault),
            }
        }
        for client in 0..self.clients.len() {
            self.act(client, ActorEvent::Finish);
        }
    }

    pub(super) fn deadline(&mut self) {
        let waits: Vec<String> = self
            .clients
            .iter()
            .enumerate()
            .filter(|(client, _)| !self.has_given_up(*client))
            .filter_map(|(_, client)| client.actor.pending())
            .collect();
        if !waits.is_empty() {
            let (after, what) = (self.options.grace / SECOND, waits.join("; "));
            self.tell(&Fact::Stuck { what: format!("{after} s after the last fault: {what}") });
        }
        self.over = true;
    }
}
