//! A runtime socket of HAProxy that says no more than agents ask: `set server` and `show stat`, as its management
//! guide describes them. It remembers what it was told and routes what a test sends through it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

/// The backend that it has.
pub const BACKEND: &str = "wso2";

/// A load balancer.
pub struct Haproxy {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    servers: BTreeMap<String, Server>,
    /// What it was told, in order: `is-1 drain`.
    told: Vec<String>,
    refuses: Option<String>,
}

struct Server {
    state: String,
    sessions: usize,
}

/// A request on its way.
pub struct Request {
    server: String,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Haproxy {
    /// Listens in `directory`, with these servers in maintenance.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(directory: &Path, servers: &[&str]) -> Result<Self> {
        let socket = directory.join("haproxy.sock");
        let listener = UnixListener::bind(&socket)?;
        let server = |name: &&str| ((*name).to_owned(), Server { state: "maint".to_owned(), sessions: 0 });
        let state = State { servers: servers.iter().map(server).collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let serving = tokio::spawn(serve(listener, state.clone()));
        Ok(Self { socket, state, serving })
    }

    /// Path of the socket.
    pub fn socket(&self) -> String {
        self.socket.display().to_string()
    }

    /// What it was told so far: `is-1 drain`.
    pub fn told(&self) -> Vec<String> {
        lock(&self.state).told.clone()
    }

    /// The state of a server.
    pub fn state_of(&self, server: &str) -> String {
        lock(&self.state).servers.get(server).map_or_else(String::new, |server| server.state.clone())
    }

    /// An administrator sets the state of a server: nobody is told.
    pub fn set(&self, server: &str, new: &str) {
        if let Some(server) = lock(&self.state).servers.get_mut(server) {
            new.clone_into(&mut server.state);
        }
    }

    /// Answers every `set server` for this state with an error from now on.
    pub fn refuse(&self, state: Option<&str>) {
        lock(&self.state).refuses = state.map(str::to_owned);
    }

    /// A request for `server`, if it is in service.
    pub fn route(&self, server: &str) -> Option<Request> {
        let mut state = lock(&self.state);
        let found = state.servers.get_mut(server).filter(|server| server.state == "ready")?;
        found.sessions += 1;
        Some(Request { server: server.to_owned(), state: self.state.clone() })
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(server) = lock(&self.state).servers.get_mut(&self.server) {
            server.sessions -= 1;
        }
    }
}

async fn serve(listener: UnixListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move { drop(converse(stream, &state).await) });
    }
}

async fn converse(mut stream: UnixStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut command = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).await? == 1 && byte[0] != b'\n' {
        command.push(byte[0]);
    }
    let answer = answer(&String::from_utf8_lossy(&command), &mut lock(state));
    stream.write_all(answer.as_bytes()).await
}

fn answer(command: &str, state: &mut State) -> String {
    if command.starts_with("show stat") {
        let mut text = "# pxname,svname,qcur,qmax,scur,smax,status\n".to_owned();
        for (name, server) in &state.servers {
            // It has no health check of its own.
            let status = match server.state.as_str() {
                "ready" => "no check".to_owned(),
                other => other.to_uppercase(),
            };
            text += &format!("{BACKEND},{name},0,0,{},9,{status}\n", server.sessions);
        }
        return text + "\n";
    }
    let words: Vec<&str> = command.split_whitespace().collect();
    let ["set", "server", server, "state", new] = words[..] else {
        return "Unknown command.\n\n".to_owned();
    };
    let name = server.strip_prefix(BACKEND).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    if state.refuses.as_deref() == Some(new) || !state.servers.contains_key(name) {
        return "No such server.\n\n".to_owned();
    }
    state.told.push(format!("{name} {new}"));
    if let Some(server) = state.servers.get_mut(name) {
        new.clone_into(&mut server.state);
    }
    "\n".to_owned()
}
