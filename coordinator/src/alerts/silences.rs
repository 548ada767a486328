//! Silences: whose alerts are not reported, and until when. They end by themselves; what has ended is dropped with the
//! next change.

use std::time::Duration;

use fleet::{
    access::{Permit, Target, Targets},
    alert::{Reach, Rule, Silence},
    ids::NodeName,
    time::Human,
};

use crate::{
    access::targets_of_node,
    coordinator::Coordinator,
    events::{Draft, Kind},
    store::{
        CommitError, Key, StoreError, Transaction, Version,
        records::{Record as _, SilencesRecord},
    },
    view::Snapshot,
};

/// Silences at one time.
pub(crate) const SILENCES_MAX: usize = 200;
/// A silence that nobody ends lasts at most so long.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// What an operator asks for.
pub(crate) struct Wanted {
    pub(crate) reach: Reach,
    /// `None`: every rule.
    pub(crate) rule: Option<Rule>,
    pub(crate) lasts: Duration,
    pub(crate) reason: String,
}

/// Why there is no new silence, or it goes on.
pub(crate) enum SilenceError {
    Store(StoreError),
    Commit(CommitError),
    /// There are [`SILENCES_MAX`].
    TooMany,
    /// No silence has that number, or it has ended.
    NoSuch,
}

/// What a silence reaches.
pub(crate) fn targets(reach: &Reach, snapshot: &Snapshot) -> Targets {
    match reach {
        Reach::Fleet => [Target::Fleet].into(),
        Reach::Group(group) => [Target::Group(group.clone())].into(),
        Reach::Node(node) => targets_of_node(snapshot, node),
    }
}

fn node_of(reach: &Reach) -> Option<&NodeName> {
    match reach {
        Reach::Node(node) => Some(node),
        Reach::Fleet | Reach::Group(_) => None,
    }
}

impl Coordinator {
    /// Silences that have not ended.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn silences(&self) -> Result<Vec<Silence>, StoreError> {
        Ok(self.stored_silences().await?.0.silences)
    }

    async fn stored_silences(&self) -> Result<(SilencesRecord, Version), StoreError> {
        let entry = self.store.get(&Key::silences()).await?;
        let mut record = entry.as_ref().map(SilencesRecord::read).transpose()?.unwrap_or_default();
        let now = (self.clock)();
        record.silences.retain(|silence| now < silence.until);
        Ok((record, entry.map_or(0, |entry| entry.version)))
    }

    /// Begins a silence.
    ///
    /// # Errors
    /// Nothing was stored.
    pub(crate) async fn add_silence(&self, wanted: Wanted, permit: &Permit) -> Result<Silence, SilenceError> {
        let (mut record, version) = self.stored_silences().await.map_err(SilenceError::Store)?;
        if SILENCES_MAX <= record.silences.len() {
            return Err(SilenceError::TooMany);
        }
        let now = (self.clock)();
        let Wanted { reach, rule, lasts, reason } = wanted;
        let id = record.last.saturating_add(1);
        let (until, by) = (now.after(lasts), permit.operator().to_string());
        let silence = Silence { id, reach, rule, from: now, until, reason, by };
        record.silences.push(silence.clone());
        record.last = id;
        let of_rule = silence.rule.map(|rule| format!(" of {rule}")).unwrap_or_default();
        let text = format!(
            "silence {id} hides alerts{of_rule} of {} for {}: {}",
            silence.reach,
            Human(lasts),
            silence.reason
        );
        self.commit_silences((&record, version), Draft::new(now, Kind::SilenceAdded, text), &silence, permit)
            .await?;
        Ok(silence)
    }

    /// Ends a silence before its time.
    ///
    /// # Errors
    /// It goes on, or had ended.
    pub(crate) async fn remove_silence(&self, id: u64, permit: &Permit) -> Result<(), SilenceError> {
        let (mut record, version) = self.stored_silences().await.map_err(SilenceError::Store)?;
        let place = record.silences.iter().position(|silence| silence.id == id);
        let silence = record.silences.remove(place.ok_or(SilenceError::NoSuch)?);
        let text = format!("silence {id} of {} was ended: {}", silence.reach, silence.reason);
        let event = Draft::new((self.clock)(), Kind::SilenceRemoved, text);
        self.commit_silences((&record, version), event, &silence, permit).await
    }

    async fn commit_silences(
        &self,
        (record, version): (&SilencesRecord, Version),
        event: Draft,
        changed: &Silence,
        permit: &Permit,
    ) -> Result<(), SilenceError> {
        let event = event.with("silence", &changed.id);
        let event = match node_of(&changed.reach) {
            Some(node) => event.of_node(node),
            None => event,
        };
        let commit = Transaction::default().replace(Key::silences(), version, record.encode());
        self.act(permit, event, commit).await.map(drop).map_err(SilenceError::Commit)
    }
}
