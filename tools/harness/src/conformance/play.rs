//! Plays one script against a broker and writes down what comes back.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mainspring_core::wire::json::{Json, base64};
use mainspring_core::wire::{ApiKey, Reader, Request, Response, decode_response_header};
use serde_json::Value;

use super::batches;
use super::normalise::Names;
use super::script::{Act, Call, Script, Step, hex};
use crate::checks::{Outcome, ensure};
use crate::client::Client;

/// Longest wait for an answer, and for a closing.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Longest wait for what a script repeats.
const UNTIL_LIMIT: Duration = Duration::from_secs(20);
/// Time between two tries.
const UNTIL_PAUSE: Duration = Duration::from_millis(20);

/// Plays a script and returns one line for each thing that came back.
pub(super) fn play(script: &Script, address: &str) -> Outcome<Vec<String>> {
    let mut player = Player {
        address,
        prefix: script.prefix(),
        setup: None,
        connections: BTreeMap::new(),
        variables: BTreeMap::new(),
        names: Names::default(),
        lines: Vec::new(),
    };
    for (number, step) in script.steps.iter().enumerate() {
        player.step(step).map_err(|problem| format!("statement {}: {problem}", number + 1))?;
    }
    Ok(player.lines)
}

struct Player<'a> {
    address: &'a str,
    prefix: String,
    setup: Option<Client>,
    connections: BTreeMap<char, Connection>,
    variables: BTreeMap<String, Value>,
    names: Names,
    lines: Vec<String>,
}

struct Connection {
    stream: TcpStream,
    sent: i32,
    /// Requests that are to be answered.
    open: VecDeque<(i32, ApiKey, i16)>,
    /// What is left of a half frame.
    rest: Vec<u8>,
    /// The last answer as it came.
    last: Value,
}

/// What a connection gave.
enum Received {
    Answer(ApiKey, i16, Value),
    Closed,
    Nothing,
    Foreign(String),
}

impl Player<'_> {
    fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Topic { name, partitions, configs } => self.topic(name, *partitions, configs),
            Step::Fill { topic, partition, batch } => {
                let topic = self.named(topic);
                let batch = batches::build(&self.filled(batch)?)?;
                let answer = self.setup()?.produce(&topic, *partition, batch.into())?;
                ensure(answer.error_code == 0, || format!("fill: error {}", answer.error_code))
            }
            Step::Wait(time) => {
                std::thread::sleep(*time);
                Ok(())
            }
            Step::On(connection, act) => self.act(*connection, act),
        }
    }

    fn act(&mut self, name: char, act: &Act) -> Outcome {
        match act {
            Act::Call(call) => {
                self.send(name, call, Part::Whole)?;
                self.receive(name)
            }
            Act::Send(call) => self.send(name, call, Part::Whole),
            Act::Half(call) => self.send(name, call, Part::Half),
            Act::Rest => {
                let connection = self.connection(name)?;
                let rest = std::mem::take(&mut connection.rest);
                connection.write(&rest);
                Ok(())
            }
            Act::Bytes(bytes) => {
                self.connection(name)?.write(bytes);
                Ok(())
            }
            Act::Receive => self.receive(name),
            Act::Until { pointer, wanted, call, is_told } => {
                let received = self.until(name, pointer, wanted, call)?;
                if *is_told {
                    let line = self.line(name, received);
                    self.lines.push(line);
                }
                Ok(())
            }
            Act::Silent(time) => {
                let seen = self.connection(name)?.peek(*time)?;
                self.lines.push(format!("{name} {seen}"));
                Ok(())
            }
            Act::Closed => {
                let seen = match self.connection(name)?.peek(ANSWER_LIMIT)? {
                    "silent" => "open",
                    other => other,
                };
                self.lines.push(format!("{name} {seen}"));
                Ok(())
            }
            Act::Drop => {
                self.connections.remove(&name);
                Ok(())
            }
            Act::Save { name: variable, pointer } => {
                let last = &self.connection(name)?.last;
                let value = last.pointer(pointer).cloned();
                let value = value.ok_or_else(|| format!("no {pointer} in {last}"))?;
                self.variables.insert(variable.clone(), value);
                Ok(())
            }
        }
    }

    /// Makes a topic, and returns once every partition can be asked and has a leader.
    fn topic(&mut self, name: &str, partitions: i32, configs: &[(String, String)]) -> Outcome {
        let real = self.named(name);
        let configs: Vec<_> = configs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let client = self.setup()?;
        client.create_topic(&real, partitions, &configs)?;
        let deadline = Instant::now() + UNTIL_LIMIT;
        let id = loop {
            let answer = client.metadata(Some(&[&real]))?;
            let topic = answer.topics.first().ok_or("metadata about no topic")?;
            let usable = topic.error_code == 0 && topic.partitions.len() == partitions as usize;
            let id = topic.topic_id;
            if usable && (0..partitions).all(|partition| client.start_of(&real, partition).is_ok())
            {
                break id;
            }
            ensure(Instant::now() < deadline, || format!("{real} cannot be used: {answer:?}"))?;
            std::thread::sleep(UNTIL_PAUSE);
        };
        self.variables.insert(format!("{name}.id"), Value::from(id.to_string()));
        Ok(())
    }

    fn setup(&mut self) -> Outcome<&mut Client> {
        if self.setup.is_none() {
            self.setup = Some(Client::connect(self.address)?);
        }
        Ok(self.setup.as_mut().expect("it was made above"))
    }

    fn connection(&mut self, name: char) -> Outcome<&mut Connection> {
        if !self.connections.contains_key(&name) {
            self.connections.insert(name, Connection::new(self.address)?);
        }
        Ok(self.connections.get_mut(&name).expect("it was made above"))
    }

    fn send(&mut self, name: char, call: &Call, part: Part) -> Outcome {
        let key = call.key().ok_or_else(|| format!("no API {}", call.api))?;
        let body = self.filled(&call.body)?;
        let request = Request::from_json(key, call.version, &body);
        let request = request.map_err(|error| error.to_string())?;
        known_fields(&body, &request.to_json(call.version), &call.api)?;
        let unanswered = key == ApiKey::Produce && body["acks"] == 0;
        let connection = self.connection(name)?;
        connection.sent += 1;
        if !unanswered {
            connection.open.push_back((connection.sent, key, call.answer_version));
        }
        let frame = request.frame(connection.sent, Some("conformance"), call.version).concat();
        match part {
            Part::Whole => connection.write(&frame),
            Part::Half => {
                let (first, rest) = frame.split_at(frame.len() / 2);
                connection.write(first);
                connection.rest = rest.to_vec();
            }
        }
        Ok(())
    }

    fn receive(&mut self, name: char) -> Outcome {
        let received = self.connection(name)?.receive()?;
        let line = self.line(name, received);
        self.lines.push(line);
        Ok(())
    }

    fn line(&mut self, name: char, received: Received) -> String {
        match received {
            Received::Answer(key, version, answer) => {
                let answer = self.names.normalise(key, &self.prefix, &answer);
                format!("{name} {} {version} {answer}", key.name())
            }
            Received::Closed => format!("{name} closed"),
            Received::Nothing => format!("{name} nothing"),
            Received::Foreign(what) => format!("{name} {what}"),
        }
    }

    fn until(
        &mut self,
        name: char,
        pointer: &str,
        wanted: &Value,
        call: &Call,
    ) -> Outcome<Received> {
        let deadline = Instant::now() + UNTIL_LIMIT;
        loop {
            self.send(name, call, Part::Whole)?;
            let received = self.connection(name)?.receive()?;
            let done = match &received {
                Received::Answer(_, _, answer) => answer.pointer(pointer) == Some(wanted),
                Received::Closed | Received::Nothing | Received::Foreign(_) => true,
            };
            if done || Instant::now() > deadline {
                return Ok(received);
            }
            std::thread::sleep(UNTIL_PAUSE);
        }
    }

    /// Puts the script's own prefix in place of a leading `~`.
    fn named(&self, text: &str) -> String {
        text.strip_prefix('~')
            .map_or_else(|| text.to_owned(), |rest| format!("{}{rest}", self.prefix))
    }

    /// Returns what a consumer tells its group: version 0, topics, no user data.
    fn subscription(&self, topics: &[Value]) -> Vec<u8> {
        let mut bytes = vec![0, 0];
        bytes.extend((topics.len() as i32).to_be_bytes());
        for topic in topics.iter().filter_map(Value::as_str) {
            let name = self.named(topic);
            bytes.extend((name.len() as i16).to_be_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    }

    /// Puts in names, kept values and described bytes.
    fn filled(&self, value: &Value) -> Outcome<Value> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix('$') {
                Some(name) => {
                    let kept = self.variables.get(name).cloned();
                    kept.ok_or_else(|| format!("nothing was kept as {name}"))?
                }
                None => Value::from(self.named(text)),
            },
            Value::Array(elements) => {
                elements.iter().map(|element| self.filled(element)).collect::<Outcome<_>>()?
            }
            Value::Object(fields) => {
                if let Some(description) = fields.get("$batch") {
                    return Ok(base64(&batches::build(&self.filled(description)?)?).into());
                }
                if let Some(digits) = fields.get("$hex").and_then(Value::as_str) {
                    return Ok(base64(&hex(digits)?).into());
                }
                if let Some(length) = fields.get("$long").and_then(Value::as_u64) {
                    return Ok("x".repeat(length as usize).into());
                }
                if let Some(Value::Array(topics)) = fields.get("$subscription") {
                    return Ok(base64(&self.subscription(topics)).into());
                }
                if let Some(text) = fields.get("$text").and_then(Value::as_str) {
                    return Ok(base64(text.as_bytes()).into());
                }
                let fields = fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), self.filled(value)?)))
                    .collect::<Outcome<serde_json::Map<_, _>>>()?;
                Value::Object(fields)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        })
    }
}

/// How much of a frame is sent.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    Half,
}

/// Refuses fields that the version does not have: a slip of the pen would test nothing.
fn known_fields(given: &Value, known: &Json, place: &str) -> Outcome {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            given.iter().try_for_each(|(name, value)| {
                let place = format!("{place}.{name}");
                let known = known.get(name).ok_or_else(|| format!("there is no {place}"))?;
                known_fields(value, known, &place)
            })
        }
        (Value::Array(given), Value::Array(known)) => {
            given.iter().zip(known).try_for_each(|(given, known)| known_fields(given, known, place))
        }
        _ => Ok(()),
    }
}

impl Connection {
    fn new(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream, sent: 0, open: VecDeque::new(), rest: Vec::new(), last: Value::Null })
    }

    /// Writes; that the peer has closed shows when its answer is read.
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Waits for a first byte and leaves it where it is.
    fn peek(&self, time: Duration) -> Outcome<&'static str> {
        self.stream
            .set_read_timeout(Some(time.max(Duration::from_millis(1))))
            .map_err(|error| error.to_string())?;
        Ok(match self.stream.peek(&mut [0]) {
            Ok(0) => "closed",
            Ok(_) => "speaks",
            Err(error) if late(&error) => "silent",
            Err(_) => "closed",
        })
    }

    fn receive(&mut self) -> Outcome<Received> {
        let mut size = [0; 4];
        self.stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(|error| error.to_string())?;
        match self.stream.read_exact(&mut size) {
            Ok(()) => {}
            Err(error) if late(&error) => return Ok(Received::Nothing),
            Err(_) => return Ok(Received::Closed),
        }
        let mut body = BytesMut::zeroed(u32::from_be_bytes(size) as usize);
        if self.stream.read_exact(&mut body).is_err() {
            return Ok(Received::Foreign("half an answer".to_owned()));
        }
        let Some((expected, key, version)) = self.open.pop_front() else {
            return Ok(Received::Foreign("an answer to nothing".to_owned()));
        };
        let mut reader = Reader::new(body.freeze());
        let header = key.response_header_version(version);
        let id = decode_response_header(&mut reader, header).map_err(|error| error.to_string())?;
        if id != expected {
            return Ok(Received::Foreign(format!("an answer to {id} in place of {expected}")));
        }
        let answer = Response::decode(key, version, &mut reader);
        let answer = answer.map_err(|error| format!("an answer that cannot be read: {error}"))?;
        if reader.remaining() > 0 {
            return Ok(Received::Foreign(format!("{} bytes too many", reader.remaining())));
        }
        self.last = answer.to_json(version);
        Ok(Received::Answer(key, version, self.last.clone()))
    }
}

fn late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
