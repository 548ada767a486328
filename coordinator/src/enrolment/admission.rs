//! Requests of hosts that cannot take a token: an operator carries the request here and the answer back (ADR 100).
//! Whoever says yes has to reach the node, and has compared the key's fingerprint; the request itself proves nothing but
//! that its maker has the key.

use fleet::{
    access::Permit,
    admission::Fingerprint,
    ids::{NameError, NodeName},
    spec::suggest,
    time::{Human, Timestamp},
};
use rcgen::{CertificateSigningRequestParams, DnType, DnValue, PublicKeyData as _};
use tracing::info;

use crate::{
    authority::{AuthorityError, Issued},
    coordinator::Coordinator,
    enrolment::{EnrolError, TRIES_MAX},
    events::{Draft, Kind},
    store::{
        CommitError, Key, Transaction,
        records::{Enrolment, NodeRecord, Record as _},
    },
    view::Snapshot,
};

/// Bytes of a request; one of a 4096-bit RSA key has some 1,700.
const REQUEST_MAX: usize = 16 * 1024;

/// Why a request was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// Larger than any request.
    #[error("a certificate request has at most {REQUEST_MAX} bytes")]
    TooLong,
    /// Nobody said who it is.
    #[error("the request names no node; say which one it is with --node NAME")]
    Nameless,
    /// It was not made by `convoy-agent`, or is damaged.
    #[error(
        "the request asks for the name {name:?}, which no node can have; make it with `convoy-agent enroll --request`"
    )]
    BadName {
        /// Its common name.
        name: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// Two files were mixed up.
    #[error(
        "the request is of {asks}, and --node says {said}; take the request of the host that is to be {said}"
    )]
    OtherName {
        /// The name in the request.
        asks: NodeName,
        /// The name that was typed.
        said: NodeName,
    },
    /// Not part of the fleet.
    #[error("{node} is not declared: {why}. Declare it and apply, then admit it")]
    NotDeclared {
        /// Who.
        node: NodeName,
        /// What is declared.
        why: String,
    },
    /// Somebody else is this node.
    #[error(
        "{why}. If this host is to take its place, say so with --replace; the other certificate ends with that"
    )]
    Joined {
        /// Who, until when.
        why: String,
    },
    /// As for tokens.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
}

impl From<AuthorityError> for AdmissionError {
    fn from(error: AuthorityError) -> Self {
        Self::Enrol(error.into())
    }
}

/// A request as read: its signature is by its key.
#[derive(Debug)]
pub struct HostRequest {
    pem: String,
    /// Who it says it is; it may say nothing.
    pub name: Option<NodeName>,
    /// Of its public key.
    pub key: Fingerprint,
}

impl HostRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// It is none, its signature is not by its key, or it asks for a name that no node can have.
    pub fn parse(pem: &str) -> Result<Self, AdmissionError> {
        if REQUEST_MAX < pem.len() {
            return Err(AdmissionError::TooLong);
        }
        let request = CertificateSigningRequestParams::from_pem(pem).map_err(AuthorityError::Request)?;
        let name = match request.params.distinguished_name.get(&DnType::CommonName) {
            None => None,
            Some(name) => {
                let name = text_of(name);
                let parsed = NodeName::parse(&name);
                Some(parsed.map_err(|source| AdmissionError::BadName { name, source })?)
            }
        };
        let key = Fingerprint::of(&request.public_key.subject_public_key_info());
        Ok(Self { pem: pem.to_owned(), name, key })
    }

    /// The node that is meant, by the request and by what was typed.
    ///
    /// # Errors
    /// Neither says it, or they disagree.
    pub fn node(&self, said: Option<NodeName>) -> Result<NodeName, AdmissionError> {
        match (self.name.clone(), said) {
            (None, None) => Err(AdmissionError::Nameless),
            (Some(asks), Some(said)) if asks != said => Err(AdmissionError::OtherName { asks, said }),
            (Some(node), _) | (None, Some(node)) => Ok(node),
        }
    }
}

fn text_of(name: &DnValue) -> String {
    match name {
        DnValue::Utf8String(text) => text.clone(),
        DnValue::PrintableString(text) => text.as_str().to_owned(),
        DnValue::Ia5String(text) => text.as_str().to_owned(),
        DnValue::TeletexString(text) => text.as_str().to_owned(),
        // Wide encodings; nobody writes a node's name in them.
        other => format!("{other:?}"),
    }
}

/// What admitting a host takes away from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nobody is this node now.
    Free,
    /// Somebody is, as this sentence says.
    Taken(String),
}

/// Whether somebody is this node now: a certificate that has not ended, or a session.
pub(crate) fn place(
    node: &NodeName,
    enrolment: Option<&Enrolment>,
    is_connected: bool,
    now: Timestamp,
) -> Place {
    let lives = enrolment.filter(|own| now < own.expires);
    match (lives, is_connected) {
        (None, false) => Place::Free,
        (None, true) => Place::Taken(format!("an agent is connected as {node}")),
        (Some(own), _) => {
            let connected = if is_connected { ", and its agent is connected" } else { "" };
            let (joined, left) = (Human(now.since(own.enrolled)), Human(own.expires.since(now)));
            Place::Taken(format!(
                "{node} joined {joined} ago, its certificate lives for {left} more{connected}"
            ))
        }
    }
}

impl Coordinator {
    /// What admitting somebody as `node` would take away, if it is declared.
    ///
    /// # Errors
    /// It is not declared.
    pub fn place_of(&self, snapshot: &Snapshot, node: &NodeName) -> Result<Place, AdmissionError> {
        if snapshot.wanted(node).is_none() {
            let why = match &snapshot.revision {
                None => "nothing was applied yet".to_owned(),
                Some(newest) => {
                    let near = suggest(node.as_str(), newest.nodes.keys().map(NodeName::as_str));
                    format!("revision {} has no node {node}; {}", newest.number, near.trim_end_matches('?'))
                }
            };
            return Err(AdmissionError::NotDeclared { node: node.clone(), why });
        }
        let enrolment = snapshot.nodes.get(node).and_then(|known| known.record.enrolment.as_ref());
        Ok(place(node, enrolment, snapshot.live.contains_key(node), (self.clock)()))
    }

    /// Signs a request for `node`. A certificate that was not recorded is not given out.
    ///
    /// # Errors
    /// Somebody is this node and is not to be replaced, or the store failed.
    pub async fn admit(
        &self,
        node: &NodeName,
        request: &HostRequest,
        replace: bool,
        permit: &Permit,
    ) -> Result<Issued, AdmissionError> {
        for _ in 0..TRIES_MAX {
            let now = (self.clock)();
            let (mut record, version) = self.node_or_new(node).await.map_err(EnrolError::Store)?;
            let is_connected = self.live.node(node).is_some();
            // Looked at again: somebody else may have joined since the operator was asked.
            if let Place::Taken(why) = place(node, record.enrolment.as_ref(), is_connected, now)
                && !replace
            {
                return Err(AdmissionError::Joined { why });
            }
            let issued = self.authority.sign_node(node, &request.pem, (now, self.node_certificate))?;
            let revocations = enrolled(&mut record, &issued, now);
            let commit = Transaction::default()
                .replace(Key::node(node), version, record.encode())
                .delete(Key::seen(node))
                .delete(Key::host(node));
            let text = format!("{} admitted {node} with the key {}", permit.operator(), request.key);
            let event =
                Draft::new(now, Kind::NodeEnrolled, text).of_node(node).with("serial", &issued.serial);
            match self.act(permit, event, commit).await {
                Ok(_) => {
                    self.revoke(revocations).await;
                    info!(%node, serial = issued.serial, "A node was admitted");
                    self.live.dismiss(node, "another host was admitted as this node");
                    return Ok(issued);
                }
                Err(CommitError::Conflict { key }) if key == Key::node(node) => {}
                Err(error) => return Err(EnrolError::Commit(error).into()),
            }
        }
        Err(EnrolError::Commit(CommitError::Conflict { key: Key::node(node) }).into())
    }
}

/// Notes a new enrolment of a node; answers with every certificate that ends with that.
pub(crate) fn enrolled(
    record: &mut NodeRecord,
    issued: &Issued,
    now: Timestamp,
) -> Vec<crate::witness::Revocation> {
    let revocations = super::revocations_of(record);
    record.revoked = None;
    record.enrolment = Some(Enrolment {
        enrolled: now,
        serial: issued.serial.clone(),
        previous_serial: None,
        expires: issued.not_after,
    });
    revocations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: Option<&str>) -> (String, Fingerprint) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        (pem, Fingerprint::of(&key.subject_public_key_info()))
    }

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    #[test]
    fn a_request_shows_the_key_and_the_name_that_it_was_made_with() {
        let (pem, key) = request(Some("is-1"));
        let read = HostRequest::parse(&pem).unwrap();
        assert_eq!((read.key, read.name.clone()), (key, Some(node("is-1"))));
        let nameless = HostRequest::parse(&request(None).0).unwrap();
        for (request, said, meant) in [
            (&read, None, Ok("is-1")),
            (&read, Some("is-1"), Ok("is-1")),
            (&read, Some("is-2"), Err("the request is of is-1, and --node says is-2")),
            (&nameless, Some("is-2"), Ok("is-2")),
            (&nameless, None, Err("names no node")),
        ] {
            match (request.node(said.map(node)), meant) {
                (Ok(found), Ok(meant)) => assert_eq!(found, node(meant)),
                (Err(error), Err(said)) => assert!(error.to_string().contains(said), "{error}"),
                (found, meant) => panic!("{found:?} in place of {meant:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let (pem, _) = request(Some("is-1"));
        let other = request(Some("not a name")).0;
        // Its name changed by somebody who has not got the key.
        let forged = {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            let body: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
            let mut der = STANDARD.decode(body).unwrap();
            let at = der.windows(4).position(|bytes| bytes == b"is-1").unwrap();
            der[at + 3] = b'2';
            let text = STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
        };
        for (text, said) in [
            (String::new(), "not valid"),
            (pem[..pem.len() / 2].to_owned(), "not valid"),
            (forged, "not valid"),
            (other, "which no node can have"),
            ("x".repeat(REQUEST_MAX + 1), "at most"),
        ] {
            let error = HostRequest::parse(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_place_is_free_once_the_certificate_has_ended_and_nobody_is_connected() {
        let own = Enrolment {
            enrolled: Timestamp(0),
            serial: "01".to_owned(),
            previous_serial: None,
            expires: Timestamp(7_200_000),
        };
        let taken = |text: &str| Place::Taken(text.to_owned());
        for (enrolment, connected, now, expected) in [
            (None, false, 0, Place::Free),
            (None, true, 0, taken("an agent is connected as is-1")),
            (Some(&own), false, 3_600_000, taken("is-1 joined 1h ago, its certificate lives for 1h more")),
            (
                Some(&own),
                true,
                3_600_000,
                taken("is-1 joined 1h ago, its certificate lives for 1h more, and its agent is connected"),
            ),
            (Some(&own), false, 7_200_000, Place::Free),
            // Cut off a moment later; until then it is this node.
            (Some(&own), true, 7_200_000, taken("an agent is connected as is-1")),
        ] {
            let found = place(&node("is-1"), enrolment, connected, Timestamp(now));
            assert_eq!(found, expected, "at {now}, connected {connected}");
        }
    }
}
