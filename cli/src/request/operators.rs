//! `operator`, `join` and `context`, meant.

use std::{collections::BTreeSet, time::Duration};

use fleet::{
    access::{Grant, Role, Scope},
    ids::{GroupName, OperatorName},
    token::OperatorToken,
};

use super::{Confirm, confirm, duration, only::groups_named};
use crate::{args, exit::Failure};

/// `operator`.
#[derive(Debug)]
pub enum OperatorAct {
    /// Somebody new, or another token for somebody who is known.
    Add {
        name: OperatorName,
        grant: Option<Grant>,
        valid: Duration,
    },
    List,
    Set {
        name: OperatorName,
        grant: Grant,
    },
    Remove {
        name: OperatorName,
        confirm: Confirm,
    },
}

/// `join`.
pub struct Join {
    /// `None`: on standard input.
    pub token: Option<OperatorToken>,
    /// Of the context that is written.
    pub name: Option<ContextName>,
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `context`.
#[derive(Debug)]
pub enum ContextAct {
    List,
    Use { name: ContextName },
}

/// The name of a context, which is a file's name too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextName(String);

impl ContextName {
    /// Letters, digits, `-`, `_` and `.`, not beginning with `.`.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let good = (1..=100).contains(&text.len()) && text.chars().all(fits) && !text.starts_with('.');
        good.then(|| Self(text.to_owned()))
    }

    /// As typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ContextName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

pub(super) fn operator(typed: args::Operator) -> Result<OperatorAct, Failure> {
    Ok(match typed {
        args::Operator::Add { name: who, role, group, again, valid } => {
            let grant = match (role, again) {
                (Some(role), false) => Some(grant(&role, &group)?),
                (None, true) => None,
                (None, false) => {
                    return Err(Failure::usage(
                        format!("which role {who} gets is not said"),
                        format!("as in `convoy operator add {who} --role viewer`; there are {}", roles()),
                    ));
                }
                (Some(_), true) => {
                    return Err(Failure::usage(
                        "--again makes another token and leaves the role as it is",
                        format!("`convoy operator set {who} --role ROLE` changes the role"),
                    ));
                }
            };
            OperatorAct::Add { name: name(&who)?, grant, valid: duration("--valid", &valid)? }
        }
        args::Operator::List => OperatorAct::List,
        args::Operator::Set { name: who, role, group } => {
            OperatorAct::Set { name: name(&who)?, grant: grant(&role, &group)? }
        }
        args::Operator::Remove { name: who, yes } => {
            OperatorAct::Remove { name: name(&who)?, confirm: confirm(yes) }
        }
    })
}

pub(super) fn join(token: &str, name: Option<&str>) -> Result<Join, Failure> {
    let token = match token {
        "-" => None,
        text => Some(parse_token(text)?),
    };
    Ok(Join { token, name: name.map(context_name).transpose()? })
}

/// A token as it was printed.
pub fn parse_token(text: &str) -> Result<OperatorToken, Failure> {
    OperatorToken::parse(text).map_err(|error| {
        Failure::usage(error.to_string(), "an admin makes one with `convoy operator add NAME --role ROLE`")
    })
}

pub(super) fn context(typed: args::ContextCommand) -> Result<ContextAct, Failure> {
    Ok(match typed {
        args::ContextCommand::List => ContextAct::List,
        args::ContextCommand::Use { name } => ContextAct::Use { name: context_name(&name)? },
    })
}

fn context_name(text: &str) -> Result<ContextName, Failure> {
    ContextName::parse(text).ok_or_else(|| {
        Failure::usage(
            format!("{text:?} cannot be the name of a context: use letters, digits, '-', '_' and '.'"),
            "`convoy context list` shows the names",
        )
    })
}

fn name(text: &str) -> Result<OperatorName, Failure> {
    OperatorName::parse(text).map_err(|error| {
        Failure::usage(format!("this is not an operator's name: {error}"), "as in alice or ci-deploy")
    })
}

fn roles() -> String {
    Role::ALL.map(Role::as_str).join(", ")
}

fn grant(role: &str, groups: &[String]) -> Result<Grant, Failure> {
    let role = Role::parse(role)
        .ok_or_else(|| Failure::usage(format!("{role:?} is not a role"), format!("there are {}", roles())))?;
    let groups: BTreeSet<GroupName> = groups_named(groups)?.into_iter().collect();
    if role == Role::Viewer && !groups.is_empty() {
        return Err(Failure::usage(
            "a viewer sees the whole fleet, so --group says nothing",
            "leave it out, or give the role operator",
        ));
    }
    Ok(Grant { role, scope: Scope::of(groups) })
}
