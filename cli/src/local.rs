//! Commands that need no coordinator.

use std::{collections::BTreeMap, fs, io, path::Path};

use clap::{Command, CommandFactory as _};
use fleet::spec::{Absent, Secrets};

use crate::{
    args::Typed,
    directory,
    exit::{Exit, Failure},
    import, render,
    request::Local,
    screen::Screen,
    secrets, view, wait,
};

/// Runs one command.
///
/// # Errors
/// With what to do next.
pub fn execute(local: Local, screen: &mut Screen) -> Result<Exit, Failure> {
    match local {
        Local::Lint { dir, secrets } => lint(&dir, secrets.as_deref(), screen),
        Local::Import(request) => import::execute(&request, screen),
        Local::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Typed::command(), "convoy", &mut script);
            screen.print(&String::from_utf8_lossy(&script));
            Ok(Exit::Done)
        }
        Local::Man { out } => manual(&out, screen),
    }
}

/// Composes the directory here, with the code that the coordinator uses.
fn lint(dir: &Path, secrets: Option<&Path>, screen: &mut Screen) -> Result<Exit, Failure> {
    let sources = directory::read(dir)?;
    let secrets = match secrets {
        Some(file) => Secrets::new(secrets::read(file)?, Absent::Refuse),
        // Their values are kept by the coordinator; here only their names can be checked.
        None => Secrets::new(BTreeMap::new(), Absent::Placeholder),
    };
    let composition = fleet::spec::compose_with(&sources, &secrets);
    let composed = composition.fleet.as_ref();
    let lint = view::Lint {
        fleet: composed.map(|fleet| fleet.name.to_string()),
        nodes: composed.map_or(0, |fleet| fleet.nodes.len()),
        findings: composition.findings.into_iter().map(view::Finding::from).collect(),
    };
    screen.programs(&lint);
    let text = render::lint(&lint, wait::style(screen));
    screen.people(&text);
    Ok(if lint.findings.iter().any(view::Finding::is_error) { Exit::Failed } else { Exit::Done })
}

fn manual(out: &Path, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut command = Typed::command();
    command.build();
    let written = fs::create_dir_all(out).and_then(|()| pages(&command, out));
    let pages = written.map_err(|error| {
        Failure::failed(
            format!("cannot write manual pages to {}", out.display()),
            "name a directory that can be written",
        )
        .because(error)
    })?;
    screen.people(&format!("{pages} manual pages in {}\n", out.display()));
    Ok(Exit::Done)
}

/// One page per command; how many.
fn pages(command: &Command, out: &Path) -> io::Result<usize> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(out.join(format!("{name}.1")), page)?;
    let mut count = 1;
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        count += pages(child, out)?;
    }
    Ok(count)
}
