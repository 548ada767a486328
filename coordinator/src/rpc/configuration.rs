//! The fleet directory in force, and the deployment.toml that was made of it for some nodes, as anybody may read them:
//! secrets hidden by their names, and the values that are known wherever they stand (ADR 0090).

use fleet::{ids::NodeName, logs::Shown, spec::Absent};
use proto::wire::operator as wire;

use crate::{
    apply::ApplyError,
    coordinator::Coordinator,
    store::{StoreError, blobs},
};

/// Nodes of one question.
pub(super) const NODES_MAX: usize = 50;
/// Bytes of a text that is shown.
const FILE_MAX: usize = 512 * 1024;
/// Bytes of all of them: the answer is one message.
const ALL_MAX: usize = 8 << 20;

/// Reads and masks.
///
/// # Errors
/// The store failed, or the values of secrets cannot be opened: nothing is shown then.
pub(super) async fn configuration(
    coordinator: &Coordinator,
    nodes: &[NodeName],
) -> Result<wire::ConfigurationReply, ApplyError> {
    let snapshot = coordinator.snapshot().await?;
    let Some(newest) = &snapshot.revision else { return Ok(wire::ConfigurationReply::default()) };
    let secrets = coordinator.secrets(Absent::Refuse).await?;
    let mut shown = Shown::default().hiding(secrets.values().map(|secret| secret.expose()));
    let mut composed = Vec::new();
    for name in nodes {
        let Some(target) = newest.nodes.get(name) else { continue };
        let Some(bundle) = coordinator.bundle(&target.content).await? else { continue };
        let path = &bundle.service.config_path;
        let Some(entry) = bundle.files.get(path) else { continue };
        let content = blobs::get(&*coordinator.store, &entry.digest).await?.unwrap_or_default();
        let content = String::from_utf8(content.to_vec());
        if let Ok(text) = &content {
            // Also the passwords that no secret of the fleet is.
            shown = shown.and_knowing(text);
        }
        composed.push((name, path.to_string(), content.map_err(|_| "it is no text".to_owned())));
    }
    let mut reply = Reply { shown, files: Vec::new(), bytes: 0 };
    for (path, digest) in &newest.sources {
        let text = if path.ends_with(".toml") {
            let content = blobs::get(&*coordinator.store, digest).await?;
            let content = content.ok_or_else(|| StoreError::missing("read a revision's content"))?;
            String::from_utf8(content.to_vec()).map_err(|_| "it is no text".to_owned())
        } else {
            Err("only TOML files are shown".to_owned())
        };
        reply.put((path, None), text);
    }
    for (name, path, text) in composed {
        reply.put((&path, Some(name)), text);
    }
    Ok(wire::ConfigurationReply { revision: newest.number.0, files: reply.files })
}

/// An answer while it is made.
struct Reply {
    shown: Shown,
    files: Vec<wire::ConfigurationFile>,
    bytes: usize,
}

impl Reply {
    fn put(&mut self, (path, node): (&str, Option<&NodeName>), text: Result<String, String>) {
        let fits = |text: String| {
            if FILE_MAX < text.len() {
                Err(format!("it has {} bytes, and at most {FILE_MAX} are shown", text.len()))
            } else if ALL_MAX < self.bytes + text.len() {
                Err(format!("all files together show at most {ALL_MAX} bytes"))
            } else {
                Ok(self.shown.toml(&text))
            }
        };
        let (text, left_out) = match text.and_then(fits) {
            Ok(text) => (text, String::new()),
            Err(why) => (String::new(), why),
        };
        self.bytes += text.len();
        let node = node.map(ToString::to_string).unwrap_or_default();
        self.files.push(wire::ConfigurationFile { path: path.to_owned(), node, text, left_out });
    }
}
