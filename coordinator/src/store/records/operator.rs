//! Operators, and the tokens that nodes and operators join with.

use fleet::{
    access::Grant,
    ids::{NodeName, OperatorName},
    time::Timestamp,
};
use proto::wire::store as wire;

use super::Record;

/// Somebody who may do something (ADR 0053).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRecord {
    /// Who.
    pub name: OperatorName,
    /// What they may do.
    pub grant: Grant,
    /// Since when they may do that.
    pub since: Timestamp,
    /// Who said so.
    pub by: String,
    /// Who may speak for them; `None` until they have joined.
    pub certificate: Option<Certificate>,
}

/// The one certificate of an operator that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Hexadecimal.
    pub serial: String,
    /// When it ends.
    pub expires: Timestamp,
    /// When it was given out.
    pub joined: Timestamp,
}

impl Record for OperatorRecord {
    type Wire = wire::Operator;
    const NAME: &'static str = "an operator";

    fn to_wire(&self) -> wire::Operator {
        let certificate = self.certificate.as_ref();
        wire::Operator {
            name: self.name.to_string(),
            grant: Some((&self.grant).into()),
            since_ms: self.since.0,
            by: self.by.clone(),
            certificate_serial: certificate.map(|own| own.serial.clone()).unwrap_or_default(),
            certificate_expires_ms: certificate.map_or(0, |own| own.expires.0),
            joined_ms: certificate.map_or(0, |own| own.joined.0),
        }
    }

    fn from_wire(wire: wire::Operator) -> Result<Self, String> {
        let grant = wire.grant.ok_or("it has no grant")?;
        let serial = Some(wire.certificate_serial).filter(|serial| !serial.is_empty());
        Ok(Self {
            name: OperatorName::parse(&wire.name).map_err(|error| error.to_string())?,
            grant: Grant::try_from(&grant).map_err(|error| error.to_string())?,
            since: Timestamp(wire.since_ms),
            by: wire.by,
            certificate: serial.map(|serial| Certificate {
                serial,
                expires: Timestamp(wire.certificate_expires_ms),
                joined: Timestamp(wire.joined_ms),
            }),
        })
    }
}

/// Who may use a join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The agent of this node.
    Node(NodeName),
    /// This operator.
    Operator(OperatorName),
}

/// A join token; its key is the hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The only one that it can be used for.
    pub holder: Holder,
    /// When it ends.
    pub expires: Timestamp,
    /// When it was used, if it was.
    pub used: Option<Timestamp>,
    /// Who made it.
    pub created_by: String,
}

impl Record for TokenRecord {
    type Wire = wire::JoinToken;
    const NAME: &'static str = "a join token";

    fn to_wire(&self) -> wire::JoinToken {
        let (node, operator) = match &self.holder {
            Holder::Node(node) => (node.to_string(), String::new()),
            Holder::Operator(operator) => (String::new(), operator.to_string()),
        };
        wire::JoinToken {
            node,
            operator,
            expires_ms: self.expires.0,
            used_ms: self.used.map_or(0, |used| used.0),
            created_by: self.created_by.clone(),
        }
    }

    fn from_wire(wire: wire::JoinToken) -> Result<Self, String> {
        let holder = match wire.operator.as_str() {
            "" => Holder::Node(NodeName::parse(&wire.node).map_err(|error| error.to_string())?),
            operator => Holder::Operator(OperatorName::parse(operator).map_err(|error| error.to_string())?),
        };
        Ok(Self {
            holder,
            expires: Timestamp(wire.expires_ms),
            used: Some(Timestamp(wire.used_ms)).filter(|used| used.0 != 0),
            created_by: wire.created_by,
        })
    }
}
