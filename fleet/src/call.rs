//! What an agent is asked to do beside its server: tell a load balancer, ask a URL, run a command of the host. Hooks
//! and gates are made of it; the agent's executor performs it (docs/decisions/0010-hooks-and-gates.md).
//!
//! Values only. Nothing here, printed or told, shows a secret.

pub mod measure;

use std::{fmt, time::Duration};

use crate::{
    balancer::Kind,
    call::measure::{Bound, INCONCLUSIVE_MAX, SeriesLimits},
    ids::Digest,
    spec::{Secret, SecretName},
    time::Human,
};

/// The longest time limit of one try.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// The most tries.
pub const TRIES_MAX: u32 = 100;
/// The longest text of a call: URL, body, argument; bytes.
pub const TEXT_MAX: usize = 4 * 1024;
/// The most arguments of a command.
pub const ARGS_MAX: usize = 64;
/// All arguments of a command together, bytes: a call must fit into one message.
pub const ARGS_SIZE_MAX: usize = 16 * 1024;

/// A secret of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// By its name; the coordinator puts the value in when it asks.
    Named(SecretName),
    /// The value.
    Value(Secret),
}

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// GET.
    #[default]
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH, as NGINX Plus wants for a change of an upstream server.
    Patch,
    /// DELETE.
    Delete,
}

impl Method {
    /// Every method with its word.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Get, "GET"),
        (Self::Post, "POST"),
        (Self::Put, "PUT"),
        (Self::Patch, "PATCH"),
        (Self::Delete, "DELETE"),
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(method, _)| *method == self).map_or("GET", |(_, word)| word)
    }
}

/// One HTTP request and what its answer must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCall {
    /// What it is.
    pub method: Method,
    /// `http` or `https`, without user and password.
    pub url: String,
    /// Expected.
    pub status: u16,
    /// The answer must hold this text.
    pub contains: Option<String>,
    /// Sent; JSON if it begins with `{` or `[`, otherwise a form.
    pub body: Option<String>,
    /// The whole value of the header: `Bearer ...`, `Basic ...`.
    pub authorization: Option<Credential>,
    /// SHA-256 of the only certificate that is accepted.
    pub certificate: Option<Digest>,
}

/// One program of the host, without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandCall {
    /// Absolute.
    pub program: String,
    /// One by one.
    pub args: Vec<String>,
}

/// What a server of HAProxy should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaproxyState {
    /// No new sessions; those that are there go on.
    Drain,
    /// Out of service at once.
    Maint,
    /// In service.
    Ready,
}

impl HaproxyState {
    /// Every state with HAProxy's word.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Drain, "drain"), (Self::Maint, "maint"), (Self::Ready, "ready")];

    /// HAProxy's word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("ready", |(_, word)| word)
    }
}

/// `set server` on a runtime socket: HAProxy's own, or the one at which the agent that looks after an NGINX answers in
/// the same language.
#[derive(Clone, PartialEq, Eq)]
pub struct HaproxyCall {
    /// Who is behind the socket. It changes words only.
    pub balancer: Kind,
    /// Path of a unix socket, or `127.0.0.1:PORT`.
    pub socket: String,
    /// As in haproxy.cfg; NGINX's upstream.
    pub backend: String,
    /// As in haproxy.cfg; the node of a member of NGINX.
    pub server: String,
    /// What it should be.
    pub state: HaproxyState,
    /// Where it listens, of a server that a balancer of the fleet is in front of: HAProxy is told before the server is
    /// put back, since the file that says so comes later.
    pub listens: Option<Listens>,
}

/// Ports of a server, as a load balancer knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listens {
    /// For requests.
    pub port: u16,
    /// For health checks, if those go to another port.
    pub check: Option<u16>,
}

// The digest of a bundle rests on this, so a call of HAProxy without `listens` reads as it did before there were more.
impl fmt::Debug for HaproxyCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { balancer, socket, backend, server, state, listens } = self;
        let mut text = f.debug_struct("HaproxyCall");
        text.field("socket", socket).field("backend", backend).field("server", server).field("state", state);
        if let Some(listens) = listens {
            text.field("listens", listens);
        }
        if *balancer != Kind::Haproxy {
            text.field("balancer", balancer);
        }
        text.finish()
    }
}

/// A token by the client-credentials grant, and a request that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCall {
    /// The key manager's token endpoint.
    pub token_url: String,
    /// OAuth client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Credential,
    /// Asked for, separated by spaces; empty: none.
    pub scope: String,
    /// SHA-256 of the only certificate of the token endpoint that is accepted.
    pub token_certificate: Option<Digest>,
    /// Made with the token as bearer; its own `authorization` is not used.
    pub request: HttpCall,
}

/// What a gate means whose measure stays inconclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnInconclusive {
    /// It has failed.
    #[default]
    Fail,
    /// It has passed.
    Pass,
}

impl OnInconclusive {
    /// Every choice with its word.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Fail, "fail"), (Self::Pass, "pass")];
}

/// An instant query of Prometheus, and what its values must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusCall {
    /// Of the server, without `/api/v1/query`.
    pub url: String,
    /// PromQL.
    pub query: String,
    /// What every value must be.
    pub bound: Bound,
    /// The whole value of the header: `Bearer ...`, `Basic ...`.
    pub authorization: Option<Credential>,
    /// SHA-256 of the only certificate that is accepted.
    pub certificate: Option<Digest>,
    /// So many tries may be inconclusive, beside those that may fail. Default: 5.
    pub inconclusive: u32,
    /// What one more means.
    pub on_inconclusive: OnInconclusive,
}

/// A URL that a call asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached<'a> {
    /// As typed.
    pub url: &'a str,
    /// SHA-256 of the only certificate that is accepted.
    pub certificate: Option<Digest>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Ask a URL.
    Http(HttpCall),
    /// Run a program.
    Command(CommandCall),
    /// Tell HAProxy, or the agent of an NGINX.
    Haproxy(HaproxyCall),
    /// Get a token and use it.
    Token(TokenCall),
    /// Ask Prometheus.
    Prometheus(PrometheusCall),
}

impl Call {
    /// Every URL that it asks.
    pub fn reached(&self) -> Vec<Reached<'_>> {
        match self {
            Call::Http(call) => vec![call.reached()],
            Call::Token(call) => {
                let token = Reached { url: &call.token_url, certificate: call.token_certificate };
                vec![token, call.request.reached()]
            }
            Call::Prometheus(call) => vec![Reached { url: &call.url, certificate: call.certificate }],
            Call::Command(_) | Call::Haproxy(_) => Vec::new(),
        }
    }

    /// Its secrets.
    pub fn credentials(&self) -> Vec<&Credential> {
        match self {
            Call::Http(call) => call.authorization.iter().collect(),
            Call::Prometheus(call) => call.authorization.iter().collect(),
            Call::Token(call) => vec![&call.client_secret],
            Call::Command(_) | Call::Haproxy(_) => Vec::new(),
        }
    }

    /// The same with `value` in place of each secret that stands by its name.
    ///
    /// # Errors
    /// The name that has no value.
    pub fn with_secrets(mut self, value: impl Fn(&SecretName) -> Option<Secret>) -> Result<Self, SecretName> {
        let place = match &mut self {
            Call::Http(call) => call.authorization.as_mut(),
            Call::Prometheus(call) => call.authorization.as_mut(),
            Call::Token(call) => Some(&mut call.client_secret),
            Call::Command(_) | Call::Haproxy(_) => None,
        };
        if let Some(place) = place
            && let Credential::Named(name) = place
        {
            let found = value(name).ok_or_else(|| name.clone())?;
            *place = Credential::Value(found);
        }
        Ok(self)
    }
}

impl Call {
    /// When a series of its tries ends.
    pub fn limits(&self, tries: &Tries) -> SeriesLimits {
        let inconclusive = match self {
            Call::Prometheus(call) => call.inconclusive,
            // What is not a measure has failed or not.
            Call::Http(_) | Call::Command(_) | Call::Haproxy(_) | Call::Token(_) => 1,
        };
        SeriesLimits { failed: tries.most, inconclusive }
    }

    /// The longest that all its tries take.
    pub fn longest(&self, tries: &Tries) -> Duration {
        match self {
            Call::Prometheus(call) => {
                let most = tries.most.max(1).saturating_add(call.inconclusive);
                Tries { most, ..*tries }.longest()
            }
            Call::Http(_) | Call::Command(_) | Call::Haproxy(_) | Call::Token(_) => tries.longest(),
        }
    }

    /// What makes it impossible or unsafe: the key and what is wrong with its value, which is not repeated. Checked
    /// where it is typed and again where it arrives, since a name with a line break in it would be another command.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Call::Http(call) => call.problem(),
            Call::Command(call) => {
                let drive = call.program.as_bytes().get(1) == Some(&b':');
                if !(call.program.starts_with('/') || drive) || !is_text(&call.program) {
                    return Some(("program", "is not an absolute path"));
                }
                let size: usize = call.args.iter().map(String::len).sum();
                let many = ARGS_MAX < call.args.len() || ARGS_SIZE_MAX < size;
                let bad = many || call.args.iter().any(|arg| !is_text(arg));
                bad.then_some(("args", "are too many, too long, or hold a control character"))
            }
            Call::Haproxy(call) => {
                let port = call.socket.strip_prefix("127.0.0.1:");
                let tcp = port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| 0 < port));
                if !(tcp || call.socket.starts_with('/') && is_text(&call.socket)) {
                    return Some(("socket", "is neither an absolute path nor 127.0.0.1:PORT"));
                }
                let name = |text: &str| {
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
                    !text.is_empty() && text.len() <= 256 && text.bytes().all(plain)
                };
                match (name(&call.backend), name(&call.server), call.balancer) {
                    (false, _, Kind::Haproxy) => Some(("backend", "is not a name of HAProxy")),
                    (false, _, Kind::Nginx) => Some(("upstream", "is not a name of an upstream")),
                    (true, false, Kind::Haproxy) => Some(("server", "is not a name of HAProxy")),
                    (true, false, Kind::Nginx) => Some(("server", "is not a name of a member")),
                    (true, true, _) => None,
                }
            }
            Call::Token(call) => {
                if !is_url(&call.token_url) {
                    return Some(("token_url", URL_RULE));
                }
                if call.client_id.is_empty() || !is_text(&call.client_id) || !is_text(&call.scope) {
                    return Some(("client_id", "is empty, too long, or holds a control character"));
                }
                call.request.problem()
            }
            Call::Prometheus(call) => call.problem(),
        }
    }
}

impl PrometheusCall {
    fn problem(&self) -> Option<(&'static str, &'static str)> {
        if !is_url(&self.url) || self.url.contains(['?', '#']) {
            return Some(("url", URL_RULE));
        }
        if self.query.trim().is_empty() || TEXT_MAX < self.query.len() || self.query.contains('\0') {
            return Some(("query", "is empty, too long, or holds a character that no query has"));
        }
        if !(1..=INCONCLUSIVE_MAX).contains(&self.inconclusive) {
            return Some(("inconclusive_tries", "is not 1 to 100"));
        }
        self.bound.problem().map(|why| ("max", why))
    }
}

const URL_RULE: &str =
    "is not a URL of the form http://host or https://host:port/path, without user and password";

impl HttpCall {
    fn reached(&self) -> Reached<'_> {
        Reached { url: &self.url, certificate: self.certificate }
    }

    fn problem(&self) -> Option<(&'static str, &'static str)> {
        if !is_url(&self.url) {
            return Some(("url", URL_RULE));
        }
        if !(100..600).contains(&self.status) {
            return Some(("status", "is not a status of HTTP"));
        }
        let long = [&self.body, &self.contains].into_iter().flatten().any(|text| TEXT_MAX < text.len());
        long.then_some(("body", "is too long, or `contains` is"))
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= TEXT_MAX && !text.chars().any(char::is_control)
}

fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_graphic() && c != '\\';
    is_text(url) && url.chars().all(plain) && !host.is_empty() && !host.contains('@')
}

/// What people read: never a secret, a body or an argument.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Http(call) => write!(f, "{} {}", call.method.as_str(), shown_url(&call.url)),
            Call::Command(call) => f.write_str(&call.program),
            Call::Haproxy(call) => {
                let HaproxyCall { socket, backend, server, .. } = call;
                let (title, state) = (call.balancer.title(), call.state.as_str());
                write!(f, "{title} {socket}: {backend}/{server} {state}")
            }
            Call::Token(call) => {
                let (method, url) = (call.request.method.as_str(), shown_url(&call.request.url));
                write!(f, "{method} {url} with a token of {}", shown_url(&call.token_url))
            }
            Call::Prometheus(call) => write!(f, "Prometheus {}", shown_url(&call.url)),
        }
    }
}

/// A URL without its query, which may hold anything.
fn shown_url(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// How often, how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// Of one try. Default: 10 s.
    pub timeout: Duration,
    /// At least one. Default: 1 for hooks, 3 for gates.
    pub most: u32,
    /// Between two. Default: 2 s.
    pub interval: Duration,
}

impl Tries {
    /// The longest that all of them take.
    pub fn longest(&self) -> Duration {
        self.timeout.saturating_add(self.interval).saturating_mul(self.most.max(1))
    }
}

/// What a failed hook means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HookFailure {
    /// `before_stop`: the server is not stopped. `after_ready`: the node does not count as ready.
    #[default]
    Abort,
    /// It is told, and the step goes on.
    Continue,
}

impl HookFailure {
    /// Every choice with its word.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Abort, "abort"), (Self::Continue, "continue")];

    /// The word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(choice, _)| *choice == self).map_or("abort", |(_, word)| word)
    }
}

/// Something to do around a stop. May happen twice, so it must be the same to do it twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// What.
    pub call: Call,
    /// How often, how long.
    pub tries: Tries,
    /// After it succeeded, so long for what is under way to end. HAProxy, or the agent of an NGINX, is asked
    /// meanwhile, and no session left ends it earlier. Default: none.
    pub settle: Duration,
    /// What a failure means.
    pub on_failure: HookFailure,
}

impl Hook {
    /// The longest that it takes.
    pub fn longest(&self) -> Duration {
        self.tries.longest().saturating_add(self.settle)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, timeout {}", self.call, Human(self.tries.timeout))?;
        if 1 < self.tries.most {
            write!(f, ", {} tries", self.tries.most)?;
        }
        if !self.settle.is_zero() {
            write!(f, ", settles for {}", Human(self.settle))?;
        }
        write!(f, ", on failure {}", self.on_failure.as_str())
    }
}

/// The hooks of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Before a stop that was planned.
    pub before_stop: Option<Hook>,
    /// When the server is ready again.
    pub after_ready: Option<Hook>,
}

impl Hooks {
    /// Each with the word people use for it.
    pub fn named(&self) -> impl Iterator<Item = (HookPoint, &Hook)> {
        let points = [HookPoint::BeforeStop, HookPoint::AfterReady];
        points.into_iter().filter_map(|point| Some((point, self.at(point)?)))
    }

    /// The hook of a point.
    pub fn at(&self, point: HookPoint) -> Option<&Hook> {
        match point {
            HookPoint::BeforeStop => self.before_stop.as_ref(),
            HookPoint::AfterReady => self.after_ready.as_ref(),
        }
    }

    /// What stands for them in a bundle's digest: all of it, secrets as their digests.
    pub(crate) fn canonical(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        let secrets: Vec<Digest> = self
            .named()
            .flat_map(|(_, hook)| hook.call.credentials())
            .filter_map(|credential| match credential {
                Credential::Value(secret) => Some(Digest::of(secret.expose().as_bytes())),
                Credential::Named(_) => None,
            })
            .collect();
        Some(format!("{self:?} {secrets:?}"))
    }
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    /// Before a stop that was planned.
    BeforeStop,
    /// When the server is ready again.
    AfterReady,
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HookPoint::BeforeStop => "before_stop",
            HookPoint::AfterReady => "after_ready",
        })
    }
}

/// A question to a node whose answer decides whether a rollout goes on.
#[derive(Clone, PartialEq, Eq)]
pub struct Check {
    /// Of the gate.
    pub name: String,
    /// What to do.
    pub call: Call,
    /// How often, how long.
    pub tries: Tries,
}

/// For logs: bodies, arguments and what an answer must hold may be secrets, which only the derived form shows.
impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("call", &format_args!("{}", self.call))
            .field("tries", &self.tries)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(url: &str) -> HttpCall {
        HttpCall {
            method: Method::Patch,
            url: url.to_owned(),
            status: 200,
            contains: None,
            body: Some("{\"drain\":true}".to_owned()),
            authorization: Some(Credential::Value(Secret::new("Bearer s3cret"))),
            certificate: None,
        }
    }

    #[test]
    fn nothing_that_is_printed_shows_a_secret() {
        let hook = Hook {
            call: Call::Http(http("http://lb:8080/api?key=s3cret")),
            tries: Tries { timeout: Duration::from_secs(5), most: 2, interval: Duration::from_secs(1) },
            settle: Duration::from_secs(20),
            on_failure: HookFailure::Abort,
        };
        let hooks = Hooks { before_stop: Some(hook.clone()), after_ready: None };
        assert_eq!(
            hook.to_string(),
            "PATCH http://lb:8080/api, timeout 5s, 2 tries, settles for 20s, on failure abort"
        );
        assert!(!format!("{:?}", hook.call.credentials()).contains("s3cret"));
        let other = |value: &str| {
            let mut hooks = hooks.clone();
            if let Some(Hook { call: Call::Http(call), .. }) = &mut hooks.before_stop {
                call.authorization = Some(Credential::Value(Secret::new(value)));
            }
            hooks.canonical()
        };
        assert_ne!(other("a"), other("b"), "another secret is another bundle");
        assert_eq!(Hooks::default().canonical(), None, "a bundle without hooks keeps its digest");
    }

    #[test]
    fn a_secret_by_name_is_put_in_or_named() {
        let name = SecretName::parse("lb.token").unwrap();
        let call = Call::Http(HttpCall {
            authorization: Some(Credential::Named(name.clone())),
            ..http("http://lb")
        });
        assert_eq!(call.clone().with_secrets(|_| None), Err(name));
        let filled = call.with_secrets(|_| Some(Secret::new("v"))).unwrap();
        assert_eq!(filled.credentials(), [&Credential::Value(Secret::new("v"))]);
    }

    #[test]
    fn a_name_that_would_be_another_command_is_no_name() {
        let call = |socket: &str, backend: &str, server: &str| {
            let call = HaproxyCall {
                balancer: Kind::Haproxy,
                socket: socket.into(),
                backend: backend.into(),
                server: server.into(),
                state: HaproxyState::Drain,
                listens: None,
            };
            Call::Haproxy(call).problem().map(|(key, _)| key)
        };
        assert_eq!(call("/run/haproxy.sock", "be", "is-1"), None);
        assert_eq!(call("127.0.0.1:9999", "be", "is-1"), None);
        assert_eq!(call("10.0.0.1:9999", "be", "is-1"), Some("socket"));
        assert_eq!(call("/run/haproxy.sock", "be;shutdown", "is-1"), Some("backend"));
        assert_eq!(call("/run/haproxy.sock", "be", "is-1\nset x"), Some("server"));
        let url = |url: &str| Call::Http(http(url)).problem().map(|(key, _)| key);
        assert_eq!(url("https://lb:8443/api?x=1"), None);
        for bad in ["lb:8080", "ftp://lb", "http://", "http://u:p@lb/", "http://lb/a b", "http://lb\\@x/"] {
            assert_eq!(url(bad), Some("url"), "{bad}");
        }
    }
}
