//! `convoy lint`: composes the directory here, with the code that the coordinator uses, and looks at what came of it.

use std::{collections::BTreeMap, path::Path};

use fleet::{
    finding::Finding,
    lint::{ClearText, Packs},
    spec::{Absent, Fleet, Secrets},
};

use crate::{
    directory,
    exit::{Exit, Failure},
    pack, places, render,
    request::LintForm,
    sarif,
    screen::Screen,
    secrets, view, wait,
};

/// Checks a fleet directory, with the values of a file of `secrets` if given, and each node whose product one of
/// `homes` is.
///
/// # Errors
/// A directory or pack that cannot be read.
pub fn run(
    dir: &Path,
    homes: &[std::path::PathBuf],
    form: LintForm,
    secrets: Option<&Path>,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let sources = directory::read(dir)?;
    let secrets = match secrets {
        Some(file) => Secrets::new(secrets::read(file)?, Absent::Refuse),
        // Their values are kept by the coordinator; here only their names can be checked.
        None => Secrets::new(BTreeMap::new(), Absent::Placeholder),
    };
    let composition = fleet::spec::compose_with(&sources, &secrets);
    let composed = composition.fleet.as_ref();
    let mut findings = composition.findings;
    if let Some(fleet) = composed {
        findings.extend(doubts(fleet, homes)?);
    }
    findings.sort_by_key(|finding| finding.severity);
    let mut lint = view::Lint {
        fleet: composed.map(|fleet| fleet.name.to_string()),
        nodes: composed.map_or(0, |fleet| fleet.nodes.len()),
        findings: findings.into_iter().map(view::Finding::from).collect(),
    };
    places::locate(&mut lint.findings, dir);
    match form {
        LintForm::Sarif => {
            let log = sarif::log(&lint.findings, &places::below_root(dir));
            screen.print(&format!("{log:#}\n"));
        }
        LintForm::Plain => {
            screen.programs(&lint);
            let text = render::lint(&lint, wait::style(screen));
            screen.people(&text);
        }
    }
    Ok(if lint.findings.iter().any(view::Finding::is_error) { Exit::Failed } else { Exit::Done })
}

fn doubts(fleet: &Fleet, homes: &[std::path::PathBuf]) -> Result<Vec<Finding>, Failure> {
    let mut packs = Packs::new();
    let products: Vec<&str> = fleet.groups.values().map(|group| group.product.as_str()).collect();
    for home in homes {
        pack::assign(home, &products, &mut packs)?;
    }
    Ok(fleet::lint::fleet(fleet, &packs, ClearText::Tell))
}
