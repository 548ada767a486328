//! How much of one source is kept as events: history is bounded, so whoever can add to it without bound can wipe it.
//!
//! A source may say a lot at once, as an agent does that comes back after a long time, and little for ever. What is
//! beyond that is counted, and the counts of all sources become one event a minute. The counts live in memory only: they
//! survive a session, so that dialling again buys nothing, and not the coordinator.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fleet::{
    ids::{NodeName, OperatorName},
    time::Timestamp,
};
use tokio::time::Instant;

use crate::{
    coordinator::Coordinator,
    events::{Draft, Kind},
};

/// Events of one source at once: twice what an agent keeps while nobody receives it.
const BURST_MAX: u32 = 512;
/// Another event may be kept after this.
const REFILL: Duration = Duration::from_secs(10);
/// Between two events with the counts.
const SUMMARY_EVERY: Duration = Duration::from_secs(60);
/// Sources that one such event names.
const NAMED_MAX: usize = 8;

/// Who causes events without being allowed to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Whoever holds the node's certificate.
    Node(NodeName),
    /// Everybody who tries join tokens.
    Enrolment,
    /// An operator who is refused.
    Refused(OperatorName),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Node(node) => write!(f, "{node}"),
            Source::Enrolment => f.write_str("enrolment"),
            Source::Refused(operator) => write!(f, "refused calls of {operator}"),
        }
    }
}

struct Bucket {
    left: u32,
    filled: Instant,
    withheld: u64,
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let periods = now.duration_since(self.filled).as_secs() / REFILL.as_secs();
        let earned = u32::try_from(periods).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(BURST_MAX);
        // What is left of a period counts for the next.
        self.filled += Duration::from_secs(periods * REFILL.as_secs());
    }
}

/// What every source may still say.
#[derive(Default)]
pub struct Rates {
    sources: Mutex<BTreeMap<Source, Bucket>>,
}

impl Rates {
    /// Whether one more event of this source is kept; if not, it is counted.
    pub fn admit(&self, source: &Source, now: Instant) -> bool {
        let mut sources = self.lock();
        let full = || Bucket { left: BURST_MAX, filled: now, withheld: 0 };
        let bucket = sources.entry(source.clone()).or_insert_with(full);
        bucket.refill(now);
        let kept = bucket.left != 0;
        if kept {
            bucket.left -= 1;
        } else {
            bucket.withheld += 1;
        }
        kept
    }

    /// How many events of each source were not kept since the last call. Sources that have been quiet are forgotten.
    fn take_withheld(&self, now: Instant) -> BTreeMap<Source, u64> {
        let mut sources = self.lock();
        let counts =
            sources.iter_mut().map(|(source, bucket)| (source.clone(), std::mem::take(&mut bucket.withheld)));
        let counts = counts.filter(|(_, count)| *count != 0).collect();
        sources.retain(|_, bucket| {
            bucket.refill(now);
            bucket.left != BURST_MAX
        });
        counts
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Source, Bucket>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn summary(now: Timestamp, withheld: &BTreeMap<Source, u64>) -> Option<Draft> {
    let total: u64 = withheld.values().sum();
    if total == 0 {
        return None;
    }
    let mut greatest: Vec<(&Source, &u64)> = withheld.iter().collect();
    greatest.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let named = greatest.iter().take(NAMED_MAX).map(|(source, count)| format!("{source} {count}"));
    let named = named.collect::<Vec<_>>().join(", ");
    let others = match greatest.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    let text = format!("{total} events were not kept because their sources said too much: {named}{others}");
    let event = Draft::new(now, Kind::EventsWithheld, text).with("count", &total);
    Some(match (greatest.first(), greatest.len()) {
        (Some((Source::Node(node), _)), 1) => event.of_node(node),
        _ => event,
    })
}

/// Tells the counts until the coordinator stops.
pub async fn run(coordinator: Arc<Coordinator>) {
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(SUMMARY_EVERY) => false,
            () = coordinator.stop.cancelled() => true,
        };
        let withheld = coordinator.rates.take_withheld(Instant::now());
        if let Some(event) = summary((coordinator.clock)(), &withheld) {
            coordinator.events.record(event).await;
        }
        if stopping {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_say_much_at_once_and_little_for_ever() {
        let (rates, start) = (Rates::default(), Instant::now());
        let (loud, quiet) = (Source::Node(NodeName::parse("is-1").unwrap()), Source::Enrolment);
        let kept = (0..45_024).filter(|_| rates.admit(&loud, start)).count();
        assert_eq!(kept, 512);
        assert!(rates.admit(&quiet, start), "another source is not concerned");
        // 25 s earn two, and the rest of a period counts for the next.
        let later = start + Duration::from_secs(25);
        assert_eq!((0..10).filter(|_| rates.admit(&loud, later)).count(), 2);
        assert_eq!((0..10).filter(|_| rates.admit(&loud, later + Duration::from_secs(5))).count(), 1);

        let withheld = rates.take_withheld(later);
        let event = summary(Timestamp(7), &withheld).unwrap();
        let text = "44529 events were not kept because their sources said too much: is-1 44529";
        assert_eq!((event.kind.as_str(), event.text.as_str()), ("events-withheld", text));
        assert!(summary(Timestamp(7), &rates.take_withheld(later)).is_none(), "each is counted once");
        rates.take_withheld(start + Duration::from_secs(20_000));
        assert!(rates.lock().is_empty(), "quiet sources take no room");
    }
}
