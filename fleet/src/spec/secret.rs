//! Secrets of a fleet: `{{ secret('database.shared_db.password') }}` in a layer or a `.tmpl` file stands for a value
//! that is kept elsewhere (docs/decisions/0005-secrets-by-name.md).
//!
//! A value may only land where everything that people see hides it: under a key whose name says that it is secret, as
//! the password of a URL, or in a file, which is then marked as secret and readable by its owner only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use minijinja::Value;

use super::{
    expression::{has_expression, no_secret},
    report::Report,
    tree::{At, Leaf, Node, Table},
};
use crate::finding::{is_secret_key, mask_line, names};

/// The longest name of a secret, bytes.
pub const SECRET_NAME_MAX: usize = 128;
/// The longest value of a secret, bytes.
pub const SECRET_SIZE_MAX: usize = 16 * 1024;

/// The name of a secret: lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

/// Why a text is no name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} cannot be the name of a secret: use lower-case letters, digits, '.', '_' and '-', at most \
     {SECRET_NAME_MAX} of them, and begin with a letter or a digit"
)]
pub struct SecretNameError {
    /// As given, cut to a length that can be shown.
    pub text: String,
}

impl SecretName {
    /// Checks a name.
    ///
    /// # Errors
    /// If it is empty, too long, or holds other characters.
    pub fn parse(text: &str) -> Result<Self, SecretNameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good = text.bytes().all(|byte| plain(byte) || b"._-".contains(&byte))
            && text.bytes().next().is_some_and(plain)
            && text.len() <= SECRET_NAME_MAX;
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(SecretNameError { text: text.chars().take(SECRET_NAME_MAX).collect() })
    }

    /// As typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value that is never shown: `Debug` prints dots, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one who must have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What a name without a value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// An error: nothing must reach a server with a made-up password.
    Refuse,
    /// A placeholder, and a finding that says so: for `lint`, where values are not at hand.
    Placeholder,
}

/// Where the values of `secret()` come from.
#[derive(Debug, Clone)]
pub struct Secrets {
    values: BTreeMap<SecretName, Secret>,
    absent: Absent,
}

impl Secrets {
    /// Exactly these values, and what to do about others.
    pub fn new(values: BTreeMap<SecretName, Secret>, absent: Absent) -> Self {
        Self { values, absent }
    }

    /// The value behind a name, if there is one.
    pub fn get(&self, name: &SecretName) -> Option<&Secret> {
        self.values.get(name)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &Secret> {
        self.values.values()
    }

    /// The value behind a name, or the placeholder for it.
    fn value(&self, name: &SecretName) -> Option<String> {
        match (self.values.get(name), self.absent) {
            (Some(secret), _) => Some(secret.0.clone()),
            (None, Absent::Placeholder) => Some(format!("placeholder-for-{name}")),
            (None, Absent::Refuse) => None,
        }
    }
}

/// The secrets that one composition asked for.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    secrets: Arc<Secrets>,
    asked: Arc<Mutex<BTreeSet<SecretName>>>,
}

impl Resolver {
    pub(super) fn new(secrets: &Secrets) -> Self {
        Self { secrets: Arc::new(secrets.clone()), asked: Arc::default() }
    }

    /// The same secrets, with what is asked remembered apart.
    pub(super) fn apart(&self) -> Self {
        Self { secrets: self.secrets.clone(), asked: Arc::default() }
    }

    /// Remembers what another one was asked.
    pub(super) fn take_up(&self, other: &Self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).append(&mut other.asked());
    }

    /// The function that expressions call.
    pub(super) fn function(&self) -> Value {
        let Self { secrets, asked } = self.clone();
        Value::from_function(move |name: &str| {
            let name = SecretName::parse(name).map_err(|error| {
                no_secret(error.to_string(), "name it as in secret('super_admin.password')".to_owned())
            })?;
            asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
            secrets.value(&name).ok_or_else(|| {
                no_secret(
                    format!("the secret {name} has no value"),
                    format!("give it one: convoy secret set {name}"),
                )
            })
        })
    }

    /// The value behind a name; asking is remembered.
    pub(super) fn resolve(&self, name: &SecretName) -> Option<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        self.secrets.value(name)
    }

    /// Every name that was asked for.
    pub(super) fn asked(&self) -> BTreeSet<SecretName> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says which values were made up.
    pub(super) fn report(&self, report: &mut Report) {
        let asked = self.asked();
        let absent: Vec<&str> = asked
            .iter()
            .filter(|name| !self.secrets.values.contains_key(*name))
            .map(SecretName::as_str)
            .collect();
        if self.secrets.absent == Absent::Placeholder && !absent.is_empty() {
            report.info(
                "CV309",
                None,
                format!("placeholders stand for {} secrets without a value here: {}", absent.len(), names(absent.iter().copied())),
                "this checks their names only; their values are checked where they are kept, by plan and apply",
            );
        }
    }
}

/// Whether a text asks for a secret. Also true for a text that only looks so, which then is treated as secret.
pub(super) fn asks(text: &str) -> bool {
    has_expression(text) && text.contains("secret(")
}

/// The keys whose value asks for a secret; elements of arrays of tables are numbered, as in `tree::origins`.
pub(super) fn keys(table: &Table) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    collect_keys(table, "", &mut keys);
    keys
}

fn collect_keys(table: &Table, prefix: &str, keys: &mut BTreeSet<String>) {
    for (key, node) in table.iter() {
        let path = super::canonical::join(prefix, key);
        match node {
            Node::Table(inner) => collect_keys(inner, &path, keys),
            Node::Tables(elements) => {
                for (n, inner) in elements.iter().enumerate() {
                    collect_keys(inner, &format!("{path}[{n}]"), keys);
                }
            }
            Node::Leaf(leaf) => {
                if asks(&super::tree::value_text(&leaf.value)) {
                    keys.insert(path);
                }
            }
        }
    }
}

/// Refuses secrets under keys that are shown as they are. To be called before expressions are evaluated.
pub(super) fn check_places(table: &Table, prefix: &str, report: &mut Report) {
    for (key, node) in table.iter() {
        let path = super::canonical::join(prefix, key);
        match node {
            Node::Table(inner) => check_places(inner, &path, report),
            Node::Tables(elements) => elements.iter().for_each(|inner| check_places(inner, &path, report)),
            Node::Leaf(leaf) => check_leaf(leaf, (key, &path), report),
        }
    }
}

fn check_leaf(leaf: &Leaf, (key, path): (&str, &str), report: &mut Report) {
    const MARK: &str = "0c0nvoy0";
    let text = super::tree::value_text(&leaf.value);
    if !asks(&text) || is_secret_key(path) {
        return;
    }
    // The same hiding that plans and diffs use must hide what will stand in place of the expression.
    let shown = mask_line(&format!("{key} = {}", marked(&text, MARK)));
    if shown.contains(MARK) || text.contains("{%") {
        report.error(
            "CV308",
            Some(At::value_place(&leaf.at)),
            format!("{path} would show a secret: plans and diffs hide only keys that are named as secrets"),
            "use secret() under a key such as password, or as the password inside a URL",
        );
    }
}

/// `text` with each expression that asks for a secret replaced by `mark`.
fn marked(text: &str, mark: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("{{") {
        out.push_str(before);
        let (inner, after) = from.split_once("}}").unwrap_or((from, ""));
        out.push_str(if inner.contains("secret(") { mark } else { "x" });
        rest = after;
    }
    out + rest
}
