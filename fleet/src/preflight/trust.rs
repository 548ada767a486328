//! Does a server trust itself, and its own tokens? Every key store has a certificate that the truststore must know:
//! servers call themselves and each other, and gateways read the key of tokens from the truststore.

use super::{
    Check, Outcome,
    facts::{Held, StoreContent},
};
use crate::{bundle::ServiceSettings, time::Timestamp};

/// Where API Manager looks for the certificate that tokens are signed with, unless it is told another alias.
const GATEWAY_ALIAS: &str = "gateway_certificate_alias";
const PRIMARY: &str = "keystore.primary";

/// Nothing is said unless both stores could be opened.
pub(super) fn check(stores: &[StoreContent], settings: &ServiceSettings) -> Vec<Check> {
    let Some(trust) = stores.iter().find(|store| store.key == "truststore") else { return Vec::new() };
    let mut checks: Vec<Check> = ["keystore.tls", PRIMARY]
        .into_iter()
        .filter_map(|key| Some(named(key, itself(own(stores, key)?, trust))))
        .collect();
    if settings.product.starts_with("wso2am")
        && let Some(primary) = own(stores, PRIMARY)
    {
        checks.push(named(GATEWAY_ALIAS, tokens(primary, trust)));
    }
    checks
}

fn named(subject: &str, outcome: Outcome) -> Check {
    Check { name: "trust", subject: subject.to_owned(), outcome }
}

/// When the certificates of the server's own keys end.
pub(super) fn ends(stores: &[StoreContent], now: Timestamp) -> Vec<Check> {
    let told = |key: &&str| {
        let own = own(stores, key)?;
        let said = own.chain.first()?.complaint(now)?;
        let outcome = Outcome::Warn {
            why: format!("the certificate of {:?} {said}", own.alias),
            remedy: "renew it; let the servers that call this one trust the new one first".to_owned(),
        };
        Some(Check { name: "certificate", subject: (*key).to_owned(), outcome })
    };
    ["keystore.tls", PRIMARY, "keystore.internal"].iter().filter_map(told).collect()
}

/// The entry with the key of a store.
fn own<'s>(stores: &'s [StoreContent], key: &str) -> Option<&'s Held> {
    stores.iter().find(|store| store.key == key)?.entries.iter().find(|entry| entry.has_key)
}

fn itself(own: &Held, trust: &StoreContent) -> Outcome {
    let alias = &own.alias;
    if is_trusted(own, trust) {
        return Outcome::Pass(format!(
            "{} holds the certificate of {alias:?}, or one that signed it",
            trust.file
        ));
    }
    Outcome::Warn {
        why: format!(
            "{} holds neither the certificate of {alias:?} nor one that signed it; calls of this server to itself, and \
             to servers with the same key, fail with `PKIX path building failed`",
            trust.file
        ),
        remedy: format!(
            "export the certificate (keytool -exportcert -alias {alias}) and import it into the truststore"
        ),
    }
}

fn tokens(primary: &Held, trust: &StoreContent) -> Outcome {
    let entry = trust.entries.iter().find(|entry| entry.alias.eq_ignore_ascii_case(GATEWAY_ALIAS));
    let signing = primary.chain.first();
    let (file, alias) = (&trust.file, &primary.alias);
    let why = match entry {
        None => format!("{file} holds nothing under {GATEWAY_ALIAS}: gateways refuse tokens with 900901"),
        Some(entry) if entry.chain.first() != signing => format!(
            "what {file} holds under {GATEWAY_ALIAS} is not the certificate of {alias:?} in keystore.primary, which \
             signs the tokens of this product: gateways refuse them with 900901"
        ),
        Some(_) => return Outcome::Pass(format!("{file} holds the certificate of {alias:?} under it")),
    };
    Outcome::Warn {
        why,
        remedy: format!(
            "import the certificate of {alias:?} under the alias {GATEWAY_ALIAS}; not if another server signs all tokens"
        ),
    }
}

/// A certificate that signed itself is trusted only as it is; two of them may have one name.
fn is_trusted(own: &Held, trust: &StoreContent) -> bool {
    let known = || trust.entries.iter().flat_map(|entry| &entry.chain);
    let is_there = own.chain.iter().any(|certificate| known().any(|other| other == certificate));
    let Some(last) = own.chain.last() else { return true };
    let is_signed = last.issuer != last.subject && known().any(|other| other.subject == last.issuer);
    is_there || is_signed
}
