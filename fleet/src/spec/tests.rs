use super::*;
use crate::rollout::{GateOn, OnFailure};

fn sources(files: &[(&str, &str)]) -> Sources {
    Sources(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
}

fn composed(files: &[(&str, &str)]) -> Fleet {
    let composition = compose(&sources(files));
    let shown: Vec<String> = composition.findings.iter().map(ToString::to_string).collect();
    composition.fleet.unwrap_or_else(|| panic!("{}", shown.join("\n")))
}

fn node<'a>(fleet: &'a Fleet, name: &str) -> &'a ComposedNode {
    &fleet.nodes[&NodeName::parse(name).unwrap()]
}

const SMALL: &str = r#"
name = "small"
[groups.km]
product = "wso2is-7.2"
layers = ["common"]
[nodes.is-1]
group = "km"
host = "h1"
home = "/opt/is"
offset = 1
values = { node_ip = "10.0.0.1" }
[nodes.is-2]
group = "km"
host = "h2"
home = "/opt/is"
values = { node_ip = "10.0.0.2" }
"#;

const COMMON: &str = r#"# The name that clients see.
[server]
hostname = "iam.example.org" # behind the balancer
node_ip = "{{ values.node_ip }}"

[clustering]
members = "{{ group.nodes | addresses('hazelcast') }}"
"#;

#[test]
fn layers_expressions_and_offset_come_together() {
    let fleet = composed(&[("fleet.toml", SMALL), ("config/common.toml", COMMON)]);
    assert_eq!(
        &*node(&fleet, "is-1").config_text,
        r#"# Node is-1 of fleet small, composed by Convoy. Edits here are undone: change the fleet directory.

# The name that clients see.
[server]
hostname = "iam.example.org" # behind the balancer
node_ip = "10.0.0.1"
offset = 1

[clustering]
members = ["h1:4000", "h2:4000"]
"#
    );
    assert_eq!(node(&fleet, "is-2").bundle.service.offset, 0);
    let https = node(&fleet, "is-1").bundle.service.ports.iter().find(|port| port.name == "https").unwrap();
    assert_eq!(https.number, 9444);
    let place = &node(&fleet, "is-1").origins.get("server.node_ip").unwrap();
    assert_eq!((place.file.as_str(), place.line), ("config/common.toml", 4));
}

const SECRET_LAYER: &str = r#"
[super_admin]
password = "{{ secret('super_admin.password') }}"
[database.shared_db]
url = "jdbc:sqlserver://db:1433;password={{ secret('db') }};encrypt=true"
"#;

fn secrets(values: &[(&str, &str)], absent: Absent) -> Secrets {
    let entry = |(name, value): &(&str, &str)| (SecretName::parse(name).unwrap(), Secret::new(*value));
    Secrets::new(values.iter().map(entry).collect(), absent)
}

fn with_layer(layer: &str) -> Sources {
    let template = ("files/km/conf/jaas.tmpl", "pass={{ secret('db') }}\n");
    sources(&[("fleet.toml", SMALL), ("config/common.toml", layer), template])
}

#[test]
fn secrets_come_by_name_and_their_files_are_for_the_owner_only() {
    let known = secrets(&[("super_admin.password", "s3cret \"x\""), ("db", "p;w")], Absent::Refuse);
    let composition = compose_with(&with_layer(SECRET_LAYER), &known);
    assert_eq!(composition.findings, []);
    let fleet = composition.fleet.unwrap();
    let node = node(&fleet, "is-1");
    let flat = canonical::flatten(&node.config_text).unwrap();
    let text = |key: &str| flat[key].parse::<toml_edit::Value>().unwrap().as_str().unwrap().to_owned();
    assert_eq!(text("super_admin.password"), "s3cret \"x\"");
    assert_eq!(text("database.shared_db.url"), "jdbc:sqlserver://db:1433;password=p;w;encrypt=true");
    let file = |path: &str| &node.bundle.files[&crate::bundle::HomePath::parse(path).unwrap()];
    assert_eq!((file("conf/jaas").secret, file("conf/jaas").mode), (true, 0o600));
    assert_eq!(file("repository/conf/deployment.toml").mode, 0o600);
    let used: Vec<&str> = node.secrets.iter().map(SecretName::as_str).collect();
    assert_eq!(used, ["db", "super_admin.password"]);
}

#[test]
fn each_node_knows_the_secrets_that_it_uses_itself() {
    let own = ("config/nodes/is-2.toml", "[keystore.primary]\npassword = \"{{ secret('keystore') }}\"\n");
    let template = ("files/is-1/conf/jaas.tmpl", "pass={{ secret('db') }}\n");
    let sources = sources(&[("fleet.toml", SMALL), ("config/common.toml", ""), own, template]);
    let known = secrets(&[("keystore", "k"), ("db", "d"), ("unused", "u")], Absent::Refuse);
    let fleet = compose_with(&sources, &known).fleet.unwrap();
    let used = |name| node(&fleet, name).secrets.iter().map(SecretName::as_str).collect::<Vec<_>>();
    assert_eq!((used("is-1"), used("is-2")), (vec!["db"], vec!["keystore"]));
    let lint = compose_with(&sources, &secrets(&[], Absent::Placeholder));
    let told = lint.findings.iter().find(|finding| finding.code == "CV309").unwrap();
    assert!(told.message.ends_with("a value here: db, keystore"), "{told}");
}

#[test]
fn a_secret_without_a_value_is_refused_or_stands_as_a_placeholder_that_is_told() {
    let refused = compose(&with_layer(SECRET_LAYER));
    assert!(refused.fleet.is_none());
    let finding = refused.findings.iter().find(|finding| finding.code == "CV307").unwrap();
    assert!(finding.remedy.contains("convoy secret set"), "{finding}");
    let linted = compose_with(&with_layer(SECRET_LAYER), &secrets(&[], Absent::Placeholder));
    assert!(linted.fleet.is_some());
    let codes: Vec<_> = linted.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["CV309"]);
}

#[test]
fn a_secret_never_goes_where_it_would_be_shown() {
    let known = secrets(&[("db", "pw")], Absent::Refuse);
    let shown = with_layer("[server]\nhostname = \"{{ secret('db') }}.example\"\n");
    let codes = |composition: Composition| -> Vec<_> {
        composition.findings.iter().map(|finding| finding.code).collect()
    };
    assert_eq!(codes(compose_with(&shown, &known)), ["CV308"]);
    let manifest =
        SMALL.replace("values = { node_ip = \"10.0.0.2\" }", "args = [\"-Dx={{ secret('db') }}\"]");
    let typed = sources(&[("fleet.toml", &manifest), ("config/common.toml", "")]);
    assert_eq!(codes(compose_with(&typed, &known)), ["CV307"]);
    assert!(!format!("{known:?}").contains("pw"));
}

#[test]
fn a_vault_reads_its_passwords_from_files_that_only_a_launch_sees() {
    let known = secrets(&[("store", "pw1"), ("key", "pw2"), ("enc", "00ff")], Absent::Refuse);
    let with = |vault: &str| {
        let manifest =
            SMALL.replace("layers = [\"common\"]\n", &format!("layers = [\"common\"]\nvault = {vault}\n"));
        compose_with(&sources(&[("fleet.toml", &manifest), ("config/common.toml", "")]), &known)
    };
    let composition =
        with("{ keystore_password = \"store\", private_key_password = \"key\", encryption_key = \"enc\" }");
    assert_eq!(composition.findings, []);
    let fleet = composition.fleet.unwrap();
    let node = node(&fleet, "is-1");
    let content = |path: &str| {
        let file = &node.bundle.files[&crate::bundle::HomePath::parse(path).unwrap()];
        assert!(file.launch && file.secret && file.mode == 0o600, "{file:?}");
        String::from_utf8(node.contents[&file.digest].to_vec()).unwrap()
    };
    assert_eq!(content("password-tmp"), "pw1\npw2\n");
    assert_eq!(content("encryption-key-tmp"), "00ff\n");
    assert!(node.bundle.service.args.contains(&"-Dkey.password=true".to_owned()));
    assert!(!format!("{:?}", node.bundle).contains("pw1"));
    for (vault, why) in [
        ("{ keystore_password = \"absent\" }", "has no value"),
        ("{ private_key_password = \"key\" }", "second line"),
        ("{ keystore_password = \"{{ secret('store') }}\" }", "cannot be the name"),
    ] {
        let findings = with(vault).findings;
        assert!(findings.iter().any(|it| it.code == "CV307" && it.message.contains(why)), "{findings:?}");
    }
}

/// The composed text of a single node from these layers, without its first line.
fn layered(layers: &[&str]) -> String {
    let names: Vec<String> = (0..layers.len()).map(|index| format!("\"l{index}\"")).collect();
    let fleet = format!(
        "name = \"f\"\n[groups.g]\nproduct = \"wso2is-7.2\"\nlayers = [{}]\n[nodes.n]\ngroup = \"g\"\nhost = \"h\"\n\
         home = \"/opt/is\"\n",
        names.join(", ")
    );
    let paths: Vec<String> = (0..layers.len()).map(|index| format!("config/l{index}.toml")).collect();
    let mut files = vec![("fleet.toml", fleet.as_str())];
    files.extend(paths.iter().map(String::as_str).zip(layers.iter().copied()));
    let text = node(&composed(&files), "n").config_text.clone();
    text.split_once("\n\n").map(|(_, rest)| rest.to_owned()).unwrap_or_default()
}

#[test]
fn tables_merge_and_scalars_and_lists_are_replaced() {
    insta::assert_snapshot!(
        layered(&[
            "# one\n[a]\nx = 1 # first\nlist = [1, 2]\n[a.b]\ny = 'old'\n",
            "[a]\nlist = [3]\nb = { z = true }\n# two\n[c]\nk.l = 1\n",
        ]),
        @r"
    # one
    [a]
    x = 1 # first
    list = [3]

    [a.b]
    y = 'old'
    z = true

    # two
    [c]

    [c.k]
    l = 1
    "
    );
}

#[test]
fn arrays_of_tables_are_replaced_appended_or_merged_by_key() {
    let base = "[[free]]\nn = 1\n[[event_listener]]\nid = 'a'\n[event_listener.properties]\np = 1\n\
                [[event_listener]]\nid = 'b'\n";
    insta::assert_snapshot!(
        layered(&[base, "[[free]]\nn = 2\n[[event_listener]]\nid = 'a'\norder = 5\n[event_listener.properties]\nq = 2\n[[event_listener]]\nid = 'c'\n"]),
        @r"
    [[free]]
    n = 2

    [[event_listener]]
    id = 'a'
    order = 5

    [event_listener.properties]
    p = 1
    q = 2

    [[event_listener]]
    id = 'b'

    [[event_listener]]
    id = 'c'
    "
    );
    insta::assert_snapshot!(
        layered(&[base, "[[\"+free\"]]\nn = 2\n[[\"=event_listener\"]]\nid = 'only'\n"]),
        @r"
    [[free]]
    n = 1

    [[free]]
    n = 2

    [[event_listener]]
    id = 'only'
    "
    );
}

#[test]
fn whole_expressions_keep_their_type_and_foreign_references_are_left_alone() {
    insta::assert_snapshot!(
        layered(&[
            "a = \"{{ node.offset }}\"\nb = \"x{{ node.offset }}\"\nc = \"{{ ['p', 1 == 1] | length }}\"\n\
             d = [\"{{ node.host }}\", \"$ref{x.y}\"]\ne = \"$secret{z} ${carbon.home} $env{E} $sys{S}\"\n\
             f = \"{{ {'k': 1} }}\"\ng = \"{{ peers | urls('tcp', 'https') }}\"\nh = '^[a-z]{2,3}$'\n",
        ]),
        @r#"
    a = 0
    b = "x0"
    c = 2
    d = ["h", "$ref{x.y}"]
    e = "$secret{z} ${carbon.home} $env{E} $sys{S}"
    f = { k = 1 }
    g = []
    h = '^[a-z]{2,3}$'
    "#
    );
}

#[test]
fn the_nearest_value_and_file_win() {
    let fleet = r#"
name = "f"
[values]
a = "fleet"
b = "fleet"
c = "of {{ node.name }}"
[groups.g]
product = "wso2is-7.2"
layers = ["l"]
values = { b = "group", d = "{{ values.c }}!" }
[nodes.n]
group = "g"
host = "h"
home = "/opt/is"
values = { a = "node" }
[[files]]
path = "conf/*"
mode = "0600"
drift = "report"
"#;
    let fleet = composed(&[
        ("fleet.toml", fleet),
        ("config/l.toml", "x = \"{{ values.a }} {{ values.b }} {{ values.d }}\"\n"),
        ("files/g/conf/one", "group"),
        ("files/g/conf/two.tmpl", "{{ node.home }}\n"),
        ("files/n/conf/one", "node"),
    ]);
    let node = node(&fleet, "n");
    assert!(node.config_text.contains(r#"x = "node group of n!""#), "{}", node.config_text);
    let content = |path: &str| {
        let entry = &node.bundle.files[&crate::bundle::HomePath::parse(path).unwrap()];
        assert_eq!((entry.mode, entry.drift), (0o600, crate::bundle::DriftPolicy::Report));
        String::from_utf8(node.contents[&entry.digest].to_vec()).unwrap()
    };
    assert_eq!((content("conf/one"), content("conf/two")), ("node".to_owned(), "/opt/is\n".to_owned()));
}

#[test]
fn the_health_api_is_asked_only_when_it_is_on() {
    let probes = |layer: &str| {
        let fleet = composed(&[("fleet.toml", SMALL), ("config/common.toml", layer)]);
        let probes = &node(&fleet, "is-1").bundle.service.probes;
        probes.iter().map(|probe| probe.name.clone()).collect::<Vec<_>>()
    };
    assert!(!probes("").contains(&"health-api".to_owned()));
    assert!(probes("[carbon_health_check]\nenable = true\n").contains(&"health-api".to_owned()));
}

/// A key manager and a gateway that asks it; `after` is a line of the gateway's group.
fn gateway_and_key_manager(km_after: &str, gw_after: &str) -> Composition {
    let fleet = format!(
        "name = \"acme\"\n\
         [groups.km]\nproduct = \"wso2is-7.2\"\n{km_after}\n\
         [groups.gw]\nproduct = \"wso2am-universal-gw-4.5\"\nlayers = [\"gw\"]\n{gw_after}\n\
         [nodes.is-1]\ngroup = \"km\"\nhost = \"is1\"\nhome = \"/opt/is\"\noffset = 1\n\
         [nodes.gw-1]\ngroup = \"gw\"\nhost = \"gw1\"\nhome = \"/opt/gw\"\n"
    );
    let gw = "[apim.key_manager]\nservice_url = \"https://{{ nodes('km')[0].host }}:{{ nodes('km')[0].port('https') }}/services/\"\n";
    compose(&sources(&[("fleet.toml", &fleet), ("config/gw.toml", gw)]))
}

fn after_of(composition: &Composition, group: &str) -> Vec<String> {
    let fleet = composition.fleet.as_ref().unwrap();
    fleet.groups[&GroupName::parse(group).unwrap()].after.iter().map(ToString::to_string).collect()
}

#[test]
fn an_order_that_is_not_typed_comes_from_the_composed_urls() {
    let derived = gateway_and_key_manager("", "");
    assert_eq!((after_of(&derived, "gw"), after_of(&derived, "km")), (vec!["km".to_owned()], vec![]));
    let reasons: Vec<String> = derived.fleet.unwrap().order_reasons.iter().map(ToString::to_string).collect();
    assert_eq!(reasons, ["gw after km: apim.key_manager.service_url of gw-1 names is-1"]);
    let none = gateway_and_key_manager("", "after = []");
    assert_eq!(after_of(&none, "gw"), Vec::<String>::new());
    assert_eq!(none.fleet.unwrap().order_reasons, []);
}

#[test]
fn a_typed_order_against_the_urls_is_refused_with_the_key() {
    let circle = gateway_and_key_manager("after = [\"gw\"]", "");
    let told: Vec<&Finding> = circle.findings.iter().filter(|finding| finding.code == "CV103").collect();
    assert_eq!(told.len(), 1, "{:#?}", circle.findings);
    assert!(
        told[0].message.contains("apim.key_manager.service_url of gw-1 names is-1"),
        "{}",
        told[0].message
    );
    assert!(told[0].remedy.contains("after = []"));
    assert!(circle.fleet.is_none());
    // Said for both, the typed order holds.
    let typed = gateway_and_key_manager("after = [\"gw\"]", "after = []");
    assert_eq!((after_of(&typed, "km"), after_of(&typed, "gw")), (vec!["gw".to_owned()], vec![]));
}

#[test]
fn a_gate_is_evaluated_for_each_node_and_holds_its_secret_by_name_only() {
    let fleet = SMALL.to_owned()
        + r#"
[[groups.km.rollout.gates]]
name = "token"
kind = "token"
token_url = "https://localhost:{{ node.port('https') }}/oauth2/token"
client_id = "gate"
client_secret = "{{ secret('gate.client') }}"
url = "https://localhost:{{ node.port('https') }}/api"
on = "new"
on_failure = "stop"
"#;
    let sources = sources(&[("fleet.toml", &fleet), ("config/common.toml", COMMON)]);
    let composition = compose_with(&sources, &secrets(&[("gate.client", "s3cret")], Absent::Refuse));
    let fleet = composition.fleet.unwrap_or_else(|| panic!("{:?}", composition.findings));
    let checks = &node(&fleet, "is-1").gates;
    let token = "GET https://localhost:9444/api with a token of https://localhost:9444/oauth2/token";
    assert_eq!((checks[0].call.to_string().as_str(), checks[0].tries.most), (token, 3));
    let call = &checks[0].call;
    assert!(format!("{call:?}").contains("Named(SecretName(\"gate.client\"))"), "{call:?}");
    assert!(node(&fleet, "is-2").gates[0].call.to_string().contains(":9443/api"));
    let gate = &fleet.groups[&GroupName::parse("km").unwrap()].gates[0];
    assert_eq!((gate.on, gate.on_failure), (GateOn::New, Some(OnFailure::Stop)));
}

#[test]
fn rollout_settings_that_contradict_their_fleet_are_refused() {
    let said = |group: &str, fleet: &str| {
        let text = format!("{SMALL}\n[groups.km.rollout]\n{group}\n[rollout]\n{fleet}\n");
        let composition = compose(&sources(&[("fleet.toml", &text), ("config/common.toml", COMMON)]));
        let errors =
            composition.findings.iter().map(ToString::to_string).filter(|text| text.contains("CV012"));
        errors.collect::<Vec<_>>().join("\n")
    };
    let sensible =
        "canary = 1\nmax_unavailable = 2\nwave = 2\nhealthy_deadline = \"8m\"\nprogress_deadline = \"8m\"";
    assert_eq!(said(sensible, "max_unavailable = 2\nfailures_max = \"50%\""), "");
    for (group, fleet, words) in [
        ("canary = 99", "", "canary = 99, and group km has 2 nodes"),
        ("max_unavailable = 3", "", "max_unavailable = 3, and group km has 2 nodes"),
        ("wave = 3", "", "wave = 3, and group km has 2 nodes"),
        ("", "max_unavailable = 3", "[rollout]: max_unavailable = 3, and the fleet has 2 nodes"),
        ("", "failures_max = 9", "[rollout]: failures_max = 9, and the fleet has 2 nodes"),
        (
            "healthy_deadline = \"1m\"",
            "",
            "healthy_deadline is 1m, but stop_deadline, start_deadline and hooks of is-2",
        ),
        (
            "progress_deadline = \"1s\"",
            "",
            "progress_deadline is 1s, which ends a step before its healthy_deadline",
        ),
    ] {
        let said = said(group, fleet);
        assert!(said.contains(words), "{group}{fleet}: {said}");
    }
}

#[test]
fn secrets_stand_last_with_every_comment_before_them() {
    let fleet = SMALL.replace("[\"common\"]", "[\"common\", \"extra\"]");
    let common = "# Aliases.\n[secrets]\ndb = \"[x]\"\n\n[server]\nhostname = \"a\"\n# The end of common.\n";
    let fleet = composed(&[
        ("fleet.toml", &fleet),
        ("config/common.toml", common),
        (
            "config/extra.toml",
            "[transport.https.properties]\nproxyPort = 443\n[[event_listener]]\nid = \"x\"\n",
        ),
    ]);
    let text = &node(&fleet, "is-2").config_text;
    assert!(text.ends_with("# The end of common.\n# Aliases.\n[secrets]\ndb = \"[x]\"\n"), "{text}");
    assert!(text.contains("[[event_listener]]") && text.contains("proxyPort"), "{text}");
    // Typed inline at the top, too.
    let inline = composed(&[
        ("fleet.toml", SMALL),
        ("config/common.toml", "secrets = { db = \"[x]\" }\n[server]\nhostname = \"a\"\n"),
    ]);
    let text = &node(&inline, "is-2").config_text;
    assert!(text.ends_with("[server]\nhostname = \"a\"\n\n[secrets]\ndb = \"[x]\"\n"), "{text}");
}

/// The first two columns of the table of settings in docs/rollouts.md.
#[test]
fn settings_that_are_not_typed_are_as_the_manual_says() {
    let manual = include_str!("../../../docs/rollouts.md");
    let (_, table) = manual.split_once("| key | default | meaning |\n|---|---|---|\n").unwrap();
    let rows: Vec<(&str, &str)> = table
        .lines()
        .map_while(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            // What a deadline is if the nodes may take longer has a test of its own.
            Some((cells.next()?, cells.next()?.split(", or ").next()?))
        })
        .collect();
    let fleet = composed(&[("fleet.toml", SMALL), ("config/common.toml", COMMON)]);
    let Group { rollout: group, gates, .. } = &fleet.groups[&GroupName::parse("km").unwrap()];
    let code = |text: &dyn std::fmt::Display| format!("`{text}`");
    let time = |time| code(&crate::time::Human(time));
    let share = |share: Option<crate::rollout::Share>, otherwise: &str| {
        share.map_or_else(|| otherwise.to_owned(), |share| code(&share))
    };
    let promotion = crate::rollout::Promotion::ALL.iter().find(|(choice, _)| *choice == group.promotion);
    let on_failure = OnFailure::ALL.iter().find(|(choice, _)| *choice == group.on_failure);
    let per_zone = (group.max_unavailable_per_zone, fleet.rollout.max_unavailable_per_zone);
    let expected = [
        ("`max_unavailable`", code(&group.max_unavailable)),
        ("`canary`", share(group.canary, "none")),
        ("`promotion`", code(&format!("{:?}", promotion.unwrap().1))),
        ("`wave`", share(group.wave, "`max_unavailable`")),
        ("`soak`", time(group.soak)),
        ("`min_healthy_time`", time(group.min_healthy_time)),
        ("`healthy_deadline`", time(group.healthy_deadline)),
        ("`progress_deadline`", time(group.progress_deadline)),
        ("`on_failure`", code(&format!("{:?}", on_failure.unwrap().1))),
        ("`windows`", if group.windows.is_empty() { "always".to_owned() } else { String::new() }),
        ("`gates`", if gates.is_empty() { "none".to_owned() } else { String::new() }),
        ("`[rollout] max_unavailable`", share(fleet.rollout.max_unavailable, "none")),
        ("`[rollout] failures_max`", share(fleet.rollout.failures_max, "none")),
        (
            "`max_unavailable_per_zone`, `[rollout] max_unavailable_per_zone`",
            share(per_zone.0.or(per_zone.1), "none"),
        ),
        ("`[rollout] parallel_zones`", code(&fleet.rollout.parallel_zones)),
        ("`[rollout] spread_hosts`", code(&fleet.rollout.spread_hosts)),
    ];
    assert_eq!(rows, expected.each_ref().map(|(key, default)| (*key, default.as_str())));
}

#[test]
fn a_deadline_that_is_not_typed_is_as_long_as_the_nodes_may_take() {
    let deadlines = |service: &str, rollout: &str| {
        let nodes = format!("{SMALL}[nodes.is-2.service]\n{service}\n[groups.km.rollout]\n{rollout}\n");
        let fleet = composed(&[("fleet.toml", &nodes), ("config/common.toml", COMMON)]);
        let policy = &fleet.groups[&GroupName::parse("km").unwrap()].rollout;
        let minutes = |time: std::time::Duration| time.as_secs() / 60;
        (minutes(policy.healthy_deadline), minutes(policy.progress_deadline))
    };
    let start = |minutes: u32| format!("start_deadline = \"{minutes}m\"\nstop_deadline = \"2m\"");
    assert_eq!(deadlines(&start(5), ""), (10, 30));
    assert_eq!(deadlines(&start(20), ""), (22, 30));
    assert_eq!(deadlines(&start(40), ""), (42, 42));
    assert_eq!(deadlines(&start(5), "healthy_deadline = \"45m\""), (45, 45));
    assert_eq!(deadlines(&start(5), "healthy_deadline = \"7m\""), (7, 30));
}

#[test]
fn the_time_limits_of_hooks_count_into_the_shortest_healthy_deadline() {
    let told = |healthy: &str, hooks: &str| {
        let deadlines = "[groups.km.service]\nstart_deadline = \"5m\"\nstop_deadline = \"2m\"\n";
        let rollout = format!("[groups.km.rollout]\nhealthy_deadline = \"{healthy}\"\n");
        let fleet = format!("{SMALL}{deadlines}{rollout}{hooks}");
        let composition = compose(&sources(&[("fleet.toml", &fleet), ("config/common.toml", COMMON)]));
        composition.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let hook = |when: &str| {
        let tries = "timeout = \"50s\"\ntries = 2\ninterval = \"10s\"\n";
        format!("[groups.km.hooks.{when}]\nkind = \"http\"\nurl = \"http://localhost:1/\"\n{tries}")
    };
    let both = hook("before_stop") + &hook("after_ready");
    assert_eq!(told("7m", ""), "");
    assert_eq!(told("9m", &hook("before_stop")), "");
    assert_eq!(told("11m", &both), "");
    for (healthy, hooks, takes) in
        [("6m59s", String::new(), "7m"), ("8m59s", hook("after_ready"), "9m"), ("10m59s", both, "11m")]
    {
        let told = told(healthy, &hooks);
        let words = format!("hooks of is-2 allow a restart to take {takes}, so");
        assert!(told.contains("CV012") && told.contains(&words), "{healthy}: {told}");
    }
}

#[test]
fn the_nearest_word_on_naming_editors_counts_and_the_default_keeps_its_digest() {
    let unnamed = |text: &str| {
        let fleet = composed(&[("fleet.toml", &format!("{SMALL}{text}")), ("config/common.toml", COMMON)]);
        let bundle = &node(&fleet, "is-1").bundle;
        (bundle.unnamed_editors, bundle.digest())
    };
    let (off, plain) = unnamed("");
    let (fleets, different) = unnamed("[drift]\nname_editors = false\n");
    assert!(!off && fleets && plain != different);
    let near = "[drift]\nname_editors = false\n[nodes.is-1.drift]\nname_editors = true\n";
    assert_eq!(unnamed(near), (false, plain));
    assert!(unnamed("[groups.km.drift]\nname_editors = false\n").0);
}
