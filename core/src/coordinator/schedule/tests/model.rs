//! Random lives of a partition against a naive account of them: what was accepted, commanded, decided and
//! delivered stands in a list of facts, a cut of the log takes back those that it loses, and the account is
//! made from the list each time.

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::record::hidden::{Alteration, Change};

const NAMES: [&str; 3] = ["x", "y", "z"];
const PRODUCERS: [i64; 2] = [7, 8];
const WINDOW_MS: i64 = 3_000;

/// What a record asks for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Plain,
    /// Comes after so many milliseconds.
    Delay(i64, Option<usize>),
    /// Comes at each multiple.
    Cron(i64, Option<usize>),
    /// A half message that comes at once, or so much later.
    Half(Option<i64>, usize),
    ByName(usize, Command),
    /// A command to one of the last tickets.
    ByTicket(usize, Command),
}

#[derive(Clone, Debug)]
enum Step {
    Produce(Option<usize>, Vec<(Ask, Option<u8>)>),
    Marker(usize, bool),
    Alter(usize, Command),
    Fire,
    Commit,
    Pass(i64),
    /// The wall clock alone moves.
    Leap(i64),
    Restart,
    /// The log loses so many of the batches that are not committed.
    Cut(usize),
    /// What counts of that many hundredths of the log is written again, and the log begins later.
    Copy(i64),
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => Just(Command::Cancel),
        1 => Just(Command::CancelIfPending),
        2 => (0_i64..4_000).prop_map(|ms| Command::Reschedule(When::After(ms))),
        2 => Just(Command::DeliverNow),
        4 => Just(Command::Commit),
        2 => Just(Command::Rollback),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let name = || 0..NAMES.len();
    let maybe_name = || prop::option::of(0..NAMES.len());
    prop_oneof![
        1 => Just(Ask::Plain),
        6 => (0_i64..5_000, maybe_name()).prop_map(|(ms, name)| Ask::Delay(ms, name)),
        1 => (500_i64..2_000, maybe_name()).prop_map(|(ms, name)| Ask::Cron(ms, name)),
        3 => (prop::option::of(0_i64..3_000), name()).prop_map(|(ms, name)| Ask::Half(ms, name)),
        4 => (name(), command()).prop_map(|(name, command)| Ask::ByName(name, command)),
        2 => (0_usize..6, command()).prop_map(|(back, command)| Ask::ByTicket(back, command)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let producer = || prop_oneof![2 => Just(None), 1 => (0..PRODUCERS.len()).prop_map(Some)];
    let hash = || prop_oneof![4 => Just(None), 1 => (0_u8..3).prop_map(Some)];
    let records = || {
        prop_oneof![
            3 => prop::collection::vec((ask(), hash()), 1..2),
            1 => prop::collection::vec((ask(), hash()), 2..5),
        ]
    };
    prop_oneof![
        20 => (producer(), records()).prop_map(|(producer, records)| Step::Produce(producer, records)),
        6 => (0..PRODUCERS.len(), any::<bool>()).prop_map(|(who, how)| Step::Marker(who, how)),
        4 => (0_usize..6, command()).prop_map(|(back, command)| Step::Alter(back, command)),
        8 => Just(Step::Fire),
        4 => Just(Step::Commit),
        8 => (0_i64..2_500).prop_map(Step::Pass),
        1 => (-3_000_i64..3_000).prop_map(Step::Leap),
        1 => Just(Step::Restart),
        2 => (0_usize..4).prop_map(Step::Cut),
        2 => prop_oneof![Just(100), 0_i64..100].prop_map(Step::Copy),
    ]
}

/// Something that stands in the log, with the offset by which it does.
#[derive(Clone, Debug)]
struct Fact {
    settled: i64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Accept { entry: Account, by: Option<i64> },
    Alter { ticket: i64, what: Alteration, due_ms: i64, by: Option<i64> },
    Fired { ticket: i64, offset: i64, next_ms: Option<i64> },
    Marker { producer: i64, committed: bool },
    Stored { hash: u8, ticket: i64, at_ms: i64, by: Option<i64> },
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    /// Of an open transaction.
    Staged(i64),
    Waits,
    Half,
    /// Committed, by what settles there.
    Released(i64),
    Ended {
        outcome: Outcome,
        offset: i64,
        settled: i64,
    },
}

/// All about an entry.
#[derive(Clone, Debug)]
struct Account {
    ticket: i64,
    due_ms: i64,
    name: Option<usize>,
    is_half: bool,
    cron_ms: Option<i64>,
    state: State,
    held_by: Option<i64>,
}

/// What the facts come to.
#[derive(Clone, Default, Debug)]
struct World {
    entries: Vec<Account>,
    staged: Vec<(i64, Kind)>,
}

/// Stands for where it settles what who asks did itself.
const HERE: i64 = -1;

impl World {
    fn of(facts: &[Fact]) -> Self {
        let mut world = Self::default();
        for fact in facts {
            world.take(fact.settled, &fact.kind);
        }
        world
    }

    fn take(&mut self, settled: i64, kind: &Kind) {
        match kind {
            Kind::Accept { by: Some(by), entry } => {
                self.entries.push(Account { state: State::Staged(*by), ..entry.clone() });
                if let Some(older) = self.live(entry.name) {
                    self.entries[older].held_by.get_or_insert(*by);
                }
                self.staged.push((*by, kind.clone()));
            }
            Kind::Accept { by: None, entry } => {
                self.entries.push(entry.clone());
                self.activate(entry.ticket, settled);
            }
            Kind::Alter { by: Some(by), ticket, .. } => {
                let entry = self.entry(*ticket);
                if !matches!(entry.state, State::Staged(_) | State::Ended { .. }) {
                    entry.held_by.get_or_insert(*by);
                }
                self.staged.push((*by, kind.clone()));
            }
            Kind::Alter { by: None, ticket, what, due_ms } => {
                self.alter(*ticket, *what, *due_ms, settled);
            }
            Kind::Fired { ticket, offset, next_ms } => match next_ms {
                Some(next_ms) => self.entry(*ticket).due_ms = *next_ms,
                None => self.end(*ticket, Outcome::Fired, *offset, *offset),
            },
            Kind::Marker { producer, committed } => {
                let (own, others) =
                    std::mem::take(&mut self.staged).into_iter().partition(|it| it.0 == *producer);
                let own: Vec<(i64, Kind)> = own;
                self.staged = others;
                for entry in &mut self.entries {
                    entry.held_by = entry.held_by.filter(|holder| holder != producer);
                }
                if *committed {
                    for (_, kind) in own {
                        self.now(settled, kind);
                    }
                }
                self.entries.retain(|entry| entry.state != State::Staged(*producer));
            }
            Kind::Stored { .. } => {}
        }
    }

    /// Lets something of a transaction take effect.
    fn now(&mut self, settled: i64, kind: Kind) {
        match kind {
            Kind::Accept { entry, .. } => self.activate(entry.ticket, settled),
            Kind::Alter { ticket, what, due_ms, .. } => self.alter(ticket, what, due_ms, settled),
            Kind::Fired { .. } | Kind::Marker { .. } | Kind::Stored { .. } => {}
        }
    }

    /// The world as the producer of an open transaction sees it: as if it had been committed.
    fn seen_by(&self, by: Option<i64>) -> Self {
        let mut world = self.clone();
        if let Some(producer) = by {
            world.take(HERE, &Kind::Marker { producer, committed: true });
        }
        world
    }

    fn entry(&mut self, ticket: i64) -> &mut Account {
        self.entries.iter_mut().find(|it| it.ticket == ticket).expect("it was accepted")
    }

    fn find(&self, ticket: i64) -> Option<&Account> {
        self.entries.iter().find(|it| it.ticket == ticket)
    }

    fn live(&self, name: Option<usize>) -> Option<usize> {
        let lives = |state| matches!(state, State::Waits | State::Half | State::Released(_));
        self.entries.iter().position(|it| name.is_some() && it.name == name && lives(it.state))
    }

    /// The entry of that name in an open transaction, else the live one, else the one that ended last.
    fn named(&self, name: usize) -> Option<&Account> {
        let staged = |it: &&Account| it.name == Some(name) && matches!(it.state, State::Staged(_));
        if let Some(staged) = self.entries.iter().find(staged) {
            return Some(staged);
        }
        let ended = || {
            // What ended last is last: `end` moves it there.
            let mut entries = self.entries.iter();
            let ended = |it: &&Account| matches!(it.state, State::Ended { .. });
            entries.rfind(|it| it.name == Some(name) && ended(it))
        };
        self.live(Some(name)).map(|at| &self.entries[at]).or_else(ended)
    }

    fn activate(&mut self, ticket: i64, settled: i64) {
        let name = self.entry(ticket).name;
        if let Some(older) = self.live(name).filter(|at| self.entries[*at].ticket != ticket) {
            let older = self.entries[older].ticket;
            self.end(older, Outcome::Replaced, ticket, settled);
        }
        let entry = self.entry(ticket);
        entry.state = if entry.is_half { State::Half } else { State::Waits };
    }

    fn end(&mut self, ticket: i64, outcome: Outcome, offset: i64, settled: i64) {
        let at = self.entries.iter().position(|it| it.ticket == ticket).expect("it was accepted");
        let mut entry = self.entries.remove(at);
        let was_released = matches!(entry.state, State::Released(_));
        entry.state = match (was_released, outcome) {
            (true, Outcome::Fired) => State::Ended { outcome: Outcome::Committed, offset, settled },
            (true, _) => State::Ended { outcome: Outcome::Committed, offset: -1, settled },
            (false, _) => State::Ended { outcome, offset, settled },
        };
        entry.held_by = None;
        self.entries.push(entry);
    }

    fn alter(&mut self, ticket: i64, what: Alteration, due_ms: i64, settled: i64) {
        let entry = self.entry(ticket);
        match (what, entry.state) {
            (Alteration::Cancel, State::Waits | State::Half | State::Released(_)) => {
                self.end(ticket, Outcome::Cancelled, -1, settled);
            }
            (Alteration::Rollback, State::Half) => {
                self.end(ticket, Outcome::RolledBack, -1, settled);
            }
            (Alteration::Commit, State::Half) => {
                entry.state = State::Released(settled);
                if entry.due_ms < 0 {
                    entry.due_ms = due_ms;
                }
            }
            (Alteration::Reschedule, State::Waits | State::Released(_)) => entry.due_ms = due_ms,
            (Alteration::DeliverNow, State::Waits | State::Released(_)) => {
                entry.due_ms = entry.due_ms.min(due_ms);
            }
            (_, _) => {}
        }
    }

    /// What comes at that time, in order.
    fn due(&self, wall_ms: i64) -> Vec<(i64, i64)> {
        let comes = |it: &&Account| {
            matches!(it.state, State::Waits | State::Released(_))
                && it.held_by.is_none()
                && it.due_ms <= wall_ms
        };
        let mut due: Vec<(i64, i64)> =
            self.entries.iter().filter(comes).map(|it| (it.due_ms, it.ticket)).collect();
        due.sort_unstable();
        due
    }

    /// What the page on scheduled messages says that a command comes to.
    fn judge(
        account: Option<&Account>,
        command: Command,
        high_watermark: i64,
        wall_ms: i64,
    ) -> Result<Option<(Alteration, i64)>, ErrorCode> {
        let Some(account) = account else {
            return if command == Command::CancelIfPending { Ok(None) } else { Err(IMPOSSIBLE) };
        };
        if account.held_by.is_some() || matches!(account.state, State::Staged(_)) {
            return Err(LATER);
        }
        let known = |settled: i64| if settled < high_watermark { IMPOSSIBLE } else { LATER };
        let waits = matches!(account.state, State::Waits | State::Released(_));
        let is_cancel = matches!(command, Command::Cancel | Command::CancelIfPending);
        match (command, account.state) {
            (_, _) if is_cancel && waits => Ok(Some((Alteration::Cancel, -1))),
            (Command::Reschedule(When::After(ms)), _) if waits => {
                Ok(Some((Alteration::Reschedule, wall_ms + ms)))
            }
            (Command::DeliverNow, _) if waits => Ok(Some((Alteration::DeliverNow, wall_ms))),
            (Command::Commit, State::Half) => Ok(Some((Alteration::Commit, wall_ms))),
            (Command::Rollback, State::Half) => Ok(Some((Alteration::Rollback, -1))),
            (Command::Rollback, State::Released(settled)) => Err(known(settled)),
            (Command::CancelIfPending, _)
            | (
                Command::Commit,
                State::Released(_) | State::Ended { outcome: Outcome::Committed, .. },
            )
            | (Command::Rollback, State::Ended { outcome: Outcome::RolledBack, .. }) => Ok(None),
            (_, State::Ended { outcome, offset, settled }) => {
                let delivered =
                    offset >= 0 && matches!(outcome, Outcome::Fired | Outcome::Committed);
                if is_cancel && !delivered { Ok(None) } else { Err(known(settled)) }
            }
            (_, _) => Err(IMPOSSIBLE),
        }
    }
}

/// How often something happened, so that runs in which nothing does are noticed.
#[derive(Clone, Default, Debug)]
struct Counts {
    accepted: usize,
    fired: usize,
    recurred: usize,
    cancelled: usize,
    replaced: usize,
    committed: usize,
    rolled_back: usize,
    refused: usize,
    to_retry: usize,
    duplicates: usize,
    cut: usize,
    copied: usize,
    trimmed: usize,
    held: usize,
}

struct Run<'a> {
    bench: Bench,
    facts: Vec<Fact>,
    tickets: Vec<i64>,
    counts: &'a mut Counts,
}

impl Run<'_> {
    fn world(&self) -> World {
        World::of(&self.facts)
    }

    fn wall_ms(&self) -> i64 {
        self.bench.now.wall.0
    }

    fn mono_ms(&self) -> i64 {
        self.bench.now.mono.since(Instant::ZERO).as_millis() as i64
    }

    fn recent(&self, back: usize) -> i64 {
        let index = self.tickets.len().checked_sub(back + 1);
        index.map_or(3, |index| self.tickets[index])
    }

    fn add(&mut self, settled: i64, kind: Kind) {
        self.facts.push(Fact { settled, kind });
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Produce(producer, records) => {
                self.produce(producer.map(|index| PRODUCERS[index]), records);
            }
            Step::Marker(index, committed) => {
                let (producer, committed) = (PRODUCERS[*index], *committed);
                self.bench.marker(producer, committed);
                self.add(self.bench.end().0 - 1, Kind::Marker { producer, committed });
            }
            Step::Alter(back, command) => self.alter(self.recent(*back), *command),
            Step::Fire => self.fire(),
            Step::Commit => self.bench.commit(),
            Step::Pass(ms) => self.bench.pass(*ms),
            Step::Leap(ms) => self.bench.now.wall = self.bench.now.wall.plus(*ms),
            Step::Restart => self.bench.restart(),
            Step::Cut(batches) => self.cut(*batches),
            Step::Copy(hundredths) => self.copy(*hundredths),
        }
    }

    fn record(&self, ask: Ask, hash: Option<u8>) -> Rec {
        let named = |mut record: Rec, name: Option<usize>| {
            if let (Some(name), Action::Wait(wish)) = (name, &mut record.wish.action) {
                wish.id = Some(Bytes::from_static(NAMES[name].as_bytes()));
            }
            record
        };
        let mut record = match ask {
            Ask::Plain => plain("p"),
            Ask::Delay(ms, name) => named(delayed("d", ms), name),
            Ask::Cron(ms, name) => named(cron("c", &format!("@grid {ms}")), name),
            Ask::Half(ms, name) => {
                let mut record = named(half("h"), Some(name));
                if let Action::Wait(wish) = &mut record.wish.action {
                    wish.when = ms.map(When::After);
                }
                record
            }
            Ask::ByName(name, command) => by_id(NAMES[name], command),
            Ask::ByTicket(back, command) => by_ticket(Offset(self.recent(back)), command),
        };
        record.wish.dedup = hash.map(u128::from);
        record
    }

    fn produce(&mut self, by: Option<i64>, asks: &[(Ask, Option<u8>)]) {
        let records: Vec<Rec> = asks.iter().map(|(ask, hash)| self.record(*ask, *hash)).collect();
        let (high_watermark, wall_ms) = (self.bench.high_watermark.0, self.wall_ms());
        let produced = self.bench.produce_by(by, &records);
        let duplicates = self.duplicates(&produced, asks);
        let base = produced.unwrap_or_else(|_| self.bench.end().plus(1)).0;

        let mut seen = self.world().seen_by(by);
        let mut kinds = Vec::new();
        let mut expected = Ok(());
        for (index, (ask, hash)) in asks.iter().enumerate() {
            let ticket = base + index as i64;
            if duplicates.contains(&index) {
                continue;
            }
            let at_ms = self.mono_ms();
            let stored = hash.map(|hash| Kind::Stored { hash, ticket, at_ms, by });
            let accept = |due_ms, name, is_half, cron_ms| Account {
                ticket,
                due_ms,
                name,
                is_half,
                cron_ms,
                state: State::Waits,
                held_by: None,
            };
            let command = match *ask {
                Ask::Plain => {
                    kinds.extend(stored);
                    continue;
                }
                Ask::Delay(ms, name) => Err(accept(wall_ms + ms, name, false, None)),
                Ask::Cron(ms, name) => Err(accept((wall_ms / ms + 1) * ms, name, false, Some(ms))),
                Ask::Half(ms, name) => {
                    Err(accept(ms.map_or(-1, |ms| wall_ms + ms), Some(name), true, None))
                }
                Ask::ByName(name, command) => Ok((seen.named(name).cloned(), command)),
                Ask::ByTicket(back, command) => {
                    Ok((seen.find(self.recent(back)).cloned(), command))
                }
            };
            let kind = match command {
                Err(entry) => {
                    let older = entry.name.and_then(|name| seen.named(name).cloned());
                    let is_busy =
                        |it: &Account| it.held_by.is_some() || matches!(it.state, State::Staged(_));
                    if older.as_ref().is_some_and(is_busy) {
                        expected = Err((LATER, index as u32));
                        break;
                    }
                    let decided = matches!(
                        older.map(|older| older.state),
                        Some(
                            State::Released(_)
                                | State::Ended {
                                    outcome: Outcome::Committed | Outcome::RolledBack,
                                    ..
                                }
                        )
                    );
                    if entry.is_half && decided {
                        continue;
                    }
                    Kind::Accept { entry, by }
                }
                Ok((account, command)) => {
                    match World::judge(account.as_ref(), command, high_watermark, wall_ms) {
                        Err(error) => {
                            expected = Err((error, index as u32));
                            break;
                        }
                        Ok(None) => {
                            kinds.extend(stored);
                            continue;
                        }
                        Ok(Some((what, due_ms))) => {
                            let ticket = account.expect("there is what is altered").ticket;
                            Kind::Alter { ticket, what, due_ms, by }
                        }
                    }
                }
            };
            let here = match &kind {
                Kind::Accept { entry, .. } => Kind::Accept { entry: entry.clone(), by: None },
                Kind::Alter { ticket, what, due_ms, .. } => {
                    Kind::Alter { ticket: *ticket, what: *what, due_ms: *due_ms, by: None }
                }
                Kind::Fired { .. } | Kind::Marker { .. } | Kind::Stored { .. } => kind.clone(),
            };
            seen.take(HERE, &here);
            kinds.push(kind);
            kinds.extend(stored);
        }
        // Which records of a refused batch would have been duplicates is not told.
        if produced.is_ok() || asks.iter().all(|(_, hash)| hash.is_none()) {
            assert_eq!(produced.map(|_| ()), expected, "{asks:?}");
        }
        match expected {
            Err((LATER, _)) => self.counts.to_retry += 1,
            Err(_) => self.counts.refused += 1,
            Ok(()) => {}
        }
        if produced.is_err() {
            return;
        }
        self.counts.duplicates += duplicates.len();
        for kind in kinds {
            if let Kind::Accept { entry, .. } = &kind {
                self.tickets.push(entry.ticket);
                self.counts.accepted += 1;
            }
            self.add(self.bench.end().0 - 1, kind);
        }
    }

    /// The records of the batch that were left out because others had their hash.
    fn duplicates(
        &self,
        produced: &Result<Offset, (ErrorCode, u32)>,
        asks: &[(Ask, Option<u8>)],
    ) -> BTreeSet<usize> {
        let Ok(base) = produced else { return BTreeSet::new() };
        let Some(note) = self.bench.notes.get(&Offset(base.0 - 1)) else { return BTreeSet::new() };
        let note = Note::read(note).expect("its own note");
        if note.link != self.bench.log.last().map(Batch::crc) {
            // A note whose batch was lost stands there for ever.
            return BTreeSet::new();
        }
        let stored = self.stored();
        let mut out = BTreeSet::new();
        for change in note.changes {
            let Change::Duplicate { index, original } = change else { continue };
            let Some(hash) = asks[index as usize].1 else { continue };
            // Half messages that were decided are left out too, and are accounted for by their names.
            let in_batch = usize::try_from(original.0 - base.0).ok();
            let in_batch = in_batch.is_some_and(|at| asks[at].1 == Some(hash));
            if in_batch || stored.iter().any(|it| (it.hash, it.ticket) == (hash, original.0)) {
                out.insert(index as usize);
            }
        }
        out
    }

    fn alter(&mut self, ticket: i64, command: Command) {
        let world = self.world();
        let (high_watermark, wall_ms) = (self.bench.high_watermark.0, self.wall_ms());
        let expected = World::judge(world.find(ticket), command, high_watermark, wall_ms);
        let altered = self.bench.alter(Offset(ticket), command);
        assert_eq!(altered, expected.map(|it| it.is_some()), "{command:?} of {ticket}");
        if let Ok(Some((what, due_ms))) = expected {
            self.add(self.bench.end().0 - 1, Kind::Alter { ticket, what, due_ms, by: None });
        }
    }

    fn fire(&mut self) {
        let wall_ms = self.wall_ms();
        let due = self.world().due(wall_ms);
        let fired = self.bench.fire();
        let came: Vec<(i64, i64)> = fired
            .iter()
            .map(|it| {
                let number = |name| it.header(name).parse().expect("a number");
                (number("mainspring-scheduled-for"), number("mainspring-ticket"))
            })
            .collect();
        assert_eq!(came, due, "all that is due comes, in order, once, and nothing else");
        for (record, (due_ms, ticket)) in fired.iter().zip(came) {
            assert!(record.timestamp >= due_ms);
            let world = self.world();
            let cron_ms = world.find(ticket).expect("it was accepted").cron_ms;
            let next_ms = cron_ms.map(|ms| (wall_ms / ms + 1) * ms);
            self.counts.recurred += usize::from(next_ms.is_some());
            self.add(record.offset, Kind::Fired { ticket, offset: record.offset, next_ms });
            self.counts.fired += 1;
        }
    }

    fn cut(&mut self, batches: usize) {
        let free: Vec<Offset> = self.bench.log.iter().map(Batch::base_offset).collect();
        let free: Vec<Offset> =
            free.into_iter().filter(|at| *at >= self.bench.high_watermark).collect();
        let Some(end) = free.len().checked_sub(batches + 1).map(|index| free[index]) else {
            return;
        };
        self.bench.truncate(end);
        let before = self.facts.len();
        self.facts.retain(|fact| fact.settled < end.0);
        self.counts.cut += before - self.facts.len();
    }

    fn copy(&mut self, hundredths: i64) {
        let start = self.bench.log.first().map_or(self.bench.start, Batch::base_offset);
        let below = start.plus((self.bench.end().0 - start.0) * hundredths / 100);
        for _ in 0..100 {
            self.bench.read();
            let Some(note) = self.bench.schedule.copies(self.bench.now, below, 300) else { break };
            self.counts.copied += 1;
            self.bench.append(note.build());
        }
        // The log may begin later only when what it is kept short by is committed.
        self.bench.commit();
        let before = self.bench.log.len();
        self.bench.trim();
        self.counts.trimmed += before - self.bench.log.len();
        // Who was told of what settled above was told so by positions that have moved.
        let end = self.bench.high_watermark.0;
        for fact in &mut self.facts {
            fact.settled = fact.settled.min(end - 1);
        }
    }

    fn check(&mut self) {
        let world = self.world();
        for account in &world.entries {
            let status = self.bench.status(Offset(account.ticket));
            let status = status.unwrap_or_else(|| panic!("{account:?} is not known"));
            let expected = match account.state {
                State::Staged(_) => EntryStatus::InTransaction,
                State::Ended { outcome, offset, .. } => EntryStatus::Ended(outcome, Offset(offset)),
                State::Waits | State::Half | State::Released(_) if account.held_by.is_some() => {
                    EntryStatus::Held
                }
                State::Waits | State::Released(_) => EntryStatus::Waits,
                State::Half => EntryStatus::Half { checks: 0 },
            };
            assert_eq!(status, expected, "{account:?}");
            self.counts.held += usize::from(account.held_by.is_some());
        }
        let lives = |it: &&Account| !matches!(it.state, State::Ended { .. });
        let stats = self.bench.schedule.stats();
        assert_eq!(stats.pending, world.entries.iter().filter(lives).count());
        assert_eq!(stats.ended + stats.pending, world.entries.len(), "nothing is lost or added");
        self.stored();
    }

    /// The hashes that were stored, in order, but for what was aborted. None is there twice within its window.
    fn stored(&self) -> Vec<Stored> {
        let mut stored: Vec<Stored> = Vec::new();
        for fact in &self.facts {
            match fact.kind {
                Kind::Stored { hash, ticket, at_ms, by } => {
                    let twice =
                        stored.iter().any(|it| it.hash == hash && at_ms - it.at_ms < WINDOW_MS);
                    assert!(!twice, "{hash} is stored twice");
                    stored.push(Stored { hash, ticket, at_ms, by });
                }
                Kind::Marker { producer, committed } => {
                    stored.retain(|it| committed || it.by != Some(producer));
                    let own = stored.iter_mut().filter(|it| it.by == Some(producer));
                    own.for_each(|it| it.by = None);
                }
                Kind::Accept { .. } | Kind::Alter { .. } | Kind::Fired { .. } => {}
            }
        }
        stored
    }

    fn finish(&mut self) {
        for state in self.world().entries.iter().map(|it| it.state) {
            match state {
                State::Ended { outcome: Outcome::Cancelled, .. } => self.counts.cancelled += 1,
                State::Ended { outcome: Outcome::Replaced, .. } => self.counts.replaced += 1,
                State::Ended { outcome: Outcome::Committed, .. } => self.counts.committed += 1,
                State::Ended { outcome: Outcome::RolledBack, .. } => self.counts.rolled_back += 1,
                State::Ended { outcome: Outcome::Fired, .. }
                | State::Staged(_)
                | State::Waits
                | State::Half
                | State::Released(_) => {}
            }
        }
        for producer in PRODUCERS {
            self.step(&Step::Marker(usize::from(producer == PRODUCERS[1]), true));
        }
        self.bench.pass(100_000);
        self.step(&Step::Restart);
        self.step(&Step::Fire);
        self.check();
        let left = self.world();
        let waits = |it: &&Account| matches!(it.state, State::Waits | State::Released(_));
        assert!(left.entries.iter().filter(waits).all(|it| it.cron_ms.is_some()), "{left:?}");
    }
}

/// A hash that was stored.
struct Stored {
    hash: u8,
    ticket: i64,
    at_ms: i64,
    by: Option<i64>,
}

#[test]
fn a_schedule_is_what_a_naive_account_of_its_log_says() {
    let counts = RefCell::new(Counts::default());
    let config = Config { cases: 400, max_shrink_iters: 4_000, ..Config::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..80), |steps| {
            let mut counts = counts.borrow_mut();
            let bench = Bench::with(|settings| {
                settings.dedup_window_ms = WINDOW_MS;
                settings.fire_max_records = 2;
                settings.prefetch_max_bytes = 300;
                settings.check_after_ms = 1 << 40;
                settings.clock_step_max_ms = 1 << 40;
            });
            let mut run =
                Run { bench, facts: Vec::new(), tickets: Vec::new(), counts: &mut counts };
            for step in &steps {
                run.step(step);
                run.check();
            }
            run.finish();
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let counts = counts.into_inner();
    let seen = [
        counts.accepted,
        counts.fired,
        counts.recurred,
        counts.cancelled,
        counts.replaced,
        counts.committed,
        counts.rolled_back,
        counts.refused,
        counts.to_retry,
        counts.duplicates,
        counts.cut,
        counts.copied,
        counts.trimmed,
        counts.held,
    ];
    assert!(seen.iter().all(|count| *count >= 20), "{counts:?}");
}
