//! `convoy render`: the files that a server will really use, written beside the server and not into it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use carbon::{Inputs, Rendered as Files};
use fleet::{
    finding::mask_toml,
    ids::NodeName,
    lint::{ClearText, PackFacts, Subject, refusal},
    spec::{Absent, ComposedNode, Fleet, Secrets, compose_with},
};
use serde::Serialize;

use crate::{
    directory,
    exit::{Exit, Failure},
    pack, render,
    request::{Render, Rendered},
    screen::Screen,
    text::count,
    view, wait,
};

/// Output of `render`.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Whether the server would start with this configuration.
    starts: bool,
    /// Paths below the product's home.
    files: Vec<String>,
    /// The mapper's own sentence.
    refusal: Option<String>,
    findings: Vec<view::Finding>,
}

/// Output of `render DIR --node N` without `--out`.
#[derive(Debug, Serialize)]
struct Composed<'a> {
    node: &'a str,
    /// Secrets hidden.
    deployment_toml: String,
}

/// Output of `render DIR --balancer N`.
#[derive(Debug, Serialize)]
struct BalancerConfig<'a> {
    balancer: &'a str,
    /// Where it was written.
    file: Option<String>,
    config: String,
}

/// Renders.
///
/// # Errors
/// Something cannot be read or written.
pub fn run(request: &Render, screen: &mut Screen) -> Result<Exit, Failure> {
    match &request.what {
        Rendered::File(path) => {
            let text = fs::read_to_string(path).map_err(|error| {
                Failure::failed(format!("cannot read {}", path.display()), "name a deployment.toml")
                    .because(error)
            })?;
            let name = path.display().to_string();
            render_subject(&Subject::file(&name, &text), request, screen)
        }
        Rendered::Node { dir, node } => render_node(dir, node, request, screen),
        Rendered::Balancer { dir, name } => render_balancer(dir, name, request, screen),
    }
}

/// The fleet of a directory; secrets are placeholders.
pub(crate) fn composed(dir: &Path) -> Result<Fleet, Failure> {
    composed_with(dir, &Secrets::new(BTreeMap::new(), Absent::Placeholder))
}

/// The fleet of a directory with these secrets.
pub(crate) fn composed_with(dir: &Path, secrets: &Secrets) -> Result<Fleet, Failure> {
    let sources = directory::read(dir)?;
    let composition = compose_with(&sources, secrets);
    composition.fleet.ok_or_else(|| {
        Failure::failed(
            format!("{} has errors", dir.display()),
            format!("see them with `convoy lint {}`", dir.display()),
        )
    })
}

/// Nothing in it is secret: certificates are named by their files.
fn render_balancer(dir: &Path, name: &str, request: &Render, screen: &mut Screen) -> Result<Exit, Failure> {
    let fleet = composed(dir)?;
    let Some(balancer) = fleet.balancers.get(name) else {
        let names: Vec<&str> = fleet.balancers.keys().map(String::as_str).collect();
        let remedy = if names.is_empty() {
            format!("add [balancers.{name}] to fleet.toml")
        } else {
            format!("its balancers are {}", names.join(", "))
        };
        return Err(Failure::failed(format!("fleet {} has no balancer {name}", fleet.name), remedy));
    };
    let text = balancer.text(fleet.name.as_str());
    let file = request.out.as_deref();
    if let Some(file) = file {
        fs::write(file, &text).map_err(|error| {
            Failure::failed(format!("cannot write {}", file.display()), "name a file that can be written")
                .because(error)
        })?;
        screen.people(&format!("{}\n", file.display()));
    } else {
        screen.people(&text);
    }
    let file = file.map(|file| file.display().to_string());
    screen.programs(&BalancerConfig { balancer: name, file, config: text });
    Ok(Exit::Done)
}

/// A node of a fleet directory.
///
/// # Errors
/// There is none of that name.
pub(crate) fn node_of<'f>(fleet: &'f Fleet, name: &NodeName) -> Result<&'f ComposedNode, Failure> {
    fleet.nodes.get(name).ok_or_else(|| {
        let names: Vec<&str> = fleet.nodes.keys().map(NodeName::as_str).collect();
        Failure::failed(
            format!("fleet {} has no node {name}", fleet.name),
            format!("its nodes are {}", names.join(", ")),
        )
    })
}

fn render_node(dir: &Path, name: &NodeName, request: &Render, screen: &mut Screen) -> Result<Exit, Failure> {
    let fleet = composed(dir)?;
    let node = node_of(&fleet, name)?;
    if request.pack.is_none() {
        return Ok(show(name, node, screen));
    }
    render_subject(&Subject::composed(name, node, ClearText::Unknown), request, screen)
}

fn show(name: &NodeName, node: &ComposedNode, screen: &mut Screen) -> Exit {
    let text = mask_toml(&node.config_text);
    screen.people(&text);
    screen.programs(&Composed { node: name.as_str(), deployment_toml: text });
    Exit::Done
}

fn render_subject(subject: &Subject<'_>, request: &Render, screen: &mut Screen) -> Result<Exit, Failure> {
    let Some(home) = &request.pack else {
        return Err(Failure::usage("there is no pack to render with", "name one with --pack HOME"));
    };
    let facts = pack::read(home)?;
    let inputs = inputs(subject, request, home)?;
    match carbon::render(&facts.pack, subject.text, &inputs) {
        Err(error) => Ok(refused(subject, &facts, &error, screen)),
        Ok(files) => {
            let out = request.out.as_deref().map(|out| write(out, &files).map(|()| out)).transpose()?;
            let names: Vec<String> = files.files.keys().map(ToString::to_string).collect();
            let text = match out {
                Some(out) => format!("{} in {}\n", count(names.len(), "file"), out.display()),
                None => format!(
                    "the server would start; {} (see them with --out DIR)\n",
                    count(names.len(), "file")
                ),
            };
            screen.people(&text);
            screen.programs(&Outcome { starts: true, files: names, refusal: None, findings: Vec::new() });
            Ok(Exit::Done)
        }
    }
}

/// Says why the server would not start; nothing was written.
fn refused(
    subject: &Subject<'_>,
    facts: &PackFacts,
    error: &carbon::MapperError,
    screen: &mut Screen,
) -> Exit {
    let findings: Vec<view::Finding> =
        refusal::finding(subject, facts, error).into_iter().map(view::Finding::from).collect();
    let style = wait::style(screen);
    let words = refusal::words(error);
    let text = format!("{words}\n\n{}", render::findings(&findings, style));
    screen.people(&text);
    screen.programs(&Outcome { starts: false, files: Vec::new(), refusal: Some(words), findings });
    Exit::Failed
}

fn inputs(subject: &Subject<'_>, request: &Render, home: &Path) -> Result<Inputs, Failure> {
    let mut inputs = subject.own_inputs();
    let carbon_home = request.carbon_home.clone();
    let own = inputs.system_properties.get("carbon.home").cloned();
    let absolute = || fs::canonicalize(home).unwrap_or_else(|_| home.to_owned()).display().to_string();
    inputs.system_properties.insert("carbon.home".to_owned(), carbon_home.or(own).unwrap_or_else(absolute));
    if let Some(path) = &request.env_file {
        inputs.environment.extend(environment(path)?);
    }
    Ok(inputs)
}

/// `NAME=value` on each line; the value is everything behind the first `=`, as it stands.
fn environment(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::failed(format!("cannot read {}", path.display()), "name a file of lines NAME=value")
            .because(error)
    })?;
    let mut values = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(Failure::failed(
                format!("{}:{} is not NAME=value", path.display(), number + 1),
                "write one variable on each line; # begins a comment",
            ));
        };
        values.insert(name.trim().to_owned(), value.to_owned());
    }
    Ok(values)
}

fn write(out: &Path, files: &Files) -> Result<(), Failure> {
    for (name, text) in &files.files {
        let path: PathBuf = out.join(&**name);
        write_one(&path, text.as_bytes()).map_err(|error| {
            Failure::failed(
                format!("cannot write {}", path.display()),
                "name a directory that can be written",
            )
            .because(error)
        })?;
    }
    Ok(())
}

/// Passwords stand in these files, so they are nobody else's to read.
fn write_one(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(content)
}
