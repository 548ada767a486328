//! The coordinator's alerts.

use std::time::Duration;

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
            silences: reply.silences.into_iter().map(convert::silence).collect(),
        })
    }

    /// Silences alerts. An empty target is the whole fleet, an empty rule every rule.
    pub async fn add_silence(
        &mut self,
        target: String,
        rule: String,
        lasts: Duration,
        reason: String,
    ) -> Result<view::Silence, Failure> {
        let request = wire::AddSilenceRequest { target, rule, seconds: lasts.as_secs(), reason };
        let reply = self.alerts.add_silence(timed(request)).await;
        Ok(convert::silence(self.answer("silence add", reply)?))
    }

    /// Ends a silence.
    pub async fn remove_silence(&mut self, id: u64) -> Result<view::Answer, Failure> {
        let reply = self.alerts.remove_silence(timed(wire::RemoveSilenceRequest { id })).await;
        convert::answer(self.answer("silence remove", reply)?)
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
