//! Keeps the registration of Key Managers at the API Manager's Admin API as the bundle in force declares it
//! (docs/decisions/0067-key-managers-are-registered-by-one-agent.md).
//!
//! Promises: what is begun is in the journal before the first request; never two turns at once; nothing is deleted that
//! the fleet still declares, for this node or another, nor on the way to files that may be taken back; a refused
//! password is not tried again and again, since that would lock the account.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    bundle::DriftPolicy,
    key_manager::{
        Registration,
        body::Difference,
        seen::{Seen, State},
        work::{Outcome, Task, Trouble, Work},
    },
    node::{Action, Clock, Engine, Out, Phase, Placed},
    observed::{Concern, ConcernKind, Verdict},
    service::Service,
    time::{Instant, Timestamp},
    words::NoticeWord,
};

/// The longest that one turn takes: its requests have limits of their own, and there are at most a dozen.
pub const TURN_TIMEOUT: Duration = Duration::from_secs(120);
/// Beyond that, before its outcome counts as lost.
const OUTCOME_MARGIN: Duration = Duration::from_secs(15);
/// Before a portal that is away is asked again; doubles up to [`AWAY_MAX`].
const AWAY_AGAIN: Duration = Duration::from_secs(5);
const AWAY_MAX: Duration = Duration::from_secs(60);
/// Before what was refused is tried again, if nothing else was declared meanwhile.
const REFUSED_AGAIN: Duration = Duration::from_secs(300);
/// Differences that one text names.
const NAMED_MAX: usize = 5;

/// A Key Manager that this agent has begun to register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// The bundle with its definition: the last that succeeded, or the first that was begun.
    pub by: Placed,
    /// The definition of `by` was written, and nothing was begun since.
    pub is_written: bool,
    /// It was written at least once: it may be deleted.
    pub is_ours: bool,
}

/// The most that an agent remembers; a bundle declares sixteen at most.
pub const REGISTERED_MAX: usize = 64;

/// The turn under way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    run: u64,
    work: Work,
    /// Whose definition it is.
    of: Placed,
    until: Instant,
}

/// What is known of one Key Manager, as far as it need not survive the agent.
#[derive(Debug, Default)]
struct Known {
    /// Its next turn; `None`: at once.
    due: Option<Instant>,
    failures: u32,
    trouble: Option<(Trouble, String)>,
    /// When the Admin API last answered.
    looked: Option<Timestamp>,
    /// Somebody changed it, and it was left so.
    drift: Vec<Difference>,
    /// What the server does not keep as it is written.
    unkept: Vec<Difference>,
}

impl Known {
    /// What a turn that came to its end says: the kind of an event and its text, if it is news.
    fn learn(&mut self, work: &Work, outcome: Outcome) -> Option<(NoticeWord, String)> {
        let (registration, name) = (&work.registration, &work.registration.name);
        let is_check = matches!(work.task, Task::Check { .. });
        let before = std::mem::take(&mut self.drift);
        if let Outcome::Registered | Outcome::Written(_) = outcome {
            self.unkept.clear();
        }
        let is = |text: String| Some((NoticeWord::KeyManager, text));
        let drifted = |text: String| Some((NoticeWord::KeyManagerDrift, text));
        match outcome {
            Outcome::Registered if is_check => {
                drifted(format!("Key Manager {name} was gone and is registered again"))
            }
            Outcome::Registered => is(format!("registered Key Manager {name}: {registration}")),
            Outcome::Written(was) if is_check => {
                drifted(format!("somebody changed Key Manager {name}, and it is put back: {}", listed(&was)))
            }
            Outcome::Written(was) if was.is_empty() => {
                is(format!("wrote Key Manager {name}, which was there as declared"))
            }
            Outcome::Written(was) => is(format!("wrote Key Manager {name}, where {}", listed(&was))),
            Outcome::AsDeclared if before.is_empty() => None,
            Outcome::AsDeclared => drifted(format!("Key Manager {name} is as declared again")),
            Outcome::Differs(found) if !self.unkept.is_empty() => {
                if found != self.unkept {
                    // Somebody changed more than the server does by itself.
                    self.unkept.clear();
                    self.due = None;
                }
                None
            }
            Outcome::Differs(found) => {
                let text = format!("somebody changed Key Manager {name}: {}", listed(&found));
                let is_news = found != before;
                self.drift = found;
                drifted(text).filter(|_| is_news)
            }
            Outcome::NotKept(left) => {
                let text = format!("wrote Key Manager {name}, but the Admin API keeps not all of it");
                let text = format!("{text}: {}", listed(&left));
                self.unkept = left;
                is(text)
            }
            Outcome::Removed => is(format!("deleted Key Manager {name}: the fleet has it no more")),
            Outcome::WasGone => {
                is(format!("Key Manager {name} is in the fleet no more, and was gone already"))
            }
            Outcome::Left => is(format!(
                "Key Manager {name} is in the fleet no more; it stays, since Convoy never wrote it"
            )),
        }
    }
}

/// Registrations, as far as they need not survive the agent; what must is [`super::Memory::registered`].
#[derive(Debug, Default)]
pub(super) struct KeyManagerWork {
    turn: Option<Turn>,
    /// Of the newest turn.
    run: u64,
    known: BTreeMap<String, Known>,
    /// The files that `known` is about.
    of: Option<Placed>,
    /// When the next turn is due.
    wake: Option<Instant>,
}

impl KeyManagerWork {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.turn.as_ref().map(|turn| turn.until).or(self.wake)
    }
}

impl Engine {
    pub(super) fn settle_key_managers(&mut self, clock: Clock, out: &mut Out) {
        self.key_managers.wake = None;
        if let Some(turn) = self.key_managers.turn.as_ref() {
            if clock.now < turn.until {
                return;
            }
            let run = turn.run;
            self.on_key_manager(clock, run, Err(Trouble::Away("nobody knows how it ended".to_owned())));
        }
        if self.key_managers.of != self.memory.written {
            // Another definition deserves another try at once.
            self.key_managers.of = self.memory.written;
            self.key_managers.known.values_mut().for_each(|known| known.due = None);
        }
        self.hand_over(clock);
        if !self.may_register() {
            return;
        }
        let due = |known: Option<&Known>| known.and_then(|known| known.due).filter(|due| clock.now < *due);
        let works = self.key_manager_works();
        let waiting = works.iter().filter_map(|(name, ..)| due(self.key_managers.known.get(name)));
        self.key_managers.wake = waiting.min();
        let next = works.into_iter().find(|(name, ..)| due(self.key_managers.known.get(name)).is_none());
        if let Some((name, work, of)) = next {
            self.begin_turn(clock, (name, work, of), out);
        }
    }

    /// Whether the portal can be expected to answer, and what is begun can be remembered.
    fn may_register(&self) -> bool {
        let ready =
            matches!(self.service, Service::Running { .. }) && *self.health.verdict() == Verdict::Healthy;
        let is_theirs = self.memory.written.is_none_or(|written| written.is_original());
        ready && !is_theirs && self.phase == Phase::Idle && self.timers.journal.is_none()
    }

    /// Everything that a turn can be about, what is declared first.
    fn key_manager_works(&self) -> Vec<(String, Work, Placed)> {
        let Some((written, bundle)) = self.written() else { return Vec::new() };
        let mut works = Vec::new();
        for one in &bundle.key_managers.kept {
            let known = self.memory.registered.get(&one.name);
            let task = match (self.is_written(one), one.drift) {
                (false, _) if known.is_none() && REGISTERED_MAX <= self.memory.registered.len() => continue,
                (false, _) => Task::Apply,
                (true, DriftPolicy::Ignore) => continue,
                (true, policy) => {
                    Task::Check { correct: policy == DriftPolicy::Enforce && self.corrects(&one.name) }
                }
            };
            works.push((one.name.clone(), Work { registration: one.clone(), task }, written));
        }
        // Files on trial may be taken back, and a deletion cannot be.
        let removes = !self.is_attempting();
        for (name, registered) in self.memory.registered.iter().filter(|_| removes) {
            if bundle.key_managers.kept(name).is_none()
                && let Some(registration) = self.definition(registered, name)
            {
                let task = Task::Remove { confirmed: registered.is_ours };
                works.push((name.clone(), Work { registration, task }, registered.by));
            }
        }
        works
    }

    fn corrects(&self, name: &str) -> bool {
        let unkept = self.key_managers.known.get(name).is_some_and(|known| !known.unkept.is_empty());
        self.memory.pause.is_none() && !unkept
    }

    /// Whether this very definition was written, and nothing was begun since.
    fn is_written(&self, one: &Registration) -> bool {
        self.memory
            .registered
            .get(&one.name)
            .is_some_and(|known| known.is_written && self.definition(known, &one.name).as_ref() == Some(one))
    }

    fn definition(&self, registered: &Registered, name: &str) -> Option<Registration> {
        self.bundle(Some(registered.by)).and_then(|(_, bundle)| bundle.key_managers.kept(name).cloned())
    }

    /// Another node keeps them now, or nobody knows how to reach them any more.
    fn hand_over(&mut self, clock: Clock) {
        let Some((_, bundle)) = self.written() else { return };
        let mut gone = Vec::new();
        for (name, registered) in &self.memory.registered {
            let keeper = bundle.key_managers.elsewhere.iter().find(|other| other.name == *name);
            let declared = bundle.key_managers.kept(name).is_some();
            match keeper {
                Some(other) => {
                    gone.push((name.clone(), format!("{} keeps Key Manager {name} from now on", other.keeper)));
                }
                None if !declared && self.definition(registered, name).is_none() => gone.push((
                    name.clone(),
                    format!(
                        "Key Manager {name} is in the fleet no more, and how it was registered is known no more: it \
                         stays at the Admin API"
                    ),
                )),
                None => {}
            }
        }
        for (name, text) in gone {
            self.memory.registered.remove(&name);
            self.key_managers.known.remove(&name);
            self.notice(clock, NoticeWord::KeyManager, &text, &[("key-manager", name)]);
        }
        let registered = &self.memory.registered;
        self.key_managers
            .known
            .retain(|name, _| bundle.key_managers.kept(name).is_some() || registered.contains_key(name));
    }

    fn begin_turn(&mut self, clock: Clock, (name, work, of): (String, Work, Placed), out: &mut Out) {
        if work.task == Task::Apply {
            let first = Registered { by: of, is_written: false, is_ours: false };
            let registered = self.memory.registered.entry(name).or_insert(first);
            registered.is_written = false;
            if !registered.is_ours {
                registered.by = of;
            }
        }
        self.key_managers.run += 1;
        let run = self.key_managers.run;
        out.push(Action::KeyManager { run, work: Box::new(work.clone()) });
        let until = clock.now.after(TURN_TIMEOUT.saturating_add(OUTCOME_MARGIN));
        self.key_managers.turn = Some(Turn { run, work, of, until });
    }

    pub(super) fn on_key_manager(&mut self, clock: Clock, run: u64, outcome: Result<Outcome, Trouble>) {
        // Told too late otherwise; the next turn looks again.
        let Some(turn) = self.key_managers.turn.take_if(|turn| turn.run == run) else { return };
        match outcome {
            Ok(outcome) => self.turn_over(clock, &turn, outcome),
            Err(trouble) => self.turn_failed(clock, &turn, &trouble),
        }
    }

    fn turn_over(&mut self, clock: Clock, turn: &Turn, outcome: Outcome) {
        let registration = &turn.work.registration;
        let name = registration.name.clone();
        let due = clock.now.after(spread(registration.check_interval, self.seed, turn.run));
        let known = self.key_managers.known.entry(name.clone()).or_default();
        (known.due, known.failures, known.trouble) = (Some(due), 0, None);
        known.looked = Some(clock.wall);
        let told = known.learn(&turn.work, outcome);
        match turn.work.task {
            Task::Apply => {
                let registered = Registered { by: turn.of, is_written: true, is_ours: true };
                self.memory.registered.insert(name.clone(), registered);
            }
            Task::Check { .. } => {}
            Task::Remove { .. } => {
                self.memory.registered.remove(&name);
                self.key_managers.known.remove(&name);
            }
        }
        if let Some((kind, text)) = told {
            self.notice(clock, kind, &text, &[("key-manager", name)]);
        }
    }

    fn turn_failed(&mut self, clock: Clock, turn: &Turn, trouble: &Trouble) {
        let registration = &turn.work.registration;
        let name = registration.name.clone();
        let known = self.key_managers.known.entry(name.clone()).or_default();
        known.failures = known.failures.saturating_add(1);
        let again = match trouble {
            Trouble::Away(_) => {
                let doubled = AWAY_AGAIN.saturating_mul(1 << known.failures.saturating_sub(1).min(10));
                spread(doubled.min(AWAY_MAX), self.seed, turn.run)
            }
            Trouble::Denied(_) | Trouble::OtherType(_) | Trouble::Refused(_) => REFUSED_AGAIN,
        };
        known.due = Some(clock.now.after(again));
        let remedy = trouble.remedy(registration);
        // Said once while it fails alike.
        let is_news = known.trouble.as_ref().is_none_or(|(before, _)| before != trouble);
        known.trouble = Some((trouble.clone(), remedy));
        if let (Trouble::OtherType(_), Some(registered)) = (trouble, self.memory.registered.get(&name))
            && !registered.is_ours
        {
            self.memory.registered.remove(&name);
        }
        if is_news {
            let text = failed(&name, turn.work.task, trouble);
            self.notice(clock, NoticeWord::KeyManagerFailed, &text, &[("key-manager", name)]);
        }
    }

    /// How those stand that the files in force have this node keep.
    pub(super) fn key_managers_seen(&self) -> Vec<Seen> {
        let Some((_, bundle)) = self.written() else { return Vec::new() };
        let seen = |one: &Registration| {
            let known = self.key_managers.known.get(&one.name);
            let state = match known {
                Some(Known { trouble: Some(_), .. }) => State::Failing,
                Some(known) if !known.drift.is_empty() || !known.unkept.is_empty() => State::Differs,
                Some(_) | None if self.is_written(one) => State::Registered,
                Some(_) | None => State::Waiting,
            };
            Seen { name: one.name.clone(), state, looked: known.and_then(|known| known.looked) }
        };
        bundle.key_managers.kept.iter().map(seen).collect()
    }

    /// What is waited for, wrong, or was changed by somebody.
    pub(super) fn key_manager_concerns(&self) -> Vec<Concern> {
        let Some((written, bundle)) = self.written() else { return Vec::new() };
        let mut concerns = Vec::new();
        for (name, known) in &self.key_managers.known {
            let declared = bundle.key_managers.kept(name);
            if let Some((trouble, remedy)) = &known.trouble {
                let task = match (declared, self.memory.registered.get(name)) {
                    (None, _) => Task::Remove { confirmed: true },
                    (Some(_), Some(registered)) if registered.is_written => Task::Check { correct: true },
                    (Some(_), _) => Task::Apply,
                };
                concerns.push(concern(ConcernKind::KeyManager, failed(name, task, trouble), remedy.clone()));
            }
            if !known.drift.is_empty() {
                let detail = format!("somebody changed Key Manager {name}: {}", listed(&known.drift));
                let remedy = if self.memory.pause.is_some() {
                    "enforcement is paused; afterwards it is put back, unless its `drift` is \"report\""
                } else {
                    "take the change over into fleet.toml, or undo it in the Admin portal"
                };
                concerns.push(concern(ConcernKind::KeyManagerDrift, detail, remedy.to_owned()));
            }
            if !known.unkept.is_empty() {
                let detail = format!(
                    "the Admin API does not keep all of Key Manager {name}: {}",
                    listed(&known.unkept)
                );
                let remedy = "see whether this version of the API Manager knows these fields".to_owned();
                concerns.push(concern(ConcernKind::KeyManager, detail, remedy));
            }
        }
        if !written.is_original() && !self.may_register() {
            let is_written = |name: &str| self.memory.registered.get(name).is_some_and(|one| one.is_written);
            let told =
                |name: &str| self.key_managers.known.get(name).is_some_and(|known| known.trouble.is_some());
            let waiting = bundle.key_managers.kept.iter().map(|one| one.name.as_str());
            for name in waiting.filter(|name| !is_written(name) && !told(name)) {
                let detail = format!("Key Manager {name} is not registered yet: the server is not ready");
                concerns.push(concern(
                    ConcernKind::KeyManager,
                    detail,
                    "nothing: it is registered once it is".to_owned(),
                ));
            }
        }
        concerns
    }
}

fn concern(kind: ConcernKind, detail: String, remedy: String) -> Concern {
    Concern { kind, detail, remedy }
}

fn failed(name: &str, task: Task, trouble: &Trouble) -> String {
    let what = match task {
        Task::Apply => "is not registered as declared",
        Task::Check { .. } => "cannot be looked at",
        Task::Remove { .. } => "is in the fleet no more and cannot be deleted",
    };
    format!("Key Manager {name} {what}: {trouble}")
}

fn listed(differences: &[Difference]) -> String {
    let named: Vec<String> = differences.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match differences.len().saturating_sub(NAMED_MAX) {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

/// Three quarters to five quarters of it, another for each node and turn, so that a fleet does not ask in step.
fn spread(interval: Duration, seed: u64, run: u64) -> Duration {
    // The finaliser of splitmix64.
    let mut mixed = seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let per_mille = 750 + u32::try_from((mixed ^ (mixed >> 31)) % 501).unwrap_or(250);
    interval.saturating_mul(per_mille) / 1000
}
