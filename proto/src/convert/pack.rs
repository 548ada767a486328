//! A pack's canonical encoding: what its digest is of, and what the coordinator keeps.

use fleet::{
    ids::Digest,
    pack::{Resources, ResourcesError},
};
use prost::Message as _;

use crate::wire::agent as wire;

/// Bytes of an encoded pack at most: content, paths and framing.
pub const PACK_SIZE_MAX: usize = fleet::pack::BYTES_MAX + (2 << 20);

/// Why bytes are not the encoding of a pack.
#[derive(Debug, thiserror::Error)]
pub enum PackDecodeError {
    /// No such message.
    #[error("these bytes are no pack")]
    Malformed(#[source] prost::DecodeError),
    /// Beyond a bound, or not what a pack holds.
    #[error(transparent)]
    Resources(#[from] ResourcesError),
    /// The same files in another order or form: another digest for the same pack.
    #[error("these bytes are not the canonical encoding of a pack")]
    NotCanonical,
}

/// The canonical encoding.
pub fn encode_pack(resources: &Resources) -> Vec<u8> {
    let file = |(path, data): (&str, &[u8])| wire::PackFile { path: path.to_owned(), data: data.to_vec() };
    wire::PackContent { files: resources.iter().map(file).collect() }.encode_to_vec()
}

/// The encoding and what it is known by.
pub fn named_pack(resources: &Resources) -> (Digest, Vec<u8>) {
    let encoded = encode_pack(resources);
    (Digest::of(&encoded), encoded)
}

/// Reads what [`encode_pack`] made, and nothing else.
///
/// # Errors
/// See [`PackDecodeError`].
pub fn decode_pack(bytes: &[u8]) -> Result<Resources, PackDecodeError> {
    let content = wire::PackContent::decode(bytes).map_err(PackDecodeError::Malformed)?;
    let resources = Resources::new(content.files.into_iter().map(|file| (file.path, file.data)))?;
    if encode_pack(&resources) == bytes { Ok(resources) } else { Err(PackDecodeError::NotCanonical) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(name: &str) -> String {
        format!("repository/resources/conf/templates/{name}.j2")
    }

    #[test]
    fn a_pack_comes_back_and_its_digest_does_not_depend_on_the_order_of_reading() {
        let files = [(template("a"), b"1".to_vec()), (template("b"), b"2".to_vec())];
        let pack = Resources::new(files.clone()).unwrap();
        let (digest, encoded) = named_pack(&pack);
        assert_eq!(decode_pack(&encoded).unwrap(), pack);
        assert_eq!(named_pack(&Resources::new(files.into_iter().rev()).unwrap()).0, digest);
    }

    #[test]
    fn only_the_canonical_encoding_is_taken() {
        let file = |name: &str| wire::PackFile { path: template(name), data: b"x".to_vec() };
        let bytes = |files: Vec<wire::PackFile>| wire::PackContent { files }.encode_to_vec();
        assert!(decode_pack(&bytes(vec![file("a"), file("b")])).is_ok());
        for files in [vec![file("b"), file("a")], vec![file("a"), file("a")]] {
            assert!(matches!(decode_pack(&bytes(files)), Err(PackDecodeError::NotCanonical)));
        }
        let mut longer = bytes(vec![file("a")]);
        longer.extend([0x78, 1]);
        assert!(matches!(decode_pack(&longer), Err(PackDecodeError::NotCanonical)));
        let foreign = wire::PackFile { path: "repository/conf/deployment.toml".into(), data: Vec::new() };
        assert!(matches!(decode_pack(&bytes(vec![foreign])), Err(PackDecodeError::Resources(_))));
        assert!(matches!(decode_pack(b"\xff\xff"), Err(PackDecodeError::Malformed(_))));
    }
}
