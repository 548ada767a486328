//! A real PostgreSQL or MariaDB of the system's packages, as a child of its test: on loopback, in a directory of its own,
//! as an ordinary user (both refuse root), ended with its value.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use fleet::preflight::databases::Vendor;

use super::{LIMIT, until};

/// A database server that runs.
#[derive(Debug)]
pub struct DatabaseServer {
    child: Child,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Its certificate, which vouches for itself, as PEM; for `localhost` and 127.0.0.1.
    pub certificate: String,
    _directory: tempfile::TempDir,
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How a server is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Which.
    pub vendor: Vendor,
    /// Run once before it takes connections, one statement a line.
    pub statements: &'a str,
    /// Its `max_connections`.
    pub connections_max: u32,
}

impl DatabaseServer {
    /// Makes and starts one; `None` where it is not installed.
    ///
    /// # Errors
    /// It is installed and does not come up: what it said.
    pub async fn start(setup: &Setup<'_>) -> Result<Option<Self>> {
        let name = match setup.vendor {
            Vendor::MySql => "mariadbd",
            Vendor::PostgreSql => "postgres",
        };
        let Some(program) = find(name) else { return Ok(None) };
        let directory = tempfile::Builder::new().prefix("convoy-database-").tempdir()?;
        let certificate = certify(directory.path())?;
        own(directory.path())?;
        for _ in 0..3 {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            let mut child = match setup.vendor {
                Vendor::MySql => mariadb(&program, directory.path(), port, setup)?,
                Vendor::PostgreSql => postgres(&program, directory.path(), port, setup)?,
            };
            let log = directory.path().join("log");
            let ready = until("a database server to be ready", LIMIT, async || {
                let said = fs::read_to_string(&log).unwrap_or_default();
                // mariadbd says so once more while it runs the file of statements.
                let is_ready = ["ready to accept connections", "ready for connections"]
                    .iter()
                    .any(|words| said.contains(words));
                if is_ready {
                    return Ok(Some(Ok(())));
                }
                Ok(child.try_wait()?.map(|_| Err(said)))
            })
            .await?;
            match ready {
                Ok(()) => return Ok(Some(Self { child, port, certificate, _directory: directory })),
                // Somebody else has taken the port.
                Err(said) if said.contains("Address already in use") || said.contains("in use") => {}
                Err(said) => bail!("{name} did not come up:\n{said}"),
            }
        }
        bail!("no port stayed free for {name}")
    }
}

/// On the path, or where Debian keeps PostgreSQL's programs.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.push("/usr/sbin".into());
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    places.into_iter().map(|place| place.join(name)).find(|program| program.is_file())
}

/// `nobody` and `nogroup` of Debian.
const NOBODY: u32 = 65_534;

/// A command of an ordinary user: the caller, or `nobody` for root.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin").env("LC_ALL", "C.UTF-8");
    command.current_dir("/");
    if is_root() {
        use std::os::unix::process::CommandExt as _;
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Gives a directory with its files to whom [`command`] runs as.
fn own(directory: &Path) -> Result<()> {
    if is_root() {
        for entry in fs::read_dir(directory)?.flatten() {
            std::os::unix::fs::chown(entry.path(), Some(NOBODY), Some(NOBODY))?;
        }
        std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

/// A key and a certificate that vouches for itself.
fn certify(directory: &Path) -> Result<String> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    fs::write(directory.join("server.crt"), made.cert.pem())?;
    let key = directory.join("server.key");
    fs::write(&key, made.signing_key.serialize_pem())?;
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    }
    Ok(made.cert.pem())
}

fn run(mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&said));
    Ok(())
}

fn postgres(program: &Path, directory: &Path, port: u16, setup: &Setup<'_>) -> Result<Child> {
    let data = directory.join("data");
    if !data.exists() {
        let mut initdb = command(&program.with_file_name("initdb"));
        initdb.args([
            "--no-sync",
            "--auth=scram-sha-256",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
        ]);
        initdb.arg("--pwfile").arg(directory.join("server.crt")).arg("-D").arg(&data);
        run(initdb)?;
        let mut single = command(program);
        single.arg("--single").arg("-D").arg(&data).arg("template1").stdin(Stdio::piped());
        let mut single = single.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        single.stdin.take().context("its input")?.write_all(setup.statements.as_bytes())?;
        let output = single.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && !said.contains("ERROR"), "the statements failed:\n{said}");
    }
    let mut server = command(program);
    server.arg("-D").arg(&data).arg("-k").arg(directory).arg("-p").arg(port.to_string());
    let file = |name: &str| directory.join(name).display().to_string();
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("max_connections={}", setup.connections_max),
        "fsync=off".to_owned(),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", file("server.crt")),
        format!("ssl_key_file={}", file("server.key")),
    ] {
        server.arg("-c").arg(setting);
    }
    spawn(server, directory)
}

fn mariadb(program: &Path, directory: &Path, port: u16, setup: &Setup<'_>) -> Result<Child> {
    let (data, statements) = (directory.join("data"), directory.join("statements.sql"));
    if !data.exists() {
        let install = find("mariadb-install-db").context("mariadb-install-db is not installed")?;
        let mut install = command(&install);
        install.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        run({
            install.arg(format!("--datadir={}", data.display()));
            install
        })?;
        fs::write(&statements, setup.statements)?;
    }
    let mut server = command(program);
    server.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--log-warnings=1"]);
    let file = |name: &str| directory.join(name).display().to_string();
    for option in [
        format!("--datadir={}", data.display()),
        format!("--port={port}"),
        format!("--socket={}", file("socket")),
        format!("--pid-file={}", file("pid")),
        format!("--init-file={}", statements.display()),
        format!("--max-connections={}", setup.connections_max),
        format!("--ssl-cert={}", file("server.crt")),
        format!("--ssl-key={}", file("server.key")),
        "--innodb-flush-log-at-trx-commit=0".to_owned(),
    ] {
        server.arg(option);
    }
    spawn(server, directory)
}

fn spawn(mut server: Command, directory: &Path) -> Result<Child> {
    let log = fs::File::create(directory.join("log"))?;
    server.stdout(log.try_clone()?).stderr(log);
    server.spawn().with_context(|| format!("cannot run {server:?}"))
}
