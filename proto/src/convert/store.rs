//! Records of the store.
