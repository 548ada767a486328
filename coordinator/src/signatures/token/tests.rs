//! Tokens are made up: keys in memory that sign what PROTOCOL.u2f and PROTOCOL.sshsig of OpenSSH say. Where `ssh-keygen` is
//! there, it verifies the same signatures.

use std::{
    fs,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fleet::signature::{NAMESPACE, SigningKey};
use rcgen::{KeyPair, SigningKey as _};
use sha2::Sha512;

use super::*;
use crate::signatures::verify;

const STATEMENT: &str = "convoy apply v1\nfleet acme\n";
const ED25519: &str = "sk-ssh-ed25519@openssh.com";
const ECDSA: &str = "sk-ecdsa-sha2-nistp256@openssh.com";

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| sized(part)).collect()
}

/// A token with one key.
struct Token {
    kind: &'static str,
    key: KeyPair,
    application: &'static str,
}

/// What it signs, and what it says of that.
struct Signing {
    flags: u8,
    counter: u32,
    application: &'static str,
    namespace: &'static str,
}

const USUAL: Signing = Signing { flags: PRESENT, counter: 7, application: "ssh:", namespace: NAMESPACE };

impl Token {
    fn new(kind: &'static str, application: &'static str) -> Self {
        let algorithm = if kind == ED25519 { &rcgen::PKCS_ED25519 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
        Self { kind, key: KeyPair::generate_for(algorithm).unwrap(), application }
    }

    fn public(&self) -> Vec<u8> {
        let point = self.key.public_key_raw();
        match self.kind {
            ED25519 => joined(&[self.kind.as_bytes(), point, self.application.as_bytes()]),
            _ => joined(&[self.kind.as_bytes(), b"nistp256", point, self.application.as_bytes()]),
        }
    }

    /// As a line of a public key file.
    fn line(&self) -> String {
        format!("{} {} ann", self.kind, STANDARD.encode(self.public()))
    }

    /// As `ssh-keygen -Y sign` writes it.
    fn sign(&self, message: &str, how: &Signing) -> String {
        let hash = Sha512::digest(message);
        let data = joined(&[how.namespace.as_bytes(), b"", b"sha512", &hash]);
        let data = [&b"SSHSIG"[..], &data].concat();
        let trailer = [&[how.flags][..], &how.counter.to_be_bytes()].concat();
        let blob = [&Sha256::digest(how.application)[..], &trailer, &Sha256::digest(&data)].concat();
        let signature = self.key.sign(&blob).unwrap();
        let signature = if self.kind == ED25519 { signature } else { pair(&signature) };
        let signature = [joined(&[self.kind.as_bytes(), &signature]), trailer].concat();
        let parts = joined(&[&self.public(), how.namespace.as_bytes(), b"", b"sha512", &signature]);
        let text = STANDARD.encode([&b"SSHSIG"[..], &1_u32.to_be_bytes(), &parts].concat());
        let lines = text.as_bytes().chunks(70).map(|line| format!("{}\n", str::from_utf8(line).unwrap()));
        let lines: String = lines.collect();
        format!("-----BEGIN SSH SIGNATURE-----\n{lines}-----END SSH SIGNATURE-----\n")
    }

    fn verified(&self, message: &str, how: &Signing) -> Result<(), String> {
        let listed = [SigningKey::parse(&self.line()).unwrap()];
        verify(STATEMENT, &self.sign(message, how), &listed).map(|_| ())
    }
}

/// The two numbers of an ECDSA signature in DER, as SSH has them. All are short.
fn pair(der: &[u8]) -> Vec<u8> {
    let (first, rest) = der[4..].split_at(usize::from(der[3]));
    joined(&[first, &rest[2..]])
}

fn tokens() -> [Token; 3] {
    [Token::new(ED25519, "ssh:"), Token::new(ECDSA, "ssh:"), Token::new(ECDSA, "ssh:acme prod")]
}

#[test]
fn a_touched_token_signs_whatever_its_counter_and_with_or_without_a_pin() {
    for token in tokens() {
        let usual = Signing { application: token.application, ..USUAL };
        for (flags, counter) in [(0x01, 7), (0x01, 0), (0x05, 1), (0x05, u32::MAX)] {
            token.verified(STATEMENT, &Signing { flags, counter, ..usual }).unwrap();
        }
    }
}

#[test]
fn a_token_that_nobody_touched_does_not_sign() {
    for token in tokens() {
        for flags in [0x00, 0x04] {
            let usual = Signing { application: token.application, ..USUAL };
            let why = token.verified(STATEMENT, &Signing { flags, ..usual }).unwrap_err();
            assert!(why.contains("nobody has touched the security token"), "{why}");
        }
    }
}

#[test]
fn what_a_token_signed_for_something_else_is_refused() {
    for token in tokens() {
        let usual = || Signing { application: token.application, ..USUAL };
        let other = token.verified("convoy apply v1\nfleet acne\n", &usual()).unwrap_err();
        assert!(other.contains("is not one of this apply"), "{other}");
        for application in ["ssh:other", "acme.example.org", ""] {
            let why = token.verified(STATEMENT, &Signing { application, ..usual() }).unwrap_err();
            assert!(why.contains("is not one of this apply"), "{application}: {why}");
        }
        let git = token.verified(STATEMENT, &Signing { namespace: "git", ..usual() }).unwrap_err();
        assert!(git.contains("is one for \"git\""), "{git}");
        // Another token, or the same key said to be for something else.
        let stranger = Token::new(token.kind, token.application);
        let listed = [SigningKey::parse(&token.line()).unwrap()];
        let renamed = Token { kind: token.kind, key: stranger.key, application: "ssh:renamed" };
        for signer in [Token::new(token.kind, token.application), renamed] {
            let how = Signing { application: signer.application, ..USUAL };
            let why = verify(STATEMENT, &signer.sign(STATEMENT, &how), &listed).unwrap_err();
            assert!(why.contains("which the fleet does not list"), "{why}");
        }
    }
}

#[test]
fn a_flag_or_a_count_that_was_changed_afterwards_is_noticed() {
    for token in tokens() {
        let how = Signing { application: token.application, flags: 0, ..USUAL };
        let listed = [SigningKey::parse(&token.line()).unwrap()];
        let text = token.sign(STATEMENT, &how);
        let inner: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let bytes = STANDARD.decode(inner).unwrap();
        // The last five bytes are flags and counter.
        for (at, value) in [(5, 0x01), (5, 0x05), (1, 0xff)] {
            let mut changed = bytes.clone();
            let at = changed.len() - at;
            changed[at] = value;
            let flags = changed.len() - 5;
            changed[flags] |= 0x01;
            let text = STANDARD.encode(&changed);
            let lines: Vec<&str> =
                text.as_bytes().chunks(70).map(|line| str::from_utf8(line).unwrap()).collect();
            let text =
                format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"));
            let why = verify(STATEMENT, &text, &listed).unwrap_err();
            assert!(why.contains("is not one of this apply"), "{why}");
        }
    }
}

#[test]
fn openssh_takes_what_these_tokens_sign() {
    let Ok(_) = Command::new("ssh-keygen").arg("-?").stdin(Stdio::null()).output() else {
        println!("NOT EXERCISED: there is no ssh-keygen");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [allowed, signature, statement] = ["allowed", "sig", "statement"].map(|name| dir.path().join(name));
    fs::write(&statement, STATEMENT).unwrap();
    for token in tokens() {
        let is_taken = |text: &str| {
            fs::write(&allowed, format!("ann {}\n", token.line())).unwrap();
            fs::write(&signature, text).unwrap();
            let mut command = Command::new("ssh-keygen");
            command.args(["-Y", "verify", "-I", "ann", "-n", NAMESPACE, "-f"]).arg(&allowed);
            command.arg("-s").arg(&signature).stdin(fs::File::open(&statement).unwrap());
            let output = command.output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let how = Signing { application: token.application, ..USUAL };
        let (taken, said) = is_taken(&token.sign(STATEMENT, &how));
        assert!(taken, "{}: {said}", token.kind);
        assert!(!is_taken(&token.sign("something else", &how)).0);
        assert!(!is_taken(&token.sign(STATEMENT, &Signing { application: "ssh:other", ..how })).0);
    }
}
