//! Lives of processes, what strikes them, and how it ends.

use mainspring_core::io::Input;

use super::event::{Event, Lift};
use super::node::Down;
use super::{ActorEvent, Birth, Fault, Machine, SECOND, World};
use crate::clock::Clock;
use crate::history::Fact;
use crate::net::Address;
use crate::story::{Contents, What};

impl<M: Machine> World<M> {
    pub(super) fn start(&mut self, node: usize) {
        let shards = self.options.shards;
        let state = &mut self.nodes[node];
        state.no_space_before = state.disk.counters().no_space;
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
            self.accepted.remove(&stream);
        }
        self.flush_notices();
        self.resume(node);
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
    }

    pub(super) fn strike(&mut self, fault: &Fault) {
        if self.healed {
            return;
        }
        self.trace.line(|| format!("{:>15} {fault:?}", self.now));
        self.write_down(|| What::Fault(fault.clone()));
        let (kind, now) = (fault.kind(), self.now);
        match *fault {
            Fault::Kill { node, effects, down } => {
                let down = Down { power: false, time: down, counted: true, since: now };
                self.nodes[node].doom(effects, down);
                return;
            }
            Fault::PowerCut { node, effects, down } => {
                let down = Down { power: true, time: down, counted: true, since: now };
                self.nodes[node].doom(effects, down);
                return;
            }
            Fault::Stop { node, down } => {
                if !self.nodes[node].is_ready() {
                    return;
                }
                self.nodes[node].stopping = Some(down);
                let life = self.nodes[node].life;
                for shard in 0..self.options.shards {
                    self.push(now, Event::Input { node, shard, life, input: Input::Stop });
                }
            }
            Fault::Pause { node, time } => {
                self.nodes[node].paused = true;
                let life = self.nodes[node].life;
                self.push(now + time, Event::Lift(Lift::Pause(node, life)));
            }
            Fault::WallJump { node, millis } => {
                let by = millis - self.nodes[node].wall_ahead_ms;
                self.nodes[node].wall_ahead_ms = millis;
                self.nodes[node].clock.jump(by);
            }
            Fault::Drift { node, ppm } => self.nodes[node].clock.set_drift(now, ppm),
            Fault::ResetStreams { node } => {
                for (stream, _) in self.net.streams_of(Address::Node(node)) {
                    self.net.reset(now, stream, &mut self.notices);
                }
                self.flush_notices();
            }
            Fault::Cut { node, outbound, time } => {
                for client in 0..self.clients.len() {
                    let (client, node) = (Address::Client(client), Address::Node(node));
                    if outbound {
                        self.net.cut(node, client);
                    } else {
                        self.net.cut(client, node);
                    }
                }
                self.push(now + time, Event::Lift(Lift::Cuts));
            }
            Fault::DiskFull { node, room, time } => {
                let disk = &mut self.nodes[node].disk;
                let used = disk.used();
                disk.options_mut().capacity = Some(used + room);
                self.push(now + time, Event::Lift(Lift::Capacity(node)));
            }
            Fault::FlushErrors { node, time } => {
                self.nodes[node].excuse = true;
                self.nodes[node].disk.options_mut().flush_error = 300;
                self.push(now + time, Event::Lift(Lift::FlushErrors(node)));
            }
            Fault::ReadErrors { node, time } => {
                self.nodes[node].excuse = true;
                self.nodes[node].disk.options_mut().read_error = 300;
                self.push(now + time, Event::Lift(Lift::ReadErrors(node)));
            }
            Fault::SlowDisk { node, time } => {
                self.nodes[node].disk.options_mut().slow = 100;
                self.push(now + time, Event::Lift(Lift::Slowness(node)));
            }
            Fault::Rot { node } => {
                if !self.rot(node) {
                    return;
                }
            }
        }
        self.faults.add(kind, 1);
    }

    /// Flips a bit of a segment file.
    pub(super) fn rot(&mut self, node: usize) -> bool {
        let disk = &mut self.nodes[node].disk;
        let segments: Vec<(String, u64)> = disk
            .files()
            .into_iter()
            .filter(|name| name.rsplit_once('.').is_some_and(|(_, kind)| kind == "log"))
            .map(|name| {
                let length = disk.page_image(&name).map_or(0, <[u8]>::len) as u64;
                (name, length)
            })
            .filter(|(_, length)| *length > 0)
            .collect();
        if segments.is_empty() {
            return false;
        }
        let mut chance = self.chance.child(self.now);
        let (name, length) = &segments[chance.index(segments.len())];
        let (at, bit) = (chance.below(*length), chance.below(8) as u8);
        self.nodes[node].excuse = true;
        self.nodes[node].disk.rot(name, at, bit)
    }

    pub(super) fn lift(&mut self, lift: Lift) {
        self.write_down(|| What::Lifted(format!("{lift:?}")));
        match lift {
            Lift::Cuts => {
                self.net.heal(self.now, &mut self.notices);
                self.flush_notices();
            }
            Lift::Pause(node, life) => {
                if self.nodes[node].life == life {
                    self.resume(node);
                }
            }
            Lift::Capacity(node) => {
                self.nodes[node].disk.options_mut().capacity = self.options.disk.capacity;
            }
            Lift::FlushErrors(node) => self.nodes[node].disk.options_mut().flush_error = 0,
            Lift::ReadErrors(node) => self.nodes[node].disk.options_mut().read_error = 0,
            Lift::Slowness(node) => {
                self.nodes[node].disk.options_mut().slow = self.options.disk.slow;
            }
        }
    }

    /// Lets a paused process go on.
    pub(super) fn resume(&mut self, node: usize) {
        self.nodes[node].paused = false;
        for (after, event) in (1..).zip(std::mem::take(&mut self.deferred[node])) {
            self.push(self.now + after, event);
        }
    }

    /// No more faults: everything is mended, and the clients are told to finish.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.write_down(|| What::Healed);
        self.net.heal(self.now, &mut self.notices);
        let net = self.net.options_mut();
        (net.reset, net.half_open) = (0, 0);
        self.flush_notices();
        for node in 0..self.nodes.len() {
            let state = &mut self.nodes[node];
            state.doomed = None;
            let disk = state.disk.options_mut();
            (disk.flush_error, disk.read_error, disk.write_error, disk.no_space, disk.slow) =
                (0, 0, 0, 0, 0);
            disk.capacity = self.options.disk.capacity;
        }
        for node in 0..self.nodes.len() {
            self.resume(node);
        }
        for client in 0..self.clients.len() {
            self.act(client, ActorEvent::Finish);
        }
    }

    pub(super) fn deadline(&mut self) {
        let waits = self.clients.iter().find_map(|client| client.actor.pending());
        if let Some(what) = waits {
            self.tell(&Fact::Stuck {
                what: format!("{} s after the last fault: {what}", self.options.grace / SECOND),
            });
        }
        self.over = true;
    }
}
