use std::{collections::BTreeMap, time::Duration};

use super::{
    facts::{
        ClockSkew, EndpointFact, HomeFact, HostFact, JavaFact, KeystoreFact, Listener, Neighbour, Owner,
    },
    needs::{Given, Needs, Target, read},
    *,
};
use crate::bundle::{HomePath, Port, RestartPolicy, ServiceSettings, Thresholds};

pub(super) fn settings() -> ServiceSettings {
    let path = |text| HomePath::parse(text).unwrap();
    let port = |name: &str, number, required| Port { name: name.to_owned(), number, required };
    ServiceSettings {
        product: "wso2is-7.2".to_owned(),
        home: "/opt/wso2/is".to_owned(),
        script_unix: path("bin/wso2server.sh"),
        script_windows: path("bin/wso2server.bat"),
        config_path: path("repository/conf/deployment.toml"),
        args: Vec::new(),
        env: BTreeMap::new(),
        java_home: None,
        run_user: None,
        offset: 1,
        ports: vec![port("https", 9444, true), port("jmx", 10_000, false)],
        probes: Vec::new(),
        ready_lines: Vec::new(),
        start_deadline: Duration::from_secs(300),
        stop_deadline: Duration::from_secs(120),
        thresholds: Thresholds {
            period: Duration::from_secs(10),
            failure: 3,
            success: 1,
            grace: Duration::from_secs(60),
        },
        restart_policy: RestartPolicy {
            exits_max: 3,
            window: Duration::from_secs(600),
            delay: Duration::from_secs(5),
            delay_max: Duration::from_secs(300),
        },
        unhealthy_restarts: false,
        check_databases: false,
        owned_keys: Vec::new(),
        jdk: (11, Some(21)),
    }
}

fn carbon() -> Owner {
    Owner { id: 802, name: "wso2carbon".to_owned() }
}

/// A host on which nothing is wrong.
fn good() -> PreflightFacts {
    PreflightFacts {
        java: JavaFact {
            java_home: Some("/opt/jdk".to_owned()),
            output: Ok("openjdk version \"17.0.15\" 2025-04-15".to_owned()),
        },
        home: HomeFact {
            version: Ok("WSO2 Identity Server v7.2.0\n".to_owned()),
            script: Ok(()),
            owner: Ok(carbon()),
            run_user: Ok(carbon()),
            foreign: Vec::new(),
            disk_free: Ok(50 << 30),
            bundle_size: 1 << 20,
        },
        host: HostFact {
            sockets: Ok(vec![socket(9444, Some(7)), socket(9443, Some(9))]),
            own_pids: vec![7],
            neighbours: vec![Neighbour { pid: 9, home: "/opt/wso2/am".to_owned(), offset: Ok(0) }],
            clock_ahead: Ok(ClockSkew::Behind(Duration::from_millis(40))),
            open_files: Ok(Some(65_535)),
            processes: Ok(None),
        },
        ..PreflightFacts::default()
    }
}

fn socket(port: u16, pid: Option<u32>) -> Listener {
    let holder =
        pid.map_or("a process that this agent may not look at".to_owned(), |pid| format!("pid {pid}"));
    Listener { port, pid, holder }
}

/// One line per check that is not a pass.
fn complaints(facts: &PreflightFacts) -> Vec<String> {
    check(facts, &settings())
        .into_iter()
        .filter(|check| !matches!(check.outcome, Outcome::Pass(_)))
        .map(|check| format!("{} {check}", check.outcome.as_str()))
        .collect()
}

#[test]
fn a_good_host_passes_everything() {
    assert_eq!(complaints(&good()), Vec::<String>::new());
    assert_eq!(refusal(&check(&good(), &settings()), Intent::WriteAndStart), None);
}

#[test]
fn what_could_not_be_looked_at_is_never_a_pass() {
    let checks = check(&PreflightFacts::default(), &settings());
    for check in &checks {
        let excused = check.name == "neighbours";
        assert!(excused || !matches!(check.outcome, Outcome::Pass(_)), "{check}");
    }
}

#[test]
fn a_jdk_outside_the_range_is_refused() {
    let with = |output: &str| {
        let mut facts = good();
        facts.java.output = Ok(output.to_owned());
        complaints(&facts)
    };
    assert_eq!(
        with("java version \"1.8.0_391\""),
        ["fail jdk: /opt/jdk is JDK 8; wso2is-7.2 supports JDK 11 to 21; set java_home to a JDK 11 to 21"]
    );
    assert_eq!(with("openjdk version \"25\"").len(), 1);
    assert_eq!(with("Segmentation fault").len(), 1);
    let mut absent = good();
    absent.java.java_home = None;
    assert_eq!(
        refusal(&check(&absent, &settings()), Intent::WriteAndStart).unwrap().0,
        RefusalReason::JdkUnsuitable
    );
}

#[test]
fn another_pack_than_declared_is_refused() {
    let with = |version: &str, product: &str| {
        let mut facts = good();
        facts.home.version = Ok(version.to_owned());
        let settings = ServiceSettings { product: product.to_owned(), ..settings() };
        let checks = check(&facts, &settings);
        checks.iter().find(|check| check.name == "pack").unwrap().outcome.as_str()
    };
    assert_eq!(with("WSO2 Identity Server v7.2.0", "wso2is-7.2"), "pass");
    assert_eq!(with("WSO2 Identity Server v7.20.0", "wso2is-7.2"), "fail");
    assert_eq!(with("WSO2 Identity Server v5.10.0", "wso2is-5.1"), "fail");
    assert_eq!(with("WSO2 API Manager v4.5.0", "wso2is-4.5"), "fail");
    assert_eq!(with("WSO2 API Manager v4.5.0", "wso2am-universal-gw-4.5"), "pass");
    assert_eq!(with("WSO2 Traffic Manager v4.5.0", "wso2am-tm-4.5"), "pass");
    // Up to 4.4 a component is the whole pack started with a profile.
    assert_eq!(with("WSO2 API Manager v4.2.0", "wso2am-4.2-control-plane"), "pass");
    assert_eq!(with("WSO2 API Manager v4.1.0", "wso2am-4.2-control-plane"), "fail");
    assert_eq!(with("Something v1.0.0", "our-own-1.0"), "skipped");
}

#[test]
fn a_port_is_free_or_ours_or_refused() {
    let with = |sockets: Vec<Listener>| {
        let mut facts = good();
        facts.host.sockets = Ok(sockets);
        complaints(&facts)
    };
    assert_eq!(with(vec![]), Vec::<String>::new());
    assert_eq!(
        with(vec![socket(9444, Some(8))]),
        ["fail port https 9444: held by pid 8; stop that process, or give this node another offset"]
    );
    // The IPv4 and the IPv6 socket of one port may belong to different processes.
    assert_eq!(with(vec![socket(9444, Some(7)), socket(9444, Some(8))]).len(), 1);
    // A port that the server can do without only deserves a warning, and so does a holder who is hidden from us.
    assert!(with(vec![socket(10_000, Some(8))])[0].starts_with("warn port jmx"));
    assert!(with(vec![socket(9444, None)])[0].starts_with("warn port https"));
}

#[test]
fn a_neighbour_with_the_same_offset_is_named() {
    let mut facts = good();
    facts.host.neighbours[0].offset = Ok(1);
    assert!(complaints(&facts)[0].starts_with("warn neighbours: /opt/wso2/am (pid 9) has offset 1 too"));
}

#[test]
fn home_belongs_to_the_run_user() {
    let mut facts = good();
    facts.home.owner = Ok(Owner { id: 0, name: "root".to_owned() });
    facts.home.foreign = vec!["repository/conf/carbon.xml".to_owned()];
    let checks = check(&facts, &settings());
    let (reason, detail) = refusal(&checks, Intent::WriteAndStart).unwrap();
    assert_eq!(reason, RefusalReason::WrongOwner);
    assert!(detail.contains("chown -R wso2carbon /opt/wso2/is"), "{detail}");
    assert!(detail.contains("repository/conf/carbon.xml"), "{detail}");
}

#[test]
fn space_for_twice_the_bundle_is_needed() {
    let with = |free, bundle_size| {
        let mut facts = good();
        facts.home.disk_free = Ok(free);
        facts.home.bundle_size = bundle_size;
        refusal(&check(&facts, &settings()), Intent::WriteAndStart).map(|(reason, _)| reason)
    };
    assert_eq!(with(200, 100), None);
    assert_eq!(with(199, 100), Some(RefusalReason::DiskFull));
}

#[test]
fn a_clock_beyond_the_token_tolerance_is_refused() {
    let with = |skew| {
        let mut facts = good();
        facts.host.clock_ahead = Ok(skew);
        complaints(&facts).into_iter().next().unwrap_or_default()
    };
    assert_eq!(with(ClockSkew::Ahead(Duration::from_secs(9))), "");
    assert!(with(ClockSkew::Ahead(Duration::from_secs(60))).starts_with("warn clock: 1m ahead of"));
    assert!(with(ClockSkew::Behind(Duration::from_secs(301))).starts_with("fail clock"));
}

#[test]
fn low_limits_are_a_warning_with_the_unit_setting() {
    let mut facts = good();
    facts.host.open_files = Ok(Some(1_024));
    let said = complaints(&facts);
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with("warn open files: 1024") && said[0].ends_with("LimitNOFILE=65535"),
        "{said:?}"
    );
}

const CONFIG: &str = r#"
[server]
hostname = "am.acme"
[database.apim_db]
type = "mysql"
hostname = "db1"
port = 3307
password = "hushhush"
[database.shared_db]
url = "jdbc:postgresql://$env{DB_HOST}/shared?user=a&password=hushhush"
[database.local]
type = "h2"
hostname = "unused"
[database.vault]
url = "jdbc:mysql://$secret{db_url}/x"
[user_store]
connection_url = "ldaps://$ref{server.hostname}:10636"
[keystore.primary]
file_name = "acme.p12"
type = "PKCS12"
password = "hushhush"
alias = "acme"
key_password = "hushhush"
[keystore.tls]
alias = "tls"
key_password = "$secret{tls_key}"
[truststore]
file_name = "/etc/acme/trust.jks"
password = "$ref{keystore.primary.password}"
"#;

fn needs() -> Needs {
    read(CONFIG, "wso2am-4.5", &BTreeMap::from([("DB_HOST".to_owned(), "pg.acme".to_owned())])).unwrap()
}

#[test]
fn endpoints_are_read_with_references_followed() {
    let said: Vec<String> = needs()
        .endpoints
        .iter()
        .map(|endpoint| match &endpoint.target {
            Target::Addresses(all) => format!("{} {}", endpoint.key, all[0]),
            Target::Unknown(why) => format!("{} {why}", endpoint.key),
        })
        .collect();
    assert_eq!(
        said,
        [
            "database.shared_db pg.acme:5432",
            "database.vault it holds a secret of the vault, known to the running server only",
            "user_store.connection_url am.acme:10636",
            "database.apim_db db1:3307",
        ]
    );
}

#[test]
fn keystores_inherit_from_the_primary() {
    let stores = needs().keystores;
    let keys: Vec<&str> = stores.iter().map(|store| store.key.as_str()).collect();
    assert_eq!(keys, ["keystore.primary", "keystore.tls", "truststore"]);
    let tls = &stores[1];
    assert_eq!(tls.file, "repository/resources/security/acme.p12");
    assert_eq!(tls.alias.as_deref(), Some("tls"));
    assert_eq!(tls.password, stores[0].password);
    assert!(matches!(tls.key_password, Some(Given::Unknown(_))), "{tls:?}");
    let trust = &stores[2];
    assert_eq!((trust.file.as_str(), trust.alias.as_deref()), ("/etc/acme/trust.jks", None));
    assert_eq!(trust.password, stores[0].password);
}

#[test]
fn a_circle_of_references_ends() {
    let text = "[database.a]\nurl = \"jdbc:mysql://$ref{database.b.url}\"\n[database.b]\nurl = \"jdbc:$ref{database.a.url}\"\n";
    let needs = read(text, "wso2am-4.5", &BTreeMap::new()).unwrap();
    assert!(needs.endpoints.iter().all(|it| matches!(it.target, Target::Unknown(_))), "{needs:?}");
}

#[test]
fn every_keystore_fault_says_which_key_to_correct_and_no_password() {
    let store = needs().keystores[0].clone();
    let faults = [
        KeystoreFact::Absent,
        KeystoreFact::WrongPassword,
        KeystoreFact::AliasMissing(vec!["other".to_owned()]),
        KeystoreFact::NoPrivateKey,
        KeystoreFact::WrongKeyPassword,
        KeystoreFact::Unreadable("it is empty".to_owned()),
    ];
    for fault in faults {
        let mut facts = good();
        facts.keystores = vec![(store.clone(), fault)];
        let said = complaints(&facts);
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("fail keystore keystore.primary: "), "{said:?}");
        assert!(!format!("{said:?}{facts:?}").contains("hushhush"), "{said:?}");
    }
    assert!(!format!("{:?}", needs()).contains("hushhush"));
}

#[test]
fn an_unreachable_data_source_is_refused_before_the_server_would_hang() {
    let mut facts = good();
    let endpoint = needs().endpoints[3].clone();
    facts.endpoints = vec![(endpoint, EndpointFact::Unreachable("connection refused".to_owned()))];
    let said = complaints(&facts);
    assert!(said[0].starts_with("fail endpoint database.apim_db: db1:3307 cannot be reached"), "{said:?}");
}

#[test]
fn a_change_without_a_restart_does_not_wait_for_the_database() {
    let mut facts = good();
    let endpoint = needs().endpoints[3].clone();
    facts.endpoints = vec![(endpoint, EndpointFact::Unreachable("connection refused".to_owned()))];
    let checks = check(&facts, &settings());
    assert_eq!(refusal(&checks, Intent::WriteAndStart).unwrap().0, RefusalReason::PreflightFailed);
    assert_eq!(refusal(&checks, Intent::WriteOnly), None);
    facts.home.disk_free = Ok(0);
    let checks = check(&facts, &settings());
    assert_eq!(refusal(&checks, Intent::WriteOnly).unwrap().0, RefusalReason::DiskFull);
}

fn held(alias: &str, has_key: bool, names: [&str; 2]) -> facts::Held {
    let [subject, issuer] = names.map(str::to_owned);
    facts::Held {
        alias: alias.to_owned(),
        has_key,
        chain: vec![super::certificate::tests::certificate(&subject, &issuer)],
    }
}

fn trust(product: &str, own: facts::Held, trusted: Vec<facts::Held>) -> Vec<String> {
    let store =
        |key: &str, entries| facts::StoreContent { key: key.to_owned(), file: format!("{key}.jks"), entries };
    let mut facts = good();
    facts.stores = vec![store("keystore.primary", vec![own]), store("truststore", trusted)];
    let settings = ServiceSettings { product: product.to_owned(), ..settings() };
    let checks = check(&facts, &settings);
    assert_eq!(
        refusal(&checks, Intent::WriteAndStart),
        refusal(&check(&good(), &settings), Intent::WriteAndStart)
    );
    let of_trust = checks.iter().filter(|check| check.name == "trust");
    of_trust.map(|check| format!("{} {}", check.outcome.as_str(), check.subject)).collect()
}

#[test]
fn a_truststore_that_lacks_the_servers_own_certificate_is_doubtful() {
    let own = || held("acme", true, ["CN=acme", "CN=acme"]);
    let copy = |alias: &str| held(alias, false, ["CN=acme", "CN=acme"]);
    let other = || held("other", false, ["CN=other", "CN=other"]);
    assert_eq!(trust("wso2is-7.1", own(), vec![other()]), ["warn keystore.primary"]);
    assert_eq!(trust("wso2is-7.1", own(), vec![other(), copy("x")]), ["pass keystore.primary"]);
    // Another key of the same name signed itself, too.
    let mut namesake = copy("x");
    namesake.chain[0].digest = crate::ids::Digest::of(b"another");
    assert_eq!(trust("wso2is-7.1", own(), vec![namesake]), ["warn keystore.primary"]);
    let signed = held("acme", true, ["CN=acme", "CN=ca"]);
    let authority = held("ca", false, ["CN=ca", "CN=ca"]);
    assert_eq!(trust("wso2is-7.1", signed, vec![authority]), ["pass keystore.primary"]);
}

#[test]
fn api_manager_reads_the_key_of_tokens_under_an_alias_of_its_own() {
    let own = || held("acme", true, ["CN=acme", "CN=acme"]);
    let copy = |alias: &str| held(alias, false, ["CN=acme", "CN=acme"]);
    let told = |trusted| trust("wso2am-4.5", own(), trusted);
    assert_eq!(told(vec![copy("acme")]), ["pass keystore.primary", "warn gateway_certificate_alias"]);
    let both = vec![copy("acme"), copy("gateway_certificate_alias")];
    assert_eq!(told(both), ["pass keystore.primary", "pass gateway_certificate_alias"]);
    let stale = vec![copy("acme"), held("gateway_certificate_alias", false, ["CN=old", "CN=old"])];
    assert_eq!(told(stale), ["pass keystore.primary", "warn gateway_certificate_alias"]);
}
