//! What is wrong or doubtful in what people typed, in one form for `lint`, `plan`, `apply` and their `--json`.

use std::fmt;

pub use crate::words::Severity;

use crate::ids::NodeName;

/// A place in one of the typed files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Relative to the fleet directory.
    pub file: String,
    /// 1-based.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// The line itself, secrets masked.
    pub line_text: String,
}

impl Place {
    /// The place of byte `offset` in `text`. An offset past the end means the last line.
    pub fn at(file: &str, text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[offset..].find('\n').map_or(text.len(), |newline| offset + newline);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            file: file.to_owned(),
            line: count(text[..start].matches('\n').count() + 1),
            column: count(text[start..offset].chars().count() + 1),
            line_text: crate::finding::mask_line(text[start..end].trim_end_matches('\r')),
        }
    }
}

/// One finding. `code` is stable: it is documented, and suppressions name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable, e.g. `CV101`.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Where, if it has a place.
    pub place: Option<Place>,
    /// The node it concerns, if it is one node's.
    pub node: Option<NodeName>,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to do about it, one sentence without a full stop.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}[{}]: {}", self.severity.as_str(), self.code, self.message)?;
        if let Some(place) = &self.place {
            writeln!(f, "  --> {}:{}:{}", place.file, place.line, place.column)?;
            writeln!(f, "{:>5} | {}", place.line, place.line_text)?;
            let pad: String = place
                .line_text
                .chars()
                .take(place.column as usize - 1)
                .map(|c| if c == '\t' { c } else { ' ' })
                .collect();
            writeln!(f, "      | {pad}^")?;
        }
        if let Some(node) = &self.node {
            writeln!(f, "  node: {node}")?;
        }
        write!(f, "  help: {}", self.remedy)
    }
}

/// How many names a message shows.
const NAMES_SHOWN: usize = 10;

/// Names for a message: the first ten, and how many more there are.
pub fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names_at_most(NAMES_SHOWN, names)
}

/// As [`names`], with room for `most` of them.
pub fn names_at_most<'a>(most: usize, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(most).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(most);
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// Whether values under this deployment.toml key (or any key-like name) are secrets. The names are those of WSO2's
/// own configuration catalogue: passwords, keys, secrets, tokens and hashes; `token_endpoint` and the like are not.
pub fn is_secret_key(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or(key).trim_matches(['\'', '"']).to_ascii_lowercase();
    let last = last.replace(['-', '_'], "");
    let exact = [
        "key",
        "hash",
        "token",
        "passphrase",
        "privatekey",
        "accesskey",
        "sharedkey",
        "credential",
        "credentials",
        "apikey",
        "oldkey",
        "apitoken",
        "authtoken",
        "accesstoken",
        "refreshtoken",
    ];
    last.contains("password")
        || last.contains("passwd")
        || last.contains("secret")
        || last == "pass"
        || last == "pwd"
        || exact.contains(&last.as_str())
        || key.starts_with("secrets.")
}

/// Whether a value under this name is hidden where people see it. Wider than [`is_secret_key`].
pub fn is_hidden_key(key: &str) -> bool {
    crate::mask::is_hidden(key)
}

/// What stands in place of a secret in everything people see.
pub const MASK: &str = "********";

/// A TOML text with every secret value hidden, for people to read. It has as many lines as before.
pub fn mask_toml(text: &str) -> String {
    let mut shown = crate::mask::toml_lines(text).join("\n");
    shown.push('\n');
    shown
}

/// One line with every secret hidden that it can show by itself.
pub fn mask_line(line: &str) -> String {
    crate::mask::line(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_shows_its_line_and_masks_secrets() {
        let text = "[a]\nuser = 'x'\npassword = 'hunter2'\n";
        let place = Place::at("config/a.toml", text, text.find("hunter2").unwrap());
        assert_eq!((place.line, place.column), (3, 13));
        assert!(!place.line_text.contains("hunter2"), "{}", place.line_text);
    }

    #[test]
    fn passwords_inside_urls_are_masked() {
        let line = r#"url = "amqp://admin:s3cret@host:5672/x?password=abc&y=1""#;
        let masked = mask_line(line);
        assert!(!masked.contains("s3cret") && !masked.contains("abc"), "{masked}");
        assert!(masked.contains("admin") && masked.contains("&y=1"), "{masked}");
        assert_eq!(mask_line("+list = 1"), "+list = 1");
    }

    #[test]
    fn secret_keys_are_told_from_their_neighbours() {
        for secret in [
            "super_admin.password",
            "encryption.key",
            "a.'client-secret'",
            "secrets.db",
            "keystore.tls.key_password",
        ] {
            assert!(is_secret_key(secret), "{secret}");
        }
        for plain in [
            "apim.oauth_config.token_endpoint_context",
            "keystore.tls.alias",
            "server.hostname",
            "database.shared_db.username",
        ] {
            assert!(!is_secret_key(plain), "{plain}");
        }
    }
}
