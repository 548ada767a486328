//! What differs on one host from what was assigned to it, with values: looked at because an operator asks, and masked like
//! a plan.

use std::sync::Arc;

use fleet::{
    ids::NodeName,
    plan::{self, Base, Knowledge, NodePlan, OpenEdits},
};

use crate::{
    apply::{ApplyError, content::SharedContents},
    coordinator::Coordinator,
    subjects::in_force,
    view::Snapshot,
};

/// What is known of one host.
pub(crate) enum Differences {
    /// What would put it right.
    Known(Box<NodePlan>),
    /// Nothing.
    Unknown {
        /// Why.
        why: String,
    },
}

impl Coordinator {
    /// What differs on a host.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn differences(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        name: &NodeName,
    ) -> Result<Differences, ApplyError> {
        let stored = match in_force(snapshot, name) {
            Some(assigned) => self
                .stored_node(&assigned.target, &SharedContents::default())
                .await?
                .map(|stored| (assigned, stored)),
            None => None,
        };
        let Some((assigned, stored)) = stored else {
            return Ok(Differences::Unknown { why: "nothing was applied to it yet".to_owned() });
        };
        let target = &assigned.target;
        let node = stored.clone().composed(target.group.clone(), target.host.clone(), target.zone.clone());
        let host = match self.knowledge(snapshot, (name, &node), Some(&stored)).await? {
            Knowledge::Unknown { why } => return Ok(Differences::Unknown { why }),
            host @ (Knowledge::Now(_) | Knowledge::Seen { .. }) => host,
        };
        let base = Base { assigned: Some(stored), host, edits: OpenEdits::default() };
        let comparing = crate::tasks::blocking(move || plan::drifted(&node, &base));
        Ok(Differences::Known(Box::new(comparing.await.map_err(ApplyError::Compose)?)))
    }
}
