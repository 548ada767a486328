//! Exchanging a token for a certificate. The token pins the authority: what the first connection shows is taken only
//! if its digest is the pinned one, and the second connection trusts nothing else.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fleet::token::OperatorToken;
use proto::wire::agent::{JoinOperatorRequest, enrolment_client::EnrolmentClient};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::{CONNECT_TIMEOUT, failure, timed, unreachable, unreached};
use crate::exit::Failure;

/// For each step of the first handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a token became. No `Debug`: it holds a key.
pub struct Identity {
    pub fleet: String,
    pub operator: String,
    address: String,
    authority_pem: String,
    certificate_pem: String,
    key_pem: String,
}

/// As it is written.
#[derive(Serialize)]
pub struct Written<'a> {
    address: &'a str,
    fleet: &'a str,
    operator: &'a str,
    authority_pem: &'a str,
    certificate_pem: &'a str,
    key_pem: &'a str,
}

impl Identity {
    /// The content of a context file.
    pub fn to_context(&self) -> Written<'_> {
        Written {
            address: &self.address,
            fleet: &self.fleet,
            operator: &self.operator,
            authority_pem: &self.authority_pem,
            certificate_pem: &self.certificate_pem,
            key_pem: &self.key_pem,
        }
    }
}

/// Makes a key and has it certified.
///
/// # Errors
/// The coordinator is not reached, is not the one that made the token, or refuses.
pub async fn exchange(token: &OperatorToken) -> Result<Identity, Failure> {
    let authority = pinned_authority(token)?;
    let no_key = |error: rcgen::Error| Failure::failed("cannot make a key", "try again").because(error);
    let key = rcgen::KeyPair::generate().map_err(no_key)?;
    let request = rcgen::CertificateParams::default().serialize_request(&key).map_err(no_key)?;
    let host = token.address.rsplit_once(':').map_or(token.address.as_str(), |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority)).domain_name(host);
    let endpoint = Endpoint::from_shared(format!("https://{}", token.address))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| unreached(&token.address, error))?;
    let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await;
    let channel = channel.map_err(|error| unreached(&token.address, error))?;
    let request = JoinOperatorRequest {
        operator: token.operator.to_string(),
        token_secret: token.secret.to_hex(),
        csr_pem: request.pem().map_err(no_key)?,
    };
    let reply = EnrolmentClient::new(channel).join_operator(timed(request)).await;
    let reply = reply.map_err(|status| refused(token, status))?.into_inner();
    Ok(Identity {
        fleet: reply.fleet,
        operator: token.operator.to_string(),
        address: token.address.clone(),
        authority_pem: reply.authority_pem,
        certificate_pem: reply.certificate_pem,
        key_pem: key.serialize_pem(),
    })
}

/// The refusal names the command that makes another token, so nothing needs to be added.
fn refused(token: &OperatorToken, status: tonic::Status) -> Failure {
    match status.code() {
        tonic::Code::PermissionDenied => Failure::refused(status.message().to_owned(), ""),
        _ => failure("join", &token.address, status),
    }
}

/// The certificate of the authority that the token pins, as the coordinator shows it.
fn pinned_authority(token: &OperatorToken) -> Result<String, Failure> {
    let chain = shown_chain(&token.address)?;
    let pinned = chain.iter().find(|link| <[u8; 32]>::from(Sha256::digest(link)) == token.authority);
    let pinned = pinned.ok_or_else(|| {
        Failure::failed(
            format!(
                "{} is not the coordinator that made this token: its authority is another one",
                token.address
            ),
            "check the address and ask for a new token; this one was not sent",
        )
    })?;
    Ok(pem(pinned))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Shakes hands and hangs up. Nothing is sent on this connection.
fn shown_chain(address: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unreached = |error: std::io::Error| unreachable(address).because(error);
    let seen = Arc::new(Seen { provider: Arc::new(ring::default_provider()), chain: Mutex::default() });
    let config = ClientConfig::builder_with_provider(seen.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let mut config = config;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned());
    let name = name.map_err(|error| unreachable(address).because(error))?;
    let mut client =
        ClientConnection::new(Arc::new(config), name).map_err(|error| unreachable(address).because(error))?;
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for at in address.to_socket_addrs().map_err(unreached)? {
        match TcpStream::connect_timeout(&at, CONNECT_TIMEOUT) {
            Ok(mut socket) => {
                let timed = socket
                    .set_read_timeout(Some(HANDSHAKE_TIMEOUT))
                    .and_then(|()| socket.set_write_timeout(Some(HANDSHAKE_TIMEOUT)));
                timed.map_err(unreached)?;
                while client.is_handshaking() {
                    client.complete_io(&mut socket).map_err(unreached)?;
                }
                return Ok(seen.chain.lock().unwrap_or_else(PoisonError::into_inner).clone());
            }
            Err(error) => last = error,
        }
    }
    Err(unreached(last))
}

/// Notes the chain. Whether it is to be trusted is judged by its digest afterwards.
#[derive(Debug)]
struct Seen {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|link| link.clone().into_owned());
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn a_certificate_is_written_as_it_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["c".to_owned()]).unwrap().self_signed(&key).unwrap();
        assert_eq!(CertificateDer::from_pem_slice(pem(own.der()).as_bytes()).unwrap(), *own.der());
    }
}
