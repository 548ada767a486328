//! Carries the requests of one turn at the Admin API of the API Manager on this host. What to send and what an answer
//! means is decided by `fleet::key_manager`; here are the way there, the token and the limits.
//!
//! Promises: TLS as for every call of this agent, never unverified; no redirect is followed; what is told holds neither
//! password nor token; a turn ends within its limit.

use std::time::Duration;

use fleet::{
    call::{HttpCall, Method},
    key_manager::{
        AdminApi, Registration,
        body::{self, Difference},
        found::{Found, Registered, listed},
        work::{Outcome, Standing, Step, Trouble, Work, find, trouble},
    },
    node::TURN_TIMEOUT,
};
use serde_json::{Value, json};

use crate::call::{Answer, Caller, basic, encoded};

/// Of one request.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// A longer answer is none, bytes: a Key Manager may hold certificates.
const BODY_MAX: usize = 1024 * 1024;
/// The OAuth client by which an agent asks; the server knows one of that name and owner once.
const CLIENT_NAME: &str = "convoy";
/// What the Admin API wants a token to have.
const SCOPE: &str = "apim:admin";
/// Looked for again so often after another was faster to register it.
const RACES_MAX: u32 = 2;

/// Makes the Admin API agree about one Key Manager, or sees whether it does.
///
/// # Errors
/// Why it did not come to its end.
pub async fn turn(caller: &Caller, work: &Work) -> Result<Outcome, Trouble> {
    let registration = &work.registration;
    let turned = tokio::time::timeout(TURN_TIMEOUT, async {
        let portal = Portal::enter(caller, &registration.admin).await?;
        let outcome = portal.settle(work).await;
        outcome.map_err(|trouble| without_secrets(trouble, registration, portal.token.as_deref()))
    });
    match turned.await {
        Ok(outcome) => outcome.map_err(|trouble| without_secrets(trouble, registration, None)),
        Err(_) => {
            let time = fleet::time::Human(TURN_TIMEOUT);
            Err(Trouble::Away(format!("it did not come to an end within {time}")))
        }
    }
}

/// What the Admin API has of Key Managers, and what those of `kept` have otherwise than it declares; nothing is
/// changed. `None`: none is kept here.
pub async fn survey(caller: &Caller, kept: &[Registration], limit: Duration) -> Option<Registered> {
    // All of one group are kept by one Admin API.
    let first = kept.first()?;
    let surveyed = tokio::time::timeout(limit, async {
        let portal = Portal::enter(caller, &first.admin).await?;
        let surveyed = portal.survey(kept).await;
        surveyed.map_err(|trouble| without_secrets(trouble, first, portal.token.as_deref()))
    });
    Some(match surveyed.await {
        Ok(Ok(found)) => Registered::Listed(found),
        Ok(Err(trouble)) => Registered::Unknown(without_secrets(trouble, first, None).to_string()),
        Err(_) => {
            Registered::Unknown(format!("the Admin API did not answer within {}", fleet::time::Human(limit)))
        }
    })
}

/// The Admin API, logged in.
struct Portal<'a> {
    caller: &'a Caller,
    api: &'a AdminApi,
    /// The whole header.
    authorization: String,
    token: Option<String>,
}

impl<'a> Portal<'a> {
    /// By a client of our own and a token, as WSO2 documents it; by Basic where that way is not there.
    async fn enter(caller: &'a Caller, api: &'a AdminApi) -> Result<Self, Trouble> {
        let account = &api.account;
        let password = account.password.expose();
        let by_basic = Self { caller, api, authorization: basic(&account.user, password), token: None };
        let client = json!({
            "clientName": CLIENT_NAME,
            "owner": account.user,
            "grantType": "password refresh_token",
            "callbackUrl": "https://localhost",
            "saasApp": true,
        });
        let registered = by_basic
            .ask(Method::Post, "/client-registration/v0.17/register", Some(client.to_string()))
            .await?;
        if let 404 | 405 = registered.status {
            return Ok(by_basic);
        }
        let client = read(registered)?;
        let text = |key: &str| client.get(key).and_then(Value::as_str);
        let (Some(id), Some(secret)) = (text("clientId"), text("clientSecret")) else {
            return Err(Trouble::Refused(
                "its registration of clients gives no clientId and clientSecret".into(),
            ));
        };
        let form = format!(
            "grant_type=password&username={}&password={}&scope={}",
            encoded(&account.user),
            encoded(password),
            encoded(SCOPE)
        );
        let as_client = Self { caller, api, authorization: basic(id, secret), token: None };
        let granted = as_client.ask(Method::Post, "/oauth2/token", Some(form)).await?;
        if granted.status == 400 {
            return match oauth_error(&granted).as_deref() {
                Some("unauthorized_client" | "unsupported_grant_type") => Ok(by_basic),
                _ => Err(Trouble::Denied(trouble_text(&granted))),
            };
        }
        let granted = read(granted)?;
        let token = granted.get("access_token").and_then(Value::as_str);
        let token = token.ok_or_else(|| Trouble::Refused("its token endpoint gives no token".to_owned()))?;
        Ok(Self { caller, api, authorization: format!("Bearer {token}"), token: Some(token.to_owned()) })
    }

    async fn settle(&self, work: &Work) -> Result<Outcome, Trouble> {
        let mut races = 0;
        loop {
            let (standing, served) = self.look(&work.registration).await?;
            let was = match work.step(&standing, served.as_ref())? {
                Step::End(outcome) => return Ok(outcome),
                Step::Create(body) => {
                    let answer = self.ask(Method::Post, KEY_MANAGERS, Some(body.to_string())).await?;
                    // Somebody was faster, or an answer was lost.
                    if answer.status == 409 && races < RACES_MAX {
                        races += 1;
                        continue;
                    }
                    read(answer)?;
                    None
                }
                Step::Replace { was, body } => {
                    let path = path_of(&standing);
                    read(self.ask(Method::Put, &path, Some(body.to_string())).await?)?;
                    Some(was)
                }
                Step::Delete => return self.delete(&standing).await,
            };
            return self.written(work, was).await;
        }
    }

    async fn survey(&self, kept: &[Registration]) -> Result<Vec<Found>, Trouble> {
        let list = read(self.ask(Method::Get, KEY_MANAGERS, None).await?)?;
        let mut found = listed(&list)?;
        for one in kept {
            let standing = find(&list, one)?;
            let there = found.iter_mut().find(|found| found.name == one.name);
            if let (Standing::Present { .. }, Some(there)) = (&standing, there) {
                let served = read(self.ask(Method::Get, &path_of(&standing), None).await?)?;
                there.differences = body::differences(&body::wanted(one), &served);
            }
        }
        Ok(found)
    }

    async fn look(&self, registration: &Registration) -> Result<(Standing, Option<Value>), Trouble> {
        let list = read(self.ask(Method::Get, KEY_MANAGERS, None).await?)?;
        let standing = find(&list, registration)?;
        let served = match &standing {
            Standing::Present { .. } => Some(read(self.ask(Method::Get, &path_of(&standing), None).await?)?),
            Standing::Absent | Standing::OtherType(_) => None,
        };
        Ok((standing, served))
    }

    /// The server's word on what was written is what it gives afterwards.
    async fn written(&self, work: &Work, was: Option<Vec<Difference>>) -> Result<Outcome, Trouble> {
        match self.look(&work.registration).await? {
            (_, Some(served)) => Ok(work.written(was, &served)),
            (_, None) => Err(Trouble::Refused("it took the Key Manager and does not have it".to_owned())),
        }
    }

    async fn delete(&self, standing: &Standing) -> Result<Outcome, Trouble> {
        let answer = self.ask(Method::Delete, &path_of(standing), None).await?;
        match answer.status {
            200..300 => Ok(Outcome::Removed),
            404 => Ok(Outcome::WasGone),
            _ => Err(trouble_of(&answer)),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<String>) -> Result<Answer, Trouble> {
        let call = HttpCall {
            method,
            url: format!("{}{path}", self.api.url),
            status: 200,
            contains: None,
            body,
            authorization: None,
            certificate: self.api.certificate,
        };
        let asked = self.caller.ask(&call, Some(&self.authorization), BODY_MAX);
        let address = self.api.url.trim_start_matches("https://");
        match tokio::time::timeout(REQUEST_TIME, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(Trouble::Away(format!("{address}: {why}"))),
            Err(_) => {
                let time = fleet::time::Human(REQUEST_TIME);
                Err(Trouble::Away(format!("{address}: no answer within {time}")))
            }
        }
    }
}

/// The collection of the Admin API.
const KEY_MANAGERS: &str = "/api/am/admin/v4/key-managers";

fn path_of(standing: &Standing) -> String {
    match standing {
        Standing::Present { id } => format!("{KEY_MANAGERS}/{id}"),
        Standing::Absent | Standing::OtherType(_) => KEY_MANAGERS.to_owned(),
    }
}

/// The JSON of an answer that is none with an error.
fn read(answer: Answer) -> Result<Value, Trouble> {
    if !(200..300).contains(&answer.status) {
        return Err(trouble_of(&answer));
    }
    let body = answer.body.map_err(Trouble::Away)?;
    serde_json::from_slice(&body).map_err(|_| Trouble::Away("its answer is no JSON".to_owned()))
}

fn trouble_of(answer: &Answer) -> Trouble {
    trouble(answer.status, answer.body.as_deref().unwrap_or_default())
}

fn trouble_text(answer: &Answer) -> String {
    match trouble_of(answer) {
        Trouble::Away(text) | Trouble::Denied(text) | Trouble::OtherType(text) | Trouble::Refused(text) => {
            text
        }
    }
}

fn oauth_error(answer: &Answer) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer.body.as_deref().ok()?).ok()?;
    answer.get("error").and_then(Value::as_str).map(str::to_owned)
}

/// An answer may repeat what it was sent.
fn without_secrets(trouble: Trouble, registration: &Registration, token: Option<&str>) -> Trouble {
    let passwords = [&registration.account, &registration.admin.account];
    let passwords = passwords.map(|account| account.password.expose());
    let clean = |text: String| {
        let secrets = passwords.into_iter().chain(token).filter(|secret| !secret.is_empty());
        secrets.fold(text, |text, secret| text.replace(secret, "…"))
    };
    match trouble {
        Trouble::Away(text) => Trouble::Away(clean(text)),
        Trouble::Denied(text) => Trouble::Denied(clean(text)),
        Trouble::OtherType(text) => Trouble::OtherType(clean(text)),
        Trouble::Refused(text) => Trouble::Refused(clean(text)),
    }
}
