//! What operators do to single nodes and rollouts, each guarded: nothing here takes a node down that the group's
//! others could not spare.

use std::time::Duration;

use fleet::{
    access::Permit,
    audit::Answer,
    bundle::{HomePath, RunState},
    ids::{NodeName, RolloutId},
    node::Command,
    reason::Reason,
    rollout::{Abort, ControlError, Rollout, RolloutRules, WaitReason, may_take_down},
    time::Timestamp,
};
use tokio::sync::oneshot;

use crate::{
    coordinator::Coordinator,
    enrolment::revocations_of,
    events::{Draft, Kind},
    rpc::chain,
    sessions::CommandRefused,
    store::{
        CommitError, Key, StoreError, Transaction,
        records::{NodeRecord, Record as _, RolloutRecord},
        rollouts,
    },
    view::Snapshot,
};

/// An agent that does not answer a command within this is reported so; the command may still be carried out.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries when somebody else commits at the same moment.
const TRIES_MAX: usize = 8;

/// The `action` of an event of [`Kind::DriftControl`]: edits are left alone for a while.
pub(crate) const PAUSE: &str = "pause";
/// One edit is left alone; `path` says which.
pub(crate) const ACCEPT: &str = "accept";

/// A command that was handed over, or why it was not.
pub(crate) type Sent = Result<oneshot::Receiver<(bool, String)>, CommandRefused>;

/// A command that was recorded, and whether it was handed over.
pub(crate) struct Handed {
    /// The entry of the record; `None`: it was not even tried.
    order: Option<u64>,
    sent: Sent,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, as the agent or the store says.
    Done(String),
    /// Not done, and why.
    Failed(String),
    /// Not done, because it would have hurt; the text says what to do to insist.
    Guarded(String),
}

/// What an operator wants of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Nothing new begins.
    Pause,
    /// Goes on.
    Resume,
    /// Ends; nodes keep what they have.
    Abort,
    /// Ends; nodes that were changed return.
    AbortAndReturn,
    /// Cuts the soak short, or vouches for the canary.
    Promote,
}

impl Control {
    /// Every choice with its word.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Pause, "pause"),
        (Self::Resume, "resume"),
        (Self::Abort, "abort"),
        (Self::AbortAndReturn, "abort-and-return"),
        (Self::Promote, "promote"),
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(control, _)| *control == self).map_or("", |(_, word)| word)
    }
}

/// Why a rollout was not controlled.
#[derive(Debug, thiserror::Error)]
pub enum ControlFailure {
    /// No such rollout.
    #[error("there is no rollout {0}, or it is not kept any more")]
    Unknown(RolloutId),
    /// Not in its state.
    #[error(transparent)]
    Refused(#[from] ControlError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store, while writing.
    #[error("the change could not be stored")]
    Commit(#[source] CommitError),
}

/// Why restarting or stopping a node would go beyond the budget, if it would, in the words of rollouts.
pub(crate) fn beyond_budget(snapshot: &Snapshot, node: &NodeName) -> Option<String> {
    let none = RolloutRules::default();
    let rules = snapshot.revision.as_ref().and_then(|revision| revision.rules.as_ref()).unwrap_or(&none);
    let under_way = snapshot.running_rollout().map(|open| &open.record.rollout);
    let reason = may_take_down(rules, under_way, &snapshot.view(), node).err()?;
    let WaitReason::Budget { down, .. } = &reason else { return Some(reason.to_string()) };
    let Some(other) = down.iter().find(|other| *other != node) else { return Some(reason.to_string()) };
    let state = snapshot.state(other);
    let why = state.why();
    let why = if why.is_empty() { why } else { format!(" ({why})") };
    Some(format!("{reason}; {other} is {}{why}", state.word().as_str()))
}

impl Coordinator {
    /// Restarts a node's server, unless that would take more nodes down than the budget of rollouts allows.
    ///
    /// # Errors
    /// The store failed.
    pub async fn restart_node(
        &self,
        node: &NodeName,
        why: &str,
        insist: bool,
        permit: &Permit,
    ) -> Result<Outcome, StoreError> {
        let taking_down = self.taking_down.lock().await;
        let snapshot = self.snapshot().await?;
        if !insist && let Some(reason) = beyond_budget(&snapshot, node) {
            return Ok(Outcome::Guarded(format!(
                "restarting {node} now would take one more down than the budget allows: {reason}; wait, or insist \
                 with --now --reason TEXT"
            )));
        }
        let insisted = if insist { ", whatever else is down" } else { "" };
        let text = format!("{} restarts {node}{insisted}{}", permit.operator(), Reason(why));
        let event = Draft::new((self.clock)(), Kind::NodeRestart, text).of_node(node);
        let event = event.by(permit.operator().as_str());
        let sent =
            self.hand_over(node, Command::Restart { why: why.to_owned() }, (event.clone(), permit)).await;
        drop(taking_down);
        Ok(self.outcome(node, (event, permit), sent).await)
    }

    /// Hands a command to a node and waits for its answer.
    pub async fn command(&self, node: &NodeName, command: Command) -> Outcome {
        self.answered(node, self.live.command(node, command)).await
    }

    /// Records who orders what, then hands it over: an order that nobody can name would be nobody's.
    pub(crate) async fn hand_over(
        &self,
        node: &NodeName,
        command: Command,
        (event, permit): (Draft, &Permit),
    ) -> Result<Handed, CommitError> {
        if self.live.node(node).is_none() {
            return Ok(Handed { order: None, sent: Err(CommandRefused::NotConnected) });
        }
        let order = self.order(permit, event.clone()).await?;
        let sent = self.live.command(node, command);
        if let Err(refused) = &sent {
            let why = format!("it was not handed over: {refused}");
            self.record_answer(permit, order, &event, Answer::NotDone { why: why.clone() }).await;
            self.events.record(Draft { text: format!("{}; {why}", event.text), ..event }).await;
        }
        Ok(Handed { order: Some(order), sent })
    }

    /// What became of what `event` tells of. The event says what was ordered; if that was not done, another one says so.
    pub(crate) async fn outcome(
        &self,
        node: &NodeName,
        (event, permit): (Draft, &Permit),
        handed: Result<Handed, CommitError>,
    ) -> Outcome {
        match handed {
            Ok(Handed { order, sent: Ok(answer) }) => {
                let heard = heard(node, answer).await;
                if let Some(order) = order {
                    self.record_answer(permit, order, &event, heard.to_answer()).await;
                }
                let text = match &heard {
                    Heard::Done(_) => None,
                    Heard::NotDone(why) => Some(format!("{}; it was not done: {why}", event.text)),
                    Heard::Nothing(why) => {
                        Some(format!("{}; whether it was done is not known: {why}", event.text))
                    }
                };
                if let Some(text) = text {
                    self.events.record(Draft { text, ..event }).await;
                }
                heard.into()
            }
            Ok(Handed { order, sent: refused @ Err(_) }) => {
                let outcome = self.answered(node, refused).await;
                // What was recorded as ordered has its answer already.
                if order.is_none()
                    && let Outcome::Failed(why) = &outcome
                {
                    self.record_refusal(permit, Some(node), why).await;
                }
                outcome
            }
            Err(error) => {
                let why = chain(&error);
                Outcome::Failed(format!("nothing was done, because it cannot be recorded: {why}"))
            }
        }
    }

    async fn answered(&self, node: &NodeName, sent: Sent) -> Outcome {
        let answer = match sent {
            Ok(answer) => answer,
            Err(refused) => {
                // One that was applied and has not joined has no record yet, and is a node all the same.
                return match self.snapshot().await {
                    Ok(snapshot) if !snapshot.names().contains(node) => unknown(node),
                    Ok(_) | Err(_) => Outcome::Failed(format!("{node}: {refused}")),
                };
            }
        };
        heard(node, answer).await.into()
    }

    /// Sets whether a node's server should run. Lasts until it is set otherwise, over rollouts too. A stop that would
    /// take more nodes down than the budget of rollouts allows is refused unless one insists.
    ///
    /// # Errors
    /// The store failed.
    pub async fn set_run(
        &self,
        node: &NodeName,
        run: RunState,
        insist: bool,
        (why, permit): (&str, &Permit),
    ) -> Result<Outcome, CommitError> {
        let _taking_down = self.taking_down.lock().await;
        for _ in 0..TRIES_MAX {
            let entry = self.store.get(&Key::node(node)).await.map_err(CommitError::Refused)?;
            let Some(entry) = entry else { return self.not_joined(node).await };
            let mut record = NodeRecord::read(&entry).map_err(CommitError::Refused)?;
            let word = match run {
                RunState::Running => "run",
                RunState::Stopped => "be stopped",
            };
            if record.run == run {
                return Ok(Outcome::Done(format!("{node} is to {word} already")));
            }
            if run == RunState::Stopped && !insist {
                let snapshot = self.snapshot().await.map_err(CommitError::Refused)?;
                if let Some(reason) = beyond_budget(&snapshot, node) {
                    return Ok(Outcome::Guarded(format!(
                        "stopping {node} now would take one more down than the budget allows: {reason}; wait, or \
                         insist with --now --reason TEXT"
                    )));
                }
            }
            record.run = run;
            let commit = Transaction::default().replace(Key::node(node), entry.version, record.encode());
            let insisted = if insist { ", whatever else is down" } else { "" };
            let text = format!("{} wants {node} to {word}{insisted}{}", permit.operator(), Reason(why));
            let event = Draft::new((self.clock)(), Kind::NodeRun, text).of_node(node);
            match self.act(permit, event, commit).await {
                Ok(_) => {
                    let told = match self.live.node(node) {
                        Some(_) => "its agent is being told",
                        None => "its agent is not connected and will be told when it is",
                    };
                    return Ok(Outcome::Done(format!("{node} is to {word}; {told}")));
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CommitError::Conflict { key: Key::node(node) })
    }

    /// Forgets a node that the newest revision does not name: its certificate is no longer accepted.
    ///
    /// # Errors
    /// The store failed.
    pub async fn forget_node(&self, node: &NodeName, permit: &Permit) -> Result<Outcome, CommitError> {
        let snapshot = self.snapshot().await.map_err(CommitError::Refused)?;
        if snapshot.wanted(node).is_some() {
            return Ok(Outcome::Guarded(format!(
                "the newest revision has {node}; remove it from fleet.toml and apply first"
            )));
        }
        let Some(known) = snapshot.nodes.get(node) else { return Ok(unknown(node)) };
        let commit = Transaction::default()
            .check(Key::node(node), known.version)
            .delete(Key::node(node))
            .delete(Key::seen(node))
            .delete(Key::host(node));
        let text = format!("{} forgot {node}", permit.operator());
        let event = Draft::new((self.clock)(), Kind::NodeForgotten, text);
        self.act(permit, event.of_node(node), commit).await?;
        self.revoke(revocations_of(&known.record)).await;
        self.live.dismiss(node, "the node was forgotten");
        Ok(Outcome::Done(format!("{node} is forgotten; its server and files are left as they are")))
    }

    /// Pauses, restores or resumes drift enforcement of a node.
    pub async fn drift(&self, node: &NodeName, control: DriftControl, permit: &Permit) -> Outcome {
        let actor = permit.operator();
        let about = |action: &str, text: String| {
            let event = Draft::new((self.clock)(), Kind::DriftControl, text).of_node(node);
            let event = event.by(actor.as_str());
            event.with("action", &action)
        };
        let (command, event) = match control {
            DriftControl::Pause { reason, until } => {
                let text = format!("{actor} pauses drift enforcement of {node}: {reason}");
                (Command::PauseDrift { reason, until }, about(PAUSE, text))
            }
            DriftControl::Resume => {
                let text = format!("{actor} resumes drift enforcement of {node}");
                (Command::ResumeDrift, about("resume", text))
            }
            DriftControl::Accept { path, until } => {
                let by = self.by(node, &path);
                let event = about(ACCEPT, format!("{actor} accepts how {path} of {node} is{by}"));
                let event = event.with("path", &path);
                (Command::AcceptDrift { path, until }, event)
            }
            DriftControl::Restore { path } => {
                let what = path.as_ref().map_or_else(|| "all files".to_owned(), ToString::to_string);
                let by = path.as_ref().map_or_else(String::new, |path| self.by(node, path));
                let event = about("restore", format!("{actor} restores {what} of {node}{by}"));
                (Command::RestoreDrift { path }, event)
            }
        };
        let sent = self.hand_over(node, command, (event.clone(), permit)).await;
        self.outcome(node, (event, permit), sent).await
    }

    /// Who made the edit that an order is about, as the node told it.
    fn by(&self, node: &NodeName, path: &HomePath) -> String {
        let observed = self.live.node(node).and_then(|node| node.observed.clone());
        let drift = observed.and_then(|seen| seen.drift.into_iter().find(|drift| drift.path == *path));
        let who = drift.and_then(|drift| fleet::editor::named(&drift.editors));
        who.map_or_else(String::new, |who| format!(", edited by {who}"))
    }

    /// Changes the course of a rollout.
    ///
    /// # Errors
    /// There is none such, it is not in the right state, or the store failed.
    pub async fn control_rollout(
        &self,
        id: RolloutId,
        control: Control,
        (why, permit): (&str, &Permit),
    ) -> Result<RolloutRecord, ControlFailure> {
        for _ in 0..TRIES_MAX {
            let stored = rollouts::read(&*self.store, id).await?.ok_or(ControlFailure::Unknown(id))?;
            let now = (self.clock)();
            let next = controlled(&stored.rollout, control, why, now)?;
            let (record, commit) = rollouts::replace(&stored, next);
            let text = format!("{}: {} rollout {id}{}", permit.operator(), control.as_str(), Reason(why));
            let event = Draft::new(now, Kind::RolloutControl, text).with("rollout", &id);
            let event = event.with("action", &control.as_str());
            match self.act(permit, event, commit).await {
                Ok(_) => return Ok(record),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(ControlFailure::Commit(error)),
            }
        }
        Err(ControlFailure::Commit(CommitError::Conflict { key: Key::rollout(id) }))
    }
}

/// What an operator wants of drift enforcement.
pub enum DriftControl {
    /// Report edits only, until then.
    Pause {
        /// For people.
        reason: String,
        /// The end.
        until: Timestamp,
    },
    /// Enforce again.
    Resume,
    /// Leave one file as it is until the next apply, or until then.
    Accept {
        /// Which.
        path: HomePath,
        /// The end.
        until: Option<Timestamp>,
    },
    /// Restore one file, or all of them.
    Restore {
        /// Which; all if absent.
        path: Option<HomePath>,
    },
}

/// What was heard of a command that was handed over.
enum Heard {
    /// It was carried out, or is being so.
    Done(String),
    /// The agent says why it was not.
    NotDone(String),
    /// No answer came.
    Nothing(String),
}

impl Heard {
    fn to_answer(&self) -> Answer {
        match self {
            Self::Done(_) => Answer::Done,
            Self::NotDone(why) => Answer::NotDone { why: why.clone() },
            Self::Nothing(why) => Answer::Unknown { why: why.clone() },
        }
    }
}

impl From<Heard> for Outcome {
    fn from(heard: Heard) -> Self {
        match heard {
            Heard::Done(detail) => Outcome::Done(detail),
            Heard::NotDone(why) | Heard::Nothing(why) => Outcome::Failed(why),
        }
    }
}

async fn heard(node: &NodeName, answer: oneshot::Receiver<(bool, String)>) -> Heard {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok((true, detail))) => Heard::Done(detail),
        Ok(Ok((false, detail))) => Heard::NotDone(detail),
        Ok(Err(_)) => Heard::Nothing(format!(
            "the connection to {node} ended before it answered; see `convoy node show {node}` for what happened"
        )),
        Err(_) => Heard::Nothing(format!(
            "{node} has not answered within {} s; it may still do it",
            ANSWER_TIMEOUT.as_secs()
        )),
    }
}

fn controlled(
    rollout: &Rollout,
    control: Control,
    why: &str,
    now: Timestamp,
) -> Result<Rollout, ControlError> {
    match control {
        Control::Pause => rollout.pause(why, now),
        Control::Resume => rollout.resume(now),
        Control::Abort => rollout.abort(Abort::Leave, why),
        Control::AbortAndReturn => rollout.abort(Abort::Return, why),
        Control::Promote => rollout.promote(),
    }
}

impl Coordinator {
    /// Of a node without a record: it was applied and has not joined, or nobody knows it.
    async fn not_joined(&self, node: &NodeName) -> Result<Outcome, CommitError> {
        let snapshot = self.snapshot().await.map_err(CommitError::Refused)?;
        if !snapshot.names().contains(node) {
            return Ok(unknown(node));
        }
        Ok(Outcome::Failed(format!(
            "{node} has not joined: nobody is there to be told; `convoy token create --node {node}` makes it a join token"
        )))
    }
}

fn unknown(node: &NodeName) -> Outcome {
    Outcome::Failed(format!("there is no node {node}; see `convoy node list`"))
}
