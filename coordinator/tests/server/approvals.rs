//! Four eyes: what asks for approval waits for somebody else, who sees the same and rolls out the same.

use std::{collections::BTreeMap, time::Duration};

use fleet::access::Role;
use proto::wire::operator::{
    self as wire, operator_client::OperatorClient, proposals_client::ProposalsClient,
    revisions_client::RevisionsClient, upload::Part,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::{
    audit::entries,
    operators::{Person, added, hostname, limited, remove, two_groups},
    packs::pack,
    support::{PATIENCE, ScriptedAgent, TestCoordinator, upload},
};

/// Two groups, with these lines in fleet.toml.
fn fleet(km: &str, beside: &str, approval: &str) -> BTreeMap<String, String> {
    let mut files = two_groups(&hostname(km), &hostname(beside));
    files.get_mut("fleet.toml").unwrap().push_str(approval);
    files
}

const OF_KM: &str = "[groups.km.approval]\nrequired = true\n";

/// A fleet whose revision 1 asks for approval of km, and three operators.
struct Site {
    coordinator: TestCoordinator,
    alice: Person,
    bob: Person,
    carol: Person,
    _agents: Vec<ScriptedAgent>,
}

impl Site {
    async fn open() -> Self {
        let coordinator = TestCoordinator::start().await;
        let mut agents = Vec::new();
        for node in ["km-1", "beside-1"] {
            let node = coordinator.join(node).await;
            agents.push(ScriptedAgent::start(&coordinator, &node).await);
        }
        let alice = added(&coordinator, "alice", Role::Operator, &[]).await;
        let bob = added(&coordinator, "bob", Role::Operator, &["km"]).await;
        let carol = added(&coordinator, "carol", Role::Operator, &["beside"]).await;
        let site = Self { coordinator, alice, bob, carol, _agents: agents };
        let first = site.apply(&site.alice, &fleet("one", "b", OF_KM)).await;
        assert_eq!(proposal(&first).base, 0);
        let admin = admin(&site.coordinator).await;
        let applied = ProposalsClient::new(admin).approve(wire::ProposalRequest { proposal: 1 }).await;
        assert_eq!(applied.unwrap().into_inner().revision, 1);
        site.done().await;
        site
    }

    /// Waits for the end of the rollout: a change reaches what the rollout before it goes through, too.
    async fn done(&self) {
        let is_done =
            |status: &wire::StatusReply| status.rollouts.first().is_some_and(|it| it.state == "done");
        self.coordinator.until("the rollout is done", is_done).await;
    }

    async fn channel(&self, who: &Person) -> Channel {
        who.channel(&self.coordinator).await
    }

    async fn apply(&self, who: &Person, files: &BTreeMap<String, String>) -> wire::ApplyReply {
        self.send(who, upload(files, None)).await.unwrap()
    }

    async fn send(&self, who: &Person, messages: Vec<wire::Upload>) -> Result<wire::ApplyReply, Status> {
        let mut operator = OperatorClient::new(self.channel(who).await);
        Ok(operator.apply(tokio_stream::iter(messages)).await?.into_inner())
    }

    async fn approve(&self, who: &Person, id: u64) -> Result<wire::ApplyReply, Status> {
        let mut proposals = ProposalsClient::new(self.channel(who).await);
        Ok(proposals.approve(wire::ProposalRequest { proposal: id }).await?.into_inner())
    }

    async fn refused(&self, who: &Person, id: u64) -> String {
        let reply = self.approve(who, id).await.unwrap();
        assert!(reply.refused && reply.revision == 0, "{reply:?}");
        reply.refusal
    }

    async fn reject(&self, who: &Person, id: u64, reason: &str) -> Result<wire::CommandReply, Status> {
        let mut proposals = ProposalsClient::new(self.channel(who).await);
        let request = wire::RejectProposalRequest { proposal: id, reason: reason.to_owned() };
        Ok(proposals.reject(request).await?.into_inner())
    }

    async fn shown(&self, id: u64) -> wire::ShowProposalReply {
        let mut proposals = ProposalsClient::new(self.channel(&self.carol).await);
        proposals.show(wire::ProposalRequest { proposal: id }).await.unwrap().into_inner()
    }

    async fn revision(&self, number: u64) -> wire::Revision {
        let mut revisions = RevisionsClient::new(self.channel(&self.carol).await);
        let request = wire::ListRevisionsRequest { most: 1, revision: number };
        revisions.list(request).await.unwrap().into_inner().revisions.remove(0)
    }

    async fn newest(&self) -> u64 {
        self.coordinator.status().await.revision
    }

    async fn events(&self, kind: &str) -> Vec<String> {
        let events = self.coordinator.events(wire::EventsRequest::default()).await;
        events.into_iter().filter(|event| event.kind == kind).map(|event| event.text).collect()
    }
}

/// The first operator.
async fn admin(coordinator: &TestCoordinator) -> Channel {
    let context = coordinator.context();
    coordinator.channel(Some((&context.certificate_pem, &context.key_pem))).await.unwrap()
}

fn proposal(reply: &wire::ApplyReply) -> &wire::Proposal {
    assert!(reply.refused && reply.revision == 0 && reply.rollout == 0, "{reply:?}");
    reply.proposal.as_ref().unwrap_or_else(|| panic!("no proposal: {reply:?}"))
}

#[tokio::test]
async fn what_asks_for_approval_is_rolled_out_by_somebody_else_as_it_was_proposed() {
    let site = Site::open().await;
    let reply = site.apply(&site.alice, &fleet("two", "b", OF_KM)).await;
    let made = proposal(&reply);
    assert_eq!((made.id, made.base, made.author.as_str(), made.state.as_str()), (2, 1, "alice", "open"));
    assert_eq!((made.groups.as_slice(), made.fleet), (["km".to_owned()].as_slice(), false));
    assert_eq!(made.asked, "group km asks for approval");
    // Not carol, whose role does not reach km, and not alice.
    assert_eq!(reply.approvers, ["admin", "bob"]);
    assert_eq!(site.newest().await, 1, "nothing is applied yet");

    let shown = site.shown(2).await;
    let plan = shown.plan.unwrap();
    assert_eq!(plan.nodes[0].keys[0].key, "server.hostname");
    assert_eq!(plan.approval, "group km asks for approval");
    let own = site.refused(&site.alice, 2).await;
    assert_eq!(own, "proposal 2 is by alice, and nobody approves their own; somebody else has to");
    let foreign = site.approve(&site.carol, 2).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied, "{foreign:?}");
    assert!(foreign.message().contains("approving this takes the role operator for group km"), "{foreign:?}");
    assert_eq!(site.newest().await, 1);

    let applied = site.approve(&site.bob, 2).await.unwrap();
    assert_eq!((applied.revision, applied.rollout, applied.refused), (2, 2, false));
    let revision = site.revision(2).await;
    assert_eq!((revision.author.as_str(), revision.approved_by.as_str()), ("alice", "bob"));
    assert_eq!((revision.proposal, revision.message.as_str()), (2, "a change"));
    assert_eq!(revision.changed, "changed km-1: server.hostname");
    let told = site.shown(2).await;
    let told = told.proposal.unwrap();
    assert_eq!((told.state.as_str(), told.decided_by.as_str(), told.revision), ("approved", "bob", 2));
    let again = site.refused(&site.bob, 2).await;
    assert_eq!(again, "proposal 2 was approved by bob already, and is revision 2");
    let applied = site.events("applied").await;
    assert!(
        applied[1].starts_with("approved proposal 2 of alice and applied revision 2: a change"),
        "{applied:?}"
    );
    let acts = entries(&site.coordinator).await.unwrap();
    let acts: Vec<(&str, &str, &str)> =
        acts.iter().map(|(it, _)| (it.actor.as_str(), it.act.as_str(), it.outcome.as_str())).collect();
    for expected in [
        ("alice", "apply", "done"),
        ("alice", "approve", "refused"),
        ("carol", "approve", "denied"),
        ("bob", "approve", "done"),
    ] {
        assert!(acts.contains(&expected), "{expected:?} is not in {acts:?}");
    }
}

#[tokio::test]
async fn what_does_not_reach_the_rule_goes_out_at_once_and_outdates_what_waits() {
    let site = Site::open().await;
    site.apply(&site.alice, &fleet("two", "b", OF_KM)).await;
    let beside = limited(&fleet("one", "other", OF_KM), &["beside"]);
    assert_eq!(site.send(&site.carol, beside).await.unwrap().revision, 2);
    let why = site.refused(&site.bob, 2).await;
    assert!(
        why.contains("proposal 2 cannot be approved any more: this change was made on revision 1"),
        "{why}"
    );
    assert!(why.contains("revision 2 is by carol"), "{why}");
    assert_eq!(site.shown(2).await.proposal.unwrap().state, "outdated");
    // What is in force was approved: bringing it to those that are behind needs nobody.
    let again = site.apply(&site.alice, &fleet("one", "other", OF_KM)).await;
    assert!(!again.refused && again.proposal.is_none(), "{again:?}");
}

#[tokio::test]
async fn the_rule_ends_only_with_approval() {
    let site = Site::open().await;
    let reply = site.apply(&site.alice, &fleet("one", "b", "")).await;
    let asked = &proposal(&reply).asked;
    assert_eq!(asked, "group km asks for approval, also for the change that ends this rule");
    site.approve(&site.bob, 2).await.unwrap();
    site.done().await;
    let free = site.apply(&site.alice, &fleet("two", "b", "")).await;
    assert_eq!((free.revision, free.refused), (3, false));
    // It begins only with approval, too: of the whole fleet, to which bob's role does not reach.
    let begins = site.apply(&site.alice, &fleet("two", "b", "[approval]\nrequired = true\n")).await;
    assert_eq!(proposal(&begins).asked, "the fleet asks for approval");
    assert_eq!(begins.approvers, ["admin"]);
    assert_eq!(site.approve(&site.bob, 3).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_proposal_ends_by_rejection_and_its_author_takes_it_back() {
    let site = Site::open().await;
    site.apply(&site.alice, &fleet("two", "b", OF_KM)).await;
    let nameless = site.reject(&site.bob, 2, " ").await.unwrap_err();
    assert_eq!(nameless.code(), Code::InvalidArgument);
    assert_eq!(site.reject(&site.carol, 2, "no").await.unwrap_err().code(), Code::PermissionDenied);
    let reply = site.reject(&site.bob, 2, "not before noon").await.unwrap();
    assert_eq!((reply.ok, reply.detail.as_str()), (true, "bob rejects proposal 2 of alice: not before noon"));
    let over = site.refused(&site.bob, 2).await;
    assert_eq!(over, "proposal 2 was rejected by bob: not before noon; its author can propose it again");
    let twice = site.reject(&site.bob, 2, "again").await.unwrap();
    assert!(!twice.ok && twice.guard, "{twice:?}");
    assert_eq!(site.approve(&site.bob, 9).await.unwrap_err().code(), Code::NotFound);

    site.apply(&site.alice, &fleet("three", "b", OF_KM)).await;
    let reply = site.reject(&site.alice, 3, "a typing error").await.unwrap();
    assert_eq!(reply.detail, "alice takes back proposal 3: a typing error");
    assert_eq!(site.newest().await, 1);
}

#[tokio::test]
async fn an_emergency_goes_out_without_approval_and_everybody_hears_of_it() {
    let site = Site::open().await;
    let mut messages = upload(&fleet("two", "b", OF_KM), None);
    if let Some(Part::Header(header)) = &mut messages[0].part {
        header.break_glass = "login is down".to_owned();
    }
    let applied = site.send(&site.alice, messages).await.unwrap();
    assert_eq!((applied.revision, applied.refused), (2, false));
    let revision = site.revision(2).await;
    assert_eq!((revision.broke_glass.as_str(), revision.approved_by.as_str()), ("login is down", ""));
    let told = site.events("break-glass").await;
    assert_eq!(
        told,
        [
            "alice applied revision 2 without the approval that it needs: login is down; group km asks for approval"
        ]
    );
    let acts = entries(&site.coordinator).await.unwrap();
    let broke = "broke the glass (login is down) and applied revision 2";
    assert!(acts.iter().any(|(it, _)| it.actor == "alice" && it.text.starts_with(broke)), "{acts:?}");
    let mut alerts = crate::alerts::alerts(&site.coordinator).await;
    let alerted = async {
        loop {
            let found = alerts.list(wire::ListAlertsRequest {}).await.unwrap().into_inner().alerts;
            if found.iter().any(|alert| alert.rule == "break-glass" && alert.reason.contains("login is down"))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, alerted).await.expect("it is alerted");
}

#[tokio::test]
async fn what_somebody_approves_is_what_was_proposed_by_somebody_who_still_may() {
    let site = Site::open().await;
    let mut secrets = site.coordinator.secrets().await;
    let mut set = async |value: &str| {
        let request = wire::SetSecretRequest { name: "admin".to_owned(), value: value.to_owned() };
        secrets.set(request).await.unwrap();
    };
    set("first word").await;
    let mut files = fleet("one", "b", OF_KM);
    let password = "[super_admin]\npassword = \"{{ secret('admin') }}\"\n";
    files.get_mut("config/km.toml").unwrap().push_str(password);
    assert_eq!(proposal(&site.apply(&site.alice, &files).await).id, 2);
    set("another word").await;
    let why = site.refused_by_admin(2).await;
    assert!(
        why.contains("proposal 2 would now be something else on km-1, most likely because a secret"),
        "{why}"
    );

    site.apply(&site.alice, &fleet("two", "b", OF_KM)).await;
    remove(&site.coordinator, "alice").await;
    let why = site.refused(&site.bob, 3).await;
    assert_eq!(why, "alice, who made proposal 3, is no operator any more");
    assert_eq!(site.newest().await, 1);
}

#[tokio::test]
async fn what_waits_is_in_the_status_and_alerted_until_somebody_decides() {
    let site = Site::open().await;
    site.apply(&site.alice, &fleet("two", "b", OF_KM)).await;
    // The status that follows the answer has it.
    let shown = site.coordinator.status().await.proposals;
    let shown: Vec<(u64, &str, &str)> =
        shown.iter().map(|it| (it.id, it.author.as_str(), it.state.as_str())).collect();
    assert_eq!(shown, [(2, "alice", "open")]);
    let mut alerts = crate::alerts::alerts(&site.coordinator).await;
    let mut until = async |proposal: &str, state: wire::AlertState| {
        let waited = async {
            loop {
                let found = alerts.list(wire::ListAlertsRequest {}).await.unwrap().into_inner().alerts;
                let is_it = |alert: &wire::Alert| alert.subject == proposal && alert.state() == state;
                if let Some(alert) = found.into_iter().find(is_it) {
                    return alert;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited)
            .await
            .unwrap_or_else(|_| panic!("{proposal} never was {state:?}"))
    };
    let alert = until("proposal 2", wire::AlertState::Firing).await;
    assert_eq!(alert.rule, "approval-waiting");
    assert_eq!(alert.reason, "by alice, for 24h at most; group km asks for approval");
    assert_eq!(alert.next, "convoy proposal show 2");
    site.reject(&site.bob, 2, "no").await.unwrap();
    assert_eq!(site.coordinator.status().await.proposals, []);
    until("proposal 2", wire::AlertState::Ended).await;

    // Once something else was applied it waits for its author only.
    site.apply(&site.alice, &fleet("three", "b", OF_KM)).await;
    until("proposal 3", wire::AlertState::Firing).await;
    let beside = limited(&fleet("one", "other", OF_KM), &["beside"]);
    site.send(&site.carol, beside).await.unwrap();
    assert_eq!(site.coordinator.status().await.proposals[0].state, "outdated");
    until("proposal 3", wire::AlertState::Ended).await;
}

/// An upload with this pack.
fn with_pack(files: &BTreeMap<String, String>, data: Vec<u8>) -> Vec<wire::Upload> {
    let pack = wire::PackPart { products: vec!["wso2is-7.2".to_owned()], data, last: true };
    upload(files, None).into_iter().chain([wire::Upload { part: Some(Part::Pack(pack)) }]).collect()
}

#[tokio::test]
async fn the_pack_that_its_author_gave_is_what_a_proposal_is_shown_and_judged_with() {
    let site = Site::open().await;
    let (digest, content) = pack("h");
    let reply = site.send(&site.alice, with_pack(&fleet("two", "b", OF_KM), content.clone())).await.unwrap();
    assert_eq!(proposal(&reply).id, 2);
    let plan = site.shown(2).await.plan.unwrap();
    let effects = plan.nodes[0].effects.as_ref().unwrap_or_else(|| panic!("without the pack: {plan:?}"));
    assert_eq!(effects.pack_digest, digest.to_string());
    assert_eq!(site.approve(&site.bob, 2).await.unwrap().revision, 2);
}

/// A directory of 17 MiB, in chunks, of which a plan shows no lines.
fn large(files: &BTreeMap<String, String>) -> Vec<wire::Upload> {
    let chunk = |file: u32, part: u32| wire::FileChunk {
        path: format!("files/km/repository/resources/large-{file}"),
        data: vec![0; 32 * 1024],
        last: part == 31,
    };
    let more = (0..17).flat_map(|file| (0..32).map(move |part| chunk(file, part)));
    let more = more.map(|chunk| wire::Upload { part: Some(Part::File(chunk)) });
    upload(files, None).into_iter().chain(more).collect()
}

#[tokio::test]
async fn a_large_proposal_is_composed_when_it_is_its_turn() {
    let site = Site::open().await;
    let reply = site.send(&site.alice, large(&fleet("two", "b", OF_KM))).await.unwrap();
    assert_eq!(proposal(&reply).id, 2);
    site.apply(&site.alice, &fleet("three", "b", OF_KM)).await;
    // Somebody has the turn: the upload of their large directory has not ended.
    let (sender, receiver) = mpsc::channel(64);
    let mut viewer = OperatorClient::new(site.channel(&site.carol).await);
    let planning = tokio::spawn(async move { viewer.plan(ReceiverStream::new(receiver)).await });
    for message in large(&fleet("four", "b", OF_KM)) {
        sender.send(message).await.unwrap();
    }
    let shown = site.shown(2);
    tokio::pin!(shown);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut shown).await;
    assert!(early.is_err(), "it was composed beside another large directory");
    assert!(site.shown(3).await.plan.is_some(), "a small one does not wait");
    drop(sender);
    assert!(shown.await.plan.is_some());
    assert!(planning.await.unwrap().is_ok());
}

impl Site {
    /// A secret that km does not have yet takes the whole fleet.
    async fn refused_by_admin(&self, id: u64) -> String {
        let admin = admin(&self.coordinator).await;
        let reply = ProposalsClient::new(admin).approve(wire::ProposalRequest { proposal: id }).await;
        let reply = reply.unwrap().into_inner();
        assert!(reply.refused, "{reply:?}");
        reply.refusal
    }
}

#[tokio::test]
async fn going_back_needs_approval_like_any_change() {
    let site = Site::open().await;
    site.apply(&site.alice, &fleet("two", "b", OF_KM)).await;
    site.approve(&site.bob, 2).await.unwrap();
    site.done().await;
    let mut alice = OperatorClient::new(site.channel(&site.alice).await);
    let back = wire::RollbackRequest { to_revision: 1, why: "slow".to_owned(), ..Default::default() };
    let plan = alice.plan_rollback(back.clone()).await.unwrap().into_inner();
    assert_eq!(plan.approval, "group km asks for approval");
    let reply = alice.rollback(back).await.unwrap().into_inner();
    assert_eq!((proposal(&reply).id, proposal(&reply).rolls_back_to), (3, 1));
    assert_eq!(site.shown(3).await.plan.unwrap().nodes[0].keys[0].key, "server.hostname");
    let applied = site.approve(&site.bob, 3).await.unwrap();
    assert_eq!(applied.revision, 3);
    let revision = site.revision(3).await;
    assert_eq!((revision.rolls_back_to, revision.approved_by.as_str()), (1, "bob"));
}
