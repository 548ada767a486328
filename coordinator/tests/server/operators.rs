//! Who may do what: the documented table is what happens, and whoever is removed is out at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Instant,
};

use fleet::{
    access::{Action, Role},
    token::OperatorToken,
};
use proto::wire::{
    agent::{EnrollReply, JoinOperatorRequest, RunState, enrolment_client::EnrolmentClient},
    operator::{
        self as wire, alerts_client::AlertsClient, audit_client::AuditClient,
        operator_client::OperatorClient, operators_client::OperatorsClient, secrets_client::SecretsClient,
        upload::Part,
    },
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    calls::{call_alerts, call_audit, call_proposals, call_revisions, silence_of_km},
    support::{PATIENCE, ScriptedAgent, TestCoordinator, upload},
};

const PAGE: &str = include_str!("../../../docs/operators.md");
const PROTO: &str = include_str!("../../../proto/proto/operator.proto");

/// One row of the documented table.
struct Row {
    call: String,
    action: String,
    role: Role,
    /// Whether a role for the node's group is enough, where one is needed.
    reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Any,
    Group,
    Fleet,
}

fn table() -> Vec<Row> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 6);
    let rows = rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let reach = match cells[5] {
            "any" => Reach::Any,
            "the whole fleet" => Reach::Fleet,
            // Each call of the test reaches one group.
            _ => Reach::Group,
        };
        let role = Role::parse(cells[4]).unwrap_or_else(|| panic!("{line}"));
        Row { call: cells[1].to_owned(), action: cells[3].to_owned(), role, reach }
    });
    rows.collect()
}

/// `Operator.Plan` and so on, as the .proto has them.
fn methods() -> BTreeSet<String> {
    let mut service = "";
    let mut methods = BTreeSet::new();
    for line in PROTO.lines() {
        if let Some(name) = line.strip_prefix("service ") {
            service = name.trim_end_matches(" {");
        } else if let Some(method) = line.trim().strip_prefix("rpc ") {
            methods.insert(format!("{service}.{}", method.split('(').next().unwrap()));
        }
    }
    methods
}

#[test]
fn the_documented_table_has_every_call_and_every_action() {
    let rows = table();
    let calls: BTreeSet<String> = rows.iter().map(|row| row.call.clone()).collect();
    assert_eq!(calls.len(), rows.len(), "a call stands there twice");
    assert_eq!(calls, methods());
    for row in &rows {
        let action = Action::ALL.iter().find(|action| action.as_str() == row.action);
        let action = action.unwrap_or_else(|| panic!("{} is no action", row.action));
        assert_eq!(action.needs(), row.role, "{}", row.call);
    }
    for action in Action::ALL {
        assert!(rows.iter().any(|row| row.action == action.as_str()), "no call is {action}");
    }
}

/// Somebody with a certificate of their own.
pub(crate) struct Person {
    reply: EnrollReply,
    key_pem: String,
}

impl Person {
    pub(crate) async fn channel(&self, coordinator: &TestCoordinator) -> Channel {
        coordinator.channel(Some((&self.reply.certificate_pem, &self.key_pem))).await.unwrap()
    }

    async fn operator(&self, coordinator: &TestCoordinator) -> OperatorClient<Channel> {
        OperatorClient::new(self.channel(coordinator).await)
    }
}

fn grant(role: Role, groups: &[&str]) -> wire::Grant {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    wire::Grant { role: wire::Role::from(role).into(), groups }
}

async fn operators(coordinator: &TestCoordinator) -> OperatorsClient<Channel> {
    let context = coordinator.context();
    let channel = coordinator.channel(Some((&context.certificate_pem, &context.key_pem))).await.unwrap();
    OperatorsClient::new(channel)
}

async fn invite(coordinator: &TestCoordinator, name: &str, grant: Option<wire::Grant>) -> OperatorToken {
    let again = grant.is_none();
    let request = wire::AddOperatorRequest { name: name.to_owned(), grant, again, valid_seconds: 0 };
    let reply = operators(coordinator).await.add(request).await.unwrap().into_inner();
    OperatorToken::parse(&reply.token).unwrap()
}

async fn join(coordinator: &TestCoordinator, name: &str, token: &OperatorToken) -> Result<Person, Status> {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let request = JoinOperatorRequest {
        operator: name.to_owned(),
        token_secret: token.secret.to_hex(),
        csr_pem: csr.pem().unwrap(),
    };
    let mut client = EnrolmentClient::new(coordinator.channel(None).await.unwrap());
    let reply = client.join_operator(request).await?.into_inner();
    Ok(Person { reply, key_pem: key.serialize_pem() })
}

pub(crate) async fn added(coordinator: &TestCoordinator, name: &str, role: Role, groups: &[&str]) -> Person {
    let token = invite(coordinator, name, Some(grant(role, groups))).await;
    join(coordinator, name, &token).await.unwrap()
}

pub(crate) async fn remove(coordinator: &TestCoordinator, name: &str) {
    let request = wire::RemoveOperatorRequest { name: name.to_owned() };
    operators(coordinator).await.remove(request).await.unwrap();
}

/// A group of identity servers and one beside it, each with a layer of its own.
pub(crate) fn two_groups(km: &str, beside: &str) -> BTreeMap<String, String> {
    let group = |name: &str| {
        format!(
            "[groups.{name}]\nproduct = \"wso2is-7.2\"\nlayers = [\"{name}\"]\nafter = []\n\
             [groups.{name}.rollout]\nsoak = \"1ms\"\nmin_healthy_time = \"1ms\"\n\
             [nodes.{name}-1]\ngroup = \"{name}\"\nhost = \"h-{name}\"\nhome = \"/opt/is\"\n"
        )
    };
    let fleet = format!("name = \"acme\"\n{}{}", group("km"), group("beside"));
    let files = [("fleet.toml", fleet.as_str()), ("config/km.toml", km), ("config/beside.toml", beside)];
    files.map(|(path, text)| (path.to_owned(), text.to_owned())).into()
}

pub(crate) fn hostname(name: &str) -> String {
    format!("[server]\nhostname = \"{name}\"\n")
}

/// A coordinator whose two groups have rolled out and are connected no longer.
async fn rolled_out(beside: &str) -> TestCoordinator {
    let coordinator = TestCoordinator::start().await;
    let mut agents = Vec::new();
    for node in ["km-1", "beside-1"] {
        let node = coordinator.join(node).await;
        agents.push(ScriptedAgent::start(&coordinator, &node).await);
    }
    coordinator.apply(&two_groups(&hostname("one.example.org"), beside), None).await;
    coordinator
        .until("the first rollout is done", |status| {
            status.rollouts.first().is_some_and(|it| it.state == "done")
        })
        .await;
    for agent in agents {
        agent.kill().await;
    }
    coordinator.until("nobody is connected", |status| status.nodes.iter().all(|node| !node.connected)).await;
    coordinator
}

/// An upload for the nodes of some groups.
pub(crate) fn limited(files: &BTreeMap<String, String>, groups: &[&str]) -> Vec<wire::Upload> {
    let mut messages = upload(files, None);
    if let Some(Part::Header(header)) = &mut messages[0].part {
        header.groups = groups.iter().map(|&group| group.to_owned()).collect();
    }
    messages
}

/// One call of each method, reaching the group km. Errors other than refusals are answers too.
async fn call(channel: Channel, method: &str, round: usize) -> Result<(), Status> {
    match method.split('.').next() {
        Some("Audit") => call_audit(AuditClient::new(channel), method).await,
        Some("Secrets") => call_secrets(SecretsClient::new(channel), method, round).await,
        Some("Alerts") => call_alerts(AlertsClient::new(channel), method).await,
        Some("Proposals") => call_proposals(channel, method).await,
        Some("Revisions") => call_revisions(channel, method).await,
        Some("Logs") => crate::logs::call(channel).await,
        Some("Operators") => call_operators(OperatorsClient::new(channel), method, round).await,
        _ if method.contains("Node") || NODE_CALLS.contains(&method) => {
            call_node(OperatorClient::new(channel), method, round).await
        }
        _ => call_fleet(OperatorClient::new(channel), method, round).await,
    }
}

/// Calls about one node whose names do not say so.
const NODE_CALLS: [&str; 6] = [
    "Operator.ShowHost",
    "Operator.ReturnToOriginal",
    "Operator.CreateToken",
    "Operator.CreateTokens",
    "Operator.DriftControl",
    "Operator.ShowDrift",
];

async fn call_node(mut operator: OperatorClient<Channel>, method: &str, round: usize) -> Result<(), Status> {
    let node = || wire::NodeRequest { node: "km-1".to_owned() };
    let why = || "because".to_owned();
    match method {
        "Operator.ShowNode" => operator.show_node(node()).await.map(drop),
        "Operator.ShowHost" => {
            let request = wire::ShowHostRequest { node: "km-1".to_owned(), config: true };
            operator.show_host(request).await.map(drop)
        }
        "Operator.RestartNode" => {
            let request = wire::RestartNodeRequest { node: "km-1".to_owned(), why: why(), now: true };
            operator.restart_node(request).await.map(drop)
        }
        "Operator.SetNodeRun" => {
            let run = if round.is_multiple_of(2) { RunState::Stopped } else { RunState::Running };
            let request =
                wire::SetNodeRunRequest { node: "km-1".to_owned(), run: run.into(), why: why(), now: true };
            operator.set_node_run(request).await.map(drop)
        }
        "Operator.AdmitNode" => crate::admission::call(operator).await,
        "Operator.ForgetNode" => operator.forget_node(node()).await.map(drop),
        "Operator.RevokeNode" => operator.revoke_node(node()).await.map(drop),
        "Operator.ReturnToOriginal" => {
            let request = wire::ReturnToOriginalRequest { node: "km-1".to_owned(), why: why(), now: true };
            operator.return_to_original(request).await.map(drop)
        }
        "Operator.CreateToken" => {
            let request = wire::CreateTokenRequest { node: "km-1".to_owned(), valid_seconds: 60 };
            operator.create_token(request).await.map(drop)
        }
        "Operator.CreateTokens" => {
            operator.create_tokens(crate::tokens::request(&["km-1".to_owned()])).await.map(drop)
        }
        "Operator.DriftControl" => {
            let action = "resume".to_owned();
            let request = wire::DriftControlRequest { node: "km-1".to_owned(), action, ..Default::default() };
            operator.drift_control(request).await.map(drop)
        }
        "Operator.ShowDrift" => operator.show_drift(node()).await.map(drop),
        other => panic!("nobody says how {other} is called"),
    }
}

async fn call_fleet(mut operator: OperatorClient<Channel>, method: &str, round: usize) -> Result<(), Status> {
    let why = || "because".to_owned();
    let stream = |text: &str| {
        tokio_stream::iter(limited(&two_groups(&hostname(text), &hostname("b.example.org")), &["km"]))
    };
    // The only one that was ever healthy.
    let rollback = || wire::RollbackRequest { to_revision: 1, ..wire::RollbackRequest::default() };
    match method {
        "Operator.Plan" => operator.plan(stream("plan.example.org")).await.map(drop),
        "Operator.Apply" => operator.apply(stream(&format!("a{round}.example.org"))).await.map(drop),
        "Operator.Status" => operator.status(wire::StatusRequest {}).await.map(drop),
        "Operator.WatchStatus" => operator.watch_status(wire::StatusRequest {}).await.map(drop),
        "Operator.ListRollouts" => {
            operator.list_rollouts(wire::ListRolloutsRequest { most: 1 }).await.map(drop)
        }
        "Operator.ShowRollout" => operator.show_rollout(wire::RolloutRequest { rollout: 1 }).await.map(drop),
        "Operator.ControlRollout" => {
            let rollouts = operator.list_rollouts(wire::ListRolloutsRequest { most: 1 }).await?.into_inner();
            let rollout = rollouts.rollouts[0].id;
            let request = wire::ControlRolloutRequest { rollout, action: "pause".to_owned(), why: why() };
            operator.control_rollout(request).await.map(drop)
        }
        "Operator.Rollback" => operator.rollback(rollback()).await.map(drop),
        "Operator.PlanRollback" => operator.plan_rollback(rollback()).await.map(drop),
        "Operator.Events" => operator.events(wire::EventsRequest::default()).await.map(drop),
        other => panic!("nobody says how {other} is called"),
    }
}

async fn call_secrets(mut secrets: SecretsClient<Channel>, method: &str, round: usize) -> Result<(), Status> {
    match method {
        "Secrets.Set" => {
            let request = wire::SetSecretRequest { name: "of-km".to_owned(), value: "x".to_owned() };
            secrets.set(request).await.map(drop)
        }
        "Secrets.List" => secrets.list(wire::ListSecretsRequest {}).await.map(drop),
        "Secrets.Remove" => {
            secrets.remove(wire::RemoveSecretRequest { name: format!("spare-{round}") }).await.map(drop)
        }
        "Secrets.Grant" => {
            let request =
                wire::GrantSecretRequest { name: "of-km".to_owned(), groups: vec!["km".to_owned()] };
            secrets.grant(request).await.map(drop)
        }
        other => panic!("nobody says how {other} is called"),
    }
}

async fn call_operators(
    mut operators: OperatorsClient<Channel>,
    method: &str,
    round: usize,
) -> Result<(), Status> {
    match method {
        "Operators.Add" => {
            let grant = Some(grant(Role::Operator, &["km"]));
            let request =
                wire::AddOperatorRequest { name: format!("new-{round}"), grant, ..Default::default() };
            operators.add(request).await.map(drop)
        }
        "Operators.List" => operators.list(wire::ListOperatorsRequest {}).await.map(drop),
        "Operators.Set" => {
            let grant = Some(grant(Role::Operator, &["km"]));
            operators.set(wire::SetOperatorRequest { name: "target".to_owned(), grant }).await.map(drop)
        }
        "Operators.Remove" => {
            operators.remove(wire::RemoveOperatorRequest { name: format!("leaves-{round}") }).await.map(drop)
        }
        other => panic!("nobody says how {other} is called"),
    }
}

/// Who calls: their role, and whether it reaches the group that is concerned.
const WHO: [(&str, Role, &[&str]); 7] = [
    ("viewer", Role::Viewer, &[]),
    ("own", Role::Operator, &["km"]),
    ("foreign", Role::Operator, &["beside"]),
    ("operator", Role::Operator, &[]),
    ("own-admin", Role::Admin, &["km"]),
    ("foreign-admin", Role::Admin, &["beside"]),
    ("root", Role::Admin, &[]),
];

#[tokio::test]
async fn every_call_by_every_role_and_scope_is_as_documented() {
    let coordinator = rolled_out(&hostname("b.example.org")).await;
    let mut secrets = coordinator.secrets().await;
    let mut alerts = crate::alerts::alerts(&coordinator).await;
    let secret = |name: String| wire::SetSecretRequest { name, value: "x".to_owned() };
    let to_km = |name: String| wire::GrantSecretRequest { name, groups: vec!["km".to_owned()] };
    secrets.set(secret("of-km".to_owned())).await.unwrap();
    secrets.grant(to_km("of-km".to_owned())).await.unwrap();
    invite(&coordinator, "target", Some(grant(Role::Operator, &["km"]))).await;
    let mut people = Vec::new();
    for (round, (name, role, groups)) in WHO.iter().enumerate() {
        people.push(added(&coordinator, name, *role, groups).await);
        let spare = format!("spare-{round}");
        secrets.set(secret(spare.clone())).await.unwrap();
        secrets.grant(to_km(spare)).await.unwrap();
        alerts.add_silence(silence_of_km()).await.unwrap();
        invite(&coordinator, &format!("leaves-{round}"), Some(grant(Role::Operator, &["km"]))).await;
    }
    // A rollout of km alone is under way, so that there is one to control.
    let mut admin = coordinator.operator().await;
    let files = two_groups(&hostname("two.example.org"), &hostname("b.example.org"));
    admin.apply(tokio_stream::iter(limited(&files, &["km"]))).await.unwrap();

    let (mut allowed, mut denied) = (0, 0);
    for row in table() {
        for (round, ((name, role, groups), person)) in WHO.iter().zip(&people).enumerate() {
            let reaches = match row.reach {
                Reach::Any => true,
                Reach::Group => groups.is_empty() || groups.contains(&"km"),
                Reach::Fleet => groups.is_empty(),
            };
            let expected = row.role <= *role && reaches;
            if row.call == "Operator.Rollback" {
                // So that there is something to go back from.
                let km = hostname(&format!("r{round}.example.org"));
                let files = two_groups(&km, &hostname("b.example.org"));
                admin.apply(tokio_stream::iter(limited(&files, &["km"]))).await.unwrap();
            }
            if matches!(row.call.as_str(), "Proposals.Approve" | "Proposals.Reject") {
                // So that there is something to decide.
                let km = hostname(&format!("p{round}.example.org"));
                let mut files = two_groups(&km, &hostname("b.example.org"));
                files.get_mut("fleet.toml").unwrap().push_str("[groups.km.approval]\nrequired = true\n");
                admin.apply(tokio_stream::iter(limited(&files, &["km"]))).await.unwrap();
            }
            let outcome = call(person.channel(&coordinator).await, &row.call, round).await;
            let refused = outcome.as_ref().err().filter(|status| status.code() == Code::PermissionDenied);
            assert_eq!(refused.is_none(), expected, "{} by {name}: {outcome:?}", row.call);
            match refused {
                Some(status) => {
                    denied += 1;
                    let said = status.message();
                    assert!(said.starts_with(&format!("{name} is {role} of ")), "{said}");
                    assert!(said.contains(&format!("takes the role {}", row.role)), "{said}");
                    assert!(said.contains("; ask admin"), "{said}");
                }
                None => {
                    allowed += 1;
                    let code = outcome.err().map_or(Code::Ok, |status| status.code());
                    assert_ne!(code, Code::Unauthenticated, "{} by {name}", row.call);
                }
            }
        }
    }
    println!("{allowed} calls were allowed and {denied} denied, as documented");
    let events = coordinator.events(wire::EventsRequest::default()).await;
    let told = events.iter().filter(|event| event.kind == "denied" && event.actor == "viewer").count();
    let viewer_denied = table().iter().filter(|row| row.role != Role::Viewer).count();
    assert_eq!(told, viewer_denied, "each refusal is an event");
    coordinator.stop().await;
}

const CANARY: &str = "canary-5c1e";

/// Two groups that have rolled out, a secret that nobody was granted, and bob, who may change one of the groups.
async fn with_bob() -> (TestCoordinator, OperatorClient<Channel>) {
    let coordinator = rolled_out(&hostname("b.example.org")).await;
    let secret = wire::SetSecretRequest { name: "db".to_owned(), value: CANARY.to_owned() };
    coordinator.secrets().await.set(secret).await.unwrap();
    let bob = added(&coordinator, "bob", Role::Operator, &["km"]).await;
    let bob = bob.operator(&coordinator).await;
    (coordinator, bob)
}

async fn apply(
    bob: &mut OperatorClient<Channel>,
    files: &BTreeMap<String, String>,
    groups: &[&str],
) -> Result<wire::ApplyReply, Status> {
    bob.apply(tokio_stream::iter(limited(files, groups))).await.map(tonic::Response::into_inner)
}

/// The directory with something else in its fleet.toml.
fn edited(from: &str, to: &str) -> BTreeMap<String, String> {
    let mut files = two_groups(&hostname("two.example.org"), &hostname("b.example.org"));
    let fleet = files["fleet.toml"].replacen(from, to, 1);
    assert_ne!(fleet, files["fleet.toml"]);
    files.insert("fleet.toml".to_owned(), fleet);
    files
}

#[tokio::test]
async fn an_apply_in_scope_changes_nothing_beyond_it() {
    let (coordinator, mut bob) = with_bob().await;
    let of_beside = "[groups.beside.rollout]\nsoak = \"1ms\"";
    let home = "home = \"/opt/is\"\n";
    let more = format!("[nodes.beside-2]\ngroup = \"beside\"\nhost = \"h9\"\n{home}[nodes.beside-1]");
    let km = hostname("two.example.org");
    // A node, a rule of its group, a rule of the fleet, a node that comes, and one that moves in.
    for (files, reached) in [
        (two_groups(&km, &hostname("c.example.org")), "for group beside"),
        (edited(of_beside, &of_beside.replace("1ms", "2ms")), "for group beside"),
        (
            edited("name = \"acme\"\n", "name = \"acme\"\n[rollout]\nmax_unavailable = 1\n"),
            "for the whole fleet",
        ),
        (edited("[nodes.beside-1]", &more), "for group beside"),
        (
            edited("[nodes.beside-1]\ngroup = \"beside\"", "[nodes.beside-1]\ngroup = \"km\""),
            "for group beside",
        ),
    ] {
        let refused = apply(&mut bob, &files, &[]).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains(reached), "{reached}: {refused}");
    }
    assert_eq!(coordinator.status().await.revision, 1, "nothing was applied");
    // What is bob's own, and while a rollout of another group is under way not even that.
    assert_eq!(apply(&mut bob, &two_groups(&km, &hostname("b.example.org")), &[]).await.unwrap().revision, 2);
    let other = two_groups(&km, &hostname("c.example.org"));
    coordinator.apply(&other, None).await;
    let own = two_groups(&hostname("three.example.org"), &hostname("c.example.org"));
    let refused = apply(&mut bob, &own, &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "it would end the rollout of beside: {refused}");
    let refused = apply(&mut bob, &own, &["km"]).await.unwrap().refusal;
    assert!(refused.contains("is under way and has beside-1"), "{refused}");
    coordinator.stop().await;
}

#[tokio::test]
async fn no_secret_newly_reaches_a_node_by_somebody_in_scope_unless_it_was_granted() {
    let (coordinator, mut bob) = with_bob().await;
    let (km, b) = (hostname("two.example.org"), hostname("b.example.org"));
    // In a layer, in a template, in a gate.
    let layer = format!("{km}[super_admin]\npassword = \"{{{{ secret('db') }}}}\"\n");
    let mut in_template = two_groups(&km, &b);
    in_template.insert("files/km/repository/conf/x.tmpl".to_owned(), "{{ secret('db') }}\n".to_owned());
    let gate = "[[groups.km.rollout.gates]]\nname = \"smoke\"\nkind = \"http\"\n\
        url = \"https://localhost:9443/x\"\nauthorization = \"{{ secret('db') }}\"\n";
    let in_gate = edited("[nodes.km-1]", &format!("{gate}[nodes.km-1]"));
    for files in [two_groups(&layer, &b), in_template, in_gate] {
        let refused = apply(&mut bob, &files, &[]).await.expect_err("a foreign secret is refused");
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains("the secret db was not granted to group km"), "{refused}");
        assert!(!refused.message().contains(CANARY));
    }
    assert_eq!(coordinator.status().await.revision, 1, "nothing was applied");

    let grant = async |groups: &[&str]| {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let request = wire::GrantSecretRequest { name: "db".to_owned(), groups };
        coordinator.secrets().await.grant(request).await.unwrap();
    };
    grant(&["km"]).await;
    let applied = apply(&mut bob, &two_groups(&layer, &b), &[]).await.unwrap();
    assert_eq!((applied.revision, applied.refused), (2, false), "{applied:?}");
    // Taking the grant back takes nothing from nodes that have it.
    grant(&[]).await;
    let layer = layer.replace("two.example.org", "three.example.org");
    assert_eq!(apply(&mut bob, &two_groups(&layer, &b), &[]).await.unwrap().revision, 3);
    coordinator.stop().await;
}

#[tokio::test]
async fn whoever_is_removed_is_out_at_once() {
    let coordinator = TestCoordinator::start().await;
    let bob = added(&coordinator, "bob", Role::Operator, &[]).await;
    let unused = invite(&coordinator, "bob", None).await;
    let mut client = bob.operator(&coordinator).await;
    let mut statuses = client.watch_status(wire::StatusRequest {}).await.unwrap().into_inner();
    let follow = wire::EventsRequest { follow: true, ..wire::EventsRequest::default() };
    let mut events = client.events(follow).await.unwrap().into_inner();
    statuses.message().await.unwrap().unwrap();
    events.message().await.unwrap().unwrap();

    let began = Instant::now();
    remove(&coordinator, "bob").await;
    let ended = async {
        let status = loop {
            if let Err(status) = statuses.message().await {
                break status;
            }
        };
        let event = loop {
            if let Err(status) = events.message().await {
                break status;
            }
        };
        [status, event]
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    println!("both streams had ended {:?} after the removal was asked for", began.elapsed());
    for status in ended {
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().contains("`convoy operator add bob`"), "{status}");
    }
    // The same connection, a new one, the token of before.
    let refused = client.status(wire::StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let refused = bob.operator(&coordinator).await.status(wire::StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert!(join(&coordinator, "bob", &unused).await.is_err());
    // Somebody else of that name is somebody else.
    let other = added(&coordinator, "bob", Role::Viewer, &[]).await;
    other.operator(&coordinator).await.status(wire::StatusRequest {}).await.unwrap();
    let refused = client.status(wire::StatusRequest {}).await.unwrap_err();
    assert!(refused.message().contains("was replaced"), "{refused}");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_restored_store_brings_no_removed_operator_back() {
    let coordinator = TestCoordinator::start().await;
    let bob = added(&coordinator, "bob", Role::Admin, &[]).await;
    let unused = invite(&coordinator, "bob", None).await;
    let store = coordinator.data("store.redb");
    let witness = coordinator.data("witness.toml");
    let dir = coordinator.stop().await;
    let copy = fs::read(&store).unwrap();
    let coordinator = TestCoordinator::start_in(dir, "").await;
    remove(&coordinator, "bob").await;
    let dir = coordinator.stop().await;
    fs::write(&store, copy).unwrap();
    // As `recover restored-store` does to the counter; what was revoked stays.
    let known = fs::read_to_string(&witness).unwrap();
    let commits = known.lines().find(|line| line.starts_with("commits")).unwrap();
    fs::write(&witness, known.replace(commits, "commits = 0")).unwrap();
    let coordinator = TestCoordinator::start_in(dir, "").await;
    let listed = operators(&coordinator).await.list(wire::ListOperatorsRequest {}).await.unwrap();
    assert_eq!(listed.get_ref().operators.len(), 2, "the old store knows bob");
    let refused = bob.operator(&coordinator).await.status(wire::StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let Err(refused) = join(&coordinator, "bob", &unused).await else { panic!("a voided token works") };
    assert!(refused.message().contains("before the coordinator's store was restored"), "{refused}");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_token_makes_one_operator_once_and_the_first_one_stays() {
    let coordinator = TestCoordinator::start().await;
    let token = invite(&coordinator, "alice", Some(grant(Role::Operator, &["km"]))).await;
    let refused = |outcome: Result<Person, Status>| outcome.err().unwrap().message().to_owned();
    let other = refused(join(&coordinator, "bob", &token).await);
    assert!(other.contains("made for another operator than bob"), "{other}");
    assert!(coordinator.enroll("alice", &token.secret.to_hex()).await.is_err(), "she is no node");
    let of_node = coordinator.token("is-1", 60).await;
    let as_operator = OperatorToken { secret: of_node.secret, ..token.clone() };
    assert!(join(&coordinator, "is-1", &as_operator).await.is_err(), "a node is no operator");
    let alice = join(&coordinator, "alice", &token).await.unwrap();
    let used = refused(join(&coordinator, "alice", &token).await);
    assert!(used.contains("was used") && used.contains("convoy operator add alice --again"), "{used}");
    // Another certificate voids the one before.
    let again = invite(&coordinator, "alice", None).await;
    alice.operator(&coordinator).await.status(wire::StatusRequest {}).await.unwrap();
    let newer = join(&coordinator, "alice", &again).await.unwrap();
    newer.operator(&coordinator).await.status(wire::StatusRequest {}).await.unwrap();
    let old = alice.operator(&coordinator).await.status(wire::StatusRequest {}).await.unwrap_err();
    assert!(old.message().contains("was replaced by a later `convoy join`"), "{old}");

    let mut operators = operators(&coordinator).await;
    let grant = || Some(grant(Role::Viewer, &[]));
    let add = |name: &str| wire::AddOperatorRequest {
        name: name.to_owned(),
        grant: grant(),
        ..wire::AddOperatorRequest::default()
    };
    let known = operators.add(add("alice")).await.unwrap_err();
    assert_eq!(known.code(), Code::FailedPrecondition);
    assert!(known.message().contains("alice is operator of group km already"), "{known}");
    let first = wire::SetOperatorRequest { name: "admin".to_owned(), grant: grant() };
    for refused in [
        operators.add(add("admin")).await.unwrap_err(),
        operators.set(first).await.unwrap_err(),
        operators.remove(wire::RemoveOperatorRequest { name: "admin".to_owned() }).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().starts_with("admin is the first operator"), "{refused}");
    }
    let nobody = wire::RemoveOperatorRequest { name: "nobody".to_owned() };
    assert_eq!(operators.remove(nobody).await.unwrap_err().code(), Code::NotFound);
    coordinator.stop().await;
}

#[tokio::test]
async fn rights_change_from_the_next_call_on() {
    let coordinator = TestCoordinator::start().await;
    let bob = added(&coordinator, "bob", Role::Viewer, &[]).await;
    let mut client = bob.operator(&coordinator).await;
    let token = || wire::CreateTokenRequest { node: "is-1".to_owned(), valid_seconds: 60 };
    assert_eq!(client.create_token(token()).await.unwrap_err().code(), Code::PermissionDenied);
    for (role, allowed) in [(Role::Operator, true), (Role::Viewer, false), (Role::Admin, true)] {
        let grant = Some(grant(role, &[]));
        let request = wire::SetOperatorRequest { name: "bob".to_owned(), grant };
        operators(&coordinator).await.set(request).await.unwrap();
        assert_eq!(client.create_token(token()).await.is_ok(), allowed, "{role}");
    }
    let events = coordinator.events(wire::EventsRequest::default()).await;
    let told: Vec<&str> = events
        .iter()
        .filter(|event| event.kind.starts_with("operator-"))
        .map(|event| event.text.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "admin added bob as viewer of the whole fleet",
            "bob, viewer of the whole fleet, joined with a token of admin",
            "admin made bob operator of the whole fleet; before that bob was viewer of the whole fleet",
            "admin made bob viewer of the whole fleet; before that bob was operator of the whole fleet",
            "admin made bob admin of the whole fleet; before that bob was viewer of the whole fleet",
        ]
    );
    coordinator.stop().await;
}

#[tokio::test]
async fn a_revoked_node_is_out_until_it_joins_again() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let unused = coordinator.token("is-1", 600).await.secret.to_hex();
    let mut session = node.session(&coordinator).await.unwrap();
    session.next().await.unwrap().unwrap();
    let began = Instant::now();
    let request = || wire::NodeRequest { node: "is-1".to_owned() };
    let reply = coordinator.operator().await.revoke_node(request()).await.unwrap().into_inner();
    assert!(reply.ok && reply.detail.contains("convoy token create --node is-1"), "{reply:?}");
    while session.next().await.is_ok_and(|message| message.is_some()) {}
    println!("the session had ended {:?} after the revocation was asked for", began.elapsed());
    let mut refused = node.session(&coordinator).await.unwrap();
    assert!(refused.next().await.is_err());
    assert!(coordinator.renew(&node).await.is_err());
    assert!(coordinator.enroll("is-1", &unused).await.is_err(), "an unused token is void too");
    let again = coordinator.operator().await.revoke_node(request()).await.unwrap().into_inner();
    assert!(!again.ok && again.detail.contains("has no certificate"), "{again:?}");
    let joined = coordinator.join("is-1").await;
    joined.epoch(&coordinator).await;
    coordinator.stop().await;
}
