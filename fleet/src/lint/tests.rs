use carbon::pack::RESOURCES;

use super::*;
use crate::finding::Severity;

/// A small pack with one of each thing that the checks look for.
fn facts() -> PackFacts {
    let template = "<a>\n<h>{{ server.hostname }}</h>\n<u>{{ database.main.url }}</u>\n\
                    {% if feature.enable is sameas true %}<on/>{% endif %}\n\
                    {% if feature.old %}<old/>{% endif %}\n\
                    {% for env in gateway.environment %}<e n=\"{{ env.name }}\">{{ env.url }}</e>{% endfor %}\n\
                    <p>{{ super_admin.password }}</p>\n<m>{{ feature.mode }}</m>\n</a>";
    let files = [
        ("key-mappings.json", r#"{"feature.on": "feature.enable"}"#),
        (
            "infer.json",
            r#"{"database.$1.type": {"postgre": {"database.$1.driver": "d", "database.$1.url": "$ref{database.$1.host}"}}}"#,
        ),
        (
            "default.json",
            r#"{"feature.enable": true, "feature.old": false, "feature.dead": "x", "feature.mode": "a",
                "needs.host": "$ref{server.hostname}", "cache.timeout": "15m"}"#,
        ),
        ("unit-resolve.json", r#"{"time": {"cache.timeout": "s"}}"#),
        (
            "validator.json",
            r#"{"feature.mode": [{"regex": "a|b|custom"}],
                "feature.impl": [{"if": {"feature.mode": "custom"}, "match_regex": ".+", "error_message": "impl is needed"}]}"#,
        ),
        ("templates/conf/a.xml.j2", template),
    ];
    let files = files.map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec()));
    PackFacts::new(Pack::load(files.into_iter()).unwrap())
}

/// Code and line of every finding, in order.
fn found(text: &str) -> Vec<String> {
    let text = format!("[server]\nhostname = 'h'\n{text}");
    let findings = with_pack(&Subject::file("deployment.toml", &text), &facts());
    let place = |finding: &Finding| finding.place.as_ref().map_or(0, |place| place.line);
    findings.iter().map(|finding| format!("{} {}", finding.code, place(finding))).collect()
}

#[track_caller]
fn check(bad: &str, expected: &[&str], good: &str) {
    assert_eq!(found(bad), expected, "{bad}");
    assert_eq!(found(good), Vec::<String>::new(), "{good}");
}

#[test]
fn a_configuration_that_the_mapper_refuses_is_an_error_with_its_line() {
    check("[feature]\nmode = 'c'", &["CV501 4"], "[feature]\nmode = 'b'");
    check("[cache]\ntimeout = '3 weeks'", &["CV501 4"], "[cache]\ntimeout = '3 m'");
    let findings = with_pack(&Subject::file("deployment.toml", "[feature]\nmode = 'a'"), &facts());
    assert_eq!(findings[0].code, "CV501");
    assert!(findings[0].message.contains("there is no server.hostname"), "{}", findings[0]);
    let findings = with_pack(&Subject::file("deployment.toml", "a = [1, 'x']\n"), &facts());
    assert_eq!(findings[0].place.as_ref().unwrap().line, 1);
}

#[test]
fn a_table_that_is_opened_after_its_child_is_told_with_its_line() {
    for facts in [None, Some(facts())] {
        let text = "[server]\nhostname = 'h'\n[[gateway.environment]]\nname = 'a'\n[gateway]\nx = 1\n";
        let mut report = Report::default();
        let subject = Subject::file("deployment.toml", text);
        match &facts {
            Some(facts) => look(&subject, (facts, &Judged::default()), &mut report),
            None => without_pack(&subject, &mut report),
        }
        let findings = report.into_findings();
        let place = findings[0].place.as_ref().unwrap();
        assert_eq!((findings.len(), findings[0].code, place.line), (1, "CV501", 5));
        assert!(findings[0].message.contains("[gateway] is opened after a table inside it (line 3)"));
        assert!(findings[0].message.contains("java.lang.StackOverflowError"), "{}", findings[0]);
    }
}

#[test]
fn a_refusal_hides_neither_another_nor_anything_else() {
    let text = "[feature]\nmode = 'c'\n[cache]\ntimeout = '3 weeks'\n\
                [database.main]\nurl = 'jdbc:mysql://h/d?a=1&b=2'\ntype = 'postgresql'\n";
    let findings = with_pack(&Subject::file("deployment.toml", text), &facts());
    let mut codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    codes.sort_unstable();
    // Host name, unit, rule; inference; XML.
    assert_eq!(codes, ["CV501", "CV501", "CV501", "CV510", "CV511"], "{findings:#?}");
}

#[test]
fn unknown_variables_do_not_make_up_refusals() {
    assert_eq!(found("[feature]\nmode = '$env{MODE}'"), Vec::<String>::new());
    assert_eq!(found("[cache]\ntimeout = '$sys{cache}'"), Vec::<String>::new());
}

#[test]
fn unknown_keys_come_with_the_nearest_known_one() {
    check("[feature]\nmod = 'b'", &["CV502 4"], "[feature]\nmode = 'b'");
    let text = "[server]\nhostname = 'h'\nhostnam = 'x'\n[apim.x]\na = 1\nb = 2\n";
    let findings = with_pack(&Subject::file("deployment.toml", text), &facts());
    let shown: Vec<&str> = findings.iter().map(|finding| finding.remedy.as_str()).collect();
    assert_eq!(shown[0], "did you mean server.hostname?");
    assert_eq!(findings.len(), 2, "a table that is wholly unknown is told once: {findings:#?}");
}

#[test]
fn wrong_brackets_are_told_with_the_right_ones() {
    check(
        "[gateway.environment]\nname = 'a'\nurl = 'b'",
        &["CV503 4"],
        "[[gateway.environment]]\nname = 'a'\nurl = 'b'",
    );
    // Elements of a list may be named tables: templates loop over the values of either.
    assert_eq!(found("[gateway.environment.east]\nname = 'a'"), Vec::<String>::new());
    check("[[feature]]\nmode = 'b'", &["CV503 4"], "[feature]\nmode = 'b'");
    assert_eq!(found("[gateway]\nenvironment = ['a']"), ["CV503 4"]);
}

#[test]
fn a_quoted_boolean_under_an_identity_test_is_told() {
    check("[feature]\nenable = 'true'", &["CV504 4"], "[feature]\nenable = true");
    assert_eq!(found("[feature]\non = 'true'"), ["CV504 4"], "under its old name, too");
    assert_eq!(found("[feature]\nold = 'true'"), Vec::<String>::new(), "where the text counts as well");
}

#[test]
fn a_value_of_another_kind_than_the_default_is_told() {
    check("[feature]\nold = 'yes'", &["CV505 4"], "[feature]\nold = false");
    assert_eq!(found("[feature]\nold = 1"), ["CV505 4"]);
}

#[test]
fn references_inside_lists_of_tables_stay_literal() {
    check(
        "[[gateway.environment]]\nname = '$ref{server.hostname}'",
        &["CV506 4"],
        "[[gateway.environment]]\nname = '$env{HOST}'",
    );
}

#[test]
fn old_mappers_leave_variables_in_lists_of_tables() {
    let text = "[server]\nhostname = 'h'\n[[gateway.environment]]\nname = '$env{HOST}'";
    let mut old = facts();
    old.pack.dialect.mapper = carbon::Version::new(1, 0, 2);
    let codes = |facts: &PackFacts| -> Vec<&str> {
        with_pack(&Subject::file("deployment.toml", text), facts).iter().map(|finding| finding.code).collect()
    };
    assert_eq!(codes(&old), ["CV507"]);
    assert_eq!(codes(&facts()), Vec::<&str>::new());
}

#[test]
fn every_alias_is_checked_and_not_only_the_first() {
    let text = "[super_admin]\npassword = '$secret{one}'\n[database.main]\nurl = '$secret{two}'\n[secrets]\n";
    let told = |aliases: &str| {
        let findings = found(&format!("{text}{aliases}"));
        findings.into_iter().filter(|found| found.starts_with("CV50")).collect::<Vec<_>>()
    };
    assert_eq!(told("one = 'x'\ntwo = 'y'"), Vec::<String>::new());
    // Which of the two the mapper sees first is a matter of its hash order; here both are told either way.
    assert_eq!(told("three = 'x'"), ["CV508 4", "CV501 6"]);
}

#[test]
fn keys_that_nothing_reads_are_told() {
    check("[feature]\ndead = 'y'", &["CV509 4"], "[feature]\nmode = 'a'");
}

#[test]
fn a_key_of_an_open_map_is_read_by_the_loop_over_the_map() {
    let template = "{% for name, value in transport.properties.items() %}<p n=\"{{ name }}\">{{ value }}</p>\n{% endfor %}";
    let loaded = pack_of(&[
        ("default.json", r#"{"transport.properties.port": "9443", "transport.other": "x"}"#),
        ("templates/conf/a.xml.j2", template),
    ]);
    let codes = |text: &str| -> Vec<&str> {
        let findings = with_pack(&Subject::file("deployment.toml", text), &loaded);
        findings.iter().map(|finding| finding.code).collect()
    };
    assert_eq!(codes("[transport.properties]\nport = '9444'"), Vec::<&str>::new());
    assert_eq!(codes("[transport]\nother = 'y'"), ["CV509"]);
}

#[test]
fn a_refusal_inside_a_template_names_the_key_that_it_was_about_to_read() {
    let template = "<a>\n{% if server.mode is even %}x{% endif %}\n<b>{{ server.name }}</b>\n</a>";
    let loaded = pack_of(&[("templates/conf/a.xml.j2", template)]);
    let text = "[server]\nname = 'x'\nmode = 'y'\n";
    let findings = with_pack(&Subject::file("deployment.toml", text), &loaded);
    assert_eq!((findings[0].code, findings[0].place.as_ref().map(|place| place.line)), ("CV501", Some(3)));
    assert!(findings[0].message.contains("server.mode"), "{}", findings[0]);
    assert_eq!(with_pack(&Subject::file("d", "[server]\nname = 'x'\nmode = 2\n"), &loaded), Vec::new());
}

fn pack_of(files: &[(&str, &str)]) -> PackFacts {
    let rules = carbon::pack::RULE_FILES.map(|file| (file, "{}"));
    let rules = rules.iter().filter(|(file, _)| !files.iter().any(|(other, _)| other == file));
    let files =
        rules.chain(files).map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec()));
    PackFacts::new(Pack::load(files.collect::<Vec<_>>().into_iter()).unwrap())
}

#[test]
fn without_a_pack_secrets_in_clear_are_told_and_those_that_were_filled_in_are_not() {
    let sources = |password: &str| {
        let text = "name = 'x'\n[groups.g]\nproduct = 'wso2is-7.2'\nlayers = ['a']\n[nodes.n]\ngroup = 'g'\nhost = 'h'\nhome = '/opt/x'\n";
        let layer = format!("[server]\nhostname = 'h'\n[super_admin]\npassword = \"{password}\"\n");
        crate::spec::Sources(BTreeMap::from([
            ("fleet.toml".to_owned(), text.as_bytes().to_vec()),
            ("config/a.toml".to_owned(), layer.into_bytes()),
        ]))
    };
    let name = crate::spec::SecretName::parse("admin").unwrap();
    let values = BTreeMap::from([(name, crate::spec::Secret::new("hunter2"))]);
    let secrets = crate::spec::Secrets::new(values, crate::spec::Absent::Refuse);
    let told = |password: &str| -> Vec<String> {
        let composed = crate::spec::compose_with(&sources(password), &secrets).fleet.unwrap();
        let findings = fleet(&composed, &Packs::new(), ClearText::Tell);
        let findings = findings.iter().filter(|finding| finding.code == "CV513");
        findings.map(|finding| finding.place.as_ref().unwrap().file.clone()).collect()
    };
    assert_eq!(told("hunter2"), ["config/a.toml"]);
    assert_eq!(told("{{ secret('admin') }}"), Vec::<String>::new());
}

#[test]
fn values_that_break_the_xml_are_errors_and_name_the_key() {
    check(
        "[database.main]\nurl = 'jdbc:x?a=1&b=2'",
        &["CV510 4"],
        "[database.main]\nurl = 'jdbc:x?a=1&amp;b=2'",
    );
    assert_eq!(found("[[gateway.environment]]\nname = 'a\"b<'"), ["CV510 3"]);
}

#[test]
fn inference_that_will_not_fire_names_what_is_missing() {
    assert_eq!(found("[database.main]\ntype = 'postgresql'"), ["CV511 4"]);
    // Nothing is missing, and so the type decides nothing; no template of this product prints the driver.
    let complete = "[database.main]\ntype = 'postgresql'\ndriver = 'd'\nurl = 'u'";
    assert_eq!(found(complete), ["CV559 4", "CV559 5"]);
    assert_eq!(found("[database.main]\ntype = '$env{DB}'"), ["CV511 4"]);
    assert_eq!(found("[database.main]\ntype = 'postgre'\nhost = 'x'"), Vec::<String>::new());
}

#[test]
fn rules_that_the_product_does_not_enforce_are_told() {
    check("[feature]\nmode = 'custom'", &["CV512 4"], "[feature]\nmode = 'b'");
    // The rule is kept, and still no file is made from the value.
    assert_eq!(found("[feature]\nmode = 'custom'\nimpl = 'x'"), ["CV559 5"]);
}

#[test]
fn secrets_in_clear_are_told_and_never_shown() {
    check(
        "[super_admin]\npassword = 'hunter2'",
        &["CV513 4"],
        "[super_admin]\npassword = 'placeholder-for-super_admin.password'",
    );
    let text = "[server]\nhostname = 'h'\n[super_admin]\npassword = 'hunter2'\n[secrets]\nx = '[hunter2]'\n";
    let findings = with_pack(&Subject::file("deployment.toml", text), &facts());
    assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["CV513", "CV514"]);
    assert!(!format!("{findings:?}").contains("hunter2"), "{findings:#?}");
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning));
}

#[test]
fn a_file_that_only_the_template_breaks_blames_no_key() {
    let mut facts = facts();
    let text = "[server]\nhostname = 'h'\n[database.main]\nurl = 'a&b'\n";
    facts.pack.templates[0].output = "conf/a.txt".into();
    let subject = Subject::file("deployment.toml", text);
    assert_eq!(with_pack(&subject, &facts), Vec::new(), "only XML files are parsed");
}
