//! Maintenance windows: when a step may begin. A cron expression opens a window, a duration closes it, a time zone
//! says what the clock on the wall reads.

use std::{fmt, time::Duration};

use jiff::{
    civil,
    tz::{TimeZone, TimeZoneDatabase},
};

use crate::time::{Human, Timestamp};

/// A window is open at most this long.
pub const WINDOW_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The next opening is looked for this far ahead, which covers 29 February.
const DAYS_AHEAD_MAX: u32 = 366 * 8;

/// What a window lets begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WindowUse {
    /// Any step: those that restart the server and those that only write files.
    Any,
    /// Steps that restart the server; steps that only write files need no window.
    Restart,
    /// Steps that only write files; steps that restart need a window of their own.
    Write,
}

/// What happens to a step that would still run when its window closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Overrun {
    /// It may begin until the last moment, and what has begun is brought to its end, beyond the window if need be.
    #[default]
    Finish,
    /// It begins only when the node's expected duration fits; what has begun is still brought to its end.
    Fit,
}

/// One recurring window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// What it lets begin.
    pub for_steps: WindowUse,
    /// When it opens.
    pub opens: Cron,
    /// How long it stays open.
    pub duration: Duration,
    /// IANA name of the zone that `opens` is read in.
    pub zone: String,
    /// What happens at its end.
    pub overrun: Overrun,
}

/// Why a window was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Not five fields.
    #[error(
        "{text:?} has {fields} fields; write minute, hour, day of month, month, day of week, as in \"0 2 * * 1-5\""
    )]
    Fields {
        /// The expression.
        text: String,
        /// How many it has.
        fields: usize,
    },
    /// One field does not read.
    #[error("{part:?} is not a {field} from {low} to {high}; write *, 5, 1-5, */15 or a list of these")]
    Part {
        /// What was given.
        part: String,
        /// Which field.
        field: &'static str,
        /// Smallest value.
        low: u8,
        /// Largest value.
        high: u8,
    },
    /// The combination never happens.
    #[error("{text:?} never happens: no such day in any month named")]
    Never {
        /// The expression.
        text: String,
    },
    /// No such zone.
    #[error("{zone:?} is not a time zone; write an IANA name such as \"Europe/Berlin\" or \"UTC\"")]
    Zone {
        /// What was given.
        zone: String,
    },
    /// Too short or too long.
    #[error("a window of {} is not possible; from 1 minute to 7 days", Human(*duration))]
    Duration {
        /// What was given.
        duration: Duration,
    },
}

/// A cron expression of five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday). As in every
/// cron, when both day fields are restricted either one suffices.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    days_restricted: bool,
    weekdays_restricted: bool,
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, words: &[] },
    Field { name: "hour", low: 0, high: 23, words: &[] },
    Field { name: "day of month", low: 1, high: 31, words: &[] },
    Field {
        name: "month",
        low: 1,
        high: 12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { name: "day of week", low: 0, high: 7, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

impl Field {
    fn number(&self, text: &str) -> Option<u8> {
        let lower = text.to_ascii_lowercase();
        if let Some(index) = self.words.iter().position(|word| *word == lower) {
            return u8::try_from(index).ok().map(|index| index + self.low);
        }
        text.parse().ok().filter(|number| (self.low..=self.high).contains(number))
    }

    fn range(&self, text: &str) -> Option<u64> {
        let (range, step) = text.split_once('/').unwrap_or((text, "1"));
        let step: u8 = step.parse().ok().filter(|step| 0 < *step)?;
        let (low, high) = match range.split_once('-') {
            _ if range == "*" => (self.low, self.high),
            Some((low, high)) => (self.number(low)?, self.number(high)?),
            None if text.contains('/') => (self.number(range)?, self.high),
            None => (self.number(range)?, self.number(range)?),
        };
        if high < low {
            return None;
        }
        Some((low..=high).step_by(step as usize).fold(0, |bits, number| bits | 1 << number))
    }

    fn bits(&self, text: &str) -> Result<u64, WindowError> {
        text.split(',').try_fold(0, |bits, part| {
            self.range(part).map(|range| bits | range).ok_or_else(|| WindowError::Part {
                part: part.to_owned(),
                field: self.name,
                low: self.low,
                high: self.high,
            })
        })
    }
}

impl Cron {
    /// Reads an expression of five fields.
    ///
    /// # Errors
    /// Names the field and what it takes.
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let Ok(parts) = <[&str; 5]>::try_from(parts.as_slice()) else {
            return Err(WindowError::Fields { text: text.to_owned(), fields: parts.len() });
        };
        let mut bits = [0; 5];
        for (index, field) in FIELDS.iter().enumerate() {
            bits[index] = field.bits(parts[index])?;
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let cron = Self {
            text: parts.join(" "),
            minutes,
            hours,
            days,
            months,
            // Sunday has two numbers.
            weekdays: if weekdays & (1 << 7) == 0 { weekdays } else { weekdays | 1 },
            days_restricted: !parts[2].starts_with('*'),
            weekdays_restricted: !parts[4].starts_with('*'),
        };
        if cron.happens() { Ok(cron) } else { Err(WindowError::Never { text: cron.text }) }
    }

    fn happens(&self) -> bool {
        let longest = |month: u8| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let by_weekday = self.weekdays_restricted;
        by_weekday
            || (1..=12).any(|month: u8| {
                self.months & (1 << month) != 0 && (1..=longest(month)).any(|day| self.days & (1 << day) != 0)
            })
    }

    fn on_day(&self, date: civil::Date) -> bool {
        let has = |bits: u64, number: i8| bits & (1_u64 << number.unsigned_abs()) != 0;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let day_fits = match (self.days_restricted, self.weekdays_restricted) {
            (true, true) => day || weekday,
            _ => day && weekday,
        };
        has(self.months, date.month()) && day_fits
    }

    /// The times of `date` at which it opens, ascending.
    fn times(&self, date: civil::Date) -> impl DoubleEndedIterator<Item = civil::DateTime> {
        let on_day = self.on_day(date);
        (0..24_i8).flat_map(move |hour| (0..60_i8).map(move |minute| (hour, minute))).filter_map(
            move |(hour, minute)| {
                let has = |bits: u64, number: i8| bits & (1_u64 << number.unsigned_abs()) != 0;
                (on_day && has(self.hours, hour) && has(self.minutes, minute))
                    .then(|| date.at(hour, minute, 0, 0))
            },
        )
    }
}

impl Window {
    /// Checks zone and duration.
    ///
    /// # Errors
    /// Says which of them is not possible.
    pub fn new(
        for_steps: WindowUse,
        opens: Cron,
        duration: Duration,
        zone: &str,
        overrun: Overrun,
    ) -> Result<Self, WindowError> {
        if duration < Duration::from_secs(60) || WINDOW_MAX < duration {
            return Err(WindowError::Duration { duration });
        }
        find_zone(zone).ok_or_else(|| WindowError::Zone { zone: zone.to_owned() })?;
        Ok(Self { for_steps, opens, duration, zone: zone.to_owned(), overrun })
    }

    fn zone(&self) -> TimeZone {
        // The zone was found when the window was made; should a later version have lost it, UTC is at least steady.
        find_zone(&self.zone).unwrap_or(TimeZone::UTC)
    }

    /// When the window that is open at `now` closes; `None` if it is closed.
    ///
    /// A local time that a daylight-saving change skips opens at the first instant after the gap; one that happens
    /// twice opens the first time.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let zone = self.zone();
        let today = civil_date(now, &zone)?;
        let days_back = u32::try_from(self.duration.as_secs().div_ceil(24 * 3600)).unwrap_or(0) + 1;
        let mut date = today;
        for _ in 0..=days_back {
            let latest =
                self.opens.times(date).rev().filter_map(|time| instant(time, &zone)).find(|at| *at <= now);
            if let Some(opened) = latest {
                let closes = opened.after(self.duration);
                return (now < closes).then_some(closes);
            }
            date = date.yesterday().ok()?;
        }
        None
    }

    /// When it opens next after `now`.
    pub fn opens_next(&self, now: Timestamp) -> Option<Timestamp> {
        let zone = self.zone();
        let mut date = civil_date(now, &zone)?;
        for _ in 0..DAYS_AHEAD_MAX {
            let next = self.opens.times(date).filter_map(|time| instant(time, &zone)).find(|at| now < *at);
            if next.is_some() {
                return next;
            }
            date = date.tomorrow().ok()?;
        }
        None
    }
}

/// From the database that is compiled in: the host's own would be a file, and differ between hosts.
fn find_zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

fn civil_date(at: Timestamp, zone: &TimeZone) -> Option<civil::Date> {
    let at = jiff::Timestamp::from_millisecond(at.0).ok()?;
    Some(zone.to_datetime(at).date())
}

fn instant(time: civil::DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let at = zone.to_ambiguous_timestamp(time).compatible().ok()?;
    Some(Timestamp(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn show(at: Option<Timestamp>) -> String {
        at.map_or("-".to_owned(), |at| jiff::Timestamp::from_millisecond(at.0).unwrap().to_string())
    }

    fn window(cron: &str, duration: &str, zone: &str) -> Window {
        let duration = crate::time::parse_duration(duration).unwrap();
        Window::new(WindowUse::Any, Cron::parse(cron).unwrap(), duration, zone, Overrun::Finish).unwrap()
    }

    #[test]
    fn a_window_is_open_from_its_start_to_its_end() {
        let nights = window("0 22 * * mon-fri", "4h", "Europe/Berlin");
        let table = [
            // now, open until, opens next
            ("2026-11-23T20:59:59Z", "-", "2026-11-23T21:00:00Z"),
            ("2026-11-23T21:00:00Z", "2026-11-24T01:00:00Z", "2026-11-24T21:00:00Z"),
            ("2026-11-24T00:59:59Z", "2026-11-24T01:00:00Z", "2026-11-24T21:00:00Z"),
            ("2026-11-24T01:00:00Z", "-", "2026-11-24T21:00:00Z"),
            // Friday's lasts into Saturday; then nothing until Monday.
            ("2026-11-28T00:30:00Z", "2026-11-28T01:00:00Z", "2026-11-30T21:00:00Z"),
        ];
        for (now, open, next) in table {
            assert_eq!(show(nights.open_until(at(now))), open, "{now}");
            assert_eq!(show(nights.opens_next(at(now))), next, "{now}");
        }
    }

    #[test]
    fn a_skipped_local_time_opens_after_the_gap_and_a_doubled_one_once() {
        let window = window("30 2 * * *", "1h", "Europe/Berlin");
        // 29 March 2026: 02:00 becomes 03:00, so 02:30 is read as 03:30 summer time.
        assert_eq!(show(window.opens_next(at("2026-03-28T12:00:00Z"))), "2026-03-29T01:30:00Z");
        // 25 October 2026: 02:30 happens at 00:30Z and 01:30Z.
        assert_eq!(show(window.opens_next(at("2026-10-24T12:00:00Z"))), "2026-10-25T00:30:00Z");
        assert_eq!(show(window.opens_next(at("2026-10-25T00:30:00Z"))), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn either_day_field_suffices_when_both_are_given() {
        let window = window("0 0 13 * fri", "1h", "UTC");
        assert_eq!(show(window.opens_next(at("2026-11-01T00:00:00Z"))), "2026-11-06T00:00:00Z");
        assert_eq!(show(window.opens_next(at("2026-12-11T00:00:00Z"))), "2026-12-13T00:00:00Z");
    }

    #[test]
    fn a_window_longer_than_a_day_reaches_back() {
        let weekend = window("0 20 * * 5", "2d", "UTC");
        assert_eq!(show(weekend.open_until(at("2026-11-29T19:59:00Z"))), "2026-11-29T20:00:00Z");
        assert_eq!(show(weekend.open_until(at("2026-11-29T20:00:00Z"))), "-");
    }

    #[test]
    fn what_cannot_happen_is_refused() {
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 31 2 *",
            "5-1 * * * *",
            "*/0 * * * *",
        ] {
            assert!(Cron::parse(bad).is_err(), "{bad}");
        }
        for good in ["*/15 0-6 * * *", "0 2 29 feb *", "5/10 * * * sun,7", "0,30 1 1 jan-mar *"] {
            assert!(Cron::parse(good).is_ok(), "{good}");
        }
        let cron = Cron::parse("* * * * *").unwrap();
        let hour = Duration::from_secs(3600);
        assert!(Window::new(WindowUse::Any, cron.clone(), hour, "Mars/Olympus", Overrun::Fit).is_err());
        let lasting = |duration| Window::new(WindowUse::Any, cron.clone(), duration, "UTC", Overrun::Fit);
        assert!(lasting(Duration::ZERO).is_err());
        assert_eq!(WINDOW_MAX, Duration::from_secs(7 * 24 * 3600));
        assert!(lasting(WINDOW_MAX).is_ok());
        assert!(lasting(WINDOW_MAX + Duration::from_secs(1)).is_err());
    }
}
