//! What people and units type after `convoy-agent`, exactly as they type it. The program is in `main.rs`; tests read the
//! documentation with these definitions.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[cfg(not(windows))]
const CONFIG_PATH: &str = "/etc/convoy/agent.toml";
#[cfg(windows)]
const CONFIG_PATH: &str = r"C:\ProgramData\Convoy\agent.toml";

/// Keeps one host's WSO2 server as its fleet declares it.
#[derive(Debug, Parser)]
#[command(name = "convoy-agent", version)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, default_value = CONFIG_PATH)]
    pub config: PathBuf,
    /// Read and check the configuration, and do nothing else.
    #[arg(long, global = true)]
    pub check_config: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until stopped; the default. The server goes on when the agent ends.
    Run,
    /// Join a fleet: make a key here and have it certified.
    Enroll(Enroll),
    /// Set this host up: find the WSO2 home, write the configuration, join, start the units, wait until it is connected.
    /// What is right already is kept; a second run repairs, or does nothing.
    #[cfg(target_os = "linux")]
    Setup(Setup),
    /// Look for what stands in the way.
    Doctor {
        /// Also look whether the agent that runs is this program, is connected (it has a minute), and has not restarted
        /// the server.
        #[cfg(target_os = "linux")]
        #[arg(long)]
        after_upgrade: bool,
        /// Also log in to the server's databases (MySQL, MariaDB, PostgreSQL), read only, with the user and password of
        /// its deployment.toml.
        #[arg(long)]
        databases: bool,
    },
    /// Stop the server, with its hooks, and wait until it has ended; the unit convoy-server.service calls this.
    #[cfg(unix)]
    StopServer {
        /// Only while systemd shuts the host down; at any other time nothing happens. `convoy node stop` stops a server
        /// for good.
        #[arg(long, required = true)]
        for_shutdown: bool,
    },
    /// Write the manual page into a directory.
    #[command(hide = true)]
    Man {
        /// It is made if it is not there.
        #[arg(long, default_value = "man")]
        out: PathBuf,
    },
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
    /// The agent as a service of Windows.
    #[cfg(windows)]
    #[command(subcommand)]
    Service(Service),
    /// Send Ctrl-C to everything in a process's console; the agent calls this to stop its server.
    #[cfg(windows)]
    #[command(name = crate::process::INTERRUPT_COMMAND, hide = true)]
    InterruptConsole {
        #[arg(long)]
        pid: u32,
    },
}

/// How to join: with a token, or by a request that an operator takes to the coordinator and an answer that they bring back.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("way").required(true))]
pub struct Enroll {
    /// `-` reads what `convoy token create --node NODE` printed from standard input. The token itself is refused
    /// here: every user of the host can read a command line.
    #[arg(long, group = "way")]
    pub token: Option<String>,
    /// A file that holds the token.
    #[arg(long, group = "way", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Write a request for `convoy node admit`; - is standard output. It holds no secret: the key stays here.
    #[arg(long, group = "way", value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// Take the answer that `convoy node admit` wrote; - is standard input.
    #[arg(long, group = "way", value_name = "FILE")]
    pub answer: Option<PathBuf>,
    /// Join with the certificate that this host has from another authority, if the coordinator's owner named that.
    #[arg(
        long,
        group = "way",
        requires = "cert",
        requires = "key",
        requires = "ca_pin",
        requires = "coordinator"
    )]
    pub pki: bool,
    /// With --pki: the host's certificate, PEM, those above it behind it.
    #[arg(long, requires = "pki", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// With --pki: the key of the host's certificate, PEM. It signs once, and goes nowhere.
    #[arg(long, requires = "pki", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// With --request and --pki: which node this host is to be. Without it `convoy node admit --node` says so, or the
    /// host's certificate does.
    #[arg(long, conflicts_with_all = ["token", "token_file", "answer"], value_name = "NAME")]
    pub node: Option<String>,
    /// With --answer and --pki: the coordinator's authority, sha256: and 64 hexadecimal digits.
    #[arg(long, conflicts_with_all = ["token", "token_file", "request"], value_name = "FINGERPRINT")]
    pub ca_pin: Option<String>,
    /// Where the coordinator is, if not where the token or the answer says: host:port.
    #[arg(long, conflicts_with = "request")]
    pub coordinator: Option<String>,
}

/// How to set a host up.
#[cfg(target_os = "linux")]
#[derive(Debug, clap::Args)]
pub struct Setup {
    /// The CARBON_HOME that this agent is for; may be repeated. Without it: that of the server that runs, or the only one
    /// in /opt/wso2/* and /opt/wso2*.
    #[arg(long, value_name = "DIR")]
    pub home: Vec<String>,
    /// The JDK. Without it: the running server's, JAVA_HOME, or one in /usr/lib/jvm, /opt and /opt/wso2.
    #[arg(long, value_name = "DIR")]
    pub java_home: Option<PathBuf>,
    /// A file with what `convoy token create --node NODE` printed; - is standard input. Not used by a host that has joined.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where the coordinator is, if not where the token says: host:port.
    #[arg(long)]
    pub coordinator: Option<String>,
    /// Where the agent keeps its state, in a configuration that is written; the unit needs the default.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/convoy-agent")]
    pub data_dir: PathBuf,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object instead of lines.
    #[arg(long)]
    pub json: bool,
    /// Where the files of the host begin.
    #[arg(long, hide = true, default_value = "/")]
    pub root: PathBuf,
}

/// What becomes of the service.
#[cfg(windows)]
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Register it, to start with the machine; needs an administrator. Start it with `sc start convoy-agent`.
    Install,
    /// Stop it and take the registration back. The server goes on.
    Uninstall,
    /// What the service control manager runs.
    Run,
}
