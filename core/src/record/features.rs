//! What the records of a produced batch ask for by their headers, on topics with features.
//!
//! A record asks to come later, waits for a verdict, is a command to an entry that waits, or names what must
//! not be stored twice. Ordinary topics never get here, and a batch whose bytes do not hold the prefix of our
//! headers is not opened.

use std::hash::Hasher;

use bytes::Bytes;
use memchr::memmem;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::record::batch::Batch;
use crate::record::compress::Codec;
use crate::record::cron::{Cron, DUE_MS_MAX};
use crate::record::headers;
use crate::record::iterate::{Headers, OpenBatch, Record};
use crate::record::produce::{RECORD_ERRORS_MAX, Refusal, RefusedRecord, unreadable};
use crate::wire::KafkaString;

/// Most bytes of a name (`mainspring-id`) and of what identifies a record (`mainspring-dedup-id`).
pub const ID_BYTES_MAX: usize = 256;
/// Most records of a batch of which any asks for something: what is made of one takes more memory than a
/// small record does.
pub const RECORDS_MAX: usize = 1 << 14;
/// What a check group is put behind to get its topic.
pub const CHECKS_PREFIX: &str = "checks.";

/// Most bytes of a topic's name.
const TOPIC_NAME_MAX: usize = 249;
/// Keys of the hash that identifies records. It is written into logs, so they never change.
const DEDUP_KEYS: (u64, u64) = (0x6d61_696e_7370_7269, 0x6e67_2d64_6564_7570);

/// When a record is to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// At this moment, in Unix milliseconds (`mainspring-deliver-at`).
    At(i64),
    /// That many milliseconds after it was taken (`mainspring-delay-ms`).
    After(i64),
}

/// A record that asks not to be stored at once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntryWish {
    /// When it is to come; `None` for a half message that comes with its verdict, and for a recurring one.
    pub when: Option<When>,
    /// When it recurs (`mainspring-cron`), and the name of the time zone (`mainspring-cron-timezone`, `UTC` by
    /// default). Both are known to be sound.
    pub cron: Option<(KafkaString, KafkaString)>,
    /// What the producer calls it (`mainspring-id`), at most 256 bytes.
    pub id: Option<Bytes>,
    /// Who is asked whether it is let out (`mainspring-half`).
    pub half: Option<KafkaString>,
    /// Milliseconds before it is asked for first (`mainspring-check-after-ms`), -1 for the topic's setting.
    pub check_after_ms: i64,
}

/// Which entry a command is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandTarget {
    /// The one with this name (`mainspring-id`).
    Id(Bytes),
    /// The one with this ticket (`mainspring-ticket`).
    Ticket(Offset),
}

/// What a command does (`mainspring-op`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// The entry never comes; refused where that is too late.
    Cancel,
    /// The same, and no error where there is no such entry or it is too late.
    CancelIfPending,
    /// It comes at another time.
    Reschedule(When),
    /// It comes now.
    DeliverNow,
    /// A half message is let out.
    Commit,
    /// A half message is thrown away.
    Rollback,
}

/// What is to become of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// It is stored where it was produced.
    Store,
    /// It waits.
    Wait(EntryWish),
    /// It is a command, and stored nowhere.
    Command(CommandTarget, Command),
}

/// What one record asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordWish {
    /// What is to become of it.
    pub action: Action,
    /// The hash of what identifies it among records that must not be stored twice.
    pub dedup: Option<u128>,
}

/// Which features a topic has, and what they need to read records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// Records may come later (`schedule`).
    pub schedule: bool,
    /// Records may wait for a verdict (`half`).
    pub half: bool,
    /// Records that come again are not stored again (`dedup`).
    pub dedup: bool,
    /// Whether the key identifies a record for that, not a header (`mainspring.dedup.key=record-key`).
    pub dedup_by_key: bool,
    /// Milliseconds by which records without headers of ours are delayed, 0 for none
    /// (`mainspring.delay.default.ms`).
    pub default_delay_ms: i64,
}

impl Features {
    /// Returns what each record of a produced batch asks for, and the batch opened; `None` where all of them are
    /// stored as on any topic. A batch that cannot ask for anything is not opened.
    ///
    /// `now_ms` is the wall clock in Unix milliseconds, and bounds what can be asked for; a batch is decompressed
    /// into at most `decompressed_max` bytes. Headers of a feature that is off are plain data.
    ///
    /// # Errors
    /// [`Refusal`] with `INVALID_RECORD` 87, which names records whose headers are malformed or contradict each
    /// other, and the same or `MESSAGE_TOO_LARGE` 10 for a batch that cannot be opened.
    pub fn wishes(
        &self,
        batch: &Batch,
        now_ms: i64,
        decompressed_max: usize,
    ) -> Result<Option<(Vec<RecordWish>, OpenBatch)>, Refusal> {
        if batch.is_control() || !self.may_ask(batch) {
            return Ok(None);
        }
        let open = OpenBatch::open(batch, decompressed_max).map_err(unreadable)?;
        // The names of headers stand in the payload as they are.
        if !self.all_ask() && memmem::find(open.payload(), headers::PREFIX).is_none() {
            return Ok(None);
        }
        let mut blamed = Vec::new();
        let mut asks = false;
        let mut count = 0;
        // Most batches that had to be decompressed ask for nothing, so nothing is kept of the first look.
        for placed in open.records() {
            let record = placed.map_err(unreadable)?.record;
            // The ticket of a record is where the producer counts it to be.
            let wish = if record.offset_delta == count {
                self.wish(&record, now_ms)
            } else {
                Err(format!("it has the place {} in its batch", record.offset_delta))
            };
            match wish {
                Ok(wish) => asks |= wish != RecordWish::NONE,
                Err(message) if blamed.len() < RECORD_ERRORS_MAX => {
                    blamed.push(RefusedRecord { index: count, message });
                }
                Err(_) => {}
            }
            count += 1;
            if asks && count as usize > RECORDS_MAX {
                let message =
                    format!("a batch with mainspring headers has at most {RECORDS_MAX} records");
                return Err(Refusal {
                    code: ErrorCode::MessageTooLarge,
                    ..Refusal::invalid(message)
                });
            }
        }
        if !blamed.is_empty() {
            let refusal = Refusal::invalid("one or more records ask for what cannot be done");
            return Err(Refusal { records: blamed, ..refusal });
        }
        if !asks {
            return Ok(None);
        }
        let wishes = open
            .records()
            .filter_map(|placed| self.wish(&placed.ok()?.record, now_ms).ok())
            .collect();
        Ok(Some((wishes, open)))
    }

    /// Whether any record of the batch could ask for something, as far as can be told without opening it.
    fn may_ask(&self, batch: &Batch) -> bool {
        if !(self.schedule || self.half || self.dedup) {
            return false;
        }
        batch.codec() != Codec::None.number()
            || self.all_ask()
            || memmem::find(batch.rest(), headers::PREFIX).is_some()
    }

    /// Whether records ask for something that have none of our headers.
    const fn all_ask(&self) -> bool {
        (self.schedule && self.default_delay_ms > 0) || (self.dedup && self.dedup_by_key)
    }

    fn wish(&self, record: &Record<'_>, now_ms: i64) -> Result<RecordWish, String> {
        let asked = Asked::of(record.headers, self);
        if let Some(op) = asked.op {
            let command = self.command(op, &asked, now_ms)?;
            let action = Action::Command(target(&asked)?, command);
            return Ok(RecordWish { action, dedup: None });
        }
        let entry = match asked.half {
            Some(group) => Some(half(group, &asked, now_ms)?),
            None => self.scheduled(&asked, now_ms)?,
        };
        let dedup = if self.dedup_by_key {
            record.key.filter(|_| self.dedup).map(|key| hash(b'k', key))
        } else {
            let id = asked.dedup_id.map(|id| name(headers::DEDUP_ID, id)).transpose()?;
            id.map(|id| hash(b'i', id))
        };
        Ok(RecordWish { action: entry.map_or(Action::Store, Action::Wait), dedup })
    }

    fn command(&self, op: Value<'_>, asked: &Asked<'_>, now_ms: i64) -> Result<Command, String> {
        let op = required(headers::OP, op)?;
        match (op, self.schedule, self.half) {
            (b"cancel", true, _) => Ok(Command::Cancel),
            (b"cancel-if-pending", true, _) => Ok(Command::CancelIfPending),
            (b"deliver-now", true, _) => Ok(Command::DeliverNow),
            (b"reschedule", true, _) => {
                when(asked, now_ms)?.map(Command::Reschedule).ok_or_else(|| {
                    "reschedule needs mainspring-deliver-at or mainspring-delay-ms".to_owned()
                })
            }
            (b"commit", _, true) => Ok(Command::Commit),
            (b"rollback", _, true) => Ok(Command::Rollback),
            (b"cancel" | b"cancel-if-pending" | b"deliver-now" | b"reschedule", false, _) => {
                Err(format!("mainspring-op {} needs the feature schedule", shown(op)))
            }
            (b"commit" | b"rollback", _, false) => {
                Err(format!("mainspring-op {} needs the feature half", shown(op)))
            }
            _ => Err(format!("there is no mainspring-op {}", shown(op))),
        }
    }

    fn scheduled(&self, asked: &Asked<'_>, now_ms: i64) -> Result<Option<EntryWish>, String> {
        if !self.schedule {
            return Ok(None);
        }
        let when = when(asked, now_ms)?;
        let cron = cron(asked)?;
        let when = match (when, &cron) {
            (Some(_), Some(_)) => {
                return Err(
                    "mainspring-cron excludes mainspring-deliver-at and mainspring-delay-ms".into(),
                );
            }
            (None, None) if self.default_delay_ms > 0 => Some(When::After(self.default_delay_ms)),
            (None, None) => return Ok(None),
            (when, _) => when,
        };
        Ok(Some(EntryWish { when, cron, id: id(asked)?, half: None, check_after_ms: -1 }))
    }
}

impl RecordWish {
    /// What a record asks for that asks for nothing.
    pub const NONE: Self = Self { action: Action::Store, dedup: None };
}

/// The value of a header that is there.
type Value<'a> = Option<&'a [u8]>;

/// The last header of each name that is read.
#[derive(Default)]
struct Asked<'a> {
    deliver_at: Option<Value<'a>>,
    delay_ms: Option<Value<'a>>,
    cron: Option<Value<'a>>,
    cron_timezone: Option<Value<'a>>,
    id: Option<Value<'a>>,
    half: Option<Value<'a>>,
    check_after_ms: Option<Value<'a>>,
    op: Option<Value<'a>>,
    ticket: Option<Value<'a>>,
    dedup_id: Option<Value<'a>>,
}

impl<'a> Asked<'a> {
    fn of(all: Headers<'a>, features: &Features) -> Self {
        let &Features { schedule, half, dedup, .. } = features;
        let mut asked = Self::default();
        for header in all.iter().filter(|header| header.key.starts_with(headers::PREFIX)) {
            let (place, is_on) = match header.key {
                // A half message comes at that time once it is committed.
                headers::DELIVER_AT => (&mut asked.deliver_at, schedule || half),
                headers::DELAY_MS => (&mut asked.delay_ms, schedule || half),
                headers::CRON => (&mut asked.cron, schedule),
                headers::CRON_TIMEZONE => (&mut asked.cron_timezone, schedule),
                headers::ID => (&mut asked.id, schedule || half),
                headers::HALF => (&mut asked.half, half),
                headers::CHECK_AFTER_MS => (&mut asked.check_after_ms, half),
                headers::OP => (&mut asked.op, schedule || half),
                headers::TICKET => (&mut asked.ticket, schedule || half),
                headers::DEDUP_ID => (&mut asked.dedup_id, dedup),
                _ => continue,
            };
            if is_on {
                *place = Some(header.value);
            }
        }
        asked
    }
}

fn half(group: Value<'_>, asked: &Asked<'_>, now_ms: i64) -> Result<EntryWish, String> {
    let group = required(headers::HALF, group)?;
    let is_legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let max = TOPIC_NAME_MAX - CHECKS_PREFIX.len();
    let group = std::str::from_utf8(group)
        .ok()
        .filter(|group| (1..=max).contains(&group.len()) && group.as_bytes().iter().all(is_legal))
        .ok_or_else(|| {
            format!("mainspring-half is 1 to {max} letters, digits, dots, dashes and underscores")
        })?;
    if asked.cron.is_some() {
        return Err("a half message cannot recur: mainspring-half excludes mainspring-cron".into());
    }
    let id = id(asked)?.ok_or("a half message needs mainspring-id")?;
    let check_after_ms = match asked.check_after_ms {
        Some(value) => millis(headers::CHECK_AFTER_MS, value)?,
        None => -1,
    };
    Ok(EntryWish {
        when: when(asked, now_ms)?,
        cron: None,
        id: Some(id),
        half: Some(group.into()),
        check_after_ms,
    })
}

fn target(asked: &Asked<'_>) -> Result<CommandTarget, String> {
    match (asked.ticket, id(asked)?) {
        (Some(_), Some(_)) => {
            Err("a command names its entry by mainspring-id or mainspring-ticket, not by both"
                .into())
        }
        (Some(value), None) => {
            Ok(CommandTarget::Ticket(Offset(number(headers::TICKET, value, i64::MAX)?)))
        }
        (None, Some(id)) => Ok(CommandTarget::Id(id)),
        (None, None) => Err("a command needs mainspring-id or mainspring-ticket".into()),
    }
}

fn when(asked: &Asked<'_>, now_ms: i64) -> Result<Option<When>, String> {
    match (asked.deliver_at, asked.delay_ms) {
        (Some(_), Some(_)) => {
            Err("mainspring-deliver-at and mainspring-delay-ms exclude each other".into())
        }
        (Some(value), None) => Ok(Some(When::At(millis(headers::DELIVER_AT, value)?))),
        (None, Some(value)) => {
            let delay = millis(headers::DELAY_MS, value)?;
            if now_ms.saturating_add(delay) > DUE_MS_MAX {
                return Err("mainspring-delay-ms reaches beyond the year 9999".into());
            }
            Ok(Some(When::After(delay)))
        }
        (None, None) => Ok(None),
    }
}

fn cron(asked: &Asked<'_>) -> Result<Option<(KafkaString, KafkaString)>, String> {
    let Some(expression) = asked.cron else {
        return match asked.cron_timezone {
            Some(_) => Err("mainspring-cron-timezone needs mainspring-cron".into()),
            None => Ok(None),
        };
    };
    let expression = text(headers::CRON, expression)?;
    let zone = asked.cron_timezone.map(|zone| text(headers::CRON_TIMEZONE, zone)).transpose()?;
    let zone = zone.unwrap_or("UTC");
    Cron::check(expression, zone).map_err(|error| error.to_string())?;
    Ok(Some((expression.into(), zone.into())))
}

/// A copy, because it is kept for longer than the batch.
fn id(asked: &Asked<'_>) -> Result<Option<Bytes>, String> {
    let id = asked.id.map(|id| name(headers::ID, id)).transpose()?;
    Ok(id.map(Bytes::copy_from_slice))
}

fn name<'a>(header: &[u8], value: Value<'a>) -> Result<&'a [u8], String> {
    let value = required(header, value)?;
    if (1..=ID_BYTES_MAX).contains(&value.len()) {
        Ok(value)
    } else {
        Err(format!("{} has 1 to {ID_BYTES_MAX} bytes, not {}", shown(header), value.len()))
    }
}

fn required<'a>(header: &[u8], value: Value<'a>) -> Result<&'a [u8], String> {
    value.ok_or_else(|| format!("{} has no value", shown(header)))
}

fn text<'a>(header: &[u8], value: Value<'a>) -> Result<&'a str, String> {
    let value = required(header, value)?;
    let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii());
    text.ok_or_else(|| format!("{} is not ASCII", shown(header)))
}

/// Unix milliseconds or a number of them, up to the year 9999.
fn millis(header: &[u8], value: Value<'_>) -> Result<i64, String> {
    number(header, value, DUE_MS_MAX)
}

/// Digits alone: no sign, no blank.
fn number(header: &[u8], value: Value<'_>, max: i64) -> Result<i64, String> {
    let value = required(header, value)?;
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number);
    text.and_then(|text| text.parse().ok()).filter(|number| *number <= max).ok_or_else(|| {
        format!("{} is a number from 0 to {max}, not {}", shown(header), shown(value))
    })
}

/// The front of what a client sent, as a message may hold it.
fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 40;
    let front = &bytes[..bytes.len().min(SHOWN_MAX)];
    let dots = if front.len() < bytes.len() { ".." } else { "" };
    format!("{}{dots}", front.escape_ascii())
}

/// Hashes what identifies a record; names and keys never meet.
fn hash(domain: u8, bytes: &[u8]) -> u128 {
    let mut hasher = SipHasher24::new_with_keys(DEDUP_KEYS.0, DEDUP_KEYS.1);
    hasher.write(&[domain]);
    hasher.write(bytes);
    hasher.finish128().as_u128()
}

#[cfg(test)]
#[path = "features_test.rs"]
mod tests;
