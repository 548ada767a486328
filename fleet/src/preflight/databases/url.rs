//! JDBC URLs of the databases that can be logged in to: where, which database, and what the driver does about TLS.

use super::{Tls, Vendor, not_spoken};
use crate::preflight::needs::{Address, Target, jdbc_target};

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) vendor: Vendor,
    /// Not empty.
    pub(super) addresses: Vec<Address>,
    pub(super) database: String,
    pub(super) schemas: Vec<String>,
    pub(super) tls: Tls,
}

/// `None` for databases without a network; `Err` says why a login cannot be tried.
pub(super) fn read(url: &str) -> Option<Result<Place, String>> {
    let addresses = match jdbc_target(url)? {
        Target::Addresses(addresses) => addresses,
        Target::Unknown(why) => return Some(Err(why)),
    };
    let rest = url.strip_prefix("jdbc:")?;
    Some(place(rest, addresses))
}

fn place(rest: &str, addresses: Vec<Address>) -> Result<Place, String> {
    let kind = rest.split(':').next().unwrap_or_default();
    let (vendor, is_mariadb) = match kind {
        "mysql" => (Vendor::MySql, false),
        "mariadb" => (Vendor::MySql, true),
        "postgresql" => (Vendor::PostgreSql, false),
        other => return Err(not_spoken(other)),
    };
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let database = match location.split_once("://") {
        Some((_, location)) => location.split_once('/').map_or("", |(_, name)| name),
        // postgresql:database
        None => location.split_once(':').map_or("", |(_, name)| name),
    };
    if database.is_empty() {
        return Err("its URL names no database".to_owned());
    }
    let database = decoded(database).ok_or("the name of its database cannot be read")?;
    let query = Query::read(query);
    let tls = match (vendor, is_mariadb) {
        (Vendor::MySql, false) => query.mysql(),
        (Vendor::MySql, true) => query.mariadb(),
        (Vendor::PostgreSql, _) => query.postgresql()?,
    };
    let schemas = query.value("currentschema").unwrap_or_default();
    let schemas = schemas.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    let schemas: Vec<String> = schemas.filter(|name| !name.is_empty()).collect();
    Ok(Place { vendor, addresses, database, schemas, tls })
}

/// Parameters by their names in lower case.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(text: &str) -> Self {
        // People copy `&amp;` from the XML of earlier versions.
        let pairs = text
            .split(['&', ';'])
            .filter_map(|pair| pair.strip_prefix("amp;").unwrap_or(pair).split_once('='));
        Self(pairs.filter_map(|(name, value)| Some((name.to_ascii_lowercase(), decoded(value)?))).collect())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Connector/J: PREFERRED, unless `sslMode` or its three forerunners say another.
    fn mysql(&self) -> Tls {
        if let Some(mode) = self.value("sslmode") {
            return match mode.to_ascii_uppercase().as_str() {
                "DISABLED" => Tls::Off,
                "REQUIRED" => Tls::Required,
                "VERIFY_CA" => Tls::Verified { name: false, authorities: None },
                "VERIFY_IDENTITY" => Tls::Verified { name: true, authorities: None },
                _ => Tls::IfOffered,
            };
        }
        match (self.flag("usessl"), self.flag("verifyservercertificate"), self.flag("requiressl")) {
            (Some(false), _, _) => Tls::Off,
            (_, Some(true), _) => Tls::Verified { name: false, authorities: None },
            (_, _, Some(true)) => Tls::Required,
            _ => Tls::IfOffered,
        }
    }

    /// MariaDB Connector/J: none, unless `sslMode` or its forerunners say another.
    fn mariadb(&self) -> Tls {
        let verified = |name| Tls::Verified { name, authorities: None };
        match self.value("sslmode").map(str::to_ascii_lowercase).as_deref() {
            Some("trust") => return Tls::Required,
            Some("verify-ca") => return verified(false),
            Some("verify-full") => return verified(true),
            Some(_) => return Tls::Off,
            None => {}
        }
        match (self.flag("usessl"), self.flag("trustservercertificate")) {
            (Some(true), Some(true)) => Tls::Required,
            (Some(true), _) => verified(true),
            _ => Tls::Off,
        }
    }

    /// pgJDBC: `prefer`, or `verify-full` with `ssl=true`.
    fn postgresql(&self) -> Result<Tls, String> {
        let is_on =
            self.value("ssl").is_some_and(|value| value.is_empty() || value.eq_ignore_ascii_case("true"));
        let by_java =
            self.value("sslfactory").is_some_and(|factory| factory.ends_with("DefaultJavaSSLFactory"));
        let verified = |name| match self.value("sslrootcert") {
            _ if by_java => Ok(Tls::Verified { name, authorities: None }),
            Some(file) => Ok(Tls::Verified { name, authorities: Some(file.to_owned()) }),
            None => {
                Err("its driver takes who vouches for the database from ~/.postgresql/root.crt".to_owned())
            }
        };
        match self.value("sslmode").map(str::to_ascii_lowercase).as_deref() {
            Some("disable") => Ok(Tls::Off),
            Some("require") => Ok(Tls::Required),
            Some("verify-ca") => verified(false),
            Some("verify-full") => verified(true),
            None if is_on => verified(true),
            _ => Ok(Tls::IfOffered),
        }
    }
}

/// `%XX` replaced; `None` if that gives no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                bytes.push(digit(*high)? * 16 + digit(*low)?);
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(url: &str) -> String {
        match read(url) {
            None => "none".to_owned(),
            Some(Err(why)) => why,
            Some(Ok(place)) => {
                let at = place.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                format!("{:?} {at} {} {:?} {:?}", place.vendor, place.database, place.schemas, place.tls)
            }
        }
    }

    #[test]
    fn a_url_says_where_which_database_and_what_the_driver_does_about_tls() {
        let path = "Verified { name: false, authorities: None }";
        let full = "Verified { name: true, authorities: None }";
        for (url, tls) in [
            ("mysql://db/x", "IfOffered"),
            ("mysql://db:3306/x?useSSL=false&amp;autoReconnect=true", "Off"),
            ("mysql://db/x?sslMode=DISABLED", "Off"),
            ("mysql://db/x?useSSL=true&requireSSL=true", "Required"),
            ("mysql://db/x?sslMode=required", "Required"),
            ("mysql://db/x?verifyServerCertificate=true&useSSL=true", path),
            ("mysql://db/x?sslMode=VERIFY_IDENTITY", full),
            ("mariadb://db/x", "Off"),
            ("mariadb://db/x?useSsl=true", full),
            ("mariadb://db/x?sslMode=trust", "Required"),
            ("mariadb://db/x?sslMode=verify-ca", path),
        ] {
            assert_eq!(said(&format!("jdbc:{url}")), format!("MySql db:3306 x [] {tls}"), "{url}");
        }
        for (query, tls) in [
            ("", "IfOffered"),
            ("?sslmode=disable", "Off"),
            ("?sslmode=require", "Required"),
            ("?ssl=true&sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory", full),
            (
                "?sslmode=verify-ca&sslrootcert=/etc/ca.pem",
                "Verified { name: false, authorities: Some(\"/etc/ca.pem\") }",
            ),
        ] {
            let expected = format!("PostgreSql db:5432 x [] {tls}");
            assert_eq!(said(&format!("jdbc:postgresql://db/x{query}")), expected, "{query}");
        }
    }

    #[test]
    fn lists_schemas_and_names_with_signs_are_read_and_the_rest_is_said() {
        for (url, expected) in [
            ("jdbc:mysql:loadbalance://a,b:3307/x", "MySql a:3306 b:3307 x [] IfOffered"),
            ("jdbc:postgresql:x", "PostgreSql localhost:5432 x [] IfOffered"),
            (
                "jdbc:postgresql://[::1]:5433/my%20db?currentSchema=%22A%22,b",
                "PostgreSql [::1]:5433 my db [\"A\", \"b\"] IfOffered",
            ),
            ("jdbc:mysql://db", "its URL names no database"),
            ("jdbc:mysql://db/", "its URL names no database"),
            ("jdbc:mysql://db/%zz", "the name of its database cannot be read"),
            (
                "jdbc:oracle:thin:@db:1521/x",
                "oracle is tried by a connection only (`endpoint`), not by a login",
            ),
            (
                "jdbc:postgresql://db/x?ssl=true",
                "its driver takes who vouches for the database from ~/.postgresql/root.crt",
            ),
            ("jdbc:h2:./x", "none"),
        ] {
            assert_eq!(said(url), expected, "{url}");
        }
    }
}
