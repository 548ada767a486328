//! Extra files of a node: what stands under `files/<group>/` and `files/<node>/`, and the settings of each.

use std::{cell::OnceCell, collections::BTreeMap, sync::Arc};

use super::{
    Sources,
    expression::{Expressions, Names, Origin},
    report::{Report, suggest},
    secret,
    tree::{At, Source},
};
use crate::{
    bundle::{
        BUNDLE_FILES_MAX, BUNDLE_SIZE_MAX, DriftPolicy, FILE_SIZE_MAX, FileEntry, HomePath, RestartClass,
    },
    finding::Place,
    ids::Digest,
    product::FileRule,
};

/// One file as it stands in the fleet directory.
#[derive(Debug, Clone)]
pub(super) struct Extra<'a> {
    /// Path in the fleet directory.
    source: &'a str,
    content: &'a [u8],
    template: bool,
    /// What all nodes have in common that get it as it stands.
    whole: OnceCell<(Digest, Arc<[u8]>)>,
}

/// The files of each group and node, by owner and path below home.
pub(super) type Extras<'a> = BTreeMap<&'a str, BTreeMap<HomePath, Extra<'a>>>;

/// Finds every file below `files/` and whose it is.
pub(super) fn find<'a>(sources: &'a Sources, owners: &[&str], report: &mut Report) -> Extras<'a> {
    let mut extras = Extras::new();
    for (path, content) in &sources.0 {
        let Some(below) = path.strip_prefix("files/") else { continue };
        let Some((owner, below)) = below.split_once('/') else {
            report.error(
                "CV404",
                Some(whole_file(path)),
                "a file directly under files/ belongs to no group and no node",
                "move it to files/<group or node>/<path below home>",
            );
            continue;
        };
        if !owners.contains(&owner) {
            report.error(
                "CV404",
                Some(whole_file(path)),
                format!("{owner:?} is neither a group nor a node of this fleet"),
                suggest(owner, owners.iter().copied()),
            );
            continue;
        }
        let (target, template) = match below.strip_suffix(".tmpl") {
            Some(target) => (target, true),
            None => (below, false),
        };
        if target.rsplit('/').next() == Some(".gitkeep") {
            continue;
        }
        let Some(target) = check(path, target, content, report) else { continue };
        let extra = Extra { source: path, content, template, whole: OnceCell::new() };
        if let Some(other) = extras.entry(owner).or_default().insert(target, extra) {
            report.error(
                "CV408",
                Some(whole_file(path)),
                format!("{path} and {} are for the same file", other.source),
                "keep one of the two",
            );
        }
    }
    extras
}

fn check(path: &str, target: &str, content: &[u8], report: &mut Report) -> Option<HomePath> {
    if FILE_SIZE_MAX < content.len() as u64 {
        report.error(
            "CV402",
            Some(whole_file(path)),
            format!("{path} has {} bytes; a file may have {FILE_SIZE_MAX}", content.len()),
            "bring large files to the hosts as part of the pack",
        );
        return None;
    }
    match HomePath::parse(target) {
        Ok(target) => Some(target),
        Err(error) => {
            report.error(
                "CV401",
                Some(whole_file(path)),
                error.to_string(),
                "name files by their path below the server's home",
            );
            None
        }
    }
}

/// A finding about a file as a whole points at its beginning.
pub(super) fn whole_file(path: &str) -> Place {
    Place { file: path.to_owned(), line: 1, column: 1, line_text: String::new() }
}

/// One file ready for a bundle.
pub(super) struct Rendered {
    pub(super) path: HomePath,
    pub(super) content: Arc<[u8]>,
    pub(super) entry: FileEntry,
}

/// The settings of `path`: every rule that matches, later ones winning.
pub(super) fn settings(path: &HomePath, rules: &[&FileRule]) -> FileEntry {
    let mut entry = FileEntry {
        digest: Digest([0; 32]),
        meaning: Digest([0; 32]),
        size: 0,
        mode: 0o640,
        drift: DriftPolicy::Enforce,
        restart: RestartClass::Restart,
        secret: false,
        launch: false,
    };
    for rule in rules {
        if !rule.matches(path) {
            continue;
        }
        entry.mode = rule.mode.unwrap_or(entry.mode);
        entry.drift = rule.drift.unwrap_or(entry.drift);
        entry.restart = rule.restart.unwrap_or(entry.restart);
        entry.secret = rule.secret.unwrap_or(entry.secret);
    }
    entry
}

impl Extra<'_> {
    /// The content for one node.
    pub(super) fn render(
        &self,
        path: &HomePath,
        scope: (&Expressions, &Names),
        rules: &[&FileRule],
        report: &mut Report,
    ) -> Option<Rendered> {
        let (digest, content) = if self.template {
            let content = self.filled_in(scope, report)?;
            (Digest::of(&content), content)
        } else {
            let whole = self.whole.get_or_init(|| (Digest::of(self.content), self.content.into()));
            whole.clone()
        };
        let size = content.len() as u64;
        let mut entry = FileEntry { digest, meaning: digest, size, ..settings(path, rules) };
        if self.template && std::str::from_utf8(self.content).is_ok_and(secret::asks) {
            entry.secret = true;
            entry.mode &= 0o700;
        }
        Some(Rendered { path: path.clone(), content, entry })
    }

    /// A template's content for one node.
    fn filled_in(
        &self,
        (expressions, names): (&Expressions, &Names),
        report: &mut Report,
    ) -> Option<Arc<[u8]>> {
        let Ok(text) = std::str::from_utf8(self.content) else {
            report.error(
                "CV003",
                Some(whole_file(self.source)),
                format!("{} is a template but not UTF-8 text", self.source),
                "save it as UTF-8, or drop the suffix .tmpl",
            );
            return None;
        };
        let at = At::start_of(&Source::new(self.source, text));
        let origin = Origin { at: &at, start: Some(0) };
        Some(expressions.render(text, names, &origin, report)?.into_bytes().into())
    }
}

/// Refuses a bundle beyond its bounds.
pub(super) fn check_bundle(files: &BTreeMap<HomePath, FileEntry>, report: &mut Report) {
    let size: u64 = files.values().map(|file| file.size).sum();
    if BUNDLE_SIZE_MAX < size || BUNDLE_FILES_MAX < files.len() {
        report.error(
            "CV403",
            None,
            format!(
                "the files of one node have {size} bytes in {} files; at most {BUNDLE_SIZE_MAX} bytes in \
                 {BUNDLE_FILES_MAX} files are possible",
                files.len()
            ),
            "bring large or many files to the hosts as part of the pack",
        );
    }
}
