//! Asks nodes what the planner wants to know, and commits their answers. Nothing here is durable but the answers: a
//! question that was lost, with a connection or with this coordinator, is asked again, and a node keeps nothing of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fleet::{
    call::Check,
    ids::{Digest, GroupName, RolloutId},
    node::Command,
    rollout::{Ask, Gates, Rollout},
    spec::{Absent, Fleet},
};
use proto::convert::store::{decode_question, encode_questions};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{info, warn};

use crate::{
    coordinator::Coordinator,
    events::{Draft, Kind},
    rpc::chain,
    store::{CommitError, Key, blobs, rollouts},
};

/// Beyond what a node may take for an answer.
const MARGIN: Duration = Duration::from_secs(30);
/// After an answer was lost.
const PAUSE: Duration = Duration::from_secs(5);
/// Tries when somebody else commits at the same moment.
const TRIES_MAX: usize = 8;
/// Questions at once; more wait for the next look.
const ASKS_MAX: usize = 256;
/// A node's reason is cut to so many characters before it is kept.
const FAILURE_MAX: usize = 500;

/// Every gate of every node of the groups that have gates, encoded.
pub(crate) fn questions(fleet: &Fleet) -> BTreeMap<&GroupName, Vec<u8>> {
    let asked = fleet.groups.iter().filter(|(_, group)| !group.gates.is_empty());
    asked
        .map(|(name, group)| {
            let nodes = group.nodes.iter();
            let nodes = nodes.filter_map(|node| Some((node, fleet.nodes.get(node)?.gates.as_slice())));
            (name, encode_questions(nodes))
        })
        .collect()
}

/// The gates of a group, whose questions are stored as these bytes.
pub(crate) fn gates(group: &fleet::spec::Group, questions: Option<&Vec<u8>>) -> Option<Gates> {
    questions.map(|bytes| Gates { list: group.gates.clone(), content: Digest::of(bytes) })
}

/// A question of one rollout.
type Asked = (RolloutId, Ask);

/// What is being asked now. Dropping it ends that.
#[derive(Default)]
pub(crate) struct Asking {
    open: BTreeMap<Asked, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Asking {
    /// Begins what is not being asked yet, and ends what nobody wants to know any more.
    pub(crate) fn ask(&mut self, coordinator: &Arc<Coordinator>, rollout: &Rollout, asks: Vec<Ask>) {
        while let Some(ended) = self.tasks.try_join_next() {
            // Where it panicked is in the log already.
            if ended.is_err_and(|error| error.is_panic()) {
                warn!("Asking a gate ended in a panic");
            }
        }
        let wanted: BTreeSet<Asked> = asks.into_iter().map(|ask| (rollout.id, ask)).collect();
        self.open.retain(|asked, task| {
            if !wanted.contains(asked) {
                task.abort();
            }
            wanted.contains(asked) && !task.is_finished()
        });
        for asked in wanted {
            let gates = rollout.groups.get(&asked.1.group).and_then(|group| group.gates.as_ref());
            let content = gates.map(|gates| gates.content);
            let Some(content) = content.filter(|_| self.open.len() < ASKS_MAX) else { continue };
            self.open.entry(asked).or_insert_with_key(|asked| {
                let (coordinator, (id, ask)) = (Arc::clone(coordinator), asked.clone());
                self.tasks.spawn(async move { coordinator.ask_gate(id, &ask, content).await })
            });
        }
    }

    /// Ends everything.
    pub(crate) fn end(&mut self) {
        self.open.clear();
        self.tasks.abort_all();
    }
}

/// Why there is no answer.
struct Lost(String);

/// A node's answer: `Err` is why it did not pass.
type Answer = Result<(), String>;

impl Coordinator {
    async fn ask_gate(&self, rollout: RolloutId, ask: &Ask, content: Digest) {
        let answer = match self.answer_of(ask, content).await {
            Ok(answer) => answer,
            Err(Lost(why)) => {
                info!(rollout = rollout.0, node = %ask.node, gate = ask.gate, why, "A gate was not answered");
                return tokio::time::sleep(PAUSE).await;
            }
        };
        if let Err(error) = self.commit_answer(rollout, ask, answer).await {
            warn!(error = chain(&error), node = %ask.node, gate = ask.gate, "Cannot store the answer to a gate");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn answer_of(&self, ask: &Ask, content: Digest) -> Result<Answer, Lost> {
        let check = match self.question(ask, content).await? {
            Ok(check) => check,
            Err(why) => return Ok(Err(why)),
        };
        let limit = check.call.longest(&check.tries).saturating_add(MARGIN);
        let answer = self.live.command(&ask.node, Command::Check(Box::new(check)));
        let answer = answer.map_err(|refused| Lost(refused.to_string()))?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok((true, _))) => Ok(Ok(())),
            Ok(Ok((false, why))) => Ok(Err(why.chars().take(FAILURE_MAX).collect())),
            Ok(Err(_)) => Err(Lost("the connection ended".to_owned())),
            Err(_) => Err(Lost("no answer in time".to_owned())),
        }
    }

    /// The question with its secrets put in; `Err` inside: it cannot be asked, for this reason.
    async fn question(&self, ask: &Ask, content: Digest) -> Result<Result<Check, String>, Lost> {
        let bytes = blobs::get(&*self.store, &content).await.map_err(|error| Lost(chain(&error)))?;
        let bytes = bytes.ok_or_else(|| Lost("its question is not in the store".to_owned()))?;
        let check = decode_question(&bytes, &ask.node, &ask.gate).map_err(|error| Lost(chain(&error)))?;
        let Some(check) = check else {
            return Ok(Err("the revision has no such gate for this node; apply again".to_owned()));
        };
        let secrets = self.secrets(Absent::Refuse).await.map_err(|error| Lost(chain(&error)))?;
        let call = check.call.with_secrets(|name| secrets.get(name).cloned());
        Ok(match call {
            Ok(call) => Ok(Check { call, ..check }),
            Err(name) => {
                Err(format!("the secret {name} has no value; give it one: convoy secret set {name}"))
            }
        })
    }

    async fn commit_answer(&self, id: RolloutId, ask: &Ask, answer: Answer) -> Result<(), CommitError> {
        for _ in 0..TRIES_MAX {
            let stored = rollouts::read(&*self.store, id).await.map_err(CommitError::Refused)?;
            let Some(stored) = stored else { return Ok(()) };
            let now = (self.clock)();
            let Some(next) = stored.rollout.answer(ask, answer.clone().err(), now) else { return Ok(()) };
            let (_, commit) = rollouts::replace(&stored, next);
            let text = match &answer {
                Ok(()) => format!("gate {} passed on {}", ask.gate, ask.node),
                Err(why) => format!("gate {} failed on {}: {why}", ask.gate, ask.node),
            };
            let event = Draft::new(now, Kind::Gate, text).of_node(&ask.node).with("rollout", &id);
            let event = event.with("gate", &ask.gate).with("passed", &answer.is_ok());
            match self.events.append(vec![event], commit).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CommitError::Conflict { key: Key::rollout(id) })
    }
}
