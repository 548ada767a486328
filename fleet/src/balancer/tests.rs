use crate::spec::{Composition, Sources, compose};

const FLEET: &str = r#"name = "acme"
[groups.key-manager]
product = "wso2is-7.2"
layers = ["common"]
[groups.api-manager]
product = "wso2am-4.5"
layers = ["common"]
[nodes.is-1]
group = "key-manager"
host = "is1.acme"
home = "/opt/is"
[nodes.is-2]
group = "key-manager"
host = "is2.acme"
home = "/opt/is"
offset = 2
[nodes.am-1]
group = "api-manager"
host = "am1.acme"
home = "/opt/am"
"#;

const FRONT: &str = r#"
[balancers.front]
kind = "haproxy"
certificate = "/etc/haproxy/front.pem"
server_ca = "/etc/haproxy/ca.pem"
socket = "/run/haproxy/admin.sock"
[[balancers.front.services]]
name = "identity"
group = "key-manager"
listen = 443
hosts = ["km.acme"]
[[balancers.front.services]]
name = "gateway"
group = "api-manager"
port = "gateway-https"
listen = 8243
[[balancers.front.services]]
name = "websocket"
group = "api-manager"
port = "ws"
listen = 9099
"#;

fn composed(front: &str) -> Composition {
    compose(&Sources(
        [
            ("fleet.toml".to_owned(), format!("{FLEET}{front}").into_bytes()),
            ("config/common.toml".to_owned(), b"[server]\nhostname = \"x\"\n".to_vec()),
        ]
        .into(),
    ))
}

fn text(front: &str) -> String {
    let composition = composed(front);
    let fleet = composition.fleet.unwrap_or_else(|| panic!("{:#?}", composition.findings));
    fleet.balancers["front"].text(fleet.name.as_str())
}

#[test]
fn haproxy_knows_the_members_their_health_and_who_stays() {
    insta::assert_snapshot!(text(FRONT));
}

#[test]
fn nginx_has_the_headers_and_times_of_the_guides() {
    let front = FRONT
        .replace("\"haproxy\"", "\"nginx\"")
        .replace("front.pem\"", "front.pem\"\ncertificate_key = \"/etc/nginx/front.key\"");
    insta::assert_snapshot!(text(&front));
}

#[test]
fn the_same_fleet_gives_the_same_text() {
    assert_eq!(text(FRONT), text(FRONT));
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let said = |from: &str, to: &str| -> Vec<String> {
        assert!(FRONT.contains(from), "{from}");
        let found = composed(&FRONT.replace(from, to)).findings;
        found.iter().filter(|it| it.place.is_some()).map(|it| format!("{} {}", it.code, it.message)).collect()
    };
    assert_eq!(said("km.acme", "km.acme"), [""; 0]);
    for (from, to, words) in [
        ("\"haproxy\"", "\"squid\"", "CV010"),
        (
            "\"/etc/haproxy/front.pem\"",
            "\"front.pem\"",
            "CV564 certificate \"front.pem\" is no plain absolute path",
        ),
        ("\"/etc/haproxy/front.pem\"", "\"/x; evil\"", "CV564 certificate"),
        ("certificate = \"/etc/haproxy/front.pem\"\n", "", "CV564 service identity speaks TLS"),
        (
            "group = \"key-manager\"\nlisten",
            "group = \"km\"\nlisten",
            "in front of group \"km\", which has no nodes",
        ),
        ("\"gateway-https\"", "\"gateway-htps\"", "CV564 am-1 has no port \"gateway-htps\""),
        ("\"km.acme\"", "\"km.acme; evil\"", "is no host name"),
        ("name = \"gateway\"", "name = \"identity\"", "two services are named identity"),
        ("listen = 8243", "listen = 9099", "to speak TLS for one of"),
        ("listen = 8243", "listen = 443\nhosts = [\"km.acme\"]", "listen on port 443 for the same names"),
        ("listen = 8243", "listen = 8243\nhealth = \"/x y\"", "`health` is no plain path"),
        ("listen = 8243", "listen = 8243\ncheck = \"/x\"", "CV005"),
        ("listen = 8243\n", "", "CV008"),
        ("\"haproxy\"", "\"nginx\"", "has a certificate and no key for it"),
    ] {
        let found = said(from, to);
        assert!(found.iter().any(|line| line.contains(words)), "{to}: {found:?}");
    }
    let cookie = FRONT
        .replace("\"haproxy\"", "\"nginx\"\ncertificate_key = \"/k\"")
        .replace("listen = 443", "listen = 443\nsticky = \"cookie\"");
    let found = composed(&cookie).findings;
    assert!(found.iter().any(|it| it.message.contains("the free NGINX cannot do")), "{found:#?}");
}

mod nodes;
mod template;
