//! What is said to systemd: `org.freedesktop.systemd1`, by the interfaces of its manager, units and services.

use std::{fmt::Write as _, path::Path, time::Duration};

use fleet::preflight::unit::{UnitFact, Variables};
use futures::StreamExt as _;
use zbus::{Connection, OwnedObjectPath, connection::Builder, fdo, proxy, proxy::CacheProperties};

use super::{Unit, UnitError};
use crate::files::read_named;

/// For one call and its answer.
const CALL_TIME: Duration = Duration::from_secs(20);
/// Of an environment file, bytes.
const VARIABLES_MAX: u64 = 1024 * 1024;
const KILL: i32 = 9;
/// In microseconds this is how systemd says "never".
const INFINITY: u64 = u64::MAX;

/// Path, arguments, whether a failure is ignored, then times, pid and status of its last run.
type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

#[proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait AnyUnit {
    #[zbus(property)]
    fn id(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn sub_state(&self) -> zbus::Result<String>;
    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> zbus::Result<Vec<u8>>;
}

#[proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Service {
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property, name = "ControlPID")]
    fn control_pid(&self) -> zbus::Result<u32>;
    #[zbus(property, name = "Type")]
    fn kind(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn exec_start(&self) -> zbus::Result<Vec<Exec>>;
    #[zbus(property)]
    fn environment(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property)]
    fn environment_files(&self) -> zbus::Result<Vec<(String, bool)>>;
    #[zbus(property)]
    fn user(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn working_directory(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn kill_mode(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn restart(&self) -> zbus::Result<String>;
    #[zbus(property, name = "TimeoutStopUSec")]
    fn timeout_stop(&self) -> zbus::Result<u64>;
}

async fn connect(unit: &Unit) -> Result<Connection, UnitError> {
    let builder = match unit.bus.as_str() {
        "system" => Builder::system(),
        "session" => Builder::session(),
        text => match text.strip_prefix("peer:") {
            Some(address) => Builder::address(address).p2p(),
            None => Builder::address(text),
        },
    };
    let failed = |source| UnitError::Unreachable { bus: unit.bus.clone(), source };
    match tokio::time::timeout(CALL_TIME, builder.method_timeout(CALL_TIME).build()).await {
        Ok(connected) => connected.map_err(|error| failed(error.into())),
        Err(elapsed) => Err(failed(elapsed.into())),
    }
}

fn refused<'a>(what: &'static str, unit: &'a Unit) -> impl Fn(zbus::Error) -> UnitError + 'a {
    move |error| match fdo::Error::from(error) {
        fdo::Error::AccessDenied(_)
        | fdo::Error::AuthFailed(_)
        | fdo::Error::InteractiveAuthorizationRequired(_) => {
            UnitError::Forbidden { what, unit: unit.name.clone() }
        }
        error => UnitError::Refused { what, unit: unit.name.clone(), source: error.into() },
    }
}

async fn manager<'a>(unit: &Unit, connection: &Connection) -> Result<ManagerProxy<'a>, UnitError> {
    ManagerProxy::new(connection).await.map_err(refused("speak of", unit))
}

pub(super) async fn look(unit: &Unit) -> Result<UnitFact, UnitError> {
    let connection = connect(unit).await?;
    let failed = refused("describe", unit);
    // Loading a unit that is not there is no error; it says `not-found` of itself.
    let path = manager(unit, &connection).await?.load_unit(&unit.name).await.map_err(&failed)?;
    let (mut fact, files) = read(unit, &connection, path).await.map_err(failed)?;
    fact.environment.0.extend(files.iter().flat_map(|(path, _)| variables_of(path)));
    Ok(fact)
}

async fn read(
    unit: &Unit,
    connection: &Connection,
    path: OwnedObjectPath,
) -> zbus::Result<(UnitFact, Vec<(String, bool)>)> {
    let any = AnyUnitProxy::builder(connection).path(path.clone()).cache_properties(CacheProperties::No);
    let any = any.build().await?;
    let service = ServiceProxy::builder(connection).path(path).cache_properties(CacheProperties::No);
    let service = service.build().await?;
    let timeout = service.timeout_stop().await?;
    let exec = service.exec_start().await?.into_iter().flat_map(|(path, words, ..)| {
        // The first word is what the program is told that it is called.
        std::iter::once(path).chain(words.into_iter().skip(1))
    });
    let fact = UnitFact {
        name: unit.name.clone(),
        loaded: any.load_state().await?,
        active: any.active_state().await?,
        sub: any.sub_state().await?,
        result: service.result().await?,
        main_pid: service.main_pid().await?,
        control_pid: service.control_pid().await?,
        invocation: hex(&any.invocation_id().await?),
        kind: service.kind().await?,
        exec: exec.collect(),
        environment: Variables(service.environment().await?),
        user: service.user().await?,
        working_directory: service.working_directory().await?,
        kill_mode: service.kill_mode().await?,
        restart: service.restart().await?,
        stop_timeout: (timeout != INFINITY).then(|| Duration::from_micros(timeout)),
    };
    Ok((fact, service.environment_files().await?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes any text");
        text
    })
}

/// Assignments of an `EnvironmentFile=`, as far as they are on one line. An unreadable file says nothing here, and
/// keeps the unit from starting unless it may be absent.
fn variables_of(path: &str) -> Vec<String> {
    let text = read_named(Path::new(path), VARIABLES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| format!("{}={}", name.trim(), value.trim().trim_matches(['"', '\''])))
        .collect()
}

pub(super) async fn job(unit: &Unit, what: &'static str, limit: Duration) -> Result<(), UnitError> {
    let connection = connect(unit).await?;
    let manager = manager(unit, &connection).await?;
    let failed = refused(what, unit);
    // Heard before it is asked for: a job may be over before its answer has been read.
    let mut removed = manager.receive_job_removed().await.map_err(&failed)?;
    manager.subscribe().await.map_err(&failed)?;
    // `replace`: a job that waits and contradicts this one is dropped.
    let asked = match what {
        "start" => manager.start_unit(&unit.name, "replace").await,
        "restart" => manager.restart_unit(&unit.name, "replace").await,
        "reload" => manager.reload_unit(&unit.name, "replace").await,
        _ => manager.stop_unit(&unit.name, "replace").await,
    };
    let job = asked.map_err(&failed)?;
    let ended = async {
        while let Some(signal) = removed.next().await {
            let ended = signal.args()?;
            if *ended.job() == job {
                return Ok(ended.result().clone());
            }
        }
        Err(zbus::Error::InputOutput(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()))
    };
    match tokio::time::timeout(limit, ended).await {
        Ok(Ok(result)) if result == "done" => Ok(()),
        Ok(Ok(result)) => Err(UnitError::Job { what, unit: unit.name.clone(), result }),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(UnitError::Slow { what, unit: unit.name.clone(), limit }),
    }
}

pub(super) async fn kill(unit: &Unit) -> Result<(), UnitError> {
    let connection = connect(unit).await?;
    let manager = manager(unit, &connection).await?;
    manager.kill_unit(&unit.name, "all", KILL).await.map_err(refused("kill", unit))
}

pub(super) async fn unit_of(unit: &Unit, pid: u32) -> Result<String, UnitError> {
    let failed = refused("find the unit of a process beside", unit);
    let connection = connect(unit).await?;
    let path = manager(unit, &connection).await?.get_unit_by_pid(pid).await.map_err(&failed)?;
    let any = AnyUnitProxy::builder(&connection).path(path).cache_properties(CacheProperties::No);
    any.build().await.map_err(&failed)?.id().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_is_told_what_is_missing() {
        let unit = Unit { name: "is.service".to_owned(), bus: "system".to_owned() };
        let said = |error: fdo::Error| refused("stop", &unit)(error.into()).to_string();
        let text = || "no".to_owned();
        for denied in [fdo::Error::AccessDenied(text()), fdo::Error::InteractiveAuthorizationRequired(text())]
        {
            let said = said(denied);
            assert!(said.contains("may not stop is.service") && said.contains("polkit"), "{said}");
        }
        assert_eq!(said(fdo::Error::NoReply(text())), "systemd does not stop is.service");
    }

    #[test]
    fn files_of_variables_are_read_as_far_as_they_are_on_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("is.env");
        std::fs::write(&path, "# JAVA_HOME=/no\nJAVA_HOME = \"/opt/jdk 21\"\nA='b'\nnothing\n").unwrap();
        assert_eq!(variables_of(path.to_str().unwrap()), ["JAVA_HOME=/opt/jdk 21", "A=b"]);
        assert_eq!(variables_of("/nowhere/is.env"), [""; 0]);
    }
}
