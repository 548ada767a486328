//! Join tokens.

use serde::Serialize;

use super::When;

/// Output of `token create`.
#[derive(Debug, Serialize)]
pub struct JoinToken {
    pub node: String,
    pub token: String,
    pub expires: When,
    /// What is doubtful about it; it was made all the same.
    pub warnings: Vec<String>,
}

/// Output of `node admit`.
#[derive(Debug, Serialize)]
pub struct Admitted {
    pub node: String,
    /// Of the host's key, `sha256:` and hexadecimal.
    pub key: String,
    /// Of the authority that the host will trust.
    pub authority: String,
    /// End of the certificate.
    pub expires: When,
    /// Whose certificate ended with that, as a sentence.
    pub replaces: Option<String>,
    /// The text for `convoy-agent enroll --answer`.
    pub answer: String,
}

/// Output of `token create --all-missing`. The tokens are in the files.
#[derive(Debug, Serialize)]
pub struct TokenFiles {
    /// Nodes of the fleet directory.
    pub nodes: usize,
    pub files: Vec<TokenFile>,
}

/// One token in a file.
#[derive(Debug, Serialize)]
pub struct TokenFile {
    pub node: String,
    pub path: String,
    pub expires: When,
}
