//! Names whose values are hidden. Wider than what lint calls a secret: hiding too much costs a look at the file, hiding
//! too little costs the secret.

use crate::finding::is_secret_key;

/// Words that make a name secret wherever they stand in it.
const ANYWHERE: [&str; 21] = [
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "passcode",
    "pwd",
    "secret",
    "secrets",
    "credential",
    "credentials",
    "apikey",
    "authkey",
    "privatekey",
    "consumerkey",
    "accesskey",
    "keypass",
    "storepass",
    "jwt",
    "bearer",
    "authorization",
    "cookie",
];
/// Words that make a name secret at its end.
const AT_THE_END: [&str; 14] = [
    "key",
    "keys",
    "token",
    "tokens",
    "pass",
    "pw",
    "pin",
    "salt",
    "hash",
    "otp",
    "nonce",
    "auth",
    "psk",
    "signature",
];
/// What a name is about if it ends so, even though it holds one of the words above.
const ABOUT: [&str; 51] = [
    "endpoint",
    "url",
    "uri",
    "path",
    "file",
    "filename",
    "alias",
    "type",
    "algorithm",
    "format",
    "name",
    "id",
    "expiry",
    "expires",
    "expiration",
    "ttl",
    "timeout",
    "validity",
    "period",
    "length",
    "size",
    "min",
    "max",
    "enabled",
    "enable",
    "policy",
    "regex",
    "pattern",
    "provider",
    "class",
    "handler",
    "issuer",
    "audience",
    "scope",
    "scopes",
    "location",
    "context",
    "count",
    "header",
    "method",
    "mode",
    "version",
    "ref",
    "interval",
    "required",
    "manager",
    "callback",
    "history",
    "grant",
    "generator",
    "reset",
];

/// What holds the name of the value beside it: `{"name": "password", "value": "..."}`.
pub(super) const NAMES: [&str; 5] = ["name", "key", "property", "id", "parameter"];
/// What holds such a value.
pub(super) const VALUES: [&str; 4] = ["value", "content", "default", "val"];

/// Whether the value under such a name is hidden. `name` may be a path; then its last segment counts.
pub(crate) fn is_hidden(name: &str) -> bool {
    let last = name.rsplit(['.', '/', ':']).next().unwrap_or(name);
    let words = words(last);
    let Some(end) = words.last() else { return false };
    if is_secret_key(name) || is_secret_key(last) {
        return true;
    }
    if ABOUT.contains(&end.as_str()) {
        return false;
    }
    let joined: String = words.concat();
    let is_long = |word: &&&str| 6 <= word.len();
    AT_THE_END.contains(&end.as_str())
        || words.iter().any(|word| ANYWHERE.contains(&word.as_str()))
        || ANYWHERE.iter().filter(is_long).any(|word| joined.contains(word))
}

/// Whether everything in an element or object of this name is hidden, whatever its parts are named.
pub(super) fn is_hidden_section(name: &str) -> bool {
    let last = words(name.rsplit(['.', '/', ':']).next().unwrap_or(name)).concat();
    ["credential", "credentials", "secret", "secrets", "passwords", "keys", "tokens"]
        .iter()
        .any(|section| last == *section)
        || name.starts_with("secrets.")
}

/// `consumer_key`, `consumerKey` and `CONSUMER-KEY` are the words consumer and key.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_alphanumeric() {
            let begins = !before.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase());
            if begins {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        before = c;
    }
    words
}
