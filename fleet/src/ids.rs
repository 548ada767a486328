//! Names and numbers, parsed once and never validated again.

use std::{fmt, str::FromStr, sync::Arc};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or longer than 63 characters.
    #[error("{text:?} has {} characters; a name has 1 to 63", text.chars().count())]
    Length {
        /// What was given.
        text: String,
    },
    /// A character that is not allowed.
    #[error(
        "{text:?} holds {found:?}; a name has lower-case letters, digits and '-', and starts and ends with a letter or \
         digit, as in {:?}",
        alike(text)
    )]
    Character {
        /// What was given.
        text: String,
        /// The first character that is not allowed.
        found: char,
    },
}

/// A name that is allowed and looks like `text`; an example if nothing of it can stay.
fn alike(text: &str) -> String {
    let plain = text.to_lowercase().replace(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()), "-");
    let plain: String = plain.trim_matches('-').chars().take(63).collect();
    match plain.trim_end_matches('-') {
        "" => "is-1".to_owned(),
        name => name.to_owned(),
    }
}

fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() || 63 < text.len() {
        return Err(NameError::Length { text: text.to_owned() });
    }
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bad = text.chars().find(|&c| !(edge(c) || c == '-'));
    let bad = bad.or_else(|| text.chars().next().filter(|&c| !edge(c)));
    let bad = bad.or_else(|| text.chars().last().filter(|&c| !edge(c)));
    match bad {
        Some(found) => Err(NameError::Character { text: text.to_owned(), found }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        // Thousands of copies of one name are made at each look at a large fleet: they share the text.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Accepts a DNS label: lower-case letters, digits and '-', 1 to 63 characters.
            ///
            /// # Errors
            /// Says which character or length is wrong.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check_name(text).map(|()| Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The name of a fleet, unique among the fleets of an operator.
    FleetName
);
name!(
    /// The name of a group of nodes that do the same job.
    GroupName
);
name!(
    /// The name of one node (a host's WSO2 server) within its fleet.
    NodeName
);

name!(
    /// The name of an operator: a person, or a program that acts for them.
    OperatorName
);

name!(
    /// The name of a zone: hosts that one event can take away together, such as a data centre.
    ZoneName
);

name!(
    /// The name of a channel that carries alerts to people or programs.
    ChannelName
);

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $type(pub u64);

        impl $type {
            /// The one after this. What is counted here starts at 1 and is bounded where it is read in, so the end of
            /// the numbers is never reached; a number that is damaged all the same stays where it is.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A node's desired-state number. Only grows; belongs to the node and survives reconnects.
    Generation
);

impl Generation {
    /// What lay on a host before the first generation. Assignments begin at 1.
    pub const ORIGINAL: Self = Self(0);
}

number!(
    /// An applied, immutable fleet spec. Numbered from 1.
    Revision
);
number!(
    /// One execution of a revision. Numbered from 1.
    RolloutId
);
number!(
    /// A change that waits for approval, or waited. Numbered from 1.
    ProposalId
);
number!(
    /// Pairs an answer with a message of one stream.
    Nonce
);

/// Identifies one coordinator store. A coordinator with another epoch than an agent knows is not obeyed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetEpoch(pub [u8; 16]);

impl FleetEpoch {
    /// Reads 32 hexadecimal digits, as it prints.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for FleetEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FleetEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// BLAKE3 of some content. Equal digests mean equal content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// Reads 32 bytes, as they come off the wire.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The first 12 hexadecimal digits, enough for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        for good in ["a", "is-1", "0", "gw-eu-west-1"] {
            assert!(NodeName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Is-1", "is_1", "is 1", "ä", &"x".repeat(64)] {
            assert!(NodeName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_epoch_reads_back_what_it_prints() {
        let epoch = FleetEpoch([0xa7; 16]);
        assert_eq!(FleetEpoch::from_hex(&epoch.to_string()), Some(epoch));
        assert_eq!(FleetEpoch::from_hex("a7"), None);
    }

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = Digest::of(b"content");
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Digest::from_hex("zz"), None);
    }
}
