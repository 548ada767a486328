//! Where a fleet directory came from: the commit that it was at, as the program of its author read it from Git.
//!
//! Nobody checks it: whoever may apply a directory can say that it came from anywhere. It tells people where to look.

use std::fmt;

use crate::foreign::printable;

/// Bytes of the name of a branch, and of an author.
const TEXT_MAX: usize = 300;

/// The commit that a directory was at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    commit: String,
    branch: Option<String>,
    author: String,
    changed: u32,
}

/// Why something is no commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no commit: 40 or 64 hexadecimal digits are")]
pub struct NoCommit(String);

impl Origin {
    /// Texts are made printable and cut to 300 bytes. An empty branch is none.
    ///
    /// # Errors
    /// The commit is not 40 or 64 hexadecimal digits in lower case.
    pub fn new(commit: &str, branch: &str, author: &str, changed: u32) -> Result<Self, NoCommit> {
        let is_hex = commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex || !matches!(commit.len(), 40 | 64) {
            return Err(NoCommit(bounded(commit)));
        }
        Ok(Self {
            commit: commit.to_owned(),
            branch: Some(bounded(branch)).filter(|branch| !branch.is_empty()),
            author: bounded(author),
            changed,
        })
    }

    /// Its name, hexadecimal.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The branch that was checked out, if one was.
    pub fn branch(&self) -> Option<&str> {
        self.branch.as_deref()
    }

    /// Who made the commit, by its own word.
    pub fn author(&self) -> &str {
        &self.author
    }

    /// How many files of the directory were not as committed: changed, missing, or in no commit.
    pub fn changed(&self) -> u32 {
        self.changed
    }

    /// Every file was as committed.
    pub fn is_clean(&self) -> bool {
        self.changed == 0
    }
}

/// `commit 1a2b… on main by Ann <ann@example.org>, clean`, with all digits.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {}", self.commit)?;
        if let Some(branch) = &self.branch {
            write!(f, " on {branch}")?;
        }
        if !self.author.is_empty() {
            write!(f, " by {}", self.author)?;
        }
        match self.changed {
            0 => f.write_str(", clean"),
            1 => f.write_str(", with 1 file that is not as committed"),
            more => write!(f, ", with {more} files that are not as committed"),
        }
    }
}

fn bounded(text: &str) -> String {
    let text = printable(text.trim());
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= TEXT_MAX).last();
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "1a2b3c4d5e6f7a8b9c0d1a2b3c4d5e6f7a8b9c0d";

    #[test]
    fn an_origin_is_one_clause() {
        let shown =
            |branch, author, changed| Origin::new(COMMIT, branch, author, changed).unwrap().to_string();
        let commit = |rest: &str| format!("commit {COMMIT}{rest}");
        assert_eq!(shown("main", "Ann <a@b.c>", 0), commit(" on main by Ann <a@b.c>, clean"));
        assert_eq!(shown("", "", 1), commit(", with 1 file that is not as committed"));
        assert_eq!(shown(" ", "", 12), commit(", with 12 files that are not as committed"));
    }

    #[test]
    fn a_commit_is_hexadecimal_and_of_a_length_that_git_has() {
        for bad in ["", "1a2b", "HEAD", &COMMIT[1..], &COMMIT.to_uppercase(), &"é".repeat(20)] {
            assert!(Origin::new(bad, "", "", 0).is_err(), "{bad}");
        }
        assert!(Origin::new(&"0".repeat(64), "", "", 0).is_ok());
    }

    #[test]
    fn texts_are_bounded_and_move_no_cursor() {
        let origin = Origin::new(COMMIT, &"ä".repeat(400), "Ann\u{1b}[2J\nBob", 0).unwrap();
        assert_eq!(origin.branch().unwrap(), "ä".repeat(150));
        assert_eq!(origin.author(), "Ann\\u001b[2J Bob");
    }
}
