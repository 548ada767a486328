//! Port offsets for tests: blocks that no two tests, in whichever process, hold at once.
//!
//! Blocks are spaced so that no port of one meets a port of another, whatever the products: all base ports differ
//! modulo the stride by at least the block's width. All ports stay below 32768, where no client port is taken from.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::net::TcpListener;
use std::ops::Range;

/// Offsets per block.
const WIDTH: u16 = 8;
/// Distance of two blocks; see the test.
const STRIDE: u16 = 276;
const BLOCKS: Range<u16> = 1..83;
/// Every port that any product opens, before the offset.
const BASE_PORTS: [u16; 12] = [5672, 8021, 8099, 8243, 8280, 8672, 9021, 9099, 9443, 9611, 9711, 9763];

/// Eight offsets in a row, ours until this is dropped.
#[derive(Debug)]
pub struct OffsetLease {
    first: u16,
    /// The lock on this file is the lease; the system releases it even if the test is killed.
    _lock: File,
}

/// Why there is no block to be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("cannot use the directory of the offset leases")]
    Directory(#[source] io::Error),
    #[error("all blocks of port offsets are in use")]
    Exhausted,
}

impl OffsetLease {
    /// Takes a free block: its lock can be had and no port of it is in use.
    pub fn take() -> Result<OffsetLease, LeaseError> {
        let directory = std::env::temp_dir().join(format!("convoy-offsets{}", user()));
        fs::create_dir_all(&directory).map_err(LeaseError::Directory)?;
        // Processes start at different blocks, so that they seldom try the same one.
        let start = u16::try_from(std::process::id() % u32::from(BLOCKS.end)).unwrap_or(0);
        for step in 0..BLOCKS.end {
            let block = (start + step) % BLOCKS.end;
            if !BLOCKS.contains(&block) {
                continue;
            }
            let path = directory.join(format!("{block}.lock"));
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
            let file = file.map_err(LeaseError::Directory)?;
            match file.try_lock() {
                Ok(()) if is_free(block) => return Ok(OffsetLease { first: block * STRIDE, _lock: file }),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(LeaseError::Directory(error)),
            }
        }
        Err(LeaseError::Exhausted)
    }

    /// The n-th offset of the block.
    ///
    /// # Panics
    /// If the block has no such offset.
    pub fn offset(&self, index: u16) -> u16 {
        assert!(index < WIDTH, "a lease holds {WIDTH} offsets");
        self.first + index
    }
}

/// Users do not share the lock files: one could not open another's. The look at the ports covers the rest.
#[cfg(unix)]
fn user() -> String {
    format!("-{}", rustix::process::getuid().as_raw())
}

#[cfg(not(unix))]
fn user() -> String {
    String::new()
}

fn is_free(block: u16) -> bool {
    let ports = BASE_PORTS.iter().flat_map(|base| (0..WIDTH).map(move |index| base + block * STRIDE + index));
    ports.into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::pack::Product;

    #[test]
    fn no_port_of_one_block_is_a_port_of_another() {
        let residues: BTreeSet<u16> =
            BASE_PORTS.iter().flat_map(|base| (0..WIDTH).map(move |index| (base + index) % STRIDE)).collect();
        assert_eq!(residues.len(), BASE_PORTS.len() * usize::from(WIDTH));
        let highest = 9763 + (BLOCKS.end - 1) * STRIDE + WIDTH;
        assert!(highest < 32_768, "{highest}");
    }

    #[test]
    fn the_blocks_are_spaced_for_every_product() {
        for product in Product::all() {
            for port in product.ports() {
                assert!(BASE_PORTS.contains(&port.number), "{product}: {}", port.number);
            }
        }
    }

    #[test]
    fn two_leases_differ() {
        let (one, other) = (OffsetLease::take().expect("a block"), OffsetLease::take().expect("a block"));
        assert_ne!(one.offset(0), other.offset(0));
    }
}
