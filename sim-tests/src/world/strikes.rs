//! Faults as they strike, and as they end.

use mainspring_core::io::Input;

use super::event::{Event, Lift};
use super::node::{Down, Node};
use super::{Damage, DiskTrouble, Fault, MILLISECOND, Machine, World};
use crate::disk::FileKind;
use crate::history::Fact;
use crate::net::{Address, LinkTrouble};
use crate::story::What;

/// A cut that is no longer than this must leave nothing behind, in nanoseconds.
pub(super) const SHORT: u64 = 100 * MILLISECOND;

impl<M: Machine> World<M> {
    pub(super) fn strike(&mut self, fault: &Fault) {
        if !self.healed {
            self.strike_for_good(fault);
        }
    }

    /// Strikes even where everything else is healed.
    pub(super) fn strike_for_good(&mut self, fault: &Fault) {
        self.trace.line(|| format!("{:>15} {fault:?}", self.now));
        self.write_down(|| What::Fault(fault.clone()));
        if let Some(time) = fault.time() {
            self.tell(&Fact::Strikes { until: self.now + time });
        }
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
            Fault::Drift { node, ppm } => {
                self.nodes[node].clock.set_drift(now, ppm);
                self.rearm_all(node);
            }
            Fault::ResetStreams { node } => {
                for (stream, _) in self.net.streams_of(Address::Node(node)) {
                    self.net.reset(now, stream, &mut self.notices);
                }
                self.flush_notices();
            }
            Fault::Cut { node, outbound, time } => {
                for (from, to) in self.ways(node, outbound) {
                    self.net.trouble(from, to, LinkTrouble::Cut);
                }
                self.push(now + time, Event::Lift(Lift::Cut { node, outbound }));
                if time <= SHORT {
                    self.faults.add("flap", 1);
                }
            }
            Fault::DiskFull { node, room, time } => {
                let disk = &mut self.nodes[node].disk;
                let used = disk.used();
                disk.options_mut().capacity = Some(used + room);
                self.push(now + time, Event::Lift(Lift::Capacity(node)));
            }
            Fault::FlushErrors { node, time, file } => {
                self.excuse(node);
                let options = self.nodes[node].disk.options_mut();
                (options.flush_error, options.flush_error_of) = (300, file);
                self.push(now + time, Event::Lift(Lift::FlushErrors(node)));
            }
            Fault::ReadErrors { node, time } => {
                self.excuse(node);
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
            Fault::Disk { node, trouble, permille, time } => {
                if trouble.destroys() {
                    if !self.may_destroy(node) {
                        return;
                    }
                    self.tell(&Fact::Reverted { node });
                }
                if trouble.excuses() {
                    self.excuse(node);
                }
                trouble.set(self.nodes[node].disk.options_mut(), permille);
                self.push(now + time, Event::Lift(Lift::Disk(node, trouble)));
            }
            Fault::Damage { node, damage, file, pick } => {
                if !self.damage(node, damage, file, pick) {
                    return;
                }
            }
            Fault::Junk { node, pick } => {
                let disk = &mut self.nodes[node].disk;
                let directories = disk.directories();
                let directory = &directories[(pick % directories.len() as u64) as usize];
                let name = ["junk", "00000000000000000099.log.bak", ".DS_Store", "lost+found.txt"]
                    [(pick >> 32) as usize % 4];
                let path =
                    if directory.is_empty() { String::new() } else { format!("{directory}/") };
                if !disk.plant_file(&format!("{path}{name}"), b"somebody else's") {
                    return;
                }
            }
            Fault::DropCaches { node } => self.nodes[node].disk.drop_caches(),
            Fault::Wipe { node, down } => {
                if !self.may_destroy(node) && !self.may_wipe(node) {
                    return;
                }
                self.end_life(node, down);
                self.nodes[node].disk.wipe();
                self.tell(&Fact::Reverted { node });
            }
            Fault::Save { node } => self.nodes[node].disk.save(),
            Fault::Restore { node, down } => {
                if !self.may_destroy(node) {
                    return;
                }
                self.end_life(node, down);
                if !self.nodes[node].disk.restore() {
                    return;
                }
                self.tell(&Fact::Reverted { node });
            }
            Fault::Link { from, to, trouble, time } => {
                self.net.trouble(from, to, trouble);
                self.push(now + time, Event::Lift(Lift::Link { from, to, trouble }));
            }
            Fault::Suspend { node, time, set_right } => {
                if self.nodes[node].paused || self.nodes[node].shards.is_empty() {
                    return;
                }
                self.nodes[node].paused = true;
                let life = self.nodes[node].life;
                let lift = Lift::Suspension { node, life, since: now, set_right };
                self.push(now + time, Event::Lift(lift));
                self.tell(&Fact::StoodStill { node });
            }
            Fault::CrashLoop { node, times, effects, power, down } => {
                let down = Down { power, time: down, counted: true, since: now };
                let state = &mut self.nodes[node];
                state.doom(effects, down);
                for nth in 1..=u64::from(times) {
                    // No two of them are alike to chance.
                    let down = Down { since: now + nth, ..down };
                    state.doomed_starts.push_back((effects, down));
                }
            }
            Fault::Part { ref nodes, bridge, one_way, time } => {
                let ways = self.ways_between(nodes, bridge, one_way);
                for (from, to) in &ways {
                    self.net.trouble(*from, *to, LinkTrouble::Cut);
                }
                self.push(now + time, Event::Lift(Lift::Part(ways)));
            }
            Fault::Together { ref nodes, power, effects, down } => {
                for (nth, node) in (0..).zip(nodes) {
                    // No two of them are alike to chance.
                    let (time, since) = (down + nth * (down / 4), now + nth);
                    self.nodes[*node].doom(effects, Down { power, time, counted: true, since });
                }
            }
            Fault::StopKilled { node, effects, down } => {
                self.strike(&Fault::Stop { node, down });
                self.strike(&Fault::Kill { node, effects, down });
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
        let (name, length) = segments[chance.index(segments.len())].clone();
        let (at, bit) = (chance.below(length), chance.below(8) as u8);
        self.excuse(node);
        self.nodes[node].disk.rot(&name, at, bit)
    }

    pub(super) fn lift(&mut self, lift: Lift) {
        self.write_down(|| What::Lifted(format!("{lift:?}")));
        match lift {
            Lift::Cut { node, outbound } => {
                for way in self.ways(node, outbound) {
                    self.net.relieve(self.now, way, LinkTrouble::Cut, &mut self.notices);
                }
                self.flush_notices();
            }
            Lift::Link { from, to, trouble } => {
                self.net.relieve(self.now, (from, to), trouble, &mut self.notices);
                self.flush_notices();
            }
            Lift::Part(ways) => {
                for way in ways {
                    self.net.relieve(self.now, way, LinkTrouble::Cut, &mut self.notices);
                }
                self.flush_notices();
            }
            Lift::Disk(node, trouble) => {
                trouble.set(self.nodes[node].disk.options_mut(), 0);
                if trouble == DiskTrouble::Stuck {
                    self.release(node);
                }
            }
            // Whoever was started since has a clock that has run on.
            Lift::Suspension { node, life, since, set_right } if self.nodes[node].life == life => {
                self.nodes[node].clock.stand_still(since, self.now);
                if set_right {
                    let millis = (self.now - since) / MILLISECOND;
                    self.nodes[node].clock.jump(millis as i64);
                }
                self.tell(&Fact::WentOn { node });
                self.resume(node);
                self.rearm_all(node);
            }
            Lift::Suspension { .. } => {}
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

    /// Returns the ways between a node and everybody else, in one direction.
    fn ways(&self, node: usize, outbound: bool) -> Vec<(Address, Address)> {
        let here = Address::Node(node);
        let others = (0..self.nodes.len()).filter(|other| *other != node).map(Address::Node);
        (0..self.clients.len())
            .map(Address::Client)
            .chain(others)
            .map(|there| if outbound { (here, there) } else { (there, here) })
            .collect()
    }

    /// Returns the ways from some nodes to all others, and back where both directions count.
    fn ways_between(
        &self,
        nodes: &[usize],
        bridge: Option<usize>,
        one_way: bool,
    ) -> Vec<(Address, Address)> {
        let others = |node: &usize| !nodes.contains(node) && Some(*node) != bridge;
        let mut ways = Vec::new();
        for here in nodes.iter().filter(|node| Some(**node) != bridge).copied() {
            for there in (0..self.nodes.len()).filter(others) {
                ways.push((Address::Node(here), Address::Node(there)));
                if !one_way {
                    ways.push((Address::Node(there), Address::Node(here)));
                }
            }
        }
        ways
    }

    /// Lets the operations go on that a disk held.
    pub(super) fn release(&mut self, node: usize) {
        let life = self.nodes[node].life;
        for (operation, ends) in self.nodes[node].disk.release(self.now) {
            self.push(ends, Event::Disk { node, life, operation });
        }
    }

    /// Sets the timers of a node anew, because its clocks go otherwise now.
    fn rearm_all(&mut self, node: usize) {
        for shard in 0..self.nodes[node].shards.len() as u16 {
            self.nodes[node].shards[usize::from(shard)].armed = None;
            self.rearm(node, shard);
        }
    }

    /// Ends a process at once, if it runs.
    fn end_life(&mut self, node: usize, down: u64) {
        let since = self.now;
        self.crash(node, Down { power: false, time: down, counted: false, since });
    }

    /// Damages a file at rest. Returns whether something has changed.
    fn damage(&mut self, node: usize, damage: Damage, file: FileKind, pick: u64) -> bool {
        let disk = &self.nodes[node].disk;
        let files = disk.files_of(file);
        if files.is_empty() {
            return false;
        }
        let name = files[(pick % files.len() as u64) as usize].clone();
        let length = disk.page_image(&name).map_or(0, <[u8]>::len) as u64;
        let at = (pick >> 16) % length.max(1);
        let unrecoverable = self.options.unrecoverable;
        let Node { disk, atlas, .. } = &mut self.nodes[node];
        if !unrecoverable && !atlas.allows(disk, &name) {
            return false;
        }
        let hit = match damage {
            Damage::Flip => disk.rot(&name, at, (pick >> 8) as u8),
            Damage::Cut => disk.cut_file(&name, at),
            Damage::Zero => disk.zero_file(&name, at, 4096),
            Damage::Lose => disk.lose_file(&name),
        };
        if hit {
            self.trace.line(|| format!("{:>15} {damage:?} of {name} at {at}", self.now));
            let state = &mut self.nodes[node];
            state.has_lied = true;
            state.atlas.note(&state.disk, &name);
            if unrecoverable {
                self.excuse(node);
                // Behind the last proof a damaged block is no other than one that was never finished.
                if file == FileKind::Journal {
                    self.tell(&Fact::Reverted { node });
                }
            }
        }
        hit
    }

    /// Whether a fault may take what only this node has.
    fn may_destroy(&mut self, node: usize) -> bool {
        let may = self.options.unrecoverable;
        if may {
            self.excuse(node);
        }
        may
    }

    /// Whether the other nodes of a cluster have a copy of everything that is acknowledged, and are enough to
    /// elect a leader without this one, whose empty disk votes only once it has caught up. One node of a run loses
    /// its disk, and no other is kept away for good.
    fn may_wipe(&mut self, node: usize) -> bool {
        let may = self.options.cluster.as_ref().is_some_and(|cluster| {
            let mut others = cluster.lost.iter().chain(&self.wiped);
            cluster.min_in_sync > 1 && others.all(|other| *other == node)
        });
        if may {
            self.wiped = Some(node);
        }
        may
    }

    /// A fault entitles a node to fail to read, and to give its directory up.
    fn excuse(&mut self, node: usize) {
        self.nodes[node].excuse = true;
        self.nodes[node].has_lied = true;
        self.tell(&Fact::Troubled { node });
    }
}
