//! Starting the script: foreground, session of its own, environment from nothing, output to a file.

use std::{fs, io, path::Path, process::Stdio};

use fleet::{bundle::Bundle, node::Failure, observed::RefusalReason};
#[cfg(unix)]
use process_wrap::tokio::ProcessSession;
use process_wrap::tokio::{ChildWrapper, CommandWrap};
#[cfg(windows)]
use process_wrap::tokio::{CreationFlags, JobObject};
use tokio::process::Command;

use super::{console::Console, environment::environment};
use crate::{
    cache::Cache,
    files::{Defaults, write_launch_files},
};

/// A started script and where its output begins in the console log.
pub struct Script {
    /// The script's process.
    pub child: Box<dyn ChildWrapper>,
    /// Of the console log, bytes.
    pub output_from: u64,
}

/// Starts the script of `bundle`.
///
/// # Errors
/// What is missing, or why the system refused.
pub fn spawn(
    bundle: &Bundle,
    (defaults, cache): (&Defaults, &Cache),
    console: &Console,
) -> Result<Script, Failure> {
    let service = &bundle.service;
    let failed = |what: &str, error: &io::Error| Failure {
        reason: RefusalReason::StartFailed,
        detail: format!("cannot {what}: {error}"),
    };
    let script = Path::new(&service.home).join(service.script().as_str());
    if !script.is_file() {
        let detail = format!("{} is not there", script.display());
        return Err(Failure { reason: RefusalReason::ScriptMissing, detail });
    }
    let Some(java_home) = defaults.java_home(bundle) else {
        let detail = "no java_home is set, neither for the node nor for the agent".to_owned();
        return Err(Failure { reason: RefusalReason::JdkUnsuitable, detail });
    };
    prepare(Path::new(&service.home)).map_err(|error| failed("prepare the home", &error))?;
    let (output, output_from) = console.handle().map_err(|error| failed("open the console log", &error))?;
    let errors = output.try_clone().map_err(|error| failed("open the console log", &error))?;
    let owner = defaults.owner(bundle)?;
    let user = service.run_user.as_deref().or(defaults.run_user.as_deref());
    let variables = environment(service, java_home, user);
    let mut command = runner(&script);
    command
        .args(&service.args)
        .env_clear()
        .envs(variables)
        .current_dir(&service.home)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    #[cfg(unix)]
    if let Some(owner) = owner {
        command.uid(owner.uid).gid(owner.gid);
    }
    let mut wrap = CommandWrap::from(command);
    #[cfg(unix)]
    wrap.wrap(ProcessSession);
    // Not ended with the agent: the job's handle is closed without the flag that would kill its processes. A hidden
    // console of its own takes the Ctrl-C that stops it; in a process group of its own it would not hear it.
    #[cfg(windows)]
    wrap.wrap(CreationFlags(windows::Win32::System::Threading::CREATE_NO_WINDOW)).wrap(JobObject);
    write_launch_files(bundle, cache, owner)?;
    let child = wrap.spawn().map_err(|error| failed("start the script", &error))?;
    Ok(Script { child, output_from })
}

/// What runs the script in the foreground.
fn runner(script: &Path) -> Command {
    #[cfg(unix)]
    {
        let mut command = Command::new("sh");
        command.arg(script);
        command
    }
    // `stop` and `start` are unknown to the batch files and would start a second server; `--run` is not.
    #[cfg(not(unix))]
    {
        let mut command = Command::new(script);
        command.arg("--run");
        command
    }
}

/// What the scripts need and do not make: a directory for temporary files. And what they should not find: the pid
/// file of an earlier server, which they would believe.
pub(super) fn prepare(home: &Path) -> io::Result<()> {
    fs::create_dir_all(home.join("tmp"))?;
    match fs::remove_file(home.join("wso2carbon.pid")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_find_a_tmp_and_no_pid_file_of_an_earlier_server() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("wso2carbon.pid"), "1\n").unwrap();
        prepare(home.path()).unwrap();
        assert!(home.path().join("tmp").is_dir());
        assert!(!home.path().join("wso2carbon.pid").exists());
        prepare(home.path()).unwrap();
    }
}
