//! What a person had written on a host before its first apply: kept by the agent, asked for by operators, and never
//! lost (guarantee 16). A file is known by its digest; a person edits it now and then while it is theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use fleet::{
    bundle::{Applied, Bundle, DriftPolicy, FileEntry, HomePath, Origin, RestartClass, Standing},
    drift::keys::KeyRules,
    ids::{Digest, Generation},
    node::{Command, Event, Failure, Keeping, StagedFacts, TakenOriginal},
    observed::{ProcessIdentity, RefusalReason},
    time::Timestamp,
};

use super::{Bug, Sim, bundles::HOME, host::Host, server::Process};

/// Commands about originals have numbers of their own.
const COMMANDS: u64 = 1 << 40;
/// So many edits of one host are told apart.
const EDITS_MAX: u64 = 1 << 20;

/// What a person has on a host.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByHand {
    index: u64,
    edits: u64,
    /// Of the file's content. Asked for after every step of every run, so it is worked out once.
    digest: Digest,
}

impl ByHand {
    pub(super) fn new(index: usize) -> Self {
        Self::after(index as u64, 0)
    }

    fn after(index: u64, edits: u64) -> Self {
        Self { index, edits, digest: Digest::of(format!("host {index} by hand {edits}").as_bytes()) }
    }

    /// Of the file's content.
    pub(super) fn digest(self) -> Digest {
        self.digest
    }

    /// What a server reads from it: nothing that any bundle means.
    pub(super) fn truth(self) -> u64 {
        u64::MAX - self.index * EDITS_MAX - self.edits
    }
}

/// The one file that a person has.
static CONFIG: LazyLock<HomePath> =
    LazyLock::new(|| HomePath::parse("repository/conf/deployment.toml").expect("a fixed path below home"));

/// What an agent keeps of it before it stages `coming`.
fn original(by_hand: ByHand, coming: &Bundle, before: Generation) -> Bundle {
    let file = FileEntry {
        digest: by_hand.digest(),
        meaning: by_hand.digest(),
        size: 100,
        mode: 0o640,
        drift: DriftPolicy::Ignore,
        restart: RestartClass::Restart,
        secret: true,
        launch: false,
    };
    let origin = Origin {
        taken: Timestamp(0),
        before,
        standing: BTreeMap::from([(CONFIG.clone(), Standing { mode: 0o640, owner: None })]),
        absent: BTreeSet::new(),
    };
    let (service, hooks) = (coming.service.clone(), coming.hooks.clone());
    let files = BTreeMap::from([(CONFIG.clone(), file)]);
    Bundle {
        files,
        service,
        hooks,
        drift_keys: KeyRules::default(),
        unnamed_editors: false,
        origin: Some(origin),
        key_managers: fleet::key_manager::KeyManagers::default(),
        balancer: None,
    }
}

impl Sim {
    /// A person's files are on the host; on some of them a person runs a server.
    pub(super) fn found_by_hand(&mut self, index: usize) {
        let by_hand = ByHand::new(index);
        self.library.add_original(by_hand.digest(), by_hand.truth());
        if self.hands.percent(30) {
            let identity =
                ProcessIdentity { pid: 10, start_id: "10".to_owned(), started: Timestamp(-60_000) };
            let process = Process { identity, read: by_hand.digest(), ready_at: Some(0), heard_at: 0 };
            self.hosts[index].process = Some(process);
        }
    }

    /// Nothing of Convoy's is in force.
    pub(super) fn is_theirs(&self, host: &Host) -> bool {
        !host.half_switched && host.files.is_none_or(|files| self.library.is_original(&files))
    }

    /// What the journal leads to is what the person had written last.
    fn keeps_original(host: &Host) -> bool {
        let kept = host.journal.originals.get(HOME).and_then(|kept| host.cache.get(&kept.placed.content));
        let file = kept.and_then(|bundle| bundle.files.get(&*CONFIG));
        file.is_some_and(|file| file.digest == host.by_hand.digest())
    }

    /// What lies there is kept before it is replaced.
    fn keep(
        &mut self,
        index: usize,
        coming: &Bundle,
        before: Generation,
        keep: &Keeping,
    ) -> Option<TakenOriginal> {
        match keep {
            Keeping::Nothing | Keeping::Added { .. } => return None,
            Keeping::All { .. } => {}
        }
        if !self.is_theirs(&self.hosts[index]) {
            self.broken(&format!("(16) host {index} keeps as a person's what Convoy wrote"));
        }
        let by_hand = self.hosts[index].by_hand;
        let bundle = Arc::new(original(by_hand, coming, before));
        let content = bundle.digest();
        self.library.add_original(content, by_hand.truth());
        self.hosts[index].cache.insert(content, Arc::clone(&bundle));
        if self.healed.is_none() && self.hands.percent(3) {
            // At the worst moment.
            self.edit(index);
        }
        Some(TakenOriginal { content, bundle })
    }

    /// Files are put beside those in force, unless the disk refuses.
    pub(super) fn stage(&mut self, index: usize, target: Applied, bundle: &Bundle, keep: &Keeping) {
        let event = if self.hosts[index].disk_fails_until <= self.now {
            let original = self.keep(index, bundle, target.generation, keep);
            let host = &self.hosts[index];
            let disk = host.files.map_or(host.by_hand.truth(), |files| self.library.truth(&files));
            let differs = host.half_switched || disk != self.library.truth(&target.bundle);
            let differing = if differs { bundle.files.keys().cloned().collect() } else { Vec::new() };
            Event::Staged { target, facts: StagedFacts { differing, original, ..StagedFacts::default() } }
        } else {
            let failure = Failure { reason: RefusalReason::DiskFull, detail: "no space".to_owned() };
            Event::StageFailed { target, failure }
        };
        self.later(index, (5, 300), event);
    }

    /// Why a switch leaves everything as it is: a person was faster.
    pub(super) fn refuses_switch(&self, index: usize) -> Option<Failure> {
        let host = &self.hosts[index];
        let edited = self.is_theirs(host) && !Self::keeps_original(host);
        (edited && self.bug != Some(Bug::EditIsUnseen)).then(|| Failure {
            reason: RefusalReason::TargetUnsafe,
            detail: "edited while its successor was being staged".to_owned(),
        })
    }

    /// A person edits what is theirs.
    pub(super) fn edit_by_hand(&mut self) {
        let index = self.hands.index(self.hosts.len());
        if self.is_theirs(&self.hosts[index]) {
            self.edit(index);
        }
    }

    fn edit(&mut self, index: usize) {
        let before = self.hosts[index].by_hand;
        let by_hand = ByHand::after(before.index, before.edits + 1);
        self.hosts[index].by_hand = by_hand;
        self.library.add_original(by_hand.digest(), by_hand.truth());
        self.trace(|| format!("host {index}: a person edits its file"));
    }

    /// An operator has the original of a node put back, while no rollout is under way.
    pub(super) fn ask_for_original(&mut self, index: usize) {
        let open = self.coordinator.store.rollout.as_ref().is_some_and(|rollout| !rollout.phase.is_end());
        let host = &mut self.hosts[index];
        if open || !self.coordinator.up || host.session.is_none() || host.session_dead {
            return;
        }
        host.asked_back = true;
        let incarnation = host.incarnation;
        self.trace(|| format!("operator: has the original of host {index} put back"));
        let command = Command::RestoreOriginal { why: "as it was".to_owned() };
        self.deliver(index, incarnation, Event::Commanded { id: COMMANDS + self.now, command });
    }

    /// (16) At every instant: what a person had written is there, or the disk leads to it. After an entry that is about
    /// one host only that one can have lost anything; after any other all are looked at.
    pub(super) fn check_originals(&mut self, touched: Option<usize>) {
        let lost = |host: &Host| !self.is_theirs(host) && !Self::keeps_original(host);
        let lost = match touched {
            Some(index) => lost(&self.hosts[index]).then_some(index),
            None => self.hosts.iter().position(lost),
        };
        if let Some(index) = lost {
            self.broken(&format!("(16) what a person had written on host {index} is lost"));
        }
    }

    /// (16) The original is in force.
    pub(super) fn check_returned(&mut self, index: usize, target: &Digest) {
        let host = &self.hosts[index];
        let files = host.cache.get(target).and_then(|bundle| bundle.files.get(&*CONFIG));
        if files.map(|file| file.digest) != Some(host.by_hand.digest()) {
            self.broken(&format!("(16) host {index} puts back other files than a person had written"));
        }
    }

    /// After everything has settled: operators want all originals back. Which hosts have theirs not yet, if any.
    pub(super) fn not_given_back(&mut self) -> Option<String> {
        let open = self.coordinator.store.rollout.as_ref().is_some_and(|rollout| !rollout.phase.is_end());
        if open {
            return None;
        }
        let waiting: Vec<usize> = (0..self.hosts.len())
            .filter(|index| self.hosts[*index].enrolled && !self.is_theirs(&self.hosts[*index]))
            .collect();
        if !std::mem::replace(&mut self.gives_back, true) {
            // All of that takes time of its own.
            self.healed = Some(self.now);
            for index in &waiting {
                self.hosts[*index].asked_back = false;
            }
        }
        // A node whose session is over at that moment is asked once it is back, as people do.
        for index in
            waiting.iter().filter(|index| !self.hosts[**index].asked_back).copied().collect::<Vec<_>>()
        {
            self.ask_for_original(index);
        }
        waiting.first().map(|index| format!("host {index} does not have back what a person had written"))
    }
}
