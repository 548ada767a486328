//! A fleet directory as it arrives: one header, then files in chunks, bounded before anything is done with it.

use fleet::{ids::Revision, spec::Sources};
use proto::wire::operator::{FileChunk, Upload, UploadHeader, upload::Part};
use tonic::{Status, Streaming};

use crate::{apply::Intent, config::Limits, identity::OperatorPeer};

/// Bytes of a file's path.
const PATH_MAX: usize = 1024;
/// Bytes of what an operator says about an apply.
const MESSAGE_MAX: usize = 4096;

/// Reads a whole upload.
pub(super) async fn read(
    mut stream: Streaming<Upload>,
    limits: &Limits,
    operator: &OperatorPeer,
) -> Result<(Intent, Sources), Status> {
    let first = stream.message().await?.and_then(|upload| upload.part);
    let Some(Part::Header(header)) = first else {
        return Err(Status::invalid_argument("an upload begins with its header"));
    };
    let intent = intent(header, operator)?;
    let mut files = Files { sources: Sources::default(), open: None, bytes: 0 };
    while let Some(upload) = stream.message().await? {
        match upload.part {
            Some(Part::File(chunk)) => files.add(chunk, limits)?,
            Some(Part::Header(_)) => return Err(Status::invalid_argument("an upload has one header")),
            None => {}
        }
    }
    match files.open {
        Some((path, _)) => {
            Err(Status::invalid_argument(format!("the upload ended in the middle of {path:?}")))
        }
        None => Ok((intent, files.sources)),
    }
}

fn intent(header: UploadHeader, operator: &OperatorPeer) -> Result<Intent, Status> {
    if MESSAGE_MAX < header.message.len() + header.reason.len() {
        return Err(Status::invalid_argument(format!("message and reason exceed {MESSAGE_MAX} bytes")));
    }
    if header.now && header.reason.trim().is_empty() {
        return Err(Status::invalid_argument("to ignore maintenance windows, give a reason"));
    }
    Ok(Intent {
        author: operator.name.clone(),
        message: header.message,
        parent: header.parent.map(Revision),
        windows_overridden: header.now.then_some(header.reason),
    })
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
        self.sources.0.insert(chunk.path, content);
        Ok(())
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
