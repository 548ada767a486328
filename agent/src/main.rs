//! `convoy-agent`: arguments, signals and exit codes; everything else is in the library.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use agent::{
    admission,
    arguments::{Arguments, Command, Enroll},
    chain,
    config::Config,
    doctor::{self, Logins},
    editors::Sight,
    identity::Store,
    link, telemetry, wall_clock,
};
use clap::{CommandFactory as _, Parser as _};
use fleet::{admission::Fingerprint, ids::NodeName, token::JoinToken};

/// The configuration cannot be used; systemd must not start it again (`RestartPreventExitStatus=64`).
const EXIT_CONFIG: u8 = 64;
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(windows)]
    if let Some(Command::InterruptConsole { pid }) = arguments.command {
        return interrupt(pid);
    }
    // Before anything else that may be wrong: whoever has to type it again would show it again.
    if let Some(Command::Enroll(typed)) = &arguments.command
        && let Err(why) = refuse_shown(typed.token.as_deref())
    {
        return fail(1, why);
    }
    match &arguments.command {
        Some(Command::Man { out }) => return written(manual(out)),
        Some(Command::Completions { shell }) => return written(completions(*shell)),
        #[cfg(target_os = "linux")]
        Some(Command::Setup(typed)) if !arguments.check_config => return set_up(typed, &arguments.config),
        _ => {}
    }
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_CONFIG, &chain(&error)),
    };
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    #[cfg(windows)]
    if let Some(Command::Service(what)) = arguments.command {
        return service(&what, config, &arguments.config);
    }
    telemetry::start(&config.log);
    if let Err(error) = agent::platform::forbid_cores() {
        return fail(1, &format!("cannot forbid core files: {error}"));
    }
    let command = arguments.command.unwrap_or(Command::Run);
    // Before there are threads; and whatever the command does, it does without the right that this takes.
    let sight = Sight::open(config.name_editors && matches!(command, Command::Run));
    let runtime = match agent::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start: {error}")),
    };
    let result = match command {
        Command::Run => runtime
            .block_on(async { agent::run(config, sight, stopped()).await.map_err(|error| chain(&error)) }),
        Command::Enroll(typed) => runtime.block_on(enroll(&config, &typed)),
        #[cfg(target_os = "linux")]
        Command::Doctor { after_upgrade: true, databases } => {
            runtime.block_on(examine_upgraded(&config, logins(databases)))
        }
        Command::Doctor { databases, .. } => runtime.block_on(examine(&config, logins(databases))),
        #[cfg(unix)]
        Command::StopServer { for_shutdown: _ } => runtime.block_on(stop_server(&config)),
        // Done above, before a configuration was needed.
        Command::Man { .. } | Command::Completions { .. } => Ok(()),
        #[cfg(target_os = "linux")]
        Command::Setup(_) => Ok(()),
        #[cfg(windows)]
        Command::Service(_) | Command::InterruptConsole { .. } => Ok(()),
    };
    // Threads that wait for the server's end would keep the process.
    runtime.shutdown_timeout(agent::SHUTDOWN_TIME);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

#[cfg(windows)]
fn interrupt(pid: u32) -> ExitCode {
    let sent = agent::runtime().and_then(|it| it.block_on(agent::process::interrupt_console(pid)));
    match sent {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("no Ctrl-C for process {pid}: {error}")),
    }
}

#[cfg(windows)]
fn service(what: &agent::arguments::Service, config: Config, path: &std::path::Path) -> ExitCode {
    use agent::{arguments::Service, service};
    let done = match what {
        Service::Install => service::install(path),
        Service::Uninstall => service::uninstall(),
        Service::Run => {
            if let Err(error) = telemetry::start_in_file(&config.log, &config.data_dir) {
                return fail(1, &format!("cannot write a log in {}: {error}", config.data_dir.display()));
            }
            service::run(config)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &chain(&error)),
    }
}

fn written(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("cannot write: {error}")),
    }
}

fn manual(out: &std::path::Path) -> io::Result<()> {
    std::fs::create_dir_all(out)?;
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command()).section("8").render(&mut page)?;
    std::fs::write(out.join("convoy-agent.8"), page)
}

fn completions(shell: clap_complete::Shell) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "convoy-agent", &mut script);
    io::stdout().write_all(&script)
}

fn fail(code: u8, text: &str) -> ExitCode {
    // Nothing is left to be done if standard error is closed.
    drop(writeln!(io::stderr(), "convoy-agent: {text}"));
    ExitCode::from(code)
}

/// A token on the command line is refused.
fn refuse_shown(token: Option<&str>) -> Result<(), &'static str> {
    match token {
        None | Some("-") => Ok(()),
        Some(_) => Err(
            "every user of this host can read a command line, and a shell remembers it: give the token on \
                        standard input (`--token -`) or in a file (`--token-file FILE`). Whoever has read this one can use \
                        it, so make another with `convoy token create`",
        ),
    }
}

/// Set-up makes the configuration that everything else begins with.
#[cfg(target_os = "linux")]
fn set_up(typed: &agent::arguments::Setup, config: &std::path::Path) -> ExitCode {
    use agent::setup::{Asked, Form, Mode, run};
    let token = match typed.token_file.clone().map(|file| read_token(Some(file))).transpose() {
        Ok(token) => token,
        Err(why) => return fail(1, &why),
    };
    let asked = Asked {
        config: config.to_owned(),
        data_dir: typed.data_dir.clone(),
        homes: typed.home.clone(),
        java_home: typed.java_home.clone(),
        token,
        coordinator: typed.coordinator.clone(),
        root: typed.root.clone(),
    };
    let mode = if typed.dry_run { Mode::DryRun } else { Mode::Do };
    let form = if typed.json { Form::Json } else { Form::Lines };
    let runtime = match agent::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start: {error}")),
    };
    match runtime.block_on(run(&asked, mode, form, &mut io::stdout())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => fail(1, "this host is not set up; mend what failed above, and type the same again"),
        Err(error) => fail(1, &chain(&error)),
    }
}

/// From standard input if there is no file, or it is `-`.
fn read_token(file: Option<PathBuf>) -> Result<JoinToken, String> {
    let text = match file.filter(|file| file.as_os_str() != "-") {
        Some(file) => std::fs::read_to_string(file),
        None => io::read_to_string(io::stdin()),
    };
    let text = text.map_err(|error| format!("cannot read the token: {error}"))?;
    JoinToken::parse(&text).map_err(|error| error.to_string())
}

async fn enroll(config: &Config, typed: &Enroll) -> Result<(), String> {
    agent::private::create_dir(&config.data_dir)
        .map_err(|error| format!("cannot use {}: {error}", config.data_dir.display()))?;
    let store = Store::of(&config.data_dir, wall_clock);
    match (&typed.request, &typed.answer) {
        (Some(file), _) => ask(&store, typed.node.as_deref(), file),
        (None, Some(file)) => install(&store, typed, file),
        (None, None) if typed.pki => show_host(config, typed, &store).await,
        (None, None) => {
            let token = read_token(typed.token_file.clone())?;
            exchange(config, &token, typed.coordinator.as_deref()).await
        }
    }
}

/// Joins with the host's certificate of another authority.
async fn show_host(config: &Config, typed: &Enroll, store: &Store) -> Result<(), String> {
    // clap lets nobody get here without them.
    let (Some(cert), Some(key), Some(pin), Some(address)) =
        (&typed.cert, &typed.key, &typed.ca_pin, &typed.coordinator)
    else {
        return Err("--pki takes --cert, --key, --ca-pin and --coordinator".to_owned());
    };
    let pin = Fingerprint::parse(pin).map_err(|error| format!("--ca-pin: {error}"))?;
    let wanted = typed.node.as_deref().map(NodeName::parse).transpose();
    let wanted = wanted.map_err(|error| format!("--node: {error}"))?;
    let host = link::HostKey::read(cert, key).map_err(|error| chain(&error))?;
    let way = (address.as_str(), link::network(config.proxy.as_deref()));
    let node = link::enroll_host(&host, wanted.as_ref(), pin, way, store).await;
    let node = node.map_err(|error| chain(&error))?;
    drop(writeln!(io::stdout(), "enrolled as {node} at {address}"));
    Ok(())
}

/// Leaves a request where an operator takes it from.
fn ask(store: &Store, node: Option<&str>, file: &std::path::Path) -> Result<(), String> {
    let node = node.map(NodeName::parse).transpose().map_err(|error| format!("--node: {error}"))?;
    let request = admission::request(store, node.as_ref()).map_err(|error| chain(&error))?;
    let is_shown = file.as_os_str() == "-";
    if is_shown {
        let written = io::stdout().write_all(request.csr_pem.as_bytes());
        written.map_err(|error| format!("cannot write the request: {error}"))?;
    } else {
        admission::write_request(file, &request).map_err(|error| chain(&error))?;
    }
    let named = if node.is_some() { "" } else { " --node NAME" };
    let (place, file) = if is_shown {
        ("above".to_owned(), "FILE".to_owned())
    } else {
        (format!("in {}", file.display()), file.display().to_string())
    };
    let told = format!(
        "The request is {place}; it holds no secret. Its key is\n  {}\n\
         Where an operator works: convoy node admit {file}{named} --out ANSWER\n\
         There the same key is shown. Then here: convoy-agent enroll --answer ANSWER\n",
        request.key
    );
    let told = if is_shown { write!(io::stderr(), "{told}") } else { write!(io::stdout(), "{told}") };
    told.map_err(|error| format!("cannot say what was written: {error}"))
}

/// Takes the answer to this host's request.
fn install(store: &Store, typed: &Enroll, file: &std::path::Path) -> Result<(), String> {
    let pin = typed.ca_pin.as_deref().map(Fingerprint::parse).transpose();
    let pin = pin.map_err(|error| format!("--ca-pin: {error}"))?;
    let done = admission::read_answer(file).and_then(|answer| {
        let installed = admission::install(store, &answer, pin, typed.coordinator.as_deref())?;
        Ok((answer, installed))
    });
    let (answer, installed) = done.map_err(|error| admission::in_file(file, &error))?;
    let before = if installed.before { " already" } else { "" };
    let address = typed.coordinator.as_deref().unwrap_or(&answer.address);
    let told = format!(
        "enrolled{before} as {} at {address}\nThis host trusts the authority\n  {}\nCompare it with what `convoy node admit` printed.\n",
        answer.node, installed.authority
    );
    write!(io::stdout(), "{told}").map_err(|error| format!("cannot say what was done: {error}"))
}

async fn exchange(config: &Config, token: &JoinToken, coordinator: Option<&str>) -> Result<(), String> {
    let address = coordinator.unwrap_or(&token.address).to_owned();
    let way = (address.as_str(), link::network(config.proxy.as_deref()));
    link::enroll(token, way, &Store::of(&config.data_dir, wall_clock))
        .await
        .map_err(|error| chain(&error))?;
    drop(writeln!(io::stdout(), "enrolled as {} at {address}", token.node));
    Ok(())
}

/// For `convoy-server.service`, which is stopped before the agent is when the host shuts down.
#[cfg(unix)]
async fn stop_server(config: &Config) -> Result<(), String> {
    let asked = tokio::process::Command::new("systemctl").arg("is-system-running").output().await;
    let state = asked.map_err(|error| format!("cannot ask systemd whether the host shuts down: {error}"))?;
    if state.stdout.trim_ascii() != b"stopping" {
        drop(writeln!(
            io::stdout(),
            "the host does not shut down, so the server goes on; `convoy node stop NODE` stops it"
        ));
        return Ok(());
    }
    agent::door::stop_for_shutdown(config).await.map_err(|error| chain(&error))
}

const fn logins(typed: bool) -> Logins {
    if typed { Logins::Always } else { Logins::AsDeclared }
}

async fn examine(config: &Config, logins: Logins) -> Result<(), String> {
    fit(doctor::run(config, logins, &mut io::stdout()).await)
}

/// What an upgrade may have left first: the rest looks at the same agent and server.
#[cfg(target_os = "linux")]
async fn examine_upgraded(config: &Config, logins: Logins) -> Result<(), String> {
    let mut checks = agent::upgraded::look(config).await;
    checks.extend(doctor::look(config, logins).await);
    fit(doctor::print(&checks, &mut io::stdout()))
}

fn fit(examined: io::Result<bool>) -> Result<(), String> {
    match examined {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err("this host is not fit for its server; what fails is above, each with its remedy".to_owned())
        }
        Err(error) => Err(format!("cannot write what was found: {error}")),
    }
}

/// Resolves at the first request to end.
async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = match signal(SignalKind::terminate()) {
            Ok(term) => term,
            Err(_) => return std::future::pending().await,
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_on_the_command_line_is_refused_and_not_repeated() {
        let refused = refuse_shown(Some("a-secret")).unwrap_err();
        assert!(refused.contains("command line") && !refused.contains("a-secret"), "{refused}");
    }
}
