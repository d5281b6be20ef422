//! One node: its shards while it runs, its disk always.

use std::collections::{BTreeMap, VecDeque};

use mainspring_core::broker::post::Post;
use mainspring_core::ids::ConnectionId;
use mainspring_core::time::Instant;

use super::atlas::Atlas;
use super::ledger::Ledger;
use super::look::Opened;
use crate::clock::Clock;
use crate::disk::{DiskOptions, SimDisk};
use crate::net::{Side, StreamId};
use crate::rng::{Rng, Stream};

/// How a process ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Down {
    /// Whether power is lost too.
    pub(super) power: bool,
    /// How long it stays down, in nanoseconds.
    pub(super) time: u64,
    /// Whether it is a fault, rather than an end of its own.
    pub(super) counted: bool,
    /// When that was decided, which names what follows to chance.
    pub(super) since: u64,
}

/// A running shard.
#[derive(Debug)]
pub(super) struct Running<M> {
    pub(super) machine: M,
    pub(super) armed: Option<Instant>,
    pub(super) round: u64,
    /// Wakeups that changed nothing since something last did, by who had waited for them.
    pub(super) idle_wakeups: BTreeMap<String, u32>,
    /// It was told to start.
    pub(super) begun: bool,
    ready: bool,
    stopped: bool,
}

/// Posts from one shard to another.
#[derive(Debug)]
struct Lane {
    last_arrival: u64,
    queue: VecDeque<Vec<Post>>,
    chance: Rng,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node<M> {
    pub(super) disk: SimDisk,
    pub(super) clock: Clock,
    pub(super) wall_ahead_ms: i64,
    /// What befalls this life of the process, which depends on nothing but what has ended the one before.
    pub(super) chance: Rng,
    lives: Rng,
    disk_lives: Rng,
    /// Counted up whenever a process ends.
    pub(super) life: u64,
    /// Empty while the node is down.
    pub(super) shards: Vec<Running<M>>,
    pub(super) streams: BTreeMap<ConnectionId, (StreamId, Side)>,
    pub(super) paused: bool,
    /// It stands still for good, whatever ends that struck before.
    pub(super) stays_away: bool,
    /// How many effects are left, and what then.
    pub(super) doomed: Option<(u32, Down)>,
    /// How the next starts end: behind how many effects, and what then.
    pub(super) doomed_starts: VecDeque<(u32, Down)>,
    /// Its disk was made to lie, rot or fail at some time.
    pub(super) has_lied: bool,
    /// What of its disk is damaged.
    pub(super) atlas: Atlas,
    /// It gave its directory up for good.
    pub(super) given_up: bool,
    /// The node was told to stop; how long it is to stay down then.
    pub(super) stopping: Option<u64>,
    /// A fault was injected that entitles the node to give up.
    pub(super) excuse: bool,
    /// How often the disk had been found full when the process began.
    pub(super) no_space_before: u64,
    /// What of its journals has reached the disk.
    pub(super) ledger: Ledger,
    /// Batches found on its disk that were opened before.
    pub(super) opened: Opened,
    posts: BTreeMap<(u16, u16), Lane>,
    next_connection: u64,
}

impl<M> Node<M> {
    pub(super) fn new(disk: DiskOptions, seed: u64, node: u32) -> Self {
        let disk_lives = Rng::new(seed, Stream::Disk(node));
        let lives = Rng::new(seed, Stream::Node(node));
        Self {
            disk: SimDisk::new(disk, disk_lives.child(0)),
            clock: Clock::new(0, 0, 0, 0),
            wall_ahead_ms: 0,
            chance: lives.child(0),
            lives,
            disk_lives,
            life: 0,
            shards: Vec::new(),
            streams: BTreeMap::new(),
            paused: false,
            stays_away: false,
            doomed: None,
            doomed_starts: VecDeque::new(),
            has_lied: false,
            atlas: Atlas::default(),
            given_up: false,
            stopping: None,
            excuse: false,
            no_space_before: 0,
            ledger: Ledger::default(),
            opened: Opened::default(),
            posts: BTreeMap::new(),
            next_connection: 0,
        }
    }

    pub(super) fn begin(&mut self, machine: M) {
        self.shards.push(Running {
            machine,
            armed: None,
            round: 0,
            idle_wakeups: BTreeMap::new(),
            begun: false,
            ready: false,
            stopped: false,
        });
    }

    /// Opens the streams of chance for a crash and for what follows it.
    pub(super) fn turn_over(&mut self, since: u64) {
        self.chance = self.lives.child(since);
        self.disk.set_chance(self.disk_lives.child(since));
    }

    /// Ends the process and returns the number of the life that follows.
    pub(super) fn end(&mut self) -> u64 {
        self.life += 1;
        self.ledger.clear();
        self.shards.clear();
        self.streams.clear();
        self.posts.clear();
        self.paused = false;
        self.doomed = None;
        self.stopping = None;
        self.next_connection = 0;
        self.life
    }

    /// Returns whether clients may connect.
    pub(super) fn is_ready(&self) -> bool {
        self.stopping.is_none()
            && !self.shards.is_empty()
            && self.shards.iter().all(|shard| shard.ready)
    }

    /// Returns whether other nodes may connect: nodes talk before any of them serves.
    pub(super) fn is_reachable(&self) -> bool {
        self.stopping.is_none()
            && !self.shards.is_empty()
            && self.shards.iter().all(|shard| shard.begun)
    }

    /// Notes that a shard is ready. Returns whether that made the node ready.
    pub(super) fn ready(&mut self, shard: u16) -> bool {
        let before = self.is_ready();
        self.shards[usize::from(shard)].ready = true;
        !before && self.is_ready()
    }

    /// Notes that a shard has stopped. Once all have, returns how long the node stays down.
    pub(super) fn stopped(&mut self, shard: u16) -> Option<u64> {
        self.shards[usize::from(shard)].stopped = true;
        self.shards.iter().all(|shard| shard.stopped).then_some(self.stopping?)
    }

    /// Marks the process for an end after that many further effects.
    pub(super) fn doom(&mut self, effects: u32, down: Down) {
        if self.doomed.is_none() && !self.shards.is_empty() {
            self.doomed = Some((effects, down));
        }
    }

    /// Counts an effect. Returns how the process ends if it ends before that effect.
    pub(super) fn countdown(&mut self) -> Option<Down> {
        let (left, down) = self.doomed.as_mut()?;
        if *left == 0 {
            return Some(*down);
        }
        *left -= 1;
        None
    }

    pub(super) fn is_round(&mut self, shard: u16, round: u64) -> bool {
        let Some(shard) = self.shards.get_mut(usize::from(shard)) else { return false };
        let is = shard.round == round;
        if is {
            shard.armed = None;
        }
        is
    }

    /// Gives a connection to this node's end of a stream that was opened to it.
    pub(super) fn attach(&mut self, stream: StreamId) -> ConnectionId {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        self.streams.insert(connection, (stream, 1));
        connection
    }

    /// Queues a post, which takes less than `most` nanoseconds, and returns when it arrives.
    pub(super) fn post(
        &mut self,
        now: u64,
        from: u16,
        to: u16,
        batch: Vec<Post>,
        most: u64,
    ) -> u64 {
        let way = (u64::from(from) << 16) | u64::from(to);
        let lane = self.posts.entry((from, to)).or_insert_with(|| Lane {
            last_arrival: 0,
            queue: VecDeque::new(),
            chance: self.chance.child(way),
        });
        let delay = lane.chance.below(most);
        lane.last_arrival = (now + delay).max(lane.last_arrival + 1);
        lane.queue.push_back(batch);
        lane.last_arrival
    }

    pub(super) fn take_post(&mut self, from: u16, to: u16) -> Option<Vec<Post>> {
        self.posts.get_mut(&(from, to))?.queue.pop_front()
    }
}
