//! The body of a Key Manager as the Admin API takes it: derived from what was declared, compared with what the server
//! has, and put over it.
//!
//! Field names and values are those of WSO2's description of the Admin API (`KeyManagerDTO`) and of its guides for
//! Identity Server 7.x and 5.x/6.x as a Key Manager.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Connector, Registration};

/// Begins the description of every Key Manager that Convoy registers. The Admin API takes 256 characters at most.
pub const KEPT_BY_CONVOY: &str = "Kept by Convoy";

/// In place of a value that is never told.
const HIDDEN: &str = "(hidden)";
/// A told value is cut to this many characters.
const TOLD_MAX: usize = 120;

/// Fields whose values the newer form repeats in `endpoints`, with the name that they have there.
const ENDPOINTS: [(&str, &str); 9] = [
    ("clientRegistrationEndpoint", "client_registration_endpoint"),
    ("introspectionEndpoint", "introspection_endpoint"),
    ("tokenEndpoint", "token_endpoint"),
    ("displayTokenEndpoint", "display_token_endpoint"),
    ("revokeEndpoint", "revoke_endpoint"),
    ("displayRevokeEndpoint", "display_revoke_endpoint"),
    ("userInfoEndpoint", "userinfo_endpoint"),
    ("authorizeEndpoint", "authorize_endpoint"),
    ("scopeManagementEndpoint", "scope_endpoint"),
];

/// What the Admin API shall have of it. Holds the password of the account on the Identity Server.
pub fn wanted(registration: &Registration) -> Value {
    let at = |path: &str| format!("{}{path}", registration.server);
    let (register, user_info) = match registration.connector {
        // The import by well-known URL would fill in /oauth2/userinfo, which does not give what the portal needs.
        Connector::Is7 => ("/api/identity/oauth2/dcr/v1.1/register", "/scim2/Me"),
        Connector::Is => ("/keymanager-operations/dcr/register", "/keymanager-operations/user-info/claims"),
    };
    let mut additional = Map::new();
    additional.insert("Username".into(), json!(registration.account.user));
    additional.insert("Password".into(), json!(registration.account.password.expose()));
    if registration.connector == Connector::Is7 {
        // Without these two: error 901401.
        additional
            .insert("api_resource_management_endpoint".into(), json!(at("/api/server/v1/api-resources")));
        additional.insert("is7_roles_endpoint".into(), json!(at("/scim2/v2/Roles")));
        if let Some(creates) = registration.role_creation {
            additional.insert("enable_roles_creation".into(), json!(creates));
        }
    }
    json!({
        "name": registration.name,
        "displayName": registration.display_name,
        "type": registration.connector.as_str(),
        "description": format!("{KEPT_BY_CONVOY}: changes that are made here do not last"),
        "enabled": true,
        "issuer": at("/oauth2/token"),
        "clientRegistrationEndpoint": at(register),
        "introspectionEndpoint": at("/oauth2/introspect"),
        "tokenEndpoint": at("/oauth2/token"),
        "displayTokenEndpoint": at("/oauth2/token"),
        "revokeEndpoint": at("/oauth2/revoke"),
        "displayRevokeEndpoint": at("/oauth2/revoke"),
        "userInfoEndpoint": at(user_info),
        "authorizeEndpoint": at("/oauth2/authorize"),
        "scopeManagementEndpoint": at("/api/identity/oauth2/v1.0/scopes"),
        "certificates": { "type": "JWKS", "value": at("/oauth2/jwks") },
        "availableGrantTypes": registration.grant_types,
        "enableTokenGeneration": true,
        "enableMapOAuthConsumerApps": true,
        "enableOAuthAppCreation": true,
        // The real switch; a key of that sense in additionalProperties is ignored.
        "enableSelfValidationJWT": true,
        "consumerKeyClaim": "azp",
        "scopesClaim": "scope",
        "tokenType": "DIRECT",
        "additionalProperties": additional,
    })
}

/// A field that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Dotted.
    pub field: String,
    /// Declared, as text; never a secret.
    pub wanted: String,
    /// What the server has, as text; never a secret.
    pub found: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, not {}", self.field, self.found, self.wanted)
    }
}

/// What `served` has otherwise than `wanted`. What the server has beside it is nobody's business here, and a password
/// that it masks or leaves out is no difference.
pub fn differences(wanted: &Value, served: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(("", ""), wanted, Some(served), &mut found);
    for (name, value) in listed(served) {
        let Some(expected) = repeated(name).and_then(|field| wanted.get(field)) else { continue };
        compare((&format!("endpoints.{name}"), ""), expected, Some(value), &mut found);
    }
    found.sort();
    found
}

fn compare((field, key): (&str, &str), wanted: &Value, served: Option<&Value>, out: &mut Vec<Difference>) {
    if key == "Password" {
        return;
    }
    if let Value::Object(fields) = wanted {
        for (name, value) in fields {
            let path = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
            compare((&path, name), value, served.and_then(|served| served.get(name)), out);
        }
        return;
    }
    if served.is_some_and(|served| is_same(wanted, served)) {
        return;
    }
    out.push(Difference {
        field: field.to_owned(),
        wanted: told(key, Some(wanted)),
        found: told(key, served),
    });
}

/// Lists are sets here, and the server may give a number or a switch as a text.
fn is_same(wanted: &Value, served: &Value) -> bool {
    match (wanted, served) {
        (Value::Array(wanted), Value::Array(served)) => {
            let texts = |list: &[Value]| list.iter().map(plain).collect::<BTreeSet<String>>();
            texts(wanted) == texts(served)
        }
        (Value::Bool(_) | Value::Number(_) | Value::String(_), served) => plain(wanted) == plain(served),
        (wanted, served) => wanted == served,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn told(key: &str, value: Option<&Value>) -> String {
    let Some(value) = value.filter(|value| !value.is_null()) else { return "absent".to_owned() };
    if value.is_string() && crate::finding::is_hidden_key(key) {
        return HIDDEN.to_owned();
    }
    let text = match value {
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => plain(other),
    };
    // It comes from outside and goes to people.
    let text: String = text.chars().filter(|c| !c.is_control()).take(TOLD_MAX).collect();
    if text.is_empty() { "empty".to_owned() } else { crate::finding::mask_line(&text) }
}

/// The field that a difference is about: `endpoints.token_endpoint` of the newer form repeats `tokenEndpoint`.
pub(super) fn field_of(field: &str) -> &str {
    field.strip_prefix("endpoints.").and_then(repeated).unwrap_or(field)
}

/// The field whose value the newer form repeats under this name.
fn repeated(listed: &str) -> Option<&'static str> {
    ENDPOINTS.iter().find(|(_, name)| *name == listed).map(|(field, _)| *field)
}

/// `endpoints: [{name, value}]` of the newer form.
fn listed(served: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let list = served.get("endpoints").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|entry| Some((entry.get("name")?.as_str()?, entry.get("value")?)))
}

/// `served` with what is wanted put over it: what nobody declared stays as it is.
pub fn merged(wanted: &Value, served: &Value) -> Value {
    let mut body = served.clone();
    put_over(&mut body, wanted);
    let list = body.get_mut("endpoints").and_then(Value::as_array_mut);
    for entry in list.into_iter().flatten() {
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        let value = repeated(name).and_then(|field| wanted.get(field));
        if let (Some(value), Some(entry)) = (value, entry.as_object_mut()) {
            entry.insert("value".to_owned(), value.clone());
        }
    }
    body
}

fn put_over(body: &mut Value, wanted: &Value) {
    match (body, wanted) {
        (Value::Object(body), Value::Object(wanted)) => {
            for (name, value) in wanted {
                put_over(body.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (body, wanted) => *body = wanted.clone(),
    }
}
