//! The judgement: facts in, one [`Check`] per thing looked at out, in the order in which a person would look.

use std::collections::BTreeSet;

use super::{
    Check, Outcome, PreflightFacts, balancer, components, databases,
    facts::{
        ClockSkew, ConfigFact, EndpointFact, HomeFact, HostFact, JavaFact, KeystoreFact, Listener, Owner,
        Seen,
    },
    jdk,
    needs::{Endpoint, Keystore, Target},
    peers, trust,
    unit::{self, UnitFact},
};
use crate::{
    bundle::{Port, ServiceSettings},
    observed::RefusalReason,
    time::Human,
};

/// Tokens carry times; WSO2 tolerates a difference of 300 s (`oauth.timestamp_skew`) and no more.
const CLOCK_SKEW_MAX_SECONDS: u64 = 300;
/// Beyond this, times in logs of different nodes mislead.
const CLOCK_SKEW_DOUBTFUL_SECONDS: u64 = 10;
/// WSO2's own automation sets 4,096 soft and 65,535 hard.
const OPEN_FILES_MIN: u64 = 4_096;
/// A loaded API Manager has over a thousand threads; WSO2's own automation sets 20,000.
const PROCESSES_MIN: u64 = 4_096;
/// Logs roll at 20 x 10 MB, and a heap dump is as large as the heap (1 GB by default).
const DISK_COMFORT: u64 = 1 << 30;

/// Judges everything.
pub fn check(facts: &PreflightFacts, settings: &ServiceSettings) -> Vec<Check> {
    if let Some(fact) = &facts.balancer {
        return vec![balancer::check(fact)];
    }
    let mut checks = vec![
        one("jdk", java(&facts.java, settings)),
        one("pack", pack(&facts.home, settings)),
        one("script", script(&facts.home, settings)),
        one("owner", owner(&facts.home, settings)),
        one("files", foreign_files(&facts.home, settings)),
        one("disk", disk(&facts.home)),
    ];
    if let Some(unit) = &facts.unit {
        checks.push(one("unit", unit_outcome(unit, facts.has_launch_files, settings)));
    }
    checks.extend(settings.ports.iter().map(|port| Check {
        name: "port",
        subject: format!("{} {}", port.name, port.number),
        outcome: port_outcome(port, &facts.host),
    }));
    checks.push(one("neighbours", neighbours(&facts.host, settings)));
    checks.extend(config(&facts.config).map(|outcome| one("config", outcome)));
    checks.extend(facts.endpoints.iter().map(|(endpoint, fact)| Check {
        name: "endpoint",
        subject: endpoint.key.clone(),
        outcome: endpoint_outcome(endpoint, fact),
    }));
    checks.extend(databases::check(&facts.databases));
    checks.extend(components::check(&facts.components));
    checks.extend(facts.keystores.iter().map(|(store, fact)| Check {
        name: "keystore",
        subject: store.key.clone(),
        outcome: keystore_outcome(store, fact),
    }));
    checks.extend(trust::check(&facts.stores, settings));
    checks.extend(trust::ends(&facts.stores, facts.now));
    checks.extend(peers::check(&facts.peers, &settings.args, facts.now));
    checks.push(one("clock", clock(&facts.host.clock_ahead)));
    checks.push(one("open files", limit(&facts.host.open_files, OPEN_FILES_MIN, "LimitNOFILE=65535")));
    checks.push(one("processes", limit(&facts.host.processes, PROCESSES_MIN, "LimitNPROC=20000")));
    checks
}

fn one(name: &'static str, outcome: Outcome) -> Check {
    Check { name, subject: String::new(), outcome }
}

fn fail(reason: RefusalReason, why: String, remedy: impl Into<String>) -> Outcome {
    Outcome::Fail { why, remedy: remedy.into(), reason }
}

fn warn(why: String, remedy: impl Into<String>) -> Outcome {
    Outcome::Warn { why, remedy: remedy.into() }
}

fn config(fact: &ConfigFact) -> Option<Outcome> {
    match fact {
        ConfigFact::Read => None,
        ConfigFact::Unread(why) => Some(Outcome::Skipped(why.clone())),
        ConfigFact::Refused(why) => Some(fail(
            RefusalReason::ConfigInvalid,
            format!("the server would not start: {why}"),
            "correct the file; every start fails until then",
        )),
    }
}

fn java(fact: &JavaFact, settings: &ServiceSettings) -> Outcome {
    let range = jdk::range(settings.jdk);
    let Some(java_home) = &fact.java_home else {
        return fail(
            RefusalReason::JdkUnsuitable,
            "no JAVA_HOME is set for the service".to_owned(),
            format!("set java_home to a {range}, in the group or in the agent's configuration"),
        );
    };
    let output = match &fact.output {
        Ok(output) => output,
        Err(why) => {
            return fail(
                RefusalReason::JdkUnsuitable,
                format!("{java_home}/bin/java does not run: {why}"),
                format!("install a {range} there or set java_home to one"),
            );
        }
    };
    let Some(feature) = jdk::feature_version(output) else {
        return fail(
            RefusalReason::JdkUnsuitable,
            format!("what {java_home}/bin/java says of its version is not understood"),
            format!("set java_home to a {range}"),
        );
    };
    let (min, max) = settings.jdk;
    if feature < min || max.is_some_and(|max| max < feature) {
        return fail(
            RefusalReason::JdkUnsuitable,
            format!("{java_home} is JDK {feature}; {} supports {range}", settings.product),
            format!("set java_home to a {range}"),
        );
    }
    Outcome::Pass(format!("JDK {feature} at {java_home}"))
}

/// `bin/version.txt` holds e.g. `WSO2 Identity Server v7.2.0`; catalogue ids are `wso2is-7.2`, `wso2am-tm-4.5`,
/// `wso2am-4.2-control-plane`.
fn pack(home: &HomeFact, settings: &ServiceSettings) -> Outcome {
    let text = match &home.version {
        Ok(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Err(why) => {
            return fail(
                RefusalReason::PackMissing,
                format!("no WSO2 pack at {}: {why}", settings.home),
                format!("unpack {} there", settings.product),
            );
        }
    };
    // The version is the first part that begins with a digit: a profile may follow it.
    let line = settings.product.as_str();
    let Some(wanted) = line.split('-').find(|part| part.starts_with(|c: char| c.is_ascii_digit())) else {
        return Outcome::Skipped(format!("{} names no version to compare {text:?} with", settings.product));
    };
    let family = if line.starts_with("wso2is") {
        "Identity Server"
    } else if line.starts_with("wso2am") {
        "API"
    } else {
        return Outcome::Skipped(format!(
            "{} is no product known here; home holds {text:?}",
            settings.product
        ));
    };
    let found = text.rsplit_once(" v").map(|(_, version)| version);
    let same_version = found.is_some_and(|found| {
        found == wanted || found.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
    });
    // The packs of API Manager from 4.5 call themselves Gateway, Traffic Manager or Control Plane.
    let same_family = text.contains(family)
        || (family == "API"
            && ["Gateway", "Traffic Manager", "Control Plane"].iter().any(|it| text.contains(it)));
    if same_version && same_family {
        return Outcome::Pass(text);
    }
    fail(
        RefusalReason::PackMissing,
        format!("home holds {text:?}, the fleet says {}", settings.product),
        "correct `product` or `home` of this node",
    )
}

fn script(home: &HomeFact, settings: &ServiceSettings) -> Outcome {
    match &home.script {
        Ok(()) => Outcome::Pass("present".to_owned()),
        Err(why) => fail(
            RefusalReason::ScriptMissing,
            format!("no start script below {}: {why}", settings.home),
            "unpack the product again, or correct the script in the product's profile",
        ),
    }
}

fn owner(home: &HomeFact, settings: &ServiceSettings) -> Outcome {
    let (owner, user) = match (&home.owner, &home.run_user) {
        (Ok(owner), Ok(user)) => (owner, user),
        (Err(why), _) => return Outcome::Skipped(why.clone()),
        (_, Err(why)) => {
            return fail(
                RefusalReason::WrongOwner,
                format!("the run user is not known here: {why}"),
                "create the user or correct run_user",
            );
        }
    };
    if owner == user {
        return Outcome::Pass(owned_by(owner));
    }
    fail(
        RefusalReason::WrongOwner,
        format!("{} is {}, the server runs as {}", settings.home, owned_by(owner), user.name),
        format!("chown -R {} {}, or correct run_user", user.name, settings.home),
    )
}

fn owned_by(owner: &Owner) -> String {
    format!("owned by {}", owner.name)
}

/// A file that root left behind ends the next start with `Error while store new configurations`.
fn foreign_files(home: &HomeFact, settings: &ServiceSettings) -> Outcome {
    let user = match &home.run_user {
        Ok(user) => user,
        Err(why) => return Outcome::Skipped(why.clone()),
    };
    if home.foreign.is_empty() {
        return Outcome::Pass("the server can write what it must write".to_owned());
    }
    fail(
        RefusalReason::WrongOwner,
        format!("{} cannot write {}; the next start would fail", user.name, home.foreign.join(", ")),
        format!("chown -R {} {}", user.name, settings.home),
    )
}

fn disk(home: &HomeFact) -> Outcome {
    let free = match &home.disk_free {
        Ok(free) => *free,
        Err(why) => return Outcome::Skipped(why.clone()),
    };
    // Staged copies and the backup of the files in force stand beside each other for a while.
    let needed = home.bundle_size.saturating_mul(2);
    if free < needed {
        return fail(
            RefusalReason::DiskFull,
            format!("{} free, twice the bundle is {}", bytes(free), bytes(needed)),
            "free space on the file system of home",
        );
    }
    if free < DISK_COMFORT {
        return warn(
            format!("only {} free", bytes(free)),
            "free space: logs and one heap dump need more than a gigabyte",
        );
    }
    Outcome::Pass(format!("{} free", bytes(free)))
}

fn bytes(count: u64) -> String {
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{} KiB", count / 1_024),
        1_048_576..1_073_741_824 => format!("{} MiB", count / 1_048_576),
        _ => format!("{} GiB", count / 1_073_741_824),
    }
}

fn unit_outcome(unit: &Seen<UnitFact>, has_launch_files: bool, settings: &ServiceSettings) -> Outcome {
    match unit {
        Ok(unit) => unit::check(unit, settings, has_launch_files),
        Err(why) => fail(RefusalReason::PreflightFailed, why.clone(), unit::UNREACHABLE_REMEDY),
    }
}

fn port_outcome(port: &Port, host: &HostFact) -> Outcome {
    let sockets = match &host.sockets {
        Ok(sockets) => sockets,
        Err(why) => return Outcome::Skipped(why.clone()),
    };
    let holders: Vec<&Listener> = sockets.iter().filter(|socket| socket.port == port.number).collect();
    let ours = |listener: &&&Listener| listener.pid.is_some_and(|pid| host.own_pids.contains(&pid));
    let Some(stranger) = holders.iter().find(|listener| !ours(listener)) else {
        let state = if holders.is_empty() { "free" } else { "held by this server" };
        return Outcome::Pass(state.to_owned());
    };
    let why = format!("held by {}", stranger.holder);
    let remedy = "stop that process, or give this node another offset";
    // Who holds a socket is hidden from an agent without privileges: it may well be our own server.
    if port.required && stranger.pid.is_some() {
        fail(RefusalReason::PreflightFailed, why, remedy)
    } else {
        warn(why, remedy)
    }
}

fn neighbours(host: &HostFact, settings: &ServiceSettings) -> Outcome {
    if host.neighbours.is_empty() {
        return Outcome::Pass("no other WSO2 server runs here".to_owned());
    }
    let mut said = BTreeSet::new();
    for neighbour in &host.neighbours {
        match &neighbour.offset {
            Ok(offset) if *offset == settings.offset => {
                return warn(
                    format!("{} (pid {}) has offset {offset} too", neighbour.home, neighbour.pid),
                    "give each server of a host its own offset; most ports of both collide",
                );
            }
            Ok(offset) => said.insert(format!("{} at offset {offset}", neighbour.home)),
            Err(why) => said.insert(format!("{}, offset unknown ({why})", neighbour.home)),
        };
    }
    Outcome::Pass(format!("offset {}; {}", settings.offset, said.into_iter().collect::<Vec<_>>().join(", ")))
}

fn endpoint_outcome(endpoint: &Endpoint, fact: &EndpointFact) -> Outcome {
    let places = match &endpoint.target {
        Target::Unknown(why) => return Outcome::Skipped(why.clone()),
        Target::Addresses(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    match fact {
        EndpointFact::Reached(after) => {
            Outcome::Pass(format!("{places} reached in {} ms", after.as_millis()))
        }
        EndpointFact::Unreachable(why) => fail(
            RefusalReason::PreflightFailed,
            format!("{places} cannot be reached from here: {why}"),
            "start it, open the firewall, correct host and port, or set check_endpoints = false for this agent; the \
             server would hang at its start",
        ),
    }
}

fn keystore_outcome(store: &Keystore, fact: &KeystoreFact) -> Outcome {
    let file = &store.file;
    let alias = store.alias.as_deref().unwrap_or_default();
    let (why, remedy) = match fact {
        KeystoreFact::Good if store.alias.is_some() => {
            return Outcome::Pass(format!("{file} opens and holds the key {alias:?}"));
        }
        KeystoreFact::Good => return Outcome::Pass(format!("{file} opens")),
        KeystoreFact::NotChecked(why) => return Outcome::Skipped(format!("{file}: {why}")),
        KeystoreFact::Absent => {
            (format!("{file} is not there"), "add it to the fleet's files or to home".to_owned())
        }
        KeystoreFact::WrongPassword => (
            format!("{file} does not open with {}.password, or is damaged", store.key),
            format!("correct {}.password; the server would log `Keystore was tampered with`", store.key),
        ),
        KeystoreFact::AliasMissing(aliases) => (
            format!("{file} holds no {alias:?}, only {}", listed(aliases)),
            format!("correct {}.alias", store.key),
        ),
        KeystoreFact::NoPrivateKey => (
            format!("{alias:?} in {file} is a certificate without its private key"),
            format!("import the key, or correct {}.alias", store.key),
        ),
        KeystoreFact::WrongKeyPassword => (
            format!("the key {alias:?} in {file} does not open with {}.key_password", store.key),
            format!("correct {}.key_password", store.key),
        ),
        KeystoreFact::Unreadable(why) => {
            (format!("{file} is no keystore that can be read here: {why}"), "replace the file".to_owned())
        }
    };
    fail(RefusalReason::PreflightFailed, why, remedy)
}

fn listed(aliases: &[String]) -> String {
    const SHOWN_MAX: usize = 5;
    if aliases.is_empty() {
        return "nothing".to_owned();
    }
    let shown: Vec<String> = aliases.iter().take(SHOWN_MAX).map(|alias| format!("{alias:?}")).collect();
    let rest = aliases.len() - shown.len();
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

fn clock(skew: &Seen<ClockSkew>) -> Outcome {
    let skew = match skew {
        Ok(skew) => *skew,
        Err(why) => return Outcome::Skipped(why.clone()),
    };
    let word = match skew {
        ClockSkew::Ahead(_) => "ahead of",
        ClockSkew::Behind(_) => "behind",
    };
    let seconds = skew.size().as_secs();
    let why = format!("{} {word} the coordinator's clock", Human(skew.size()));
    let remedy = "repair time synchronisation (chrony, systemd-timesyncd, w32time)";
    if CLOCK_SKEW_MAX_SECONDS < seconds {
        fail(
            RefusalReason::PreflightFailed,
            format!("{why}; tokens made elsewhere look invalid here"),
            remedy,
        )
    } else if CLOCK_SKEW_DOUBTFUL_SECONDS < seconds {
        warn(why, remedy)
    } else {
        Outcome::Pass(why)
    }
}

fn limit(limit: &Seen<Option<u64>>, min: u64, unit_setting: &str) -> Outcome {
    match limit {
        Err(why) => Outcome::Skipped(why.clone()),
        Ok(None) => Outcome::Pass("unlimited".to_owned()),
        Ok(Some(limit)) if *limit < min => warn(
            format!("{limit}, under load the server needs at least {min}"),
            format!("raise it, in a systemd unit with {unit_setting}"),
        ),
        Ok(Some(limit)) => Outcome::Pass(limit.to_string()),
    }
}
