//! What an edit of a managed file is, and what is done about it.

pub mod generated;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    bundle::{DriftPolicy, FileEntry, HomePath},
    observed::{DRIFT_MAX, Drift, DriftAction, DriftKind},
    spec::canonical,
    time::{Instant, Timestamp},
};

/// Restores of one file within [`TUG_WINDOW`] after which the agent leaves it alone and says so.
pub const TUG_MAX: usize = 5;
/// How long a restore counts towards a tug-of-war.
pub const TUG_WINDOW: Duration = Duration::from_secs(600);

/// A file on disk that is not, byte for byte, what the bundle says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is not there.
    Missing,
    /// Its content differs; for deployment.toml with both texts, desired first.
    Content {
        /// deployment.toml only.
        texts: Option<(String, String)>,
    },
    /// Only its permission bits differ.
    Mode {
        /// What it has.
        mode: u32,
    },
    /// Only its owner differs.
    Owner {
        /// For people.
        detail: String,
    },
}

/// A difference that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of which kind.
    pub kind: DriftKind,
    /// deployment.toml keys; never values.
    pub keys: Vec<String>,
    /// For people.
    pub detail: String,
}

/// What `found` means for a file; `None` if it means nothing (comments, order, white space of deployment.toml).
pub fn judge(file: &FileEntry, found: &Found, owned: &[String]) -> Option<Difference> {
    let plain = |kind, detail: String| Some(Difference { kind, keys: Vec::new(), detail });
    match found {
        Found::Missing => plain(DriftKind::Deleted, "the file is gone".to_owned()),
        Found::Mode { mode } => {
            plain(DriftKind::Mode, format!("mode is {mode:o}, should be {:o}", file.mode))
        }
        Found::Owner { detail } => plain(DriftKind::Owner, detail.clone()),
        Found::Content { texts: None } => plain(DriftKind::Edited, "content differs".to_owned()),
        Found::Content { texts: Some((desired, disk)) } => judge_config(desired, disk, owned),
    }
}

fn judge_config(desired: &str, disk: &str, owned: &[String]) -> Option<Difference> {
    let edited = |keys, detail: String| Some(Difference { kind: DriftKind::Edited, keys, detail });
    let Ok(desired) = canonical::flatten(desired) else {
        return edited(Vec::new(), "content differs".to_owned());
    };
    let disk = match canonical::flatten(disk) {
        Ok(disk) => disk,
        Err(error) => {
            return edited(Vec::new(), format!("it is {error}; the server would not start with it"));
        }
    };
    let human = canonical::differing_keys(&desired, &disk, owned);
    if !human.is_empty() {
        let detail = format!("{} keys differ", human.len());
        return edited(human, detail);
    }
    let all = canonical::differing_keys(&desired, &disk, &[]);
    (!all.is_empty()).then(|| Difference {
        kind: DriftKind::ProductOwned,
        keys: all,
        detail: "written by the product itself".to_owned(),
    })
}

/// What is to be done about a difference now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Restore the desired content.
    Restore,
    /// Leave it, for this reason.
    Leave(DriftAction),
}

/// Differences seen, newest last, and the memory that a tug-of-war is told by.
#[derive(Debug, Clone, Default)]
pub struct Drifts {
    seen: VecDeque<Drift>,
    total: u32,
    restores: BTreeMap<HomePath, VecDeque<Instant>>,
    /// Restores asked for and not answered.
    pending: BTreeSet<HomePath>,
}

impl Drifts {
    /// What is reported.
    pub fn seen(&self) -> impl Iterator<Item = &Drift> {
        self.seen.iter()
    }

    /// All differences since the agent's start.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Whether a restore of this file is under way.
    pub fn is_pending(&self, path: &HomePath) -> bool {
        self.pending.contains(path)
    }

    /// Decides, and counts a restore if that is the decision.
    pub fn answer(
        &mut self,
        path: &HomePath,
        policy: DriftPolicy,
        kind: DriftKind,
        now: Instant,
    ) -> Option<Answer> {
        if kind == DriftKind::ProductOwned || policy == DriftPolicy::Report {
            return Some(Answer::Leave(DriftAction::Reported));
        }
        if policy == DriftPolicy::Ignore {
            return None;
        }
        let restores = self.restores.entry(path.clone()).or_default();
        restores.retain(|&at| now.since(at) < TUG_WINDOW);
        if TUG_MAX <= restores.len() {
            return Some(Answer::Leave(DriftAction::TugOfWar));
        }
        restores.push_back(now);
        Some(Answer::Restore)
    }

    /// Notes that a restore was asked for.
    pub fn restoring(&mut self, path: &HomePath) {
        self.pending.insert(path.clone());
    }

    /// It was answered; `took` is set if it succeeded. Whether one was pending.
    pub fn restored(&mut self, path: &HomePath, took: Option<Duration>) -> bool {
        if let Some(drift) = self.seen.iter_mut().find(|drift| drift.path == *path) {
            drift.restored_after = took;
            if took.is_none() {
                drift.action = DriftAction::Reported;
            }
        }
        self.pending.remove(path)
    }

    /// Whether exactly this difference, with this action, is already the newest word on the file.
    pub fn is_known(&self, path: &HomePath, difference: &Difference, action: DriftAction) -> bool {
        self.seen.iter().any(|drift| {
            drift.path == *path
                && drift.kind == difference.kind
                && drift.action == action
                && drift.keys == difference.keys
        })
    }

    /// Records a difference; an older word on the same file is replaced.
    pub fn record(&mut self, drift: Drift) {
        self.seen.retain(|known| known.path != drift.path);
        self.seen.push_back(drift);
        self.total = self.total.saturating_add(1);
        if DRIFT_MAX < self.seen.len() {
            self.seen.pop_front();
        }
    }

    /// A scan of the files `looked` found only these differences: any other that was left standing is over.
    pub fn settle(&mut self, looked: &BTreeSet<HomePath>, standing: &BTreeSet<HomePath>) {
        self.seen.retain(|drift| {
            drift.action == DriftAction::Restored
                || !looked.contains(&drift.path)
                || standing.contains(&drift.path)
        });
    }

    /// New files are in force: what was said of the old ones no longer holds.
    pub fn reset(&mut self) {
        self.restores.clear();
        self.pending.clear();
        self.seen.retain(|drift| drift.action == DriftAction::Restored);
    }

    /// Files that differ and were left so, product-owned differences aside. At most the newest that are kept.
    pub fn open(&self) -> impl Iterator<Item = &HomePath> {
        let left =
            |drift: &&Drift| drift.action != DriftAction::Restored && drift.kind != DriftKind::ProductOwned;
        self.seen.iter().filter(left).map(|drift| &drift.path)
    }

    /// An operator wants this file restored whatever happened before.
    pub fn forgive(&mut self, path: &HomePath) {
        self.restores.remove(path);
    }

    /// A record of `difference`.
    pub fn describe(path: &HomePath, difference: Difference, action: DriftAction, at: Timestamp) -> Drift {
        Drift {
            path: path.clone(),
            kind: difference.kind,
            action,
            keys: difference.keys,
            at,
            restored_after: None,
            detail: difference.detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bundle::RestartClass, ids::Digest};

    fn file() -> FileEntry {
        FileEntry {
            digest: Digest::of(b""),
            meaning: Digest::of(b""),
            size: 0,
            mode: 0o640,
            drift: DriftPolicy::Enforce,
            restart: RestartClass::Restart,
            secret: false,
        }
    }

    fn config(desired: &str, disk: &str) -> Option<(DriftKind, Vec<String>)> {
        let found = Found::Content { texts: Some((desired.to_owned(), disk.to_owned())) };
        let owned = ["encryption.key".to_owned(), "secrets.*".to_owned()];
        judge(&file(), &found, &owned).map(|difference| (difference.kind, difference.keys))
    }

    #[test]
    fn deployment_toml_is_compared_by_meaning() {
        let desired = "[server]\nhostname = \"a\"\noffset = 1\n";
        assert_eq!(config(desired, "# hi\n[server]\noffset=1\nhostname='a'\n"), None);
        let edited = config(desired, "[server]\nhostname = \"b\"\noffset = 1\n").unwrap();
        assert_eq!(edited, (DriftKind::Edited, vec!["server.hostname".to_owned()]));
        let generated = config(desired, &format!("{desired}[encryption]\nkey = \"00\"\n")).unwrap();
        assert_eq!(generated, (DriftKind::ProductOwned, vec!["encryption.key".to_owned()]));
        let both = config(desired, "[server]\nhostname = \"b\"\n[encryption]\nkey = \"00\"\n").unwrap();
        assert_eq!(both.0, DriftKind::Edited);
        assert_eq!(config(desired, "[server").unwrap().0, DriftKind::Edited);
    }

    #[test]
    fn a_tug_of_war_ends() {
        let (mut drifts, path) = (Drifts::default(), HomePath::parse("a").unwrap());
        let mut answer = |second: u64| {
            let now = Instant(second * 1000);
            drifts.answer(&path, DriftPolicy::Enforce, DriftKind::Edited, now).unwrap()
        };
        for second in 0..5 {
            assert_eq!(answer(second), Answer::Restore);
        }
        assert_eq!(answer(6), Answer::Leave(DriftAction::TugOfWar));
        assert_eq!(answer(700), Answer::Restore);
    }
}
