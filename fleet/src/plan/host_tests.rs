//! Plans that are drawn against a host: what is there, whoever wrote it.

use super::{
    tests::{node, stored},
    *,
};
use crate::{
    drift::keys::{KeyPattern, KeyRule, KeyRules},
    host::{ConfigRead, FoundEntry, FoundFile, FoundServer, HomeHistory, HostFacts, OtherKind},
    ids::NodeName,
    observed::{Drift, DriftAction, DriftKind},
    time::Timestamp,
};

const CONFIG: &str = "repository/conf/deployment.toml";
const KEYS: &str = "repository/resources/security/wso2carbon.jks";

fn path(text: &str) -> HomePath {
    HomePath::parse(text).unwrap()
}

/// A host with these files, whose server runs.
fn host(files: &[(&str, &str)]) -> HostFacts {
    let mut facts = HostFacts {
        at: Timestamp(1_000),
        home: "/opt/is".to_owned(),
        product: None,
        offset: Some(0),
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
    for (at, text) in files {
        let digest = Digest::of(text.as_bytes());
        let meaning = if *at == CONFIG { canonical::meaning(text) } else { digest };
        let file = FoundFile {
            digest,
            meaning,
            size: text.len() as u64,
            mode: 0o600,
            owner: "wso2".to_owned(),
            group: "wso2".to_owned(),
            modified: Timestamp(400),
        };
        facts.entries.insert(path(at), FoundEntry::File(file));
        facts.contents.insert(digest, text.as_bytes().into());
    }
    facts
}

fn base(assigned: Option<&ComposedNode>, facts: HostFacts) -> Base {
    Base { assigned: assigned.map(stored), host: Knowledge::Now(facts), edits: OpenEdits::default() }
}

/// Everything that a reviewer of a plan looks at, one line each.
fn told(plan: &NodePlan) -> String {
    let mut lines = vec![format!("from {}", plan.source.word())];
    for key in &plan.keys {
        lines.push(match (&key.old, &key.new) {
            (Some(old), Some(new)) => format!("~ {} {old} -> {new}", key.key),
            (Some(old), None) => format!("- {} {old}", key.key),
            (None, new) => format!("+ {} {}", key.key, new.as_deref().unwrap_or_default()),
        });
    }
    for file in &plan.files {
        let note = if file.note.is_empty() { String::new() } else { format!(" ({})", file.note) };
        lines.push(format!(
            "{} {} {:?} {:?}{note}",
            file.path,
            file.kind.as_str(),
            file.restart,
            file.settings
        ));
    }
    for lost in &plan.unmanaged {
        lines.push(format!("! {} {} {:?}", lost.path, lost.kind.as_str(), lost.keys));
    }
    if let Some(unpacked) = plan.unpacked {
        lines.push(format!("unpacked: {} keys, {} files", unpacked.keys, unpacked.files));
    }
    let adoption = plan.adoption.map_or("", Adoption::as_str);
    lines.push(format!("{:?} {adoption}: {}", plan.restart.class, plan.restart.why.join("; ")));
    lines.join("\n")
}

fn check(base: &Base, new: &ComposedNode, expected: &str) {
    let told = told(&compare(base, new));
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_first_plan_of_a_running_server_shows_every_key_that_goes() {
    let new = node("[server]\nhostname = \"b\"\n", &[]);
    let disk = "[server]\nhostname = \"a\"\noffset = 3\n[user_store]\ntype = \"db\"\n[database.shared]\npassword = \"hunter2\"\n";
    check(
        &base(None, host(&[(CONFIG, disk)])),
        &new,
        r#"
        from now
        - database.shared.password ********
        ~ server.hostname "a" -> "b"
        - server.offset 3
        - user_store.type "db"
        repository/conf/deployment.toml changed Restart []
        ! repository/conf/deployment.toml keys ["database.shared.password", "server.offset", "user_store.type"]
        Restart restarted: repository/conf/deployment.toml is not what the running server has
        "#,
    );
}

#[test]
fn a_running_server_whose_files_mean_the_same_is_adopted_without_a_restart() {
    let new = node("[server]\nhostname = \"a\"\n", &[(KEYS, "key")]);
    let disk = "# by hand\nserver.hostname = 'a'\n";
    check(
        &base(None, host(&[(CONFIG, disk), (KEYS, "key")])),
        &new,
        "
        from now
        repository/conf/deployment.toml changed None []
        None adopted: its files mean the same
        ",
    );
}

#[test]
fn a_server_that_started_before_an_edit_is_not_adopted() {
    let new = node("[server]\nhostname = \"a\"\n", &[]);
    let mut facts = host(&[(CONFIG, &new.config_text)]);
    facts.server = FoundServer::Running { since: Timestamp(500), config: ConfigRead::Earlier };
    check(
        &base(None, facts),
        &new,
        "
        from now
        Restart restarted: deployment.toml was changed after the server had started, so it read another one
        ",
    );
}

#[test]
fn mode_and_owner_are_compared_with_those_on_the_host() {
    let mut new = node("a = 1\n", &[(KEYS, "key")]);
    new.bundle.service.run_user = Some("carbon".to_owned());
    let mut facts = host(&[(CONFIG, &new.config_text), (KEYS, "key")]);
    if let Some(FoundEntry::File(file)) = facts.entries.get_mut(&path(KEYS)) {
        file.mode = 0o640;
    }
    let plan = compare(&base(None, facts), &new);
    let settings: Vec<&[String]> = plan.files.iter().map(|file| file.settings.as_slice()).collect();
    let wanted = ["mode 0640 -> 0600".to_owned(), "owner wso2 -> carbon".to_owned()];
    assert!(settings.iter().all(|settings| settings.last() == Some(&wanted[1])), "{settings:?}");
    assert!(settings.contains(&wanted.as_slice()), "{settings:?}");
    assert_eq!(plan.adoption, Some(Adoption::Adopted));
}

#[test]
fn a_home_that_never_started_is_new() {
    let new = node("[server]\nhostname = \"b\"\n", &[(KEYS, "key")]);
    let mut facts = host(&[(CONFIG, "[server]\nhostname = \"localhost\"\n[a]\nb = 1\n"), (KEYS, "shipped")]);
    facts.history = HomeHistory::NeverStarted;
    facts.server = FoundServer::Stopped;
    check(
        &base(None, facts),
        &new,
        r#"
        from now
        + server.hostname "b"
        repository/conf/deployment.toml added Restart []
        repository/resources/security/wso2carbon.jks added Phased []
        unpacked: 2 keys, 2 files
        Restart started: no server runs; it is started
        "#,
    );
}

#[test]
fn a_home_that_never_started_keeps_the_keys_that_belong_to_the_host() {
    let mut new = node("[server]\nhostname = \"b\"\n[cache]\nsize = 1\n", &[]);
    let pattern = KeyPattern::parse("cache").unwrap();
    new.bundle.drift_keys = KeyRules::new(vec![KeyRule { pattern, policy: DriftPolicy::Ignore }]);
    let mut facts = host(&[(CONFIG, "[server]\nhostname = \"localhost\"\n[cache]\nsize = 9\n")]);
    facts.history = HomeHistory::NeverStarted;
    facts.server = FoundServer::Stopped;
    let plan = compare(&base(None, facts), &new);
    let kept: Vec<String> =
        plan.kept.iter().map(|it| format!("{} {:?} {:?}", it.key, it.old, it.new)).collect();
    assert_eq!(kept, ["cache.size Some(\"9\") Some(\"1\")"]);
    let told = told(&plan);
    assert!(told.contains("+ cache.size 9"), "what the agent will write: {told}");
    assert!(told.contains("+ server.hostname \"b\""), "{told}");
}

#[test]
fn a_file_that_nobody_declared_needs_a_yes_and_one_that_is_equal_does_not() {
    let log = "repository/conf/log4j2.properties";
    let old = node("a = 1\n", &[]);
    let new = node("a = 1\n", &[(log, "level = INFO\n"), (KEYS, "key")]);
    check(
        &base(Some(&old), host(&[(CONFIG, &old.config_text), (log, "level = DEBUG\n"), (KEYS, "key")])),
        &new,
        r#"
        from now
        repository/conf/log4j2.properties changed Hot ["mode 0600 -> 0640"]
        ! repository/conf/log4j2.properties file []
        Phased : repository/resources/security/wso2carbon.jks is added
        "#,
    );
}

#[test]
fn what_the_product_itself_wrote_stays_and_is_no_change() {
    let old = node("[server]\nhostname = \"a\"\n", &[]);
    let new = node("[server]\nhostname = \"b\"\n", &[]);
    assert!(new.bundle.service.owned_keys.contains(&"encryption.key".to_owned()));
    let disk = format!("{}\n[encryption]\nkey = \"made by the server\"\n", old.config_text);
    check(
        &base(Some(&old), host(&[(CONFIG, &disk)])),
        &new,
        r#"
        from now
        ~ server.hostname "a" -> "b"
        repository/conf/deployment.toml changed Restart []
        Restart : repository/conf/deployment.toml changes
        "#,
    );
}

fn drift(action: DriftAction) -> Drift {
    Drift {
        path: path(CONFIG),
        kind: DriftKind::Edited,
        action,
        keys: vec!["server.port".to_owned()],
        at: Timestamp(900),
        restored_after: None,
        detail: String::new(),
        editors: Vec::new(),
    }
}

#[test]
fn an_edit_that_stands_is_named_with_its_keys_and_who_let_it_stand() {
    let old = node("[server]\nhostname = \"a\"\nport = 1\n", &[]);
    let new = node("[server]\nhostname = \"b\"\nport = 1\n", &[]);
    let disk = old.config_text.replace("port = 1", "port = 9");
    let pause = EditPause { reason: "a trial".into(), until: Timestamp(9_000), by: Some("ann".into()) };
    let paused = OpenEdits {
        drift: vec![drift(DriftAction::Paused)],
        pause: Some(pause.clone()),
        ..OpenEdits::default()
    };
    let accepted = OpenEdits {
        drift: vec![drift(DriftAction::Accepted)],
        accepted_by: [(path(CONFIG), "bob".to_owned())].into(),
        ..OpenEdits::default()
    };
    let cases = [
        (
            paused.clone(),
            UnmanagedKind::PausedEdit { reason: pause.reason, until: pause.until, by: pause.by },
        ),
        (accepted, UnmanagedKind::AcceptedEdit { by: Some("bob".into()) }),
    ];
    for (edits, kind) in cases {
        for known in [true, false] {
            let host = if known {
                Knowledge::Now(host(&[(CONFIG, &disk)]))
            } else {
                Knowledge::Unknown { why: "its agent is not connected".into() }
            };
            let base = Base { assigned: Some(stored(&old)), host, edits: edits.clone() };
            let plan = compare(&base, &new);
            assert_eq!(plan.unmanaged.len(), 1, "{}", told(&plan));
            assert_eq!(plan.unmanaged[0].kind, kind);
            assert_eq!(plan.unmanaged[0].keys, ["server.port"]);
            let back = plan.keys.iter().find(|key| key.key == "server.port");
            assert_eq!(back.is_some(), known, "what lies on disk shows as what the apply changes back");
        }
    }
    // The new revision says what the edit says: nothing is lost.
    let agreed = node("[server]\nhostname = \"b\"\nport = 9\n", &[]);
    let host = Knowledge::Now(host(&[(CONFIG, &disk)]));
    let base = Base { assigned: Some(stored(&old)), host, edits: paused };
    let plan = compare(&base, &agreed);
    assert!(plan.unmanaged.iter().all(|lost| lost.keys.is_empty()), "{}", told(&plan));
}

#[test]
fn an_edit_that_is_undone_anyway_needs_no_yes() {
    let old = node("[server]\nhostname = \"a\"\n", &[]);
    let new = node("[server]\nhostname = \"b\"\n", &[]);
    let disk = old.config_text.replace("\"a\"", "\"x\"");
    assert_eq!(compare(&base(Some(&old), host(&[(CONFIG, &disk)])), &new).unmanaged, []);
}

#[test]
fn what_no_agent_replaces_is_said() {
    let new = node("a = 1\n", &[]);
    let mut facts = host(&[]);
    facts.entries.insert(path(CONFIG), FoundEntry::Other { kind: OtherKind::Symlink });
    let plan = compare(&base(None, facts), &new);
    assert_eq!(plan.files[0].note, "what lies there is a symlink, and the agent replaces regular files only");
}

#[test]
fn the_meaning_before_is_the_assigned_one_or_else_that_of_the_host() {
    let old = node("a = 1\n", &[(KEYS, "key")]);
    let shipped = || host(&[(KEYS, "older")]);
    let of = |base: &Base| base.meaning(&path(KEYS));
    assert_eq!(of(&base(Some(&old), shipped())), Some(Digest::of(b"key")));
    assert_eq!(of(&base(None, shipped())), Some(Digest::of(b"older")));
    let mut unused = shipped();
    unused.history = HomeHistory::NeverStarted;
    assert_eq!(of(&base(None, unused)), None, "nobody trusts a key that no server ever used");
}

#[test]
fn a_home_that_a_node_moves_to_is_looked_at_for_what_somebody_wrote_there() {
    let mut new = node("[server]\nhostname = \"a\"\n", &[]);
    let old = new.clone();
    new.bundle.service.home = "/opt/other".to_owned();
    let disk = "[server]\nhostname = \"a\"\n[user_store]\ntype = \"db\"\n";
    let plan = compare(&base(Some(&old), host(&[(CONFIG, disk)])), &new);
    assert_eq!(plan.unmanaged.len(), 1, "{}", told(&plan));
    assert_eq!(plan.unmanaged[0].keys, ["user_store.type"]);
    assert!(!plan.is_new && plan.restart.restarts(), "{}", told(&plan));
}

#[test]
fn a_yes_holds_for_what_it_was_said_to_and_for_nothing_else() {
    let new = node("[server]\nhostname = \"b\"\n", &[]);
    let of = |disk: &str| {
        let plan = compare(&base(None, host(&[(CONFIG, disk)])), &new);
        digest_of_unmanaged([(&NodeName::parse("is-1").unwrap(), plan.unmanaged.as_slice())])
    };
    let (one, other) = ("[a]\nb = 1\n", "[a]\nb = 2\n");
    assert!(of(one).is_some() && of(one) == of(one));
    assert_ne!(of(one), of(other), "another value is another yes");
    assert_eq!(of("[server]\nhostname = \"c\"\n"), None, "a key that gets another value is shown as that");
}

#[test]
fn a_server_that_has_not_read_what_lies_there_is_no_empty_plan() {
    let (old, new) = (node("a = 1\n", &[]), node("a = 2\n", &[]));
    let plan = compare(&base(Some(&old), host(&[(CONFIG, &new.config_text)])), &new);
    assert!(plan.keys.is_empty() && plan.restart.restarts() && !plan.is_empty(), "{}", told(&plan));
}
