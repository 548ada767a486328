//! Who wants to know that something below a prefix changed. Shared by the engines.

use std::{collections::BTreeMap, sync::Mutex};

use tokio::sync::watch;

use super::{Key, Version};

/// Subscriptions by prefix. A change looks up only the prefixes of its own key, so thousands of sessions that each
/// watch one node cost nothing when another node changes.
#[derive(Default)]
pub(super) struct Watchers {
    // A lock around a leaf: held for a few map operations, never while waiting.
    subscriptions: Mutex<BTreeMap<String, watch::Sender<Version>>>,
}

impl Watchers {
    pub(super) fn subscribe(&self, prefix: &str) -> watch::Receiver<Version> {
        let mut subscriptions = self.lock();
        // Prefixes nobody listens to any more are dropped here, where new ones come in: bounded by the listeners.
        subscriptions.retain(|_, sender| 0 < sender.receiver_count());
        subscriptions.entry(prefix.to_owned()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    pub(super) fn changed<'k>(&self, keys: impl Iterator<Item = &'k Key>, version: Version) {
        let subscriptions = self.lock();
        for key in keys {
            let text = key.as_str();
            let directories = text.match_indices('/').map(|(slash, _)| &text[..=slash]);
            for prefix in directories.chain([text, ""]) {
                if let Some(sender) = subscriptions.get(prefix) {
                    sender.send_replace(version);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, watch::Sender<Version>>> {
        // A poisoned map is still a map: its operations do not leave it half-changed.
        self.subscriptions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
