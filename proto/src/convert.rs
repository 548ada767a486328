//! TryFrom wire to domain with typed errors, From domain to wire.
