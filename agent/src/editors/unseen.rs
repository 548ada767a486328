//! What can be told of an edit where the kernel does not tell the agent who makes them: who owns the file as it is found,
//! and which terminals are open at that moment. It names nobody who made the edit, and nothing waits for it: one `stat` of
//! the file and one look at the directory of terminals (ADR 97).

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use fleet::{
    bundle::{Bundle, HomePath},
    editor::{Circumstances, Editor, TERMINALS_MAX},
};

use super::facts::Names;

/// The terminals of logins over SSH, of `screen` and the like; each belongs to the user who opened it.
const TERMINALS: &str = "/dev/pts";
/// Those of the host itself, which belong to whoever is logged in there.
const CONSOLES: [&str; 6] = ["tty1", "tty2", "tty3", "tty4", "tty5", "tty6"];
const ROOT: u32 = 0;

/// Looks in place of fanotify.
#[derive(Debug, Clone, Default)]
pub(super) struct Unseen(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    home: PathBuf,
    /// The fleet does not want it.
    is_off: bool,
    names: Names,
    /// What was told of each file that differs, and of which file: what holds later is not of that edit.
    told: BTreeMap<HomePath, (Version, Editor)>,
}

/// Inode and time of the last change of a file; `None`: it was gone.
type Version = Option<(u64, i64, i64)>;

impl Unseen {
    /// Looks at files of this bundle from now on.
    pub(super) fn set(&self, bundle: &Bundle) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.home = PathBuf::from(&bundle.service.home);
        state.is_off = bundle.unnamed_editors;
        state.told.clear();
    }

    /// These are as desired now.
    pub(super) fn forget<'a>(&self, paths: impl Iterator<Item = &'a HomePath>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.told.is_empty() {
            paths.for_each(|path| drop(state.told.remove(path)));
        }
    }

    /// What can be told of a file that differs; `None` if the fleet does not want it.
    pub(super) fn of(&self, path: &HomePath) -> Option<Editor> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_off {
            return None;
        }
        // The file itself, not what a link leads to.
        let facts = fs::symlink_metadata(state.home.join(path.as_str())).ok();
        let version = facts.as_ref().map(|facts| (facts.ino(), facts.ctime(), facts.ctime_nsec()));
        if let Some((_, told)) = state.told.get(path).filter(|(known, _)| *known == version) {
            return Some(told.clone());
        }
        let owner = facts.map_or_else(String::new, |facts| state.names.of(facts.uid()));
        let terminals = terminals(Path::new(TERMINALS), &state.names);
        let editor = Editor { circumstances: Some(Circumstances { owner, terminals }), ..Editor::default() };
        let editor = editor.bounded();
        state.told.insert(path.clone(), (version, editor.clone()));
        Some(editor)
    }
}

/// Terminals in order, each with its user.
fn terminals(directory: &Path, names: &Names) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let numbered = entries.filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((number, entry.metadata().ok()?.uid()))
    });
    let mut numbered: Vec<(u32, u32)> = numbered.collect();
    numbered.sort_unstable();
    // One of root's is nobody's: that is what they are without a login.
    let consoles = CONSOLES.iter().filter_map(|name| {
        let owner = fs::metadata(Path::new("/dev").join(name)).ok()?.uid();
        (owner != ROOT).then(|| format!("{} on {name}", names.of(owner)))
    });
    let pseudo = numbered.into_iter().map(|(number, owner)| format!("{} on pts/{number}", names.of(owner)));
    consoles.chain(pseudo).take(TERMINALS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_of_an_edit_stays_until_the_file_changes_again_or_is_as_desired() {
        let dir = tempfile::tempdir().unwrap();
        let (unseen, path) = (Unseen::default(), HomePath::parse("repository/conf/x.properties").unwrap());
        unseen.0.lock().unwrap().home = dir.path().to_owned();
        let gone = unseen.of(&path).unwrap().circumstances.unwrap();
        assert_eq!(gone.owner, "");
        let file = dir.path().join(path.as_str());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "edited").unwrap();
        let me = Names::default().of(fs::metadata(&file).unwrap().uid());
        let first = unseen.of(&path).unwrap();
        assert_eq!(first.circumstances.as_ref().unwrap().owner, me);
        assert!(!first.is_known(), "nobody is named");
        // Somebody who logs in later had nothing to do with it.
        unseen.0.lock().unwrap().told.get_mut(&path).unwrap().1.circumstances.as_mut().unwrap().terminals =
            vec!["deploy on pts/0".to_owned()];
        let again = unseen.of(&path).unwrap();
        assert_eq!(again.circumstances.unwrap().terminals, ["deploy on pts/0"]);
        unseen.forget([&path].into_iter());
        assert_eq!(unseen.0.lock().unwrap().told.len(), 0);
        unseen.0.lock().unwrap().is_off = true;
        assert_eq!(unseen.of(&path), None);
    }

    #[test]
    fn terminals_are_named_in_order_and_only_so_many() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["10", "2", "ptmx"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let names = Names::default();
        let me = names.of(fs::metadata(dir.path()).unwrap().uid());
        let found: Vec<String> =
            terminals(dir.path(), &names).into_iter().filter(|text| text.contains("pts/")).collect();
        assert_eq!(found, [format!("{me} on pts/2"), format!("{me} on pts/10")]);
        for number in 100..200 {
            fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(terminals(dir.path(), &names).len(), TERMINALS_MAX);
    }
}
