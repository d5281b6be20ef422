//! Somebody who speaks no Kafka: announces frames as large as may be, sends little of them, and stays.

use bytes::Bytes;

use crate::net::StreamId;
use crate::world::{Actor, ActorEvent, Hands};

/// Somebody whom nobody answers.
#[derive(Debug)]
pub struct Stranger {
    pause: u64,
    stream: Option<StreamId>,
    /// When it says the next thing.
    next: u64,
    finished: bool,
}

impl Stranger {
    /// Makes somebody who does something each `pause` nanoseconds or so.
    pub const fn new(pause: u64) -> Self {
        Self { pause, stream: None, next: 0, finished: false }
    }

    fn drive(&mut self, hands: &mut Hands<'_>) {
        if self.finished {
            return;
        }
        hands.wake_at(hands.now + self.pause);
        if hands.now < self.next {
            return;
        }
        self.next = hands.now + hands.rng.exponential(self.pause);
        let Some(stream) = self.stream else {
            self.stream = Some(hands.connect(hands.home));
            return;
        };
        if hands.rng.chance(300) {
            hands.close(stream);
            return;
        }
        // ApiVersions opens every conversation, so that one of its frames is read like any other.
        let announced: i32 = [90 << 20, 5 << 20, i32::MAX, -1, 14][hands.rng.index(5)];
        let mut frame = announced.to_be_bytes().to_vec();
        frame.extend_from_slice(&[0, 18, 0, 0, 0, 0, 0, 1]);
        frame.resize(12 + hands.rng.index(3_000), 0);
        hands.send(stream, vec![Bytes::from(frame)]);
    }
}

impl Actor for Stranger {
    fn handle(&mut self, hands: &mut Hands<'_>, event: ActorEvent) {
        match event {
            ActorEvent::Wake | ActorEvent::Connected(_) | ActorEvent::Received(..) => {}
            ActorEvent::Disconnected(stream) => {
                if self.stream == Some(stream) {
                    self.stream = None;
                }
            }
            ActorEvent::Finish => {
                self.finished = true;
                if let Some(stream) = self.stream {
                    hands.close(stream);
                }
            }
        }
        self.drive(hands);
    }

    fn pending(&self) -> Option<String> {
        None
    }
}
