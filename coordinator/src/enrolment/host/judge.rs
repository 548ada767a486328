//! What a host's certificate says, and which node it means. Pure.

use std::fmt;

use fleet::{foreign::printable, ids::NodeName, spec::suggest, time::Timestamp};
use rustls_pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

/// Characters of a name of somebody else's that are kept.
const NAME_MAX: usize = 200;
/// Names of a certificate that are looked at.
const NAMES_MAX: usize = 100;
/// Names that are shown.
const SHOWN_MAX: usize = 4;

/// A host's certificate, as far as anybody is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCertificate {
    /// For people.
    pub subject: String,
    /// For people.
    pub issuer: String,
    /// The same as it is encoded.
    pub issuer_der: Vec<u8>,
    /// Hexadecimal.
    pub serial: String,
    /// Its DNS names (subjectAltName), in small letters.
    pub names: Vec<String>,
    /// Its end.
    pub not_after: Timestamp,
    /// It is for clients: extended key usage clientAuth.
    pub is_for_clients: bool,
    /// Its key may sign: no key usage, or digitalSignature.
    pub may_sign: bool,
}

impl fmt::Display for HostCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, issuer, serial, .. } = self;
        write!(f, "the host certificate of {subject}, serial {serial}, by {issuer}")
    }
}

impl HostCertificate {
    /// Reads a certificate. Whether it is to be believed is for others.
    ///
    /// # Errors
    /// It is none.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, read) =
            x509_parser::certificate::X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let names = read.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
            _ => None,
        });
        let usage = read.extended_key_usage().map_err(|error| error.to_string())?;
        let key_usage = read.key_usage().map_err(|error| error.to_string())?;
        let shown = |name: String| -> String { printable(&name).chars().take(NAME_MAX).collect() };
        Ok(Self {
            subject: shown(format!("{:?}", read.subject().to_string())),
            issuer: shown(format!("{:?}", read.issuer().to_string())),
            issuer_der: read.issuer().as_raw().to_vec(),
            serial: read.raw_serial().iter().take(32).map(|byte| format!("{byte:02x}")).collect(),
            names: names.take(NAMES_MAX).map(shown).collect(),
            not_after: Timestamp(read.validity().not_after.timestamp().saturating_mul(1000)),
            is_for_clients: usage.is_some_and(|usage| usage.value.client_auth),
            may_sign: key_usage.is_none_or(|usage| usage.value.digital_signature()),
        })
    }

    /// Whether it is for what it is used for.
    ///
    /// # Errors
    /// What it lacks.
    pub fn may_join(&self) -> Result<(), &'static str> {
        match (self.is_for_clients, self.may_sign) {
            (true, true) => Ok(()),
            (false, _) => Err("is not for clients: its extended key usage lacks clientAuth"),
            (true, false) => Err("is not for signing: its key usage lacks digitalSignature"),
        }
    }
}

/// Why a certificate means no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoNode {
    /// A common name at most.
    #[error("it has no DNS name (subjectAltName); a common name does not count")]
    Nameless,
    /// Whole domains.
    #[error("it names {0} only, and a wildcard names no host")]
    Wildcard(String),
    /// Nobody of that host.
    #[error("it names {names}, and no node of the fleet has that `host`; {near}")]
    Unknown {
        /// Its names.
        names: String,
        /// What came close.
        near: String,
    },
    /// Several servers on one host, or one certificate for several hosts.
    #[error("it names the hosts of {0}; say which one with --node NAME")]
    Several(String),
    /// Not that one.
    #[error("it names {names}, and not {host}, the `host` of {node}")]
    Other {
        /// Its names.
        names: String,
        /// Who was asked for.
        node: NodeName,
        /// Where that is.
        host: String,
    },
    /// Not declared.
    #[error("the fleet has no node {0}")]
    Undeclared(NodeName),
}

/// The node whose `host` is one of these names, letter by letter but for capitals.
///
/// # Errors
/// There is none, or there are several and nobody said which.
pub(super) fn node_of<'a>(
    names: &[String],
    hosts: impl Iterator<Item = (&'a NodeName, &'a str)>,
    wanted: Option<&NodeName>,
) -> Result<NodeName, NoNode> {
    let hosts: Vec<(&NodeName, String)> =
        hosts.map(|(node, host)| (node, host.trim_end_matches('.').to_ascii_lowercase())).collect();
    let shown = || listed(names.iter().map(String::as_str));
    let exact: Vec<&String> = names.iter().filter(|name| !name.contains('*')).collect();
    match (exact.is_empty(), names.is_empty()) {
        (true, true) => return Err(NoNode::Nameless),
        (true, false) => return Err(NoNode::Wildcard(shown())),
        (false, _) => {}
    }
    if let Some(node) = wanted {
        let (_, host) =
            hosts.iter().find(|(known, _)| *known == node).ok_or(NoNode::Undeclared(node.clone()))?;
        let is_named = exact.contains(&host);
        let other = || NoNode::Other { names: shown(), node: node.clone(), host: host.clone() };
        return if is_named { Ok(node.clone()) } else { Err(other()) };
    }
    let found: Vec<&NodeName> =
        hosts.iter().filter(|(_, host)| exact.contains(&host)).map(|(node, _)| *node).collect();
    match found.as_slice() {
        [node] => Ok((*node).clone()),
        [] => Err(NoNode::Unknown { names: shown(), near: near(&exact, &hosts) }),
        several => Err(NoNode::Several(listed(several.iter().map(|node| node.as_str())))),
    }
}

/// What came close, and nothing else: whoever asks need not learn what other hosts there are.
fn near(exact: &[&String], hosts: &[(&NodeName, String)]) -> String {
    let close = |name: &&&String| {
        let meant = suggest(name, hosts.iter().map(|(_, host)| host.as_str()));
        meant.starts_with("did you mean").then_some(meant)
    };
    let meant = exact.iter().find_map(|name| close(&name));
    meant.map_or_else(|| "none is like it".to_owned(), |meant| meant.trim_end_matches('?').to_owned())
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN_MAX) {
        Some(more) if 0 < more => format!("{shown} and {more} more"),
        Some(_) | None => shown,
    }
}
