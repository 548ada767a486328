//! Fetching content by digest into the cache. Everything is checked against its digest before it is kept, and no more
//! is read than was announced.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use fleet::{
    bundle::Bundle,
    ids::Digest,
    node::{Event, Failure, Placed},
    observed::RefusalReason,
};
use proto::{
    convert::{bundle::ENCODED_SIZE_MAX, link::decode_bundle},
    wire::agent::{FetchRequest, agent_link_client::AgentLinkClient},
};
use tokio::sync::watch;
use tonic::{Code, transport::Channel};
use tracing::debug;

use crate::cache::Cache;

/// Contents asked for in one call.
const BATCH: usize = 64;
/// Before a failed call is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// A call that brings nothing for so long is given up.
const CHUNK_TIME: Duration = Duration::from_secs(30);

/// One bundle on its way into the cache.
pub(super) struct Obtaining {
    pub(super) target: Placed,
    pub(super) size: u64,
    pub(super) cache: Cache,
    pub(super) channel: watch::Receiver<Option<Channel>>,
}

enum FetchError {
    /// Trying again may help.
    Transient(String),
    /// It will not.
    Final(RefusalReason, String),
}

impl Obtaining {
    /// Tries until it is there or cannot be had.
    pub(super) async fn run(mut self) -> Event {
        let content = self.target.content;
        loop {
            match self.obtain().await {
                Ok(bundle) => return Event::Obtained { content, bundle },
                Err(FetchError::Final(reason, detail)) => {
                    return Event::ObtainFailed { content, failure: Failure { reason, detail } };
                }
                Err(FetchError::Transient(why)) => {
                    debug!(%why, "Content did not come; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn obtain(&mut self) -> Result<Arc<Bundle>, FetchError> {
        let content = self.target.content;
        if !self.cache.has(&content) {
            let size = self.size.min(ENCODED_SIZE_MAX as u64);
            self.fetch(&[(content, size)]).await?;
        }
        let bytes = self.read(content).await?;
        let bundle = decode_bundle(&bytes)
            .map_err(|error| FetchError::Final(RefusalReason::BundleInvalid, crate::chain(&error)))?;
        let missing: BTreeSet<(Digest, u64)> = bundle
            .files
            .values()
            .filter(|file| !self.cache.has(&file.digest))
            .map(|file| (file.digest, file.size))
            .collect();
        let missing: Vec<(Digest, u64)> = missing.into_iter().collect();
        for batch in missing.chunks(BATCH) {
            self.fetch(batch).await?;
        }
        Ok(Arc::new(bundle))
    }

    async fn read(&self, digest: Digest) -> Result<Vec<u8>, FetchError> {
        let cache = self.cache.clone();
        let read = crate::task::blocking(move || cache.read(&digest)).await;
        read.map_err(|error| FetchError::Transient(error.to_string()))?
            .map_err(|error| FetchError::Transient(error.to_string()))
    }

    async fn fetch(&mut self, wanted: &[(Digest, u64)]) -> Result<(), FetchError> {
        let channel = self.channel().await?;
        let transient = |status: tonic::Status| match status.code() {
            Code::NotFound | Code::PermissionDenied | Code::InvalidArgument => {
                FetchError::Final(RefusalReason::ContentUnavailable, status.message().to_owned())
            }
            _ => FetchError::Transient(status.message().to_owned()),
        };
        let digests = wanted.iter().map(|(digest, _)| digest.0.to_vec()).collect();
        let mut chunks = AgentLinkClient::new(channel)
            .fetch(FetchRequest { digests })
            .await
            .map_err(transient)?
            .into_inner();
        let mut current: Option<(Digest, u64, Vec<u8>)> = None;
        let mut done = 0;
        while done < wanted.len() {
            let chunk = tokio::time::timeout(CHUNK_TIME, chunks.message())
                .await
                .map_err(|_| FetchError::Transient("nothing came in time".to_owned()))?
                .map_err(transient)?
                .ok_or_else(|| FetchError::Transient("the answer ended early".to_owned()))?;
            if !chunk.digest.is_empty() {
                let digest = Digest::from_slice(&chunk.digest);
                let announced = wanted.iter().find(|(known, _)| Some(*known) == digest);
                let (digest, size) = announced
                    .ok_or_else(|| FetchError::Transient("content that was not asked for".to_owned()))?;
                current = Some((*digest, *size, Vec::new()));
            }
            let Some((digest, size, mut bytes)) = current.take() else {
                return Err(FetchError::Transient("content without a digest".to_owned()));
            };
            bytes.extend_from_slice(&chunk.data);
            if size < bytes.len() as u64 {
                let detail = format!("content {} is longer than announced", digest.short());
                return Err(FetchError::Final(RefusalReason::ContentUnavailable, detail));
            }
            if chunk.last {
                self.keep(digest, bytes).await?;
                done += 1;
            } else {
                current = Some((digest, size, bytes));
            }
        }
        Ok(())
    }

    async fn keep(&self, digest: Digest, bytes: Vec<u8>) -> Result<(), FetchError> {
        if Digest::of(&bytes) != digest {
            let detail = format!("content {} does not match its digest", digest.short());
            return Err(FetchError::Final(RefusalReason::ContentUnavailable, detail));
        }
        let cache = self.cache.clone();
        let kept = crate::task::blocking(move || cache.write(&digest, &bytes)).await;
        let error = match kept {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(error) => return Err(FetchError::Transient(error.to_string())),
        };
        let reason = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => RefusalReason::DiskFull,
            _ => RefusalReason::IoFailed,
        };
        Err(FetchError::Final(reason, format!("cannot keep content in the data directory: {error}")))
    }

    /// The connection, once there is one.
    async fn channel(&mut self) -> Result<Channel, FetchError> {
        let found = self.channel.wait_for(Option::is_some).await;
        let found = found.map_err(|_| FetchError::Transient("the agent is ending".to_owned()))?;
        found.clone().ok_or_else(|| FetchError::Transient("no connection".to_owned()))
    }
}
