//! The first operator's way in: a context file that the CLI reads, made at the first start and kept current.

use std::{fs, io, path::Path, time::Duration};

use fleet::{access::FIRST_OPERATOR, time::Timestamp};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use tracing::info;
use x509_parser::prelude::FromDer as _;

use crate::{coordinator::Coordinator, private};

/// `context.toml`: everything that `convoy` needs to call the coordinator. Holds a private key.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Context {
    fleet: String,
    /// `host:port`.
    address: String,
    operator: String,
    /// The authority's certificate: the only root to trust.
    authority_pem: String,
    certificate_pem: String,
    key_pem: String,
}

/// Makes the file if there is none or its certificate is near its end, and updates the address if that changed.
pub(crate) fn ensure(dir: &Path, coordinator: &Coordinator, lifetime: Duration) -> io::Result<()> {
    private::create_dir(dir)?;
    let path = dir.join("context.toml");
    let now = (coordinator.clock)();
    let known = match fs::read_to_string(&path) {
        Ok(text) => toml::from_str::<Context>(&text).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let known = known.filter(|known| {
        let fresh = expires(&known.certificate_pem).is_some_and(|end| lifetime / 4 < end.since(now));
        fresh && known.authority_pem == coordinator.authority.pem()
    });
    let (operator, certificate_pem, key_pem) = match known {
        Some(known) => (known.operator, known.certificate_pem, known.key_pem),
        None => {
            let pair = coordinator.authority.issue_operator(FIRST_OPERATOR, (now, lifetime));
            let pair = pair.map_err(io::Error::other)?;
            info!(path = %path.display(), "Made an operator's context file; use it with `convoy --context FILE`");
            (FIRST_OPERATOR.to_owned(), pair.issued.pem, pair.key_pem)
        }
    };
    let context = Context {
        fleet: coordinator.fleet.to_string(),
        address: coordinator.address.clone(),
        operator,
        authority_pem: coordinator.authority.pem(),
        certificate_pem,
        key_pem,
    };
    private::write(&path, toml::to_string(&context).map_err(io::Error::other)?.as_bytes())
}

fn expires(certificate_pem: &str) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&der).ok()?;
    Some(Timestamp(certificate.validity().not_after.timestamp() * 1000))
}
