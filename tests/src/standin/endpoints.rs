//! What the server answers, as a function of what it is and how it feels. No sockets here.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::descriptor::{PortKind, Role};

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
    fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
        Answer { status, content_type: "application/json", location: None, body: body.to_string() }
    }

    fn text(status: StatusCode, body: &str) -> Answer {
        Answer { status, content_type: "text/plain", location: None, body: body.to_owned() }
    }

    fn not_found() -> Answer {
        Answer::text(StatusCode::NOT_FOUND, "Not Found\n")
    }
}

/// Answers a GET of `path` on a port of this kind.
pub fn answer(kind: PortKind, path: &str, view: &View) -> Answer {
    match kind {
        PortKind::ServletHttps | PortKind::ServletHttp => servlet(path, view),
        PortKind::PassthroughHttps | PortKind::PassthroughHttp => match path {
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
        }
    }

    #[test]
    fn the_health_api_knows_nothing_until_it_is_enabled() {
        let path = "/api/health-check/v1.0/health";
        let mut identity = view(Role::IdentityServer);
        identity.unhealthy = true;
        let off = answer(PortKind::ServletHttps, path, &identity);
        assert_eq!((off.status, off.body.as_str()), (StatusCode::OK, r#"{"health":[]}"#));
        identity.health_check_enabled = true;
        let on = answer(PortKind::ServletHttps, path, &identity);
        assert_eq!(on.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(on.body.contains("HC_00004"), "{}", on.body);
    }

    #[test]
    fn identity_server_has_no_version_service_and_only_gateways_a_startup_check() {
        let status = |role, path: &str| answer(PortKind::ServletHttps, path, &view(role)).status;
        let startup = "/api/am/gateway/v2/server-startup-healthcheck";
        assert_eq!(status(Role::IdentityServer, "/services/Version"), StatusCode::NOT_FOUND);
        assert_eq!(status(Role::TrafficManager, "/services/Version"), StatusCode::OK);
        assert_eq!(status(Role::TrafficManager, startup), StatusCode::NOT_FOUND);
        assert_eq!(status(Role::Gateway, startup), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
