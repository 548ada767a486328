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
    check(
        "[database.main]\ntype = 'postgresql'",
        &["CV511 4"],
        "[database.main]\ntype = 'postgresql'\ndriver = 'd'\nurl = 'u'",
    );
    assert_eq!(found("[database.main]\ntype = '$env{DB}'"), ["CV511 4"]);
    assert_eq!(found("[database.main]\ntype = 'postgre'\nhost = 'x'"), Vec::<String>::new());
}

#[test]
fn rules_that_the_product_does_not_enforce_are_told() {
    check("[feature]\nmode = 'custom'", &["CV512 4"], "[feature]\nmode = 'custom'\nimpl = 'x'");
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
