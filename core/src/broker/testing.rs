//! A node in a test: its shards, a disk that carries out everything at once, and clients that speak
//! whole frames.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use crate::broker::{Shard, ShardConfig};
use crate::config::NodeConfig;
use crate::ids::{ConnectionId, ListenerIndex, ShardId, TopicPartition};
use crate::io::{Effect, Effects, Event, Input, Mark};
use crate::log::LogStore;
use crate::log::testing::TestDisk;
use crate::partition::Partition;
use crate::record::batch::Batch;
use crate::record::builder::{BatchBuilder, Producer};
use crate::record::compress::Codec;
use crate::time::{Instant, Now, UnixMillis};
use crate::wire::api_key::RequestMessage;
use crate::wire::{Message, Reader, decode_response_header, frame_request};

/// A node with its disks.
pub(crate) struct TestNode {
    pub(crate) config: Arc<NodeConfig>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) disks: Vec<TestDisk>,
    pub(crate) now: Now,
    inputs: VecDeque<(usize, Input)>,
    /// Whether completions of the disk wait until [`release`](Self::release).
    pub(crate) hold_disk: bool,
    held: VecDeque<(usize, Input)>,
    received: BTreeMap<ConnectionId, BytesMut>,
    pub(crate) closed: Vec<ConnectionId>,
    pub(crate) reading: BTreeMap<ConnectionId, bool>,
    pub(crate) want: BTreeMap<ConnectionId, usize>,
    /// Connections whose peers take nothing.
    pub(crate) deaf: BTreeSet<ConnectionId>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) warnings: Vec<String>,
    pub(crate) fatal: Vec<String>,
    pub(crate) ready: usize,
    pub(crate) stopped: usize,
    next_connection: u64,
    next_correlation: i32,
    seed: u64,
}

impl TestNode {
    /// A started node with that many shards and otherwise small defaults.
    pub(crate) fn started(shards: u16) -> Self {
        Self::with(shards, |_| {})
    }

    /// A started node with a configuration of one's own.
    pub(crate) fn with(shards: u16, configure: impl FnOnce(&mut NodeConfig)) -> Self {
        let mut config = NodeConfig { shards, ..NodeConfig::default() };
        config.log.journal_first_file_bytes = 64 << 10;
        config.log.journal_file_bytes = 1 << 20;
        config.log.journal_max_bytes = 16 << 20;
        configure(&mut config);
        let mut node = Self {
            config: Arc::new(config),
            shards: Vec::new(),
            disks: vec![TestDisk::default(); usize::from(shards)],
            now: Now {
                mono: Instant::from_nanos(1_000_000_000),
                wall: UnixMillis(1_700_000_000_000),
            },
            inputs: VecDeque::new(),
            hold_disk: false,
            held: VecDeque::new(),
            received: BTreeMap::new(),
            closed: Vec::new(),
            reading: BTreeMap::new(),
            want: BTreeMap::new(),
            deaf: BTreeSet::new(),
            marks: Vec::new(),
            warnings: Vec::new(),
            fatal: Vec::new(),
            ready: 0,
            stopped: 0,
            next_connection: 0,
            next_correlation: 100,
            seed: 7,
        };
        node.start();
        assert_eq!((node.ready, &node.fatal[..]), (usize::from(shards), &[][..]), "it serves");
        node
    }

    /// Starts the shards on the disks as they are.
    fn start(&mut self) {
        self.begin();
        self.run();
    }

    /// Kills the node, and lets it take only so many inputs of its next start. Returns whether there
    /// were more.
    pub(crate) fn restart_for(&mut self, inputs: usize) -> bool {
        self.inputs.clear();
        self.received.clear();
        self.begin();
        for _ in 0..inputs {
            self.step();
        }
        !self.inputs.is_empty()
    }

    /// Wakes all shards, and lets them take only so many inputs.
    pub(crate) fn wake_for(&mut self, inputs: usize) {
        self.inputs.extend((0..self.shards.len()).map(|shard| (shard, Input::Wakeup)));
        for _ in 0..inputs {
            self.step();
        }
    }

    fn begin(&mut self) {
        self.seed += 1;
        let config = &self.config;
        self.shards = (0..config.shards)
            .map(|shard| {
                Shard::new(ShardConfig {
                    shard: ShardId(shard),
                    node: Arc::clone(config),
                    seed: self.seed + (u64::from(shard) << 32),
                })
            })
            .collect();
        (self.ready, self.stopped) = (0, 0);
        for shard in 0..self.shards.len() {
            self.inputs.push_back((shard, Input::Start));
        }
    }

    /// Kills the node and starts it again on the same disks.
    pub(crate) fn restart(&mut self) {
        self.inputs.clear();
        self.held.clear();
        self.hold_disk = false;
        self.received.clear();
        self.start();
        let expected = (self.shards.len(), &[][..]);
        assert_eq!((self.ready, &self.fatal[..]), expected, "it serves again");
    }

    /// Feeds inputs until there is none.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    fn step(&mut self) -> bool {
        let Some((shard, input)) = self.inputs.pop_front() else { return false };
        self.shards[shard].handle(self.now, input);
        while let Some(effect) = self.shards[shard].poll_effect() {
            self.carry_out(shard, effect);
        }
        true
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the disk has taken the effects on files")]
    fn carry_out(&mut self, shard: usize, effect: Effect) {
        let effect = match self.disks[shard].perform(effect) {
            Ok((token, result)) => {
                let input = (shard, Input::Completed { token, result });
                if self.hold_disk {
                    self.held.push_back(input);
                } else {
                    self.inputs.push_back(input);
                }
                return;
            }
            Err(effect) => effect,
        };
        match effect {
            Effect::Transmit { connection, parts } => {
                let buffer = self.received.entry(connection).or_default();
                let mut bytes = 0;
                for part in parts {
                    bytes += part.len() as u64;
                    buffer.extend_from_slice(&part);
                }
                if !self.deaf.contains(&connection) {
                    self.inputs.push_back((shard, Input::Transmitted(connection, bytes)));
                }
            }
            // What a deaf peer is to be sent never goes.
            Effect::Close { connection } if self.deaf.contains(&connection) => {}
            Effect::Close { connection } | Effect::Abort { connection } => {
                self.closed.push(connection);
                self.inputs.push_back((shard, Input::Disconnected(connection)));
            }
            Effect::Post { shard: to, batch } => {
                let from = ShardId(shard as u16);
                self.inputs.push_back((usize::from(to.0), Input::Posted { from, batch }));
            }
            Effect::Reading { connection, on } => {
                self.reading.insert(connection, on);
            }
            Effect::Want { connection, bytes } => {
                self.want.insert(connection, bytes);
            }
            Effect::Ready => self.ready += 1,
            Effect::Stopped => self.stopped += 1,
            Effect::Fatal { message } => self.fatal.push(message),
            Effect::Observe(Event::Mark(mark)) => self.marks.push(mark),
            Effect::Observe(Event::Warning(warning)) => self.warnings.push(warning),
            other => assert!(matches!(other, Effect::Observe(_)), "a test carries out {other:?}"),
        }
    }

    /// Lets held completions of the disk through.
    pub(crate) fn release(&mut self) {
        self.hold_disk = false;
        self.inputs.append(&mut self.held);
        self.run();
    }

    /// Lets completions of the disk through that are held so far; what comes of them is held again.
    pub(crate) fn release_held(&mut self) {
        self.inputs.append(&mut self.held);
        self.run();
    }

    /// Lets time pass, waking shards at their deadlines.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        loop {
            let next = self
                .shards
                .iter()
                .enumerate()
                .filter_map(|(index, shard)| Some((shard.next_deadline()?.0, index)))
                .min();
            let Some((at, shard)) = next.filter(|(at, _)| *at <= end) else { break };
            let at = at.max(self.now.mono);
            self.now.wall = self.now.wall.plus(at.since(self.now.mono).as_millis() as i64);
            self.now.mono = at;
            self.inputs.push_back((shard, Input::Wakeup));
            self.run();
        }
        self.now.wall = self.now.wall.plus(end.since(self.now.mono).as_millis() as i64);
        self.now.mono = end;
    }

    /// Appends a batch to a partition as its leader. Returns it as it is stored.
    pub(crate) fn append(&mut self, id: TopicPartition, mut batch: Batch) -> Batch {
        let (now, owner) = (self.now, usize::from(self.shards[0].owner(id).0));
        let Shard { partitions, log, fx, .. } = &mut self.shards[owner];
        let partition = partitions.get_mut(&id).expect("it leads");
        let base = partition.append_batch(now, batch.clone(), log, fx).expect("it is taken");
        batch.assign(base, partition.leader_epoch());
        self.inputs.push_back((owner, Input::Wakeup));
        self.run();
        batch
    }

    /// Changes the leader of a partition.
    pub(crate) fn lead<T>(
        &mut self,
        id: TopicPartition,
        change: impl FnOnce(Now, &mut Partition, &mut LogStore, &mut Effects) -> T,
    ) -> T {
        let (now, owner) = (self.now, usize::from(self.shards[0].owner(id).0));
        let Shard { partitions, log, fx, .. } = &mut self.shards[owner];
        let result = change(now, partitions.get_mut(&id).expect("it leads"), log, fx);
        self.shards[owner].wake_fetches(now, id);
        self.inputs.push_back((owner, Input::Wakeup));
        self.run();
        result
    }

    /// Stops all shards.
    pub(crate) fn stop(&mut self) {
        for shard in 0..self.shards.len() {
            self.inputs.push_back((shard, Input::Stop));
        }
        self.run();
    }

    /// Opens a connection to a shard.
    pub(crate) fn connect(&mut self, shard: u16) -> Client {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let input =
            Input::Connected { connection, listener: ListenerIndex(0), peer: "test".into() };
        self.inputs.push_back((usize::from(shard), input));
        self.run();
        Client { connection, shard: usize::from(shard) }
    }

    /// Ends a connection from the client's side.
    pub(crate) fn disconnect(&mut self, client: Client) {
        self.inputs.push_back((client.shard, Input::Disconnected(client.connection)));
        self.run();
    }

    /// Sends raw bytes.
    pub(crate) fn send_bytes(&mut self, client: Client, bytes: &[u8]) {
        let input = Input::Received(client.connection, BytesMut::from(bytes));
        self.inputs.push_back((client.shard, input));
        self.run();
    }

    /// Lets a deaf peer take that many bytes after all.
    pub(crate) fn transmitted(&mut self, client: Client, bytes: u64) {
        self.inputs.push_back((client.shard, Input::Transmitted(client.connection, bytes)));
        self.run();
    }

    /// Sends a request that stays behind what is under way, until [`run`](Self::run).
    pub(crate) fn queue<M: RequestMessage>(&mut self, client: Client, version: i16, request: &M) {
        self.next_correlation += 1;
        let frame = frame_request(self.next_correlation, Some("test"), request, version).concat();
        let input = Input::Received(client.connection, BytesMut::from(&frame[..]));
        self.inputs.push_back((client.shard, input));
    }

    /// Sends a request and returns its correlation id.
    pub(crate) fn send<M: RequestMessage>(
        &mut self,
        client: Client,
        version: i16,
        request: &M,
    ) -> i32 {
        self.next_correlation += 1;
        let id = self.next_correlation;
        let frame = frame_request(id, Some("test"), request, version).concat();
        self.send_bytes(client, &frame);
        id
    }

    /// Takes the next whole frame that a client received, without its size.
    pub(crate) fn take_frame(&mut self, client: Client) -> Option<Bytes> {
        let buffer = self.received.get_mut(&client.connection)?;
        let size = buffer.get(..4)?;
        let size = i32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
        if buffer.len() < 4 + size {
            return None;
        }
        buffer.advance(4);
        Some(buffer.split_to(size).freeze())
    }

    /// Takes the next response, which must be to a request of this type.
    pub(crate) fn take<M: RequestMessage>(
        &mut self,
        client: Client,
        version: i16,
    ) -> Option<(i32, M::Response)> {
        let mut reader = Reader::new(self.take_frame(client)?);
        let header_version = M::KEY.response_header_version(version);
        let id = decode_response_header(&mut reader, header_version).expect("a header");
        let response = M::Response::decode(&mut reader, version).expect("a response");
        assert_eq!(reader.remaining(), 0, "nothing behind the response");
        Some((id, response))
    }

    /// Sends a request and returns its response, letting time pass where it waits.
    pub(crate) fn call<M: RequestMessage>(
        &mut self,
        client: Client,
        version: i16,
        request: &M,
    ) -> M::Response {
        let id = self.send(client, version, request);
        for _ in 0..100 {
            if let Some((answered, response)) = self.take::<M>(client, version) {
                assert_eq!(answered, id, "answers come in order");
                return response;
            }
            self.pass(Duration::from_millis(100));
        }
        panic!("{} v{version} is not answered", M::NAME);
    }
}

/// A connection of a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Client {
    pub(crate) connection: ConnectionId,
    shard: usize,
}

/// A batch with one record for each value, by an idempotent producer where one is given.
pub(crate) fn batch(values: &[&str], producer: Option<Producer>) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some(producer) = producer {
        builder = builder.producer(producer);
    }
    for value in values {
        builder.push(1_700_000_000_000, None, Some(value.as_bytes()), &[]);
    }
    builder.build().to_bytes()
}
