//! Keystores and encryption keys: what one node encrypts another has to read.

use super::site::{Peer, Site, Tier, is_literal};
use crate::{bundle::HomePath, ids::Digest, spec::report::Report};

const ENCRYPTION: &str = "encryption.key";

/// The effective value of a keystore setting: `internal` and `tls` follow `primary`, and that has a default.
fn setting(peer: &Peer<'_>, store: &str, sub: &str) -> String {
    let default = if sub == "file_name" { "wso2carbon.jks" } else { "wso2carbon" };
    let keys = [format!("keystore.{store}.{sub}"), format!("keystore.primary.{sub}")];
    keys.iter().find_map(|key| peer.text(key)).unwrap_or_else(|| default.to_owned())
}

/// A certificate for TLS was changed, and the password of the keystores that were not goes on being used for it.
pub(super) fn check(peer: &Peer<'_>, report: &mut Report) {
    let own = |store: &str| peer.has_table(&format!("keystore.{store}"));
    if !own("tls") || own("primary") || own("internal") {
        return;
    }
    for sub in ["file_name", "password"] {
        let (tls, primary) = (setting(peer, "tls", sub), setting(peer, "primary", sub));
        if tls == primary || !is_literal(&tls) {
            continue;
        }
        report.warning(
            "CV526",
            peer.place(&format!("keystore.tls.{sub}")),
            format!("keystore.tls.{sub} is changed and keystore.primary is left at its default, which parts of the product go on to open"),
            "set [keystore.primary] too, or leave a note by setting it to what the pack ships",
        );
        return;
    }
}

/// What the fleet itself puts at a keystore's place.
fn content(peer: &Peer<'_>, file_name: &str) -> Option<Digest> {
    let path = HomePath::parse(&format!("repository/resources/security/{file_name}")).ok()?;
    peer.node.bundle.files.get(&path).map(|file| file.digest)
}

pub(super) fn group(site: &Site<'_>, members: &[&Peer<'_>], report: &mut Report) {
    let Some(first) = members.first() else { return };
    // All of API Manager decrypts the same registry; Identity Servers of one group share theirs.
    let others: Vec<&Peer<'_>> = if first.tier.is_api_manager() {
        site.peers.iter().filter(|it| it.tier.is_api_manager()).collect()
    } else {
        members.to_vec()
    };
    let Some(usual) = others.first().copied() else { return };
    for peer in members {
        report.node = Some(peer.name.clone());
        for store in ["primary", "internal"] {
            stores(peer, usual, store, report);
        }
        encryption(peer, usual, report);
        if first.tier.is_api_manager()
            && 1 < others.len()
            && peer.version.is_some_and(|version| (4, 7) <= version)
            && peer.value(ENCRYPTION).is_none()
        {
            report.warning(
                "CV541",
                None,
                format!(
                    "{} has no {ENCRYPTION}, so its first start writes a random one, and no two nodes agree",
                    peer.name
                ),
                "set [encryption] key to one value for all nodes before the first start, best by secret()",
            );
        }
        report.node = None;
    }
}

fn stores(peer: &Peer<'_>, usual: &Peer<'_>, store: &str, report: &mut Report) {
    let file = |it: &Peer<'_>| content(it, &setting(it, store, "file_name"));
    let place = |sub: &str| {
        let keys = [format!("keystore.{store}.{sub}"), format!("keystore.primary.{sub}")];
        keys.iter().find_map(|key| peer.place(key))
    };
    if let (Some(own), Some(other)) = (file(peer), file(usual))
        && own != other
    {
        report.warning(
            "CV527",
            place("file_name"),
            format!("the {store} keystores of {} and {} are different files: neither reads what the other encrypted", peer.name, usual.name),
            "give all of them one keystore below files/",
        );
    }
    for sub in ["alias", "password", "key_password"] {
        let (own, other) = (setting(peer, store, sub), setting(usual, store, sub));
        if own == other || !is_literal(&own) || !is_literal(&other) {
            continue;
        }
        report.warning(
            "CV527",
            place(sub),
            format!("keystore.{store}.{sub} of {} is not that of {}", peer.name, usual.name),
            "the same keystore belongs on all of them, with one password and alias",
        );
        return;
    }
}

fn encryption(peer: &Peer<'_>, usual: &Peer<'_>, report: &mut Report) {
    let (Some(own), Some(other)) = (peer.text(ENCRYPTION), usual.text(ENCRYPTION)) else {
        // One of a group of Identity Servers that has a key, beside others on the key that every pack ships.
        let is_shipped = peer.tier == Tier::IdentityServer
            && peer.value(ENCRYPTION).is_some() != usual.value(ENCRYPTION).is_some();
        if is_shipped && peer.version.is_some_and(|version| (5, 11) <= version) {
            report.warning(
                "CV527",
                peer.place(ENCRYPTION),
                format!(
                    "only one of {} and {} has an {ENCRYPTION}; the other uses the one that every pack ships",
                    peer.name, usual.name
                ),
                "set one [encryption] key for the whole group, best by secret()",
            );
        }
        return;
    };
    if own != other && is_literal(&own) && is_literal(&other) {
        report.warning(
            "CV527",
            peer.place(ENCRYPTION),
            format!(
                "{ENCRYPTION} of {} is not that of {}: neither reads what the other encrypted",
                peer.name, usual.name
            ),
            "set one [encryption] key for all of them, best by secret()",
        );
    }
}
