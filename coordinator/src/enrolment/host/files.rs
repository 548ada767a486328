//! The files of `[join.pki]`, read anew for every host: whoever fetches a revocation list replaces the file, and that is all.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use fleet::time::{Human, Timestamp};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject as _};
use x509_parser::{prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::judge::HostCertificate;

/// Bytes of a file that are read: lists of large authorities have some megabytes.
const FILE_MAX: u64 = 32 * 1024 * 1024;

/// Why host certificates cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there, or not ours to read.
    #[error("cannot read {} of [join.pki]", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} of [join.pki] cannot be used: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Too old to say who was revoked since.
    #[error(
        "the revocation list of {issuer} in {} ended {} ago, so nobody knows who was revoked since; fetch a new one and \
         replace the file",
        path.display(), Human(*ago)
    )]
    Ended {
        /// Which file.
        path: PathBuf,
        /// Whose list.
        issuer: String,
        /// Since when.
        ago: Duration,
    },
    /// Nobody says whether this authority revoked something.
    #[error("{} has no revocation list of {issuer}; add it to the file", path.display())]
    NoList {
        /// Which file.
        path: PathBuf,
        /// Whose list.
        issuer: String,
    },
}

/// Where the authorities of hosts are.
#[derive(Debug, Clone)]
pub struct Files {
    /// PEM.
    pub authorities: PathBuf,
    /// PEM with one or more lists, or one in DER.
    pub crl: Option<PathBuf>,
}

/// The revocation lists as read.
pub(super) struct Lists {
    pub(super) ders: Vec<CertificateRevocationListDer<'static>>,
    facts: Vec<List>,
    path: PathBuf,
}

/// One revocation list.
struct List {
    issuer: String,
    issuer_der: Vec<u8>,
    ends: Option<Timestamp>,
}

impl Files {
    /// Whether there are authorities. The revocation lists come and go while a coordinator runs, so they are no reason
    /// not to start: they are looked at whenever a host wants to join, and nobody gets in without them.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn check(&self) -> Result<(), FileError> {
        self.roots().map(drop)
    }

    /// Reads the authorities.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub(super) fn roots(&self) -> Result<RootCertStore, FileError> {
        let content = |why| FileError::Content { path: self.authorities.clone(), why };
        let text = read(&self.authorities)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let added = certificate.map_err(|error| error.to_string());
            let added = added.and_then(|der| roots.add(der).map_err(|error| error.to_string()));
            added.map_err(content)?;
        }
        if roots.is_empty() {
            return Err(content("it holds no certificate in PEM".to_owned()));
        }
        Ok(roots)
    }

    /// Reads the revocation lists, if any are configured.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub(super) fn lists(&self) -> Result<Option<Lists>, FileError> {
        let Some(path) = &self.crl else { return Ok(None) };
        let content = |why| FileError::Content { path: path.clone(), why };
        let ders = lists_of(read(path)?).map_err(content)?;
        let facts: Result<Vec<List>, String> = ders.iter().map(List::of).collect();
        Ok(Some(Lists { facts: facts.map_err(content)?, ders, path: path.clone() }))
    }

    /// The TLS library refuses what was read.
    pub(super) fn refuses(&self, error: &rustls::server::VerifierBuilderError) -> FileError {
        let path = self.crl.clone().unwrap_or_else(|| self.authorities.clone());
        FileError::Content { path, why: error.to_string() }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(source) => Err(FileError::Read { path: path.to_owned(), source }),
    }
}

fn lists_of(bytes: Vec<u8>) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    // What begins with a SEQUENCE is DER; PEM begins with letters.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let lists = lists.map_err(|error| error.to_string())?;
    if lists.is_empty() { Err("it holds no revocation list".to_owned()) } else { Ok(lists) }
}

impl List {
    fn of(der: &CertificateRevocationListDer<'_>) -> Result<Self, String> {
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|error| error.to_string())?;
        let ends = list.next_update().map(|at| Timestamp(at.timestamp().saturating_mul(1000)));
        let (issuer, issuer_der) =
            (format!("{:?}", list.issuer().to_string()), list.issuer().as_raw().to_vec());
        Ok(Self { issuer, issuer_der, ends })
    }

    fn ended(&self, path: &Path, now: Timestamp) -> Option<FileError> {
        let ends = self.ends.filter(|ends| *ends <= now)?;
        Some(FileError::Ended { path: path.to_owned(), issuer: self.issuer.clone(), ago: now.since(ends) })
    }
}

impl Lists {
    /// The first list that has ended.
    pub(super) fn ended(&self, now: Timestamp) -> Option<FileError> {
        self.facts.iter().find_map(|list| list.ended(&self.path, now))
    }

    /// Whether the lists can say that a certificate of this issuer was not revoked.
    pub(super) fn covers(&self, host: &HostCertificate, now: Timestamp) -> Result<(), FileError> {
        let mut own = self.facts.iter().filter(|list| list.issuer_der == host.issuer_der).peekable();
        if own.peek().is_none() {
            return Err(FileError::NoList { path: self.path.clone(), issuer: host.issuer.clone() });
        }
        own.find_map(|list| list.ended(&self.path, now)).map_or(Ok(()), Err)
    }
}
