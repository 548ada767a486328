//! `convoy import`: existing deployment.toml files or homes in, a fleet directory and a file with its secrets out.
//! Reads everything, then decides ([`fleet::import`]), then writes; nothing is ever overwritten.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use fleet::{
    ids::{FleetName, NodeName},
    import::{ImportNode, Imported, Refused, import},
    spec::{Sources, TOML_SIZE_MAX},
};

use crate::{
    args,
    exit::{Exit, Failure},
    render,
    screen::Screen,
    secrets, view, wait,
};

/// deployment.toml below a home.
const CONFIG: &str = "repository/conf/deployment.toml";
/// Names product and version.
const VERSION: &str = "bin/version.txt";

/// What to import, meant.
#[derive(Debug)]
pub struct Import {
    nodes: BTreeMap<NodeName, Given>,
    out: PathBuf,
    fleet: FleetName,
    secrets_out: Option<PathBuf>,
}

/// One node as typed.
#[derive(Debug)]
struct Given {
    path: PathBuf,
    product: Option<String>,
    host: Option<String>,
    home: Option<String>,
}

impl Import {
    /// Checks what was typed.
    ///
    /// # Errors
    /// A pair without '=', a name twice or a hint for a node that is not imported.
    pub fn meant(typed: args::Import) -> Result<Self, Failure> {
        let mut nodes = BTreeMap::new();
        for text in &typed.nodes {
            let (name, path) = pair("NODE=FILE", text)?;
            let given = Given { path: PathBuf::from(path), product: None, host: None, home: None };
            if let Some(other) = nodes.insert(name.clone(), given) {
                return Err(Failure::usage(
                    format!("node {name} is given twice, for {} and for {path}", other.path.display()),
                    "give each server a name of its own",
                ));
            }
        }
        hints(&mut nodes, ("--product", &typed.product), |given, value| given.product = Some(value))?;
        hints(&mut nodes, ("--host", &typed.host), |given, value| given.host = Some(value))?;
        hints(&mut nodes, ("--home", &typed.home), |given, value| given.home = Some(value))?;
        let fleet = match typed.fleet {
            Some(name) => FleetName::parse(&name).map_err(|error| {
                Failure::usage(format!("--fleet: {error}"), "the name is part of every certificate")
            })?,
            None => named_after(&typed.out)?,
        };
        Ok(Self { nodes, out: typed.out, fleet, secrets_out: typed.secrets_out })
    }
}

fn pair<'a>(form: &str, text: &'a str) -> Result<(NodeName, &'a str), Failure> {
    let wrong = |why: String| Failure::usage(why, format!("write {form}, as in is-1=/opt/wso2/wso2is-7.1.0"));
    let (name, value) = text.split_once('=').ok_or_else(|| wrong(format!("{text:?} is not {form}")))?;
    let name = NodeName::parse(name).map_err(|error| wrong(error.to_string()))?;
    if value.is_empty() {
        return Err(wrong(format!("nothing stands behind {name}=")));
    }
    Ok((name, value))
}

/// Hints for one node, or for all by `*=VALUE`.
fn hints(
    nodes: &mut BTreeMap<NodeName, Given>,
    (option, texts): (&str, &[String]),
    set: impl Fn(&mut Given, String),
) -> Result<(), Failure> {
    for text in texts {
        if let Some(value) = text.strip_prefix("*=") {
            nodes.values_mut().for_each(|given| set(given, value.to_owned()));
            continue;
        }
        let (name, value) = pair("NODE=VALUE", text)?;
        let Some(given) = nodes.get_mut(&name) else {
            return Err(Failure::usage(
                format!("{option} {text}: no node {name} is imported"),
                "name one of the nodes that are given as NODE=FILE",
            ));
        };
        set(given, value.to_owned());
    }
    Ok(())
}

/// The fleet's name from the directory's.
fn named_after(out: &Path) -> Result<FleetName, Failure> {
    let name = out.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    FleetName::parse(&name).map_err(|_| {
        Failure::usage(
            format!("{name:?} cannot be the name of a fleet"),
            "say --fleet NAME, as in --fleet acme-prod",
        )
    })
}

/// Imports.
///
/// # Errors
/// What is missing, wrong or in the way; nothing is written then.
pub fn execute(request: &Import, screen: &mut Screen) -> Result<Exit, Failure> {
    check_free(&request.out)?;
    let mut nodes = BTreeMap::new();
    for (name, given) in &request.nodes {
        nodes.insert(name.clone(), read(given)?);
    }
    let imported = match import(&nodes, &request.fleet) {
        Ok(imported) => imported,
        Err(Refused { findings }) => {
            let report = view::Lint {
                fleet: None,
                nodes: nodes.len(),
                findings: findings.into_iter().map(view::Finding::from).collect(),
            };
            screen.programs(&report);
            let text = render::lint(&report, wait::style(screen));
            screen.people(&text);
            return Ok(Exit::Failed);
        }
    };
    let secrets_out = secrets_place(request, &imported)?;
    if let Some(path) = secrets_out {
        secrets::write(path, &imported.secrets)?;
    }
    write(&request.out, &imported.sources)?;
    let shown = shown(request, imported, secrets_out);
    screen.programs(&shown);
    let text = text(&shown, wait::style(screen));
    screen.people(&text);
    Ok(Exit::Done)
}

/// A directory that is there must hold nothing.
fn check_free(out: &Path) -> Result<(), Failure> {
    let shown = out.display();
    match fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::failed(
            format!("{shown} is not empty"),
            "name a new directory with --out; import never overwrites",
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(Failure::failed(format!("cannot use {shown}"), "name a new directory with --out")
                .because(error))
        }
    }
}

fn read(given: &Given) -> Result<ImportNode, Failure> {
    let is_home = given.path.is_dir();
    let file = if is_home { given.path.join(CONFIG) } else { given.path.clone() };
    let toml = read_text(
        &file,
        if is_home { "name a server's home, or a deployment.toml itself" } else { "check the path" },
    )?;
    let home = match (&given.home, is_home) {
        (Some(home), _) => Some(home.clone()),
        (None, true) => {
            let path = fs::canonicalize(&given.path).unwrap_or_else(|_| given.path.clone());
            Some(path.display().to_string())
        }
        (None, false) => None,
    };
    // A home without it is still a home; the version is then guessed, and told as a guess.
    let version = is_home.then(|| read_text(&given.path.join(VERSION), "").ok()).flatten();
    Ok(ImportNode {
        file: file.display().to_string(),
        toml,
        product: given.product.clone(),
        version,
        host: given.host.clone(),
        home,
    })
}

fn read_text(path: &Path, remedy: &str) -> Result<String, Failure> {
    let shown = path.display();
    let unreadable = |error| Failure::failed(format!("cannot read {shown}"), remedy).because(error);
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(TOML_SIZE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if TOML_SIZE_MAX < bytes.len() {
        return Err(Failure::failed(
            format!("{shown} is larger than {} KiB", TOML_SIZE_MAX >> 10),
            "check the path",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        Failure::failed(format!("{shown} is not UTF-8 text"), "save it as UTF-8").because(error)
    })
}

/// Where the secrets go, if there are any.
fn secrets_place<'a>(request: &'a Import, imported: &Imported) -> Result<Option<&'a Path>, Failure> {
    if imported.secrets.is_empty() {
        return Ok(None);
    }
    let count = imported.secrets.len();
    let Some(path) = &request.secrets_out else {
        return Err(Failure::usage(
            format!("the files hold {count} passwords, and nobody said where they go; nothing was written"),
            "add --secrets-out FILE, outside of the fleet directory",
        ));
    };
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if absolute(path).starts_with(absolute(&request.out)) {
        return Err(Failure::usage(
            format!("{} is in the fleet directory, which others will read", path.display()),
            "name a file outside of it with --secrets-out",
        ));
    }
    Ok(Some(path))
}

fn write(out: &Path, sources: &Sources) -> Result<(), Failure> {
    let failed = |path: &Path, error| {
        Failure::failed(format!("cannot write {}", path.display()), "remove what was written and try again")
            .because(error)
    };
    for (below, content) in &sources.0 {
        let path = out.join(below);
        let parent = path.parent().unwrap_or(out);
        fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        fs::write(&path, content).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

fn shown(request: &Import, imported: Imported, secrets_out: Option<&Path>) -> view::Import {
    let names = |nodes: &[NodeName]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let summary = imported.summary;
    view::Import {
        directory: request.out.display().to_string(),
        groups: summary
            .groups
            .iter()
            .map(|group| view::ImportedGroup {
                name: group.name.to_string(),
                product: group.product.clone(),
                nodes: names(&group.nodes),
            })
            .collect(),
        layers: summary
            .layers
            .iter()
            .map(|(file, keys)| view::ImportedLayer { file: file.clone(), keys: *keys })
            .collect(),
        expressions: summary.expressions,
        secrets: imported.secrets.len(),
        secrets_file: secrets_out.map(|path| path.display().to_string()),
        differences: summary
            .differences
            .iter()
            .map(|difference| view::ImportedDifference {
                group: difference.group.to_string(),
                key: difference.key.clone(),
                nodes: names(&difference.nodes),
                expected: difference.expected,
            })
            .collect(),
        findings: imported.findings.into_iter().map(view::Finding::from).collect(),
    }
}

fn text(import: &view::Import, style: crate::text::Style) -> String {
    let mut out = render::findings(&import.findings, style);
    let nodes: usize = import.groups.iter().map(|group| group.nodes.len()).sum();
    let mut line = |text: String| writeln!(out, "{text}").expect("a String takes any text");
    line(format!("{}: {nodes} nodes in {} groups", import.directory, import.groups.len()));
    for group in &import.groups {
        line(format!("  {} ({}): {}", group.name, group.product, group.nodes.join(", ")));
    }
    line("layers:".to_owned());
    for layer in &import.layers {
        line(format!("  {:<36} {:>4} keys", layer.file, layer.keys));
    }
    line(format!("{} values follow from the fleet by expressions", import.expressions));
    for difference in &import.differences {
        let why = if difference.expected { "as it has to" } else { "usually the same: check it" };
        line(format!(
            "  {} differs in {}: {} ({why})",
            difference.key,
            difference.group,
            difference.nodes.join(", ")
        ));
    }
    line(format!("proved: all {nodes} files come back key by key"));
    if let Some(file) = &import.secrets_file {
        line(format!(
            "{} passwords are in {file}; give them to the coordinator: convoy secret set --from {file}",
            import.secrets
        ));
        line(format!("next: convoy lint {} --secrets-file {file}", import.directory));
    } else {
        line(format!("next: convoy lint {}", import.directory));
    }
    out
}

#[cfg(test)]
mod tests;
