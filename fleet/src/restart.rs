//! Whether a change of bundle asks for a restart of the server, and why. Called by `plan` (to tell people) and by the
//! agent's engine (to do it), so both always say the same.
//!
//! Works on manifests alone: a file counts as changed only if its *meaning* changed, so comments, order and white
//! space of deployment.toml never restart a server.

use crate::bundle::{Bundle, RestartClass, ServiceSettings};

/// What a change asks of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartDecision {
    /// The strongest class among all changes.
    pub class: RestartClass,
    /// One sentence per change that led to `class`; empty for `RestartClass::None`.
    pub why: Vec<String>,
}

impl RestartDecision {
    /// Whether the server is restarted for it.
    pub const fn restarts(&self) -> bool {
        matches!(self.class, RestartClass::Restart | RestartClass::Phased)
    }
}

/// Why a change of a file is of its class, one clause.
pub const fn because(class: RestartClass) -> &'static str {
    match class {
        RestartClass::None => "the server reads the same as before",
        RestartClass::Hot => "the server picks it up by itself",
        RestartClass::Restart => "the server reads it only at its start",
        RestartClass::Phased => "all nodes have to agree on it, and the server reads it only at its start",
    }
}

/// Compares the bundle a server runs with to the one it should run with.
pub fn decide(old: &Bundle, new: &Bundle) -> RestartDecision {
    let mut reasons = file_reasons(old, new);
    reasons.extend(
        service_reasons(&old.service, &new.service).into_iter().map(|why| (RestartClass::Restart, why)),
    );
    let class = reasons.iter().map(|(class, _)| *class).max().unwrap_or(RestartClass::None);
    let why = match class {
        RestartClass::None => Vec::new(),
        RestartClass::Hot => reasons.into_iter().filter(|(of, _)| *of == class).map(|(_, why)| why).collect(),
        // Both are restarts; a reason of the weaker kind is still a reason.
        RestartClass::Restart | RestartClass::Phased => {
            reasons.into_iter().filter(|(of, _)| RestartClass::Restart <= *of).map(|(_, why)| why).collect()
        }
    };
    RestartDecision { class, why }
}

fn file_reasons(old: &Bundle, new: &Bundle) -> Vec<(RestartClass, String)> {
    let mut reasons = Vec::new();
    for (path, file) in &new.files {
        let (class, what) = match old.files.get(path) {
            None => (file.restart, "is added"),
            Some(before) if before.meaning != file.meaning => (
                file.restart,
                if file.restart == RestartClass::Hot { "changes, read live" } else { "changes" },
            ),
            Some(_) => continue,
        };
        let how = if new.balancer.is_some() { " (by a reload)" } else { "" };
        reasons.push((class, format!("{path} {what}{how}")));
    }
    for (path, file) in &old.files {
        if !new.files.contains_key(path) {
            reasons.push((file.restart, format!("{path} is no longer managed")));
        }
    }
    reasons
}

/// The settings that a server reads at its start. Probes, thresholds and deadlines are the agent's own and take
/// effect at once. Values are not named: environment and arguments may hold secrets.
fn service_reasons(old: &ServiceSettings, new: &ServiceSettings) -> Vec<String> {
    let checks = [
        (old.product != new.product, format!("product changes from {} to {}", old.product, new.product)),
        (old.home != new.home, format!("home moves from {} to {}", old.home, new.home)),
        (
            old.script_unix != new.script_unix || old.script_windows != new.script_windows,
            format!("start script changes to {} ({} on Windows)", new.script_unix, new.script_windows),
        ),
        (old.config_path != new.config_path, format!("configuration moves to {}", new.config_path)),
        (old.args != new.args, "start arguments change".to_owned()),
        (old.java_home != new.java_home, "JAVA_HOME changes".to_owned()),
        (old.run_user != new.run_user, "run user changes".to_owned()),
        (old.offset != new.offset, format!("port offset changes from {} to {}", old.offset, new.offset)),
    ];
    let mut reasons: Vec<String> =
        checks.into_iter().filter(|(changed, _)| *changed).map(|(_, why)| why).collect();
    let names: std::collections::BTreeSet<&String> = old.env.keys().chain(new.env.keys()).collect();
    let changed: Vec<&str> = names
        .into_iter()
        .filter(|name| old.env.get(*name) != new.env.get(*name))
        .map(String::as_str)
        .collect();
    if !changed.is_empty() {
        reasons.push(format!("environment changes: {}", changed.join(", ")));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Sources, compose};

    fn bundle(node_extra: &str, layer: &str) -> Bundle {
        let fleet = format!(
            "name = \"f\"\n[groups.g]\nproduct = \"wso2is-7.2\"\nlayers = [\"l\"]\n[nodes.n]\ngroup = \"g\"\n\
             host = \"h\"\nhome = \"/opt/is\"\n{node_extra}"
        );
        let files = [("fleet.toml", fleet.as_str()), ("config/l.toml", layer)];
        let sources = Sources(files.into_iter().map(|(path, text)| (path.to_owned(), text.into())).collect());
        let fleet = compose(&sources).fleet.expect("the fleet is sound");
        fleet.nodes.into_values().next().expect("it has a node").bundle
    }

    #[test]
    fn only_what_the_server_reads_restarts_it() {
        let old = bundle("", "[a]\nb = 1\nc = 2\n");
        let cases = [
            ("", "# comment\n[a]\nc =   2\nb = 1\n", RestartClass::None),
            (
                "service = { start_deadline = \"9m\", probe_period = \"1s\" }\n",
                "[a]\nb = 1\nc = 2\n",
                RestartClass::None,
            ),
            ("", "[a]\nb = 1\nc = 3\n", RestartClass::Restart),
            ("offset = 1\n", "[a]\nb = 1\nc = 2\n", RestartClass::Restart),
            ("env = { JAVA_OPTS = \"-Dx=s3cret\" }\n", "[a]\nb = 1\nc = 2\n", RestartClass::Restart),
            ("args = [\"-Dx=y\"]\n", "[a]\nb = 1\nc = 2\n", RestartClass::Restart),
        ];
        for (extra, layer, class) in cases {
            let decision = decide(&old, &bundle(extra, layer));
            assert_eq!(decision.class, class, "{extra} {layer}: {:?}", decision.why);
            assert_eq!(decision.why.is_empty(), class == RestartClass::None);
            assert!(!decision.why.concat().contains("s3cret"));
        }
    }
}
