//! Whether the load balancer sends requests to a server that its hooks put into service. An administrator may take one
//! out by hand, and a server that nobody is sent to must not be counted as one that serves.
//!
//! Only HAProxy and the agent of an NGINX can be asked. They are asked while the server runs and no hook is under way or owed; what a hook did is no
//! news.

use std::time::Duration;

use crate::{
    call::{Call, HaproxyCall, HaproxyState},
    node::{Action, Clock, Engine, Out},
    observed::Verdict,
    service::Service,
    time::Instant,
};

/// Between two questions.
const PERIOD: Duration = Duration::from_secs(30);

/// What is known of the load balancer.
#[derive(Debug, Default)]
pub(super) enum Rotation {
    /// It is not asked now.
    #[default]
    Unasked,
    /// It is asked.
    Watched {
        /// When it is asked next.
        due: Instant,
        /// What it answered last; `None`: nothing that says whether requests are sent.
        state: Option<HaproxyState>,
    },
}

impl Rotation {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Rotation::Unasked => None,
            Rotation::Watched { due, .. } => Some(*due),
        }
    }
}

impl Engine {
    /// The call that puts the server into service, if the balancer can be asked about it.
    fn puts_into_service(&self) -> Option<HaproxyCall> {
        let (_, bundle) = self.written()?;
        let hook = bundle.hooks.after_ready.as_ref()?;
        let Call::Haproxy(call) = &hook.call else { return None };
        let is_allowed = self.limits.check_call(&hook.call).is_ok();
        (call.state == HaproxyState::Ready && is_allowed).then(|| call.clone())
    }

    pub(super) fn settle_rotation(&mut self, clock: Clock, out: &mut Out) {
        let is_asked = matches!(self.service, Service::Running { .. }) && !self.is_hook_open();
        let Some(call) = self.puts_into_service().filter(|_| is_asked) else {
            self.rotation = Rotation::Unasked;
            return;
        };
        let state = match self.rotation {
            Rotation::Watched { due, .. } if clock.now < due => return,
            Rotation::Watched { state, .. } => state,
            Rotation::Unasked => None,
        };
        self.rotation = Rotation::Watched { due: clock.now.after(PERIOD), state };
        out.push(Action::AskRotation(call));
    }

    pub(super) fn on_rotation(&mut self, answer: Option<HaproxyState>) {
        if let Rotation::Watched { state, .. } = &mut self.rotation {
            *state = answer;
        }
    }

    /// The verdict on a server that serves as far as its probes and hooks know.
    pub(super) fn verdict_in_rotation(&self) -> Verdict {
        let Rotation::Watched { state: Some(state), .. } = self.rotation else { return Verdict::Healthy };
        let does = match state {
            HaproxyState::Ready => return Verdict::Healthy,
            HaproxyState::Drain => "drains",
            HaproxyState::Maint => "has in maintenance",
        };
        let Some(HaproxyCall { balancer, backend, server, .. }) = self.puts_into_service() else {
            return Verdict::Healthy;
        };
        let title = balancer.title();
        Verdict::Unknown(format!("{title} {does} {backend}/{server}, which no hook of this agent asked for"))
    }
}
