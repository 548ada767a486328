//! Hosts and ports in JDBC and LDAP URLs. Credentials in them are never kept.

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One of these must be reachable; drivers try them in turn.
    Addresses(Vec<Address>),
    /// Cannot be told from the text: why.
    Unknown(String),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Address {
    /// Addresses of one data source of a server on `host` as they are compared between servers: in lower case, sorted,
    /// and with the name of the host in place of the loopback, which is another one on every host.
    pub fn place(mut addresses: Vec<Self>, host: &str) -> Vec<Self> {
        for address in &mut addresses {
            if is_loopback(&address.host) {
                host.clone_into(&mut address.host);
            }
            address.host.make_ascii_lowercase();
        }
        addresses.sort();
        addresses
    }
}

/// Whether a host name or address is that of the host itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.starts_with("127.") || host == "::1" || host == "0.0.0.0"
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The target of a JDBC URL; `None` for databases without a network (embedded H2, Derby, in-memory).
pub fn jdbc_target(url: &str) -> Option<Target> {
    let rest = url.strip_prefix("jdbc:")?;
    let vendor = rest.split(':').next().unwrap_or_default();
    match vendor {
        "h2" => h2_target(rest),
        "derby" | "hsqldb" | "sqlite" if !rest.contains("//") => None,
        "oracle" => Some(oracle_target(rest)),
        "sqlserver" => Some(sqlserver_target(rest)),
        _ => Some(generic_target(rest, default_port(rest))),
    }
}

/// The targets of an LDAP URL, or of several in one value separated by spaces or commas.
pub fn ldap_target(urls: &str) -> Option<Target> {
    let mut addresses = Vec::new();
    for url in urls.split([' ', ',']).filter(|url| !url.is_empty()) {
        let port = if url.starts_with("ldaps://") { 636 } else { 389 };
        let Some((_, rest)) = url.split_once("://") else { return Some(unknown("it is no LDAP URL")) };
        match authority(rest, Some(port)) {
            Some(address) => addresses.push(address),
            None => return Some(unknown("its host or port cannot be read")),
        }
    }
    Some(Target::Addresses(addresses))
}

fn unknown(why: &str) -> Target {
    Target::Unknown(why.to_owned())
}

fn default_port(rest: &str) -> Option<u16> {
    // A prefix such as `aws-wrapper:` or `log4jdbc:` may stand before the vendor.
    let known =
        [("mysql", 3306), ("mariadb", 3306), ("postgresql", 5432), ("db2", 50_000), ("sqlserver", 1433)];
    let scheme = rest.split("//").next().unwrap_or(rest);
    known.iter().find(|(vendor, _)| scheme.contains(vendor)).map(|(_, port)| *port)
}

fn h2_target(rest: &str) -> Option<Target> {
    let at = rest.find("tcp://").or_else(|| rest.find("ssl://"))?;
    Some(addresses_of(&rest[at + "tcp://".len()..], Some(9092)))
}

/// `vendor[:mode]://host[:port][,host[:port]]/database…`; PostgreSQL also knows `postgresql:database`.
fn generic_target(rest: &str, default: Option<u16>) -> Target {
    if let Some((_, rest)) = rest.split_once("://") {
        return if rest.contains("(host=") || rest.contains("(HOST=") {
            parenthesised(rest, default)
        } else {
            addresses_of(rest, default)
        };
    }
    if rest.starts_with("postgresql:") {
        return Target::Addresses(vec![Address { host: "localhost".to_owned(), port: 5432 }]);
    }
    unknown("its form of JDBC URL is not known here")
}

/// `oracle:thin:[user/password]@` then `[//]host[:port][/service]`, `host:port:sid`, `tcps://…`, a descriptor or an
/// alias.
fn oracle_target(rest: &str) -> Target {
    let Some((_, place)) = rest.rsplit_once('@') else {
        return unknown("its Oracle URL names no place after '@'");
    };
    if place.trim_start().starts_with('(') {
        return parenthesised(place, Some(1521));
    }
    let place = place.split_once("://").map_or(place, |(_, rest)| rest);
    let place = place.trim_start_matches('/');
    if !place.contains([':', '/']) {
        return unknown("it names a TNS alias, which tnsnames.ora resolves");
    }
    addresses_of(place, Some(1521))
}

/// `sqlserver://[host[\instance][:port]][;property=value]…`; host and port may be properties instead.
fn sqlserver_target(rest: &str) -> Target {
    let Some((_, rest)) = rest.split_once("://") else { return unknown("its SQL Server URL has no '//'") };
    let mut parts = rest.split(';');
    let server = parts.next().unwrap_or_default().trim_end_matches('/');
    let (mut host, mut port, mut instance) = (String::new(), None, server.contains('\\'));
    if !server.is_empty() {
        let (name, number) = server.rsplit_once(':').map_or((server, None), |(name, n)| (name, Some(n)));
        host = name.split('\\').next().unwrap_or_default().to_owned();
        port = number.and_then(|number| number.parse().ok());
        if number.is_some() && port.is_none() {
            return unknown("its port cannot be read");
        }
    }
    for property in parts {
        let Some((name, value)) = property.split_once('=') else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "servername" | "server" if host.is_empty() => value.trim().clone_into(&mut host),
            "portnumber" | "port" if port.is_none() => port = value.trim().parse().ok(),
            "instancename" => instance = true,
            _ => {}
        }
    }
    match (host.is_empty(), port, instance) {
        (true, _, _) => unknown("its SQL Server URL names no server"),
        (false, Some(port), _) => Target::Addresses(vec![Address { host, port }]),
        (false, None, true) => unknown("it names an instance; the SQL Server Browser tells its port"),
        (false, None, false) => Target::Addresses(vec![Address { host, port: 1433 }]),
    }
}

/// `(host=…)(port=…)` pairs, as in Oracle descriptors and MySQL's address form.
fn parenthesised(text: &str, default: Option<u16>) -> Target {
    let lower = text.to_ascii_lowercase();
    let value = |from: &str, name: &str| {
        let at = from.find(name)? + name.len();
        let rest = from[at..].trim_start().strip_prefix('=')?;
        rest.split(')').next().map(|value| value.trim().to_owned())
    };
    let mut addresses = Vec::new();
    for part in lower.split("(host").skip(1) {
        let part = format!("(host{part}");
        let port = value(&part, "(port").and_then(|port| port.parse().ok()).or(default);
        match (value(&part, "(host"), port) {
            (Some(host), Some(port)) => addresses.push(Address { host, port }),
            _ => return unknown("its address list cannot be read"),
        }
    }
    if addresses.is_empty() {
        unknown("its address list cannot be read")
    } else {
        Target::Addresses(addresses)
    }
}

/// `host[:port]`, several separated by commas, up to the first `/`, `;` or `?`.
fn addresses_of(rest: &str, default: Option<u16>) -> Target {
    let list = rest.split(['/', ';', '?']).next().unwrap_or_default();
    // User and password may stand before the host; the last '@' ends them.
    let list = list.rsplit_once('@').map_or(list, |(_, hosts)| hosts);
    let read: Option<Vec<Address>> = list.split(',').map(|host| authority(host, default)).collect();
    match read {
        Some(addresses) if !addresses.is_empty() => Target::Addresses(addresses),
        _ => unknown("its host or port cannot be read"),
    }
}

/// One `host[:port]`, the host possibly in brackets. A further `:sid` of Oracle is passed over.
fn authority(text: &str, default: Option<u16>) -> Option<Address> {
    let text = text.split(['/', '?', ';']).next().unwrap_or_default().trim();
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(rest) => rest.split(':').next()?.parse().ok()?,
        None => default?,
    };
    (!host.is_empty()).then(|| Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(target: Option<Target>) -> String {
        match target {
            None => "local".to_owned(),
            Some(Target::Unknown(_)) => "unknown".to_owned(),
            Some(Target::Addresses(all)) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        }
    }

    #[test]
    fn every_form_of_jdbc_url_names_its_place() {
        let cases = [
            ("jdbc:h2:./repository/database/WSO2CARBON_DB;DB_CLOSE_ON_EXIT=FALSE", "local"),
            ("jdbc:h2:async:./repository/database/X;LOCK_TIMEOUT=60000", "local"),
            ("jdbc:h2:tcp://db:9093/~/x", "db:9093"),
            ("jdbc:h2:tcp://db/~/x", "db:9092"),
            ("jdbc:mysql://db.acme:3307/shared?useSSL=false&amp;autoReconnect=true", "db.acme:3307"),
            ("jdbc:mysql://db.acme/shared", "db.acme:3306"),
            ("jdbc:mysql:replication://a:3306,b:3307/x", "a:3306 b:3307"),
            ("jdbc:mysql://user:geheim@a:3306/x", "a:3306"),
            ("jdbc:mysql://address=(host=a)(port=3310)/x", "a:3310"),
            ("jdbc:mariadb:sequential://a,b:3309/x", "a:3306 b:3309"),
            ("jdbc:mariadb://[2001:db8::1]:3306/x", "[2001:db8::1]:3306"),
            ("jdbc:postgresql://pg:5433/x?ssl=true", "pg:5433"),
            ("jdbc:postgresql://a,b/x?targetServerType=primary", "a:5432 b:5432"),
            ("jdbc:postgresql:x", "localhost:5432"),
            ("jdbc:oracle:thin:@ora:1522:ORCL", "ora:1522"),
            ("jdbc:oracle:thin:@ora:1522/service", "ora:1522"),
            ("jdbc:oracle:thin:@//ora/service", "ora:1521"),
            ("jdbc:oracle:thin:scott/tiger@//ora:1521/service", "ora:1521"),
            ("jdbc:oracle:thin:@tcps://ora:2484/service", "ora:2484"),
            (
                "jdbc:oracle:thin:@(DESCRIPTION=(ADDRESS_LIST=(ADDRESS=(PROTOCOL=TCP)(HOST=a)(PORT=1521))\
                 (ADDRESS=(PROTOCOL=TCP)(HOST = b)(PORT = 1522)))(CONNECT_DATA=(SERVICE_NAME=s)))",
                "a:1521 b:1522",
            ),
            ("jdbc:oracle:thin:@PROD", "unknown"),
            ("jdbc:sqlserver://ms:1434;databaseName=x;SendStringParametersAsUnicode=false", "ms:1434"),
            ("jdbc:sqlserver://ms;databaseName=x", "ms:1433"),
            ("jdbc:sqlserver://ms\\prod:1435;databaseName=x", "ms:1435"),
            ("jdbc:sqlserver://ms\\prod;databaseName=x", "unknown"),
            ("jdbc:sqlserver://;serverName=ms;portNumber=1436", "ms:1436"),
            ("jdbc:jtds:sqlserver://ms:1433/x", "ms:1433"),
            ("jdbc:db2://d:50001/x:progressiveStreaming=2;", "d:50001"),
            ("jdbc:db2://d/x", "d:50000"),
            ("jdbc:aws-wrapper:postgresql://aurora:5432/x", "aurora:5432"),
            ("jdbc:mysql://db:eins/x", "unknown"),
            ("jdbc:derby:memory:x", "local"),
            ("jdbc:unheard:of", "unknown"),
        ];
        for (url, places) in cases {
            assert_eq!(said(jdbc_target(url)), places, "{url}");
        }
    }

    #[test]
    fn every_form_of_ldap_url_names_its_place() {
        for (url, places) in [
            ("ldap://dir.acme:10389", "dir.acme:10389"),
            ("ldaps://dir.acme", "dir.acme:636"),
            ("ldap://a ldap://b:390/dc=acme", "a:389 b:390"),
            ("ldap://a:x", "unknown"),
        ] {
            assert_eq!(said(ldap_target(url)), places, "{url}");
        }
    }
}
