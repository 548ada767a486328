//! Keystores of Java, JKS and PKCS #12, as bytes in and bytes out: what is in one, and truststores that are made.
//!
//! The agent looks at those of its host with this, `convoy trust` makes truststores. PKCS #12 is a library's
//! (`p12-keystore`); JKS is small, and no library of repute reads or writes it.

pub mod jks;

use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, Pkcs12Archive, error::Error};

use crate::{preflight::Password, time::Timestamp};

/// How a store is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Sun's own.
    Jks,
    /// As JDKs since 8u301, 11.0.12 and 17 read it when it is made here.
    Pkcs12,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Jks => "JKS",
            Format::Pkcs12 => "PKCS #12",
        })
    }
}

/// Why a store did not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotOpened {
    /// The password is wrong, or the store is damaged: its check does not tell which.
    WrongPassword,
    /// It cannot be read: why.
    Broken(String),
}

impl std::fmt::Display for NotOpened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotOpened::WrongPassword => f.write_str("its password is wrong, or it is damaged"),
            NotOpened::Broken(why) => f.write_str(why),
        }
    }
}

/// An entry with its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its alias; Java compares them without regard to case.
    pub alias: String,
    /// Whether a private key belongs to it.
    pub has_key: bool,
    /// In DER; of a chain the first.
    pub certificate: Vec<u8>,
}

/// What Java sees in a store. Certificates of a PKCS #12 store that are only a part of some chain are left out.
///
/// # Errors
/// It does not open.
pub fn read(content: &[u8], password: &Password) -> Result<(Format, Vec<Entry>), NotOpened> {
    match content {
        [0xFE, 0xED, 0xFE, 0xED, ..] => {
            let entry = |entry: &jks::Entry<'_>| {
                let certificate = (*entry.certificates.first()?).to_vec();
                Some(Entry { alias: entry.alias.clone(), has_key: entry.key.is_some(), certificate })
            };
            Ok((Format::Jks, jks::read(content, password)?.iter().filter_map(entry).collect()))
        }
        [0x30, ..] => Ok((Format::Pkcs12, pkcs12(&open_pkcs12(content, password)?))),
        _ => Err(NotOpened::Broken("it is neither JKS nor PKCS #12".to_owned())),
    }
}

/// Opens a PKCS #12 store.
///
/// # Errors
/// It does not open.
pub fn open_pkcs12(content: &[u8], password: &Password) -> Result<Pkcs12Archive, NotOpened> {
    Pkcs12Archive::from_pkcs12(content, password.expose()).map_err(|error| match error {
        Error::MacError(_) => NotOpened::WrongPassword,
        other => NotOpened::Broken(other.to_string()),
    })
}

fn pkcs12(archive: &Pkcs12Archive) -> Vec<Entry> {
    let of_keys = archive.keys.iter().filter_map(|key| {
        let id = key.local_key_id.as_ref()?;
        let own = archive.certs.iter().find(|bag| bag.local_key_id.as_ref() == Some(&id.0))?;
        let alias = key.friendly_name.clone()?;
        Some(Entry { alias, has_key: true, certificate: own.cert.as_der().to_vec() })
    });
    let trusted = archive.certs.iter().filter(|bag| bag.trusted).filter_map(|bag| {
        let alias = bag.friendly_name.clone()?;
        Some(Entry { alias, has_key: false, certificate: bag.cert.as_der().to_vec() })
    });
    of_keys.chain(trusted).collect()
}

/// A truststore with these certificates, by alias in DER. `made` is when, which JKS notes. Two calls do not give the same
/// bytes for PKCS #12: it is salted.
///
/// # Errors
/// Says which certificate cannot be read.
pub fn truststore(
    format: Format,
    certificates: &[(String, Vec<u8>)],
    password: &Password,
    made: Timestamp,
) -> Result<Vec<u8>, String> {
    match format {
        Format::Jks => jks::truststore(certificates, password, made),
        Format::Pkcs12 => {
            let mut store = KeyStore::new();
            for (alias, der) in certificates {
                let read = Certificate::from_der(der).map_err(|error| format!("{alias}: {error}"))?;
                store.add_entry(alias, KeyStoreEntry::Certificate(read));
            }
            store.writer(password.expose()).write().map_err(|error| error.to_string())
        }
    }
}
