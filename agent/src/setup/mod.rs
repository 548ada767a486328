//! `convoy-agent setup`: from an installed package to an agent that is connected (ADR 60). It looks ([`found`]), decides
//! ([`plan`], pure), and carries out ([`act`]). What is right already is kept, so a second run repairs or does nothing.

mod act;
mod found;
mod plan;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use fleet::{foreign::printable_lines, token::JoinToken};
use serde::Serialize;

use self::plan::{ConfigStep, DropInStep, EnrolmentStep, Plan, Refusal, UnitStep, Wanted};

/// What was typed.
#[derive(Debug)]
pub struct Asked {
    /// Where the configuration is, or comes to be.
    pub config: PathBuf,
    /// For a configuration that is written.
    pub data_dir: PathBuf,
    /// CARBON_HOMEs; found if there is none.
    pub homes: Vec<String>,
    /// JAVA_HOME; found if absent.
    pub java_home: Option<PathBuf>,
    /// To join with.
    pub token: Option<JoinToken>,
    /// Where the coordinator is, if not where the token says.
    pub coordinator: Option<String>,
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

/// What became of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is so now.
    Done,
    /// It was so before.
    #[serde(rename = "ok")]
    Kept,
    /// It would be done.
    Would,
    /// It is somebody else's to do, or there is nothing to do it with.
    Skipped,
    /// Worth knowing.
    Note,
    Failed,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Kept => "ok",
            Self::Would => "would",
            Self::Skipped => "skipped",
            Self::Note => "note",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Serialize)]
struct Line {
    state: State,
    step: &'static str,
    detail: String,
}

/// What is told at the end of `--json`.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    ok: bool,
    /// Something was done, or would be.
    changes: bool,
    home: &'a str,
    steps: &'a [Line],
}

/// Tells what happens.
struct Teller<'a> {
    out: &'a mut dyn Write,
    form: Form,
    lines: Vec<Line>,
}

impl Teller<'_> {
    fn tell(&mut self, state: State, step: &'static str, detail: impl Into<String>) -> io::Result<()> {
        // Paths come from command lines of other users' processes, reasons from the network.
        let detail = printable_lines(&detail.into()).into_owned();
        let line = Line { state, step, detail };
        if self.form == Form::Lines {
            writeln!(self.out, "{:<9}{:<11}{}", line.state.as_str(), line.step, line.detail)?;
        }
        self.lines.push(line);
        Ok(())
    }

    fn has_failed(&self) -> bool {
        self.lines.iter().any(|line| line.state == State::Failed)
    }

    fn end(self, home: &str) -> io::Result<bool> {
        let ok = !self.has_failed();
        let changes = self.lines.iter().any(|line| matches!(line.state, State::Done | State::Would));
        match self.form {
            Form::Json => {
                let outcome = Outcome { ok, changes, home, steps: &self.lines };
                serde_json::to_writer(&mut *self.out, &outcome)?;
                writeln!(self.out)?;
            }
            Form::Lines if ok && !changes => writeln!(self.out, "nothing to do")?,
            Form::Lines => {}
        }
        Ok(ok)
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// It cannot be carried out, and nothing was.
    #[error("{why}")]
    Refused {
        /// What is in the way, and what to do about it.
        why: String,
    },
    /// Nobody can be told.
    #[error("cannot write what was done")]
    Output(#[from] io::Error),
}

impl From<Refusal> for SetupError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { why: printable_lines(&refusal.to_string()).into_owned() }
    }
}

/// Sets this host up, or says what would be done. Answers whether all of it succeeded.
///
/// # Errors
/// Nothing was done.
pub async fn run(asked: &Asked, mode: Mode, form: Form, out: &mut dyn Write) -> Result<bool, SetupError> {
    let found = found::look(asked).await;
    let wanted = Wanted {
        homes: asked.homes.clone(),
        java_home: asked.java_home.clone(),
        data_dir: asked.data_dir.clone(),
        token: asked.token.as_ref().map(|token| token.node.clone()),
    };
    let plan = plan::plan(&wanted, &found)?;
    let mut teller = Teller { out, form, lines: Vec::new() };
    match mode {
        Mode::DryRun => propose(&plan, asked, plan.obstacle(found.user), &mut teller)?,
        Mode::Do => {
            if let Some(refusal) = plan.obstacle(found.user) {
                return Err(refusal.into());
            }
            describe_home(&plan, &mut teller)?;
            act::carry_out(&plan, asked, &mut teller).await?;
        }
    }
    Ok(teller.end(&plan.home.path)?)
}

fn describe_home(plan: &Plan, teller: &mut Teller<'_>) -> io::Result<()> {
    let home = &plan.home;
    let server = match &home.server {
        Some(server) => format!("its server runs, pid {}", server.pid),
        None => "no server runs".to_owned(),
    };
    teller.tell(State::Kept, "home", format!("{}, of {}; {server}", home.path, home.owner))?;
    for note in &plan.notes {
        teller.tell(State::Note, "", note.clone())?;
    }
    Ok(())
}

/// What would be done, with the text of files.
fn propose(plan: &Plan, asked: &Asked, obstacle: Option<Refusal>, teller: &mut Teller<'_>) -> io::Result<()> {
    describe_home(plan, teller)?;
    let config = asked.config.display();
    match &plan.config {
        ConfigStep::Write(text) => teller.tell(State::Would, "config", format!("write {config}:\n{text}"))?,
        ConfigStep::Complete(text) => {
            teller.tell(State::Would, "config", format!("complete {config}:\n{text}"))?;
        }
        ConfigStep::Keep => teller.tell(State::Kept, "config", config.to_string())?,
    }
    match &plan.enrolment {
        EnrolmentStep::Enrol { node } => {
            teller.tell(State::Would, "enrolment", format!("join as {node}, with the token"))?;
        }
        EnrolmentStep::Keep { node } => teller.tell(State::Kept, "enrolment", format!("joined as {node}"))?,
        EnrolmentStep::NeedsToken { .. } => {
            teller.tell(State::Would, "enrolment", "join, with a token that was not given yet")?;
        }
    }
    let drop_in = act::drop_in_path(&asked.root).display().to_string();
    match &plan.drop_in {
        DropInStep::Write(text) => {
            teller.tell(State::Would, "drop-in", format!("write {drop_in}:\n{text}"))?;
        }
        DropInStep::Keep => {}
    }
    match plan.unit {
        UnitStep::Start => {
            teller.tell(State::Would, "unit", format!("enable and start {}", act::UNITS.join(", ")))?;
        }
        UnitStep::Restart => {
            teller.tell(State::Would, "unit", "enable, and restart the agent; its server goes on")?;
        }
        UnitStep::Keep => teller.tell(State::Kept, "unit", "enabled, and the agent runs")?,
        UnitStep::NoSystemd => teller.tell(State::Skipped, "unit", "there is no systemd here")?,
    }
    match obstacle {
        Some(refusal) => teller.tell(State::Note, "", refusal.to_string()),
        None => Ok(()),
    }
}
