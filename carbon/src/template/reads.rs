//! Which keys a template reads.

use super::nodes::Node;

/// One key that a template reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read;

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadKind {}

pub fn of(_nodes: &[Node]) -> Vec<Read> {
    Vec::new()
}
