//! What one launch leaves for the next: `standin-state.json` in the home.
//!
//! Some faults happen "the first n times"; they are counted from the last change of `standin.toml`, so a test
//! that writes a new one starts from zero.

use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

const FILE: &str = "standin-state.json";

/// Counters of one home.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Server launches since the pack was made.
    pub launches: u64,
    /// Launches since `standin.toml` last changed.
    pub launches_with_faults: u32,
    /// Digest of that `standin.toml`.
    pub faults_digest: String,
    /// Digest of the deployment.toml that the last launch read.
    pub read_digest: String,
    /// Digest of the deployment.toml that the last launch ran on (older than `read_digest` after a stale start).
    pub effective_digest: String,
}

impl State {
    /// The state of `home`; a new one if there is none or it cannot be read.
    pub fn read(home: &Path) -> State {
        fs::read(home.join(FILE))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Stores it by rename. Two servers may start in one home at once, so each stages under a name of its own.
    pub fn write(&self, home: &Path) -> io::Result<()> {
        let staged = home.join(format!(".standin-state.json.{}", std::process::id()));
        fs::write(&staged, serde_json::to_vec(self)?)?;
        fs::rename(staged, home.join(FILE))
    }

    /// Counts a launch that runs with the faults of this digest.
    pub fn count_launch(&mut self, faults_digest: String) {
        self.launches += 1;
        if self.faults_digest != faults_digest {
            self.faults_digest = faults_digest;
            self.launches_with_faults = 0;
        }
        self.launches_with_faults += 1;
    }
}
