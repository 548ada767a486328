//! What lies on the hosts (ADR 0017): connected agents are asked, and the last answer of each is kept.
//!
//! Answers are input from hosts. They are taken only from the node that was asked, are bounded, and hold no content that
//! they do not name. The question goes out on the node's session, the answer comes by a call of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fleet::{
    host::{HostFacts, HostQuestion, WantedContents},
    ids::{Digest, NodeName},
};
use proto::convert::host::LOOK_PROTOCOL;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{debug, info, warn};

use crate::{
    coordinator::Coordinator,
    questions::{NoAnswer, Questions},
    rpc::chain,
    sessions::Question,
    store::{
        CommitError, Key, Store, StoreError, Transaction, blobs,
        records::{HostRecord, NodeRecord, Record as _},
    },
};

/// An agent that has not answered within this is planned for without its answer.
pub const LOOK_TIME: Duration = Duration::from_secs(3);
/// MiB of answers that may be on their way at the same time.
const ROOM: usize = 128;
/// Bytes of one record. What does not fit is forgotten; the next question asks for it again.
const RECORD_MAX: usize = 512 * 1024;
/// Digests of contents that need not be sent again.
const KNOWN_MAX: usize = 512;
/// How often the newly connected are looked for.
const EVERY: Duration = Duration::from_millis(500);

/// Questions that wait for their answers.
pub struct Hosts {
    pub(crate) questions: Questions<Result<HostFacts, LookError>>,
    room: Semaphore,
}

/// Why there are no facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    /// Nobody to ask.
    #[error("its agent is not connected")]
    NotConnected,
    /// An agent of a version that does not know the question.
    #[error("its agent, version {version}, cannot tell yet what is on its host; update it")]
    TooOld {
        /// Of the agent.
        version: String,
    },
    /// Others are asking already.
    #[error("its agent has too many questions waiting; try again shortly")]
    Busy,
    /// No answer.
    #[error("its agent did not answer within {} s", LOOK_TIME.as_secs())]
    TimedOut,
    /// The agent says why not.
    #[error("its agent could not look: {0}")]
    Refused(String),
    /// The agent's answer was refused.
    #[error("the answer of its agent cannot be used: {0}")]
    Unusable(String),
}

impl From<NoAnswer> for LookError {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::NotConnected => Self::NotConnected,
            NoAnswer::Busy => Self::Busy,
            NoAnswer::TimedOut => Self::TimedOut,
        }
    }
}

impl Default for Hosts {
    fn default() -> Self {
        Self { questions: Questions::default(), room: Semaphore::new(ROOM) }
    }
}

impl Hosts {
    /// Held while an answer of so many bytes arrives.
    pub(crate) async fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let share = u32::try_from(bytes.div_ceil(1 << 20).clamp(1, ROOM)).ok()?;
        // The semaphore is never closed.
        self.room.acquire_many(share).await.ok()
    }
}

impl Coordinator {
    /// Asks a node's agent what lies on its host now. If contents are wanted, the answer holds those that the store
    /// has from an earlier look as well; they are not sent again. The answer is kept.
    ///
    /// # Errors
    /// See [`LookError`].
    pub(crate) async fn look(
        self: &Arc<Self>,
        node: &NodeName,
        mut question: HostQuestion,
    ) -> Result<HostFacts, LookError> {
        let live = self.live.node(node).ok_or(LookError::NotConnected)?;
        let written =
            live.observed.as_ref().and_then(|observed| observed.written).map(|written| written.generation);
        let kept = self.kept_contents(node, &mut question).await;
        let mut facts = self.ask_host(node, question).await?;
        self.keep_host_later(node, HostRecord { facts: facts.clone(), received: (self.clock)(), written });
        let named: BTreeSet<Digest> = facts.digests().collect();
        facts.contents.extend(kept.into_iter().filter(|(digest, _)| named.contains(digest)));
        Ok(facts)
    }

    /// As [`Coordinator::look`], and the answer is not kept.
    ///
    /// # Errors
    /// See [`LookError`].
    pub(crate) async fn ask_host(
        &self,
        node: &NodeName,
        question: HostQuestion,
    ) -> Result<HostFacts, LookError> {
        let live = self.live.node(node).ok_or(LookError::NotConnected)?;
        if live.protocol < LOOK_PROTOCOL {
            return Err(LookError::TooOld { version: live.agent_version.clone() });
        }
        self.hosts.questions.ask(&self.live, node, Question::Host(question), LOOK_TIME).await?
    }

    /// What the host last answered, without contents.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn last_look(&self, node: &NodeName) -> Result<Option<HostRecord>, StoreError> {
        self.store.get(&Key::host(node)).await?.as_ref().map(HostRecord::read).transpose()
    }

    /// Contents of the last look that are still kept, for a question that asks for contents: they are added to what the
    /// asker knows. A store that fails costs only bytes on the wire.
    async fn kept_contents(
        &self,
        node: &NodeName,
        question: &mut HostQuestion,
    ) -> BTreeMap<Digest, Arc<[u8]>> {
        let mut kept = BTreeMap::new();
        let WantedContents::Unknown { known } = &mut question.contents else { return kept };
        let Ok(Some(record)) = self.last_look(node).await else { return kept };
        let of_interest: BTreeSet<Digest> = record.facts.digests().filter(|it| !known.contains(it)).collect();
        for digest in of_interest.into_iter().take(KNOWN_MAX) {
            if let Ok(Some(content)) = blobs::get(&*self.store, &digest).await {
                kept.insert(digest, Arc::from(content.as_ref()));
            }
        }
        known.extend(kept.keys().copied());
        kept
    }

    /// Keeps an answer without making the asker wait, who may hold what garbage collection waits for.
    fn keep_host_later(self: &Arc<Self>, node: &NodeName, answer: HostRecord) {
        let (this, node) = (Arc::clone(self), node.clone());
        self.tasks.spawn("host record", async move {
            if let Err(error) = this.keep_host(&node, answer).await {
                warn!(%node, error = chain(&error), "Cannot keep what lies on a host; it is asked again");
            }
        });
    }

    async fn keep_host(&self, node: &NodeName, mut record: HostRecord) -> Result<(), CommitError> {
        let contents = std::mem::take(&mut record.facts.contents);
        // An apply asks again what its plan has just asked: of a large fleet that would be as many commits for nothing.
        let last = self.last_look(node).await.map_err(CommitError::Refused)?;
        if contents.is_empty() && last.is_some_and(|last| last.is_as_good_as(&record)) {
            return Ok(());
        }
        // Nobody may remove content as garbage between its being stored and its record.
        let _applying = self.applying.lock().await;
        let by_digest = contents.iter().map(|(digest, content)| (*digest, content.as_ref())).collect();
        self.keep_content(&by_digest).await?;
        let mut bytes = record.encode();
        while RECORD_MAX < bytes.len() && record.facts.entries.pop_last().is_some() {
            bytes = record.encode();
        }
        let entry = self.store.get(&Key::node(node)).await.map_err(CommitError::Refused)?;
        // A node that was forgotten meanwhile leaves nothing behind.
        let Some(entry) = entry else { return Ok(()) };
        let commit = Transaction::default().check(Key::node(node), entry.version);
        match self.store.commit(commit.put(Key::host(node), bytes)).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Looks once at every host whose node connects and was not applied yet, until the coordinator stops.
pub async fn run(coordinator: Arc<Coordinator>) {
    let mut changed = coordinator.live.watch();
    let mut looked: BTreeMap<NodeName, fleet::time::Timestamp> = BTreeMap::new();
    loop {
        let connected = coordinator.live.snapshot();
        looked.retain(|node, since| connected.get(node).is_some_and(|live| live.since == *since));
        for (node, live) in &*connected {
            if live.protocol < LOOK_PROTOCOL || looked.contains_key(node) {
                continue;
            }
            looked.insert(node.clone(), live.since);
            if is_new(&*coordinator.store, node).await {
                coordinator.tasks.spawn("first look", first_look(coordinator.clone(), node.clone()));
            }
        }
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            _ = changed.changed() => {}
        }
    }
}

async fn is_new(store: &dyn Store, node: &NodeName) -> bool {
    match store.get(&Key::node(node)).await {
        Ok(Some(entry)) => NodeRecord::read(&entry).is_ok_and(|record| record.desired.is_none()),
        Ok(None) | Err(_) => false,
    }
}

async fn first_look(coordinator: Arc<Coordinator>, node: NodeName) {
    match coordinator.look(&node, HostQuestion::contents(Vec::new())).await {
        Ok(facts) => {
            let product = facts.product.as_ref().map_or("no known product", |product| product.name.as_str());
            info!(%node, home = facts.home, product, server = ?facts.server, "Looked at a host that joined");
        }
        Err(error) => debug!(%node, %error, "Cannot look at a host that joined"),
    }
}
