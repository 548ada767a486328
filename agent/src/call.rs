//! Makes the calls of hooks and gates: the only code that does (docs/decisions/0010-hooks-and-gates.md). Whether a call
//! is allowed was decided by the engine; here it is made, within its limits, and its outcome told without a secret.
//!
//! HTTPS: a certificate named by its SHA-256 is the only one accepted; a server on this host is pinned on first use
//! like probes; any other must be vouched for by `[allow] authorities`. Redirects are not followed.

mod haproxy;
mod prometheus;

use std::{path::Path, sync::Arc, time::Duration};

use base64::Engine as _;
use bytes::Bytes;
use fleet::{
    call::{
        Call, CommandCall, Credential, HaproxyState, Hook, HttpCall, Method, OnInconclusive, PrometheusCall,
        TokenCall, Tries,
        measure::{self, Measured, Miss, Series},
    },
    ids::Digest,
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{RootCertStore, client::WebPkiServerVerifier, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
};

pub use haproxy::rotation;
pub(crate) use haproxy::runtime_command;

use crate::probe::{self, Pins, Trust};

/// An answer longer than this is no answer, bytes.
const BODY_MAX: usize = 64 * 1024;
/// Of a command's output, only its end is kept, bytes.
const TAIL_MAX: usize = 4 * 1024;
/// What is told of an answer, characters.
const TOLD_MAX: usize = 200;
/// A command that has ended may have left its output to a child; it is not waited for any longer.
const OUTPUT_TIME: Duration = Duration::from_millis(300);

/// Makes calls.
#[derive(Debug, Clone)]
pub struct Caller {
    pins: Pins,
    /// Of the server's keystores: another set of them is pinned anew.
    keystores: String,
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

/// The authorities of a PEM file.
///
/// # Errors
/// What is wrong with the file.
pub fn read_authorities(path: &Path) -> Result<Arc<WebPkiServerVerifier>, String> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| error.to_string())
}

impl Caller {
    /// With the pins of probes, and whom else to trust.
    pub fn new(pins: Pins, authorities: Option<Arc<WebPkiServerVerifier>>) -> Self {
        Self { pins, keystores: String::new(), authorities }
    }

    /// For the server that has these keystores.
    pub fn with_keystores(&self, keystores: &str) -> Self {
        Self { keystores: keystores.to_owned(), ..self.clone() }
    }

    /// Runs a hook: the call, then the time for what is under way to end.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn hook(&self, hook: &Hook) -> Result<String, String> {
        let done = self.tried(&hook.call, &hook.tries).await?;
        if hook.settle.is_zero() {
            return Ok(done);
        }
        match &hook.call {
            Call::Haproxy(call) if call.state != HaproxyState::Ready => {
                let left = haproxy::drained(call, hook.settle).await;
                Ok(format!("{done}; {left}"))
            }
            Call::Haproxy(_) | Call::Http(_) | Call::Command(_) | Call::Token(_) | Call::Prometheus(_) => {
                tokio::time::sleep(hook.settle).await;
                Ok(done)
            }
        }
    }

    /// Makes a call until it succeeds, as often as it may be tried.
    ///
    /// # Errors
    /// Why the last try failed.
    pub async fn tried(&self, call: &Call, tries: &Tries) -> Result<String, String> {
        let (mut series, limits, mut turns) = (Series::default(), call.limits(tries), 0_u32);
        let (miss, why) = loop {
            let missed = match tokio::time::timeout(tries.timeout, self.once(call, tries.timeout)).await {
                Ok(Ok(done)) => return Ok(format!("{call}: {done}")),
                Ok(Err(missed)) => missed,
                Err(_) => {
                    let why = format!("no answer within {}", fleet::time::Human(tries.timeout));
                    let miss = if is_measure(call) { Miss::Inconclusive } else { Miss::Failed };
                    Missed { miss, why }
                }
            };
            turns += 1;
            if series.is_over(missed.miss, limits) {
                break (missed.miss, missed.why);
            }
            tokio::time::sleep(tries.interval).await;
        };
        let why = without_secrets(why, call);
        let tried = if 1 < turns { format!(" ({turns} tries)") } else { String::new() };
        match (miss, call) {
            (Miss::Inconclusive, Call::Prometheus(measure)) => {
                let said = format!("{call}: inconclusive: {why}{tried}");
                match measure.on_inconclusive {
                    OnInconclusive::Pass => Ok(said),
                    OnInconclusive::Fail => Err(said),
                }
            }
            (Miss::Failed | Miss::Inconclusive, _) => Err(format!("{call}: {why}{tried}")),
        }
    }

    /// One try, which has this long.
    async fn once(&self, call: &Call, most: Duration) -> Result<String, Missed> {
        let made = match call {
            Call::Prometheus(call) => return self.prometheus(call).await,
            Call::Http(call) => match call.authorization.as_ref().map(value).transpose() {
                Ok(authorization) => self.http(call, authorization).await,
                Err(why) => Err(why),
            },
            Call::Command(call) => command(call).await,
            Call::Haproxy(call) => haproxy::set(call, most).await,
            Call::Token(call) => self.token(call).await,
        };
        made.map_err(|why| Missed { miss: Miss::Failed, why })
    }

    /// Asks Prometheus. What cannot be asked or read is as inconclusive as no data.
    async fn prometheus(&self, call: &PrometheusCall) -> Result<String, Missed> {
        let inconclusive = |why| Missed { miss: Miss::Inconclusive, why };
        let request = HttpCall {
            method: Method::Post,
            url: format!("{}/api/v1/query", call.url.trim_end_matches('/')),
            status: 200,
            contains: None,
            body: Some(format!("query={}", encoded(&call.query))),
            authorization: None,
            certificate: call.certificate,
        };
        let authorization = call.authorization.as_ref().map(value).transpose().map_err(inconclusive)?;
        let body = self.answer(&request, authorization).await.map_err(inconclusive)?;
        let values = prometheus::values(&body).map_err(inconclusive)?;
        match measure::judge(&values, &call.bound) {
            Measured::Within(said) => Ok(said),
            Measured::Outside(why) => Err(Missed { miss: Miss::Failed, why }),
            Measured::Inconclusive(why) => Err(inconclusive(why)),
        }
    }

    async fn http(&self, call: &HttpCall, authorization: Option<&str>) -> Result<String, String> {
        let body = self.answer(call, authorization).await?;
        match &call.contains {
            Some(text) if !String::from_utf8_lossy(&body).contains(text.as_str()) => {
                // The text may be a secret; whoever wrote the gate knows it.
                Err(format!("status {}, but the answer does not hold the text of `contains`", call.status))
            }
            _ => Ok(format!("status {}", call.status)),
        }
    }

    async fn token(&self, call: &TokenCall) -> Result<String, String> {
        let scope =
            if call.scope.is_empty() { String::new() } else { format!("&scope={}", encoded(&call.scope)) };
        let basic = basic(&encoded(&call.client_id), &encoded(value(&call.client_secret)?));
        let request = HttpCall {
            method: Method::Post,
            url: call.token_url.clone(),
            status: 200,
            contains: None,
            body: Some(format!("grant_type=client_credentials{scope}")),
            authorization: None,
            certificate: call.token_certificate,
        };
        let answer = self.answer(&request, Some(&basic)).await.map_err(|why| format!("no token: {why}"))?;
        let answer: Option<serde_json::Value> = serde_json::from_slice(&answer).ok();
        let token = answer.as_ref().and_then(|answer| answer.get("access_token")?.as_str());
        let token = token.ok_or("no token: the answer of the token endpoint holds none")?;
        let done = self.http(&call.request, Some(&format!("Bearer {token}"))).await;
        done.map_err(|why| format!("with a token: {}", why.replace(token, "…")))
    }

    /// The body of an answer with the expected status.
    async fn answer(&self, call: &HttpCall, authorization: Option<&str>) -> Result<Bytes, String> {
        let answer = self.ask(call, authorization, BODY_MAX).await?;
        if answer.status != call.status {
            return Err(format!("status {}, not {}", answer.status, call.status));
        }
        answer.body
    }

    /// The answer, whatever its status. A body may have `body_max` bytes.
    ///
    /// # Errors
    /// Nobody answers, or not with a certificate that is vouched for.
    pub async fn ask(
        &self,
        call: &HttpCall,
        authorization: Option<&str>,
        body_max: usize,
    ) -> Result<Answer, String> {
        let uri: http::Uri = call.url.parse().map_err(|_| "it is not a URL".to_owned())?;
        let (host, tls) = (uri.host().unwrap_or_default().to_owned(), uri.scheme_str() == Some("https"));
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let dialled = host.trim_matches(['[', ']']).to_owned();
        let stream = TcpStream::connect((dialled.as_str(), port)).await.map_err(|error| error.to_string())?;
        if !tls {
            return exchange(stream, (call, &uri), authorization, body_max).await;
        }
        let trust = self.trust(call.certificate, &dialled, port)?;
        let stream = probe::secure(stream, trust, &dialled).await.map_err(|error| crate::chain(&error))?;
        exchange(stream, (call, &uri), authorization, body_max).await
    }

    fn trust(&self, certificate: Option<Digest>, host: &str, port: u16) -> Result<Trust, String> {
        let local = ["localhost", "127.0.0.1", "::1"].contains(&host);
        match (certificate, &self.authorities) {
            (Some(digest), _) => Ok(Trust::Exactly(digest.0)),
            (None, _) if local => {
                Ok(Trust::FirstUse { pins: self.pins.clone(), key: format!("{port} {}", self.keystores) })
            }
            (None, Some(authorities)) => Ok(Trust::Authorities(Arc::clone(authorities))),
            (None, None) => {
                Err("nobody vouches for its certificate: name it by `certificate_sha256`, or its \
                                 authority by `authorities` in [allow] of the agent's configuration"
                    .to_owned())
            }
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// Or why it could not be read.
    pub body: Result<Bytes, String>,
}

/// A try that did not succeed.
struct Missed {
    miss: Miss,
    why: String,
}

fn is_measure(call: &Call) -> bool {
    match call {
        Call::Prometheus(_) => true,
        Call::Http(_) | Call::Command(_) | Call::Haproxy(_) | Call::Token(_) => false,
    }
}

/// What a credential is, once the coordinator has put it in.
fn value(credential: &Credential) -> Result<&str, String> {
    match credential {
        Credential::Value(secret) => Ok(secret.expose()),
        Credential::Named(name) => Err(format!("the secret {name} was not put in")),
    }
}

/// An answer may repeat what it was sent.
fn without_secrets(mut text: String, call: &Call) -> String {
    for credential in call.credentials() {
        if let Credential::Value(secret) = credential
            && !secret.expose().is_empty()
        {
            text = text.replace(secret.expose(), "…");
            let bare = ["Bearer ", "Basic "].iter().find_map(|scheme| secret.expose().strip_prefix(scheme));
            if let Some(bare) = bare.filter(|bare| !bare.is_empty()) {
                text = text.replace(bare, "…");
            }
        }
    }
    text
}

/// The header `Authorization` of somebody with a password.
pub fn basic(user: &str, password: &str) -> String {
    let pair = format!("{user}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// `application/x-www-form-urlencoded`.
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
        out
    })
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    (call, uri): (&HttpCall, &http::Uri),
    authorization: Option<&str>,
    body_max: usize,
) -> Result<Answer, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| format!("no HTTP: {}", crate::chain(&error)))?;
    let driver = crate::task::spawn("connection of a call", connection);
    let answer = async {
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let address = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let mut request = http::Request::builder()
            .method(call.method.as_str())
            .uri(path)
            .header("host", address)
            .header("accept", "*/*")
            .header("connection", "close");
        if let Some(authorization) = authorization {
            let mut header = http::HeaderValue::from_str(authorization)
                .map_err(|_| "the authorization cannot be a header".to_owned())?;
            header.set_sensitive(true);
            request = request.header("authorization", header);
        }
        if let Some(body) = &call.body {
            let json = body.trim_start().starts_with(['{', '[']);
            let kind = if json { "application/json" } else { "application/x-www-form-urlencoded" };
            request = request.header("content-type", kind);
        }
        let body = Full::new(Bytes::from(call.body.clone().unwrap_or_default()));
        let request = request.body(body).map_err(|error| error.to_string())?;
        let sent = sender.send_request(request).await;
        let response = sent.map_err(|error| format!("no answer: {}", crate::chain(&error)))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), body_max).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).map_err(|error| format!("no body: {error}"));
        Ok(Answer { status, body })
    };
    let answer = answer.await;
    driver.abort();
    answer
}

/// Runs a program: no shell, nothing of the agent's environment, all of its group killed when it takes too long.
async fn command(call: &CommandCall) -> Result<String, String> {
    let mut command = tokio::process::Command::new(&call.program);
    command
        .args(&call.args)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let group = Group(child.id());
    let (out, err) = (Tail::default(), Tail::default());
    let readers = [
        child.stdout.take().map(|pipe| crate::task::spawn("output of a call", out.clone().read(pipe))),
        child.stderr.take().map(|pipe| crate::task::spawn("output of a call", err.clone().read(pipe))),
    ];
    let status = child.wait().await.map_err(|error| error.to_string())?;
    for reader in readers.into_iter().flatten() {
        let abort = reader.abort_handle();
        if tokio::time::timeout(OUTPUT_TIME, reader).await.is_err() {
            abort.abort();
        }
    }
    group.ended();
    if status.success() {
        return Ok("exit status 0".to_owned());
    }
    let said = err.last_line().or_else(|| out.last_line());
    let how =
        status.code().map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit status {code}"));
    Err(said.map_or_else(|| how.clone(), |said| format!("{how}: {said}")))
}

/// The process group of a command: killed unless the command ended by itself.
struct Group(Option<u32>);

impl Group {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) =
            self.0.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw)
        {
            let killed = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            tracing::debug!(?killed, "A command took too long and is ended with its children");
        }
    }
}

/// The end of an output.
#[derive(Debug, Clone, Default)]
struct Tail(Arc<std::sync::Mutex<Vec<u8>>>);

impl Tail {
    async fn read(self, mut pipe: impl AsyncRead + Unpin) {
        let mut block = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut block).await {
            let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            kept.extend_from_slice(&block[..read]);
            let surplus = kept.len().saturating_sub(TAIL_MAX);
            kept.drain(..surplus);
        }
    }

    fn last_line(&self) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept).into_owned();
        let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(told(line))
    }
}

/// One line that may be shown: short, printable, its secrets masked.
fn told(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(TOLD_MAX).collect();
    fleet::finding::mask_line(&line)
}

#[cfg(test)]
mod tests;
