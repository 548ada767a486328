//! Service settings of one node: the product profile, what fleet.toml says at its three places, the offset applied.

use std::collections::BTreeMap;

use super::{
    canonical::Flat,
    compose::Draft,
    expression::{Expressions, Names, NodeFacts, Origin, has_expression},
    manifest::{RunText, ServiceText},
    reader::Typed,
    report::Report,
};
use crate::{
    bundle::{Port, Probe, ProbeKind, ServiceSettings},
    product::ProductProbe,
};

type Scope<'a> = (&'a Expressions, &'a Names);

/// A setting whose text may hold expressions.
pub(super) fn text(
    typed: &Typed<String>,
    expressions: &Expressions,
    names: &Names,
    report: &mut Report,
) -> Option<String> {
    if !has_expression(&typed.value) {
        return Some(typed.value.clone());
    }
    let origin = Origin::of_string(&typed.at, typed.at.value, &typed.value);
    expressions.render(&typed.value, names, &origin, report)
}

/// An absolute path on the node, without a slash at its end.
pub(super) fn home(
    typed: &Typed<String>,
    expressions: &Expressions,
    names: &Names,
    report: &mut Report,
) -> Option<String> {
    let text = text(typed, expressions, names, report)?;
    let home = text.trim_end_matches(['/', '\\']);
    let drive = home.as_bytes().get(1) == Some(&b':') && home.starts_with(|c: char| c.is_ascii_alphabetic());
    let leaves = home.split(['/', '\\']).any(|part| part == ".." || part == ".");
    let blank = home.chars().any(char::is_control);
    if (home.starts_with('/') || drive) && !leaves && !blank && 1 < home.len() {
        return Some(home.to_owned());
    }
    report.error(
        "CV111",
        Some(typed.at.value_place()),
        format!("{text:?} is not the absolute path of a server"),
        "write the whole path without '..', as in \"/opt/wso2/wso2is-7.2.0\" or \"C:/wso2/wso2is-7.2.0\"",
    );
    None
}

/// The settings of a node whose configuration is `flat`.
pub(super) fn settings(
    draft: &Draft<'_>,
    fleet: &ServiceText,
    scope: Scope<'_>,
    flat: &Flat,
    report: &mut Report,
) -> Option<ServiceSettings> {
    let product = &draft.facts.product;
    let limits = draft.text.service.over(&draft.group.service).over(fleet);
    let (group, own) = (&draft.group.run, &draft.text.run);
    let one = |pick: fn(&RunText) -> &Option<Typed<String>>, report: &mut Report| {
        let typed = pick(own).as_ref().or(pick(group).as_ref())?;
        text(typed, scope.0, scope.1, report)
    };
    Some(ServiceSettings {
        product: product.id.clone(),
        home: draft.facts.home.clone(),
        script_unix: product.script_unix.clone(),
        script_windows: product.script_windows.clone(),
        config_path: product.config_path.clone(),
        args: args(draft, scope, report),
        env: env(draft, scope, report),
        java_home: one(|run| &run.java_home, report),
        run_user: one(|run| &run.run_user, report),
        offset: draft.facts.offset,
        ports: ports(draft, report)?,
        probes: probes(&draft.facts, flat),
        ready_lines: product.ready_lines.clone(),
        start_deadline: limits.start_deadline.unwrap_or(product.start_deadline),
        stop_deadline: limits.stop_deadline.unwrap_or(product.stop_deadline),
        thresholds: limits.thresholds(),
        restart_policy: limits.restart_policy(),
        unhealthy_restarts: limits.unhealthy_restarts.unwrap_or(false),
        check_databases: limits.check_databases.unwrap_or(false),
        owned_keys: product.owned_keys.clone(),
        jdk: product.jdk,
    })
}

/// The product's arguments, then those of the node or, if it has none of its own, of the group.
fn args(draft: &Draft<'_>, (expressions, names): Scope<'_>, report: &mut Report) -> Vec<String> {
    let mut args = draft.facts.product.args.clone();
    args.extend(super::vault::arg(draft).map(str::to_owned));
    let Some(typed) = draft.text.run.args.as_ref().or(draft.group.run.args.as_ref()) else { return args };
    for arg in &typed.value {
        let arg = Typed { value: arg.clone(), at: typed.at.clone() };
        let Some(arg) = text(&arg, expressions, names, report) else { continue };
        // The start scripts pass on an unquoted $*, which splits at spaces; -DportOffset beats [server] offset, so
        // that nobody else could know the ports.
        let problem = if arg.is_empty() || arg.contains(char::is_whitespace) {
            Some((
                "holds spaces, at which the start script splits it",
                "put options with spaces into JAVA_OPTS",
            ))
        } else if arg.trim_start_matches('-').starts_with("DportOffset") {
            Some(("sets the offset behind everybody's back", "use `offset` of the node"))
        } else {
            None
        };
        match problem {
            None => args.push(arg),
            Some((why, remedy)) => {
                report.error(
                    "CV113",
                    Some(typed.at.value_place()),
                    format!("a start argument {why}"),
                    remedy,
                );
            }
        }
    }
    args
}

/// The group's environment with the node's own over it.
fn env(draft: &Draft<'_>, (expressions, names): Scope<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, typed) in draft.group.run.env.iter().chain(&draft.text.run.env) {
        if ["CARBON_HOME", "JAVA_HOME", "JAVACMD"].contains(&name.as_str()) {
            report.error(
                "CV112",
                Some(typed.at.key_place()),
                format!("{name} is set by the agent: another value starts another server"),
                "use `home` and `java_home`",
            );
            continue;
        }
        if let Some(value) = text(typed, expressions, names, report) {
            env.insert(name.clone(), value);
        }
    }
    env
}

fn ports(draft: &Draft<'_>, report: &mut Report) -> Option<Vec<Port>> {
    let mut ports = Vec::new();
    for port in draft.facts.open_ports() {
        let Some(number) = draft.facts.number(port) else {
            report.error(
                "CV013",
                draft.text.offset.as_ref().map(|typed| typed.at.value_place()),
                format!("with this offset, port {} of {} is beyond 65535", port.name, draft.name),
                "choose a smaller offset",
            );
            return None;
        };
        ports.push(Port { name: port.name.clone(), number, required: port.required });
    }
    Some(ports)
}

fn probes(facts: &NodeFacts, flat: &Flat) -> Vec<Probe> {
    let applies = |probe: &&ProductProbe| {
        probe.when.as_ref().is_none_or(|key| flat.get(key).is_some_and(|v| v == "true"))
    };
    let resolve = |probe: &ProductProbe| {
        let port = facts.number(facts.product.ports.iter().find(|port| port.name == probe.port)?)?;
        let kind = match &probe.path {
            None => ProbeKind::Tcp(port),
            Some(path) => ProbeKind::Http {
                tls: probe.tls,
                port,
                path: path.clone(),
                status: probe.status,
                body: probe.body.clone(),
            },
        };
        Some(Probe { name: probe.name.clone(), role: probe.role, kind, timeout: probe.timeout })
    };
    facts.product.probes.iter().filter(applies).filter_map(resolve).collect()
}
