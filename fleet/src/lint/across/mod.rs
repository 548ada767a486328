//! Mistakes that show only when nodes are laid side by side: what must be equal and is not, URLs that name no server,
//! pairs that forget each other. WSO2 starts each server without a word, and the failure shows somewhere else.
//!
//! Works on what was typed, with the defaults that the products document, so it needs no pack. Findings are warnings:
//! a fleet may be described only in part, and what is missing may be elsewhere. docs/findings.md, CV521 and up.

mod cluster;
mod credentials;
mod databases;
mod events;
mod keys;
mod revocation;
mod site;
mod start;
mod urls;

use super::subject::ClearText;
use crate::{
    finding::Finding,
    spec::{Fleet, report::Report},
};

use site::{Peer, Site};

/// Everything doubtful between the nodes of a fleet.
pub fn check(fleet: &Fleet) -> Vec<Finding> {
    let site = Site::of(fleet, ClearText::Unknown);
    let mut report = Report::default();
    for peer in &site.peers {
        report.node = Some(peer.name.clone());
        revocation::check(&site, peer, &mut report);
        urls::check(&site, peer, &mut report);
        events::check(&site, peer, &mut report);
        credentials::check(peer, &mut report);
        start::check(peer, &mut report);
        keys::check(peer, &mut report);
        report.node = None;
    }
    for group in fleet.groups.values() {
        let members: Vec<&Peer<'_>> =
            site.peers.iter().filter(|peer| group.nodes.contains(peer.name)).collect();
        databases::group(&members, &mut report);
        cluster::group(&members, &mut report);
        events::group(&site, &members, &mut report);
        keys::group(&site, &members, &mut report);
        start::group(&members, &mut report);
    }
    databases::all(&site, &mut report);
    credentials::all(&site, &mut report);
    start::all(&site, &mut report);
    report.into_findings()
}

#[cfg(test)]
mod tests;
