//! `convoy-agent doctor`: what stands in the way, before anybody applies anything. Works beside a running agent.

use std::{
    io::{self, Write},
    path::Path,
};

use fleet::{
    node::Placed,
    observed::RefusalReason,
    preflight::{
        Check, Outcome,
        facts::{ClockSkew, Seen},
        unit,
    },
};

use crate::{
    cache::Cache,
    config::Config,
    identity::Store,
    journal::Journal,
    link, platform,
    preflight::{self, Subject},
    wall_clock,
};

/// Prints everything that was looked at, and says whether nothing speaks against running the server here.
///
/// # Errors
/// `out` cannot be written.
pub async fn run(config: &Config, logins: Logins, out: &mut dyn Write) -> io::Result<bool> {
    print(&look(config, logins).await, out)
}

/// Whether databases are logged in to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logins {
    /// If the fleet asks for it.
    AsDeclared,
    /// Whatever the fleet asks for.
    Always,
}

/// Everything that can be looked at here now.
pub async fn look(config: &Config, logins: Logins) -> Vec<Check> {
    let mut checks = of_host(config);
    let (coordinator, clock) = of_coordinator(config).await;
    checks.extend(coordinator);
    match server(config) {
        Ok(subject) if subject.balancer.is_some() => checks.extend(of_balancer(config).await),
        Ok(mut subject) => {
            subject.clock = clock;
            subject.settings.check_databases |= logins == Logins::Always;
            checks.extend(preflight::run(&subject).await);
        }
        Err(why) => {
            checks.extend(of_units(config).await);
            checks.extend(of_balancer(config).await);
            checks.extend(of_defaults(config).await);
            checks.push(check("server", "", Outcome::Skipped(why)));
        }
    }
    checks
}

fn check(name: &'static str, subject: impl Into<String>, outcome: Outcome) -> Check {
    Check { name, subject: subject.into(), outcome }
}

fn fail(why: impl Into<String>, remedy: impl Into<String>) -> Outcome {
    Outcome::Fail { why: why.into(), remedy: remedy.into(), reason: RefusalReason::PreflightFailed }
}

/// What can be looked at without a bundle and without anybody else.
fn of_host(config: &Config) -> Vec<Check> {
    let data_dir = match crate::private::create_dir(&config.data_dir) {
        Ok(()) => Outcome::Pass(config.data_dir.display().to_string()),
        Err(error) => fail(
            format!("{} cannot be used: {error}", config.data_dir.display()),
            "correct data_dir in the agent's configuration, or its owner",
        ),
    };
    let certificate = match Store::of(&config.data_dir, wall_clock).read(0) {
        Ok(identity) => match identity.check(wall_clock()) {
            Ok(()) => Outcome::Pass(format!("of node {}", identity.node)),
            Err(expired) => fail(expired.to_string(), "enrol this host again, or correct its clock"),
        },
        Err(error) => fail(crate::chain(&error), "enrol this host"),
    };
    let mut checks = vec![check("data_dir", "", data_dir), check("certificate", "", certificate)];
    for home in &config.homes {
        let is_balancer = config.balancer.as_ref().is_some_and(|balancer| balancer.home == *home);
        let outcome = if is_balancer && !Path::new(home).is_dir() {
            fail(
                format!("there is no directory {home}"),
                "install the load balancer, or correct `home` of `balancer`",
            )
        } else if is_balancer || Path::new(home).join("repository/conf").is_dir() {
            Outcome::Pass(home.clone())
        } else {
            fail(format!("{home} holds no WSO2 pack"), "unpack the product there, or correct `homes`")
        };
        checks.push(check("home", "", outcome));
    }
    checks
}

/// Whether a coordinator answers and takes this host's certificate, and this host's clock against its.
async fn of_coordinator(config: &Config) -> (Vec<Check>, Seen<ClockSkew>) {
    let mut checks = Vec::new();
    let (outcome, clock) = match link::ask_time(
        &Store::of(&config.data_dir, wall_clock),
        &config.coordinators,
        &link::network(config.proxy.as_deref()),
    )
    .await
    {
        Ok(answer) => {
            if let Some(why) = answer.refused {
                let remedy = "if this host is still the node, enrol it again with a new join token";
                checks.push(check("certificate", "accepted", fail(why, remedy)));
            }
            (Outcome::Pass(format!("{} answers", answer.address)), Ok(answer.skew))
        }
        Err(why) => {
            let remedy = "see that it runs, that its port is open from here, and that `coordinators` or the token named it";
            (fail(why, remedy), Err("no coordinator was reached".to_owned()))
        }
    };
    checks.push(check("coordinator", "", outcome));
    (checks, clock)
}

/// JDK and run user of the agent's own configuration, while no bundle says which ones count.
async fn of_defaults(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let run_user = config.run_user.as_deref();
    if let Some(name) = run_user {
        let outcome = match platform::user(Some(name)) {
            Ok(_) => Outcome::Pass(name.to_owned()),
            Err(why) => fail(why, "create the user, or correct run_user in the agent's configuration"),
        };
        checks.push(check("run_user", "", outcome));
    }
    if let Some(home) = &config.java_home {
        let home = home.display().to_string();
        let outcome = match preflight::java::look(Some(home.clone()), run_user).await.output {
            // What the JDK says of itself in its first line; whether it suits is known once a product is.
            Ok(said) => Outcome::Pass(format!("{} in {home}", said.lines().next().unwrap_or_default())),
            Err(why) => fail(
                format!("the java of {home} does not run: {why}"),
                "install a JDK there, or correct java_home in the agent's configuration",
            ),
        };
        checks.push(check("jdk", "", outcome));
    }
    checks
}

/// The load balancer, as its configuration lies there now.
async fn of_balancer(config: &Config) -> Vec<Check> {
    // Nobody listens: nothing is done here.
    let (events, _) = tokio::sync::mpsc::channel(1);
    match config.balancer(&config.units(), &events) {
        Some(balancer) => balancer.doctor().await,
        None => Vec::new(),
    }
}

/// Units, while no bundle says more of their servers.
async fn of_units(config: &Config) -> Vec<Check> {
    let units = config.units();
    let mut checks = Vec::new();
    let is_balancer =
        |home: &&String| config.balancer.as_ref().is_some_and(|balancer| balancer.home == **home);
    for home in config.units.keys().filter(|home| !is_balancer(home)) {
        let Some(unit) = units.of(home) else { continue };
        let outcome = match unit.look().await {
            Ok(fact) => unit::check_home(&fact, home),
            Err(error) => fail(crate::chain(&error), unit::UNREACHABLE_REMEDY),
        };
        checks.push(check("unit", "", outcome));
    }
    checks
}

/// The server whose files are in force, or else the one that is assigned, for the preflight of what is on disk.
fn server(config: &Config) -> Result<Subject, String> {
    let memory = Journal::of(&config.data_dir).read().map_err(|error| crate::chain(&error))?;
    let assigned = memory.assignment.as_ref().map(Placed::from);
    let placed = memory.written.or(assigned).ok_or("no bundle has come to this node yet")?;
    let cache = Cache::open(&config.data_dir).map_err(|error| error.to_string())?;
    let bundle = cache.bundle(&placed.content).ok_or("the bundle in force is not kept here")?;
    let java_home = config.java_home.as_ref().map(|path| path.display().to_string());
    let mut subject = Subject::on_disk(bundle.service.clone());
    subject.site = config.site();
    subject.unit = config.units().of(&bundle.service.home).cloned();
    subject.has_launch_files = bundle.has_launch_files();
    subject.balancer = bundle.balancer;
    Ok(subject.with_defaults(java_home.as_deref(), run_user(config).as_deref()))
}

/// Who runs the server: whom the configuration names, or else the agent's own user. The doctor is often called by root,
/// who is not the agent; the data directory belongs to it.
fn run_user(config: &Config) -> Option<String> {
    let of_agent = || {
        let (caller, agent) = (platform::user(None).ok()?.owner, platform::owner(&config.data_dir).ok()?);
        (agent.id != caller.id).then_some(agent.name)
    };
    config.run_user.clone().or_else(of_agent)
}

/// One line for each check, and its remedy below it; then whether none fails.
///
/// # Errors
/// `out` cannot be written.
pub fn print(checks: &[Check], out: &mut dyn Write) -> io::Result<bool> {
    let of = |check: &Check| format!("{} {}", check.name, check.subject).trim_end().to_owned();
    let width = checks.iter().map(|check| of(check).len()).max().unwrap_or(0) + 2;
    for check in checks {
        let (said, remedy) = match &check.outcome {
            Outcome::Pass(said) | Outcome::Skipped(said) => (said, None),
            Outcome::Warn { why, remedy } | Outcome::Fail { why, remedy, .. } => (why, Some(remedy)),
        };
        writeln!(out, "{:<9}{:<width$}{said}", check.outcome.as_str(), of(check))?;
        if let Some(remedy) = remedy {
            writeln!(out, "{:<9}{:<width$}-> {remedy}", "", "")?;
        }
    }
    let count = |word| checks.iter().filter(|check| check.outcome.as_str() == word).count();
    let (failed, warned, skipped) = (count("fail"), count("warn"), count("skipped"));
    writeln!(out, "{} checks: {failed} failed, {warned} warnings, {skipped} not checked", checks.len())?;
    Ok(failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[tokio::test]
    async fn a_jdk_and_a_run_user_that_do_not_exist_fail_before_any_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let text = "data_dir = '/var/lib/a'\nhomes = ['/opt/is']\njava_home = '/no/such/jdk'\nrun_user = 'no-such-user'\n";
        std::fs::write(&path, text).unwrap();
        let checks = of_defaults(&Config::read(&path).unwrap()).await;
        let said: Vec<_> = checks.iter().map(|check| (check.name, check.outcome.as_str())).collect();
        assert_eq!(said, [("run_user", "fail"), ("jdk", "fail")], "{checks:?}");
    }

    #[cfg(unix)]
    #[test]
    fn root_is_not_taken_for_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let data_dir = dir.path().join("state");
        std::fs::create_dir(&data_dir).unwrap();
        let text = format!("data_dir = {data_dir:?}\nhomes = ['/opt/is']\n");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(run_user(&Config::read(&path).unwrap()), None, "the caller's own");
        let nobody = platform::user(Some("nobody")).unwrap().owner;
        if std::os::unix::fs::chown(&data_dir, Some(nobody.id), None).is_err() {
            println!("NOT EXERCISED: only root can give a directory away");
            return;
        }
        assert_eq!(run_user(&Config::read(&path).unwrap()), Some(nobody.name));
        std::fs::write(&path, text + "run_user = 'wso2carbon'\n").unwrap();
        assert_eq!(run_user(&Config::read(&path).unwrap()), Some("wso2carbon".to_owned()));
    }
}
