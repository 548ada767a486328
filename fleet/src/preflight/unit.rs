//! Whether a systemd unit runs this node's server as the fleet says: facts that the agent read over D-Bus, judged here.
//!
//! The agent writes the files and tells systemd when to start and stop; how the server is started is the unit's. Where
//! the two disagree a start would do something else than was declared, so it is refused. Values of variables are never
//! told: they may be secrets.

use std::{fmt, time::Duration};

use super::Outcome;
use crate::{bundle::ServiceSettings, observed::RefusalReason, time::Human};

/// What a unit is and how it is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitFact {
    /// E.g. `wso2is.service`.
    pub name: String,
    /// `loaded`, `not-found`, `masked`, ...
    pub loaded: String,
    /// `active`, `activating`, `deactivating`, `inactive`, `failed`, ...
    pub active: String,
    /// E.g. `running`, `exited`, `auto-restart`.
    pub sub: String,
    /// How it ended last, e.g. `success`, `exit-code`.
    pub result: String,
    /// 0 if there is none.
    pub main_pid: u32,
    /// Of ExecStop and its like, while they run; else 0.
    pub control_pid: u32,
    /// Which start of the unit this is, hexadecimal; empty before the first.
    pub invocation: String,
    /// `simple`, `forking`, ...
    pub kind: String,
    /// Program and arguments of all `ExecStart=`.
    pub exec: Vec<String>,
    /// Also from `EnvironmentFile=`.
    pub environment: Variables,
    /// Empty: the manager's own.
    pub user: String,
    /// Empty: the manager's default.
    pub working_directory: String,
    /// `control-group`, `mixed`, `process`, `none`.
    pub kill_mode: String,
    /// `no`, `always`, `on-failure`, ...
    pub restart: String,
    /// From TERM to KILL; `None` is for ever.
    pub stop_timeout: Option<Duration>,
}

/// Lines `NAME=value`. What they hold is never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Variables(pub Vec<String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|line| line.split('=').next().unwrap_or_default());
        f.debug_list().entries(names).finish()
    }
}

impl UnitFact {
    /// Whether systemd is about to start it again by itself.
    pub fn restarts_itself(&self) -> bool {
        self.active == "activating" && self.sub == "auto-restart"
    }

    /// Whether something of it lives or is about to.
    pub fn is_busy(&self) -> bool {
        let lives = self.active == "active" && self.sub != "exited" && self.sub != "dead";
        let moves = ["activating", "deactivating", "reloading"].contains(&self.active.as_str());
        (lives || moves) && !self.restarts_itself()
    }

    /// The value of a variable of its environment; the last one counts.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.0.iter().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

impl fmt::Display for UnitFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} ({})", self.name, self.active, self.sub)?;
        if !["", "success"].contains(&self.result.as_str()) {
            write!(f, ", result {}", self.result)?;
        }
        Ok(())
    }
}

/// Judges a unit for this server. `has_launch_files`: the server needs files that are written before each start.
pub fn check(unit: &UnitFact, settings: &ServiceSettings, has_launch_files: bool) -> Outcome {
    if let Some(complaint) = contradiction(unit, settings) {
        return refused(unit, complaint);
    }
    match doubt(unit, settings, has_launch_files) {
        Some((why, remedy)) => Outcome::Warn { why, remedy: format!("{remedy}: {}", edit(unit)) },
        None => Outcome::Pass(unit.to_string()),
    }
}

/// Judges only whether it is there and of this home, while nothing more is known of the server.
pub fn check_home(unit: &UnitFact, home: &str) -> Outcome {
    match unloaded(unit).or_else(|| of_another_home(unit, home)) {
        Some(complaint) => refused(unit, complaint),
        None => Outcome::Pass(unit.to_string()),
    }
}

fn refused(unit: &UnitFact, (why, remedy): Complaint) -> Outcome {
    let remedy = remedy.replace("{edit}", &edit(unit));
    Outcome::Fail { why, remedy, reason: RefusalReason::PreflightFailed }
}

/// What to do when systemd cannot be asked.
pub const UNREACHABLE_REMEDY: &str = "see that systemd and D-Bus run and that the agent's user may ask them \
                                      (`systemctl status`), or correct `unit_bus` in the agent's configuration";

type Complaint = (String, String);

fn edit(unit: &UnitFact) -> String {
    format!("`systemctl edit --full {0}`, then `systemctl daemon-reload`", unit.name)
}

fn unloaded(unit: &UnitFact) -> Option<Complaint> {
    let name = &unit.name;
    let remedy = match unit.loaded.as_str() {
        "loaded" => return None,
        "not-found" => {
            "install the unit, or correct `units` in the agent's configuration; `systemctl list-unit-files` \
                        shows those that there are"
                .to_owned()
        }
        "masked" => format!("`systemctl unmask {name}`"),
        _ => format!("see `systemctl status {name}`"),
    };
    Some((format!("systemd says that {name} is {}", unit.loaded), remedy))
}

fn of_another_home(unit: &UnitFact, home: &str) -> Option<Complaint> {
    (!names_home(unit, home)).then(|| {
        (
            format!("neither ExecStart nor WorkingDirectory nor CARBON_HOME of {} names {home}", unit.name),
            "correct the unit by {edit}; or `units` in the agent's configuration, if this is the unit of another server"
                .to_owned(),
        )
    })
}

fn contradiction(unit: &UnitFact, settings: &ServiceSettings) -> Option<Complaint> {
    let name = &unit.name;
    if let Some(complaint) = unloaded(unit).or_else(|| of_another_home(unit, &settings.home)) {
        return Some(complaint);
    }
    if let Some(carbon) = unit.variable("CARBON_HOME").filter(|carbon| !same(carbon, &settings.home)) {
        return Some((
            format!("{name} sets CARBON_HOME={carbon}, this node's home is {}", settings.home),
            "correct it by {edit}".to_owned(),
        ));
    }
    if let (Some(java), Some(wanted)) = (unit.variable("JAVA_HOME"), &settings.java_home)
        && !same(java, wanted)
    {
        return Some((
            format!("{name} sets JAVA_HOME={java}, this node's java_home is {wanted}"),
            "make them one: java_home in the fleet or the agent's configuration, or the unit by {edit}"
                .to_owned(),
        ));
    }
    starts_otherwise(unit, settings).or_else(|| stops_wrongly(unit))
}

/// What the fleet declares and the unit would not do.
fn starts_otherwise(unit: &UnitFact, settings: &ServiceSettings) -> Option<Complaint> {
    let name = &unit.name;
    if let Some(user) = settings.run_user.as_ref().filter(|user| !unit.user.is_empty() && **user != unit.user)
    {
        return Some((
            format!("{name} runs as {}, the run user of this node is {user}", unit.user),
            "make them one: run_user, or User= of the unit by {edit}".to_owned(),
        ));
    }
    if let Some(arg) = settings.args.iter().find(|arg| !unit.exec.contains(arg)) {
        // What follows the equals sign may be a secret.
        let arg = arg.split_once('=').map_or(arg.as_str(), |(key, _)| key);
        return Some((
            format!(
                "ExecStart of {name} lacks the start argument {arg:?} of this node, or has it with another value"
            ),
            "write it there by {edit}, or take it out of `args`".to_owned(),
        ));
    }
    let lacks = |key: &&String| unit.variable(key) != settings.env.get(*key).map(String::as_str);
    if let Some(key) = settings.env.keys().find(lacks) {
        return Some((
            format!("{name} does not set the variable {key} of this node, or sets it to something else"),
            "write it into the unit as Environment= by {edit}, or take it out of `env`".to_owned(),
        ));
    }
    None
}

/// A unit whose main process is the script: TERM to it alone orphans java, and KILL follows without its shutdown.
fn stops_wrongly(unit: &UnitFact) -> Option<Complaint> {
    (unit.kind != "forking" && unit.kill_mode != "control-group").then(|| {
        (
            format!(
                "{} has KillMode={}: systemd would end the start script and not stop java",
                unit.name, unit.kill_mode
            ),
            "take the line KillMode= out by {edit}".to_owned(),
        )
    })
}

fn doubt(unit: &UnitFact, settings: &ServiceSettings, has_launch_files: bool) -> Option<Complaint> {
    let name = &unit.name;
    if let Some(timeout) = unit.stop_timeout.filter(|timeout| *timeout < settings.stop_deadline) {
        return Some((
            format!(
                "TimeoutStopSec of {name} is {}, this node's stop deadline {}: systemd would kill a server that is still \
                 finishing its work, without a thread dump",
                Human(timeout),
                Human(settings.stop_deadline)
            ),
            format!("set TimeoutStopSec={}", settings.stop_deadline.as_secs() + 10),
        ));
    }
    if has_launch_files && unit.restart != "no" {
        return Some((
            format!(
                "{name} has Restart={}: a start by systemd itself finds no password file, and the vault stays locked",
                unit.restart
            ),
            "set Restart=no; the agent restarts the server with its password file".to_owned(),
        ));
    }
    None
}

fn names_home(unit: &UnitFact, home: &str) -> bool {
    let home = home.trim_end_matches('/');
    let below = |word: &str| {
        // A shell's `-c` may hold it amid other words.
        word.split([' ', '"', '\'', ';', '='])
            .any(|part| part.strip_prefix(home).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    unit.exec.iter().any(|word| below(word))
        || same(unit.working_directory.trim_start_matches('!'), home)
        || unit.variable("CARBON_HOME").is_some_and(|carbon| same(carbon, home))
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::tests::settings;

    fn good() -> UnitFact {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        UnitFact {
            name: "is.service".to_owned(),
            loaded: "loaded".to_owned(),
            active: "active".to_owned(),
            sub: "running".to_owned(),
            kind: "simple".to_owned(),
            exec: words("/bin/sh /opt/wso2/is/bin/wso2server.sh"),
            environment: Variables(words("JAVA_HOME=/opt/jdk DB=s3cret")),
            user: "wso2carbon".to_owned(),
            kill_mode: "control-group".to_owned(),
            restart: "on-failure".to_owned(),
            stop_timeout: Some(Duration::from_secs(130)),
            ..UnitFact::default()
        }
    }

    #[test]
    fn a_unit_that_would_run_the_server_otherwise_is_refused_with_the_remedy() {
        type Change = fn(&mut UnitFact, &mut ServiceSettings);
        let cases: [(&str, Change); 15] = [
            ("pass is.service is active (running)", |_, _| ()),
            ("fail systemd says that is.service is not-found", |unit, _| unit.loaded = "not-found".into()),
            ("fail systemd says that is.service is masked", |unit, _| unit.loaded = "masked".into()),
            ("fail neither ExecStart nor WorkingDirectory", |_, settings| {
                settings.home = "/opt/wso2/is2".into();
            }),
            ("fail neither ExecStart nor WorkingDirectory", |_, settings| {
                settings.home = "/opt/wso2/i".into();
            }),
            ("pass", |unit, _| {
                unit.exec = vec!["/usr/local/bin/start-is".into()];
                unit.working_directory = "/opt/wso2/is/".into();
            }),
            ("pass", |unit, _| {
                unit.exec = vec!["bash".into(), "-c".into(), "exec '/opt/wso2/is/bin/x.sh'".into()];
            }),
            ("fail is.service sets JAVA_HOME=/opt/jdk, this", |_, settings| {
                settings.java_home = Some("/opt/jdk21".into());
            }),
            ("fail is.service sets CARBON_HOME=/opt/is", |unit, _| {
                unit.environment.0.push("CARBON_HOME=/opt/is".into());
            }),
            ("fail is.service runs as wso2carbon, the", |_, settings| {
                settings.run_user = Some("wso2".into());
            }),
            ("fail ExecStart of is.service lacks the start argument \"-Dprofile\"", |_, settings| {
                settings.args = vec!["-Dprofile=gateway-worker".into()];
            }),
            ("fail is.service does not set the variable DB of", |_, settings| {
                settings.env.insert("DB".into(), "other-s3cret".into());
            }),
            ("fail is.service has KillMode=mixed", |unit, _| unit.kill_mode = "mixed".into()),
            ("pass", |unit, _| {
                unit.kill_mode = "mixed".into();
                unit.kind = "forking".into();
            }),
            ("warn TimeoutStopSec of is.service is 1m30s, this node's stop deadline 2m", |unit, _| {
                unit.stop_timeout = Some(Duration::from_secs(90));
            }),
        ];
        for (expected, change) in cases {
            let (mut unit, mut settings) = (good(), settings());
            change(&mut unit, &mut settings);
            let said = match check(&unit, &settings, false) {
                Outcome::Pass(said) => format!("pass {said}"),
                Outcome::Warn { why, remedy } => format!("warn {why}; {remedy}"),
                Outcome::Fail { why, remedy, .. } => format!("fail {why}; {remedy}"),
                Outcome::Skipped(why) => format!("skipped {why}"),
            };
            assert!(said.starts_with(expected), "{expected}: {said}");
            assert!(!said.contains("s3cret") && !said.contains("{edit}"), "{said}");
            assert!(!format!("{unit:?}").contains("s3cret"));
        }
        let Outcome::Warn { remedy, .. } = check(&good(), &settings(), true) else { panic!("no warning") };
        assert!(remedy.starts_with("set Restart=no"), "{remedy}");
    }

    #[test]
    fn a_unit_is_busy_until_nothing_of_it_lives_or_is_about_to() {
        let states = [
            ("active running", true),
            ("active exited", false),
            ("activating start", true),
            ("activating auto-restart", false),
            ("deactivating stop-sigterm", true),
            ("inactive dead", false),
            ("failed failed", false),
        ];
        for (state, busy) in states {
            let (active, sub) = state.split_once(' ').unwrap();
            let unit = UnitFact { active: active.into(), sub: sub.into(), ..good() };
            assert_eq!(unit.is_busy(), busy, "{state}");
            assert_eq!(unit.restarts_itself(), state.ends_with("auto-restart"), "{state}");
        }
    }
}
