//! Questions to agents whose answers are too large for the stream: a question goes out on the node's session, its answer
//! comes by a call of its own.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fleet::ids::NodeName;
use tokio::sync::oneshot;

use crate::sessions::{Asked, CommandRefused, Live, Question};

/// Questions that wait for their answers.
pub(crate) struct Questions<A> {
    waiting: Mutex<BTreeMap<u64, Waiting<A>>>,
}

struct Waiting<A> {
    node: NodeName,
    answer: oneshot::Sender<A>,
}

/// Why there is no answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Nobody to ask.
    NotConnected,
    /// Others are asking already.
    Busy,
    /// None came in time.
    TimedOut,
}

impl<A> Default for Questions<A> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<A> Questions<A> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting<A>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a node's agent.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub(crate) async fn ask(
        &self,
        live: &Live,
        node: &NodeName,
        question: Question,
        within: Duration,
    ) -> Result<A, NoAnswer> {
        let mut expected = self.expect(node);
        live.ask(node, Asked { id: expected.id, question }).map_err(|refused| match refused {
            CommandRefused::NotConnected => NoAnswer::NotConnected,
            // A question needs no journal, so the second never comes.
            CommandRefused::Busy | CommandRefused::NoJournal => NoAnswer::Busy,
        })?;
        let answer = tokio::time::timeout(within, &mut expected.arrives).await;
        answer.map_err(|_| NoAnswer::TimedOut)?.map_err(|_| NoAnswer::NotConnected)
    }

    /// Whether somebody waits for `node`'s answer to question `id`.
    pub(crate) fn waits(&self, id: u64, node: &NodeName) -> bool {
        self.lock().get(&id).is_some_and(|waiting| waiting.node == *node)
    }

    /// Hands over the answer; whether somebody was there to take it.
    pub(crate) fn answer(&self, id: u64, node: &NodeName, answer: A) -> bool {
        let mut all = self.lock();
        if all.get(&id).is_none_or(|waiting| waiting.node != *node) {
            return false;
        }
        let waiting = all.remove(&id);
        drop(all);
        waiting.is_some_and(|waiting| waiting.answer.send(answer).is_ok())
    }

    fn expect(&self, node: &NodeName) -> Expected<'_, A> {
        let id = rand::random();
        let (answer, arrives) = oneshot::channel();
        self.lock().insert(id, Waiting { node: node.clone(), answer });
        Expected { questions: self, id, arrives }
    }
}

/// A place for an answer, given up when dropped.
struct Expected<'a, A> {
    questions: &'a Questions<A>,
    id: u64,
    arrives: oneshot::Receiver<A>,
}

impl<A> Drop for Expected<'_, A> {
    fn drop(&mut self) {
        self.questions.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_and_from_the_node_that_was_asked() {
        let questions = Questions::default();
        let [node, other] = ["is-1", "is-2"].map(|name| NodeName::parse(name).unwrap());
        let mut expected = questions.expect(&node);
        assert!(!questions.answer(expected.id, &other, 7));
        assert!(questions.answer(expected.id, &node, 7));
        assert!(!questions.answer(expected.id, &node, 7));
        assert_eq!(expected.arrives.try_recv().unwrap(), 7);
        drop(expected);
        assert!(questions.lock().is_empty());
    }
}
