//! Carrying out the steps of a workload, and going on from what a crash has left.

use std::collections::BTreeMap;

use mainspring_core::ids::{
    LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, TopicPartition,
};
use mainspring_core::log::{AppendError, FlushPolicy, Sequence};
use mainspring_core::record::batch::Batch;
use mainspring_core::record::builder::{BatchBuilder, Producer};
use mainspring_core::record::compress::Codec;

use super::Run;
use super::steps::Step;
use crate::clock::EPOCH_MS;
use crate::log_bench::{LogBench, Stop, hashes, log, small_config, small_settings};
use crate::rng::Rng;
use crate::world::MILLISECOND;

impl Run {
    pub(super) fn step(
        &mut self,
        bench: &mut LogBench,
        step: Step,
        rng: &mut Rng,
    ) -> Result<(), Stop> {
        match step {
            Step::Create(n) => self.create(bench, n)?,
            Step::Append { log, producer, records, bytes } => {
                self.append(bench, log, producer, records, bytes, rng)?;
            }
            Step::Bump { log, producer } => self.bump(log, producer),
            Step::MoveStart(n) => self.move_start(bench, n, false, rng)?,
            Step::Purge(n) => self.move_start(bench, n, true, rng)?,
            Step::Truncate { log, little } => self.truncate(bench, log, little, rng)?,
            Step::Delete(n) => {
                let id = log(n).0;
                if bench.store.log_end_offset(id).is_some() && self.promises.doomed.insert(id) {
                    bench.act(|store, now, fx| store.delete(now, id, fx), &mut |bench| {
                        self.look(bench);
                    })?;
                }
            }
            Step::Vote => {
                let epoch = LeaderEpoch(self.count_of("votes") as i32 + 1);
                let candidate = NodeId(1 + epoch.0 % 3);
                self.count("votes", 1);
                bench.act(
                    |store, now, fx| store.vote(now, epoch, candidate, fx),
                    &mut |bench| {
                        self.look(bench);
                    },
                )?;
            }
            Step::Turn(turns) => {
                for _ in 0..turns {
                    let until = bench.now() + 10 * MILLISECOND;
                    bench.turn(until, &mut |bench| self.look(bench))?;
                }
            }
            Step::Pass(time) => bench.pass(time, &mut |bench| self.look(bench))?,
            Step::Restart { clean } => {
                if clean {
                    bench.close(&mut |bench| self.look(bench))?;
                }
            }
        }
        Ok(())
    }

    fn create(&mut self, bench: &mut LogBench, n: u8) -> Result<(), Stop> {
        let (id, name) = log(n);
        if bench.store.log_end_offset(id).is_some() || self.promises.doomed.contains(&id) {
            return Ok(());
        }
        // Log 2 is lazy: it may lose its tail to a power cut and nothing to a kill.
        let flush = if n == 2 { FlushPolicy::Lazy } else { FlushPolicy::Ack };
        if flush == FlushPolicy::Lazy {
            self.promises.lazy.insert(id);
        }
        self.promises.written.entry(id).or_default();
        bench.act(
            |store, now, fx| store.create(now, id, &name, small_settings(flush), fx),
            &mut |bench| self.look(bench),
        )
    }

    fn append(
        &mut self,
        bench: &mut LogBench,
        n: u8,
        producer: u8,
        records: u8,
        bytes: u16,
        rng: &mut Rng,
    ) -> Result<(), Stop> {
        let id = log(n).0;
        let Some(end) = bench.store.log_end_offset(id) else { return Ok(()) };
        if bench.store.is_congested() || self.promises.doomed.contains(&id) {
            return Ok(());
        }
        let producer_id = 1_000 + i64::from(producer);
        let batches = self.promises.batches.entry((id, producer_id)).or_default();
        let base_sequence = batches.last().map_or(0, |batch| batch.last_sequence() + 1);
        let epoch = self.promises.epochs.get(&(id, producer_id)).copied().unwrap_or(0);
        let mut builder = BatchBuilder::new(Codec::None).producer(Producer {
            id: ProducerId(producer_id),
            epoch: ProducerEpoch(epoch),
            base_sequence,
        });
        for _ in 0..records {
            let mut value = vec![0; usize::from(bytes).min(8_000) / usize::from(records).max(1)];
            for byte in &mut value {
                *byte = rng.below(256) as u8;
            }
            let key = rng.bits().to_be_bytes();
            let timestamp = EPOCH_MS + (bench.now() / MILLISECOND) as i64;
            builder.push(timestamp, Some(&key), Some(&value), &[]);
        }
        let mut batch = builder.build();
        let clean = batch.clone();
        // Written is told before the append: a crash between its effects may leave it or not.
        let leader_epoch = self.promises.leader_epochs.get(&id).copied().unwrap_or(0);
        let leader_epoch = LeaderEpoch(leader_epoch);
        batch.assign(end, leader_epoch);
        let promises = self.promises.clone();
        self.promises.written.entry(id).or_default().extend(hashes(&batch));
        self.promises.bases.entry(id).or_default().insert(end.0);
        self.promises.batches.entry((id, producer_id)).or_default().push(batch);
        let appended = bench.act(
            |store, now, fx| {
                let verdict = store.check_sequence(now, id, &clean);
                (verdict, store.append(now, id, leader_epoch, clean, fx))
            },
            &mut |bench| self.look(bench),
        )?;
        match appended {
            (Ok(Sequence::Append), Ok(offset)) if offset == end => Ok(()),
            // It is not known yet where the log ends; of producers neither.
            (_, Err(AppendError::Cutting)) => {
                self.promises = promises;
                Ok(())
            }
            (verdict, result) => Err(Stop::Wrong(format!(
                "an append to {id} at {end} ended as {verdict:?}, {result:?}"
            ))),
        }
    }

    /// A producer goes on in its next epoch; what it would have sent in this one is kept.
    fn bump(&mut self, n: u8, producer: u8) {
        let producer_id = 1_000 + i64::from(producer);
        let place = (log(n).0, producer_id);
        let Some(last) = self.promises.batches.get(&place).and_then(|batches| batches.last())
        else {
            return;
        };
        let mut builder = BatchBuilder::new(Codec::None).producer(Producer {
            id: ProducerId(producer_id),
            epoch: last.producer_epoch(),
            base_sequence: last.last_sequence() + 1,
        });
        builder.push(EPOCH_MS, None, Some(b"late"), &[]);
        self.promises.late.insert(place, builder.build());
        self.promises.batches.remove(&place);
        *self.promises.epochs.entry(place).or_insert(0) += 1;
    }

    fn move_start(
        &mut self,
        bench: &mut LogBench,
        n: u8,
        to_end: bool,
        rng: &mut Rng,
    ) -> Result<(), Stop> {
        let id = log(n).0;
        let (Some(start), Some(stable)) =
            (bench.store.log_start_offset(id), bench.store.stable_end(id))
        else {
            return Ok(());
        };
        let (Offset(start), Offset(stable)) = (start, stable.value());
        if stable <= start || self.promises.doomed.contains(&id) {
            return Ok(());
        }
        let to = if to_end { stable } else { rng.between(start as u64, stable as u64) as i64 };
        self.count("purges-to-the-end", u64::from(to == stable));
        let asked = self.promises.starts_asked.entry(id).or_insert(0);
        *asked = (*asked).max(to);
        bench.act(|store, now, fx| store.move_log_start(now, id, Offset(to), fx), &mut |bench| {
            self.look(bench);
        })
    }

    fn truncate(
        &mut self,
        bench: &mut LogBench,
        n: u8,
        little: bool,
        rng: &mut Rng,
    ) -> Result<(), Stop> {
        let id = log(n).0;
        let (Some(start), Some(end)) =
            (bench.store.log_start_offset(id), bench.store.log_end_offset(id))
        else {
            return Ok(());
        };
        self.promises.take(bench);
        let from = start.0.max(self.promises.starts_asked.get(&id).copied().unwrap_or(0));
        let busy = self.promises.doomed.contains(&id) || self.promises.before.contains_key(&id);
        if busy || from >= end.0 {
            return Ok(());
        }
        let from = if little { from.max(end.0 - 4) } else { from };
        let to = rng.between(from as u64, end.0 as u64) as i64;
        // The batch that holds the offset goes whole.
        let holding = self.promises.bases.get(&id).and_then(|bases| bases.range(..=to).next_back());
        let cut = if to >= end.0 { end.0 } else { holding.copied().unwrap_or(to) };
        if cut < from {
            return Ok(());
        }
        self.count("truncations", 1);
        self.promises.cut(id, cut);
        bench.truncated.remove(&id);
        if let Some(stable) = bench.stable.get_mut(&id) {
            *stable = (*stable).min(cut);
        }
        bench.act(|store, now, fx| store.truncate(now, id, Offset(to), fx), &mut |bench| {
            self.look(bench);
        })
    }

    /// Ends the process of a bench, with its power or in good order, and goes on from what is left.
    pub(super) fn restart(
        &mut self,
        bench: LogBench,
        clean: bool,
        marks: &mut BTreeMap<mainspring_core::io::Mark, u64>,
        time: &mut u64,
    ) -> LogBench {
        self.promises.take(&bench);
        for (mark, count) in &bench.marks {
            *marks.entry(*mark).or_insert(0) += count;
        }
        *time += bench.now();
        let mut disk = bench.disk;
        if clean {
            // What the closed store left under way ends with its process.
            disk.crash();
        } else {
            disk.lose_power();
            self.faults.add("power-cut", 1);
            for id in &self.promises.lazy {
                self.promises.stable.remove(id);
                // Nor is it what was promised before a truncation, which the cut may have taken as well.
                if let Some(before) = self.promises.before.get_mut(id) {
                    before.stable = 0;
                }
            }
        }
        self.seen.clear();
        self.incarnation += 1;
        let mut next =
            LogBench::new(small_config(self.seed + u64::from(self.incarnation) * 1_000_003), disk);
        let outcome = next.recover(&mut |bench| self.look(bench)).map(|_| ());
        self.stopped(outcome);
        if self.is_over() {
            return next;
        }
        // What did not survive was not promised, and its offsets are given anew.
        let logs: Vec<TopicPartition> = next.store.logs().map(|(id, _)| id).collect();
        self.promises.written.retain(|id, _| logs.contains(id));
        self.promises.batches.retain(|(id, _), _| logs.contains(id));
        self.promises.epochs.retain(|(id, _), _| logs.contains(id));
        self.promises.late.retain(|(id, _), _| logs.contains(id));
        for id in logs {
            let lazy = self.promises.lazy.contains(&id);
            let flush = if lazy { FlushPolicy::Lazy } else { FlushPolicy::Ack };
            next.store.configure(id, small_settings(flush));
            if self.promises.before.contains_key(&id) {
                let content = match next.content(id) {
                    Ok(content) => content,
                    Err(stop) => {
                        self.stopped(Err(stop));
                        return next;
                    }
                };
                if let Some(before) = self.promises.before_of(id, &content).cloned() {
                    self.promises.written.insert(id, before.written);
                    self.promises.bases.insert(id, before.bases);
                    // What came behind the truncation is gone, also of producers that had sent nothing before.
                    self.promises.batches.retain(|(log, _), _| *log != id);
                    // A producer that has gone on in another epoch since stays there.
                    let epochs = &self.promises.epochs;
                    let is_current = |place: &(TopicPartition, i64), batches: &[Batch]| {
                        let epoch = epochs.get(place).copied().unwrap_or(0);
                        batches.last().is_some_and(|batch| batch.producer_epoch().0 == epoch)
                    };
                    let kept = before.batches.into_iter();
                    let kept = kept.filter(|(place, batches)| is_current(place, batches));
                    self.promises.batches.extend(kept);
                    self.promises.stable.insert(id, before.stable);
                }
            }
            let end = next.store.log_end_offset(id).map_or(0, |end| end.0);
            self.promises.bases.entry(id).or_default().retain(|base| *base < end);
            let written = self.promises.written.entry(id).or_default();
            written.retain(|(offset, _)| *offset < end);
            for ((log, _), batches) in &mut self.promises.batches {
                if *log == id {
                    batches.retain(|batch| batch.base_offset().0 < end);
                }
            }
            // A lazy log may have lost its tail, so less is promised of it.
            let stable = self.promises.stable.entry(id).or_insert(0);
            *stable = (*stable).min(end);
            // What a start serves is promised, the log's start among it.
            let start = next.store.log_start_offset(id).map_or(0, |start| start.0);
            self.promises.starts.insert(id, start);
        }
        // A deletion that was asked for and did not survive leaves a log that lives on.
        self.promises.doomed.retain(|id| next.store.log_end_offset(*id).is_none());
        self.promises.starts_asked.clear();
        self.promises.before.clear();
        next
    }
}
