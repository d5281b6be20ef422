//! The producer, as Python sees it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mainspring_core::record::headers;
use mainspring_net::client::call::Waiter;
use mainspring_net::client::producer::{
    BackgroundProducer, Delivery as NetDelivery, NotTaken, Outgoing, Stored,
};
use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::bytes::Payload;
use crate::call::Call;
use crate::errors::{client_error, error, error_with, panicked};
use crate::guard::guarded;
use crate::runtime::{Generation, background, seconds, wait};
use crate::transaction::{self, GroupOffsets};

/// Headers of records that wait, where the topic honours them.
const LATER: [&[u8]; 4] = [headers::DELAY_MS, headers::DELIVER_AT, headers::CRON, headers::HALF];

/// Longest that a send holds the lock before it lets signals and other threads in.
const MANY: usize = 4096;
/// Bytes after which it does so as well: more would be memory that was not used just now.
const MANY_BYTES: usize = 512 << 10;

/// Longest that a send waits for the task before it takes more of the buffer.
const PACE: Duration = Duration::from_millis(20);

/// What a producer is once it is open.
struct State {
    producer: Arc<BackgroundProducer>,
    generation: Generation,
    /// How long a send waits for room; zero in an event loop.
    max_block: Duration,
    transactional_id: Option<String>,
}

/// The native half of `Producer`.
#[pyclass(frozen, subclass, module = "mainspring._native")]
pub(crate) struct ProducerBase(OnceLock<State>);

#[pymethods]
impl ProducerBase {
    #[new]
    #[pyo3(signature = (*_args, **_keywords))]
    fn new(_args: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self(OnceLock::new())
    }

    /// Makes it usable. `settings` are Kafka's names and their values as text.
    fn _open(
        &self,
        py: Python<'_>,
        bootstrap: &str,
        settings: Vec<(String, String)>,
        max_block: f64,
    ) -> PyResult<()> {
        guarded(|| {
            let config = crate::settings::producer(py, bootstrap, &settings)?;
            let transactional_id = config.transactional_id.as_ref().map(ToString::to_string);
            let producer = BackgroundProducer::start(&background(py)?, config);
            let max_block = seconds(py, Some(max_block))?.unwrap_or_default();
            let state = State {
                producer: Arc::new(producer),
                generation: Generation::current(),
                max_block,
                transactional_id,
            };
            if self.0.set(state).is_err() {
                return Err(error(py, "InternalError", &"a producer was opened twice"));
            }
            Ok(())
        })
    }

    /// Takes one record, which threads of the producer send, and returns its `Delivery` at once.
    ///
    /// Args:
    ///     topic: The topic's name, or a `Topic`, which serializes the value and the key.
    ///     value: The value as bytes, `None` for null.
    ///     key: The key: records with one go to the partition that it stands for.
    ///     headers: A mapping, or pairs of a name and bytes.
    ///     partition: The partition, from 0; by default by the key, or in turn.
    ///     timestamp: Milliseconds since 1970 or a `datetime` with a zone; by default now.
    ///     delay: Seconds or a `timedelta` after which the record comes, in a topic with the feature `schedule`.
    ///     deliver_at: In place of it, when it comes: milliseconds since 1970 or a `datetime` with a zone.
    ///     id: What it is called among those that wait in its partition: another one takes its place.
    ///
    /// Returns:
    ///     The delivery: `result()` waits until the record is stored and raises where it is not; in event loops it is
    ///     awaited. Whoever keeps none hears of a failure by `flush` or `close`, and in the log `mainspring`.
    ///
    /// Raises:
    ///     BufferFull: There was no room for `max_block_ms`; in event loops at once.
    ///     MessageTooLarge: The record alone is larger than a request may be.
    ///     ClosedError: The producer is closed.
    ///     ConfigError: A delay for a topic that has none.
    #[pyo3(
        signature = (
            topic, value, key=None, *, headers=None, partition=None, timestamp=None, delay=None,
            deliver_at=None, id=None, **unknown
        ),
        text_signature = "($self, topic, value, key=None, *, headers=None, partition=None, timestamp=None, \
                          delay=None, deliver_at=None, id=None)"
    )]
    #[expect(
        clippy::too_many_arguments,
        clippy::doc_markdown,
        reason = "Python names them, and reads this"
    )]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        topic: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        key: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        partition: Option<i32>,
        timestamp: Option<&Bound<'py, PyAny>>,
        delay: Option<&Bound<'py, PyAny>>,
        deliver_at: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        unknown: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let py = slf.py();
            if let Some(unknown) = unknown {
                return Err(unknown_keyword(unknown));
            }
            let Ok(topic) = topic.cast::<PyString>() else {
                // A typed topic: Python serializes, and comes back with bytes.
                let arguments =
                    (topic, value, key, headers, partition, timestamp, delay, deliver_at, id);
                return slf.call_method1(pyo3::intern!(py, "_send_typed"), arguments);
            };
            let state = slf.get().state(py)?;
            let value = Payload::of(value, "value")?;
            let key = key.map(|key| Payload::of(key, "key")).transpose()?;
            let mut headers = headers.map(read_headers).transpose()?.unwrap_or_default();
            if delay.is_some() || deliver_at.is_some() || id.is_some() {
                let arguments = (topic, delay, deliver_at, id);
                let added = slf.call_method1(pyo3::intern!(py, "_later"), arguments)?;
                headers.extend(read_headers(&added)?);
            }
            let comes_later = headers.iter().any(|(name, _)| LATER.contains(&&**name));
            let borrowed: Vec<(&[u8], Option<&[u8]>)> =
                headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
            let record = Outgoing {
                topic: topic.to_str()?,
                partition: check_partition(py, partition)?,
                timestamp: timestamp.map(read_timestamp).transpose()?,
                key: key.as_ref().and_then(Payload::bytes),
                value: value.bytes(),
                headers: &borrowed,
            };
            let delivery = state.send(py, &record)?;
            let producer = Arc::clone(&state.producer);
            let delivery = Delivery { inner: delivery, producer, comes_later };
            Ok(Bound::new(py, delivery)?.into_any())
        })
    }

    /// Hands many records over: values, or pairs of key and value.
    fn _send_many(
        &self,
        py: Python<'_>,
        topic: &str,
        records: &Bound<'_, PyAny>,
        keyed: bool,
        partition: Option<i32>,
    ) -> PyResult<usize> {
        guarded(|| {
            let state = self.state(py)?;
            let partition = check_partition(py, partition)?;
            if let Ok(list) = records.cast::<PyList>() {
                if keyed {
                    return state.send_all(py, topic, &mut list.iter().map(Ok), keyed, partition);
                }
                return state.send_values(py, topic, list, partition);
            }
            state.send_all(py, topic, &mut records.try_iter()?, keyed, partition)
        })
    }

    /// Hands over as many of the records from an index on as there is room for, and tells how many.
    fn _send_some(
        &self,
        py: Python<'_>,
        topic: &str,
        records: &Bound<'_, PyList>,
        from: usize,
        keyed: bool,
        partition: Option<i32>,
    ) -> PyResult<usize> {
        guarded(|| {
            let state = self.state(py)?;
            let partition = check_partition(py, partition)?;
            let mut window = Vec::new();
            for item in records.iter().skip(from).take(MANY) {
                window.push(if keyed {
                    let (key, value) = pair(&item)?;
                    (Some(key), value)
                } else {
                    (None, item)
                });
            }
            let (taken, outcome) = state.send_window(py, topic, &window, partition, false);
            outcome.map_err(|problem| noted(py, problem, from + taken)).map(|()| taken)
        })
    }

    /// Begins a transaction.
    fn _begin(&self, py: Python<'_>) -> PyResult<Call> {
        guarded(|| {
            let state = self.state(py)?;
            let begun = state.producer.begin_transaction();
            let (producer, given_up) = (Arc::clone(&state.producer), begun.clone());
            // Nobody would ever end a transaction that is begun behind whoever has gone away.
            let give_up = move || {
                let (producer, begun) = (Arc::clone(&producer), given_up.clone());
                given_up.on_done(Box::new(move || {
                    if matches!(begun.take(), Some(Ok(Ok(())))) {
                        producer.abort_transaction();
                    }
                }));
            };
            Ok(transaction::call(begun, state.id(py)?).or_else(give_up))
        })
    }

    /// Commits or aborts the transaction.
    fn _end(&self, py: Python<'_>, committed: bool) -> PyResult<Call> {
        guarded(|| {
            let state = self.state(py)?;
            let id = state.id(py)?;
            let call = if committed {
                state.producer.commit_transaction()
            } else {
                state.producer.abort_transaction()
            };
            Ok(transaction::call(call, id))
        })
    }

    /// Makes offsets part of the transaction.
    fn _send_offsets(&self, py: Python<'_>, offsets: &Bound<'_, GroupOffsets>) -> PyResult<Call> {
        guarded(|| {
            let state = self.state(py)?;
            let call = state.producer.send_offsets(offsets.get().0.clone());
            Ok(transaction::call(call, state.id(py)?))
        })
    }

    /// The name under which it commits transactions.
    #[getter]
    fn transactional_id(&self) -> Option<&str> {
        self.0.get()?.transactional_id.as_deref()
    }

    /// Sends what was taken so far without waiting for more; done when all of it is reported.
    fn _flush(&self, py: Python<'_>) -> PyResult<Call> {
        guarded(|| Ok(Call::unit(self.state(py)?.producer.flush())))
    }

    /// Done when the buffer has room again.
    fn _room(&self, py: Python<'_>) -> PyResult<Call> {
        guarded(|| Ok(Call::unit(self.state(py)?.producer.room())))
    }

    /// Ends within so many seconds; answers how many records had no report by then.
    fn _close(&self, py: Python<'_>, timeout: f64) -> PyResult<Call> {
        guarded(|| {
            let limit = seconds(py, Some(timeout))?.unwrap_or_default();
            let call = self.state(py)?.producer.close(limit);
            Ok(Call::number(call))
        })
    }

    /// Has the task panic, for tests of what becomes of those who wait.
    #[cfg(debug_assertions)]
    fn _break_down(&self, py: Python<'_>) -> PyResult<()> {
        guarded(|| {
            self.state(py)?.producer.break_down();
            Ok(())
        })
    }

    /// Takes what was not stored of records whose deliveries nobody holds: the error of the first, and how many.
    fn _take_lost(&self, py: Python<'_>) -> PyResult<Option<(Py<PyAny>, u64)>> {
        guarded(|| {
            let Some(lost) = self.state(py)?.producer.take_lost() else { return Ok(None) };
            let context = context_of(lost.topic.as_str(), lost.partition);
            let error = client_error(py, &lost.error, &context);
            Ok(Some((error.into_value(py).into_any(), lost.count)))
        })
    }

    /// Records without a report.
    #[getter]
    fn pending(&self, py: Python<'_>) -> PyResult<usize> {
        guarded(|| Ok(self.state(py)?.producer.pending()))
    }

    /// Whether no record is taken any more.
    #[getter]
    fn is_closed(&self) -> bool {
        self.0.get().is_none_or(|state| state.producer.is_closed())
    }

    /// Whether it was made in this process, and not before a fork.
    #[getter]
    fn _is_here(&self) -> bool {
        self.0.get().is_some_and(|state| state.generation == Generation::current())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.generation != Generation::current() {
            // Its threads are the parent's, and locks may be held by them for ever.
            std::mem::forget(Arc::clone(&self.producer));
            return;
        }
        // Nobody can close it any more, and what it has taken is sent all the same.
        crate::runtime::leave(self.producer.leave());
    }
}

impl ProducerBase {
    fn state(&self, py: Python<'_>) -> PyResult<&State> {
        let state = self.0.get().ok_or_else(|| {
            error(py, "ClosedError", &"this producer was never opened: its constructor failed")
        })?;
        state.generation.check(py, "Producer")?;
        Ok(state)
    }
}

impl State {
    /// The transactional id, or an error that there is none.
    fn id(&self, py: Python<'_>) -> PyResult<&str> {
        self.transactional_id.as_deref().ok_or_else(|| transaction::no_id(py))
    }

    fn send(&self, py: Python<'_>, record: &Outgoing<'_>) -> PyResult<NetDelivery> {
        self.wait_for_task(py)?;
        match self.producer.send(record) {
            Ok(delivery) => return Ok(delivery),
            Err(NotTaken::Full) => {}
            Err(reason) => return Err(self.not_taken(py, reason, record.topic)),
        }
        let begun = Instant::now();
        loop {
            self.wait_for_room(py, begun, record.topic)?;
            match self.producer.send(record) {
                Ok(delivery) => return Ok(delivery),
                Err(NotTaken::Full) => {}
                Err(reason) => return Err(self.not_taken(py, reason, record.topic)),
            }
        }
    }

    fn wait_for_room(&self, py: Python<'_>, begun: Instant, topic: &str) -> PyResult<()> {
        let left = self.max_block.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(self.not_taken(py, NotTaken::Full, topic));
        }
        let room = self.producer.room();
        if wait(py, Some(left), |slice| room.wait(slice))? {
            return Ok(());
        }
        Err(self.not_taken(py, NotTaken::Full, topic))
    }

    /// Lets the task catch up where it is far behind, for as long as something moves.
    fn wait_for_task(&self, py: Python<'_>) -> PyResult<()> {
        if self.producer.is_ahead() && !self.max_block.is_zero() {
            let caught_up = self.producer.caught_up();
            if !wait(py, Some(self.max_block.min(PACE)), |slice| caught_up.wait(slice))? {
                self.producer.note_stall();
            }
        }
        Ok(())
    }

    /// Sends the values of a list.
    fn send_values(
        &self,
        py: Python<'_>,
        topic: &str,
        list: &Bound<'_, PyList>,
        partition: Option<i32>,
    ) -> PyResult<usize> {
        let mut done = 0;
        let mut values: Vec<Bound<'_, PyBytes>> = Vec::with_capacity(MANY.min(list.len()));
        while done < list.len() {
            let (mut end, mut bytes, mut is_plain) = (done, 0, true);
            values.clear();
            while end < list.len().min(done + MANY) && bytes < MANY_BYTES {
                match list.get_item(end)?.cast_into::<PyBytes>() {
                    Ok(value) => {
                        bytes += value.as_bytes().len();
                        values.push(value);
                    }
                    Err(_) => is_plain = false,
                }
                end += 1;
            }
            let mut taken = 0;
            if is_plain {
                self.wait_for_task(py)?;
                let mut many = self.producer.many();
                let place = many.place(topic, partition);
                let is_taken =
                    |value: &&Bound<'_, PyBytes>| many.push_value(place, value.as_bytes()).is_ok();
                taken = values.iter().take_while(is_taken).count();
            }
            if done + taken < end {
                // Other objects, or no room: that is dealt with as for any records.
                let left = (done + taken..end).map(|index| Ok((None, list.get_item(index)?)));
                let left = left.collect::<PyResult<Vec<_>>>()?;
                let (more, outcome) = self.send_window(py, topic, &left, partition, true);
                taken += more;
                outcome.map_err(|problem| noted(py, problem, done + taken))?;
            }
            done += taken;
        }
        Ok(done)
    }

    fn send_all<'py>(
        &self,
        py: Python<'py>,
        topic: &str,
        records: &mut dyn Iterator<Item = PyResult<Bound<'py, PyAny>>>,
        keyed: bool,
        partition: Option<i32>,
    ) -> PyResult<usize> {
        let mut count = 0;
        // An iterator may run Python code, which may use this producer: no lock is held then.
        let mut window: Vec<(Option<Bound<'py, PyAny>>, Bound<'py, PyAny>)> = Vec::new();
        loop {
            window.clear();
            let mut failed = None;
            while window.len() < MANY {
                match records.next() {
                    None => break,
                    Some(Ok(item)) if keyed => match pair(&item) {
                        Ok((key, value)) => window.push((Some(key), value)),
                        Err(problem) => {
                            failed = Some(problem);
                            break;
                        }
                    },
                    Some(Ok(item)) => window.push((None, item)),
                    Some(Err(problem)) => {
                        failed = Some(problem);
                        break;
                    }
                }
            }
            if window.is_empty() && failed.is_none() {
                return Ok(count);
            }
            self.wait_for_task(py)?;
            let (taken, outcome) = self.send_window(py, topic, &window, partition, true);
            count += taken;
            if let Some(problem) = outcome.err().or(failed) {
                return Err(noted(py, problem, count));
            }
        }
    }

    fn send_window(
        &self,
        py: Python<'_>,
        topic: &str,
        window: &[(Option<Bound<'_, PyAny>>, Bound<'_, PyAny>)],
        partition: Option<i32>,
        waits: bool,
    ) -> (usize, PyResult<()>) {
        let mut payloads = Vec::with_capacity(window.len());
        for (key, value) in window {
            let key = key.as_ref().map(|key| Payload::of(key, "key")).transpose();
            match key.and_then(|key| Ok((key, Payload::of(value, "value")?))) {
                Ok(payload) => payloads.push(payload),
                // None of a window is sent in which one cannot be.
                Err(problem) => return (0, Err(problem)),
            }
        }
        self.send_payloads(py, topic, &payloads, partition, waits)
    }

    /// Hands over as many as there is room for, or waits for it; tells how many, and why no more.
    fn send_payloads(
        &self,
        py: Python<'_>,
        topic: &str,
        payloads: &[(Option<Payload<'_>>, Payload<'_>)],
        partition: Option<i32>,
        waits: bool,
    ) -> (usize, PyResult<()>) {
        let mut done = 0;
        let mut begun = None;
        while done < payloads.len() {
            let mut many = self.producer.many();
            let mut refused = None;
            for (key, value) in &payloads[done..] {
                let record = Outgoing {
                    topic,
                    partition,
                    key: key.as_ref().and_then(Payload::bytes),
                    value: value.bytes(),
                    ..Outgoing::default()
                };
                if let Err(reason) = many.push(&record) {
                    refused = Some(reason);
                    break;
                }
                done += 1;
                begun = None;
            }
            drop(many);
            match refused {
                Some(NotTaken::Full) if !waits => return (done, Ok(())),
                Some(NotTaken::Full) => {
                    let begun = *begun.get_or_insert_with(Instant::now);
                    if let Err(problem) = self.wait_for_room(py, begun, topic) {
                        return (done, Err(problem));
                    }
                }
                Some(reason) => return (done, Err(self.not_taken(py, reason, topic))),
                None => {}
            }
        }
        (done, Ok(()))
    }

    fn not_taken(&self, py: Python<'_>, reason: NotTaken, topic: &str) -> PyErr {
        let context = [("topic", topic.to_owned())];
        match reason {
            NotTaken::Full => error_with(
                py,
                "BufferFull",
                &"the producer's buffer is full: records come faster than the broker takes them; wait \
                  with flush() (in asyncio: await drain()), or raise buffer_memory",
                &context,
            ),
            NotTaken::TooLarge(size) => error_with(
                py,
                "MessageTooLarge",
                &format!(
                    "a record of {size} bytes is larger than a request may be; raise max_request_size \
                     here and max.message.bytes of the topic, or send a reference to the data"
                ),
                &context,
            ),
            NotTaken::NoTransaction => error_with(
                py,
                "TransactionStateError",
                &"a producer with a transactional_id sends in transactions alone; send within `with \
                  producer.transaction() as tx:`, or by a producer without the id",
                &context,
            ),
            NotTaken::TransactionFailed => {
                let id = self.transactional_id.as_deref().unwrap_or_default();
                match self.producer.transaction_error() {
                    Some(error) => transaction::why(py, &error.into(), id),
                    // It has been aborted in between, by another thread.
                    None => self.not_taken(py, NotTaken::NoTransaction, topic),
                }
            }
            NotTaken::Panicked => panicked(py),
            NotTaken::Closed => error_with(
                py,
                "ClosedError",
                &"this producer is closed; make another one",
                &context,
            ),
        }
    }
}

fn pair<'py>(item: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if let Ok(tuple) = item.cast::<PyTuple>()
        && tuple.len() == 2
    {
        return Ok((tuple.get_item(0)?, tuple.get_item(1)?));
    }
    let message = "with keyed=True each record is a tuple (key, value)";
    Err(PyTypeError::new_err(message))
}

/// Says beside an error of one of many records what became of those before it.
fn noted(py: Python<'_>, problem: PyErr, before: usize) -> PyErr {
    let note = match before {
        0 => "no record of send_many was taken before it".to_owned(),
        1 => "1 record of send_many was taken before it, and is on its way".to_owned(),
        _ => format!("{before} records of send_many were taken before it, and are on their way"),
    };
    match problem.value(py).call_method1(pyo3::intern!(py, "add_note"), (note,)) {
        Ok(_) => problem,
        Err(other) => other,
    }
}

/// What an error of a record is about. Of a topic that is not known nothing is said.
fn context_of(topic: &str, partition: i32) -> Vec<(&'static str, String)> {
    let topic = (!topic.is_empty()).then(|| ("topic", topic.to_owned()));
    let partition = (partition >= 0).then(|| ("partition", partition.to_string()));
    topic.into_iter().chain(partition).collect()
}

/// The error of a keyword that `send` does not have; those of other clients' are told what there is here.
fn unknown_keyword(unknown: &Bound<'_, PyDict>) -> PyErr {
    let names: Vec<String> = unknown.keys().iter().map(|name| name.to_string()).collect();
    let name = names.first().map_or("", String::as_str);
    let hint = match name {
        "on_delivery" | "callback" => {
            "; what it returns has add_done_callback(callback), and result() waits"
        }
        "timestamp_ms" => "; here it is timestamp",
        _ => "",
    };
    PyTypeError::new_err(format!("send() got an unexpected keyword argument '{name}'{hint}"))
}

fn check_partition(py: Python<'_>, partition: Option<i32>) -> PyResult<Option<i32>> {
    match partition {
        Some(negative @ ..0) => {
            let message = format!("there is no partition {negative}; they are numbered from 0");
            Err(error(py, "ConfigError", &message))
        }
        other => Ok(other),
    }
}

/// Reads a time: milliseconds since 1970, or a `datetime` with a time zone.
fn read_timestamp(argument: &Bound<'_, PyAny>) -> PyResult<i64> {
    if let Ok(millis) = argument.extract::<i64>() {
        return Ok(millis);
    }
    let py = argument.py();
    let types = py.import("mainspring._types")?;
    types.call_method1(pyo3::intern!(py, "_millis"), (argument,))?.extract()
}

type OwnedHeaders = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Reads headers: a mapping, or pairs in their order.
fn read_headers(argument: &Bound<'_, PyAny>) -> PyResult<OwnedHeaders> {
    let pairs = if let Ok(dict) = argument.cast::<PyDict>() {
        dict.items().into_any()
    } else if argument.hasattr("pairs")? {
        argument.call_method0("pairs")?
    } else {
        argument.clone()
    };
    let mut headers = Vec::new();
    for item in pairs.try_iter()? {
        let item = item?;
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract().map_err(|_| {
            PyTypeError::new_err("headers are a mapping, or pairs of a name and bytes")
        })?;
        let name = name
            .extract::<String>()
            .map_err(|_| PyTypeError::new_err("the name of a header is a str"))?;
        let value = match value.cast::<PyString>() {
            Ok(text) => Some(text.to_str()?.as_bytes().to_vec()),
            Err(_) => Payload::of(&value, "header")?.bytes().map(<[u8]>::to_vec),
        };
        headers.push((name.into_bytes(), value));
    }
    Ok(headers)
}

/// Where a record was stored.
#[pyclass(frozen, eq, hash, module = "mainspring._native")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct RecordMetadata {
    #[pyo3(get)]
    topic: String,
    #[pyo3(get)]
    partition: i32,
    #[pyo3(get)]
    offset: Option<i64>,
    #[pyo3(get)]
    timestamp: i64,
    /// Whether it was asked for that the record waits.
    comes_later: bool,
}

#[pymethods]
impl RecordMetadata {
    /// Where the record waits that was sent with a delay; none for others, and where no offset is known.
    #[getter]
    fn schedule_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        guarded(|| {
            let Some(ticket) = self.offset.filter(|_| self.comes_later) else { return Ok(None) };
            let types = py.import("mainspring._later")?;
            let parts = (self.topic.as_str(), self.partition, ticket);
            Ok(Some(types.getattr("ScheduleId")?.call1(parts)?))
        })
    }

    fn __repr__(&self) -> String {
        let Self { topic, partition, offset, timestamp, comes_later: _ } = self;
        let offset = offset.map_or_else(|| "None".to_owned(), |offset| offset.to_string());
        format!(
            "RecordMetadata(topic='{topic}', partition={partition}, offset={offset}, \
             timestamp={timestamp})"
        )
    }
}

impl RecordMetadata {
    fn new(stored: &Stored, comes_later: bool) -> Self {
        Self {
            comes_later,
            topic: stored.topic.as_str().to_owned(),
            partition: stored.partition,
            offset: stored.offset,
            timestamp: stored.timestamp,
        }
    }
}

/// The report of one record, which is there or will be: `result()` waits for it and returns where the record was
/// stored, or raises why it was not; `exception()` returns that; `done()` tells whether it is there;
/// `add_done_callback(f)` calls `f(delivery)` then. In an event loop it is awaited.
#[pyclass(frozen, module = "mainspring._native")]
pub(crate) struct Delivery {
    inner: NetDelivery,
    producer: Arc<BackgroundProducer>,
    /// Whether it was asked for that the record waits.
    comes_later: bool,
}

impl Delivery {
    /// Calls `waiter` once the report is there.
    pub(crate) fn on_done(&self, waiter: Waiter) {
        self.inner.on_done(waiter);
    }

    fn metadata(&self, py: Python<'_>) -> Option<PyResult<RecordMetadata>> {
        let result = self.inner.result()?;
        Some(result.map(|stored| RecordMetadata::new(&stored, self.comes_later)).map_err(|error| {
            let place = self.inner.place();
            let (topic, partition) = place.unwrap_or_default();
            client_error(py, &error, &context_of(topic.as_str(), partition))
        }))
    }

    fn wait_for(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        if self.inner.is_done() {
            return Ok(());
        }
        let limit = seconds(py, timeout)?;
        // Whoever waits sends nothing meanwhile: there is no use in lingering for more.
        self.producer.hurry();
        if wait(py, limit, |slice| self.inner.wait(slice))? {
            return Ok(());
        }
        let message = "the record has no report yet; it is sent on, and may still be stored";
        Err(error(py, "OperationTimeout", &message))
    }
}

#[pymethods]
impl Delivery {
    /// Whether the record was reported, as stored or as failed.
    fn done(&self) -> bool {
        self.inner.is_done()
    }

    /// Waits for the report and returns where the record was stored.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<RecordMetadata> {
        guarded(|| {
            self.wait_for(py, timeout)?;
            self.metadata(py).unwrap_or_else(|| {
                Err(error(py, "InternalError", &"a report was there and is not any more"))
            })
        })
    }

    /// Waits for the report and returns the error, `None` where the record was stored.
    #[pyo3(signature = (timeout=None))]
    fn exception(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        guarded(|| {
            self.wait_for(py, timeout)?;
            let failed = self.metadata(py).and_then(Result::err);
            Ok(failed.map(|error| error.into_value(py).into_any()))
        })
    }

    /// Calls `callback(delivery)` on a thread of its own once the report is there.
    fn add_done_callback(slf: &Bound<'_, Self>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        guarded(|| {
            let py = slf.py();
            let callbacks = py.import("mainspring._callbacks")?;
            callbacks.call_method1(pyo3::intern!(py, "add"), (slf, callback))?;
            Ok(())
        })
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let py = slf.py();
            if let Some(metadata) = slf.get().metadata(py) {
                let value = Some(Py::new(py, metadata?)?.into_any());
                return Ok(Bound::new(py, Ready(std::sync::Mutex::new(value)))?.into_any());
            }
            let module = py.import("mainspring.aio._loop")?;
            module.call_method1(pyo3::intern!(py, "wait_for_delivery"), (slf,))
        })
    }

    /// The report that is there.
    fn _metadata(&self, py: Python<'_>) -> PyResult<RecordMetadata> {
        guarded(|| {
            self.metadata(py).unwrap_or_else(|| {
                Err(error(py, "InternalError", &"a report was asked for that is not there"))
            })
        })
    }

    fn __repr__(&self) -> &'static str {
        match self.inner.result() {
            None => "<Delivery pending>",
            Some(Ok(_)) => "<Delivery stored>",
            Some(Err(_)) => "<Delivery failed>",
        }
    }
}

/// An iterator for `await` whose value is there already.
#[pyclass(frozen, module = "mainspring._native")]
struct Ready(std::sync::Mutex<Option<Py<PyAny>>>);

#[pymethods]
impl Ready {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> PyResult<Py<PyAny>> {
        guarded(|| {
            let value = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            Err(PyStopIteration::new_err(value))
        })
    }
}
