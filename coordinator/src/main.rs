//! `convoy-coordinator`: reads its configuration, then runs until it is told to stop.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use coordinator::{
    config::{Config, ConfigError},
    recovery::{Recovery, recover},
    run, telemetry, wall_clock,
};
use fleet::ids::{FleetEpoch, FleetName};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The configuration is not usable (EX_USAGE); the unit file keeps systemd from trying again.
const EXIT_CONFIG: u8 = 64;

/// Keeps the desired state of a fleet of WSO2 servers and tells it to their agents.
#[derive(Parser)]
#[command(name = "convoy-coordinator", version)]
struct Arguments {
    /// The configuration file; docs/coordinator.md explains every key.
    #[arg(long, value_name = "FILE", default_value = "/etc/convoy/coordinator.toml")]
    config: PathBuf,
    /// Check the configuration and exit: 0 if it is usable, 64 if not.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Set this host up: write the configuration, start the unit, wait until the coordinator answers. What is right already
    /// is kept; a second run repairs, or does nothing.
    Setup(Setup),
    /// Go on after a loss, with the coordinator stopped; docs/coordinator.md has the steps.
    Recover {
        #[command(subcommand)]
        loss: Loss,
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
}

#[derive(Args)]
struct Setup {
    /// The fleet that it keeps, as fleet.toml names it. It cannot be changed later.
    #[arg(long, value_name = "NAME", value_parser = fleet_name)]
    fleet: Option<FleetName>,
    /// A DNS name or address under which agents and operators reach it; may be repeated. Without it: this host's own name.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Where to listen, in a configuration that is written; 0.0.0.0:7843 if nothing is said.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Where it keeps its state, in a configuration that is written; the unit needs the default.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/convoy-coordinator")]
    data_dir: PathBuf,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
    /// Where the files of the host begin.
    #[arg(long, hide = true, default_value = "/")]
    root: PathBuf,
}

#[derive(Subcommand)]
enum Loss {
    /// The store is lost and there is no copy: make an empty one that the agents obey.
    NewStore {
        /// Epoch that the agents obey, 32 hexadecimal digits; without it the one in witness.toml.
        #[arg(long, value_parser = epoch)]
        epoch: Option<FleetEpoch>,
    },
    /// The authority's key is lost and there is no copy: make another one, and void every certificate and token.
    NewAuthority,
    /// The key of content and secrets is lost and there is no copy: go on without them.
    NewKey,
    /// The store was restored from an older copy: accept it, void unused tokens, keep revocations.
    RestoredStore,
}

fn fleet_name(text: &str) -> Result<FleetName, String> {
    FleetName::parse(text).map_err(|error| error.to_string())
}

fn epoch(text: &str) -> Result<FleetEpoch, &'static str> {
    FleetEpoch::from_hex(text).ok_or("an epoch has 32 hexadecimal digits")
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_CONFIG } else { 0 };
            // Nobody is left to tell if even this cannot be printed.
            return error.print().map_or(ExitCode::FAILURE, |()| ExitCode::from(code));
        }
    };
    match &arguments.command {
        Some(Command::Man { out }) => return written(manual(out)),
        Some(Command::Completions { shell }) => return written(completions(*shell)),
        Some(Command::Setup(typed)) => return set_up(typed, &arguments.config),
        Some(Command::Recover { .. }) | None => {}
    }
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            say(&describe(&error));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    telemetry::init(&config.log);
    // A core holds the keys and every secret of the fleet.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        say(&format!("cannot forbid core files: {error}"));
        return ExitCode::FAILURE;
    }
    let outcome = match arguments.command {
        Some(Command::Recover { loss }) => carry_on(&config, &loss),
        // The others are done above, before a configuration was needed.
        Some(Command::Setup(_) | Command::Man { .. } | Command::Completions { .. }) | None => start(config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("convoy-coordinator: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn written(outcome: std::io::Result<()>) -> ExitCode {
    if let Err(error) = &outcome {
        say(&format!("convoy-coordinator: cannot write: {error}"));
    }
    outcome.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn manual(out: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(out)?;
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command()).section("8").render(&mut page)?;
    std::fs::write(out.join("convoy-coordinator.8"), page)
}

fn completions(shell: clap_complete::Shell) -> std::io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "convoy-coordinator", &mut script);
    std::io::stdout().write_all(&script)
}

/// Set-up makes the configuration that everything else begins with.
#[tokio::main(flavor = "current_thread")]
async fn set_up(typed: &Setup, config: &std::path::Path) -> ExitCode {
    use coordinator::setup::{Asked, Form, Mode, run};
    let asked = Asked {
        config: config.to_owned(),
        fleet: typed.fleet.clone(),
        names: typed.name.clone(),
        listen: typed.listen,
        data_dir: typed.data_dir.clone(),
        root: typed.root.clone(),
    };
    let mode = if typed.dry_run { Mode::DryRun } else { Mode::Do };
    let form = if typed.json { Form::Json } else { Form::Lines };
    match run(&asked, mode, form, &mut std::io::stdout()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("convoy-coordinator: {}", coordinator::error_chain(&error)));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn carry_on(config: &Config, loss: &Loss) -> anyhow::Result<()> {
    let recovery = match loss {
        Loss::NewStore { epoch } => Recovery::NewStore { epoch: *epoch },
        Loss::NewAuthority => Recovery::NewAuthority,
        Loss::NewKey => Recovery::NewKey,
        Loss::RestoredStore => Recovery::RestoredStore,
    };
    say(&format!("convoy-coordinator: {}", recover(config, recovery, wall_clock()).await?));
    Ok(())
}

#[tokio::main]
async fn start(config: Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let on_signal = stop.clone();
    let signals = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        on_signal.cancel();
        // Only a second signal ends this; the first one waits for what is under way.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        outcome = run(config, stop) => Ok(outcome?),
        () = signals => anyhow::bail!("stopped at once by a second signal"),
    }
}

fn describe(error: &ConfigError) -> String {
    format!("convoy-coordinator: {:#}", anyhow::Error::msg(coordinator::error_chain(error)))
}

fn say(text: &str) {
    // Standard error may be closed; the exit status says it too.
    drop(writeln!(std::io::stderr(), "{text}"));
}
