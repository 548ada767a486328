use std::collections::BTreeMap;

use fleet::preflight::needs;

use super::*;

fn login(text: &str) -> Login {
    let text = format!("[database.x]\nurl = '{text}'\nusername = 'u'\npassword = 'S3CRET'\n");
    let needs = needs::read(&text, "wso2am-4.5", &BTreeMap::new()).unwrap();
    needs.databases[0].login.clone().unwrap()
}

#[test]
fn versions_are_named_by_who_made_them() {
    for (text, expected) in [
        ("8.0.36", "MySQL 8.0.36"),
        ("8.0.36-0ubuntu0.22.04.1", "MySQL 8.0.36"),
        ("10.11.6-MariaDB-0+deb12u1", "MariaDB 10.11.6"),
        ("5.5.5-10.3.39-MariaDB", "MariaDB 10.3.39"),
    ] {
        assert_eq!(mysql_version(text), expected);
    }
}

#[test]
fn refusals_absent_databases_and_full_servers_are_told_apart_by_their_numbers() {
    let words = || "no".to_owned();
    for (number, expected) in [
        (1045, LoginFact::Refused(words())),
        (1044, LoginFact::Refused(words())),
        (1130, LoginFact::Refused(words())),
        (1049, LoginFact::NoDatabase(words())),
        (1040, LoginFact::Full(words())),
        (1226, LoginFact::Full(words())),
        (1251, LoginFact::Unclear(words())),
    ] {
        assert_eq!(of_mysql(number, words()), expected, "{number}");
    }
    for (state, expected) in [
        ("28P01", LoginFact::Refused(words())),
        ("28000", LoginFact::Refused(words())),
        ("42501", LoginFact::Refused(words())),
        ("3D000", LoginFact::NoDatabase(words())),
        ("53300", LoginFact::Full(words())),
        ("57P03", LoginFact::Unclear(words())),
    ] {
        assert_eq!(of_postgresql(state, words()), expected, "{state}");
    }
}

#[test]
fn a_database_that_repeats_the_password_or_writes_escapes_is_not_quoted_so() {
    let login = login("jdbc:mysql://db/x");
    assert_eq!(
        words("no S3CRET for \u{1b}[2Ju", &login),
        format!("no {} for \\u001b[2Ju", fleet::finding::MASK)
    );
}

#[test]
fn names_of_schemas_cannot_leave_their_quotes() {
    let login = login("jdbc:postgresql://db/x?currentSchema=a,it%27%27s");
    let asked = postgresql_tables(&login.schemas);
    assert!(asked.ends_with("n.nspname IN ('a', 'it''''s')"), "{asked}");
    assert!(postgresql_tables(&[]).ends_with("pg_catalog.pg_table_is_visible(c.oid)"));
}

#[tokio::test]
async fn the_same_login_is_tried_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let table = |name: &str, user: &str| {
        format!(
            "[database.{name}]\nurl = 'jdbc:mysql://127.0.0.1:{port}/x'\nusername = '{user}'\npassword = 'p'\n"
        )
    };
    let text = [table("a", "u"), table("b", "u"), table("c", "other")].concat();
    let databases = needs::read(&text, "wso2am-4.5", &BTreeMap::new()).unwrap().databases;
    let mut connections = 0;
    let looked = {
        let trust = Truststore::default();
        let look = try_all(databases, &[], &trust);
        tokio::pin!(look);
        loop {
            tokio::select! {
                looked = &mut look => break looked,
                // Accepted and closed.
                accepted = listener.accept() => {
                    drop(accepted);
                    connections += 1;
                }
            }
        }
    };
    assert_eq!(connections, 2);
    assert!(looked.iter().all(|one| matches!(one.fact, LoginFact::Unclear(_))), "{looked:?}");
}
