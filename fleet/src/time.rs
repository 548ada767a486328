//! Time as a value. The shells read clocks; decisions are handed the reading.

use std::{fmt, time::Duration};

/// A monotonic reading in milliseconds since an arbitrary start. Never compared across processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This reading plus `duration`, rounded down to milliseconds.
    #[must_use]
    pub fn after(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// A wall-clock reading in milliseconds since 1970-01-01T00:00Z, for records that people read and for things that
/// must keep their meaning across processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// How far the two readings are apart, whichever is earlier.
    pub fn apart(self, other: Timestamp) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }

    /// This reading plus `duration`, rounded down to milliseconds.
    #[must_use]
    pub fn after(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// A duration as people type and read it: `1.5s`, `300ms`, `2m`, `1h30m`.
pub struct Human(pub Duration);

impl Human {
    /// In days where they are whole, as people say long times.
    pub fn in_days(self) -> String {
        const DAY: u64 = 86_400;
        match (self.0.as_secs(), self.0.subsec_nanos()) {
            (DAY, 0) => "1 day".to_owned(),
            (seconds, 0) if 0 < seconds && seconds.is_multiple_of(DAY) => format!("{} days", seconds / DAY),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        match seconds {
            0 => write!(f, "{millis}ms"),
            1..60 if millis != 0 => write!(f, "{:.1}s", self.0.as_secs_f64()),
            1..60 => write!(f, "{seconds}s"),
            60..3600 if seconds % 60 != 0 => write!(f, "{}m{}s", seconds / 60, seconds % 60),
            60..3600 => write!(f, "{}m", seconds / 60),
            _ if seconds % 3600 < 60 => write!(f, "{}h", seconds / 3600),
            _ => write!(f, "{}h{}m", seconds / 3600, seconds % 3600 / 60),
        }
    }
}

/// Reads a duration as people type it: a number and a unit (`ms`, `s`, `m`, `h`, `d`), one or several in a row.
///
/// # Errors
/// Says what was expected, with the text that was given.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError { text: text.to_owned() };
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let number: f64 = rest[..digits].parse().map_err(|_| error())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(error()),
        };
        total += Duration::try_from_secs_f64(number * unit).map_err(|_| error())?;
        rest = &rest[letters..];
    }
    Ok(total)
}

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration; write a number and a unit, as in \"30s\", \"5m\" or \"1h30m\"")]
pub struct DurationError {
    /// What was given.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_what_they_print() {
        for text in ["300ms", "1.5s", "30s", "2m", "5m30s", "1h", "1h30m"] {
            assert_eq!(Human(parse_duration(text).unwrap()).to_string(), text);
        }
        for (typed, days) in [("90d", "90 days"), ("24h", "1 day"), ("36h", "36h"), ("0s", "0ms")] {
            assert_eq!(Human(parse_duration(typed).unwrap()).in_days(), days);
        }
        for bad in ["", "5", "s", "5x", "-5s", "1..5s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
