//! Hooks and gates on the wire. What arrives is checked again: a name with a line break in it would be another command.

use std::time::Duration;

use fleet::{
    balancer::Kind,
    call::{
        Call, Check, CommandCall, Credential, HaproxyCall, HaproxyState, Hook, HookFailure, Hooks, HttpCall,
        Listens, Method, OnInconclusive, PrometheusCall, TIMEOUT_MAX, TRIES_MAX, TokenCall, Tries,
        measure::{Bound, Finite},
    },
    ids::Digest,
    spec::{Secret, SecretName},
};

use crate::{
    convert::{
        ConvertError,
        bundle::{digest, millis},
        invalid, required,
    },
    wire::call as wire,
};

fn word<T: Copy>(
    choices: &[(T, &'static str)],
    word: &str,
    message: &'static str,
    field: &'static str,
) -> Result<T, ConvertError> {
    let known = choices.iter().find(|(_, known)| *known == word).map(|(choice, _)| *choice);
    known.ok_or_else(|| invalid(message, field, "an unknown word"))
}

fn certificate(bytes: &[u8], message: &'static str) -> Result<Option<Digest>, ConvertError> {
    if bytes.is_empty() { Ok(None) } else { digest(bytes, message, "certificate").map(Some) }
}

fn bytes_of(certificate: Option<&Digest>) -> Vec<u8> {
    certificate.map_or_else(Vec::new, |digest| digest.0.to_vec())
}

impl From<&Credential> for wire::Credential {
    fn from(credential: &Credential) -> Self {
        match credential {
            Credential::Named(name) => Self { name: name.as_str().to_owned(), value: String::new() },
            Credential::Value(secret) => Self { name: String::new(), value: secret.expose().to_owned() },
        }
    }
}

impl TryFrom<wire::Credential> for Credential {
    type Error = ConvertError;

    fn try_from(credential: wire::Credential) -> Result<Self, ConvertError> {
        if credential.name.is_empty() {
            return Ok(Credential::Value(Secret::new(credential.value)));
        }
        let name = SecretName::parse(&credential.name);
        name.map(Credential::Named).map_err(|error| invalid("Credential", "name", error.to_string()))
    }
}

/// A value has no form for logs.
impl std::fmt::Debug for wire::Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("name", &self.name).finish_non_exhaustive()
    }
}

impl From<&HttpCall> for wire::HttpCall {
    fn from(call: &HttpCall) -> Self {
        Self {
            method: call.method.as_str().to_owned(),
            url: call.url.clone(),
            status: call.status.into(),
            contains: call.contains.clone(),
            body: call.body.clone(),
            authorization: call.authorization.as_ref().map(Into::into),
            certificate_sha256: bytes_of(call.certificate.as_ref()),
        }
    }
}

impl TryFrom<wire::HttpCall> for HttpCall {
    type Error = ConvertError;

    fn try_from(call: wire::HttpCall) -> Result<Self, ConvertError> {
        Ok(Self {
            method: word(&Method::ALL, &call.method, "HttpCall", "method")?,
            url: call.url,
            status: u16::try_from(call.status)
                .map_err(|_| invalid("HttpCall", "status", "more than 65535"))?,
            contains: call.contains,
            body: call.body,
            authorization: call.authorization.map(Credential::try_from).transpose()?,
            certificate: certificate(&call.certificate_sha256, "HttpCall")?,
        })
    }
}

impl From<&PrometheusCall> for wire::PrometheusCall {
    fn from(call: &PrometheusCall) -> Self {
        let choices = OnInconclusive::ALL;
        let word =
            choices.iter().find(|(choice, _)| *choice == call.on_inconclusive).map_or("fail", |it| it.1);
        Self {
            url: call.url.clone(),
            query: call.query.clone(),
            min: call.bound.min.map(Finite::get),
            max: call.bound.max.map(Finite::get),
            authorization: call.authorization.as_ref().map(Into::into),
            certificate_sha256: bytes_of(call.certificate.as_ref()),
            inconclusive: call.inconclusive,
            on_inconclusive: word.to_owned(),
        }
    }
}

impl TryFrom<wire::PrometheusCall> for PrometheusCall {
    type Error = ConvertError;

    fn try_from(call: wire::PrometheusCall) -> Result<Self, ConvertError> {
        let end = |number: Option<f64>, field| match number.map(Finite::new) {
            Some(None) => Err(invalid("PrometheusCall", field, "not a finite number")),
            Some(number) => Ok(number),
            None => Ok(None),
        };
        Ok(Self {
            bound: Bound { min: end(call.min, "min")?, max: end(call.max, "max")? },
            url: call.url,
            query: call.query,
            authorization: call.authorization.map(Credential::try_from).transpose()?,
            certificate: certificate(&call.certificate_sha256, "PrometheusCall")?,
            inconclusive: call.inconclusive,
            on_inconclusive: word(
                &OnInconclusive::ALL,
                &call.on_inconclusive,
                "PrometheusCall",
                "on_inconclusive",
            )?,
        })
    }
}

/// A call and how often it is tried.
fn call_to_wire(call: &Call, tries: &Tries) -> wire::Call {
    let kind = match call {
        Call::Http(call) => wire::call::Call::Http(call.into()),
        Call::Command(call) => wire::call::Call::Command(wire::CommandCall {
            program: call.program.clone(),
            args: call.args.clone(),
        }),
        Call::Haproxy(call) => wire::call::Call::Haproxy(wire::HaproxyCall {
            socket: call.socket.clone(),
            backend: call.backend.clone(),
            server: call.server.clone(),
            state: call.state.as_str().to_owned(),
            port: call.listens.map_or(0, |listens| u32::from(listens.port)),
            check_port: call.listens.and_then(|listens| listens.check).map_or(0, u32::from),
            // Nothing for HAProxy, so that a call of it keeps its bytes.
            balancer: match call.balancer {
                Kind::Haproxy => String::new(),
                Kind::Nginx => call.balancer.as_str().to_owned(),
            },
        }),
        Call::Token(call) => wire::call::Call::Token(wire::TokenCall {
            token_url: call.token_url.clone(),
            client_id: call.client_id.clone(),
            client_secret: Some((&call.client_secret).into()),
            scope: call.scope.clone(),
            token_certificate_sha256: bytes_of(call.token_certificate.as_ref()),
            request: Some((&call.request).into()),
        }),
        Call::Prometheus(call) => wire::call::Call::Prometheus(call.into()),
    };
    wire::Call {
        call: Some(kind),
        timeout_ms: millis(tries.timeout),
        tries: tries.most,
        interval_ms: millis(tries.interval),
    }
}

fn behind(word: &str) -> Result<Kind, ConvertError> {
    if word.is_empty() {
        return Ok(Kind::Haproxy);
    }
    Kind::parse(word).ok_or_else(|| invalid("HaproxyCall", "balancer", "an unknown word"))
}

fn listens(port: u32, check: u32) -> Result<Option<Listens>, ConvertError> {
    let number = |port: u32| {
        u16::try_from(port).map_err(|_| invalid("HaproxyCall", "port", format!("{port} is not 1 to 65535")))
    };
    let (port, check) = (number(port)?, number(check)?);
    Ok((port != 0).then_some(Listens { port, check: (check != 0).then_some(check) }))
}

fn call_from_wire(call: wire::Call) -> Result<(Call, Tries), ConvertError> {
    let tries = Tries {
        timeout: Duration::from_millis(call.timeout_ms).min(TIMEOUT_MAX),
        most: call.tries.clamp(1, TRIES_MAX),
        interval: Duration::from_millis(call.interval_ms).min(TIMEOUT_MAX),
    };
    let call = match required(call.call, "Call", "call")? {
        wire::call::Call::Http(call) => Call::Http(call.try_into()?),
        wire::call::Call::Command(call) => {
            Call::Command(CommandCall { program: call.program, args: call.args })
        }
        wire::call::Call::Haproxy(call) => Call::Haproxy(HaproxyCall {
            balancer: behind(&call.balancer)?,
            socket: call.socket,
            backend: call.backend,
            server: call.server,
            state: word(&HaproxyState::ALL, &call.state, "HaproxyCall", "state")?,
            listens: listens(call.port, call.check_port)?,
        }),
        wire::call::Call::Token(call) => Call::Token(TokenCall {
            token_url: call.token_url,
            client_id: call.client_id,
            client_secret: required(call.client_secret, "TokenCall", "client_secret")?.try_into()?,
            scope: call.scope,
            token_certificate: certificate(&call.token_certificate_sha256, "TokenCall")?,
            request: required(call.request, "TokenCall", "request")?.try_into()?,
        }),
        wire::call::Call::Prometheus(call) => Call::Prometheus(call.try_into()?),
    };
    match call.problem() {
        Some((key, why)) => Err(invalid("Call", key, why)),
        None => Ok((call, tries)),
    }
}

impl From<&Hook> for wire::Hook {
    fn from(hook: &Hook) -> Self {
        Self {
            call: Some(call_to_wire(&hook.call, &hook.tries)),
            settle_ms: millis(hook.settle),
            on_failure: hook.on_failure.as_str().to_owned(),
        }
    }
}

impl TryFrom<wire::Hook> for Hook {
    type Error = ConvertError;

    fn try_from(hook: wire::Hook) -> Result<Self, ConvertError> {
        let (call, tries) = call_from_wire(required(hook.call, "Hook", "call")?)?;
        Ok(Self {
            call,
            tries,
            settle: Duration::from_millis(hook.settle_ms).min(TIMEOUT_MAX),
            on_failure: word(&HookFailure::ALL, &hook.on_failure, "Hook", "on_failure")?,
        })
    }
}

/// `None` for no hooks, so that a bundle of a version that knew none keeps its bytes.
pub(crate) fn hooks_to_wire(hooks: &Hooks) -> Option<wire::Hooks> {
    let one = |hook: &Option<Hook>| hook.as_ref().map(Into::into);
    let wire = wire::Hooks { before_stop: one(&hooks.before_stop), after_ready: one(&hooks.after_ready) };
    (*hooks != Hooks::default()).then_some(wire)
}

pub(crate) fn hooks_from_wire(hooks: Option<wire::Hooks>) -> Result<Hooks, ConvertError> {
    let Some(hooks) = hooks else { return Ok(Hooks::default()) };
    let one = |hook: Option<wire::Hook>| hook.map(Hook::try_from).transpose();
    Ok(Hooks { before_stop: one(hooks.before_stop)?, after_ready: one(hooks.after_ready)? })
}

impl From<&Check> for wire::Check {
    fn from(check: &Check) -> Self {
        Self { name: check.name.clone(), call: Some(call_to_wire(&check.call, &check.tries)) }
    }
}

impl TryFrom<wire::Check> for Check {
    type Error = ConvertError;

    fn try_from(check: wire::Check) -> Result<Self, ConvertError> {
        let (call, tries) = call_from_wire(required(check.call, "Check", "call")?)?;
        Ok(Self { name: check.name, call, tries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> HttpCall {
        HttpCall {
            method: Method::Patch,
            url: "https://lb:8443/api".into(),
            status: 204,
            contains: Some("x".into()),
            body: Some("{}".into()),
            authorization: Some(Credential::Value(Secret::new("Bearer s3cret"))),
            certificate: Some(Digest([7; 32])),
        }
    }

    fn calls() -> Vec<Call> {
        vec![
            Call::Http(http()),
            Call::Command(CommandCall { program: "/bin/true".into(), args: vec!["a".into()] }),
            Call::Haproxy(HaproxyCall {
                balancer: Kind::Haproxy,
                socket: "/run/h".into(),
                backend: "b".into(),
                server: "s".into(),
                state: HaproxyState::Maint,
                listens: Some(Listens { port: 9445, check: Some(9765) }),
            }),
            Call::Haproxy(HaproxyCall {
                balancer: Kind::Nginx,
                socket: "/run/n".into(),
                backend: "b".into(),
                server: "s".into(),
                state: HaproxyState::Drain,
                listens: None,
            }),
            Call::Token(TokenCall {
                token_url: "https://km/token".into(),
                client_id: "c".into(),
                client_secret: Credential::Named(SecretName::parse("gate.client").unwrap()),
                scope: "a b".into(),
                token_certificate: None,
                request: http(),
            }),
            Call::Prometheus(PrometheusCall {
                url: "https://prom:9090".into(),
                query: "up".into(),
                bound: Bound { min: Finite::new(0.5), max: None },
                authorization: Some(Credential::Named(SecretName::parse("prom.token").unwrap())),
                certificate: Some(Digest([8; 32])),
                inconclusive: 7,
                on_inconclusive: OnInconclusive::Pass,
            }),
        ]
    }

    const TRIES: Tries =
        Tries { timeout: Duration::from_secs(3), most: 4, interval: Duration::from_millis(1500) };

    #[test]
    fn hooks_and_checks_read_back() {
        for call in calls() {
            let check = Check { name: "gate".into(), call: call.clone(), tries: TRIES };
            assert_eq!(Check::try_from(wire::Check::from(&check)).unwrap(), check);
            let hook = Hook {
                call,
                tries: TRIES,
                settle: Duration::from_secs(9),
                on_failure: HookFailure::Continue,
            };
            let hooks = Hooks { before_stop: Some(hook.clone()), after_ready: Some(hook) };
            assert_eq!(hooks_from_wire(hooks_to_wire(&hooks)).unwrap(), hooks);
        }
        assert!(hooks_to_wire(&Hooks::default()).is_none());
    }

    #[test]
    fn a_message_shows_no_secret_and_smuggles_no_command() {
        let hook = Hook {
            call: Call::Http(http()),
            tries: TRIES,
            settle: Duration::ZERO,
            on_failure: HookFailure::Abort,
        };
        let wire = wire::Hook::from(&hook);
        assert!(!format!("{wire:?}").contains("s3cret"), "{wire:?}");
        let mut call = call_to_wire(&calls()[2], &TRIES);
        if let Some(wire::call::Call::Haproxy(haproxy)) = &mut call.call {
            haproxy.server = "s; shutdown".into();
        }
        assert!(call_from_wire(call).unwrap_err().to_string().contains("not a name of HAProxy"));
    }
}
