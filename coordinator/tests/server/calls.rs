//! How the calls about alerts and revisions are made, for the test that makes all of them.

use proto::wire::operator::{self as wire, alerts_client::AlertsClient, revisions_client::RevisionsClient};
use tonic::{Status, transport::Channel};

/// A silence that reaches the group km.
pub fn silence_of_km() -> wire::AddSilenceRequest {
    let (target, reason) = ("km".to_owned(), "because".to_owned());
    wire::AddSilenceRequest { target, reason, seconds: 3600, ..wire::AddSilenceRequest::default() }
}

/// One call of the method.
pub async fn call_alerts(mut alerts: AlertsClient<Channel>, method: &str) -> Result<(), Status> {
    match method {
        "Alerts.List" => alerts.list(wire::ListAlertsRequest {}).await.map(drop),
        "Alerts.AddSilence" => alerts.add_silence(silence_of_km()).await.map(drop),
        "Alerts.RemoveSilence" => {
            let shown = alerts.list(wire::ListAlertsRequest {}).await?.into_inner();
            let id = shown.silences.first().expect("the test made enough of them").id;
            alerts.remove_silence(wire::RemoveSilenceRequest { id }).await.map(drop)
        }
        "Alerts.Test" => alerts.test(wire::TestChannelRequest { channel: "none".to_owned() }).await.map(drop),
        other => panic!("nobody says how {other} is called"),
    }
}

pub async fn call_revisions(channel: Channel) -> Result<(), Status> {
    RevisionsClient::new(channel).list(wire::ListRevisionsRequest::default()).await.map(drop)
}
