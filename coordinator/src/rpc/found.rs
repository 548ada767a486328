//! What lies on a node's host, for operators: asked now, or what was seen last.

use std::sync::Arc;

use fleet::{
    bundle::HomePath,
    host::{CONFIG, HostFacts, HostQuestion},
    ids::NodeName,
};
use proto::wire::operator as wire;

use crate::{
    coordinator::Coordinator,
    store::{StoreError, blobs},
};

/// What a host answers now, or its last answer if it does not answer.
///
/// # Errors
/// The store failed.
pub(super) async fn found(
    coordinator: &Arc<Coordinator>,
    node: &NodeName,
    config: WithConfig,
) -> Result<wire::HostReply, StoreError> {
    let question = match config {
        WithConfig::Yes => HostQuestion::contents(Vec::new()),
        WithConfig::No => HostQuestion::facts(Vec::new()),
    };
    let path = HomePath::parse(CONFIG).ok();
    match coordinator.look(node, question).await {
        Ok(facts) => {
            let content = path.and_then(|path| facts.content(&path).map(<[u8]>::to_vec));
            let received_ms = (coordinator.clock)().0;
            Ok(reply(&facts, received_ms, content.filter(|_| config == WithConfig::Yes)))
        }
        Err(error) => {
            let not_now = error.to_string();
            let Some(record) = coordinator.last_look(node).await? else {
                return Ok(wire::HostReply { not_now, ..wire::HostReply::default() });
            };
            let file = path.and_then(|path| record.facts.file(&path).cloned());
            let content = match file.filter(|_| config == WithConfig::Yes) {
                Some(file) => blobs::get(&*coordinator.store, &file.digest).await?,
                None => None,
            };
            let reply = reply(&record.facts, record.received.0, content.map(|content| content.to_vec()));
            Ok(wire::HostReply { not_now, ..reply })
        }
    }
}

/// Whether the answer holds the content of deployment.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WithConfig {
    Yes,
    No,
}

fn reply(facts: &HostFacts, received_ms: i64, config: Option<Vec<u8>>) -> wire::HostReply {
    wire::HostReply { facts: Some(facts.into()), received_ms, not_now: String::new(), config }
}
