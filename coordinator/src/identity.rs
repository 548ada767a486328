//! Who is at the other end of a connection: read once from the verified client certificate, never from a message.

use std::net::IpAddr;

use fleet::{
    ids::{FleetName, NodeName, OperatorName},
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

/// The other end of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// No client certificate; may enrol and ask for health.
    Anonymous,
    /// An agent.
    Node(NodePeer),
    /// A person or a program of theirs.
    Operator(OperatorPeer),
}

/// An agent, as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePeer {
    /// Its node.
    pub name: NodeName,
    /// Of the certificate, hexadecimal.
    pub serial: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// An operator, as their certificate names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorPeer {
    /// Who; the author of what they do.
    pub name: OperatorName,
    /// Of the certificate, hexadecimal.
    pub serial: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
    /// Where the connection came from.
    pub from: Option<IpAddr>,
}

impl Peer {
    /// The same, whose connection came from there.
    #[must_use]
    pub fn at(self, address: IpAddr) -> Self {
        match self {
            // An address of the old family that a socket of the new one took is shown as it is written.
            Self::Operator(operator) => {
                Self::Operator(OperatorPeer { from: Some(address.to_canonical()), ..operator })
            }
            other @ (Self::Anonymous | Self::Node(_)) => other,
        }
    }
}

/// Why a certificate of our own authority names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// No convoy:// name in it.
    #[error("the client certificate names neither a node nor an operator")]
    Nameless,
    /// Made for another fleet.
    #[error("the client certificate is of fleet {0:?}")]
    OtherFleet(String),
}

/// Reads who a verified chain belongs to.
///
/// # Errors
/// The certificate is of our authority and yet names nobody of this fleet.
pub fn peer_of(chain: Option<&[CertificateDer<'_>]>, fleet: &FleetName) -> Result<Peer, IdentityError> {
    let Some(leaf) = chain.and_then(<[_]>::first) else { return Ok(Peer::Anonymous) };
    let (_, certificate) =
        x509_parser::certificate::X509Certificate::from_der(leaf).map_err(|_| IdentityError::Unreadable)?;
    let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let uri = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("convoy://"),
            _ => None,
        })
    });
    let serial = || certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
    let not_after = Timestamp(certificate.validity().not_after.timestamp() * 1000);
    let mut parts = uri.ok_or(IdentityError::Nameless)?.splitn(3, '/');
    let (of_fleet, kind, name) = (parts.next(), parts.next(), parts.next());
    if of_fleet != Some(fleet.as_str()) {
        return Err(IdentityError::OtherFleet(of_fleet.unwrap_or_default().to_owned()));
    }
    match (kind, name) {
        (Some("node"), Some(name)) => {
            let name = NodeName::parse(name).map_err(|_| IdentityError::Nameless)?;
            Ok(Peer::Node(NodePeer { name, serial: serial(), not_after }))
        }
        (Some("operator"), Some(name)) => {
            let name = OperatorName::parse(name).map_err(|_| IdentityError::Nameless)?;
            Ok(Peer::Operator(OperatorPeer { name, serial: serial(), not_after, from: None }))
        }
        _ => Err(IdentityError::Nameless),
    }
}
