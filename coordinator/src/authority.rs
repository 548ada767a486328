//! The embedded certificate authority: one P-256 key in the data directory that signs the certificates of nodes,
//! operators and the coordinator itself. It decides nothing about who may have one; that is [`crate::enrolment`].

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use fleet::{
    ids::{FleetName, NodeName, OperatorName},
    time::Timestamp,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    SigningKey as _,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::private;

/// How long the authority itself lives. Rotating it means enrolling again, so it outlives the fleet.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// Certificates begin to be valid this long before they are made, because rustls forgives no clock skew; those of a
/// short life a tenth of it, for agents renew at the middle, and that must lie in the future.
const BACKDATE_MAX: Duration = Duration::from_secs(3600);

/// Why the authority could not do something.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its file.
    #[error("cannot read or write the authority's key in {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its file holds something else.
    #[error("{} does not hold a key and a certificate; restore it from a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The request is not one, or its signature is not by its key.
    #[error("the certificate request is not valid")]
    Request(#[source] rcgen::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Sign(#[source] rcgen::Error),
}

/// A certificate made for somebody else's key.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub pem: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Its end.
    pub not_after: Timestamp,
}

/// A certificate together with a key made here.
pub struct IssuedPair {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// The same, and its numbers.
    pub issued: Issued,
    /// The private key, PKCS#8.
    pub key: PrivatePkcs8KeyDer<'static>,
    /// The same as text.
    pub key_pem: String,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Client,
    Server,
}

/// The authority of one fleet.
pub struct Authority {
    fleet: FleetName,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the authority in `dir`, or creates it there.
    ///
    /// # Errors
    /// The file cannot be read or written, or is damaged.
    pub fn open(dir: &Path, fleet: &FleetName, now: Timestamp) -> Result<Self, AuthorityError> {
        let path = dir.join("authority.pem");
        let file_error = |source| AuthorityError::File { path: path.clone(), source };
        private::create_dir(dir).map_err(file_error)?;
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = create(fleet, now).map_err(AuthorityError::Sign)?;
                // Key and certificate in one file: either both exist or neither.
                private::write(&path, text.as_bytes()).map_err(file_error)?;
                text.into_bytes()
            }
            Err(error) => return Err(file_error(error)),
        };
        let damaged = || AuthorityError::Damaged { path: path.clone() };
        let certificate = CertificateDer::from_pem_slice(&text).map_err(|_| damaged())?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| damaged())?;
        let key = KeyPair::try_from(&key).map_err(|_| damaged())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| damaged())?;
        let authority = Self { fleet: fleet.clone(), certificate, issuer };
        private::write(&dir.join("ca.pem"), authority.pem().as_bytes()).map_err(file_error)?;
        Ok(authority)
    }

    /// The certificate that everybody trusts.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same as text.
    pub fn pem(&self) -> String {
        to_pem("CERTIFICATE", &self.certificate)
    }

    /// SHA-256 of the certificate, which join tokens carry.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// Signs a node's request. Only its public key is taken from it: the name is the one that was authorised.
    ///
    /// # Errors
    /// The request is not valid.
    pub fn sign_node(
        &self,
        node: &NodeName,
        request_pem: &str,
        (now, lifetime): (Timestamp, Duration),
    ) -> Result<Issued, AuthorityError> {
        let uri = format!("convoy://{}/node/{node}", self.fleet);
        self.sign_request(request_pem, &self.client_params(&uri, node.as_str(), (now, lifetime))?)
    }

    /// Signs an operator's request, as [`Authority::sign_node`] does a node's.
    ///
    /// # Errors
    /// The request is not valid.
    pub fn sign_operator(
        &self,
        operator: &OperatorName,
        request_pem: &str,
        validity: (Timestamp, Duration),
    ) -> Result<Issued, AuthorityError> {
        let uri = format!("convoy://{}/operator/{operator}", self.fleet);
        self.sign_request(request_pem, &self.client_params(&uri, operator.as_str(), validity)?)
    }

    fn sign_request(&self, request_pem: &str, params: &CertificateParams) -> Result<Issued, AuthorityError> {
        let request =
            CertificateSigningRequestParams::from_pem(request_pem).map_err(AuthorityError::Request)?;
        self.sign(params, &request.public_key).map(|(_, issued)| issued)
    }

    /// Signs a text that people keep elsewhere; what it begins with has to keep it apart from certificates.
    ///
    /// # Errors
    /// Signing failed.
    pub fn sign_text(&self, text: &str) -> Result<Vec<u8>, AuthorityError> {
        self.issuer.key().sign(text.as_bytes()).map_err(AuthorityError::Sign)
    }

    /// When its own certificate ends.
    pub fn ends(&self) -> Option<Timestamp> {
        let (_, certificate) = x509_parser::parse_x509_certificate(self.certificate()).ok()?;
        Some(Timestamp(certificate.validity().not_after.timestamp() * 1000))
    }

    /// Makes key and certificate of an operator.
    ///
    /// # Errors
    /// Randomness or signing failed.
    pub fn issue_operator(
        &self,
        name: &str,
        validity: (Timestamp, Duration),
    ) -> Result<IssuedPair, AuthorityError> {
        let uri = format!("convoy://{}/operator/{name}", self.fleet);
        self.issue(&self.client_params(&uri, name, validity)?)
    }

    /// Makes key and certificate of the coordinator, for all `names`.
    ///
    /// # Errors
    /// Randomness or signing failed.
    pub fn issue_server(
        &self,
        names: &[String],
        validity: (Timestamp, Duration),
    ) -> Result<IssuedPair, AuthorityError> {
        let mut params = CertificateParams::new(names.to_vec()).map_err(AuthorityError::Sign)?;
        leaf(&mut params, "convoy-coordinator", Purpose::Server, validity);
        self.issue(&params)
    }

    fn client_params(
        &self,
        uri: &str,
        name: &str,
        validity: (Timestamp, Duration),
    ) -> Result<CertificateParams, AuthorityError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(AuthorityError::Sign)?)];
        leaf(&mut params, name, Purpose::Client, validity);
        Ok(params)
    }

    fn issue(&self, params: &CertificateParams) -> Result<IssuedPair, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Sign)?;
        let (certificate, issued) = self.sign(params, &key)?;
        let (key, key_pem) = (PrivatePkcs8KeyDer::from(key.serialize_der()), key.serialize_pem());
        Ok(IssuedPair { certificate, issued, key, key_pem })
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<(CertificateDer<'static>, Issued), AuthorityError> {
        let certificate = params.signed_by(key, &self.issuer).map_err(AuthorityError::Sign)?;
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
        let serial = serial.iter().map(|byte| format!("{byte:02x}")).collect();
        let not_after = Timestamp(params.not_after.unix_timestamp() * 1000);
        Ok((certificate.der().clone(), Issued { pem: certificate.pem(), serial, not_after }))
    }
}

impl IssuedPair {
    /// The key as rustls takes it.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

fn create(fleet: &FleetName, now: Timestamp) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("Convoy authority of {fleet}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    set_validity(&mut params, (now, AUTHORITY_LIFETIME));
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

fn leaf(
    params: &mut CertificateParams,
    common_name: &str,
    purpose: Purpose,
    validity: (Timestamp, Duration),
) {
    params.distinguished_name = name(common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match purpose {
        Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial());
    set_validity(params, validity);
}

fn set_validity(params: &mut CertificateParams, (now, lifetime): (Timestamp, Duration)) {
    let at = |timestamp: Timestamp| {
        OffsetDateTime::from_unix_timestamp(timestamp.0 / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    let backdate = BACKDATE_MAX.min(lifetime / 10);
    params.not_before = at(Timestamp(now.0 - i64::try_from(backdate.as_millis()).unwrap_or(0)));
    params.not_after = at(now.after(lifetime));
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// 16 random bytes, positive: RFC 5280 wants serial numbers to be unique and at most 20 bytes.
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn to_pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
