//! Gateways and the environments that control planes deploy to; what a tier must agree on.

use std::collections::BTreeSet;

use super::{
    equal, groups, same,
    server::{Family, Role, Server, Setting},
};
use crate::spec::report::Report;

const LABELS: &str = "apim.sync_runtime_artifacts.gateway.gateway_labels";
const ENVIRONMENT: &str = "apim.gateway.environment";

/// What decides how a tier behaves.
const TIER: [&str; 9] = [
    "apim.jwt.enable",
    "apim.jwt.header",
    "apim.jwt.encoding",
    "apim.jwt.claim_dialect",
    "apim.jwt.signing_algorithm",
    "apim.oauth_config.enable_token_encryption",
    "apim.oauth_config.enable_token_hashing",
    "oauth.token_generation.use_kid_property",
    "apim.cache_invalidation.domain",
];

pub(super) fn check(servers: &[Server<'_>], report: &mut Report) {
    labels(servers, report);
    let environments = |server: &Server<'_>| {
        let names = server
            .elements(ENVIRONMENT)
            .iter()
            .filter_map(|it| it.text("name").known())
            .collect::<BTreeSet<_>>();
        Setting::Is(names.into_iter().collect::<Vec<_>>().join(", "))
    };
    let control = servers.iter().filter(|server| server.family == Family::Apim && server.role.is_control());
    let why = "APIs can be deployed to other gateways from the one than from the other";
    same(
        control,
        ("CV540", ENVIRONMENT),
        environments,
        (why, "keep the environments in a layer of all of them"),
        report,
    );
    for group in groups(servers) {
        tier(&group, report);
    }
}

fn labels(servers: &[Server<'_>], report: &mut Report) {
    let names: BTreeSet<String> = servers
        .iter()
        .filter(|server| server.role.is_control())
        .flat_map(|server| server.elements(ENVIRONMENT))
        .filter_map(|environment| environment.text("name").known())
        .collect();
    if names.is_empty() {
        return;
    }
    for server in servers.iter().filter(|server| server.role == Role::Gateway) {
        for label in server.texts(LABELS).iter().filter(|label| !names.contains(*label)) {
            let what = format!(
                "no control plane has an environment {label:?}: APIs are \"deployed\", and this gateway answers 404"
            );
            let remedy = format!(
                "use one of {}, or add the environment (it may exist in the Admin portal)",
                crate::finding::names(names.iter().map(String::as_str))
            );
            server.warn(report, ("CV539", LABELS), (what, remedy));
        }
    }
}

fn tier(group: &[&Server<'_>], report: &mut Report) {
    let all = || group.iter().copied();
    let remedy = "keep it in the group's layer";
    let labels = |server: &Server<'_>| Setting::Is(server.texts(LABELS).join(", "));
    let gateways = all().filter(|server| server.role == Role::Gateway && server.has(LABELS));
    same(gateways, ("CV540", LABELS), labels, ("the one lacks APIs that the other serves", remedy), report);
    for key in TIER {
        equal(
            all(),
            ("CV551", key),
            ("what clients get depends on which of the two answers", remedy),
            report,
        );
    }
    // Behind a load balancer all answer to its name.
    let balanced = all().filter(|server| server.has("transport.https.properties.proxyPort"));
    let why = "issuer and redirect URLs depend on which of the two answers";
    equal(
        balanced,
        ("CV551", "server.hostname"),
        (why, "write the load balancer's name on all of them"),
        report,
    );
}
