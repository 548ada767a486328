//! Groups of a balancer: what their nodes are, in which order they go, and what they cannot be.

use super::{FRONT, composed};
use crate::{
    balancer::{Kind, out::Upstream},
    bundle::{DriftPolicy, HomePath, RestartClass},
    ids::{GroupName, NodeName},
    restart,
    spec::Fleet,
};

const EDGE: &str = r#"
[groups.edge]
balancer = "front"
[nodes.lb-1]
group = "edge"
host = "lb1.acme"
home = "/etc/haproxy"
"#;

fn fleet(front: &str) -> Fleet {
    let composition = composed(&format!("{front}{EDGE}"));
    composition.fleet.unwrap_or_else(|| panic!("{:#?}", composition.findings))
}

fn node(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

#[test]
fn its_one_file_is_the_generated_configuration_with_probes_of_its_ports() {
    let fleet = fleet(FRONT);
    let lb = &fleet.nodes[&node("lb-1")];
    assert_eq!((lb.bundle.balancer, lb.bundle.service.product.as_str()), (Some(Kind::Haproxy), "haproxy"));
    let path = HomePath::parse("haproxy.cfg").unwrap();
    let file = &lb.bundle.files[&path];
    assert_eq!((file.drift, file.restart), (DriftPolicy::Enforce, RestartClass::Restart));
    let text = String::from_utf8(lb.contents[&file.digest].to_vec()).unwrap();
    assert!(text.starts_with("# Balancer front of fleet acme, kept by convoy-agent"), "{text}");
    assert!(text.contains("server-state-file /etc/haproxy/convoy.state"), "{text}");
    assert!(text.contains("server is-2 is2.acme:9445"), "{text}");
    let probes: Vec<&str> = lb.bundle.service.probes.iter().map(|probe| probe.name.as_str()).collect();
    assert_eq!(probes, ["clients-443", "clients-8243", "clients-9099"]);
}

#[test]
fn it_goes_after_the_groups_it_is_in_front_of_unless_that_is_typed() {
    let group = |text: &str| GroupName::parse(text).unwrap();
    let fleet = fleet(FRONT);
    let after: Vec<&str> = fleet.groups[&group("edge")].after.iter().map(GroupName::as_str).collect();
    assert_eq!(after, ["api-manager", "key-manager"]);
    let reasons: Vec<String> = fleet.order_reasons.iter().map(ToString::to_string).collect();
    assert!(
        reasons.contains(&"edge after key-manager: balancers.front of lb-1 names is-1".to_owned()),
        "{reasons:?}"
    );
    let typed =
        composed(&format!("{FRONT}{EDGE}").replace("\"front\"\n[nodes", "\"front\"\nafter = []\n[nodes"));
    assert!(typed.fleet.unwrap().groups[&group("edge")].after.is_empty());
}

#[test]
fn members_that_come_or_go_change_the_balancer_by_a_reload() {
    let (one, other) = (
        fleet(FRONT),
        fleet(&format!(
            "{FRONT}{}",
            "\n[nodes.is-3]\ngroup = \"key-manager\"\nhost = \"is3.acme\"\nhome = \"/opt/is\"\n"
        )),
    );
    let bundle = |fleet: &Fleet| fleet.nodes[&node("lb-1")].bundle.clone();
    let decision = restart::decide(&bundle(&one), &bundle(&other));
    assert_eq!(decision.why, ["haproxy.cfg changes (by a reload)"]);
    assert_ne!(bundle(&one).digest(), bundle(&other).digest());
    assert_eq!(bundle(&one).digest(), bundle(&fleet(FRONT)).digest());
}

#[test]
fn its_nginx_reads_which_members_are_out_and_the_names_it_verifies_stay() {
    let front = FRONT
        .replace("\"haproxy\"", "\"nginx\"")
        .replace("front.pem\"", "front.pem\"\ncertificate_key = \"/etc/nginx/front.key\"");
    let fleet = fleet(&front);
    let lb = &fleet.nodes[&node("lb-1")];
    let text = String::from_utf8(lb.contents[&lb.bundle.files[&Kind::Nginx.file()].digest].to_vec()).unwrap();
    for line in [
        "map \"\" $convoy_pool_identity {\n    default identity;\n    include \
         /etc/haproxy/convoy.out/identity.map*;\n}\ninclude /etc/haproxy/convoy.out/identity.upstream*;\n",
        "        proxy_pass https://$convoy_pool_identity;\n",
        "        proxy_pass http://$convoy_pool_websocket;\n",
        "        proxy_ssl_name km.acme;\n",
        "        proxy_ssl_name gateway;\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let upstreams = Upstream::all(&text);
    let members: Vec<_> = upstreams.iter().map(|upstream| (upstream.name, upstream.members())).collect();
    let members_of = |name: &str| members.iter().find(|(known, _)| *known == name).map(|(_, of)| of.clone());
    assert_eq!(members_of("identity"), Some(["is-1", "is-2"].into()));
    assert_eq!(members_of("websocket"), Some(["am-1"].into()));
}

#[test]
fn nginx_has_a_file_among_those_that_its_own_configuration_includes() {
    let front = FRONT
        .replace("\"haproxy\"", "\"nginx\"")
        .replace("front.pem\"", "front.pem\"\ncertificate_key = \"/etc/nginx/front.key\"");
    let fleet = fleet(&front);
    let lb = &fleet.nodes[&node("lb-1")];
    let files: Vec<&str> = lb.bundle.files.keys().map(HomePath::as_str).collect();
    assert_eq!((files, lb.bundle.balancer), (vec!["convoy.conf"], Some(Kind::Nginx)));
}

#[test]
fn what_a_balancers_group_cannot_be_is_told_with_its_place() {
    let said = |from: &str, to: &str| -> Vec<String> {
        let text = format!("{FRONT}{EDGE}");
        assert!(text.contains(from), "{from}");
        let found = composed(&text.replace(from, to)).findings;
        found.iter().filter(|it| it.place.is_some()).map(|it| format!("{} {}", it.code, it.message)).collect()
    };
    for (from, to, words) in [
        (
            "balancer = \"front\"",
            "balancer = \"frnt\"",
            "CV565 group edge is of balancer \"frnt\", which does not exist",
        ),
        (
            "balancer = \"front\"",
            "balancer = \"front\"\nproduct = \"wso2is-7.2\"",
            "CV565 a group has a `product` or a",
        ),
        (
            "balancer = \"front\"",
            "balancer = \"front\"\nlayers = [\"common\"]",
            "CV565 `layers` are those of a server",
        ),
        ("balancer = \"front\"", "balancer = \"front\"\njava_home = \"/x\"", "CV565 `java_home`, `run_user`"),
        (
            "group = \"edge\"",
            "group = \"edge\"\noffset = 1",
            "CV565 `offset` and `ports` are those of a server",
        ),
        ("group = \"edge\"", "group = \"edg\"", "CV101"),
        ("host = \"lb1.acme\"\nhome = \"/etc/haproxy\"", "host = \"is1.acme\"\nhome = \"/opt/is\"", "CV105"),
        (
            "home = \"/etc/haproxy\"",
            "home = \"/etc/ha proxy\"",
            "CV565 the home \"/etc/ha proxy\" of a load balancer",
        ),
    ] {
        let found = said(from, to);
        assert!(found.iter().any(|line| line.contains(words)), "{to}: {found:?}");
    }
    // On one host with a server, and with another balancer, at one port.
    let beside = said("host = \"lb1.acme\"", "host = \"am1.acme\"");
    assert!(
        beside.iter().any(|line| line.starts_with("CV106 nodes am-1 and lb-1 both open port 8243")),
        "{beside:?}"
    );
}
