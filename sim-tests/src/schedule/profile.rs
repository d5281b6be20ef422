//! Which kinds of faults of a drawn plan strike.

use super::{Plan, WorldPlan};
use crate::disk::DiskOptions;
use crate::net::NetOptions;
use crate::world::Fault;

/// A choice among the kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Profile {
    /// All that the scenario draws.
    #[default]
    All,
    /// None.
    None,
    /// Kills, power cuts, stops and pauses.
    Crashes,
    /// Resets, cuts, half-open connections and pieces.
    Network,
    /// Whatever a disk does.
    Disk,
    /// Wall clocks that jump, clocks that drift.
    Clocks,
}

impl Profile {
    /// Every profile, by its name on the command line.
    pub const ALL: &[(&str, Self)] = &[
        ("all", Self::All),
        ("none", Self::None),
        ("crashes", Self::Crashes),
        ("network", Self::Network),
        ("disk", Self::Disk),
        ("clocks", Self::Clocks),
    ];

    /// Returns its name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, profile)| *profile == self).map_or("all", |(name, _)| name)
    }

    /// Returns the profile to which a fault belongs.
    fn of(fault: &Fault) -> Self {
        match fault.kind() {
            "kill" | "power-cut" | "stop" | "pause" | "kill-together" | "power-cut-together" => {
                Self::Crashes
            }
            "reset-streams" | "cut" | "part" | "one-way-part" | "isolation" | "bridge" => {
                Self::Network
            }
            kind if kind.starts_with("link-") => Self::Network,
            "wall-jump" | "drift" => Self::Clocks,
            _ => Self::Disk,
        }
    }

    /// Leaves in a plan what belongs to the profile. Returns whether the plan has faults to choose from.
    pub fn apply(self, plan: &mut Plan) -> bool {
        if self == Self::All {
            return true;
        }
        let Plan::World(plan) = plan else { return false };
        let WorldPlan { faults, net, disk, drift_ppm, .. } = &mut **plan;
        faults.retain(|strike| Self::of(&strike.fault) == self);
        if self != Self::Network {
            *net = NetOptions { latency: net.latency, window: net.window, ..NetOptions::default() };
        }
        if self != Self::Disk {
            *disk = DiskOptions { sector: disk.sector, ..disk.sound() };
        }
        if self != Self::Clocks {
            *drift_ppm = 0;
        }
        true
    }
}
