//! Which mapper and which template engine a product has, and what that changes.
//!
//! Versions come from WSO2's release packs (the jars in `lib/`), behaviour from the history of `wso2/config-mapper`
//! and `HubSpot/jinjava`. A jar is sometimes replaced by an update, so a jar name beats the product's number.

use std::fmt;
use std::str::FromStr;

/// A version of three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub patch: u16,
}

impl Version {
    /// A version.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version such as 4.5.0")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let bad = || VersionError(text.to_owned());
        let mut numbers = [0u16; 3];
        let mut parts = text.split(['.', '-', '_']);
        for number in &mut numbers {
            match parts.next() {
                Some(part) => *number = part.parse().map_err(|_| bad())?,
                None => break,
            }
        }
        Ok(Self::new(numbers[0], numbers[1], numbers[2]))
    }
}

/// A product whose configuration WSO2's config-mapper writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Product {
    /// WSO2 Identity Server.
    IdentityServer,
    /// WSO2 API Manager, in any of its distributions.
    ApiManager,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IdentityServer => "WSO2 Identity Server",
            Self::ApiManager => "WSO2 API Manager",
        })
    }
}

/// The pair of versions that decides what comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Version of the config-mapper jar.
    pub mapper: Version,
    /// Version of the jinjava jar.
    pub jinjava: Version,
}

/// Product, first version with these jars, mapper, jinjava. Rows of one product rise.
const TABLE: [(Product, Version, Version, Version); 12] = {
    use Product::{ApiManager as Apim, IdentityServer as Is};
    const fn v(major: u16, minor: u16, patch: u16) -> Version {
        Version::new(major, minor, patch)
    }
    [
        (Apim, v(3, 0, 0), v(1, 0, 2), v(2, 4, 14)),
        (Apim, v(4, 0, 0), v(1, 0, 18), v(2, 4, 14)),
        (Apim, v(4, 1, 0), v(1, 0, 20), v(2, 6, 0)),
        (Apim, v(4, 5, 0), v(1, 0, 23), v(2, 7, 2)),
        (Apim, v(4, 6, 0), v(1, 0, 23), v(2, 7, 5)),
        (Apim, v(4, 7, 0), v(1, 0, 26), v(2, 7, 5)),
        (Is, v(5, 9, 0), v(1, 0, 2), v(2, 4, 14)),
        (Is, v(6, 0, 0), v(1, 0, 13), v(2, 6, 0)),
        (Is, v(7, 0, 0), v(1, 0, 22), v(2, 6, 0)),
        (Is, v(7, 1, 0), v(1, 0, 22), v(2, 6, 0)),
        (Is, v(7, 2, 0), v(1, 0, 22), v(2, 7, 5)),
        (Is, v(7, 3, 0), v(1, 0, 22), v(2, 7, 5)),
    ]
};

impl Dialect {
    /// The newest dialect in the table, for packs that do not say what they are.
    pub const NEWEST: Self = Self { mapper: Version::new(1, 0, 26), jinjava: Version::new(2, 7, 5) };

    /// The dialect of a product's release. Between two known releases the older one's counts.
    pub fn of(product: Product, version: Version) -> Self {
        let mut rows = TABLE.iter().filter(|(row, ..)| *row == product);
        let first = rows.clone().next();
        let row = rows.rfind(|(_, since, ..)| *since <= version).or(first);
        row.map_or(Self::NEWEST, |&(_, _, mapper, jinjava)| Self { mapper, jinjava })
    }

    /// `$sys{}` and `$env{}` inside tables of arrays are resolved since mapper 1.0.5.
    pub fn resolves_variables_in_tables(self) -> bool {
        Version::new(1, 0, 5) <= self.mapper
    }

    /// `[runtime_secrets]` means something since mapper 1.0.13. Before, its keys are keys like any others.
    pub fn knows_runtime_secrets(self) -> bool {
        Version::new(1, 0, 13) <= self.mapper
    }

    /// `$` and `\` in the value of an environment variable are plain text since mapper 1.0.25.
    pub fn quotes_environment(self) -> bool {
        Version::new(1, 0, 25) <= self.mapper
    }

    /// Before jinjava 2.5.0 the message of an expression that fails begins with the name of its exception.
    pub(crate) fn names_exceptions(self) -> bool {
        self.jinjava < Version::new(2, 5, 0)
    }

    /// `-%}` of a tag without body (`else`, `set`) trims what follows since jinjava 2.7.0.
    pub(crate) fn trims_after_bodiless_tags(self) -> bool {
        Version::new(2, 7, 0) <= self.jinjava
    }

    /// A backslash in a tag hides the next character everywhere since jinjava 2.7.1, before only between quotes.
    pub(crate) fn escapes_outside_quotes(self) -> bool {
        Version::new(2, 7, 1) <= self.jinjava
    }

    /// `default(none)` stays null since jinjava 2.7.1; before it became the text `null`.
    pub(crate) fn keeps_null_default(self) -> bool {
        Version::new(2, 7, 1) <= self.jinjava
    }

    /// Comments strip blanks before and one line end after like tags do since jinjava 2.7.4.
    pub(crate) fn trims_around_comments(self) -> bool {
        Version::new(2, 7, 4) <= self.jinjava
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialect_follows_the_product() {
        let table = [
            (Product::ApiManager, "3.2.0", "1.0.2", "2.4.14"),
            (Product::ApiManager, "4.2.0", "1.0.20", "2.6.0"),
            (Product::ApiManager, "4.5.0", "1.0.23", "2.7.2"),
            (Product::IdentityServer, "5.11.0", "1.0.2", "2.4.14"),
            (Product::IdentityServer, "7.2.0", "1.0.22", "2.7.5"),
            (Product::IdentityServer, "9.0.0", "1.0.22", "2.7.5"),
            (Product::IdentityServer, "1.0.0", "1.0.2", "2.4.14"),
        ];
        for (product, version, mapper, jinjava) in table {
            let dialect = Dialect::of(product, version.parse().unwrap());
            assert_eq!(
                (dialect.mapper.to_string(), dialect.jinjava.to_string()),
                (mapper.into(), jinjava.into())
            );
        }
    }

    #[test]
    fn a_version_is_read_leniently_at_its_end_only() {
        assert_eq!("4.5".parse(), Ok(Version::new(4, 5, 0)));
        assert_eq!("4.5.0-update3".parse(), Ok(Version::new(4, 5, 0)));
        assert!("four".parse::<Version>().is_err());
    }
}
