//! A fleet directory as it arrives: one header, then files in chunks, bounded before anything is done with it. Large ones
//! are worked on one at a time (ADR 0051).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use fleet::{
    access::Permit,
    ids::{Digest, GroupName, NodeName, Revision},
    origin::Origin,
    signature::SIGNATURE_MAX,
    spec::Sources,
};
use proto::{
    convert::pack::PACK_SIZE_MAX,
    wire::operator::{FileChunk, PackPart, Upload, UploadHeader, upload::Part},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, Streaming};

use crate::{
    apply::{Intent, Selection},
    config::Limits,
    effects::GivenPacks,
    packs,
    proposals::Approval,
};

/// Bytes of a file's path.
const PATH_MAX: usize = 1024;
/// Bytes of what an operator says about an apply.
const MESSAGE_MAX: usize = 4096;
/// Bytes of why somebody goes ahead without approval: it stands in the record before everything that may be cut off.
const GLASS_MAX: usize = 1024;
/// Packs of one upload.
const PACKS_MAX: usize = 8;
/// Products that one of them is said to be the pack of.
const PRODUCTS_MAX: usize = 64;

/// A directory up to this size is worked on beside any others, bytes.
const SMALL: usize = 16 * 1024 * 1024;
/// An operator who sends nothing for so long is given up: a large directory that never ends would hold up others.
const CHUNK_TIME: Duration = Duration::from_secs(60);
/// The longest that a large directory waits for those before it.
const TURN_TIME: Duration = Duration::from_secs(600);

/// Whose turn it is to have a large directory worked on: several at once would take as many times the memory.
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turns {
    /// Waits until a directory of so many bytes may be worked on; those of an unknown size are taken for large. What is
    /// answered is held until the work is over.
    pub(super) async fn of_size(&self, bytes: Option<u64>) -> Result<Option<OwnedSemaphorePermit>, Status> {
        match bytes {
            Some(bytes) if bytes <= SMALL as u64 => Ok(None),
            Some(_) | None => self.next().await.map(Some),
        }
    }

    async fn next(&self) -> Result<OwnedSemaphorePermit, Status> {
        let turn = tokio::time::timeout(TURN_TIME, self.0.clone().acquire_owned()).await;
        // The semaphore is never closed.
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            Status::resource_exhausted("other large fleet directories are being worked on; try again later")
        })
    }
}

/// A whole upload.
pub(super) struct Uploaded {
    /// With the packs.
    pub(super) intent: Intent,
    pub(super) sources: Sources,
    /// Of a large directory: held until the work on it is over.
    pub(super) turn: Option<OwnedSemaphorePermit>,
}

async fn next(stream: &mut Streaming<Upload>) -> Result<Option<Upload>, Status> {
    let upload = tokio::time::timeout(CHUNK_TIME, stream.message()).await;
    upload.map_err(|_| Status::deadline_exceeded("nothing more of the upload came in time"))?
}

/// Reads a whole upload.
pub(super) async fn read(
    mut stream: Streaming<Upload>,
    limits: &Limits,
    turns: &Turns,
    permit: Permit,
) -> Result<Uploaded, Status> {
    let first = next(&mut stream).await?.and_then(|upload| upload.part);
    let Some(Part::Header(header)) = first else {
        return Err(Status::invalid_argument("an upload begins with its header"));
    };
    let intent = intent(header, permit)?;
    let mut files = Files { sources: Sources::default(), open: None, bytes: 0 };
    let (mut packs, mut turn) = (PackParts::default(), None);
    while let Some(upload) = next(&mut stream).await? {
        if turn.is_none() && SMALL < files.bytes {
            turn = Some(turns.next().await?);
        }
        match upload.part {
            Some(Part::File(chunk)) => files.add(chunk, limits)?,
            Some(Part::Pack(part)) => packs.add(part)?,
            Some(Part::Header(_)) => return Err(Status::invalid_argument("an upload has one header")),
            None => {}
        }
    }
    match files.open {
        Some((path, _)) => {
            Err(Status::invalid_argument(format!("the upload ended in the middle of {path:?}")))
        }
        None => {
            let intent = Intent { packs: packs.finish().await?, ..intent };
            Ok(Uploaded { intent, sources: files.sources, turn })
        }
    }
}

fn intent(header: UploadHeader, permit: Permit) -> Result<Intent, Status> {
    if MESSAGE_MAX < header.message.len() + header.reason.len() {
        return Err(Status::invalid_argument(format!("message and reason exceed {MESSAGE_MAX} bytes")));
    }
    if header.now && header.reason.trim().is_empty() {
        return Err(Status::invalid_argument("to ignore maintenance windows, give a reason"));
    }
    let replace_unmanaged = unmanaged_digest(&header.replace_unmanaged)?;
    if SIGNATURE_MAX < header.signature.len() {
        return Err(Status::invalid_argument(format!("the signature exceeds {SIGNATURE_MAX} bytes")));
    }
    let origin = header.origin.as_ref().map(Origin::try_from).transpose();
    let origin = origin.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let only = Selection {
        nodes: parsed(&header.nodes, NodeName::parse)?,
        groups: parsed(&header.groups, GroupName::parse)?,
    };
    Ok(Intent {
        permit,
        message: header.message,
        parent: header.parent.map(Revision),
        windows_overridden: header.now.then_some(header.reason),
        replace_unmanaged,
        only,
        origin,
        approval: approval(header.break_glass)?,
        packs: GivenPacks::default(),
        signature: Some(header.signature).filter(|signature| !signature.trim().is_empty()),
        trace: None,
    })
}

/// How an operator wants a change to be treated that needs approval.
pub(super) fn approval(break_glass: String) -> Result<Approval, Status> {
    if GLASS_MAX < break_glass.len() {
        return Err(Status::invalid_argument(format!(
            "the reason of --break-glass exceeds {GLASS_MAX} bytes"
        )));
    }
    Ok(if break_glass.trim().is_empty() { Approval::Ask } else { Approval::BreakGlass(break_glass) })
}

/// Names of nodes or groups.
fn parsed<T: Ord, E: ToString>(
    names: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<BTreeSet<T>, Status> {
    let bad = |error: E| Status::invalid_argument(error.to_string());
    names.iter().map(|name| parse(name).map_err(bad)).collect()
}

/// What an operator says to mean, of what nobody declared.
pub(super) fn unmanaged_digest(text: &str) -> Result<Option<Digest>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let digest = Digest::from_hex(text);
    digest.map(Some).ok_or_else(|| Status::invalid_argument("replace_unmanaged is no digest of a plan"))
}

struct Files {
    sources: Sources,
    open: Option<(String, Vec<u8>)>,
    bytes: usize,
}

impl Files {
    fn add(&mut self, chunk: FileChunk, limits: &Limits) -> Result<(), Status> {
        check_path(&chunk.path)?;
        self.bytes += chunk.data.len();
        if limits.upload_bytes < self.bytes {
            return Err(Status::resource_exhausted(format!(
                "the fleet directory is larger than {} bytes (limits.upload_bytes of the coordinator)",
                limits.upload_bytes
            )));
        }
        let mut content = match self.open.take() {
            Some((path, content)) if path == chunk.path => content,
            Some((path, _)) => {
                return Err(Status::invalid_argument(format!(
                    "{path:?} is not complete when {:?} begins",
                    chunk.path
                )));
            }
            None if self.sources.0.contains_key(&chunk.path) => {
                return Err(Status::invalid_argument(format!("{:?} was sent twice", chunk.path)));
            }
            None => Vec::new(),
        };
        content.extend_from_slice(&chunk.data);
        if !chunk.last {
            self.open = Some((chunk.path, content));
            return Ok(());
        }
        if limits.upload_files <= self.sources.0.len() {
            return Err(Status::resource_exhausted(format!(
                "the fleet directory has more than {} files (limits.upload_files of the coordinator)",
                limits.upload_files
            )));
        }
        // It grew by doubling.
        content.shrink_to_fit();
        self.sources.0.insert(chunk.path, content);
        Ok(())
    }
}

/// Packs of the operator's, one after the other.
#[derive(Default)]
struct PackParts {
    whole: Vec<(Vec<String>, Vec<u8>)>,
    open: Option<(Vec<String>, Vec<u8>)>,
    bytes: usize,
}

impl PackParts {
    fn add(&mut self, part: PackPart) -> Result<(), Status> {
        let (products, mut content) = self.open.take().unwrap_or((part.products, Vec::new()));
        self.bytes += part.data.len();
        if PACKS_MAX * PACK_SIZE_MAX < self.bytes || PACKS_MAX <= self.whole.len() {
            let text = format!("more than {PACKS_MAX} packs of {PACK_SIZE_MAX} bytes");
            return Err(Status::resource_exhausted(text));
        }
        content.extend_from_slice(&part.data);
        if part.last {
            self.whole.push((products, content));
        } else {
            self.open = Some((products, content));
        }
        Ok(())
    }

    async fn finish(self) -> Result<GivenPacks, Status> {
        if self.open.is_some() {
            return Err(Status::invalid_argument("the upload ended in the middle of a pack"));
        }
        let mut given = GivenPacks::default();
        for (products, content) in self.whole {
            let digest = Digest::of(&content);
            let loading =
                crate::tasks::blocking(move || packs::load(&content).map(|facts| (facts, content))).await;
            let loaded = loading.unwrap_or_else(|error| Err(error.to_string()));
            let refused =
                |why| Status::invalid_argument(format!("the pack that was given cannot be used: {why}"));
            let (facts, content) = loaded.map_err(refused)?;
            let facts = Arc::new(facts);
            given.encode(digest, content);
            for product in products.into_iter().take(PRODUCTS_MAX) {
                given.put(product, digest, facts.clone());
            }
        }
        Ok(given)
    }
}

/// Paths are only names in a map here, but one that leaves the directory is a mistake or worse.
fn check_path(path: &str) -> Result<(), Status> {
    let bad_part = |part: &str| matches!(part, "" | "." | "..");
    if PATH_MAX < path.len() || path.contains(['\\', '\0']) || path.split('/').any(bad_part) {
        return Err(Status::invalid_argument(format!("{path:?} is not a path inside a fleet directory")));
    }
    Ok(())
}
