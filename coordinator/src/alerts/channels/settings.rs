//! `[alerts]` of the coordinator's configuration: typed, checked, and its secret files read.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use fleet::{
    alert::{FIRST_AFTER, Severity},
    ids::{ChannelName, NameError},
    spec::Secret,
};
use serde::Deserialize;

use super::{
    Channel, ChannelKind, Endpoint, Program,
    mail::{Login, Mail, Protection, Relay},
};

/// A file that holds a secret has at most so many bytes.
const SECRET_FILE_MAX: u64 = 16 * 1024;
/// A channel is a task; more of them than this are a mistake.
const CHANNELS_MAX: usize = 32;

/// `[alerts]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertSettings {
    /// From the first sign of an incident to its first message.
    #[serde(deserialize_with = "crate::config::duration")]
    pub first_after: Duration,
    /// Where alerts go, by name.
    pub channels: BTreeMap<String, ChannelText>,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self { first_after: FIRST_AFTER, channels: BTreeMap::new() }
    }
}

/// `[alerts.channels.NAME]` as typed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelText {
    kind: KindText,
    /// The least severity that it carries.
    severity: Option<SeverityText>,
    url: Option<UrlText>,
    /// Holds the URL, if that is a secret.
    url_file: Option<PathBuf>,
    secret_file: Option<PathBuf>,
    previous_secret_file: Option<PathBuf>,
    authorities: Option<PathBuf>,
    program: Option<PathBuf>,
    args: Option<Vec<String>>,
    /// The mail server.
    server: Option<String>,
    tls: Option<TlsText>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    from: Option<String>,
    to: Option<Vec<String>>,
}

/// How the connection to a mail server is protected, as typed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TlsText {
    Starttls,
    Tls,
    None,
}

/// What a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindText {
    Webhook,
    Alertmanager,
    Command,
    Log,
    Mail,
    Slack,
    Teams,
}

impl KindText {
    const fn as_str(self) -> &'static str {
        match self {
            KindText::Webhook => "webhook",
            KindText::Alertmanager => "alertmanager",
            KindText::Command => "command",
            KindText::Log => "log",
            KindText::Mail => "mail",
            KindText::Slack => "slack",
            KindText::Teams => "teams",
        }
    }

    /// The keys that it takes besides `kind` and `severity`.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            KindText::Webhook => &["url", "url_file", "secret_file", "previous_secret_file", "authorities"],
            KindText::Alertmanager | KindText::Slack | KindText::Teams => &["url", "url_file", "authorities"],
            KindText::Command => &["program", "args"],
            KindText::Log => &[],
            KindText::Mail => &["server", "tls", "user", "password_file", "authorities", "from", "to"],
        }
    }
}

/// A severity as typed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SeverityText {
    Info,
    Warning,
    Critical,
}

/// Somebody may type a URL here that is a secret, although it belongs into a file.
#[derive(Clone, Deserialize)]
struct UrlText(String);

impl std::fmt::Debug for UrlText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Why a channel cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Its name.
    #[error("[alerts.channels]: this is no name of a channel")]
    Name(#[source] NameError),
    /// There are too many.
    #[error(
        "[alerts.channels]: {count} channels are more than {CHANNELS_MAX}; one program can tell many people"
    )]
    TooMany {
        /// So many.
        count: usize,
    },
    /// What was typed.
    #[error("[alerts.channels.{channel}]: {why}")]
    Typed {
        /// Which channel.
        channel: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// A file cannot be read.
    #[error("[alerts.channels.{channel}]: cannot read {}", path.display())]
    Read {
        /// Which channel.
        channel: String,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl AlertSettings {
    /// The channels, ready to use.
    ///
    /// # Errors
    /// Names the channel, and says what to write instead.
    pub fn open(&self) -> Result<Vec<Channel>, ChannelError> {
        if CHANNELS_MAX < self.channels.len() {
            return Err(ChannelError::TooMany { count: self.channels.len() });
        }
        self.channels.iter().map(|(name, text)| text.open(name, self.first_after)).collect()
    }
}

impl ChannelText {
    fn open(&self, name: &str, first_after: Duration) -> Result<Channel, ChannelError> {
        let typed = |why: String| ChannelError::Typed { channel: name.to_owned(), why };
        let channel = ChannelName::parse(name).map_err(ChannelError::Name)?;
        let least = match self.severity {
            None | Some(SeverityText::Info) => Severity::Info,
            Some(SeverityText::Warning) => Severity::Warning,
            Some(SeverityText::Critical) => Severity::Critical,
        };
        for (key, given) in self.given() {
            if given && !self.kind.keys().contains(&key) {
                return Err(typed(format!("a {} has no `{key}`; remove it", self.kind.as_str())));
            }
        }
        let kind = match self.kind {
            KindText::Webhook => {
                let files = [&self.secret_file, &self.previous_secret_file];
                let secrets = files.into_iter().flatten().map(|path| secret(name, path));
                let secrets: Vec<Secret> = secrets.collect::<Result<_, _>>()?;
                if self.secret_file.is_none() && self.previous_secret_file.is_some() {
                    return Err(typed("`previous_secret_file` needs `secret_file` beside it".to_owned()));
                }
                ChannelKind::Webhook { endpoint: self.endpoint(name, &typed)?, secrets }
            }
            KindText::Alertmanager => {
                let endpoint = self.endpoint(name, &typed)?.below("/api/v2/alerts").map_err(typed)?;
                ChannelKind::Alertmanager { endpoint }
            }
            KindText::Slack => ChannelKind::Slack { endpoint: self.endpoint(name, &typed)? },
            KindText::Teams => ChannelKind::Teams { endpoint: self.endpoint(name, &typed)? },
            KindText::Command => {
                let program = self.program.clone().filter(|program| program.is_absolute());
                let program =
                    program.ok_or_else(|| typed("a command needs `program`, an absolute path".to_owned()))?;
                ChannelKind::Command(Program { program, args: self.args.clone().unwrap_or_default() })
            }
            KindText::Log => ChannelKind::Log,
            KindText::Mail => ChannelKind::Mail(Box::new(self.mail(name)?)),
        };
        Ok(Channel { name: channel, least, first_after, kind })
    }

    fn mail(&self, name: &str) -> Result<Mail, ChannelError> {
        let typed = |why: String| ChannelError::Typed { channel: name.to_owned(), why };
        let needed = |key: &str, example: &str| typed(format!("a mail needs `{key}`, for example {example}"));
        let server = self.server.as_deref();
        let server = server.ok_or_else(|| needed("server", "\"smtp.example.org:587\""))?;
        let from = self.from.as_deref().ok_or_else(|| needed("from", "\"convoy@example.org\""))?;
        let to = self.to.as_deref().ok_or_else(|| needed("to", "[\"ops@example.org\"]"))?;
        let login = match (&self.user, &self.password_file) {
            (None, None) => None,
            (Some(user), Some(path)) => Some(Login { user: user.clone(), password: secret(name, path)? }),
            (Some(_), None) | (None, Some(_)) => {
                return Err(typed("`user` and `password_file` come together or not at all".to_owned()));
            }
        };
        let protection = match self.tls {
            None | Some(TlsText::Starttls) => Protection::Starttls,
            Some(TlsText::Tls) => Protection::Tls,
            Some(TlsText::None) => Protection::Plain,
        };
        let relay = Relay { server, protection, authorities: self.authorities.as_deref(), login };
        Mail::open(relay, from, to).map_err(typed)
    }

    fn given(&self) -> [(&'static str, bool); 13] {
        [
            ("url", self.url.is_some()),
            ("url_file", self.url_file.is_some()),
            ("secret_file", self.secret_file.is_some()),
            ("previous_secret_file", self.previous_secret_file.is_some()),
            ("authorities", self.authorities.is_some()),
            ("program", self.program.is_some()),
            ("args", self.args.is_some()),
            ("server", self.server.is_some()),
            ("tls", self.tls.is_some()),
            ("user", self.user.is_some()),
            ("password_file", self.password_file.is_some()),
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
        ]
    }

    fn endpoint(
        &self,
        name: &str,
        typed: &impl Fn(String) -> ChannelError,
    ) -> Result<Endpoint, ChannelError> {
        let url = match (&self.url, &self.url_file) {
            (Some(UrlText(url)), None) => Secret::new(url.clone()),
            (None, Some(path)) => secret(name, path)?,
            (Some(_), Some(_)) => {
                return Err(typed("`url` and `url_file` are both given; keep one of them".to_owned()));
            }
            (None, None) => {
                return Err(typed(format!(
                    "a {} needs `url`, or `url_file` if the URL is a secret",
                    self.kind.as_str()
                )));
            }
        };
        Endpoint::parse(url.expose(), self.authorities.as_deref()).map_err(typed)
    }
}

/// The value of a file that nobody but its owner may read.
fn secret(channel: &str, path: &Path) -> Result<Secret, ChannelError> {
    let read = |source| ChannelError::Read { channel: channel.to_owned(), path: path.to_owned(), source };
    let typed = |why: String| ChannelError::Typed { channel: channel.to_owned(), why };
    let facts = fs::metadata(path).map_err(read)?;
    if facts.mode() & 0o077 != 0 {
        return Err(typed(format!(
            "{} holds a secret and others may read it (mode {:04o}); run: chmod 600 {}",
            path.display(),
            facts.mode() & 0o7777,
            path.display()
        )));
    }
    if !facts.is_file() || SECRET_FILE_MAX < facts.len() {
        return Err(typed(format!("{} is no file of at most {SECRET_FILE_MAX} bytes", path.display())));
    }
    let text = fs::read_to_string(path).map_err(read)?;
    let value = text.trim_end_matches(['\n', '\r']);
    if value.is_empty() {
        return Err(typed(format!("{} is empty", path.display())));
    }
    Ok(Secret::new(value))
}
