use super::*;

fn files(fleet_toml: &str) -> Sources {
    Sources([("fleet.toml".to_owned(), fleet_toml.as_bytes().to_vec())].into())
}

#[test]
fn the_fleet_is_the_one_that_the_directory_names() {
    assert_eq!(fleet_of(&files("name = \"acme\"\n")).unwrap().as_str(), "acme");
    for text in ["", "name = 3\n", "name = \"a b\"\n", "= broken"] {
        assert_eq!(fleet_of(&files(text)), None, "{text}");
    }
}

#[test]
fn a_key_is_signed_with_by_the_program_that_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let kind = |text: &str| {
        let path = dir.path().join("key");
        fs::write(&path, text).unwrap();
        kind_of(&path).unwrap()
    };
    assert_eq!(kind("untrusted comment: minisign encrypted secret key\nRWRT"), Kind::Minisign);
    assert_eq!(kind("-----BEGIN OPENSSH PRIVATE KEY-----\n"), Kind::Ssh);
    assert_eq!(kind("ssh-ed25519 AAAA ann"), Kind::Ssh);
    assert_eq!(kind(""), Kind::Ssh);
    let missing = kind_of(&dir.path().join("none")).unwrap_err();
    assert!(missing.what.contains("cannot read the key"), "{missing:?}");
}

#[test]
fn a_token_has_to_be_touched_and_other_keys_ask_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("id_ed25519_sk");
    fs::write(&key, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    assert_eq!(hint(&Sign::Key(key.clone())), "");
    let public = dir.path().join("id_ed25519_sk.pub");
    fs::write(&public, "sk-ssh-ed25519@openssh.com AAAA ann\n").unwrap();
    for named in [&key, &public] {
        assert!(hint(&Sign::Key(named.clone())).contains("touch it"), "{}", named.display());
    }
    assert_eq!(hint(&Sign::File(public.clone())), "");
    fs::write(&public, "ssh-ed25519 AAAA ann\n").unwrap();
    assert_eq!(hint(&Sign::Key(key)), "");
}

#[tokio::test]
async fn a_key_that_does_not_sign_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, "this is no key\n").unwrap();
    let refused = signature(&Sign::Key(path), "text").await.unwrap_err();
    assert!(refused.what.contains("ssh-keygen"), "{refused:?}");
    let refused = signature(&Sign::File(dir.path().join("none")), "text").await.unwrap_err();
    assert!(refused.what.contains("cannot read the signature"), "{refused:?}");
    fs::write(dir.path().join("large"), "x".repeat(SIGNATURE_MAX + 1)).unwrap();
    let refused = signature(&Sign::File(dir.path().join("large")), "text").await.unwrap_err();
    assert!(format!("{:?}", refused.source).contains("more than 4096 bytes"), "{refused:?}");
}
