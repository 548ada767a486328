//! What a server's own log tells: when it was told to stop and when it was started again. No word of Convoy's is in it.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use jiff::civil::DateTime;

/// What became of a server. An end and a start in the same millisecond are told start first: whoever waits for one
/// server before stopping another needs no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    Up,
    Down,
}

/// One server's turns in order, beginning with its first start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History(Vec<(DateTime, Turn)>);

impl History {
    /// Reads `wso2carbon.log`.
    pub fn read(log: &Path) -> Result<Self> {
        let text = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
        let mut turns = Vec::new();
        for line in text.lines() {
            let turn = if line.contains("WSO2 Carbon started in") {
                Turn::Up
            } else if line.contains("Shutdown hook triggered") {
                Turn::Down
            } else {
                continue;
            };
            turns.push((time(line)?, turn));
        }
        for pair in turns.windows(2) {
            ensure!(pair[0].1 != pair[1].1, "{}: {pair:?} without a turn between", log.display());
        }
        Ok(Self(turns))
    }

    /// How often it got up.
    pub fn starts(&self) -> usize {
        self.0.iter().filter(|(_, turn)| *turn == Turn::Up).count()
    }

    /// When it went down for its n-th restart, and when it was back.
    pub fn restart(&self, index: usize) -> Option<(DateTime, DateTime)> {
        let turns = self.0.get(1 + 2 * index..3 + 2 * index)?;
        Some((turns[0].0, turns[1].0))
    }
}

/// The most servers that were down at once after they had been up.
pub fn most_down(histories: &BTreeMap<String, History>) -> usize {
    let turns = histories.values().flat_map(|history| history.0.iter().skip(1).copied());
    let mut turns: Vec<(DateTime, Turn)> = turns.collect();
    turns.sort_unstable();
    let (mut down, mut most) = (0_usize, 0);
    for (_, turn) in turns {
        match turn {
            Turn::Down => down += 1,
            Turn::Up => down -= 1,
        }
        most = most.max(down);
    }
    most
}

/// `TID: [-1234] [] [2026-11-24 22:51:36,123] [] INFO ...`
fn time(line: &str) -> Result<DateTime> {
    let read = |from: usize| DateTime::strptime("%Y-%m-%d %H:%M:%S,%f", line.get(from..from + 23)?).ok();
    let found = line.match_indices('[').find_map(|(at, _)| read(at + 1));
    found.with_context(|| format!("no time in {line:?}"))
}
