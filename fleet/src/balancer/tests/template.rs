//! Templates of balancers: what they know, where their mistakes are, and that the handbook's example is one.

use super::{FLEET, FRONT};
use crate::{
    balancer::Kind,
    ids::NodeName,
    spec::{Composition, Sources, compose},
};

const EDGE: &str = "[groups.edge]\nbalancer = \"front\"\n[groups.edge.values]\nlog = \"/dev/log\"\n[nodes.lb-1]\ngroup = \
                    \"edge\"\nhost = \"lb1.acme\"\nhome = \"/etc/haproxy\"\n";

/// The fleet of these tests with a template, and nodes of its balancer if `edge` says so.
fn composed(front: &str, edge: &str, files: &[(&str, &str)]) -> Composition {
    let front =
        front.replace("[balancers.front]\n", "[balancers.front]\ntemplate = \"balancers/front.tmpl\"\n");
    let fleet = format!(
        "{}\n{front}{edge}",
        FLEET.replace("name = \"acme\"\n", "name = \"acme\"\n[values]\nlimit = 7\n")
    );
    let files = [("fleet.toml", fleet.as_str()), ("config/common.toml", "[server]\nhostname = \"x\"\n")]
        .into_iter()
        .chain(files.iter().copied())
        .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
    compose(&Sources(files.collect()))
}

fn rendered(front: &str, edge: &str, template: &str) -> String {
    let composition = composed(front, edge, &[("balancers/front.tmpl", template)]);
    let fleet = composition.fleet.unwrap_or_else(|| panic!("{:#?}", composition.findings));
    fleet.balancers["front"].text(fleet.name.as_str())
}

fn nginx() -> String {
    FRONT
        .replace("\"haproxy\"", "\"nginx\"")
        .replace("front.pem\"", "front.pem\"\ncertificate_key = \"/etc/nginx/front.key\"")
}

#[test]
fn a_template_has_the_services_the_generated_text_and_the_names_of_its_nodes_other_files() {
    let template = "# {{ fleet.name }} {{ node.name }} {{ values.limit }} {{ values.log }} {{ balancer.home }} {{ \
                    balancer.address }}\n{% for service in services %}\n{{ service.name }} {{ service.listen }} {{ \
                    service.hosts | join(',') }} {{ service.sticky }} {{ service.timeout }}{% for member in \
                    service.members %} {{ member.name }}={{ member.address }}{{ member.health.path }}{% endfor %}\n\n{% \
                    endfor %}\n{{ nodes('key-manager') | addresses('https') | join(' ') }}\n";
    let text = rendered(FRONT, EDGE, template);
    assert_eq!(
        text,
        "# acme lb-1 7 /dev/log /etc/haproxy None\nidentity 443 km.acme cookie 300 \
         is-1=is1.acme:9443/oauth2/token/.well-known/openid-configuration \
         is-2=is2.acme:9445/oauth2/token/.well-known/openid-configuration\ngateway 8243  none 300 \
         am-1=am1.acme:8243/api/am/gateway/v2/server-startup-healthcheck\nwebsocket 9099  none 300 am-1=am1.acme:9099/api/am/gateway/v2/server-startup-healthcheck\nis1.acme:9443 \
         is2.acme:9445\n"
    );
    let composition = composed(FRONT, EDGE, &[("balancers/front.tmpl", "{{ generated }}\nlisten stats\n")]);
    let fleet = composition.fleet.unwrap();
    let lb = &fleet.nodes[&NodeName::parse("lb-1").unwrap()];
    let entry = &lb.bundle.files[&Kind::Haproxy.file()];
    let text = String::from_utf8(lb.contents[&entry.digest].to_vec()).unwrap();
    assert!(text.starts_with("# Balancer front of fleet acme, kept by convoy-agent"), "{text}");
    assert!(text.ends_with("\nlisten stats\n"), "{text}");
    assert!(text.contains("server-state-file /etc/haproxy/convoy.state"), "{text}");
}

#[test]
fn without_a_node_it_has_the_fleet_and_its_values() {
    let text =
        rendered(FRONT, "", "{{ fleet.name }} {{ values.limit }} {{ balancer.home }}\n{{ generated }}");
    assert!(
        text.starts_with("acme 7 /etc/haproxy\n# Made by `convoy render DIR --balancer front`"),
        "{text}"
    );
}

#[test]
fn members_of_an_nginx_of_a_template_can_be_taken_out() {
    let template = "{% for service in services %}\n{{ service.upstream }}\nserver { listen {{ service.listen }}; location / { \
                    proxy_pass https://{{ service.pool }}; } }\n{% endfor %}\n";
    let edge = EDGE.replace("/etc/haproxy", "/etc/nginx/conf.d");
    let text = rendered(&nginx(), &edge, template);
    let upstreams = crate::balancer::out::Upstream::all(&text);
    let names: Vec<&str> = upstreams.iter().map(|upstream| upstream.name).collect();
    assert_eq!(names, ["identity", "gateway", "websocket"], "{text}");
    assert_eq!(upstreams[0].members(), ["is-1", "is-2"].into());
    assert!(text.contains("proxy_pass https://$convoy_pool_identity;"), "{text}");
}

#[test]
fn a_mistake_is_told_with_file_line_and_column() {
    for (template, told) in [
        ("a\n  {{ servces }}\n", "CV302 balancers/front.tmpl:2:6 servces is not known here"),
        (
            "a\n{% for s in services %}\n{{ s.nme }}{% endfor %}",
            "CV302 balancers/front.tmpl:3:4 s.nme is not known here",
        ),
        ("{{ nodes('km') }}", "CV303 balancers/front.tmpl:1:4 there is no group called \"km\""),
        ("a\nb\n{% if x", "CV301 balancers/front.tmpl:3:"),
        ("{{ secret('a.b') }}", "CV307 balancers/front.tmpl:1:4 a secret cannot be used here"),
    ] {
        for edge in [EDGE, ""] {
            let found = composed(FRONT, edge, &[("balancers/front.tmpl", template)]);
            assert!(found.fleet.is_none(), "{template}");
            let lines: Vec<String> = found
                .findings
                .iter()
                .filter_map(|it| Some((it, it.place.as_ref()?)))
                .map(|(it, at)| format!("{} {}:{}:{} {}", it.code, at.file, at.line, at.column, it.message))
                .collect();
            assert!(lines.iter().any(|line| line.starts_with(told)), "{template}: {lines:?}");
        }
    }
}

#[test]
fn a_template_that_is_not_there_is_told_with_what_is() {
    let said = |files: &[(&str, &str)], front: &str| -> Vec<String> {
        let found = composed(front, EDGE, files).findings;
        found.iter().map(|it| format!("{} {} | {}", it.code, it.message, it.remedy)).collect()
    };
    let near = said(&[("balancers/frnt.tmpl", "x")], FRONT);
    let told = "CV566 the template \"balancers/front.tmpl\" of balancer front is not there | did you mean";
    assert!(
        near.iter().any(|line| line.starts_with(told) && line.contains("balancers/frnt.tmpl")),
        "{near:?}"
    );
    let elsewhere =
        FRONT.replace("kind = \"haproxy\"", "kind = \"haproxy\"\ntemplate = \"config/common.toml\"");
    let fleet =
        composed(&elsewhere.replace("[balancers.front]\n", "[balancers.front] \n"), EDGE, &[]).findings;
    let told =
        "keep it below balancers/ of the fleet directory, and write template = \"balancers/front.tmpl\"";
    assert!(fleet.iter().any(|it| it.code == "CV566" && it.remedy == told), "{fleet:#?}");
}

#[test]
fn the_example_of_the_handbook_is_a_template() {
    let page = include_str!("../../../../docs/fleet-format.md");
    let example = page.split("```jinja\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let text = rendered(FRONT, EDGE, example);
    assert!(text.contains("backend identity") && text.contains("listen stats"), "{text}");
    assert!(text.contains("# identity: is-1 is-2"), "{text}");
}
