//! Checkpoints of the record that people keep elsewhere, in logs above all (ADR 0094).

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
};

use fleet::{
    audit::{Head, checkpoint::Signed},
    ids::FleetEpoch,
    time::Timestamp,
};
use rustls::SignatureScheme;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::exit::Failure;

/// Bytes of a log that are read; a log of this size has other problems.
const LOG_MAX: u64 = 4 << 30;
/// Bytes of a line that are looked at; longer ones are looked at in pieces.
const LINE_MAX: u64 = 1 << 20;

/// What was found in logs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Places that the coordinator of this context has signed for its store as it is.
    pub heads: Vec<Head>,
    /// When the newest of them was signed.
    pub newest: Option<Timestamp>,
    /// Checkpoints of another store.
    pub foreign: usize,
    /// Words that look like checkpoints and are not signed by the authority of this context.
    pub unsigned: usize,
}

impl Found {
    fn take(&mut self, signed: &Signed, epoch: FleetEpoch, authority: &Authority) {
        if !authority.has_signed(signed) {
            self.unsigned += 1;
        } else if signed.checkpoint.epoch != epoch {
            self.foreign += 1;
        } else {
            self.heads.push(signed.checkpoint.head);
            self.newest = self.newest.max(Some(signed.checkpoint.at));
        }
    }
}

/// The coordinator's authority, as the context has it.
pub struct Authority {
    key: Vec<u8>,
}

impl Authority {
    /// Of the certificate in a context.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(pem: &str) -> Result<Self, Failure> {
        let unreadable = || {
            Failure::failed(
                "the authority in the context file cannot be read",
                "copy operator/context.toml from the coordinator's data directory again, or join again",
            )
        };
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| unreadable())?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(|_| unreadable())?;
        Ok(Self { key: certificate.public_key().subject_public_key.data.to_vec() })
    }

    /// Whether it has signed a checkpoint.
    pub fn has_signed(&self, signed: &Signed) -> bool {
        let provider = rustls::crypto::ring::default_provider();
        let known = provider.signature_verification_algorithms.mapping.iter();
        let algorithms = known.filter(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256);
        let text = signed.checkpoint.to_string();
        algorithms.flat_map(|(_, algorithms)| *algorithms).any(|algorithm| {
            algorithm.verify_signature(&self.key, text.as_bytes(), &signed.signature).is_ok()
        })
    }
}

/// Every checkpoint in these files; `-` is standard input.
///
/// # Errors
/// A file cannot be read, or none of them has a checkpoint of this coordinator's store.
pub fn found(files: &[PathBuf], epoch: FleetEpoch, authority: &Authority) -> Result<Found, Failure> {
    let mut found = Found::default();
    for file in files {
        let reading = if file == Path::new("-") {
            read(io::stdin().lock(), epoch, authority, &mut found)
        } else {
            File::open(file).and_then(|open| read(open, epoch, authority, &mut found))
        };
        reading.map_err(|error| {
            let what = format!("cannot read {}", file.display());
            Failure::failed(what, "name a log of the coordinator, or - for standard input").because(error)
        })?;
    }
    if !files.is_empty() && found.heads.is_empty() {
        return Err(Failure::failed(
            format!(
                "no checkpoint of this coordinator's record was found ({} of another store, {} not signed by its authority)",
                found.foreign, found.unsigned
            ),
            "name a log of this coordinator; its lines \"Audit checkpoint\" have them",
        ));
    }
    Ok(found)
}

fn read(log: impl Read, epoch: FleetEpoch, authority: &Authority, found: &mut Found) -> io::Result<()> {
    let mut log = BufReader::new(log.take(LOG_MAX));
    let mut line = Vec::new();
    loop {
        line.clear();
        if log.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        Signed::in_text(&String::from_utf8_lossy(&line)).for_each(|one| found.take(&one, epoch, authority));
    }
}

#[cfg(test)]
mod tests {
    use fleet::audit::{
        Link,
        checkpoint::{Checkpoint, Meaning},
    };
    use rcgen::{CertificateParams, KeyPair, SigningKey as _};

    use super::*;

    const EPOCH: FleetEpoch = FleetEpoch([7; 16]);

    struct Signer {
        key: KeyPair,
        authority: Authority,
    }

    fn signer() -> Signer {
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::default().self_signed(&key).unwrap().pem();
        Signer { key, authority: Authority::of(&pem).unwrap() }
    }

    impl Signer {
        fn sign(&self, epoch: FleetEpoch, seq: u64, at: i64) -> Signed {
            let head = Head { seq, link: Link([9; 32]) };
            let checkpoint = Checkpoint { meaning: Meaning::Reached, epoch, head, at: Timestamp(at) };
            Signed { checkpoint, signature: self.key.sign(checkpoint.to_string().as_bytes()).unwrap() }
        }
    }

    #[test]
    fn only_what_the_authority_signed_for_this_store_counts() {
        let (own, other) = (signer(), signer());
        let good = own.sign(EPOCH, 5, 50);
        let mut moved = good.clone();
        moved.checkpoint.head.seq = 6;
        let mut later = good.clone();
        later.checkpoint.at = Timestamp(60);
        let lines = [
            format!("INFO Audit checkpoint entries=5 checkpoint={good}"),
            format!("{{\"checkpoint\":\"{}\"}}", own.sign(EPOCH, 3, 90)),
            own.sign(FleetEpoch([8; 16]), 9, 70).to_string(),
            other.sign(EPOCH, 9, 70).to_string(),
            moved.to_string(),
            later.to_string(),
            "\u{1b}[2J nothing".to_owned(),
        ];
        let dir = tempfile::tempdir().unwrap();
        let (log, empty) = (dir.path().join("log"), dir.path().join("empty"));
        std::fs::write(&log, [lines.join("\n").as_bytes(), b"\xff\xfe\n"].concat()).unwrap();
        std::fs::write(&empty, lines[2..].join("\n")).unwrap();
        let files = [log, dir.path().join("empty")];
        let all = found(&files[..1], EPOCH, &own.authority).unwrap();
        let seqs: Vec<u64> = all.heads.iter().map(|head| head.seq).collect();
        assert_eq!((seqs, all.newest), (vec![5, 3], Some(Timestamp(90))));
        assert_eq!((all.foreign, all.unsigned), (1, 3));
        let none = found(&files[1..], EPOCH, &own.authority).unwrap_err();
        assert!(none.what.contains("(1 of another store, 3 not signed by its authority)"), "{none:?}");
        assert!(found(&[dir.path().join("gone")], EPOCH, &own.authority).is_err());
        assert_eq!(found(&[], EPOCH, &own.authority).unwrap(), Found::default());
        assert!(Authority::of("nonsense").is_err());
    }
}
