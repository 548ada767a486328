//! Calls of hooks and gates, and `[groups.NAME.hooks.*]`, as typed, and for one node with their expressions evaluated.
//! A secret is a whole expression that names one: in a hook its value is put in here, in a gate its name stays.

use super::{
    expression::{Expressions, Names},
    reader::{Reader, Typed},
    report::Report,
    secret::{Resolver, Secret, SecretName},
    service::text,
    tree::At,
};
use crate::{
    balancer,
    call::{
        ARGS_MAX, Call, CommandCall, Credential, HaproxyCall, HaproxyState, Hook, HookFailure, HookPoint,
        Hooks, HttpCall, Method, OnInconclusive, PrometheusCall, TIMEOUT_MAX, TRIES_MAX, TokenCall, Tries,
        measure::{Bound, Finite, INCONCLUSIVE_MAX},
    },
    ids::Digest,
};
use std::time::Duration;

/// How long a try may take where nothing is typed.
const TRY: Duration = Duration::from_secs(10);
/// The same for HAProxy, which takes a server back when its own health checks have succeeded (`inter` times `rise`,
/// 2 s times 2 by default), and for NGINX, which is checked and reloaded.
const BACK_IN_SERVICE: Duration = Duration::from_secs(60);
/// Between two tries where nothing is typed.
const INTERVAL: Duration = Duration::from_secs(2);

/// What holds for the tries of a call where nothing is typed.
pub(super) const fn usual_tries(most: u32) -> Tries {
    Tries { timeout: TRY, most, interval: INTERVAL }
}

/// How a call is typed: its strings may hold expressions.
#[derive(Debug, Clone)]
pub(super) enum CallText {
    Http(HttpText),
    Command {
        program: Typed<String>,
        args: Option<Typed<Vec<String>>>,
    },
    Haproxy {
        balancer: balancer::Kind,
        socket: Typed<String>,
        backend: Typed<String>,
        server: Option<Typed<String>>,
        state: HaproxyState,
    },
    Token(Box<TokenText>),
    Prometheus(Box<PrometheusText>),
}

#[derive(Debug, Clone)]
pub(super) struct PrometheusText {
    url: Typed<String>,
    query: Typed<String>,
    bound: Bound,
    authorization: Option<Named>,
    certificate: Option<Digest>,
    inconclusive: u32,
    on_inconclusive: OnInconclusive,
}

impl CallText {
    /// Tries that its own limit adds.
    pub(super) fn more_tries(&self) -> u32 {
        match self {
            CallText::Prometheus(text) => text.inconclusive,
            CallText::Http(_) | CallText::Command { .. } | CallText::Haproxy { .. } | CallText::Token(_) => 0,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct HttpText {
    method: Method,
    url: Typed<String>,
    status: u16,
    contains: Option<Typed<String>>,
    body: Option<Typed<String>>,
    authorization: Option<Named>,
    certificate: Option<Digest>,
}

#[derive(Debug, Clone)]
pub(super) struct TokenText {
    token_url: Typed<String>,
    client_id: Typed<String>,
    client_secret: Named,
    scope: Option<Typed<String>>,
    certificate: Option<Digest>,
    request: HttpText,
}

/// A secret by its name, and where it was typed.
#[derive(Debug, Clone)]
pub(super) struct Named {
    name: SecretName,
    at: At,
}

#[derive(Debug, Clone)]
pub(super) struct HookText {
    at: At,
    call: CallText,
    tries: Tries,
    settle: Duration,
    on_failure: HookFailure,
}

/// `[hooks]` of a group.
#[derive(Debug, Clone, Default)]
pub(super) struct HooksText {
    before_stop: Option<HookText>,
    after_ready: Option<HookText>,
}

impl HooksText {
    pub(super) fn read(group: &mut Reader<'_>, report: &mut Report) -> Self {
        let Some(mut table) = group.table("hooks", report) else { return Self::default() };
        let before = table.table("before_stop", report);
        let after = table.table("after_ready", report);
        table.finish(report);
        Self {
            before_stop: before.and_then(|hook| read_hook(hook, HookPoint::BeforeStop, report)),
            after_ready: after.and_then(|hook| read_hook(hook, HookPoint::AfterReady, report)),
        }
    }

    /// Whether there is any.
    pub(super) const fn is_typed(&self) -> bool {
        self.before_stop.is_some() || self.after_ready.is_some()
    }

    /// For one node.
    pub(super) fn resolve(&self, scope: &Scope<'_>, report: &mut Report) -> Hooks {
        let one = |typed: &Option<HookText>, report: &mut Report| {
            let typed = typed.as_ref()?;
            Some(Hook {
                call: resolve(&typed.call, &typed.at, scope, report)?,
                tries: typed.tries,
                settle: typed.settle,
                on_failure: typed.on_failure,
            })
        };
        Hooks { before_stop: one(&self.before_stop, report), after_ready: one(&self.after_ready, report) }
    }
}

/// What expressions and secrets of one node mean.
pub(super) struct Scope<'a> {
    pub(super) expressions: &'a Expressions,
    pub(super) names: &'a Names,
    pub(super) node: &'a str,
    pub(super) secrets: &'a Resolver,
    pub(super) use_of: SecretUse,
}

/// What becomes of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretUse {
    /// Its value is put in.
    Value,
    /// Its name stays.
    Name,
}

fn read_hook(mut table: Reader<'_>, point: HookPoint, report: &mut Report) -> Option<HookText> {
    let at = table.at().clone();
    let state = match point {
        HookPoint::BeforeStop => HaproxyState::Drain,
        HookPoint::AfterReady => HaproxyState::Ready,
    };
    let kinds = [
        (Kind::Haproxy, "haproxy"),
        (Kind::Nginx, "nginx"),
        (Kind::Http, "http"),
        (Kind::Command, "command"),
    ];
    let call = read_call(&mut table, &kinds, state, report);
    let usual = match &call {
        Some(
            CallText::Haproxy { state: HaproxyState::Ready, .. }
            | CallText::Haproxy { balancer: balancer::Kind::Nginx, .. },
        ) => Tries { timeout: BACK_IN_SERVICE, ..usual_tries(1) },
        _ => usual_tries(1),
    };
    let tries = read_tries(&mut table, usual, report);
    let settle = table.duration("settle", report).unwrap_or_default().min(TIMEOUT_MAX);
    let on_failure = table.choice("on_failure", &HookFailure::ALL, report).unwrap_or_default();
    table.finish(report);
    Some(HookText { at, call: call?, tries, settle, on_failure })
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Http,
    Command,
    Haproxy,
    Nginx,
    Token,
    Prometheus,
}

pub(super) fn read_call(
    table: &mut Reader<'_>,
    kinds: &[(Kind, &'static str)],
    state: HaproxyState,
    report: &mut Report,
) -> Option<CallText> {
    let kind = table.choice("kind", kinds, report);
    let kind =
        table.required("kind", kind, &format!("{:?}", kinds.first().map_or("http", |kind| kind.1)), report);
    match kind? {
        Kind::Http => {
            let authorization = read_secret(table, "authorization", report);
            read_http(table, authorization, report).map(CallText::Http)
        }
        Kind::Token => read_token(table, report),
        Kind::Prometheus => read_prometheus(table, report),
        Kind::Command => {
            let program = required_text(table, "program", "\"/usr/local/bin/check\"", report);
            let args = table.texts("args", report);
            Some(CallText::Command { program: program?, args })
        }
        Kind::Haproxy => {
            let socket = required_text(table, "socket", "\"/run/haproxy/admin.sock\"", report);
            let backend = required_text(table, "backend", "\"gateways\"", report);
            let server = table.text("server", report);
            let state = table.choice("state", &HaproxyState::ALL, report).unwrap_or(state);
            let balancer = balancer::Kind::Haproxy;
            Some(CallText::Haproxy { balancer, socket: socket?, backend: backend?, server, state })
        }
        Kind::Nginx => {
            let socket = required_text(table, "socket", "\"/run/convoy-nginx/hooks.sock\"", report);
            let backend = required_text(table, "upstream", "\"identity\"", report);
            let server = table.text("server", report);
            let balancer = balancer::Kind::Nginx;
            Some(CallText::Haproxy { balancer, socket: socket?, backend: backend?, server, state })
        }
    }
}

pub(super) fn required_text(
    table: &mut Reader<'_>,
    key: &'static str,
    example: &str,
    report: &mut Report,
) -> Option<Typed<String>> {
    let typed = table.text(key, report);
    table.required(key, typed, example, report)
}

fn read_token(table: &mut Reader<'_>, report: &mut Report) -> Option<CallText> {
    let token_url = required_text(table, "token_url", "\"https://km.example.org:9443/oauth2/token\"", report);
    let client_id = required_text(table, "client_id", "\"rollout-gate\"", report);
    let secret = read_secret(table, "client_secret", report);
    let secret = table.required("client_secret", secret, "\"{{ secret('gate.client') }}\"", report);
    let scope = table.text("scope", report);
    let certificate = read_certificate(table, "token_certificate_sha256", report);
    // The token is its authorization.
    let request = read_http(table, None, report);
    let text = TokenText {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: secret?,
        scope,
        certificate,
        request: request?,
    };
    Some(CallText::Token(Box::new(text)))
}

/// Tries of a measure that may be inconclusive, if it does not say how many.
const INCONCLUSIVE_DEFAULT: u32 = 5;

fn read_prometheus(table: &mut Reader<'_>, report: &mut Report) -> Option<CallText> {
    let url = required_text(table, "url", "\"https://prometheus.example.org:9090\"", report);
    let query = required_text(table, "query", "\"sum(rate(http_errors_total[5m]))\"", report);
    let min = table.amount("min", report);
    let max = table.amount("max", report);
    let authorization = read_secret(table, "authorization", report);
    let certificate = read_certificate(table, "certificate_sha256", report);
    let inconclusive = table.number("inconclusive_tries", (1, i64::from(INCONCLUSIVE_MAX)), report);
    let inconclusive = inconclusive.and_then(|typed| u32::try_from(typed.value).ok());
    let on_inconclusive = table.choice("on_inconclusive", &OnInconclusive::ALL, report).unwrap_or_default();
    let text = PrometheusText {
        url: url?,
        query: query?,
        bound: Bound { min: min.and_then(Finite::new), max: max.and_then(Finite::new) },
        authorization,
        certificate,
        inconclusive: inconclusive.unwrap_or(INCONCLUSIVE_DEFAULT),
        on_inconclusive,
    };
    Some(CallText::Prometheus(Box::new(text)))
}

fn read_http(table: &mut Reader<'_>, authorization: Option<Named>, report: &mut Report) -> Option<HttpText> {
    let url = required_text(table, "url", "\"https://localhost:9443/health\"", report);
    let method = table.choice("method", &Method::ALL, report).unwrap_or_default();
    let status = table.number("status", (100, 599), report);
    let contains = table.text("contains", report);
    let body = table.text("body", report);
    let certificate = read_certificate(table, "certificate_sha256", report);
    Some(HttpText {
        method,
        url: url?,
        status: status.and_then(|typed| u16::try_from(typed.value).ok()).unwrap_or(200),
        contains,
        body,
        authorization,
        certificate,
    })
}

/// The name in a string that is `{{ secret('name') }}` and nothing else. A part of a text would have to be shown.
pub(super) fn read_secret(table: &mut Reader<'_>, key: &'static str, report: &mut Report) -> Option<Named> {
    let typed = table.text(key, report)?;
    let inner = typed.value.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    let inner = inner.and_then(|inner| inner.trim().strip_prefix("secret(")?.strip_suffix(')'));
    let name = inner.map(|name| name.trim().trim_matches(['\'', '"']));
    match name.and_then(|name| SecretName::parse(name).ok()) {
        Some(name) => Some(Named { name, at: typed.at }),
        None => {
            report.error(
                "CV307",
                Some(typed.at.key_place()),
                format!("`{key}` must be one expression that names a secret, and nothing else"),
                format!("write {key} = \"{{{{ secret('lb.token') }}}}\" and give the value with: convoy secret set lb.token"),
            );
            None
        }
    }
}

pub(super) fn read_certificate(
    table: &mut Reader<'_>,
    key: &'static str,
    report: &mut Report,
) -> Option<Digest> {
    let typed = table.text(key, report)?;
    let hex = typed.value.replace(':', "").to_ascii_lowercase();
    let digest = Digest::from_hex(&hex);
    if digest.is_none() {
        report.error(
            "CV114",
            Some(typed.at.value_place()),
            format!("`{key}` is not the SHA-256 of a certificate"),
            "write its 64 hexadecimal digits, as of: openssl x509 -noout -fingerprint -sha256",
        );
    }
    digest
}

/// What is typed of them, and `otherwise` for the rest.
pub(super) fn read_tries(table: &mut Reader<'_>, otherwise: Tries, report: &mut Report) -> Tries {
    let limited = |typed: Option<Duration>, otherwise: Duration| typed.unwrap_or(otherwise).min(TIMEOUT_MAX);
    let timeout = limited(table.duration("timeout", report), otherwise.timeout).max(Duration::from_millis(1));
    let interval = limited(table.duration("interval", report), otherwise.interval);
    let tries = table.number("tries", (1, i64::from(TRIES_MAX)), report);
    let most = tries.and_then(|typed| u32::try_from(typed.value).ok()).unwrap_or(otherwise.most);
    Tries { timeout, interval, most }
}

pub(super) fn resolve(typed: &CallText, at: &At, scope: &Scope<'_>, report: &mut Report) -> Option<Call> {
    let text =
        |typed: &Typed<String>, report: &mut Report| text(typed, scope.expressions, scope.names, report);
    let call = match typed {
        CallText::Http(http) => Call::Http(resolve_http(http, scope, report)?),
        CallText::Command { program, args } => {
            let program = text(program, report)?;
            let mut resolved = Vec::new();
            for arg in args.iter().flat_map(|args| args.value.iter().take(ARGS_MAX + 1)) {
                let at = args.as_ref().map_or(at, |args| &args.at).clone();
                resolved.push(text(&Typed { value: arg.clone(), at }, report)?);
            }
            Call::Command(CommandCall { program, args: resolved })
        }
        CallText::Haproxy { balancer, socket, backend, server, state } => Call::Haproxy(HaproxyCall {
            balancer: *balancer,
            socket: text(socket, report)?,
            backend: text(backend, report)?,
            server: match server {
                Some(server) => text(server, report)?,
                None => scope.node.to_owned(),
            },
            state: *state,
            listens: None,
        }),
        CallText::Token(token) => Call::Token(TokenCall {
            token_url: text(&token.token_url, report)?,
            client_id: text(&token.client_id, report)?,
            client_secret: credential(&token.client_secret, scope, report)?,
            scope: match &token.scope {
                Some(scope) => text(scope, report)?,
                None => String::new(),
            },
            token_certificate: token.certificate,
            request: resolve_http(&token.request, scope, report)?,
        }),
        CallText::Prometheus(typed) => Call::Prometheus(PrometheusCall {
            url: text(&typed.url, report)?,
            query: text(&typed.query, report)?,
            bound: typed.bound,
            authorization: match &typed.authorization {
                Some(named) => Some(credential(named, scope, report)?),
                None => None,
            },
            certificate: typed.certificate,
            inconclusive: typed.inconclusive,
            on_inconclusive: typed.on_inconclusive,
        }),
    };
    if let Some((key, why)) = call.problem() {
        report.error(
            "CV114",
            Some(at.key_place()),
            format!("`{key}` {why}"),
            "correct the value, or the expression in it",
        );
        return None;
    }
    Some(call)
}

fn resolve_http(http: &HttpText, scope: &Scope<'_>, report: &mut Report) -> Option<HttpCall> {
    let text =
        |typed: &Typed<String>, report: &mut Report| text(typed, scope.expressions, scope.names, report);
    let optional = |typed: &Option<Typed<String>>, report: &mut Report| match typed {
        Some(typed) => text(typed, report).map(Some),
        None => Some(None),
    };
    Some(HttpCall {
        method: http.method,
        url: text(&http.url, report)?,
        status: http.status,
        contains: optional(&http.contains, report)?,
        body: optional(&http.body, report)?,
        authorization: match &http.authorization {
            Some(named) => Some(credential(named, scope, report)?),
            None => None,
        },
        certificate: http.certificate,
    })
}

fn credential(named: &Named, scope: &Scope<'_>, report: &mut Report) -> Option<Credential> {
    let value = secret_value(named, scope, report)?;
    Some(match scope.use_of {
        SecretUse::Value => Credential::Value(value),
        SecretUse::Name => Credential::Named(named.name.clone()),
    })
}

/// The value of a secret.
pub(super) fn secret_value(named: &Named, scope: &Scope<'_>, report: &mut Report) -> Option<Secret> {
    let value = scope.secrets.resolve(&named.name).map(Secret::new);
    if value.is_none() {
        report.error(
            "CV307",
            Some(named.at.value_place()),
            format!("the secret {} has no value", named.name),
            format!("give it one: convoy secret set {}", named.name),
        );
    }
    value
}
