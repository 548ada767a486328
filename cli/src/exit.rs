//! How a command ends, as a type. The numbers are a promise: scripts match on them.

use std::{error::Error, fmt, process::ExitCode};

use serde::Serialize;

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// What was asked for has happened.
    Done,
    /// It went wrong, or what was given has errors.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// A guard said no: not confirmed, a stale parent, a budget.
    Refused,
    /// It goes on without this command.
    InProgress,
    /// `plan --exit-code`: an apply would change something.
    Changes,
}

impl Exit {
    /// Every way to end.
    pub const ALL: [Exit; 6] =
        [Exit::Done, Exit::Failed, Exit::Usage, Exit::Refused, Exit::InProgress, Exit::Changes];

    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::InProgress => 4,
            Exit::Changes => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command did not do what was asked, and what to do next.
#[derive(Debug)]
pub struct Failure {
    /// How the command ends.
    pub exit: Exit,
    /// What went wrong, one sentence without a full stop.
    pub what: String,
    /// What to do about it; may be empty when `what` says it all.
    pub remedy: String,
    /// It may work a moment later.
    pub is_transient: bool,
    /// This operator may not do it.
    pub is_denied: bool,
    /// What caused it.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// Something went wrong.
    pub fn failed(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            what: what.into(),
            remedy: remedy.into(),
            is_transient: false,
            is_denied: false,
            source: None,
        }
    }

    /// The command line makes no sense.
    pub fn usage(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            what: what.into(),
            remedy: remedy.into(),
            is_transient: false,
            is_denied: false,
            source: None,
        }
    }

    /// A guard said no.
    pub fn refused(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            exit: Exit::Refused,
            what: what.into(),
            remedy: remedy.into(),
            is_transient: false,
            is_denied: false,
            source: None,
        }
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The texts of the causes, nearest first.
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next: Option<&dyn Error> = match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        };
        while let Some(error) = next {
            let text = error.to_string();
            // Several layers of a transport repeat the text of the layer below.
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            next = error.source();
        }
        causes
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_a_promise() {
        let table: Vec<_> = Exit::ALL.iter().map(|exit| (format!("{exit:?}"), exit.code())).collect();
        let expected =
            [("Done", 0), ("Failed", 1), ("Usage", 2), ("Refused", 3), ("InProgress", 4), ("Changes", 5)];
        assert_eq!(table, expected.map(|(name, code)| (name.to_owned(), code)));
    }
}
