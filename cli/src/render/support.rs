//! A support bundle that was made, in words.

use std::path::Path;

use crate::{
    text::{Style, count, hanging},
    view::Manifest,
};

/// More than these are counted.
const LEFT_OUT_SHOWN: usize = 12;

/// What was written where, and what is not in it.
pub fn support_bundle(path: &Path, manifest: &Manifest, style: Style) -> String {
    let bytes: usize = manifest.parts.iter().map(|part| part.bytes).sum();
    let mut out = format!(
        "{}: {} with {} KiB, readable by you only. Secrets are masked; read it before you send it.\n",
        path.display(),
        count(manifest.parts.len(), "file"),
        bytes.div_ceil(1024)
    );
    for left in manifest.left_out.iter().take(LEFT_OUT_SHOWN) {
        out.push_str(&hanging(&format!("without {}: {}", left.what, left.why), 2, style));
    }
    if let Some(more) = manifest.left_out.len().checked_sub(LEFT_OUT_SHOWN).filter(|more| *more != 0) {
        out.push_str(&format!("  and without {}; manifest.json names all\n", count(more, "more part")));
    }
    out
}
