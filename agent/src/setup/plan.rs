//! From what was found to what is to be done. Pure: reads nothing, writes nothing.

use std::{fmt, path::PathBuf};

use fleet::ids::NodeName;

use super::found::{Account, Found, FoundConfig, FoundHome, FoundIdentity, FoundUnit};

/// What was asked for, as far as decisions depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) homes: Vec<String>,
    pub(super) java_home: Option<PathBuf>,
    pub(super) data_dir: PathBuf,
    /// Whom a token was brought for.
    pub(super) token: Option<NodeName>,
}

/// Everything that is to be done, one thing after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) home: FoundHome,
    pub(super) config: ConfigStep,
    pub(super) data_dir: PathBuf,
    pub(super) enrolment: EnrolmentStep,
    pub(super) drop_in: DropInStep,
    pub(super) unit: UnitStep,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

/// The configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConfigStep {
    /// There is none.
    Write(String),
    /// The one of the package lacks what only this host knows.
    Complete(String),
    Keep,
}

/// The certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EnrolmentStep {
    Enrol {
        /// As whom.
        node: NodeName,
    },
    Keep {
        /// As whom this host joined.
        node: String,
    },
    /// There is nothing to enrol with.
    NeedsToken {
        /// Why one is needed.
        why: String,
    },
}

/// As whom the unit runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DropInStep {
    Write(String),
    Keep,
}

/// The units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UnitStep {
    /// Enable and start them.
    Start,
    /// Enable them; the agent runs with something that is changed now.
    Restart,
    Keep,
    /// Somebody else starts the agent here.
    NoSystemd,
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// No home.
    #[error(
        "there is no WSO2 home here: no server runs, and there is none in /opt/wso2/* or /opt/wso2*; name it with --home"
    )]
    NoHome,
    /// Too many.
    #[error("there are several WSO2 homes here; name one with --home: {}", .0.join(", "))]
    ManyHomes(Vec<String>),
    /// Something else.
    #[error(
        "{0} holds no WSO2 product: it has no bin and repository/conf; unpack the product there, or name another with --home"
    )]
    NoPack(String),
    /// Not absolute.
    #[error("{0:?} is relative; write it absolute")]
    Relative(String),
    /// A configuration of somebody else's.
    #[error("{0}; correct the file, or move it away and type this again")]
    Config(String),
    /// No token.
    #[error(
        "{0}; make one with `convoy token create --node NAME` and give it with --token-file FILE, or - for standard input"
    )]
    NoToken(String),
    /// A token of another node.
    #[error(
        "this host is node {is}, and the token is for {token}; to make it another node, use `convoy-agent enroll`"
    )]
    OtherNode {
        /// As whom it joined.
        is: String,
        /// Of the token.
        token: NodeName,
    },
    /// No unit.
    #[error(
        "systemd knows no convoy-agent.service; install the package convoy-agent, or its unit from systemd/"
    )]
    NotInstalled,
    /// Not root.
    #[error("{0} needs root; type this again with sudo")]
    NotRoot(&'static str),
}

impl Plan {
    /// Whether everything is as it should be.
    pub(super) fn is_empty(&self) -> bool {
        self.config == ConfigStep::Keep
            && matches!(self.enrolment, EnrolmentStep::Keep { .. })
            && self.drop_in == DropInStep::Keep
            && matches!(self.unit, UnitStep::Keep | UnitStep::NoSystemd)
    }

    /// Why it cannot be carried out by this user, although it could be by another or with a token.
    pub(super) fn obstacle(&self, user: u32) -> Option<Refusal> {
        let is_root = user == 0;
        if matches!(self.unit, UnitStep::Start | UnitStep::Restart) && !is_root {
            return Some(Refusal::NotRoot("enabling and starting the units"));
        }
        if self.home.owner.user_id != user && !is_root && !self.is_empty() {
            return Some(Refusal::NotRoot("writing files for the owner of the home"));
        }
        // Last: whoever may not read the agent's files cannot tell whether this host has joined.
        match &self.enrolment {
            EnrolmentStep::NeedsToken { why } => Some(Refusal::NoToken(why.clone())),
            EnrolmentStep::Enrol { .. } | EnrolmentStep::Keep { .. } => None,
        }
    }
}

/// Decides.
pub(super) fn plan(wanted: &Wanted, found: &Found) -> Result<Plan, Refusal> {
    let mut notes = Vec::new();
    let home = home(wanted, found)?;
    let (config, data_dir) = config(wanted, found, &home, &mut notes)?;
    let enrolment = enrolment(wanted, &found.identity)?;
    let run_user = match &found.config {
        FoundConfig::Usable(usable) => usable.run_user.clone(),
        FoundConfig::Absent | FoundConfig::Unfinished { .. } | FoundConfig::Broken { .. } => None,
    };
    let drop_in = match run_user {
        // Only root starts servers as somebody else.
        Some(_) => drop_in("root", None, &found.unit),
        None => drop_in(&home.owner.user, home.owner.group.as_deref(), &found.unit),
    };
    if home.owner.user_id == 0 {
        notes.push(format!(
            "{} belongs to root, so agent and server run as root; `chown -R wso2carbon:wso2 {}` and a second set-up change that",
            home.path, home.path
        ));
    }
    if wanted.token.is_some() && matches!(enrolment, EnrolmentStep::Keep { .. }) {
        notes.push("this host joined before, so the token was not used".to_owned());
    }
    let is_changed = config != ConfigStep::Keep
        || drop_in != DropInStep::Keep
        || !matches!(enrolment, EnrolmentStep::Keep { .. });
    let unit = unit(&found.unit, is_changed)?;
    Ok(Plan { home, config, data_dir, enrolment, drop_in, unit, notes })
}

/// The one home that this agent is for.
fn home(wanted: &Wanted, found: &Found) -> Result<FoundHome, Refusal> {
    if let Some(home) = wanted.homes.iter().find(|home| !home.starts_with('/')) {
        return Err(Refusal::Relative(home.clone()));
    }
    if let Some(home) = found.homes.iter().find(|home| !home.is_pack) {
        return Err(Refusal::NoPack(home.path.clone()));
    }
    let is_configured = matches!(found.config, FoundConfig::Usable(_)) || !wanted.homes.is_empty();
    let running: Vec<&FoundHome> = found.homes.iter().filter(|home| home.server.is_some()).collect();
    match (found.homes.as_slice(), running.as_slice()) {
        ([], _) => Err(Refusal::NoHome),
        ([home], _) => Ok(home.clone()),
        (_, [home]) => Ok((*home).clone()),
        // Whoever has written down several means all of them; the first one says who owns them.
        ([first, ..], _) if is_configured => Ok(first.clone()),
        (several, _) => Err(Refusal::ManyHomes(several.iter().map(|home| home.path.clone()).collect())),
    }
}

fn config(
    wanted: &Wanted,
    found: &Found,
    home: &FoundHome,
    notes: &mut Vec<String>,
) -> Result<(ConfigStep, PathBuf), Refusal> {
    let settings = || {
        let homes = if wanted.homes.is_empty() { vec![home.path.clone()] } else { wanted.homes.clone() };
        Settings { homes, java_home: java_home(wanted, found, home), unit: unit_of(home) }
    };
    let without_java = "no JDK was found; name one with --java-home, or `java_home` in the fleet directory";
    match &found.config {
        FoundConfig::Broken { why } => Err(Refusal::Config(why.clone())),
        FoundConfig::Absent => {
            let settings = settings();
            notes.extend(settings.java_home.is_none().then(|| without_java.to_owned()));
            Ok((ConfigStep::Write(settings.to_file(&wanted.data_dir)), wanted.data_dir.clone()))
        }
        FoundConfig::Unfinished { text } => {
            let settings = settings();
            notes.extend(settings.java_home.is_none().then(|| without_java.to_owned()));
            Ok((ConfigStep::Complete(settings.complete(text)), wanted.data_dir.clone()))
        }
        FoundConfig::Usable(usable) => {
            let plain = |home: &String| home.trim_end_matches('/').to_owned();
            let kept: Vec<String> = usable.homes.iter().map(plain).collect();
            if let Some(other) = wanted.homes.iter().find(|home| !kept.contains(&plain(home))) {
                notes.push(format!("the configuration is kept; its `homes` do not name {other}"));
            }
            if let Some(java) = &wanted.java_home
                && usable.java_home.as_ref() != Some(java)
            {
                notes.push(format!("the configuration is kept; its `java_home` is not {}", java.display()));
            }
            Ok((ConfigStep::Keep, usable.data_dir.clone()))
        }
    }
}

fn java_home(wanted: &Wanted, found: &Found, home: &FoundHome) -> Option<PathBuf> {
    let running = home.server.as_ref().and_then(|server| server.jdk.clone());
    wanted.java_home.clone().or(running).or_else(|| found.jdks.first().cloned())
}

fn unit_of(home: &FoundHome) -> Option<(String, String)> {
    let unit = home.server.as_ref()?.unit.clone()?;
    Some((home.path.clone(), unit))
}

/// What set-up writes into a configuration.
struct Settings {
    homes: Vec<String>,
    java_home: Option<PathBuf>,
    /// The unit of systemd that runs a home's server.
    unit: Option<(String, String)>,
}

impl Settings {
    fn homes(&self) -> String {
        let homes: Vec<String> = self.homes.iter().map(|home| quoted(home)).collect();
        format!("homes = [{}]", homes.join(", "))
    }

    fn java_home(&self) -> Option<String> {
        let java = self.java_home.as_ref()?;
        Some(format!("java_home = {}", quoted(&java.display().to_string())))
    }

    fn to_file(&self, data_dir: &std::path::Path) -> String {
        let data_dir = format!("data_dir = {}", quoted(&data_dir.display().to_string()));
        let mut lines = vec![
            "# Written by `convoy-agent setup`; docs/agent.md explains every key.".to_owned(),
            data_dir,
            self.homes(),
        ];
        lines.extend(self.java_home());
        if let Some((home, unit)) = &self.unit {
            lines.push("\n[units]".to_owned());
            lines.push(format!("{} = {}", quoted(home), quoted(unit)));
        }
        lines.join("\n") + "\n"
    }

    /// The package's file with what is missing in the place of the comment that stands for it.
    fn complete(&self, text: &str) -> String {
        let mut missing: Vec<(&str, String)> = vec![("homes =", self.homes())];
        if !text.lines().any(|line| line.starts_with("java_home =")) {
            missing.extend(self.java_home().map(|line| ("java_home =", line)));
        }
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            let uncommented = line.trim_start_matches(['#', ' ']);
            let stands_for =
                missing.iter().position(|(key, _)| line.starts_with('#') && uncommented.starts_with(key));
            match stands_for {
                Some(at) => lines.push(missing.remove(at).1),
                None => lines.push(line.to_owned()),
            }
        }
        // Before any table.
        let mut whole: Vec<String> = missing.into_iter().map(|(_, line)| line).collect();
        whole.append(&mut lines);
        if let Some((home, unit)) = &self.unit {
            let entry = format!("{} = {}", quoted(home), quoted(unit));
            match whole.iter().position(|line| line.starts_with("[units]")) {
                Some(at) => whole.insert(at + 1, entry),
                None => whole.push(format!("\n[units]\n{entry}")),
            }
        }
        whole.join("\n") + "\n"
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn enrolment(wanted: &Wanted, identity: &FoundIdentity) -> Result<EnrolmentStep, Refusal> {
    match (identity, &wanted.token) {
        (FoundIdentity::Of { node }, Some(token)) if token.as_str() != node => {
            Err(Refusal::OtherNode { is: node.clone(), token: token.clone() })
        }
        (FoundIdentity::Of { node }, _) => Ok(EnrolmentStep::Keep { node: node.clone() }),
        (FoundIdentity::None | FoundIdentity::Spent { .. }, Some(token)) => {
            Ok(EnrolmentStep::Enrol { node: token.clone() })
        }
        (FoundIdentity::None, None) => {
            Ok(EnrolmentStep::NeedsToken { why: "this host has not joined and needs a token".to_owned() })
        }
        (FoundIdentity::Spent { why }, None) => Ok(EnrolmentStep::NeedsToken { why: why.clone() }),
    }
}

fn drop_in(user: &str, group: Option<&str>, unit: &FoundUnit) -> DropInStep {
    let FoundUnit::Installed { user: has, group: in_group, .. } = unit else { return DropInStep::Keep };
    let is_group = match group {
        Some(group) => group == in_group,
        // The user's own; whoever wrote another one down has had a reason.
        None => true,
    };
    if user == has && is_group {
        return DropInStep::Keep;
    }
    let mut text =
        format!("# Written by `convoy-agent setup`: the owner of the home.\n[Service]\nUser={user}\n");
    if let Some(group) = group {
        text.push_str(&format!("Group={group}\n"));
    }
    DropInStep::Write(text)
}

fn unit(unit: &FoundUnit, is_changed: bool) -> Result<UnitStep, Refusal> {
    match unit {
        FoundUnit::NoSystemd => Ok(UnitStep::NoSystemd),
        FoundUnit::NotInstalled => Err(Refusal::NotInstalled),
        FoundUnit::Installed { active: true, .. } if is_changed => Ok(UnitStep::Restart),
        FoundUnit::Installed { active: true, enabled: true, .. } => Ok(UnitStep::Keep),
        FoundUnit::Installed { .. } => Ok(UnitStep::Start),
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => f.write_str(&self.user),
        }
    }
}
