use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use fleet::{
    access::Action,
    audit::{Act, Broken, Outcome},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    audit::Note,
    authority::Authority,
    config::Config,
    store::{Memory, Store},
    tasks::Tasks,
    wall_clock,
};

const DAY: i64 = 24 * 3_600_000;

static NOW: AtomicI64 = AtomicI64::new(0);

/// The clock of the test below.
fn clock() -> Timestamp {
    Timestamp(NOW.load(Ordering::Relaxed))
}

fn is_day(day: i64) {
    NOW.store(day * DAY, Ordering::Relaxed);
}

struct Started {
    coordinator: Arc<Coordinator>,
    store: Arc<dyn Store>,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

async fn started() -> Started {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("fleet = \"acme\"\ndata_dir = {:?}\nlisten = \"127.0.0.1:0\"\n", dir.path());
    let config = Config::parse(&text).unwrap();
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let authority = Authority::open(&dir.path().join("ca"), &config.fleet, wall_clock()).unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    let parts = (store.clone(), Arc::new(authority), clock as crate::Clock);
    let bound = "127.0.0.1:9".parse().unwrap();
    let coordinator = crate::start(&config, bound, parts, tasks.clone()).await.unwrap();
    Started { coordinator, store, tasks, _dir: dir }
}

impl Started {
    /// Records so many acts on a day.
    async fn acts(&self, day: i64, count: usize) {
        for number in 0..count {
            let note = Note {
                at: Timestamp(day * DAY),
                actor: "alice".to_owned(),
                serial: "0a".to_owned(),
                from: None,
                act: Act::Of(Action::Restart),
                node: None,
                text: format!("act {number} of day {day}"),
                outcome: Outcome::Done,
            };
            self.coordinator.audit.record(&note, Vec::new(), Transaction::default()).await.unwrap();
        }
    }

    async fn kept(&self) -> Vec<AuditRecord> {
        let entries = self.store.range(Range::first(Key::AUDIT, usize::MAX)).await.unwrap();
        entries.iter().map(|entry| AuditRecord::read(entry).unwrap()).collect()
    }

    /// What is kept, from where the signed word says that it goes on.
    async fn verified(&self) -> Result<Head, Broken> {
        let removed = self.coordinator.removed_entries().await.unwrap();
        let from = removed.map_or(Head::NONE, |removed| removed.0.checkpoint.head);
        let head = self.coordinator.audit.head();
        let mut verifier = Verifier::new(self.coordinator.epoch, from, [head]);
        self.kept().await.iter().try_for_each(|record| verifier.take(&record.entry, &record.link))?;
        verifier.reaches()?;
        Ok(verifier.last())
    }

    async fn removed(&self) -> Option<u64> {
        let signed = self.coordinator.remove_old_entries().await.unwrap();
        signed.map(|signed| signed.checkpoint.head.seq)
    }
}

#[tokio::test]
async fn what_is_older_than_400_days_goes_and_the_rest_is_still_whole() {
    let site = started().await;
    site.acts(0, 450).await;
    site.acts(300, 3).await;
    // By the clock alone the first ones are too old; nothing was recorded by it yet.
    is_day(401);
    assert_eq!((site.removed().await, site.kept().await.len()), (None, 453));
    site.acts(401, 1).await;
    assert_eq!(site.removed().await, Some(450));
    assert_eq!(
        site.kept().await.iter().map(|record| record.entry.seq).collect::<Vec<_>>(),
        [451, 452, 453, 454]
    );
    assert_eq!(site.verified().await.unwrap().seq, 454);
    assert_eq!(site.removed().await, None);
    // The record goes on.
    site.acts(402, 2).await;
    assert_eq!(site.verified().await.unwrap().seq, 456);

    // What was changed is evidence, and is not covered up by a signed word.
    is_day(900);
    site.acts(900, 1).await;
    let mut changed = site.kept().await.remove(0);
    changed.entry.actor = "mallory".to_owned();
    let change = Transaction::default().put(Key::audit(451), changed.encode());
    site.store.commit(change).await.unwrap();
    let refused = site.coordinator.remove_old_entries().await.unwrap_err();
    assert!(matches!(refused, RemoveError::Broken(Broken::Changed { seq: 451 })), "{refused}");
    assert_eq!(site.kept().await.len(), 7);
    assert_eq!(site.verified().await, Err(Broken::Changed { seq: 451 }));
    site.tasks.stop().cancel();
}
