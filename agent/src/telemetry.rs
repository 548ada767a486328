//! Where log lines go: standard error, as text or JSON; a file where there is no standard error.

use std::io;

use tracing::error;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::config::{Log, LogFormat};

/// A log of an earlier run longer than this makes way, bytes.
#[cfg(windows)]
const FILE_MAX: u64 = 10 * 1024 * 1024;

/// Sets up logging for the process. A level that does not parse means `info`.
pub fn start(log: &Log) {
    start_with(log, io::stderr);
}

/// The same into `agent.log` in the data directory, for a service, which has no standard error. A long log of earlier
/// runs becomes `agent.log.1`.
///
/// # Errors
/// Whatever the file system says.
#[cfg(windows)]
pub fn start_in_file(log: &Log, data_dir: &std::path::Path) -> io::Result<()> {
    crate::private::create_dir(data_dir)?;
    let path = data_dir.join("agent.log");
    if std::fs::metadata(&path).is_ok_and(|facts| FILE_MAX < facts.len()) {
        std::fs::rename(&path, data_dir.join("agent.log.1"))?;
    }
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    start_with(log, std::sync::Mutex::new(file));
    Ok(())
}

fn start_with(log: &Log, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    tame_panics();
    // Only a second start in one process fails, in tests; the first one serves both.
    drop(started);
}

/// A panic is told by its place and its first words; what it quotes may be anybody's secret.
fn tame_panics() {
    std::panic::set_hook(Box::new(|panic| error!("{}", fleet::panics::line(panic))));
}
