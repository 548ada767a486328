//! The words for states, as every program says them: on the wire, in JSON and to people. Each set is one type, so nothing
//! else compares texts; a tidy test looks for such words outside of here (docs/decisions/0088).

use std::{fmt, str::FromStr};

use crate::observed::DriftAction;
pub use strum::VariantArray;
use strum::{Display, EnumString, IntoStaticStr};

/// One of a closed set of words.
pub trait Word: Copy + Eq + FromStr + Into<&'static str> + VariantArray + 'static {}

impl<T: Copy + Eq + FromStr + Into<&'static str> + VariantArray + 'static> Word for T {}

/// What another program said: a word that this version knows, or one of a later version, which stays readable.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said<T> {
    /// Known.
    Word(T),
    /// Of a later version; or empty, of an earlier one that says nothing of it.
    Other(String),
}

impl<T: Word> Said<T> {
    /// Takes any text.
    pub fn of(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Other(text.to_owned()), Self::Word)
    }

    /// As it was said.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Word(word) => (*word).into(),
            Self::Other(text) => text,
        }
    }

    /// The word, if this version knows it.
    pub fn known(&self) -> Option<T> {
        match self {
            Self::Word(word) => Some(*word),
            Self::Other(_) => None,
        }
    }

    /// Whether it is this word.
    pub fn is(&self, word: T) -> bool {
        self.known() == Some(word)
    }
}

/// Nothing was said.
impl<T> Default for Said<T> {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl<T> From<T> for Said<T> {
    fn from(word: T) -> Self {
        Self::Word(word)
    }
}

impl<T: Word> fmt::Display for Said<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<T: Word> fmt::Debug for Said<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<T: Word> serde::Serialize for Said<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($(#[$of:meta])* $word:ident,)+ })+) => {$(
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Display, EnumString, IntoStaticStr, VariantArray,
        )]
        #[strum(serialize_all = "kebab-case")]
        pub enum $name { $($(#[$of])* $word,)+ }

        impl $name {
            /// The word, which never changes: others read it.
            pub fn as_str(self) -> &'static str {
                self.into()
            }
        }
    )+};
}

words! {
    /// How a node is doing, in one word.
    NodeWord {
        /// The newest revision does not name it.
        NotInFleet,
        /// No agent has joined as it.
        NotJoined,
        /// Its agent has joined and never connected.
        NeverConnected,
        /// Its agent is not connected.
        Unreachable,
        /// Its agent obeys another store.
        OtherEpoch,
        /// Its agent was assigned more than this store knows of.
        StoreOlder,
        /// Nothing can be said.
        Unknown,
        /// Nothing was assigned to it.
        Idle,
        /// The newest assignment ended badly.
        Failed,
        /// The newest assignment is being carried out.
        Updating,
        /// It serves.
        Ready,
        /// It serves with the files that lay there before its first apply.
        Original,
        /// Its server runs and does not do its job.
        Unhealthy,
        /// As of [`ServiceWord`].
        Stopped,
        /// As of [`ServiceWord`].
        Starting,
        /// As of [`ServiceWord`].
        Running,
        /// As of [`ServiceWord`].
        Stopping,
        /// As of [`ServiceWord`].
        BackingOff,
        /// As of [`ServiceWord`].
        GaveUp,
        /// As of [`ServiceWord`].
        Foreign,
    }

    /// Whether a node is on the newest revision.
    StandingWord {
        /// What the newest revision wants of it is in force.
        OnNewest,
        /// A rollout is about to change it, or is changing it.
        UnderWay,
        /// Something else is in force, and nobody is changing that.
        Behind,
        /// Its agent never said what is in force.
        NotReported,
        /// Its agent has accepted what the store does not know.
        StoreOlder,
    }

    /// What a server does.
    ServiceWord {
        /// Told to, or never started.
        Stopped,
        /// Launched, not yet ready.
        Starting,
        /// Ready once, alive now.
        Running,
        /// Told to stop, not gone yet.
        Stopping,
        /// Ended by itself; waits for its next launch.
        BackingOff,
        /// Ended too often.
        GaveUp,
        /// Somebody else's process holds the home.
        Foreign,
        /// The agent has not looked yet.
        Unknown,
    }

    /// Whether a server does its job.
    VerdictWord {
        /// All readiness probes pass.
        Healthy,
        /// A probe fails.
        Unhealthy,
        /// Nothing can be said.
        Unknown,
    }

    /// How a rollout is doing.
    RolloutWord {
        /// Under way.
        Running,
        /// An operator asked for nothing new to begin.
        Paused,
        /// Nothing new begins; what is under way ends.
        Stopping,
        /// Its nodes go back.
        RollingBack,
        /// Every node is ready.
        Done,
        /// Ended with nodes that are neither ready nor returned.
        Failed,
        /// Every node that was changed is back.
        RolledBack,
        /// An operator ended it.
        Aborted,
        /// A newer one took over.
        Superseded,
    }

    /// A group's part in a rollout.
    GroupWord {
        /// Its turn has not come.
        Pending,
        /// Under way.
        Running,
        /// Every node is ready.
        Done,
        /// A node is not, and nothing more is tried.
        Failed,
    }

    /// How far a node of a rollout is.
    StepWord {
        /// Not begun.
        Pending,
        /// Assigned, and its agent has not answered.
        Sent,
        /// Its files are written.
        Written,
        /// Its server restarts.
        Restarting,
        /// Up, and watched for a while.
        Soaking,
        /// Goes back to its last good bundle.
        Returning,
        /// Done.
        Ready,
        /// Did not get there.
        Failed,
        /// Back on its last good bundle.
        RolledBack,
        /// Not even the way back worked.
        ReturnFailed,
        /// Should return and is not connected.
        ReturnUnseen,
        /// Takes no part any more.
        Skipped,
    }

    /// What a change asks of a server.
    RestartWord {
        /// Nothing.
        None,
        /// It is picked up without a restart.
        Hot,
        /// A restart.
        Restart,
        /// A restart, and all nodes have to agree.
        Phased,
        /// A load balancer reloads.
        Reload,
    }

    /// What a plan does with a node.
    ChangeWord {
        /// It gets its first bundle.
        Create,
        /// It gets another one.
        Update,
        /// It leaves the fleet.
        Remove,
        /// Nothing.
        None,
    }

    /// What a plan was drawn against.
    SourceWord {
        /// The host, asked for this plan.
        Now,
        /// The host's last answer.
        Seen,
        /// What was assigned last.
        Assigned,
        /// Nothing is known.
        Nothing,
    }

    /// What a plan does with a file.
    FileWord {
        /// It is new.
        Added,
        /// It gets other content, or other settings.
        Changed,
        /// It is let go; it stays on the host.
        Removed,
        /// Other bytes that the server reads as the same.
        SameMeaning,
    }

    /// What a notice of an agent is about.
    NoticeWord {
        /// A generation was accepted.
        Assigned,
        /// Its files are in force.
        Written,
        /// The server reads the same, so it goes on.
        NoRestart,
        /// The assignment is carried out.
        Ready,
        /// The server went from one state to another.
        ServiceState,
        /// An operator wants it running or stopped.
        RunState,
        /// A hook ran, with the last line of its output.
        Hook,
        /// A hook failed.
        HookFailed,
        /// A load balancer has read its configuration anew, and why.
        Reloaded,
        /// A load balancer did not take its configuration, in its own words, or has no new worker: it goes on
        /// with what it had read; the agent goes back, or tries again every 30 s.
        ReloadFailed,
        /// A Key Manager was registered, written, deleted, or is kept by another node from now on.
        KeyManager,
        /// Somebody changed a Key Manager in the Admin portal: put back, or left and told.
        KeyManagerDrift,
        /// A Key Manager cannot be registered, looked at or deleted, with why.
        KeyManagerFailed,
        /// `before_stop` failed, so the server was not stopped.
        StopRefused,
        /// The server did not stop in time and was killed.
        Killed,
        /// A running server was taken over.
        Adopted,
        /// The server ended by itself.
        ServerExit,
        /// It ended while the agent was away.
        ServerGone,
        /// It restarted itself (from its console, for example).
        SelfRestart,
        /// It ended during its start.
        StartFailed,
        /// It was not ready within the start deadline.
        StartLate,
        /// As the concern of that name.
        StartHeld,
        /// As the concern of that name.
        RestartHeld,
        /// The files before are put back.
        GoingBack,
        /// Putting them back did not work; look at the host.
        BackFailed,
        /// A difference is left as it is.
        DriftReported,
        /// Who made an edit that was restored, if that was not known at once.
        DriftEditors,
        /// The declared content is back.
        DriftRestored,
        /// It could not be put back; the sentence says why.
        DriftRestoreFailed,
        /// A difference is over without the agent.
        DriftEnded,
        /// Enforcement is paused.
        DriftPaused,
        /// Enforcement goes on.
        DriftResumed,
        /// A file is changed again and again; it is left.
        DriftTugOfWar,
        /// An operator wants a difference left as it is.
        DriftAccepted,
        /// As the concern of that name.
        SecretResidue,
        /// The server had not read its password file.
        LaunchFileUnread,
        /// A password file could not be removed; tried again every 30 s.
        LaunchFileLeft,
        /// The server restarted itself and found no password file: `convoy node restart NODE`.
        VaultLocked,
        /// A switch of files that a crash interrupted was undone.
        SwitchUndone,
        /// Its record was lost; the files were compared and written again.
        SwitchLost,
        /// The file system refuses to finish or undo a switch; no server is started meanwhile.
        SwitchStuck,
        /// The home is gone or cannot be read; looked for every 30 s.
        FilesUnseen,
        /// The host shuts down, so the server is stopped.
        HostShutdown,
        /// An operation on files did not answer and is asked for again.
        AskedAgain,
    }

    /// How much a finding matters.
    Severity {
        /// Refused: nothing is sent while one of these stands.
        Error,
        /// Very likely a mistake; apply goes on.
        Warning,
        /// Worth knowing.
        Info,
    }

    /// How a proposal stands.
    ProposalWord {
        /// It waits for somebody to decide.
        Open,
        /// Something else was applied since: it can only be rejected, or proposed again.
        Outdated,
        /// Nobody decided in time.
        Expired,
        /// It was rolled out.
        Approved,
        /// It was rejected.
        Rejected,
    }
}

impl NoticeWord {
    /// Of something that was done about drift.
    pub const fn of_drift(action: DriftAction) -> Self {
        match action {
            DriftAction::Restored => Self::DriftRestored,
            DriftAction::Reported => Self::DriftReported,
            DriftAction::Paused => Self::DriftPaused,
            DriftAction::TugOfWar => Self::DriftTugOfWar,
            DriftAction::Accepted => Self::DriftAccepted,
        }
    }
}

impl ProposalWord {
    /// Nobody has decided.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Open | Self::Outdated)
    }
}

impl RestartWord {
    /// The server goes down.
    pub const fn restarts(self) -> bool {
        matches!(self, Self::Restart | Self::Phased)
    }
}

impl RolloutWord {
    /// Nothing more will happen.
    pub const fn is_end(self) -> bool {
        match self {
            Self::Done | Self::Failed | Self::RolledBack | Self::Aborted | Self::Superseded => true,
            Self::Running | Self::Paused | Self::Stopping | Self::RollingBack => false,
        }
    }
}

impl StepWord {
    /// The node is not what it should be, and nothing more is tried.
    pub const fn has_failed(self) -> bool {
        matches!(self, Self::Failed | Self::ReturnFailed | Self::ReturnUnseen)
    }

    /// Nothing more will happen to it.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Ready | Self::Skipped | Self::RolledBack) || self.has_failed()
    }
}

impl NodeWord {
    /// Its server does what it should, or is not meant to run.
    pub const fn is_well(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::Original | Self::Idle | Self::Stopped | Self::NotInFleet | Self::NotJoined
        )
    }
}

impl ServiceWord {
    /// How a node is doing whose server does something else than running well.
    pub const fn of_node(self) -> NodeWord {
        match self {
            Self::Stopped => NodeWord::Stopped,
            Self::Starting => NodeWord::Starting,
            Self::Running => NodeWord::Running,
            Self::Stopping => NodeWord::Stopping,
            Self::BackingOff => NodeWord::BackingOff,
            Self::GaveUp => NodeWord::GaveUp,
            Self::Foreign => NodeWord::Foreign,
            Self::Unknown => NodeWord::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reads_back_and_one_of_a_later_version_stays_readable() {
        for word in StepWord::VARIANTS {
            assert_eq!(Said::<StepWord>::of(word.as_str()), Said::Word(*word));
        }
        assert_eq!(NodeWord::NotInFleet.as_str(), "not-in-fleet");
        let later = Said::<RolloutWord>::of("gliding");
        assert_eq!((later.known(), later.as_str()), (None, "gliding"));
        assert_eq!(serde_json::to_string(&later).unwrap(), "\"gliding\"");
        assert_eq!(format!("{:>9}|", Said::from(RolloutWord::Done)), "     done|");
        assert!(Said::<GroupWord>::default().as_str().is_empty());
    }
}
