//! What an edit of a managed file is, and what is done about it.

pub mod generated;
pub mod keys;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    time::Duration,
};

use crate::{
    bundle::{Bundle, DriftPolicy, FileEntry, HomePath},
    drift::keys::KeyRules,
    editor::Editor,
    observed::{DRIFT_MAX, Drift, DriftAction, DriftKind},
    spec::canonical,
    time::{Instant, Timestamp},
};

/// Restores of one file within [`TUG_WINDOW`] after which the agent leaves it alone and says so.
pub const TUG_MAX: usize = 5;
/// How long a restore counts towards a tug-of-war.
pub const TUG_WINDOW: Duration = Duration::from_secs(600);
/// A difference that is left as it is has to be seen unchanged for this long before it is told as somebody's edit.
pub const CONFIRM_TIME: Duration = Duration::from_secs(1);
/// A start waits this long for a file to be restored. After that the server starts with what lies there.
pub const HOLD_TIME: Duration = Duration::from_secs(30);
/// A restore that is not answered within this never will be.
const ANSWER_TIME: Duration = Duration::from_secs(600);
/// Before a restore that failed is tried again; doubles with each failure.
const RESTORE_AGAIN: Duration = Duration::from_secs(5);
/// Upper bound of that wait.
const RESTORE_AGAIN_MAX: Duration = Duration::from_secs(300);

/// A file on disk that is not, byte for byte, what the bundle says.
#[derive(Clone, PartialEq, Eq)]
pub enum Found {
    /// It is not there.
    Missing,
    /// Its content differs; for deployment.toml with both texts, desired first.
    Content {
        /// deployment.toml only.
        texts: Option<(String, String)>,
    },
    /// deployment.toml only: the product's profile setup has put something else in its place.
    Replaced {
        /// What it did, for people.
        detail: String,
    },
    /// Something that can be neither read nor replaced is in its place, such as a symlink.
    Unusable {
        /// What it is and what to do about it, for people.
        detail: String,
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

/// Contents hold secrets and are not shown.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Missing => f.write_str("Missing"),
            Found::Content { .. } => f.write_str("Content"),
            Found::Replaced { detail } => write!(f, "Replaced({detail})"),
            Found::Unusable { detail } => write!(f, "Unusable({detail})"),
            Found::Mode { mode } => write!(f, "Mode({mode:o})"),
            Found::Owner { detail } => write!(f, "Owner({detail})"),
        }
    }
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
    /// What the fleet directory says is done about it.
    pub policy: DriftPolicy,
}

impl Difference {
    /// The product keeps keys of its own in the file, so it is left as it is. A file that the product replaced as a whole
    /// is not: it holds nothing that was declared.
    pub fn is_kept(&self) -> bool {
        self.kind == DriftKind::ProductOwned && !self.keys.is_empty()
    }
}

/// Who may write which keys of deployment.toml besides the fleet directory.
#[derive(Debug, Clone, Copy)]
pub struct KeyOwners<'a> {
    /// Keys and tables that the product itself writes.
    pub product: &'a [String],
    /// What edits by hand mean.
    pub rules: &'a KeyRules,
}

impl<'a> KeyOwners<'a> {
    /// As a bundle says.
    pub fn of(bundle: &'a Bundle) -> Self {
        Self { product: &bundle.service.owned_keys, rules: &bundle.drift_keys }
    }
}

/// Why deployment.toml is written over what lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A bundle comes into force, or an operator wants it as the bundle says.
    Order,
    /// The agent undoes an edit by itself.
    Restore,
}

/// deployment.toml as `bundle` wants it, written over `disk`: what the product wrote, and edits that the rules leave
/// alone, are carried over. `before` is the declared text that `disk` came from.
pub fn written_over(desired: &str, disk: &str, before: Option<&str>, over: (&Bundle, Occasion)) -> String {
    let (bundle, occasion) = over;
    let carried = canonical::carry_owned(desired, disk, before, &bundle.service.owned_keys);
    let rules = &bundle.drift_keys;
    if rules.is_empty() {
        return carried;
    }
    let file = bundle.files.get(&bundle.service.config_path).map_or(DriftPolicy::Enforce, |file| file.drift);
    keys::keep_edits(&carried, disk, before, |key| match occasion {
        Occasion::Order => rules.leaves(key),
        // What is only reported is nobody's to undo unasked.
        Occasion::Restore => rules.policy_in(key, file) != DriftPolicy::Enforce,
    })
}

/// What `found` means for a file; `None` if it means nothing (comments, order, white space of deployment.toml).
pub fn judge(file: &FileEntry, found: &Found, owners: KeyOwners<'_>) -> Option<Difference> {
    let plain = |kind, detail| Some(Difference { kind, keys: Vec::new(), detail, policy: file.drift });
    match found {
        Found::Missing => plain(DriftKind::Deleted, "the file is gone".to_owned()),
        Found::Mode { mode } => {
            plain(DriftKind::Mode, format!("mode is {mode:o}, should be {:o}", file.mode))
        }
        Found::Owner { detail } => plain(DriftKind::Owner, detail.clone()),
        Found::Replaced { detail } => plain(DriftKind::ProductOwned, detail.clone()),
        Found::Unusable { detail } => plain(DriftKind::Edited, detail.clone()),
        Found::Content { texts: None } => plain(DriftKind::Edited, "content differs".to_owned()),
        Found::Content { texts: Some((desired, disk)) } => judge_config(desired, disk, file.drift, owners),
    }
}

fn judge_config(desired: &str, disk: &str, file: DriftPolicy, owners: KeyOwners<'_>) -> Option<Difference> {
    let edited =
        |keys, detail: String| Some(Difference { kind: DriftKind::Edited, keys, detail, policy: file });
    let Ok(desired) = canonical::flatten(desired) else {
        return edited(Vec::new(), "content differs".to_owned());
    };
    let disk = match canonical::flatten(disk) {
        Ok(disk) => disk,
        Err(error) => {
            return edited(Vec::new(), format!("it is {error}; the server would not start with it"));
        }
    };
    // The key generator adds a key where there is none; whoever changes one that is declared is no product.
    let owned: Vec<String> = owners
        .product
        .iter()
        .filter(|key| key.ends_with(".*") || !desired.contains_key(*key))
        .cloned()
        .collect();
    let human = canonical::differing_keys(&desired, &disk, &owned);
    let mut by_policy: BTreeMap<DriftPolicy, Vec<String>> = BTreeMap::new();
    for key in human {
        let policy = owners.rules.policy_in(&keys::judged_as(&key, (&desired, &disk)), file);
        by_policy.entry(policy).or_default().push(key);
    }
    // The strictest policy decides; what is left alone by it is told by the next look.
    let ignored = by_policy.remove(&DriftPolicy::Ignore).unwrap_or_default();
    if let Some((policy, keys)) = by_policy.pop_first() {
        let detail = match keys.len() {
            1 => "1 key differs".to_owned(),
            count => format!("{count} keys differ"),
        };
        return Some(Difference { kind: DriftKind::Edited, keys, detail, policy });
    }
    let mut all = canonical::differing_keys(&desired, &disk, &[]);
    all.retain(|key| !ignored.contains(key));
    if !all.is_empty() {
        return Some(Difference {
            kind: DriftKind::ProductOwned,
            keys: all,
            detail: "written by the product itself".to_owned(),
            policy: DriftPolicy::Report,
        });
    }
    (!ignored.is_empty()).then(|| Difference {
        kind: DriftKind::Edited,
        keys: ignored,
        detail: "left to the host".to_owned(),
        policy: DriftPolicy::Ignore,
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
    /// The newest word on every file whose difference stands, also on those that `seen` has no room for.
    standing: BTreeMap<HomePath, (DriftKind, DriftAction, Vec<String>)>,
    total: u32,
    restores: BTreeMap<HomePath, VecDeque<Instant>>,
    /// Restores asked for and not answered, and since when.
    pending: BTreeMap<HomePath, Instant>,
    /// Restores that failed and are tried again.
    failing: BTreeMap<HomePath, Failing>,
    /// Since when a file waits for its first restore to succeed: starts of the server wait for it, for [`HOLD_TIME`].
    holding: BTreeMap<HomePath, Instant>,
    /// Seen and not told yet, and since when: it may be half of a write.
    suspected: BTreeMap<HomePath, (Difference, Instant)>,
    /// Who wrote a file that differs, as far as it was told.
    editors: BTreeMap<HomePath, Vec<Editor>>,
}

/// A restore that does not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failing {
    why: String,
    failures: u32,
    again: Instant,
}

/// What follows from a restore that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// When it is tried again.
    pub at: Instant,
    /// It has not failed for this reason before, so operators should hear of it.
    pub is_news: bool,
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
        self.pending.contains_key(path)
    }

    /// Decides, and counts a restore if that is the decision.
    pub fn answer(&mut self, path: &HomePath, difference: &Difference, now: Instant) -> Option<Answer> {
        match difference.policy {
            _ if difference.is_kept() => return Some(Answer::Leave(DriftAction::Reported)),
            DriftPolicy::Report => return Some(Answer::Leave(DriftAction::Reported)),
            DriftPolicy::Ignore => return None,
            DriftPolicy::Enforce => {}
        }
        if self.failing.get(path).is_some_and(|failing| now < failing.again) {
            return Some(Answer::Leave(DriftAction::Reported));
        }
        let restores = self.restores.entry(path.clone()).or_default();
        restores.retain(|&at| now.since(at) < TUG_WINDOW);
        if TUG_MAX <= restores.len() {
            return Some(Answer::Leave(DriftAction::TugOfWar));
        }
        restores.push_back(now);
        Some(Answer::Restore)
    }

    /// Whether a difference that will be left as it is stands long enough to be told. A restore looks again by itself
    /// before it replaces anything; here it is the next look that tells an edit from half of a write.
    pub fn is_confirmed(
        &mut self,
        path: &HomePath,
        (difference, action): (&Difference, DriftAction),
        now: Instant,
    ) -> bool {
        if self.is_known(path, difference, action) {
            self.suspected.remove(path);
            return true;
        }
        let since = match self.suspected.get(path) {
            Some((suspected, since)) if suspected == difference => *since,
            _ => now,
        };
        if CONFIRM_TIME <= now.since(since) {
            self.suspected.remove(path);
            return true;
        }
        self.suspected.insert(path.clone(), (difference.clone(), since));
        false
    }

    /// Notes that a restore was asked for.
    pub fn restoring(&mut self, path: &HomePath, now: Instant) {
        self.pending.insert(path.clone(), now);
        if !self.failing.contains_key(path) {
            self.holding.entry(path.clone()).or_insert(now);
        }
    }

    /// Records a difference whose restore begins. Until that has succeeded the difference stands.
    pub fn record_restoring(&mut self, path: &HomePath, mut difference: Difference, at: Timestamp) {
        if self.failing.contains_key(path) && self.is_known(path, &difference, DriftAction::Reported) {
            return;
        }
        difference.detail.push_str("; it is being restored");
        self.record(Self::describe(path, difference, DriftAction::Reported, at));
    }

    /// The file is as desired again, durable. Whether a restore was pending.
    pub fn restored(&mut self, path: &HomePath, took: Duration) -> bool {
        if self.pending.remove(path).is_none() {
            return false;
        }
        self.failing.remove(path);
        self.holding.remove(path);
        self.standing.remove(path);
        self.editors.remove(path);
        if let Some(drift) = self.seen.iter_mut().find(|drift| drift.path == *path) {
            (drift.action, drift.restored_after) = (DriftAction::Restored, Some(took));
            drift.detail = drift.detail.trim_end_matches("; it is being restored").to_owned();
        }
        true
    }

    /// The file was as desired before a restore that an operator asked for, so nothing was done and nothing is told.
    pub fn as_desired(&mut self, path: &HomePath) {
        self.pending.remove(path);
        self.failing.remove(path);
        self.holding.remove(path);
    }

    /// A restore failed. `None`: none was pending. A failed try does not count towards a tug-of-war.
    pub fn restore_failed(&mut self, path: &HomePath, why: &str, now: Instant) -> Option<Retry> {
        self.pending.remove(path)?;
        if let Some(restores) = self.restores.get_mut(path) {
            restores.pop_back();
        }
        let before = self.failing.get(path);
        let is_news = before.is_none_or(|before| before.why != why);
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let wait = RESTORE_AGAIN.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
        let at = now.after(wait.min(RESTORE_AGAIN_MAX));
        self.failing.insert(path.clone(), Failing { why: why.to_owned(), failures, again: at });
        if let Some(drift) = self.seen.iter_mut().find(|drift| drift.path == *path) {
            drift.detail = format!("it could not be restored and is tried again: {why}");
        }
        Some(Retry { at, is_news })
    }

    /// What kept restores from succeeding has changed: they are tried again at the next look.
    pub fn retry_now(&mut self, now: Instant) {
        self.failing.values_mut().for_each(|failing| failing.again = now);
    }

    /// Whether a start should wait for a restore.
    pub fn holds_start(&self) -> bool {
        !self.holding.is_empty()
    }

    /// When a start waits no longer.
    pub fn hold_deadline(&self) -> Option<Instant> {
        self.holding.values().min().map(|since| since.after(HOLD_TIME))
    }

    /// Starts wait no longer for files that have taken too long, and a restore that is never answered is begun again by a
    /// later look.
    pub fn let_go(&mut self, now: Instant) {
        self.pending.retain(|_, since| now.since(*since) < ANSWER_TIME);
        self.holding.retain(|_, since| now.since(*since) < HOLD_TIME);
    }

    /// It was not restored, since it had changed again: what was recorded is taken back. Whether one was pending.
    pub fn withdraw(&mut self, path: &HomePath) -> bool {
        let was_pending = self.pending.remove(path).is_some();
        if was_pending {
            self.standing.remove(path);
            self.seen.retain(|drift| drift.path != *path);
            self.total = self.total.saturating_sub(1);
        }
        was_pending
    }

    /// Who wrote a file whose difference stands, or is about to be told.
    pub fn written_by(&mut self, path: &HomePath, editors: Vec<Editor>) {
        if let Some(drift) = self.seen.iter_mut().find(|drift| drift.path == *path)
            && drift.action != DriftAction::Restored
        {
            drift.editors.clone_from(&editors);
        }
        self.editors.insert(path.clone(), editors);
    }

    /// Who had written a file that is restored by now. Whether that is news.
    pub fn was_written_by(&mut self, path: &HomePath, editors: Vec<Editor>) -> bool {
        let restored = |drift: &&mut Drift| drift.path == *path && drift.action == DriftAction::Restored;
        let Some(drift) = self.seen.iter_mut().find(restored) else { return false };
        let is_news = drift.editors != editors;
        drift.editors = editors;
        is_news
    }

    /// Whether exactly this difference, with this action, is already the newest word on the file.
    pub fn is_known(&self, path: &HomePath, difference: &Difference, action: DriftAction) -> bool {
        self.standing.get(path).is_some_and(|(kind, done, keys)| {
            *kind == difference.kind && *done == action && *keys == difference.keys
        })
    }

    /// Records a difference; an older word on the same file is replaced.
    pub fn record(&mut self, mut drift: Drift) {
        if let Some(editors) = self.editors.get(&drift.path) {
            drift.editors.clone_from(editors);
        }
        self.seen.retain(|known| known.path != drift.path);
        if drift.action == DriftAction::Restored {
            self.standing.remove(&drift.path);
        } else {
            self.standing.insert(drift.path.clone(), (drift.kind, drift.action, drift.keys.clone()));
        }
        self.seen.push_back(drift);
        self.total = self.total.saturating_add(1);
        if DRIFT_MAX < self.seen.len() {
            self.seen.pop_front();
        }
    }

    /// A scan of the files `looked` found only these differences: any other that was left standing is over. Answers which
    /// of those that were told ended so, with what was done about them last.
    pub fn settle(
        &mut self,
        looked: &BTreeSet<HomePath>,
        standing: &BTreeSet<HomePath>,
    ) -> Vec<(HomePath, DriftAction)> {
        let pending = &self.pending;
        let is_over = |path: &HomePath| {
            looked.contains(path) && !standing.contains(path) && !pending.contains_key(path)
        };
        self.failing.retain(|path, _| !is_over(path));
        self.holding.retain(|path, _| !is_over(path));
        self.seen.retain(|drift| drift.action == DriftAction::Restored || !is_over(&drift.path));
        self.suspected.retain(|path, _| !is_over(path));
        self.editors.retain(|path, _| !is_over(path));
        let over = self.standing.extract_if(.., |path, _| is_over(path));
        over.map(|(path, (_, action, _))| (path, action)).collect()
    }

    /// New files are in force: what was said of the old ones no longer holds.
    pub fn reset(&mut self) {
        self.restores.clear();
        self.pending.clear();
        self.failing.clear();
        self.holding.clear();
        self.standing.clear();
        self.suspected.clear();
        self.editors.clear();
        self.seen.retain(|drift| drift.action == DriftAction::Restored);
    }

    /// Files that differ and were left so, told or not, product-owned differences aside.
    pub fn open(&self) -> BTreeSet<&HomePath> {
        let standing = self.standing.iter();
        let told = standing.filter(|(_, (kind, ..))| *kind != DriftKind::ProductOwned).map(|(path, _)| path);
        told.chain(self.suspected.keys()).collect()
    }

    /// An operator wants this file restored whatever happened before.
    pub fn forgive(&mut self, path: &HomePath) {
        self.restores.remove(path);
        self.failing.remove(path);
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
            editors: Vec::new(),
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
            launch: false,
        }
    }

    fn edit() -> Difference {
        let policy = DriftPolicy::Enforce;
        Difference { kind: DriftKind::Edited, keys: Vec::new(), detail: String::new(), policy }
    }

    fn config(desired: &str, disk: &str) -> Option<(DriftKind, Vec<String>)> {
        let found = Found::Content { texts: Some((desired.to_owned(), disk.to_owned())) };
        let product = ["encryption.key".to_owned(), "secrets.*".to_owned()];
        let owners = KeyOwners { product: &product, rules: &KeyRules::default() };
        judge(&file(), &found, owners).map(|difference| (difference.kind, difference.keys))
    }

    #[test]
    fn a_key_is_judged_by_its_own_rule_and_the_strictest_is_answered_first() {
        let rule =
            |text: &str, policy| keys::KeyRule { pattern: keys::KeyPattern::parse(text).unwrap(), policy };
        let rules = [rule("cache", DriftPolicy::Ignore), rule("server.hostname", DriftPolicy::Report)];
        let rules = KeyRules::of_scopes([rules.to_vec()]);
        let product = ["encryption.key".to_owned()];
        let judged = |disk: &str, file_policy: DriftPolicy| {
            let desired = "[server]\nhostname = \"a\"\noffset = 1\n[cache]\nsize = 1\n".to_owned();
            let found = Found::Content { texts: Some((desired, disk.to_owned())) };
            let file = FileEntry { drift: file_policy, ..file() };
            let difference = judge(&file, &found, KeyOwners { product: &product, rules: &rules });
            difference.map(|it| format!("{:?} {:?} {}", it.kind, it.policy, it.keys.join(" ")))
        };
        let enforce = DriftPolicy::Enforce;
        for (disk, policy, expected) in [
            ("hostname='b'\noffset=2\n[cache]\nsize=2\n", enforce, "Edited Enforce server.offset"),
            ("hostname='b'\noffset=1\n[cache]\nsize=2\n", enforce, "Edited Report server.hostname"),
            ("hostname='a'\noffset=1\n", enforce, "Edited Ignore cache.size"),
            (
                "hostname='a'\noffset=1\n[encryption]\nkey='k'\n",
                enforce,
                "ProductOwned Report encryption.key",
            ),
            ("hostname='a'\noffset=2\n[cache]\nsize=2\n", DriftPolicy::Report, "Edited Report server.offset"),
            (
                "hostname='a'\noffset=2\n[cache]\nsize=2\n",
                DriftPolicy::Ignore,
                "Edited Ignore cache.size server.offset",
            ),
        ] {
            assert_eq!(judged(&format!("[server]\n{disk}"), policy).unwrap(), expected);
        }
    }

    #[test]
    fn deployment_toml_is_compared_by_meaning() {
        let desired = "[server]\nhostname = \"a\"\noffset = 1\n";
        assert_eq!(config(desired, "# hi\n[server]\noffset=1\nhostname='a'\n"), None);
        let edited = config(desired, "[server]\nhostname = \"b\"\noffset = 1\n").unwrap();
        assert_eq!(edited, (DriftKind::Edited, vec!["server.hostname".to_owned()]));
        let generated = config(desired, &format!("{desired}[encryption]\nkey = \"00\"\n")).unwrap();
        assert_eq!(generated, (DriftKind::ProductOwned, vec!["encryption.key".to_owned()]));
        let declared = format!("{desired}[encryption]\nkey = \"11\"\n");
        let changed = config(&declared, &format!("{desired}[encryption]\nkey = \"00\"\n")).unwrap();
        assert_eq!(changed, (DriftKind::Edited, vec!["encryption.key".to_owned()]));
        let both = config(desired, "[server]\nhostname = \"b\"\n[encryption]\nkey = \"00\"\n").unwrap();
        assert_eq!(both.0, DriftKind::Edited);
        assert_eq!(config(desired, "[server").unwrap().0, DriftKind::Edited);
        // The same keys in an order that the server dies of are an edit, too.
        let (desired, disk) = ("[a]\nx = 1\n[a.b]\ny = 2\n", "[a.b]\ny = 2\n[a]\nx = 1\n");
        let found = Found::Content { texts: Some((desired.to_owned(), disk.to_owned())) };
        let detail =
            judge(&file(), &found, KeyOwners { product: &[], rules: &KeyRules::default() }).unwrap().detail;
        assert_eq!(
            detail,
            "it is TOML that opens [a] after a table inside it; the server would not start with it"
        );
    }

    #[test]
    fn a_difference_that_stands_is_told_once_however_many_there_are() {
        let mut drifts = Drifts::default();
        let difference = edit();
        let paths: BTreeSet<HomePath> =
            (0..3 * DRIFT_MAX).map(|n| HomePath::parse(&format!("f{n}")).unwrap()).collect();
        for scan in 0..3 {
            for path in &paths {
                let known = drifts.is_known(path, &difference, DriftAction::Reported);
                assert_eq!(known, scan > 0, "{path} at scan {scan}");
                if !known {
                    let action = DriftAction::Reported;
                    drifts.record(Drifts::describe(path, difference.clone(), action, Timestamp(0)));
                }
            }
            assert_eq!(drifts.settle(&paths, &paths), []);
        }
        assert_eq!((drifts.seen().count(), drifts.open().len()), (DRIFT_MAX, paths.len()));
        drifts.settle(&paths, &BTreeSet::new());
        assert_eq!((drifts.seen().count(), drifts.open().len()), (0, 0));
    }

    #[test]
    fn a_tug_of_war_ends() {
        let (mut drifts, path) = (Drifts::default(), HomePath::parse("a").unwrap());
        let edit = edit();
        let mut answer = |second: u64| {
            let now = Instant(second * 1000);
            drifts.answer(&path, &edit, now).unwrap()
        };
        for second in 0..5 {
            assert_eq!(answer(second), Answer::Restore);
        }
        assert_eq!(answer(6), Answer::Leave(DriftAction::TugOfWar));
        assert_eq!(answer(700), Answer::Restore);
    }
}
