//! `convoy import`: existing deployment.toml files, homes or connected hosts in, a fleet directory and a file with its
//! secrets out. Reads everything, then decides ([`fleet::import`]), then writes; nothing is ever overwritten.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use fleet::{
    ids::{FleetName, NodeName},
    import::{ImportNode, Imported, Refused, import},
    spec::{Sources, TOML_SIZE_MAX},
};
use tempfile::TempDir;

use crate::{
    Session, args,
    client::{Client, HostConfig},
    exit::{Exit, Failure},
    render,
    screen::Screen,
    secrets,
    text::{Style, count},
    view, wait,
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
    /// `None`: the coordinator's.
    fleet: Option<FleetName>,
    secrets_out: Option<PathBuf>,
}

/// Where a node's deployment.toml comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A file or a home on this machine.
    Path(PathBuf),
    /// The node's host, through the coordinator.
    Host,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Path(path) => write!(f, "{}", path.display()),
            Source::Host => f.write_str("its host"),
        }
    }
}

/// One node as typed.
#[derive(Debug)]
struct Given {
    from: Source,
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
            let (name, from) = source(text)?;
            let shown = from.to_string();
            let given = Given { from, product: None, host: None, home: None };
            if let Some(other) = nodes.insert(name.clone(), given) {
                return Err(Failure::usage(
                    format!("node {name} is given twice, for {} and for {shown}", other.from),
                    "give each server a name of its own",
                ));
            }
        }
        hints(&mut nodes, ("--product", &typed.product), |given, value| given.product = Some(value))?;
        hints(&mut nodes, ("--host", &typed.host), |given, value| given.host = Some(value))?;
        hints(&mut nodes, ("--home", &typed.home), |given, value| given.home = Some(value))?;
        let asks_hosts = nodes.values().any(|given| given.from == Source::Host);
        let fleet = match typed.fleet {
            Some(name) => Some(FleetName::parse(&name).map_err(|error| {
                Failure::usage(format!("--fleet: {error}"), "the name is part of every certificate")
            })?),
            None if asks_hosts => None,
            None => Some(named_after(&typed.out)?),
        };
        Ok(Self { nodes, out: typed.out, fleet, secrets_out: typed.secrets_out })
    }

    /// Whether a coordinator has to be asked.
    pub fn asks_hosts(&self) -> bool {
        self.nodes.values().any(|given| given.from == Source::Host)
    }
}

/// `NODE=FILE`, or only the name of a node whose host is asked.
fn source(text: &str) -> Result<(NodeName, Source), Failure> {
    if text.contains('=') {
        return pair("NODE=FILE", text).map(|(name, path)| (name, Source::Path(PathBuf::from(path))));
    }
    let name = NodeName::parse(text).map_err(|error| {
        Failure::usage(
            error.to_string(),
            "write NODE=FILE, as in is-1=/opt/wso2/wso2is-7.1.0, or the name of a node whose agent is connected",
        )
    })?;
    Ok((name, Source::Host))
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
                "name one of the nodes that are imported",
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

/// Imports files and homes of this machine.
///
/// # Errors
/// What is missing, wrong or in the way; nothing is written then.
pub fn execute(request: &Import, screen: &mut Screen) -> Result<Exit, Failure> {
    check_free(&request.out)?;
    let mut nodes = BTreeMap::new();
    for (name, given) in &request.nodes {
        match &given.from {
            Source::Path(path) => nodes.insert(name.clone(), read(path, given)?),
            Source::Host => {
                return Err(Failure::usage(
                    format!("{name} is given without a file, and no coordinator is asked"),
                    "write NODE=FILE",
                ));
            }
        };
    }
    let fleet = request.fleet.clone().map_or_else(|| named_after(&request.out), Ok)?;
    finish(request, &fleet, &nodes, screen)
}

/// Imports, and asks the hosts of the nodes that are given by name alone.
///
/// # Errors
/// The same, or a host that cannot be looked at now.
pub async fn execute_asking(request: &Import, session: &mut Session) -> Result<Exit, Failure> {
    check_free(&request.out)?;
    let mut nodes = BTreeMap::new();
    for (name, given) in &request.nodes {
        let node = match &given.from {
            Source::Path(path) => read(path, given)?,
            Source::Host => ask(&mut session.client, name, given).await?,
        };
        nodes.insert(name.clone(), node);
    }
    let fleet = match &request.fleet {
        Some(fleet) => fleet.clone(),
        None => {
            let name = session.client.status().await?.fleet;
            FleetName::parse(&name).map_err(|error| {
                Failure::failed("cannot use the name of the coordinator's fleet", "say --fleet NAME")
                    .because(error)
            })?
        }
    };
    finish(request, &fleet, &nodes, &mut session.screen)
}

async fn ask(client: &mut Client, name: &NodeName, given: &Given) -> Result<ImportNode, Failure> {
    let HostConfig { found, config } = client.host_config(name.as_str()).await?;
    let unseen = |why: String| {
        Failure::failed(
            format!("{name} cannot be imported from its host: {why}"),
            format!(
                "`convoy node show {name}` says what is known of it; NODE=FILE imports a copy of the file"
            ),
        )
    };
    if let Some(why) = found.not_now {
        return Err(unseen(why));
    }
    let host = found.host.ok_or_else(|| unseen("it was not looked at".to_owned()))?;
    let config = config.ok_or_else(|| unseen(format!("no {CONFIG} below {} can be read", host.home)))?;
    if TOML_SIZE_MAX < config.len() {
        return Err(unseen(format!("{CONFIG} is larger than {} KiB", TOML_SIZE_MAX >> 10)));
    }
    let toml = String::from_utf8(config).map_err(|_| unseen(format!("{CONFIG} is not UTF-8 text")))?;
    let version = host.product.map(|product| format!("{} v{}", product.name, product.version));
    Ok(ImportNode {
        file: format!("{name}:{CONFIG}"),
        toml,
        product: given.product.clone(),
        version,
        host: given.host.clone(),
        home: given.home.clone().or(Some(host.home)),
    })
}

fn finish(
    request: &Import,
    fleet: &FleetName,
    nodes: &BTreeMap<NodeName, ImportNode>,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let imported = match import(nodes, fleet) {
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
    let written = write_aside(&request.out, &imported.sources)?;
    if let Some(path) = secrets_out {
        secrets::write(path, &imported.secrets)?;
    }
    if let Err(failure) = put_in_place(&written, &request.out) {
        // All or nothing: the same command can be typed again.
        if let Some(path) = secrets_out {
            fs::remove_file(path).ok();
        }
        return Err(failure);
    }
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

fn read(path: &Path, given: &Given) -> Result<ImportNode, Failure> {
    let is_home = path.is_dir();
    let file = if is_home { path.join(CONFIG) } else { path.to_owned() };
    let toml = read_text(
        &file,
        if is_home { "name a server's home, or a deployment.toml itself" } else { "check the path" },
    )?;
    let home = match (&given.home, is_home) {
        (Some(home), _) => Some(home.clone()),
        (None, true) => {
            let home = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            Some(home.display().to_string())
        }
        (None, false) => None,
    };
    // A home without it is still a home; the version is then guessed, and told as a guess.
    let version = is_home.then(|| read_text(&path.join(VERSION), "").ok()).flatten();
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

/// Where the secrets go. A file that was asked for is written in any case, so that a script can rely on it.
fn secrets_place<'a>(request: &'a Import, imported: &Imported) -> Result<Option<&'a Path>, Failure> {
    let count = imported.secrets.len();
    let Some(path) = &request.secrets_out else {
        if count == 0 {
            return Ok(None);
        }
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

/// A directory beside the new one, which is removed unless it is put in place; the fleet directory lies in it.
struct Aside(TempDir);

impl Aside {
    fn fleet(&self) -> PathBuf {
        self.0.path().join("fleet")
    }
}

/// Writes everything where nobody looks, so that a full disk leaves nothing half done.
fn write_aside(out: &Path, sources: &Sources) -> Result<Aside, Failure> {
    let failed = |path: &Path, error| {
        Failure::failed(format!("cannot write {}", path.display()), "nothing was written; try another --out")
            .because(error)
    };
    let beside = out.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(beside).map_err(|error| failed(beside, error))?;
    let aside = tempfile::Builder::new().prefix(".convoy-import-").tempdir_in(beside);
    let aside = Aside(aside.map_err(|error| failed(beside, error))?);
    let fleet = aside.fleet();
    for (below, content) in &sources.0 {
        let path = fleet.join(below);
        let parent = path.parent().unwrap_or(&fleet);
        fs::create_dir_all(parent).map_err(|error| failed(&out.join(below), error))?;
        fs::write(&path, content).map_err(|error| failed(&out.join(below), error))?;
    }
    Ok(aside)
}

/// Gives the new directory its name; one that is there is empty.
fn put_in_place(written: &Aside, out: &Path) -> Result<(), Failure> {
    let removed = fs::remove_dir(out);
    let absent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let placed = match removed {
        Err(error) if !absent(&error) => Err(error),
        Ok(()) | Err(_) => fs::rename(written.fleet(), out),
    };
    placed.map_err(|error| {
        let what = format!("cannot write {}", out.display());
        Failure::failed(what, "nothing was written; try another --out").because(error)
    })
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

fn text(import: &view::Import, style: Style) -> String {
    let mut out = render::findings(&import.findings, style);
    let nodes: usize = import.groups.iter().map(|group| group.nodes.len()).sum();
    let mut line = |text: String| writeln!(out, "{text}").expect("a String takes any text");
    let (of_nodes, of_groups) = (count(nodes, "node"), count(import.groups.len(), "group"));
    line(format!("{}: {of_nodes} in {of_groups}", import.directory));
    for group in &import.groups {
        line(format!("  {} ({}): {}", group.name, group.product, group.nodes.join(", ")));
    }
    line("layers:".to_owned());
    for layer in &import.layers {
        line(format!("  {:<36} {:>9}", layer.file, count(layer.keys, "key")));
    }
    let follow = if import.expressions == 1 { "follows" } else { "follow" };
    line(format!("{} {follow} from the fleet by expressions", count(import.expressions, "value")));
    for difference in &import.differences {
        let why = if difference.expected { "as it has to" } else { "usually the same: check it" };
        line(format!(
            "  {} differs in {}: {} ({why})",
            difference.key,
            difference.group,
            difference.nodes.join(", ")
        ));
    }
    line(format!(
        "proved: {} key by key",
        if nodes == 1 { "the file comes back".to_owned() } else { format!("all {nodes} files come back") }
    ));
    match &import.secrets_file {
        Some(file) if import.secrets == 0 => {
            line(format!("no password is kept apart, so {file} is empty"));
            line(format!("next: convoy lint {}", import.directory));
        }
        Some(file) => {
            let (are, them) = if import.secrets == 1 { ("is", "it") } else { ("are", "them") };
            line(format!(
                "{} {are} in {file}; give {them} to the coordinator: convoy secret set --from {file}",
                count(import.secrets, "password")
            ));
            line(format!("next: convoy lint {} --secrets-file {file}", import.directory));
        }
        None => line(format!("next: convoy lint {}", import.directory)),
    }
    out
}

#[cfg(test)]
mod tests;
