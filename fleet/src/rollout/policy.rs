//! How carefully a rollout goes: per group and fleet-wide. Values only; `spec` reads them from fleet.toml, `plan`
//! obeys them.
//!
//! Rounding, everywhere the same and always to the careful side: a percentage that *limits* ([`Share::at_most`]:
//! `max_unavailable`, `wave`) rounds down, but never below one, since zero could never go on; a percentage that *tries
//! first* ([`Share::at_least`]: `canary`) rounds up; a percentage that *tolerates* ([`Share::tolerated`]:
//! `failures_max`) rounds down and may be zero.

use std::{fmt, time::Duration};

use super::window::Window;

/// A number of nodes, or a part of those that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// This many.
    Count(u32),
    /// This many of a hundred, 0 to 100.
    Percent(u8),
}

impl Default for Share {
    fn default() -> Self {
        Share::Count(1)
    }
}

/// A text that is not a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a number of nodes; write a count such as 2, or a percentage from \"1%\" to \"100%\""
)]
pub struct ShareError {
    /// What was given.
    pub text: String,
}

impl Share {
    /// Reads `2` or `25%`. Zero is refused: it would let nothing happen, and a tolerance of none is the default.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let error = || ShareError { text: text.to_owned() };
        let share = match text.trim().strip_suffix('%') {
            Some(number) => Share::Percent(number.trim_end().parse().map_err(|_| error())?),
            None => Share::Count(text.trim().parse().map_err(|_| error())?),
        };
        match share {
            Share::Count(0) | Share::Percent(0 | 101..) => Err(error()),
            share => Ok(share),
        }
    }

    /// As a limit over `of` nodes: rounded down, at least one.
    pub fn at_most(self, of: usize) -> usize {
        self.tolerated(of).max(1)
    }

    /// As a first try over `of` nodes: rounded up, at least one, at most all.
    pub fn at_least(self, of: usize) -> usize {
        let share = match self {
            Share::Count(count) => count as usize,
            Share::Percent(percent) => (of * percent as usize).div_ceil(100),
        };
        share.max(1).min(of)
    }

    /// As a tolerance over `of` nodes: rounded down, possibly zero.
    pub fn tolerated(self, of: usize) -> usize {
        match self {
            Share::Count(count) => count as usize,
            Share::Percent(percent) => of * percent as usize / 100,
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Count(count) => write!(f, "{count}"),
            Share::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What the failure of a step means for the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Stop, and return every node that this rollout changed to its last good bundle, as a new generation.
    #[default]
    RollBack,
    /// Stop, and leave every node as it is.
    Stop,
    /// Go on with the others until the fleet's `failures_max` is exceeded, which then rolls back.
    Continue,
}

impl OnFailure {
    /// Every choice with its word in fleet.toml.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::RollBack, "roll-back"), (Self::Stop, "stop"), (Self::Continue, "continue")];
}

/// What follows a canary wave that is ready and soaked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Promotion {
    /// The next wave.
    #[default]
    Automatic,
    /// Waiting for `convoy rollout promote`.
    Manual,
}

impl Promotion {
    /// Every choice with its word in fleet.toml.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Automatic, "automatic"), (Self::Manual, "manual")];
}

/// `[groups.NAME.rollout]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutPolicy {
    /// Nodes of the group that go first, alone. Default: none, the first wave is like the others.
    pub canary: Option<Share>,
    /// What follows the canary wave. Without `canary` it has no effect. Default: automatic.
    pub promotion: Promotion,
    /// At most this many nodes of the group are down at once, whoever took them down. Default: 1.
    pub max_unavailable: Share,
    /// Of the group's nodes in one zone at most this many are down at once. Default: no limit beside the others.
    pub max_unavailable_per_zone: Option<Share>,
    /// Nodes per wave after the canary; a wave is ready, soaked and past its gates before the next begins. Default:
    /// as many as `max_unavailable`. Larger waves are worked through within `max_unavailable`.
    pub wave: Option<Share>,
    /// After the last node of a wave became ready, all its nodes must stay healthy for this long. Default: 30 s.
    pub soak: Duration,
    /// A node must be healthy without a break for this long to count as ready. Default: 10 s.
    pub min_healthy_time: Duration,
    /// From the moment the new files are in force on a node until it is healthy; beyond, the step has failed.
    /// Must exceed the service's stop and start deadlines together. Default: 10 min.
    pub healthy_deadline: Duration,
    /// While steps are in flight, at least one of the rollout must get further within this time; beyond, those that
    /// did not have failed. Catches what the healthy deadline cannot: nodes that vanished. Default: 30 min.
    pub progress_deadline: Duration,
    /// What a failed step means. Default: roll back.
    pub on_failure: OnFailure,
    /// When steps may begin. Empty: always.
    pub windows: Vec<Window>,
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        Self {
            canary: None,
            promotion: Promotion::Automatic,
            max_unavailable: Share::Count(1),
            max_unavailable_per_zone: None,
            wave: None,
            soak: Duration::from_secs(30),
            min_healthy_time: Duration::from_secs(10),
            healthy_deadline: Duration::from_secs(600),
            progress_deadline: Duration::from_secs(1800),
            on_failure: OnFailure::RollBack,
            windows: Vec::new(),
        }
    }
}

impl RolloutPolicy {
    /// Nodes after the canary that form one wave in a group of `group_size`.
    pub fn wave_size(&self, group_size: usize) -> usize {
        self.wave.unwrap_or(self.max_unavailable).at_most(group_size)
    }
}

/// `[rollout]`, for the fleet as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetPolicy {
    /// At most this many nodes of the whole fleet are down at once. Default: no limit beside the groups' own.
    pub max_unavailable: Option<Share>,
    /// Of the fleet's nodes in one zone at most this many are down at once. Default: no limit beside the others.
    pub max_unavailable_per_zone: Option<Share>,
    /// Zones may be changed side by side. Default: false, one zone after the other (ADR 35). Nodes without a zone are
    /// in nobody's way.
    pub parallel_zones: bool,
    /// Failed steps that are tolerated in groups that say `on_failure = "continue"`; one more stops everything and
    /// rolls back. Default: none.
    pub failures_max: Option<Share>,
    /// Never two nodes of one host in flight at once. Default: false.
    pub spread_hosts: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_round_to_the_careful_side() {
        let table = [
            // share, nodes, at_most, at_least, tolerated
            ("1", 5, 1, 1, 1),
            ("9", 5, 9, 5, 9),
            ("25%", 3, 1, 1, 0),
            ("25%", 7, 1, 2, 1),
            ("25%", 8, 2, 2, 2),
            ("50%", 3, 1, 2, 1),
            ("100%", 3, 3, 3, 3),
            ("1%", 200, 2, 2, 2),
            ("1%", 99, 1, 1, 0),
        ];
        for (text, nodes, at_most, at_least, tolerated) in table {
            let share = Share::parse(text).unwrap();
            assert_eq!(share.to_string(), text);
            assert_eq!(
                (share.at_most(nodes), share.at_least(nodes), share.tolerated(nodes)),
                (at_most, at_least, tolerated),
                "{text} of {nodes}"
            );
        }
    }

    #[test]
    fn what_is_not_a_share_is_refused_with_an_example() {
        for bad in ["", "0", "0%", "101%", "-1", "1.5", "ten", "%", "1 node"] {
            let error = Share::parse(bad).unwrap_err().to_string();
            assert!(error.contains("\"1%\" to \"100%\""), "{bad}: {error}");
        }
    }
}
