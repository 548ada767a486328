//! Files that the product generates, compared with what the product itself recorded when it wrote them.
//!
//! The config-mapper keeps the MD5 of every output in `repository/resources/conf/.metadata/metadata_config.properties`
//! and decides by it at the next start. So a hand edit is not restored by Convoy: it is reported with what the next
//! start will do to it. Called by the engine with what the agent read; the agent computes the MD5s of the files now.

use std::{collections::BTreeMap, fmt};

use crate::{bundle::HomePath, observed::DriftKind};

mod properties;

pub use properties::parse as parse_properties;

/// Where the product records what it generated, below home.
pub const RECORD: &str = "repository/resources/conf/.metadata/metadata_config.properties";
/// The directory of both records, below home. Without it the product makes everything anew at the next start.
pub const RECORD_DIR: &str = "repository/resources/conf/.metadata";
/// Where the product records the values of `$env{}` and `$sys{}` in clear, below home.
pub const REFERENCES: &str = "repository/resources/conf/.metadata/references.properties";

/// MD5 (lower-case hexadecimal) of each output as the product wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded(pub BTreeMap<HomePath, String>);

impl Recorded {
    /// The MD5 of the deployment.toml that the last start read, if the record names it.
    pub fn config(text: &str, config: &HomePath) -> Option<String> {
        let mut entries = properties::parse(text).into_iter();
        let (_, md5) = entries.find(|(key, _)| key.replace('\\', "/") == config.as_str())?;
        Some(md5.trim().to_ascii_lowercase())
    }

    /// Reads the record's text. `config` is deployment.toml, which is recorded as well but is input, not output.
    /// Entries that are no path below home are left out: the mapper never writes such.
    pub fn parse(text: &str, config: &HomePath) -> Self {
        let entries = properties::parse(text).into_iter().filter_map(|(key, md5)| {
            // On Windows the mapper records with backslashes.
            let path = HomePath::parse(&key.replace('\\', "/")).ok()?;
            (path != *config).then(|| (path, md5.trim().to_ascii_lowercase()))
        });
        Self(entries.collect())
    }
}

/// What a look at a home found. The agent fills it in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// What the product recorded; empty if there is no record.
    pub recorded: Recorded,
    /// The MD5 of each recorded file now, `None` where it is gone; without those that could not be read.
    pub now: BTreeMap<HomePath, Option<String>>,
    /// Values in clear that others can read.
    pub residue: Option<SecretResidue>,
}

/// How the configuration step of the next start will treat generated files, by the server's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConfigStep {
    /// Every recorded hash is compared.
    #[default]
    Checked,
    /// `-DforceConfigUpdate=true`: written anew whatever is there.
    Forced,
    /// `-DavoidConfigHashRead=true`: only the hash of deployment.toml is compared.
    ConfigHashOnly,
    /// `-DavoidConfigUpdate=true`: skipped altogether.
    Skipped,
}

impl ConfigStep {
    /// From start arguments and the words of `JAVA_OPTS` together; a later setting of the same property wins, as in
    /// Java.
    pub fn of<'a>(args: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut skipped, mut forced, mut config_only) = (false, false, false);
        for arg in args {
            let Some((name, value)) = arg.trim().strip_prefix("-D").and_then(|arg| arg.split_once('='))
            else {
                continue;
            };
            let value = value.eq_ignore_ascii_case("true");
            match name {
                "avoidConfigUpdate" => skipped = value,
                "forceConfigUpdate" => forced = value,
                "avoidConfigHashRead" => config_only = value,
                _ => {}
            }
        }
        match (skipped, forced, config_only) {
            (true, _, _) => ConfigStep::Skipped,
            (_, true, _) => ConfigStep::Forced,
            (_, _, true) => ConfigStep::ConfigHashOnly,
            _ => ConfigStep::Checked,
        }
    }
}

/// What becomes of a difference at the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextStart {
    /// The edit is lost: the file is written anew.
    Doomed,
    /// The edit stays, because the check is switched off.
    Survives,
    /// The start fails with `Error while reading metadata` and exit status 1.
    Stops,
    /// The file is written anew and all is well.
    Remade,
    /// The server starts without the file.
    StaysAway,
}

impl NextStart {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            NextStart::Doomed => "doomed at next start",
            NextStart::Survives => "survives",
            NextStart::Stops => "will stop the next start",
            NextStart::Remade => "made again at next start",
            NextStart::StaysAway => "stays away",
        }
    }
}

impl fmt::Display for NextStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A generated file that is not as the product left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedDrift {
    /// Which one.
    pub path: HomePath,
    /// [`DriftKind::GeneratedEdited`] or [`DriftKind::GeneratedDeleted`].
    pub kind: DriftKind,
    /// What becomes of it.
    pub next_start: NextStart,
}

impl GeneratedDrift {
    /// For people: what is and what comes of it.
    pub fn detail(&self) -> String {
        let path = &self.path;
        match self.next_start {
            NextStart::Doomed => {
                format!(
                    "{path} is generated and was edited by hand: {}, with all generated files",
                    self.next_start
                )
            }
            NextStart::Survives => {
                format!(
                    "{path} is generated and was edited by hand: the edit {} the next start",
                    self.next_start
                )
            }
            NextStart::Stops => {
                format!(
                    "{path} is generated and was deleted: this {} (Error while reading metadata)",
                    self.next_start
                )
            }
            NextStart::Remade => format!("{path} is generated and was deleted: {}", self.next_start),
            NextStart::StaysAway => {
                format!("{path} is generated and was deleted: the next start does not make it again")
            }
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self.next_start {
            NextStart::Doomed => {
                "put the change into a layer of the fleet, or into the template that makes this file"
                    .to_owned()
            }
            NextStart::Survives => {
                "put the change into a layer: the edit is lost with the next change of deployment.toml"
                    .to_owned()
            }
            NextStart::Stops => format!(
                "`convoy drift restore` brings it back from backup/{}, and the agent does so by itself before a restart; \
                 where backup/ does not hold it, delete repository/resources/conf/.metadata before the next start",
                self.path
            ),
            NextStart::Remade => "nothing".to_owned(),
            NextStart::StaysAway => {
                format!(
                    "`convoy drift restore` brings it back from backup/{}; or start once with -DforceConfigUpdate=true",
                    self.path
                )
            }
        }
    }
}

/// The differences between the record and the files now. `now` holds the MD5 of each recorded path, `None` where the
/// file is gone; a path that `now` leaves out was not looked at and is not judged.
pub fn compare(
    recorded: &Recorded,
    now: &BTreeMap<HomePath, Option<String>>,
    step: ConfigStep,
) -> Vec<GeneratedDrift> {
    let judge = |(path, then): (&HomePath, &String)| {
        let (kind, next_start) = match now.get(path)? {
            Some(now) if now.eq_ignore_ascii_case(then) => return None,
            Some(_) => (DriftKind::GeneratedEdited, edited(step)),
            None => (DriftKind::GeneratedDeleted, deleted(step)),
        };
        Some(GeneratedDrift { path: path.clone(), kind, next_start })
    };
    recorded.0.iter().filter_map(judge).collect()
}

const fn edited(step: ConfigStep) -> NextStart {
    match step {
        ConfigStep::Checked | ConfigStep::Forced => NextStart::Doomed,
        ConfigStep::ConfigHashOnly | ConfigStep::Skipped => NextStart::Survives,
    }
}

const fn deleted(step: ConfigStep) -> NextStart {
    match step {
        ConfigStep::Checked => NextStart::Stops,
        ConfigStep::Forced => NextStart::Remade,
        ConfigStep::ConfigHashOnly | ConfigStep::Skipped => NextStart::StaysAway,
    }
}

/// Values of `$env{}` and `$sys{}` that lie in clear where others can read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretResidue {
    /// Permission bits of the file.
    pub mode: u32,
    /// `env:NAME` or `sys:name` of what is in it; never the values.
    pub names: Vec<String>,
}

impl SecretResidue {
    /// For people.
    pub fn detail(&self) -> String {
        format!(
            "{REFERENCES} holds the value of {} in clear and others can read it (mode {:04o})",
            self.names.join(", "),
            self.mode
        )
    }

    /// What to do about it. The product writes the file in place, so the mode stays.
    pub fn remedy(&self) -> String {
        format!("chmod 600 {REFERENCES}")
    }
}

/// Judges the references record: its text and permission bits. `None` if it holds nothing, or only its owner can
/// read it.
pub fn secret_residue(text: &str, mode: u32) -> Option<SecretResidue> {
    let names: Vec<String> = properties::parse(text).into_keys().collect();
    let open = mode & 0o077 != 0;
    (open && !names.is_empty()).then_some(SecretResidue { mode: mode & 0o7777, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD_TEXT: &str = "#Tue Nov 04 09:12:44 UTC 2025\n\
        repository/conf/carbon.xml=0CC175B9C0F1B6A831C399E269772661\n\
        repository/deployment/server/webapps/api\\#am\\#gateway\\#v2/WEB-INF/web.xml=92eb5ffee6ae2fec3ad71c777531578f\n\
        repository/conf/a\\ b\\:c.xml=4a8a08f09d37b73795649038408b5f33\n\
        repository\\\\conf\\\\tomcat\\\\web.xml=8277e0910d750195b448797616e091ad\n\
        repository/conf/deployment.toml=e1671797c52e15f763380b45e841ec32\n";

    fn path(text: &str) -> HomePath {
        HomePath::parse(text).unwrap()
    }

    fn recorded() -> Recorded {
        Recorded::parse(RECORD_TEXT, &path("repository/conf/deployment.toml"))
    }

    #[test]
    fn the_record_is_read_with_its_escapes_and_without_its_input() {
        let recorded = recorded();
        let paths: Vec<&str> = recorded.0.keys().map(HomePath::as_str).collect();
        // A colon is no character of a path below home, so that entry is not ours to judge.
        assert_eq!(
            paths,
            [
                "repository/conf/carbon.xml",
                "repository/conf/tomcat/web.xml",
                "repository/deployment/server/webapps/api#am#gateway#v2/WEB-INF/web.xml",
            ]
        );
        assert_eq!(recorded.0[&path("repository/conf/carbon.xml")], "0cc175b9c0f1b6a831c399e269772661");
    }

    fn said(args: &[&str]) -> Vec<String> {
        let now = BTreeMap::from([
            (path("repository/conf/carbon.xml"), Some("ffffffffffffffffffffffffffffffff".to_owned())),
            (path("repository/conf/tomcat/web.xml"), None),
            (
                path("repository/deployment/server/webapps/api#am#gateway#v2/WEB-INF/web.xml"),
                Some("92eb5ffee6ae2fec3ad71c777531578f".to_owned()),
            ),
        ]);
        let step = ConfigStep::of(args.iter().copied());
        compare(&recorded(), &now, step)
            .iter()
            .map(|it| format!("{} {} {}", it.path.file_name(), it.kind.as_str(), it.next_start))
            .collect()
    }

    #[test]
    fn an_edit_is_doomed_and_a_deletion_stops_the_next_start() {
        assert_eq!(
            said(&[]),
            [
                "carbon.xml generated-edited doomed at next start",
                "web.xml generated-deleted will stop the next start",
            ]
        );
        assert_eq!(said(&["-DavoidConfigUpdate=false", "-DavoidConfigUpdate"]), said(&[]));
        // These two are often named, and do not exist.
        assert_eq!(said(&["-DavoidConfigurationUpdate=true", "-DoverrideConfig=true"]), said(&[]));
    }

    #[test]
    fn where_the_check_is_switched_off_edits_survive() {
        for flag in ["-DavoidConfigUpdate=true", "-DavoidConfigHashRead=TRUE"] {
            assert_eq!(
                said(&[flag]),
                ["carbon.xml generated-edited survives", "web.xml generated-deleted stays away"],
                "{flag}"
            );
        }
        assert_eq!(
            said(&["-DforceConfigUpdate=true", "-DavoidConfigHashRead=true"]),
            [
                "carbon.xml generated-edited doomed at next start",
                "web.xml generated-deleted made again at next start",
            ]
        );
    }

    #[test]
    fn a_file_that_was_not_looked_at_is_not_judged() {
        assert_eq!(compare(&recorded(), &BTreeMap::new(), ConfigStep::Checked), []);
    }

    #[test]
    fn a_deleted_file_comes_with_both_remedies() {
        let drift = GeneratedDrift {
            path: path("repository/conf/carbon.xml"),
            kind: DriftKind::GeneratedDeleted,
            next_start: NextStart::Stops,
        };
        assert!(drift.remedy().contains("backup/repository/conf/carbon.xml"), "{}", drift.remedy());
        assert!(drift.remedy().contains(".metadata"), "{}", drift.remedy());
        assert!(drift.detail().contains("Error while reading metadata"), "{}", drift.detail());
    }

    #[test]
    fn resolved_values_that_others_can_read_are_named_but_not_shown() {
        let text = "#date\nenv\\:DB_PASSWORD=geheim\nsys\\:node=a\n";
        let residue = secret_residue(text, 0o100_644).unwrap();
        assert_eq!(residue.names, ["env:DB_PASSWORD", "sys:node"]);
        let said = format!("{residue:?}{}{}", residue.detail(), residue.remedy());
        assert!(said.contains("mode 0644") && !said.contains("geheim"), "{said}");
        assert_eq!(secret_residue(text, 0o100_600), None);
        assert_eq!(secret_residue("#date\n", 0o100_644), None);
    }
}
