//! Which scripts of a pack make the tables of each database that a deployment.toml names, in which order.
//!
//! `convoy schema` prints it. Facts: the project's notes on surroundings, section 3, and WSO2's guides on changing the
//! data sources: the tables of consents lie in the identity database.

use std::collections::BTreeMap;

use crate::{
    preflight::needs::{Address, Target, Typed, jdbc_target},
    spec::canonical::{Unusable, flatten},
};

/// What a node's data sources need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// By place and name; data sources with one database are together.
    pub databases: Vec<Database>,
    /// Data sources without a script that could be named, with the reason.
    pub others: Vec<(String, String)>,
}

/// A database and the scripts that make its tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Whose.
    pub kind: Kind,
    /// Where; of several, the first.
    pub address: Address,
    /// Its name, or Oracle's service.
    pub name: String,
    /// Who logs in, if that is known.
    pub user: Option<String>,
    /// The tables of deployment.toml that lead there.
    pub keys: Vec<String>,
    /// Below home, in the order in which they are run.
    pub scripts: Vec<String>,
}

/// A type of database, as infer.json has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `mysql`
    MySql,
    /// `mariadb`
    MariaDb,
    /// `postgre`
    PostgreSql,
    /// `mssql`
    MsSql,
    /// `oracle`
    Oracle,
    /// `db2`
    Db2,
}

impl Kind {
    /// Its `type` in deployment.toml.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::MySql => "mysql",
            Kind::MariaDb => "mariadb",
            Kind::PostgreSql => "postgre",
            Kind::MsSql => "mssql",
            Kind::Oracle => "oracle",
            Kind::Db2 => "db2",
        }
    }

    /// The name of its scripts.
    const fn script(self) -> &'static str {
        match self {
            Kind::MySql | Kind::MariaDb => "mysql",
            Kind::PostgreSql => "postgresql",
            Kind::MsSql => "mssql",
            Kind::Oracle => "oracle",
            Kind::Db2 => "db2",
        }
    }

    fn of_type(text: &str) -> Option<Self> {
        let all = [Kind::MySql, Kind::MariaDb, Kind::PostgreSql, Kind::MsSql, Kind::Oracle, Kind::Db2];
        all.into_iter().find(|kind| kind.as_str() == text)
    }

    /// By what stands behind `jdbc:`.
    fn of_scheme(text: &str) -> Option<Self> {
        match text {
            "postgresql" => Some(Kind::PostgreSql),
            "sqlserver" => Some(Kind::MsSql),
            other => Kind::of_type(other),
        }
    }
}

impl Database {
    /// A command line that runs `script` of `home` with the vendor's own client, which asks for the password; `None` where
    /// that takes more than a line.
    pub fn command(&self, home: &str, script: &str) -> Option<String> {
        let Address { host, port } = &self.address;
        let (host, name) = (quoted(host), quoted(&self.name));
        let user = quoted(self.user.as_deref().unwrap_or("USER"));
        let file = quoted(&format!("{home}/{script}"));
        match self.kind {
            Kind::MySql | Kind::MariaDb => {
                Some(format!("mysql --host={host} --port={port} --user={user} --password {name} < {file}"))
            }
            Kind::PostgreSql => Some(format!(
                "psql --host={host} --port={port} --username={user} --dbname={name} --file={file}"
            )),
            Kind::MsSql => Some(format!("sqlcmd -S tcp:{host},{port} -d {name} -U {user} -i {file}")),
            Kind::Oracle => Some(format!("sqlplus {user}@//{host}:{port}/{name} @{file}")),
            Kind::Db2 => None,
        }
    }
}

/// A word of a POSIX shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/:-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Reads a deployment.toml of this product. `env` is the environment that the server gets.
///
/// # Errors
/// Says why the text configures no server.
pub fn read(text: &str, product: &str, env: &BTreeMap<String, String>) -> Result<Schema, Unusable> {
    let flat = flatten(text)?;
    let typed = Typed::new(&flat, env);
    let mut schema = Schema::default();
    for key in typed.tables_of_data_sources() {
        match database(&typed, &key, product) {
            Ok(found) => add(&mut schema.databases, found),
            Err(why) => schema.others.push((key, why)),
        }
    }
    for database in &mut schema.databases {
        let place = |script: &String| ORDER.iter().position(|dir| script.starts_with(dir));
        // Those of `dbscripts` itself are in no directory of the list, and come first.
        database.scripts.sort_by_key(place);
    }
    schema.databases.sort_by(|one, other| (&one.address, &one.name).cmp(&(&other.address, &other.name)));
    Ok(schema)
}

/// Where the scripts of single databases lie, in the order in which they are run, behind the shared ones.
const ORDER: [&str; 3] = ["dbscripts/identity/", "dbscripts/consent/", "dbscripts/apimgt/"];

fn add(databases: &mut Vec<Database>, found: Database) {
    let same = |known: &&mut Database| {
        (known.kind, &known.address, &known.name) == (found.kind, &found.address, &found.name)
    };
    match databases.iter_mut().find(same) {
        Some(known) => {
            known.keys.extend(found.keys);
            for script in found.scripts {
                if !known.scripts.contains(&script) {
                    known.scripts.push(script);
                }
            }
        }
        None => databases.push(found),
    }
}

fn database(typed: &Typed<'_>, key: &str, product: &str) -> Result<Database, String> {
    let part = |name: &str| typed.text(&format!("{key}.{name}")).transpose();
    let (kind, address, name) = match part("url")? {
        Some(url) => of_url(&url)?,
        None => of_parts(&part)?,
    };
    let dirs = dirs(key, product);
    if dirs.is_empty() {
        return Err("no script of the pack is known for it".to_owned());
    }
    let scripts = dirs.iter().map(|dir| format!("{dir}{}.sql", kind.script())).collect();
    let user = part("username").ok().flatten();
    Ok(Database { kind, address, name, user, keys: vec![key.to_owned()], scripts })
}

fn dirs(key: &str, product: &str) -> &'static [&'static str] {
    let is_identity_server = product.starts_with("wso2is-") && !product.starts_with("wso2is-km-");
    match key {
        "database.shared_db" | "database.user" | "database.registry_db" => &["dbscripts/"],
        "database.identity_db" if is_identity_server => &["dbscripts/identity/", "dbscripts/consent/"],
        "database.apim_db" if !is_identity_server => &["dbscripts/apimgt/"],
        _ => &[],
    }
}

const EMBEDDED: &str = "an H2 database makes its tables by itself from the pack";

fn of_parts(
    part: &dyn Fn(&str) -> Result<Option<String>, String>,
) -> Result<(Kind, Address, String), String> {
    let needed = |name: &str| part(name)?.ok_or_else(|| format!("it has neither `url` nor `{name}`"));
    let kind = needed("type")?;
    if kind == "h2" {
        return Err(EMBEDDED.to_owned());
    }
    let kind = Kind::of_type(&kind).ok_or_else(|| format!("the type {kind:?} is not known"))?;
    let port = needed("port")?.parse().map_err(|_| "its port is not a number from 0 to 65535".to_owned())?;
    let address = Address { host: needed("hostname")?, port };
    let name =
        if kind == Kind::Oracle { part("sid")?.map_or_else(|| needed("name"), Ok)? } else { needed("name")? };
    Ok((kind, address, name))
}

fn of_url(url: &str) -> Result<(Kind, Address, String), String> {
    let rest = url.strip_prefix("jdbc:").ok_or("its URL is not one of JDBC")?;
    let scheme = rest.split(':').next().unwrap_or_default();
    let addresses = match jdbc_target(url) {
        None => return Err(EMBEDDED.to_owned()),
        Some(Target::Addresses(addresses)) => addresses,
        Some(Target::Unknown(why)) => return Err(why),
    };
    let kind = Kind::of_scheme(scheme).ok_or_else(|| format!("{scheme} has no script in the pack"))?;
    let address = addresses.into_iter().next().ok_or("its URL names no host")?;
    let name = match kind {
        Kind::MsSql => {
            rest.split(';').skip(1).filter_map(|pair| pair.split_once('=')).find_map(|(name, value)| {
                let name = name.to_ascii_lowercase();
                ["databasename", "database"].contains(&name.as_str()).then(|| value.to_owned())
            })
        }
        Kind::MySql | Kind::MariaDb | Kind::PostgreSql | Kind::Oracle | Kind::Db2 => {
            let location = rest.split(['?', ';']).next().unwrap_or_default();
            let behind = location.split_once("//").map_or(location, |(_, behind)| behind);
            let last = behind.rsplit_once('/').or_else(|| behind.rsplit_once(':'));
            last.map(|(_, name)| name.split(':').next().unwrap_or(name).to_owned())
        }
    };
    let name = name.filter(|name| !name.is_empty()).ok_or("its URL names no database")?;
    Ok((kind, address, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, product: &str) -> Vec<String> {
        let schema = read(text, product, &BTreeMap::new()).unwrap();
        let databases = schema.databases.iter().map(|one| {
            let scripts: Vec<&str> =
                one.scripts.iter().map(|script| script.strip_prefix("dbscripts/").unwrap()).collect();
            let keys = one.keys.join(" ");
            format!("{} {} {}: {keys}: {}", one.kind.as_str(), one.address, one.name, scripts.join(" "))
        });
        databases.chain(schema.others.iter().map(|(key, why)| format!("{key}: {why}"))).collect()
    }

    fn parts(key: &str, kind: &str, name: &str) -> String {
        format!(
            "[database.{key}]\ntype = '{kind}'\nhostname = 'db'\nport = 1\nname = '{name}'\nusername = 'u'\npassword = '{{'\n"
        )
    }

    #[test]
    fn each_product_has_its_scripts_and_one_database_for_two_gets_them_in_order() {
        let apart = [parts("shared_db", "mysql", "a"), parts("identity_db", "postgre", "b")].concat();
        assert_eq!(
            said(&apart, "wso2is-7.2"),
            [
                "mysql db:1 a: database.shared_db: mysql.sql",
                "postgre db:1 b: database.identity_db: identity/postgresql.sql consent/postgresql.sql",
            ]
        );
        let together = [parts("identity_db", "mysql", "a"), parts("shared_db", "mysql", "a")].concat();
        assert_eq!(
            said(&together, "wso2is-7.2"),
            [
                "mysql db:1 a: database.identity_db database.shared_db: mysql.sql identity/mysql.sql consent/mysql.sql"
            ]
        );
        let manager = [parts("shared_db", "oracle", "a"), parts("apim_db", "mssql", "b")].concat();
        assert_eq!(
            said(&manager, "wso2am-4.5"),
            [
                "oracle db:1 a: database.shared_db: oracle.sql",
                "mssql db:1 b: database.apim_db: apimgt/mssql.sql",
            ]
        );
    }

    #[test]
    fn urls_of_every_vendor_name_their_database_and_the_rest_says_why_not() {
        for (url, expected) in [
            ("mysql://db:3307/x?useSSL=false", "mysql db:3307 x: database.shared_db: mysql.sql"),
            ("mariadb://db/x", "mariadb db:3306 x: database.shared_db: mysql.sql"),
            ("postgresql://db/x", "postgre db:5432 x: database.shared_db: postgresql.sql"),
            (
                "sqlserver://db:1433;databaseName=x;encrypt=true",
                "mssql db:1433 x: database.shared_db: mssql.sql",
            ),
            ("oracle:thin:@db:1521/x", "oracle db:1521 x: database.shared_db: oracle.sql"),
            ("oracle:thin:@//db:1521/x", "oracle db:1521 x: database.shared_db: oracle.sql"),
            ("db2://db:50000/x:currentSchema=Y;", "db2 db:50000 x: database.shared_db: db2.sql"),
            ("h2:./x", "database.shared_db: an H2 database makes its tables by itself from the pack"),
            ("mysql://db/", "database.shared_db: its URL names no database"),
            ("acme://db:1/x", "database.shared_db: acme has no script in the pack"),
        ] {
            let text = format!("[database.shared_db]\nurl = 'jdbc:{url}'\n");
            assert_eq!(said(&text, "wso2am-4.5"), [expected], "{url}");
        }
        assert_eq!(
            said(&parts("own", "mysql", "x"), "wso2am-4.5"),
            ["database.own: no script of the pack is known for it"]
        );
        assert_eq!(
            said(&parts("shared_db", "postgresql", "x"), "wso2am-4.5"),
            ["database.shared_db: the type \"postgresql\" is not known"]
        );
    }

    #[test]
    fn command_lines_quote_what_a_shell_would_take_apart_and_hold_no_password() {
        let text = parts("shared_db", "mysql", "a b;'c")
            .replace('{', "S3CRET")
            .replace("''", "'")
            .replace("'a b;'c'", "\"a b;'c\"");
        let schema = read(&text, "wso2am-4.5", &BTreeMap::new()).unwrap();
        let command = schema.databases[0].command("/opt/wso2", &schema.databases[0].scripts[0]).unwrap();
        assert_eq!(
            command,
            r"mysql --host=db --port=1 --user=u --password 'a b;'\''c' < /opt/wso2/dbscripts/mysql.sql"
        );
        for (kind, expected) in [
            ("postgre", "psql --host=db --port=1 --username=u --dbname=x --file=/h/dbscripts/postgresql.sql"),
            ("mssql", "sqlcmd -S tcp:db,1 -d x -U u -i /h/dbscripts/mssql.sql"),
            ("oracle", "sqlplus u@//db:1/x @/h/dbscripts/oracle.sql"),
        ] {
            let schema = read(&parts("shared_db", kind, "x"), "wso2am-4.5", &BTreeMap::new()).unwrap();
            let database = &schema.databases[0];
            assert_eq!(database.command("/h", &database.scripts[0]).as_deref(), Some(expected));
        }
    }
}
