//! Joining without a secret: what a host and an operator compare, and the file that an operator brings back to a host
//! whose request was admitted (ADR 100).

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    ids::{FleetName, NameError, NodeName},
    token::{hex, is_address, unhex},
};

/// What an answer says first, so that another file is known as such.
const FORMAT: &str = "convoy-answer.v1";

/// SHA-256 of a public key (its SubjectPublicKeyInfo) or of a certificate, both in DER: what people compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of these bytes.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// Reads a fingerprint as Convoy or OpenSSL writes it: hexadecimal, with or without colons and `sha256:`.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, FingerprintError> {
        let lower = text.trim().to_ascii_lowercase();
        let lower = lower.rsplit_once('=').map_or(lower.as_str(), |(_, digits)| digits);
        let digits = lower.strip_prefix("sha256:").unwrap_or(lower).replace(':', "");
        let bytes = unhex(&digits).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(FingerprintError)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex(&self.0))
    }
}

/// Not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is sha256: and 64 hexadecimal digits")]
pub struct FingerprintError;

/// What a host signs that joins by a certificate of another authority (ADR 101): for one challenge of one coordinator, one
/// certificate, one request and one node (empty: whichever its certificate names).
///
/// It begins with more constant text than the random numbers that begin what TLS 1.2 has a server sign, and with other
/// text than what TLS 1.3 does, so it is never a signature of a handshake.
pub fn host_statement(
    authority: &[u8; 32],
    nonce: &[u8],
    certificate: &[u8],
    (request_pem, node): (&str, &str),
) -> Vec<u8> {
    let mut statement =
        b"Convoy, version 1: the holder of this host certificate asks to join a fleet as a node\n\0".to_vec();
    for part in [authority, nonce, certificate, request_pem.as_bytes(), node.as_bytes()] {
        // Lengths too: no part can pass for the end of the one before.
        statement.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        statement.extend(part);
    }
    statement
}

/// What an operator's yes to a request became: no secret is in it, and only the host that made the request can use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who the host is now.
    pub node: NodeName,
    /// Of which fleet.
    pub fleet: FleetName,
    /// Where the coordinator listens, `host:port`.
    pub address: String,
    /// The certificate for the request's key, PEM.
    pub certificate_pem: String,
    /// Every authority to trust, PEM.
    pub authority_pem: String,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    format: String,
    node: String,
    fleet: String,
    address: String,
    certificate: String,
    authority: String,
}

impl Answer {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        let written = Written {
            format: FORMAT.to_owned(),
            node: self.node.to_string(),
            fleet: self.fleet.to_string(),
            address: self.address.clone(),
            certificate: self.certificate_pem.clone(),
            authority: self.authority_pem.clone(),
        };
        let text = toml::to_string_pretty(&written).expect("strings can be written as TOML");
        format!(
            "# Holds no secret. On the host that made the request: convoy-agent enroll --answer FILE\n{text}"
        )
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It is another file, or not whole.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        if text.contains("BEGIN CERTIFICATE REQUEST") {
            return Err(AnswerError::Request);
        }
        if !text.contains(FORMAT) {
            return Err(AnswerError::Other);
        }
        let written: Written =
            toml::from_str(text).map_err(|error| AnswerError::Damaged { why: error.message().to_owned() })?;
        if written.format != FORMAT {
            return Err(AnswerError::Other);
        }
        if !is_address(&written.address) {
            return Err(AnswerError::Damaged { why: "its address is not host:port".to_owned() });
        }
        Ok(Self {
            node: NodeName::parse(&written.node).map_err(AnswerError::Name)?,
            fleet: FleetName::parse(&written.fleet).map_err(AnswerError::Name)?,
            address: written.address,
            certificate_pem: written.certificate,
            authority_pem: written.authority,
        })
    }
}

/// Why a text is not an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is what the host wrote.
    #[error("this is the request; bring back the file that `convoy node admit` wrote")]
    Request,
    /// It is no answer at all.
    #[error("this is not an answer of `convoy node admit`, or only the end of one")]
    Other,
    /// It begins as an answer does.
    #[error("the answer is not whole ({why}); copy it again from where `convoy node admit` wrote it")]
    Damaged {
        /// What does not read.
        why: String,
    },
    /// A name in it.
    #[error("the answer holds a name that nothing can have")]
    Name(#[source] NameError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            node: NodeName::parse("is-1").unwrap(),
            fleet: FleetName::parse("acme").unwrap(),
            address: "convoy.acme.internal:7843".to_owned(),
            certificate_pem: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            authority_pem: "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n".to_owned(),
        }
    }

    #[test]
    fn an_answer_reads_as_it_was_written_and_not_if_it_is_not_whole() {
        let text = answer().to_text();
        assert_eq!(Answer::parse(&text), Ok(answer()));
        // Cut after each line: nothing is taken for a shorter answer.
        let lines: Vec<&str> = text.lines().collect();
        for kept in 0..lines.len() {
            let cut = lines[..kept].join("\n");
            assert!(Answer::parse(&cut).is_err(), "cut after {kept} lines: {cut}");
        }
        // What a later version adds is passed over.
        assert_eq!(Answer::parse(&format!("later = 1\n{text}")), Ok(answer()));
    }

    #[test]
    fn another_file_is_said_as_such() {
        let request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        let damaged = answer().to_text().replace(":7843", "");
        for (text, said) in [
            (request, "this is the request"),
            ("convoy-join.v1.is-1.00.00.00", "not an answer"),
            ("", "not an answer"),
            (damaged.as_str(), "not host:port"),
            ("format = \"convoy-answer.v1\"", "is not whole (missing field `node`)"),
        ] {
            let error = Answer::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_a_host_signs_differs_with_every_part_and_with_where_parts_end() {
        let of = |nonce: &[u8], certificate: &[u8], request, node| {
            host_statement(&[1; 32], nonce, certificate, (request, node))
        };
        let all = [
            of(b"n", b"c", "r", "is-1"),
            host_statement(&[2; 32], b"n", b"c", ("r", "is-1")),
            of(b"nc", b"", "r", "is-1"),
            of(b"", b"nc", "r", "is-1"),
            of(b"n", b"c", "ri", "s-1"),
            of(b"n", b"c", "r", ""),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| one != other), "{at}");
            assert!(one[..64].iter().all(u8::is_ascii) && one[0] != b' ');
        }
    }

    #[test]
    fn a_fingerprint_is_read_as_people_have_it() {
        let known = Fingerprint::of(b"a key");
        let digits = known.to_string().replace("sha256:", "");
        let pairs: Vec<&str> = (0..64).step_by(2).map(|at| &digits[at..at + 2]).collect();
        let of_openssl = format!("SHA256 Fingerprint={}\n", pairs.join(":").to_uppercase());
        for text in [known.to_string(), digits.clone(), of_openssl] {
            assert_eq!(Fingerprint::parse(&text), Ok(known), "{text}");
        }
        for text in ["", "sha256:", &digits[..62], "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"] {
            assert_eq!(Fingerprint::parse(text), Err(FingerprintError), "{text}");
        }
    }
}
