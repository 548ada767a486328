//! What an apply would change, without changing anything. Each node that takes part is compared with what lies on its
//! host (`subjects`); what an apply may not do unasked is judged here for both.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet::{
    approval::Asked,
    finding::{Finding, names_at_most},
    ids::{Digest, NodeName, Revision},
    observed::Drift,
    plan::{
        self, Groups, NodePlan, Note, Unmanaged, compare, digest_of_unmanaged, refused_by_agents, registered,
        untrusted,
    },
    rollout::{
        Estimate, Rollout, Standing, StepState, estimate,
        phase::{KeyHolder, phased_changes},
    },
    signature::Signature,
    spec::{Absent, ComposedNode, Fleet, Sources},
};

use crate::{
    apply::{
        ApplyError, Intent, RevisionDraft, Selection, compose_apart, content::SharedContents, has_errors,
    },
    coordinator::Coordinator,
    effects::{GivenPacks, NodeEffects, Plans, overwritten},
    in_force::{Place, Places},
    outlook,
    proposals::approval_asked,
    signatures::{signers, unsigned},
    store::{StoreError, records::Target},
    subjects::{Part, Subject, Subjects},
    view::Snapshot,
};

/// Nodes that a refusal names.
const NAMED_MAX: usize = 5;

/// What a plan says.
pub struct Planned {
    /// What it is compared with; 0: nothing was applied yet.
    pub base: Revision,
    /// Everything wrong or doubtful.
    pub findings: Vec<Finding>,
    /// Why nothing can be applied, if it is not for the findings.
    pub refusal: Option<String>,
    /// What changes, by node. Nodes without changes are only counted.
    pub nodes: BTreeMap<NodeName, PlannedChange>,
    /// Nodes that the newest revision has and this one has not.
    pub removed: BTreeMap<NodeName, String>,
    /// Nodes that do not change.
    pub unchanged: usize,
    /// The order, for people.
    pub waves: Vec<String>,
    /// How long it is likely to take; `None` if no node changes.
    pub estimate: Option<Estimate>,
    /// What else there is to know.
    pub notes: Vec<Note>,
    /// What an apply has to say that it means it, if it replaces or removes what nobody declared.
    pub unmanaged: Option<Digest>,
    /// Why an apply would only be proposed; `None`: it would be rolled out.
    pub approval: Option<Asked>,
    /// Who may sign it, if an apply is refused without a signature.
    pub signers: Option<String>,
    /// Of a rollback or a proposal: its signature.
    pub signed: Option<Signature>,
}

/// What changes on one node.
pub struct PlannedChange {
    /// Its group.
    pub group: String,
    /// Key by key.
    pub plan: NodePlan,
    /// What its server makes of it, or why that is not known; `None`: there is nothing to tell.
    pub effects: Option<Result<NodeEffects, String>>,
    /// Generated files that somebody changed by hand, if the server restarts.
    pub overwritten: Vec<Drift>,
}

impl Planned {
    fn against(snapshot: &Snapshot, findings: Vec<Finding>) -> Self {
        Self {
            base: snapshot.meta.record.newest_revision,
            findings,
            refusal: None,
            nodes: BTreeMap::new(),
            removed: BTreeMap::new(),
            unchanged: 0,
            waves: Vec::new(),
            estimate: None,
            notes: Vec::new(),
            unmanaged: None,
            approval: None,
            signers: None,
            signed: None,
        }
    }

    /// An apply would be refused.
    pub fn is_refused(&self) -> bool {
        has_errors(&self.findings)
    }

    /// Takes up what changes on the nodes of a revision.
    fn take(&mut self, draft: &RevisionDraft, mut weighed: Plans, snapshot: &Snapshot) {
        let unmanaged = weighed.plans.iter().map(|(name, plan)| (name, plan.unmanaged.as_slice()));
        self.unmanaged = digest_of_unmanaged(unmanaged);
        for (name, plan) in weighed.plans {
            let effects = weighed.effects.remove(&name);
            if plan.is_empty() {
                self.unchanged += 1;
                if effects.is_none() {
                    continue;
                }
            }
            let Some(target) = draft.nodes.get(&name) else { continue };
            let overwritten = if plan.restart.restarts() && !plan.is_new {
                overwritten(snapshot, &name)
            } else {
                Vec::new()
            };
            let group = target.group.to_string();
            self.nodes.insert(name, PlannedChange { group, plan, effects, overwritten });
        }
    }

    /// Takes up what the rollout says, and whom it leaves out.
    fn conclude(&mut self, draft: &RevisionDraft, rollout: &Rollout, snapshot: &Snapshot) {
        for (name, target) in snapshot.revision.iter().flat_map(|revision| &revision.nodes) {
            if !draft.nodes.contains_key(name) {
                self.removed.insert(name.clone(), target.group.to_string());
            }
        }
        self.estimate = (!rollout.steps.is_empty())
            .then(|| estimate(rollout, &snapshot.view_of(&draft.nodes), rollout.started))
            .flatten();
    }
}

impl Coordinator {
    /// What an apply would change, with packs of the operator's for nodes whose own is not known.
    ///
    /// # Errors
    /// The store failed.
    pub async fn plan(
        self: &Arc<Self>,
        sources: Sources,
        given: &GivenPacks,
        only: &Selection,
    ) -> Result<Planned, ApplyError> {
        let secrets = self.secrets(Absent::Refuse).await?;
        let (_, composition) = compose_apart(sources, secrets).await?;
        let snapshot = self.snapshot().await?;
        let mut planned = Planned::against(&snapshot, composition.findings);
        let Some(fleet) = composition.fleet else { return Ok(planned) };
        planned.refusal = self.other_fleet(&fleet);
        if planned.refusal.is_some() {
            return Ok(planned);
        }
        let draft = match RevisionDraft::of(&fleet, &Sources::default()).limited(&fleet, only, &snapshot) {
            Ok(draft) => draft,
            Err(why) => {
                planned.refusal = Some(why);
                return Ok(planned);
            }
        };
        let rollout = self.new_rollout(&snapshot, Some(&fleet), &draft, (Revision(0), None)).await?;
        let subjects = self.subjects(&snapshot, &fleet.nodes, &rollout).await?;
        let packs = self.node_packs(&snapshot, &fleet, (&subjects, given)).await?;
        planned.findings.extend(against_hosts(&subjects, &fleet));
        planned.findings.extend(self.unknown_channels(&fleet));
        let (fleet, limits) = self.database_limits(&snapshot, fleet).await?;
        let (fleet, mut weighed) = self.weigh(fleet, subjects, (packs, limits)).await?;
        planned.findings.append(&mut weighed.findings);
        planned.take(&draft, weighed, &snapshot);
        planned.waves = outlook::waves(&rollout, Some(&fleet.order_reasons));
        planned.conclude(&draft, &rollout, &snapshot);
        planned.approval = self.asked_of(&snapshot, &draft, &rollout).await?;
        planned.signers = signers(&snapshot, &draft, &rollout);
        let places = self.places(&snapshot).await?;
        planned.notes = notes(&snapshot, &draft, &rollout, &places);
        planned.notes.extend(staying(&fleet, &draft, &places));
        Ok(planned)
    }

    /// What going back to an older revision would change. Findings of that time do not matter.
    ///
    /// # Errors
    /// The store failed.
    pub async fn plan_rollback(
        self: &Arc<Self>,
        to: Option<Revision>,
    ) -> Result<(Revision, Planned), ApplyError> {
        let snapshot = self.snapshot().await?;
        let mut planned = Planned::against(&snapshot, Vec::new());
        let draft = match self.way_back(&snapshot, to).await? {
            Ok(draft) => draft,
            Err(why) => {
                planned.refusal = Some(why);
                return Ok((to.unwrap_or(Revision(0)), planned));
            }
        };
        planned.refusal = unsigned(&snapshot, &draft);
        if planned.refusal.is_some() {
            return Ok((draft.rolls_back_to.unwrap_or(Revision(0)), planned));
        }
        planned.signed.clone_from(&draft.signed);
        let rollout = self.new_rollout(&snapshot, None, &draft, (Revision(0), None)).await?;
        let plans = self.compare_stored(&snapshot, (&draft, &rollout), compare_all).await?;
        planned.take(&draft, Plans { findings: Vec::new(), plans, effects: BTreeMap::new() }, &snapshot);
        planned.unchanged += draft.nodes.len().saturating_sub(planned.nodes.len() + planned.unchanged);
        planned.waves = outlook::waves(&rollout, None);
        planned.conclude(&draft, &rollout, &snapshot);
        planned.approval = self.asked_of(&snapshot, &draft, &rollout).await?;
        planned.notes = notes(&snapshot, &draft, &rollout, &self.places(&snapshot).await?);
        Ok((draft.rolls_back_to.unwrap_or(Revision(0)), planned))
    }

    async fn asked_of(
        &self,
        snapshot: &Snapshot,
        draft: &RevisionDraft,
        rollout: &Rollout,
    ) -> Result<Option<Asked>, StoreError> {
        let reached = self.reached(snapshot, draft, rollout).await?;
        Ok(approval_asked(snapshot, draft, &reached))
    }

    /// What `compare` finds on nodes that get what is stored.
    pub(crate) async fn compare_stored<T: Send + 'static>(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        (draft, rollout): (&RevisionDraft, &Rollout),
        compare: fn(&BTreeMap<NodeName, ComposedNode>, &Subjects) -> T,
    ) -> Result<T, ApplyError> {
        let mut nodes = BTreeMap::new();
        let shared = SharedContents::default();
        for name in pending(rollout) {
            let Some(target) = draft.nodes.get(name) else { continue };
            let stored = self.stored_node(target, &shared).await?;
            let stored = stored.ok_or_else(|| StoreError::missing("read a revision's content"))?;
            nodes.insert(
                name.clone(),
                stored.composed(target.group.clone(), target.host.clone(), target.zone.clone()),
            );
        }
        let subjects = self.subjects(snapshot, &nodes, rollout).await?;
        let comparing = crate::tasks::blocking(move || compare(&nodes, &subjects));
        comparing.await.map_err(ApplyError::Compose)
    }

    /// Why a fleet directory is not this coordinator's to apply.
    pub(crate) fn other_fleet(&self, fleet: &Fleet) -> Option<String> {
        (fleet.name != self.fleet).then(|| {
            format!(
                "this directory is fleet {}, and this coordinator keeps fleet {}; check `name` in fleet.toml and \
                 the context you use",
                fleet.name, self.fleet
            )
        })
    }

    /// What the nodes of an apply are compared with.
    pub(crate) async fn subjects_of(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        fleet: &Fleet,
        draft: &RevisionDraft,
    ) -> Result<Subjects, ApplyError> {
        let rollout = self.new_rollout(snapshot, Some(fleet), draft, (Revision(0), None)).await?;
        Ok(self.subjects(snapshot, &fleet.nodes, &rollout).await?)
    }
}

/// What each node would lose that nobody declared. Comparing a large fleet takes a while, so this leaves the runtime's
/// threads alone.
pub(crate) async fn lost_apart(fleet: Fleet, subjects: Subjects) -> Result<(Fleet, Lost), ApplyError> {
    let comparing = crate::tasks::blocking(move || {
        let lost = lost_on_all(&fleet.nodes, &subjects);
        (fleet, lost)
    });
    comparing.await.map_err(ApplyError::Compose)
}

/// What nobody declared and would be replaced or removed, by node; nodes that lose nothing are missing.
pub(crate) type Lost = BTreeMap<NodeName, Vec<Unmanaged>>;

pub(crate) fn lost_on_all(nodes: &BTreeMap<NodeName, ComposedNode>, subjects: &Subjects) -> Lost {
    let changing = subjects.iter().filter(|(_, subject)| subject.part == Part::Changes);
    let of = |(name, subject): (&NodeName, &Subject)| {
        Some((name.clone(), plan::unmanaged(&subject.base, nodes.get(name)?)))
    };
    changing.filter_map(of).filter(|(_, lost)| !lost.is_empty()).collect()
}

pub(crate) fn compare_all(
    nodes: &BTreeMap<NodeName, ComposedNode>,
    subjects: &Subjects,
) -> BTreeMap<NodeName, NodePlan> {
    let of = |(name, subject): (&NodeName, &Subject)| {
        let plan = match subject.part {
            Part::Changes => compare(&subject.base, nodes.get(name)?),
            Part::Stays => NodePlan::untouched(&subject.base),
        };
        Some((name.clone(), plan))
    };
    subjects.iter().filter_map(of).collect()
}

/// Why an apply that replaces or removes what nobody declared is refused: nobody said yes to that, or to something else.
pub(crate) fn lost_unasked(losing: &Lost, intent: &Intent) -> Option<String> {
    let lost = digest_of_unmanaged(losing.iter().map(|(name, lost)| (name, lost.as_slice())))?;
    let nodes = names_at_most(NAMED_MAX, losing.keys().map(NodeName::as_str));
    match intent.replace_unmanaged {
        Some(meant) if meant == lost => None,
        Some(_) => Some(format!(
            "what nobody declared on {nodes} is not what the plan showed any more; nothing was applied, look at the \
             plan again"
        )),
        None => Some(format!(
            "this would replace or remove what nobody declared on {nodes}: the end of the plan lists it; declare it, or \
             apply with --replace-unmanaged if you mean it"
        )),
    }
}

/// What is wrong with the nodes of an apply beside their hosts: keys that must not change in one go, and what the agents
/// would refuse.
pub(crate) fn against_hosts(subjects: &Subjects, fleet: &Fleet) -> Vec<Finding> {
    let changing = || {
        fleet.nodes.iter().filter_map(|(name, node)| {
            let Subject { base, part, .. } = subjects.get(name)?;
            (*part == Part::Changes).then_some((name, node, base))
        })
    };
    let mut findings = refused_by_agents(changing());
    findings.extend(untrusted(changing()));
    let asked = fleet.nodes.iter().filter_map(|(name, node)| {
        let subject = subjects.get(name)?;
        Some((name, node, subject.base.assigned.as_ref(), subject.registered.as_ref()?))
    });
    findings.extend(registered(asked));
    findings.extend(phased(subjects, fleet));
    findings
}

/// Keys that must not change in one go, be they assigned or found on the hosts. Nodes that are new have nothing to agree
/// on yet.
fn phased(subjects: &Subjects, fleet: &Fleet) -> Vec<Finding> {
    let holders = fleet.nodes.iter().filter_map(|(name, node)| {
        let Subject { base, part, .. } = subjects.get(name)?;
        if *part == Part::Stays {
            return None;
        }
        let meaning = |path| Some((path, base.meaning(path)?));
        let before = node.bundle.files.keys().filter_map(meaning).collect();
        Some((name.clone(), KeyHolder { before, new: &node.bundle }))
    });
    phased_changes(&holders.collect()).into_iter().map(Finding::from).collect()
}

/// How the rollout will go differently from the last one, and what will hold it up.
fn notes(snapshot: &Snapshot, draft: &RevisionDraft, rollout: &Rollout, places: &Places) -> Vec<Note> {
    let mut notes = policy_notes(snapshot, draft);
    notes.extend(plan::closed_windows(rollout, rollout.started));
    for name in rollout.steps.keys() {
        if let Some((reason, until)) = snapshot.observed(name).and_then(|seen| seen.drift_pause.clone()) {
            notes.push(Note::NodePaused { node: name.clone(), reason, until });
        }
        if !snapshot.live.contains_key(name) {
            notes.push(Note::NodeUnreachable { node: name.clone(), why: snapshot.state(name).why() });
        }
    }
    for name in draft.nodes.keys() {
        if let Some(Place { revision, standing: Standing::Behind(_) }) = places.of(name) {
            notes.push(Note::NodeBehind { node: name.clone(), on: *revision });
        }
    }
    notes
}

/// Nodes that a partial apply leaves as they are, although the directory says something else.
fn staying<'a>(
    fleet: &'a Fleet,
    draft: &'a RevisionDraft,
    places: &'a Places,
) -> impl Iterator<Item = Note> + 'a {
    let never = fleet.nodes.keys().filter(|name| !draft.nodes.contains_key(*name));
    draft.left_out.iter().chain(never).map(|name| Note::NodeStays {
        node: name.clone(),
        on: places.of(name).and_then(|place| place.revision),
    })
}

fn policy_notes(snapshot: &Snapshot, draft: &RevisionDraft) -> Vec<Note> {
    let Some(revision) = &snapshot.revision else { return Vec::new() };
    let groups = |nodes: &BTreeMap<NodeName, Target>| -> Groups {
        nodes.iter().map(|(name, target)| (name.clone(), target.group.clone())).collect()
    };
    let mut notes = plan::renamed(&groups(&revision.nodes), &groups(&draft.nodes));
    if let Some(rules) = &revision.rules {
        notes.extend(plan::policy_changes(rules, &draft.rules, &notes));
    }
    if revision.alerts != draft.alerts {
        let (old, new) = (revision.alerts.to_string(), draft.alerts.to_string());
        // Routes that differ may read alike.
        let new = if old == new { format!("{new}, others") } else { new };
        notes.push(Note::Policy { group: None, setting: "alerts", old, new });
    }
    notes
}

/// Names of everything that takes part in a rollout from its beginning.
pub(crate) fn pending(rollout: &Rollout) -> BTreeSet<&NodeName> {
    let is_pending = |state: &StepState| matches!(state, StepState::Pending);
    rollout.steps.iter().filter(|(_, step)| is_pending(&step.state)).map(|(name, _)| name).collect()
}
