//! Where servers are, and what follows from that.

use super::*;

fn host(imported: &Imported, name: &str) -> String {
    let fleet: toml::Table = file(imported, "fleet.toml").parse().unwrap();
    fleet["nodes"][name]["host"].as_str().unwrap().to_owned()
}

#[test]
fn an_expression_that_does_not_give_its_value_back_is_told_and_the_key_stays() {
    let toml = "[oauth]\nurl = 'tcp://h-1:09443'\nother = 'tcp://h-1:9443'\n";
    let imported = imported(&[("is-1", ImportNode { host: Some("h-1".to_owned()), ..node(toml) })]);
    let kept = ["stays as typed on is-1, since an expression would not give it back: oauth.url"];
    assert_eq!(told(&imported, "CV705"), kept);
    let common = file(&imported, "config/common.toml");
    assert!(common.contains("url = 'tcp://h-1:09443'"), "{common}");
    assert!(common.contains("other = \"{{ node.url('tcp', 'https') }}\""), "{common}");
}

#[test]
fn the_surest_sign_of_a_host_wins() {
    let (ip, own) = ("node_ip = '10.0.0.1'\n", "hostname = 'own.example.org'\n");
    let both = format!("{ip}{own}");
    let table = [
        // what gw-1 says, what cp-1 mentions beside it, the host of gw-1
        (both.as_str(), vec!["own.example.org", "10.0.0.1", "apim-gw-1.acme", "gw-1.acme"], "gw-1.acme"),
        (&both, vec!["own.example.org", "10.0.0.1", "apim-gw-1.acme"], "apim-gw-1.acme"),
        (&both, vec!["own.example.org", "10.0.0.1"], "10.0.0.1"),
        (&both, vec!["own.example.org"], "own.example.org"),
        (&both, vec![], "10.0.0.1"),
        (own, vec![], "own.example.org"),
        // That one is the name of the whole deployment.
        ("hostname = 'cp.example.org'\n", vec![], "gw-1"),
        ("", vec![], "gw-1"),
    ];
    for (own, mentioned, expected) in table {
        let urls: Vec<String> = mentioned.iter().map(|host| format!("'tcp://{host}:9611'")).collect();
        let plane = format!(
            "[server]\nserver_role = 'control-plane'\nhostname = 'cp.example.org'\nnode_ip = '10.0.0.9'\n\
             [apim.x]\nurls = [{}]\n",
            urls.join(", ")
        );
        let gateway = format!("[server]\nserver_role = 'gateway-worker'\n{own}[apim.y]\na = 1\n");
        let imported = imported(&[("cp-1", node(&plane)), ("gw-1", node(&gateway))]);
        assert_eq!(host(&imported, "gw-1"), expected, "{own}{mentioned:?}");
        assert_eq!(told(&imported, "CV704").is_empty(), expected != "gw-1", "{own}{mentioned:?}");
    }
}

#[test]
fn what_a_pair_says_of_each_other_comes_before_names_and_what_was_said_before_all() {
    let of = |other: &str| {
        let urls = "urls = ['tcp://cp-1.acme:9611', 'tcp://cp-2.acme:9611']";
        let server = "[server]\nserver_role = 'control-plane'\n";
        node(&format!("{server}[apim.event_hub]\nevent_duplicate_url = ['tcp://{other}:5672']\n{urls}\n"))
    };
    let pair = imported(&[("cp-1", of("right.acme")), ("cp-2", of("left.acme"))]);
    assert_eq!((host(&pair, "cp-1"), host(&pair, "cp-2")), ("left.acme".into(), "right.acme".into()));
    let said = ImportNode { host: Some("said.acme".to_owned()), ..of("right.acme") };
    let pair = imported(&[("cp-1", said), ("cp-2", of("left.acme"))]);
    assert_eq!(host(&pair, "cp-1"), "said.acme");
}

#[test]
fn own_names_and_addresses_follow_the_node() {
    let of = |number: u8, local: &str| {
        let toml = format!(
            "[server]\nhostname = 'is-{number}.acme'\nnode_ip = '10.0.0.{number}'\n[clustering]\n\
             local_member_host = '{local}{number}'\n[oauth]\nissuer = 'https://localhost:9443/x'\n"
        );
        ImportNode { host: Some(format!("is-{number}.acme")), ..node(&toml) }
    };
    let pair = |local| imported(&[("is-1", of(1, local)), ("is-2", of(2, local))]);
    let own_layers = |imported: &Imported| {
        imported.sources.0.keys().filter(|path| path.starts_with("config/nodes/")).count()
    };
    let same = pair("10.0.0.");
    let layer = file(&same, "config/common.toml");
    for line in [
        "hostname = \"{{ node.host }}\"",
        "node_ip = \"{{ values.node_ip }}\"",
        "local_member_host = \"{{ values.node_ip }}\"",
        "issuer = \"https://localhost:{{ node.port('https') }}/x\"",
    ] {
        assert!(layer.contains(line), "{line}:\n{layer}");
    }
    assert_eq!(own_layers(&same), 0);
    let fleet = file(&same, "fleet.toml");
    assert!(fleet.contains("values = { node_ip = \"10.0.0.2\" }"), "{fleet}");
    // Another interface for the cluster: nothing that the fleet knows.
    let other = pair("10.1.0.");
    assert_eq!(own_layers(&other), 2);
    assert!(file(&other, "config/nodes/is-2.toml").contains("local_member_host = '10.1.0.2'"));
    assert_eq!(told(&other, "CV707"), Vec::<&str>::new(), "such a key has to differ");
}
