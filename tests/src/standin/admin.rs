//! The parts of an API Manager and an Identity Server that registrations go through, as WSO2's API descriptions have
//! them: the Admin API of Key Managers, dynamic registration of clients, and the password grant.
//!
//! Key Managers are kept in the home, as a database would keep them over a restart.

use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use base64::Engine as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::endpoints::{Answer, Asked, View};

/// Key Managers of a home, as JSON.
pub const FILE: &str = "standin-key-managers.json";
/// The only token that the password grant issues.
const ADMIN_TOKEN: &str = "standin-admin-token-51c2";
/// What the Admin API wants a token to have.
const SCOPE: &str = "apim:admin";
const KEY_MANAGERS: &str = "/api/am/admin/v4/key-managers";
/// What a password looks like when it comes back.
const MASK: &str = "*****";

/// Requests to one home come over several connections.
static DESK: Mutex<()> = Mutex::new(());

/// The answer, if it is one of these endpoints.
pub fn answer(asked: &Asked<'_>, view: &View) -> Option<Answer> {
    let manager = view.role.is_control_plane();
    match (asked.method, asked.path) {
        (&Method::POST, "/client-registration/v0.17/register") if manager => Some(client(asked, view)),
        (&Method::POST, "/api/identity/oauth2/dcr/v1.1/register") if !manager => Some(dcr(asked, view)),
        (&Method::POST, "/oauth2/token") if pair(asked.body, "grant_type").as_deref() == Some("password") => {
            Some(password_grant(asked, view))
        }
        (_, path) if manager && path.starts_with(KEY_MANAGERS) => Some(key_managers(asked, view)),
        _ => None,
    }
}

/// Whether an Identity Server is known and enabled: its tokens open the gateway.
pub fn knows_identity_server(home: &Path) -> bool {
    let _desk = DESK.lock().unwrap_or_else(PoisonError::into_inner);
    read(home).iter().any(|one| {
        one["enabled"] == true && one["type"].as_str().is_some_and(|kind| kind.starts_with("WSO2-IS"))
    })
}

/// A client of the API Manager: the same for the same name and owner.
fn client(asked: &Asked<'_>, view: &View) -> Answer {
    if !is_admin(asked, view) {
        return unauthenticated();
    }
    let Ok(body) = serde_json::from_str::<Value>(asked.body) else { return refused(400, "not JSON") };
    let (Some(name), Some(owner)) = (body["clientName"].as_str(), body["owner"].as_str()) else {
        return refused(400, "clientName and owner are mandatory");
    };
    let answer = json!({
        "clientId": format!("{owner}_{name}"),
        "clientName": name,
        "clientSecret": "standin-client-secret",
        "isSaasApplication": body["saasApp"],
    });
    Answer::json(StatusCode::OK, &answer)
}

/// A client of the Identity Server, RFC 7591.
fn dcr(asked: &Asked<'_>, view: &View) -> Answer {
    if !is_admin(asked, view) {
        return unauthenticated();
    }
    let Ok(body) = serde_json::from_str::<Value>(asked.body) else { return refused(400, "not JSON") };
    let Some(name) = body["client_name"].as_str() else { return refused(400, "client_name is mandatory") };
    let answer = json!({ "client_id": format!("dcr-{name}"), "client_secret": "standin-dcr-secret" });
    Answer::json(StatusCode::CREATED, &answer)
}

fn password_grant(asked: &Asked<'_>, view: &View) -> Answer {
    let oauth = |status, error: &str| Answer::json(status, &json!({ "error": error }));
    if basic(asked).is_none_or(|(_, secret)| secret != "standin-client-secret") {
        return oauth(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let given = (pair(asked.body, "username"), pair(asked.body, "password"));
    if given != (Some(view.admin.0.clone()), Some(view.admin.1.clone())) {
        return oauth(StatusCode::BAD_REQUEST, "invalid_grant");
    }
    let scope = pair(asked.body, "scope").unwrap_or_else(|| "default".to_owned());
    let token = if scope == SCOPE { ADMIN_TOKEN } else { "standin-token-without-scope" };
    let answer = json!({ "access_token": token, "scope": scope, "token_type": "Bearer", "expires_in": 3600 });
    Answer::json(StatusCode::OK, &answer)
}

fn key_managers(asked: &Asked<'_>, view: &View) -> Answer {
    if view.admin_api_away {
        return Answer::text(StatusCode::NOT_FOUND, "Not Found\n");
    }
    let bearer = asked.authorization.and_then(|value| value.strip_prefix("Bearer "));
    if bearer != Some(ADMIN_TOKEN) && !is_admin(asked, view) {
        return unauthenticated();
    }
    let _desk = DESK.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = read(&view.home);
    let id = asked.path.trim_start_matches(KEY_MANAGERS).trim_start_matches('/');
    let found = all.iter().position(|one| one["id"] == id);
    let answer = match (asked.method, id, found) {
        (&Method::GET, "", _) => return Answer::json(StatusCode::OK, &list(&all)),
        (&Method::POST, "", _) => create(asked, &mut all),
        (_, _, None) => return refused(404, "Key Manager not found"),
        (&Method::GET, _, Some(at)) => return Answer::json(StatusCode::OK, &masked(&all[at])),
        (&Method::PUT, _, Some(at)) => replace(asked, &mut all[at]),
        (&Method::DELETE, _, Some(at)) => {
            all.remove(at);
            Answer::text(StatusCode::OK, "")
        }
        _ => return Answer::text(StatusCode::METHOD_NOT_ALLOWED, ""),
    };
    if answer.status.is_success()
        && let Err(error) = write(&view.home, &all)
    {
        return refused(500, &error.to_string());
    }
    answer
}

fn create(asked: &Asked<'_>, all: &mut Vec<Value>) -> Answer {
    let mut body = match checked(asked) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    if all.iter().any(|one| one["name"] == body["name"]) {
        return refused(409, "Key Manager already exists");
    }
    let highest =
        all.iter().filter_map(|one| one["id"].as_str()?.strip_prefix("km-")?.parse::<u64>().ok()).max();
    body["id"] = json!(format!("km-{}", highest.unwrap_or(0) + 1));
    all.push(body.clone());
    Answer::json(StatusCode::CREATED, &masked(&body))
}

/// A PUT takes the whole: what it does not name is gone, and a mask in place of a password keeps the old one.
fn replace(asked: &Asked<'_>, one: &mut Value) -> Answer {
    let mut body = match checked(asked) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    if body["additionalProperties"]["Password"] == MASK {
        body["additionalProperties"]["Password"] = one["additionalProperties"]["Password"].clone();
    }
    body["id"] = one["id"].clone();
    *one = body;
    Answer::json(StatusCode::OK, &masked(one))
}

fn checked(asked: &Asked<'_>) -> Result<Value, Answer> {
    let body: Value = serde_json::from_str(asked.body).map_err(|_| refused(400, "not JSON"))?;
    let has = |key: &str| body[key].as_str().is_some_and(|text| !text.is_empty());
    if !has("name") || !has("type") {
        return Err(refused(400, "name and type are mandatory"));
    }
    if body["description"].as_str().is_some_and(|text| 256 < text.chars().count()) {
        return Err(refused(400, "description: size must be between 0 and 256"));
    }
    let needed = ["Username", "Password", "api_resource_management_endpoint", "is7_roles_endpoint"];
    let given = &body["additionalProperties"];
    if body["type"] == "WSO2-IS-7" && needed.iter().any(|key| given[key].as_str().is_none_or(str::is_empty)) {
        return Err(refused(901_401, "Required Key Manager configuration missing"));
    }
    Ok(body)
}

fn list(all: &[Value]) -> Value {
    let resident =
        json!({ "id": "resident", "name": "Resident Key Manager", "type": "default", "enabled": true });
    let brief = |one: &Value| json!({ "id": one["id"], "name": one["name"], "type": one["type"], "enabled": one["enabled"] });
    let list: Vec<Value> = std::iter::once(resident).chain(all.iter().map(brief)).collect();
    json!({ "count": list.len(), "list": list })
}

fn masked(one: &Value) -> Value {
    let mut shown = one.clone();
    if !shown["additionalProperties"]["Password"].is_null() {
        shown["additionalProperties"]["Password"] = json!(MASK);
    }
    shown
}

fn is_admin(asked: &Asked<'_>, view: &View) -> bool {
    basic(asked).is_some_and(|given| given == view.admin)
}

fn basic(asked: &Asked<'_>) -> Option<(String, String)> {
    let encoded = asked.authorization?.strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// A value of a form.
fn pair(body: &str, key: &str) -> Option<String> {
    let raw = body.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
    let mut bytes = Vec::new();
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn unauthenticated() -> Answer {
    let body = json!({ "code": 401, "message": "", "description": "Unauthenticated request" });
    Answer::json(StatusCode::UNAUTHORIZED, &body)
}

/// An error of WSO2's form; codes above 999 are theirs, with status 400.
fn refused(code: u32, description: &str) -> Answer {
    let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let body = json!({ "code": code, "message": description, "description": description });
    Answer::json(status.filter(|_| code < 1000).unwrap_or(StatusCode::BAD_REQUEST), &body)
}

fn read(home: &Path) -> Vec<Value> {
    fs::read(home.join(FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn write(home: &Path, all: &[Value]) -> std::io::Result<()> {
    let staged = home.join(".standin-key-managers.json.new");
    fs::write(&staged, serde_json::to_vec_pretty(all)?)?;
    fs::rename(staged, home.join(FILE))
}
