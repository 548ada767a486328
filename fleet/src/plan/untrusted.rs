//! Whom the servers of a plan will refuse by TLS, as the agents of their hosts have just tried it (ADR 71).

use std::collections::BTreeSet;

use super::base::{Base, Knowledge};
use crate::{
    bundle::HomePath,
    finding::{Finding, Severity},
    host::HostFacts,
    ids::NodeName,
    preflight::{
        needs::{self, Needs},
        peers::{About, complaints},
    },
    spec::ComposedNode,
};

/// Warnings, since keys that change in phases pass through this. Nothing is said of hosts that were not asked now.
pub fn untrusted<'a>(
    nodes: impl IntoIterator<Item = (&'a NodeName, &'a ComposedNode, &'a Base)>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, node, base) in nodes {
        let Knowledge::Now(facts) = &base.host else { continue };
        let service = &node.bundle.service;
        let Ok(needs) = needs::read(&node.config_text, &service.product, &service.env) else { continue };
        let is_as_tried = truststore_stays(&needs, node, facts);
        let mut told = BTreeSet::new();
        for (peer, fact) in &facts.peers {
            for complaint in complaints(name.as_str(), (peer, fact), (&service.args, facts.at)) {
                let counts = is_as_tried || complaint.about != About::Path;
                if counts && told.insert(complaint.why.clone()) {
                    found.push(Finding {
                        code: "CV563",
                        severity: Severity::Warning,
                        place: node.origins.get(&peer.key),
                        node: Some(name.clone()),
                        message: complaint.why,
                        remedy: complaint.remedy,
                    });
                }
            }
        }
    }
    found
}

/// Whether the truststore that was tried is the one that the plan leaves there.
fn truststore_stays(needs: &Needs, node: &ComposedNode, facts: &HostFacts) -> bool {
    let named = needs.keystores.iter().find(|store| store.key == "truststore");
    let shipped = needs::shipped_truststores();
    let files = named.map_or_else(|| shipped.iter().map(|it| &it.file).collect(), |named| vec![&named.file]);
    files.into_iter().filter_map(|file| HomePath::parse(file).ok()).all(|path| {
        let wanted = node.bundle.files.get(&path).map(|entry| entry.digest);
        wanted.is_none() || wanted == facts.file(&path).map(|file| file.digest)
    })
}
