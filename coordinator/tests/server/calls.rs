//! How the calls about alerts, the audit, revisions and proposals are made, for the test that makes all of them.

use proto::wire::operator::{
    self as wire, alerts_client::AlertsClient, audit_client::AuditClient, proposals_client::ProposalsClient,
    revisions_client::RevisionsClient,
};
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

pub async fn call_revisions(channel: Channel, method: &str) -> Result<(), Status> {
    let mut revisions = RevisionsClient::new(channel);
    match method {
        "Revisions.List" => revisions.list(wire::ListRevisionsRequest::default()).await.map(drop),
        "Revisions.Configuration" => {
            revisions.configuration(wire::ConfigurationRequest::default()).await.map(drop)
        }
        other => panic!("nobody says how {other} is called"),
    }
}

/// The newest proposal is the one that was made for this call.
pub async fn call_proposals(channel: Channel, method: &str) -> Result<(), Status> {
    let mut proposals = ProposalsClient::new(channel);
    let list = proposals.list(wire::ListProposalsRequest { most: 1 }).await?.into_inner();
    let proposal = list.proposals.first().map_or(0, |newest| newest.id);
    match method {
        "Proposals.List" => Ok(()),
        "Proposals.Show" => proposals.show(wire::ProposalRequest { proposal }).await.map(drop),
        "Proposals.Approve" => proposals.approve(wire::ProposalRequest { proposal }).await.map(drop),
        "Proposals.Reject" => {
            let request = wire::RejectProposalRequest { proposal, reason: "because".to_owned() };
            proposals.reject(request).await.map(drop)
        }
        other => panic!("nobody says how {other} is called"),
    }
}

pub async fn call_audit(mut audit: AuditClient<Channel>, method: &str) -> Result<(), Status> {
    match method {
        "Audit.List" => audit.list(wire::ListAuditRequest::default()).await.map(drop),
        "Audit.Head" => audit.head(wire::AuditHeadRequest {}).await.map(drop),
        other => panic!("nobody says how {other} is called"),
    }
}
