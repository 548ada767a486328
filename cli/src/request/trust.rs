//! `convoy trust`, as meant.

use std::path::PathBuf;

use crate::args;

/// `trust`.
#[derive(Debug)]
pub struct Trust {
    pub dir: PathBuf,
    pub out: Option<PathBuf>,
    pub base: Option<PathBuf>,
    pub add: Vec<PathBuf>,
    pub secrets: Option<PathBuf>,
}

impl From<args::Trust> for Trust {
    fn from(typed: args::Trust) -> Self {
        let args::Trust { dir, out, base, add, secrets_file } = typed;
        Self { dir, out, base, add, secrets: secrets_file }
    }
}
