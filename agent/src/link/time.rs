//! What time a coordinator has, for `convoy-agent doctor`: from the date of an answer, to the second. A session of its own
//! would end that of the agent that runs.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fleet::{preflight::facts::ClockSkew, time::Timestamp};
use http::{Request, header};
use http_body_util::Full;
use proto::wire::agent::{FetchRequest, agent_link_client::AgentLinkClient};
use tonic::{Code, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};

use super::{
    addresses,
    dial::{Network, dial},
};
use crate::{identity::Store, wall_clock};

/// From the question to its answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Any answer has a date, so it does not matter what is asked.
const QUESTION: &str = "/grpc.health.v1.Health/Check";
/// An empty message: not compressed, no bytes.
const EMPTY: [u8; 5] = [0; 5];

/// What a coordinator says to a host that only asks.
pub struct Answer {
    /// Where it was reached.
    pub address: String,
    /// This host's clock against its.
    pub skew: ClockSkew,
    /// Why it does not take this host's certificate, if it does not: another host may have been enrolled as its node.
    pub refused: Option<String>,
}

/// The first coordinator that answers.
///
/// # Errors
/// This host is not enrolled, or none answers; in words.
pub async fn ask_time(
    store: &Store,
    coordinators: &[String],
    network: &Arc<dyn Network>,
) -> Result<Answer, String> {
    let identity = store.read(0).map_err(|error| crate::chain(&error))?;
    let mut reasons = Vec::new();
    for address in addresses(coordinators, &identity) {
        let told = match dial(address, Arc::clone(&identity.tls), Arc::clone(network)).await {
            Ok(channel) => tokio::time::timeout(ANSWER_TIME, ask(channel, address))
                .await
                .unwrap_or_else(|_| Err("no answer".to_owned())),
            Err(error) => Err(crate::chain(&error)),
        };
        match told {
            Ok((skew, refused)) => return Ok(Answer { address: address.clone(), skew, refused }),
            Err(why) => reasons.push(format!("{address}: {why}")),
        }
    }
    match reasons.is_empty() {
        true => Err("no coordinator is configured and none was enrolled with".to_owned()),
        false => Err(reasons.join("; ")),
    }
}

async fn ask(channel: Channel, address: &str) -> Result<(ClockSkew, Option<String>), String> {
    let skew = ask_clock(channel.clone(), address).await?;
    // No content at all: the answer says only whether somebody with this certificate may ask.
    let refused = match AgentLinkClient::new(channel).fetch(FetchRequest::default()).await {
        Err(status) if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) => {
            Some(status.message().to_owned())
        }
        Ok(_) | Err(_) => None,
    };
    Ok((skew, refused))
}

async fn ask_clock(mut channel: Channel, address: &str) -> Result<ClockSkew, String> {
    let request = Request::post(format!("http://{address}{QUESTION}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .body(Body::new(Full::new(Bytes::from_static(&EMPTY))))
        .map_err(|error| error.to_string())?;
    let ready = channel.ready().await.map_err(|error| crate::chain(&error))?;
    let asked_at = wall_clock();
    let answer = ready.call(request).await.map_err(|error| crate::chain(&error))?;
    let half_way = Timestamp(i64::midpoint(asked_at.0, wall_clock().0));
    let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
    let date = date.ok_or("its answer has no date")?;
    let theirs = jiff::fmt::rfc2822::parse(date).map_err(|error| error.to_string())?;
    // It was cut to the second: half of one is nearer on average.
    let theirs = Timestamp(theirs.timestamp().as_millisecond().saturating_add(500));
    Ok(ClockSkew::between(half_way, theirs))
}
