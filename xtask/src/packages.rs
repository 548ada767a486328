//! Programs of others that some tests run against, from the system's package manager.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// A program and Debian's package of it.
#[derive(Debug, Clone, Copy)]
pub struct Needed {
    /// Its name on the path.
    pub program: &'static str,
    /// What tells that it is there.
    pub version: &'static str,
    /// The package.
    pub package: &'static str,
}

const HAPROXY: Needed = Needed { program: "haproxy", version: "-v", package: "haproxy" };
// Started by tests and by the demo of the guide, on loopback.
const MARIADB: Needed = Needed { program: "mariadbd", version: "--version", package: "mariadb-server" };

/// What the demo of the guide runs beside Convoy.
pub const OF_GUIDE: [Needed; 2] = [HAPROXY, MARIADB];

/// What the tests run beside Convoy; those that need one of them say `NOT EXERCISED` where it is missing.
pub const OF_TESTS: [Needed; 6] = [
    HAPROXY,
    // Only its check of a configuration is run.
    Needed { program: "nginx", version: "-v", package: "nginx-light" },
    // Only its checker `promtool` is run.
    Needed { program: "promtool", version: "--version", package: "prometheus" },
    Needed { program: "prometheus-alertmanager", version: "--version", package: "prometheus-alertmanager" },
    MARIADB,
    Needed { program: "postgres", version: "--version", package: "postgresql" },
];

impl Needed {
    fn is_installed(self) -> bool {
        let runs = |program: &Path| {
            let mut tried = Command::new(program);
            tried.arg(self.version).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            tried.status().is_ok_and(|status| status.success())
        };
        // Debian keeps PostgreSQL's programs off the path.
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut places = versions.map(|version| version.path().join("bin").join(self.program));
        runs(Path::new(self.program)) || places.any(|place| runs(&place))
    }
}

/// Installs what is missing of the tests' programs, as far as that can be done here; says what is left out otherwise.
pub fn for_tests() {
    for needed in OF_TESTS {
        if let Err(why) = install(needed) {
            println!("\n=== {}: its tests are left out: {why:#}", needed.program);
        }
    }
}

/// Installs a program unless it is there.
///
/// # Errors
/// It is missing and cannot be installed: there is no such package manager, or the user is not root.
pub fn install(needed: Needed) -> Result<()> {
    if needed.is_installed() {
        return Ok(());
    }
    let Needed { program, package, .. } = needed;
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("the program `{program}` is needed; install it with your package manager");
    }
    if !is_root() {
        bail!("the program `{program}` is needed; run `apt-get install {package}` as root");
    }
    for words in [["update", "-qq"].as_slice(), &["install", "-y", "-qq", "--no-install-recommends", package]]
    {
        println!("=== apt-get {}", words.join(" "));
        let mut command = Command::new("apt-get");
        // A test's program is run by its test, on loopback; as a service it would listen to everybody.
        command.env("DEBIAN_FRONTEND", "noninteractive").env("SYSTEMD_OFFLINE", "1");
        command.args(words).stdin(Stdio::null());
        let status = command.status().context("cannot run apt-get")?;
        if !status.success() {
            bail!("apt-get {} failed ({status}); install `{package}` by hand", words.join(" "));
        }
    }
    Ok(())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
