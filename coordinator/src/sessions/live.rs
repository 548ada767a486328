//! Who is connected now, what they say now, and the way to reach them. Nothing here is stored: after a restart nobody
//! is connected until they dial again, and a node that is not connected is never healthy.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fleet::{
    host::HostQuestion,
    ids::{Digest, FleetEpoch, NodeName},
    logs::LogQuestion,
    node::Command,
    observed::Observed,
    time::Timestamp,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Commands that wait for one agent; more callers are told to try later.
const COMMANDS_MAX: usize = 4;

/// Questions that wait for one agent's session to pass them on.
const QUESTIONS_MAX: usize = 8;

/// A question to an agent; its answer comes by a call of its own.
#[derive(Debug)]
pub struct Asked {
    /// Pairs the answer.
    pub id: u64,
    /// What is asked.
    pub question: Question,
}

/// What an agent can be asked.
#[derive(Debug)]
pub enum Question {
    /// What lies on its host.
    Host(HostQuestion),
    /// A part of a log.
    Log(LogQuestion),
}

/// The answer to a command: whether it was done, and a sentence.
pub type CommandAnswer = oneshot::Sender<(bool, String)>;

/// The sessions of all connected nodes, newest session per node.
pub struct Live {
    nodes: Mutex<Nodes>,
    changed: watch::Sender<u64>,
    moved: watch::Sender<u64>,
}

#[derive(Default)]
struct Nodes {
    sessions_total: u64,
    by_name: BTreeMap<NodeName, Connected>,
    /// What readers see, of the same names. Copied only if it changes while a reader holds it.
    shown: Arc<LiveNodes>,
    /// Came, went, or began or ceased to count as of the present.
    moved: BTreeSet<NodeName>,
}

/// What is known of all connected nodes.
pub type LiveNodes = BTreeMap<NodeName, Arc<LiveNode>>;

impl Nodes {
    /// The session's node, to be changed, unless a newer session has taken its seat.
    fn of_session(&mut self, name: &NodeName, session: u64) -> Option<(&mut Connected, &mut LiveNode)> {
        let connected = self.by_name.get_mut(name).filter(|connected| connected.session == session)?;
        let node = Arc::make_mut(&mut self.shown).get_mut(name)?;
        Some((connected, Arc::make_mut(node)))
    }
}

/// What its channels carry is boxed: each keeps room for 32 values from its beginning, for every connected node.
struct Connected {
    session: u64,
    commands: mpsc::Sender<Box<(Command, CommandAnswer)>>,
    questions: mpsc::Sender<Box<Asked>>,
    pack: watch::Sender<Option<Digest>>,
    dismissed: CancellationToken,
    dismissal: watch::Sender<String>,
    /// A restart was handed over and not answered: no report counts.
    unanswered: bool,
}

/// What is known of a connected node beyond its records.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveNode {
    /// When its session began.
    pub since: Timestamp,
    /// When it last said anything.
    pub last_heard: Timestamp,
    /// Its latest report, if one came on this session.
    pub observed: Option<Observed>,
    /// A report of this session is stored, and since the last restart that was asked for: what the store holds is of the
    /// present, not of a session long ago, nor of a server that is about to be stopped.
    pub reported: bool,
    /// The store that its agent obeys, if it obeys one already.
    pub obeys: Option<FleetEpoch>,
    /// A restart was asked for, and nothing that is stored was said after it.
    pub restarting: bool,
    /// Set while its agent cannot write its journal. It reports nothing meanwhile, so nothing of what it reported before
    /// counts.
    pub journal_error: Option<JournalError>,
    /// Of the agent.
    pub agent_version: String,
    /// What it can do beyond the agents of 0.1, which say 0.
    pub protocol: u32,
    /// `linux-x86_64`.
    pub platform: String,
}

/// An agent that cannot write its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalError {
    /// When it was first heard of.
    pub since: Timestamp,
    /// For people.
    pub why: String,
}

/// What a session holds on to while it lives.
pub(super) struct Seat {
    pub(super) session: u64,
    pub(super) commands: mpsc::Receiver<Box<(Command, CommandAnswer)>>,
    pub(super) questions: mpsc::Receiver<Box<Asked>>,
    /// The pack that its agent is to give.
    pub(super) pack: watch::Receiver<Option<Digest>>,
    /// Set when the session must end; the reason is in `dismissal`.
    pub(super) dismissed: CancellationToken,
    pub(super) dismissal: watch::Receiver<String>,
}

impl Default for Live {
    fn default() -> Self {
        Self { nodes: Mutex::default(), changed: watch::Sender::new(0), moved: watch::Sender::new(0) }
    }
}

impl Live {
    /// Seats a new session; an older one of the same node is told to leave, because the newest is the one whose agent
    /// is certainly alive.
    pub(super) fn enter(&self, name: &NodeName, node: LiveNode) -> Seat {
        let (commands, waiting) = mpsc::channel(COMMANDS_MAX);
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (pack, wanted) = watch::channel(None);
        let (dismissal, why) = watch::channel(String::new());
        let dismissed = CancellationToken::new();
        let mut nodes = self.lock();
        nodes.sessions_total += 1;
        let session = nodes.sessions_total;
        let seat = Seat {
            session,
            commands: waiting,
            questions: asked,
            pack: wanted,
            dismissed: dismissed.clone(),
            dismissal: why,
        };
        let connected =
            Connected { session, commands, questions, pack, dismissed, dismissal, unanswered: false };
        Arc::make_mut(&mut nodes.shown).insert(name.clone(), Arc::new(node));
        if let Some(old) = nodes.by_name.insert(name.clone(), connected) {
            old.dismiss("a newer session of this node began");
        }
        self.touch_moved(nodes, name);
        seat
    }

    /// Gives up a seat, unless a newer session has taken it.
    pub(super) fn leave(&self, name: &NodeName, session: u64) {
        let mut nodes = self.lock();
        if nodes.by_name.get(name).is_some_and(|connected| connected.session == session) {
            nodes.by_name.remove(name);
            Arc::make_mut(&mut nodes.shown).remove(name);
        }
        self.touch_moved(nodes, name);
    }

    /// Notes that the node spoke, and what it said if it said something new.
    pub(super) fn heard(&self, name: &NodeName, session: u64, at: Timestamp, observed: Option<&Observed>) {
        let mut nodes = self.lock();
        let Some((_, node)) = nodes.of_session(name, session) else { return };
        node.last_heard = at;
        let Some(observed) = observed.filter(|observed| node.observed.as_ref() != Some(observed)) else {
            return;
        };
        node.observed = Some(observed.clone());
        drop(nodes);
        self.touch();
    }

    /// Notes that the store holds what the node said in this session; not while a restart is not answered.
    pub(super) fn stored(&self, name: &NodeName, session: u64) {
        let mut nodes = self.lock();
        if nodes.shown.get(name).is_none_or(|node| node.reported) {
            return;
        }
        let found = nodes.of_session(name, session).filter(|(connected, _)| !connected.unanswered);
        let Some((_, node)) = found else { return };
        (node.reported, node.restarting) = (true, false);
        self.touch_moved(nodes, name);
    }

    /// The restart that was handed over is answered: reports count again.
    pub(super) fn restart_answered(&self, name: &NodeName, session: u64) {
        let mut nodes = self.lock();
        if let Some(connected) = nodes.by_name.get_mut(name).filter(|it| it.session == session) {
            connected.unanswered = false;
        }
    }

    /// Notes whether the agent can write its journal. From when it cannot on, nothing that it said counts as of the
    /// present, until it has reported anew.
    pub(super) fn journal(&self, name: &NodeName, session: u64, error: Option<JournalError>) {
        let mut nodes = self.lock();
        let Some((_, node)) = nodes.of_session(name, session) else { return };
        node.reported &= error.is_none();
        node.journal_error = error;
        self.touch_moved(nodes, name);
    }

    /// Ends a node's session, if it has one.
    pub fn dismiss(&self, name: &NodeName, why: &str) {
        if let Some(connected) = self.lock().by_name.get(name) {
            connected.dismiss(why);
        }
    }

    /// How many nodes are connected.
    pub fn count(&self) -> usize {
        self.lock().by_name.len()
    }

    /// All connected nodes.
    pub fn snapshot(&self) -> Arc<LiveNodes> {
        self.lock().shown.clone()
    }

    /// One connected node.
    pub fn node(&self, name: &NodeName) -> Option<Arc<LiveNode>> {
        self.lock().shown.get(name).cloned()
    }

    /// Changes whenever a session begins or ends or a report says something new.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Changes whenever there is something for [`Live::take_moved`].
    pub fn watch_moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Nodes that came, went, or began or ceased to count as of the present since the last call. It has one caller.
    pub fn take_moved(&self) -> BTreeSet<NodeName> {
        std::mem::take(&mut self.lock().moved)
    }

    /// Hands a command to a node's session; the answer comes from the agent. From a restart on the node counts as down,
    /// until it has reported anew: nothing else may rely on a server that is about to be stopped.
    ///
    /// # Errors
    /// The node is not connected, or has too many commands waiting.
    pub fn command(
        &self,
        name: &NodeName,
        command: Command,
    ) -> Result<oneshot::Receiver<(bool, String)>, CommandRefused> {
        let (answer, outcome) = oneshot::channel();
        let mut nodes = self.lock();
        let session = nodes.by_name.get(name).map(|connected| connected.session);
        let session = session.ok_or(CommandRefused::NotConnected)?;
        let (connected, node) = nodes.of_session(name, session).ok_or(CommandRefused::NotConnected)?;
        if node.journal_error.is_some() {
            return Err(CommandRefused::NoJournal);
        }
        let restarts = matches!(command, Command::Restart { .. });
        connected.commands.try_send(Box::new((command, answer))).map_err(|_| CommandRefused::Busy)?;
        if restarts {
            connected.unanswered = true;
            (node.reported, node.restarting) = (false, true);
            self.touch_moved(nodes, name);
        }
        Ok(outcome)
    }

    /// Hands a question to a node's session.
    ///
    /// # Errors
    /// The node is not connected, or has too many questions waiting.
    pub fn ask(&self, name: &NodeName, asked: Asked) -> Result<(), CommandRefused> {
        let nodes = self.lock();
        let connected = nodes.by_name.get(name).ok_or(CommandRefused::NotConnected)?;
        connected.questions.try_send(Box::new(asked)).map_err(|_| CommandRefused::Busy)
    }

    /// The packs that connected nodes report, and who does.
    pub fn packs(&self) -> BTreeMap<Digest, BTreeSet<NodeName>> {
        let mut packs: BTreeMap<Digest, BTreeSet<NodeName>> = BTreeMap::new();
        for (name, node) in &*self.snapshot() {
            if let Some(pack) = node.observed.as_ref().and_then(|observed| observed.pack) {
                packs.entry(pack).or_default().insert(name.clone());
            }
        }
        packs
    }

    /// Lets a node's session ask its agent for a pack, if it is connected.
    pub fn want_pack(&self, name: &NodeName, digest: Digest) {
        if let Some(connected) = self.lock().by_name.get(name) {
            connected.pack.send_replace(Some(digest));
        }
    }

    fn touch_moved(&self, mut nodes: MutexGuard<'_, Nodes>, name: &NodeName) {
        nodes.moved.insert(name.clone());
        drop(nodes);
        self.moved.send_modify(|count| *count += 1);
        self.touch();
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    fn dismiss(&self, why: &str) {
        self.dismissal.send_replace(why.to_owned());
        self.dismissed.cancel();
    }
}

/// Why a command was not even sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefused {
    /// Nobody to tell.
    #[error("its agent is not connected")]
    NotConnected,
    /// Too many at once.
    #[error("its agent has too many commands waiting; try again shortly")]
    Busy,
    /// The agent could not answer.
    #[error(
        "its agent cannot write its journal, and does nothing that it is told until it can; see `convoy node show`"
    )]
    NoJournal,
}
