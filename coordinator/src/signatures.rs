//! Whether a revision is signed by a key that the fleet lists (ADR 0092). What is signed, and when a signature is required,
//! is [`fleet::signature`]'s.

mod der;
#[cfg(test)]
mod tests;
mod token;

use fleet::{
    rollout::Rollout,
    signature::{
        KeyFormat, NAMESPACE, STATEMENT_MAX, Signable, Signature, SignatureRules, SigningKey, candidates,
        may_follow,
    },
    spec::Sources,
};
use rustls::SignatureScheme;
use ssh_key::{
    Algorithm, EcdsaCurve, HashAlg, PublicKey, SshSig,
    public::{EcdsaPublicKey, KeyData, RsaPublicKey},
};

use crate::{
    apply::{Intent, RevisionDraft},
    coordinator::Coordinator,
    proposals::{Approval, is_same},
    view::Snapshot,
};

/// Bytes of the modulus of an RSA key: 3072 bits.
const RSA_BYTES_MIN: usize = 384;

impl Coordinator {
    /// The signature of an upload, verified; `None`: it has none. One that does not fit is refused also where none is
    /// required.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn signed(
        &self,
        snapshot: &Snapshot,
        next: &SignatureRules,
        (sources, intent): (&Sources, &Intent),
    ) -> Result<Option<Signature>, String> {
        if let Approval::Given(approved) = &intent.approval {
            // It was verified when it was proposed; whether its key still counts is judged with the draft.
            return Ok(approved.signed());
        }
        let Some(text) = intent.signature.clone() else { return Ok(None) };
        let Some(parent) = intent.parent else {
            return Err(
                "a signature is for one revision that the change is made on, and none is named (--parent)"
                    .to_owned(),
            );
        };
        let signable = Signable {
            fleet: &self.fleet,
            epoch: self.epoch,
            parent,
            nodes: &intent.only.nodes,
            groups: &intent.only.groups,
            packs: &intent.packs.digests(),
            sources,
        };
        let statement = signable.statement();
        if STATEMENT_MAX < statement.len() {
            return Err(format!(
                "what is signed exceeds {STATEMENT_MAX} bytes: choose groups instead of so many nodes"
            ));
        }
        let running = snapshot.revision.as_ref().map(|revision| &revision.signatures);
        let key = verify(&statement, &text, candidates(running, next))?.clone();
        Ok(Some(Signature { key, statement, text }))
    }
}

/// Why a draft may not become a revision: it has no signature that counts.
pub(crate) fn unsigned(snapshot: &Snapshot, draft: &RevisionDraft) -> Option<String> {
    let running = snapshot.revision.as_ref().map(|revision| &revision.signatures);
    let signed = draft.signed.as_ref().map(|signed| &signed.key);
    may_follow(running, signed, draft.rolls_back_to).err().map(|why| why.to_string())
}

/// Who may sign a draft, if it needs a signature: it changes something, and the fleet asks for one.
pub(crate) fn signers(snapshot: &Snapshot, draft: &RevisionDraft, rollout: &Rollout) -> Option<String> {
    let rules = snapshot.revision.as_ref().map(|revision| &revision.signatures);
    let rules = rules.filter(|rules| rules.required)?;
    (!is_same(snapshot, draft) || !rollout.steps.is_empty()).then(|| rules.signers())
}

/// ` (signed by the SSH key ann@acme)`, or nothing.
pub(crate) fn signed_by(signed: Option<&Signature>) -> String {
    signed.map(|signed| format!(" (signed by {})", signed.key.name())).unwrap_or_default()
}

/// Which of `keys` has signed `statement`.
fn verify<'a>(statement: &str, signature: &str, keys: &'a [SigningKey]) -> Result<&'a SigningKey, String> {
    if keys.is_empty() {
        return Err(
            "there is a signature, and the fleet lists no key that may sign (`[signatures]` of fleet.toml)"
                .to_owned(),
        );
    }
    if signature.trim_start().starts_with("-----BEGIN SSH SIGNATURE-----") {
        by_ssh(statement, signature, keys)
    } else {
        by_minisign(statement, signature, keys)
    }
}

fn of_format(keys: &[SigningKey], format: KeyFormat) -> impl Iterator<Item = &SigningKey> {
    keys.iter().filter(move |key| key.format() == format)
}

fn by_ssh<'a>(statement: &str, signature: &str, keys: &'a [SigningKey]) -> Result<&'a SigningKey, String> {
    let unreadable = |error: ssh_key::Error| format!("the SSH signature cannot be read: {error}");
    let signature = SshSig::from_pem(signature.trim()).map_err(unreadable)?;
    if signature.namespace() != NAMESPACE {
        return Err(format!(
            "the signature is one for {:?}; sign with `ssh-keygen -Y sign -n {NAMESPACE}`",
            signature.namespace()
        ));
    }
    let is_signer = |key: &&SigningKey| {
        PublicKey::from_openssh(key.text()).is_ok_and(|listed| listed.key_data() == signature.public_key())
    };
    let Some(key) = of_format(keys, KeyFormat::Ssh).find(is_signer) else {
        let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256);
        return Err(format!("this is signed by the SSH key {fingerprint}, which the fleet does not list"));
    };
    let data = SshSig::signed_data(NAMESPACE, signature.hash_alg(), statement.as_bytes());
    let data = data.map_err(unreadable)?;
    if fits(&signature, &data)? { Ok(key) } else { Err(other_statement(key)) }
}

/// Whether an SSH signature is one of `data` by its key.
///
/// # Errors
/// It is made in a way that is not taken.
fn fits(signature: &SshSig, data: &[u8]) -> Result<bool, String> {
    let (algorithm, bytes) = (signature.algorithm(), signature.signature_bytes());
    match (signature.public_key(), &algorithm) {
        (KeyData::Ed25519(public), Algorithm::Ed25519) => {
            Ok(is_by(SignatureScheme::ED25519, &public.0, data, bytes))
        }
        (
            KeyData::Ecdsa(public @ EcdsaPublicKey::NistP256(_)),
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        ) => {
            let bytes = der::pair(bytes).unwrap_or_default();
            Ok(is_by(SignatureScheme::ECDSA_NISTP256_SHA256, public.as_sec1_bytes(), data, &bytes))
        }
        (KeyData::Rsa(public), Algorithm::Rsa { hash: Some(HashAlg::Sha512) }) => {
            let public = rsa_key(public).ok_or("the RSA key of the signature has fewer than 3072 bits")?;
            Ok(is_by(SignatureScheme::RSA_PKCS1_SHA512, &public, data, bytes))
        }
        (KeyData::SkEd25519(public), Algorithm::SkEd25519) => {
            let Some((data, bytes)) = token::open(public.application(), data, bytes)? else {
                return Ok(false);
            };
            Ok(is_by(SignatureScheme::ED25519, &public.public_key().0, &data, bytes))
        }
        (KeyData::SkEcdsaSha2NistP256(public), Algorithm::SkEcdsaSha2NistP256) => {
            let Some((data, bytes)) = token::open(public.application(), data, bytes)? else {
                return Ok(false);
            };
            let bytes = der::pair(bytes).unwrap_or_default();
            Ok(is_by(SignatureScheme::ECDSA_NISTP256_SHA256, public.ec_point().as_bytes(), &data, &bytes))
        }
        _ => Err(format!(
            "the signature is one by {algorithm}, and ssh-ed25519, ecdsa-sha2-nistp256, rsa-sha2-512 and those of security \
             tokens (sk-) are taken; sign with `ssh-keygen -Y sign`"
        )),
    }
}

/// An RSA key as ring takes it; `None`: it is too short.
fn rsa_key(public: &RsaPublicKey) -> Option<Vec<u8>> {
    let modulus = public.n.as_positive_bytes().filter(|modulus| RSA_BYTES_MIN <= modulus.len())?;
    // Without leading zeros, so the first bit counts.
    modulus.first().filter(|first| 0x80 <= **first)?;
    Some(der::sequence(&[public.n.as_bytes(), public.e.as_bytes()]))
}

fn by_minisign<'a>(
    statement: &str,
    signature: &str,
    keys: &'a [SigningKey],
) -> Result<&'a SigningKey, String> {
    let signature = minisign_verify::Signature::decode(signature.trim_start());
    let signature =
        signature.map_err(|error| format!("this is neither an SSH nor a minisign signature: {error}"))?;
    let mut why = "this is signed by a minisign key that the fleet does not list".to_owned();
    for key in of_format(keys, KeyFormat::Minisign) {
        let Ok(public) = minisign_verify::PublicKey::from_base64(key.text()) else { continue };
        match public.verify(statement.as_bytes(), &signature, false) {
            Ok(()) => return Ok(key),
            Err(minisign_verify::Error::UnexpectedKeyId) => {}
            Err(_) => why = other_statement(key),
        }
    }
    Err(why)
}

fn other_statement(key: &SigningKey) -> String {
    format!(
        "the signature by {} is not one of this apply: the files, the nodes that take part, the packs or the revision that it \
         is made on are others than were signed; sign again",
        key.name()
    )
}

/// Whether ring says that `key` has signed `message`.
fn is_by(scheme: SignatureScheme, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let provider = rustls::crypto::ring::default_provider();
    let known = provider.signature_verification_algorithms.mapping;
    let known = known.iter().find(|(known, _)| *known == scheme);
    let algorithm = known.and_then(|(_, algorithms)| algorithms.first());
    algorithm.is_some_and(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}
