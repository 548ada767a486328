//! The operator's command `convoy`. From what is typed ([`args`]) to what is meant ([`request`]), asked of the
//! coordinator ([`client`]), shown for people or programs ([`render`], [`view`]), ended with a code ([`exit`]).

mod accept;
mod admit;
pub mod args;
mod audit;
pub mod client;
mod commands;
pub mod context;
mod contexts;
pub mod directory;
pub mod exit;
mod explain;
mod git;
mod import;
mod join;
mod lint;
mod local;
mod operators;
mod pack;
mod places;
mod reference;
mod render;
mod render_config;
pub mod request;
mod sarif;
mod schema;
pub mod screen;
mod secrets;
mod sign;
mod support;
mod text;
mod tokens;
mod trace;
mod trust;
mod upgrade;
pub mod view;
mod wait;

use std::{ffi::OsString, path::PathBuf};

use clap::{CommandFactory as _, FromArgMatches as _};
use client::Client;
use context::Context;
use contexts::Contexts;
use exit::{Exit, Failure};
use request::{Remote, Request};
use screen::{Format, Screen};
use tokio::sync::watch;
use view::When;

/// A command's connection, screen and clock.
pub struct Session {
    /// To the coordinator.
    pub client: Client,
    /// How far the coordinator's audit record was seen to go before.
    pub seen: Option<fleet::audit::Head>,
    /// Where output goes.
    pub screen: Screen,
    /// Ends what would go on for ever.
    pub interrupt: Interrupt,
    /// Wall clock, for the end of a pause.
    pub now: fn() -> When,
}

/// Ctrl-C, or what stands for it.
pub enum Interrupt {
    /// The terminal's. Until somebody waits for it, Ctrl-C ends the process as usual.
    CtrlC,
    /// Another's: true once it happened.
    Given(watch::Receiver<bool>),
}

impl Interrupt {
    /// Returns once it happened.
    async fn wait(&self) {
        match self {
            Interrupt::CtrlC => {
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            Interrupt::Given(receiver) => {
                let mut receiver = receiver.clone();
                if receiver.wait_for(|happened| *happened).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// Runs the command that `words` (program name first) ask for, on the process's own streams.
pub async fn run(words: impl IntoIterator<Item = OsString>) -> Exit {
    let words: Vec<OsString> = words.into_iter().collect();
    let typed = match parsed(&words) {
        Ok(typed) => typed,
        Err(error) if error.use_stderr() && asks_for_json(&words) => {
            return finish(Err(mistyped(&error)), &mut Screen::standard(Format::Programs));
        }
        Err(error) => {
            // Help and version are answers, not errors. A closed pipe has nobody to tell.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let format = if typed.json { Format::Programs } else { Format::People };
    let mut screen = Screen::standard(format);
    let context = typed.context;
    let outcome = match Request::meant(typed.command) {
        Ok(Request::Local(local)) => local::execute(local, &mut screen),
        Ok(Request::Remote(remote)) => return ask(remote, context, screen).await,
        Ok(Request::Join(request)) => join::run(request, &Contexts::own(), &mut screen).await,
        Err(failure) => Err(failure),
    };
    finish(outcome, &mut screen)
}

fn parsed(words: &[OsString]) -> Result<args::Typed, clap::Error> {
    let matches = args::Typed::command().try_get_matches_from(words)?;
    args::Typed::from_arg_matches(&matches)
}

/// A command line that does not parse still says whether a program reads the answer.
fn asks_for_json(words: &[OsString]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// What is wrong with a command line, as a failure like every other.
fn mistyped(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = paragraphs.next().unwrap_or_default();
    let rest: Vec<String> = paragraphs.filter(|part| !part.is_empty()).collect();
    Failure::usage(what.trim_start_matches("error: "), rest.join("; "))
}

async fn ask(remote: Remote, context: Option<PathBuf>, mut screen: Screen) -> Exit {
    let contexts = Contexts::own();
    let path = contexts.path(context.as_deref());
    if let Some(failure) = Context::exposed(&path) {
        return finish(Err(failure), &mut screen);
    }
    let read = Context::read(&path);
    // What is wrong with a file that cannot be used is said with its refusal.
    if let Some(warning) = read.is_ok().then(|| Context::unknown_keys(&path)).flatten() {
        screen.say(&warning);
    }
    let now = || When(jiff::Timestamp::now().as_millisecond());
    let connected = async {
        let context = read?;
        context.check_key()?;
        context.check_time(now())?;
        let witness = audit::Witness::of(&contexts, &context);
        Ok::<_, Failure>((Client::connect(&context).await?, witness))
    };
    let (client, witness) = match connected.await {
        Ok(connected) => connected,
        Err(failure) => return finish(Err(failure), &mut screen),
    };
    let (seen, heard) = (witness.seen(), client.heard());
    let mut session = Session { client, seen, screen, interrupt: Interrupt::CtrlC, now };
    let exit = execute(remote, &mut session).await;
    audit::witness(&witness, heard.farthest(), &mut session.screen);
    exit
}

/// Runs a command against a connected coordinator.
pub async fn execute(remote: Remote, session: &mut Session) -> Exit {
    let outcome = commands::execute(remote, session).await;
    finish(outcome, &mut session.screen)
}

/// Says what went wrong, if something did.
fn finish(outcome: Result<Exit, Failure>, screen: &mut Screen) -> Exit {
    let failure = match (outcome, screen.take_failure()) {
        (Ok(exit), None) => return exit,
        (Ok(_), Some(error)) => Failure::failed("cannot write the output", "").because(error),
        (Err(failure), _) => failure,
    };
    if screen.format == Format::Programs {
        screen.programs(&view::Problem {
            error: failure.what.clone(),
            causes: failure.causes(),
            remedy: failure.remedy.clone(),
            exit: failure.exit.code(),
        });
    }
    let style = wait::style(screen);
    let mut text = format!("{} {}\n", style.paint(text::Tone::Bad, "error:"), failure.what);
    for cause in failure.causes() {
        text.push_str(&format!("  because: {cause}\n"));
    }
    if !failure.remedy.is_empty() {
        text.push_str(&format!("  next: {}\n", failure.remedy));
    }
    screen.say(&text);
    failure.exit
}

#[cfg(test)]
mod tests;
