use super::*;
use crate::pack::RESOURCES;

fn pack() -> Pack {
    let template = r#"
{{ server.name }}
{% if server.secure is sameas true %}x{% endif %}
{% for env in gateway.environment %}{{ env.name }}{% for label in env.labels %}{{ label }}{% endfor %}{% endfor %}
{% for key, value in transport.properties.items() %}{{ key }}={{ value }}{% endfor %}
{% for id, store in stores.items() %}{{ store.url }}{% endfor %}
{{ console.theme|tojson }}
{% for data in datasource %}{{ data.url }}{% endfor %}
{% set short = deep.table %}{{ short.leaf|default("x") }}
"#;
    let files = [
        ("key-mappings.json", r#"{"old.name": "server.name"}"#),
        (
            "infer.json",
            r#"{"database.$1.type": {"mysql": {"database.$1.driver": "d", "database.$1.url": "$ref{database.$1.host}"}}}"#,
        ),
        ("default.json", r#"{"server.secure": true, "cache.timeout": "15m"}"#),
        ("unit-resolve.json", r#"{"time": {"cache.timeout": "s"}}"#),
        ("validator.json", r#"{"server.name": [{"regex": ".+"}]}"#),
        ("templates/a.xml.j2", template),
    ];
    Pack::load(files.map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec())).into_iter())
        .unwrap()
}

#[test]
fn written_keys_are_found_under_their_patterns() {
    let known = KnownKeys::of(&pack());
    let table = [
        ("server.name", Some("server.name")),
        ("old.name", Some("old.name")),
        ("database.main.driver", Some("database.$1.driver")),
        ("database.main.host", Some("database.$1.host")),
        ("gateway.environment[].name", Some("gateway.environment[].name")),
        ("gateway.environment.east.name", Some("gateway.environment[].name")),
        ("gateway.environment[].labels", Some("gateway.environment[].labels")),
        ("transport.properties.anything", Some("transport.properties.*")),
        ("transport.properties.'a.b'", Some("transport.properties.*")),
        ("stores.main.url", Some("stores.*.url")),
        ("datasource[].url", Some("datasource[].url")),
        ("deep.table.leaf", Some("deep.table.leaf")),
        ("server.nam", None),
        ("gateway.environment[].nme", None),
        ("transport.properties.a.b", None),
    ];
    for (key, expected) in table {
        assert_eq!(known.find(key).map(|(name, _)| &**name), expected, "{key}");
    }
    assert!(known.contains("console.theme.colors.main"), "below a table that is printed whole");
}

#[test]
fn uses_of_a_key_are_also_those_of_the_map_that_holds_it() {
    let known = KnownKeys::of(&pack());
    let table = [
        ("server.name", "2 true"),
        ("transport.properties.anything", "5 false"),
        ("console.theme.colors.main", "7 false"),
        ("gateway.environment.east.name", "4 true"),
        ("cache.timeout", ""),
    ];
    for (key, expected) in table {
        let uses = known.uses(key);
        let mut shown: Vec<String> =
            uses.iter().map(|(usage, exact)| format!("{} {exact}", usage.line)).collect();
        shown.dedup();
        assert_eq!(shown.join(", "), expected, "{key}: {uses:?}");
    }
}

#[test]
fn facts_say_type_default_unit_and_use() {
    let known = KnownKeys::of(&pack());
    let secure = known.get("server.secure").unwrap();
    assert_eq!(secure.default, Some(Value::Bool(true)));
    assert!(secure.wants_boolean());
    assert_eq!(secure.uses[0].line, 3);
    assert_eq!(known.get("cache.timeout").unwrap().unit.as_deref(), Some("s"));
    assert_eq!(known.get("old.name").unwrap().mapped_to, [Arc::from("server.name")]);
    assert_eq!(known.get("database.$1.driver").unwrap().set_by[0].1.as_ref(), "mysql");
}

#[test]
fn shapes_tell_arrays_of_tables_from_tables() {
    let known = KnownKeys::of(&pack());
    let shape = known.shape("gateway.environment");
    assert!(shape.list_of_tables && !shape.table);
    assert!(known.shape("server").table && !known.shape("server").list);
    assert!(known.shape("transport.properties").open);
    assert!(
        known.shape("gateway.environment[].labels").list
            && !known.shape("gateway.environment[].labels").list_of_tables
    );
}

#[test]
fn a_slip_of_the_pen_is_named() {
    let known = KnownKeys::of(&pack());
    let table = [
        ("server.nmae", Some("server.name")),
        ("servr.secure", Some("server.secure")),
        ("catalina.server.secure", Some("server.secure")),
        ("something.else.entirely", None),
    ];
    for (key, expected) in table {
        assert_eq!(known.nearest(key).map(|name| &**name), expected, "{key}");
    }
}
