//! Writing again what still counts, so that the log may begin later.

use super::Schedule;
use super::queue::bytes_of;
use super::state::{Live, NOWHERE};
use crate::ids::Offset;
use crate::record::hidden::{Change, Entry, Half, Note, Outcome, Ticket};
use crate::time::Now;

/// What an end or a hash takes in a note, besides the name.
const SMALL: usize = 48;
/// Most entries, and most hashes, that are looked at for one note.
const LOOKED_AT_MAX: usize = 4_096;
/// What a half message takes at most beyond what its record counts for: the name of its check group above all.
const OF_HALF: usize = 288;

impl Schedule {
    /// Returns the first offset whose note still counts: the log may begin there, and not later, once what was
    /// applied is committed.
    pub fn floor(&self) -> Option<Offset> {
        self.state.floor()
    }

    /// Returns about how many bytes it takes to write everything again that still counts.
    pub fn copied_bytes(&self) -> u64 {
        let state = &self.state;
        let small = (state.ends.len() + state.seen.len()) * SMALL + state.ends.name_bytes();
        state.bytes() + (small + state.halves.counts().0 * OF_HALF) as u64
    }

    /// Wants nothing written again, until it is asked to by [`copies`](Self::copies).
    pub const fn stop_copying(&mut self) {
        self.copies_below = Offset::ZERO;
    }

    /// Writes again what still counts of the notes below: returns a note of about `max_bytes` that the caller
    /// appends and applies, and `None` where nothing can be written now. Then either [`floor`](Self::floor) has
    /// reached `below`, or records are [`wanted`](Self::wanted) first, or an open transaction must end.
    pub fn copies(&mut self, now: Now, below: Offset, max_bytes: usize) -> Option<Note> {
        let stamps = self.stamps?;
        self.copies_below = below;
        let stamp_ms = stamps.at(now);
        let now_ms = self.elapsed_ms(now);
        // Ages are told by the stamp of the note that tells them.
        let at_ms = |then_ms: i64| stamp_ms.saturating_sub(now_ms.saturating_sub(then_ms));
        let (mut changes, mut bytes, mut written) = (Vec::new(), 0, Vec::new());
        for (ticket, live) in self.to_copy(below) {
            let record = self.state.queue.record(ticket).or_else(|| self.aside.of(ticket));
            let Some(record) = record else { continue };
            // One goes, however large.
            let more = bytes + bytes_of(record);
            let is_full = more > max_bytes && !changes.is_empty();
            bytes = more;
            if is_full {
                break;
            }
            written.push(ticket);
            changes.push(Change::Entry(Ticket::At(ticket), self.restated(ticket, live, record)));
            if self.state.half(ticket).is_some_and(|half| !half.is_undecided()) {
                let (id, outcome, offset) = (None, Outcome::Committed, NOWHERE);
                changes.push(Change::Ended { ticket, id, outcome, offset, at_ms: stamp_ms });
            }
        }
        for (ticket, end) in self.state.ends.below(below) {
            if bytes >= max_bytes {
                break;
            }
            // A name leads to the last that had it, in whatever order they are written again.
            let id = end.id.as_deref().filter(|id| self.state.ends.ticket_of(id) == Some(ticket));
            bytes += SMALL + id.map_or(0, <[u8]>::len);
            changes.push(Change::Ended {
                ticket,
                id: id.map(bytes::Bytes::copy_from_slice),
                outcome: end.outcome,
                offset: end.offset,
                at_ms: at_ms(end.ended_at_ms),
            });
        }
        for (hash, sighting) in self.state.seen.below(below).take(LOOKED_AT_MAX) {
            if bytes >= max_bytes {
                break;
            }
            if sighting.held_by.is_none() {
                bytes += SMALL;
                let (ticket, at_ms) = (Ticket::At(sighting.ticket), at_ms(sighting.stored_at_ms));
                changes.push(Change::Stored { ticket, hash, at_ms });
            }
        }
        for ticket in written {
            self.aside.take(ticket);
        }
        (!changes.is_empty()).then_some(Note { at_ms: stamp_ms, link: None, changes })
    }

    /// Returns the first entries whose records are in notes below, as far as they may be written again: what an
    /// open transaction has to do with stays where it is. The log cannot begin behind the others before these
    /// have gone.
    pub(super) fn to_copy(&self, below: Offset) -> impl Iterator<Item = (Offset, &Live)> {
        let placed = self.state.placed_below(below).take(LOOKED_AT_MAX);
        placed.filter_map(|(_, ticket)| {
            let live = self.state.live(ticket)?;
            let is_free = !live.is_staged && self.state.open.holder(ticket).is_none();
            is_free.then_some((ticket, live))
        })
    }

    fn restated(&self, ticket: Offset, live: &Live, record: &Entry) -> Entry {
        let half = self.state.half(ticket).filter(|half| half.is_undecided());
        let half = half.zip(record.half.as_ref()).map(|(half, record)| Half {
            check_group: record.check_group.clone(),
            check_after_ms: half.check_after_ms,
            checks: half.checks,
            is_parked: half.is_parked,
        });
        Entry { due_ms: live.due_ms, half, ..record.clone() }
    }
}
