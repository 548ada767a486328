use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    key_manager::{Account, AdminApi, Connector},
    spec::Secret,
};

fn declared(edit: impl FnOnce(&mut Registration)) -> KeyManagers {
    let account = |password: &str| Account { user: "admin".into(), password: Secret::new(password) };
    let mut one = Registration {
        name: "IS7".into(),
        connector: Connector::Is7,
        server: "https://km.example.org".into(),
        display_name: "IS7".into(),
        grant_types: vec!["client_credentials".into()],
        role_creation: None,
        account: account("is-secret"),
        drift: DriftPolicy::Enforce,
        check_interval: Duration::from_secs(600),
        admin: AdminApi {
            url: "https://localhost:9443".into(),
            account: account("am-secret"),
            certificate: None,
        },
    };
    edit(&mut one);
    KeyManagers { kept: vec![one], elsewhere: Vec::new() }
}

fn difference(field: &str, wanted: &str, found: &str) -> Difference {
    Difference { field: field.into(), wanted: wanted.into(), found: found.into() }
}

fn found(kind: &str, differences: &[Difference]) -> Registered {
    let one = Found { name: "IS7".into(), kind: kind.into(), differences: differences.to_vec() };
    let other = Found { name: "Resident".into(), kind: "default".into(), differences: Vec::new() };
    Registered::Listed(vec![other, one])
}

#[test]
fn a_plan_tells_what_stands_at_the_admin_api() {
    let same = || declared(|_| ());
    let with = |policy| declared(move |one| one.drift = policy);
    let token = |text: &str| declared(|one| one.server = text.to_owned());
    let disabled = difference("enabled", "true", "false");
    let grants = difference("availableGrantTypes", "client_credentials", "password");
    let listed = difference(
        "endpoints.token_endpoint",
        "https://km.example.org/oauth2/token",
        "https://new.example.org/oauth2/token",
    );
    let none = KeyManagers::default;
    let table = [
        (same(), same(), found("WSO2-IS-7", &[]), ""),
        (same(), same(), found("WSO2-IS-7", std::slice::from_ref(&disabled)), "enabled is false, not true"),
        (same(), same(), found("default", &[]), "with the type default, which Convoy does not touch"),
        (same(), same(), Registered::Listed(Vec::new()), "am-1: its Admin API has no Key Manager IS7"),
        (none(), same(), Registered::Listed(Vec::new()), ""),
        (none(), same(), found("WSO2-IS-7", &[]), "has a Key Manager IS7 already, which nobody declared"),
        (same(), none(), found("WSO2-IS-7", std::slice::from_ref(&disabled)), ""),
        (same(), same(), Registered::Unknown("away".into()), "are not known now: away"),
        (same(), none(), Registered::Unknown("away".into()), ""),
        // What the fleet takes over is no difference any more, in either form of an endpoint.
        (
            same(),
            declared(|one| one.grant_types = vec!["password".into()]),
            found("WSO2-IS-7", std::slice::from_ref(&grants)),
            "",
        ),
        (same(), token("https://new.example.org"), found("WSO2-IS-7", std::slice::from_ref(&listed)), ""),
        (
            same(),
            token("https://third.example.org"),
            found("WSO2-IS-7", std::slice::from_ref(&listed)),
            "is https://new.example.org/oauth2/token, not https://third.example.org/oauth2/token",
        ),
        (
            with(DriftPolicy::Ignore),
            with(DriftPolicy::Ignore),
            found("WSO2-IS-7", std::slice::from_ref(&disabled)),
            "",
        ),
        (
            with(DriftPolicy::Report),
            with(DriftPolicy::Report),
            found("WSO2-IS-7", std::slice::from_ref(&disabled)),
            "it is left so",
        ),
        // Another definition is written, whatever the policy.
        (
            same(),
            declared(|one| {
                one.drift = DriftPolicy::Report;
                one.display_name = "other".into();
            }),
            found("WSO2-IS-7", std::slice::from_ref(&disabled)),
            "it is put back",
        ),
    ];
    for (index, (before, new, registered, expected)) in table.into_iter().enumerate() {
        let told: Vec<String> = remarks("am-1", &before, &new, &registered)
            .into_iter()
            .map(|remark| format!("{}; {}", remark.message, remark.remedy))
            .collect();
        let told = told.join("\n");
        assert_eq!(told.is_empty(), expected.is_empty(), "{index}: {told}");
        assert!(told.contains(expected), "{index}: {told}");
    }
}

#[test]
fn a_long_list_of_differences_is_cut() {
    let many: Vec<Difference> = (0..5).map(|n| difference(&format!("f{n}"), "a", "b")).collect();
    let same = declared(|_| ());
    let told = remarks("am-1", &same, &same, &found("WSO2-IS-7", &many));
    assert!(told[0].message.ends_with("f2 is b, not a; and 2 more"), "{told:?}");
}

#[test]
fn what_the_admin_api_lists_is_bounded_and_printable() {
    let list = json!({"list": [{"name": "a\u{1b}[1m", "type": "t".repeat(200)}, {"id": 7}]});
    let read = listed(&list).unwrap();
    assert_eq!((read[0].name.as_str(), read[0].kind.len()), ("a[1m", KIND_MAX));
    assert_eq!(read[1], Found { name: String::new(), kind: String::new(), differences: Vec::new() });
    let many = json!({"list": vec![json!({"name": "a"}); 100]});
    assert_eq!(listed(&many).unwrap().len(), FOUND_MAX);
    for bad in [json!({}), json!([]), json!({"list": 1})] {
        assert!(matches!(listed(&bad), Err(Trouble::Refused(_))), "{bad}");
    }
}
