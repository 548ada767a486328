//! `convoy-agent doctor`: what stands in the way, before anybody applies anything.

use std::{fmt, path::Path};

use fleet::node::Placed;

use crate::{cache::Cache, config::Config, identity::Store, journal::Journal, preflight::Subject};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: String,
    /// What is wrong and what would help, if something is.
    pub problem: Option<String>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => write!(f, "ok    {}", self.name),
            Some(problem) => write!(f, "FAIL  {}: {problem}", self.name),
        }
    }
}

/// Looks at everything that can be looked at without a bundle.
pub fn examine(config: &Config) -> Vec<Check> {
    let check = |name: String, problem: Option<String>| Check { name, problem };
    let mut checks = vec![check(
        format!("data directory {}", config.data_dir.display()),
        crate::private::create_dir(&config.data_dir).err().map(|error| error.to_string()),
    )];
    let identity = Store::of(&config.data_dir).read(0).err().map(|error| crate::chain(&error));
    checks.push(check("certificate of this node".to_owned(), identity));
    for home in &config.homes {
        let path = Path::new(home);
        let missing = !path.join("repository/conf").is_dir();
        let problem = missing.then(|| "no WSO2 pack: repository/conf is missing".to_owned());
        checks.push(check(format!("home {home}"), problem));
    }
    if let Some(java_home) = &config.java_home {
        let missing = !java_home.join("bin/java").is_file();
        let problem = missing.then(|| "bin/java is missing".to_owned());
        checks.push(check(format!("java_home {}", java_home.display()), problem));
    }
    checks
}

/// The server whose files are in force, or else the one that is assigned, for the preflight of what is on disk.
///
/// # Errors
/// There is none yet, or what is known of it cannot be read.
pub fn server(config: &Config) -> Result<Subject, String> {
    let memory = Journal::of(&config.data_dir).read().map_err(|error| crate::chain(&error))?;
    let assigned = memory.assignment.as_ref().map(Placed::from);
    let placed = memory.written.or(assigned).ok_or("no bundle has come to this node yet")?;
    let cache = Cache::open(&config.data_dir).map_err(|error| error.to_string())?;
    let bundle = cache.bundle(&placed.content).ok_or("the bundle in force is not kept here")?;
    let java_home = config.java_home.as_ref().map(|path| path.display().to_string());
    let mut subject = Subject::on_disk(bundle.service.clone());
    subject.site = config.site();
    subject.unit = config.units().of(&bundle.service.home).cloned();
    subject.has_launch_files = bundle.launch_files().next().is_some();
    Ok(subject.with_defaults(java_home.as_deref(), config.run_user.as_deref()))
}
