use std::collections::BTreeMap;

use super::*;
use crate::{
    preflight::{
        certificate::{
            AltName,
            tests::{NOW, certificate},
        },
        needs,
    },
    time::Timestamp,
};

fn asked(text: &str) -> Vec<String> {
    let env = BTreeMap::from([("CP".to_owned(), "cp.acme".to_owned())]);
    let needs = needs::read(text, "wso2am-4.5", &env).unwrap();
    needs.peers.iter().map(|peer| format!("{} {} {:?}", peer.key, peer.address, peer.client)).collect()
}

#[test]
fn every_tls_connection_of_the_server_is_found_and_no_other() {
    let text = r#"
[server]
hostname = "api.acme"
[apim.key_manager]
service_url = "https://km.acme:9443/services/"
[apim.event_hub]
service_url = "https://$env{CP}/services/"
event_listening_endpoints = ["tcp://cp.acme:5672"]
[apim.devportal]
url = "https://portal.acme/devportal"
[apim.oauth_config]
revoke_endpoint = "https://localhost:${mgt.transport.https.port}/oauth2/revoke"
[[apim.throttling.url_group]]
traffic_manager_urls = ["tcp://tm1:9611"]
traffic_manager_auth_urls = ["ssl://tm1:9711", "ssl://tm2:9711"]
[[apim.gateway.environment]]
name = "Default"
service_url = "https://gw.acme:9443/services/"
https_endpoint = "https://gw.acme:8243"
[[apim.jwt.issuer]]
name = "x"
[apim.jwt.issuer.jwks]
url = "https://user:hushhush@km.acme:9443/oauth2/jwks"
[[event_listener]]
id = "token_revocation"
[event_listener.properties]
notification_endpoint = "https://[2001:db8::1]:9443/internal/data/v1/notify"
[user_store]
connection_url = "ldaps://dir.acme"
"#;
    assert_eq!(
        asked(text),
        [
            "apim.event_hub.service_url cp.acme:443 Http",
            "apim.gateway.environment[0].service_url gw.acme:9443 Http",
            // The JWKS of km.acme are at the same place.
            "apim.jwt.issuer[0].jwks.url km.acme:9443 Http",
            "apim.throttling.url_group[0].traffic_manager_auth_urls tm1:9711 Events",
            "apim.throttling.url_group[0].traffic_manager_auth_urls tm2:9711 Events",
            "event_listener[0].properties.notification_endpoint [2001:db8::1]:9443 Http",
            "user_store.connection_url dir.acme:636 Ldap",
        ]
    );
}

fn peer(client: Client, host: &str) -> Peer {
    Peer { key: "a.b".to_owned(), address: Address { host: host.to_owned(), port: 9443 }, client }
}

fn shown(path: Path) -> Shown {
    let mut certificate = certificate("CN=is", "CN=ca");
    certificate.names = vec![AltName::Dns("is.acme".to_owned())];
    Shown { certificate, path, truststore: "client-truststore.p12".to_owned() }
}

fn said(peer: &Peer, shown: Shown, args: &[&str]) -> String {
    let args: Vec<String> = args.iter().copied().map(str::to_owned).collect();
    let checks = check(&[(peer.clone(), PeerFact::Shown(shown))], &args, NOW);
    format!("{} {}", checks[0].outcome.as_str(), checks[0])
}

#[test]
fn a_certificate_that_the_truststore_does_not_vouch_for_is_told_with_what_is_missing() {
    let at = peer(Client::Http, "is.acme");
    for path in [Path::Signed, Path::Held { alias: "x".to_owned() }] {
        assert_eq!(
            said(&at, shown(path), &[]),
            "pass trust a.b: is.acme:9443 shows a certificate that client-truststore.p12 vouches for"
        );
    }
    assert_eq!(
        said(&at, shown(Path::Unknown), &[]),
        "warn trust a.b: this server will refuse is.acme:9443 (`PKIX path building failed`): client-truststore.p12 \
         holds neither its certificate (CN=is) nor its issuer (CN=ca); import the certificate of CN=ca into the \
         truststore (keytool -importcert)"
    );
    for (path, words) in [
        (Path::NotMarked { alias: "is".to_owned() }, "as \"is\", but not marked as trusted"),
        (Path::Broken("BadSignature".to_owned()), "is broken: BadSignature"),
        (Path::Unjudged("SHA-1".to_owned()), "whether this server trusts is.acme:9443 cannot be told: SHA-1"),
        (Path::Outdated, "between its own and the truststore's is out of its time"),
    ] {
        let text = said(&at, shown(path), &[]);
        assert!(text.starts_with("warn") && text.contains(words), "{text}");
    }
}

#[test]
fn names_are_checked_as_the_client_does() {
    let of = |client, host: &str, args: &[&str]| {
        let text = said(&peer(client, host), shown(Path::Signed), args);
        let is_told = text.contains(&format!("its certificate is for is.acme, not for {host}"));
        assert_eq!(is_told, text.starts_with("warn"), "{text}");
        is_told
    };
    assert!(!of(Client::Http, "is.acme", &[]));
    assert!(of(Client::Http, "km.acme", &[]));
    // Whoever dials localhost is served whatever the certificate says, and not so by JNDI or if told otherwise.
    assert!(!of(Client::Http, "localhost", &[]));
    assert!(!of(Client::Http, "127.0.0.1", &["-Dhttpclient.hostnameVerifier=DefaultAndLocalhost"]));
    assert!(of(Client::Http, "localhost", &["-Dhttpclient.hostnameVerifier=Strict"]));
    assert!(!of(Client::Http, "km.acme", &["-Dhttpclient.hostnameVerifier=AllowAll"]));
    assert!(of(Client::Ldap, "localhost", &["-Dhttpclient.hostnameVerifier=AllowAll"]));
    assert!(!of(Client::Events, "km.acme", &[]));
}

#[test]
fn an_end_is_told_and_what_follows_from_it() {
    let at = peer(Client::Http, "is.acme");
    let ends = |path: Path, days: i64| {
        let mut shown = shown(path);
        shown.certificate.not_after = Timestamp(NOW.0 + days * 86_400_000);
        said(&at, shown, &[])
    };
    assert!(ends(Path::Signed, 31).starts_with("pass"));
    assert!(ends(Path::Signed, 3).contains("the certificate of is.acme:9443 ends in 3 days"));
    assert!(ends(Path::Outdated, -3).contains("will refuse is.acme:9443: its certificate ended on"));
    let held = ends(Path::Held { alias: "x".to_owned() }, -3);
    assert!(held.contains("this server takes it, since client-truststore.p12 holds it"), "{held}");
}

#[test]
fn who_does_not_run_yet_is_no_complaint() {
    let at = peer(Client::Http, "is.acme");
    let fact = PeerFact::Unreached("connection refused".to_owned());
    let checks = check(&[(at, fact)], &[], NOW);
    assert_eq!(
        checks[0].to_string(),
        "trust a.b: not checked, is.acme:9443 shows no certificate now: connection refused"
    );
}
