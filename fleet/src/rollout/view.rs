//! The fleet as the planner sees it: borrowed from the coordinator's read model, one line per node.

use std::{cmp::Ordering, collections::BTreeMap, iter::Peekable, time::Duration};

use super::state::StepRecord;
use crate::{
    bundle::Applied,
    ids::{Generation, GroupName, NodeName, ZoneName},
    observed::{Observed, ServiceState, Verdict},
};

/// What an operator wants of a node's service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunWish {
    /// To run.
    #[default]
    Running,
    /// To be stopped.
    Stopped,
}

/// Whether a node serves, as far as its last word tells. Unknown is neither healthy nor failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serving {
    /// It is connected, and its server runs and is healthy.
    Serves,
    /// Its agent says that the server does not do its job, and why.
    Fails(String),
    /// Its agent cannot say yet, and why: it has just started, or the server is being restarted.
    Unclear(String),
    /// Its agent is not connected.
    Away,
}

/// Of a node's last restarts, how many say how long the next takes.
const RESTARTS_WEIGHED: usize = 5;

/// All nodes that the fleet has, whether they take part in a rollout or not: the budget counts them all.
#[derive(Debug, Clone, Default)]
pub struct FleetView<'a> {
    /// By name. A node that is missing here has left the fleet.
    pub nodes: BTreeMap<&'a NodeName, NodeView<'a>>,
    /// The steps of rollouts that are kept, newest first. Only windows and estimates ask for them.
    pub past: Vec<&'a BTreeMap<NodeName, StepRecord>>,
}

impl FleetView<'_> {
    /// How long a restart of this node takes, from its commit to ready: the longest of the last five that are kept.
    /// `None`: none is.
    pub fn restart_time(&self, name: &NodeName) -> Option<Duration> {
        let steps = self.past.iter().filter_map(|steps| steps.get(name));
        steps.filter_map(StepRecord::took).take(RESTARTS_WEIGHED).max()
    }
}

/// One node.
#[derive(Debug, Clone)]
pub struct NodeView<'a> {
    /// Its group in the newest revision.
    pub group: &'a GroupName,
    /// The machine it is on.
    pub host: &'a str,
    /// What it shares its fate with, if the fleet says so.
    pub zone: Option<&'a ZoneName>,
    /// Its agent has a live session, and what it reported in it is stored: what was reported before may have ended
    /// meanwhile.
    pub connected: bool,
    /// What was last committed for it.
    pub desired: Option<Applied>,
    /// What an operator wants of its service.
    pub wish: RunWish,
    /// Its newest report, however old; `None` if it never sent one.
    pub observed: Option<&'a Observed>,
}

/// What stands at `key` in a sorted walk that is asked for growing keys: cheaper than to look each of them up.
pub fn next_at<K: Ord, V>(walk: &mut Peekable<impl Iterator<Item = (K, V)>>, key: &K) -> Option<V> {
    loop {
        match walk.peek()?.0.cmp(key) {
            Ordering::Less => drop(walk.next()),
            Ordering::Equal => return walk.next().map(|(_, value)| value),
            Ordering::Greater => return None,
        }
    }
}

impl NodeView<'_> {
    /// It serves, and nothing that was committed for it is still to happen. Everything else is down: unreachable,
    /// unhealthy, unknown, stopped on purpose or about to be, or about to act on a commit, whoever made that.
    pub fn is_available(&self) -> bool {
        self.connected && self.wish == RunWish::Running && self.is_settled() && self.is_healthy()
    }

    /// Its last report says that it serves. Unknown is not healthy.
    pub fn is_healthy(&self) -> bool {
        self.observed.is_some_and(Observed::serves)
    }

    /// What can be said of its server now.
    pub fn serving(&self) -> Serving {
        let observed = match self.observed {
            _ if !self.connected => return Serving::Away,
            None => return Serving::Unclear("it never reported".to_owned()),
            Some(observed) => observed,
        };
        match &observed.health {
            Verdict::Healthy if observed.service == ServiceState::Running => Serving::Serves,
            Verdict::Healthy => Serving::Unclear(observed.service_reason.clone()),
            Verdict::Unknown(why) => Serving::Unclear(why.clone()),
            Verdict::Unhealthy(why) => Serving::Fails(why.clone()),
        }
    }

    /// The agent has ended its work on the newest commit, well or badly. So it has if it knows a newer one: the store was
    /// restored from an older copy, and the agent refuses what is older than what it has accepted.
    pub fn is_settled(&self) -> bool {
        let Some(desired) = self.desired else { return true };
        let attempted = self.observed.and_then(|observed| observed.attempted.as_ref());
        attempted.is_some_and(|attempt| attempt.done && desired.generation <= attempt.target.generation)
    }

    /// Whether the planner would take it for the same node as `before`: nothing that it looks at differs. Measurements,
    /// drift and concerns are among what it does not look at.
    pub fn is_as(&self, before: &NodeView<'_>) -> bool {
        let NodeView { group, host, zone, connected, desired, wish, observed } = *self;
        (group, host, zone) == (before.group, before.host, before.zone)
            && (connected, desired, wish) == (before.connected, before.desired, before.wish)
            && match (observed, before.observed) {
                (None, None) => true,
                (Some(now), Some(before)) => std::ptr::eq(now, before) || is_same(now, before),
                (None, Some(_)) | (Some(_), None) => false,
            }
    }

    /// The number that the next commit for this node takes. Also above what the agent itself has seen, so that a
    /// store restored from an older copy does not hand out a number twice.
    pub fn next_generation(&self) -> Generation {
        let seen = self.observed.and_then(|observed| observed.desired).map(|applied| applied.generation);
        let attempted = self.observed.and_then(|observed| observed.attempted.as_ref());
        let attempted = attempted.map(|attempt| attempt.target.generation);
        let committed = self.desired.map(|applied| applied.generation);
        committed.max(seen).max(attempted).unwrap_or_default().next()
    }
}

/// Whether two reports say the same of what the planner looks at. Every field is named, so that a new one is thought of.
fn is_same(now: &Observed, before: &Observed) -> bool {
    let Observed {
        desired,
        attempted,
        written,
        running,
        last_good,
        service,
        service_since: _,
        service_reason,
        health,
        health_since: _,
        process: _,
        drift: _,
        drift_total: _,
        starts_total: _,
        vitals: _,
        pack: _,
        drift_pause: _,
        concerns: _,
        key_managers: _,
        last_output: _,
        original,
    } = now;
    (desired, attempted, written) == (&before.desired, &before.attempted, &before.written)
        && (running, last_good) == (&before.running, &before.last_good)
        && (service, service_reason, health) == (&before.service, &before.service_reason, &before.health)
        && original.is_some() == before.original.is_some()
}
