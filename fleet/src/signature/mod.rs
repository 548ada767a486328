//! Signatures of revisions: what is signed, by which keys, and when a signature is required (ADR 0092). Pure: whether the
//! bytes of a signature fit is verified by the coordinator.
//!
//! The keys of the revision in force count, so a change of the keys is signed by one of those that it replaces.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    ops::RangeInclusive,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use crate::{
    foreign::printable,
    ids::{Digest, FleetEpoch, FleetName, GroupName, NodeName, Revision},
    spec::Sources,
};

/// The namespace of signatures by SSH keys (`ssh-keygen -Y sign -n convoy`): one that was made for something else, such
/// as a commit, is none of a revision.
pub const NAMESPACE: &str = "convoy";
/// Bytes of a signature. One of minisign takes some 300, one of an SSH key some 400.
pub const SIGNATURE_MAX: usize = 4 * 1024;
/// Bytes of what is signed; only a selection of very many nodes comes near.
pub const STATEMENT_MAX: usize = 16 * 1024;
/// Keys that a fleet lists.
pub const KEYS_MAX: usize = 32;
/// Bytes of the comment of a key.
const COMMENT_MAX: usize = 100;
/// Keys that a sentence names.
const NAMED_MAX: usize = 5;
/// Bytes of the application of a key on a security token, which is `ssh:` and what its owner has put behind.
const APPLICATION_MAX: usize = 64;
const APPLICATION: &[u8] = b"ssh:";
/// SSH keys that may sign.
const SSH_KINDS: [SshKind; 5] = [
    // RFC 8709.
    SshKind { name: "ssh-ed25519", prefix: "AAAAC3NzaC1lZDI1NTE5AAAAI", bytes: 51..=51, application: None },
    // RFC 5656, with the point uncompressed.
    SshKind {
        name: "ecdsa-sha2-nistp256",
        prefix: "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBB",
        bytes: 104..=104,
        application: None,
    },
    // RFC 4253, with the exponent 65537: from 3072 bits to 4096.
    SshKind { name: "ssh-rsa", prefix: "AAAAB3NzaC1yc2EAAAADAQABAAA", bytes: 407..=535, application: None },
    // PROTOCOL.u2f of OpenSSH: as the first two, and the application behind.
    SshKind {
        name: "sk-ssh-ed25519@openssh.com",
        prefix: "AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAI",
        bytes: 74..=70 + APPLICATION_MAX,
        application: Some(66),
    },
    SshKind {
        name: "sk-ecdsa-sha2-nistp256@openssh.com",
        prefix: "AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBB",
        bytes: 127..=123 + APPLICATION_MAX,
        application: Some(119),
    },
];
/// The first characters of every minisign key: the base64 of its algorithm, `Ed`.
const MINISIGN_PREFIX: &str = "RW";
/// Characters of a minisign key: 42 bytes in base64.
const MINISIGN_LENGTH: usize = 56;

/// What a signature of an apply is about.
#[derive(Debug, Clone, Copy)]
pub struct Signable<'a> {
    /// Whose directory it is.
    pub fleet: &'a FleetName,
    /// Of the coordinator's store: another coordinator does not take the signature.
    pub epoch: FleetEpoch,
    /// The revision that it is made on: the signature does for no other, and so only once.
    pub parent: Revision,
    /// With `groups`, who takes part; without any of both: all.
    pub nodes: &'a BTreeSet<NodeName>,
    /// See `nodes`.
    pub groups: &'a BTreeSet<GroupName>,
    /// Packs that are given with it, by product.
    pub packs: &'a BTreeMap<String, Digest>,
    /// The files.
    pub sources: &'a Sources,
}

impl Signable<'_> {
    /// The text that is signed: one fact on each line. No two applies have the same one.
    ///
    /// `files` is the SHA-256 of what `sha256sum` prints about the files, in the order of their paths' bytes: a line
    /// with the hash, two spaces, the path below the directory and a line feed for each. A line feed within a path is
    /// written as `\n`; a path holds no backslash.
    pub fn statement(&self) -> String {
        let mut lines = Sha256::new();
        for (path, content) in &self.sources.0 {
            let line = format!("{}  {}\n", hex(&Sha256::digest(content)), path.replace('\n', "\\n"));
            lines.update(line.as_bytes());
        }
        let mut text =
            format!("convoy apply v1\nfleet {}\nstore {}\nparent {}\n", self.fleet, self.epoch, self.parent);
        if self.nodes.is_empty() && self.groups.is_empty() {
            text.push_str("all nodes\n");
        }
        let nodes = self.nodes.iter().map(|name| format!("node {name}\n"));
        let groups = self.groups.iter().map(|name| format!("group {name}\n"));
        // A product is named by whoever gives its pack, so its text is spelled out.
        let packs = self.packs.iter().map(|(product, digest)| format!("pack {product:?} {digest}\n"));
        text.extend(nodes.chain(groups).chain(packs));
        let (count, digest) = (self.sources.0.len(), hex(&lines.finalize()));
        text.push_str(&format!("files {count} sha256 {digest}\n"));
        text
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text does not fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// A kind of SSH key.
struct SshKind {
    name: &'static str,
    /// The first characters of every key, base64: its name, and the length of what follows.
    prefix: &'static str,
    /// Of a key, before base64.
    bytes: RangeInclusive<usize>,
    /// Where its application is in these bytes, if it is one on a security token.
    application: Option<usize>,
}

impl SshKind {
    /// Why this is no key of this kind that may sign.
    fn check(&self, key: &str) -> Result<(), &'static str> {
        let bytes = decoded_len(key).filter(|_| key.starts_with(self.prefix)).ok_or(PART)?;
        if !self.bytes.contains(&bytes) {
            return Err(if self.name == "ssh-rsa" {
                "an RSA key that signs has 3072 to 4096 bits"
            } else {
                PART
            });
        }
        let Some(at) = self.application else { return Ok(()) };
        let bytes = STANDARD.decode(key).map_err(|_| PART)?;
        let (length, application) = bytes.get(at..).and_then(<[u8]>::split_first_chunk).ok_or(PART)?;
        if usize::try_from(u32::from_be_bytes(*length)) != Ok(application.len()) {
            return Err(PART);
        }
        if !application.starts_with(APPLICATION) {
            return Err("the application of a key on a security token begins with \"ssh:\"");
        }
        Ok(())
    }
}

const PART: &str = "something of it is missing, or is not base64";

/// How many bytes a text in base64 stands for; `None`: it is no base64, or not all of it.
fn decoded_len(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let is_whole = text.len().is_multiple_of(4) && padding <= 2 && digits.bytes().all(is_digit);
    is_whole.then(|| text.len() / 4 * 3 - padding)
}

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// `ssh-keygen -Y sign`.
    Ssh,
    /// `minisign -S`.
    Minisign,
}

/// A key that may sign, as fleet.toml has it: a line of an SSH public key file, or a minisign public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    format: KeyFormat,
    text: String,
    comment: String,
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} is no key that can sign: {why}")]
pub struct NoKey {
    shown: String,
    why: &'static str,
}

impl SigningKey {
    /// Reads a key: `ssh-ed25519 AAAA… comment` and its like, or what `minisign -G` prints as the public key, with a
    /// comment behind it. The comment is made printable and cut to 100 bytes.
    ///
    /// # Errors
    /// It has another form. A key that somebody mistyped is not noticed: it is the key of nobody.
    pub fn parse(text: &str) -> Result<Self, NoKey> {
        let bad = |why| NoKey { shown: printable(text).chars().take(32).collect(), why };
        let words: Vec<&str> = text.split_whitespace().collect();
        let ssh = words.first().and_then(|first| SSH_KINDS.iter().find(|kind| kind.name == *first));
        let (format, text, comment) = match (ssh, words.as_slice()) {
            (Some(kind), [_, key, comment @ ..]) => {
                kind.check(key).map_err(bad)?;
                (KeyFormat::Ssh, format!("{} {key}", kind.name), comment)
            }
            (Some(_), _) => return Err(bad(PART)),
            (None, [kind, ..]) if ["ssh-", "ecdsa-", "sk-"].iter().any(|start| kind.starts_with(start)) => {
                return Err(bad(
                    "of SSH keys, ssh-ed25519, ecdsa-sha2-nistp256 and ssh-rsa are taken, and sk-ssh-ed25519@openssh.com and \
                     sk-ecdsa-sha2-nistp256@openssh.com of security tokens",
                ));
            }
            (None, [key, comment @ ..]) if key.starts_with(MINISIGN_PREFIX) => {
                if key.len() != MINISIGN_LENGTH || key.ends_with('=') || decoded_len(key).is_none() {
                    return Err(bad(PART));
                }
                (KeyFormat::Minisign, (*key).to_owned(), comment)
            }
            (None, _) => {
                return Err(bad(
                    "it is neither the line of an SSH public key file nor a minisign public key",
                ));
            }
        };
        let comment = printable(&comment.join(" ")).into_owned();
        let comment = comment.get(..comment.floor_char_boundary(COMMENT_MAX)).unwrap_or_default().to_owned();
        Ok(Self { format, text, comment })
    }

    /// How it signs.
    pub fn format(&self) -> KeyFormat {
        self.format
    }

    /// The key without its comment: `ssh-ed25519 AAAA…` and its like, or the 56 characters of minisign.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same key, whatever its comment says.
    pub fn is_same(&self, other: &Self) -> bool {
        self.text == other.text
    }

    /// For sentences: `the SSH key ann@acme`, by its comment or else its last characters.
    pub fn name(&self) -> String {
        let kind = match self.format {
            KeyFormat::Ssh => "the SSH key",
            KeyFormat::Minisign => "the minisign key",
        };
        match self.comment.as_str() {
            "" => {
                format!("{kind} …{}", self.text.get(self.text.len().saturating_sub(12)..).unwrap_or_default())
            }
            comment => format!("{kind} {comment}"),
        }
    }
}

/// The key and its comment, as it is typed.
impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.comment.is_empty() { Ok(()) } else { write!(f, " {}", self.comment) }
    }
}

/// A signature that was verified, with what it takes to verify it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose it is.
    pub key: SigningKey,
    /// What is signed.
    pub statement: String,
    /// As `ssh-keygen` or `minisign` wrote it.
    pub text: String,
}

/// `[signatures]` of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignatureRules {
    /// A revision has to be signed by one of the keys.
    pub required: bool,
    /// Keys that may sign.
    pub keys: Vec<SigningKey>,
}

impl SignatureRules {
    /// The key of this list that is the same.
    fn lists(&self, key: &SigningKey) -> bool {
        self.keys.iter().any(|listed| listed.is_same(key))
    }

    /// For sentences: who may sign.
    pub fn signers(&self) -> String {
        let mut names: Vec<String> = self.keys.iter().take(NAMED_MAX).map(SigningKey::name).collect();
        let more = self.keys.len().saturating_sub(NAMED_MAX);
        names.extend((more != 0).then(|| format!("{more} more")));
        names.join(" or ")
    }
}

/// The keys of which one may have signed what is made on the revision with the rules `running`; the first list of keys
/// may be signed by one of its own, which shows that somebody has it.
pub fn candidates<'a>(running: Option<&'a SignatureRules>, next: &'a SignatureRules) -> &'a [SigningKey] {
    running.filter(|rules| !rules.keys.is_empty()).map_or(&next.keys, |rules| &rules.keys)
}

/// Why a revision may not follow the one in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// Nobody has signed it.
    #[error("the fleet asks for a signature by {signers}, and this has none; {HOW}")]
    Missing {
        /// Who may.
        signers: String,
    },
    /// Its key is not in the list that is in force.
    #[error("this is signed by {key}, and the fleet asks for a signature by {signers}")]
    NotListed {
        /// That has signed.
        key: String,
        /// Who may.
        signers: String,
    },
    /// It goes back to what nobody has signed.
    #[error(
        "revision {to} has no signature, and the fleet asks for one by {signers} now; apply its directory from Git with a \
         signature"
    )]
    BackToUnsigned {
        /// Where to.
        to: Revision,
        /// Who may.
        signers: String,
    },
    /// It goes back to what was signed by a key that is not in the list any more.
    #[error(
        "revision {to} is signed by {key}, which the fleet does not list any more; apply its directory from Git with a \
         signature by {signers}"
    )]
    BackToNotListed {
        /// Where to.
        to: Revision,
        /// That has signed.
        key: String,
        /// Who may.
        signers: String,
    },
}

/// How one signs.
const HOW: &str =
    "sign with `convoy apply DIR --sign KEYFILE`, or see docs/operators.md for keys that are elsewhere";

/// Whether a revision may follow the one with the rules `running` (`None`: it is the first). `signed` is the key that has
/// signed it, or, if it goes back to revision `back_to`, that one.
///
/// # Errors
/// Says what is missing.
pub fn may_follow(
    running: Option<&SignatureRules>,
    signed: Option<&SigningKey>,
    back_to: Option<Revision>,
) -> Result<(), Unsigned> {
    let Some(rules) = running.filter(|rules| rules.required) else { return Ok(()) };
    let signers = rules.signers();
    match (signed, back_to) {
        (Some(key), _) if rules.lists(key) => Ok(()),
        (Some(key), None) => Err(Unsigned::NotListed { key: key.name(), signers }),
        (Some(key), Some(to)) => Err(Unsigned::BackToNotListed { to, key: key.name(), signers }),
        (None, None) => Err(Unsigned::Missing { signers }),
        (None, Some(to)) => Err(Unsigned::BackToUnsigned { to, signers }),
    }
}
