//! Which node may go next, and why nothing may. Called by the coordinator, which commits what is decided here before
//! it sends anything; called by the simulation, which tries to break it.
//!
//! # How it is used
//! 1. [`NewRollout::create`] turns a revision into a [`Rollout`]: who takes part, in which wave. The coordinator
//!    commits it; a rollout that was under way is committed as [`Rollout::supersede`]d in the same transaction.
//! 2. [`plan`] looks at the rollout and the fleet and returns the rollout as it is then, the [`Step`]s, and the
//!    [`WaitReason`]s. If `changed`, the coordinator commits **in one compare-and-swap transaction** `plan.rollout` and
//!    for each step the node's new desired state (`generation`, `target`); it sends nothing before that succeeded, and
//!    throws the plan away if it did not. Sending is then the session's business: the newest desired state of a node
//!    is sent whenever it connects, as often as need be. That is why a crash neither loses nor repeats a step.
//!    If not, nothing is to be done before [`Plan::due`], unless somebody acts or a node is not [`NodeView::is_as`] before.
//! 3. Operators act through [`Rollout::pause`], `resume`, `abort` and `promote`, whose results are committed alike.
//! 4. While `plan.asks` is not empty and nothing `changed`, somebody asks the nodes and commits each answer with
//!    [`Rollout::answer`]; an answer that was lost is asked for again.
//! 5. When a node's report says that a generation became ready (`last_good`), the coordinator remembers that
//!    generation's target as the node's last good one; it is the `last_good` of the next [`NodeGoal`].
//!
//! ```
//! # use std::collections::{BTreeMap, BTreeSet};
//! # use fleet::{bundle::RestartClass, ids::*, rollout::*, time::Timestamp};
//! let (group, node) = (GroupName::parse("key-manager").unwrap(), NodeName::parse("is-1").unwrap());
//! let target = Target { bundle: Digest::of(b"new"), content: Digest::of(b"new, encoded"), size: 12 };
//! let mut view = FleetView::default();
//! view.nodes.insert(&node, NodeView {
//!     group: &group, host: "is-1.acme.internal", zone: None, connected: true,
//!     desired: None, wish: RunWish::Running, observed: None,
//! });
//! let rollout = NewRollout {
//!     id: RolloutId(1), revision: Revision(1), at: Timestamp(0),
//!     rules: RolloutRules {
//!         policy: FleetPolicy::default(),
//!         groups: BTreeMap::from([(group.clone(), GroupGoal::default())]),
//!     },
//!     nodes: BTreeMap::from([(node.clone(), NodeGoal {
//!         group: group.clone(), target, restart: RestartClass::Restart, compared_with: None, last_good: None,
//!     })]),
//!     windows_overridden: None,
//! }.create(&view);
//!
//! let plan = plan(&rollout, &view, Timestamp(1000));
//! assert_eq!((plan.steps.len(), plan.steps[0].generation), (1, Generation(1)));
//! // Commit plan.rollout and the node's new desired state together. Then, and only then, send.
//! assert_eq!(plan.rollout.steps[&node].state.as_str(), "sent");
//! ```

mod control;
mod create;
mod estimate;
mod gate;
mod observe;
pub mod order;
pub mod phase;
mod plan;
pub mod policy;
mod standing;
mod state;
mod tally;
mod view;
mod wait;
pub mod window;

pub use control::{Abort, ControlError};
pub use create::{GroupGoal, NewRollout, NodeGoal, RolloutRules};
pub use estimate::{Estimate, estimate};
pub use gate::{Ask, GATE_NAME_MAX, GATES_MAX, Gate, GateOn, GateVerdict, Gates};
pub use plan::{Plan, Step, plan};
pub use policy::{FleetPolicy, OnFailure, Promotion, RolloutPolicy, Share};
pub use standing::{Lag, Position, Standing, standing};
pub use state::{
    Blind, Flight, FlightStage, GroupRollout, Pause, Phase, Rollout, Spent, StepKind, StepRecord, StepState,
    Target,
};
pub use tally::may_take_down;
pub use view::{FleetView, NodeView, RunWish, Serving, next_at};
pub(crate) use wait::utc;
pub use wait::{NAMES_MAX, OtherZone, WaitReason, ZoneBudget};
pub use window::{Cron, Overrun, Window, WindowUse};

#[cfg(test)]
mod tests;
