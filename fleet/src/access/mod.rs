//! Who may do what. The coordinator asks [`may`] before every call; whatever changes something takes the [`Permit`] that
//! only [`may`] makes.
//!
//! Everybody reads everything, for what is read is masked. Who changes something needs a role, and the role has to reach
//! everything that the change reaches: a [`Target`] is what really changes, not what was asked for.

mod action;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, net::IpAddr};

pub use action::Action;

use crate::{
    finding::names_at_most,
    ids::{GroupName, NodeName, OperatorName},
    spec::SecretName,
};

/// Names that a refusal lists.
const NAMED_MAX: usize = 3;

/// The operator that a coordinator makes at its first start. It is admin of the whole fleet and has no record.
pub const FIRST_OPERATOR: &str = "admin";

/// What somebody is. Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Changes servers and what they run.
    Operator,
    /// Also says who may do that.
    Admin,
}

impl Role {
    /// Every role, the least powerful first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far a role reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything, also what belongs to no group.
    Fleet,
    /// Nodes and rules of these groups.
    Groups(BTreeSet<GroupName>),
}

impl Scope {
    /// These groups; without any: the whole fleet.
    pub fn of(groups: BTreeSet<GroupName>) -> Self {
        if groups.is_empty() { Self::Fleet } else { Self::Groups(groups) }
    }

    /// The groups; none for the whole fleet.
    pub fn groups(&self) -> impl Iterator<Item = &GroupName> {
        match self {
            Self::Fleet => None,
            Self::Groups(groups) => Some(groups),
        }
        .into_iter()
        .flatten()
    }

    fn covers(&self, target: &Target) -> bool {
        match (self, target) {
            (Self::Fleet, _) => true,
            (Self::Groups(own), Target::Group(group)) => own.contains(group),
            (
                Self::Groups(_),
                Target::NoGroup(_) | Target::Fleet | Target::ForeignSecret { .. } | Target::Secret(_),
            ) => false,
        }
    }

    /// What somebody else's scope of this kind consists of.
    pub fn as_targets(&self) -> Targets {
        match self {
            Self::Fleet => [Target::Fleet].into(),
            Self::Groups(groups) => groups.iter().cloned().map(Target::Group).collect(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("the whole fleet"),
            Self::Groups(groups) if groups.len() == 1 => {
                write!(f, "group {}", names_at_most(NAMED_MAX, groups.iter().map(GroupName::as_str)))
            }
            Self::Groups(groups) => {
                write!(f, "groups {}", names_at_most(NAMED_MAX, groups.iter().map(GroupName::as_str)))
            }
        }
    }
}

/// What an operator was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What they are.
    pub role: Role,
    /// Of what.
    pub scope: Scope,
}

impl Grant {
    /// Of the first operator.
    pub const fn first() -> Self {
        Self { role: Role::Admin, scope: Scope::Fleet }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.role, self.scope)
    }
}

/// Somebody who is known, and what they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub name: OperatorName,
    /// What they were given.
    pub grant: Grant,
    /// The version of the record that says so; 0 without a record. What they change is stored only if it is still this one.
    pub version: u64,
    /// Of the certificate that they showed, hexadecimal; empty if none was shown.
    pub serial: String,
    /// The address that their connection came from, as this end sees it; `None`: not known.
    pub from: Option<IpAddr>,
}

/// Something that an act reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Nodes or rules of a group.
    Group(GroupName),
    /// A node that the newest revision puts into no group.
    NoGroup(NodeName),
    /// Rules or rights of the whole fleet.
    Fleet,
    /// A secret that a group has not got, and was not granted.
    ForeignSecret {
        /// Which.
        secret: SecretName,
        /// The group that it would reach.
        group: GroupName,
    },
    /// The value of a secret that belongs to no group.
    Secret(SecretName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => write!(f, "group {group}"),
            Self::NoGroup(node) => write!(f, "the whole fleet, because {node} is in no group"),
            Self::Fleet => f.write_str("the whole fleet"),
            Self::ForeignSecret { secret, group } => {
                write!(f, "the whole fleet, because the secret {secret} was not granted to group {group}")
            }
            Self::Secret(secret) => {
                write!(f, "the whole fleet, because the secret {secret} was granted to no group")
            }
        }
    }
}

/// Everything that an act reaches. Empty: the role alone decides.
pub type Targets = BTreeSet<Target>;

/// Proof that somebody may do something. Only [`may`] makes one.
#[derive(Debug)]
pub struct Permit {
    who: Principal,
    action: Action,
    targets: Targets,
}

impl Permit {
    /// Who.
    pub fn operator(&self) -> &OperatorName {
        &self.who.name
    }

    /// Who, and what they were given.
    pub fn principal(&self) -> &Principal {
        &self.who
    }

    /// What they may do.
    pub fn action(&self) -> Action {
        self.action
    }

    /// To what.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }
}

/// Why somebody may not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Who, and what they were given.
    pub who: Principal,
    /// What they wanted.
    pub action: Action,
    /// What of it is beyond them; empty if their role is.
    pub beyond: Targets,
    /// Others who may; see [`Denied::with_able`].
    pub able: Vec<OperatorName>,
}

impl Denied {
    /// Names those of `others` who may do it.
    #[must_use]
    pub fn with_able<'a>(mut self: Box<Self>, others: impl Iterator<Item = &'a Principal>) -> Box<Self> {
        let may = others.filter(|other| may(other, self.action, &self.beyond).is_ok());
        self.able = may.map(|other| other.name.clone()).collect();
        self
    }
}

impl std::error::Error for Denied {}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, action, beyond, able } = self;
        write!(f, "{} is {}; {} takes the role {}", who.name, who.grant, action.doing(), action.needs())?;
        let beyond: Vec<String> = beyond.iter().take(NAMED_MAX).map(Target::to_string).collect();
        if !beyond.is_empty() {
            write!(f, " for {}", beyond.join(" and "))?;
        }
        let able: Vec<&str> = able.iter().take(NAMED_MAX).map(OperatorName::as_str).collect();
        if able.is_empty() { Ok(()) } else { write!(f, "; ask {}", able.join(" or ")) }
    }
}

/// Whether somebody may do something to all of `targets`.
///
/// # Errors
/// Says what is beyond them: the role, or some of the targets.
pub fn may(who: &Principal, action: Action, targets: &Targets) -> Result<Permit, Box<Denied>> {
    let denied = |beyond| Box::new(Denied { who: who.clone(), action, beyond, able: Vec::new() });
    if who.grant.role < action.needs() {
        return Err(denied(targets.clone()));
    }
    let beyond: Targets = match action.needs() {
        // Reading reaches everything.
        Role::Viewer => Targets::new(),
        Role::Operator | Role::Admin => {
            targets.iter().filter(|target| !who.grant.scope.covers(target)).cloned().collect()
        }
    };
    if beyond.is_empty() {
        Ok(Permit { who: who.clone(), action, targets: targets.clone() })
    } else {
        Err(denied(beyond))
    }
}
