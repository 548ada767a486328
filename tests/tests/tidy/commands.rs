//! Every command that a page shows is read by the very definitions that the programs read their arguments with.

use clap::{
    Command, CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{pages, shell, verdict};

/// The programs, by name.
fn programs() -> [(&'static str, Command); 3] {
    [
        ("convoy", cli::args::Typed::command()),
        ("convoy-agent", agent::arguments::Arguments::command()),
        ("convoy-coordinator", coordinator::arguments::Arguments::command()),
    ]
}

#[test]
fn every_command_in_a_code_block_can_be_typed() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for (page, text) in pages() {
        for shown in shell::in_blocks(&text) {
            let Some((program, words)) = ours(&shown.words) else { continue };
            seen += 1;
            if let Some(why) = refused(program, words, Whole::Yes) {
                complaints.push(format!("{page}:{}: `{}`: {why}", shown.line, words.join(" ")));
            }
        }
    }
    assert!(40 < seen, "only {seen} commands: the rule checks nothing");
    verdict("a page shows a command that its program refuses", &complaints);
}

#[test]
fn every_command_in_a_sentence_exists() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for (page, text) in pages() {
        for (line, span) in shell::in_sentences(&text) {
            // Lists such as `rollout list|show` and shortened commands are for people.
            if span.contains("...") || span.contains('…') || span.contains('|') {
                continue;
            }
            for words in shell::of_line(&span) {
                let Some((program, words)) = ours(&words) else { continue };
                seen += 1;
                if let Some(why) = refused(program, words, Whole::No) {
                    complaints.push(format!("{page}:{line}: `{}`: {why}", words.join(" ")));
                }
            }
        }
    }
    assert!(100 < seen, "only {seen} commands: the rule checks nothing");
    verdict("a page names a command or an option that its program does not know", &complaints);
}

/// The part of a command that one of our programs reads, also behind `ssh HOST sudo` and variables.
fn ours(words: &[String]) -> Option<(&'static str, &[String])> {
    let (first, rest) = words.split_first()?;
    let names = ["convoy", "convoy-agent", "convoy-coordinator"];
    let is_program = |name: &&str| first == name || first.ends_with(&format!("bin/{name}"));
    if let Some(program) = names.into_iter().find(is_program) {
        return Some((program, words));
    }
    let is_variable = first.contains('=') && first.starts_with(|c: char| c.is_ascii_uppercase());
    match first.as_str() {
        "sudo" | "nice" => ours(rest),
        "ssh" => ours(rest.get(1..)?),
        _ if is_variable => ours(rest),
        _ => None,
    }
}

/// Whether a command has to be whole, or may leave out what it is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

/// Why the program would not take these words.
fn refused(program: &str, words: &[String], whole: Whole) -> Option<String> {
    let (_, command) = programs().into_iter().find(|(name, _)| *name == program)?;
    let error = command.try_get_matches_from(words).err()?;
    let is_left_out = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::TooFewValues
            | ErrorKind::WrongNumberOfValues
    );
    let is_fine = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            stands_for_something(&error, ContextKind::InvalidValue)
                || (whole == Whole::No && lacks_a_value(&error))
        }
        ErrorKind::InvalidSubcommand => stands_for_something(&error, ContextKind::InvalidSubcommand),
        _ => whole == Whole::No && is_left_out,
    };
    let text = error.to_string();
    (!is_fine).then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// `N`, `WHEN`, `COMMAND`: something to be put in.
fn stands_for_something(error: &clap::Error, what: ContextKind) -> bool {
    match error.get(what) {
        Some(ContextValue::String(value)) => {
            let is_placeholder = |c: char| c.is_ascii_uppercase() || matches!(c, ':' | '-' | '_');
            !value.is_empty() && value.chars().all(is_placeholder)
        }
        _ => false,
    }
}

/// An option is named without its value.
fn lacks_a_value(error: &clap::Error) -> bool {
    matches!(error.get(ContextKind::InvalidValue), Some(ContextValue::String(value)) if value.is_empty())
}

#[test]
fn an_option_that_does_not_exist_is_found() {
    let judged = |text: &str, whole| {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let (program, words) = ours(&words).unwrap();
        refused(program, words, whole)
    };
    assert!(judged("convoy apply acme --wiat", Whole::Yes).is_some());
    assert!(judged("convoy node stat is-1", Whole::No).is_some());
    assert!(judged("ssh is-1 sudo convoy-agent setup --tokenfile -", Whole::Yes).is_some());
    assert!(judged("convoy node show", Whole::Yes).is_some());
    assert_eq!(judged("convoy node show", Whole::No), None);
    assert_eq!(judged("convoy rollout show N", Whole::Yes), None);
    assert!(judged("convoy rollout show seven", Whole::Yes).is_some());
}
