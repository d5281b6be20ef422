//! Batches of a log that no client ever sees: what features of a topic remember in it, and the places of
//! records that are not stored where they were produced.
//!
//! Both are control batches. A *void batch* stands for a produced batch of which no record is kept; it takes
//! the offsets and the sequences of that batch. A *note* says what changed: its one record holds
//! [`Change`]s. A note that [names a batch](Note::link) counts only if that batch comes right behind it, so
//! that both are there or neither, whatever a crash or a change of leaders leaves.
//!
//! Markers of transactions and control batches of the metadata log are none of these: the header decides, see
//! [`Hidden::of`].

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::{Offset, ProducerId};
use crate::record::batch::{Batch, HEADER_LEN};
use crate::record::iterate::Records;
use crate::wire::codec::Message;
use crate::wire::error::{DecodeError, DecodeErrorKind};
use crate::wire::hidden_record::{ChangeRecord, NoteHeader, NoteValue};
use crate::wire::reader::Reader;
use crate::wire::string::KafkaString;
use crate::wire::writer::Writer;

/// The kind of a control record that ends a transaction with a commit. Void batches carry it too, so that a
/// client that should ever meet one passes over it.
const KIND_COMMIT: i16 = 1;
/// The kind of a note's control record.
const KIND_NOTE: i16 = 0x4d53;
/// Stands in the value of a void batch behind what a marker has: a version and a coordinator epoch. Behind a note
/// its offset follows.
const VOID_MAGIC: &[u8; 4] = b"MSV1";
/// The base sequence of a note, which no batch of a producer has.
const NOTE_SEQUENCE: i32 = -2;
/// Marks a ticket that is a place in the linked batch.
const IN_LINK: i64 = i64::MIN;

/// Which of the two a batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hidden {
    /// Stands for a produced batch without its records.
    Void,
    /// Says what changed.
    Note,
}

impl Hidden {
    /// Judges a batch of a topic by its header alone; `None` for what clients are served: records, and markers
    /// of transactions, which are transactional and count no sequence.
    pub fn of(batch: &Batch) -> Option<Self> {
        if !batch.is_control() || (batch.is_transactional() && batch.base_sequence() == -1) {
            return None;
        }
        let is_note = batch.base_sequence() == NOTE_SEQUENCE;
        Some(if is_note { Self::Note } else { Self::Void })
    }
}

/// Which entry a change is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ticket {
    /// The record with this place in the batch behind the note.
    InLink(u32),
    /// The one that was produced at this offset.
    At(Offset),
}

impl Ticket {
    /// Returns the offset, where the batch behind the note begins at `link`.
    #[must_use]
    pub const fn resolve(self, link: Offset) -> Offset {
        match self {
            Self::InLink(index) => link.plus(index as i64),
            Self::At(offset) => offset,
        }
    }
}

/// A header of a record that waits.
pub type EntryHeader = (Bytes, Option<Bytes>);

/// A record that is not in the log's place for it: it comes later, or perhaps never.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When it is due, in Unix milliseconds; of a half message, when it is due once it is committed, -1 for at
    /// once.
    pub due_ms: i64,
    /// What the producer calls it.
    pub id: Option<Bytes>,
    /// The producer's timestamp, in Unix milliseconds.
    pub timestamp: i64,
    /// Key of the record.
    pub key: Option<Bytes>,
    /// Value of the record.
    pub value: Option<Bytes>,
    /// Headers of the record.
    pub headers: Vec<EntryHeader>,
    /// When it recurs, and the name of the time zone.
    pub cron: Option<(KafkaString, KafkaString)>,
    /// What a half message has besides.
    pub half: Option<Half>,
}

/// What a half message has besides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Half {
    /// Who is asked for the verdict.
    pub check_group: KafkaString,
    /// Milliseconds before it is asked for first, -1 for the topic's setting.
    pub check_after_ms: i64,
    /// How often it was asked for.
    pub checks: u32,
    /// Whether it is asked for no more.
    pub is_parked: bool,
}

/// What is done to an entry from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum Alteration {
    /// It never comes.
    Cancel = 1,
    /// It comes at another time.
    Reschedule = 2,
    /// It comes now.
    DeliverNow = 3,
    /// A half message is let out.
    Commit = 4,
    /// A half message is thrown away.
    Rollback = 5,
}

/// How far the question for a verdict has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum CheckStep {
    /// It is about to be put.
    Intent = 1,
    /// It was put.
    Sent = 2,
    /// It is put no more; the half message stays and is listed.
    Parked = 3,
}

/// How an entry ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum Outcome {
    /// It was delivered.
    Fired = 1,
    /// It was cancelled.
    Cancelled = 2,
    /// It was committed as a half message, whatever came then.
    Committed = 3,
    /// It was rolled back as a half message.
    RolledBack = 4,
    /// Another one took its name, the ticket of which stands in place of where it was delivered.
    Replaced = 5,
}

/// One change of what a log remembers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "the large ones are the most, and live shortly")]
pub enum Change {
    /// An entry was accepted, or is written again so that its old place may go.
    Entry(Ticket, Entry),
    /// Something was done to an entry. The due time counts for `Reschedule`, and for `DeliverNow` and `Commit`,
    /// where it says when now was; -1 elsewhere. By a record of the batch behind the note (its place), it is
    /// part of that batch's transaction.
    Alter {
        /// The entry.
        ticket: Offset,
        /// What.
        what: Alteration,
        /// The due time, in Unix milliseconds.
        due_ms: i64,
        /// The place of the command in the batch behind the note, `None` where it came otherwise.
        by: Option<u32>,
    },
    /// An entry is delivered as the next record of the batch behind the note.
    Fired {
        /// The entry.
        ticket: Offset,
        /// When it recurs, in Unix milliseconds; -1 where it does not.
        next_due_ms: i64,
    },
    /// The question for the verdict on a half message went a step on.
    Check {
        /// The half message.
        ticket: Offset,
        /// How often it has been put with this.
        attempt: u32,
        /// The step.
        step: CheckStep,
    },
    /// A record was not stored because another one with its hash was, at `original`.
    Duplicate {
        /// Its place in the batch behind the note.
        index: u32,
        /// Where the other one is.
        original: Offset,
    },
    /// A record with this hash was stored: another one is a duplicate.
    Stored {
        /// Where.
        ticket: Ticket,
        /// The hash of what identifies it.
        hash: u128,
        /// When, in Unix milliseconds.
        at_ms: i64,
    },
    /// How an entry ended, written again so that its old place may go.
    Ended {
        /// The entry.
        ticket: Offset,
        /// What the producer called it.
        id: Option<Bytes>,
        /// How it ended.
        outcome: Outcome,
        /// Where it was delivered, or the ticket of what replaced it; -1 for nowhere.
        offset: Offset,
        /// When, in Unix milliseconds.
        at_ms: i64,
    },
}

/// What one note says, and what it rests on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The leader's wall clock when it was decided, in Unix milliseconds.
    pub at_ms: i64,
    /// The CRC of the batch that must come right behind it, at the next offset and in the same leader epoch.
    pub link: Option<u32>,
    /// What changed, in order.
    pub changes: Vec<Change>,
}

const ENTRY: i8 = 1;
const ALTER: i8 = 2;
const FIRED: i8 = 3;
const CHECK: i8 = 4;
const DUPLICATE: i8 = 5;
const STORED: i8 = 6;
const ENDED: i8 = 7;

impl Note {
    /// Returns whether it says again what a note before it has said.
    pub fn restates(&self) -> bool {
        self.link.is_none()
            && self.changes.iter().any(|change| match change {
                Change::Entry(..) | Change::Stored { .. } | Change::Ended { .. } => true,
                Change::Alter { .. }
                | Change::Fired { .. }
                | Change::Check { .. }
                | Change::Duplicate { .. } => false,
            })
    }

    /// Builds the batch, of one offset.
    pub fn build(&self) -> Batch {
        let value = NoteValue {
            at_ms: self.at_ms,
            link: self.link.map_or(-1, i64::from),
            changes: self.changes.iter().map(change_record).collect(),
        };
        let mut writer = Writer::default();
        value.encode(0, &mut writer);
        let mut versioned = BytesMut::with_capacity(2);
        versioned.put_i16(0);
        versioned.put_slice(&writer.into_bytes());
        control(KIND_NOTE, &versioned, 0, &NO_PRODUCER, NOTE_SEQUENCE)
    }

    /// Reads a batch that [is](Hidden::of) a note.
    ///
    /// # Errors
    /// [`DecodeError`] where it is of a later version, holds a change of an unknown kind, or is damaged.
    pub fn read(batch: &Batch) -> Result<Self, DecodeError> {
        let wrong = || Reader::new(Bytes::new()).error(DecodeErrorKind::UnknownValue(0));
        let record = Records::new(batch.rest(), 1).next().and_then(Result::ok).ok_or_else(wrong)?;
        let value = record.value.ok_or_else(wrong)?;
        let mut reader = Reader::new(batch.rest().slice_ref(value));
        let version = reader.i16()?;
        if version != 0 {
            return Err(reader.error(DecodeErrorKind::UnknownVersion(version)));
        }
        let value = NoteValue::decode(&mut reader, version)?;
        let changes = value.changes.into_iter().map(|it| change(it, &reader));
        Ok(Self {
            at_ms: value.at_ms,
            link: u32::try_from(value.link).ok(),
            changes: changes.collect::<Result<_, _>>()?,
        })
    }
}

/// Builds the batch that stands for a produced one of which no record is kept.
#[must_use]
pub fn void_batch(of: &Batch) -> Batch {
    void_batch_with(of, &[])
}

/// Builds the same for one that comes right behind the note at that offset. Two void batches may have all else in
/// common; with the offset in it, none is taken for the one that another note names.
#[must_use]
pub fn void_batch_behind(of: &Batch, note: Offset) -> Batch {
    void_batch_with(of, &note.0.to_be_bytes())
}

fn void_batch_with(of: &Batch, rest: &[u8]) -> Batch {
    let mut value = BytesMut::with_capacity(10 + rest.len());
    value.put_i16(0);
    value.put_i32(-1);
    value.put_slice(VOID_MAGIC);
    value.put_slice(rest);
    // Without a producer there is neither a transaction nor a sequence, whatever its header says of them: with
    // either it could be taken for a marker or a note.
    let (header, sequence) = if of.producer_id() < ProducerId(0) {
        (&NO_PRODUCER, -1)
    } else {
        (of.header(), of.base_sequence().max(0))
    };
    control(KIND_COMMIT, &value, of.last_offset_delta(), header, sequence)
}

const NO_PRODUCER: [u8; HEADER_LEN] = {
    let mut header = [0; HEADER_LEN];
    let mut at = 43;
    while at < 53 {
        header[at] = 0xff;
        at += 1;
    }
    header
};

const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;

/// Builds a control batch with one record, the last of `last_delta + 1` offsets, with the producer and the
/// transaction of another header and no time.
fn control(
    kind: i16,
    value: &[u8],
    last_delta: i32,
    of: &[u8; HEADER_LEN],
    base_sequence: i32,
) -> Batch {
    let mut record = Vec::with_capacity(value.len() + 32);
    // Attributes, and no time beyond that of the batch.
    record.extend_from_slice(&[0, 0]);
    put_varint(&mut record, i64::from(last_delta));
    put_varint(&mut record, 4);
    record.put_i16(0);
    record.put_i16(kind);
    put_varint(&mut record, value.len() as i64);
    record.extend_from_slice(value);
    record.push(0);
    let mut rest = Vec::with_capacity(record.len() + 5);
    put_varint(&mut rest, record.len() as i64);
    rest.append(&mut record);

    let transactional = i16::from_be_bytes([of[21], of[22]]) & TRANSACTIONAL_BIT;
    let mut header = [0; HEADER_LEN];
    header[12..16].fill(0xff);
    header[16] = 2;
    header[21..23].copy_from_slice(&(transactional | CONTROL_BIT).to_be_bytes());
    header[23..27].copy_from_slice(&last_delta.to_be_bytes());
    header[27..43].fill(0xff);
    header[43..53].copy_from_slice(&of[43..53]);
    header[53..57].copy_from_slice(&base_sequence.to_be_bytes());
    header[57..61].copy_from_slice(&1_i32.to_be_bytes());
    Batch::seal(header, rest.into())
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

const fn ticket_number(ticket: Ticket) -> i64 {
    match ticket {
        Ticket::InLink(index) => IN_LINK | index as i64,
        Ticket::At(offset) => offset.0,
    }
}

const fn ticket_of(number: i64) -> Ticket {
    if number < 0 { Ticket::InLink(number as u32) } else { Ticket::At(Offset(number)) }
}

fn change_record(change: &Change) -> ChangeRecord {
    let record = |kind, ticket| ChangeRecord { kind, ticket, ..ChangeRecord::default() };
    match change {
        Change::Entry(ticket, entry) => {
            let half = entry.half.as_ref();
            let (cron, cron_timezone) = entry.cron.clone().unwrap_or_default();
            ChangeRecord {
                due_ms: entry.due_ms,
                id: entry.id.clone(),
                timestamp: entry.timestamp,
                key: entry.key.clone(),
                value: entry.value.clone(),
                headers: entry
                    .headers
                    .iter()
                    .map(|(name, value)| NoteHeader { name: name.clone(), value: value.clone() })
                    .collect(),
                cron,
                cron_timezone,
                check_group: half.map(|half| half.check_group.clone()).unwrap_or_default(),
                check_after_ms: half.map_or(-1, |half| half.check_after_ms),
                attempts: half.map_or(0, |half| half.checks as i32),
                step: half.map_or(0, |half| i8::from(half.is_parked)),
                ..record(ENTRY, ticket_number(*ticket))
            }
        }
        Change::Alter { ticket, what, due_ms, by } => ChangeRecord {
            step: *what as i8,
            due_ms: *due_ms,
            offset: by.map_or(-1, i64::from),
            ..record(ALTER, ticket.0)
        },
        Change::Fired { ticket, next_due_ms } => {
            ChangeRecord { due_ms: *next_due_ms, ..record(FIRED, ticket.0) }
        }
        Change::Check { ticket, attempt, step } => {
            ChangeRecord { attempts: *attempt as i32, step: *step as i8, ..record(CHECK, ticket.0) }
        }
        Change::Duplicate { index, original } => ChangeRecord {
            offset: original.0,
            ..record(DUPLICATE, ticket_number(Ticket::InLink(*index)))
        },
        Change::Stored { ticket, hash, at_ms } => ChangeRecord {
            hash: Bytes::copy_from_slice(&hash.to_be_bytes()),
            at_ms: *at_ms,
            ..record(STORED, ticket_number(*ticket))
        },
        Change::Ended { ticket, id, outcome, offset, at_ms } => ChangeRecord {
            id: id.clone(),
            step: *outcome as i8,
            offset: offset.0,
            at_ms: *at_ms,
            ..record(ENDED, ticket.0)
        },
    }
}

fn change(record: ChangeRecord, reader: &Reader) -> Result<Change, DecodeError> {
    let wrong = |value: i64| reader.error(DecodeErrorKind::UnknownValue(value));
    let at = || match ticket_of(record.ticket) {
        Ticket::At(offset) => Ok(offset),
        Ticket::InLink(_) => Err(wrong(record.ticket)),
    };
    let count = |number: i32| u32::try_from(number).map_err(|_| wrong(i64::from(number)));
    let step = i64::from(record.step);
    Ok(match record.kind {
        ENTRY => {
            let half = if record.check_group.is_empty() {
                None
            } else {
                Some(Half {
                    check_after_ms: record.check_after_ms,
                    checks: count(record.attempts)?,
                    is_parked: record.step == 1,
                    check_group: record.check_group,
                })
            };
            let cron = (!record.cron.is_empty()).then_some((record.cron, record.cron_timezone));
            let headers = record.headers.into_iter().map(|header| (header.name, header.value));
            Change::Entry(
                ticket_of(record.ticket),
                Entry {
                    due_ms: record.due_ms,
                    id: record.id,
                    timestamp: record.timestamp,
                    key: record.key,
                    value: record.value,
                    headers: headers.collect(),
                    cron,
                    half,
                },
            )
        }
        ALTER => Change::Alter {
            ticket: at()?,
            what: match record.step {
                1 => Alteration::Cancel,
                2 => Alteration::Reschedule,
                3 => Alteration::DeliverNow,
                4 => Alteration::Commit,
                5 => Alteration::Rollback,
                _ => return Err(wrong(step)),
            },
            due_ms: record.due_ms,
            by: u32::try_from(record.offset).ok(),
        },
        FIRED => Change::Fired { ticket: at()?, next_due_ms: record.due_ms },
        CHECK => Change::Check {
            ticket: at()?,
            attempt: count(record.attempts)?,
            step: match record.step {
                1 => CheckStep::Intent,
                2 => CheckStep::Sent,
                3 => CheckStep::Parked,
                _ => return Err(wrong(step)),
            },
        },
        DUPLICATE => match ticket_of(record.ticket) {
            Ticket::InLink(index) => Change::Duplicate { index, original: Offset(record.offset) },
            Ticket::At(_) => return Err(wrong(record.ticket)),
        },
        STORED => {
            let hash = record.hash.as_ref().try_into().map_err(|_| wrong(record.hash.len() as i64));
            Change::Stored {
                ticket: ticket_of(record.ticket),
                hash: u128::from_be_bytes(hash?),
                at_ms: record.at_ms,
            }
        }
        ENDED => Change::Ended {
            ticket: at()?,
            id: record.id.clone(),
            outcome: match record.step {
                1 => Outcome::Fired,
                2 => Outcome::Cancelled,
                3 => Outcome::Committed,
                4 => Outcome::RolledBack,
                5 => Outcome::Replaced,
                _ => return Err(wrong(step)),
            },
            offset: Offset(record.offset),
            at_ms: record.at_ms,
        },
        _ => return Err(wrong(i64::from(record.kind))),
    })
}

#[cfg(test)]
#[path = "hidden_test.rs"]
mod tests;
