//! One deployment.toml under examination, and where its keys were typed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use carbon::{Inputs, java::substrings_between, toml::Position};

use crate::{
    bundle::ServiceSettings,
    finding::Place,
    ids::{Digest, NodeName},
    mask,
    spec::{ComposedNode, Origins},
};

/// Whether the text shows which passwords were typed in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearText {
    /// What reads like a password was typed as it stands, unless the node's composition says that it is a secret.
    Tell,
    /// Who filled secrets in is not known, so nothing can be said.
    Unknown,
}

/// What stands before the name in a placeholder for a secret ([`crate::spec::Absent::Placeholder`]).
const PLACEHOLDER: &str = "placeholder-for-";

/// A deployment.toml.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Whose it is, if it belongs to a node.
    pub node: Option<&'a NodeName>,
    /// What the text is called in places that no origin is known for.
    pub file: &'a str,
    /// The text.
    pub text: &'a str,
    /// Whether passwords in clear can be told.
    pub clear_text: ClearText,
    /// The process's environment, as far as it is known.
    environment: BTreeMap<String, String>,
    /// `-D` arguments, and `carbon.home`.
    system_properties: BTreeMap<String, String>,
    origins: Option<&'a Origins>,
    secret_keys: Option<&'a BTreeSet<String>>,
    /// Masked lines of the text; most places have an origin and need none.
    lines: OnceLock<Vec<String>>,
}

impl<'a> Subject<'a> {
    /// A file by itself.
    pub fn file(file: &'a str, text: &'a str) -> Self {
        Self {
            node: None,
            file,
            text,
            clear_text: ClearText::Tell,
            environment: BTreeMap::new(),
            system_properties: BTreeMap::new(),
            origins: None,
            secret_keys: None,
            lines: OnceLock::new(),
        }
    }

    /// What was composed for a node.
    pub fn composed(name: &'a NodeName, node: &'a ComposedNode, clear_text: ClearText) -> Self {
        let subject = Self::stored(name, &node.bundle.service, &node.config_text);
        Self { clear_text, origins: Some(&node.origins), secret_keys: Some(&node.secret_keys), ..subject }
    }

    /// What a node has: secrets are filled in, and the layers that it came from are not known.
    pub fn stored(name: &'a NodeName, service: &'a ServiceSettings, text: &'a str) -> Self {
        let properties = service.args.iter().filter_map(|argument| argument.strip_prefix("-D"));
        let mut system_properties: BTreeMap<String, String> = properties
            .map(|argument| argument.split_once('=').unwrap_or((argument, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        system_properties.insert("carbon.home".to_owned(), service.home.clone());
        Self {
            node: Some(name),
            file: service.config_path.as_str(),
            text,
            clear_text: ClearText::Unknown,
            environment: service.env.clone(),
            system_properties,
            origins: None,
            secret_keys: None,
            lines: OnceLock::new(),
        }
    }

    /// Equal for files that are judged alike, with the pack of that digest: text, inputs and places are equal.
    pub(super) fn fingerprint(&self, pack: Option<&str>) -> Digest {
        let mut all = String::new();
        let mut put = |text: &str| {
            // Lengths keep neighbours apart.
            all.push_str(&text.len().to_string());
            all.push(':');
            all.push_str(text);
        };
        put(pack.unwrap_or_default());
        put(self.file);
        put(self.text);
        put(match self.clear_text {
            ClearText::Tell => "tell",
            ClearText::Unknown => "unknown",
        });
        for (name, value) in self.environment.iter().chain(&self.system_properties) {
            put(name);
            put(value);
        }
        put("places");
        for (key, file, offset) in self.origins.into_iter().flat_map(Origins::spots) {
            put(key);
            put(file);
            put(&offset.to_string());
        }
        put("secrets");
        self.secret_keys.into_iter().flatten().for_each(|key| put(key));
        Digest::of(all.as_bytes())
    }

    /// Where a key was typed. Elements of arrays are written `key[0].sub`.
    pub fn place(&self, key: &str, position: Option<Position>) -> Option<Place> {
        if let Some(place) = self.origins.and_then(|origins| origins.nearest(key)) {
            return Some(place);
        }
        let position = position.filter(|position| 0 < position.line)?;
        let lines = self.lines.get_or_init(|| mask::toml_lines(self.text));
        let line = lines.get(position.line as usize - 1)?;
        Some(Place {
            file: self.file.to_owned(),
            line: position.line,
            column: position.column.max(1),
            line_text: line.clone(),
        })
    }

    /// What the mapper is given. Variables that are not known here stand for `1`, which reads as a number, a text
    /// and a duration alike.
    pub fn inputs(&self) -> Inputs {
        let fill = |open: &str, known: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            let mut values = known.clone();
            for name in substrings_between(self.text, open, "}") {
                if !values.get(name).is_some_and(|value| open == "$env{" || !value.is_empty()) {
                    values.insert(name.to_owned(), "1".to_owned());
                }
            }
            values
        };
        let environment = fill("$env{", &self.environment);
        let system_properties = fill("$sys{", &self.system_properties);
        // Aliases that are still plain are a finding of their own.
        Inputs { environment, system_properties, encrypt_secrets: true, keep_variables: false }
    }

    /// What the mapper is given by the node itself: variables that are set elsewhere are missing.
    pub fn own_inputs(&self) -> Inputs {
        Inputs {
            environment: self.environment.clone(),
            system_properties: self.system_properties.clone(),
            ..Inputs::default()
        }
    }

    /// Whether the value of a key is a secret that was typed in clear.
    pub(super) fn is_clear(&self, key: &str, value: &str) -> bool {
        self.clear_text == ClearText::Tell
            && !value.is_empty()
            && !value.contains(PLACEHOLDER)
            && !value.contains("${")
            && !["$secret{", "$env{", "$sys{", "$ref{"].iter().any(|open| value.contains(open))
            && !self.is_filled(key)
    }

    /// Whether composition put a value of `secret()` there.
    fn is_filled(&self, key: &str) -> bool {
        let Some(keys) = self.secret_keys else { return false };
        keys.contains(key) || key.rmatch_indices(['.', '[']).any(|(end, _)| keys.contains(&key[..end]))
    }
}
