//! What the output of `cargo test` says in sum.

use std::fmt;

/// Counts over all test programs of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Test programs that were started.
    programs: u32,
    /// Those that told their result.
    told: u32,
    passed: u32,
    failed: u32,
}

impl Outcome {
    pub fn of(output: &str) -> Self {
        let mut outcome = Self::default();
        for line in output.lines() {
            let line = line.trim_start();
            if line.starts_with("Running ") || line.starts_with("Doc-tests ") {
                outcome.programs += 1;
            }
            let Some(counts) = line.strip_prefix("test result: ") else { continue };
            outcome.told += 1;
            outcome.passed += count(counts, "passed");
            outcome.failed += count(counts, "failed");
        }
        outcome
    }

    /// A program that was interrupted may end with 0 and tell nothing: that is no pass.
    pub fn is_whole(self) -> bool {
        0 < self.programs && self.programs == self.told && self.failed == 0
    }
}

fn count(text: &str, what: &str) -> u32 {
    let words: Vec<&str> = text.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| *word == what);
    at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.told != self.programs {
            write!(
                f,
                ", and {} of {} test programs told no result",
                self.programs - self.told.min(self.programs),
                self.programs
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "     Running unittests src/lib.rs (a.exe)\n\
        test result: ok. 164 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n\
        \x20    Running unittests src/main.rs (b.exe)\n";

    #[test]
    fn passes_of_all_programs_are_added() {
        let outcome = Outcome::of(&format!("{TWO}test result: ok. 2 passed; 0 failed; 0 ignored\n"));
        assert_eq!(outcome.to_string(), "166 passed, 0 failed");
        assert!(outcome.is_whole());
    }

    #[test]
    fn a_program_that_tells_nothing_has_not_passed() {
        let outcome = Outcome::of(TWO);
        assert!(!outcome.is_whole());
        assert_eq!(outcome.to_string(), "164 passed, 0 failed, and 1 of 2 test programs told no result");
        assert!(!Outcome::of("").is_whole());
    }
}
