//! Channels: where alerts go. Their destinations are in the coordinator's own configuration, never in a fleet
//! directory, so whoever may apply a fleet cannot make the coordinator call an address or run a program.

mod command;
pub(crate) mod http;
mod mail;
mod payload;
mod settings;

use std::time::Duration;

use fleet::{
    alert::{ChannelRules, Severity},
    ids::ChannelName,
    spec::Secret,
    time::Timestamp,
};
use tracing::{error, info, warn};

pub(crate) use self::payload::{Payload, Standing};
pub use self::settings::{AlertSettings, ChannelError};
use self::{
    command::Program,
    http::{Endpoint, Header},
    mail::Mail,
};

/// A receiver that takes longer has not taken it.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// A channel that is ready to use.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Its name.
    pub name: ChannelName,
    /// It carries nothing that is less urgent.
    pub least: Severity,
    /// From the first sign of an incident to its first message.
    pub first_after: Duration,
    pub(crate) kind: ChannelKind,
}

/// What a channel does with a message.
#[derive(Debug, Clone)]
pub(crate) enum ChannelKind {
    /// Posts JSON, signed with each of the secrets.
    Webhook { endpoint: Endpoint, secrets: Vec<Secret> },
    /// Keeps an Alertmanager informed of what is wrong now.
    Alertmanager { endpoint: Endpoint },
    /// Runs a program, with the JSON at its standard input.
    Command(Program),
    /// Writes a line to the coordinator's own log.
    Log,
    /// Sends a mail.
    Mail(Box<Mail>),
    /// Posts text as Slack takes it.
    Slack { endpoint: Endpoint },
    /// Posts an Adaptive Card as Teams takes it.
    Teams { endpoint: Endpoint },
}

impl ChannelKind {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            ChannelKind::Webhook { .. } => "webhook",
            ChannelKind::Alertmanager { .. } => "alertmanager",
            ChannelKind::Command(_) => "command",
            ChannelKind::Log => "log",
            ChannelKind::Mail(_) => "mail",
            ChannelKind::Slack { .. } => "slack",
            ChannelKind::Teams { .. } => "teams",
        }
    }
}

impl Channel {
    pub(crate) fn rules(&self) -> ChannelRules {
        ChannelRules { name: self.name.clone(), least: self.least, first_after: self.first_after }
    }

    /// It is told what is wrong now, again and again, and never what changed.
    pub(crate) fn takes_standing(&self) -> bool {
        matches!(self.kind, ChannelKind::Alertmanager { .. })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Why it did not arrive, as far as is known; never a secret.
    pub(crate) async fn send(&self, payload: &Payload, now: Timestamp) -> Result<(), String> {
        let sending = async {
            match &self.kind {
                ChannelKind::Webhook { endpoint, secrets } => {
                    let body = payload.json();
                    let mut headers =
                        vec![Header { name: "convoy-delivery", value: payload.delivery().to_owned() }];
                    headers.extend(signature(secrets, &body, now));
                    http::post(endpoint, &headers, body).await
                }
                ChannelKind::Slack { endpoint } => http::post(endpoint, &[], payload.slack()).await,
                ChannelKind::Teams { endpoint } => http::post(endpoint, &[], payload.teams()).await,
                ChannelKind::Alertmanager { endpoint } => {
                    http::post(endpoint, &[], payload.alertmanager(now)).await
                }
                ChannelKind::Command(program) => program.run(payload).await,
                ChannelKind::Mail(mail) => mail.send(payload).await,
                ChannelKind::Log => {
                    log(payload);
                    Ok(())
                }
            }
        };
        match tokio::time::timeout(SEND_TIMEOUT, sending).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {}", fleet::time::Human(SEND_TIMEOUT))),
        }
    }

    /// Tells what is wrong now to a channel that [`Channel::takes_standing`].
    ///
    /// # Errors
    /// As for [`Channel::send`].
    pub(crate) async fn keep_informed(&self, standing: &Standing<'_>) -> Result<(), String> {
        let ChannelKind::Alertmanager { endpoint } = &self.kind else { return Ok(()) };
        let sending = http::post(endpoint, &[], standing.alertmanager(&self.name, self.least));
        match tokio::time::timeout(SEND_TIMEOUT, sending).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {}", fleet::time::Human(SEND_TIMEOUT))),
        }
    }
}

/// `convoy-signature: t=1795910400,v1=…`, with a `v1` for each secret, so that a receiver can change its own.
fn signature(secrets: &[Secret], body: &[u8], now: Timestamp) -> Option<Header> {
    if secrets.is_empty() {
        return None;
    }
    let at = now.0 / 1000;
    let mut value = format!("t={at}");
    for secret in secrets {
        value.push_str(",v1=");
        value.push_str(&http::hmac_hex(secret.expose().as_bytes(), &[at.to_string().as_bytes(), b".", body]));
    }
    Some(Header { name: "convoy-signature", value })
}

/// With the JSON format of the log this is one line of JSON, for whoever collects logs.
fn log(payload: &Payload) {
    let facts = payload.facts();
    let (delivery, occasion, severity) = (payload.delivery(), facts.occasion, facts.severity.as_str());
    let (rules, subjects, text) = (facts.rules.join(","), facts.subjects.join(", "), &facts.headline);
    match facts.severity {
        Severity::Critical => {
            error!(delivery, occasion, severity, rules, subjects, headline = %text, "Alert");
        }
        Severity::Warning => {
            warn!(delivery, occasion, severity, rules, subjects, headline = %text, "Alert");
        }
        Severity::Info => {
            info!(delivery, occasion, severity, rules, subjects, headline = %text, "Alert");
        }
    }
}

#[cfg(test)]
mod tests;
