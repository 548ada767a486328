//! Where output goes and what it may look like. Everything printed passes here, so a closed pipe ends quietly and
//! colour appears on terminals only.

use std::{
    env,
    io::{self, BufRead as _, IsTerminal as _, Write},
};

use fleet::foreign::printable_lines;
use serde::Serialize;

/// What the three standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Somebody can answer a question.
    pub can_ask: bool,
    /// Output is read by a person now: bars and redrawn screens make sense.
    pub is_live: bool,
    /// Colour helps.
    pub colour: bool,
    /// Columns, if known.
    pub width: Option<usize>,
}

impl Terminal {
    /// What the process was started with. `NO_COLOR` and `TERM=dumb` turn colour off.
    pub fn detect() -> Self {
        let out = io::stdout().is_terminal();
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
        Self {
            can_ask: io::stdin().is_terminal() && io::stderr().is_terminal(),
            is_live: out && !dumb,
            colour: out && !dumb && !no_colour,
            width: width.filter(|_| out),
        }
    }
}

/// How output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text.
    People,
    /// JSON.
    Programs,
}

/// Output, diagnostics and questions.
pub struct Screen {
    out: Box<dyn Write + Send>,
    diagnostics: Box<dyn Write + Send>,
    input: Box<dyn io::BufRead + Send>,
    /// What the streams are.
    pub terminal: Terminal,
    /// How output is wanted.
    pub format: Format,
    closed: bool,
    failure: Option<io::Error>,
}

impl Screen {
    /// The process's own streams.
    pub fn standard(format: Format) -> Self {
        let input = Box::new(io::BufReader::new(io::stdin()));
        Self::over(Box::new(io::stdout()), Box::new(io::stderr()), input, Terminal::detect(), format)
    }

    /// Any streams.
    pub fn over(
        out: Box<dyn Write + Send>,
        diagnostics: Box<dyn Write + Send>,
        input: Box<dyn io::BufRead + Send>,
        terminal: Terminal,
        format: Format,
    ) -> Self {
        Self { out, diagnostics, input, terminal, format, closed: false, failure: None }
    }

    /// Prints text for people, or nothing if a program reads.
    pub fn people(&mut self, text: &str) {
        if self.format == Format::People {
            self.print(text);
        }
    }

    /// Prints one JSON document for programs, or nothing if a person reads.
    pub fn programs(&mut self, value: &impl Serialize) {
        if self.format == Format::Programs {
            let mut text =
                serde_json::to_string_pretty(value).expect("views have no map with keys that are not text");
            text.push('\n');
            self.print(&text);
        }
    }

    /// Prints one line of JSON of a stream for programs, or nothing if a person reads.
    pub fn programs_line(&mut self, value: &impl Serialize) {
        if self.format == Format::Programs {
            let mut text =
                serde_json::to_string(value).expect("views have no map with keys that are not text");
            text.push('\n');
            self.print(&text);
        }
    }

    /// Prints to whoever reads. What a terminal would act on is spelled out, except the colours of our own style.
    pub fn print(&mut self, text: &str) {
        self.write(&harmless(text, self.terminal));
    }

    /// Begins a live screen anew for people: what was shown is replaced.
    pub fn redraw(&mut self, text: &str) {
        if self.format == Format::People {
            self.write(&format!("\x1b[H\x1b[J{}", harmless(text, self.terminal)));
        }
    }

    fn write(&mut self, text: &str) {
        if self.closed {
            return;
        }
        if let Err(error) = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            self.closed = true;
            // `convoy events | head` is not a failure; a full disk is.
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.failure = Some(error);
            }
        }
    }

    /// Says something beside the output.
    pub fn say(&mut self, text: &str) {
        // Without a place for diagnostics there is nobody to tell.
        let text = harmless(text, self.terminal);
        drop(self.diagnostics.write_all(text.as_bytes()).and_then(|()| self.diagnostics.flush()));
    }

    /// Nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What went wrong with the output itself, if something did.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// All of the input, up to a number of bytes.
    pub fn input(&mut self, most: usize) -> io::Result<String> {
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(&mut self.input, most as u64), &mut text)?;
        Ok(text)
    }

    /// Asks; only `y` or `yes` is a yes.
    pub fn ask(&mut self, question: &str) -> bool {
        self.say(&format!("{question} [y/N] "));
        let mut line = String::new();
        let read = io::Read::take(&mut self.input, 1000).read_line(&mut line);
        read.is_ok() && matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }
}

/// The text with everything spelled out that a terminal would act on. Of escape sequences only the colours of
/// [`crate::text::Style`] pass, and only where there is colour.
fn harmless(text: &str, terminal: Terminal) -> String {
    if !terminal.colour {
        return printable_lines(text).into_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('\u{1b}');
    out.push_str(&printable_lines(parts.next().unwrap_or_default()));
    for part in parts {
        match COLOURS.iter().find(|colour| part.starts_with(**colour)) {
            Some(_) => out.push('\u{1b}'),
            None => out.push_str("\\u001b"),
        }
        out.push_str(&printable_lines(part));
    }
    out
}

/// What follows the escape character in the sequences of [`crate::text::Tone`], and their end.
const COLOURS: [&str; 6] = ["[0m", "[1m", "[2m", "[31m", "[32m", "[33m"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Style, Tone};

    #[test]
    fn our_colours_pass_and_nothing_else_does() {
        let terminal = Terminal { can_ask: false, is_live: true, colour: true, width: None };
        let style = Style { colour: true, width: None };
        for tone in [Tone::Plain, Tone::Good, Tone::Doubtful, Tone::Bad, Tone::Faint, Tone::Strong] {
            let text = format!("{}\n", style.paint(tone, "word"));
            assert_eq!(harmless(&text, terminal), text);
        }
        assert_eq!(
            harmless("\x1b]0;x\x07\x1b[2J\x1b[5m", terminal),
            "\\u001b]0;x\\u0007\\u001b[2J\\u001b[5m"
        );
        assert_eq!(harmless("\x1b[31m", Terminal { colour: false, ..terminal }), "\\u001b[31m");
    }
}
