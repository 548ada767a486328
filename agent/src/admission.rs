//! Joining without a secret on the way (ADR 100): a request that an operator takes to the coordinator, and the answer that
//! they bring back. The key stays here; it is in force only once its certificate is, so nothing is lost until then.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fleet::{
    admission::{Answer, AnswerError, Fingerprint},
    ids::NodeName,
    time::Human,
};
use rustls::{RootCertStore, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};

use crate::{
    chain,
    identity::{Facts, IdentityError, Request, Store},
};

/// Bytes of an answer that are read; one has some 2,500.
const ANSWER_MAX: u64 = 64 * 1024;
/// What a request begins with.
const REQUEST_BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";

/// Why a request was not made, or an answer not taken.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The file of a request holds something else.
    #[error("{} is there already and is no request; name another file", path.display())]
    InTheWay {
        /// Which.
        path: PathBuf,
    },
    /// A file that was named.
    #[error("cannot read or write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is not an answer.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// A certificate in it.
    #[error(
        "the answer's certificates cannot be read ({why}); copy it again from where `convoy node admit` wrote it"
    )]
    Certificate {
        /// What does not read.
        why: String,
    },
    /// Nothing was asked for.
    #[error(
        "no request of this host waits for an answer; make one with `convoy-agent enroll --request FILE`"
    )]
    NoRequest,
    /// Another host's answer, or the answer to an earlier request.
    #[error(
        "the answer is for the key {answered}, and this host's request has {own}: it is another host's, or older; make the \
         request again with `convoy-agent enroll --request FILE` and have that admitted"
    )]
    OtherKey {
        /// Of the certificate.
        answered: Fingerprint,
        /// Of the request that waits.
        own: Fingerprint,
    },
    /// Pieces of two answers.
    #[error("the answer says {said}, and its certificate is {named}; have the request admitted again")]
    OtherName {
        /// What the file says.
        said: String,
        /// What the certificate says.
        named: String,
    },
    /// Too old.
    #[error("the answer's certificate ended {} ago; have the request admitted again", Human(*ago))]
    Ended {
        /// Since when.
        ago: Duration,
    },
    /// Clocks differ.
    #[error("the answer's certificate begins only in {}; set this host's clock", Human(*left))]
    TooEarly {
        /// Until then.
        left: Duration,
    },
    /// Pieces of two answers, or a forgery.
    #[error("the answer's certificate is not by the authority in it; have the request admitted again")]
    OtherIssuer(#[source] rustls::Error),
    /// The authority is not the one that was said.
    #[error("the answer's authority is {answered}, and --ca-pin says {said}")]
    OtherPin {
        /// In the answer.
        answered: Fingerprint,
        /// What was typed.
        said: Fingerprint,
    },
    /// The authority is not the one that this host trusts.
    #[error(
        "the answer's authority is {answered}, and this host trusts {own}: it is of another fleet. If that is meant, say so \
         with --ca-pin {answered}"
    )]
    Foreign {
        /// In the answer.
        answered: Fingerprint,
        /// In force.
        own: Fingerprint,
    },
    /// The identity's files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Makes a request, or the same again; the key is made at the first one.
///
/// # Errors
/// The data directory cannot be written. The identity in force is untouched either way.
pub fn request(store: &Store, node: Option<&NodeName>) -> Result<Request, AdmissionError> {
    store.prepare()?;
    Ok(store.ask(node.map(NodeName::as_str))?)
}

/// Writes a request where an operator takes it from. There is no secret in it, so everybody may read it.
///
/// # Errors
/// Something else is there, or it cannot be written.
pub fn write_request(path: &Path, request: &Request) -> Result<(), AdmissionError> {
    let file_error = |source| AdmissionError::File { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(before) if before.starts_with(REQUEST_BEGIN.as_bytes()) => {}
        Ok(_) => return Err(AdmissionError::InTheWay { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file_error(error)),
    }
    let mut file = fs::File::create(path).map_err(file_error)?;
    file.write_all(request.csr_pem.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error)
}

/// Reads an answer; `-` is standard input.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read_answer(path: &Path) -> Result<Answer, AdmissionError> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().take(ANSWER_MAX).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(ANSWER_MAX).read_to_string(&mut text))
    };
    read.map_err(|source| AdmissionError::File { path: path.to_owned(), source })?;
    Ok(Answer::parse(&text)?)
}

/// What an answer became.
#[derive(Debug, PartialEq, Eq)]
pub struct Installed {
    /// What this host trusts now.
    pub authority: Fingerprint,
    /// It was in force before.
    pub before: bool,
}

/// Takes the answer to this host's request. What is in force stays in force until the new identity is whole.
///
/// # Errors
/// It is not the answer to this host's request, or not of the authority that is expected; nothing was changed.
pub fn install(
    store: &Store,
    answer: &Answer,
    pin: Option<Fingerprint>,
    address: Option<&str>,
) -> Result<Installed, AdmissionError> {
    let certificate =
        CertificateDer::from_pem_slice(answer.certificate_pem.as_bytes()).map_err(unreadable)?;
    let authorities: Result<Vec<CertificateDer<'_>>, _> =
        CertificateDer::pem_slice_iter(answer.authority_pem.as_bytes()).collect();
    let authorities = authorities.map_err(unreadable)?;
    let first = authorities.first().ok_or_else(|| unreadable("there is no authority"))?;
    let installed = Installed { authority: Fingerprint::of(first), before: false };
    if store.holds(&certificate)? {
        store.answered()?;
        return Ok(Installed { before: true, ..installed });
    }
    let request = store.asked()?.ok_or(AdmissionError::NoRequest)?;
    judge(answer, &certificate, (&authorities, pin), store, &request)?;
    let address = address.unwrap_or(&answer.address);
    store.save(&request, &answer.certificate_pem, &answer.authority_pem, Some(address))?;
    // Read back: an identity that cannot be used is better known now than at the next start.
    store.read(0)?;
    store.answered()?;
    Ok(installed)
}

/// Whether an answer is the one to this request, whole, and of an authority that may be trusted.
fn judge(
    answer: &Answer,
    certificate: &CertificateDer<'_>,
    (authorities, pin): (&[CertificateDer<'_>], Option<Fingerprint>),
    store: &Store,
    request: &Request,
) -> Result<(), AdmissionError> {
    let facts = Facts::of(certificate).map_err(unreadable)?;
    if facts.key != request.key {
        return Err(AdmissionError::OtherKey { answered: facts.key, own: request.key });
    }
    let said = format!("convoy://{}/node/{}", answer.fleet, answer.node);
    if facts.uri != said {
        return Err(AdmissionError::OtherName { said, named: facts.uri });
    }
    let now = (store.clock())();
    if facts.not_after <= now {
        return Err(AdmissionError::Ended { ago: now.since(facts.not_after) });
    }
    if now < facts.not_before {
        return Err(AdmissionError::TooEarly { left: facts.not_before.since(now) });
    }
    may_trust(authorities, pin, &store.authorities()?)?;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone().into_owned()).map_err(AdmissionError::OtherIssuer)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
            .build()
            .map_err(unreadable)?;
    let seconds = u64::try_from(now.0 / 1000).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier.verify_client_cert(certificate, &[], at).map_err(AdmissionError::OtherIssuer)?;
    Ok(())
}

/// Whether each authority of an answer was said or is trusted already. The file is carried by hand, so a second one beside
/// a good one counts as foreign too. A host that trusts nobody yet and was told nothing takes what the answer has, and
/// says what that was.
fn may_trust(
    answered: &[CertificateDer<'_>],
    pin: Option<Fingerprint>,
    own: &[CertificateDer<'_>],
) -> Result<(), AdmissionError> {
    let own: Vec<Fingerprint> = own.iter().map(|certificate| Fingerprint::of(certificate)).collect();
    for answered in answered.iter().map(|certificate| Fingerprint::of(certificate)) {
        match (pin, own.first()) {
            (Some(said), _) if said == answered => {}
            (Some(said), _) => return Err(AdmissionError::OtherPin { answered, said }),
            (None, None) => {}
            (None, Some(_)) if own.contains(&answered) => {}
            (None, Some(first)) => return Err(AdmissionError::Foreign { answered, own: *first }),
        }
    }
    Ok(())
}

fn unreadable(why: impl std::fmt::Display) -> AdmissionError {
    AdmissionError::Certificate { why: why.to_string() }
}

/// The error in one line, with the file that it is about.
pub fn in_file(path: &Path, error: &AdmissionError) -> String {
    let text = chain(error);
    let shown = path.display().to_string();
    if text.contains(&shown) { text } else { format!("{shown}: {text}; nothing was changed") }
}

#[cfg(test)]
mod tests;
