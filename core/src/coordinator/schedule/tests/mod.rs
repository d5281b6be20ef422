//! A schedule at a log of its own, asked like by a partition's leader.

mod clock;
mod commands;
mod copies;
mod dedup;
mod entries;
mod firing;
mod half;
mod loading;
mod model;
mod transactions;
mod turns;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::error::ErrorCode;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::record::builder::{BatchBuilder, NewHeader, Producer};
use crate::record::compress::Codec;
use crate::record::features::{Action, Command, CommandTarget, EntryWish, RecordWish, When};
use crate::record::hidden::{Hidden, Note, Outcome, void_batch};
use crate::record::iterate::OpenBatch;
use crate::record::marker::TxnMarker;
use crate::time::{Instant, Now, UnixMillis};

/// The wall clock at the beginning.
const START: i64 = 1_700_000_000_000;

thread_local! {
    /// How many times were worked out.
    static TIMES: Cell<usize> = const { Cell::new(0) };
}

/// `@every N` comes N milliseconds after; `@grid N` at each multiple of N; anything else never.
fn next_cron(expression: &str, _zone: &str, after_ms: i64) -> Option<i64> {
    TIMES.with(|times| times.set(times.get() + 1));
    let (kind, number) = expression.split_once(' ')?;
    let number: i64 = number.parse().ok()?;
    match kind {
        "@every" => Some(after_ms + number),
        "@grid" => Some((after_ms / number + 1) * number),
        _ => None,
    }
}

/// A record that came out of the schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Delivered {
    offset: i64,
    timestamp: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, String)>,
}

impl Delivered {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().rfind(|(key, _)| key == name);
        found.map_or("none", |(_, value)| value)
    }
}

struct Bench {
    schedule: Schedule,
    settings: Arc<ScheduleSettings>,
    log: Vec<Batch>,
    /// Notes by offset, as they are read again.
    notes: BTreeMap<Offset, Batch>,
    high_watermark: Offset,
    /// Where the log goes on while it is empty.
    start: Offset,
    epoch: LeaderEpoch,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(configure: impl FnOnce(&mut ScheduleSettings)) -> Self {
        let mut settings = ScheduleSettings::default();
        configure(&mut settings);
        let settings = Arc::new(settings);
        let now = Now { mono: Instant::from_nanos(5_000_000_000), wall: UnixMillis(START) };
        let mut schedule = Schedule::new(settings.clone(), next_cron);
        schedule.loaded(now, LeaderEpoch(1));
        Self {
            schedule,
            settings,
            log: Vec::new(),
            notes: BTreeMap::new(),
            high_watermark: Offset::ZERO,
            start: Offset::ZERO,
            epoch: LeaderEpoch(1),
            now,
        }
    }

    fn end(&self) -> Offset {
        self.log.last().map_or(self.start, Batch::next_offset)
    }

    fn append(&mut self, mut batch: Batch) -> Offset {
        let at = self.end();
        batch.assign(at, self.epoch);
        if Hidden::of(&batch) == Some(Hidden::Note) {
            self.notes.insert(at, batch.clone());
        }
        self.schedule.apply(&batch).expect("its own batch");
        self.log.push(batch);
        at
    }

    fn commit(&mut self) {
        self.high_watermark = self.end();
    }

    fn pass(&mut self, ms: i64) {
        self.now.mono = self.now.mono + Duration::from_millis(ms as u64);
        self.now.wall = self.now.wall.plus(ms);
    }

    fn produce(&mut self, records: &[Rec]) -> Result<Offset, (ErrorCode, u32)> {
        self.produce_by(None, records)
    }

    /// Produces a batch, by a transaction if a producer is given; returns the offset of its first record.
    #[expect(clippy::unwrap_in_result, reason = "only the schedule may refuse")]
    fn produce_by(
        &mut self,
        producer: Option<i64>,
        records: &[Rec],
    ) -> Result<Offset, (ErrorCode, u32)> {
        let mut builder = BatchBuilder::new(Codec::None);
        if let Some(id) = producer {
            let (id, epoch) = (ProducerId(id), ProducerEpoch(0));
            builder = builder.producer(Producer { id, epoch, base_sequence: 0 }).transactional();
        }
        for record in records {
            let headers: Vec<NewHeader<'_>> =
                record.headers.iter().map(|(k, v)| (k.as_bytes(), Some(v.as_bytes()))).collect();
            builder.push(record.timestamp, Some(b"k"), Some(record.value.as_bytes()), &headers);
        }
        let batch = builder.build();
        let open = OpenBatch::open(&batch, usize::MAX).expect("whole");
        let wishes: Vec<RecordWish> = records.iter().map(|record| record.wish.clone()).collect();
        let admission = self
            .schedule
            .admit(self.now, self.end(), self.high_watermark, &batch, &wishes, &open)
            .map_err(|refusal| (refusal.error, refusal.index.expect("a record is to blame")))?;
        let keeps = admission.keep.contains(&true);
        let stored = if keeps { batch.clone() } else { void_batch(&batch) };
        if let Some(note) = admission.note(&stored) {
            self.append(note.build());
        }
        Ok(self.append(stored))
    }

    fn marker(&mut self, producer: i64, committed: bool) {
        let marker = TxnMarker {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            coordinator_epoch: 0,
            committed,
        };
        self.append(marker.build(self.now.wall.0));
    }

    /// Asks like an operator.
    fn alter(&mut self, ticket: Offset, command: Command) -> Result<bool, ErrorCode> {
        let target = CommandTarget::Ticket(ticket);
        let note = self.schedule.alter(self.now, self.high_watermark, &target, command);
        let note = note.map_err(|refusal| refusal.error)?;
        let altered = note.is_some();
        if let Some(note) = note {
            self.append(note.build());
        }
        Ok(altered)
    }

    /// Reads what is wanted, until nothing is.
    fn read(&mut self) {
        for _ in 0..1_000 {
            let wanted = self.schedule.wanted(self.now);
            if wanted.is_empty() {
                return;
            }
            for at in wanted {
                let batch = self.notes.get(&at).expect("a note is there").clone();
                self.schedule.take_records(self.now, &batch).expect("its own note");
            }
        }
        panic!("what is read is wanted again");
    }

    /// Reads and delivers what is due.
    fn fire(&mut self) -> Vec<Delivered> {
        let mut out = Vec::new();
        loop {
            self.read();
            let Some((note, batch)) = self.schedule.fire(self.now) else { break };
            self.append(note.build());
            let base = self.append(batch);
            out.extend(delivered(self.log.last().expect("it was appended"), base));
        }
        out
    }

    fn fired_values(&mut self) -> Vec<String> {
        self.fire().iter().map(|it| text(it.value.as_ref())).collect()
    }

    /// Another leader reads the log up to its end.
    fn restart(&mut self) {
        self.epoch = LeaderEpoch(self.epoch.0 + 1);
        let mut schedule = Schedule::new(self.settings.clone(), next_cron);
        for batch in &self.log {
            schedule.apply(batch).expect("its own batch");
        }
        assert_eq!(
            schedule.replicated_digest(),
            self.schedule.replicated_digest(),
            "what is stored is a function of the log"
        );
        schedule.loaded(self.now, self.epoch);
        self.schedule = schedule;
    }

    /// The log loses its end from that offset on, and another leader reads the rest.
    fn truncate(&mut self, end: Offset) {
        self.start = end;
        self.log.retain(|batch| batch.base_offset() < end);
        self.notes.retain(|at, _| *at < end);
        self.epoch = LeaderEpoch(self.epoch.0 + 1);
        self.schedule = replayed(&self.settings, &self.log);
        self.schedule.loaded(self.now, self.epoch);
    }

    /// The log begins at its floor.
    fn trim(&mut self) {
        self.start = self.end();
        let floor = self.schedule.floor().unwrap_or(self.start);
        self.log.retain(|batch| batch.base_offset() >= floor);
        self.notes.retain(|at, _| *at >= floor);
    }

    fn status(&self, ticket: Offset) -> Option<EntryStatus> {
        self.schedule.find(&CommandTarget::Ticket(ticket)).map(|view| view.status)
    }

    fn ended(&self, ticket: Offset) -> Option<(Outcome, i64)> {
        match self.status(ticket)? {
            EntryStatus::Ended(outcome, offset) => Some((outcome, offset.0)),
            EntryStatus::InTransaction
            | EntryStatus::Waits
            | EntryStatus::Held
            | EntryStatus::Half { .. }
            | EntryStatus::Parked => None,
        }
    }
}

fn replayed(settings: &Arc<ScheduleSettings>, log: &[Batch]) -> Schedule {
    let mut schedule = Schedule::new(settings.clone(), next_cron);
    for batch in log {
        schedule.apply(batch).expect("its own batch");
    }
    schedule
}

fn delivered(batch: &Batch, base: Offset) -> Vec<Delivered> {
    let open = OpenBatch::open(batch, usize::MAX).expect("whole");
    assert_eq!(batch.base_offset(), base);
    let records = open.records().map(|record| {
        let record = record.expect("whole");
        let headers = record.record.headers.iter();
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Delivered {
            offset: record.offset.0,
            timestamp: record.timestamp,
            key: record.record.key.map(Bytes::copy_from_slice),
            value: record.record.value.map(Bytes::copy_from_slice),
            headers: headers
                .map(|it| (string(it.key), string(it.value.unwrap_or_default())))
                .collect(),
        }
    });
    records.collect()
}

fn text(bytes: Option<&Bytes>) -> String {
    bytes.map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A record to produce, and what it asks for.
#[derive(Clone, Debug)]
struct Rec {
    value: String,
    timestamp: i64,
    headers: Vec<(String, String)>,
    wish: RecordWish,
}

impl Rec {
    fn new(value: &str, action: Action) -> Self {
        let wish = RecordWish { action, dedup: None };
        Self { value: value.to_owned(), timestamp: START - 7, headers: Vec::new(), wish }
    }

    fn id(mut self, id: &str) -> Self {
        match &mut self.wish.action {
            Action::Wait(wish) => wish.id = Some(Bytes::copy_from_slice(id.as_bytes())),
            Action::Store | Action::Command(..) => panic!("only what waits has a name"),
        }
        self
    }

    fn dedup(mut self, hash: u128) -> Self {
        self.wish.dedup = Some(hash);
        self
    }
}

fn plain(value: &str) -> Rec {
    Rec::new(value, Action::Store)
}

fn delayed(value: &str, ms: i64) -> Rec {
    let wish =
        EntryWish { when: Some(When::After(ms)), check_after_ms: -1, ..EntryWish::default() };
    Rec::new(value, Action::Wait(wish))
}

fn at(value: &str, due_ms: i64) -> Rec {
    let wish =
        EntryWish { when: Some(When::At(due_ms)), check_after_ms: -1, ..EntryWish::default() };
    Rec::new(value, Action::Wait(wish))
}

fn cron(value: &str, expression: &str) -> Rec {
    let cron = Some((expression.into(), "UTC".into()));
    Rec::new(value, Action::Wait(EntryWish { cron, check_after_ms: -1, ..EntryWish::default() }))
}

fn half(value: &str) -> Rec {
    let half = Some("orders".into());
    Rec::new(value, Action::Wait(EntryWish { half, check_after_ms: -1, ..EntryWish::default() }))
}

fn by_id(id: &str, command: Command) -> Rec {
    let id = Bytes::copy_from_slice(id.as_bytes());
    Rec::new("command", Action::Command(CommandTarget::Id(id), command))
}

fn by_ticket(ticket: Offset, command: Command) -> Rec {
    Rec::new("command", Action::Command(CommandTarget::Ticket(ticket), command))
}

const IMPOSSIBLE: ErrorCode = ErrorCode::InvalidRecord;
const LATER: ErrorCode = ErrorCode::NotEnoughReplicas;
const FULL: ErrorCode = ErrorCode::PolicyViolation;
