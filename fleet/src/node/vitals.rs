//! What measurements mean beyond their numbers: a disk that is full or will be.

use std::{collections::VecDeque, time::Duration};

use crate::{
    node::{Clock, Engine},
    observed::{Concern, ConcernKind, Vitals},
    time::Instant,
};

/// Less than this is told: API Manager's log files alone may take it in an hour.
const DISK_LOW: u64 = 1024 * 1024 * 1024;
/// How far back growth is looked at.
const WINDOW: Duration = Duration::from_secs(3600);
/// Before this nothing is said of growth: a start writes much.
const WINDOW_MIN: Duration = Duration::from_secs(600);
/// Between two samples.
const SAMPLE_PERIOD: Duration = Duration::from_secs(300);
/// A disk that lasts longer at the present rate is no concern.
const LASTS: Duration = Duration::from_secs(24 * 3600);

/// Sizes of `repository/logs`, oldest first.
#[derive(Debug, Default)]
pub(super) struct Samples(VecDeque<(Instant, u64)>);

impl Samples {
    fn add(&mut self, now: Instant, logs: u64) {
        // Rotation and tidying make it smaller: growth counts from there.
        self.0.retain(|(at, size)| now.since(*at) < WINDOW && *size <= logs);
        if self.0.back().is_none_or(|(at, _)| SAMPLE_PERIOD <= now.since(*at)) {
            self.0.push_back((now, logs));
        }
    }

    /// Bytes grown, in how long; if there is enough to judge by.
    fn growth(&self, now: Instant, logs: u64) -> Option<(u64, Duration)> {
        let (at, size) = self.0.front()?;
        let time = now.since(*at);
        (WINDOW_MIN <= time).then(|| (logs.saturating_sub(*size), time))
    }
}

impl Engine {
    pub(super) fn on_measured(&mut self, clock: Clock, vitals: Vitals) {
        self.samples.add(clock.now, vitals.logs);
        self.growth = self.samples.growth(clock.now, vitals.logs);
        self.vitals = vitals;
    }

    /// Concerns about the host's disk.
    pub(super) fn disk_concerns(&self) -> impl Iterator<Item = Concern> {
        let low = disk_low(&self.vitals);
        let growing = self.growth.and_then(|growth| logs_growing(&self.vitals, growth));
        low.into_iter().chain(growing)
    }
}

/// Zero means that it is not known.
fn disk_low(vitals: &Vitals) -> Option<Concern> {
    (0 < vitals.disk_free && vitals.disk_free < DISK_LOW).then(|| Concern {
        kind: ConcernKind::DiskLow,
        detail: format!("{} MiB are free on the file system of the home", mebi(vitals.disk_free)),
        remedy: "make room; a server that cannot write its files does not start".to_owned(),
    })
}

fn logs_growing(vitals: &Vitals, (grown, time): (u64, Duration)) -> Option<Concern> {
    if grown == 0 || vitals.disk_free == 0 {
        return None;
    }
    let left = u128::from(vitals.disk_free) * u128::from(time.as_secs()) / u128::from(grown);
    (left < u128::from(LASTS.as_secs())).then(|| Concern {
        kind: ConcernKind::LogsGrowing,
        detail: format!(
            "repository/logs grew by {} MiB in {} minutes; at this rate the disk is full in about {} hours",
            mebi(grown),
            time.as_secs() / 60,
            left / 3600
        ),
        remedy: "see what is logged so much (log4j2.properties needs no restart), and make room".to_owned(),
    })
}

const fn mebi(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1024 * 1024 * 1024;

    /// Logs of these sizes, one a minute, on a disk with this much free at the end.
    fn said(sizes: impl IntoIterator<Item = u64>, disk_free: u64) -> Vec<String> {
        let (mut samples, mut growth, mut logs) = (Samples::default(), None, 0);
        for (minute, size) in (0..).zip(sizes) {
            let now = Instant(minute * 60_000);
            samples.add(now, size);
            growth = samples.growth(now, size);
            logs = size;
        }
        let vitals = Vitals { disk_free, logs, ..Vitals::default() };
        let growing = growth.and_then(|growth| logs_growing(&vitals, growth));
        disk_low(&vitals).into_iter().chain(growing).map(|concern| concern.detail).collect()
    }

    #[test]
    fn a_disk_is_a_concern_when_it_is_nearly_full_or_will_be_within_a_day() {
        assert_eq!(said([0; 60], 100 * GIB), [""; 0]);
        assert_eq!(said([0; 60], GIB / 2), ["512 MiB are free on the file system of the home"]);
        assert_eq!(said([0; 60], 0), [""; 0], "not known is no concern");
        let mebi = |count: u64| (0..=60).map(move |minute| minute * count * 1024 * 1024);
        assert_eq!(
            said(mebi(20), 10 * GIB),
            [
                "repository/logs grew by 1100 MiB in 55 minutes; at this rate the disk is full in about 8 hours"
            ]
        );
        assert_eq!(said(mebi(20), 100 * GIB), [""; 0], "that lasts for days");
        assert_eq!(said(mebi(20).take(9), 10 * GIB), [""; 0], "a start writes much");
        assert_eq!(said(mebi(20).chain([0]), 10 * GIB), [""; 0], "rotated away");
    }
}
