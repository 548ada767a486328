//! Logins to real databases: what preflight says of users, databases, schemas and limits, and that a bundle whose login
//! is refused never restarts a server.

use std::{collections::BTreeMap, fs, time::Duration};

use agent::preflight::{Subject, run};
use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{
    Programs,
    database::{DatabaseServer, Setup},
};
use fleet::{
    bundle::{HomePath, RestartPolicy, RunState, ServiceSettings, Thresholds},
    observed::RefusalReason,
    preflight::databases::Vendor,
};

use crate::rig::{CONFIG, Rig};

const PASSWORD: &str = "S3CRET-of-the-database";

/// Two databases, one with the product's tables, and a user who may look at both.
fn setup(vendor: Vendor) -> String {
    let tables = ["REG_RESOURCE", "UM_USER"];
    match vendor {
        Vendor::MySql => {
            let made = tables.map(|table| format!("CREATE TABLE full.{table} (id INT);\n")).concat();
            format!(
                "CREATE DATABASE `full` CHARACTER SET latin1;\nCREATE DATABASE empty;\n{made}\
                 CREATE USER wso2@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON full.* TO wso2@'%';\n\
                 GRANT ALL ON empty.* TO wso2@'%';\nGRANT ALL ON absent.* TO wso2@'%';\n\
                 CREATE USER few@'%' IDENTIFIED BY '{PASSWORD}' WITH MAX_USER_CONNECTIONS 3;\n\
                 GRANT SELECT ON full.* TO few@'%';\n"
            )
            .replace(" full.", " `full`.")
        }
        // Tables of a template are those of every database that is made of it.
        Vendor::PostgreSql => {
            let made = tables.map(|table| format!("CREATE TABLE {table} (id INT);\n")).concat();
            let dropped = tables.map(|table| format!("DROP TABLE {table};\n")).concat();
            format!(
                "{made}CREATE SCHEMA own;\nCREATE DATABASE \"full\" TEMPLATE template1;\n{dropped}\
                 CREATE DATABASE empty TEMPLATE template1;\nCREATE USER wso2 PASSWORD '{PASSWORD}';\n\
                 CREATE USER few PASSWORD '{PASSWORD}' CONNECTION LIMIT 3;\n"
            )
        }
    }
}

#[expect(clippy::print_stdout, reason = "the caller reads what was left out")]
async fn server(vendor: Vendor) -> Result<Option<DatabaseServer>> {
    let statements = setup(vendor);
    let started =
        DatabaseServer::start(&Setup { vendor, statements: &statements, connections_max: 40 }).await?;
    if started.is_none() {
        println!("NOT EXERCISED: {vendor:?} is not installed here");
    }
    Ok(started)
}

const BOTH: [Vendor; 2] = [Vendor::MySql, Vendor::PostgreSql];

/// What a data source says.
#[derive(Clone)]
struct Source {
    vendor: Vendor,
    port: u16,
    database: &'static str,
    /// With its question mark.
    parameters: String,
    user: &'static str,
    password: &'static str,
    pool: u32,
}

impl Source {
    fn good(vendor: Vendor, port: u16) -> Self {
        let user = "wso2";
        Self { vendor, port, database: "full", parameters: String::new(), user, password: PASSWORD, pool: 5 }
    }

    fn text(&self) -> String {
        let scheme = match self.vendor {
            Vendor::MySql => "mysql",
            Vendor::PostgreSql => "postgresql",
        };
        let Self { port, database, parameters, user, password, pool, .. } = self;
        format!(
            "[database.shared_db]\nurl = \"jdbc:{scheme}://localhost:{port}/{database}{parameters}\"\n\
             username = \"{user}\"\npassword = \"{password}\"\n[database.shared_db.pool_options]\nmaxActive = {pool}\n"
        )
    }
}

/// A home with a deployment.toml and nothing else.
struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("convoy-databases-").tempdir()?;
        fs::create_dir_all(directory.path().join("repository/conf"))?;
        fs::create_dir_all(directory.path().join("repository/resources/security"))?;
        Ok(Self { directory })
    }

    /// The checks of databases and their endpoints for a deployment.toml, one line each.
    async fn said(&self, config: &str) -> Result<Vec<String>> {
        fs::write(self.directory.path().join(CONFIG), config)?;
        let checks = run(&Subject::on_disk(settings(self.directory.path())?)).await;
        let lines: Vec<String> = checks
            .iter()
            .filter(|check| check.name == "database")
            .map(|check| format!("{} {check}", check.outcome.as_str()))
            .collect();
        ensure!(lines.iter().all(|line| !line.contains("S3CRET")), "{lines:?}");
        Ok(lines)
    }

    async fn first(&self, source: &Source) -> Result<String> {
        let said = self.said(&source.text()).await?;
        said.into_iter().next().context("a check of a database")
    }
}

fn settings(home: &std::path::Path) -> Result<ServiceSettings> {
    let secs = Duration::from_secs;
    Ok(ServiceSettings {
        product: "wso2am-4.5".to_owned(),
        home: home.display().to_string(),
        script_unix: HomePath::parse("bin/api-manager.sh")?,
        script_windows: HomePath::parse("bin/api-manager.bat")?,
        config_path: HomePath::parse(CONFIG)?,
        args: Vec::new(),
        env: BTreeMap::new(),
        java_home: None,
        run_user: None,
        offset: 0,
        ports: Vec::new(),
        probes: Vec::new(),
        ready_lines: Vec::new(),
        start_deadline: secs(300),
        stop_deadline: secs(120),
        thresholds: Thresholds { period: secs(10), failure: 3, success: 1, grace: secs(60) },
        restart_policy: RestartPolicy {
            exits_max: 3,
            window: secs(600),
            delay: secs(5),
            delay_max: secs(300),
        },
        unhealthy_restarts: false,
        check_databases: true,
        owned_keys: Vec::new(),
        jdk: (11, Some(21)),
    })
}

fn starts(line: &str, with: &str) -> Result<()> {
    ensure!(line.starts_with(with), "{with:?} expected:\n{line}");
    Ok(())
}

fn has(line: &str, words: &[&str]) -> Result<()> {
    ensure!(words.iter().all(|word| line.contains(word)), "{words:?} expected:\n{line}");
    Ok(())
}

#[tokio::test]
async fn a_user_who_is_let_in_sees_the_schema_the_version_and_the_limit() -> Result<()> {
    for vendor in BOTH {
        let Some(server) = server(vendor).await? else { continue };
        let host = Host::new()?;
        let line = host.first(&Source::good(vendor, server.port)).await?;
        starts(&line, "pass ")?;
        match vendor {
            Vendor::MySql => {
                has(&line, &["the schema is there, latin1 (latin1_", "MariaDB 1", "40 connections allowed"])?;
            }
            // Three are kept for its administrators.
            Vendor::PostgreSql => {
                has(&line, &["the schema is there, UTF8 (C)", "PostgreSQL ", "37 connections allowed"])?;
            }
        }
        let said = host.said(&Source { pool: 50, ..Source::good(vendor, server.port) }.text()).await?;
        has(
            said.get(1).context("the pool is told")?,
            &["warn", "may open 50 connections (database.shared_db)"],
        )?;
        let few = host.first(&Source { user: "few", pool: 3, ..Source::good(vendor, server.port) }).await?;
        has(&few, &["3 connections allowed"])?;
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_a_missing_database_and_a_missing_schema_fail_in_the_databases_own_words()
-> Result<()> {
    for vendor in BOTH {
        let Some(server) = server(vendor).await? else { continue };
        let host = Host::new()?;
        let good = Source::good(vendor, server.port);
        let wrong = host.first(&Source { password: "S3CRET-but-wrong", ..good.clone() }).await?;
        starts(&wrong, "fail ")?;
        has(
            &wrong,
            &["refuses wso2", "correct database.shared_db.username and database.shared_db.password"],
        )?;
        let absent = host.first(&Source { database: "absent", ..good.clone() }).await?;
        starts(&absent, "fail ")?;
        has(&absent, &["there is no database \"absent\"", "create it"])?;
        let empty = host.first(&Source { database: "empty", ..good.clone() }).await?;
        starts(&empty, "fail ")?;
        has(&empty, &["sees no table REG_RESOURCE, UM_USER in \"empty\"", "run what `convoy schema` names"])?;
        // The server that stands still had all of it.
        let stopped = host.first(&good).await?;
        drop(server);
        starts(&stopped, "pass ")?;
        let away = host.first(&good).await?;
        starts(&away, "skipped ")?;
    }
    Ok(())
}

#[tokio::test]
async fn tls_is_as_the_driver_has_it_and_who_vouches_is_asked() -> Result<()> {
    for vendor in BOTH {
        let Some(server) = server(vendor).await? else { continue };
        let host = Host::new()?;
        let pem = host.directory.path().join("db.pem");
        fs::write(&pem, &server.certificate)?;
        let of = |parameters: &str| Source {
            parameters: parameters.to_owned(),
            ..Source::good(vendor, server.port)
        };
        let cases: Vec<(String, &str)> = match vendor {
            Vendor::MySql => vec![
                ("?sslMode=DISABLED".to_owned(), "pass "),
                ("?sslMode=REQUIRED".to_owned(), "pass "),
                // No truststore is there.
                ("?sslMode=VERIFY_CA".to_owned(), "skipped "),
            ],
            Vendor::PostgreSql => vec![
                ("?sslmode=disable".to_owned(), "pass "),
                ("?sslmode=require".to_owned(), "pass "),
                (format!("?sslmode=verify-full&sslrootcert={}", pem.display()), "pass "),
                ("?sslmode=verify-full&sslrootcert=/nonexistent".to_owned(), "skipped "),
            ],
        };
        for (parameters, expected) in cases {
            let line = host.first(&of(&parameters)).await?;
            starts(&line, expected).with_context(|| parameters)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_takes_the_connection_and_says_nothing_costs_seconds_and_fails() -> Result<()> {
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = silent.local_addr()?.port();
    let host = Host::new()?;
    let started = tokio::time::Instant::now();
    for vendor in BOTH {
        let line = host.first(&Source::good(vendor, port)).await?;
        starts(&line, "fail ")?;
        has(&line, &["does not answer a login of wso2 within 5 s"])?;
    }
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(60), "two looks took {took:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_database_and_what_only_the_server_knows_is_said_so() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let serving = async {
        use tokio::io::AsyncWriteExt as _;
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            // What is too short for any message of either protocol, and what claims to be very long.
            drop(stream.write_all(b"\x01\x00\x00\x00\x0a").await);
            drop(stream.shutdown().await);
        }
    };
    let looking = async {
        let host = Host::new()?;
        for vendor in BOTH {
            let line = host.first(&Source::good(vendor, port)).await?;
            starts(&line, "warn ")?;
            has(&line, &["cannot be told"])?;
        }
        let vault = Source { password: "$secret{shared_password}", ..Source::good(Vendor::MySql, port) };
        starts(
            &host.first(&vault).await?,
            "skipped database database.shared_db: not checked, its password: it holds",
        )
    };
    tokio::select! {
        () = serving => Ok(()),
        said = looking => said,
    }
}

#[tokio::test]
async fn a_bundle_with_a_login_that_is_refused_restarts_nothing_and_the_doctor_tries_when_asked() -> Result<()>
{
    let Some(server) = server(Vendor::MySql).await? else { return Ok(()) };
    let directory = tempfile::Builder::new().prefix("convoy-agent-").tempdir()?;
    let programs = Programs::locate()?;
    let mut rig =
        Rig::open_in(directory, &programs, "wso2is-7.2", |_, agent| agent.check_endpoints()).await?;
    let mut wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    let before = rig.alive();

    let source = |password| Source { password, ..Source::good(Vendor::MySql, server.port) };
    let text = |password| source(password).text().replace("shared_db", "own_db");
    let shipped = wanted.files[CONFIG].0.clone();
    wanted.service.check_databases = true;
    wanted.files.get_mut(CONFIG).context("it is there")?.0 =
        format!("{shipped}\n{}", text("S3CRET-but-wrong"));
    let refused = rig.assign(&wanted, RunState::Running).await?;
    let observed = rig
        .until("the bundle to be refused", |observed| {
            let attempt = observed.attempted.as_ref().filter(|attempt| attempt.target.generation == refused);
            attempt.is_some_and(|attempt| attempt.failure.is_some())
        })
        .await?;
    let refusal = observed.attempted.and_then(|attempt| attempt.failure).context("a refusal")?;
    ensure!(refusal.reason == RefusalReason::PreflightFailed, "{refusal:?}");
    ensure!(rig.alive() == before, "the server runs on");

    wanted.service.check_databases = false;
    wanted.files.get_mut(CONFIG).context("it is there")?.0 = format!("{shipped}\n{}", text(PASSWORD));
    let good = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(good).await?;
    let (_, said) = rig.agent.doctor().await?;
    ensure!(!said.contains("database database.own_db"), "nobody asked for it:\n{said}");
    let (_, said) = rig.agent.doctor_with(&["--databases"]).await?;
    let line = said.lines().find(|line| line.contains("database database.own_db")).unwrap_or_default();
    starts(line, "pass ").with_context(|| said.clone())?;
    ensure!(!said.contains("S3CRET"), "{said}");
    Ok(())
}
