//! `convoy-coordinator`: reads its configuration, then runs until it is told to stop.

use std::{io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser as _};
use coordinator::{
    arguments::{Arguments, Command, Loss, Setup},
    config::{Config, ConfigError},
    recovery::{Recovery, recover},
    run, telemetry, wall_clock,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Gives back what it does not use at once; `.cargo/config.toml` builds it so. See docs/decisions/0102.
#[cfg(all(feature = "jemalloc", target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The configuration is not usable (EX_USAGE); the unit file keeps systemd from trying again.
const EXIT_CONFIG: u8 = 64;

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
