//! Everything that a revision names, stored before it: files, encoded bundles, questions, and the directory as typed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use fleet::{
    ids::Digest,
    plan::PlannedNode,
    spec::{ComposedNode, Fleet, Sources},
};
use proto::convert::bundle::encode_bundle;

use super::RevisionDraft;
use crate::{
    coordinator::Coordinator,
    gates::questions,
    store::{CommitError, StoreError, blobs, records::Target},
};

/// Bundles that are encoded at the same time: those of a large fleet take as much memory as the fleet.
const BUNDLES: usize = 256;

/// What lies on several nodes is in memory once: contents that were read for one look at many nodes.
#[derive(Default)]
pub(crate) struct SharedContents(Mutex<BTreeMap<Digest, Arc<[u8]>>>);

impl SharedContents {
    fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// What is kept from now on: two nodes may have read the same at the same moment.
    fn keep(&self, digest: Digest, content: &[u8]) -> Arc<[u8]> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(digest).or_insert_with(|| content.into()))
    }
}

impl Coordinator {
    /// What was assigned to a node, with its contents as far as they are kept; `None` if the bundle itself is not.
    pub(crate) async fn stored_node(
        &self,
        target: &Target,
        shared: &SharedContents,
    ) -> Result<Option<PlannedNode>, StoreError> {
        let Some(bundle) = self.bundle(&target.content).await? else { return Ok(None) };
        let digests: BTreeSet<Digest> = bundle.files.values().map(|file| file.digest).collect();
        let mut contents = BTreeMap::new();
        for digest in digests {
            let content = match shared.get(&digest) {
                Some(content) => Some(content),
                None => {
                    let read = blobs::get(&*self.store, &digest).await?;
                    read.map(|content| shared.keep(digest, &content))
                }
            };
            contents.extend(content.map(|content| (digest, content)));
        }
        Ok(Some(PlannedNode { bundle, contents }))
    }

    /// Stores what is not there yet of what `draft` names of `fleet`, if the disk has room for all of it; all of it is
    /// durable on return.
    ///
    /// # Errors
    /// There is no room, and nothing was written; or the store failed, and some of it may be there, which does no harm.
    pub(crate) async fn keep_revision_content(
        &self,
        (fleet, sources): (&Fleet, &Sources),
        draft: &RevisionDraft,
    ) -> Result<(), CommitError> {
        let store = &*self.store;
        let questions = questions(fleet);
        let files = fleet.nodes.values().flat_map(|node| &node.contents);
        let files = files.map(|(digest, content)| (*digest, content.as_ref()));
        let whole = questions.values().chain(sources.0.values());
        let contents: BTreeMap<Digest, &[u8]> =
            files.chain(whole.map(|bytes| (Digest::of(bytes), bytes.as_slice()))).collect();
        let contents = blobs::missing(store, &contents).await.map_err(CommitError::Refused)?;
        let mut bytes: u64 = contents.values().map(|content| content.len() as u64).sum();
        let mut bundles: Vec<&ComposedNode> = Vec::new();
        // Those that take no part keep what is stored already.
        for (name, node) in fleet.nodes.iter().filter(|(name, _)| !draft.stays.contains(*name)) {
            let Some(target) = draft.nodes.get(name) else { continue };
            let size = usize::try_from(target.content_size).unwrap_or(usize::MAX);
            if !blobs::is_there(store, &target.content, size).await.map_err(CommitError::Refused)? {
                bytes += target.content_size;
                bundles.push(node);
            }
        }
        if bytes != 0 {
            self.disk.check(bytes)?;
        }
        blobs::put_all(store, &contents).await?;
        for some in bundles.chunks(BUNDLES) {
            let encoded: Vec<Vec<u8>> = some.iter().map(|node| encode_bundle(&node.bundle)).collect();
            let by_digest = encoded.iter().map(|bytes| (Digest::of(bytes), bytes.as_slice())).collect();
            blobs::put_all(store, &by_digest).await?;
        }
        Ok(())
    }
}
