//! TLS connections of a server, and what was shown at their other ends (ADR 71).

use std::net::IpAddr;

use fleet::{
    preflight::{
        certificate::{AltName, CertificateFact},
        needs::Address,
        peers::{Client, PEERS_MAX, Path, Peer, PeerFact, Shown},
    },
    time::Timestamp,
};

use crate::{
    convert::{
        ConvertError,
        bundle::digest,
        invalid,
        link::{bounded, foreign},
        required,
    },
    wire::agent as wire,
};

const CLIENTS: [(Client, &str); 3] =
    [(Client::Http, "http"), (Client::Ldap, "ldap"), (Client::Events, "events")];
/// Names of one certificate.
const NAMES_MAX: usize = 100;

pub(super) fn peer_to_wire(peer: &Peer) -> wire::Peer {
    let client = CLIENTS.iter().find(|(client, _)| *client == peer.client).map_or("", |(_, word)| word);
    wire::Peer {
        key: bounded(&peer.key),
        host: bounded(&peer.address.host),
        port: u32::from(peer.address.port),
        client: client.to_owned(),
    }
}

/// A client of a later version is `None`.
pub(super) fn peer_from_wire(peer: &wire::Peer) -> Result<Option<Peer>, ConvertError> {
    let port = u16::try_from(peer.port).map_err(|_| invalid("Peer", "port", "no port"))?;
    let client = CLIENTS.iter().find(|(_, word)| *word == peer.client).map(|(client, _)| *client);
    let address = Address { host: foreign(&peer.host), port };
    Ok(client.map(|client| Peer { key: foreign(&peer.key), address, client }))
}

pub(super) fn found_to_wire((peer, fact): &(Peer, PeerFact)) -> wire::PeerFound {
    let mut found = wire::PeerFound { peer: Some(peer_to_wire(peer)), ..wire::PeerFound::default() };
    match fact {
        PeerFact::Shown(shown) => found.shown = Some(shown_to_wire(shown)),
        PeerFact::Unreached(why) => found.unreached = bounded(why),
        PeerFact::NotTried(why) => found.not_tried = bounded(why),
    }
    found
}

pub(super) fn found_from_wire(found: Vec<wire::PeerFound>) -> Result<Vec<(Peer, PeerFact)>, ConvertError> {
    if PEERS_MAX < found.len() {
        return Err(invalid("HostFacts", "peers", "more than any question asks for"));
    }
    let mut read = Vec::new();
    for one in found {
        let fact = match one.shown {
            Some(shown) => PeerFact::Shown(shown_from_wire(shown)?),
            None if one.unreached.is_empty() => PeerFact::NotTried(foreign(&one.not_tried)),
            None => PeerFact::Unreached(foreign(&one.unreached)),
        };
        let peer = peer_from_wire(&required(one.peer, "PeerFound", "peer")?)?;
        read.extend(peer.map(|peer| (peer, fact)));
    }
    Ok(read)
}

fn shown_to_wire(shown: &Shown) -> wire::PeerShown {
    let (path, detail) = match &shown.path {
        Path::Held { alias } => ("held", alias.as_str()),
        Path::Signed => ("signed", ""),
        Path::Outdated => ("outdated", ""),
        Path::Unknown => ("unknown", ""),
        Path::NotMarked { alias } => ("not-marked", alias.as_str()),
        Path::Broken(why) => ("broken", why.as_str()),
        Path::Unjudged(why) => ("unjudged", why.as_str()),
    };
    let CertificateFact { digest, subject, issuer, common_name, names, not_before, not_after } =
        &shown.certificate;
    let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            AltName::Dns(name) => dns_names.push(bounded(name)),
            AltName::Ip(address) => addresses.push(address.to_string()),
        }
    }
    wire::PeerShown {
        certificate: Some(wire::PeerCertificate {
            digest: digest.0.to_vec(),
            subject: bounded(subject),
            issuer: bounded(issuer),
            common_name: common_name.as_deref().map(bounded),
            dns_names,
            addresses,
            not_before_ms: not_before.0,
            not_after_ms: not_after.0,
        }),
        truststore: bounded(&shown.truststore),
        path: path.to_owned(),
        detail: bounded(detail),
    }
}

fn shown_from_wire(shown: wire::PeerShown) -> Result<Shown, ConvertError> {
    let certificate = required(shown.certificate, "PeerShown", "certificate")?;
    if NAMES_MAX < certificate.dns_names.len() + certificate.addresses.len() {
        return Err(invalid("PeerCertificate", "dns_names", "more than are ever kept"));
    }
    let detail = foreign(&shown.detail);
    let path = match shown.path.as_str() {
        "held" => Path::Held { alias: detail },
        "signed" => Path::Signed,
        "outdated" => Path::Outdated,
        "unknown" => Path::Unknown,
        "not-marked" => Path::NotMarked { alias: detail },
        "broken" => Path::Broken(detail),
        "unjudged" => Path::Unjudged(detail),
        // A word of a later version.
        other => Path::Unjudged(format!("its agent says {:?}", foreign(other))),
    };
    let address = |text: &String| {
        let address: Result<IpAddr, _> = text.parse();
        address.map(AltName::Ip).map_err(|_| invalid("PeerCertificate", "addresses", "no address"))
    };
    let dns = certificate.dns_names.iter().map(|name| Ok(AltName::Dns(foreign(name))));
    let names = dns.chain(certificate.addresses.iter().map(address)).collect::<Result<_, _>>()?;
    Ok(Shown {
        certificate: CertificateFact {
            digest: digest(&certificate.digest, "PeerCertificate", "digest")?,
            subject: foreign(&certificate.subject),
            issuer: foreign(&certificate.issuer),
            common_name: certificate.common_name.as_deref().map(foreign),
            names,
            not_before: Timestamp(certificate.not_before_ms),
            not_after: Timestamp(certificate.not_after_ms),
        },
        path,
        truststore: foreign(&shown.truststore),
    })
}

#[cfg(test)]
mod tests {
    use fleet::ids::Digest;

    use super::*;

    #[test]
    fn what_was_shown_comes_back_as_it_was_given() {
        let peer = |client| Peer {
            key: "apim.key_manager.service_url".to_owned(),
            address: Address { host: "is.acme".to_owned(), port: 9443 },
            client,
        };
        let certificate = CertificateFact {
            digest: Digest::of(b"x"),
            subject: "CN=is".to_owned(),
            issuer: "CN=ca".to_owned(),
            common_name: Some("is".to_owned()),
            names: vec![AltName::Dns("is.acme".to_owned()), AltName::Ip("2001:db8::1".parse().unwrap())],
            not_before: Timestamp(1),
            not_after: Timestamp(2),
        };
        let paths = [
            Path::Held { alias: "a".to_owned() },
            Path::Signed,
            Path::Outdated,
            Path::Unknown,
            Path::NotMarked { alias: "a".to_owned() },
            Path::Broken("b".to_owned()),
            Path::Unjudged("u".to_owned()),
        ];
        let shown = paths.map(|path| {
            let truststore = "client-truststore.p12".to_owned();
            PeerFact::Shown(Shown { certificate: certificate.clone(), path, truststore })
        });
        let others = [PeerFact::Unreached("refused".to_owned()), PeerFact::NotTried("off".to_owned())];
        let facts: Vec<(Peer, PeerFact)> = shown
            .into_iter()
            .chain(others)
            .zip(CLIENTS.iter().cycle())
            .map(|(fact, (client, _))| (peer(*client), fact))
            .collect();
        let wire: Vec<wire::PeerFound> = facts.iter().map(found_to_wire).collect();
        assert_eq!(found_from_wire(wire.clone()).unwrap(), facts);
        assert!(found_from_wire(vec![wire[0].clone(); PEERS_MAX + 1]).is_err());
        let mut hostile = wire[0].clone();
        hostile.shown.as_mut().unwrap().certificate.as_mut().unwrap().subject = "a\u{1b}[2J".to_owned();
        let read = found_from_wire(vec![hostile]).unwrap();
        assert!(matches!(&read[0].1, PeerFact::Shown(shown) if shown.certificate.subject == r"a\u001b[2J"));
    }
}
