//! From what was found to what is to be done. Pure: reads nothing, writes nothing.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use fleet::ids::FleetName;

/// What was typed, as far as decisions depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Needed while there is no configuration.
    pub(super) fleet: Option<FleetName>,
    /// DNS names and addresses; this host's own name if there is none.
    pub(super) names: Vec<String>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) data_dir: PathBuf,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) config: FoundConfig,
    pub(super) unit: FoundUnit,
    /// Under which this host knows itself, if it has one.
    pub(super) host_name: Option<String>,
    /// Whether root runs this.
    pub(super) is_root: bool,
}

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FoundConfig {
    /// There is none.
    Absent,
    /// As the package ships it: it lacks the name of the fleet.
    Unfinished {
        /// The file.
        text: String,
    },
    /// Complete.
    Usable {
        /// Whose coordinator it is.
        fleet: FleetName,
        /// Names that its certificate carries.
        names: Vec<String>,
        listen: SocketAddr,
        data_dir: PathBuf,
    },
    /// It cannot be used.
    Broken {
        /// Why.
        why: String,
    },
}

/// The unit, as systemd sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundUnit {
    /// No systemd.
    NoSystemd,
    /// The package is not installed.
    NotInstalled,
    /// It is there.
    Installed {
        /// Started with the host.
        enabled: bool,
        active: bool,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) config: ConfigStep,
    pub(super) unit: UnitStep,
    pub(super) data_dir: PathBuf,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

/// The configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConfigStep {
    /// There is none.
    Write(String),
    /// The one of the package lacks what only its operator knows.
    Complete(String),
    Keep,
}

/// The unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitStep {
    /// Enable and start it.
    Start,
    Keep,
    /// Somebody else starts the coordinator here.
    NoSystemd,
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// No fleet.
    #[error(
        "name the fleet with --fleet, as its fleet.toml does; it is part of every certificate and cannot be changed later"
    )]
    NoFleet,
    /// Another fleet.
    #[error("this coordinator keeps the fleet {is}, not {wanted}; a host has one coordinator")]
    OtherFleet {
        /// Of the configuration.
        is: FleetName,
        /// What was typed.
        wanted: FleetName,
    },
    /// No name.
    #[error(
        "say with --name how agents and operators reach this host, for example --name convoy.acme.internal"
    )]
    NoName,
    /// A configuration of somebody else's.
    #[error("{0}; correct the file, or move it away and type this again")]
    Config(String),
    /// No unit.
    #[error(
        "systemd knows no convoy-coordinator.service; install the package convoy-coordinator, or its unit from systemd/"
    )]
    NotInstalled,
    /// Not root.
    #[error("enabling and starting the unit needs root; type this again with sudo")]
    NotRoot,
}

impl Plan {
    /// Whether everything is as it should be.
    pub(super) fn is_empty(&self) -> bool {
        self.config == ConfigStep::Keep && self.unit != UnitStep::Start
    }
}

/// Decides.
pub(super) fn plan(wanted: &Wanted, found: &Found) -> Result<Plan, Refusal> {
    let mut notes = Vec::new();
    let (config, data_dir) = config(wanted, found, &mut notes)?;
    let unit = match found.unit {
        FoundUnit::NoSystemd => UnitStep::NoSystemd,
        FoundUnit::NotInstalled => return Err(Refusal::NotInstalled),
        FoundUnit::Installed { enabled: true, active: true } if config == ConfigStep::Keep => UnitStep::Keep,
        FoundUnit::Installed { .. } if found.is_root => UnitStep::Start,
        FoundUnit::Installed { .. } => return Err(Refusal::NotRoot),
    };
    Ok(Plan { config, unit, data_dir, notes })
}

fn config(wanted: &Wanted, found: &Found, notes: &mut Vec<String>) -> Result<(ConfigStep, PathBuf), Refusal> {
    match &found.config {
        FoundConfig::Broken { why } => Err(Refusal::Config(why.clone())),
        FoundConfig::Absent => {
            let text = Settings::of(wanted, found)?.to_file(&wanted.data_dir);
            Ok((ConfigStep::Write(text), wanted.data_dir.clone()))
        }
        FoundConfig::Unfinished { text } => {
            let text = Settings::of(wanted, found)?.complete(text);
            Ok((ConfigStep::Complete(text), wanted.data_dir.clone()))
        }
        FoundConfig::Usable { fleet, names, listen, data_dir } => {
            if let Some(other) = wanted.fleet.as_ref().filter(|wanted| *wanted != fleet) {
                return Err(Refusal::OtherFleet { is: fleet.clone(), wanted: other.clone() });
            }
            for name in wanted.names.iter().filter(|name| !names.contains(name)) {
                notes.push(format!("the configuration is kept; its `names` do not have {name}"));
            }
            if wanted.listen.is_some_and(|wanted| wanted != *listen) {
                notes.push(format!("the configuration is kept; it listens on {listen}"));
            }
            Ok((ConfigStep::Keep, data_dir.clone()))
        }
    }
}

/// What set-up writes into a configuration.
struct Settings {
    fleet: String,
    listen: String,
    names: String,
}

impl Settings {
    fn of(wanted: &Wanted, found: &Found) -> Result<Self, Refusal> {
        let fleet = wanted.fleet.as_ref().ok_or(Refusal::NoFleet)?;
        let names = match wanted.names.as_slice() {
            [] => vec![found.host_name.clone().ok_or(Refusal::NoName)?],
            names => names.to_vec(),
        };
        let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        // Others have to reach it.
        let listen = wanted.listen.map_or_else(|| "0.0.0.0:7843".to_owned(), |listen| listen.to_string());
        Ok(Self {
            fleet: format!("fleet = {}", quoted(fleet.as_str())),
            listen: format!("listen = {}", quoted(&listen)),
            names: format!("names = [{}]", names.join(", ")),
        })
    }

    fn to_file(&self, data_dir: &Path) -> String {
        let data_dir = quoted(&data_dir.display().to_string());
        format!(
            "# Written by `convoy-coordinator setup`; docs/coordinator.md explains every key.\n{}\ndata_dir = {data_dir}\n{}\n{}\n",
            self.fleet, self.listen, self.names
        )
    }

    /// The package's file, with these in the place of the lines that stand for them. What has no such line comes first,
    /// before any table.
    fn complete(&self, text: &str) -> String {
        let mut missing = vec![
            ("fleet", self.fleet.clone()),
            ("listen", self.listen.clone()),
            ("names", self.names.clone()),
        ];
        let mut lines = Vec::new();
        for line in text.lines() {
            let uncommented = line.trim_start_matches(['#', ' ']);
            let key = uncommented.split_once(" =").map(|(key, _)| key);
            match missing.iter().position(|(name, _)| Some(*name) == key) {
                Some(at) => lines.push(missing.remove(at).1),
                None => lines.push(line.to_owned()),
            }
        }
        let first = missing.into_iter().map(|(_, line)| line);
        first.chain(lines).collect::<Vec<_>>().join("\n") + "\n"
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn fleet(name: &str) -> FleetName {
        FleetName::parse(name).unwrap()
    }

    fn wanted() -> Wanted {
        Wanted {
            fleet: Some(fleet("acme")),
            names: vec!["convoy.acme.internal".to_owned()],
            listen: None,
            data_dir: "/var/lib/convoy-coordinator".into(),
        }
    }

    fn fresh() -> Found {
        Found {
            config: FoundConfig::Absent,
            unit: FoundUnit::Installed { enabled: false, active: false },
            host_name: Some("host-7".to_owned()),
            is_root: true,
        }
    }

    fn set_up() -> Found {
        let config = FoundConfig::Usable {
            fleet: fleet("acme"),
            names: vec!["convoy.acme.internal".to_owned()],
            listen: "0.0.0.0:7843".parse().unwrap(),
            data_dir: "/srv/convoy".into(),
        };
        Found { config, unit: FoundUnit::Installed { enabled: true, active: true }, ..fresh() }
    }

    fn written(plan: &Plan) -> Config {
        match &plan.config {
            ConfigStep::Write(text) | ConfigStep::Complete(text) => Config::parse(text).unwrap(),
            ConfigStep::Keep => panic!("{plan:?}"),
        }
    }

    #[test]
    fn a_fresh_host_gets_a_coordinator_that_others_reach() {
        let plan = plan(&wanted(), &fresh()).unwrap();
        let config = written(&plan);
        assert_eq!((config.fleet.as_str(), config.listen.to_string()), ("acme", "0.0.0.0:7843".to_owned()));
        assert_eq!(config.dial_address(config.listen), "convoy.acme.internal:7843");
        assert_eq!((plan.unit, plan.is_empty()), (UnitStep::Start, false));
        // Without a name it is this host's own.
        let unnamed =
            Wanted { names: Vec::new(), listen: Some("10.0.0.7:7900".parse().unwrap()), ..wanted() };
        let config = written(&super::plan(&unnamed, &fresh()).unwrap());
        assert_eq!(config.dial_address(config.listen), "host-7:7900");
    }

    #[test]
    fn the_file_of_the_package_is_completed_and_keeps_its_comments() {
        let shipped = include_str!("../../../examples/coordinator.toml").replace("\nfleet =", "\n# fleet =");
        let found = Found { config: FoundConfig::Unfinished { text: shipped.clone() }, ..fresh() };
        let plan = plan(&wanted(), &found).unwrap();
        let ConfigStep::Complete(text) = &plan.config else { panic!("{plan:?}") };
        assert_eq!(text.lines().count(), shipped.lines().count(), "each line has its place");
        let config = written(&plan);
        assert_eq!(config.dial_address(config.listen), "convoy.acme.internal:7843");
        assert_eq!(config.data_dir, PathBuf::from("/var/lib/convoy-coordinator"));
        let bare = FoundConfig::Unfinished { text: "data_dir = '/x'\n[log]\nlevel = 'warn'\n".to_owned() };
        let plan = super::plan(&wanted(), &Found { config: bare, ..fresh() }).unwrap();
        assert_eq!(written(&plan).names.len(), 1);
    }

    #[test]
    fn a_coordinator_that_was_set_up_is_kept_and_differences_are_told() {
        let nothing = Wanted { fleet: None, names: Vec::new(), ..wanted() };
        let kept = plan(&nothing, &set_up()).unwrap();
        assert!(kept.is_empty() && kept.notes.is_empty(), "{kept:?}");
        assert_eq!(kept.data_dir, PathBuf::from("/srv/convoy"), "its own");
        let other = Wanted {
            names: vec!["other.acme.internal".to_owned()],
            listen: Some("127.0.0.1:7843".parse().unwrap()),
            ..wanted()
        };
        let kept = plan(&other, &set_up()).unwrap();
        assert!(kept.is_empty() && kept.notes.len() == 2, "{kept:?}");
        let stopped = Found { unit: FoundUnit::Installed { enabled: true, active: false }, ..set_up() };
        assert_eq!(
            plan(&nothing, &stopped).map(|plan| plan.unit),
            Ok(UnitStep::Start),
            "a second run repairs"
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_before_anything_is() {
        let broken = FoundConfig::Broken { why: "line 3".to_owned() };
        let unnamed = Wanted { names: Vec::new(), ..wanted() };
        for (wanted, found, refusal) in [
            (Wanted { fleet: None, ..wanted() }, fresh(), Refusal::NoFleet),
            (unnamed, Found { host_name: None, ..fresh() }, Refusal::NoName),
            (wanted(), Found { config: broken, ..fresh() }, Refusal::Config("line 3".to_owned())),
            (wanted(), Found { unit: FoundUnit::NotInstalled, ..fresh() }, Refusal::NotInstalled),
            (wanted(), Found { is_root: false, ..fresh() }, Refusal::NotRoot),
            (
                Wanted { fleet: Some(fleet("other")), ..wanted() },
                set_up(),
                Refusal::OtherFleet { is: fleet("acme"), wanted: fleet("other") },
            ),
        ] {
            assert_eq!(plan(&wanted, &found), Err(refusal));
        }
        let bare = Found { unit: FoundUnit::NoSystemd, is_root: false, ..fresh() };
        assert_eq!(plan(&wanted(), &bare).map(|plan| plan.unit), Ok(UnitStep::NoSystemd));
    }
}
