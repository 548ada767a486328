//! Bugs to plant in the simulated shells around the real decisions. None of them is in production code; each is a
//! mistake that somebody could make when writing such a shell.

/// A planted mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The coordinator commits a plan although what it was made from has changed.
    NoCompareAndSwap,
    /// The coordinator sends steps before they are committed.
    SendBeforeCommit,
    /// The agent acknowledges before the journal is durable.
    AckBeforeSync,
    /// The agent switches files before the journal knows of the switch.
    SwitchBeforeJournal,
    /// The coordinator takes what was last desired for what was last good.
    LastDesiredIsGood,
    /// A restored older store numbers on from its own numbers, deaf to what agents have seen.
    NumbersFromOldStore,
    /// The planner is shown only nodes that have a session.
    OnlyConnectedAreSeen,
    /// A node is taken for connected when it has reported, while the planner still sees what it said long ago.
    ReportCountsUnstored,
    /// A server that is starting counts as healthy.
    StartingCountsAsHealthy,
    /// After its own restart the agent does not look for a server that lives.
    NoAdoption,
    /// Every change of bytes is taken for a change of meaning.
    BytesAreMeaning,
    /// The newest desired state is not sent again when a node reconnects.
    NoResend,
    /// A pause is only shown, not obeyed.
    PauseIsOnlyShown,
    /// After a rollback the coordinator gives returned nodes the newest revision again.
    RollbackIsUndone,
    /// A gate that nobody answered in time is taken for passed.
    LostAnswerPasses,
    /// The agent does not look at how a hook ended.
    HookFailureIsUnseen,
    /// An agent that starts again has forgotten that it took its server out of service.
    OwedIsForgotten,
    /// An agent that cannot write its journal says nothing of it, and its last report is believed.
    JournalIsSilent,
    /// A node that nobody can judge yet is taken for failed.
    UnknownIsFailed,
    /// The planner is not told which zone a node is in.
    ZonesAreUnseen,
    /// The agent removes what a person had written as content that no assignment names.
    OriginalIsGarbage,
    /// The agent does not look whether a person has edited a file since it was kept.
    EditIsUnseen,
    /// The coordinator sleeps past the moment at which the planner wants to look again.
    SleepsTooLong,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 23] = [
        Bug::NoCompareAndSwap,
        Bug::SendBeforeCommit,
        Bug::AckBeforeSync,
        Bug::SwitchBeforeJournal,
        Bug::LastDesiredIsGood,
        Bug::NumbersFromOldStore,
        Bug::OnlyConnectedAreSeen,
        Bug::ReportCountsUnstored,
        Bug::StartingCountsAsHealthy,
        Bug::NoAdoption,
        Bug::BytesAreMeaning,
        Bug::NoResend,
        Bug::PauseIsOnlyShown,
        Bug::RollbackIsUndone,
        Bug::LostAnswerPasses,
        Bug::HookFailureIsUnseen,
        Bug::OwedIsForgotten,
        Bug::JournalIsSilent,
        Bug::UnknownIsFailed,
        Bug::ZonesAreUnseen,
        Bug::OriginalIsGarbage,
        Bug::EditIsUnseen,
        Bug::SleepsTooLong,
    ];
}
