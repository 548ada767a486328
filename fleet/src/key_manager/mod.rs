//! Key Managers that an API Manager shall know: what a fleet declares of one, and the rules by which one agent makes the
//! Admin API agree with it (docs/decisions/0067-key-managers-are-registered-by-one-agent.md).
//!
//! Values and decisions only. Nothing here, printed or told, shows a secret.

pub mod body;
pub mod found;
pub mod seen;
pub mod work;

use std::{fmt, time::Duration};

use crate::{
    bundle::DriftPolicy,
    ids::{Digest, NodeName},
    spec::Secret,
};

/// The most Key Managers of one group.
pub const KEY_MANAGERS_MAX: usize = 16;
/// The longest name of one, as the Admin API has it; characters.
pub const NAME_MAX: usize = 100;
/// The longest URL, name of a user, or grant type; bytes.
pub const TEXT_MAX: usize = 512;
/// The most grant types.
pub const GRANTS_MAX: usize = 32;
/// The shortest time between two looks.
pub const CHECK_MIN: Duration = Duration::from_secs(1);
/// The longest.
pub const CHECK_MAX: Duration = Duration::from_secs(24 * 3600);

/// Which connector of the API Manager speaks to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connector {
    /// Identity Server 7, from API Manager 4.3 on.
    Is7,
    /// Identity Server 5.10 to 6, with `keymanager-operations.war`.
    Is,
}

impl Connector {
    /// Every one with the `type` of the Admin API.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Is7, "WSO2-IS-7"), (Self::Is, "WSO2-IS")];

    /// The `type` of the Admin API.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("WSO2-IS-7", |(_, word)| word)
    }
}

/// Who logs in somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// The Admin API of an API Manager on its own host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminApi {
    /// `https://localhost:PORT`, without a path.
    pub url: String,
    /// An administrator.
    pub account: Account,
    /// SHA-256 of the only certificate that is accepted; `None`: pinned on first use, as probes do.
    pub certificate: Option<Digest>,
}

/// One Key Manager, as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// By which the Admin API tells it from others.
    pub name: String,
    /// Of the API Manager.
    pub connector: Connector,
    /// The Identity Server as the API Manager reaches it: `https://host[:port]`.
    pub server: String,
    /// What the portal shows of it.
    pub display_name: String,
    /// Offered to applications; sorted, none twice.
    pub grant_types: Vec<String>,
    /// Create the roles of scopes on the Identity Server; `None`: as the API Manager has it.
    pub role_creation: Option<bool>,
    /// Whom the API Manager is on the Identity Server.
    pub account: Account,
    /// What is done about a change in the portal.
    pub drift: DriftPolicy,
    /// Between two looks.
    pub check_interval: Duration,
    /// Where it is registered.
    pub admin: AdminApi,
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.connector.as_str(), self.server)?;
        write!(f, ", grants {}", self.grant_types.join(" "))?;
        match self.role_creation {
            Some(true) => f.write_str(", creates roles")?,
            Some(false) => f.write_str(", creates no roles")?,
            None => {}
        }
        write!(f, ", as {}, drift {}", self.account.user, format!("{:?}", self.drift).to_lowercase())
    }
}

impl Registration {
    /// What makes it impossible or unsafe. Checked where it is composed and again where it arrives.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        if !is_name(&self.name) {
            return Some(("name", "is empty, longer than 100 characters, or holds a control character"));
        }
        if !is_base(&self.server) {
            return Some((
                "url",
                "is not https://host or https://host:port, without path, user and password",
            ));
        }
        if !is_base(&self.admin.url) {
            return Some(("admin url", "is not https://host:port"));
        }
        if self.grant_types.is_empty() || GRANTS_MAX < self.grant_types.len() {
            return Some(("grant_types", "are none, or more than 32"));
        }
        if !self.grant_types.iter().all(|grant| is_word(grant)) {
            return Some(("grant_types", "hold one that is empty, too long, or has a space in it"));
        }
        if !is_user(&self.account.user) {
            return Some(("username", "is empty, too long, or holds a colon or a control character"));
        }
        if !is_user(&self.admin.account.user) {
            return Some(("admin_user", "is empty, too long, or holds a colon or a control character"));
        }
        if !is_name(&self.display_name) {
            return Some((
                "display_name",
                "is empty, longer than 100 characters, or holds a control character",
            ));
        }
        (!(CHECK_MIN..=CHECK_MAX).contains(&self.check_interval))
            .then_some(("check_interval", "is not 1 s to 24 h"))
    }
}

fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= NAME_MAX && !text.chars().any(char::is_control)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_MAX && text.chars().all(|c| c.is_ascii_graphic() && c != ',')
}

/// Basic authorisation ends a name at its first colon.
fn is_user(text: &str) -> bool {
    is_name(text) && !text.contains(':')
}

/// Scheme, host and perhaps a port.
fn is_base(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    !rest.is_empty() && url.len() <= TEXT_MAX && rest.chars().all(plain)
}

/// A Key Manager of the group that another node keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// Of the Key Manager.
    pub name: String,
    /// The node.
    pub keeper: NodeName,
}

/// The Key Managers of a node's group: those that this node keeps, or who keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyManagers {
    /// Registered by the agent of this node, in the order of the fleet.
    pub kept: Vec<Registration>,
    /// Registered by another.
    pub elsewhere: Vec<Elsewhere>,
}

impl KeyManagers {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.elsewhere.is_empty()
    }

    /// The one of that name, if this node keeps it.
    pub fn kept(&self, name: &str) -> Option<&Registration> {
        self.kept.iter().find(|registration| registration.name == name)
    }

    /// Whether another node keeps the one of that name.
    pub fn is_elsewhere(&self, name: &str) -> bool {
        self.elsewhere.iter().any(|other| other.name == name)
    }

    /// The text that the digest of a bundle rests on, secrets among it; `None` if there are none.
    pub(crate) fn canonical(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let secret = |account: &Account| format!("{:?}", (&account.user, account.password.expose()));
        let kept = self.kept.iter().map(|one| {
            format!(
                "{:?} {} {:?} {:?} {:?} {:?} {} {:?} {:?} {:?} {} {:?}\n",
                one.name,
                one.connector.as_str(),
                one.server,
                one.display_name,
                one.grant_types,
                one.role_creation,
                secret(&one.account),
                one.drift,
                one.check_interval,
                one.admin.url,
                secret(&one.admin.account),
                one.admin.certificate,
            )
        });
        let elsewhere = self.elsewhere.iter().map(|other| format!("{:?} {}\n", other.name, other.keeper));
        Some(kept.chain(elsewhere).collect())
    }
}

#[cfg(test)]
mod tests;
