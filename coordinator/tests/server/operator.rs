//! Plan, apply and the rest of the operator's calls, without any agent.

use proto::wire::operator::{
    EventsRequest, FileChunk, ListRolloutsRequest, ListSecretsRequest, NodeRequest, RemoveSecretRequest,
    RestartNodeRequest, RollbackRequest, SetSecretRequest, StatusRequest, Upload, UploadHeader,
    store_trouble::Trouble, upload::Part,
};
use tonic::Code;

use crate::support::{TestCoordinator, small_fleet, upload};

#[tokio::test]
async fn an_apply_makes_a_revision_and_a_rollout_that_says_why_it_waits() {
    let coordinator = TestCoordinator::start().await;
    let mut operator = coordinator.operator().await;
    let files = small_fleet("iam.example.org");
    let plan = operator.plan(tokio_stream::iter(upload(&files, None))).await.unwrap().into_inner();
    assert!(!plan.refused && plan.base_revision == 0, "{plan:?}");
    let changes: Vec<(&str, &str)> =
        plan.nodes.iter().map(|node| (node.node.as_str(), node.change.as_str())).collect();
    assert_eq!(changes, [("is-1", "create"), ("is-2", "create")]);
    assert!(plan.nodes[0].files.iter().all(|file| file.old_size == 0 && 0 < file.new_size), "{plan:?}");
    assert_eq!(plan.waves, ["1. km: is-1, then is-2"]);

    let applied = coordinator.apply(&files, Some(0)).await;
    assert_eq!((applied.revision, applied.rollout, applied.refused), (1, 1, false), "{applied:?}");
    let status = coordinator.status().await;
    assert_eq!((status.revision, status.nodes.len()), (1, 2));
    let rollout = &status.rollouts[0];
    assert_eq!((rollout.state.as_str(), rollout.author.as_str()), ("running", "admin"));
    assert!(rollout.waiting.iter().any(|why| why.contains("not connected")), "{:?}", rollout.waiting);
    assert!(status.nodes.iter().all(|node| node.state == "not-joined"));

    let stale = coordinator.apply(&small_fleet("other.example.org"), Some(0)).await;
    assert!(stale.refused && stale.refusal.contains("revision 1 is by admin"), "{stale:?}");
    assert_eq!(coordinator.status().await.revision, 1);
    coordinator.stop().await;
}

#[tokio::test]
async fn groups_that_do_not_wait_for_each_other_have_one_number_and_a_typed_order_is_said() {
    let coordinator = TestCoordinator::start().await;
    let mut files = small_fleet("iam.example.org");
    let group = |name: &str, more: &str| {
        format!(
            "[groups.{name}]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n{more}\
             [nodes.{name}-1]\ngroup = \"{name}\"\nhost = \"h-{name}\"\nhome = \"/opt/is\"\n"
        )
    };
    let more = group("beside", "") + &group("later", "after = [\"km\"]\n");
    files.get_mut("fleet.toml").unwrap().push_str(&more);
    let mut operator = coordinator.operator().await;
    let plan = operator.plan(tokio_stream::iter(upload(&files, None))).await.unwrap().into_inner();
    assert_eq!(
        plan.waves,
        [
            "1. beside: beside-1 (at the same time as km)",
            "1. km: is-1, then is-2 (at the same time as beside)",
            "2. later: later-1",
            "   later after km: its `after` in fleet.toml says so",
        ]
    );
    coordinator.stop().await;
}

#[tokio::test]
async fn an_order_that_was_derived_says_from_which_key_and_a_rollback_that_it_is_kept() {
    let coordinator = TestCoordinator::start().await;
    let gateway = "[groups.gw]\nproduct = \"wso2am-4.2-gateway-worker\"\nlayers = [\"gw\"]\n\
                   [groups.gw.rollout]\nsoak = \"1ms\"\nmin_healthy_time = \"1ms\"\n\
                   [nodes.gw-1]\ngroup = \"gw\"\nhost = \"h-gw\"\nhome = \"/opt/am\"\n";
    let files = |hostname: &str| {
        let mut files = small_fleet(hostname);
        files.get_mut("fleet.toml").unwrap().push_str(gateway);
        let layer = format!(
            "[server]\nhostname = \"{hostname}\"\n[apim.key_manager]\n\
             service_url = \"https://{{{{ nodes('km')[0].host }}}}:9443/services/\"\n"
        );
        files.insert("config/gw.toml".to_owned(), layer);
        files
    };
    for name in ["is-1", "is-2", "gw-1"] {
        let node = coordinator.join(name).await;
        crate::support::ScriptedAgent::start(&coordinator, &node).await;
    }
    let mut operator = coordinator.operator().await;
    let plan = operator.plan(tokio_stream::iter(upload(&files("one.example.org"), None))).await.unwrap();
    let derived = "   gw after km: apim.key_manager.service_url of gw-1 names is-1";
    assert!(plan.get_ref().waves.iter().any(|line| line == derived), "{:#?}", plan.get_ref());
    let done = |id: u64| {
        move |status: &proto::wire::operator::StatusReply| {
            status.rollouts.iter().any(|rollout| rollout.id == id && rollout.state == "done")
        }
    };
    coordinator.apply(&files("one.example.org"), None).await;
    coordinator.until("rollout 1 done", done(1)).await;
    coordinator.apply(&files("two.example.org"), None).await;
    coordinator.until("rollout 2 done", done(2)).await;
    let back = proto::wire::operator::RollbackRequest { to_revision: 1, ..Default::default() };
    let shown = operator.plan_rollback(back).await.unwrap().into_inner();
    let kept = "   gw after km: as that revision was applied";
    assert!(shown.waves.iter().any(|line| line == kept), "{shown:#?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn what_does_not_compose_is_refused_and_changes_nothing() {
    let coordinator = TestCoordinator::start().await;
    let mut files = small_fleet("iam.example.org");
    files.insert("config/common.toml".into(), "[server\n".into());
    let refused = coordinator.apply(&files, None).await;
    assert!(refused.refused && refused.findings.iter().any(|finding| finding.severity == "error"));
    assert_eq!(refused.findings[0].file, "config/common.toml");
    let mut files = small_fleet("iam.example.org");
    let other = files["fleet.toml"].replace("\"acme\"", "\"other\"");
    files.insert("fleet.toml".into(), other);
    let refused = coordinator.apply(&files, None).await;
    assert!(refused.refused && refused.refusal.contains("fleet other"), "{refused:?}");
    assert_eq!((coordinator.status().await.revision, coordinator.status().await.nodes.len()), (0, 0));
    coordinator.stop().await;
}

#[tokio::test]
async fn an_upload_is_bounded_and_well_formed() {
    let coordinator =
        TestCoordinator::start_in(tempfile::tempdir().unwrap().into(), "[limits]\nupload_bytes = 100\n")
            .await;
    let mut operator = coordinator.operator().await;
    let file = |path: &str, size: usize, last| Upload {
        part: Some(Part::File(FileChunk { path: path.into(), data: vec![b'#'; size], last })),
    };
    let header = || Upload { part: Some(Part::Header(UploadHeader::default())) };
    let cases = [
        (vec![file("fleet.toml", 1, true)], "begins with its header"),
        (vec![header(), file("../fleet.toml", 1, true)], "not a path inside"),
        (vec![header(), file("/etc/passwd", 1, true)], "not a path inside"),
        (vec![header(), file("a", 60, false), file("a", 60, true)], "larger than 100 bytes"),
        (vec![header(), file("a", 1, false), file("b", 1, true)], "not complete"),
        (vec![header(), file("a", 1, true), file("a", 1, true)], "sent twice"),
        (vec![header(), file("a", 1, false)], "middle of"),
    ];
    for (messages, expected) in cases {
        let status = operator.apply(tokio_stream::iter(messages)).await.unwrap_err();
        assert!(status.message().contains(expected), "{expected}: {status}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn an_apply_that_the_disk_has_no_room_for_is_refused_before_anything_is_written() {
    let reserve = u64::from(u32::MAX) << 24;
    let more = format!("[limits]\ndisk_reserve = {reserve}\n");
    let coordinator = TestCoordinator::start_in(tempfile::tempdir().unwrap().into(), &more).await;
    let refused = coordinator.apply(&small_fleet("iam.example.org"), None).await;
    assert!(refused.refused && refused.refusal.contains(&reserve.to_string()), "{refused:?}");
    assert!(refused.refusal.contains("are free in"), "{refused:?}");
    // What needs little room still works, and the trouble is seen.
    coordinator.token("is-1", 60).await;
    let mut statuses =
        coordinator.operator().await.watch_status(StatusRequest {}).await.unwrap().into_inner();
    let trouble = loop {
        let status = statuses.message().await.unwrap().unwrap();
        assert_eq!(status.revision, 0);
        if let Some(trouble) = status.store_trouble {
            break trouble;
        }
    };
    let Some(Trouble::LowRoom(room)) = trouble.trouble else { panic!("{trouble:?}") };
    assert!(room.free_bytes < reserve && room.reserve_bytes == reserve);
    coordinator.stop().await;
}

#[tokio::test]
async fn history_answers_what_happened_and_who_did_it() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    coordinator.apply(&small_fleet("two.example.org"), None).await;
    let mut operator = coordinator.operator().await;
    let list = operator.list_rollouts(ListRolloutsRequest { most: 9 }).await.unwrap().into_inner();
    let states: Vec<(u64, &str)> =
        list.rollouts.iter().map(|rollout| (rollout.id, rollout.state.as_str())).collect();
    assert_eq!(states, [(2, "running"), (1, "superseded")]);

    let request = RollbackRequest {
        to_revision: 1,
        why: "two was wrong".into(),
        parent: Some(2),
        now: Some("outage 4711".into()),
        ..RollbackRequest::default()
    };
    let back = operator.rollback(request).await.unwrap().into_inner();
    assert_eq!((back.revision, back.rollout, back.refused), (3, 3, false), "{back:?}");
    let unknown = RollbackRequest { to_revision: 9, ..RollbackRequest::default() };
    let unknown = operator.rollback(unknown).await.unwrap().into_inner();
    assert!(unknown.refused && unknown.refusal.contains("no revision 9: the newest is 3"), "{unknown:?}");
    let newest = RollbackRequest { to_revision: 3, ..RollbackRequest::default() };
    let newest = operator.rollback(newest).await.unwrap().into_inner();
    assert!(newest.refused && newest.refusal.contains("revision 3 is the newest"), "{newest:?}");
    let rollout = coordinator.status().await.rollouts.remove(0);
    assert_eq!(rollout.windows_overridden, "outage 4711");

    let request = EventsRequest { most: 3, ..EventsRequest::default() };
    let mut stream = operator.events(request).await.unwrap().into_inner();
    let (mut kinds, mut overridden) = (Vec::new(), Vec::new());
    while let Some(event) = stream.message().await.unwrap() {
        kinds.push(format!("{} by {}", event.kind, event.actor));
        overridden.push(event.fields.get("windows_overridden").cloned().unwrap_or_default());
    }
    assert_eq!(kinds, ["applied by admin", "applied by admin", "rolled-back by admin"]);
    assert_eq!(overridden, ["", "", "outage 4711"]);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_stale_parent_is_told_who_changed_which_keys_of_which_nodes() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    coordinator.apply(&small_fleet("two.example.org"), Some(1)).await;
    let stale = coordinator.apply(&small_fleet("three.example.org"), Some(1)).await;
    assert!(stale.refused);
    let told = "revision 2 is by admin (\"a change\"), and changed is-1, is-2: server.hostname;";
    assert!(stale.refusal.contains(told), "{}", stale.refusal);
    assert!(!stale.refusal.contains("two.example.org"), "no values: {}", stale.refusal);
    coordinator.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_says_why() {
    let coordinator = TestCoordinator::start().await;
    let mut operator = coordinator.operator().await;
    let missing = operator.show_node(NodeRequest { node: "is-9".into() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    let restart = |now| RestartNodeRequest { node: "is-1".into(), why: "test".into(), now };
    // A node that is away serves nobody, so the guard has nothing against it; the order still cannot reach it.
    for now in [false, true] {
        let refused = operator.restart_node(restart(now)).await.unwrap().into_inner();
        assert!(!refused.ok && !refused.guard && refused.detail.contains("not connected"), "{refused:?}");
    }
    let forget = operator.forget_node(NodeRequest { node: "is-1".into() }).await.unwrap().into_inner();
    assert!(forget.guard && forget.detail.contains("remove it from fleet.toml"), "{forget:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn secrets_are_needed_kept_sealed_over_a_restart_and_never_told() {
    let coordinator = TestCoordinator::start().await;
    let mut files = small_fleet("iam.example.org");
    let layer = "[super_admin]\npassword = \"{{ secret('admin') }}\"\n".to_owned();
    *files.get_mut("config/common.toml").unwrap() += &format!("\n{layer}");
    let refused = coordinator.apply(&files, None).await;
    assert!(refused.refused && refused.findings[0].code == "CV307", "{refused:?}");

    let mut secrets = coordinator.secrets().await;
    let set = |name: &str, value: &str| SetSecretRequest { name: name.into(), value: value.into() };
    assert_eq!(secrets.set(set("Admin", "x")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(secrets.set(set("admin", "")).await.unwrap_err().code(), Code::InvalidArgument);
    secrets.set(set("admin", "tell-nobody-1")).await.unwrap();
    let applied = coordinator.apply(&files, None).await;
    assert_eq!((applied.revision, applied.refused), (1, false), "{applied:?}");

    // The same directory with another value is another revision, and its plan shows no value.
    secrets.set(set("admin", "tell-nobody-2")).await.unwrap();
    let mut operator = coordinator.operator().await;
    let plan = operator.plan(tokio_stream::iter(upload(&files, None))).await.unwrap().into_inner();
    assert_eq!(plan.nodes.len(), 2);
    assert!(!format!("{plan:?}").contains("tell-nobody"), "{plan:?}");

    let dir = coordinator.dir.clone();
    coordinator.stop().await;
    let coordinator = TestCoordinator::start_in(dir.clone(), "").await;
    let mut secrets = coordinator.secrets().await;
    let listed = secrets.list(ListSecretsRequest {}).await.unwrap().into_inner().secrets;
    let listed: Vec<_> = listed.iter().map(|it| (it.name.as_str(), it.changed_by.as_str())).collect();
    assert_eq!(listed, [("admin", "admin")]);
    assert_eq!(coordinator.apply(&files, None).await.revision, 2);
    secrets.remove(RemoveSecretRequest { name: "admin".into() }).await.unwrap();
    assert!(coordinator.apply(&files, None).await.refused);
    let gone = secrets.remove(RemoveSecretRequest { name: "admin".into() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    coordinator.stop().await;

    // What becomes of values whose key is lost is in `recovery.rs`.
    let coordinator = TestCoordinator::start_in(dir.clone(), "").await;
    let mut secrets = coordinator.secrets().await;
    secrets.set(set("unused", "tell-nobody-3")).await.unwrap();
    coordinator.stop().await;
    let store = std::fs::read(dir.path().join("data/store.redb")).unwrap();
    assert!(
        !store.windows(13).any(|bytes| bytes == b"tell-nobody-3"),
        "a value that no file holds is sealed"
    );
}
