use serde_json::{Value, json};

use super::{
    Account, AdminApi, Connector, Elsewhere, KeyManagers, Registration, body,
    work::{Outcome, Standing, Step, Task, Trouble, Work, find, trouble},
};
use crate::{bundle::DriftPolicy, spec::Secret};
use std::time::Duration;

fn registration() -> Registration {
    Registration {
        name: "IS7".into(),
        connector: Connector::Is7,
        server: "https://km.example.org".into(),
        display_name: "Identity Server".into(),
        grant_types: vec!["client_credentials".into(), "refresh_token".into()],
        role_creation: Some(true),
        account: Account { user: "admin".into(), password: Secret::new("is-secret") },
        drift: DriftPolicy::Enforce,
        check_interval: Duration::from_secs(600),
        admin: AdminApi {
            url: "https://localhost:9443".into(),
            account: Account { user: "admin".into(), password: Secret::new("am-secret") },
            certificate: None,
        },
    }
}

/// As the server gives it back: the password masked, fields of its own, endpoints in both forms.
fn served(wanted: &Value) -> Value {
    let mut served = wanted.clone();
    served["id"] = json!("k-1");
    served["wellKnownEndpoint"] = json!("");
    served["permissions"] = json!({"permissionType": "PUBLIC", "roles": []});
    served["additionalProperties"]["Password"] = json!("*****");
    served["additionalProperties"]["self_validate_jwt"] = json!(true);
    served["endpoints"] = json!([
        {"name": "token_endpoint", "value": wanted["tokenEndpoint"]},
        {"name": "well_known_endpoint", "value": "https://elsewhere"},
    ]);
    served
}

#[test]
fn the_body_has_wso2s_values() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&body::wanted(&registration())).unwrap());
}

#[test]
fn the_older_generation_has_its_own_endpoints() {
    let old = Registration { connector: Connector::Is, role_creation: None, ..registration() };
    let body = body::wanted(&old);
    assert_eq!(body["type"], "WSO2-IS");
    assert_eq!(
        body["clientRegistrationEndpoint"],
        "https://km.example.org/keymanager-operations/dcr/register"
    );
    assert_eq!(body["userInfoEndpoint"], "https://km.example.org/keymanager-operations/user-info/claims");
    assert_eq!(body["additionalProperties"], json!({"Username": "admin", "Password": "is-secret"}));
}

#[test]
fn only_what_was_declared_is_compared() {
    let wanted = body::wanted(&registration());
    let same = served(&wanted);
    assert_eq!(body::differences(&wanted, &same), []);
    type Edit = fn(&mut Value);
    let table: [(Edit, &[&str]); 9] = [
        (|it| it["availableGrantTypes"] = json!(["refresh_token", "client_credentials"]), &[]),
        (|it| it["additionalProperties"]["enable_roles_creation"] = json!("true"), &[]),
        (|it| it["additionalProperties"]["Password"] = json!(null), &[]),
        (|it| it["additionalProperties"]["hers"] = json!(1), &[]),
        (
            |it| it["tokenEndpoint"] = json!("https://evil"),
            &["tokenEndpoint is https://evil, not https://km.example.org/oauth2/token"],
        ),
        (
            |it| it["endpoints"][0]["value"] = json!("https://evil"),
            &["endpoints.token_endpoint is https://evil, not https://km.example.org/oauth2/token"],
        ),
        (|it| it["enabled"] = json!(false), &["enabled is false, not true"]),
        (
            |it| {
                it.as_object_mut().unwrap().remove("enableSelfValidationJWT");
            },
            &["enableSelfValidationJWT is absent, not true"],
        ),
        (
            |it| it["availableGrantTypes"] = json!(["password"]),
            &["availableGrantTypes is password, not client_credentials refresh_token"],
        ),
    ];
    for (edit, expected) in table {
        let mut edited = same.clone();
        edit(&mut edited);
        let found: Vec<String> =
            body::differences(&wanted, &edited).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn what_nobody_declared_stays() {
    let wanted = body::wanted(&registration());
    let mut edited = served(&wanted);
    edited["tokenEndpoint"] = json!("https://evil");
    edited["endpoints"][0]["value"] = json!("https://evil");
    edited["claimMapping"] = json!([{"remoteClaim": "a", "localClaim": "b"}]);
    let merged = body::merged(&wanted, &edited);
    assert_eq!(merged["tokenEndpoint"], "https://km.example.org/oauth2/token");
    assert_eq!(merged["endpoints"][0]["value"], "https://km.example.org/oauth2/token");
    assert_eq!(merged["endpoints"][1]["value"], "https://elsewhere");
    for field in ["id", "permissions", "claimMapping", "wellKnownEndpoint"] {
        assert_eq!(merged[field], edited[field], "{field}");
    }
    assert_eq!(merged["additionalProperties"]["self_validate_jwt"], true);
    assert_eq!(merged["additionalProperties"]["Password"], "is-secret", "the server gave a mask");
    assert_eq!(body::differences(&wanted, &merged), []);
}

#[test]
fn it_is_found_by_name_and_type() {
    let list = |kind: &str| json!({"count": 1, "list": [{"id": "a", "name": "Resident", "type": "default"}, {"id": "b", "name": "IS7", "type": kind}]});
    assert_eq!(find(&list("WSO2-IS-7"), &registration()), Ok(Standing::Present { id: "b".into() }));
    assert_eq!(find(&list("Keycloak"), &registration()), Ok(Standing::OtherType("Keycloak".into())));
    assert_eq!(find(&json!({"count": 0, "list": []}), &registration()), Ok(Standing::Absent));
    assert!(find(&json!({"error": "x"}), &registration()).is_err(), "no list is not an empty list");
    let evil = json!({"list": [{"id": "../x", "name": "IS7", "type": "WSO2-IS-7"}]});
    assert!(find(&evil, &registration()).is_err(), "an id becomes a part of a URL");
}

#[test]
fn a_step_follows_from_task_and_server() {
    let wanted = body::wanted(&registration());
    let (same, mut edited, mut foreign) = (served(&wanted), served(&wanted), served(&wanted));
    edited["enabled"] = json!(false);
    foreign["description"] = json!("by hand");
    let check = |correct| Task::Check { correct };
    let remove = |confirmed| Task::Remove { confirmed };
    let table: [(Task, Option<&Value>, &str); 13] = [
        (Task::Apply, None, "create"),
        (Task::Apply, Some(&same), "replace of 0"),
        (Task::Apply, Some(&edited), "replace of 1"),
        (check(true), None, "create"),
        (check(true), Some(&same), "AsDeclared"),
        (check(true), Some(&edited), "replace of 1"),
        (check(false), None, "Differs of 1"),
        (check(false), Some(&edited), "Differs of 1"),
        (remove(true), None, "WasGone"),
        (remove(true), Some(&foreign), "delete"),
        (remove(false), Some(&foreign), "Left"),
        (remove(false), Some(&edited), "delete"),
        (remove(false), None, "WasGone"),
    ];
    for (task, served, expected) in table {
        let work = Work { registration: registration(), task };
        let standing = served.map_or(Standing::Absent, |_| Standing::Present { id: "k-1".into() });
        let said = match work.step(&standing, served).unwrap() {
            Step::Create(_) => "create".to_owned(),
            Step::Replace { was, .. } => format!("replace of {}", was.len()),
            Step::Delete => "delete".to_owned(),
            Step::End(Outcome::Differs(found)) => format!("Differs of {}", found.len()),
            Step::End(outcome) => format!("{outcome:?}"),
        };
        assert_eq!(said, expected, "{task:?} {served:?}");
    }
    let other = Standing::OtherType("Keycloak".into());
    let step = |task| Work { registration: registration(), task }.step(&other, None);
    assert_eq!(step(Task::Apply), Err(Trouble::OtherType("Keycloak".into())));
    assert_eq!(step(check(true)), Err(Trouble::OtherType("Keycloak".into())));
    assert_eq!(step(remove(true)), Ok(Step::End(Outcome::WasGone)), "what is somebody else's is not deleted");
}

#[test]
fn a_server_that_keeps_a_field_as_it_likes_is_told() {
    let work = Work { registration: registration(), task: Task::Apply };
    let mut kept = served(&body::wanted(&registration()));
    assert_eq!(work.written(None, &kept), Outcome::Registered);
    assert_eq!(work.written(Some(Vec::new()), &kept), Outcome::Written(Vec::new()));
    kept.as_object_mut().unwrap().remove("displayRevokeEndpoint");
    let Outcome::NotKept(left) = work.written(None, &kept) else { panic!("it was not kept") };
    assert_eq!(left[0].field, "displayRevokeEndpoint");
}

#[test]
fn an_error_is_told_apart_by_its_status() {
    let refused =
        br#"{"code":901401,"message":"Required Key Manager configuration missing","description":"x\u0007"}"#;
    let table = [
        (401, Trouble::Denied("status 401".into())),
        (404, Trouble::Away("status 404".into())),
        (503, Trouble::Away("status 503".into())),
    ];
    for (status, expected) in table {
        assert_eq!(trouble(status, b"<html>"), expected);
    }
    let said = trouble(400, refused).to_string();
    assert!(
        said.contains("901401") && said.contains("Required Key Manager") && !said.contains('\u{7}'),
        "{said}"
    );
}

#[test]
fn nothing_that_is_shown_holds_a_secret() {
    let one = registration();
    let mut served = served(&body::wanted(&one));
    served["additionalProperties"]["Password"] = json!("theirs");
    let shown = format!("{one} {one:?} {:?}", body::differences(&body::wanted(&one), &served));
    for secret in ["is-secret", "am-secret", "theirs"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn a_bundle_is_known_by_its_secrets_too() {
    let of = |password: &str| {
        let account = Account { user: "admin".into(), password: Secret::new(password) };
        KeyManagers { kept: vec![Registration { account, ..registration() }], elsewhere: Vec::new() }
            .canonical()
    };
    assert_ne!(of("a"), of("b"));
    assert_eq!(KeyManagers::default().canonical(), None, "a bundle of an earlier version keeps its digest");
    let elsewhere = Elsewhere { name: "IS7".into(), keeper: "am-1".parse().unwrap() };
    let other = KeyManagers { kept: Vec::new(), elsewhere: vec![elsewhere] };
    assert!(other.canonical().is_some());
}

#[test]
fn what_is_impossible_is_refused() {
    type Edit = fn(&mut Registration);
    let table: [(&str, Edit); 7] = [
        ("name", |one| one.name = " ".into()),
        ("name", |one| one.name = "a\nb".into()),
        ("url", |one| one.server = "http://km".into()),
        ("url", |one| one.server = "https://admin@km".into()),
        ("url", |one| one.server = "https://km/path".into()),
        ("grant_types", |one| one.grant_types = vec!["a b".into()]),
        ("username", |one| one.account.user = "a:b".into()),
    ];
    assert_eq!(registration().problem(), None);
    for (key, edit) in table {
        let mut one = registration();
        edit(&mut one);
        assert_eq!(one.problem().map(|(key, _)| key), Some(key));
    }
}
