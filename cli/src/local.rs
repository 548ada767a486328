//! Commands that need no coordinator.

use std::{fs, io, path::Path};

use clap::{Command, CommandFactory as _};

use crate::{
    args::Typed,
    contexts::{self, Contexts},
    exit::{Exit, Failure},
    explain, import, lint, render_config,
    request::Local,
    schema,
    screen::Screen,
    trust,
};

/// Runs one command.
///
/// # Errors
/// With what to do next.
pub fn execute(local: Local, screen: &mut Screen) -> Result<Exit, Failure> {
    match local {
        Local::Lint { dir, packs, form, secrets } => {
            lint::run(&dir, &packs, form, secrets.as_deref(), screen)
        }
        Local::Import(request) => import::execute(&request, screen),
        Local::Render(request) => render_config::run(&request, screen),
        Local::Schema { dir, node } => schema::run(&dir, &node, screen),
        Local::Trust(request) => trust::run(&request, screen),
        Local::Explain(request) => explain::run(&request, screen),
        Local::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Typed::command(), "convoy", &mut script);
            screen.print(&String::from_utf8_lossy(&script));
            Ok(Exit::Done)
        }
        Local::Man { out } => manual(&out, screen),
        Local::Contexts(act) => contexts::execute(&act, &Contexts::own(), screen),
    }
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
