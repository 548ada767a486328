//! Opens keystores the way the server will: store password, then alias, then the key's own password.

mod jks;
mod pkcs12;

use fleet::{
    keystore::{self, NotOpened},
    preflight::{
        Keystore, Password,
        certificate::CertificateFact,
        facts::{Held, KeystoreFact, Seen, StoreContent},
        needs::Given,
    },
};
use p12_keystore::Certificate;

/// A file larger than this is no keystore.
pub(super) const SIZE_MAX: u64 = 8 * 1024 * 1024;

/// What a format's reader found in a store that opened.
pub(super) struct Opened {
    /// Entries with a private key.
    keys: Vec<String>,
    /// Entries with only a certificate.
    certificates: Vec<String>,
}

/// Opens `content` once: looks for what the configuration names, and tells what is in it. `None` for the second if it
/// does not open or cannot be read here.
pub(super) fn look(content: &[u8], store: &Keystore) -> (KeystoreFact, Option<StoreContent>) {
    let password = match &store.password {
        Given::Plain(password) => password,
        Given::Unknown(why) => return (KeystoreFact::NotChecked(format!("its password: {why}")), None),
    };
    // The formats are told apart by their first bytes; JDKs open either under the other's name.
    let unread = match content {
        [0xFE, 0xED, 0xFE, 0xED, ..] => {
            let entries = keystore::jks::read(content, password);
            let held = entries.as_ref().ok().and_then(|entries| jks::held(entries));
            let fact = judge(entries.map(|entries| jks::opened(&entries)), store, |alias, key_password| {
                keystore::jks::key_opens(content, alias, key_password)
            });
            return (fact, held.map(|held| told(held, store)));
        }
        [0x30, ..] => {
            let archive = keystore::open_pkcs12(content, password);
            let held = archive.as_ref().ok().and_then(pkcs12::held);
            let opened = archive.map(|archive| pkcs12::opened(&archive));
            // Keys of a PKCS #12 store are read with the store's password only.
            let fact = judge(opened, store, |_, key_password| Ok(key_password == password));
            return (fact, held.map(|held| told(held, store)));
        }
        [0xCE, 0xCE, 0xCE, 0xCE, ..] => KeystoreFact::NotChecked("JCEKS is not read here".to_owned()),
        [] => KeystoreFact::Unreadable("it is empty".to_owned()),
        _ if store.kind.as_deref().is_some_and(|kind| !["JKS", "PKCS12"].contains(&kind)) => {
            KeystoreFact::NotChecked("its type is not read here".to_owned())
        }
        _ => KeystoreFact::Unreadable("it is neither JKS nor PKCS #12".to_owned()),
    };
    (unread, None)
}

fn told(entries: Vec<Held>, store: &Keystore) -> StoreContent {
    // Java compares aliases without regard to case.
    let is_configured = |alias: &str| {
        store.alias.as_ref().is_some_and(|configured| configured.to_lowercase() == alias.to_lowercase())
    };
    let entries = entries
        .into_iter()
        .map(|entry| Held { has_key: entry.has_key && is_configured(&entry.alias), ..entry });
    StoreContent { key: store.key.clone(), file: store.file.clone(), entries: entries.collect() }
}

fn fact(certificate: &Certificate) -> Option<CertificateFact> {
    super::peers::fact(certificate.as_der())
}

/// What a server trusts.
pub(crate) struct Truststore {
    /// Below home, or absolute.
    pub(crate) file: String,
    /// What is in it, or why that is not known.
    pub(crate) anchors: Seen<Vec<Anchor>>,
}

impl Default for Truststore {
    fn default() -> Self {
        Self { file: "truststore".to_owned(), anchors: Err("nobody looked".to_owned()) }
    }
}

/// A certificate of a truststore.
#[derive(Debug, Clone)]
pub(crate) struct Anchor {
    /// Its alias.
    pub(crate) alias: String,
    /// The certificate.
    pub(crate) der: Vec<u8>,
    /// Whether Java trusts it: in PKCS #12, certificates without a mark of Oracle's are only there.
    pub(crate) is_trusted: bool,
}

/// What Java takes from a truststore: lone certificates, and the first of each key's.
pub(super) fn truststore(content: &[u8], store: &Keystore) -> Truststore {
    let read = |password: &Password| match content {
        [0xFE, 0xED, 0xFE, 0xED, ..] => {
            keystore::jks::read(content, password).map(|entries| jks::anchors(&entries))
        }
        [0x30, ..] => keystore::open_pkcs12(content, password).map(|archive| pkcs12::anchors(&archive)),
        _ => Err(NotOpened::Broken("it is neither JKS nor PKCS #12".to_owned())),
    };
    let anchors = match &store.password {
        Given::Plain(password) => read(password).map_err(|why| why.to_string()),
        Given::Unknown(why) => Err(format!("its password: {why}")),
    };
    Truststore { file: store.file.clone(), anchors }
}

fn judge(
    opened: Result<Opened, NotOpened>,
    store: &Keystore,
    key_opens: impl Fn(&str, &Password) -> Result<bool, String>,
) -> KeystoreFact {
    let opened = match opened {
        Ok(opened) => opened,
        Err(NotOpened::WrongPassword) => return KeystoreFact::WrongPassword,
        Err(NotOpened::Broken(why)) => return KeystoreFact::Unreadable(why),
    };
    let Some(alias) = &store.alias else { return KeystoreFact::Good };
    // Java compares aliases without regard to case.
    let has = |aliases: &[String]| aliases.iter().any(|it| it.to_lowercase() == alias.to_lowercase());
    if !has(&opened.keys) {
        if has(&opened.certificates) {
            return KeystoreFact::NoPrivateKey;
        }
        return KeystoreFact::AliasMissing(opened.keys);
    }
    match &store.key_password {
        None => KeystoreFact::Good,
        Some(Given::Unknown(why)) => KeystoreFact::NotChecked(format!("it opens; the key's password: {why}")),
        Some(Given::Plain(key_password)) => match key_opens(alias, key_password) {
            Ok(true) => KeystoreFact::Good,
            Ok(false) => KeystoreFact::WrongKeyPassword,
            Err(why) => KeystoreFact::Unreadable(why),
        },
    }
}

#[cfg(test)]
mod tests;
