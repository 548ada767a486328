//! The context file: which coordinator to talk to, whom to trust, and who we are. The coordinator writes it at its
//! first start; it holds a private key, so it is 0600.

use std::{fs, io, path::Path};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::Deserialize;

use crate::{exit::Failure, text::local, view::When};

/// Where a context comes from.
const SOURCE: &str = "operator/context.toml in the coordinator's data directory";

/// A context file as written by the coordinator.
#[derive(Clone, Deserialize)]
pub struct Context {
    /// `host:port` of the coordinator.
    pub address: String,
    /// The fleet's name, for people.
    pub fleet: String,
    /// Who this is, for people; the certificate decides.
    #[serde(default)]
    pub operator: Option<String>,
    /// The name that the coordinator's certificate must carry; the host of `address` if absent.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Every root to trust.
    pub authority_pem: String,
    /// The operator's certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl Context {
    /// Reads a context file.
    ///
    /// # Errors
    /// Says which file is missing or wrong, and where contexts come from.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
        let context: Self = toml::from_str(&text).map_err(|error| {
            // The message quotes no line: the file holds a private key.
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map(|line| format!(" line {line}:")).unwrap_or_default();
            let remedy = misspelt(&text, error.message()).unwrap_or_else(|| format!("copy {SOURCE} again"));
            Failure::failed(format!("{shown} is not a context file:{line} {}", error.message()), remedy)
        })?;
        context.check(&shown.to_string())?;
        Ok(context)
    }

    /// What would only show as a failed connection later.
    fn check(&self, shown: &str) -> Result<(), Failure> {
        let wrong = |key: &str, what: &str| {
            Failure::failed(format!("{key} in {shown} {what}"), format!("copy {SOURCE} again"))
        };
        let certificate = |key, pem: &str| {
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
                wrong(key, "is no certificate: it has to hold one between BEGIN and END CERTIFICATE")
            })
        };
        let (host, port) = self.host_and_port().rsplit_once(':').unwrap_or((self.host_and_port(), ""));
        if host.is_empty() || host.ends_with(':') || port.parse::<u16>().is_err() {
            return Err(wrong(
                "address",
                &format!(
                    "is {:?}; write the coordinator's host and port, as in \"convoy.example.org:7843\"",
                    self.address
                ),
            ));
        }
        certificate("authority_pem", &self.authority_pem)?;
        let own = certificate("certificate_pem", &self.certificate_pem)?;
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|_| {
            wrong("key_pem", "is no private key: it has to hold one between BEGIN and END PRIVATE KEY")
        })?;
        match fleet_of(&own) {
            Some(fleet) if fleet != self.fleet => Err(wrong(
                "fleet",
                &format!("is {:?}, and the certificate beside it is of fleet {fleet:?}", self.fleet),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the operator's certificate is valid now, by this machine's clock. The coordinator would only close the
    /// connection, which says nothing.
    ///
    /// # Errors
    /// It has ended, or has not begun.
    pub fn check_time(&self, now: When) -> Result<(), Failure> {
        let Ok(own) = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()) else { return Ok(()) };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&own) else { return Ok(()) };
        let at = |time: x509_parser::time::ASN1Time| When(time.timestamp().saturating_mul(1000));
        let (from, until) = (at(parsed.validity().not_before), at(parsed.validity().not_after));
        let what = if until <= now {
            format!("the operator's certificate in the context file expired {}", local(until))
        } else if now < from {
            format!("the operator's certificate in the context file is only valid from {} on", local(from))
        } else {
            return Ok(());
        };
        Err(Failure::failed(what, format!("copy {SOURCE} again, or correct this machine's clock")))
    }

    /// Whether the private key can be used, and belongs to the certificate.
    ///
    /// # Errors
    /// It cannot, or it is another one's.
    pub fn check_key(&self) -> Result<(), Failure> {
        let wrong = |what: &str| {
            Failure::failed(format!("key_pem in the context file {what}"), format!("copy {SOURCE} again"))
        };
        let unusable = || wrong("is no private key that can be used: it is damaged, or of an unknown kind");
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|_| unusable())?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| unusable())?;
        let Ok(own) = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()) else { return Ok(()) };
        match rustls::sign::CertifiedKey::new(vec![own], key).keys_match() {
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                Err(wrong("does not belong to the certificate beside it"))
            }
            // What else may be wrong with the certificate, the connection shows.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A warning if the file has keys that mean nothing: a misspelt one would be missed without a word.
    pub fn unknown_keys(path: &Path) -> Option<String> {
        let table: toml::Table = fs::read_to_string(path).ok()?.parse().ok()?;
        let unknown = table.keys().filter(|key| !KEYS.contains(&key.as_str()));
        let named: Vec<String> =
            unknown.map(|key| format!("`{key}` ({})", fleet::spec::suggest(key, KEYS))).collect();
        let shown = path.display();
        (!named.is_empty())
            .then(|| format!("warning: {shown} has keys that mean nothing: {}\n", named.join(", ")))
    }

    /// Why the file is not used if others than its owner can read it: it holds a private key.
    #[cfg(unix)]
    pub fn exposed(path: &Path) -> Option<Failure> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
        let shown = path.display();
        (mode & 0o077 != 0).then(|| {
            Failure::failed(
                format!(
                    "others can read {shown} (mode {:o}), and whoever has it is this operator; it is not used",
                    mode & 0o777
                ),
                format!(
                    "chmod 600 {shown}; if somebody may have read it, an admin makes another token with `convoy operator add \
                     NAME --again`"
                ),
            )
        })
    }

    /// Access lists say who can read it here, and they are not looked at.
    #[cfg(not(unix))]
    pub fn exposed(_path: &Path) -> Option<Failure> {
        None
    }

    /// When the operator's certificate ends, if it can be read.
    pub fn expires(&self) -> Option<When> {
        let own = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&own).ok()?;
        Some(When(parsed.validity().not_after.timestamp().saturating_mul(1000)))
    }

    /// The URI to dial.
    pub fn uri(&self) -> String {
        format!("https://{}", self.host_and_port())
    }

    /// The name that the coordinator's certificate must carry.
    pub fn expected_name(&self) -> &str {
        let host = || {
            let address = self.host_and_port();
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            host.trim_start_matches('[').trim_end_matches(']')
        };
        self.server_name.as_deref().unwrap_or_else(host)
    }

    /// Without a scheme, whichever way it was written.
    pub fn host_and_port(&self) -> &str {
        self.address.strip_prefix("https://").unwrap_or(&self.address).trim_end_matches('/')
    }
}

/// Everything that a context may hold.
const KEYS: [&str; 7] =
    ["address", "fleet", "operator", "server_name", "authority_pem", "certificate_pem", "key_pem"];

/// Which key was probably meant to be the one that is missing.
fn misspelt(text: &str, message: &str) -> Option<String> {
    let missing = message.strip_prefix("missing field `")?.strip_suffix('`')?;
    let table: toml::Table = text.parse().ok()?;
    let typed = table.keys().filter(|key| !KEYS.contains(&key.as_str()));
    let is_near = |key: &&String| fleet::spec::suggest(key, [missing]).starts_with("did you mean");
    typed.into_iter().find(is_near).map(|key| format!("rename `{key}` to `{missing}`"))
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    let shown = path.display();
    let (what, remedy) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("there is no context file {shown}"),
            format!(
                "join with a token that an admin made (`convoy join TOKEN`), or copy {SOURCE} and name it with --context"
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("you may not read the context file {shown}"),
            "its owner alone can read it: run the command as that user, or have a copy that is yours"
                .to_owned(),
        ),
        io::ErrorKind::IsADirectory => (
            format!("{shown} is a directory, not a context file"),
            format!("name the file in it; the coordinator writes it as {SOURCE}"),
        ),
        // Whatever else it is, the operating system's own words say it.
        _ => (format!("cannot read the context file {shown}"), format!("copy {SOURCE} again")),
    };
    Failure::failed(what, remedy).because(error)
}

/// The fleet in a certificate's name, `convoy://FLEET/operator/NAME`. The name stands in it as plain text, so it is
/// found without parsing the rest; nothing is decided by it but whether the file fits together.
fn fleet_of(certificate: &[u8]) -> Option<String> {
    const SCHEME: &[u8] = b"convoy://";
    let at = certificate.windows(SCHEME.len()).position(|window| window == SCHEME)? + SCHEME.len();
    let name = certificate[at..].iter().take_while(|byte| **byte != b'/');
    Some(name.map(|byte| char::from(*byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "address = 'https://[::1]:7443/'\nfleet = 'f'\nauthority_pem = 'a'\ncertificate_pem = 'c'\nkey_pem = 'very secret'\n";

    #[test]
    fn the_address_may_be_written_either_way() {
        let context: Context = toml::from_str(TEXT).unwrap();
        assert_eq!(context.uri(), "https://[::1]:7443");
        assert_eq!(context.expected_name(), "::1");
    }

    /// Of 2026-01-01 to 2026-02-01.
    const JANUARY: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBUDCB96ADAgECAgEBMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAXgwHhcNMjYw\n\
        MTAxMDAwMDAwWhcNMjYwMjAxMDAwMDAwWjAMMQowCAYDVQQDDAF4MFkwEwYHKoZI\n\
        zj0CAQYIKoZIzj0DAQcDQgAE8eEL/M0OvDe8GGNRqJ7J0Z7QtGez+oqjEgPHWmMc\n\
        rQuX+tVXTz47LLxGCx5ciIN6EaW+45uARDMyVhVTcNBv16NKMEgwJwYDVR0RBCAw\n\
        HoYcY29udm95Oi8vYWNtZS9vcGVyYXRvci9hZG1pbjAdBgNVHQ4EFgQUxOSuF5bP\n\
        zaO5j1N3UKPuU5MxCmQwCgYIKoZIzj0EAwIDSAAwRQIgC7e1l9uJR5GyG1FZEWJK\n\
        JvGIsgCpzUkdvwHYAy5rfbECIQCeREU8x2jNJoln4wxGaN0aenOiCglc5hVCy7Dg\n\
        cyBqsg==\n\
        -----END CERTIFICATE-----\n";

    #[test]
    fn an_expired_certificate_is_said_as_such() {
        let context = Context { certificate_pem: JANUARY.to_owned(), ..context("acme") };
        assert!(context.check("x").is_ok());
        let day = |day: i64| When(1_767_225_600_000 + day * 86_400_000);
        let said = |now| context.check_time(now).err().map(|failure| failure.to_string());
        assert_eq!(said(day(15)), None);
        let expired = said(day(31)).unwrap();
        assert!(expired.contains("expired 2026-0"), "{expired}");
        let early = said(day(-1)).unwrap();
        assert!(early.contains("is only valid from 20"), "{early}");
    }

    #[test]
    fn a_broken_context_never_shows_its_key() {
        let dir = std::env::temp_dir().join(format!("convoy-context-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("context.toml");
        fs::write(&path, format!("{TEXT}oops\n")).unwrap();
        let failure = Context::read(&path).err().unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let all = format!("{failure}{failure:?}");
        assert!(all.contains("is not a context file: line 6:") && !all.contains("very secret"), "{all}");
    }

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAECY29udm95Oi8vYWNtZS9vcGVyYXRvci9hZG1pbg==\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n";

    fn context(fleet: &str) -> Context {
        Context {
            address: "c:7843".to_owned(),
            fleet: fleet.to_owned(),
            operator: None,
            server_name: None,
            authority_pem: CERTIFICATE.to_owned(),
            certificate_pem: CERTIFICATE.to_owned(),
            key_pem: KEY.to_owned(),
        }
    }

    fn refusal(context: &Context) -> String {
        context.check("c.toml").err().map(|failure| failure.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_context_that_does_not_fit_together_is_not_used() {
        assert_eq!(refusal(&context("acme")), "");
        assert_eq!(
            refusal(&context("acme-test")),
            "fleet in c.toml is \"acme-test\", and the certificate beside it is of fleet \"acme\""
        );
        for (wrong, says) in [
            (
                Context { key_pem: CERTIFICATE.to_owned(), ..context("acme") },
                "key_pem in c.toml is no private key",
            ),
            (
                Context { certificate_pem: KEY.to_owned(), ..context("acme") },
                "certificate_pem in c.toml is no cert",
            ),
            (
                Context { authority_pem: String::new(), ..context("acme") },
                "authority_pem in c.toml is no cert",
            ),
        ] {
            assert!(refusal(&wrong).starts_with(says), "{}", refusal(&wrong));
        }
    }

    #[test]
    fn a_key_that_is_damaged_or_of_another_certificate_is_told_apart() {
        let pair = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let own = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
            Context { certificate_pem: own.pem(), key_pem: key.serialize_pem(), ..context("acme") }
        };
        let (one, other) = (pair(), pair());
        let said = |context: &Context| context.check_key().err().map(|failure| failure.to_string());
        assert_eq!(said(&one), None);
        let mixed = Context { key_pem: other.key_pem, ..one.clone() };
        assert_eq!(
            said(&mixed).unwrap(),
            "key_pem in the context file does not belong to the certificate beside it"
        );
        let damaged = Context { key_pem: KEY.to_owned(), ..one };
        assert!(said(&damaged).unwrap().contains("is no private key that can be used"));
    }

    #[test]
    fn an_address_without_a_port_and_a_misspelt_key_are_said() {
        for address in ["", "c", "c:", ":7843", "[::1]", "::1:x", "https://c/"] {
            let wrong = Context { address: address.to_owned(), ..context("acme") };
            assert!(refusal(&wrong).starts_with("address in c.toml is "), "{address}: {}", refusal(&wrong));
        }
        for address in ["c:7843", "[::1]:7843", "https://c:7843/"] {
            assert_eq!(refusal(&Context { address: address.to_owned(), ..context("acme") }), "");
        }
        let text = TEXT.replace("address", "adress");
        let missing = toml::from_str::<Context>(&text).err().unwrap();
        assert_eq!(misspelt(&text, missing.message()).as_deref(), Some("rename `adress` to `address`"));
        assert_eq!(misspelt("x = 1", "missing field `address`"), None);
    }

    #[test]
    fn a_key_that_means_nothing_is_told_about() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("context.toml");
        let said = |text: String| {
            fs::write(&path, text).unwrap();
            Context::unknown_keys(&path).unwrap_or_default()
        };
        assert_eq!(said(format!("server_name = 'c'\noperator = 'o'\n{TEXT}")), "");
        let told = said(format!("servername = 'c'\n{TEXT}"));
        assert!(
            told.ends_with("keys that mean nothing: `servername` (did you mean \"server_name\"?)\n"),
            "{told}"
        );
        assert!(!told.contains("very secret"), "{told}");
    }

    #[cfg(unix)]
    #[test]
    fn a_context_that_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("context.toml");
        fs::write(&path, TEXT).unwrap();
        for (mode, told) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Context::exposed(&path).is_some(), told, "{mode:o}");
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Context::exposed(dir.path()).is_none(), "a directory is another mistake");
    }

    #[test]
    fn why_a_context_cannot_be_read_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let said = |path: &Path| Context::read(path).err().unwrap().to_string();
        assert!(said(&dir.path().join("none.toml")).starts_with("there is no context file"));
        assert!(said(dir.path()).ends_with("is a directory, not a context file"));
    }
}
