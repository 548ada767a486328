//! Which node a certificate means, what a challenge is worth, and what files have to hold. Certificates themselves are
//! judged over real TLS in `tests/server/host_certificates.rs`.

use super::{judge::node_of, *};

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

#[test]
fn a_certificate_means_the_node_whose_host_it_names_and_nothing_that_is_only_like_it() {
    let fleet = [
        ("is-1", "is-1.acme.internal"),
        ("is-2", "IS-2.acme.internal."),
        ("km-1", "two.acme.internal"),
        ("gw-1", "two.acme.internal"),
    ]
    .map(|(name, host)| (node(name), host));
    for (names, wanted, expected) in [
        (&["is-1.acme.internal"][..], None, Ok("is-1")),
        (&["is-2.acme.internal"], None, Ok("is-2")),
        (&["db.acme.internal", "is-1.acme.internal"], None, Ok("is-1")),
        (&["two.acme.internal"], Some("gw-1"), Ok("gw-1")),
        (&["two.acme.internal"], None, Err("names the hosts of km-1, gw-1; say which one with --node")),
        (&["is-1.acme.internal", "is-2.acme.internal"], None, Err("names the hosts of is-1, is-2")),
        (&["is-1.acme.internal", "is-2.acme.internal"], Some("is-2"), Ok("is-2")),
        (&[], None, Err("a common name does not count")),
        (&["*.acme.internal"], None, Err("names *.acme.internal only, and a wildcard names no host")),
        (&["*.acme.internal"], Some("is-1"), Err("a wildcard names no host")),
        (
            &["*.acme.internal", "db.acme.internal"],
            Some("is-1"),
            Err("and not is-1.acme.internal, the `host` of is-1"),
        ),
        (&["is-1"], None, Err("names is-1, and no node of the fleet has that `host`")),
        (&["x.is-1.acme.internal"], None, Err("no node of the fleet has that `host`")),
        (&["is-1.acme.internal.evil.example"], None, Err("no node of the fleet has that `host`")),
        (&["is-3.acme.internal"], None, Err("did you mean \"is-1.acme.internal\"")),
        (&["q.example"], None, Err("; none is like it")),
        (&["is-1.acme.internal"], Some("is-2"), Err("and not is-2.acme.internal, the `host` of is-2")),
        (&["is-1.acme.internal"], Some("is-9"), Err("the fleet has no node is-9")),
        (&["a", "b", "c", "d", "e", "f"], None, Err("names a, b, c, d and 2 more,")),
    ] {
        let given: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let hosts = fleet.iter().map(|(node, host)| (node, *host));
        match (node_of(&given, hosts, wanted.map(node).as_ref()), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.as_str(), expected),
            (Err(error), Err(said)) => assert!(error.to_string().contains(said), "{names:?}: {error}"),
            (found, expected) => panic!("{names:?}, {wanted:?}: {found:?} in place of {expected:?}"),
        }
    }
}

#[test]
fn a_challenge_is_good_for_a_minute_here_and_nowhere_else() {
    let files = || Files { authorities: "none".into(), crl: None };
    let here = HostAuthorities { files: files(), key: [1; 32] };
    let elsewhere = HostAuthorities { files: files(), key: [2; 32] };
    let made = Timestamp(1_800_000_000_000);
    let nonce = here.challenge(made);
    assert_ne!(nonce, here.challenge(made), "no two are the same");
    for (at, expected) in [(-1, false), (0, true), (60_000, true), (60_001, false)] {
        assert_eq!(here.is_ours(&nonce, Timestamp(made.0 + at)), expected, "after {at} ms");
    }
    assert!(!elsewhere.is_ours(&nonce, made));
    // With another time, cut, or with something behind it.
    let mut later = nonce.clone();
    later[7] ^= 1;
    let longer = [nonce.as_slice(), &[0]].concat();
    for forged in [later.as_slice(), &nonce[..nonce.len() - 1], &nonce[..20], &[], &longer] {
        assert!(!here.is_ours(forged, made), "{forged:?}");
    }
}
