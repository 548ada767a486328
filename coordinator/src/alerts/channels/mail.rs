//! Mail over SMTP. All messages of one incident are one thread, since each refers to the incident's own id.

use std::{fmt, path::Path};

use fleet::{ids::Digest, spec::Secret};
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};

use super::{Payload, SEND_TIMEOUT, http::authorities_of};

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    /// A plain connection that must switch to TLS before anything is said.
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// None. For a mail server on the same host.
    Plain,
}

impl Protection {
    /// Where mail servers listen for it.
    const fn usual_port(self) -> u16 {
        match self {
            Protection::Starttls => 587,
            Protection::Tls => 465,
            Protection::Plain => 25,
        }
    }
}

/// User and password at the mail server.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// The mail server, as configured.
pub(crate) struct Relay<'a> {
    /// `host` or `host:port`.
    pub(crate) server: &'a str,
    pub(crate) protection: Protection,
    /// A PEM file of authorities to trust instead of the system's own.
    pub(crate) authorities: Option<&'a Path>,
    pub(crate) login: Option<Login>,
}

/// Sender, recipients, and the way to the mail server.
#[derive(Clone)]
pub(crate) struct Mail {
    server: String,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mail from {} by {}", self.from, self.server)
    }
}

impl Mail {
    /// Checks addresses and the way to the server; nothing is connected yet.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(crate) fn open(relay: Relay<'_>, from: &str, to: &[String]) -> Result<Self, String> {
        let Relay { server, protection, authorities, login } = relay;
        let (host, port) = host_and_port(server, protection)?;
        let tls = match protection {
            Protection::Plain if login.is_some() => {
                return Err("a password needs `tls = \"starttls\"` or \"tls\"".to_owned());
            }
            Protection::Plain => Tls::None,
            Protection::Starttls => Tls::Required(trusting(&host, authorities)?),
            Protection::Tls => Tls::Wrapper(trusting(&host, authorities)?),
        };
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
            .port(port)
            .tls(tls)
            .timeout(Some(SEND_TIMEOUT));
        let transport = match login {
            None => transport,
            Some(Login { user, password }) => {
                transport.credentials(Credentials::new(user, password.expose().to_owned()))
            }
        };
        if to.is_empty() {
            return Err("a mail needs `to`, a list of addresses".to_owned());
        }
        let to: Vec<Mailbox> = to.iter().map(|text| address(text)).collect::<Result<_, _>>()?;
        Ok(Self { server: format!("{host}:{port}"), transport: transport.build(), from: address(from)?, to })
    }

    /// Sends one message to all recipients.
    pub(super) async fn send(&self, payload: &Payload) -> Result<(), String> {
        let message = self.message(payload)?;
        // The error's text contains its cause.
        self.transport.send(message).await.map(drop).map_err(|error| format!("{}: {error}", self.server))
    }

    fn message(&self, payload: &Payload) -> Result<Message, String> {
        let domain = self.from.email.domain();
        let facts = payload.facts();
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(&facts.headline)
            .message_id(Some(format!("<{}@{domain}>", payload.delivery())));
        for mailbox in &self.to {
            message = message.to(mailbox.clone());
        }
        let threads = payload.incidents().map(|incident| {
            let id = Digest::of(incident.as_bytes()).to_string();
            format!("<incident-{}@{domain}>", &id[..16])
        });
        let threads: Vec<String> = threads.collect();
        if !threads.is_empty() {
            message = message.references(threads.join(" "));
        }
        // Whoever is away does not answer a machine.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        message = message.raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
        let message = message.header(ContentType::TEXT_PLAIN).body(facts.text.clone());
        message.map_err(|error| format!("cannot write the mail: {error}"))
    }
}

fn address(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|error| format!("{text:?} is not a mail address: {error}"))
}

fn host_and_port(server: &str, protection: Protection) -> Result<(String, u16), String> {
    let wrong = || format!("{server:?} is not a mail server; write \"host\" or \"host:port\"");
    let (host, port) = match server.rsplit_once(':') {
        // An IPv6 address has brackets where a port follows.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().map_err(|_| wrong())?)
        }
        Some(_) | None => (server, protection.usual_port()),
    };
    let host = host.trim_matches(['[', ']']);
    let is_host = !host.is_empty() && !host.contains(['/', '@', ' ']);
    if is_host { Ok((host.to_owned(), port)) } else { Err(wrong()) }
}

fn trusting(host: &str, authorities: Option<&Path>) -> Result<TlsParameters, String> {
    let builder = TlsParameters::builder(host.to_owned());
    let builder = match authorities {
        None => builder,
        Some(path) => {
            let mut builder = builder.certificate_store(CertificateStore::None);
            for certificate in authorities_of(path)? {
                let certificate = Certificate::from_der(certificate.to_vec());
                builder = builder.add_root_certificate(certificate.map_err(|error| error.to_string())?);
            }
            builder
        }
    };
    builder.build_rustls().map_err(|error| error.to_string())
}
