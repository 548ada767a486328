//! A store's file without its empty pages: redb reserves far more than it fills.

use std::{fs, path::Path};

const PAGE: usize = 4096;

/// Keeps the size and every page that is not all zero, each behind its number.
pub fn shrink(from: &Path, to: &Path) {
    let bytes = fs::read(from).unwrap();
    let mut kept = (bytes.len() as u64).to_le_bytes().to_vec();
    for (number, page) in bytes.chunks(PAGE).enumerate() {
        let filled = page.len() - page.iter().rev().take_while(|byte| **byte == 0).count();
        if filled != 0 {
            kept.extend_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
            kept.extend_from_slice(&u32::try_from(filled).unwrap().to_le_bytes());
            kept.extend_from_slice(&page[..filled]);
        }
    }
    fs::write(to, kept).unwrap();
}

/// The file again.
pub fn expand(from: &Path, to: &Path) {
    let kept = fs::read(from).unwrap();
    let (size, mut rest) = kept.split_at(8);
    let mut bytes = vec![0; usize::try_from(u64::from_le_bytes(size.try_into().unwrap())).unwrap()];
    while !rest.is_empty() {
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap()) as usize;
        let (at, filled) = (number(&rest[..4]) * PAGE, number(&rest[4..8]));
        bytes[at..at + filled].copy_from_slice(&rest[8..8 + filled]);
        rest = &rest[8 + filled..];
    }
    fs::write(to, bytes).unwrap();
}
