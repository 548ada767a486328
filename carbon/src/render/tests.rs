//! From a small pack of our own to files, origins and places.

use super::*;
use crate::known::KnownKeys;
use crate::pack::RESOURCES;

fn pack() -> Pack {
    let files = [
        ("key-mappings.json", r#"{"host": "server.hostname"}"#),
        ("infer.json", r#"{"db.type": {"mysql": {"db.driver": "com.mysql", "db.port": 3306}}}"#),
        ("default.json", r#"{"server.url": "https://$ref{server.hostname}:9443", "cache.timeout": "15m"}"#),
        ("unit-resolve.json", r#"{"time": {"cache.timeout": "s"}}"#),
        (
            "validator.json",
            r#"{"db.driver": [{"regex": "com\\..*|", "error_message": "a driver is a class"}]}"#,
        ),
        (
            "templates/conf/a.xml.j2",
            "<a>\r\n  <url>{{ server.url }}</url>\r\n  {% if db.type is defined %}\r\n  <db>{{ db.driver }} {{ db.port }}</db>\r\n  {% endif %}\r\n</a>",
        ),
        (
            "templates/b.properties.j2",
            "{% for k, v in props.items() %}\n{{ k }}={{ v }}\n{% endfor %}\ntimeout={{ cache.timeout }}\n",
        ),
        ("templates/readme.txt", "not a template"),
    ];
    Pack::load(files.map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec())).into_iter())
        .unwrap()
}

const TOML: &str = "host = 'h.example'\n[db]\ntype = 'mysql'\n[props]\none = 1\n'two.three' = 2\n";

#[test]
fn all_phases_work_together() {
    let rendered = render(&pack(), TOML, &Inputs::default()).unwrap();
    let files: Vec<(&str, &str)> =
        rendered.files.iter().map(|(path, text)| (&**path, text.as_str())).collect();
    assert_eq!(
        files,
        [
            ("b.properties", "one=1\ntwo.three=2\ntimeout=900\n"),
            ("conf/a.xml", "<a>\n  <url>https://h.example:9443</url>\n  <db>com.mysql 3306</db>\n</a>\n"),
        ]
    );
}

#[test]
fn every_value_knows_where_it_came_from() {
    let resolved = resolve(&pack(), TOML, &Inputs::default()).unwrap();
    let origin = |key: &str| match resolved.origin(key).unwrap() {
        Origin::User { key, position } => format!("user {key} at {position}"),
        Origin::Inferred(cause) => format!("inferred by {}={}", cause.key, cause.value),
        Origin::Default => "default".into(),
    };
    assert_eq!(origin("server.hostname"), "user host at line 1, column 1");
    assert_eq!(origin("db.type"), "user db.type at line 3, column 1");
    assert_eq!(origin("db.driver"), "inferred by db.type=mysql");
    assert_eq!(origin("server.url"), "default");
    assert_eq!(resolved.origin("no.such.key"), None);
    assert_eq!(resolved.value("cache.timeout"), Some(&Value::text("900")));
}

#[test]
fn written_keys_name_elements_of_arrays() {
    let toml = "[[a.b]]\nc = 1\n[[a.b]]\nc = 2\nd.e = [1]\n[x]\n'y.z' = 1\n";
    let resolved = resolve(&pack(), &format!("host = 'h'\n{toml}"), &Inputs::default()).unwrap();
    let written: Vec<String> =
        resolved.written().iter().map(|(key, at)| format!("{key} {}", at.line)).collect();
    assert_eq!(written, ["a.b 2", "a.b[].c 3", "a.b[].d.e 6", "host 1", "x.'y.z' 8"]);
}

#[test]
fn a_refusal_names_its_key() {
    let error = render(&pack(), "x = 1\n", &Inputs::default()).unwrap_err();
    assert_eq!(error.to_string(), "Configuration with key server.hostname doesn't exist");
    assert_eq!(error.keys(), ["server.url", "server.hostname"]);
    let error = render(&pack(), "host = 'h'\n[db]\ndriver = 'x'\n", &Inputs::default()).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.keys()), ("a driver is a class", vec!["db.driver"]));
}

#[test]
fn a_key_is_found_in_the_output() {
    let pack = pack();
    let known = KnownKeys::of(&pack);
    let places = |key: &str| -> Vec<String> {
        let uses = &known.find(key).unwrap().1.uses;
        let places = locate(&pack, TOML, &Inputs::default(), (uses, None)).unwrap();
        places
            .iter()
            .map(|place| format!("{} {} {:?}", place.file, place.template_line, place.lines))
            .collect()
    };
    assert_eq!(places("server.url"), ["conf/a.xml 2 [2]"]);
    assert_eq!(places("db.type"), ["conf/a.xml 3 []"]);
    assert_eq!(places("props.one"), ["b.properties 2 [1, 2]"]);
    assert_eq!(places("cache.timeout"), ["b.properties 4 [3]"]);
}

fn small(template: &str, dialect: crate::Dialect) -> Pack {
    let rules = ["key-mappings.json", "infer.json", "default.json", "unit-resolve.json", "validator.json"];
    let files = rules.map(|name| (name, "{}")).into_iter().chain([("templates/a.j2", template)]);
    let files = files.map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec()));
    Pack::load_as(files, Some(dialect)).unwrap()
}

#[test]
fn runtime_secrets_count_since_mapper_1_0_13() {
    let toml = "a = '$secret{x}'\n[runtime_secrets]\nenable = 'true'\n";
    let said = |product, version: &str| {
        let dialect = crate::Dialect::of(product, version.parse().unwrap());
        let pack = small("{{ a }}", dialect);
        render(&pack, toml, &Inputs::default()).map_or_else(|error| error.to_string(), |_| "ok".to_owned())
    };
    let unknown = "Secret references can't be resolved for x";
    assert_eq!(said(crate::Product::IdentityServer, "5.10.0"), unknown);
    assert_eq!(said(crate::Product::IdentityServer, "5.11.0"), unknown);
    assert_eq!(said(crate::Product::ApiManager, "3.2.0"), unknown);
    assert_eq!(said(crate::Product::IdentityServer, "6.0.0"), "ok");
    assert_eq!(said(crate::Product::ApiManager, "4.0.0"), "ok");
}

#[test]
fn a_failed_expression_is_named_by_its_exception_in_old_engines() {
    let said = |version: &str, template: &str| {
        let dialect = crate::Dialect::of(crate::Product::ApiManager, version.parse().unwrap());
        let pack = small(template, dialect);
        render(&pack, "a = 'x'\n", &Inputs::default()).unwrap_err().to_string()
    };
    for template in ["{{ a.toList() }}", "{{ a.b() }}", "{{ a * 2 }}"] {
        let new = said("4.2.0", template);
        assert!(new.starts_with("Cannot "), "{new}");
        assert_eq!(said("4.0.0", template), format!("TemplateSyntaxException: {new}"));
    }
}
