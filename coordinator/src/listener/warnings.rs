//! One line per source and minute, with a count: whoever can cause a log line for each packet can fill a disk.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::shares::Holder;

/// Between two lines about one source.
const EVERY: Duration = Duration::from_secs(60);
/// Sources that are told apart; more are silent until there is room.
const SOURCES_MAX: usize = 1024;

struct Said {
    at: Instant,
    since: u64,
}

/// Who was warned about, and when.
#[derive(Default)]
pub struct Warnings {
    sources: Mutex<BTreeMap<Holder, Said>>,
}

impl Warnings {
    /// Whether a line about `source` is due; if so, how many of it were kept back since the last.
    pub fn due(&self, source: &Holder, now: Instant) -> Option<u64> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = sources.get_mut(source) {
            if now.duration_since(said.at) < EVERY {
                said.since += 1;
                return None;
            }
            let since = said.since;
            *said = Said { at: now, since: 0 };
            return Some(since);
        }
        if SOURCES_MAX <= sources.len() {
            sources.retain(|_, said| now.duration_since(said.at) < EVERY);
        }
        if SOURCES_MAX <= sources.len() {
            return None;
        }
        sources.insert(source.clone(), Said { at: now, since: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gets_one_line_a_minute_with_its_count() {
        let (warnings, start) = (Warnings::default(), Instant::now());
        let at = |n: u32| Holder::Address(std::net::Ipv4Addr::from_bits(n).into());
        let due: Vec<Option<u64>> =
            (0..4).map(|second| warnings.due(&at(1), start + Duration::from_secs(second))).collect();
        assert_eq!(due, [Some(0), None, None, None]);
        assert_eq!(warnings.due(&at(2), start), Some(0));
        let later = start + EVERY;
        assert_eq!(warnings.due(&at(1), later), Some(3));
        // Sources beyond the bound neither grow the table nor the log.
        let lines = (10..5000).filter(|n| warnings.due(&at(*n), later).is_some()).count();
        assert!(lines < SOURCES_MAX, "{lines}");
    }
}
