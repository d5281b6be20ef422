//! Records that were read, as Python sees them: made when they are looked at.

use std::sync::{Arc, Mutex, PoisonError};

use mainspring_core::client::fetcher::{FetchedRecords, RecordView};
use mainspring_core::client::producer::accumulator::Place;
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::errors::error;
use crate::guard::guarded;

/// How keys and values become objects: callables of bytes and context, or none for bytes.
#[derive(Default)]
pub(crate) struct Forms {
    pub(crate) key: Option<Py<PyAny>>,
    pub(crate) value: Option<Py<PyAny>>,
}

/// What one event brought of one partition.
pub(crate) struct Told {
    pub(crate) place: Place,
    pub(crate) topic: Py<PyString>,
    pub(crate) records: FetchedRecords,
    pub(crate) next_offset: i64,
    pub(crate) forms: Arc<Forms>,
}

impl Told {
    /// The record at an index that is known to be there.
    pub(crate) fn record(&self, index: usize) -> RecordView<'_> {
        self.records.get(index).expect("an index below their number")
    }

    fn bytes<'py>(py: Python<'py>, bytes: Option<&[u8]>) -> Bound<'py, PyAny> {
        match bytes {
            Some(bytes) => PyBytes::new(py, bytes).into_any(),
            None => py.None().into_bound(py),
        }
    }

    /// Makes an object of a key or a value.
    fn object<'py>(
        &self,
        py: Python<'py>,
        form: Option<&Py<PyAny>>,
        bytes: Option<&[u8]>,
        offset: i64,
    ) -> PyResult<Bound<'py, PyAny>> {
        match form {
            None => Ok(Self::bytes(py, bytes)),
            Some(form) => {
                let place = (self.topic.bind(py), self.place.1.0, offset);
                form.bind(py).call1((Self::bytes(py, bytes), place.0, place.1, place.2))
            }
        }
    }
}

/// One record that was read: `topic`, `partition`, `offset`, `timestamp` (milliseconds since 1970), `key`, `value`,
/// `headers`, and `raw`, the bytes of the value. Key and value are bytes, or what the serializers of a `Topic` make of
/// them.
#[pyclass(frozen, module = "mainspring._native", generic)]
pub(crate) struct Message {
    told: Arc<Told>,
    index: u32,
    key: PyOnceLock<Py<PyAny>>,
    value: PyOnceLock<Py<PyAny>>,
}

impl Message {
    pub(crate) fn new(told: Arc<Told>, index: usize) -> Self {
        Self { told, index: index as u32, key: PyOnceLock::new(), value: PyOnceLock::new() }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.told.place
    }

    pub(crate) fn offset_number(&self) -> i64 {
        self.told.record(self.index as usize).offset.0
    }
}

#[pymethods]
impl Message {
    /// The topic.
    #[getter]
    fn topic<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.told.topic.bind(py)
    }

    /// The partition.
    #[getter]
    fn partition(&self) -> i32 {
        self.told.place.1.0
    }

    /// The offset.
    #[getter]
    fn offset(&self) -> i64 {
        self.offset_number()
    }

    /// Milliseconds since 1970, -1 for none.
    #[getter]
    fn timestamp(&self) -> i64 {
        self.told.record(self.index as usize).timestamp
    }

    /// The key; made once.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        guarded(|| {
            let made = self.key.get_or_try_init(py, || {
                let record = self.told.record(self.index as usize);
                let form = self.told.forms.key.as_ref();
                self.told.object(py, form, record.key, record.offset.0).map(Bound::unbind)
            })?;
            Ok(made.bind(py))
        })
    }

    /// The value; made once.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        guarded(|| {
            let made = self.value.get_or_try_init(py, || {
                let record = self.told.record(self.index as usize);
                let form = self.told.forms.value.as_ref();
                self.told.object(py, form, record.value, record.offset.0).map(Bound::unbind)
            })?;
            Ok(made.bind(py))
        })
    }

    /// The bytes of the value as they were sent.
    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        Told::bytes(py, self.told.record(self.index as usize).value)
    }

    /// The bytes of the key as they were sent.
    #[getter]
    fn raw_key<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        Told::bytes(py, self.told.record(self.index as usize).key)
    }

    /// The headers, in their order.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            static HEADERS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let class = HEADERS.get_or_try_init(py, || {
                py.import("mainspring._types")?.getattr("Headers").map(Bound::unbind)
            })?;
            let record = self.told.record(self.index as usize);
            let pairs = PyList::empty(py);
            for (name, value) in record.headers.iter().map(|header| (header.key, header.value)) {
                let name = String::from_utf8_lossy(name);
                pairs.append((name, Told::bytes(py, value)))?;
            }
            class.bind(py).call1((pairs,))
        })
    }

    fn __repr__(&self) -> String {
        let record = self.told.record(self.index as usize);
        let size =
            record.value.map_or_else(|| "null".to_owned(), |value| format!("{} B", value.len()));
        let (topic, partition) = (&self.told.place.0, self.told.place.1.0);
        format!("<Message {topic}-{partition}@{} {size}>", record.offset.0)
    }

    fn __reduce__(&self) -> PyResult<()> {
        guarded(|| {
            let message = "a Message is a view of what a consumer holds and cannot be pickled; send its \
                       value, key and offset instead";
            Err(PyTypeError::new_err(message))
        })
    }
}

/// A run of records of one partition.
struct Segment {
    told: Arc<Told>,
    from: usize,
    to: usize,
}

/// Records that were read together.
#[pyclass(frozen, module = "mainspring._native", generic)]
pub(crate) struct MessageBatch(Mutex<Vec<Segment>>);

impl MessageBatch {
    /// Adds records to a batch that nobody has seen yet.
    pub(crate) fn add(&self, told: Arc<Told>, from: usize, to: usize) {
        self.segments().push(Segment { told, from, to });
    }

    fn segments(&self) -> std::sync::MutexGuard<'_, Vec<Segment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For each partition the offset behind its last record here.
    pub(crate) fn ends(&self) -> Vec<(Place, i64)> {
        let mut ends: Vec<(Place, i64)> = Vec::new();
        for segment in &*self.segments() {
            let end = if segment.to == segment.told.records.len() {
                segment.told.next_offset
            } else {
                segment.told.record(segment.to).offset.0
            };
            match ends.iter_mut().find(|(place, _)| *place == segment.told.place) {
                Some((_, known)) => *known = end,
                None => ends.push((segment.told.place.clone(), end)),
            }
        }
        ends
    }

    fn list<'py>(
        &self,
        py: Python<'py>,
        make: impl Fn(&Arc<Told>, usize) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        // What makes an object may run Python code: the lock is not held then.
        let segments: Vec<(Arc<Told>, usize, usize)> = self
            .segments()
            .iter()
            .map(|segment| (Arc::clone(&segment.told), segment.from, segment.to))
            .collect();
        let mut made = Vec::with_capacity(segments.iter().map(|(_, from, to)| to - from).sum());
        for (told, from, to) in &segments {
            for index in *from..*to {
                made.push(make(told, index)?);
            }
        }
        PyList::new(py, made)
    }
}

#[pymethods]
impl MessageBatch {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn __len__(&self) -> usize {
        self.segments().iter().map(|segment| segment.to - segment.from).sum()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| Ok(self.messages(py)?.try_iter()?.into_any()))
    }

    fn __getitem__(&self, index: isize) -> PyResult<Message> {
        guarded(|| {
            let length = self.__len__();
            let at = if index < 0 { index + length as isize } else { index };
            let mut at = usize::try_from(at).ok().filter(|at| *at < length).ok_or_else(|| {
                PyIndexError::new_err(format!(
                    "the batch has {length} messages, and no message {index}"
                ))
            })?;
            for segment in &*self.segments() {
                let count = segment.to - segment.from;
                if at < count {
                    return Ok(Message::new(Arc::clone(&segment.told), segment.from + at));
                }
                at -= count;
            }
            Err(PyIndexError::new_err("no such message"))
        })
    }

    /// All messages.
    fn messages<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            self.list(py, |told, index| {
                Ok(Bound::new(py, Message::new(Arc::clone(told), index))?.into_any())
            })
        })
    }

    /// All values.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            self.list(py, |told, index| match told.forms.value.as_ref() {
                None => Ok(Told::bytes(py, told.records.value(index))),
                form @ Some(_) => {
                    let record = told.record(index);
                    told.object(py, form, record.value, record.offset.0)
                }
            })
        })
    }

    /// All keys.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            self.list(py, |told, index| {
                let record = told.record(index);
                told.object(py, told.forms.key.as_ref(), record.key, record.offset.0)
            })
        })
    }

    /// All times, in milliseconds since 1970.
    fn timestamps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        guarded(|| {
            self.list(py, |told, index| {
                Ok(told.record(index).timestamp.into_pyobject(py)?.into_any())
            })
        })
    }

    /// For each topic and partition the offset behind its last message here.
    #[getter]
    fn offsets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(|| {
            let offsets = PyDict::new(py);
            for ((topic, partition), offset) in self.ends() {
                offsets.set_item(partition_key(py, topic.as_str(), partition.0)?, offset)?;
            }
            Ok(offsets)
        })
    }

    fn __repr__(&self) -> String {
        format!("<MessageBatch of {}>", self.__len__())
    }

    fn __reduce__(&self) -> PyResult<()> {
        guarded(|| {
            let message = "a MessageBatch cannot be pickled; send its values() instead";
            Err(PyTypeError::new_err(message))
        })
    }
}

/// Makes a `TopicPartition`.
pub(crate) fn partition_key<'py>(
    py: Python<'py>,
    topic: &str,
    partition: i32,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        py.import("mainspring._types")?.getattr("TopicPartition").map(Bound::unbind)
    })?;
    class.bind(py).call1((topic, partition))
}

/// Reads a topic and partition: a `TopicPartition`, or any pair.
pub(crate) fn read_place(argument: &Bound<'_, PyAny>) -> PyResult<Place> {
    let py = argument.py();
    let pair = argument.cast::<PyTuple>().map_err(|_| {
        error(py, "ConfigError", &"a partition is a pair of its topic's name and its number")
    })?;
    let topic: String = pair.get_item(0)?.extract()?;
    let partition: i32 = pair.get_item(1)?.extract()?;
    Ok(mainspring_core::client::consumer::place(&topic, partition))
}
