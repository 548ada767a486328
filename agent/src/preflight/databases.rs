//! Logs in to the server's databases as the server will, asks what they are, and leaves. Nothing is ever written: all
//! questions are asked in a transaction that is read only and rolled back.

use std::{io, panic::AssertUnwindSafe, path::Path, time::Duration};

use base64::Engine as _;
use fleet::preflight::{
    databases::{Database, DatabaseLimit, Inside, Login, LoginFact, Looked, Tls, Vendor, is_same},
    needs::Address,
};
use futures::{FutureExt as _, future::join_all};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection, Executor, Row as _,
    mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlSslMode},
    postgres::{PgConnectOptions, PgDatabaseError, PgSslMode},
};

use super::{keystore::Truststore, peers::plain};
use crate::files::read_named;

/// From the first attempt to the last answer. Longer than a try of an endpoint, so that one that cannot be reached is
/// called so there.
const LOGIN_TIME: Duration = Duration::from_secs(5);
/// More different logins than this are not tried.
const LOGINS_MAX: usize = 16;
/// A file of authorities is at most this large, bytes.
const AUTHORITIES_SIZE_MAX: u64 = 1024 * 1024;
/// Tables that the products' scripts make.
const TABLES: &str =
    "'REG_RESOURCE', 'UM_USER', 'IDN_BASE_TABLE', 'IDN_OAUTH2_ACCESS_TOKEN', 'AM_API', 'AM_KEY_MANAGER'";

/// What the database servers of these data sources allow, as far as they say so within `time`.
pub(super) async fn limits(
    databases: Vec<Database>,
    trust: &Truststore,
    time: Duration,
) -> Vec<DatabaseLimit> {
    fleet::preflight::databases::limits(&try_each(databases, &[], (trust, time)).await)
}

/// Tries each different login once, all at the same time. `in_use` are the databases of the server that runs.
pub(super) async fn try_all(
    databases: Vec<Database>,
    in_use: &[Database],
    trust: &Truststore,
) -> Vec<Looked> {
    try_each(databases, in_use, (trust, LOGIN_TIME)).await
}

async fn try_each(
    databases: Vec<Database>,
    in_use: &[Database],
    (trust, time): (&Truststore, Duration),
) -> Vec<Looked> {
    let mut logins: Vec<&Login> = Vec::new();
    for login in databases.iter().filter_map(|database| database.login.as_ref().ok()) {
        if !logins.contains(&login) {
            logins.push(login);
        }
    }
    let facts = join_all(logins.iter().take(LOGINS_MAX).map(|login| try_one(login, (trust, time)))).await;
    let fact = |database: &Database| match &database.login {
        Err(why) => LoginFact::NotTried(why.clone()),
        Ok(login) => {
            let place = logins.iter().position(|of| *of == login);
            place.and_then(|place| facts.get(place).cloned()).unwrap_or_else(|| {
                LoginFact::NotTried(format!("only {LOGINS_MAX} different logins are tried at a time"))
            })
        }
    };
    let looked: Vec<(LoginFact, bool)> = databases
        .iter()
        .map(|database| (fact(database), in_use.iter().any(|other| is_same(database, other))))
        .collect();
    databases
        .into_iter()
        .zip(looked)
        .map(|(database, (fact, is_in_use))| Looked { database, fact, is_in_use })
        .collect()
}

async fn try_one(login: &Login, (trust, time): (&Truststore, Duration)) -> LoginFact {
    let authorities = match authorities(&login.tls, trust) {
        Ok(pem) => pem,
        Err(why) => return LoginFact::NotTried(why),
    };
    let attempt = async {
        let mut last = LoginFact::NotTried("it names no address".to_owned());
        // Drivers try the addresses in turn.
        for address in &login.addresses {
            last = match login.vendor {
                Vendor::MySql => mysql(login, address, authorities.clone()).await,
                Vendor::PostgreSql => postgresql(login, address, authorities.clone()).await,
            }
            .unwrap_or_else(|error| failed(&error, login));
            if !matches!(last, LoginFact::Unreached(_)) {
                break;
            }
        }
        last
    };
    // The libraries read what a stranger sends; what they do not expect must not end the agent's look.
    match tokio::time::timeout(time, AssertUnwindSafe(attempt).catch_unwind()).await {
        Ok(Ok(fact)) => fact,
        Ok(Err(_)) => LoginFact::Unclear("its answer is not understood".to_owned()),
        Err(_) => LoginFact::Silent(time.as_secs()),
    }
}

/// Those who vouch for the database, as PEM; `None` where the driver asks nobody.
fn authorities(tls: &Tls, trust: &Truststore) -> Result<Option<Vec<u8>>, String> {
    match tls {
        Tls::Off | Tls::IfOffered | Tls::Required => Ok(None),
        Tls::Verified { authorities: Some(file), .. } => read_named(Path::new(file), AUTHORITIES_SIZE_MAX)
            .map(Some)
            .map_err(|error| format!("{file}, which vouches for the database, cannot be read: {error}")),
        Tls::Verified { authorities: None, .. } => match &trust.anchors {
            Ok(anchors) => {
                let trusted = anchors.iter().filter(|anchor| anchor.is_trusted);
                Ok(Some(trusted.flat_map(|anchor| pem(&anchor.der)).collect()))
            }
            Err(why) => Err(format!("the truststore {}, which vouches for the database: {why}", trust.file)),
        },
    }
}

fn pem(der: &[u8]) -> Vec<u8> {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").into_bytes()
}

async fn mysql(
    login: &Login,
    address: &Address,
    authorities: Option<Vec<u8>>,
) -> Result<LoginFact, sqlx::Error> {
    let mode = match login.tls {
        Tls::Off => MySqlSslMode::Disabled,
        Tls::IfOffered => MySqlSslMode::Preferred,
        Tls::Required => MySqlSslMode::Required,
        Tls::Verified { name: false, .. } => MySqlSslMode::VerifyCa,
        Tls::Verified { name: true, .. } => MySqlSslMode::VerifyIdentity,
    };
    let mut options = MySqlConnectOptions::new()
        .host(&address.host)
        .port(address.port)
        .username(&login.user)
        .database(&login.database)
        .ssl_mode(mode)
        // Nothing of the session is changed but the character set of its answers.
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .disable_statement_logging();
    if !login.password.expose().is_empty() {
        options = options.password(login.password.expose());
    }
    if let Some(pem) = authorities {
        options = options.ssl_ca_from_pem(pem);
    }
    let mut connection = options.connect().await?;
    connection.execute("START TRANSACTION READ ONLY").await?;
    let row = connection
        .fetch_one(
            "SELECT CONVERT(VERSION() USING utf8mb4), CONVERT(@@character_set_database USING utf8mb4), \
             CONVERT(@@collation_database USING utf8mb4), CAST(@@max_connections AS CHAR), \
             CAST(@@max_user_connections AS CHAR)",
        )
        .await?;
    let tables = AssertSqlSafe(format!(
        "SELECT CONVERT(UPPER(table_name) USING utf8mb4) FROM information_schema.tables WHERE table_schema = DATABASE() \
         AND UPPER(table_name) IN ({TABLES})"
    ));
    let found = connection.fetch_all(tables).await?;
    let number = |text: String| text.parse::<u64>().ok().filter(|&most| most != 0);
    let of_server = number(row.try_get(3)?);
    let limits = [of_server, number(row.try_get(4)?)];
    let version: String = row.try_get(0)?;
    let inside = Inside {
        version: plain(&mysql_version(&version)),
        character_set: plain(row.try_get(1)?),
        collation: plain(row.try_get(2)?),
        connections_max: limits.into_iter().flatten().min().unwrap_or(0),
        of_server: of_server.unwrap_or(0),
        tables: found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
    };
    leave(connection).await;
    Ok(LoginFact::In(inside))
}

/// `10.11.6-MariaDB-0+deb12u1` or `8.0.36`.
fn mysql_version(text: &str) -> String {
    let number = text.split('-').find(|part| part.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(text);
    // MariaDB put `5.5.5-` in front while replication expected that.
    match text.strip_prefix("5.5.5-") {
        Some(rest) => format!("MariaDB {}", rest.split('-').next().unwrap_or(rest)),
        None if text.contains("MariaDB") => format!("MariaDB {number}"),
        None => format!("MySQL {number}"),
    }
}

async fn postgresql(
    login: &Login,
    address: &Address,
    authorities: Option<Vec<u8>>,
) -> Result<LoginFact, sqlx::Error> {
    let mode = match login.tls {
        Tls::Off => PgSslMode::Disable,
        Tls::IfOffered => PgSslMode::Prefer,
        Tls::Required => PgSslMode::Require,
        Tls::Verified { name: false, .. } => PgSslMode::VerifyCa,
        Tls::Verified { name: true, .. } => PgSslMode::VerifyFull,
    };
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&address.host)
        .port(address.port)
        .username(&login.user)
        .password(login.password.expose())
        .database(&login.database)
        .ssl_mode(mode)
        // Poolers refuse parameters that they do not know.
        .extra_float_digits(None)
        .disable_statement_logging();
    if let Some(pem) = authorities {
        options = options.ssl_root_cert_from_pem(pem);
    }
    let mut connection = options.connect().await?;
    connection.execute("BEGIN READ ONLY").await?;
    let row = connection
        .fetch_one(
            "SELECT current_setting('server_version')::text, pg_encoding_to_char(d.encoding)::text, \
             d.datcollate::text, LEAST(current_setting('max_connections')::bigint - \
             current_setting('superuser_reserved_connections')::bigint, \
             CASE WHEN 0 <= d.datconnlimit THEN d.datconnlimit END, \
             CASE WHEN 0 <= r.rolconnlimit THEN r.rolconnlimit END)::text, \
             (current_setting('max_connections')::bigint - \
             current_setting('superuser_reserved_connections')::bigint)::text \
             FROM pg_catalog.pg_database d, pg_catalog.pg_roles r \
             WHERE d.datname = current_database() AND r.rolname = current_user",
        )
        .await?;
    let found = connection.fetch_all(AssertSqlSafe(postgresql_tables(&login.schemas))).await?;
    let (version, limit, of_server): (String, String, String) =
        (row.try_get(0)?, row.try_get(3)?, row.try_get(4)?);
    let inside = Inside {
        version: plain(&format!("PostgreSQL {}", version.split(' ').next().unwrap_or_default())),
        character_set: plain(row.try_get(1)?),
        collation: plain(row.try_get(2)?),
        connections_max: limit.parse().unwrap_or(0),
        of_server: of_server.parse().unwrap_or(0),
        tables: found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
    };
    leave(connection).await;
    Ok(LoginFact::In(inside))
}

fn postgresql_tables(schemas: &[String]) -> String {
    let quoted: Vec<String> = schemas.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    let place = if quoted.is_empty() {
        "pg_catalog.pg_table_is_visible(c.oid)".to_owned()
    } else {
        format!("n.nspname IN ({})", quoted.join(", "))
    };
    format!(
        "SELECT upper(c.relname)::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = \
         c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND upper(c.relname) IN ({TABLES}) AND {place}"
    )
}

/// Says goodbye, so that the database's log has no broken connection. What was told is told, whatever comes of it.
async fn leave<C>(mut connection: C)
where
    C: Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
{
    drop((&mut connection).execute("ROLLBACK").await);
    drop(connection.close().await);
}

fn failed(error: &sqlx::Error, login: &Login) -> LoginFact {
    match error {
        sqlx::Error::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                LoginFact::Unclear("it closes the connection".to_owned())
            }
            _ => LoginFact::Unreached(plain(&error.to_string())),
        },
        sqlx::Error::Database(said) => {
            let words = words(said.message(), login);
            if let Some(said) = said.try_downcast_ref::<MySqlDatabaseError>() {
                return of_mysql(said.number(), words);
            }
            match said.try_downcast_ref::<PgDatabaseError>() {
                Some(said) => of_postgresql(said.code(), words),
                None => LoginFact::Unclear(words),
            }
        }
        other => LoginFact::Unclear(words(&other.to_string(), login)),
    }
}

/// What a database says, printable, and without the password if it should repeat it.
fn words(text: &str, login: &Login) -> String {
    let password = login.password.expose();
    let text =
        if password.is_empty() { text.to_owned() } else { text.replace(password, fleet::finding::MASK) };
    plain(&text)
}

/// Numbers as in MySQL's and MariaDB's lists of errors.
fn of_mysql(number: u16, words: String) -> LoginFact {
    match number {
        // Access denied: to a user, to a database, to a host; passwords and accounts that have ended or are locked.
        1044 | 1045 | 1129 | 1130 | 1698 | 1820 | 1862 | 3118 | 4151 => LoginFact::Refused(words),
        1049 => LoginFact::NoDatabase(words),
        // Too many connections: of the server, of the user, of an hour.
        1040 | 1203 | 1226 => LoginFact::Full(words),
        _ => LoginFact::Unclear(words),
    }
}

/// SQLSTATE, as in PostgreSQL's list.
fn of_postgresql(state: &str, words: String) -> LoginFact {
    match state {
        // invalid_password, invalid_authorization_specification (pg_hba.conf, too), insufficient_privilege
        "28P01" | "28000" | "42501" => LoginFact::Refused(words),
        "3D000" => LoginFact::NoDatabase(words),
        "53300" => LoginFact::Full(words),
        _ => LoginFact::Unclear(words),
    }
}

#[cfg(test)]
mod tests;
