//! A program that checks a configuration: its outcome and what it said, within bounds.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::io::AsyncReadExt as _;

/// A check reads some files and certificates.
const TIME: Duration = Duration::from_secs(20);
/// Of what it says, bytes.
const SAID_MAX: u64 = 64 * 1024;

/// What came of it.
#[derive(Debug)]
pub(super) struct Said {
    /// It ended with status 0.
    pub(super) is_good: bool,
    /// On standard error.
    pub(super) text: String,
}

/// Runs `program` with `flags` and the path of a configuration.
///
/// # Errors
/// It does not start, or does not end in time.
pub(super) async fn run(program: &Path, flags: &[&str], config: &Path) -> Result<Said, String> {
    let mut command = tokio::process::Command::new(program);
    command
        .args(flags)
        .arg(config)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child =
        command.spawn().map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
    let pipe = child.stderr.take();
    let ended = async {
        let mut said = Vec::new();
        if let Some(pipe) = pipe {
            pipe.take(SAID_MAX).read_to_end(&mut said).await?;
        }
        // Its pipe is closed by now, so that one that says more ends by that.
        let status = child.wait().await?;
        Ok::<_, std::io::Error>(Said {
            is_good: status.success(),
            text: String::from_utf8_lossy(&said).into_owned(),
        })
    };
    match tokio::time::timeout(TIME, ended).await {
        Ok(said) => said.map_err(|error| error.to_string()),
        Err(_) => Err(format!("{} did not end within {} s", program.display(), TIME.as_secs())),
    }
}
