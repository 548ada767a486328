use std::collections::BTreeMap;

use super::*;
use crate::preflight::needs;

const SHARED: &str = "[database.shared_db]\ntype = 'mysql'\nhostname = 'db'\nport = '3306'\nname = 'shared'\n\
                      username = 'wso2'\npassword = 'S3CRET-1'\n";

fn read(text: &str, product: &str) -> Vec<Database> {
    needs::read(text, product, &BTreeMap::new()).unwrap().databases
}

fn said(database: &Database) -> String {
    match &database.login {
        Err(why) => format!("{}: {why}", database.key),
        Ok(login) => {
            let tables = database.tables.join(" ");
            format!("{}: {} at {} in {:?}, {tables}", database.key, login.user, place(login), login.database)
        }
    }
}

fn looked(fact: LoginFact) -> Looked {
    let database = read(SHARED, "wso2am-4.5").remove(0);
    Looked { database, fact, is_in_use: false }
}

fn inside(tables: &[&str]) -> Inside {
    Inside {
        version: "MariaDB 10.11.6".to_owned(),
        character_set: "utf8mb4".to_owned(),
        collation: "utf8mb4_general_ci".to_owned(),
        connections_max: 151,
        of_server: 151,
        tables: tables.iter().map(|table| (*table).to_owned()).collect(),
    }
}

#[test]
fn a_server_is_told_once_with_the_least_that_it_says() {
    let of = |of_server| LoginFact::In(Inside { of_server, ..inside(&[]) });
    let all = [looked(of(151)), looked(of(40)), looked(of(0)), looked(LoginFact::Full("no".to_owned()))];
    let found = limits(&all);
    assert_eq!(found.iter().map(|limit| limit.connections_max).collect::<Vec<_>>(), [40]);
    assert_eq!(limits(&all[2..]), []);
}

#[test]
fn parts_and_urls_name_a_login_and_the_tables_that_the_product_wants() {
    let identity =
        "[database.identity_db]\nurl = 'jdbc:postgresql://pg/idn'\nusername = 'u'\npassword = 'p'\n";
    let users = "[realm_manager]\ndata_source = 'jdbc/USERS'\n";
    for (text, product, expected) in [
        (
            SHARED.to_owned(),
            "wso2am-4.5",
            "database.shared_db: wso2 at db:3306 in \"shared\", REG_RESOURCE UM_USER",
        ),
        (
            SHARED.to_owned(),
            "wso2is-6.0",
            "database.shared_db: wso2 at db:3306 in \"shared\", REG_RESOURCE UM_USER",
        ),
        (SHARED.to_owned(), "wso2is-7.2", "database.shared_db: wso2 at db:3306 in \"shared\", UM_USER"),
        (
            format!("{users}{SHARED}"),
            "wso2am-4.5",
            "database.shared_db: wso2 at db:3306 in \"shared\", REG_RESOURCE",
        ),
        (format!("{users}{SHARED}"), "wso2is-7.2", "database.shared_db: wso2 at db:3306 in \"shared\", "),
        (
            identity.to_owned(),
            "wso2is-7.2",
            "database.identity_db: u at pg:5432 in \"idn\", IDN_BASE_TABLE IDN_OAUTH2_ACCESS_TOKEN",
        ),
    ] {
        assert_eq!(read(&text, product).iter().map(said).collect::<Vec<_>>(), [expected], "{text}");
    }
}

#[test]
fn what_cannot_be_tried_says_why_and_embedded_databases_are_none() {
    let own = |more: &str| format!("[database.x]\nurl = 'jdbc:mysql://db/x'\n{more}");
    for (text, expected) in [
        (
            SHARED.replace("S3CRET-1", "$secret{shared_password}"),
            "database.shared_db: its password: it holds a secret of the vault, known to the running server only",
        ),
        (own("password = 'p'\n"), "database.x: database.x has no `username`"),
        (own("username = 'u'\n"), "database.x: database.x has no `password`"),
        (
            SHARED.replace("'mysql'", "'oracle'"),
            "database.shared_db: oracle is tried by a connection only (`endpoint`), not by a login",
        ),
        (SHARED.replace("name = 'shared'\n", ""), "database.shared_db: it has neither `url` nor `name`"),
    ] {
        let first = read(&text, "wso2am-4.5").first().map(said);
        assert_eq!(first.as_deref(), Some(expected), "{text}");
    }
    for nothing in ["[database.x]\nurl = 'jdbc:h2:./x'\n", "[database.x]\ntype = 'h2'\nhostname = 'a'\n"] {
        assert_eq!(read(nothing, "wso2am-4.5"), [], "{nothing}");
    }
}

#[test]
fn what_keeps_the_server_from_its_start_fails_and_what_may_be_otherwise_warns() {
    let no = || "no".to_owned();
    let both = ["REG_RESOURCE", "UM_USER"];
    for (fact, word) in [
        (LoginFact::NotTried(no()), "skipped"),
        (LoginFact::Unreached(no()), "skipped"),
        (LoginFact::Silent(5), "fail"),
        (LoginFact::Refused(no()), "fail"),
        (LoginFact::NoDatabase(no()), "fail"),
        (LoginFact::Full(no()), "warn"),
        (LoginFact::Unclear(no()), "warn"),
        (LoginFact::In(inside(&both)), "pass"),
        (LoginFact::In(inside(&both[..1])), "warn"),
        (LoginFact::In(inside(&[])), "fail"),
    ] {
        let looked = looked(fact);
        assert_eq!(outcome(&looked).as_str(), word, "{looked:?}");
    }
    let runs = Looked { is_in_use: true, ..looked(LoginFact::In(inside(&[]))) };
    assert_eq!(outcome(&runs).as_str(), "warn", "the server that runs has them somewhere");
    let refused = Looked { is_in_use: true, ..looked(LoginFact::Refused(no())) };
    assert_eq!(outcome(&refused).as_str(), "fail", "its next start would not get in");
}

#[test]
fn sentences_name_user_place_and_remedy_and_never_the_password() {
    let full = inside(&["REG_RESOURCE", "UM_USER"]);
    let lines =
        [LoginFact::Refused("Access denied".to_owned()), LoginFact::In(inside(&[])), LoginFact::In(full)]
            .map(|fact| check(&[looked(fact)])[0].to_string());
    assert_eq!(
        lines,
        [
            "database database.shared_db: db:3306 refuses wso2: Access denied; correct database.shared_db.username and \
             database.shared_db.password, or let the user in from this host; the server would hang at its start",
            "database database.shared_db: wso2 is let in at db:3306, but sees no table REG_RESOURCE, UM_USER in \
             \"shared\"; run what `convoy schema` names in it, or correct the name or the user's rights",
            "database database.shared_db: db:3306 lets wso2 in to \"shared\": the schema is there, utf8mb4 \
             (utf8mb4_general_ci), MariaDB 10.11.6, 151 connections allowed",
        ]
    );
    let shown = format!("{:?}", looked(LoginFact::Silent(5)));
    assert!(!shown.contains("S3CRET"), "{shown}");
}

#[test]
fn a_database_that_allows_less_than_this_servers_pools_is_told_once() {
    let text = format!(
        "{SHARED}[database.apim_db]\nurl = 'jdbc:mysql://db:3306/apim'\nusername = 'u'\npassword = 'p'\n\
         [database.apim_db.pool_options]\nmaxActive = 120\n"
    );
    let both = read(&text, "wso2am-4.5").into_iter().map(|database| Looked {
        fact: LoginFact::In(inside(&["REG_RESOURCE", "UM_USER", "AM_API", "AM_KEY_MANAGER"])),
        database,
        is_in_use: false,
    });
    let looked: Vec<Looked> = both.collect();
    let said: Vec<String> = check(&looked).iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[2].starts_with(
            "database db:3306: the pools of this server may open 170 connections (database.apim_db, \
             database.shared_db), it allows 151"
        ),
        "{said:?}"
    );
    assert_eq!(check(&looked[1..]).len(), 1, "50 of 151 are enough");
}

#[test]
fn a_postgresql_that_cannot_hold_every_character_is_told() {
    let text = "[database.x]\nurl = 'jdbc:postgresql://pg/x'\nusername = 'u'\npassword = 'p'\n";
    let mut told = Inside { character_set: "LATIN1".to_owned(), ..inside(&[]) };
    let looked = |told: &Inside| Looked {
        database: read(text, "wso2am-4.5").remove(0),
        fact: LoginFact::In(told.clone()),
        is_in_use: false,
    };
    assert_eq!(outcome(&looked(&told)).as_str(), "warn");
    told.character_set = "UTF8".to_owned();
    assert_eq!(outcome(&looked(&told)).as_str(), "pass");
}
