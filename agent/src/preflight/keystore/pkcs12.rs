//! PKCS #12, of any JDK: the reader is a library; here is only what Java makes of it.

use fleet::preflight::facts::Held;
use p12_keystore::{Certificate, CertificateBag, Pkcs12Archive};

use super::{Anchor, Opened};

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

/// Every entry with its certificates; `None` if one of those cannot be read.
pub(super) fn held(archive: &Pkcs12Archive) -> Option<Vec<Held>> {
    let certificates: Vec<&Certificate> = archive.certs.iter().map(|bag| &bag.cert).collect();
    let facts = |chain: Vec<&Certificate>| chain.into_iter().map(super::fact).collect::<Option<Vec<_>>>();
    let of_keys = archive.keys.iter().filter_map(|key| {
        let id = key.local_key_id.as_ref()?;
        let own = archive.certs.iter().find(|bag| bag.local_key_id.as_ref() == Some(&id.0))?;
        let chain = chain(&own.cert, &certificates);
        Some((key.friendly_name.clone()?, true, chain))
    });
    let lone = archive.certs.iter().filter(|bag| bag.local_key_id.is_none());
    let lone = lone.filter_map(|bag| Some((bag.friendly_name.clone()?, false, vec![&bag.cert])));
    let held = |(alias, has_key, chain)| Some(Held { alias, has_key, chain: facts(chain)? });
    of_keys.chain(lone).map(held).collect()
}

/// Certificates with Oracle's mark, and those of keys. Others Java sees only as a part of some key's path.
pub(super) fn anchors(archive: &Pkcs12Archive) -> Vec<Anchor> {
    let is_of_key = |bag: &CertificateBag| {
        let id = bag.local_key_id.as_ref();
        id.is_some_and(|id| {
            archive.keys.iter().any(|key| key.local_key_id.as_ref().is_some_and(|of| of.0 == *id))
        })
    };
    let anchor = |bag: &CertificateBag| Anchor {
        alias: bag.friendly_name.clone().unwrap_or_default(),
        der: bag.cert.as_der().to_vec(),
        is_trusted: bag.trusted || is_of_key(bag),
    };
    archive.certs.iter().map(anchor).collect()
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
