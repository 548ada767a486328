//! What can be asked of a coordinator, as far as it makes a difference who asks.

use std::fmt;

use super::Role;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Read anything that is masked, plans included.
    Look,
    /// Read the deployment.toml of a host as it is, passwords included.
    ReadHost,
    /// Read the logs of a node, secrets masked.
    ReadLogs,
    /// Apply a fleet directory. Judged by what it changes.
    Apply,
    /// Go back to an earlier revision. Judged by what it changes.
    RollBack,
    /// Approve what somebody else proposes. Judged by what it changes.
    Approve,
    /// End a proposal.
    Reject,
    /// Restart a server.
    Restart,
    /// Stop a server, or start it again.
    SetRun,
    /// Put back what lay on a host before the first apply.
    ReturnToOriginal,
    /// Remove a node that is no longer applied.
    Forget,
    /// Void the certificate of a node.
    RevokeNode,
    /// Pause, resume, abort or promote a rollout.
    ControlRollout,
    /// Restore, accept, pause or resume drift.
    ControlDrift,
    /// Make a join token for a node, which then gets the node's files.
    MakeToken,
    /// Sign the request of a host that joins without a token.
    AdmitNode,
    /// Set or remove the value of a secret.
    ChangeSecret,
    /// Send a test message to a channel of alerts.
    TestChannel,
    /// Begin or end a silence of alerts.
    Silence,
    /// Say which groups may use a secret.
    GrantSecret,
    /// Add, change or remove operators.
    ManageOperators,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 21] = [
        Self::Look,
        Self::ReadHost,
        Self::ReadLogs,
        Self::Apply,
        Self::RollBack,
        Self::Approve,
        Self::Reject,
        Self::Restart,
        Self::SetRun,
        Self::ReturnToOriginal,
        Self::Forget,
        Self::RevokeNode,
        Self::ControlRollout,
        Self::ControlDrift,
        Self::MakeToken,
        Self::AdmitNode,
        Self::ChangeSecret,
        Self::TestChannel,
        Self::Silence,
        Self::GrantSecret,
        Self::ManageOperators,
    ];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::ReadHost => "read-host",
            Self::ReadLogs => "read-logs",
            Self::Apply => "apply",
            Self::RollBack => "roll-back",
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Restart => "restart",
            Self::SetRun => "set-run",
            Self::ReturnToOriginal => "return-to-original",
            Self::Forget => "forget",
            Self::RevokeNode => "revoke-node",
            Self::ControlRollout => "control-rollout",
            Self::ControlDrift => "control-drift",
            Self::MakeToken => "make-token",
            Self::AdmitNode => "admit-node",
            Self::ChangeSecret => "change-secret",
            Self::TestChannel => "test-channel",
            Self::Silence => "silence",
            Self::GrantSecret => "grant-secret",
            Self::ManageOperators => "manage-operators",
        }
    }

    /// For sentences: `restarting a server`.
    pub const fn doing(self) -> &'static str {
        match self {
            Self::Look => "looking at the fleet",
            Self::ReadHost => "reading the files of a host",
            Self::ReadLogs => "reading the logs of a node",
            Self::Apply => "applying this",
            Self::RollBack => "going back to this revision",
            Self::Approve => "approving this",
            Self::Reject => "rejecting this",
            Self::Restart => "restarting a server",
            Self::SetRun => "starting or stopping a server",
            Self::ReturnToOriginal => "putting back the original files of a node",
            Self::Forget => "forgetting a node",
            Self::RevokeNode => "revoking the certificate of a node",
            Self::ControlRollout => "controlling a rollout",
            Self::ControlDrift => "deciding about drift",
            Self::MakeToken => "making a join token",
            Self::AdmitNode => "admitting a host",
            Self::ChangeSecret => "changing a secret",
            Self::TestChannel => "testing a channel of alerts",
            Self::Silence => "silencing alerts",
            Self::GrantSecret => "granting a secret",
            Self::ManageOperators => "managing operators",
        }
    }

    /// The role that it takes.
    pub const fn needs(self) -> Role {
        match self {
            Self::Look => Role::Viewer,
            Self::ReadHost
            | Self::ReadLogs
            | Self::Apply
            | Self::RollBack
            | Self::Approve
            | Self::Reject
            | Self::Restart
            | Self::SetRun
            | Self::ReturnToOriginal
            | Self::Forget
            | Self::RevokeNode
            | Self::ControlRollout
            | Self::ControlDrift
            | Self::MakeToken
            | Self::AdmitNode
            | Self::ChangeSecret
            | Self::TestChannel
            | Self::Silence => Role::Operator,
            Self::GrantSecret | Self::ManageOperators => Role::Admin,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
