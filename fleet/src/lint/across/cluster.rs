//! Hazelcast members of a group.

use std::collections::{BTreeMap, BTreeSet};

use super::site::{Peer, is_literal, is_loopback};
use crate::spec::report::Report;

const SCHEME: &str = "clustering.membership_scheme";
const MEMBERS: &str = "clustering.members";
const HOST: &str = "clustering.local_member_host";
const PORT: &str = "clustering.local_member_port";

pub(super) fn group(members: &[&Peer<'_>], report: &mut Report) {
    for peer in members {
        report.node = Some(peer.name.clone());
        member(peer, members.len(), report);
        report.node = None;
    }
    let clustered: Vec<_> = members.iter().filter(|it| it.value(SCHEME).is_some()).collect();
    if let Some(alone) =
        members.iter().find(|it| it.value(SCHEME).is_none()).filter(|_| !clustered.is_empty())
    {
        report.warning(
            "CV537",
            clustered.first().and_then(|it| it.place(SCHEME)),
            format!("{} is not clustered, and others of its group are: its caches go stale", alone.name),
            "set [clustering] for the whole group",
        );
    }
    let lists: BTreeMap<BTreeSet<String>, &Peer<'_>> = clustered
        .iter()
        .filter(|it| it.value(MEMBERS).is_some())
        .map(|it| (it.texts(MEMBERS).into_iter().collect(), **it))
        .collect();
    let mut lists = lists.into_values();
    if let (Some(one), Some(other)) = (lists.next(), lists.next()) {
        report.warning(
            "CV537",
            other.place(MEMBERS),
            format!("{MEMBERS} of {} and {} differ, which splits the cluster", one.name, other.name),
            "give the whole group one list",
        );
    }
    let mut taken: BTreeMap<String, &Peer<'_>> = BTreeMap::new();
    for peer in clustered {
        let Some(own) = own(peer) else { continue };
        if let Some(other) = taken.insert(own.clone(), peer) {
            report.warning(
                "CV544",
                peer.place(HOST).or_else(|| peer.place(PORT)),
                format!("{} and {} are both the cluster member {own}", other.name, peer.name),
                "each node needs an address of its own; the offset does not move the cluster port",
            );
        }
    }
}

/// How the node calls itself in the cluster.
fn own(peer: &Peer<'_>) -> Option<String> {
    let host = peer.first(&[HOST, "server.node_ip"]).map_or_else(|| "127.0.0.1".to_owned(), |(_, host)| host);
    let port = peer.text(PORT).unwrap_or_else(|| "4000".to_owned());
    (is_literal(&host) && is_literal(&port)).then(|| format!("{host}:{port}"))
}

fn member(peer: &Peer<'_>, count: usize, report: &mut Report) {
    let list = peer.texts(MEMBERS);
    let Some(scheme) = peer.text(SCHEME) else {
        if !list.is_empty() {
            report.warning(
                "CV537",
                peer.place(MEMBERS),
                format!("{MEMBERS} is set and {SCHEME} is not: clustering stays off"),
                "add membership_scheme = \"wka\"",
            );
        }
        return;
    };
    if scheme != "wka" || list.is_empty() {
        return;
    }
    let hosts =
        |text: &String| text.rsplit_once(':').map_or_else(|| text.clone(), |(host, _)| host.to_owned());
    let is_local = is_loopback(&peer.node.host);
    if let Some(loopback) = list.iter().find(|it| is_loopback(&hosts(it))).filter(|_| 1 < count && !is_local)
    {
        report.warning(
            "CV537",
            peer.place(MEMBERS),
            format!("{MEMBERS} holds {loopback}, where the other nodes look for themselves"),
            "name addresses that every node of the group reaches",
        );
        return;
    }
    let Some(own) = own(peer) else { return };
    if list.iter().all(|it| is_literal(it)) && !list.contains(&own) {
        report.warning(
            "CV537",
            peer.place(MEMBERS),
            format!("{MEMBERS} does not hold {own}, which is what {} calls itself", peer.name),
            "add it, or correct local_member_host and local_member_port",
        );
    }
}
