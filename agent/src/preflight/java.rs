//! Asks a JDK for its version, as the user who would run the server.

use std::{path::Path, process::Stdio, time::Duration};

use fleet::preflight::facts::{JavaFact, Seen};
use tokio::process::Command;

/// `java -version` of a slow disk takes a few seconds at its first run.
const TIMEOUT: Duration = Duration::from_secs(15);
/// It prints three lines; more is cut off.
const OUTPUT_MAX: usize = 4_096;

pub(crate) async fn look(java_home: Option<String>, run_user: Option<&str>) -> JavaFact {
    let output = match &java_home {
        Some(home) => version(home, run_user).await,
        None => Err("no JAVA_HOME".to_owned()),
    };
    JavaFact { java_home, output }
}

async fn version(java_home: &str, run_user: Option<&str>) -> Seen<String> {
    let java = Path::new(java_home).join("bin").join(if cfg!(windows) { "java.exe" } else { "java" });
    let mut command = Command::new(&java);
    // Nothing of the agent's environment: JAVA_TOOL_OPTIONS and its like could run anything.
    command.arg("-version").env_clear().stdin(Stdio::null()).kill_on_drop(true);
    #[cfg(windows)]
    command.env("SystemRoot", std::env::var_os("SystemRoot").unwrap_or_default());
    as_user(&mut command, run_user)?;
    let output = tokio::time::timeout(TIMEOUT, command.output())
        .await
        .map_err(|_| format!("no answer within {} s", TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?;
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        return Err(format!("it ends with {}", output.status));
    }
    text.truncate(text.floor_char_boundary(OUTPUT_MAX));
    Ok(text)
}

/// A JAVA_HOME that somebody else can write must not run with the agent's privileges.
#[cfg(unix)]
fn as_user(command: &mut Command, run_user: Option<&str>) -> Seen<()> {
    if run_user.is_none() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let user = crate::platform::user(run_user)?;
    command.gid(user.group).uid(user.owner.id);
    Ok(())
}

#[cfg(not(unix))]
fn as_user(_command: &mut Command, _run_user: Option<&str>) -> Seen<()> {
    Ok(())
}
