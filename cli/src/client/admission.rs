//! Requests of hosts that join without a token.

use fleet::{
    admission::{Answer, Fingerprint},
    ids::{FleetName, NodeName},
};
use proto::wire::operator as wire;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{Client, timed};
use crate::{exit::Failure, request::Admit, view::When};

/// What signing a request would mean, or meant.
pub struct Admission {
    pub node: NodeName,
    /// Of the host's key, as the coordinator read it out of the request.
    pub key: Fingerprint,
    /// Of the authority that the host will trust.
    pub authority: Fingerprint,
    /// Whose certificate ends with that.
    pub replaces: Option<String>,
}

/// What the host is to be brought.
pub struct Admitted {
    pub admission: Admission,
    pub answer: Answer,
    /// End of the certificate.
    pub expires: When,
}

impl Client {
    /// What signing this request would mean. Signs nothing.
    pub async fn look_at_request(&mut self, asked: &Admit, pem: &str) -> Result<Admission, Failure> {
        let request = wire::AdmitNodeRequest { look_only: true, ..wire_of(asked, pem) };
        let reply = self.operator.admit_node(timed(request)).await;
        admission(&self.answer("node admit", reply)?)
    }

    /// Has it signed.
    pub async fn admit(&mut self, asked: &Admit, pem: &str) -> Result<Admitted, Failure> {
        let reply = self.operator.admit_node(timed(wire_of(asked, pem))).await;
        let reply = self.answer("node admit", reply)?;
        let admission = admission(&reply)?;
        let answer = Answer {
            node: admission.node.clone(),
            fleet: FleetName::parse(&reply.fleet).map_err(defect)?,
            address: reply.address,
            certificate_pem: reply.certificate_pem,
            authority_pem: reply.authority_pem,
        };
        Ok(Admitted { admission, answer, expires: When(reply.expires_ms) })
    }
}

fn wire_of(asked: &Admit, pem: &str) -> wire::AdmitNodeRequest {
    wire::AdmitNodeRequest {
        csr_pem: pem.to_owned(),
        node: asked.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        replace: asked.replace,
        look_only: false,
    }
}

fn admission(reply: &wire::AdmitNodeReply) -> Result<Admission, Failure> {
    let key = reply.key_sha256.as_slice().try_into().map_err(defect)?;
    let authority = CertificateDer::from_pem_slice(reply.authority_pem.as_bytes()).map_err(defect)?;
    Ok(Admission {
        node: NodeName::parse(&reply.node).map_err(defect)?,
        key: Fingerprint(key),
        authority: Fingerprint::of(&authority),
        replaces: Some(reply.replaces.clone()).filter(|why| !why.is_empty()),
    })
}

fn defect(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::failed(
        "the coordinator's answer cannot be read",
        "it may be of another version; see `convoy status`",
    )
    .because(error)
}
