//! Which version a server has, judged by its deployment.toml and by the servers beside it.
//!
//! A file rarely says its version, so what it holds is weighed: keys that came with a version, values that only some
//! versions ship, keys of the shipped file that were left out, directories of packs in its paths. No version is ever
//! ruled out: people copy keys from one version to another, and servers ignore what they do not know.

use std::cmp::Reverse;

use super::{
    Server,
    detect::{Line, Version, version},
};

/// Later than every version.
const ANY_LATER: Version = (u32::MAX, 0);
/// A directory or URL that holds the version of the product itself.
const NAMED: u32 = 50;
/// A key that came later: the version would ignore it.
const NOT_YET: u32 = 20;
/// A neighbour of another version, or an Identity Server that does not go with the API Manager.
const NEIGHBOUR: u32 = 6;
/// What only the shipped files of other versions hold.
const SHIPPED: u32 = 2;
/// Something that the shipped file of the version has and this one has not.
const LEFT_OUT: u32 = 1;

/// What a server may be, best first, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ranked {
    pub(super) versions: Vec<Version>,
    /// What speaks for the first of them, strongest first.
    pub(super) reasons: Vec<String>,
}

/// What is known of another server of the fleet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neighbour {
    pub(super) line: Line,
    pub(super) version: Version,
}

/// A key that came with a version.
struct Clue {
    line: Line,
    /// Elements of lists are `[]`.
    key: &'static str,
    since: Version,
    /// The versions whose shipped deployment.toml has it.
    shipped: Option<Shipped>,
}

struct Shipped {
    from: Version,
    to: Version,
    /// Only a file that has this can be said to have left the key out.
    beside: &'static str,
}

const fn clue(line: Line, key: &'static str, since: Version) -> Clue {
    Clue { line, key, since, shipped: None }
}

impl Clue {
    const fn shipped(self, from: Version, to: Version, beside: &'static str) -> Self {
        Self { shipped: Some(Shipped { from, to, beside }), ..self }
    }
}

const ENVIRONMENT: &str = "apim.gateway.environment[]";
use Line::{ApiManager, Identity};

/// From the deployment.toml of each release.
const CLUES: [Clue; 26] = [
    clue(ApiManager, "event_listener", (3, 0)).shipped((3, 2), ANY_LATER, "apim.cors"),
    clue(ApiManager, "server.mode", (3, 0)).shipped((3, 0), (3, 2), "apim.cors"),
    clue(ApiManager, "apim.event_hub", (4, 0)),
    clue(ApiManager, "apim.gateway.environment[].websub_event_receiver_http_endpoint", (4, 0)).shipped(
        (4, 0),
        ANY_LATER,
        ENVIRONMENT,
    ),
    clue(ApiManager, "apim.gateway.environment[].websub_event_receiver_https_endpoint", (4, 0)),
    clue(ApiManager, "apim.sync_runtime_artifacts.gateway.gateway_labels", (4, 0)).shipped(
        (4, 0),
        ANY_LATER,
        "apim.cors",
    ),
    clue(ApiManager, "apim.analytics.config_endpoint", (4, 0)).shipped((4, 0), (4, 0), "apim.analytics"),
    clue(ApiManager, "apim.analytics.auth_token", (4, 0)).shipped((4, 0), ANY_LATER, "apim.analytics"),
    clue(ApiManager, "apim.gateway.environment[].provider", (4, 1)).shipped((4, 1), ANY_LATER, ENVIRONMENT),
    clue(ApiManager, "oauth.grant_type.token_exchange", (4, 1)).shipped((4, 1), ANY_LATER, "apim.cors"),
    clue(ApiManager, "apim.key_manager.enable_apikey_subscription_validation", (4, 2)).shipped(
        (4, 2),
        (4, 3),
        "apim.cors",
    ),
    clue(ApiManager, "apim.ai", (4, 3)).shipped((4, 3), ANY_LATER, "apim.cors"),
    clue(ApiManager, "apim.ai.endpoint", (4, 3)).shipped((4, 3), (4, 3), "apim.ai"),
    clue(ApiManager, "apim.ai.token", (4, 3)).shipped((4, 3), (4, 4), "apim.ai"),
    clue(ApiManager, "apim.gateway.environment[].gateway_type", (4, 3)).shipped(
        (4, 3),
        ANY_LATER,
        ENVIRONMENT,
    ),
    clue(ApiManager, "apim.key_manager.enable_lightweight_apikey_generation", (4, 4)).shipped(
        (4, 4),
        ANY_LATER,
        "apim.cors",
    ),
    clue(ApiManager, "apim.gateway_type", (4, 5)).shipped((4, 5), ANY_LATER, "apim.cors"),
    clue(ApiManager, "apim.ai.key", (4, 5)).shipped((4, 5), ANY_LATER, "apim.ai"),
    clue(ApiManager, "apim.gateway_notification", (4, 6)),
    clue(ApiManager, "apim.analytics.type", (4, 6)),
    // The start script of 4.7 puts one there.
    clue(ApiManager, "encryption.key", (3, 0)).shipped((4, 7), ANY_LATER, ""),
    clue(Identity, "truststore.file_name", (5, 9)).shipped((5, 11), ANY_LATER, "keystore.primary"),
    clue(Identity, "account_recovery.endpoint.auth.hash", (5, 9)).shipped((5, 11), ANY_LATER, "truststore"),
    clue(Identity, "keystore.primary.name", (5, 9)).shipped((5, 9), (5, 9), "keystore.primary"),
    clue(Identity, "keystore.primary.type", (5, 9)).shipped((7, 0), ANY_LATER, "keystore.primary"),
    clue(Identity, "datasource.AgentIdentity", (7, 2)).shipped((7, 2), ANY_LATER, "truststore"),
];

/// A value, and the versions that it belongs to.
struct Value {
    line: Line,
    key: &'static str,
    is: fn(&str) -> bool,
    from: Version,
    to: Version,
    weight: u32,
}

const fn value(
    (line, key): (Line, &'static str),
    is: fn(&str) -> bool,
    (from, to): (Version, Version),
    weight: u32,
) -> Value {
    Value { line, key, is, from, to, weight }
}

const OLDEST: Version = (0, 0);
const H2: &str = "jdbc:h2:";

const VALUES: [Value; 19] = [
    value((ApiManager, "server.server_role"), |role| role == "control-plane", ((4, 0), ANY_LATER), NOT_YET),
    value((ApiManager, "server.server_role"), is_portal, (OLDEST, (3, 2)), NOT_YET),
    value((ApiManager, "user_store.type"), |kind| kind == "database", (OLDEST, (3, 0)), LEFT_OUT),
    value((ApiManager, "user_store.type"), |kind| kind.ends_with("_unique_id"), ((3, 1), ANY_LATER), SHIPPED),
    value(
        (ApiManager, "apim.gateway.environment[0].name"),
        |name| name == "Production and Sandbox",
        (OLDEST, (3, 2)),
        SHIPPED,
    ),
    value(
        (ApiManager, "apim.gateway.environment[0].name"),
        |name| name == "Default",
        ((4, 0), ANY_LATER),
        SHIPPED,
    ),
    value(
        (ApiManager, "database.apim_db.url"),
        |url| url.starts_with(H2) && url.contains("AUTO_SERVER"),
        (OLDEST, (4, 2)),
        SHIPPED,
    ),
    value(
        (ApiManager, "database.apim_db.url"),
        |url| url.starts_with(H2) && !url.contains("AUTO_SERVER"),
        ((4, 3), ANY_LATER),
        SHIPPED,
    ),
    value(
        (ApiManager, "apim.cors.allow_headers"),
        |names| names.contains("apikey"),
        ((3, 1), ANY_LATER),
        SHIPPED,
    ),
    value(
        (ApiManager, "apim.cors.allow_headers"),
        |names| !names.contains("apikey"),
        (OLDEST, (3, 0)),
        LEFT_OUT,
    ),
    value(
        (ApiManager, "apim.cors.allow_headers"),
        |names| names.contains("Internal-Key"),
        ((4, 0), ANY_LATER),
        SHIPPED,
    ),
    value(
        (ApiManager, "apim.cors.allow_headers"),
        |names| !names.contains("Internal-Key"),
        (OLDEST, (3, 2)),
        SHIPPED,
    ),
    value((ApiManager, "encryption.key"), |key| !key.is_empty(), ((4, 7), ANY_LATER), NEIGHBOUR),
    value(
        (Identity, "keystore.primary.file_name"),
        |file| file == "wso2carbon.p12",
        ((7, 1), ANY_LATER),
        SHIPPED,
    ),
    value(
        (Identity, "keystore.primary.file_name"),
        |file| file == "wso2carbon.jks",
        (OLDEST, (7, 0)),
        SHIPPED,
    ),
    value((Identity, "user_store.type"), |kind| kind == "read_write_ldap", (OLDEST, (5, 10)), SHIPPED),
    value(
        (Identity, "user_store.type"),
        |kind| kind == "read_write_ldap_unique_id",
        ((5, 11), (5, 11)),
        LEFT_OUT,
    ),
    value((Identity, "user_store.type"), |kind| kind == "database_unique_id", ((6, 0), ANY_LATER), LEFT_OUT),
    value((Identity, "bps_database.config.url"), |_| true, (OLDEST, (6, 1)), SHIPPED),
];

/// Publisher and developer portal ran apart until 3.2.
fn is_portal(role: &str) -> bool {
    role == "api-publisher" || role == "api-devportal"
}

/// Something that makes some versions less likely.
struct Mark {
    reason: String,
    less_likely: LessLikely,
    weight: u32,
}

enum LessLikely {
    Within(Version, Version),
    Outside(Version, Version),
}

impl Mark {
    fn cost(&self, version: Version) -> u32 {
        let is_less_likely = match self.less_likely {
            LessLikely::Within(from, to) => from <= version && version <= to,
            LessLikely::Outside(from, to) => version < from || to < version,
        };
        if is_less_likely { self.weight } else { 0 }
    }
}

/// Weighs `versions` for a server of `line`. `cluster` are the servers of its line, itself among them, whose version
/// nobody said; `neighbours` are those whose version is known.
pub(super) fn rank(
    line: Line,
    cluster: &[&Server],
    neighbours: &[Neighbour],
    mut versions: Vec<Version>,
) -> Ranked {
    let mut marks: Vec<Mark> = Vec::new();
    for server in cluster {
        clues(server, line, &mut marks);
        values(server, line, &mut marks);
        named(server, line, &mut marks);
    }
    neighbours.iter().for_each(|neighbour| beside(line, *neighbour, &mut marks));
    let cost = |version: Version| marks.iter().map(|mark| mark.cost(version)).sum::<u32>();
    versions.sort_by_key(|version| (cost(*version), Reverse(*version)));
    let reasons = reasons(&marks, &versions);
    Ranked { versions, reasons }
}

/// What speaks for the first version and against others; first what speaks against the second.
fn reasons(marks: &[Mark], versions: &[Version]) -> Vec<String> {
    let Some((first, others)) = versions.split_first() else { return Vec::new() };
    let against = |mark: &&Mark, version: &Version| mark.cost(*first) == 0 && mark.cost(*version) != 0;
    let mut deciding: Vec<&Mark> =
        marks.iter().filter(|mark| others.iter().any(|version| against(mark, version))).collect();
    let second = others.first();
    deciding.sort_by_key(|mark| (!second.is_some_and(|second| against(mark, second)), Reverse(mark.weight)));
    let mut reasons: Vec<String> = Vec::new();
    for mark in deciding {
        if !reasons.contains(&mark.reason) {
            reasons.push(mark.reason.clone());
        }
    }
    reasons
}

fn clues(server: &Server, line: Line, marks: &mut Vec<Mark>) {
    for clue in CLUES.iter().filter(|clue| clue.line == line) {
        let Clue { key, since, .. } = clue;
        let (major, minor) = since;
        if has(server, key) {
            marks.push(Mark {
                reason: format!("{key} came with {major}.{minor}"),
                less_likely: LessLikely::Outside(*since, ANY_LATER),
                weight: NOT_YET,
            });
            if let Some(Shipped { from, to, .. }) = &clue.shipped {
                let reason = format!("{key} is there, as {} ships it", span(*from, *to));
                marks.push(Mark { reason, less_likely: LessLikely::Outside(*from, *to), weight: SHIPPED });
            }
        } else if let Some(Shipped { from, to, beside }) = &clue.shipped
            && (beside.is_empty() || has(server, beside))
        {
            let reason = format!("{key} is not there, which {} ships", span(*from, *to));
            marks.push(Mark { reason, less_likely: LessLikely::Within(*from, *to), weight: LEFT_OUT });
        }
    }
}

fn span(from: Version, to: Version) -> String {
    let text = |version: Version| format!("{}.{}", version.0, version.1);
    match (from, to) {
        (from, ANY_LATER) => format!("{} and later", text(from)),
        (from, to) if from == to => text(from),
        (OLDEST, to) => format!("{} and earlier", text(to)),
        (from, to) => format!("{} to {}", text(from), text(to)),
    }
}

fn has(server: &Server, key: &str) -> bool {
    match key.split_once("[]") {
        None => server.has(key),
        Some((list, rest)) => {
            (0..server.elements(list)).any(|n| rest.is_empty() || server.has(&format!("{list}[{n}]{rest}")))
        }
    }
}

fn values(server: &Server, line: Line, marks: &mut Vec<Mark>) {
    for value in VALUES.iter().filter(|value| value.line == line) {
        let Some(text) = server.shown(value.key) else { continue };
        if (value.is)(text) {
            let reason = format!("the value of {} is that of {}", value.key, span(value.from, value.to));
            marks.push(Mark {
                reason,
                less_likely: LessLikely::Outside(value.from, value.to),
                weight: value.weight,
            });
        }
    }
    let is_resident = |n: usize| {
        let context = server.shown(&format!("resource.access_control[{n}].context"));
        context.is_some_and(|context| context.contains("keymanager-operations"))
    };
    if line == Identity && (0..server.elements("resource.access_control")).any(is_resident) {
        marks.push(Mark {
            reason: "keymanager-operations are those of 5.10 to 6.1".to_owned(),
            less_likely: LessLikely::Outside((5, 10), (6, 1)),
            weight: NEIGHBOUR,
        });
    }
    // Since 4.0 events are duplicated by `apim.event_hub`; before, the throttling section did it for both.
    if line == ApiManager
        && server.has("apim.throttling.event_duplicate_url")
        && !server.has("apim.event_hub")
    {
        marks.push(Mark {
            reason: "apim.throttling.event_duplicate_url without apim.event_hub is that of 3.2 and earlier"
                .to_owned(),
            less_likely: LessLikely::Outside(OLDEST, (3, 2)),
            weight: SHIPPED,
        });
    }
}

/// `/opt/wso2am-4.2.0/…` and `https://apim.docs.wso2.com/en/4.2.0/…`, in values, comments or where the file was.
fn named(server: &Server, line: Line, marks: &mut Vec<Mark>) {
    let (pack, docs) = match line {
        ApiManager => ("wso2am-", "apim.docs.wso2.com/en/"),
        Identity => ("wso2is-", "is.docs.wso2.com/en/"),
    };
    for text in server.texts() {
        for (mark, weight) in [(pack, NAMED), (docs, SHIPPED)] {
            for (at, _) in text.match_indices(mark) {
                let is_end = |c: char| c.is_whitespace() || "/\\\"',:;)".contains(c);
                let rest = &text[at + mark.len()..];
                let word = &rest[..rest.find(is_end).unwrap_or(rest.len())];
                let Some(found) = version(word) else { continue };
                let reason = format!("{mark}{word} is named");
                marks.push(Mark { reason, less_likely: LessLikely::Outside(found, found), weight });
            }
        }
    }
}

/// Servers of one line run one version; Identity Servers are those of API Manager's time.
fn beside(line: Line, neighbour: Neighbour, marks: &mut Vec<Mark>) {
    let Neighbour { line: other, version } = neighbour;
    let (major, minor) = version;
    let (less_likely, weight) = match (line, other) {
        (ApiManager, ApiManager) | (Identity, Identity) => (LessLikely::Outside(version, version), NEIGHBOUR),
        // Identity Server 7 came as a key manager with 4.3.
        (Identity, ApiManager) if version < (4, 3) => (LessLikely::Outside(OLDEST, (6, 1)), NEIGHBOUR),
        (Identity, ApiManager) => (LessLikely::Outside((6, 0), ANY_LATER), LEFT_OUT),
        (ApiManager, Identity) if (7, 0) <= version => (LessLikely::Outside((4, 3), ANY_LATER), NEIGHBOUR),
        (ApiManager, Identity) if version < (5, 11) => (LessLikely::Outside(OLDEST, (3, 2)), LEFT_OUT),
        (ApiManager, Identity) => return,
    };
    let name = match other {
        ApiManager => "an API Manager",
        Identity => "an Identity Server",
    };
    marks.push(Mark { reason: format!("{name} beside it has {major}.{minor}"), less_likely, weight });
}
