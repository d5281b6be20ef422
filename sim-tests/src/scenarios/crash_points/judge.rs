//! Looking at what a crash could leave: each image is recovered, read, and held against the promises.

use std::collections::BTreeMap;

use mainspring_core::error::ErrorCode;
use mainspring_core::ids::TopicPartition;
use mainspring_core::log::Sequence;
use mainspring_core::record::batch::Batch;

use super::promises::Promises;
use super::{Run, journal_rot, subsets};
use crate::disk::SimDisk;
use crate::history::Fact;
use crate::log_bench::{Content, LogBench, Stop, hashes, small_config};
use crate::naive;
use crate::story::Contents;

impl Run {
    /// Looks at everything that a crash at this point could leave.
    pub(super) fn look(&mut self, bench: &LogBench) {
        if self.is_over() || !self.looks {
            return;
        }
        self.looked += 1;
        if self.looked <= self.skips {
            return;
        }
        self.chance = self.step_chance.child(self.looked);
        let point = self.points;
        self.points += 1;
        if self.slice.is_some_and(|slice| point % slice.parts != slice.part) {
            return;
        }
        self.trace.begin(bench.now(), 1, bench.effects);
        self.count("crash-points", 1);
        self.trace.line(|| format!("in flight: {:?}", bench.disk.describe_in_flight()));
        self.looks_at(0, || {
            format!(
                "a crash strikes here; under way: {}",
                bench.disk.describe_in_flight().join("; ")
            )
        });
        let mut promises = self.promises.clone();
        promises.take(bench);
        // The process dies: what was written is there, what was in flight wholly or not.
        self.recover(bench, &promises, bench.disk.copy(), false);
        self.recover(bench, &promises, bench.disk.with_in_flight(), false);
        if self.chance.chance(60) {
            self.recover_with_rot(bench, &promises);
        }
        // Power is lost: any subset of the pieces is there.
        let pending = bench.disk.with_in_flight();
        let units = pending.pending_units();
        let chosen = match self.slice {
            None => subsets::some(units, self.subsets_max, &mut self.chance),
            Some(_) => subsets::all(units, &mut self.chance),
        };
        for subset in chosen {
            let image = pending.after_power_loss(|unit| subset.contains(&unit));
            self.recover(bench, &promises, image, true);
            if self.is_over() {
                return;
            }
        }
    }

    /// Recovers a journal whose acknowledged part is damaged: refused, or served as if it were whole.
    fn recover_with_rot(&mut self, bench: &LogBench, promises: &Promises) {
        let mut image = bench.disk.copy();
        let Some(place) = journal_rot::rot(&mut image, &mut self.chance) else { return };
        self.faults.add("journal-rot", 1);
        self.trace.line(|| format!("rot: {place}"));
        self.looks_at(1, || format!("a bit is flipped in {place}"));
        let mut damaged = LogBench::new(small_config(self.seed), image);
        match damaged.recover(&mut |_| {}) {
            Ok(_) => {
                self.count("journals-in-spite-of-rot", 1);
                let whence = format!("with rot in {place}");
                let Some(contents) = self.contents(&mut damaged, &whence) else { return };
                self.compare(bench, promises, &contents, &contents, false);
            }
            Err(Stop::Fatal(_)) => self.count("journals-refused", 1),
            Err(stop) => self.raise_stop(stop, &format!("with rot in {place}")),
        }
    }

    /// Recovers an image, reads it, and recovers what is durable of it again.
    fn recover(&mut self, bench: &LogBench, promises: &Promises, image: SimDisk, power: bool) {
        if self.is_over() {
            return;
        }
        let key = (image.state_hash(), promises.fingerprint());
        if !self.seen.insert(key) {
            return;
        }
        self.trace.number(key.0);
        let sector = self.sector;
        self.looks_at(1, || {
            let lost =
                Contents::of(&bench.disk.with_in_flight()).lost(&Contents::of(&image), sector);
            let lost = if lost.is_empty() { "nothing".to_owned() } else { lost.join("; ") };
            let end = if power { "power is lost" } else { "the process dies" };
            format!("{end}, and with it: {lost}; it starts again")
        });
        self.count("images", 1);
        self.trace.line(|| {
            let promised: Vec<i64> = promises.stable.values().copied().collect();
            format!("image {:016x}, power {power}, promised {promised:?}", key.0)
        });
        let whence = if power { "after a power cut" } else { "after a kill" };
        let (inside, every) = if self.slice.is_some() {
            (self.chance.chance(10), 2)
        } else {
            (self.chance.chance(30), 7)
        };
        // Some are read by somebody else as well.
        let copy = key.0.is_multiple_of(16).then(|| image.copy());
        let mut first = LogBench::new(small_config(key.0), image);
        let mut durable = Vec::new();
        let mut effects = 0;
        let recovered = first.recover(&mut |inner| {
            effects += 1;
            // A crash inside recovery, at any of its effects.
            if inside && effects % every == every / 2 {
                durable.push(inner.disk.after_power_loss(|_| false));
                durable.push(inner.disk.with_in_flight());
            }
        });
        let identity = match recovered {
            Ok(identity) => identity,
            Err(stop) => return self.raise_stop(stop, whence),
        };
        self.tell(&Fact::Ready { node: 0 }, bench.now());
        if let Some(before) = bench.identity
            && (identity.cluster_id, identity.directory_id)
                != (before.cluster_id, before.directory_id)
        {
            self.raise("I16", "recovery gave the directory another identity".into(), bench.now());
        }
        let forgotten = match (promises.voted, identity.vote) {
            (None, _) => false,
            (Some(_), None) => true,
            // In one epoch there is one vote.
            (Some(told), Some(found)) => found.0 < told.0 || (found.0 == told.0 && found != told),
        };
        if forgotten {
            self.raise("I12", format!("a vote of {:?} is forgotten", promises.voted), bench.now());
        }
        let Some(contents) = self.contents(&mut first, whence) else { return };
        if let Some(image) = copy {
            self.read_otherwise(&image, &contents, whence);
        }
        self.check_producers(&mut first, promises, &contents);
        // All that is served after a recovery is durable, so a power cut takes none of it.
        durable.push(first.disk.after_power_loss(|_| false));
        for (nth, image) in durable.into_iter().rev().enumerate() {
            self.count("crashes-in-recovery", u64::from(nth > 0));
            self.count("recoveries-of-recoveries", 1);
            self.trace.line(|| format!("recovered again, crash {nth} of the first recovery"));
            self.looks_at(2, || {
                if nth == 0 {
                    "power is lost behind that start, and it starts again".to_owned()
                } else {
                    format!("that start crashes inside, at its {nth}. place, and it starts again")
                }
            });
            let mut second = LogBench::new(small_config(key.1 ^ nth as u64), image);
            match second.recover(&mut |_| {}) {
                Ok(again) if nth == 0 && again.incarnation <= identity.incarnation => {
                    self.raise("I16", "two starts have one incarnation".into(), bench.now());
                }
                Ok(_) => {}
                Err(stop) => return self.raise_stop(stop, "after a second recovery"),
            }
            let Some(again) = self.contents(&mut second, "after a second recovery") else {
                return;
            };
            // What a crash inside recovery leaves need not be what that recovery would have served.
            let served = if nth == 0 { &contents } else { &again };
            self.compare(bench, promises, served, &again, power || nth > 0);
        }
    }

    /// Holds what the independent reader finds in an image against what its recovery has served.
    fn read_otherwise(
        &mut self,
        image: &SimDisk,
        contents: &BTreeMap<TopicPartition, Content>,
        whence: &str,
    ) {
        self.count("images-read-otherwise", 1);
        let logs = match naive::read(image, 1) {
            Ok(logs) => logs,
            Err(why) => return self.raise("I16", format!("{why} ({whence})"), 0),
        };
        let records = |log: &naive::StoredLog| -> Vec<(i64, u64)> {
            let batches = log.batches.values().map(|batch| {
                Batch::split_from(&mut batch.bytes.clone()).expect("a stored batch is whole")
            });
            let all = batches.flat_map(|batch| hashes(&batch));
            all.filter(|(offset, _)| *offset >= log.start).collect()
        };
        for (id, content) in contents {
            let found = logs.get(id).map(|log| (log.start, records(log)));
            if found != Some((content.start, content.records.clone())) {
                let message = format!("{id} is read otherwise than it is served ({whence})");
                self.raise("I16", message, 0);
            }
        }
    }

    fn contents(
        &mut self,
        bench: &mut LogBench,
        whence: &str,
    ) -> Option<BTreeMap<TopicPartition, Content>> {
        let logs: Vec<TopicPartition> = bench.store.logs().map(|(id, _)| id).collect();
        let mut contents = BTreeMap::new();
        for id in logs {
            match bench.content(id) {
                Ok(content) => contents.insert(id, content),
                Err(stop) => {
                    self.raise_stop(stop, whence);
                    return None;
                }
            };
        }
        Some(contents)
    }

    fn compare(
        &mut self,
        bench: &LogBench,
        promises: &Promises,
        first: &BTreeMap<TopicPartition, Content>,
        again: &BTreeMap<TopicPartition, Content>,
        power: bool,
    ) {
        for (&id, written) in &promises.written {
            let found = first.get(&id);
            if promises.deleted.contains(&id) && found.is_some() {
                self.raise("I16", format!("{id} was deleted and is back"), bench.now());
            }
            if promises.doomed.contains(&id) {
                continue;
            }
            if promises.created.contains(&id) && found.is_none() {
                self.raise("I16", format!("{id} was created and is gone"), bench.now());
                return;
            }
            let content = found.cloned().unwrap_or_default();
            let before = promises.before_of(id, &content);
            self.count("truncations-undone", u64::from(before.is_some()));
            let written = before.map_or(written, |before| &before.written);
            let promised = promises.starts.get(&id).copied().unwrap_or(0);
            let asked = promises.starts_asked.get(&id).copied().unwrap_or(0).max(promised);
            if found.is_some() && !(promised..=asked).contains(&content.start) {
                let start = content.start;
                let message = format!("{id} starts at {start}, not in {promised}..={asked}");
                self.raise("I05", message, bench.now());
            }
            let stable = before.map(|before| &before.stable);
            let stable = match stable.or_else(|| promises.stable.get(&id)) {
                Some(&end) if !(power && promises.lazy.contains(&id)) => end,
                _ => 0,
            };
            let from = content.start;
            let acked: Vec<(i64, u64)> = written
                .iter()
                .filter(|(offset, _)| (from..stable).contains(offset))
                .copied()
                .collect();
            self.count("acked-records", acked.len() as u64);
            let fact = Fact::Recovered {
                partition: id,
                acked,
                written: written.iter().filter(|(offset, _)| *offset >= from).copied().collect(),
                recovered: content.records,
                again: again.get(&id).map(|content| content.records.clone()).unwrap_or_default(),
            };
            self.tell(&fact, bench.now());
        }
    }

    /// The last batches of each producer are duplicates, and the one that follows is not.
    fn check_producers(
        &mut self,
        bench: &mut LogBench,
        promises: &Promises,
        contents: &BTreeMap<TopicPartition, Content>,
    ) {
        for (&(id, producer), batches) in &promises.batches {
            let Some(content) = contents.get(&id) else { continue };
            let before = promises.before_of(id, content);
            let place = (id, producer);
            let batches = before.map_or(Some(batches), |before| before.batches.get(&place));
            // One that came behind the truncation.
            let Some(batches) = batches else { continue };
            let known_from = promises.vague.get(&id).copied().unwrap_or(0).max(content.start);
            let end = content.records.last().map_or(content.start, |(last, _)| last + 1);
            let there: Vec<&Batch> = batches
                .iter()
                .filter(|batch| batch.next_offset().0 <= end && batch.base_offset().0 >= known_from)
                .collect();
            for batch in there.iter().rev().take(5) {
                let verdict =
                    bench.act(|store, now, _| store.check_sequence(now, id, batch), &mut |_| {});
                let expected = (batch.base_offset(), batch.last_offset());
                match verdict {
                    Ok(Ok(Sequence::Duplicate { base_offset, last_offset, .. }))
                        if (base_offset, last_offset) == expected => {}
                    other => {
                        let message = format!("a retry of {batch:?} of {id} is judged {other:?}");
                        self.raise("I18", message, bench.now());
                        return;
                    }
                }
                self.count("duplicates-recognised", 1);
            }
            // Whatever is there of the new epoch fences the one before.
            let late = promises.late.get(&(id, producer));
            let is_newer =
                |batch: &&Batch, late: &Batch| batch.producer_epoch() > late.producer_epoch();
            if let Some(late) = late.filter(|late| there.iter().any(|batch| is_newer(batch, late)))
            {
                let verdict =
                    bench.act(|store, now, _| store.check_sequence(now, id, late), &mut |_| {});
                if !matches!(verdict, Ok(Err(ErrorCode::InvalidProducerEpoch))) {
                    let message =
                        format!("{late:?}, of a past epoch of {id}, is judged {verdict:?}");
                    self.raise("I19", message, bench.now());
                    return;
                }
                self.count("fenced-batches", 1);
            }
        }
    }
}
