//! Service and file settings that differ, as people read them.

use std::collections::{BTreeMap, BTreeSet};

use super::SettingChange;
use crate::{
    bundle::{Bundle, DriftPolicy, FileEntry, ProbeKind, ServiceSettings},
    finding::{MASK, is_hidden_key, mask_line},
    host::FoundFile,
    key_manager::KeyManagers,
    time::Human,
};

/// What differs of a file besides its content: what the host has, where that is known, and what was assigned.
pub(super) fn of_file(
    assigned: Option<&FileEntry>,
    found: Option<&FoundFile>,
    new: &FileEntry,
    owner: Option<&str>,
) -> Vec<String> {
    let word = |debug: String| debug.to_lowercase();
    let mode = |mode: u32| format!("{mode:04o}");
    let mode_before = match (found, assigned) {
        // 0: the platform has none.
        (Some(found), _) => Some(found.mode).filter(|mode| *mode != 0),
        (None, Some(assigned)) => Some(assigned.mode),
        (None, None) => None,
    };
    let policy = |of: fn(&FileEntry) -> String| assigned.map(of);
    let pairs = [
        ("mode", mode_before.map(mode), mode(new.mode)),
        (
            "owner",
            found.filter(|_| owner.is_some()).map(|found| found.owner.clone()),
            owner.unwrap_or_default().to_owned(),
        ),
        ("drift", policy(|old| format!("{:?}", old.drift)).map(word), word(format!("{:?}", new.drift))),
        ("restart", policy(|old| format!("{:?}", old.restart)).map(word), word(format!("{:?}", new.restart))),
        ("secret", policy(|old| old.secret.to_string()), new.secret.to_string()),
    ];
    let differs = |(what, old, new): (&str, Option<String>, String)| {
        let old = old.filter(|old| *old != new)?;
        Some(format!("{what} {old} -> {new}"))
    };
    pairs.into_iter().filter_map(differs).collect()
}

/// What tells one new node from another; its product's profile gives the rest.
const OF_A_NEW_NODE: [&str; 6] = ["product", "home", "offset", "args", "java_home", "run_user"];

/// Of the agent; told of a new node only if it is switched off.
const NAME_EDITORS: &str = "drift.name_editors";

/// What differs between the settings of a node's service. Of a new node only what is its own.
pub(super) fn changes(old: Option<&Bundle>, new: &Bundle) -> Vec<SettingChange> {
    let all = |bundle: &Bundle| {
        let hooks = bundle.hooks.named().map(|(point, hook)| (format!("hooks.{point}"), hook.to_string()));
        let mut all = texts(&bundle.service);
        all.extend(hooks);
        let word = |policy: DriftPolicy| format!("{policy:?}").to_lowercase();
        let rules = bundle.drift_keys.iter();
        all.extend(rules.map(|rule| (format!("drift.keys.{}", rule.pattern), word(rule.policy))));
        all.insert(NAME_EDITORS.to_owned(), (!bundle.unnamed_editors).to_string());
        all.extend(key_managers(&bundle.key_managers));
        all
    };
    let before = old.map(all).unwrap_or_default();
    let mut after = all(new);
    if old.is_none() {
        after.retain(|name, text| {
            let own = OF_A_NEW_NODE.contains(&name.as_str())
                || name.starts_with("env.")
                || name.starts_with("hooks.")
                || name.starts_with("drift.keys.")
                || (name == NAME_EDITORS && text == "false")
                || name.starts_with(KEY_MANAGERS);
            own && !text.is_empty()
        });
    }
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changes: Vec<SettingChange> = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| {
            let text = |of: &BTreeMap<String, String>| of.get(name).map(|raw| shown(name, raw));
            let (old, mut new) = (text(&before).unwrap_or_default(), text(&after).unwrap_or_default());
            if new.is_empty() && name.starts_with(KEY_MANAGERS) && !old.starts_with(KEPT_BY) {
                new = "(deleted at the Admin API)".to_owned();
            }
            SettingChange { setting: name.clone(), old, new }
        })
        .collect();
    let is_told = changes.iter().any(|change| change.setting.starts_with(KEY_MANAGERS));
    if old.is_some_and(|old| old.key_managers != new.key_managers) && !is_told {
        changes.push(hidden("key_managers"));
    }
    if let Some(old) = old
        && old.hooks != new.hooks
        && !changes.iter().any(|change| change.setting.starts_with("hooks."))
    {
        // What is not shown of a call: a secret, a body, arguments.
        changes.push(hidden("hooks"));
    }
    changes
}

/// A change of something that is not shown.
fn hidden(setting: &str) -> SettingChange {
    SettingChange {
        setting: setting.to_owned(),
        old: "(hidden)".to_owned(),
        new: "(hidden, changed)".to_owned(),
    }
}

/// Begins the settings of Key Managers.
const KEY_MANAGERS: &str = "key_managers.";
/// Begins the text of one that another node keeps.
const KEPT_BY: &str = "kept by ";

/// What this node registers, in whole; of what another registers, only which does.
fn key_managers(key_managers: &KeyManagers) -> impl Iterator<Item = (String, String)> + '_ {
    let named = |name: &str| format!("{KEY_MANAGERS}{name}");
    let kept = key_managers.kept.iter().map(move |one| (named(&one.name), one.to_string()));
    let others = key_managers.elsewhere.iter();
    kept.chain(others.map(move |other| (named(&other.name), format!("{KEPT_BY}{}", other.keeper))))
}

fn shown(name: &str, raw: &str) -> String {
    if name.starts_with("env.") && is_hidden_key(name) {
        return MASK.to_owned();
    }
    mask_line(raw)
}

fn texts(service: &ServiceSettings) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = [
        ("product", service.product.clone()),
        ("home", service.home.clone()),
        ("script_unix", service.script_unix.to_string()),
        ("script_windows", service.script_windows.to_string()),
        ("config_path", service.config_path.to_string()),
        ("args", service.args.join(" ")),
        ("offset", service.offset.to_string()),
        ("java_home", service.java_home.clone().unwrap_or_default()),
        ("run_user", service.run_user.clone().unwrap_or_default()),
        ("ports", ports(service)),
        ("probes", probes(service)),
        ("ready_lines", service.ready_lines.join(" | ")),
        ("start_deadline", Human(service.start_deadline).to_string()),
        ("stop_deadline", Human(service.stop_deadline).to_string()),
        ("unhealthy_restarts", service.unhealthy_restarts.to_string()),
        ("check_databases", service.check_databases.to_string()),
        ("owned_keys", service.owned_keys.join(" ")),
        ("jdk", jdk(service)),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text))
    .collect();
    let (limits, policy) = (&service.thresholds, &service.restart_policy);
    let more = [
        ("probe_period", Human(limits.period).to_string()),
        ("probe_failures", limits.failure.to_string()),
        ("probe_successes", limits.success.to_string()),
        ("probe_grace", Human(limits.grace).to_string()),
        ("exits_max", policy.exits_max.to_string()),
        ("exits_window", Human(policy.window).to_string()),
        ("restart_delay", Human(policy.delay).to_string()),
        ("restart_delay_max", Human(policy.delay_max).to_string()),
    ];
    texts.extend(more.into_iter().map(|(name, text)| (name.to_owned(), text)));
    texts.extend(service.env.iter().map(|(name, value)| (format!("env.{name}"), value.clone())));
    texts.retain(|_, text| !text.is_empty());
    texts
}

fn ports(service: &ServiceSettings) -> String {
    let text = service.ports.iter().map(|port| {
        let mark = if port.required { "" } else { "?" };
        format!("{}{mark}={}", port.name, port.number)
    });
    text.collect::<Vec<_>>().join(" ")
}

fn probes(service: &ServiceSettings) -> String {
    let text = service.probes.iter().map(|probe| match &probe.kind {
        ProbeKind::Tcp(port) => format!("{}=tcp:{port}", probe.name),
        ProbeKind::Http { tls, port, path, .. } => {
            format!("{}={}:{port}{path}", probe.name, if *tls { "https" } else { "http" })
        }
    });
    text.collect::<Vec<_>>().join(" ")
}

fn jdk(service: &ServiceSettings) -> String {
    match service.jdk {
        (from, Some(to)) => format!("{from} to {to}"),
        (from, None) => format!("{from} or later"),
    }
}
