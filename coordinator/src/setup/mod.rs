//! `convoy-coordinator setup`: from an installed package to a coordinator that answers (ADR 62). Looks, decides in
//! [`plan`], does. What is right already is kept, so a second run repairs or does nothing.

mod plan;

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use fleet::{foreign::printable_lines, ids::FleetName};
use serde::Serialize;
use tokio::{net::TcpStream, time::Instant};

use self::plan::{ConfigStep, Found, FoundConfig, FoundUnit, Plan, UnitStep, Wanted};
use crate::config::Config;

const UNIT: &str = "convoy-coordinator.service";
/// For a coordinator that was just started to answer.
const ANSWER_TIME: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// What was typed.
#[derive(Debug)]
pub struct Asked {
    /// Where the configuration is, or comes to be.
    pub config: PathBuf,
    /// Needed while there is no configuration.
    pub fleet: Option<FleetName>,
    /// DNS names and addresses; this host's own name if there is none.
    pub names: Vec<String>,
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// For a configuration that is written.
    pub data_dir: PathBuf,
    /// Where this host's files begin; another one only for tests.
    pub root: PathBuf,
}

/// Whether things are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Do it.
    Do,
    /// Say what would be done.
    DryRun,
}

/// For whom it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line for each thing, as soon as it is done.
    Lines,
    /// One JSON object at the end.
    Json,
}

/// Why it did not come to a coordinator that answers.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Nothing was done.
    #[error("{0}")]
    Refused(String),
    /// A step failed; what came before it is done, and a second run goes on there.
    #[error("{0}")]
    Failed(String),
    /// Nobody can be told.
    #[error("cannot write what was done")]
    Output(#[from] io::Error),
}

#[derive(Debug, Serialize)]
struct Line {
    /// `done`, `ok` (it was so already), `would`, `skipped`, `note`.
    state: &'static str,
    step: &'static str,
    detail: String,
}

#[derive(Debug, Serialize)]
struct Outcome<'a> {
    changes: bool,
    steps: &'a [Line],
    /// Commands to type next.
    next: &'a [String],
}

struct Teller<'a> {
    out: &'a mut dyn Write,
    form: Form,
    lines: Vec<Line>,
}

impl Teller<'_> {
    fn tell(&mut self, state: &'static str, step: &'static str, detail: impl Into<String>) -> io::Result<()> {
        // It may hold words of other programs.
        let detail = printable_lines(&detail.into()).into_owned();
        let line = Line { state, step, detail };
        if self.form == Form::Lines {
            writeln!(self.out, "{:<9}{:<11}{}", line.state, line.step, line.detail)?;
        }
        self.lines.push(line);
        Ok(())
    }

    fn end(self, next: &[String]) -> io::Result<()> {
        let changes = self.lines.iter().any(|line| matches!(line.state, "done" | "would"));
        match self.form {
            Form::Json => {
                let outcome = Outcome { changes, steps: &self.lines, next };
                serde_json::to_writer(&mut *self.out, &outcome)?;
                return writeln!(self.out);
            }
            Form::Lines if !changes => writeln!(self.out, "nothing to do")?,
            Form::Lines => {}
        }
        if !next.is_empty() {
            writeln!(
                self.out,
                "\nNext, as yourself and for each host with a server:\n  {}",
                next.join("\n  ")
            )?;
        }
        Ok(())
    }
}

/// Sets this host up, or says what would be done.
///
/// # Errors
/// Says what is in the way and what to do about it.
pub async fn run(asked: &Asked, mode: Mode, form: Form, out: &mut dyn Write) -> Result<(), SetupError> {
    let wanted = Wanted {
        fleet: asked.fleet.clone(),
        names: asked.names.clone(),
        listen: asked.listen,
        data_dir: asked.data_dir.clone(),
    };
    let plan =
        plan::plan(&wanted, &look(asked)).map_err(|refusal| SetupError::Refused(refusal.to_string()))?;
    let mut teller = Teller { out, form, lines: Vec::new() };
    for note in &plan.notes {
        teller.tell("note", "", note.clone())?;
    }
    if mode == Mode::DryRun {
        propose(&plan, asked, &mut teller)?;
        return Ok(teller.end(&[])?);
    }
    configure(&plan, asked, &mut teller)?;
    start(plan.unit, &mut teller)?;
    let is_up = wait(&plan, asked, &mut teller).await?;
    let next = if is_up { next(&plan.data_dir) } else { Vec::new() };
    Ok(teller.end(&next)?)
}

fn look(asked: &Asked) -> Found {
    Found {
        config: config(&asked.config),
        unit: unit(&asked.root),
        host_name: fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned()),
        is_root: rustix::process::geteuid().is_root(),
    }
}

fn config(path: &Path) -> FoundConfig {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return FoundConfig::Absent,
        Err(error) => return FoundConfig::Broken { why: format!("cannot read {}: {error}", path.display()) },
    };
    match Config::parse(&text) {
        Ok(config) => FoundConfig::Usable {
            fleet: config.fleet.clone(),
            names: config.server_names(),
            listen: config.listen,
            data_dir: config.data_dir,
        },
        Err(_) if lacks_the_fleet_only(&text) => FoundConfig::Unfinished { text },
        Err(refusal) => FoundConfig::Broken { why: format!("{}: {refusal}", path.display()) },
    }
}

/// A configuration without `fleet`, as packages ship it, is completed; any other that cannot be used is its author's.
fn lacks_the_fleet_only(text: &str) -> bool {
    let lacks = text.parse::<toml::Table>().is_ok_and(|table| !table.contains_key("fleet"));
    lacks && Config::parse(&format!("fleet = \"x\"\n{text}")).is_ok()
}

fn unit(root: &Path) -> FoundUnit {
    if !root.join("run/systemd/system").is_dir() {
        return FoundUnit::NoSystemd;
    }
    let properties = "LoadState,UnitFileState,ActiveState";
    let shown = Command::new("systemctl").args(["show", "--property", properties, UNIT]).output();
    let Ok(shown) = shown else { return FoundUnit::NoSystemd };
    let text = String::from_utf8_lossy(&shown.stdout);
    let is = |line: &str| text.lines().any(|shown| shown == line);
    if !is("LoadState=loaded") {
        return FoundUnit::NotInstalled;
    }
    FoundUnit::Installed { enabled: is("UnitFileState=enabled"), active: is("ActiveState=active") }
}

fn propose(plan: &Plan, asked: &Asked, teller: &mut Teller<'_>) -> io::Result<()> {
    let config = asked.config.display();
    match &plan.config {
        ConfigStep::Write(text) => teller.tell("would", "config", format!("write {config}:\n{text}"))?,
        ConfigStep::Complete(text) => {
            teller.tell("would", "config", format!("complete {config}:\n{text}"))?;
        }
        ConfigStep::Keep => teller.tell("ok", "config", config.to_string())?,
    }
    match plan.unit {
        UnitStep::Start => teller.tell("would", "unit", format!("enable and start {UNIT}")),
        UnitStep::Keep => teller.tell("ok", "unit", "enabled, and the coordinator runs"),
        UnitStep::NoSystemd => teller.tell("skipped", "unit", "there is no systemd here"),
    }
}

fn configure(plan: &Plan, asked: &Asked, teller: &mut Teller<'_>) -> Result<(), SetupError> {
    let path = &asked.config;
    let shown = path.display();
    let state = match &plan.config {
        ConfigStep::Keep => "ok",
        ConfigStep::Write(text) | ConfigStep::Complete(text) => {
            // What was typed may not suit: `names` with a scheme, for example.
            Config::parse(text).map_err(|refusal| SetupError::Refused(refusal.to_string()))?;
            let failed = |error| SetupError::Failed(format!("cannot write {shown}: {error}"));
            replace(path, text).map_err(failed)?;
            "done"
        }
    };
    Ok(teller.tell(state, "config", shown.to_string())?)
}

/// A file that everybody may read, whole or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut staged = tempfile::Builder::new().prefix(".convoy-").tempfile_in(dir)?;
    staged.write_all(text.as_bytes())?;
    staged.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    staged.as_file().sync_all()?;
    staged.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn start(step: UnitStep, teller: &mut Teller<'_>) -> Result<(), SetupError> {
    match step {
        UnitStep::NoSystemd => return Ok(()),
        UnitStep::Keep => return Ok(teller.tell("ok", "unit", "enabled, and the coordinator runs")?),
        UnitStep::Start => {}
    }
    let hint = format!("journalctl --unit {UNIT} says more");
    let failed = |why: &str| {
        let why = printable_lines(why);
        SetupError::Failed(format!("systemctl enable --now {UNIT}: {why}; {hint}"))
    };
    let called = Command::new("systemctl").args(["enable", "--now", UNIT]).output();
    let called = called.map_err(|error| failed(&error.to_string()))?;
    if !called.status.success() {
        let said = String::from_utf8_lossy(&called.stderr);
        return Err(failed(said.lines().next().unwrap_or("it failed")));
    }
    Ok(teller.tell("done", "unit", "enabled and started")?)
}

/// Whether somebody answers where the coordinator of this data directory says that it listens. Without systemd nobody was
/// started, so one look is enough.
async fn wait(plan: &Plan, asked: &Asked, teller: &mut Teller<'_>) -> Result<bool, SetupError> {
    let until = Instant::now() + ANSWER_TIME;
    loop {
        let why = match answers(&plan.data_dir).await {
            Ok(address) => {
                let state = if plan.is_empty() || plan.unit == UnitStep::NoSystemd { "ok" } else { "done" };
                teller.tell(state, "answer", format!("it answers at {address}"))?;
                return Ok(true);
            }
            Err(why) => why,
        };
        if plan.unit == UnitStep::NoSystemd {
            let command = format!("convoy-coordinator --config {}", asked.config.display());
            teller.tell(
                "skipped",
                "unit",
                format!("no systemd here, and no coordinator runs; start it: {command}"),
            )?;
            return Ok(false);
        }
        if until <= Instant::now() {
            let seconds = ANSWER_TIME.as_secs();
            return Err(SetupError::Failed(format!(
                "it does not answer after {seconds} s: {why}; journalctl --unit {UNIT} says more"
            )));
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn answers(data_dir: &Path) -> Result<String, String> {
    let file = data_dir.join("address");
    let address = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let address = address.trim().to_owned();
    let context = context(data_dir);
    if !context.is_file() {
        return Err(format!("{} is not there yet", context.display()));
    }
    match tokio::time::timeout(ANSWER_TIME, TcpStream::connect(&address)).await {
        Ok(Ok(_)) => Ok(address),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address} does not answer")),
    }
}

/// The first operator's way in, which the coordinator makes at its first start.
fn context(data_dir: &Path) -> PathBuf {
    data_dir.join("operator/context.toml")
}

fn next(data_dir: &Path) -> Vec<String> {
    let context = context(data_dir);
    vec![
        format!(
            "mkdir -p ~/.config/convoy && (umask 077; sudo cat {} > ~/.config/convoy/context.toml)",
            context.display()
        ),
        "convoy token create --node NODE | ssh HOST sudo convoy-agent setup --token-file -".to_owned(),
    ]
}
