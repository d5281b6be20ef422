//! The consumer, as Python sees it.
//!
//! Python's half asks for one event after the other and takes messages out of what events tell. What
//! is noted as processed follows from that: a message counts once the next one is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mainspring_core::client::ClientError;
use mainspring_core::client::consumer::{Consumer, ConsumerEvent, TopicPattern};
use mainspring_core::client::fetcher::Start;
use mainspring_core::client::group::StoredOffset;
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::client::settings::AdminConfig;
use mainspring_core::ids::Offset;
use mainspring_core::wire::KafkaString;
use mainspring_net::client::administrator::Administrator;
use mainspring_net::client::call::{Abandoned, Call as NetCall, Promise};
use mainspring_net::client::consumer::BackgroundConsumer;
use mainspring_net::client::operations::About;
use mainspring_net::client::producer_transactions::GroupOffsets as NetOffsets;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::admin::refused;
use crate::call::Call;
use crate::errors::{abandoned, client_error, error};
use crate::guard::guarded;
use crate::message::{Forms, Message, MessageBatch, Told, partition_key, read_place};
use crate::runtime::{Generation, background, seconds, wait};
use crate::transaction::GroupOffsets;

/// What a consumer is once it is open.
struct State {
    consumer: Arc<BackgroundConsumer>,
    generation: Generation,
    reading: Mutex<Reading>,
    /// Whether it was told what to read.
    is_told: AtomicBool,
    is_stopped: AtomicBool,
    is_closed: AtomicBool,
    /// Kept until it is stopped.
    stop: Mutex<Option<Promise<()>>>,
    stopped: NetCall<()>,
    /// Deserializers by topic; those under the empty name are for all others.
    forms: BTreeMap<String, Arc<Forms>>,
}

#[derive(Default)]
struct Reading {
    /// What messages are taken from, and the next one of it.
    current: Option<(Arc<Told>, usize)>,
    /// The question for the next event, where one was asked.
    asked: Option<NetCall<ConsumerEvent>>,
    topics: BTreeMap<KafkaString, Py<PyString>>,
    /// What was given out in a batch that does not count as processed yet.
    given: BTreeMap<Place, i64>,
}

/// The native half of `Consumer`.
#[pyclass(frozen, subclass, generic, module = "mainspring._native")]
pub(crate) struct ConsumerBase(OnceLock<State>);

/// A setting by Kafka's name, and its value.
type Pair = (String, String);
type PyForms = (String, Option<Py<PyAny>>, Option<Py<PyAny>>);

#[pymethods]
impl ConsumerBase {
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
        settings: Vec<Pair>,
        forms: Vec<PyForms>,
    ) -> PyResult<()> {
        guarded(|| {
            let config = crate::settings::consumer(py, bootstrap, &settings)?;
            let consumer = BackgroundConsumer::start(&background(py)?, config);
            let mut by_topic: BTreeMap<String, Arc<Forms>> = forms
                .into_iter()
                .map(|(topic, key, value)| (topic, Arc::new(Forms { key, value })))
                .collect();
            by_topic.entry(String::new()).or_default();
            let stop = Promise::detached();
            let state = State {
                consumer: Arc::new(consumer),
                stopped: stop.call(),
                stop: Mutex::new(Some(stop)),
                generation: Generation::current(),
                reading: Mutex::default(),
                is_told: AtomicBool::new(false),
                is_stopped: AtomicBool::new(false),
                is_closed: AtomicBool::new(false),
                forms: by_topic,
            };
            if self.0.set(state).is_err() {
                return Err(error(py, "InternalError", &"a consumer was opened twice"));
            }
            Ok(())
        })
    }

    /// Joins the group for these topics.
    fn _subscribe(&self, py: Python<'_>, topics: Vec<String>) -> PyResult<Call> {
        guarded(|| {
            let topics: BTreeSet<KafkaString> =
                topics.iter().map(|topic| KafkaString::from(topic.as_str())).collect();
            let state = self.open(py)?;
            state.is_told.store(!topics.is_empty(), Ordering::Release);
            state.drop_current();
            Ok(Call::unit(state.consumer.with(|consumer, now| consumer.subscribe(now, topics))))
        })
    }

    /// Joins the group for all topics whose names match.
    fn _subscribe_pattern(&self, py: Python<'_>, pattern: &str) -> PyResult<Call> {
        guarded(|| {
            let regex = regex_lite::Regex::new(pattern).map_err(|problem| {
                error(py, "ConfigError", &format!("{pattern} is no pattern of topics: {problem}"))
            })?;
            let pattern = TopicPattern::new(pattern, move |name| regex.is_match(name));
            let state = self.open(py)?;
            state.is_told.store(true, Ordering::Release);
            state.drop_current();
            let subscribe = |consumer: &mut Consumer, now| consumer.subscribe_pattern(now, pattern);
            Ok(Call::unit(state.consumer.with(subscribe)))
        })
    }

    /// Reads these partitions. A start is "earliest", "latest", "stored", an offset, or a negative
    /// time in milliseconds less one.
    fn _assign(&self, py: Python<'_>, places: &Bound<'_, PyList>) -> PyResult<Call> {
        guarded(|| {
            let mut read = BTreeMap::new();
            for item in places {
                let (place, start): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
                read.insert(read_place(&place)?, read_start(&start)?);
            }
            let state = self.open(py)?;
            state.is_told.store(!read.is_empty(), Ordering::Release);
            state.drop_current();
            Ok(Call::unit(state.consumer.with(|consumer, now| consumer.assign(now, read))))
        })
    }

    /// Goes on elsewhere; answers whether the partition is held.
    fn _seek(
        &self,
        py: Python<'_>,
        place: &Bound<'_, PyAny>,
        start: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        guarded(|| {
            let place = read_place(place)?;
            let start = read_start(start)?.ok_or_else(|| {
                error(py, "ConfigError", &"seek needs an offset, a time, earliest or latest")
            })?;
            let state = self.open(py)?;
            let asked = {
                let mut reading = state.reading();
                if reading.current.as_ref().is_some_and(|(told, _)| told.place == place) {
                    reading.current = None;
                }
                reading.asked.clone()
            };
            let seek = move |consumer: &mut Consumer, now| {
                // What was told already is from before.
                drop(asked.and_then(|asked| asked.take_if(|event| is_of(event, &place))));
                consumer.seek(now, &place, start)
            };
            Ok(bool_call(state.consumer.with(seek)))
        })
    }

    fn _pause(&self, py: Python<'_>, places: &Bound<'_, PyList>, paused: bool) -> PyResult<Call> {
        guarded(|| {
            let places: BTreeSet<Place> =
                places.iter().map(|place| read_place(&place)).collect::<PyResult<_>>()?;
            let state = self.open(py)?;
            let asked = {
                let mut reading = state.reading();
                if paused
                    && reading
                        .current
                        .as_ref()
                        .is_some_and(|(told, _)| places.contains(&told.place))
                {
                    // The rest is read again once it goes on.
                    state.give_back(&mut reading);
                }
                reading.asked.clone()
            };
            Ok(Call::unit(state.consumer.with(move |consumer, now| {
                if !paused {
                    consumer.resume(now, &places);
                    return;
                }
                consumer.pause(&places);
                let is_told =
                    |event: &ConsumerEvent| places.iter().any(|place| is_of(event, place));
                if let Some(ConsumerEvent::Records { place, records, next_offset, .. }) =
                    asked.and_then(|asked| asked.take_if(is_told))
                {
                    let first = records.get(0).map_or(next_offset, |record| record.offset);
                    consumer.seek(now, &place, Start::Offset(first));
                }
            })))
        })
    }

    /// Answers `{partition: (position, high watermark)}` of all that is held.
    fn _positions(&self, py: Python<'_>) -> PyResult<Call> {
        guarded(|| {
            type Held = Vec<(Place, Option<Offset>, Option<Offset>)>;
            let call = self.open(py)?.consumer.with(|consumer, _| -> Held {
                let known = |place: Place| {
                    (place.clone(), consumer.position(&place), consumer.high_watermark(&place))
                };
                consumer.assignment().into_iter().map(known).collect()
            });
            let state_current = self.state(py)?.reading().current.as_ref().map(|(told, index)| {
                let at = told.records.len().min(*index);
                let offset = if at == told.records.len() {
                    told.next_offset
                } else {
                    told.record(at).offset.0
                };
                (told.place.clone(), offset)
            });
            Ok(Call::new(call, move |py, held| {
                let all = PyDict::new(py);
                for (place, position, end) in held {
                    // The machine has told more than was taken of it.
                    let taken = state_current.as_ref().filter(|(of, _)| *of == place);
                    let position =
                        taken.map(|(_, at)| *at).or_else(|| position.map(|position| position.0));
                    let key = partition_key(py, place.0.as_str(), place.1.0)?;
                    all.set_item(key, (position, end.map(|end| end.0)))?;
                }
                Ok(all.into_any().unbind())
            }))
        })
    }

    /// Asks for the next event; the same question until it is accepted.
    fn _ask(&self, py: Python<'_>) -> PyResult<Call> {
        guarded(|| {
            let state = self.state(py)?;
            state.check_told(py)?;
            let asked = state.ask();
            Ok(Call::new(asked, |py, _| {
                Err(error(py, "InternalError", &"an event is taken by _accept alone"))
            }))
        })
    }

    /// Takes the event that was asked for, if it is there, and tells whether there are records now.
    /// Other events are dealt with, unless only records are wanted: then they wait.
    #[pyo3(signature = (only_records=false))]
    fn _accept(slf: &Bound<'_, Self>, only_records: bool) -> PyResult<bool> {
        guarded(|| Self::accept(slf, only_records))
    }

    /// Takes the next message of what was told, `None` where there is none left of it.
    fn _take(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        guarded(|| Ok(self.state(py)?.next_message()))
    }

    /// Moves up to so many messages of what was told to a batch, and tells how many.
    fn _fill(
        &self,
        py: Python<'_>,
        batch: &Bound<'_, MessageBatch>,
        most: usize,
    ) -> PyResult<usize> {
        guarded(|| {
            let state = self.state(py)?;
            let mut reading = state.reading();
            let Some((told, from)) = reading.current.take() else {
                return Ok(0);
            };
            let to = told.records.len().min(from + most);
            if to < told.records.len() {
                reading.current = Some((Arc::clone(&told), to));
            }
            if to > from {
                let end = if to < told.records.len() {
                    told.record(to).offset.0
                } else {
                    told.next_offset
                };
                reading.given.insert(told.place.clone(), end);
                batch.get().add(told, from, to);
            }
            Ok(to - from)
        })
    }

    /// Counts a batch as processed.
    fn _processed(&self, py: Python<'_>, batch: &Bound<'_, MessageBatch>) -> PyResult<()> {
        guarded(|| {
            let ends = batch.get().ends();
            let state = self.state(py)?;
            state.reading().given.clear();
            state.consumer.with(move |consumer, _| {
                for (place, offset) in ends {
                    consumer.store(&place, Offset(offset));
                }
            });
            Ok(())
        })
    }

    /// Waits for the next message: `None` after so many seconds, and after `stop`.
    #[pyo3(signature = (timeout=None))]
    fn _next(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Option<Message>> {
        guarded(|| {
            let py = slf.py();
            let state = slf.get().open(py)?;
            state.check_told(py)?;
            let limit = seconds(py, timeout)?;
            loop {
                if state.is_stopped.load(Ordering::Acquire) {
                    return Ok(None);
                }
                if let Some(message) = state.next_message() {
                    return Ok(Some(message));
                }
                let asked = state.ask();
                let stopped = &state.is_stopped;
                let ready = |slice| asked.wait(slice) || stopped.load(Ordering::Acquire);
                if !wait(py, limit, ready)? {
                    return Ok(None);
                }
                Self::accept(slf, false)?;
            }
        })
    }

    /// Raises where it is closed.
    fn _check_open(&self, py: Python<'_>) -> PyResult<()> {
        guarded(|| self.open(py).map(|_| ()))
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        guarded(|| {
            slf.get().open(slf.py())?.check_told(slf.py())?;
            Ok(slf.clone())
        })
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Message>> {
        guarded(|| {
            // A loop ends where another thread closes the consumer.
            if slf.get().is_stopped() { Ok(None) } else { Self::_next(slf, None) }
        })
    }

    /// Stores offsets: all that is processed, a message and what is before it, a batch, or offsets
    /// by partition.
    fn _commit(&self, py: Python<'_>, what: Option<&Bound<'_, PyAny>>) -> PyResult<Call> {
        guarded(|| {
            let state = self.open(py)?;
            let offsets = match what {
                None => {
                    state.note_last();
                    let given = state.reading().given.clone();
                    state.consumer.with(move |consumer, _| {
                        for (place, offset) in given {
                            consumer.store(&place, Offset(offset));
                        }
                    });
                    None
                }
                Some(what) => Some(read_offsets(what)?),
            };
            let call = state.consumer.commit(offsets);
            Ok(Call::new(call, |py, result| {
                let committed = result.map_err(|error| client_error(py, &error, &[]))?;
                for (place, result) in committed {
                    if let Err(problem) = result {
                        return Err(client_error(py, &problem, &context(&place)));
                    }
                }
                Ok(py.None())
            }))
        })
    }

    /// Answers offsets for a transaction: of a message and what is before it, of a batch, or by
    /// partition.
    fn _offsets_for_transaction(&self, py: Python<'_>, what: &Bound<'_, PyAny>) -> PyResult<Call> {
        guarded(|| {
            let offsets = read_offsets(what)?;
            let call = self.open(py)?.consumer.with(move |consumer, _| {
                let member = consumer.transaction_member(offsets.keys())?;
                Ok(NetOffsets { member, offsets })
            });
            Ok(Call::new(call, |py, result: Result<NetOffsets, ClientError>| {
                let offsets = result.map_err(|error| client_error(py, &error, &[]))?;
                Ok(Py::new(py, GroupOffsets(offsets))?.into_any())
            }))
        })
    }

    /// Goes back to the stored offsets of all that is held.
    fn _rewind(&self, py: Python<'_>) -> PyResult<Call> {
        guarded(|| {
            let state = self.open(py)?;
            let asked = {
                let mut reading = state.reading();
                reading.current = None;
                reading.given.clear();
                reading.asked.clone()
            };
            let call = state.consumer.with(move |consumer, now| {
                // What was told already is from before.
                let is_told =
                    |event: &ConsumerEvent| matches!(event, ConsumerEvent::Records { .. });
                drop(asked.and_then(|asked| asked.take_if(is_told)));
                consumer.rewind(now)
            });
            Ok(Call::new(call, |py, result| match result {
                Ok(()) => Ok(py.None()),
                Err(error) => Err(client_error(py, &error, &[])),
            }))
        })
    }

    /// Answers `{partition: offset or None}` of what is stored in the group.
    fn _committed(&self, py: Python<'_>, places: &Bound<'_, PyList>) -> PyResult<Call> {
        guarded(|| {
            let places: BTreeSet<Place> =
                places.iter().map(|place| read_place(&place)).collect::<PyResult<_>>()?;
            let call = self.open(py)?.consumer.committed(places);
            Ok(Call::new(call, |py, result| {
                let fetched = result.map_err(|error| client_error(py, &error, &[]))?;
                let all = PyDict::new(py);
                for (place, result) in fetched {
                    let stored =
                        result.map_err(|error| client_error(py, &error, &context(&place)))?;
                    let key = partition_key(py, place.0.as_str(), place.1.0)?;
                    all.set_item(key, stored.map(|stored| stored.offset.0))?;
                }
                Ok(all.into_any().unbind())
            }))
        })
    }

    /// Leaves the group within so many seconds, after a last commit where commits are automatic.
    fn _close(&self, py: Python<'_>, timeout: f64) -> PyResult<Call> {
        guarded(|| {
            let limit = seconds(py, Some(timeout))?.unwrap_or_default();
            let state = self.state(py)?;
            state.is_closed.store(true, Ordering::Release);
            state.stop();
            Ok(Call::unit(state.consumer.close(limit)))
        })
    }

    /// Has the task panic, for tests of what becomes of those who wait.
    #[cfg(debug_assertions)]
    fn _break_down(&self, py: Python<'_>) -> PyResult<()> {
        guarded(|| {
            self.state(py)?.consumer.break_down();
            Ok(())
        })
    }

    /// Ends iterations, from any thread or from a signal handler.
    fn stop(&self) {
        if let Some(state) = self.0.get() {
            state.stop();
        }
    }

    /// Done once `stop` or `close` was called.
    fn _stopped(&self, py: Python<'_>) -> PyResult<Call> {
        guarded(|| Ok(Call::unit(self.state(py)?.stopped.clone())))
    }

    /// Whether `stop` or `close` was called.
    #[getter]
    fn is_stopped(&self) -> bool {
        self.0.get().is_none_or(|state| state.is_stopped.load(Ordering::Acquire))
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
            std::mem::forget(Arc::clone(&self.consumer));
        }
    }
}

impl State {
    /// Ends iterations, and tells those who wait for that.
    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        let promise = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(promise) = promise {
            promise.complete(());
        }
    }

    fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(error(py, "ClosedError", &"this consumer is closed; make another one"));
        }
        Ok(())
    }

    /// Nobody waits for what can never come.
    fn check_told(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_told.load(Ordering::Acquire) {
            let why = "this consumer reads nothing: name topics when it is made, or call subscribe() or assign() first";
            return Err(error(py, "ConfigError", &why));
        }
        Ok(())
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_current(&self) {
        self.reading().current = None;
    }

    /// The question for the next event; a new one where the last one was accepted.
    fn ask(&self) -> NetCall<ConsumerEvent> {
        let mut reading = self.reading();
        if let Some(asked) = &reading.asked {
            return asked.clone();
        }
        let asked = self.consumer.ask();
        reading.asked = Some(asked.clone());
        asked
    }

    /// Gives what was not taken of the records back to the machine.
    fn give_back(&self, reading: &mut Reading) {
        let Some((told, index)) = reading.current.take() else {
            return;
        };
        if index < told.records.len() {
            self.consumer.give_back(told.place.clone(), told.record(index).offset.0);
        }
        if index > 0 {
            let behind = if index < told.records.len() {
                told.record(index).offset.0
            } else {
                told.next_offset
            };
            self.consumer.note(behind);
        }
    }

    fn next_message(&self) -> Option<Message> {
        let mut reading = self.reading();
        let (told, index) = reading.current.as_mut()?;
        let at = *index;
        if at < told.records.len() {
            if at > 0 {
                self.consumer.note(told.record(at).offset.0);
            }
            if !self.consumer.is_interrupted() {
                *index += 1;
                return Some(Message::new(Arc::clone(told), at));
            }
            // The group waits for partitions: the rest is read again by whoever has it then.
            self.give_back(&mut reading);
            return None;
        }
        self.consumer.note(told.next_offset);
        reading.current = None;
        None
    }

    /// Counts the message that was taken last as processed.
    fn note_last(&self) {
        if let Some((told, index)) = &self.reading().current
            && *index > 0
        {
            let behind = if *index < told.records.len() {
                told.record(*index).offset.0
            } else {
                told.next_offset
            };
            self.consumer.note(behind);
        }
    }
}

impl ConsumerBase {
    fn state(&self, py: Python<'_>) -> PyResult<&State> {
        let state = self.0.get().ok_or_else(|| {
            error(py, "ClosedError", &"this consumer was never opened: its constructor failed")
        })?;
        state.generation.check(py, "Consumer")?;
        Ok(state)
    }

    /// Returns what it is, unless it is closed.
    fn open(&self, py: Python<'_>) -> PyResult<&State> {
        let state = self.state(py)?;
        state.check_open(py)?;
        Ok(state)
    }

    fn accept(slf: &Bound<'_, Self>, only_records: bool) -> PyResult<bool> {
        let py = slf.py();
        let state = slf.get().state(py)?;
        let event = {
            let mut reading = state.reading();
            let Some(asked) = reading.asked.take() else { return Ok(false) };
            match asked.take() {
                Some(Ok(event)) => event,
                Some(Err(Abandoned::Ended)) => ConsumerEvent::Closed,
                Some(Err(reason)) => return Err(abandoned(py, reason)),
                None => {
                    reading.asked = (!asked.is_done()).then_some(asked);
                    return Ok(false);
                }
            }
        };
        if let ConsumerEvent::Records { place, records, next_offset, .. } = event {
            let mut reading = state.reading();
            let topic = reading
                .topics
                .entry(place.0.clone())
                .or_insert_with(|| PyString::new(py, place.0.as_str()).unbind())
                .clone_ref(py);
            let forms = state.forms.get(place.0.as_str()).or_else(|| state.forms.get(""));
            let forms = forms.cloned().unwrap_or_default();
            state.consumer.begin(&place);
            let told = Told { place, topic, records, next_offset: next_offset.0, forms };
            reading.current = Some((Arc::new(told), 0));
            return Ok(true);
        }
        if only_records {
            // It stays the answer to the question, until somebody wants more than records.
            state.reading().asked = Some(NetCall::ready(event));
            return Ok(false);
        }
        Self::deal_with(slf, event)?;
        Ok(false)
    }

    /// Tells Python of an event other than records.
    fn deal_with(slf: &Bound<'_, Self>, event: ConsumerEvent) -> PyResult<()> {
        let py = slf.py();
        let (kind, places) = match event {
            ConsumerEvent::Assigned { added, .. } => ("assigned", added),
            ConsumerEvent::Revoked(places) => ("revoked", places),
            ConsumerEvent::Lost(places) => ("lost", places),
            ConsumerEvent::PartitionFailed { place, error } => {
                return Err(client_error(py, &error, &context(&place)));
            }
            ConsumerEvent::TopicFailed { topic, error } => {
                return Err(client_error(py, &error, &[("topic", topic.as_str().to_owned())]));
            }
            ConsumerEvent::Failed(error) => return Err(client_error(py, &error, &[])),
            ConsumerEvent::Closed => {
                slf.get().stop();
                return Ok(());
            }
            ConsumerEvent::Records { .. }
            | ConsumerEvent::Committed { .. }
            | ConsumerEvent::Fetched { .. } => return Ok(()),
        };
        let list = PyList::empty(py);
        for (topic, partition) in places {
            list.append(partition_key(py, topic.as_str(), partition.0)?)?;
        }
        slf.call_method1(pyo3::intern!(py, "_on_event"), (kind, list))?;
        Ok(())
    }
}

/// Whether an event tells records of a partition.
fn is_of(event: &ConsumerEvent, of: &Place) -> bool {
    matches!(event, ConsumerEvent::Records { place, .. } if place == of)
}

fn context(place: &Place) -> [(&'static str, String); 2] {
    [("topic", place.0.as_str().to_owned()), ("partition", place.1.0.to_string())]
}

fn bool_call(call: NetCall<bool>) -> Call {
    Call::new(call, |py, value| Ok(value.into_pyobject(py)?.to_owned().into_any().unbind()))
}

/// Reads where to begin: "earliest", "latest", "stored", an offset, or ("time", milliseconds).
fn read_start(argument: &Bound<'_, PyAny>) -> PyResult<Option<Start>> {
    let py = argument.py();
    if let Ok(offset) = argument.extract::<i64>() {
        return Ok(Some(Start::Offset(checked_offset(py, offset)?)));
    }
    if let Ok((kind, millis)) = argument.extract::<(String, i64)>()
        && kind == "time"
    {
        return Ok(Some(Start::Time(millis)));
    }
    match argument.extract::<String>().as_deref() {
        Ok("earliest") => Ok(Some(Start::Earliest)),
        Ok("latest") => Ok(Some(Start::Latest)),
        Ok("stored") => Ok(None),
        Ok(_) | Err(_) => {
            let message = "begin at an offset, a datetime, \"earliest\", \"latest\" or \"stored\"";
            Err(error(py, "ConfigError", &message))
        }
    }
}

/// Refuses what is no offset: to brokers some negative numbers mean something of their own.
fn checked_offset(py: Python<'_>, offset: i64) -> PyResult<Offset> {
    if offset < 0 {
        let message = format!(
            "{offset} is no offset: they count from 0; \"earliest\" and \"latest\" are the ends of a partition"
        );
        return Err(error(py, "ConfigError", &message));
    }
    Ok(Offset(offset))
}

/// Reads offsets to be stored.
fn read_offsets(what: &Bound<'_, PyAny>) -> PyResult<BTreeMap<Place, StoredOffset>> {
    if let Ok(message) = what.cast::<Message>() {
        let message = message.get();
        let behind = Offset(message.offset_number() + 1);
        return Ok(BTreeMap::from([(message.place().clone(), StoredOffset::from(behind))]));
    }
    if let Ok(batch) = what.cast::<MessageBatch>() {
        let ends = batch.get().ends().into_iter();
        return Ok(ends.map(|(place, end)| (place, StoredOffset::from(Offset(end)))).collect());
    }
    let Ok(offsets_by_place) = what.cast::<PyDict>() else {
        let kind = what.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "offsets are a message, a batch, or a dict such as {{(\"topic\", 0): 5}}, and not of type {kind}"
        )));
    };
    let mut offsets = BTreeMap::new();
    for (place, offset) in offsets_by_place.iter() {
        let offset = checked_offset(what.py(), offset.extract()?)?;
        offsets.insert(read_place(&place)?, StoredOffset::from(offset));
    }
    Ok(offsets)
}

/// Finds all partitions of topics: a list of pairs.
#[pyfunction]
pub(crate) fn _topic_partitions(
    py: Python<'_>,
    bootstrap: &str,
    settings: Vec<Pair>,
    topics: Vec<String>,
) -> PyResult<Call> {
    guarded(|| {
        let network = crate::settings::consumer(py, bootstrap, &settings)?.fetcher.network;
        let api_timeout = network.request_timeout;
        let administrator =
            Administrator::start(&background(py)?, AdminConfig { network, api_timeout });
        let names: Vec<KafkaString> =
            topics.iter().map(|topic| KafkaString::from(topic.as_str())).collect();
        let call = administrator.run(|mut operations| async move {
            let metadata = operations.metadata(Some(&names)).await?;
            let mut found: Vec<(String, i32)> = Vec::new();
            for topic in metadata.topics {
                let name = topic.name.unwrap_or_default();
                if let Some(problem) = ClientError::from_code(topic.error_code) {
                    return Err(About::Topic(name).refused(problem));
                }
                let mut partitions: Vec<i32> =
                    topic.partitions.iter().map(|partition| partition.partition_index).collect();
                partitions.sort_unstable();
                found.extend(partitions.into_iter().map(|partition| (name.to_string(), partition)));
            }
            Ok(found)
        });
        Ok(Call::new(call, |py, answer| {
            let list = PyList::empty(py);
            for (topic, partition) in answer.map_err(|refusal| refused(py, &refusal))? {
                list.append(partition_key(py, &topic, partition)?)?;
            }
            Ok(list.into_any().unbind())
        }))
    })
}
