//! The agent's door for its own host: a socket in the data directory that only root and the agent's user can open. Two
//! things can be asked: to stop the server because the host shuts down (`convoy-agent stop-server` asks it, for
//! `systemd/convoy-server.service`), and how the link is (`convoy-agent setup` waits for it).
//!
//! What goes over it are lines: [`FOR_SHUTDOWN`], answered by [`STOPS`] with the home whose server is stopped or by a
//! sentence why nothing is; [`LINK`], answered by [`CONNECTED`] with where and as whom, or by a sentence why not.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use fleet::node::Event;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    time::timeout,
};
use tracing::{info, warn};

use crate::{config::Config, link::LinkState, process::servers, task};

const FOR_SHUTDOWN: &str = "stop-server for-shutdown";
const STOPS: &str = "stops ";
const LINK: &str = "link";
const CONNECTED: &str = "connected ";
const NOTHING: &str = "nothing to stop: no server is meant to run here";
/// Bytes of a line: a word and the longest path there is.
const LINE_MAX: u64 = 8192;
/// For one line, either way. The engine answers at once; only a starting agent takes longer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Between two looks at the process table.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Where the socket is.
fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("door")
}

/// What the engine does because the host ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// No server is meant to run.
    Nothing,
    /// It stops the server of this home. Servers of other homes are not the agent's.
    Stops {
        /// CARBON_HOME.
        home: String,
    },
}

impl Ending {
    /// What [`fleet::node::Engine::ends_with_host`] says.
    pub fn of(home: Option<&str>) -> Self {
        home.map_or(Self::Nothing, |home| Self::Stops { home: home.to_owned() })
    }
}

/// What visitors reach of the agent.
#[derive(Debug, Clone)]
pub struct Inside {
    /// The engine's.
    pub events: mpsc::Sender<Event>,
    /// `None` until the engine knows that the host ends.
    pub ends: watch::Receiver<Option<Ending>>,
    /// How the link is.
    pub link: watch::Receiver<LinkState>,
}

/// Opens the door. One that cannot be opened is logged: everything but an orderly stop at shutdown goes on without it.
pub fn open(data_dir: &Path, inside: Inside) {
    let path = path(data_dir);
    // Left by an agent that was killed; the lock of the data directory is ours.
    let bound = match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => UnixListener::bind(&path),
    };
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, path = %path.display(), "No door: at a shutdown of the host the server is not stopped in time");
            return;
        }
    };
    task::spawn("door", async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, for example.
                tokio::time::sleep(LOOK_PAUSE).await;
                continue;
            };
            let inside = inside.clone();
            task::spawn("visitor", async move {
                if let Err(error) = answer(stream, inside).await {
                    info!(%error, "Somebody at the door went away");
                }
            });
        }
    });
}

async fn answer(mut stream: UnixStream, mut inside: Inside) -> io::Result<()> {
    let asked = timeout(ANSWER_TIME, line(&mut stream)).await??;
    let told = if asked == FOR_SHUTDOWN {
        info!("The host shuts down");
        // Both fail only while the agent itself ends.
        drop(inside.events.send(Event::HostEnds).await);
        match inside.ends.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ending::Stops { home })) => format!("{STOPS}{home}"),
            Ok(Some(Ending::Nothing) | None) | Err(_) => NOTHING.to_owned(),
        }
    } else if asked == LINK {
        match &*inside.link.borrow() {
            LinkState::Connected { address, node } => format!("{CONNECTED}to {address} as {node}"),
            LinkState::Dialling => "it dials for the first time".to_owned(),
            LinkState::Lost { why } => why.replace('\n', " "),
        }
    } else {
        format!("nothing is known here but `{FOR_SHUTDOWN}` and `{LINK}`")
    };
    stream.write_all(format!("{told}\n").as_bytes()).await
}

async fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut text = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut text).await?;
    Ok(text.trim_end().to_owned())
}

/// Whether a server of this home lives. A look that fails is no answer, so it is asked again.
async fn lives(home: String) -> bool {
    task::blocking(move || !servers(&home).is_empty()).await.unwrap_or(true)
}

/// No agent.
#[derive(Debug, thiserror::Error)]
#[error("no agent answers at {}: is convoy-agent running?", path.display())]
pub struct NoAgent {
    /// The socket.
    path: PathBuf,
    /// Why.
    source: io::Error,
}

/// Asks the agent of this data directory; its answer.
async fn ask(data_dir: &Path, word: &str) -> Result<String, NoAgent> {
    let path = path(data_dir);
    let asked = async {
        let mut stream = UnixStream::connect(&path).await?;
        stream.write_all(format!("{word}\n").as_bytes()).await?;
        timeout(ANSWER_TIME, line(&mut stream)).await?
    };
    let told = asked.await;
    told.map_err(|source| NoAgent { path, source })
}

/// How the link of an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linked {
    /// Where and as whom.
    Connected(String),
    /// Why not.
    Not(String),
}

/// Asks the agent of this configuration whether it is connected.
///
/// # Errors
/// No agent answers.
pub async fn link_state(config: &Config) -> Result<Linked, NoAgent> {
    let told = ask(&config.data_dir, LINK).await?;
    Ok(match told.strip_prefix(CONNECTED) {
        Some(how) => Linked::Connected(format!("connected {how}")),
        None => Linked::Not(told),
    })
}

/// The process of the agent of this configuration, as the system knows it.
///
/// # Errors
/// No agent answers, or the system does not say.
#[cfg(target_os = "linux")]
pub async fn agent_pid(config: &Config) -> Result<u32, NoAgent> {
    let path = path(&config.data_dir);
    let seen = async {
        let peer = UnixStream::connect(&path).await?.peer_cred()?;
        let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
        pid.ok_or_else(|| io::Error::other("the system does not say whose socket it is"))
    };
    let told = seen.await;
    told.map_err(|source| NoAgent { path, source })
}

/// Why the server was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// No agent.
    #[error(transparent)]
    NoAgent(#[from] NoAgent),
    /// The agent does not stop it.
    #[error("the agent says: {0}")]
    Refused(String),
}

/// Asks the agent of this configuration to stop its server because the host shuts down, and waits until no server of that
/// home lives. There is no limit but that of the stop itself, which the agent keeps: hooks, stop deadline, then KILL.
///
/// # Errors
/// No agent answers, or it stops nothing.
pub async fn stop_for_shutdown(config: &Config) -> Result<(), StopError> {
    let told = ask(&config.data_dir, FOR_SHUTDOWN).await?;
    let Some(home) = told.strip_prefix(STOPS) else { return Err(StopError::Refused(told)) };
    while lives(home.to_owned()).await {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(())
}
