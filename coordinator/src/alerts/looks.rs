//! What one look at the fleet finds wrong: from the mirror's records, who is connected, and new events.

use std::{collections::BTreeMap, time::Duration};

use fleet::{
    alert::{AlertId, Blindness, Expected, Held, Looks, Place, Rule, Subject},
    ids::{ChannelName, NodeName, RolloutId},
    observed::{Drift, DriftAction, DriftKind, Observed, RefusalReason, ServiceState, Verdict},
    reason::Reason,
    rollout::{Phase, Promotion, Rollout, RolloutPolicy, StepKind, StepRecord, StepState, WaitReason, plan},
    time::{Human, Timestamp},
    words::{NoticeWord, ProposalWord},
};

use crate::{
    disk::StoreTrouble,
    events::Kind,
    sessions::LiveNode,
    store::records::{EventRecord, NodeRecord, ProposalRecord},
    view::{Facts as Known, Snapshot},
};

/// A rollout that got no further for so long makes no progress.
const STALLED_AFTER: Duration = Duration::from_secs(1800);
/// Keys of a file that a reason names.
const KEYS_MAX: usize = 5;

/// What else a look needs to know.
pub(super) struct Circumstances {
    /// By the coordinator's clock.
    pub(super) now: Timestamp,
    /// The coordinator has been up for long enough that an agent that is not connected is gone.
    pub(super) is_settled: bool,
    /// Less of a node's certificate is left than an agent that renews lets it come to.
    pub(super) certificate_left: Duration,
    /// When the authority's certificate ends.
    pub(super) authority_ends: Option<Timestamp>,
    /// Channels that have owed a message for a day, and since when.
    pub(super) undelivered: BTreeMap<ChannelName, Timestamp>,
}

/// Everything that is wrong now, what is not known, and what is expected.
pub(super) fn looks(snapshot: &Snapshot, events: &[EventRecord], facts: &Circumstances) -> Looks {
    let mut looks = Looks::default();
    let wanted = snapshot.revision.iter().flat_map(|revision| &revision.nodes);
    for (name, target, known) in snapshot.facts(wanted) {
        let place = Place::Group(target.group.clone());
        Node { name, place: &place, known, facts }.look(&mut looks);
    }
    if let Some(rollout) = snapshot.rollouts.first() {
        look_at_rollout(&mut looks, snapshot, &rollout.record.rollout, facts.now);
    }
    look_at_proposals(&mut looks, snapshot, facts.now);
    look_at_coordinator(&mut looks, snapshot, facts);
    for event in events {
        happened(&mut looks, snapshot, event);
    }
    looks
}

struct Node<'a> {
    name: &'a NodeName,
    place: &'a Place,
    known: Known<'a>,
    facts: &'a Circumstances,
}

impl Node<'_> {
    fn id(&self, rule: Rule) -> AlertId {
        AlertId { rule, subject: Subject::Node(self.name.clone()) }
    }

    fn hold(&self, looks: &mut Looks, rule: Rule, reason: impl Into<String>) {
        looks.hold(self.id(rule), Held { place: self.place.clone(), reason: reason.into() });
    }

    fn look(&self, looks: &mut Looks) {
        let record = self.known.record.map(|node| &node.record);
        let Some(record) = record.filter(|record| record.enrolment.is_some()) else { return };
        self.certificate(looks, record);
        let Some(live) = self.known.live else {
            self.absent(looks);
            return;
        };
        if let Some(trouble) = &live.journal_error {
            self.hold(looks, Rule::JournalUnwritable, trouble.why.clone());
        }
        match live.observed.as_ref().filter(|_| is_present(live)) {
            Some(observed) => self.reported(looks, record, observed),
            None => looks.blind(self.name.clone(), Blindness::Report),
        }
    }

    fn absent(&self, looks: &mut Looks) {
        // Whoever joined and never connected has nothing that could be missed.
        let Some(seen) = self.known.seen else { return };
        if !self.facts.is_settled {
            looks.blind(self.name.clone(), Blindness::Everything);
            return;
        }
        looks.blind(self.name.clone(), Blindness::Report);
        let before = seen.observed.as_ref().map_or("nothing is known of its server", |observed| {
            match (&observed.service, &observed.health) {
                (ServiceState::Running, Verdict::Healthy) => {
                    "its server was healthy and is probably still running"
                }
                (ServiceState::Running, Verdict::Unhealthy(_) | Verdict::Unknown(_)) => {
                    "its server was running and not healthy"
                }
                (
                    ServiceState::Stopped
                    | ServiceState::Starting
                    | ServiceState::Stopping
                    | ServiceState::BackingOff { .. }
                    | ServiceState::GaveUp { .. }
                    | ServiceState::Foreign
                    | ServiceState::Unknown,
                    _,
                ) => "its server was not running",
            }
        });
        self.hold(looks, Rule::NodeSilent, format!("its agent is not connected; when last heard, {before}"));
    }

    fn certificate(&self, looks: &mut Looks, record: &NodeRecord) {
        let Some(own) = record.enrolment.as_ref() else { return };
        let left = own.expires.since(self.facts.now);
        if left < self.facts.certificate_left {
            let left =
                if left.is_zero() { "has ended".to_owned() } else { format!("ends in {}", Human(left)) };
            self.hold(looks, Rule::CertificateEnding, format!("its certificate {left} and was not renewed"));
        }
    }

    fn reported(&self, looks: &mut Looks, record: &NodeRecord, observed: &Observed) {
        for drift in &observed.drift {
            self.drift(looks, drift);
        }
        for concern in &observed.concerns {
            // The word of a newer agent has none: `status` shows it.
            let Some(rule) = Rule::of_concern(&concern.kind) else { continue };
            self.hold(looks, rule, concern.detail.clone());
        }
        let Some(desired) = record.desired.as_ref() else { return };
        let attempt = observed.attempted.as_ref();
        let attempt = attempt.filter(|attempt| attempt.target.generation == desired.generation);
        if let Some(failure) = attempt.and_then(|attempt| attempt.failure.as_ref())
            && failure.reason != RefusalReason::Withdrawn
        {
            let reason = format!("generation {}: {}: {}", desired.generation, failure.reason, failure.detail);
            self.hold(looks, Rule::AssignmentRefused, reason);
        }
        if record.run == fleet::bundle::RunState::Running {
            self.service(looks, observed);
        }
    }

    fn drift(&self, looks: &mut Looks, drift: &Drift) {
        let rule = match (drift.action, drift.kind) {
            (DriftAction::Restored | DriftAction::Paused | DriftAction::Accepted, _)
            | (DriftAction::Reported, DriftKind::ProductOwned) => return,
            (DriftAction::TugOfWar, _) => Rule::TugOfWar,
            (DriftAction::Reported, DriftKind::GeneratedEdited | DriftKind::GeneratedDeleted) => {
                Rule::DoomedEdit
            }
            (
                DriftAction::Reported,
                DriftKind::Edited | DriftKind::Deleted | DriftKind::Mode | DriftKind::Owner,
            ) => Rule::DriftFound,
        };
        let done = match drift.action {
            DriftAction::TugOfWar => "left alone after several restores",
            DriftAction::Reported | DriftAction::Restored | DriftAction::Paused | DriftAction::Accepted => {
                "left as it is"
            }
        };
        let subject = Subject::File { node: self.name.clone(), path: drift.path.clone() };
        let by = fleet::editor::named(&drift.editors).map_or_else(String::new, |who| format!(", by {who}"));
        let reason = format!("{}, {done}{}{by}", drift.kind.as_str(), of_keys(&drift.keys));
        looks.hold(AlertId { rule, subject }, Held { place: self.place.clone(), reason });
    }

    fn service(&self, looks: &mut Looks, observed: &Observed) {
        let why = Reason(&observed.service_reason);
        match &observed.service {
            ServiceState::Running => match &observed.health {
                Verdict::Healthy => {}
                Verdict::Unhealthy(why) => self.hold(looks, Rule::Unhealthy, why.clone()),
                Verdict::Unknown(_) => looks.unknown(self.id(Rule::Unhealthy)),
            },
            ServiceState::BackingOff { exits, .. } => {
                self.hold(looks, Rule::ServerDown, format!("ended {exits} times and is started again{why}"));
            }
            ServiceState::Stopped => self.hold(looks, Rule::ServerDown, format!("not running{why}")),
            ServiceState::Foreign => {
                self.hold(looks, Rule::ServerDown, format!("another server holds its home{why}"));
            }
            ServiceState::GaveUp { exits } => {
                let last = observed.last_output.last().map(|line| format!("; last line: {line}"));
                let last = last.unwrap_or_default();
                self.hold(looks, Rule::CrashLoop, format!("ended {exits} times{why}{last}"));
            }
            // Whether it will serve is not known yet; nothing begins or ends by it.
            ServiceState::Starting | ServiceState::Stopping | ServiceState::Unknown => {
                for rule in [Rule::ServerDown, Rule::Unhealthy, Rule::CrashLoop] {
                    looks.unknown(self.id(rule));
                }
            }
        }
    }
}

/// What its agent said last is of the present.
fn is_present(live: &LiveNode) -> bool {
    live.reported && !live.restarting && live.journal_error.is_none()
}

fn of_keys(keys: &[String]) -> String {
    let more = keys.len().saturating_sub(KEYS_MAX);
    let named = keys.iter().take(KEYS_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match (keys.len(), more) {
        (0, _) => String::new(),
        (_, 0) => format!("; keys: {named}"),
        (_, more) => format!("; keys: {named} and {more} more"),
    }
}

fn look_at_rollout(looks: &mut Looks, snapshot: &Snapshot, rollout: &Rollout, now: Timestamp) {
    let of_rollout = |rule| AlertId { rule, subject: Subject::Rollout(rollout.id) };
    let held = |reason: String| Held { place: Place::Fleet, reason };
    match &rollout.phase {
        Phase::Stopping { why, aborted: false } | Phase::Failed { why } => {
            looks.hold(of_rollout(Rule::RolloutStopped), held(why.clone()));
        }
        Phase::RollingBack { why } | Phase::RolledBack { why } => {
            looks.hold(of_rollout(Rule::RolledBack), held(why.clone()));
        }
        Phase::Running if rollout.paused.is_none() => look_at_waiting(looks, snapshot, rollout, now),
        Phase::Running
        | Phase::Stopping { aborted: true, .. }
        | Phase::Done
        | Phase::Aborted { .. }
        | Phase::Superseded { .. } => {}
    }
    for (node, step) in &rollout.steps {
        look_at_step(looks, rollout, (node, step), now);
    }
}

fn look_at_step(
    looks: &mut Looks,
    rollout: &Rollout,
    (node, step): (&NodeName, &StepRecord),
    now: Timestamp,
) {
    let policy = rollout.groups.get(&step.group).map(|group| &group.policy);
    let deadline = policy.map_or(Duration::ZERO, |policy| policy.healthy_deadline);
    match &step.state {
        StepState::InFlight(flight) => {
            let why = match flight.kind {
                StepKind::Update => format!("rollout {} changes it", rollout.id),
                StepKind::RollBack => format!("rollout {} returns it", rollout.id),
            };
            looks.expect(node.clone(), Expected { until: flight.explains_until(deadline, now), why });
        }
        StepState::Failed { at, why, .. } | StepState::ReturnFailed { at, why, .. } => {
            let subject = Subject::Step { rollout: rollout.id, node: node.clone() };
            let place = Place::Group(step.group.clone());
            looks.hold(AlertId { rule: Rule::StepFailed, subject }, Held { place, reason: why.clone() });
            // Its turn to return comes when budget and order allow it.
            if matches!(rollout.phase, Phase::RollingBack { .. })
                && matches!(step.state, StepState::Failed { .. })
            {
                let why = format!("rollout {} is going to return it", rollout.id);
                looks.expect(node.clone(), Expected { until: at.after(deadline), why });
            }
        }
        StepState::Pending
        | StepState::Ready { .. }
        | StepState::RolledBack { .. }
        | StepState::ReturnUnseen { .. }
        | StepState::Skipped { .. } => {}
    }
}

fn look_at_waiting(looks: &mut Looks, snapshot: &Snapshot, rollout: &Rollout, now: Timestamp) {
    let progress = rollout.groups.values().map(|group| group.progress).max().unwrap_or(rollout.started);
    let idle = now.since(progress.max(rollout.started));
    let is_manual = |policy: &RolloutPolicy| policy.canary.is_some() && policy.promotion == Promotion::Manual;
    let may_await = rollout.groups.values().any(|group| group.wave == 0 && is_manual(&group.policy));
    // To ask the planner costs a look at every node.
    if idle < STALLED_AFTER && !may_await {
        return;
    }
    let waiting = plan(rollout, &snapshot.view(), now).waiting;
    let hold = |looks: &mut Looks, rule, reason: String| {
        let id = AlertId { rule, subject: Subject::Rollout(rollout.id) };
        looks.hold(id, Held { place: Place::Fleet, reason });
    };
    let is_promotion = |reason: &&WaitReason| matches!(reason, WaitReason::Promotion { .. });
    if let Some(promotion) = waiting.iter().find(is_promotion) {
        hold(looks, Rule::AwaitingPromotion, promotion.to_string());
        return;
    }
    let is_wanted = |reason: &WaitReason| {
        matches!(
            reason,
            WaitReason::Window { .. } | WaitReason::WindowTooShort { .. } | WaitReason::Soak { .. }
        )
    };
    if STALLED_AFTER <= idle && !waiting.iter().any(is_wanted) {
        let why = waiting.first().map(ToString::to_string).unwrap_or_default();
        hold(looks, Rule::RolloutStalled, format!("no progress for more than 30m{}", Reason(&why)));
    }
}

/// One that is outdated waits for its author, not for somebody who approves it.
fn look_at_proposals(looks: &mut Looks, snapshot: &Snapshot, now: Timestamp) {
    let newest = snapshot.meta.record.newest_revision;
    let is_open = |record: &&ProposalRecord| record.proposed().standing(now, newest) == ProposalWord::Open;
    for record in snapshot.proposals.values().map(|it| &it.record).filter(is_open) {
        let id = AlertId { rule: Rule::ApprovalWaiting, subject: Subject::Proposal(record.id) };
        let left = Human(record.expires.since(record.told().created));
        let reason = format!("by {}, for {left} at most; {}", record.author, record.asked);
        looks.hold(id, Held { place: Place::Fleet, reason });
    }
}

fn look_at_coordinator(looks: &mut Looks, snapshot: &Snapshot, facts: &Circumstances) {
    let held = |reason: String| Held { place: Place::Fleet, reason };
    if let Some(trouble) = &snapshot.trouble {
        let reason = match trouble {
            StoreTrouble::CannotCommit { why } => format!("the store does not commit: {why}"),
            StoreTrouble::LowRoom { .. } => "its disk is nearly full; applies are refused".to_owned(),
        };
        looks.hold(AlertId { rule: Rule::StoreTrouble, subject: Subject::Coordinator }, held(reason));
    }
    let left = facts.authority_ends.map(|ends| ends.since(facts.now));
    if let Some(left) = left.filter(|left| *left < AUTHORITY_LEFT) {
        let reason = format!("the authority's certificate ends in {}", Human(left).in_days());
        looks.hold(AlertId { rule: Rule::CertificateEnding, subject: Subject::Authority }, held(reason));
    }
    for channel in facts.undelivered.keys() {
        let subject = Subject::Channel(channel.clone());
        let reason = "it has taken no message for a day".to_owned();
        looks.hold(AlertId { rule: Rule::AlertsUndelivered, subject }, held(reason));
    }
}

/// Every certificate of the fleet rests on the authority's, and replacing it takes a visit to every host.
const AUTHORITY_LEFT: Duration = Duration::from_secs(90 * 24 * 3600);

fn happened(looks: &mut Looks, snapshot: &Snapshot, event: &EventRecord) {
    if event.kind == Kind::BreakGlass.as_str() {
        let rollout = event.fields.get("rollout").and_then(|rollout| rollout.parse().ok());
        let subject = rollout.map_or(Subject::Coordinator, |id| Subject::Rollout(RolloutId(id)));
        let held = Held { place: Place::Fleet, reason: event.text.clone() };
        looks.happen(AlertId { rule: Rule::BreakGlass, subject }, held);
        return;
    }
    let Some(node) = event.node.as_ref().filter(|_| event.kind == NoticeWord::DriftRestored.as_str()) else {
        return;
    };
    let Some(target) = snapshot.wanted(node) else { return };
    let path = event.fields.get("path").and_then(|path| fleet::bundle::HomePath::parse(path).ok());
    let (subject, said) = match path {
        Some(path) => {
            let said = event.text.strip_prefix(path.as_str()).unwrap_or(&event.text);
            let said = said.trim_start_matches([':', ' ']).to_owned();
            (Subject::File { node: node.clone(), path }, said)
        }
        None => (Subject::Node(node.clone()), event.text.clone()),
    };
    let keys: Vec<String> = event
        .fields
        .get("keys")
        .into_iter()
        .flat_map(|keys| keys.split(", "))
        .filter(|key| !key.is_empty())
        .map(str::to_owned)
        .collect();
    let reason = format!("{said}{}", of_keys(&keys));
    let held = Held { place: Place::Group(target.group.clone()), reason };
    looks.happen(AlertId { rule: Rule::DriftRestored, subject }, held);
}
