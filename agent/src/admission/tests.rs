//! Answers that are taken and answers that are not: whatever is wrong with one, what was in force stays.

use std::path::Path;

use fleet::{ids::FleetName, time::Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SanType,
};

use super::*;

/// 2027-01-15, when all of this happens.
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const DAY: i64 = 86_400_000;

/// A fleet's authority.
struct Fleet {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Fleet {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::from_ca_cert_der(certificate.der(), key).unwrap();
        Self { pem: certificate.pem(), issuer }
    }

    /// What an operator brings back: valid from and to, in days from now.
    fn admit(&self, csr_pem: &str, node: &str, (from, to): (i64, i64)) -> Answer {
        let at = |days: i64| time::OffsetDateTime::from_unix_timestamp((NOW.0 + days * DAY) / 1000).unwrap();
        let request = CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            vec![SanType::URI(format!("convoy://acme/node/{node}").try_into().unwrap())];
        (params.not_before, params.not_after) = (at(from), at(to));
        let certificate = params.signed_by(&request.public_key, &self.issuer).unwrap();
        Answer {
            node: NodeName::parse(node).unwrap(),
            fleet: FleetName::parse("acme").unwrap(),
            address: "convoy.acme.internal:7843".to_owned(),
            certificate_pem: certificate.pem(),
            authority_pem: self.pem.clone(),
        }
    }

    fn pin(&self) -> Fingerprint {
        Fingerprint::of(&CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
    }
}

fn host(dir: &Path) -> Store {
    Store::of(dir, || NOW)
}

fn csr(store: &Store) -> String {
    request(store, None).unwrap().csr_pem
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir.join("identity"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn an_answer_makes_an_identity_and_taking_it_again_changes_nothing() {
    let (dir, acme) = (tempfile::tempdir().unwrap(), Fleet::new());
    let store = host(dir.path());
    let first = request(&store, Some(&NodeName::parse("is-1").unwrap())).unwrap();
    let again = request(&store, None).unwrap();
    assert_eq!(first.key, again.key, "a request that is made again has the same key");
    assert!(!first.csr_pem.contains("PRIVATE") && !store.exists());

    let answer = acme.admit(&first.csr_pem, "is-1", (0, 90));
    let installed = install(&store, &answer, Some(acme.pin()), None).unwrap();
    assert_eq!(installed, Installed { authority: acme.pin(), before: false });
    let identity = store.read(0).unwrap();
    assert_eq!(
        (identity.node.as_str(), identity.address.as_deref()),
        ("is-1", Some(answer.address.as_str()))
    );
    let names: Vec<String> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["address", "authority.pem", "node.pem"],
        "the key of the request is the identity's now"
    );
    let again = install(&store, &answer, None, None).unwrap();
    assert_eq!(again, Installed { authority: acme.pin(), before: true });
    #[cfg(unix)]
    for name in &names {
        use std::os::unix::fs::MetadataExt as _;
        let mode = fs::metadata(dir.path().join("identity").join(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// Each of them in force before, and each wrong answer after: what there was is there still, byte for byte.
#[test]
fn a_wrong_answer_leaves_everything_as_it_was() {
    let (acme, other) = (Fleet::new(), Fleet::new());
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign_csr = csr(&host(elsewhere.path()));
    let pin = Some(acme.pin());
    for has_joined in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = host(dir.path());
        if has_joined {
            let answer = acme.admit(&csr(&store), "is-1", (0, 90));
            install(&store, &answer, None, None).unwrap();
        }
        let csr = csr(&store);
        let good = || acme.admit(&csr, "is-1", (0, 90));
        let theirs = other.admit(&csr, "is-1", (0, 90));
        let both = Answer { authority_pem: format!("{}{}", acme.pem, other.pem), ..theirs.clone() };
        let before = files(dir.path());
        for (what, answer, pin, said) in [
            (
                "another host's",
                acme.admit(&foreign_csr, "is-1", (0, 90)),
                None,
                "it is another host's, or older",
            ),
            ("ended", acme.admit(&csr, "is-1", (-90, -1)), None, "ended 24h ago"),
            ("too early", acme.admit(&csr, "is-1", (1, 90)), None, "begins only in 24h"),
            (
                "of another node",
                Answer { node: NodeName::parse("is-2").unwrap(), ..good() },
                None,
                "is convoy://acme/node/is-1",
            ),
            ("of another fleet's authority", theirs.clone(), pin, "and --ca-pin says"),
            ("with an authority too many", both, pin, "and --ca-pin says"),
            (
                "swapped in part",
                Answer { authority_pem: acme.pem.clone(), ..theirs.clone() },
                None,
                "not by the authority in it",
            ),
            (
                "without authority",
                Answer { authority_pem: String::new(), ..good() },
                None,
                "there is no authority",
            ),
            (
                "damaged",
                Answer { certificate_pem: good().certificate_pem.replace("MII", "MIJ"), ..good() },
                None,
                "cannot be read",
            ),
        ] {
            let error = install(&store, &answer, pin, None).unwrap_err().to_string();
            assert!(error.contains(said), "{what}: {error}");
            assert!(files(dir.path()) == before, "{what}, joined {has_joined}");
        }
        // A host that trusts somebody takes no other authority without being told so.
        if has_joined {
            let error = install(&store, &theirs, None, None).unwrap_err().to_string();
            assert!(
                error.contains("it is of another fleet") && error.contains(&other.pin().to_string()),
                "{error}"
            );
            assert!(files(dir.path()) == before);
            install(&store, &theirs, Some(other.pin()), None).unwrap();
        } else {
            install(&store, &good(), None, None).unwrap();
        }
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_refused() {
    let (dir, elsewhere, acme) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Fleet::new());
    let answer = acme.admit(&csr(&host(elsewhere.path())), "is-1", (0, 90));
    let store = host(dir.path());
    store.prepare().unwrap();
    let error = install(&store, &answer, None, None).unwrap_err().to_string();
    assert!(error.contains("no request of this host waits"), "{error}");
    fs::write(dir.path().join("identity/request.pem"), "half a k").unwrap();
    let error = install(&store, &answer, None, None).unwrap_err().to_string();
    assert!(error.contains("request.pem does not hold the key of a request; remove it"), "{error}");
}

#[test]
fn a_request_is_written_over_a_request_and_over_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = host(dir.path());
    let request = request(&store, None).unwrap();
    let (path, taken) = (dir.path().join("request"), dir.path().join("taken"));
    write_request(&path, &request).unwrap();
    write_request(&path, &request).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), request.csr_pem);
    fs::write(&taken, "somebody's").unwrap();
    let error = write_request(&taken, &request).unwrap_err().to_string();
    assert!(error.contains("is no request; name another file"), "{error}");
    assert_eq!(fs::read_to_string(&taken).unwrap(), "somebody's");
    let none = dir.path().join("none/request");
    assert!(write_request(&none, &request).unwrap_err().to_string().contains("none/request"));
    let error = read_answer(&path).unwrap_err();
    assert!(in_file(&path, &error).contains("this is the request"), "{error}");
}
