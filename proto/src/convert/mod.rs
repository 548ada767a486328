//! TryFrom wire to domain with typed errors, From domain to wire. Nothing else in the project does either.
//!
//! What comes off the wire is bounded and checked here once; a domain value never needs checking again.

mod access;
pub mod audit;
pub mod bundle;
mod call;
mod databases;
pub mod host;
pub mod journal;
mod key_manager;
pub mod link;
pub mod logs;
pub mod operator;
mod origin;
pub mod pack;
mod peers;
pub mod registered;
pub mod store;

/// Why a message is not a domain value. Says where; never repeats content that could be a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be set is not.
    #[error("{message} has no {field}")]
    Missing {
        /// The message's name.
        message: &'static str,
        /// The field's name.
        field: &'static str,
    },
    /// A field holds what it must not hold.
    #[error("{message} has an invalid {field}: {why}")]
    Invalid {
        /// The message's name.
        message: &'static str,
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The bytes are not an encoding of the message.
    #[error("the bytes are not a {message}")]
    Encoding {
        /// The message's name.
        message: &'static str,
        /// What the decoder says.
        source: prost::DecodeError,
    },
}

/// A [`ConvertError::Invalid`], shorter to write.
pub(crate) fn invalid(message: &'static str, field: &'static str, why: impl Into<String>) -> ConvertError {
    ConvertError::Invalid { message, field, why: why.into() }
}

/// The value of a field that must be set.
pub(crate) fn required<T>(
    value: Option<T>,
    message: &'static str,
    field: &'static str,
) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Missing { message, field })
}
