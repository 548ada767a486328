//! Plans against hosts: what lies there is asked for, shown, and not replaced unasked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use fleet::{
    bundle::HomePath,
    host::{CONFIG, ConfigRead, FoundEntry, FoundFile, FoundServer, HomeHistory, HostFacts},
    ids::Digest,
    node::Allowed,
    preflight::{
        certificate::CertificateFact,
        needs::Address,
        peers::{Client, Path, Peer, PeerFact, Shown},
    },
    spec::canonical,
    time::Timestamp,
};
use proto::{
    convert::host::{LOOK_PROTOCOL, encode_answer},
    wire::{
        agent::{agent_link_client::AgentLinkClient, from_agent, to_agent},
        operator::{
            ApplyReply, ControlRolloutRequest, NodePlan, PlanReply, StatusReply, Upload, upload::Part,
        },
    },
};
use tokio::task::JoinHandle;

use crate::{
    hosts::chunks,
    support::{Memory, ScriptedAgent, TestCoordinator, TestNode, report, small_fleet, upload},
};

const KEYS: &str = "repository/resources/security/wso2carbon.jks";
const TRUST: &str = "repository/resources/security/client-truststore.jks";
const OWN: &str = "[server]\nhostname = \"own.example\"\noffset = 3\n[user_store]\ntype = \"database\"\n";

/// A home with these files, whose server runs.
fn home(files: &[(&str, &str)]) -> HostFacts {
    let mut facts = HostFacts {
        at: Timestamp(1_000),
        home: "/opt/is".to_owned(),
        product: None,
        offset: Some(3),
        server: FoundServer::Running { since: Timestamp(500), config: ConfigRead::OnDisk },
        history: HomeHistory::Started,
        keystores: Vec::new(),
        entries: BTreeMap::new(),
        contents: BTreeMap::new(),
        original: None,
        allowed: None,
        peers: Vec::new(),
        registered: None,
        databases: Vec::new(),
    };
    for (path, text) in files {
        let digest = Digest::of(text.as_bytes());
        let meaning = if *path == CONFIG { canonical::meaning(text) } else { digest };
        let file = FoundFile {
            digest,
            meaning,
            size: text.len() as u64,
            mode: 0o600,
            owner: "wso2".to_owned(),
            group: "wso2".to_owned(),
            modified: Timestamp(400),
        };
        facts.entries.insert(HomePath::parse(path).unwrap(), FoundEntry::File(file));
        facts.contents.insert(digest, Arc::from(text.as_bytes()));
    }
    facts
}

/// An agent that was never assigned anything and answers what lies on its host.
struct Host {
    task: JoinHandle<()>,
    /// Bytes of its answers.
    said: Arc<AtomicUsize>,
}

impl Host {
    async fn start(coordinator: &TestCoordinator, node: &TestNode, facts: HostFacts) -> Self {
        let mut session = node.session_of(coordinator, LOOK_PROTOCOL).await.unwrap();
        let mut client = AgentLinkClient::new(node.channel(coordinator).await);
        session.say(from_agent::Message::Report(report(None, None))).await;
        let said = Arc::new(AtomicUsize::new(0));
        let total = said.clone();
        let task = tokio::spawn(async move {
            let mut known = BTreeSet::new();
            while let Some(message) = session.listen().await {
                let to_agent::Message::Look(look) = message else { continue };
                known.extend(look.known.iter().filter_map(|digest| Digest::from_slice(digest)));
                if look.more {
                    continue;
                }
                let mut facts = facts.clone();
                facts.contents.retain(|digest, _| look.contents && !known.contains(digest));
                known.clear();
                let answer = encode_answer(&Ok(facts));
                total.fetch_add(answer.len(), Ordering::Relaxed);
                // A coordinator that has given up on the answer is nothing to this host.
                drop(client.give_host(tokio_stream::iter(chunks(look.id, &answer))).await);
            }
        });
        Self { task, said }
    }

    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

async fn plan(coordinator: &TestCoordinator, files: &BTreeMap<String, String>) -> PlanReply {
    let upload = upload(files, None);
    coordinator.operator().await.plan(tokio_stream::iter(upload)).await.unwrap().into_inner()
}

async fn apply_replacing(
    coordinator: &TestCoordinator,
    files: &BTreeMap<String, String>,
    digest: &str,
) -> ApplyReply {
    let mut messages: Vec<Upload> = upload(files, None);
    if let Some(Part::Header(header)) = &mut messages[0].part {
        digest.clone_into(&mut header.replace_unmanaged);
    }
    coordinator.operator().await.apply(tokio_stream::iter(messages)).await.unwrap().into_inner()
}

fn of<'a>(plan: &'a PlanReply, node: &str) -> &'a NodePlan {
    plan.nodes.iter().find(|plan| plan.node == node).unwrap()
}

/// Key by key, as a person reads them.
fn keys(node: &NodePlan) -> Vec<String> {
    let sign = |old: &str, new: &str| match (old.is_empty(), new.is_empty()) {
        (true, _) => "+",
        (_, true) => "-",
        (false, false) => "~",
    };
    node.keys.iter().map(|key| format!("{}{}", sign(&key.old, &key.new), key.key)).collect()
}

#[tokio::test]
async fn what_nobody_declared_is_shown_and_replaced_only_by_an_apply_that_names_it() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let host = Host::start(&coordinator, &node, home(&[(CONFIG, OWN)])).await;
    coordinator.until("is-1 reports", |status| status.nodes.iter().any(|node| node.state == "idle")).await;
    let files = small_fleet("new.example");
    let shown = plan(&coordinator, &files).await;
    let first = of(&shown, "is-1");
    assert_eq!((first.source.as_str(), first.adoption.as_str()), ("now", "restarted"), "{first:?}");
    let told = keys(first);
    for key in ["~server.hostname", "-server.offset", "-user_store.type"] {
        assert!(told.iter().any(|told| told == key), "{key}: {told:?}");
    }
    let config = first.files.iter().find(|file| file.path == CONFIG).unwrap();
    assert_eq!((config.change.as_str(), config.old_size), ("changed", OWN.len() as u64), "{config:?}");
    assert_eq!(first.unmanaged.len(), 1, "{first:?}");
    assert_eq!((first.unmanaged[0].kind.as_str(), first.unmanaged[0].path.as_str()), ("keys", CONFIG));
    assert_eq!(of(&shown, "is-2").source, "nothing");
    assert!(of(&shown, "is-2").source_why.contains("no agent has joined"), "{shown:?}");
    assert!(!shown.unmanaged_digest.is_empty());

    // Neither without a word, nor with the word that was given for something else.
    for (digest, why) in [("", "--replace-unmanaged"), (&"0".repeat(64), "any more")] {
        let refused = apply_replacing(&coordinator, &files, digest).await;
        assert!(refused.refused && refused.refusal.contains(why), "{refused:?}");
        assert!(refused.refusal.contains("is-1") && !refused.refusal.contains("is-2"), "{refused:?}");
    }
    assert_eq!(coordinator.status().await.revision, 0);

    // Away: what it said last counts, with its age.
    host.kill().await;
    coordinator.until("is-1 is away", |status| status.nodes.iter().all(|node| !node.connected)).await;
    let seen = plan(&coordinator, &files).await;
    let first = of(&seen, "is-1");
    assert_eq!((first.source.as_str(), keys(first)), ("seen", told), "{first:?}");
    assert!(0 < first.source_ms && first.source_why.contains("not connected"), "{first:?}");
    assert_eq!(seen.unmanaged_digest, shown.unmanaged_digest);
    let away = seen.notes.iter().filter(|note| note.kind == "node-unreachable").count();
    assert_eq!(away, 2, "{seen:?}");

    let applied = apply_replacing(&coordinator, &files, &shown.unmanaged_digest).await;
    assert_eq!((applied.revision, applied.refused), (1, false), "{applied:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_host_that_means_the_same_is_adopted_and_one_that_never_ran_is_new() {
    let coordinator = TestCoordinator::start().await;
    let files = small_fleet("own.example");
    let composed = "# by hand\n[server]\nhostname = 'own.example'\n";
    let (one, two) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let mut unpacked = home(&[(CONFIG, OWN)]);
    (unpacked.history, unpacked.server) = (HomeHistory::NeverStarted, FoundServer::Stopped);
    let hosts = [
        Host::start(&coordinator, &one, home(&[(CONFIG, composed)])).await,
        Host::start(&coordinator, &two, unpacked).await,
    ];
    coordinator
        .until("both report", |status| status.nodes.iter().filter(|node| node.connected).count() == 2)
        .await;
    let shown = plan(&coordinator, &files).await;
    let (first, second) = (of(&shown, "is-1"), of(&shown, "is-2"));
    assert_eq!((first.adoption.as_str(), first.restart.as_str()), ("adopted", "none"), "{first:?}");
    assert_eq!((second.adoption.as_str(), second.restart.as_str()), ("started", "restart"), "{second:?}");
    assert_eq!((second.unpacked_keys, second.unpacked_files), (3, 1));
    assert!(shown.unmanaged_digest.is_empty() && shown.nodes.iter().all(|node| node.unmanaged.is_empty()));
    let applied = coordinator.apply(&files, None).await;
    assert_eq!((applied.revision, applied.refused), (1, false), "{applied:?}");
    drop(hosts);
    coordinator.stop().await;
}

#[tokio::test]
async fn keystores_that_replace_those_of_hosts_fall_under_the_guard_the_first_time() {
    let coordinator = TestCoordinator::start().await;
    let (one, two) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let own = [(CONFIG, OWN), (KEYS, "their key"), (TRUST, "their trust")];
    let hosts = [
        Host::start(&coordinator, &one, home(&own)).await,
        Host::start(&coordinator, &two, home(&own)).await,
    ];
    coordinator
        .until("both report", |status| status.nodes.iter().filter(|node| node.connected).count() == 2)
        .await;
    let with = |key: &str, trust: &str| {
        let mut files = small_fleet("own.example");
        files.insert(format!("files/km/{KEYS}"), key.to_owned());
        files.insert(format!("files/km/{TRUST}"), trust.to_owned());
        files
    };
    let codes = |plan: &PlanReply| {
        plan.findings.iter().map(|finding| finding.code.clone()).collect::<BTreeSet<String>>()
    };
    let both = plan(&coordinator, &with("new key", "new trust")).await;
    assert!(both.refused && codes(&both).contains("CV552"), "{both:?}");
    let refused = coordinator.apply(&with("new key", "new trust"), None).await;
    assert!(refused.findings.iter().any(|finding| finding.code == "CV552"), "{refused:?}");
    let key = plan(&coordinator, &with("new key", "their trust")).await;
    assert!(!key.refused && codes(&key).contains("CV553"), "{key:?}");
    let same = plan(&coordinator, &with("their key", "their trust")).await;
    assert!(!codes(&same).iter().any(|code| code == "CV552" || code == "CV553"), "{same:?}");
    assert!(of(&same, "is-1").unmanaged.iter().all(|lost| lost.path == CONFIG), "{same:?}");
    drop(hosts);
    coordinator.stop().await;
}

#[tokio::test]
async fn what_an_agent_would_refuse_is_found_before_anything_restarts() {
    let coordinator = TestCoordinator::start().await;
    let (one, two) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let mut open = home(&[(CONFIG, OWN)]);
    open.allowed = Some(Allowed { commands: vec!["/usr/bin/check".to_owned()], ..Allowed::default() });
    let mut closed = open.clone();
    closed.allowed = Some(Allowed::default());
    let first = Host::start(&coordinator, &one, open).await;
    let second = Host::start(&coordinator, &two, closed).await;
    coordinator
        .until("both report", |status| status.nodes.iter().filter(|node| node.connected).count() == 2)
        .await;
    let mut files = small_fleet("own.example");
    let manifest = files.get_mut("fleet.toml").unwrap();
    manifest.push_str(
        "[[groups.km.rollout.gates]]\nname = \"batch\"\nkind = \"command\"\nprogram = \"/usr/bin/check\"\n\
         [groups.km.hooks.before_stop]\nkind = \"haproxy\"\nsocket = \"/run/haproxy.sock\"\nbackend = \"b\"\n\
         server = \"s\"\nstate = \"drain\"\n",
    );
    let told = |plan: &PlanReply, code: &str| -> Vec<String> {
        let of_code = plan.findings.iter().filter(|finding| finding.code == code);
        of_code.map(|finding| finding.message.clone()).collect()
    };
    let shown = plan(&coordinator, &files).await;
    let refused = told(&shown, "CV122");
    assert!(shown.refused && refused.len() == 2, "{refused:?}");
    let naming = |what: &str| refused.iter().find(|text| text.contains(what)).unwrap();
    assert!(naming("gate batch: /usr/bin/check is not among `commands`").contains("the agent of is-2 would"));
    assert!(naming("hook before_stop: /run/haproxy.sock").contains("the agent of is-1, is-2 would"));
    let applied = coordinator.apply(&files, None).await;
    assert!(applied.refused && applied.revision == 0, "{applied:?}");

    // An agent that cannot be asked may allow more by now.
    second.kill().await;
    coordinator
        .until("is-2 to be gone", |status| status.nodes.iter().filter(|node| node.connected).count() == 1)
        .await;
    let manifest = files.get_mut("fleet.toml").unwrap();
    *manifest = manifest.split("[groups.km.hooks").next().unwrap().to_owned();
    let shown = plan(&coordinator, &files).await;
    assert!(!shown.refused && told(&shown, "CV122").is_empty(), "{:?}", shown.findings);
    let likely = told(&shown, "CV123");
    assert!(likely.len() == 1 && likely[0].contains("the agent of is-2 would have refused"), "{likely:?}");
    drop(first);
    coordinator.stop().await;
}

/// What a host says of the connection to `is.acme`, whose certificate nobody there vouches for.
fn stranger() -> (Peer, PeerFact) {
    let certificate = CertificateFact {
        digest: Digest::of(b"is"),
        subject: "CN=is".to_owned(),
        issuer: "CN=ca".to_owned(),
        common_name: Some("is.acme".to_owned()),
        names: Vec::new(),
        not_before: Timestamp(0),
        not_after: Timestamp(i64::MAX),
    };
    let peer = Peer {
        key: "apim.event_hub.service_url".to_owned(),
        address: Address { host: "is.acme".to_owned(), port: 9443 },
        client: Client::Http,
    };
    let shown = Shown { certificate, path: Path::Unknown, truststore: TRUST.to_owned() };
    (peer, PeerFact::Shown(shown))
}

#[tokio::test]
async fn whom_a_server_will_refuse_is_told_unless_its_truststore_changes() {
    let coordinator = TestCoordinator::start().await;
    let one = coordinator.join("is-1").await;
    let mut facts = home(&[(CONFIG, OWN), (TRUST, "before")]);
    facts.peers = vec![stranger()];
    let first = Host::start(&coordinator, &one, facts).await;
    coordinator
        .until("it reports", |status| status.nodes.iter().filter(|node| node.connected).count() == 1)
        .await;
    let mut files = small_fleet("own.example");
    let told = |plan: &PlanReply| -> Vec<String> {
        let of_code = plan.findings.iter().filter(|finding| finding.code == "CV563");
        of_code.map(|finding| finding.message.clone()).collect()
    };
    let shown = plan(&coordinator, &files).await;
    assert!(!shown.refused, "{:?}", shown.findings);
    assert_eq!(
        told(&shown),
        [format!(
            "is-1 will refuse is.acme:9443 (`PKIX path building failed`): {TRUST} holds neither its certificate (CN=is) \
             nor its issuer (CN=ca)"
        )]
    );
    // What the new one holds is looked at by the agent before it is in force.
    files.insert(format!("files/km/{TRUST}"), "after".to_owned());
    assert_eq!(told(&plan(&coordinator, &files).await), [""; 0]);
    drop(first);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_plan_names_other_rules_and_refuses_another_fleets_directory() {
    let coordinator = TestCoordinator::start().await;
    let files = small_fleet("a.example");
    coordinator.apply(&files, None).await;
    let mut other = files.clone();
    let manifest = files["fleet.toml"].replace("soak = \"1ms\"", "soak = \"1m\"");
    other.insert(
        "fleet.toml".into(),
        manifest.replace("groups.km", "groups.keys").replace("\"km\"", "\"keys\""),
    );
    let shown = plan(&coordinator, &other).await;
    let changes: Vec<&str> =
        shown.notes.iter().filter(|note| note.change).map(|note| note.text.as_str()).collect();
    assert_eq!(changes, ["group km is now called keys", "group keys: soak 1ms → 1m"], "{shown:?}");
    let same = plan(&coordinator, &files).await;
    assert!(same.notes.iter().all(|note| !note.change), "{same:?}");
    other.insert("fleet.toml".into(), manifest.replace("name = \"acme\"", "name = \"emca\""));
    let foreign = plan(&coordinator, &other).await;
    assert!(foreign.refusal.contains("this directory is fleet emca"), "{foreign:?}");
    assert!(foreign.nodes.is_empty());
    coordinator.stop().await;
}

#[tokio::test]
async fn an_apply_that_names_nodes_leaves_the_others_on_their_revision() {
    let coordinator = TestCoordinator::start().await;
    let (one, two) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let agents =
        [ScriptedAgent::start(&coordinator, &one).await, ScriptedAgent::start(&coordinator, &two).await];
    let done = |id: u64| {
        move |status: &StatusReply| status.rollouts.iter().any(|it| it.id == id && it.state == "done")
    };
    coordinator.apply(&small_fleet("one.example"), None).await;
    coordinator.until("rollout 1 done", done(1)).await;
    let limited = |nodes: &[&str], groups: &[&str]| {
        let mut messages: Vec<Upload> = upload(&small_fleet("two.example"), None);
        if let Some(Part::Header(header)) = &mut messages[0].part {
            header.nodes = nodes.iter().map(|name| (*name).to_owned()).collect();
            header.groups = groups.iter().map(|name| (*name).to_owned()).collect();
        }
        tokio_stream::iter(messages)
    };
    let mut operator = coordinator.operator().await;
    for (nodes, groups, why) in [(&["is-9"][..], &[][..], "no node is-9"), (&[], &["gw"], "no group gw")] {
        let refused = operator.apply(limited(nodes, groups)).await.unwrap().into_inner();
        assert!(refused.refused && refused.refusal.contains(why), "{refused:?}");
    }
    let shown = operator.plan(limited(&["is-1"], &[])).await.unwrap().into_inner();
    let changing: Vec<&str> = shown.nodes.iter().map(|node| node.node.as_str()).collect();
    let stays: Vec<&str> = shown.notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!((changing, stays), (vec!["is-1"], vec!["is-2 takes no part and stays on revision 1"]));

    operator.apply(limited(&["is-1"], &[])).await.unwrap();
    let status = coordinator.until("rollout 2 done", done(2)).await;
    let told: Vec<(u64, &str)> =
        status.nodes.iter().map(|node| (node.revision_in_force, node.standing_why.as_str())).collect();
    assert_eq!(told, [(2, ""), (1, "the apply left it out")], "{status:#?}");
    assert_eq!((agents[0].assigned.borrow().len(), agents[1].assigned.borrow().len()), (2, 1));

    // The whole directory brings the rest along, and touches nobody else.
    operator.apply(limited(&[], &["km"])).await.unwrap();
    let status = coordinator.until("rollout 3 done", done(3)).await;
    assert!(status.nodes.iter().all(|node| node.standing_why.is_empty()), "{status:#?}");
    assert_eq!((agents[0].assigned.borrow().len(), agents[1].assigned.borrow().len()), (2, 2));
    coordinator.stop().await;
}

#[tokio::test]
async fn a_node_that_is_behind_is_left_alone_by_an_apply_that_does_not_name_it() {
    let coordinator = TestCoordinator::start().await;
    let (one, two) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let first = ScriptedAgent::start(&coordinator, &one).await;
    let memory = Memory::default();
    let second = ScriptedAgent::resume(&coordinator, &two, memory.clone()).await;
    let state = |id: u64, state: &'static str| {
        move |status: &StatusReply| status.rollouts.iter().any(|it| it.id == id && it.state == state)
    };
    coordinator.apply(&small_fleet("one.example"), None).await;
    coordinator.until("rollout 1 done", state(1, "done")).await;
    // While it is away nothing may go down, and what was to change is aborted: both are behind an unchanged directory.
    second.kill().await;
    let away = |status: &StatusReply| status.nodes.iter().any(|node| !node.connected);
    coordinator.until("is-2 away", away).await;
    coordinator.apply(&small_fleet("two.example"), None).await;
    let mut operator = coordinator.operator().await;
    let abort = ControlRolloutRequest { rollout: 2, action: "abort".into(), why: "a trial".into() };
    operator.control_rollout(abort).await.unwrap();
    coordinator.until("rollout 2 aborted", state(2, "aborted")).await;
    let second = ScriptedAgent::resume(&coordinator, &two, memory).await;
    // It is told again what it obeys, and nothing newer.
    let told = second.assigned.clone().wait_for(|all| !all.is_empty()).await.unwrap().clone();
    assert_eq!(told, [1]);

    let mut messages: Vec<Upload> = upload(&small_fleet("two.example"), None);
    if let Some(Part::Header(header)) = &mut messages[0].part {
        header.nodes = vec!["is-1".to_owned()];
    }
    let shown = operator.plan(tokio_stream::iter(messages.clone())).await.unwrap().into_inner();
    assert_eq!(shown.nodes.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["is-1"]);
    let told = |text: &str| shown.notes.iter().any(|note| note.kind == "node-behind" && note.text == text);
    assert!(told("is-1 is behind: it is on revision 1"), "{:?}", shown.notes);
    operator.apply(tokio_stream::iter(messages)).await.unwrap();
    coordinator.until("rollout 3 done", state(3, "done")).await;
    assert_eq!((&first.assigned.borrow()[..], &second.assigned.borrow()[..]), (&[1, 2][..], &[1][..]));

    // The whole directory brings it along.
    coordinator.apply(&small_fleet("two.example"), None).await;
    coordinator.until("rollout 4 done", state(4, "done")).await;
    assert_eq!((&first.assigned.borrow()[..], &second.assigned.borrow()[..]), (&[1, 2][..], &[1, 2][..]));
    coordinator.stop().await;
}

/// Prints what asking costs. For a fleet: `MEASURED_NODES=400 cargo nextest run -p convoy-coordinator measured --no-capture`.
#[tokio::test(flavor = "multi_thread")]
async fn what_asking_every_host_costs_is_measured() {
    let count: usize = std::env::var("MEASURED_NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let coordinator = TestCoordinator::start().await;
    let mut files = small_fleet("new.example");
    let names: Vec<String> = (0..count).map(|index| format!("gw-{index:03}")).collect();
    let mut manifest = files["fleet.toml"].split("[nodes.").next().unwrap_or_default().to_owned();
    for name in &names {
        manifest += &format!("[nodes.{name}]\ngroup = \"km\"\nhost = \"{name}\"\nhome = \"/opt/is\"\n");
    }
    files.insert("fleet.toml".to_owned(), manifest);
    let mut nodes = Vec::new();
    for name in &names {
        nodes.push(coordinator.join(name).await);
    }
    let sources =
        |plan: &PlanReply, source: &str| plan.nodes.iter().filter(|node| node.source == source).count();
    let began = Instant::now();
    let unasked = plan(&coordinator, &files).await;
    let without = began.elapsed();
    assert_eq!(sources(&unasked, "nothing"), count);

    let mut hosts = Vec::new();
    for (node, name) in nodes.iter().zip(&names) {
        let own = format!("{OWN}[own]\nname = \"{name}\"\n");
        hosts.push(Host::start(&coordinator, node, home(&[(CONFIG, &own)])).await);
    }
    coordinator
        .until("all report", |status| status.nodes.iter().filter(|node| node.connected).count() == count)
        .await;
    let said = || hosts.iter().map(|host| host.said.load(Ordering::Relaxed)).sum::<usize>();
    let mut figures = Vec::new();
    for _ in 0..2 {
        let (before, began) = (said(), Instant::now());
        let asked = plan(&coordinator, &files).await;
        figures.push(format!("{} ms and {} bytes of answers", began.elapsed().as_millis(), said() - before));
        assert_eq!(sources(&asked, "now"), count, "{:?}", asked.nodes.first());
    }
    let without = without.as_millis();
    println!("plan of {count} nodes: {without} ms without asking, then {}", figures.join(", then "));
    drop(hosts);
    coordinator.stop().await;
}
