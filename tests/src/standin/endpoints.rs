//! What the server answers, as a function of what it is and how it feels. No sockets here.

use std::{path::PathBuf, time::Duration};

use http::{Method, StatusCode};
use serde_json::json;

use super::{
    admin,
    descriptor::{PortKind, Role},
};

/// Everything an answer depends on.
#[derive(Debug, Clone)]
pub struct View {
    pub role: Role,
    pub product: String,
    /// Port of the servlet transport over TLS, offset applied.
    pub https_port: u16,
    pub health_check_enabled: bool,
    pub unhealthy: bool,
    /// The gateway has loaded everything.
    pub gateway_ready: bool,
    /// How long each answer takes.
    pub delay: Duration,
    pub state: StateView,
    pub home: PathBuf,
    /// User and password of the administrator.
    pub admin: (String, String),
    /// The web application of the Admin API is not there.
    pub admin_api_away: bool,
}

/// What tests want to know; served at `/standin/state`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct StateView {
    pub pid: u32,
    /// Server launches since the pack was made, this one included.
    pub launches: u64,
    /// SHA-256 of the deployment.toml that this server runs on; empty if it started without one.
    pub toml_digest: String,
    pub offset: u16,
    pub started: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub location: Option<String>,
    pub body: String,
}

impl Answer {
    pub fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
        Answer { status, content_type: "application/json", location: None, body: body.to_string() }
    }

    pub fn text(status: StatusCode, body: &str) -> Answer {
        Answer { status, content_type: "text/plain", location: None, body: body.to_owned() }
    }

    fn not_found() -> Answer {
        Answer::text(StatusCode::NOT_FOUND, "Not Found\n")
    }
}

/// The only token that is ever issued.
const TOKEN: &str = "standin-token-8d1f";
/// Who gets none: client `gate` with the secret `wrong`, as it stands after `Basic`.
const WRONG: &str = "Z2F0ZTp3cm9uZw==";

/// A request, as far as answers depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub path: &'a str,
    pub method: &'a Method,
    pub authorization: Option<&'a str>,
    pub body: &'a str,
}

/// Answers a request on a port of this kind.
pub fn answer(kind: PortKind, asked: &Asked<'_>, view: &View) -> Answer {
    let path = asked.path;
    match kind {
        PortKind::ServletHttps | PortKind::ServletHttp => {
            admin::answer(asked, view).unwrap_or_else(|| match path {
                "/oauth2/token" if asked.method == Method::POST => token(asked, view),
                "/standin/api" => guarded(asked, view),
                _ => servlet(path, view),
            })
        }
        PortKind::PassthroughHttps | PortKind::PassthroughHttp => match path {
            "/standin/api" => guarded(asked, view),
            // A token of an Identity Server opens it once the gateway knows that Identity Server.
            "/standin/key-manager" if !admin::knows_identity_server(&view.home) => Answer::json(
                StatusCode::UNAUTHORIZED,
                &json!({ "code": 900901, "message": "Invalid Credentials" }),
            ),
            "/standin/key-manager" => guarded(asked, view),
            "/services/Version" => version(view),
            _ => Answer::not_found(),
        },
        PortKind::WebSocketTls | PortKind::WebSocket => match path {
            "/health" if view.unhealthy => Answer::text(StatusCode::SERVICE_UNAVAILABLE, ""),
            "/health" => Answer::text(StatusCode::OK, ""),
            _ => Answer::not_found(),
        },
        PortKind::WebhookTls | PortKind::Webhook | PortKind::Broker | PortKind::Plain => Answer::not_found(),
    }
}

fn servlet(path: &str, view: &View) -> Answer {
    let identity = view.role == Role::IdentityServer;
    match path {
        "/standin/state" => Answer::json(StatusCode::OK, &json!(view.state)),
        "/api/health-check/v1.0/health" if identity => health(view),
        "/oauth2/token/.well-known/openid-configuration" if identity => openid(view),
        "/services/Version" if !identity => version(view),
        "/api/am/gateway/v2/server-startup-healthcheck" if view.role.is_gateway() => startup(view),
        "/carbon" | "/carbon/" => Answer {
            location: Some("/carbon/admin/login.jsp".to_owned()),
            ..Answer::text(StatusCode::FOUND, "")
        },
        _ => Answer::not_found(),
    }
}

/// The client-credentials grant of RFC 6749, 4.4, for every client that says who it is.
fn token(asked: &Asked<'_>, view: &View) -> Answer {
    if view.unhealthy {
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n");
    }
    if !asked.body.split('&').any(|pair| pair == "grant_type=client_credentials") {
        return Answer::json(StatusCode::BAD_REQUEST, &json!({ "error": "unsupported_grant_type" }));
    }
    let pair = asked.authorization.and_then(|value| value.strip_prefix("Basic "));
    if pair.is_none_or(|pair| pair.is_empty() || pair == WRONG) {
        return Answer::json(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_client" }));
    }
    Answer::json(
        StatusCode::OK,
        &json!({ "access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600 }),
    )
}

/// Stands for an API that wants a token.
fn guarded(asked: &Asked<'_>, view: &View) -> Answer {
    if view.unhealthy {
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n");
    }
    let token = asked.authorization.and_then(|value| value.strip_prefix("Bearer "));
    if token != Some(TOKEN) {
        return Answer::json(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_token" }));
    }
    Answer::json(StatusCode::OK, &json!({ "hello": view.product }))
}

/// Switched off, the real one says 200 with an empty list whatever the state: it knows nothing.
fn health(view: &View) -> Answer {
    if !view.health_check_enabled {
        return Answer::json(StatusCode::OK, &json!({ "health": [] }));
    }
    if view.unhealthy {
        let error = json!({
            "code": "HC_00004",
            "message": "Server status is not RUNNING",
            "description": "The server is not in the running state",
        });
        return Answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "errors": [error] }));
    }
    Answer::json(
        StatusCode::OK,
        &json!({ "health": [
            { "key": "jdbc/WSO2IdentityDB.activeConnections", "value": "0" },
            { "key": "userStore.PRIMARY", "value": "connected" },
        ]}),
    )
}

fn openid(view: &View) -> Answer {
    if view.unhealthy {
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n");
    }
    let base = format!("https://localhost:{}/oauth2", view.https_port);
    Answer::json(
        StatusCode::OK,
        &json!({
            "issuer": format!("{base}/token"),
            "authorization_endpoint": format!("{base}/authorize"),
            "token_endpoint": format!("{base}/token"),
            "jwks_uri": format!("{base}/jwks"),
        }),
    )
}

fn version(view: &View) -> Answer {
    if view.unhealthy {
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n");
    }
    Answer {
        status: StatusCode::OK,
        content_type: "application/xml",
        location: None,
        body: format!(
            "<ns:getVersionResponse xmlns:ns=\"http://version.services.core.carbon.wso2.org\"><return>{}</return>\
             </ns:getVersionResponse>",
            view.product
        ),
    }
}

fn startup(view: &View) -> Answer {
    if view.unhealthy || !view.gateway_ready {
        return Answer::json(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({ "code": 500, "message": "Internal server error", "description": "Server is not ready" }),
        );
    }
    Answer::json(StatusCode::OK, &json!({ "status": "ready" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(role: Role) -> View {
        View {
            role,
            product: "WSO2 Thing-1".to_owned(),
            https_port: 9443,
            health_check_enabled: false,
            unhealthy: false,
            gateway_ready: false,
            delay: Duration::ZERO,
            state: StateView { pid: 1, launches: 1, toml_digest: String::new(), offset: 0, started: true },
            home: PathBuf::new(),
            admin: ("admin".to_owned(), "admin".to_owned()),
            admin_api_away: false,
        }
    }

    fn get(path: &str) -> Asked<'_> {
        Asked { path, method: &Method::GET, authorization: None, body: "" }
    }

    #[test]
    fn a_token_is_issued_to_a_client_and_opens_what_is_guarded() {
        let gateway = view(Role::Gateway);
        let ask = |path, authorization| {
            let asked = Asked {
                path,
                method: &Method::POST,
                authorization,
                body: "grant_type=client_credentials&scope=x",
            };
            answer(PortKind::ServletHttps, &asked, &gateway)
        };
        let wrong = format!("Basic {WRONG}");
        for nobody in [None, Some("Basic "), Some(wrong.as_str())] {
            assert_eq!(ask("/oauth2/token", nobody).status, StatusCode::UNAUTHORIZED);
        }
        let issued = ask("/oauth2/token", Some("Basic eDp5"));
        assert!(issued.body.contains(TOKEN), "{issued:?}");
        let bearer = format!("Bearer {TOKEN}");
        for (authorization, status) in [(None, 401), (Some("Bearer x"), 401), (Some(bearer.as_str()), 200)] {
            assert_eq!(ask("/standin/api", authorization).status, status);
            let through = Asked { authorization, ..get("/standin/api") };
            assert_eq!(answer(PortKind::PassthroughHttps, &through, &gateway).status, status);
        }
    }

    #[test]
    fn the_health_api_knows_nothing_until_it_is_enabled() {
        let path = "/api/health-check/v1.0/health";
        let mut identity = view(Role::IdentityServer);
        identity.unhealthy = true;
        let off = answer(PortKind::ServletHttps, &get(path), &identity);
        assert_eq!((off.status, off.body.as_str()), (StatusCode::OK, r#"{"health":[]}"#));
        identity.health_check_enabled = true;
        let on = answer(PortKind::ServletHttps, &get(path), &identity);
        assert_eq!(on.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(on.body.contains("HC_00004"), "{}", on.body);
    }

    #[test]
    fn identity_server_has_no_version_service_and_only_gateways_a_startup_check() {
        let status = |role, path: &str| answer(PortKind::ServletHttps, &get(path), &view(role)).status;
        let startup = "/api/am/gateway/v2/server-startup-healthcheck";
        assert_eq!(status(Role::IdentityServer, "/services/Version"), StatusCode::NOT_FOUND);
        assert_eq!(status(Role::TrafficManager, "/services/Version"), StatusCode::OK);
        assert_eq!(status(Role::TrafficManager, startup), StatusCode::NOT_FOUND);
        assert_eq!(status(Role::Gateway, startup), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
