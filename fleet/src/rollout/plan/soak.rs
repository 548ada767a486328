//! Watching a wave whose nodes are ready: all must stay healthy for the soak, and for as long as its gates are asked.
//!
//! A node whose state is unknown (its agent has just started, or is not connected) is neither healthy nor failed. The
//! soak begins again when it is seen to serve. All such time of one wave together may be as long as the group's
//! `progress_deadline`; beyond, the nodes that still cannot be judged have failed.

use super::{
    super::{
        state::StepState,
        view::{RunWish, Serving},
        wait::WaitReason,
    },
    Planner,
};
use crate::{
    ids::{Generation, GroupName, NodeName},
    time::Human,
};

/// A node of the wave that cannot be judged.
struct Unseen<'a> {
    node: &'a NodeName,
    generation: Generation,
    /// `None`: it is not connected.
    why: Option<String>,
}

impl<'a> Planner<'a> {
    /// Watches a wave whose nodes are through. `true`: nothing was restarted, or all stayed healthy long enough.
    pub(super) fn soak(&mut self, name: &GroupName, watched: &[&'a NodeName]) -> bool {
        let mut restarted = false;
        let mut unseen = Vec::new();
        for &node in watched {
            let StepState::Ready { generation, restarted: true, .. } = *self.state(node) else { continue };
            restarted = true;
            let Some(view) = self.node(node).filter(|view| view.wish == RunWish::Running) else { continue };
            match view.serving() {
                Serving::Serves => {}
                Serving::Fails(why) => {
                    self.fail(
                        node,
                        generation,
                        format!("stopped being healthy while its wave soaked: {why}"),
                    );
                }
                Serving::Unclear(why) => unseen.push(Unseen { node, generation, why: Some(why) }),
                Serving::Away => unseen.push(Unseen { node, generation, why: None }),
            }
        }
        if !unseen.is_empty() {
            self.wait_to_see(name, unseen);
            return false;
        }
        let (now, group) = (self.now, self.group_mut(name));
        group.blind.end(now);
        let since = *group.wave_ready.get_or_insert(now);
        let left = group.policy.soak.saturating_sub(now.since(since));
        if restarted && !left.is_zero() {
            let wave = group.wave + 1;
            self.waiting.push(WaitReason::Soak { group: name.clone(), wave, left });
            return false;
        }
        true
    }

    fn wait_to_see(&mut self, name: &GroupName, unseen: Vec<Unseen<'a>>) {
        let (now, paused) = (self.now, self.next.paused.is_some());
        let group = self.group_mut(name);
        group.wave_ready = None;
        if paused {
            // Nobody is blamed for the time in which nobody may go on.
            group.blind.since = None;
        } else {
            group.blind.begin(now);
        }
        let (spent, most) = (group.blind.total(now), group.policy.progress_deadline);
        if paused || spent <= most {
            let Some(Unseen { node, why, .. }) = unseen.into_iter().next() else { return };
            let (group, node, left) = (name.clone(), node.clone(), most.saturating_sub(spent));
            return self.waiting.push(WaitReason::SoakBlind { group, node, why, left });
        }
        for Unseen { node, generation, why } in unseen {
            let why = why.unwrap_or_else(|| "it is not connected".to_owned());
            let why = format!("nobody could tell for {} whether it serves: {why}", Human(spent));
            self.fail(node, generation, why);
        }
    }

    fn fail(&mut self, node: &NodeName, generation: Generation, why: String) {
        let at = self.now;
        if let Some(record) = self.next.steps.get_mut(node) {
            record.state = StepState::Failed { generation, at, why };
        }
    }
}
