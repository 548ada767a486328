//! Credentials that every copy of the products ships with. They protect nothing, so they are told and not hidden.

/// Passwords of the administrator, of key stores and of databases in a product as it is downloaded.
pub(crate) const PASSWORDS: [&str; 2] = ["admin", "wso2carbon"];
/// Key stores whose private key is in every download.
pub(crate) const KEY_STORES: [&str; 2] = ["wso2carbon.jks", "wso2carbon.p12"];
/// `encryption.key` of Identity Server since 5.11.
pub(crate) const ENCRYPTION_KEY: &str = "03BAFEB27A8E871CAD83C5CD4E771DAB";
/// What the login pages of Identity Server authenticate themselves with: a word, and its hash.
const APP_PASSWORD: &str = "dashboard";
const APP_PASSWORD_HASH: &str = "66cd9688a2ae068244ea01e70f0e230f5623b7fa4cdecb65070a09ec06452262";

/// Whether the product itself ships `value` as the value of a secret key.
pub(crate) fn is_published(key: &str, value: &str) -> bool {
    match key {
        "encryption.key" => value.eq_ignore_ascii_case(ENCRYPTION_KEY),
        "identity.auth_framework.endpoint.app_password" => value == APP_PASSWORD,
        "account_recovery.endpoint.auth.hash" => value.eq_ignore_ascii_case(APP_PASSWORD_HASH),
        _ => PASSWORDS.contains(&value),
    }
}
