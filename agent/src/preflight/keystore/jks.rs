//! What a JKS store holds, as preflight needs it; the format itself is read by `fleet::keystore`.

use fleet::{keystore::jks::Entry, preflight::facts::Held};
use p12_keystore::Certificate;

use super::{Anchor, Opened};

pub(super) fn opened(entries: &[Entry<'_>]) -> Opened {
    let (keys, certificates): (Vec<&Entry<'_>>, Vec<_>) =
        entries.iter().partition(|entry| entry.key.is_some());
    let names = |entries: Vec<&Entry<'_>>| entries.into_iter().map(|entry| entry.alias.clone()).collect();
    Opened { keys: names(keys), certificates: names(certificates) }
}

/// Every entry with its certificates; `None` if one of those cannot be read.
pub(super) fn held(entries: &[Entry<'_>]) -> Option<Vec<Held>> {
    let chain = |ders: &[&[u8]]| {
        let certificates = ders.iter().map(|der| Certificate::from_der(der));
        certificates.map(|read| super::fact(&read.ok()?)).collect::<Option<Vec<_>>>()
    };
    let held = entries.iter().map(|entry| {
        Some(Held {
            alias: entry.alias.clone(),
            has_key: entry.key.is_some(),
            chain: chain(&entry.certificates)?,
        })
    });
    held.collect()
}

/// Lone certificates, and the first of each key's.
pub(super) fn anchors(entries: &[Entry<'_>]) -> Vec<Anchor> {
    let anchor = |entry: &Entry<'_>| {
        let der = (*entry.certificates.first()?).to_vec();
        Some(Anchor { alias: entry.alias.clone(), der, is_trusted: true })
    };
    entries.iter().filter_map(anchor).collect()
}
