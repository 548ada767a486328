//! `alert`, meant.

use crate::args;

/// `alert`.
#[derive(Debug)]
pub enum AlertAct {
    List {
        /// Also what does not count yet, and what is over.
        all: bool,
    },
    Show {
        /// A node, a rule or a subject.
        what: String,
    },
    Test {
        channel: String,
    },
}

impl From<args::Alert> for AlertAct {
    fn from(typed: args::Alert) -> Self {
        match typed {
            args::Alert::List { all } => AlertAct::List { all },
            args::Alert::Show { what } => AlertAct::Show { what },
            args::Alert::Test { channel } => AlertAct::Test { channel },
        }
    }
}
