//! What the demo says: numbered steps with the time since its start.

use std::{cell::Cell, io::IsTerminal as _, time::Duration};

use tokio::time::Instant;

/// Speaks, and counts the steps.
pub struct Talk {
    started: Instant,
    step: Cell<u32>,
    colour: bool,
}

impl Talk {
    pub fn new() -> Self {
        Self { started: Instant::now(), step: Cell::new(0), colour: std::io::stdout().is_terminal() }
    }

    /// A new step.
    pub fn step(&self, title: &str) {
        self.step.set(self.step.get() + 1);
        let number = self.step.get();
        let time = self.started.elapsed().as_secs_f64();
        let (on, off) = if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!("\n{on}{number}. {title}{off}  [{time:.1} s]");
    }

    /// Something seen.
    pub fn say(&self, text: &str) {
        for line in text.lines() {
            println!("   {line}");
        }
    }
}

/// `1.24 s`, `18.3 ms`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}
