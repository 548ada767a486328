//! What a deployment.toml asks of the host: data sources and directories it will connect to, keystores it will open.
//!
//! Works on what is typed, not on what the product renders: a value that only the running server can know (`${…}`,
//! `$secret{…}`, `$sys{…}`) becomes an `Unknown` with that reason, never a guess.

mod jdbc;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use carbon::MapperError;
use toml_edit::Value;

use super::{
    components::{self, Component},
    databases::{self, Database},
    peers::{self, Peer},
};
use crate::{
    lint::refusal::explain,
    spec::canonical::{Flat, Unusable, flatten},
};

pub(crate) use jdbc::is_loopback;
pub use jdbc::{Address, Target, jdbc_target, ldap_target};

/// Where stores lie.
const SECURITY: &str = "repository/resources/security/";

/// How many `$ref{}` may lead to one value; the product refuses cycles.
const REFERENCES_MAX: usize = 16;

/// What a configuration needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// In the order of their keys.
    pub endpoints: Vec<Endpoint>,
    /// Primary, internal, TLS, truststore, as far as configured.
    pub keystores: Vec<Keystore>,
    /// Databases that the server logs in to.
    pub databases: Vec<Database>,
    /// Jars and web applications that the product does not ship.
    pub components: Vec<Component>,
    /// TLS connections that the server opens.
    pub peers: Vec<Peer>,
}

/// Something that the server will connect to before it serves anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The table or key that says so, e.g. `database.shared_db`.
    pub key: String,
    /// Where it is.
    pub target: Target,
}

/// A keystore or truststore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keystore {
    /// The table that says so, e.g. `keystore.tls`.
    pub key: String,
    /// Below home with `/`, or absolute.
    pub file: String,
    /// As configured, e.g. `PKCS12`; whichever format is found if absent.
    pub kind: Option<String>,
    /// Of the store.
    pub password: Given,
    /// The private key's entry; `None` for truststores.
    pub alias: Option<String>,
    /// Of that key; the store's where absent.
    pub key_password: Option<Given>,
}

/// A password as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Known.
    Plain(Password),
    /// Only the server can know it: why.
    Unknown(String),
}

/// A password that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes a password in clear.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// For opening a keystore and for logging in to a database, nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::finding::MASK)
    }
}

/// The truststores that the packs ship with, for a configuration that names none.
pub fn shipped_truststores() -> [Keystore; 2] {
    ["client-truststore.jks", "client-truststore.p12"].map(|file| Keystore {
        key: "truststore".to_owned(),
        file: format!("{SECURITY}{file}"),
        kind: None,
        password: shipped(),
        alias: None,
        key_password: None,
    })
}

/// `wso2carbon` is every pack's default for passwords and the alias.
fn shipped() -> Given {
    Given::Plain(Password::new("wso2carbon".to_owned()))
}

/// Reads the needs of a deployment.toml of this product (catalogue id). `env` is the environment that the server gets.
///
/// # Errors
/// Says why the text configures no server.
pub fn read(text: &str, product: &str, env: &BTreeMap<String, String>) -> Result<Needs, Unusable> {
    let flat = flatten(text)?;
    let typed = Typed::new(&flat, env);
    Ok(Needs {
        endpoints: endpoints(&typed),
        keystores: keystores(&typed),
        databases: databases::wanted(&typed, product),
        components: components::wanted(&typed, product),
        peers: peers::wanted(&typed),
    })
}

/// The name that a server has of itself (`server.hostname`), if the text says it.
pub fn hostname(text: &str, env: &BTreeMap<String, String>) -> Option<String> {
    let flat = flatten(text).ok()?;
    Typed::new(&flat, env).text("server.hostname")?.ok()
}

/// Where a URL with TLS leads; `None` for one without.
pub fn tls_address(url: &str) -> Option<Address> {
    peers::parse(url).map(|(_, address)| address)
}

/// Why the server's own reader (TOML 0.5, with its quirks) would not take a deployment.toml; `None` if it would. What the
/// reader found instead of what it expected is left out: it may be a piece of a secret.
pub fn refused(text: &str) -> Option<String> {
    let error = carbon::flatten::flatten(text).err()?;
    Some(match &error {
        MapperError::Toml { errors } => {
            let first = errors.first()?;
            let message = match first.message.rsplit_once("', expected ") {
                Some((_, expected)) => format!("expected {expected}"),
                None => first.message.clone(),
            };
            format!("{}: {message}", first.position)
        }
        other => {
            let at = other.position().map_or_else(String::new, |position| format!("{position}: "));
            format!("{at}{}", explain(other).why)
        }
    })
}

/// The typed values with references followed.
pub(crate) struct Typed<'a> {
    flat: &'a Flat,
    env: &'a BTreeMap<String, String>,
}

impl<'a> Typed<'a> {
    /// `env` is the environment that the server gets.
    pub(crate) const fn new(flat: &'a Flat, env: &'a BTreeMap<String, String>) -> Self {
        Self { flat, env }
    }

    /// The tables of data sources, as `database.shared_db` or `datasource[0]`.
    pub(crate) fn tables_of_data_sources(&self) -> BTreeSet<String> {
        let table = |key: &str| {
            let (table, part) = key.rsplit_once('.')?;
            let is_one = ["url", "hostname"].contains(&part)
                && (table.starts_with("database.") || table.starts_with("datasource"));
            is_one.then(|| table.to_owned())
        };
        self.keys().filter_map(table).collect()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.flat.keys().map(String::as_str)
    }

    /// Whether `key` is known to be `value`.
    pub(super) fn is(&self, key: &str, value: &str) -> bool {
        matches!(self.text(key), Some(Ok(text)) if text == value)
    }

    /// The text at `key` with `$ref{}` and `$env{}` replaced as the mapper does; `Err` says what stays open.
    pub(crate) fn text(&self, key: &str) -> Option<Result<String, String>> {
        Some(self.resolve(&self.raw(key)?, REFERENCES_MAX))
    }

    pub(super) fn raw(&self, key: &str) -> Option<String> {
        let value: Value = self.flat.get(key)?.parse().ok()?;
        Some(value.as_str().map_or_else(|| value.to_string().trim().to_owned(), str::to_owned))
    }

    fn resolve(&self, text: &str, left: usize) -> Result<String, String> {
        for (open, what) in
            [("$secret{", "a secret of the vault"), ("$sys{", "a Java property"), ("${", "a Carbon property")]
        {
            if text.contains(open) {
                return Err(format!("it holds {what}, known to the running server only"));
            }
        }
        let Some(start) = ["$ref{", "$env{"].iter().filter_map(|open| text.find(open)).min() else {
            return Ok(text.to_owned());
        };
        let Some(length) = text[start..].find('}') else { return Ok(text.to_owned()) };
        if left == 0 {
            return Err("its references lead in a circle".to_owned());
        }
        let name = &text[start + "$ref{".len()..start + length];
        let value = if text[start..].starts_with("$env{") {
            self.env.get(name).cloned().ok_or_else(|| format!("$env{{{name}}} is not set for the service"))?
        } else {
            self.raw(name).ok_or_else(|| format!("it refers to {name}, which is not set here"))?
        };
        self.resolve(&format!("{}{value}{}", &text[..start], &text[start + length + 1..]), left - 1)
    }
}

/// Every JDBC and LDAP URL in the text, and the databases that are given by parts.
fn endpoints(typed: &Typed<'_>) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for (key, raw) in typed.flat {
        if !raw.contains("jdbc:") && !raw.contains("ldap") {
            continue;
        }
        let Some(raw) = typed.raw(key) else { continue };
        let read = |form: fn(&str) -> Option<Target>| match typed.resolve(&raw, REFERENCES_MAX) {
            Ok(text) => form(&text),
            Err(why) => Some(Target::Unknown(why)),
        };
        let target = if raw.starts_with("jdbc:") {
            read(jdbc_target)
        } else if raw.starts_with("ldap://") || raw.starts_with("ldaps://") {
            read(ldap_target)
        } else {
            None
        };
        let table = key.strip_suffix(".url").unwrap_or(key).to_owned();
        found.extend(target.map(|target| Endpoint { key: table, target }));
    }
    found.extend(databases_by_parts(typed));
    found
}

/// `[database.x]` with `hostname` and `port` and no `url`: the product builds the URL of these.
fn databases_by_parts(typed: &Typed<'_>) -> Vec<Endpoint> {
    let tables: BTreeSet<&str> = typed
        .flat
        .keys()
        .filter(|key| key.starts_with("database."))
        .filter_map(|key| key.strip_suffix(".hostname"))
        .filter(|table| !typed.flat.contains_key(&format!("{table}.url")))
        .collect();
    let read = |table: &str| -> Result<Option<Target>, String> {
        let part = |name: &str| typed.text(&format!("{table}.{name}")).transpose();
        // An H2 database is a local file, whatever else is typed.
        if part("type")?.as_deref() == Some("h2") {
            return Ok(None);
        }
        let Some(host) = part("hostname")? else { return Ok(None) };
        let port = part("port")?.ok_or("it has a hostname, but no port and no url")?;
        let port = port.parse().map_err(|_| "its port is not a number from 0 to 65535".to_owned())?;
        Ok(Some(Target::Addresses(vec![Address { host, port }])))
    };
    let endpoint = |table: &str| {
        let target = read(table).unwrap_or_else(|why| Some(Target::Unknown(why)))?;
        Some(Endpoint { key: table.to_owned(), target })
    };
    tables.into_iter().filter_map(endpoint).collect()
}

/// The stores that are configured; a part that internal and TLS leave out is the primary's, as in the product's
/// defaults.
fn keystores(typed: &Typed<'_>) -> Vec<Keystore> {
    ["keystore.primary", "keystore.internal", "keystore.tls", "truststore"]
        .into_iter()
        .filter_map(|table| keystore(typed, table))
        .collect()
}

fn keystore(typed: &Typed<'_>, table: &str) -> Option<Keystore> {
    let prefix = format!("{table}.");
    if !typed.flat.keys().any(|key| key.starts_with(&prefix)) {
        return None;
    }
    let part = |name: &str| {
        let own = typed.text(&format!("{table}.{name}"));
        let inherits = table == "keystore.internal" || table == "keystore.tls";
        if inherits { own.or_else(|| typed.text(&format!("keystore.primary.{name}"))) } else { own }
    };
    // The shipped name differs between versions, so a store without a name cannot be told from here.
    let file = part("file_name")?.ok()?;
    let file = if file.starts_with('/') || file.contains(':') { file } else { format!("{SECURITY}{file}") };
    let secret = |name: &str| {
        part(name).map(|read| match read {
            Ok(text) => Given::Plain(Password::new(text)),
            Err(why) => Given::Unknown(why),
        })
    };
    let is_keystore = table != "truststore";
    Some(Keystore {
        key: table.to_owned(),
        file,
        kind: part("type").and_then(Result::ok),
        password: secret("password").unwrap_or_else(shipped),
        alias: is_keystore
            .then(|| part("alias").and_then(Result::ok).unwrap_or_else(|| "wso2carbon".to_owned())),
        key_password: is_keystore.then(|| secret("key_password").unwrap_or_else(shipped)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_reader_decides_and_nothing_of_a_secret_is_said() {
        assert_eq!(refused("[server]\nhostname = \"a\"\n"), None);
        // TOML 1.0 allows all of these, and the server would not start.
        let bad = [
            ("a = { b = [] }\n", "line 1, column 14"),
            ("\na = [1, \"x\"]\n", "line 2"),
            ("[a.b]\n[a]\n", "line 2, column 1: [a] is opened after a table inside it (line 1)"),
            ("secrets = 1\n", "[secrets] may hold texts only"),
        ];
        for (text, at) in bad {
            assert!(refused(text).unwrap().starts_with(at), "{:?}", refused(text));
        }
        let said = refused("[database]\npassword = geheim\n").unwrap();
        assert!(said.starts_with("line 2, column 12: expected") && !said.contains("geheim"), "{said}");
    }
}
