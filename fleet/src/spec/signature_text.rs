//! `[signatures]` as typed.

use super::{reader::Reader, report::Report};
use crate::signature::{KEYS_MAX, SignatureRules, SigningKey};

/// Reads `[signatures]`.
pub(super) fn read(reader: &mut Reader<'_>, report: &mut Report) -> SignatureRules {
    let Some(mut table) = reader.table("signatures", report) else { return SignatureRules::default() };
    let required = table.flag("required", report).unwrap_or(false);
    let mut keys: Vec<SigningKey> = Vec::new();
    let typed = super::manifest::read_list(&mut table, "keys", report);
    let count = typed.len();
    for typed in typed {
        match SigningKey::parse(&typed.value) {
            Ok(key) if keys.iter().any(|listed| listed.is_same(&key)) => report.warning(
                "CV575",
                Some(typed.at.value_place()),
                format!("`signatures.keys` lists {} twice", key.name()),
                "remove one of both",
            ),
            Ok(key) => keys.push(key),
            Err(error) => report.error(
                "CV575",
                Some(typed.at.value_place()),
                format!("`signatures.keys`: {error}"),
                "write for example \"ssh-ed25519 AAAA… ann@acme\", or the public key that `minisign -G` prints",
            ),
        }
    }
    let place = Some(table.at().value_place());
    if (required && count == 0) || KEYS_MAX < count {
        report.error(
            "CV575",
            place,
            format!("`[signatures]` lists {count} keys, and there have to be 1 to {KEYS_MAX}"),
            "list the public keys of those who sign",
        );
    } else if required && keys.len() == 1 {
        report.warning(
            "CV576",
            place,
            "`[signatures]` lists a single key: if it is lost, nothing can be applied any more",
            "list another one that is kept elsewhere",
        );
    }
    table.finish(report);
    SignatureRules { required, keys }
}
