//! The server of a node: which state it is in, and what follows when it ends by itself.

use std::{collections::VecDeque, time::Duration};

use crate::{
    bundle::RestartPolicy,
    observed::{ProcessIdentity, ServiceState},
    time::{Instant, Timestamp},
};

/// How far a stop got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopStep {
    /// TERM was sent.
    Asked,
    /// Too slow: a thread dump was asked for.
    Dumped,
    /// KILL was sent.
    Killed,
    /// Not even that helped.
    Stuck,
}

/// The server as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// Not looked yet; nothing may be started.
    Unknown,
    /// No server lives on the home.
    Stopped,
    /// Asked for or launched, not ready.
    Starting {
        /// The java process, once there.
        process: Option<ProcessIdentity>,
        /// Later than this is too late.
        deadline: Instant,
        /// The deadline has passed and was told.
        late: bool,
    },
    /// Was ready once and lives.
    Running {
        /// The java process.
        process: ProcessIdentity,
    },
    /// Told to stop.
    Stopping {
        /// The java process.
        process: ProcessIdentity,
        /// How far.
        step: StopStep,
        /// When the next step is due.
        until: Instant,
    },
    /// Ended; the next launch is due at `until`.
    BackingOff {
        /// When.
        until: Instant,
        /// The same, for people.
        due: Timestamp,
        /// Exits that count.
        exits: u32,
    },
    /// Ended too often; waits for a new assignment or an operator.
    GaveUp {
        /// Exits that counted.
        exits: u32,
    },
    /// Servers that cannot be ours hold the home; looked at again at `again`.
    Foreign {
        /// When.
        again: Instant,
    },
}

impl Service {
    /// The java process, if one is known to live.
    pub fn process(&self) -> Option<&ProcessIdentity> {
        match self {
            Service::Starting { process, .. } => process.as_ref(),
            Service::Running { process } | Service::Stopping { process, .. } => Some(process),
            Service::Unknown
            | Service::Stopped
            | Service::BackingOff { .. }
            | Service::GaveUp { .. }
            | Service::Foreign { .. } => None,
        }
    }

    /// As reported.
    pub fn state(&self) -> ServiceState {
        match self {
            Service::Unknown => ServiceState::Unknown,
            Service::Stopped => ServiceState::Stopped,
            Service::Starting { .. } => ServiceState::Starting,
            Service::Running { .. } => ServiceState::Running,
            Service::Stopping { .. } => ServiceState::Stopping,
            Service::BackingOff { due, exits, .. } => ServiceState::BackingOff { until: *due, exits: *exits },
            Service::GaveUp { exits } => ServiceState::GaveUp { exits: *exits },
            Service::Foreign { .. } => ServiceState::Foreign,
        }
    }
}

/// What follows an exit that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterExit {
    /// Launch again.
    Restart {
        /// After this long, jitter included.
        after: Duration,
        /// Exits that count, this one included.
        exits: u32,
    },
    /// Do not.
    GiveUp {
        /// Exits that count.
        exits: u32,
    },
}

/// Remembers the recent exits of one server.
#[derive(Debug, Clone, Default)]
pub struct RestartTracker {
    recent: VecDeque<Instant>,
}

impl RestartTracker {
    /// Decides what follows an exit at `now`. `seed` spreads the delays of servers that fail together.
    pub fn on_exit(&mut self, policy: &RestartPolicy, now: Instant, seed: u64) -> AfterExit {
        self.recent.retain(|&exit| now.since(exit) < policy.window);
        self.recent.push_back(now);
        let exits = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if policy.exits_max < exits {
            return AfterExit::GiveUp { exits };
        }
        let doubled = policy.delay.saturating_mul(1_u32.checked_shl(exits - 1).unwrap_or(u32::MAX));
        AfterExit::Restart { after: jitter(doubled.min(policy.delay_max), seed, now.0), exits }
    }

    /// Forgets all exits: something has changed that may have been their cause.
    pub fn forgive(&mut self) {
        self.recent.clear();
    }
}

/// `base` plus up to a quarter of it; the same for the same `seed` and `salt`.
pub fn jitter(base: Duration, seed: u64, salt: u64) -> Duration {
    let millis = u64::try_from(base.as_millis()).unwrap_or(u64::MAX);
    base + Duration::from_millis(mix(seed ^ mix(salt)) % (millis / 4 + 1))
}

/// A pseudo-random number from `0..=most` milliseconds: full jitter for redials.
pub fn full_jitter(most: Duration, seed: u64, salt: u64) -> Duration {
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(mix(seed ^ mix(salt)) % millis.saturating_add(1).max(1))
}

/// `SplitMix64`'s finaliser.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn policy() -> RestartPolicy {
        let secs = Duration::from_secs;
        RestartPolicy { exits_max: 3, window: secs(60), delay: secs(4), delay_max: secs(10) }
    }

    fn transcript(exits: &[u64]) -> String {
        let (mut tracker, mut text) = (RestartTracker::default(), String::new());
        for &second in exits {
            let verdict = tracker.on_exit(&policy(), Instant(second * 1000), 7);
            match verdict {
                AfterExit::Restart { after, exits } => {
                    let low = policy().delay.as_secs() << (exits - 1);
                    let low = low.min(10);
                    assert!((low..=low + low / 4).contains(&after.as_secs()), "{after:?}");
                    writeln!(text, "{second}s restart, exit {exits}").unwrap();
                }
                AfterExit::GiveUp { exits } => writeln!(text, "{second}s give up: {exits} exits").unwrap(),
            }
        }
        text
    }

    #[test]
    fn old_exits_are_forgiven() {
        assert_eq!(
            transcript(&[0, 10, 61, 62, 63]),
            "0s restart, exit 1\n10s restart, exit 2\n61s restart, exit 2\n62s restart, exit 3\n63s give up: 4 exits\n"
        );
    }

    #[test]
    fn jitter_depends_on_the_seed_alone() {
        let base = Duration::from_secs(100);
        assert_eq!(jitter(base, 1, 2), jitter(base, 1, 2));
        let spread: std::collections::BTreeSet<_> = (0..100).map(|seed| jitter(base, seed, 0)).collect();
        assert!(90 < spread.len(), "{}", spread.len());
    }
}
