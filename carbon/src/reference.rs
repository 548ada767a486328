//! Fifth phase: `$secret{}` is checked, `$sys{}`, `$env{}` and `$ref{}` are replaced, in that order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::dialect::Dialect;
use crate::error::MapperError;
use crate::flatten::{Flat, Flattened};
use crate::java::{expand_replacement, substrings_between};
use crate::value::{Ordered, Value};
use crate::work::{Exhausted, Work};

/// What the server's process brings along.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Java system properties (`-D`), `carbon.home` among them.
    pub system_properties: BTreeMap<String, String>,
    /// `-DencryptSecrets`: secrets may still be plain text, they are about to be encrypted.
    pub encrypt_secrets: bool,
    /// `-DavoidResolvingEnvAndSysVariables=true`.
    pub keep_variables: bool,
}

/// Which variables were looked up; the mapper stores them, values included, in references.properties.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    /// Names of environment variables.
    pub environment: BTreeSet<String>,
    /// Names of system properties.
    pub system_properties: BTreeSet<String>,
}

/// The secrets that a mapper knows, by alias.
#[derive(Debug, Clone, Default)]
pub struct Aliases {
    known: BTreeMap<String, String>,
    /// `[runtime_secrets] enable`: other aliases are left to the running server.
    others_at_run_time: bool,
}

impl Aliases {
    /// Of a file, as the mapper of this dialect sees them.
    pub fn of(file: &Flattened, dialect: Dialect) -> Self {
        let mut known = file.secrets.clone();
        if dialect.knows_runtime_secrets() {
            known.extend(file.runtime_secrets.clone());
        }
        let others_at_run_time = dialect.knows_runtime_secrets()
            && known.get("enable").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        Self { known, others_at_run_time }
    }

    /// All of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Takes one more.
    pub(crate) fn add(&mut self, alias: &str) {
        self.known.insert(alias.to_owned(), String::new());
    }
}

/// Runs all four steps.
pub fn resolve(
    data: &mut Flat,
    aliases: &Aliases,
    inputs: &Inputs,
    (dialect, work): (Dialect, &Work),
) -> Result<Variables, MapperError> {
    check_secrets(data, aliases, inputs.encrypt_secrets)?;
    let mut used = Variables::default();
    if !inputs.keep_variables {
        let sys = Variable {
            open: "$sys{",
            values: &inputs.system_properties,
            work,
            empty_counts: false,
            quoted: false,
            nested: dialect.resolves_variables_in_tables(),
        };
        sys.resolve_all(data, &mut used.system_properties)?;
        let env = Variable {
            open: "$env{",
            values: &inputs.environment,
            work,
            empty_counts: true,
            quoted: dialect.quotes_environment(),
            nested: dialect.resolves_variables_in_tables(),
        };
        env.resolve_all(data, &mut used.environment)?;
    }
    resolve_references(data, work)?;
    Ok(used)
}

/// The mapper stops looking after the first value with a valid secret, in hash order. So does this.
fn check_secrets(data: &Flat, aliases: &Aliases, encrypting: bool) -> Result<(), MapperError> {
    let Aliases { known: secrets, others_at_run_time } = aliases;
    let check = |key: &Arc<str>, value: &Value| -> Result<bool, MapperError> {
        let Value::Text(text) = value else { return Ok(false) };
        let aliases = substrings_between(text, "$secret{", "}");
        for alias in &aliases {
            let key = Arc::clone(key);
            match secrets.get(*alias) {
                None if *others_at_run_time => {}
                None => return Err(MapperError::SecretMissing { key, alias: (*alias).to_owned() }),
                Some(secret) => {
                    if !encrypting && !substrings_between(secret, "[", "]").is_empty() {
                        return Err(MapperError::SecretPlain { key, alias: (*alias).to_owned() });
                    }
                }
            }
        }
        Ok(!aliases.is_empty())
    };
    for (key, value) in data.iter() {
        let found = match value {
            Value::List(items) => {
                let mut found = false;
                for item in items {
                    found = found
                        || match item {
                            Value::Map(map) => {
                                let mut inner = false;
                                for (_, value) in map.iter() {
                                    inner = inner || check(key, value)?;
                                }
                                inner
                            }
                            other => check(key, other)?,
                        };
                }
                found
            }
            other => check(key, other)?,
        };
        if found {
            return Ok(());
        }
    }
    Ok(())
}

/// One kind of variable and how this mapper's version treats it.
struct Variable<'i> {
    open: &'static str,
    values: &'i BTreeMap<String, String>,
    work: &'i Work,
    empty_counts: bool,
    /// Whether the value is taken as it is. If not, `$` and `\` in it are regex replacement syntax.
    quoted: bool,
    /// Whether tables of arrays are visited.
    nested: bool,
}

impl Variable<'_> {
    fn resolve_all(&self, data: &mut Flat, used: &mut BTreeSet<String>) -> Result<(), MapperError> {
        data.for_each_mut(|key, value| self.resolve(key, value, used, true))
    }

    fn resolve(
        &self,
        key: &Arc<str>,
        value: &mut Value,
        used: &mut BTreeSet<String>,
        top: bool,
    ) -> Result<(), MapperError> {
        match value {
            Value::Text(text) => {
                if let Some(resolved) = self.text(key, text, used)? {
                    *text = resolved;
                }
            }
            Value::List(items) => {
                for item in items {
                    match item {
                        Value::Text(_) => self.resolve(key, item, used, false)?,
                        Value::Map(_) if self.nested => self.resolve(key, item, used, false)?,
                        _ => {}
                    }
                }
            }
            Value::Map(map) if self.nested || !top => {
                for (_, value) in map.iter_mut() {
                    self.resolve(key, value, used, false)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn text(
        &self,
        key: &Arc<str>,
        text: &str,
        used: &mut BTreeSet<String>,
    ) -> Result<Option<Arc<str>>, MapperError> {
        if !text.contains('$') || !text.contains(self.open) {
            return Ok(None);
        }
        let mut resolved = text.to_owned();
        for name in substrings_between(text, self.open, "}") {
            let value = self.values.get(name).filter(|value| self.empty_counts || !value.is_empty());
            let Some(value) = value else { return Err(self.missing(key, name)) };
            used.insert(name.to_owned());
            let placeholder = format!("{}{name}}}", self.open);
            self.work.take_bytes(resolved.len())?;
            if !resolved.contains(&placeholder) {
                continue;
            }
            let replacement = if self.quoted {
                value.clone()
            } else {
                expand_replacement(value, &placeholder).map_err(|error| MapperError::Replacement {
                    key: Arc::clone(key),
                    name: name.to_owned(),
                    error,
                })?
            };
            resolved = resolved.replace(&placeholder, &replacement);
            self.work.take_bytes(resolved.len())?;
            if TEXT_MAX < resolved.len() {
                let what = format!("variables in {key}");
                return Err(MapperError::Limit { what, limit: TEXT_MAX, unit: "bytes" });
            }
        }
        Ok(Some(Arc::from(resolved)))
    }

    fn missing(&self, key: &Arc<str>, name: &str) -> MapperError {
        let (key, name) = (Arc::clone(key), name.to_owned());
        if self.empty_counts {
            MapperError::Environment { key, name }
        } else {
            MapperError::SystemProperty { key, name }
        }
    }
}

/// Largest text that references or variables may build. Doubling references would fill the memory otherwise.
const TEXT_MAX: usize = 1 << 20;

/// Keys that wait for others, and keys that are waited for.
struct Waiting {
    unresolved: Ordered<BTreeSet<Arc<str>>>,
    targets: Ordered<Vec<Arc<str>>>,
}

/// Replaces `$ref{}` in texts and lists of texts. Tables of arrays are not looked at.
fn resolve_references(data: &mut Flat, work: &Work) -> Result<(), MapperError> {
    let Waiting { mut unresolved, mut targets } = waiting(data, work)?;
    let mut progress = true;
    while progress && !targets.is_empty() {
        progress = false;
        // Every round makes its sets and maps anew.
        let entries = targets.len() + unresolved.iter().map(|(_, needs)| 1 + needs.len()).sum::<usize>();
        work.take(16 * entries)?;
        let mut open = Ordered::default();
        for (target, dependents) in targets.into_entries() {
            if unresolved.contains_key(&target) {
                open.put(target, dependents);
                continue;
            }
            substitute(data, (&target, &dependents), work)?;
            progress = true;
        }
        targets = open;
        let names: BTreeSet<Arc<str>> = unresolved.iter().map(|(key, _)| Arc::clone(key)).collect();
        for (_, needs) in unresolved.iter_mut() {
            needs.retain(|key| names.contains(key));
        }
        unresolved = unresolved.into_entries().into_iter().filter(|(_, needs)| !needs.is_empty()).collect();
    }
    if targets.is_empty() {
        return Ok(());
    }
    Err(MapperError::ReferenceCycle { keys: unresolved.iter().map(|(key, _)| key.to_string()).collect() })
}

fn waiting(data: &Flat, work: &Work) -> Result<Waiting, Exhausted> {
    let mut waiting = Waiting { unresolved: Ordered::default(), targets: Ordered::default() };
    for (key, value) in data.iter() {
        let texts: &[Value] = match value {
            Value::Text(_) => std::slice::from_ref(value),
            Value::List(items) => items,
            _ => continue,
        };
        for text in texts {
            let Value::Text(text) = text else { continue };
            for target in substrings_between(text, "$ref{", "}") {
                work.take(1)?;
                let target: Arc<str> = Arc::from(target);
                match waiting.targets.get_mut(&target) {
                    // Keys come one after the other, so a repeated one is the last.
                    Some(dependents) if dependents.last() == Some(key) => {}
                    Some(dependents) => dependents.push(Arc::clone(key)),
                    None => waiting.targets.put(Arc::clone(&target), vec![Arc::clone(key)]),
                }
                match waiting.unresolved.get_mut(key) {
                    Some(needs) => {
                        needs.insert(target);
                    }
                    None => waiting.unresolved.put(Arc::clone(key), BTreeSet::from([target])),
                }
            }
        }
    }
    Ok(waiting)
}

/// Puts the value of `target` into its dependents: lists and booleans whole, everything else as text.
fn substitute(
    data: &mut Flat,
    (target, dependents): (&Arc<str>, &[Arc<str>]),
    work: &Work,
) -> Result<(), MapperError> {
    let value = match data.get(target) {
        None | Some(Value::Null) => {
            return Err(MapperError::ReferenceMissing {
                missing: target.to_string(),
                used_by: dependents.to_vec(),
            });
        }
        Some(value) => value.clone(),
    };
    let whole = matches!(value, Value::List(_) | Value::Bool(_));
    let text = value.to_java_string();
    let placeholder = format!("$ref{{{target}}}");
    let replace = |old: &str| -> Result<Value, MapperError> {
        let new = old.replace(&placeholder, &text);
        work.take_bytes(old.len() + new.len())?;
        if TEXT_MAX < new.len() {
            let what = format!("references of {target}");
            return Err(MapperError::Limit { what, limit: TEXT_MAX, unit: "bytes" });
        }
        Ok(Value::Text(Arc::from(new)))
    };
    for key in dependents {
        work.take(if whole { value.weight() } else { 1 })?;
        let new = match data.get(key) {
            _ if whole => value.clone(),
            Some(Value::Text(old)) => replace(old)?,
            Some(Value::List(items)) => {
                let replaced = items.iter().map(|item| match item {
                    Value::Text(old) => replace(old),
                    other => Ok(other.clone()),
                });
                Value::List(replaced.collect::<Result<_, _>>()?)
            }
            _ => continue,
        };
        data.put(Arc::clone(key), new);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
