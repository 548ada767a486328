//! Logs of nodes (ADR 0064): agents are asked for one part after the other, by whoever reads; nothing is kept here.
//!
//! The reader pulls: an agent is asked for the next part once the reader has taken the one before, so a slow reader costs
//! neither memory here nor work there.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fleet::{
    ids::NodeName,
    logs::{LogPart, LogQuestion},
};
use proto::convert::logs::LOGS_PROTOCOL;

use crate::{
    coordinator::Coordinator,
    questions::{NoAnswer, Questions},
    sessions::Question,
};

/// For one part; the agent gives up before.
const PART_TIME: Duration = Duration::from_secs(6);
/// Who reads at the same time.
const READERS_MAX: usize = 32;
/// Of one node.
const READERS_OF_NODE_MAX: usize = 4;

/// Questions that wait for their answers, and how many read what.
#[derive(Default)]
pub struct Logs {
    pub(crate) questions: Questions<Result<LogPart, LogError>>,
    readers: Arc<Mutex<BTreeMap<NodeName, usize>>>,
}

/// Why there is no part of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Nobody to ask.
    #[error("its agent is not connected")]
    NotConnected,
    /// An agent of a version that does not know the question.
    #[error("its agent, version {version}, does not give logs yet; update it")]
    TooOld {
        /// Of the agent.
        version: String,
    },
    /// Others are asking already.
    #[error("its agent has too many questions waiting; try again shortly")]
    Busy,
    /// No answer.
    #[error("its agent did not answer within {} s", PART_TIME.as_secs())]
    TimedOut,
    /// The agent says why not.
    #[error("{0}")]
    Refused(String),
    /// The agent's answer was refused.
    #[error("the answer of its agent cannot be used: {0}")]
    Unusable(String),
}

impl From<NoAnswer> for LogError {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::NotConnected => Self::NotConnected,
            NoAnswer::Busy => Self::Busy,
            NoAnswer::TimedOut => Self::TimedOut,
        }
    }
}

/// Too many read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// Of this node.
    #[error("its logs are being read {READERS_OF_NODE_MAX} times already; end one of those first")]
    OfNode,
    /// At all.
    #[error("logs are being read {READERS_MAX} times already; end one of those first")]
    OfAll,
}

/// A place among those who read, given up when dropped.
pub(crate) struct Place {
    readers: Arc<Mutex<BTreeMap<NodeName, usize>>>,
    node: NodeName,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut readers = lock(&self.readers);
        if let Some(count) = readers.get_mut(&self.node) {
            *count -= 1;
        }
        readers.retain(|_, count| *count != 0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Logs {
    /// A place for one who reads logs of `node`.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn enter(&self, node: &NodeName) -> Result<Place, TooMany> {
        let mut readers = lock(&self.readers);
        if READERS_MAX <= readers.values().sum() {
            return Err(TooMany::OfAll);
        }
        let count = readers.entry(node.clone()).or_default();
        if READERS_OF_NODE_MAX <= *count {
            return Err(TooMany::OfNode);
        }
        *count += 1;
        Ok(Place { readers: self.readers.clone(), node: node.clone() })
    }
}

impl Coordinator {
    /// Asks a node's agent for one part of a log.
    ///
    /// # Errors
    /// See [`LogError`].
    pub(crate) async fn log_part(&self, node: &NodeName, question: LogQuestion) -> Result<LogPart, LogError> {
        let live = self.live.node(node).ok_or(LogError::NotConnected)?;
        if live.protocol < LOGS_PROTOCOL {
            return Err(LogError::TooOld { version: live.agent_version.clone() });
        }
        self.logs.questions.ask(&self.live, node, Question::Log(question), PART_TIME).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_bounded_per_node_and_in_all_and_leave_their_places() {
        let logs = Logs::default();
        let node = |number: usize| NodeName::parse(&format!("is-{number}")).unwrap();
        let places: Vec<Place> = (0..READERS_OF_NODE_MAX).map(|_| logs.enter(&node(0)).unwrap()).collect();
        assert_eq!(logs.enter(&node(0)).err(), Some(TooMany::OfNode));
        let others: Vec<Place> =
            (places.len()..READERS_MAX).map(|number| logs.enter(&node(number)).unwrap()).collect();
        assert_eq!(logs.enter(&node(99)).err(), Some(TooMany::OfAll));
        drop(others);
        assert!(logs.enter(&node(99)).is_ok() && logs.enter(&node(0)).is_err());
        drop(places);
        assert!(logs.enter(&node(0)).is_ok() && lock(&logs.readers).is_empty());
    }
}
