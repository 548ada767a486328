//! Which events are about which node, so that nobody has to look through the fleet's to find them.
//!
//! It lives in memory, is filled from the store when somebody asks, and forgets what was cut.

use std::collections::{BTreeMap, BTreeSet};

use fleet::ids::NodeName;
use tokio::sync::Mutex;

use crate::store::{
    Key, Range, Store, StoreError,
    records::{EventRecord, Record as _},
};

/// Events read at once.
const BATCH: usize = 256;

/// Numbers of events by node.
#[derive(Default)]
pub struct NodeIndex {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Everything up to here is in it.
    up_to: u64,
    /// The oldest that was kept when it was looked at last.
    oldest: u64,
    by_node: BTreeMap<NodeName, BTreeSet<u64>>,
}

/// The number of the oldest event that is kept; 0: there is none.
///
/// # Errors
/// The store failed.
pub async fn oldest(store: &dyn Store) -> Result<u64, StoreError> {
    let found = store.range(Range::first(Key::EVENTS, 1)).await?;
    Ok(found.first().map(EventRecord::read).transpose()?.map_or(0, |event| event.seq))
}

impl NodeIndex {
    /// The first `most` numbers above `after` of events about one of `nodes`, in order.
    ///
    /// # Errors
    /// The store failed.
    pub async fn after(
        &self,
        store: &dyn Store,
        nodes: &BTreeSet<NodeName>,
        (after, most): (u64, usize),
    ) -> Result<Vec<u64>, StoreError> {
        let known = self.up_to_date(store).await?;
        let own = |node: &NodeName| {
            known.by_node.get(node).into_iter().flat_map(|all| all.range(after.saturating_add(1)..))
        };
        let mut found: Vec<u64> = nodes.iter().flat_map(|node| own(node).take(most)).copied().collect();
        found.sort_unstable();
        found.truncate(most);
        Ok(found)
    }

    /// The last `most` numbers of events about a node, in order.
    ///
    /// # Errors
    /// The store failed.
    pub async fn last(
        &self,
        store: &dyn Store,
        node: &NodeName,
        most: usize,
    ) -> Result<Vec<u64>, StoreError> {
        let known = self.up_to_date(store).await?;
        let own = known.by_node.get(node).into_iter().flat_map(|all| all.iter().rev());
        let mut found: Vec<u64> = own.take(most).copied().collect();
        found.reverse();
        Ok(found)
    }

    async fn up_to_date(&self, store: &dyn Store) -> Result<tokio::sync::MutexGuard<'_, Known>, StoreError> {
        let mut known = self.known.lock().await;
        known.forget_before(oldest(store).await?);
        loop {
            let range = Range { after: Some(Key::event(known.up_to)), ..Range::first(Key::EVENTS, BATCH) };
            let found = store.range(range).await?;
            for entry in &found {
                known.add(EventRecord::read(entry)?);
            }
            if found.len() < BATCH {
                return Ok(known);
            }
        }
    }
}

impl Known {
    fn add(&mut self, event: EventRecord) {
        self.up_to = event.seq;
        if let Some(node) = event.node {
            self.by_node.entry(node).or_default().insert(event.seq);
        }
    }

    fn forget_before(&mut self, oldest: u64) {
        if self.oldest != oldest {
            self.oldest = oldest;
            self.by_node.values_mut().for_each(|all| *all = all.split_off(&oldest));
            self.by_node.retain(|_, all| !all.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet::time::Timestamp;

    use super::*;
    use crate::{
        events::{Draft, Kind},
        store::{Memory, Transaction},
    };

    #[tokio::test]
    async fn events_of_a_node_are_found_by_its_name_and_what_was_cut_is_forgotten() {
        let (store, index) = (Memory::new(), NodeIndex::default());
        let name = |index: u64| NodeName::parse(&format!("is-{index}")).unwrap();
        let put = async |seqs: std::ops::RangeInclusive<u64>| {
            for seq in seqs {
                let event = Draft::new(Timestamp(0), Kind::Step, "x").of_node(&name(seq % 3)).numbered(seq);
                store.commit(Transaction::default().put(Key::event(seq), event.encode())).await.unwrap();
            }
        };
        put(1..=600).await;
        assert_eq!(index.last(&store, &name(1), 2).await.unwrap(), [595, 598]);
        put(601..=604).await;
        let two = BTreeSet::from([name(0), name(1)]);
        assert_eq!(index.after(&store, &two, (598, 3)).await.unwrap(), [600, 601, 603]);
        let cut = (1..=590).fold(Transaction::default(), |all, seq| all.delete(Key::event(seq)));
        for batch in cut.writes.chunks(100) {
            store.commit(Transaction { writes: batch.to_vec(), ..Transaction::default() }).await.unwrap();
        }
        let all = index.after(&store, &BTreeSet::from([name(1)]), (0, 9)).await.unwrap();
        assert_eq!(all, [592, 595, 598, 601, 604]);
        assert_eq!(index.known.lock().await.by_node.len(), 3);
    }
}
