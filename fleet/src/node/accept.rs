//! Edits that an operator accepts: told with what the fleet directory would have to say, and left alone until the next
//! apply or an end that was given.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    bundle::{Bundle, HomePath},
    drift::{self, Found, KeyOwners},
    finding::{MASK, is_hidden_key, mask_line},
    node::{Action, Clock, Engine, Extent, Out},
    observed::DriftAction,
    spec::canonical,
    time::{Instant, Timestamp},
    words::NoticeWord,
};

/// Keys that are told at most.
const KEYS_MAX: usize = 50;
/// Characters of one value that are told at most.
const VALUE_MAX: usize = 200;
/// The wall clock is looked at so often at least, since it may be set.
const LOOK_PERIOD: Duration = Duration::from_secs(60);

/// What waits for a look, and for an end.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Commands to be answered once their file has been looked at.
    waiting: Vec<(u64, HomePath)>,
    again: Option<Instant>,
}

impl Engine {
    /// Accepts what a file is like now. The answer comes with the next look at it.
    ///
    /// # Errors
    /// It is no file of this node.
    pub(super) fn accept(
        &mut self,
        id: u64,
        path: HomePath,
        until: Option<Timestamp>,
        out: &mut Out,
    ) -> Result<(), String> {
        let (written, bundle) = self.written().ok_or("no files are in force yet")?;
        if written.is_original() {
            return Err("the original files are in force; edits of those are never undone".to_owned());
        }
        if bundle.files.get(&path).is_none_or(|file| file.launch) {
            return Err(format!("{path} is not a managed file of this node; only edits of those are undone"));
        }
        self.memory.accepted.insert(path.clone(), until.unwrap_or(Timestamp(i64::MAX)));
        self.accepts.waiting.push((id, path));
        out.push(Action::Scan(Extent::All));
        Ok(())
    }

    /// Whether edits of this file are left alone.
    pub(super) fn is_accepted(&self, path: &HomePath) -> bool {
        self.memory.accepted.contains_key(path)
    }

    /// Answers those whose file was looked at.
    pub(super) fn answer_accepts(
        &mut self,
        (looked, found): (&BTreeSet<HomePath>, &BTreeMap<HomePath, Found>),
        bundle: &Bundle,
        out: &mut Out,
    ) {
        let (ready, waiting) = std::mem::take(&mut self.accepts.waiting)
            .into_iter()
            .partition(|(_, path)| looked.contains(path));
        self.accepts.waiting = waiting;
        let ready: Vec<(u64, HomePath)> = ready;
        for (id, path) in ready {
            let change = found.get(&path).and_then(|found| change(&path, found, bundle));
            let done = change.is_some();
            if !done {
                self.memory.accepted.remove(&path);
            }
            let detail = change.unwrap_or_else(|| {
                format!("{path} is as desired: there is nothing to accept (an enforced file is restored at once; pause first, edit, then accept)")
            });
            out.push(Action::CommandDone { id, done, detail });
        }
    }

    /// Ends what has run out.
    pub(super) fn settle_accepted(&mut self, clock: Clock, out: &mut Out) {
        if self.accepts.again.is_some_and(|due| clock.now < due) {
            return;
        }
        let before = self.memory.accepted.len();
        self.memory.accepted.retain(|_, until| clock.wall < *until);
        if self.memory.accepted.len() < before {
            self.notice(clock, NoticeWord::DriftResumed, "the time of an accepted edit has run out", &[]);
            out.push(Action::Scan(Extent::All));
        }
        self.accepts.again = (!self.memory.accepted.is_empty()).then(|| clock.now.after(LOOK_PERIOD));
    }

    /// Other files are in force: what was accepted of the old ones no longer holds.
    pub(super) fn forget_accepted(&mut self) {
        self.memory.accepted.clear();
    }

    /// When an end is looked at again.
    pub(super) fn accept_deadline(&self) -> Option<Instant> {
        self.accepts.again
    }
}

/// What would make the edit desired, one key a line; `None` if nothing differs that counts.
fn change(path: &HomePath, found: &Found, bundle: &Bundle) -> Option<String> {
    let file = bundle.files.get(path)?;
    let difference = drift::judge(file, found, KeyOwners::of(bundle))?;
    let word = DriftAction::Accepted.as_str();
    let kind = difference.kind.as_str();
    let Found::Content { texts: Some((_, disk)) } = found else {
        let how = match found {
            Found::Mode { mode } => format!("set mode = \"{mode:04o}\" in a [[files]] rule for {path}"),
            Found::Missing => format!("take {path} out of files/ of the fleet directory"),
            Found::Owner { .. } => "change run_user".to_owned(),
            Found::Replaced { detail } | Found::Unusable { detail } => {
                format!("nothing in a layer does that: {detail}")
            }
            Found::Content { .. } => format!("put its content into files/<group or node>/{path}"),
        };
        return Some(format!("{path}: {kind}, {word}. To make it desired: {how}"));
    };
    let flat = match canonical::flatten(disk) {
        Ok(flat) => flat,
        Err(error) => {
            return Some(format!(
                "{path}: {kind}, {word}, but it is {error}: the server would not start with it"
            ));
        }
    };
    let line = |key: &String| match flat.get(key) {
        None => format!("\n  {key} is removed"),
        Some(_) if is_hidden_key(key) => format!("\n  {key} = {MASK}"),
        Some(value) => {
            let line = mask_line(&format!("{key} = {value}"));
            format!("\n  {}", line.chars().take(VALUE_MAX).collect::<String>())
        }
    };
    let lines: String = difference.keys.iter().take(KEYS_MAX).map(line).collect();
    Some(format!("{path}: {kind}, {word}. To make it desired, a layer of this node has to say:{lines}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::{bundle, path};

    #[test]
    fn a_change_names_keys_and_values_but_no_secret() {
        let config = path("deployment.toml");
        let desired =
            "[server]\noffset = 1\nhostname = \"a\"\n[super_admin]\npassword = \"old\"\n".to_owned();
        let disk = "[server]\noffset = 2\n[super_admin]\npassword = \"geheim\"\n".to_owned();
        let found = Found::Content { texts: Some((desired, disk)) };
        let said = change(&config, &found, &bundle("a = 1", "x")).unwrap();
        assert!(
            said.contains("\n  server.offset = 2") && said.contains("\n  server.hostname is removed"),
            "{said}"
        );
        assert!(said.contains("super_admin.password") && !said.contains("geheim"), "{said}");
    }
}
