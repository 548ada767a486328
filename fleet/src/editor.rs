//! Who wrote a managed file, as the host tells it: a process, and whose it is.

use std::fmt;

use crate::foreign::printable;

/// Upper bound of one word about a process, characters: the kernel cuts names of programs at 15 bytes, `useradd` those of
/// users at 32.
pub const WORD_MAX: usize = 64;
/// Upper bound of processes that are named for one difference.
pub const EDITORS_MAX: usize = 3;

/// One process that wrote a file. Everything in it comes from the host, so [`Editor::bounded`] is applied wherever it
/// enters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Editor {
    /// Its number; 0 if the agent's host does not show it, such as one outside of the agent's container.
    pub pid: u32,
    /// Name of the program, as the kernel has it; empty: it had ended before it could be looked at.
    pub process: String,
    /// The user with whose rights it wrote; a number if that has no name.
    pub user: String,
    /// The user who logged in, whoever he has become since (`su`, `sudo`); empty: nobody did, as for a service.
    pub login: String,
    /// Name of the program that started it; empty if that has ended.
    pub parent: String,
    /// Such as `pts/3`; empty if it has none.
    pub terminal: String,
    /// Address from which its session came over SSH; empty if it did not, or may not be read.
    pub remote: String,
    /// It is the WSO2 server of that home.
    pub is_server: bool,
    /// Where nobody can be seen writing: what can be told all the same.
    pub circumstances: Option<Circumstances>,
}

/// What is known of the moment at which an edit was found, where the host does not say who made it. None of it names
/// whoever made the edit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Circumstances {
    /// Who owned the file as it was found; a number if that has no name, empty if the file was gone.
    pub owner: String,
    /// The terminals that were open, such as `deploy on pts/0`; at most [`TERMINALS_MAX`].
    pub terminals: Vec<String>,
}

/// Upper bound of terminals that are named.
pub const TERMINALS_MAX: usize = 8;

/// `owner of the file: deploy; terminals open then: deploy on pts/0`.
impl fmt::Display for Circumstances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner.as_str() {
            "" => f.write_str("the file was gone")?,
            owner => write!(f, "owner of the file: {owner}")?,
        }
        match self.terminals.as_slice() {
            [] => f.write_str("; no terminal was open then"),
            all => write!(f, "; terminals open then: {}", all.join(", ")),
        }
    }
}

impl Editor {
    /// With words of one line each, that a terminal shows and does not act on, of [`WORD_MAX`] characters at most.
    #[must_use]
    pub fn bounded(self) -> Self {
        let word = |text: &str| printable(text).chars().take(WORD_MAX).collect::<String>();
        Self {
            pid: self.pid,
            process: word(&self.process),
            user: word(&self.user),
            login: word(&self.login),
            parent: word(&self.parent),
            terminal: word(&self.terminal),
            remote: word(&self.remote),
            is_server: self.is_server,
            circumstances: self.circumstances.map(|found| Circumstances {
                owner: word(&found.owner),
                terminals: found.terminals.iter().take(TERMINALS_MAX).map(|text| word(text)).collect(),
            }),
        }
    }

    /// Whether more than its number is known.
    pub fn is_known(&self) -> bool {
        !self.process.is_empty()
    }

    /// For a narrow column: the user who logged in, or as whom it ran, and the program.
    pub fn short(&self) -> String {
        if self.is_server {
            return "the server".to_owned();
        }
        if !self.is_known() {
            return "unknown".to_owned();
        }
        let user = if self.login.is_empty() { &self.user } else { &self.login };
        format!("{user} ({})", self.process)
    }
}

/// One sentence's worth: `alice as root with sed (process 812, started by bash) on pts/3 from 10.1.2.3`.
impl fmt::Display for Editor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_server {
            return write!(f, "the server itself (process {})", self.pid);
        }
        if let Some(circumstances) = &self.circumstances {
            return write!(f, "somebody who was not seen ({circumstances})");
        }
        if !self.is_known() {
            return match self.pid {
                0 => f.write_str("a process that cannot be seen from here"),
                pid => write!(f, "process {pid}, which had ended before it could be looked at"),
            };
        }
        match (self.login.as_str(), self.user.as_str()) {
            ("", user) => write!(f, "{user} (no login)")?,
            (login, user) if login == user => f.write_str(user)?,
            (login, user) => write!(f, "{login} as {user}")?,
        }
        write!(f, " with {} (process {}", self.process, self.pid)?;
        if !self.parent.is_empty() {
            write!(f, ", started by {}", self.parent)?;
        }
        f.write_str(")")?;
        if !self.terminal.is_empty() {
            write!(f, " on {}", self.terminal)?;
        }
        if !self.remote.is_empty() {
            write!(f, " from {}", self.remote)?;
        }
        Ok(())
    }
}

/// All of them, newest first, as one clause; `None` if there is nobody to name.
pub fn named(editors: &[Editor]) -> Option<String> {
    let mut words = editors.iter().map(Editor::to_string);
    let newest = words.next()?;
    Some(words.fold(newest, |all, next| format!("{all}; before that {next}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Editor {
        Editor {
            pid: 812,
            process: "sed".into(),
            user: "root".into(),
            login: "alice".into(),
            parent: "bash".into(),
            terminal: "pts/3".into(),
            remote: "10.1.2.3".into(),
            is_server: false,
            circumstances: None,
        }
    }

    fn unseen(owner: &str, terminals: &[&str]) -> Editor {
        let terminals = terminals.iter().map(|text| (*text).to_owned()).collect();
        let circumstances = Some(Circumstances { owner: owner.to_owned(), terminals });
        Editor { circumstances, ..Editor::default() }
    }

    #[test]
    fn an_editor_is_one_clause_and_nothing_is_made_up() {
        let cases = [
            (alice(), "alice as root with sed (process 812, started by bash) on pts/3 from 10.1.2.3"),
            (
                Editor { user: "alice".into(), remote: String::new(), ..alice() },
                "alice with sed (process 812, started by bash) on pts/3",
            ),
            (
                Editor { pid: 9, process: "cron".into(), user: "root".into(), ..Editor::default() },
                "root (no login) with cron (process 9)",
            ),
            (
                Editor { pid: 9, ..Editor::default() },
                "process 9, which had ended before it could be looked at",
            ),
            (Editor::default(), "a process that cannot be seen from here"),
            (Editor { is_server: true, ..alice() }, "the server itself (process 812)"),
            (
                unseen("deploy", &["deploy on pts/0", "root on pts/1"]),
                "somebody who was not seen (owner of the file: deploy; terminals open then: deploy on pts/0, root on pts/1)",
            ),
            (unseen("", &[]), "somebody who was not seen (the file was gone; no terminal was open then)"),
        ];
        for (editor, said) in cases {
            assert_eq!(editor.to_string(), said);
        }
        assert_eq!(alice().short(), "alice (sed)");
        assert_eq!(unseen("deploy", &["deploy on pts/0"]).short(), "unknown", "nobody is named");
        assert_eq!(Editor { pid: 9, ..Editor::default() }.short(), "unknown");
        let both = named(&[Editor { pid: 9, ..Editor::default() }, alice()]).unwrap();
        assert!(both.starts_with("process 9, ") && both.contains("; before that alice as root"), "{both}");
        assert_eq!(named(&[]), None);
    }

    #[test]
    fn a_program_that_names_itself_for_a_terminal_is_only_shown() {
        let editor = Editor { process: format!("\u{1b}[2J{}", "x".repeat(100)), ..alice() }.bounded();
        assert!(!editor.to_string().contains('\u{1b}') && editor.process.chars().count() == WORD_MAX);
    }
}
