//! What an Admin API has now, for a plan: what an apply would register, take over, or put back.

use serde_json::Value;

use super::{
    KeyManagers, NAME_MAX, Registration,
    body::{self, Difference},
    work::{KIND_MAX, Trouble, entries, shown},
};
use crate::bundle::DriftPolicy;

/// The most Key Managers of one answer. What is beyond is not told.
pub const FOUND_MAX: usize = 64;
/// Differences of one Key Manager that an answer tells.
pub const DIFFERENCES_MAX: usize = 32;
/// Differences that one sentence names.
const NAMED_MAX: usize = 3;

/// What the agent that keeps the Key Managers of a group found at their Admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// Every Key Manager there.
    Listed(Vec<Found>),
    /// It could not be asked; why, for people.
    Unknown(String),
}

/// A Key Manager of the Admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// By which the Admin API tells it from others.
    pub name: String,
    /// The `type` of the Admin API.
    pub kind: String,
    /// What it has otherwise than the files in force declare. Of those that are not declared: nothing.
    pub differences: Vec<Difference>,
}

/// What a plan says of one Key Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The sentence.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// What stands at the Admin API and the operator should know before an apply. `before`: as the files in force declare
/// it. What the new declaration takes over from the portal is no remark.
pub fn remarks(node: &str, before: &KeyManagers, new: &KeyManagers, registered: &Registered) -> Vec<Remark> {
    let found = match registered {
        Registered::Listed(found) => found,
        Registered::Unknown(_) if new.kept.is_empty() => return Vec::new(),
        Registered::Unknown(why) => {
            return vec![Remark {
                message: format!("{node}: the Key Managers at its Admin API are not known now: {why}"),
                remedy: "nothing, if its server is down or starting; what an apply changes there is told afterwards"
                    .to_owned(),
            }];
        }
    };
    let of = |one: &Registration| {
        let there = found.iter().find(|found| found.name == one.name);
        remark(node, before.kept(&one.name), one, there)
    };
    new.kept.iter().filter_map(of).collect()
}

fn remark(
    node: &str,
    before: Option<&Registration>,
    new: &Registration,
    there: Option<&Found>,
) -> Option<Remark> {
    let name = &new.name;
    let Some(there) = there else {
        // One that was never declared is not expected there.
        before?;
        return Some(Remark {
            message: format!("{node}: its Admin API has no Key Manager {name}"),
            remedy: "its agent registers it; if it was there before, ask who deleted it: keys that were made with it \
                     are lost"
                .to_owned(),
        });
    };
    if there.kind != new.connector.as_str() {
        let trouble = Trouble::OtherType(there.kind.clone());
        return Some(Remark {
            message: format!("{node}: Key Manager {name}: {trouble}"),
            remedy: trouble.remedy(new),
        });
    }
    let Some(before) = before else {
        return Some(Remark {
            message: format!("{node}: its Admin API has a Key Manager {name} already, which nobody declared"),
            remedy: "the apply writes what you declare over it; rename yours if this is another one"
                .to_owned(),
        });
    };
    let changed = changed(before, new);
    let is_written = before != new;
    if new.drift == DriftPolicy::Ignore && !is_written {
        return None;
    }
    let left: Vec<Difference> = there.differences.iter().filter_map(|one| still(one, &changed)).collect();
    let named: Vec<String> = left.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = match left.len().saturating_sub(NAMED_MAX) {
        _ if left.is_empty() => return None,
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let message =
        format!("{node}: somebody changed Key Manager {name} in the portal: {}{more}", named.join("; "));
    let remedy = if is_written || new.drift == DriftPolicy::Enforce {
        "it is put back; take the change over into fleet.toml if it shall stay"
    } else {
        "it is left so, since its `drift` is \"report\"; take the change over into fleet.toml, or undo it in the portal"
    };
    Some(Remark { message, remedy: remedy.to_owned() })
}

/// What the new declaration has otherwise than the one before.
fn changed(before: &Registration, new: &Registration) -> Vec<Difference> {
    body::differences(&body::wanted(new), &body::wanted(before))
}

/// What remains of a difference once the new declaration is in force.
fn still(found: &Difference, changed: &[Difference]) -> Option<Difference> {
    // `endpoints.token_endpoint` repeats `tokenEndpoint`.
    let field = body::field_of(&found.field);
    let declared = changed.iter().find(|one| one.field == field);
    let wanted = declared.map_or(&found.wanted, |one| &one.wanted);
    (*wanted != found.found).then(|| Difference { wanted: wanted.clone(), ..found.clone() })
}

/// Names and types in the answer of `GET /key-managers`, printable and bounded.
///
/// # Errors
/// The answer is no list of Key Managers.
pub fn listed(list: &Value) -> Result<Vec<Found>, Trouble> {
    let text = |entry: &Value, key: &str, most: usize| {
        shown(entry.get(key).and_then(Value::as_str).unwrap_or_default(), most)
    };
    let found = entries(list)?.iter().map(|entry| Found {
        name: text(entry, "name", NAME_MAX),
        kind: text(entry, "type", KIND_MAX),
        differences: Vec::new(),
    });
    Ok(found.take(FOUND_MAX).collect())
}

#[cfg(test)]
mod tests;
