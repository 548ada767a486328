//! Fourth phase: default.json fills what is absent. Its numbers are doubles and stay so.

use std::sync::Arc;

use crate::flatten::Flat;
use crate::value::Table;

/// Adds every default whose key is absent, and names those.
pub fn apply(defaults: &Table, data: &mut Flat) -> Vec<Arc<str>> {
    let mut added = Vec::new();
    for (key, value) in defaults.iter() {
        if data.put_if_absent(key, || value.clone()) {
            added.push(Arc::clone(key));
        }
    }
    added
}
