//! What a query of Prometheus answered, held against a bound (ADR 41). Values only: the agent asks and parses.

use std::fmt;

/// The most that a gate may be inconclusive.
pub const INCONCLUSIVE_MAX: u32 = 100;

/// A number that is neither infinite nor none.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Finite(f64);

/// No `Finite` holds a NaN.
impl Eq for Finite {}

impl Finite {
    /// `None`: infinite, or no number.
    pub fn new(number: f64) -> Option<Self> {
        number.is_finite().then_some(Self(number))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Finite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a value may be, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// At least.
    pub min: Option<Finite>,
    /// At most.
    pub max: Option<Finite>,
}

impl Bound {
    /// What makes it impossible to keep or to break.
    pub fn problem(&self) -> Option<&'static str> {
        match (self.min, self.max) {
            (None, None) => Some("is missing, and so is `min`: give at least one"),
            (Some(min), Some(max)) if max < min => Some("is below `min`"),
            (Some(_) | None, Some(_)) | (Some(_), None) => None,
        }
    }

    /// Why a value is outside.
    fn broken_by(&self, value: f64) -> Option<String> {
        match (self.min, self.max) {
            (_, Some(max)) if max.0 < value => Some(format!("{value} is above {max}")),
            (Some(min), _) if value < min.0 => Some(format!("{value} is below {min}")),
            (Some(_) | None, Some(_) | None) => None,
        }
    }
}

/// What one query says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    /// Every value is within the bound; for people.
    Within(String),
    /// A value is outside; which.
    Outside(String),
    /// Nobody can tell; why.
    Inconclusive(String),
}

/// Judges the values of an answer: all have to be within. A value outside is conclusive whatever the others are; one
/// that is no number, or no value at all, is not.
pub fn judge(values: &[f64], bound: &Bound) -> Measured {
    if let Some(why) = values.iter().find_map(|value| bound.broken_by(*value)) {
        return Measured::Outside(match values.len() {
            1 => why,
            count => format!("{why} (one of {count} values)"),
        });
    }
    if values.is_empty() {
        return Measured::Inconclusive("no data".to_owned());
    }
    if values.iter().any(|value| value.is_nan()) {
        return Measured::Inconclusive("NaN, which is no value".to_owned());
    }
    Measured::Within(match values {
        [value] => value.to_string(),
        values => format!("{} values within the bound", values.len()),
    })
}

/// How a series of tries stands. What failed and what was inconclusive have limits of their own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Series {
    failed: u32,
    inconclusive: u32,
}

/// The limits of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesLimits {
    /// So many failures end it.
    pub failed: u32,
    /// So many inconclusive tries end it.
    pub inconclusive: u32,
}

/// How a try ended that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// It failed.
    Failed,
    /// Nobody can tell.
    Inconclusive,
}

impl Series {
    /// Counts a try. Whether the series is over.
    pub fn is_over(&mut self, miss: Miss, limits: SeriesLimits) -> bool {
        let (count, most) = match miss {
            Miss::Failed => (&mut self.failed, limits.failed),
            Miss::Inconclusive => (&mut self.inconclusive, limits.inconclusive),
        };
        *count += 1;
        most.max(1) <= *count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(min: Option<f64>, max: Option<f64>) -> Bound {
        Bound { min: min.and_then(Finite::new), max: max.and_then(Finite::new) }
    }

    #[test]
    fn values_are_held_against_the_bound() {
        let (low, both) = (bound(Some(10.0), None), bound(Some(0.0), Some(0.05)));
        let none: &[f64] = &[];
        for (values, bound, expected) in [
            (&[0.05][..], both, Measured::Within("0.05".into())),
            (&[0.0], both, Measured::Within("0".into())),
            (&[0.051], both, Measured::Outside("0.051 is above 0.05".into())),
            (&[-0.1], both, Measured::Outside("-0.1 is below 0".into())),
            (&[9.0], low, Measured::Outside("9 is below 10".into())),
            (&[f64::INFINITY], low, Measured::Within("inf".into())),
            (&[f64::INFINITY], both, Measured::Outside("inf is above 0.05".into())),
            (&[f64::NEG_INFINITY], both, Measured::Outside("-inf is below 0".into())),
            (&[f64::NAN], both, Measured::Inconclusive("NaN, which is no value".into())),
            (none, both, Measured::Inconclusive("no data".into())),
            (&[0.01, 0.02], both, Measured::Within("2 values within the bound".into())),
            (&[0.01, 0.2], both, Measured::Outside("0.2 is above 0.05 (one of 2 values)".into())),
            (&[f64::NAN, 0.2], both, Measured::Outside("0.2 is above 0.05 (one of 2 values)".into())),
            (&[f64::NAN, 0.01], both, Measured::Inconclusive("NaN, which is no value".into())),
        ] {
            assert_eq!(judge(values, &bound), expected, "{values:?}");
        }
    }

    #[test]
    fn a_bound_that_says_nothing_is_none() {
        assert!(bound(None, None).problem().is_some());
        assert!(bound(Some(2.0), Some(1.0)).problem().is_some());
        assert!(bound(None, Some(f64::NAN)).problem().is_some());
        assert_eq!(bound(Some(1.0), Some(1.0)).problem(), None);
    }

    #[test]
    fn what_failed_and_what_was_inconclusive_have_limits_of_their_own() {
        let limits = SeriesLimits { failed: 2, inconclusive: 3 };
        let run = |misses: &str| {
            let mut series = Series::default();
            let miss = |c| if c == 'f' { Miss::Failed } else { Miss::Inconclusive };
            misses.chars().position(|c| series.is_over(miss(c), limits))
        };
        assert_eq!(run("ff"), Some(1));
        assert_eq!(run("iii"), Some(2));
        assert_eq!(run("ifif"), Some(3));
        assert_eq!(run("iif"), None);
    }
}
