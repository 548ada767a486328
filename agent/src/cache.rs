//! Content by digest in the data directory: what was fetched, checked and synced. Bounded by what the journal names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use fleet::{bundle::Bundle, ids::Digest};
use proto::convert::link::decode_bundle;

use crate::{private, step::step};

/// Contents in one directory, file name = digest in hexadecimal.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens or creates the cache of a data directory.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let dir = data_dir.join("content");
        private::create_dir(&dir)?;
        private::clear_staged(&dir)?;
        Ok(Self { dir })
    }

    /// Where the content of that digest lies, if it is here.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    /// Whether the content is here. It was checked when it came; it is checked again when it is read.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// # Errors
    /// Not here, unreadable, or damaged: a damaged content is removed, so that it is fetched again.
    pub fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let path = self.path(digest);
        let bytes = fs::read(&path)?;
        if Digest::of(&bytes) != *digest {
            fs::remove_file(&path)?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("content {digest} was damaged")));
        }
        Ok(bytes)
    }

    /// Keeps `content` under its digest, durable.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&self, digest: &Digest, content: &[u8]) -> io::Result<()> {
        if self.has(digest) {
            return Ok(());
        }
        private::write(&self.path(digest), content)
    }

    /// The bundle whose encoding is `content`, if it is here and reads.
    pub fn bundle(&self, content: &Digest) -> Option<Arc<Bundle>> {
        decode_bundle(&self.read(content).ok()?).ok().map(Arc::new)
    }

    /// The bundles of `contents` that are here.
    pub fn bundles(&self, contents: &[Digest]) -> BTreeMap<Digest, Arc<Bundle>> {
        contents.iter().filter_map(|content| Some((*content, self.bundle(content)?))).collect()
    }

    /// Removes everything that the bundles of `contents` do not need. If one of them cannot be read nothing is
    /// removed, since nobody could say what it needs.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn keep(&self, contents: &[Digest]) -> io::Result<()> {
        let mut needed: BTreeSet<Digest> = contents.iter().copied().collect();
        for content in contents {
            let Some(bundle) = self.bundle(content) else { return Ok(()) };
            needed.extend(bundle.files.values().map(|file| file.digest));
        }
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            // Anything else is content that is just being written.
            let digest = entry.file_name().to_str().and_then(Digest::from_hex);
            if digest.is_some_and(|digest| !needed.contains(&digest)) {
                step("remove unneeded content")?;
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_content_is_not_handed_out() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let digest = Digest::of(b"content");
        cache.write(&digest, b"content").unwrap();
        assert_eq!(cache.read(&digest).unwrap(), b"content");
        fs::write(cache.path(&digest), b"c0ntent").unwrap();
        assert_eq!(cache.read(&digest).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(!cache.has(&digest));
    }

    #[test]
    fn what_is_not_needed_goes_and_an_unreadable_bundle_keeps_everything() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let digest = Digest::of(b"old");
        cache.write(&digest, b"old").unwrap();
        cache.keep(&[Digest::of(b"not here")]).unwrap();
        assert!(cache.has(&digest));
        cache.keep(&[]).unwrap();
        assert!(!cache.has(&digest));
    }
}
