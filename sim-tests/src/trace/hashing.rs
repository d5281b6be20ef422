//! How inputs and effects enter the hash of a trace.
//!
//! What is frequent enters as numbers and bytes: a text of it would cost more than the machine that
//! brought it about. What is rare enters as its text. Every kind begins with a number of its own.

use std::fmt::{self, Debug, Write as _};

use bytes::Bytes;
use mainspring_core::broker::post::{Answer, Ask, FetchItem, Fetched, Post, Produced};
use mainspring_core::connection::RequestId;
use mainspring_core::ids::TopicPartition;
use mainspring_core::io::{Completion, Effect, Event, FileName, Input, Sync, WriteBody};

use super::TraceHash;

/// Takes text in as it is written, without keeping it.
struct Text<'a>(&'a mut TraceHash);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.bytes(text.as_bytes());
        Ok(())
    }
}

impl TraceHash {
    fn text(&mut self, value: &impl Debug) {
        let written = write!(Text(self), "{value:?}");
        assert!(written.is_ok(), "a hash takes everything");
    }

    fn name(&mut self, name: &FileName) {
        self.bytes(name.as_str().as_bytes());
    }

    fn parts(&mut self, parts: &[Bytes]) {
        self.number(parts.len() as u64);
        for part in parts {
            self.bytes(part);
        }
    }

    fn partition(&mut self, partition: TopicPartition) {
        self.bytes(&partition.topic_id.0);
        self.number(partition.partition.0 as u64);
    }

    fn request(&mut self, kind: u64, request: RequestId) {
        self.number(kind);
        self.number(request.connection.0);
        self.number(request.sequence);
    }
}

pub(super) fn input(hash: &mut TraceHash, input: &Input) {
    match input {
        Input::Received(connection, bytes) => {
            hash.number(1);
            hash.number(connection.0);
            hash.bytes(bytes);
        }
        Input::Transmitted(connection, bytes) => {
            hash.number(2);
            hash.number(connection.0);
            hash.number(*bytes);
        }
        Input::Completed { token, result: Ok(completion) } => {
            hash.number(3);
            hash.number(token.0);
            if let Completion::Read(bytes) = completion {
                hash.bytes(bytes);
            }
        }
        Input::Posted { from, batch } => {
            hash.number(4);
            hash.number(u64::from(from.0));
            posts(hash, batch);
        }
        Input::Wakeup => hash.number(5),
        other => {
            hash.number(6);
            hash.text(other);
        }
    }
}

pub(super) fn effect(hash: &mut TraceHash, effect: &Effect) {
    match effect {
        Effect::Write { file, position, body, sync, token } => {
            hash.number(11);
            hash.name(file);
            hash.number(*position);
            hash.number(u64::from(*sync == Sync::Data));
            hash.number(token.0);
            match body {
                WriteBody::Block(plan) => {
                    hash.number(plan.header().sequence.0);
                    hash.number(plan.sealed_len() as u64);
                }
                WriteBody::Parts(parts) => hash.parts(parts),
            }
        }
        Effect::Read { file, position, length, token } => {
            hash.number(12);
            hash.name(file);
            hash.number(*position);
            hash.number(*length);
            hash.number(token.0);
        }
        Effect::Transmit { connection, parts } => {
            hash.number(13);
            hash.number(connection.0);
            hash.parts(parts);
        }
        Effect::Post { shard, batch } => {
            hash.number(14);
            hash.number(u64::from(shard.0));
            posts(hash, batch);
        }
        Effect::Observe(Event::Count(counter, by)) => {
            hash.number(15);
            hash.number(*counter as u64);
            hash.number(*by);
        }
        Effect::Observe(Event::Mark(mark)) => {
            hash.number(16);
            hash.number(*mark as u64);
        }
        Effect::Observe(Event::HighWatermark { partition, offset }) => {
            hash.number(17);
            hash.partition(*partition);
            hash.number(offset.0 as u64);
        }
        // Its words may name what differs from machine to machine.
        Effect::Observe(Event::Info(_)) => hash.number(18),
        other => {
            hash.number(19);
            hash.text(other);
        }
    }
}

fn posts(hash: &mut TraceHash, batch: &[Post]) {
    hash.number(batch.len() as u64);
    for post in batch {
        match post {
            Post::Ask { request, ask } => asked(hash, *request, ask),
            Post::Answer { request, index, answer } => {
                hash.request(31, *request);
                hash.number(u64::from(*index));
                answered(hash, answer);
            }
            Post::Applied(offset) => {
                hash.number(32);
                hash.number(offset.0 as u64);
            }
            other => {
                hash.number(33);
                hash.text(other);
            }
        }
    }
}

fn asked(hash: &mut TraceHash, request: RequestId, ask: &Ask) {
    match ask {
        Ask::Produce { version, all_replicas, wait, transaction, items } => {
            hash.request(21, request);
            hash.number(*version as u64);
            hash.number(u64::from(*all_replicas) << 1 | u64::from(*wait));
            if transaction.is_some() {
                hash.text(transaction);
            }
            for item in items {
                hash.number(u64::from(item.index));
                hash.partition(item.partition);
                hash.bytes(&item.records);
            }
        }
        Ask::Probe(items) => fetch_items(hash, 22, request, items),
        Ask::Watch(items) => fetch_items(hash, 23, request, items),
        Ask::Read(items) => fetch_items(hash, 24, request, items),
        Ask::Unwatch => hash.request(25, request),
        other => {
            hash.request(26, request);
            hash.text(other);
        }
    }
}

fn fetch_items(hash: &mut TraceHash, kind: u64, request: RequestId, items: &[FetchItem]) {
    hash.request(kind, request);
    for item in items {
        hash.number(u64::from(item.index));
        hash.partition(item.partition);
        hash.number(item.offset.0 as u64);
        hash.number(item.max_bytes);
        hash.number(item.known_readable);
    }
}

fn answered(hash: &mut TraceHash, answer: &Answer) {
    match answer {
        Answer::Produced(Ok(Produced { base_offset, log_append_time_ms, log_start_offset })) => {
            hash.number(41);
            hash.number(base_offset.0 as u64);
            hash.number(*log_append_time_ms as u64);
            hash.number(log_start_offset.0 as u64);
        }
        Answer::Readable(Ok(bytes)) => {
            hash.number(42);
            hash.number(*bytes);
        }
        Answer::Read(Ok(fetched)) => {
            let Fetched { high_watermark, last_stable_offset, log_start_offset, .. } = fetched;
            hash.number(43);
            hash.number(high_watermark.0 as u64);
            hash.number(last_stable_offset.0 as u64);
            hash.number(log_start_offset.0 as u64);
            hash.parts(&fetched.records);
            hash.text(&fetched.aborted);
        }
        other => {
            hash.number(44);
            hash.text(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use mainspring_core::ids::{ConnectionId, IoToken};
    use mainspring_core::io::Mark;

    use super::*;

    fn of(effect: &Effect) -> u64 {
        let mut hash = TraceHash::default();
        super::effect(&mut hash, effect);
        hash.finish()
    }

    #[test]
    fn effects_that_differ_in_anything_have_other_hashes() {
        let transmit = |connection, parts: &[&'static [u8]]| Effect::Transmit {
            connection: ConnectionId(connection),
            parts: parts.iter().map(|part| Bytes::from_static(part)).collect(),
        };
        let write = |position, sync| Effect::Write {
            file: FileName::new("a"),
            position,
            body: WriteBody::Parts(vec![Bytes::from_static(b"x")]),
            sync,
            token: IoToken(1),
        };
        let all = [
            transmit(1, &[b"a"]),
            transmit(2, &[b"a"]),
            transmit(1, &[b"a", b""]),
            write(0, Sync::Data),
            write(0, Sync::None),
            write(1, Sync::None),
            Effect::Observe(Event::Mark(Mark::DiskFull)),
            Effect::Observe(Event::Mark(Mark::BackPressure)),
            Effect::Ready,
            Effect::Stopped,
        ];
        let hashes: std::collections::BTreeSet<u64> = all.iter().map(of).collect();
        assert_eq!(hashes.len(), all.len());
    }

    #[test]
    fn bytes_that_arrive_enter_with_their_connection() {
        let of = |connection, bytes: &[u8]| {
            let mut hash = TraceHash::default();
            let bytes = BytesMut::from(bytes);
            input(&mut hash, &Input::Received(ConnectionId(connection), bytes));
            hash.finish()
        };
        assert_eq!(of(1, b"ab"), of(1, b"ab"));
        assert_ne!(of(1, b"ab"), of(2, b"ab"));
        assert_ne!(of(1, b"ab"), of(1, b"aB"));
    }
}
