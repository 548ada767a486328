//! What the secure vault of a server reads at a launch: `[groups.NAME.vault]` and `[nodes.NAME.vault]` name the secrets,
//! the bundle carries the files that the product looks for (LIFECYCLE section 8).
//!
//! The server uses a file up as it starts, so each is a launch file: the agent writes it right before a launch and takes
//! it away afterwards, read or not.

use super::{
    compose::Draft,
    files::Rendered,
    reader::{Reader, Typed},
    report::Report,
    secret::{Resolver, SecretName},
};
use crate::{
    bundle::{DriftPolicy, FileEntry, HomePath, RestartClass},
    ids::Digest,
};

/// Makes the server read the key's password from the second line.
const KEY_PASSWORD: &str = "-Dkey.password=true";

/// Names of secrets, as typed.
#[derive(Default, Clone)]
pub(super) struct VaultText {
    keystore_password: Option<Typed<String>>,
    private_key_password: Option<Typed<String>>,
    encryption_key: Option<Typed<String>>,
}

impl VaultText {
    /// Whether anything of it is.
    pub(super) const fn is_typed(&self) -> bool {
        self.keystore_password.is_some()
            || self.private_key_password.is_some()
            || self.encryption_key.is_some()
    }

    pub(super) fn read(reader: &mut Reader<'_>, report: &mut Report) -> Self {
        let Some(mut table) = reader.table("vault", report) else { return Self::default() };
        let vault = Self {
            keystore_password: table.text("keystore_password", report),
            private_key_password: table.text("private_key_password", report),
            encryption_key: table.text("encryption_key", report),
        };
        table.finish(report);
        vault
    }

    fn over(&self, wider: &Self) -> Self {
        let pick = |own: &Option<Typed<String>>, wider: &Option<Typed<String>>| {
            own.as_ref().or(wider.as_ref()).cloned()
        };
        Self {
            keystore_password: pick(&self.keystore_password, &wider.keystore_password),
            private_key_password: pick(&self.private_key_password, &wider.private_key_password),
            encryption_key: pick(&self.encryption_key, &wider.encryption_key),
        }
    }

    fn of(draft: &Draft<'_>) -> Self {
        draft.text.run.vault.over(&draft.group.run.vault)
    }
}

/// The start argument that goes with a password of the private key.
pub(super) fn arg(draft: &Draft<'_>) -> Option<&'static str> {
    VaultText::of(draft).private_key_password.is_some().then_some(KEY_PASSWORD)
}

/// The launch files of a node.
pub(super) fn files(draft: &Draft<'_>, secrets: &Resolver, report: &mut Report) -> Vec<Rendered> {
    let vault = VaultText::of(draft);
    // Windows servers look for the same names with a suffix.
    let is_windows = draft.facts.home.as_bytes().get(1) == Some(&b':');
    let suffix = if is_windows { ".txt" } else { "" };
    if let (None, Some(key)) = (&vault.keystore_password, &vault.private_key_password) {
        report.error(
            "CV307",
            Some(key.at.key_place()),
            "private_key_password stands in the second line, after a keystore_password that is missing",
            "name the secret with the password of the keystore: keystore_password = \"NAME\"",
        );
        return Vec::new();
    }
    let passwords = [vault.keystore_password, vault.private_key_password];
    let wanted = [("password-tmp", passwords.as_slice()), ("encryption-key-tmp", &[vault.encryption_key])];
    let mut files = Vec::new();
    for (name, lines) in wanted {
        let Ok(path) = HomePath::parse(&format!("{name}{suffix}")) else { continue };
        let lines: Vec<&Typed<String>> = lines.iter().flatten().collect();
        if lines.is_empty() {
            continue;
        }
        let values: Option<Vec<String>> = lines.iter().map(|name| value(name, secrets, report)).collect();
        let Some(values) = values else { continue };
        let content: std::sync::Arc<[u8]> = format!("{}\n", values.join("\n")).into_bytes().into();
        files.push(Rendered { path, entry: entry(&content), content });
    }
    files
}

fn entry(content: &[u8]) -> FileEntry {
    let digest = Digest::of(content);
    FileEntry {
        digest,
        meaning: digest,
        size: content.len() as u64,
        mode: 0o600,
        drift: DriftPolicy::Ignore,
        // A running server has read its own; the next launch reads the new one.
        restart: RestartClass::None,
        secret: true,
        launch: true,
    }
}

fn value(typed: &Typed<String>, secrets: &Resolver, report: &mut Report) -> Option<String> {
    let mut refuse = |message: String, remedy: String| {
        report.error("CV307", Some(typed.at.value_place()), message, remedy);
        None
    };
    let name = match SecretName::parse(&typed.value) {
        Ok(name) => name,
        Err(error) => {
            let remedy = "write the name only, as in \"vault.keystore\": no secret(), no value";
            return refuse(error.to_string(), remedy.to_owned());
        }
    };
    let Some(value) = secrets.resolve(&name) else {
        let remedy = format!("give it one: convoy secret set {name}");
        return refuse(format!("the secret {name} has no value"), remedy);
    };
    if value.is_empty() || value.contains(['\n', '\r', '\0']) {
        let remedy = format!("set it again without line breaks: convoy secret set {name}");
        return refuse(
            format!("the secret {name} is empty or has line breaks; the server reads one line"),
            remedy,
        );
    }
    Some(value)
}
