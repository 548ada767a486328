//! Each finding with a fleet that has the mistake and with one that has not.

mod pools;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    finding::{Finding, Severity},
    lint::{ClearText, PackFacts, Packs},
    spec::{Fleet, Sources, compose},
};

/// A node: name, group, product, offset, and its own layer. It is reached by its name.
type Node<'a> = (&'a str, &'a str, &'a str, u16, &'a str);

const IS6: &str = "wso2is-6.1";
const IS7: &str = "wso2is-7.2";
const AM: &str = "wso2am-4.5";
const CP: &str = "wso2am-acp-4.5";
const GW: &str = "wso2am-universal-gw-4.5";
const TM: &str = "wso2am-tm-4.5";

fn findings(nodes: &[Node<'_>], extra: &[(&str, &str)]) -> Vec<Finding> {
    findings_with(nodes, extra, &Packs::new())
}

fn findings_with(nodes: &[Node<'_>], extra: &[(&str, &str)], packs: &Packs) -> Vec<Finding> {
    crate::lint::fleet(&composed(nodes, extra), packs, ClearText::Unknown)
}

fn composed(nodes: &[Node<'_>], extra: &[(&str, &str)]) -> Fleet {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut text = "name = 'x'\n".to_owned();
    let groups: BTreeMap<&str, &str> =
        nodes.iter().map(|(_, group, product, ..)| (*group, *product)).collect();
    for (group, product) in groups {
        text += &format!("[groups.g-{group}]\nproduct = '{product}'\nlayers = []\n");
    }
    for (name, group, _, offset, layer) in nodes {
        text += &format!(
            "[nodes.{name}]\ngroup = 'g-{group}'\nhost = '{name}'\nhome = '/opt/{name}'\noffset = {offset}\n"
        );
        let hostname = if layer.contains("hostname = 'none'") { "" } else { "server.hostname = 'front'\n" };
        files.insert(
            format!("config/nodes/{name}.toml"),
            format!("{hostname}{}", layer.replace("hostname = 'none'", "")).into_bytes(),
        );
    }
    for (path, content) in extra {
        match *path {
            "fleet.toml" => text += content,
            path => drop(files.insert(path.to_owned(), content.as_bytes().to_vec())),
        }
    }
    files.insert("fleet.toml".to_owned(), text.into_bytes());
    let composition = compose(&Sources(files));
    composition.fleet.unwrap_or_else(|| panic!("{:#?}", composition.findings))
}

fn codes(nodes: &[Node<'_>]) -> BTreeSet<&'static str> {
    findings(nodes, &[]).iter().map(|finding| finding.code).collect()
}

/// `bad` has the finding, `good` has not.
#[track_caller]
fn check(code: &str, bad: &[Node<'_>], good: &[Node<'_>]) {
    let found = findings(bad, &[]);
    let of_code: Vec<&Finding> = found.iter().filter(|finding| finding.code == code).collect();
    assert!(!of_code.is_empty(), "{code} is not among {found:#?}");
    assert!(
        of_code.iter().all(|finding| {
            (finding.node.is_some() || finding.message.contains(" nodes of ")) && !finding.remedy.is_empty()
        }),
        "{of_code:#?}"
    );
    let found = findings(good, &[]);
    assert!(found.iter().all(|finding| finding.code != code), "{code} is among {found:#?}");
}

#[test]
fn the_default_of_a_pack_is_not_held_against_a_node_whose_pack_is_not_known() {
    let of = |default: &str| {
        let files = carbon::pack::RULE_FILES.map(|file| {
            let text = if file == "default.json" { default } else { "{}" };
            (format!("{}{file}", carbon::pack::RESOURCES), text.as_bytes().to_vec())
        });
        let template = (format!("{}templates/conf/a.xml.j2", carbon::pack::RESOURCES), b"<a/>".to_vec());
        PackFacts::new(carbon::Pack::load(files.into_iter().chain([template])).unwrap())
    };
    let nodes = [("am", "am", AM, 0, ""), ("gw", "gw", GW, 0, "")];
    let told = |packs: &Packs| {
        let found = findings_with(&nodes, &[], packs);
        found.iter().filter(|finding| finding.code == "CV527").count()
    };
    let (one, other) = (r#"{"keystore.internal.alias": "one"}"#, r#"{"keystore.internal.alias": "other"}"#);
    assert_eq!(told(&Packs::from([(AM.to_owned(), of(one))])), 0);
    assert_eq!(told(&Packs::from([(AM.to_owned(), of(one)), (GW.to_owned(), of(one))])), 0);
    assert_eq!(told(&Packs::from([(AM.to_owned(), of(one)), (GW.to_owned(), of(other))])), 1);
}

/// What a large group has in common is one finding, however many layers it stands in.
#[test]
fn a_mistake_of_a_whole_group_is_one_finding_and_no_message_names_more_than_ten() {
    let names: Vec<String> = (1..=30).map(|number| format!("gw-{number:02}")).collect();
    let nodes = |layer: &'static str, first: &'static str| -> Vec<Node<'_>> {
        let layer = |at: usize| if at == 0 { first } else { layer };
        let gateways =
            names.iter().enumerate().map(|(at, name)| (name.as_str(), "gw", GW, 0, layer(at))).collect();
        let control = ("cp", "cp", CP, 0, "");
        let mut all: Vec<Node<'_>> = gateways;
        all.push(control);
        all
    };
    let wrong = "apim.event_hub.enable = false";
    let told = |first: &'static str| -> Vec<(Option<String>, String)> {
        let found = findings(&nodes(wrong, first), &[]);
        let of_code = found.into_iter().filter(|finding| finding.code == "CV538");
        of_code.map(|one| (one.node.map(|node| node.to_string()), one.message)).collect()
    };
    let shared = told(wrong);
    assert_eq!(shared.len(), 1, "{shared:#?}");
    assert!(shared[0].0.is_none() && shared[0].1.ends_with("(all 30 nodes of g-gw)"), "{shared:#?}");
    // Where one of them is right, the others are told one by one, each with its own line.
    let right = "apim.event_hub.enable = true\napim.event_hub.event_listening_endpoints = ['tcp://cp:5672']";
    assert_eq!(told(right).len(), 29);

    let other = "super_admin.password = 'b'";
    let found = findings(&nodes(other, "super_admin.password = 'a'"), &[]);
    let differs: Vec<&Finding> = found
        .iter()
        .filter(|finding| finding.code == "CV530" && finding.message.contains("super_admin.password of gw"))
        .collect();
    assert_eq!(differs.len(), 1, "{differs:#?}");
    assert!(differs[0].message.contains("gw-10 and 20 more"), "{differs:#?}");
}

fn listener(header: &str, kind: &str, endpoint: &str) -> String {
    format!(
        "[[event_listener]]\nid = 'token_revocation'\ntype = '{kind}'\nname = 'org.wso2.is.notification.ApimOauthEventInterceptor'\n\
         [event_listener.properties]\nnotification_endpoint = '{endpoint}'\n'header.X-WSO2-KEY-MANAGER' = '{header}'\n"
    )
}

const HANDLER: &str = "org.wso2.carbon.identity.core.handler.AbstractIdentityHandler";
const NOTIFY: &str = "https://am:9443/internal/data/v1/notify";

#[test]
fn listeners_of_revoked_tokens() {
    let with = |listener: String| -> BTreeSet<&'static str> {
        codes(&[("is", "is", IS7, 1, &listener), ("am", "am", AM, 0, "")])
    };
    let good = with(listener("WSO2-IS", HANDLER, NOTIFY));
    assert!(["CV521", "CV522", "CV523", "CV525"].iter().all(|code| !good.contains(code)), "{good:?}");
    assert!(with(listener("default", HANDLER, NOTIFY)).contains("CV521"));
    assert!(with(listener("WSO2IS", HANDLER, NOTIFY)).contains("CV521"), "the word of 3.2");
    assert!(with(listener("WSO2-IS", "org.wso2.Other", NOTIFY)).contains("CV522"));
    for endpoint in [
        "https://am:9443/internal/notify",
        "https://am:8243/internal/data/v1/notify",
        "https://is:9444/internal/data/v1/notify",
        "am:9443",
    ] {
        assert!(with(listener("WSO2-IS", HANDLER, endpoint)).contains("CV523"), "{endpoint}");
    }
    let other = "[[event_listener]]\nid = 'x'\n[event_listener.properties]\nnotification_endpoint = 'y'\n";
    check("CV522", &[("is", "is", IS7, 0, other)], &[("is", "is", IS7, 0, "[[event_listener]]\nid = 'x'\n")]);
}

#[test]
fn key_managers_are_elsewhere_and_end_in_services() {
    let url = |url: &str| format!("[apim.key_manager]\nservice_url = '{url}'\n");
    let good = url("https://cp:9443/services/");
    for bad in ["https://localhost:9443/services/", "https://cp:9443/", "https://gw:9443/services/"] {
        check(
            "CV524",
            &[("gw", "gw", GW, 0, &url(bad)), ("cp", "cp", CP, 0, "")],
            &[("gw", "gw", GW, 0, &good), ("cp", "cp", CP, 0, "")],
        );
    }
    check(
        "CV524",
        &[("gw", "gw", GW, 0, ""), ("cp", "cp", CP, 0, "")],
        &[("gw", "gw", GW, 0, &good), ("cp", "cp", CP, 0, "")],
    );
}

#[test]
fn ports_of_peers_follow_their_offset() {
    let url = "[apim.key_manager]\nservice_url = 'https://is:9443/services/'\n";
    check(
        "CV525",
        &[("am", "am", AM, 0, url), ("is", "is", IS6, 1, "")],
        &[("am", "am", AM, 0, url), ("is", "is", IS6, 0, "")],
    );
    let own = "[apim.throttling]\nthrottle_decision_endpoints = ['tcp://localhost:5672']\n";
    check("CV525", &[("am", "am", AM, 2, own)], &[("am", "am", AM, 0, own)]);
    let list = "[[apim.throttling.url_group]]\ntraffic_manager_urls = ['tcp://tm:9611']\n";
    check(
        "CV525",
        &[("gw", "gw", GW, 0, list), ("tm", "tm", TM, 1, "")],
        &[("gw", "gw", GW, 0, list), ("tm", "tm", TM, 0, "")],
    );
}

#[test]
fn key_stores_and_their_keys() {
    let same_file = "[keystore.tls]\nfile_name = 'wso2carbon.jks'\npassword = 'other'\n";
    let both = "[keystore.tls]\npassword = 'other'\n[keystore.primary]\npassword = 'other'\n";
    check("CV526", &[("is", "is", IS7, 0, same_file)], &[("is", "is", IS7, 0, both)]);
    let found = findings(&[("is", "is", IS7, 0, same_file)], &[]);
    assert!(found.iter().any(|finding| finding.code == "CV526" && finding.severity == Severity::Error));
    let tls = "[keystore.tls]\nfile_name = 'tls.jks'\npassword = 'x'\n";
    check(
        "CV528",
        &[("is", "is", IS7, 0, tls)],
        &[("is", "is", IS7, 0, &format!("{tls}[keystore.primary]\nfile_name = 'own.jks'\n"))],
    );
    let key = |key: &str| format!("[encryption]\nkey = '{key}'\n");
    let pair =
        |a: &str, b: &str| findings(&[("is-1", "is", IS7, 0, &key(a)), ("is-2", "is", IS7, 0, &key(b))], &[]);
    assert!(pair("one", "two").iter().any(|finding| finding.code == "CV527"));
    assert!(!format!("{:?}", pair("one-secret", "two-secret")).contains("-secret"), "no value is shown");
    assert!(pair("one", "one").iter().all(|finding| finding.code != "CV527"));
    let file = "files/is-2/repository/resources/security/wso2carbon.jks";
    let stores = |second: &str| {
        let first = ("files/is-1/repository/resources/security/wso2carbon.jks", "a");
        let nodes = [("is-1", "is", IS7, 0, ""), ("is-2", "is", IS7, 0, "")];
        findings(&nodes, &[first, (file, second)]).iter().any(|finding| finding.code == "CV527")
    };
    assert!(stores("b") && !stores("a"));
    check("CV548", &[("am", "am", "wso2am-4.7", 0, "")], &[("am", "am", "wso2am-4.7", 0, &key("x"))]);
}

#[test]
fn credentials_of_all_nodes() {
    let admin = |password: &str| format!("[super_admin]\nusername = 'admin'\npassword = '{password}'\n");
    let (a, b) = (admin("one"), admin("two"));
    check(
        "CV530",
        &[("cp", "cp", CP, 0, &a), ("gw", "gw", GW, 0, &b)],
        &[("cp", "cp", CP, 0, &a), ("gw", "gw", GW, 0, &a)],
    );
    let hub = format!("{a}[apim.event_hub]\npassword = 'three'\n");
    let reference = format!("{a}[apim.event_hub]\npassword = '$ref{{super_admin.password}}'\n");
    check(
        "CV530",
        &[("cp", "cp", CP, 0, &a), ("gw", "gw", GW, 0, &hub)],
        &[("cp", "cp", CP, 0, &a), ("gw", "gw", GW, 0, &reference)],
    );
    let listens = |password: &str| {
        format!(
            "{}password = '${{admin.password}}'\n[super_admin]\npassword = '{password}'\n",
            listener("WSO2-IS", HANDLER, NOTIFY)
        )
    };
    check(
        "CV530",
        &[("is", "is", IS7, 1, &listens("x")), ("am", "am", AM, 0, &a)],
        &[("is", "is", IS7, 1, &listens("one")), ("am", "am", AM, 0, &a)],
    );
    check("CV529", &[("am", "am", AM, 0, &admin("a<b"))], &[("am", "am", AM, 0, &admin("<![CDATA[a<b]]>"))]);
    let special = admin("a@b");
    let encoded = format!(
        "{special}[apim.event_hub.jms]\npassword = 'a%40b'\n[apim.throttling.jms]\npassword = 'a%40b'\n"
    );
    check("CV531", &[("am", "am", AM, 0, &special)], &[("am", "am", AM, 0, &encoded)]);
    check(
        "CV531",
        &[("am", "am", AM, 0, &encoded.replace("a%40b", "a%41b"))],
        &[("am", "am", AM, 0, &encoded)],
    );
    let misplaced = format!("{encoded}[apim.event_hub]\npassword = 'a%40b'\n");
    check("CV531", &[("am", "am", AM, 0, &misplaced)], &[("am", "am", AM, 0, &encoded)]);
}

#[test]
fn databases_and_user_stores() {
    let db = |host: &str| {
        format!(
            "[database.shared_db]\ntype = 'mysql'\nhostname = '{host}'\nname = 's'\n[database.apim_db]\ntype = 'mysql'\nhostname = 'db'\nname = 'a'\n"
        )
    };
    let (a, b) = (db("db"), db("other"));
    check(
        "CV535",
        &[("cp", "cp", CP, 0, &a), ("gw", "gw", GW, 0, &b)],
        &[("cp", "cp", CP, 0, &a), ("gw", "gw", GW, 0, &a)],
    );
    let identity =
        |name: &str| format!("[database.identity_db]\ntype = 'mysql'\nurl = 'jdbc:mysql://db/{name}'\n");
    let (one, two) = (identity("one"), identity("two"));
    check(
        "CV535",
        &[("is-1", "is", IS7, 0, &one), ("is-2", "is", IS7, 0, &two)],
        &[("is-1", "is", IS7, 0, &one), ("is-2", "is", IS7, 0, &one)],
    );
    let store = |kind: &str| format!("[user_store]\ntype = '{kind}'\n");
    let (old, new) = (store("database"), store("database_unique_id"));
    check("CV532", &[("is", "is", IS7, 0, &old)], &[("is", "is", IS7, 0, &new)]);
    let ldap = store("read_only_ldap_unique_id");
    check(
        "CV532",
        &[("is", "is", IS6, 1, &ldap), ("am", "am", AM, 0, &new)],
        &[("is", "is", IS6, 1, &new), ("am", "am", AM, 0, &new)],
    );
    check(
        "CV533",
        &[("am-1", "am", AM, 0, ""), ("am-2", "am", AM, 0, &a)],
        &[("am-1", "am", AM, 0, &a), ("am-2", "am", AM, 0, &a)],
    );
    check(
        "CV533",
        &[("am-1", "am", AM, 0, "database.apim_db.type = 'h2'"), ("am-2", "am", AM, 0, &a)],
        &[("am-1", "am", AM, 0, "database.apim_db.type = 'h2'")],
    );
    check(
        "CV534",
        &[("am", "am", AM, 0, "database.x.type = 'postgresql'")],
        &[("am", "am", AM, 0, "database.x.type = 'postgre'")],
    );
    check(
        "CV534",
        &[("am", "am", AM, 0, "database.x.url = 'jdbc:x?a=1&b=2'")],
        &[("am", "am", AM, 0, "database.x.url = 'jdbc:x?a=1&amp;b=2'")],
    );
}

#[test]
fn events_reach_every_node_one_by_one() {
    let groups = |groups: &[&str]| -> String {
        groups
            .iter()
            .map(|urls| format!("[[apim.throttling.url_group]]\ntraffic_manager_urls = [{urls}]\n"))
            .collect()
    };
    let fleet = |layer: &str| {
        codes(&[("gw", "gw", GW, 0, layer), ("tm-1", "tm", TM, 0, ""), ("tm-2", "tm", TM, 0, "")])
    };
    assert!(!fleet(&groups(&["'tcp://tm-1:9611'", "'tcp://tm-2:9611'"])).contains("CV536"));
    assert!(fleet(&groups(&["'tcp://tm-1:9611', 'tcp://tm-2:9611'"])).contains("CV536"), "two in one group");
    assert!(fleet(&groups(&["'tcp://tm-1:9611'"])).contains("CV536"), "one is missing");
    assert!(
        fleet(&groups(&["'ssl://tm-1:9711'", "'tcp://tm-2:9611'"])).contains("CV536"),
        "the wrong scheme"
    );
    let copy = |to: &str| format!("[apim.throttling]\nevent_duplicate_url = ['tcp://{to}:5672']\n");
    let (first, second) = (copy("tm-1"), copy("tm-2"));
    let good = [("tm-1", "tm", TM, 0, second.as_str()), ("tm-2", "tm", TM, 0, first.as_str())];
    check("CV537", &[("tm-1", "tm", TM, 0, &first), ("tm-2", "tm", TM, 0, &first)], &good);
    check("CV537", &[("tm-1", "tm", TM, 0, &second), ("tm-2", "tm", TM, 0, "")], &good);
    let listens = |urls: &str| format!("[apim.event_hub]\nevent_listening_endpoints = [{urls}]\n");
    let fleet = |layer: &str| {
        codes(&[("gw", "gw", GW, 0, layer), ("cp-1", "cp", CP, 0, ""), ("cp-2", "cp", CP, 0, "")])
    };
    assert!(!fleet(&listens("'tcp://cp-1:5672', 'tcp://cp-2:5672'")).contains("CV538"));
    assert!(fleet(&listens("'tcp://cp-1:5672'")).contains("CV538"), "one is missing");
    assert!(fleet(&listens("'tcp://front:5672'")).contains("CV538"), "a load balancer");
    assert!(fleet("").contains("CV538"), "none");
    assert!(fleet("apim.event_hub.enable = false").contains("CV538"), "switched off");
}

#[test]
fn gateways_and_environments() {
    let environment = |name: &str| format!("[[apim.gateway.environment]]\nname = '{name}'\n");
    let label = "apim.sync_runtime_artifacts.gateway.gateway_labels = ['Default']";
    let (right, wrong) = (environment("Default"), environment("Other"));
    check(
        "CV539",
        &[("gw", "gw", GW, 0, label), ("cp", "cp", CP, 0, &wrong)],
        &[("gw", "gw", GW, 0, label), ("cp", "cp", CP, 0, &right)],
    );
    check(
        "CV540",
        &[("cp-1", "cp", CP, 0, &wrong), ("cp-2", "cp", CP, 0, &right)],
        &[("cp-1", "cp", CP, 0, &right), ("cp-2", "cp", CP, 0, &right)],
    );
    let jwt = |header: &str| format!("apim.jwt.header = '{header}'");
    check(
        "CV551",
        &[("gw-1", "gw", GW, 0, &jwt("a")), ("gw-2", "gw", GW, 0, &jwt("b"))],
        &[("gw-1", "gw", GW, 0, &jwt("a")), ("gw-2", "gw", GW, 0, &jwt("a"))],
    );
    let name = |name: &str| {
        format!("hostname = 'none'server.hostname = '{name}'\ntransport.https.properties.proxyPort = 443\n")
    };
    check(
        "CV551",
        &[("is-1", "is", IS7, 0, &name("a")), ("is-2", "is", IS7, 0, &name("b"))],
        &[("is-1", "is", IS7, 0, &name("a")), ("is-2", "is", IS7, 0, &name("a"))],
    );
}

#[test]
fn generations_that_go_together() {
    let resident = "[apim.key_manager]\nservice_url = 'https://is:9444/services/'\n";
    check(
        "CV542",
        &[("is", "is", IS7, 1, ""), ("am", "am", AM, 0, resident)],
        &[("is", "is", IS6, 1, ""), ("am", "am", AM, 0, resident)],
    );
    check(
        "CV542",
        &[("is", "is", IS7, 1, ""), ("am", "am", "wso2am-4.2", 0, "")],
        &[("is", "is", IS7, 1, ""), ("am", "am", AM, 0, "")],
    );
    let kind = "apim.key_manager.type = 'WSO2-IS'";
    check(
        "CV542",
        &[("is", "is", IS7, 1, ""), ("am", "am", AM, 0, kind)],
        &[("is", "is", IS6, 1, ""), ("am", "am", AM, 0, kind)],
    );
}

#[test]
fn clusters() {
    let member = |own: &str, members: &str| {
        format!(
            "[clustering]\nmembership_scheme = 'wka'\nlocal_member_host = '{own}'\nmembers = [{members}]\n"
        )
    };
    let all = "'10.0.0.1:4000', '10.0.0.2:4000'";
    let (one, two) = (member("10.0.0.1", all), member("10.0.0.2", all));
    let good = [("is-1", "is", IS7, 0, one.as_str()), ("is-2", "is", IS7, 0, two.as_str())];
    check("CV541", &[("is-1", "is", IS7, 0, &one), ("is-2", "is", IS7, 0, &member("10.0.0.3", all))], &good);
    check(
        "CV541",
        &[("is-1", "is", IS7, 0, &one), ("is-2", "is", IS7, 0, &member("10.0.0.2", "'10.0.0.2:4000'"))],
        &good,
    );
    check("CV541", &[("is-1", "is", IS7, 0, &one.replace("10.0.0.2", "127.0.0.1"))], &good);
    check("CV541", &[("is-1", "is", IS7, 0, &one.replace("membership_scheme = 'wka'\n", ""))], &good);
    check("CV550", &[("is-1", "is", IS7, 0, &one), ("is-2", "is", IS7, 0, &one)], &good);
}

#[test]
fn what_a_pack_would_say_as_far_as_it_goes_without() {
    check(
        "CV543",
        &[("am", "am", AM, 0, "[apim.gateway.environment]\nname = 'x'\n")],
        &[("am", "am", AM, 0, "[[apim.gateway.environment]]\nname = 'x'\n")],
    );
    let inside = |value: &str| format!("[[event_listener]]\nid = '{value}'\n");
    check(
        "CV544",
        &[("is", "is", IS7, 0, &inside("$ref{server.hostname}"))],
        &[("is", "is", IS7, 0, &inside("$env{X}"))],
    );
    check(
        "CV544",
        &[("is", "is", "wso2is-5.10", 0, &inside("$env{X}"))],
        &[("is", "is", IS7, 0, &inside("$env{X}"))],
    );
    check("CV546", &[("is", "is", IS7, 0, "hostname = 'none'")], &[("is", "is", IS7, 0, "")]);
}

#[test]
fn variables_and_start_arguments() {
    let nodes = [("is-1", "is", IS7, 0, "a.b = '$env{PASS}'"), ("is-2", "is", IS7, 0, "a.b = '$env{PASS}'")];
    let told = |code: &str, extra: &str| {
        findings(&nodes, &[("fleet.toml", extra)]).iter().any(|finding| finding.code == code)
    };
    assert!(told("CV545", "[nodes.is-1.env]\nPASS = 'x'\n"));
    assert!(!told("CV545", "[groups.g-is.env]\nPASS = 'x'\n") && !told("CV545", ""));
    assert!(told("CV549", "[groups.g-is.env]\nPASS = 'a$b'\n"));
    assert!(!told("CV549", "[groups.g-is.env]\nPASS = 'ab'\n"));
    let role = [("am", "am", "wso2am-4.2", 0, "server.server_role = 'gateway-worker'")];
    let told = |args: &str| {
        // It belongs to the last table of fleet.toml, which is the node's.
        let extra = format!("args = [{args}]\n");
        findings(&role, &[("fleet.toml", &extra)]).iter().any(|finding| finding.code == "CV547")
    };
    assert!(told("'-Dprofile=control-plane'") && !told("'-Dprofile=gateway-worker'"));
    assert!(told("'--optimize'") && !told("'--optimize', '--skipConfigOptimization'"));
}

#[test]
fn a_gateway_asks_a_control_plane() {
    let hub = |host: &str| format!("[apim.event_hub]\nservice_url = 'https://{host}/services/'\n");
    let fleet = |layer: &str, version: [&str; 2]| {
        let nodes = [
            ("gw-1", "gw", version[0], 0, layer),
            ("gw-2", "gw", version[0], 0, layer),
            ("cp", "cp", version[1], 0, ""),
        ];
        let found = findings(&nodes, &[]);
        found.iter().filter(|finding| finding.code == "CV554").count()
    };
    for version in [[GW, CP], ["wso2am-4.2-gateway-worker", "wso2am-4.2-control-plane"]] {
        assert_eq!(fleet("", version), 1, "one for the group: by default it is the gateway itself");
        assert_eq!(fleet(&hub("localhost:9443"), version), 1);
        assert!(0 < fleet(&hub("gw-1:9443"), version), "itself, or another gateway");
        assert_eq!(fleet(&hub("cp:9443"), version), 0);
        assert_eq!(fleet(&hub("balancer"), version), 0, "a name that no node has");
        let throttling = "[apim.throttling]\nservice_url = 'https://cp:9443/services/'\n";
        assert_eq!(fleet(throttling, version), 0, "which the other follows");
        let off = "apim.event_hub.enable = false";
        assert_eq!(fleet(off, version), 0, "CV538 says it");
    }
    check("CV554", &[("gw", "gw", GW, 0, &hub("$x{")), ("cp", "cp", CP, 0, "")], &[("am", "am", AM, 0, "")]);
}

#[test]
fn identity_servers_with_one_database_are_a_cluster() {
    let database = |url: &str| format!("[database.identity_db]\ntype = 'x'\nurl = '{url}'\n");
    let url = database("jdbc:mysql://db/identity");
    let clustered = format!(
        "{url}[clustering]\nmembership_scheme = 'wka'\nlocal_member_host = '10.0.0.1'\nmembers = ['10.0.0.1:4000']\n"
    );
    let two = |first: &str, second: &str| {
        let nodes = [("is-1", "a", IS7, 0, first), ("is-2", "b", IS7, 0, second)];
        findings(&nodes, &[]).iter().filter(|finding| finding.code == "CV555").count()
    };
    assert_eq!(two(&url, &url), 2);
    assert_eq!(two(&url, &clustered), 1, "the one that is in no cluster");
    assert_eq!(two(&clustered, &clustered), 0);
    assert_eq!(two(&url, &database("jdbc:mysql://db/other")), 0);
    let embedded = database("jdbc:h2:./repository/database/X");
    assert_eq!(two(&embedded, &embedded), 0, "a file of each");
    assert_eq!(two("", ""), 0, "nothing is known");
}

#[test]
fn a_port_of_localhost_may_be_that_of_another_program() {
    let told = |offset: u16, layer: &str| {
        let found = findings(&[("am", "am", AM, offset, layer)], &[]);
        found.into_iter().find(|finding| finding.code == "CV525").map(|finding| finding.remedy)
    };
    let environment = |line: &str| format!("[[apim.gateway.environment]]\nname = 'x'\n{line}\n");
    let other = told(0, &environment("service_url = 'https://localhost:9444/services/'")).unwrap();
    assert!(other.contains("another program") && !other.contains("nodes("), "{other}");
    assert_eq!(told(0, "[apim.workflow]\nservice_url = 'https://localhost:9445/bpmn'\n"), None);
    for line in [
        "ws_endpoint = 'ws://localhost:9099'",
        "wss_endpoint = 'wss://localhost:8099'",
        "websub_event_receiver_http_endpoint = 'http://localhost:9021'",
        "websub_event_receiver_https_endpoint = 'https://localhost:8021'",
    ] {
        assert!(told(1, &environment(line)).is_some(), "{line}");
        assert_eq!(told(0, &environment(line)), None, "{line}");
    }
    let portal = |port: u16| format!("[apim.devportal]\nurl = 'https://localhost:{port}/devportal'\n");
    assert!(told(1, &portal(9443)).is_some());
    assert_eq!((told(1, &portal(9444)), told(0, &portal(9443))), (None, None));
}

#[test]
fn any_value_that_breaks_xml_is_told_without_a_pack() {
    let told = |layer: &str| {
        let found = findings(&[("is", "is", IS7, 0, layer)], &[]);
        let found = found.into_iter().filter(|finding| finding.code == "CV529");
        found.map(|finding| finding.message.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let email = |password: &str| format!("[output_adapter.email]\npassword = \"{password}\"\n");
    assert_eq!(told(&email("Qx&19zz")), ["output_adapter.email.password"]);
    assert_eq!(told(&email("Qx&amp;19zz")), [""; 0]);
    assert_eq!(told(&email("<![CDATA[Qx&19zz]]>")), [""; 0]);
    assert_eq!(told("[database.shared_db]\npassword = 'a&b'"), ["database.shared_db.password"]);
    assert_eq!(told("[database.shared_db]\nurl = 'jdbc:x?a&b'"), [""; 0], "CV534 says it");
    assert_eq!(told("[[a.b]]\nc = ['x', 'y<z']"), ["a.b[0].c"]);
    assert_eq!(told("[secrets]\nx = '[a&b]'"), [""; 0]);
    assert_eq!(told("[super_admin]\npassword = 'a&b'\n[x]\ny = '$ref{super_admin.password}'").len(), 1);
}

#[test]
fn a_log_that_overwrites_itself_is_told_once_for_the_group() {
    let log = |name: &str| {
        format!("appender.A.filePattern = {name}\nappender.A.policies.s.type = SizeBasedTriggeringPolicy\n")
    };
    let told = |name: &str| {
        let nodes = [("is-1", "is", IS7, 0, ""), ("is-2", "is", IS7, 0, "")];
        let file = ("files/g-is/repository/conf/log4j2.properties", log(name));
        let found = findings(&nodes, &[(file.0, &file.1)]);
        found
            .into_iter()
            .filter(|finding| finding.code == "CV556")
            .map(|finding| finding.message)
            .collect::<Vec<_>>()
    };
    let found = told("a-%d{MM-dd-yyyy}.log");
    assert!(found.len() == 1 && found[0].contains("appender.A rolls over by size"), "{found:?}");
    assert_eq!(told("a-%d{MM-dd-yyyy}-%i.log"), [""; 0]);
}

#[test]
fn credentials_that_every_download_has_are_one_finding_and_off_by_a_line() {
    let own = "[super_admin]\nusername = 'admin'\npassword = 'of-this-fleet'\n[encryption]\nkey = '00ff'\n\
               [keystore.primary]\nfile_name = 'own.p12'\npassword = 'also-its-own'\n";
    let shipped = "[super_admin]\nusername = 'admin'\npassword = 'admin'\n[database.shared_db]\ntype = 'mysql'\n\
                   url = 'jdbc:mysql://db/x'\npassword = 'wso2carbon'\n[database.local]\npassword = 'wso2carbon'\n\
                   [identity.auth_framework.endpoint]\napp_password = 'dashboard'\n[apim.throttling]\npassword = 'admin@1'\n";
    check("CV557", &[("is", "is", IS7, 0, shipped)], &[("is", "is", IS7, 0, own)]);
    let told = findings(&[("is", "is", IS7, 0, shipped)], &[]);
    let one: Vec<&Finding> = told.iter().filter(|finding| finding.code == "CV557").collect();
    assert_eq!(one.len(), 1);
    assert!(
        one[0].message.ends_with(
            "database.shared_db.password, identity.auth_framework.endpoint.app_password, super_admin.password, \
             encryption.key (by default), the private key in wso2carbon.jks"
        ),
        "{}",
        one[0].message
    );
    let files = BTreeMap::from([
        (
            "fleet.toml".to_owned(),
            format!(
                "name = 'x'\ndefault_credentials = 'accepted'\n[groups.g]\nproduct = '{IS7}'\nlayers = ['l']\n\
                 [nodes.is]\ngroup = 'g'\nhost = 'is'\nhome = '/opt/is'\n"
            )
            .into_bytes(),
        ),
        ("config/l.toml".to_owned(), format!("server.hostname = 'front'\n{shipped}").into_bytes()),
    ]);
    let fleet = compose(&Sources(files)).fleet.unwrap();
    let quiet = crate::lint::fleet(&fleet, &Packs::new(), ClearText::Tell);
    let codes: Vec<_> = quiet.iter().map(|finding| finding.code).collect();
    assert!(!codes.contains(&"CV557"), "{codes:?}");
    // The broker's password was typed, and is nobody else's.
    let clear: Vec<&str> =
        quiet.iter().filter(|finding| finding.code == "CV513").map(|f| f.message.as_str()).collect();
    assert_eq!(clear, ["apim.throttling.password stands here in clear"]);
}

#[test]
fn a_store_of_ones_own_still_needs_a_password_of_ones_own() {
    let layer = "[encryption]\nkey = '00ff'\n[keystore.primary]\nfile_name = 'own.p12'\n";
    let told = findings(&[("am", "am", AM, 0, layer)], &[]);
    let one = told.iter().find(|finding| finding.code == "CV557").unwrap();
    assert!(one.message.ends_with(": keystore.primary.password"), "{}", one.message);
    // A file of the shipped name that the fleet brings is the fleet's.
    let brought = [("files/am/repository/resources/security/wso2carbon.jks", "another")];
    let told = findings(&[("am", "am", AM, 0, "keystore.primary.password = 'own'\n")], &brought);
    assert!(told.iter().all(|finding| finding.code != "CV557"), "{told:#?}");
}

#[test]
fn a_port_that_is_not_where_the_fleet_takes_it_to_be_is_told() {
    let moved = "[transport.https.properties]\nport = 9500\n[clustering]\nmembership_scheme = 'wka'\nlocal_member_port = 4001\n";
    check(
        "CV560",
        &[("am", "am", AM, 2, moved)],
        &[("am", "am", AM, 2, "transport.https.properties.port = '9443'\n")],
    );
    let told = findings(&[("am", "am", AM, 2, moved)], &[]);
    let one: Vec<&str> = told.iter().filter(|it| it.code == "CV560").map(|it| it.message.as_str()).collect();
    assert!(one.len() == 1 && one[0].contains("at 9502 (transport.https.properties.port)"), "{one:?}");
    // Said in fleet.toml, it is where the fleet takes it to be.
    let said = [("fleet.toml", "ports = { https = 9502 }\n")];
    let told = findings(&[("am", "am", AM, 2, moved)], &said);
    assert!(told.iter().all(|finding| finding.code != "CV560"), "{told:#?}");
}

#[test]
fn a_pack_that_contradicts_the_profile_is_told() {
    let files = carbon::pack::RULE_FILES.map(|file| {
        let text =
            if file == "default.json" { r#"{"transport.https.properties.port": "9543"}"# } else { "{}" };
        (format!("{}{file}", carbon::pack::RESOURCES), text.as_bytes().to_vec())
    });
    let template = (format!("{}templates/conf/a.xml.j2", carbon::pack::RESOURCES), b"<a/>".to_vec());
    let pack = PackFacts::new(carbon::Pack::load(files.into_iter().chain([template])).unwrap());
    let packs = Packs::from([(IS7.to_owned(), pack)]);
    let told = findings_with(&[("is", "is", IS7, 0, "")], &[], &packs);
    assert!(told.iter().any(|it| it.code == "CV560" && it.message.contains("at 9543")), "{told:#?}");
}
