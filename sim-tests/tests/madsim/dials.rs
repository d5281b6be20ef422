//! Connections that a shard asks for, between processes that die and ways that are cut.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle};
use mainspring_core::ids::{ConnectionId, NodeId, Uuid};
use mainspring_core::io::{Effect, Input};
use mainspring_core::time::{Instant, Now};
use mainspring_net::simulated::{Machine, drive};
use mainspring_sim::rng::{Rng, Stream};

use crate::run::{note, reach, run, until};

const NODES: u8 = 3;
const PORT: u16 = 700;
const PULSE: Duration = Duration::from_millis(20);

fn host(node: u8) -> String {
    format!("10.0.0.{node}")
}

/// What the test and the machines know together.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// How often a node has heard from another.
    heard: BTreeMap<(u8, u8), u64>,
    refused: usize,
    lost: usize,
    stop: bool,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nothing panics while it holds the board")
    }

    /// Waits until each of these nodes hears from each other one.
    async fn all_hear(&self, nodes: &[u8]) {
        self.lock().heard.clear();
        until("all nodes hear each other", || {
            let known = self.lock();
            let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (*a, *b)));
            pairs.filter(|(a, b)| a != b).all(|pair| known.heard.contains_key(&pair))
        })
        .await;
        note("all hear each other");
    }
}

/// Tells its number to whoever it reaches, again and again.
struct Talker {
    me: u8,
    board: Board,
    effects: VecDeque<Effect>,
    dialled: u64,
    asked: BTreeMap<ConnectionId, (u8, bool)>,
    due: Option<Instant>,
}

impl Talker {
    fn dial(&mut self, to: u8) {
        self.dialled += 1;
        let connection = ConnectionId::outgoing(self.dialled);
        self.asked.insert(connection, (to, false));
        let (node, host) = (NodeId(to.into()), Arc::from(host(to)));
        self.effects.push_back(Effect::Connect { connection, node, host, port: PORT });
    }

    fn pulse(&mut self, now: Now) {
        if self.board.lock().stop {
            self.effects.push_back(Effect::Stopped);
            self.due = None;
            return;
        }
        let open = self.asked.iter().filter(|(_, (_, is_open))| *is_open);
        for (connection, _) in open {
            let parts = vec![Bytes::from(vec![self.me])];
            self.effects.push_back(Effect::Transmit { connection: *connection, parts });
        }
        for to in 1..=NODES {
            if to != self.me && !self.asked.values().any(|(asked, _)| *asked == to) {
                self.dial(to);
            }
        }
        self.due = Some(now.mono + PULSE);
    }
}

impl Machine for Talker {
    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Start | Input::Wakeup => self.pulse(now),
            Input::Opened(connection) => {
                let link = self.asked.get_mut(&connection).expect("it was asked for");
                assert!(!std::mem::replace(&mut link.1, true), "once");
            }
            Input::Received(connection, bytes) => {
                assert!(!connection.is_outgoing(), "nobody answers");
                for from in bytes {
                    *self.board.lock().heard.entry((self.me, from)).or_default() += 1;
                }
            }
            Input::Disconnected(connection) => match self.asked.remove(&connection) {
                Some((_, true)) => self.board.lock().lost += 1,
                Some((_, false)) => self.board.lock().refused += 1,
                None => assert!(!connection.is_outgoing(), "it was asked for"),
            },
            _ => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    fn cluster_id(&self) -> Uuid {
        Uuid::ZERO
    }
}

fn start(me: u8, board: &Board) -> NodeHandle {
    let board = board.clone();
    Handle::current()
        .create_node()
        .name(host(me))
        .ip(IpAddr::V4(Ipv4Addr::new(10, 0, 0, me)))
        .init(move || {
            let board = board.clone();
            async move {
                let (effects, asked) = (VecDeque::new(), BTreeMap::new());
                let talker = Talker { me, board, effects, dialled: 0, asked, due: None };
                drive(Box::new(talker), (&host(me), PORT)).await.expect("the address is free");
            }
        })
        .build()
}

#[madsim::test]
async fn nodes_connect_to_each_other_again_and_again_through_deaths_and_cuts() {
    run(async {
        let mut rng = Rng::new(Handle::current().seed(), Stream::Faults);
        let board = Board::default();
        let nodes: Vec<NodeHandle> = (1..=NODES).map(|me| start(me, &board)).collect();
        board.all_hear(&[1, 2, 3]).await;
        for _ in 0..4 {
            let struck = rng.index(nodes.len());
            let others: Vec<u8> =
                (1..=NODES).filter(|node| usize::from(*node) != struck + 1).collect();
            let id = nodes[struck].id();
            let time = Duration::from_millis(rng.between(1, 3_000));
            let dies = rng.chance(500);
            note(format_args!("node {} is struck, dies {dies}", struck + 1));
            if dies {
                Handle::current().kill(id);
                madsim::time::sleep(time).await;
                board.all_hear(&others).await;
                Handle::current().restart(id);
            } else {
                NetSim::current().clog_node(id);
                madsim::time::sleep(time).await;
                board.all_hear(&others).await;
                NetSim::current().unclog_node(id);
            }
            board.all_hear(&[1, 2, 3]).await;
        }
        {
            let mut known = board.lock();
            reach("attempts that failed", known.refused);
            reach("connections that were lost", known.lost);
            known.stop = true;
        }
    })
    .await;
}
