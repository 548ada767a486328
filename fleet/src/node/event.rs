//! What can happen to an agent, and what its engine can ask of the world.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    bundle::{Applied, Assignment, Bundle, HomePath, Probe},
    call::{Check, HaproxyCall, HaproxyState, Hook, HookPoint},
    drift::{Found, generated::Looked},
    editor::Editor,
    health::ProbeResult,
    ids::{Digest, FleetEpoch, Generation},
    key_manager::work::{Outcome, Trouble, Work},
    node::memory::{Memory, Placed},
    observed::{Notice, Observed, ProcessIdentity, Refusal, RefusalReason, Stage, Vitals},
    time::Timestamp,
};

/// Something an operator wants done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Stop and start the server.
    Restart {
        /// For people.
        why: String,
    },
    /// Report edits but restore nothing.
    PauseDrift {
        /// For people.
        reason: String,
        /// When enforcement resumes by itself.
        until: Timestamp,
    },
    /// End the pause.
    ResumeDrift,
    /// Leave one file as it is, and say what would make it desired.
    AcceptDrift {
        /// Which.
        path: HomePath,
        /// Until then, or the next apply if that comes first; only the next apply if absent.
        until: Option<Timestamp>,
    },
    /// Restore one file now, whatever its policy, or every file that differs.
    RestoreDrift {
        /// Which; all if absent.
        path: Option<HomePath>,
    },
    /// Put the files back that lay there before the first write, and leave them.
    RestoreOriginal {
        /// For people.
        why: String,
    },
    /// Answer a gate. Asked again it is done again: the answer is about now.
    Check(Box<Check>),
}

/// Why something could not be done: the word for programs and the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub reason: RefusalReason,
    /// For people; never holds a secret.
    pub detail: String,
}

/// What a staging found out on its way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StagedFacts {
    /// Files whose content on disk means something else than the staged one.
    pub differing: Vec<HomePath>,
    /// What the configuration resources of the home are known by ([`crate::pack`]), if readable.
    pub pack: Option<Digest>,
    /// deployment.toml on disk is not the one that the product recorded at its last start; when it was changed.
    pub config_unread: Option<Timestamp>,
    /// The original as it is kept now, durable, if this staging changed it.
    pub original: Option<TakenOriginal>,
}

/// What lay in a home before the first write, as a bundle in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOriginal {
    /// Key of its encoding.
    pub content: Digest,
    /// With its [`crate::bundle::Origin`].
    pub bundle: Arc<Bundle>,
}

/// What a staging keeps of the files that its switch will replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeping {
    /// Nothing: all of them are kept already, or are this agent's own.
    Nothing,
    /// Nothing of this agent's is in force: everything that the bundle replaces, deployment.toml, and everything that
    /// was kept of an earlier time.
    All {
        /// What was kept of the earlier time.
        earlier: Option<Arc<Bundle>>,
    },
    /// Only files that neither the original nor the bundle in force knows.
    Added {
        /// What is kept already.
        original: Arc<Bundle>,
        /// Whose files are this agent's own.
        in_force: Arc<Bundle>,
    },
}

/// A line of the server's output that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSign {
    /// It has started.
    Ready,
    /// It will not: the line, secrets masked.
    ConfigError(String),
    /// What it wrote before it ended.
    Ended(LastOutput),
}

/// The end of what a server wrote before it ended, secrets masked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastOutput {
    /// The line that says most; everything that names the cause quotes this one.
    pub telling: Option<String>,
    /// The last lines; only a node's own page shows them.
    pub lines: Vec<String>,
}

/// Everything that an engine reacts to.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The host is being shut down: its server has to end while network and disks are still there.
    HostEnds,
    /// The stream to the coordinator is up.
    Connected,
    /// It is down.
    Disconnected,
    /// The coordinator's newest desired state.
    Assigned {
        /// Of the coordinator's store.
        epoch: FleetEpoch,
        /// What to be.
        assignment: Assignment,
    },
    /// An operator's command.
    Commanded {
        /// The same id is the same command.
        id: u64,
        /// What to do.
        command: Command,
    },
    /// The coordinator has every notice up to this number.
    NoticesReceived(u64),
    /// A bundle and all its content are in the cache, checked.
    Obtained {
        /// Key of the encoded bundle.
        content: Digest,
        /// The bundle.
        bundle: Arc<Bundle>,
    },
    /// It cannot be had.
    ObtainFailed {
        /// Key of the encoded bundle.
        content: Digest,
        /// Why.
        failure: Failure,
    },
    /// All files are beside their targets, durable.
    Staged {
        /// Which bundle.
        target: Applied,
        /// What was seen.
        facts: StagedFacts,
    },
    /// Checks or staging failed; nothing was changed.
    StageFailed {
        /// Which bundle.
        target: Applied,
        /// Why.
        failure: Failure,
    },
    /// All files are in force, durable.
    Switched {
        /// Which bundle.
        target: Applied,
    },
    /// The switch failed.
    SwitchFailed {
        /// Which bundle.
        target: Applied,
        /// The files that were there before it are all back; what they were is another question.
        undone: bool,
        /// Why.
        failure: Failure,
    },
    /// What became of a switch that a crash, or a second failure, had interrupted.
    Recovered {
        /// Which bundle it was to put in force.
        target: Applied,
        /// What the files are now.
        state: Recovery,
    },
    /// The managed files cannot be looked at: the home is gone, or it does not open.
    ScanFailed {
        /// The bundle that they should have been compared with.
        target: Applied,
        /// Why.
        failure: Failure,
    },
    /// The journal could not be written: nothing that waited for it has happened or will.
    JournalFailed {
        /// Why.
        detail: String,
        /// A switch was among what waited. Otherwise one that is under way goes on.
        switch_dropped: bool,
        /// A launch was.
        launch_dropped: bool,
    },
    /// Something happened to these files: a hint to look, never data.
    FileHint,
    /// Something happened to generated files, and for a while nothing more has.
    GeneratedHint,
    /// What differs on disk from the bundle in force.
    Scanned {
        /// The bundle it was compared with.
        target: Applied,
        /// The files that were looked at; those not in `found` are as desired.
        looked: BTreeSet<HomePath>,
        /// By path.
        found: BTreeMap<HomePath, Found>,
    },
    /// What a full look at generated files found; also before a staging and after [`Action::Mend`].
    Generated(Looked),
    /// Generated files were restored from the product's own backup, or its record was removed.
    Mended {
        /// As they were recorded again, durable.
        restored: Vec<HomePath>,
        /// The record is gone: the next start makes everything anew.
        dropped: bool,
        /// What could not be done.
        trouble: Option<String>,
    },
    /// Who wrote a file that differs, as far as the host tells. What differs is told apart from it, before or after.
    Edited {
        /// Which file.
        path: HomePath,
        /// Newest first, at most [`crate::editor::EDITORS_MAX`].
        editors: Vec<Editor>,
        /// It is the difference that a restore has ended or is about to; otherwise one that is about to be told.
        restored: bool,
    },
    /// A file is as desired again, durable.
    Restored {
        /// Which.
        path: HomePath,
        /// Since the first hint of the edit.
        took: Duration,
    },
    /// An operator wants it restored, and it is as desired already: nothing was written.
    AsDesired {
        /// Which.
        path: HomePath,
    },
    /// It was not restored, for it is not what was seen any more: somebody was still writing.
    RestoreOvertaken {
        /// Which.
        path: HomePath,
    },
    /// It could not be restored.
    RestoreFailed {
        /// Which.
        path: HomePath,
        /// Why.
        failure: Failure,
    },
    /// What the configuration resources of the home are known by now, if they can be read.
    PackRead(Option<Digest>),
    /// All live servers of the home.
    Found(Vec<ProcessIdentity>),
    /// Live servers of the home that nobody had asked about: somebody else starts servers too, such as systemd.
    Seen(Vec<ProcessIdentity>),
    /// Those launch files that were still there are gone now; or why one may not be.
    LaunchFilesCleared(Result<Vec<HomePath>, String>),
    /// The server's java process is there.
    Launched(ProcessIdentity),
    /// The script could not be started or ended without java.
    LaunchFailed(Failure),
    /// The script started java again by itself (exit 121).
    Replaced(ProcessIdentity),
    /// java is gone, and so is its script.
    Exited {
        /// Which.
        process: ProcessIdentity,
        /// How, as far as known.
        how: String,
    },
    /// A telling line in the server's output.
    Logged(LogSign),
    /// Answers of one round of probes.
    Probed(Vec<ProbeResult>),
    /// A hook is over, with what happened, for people.
    HookDone {
        /// Which run.
        run: u64,
        /// How.
        outcome: Result<String, String>,
    },
    /// A gate was answered, with what was seen, for people.
    Checked {
        /// Of the command.
        id: u64,
        /// How.
        outcome: Result<String, String>,
    },
    /// What HAProxy does with the server; `None`: it could not be asked, or has no such server.
    Rotation(Option<HaproxyState>),
    /// A turn at the Admin API is over.
    KeyManagerDone {
        /// Which.
        run: u64,
        /// How.
        outcome: Result<Outcome, Trouble>,
    },
    /// A reload of the load balancer is over, with what was seen, for people.
    Reloaded {
        /// Which.
        run: u64,
        /// How.
        outcome: Result<String, String>,
    },
    /// Measurements.
    Measured(Vitals),
    /// A deadline has passed.
    Timer,
}

/// Where an interrupted switch should lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the new files.
    Forward,
    /// To the files before it.
    Back,
}

/// The files after an interrupted switch was taken up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// All new ones are in force, durable.
    New,
    /// All old ones are in force, durable; or the switch had not begun.
    Old,
    /// Neither can be had from what lies beside them: they have to be staged anew.
    Lost,
    /// The file system refuses for now; they are what they were.
    Stuck(Failure),
}

/// How much a scan looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every file.
    All,
    /// The files that hints named.
    Hinted,
    /// The files that the product generated.
    Generated,
}

/// Everything that an engine asks for. The outcome comes back as an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make this durable. What waits for the journal waits for this.
    Journal(Box<Memory>),
    /// Tell the coordinator how far an assignment got, or why not further.
    Ack {
        /// Which assignment.
        generation: Generation,
        /// The stage reached, or tried when refused.
        stage: Stage,
        /// Why not.
        refusal: Option<Refusal>,
    },
    /// Tell the coordinator the node's state; only the newest matters.
    Report(Box<Observed>),
    /// Tell the coordinator what happened, until it says it has it.
    Tell(Vec<Notice>),
    /// Answer a command.
    CommandDone {
        /// Which.
        id: u64,
        /// Done or not.
        done: bool,
        /// For people.
        detail: String,
    },
    /// Get an encoded bundle and its content into the cache.
    Obtain {
        /// Its key and place in history.
        target: Placed,
        /// Bytes of the encoding.
        size: u64,
    },
    /// Drop cached content that neither these bundles need nor those that the newest memory names: while this waited for
    /// the journal, another may have been obtained.
    Keep(Vec<Digest>),
    /// Check everything that can be checked, then put all files beside their targets, durable.
    Stage {
        /// Which.
        target: Applied,
        /// What.
        bundle: Arc<Bundle>,
        /// What to keep of the files before, durable before the outcome is told.
        keep: Keeping,
    },
    /// Put the staged files in force, durable; all or none.
    Switch {
        /// Which.
        target: Applied,
        /// What.
        bundle: Arc<Bundle>,
    },
    /// Finish an interrupted switch, or undo it, by what lies beside its files; nothing is staged for it.
    Recover {
        /// Which.
        target: Applied,
        /// Which of the two to try first.
        way: Way,
    },
    /// Watch these files from now on, and scan them once.
    Watch {
        /// Which.
        target: Applied,
        /// What.
        bundle: Arc<Bundle>,
    },
    /// Compare files of the watched bundle with the disk.
    Scan(Extent),
    /// Restore one file.
    Restore {
        /// Which.
        path: HomePath,
        /// Of this bundle.
        bundle: Arc<Bundle>,
        /// Only if it is still what the last look saw; an operator's word is for whatever is there.
        as_seen: bool,
    },
    /// Bring generated files back from `backup/` where that holds what was recorded; remove the record if a deleted one
    /// is not there.
    Mend {
        /// Which.
        paths: Vec<HomePath>,
        /// How the server is run.
        bundle: Arc<Bundle>,
    },
    /// Find all live servers of the home.
    Look {
        /// Absolute.
        home: String,
    },
    /// Write the launch files and start the server, unless one lives on the home.
    Launch(Arc<Bundle>),
    /// Remove the launch files of the home.
    ClearLaunchFiles(Arc<Bundle>),
    /// Notice the end of a process that was found running.
    Adopt {
        /// Which.
        process: ProcessIdentity,
        /// How it is run.
        bundle: Arc<Bundle>,
    },
    /// Check the load balancer's whole configuration and have it read anew, without dropping a connection.
    Reload {
        /// Pairs the outcome.
        run: u64,
        /// Its master process.
        process: ProcessIdentity,
        /// Whose files are in force.
        bundle: Arc<Bundle>,
    },
    /// TERM to java.
    Stop(ProcessIdentity),
    /// QUIT to java: a thread dump in its output.
    Dump(ProcessIdentity),
    /// KILL to everything of the server.
    Kill(ProcessIdentity),
    /// Ask all these.
    Probe {
        /// What to ask.
        probes: Vec<Probe>,
        /// Whose sockets they must be.
        process: ProcessIdentity,
    },
    /// Run a hook, within its own limits.
    Hook {
        /// Pairs the outcome.
        run: u64,
        /// When.
        point: HookPoint,
        /// What.
        hook: Box<Hook>,
    },
    /// Answer a gate, within its own limits.
    Check {
        /// Of the command.
        id: u64,
        /// What.
        check: Box<Check>,
    },
    /// Ask HAProxy whether it sends requests to the server that this call puts into service.
    AskRotation(HaproxyCall),
    /// Make the Admin API agree about one Key Manager, or see whether it does.
    KeyManager {
        /// Pairs the outcome.
        run: u64,
        /// What.
        work: Box<Work>,
    },
    /// Measure the server and its host.
    Measure {
        /// The server, if it lives.
        process: Option<ProcessIdentity>,
        /// Absolute.
        home: String,
    },
}

impl Action {
    /// Whether it may happen only once every journal write asked for before it is durable. Stopping the server does not
    /// wait. Launching it does, so that an agent that dies at this moment knows afterwards which files the server has read
    /// and what is owed to it; but a journal that cannot be written keeps no server down: then the engine asks again, for a
    /// launch that nothing holds up.
    pub fn waits_for_journal(&self) -> bool {
        match self {
            Action::Ack { .. }
            | Action::Report(_)
            | Action::Tell(_)
            | Action::CommandDone { .. }
            | Action::Keep(_)
            | Action::Switch { .. }
            | Action::Launch(_) => true,
            // An agent that dies in the middle must know what it has begun.
            Action::KeyManager { .. } => true,
            // What it takes out of service must come back, whatever happens to the agent.
            Action::Hook { point, .. } => *point == HookPoint::BeforeStop,
            Action::Journal(_)
            | Action::Obtain { .. }
            | Action::Stage { .. }
            | Action::Recover { .. }
            | Action::Watch { .. }
            | Action::Scan(_)
            | Action::Restore { .. }
            | Action::Mend { .. }
            | Action::Look { .. }
            | Action::ClearLaunchFiles(_)
            | Action::Reload { .. }
            | Action::Stop(_)
            | Action::Adopt { .. }
            | Action::Dump(_)
            | Action::Kill(_)
            | Action::Probe { .. }
            | Action::Check { .. }
            | Action::AskRotation(_)
            | Action::Measure { .. } => false,
        }
    }
}
