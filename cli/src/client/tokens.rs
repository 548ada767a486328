//! Join tokens of many nodes.

use std::time::Duration;

use fleet::ids::{FleetName, NodeName};
use proto::wire::operator as wire;

use super::{Client, timed};
use crate::{exit::Failure, view::When};

/// A token as the coordinator made it. No `Debug`: whoever has the text can join.
pub struct MadeToken {
    pub node: NodeName,
    pub text: String,
    pub expires: When,
}

impl Client {
    /// Those of these nodes that have no certificate. Makes nothing.
    pub async fn nodes_without_certificate(
        &mut self,
        fleet: &FleetName,
        nodes: &[NodeName],
    ) -> Result<Vec<NodeName>, Failure> {
        let reply =
            self.ask_for_tokens(wire::CreateTokensRequest { look_only: true, ..asked(fleet, nodes) }).await?;
        reply.tokens.iter().map(|token| known(nodes, &token.node)).collect()
    }

    /// A one-time join token for each of these nodes that still has no certificate.
    pub async fn create_tokens(
        &mut self,
        fleet: &FleetName,
        nodes: &[NodeName],
        valid: Duration,
    ) -> Result<Vec<MadeToken>, Failure> {
        let request = wire::CreateTokensRequest { valid_seconds: valid.as_secs(), ..asked(fleet, nodes) };
        let reply = self.ask_for_tokens(request).await?;
        let expires = When(reply.expires_ms);
        let made = |token: wire::NodeToken| {
            Ok(MadeToken { node: known(nodes, &token.node)?, text: token.token, expires })
        };
        reply.tokens.into_iter().map(made).collect()
    }

    async fn ask_for_tokens(
        &mut self,
        request: wire::CreateTokensRequest,
    ) -> Result<wire::CreateTokensReply, Failure> {
        let reply = self.operator.create_tokens(timed(request)).await;
        self.answer("token create", reply)
    }
}

fn asked(fleet: &FleetName, nodes: &[NodeName]) -> wire::CreateTokensRequest {
    wire::CreateTokensRequest {
        fleet: fleet.to_string(),
        nodes: nodes.iter().map(ToString::to_string).collect(),
        ..wire::CreateTokensRequest::default()
    }
}

/// The node that is meant. Its name becomes the name of a file, so only one that was asked about is taken.
fn known(nodes: &[NodeName], name: &str) -> Result<NodeName, Failure> {
    let found = nodes.iter().find(|node| node.as_str() == name).cloned();
    found.ok_or_else(|| {
        Failure::failed(
            "the coordinator answers with a token for a node that was not asked about",
            "this is a defect of Convoy; use none of the tokens",
        )
    })
}
