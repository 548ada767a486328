//! How the mapper notices that something changed: the `.metadata` files beside the resources.
//!
//! They tell, without starting a server, whether its next start will render again, and which hand edits it will then
//! overwrite. `references.properties` holds values of variables in clear, secrets among them: only names and the
//! outcome of a comparison leave this module.

use std::collections::BTreeMap;
use std::fmt;

use md5::{Digest, Md5};

use crate::pack::hex;
use crate::reference::Inputs;

/// Below `repository/resources/conf/`: MD5 of templates and rule files.
pub const TEMPLATE_FILE: &str = ".metadata/metadata_template.properties";
/// MD5 of rendered files and deployment.toml.
pub const CONFIG_FILE: &str = ".metadata/metadata_config.properties";
/// Variables of the last run with their values.
pub const REFERENCES_FILE: &str = ".metadata/references.properties";

/// Why a `.properties` file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// A `\u` escape is broken; Java refuses the file.
    #[error("line {line}: malformed \\u escape")]
    Escape { line: usize },
}

/// The MD5 that the mapper records for a file.
pub fn checksum(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// What the mapper wrote down at its last run. Values of variables are not shown by `Debug`.
#[derive(Clone, Default)]
pub struct Metadata {
    /// Templates and rule files: path below the home to MD5.
    pub templates: BTreeMap<String, String>,
    /// Rendered files and deployment.toml: path below the home to MD5.
    pub configs: BTreeMap<String, String>,
    references: BTreeMap<String, String>,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("templates", &self.templates.len())
            .field("configs", &self.configs.len())
            .field("references", &self.references.keys())
            .finish()
    }
}

/// One reason for rendering at the next start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A template or rule file differs from the record.
    TemplateChanged(String),
    /// A template or rule file is new.
    TemplateAdded(String),
    /// deployment.toml or a rendered file differs: the rendered one will be overwritten.
    FileChanged(String),
    /// A recorded file is gone: **the start fails** with `Error while reading metadata`.
    FileMissing(String),
    /// An environment variable (`env:NAME`) or system property (`sys:name`) has another value.
    ReferenceChanged(String),
}

impl Metadata {
    /// Reads the three files, `None` for one that does not exist. The answer is `None` when there is no full record:
    /// then the next start is a first one and renders.
    pub fn parse(
        templates: Option<&str>,
        configs: Option<&str>,
        references: Option<&str>,
    ) -> Result<Option<Self>, MetadataError> {
        let (Some(templates), Some(configs)) = (templates, configs) else { return Ok(None) };
        Ok(Some(Self {
            templates: properties(templates)?,
            configs: properties(configs)?,
            references: references.map(properties).transpose()?.unwrap_or_default(),
        }))
    }

    /// Why the next start would render, in order; empty if it would not. `templates` and `files` are the MD5s of
    /// what is there now, by path below the home.
    pub fn changes(
        &self,
        templates: &BTreeMap<String, String>,
        files: &BTreeMap<String, String>,
        inputs: &Inputs,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (path, checksum) in templates {
            match self.templates.get(path) {
                None => changes.push(Change::TemplateAdded(path.clone())),
                Some(recorded) if recorded != checksum => changes.push(Change::TemplateChanged(path.clone())),
                Some(_) => {}
            }
        }
        for (path, recorded) in &self.configs {
            match files.get(path) {
                None => changes.push(Change::FileMissing(path.clone())),
                Some(checksum) if checksum != recorded => changes.push(Change::FileChanged(path.clone())),
                Some(_) => {}
            }
        }
        for (name, recorded) in &self.references {
            let value = match name.split_once(':') {
                Some(("env", name)) => inputs.environment.get(name),
                Some(("sys", name)) => inputs.system_properties.get(name),
                _ => continue,
            };
            if value != Some(recorded) {
                changes.push(Change::ReferenceChanged(name.clone()));
            }
        }
        changes
    }
}

/// Reads a Java `.properties` file.
pub fn properties(text: &str) -> Result<BTreeMap<String, String>, MetadataError> {
    let mut entries = BTreeMap::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while (logical.len() - logical.trim_end_matches('\\').len()) % 2 == 1 {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start());
        }
        let (key, value) = split_property(&logical);
        let line = number + 1;
        entries.insert(unescape(key, line)?, unescape(value, line)?);
    }
    Ok(entries)
}

/// Cuts at the first unescaped `=`, `:` or blank.
fn split_property(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == '=' || c == ':' || c.is_ascii_whitespace() {
            let rest = line[at..].trim_start();
            let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], rest.trim_start());
        }
    }
    (line, "")
}

fn unescape(text: &str, line: usize) -> Result<String, MetadataError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    let mut units: Vec<u16> = Vec::new();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let rest = chars.as_str();
                let digits = rest.get(..4).ok_or(MetadataError::Escape { line })?;
                units.push(u16::from_str_radix(digits, 16).map_err(|_| MetadataError::Escape { line })?);
                chars = rest[4..].chars();
                // A pair of units makes one character.
                if let Ok(text) = String::from_utf16(&units) {
                    out.push_str(&text);
                    units.clear();
                } else if units.len() > 1 {
                    out.push(char::REPLACEMENT_CHARACTER);
                    units.clear();
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Metadata {
        let templates = "#Mon Jan 05 10:00:00 UTC 2026\nrepository/resources/conf/default.json=aa\n";
        let configs = "#d\nrepository/conf/carbon.xml=bb\nrepository/conf/with\\ blank\\:x=cc\n";
        let references = "env\\:DB_PASSWORD=s3\\=cret\nsys\\:carbon.home=/opt/wso2\n";
        Metadata::parse(Some(templates), Some(configs), Some(references)).unwrap().unwrap()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn inputs(password: &str) -> Inputs {
        Inputs {
            environment: map(&[("DB_PASSWORD", password)]),
            system_properties: map(&[("carbon.home", "/opt/wso2")]),
            ..Inputs::default()
        }
    }

    #[test]
    fn nothing_changed_means_no_rendering() {
        let templates = map(&[("repository/resources/conf/default.json", "aa")]);
        let files = map(&[("repository/conf/carbon.xml", "bb"), ("repository/conf/with blank:x", "cc")]);
        assert_eq!(record().changes(&templates, &files, &inputs("s3=cret")), []);
    }

    #[test]
    fn each_change_is_named_without_values() {
        let templates = map(&[("repository/resources/conf/default.json", "a2"), ("t.j2", "dd")]);
        let files = map(&[("repository/conf/carbon.xml", "edited")]);
        let changes = record().changes(&templates, &files, &inputs("other"));
        assert_eq!(
            changes,
            [
                Change::TemplateChanged("repository/resources/conf/default.json".into()),
                Change::TemplateAdded("t.j2".into()),
                Change::FileChanged("repository/conf/carbon.xml".into()),
                Change::FileMissing("repository/conf/with blank:x".into()),
                Change::ReferenceChanged("env:DB_PASSWORD".into()),
            ]
        );
        let shown = format!("{:?} {changes:?}", record());
        assert!(!shown.contains("s3") && !shown.contains("other"), "{shown}");
    }

    #[test]
    fn a_missing_file_means_a_first_start() {
        assert!(Metadata::parse(None, Some(""), None).unwrap().is_none());
        assert_eq!(checksum(b""), "d41d8cd98f00b204e9800998ecf8427e");
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = "a = 1\n  b:2\nc 3\nd\\\n  e=4\n! no\nu=\\u00e9\\ud83d\\ude00\n";
        assert_eq!(
            properties(text).unwrap(),
            map(&[("a", "1"), ("b", "2"), ("c", "3"), ("de", "4"), ("u", "é😀")])
        );
        assert_eq!(properties("a=\\u00").unwrap_err().to_string(), "line 1: malformed \\u escape");
    }
}
