//! Routes of a fleet name channels, and only its coordinator knows which there are.

use std::collections::BTreeSet;

use fleet::{
    finding::{Finding, Severity},
    ids::ChannelName,
    spec::{Fleet, suggest},
};

use crate::coordinator::Coordinator;

impl Coordinator {
    /// Warnings about routes to channels that this coordinator does not have: nobody hears of what only they name.
    pub(crate) fn unknown_channels(&self, fleet: &Fleet) -> Vec<Finding> {
        let known: BTreeSet<&ChannelName> =
            self.alerts.channels().iter().map(|channel| &channel.name).collect();
        let unknown = fleet.alerts.named.iter().filter(|(name, _)| !known.contains(name));
        let finding = |(name, place): &(ChannelName, fleet::finding::Place)| Finding {
            code: "CV581",
            severity: Severity::Warning,
            place: Some(place.clone()),
            node: None,
            message: format!(
                "a route of [alerts] names channel {name}, which this coordinator does not have"
            ),
            remedy: match known.is_empty() {
                true => {
                    "add it to [alerts.channels] of coordinator.toml, and restart the coordinator".to_owned()
                }
                false => suggest(name.as_str(), known.iter().map(|known| known.as_str())),
            },
        };
        unknown.map(finding).collect()
    }
}
