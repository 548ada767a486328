//! The TLS connections that a deployment.toml makes its server open, and what the server will make of the certificate
//! at the other end. The agent tries them with the server's own truststore and keeps what was shown; the judgement is
//! here, by Java's rules.
//!
//! Nothing is ever a failure: while keys change in phases, a server rightly meets a certificate that it does not know.
//!
//! Facts: the project's notes on surroundings, section 2. Host names: WSO2's start scripts set
//! `httpclient.hostnameVerifier` to `DefaultAndLocalhost`, which checks every name but those of the host itself.

use std::time::Duration;

use super::{
    Check, Outcome,
    certificate::{CertificateFact, Validity},
    needs::{Address, Typed},
};
use crate::time::Timestamp;

/// Connections that are tried at most.
pub const PEERS_MAX: usize = 64;
/// What `DefaultAndLocalhost` lets pass, whatever the certificate says.
const LOCALHOSTS: [&str; 4] = ["localhost", "localhost.localdomain", "127.0.0.1", "::1"];
/// The start argument that says otherwise.
const VERIFIER: &str = "-Dhttpclient.hostnameVerifier=";

/// A TLS connection that the server opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The key that says so.
    pub key: String,
    /// Where it leads.
    pub address: Address,
    /// Who opens it.
    pub client: Client,
}

/// Who opens a connection inside of the server, and how it looks at names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The HTTP clients, as `httpclient.hostnameVerifier` says.
    Http,
    /// JNDI: every name.
    Ldap,
    /// The publisher of events over `ssl://`: no name at all.
    Events,
}

/// How a connection went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerFact {
    /// TLS was begun, and a certificate shown.
    Shown(Shown),
    /// No connection, or no TLS: why. Whoever is meant may not run yet.
    Unreached(String),
    /// Nobody tried: why.
    NotTried(String),
}

/// What the other end showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Of the server itself.
    pub certificate: CertificateFact,
    /// Whether the truststore vouches for it.
    pub path: Path,
    /// The truststore's file, below home or absolute.
    pub truststore: String,
}

/// How a certificate hangs together with a truststore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// The truststore holds the certificate, or one with the same name and key. Java looks no further.
    Held {
        /// Under this alias.
        alias: String,
    },
    /// One that the truststore holds vouches for it.
    Signed,
    /// As `Signed`, but somewhere on the way the time is over, or has not come.
    Outdated,
    /// Nothing in the truststore has to do with it.
    Unknown,
    /// The truststore file holds it, but not as something to trust, so that Java passes over it.
    NotMarked {
        /// Under this alias.
        alias: String,
    },
    /// Not a path for a server: why.
    Broken(String),
    /// Java may see it otherwise: why.
    Unjudged(String),
}

/// The connections, by key. `$ref{}` and `$env{}` are followed; what only the running server knows is left out.
pub(super) fn wanted(typed: &Typed<'_>) -> Vec<Peer> {
    let mut found: Vec<Peer> = Vec::new();
    for key in typed.keys() {
        let Some(Ok(text)) = is_of_interest(key).then(|| typed.text(key)).flatten() else { continue };
        for url in text.split([',', ' ']) {
            let Some((client, address)) = parse(url) else { continue };
            // One place is tried once for each kind of client.
            if found.iter().all(|peer| (peer.client, &peer.address) != (client, &address)) {
                found.push(Peer { key: key.to_owned(), address, client });
            }
        }
    }
    found.truncate(PEERS_MAX);
    found
}

/// Whether the server itself connects to what stands at this key. Most URLs are for browsers and gateways' clients.
fn is_of_interest(key: &str) -> bool {
    const KEYS: [&str; 5] = [
        "apim.key_manager.service_url",
        "apim.event_hub.service_url",
        "apim.throttling.service_url",
        "apim.oauth_config.revoke_endpoint",
        "user_store.connection_url",
    ];
    // Of a list of tables, by its first and last part.
    const ENDS: [(&str, &str); 8] = [
        ("event_listener", ".properties.notification_endpoint"),
        ("apim.gateway.environment", ".service_url"),
        ("apim.jwt.issuer", ".jwks.url"),
        ("apim.throttling.url_group", ".traffic_manager_auth_urls"),
        ("apim.throttling.url_group", ".traffic_manager_urls"),
        ("apim.event_hub.publish.url_group", ".auth_urls"),
        ("apim.event_hub.publish.url_group", ".urls"),
        ("user_store.properties", ".ConnectionURL"),
    ];
    // Elements of a list of texts are keys of their own.
    let key = key.strip_suffix(']').and_then(|key| key.rsplit_once('[')).map_or(key, |(key, _)| key);
    KEYS.contains(&key) || ENDS.iter().any(|(start, end)| key.starts_with(start) && key.ends_with(end))
}

/// `https`, `ssl` and `ldaps` with their default ports; nothing else is TLS.
pub(super) fn parse(url: &str) -> Option<(Client, Address)> {
    let (scheme, rest) = url.trim().trim_matches(['[', ']', '"', '\'']).split_once("://")?;
    let (client, default) = match scheme {
        "https" => (Client::Http, Some(443)),
        "ldaps" => (Client::Ldap, Some(636)),
        "ssl" => (Client::Events, None),
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None => default?,
    };
    let is_host = !host.is_empty() && !host.contains(['$', '{', ' ']);
    is_host.then(|| (client, Address { host: host.to_owned(), port }))
}

/// One check per connection. `args` are the server's start arguments.
pub(super) fn check(peers: &[(Peer, PeerFact)], args: &[String], now: Timestamp) -> Vec<Check> {
    let one = |(peer, fact): &(Peer, PeerFact)| Check {
        name: "trust",
        subject: peer.key.clone(),
        outcome: outcome(peer, fact, (args, now)),
    };
    peers.iter().map(one).collect()
}

fn outcome(peer: &Peer, fact: &PeerFact, (args, now): (&[String], Timestamp)) -> Outcome {
    let shown = match fact {
        PeerFact::Shown(shown) => shown,
        PeerFact::Unreached(why) => {
            return Outcome::Skipped(format!("{} shows no certificate now: {why}", peer.address));
        }
        PeerFact::NotTried(why) => return Outcome::Skipped(why.clone()),
    };
    let complaints = complaints("this server", (peer, fact), (args, now));
    if complaints.is_empty() {
        return Outcome::Pass(format!(
            "{} shows a certificate that {} vouches for",
            peer.address, shown.truststore
        ));
    }
    let join = |part: fn(&Complaint) -> &str| complaints.iter().map(part).collect::<Vec<_>>().join("; ");
    Outcome::Warn { why: join(|it| &it.why), remedy: join(|it| &it.remedy) }
}

/// Something about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What it depends on.
    pub about: About,
    /// What is wrong, one sentence without a full stop.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

/// What a complaint depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The truststore.
    Path,
    /// The name that is dialled.
    Name,
    /// The time.
    Time,
}

/// Everything about one connection of `who`, with its start arguments, at that time.
pub fn complaints(
    who: &str,
    (peer, fact): (&Peer, &PeerFact),
    (args, now): (&[String], Timestamp),
) -> Vec<Complaint> {
    let PeerFact::Shown(shown) = fact else { return Vec::new() };
    let verifier = args.iter().rev().find_map(|arg| arg.strip_prefix(VERIFIER)).unwrap_or_default();
    let found = [path(who, peer, shown), name(who, (peer, shown), verifier), time(who, (peer, shown), now)];
    found.into_iter().flatten().collect()
}

fn path(who: &str, peer: &Peer, shown: &Shown) -> Option<Complaint> {
    let Shown { certificate, truststore, .. } = shown;
    let at = &peer.address;
    let subject = &certificate.subject;
    let import = || {
        let what = if certificate.issuer == certificate.subject {
            "the certificate of the other side".to_owned()
        } else {
            format!("the certificate of {}", certificate.issuer)
        };
        format!("import {what} into the truststore (keytool -importcert)")
    };
    let (why, remedy) = match &shown.path {
        Path::Held { .. } | Path::Signed | Path::Outdated => return None,
        Path::Unknown => (
            format!(
                "{who} will refuse {at} (`PKIX path building failed`): {truststore} holds neither its certificate \
                 ({subject}) nor its issuer ({})",
                certificate.issuer
            ),
            import(),
        ),
        Path::NotMarked { alias } => (
            format!(
                "{who} will refuse {at} (`PKIX path building failed`): {truststore} holds its certificate as \
                 {alias:?}, but not marked as trusted, so Java passes over it"
            ),
            "import it by keytool -importcert, which marks it; openssl does not".to_owned(),
        ),
        Path::Broken(why) => (
            format!("{who} will refuse {at}: the path from its certificate ({subject}) is broken: {why}"),
            "have the certificate issued anew".to_owned(),
        ),
        Path::Unjudged(why) => (
            format!("whether {who} trusts {at} cannot be told: {why}"),
            "see its log for SSLHandshakeException once it runs".to_owned(),
        ),
    };
    Some(Complaint { about: About::Path, why, remedy })
}

fn name(who: &str, (peer, shown): (&Peer, &Shown), verifier: &str) -> Option<Complaint> {
    let host = peer.address.host.as_str();
    let is_checked = match peer.client {
        Client::Http if verifier == "AllowAll" => false,
        // DefaultAndLocalhost, which the start scripts set.
        Client::Http if verifier != "Strict" => !LOCALHOSTS.contains(&host),
        Client::Http | Client::Ldap => true,
        Client::Events => false,
    };
    if !is_checked || shown.certificate.is_for(host) {
        return None;
    }
    Some(Complaint {
        about: About::Name,
        why: format!(
            "{who} will refuse {}: its certificate is for {}, not for {host}",
            peer.address,
            shown.certificate.whose()
        ),
        remedy: format!("give the other side a certificate with {host} among its subject alternative names"),
    })
}

fn time(who: &str, (peer, shown): (&Peer, &Shown), now: Timestamp) -> Option<Complaint> {
    let at = &peer.address;
    let remedy = "renew it, and let the servers that call it trust the new one first".to_owned();
    let Some(said) = shown.certificate.complaint(now) else {
        let is_above = matches!(shown.path, Path::Outdated);
        return is_above.then(|| Complaint {
            about: About::Time,
            why: format!(
                "{who} will refuse {at}: a certificate between its own and the truststore's is out of its time"
            ),
            remedy,
        });
    };
    let is_over = matches!(shown.certificate.validity(now), Validity::Ended | Validity::NotYet);
    let why = match (&shown.path, is_over) {
        (_, false) => format!("the certificate of {at} {said}"),
        (Path::Held { .. }, true) => format!(
            "the certificate of {at} {said}; {who} takes it, since {} holds it, and others may not",
            shown.truststore
        ),
        (_, true) => format!("{who} will refuse {at}: its certificate {said}"),
    };
    Some(Complaint { about: About::Time, why, remedy })
}

/// For one connection with its TLS.
pub const TRY_TIME: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests;
