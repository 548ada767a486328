//! The coordinator's alerts.

use proto::wire::operator as wire;

use super::{Client, convert, timed};
use crate::{
    exit::Failure,
    view::{self, AlertState, When},
};

impl Client {
    /// Every alert, and how channels do.
    pub async fn alerts(&mut self) -> Result<view::Alerts, Failure> {
        let reply = self.alerts.list(timed(wire::ListAlertsRequest {})).await;
        let reply = self.answer("alert list", reply)?;
        Ok(view::Alerts {
            at: When(reply.at_ms),
            alerts: reply.alerts.into_iter().map(alert).collect(),
            channels: reply.channels.into_iter().map(channel).collect(),
        })
    }

    /// Sends a message that says that nothing is wrong.
    pub async fn test_channel(&mut self, channel: &str) -> Result<view::Answer, Failure> {
        let request = wire::TestChannelRequest { channel: channel.to_owned() };
        let reply = self.alerts.test(timed(request)).await;
        convert::answer(self.answer("alert test", reply)?)
    }
}

fn alert(wire: wire::Alert) -> view::Alert {
    let state = match wire.state() {
        wire::AlertState::Firing => AlertState::Firing,
        wire::AlertState::Hidden => AlertState::Hidden,
        wire::AlertState::Pending => AlertState::Pending,
        wire::AlertState::Ended => AlertState::Ended,
        wire::AlertState::Unspecified => AlertState::Other,
    };
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    view::Alert {
        state,
        rule: wire.rule,
        severity: wire.severity,
        title: wire.title,
        subject: wire.subject,
        node: given(wire.node),
        group: given(wire.group),
        reason: wire.reason,
        since: When(wire.since_ms),
        ended: When(wire.ended_ms),
        flapping: wire.flapping,
        hidden: given(wire.hidden),
        next: wire.next,
        sent_to: wire.sent_to,
    }
}

fn channel(wire: wire::AlertChannel) -> view::AlertChannel {
    let delivery = match (wire.failing_ms, wire.arrived_ms) {
        (0, 0) => view::Delivery::Idle,
        (0, at) => view::Delivery::Arrived { at: When(at) },
        (since, _) => view::Delivery::Failing { since: When(since), tries: wire.tries, why: wire.why },
    };
    view::AlertChannel { name: wire.name, kind: wire.kind, least: wire.least, delivery }
}
