//! What is committed of the metadata log, read back in order and handed to every shard.
//!
//! One way for every node, whether it leads the log or follows. Before the node has its role the image grows
//! on shard 0 alone; from then on each change goes to all shards.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::post::Post;
use crate::broker::quorum::METADATA;
use crate::broker::shard::{Shard, TicketUse};
use crate::digest::Digest;
use crate::ids::Offset;
use crate::io::Effect;
use crate::log::{FetchPlan, ReadError};
use crate::metadata::controller::Delta;
use crate::record::batch::Batch;
use crate::record::iterate::OpenBatch;
use crate::time::Now;
use crate::wire::MetadataRecord;

/// Bytes of the metadata log that are read at a time.
pub(super) const READ_BYTES: u64 = 1 << 20;

/// How far the log was read back.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Reader {
    /// The first offset that is still to be applied.
    pub(in crate::broker) next: Offset,
    /// Everything below may be.
    target: Offset,
    is_reading: bool,
    /// How often it began anew; what was read before counts for nothing.
    life: u64,
}

impl Reader {
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.signed(self.next.0).signed(self.target.0).number(u64::from(self.is_reading));
    }

    /// Goes on at `next`, because a snapshot holds everything before.
    pub(super) fn begin_anew(&mut self, next: Offset) {
        *self = Self { next, target: next, is_reading: false, life: self.life + 1 };
    }

    /// Returns whether everything that may be read has been.
    pub(in crate::broker) fn is_done(&self) -> bool {
        self.next >= self.target
    }
}

impl Shard {
    /// Reads the log from its start, or from what a snapshot holds, up to `end`, all of which counts as committed.
    pub(in crate::broker) fn read_metadata_up_to(&mut self, now: Now, end: Offset) {
        let start = self.log.log_start_offset(METADATA).unwrap_or(Offset::ZERO);
        let Some(quorum) = &mut self.quorum else { return };
        quorum.reader.next = quorum.reader.next.max(start);
        quorum.reader.target = quorum.reader.target.max(end);
        self.read_committed(now);
    }

    /// Takes in how far the log is committed.
    pub(super) fn on_metadata_committed(&mut self, now: Now, end: Offset) {
        if let Some(controller) = &mut self.controller {
            controller.commit(end);
        }
        self.read_metadata_up_to(now, end);
        self.answer_parked(now);
    }

    fn read_committed(&mut self, now: Now) {
        let mut read = Vec::new();
        while let Some(quorum) = &mut self.quorum
            && !quorum.reader.is_done()
            && !quorum.reader.is_reading
        {
            let Reader { next, target, .. } = quorum.reader;
            match self.log.plan_fetch(METADATA, next, target, READ_BYTES, true) {
                FetchPlan::Memory(parts) => {
                    if !self.take_committed(&parts, &mut read) {
                        return;
                    }
                }
                FetchPlan::File(range) => {
                    quorum.reader.is_reading = true;
                    let life = quorum.reader.life;
                    let ticket = self.ticket(TicketUse::Committed(life));
                    self.log.read(now, range, ticket, &mut self.fx);
                }
            }
        }
        self.hand_out(now, read);
        self.on_committed_read_up(now);
    }

    pub(in crate::broker) fn on_committed_read(
        &mut self,
        now: Now,
        life: u64,
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        let Some(quorum) = &mut self.quorum else { return };
        if quorum.reader.life != life {
            return;
        }
        quorum.reader.is_reading = false;
        match result {
            Ok(parts) => {
                let mut read = Vec::new();
                if self.take_committed(&parts, &mut read) {
                    self.hand_out(now, read);
                    self.read_committed(now);
                }
            }
            Err(error) => self.fail_on_metadata(&error.to_string()),
        }
    }

    /// Takes in what was read. Returns whether to go on.
    fn take_committed(&mut self, parts: &[Bytes], read: &mut Vec<Delta>) -> bool {
        let Some(quorum) = &mut self.quorum else { return false };
        match deltas(parts, quorum.reader.next) {
            Ok(deltas) => {
                if let Some(last) = deltas.last() {
                    quorum.reader.next = last.end_offset;
                    self.snapshots.timestamp = last.timestamp;
                }
                self.snapshots.behind += parts.iter().map(|part| part.len() as u64).sum::<u64>();
                read.extend(deltas);
                true
            }
            Err(why) => {
                self.fail_on_metadata(&why);
                false
            }
        }
    }

    /// Hands what was read to every shard, or lets the image grow while the node has no role.
    fn hand_out(&mut self, now: Now, read: Vec<Delta>) {
        if read.is_empty() {
            return;
        }
        if self.has_role {
            let deltas: Arc<[Delta]> = read.into();
            self.broadcast(&Post::Deltas(Arc::clone(&deltas)));
            self.apply_deltas(now, &deltas);
            return self.make_snapshot_where_due();
        }
        for delta in read {
            if let Err(why) = delta.apply_to(&mut self.image) {
                return self.fail_on_metadata(&why);
            }
        }
        self.make_snapshot_where_due();
    }

    /// The node cannot go on without its metadata.
    pub(in crate::broker) fn fail_on_metadata(&mut self, why: &str) {
        let at = self.quorum.as_ref().map_or(Offset(-1), |quorum| quorum.reader.next);
        let message = format!(
            "the metadata log __cluster_metadata-0 cannot be read at offset {at}: {why}; \
             restore the data directory from a copy, nothing in it was changed"
        );
        self.fx.push(Effect::Fatal { message });
        self.phase = crate::broker::start::Phase::Closed;
    }
}

/// Reads whole batches of the metadata log, those below `next` left out.
pub(super) fn deltas(parts: &[Bytes], next: Offset) -> Result<Vec<Delta>, String> {
    let mut out = Vec::new();
    // A part may end within a batch: header and payload of a recent one lie apart.
    let mut bytes = Bytes::from(parts.concat());
    while !bytes.is_empty() {
        let batch = Batch::split_from(&mut bytes).map_err(|error| error.to_string())?;
        if batch.last_offset() >= next {
            out.push(delta(&batch)?);
        }
    }
    if out.is_empty() {
        return Err("it has no batch there".to_owned());
    }
    Ok(out)
}

fn delta(batch: &Batch) -> Result<Delta, String> {
    let (base_offset, end_offset) = (batch.base_offset(), batch.next_offset());
    let timestamp = batch.max_timestamp();
    if batch.is_control() {
        let epoch = Some(batch.leader_epoch());
        return Ok(Delta { base_offset, end_offset, timestamp, epoch, records: Arc::from([]) });
    }
    let open = OpenBatch::open(batch, usize::MAX).map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    for record in open.records() {
        let record = record.map_err(|error| error.to_string())?;
        let value = record.record.value.ok_or("a record has no value")?;
        let value = open.payload().slice_ref(value);
        records.push(MetadataRecord::decode(value).map_err(|error| error.to_string())?);
    }
    Ok(Delta { base_offset, end_offset, timestamp, epoch: None, records: records.into() })
}
