//! The fixtures were made by JDK 17's keytool, with passwords that are used nowhere else; where a keytool is at hand,
//! the same is shown on stores that it makes now.

use std::{path::Path, process::Command};

use super::*;

const TWO_PASSWORDS: &[u8] = include_bytes!("fixtures/two-passwords.jks");
const TRUST_JKS: &[u8] = include_bytes!("fixtures/trust.jks");
const MODERN: &[u8] = include_bytes!("fixtures/modern.p12");
const LEGACY: &[u8] = include_bytes!("fixtures/legacy.p12");
const TRUST_P12: &[u8] = include_bytes!("fixtures/trust.p12");

fn open(bytes: &[u8], store: &Keystore) -> KeystoreFact {
    look(bytes, store).0
}

fn content(bytes: &[u8], store: &Keystore) -> Option<StoreContent> {
    look(bytes, store).1
}

fn given(text: &str) -> Given {
    Given::Plain(Password::new(text.to_owned()))
}

fn store(password: &str, alias: Option<&str>, key_password: Option<&str>) -> Keystore {
    Keystore {
        key: "keystore.tls".to_owned(),
        file: "acme".to_owned(),
        kind: None,
        password: given(password),
        alias: alias.map(str::to_owned),
        key_password: key_password.map(given),
    }
}

#[test]
fn a_jks_opens_with_both_passwords_and_the_alias_in_any_case() {
    for alias in ["acme", "Acme", "ACME"] {
        let good = open(TWO_PASSWORDS, &store("store-secret", Some(alias), Some("key-secret")));
        assert_eq!(good, KeystoreFact::Good, "{alias}");
    }
    let wrong = open(TWO_PASSWORDS, &store("key-secret", Some("acme"), Some("key-secret")));
    assert_eq!(wrong, KeystoreFact::WrongPassword);
    let wrong = open(TWO_PASSWORDS, &store("store-secret", Some("acme"), Some("store-secret")));
    assert_eq!(wrong, KeystoreFact::WrongKeyPassword);
    let missing = open(TWO_PASSWORDS, &store("store-secret", Some("other"), None));
    assert_eq!(missing, KeystoreFact::AliasMissing(vec!["acme".to_owned()]));
}

#[test]
fn a_pkcs12_of_old_and_new_jdks_opens() {
    for content in [MODERN, LEGACY] {
        let good = open(content, &store("store-secret", Some("acme"), Some("store-secret")));
        assert_eq!(good, KeystoreFact::Good);
        let wrong = open(content, &store("wrong", Some("acme"), Some("wrong")));
        assert_eq!(wrong, KeystoreFact::WrongPassword);
        // Java reads the keys of a PKCS #12 store with the key's password and fails if it is another.
        let wrong = open(content, &store("store-secret", Some("acme"), Some("other")));
        assert_eq!(wrong, KeystoreFact::WrongKeyPassword);
    }
}

#[test]
fn a_certificate_is_no_key() {
    let lone = open(MODERN, &store("store-secret", Some("peer"), Some("store-secret")));
    assert_eq!(lone, KeystoreFact::NoPrivateKey);
    let lone = open(TRUST_JKS, &store("store-secret", Some("peer"), None));
    assert_eq!(lone, KeystoreFact::NoPrivateKey);
}

#[test]
fn a_truststore_only_has_to_open() {
    for content in [TRUST_JKS, TRUST_P12] {
        assert_eq!(open(content, &store("store-secret", None, None)), KeystoreFact::Good);
        assert_eq!(open(content, &store("", None, None)), KeystoreFact::WrongPassword);
    }
}

#[test]
fn damage_is_never_good_and_never_a_panic() {
    let asked = store("store-secret", Some("acme"), Some("store-secret"));
    // Each look at a PKCS #12 store derives keys over thousands of rounds, so only some places are tried.
    for (content, step) in [(TWO_PASSWORDS, 1), (MODERN, 149), (LEGACY, 97)] {
        for end in (0..content.len()).step_by(step) {
            assert_ne!(open(&content[..end], &asked), KeystoreFact::Good, "cut at {end}");
        }
        for at in (0..content.len()).step_by(step) {
            let mut damaged = content.to_vec();
            damaged[at] ^= 0x5A;
            assert_ne!(open(&damaged, &asked), KeystoreFact::Good, "damaged at {at}");
        }
    }
    let text = open(b"-----BEGIN CERTIFICATE-----", &asked);
    assert!(matches!(text, KeystoreFact::Unreadable(_)), "{text:?}");
    assert!(matches!(open(b"", &asked), KeystoreFact::Unreadable(_)));
}

#[test]
fn what_cannot_be_read_is_said_and_not_judged() {
    let vault =
        Keystore { password: Given::Unknown("a secret of the vault".to_owned()), ..store("", None, None) };
    assert!(matches!(open(MODERN, &vault), KeystoreFact::NotChecked(_)));
    let bcfks = Keystore { kind: Some("BCFKS".to_owned()), ..store("x", None, None) };
    assert!(matches!(open(&[0x31, 0x82], &bcfks), KeystoreFact::NotChecked(_)));
}

#[test]
fn what_a_store_holds_is_told_with_its_certificates() {
    let of = |bytes: &[u8], alias: Option<&str>| {
        let content = content(bytes, &store("store-secret", alias, None)).unwrap();
        let entry = |entry: Held| (entry.alias, entry.has_key, entry.chain[0].digest.to_string());
        content.entries.into_iter().map(entry).collect::<Vec<_>>()
    };
    let digest = |bytes, alias: Option<&str>| {
        let entries = of(bytes, alias);
        let wanted = entries.iter().find(|(name, has_key, _)| match alias {
            Some(_) => *has_key && name == "acme",
            None => name == "peer",
        });
        wanted.unwrap().2.clone()
    };
    assert_eq!(digest(TRUST_P12, None), digest(TRUST_JKS, None), "one certificate in two formats");
    assert_ne!(digest(MODERN, Some("Acme")), digest(LEGACY, Some("acme")), "each made its own key");
    assert!(of(MODERN, Some("other")).iter().all(|(_, has_key, _)| !has_key));
    assert!(content(MODERN, &store("wrong", None, None)).is_none());
    assert!(content(&MODERN[..200], &store("store-secret", None, None)).is_none());
}

fn keytool(dir: &Path, words: &str) -> bool {
    Command::new("keytool")
        .args(words.split(' '))
        .current_dir(dir)
        .output()
        .is_ok_and(|it| it.status.success())
}

#[test]
fn stores_of_the_keytool_at_hand_open() {
    let dir = tempfile::tempdir().unwrap();
    let make = "-genkeypair -keyalg EC -groupname secp256r1 -dname CN=a -alias fresh -storepass store-secret";
    let forms = [
        ("JKS", "-keypass key-secret", "key-secret"),
        ("PKCS12", "", "store-secret"),
        ("PKCS12", "-J-Dkeystore.pkcs12.legacy", "store-secret"),
    ];
    for (at, (kind, extra, key_password)) in forms.into_iter().enumerate() {
        let name = format!("{at}.store");
        let words = format!("{extra} {make} -storetype {kind} -keystore {name}");
        if !keytool(dir.path(), words.trim()) {
            eprintln!("skipped: no keytool here that makes a {kind} store");
            continue;
        }
        let content = std::fs::read(dir.path().join(&name)).unwrap();
        let asked = store("store-secret", Some("fresh"), Some(key_password));
        assert_eq!(open(&content, &asked), KeystoreFact::Good, "{kind} {extra}");
        let wrong = store("store-secret", Some("fresh"), Some("wrong-secret"));
        assert_eq!(open(&content, &wrong), KeystoreFact::WrongKeyPassword, "{kind} {extra}");
    }
}
