//! Which product, version and role a server is. From most to least certain: what somebody said, `bin/version.txt`,
//! what its file and the servers beside it suggest. A version that was chosen among several is told as such.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Server, finding,
    group::Group,
    versions::{Neighbour, Ranked, rank},
};
use crate::{
    finding::{Finding, Severity, names},
    ids::{GroupName, NodeName},
    product,
    spec::report::suggest,
};

/// Major and minor.
pub(super) type Version = (u32, u32);

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Identity,
    ApiManager,
}

impl Line {
    /// What the ids of its products begin with; by itself it names the line.
    const fn id(self) -> &'static str {
        match self {
            Line::Identity => "wso2is",
            Line::ApiManager => "wso2am",
        }
    }

    fn of_id(id: &str) -> Self {
        if id.starts_with(Line::Identity.id()) { Line::Identity } else { Line::ApiManager }
    }

    /// The lines count apart: API Manager has not come to 5, and no Identity Server of before 5 had a deployment.toml.
    const fn of_version(version: Version) -> Self {
        if version.0 < 5 { Line::ApiManager } else { Line::Identity }
    }
}

/// What a server does in a deployment (patterns of WSO2's deployment guides).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Identity Server, also as key manager.
    Identity,
    KeyManager,
    AllInOne,
    ControlPlane,
    Publisher,
    DevPortal,
    TrafficManager,
    Gateway,
}

/// What is known of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Catalogue id.
    pub(super) product: String,
    pub(super) role: Role,
    /// Other versions that it may have, likeliest first; empty if somebody said which it is.
    pub(super) also: Vec<String>,
    /// Why this version, if it is a guess.
    reasons: Vec<String>,
    /// Its real version, if the catalogue has none like it and `product` stands in.
    stands_in_for: Option<Version>,
}

/// What somebody said of a server, or its `bin/version.txt`.
enum Said {
    Product(String),
    Version(Version),
    /// The line, where the catalogue lacks the version.
    Beyond(Line, Version),
    Line(Line),
    Nothing,
}

impl Said {
    fn line(&self) -> Option<Line> {
        match self {
            Said::Product(id) => Some(Line::of_id(id)),
            Said::Version(version) => Some(Line::of_version(*version)),
            Said::Beyond(line, _) | Said::Line(line) => Some(*line),
            Said::Nothing => None,
        }
    }

    fn version(&self) -> Option<Version> {
        match self {
            Said::Product(id) => version(id),
            Said::Version(version) => Some(*version),
            Said::Beyond(..) | Said::Line(_) | Said::Nothing => None,
        }
    }
}

/// A server whose version may not be known yet.
struct Draft<'a> {
    server: &'a Server,
    said: Said,
    line: Line,
    role: Role,
}

/// A hint that makes no sense.
struct Unknown {
    message: String,
    remedy: String,
}

/// Identifies every server; hints that make no sense become errors.
pub(super) fn detect(servers: &[Server], findings: &mut Vec<Finding>) -> BTreeMap<NodeName, Identity> {
    let mut drafts = Vec::new();
    let mut tell = |server: &Server, Unknown { message, remedy }: Unknown| {
        let mut error = finding("CV702", Severity::Error, message, remedy);
        error.node = Some(server.name.clone());
        findings.push(error);
    };
    for server in servers {
        match said(server) {
            Ok(said) => drafts.push(draft(server, said)),
            Err(unknown) => tell(server, unknown),
        }
    }
    let guessed = guesses(&drafts);
    let mut identities = BTreeMap::new();
    for draft in drafts {
        match draft.identify(&guessed) {
            Ok(identity) => {
                identities.insert(draft.server.name.clone(), identity);
            }
            Err(unknown) => tell(draft.server, unknown),
        }
    }
    identities
}

fn said(server: &Server) -> Result<Said, Unknown> {
    let of_pack = server.source.version.as_deref().and_then(version);
    let Some(hint) = &server.source.product else {
        return match of_pack {
            Some(version) if has_version(version) => Ok(Said::Version(version)),
            Some(version) => Err(beyond(&server.name, version)),
            None => Ok(Said::Nothing),
        };
    };
    if product::built_in().contains_key(hint) {
        return Ok(Said::Product(hint.clone()));
    }
    if let Some(line) = [Line::Identity, Line::ApiManager].into_iter().find(|line| line.id() == hint) {
        return Ok(match of_pack {
            Some(version) if has_version(version) => Said::Version(version),
            Some(version) => Said::Beyond(line, version),
            None => Said::Line(line),
        });
    }
    match version(hint).filter(|_| hint.starts_with(|c: char| c.is_ascii_digit())) {
        Some(version) if has_version(version) => Ok(Said::Version(version)),
        Some(version) => Err(beyond(&server.name, version)),
        None => Err(unknown(&server.name, hint)),
    }
}

fn draft(server: &Server, said: Said) -> Draft<'_> {
    let line = said.line().unwrap_or_else(|| line(server));
    let role = match (line, &said) {
        (Line::Identity, _) => Role::Identity,
        (Line::ApiManager, Said::Product(id)) => role_of_id(id).unwrap_or_else(|| role(server)),
        (Line::ApiManager, _) => {
            let role = role(server);
            let title = server.source.version.as_deref().unwrap_or_default();
            role_of_pack(title, role).unwrap_or(role)
        }
    };
    Draft { server, said, line, role }
}

/// Versions that are guessed, by line. Servers of a line are judged together: a fleet runs one version of each.
struct Guesses {
    api_manager: Option<Ranked>,
    identity: Option<Ranked>,
    key_manager_pack: Option<Ranked>,
}

fn guesses(drafts: &[Draft<'_>]) -> Guesses {
    let mut neighbours: Vec<Neighbour> = Vec::new();
    for draft in drafts {
        neighbours.extend(draft.said.version().map(|version| Neighbour { line: draft.line, version }));
    }
    let open = |wanted: fn(&Draft<'_>) -> bool| -> Vec<&Server> {
        let open = drafts.iter().filter(|draft| matches!(draft.said, Said::Nothing | Said::Line(_)));
        open.filter(|draft| wanted(draft)).map(|draft| draft.server).collect()
    };
    let weigh = |line: Line, servers: Vec<&Server>, neighbours: &[Neighbour], versions: Vec<Version>| {
        (!servers.is_empty()).then(|| rank(line, &servers, neighbours, versions))
    };
    let api_manager = weigh(
        Line::ApiManager,
        open(|draft| draft.line == Line::ApiManager),
        &neighbours,
        versions(Line::ApiManager.id()),
    );
    let best = api_manager.iter().flat_map(|ranked| ranked.versions.first());
    neighbours.extend(best.map(|version| Neighbour { line: Line::ApiManager, version: *version }));
    let identity = open(|draft| draft.line == Line::Identity && !is_key_manager_pack(draft.server));
    let packs = open(|draft| draft.line == Line::Identity && is_key_manager_pack(draft.server));
    Guesses {
        api_manager,
        identity: weigh(Line::Identity, identity, &neighbours, versions(Line::Identity.id())),
        key_manager_pack: weigh(Line::Identity, packs, &neighbours, versions("wso2is-km")),
    }
}

impl Draft<'_> {
    fn identify(&self, guesses: &Guesses) -> Result<Identity, Unknown> {
        let sure = |product: String| Identity {
            product,
            role: self.role,
            also: Vec::new(),
            reasons: Vec::new(),
            stands_in_for: None,
        };
        let id = |version: Version| self.id(version);
        match &self.said {
            Said::Product(id) => return Ok(sure(id.clone())),
            Said::Version(version) => {
                return id(*version).map(sure).ok_or_else(|| beyond(&self.server.name, *version));
            }
            Said::Beyond(line, real) => {
                let known = versions(line.id());
                let nearest = known.iter().rev().find(|version| *version < real).or(known.first());
                let product = nearest.and_then(|version| id(*version));
                let product = product.ok_or_else(|| beyond(&self.server.name, *real))?;
                return Ok(Identity { stands_in_for: Some(*real), ..sure(product) });
            }
            Said::Line(_) | Said::Nothing => {}
        }
        let ranked = match self.line {
            Line::ApiManager => &guesses.api_manager,
            Line::Identity if is_key_manager_pack(self.server) => &guesses.key_manager_pack,
            Line::Identity => &guesses.identity,
        };
        let mut fitting =
            ranked.iter().flat_map(|ranked| &ranked.versions).filter_map(|version| id(*version));
        let Some(product) = fitting.next() else { return Err(unknown(&self.server.name, self.line.id())) };
        let reasons = ranked.iter().flat_map(|ranked| ranked.reasons.clone()).collect();
        Ok(Identity { also: fitting.collect(), reasons, ..sure(product) })
    }

    /// The catalogue id in a version; component packs before profiles of the whole one.
    fn id(&self, (major, minor): Version) -> Option<String> {
        let v = format!("{major}.{minor}");
        let names: Vec<String> = match self.role {
            Role::Identity if is_key_manager_pack(self.server) => vec![format!("wso2is-km-{v}")],
            Role::Identity | Role::AllInOne => Vec::new(),
            Role::ControlPlane => vec![format!("wso2am-acp-{v}"), format!("wso2am-{v}-control-plane")],
            Role::Gateway => vec![format!("wso2am-universal-gw-{v}"), format!("wso2am-{v}-gateway-worker")],
            Role::TrafficManager => vec![format!("wso2am-tm-{v}"), format!("wso2am-{v}-traffic-manager")],
            Role::KeyManager => vec![
                format!("wso2am-acp-{v}-key-manager"),
                format!("wso2am-{v}-key-manager"),
                format!("wso2am-{v}-api-key-manager"),
            ],
            Role::Publisher => vec![format!("wso2am-{v}-api-publisher")],
            Role::DevPortal => vec![format!("wso2am-{v}-api-devportal")],
        };
        let fallback = format!("{}-{v}", self.line.id());
        names.into_iter().chain([fallback]).find(|id| product::built_in().contains_key(id))
    }
}

fn unknown(node: &NodeName, hint: &str) -> Unknown {
    let known = product::built_in().keys().map(String::as_str);
    Unknown {
        message: format!("there is no product {hint:?} for {node}"),
        remedy: format!("say --product {node}=ID with an id of the catalogue; {}", suggest(hint, known)),
    }
}

fn beyond(node: &NodeName, version: Version) -> Unknown {
    let line = Line::of_version(version).id();
    Unknown {
        message: format!(
            "the catalogue has no version {}.{}, which {node} is said to have",
            version.0, version.1
        ),
        remedy: format!(
            "say --product {node}={line} to have the nearest version stand in, or --product {node}=ID with an id of \
             the catalogue"
        ),
    }
}

/// The first `number.number` of a text that does not stand within a word, as the 2 of WSO2 does.
pub(super) fn version(text: &str) -> Option<Version> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    words.map(|word| word.trim_start_matches('v')).find_map(|word| {
        let mut parts = word.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    })
}

/// The role of a component pack, from the title in `bin/version.txt`.
fn role_of_pack(title: &str, role: Role) -> Option<Role> {
    let title = title.to_ascii_lowercase();
    if title.contains("gateway") {
        Some(Role::Gateway)
    } else if title.contains("traffic manager") {
        Some(Role::TrafficManager)
    } else if title.contains("control plane") && role != Role::KeyManager {
        Some(Role::ControlPlane)
    } else {
        None
    }
}

/// The role that an id of the catalogue says.
fn role_of_id(id: &str) -> Option<Role> {
    let parts = [
        ("key-manager", Role::KeyManager),
        ("universal-gw", Role::Gateway),
        ("gateway", Role::Gateway),
        ("-tm-", Role::TrafficManager),
        ("traffic-manager", Role::TrafficManager),
        ("publisher", Role::Publisher),
        ("devportal", Role::DevPortal),
        ("-acp-", Role::ControlPlane),
        ("control-plane", Role::ControlPlane),
    ];
    parts.iter().find(|(part, _)| id.contains(part)).map(|(_, role)| *role)
}

/// What an API Manager does: from `server.server_role`, else from what the file configures.
fn role(server: &Server) -> Role {
    match server.text("server.server_role") {
        Some("control-plane") => return Role::ControlPlane,
        Some("gateway-worker" | "gateway") => return Role::Gateway,
        Some("traffic-manager") => return Role::TrafficManager,
        Some("api-publisher") => return Role::Publisher,
        Some("api-devportal") => return Role::DevPortal,
        Some(role) if role.starts_with("api-key-manager") => return Role::KeyManager,
        _ => {}
    }
    if server.has("database.apim_db") || server.has("apim.gateway.environment") {
        return Role::AllInOne;
    }
    if server.has("apim.sync_runtime_artifacts.gateway") {
        return Role::Gateway;
    }
    if server.has("apim.throttling.event_duplicate_url") {
        return Role::TrafficManager;
    }
    Role::AllInOne
}

/// Only API Manager has these, and the key manager packs of Identity Server 5.9 and 5.10.
const API_MANAGER_ONLY: [&str; 3] = ["server.server_role", "apim", "database.apim_db"];

fn line(server: &Server) -> Line {
    let [file, home, _] = server.texts();
    let is_named = |pack: &str| file.contains(pack) || home.contains(pack);
    if server.text("server.server_role").is_some_and(|role| role != "default") {
        return Line::ApiManager;
    }
    if server.has("database.identity_db") || says_identity(server) {
        return Line::Identity;
    }
    let is_api_manager =
        API_MANAGER_ONLY.iter().any(|key| server.has(key)) || (is_named("wso2am-") && !is_named("wso2is-"));
    if is_api_manager { Line::ApiManager } else { Line::Identity }
}

/// Whether a server whose keys are those of API Manager is the key manager pack of an Identity Server after all.
fn says_identity(server: &Server) -> bool {
    let [file, home, toml] = server.texts();
    let is_called = server.name.as_str().split('-').next() == Some("is");
    let has_domain =
        server.text("apim.cache_invalidation.domain").is_some_and(|domain| domain.contains("keymanager"));
    let is_installed = file.contains("wso2is-") || home.contains("wso2is-");
    is_called || has_domain || is_installed || toml.contains("IS as KM") || toml.contains("is_as_km")
}

fn is_key_manager_pack(server: &Server) -> bool {
    !server.has("database.identity_db") && (server.has("apim") || server.has("database.apim_db"))
}

fn has_version(version: Version) -> bool {
    versions(Line::of_version(version).id()).contains(&version)
}

/// Versions of the catalogue whose ids begin so, oldest first.
fn versions(prefix: &str) -> Vec<Version> {
    let begins = |id: &&String| id.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'));
    let versions: BTreeSet<Version> =
        product::built_in().keys().filter(begins).filter_map(|id| version(id)).collect();
    versions.into_iter().collect()
}

/// How many reasons a message shows.
const REASONS_SHOWN: usize = 3;

/// Says per group which version was chosen among several, and where a version stands in for another.
pub(super) fn tell(
    groups: &BTreeMap<GroupName, Group>,
    identities: &BTreeMap<NodeName, Identity>,
    findings: &mut Vec<Finding>,
) {
    for (name, group) in groups {
        let Some(first) = group.nodes.first() else { continue };
        let nodes = names(group.nodes.iter().map(NodeName::as_str));
        let of_group = || group.nodes.iter().filter_map(|node| identities.get(node));
        if let Some((major, minor)) = of_group().find_map(|identity| identity.stands_in_for) {
            findings.push(finding(
                "CV702",
                Severity::Warning,
                format!(
                    "the catalogue does not know version {major}.{minor} of group {name} ({nodes}): {} stands in, so \
                     its start script, ports and probes are taken for granted, and checks that depend on the version \
                     are made as for it",
                    group.product
                ),
                "run convoy-agent doctor on the host and convoy lint --pack HOME, which go by the pack itself; say \
                 what differs in products/*.toml",
            ));
        }
        let Some(guess) = of_group().find(|identity| !identity.also.is_empty()) else { continue };
        let reasons: Vec<&str> = guess.reasons.iter().take(REASONS_SHOWN).map(String::as_str).collect();
        let reasons = match reasons.as_slice() {
            [] => "nothing in the files tells, and newer ones are likelier".to_owned(),
            reasons => reasons.join("; "),
        };
        findings.push(finding(
            "CV702",
            Severity::Warning,
            format!(
                "the version of group {name} ({nodes}) is a guess: {} fits best ({reasons}); then {}",
                group.product,
                names(guess.also.iter().map(String::as_str))
            ),
            format!(
                "say which it is with --product {first}=VERSION for each node or --product '*=VERSION' for all, name \
                 homes instead of files, or correct `product` in fleet.toml"
            ),
        ));
    }
}
