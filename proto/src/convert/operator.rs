//! Messages of the operator API.
