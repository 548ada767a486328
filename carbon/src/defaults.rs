//! Fourth phase: default.json fills what is absent. Its numbers are doubles and stay so.

use crate::flatten::Flat;
use crate::value::Table;

/// Adds every default whose key is absent.
pub fn apply(defaults: &Table, data: &mut Flat) {
    for (key, value) in defaults.iter() {
        data.put_if_absent(key, || value.clone());
    }
}
