//! PKCS #12, of any JDK: the reader is a library; here is only what Java makes of it.

use fleet::preflight::{Password, facts::Held};
use p12_keystore::{Certificate, Pkcs12Archive, error::Error};

use super::{NotOpened, Opened};

pub(super) fn read(content: &[u8], password: &Password) -> Result<Pkcs12Archive, NotOpened> {
    Pkcs12Archive::from_pkcs12(content, password.expose()).map_err(|error| match error {
        Error::MacError(_) => NotOpened::WrongPassword,
        other => NotOpened::Broken(other.to_string()),
    })
}

pub(super) fn opened(archive: &Pkcs12Archive) -> Opened {
    // Java numbers entries that have no name.
    let mut unnamed = 0_u32;
    let keys = archive.keys.iter().map(|key| {
        key.friendly_name.clone().unwrap_or_else(|| {
            unnamed += 1;
            unnamed.to_string()
        })
    });
    let keys = keys.collect();
    let certificates = archive.certs.iter().filter_map(|certificate| certificate.friendly_name.clone());
    Opened { keys, certificates: certificates.collect() }
}

/// A certificate is signed by another at most this many times.
const CHAIN_MAX: usize = 8;

/// Every entry with its certificates.
pub(super) fn held(archive: &Pkcs12Archive) -> Vec<Held> {
    let certificates: Vec<&Certificate> = archive.certs.iter().map(|bag| &bag.cert).collect();
    let of_keys = archive.keys.iter().filter_map(|key| {
        let id = key.local_key_id.as_ref()?;
        let own = archive.certs.iter().find(|bag| bag.local_key_id.as_ref() == Some(&id.0))?;
        let chain = chain(&own.cert, &certificates).into_iter().map(super::fact).collect();
        Some(Held { alias: key.friendly_name.clone()?, has_key: true, chain })
    });
    let lone = archive.certs.iter().filter(|bag| bag.local_key_id.is_none()).filter_map(|bag| {
        let chain = vec![super::fact(&bag.cert)];
        Some(Held { alias: bag.friendly_name.clone()?, has_key: false, chain })
    });
    of_keys.chain(lone).collect()
}

/// A certificate and those that signed it, one after another.
fn chain<'c>(own: &'c Certificate, all: &[&'c Certificate]) -> Vec<&'c Certificate> {
    let mut chain = vec![own];
    while chain.len() < CHAIN_MAX
        && let Some(last) = chain.last()
        && last.issuer() != last.subject()
        && let Some(next) = all.iter().find(|other| other.subject() == last.issuer())
    {
        chain.push(next);
    }
    chain
}
