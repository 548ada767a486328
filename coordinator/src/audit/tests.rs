use fleet::{access::Action, audit::Verifier};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    events::Kind,
    store::{Failing, Fault, Memory, Range},
    tasks::Tasks,
};

const EPOCH: FleetEpoch = FleetEpoch([7; 16]);

async fn audit() -> (Arc<Failing<Memory>>, Audit) {
    let store = Arc::new(Failing::new(Memory::new()));
    let tasks = Tasks::new(CancellationToken::new());
    let events = Events::start(store.clone(), 100, &tasks).await.unwrap();
    let audit = Audit::start(store.clone(), EPOCH, events).await.unwrap();
    (store, audit)
}

fn note(text: &str) -> (Note, Draft) {
    let event = Draft::new(Timestamp(5), Kind::NodeRestart, text);
    let note = Note {
        at: Timestamp(5),
        actor: "alice".to_owned(),
        serial: "0a".to_owned(),
        from: None,
        act: Act::Of(Action::Restart),
        node: None,
        text: text.to_owned(),
        outcome: Outcome::Done,
    };
    (note, event)
}

fn effect(value: &str) -> Transaction {
    Transaction::default().put(Key::lease("effect"), value.to_owned())
}

async fn effect_of(store: &dyn Store) -> Option<String> {
    let entry = store.get(&Key::lease("effect")).await.unwrap();
    entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
}

async fn verified(store: &dyn Store) -> Head {
    let mut verifier = Verifier::new(EPOCH, Head::NONE, None);
    for entry in store.range(Range::first(Key::AUDIT, 100)).await.unwrap() {
        let record = AuditRecord::read(&entry).unwrap();
        verifier.take(&record.entry, &record.link).unwrap();
    }
    verifier.last()
}

#[tokio::test]
async fn an_entry_its_event_and_its_effect_are_stored_together_or_not_at_all() {
    let (store, audit) = audit().await;
    let (entry, event) = note("one");
    assert_eq!(audit.record(&entry, vec![event.clone()], effect("one")).await.unwrap(), 1);
    assert_eq!(effect_of(&*store).await.as_deref(), Some("one"));
    // A disk that is full, or a store that is away: nothing is done and nothing is recorded.
    store.script([Fault::Outage]);
    assert!(audit.record(&entry, vec![event.clone()], effect("two")).await.is_err());
    assert_eq!(effect_of(&*store).await.as_deref(), Some("one"));
    assert_eq!((verified(&*store).await, audit.head()), (audit.head(), verified(&*store).await));
    assert_eq!(audit.head().seq, 1);
    // The effect's own conflict is its caller's to deal with.
    let stale = Transaction::default().replace(Key::lease("effect"), 0, "three".to_owned());
    let conflict = audit.record(&entry, vec![event.clone()], stale).await.unwrap_err();
    assert!(matches!(conflict, CommitError::Conflict { key } if key == Key::lease("effect")));
    // A commit whose answer is lost has happened; what follows comes after it.
    store.script([Fault::LostReply]);
    assert!(audit.record(&entry, vec![event.clone()], effect("four")).await.is_err());
    assert_eq!(effect_of(&*store).await.as_deref(), Some("four"));
    assert_eq!(audit.record(&entry, vec![event], effect("five")).await.unwrap(), 3);
    assert_eq!(verified(&*store).await, audit.head());
}

#[tokio::test]
async fn two_coordinators_write_one_chain() {
    let (store, one) = audit().await;
    let tasks = Tasks::new(CancellationToken::new());
    let events = Events::start(store.clone(), 100, &tasks).await.unwrap();
    let other = Audit::start(store.clone(), EPOCH, events).await.unwrap();
    for round in 0..4 {
        let ((entry, event), with) = (note("x"), Transaction::default());
        let (first, second) = tokio::join!(
            one.record(&entry, vec![event.clone()], with.clone()),
            other.record(&entry, vec![event.clone()], with.clone())
        );
        let mut numbers = [first.unwrap(), second.unwrap()];
        numbers.sort_unstable();
        assert_eq!(numbers, [2 * round + 1, 2 * round + 2]);
    }
    assert_eq!(verified(&*store).await.seq, 8);
}
