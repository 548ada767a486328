//! A pack as it arrives from a node or with an upload: bounded and checked before anything is done with it.

use std::time::Duration;

use fleet::ids::Digest;
use proto::{
    convert::pack::{PACK_SIZE_MAX, decode_pack},
    wire::agent::{PackChunk, PackReceived},
};
use tonic::{Response, Status, Streaming};

use super::{chain, commit_failed, store_failed};
use crate::{coordinator::Coordinator, identity::NodePeer, packs::KeepError, store::Key};

/// A node that sends nothing for so long is given up.
const CHUNK_TIME: Duration = Duration::from_secs(30);
/// A whole pack; a few megabytes over a slow line.
const PACK_TIME: Duration = Duration::from_secs(300);
/// Bytes in one message.
const CHUNK: usize = 16 * 1024;

/// Takes the pack that `peer` reports now, unless it is here already.
pub(super) async fn receive(
    coordinator: &Coordinator,
    peer: &NodePeer,
    mut stream: Streaming<PackChunk>,
) -> Result<Response<PackReceived>, Status> {
    let first = next(&mut stream).await?;
    let first = first.ok_or_else(|| Status::invalid_argument("a pack has at least one part"))?;
    let digest = Digest::from_slice(&first.digest)
        .ok_or_else(|| Status::invalid_argument("the first part names the pack's digest of 32 bytes"))?;
    let live = coordinator.live.node(&peer.name);
    let observed = live.as_ref().and_then(|node| node.observed.as_ref());
    if observed.and_then(|observed| observed.pack) != Some(digest) {
        return Err(Status::permission_denied(format!(
            "{} does not report pack {}; a node gives only its own",
            peer.name,
            digest.short()
        )));
    }
    let here = coordinator.store.get(&Key::pack(&digest)).await.map_err(|error| store_failed(&error))?;
    if here.is_some() {
        return Ok(Response::new(PackReceived {}));
    }
    let busy = |_| Status::resource_exhausted("other packs are arriving; this one is asked for again");
    let _giving = coordinator.packs.giving.try_acquire().map_err(busy)?;
    let bytes = tokio::time::timeout(PACK_TIME, read(first, &mut stream)).await;
    // The places are few: a pack that comes in drops would hold one for hours.
    let bytes = bytes.map_err(|_| Status::deadline_exceeded("the pack took too long"))??;
    if Digest::of(&bytes) != digest {
        return Err(Status::invalid_argument(format!("the content of pack {} is another", digest.short())));
    }
    let checked = crate::tasks::blocking(move || decode_pack(&bytes).map(|_| bytes)).await;
    let bytes = checked
        .map_err(|_| Status::internal("the pack could not be read; this is a defect of Convoy"))?
        .map_err(|error| Status::invalid_argument(chain(&error)))?;
    let kept = coordinator.keep_pack(digest, &bytes, &peer.name).await;
    kept.map_err(|error| not_kept(&error))?;
    Ok(Response::new(PackReceived {}))
}

fn not_kept(error: &KeepError) -> Status {
    match error {
        KeepError::TooManyOfNode(_) | KeepError::TooMany => Status::resource_exhausted(error.to_string()),
        KeepError::Store(error) => store_failed(error),
        KeepError::Commit(error) => commit_failed(error),
    }
}

async fn next(stream: &mut Streaming<PackChunk>) -> Result<Option<PackChunk>, Status> {
    let part = tokio::time::timeout(CHUNK_TIME, stream.message()).await;
    part.map_err(|_| Status::deadline_exceeded("nothing came in time"))?
}

async fn read(first: PackChunk, stream: &mut Streaming<PackChunk>) -> Result<Vec<u8>, Status> {
    let announced = usize::try_from(first.size).unwrap_or(usize::MAX);
    if PACK_SIZE_MAX < announced {
        return Err(Status::resource_exhausted(format!("a pack has at most {PACK_SIZE_MAX} bytes")));
    }
    let (mut bytes, mut part) = (Vec::new(), first);
    loop {
        if CHUNK < part.data.len() {
            return Err(Status::invalid_argument(format!("a part has at most {CHUNK} bytes")));
        }
        bytes.extend_from_slice(&part.data);
        if announced < bytes.len() {
            return Err(Status::resource_exhausted("the pack is longer than announced"));
        }
        if part.last {
            return Ok(bytes);
        }
        let more = next(stream).await?;
        part = more.ok_or_else(|| Status::invalid_argument("the pack ended early"))?;
    }
}
