//! Smaller worlds.

use serde_json::Value;

use super::{Bound, Shrinker};
use crate::net::NetOptions;
use crate::schedule::{Plan, Schedule, Work, WorldPlan};
use crate::world::{Fault, MILLISECOND, SECOND};

/// One way to make a world simpler.
type Simpler = fn(&mut WorldPlan);

const SIMPLER: &[Simpler] = &[
    |plan| plan.shards = 1,
    |plan| {
        // Whoever makes records of others needs three.
        if !plan.clients.iter().any(|client| matches!(client.work, Work::Pipeline(_))) {
            plan.topics = 1;
        }
    },
    |plan| plan.partitions = 1,
    |plan| plan.records = plan.records.min(1),
    |plan| plan.bytes = plan.bytes.min(20),
    |plan| {
        let latency = plan.net.latency;
        plan.net = NetOptions { latency, window: 1 << 20, split: 0, ..NetOptions::default() };
    },
    |plan| plan.disk = plan.disk.sound(),
    |plan| plan.drift_ppm = 0,
    // Where nobody waits for a group to come to rest, all that can go on does so in much less.
    |plan| {
        if !plan.clients.iter().any(|client| matches!(client.work, Work::Member { .. })) {
            plan.grace = plan.grace.min(30 * SECOND);
        }
    },
];

fn plan(schedule: &Schedule) -> &WorldPlan {
    let Plan::World(plan) = &schedule.plan else { unreachable!("a plan of a world") };
    plan
}

fn plan_mut(schedule: &mut Schedule) -> &mut WorldPlan {
    let Plan::World(plan) = &mut schedule.plan else { unreachable!("a plan of a world") };
    plan
}

impl Shrinker<'_> {
    pub(super) fn shrink_world(&mut self) {
        self.drop_what_comes_later();
        self.take_away(
            |schedule| &plan(schedule).faults,
            |schedule| &mut plan_mut(schedule).faults,
        );
        self.take_away(
            |schedule| &plan(schedule).clients,
            |schedule| &mut plan_mut(schedule).clients,
        );
        self.fewer_operations();
        self.shorter_times();
        for simpler in SIMPLER {
            let candidate = self.with_world(simpler);
            self.attempt_by_luck(&candidate, Bound::Longer, 3);
        }
        self.try_luck(60);
        self.drop_what_comes_later();
    }

    fn with_world(&self, change: impl FnOnce(&mut WorldPlan)) -> Schedule {
        let mut candidate = self.best.clone();
        change(plan_mut(&mut candidate));
        candidate
    }

    /// Takes away what would have struck behind the alarm, which changes nothing before it.
    fn drop_what_comes_later(&mut self) {
        let time = self.size.time;
        let candidate = self.with_world(|plan| plan.faults.retain(|strike| strike.at <= time));
        self.attempt(candidate, Bound::Longer);
    }

    /// Lets the clients begin less, all of them first and then each.
    fn fewer_operations(&mut self) {
        for limit in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
            let candidate = self.with_world(|plan| {
                for client in &mut plan.clients {
                    client.operations = Some(client.operations.map_or(limit, |now| now.min(limit)));
                }
            });
            if self.attempt_by_luck(&candidate, Bound::Longer, 2) || self.is_spent() {
                break;
            }
        }
        for at in 0..plan(&self.best).clients.len() {
            let Some(most) = plan(&self.best).clients[at].operations else { continue };
            for fewer in [0, most / 4, most / 2, most * 3 / 4] {
                let candidate = self.with_world(|plan| plan.clients[at].operations = Some(fewer));
                if fewer < most && self.attempt(candidate, Bound::Longer) {
                    break;
                }
            }
        }
    }

    /// Lets everything happen sooner, and last less.
    fn shorter_times(&mut self) {
        for eighths in [1, 2, 4, 6] {
            let candidate = self.with_world(|plan| {
                plan.heal_at = (plan.heal_at * eighths / 8).max(10 * MILLISECOND);
                for strike in &mut plan.faults {
                    strike.at = strike.at * eighths / 8;
                }
            });
            if self.attempt_by_luck(&candidate, Bound::Shorter, 3) {
                break;
            }
        }
        for eighths in [1, 2, 4, 6] {
            let candidate = self.with_world(|plan| {
                plan.heal_at = (plan.heal_at * eighths / 8).max(10 * MILLISECOND);
                let heal_at = plan.heal_at;
                plan.faults.retain(|strike| strike.at < heal_at);
            });
            if self.attempt(candidate, Bound::Shorter) {
                break;
            }
        }
        for at in 0..plan(&self.best).faults.len() {
            let (mut sooner, mut briefer) = (self.best.clone(), self.best.clone());
            let before = at.checked_sub(1).map_or(0, |at| plan(&self.best).faults[at].at);
            let strike = &mut plan_mut(&mut sooner).faults[at];
            strike.at = before + (strike.at - before.min(strike.at)) / 4;
            self.attempt(sooner, Bound::Shorter);
            let strike = &mut plan_mut(&mut briefer).faults[at];
            if let Some(fault) = briefly(&strike.fault) {
                strike.fault = fault;
                self.attempt(briefer, Bound::Shorter);
            }
        }
        // Who does less may do it in a shorter time.
        for pause in [MILLISECOND, 10 * MILLISECOND] {
            let candidate = self.with_world(|plan| {
                for client in &mut plan.clients {
                    client.pause = client.pause.min(pause);
                }
            });
            self.attempt(candidate, Bound::Shorter);
        }
    }
}

/// Returns a fault that lasts at most a few milliseconds, if it lasts. Faults are taken by the names of
/// their values, whatever their kinds.
fn briefly(fault: &Fault) -> Option<Fault> {
    let mut value = serde_json::to_value(fault).ok()?;
    let fields = value.as_object_mut()?;
    let mut changed = false;
    for name in ["down", "time"] {
        let Some(time) = fields.get(name).and_then(Value::as_u64) else { continue };
        let less = (time / 8).clamp(MILLISECOND, SECOND).min(time);
        changed |= less < time;
        fields.insert(name.to_owned(), less.into());
    }
    serde_json::from_value(value).ok().filter(|_| changed)
}
