//! Reasons that people give, or do not give.

use std::fmt;

/// A reason behind a sentence: `: because`, or nothing if nobody gave one, so that no colon dangles.
#[derive(Debug, Clone, Copy)]
pub struct Reason<'a>(pub &'a str);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trim() {
            "" => Ok(()),
            why => write!(f, ": {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_nobody_gave_leaves_no_colon() {
        assert_eq!(format!("paused{}", Reason("night")), "paused: night");
        assert_eq!(format!("paused{}", Reason("  ")), "paused");
    }
}
