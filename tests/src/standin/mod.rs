//! A program that takes the place of `java` under the packs' start scripts.
//!
//! Installed as `<JAVA_HOME>/bin/java` it behaves on a host like a WSO2 server does: process tree, pid file, exit
//! statuses, log lines, ports, health endpoints, generated files, and on demand every kind of trouble. It holds no
//! product: nothing behind its ports does anything. `docs/stand-in.md` describes it for those who write tests.

pub mod admin;
mod config;
pub mod descriptor;
mod duration;
mod endpoints;
mod journal;
mod key_generator;
mod launch;
pub mod listen;
mod misbehaviour;
mod outputs;
mod server;
mod shared;
mod signals;
mod state;
mod step;
mod vault;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

pub use self::duration::Span;
pub use self::endpoints::StateView;
pub use self::launch::{BOOTSTRAP, KEY_GENERATOR};
pub use self::misbehaviour::{FILE as MISBEHAVIOUR_FILE, FirstStart, Misbehaviour, MisbehaviourError};

use self::launch::{Launch, Program};
use self::server::Server;
use self::signals::{Signal, Signals};

/// A companion program ends by itself after this time, like the server.
const COMPANION_LIFETIME_MAX: Duration = Duration::from_secs(3_600);

/// Acts as `java` would with these arguments (without `argv[0]`); gives its exit status.
pub fn java(arguments: impl IntoIterator<Item = String>) -> u8 {
    let Some(launch) = Launch::parse(arguments) else {
        complain("Error: no main class was given");
        return 1;
    };
    match launch.program.clone() {
        Program::Version => {
            complain(&version_text(&jdk_version()));
            0
        }
        Program::KeyGenerator { conf } => {
            complain(key_generator::append_key(&conf).trim_end());
            0
        }
        Program::Companion { .. } => in_runtime(companion()),
        Program::Server if launch.asks_for_help() => {
            journal::console("Usage: wso2server [options] [system-properties]\n");
            0
        }
        Program::Server => serve(launch),
    }
}

fn serve(launch: Launch) -> u8 {
    let Some(home) = launch.carbon_home() else {
        complain("Error: -Dcarbon.home is missing");
        return 1;
    };
    let faults = match Misbehaviour::read(&home) {
        Ok(faults) => faults,
        Err(error) => {
            complain(&format!(
                "{error}: {}",
                std::error::Error::source(&error).map_or(String::new(), ToString::to_string)
            ));
            return 64;
        }
    };
    in_runtime(async move { Server::open(home, launch, faults)?.run().await })
}

/// One thread is enough, and keeps a fleet of these small.
fn in_runtime(program: impl Future<Output = std::io::Result<u8>>) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(program)) {
        Ok(status) => status,
        Err(error) => {
            complain(&format!("Exception in thread \"main\" {error}"));
            1
        }
    }
}

/// The diagnostics tool, for all that others can see of it: it lives until it is told to go.
async fn companion() -> std::io::Result<u8> {
    let mut signals = Signals::new()?;
    let terminated = async { while signals.next().await != Signal::Terminate {} };
    Ok(match tokio::time::timeout(COMPANION_LIFETIME_MAX, terminated).await {
        Ok(()) => 143,
        Err(_) => 0,
    })
}

/// The version that `<JAVA_HOME>/release` states, as in a real JDK.
fn jdk_version() -> String {
    let release = std::env::current_exe().ok().and_then(|java| {
        let home: PathBuf = java.parent()?.parent()?.to_owned();
        std::fs::read_to_string(home.join("release")).ok()
    });
    let line = release.as_deref().and_then(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("JAVA_VERSION=").map(|v| v.trim_matches('"').to_owned()))
    });
    line.unwrap_or_else(|| "17.0.12".to_owned())
}

fn version_text(version: &str) -> String {
    format!(
        "openjdk version \"{version}\"\nOpenJDK Runtime Environment (build {version})\n\
         OpenJDK 64-Bit Server VM (build {version}, mixed mode, sharing)"
    )
}

/// To standard error, where a JVM complains.
fn complain(text: &str) {
    if !text.is_empty() {
        drop(writeln!(std::io::stderr(), "{text}"));
    }
}
