//! Log lines to standard error, as text for people or JSON for programs.

use tracing::{error, level_filters::LevelFilter};

use crate::config::{Log, LogFormat, LogLevel};

/// Sets up logging for the process. Only `main` calls this.
pub fn init(log: &Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // Libraries speak at their own warnings only; the level is about us.
    let filter = tracing_subscriber::EnvFilter::new(format!("warn,coordinator={level},fleet={level}"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => lines.with_target(false).with_ansi(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    tame_panics();
}

/// A panic is told by its place and its first words; what it quotes may be anybody's secret.
fn tame_panics() {
    std::panic::set_hook(Box::new(|panic| error!("{}", fleet::panics::line(panic))));
}
